//! The course of a build: unpack, settings, detection, commands, answer.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use domain::redact::Redactor;
use domain::spec::{InstanceSpec, RunPlan};

use crate::config_file::{self, NAMES, Place};
use crate::detect::{self, Ask, PROGRAM, Plan, Start, Step, Tool, Tree};
use crate::environment::Operator;
use crate::exec::{self, Stop, Workplace};
use crate::failure::BuildFailure;
use crate::manifest::{SourceManifest, WatchPatterns};
use crate::output::Output;
use crate::place::{self, Folders};
use crate::unpack::{self, Unpack, Unpacked};
use crate::{BuildRequest, Built, Cancel, CommandRequest, Lines, environment, tools};

/// Makes an artifact out of an upload. Lines are sent in order; the last one is the reason when it fails.
///
/// # Errors
/// See [`BuildFailure`]; nothing is left of the artifact then.
pub async fn build(request: BuildRequest, lines: Lines, cancel: Cancel) -> Result<Built, BuildFailure> {
    let begun = Instant::now();
    let stop = Stop::new(request.limits.seconds, cancel.clone());
    let operator = Operator::read(request.mirror_credentials);
    let hidden = [&request.sealed[..], operator.as_ref().map_or(&[][..], |own| &own.secrets[..])].concat();
    let mut output = Output::new(lines, cancel, Redactor::of_values(&request.env, &hidden), request.limits.output_lines_per_second);
    let mut folders = Folders::new(vec![request.artifact.clone(), request.scratch.clone(), manifest_path(&request.artifact)]);
    let result = match &operator {
        Ok(operator) => build_in(&request, operator, &stop, &mut output).await,
        Err(failure) => Err(failure.clone()),
    };
    if result.is_ok() {
        folders.keep(&request.artifact);
        folders.keep(&manifest_path(&request.artifact));
    }
    // Large folders take a while: not on a thread that serves others.
    off_thread(move || drop(folders)).await?;
    match &result {
        Ok(_) => output.say(format!("Build time: {:.2} seconds", begun.elapsed().as_secs_f64())).await,
        Err(failure) => output.end(!matches!(failure, BuildFailure::Skipped(_)), failure.to_string()).await,
    }
    result
}

/// Runs commands in a finished artifact, one after another until one fails: the pre-deploy commands of a deployment.
///
/// # Errors
/// See [`BuildFailure`].
pub async fn run_commands(request: CommandRequest, lines: Lines, cancel: Cancel) -> Result<(), BuildFailure> {
    let mut output =
        Output::new(lines, cancel.clone(), Redactor::of_values(&request.env, &request.sealed), request.limits.output_lines_per_second);
    let folders = Folders::new(vec![request.scratch.clone()]);
    let result = async {
        let own = request.scratch.clone();
        off_thread(move || exec::end_marked(&own)).await?;
        fresh(&request.scratch).await?;
        place::make_passage(&request.scratch)?;
        let (home, layer) = (request.scratch.join("home"), request.scratch.join("layer"));
        place::make_private(&home, request.user)?;
        let env = environment::for_command(&home, request.user, &request.env);
        // Replicas run on the same artifact, also those that serve now.
        let place = Workplace {
            root: &request.root,
            own: &request.scratch,
            layer: Some(&layer),
            writable: vec![&home],
            user: request.user,
            limits: &request.limits,
        };
        for command in &request.commands {
            let stop = Stop::new(request.limits.seconds, cancel.clone());
            output.say(format!("$ {command}")).await;
            shell(command, &place, &env, &mut output, &stop).await?;
        }
        Ok::<(), BuildFailure>(())
    }
    .await;
    off_thread(move || drop(folders)).await?;
    if let Err(failure) = &result {
        output.end(true, failure.to_string()).await;
    }
    result
}

async fn build_in(request: &BuildRequest, operator: &Operator, stop: &Stop, output: &mut Output) -> Result<Built, BuildFailure> {
    let root = root_directory(&request.spec)?;
    prepare(request).await?;
    output.say("receiving snapshot").await;
    let Unpacked { manifest, paths, kept, digest } = unpacked(request, &root, stop).await?;
    output.say(format!("[snapshot] received sha256:{digest}, {} files", manifest.files.len())).await;
    if !root.is_empty() {
        output.say(format!("root directory set as '{root}'")).await;
    }
    let spec = settings(request, &root, &kept, output).await?;
    watch(&spec, &manifest, request.previous.as_ref())?;
    let artifact = request.artifact.clone();
    let tree = off_thread(move || Tree::read(&artifact, paths)).await?;
    let plan = plan(request, &spec, &tree)?;
    output.say(format!("Using Detected {}", plan.provider)).await;
    for note in &plan.notes {
        output.say(note).await;
    }
    let run = execute(request, &plan, operator, stop, output).await?;
    save(&request.artifact, &manifest)?;
    Ok(Built { run, spec, manifest, provider: plan.provider })
}

