//! JavaScript and TypeScript: `package.json` and the lock file beside it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::simple::joined;
use super::{Ask, Plan, Start, Step, Tool, Tree, refused};
use crate::failure::BuildFailure;

/// Where a package manager that the machine lacks is installed: inside the artifact, because scripts call it by name also at run time.
const TOOLS: &str = ".orrery/tools";
/// Folders in which builds of web pages leave their output.
const OUTPUT: [&str; 7] = ["dist", "build", "out", "_site", ".output/public", "dist/browser", "www"];

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Package {
    name: Option<String>,
    version: Option<String>,
    main: Option<String>,
    package_manager: Option<String>,
    scripts: BTreeMap<String, serde_json::Value>,
    dependencies: BTreeMap<String, serde_json::Value>,
    dev_dependencies: BTreeMap<String, serde_json::Value>,
    engines: serde_json::Value,
}

impl Package {
    fn script(&self, name: &str) -> Option<&str> {
        self.scripts.get(name)?.as_str().map(str::trim).filter(|text| !text.is_empty())
    }

    fn installs(&self) -> bool {
        !self.dependencies.is_empty() || !self.dev_dependencies.is_empty()
    }
}

struct Manager {
    tool: Tool,
    /// The package of the registry that provides the tool.
    package: String,
    /// What installs exactly what the lock file says.
    install: Vec<&'static str>,
}

pub(super) fn plan(tree: &Tree, ask: &Ask<'_>) -> Result<Option<Plan>, BuildFailure> {
    let Some(text) = tree.text("package.json") else { return Ok(None) };
    let package: Package = serde_json::from_str(text.trim_start_matches('\u{feff}')).map_err(|error| {
        let full = error.to_string();
        refused("package.json", &format!("line {}: {}", error.line(), full.split(" at line ").next().unwrap_or_default()))
    })?;
    let python = ["requirements.txt", "pyproject.toml", "manage.py"].iter().any(|name| tree.has(name));
    if python && package.script("start").is_none() {
        // Tools for the style sheets of a Python app.
        return Ok(None);
    }
    let manager = manager(tree, &package);
    let mut plan = Plan::new("Node", start(tree, ask, &package)?);
    plan.path = vec!["node_modules/.bin".into()];
    if manager.tool != Tool::Npm && !ask.tools.contains(&manager.tool) {
        plan.steps.push(Step::run(Tool::Npm, &["install", "--prefix", TOOLS, "--no-save", "--no-package-lock", &manager.package]));
        plan.path.push(format!("{TOOLS}/node_modules/.bin"));
        plan.notes.push(format!("{} is not on this machine: it is installed into the artifact", manager.package));
    }
    if package.installs() || manager.install.first() != Some(&"install") {
        plan.steps.push(Step::run(manager.tool, &manager.install));
    }
    match ask.build_command {
        Some(command) => plan.steps.push(Step::Shell(command.to_owned())),
        None if package.script("build").is_some() => plan.steps.push(Step::run(manager.tool, &["run", "build"])),
        None => {}
    }
    if let Some(wanted) = package.engines.get("node").and_then(serde_json::Value::as_str) {
        plan.notes.push(format!("package.json asks for Node {wanted}; the Node of this machine is used"));
    }
    plan.build_env = yarn_settings(tree);
    plan.env = variables(&package);
    if !ask.env.contains_key("NODE_ENV") {
        plan.env.insert("NODE_ENV".into(), "production".into());
    }
    Ok(Some(plan))
}

/// The lock file decides, then the field of package.json.
fn manager(tree: &Tree, package: &Package) -> Manager {
    let asked = package.package_manager.as_deref().map(|text| {
        let (name, version) = text.split_once('@').unwrap_or((text, ""));
        let version = version.split('+').next().unwrap_or_default();
        let plain = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'));
        (name.to_owned(), plain.then(|| version.to_owned()))
    });
    let asked_version = |name: &str| asked.as_ref().filter(|(asked, _)| asked == name).and_then(|(_, version)| version.clone());
    let is = |lock: &str, name: &str| {
        tree.has(lock) || (!tree.has("package-lock.json") && asked.as_ref().is_some_and(|(asked, _)| asked == name))
    };
    if is("pnpm-lock.yaml", "pnpm") {
        let version = asked_version("pnpm").unwrap_or_else(|| pnpm_version(tree).to_owned());
        let frozen = if tree.has("pnpm-lock.yaml") { "--frozen-lockfile" } else { "--no-frozen-lockfile" };
        return Manager { tool: Tool::Pnpm, package: format!("pnpm@{version}"), install: vec!["install", frozen, "--prod=false"] };
    }
    if is("yarn.lock", "yarn") {
        return yarn(tree, asked_version("yarn"));
    }
    let locked = tree.has("package-lock.json") || tree.has("npm-shrinkwrap.json");
    // With NODE_ENV=production npm leaves out the tools that the build script needs.
    let install = vec![if locked { "ci" } else { "install" }, "--include=dev"];
    Manager { tool: Tool::Npm, package: "npm".into(), install }
}