/// The root directory of the settings as a path inside the upload.
fn root_directory(spec: &InstanceSpec) -> Result<String, BuildFailure> {
    let text = spec.build.root_directory.as_deref().unwrap_or_default().trim();
    let parsed = unpack::relative(text.trim_start_matches('/'));
    parsed.map_err(|why| BuildFailure::Source(format!("the root directory {text:?} {why}: correct it in the settings")))
}

/// Empty folders; what an earlier server left of this build ends.
async fn prepare(request: &BuildRequest) -> Result<(), BuildFailure> {
    let artifact = request.artifact.clone();
    off_thread(move || exec::end_marked(&artifact)).await?;
    fresh(&request.artifact).await?;
    place::make_private(&request.artifact, request.user)?;
    fresh(&request.scratch).await?;
    place::make_passage(&request.scratch)
}

/// Takes a folder away and makes sure that it can be made anew.
async fn fresh(path: &Path) -> Result<(), BuildFailure> {
    let owned = path.to_owned();
    off_thread(move || {
        place::remove_tree(&owned).map_err(|error| BuildFailure::io("emptying", &owned, &error))?;
        let parent = owned.parent().unwrap_or(Path::new("/"));
        place::make_passage(parent)
    })
    .await?
}

async fn unpacked(request: &BuildRequest, root: &str, stop: &Stop) -> Result<Unpacked, BuildFailure> {
    let mut keep: BTreeSet<String> = NAMES.iter().map(|&name| name.to_owned()).collect();
    keep.extend(NAMES.iter().map(|name| format!("{root}/{name}")));
    keep.extend(config_path(&request.spec)?);
    let order = Unpack {
        archive: request.archive.clone(),
        into: request.artifact.clone(),
        root: root.to_owned(),
        keep,
        user: request.user,
        limits: request.limits.clone(),
    };
    let ended = Arc::new(AtomicBool::new(false));
    let flag = ended.clone();
    let mut work = tokio::task::spawn_blocking(move || unpack::unpack(&order, &flag));
    tokio::select! {
        done = &mut work => done.map_err(|error| BuildFailure::Internal(format!("unpacking: {error}")))?,
        failure = stop.reached() => {
            ended.store(true, Ordering::Relaxed);
            // Only when it has stopped writing can the folder be removed.
            if let Err(error) = work.await {
                tracing::error!(%error, "unpacking ended abnormally");
            }
            Err(failure)
        }
    }
}

fn config_path(spec: &InstanceSpec) -> Result<Option<String>, BuildFailure> {
    let Some(path) = spec.build.config_file.as_deref().map(str::trim).filter(|path| !path.is_empty()) else { return Ok(None) };
    let parsed = unpack::relative(path.trim_start_matches('/'));
    parsed
        .map(Some)
        .map_err(|why| BuildFailure::Source(format!("the path of the configuration file {path:?} {why}: correct it in the settings")))
}

/// The settings for this deployment: those of the instance, the variables that are settings, then the file of the source.
async fn settings(
    request: &BuildRequest,
    root: &str,
    kept: &BTreeMap<String, Vec<u8>>,
    output: &mut Output,
) -> Result<InstanceSpec, BuildFailure> {
    let spec = config_file::from_variables(&request.spec, &request.env);
    let path = match config_path(&request.spec)? {
        Some(path) if kept.contains_key(&path) => Some(path),
        Some(path) => {
            let text = format!("the configuration file {path:?} is not in the upload: correct its path in the settings, or add it");
            return Err(BuildFailure::Source(text));
        }
        None => NAMES
            .iter()
            .map(|&name| name.to_owned())
            .chain(NAMES.iter().map(|name| format!("{root}/{name}")))
            .find(|p| kept.contains_key(p)),
    };
    let Some((path, text)) = path.and_then(|path| kept.get_key_value(&path)) else { return Ok(spec) };
    let name = path.rsplit('/').next().unwrap_or(path);
    output.say(format!("found '{name}' at '{path}'")).await;
    let place = Place { environment: &request.environment_name, ephemeral: request.ephemeral, region: &request.region };
    config_file::merge(&spec, path, text, &place)
}

/// Ends a build for whose patterns nothing has changed (`contracts/railway.md` 3.3).
fn watch(spec: &InstanceSpec, manifest: &SourceManifest, previous: Option<&SourceManifest>) -> Result<(), BuildFailure> {
    let patterns = WatchPatterns::parse(&spec.build.watch_patterns).map_err(|why| BuildFailure::Source(format!("{why}; correct it")))?;
    let Some(previous) = previous.filter(|_| !spec.build.watch_patterns.is_empty()) else { return Ok(()) };
    if manifest.changed_since(previous).any(|path| patterns.matches(path)) {
        return Ok(());
    }
    Err(BuildFailure::Skipped(format!("No changed files matched patterns: {}", spec.build.watch_patterns.join(", "))))
}

fn plan(request: &BuildRequest, spec: &InstanceSpec, tree: &Tree) -> Result<Plan, BuildFailure> {
    let given = |text: &'_ Option<String>| text.clone().filter(|text| !text.trim().is_empty());
    let (build_command, start_command) = (given(&spec.build.build_command), given(&spec.deploy.start_command));
    let ask = Ask {
        build_command: build_command.as_deref(),
        start_command: start_command.as_deref(),
        builder: spec.build.builder.as_deref(),
        dockerfile: spec.build.dockerfile_path.as_deref(),
        env: &request.env,
        tools: &tools::available(request.user),
    };
    detect::detect(tree, &ask)
}

/// Runs the plan's steps and says how the result starts.
async fn execute(
    request: &BuildRequest,
    plan: &Plan,
    operator: &Operator,
    stop: &Stop,
    output: &mut Output,
) -> Result<RunPlan, BuildFailure> {
    let (cache, scratch) = (&*request.cache, &*request.scratch);
    let parts = environment::Parts { cache, scratch, user: request.user, operator, variables: &request.env };
    let mut env = environment::for_build(&parts)?;
    let both = environment::for_both(&request.artifact, &plan.path, plan.venv, request.user);
    env.extend(both.clone());
    if let (Some(path), Some(rust)) = (env.get_mut("PATH"), tools::toolchain(request.user)) {
        *path = tools::join_path(std::env::split_paths(path.as_str()).chain([rust.join("bin")]));
    }
    env.extend(plan.build_env.clone());
    let place = Workplace {
        root: &request.artifact,
        own: &request.artifact,
        layer: None,
        writable: vec![&request.cache, &request.scratch],
        user: request.user,
        limits: &request.limits,
    };
    let mut compiled = exec::Messages::new();
    for step in &plan.steps {
        let collect = matches!((&plan.start, step), (Start::Compiled { .. }, Step::Run { tool: Tool::Cargo, .. })).then_some(&mut compiled);
        run_step(step, &place, &env, request, output, stop, collect).await?;
    }
    let mut run_env = both;
    run_env.extend(plan.env.clone());
    let command = |command: String| RunPlan::Command { command, env: run_env };
    match &plan.start {
        Start::Command(text) => Ok(command(text.clone())),
        Start::Static { root, spa } => Ok(RunPlan::Static { root: root.clone(), spa: *spa }),
        Start::Site { folders } => site(&request.artifact, folders),
        Start::Compiled { name } => {
            let program = program(&compiled.lines, name.as_deref())?;
            copy_program(&program, &place, &env, output, stop).await?;
            Ok(command(format!("./{PROGRAM}")))
        }
    }
}

async fn run_step(
    step: &Step,
    place: &Workplace<'_>,
    env: &BTreeMap<String, String>,
    request: &BuildRequest,
    output: &mut Output,
    stop: &Stop,
    collect: Option<&mut exec::Messages>,
) -> Result<(), BuildFailure> {
    let (program, shown, args) = match step {
        Step::Shell(text) => {
            output.say(format!("$ {text}")).await;
            return shell(text, place, env, output, stop).await;
        }
        Step::Run { tool, args } => {
            let name = tools::name(*tool);
            (program_on_path(name, request, env)?, format!("{name} {}", args.join(" ")), args.clone())
        }
        Step::Local { program, args } => (request.artifact.join(program), format!("{program} {}", args.join(" ")), args.clone()),
        Step::Discard(folder) => {
            (tools::find("rm", request.user)?, format!("rm -rf {folder}"), vec!["-rf".into(), "--".into(), folder.clone()])
        }
    };
    output.say(format!("$ {shown}")).await;
    let mut env = env.clone();
    if matches!(step, Step::Run { tool: Tool::Cargo, .. }) {
        // Compiled dependencies are the most expensive thing to lose, and must not fill the artifact.
        env.insert("CARGO_TARGET_DIR".into(), request.cache.join("cargo/target").to_string_lossy().into_owned());
    }
    let command = exec::user_command(place, &program, &args, &env)?;
    exec::run(command, place, &shown, output, stop, collect).await
}