/// Lock files name the format, and formats go with versions.
fn pnpm_version(tree: &Tree) -> &'static str {
    let lock = tree.text("pnpm-lock.yaml").unwrap_or_default();
    let format = lock.lines().find_map(|line| line.strip_prefix("lockfileVersion:")).unwrap_or_default();
    match format.trim().trim_matches(['\'', '"']).split('.').next() {
        Some("5") => "7",
        Some("6") => "8",
        _ => "9",
    }
}

fn yarn(tree: &Tree, version: Option<String>) -> Manager {
    let lock = tree.text("yarn.lock").unwrap_or_default();
    let asked_modern = version.as_ref().is_some_and(|version| !version.starts_with("1.") && !version.starts_with("0."));
    let modern = asked_modern || lock.contains("__metadata:") || tree.has(".yarnrc.yml");
    let locked = tree.has("yarn.lock");
    if modern {
        let version = version.filter(|_| asked_modern).unwrap_or_else(|| "4".into());
        let install = if locked { vec!["install", "--immutable"] } else { vec!["install", "--no-immutable"] };
        return Manager { tool: Tool::Yarn, package: format!("@yarnpkg/cli-dist@{version}"), install };
    }
    let mut install = vec!["install", "--production=false", "--non-interactive"];
    if locked {
        install.insert(1, "--frozen-lockfile");
    }
    Manager { tool: Tool::Yarn, package: format!("yarn@{}", version.unwrap_or_else(|| "1".into())), install }
}

fn start(tree: &Tree, ask: &Ask<'_>, package: &Package) -> Result<Start, BuildFailure> {
    if let Some(command) = ask.start(tree) {
        return Ok(Start::Command(command));
    }
    if let Some(script) = package.script("start") {
        if let Some(folders) = development_server(package, script) {
            return Ok(Start::Site { folders });
        }
        // The script itself, not npm around it: no second process, and signals reach the app.
        let wrapped = package.script("prestart").is_some() || package.script("poststart").is_some();
        return Ok(Start::Command(if wrapped { "npm run start".into() } else { script.to_owned() }));
    }
    let builds = ask.build_command.is_some() || package.script("build").is_some();
    let main = package.main.as_deref().and_then(|main| crate::unpack::relative(main).ok()).filter(|main| !main.is_empty());
    let mains = main.iter().flat_map(|main| [main.clone(), format!("{main}.js"), joined(main, "index.js")]);
    let candidates = mains.chain(["server.js", "index.js", "app.js", "server.mjs", "index.mjs"].map(str::to_owned));
    let runnable = |path: &String| tree.has(path) && !path.contains('\'') && [".js", ".mjs", ".cjs"].iter().any(|end| path.ends_with(end));
    match candidates.into_iter().find(runnable) {
        Some(path) => Ok(Start::Command(format!("node '{path}'"))),
        None if builds || tree.has("index.html") || tree.has("public/index.html") => Ok(Start::Site { folders: output(builds) }),
        None => Err(BuildFailure::Source(
            "package.json does not say how the app starts: looked for a `start` script, `main`, server.js, index.js and app.js; add a `start` \
             script or set a start command"
                .into(),
        )),
    }
}

/// The templates of these tools start their development server; in production the built files are served.
fn development_server(package: &Package, script: &str) -> Option<Vec<String>> {
    let builds = package.script("build").is_some();
    let serves = script == "react-scripts start" || script == "vite" || script == "vite --host" || script == "ng serve";
    (builds && serves).then(|| output(true))
}

fn output(builds: bool) -> Vec<String> {
    let built = OUTPUT.iter().filter(|_| builds).map(|&folder| folder.to_owned());
    built.chain(["public".to_owned(), String::new()]).collect()
}

/// Modern Yarn leaves packages in its cache, which an app cannot see when it runs: they go into `node_modules`, or stay in the source
/// that already carries them.
fn yarn_settings(tree: &Tree) -> BTreeMap<String, String> {
    let pair = if tree.has(".pnp.cjs") { ("YARN_ENABLE_GLOBAL_CACHE", "false") } else { ("YARN_NODE_LINKER", "node-modules") };
    BTreeMap::from([(pair.0.to_owned(), pair.1.to_owned())])
}

/// What `npm run start` would tell the script and some apps read.
fn variables(package: &Package) -> BTreeMap<String, String> {
    let pairs = [("npm_package_name", &package.name), ("npm_package_version", &package.version)];
    pairs.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect()
}