/// A tool of the machine, or one that an earlier step has put first on the build's PATH.
fn program_on_path(name: &str, request: &BuildRequest, env: &BTreeMap<String, String>) -> Result<PathBuf, BuildFailure> {
    let path = env.get("PATH").map(String::as_str).unwrap_or_default();
    let own = std::env::split_paths(path).filter(|folder| folder.starts_with(&request.artifact)).map(|folder| folder.join(name));
    match own.into_iter().find(|path| path.is_file()) {
        Some(path) if name != "npm" => Ok(path),
        _ => tools::find(name, request.user),
    }
}

async fn shell(
    text: &str,
    place: &Workplace<'_>,
    env: &BTreeMap<String, String>,
    output: &mut Output,
    stop: &Stop,
) -> Result<(), BuildFailure> {
    let command = exec::user_command(place, &tools::find("sh", place.user)?, &["-c".to_owned(), text.to_owned()], env)?;
    exec::run(command, place, text, output, stop, None).await
}

/// The first folder with a page to begin with.
fn site(artifact: &Path, folders: &[String]) -> Result<RunPlan, BuildFailure> {
    match folders.iter().find(|folder| artifact.join(folder).join("index.html").is_file()) {
        // A site with a page for unknown paths has pages of its own; others are one page that routes itself.
        Some(folder) => Ok(RunPlan::Static { root: folder.clone(), spa: !artifact.join(folder).join("404.html").is_file() }),
        None => Err(BuildFailure::Source(format!(
            "the build left no index.html in {}, and nothing says how the app starts: add a `start` script or set a start command",
            folders.iter().filter(|folder| !folder.is_empty()).cloned().collect::<Vec<_>>().join(", ")
        ))),
    }
}

/// The program among the compiler's messages, one JSON object a line.
fn program(messages: &[String], name: Option<&str>) -> Result<PathBuf, BuildFailure> {
    let made: Vec<PathBuf> = messages
        .iter()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|message| message.get("executable")?.as_str().map(PathBuf::from))
        .collect();
    let named = made.iter().find(|path| path.file_name().and_then(|file| file.to_str()) == name);
    match (named, made.as_slice()) {
        (Some(path), _) | (None, [path]) => Ok(path.clone()),
        (None, []) => Err(BuildFailure::Source("the build made no program: add one under src/main.rs, or set a start command".into())),
        (None, several) => {
            let names: Vec<_> = several.iter().filter_map(|path| path.file_name()?.to_str()).collect();
            Err(BuildFailure::Source(format!(
                "the build made several programs ({}): name one with `default-run` in Cargo.toml, or set a start command",
                names.join(", ")
            )))
        }
    }
}

/// By the build's user, because the path is what a program of that user has said.
async fn copy_program(
    program: &Path,
    place: &Workplace<'_>,
    env: &BTreeMap<String, String>,
    output: &mut Output,
    stop: &Stop,
) -> Result<(), BuildFailure> {
    let install = tools::find("install", place.user)?;
    let args = ["-D", "-m", "755", "--"].map(str::to_owned).into_iter().chain([program.to_string_lossy().into_owned(), PROGRAM.to_owned()]);
    let command = exec::user_command(place, &install, &args.collect::<Vec<_>>(), env)?;
    exec::run(command, place, "install", output, stop, None).await
}

fn manifest_path(artifact: &Path) -> PathBuf {
    let mut name = artifact.file_name().unwrap_or_default().to_owned();
    name.push(".manifest.json");
    artifact.with_file_name(name)
}

fn save(artifact: &Path, manifest: &SourceManifest) -> Result<(), BuildFailure> {
    let path = manifest_path(artifact);
    let bytes = serde_json::to_vec(manifest).map_err(|error| BuildFailure::Internal(format!("the manifest: {error}")))?;
    std::fs::write(&path, bytes).map_err(|error| BuildFailure::io("writing", &path, &error))
}

async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, BuildFailure> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| BuildFailure::Internal(format!("a part of the build ended abnormally: {error}")))
}
