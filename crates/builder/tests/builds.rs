//! Real builds with the tools of this machine.

use std::collections::BTreeMap;
use std::fs;
use std::process::{Command, Stdio};

use builder::{BuildFailure, SourceManifest};
use domain::spec::{RestartPolicy, RunPlan};
use tokio_util::sync::CancellationToken;

mod support;
use support::{Place, exists, is_root, printed, text};

/// What the app's own process would print: started as the driver starts it, without a sandbox.
fn run(place: &Place, plan: &RunPlan) -> String {
    use std::os::unix::process::CommandExt;
    let RunPlan::Command { command, env } = plan else { panic!("{plan:?}") };
    let mut process = Command::new("sh");
    process.args(["-c", command]).current_dir(&place.request.artifact).env_clear().envs(env).stdin(Stdio::null());
    if let Some(user) = place.request.user {
        process.uid(user.uid).gid(user.gid);
    }
    let output = process.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn an_npm_app_is_installed_built_and_starts() {
    let package = r#"{"name":"hello","version":"1.2.3","dependencies":{"is-odd":"3.0.1"},
        "scripts":{"build":"node -e \"require('fs').writeFileSync('built.txt', String(require('is-odd')(3)))\"","start":"node index.js"}}"#;
    let index = "console.log(require('fs').readFileSync('built.txt', 'utf8'), process.env.NODE_ENV, process.env.npm_package_version)";
    let mut place = Place::of(&[("package.json", package), ("index.js", index)]);
    place.request.env.insert("TOKEN".into(), "canary-in-the-build".into());
    let (built, lines) = place.build().await;
    let built = built.unwrap_or_else(|failure| panic!("{failure}\n{}", text(&lines)));
    assert_eq!(run(&place, &built.run), "true production 1.2.3\n");
    let log = text(&lines);
    for expected in ["Using Detected Node\n", "$ npm install --include=dev\n", "$ npm run build\n", "Build time: "] {
        assert!(log.contains(expected), "{log}");
    }
    assert!(!exists(&place.request.scratch) && place.request.cache.join("npm/_cacache").is_dir());
    if let Some(user) = place.request.user {
        use std::os::unix::fs::MetadataExt;
        assert_eq!(fs::metadata(place.request.artifact.join("node_modules/is-odd")).unwrap().uid(), user.uid);
    }
}

#[tokio::test]
async fn a_python_app_gets_its_environment_and_answers() {
    let place = Place::of(&[
        ("requirements.txt", "httpbin==0.10.2\ngunicorn==23.0.0\n"),
        ("Procfile", "web: gunicorn --bind 127.0.0.1:$PORT httpbin:app\n"),
    ]);
    let (built, lines) = place.build().await;
    let built = built.unwrap_or_else(|failure| panic!("{failure}\n{}", text(&lines)));
    let RunPlan::Command { command, env } = built.run else { panic!() };
    assert_eq!(command, "gunicorn --bind 127.0.0.1:$PORT httpbin:app");
    let check = "python -c 'import httpbin, sys; print(httpbin.app.test_client().get(\"/get?a=1\").json[\"args\"], sys.prefix)'; gunicorn --version";
    let said = run(&place, &RunPlan::Command { command: check.into(), env });
    assert!(said.starts_with(&format!("{{'a': '1'}} {}/.venv\ngunicorn", place.request.artifact.display())), "{said}");
}

#[tokio::test]
async fn a_file_in_the_source_sets_how_it_is_built_and_run() {
    let toml = "[build]\nbuildCommand = \"echo building $NAME; echo made > made.txt\"\n[deploy]\nstartCommand = \"cat made.txt\"\n\
                restartPolicyType = \"NEVER\"\nrestartPolicyMaxRetries = \"4\"\n[environments.production.deploy]\npreDeployCommand = \"echo pre\"\n";
    let mut place = Place::of(&[("railway.toml", toml), ("Procfile", "web: false\n")]);
    place.request.spec.deploy.start_command = Some("of the settings".into());
    place.request.env.extend([("NAME".into(), "canary-secret-value".into()), ("RAILWAY_TOKEN".into(), "x".into())]);
    let (built, lines) = place.build().await;
    let built = built.unwrap();
    assert_eq!(run(&place, &built.run), "made\n");
    assert_eq!(built.spec.deploy.pre_deploy_command, ["echo pre"]);
    assert_eq!((built.spec.deploy.restart_policy_type, built.spec.deploy.restart_policy_max_retries), (RestartPolicy::Never, 4));
    let said = built.spec.deploy.in_source.expect("what the file says outlasts this deployment");
    assert_eq!((said.restart_policy_type, said.restart_policy_max_retries), (Some(RestartPolicy::Never), Some(4)));
    assert_eq!((said.start_command.as_deref(), said.draining_seconds), (Some("cat made.txt"), None));
    let log = text(&lines);
    assert!(log.contains("found 'railway.toml' at 'railway.toml'\n") && log.contains("building •••\n") && !log.contains("canary"), "{log}");
    let bad = Place::of(&[("railway.toml", "[build]\n\nbuildCommand = [\n"), ("index.html", "")]);
    let (failed, _) = bad.build().await;
    assert!(failed.unwrap_err().to_string().starts_with("railway.toml cannot be read: line "));
}

#[tokio::test]
async fn watch_patterns_skip_what_did_not_change() {
    let mut place = Place::of(&[("index.html", "new"), ("docs/a.md", "a")]);
    place.request.spec.build.watch_patterns = vec!["/docs/**".into(), "*.css".into()];
    let (first, _) = place.build().await;
    let mut previous: SourceManifest = first.unwrap().manifest;
    previous.files.insert("index.html".into(), "another".into());
    let before = {
        place.request.artifact = place.dir.path().join("artifacts/two");
        place.listing()
    };
    place.request.previous = Some(previous.clone());
    let (skipped, lines) = place.build().await;
    assert_eq!(skipped.unwrap_err(), BuildFailure::Skipped("No changed files matched patterns: /docs/**, *.css".into()));
    assert_eq!(lines.last().unwrap().message, "No changed files matched patterns: /docs/**, *.css");
    assert_eq!(place.listing(), before);
    previous.files.insert("docs/gone.md".into(), "1".into());
    place.request.previous = Some(previous);
    assert!(place.build().await.0.is_ok());
}

#[tokio::test]
async fn a_failing_command_says_so_last_and_leaves_nothing() {
    let mut place = Place::of(&[("index.js", ""), ("package.json", r#"{"scripts":{"build":"echo out; echo err >&2; exit 3"}}"#)]);
    let before = place.listing();
    let (result, lines) = place.build().await;
    let failure = result.unwrap_err();
    assert!(
        matches!(&failure, BuildFailure::Command { command, status } if command == "npm run build" && status == "failed with status 3"),
        "{failure}"
    );
    assert!(lines.iter().any(|line| !line.error && line.message == "out") && lines.iter().any(|line| line.error && line.message == "err"));
    assert_eq!(lines.last().unwrap().message, failure.to_string());
    assert_eq!(place.listing(), before);

    place.request.spec.build.build_command = Some("nosuchprogram".into());
    let (result, _) = place.build().await;
    assert!(result.unwrap_err().to_string().contains("a program in it was not found"));
}

const GO_APP: [(&str, &str); 2] = [("go.mod", "module x\n"), ("main.go", "package main\nfunc main() {}\n")];

#[tokio::test]
async fn a_go_app_becomes_one_program() {
    let (built, lines) = Place::of(&GO_APP).build().await;
    let built = built.unwrap_or_else(|failure| panic!("{failure}\n{}", text(&lines)));
    assert!(matches!(built.run, RunPlan::Command { command, .. } if command == "./.orrery/bin/app"));
}

#[tokio::test]
async fn a_missing_tool_is_named_with_how_to_get_it() {
    if std::env::var_os("TEST_WITHOUT_TOOLS").is_none() {
        let empty = tempfile::tempdir().unwrap();
        // The PATH is that of the process: this test again, in one that finds nothing.
        let mut bare = Command::new(std::env::current_exe().unwrap());
        bare.args(["--exact", "a_missing_tool_is_named_with_how_to_get_it", "--nocapture"]);
        let output = bare.env("TEST_WITHOUT_TOOLS", "1").env("PATH", empty.path()).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let (result, lines) = Place::of(&GO_APP).build().await;
    let failure = result.unwrap_err();
    assert_eq!(failure, BuildFailure::Machine("this project needs `go`, which is not on this machine: apt-get install golang-go".into()));
    assert_eq!(lines.last().unwrap().message, failure.to_string());
}

/// Programs in the background, in a session of their own, with the pipe closed and with it open.
const STUBBORN: &str = "trap '' TERM INT; setsid sleep 987654 & sleep 987653 >/dev/null 2>&1 & echo started; sleep 987652";

#[tokio::test]
async fn a_canceled_build_leaves_no_process_and_no_file() {
    let mut place = Place::of(&[("index.html", "")]);
    place.request.spec.build.build_command = Some(STUBBORN.replace("98765", "18765"));
    let before = place.listing();
    let (result, lines) = place.build_until(CancellationToken::new(), |line| line.message == "started").await;
    assert_eq!(result.unwrap_err(), BuildFailure::Canceled);
    assert_eq!(lines.last().unwrap().message, "the build was canceled");
    assert_eq!(support::processes_with("sleep\x001876"), Vec::<String>::new());
    assert_eq!(place.listing(), before);
}

#[tokio::test]
async fn a_build_that_outruns_its_limit_ends_with_its_processes() {
    let mut place = Place::of(&[("index.html", "")]);
    place.request.spec.build.build_command = Some(STUBBORN.replace("98765", "28765"));
    place.request.limits.seconds = 1;
    let before = place.listing();
    let (result, _) = place.build().await;
    assert_eq!(result.unwrap_err(), BuildFailure::Timeout(1));
    assert_eq!(support::processes_with("sleep\x002876"), Vec::<String>::new());
    assert_eq!(place.listing(), before);
    // What a command leaves in the background ends with it, and does not hold the build.
    place.request.limits.seconds = 60;
    place.request.spec.build.build_command = Some("setsid sleep 387654 & sleep 387653 & echo done".into());
    assert!(place.build().await.0.is_ok());
    assert_eq!(support::processes_with("sleep\x003876"), Vec::<String>::new());
}

#[tokio::test]
async fn commands_see_nothing_of_the_server_and_of_others() {
    let mut place = Place::of(&[("index.html", "")]);
    // Readable for everyone by its mode, so that only the sandbox protects it.
    let secret = place.dir.path().join("orrery.db");
    fs::write(&secret, "canary-in-the-database").unwrap();
    let script = format!(
        "cat {0}; ls {1}; echo over > {0}; cat /proc/{2}/environ | tr '\\0' '\\n' | head -3; touch /etc/canary; grep -E 'CapEff|NoNewPrivs' /proc/self/status; id -u; true",
        secret.display(),
        place.dir.path().display(),
        std::process::id(),
    );
    place.request.spec.build.build_command = Some(script);
    let (result, lines) = place.build().await;
    result.unwrap();
    let log = text(&lines);
    assert!(!log.contains("canary-in") && !log.contains("upload.tgz\n") && !log.contains("HOME="), "{log}");
    assert!(printed(&lines).contains("CapEff:\t0000000000000000\nNoNewPrivs:\t1\n"), "{log}");
    if let Some(user) = place.request.user {
        assert!(log.contains(&format!("\n{}\n", user.uid)), "{log}");
    }
    assert_eq!(fs::read_to_string(&secret).unwrap(), "canary-in-the-database");
    assert!(!exists(std::path::Path::new("/etc/canary")));
}

/// Settings of an operator who signs in everywhere: what is in an address, and what is not.
const OPERATORS_FILES: [(&str, &str); 4] = [
    (".npmrc", "registry=https://user:canary-url-2@mirror.test/npm/\n//mirror.test/npm/:_authToken=canary-token-2\n"),
    (".config/pip/pip.conf", "[global]\nindex-url = https://user:canary-url-3@mirror.test/simple\nclient-cert = /canary-token-3\n"),
    (".cargo/credentials.toml", "[registry]\ntoken = \"canary-token-4\"\n"),
    (
        ".cargo/config.toml",
        "[source.crates-io]\nreplace-with = \"own\"\n[source.own]\nregistry = \"sparse+https://user:canary-url-4@mirror.test/index/\"\n\
         [registries.own]\ntoken = \"canary-token-5\"\n[env]\nSECRET = \"canary-token-6\"\n",
    ),
];
const OPERATORS_VARIABLES: [(&str, &str); 8] = [
    ("HTTPS_PROXY", "http://user:canary-url-1@proxy.test:3128"),
    ("GOPROXY", "https://user:canary-url-5@mirror.test/go,direct"),
    ("CARGO_REGISTRY_TOKEN", "canary-token-7"),
    ("CARGO_REGISTRIES_OWN_TOKEN", "canary-token-8"),
    ("NPM_CONFIG__AUTH", "canary-token-9"),
    ("YARN_NPM_AUTH_TOKEN", "canary-token-10"),
    ("UV_PUBLISH_TOKEN", "canary-token-11"),
    ("POETRY_HTTP_BASIC_OWN_PASSWORD", "canary-token-12"),
];

#[tokio::test]
async fn builds_reach_the_operators_mirrors_without_what_signs_in_there() {
    if std::env::var_os("TEST_AS_OPERATOR").is_none() {
        let home = tempfile::tempdir().unwrap();
        for (file, text) in OPERATORS_FILES {
            let path = home.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        // Settings are those of the process: this test again, in one that has them.
        let mut operator = Command::new(std::env::current_exe().unwrap());
        operator.args(["--exact", "builds_reach_the_operators_mirrors_without_what_signs_in_there", "--nocapture"]);
        for variable in ["NPM_CONFIG_USERCONFIG", "npm_config_userconfig", "PIP_CONFIG_FILE", "UV_CONFIG_FILE"] {
            operator.env_remove(variable);
        }
        operator.env("TEST_AS_OPERATOR", "1").env("HOME", home.path()).env("CARGO_HOME", home.path().join(".cargo"));
        let output = operator.envs(OPERATORS_VARIABLES).output().unwrap();
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
        return;
    }
    let mut place = Place::of(&[("index.html", "")]);
    let script = "(env; find \"$HOME\" \"$CARGO_HOME\" -type f -exec cat {} +) > seen.txt; cat seen.txt";
    place.request.spec.build.build_command = Some(script.into());
    // What an earlier build was given.
    let kept = place.request.cache.join("cargo");
    fs::create_dir_all(&kept).unwrap();
    fs::write(kept.join("credentials.toml"), "token = \"canary-token-1\"").unwrap();
    // A build left a folder where a file is written.
    fs::create_dir_all(kept.join("config/inside")).unwrap();
    for credentials in [false, true] {
        place.request.mirror_credentials = credentials;
        let (result, lines) = place.build().await;
        result.unwrap();
        let (seen, log) = (fs::read_to_string(place.request.artifact.join("seen.txt")).unwrap(), text(&lines));
        let user = |number: u32| if credentials { format!("user:canary-url-{number}@") } else { String::new() };
        for address in [
            format!("HTTPS_PROXY=http://{}proxy.test:3128\n", user(1)),
            format!("registry=https://{}mirror.test/npm/\n", user(2)),
            format!("index-url = https://{}mirror.test/simple\n", user(3)),
            format!("\"sparse+https://{}mirror.test/index/\"\n", user(4)),
            format!("GOPROXY=https://{}mirror.test/go,direct\n", user(5)),
        ] {
            assert!(seen.contains(&address), "{address:?} in {seen}");
        }
        assert_eq!(seen.matches("canary").count(), if credentials { 5 } else { 0 }, "{seen}");
        assert!(log.contains("mirror.test/npm/\n") && !log.contains("canary"), "{log}");
    }
}

#[tokio::test]
async fn memory_is_limited_where_the_machine_can() {
    let mut place = Place::of(&[("index.html", "")]);
    place.request.limits.memory_bytes = Some(64 << 20);
    place.request.spec.build.build_command = Some("python3 -c 'print(len(bytes(b\"1\" * 400_000_000)))'; exit $?".into());
    let (result, _) = place.build().await;
    let limits = runtime::sandbox::Sandbox::capabilities();
    if !limits.root || !limits.cgroup_controllers.iter().any(|name| name == "memory") {
        println!("not tested: this machine does not limit memory");
        return;
    }
    let failure = result.unwrap_err().to_string();
    assert!(failure.contains("perhaps for want of memory: a build may use 67 MB") && failure.contains("build_memory_bytes"), "{failure}");
}

#[tokio::test]
async fn output_is_limited_in_length_and_rate_and_commands_see_only_their_variables() {
    let mut place = Place::of(&[("index.html", "")]);
    place.request.limits.output_lines_per_second = 100;
    place.request.env.insert("GREETING".into(), "hi".into());
    let command = "head -c 200000 /dev/zero | tr '\\0' x; echo; env; i=0; while [ $i -lt 3000 ]; do echo $i; i=$((i+1)); done";
    place.request.spec.build.build_command = Some(command.into());
    let (result, lines) = place.build().await;
    result.unwrap();
    assert!(lines.iter().any(|line| line.message.len() == 64 * 1024 && line.message.starts_with("xxx")));
    let log = text(&lines);
    assert!(log.contains(" lines of output were dropped: the limit is 100 lines per second and build\n"), "{log}");
    assert!(log.contains("\nGREETING=hi\n") && !log.contains("CARGO_MANIFEST_DIR"), "{log}");
}

#[tokio::test]
async fn a_rust_app_becomes_one_program() {
    let main = "fn main() { println!(\"compiled\"); }\n";
    let mut place = Place::of(&[("Cargo.toml", "[package]\nname = \"web\"\nedition = \"2021\"\n"), ("src/main.rs", main)]);
    // The tests are run by cargo, so there is one, be it in a home that only root can enter.
    let (built, lines) = place.build().await;
    let built = built.unwrap_or_else(|failure| panic!("{failure}\n{}", text(&lines)));
    assert_eq!(run(&place, &built.run), "compiled\n");
    assert!(!place.request.artifact.join("target").exists());
    // Of root's home there is the toolchain at most; a build command of one's own finds it too.
    place.request.spec.build.build_command = Some("ls -A /root; cargo --version".into());
    let (built, lines) = place.build().await;
    built.unwrap();
    let log = text(&lines);
    assert!(log.contains("\ncargo 1.") && !log.contains("\n.cargo\n"), "{log}");
}

#[tokio::test]
async fn a_command_runs_in_a_finished_artifact() {
    let place = Place::of(&[("index.html", "")]);
    place.build().await.0.unwrap();
    let (sender, mut receiver) = tokio::sync::mpsc::channel(100);
    let request = |command: &str| builder::CommandRequest {
        root: place.request.artifact.clone(),
        scratch: place.request.scratch.clone(),
        commands: vec![command.into()],
        env: BTreeMap::from([("SECRET".into(), "canary-of-the-command".into()), ("WORD".into(), "sealed".into())]),
        sealed: vec!["sealed".into()],
        user: place.request.user,
        limits: place.request.limits.clone(),
    };
    builder::run_commands(request("ls; echo $SECRET; echo $WORD"), sender.clone(), CancellationToken::new()).await.unwrap();
    let failure = builder::run_commands(request("exit 7"), sender, CancellationToken::new()).await.unwrap_err();
    assert!(matches!(failure, BuildFailure::Command { status, .. } if status == "failed with status 7"));
    let mut lines = vec![];
    while let Some(line) = receiver.recv().await {
        lines.push(line);
    }
    let log = text(&lines);
    assert!(log.contains("index.html\n•••\n•••\n") && !log.contains("canary"), "{log}");
    assert!(!exists(&place.request.scratch));
}

/// Replicas that serve run on the same artifact.
#[tokio::test]
async fn what_commands_write_is_seen_by_those_after_them_and_not_by_the_app() {
    let place = Place::of(&[("index.html", "as built")]);
    place.build().await.0.unwrap();
    let artifact = &place.request.artifact;
    let (sender, mut receiver) = tokio::sync::mpsc::channel(100);
    let request = builder::CommandRequest {
        root: artifact.clone(),
        scratch: place.request.scratch.clone(),
        commands: vec!["echo changed > index.html; echo more > new".into(), "cat index.html new".into()],
        env: BTreeMap::new(),
        sealed: vec![],
        user: place.request.user,
        limits: place.request.limits.clone(),
    };
    builder::run_commands(request, sender, CancellationToken::new()).await.unwrap();
    let mut lines = vec![];
    while let Some(line) = receiver.recv().await {
        lines.push(line);
    }
    assert!(text(&lines).ends_with("$ cat index.html new\nchanged\nmore\n"), "{}", text(&lines));
    assert!(!exists(&place.request.scratch));
    // Without root there are no layers (docs/SECURITY.md, "Known limits").
    if is_root() {
        assert_eq!(std::fs::read_to_string(artifact.join("index.html")).unwrap(), "as built");
        assert!(!exists(&artifact.join("new")));
    }
}

/// Two deployments of one service may share an artifact.
#[tokio::test]
async fn commands_that_end_leave_those_of_another_deployment_alone() {
    let place = Place::of(&[("index.html", "")]);
    place.build().await.0.unwrap();
    let (sender, mut receiver) = tokio::sync::mpsc::channel(100);
    let request = |scratch: &str, command: &str| builder::CommandRequest {
        root: place.request.artifact.clone(),
        scratch: place.request.scratch.with_file_name(scratch),
        commands: vec![command.into()],
        env: BTreeMap::new(),
        sealed: vec![],
        user: place.request.user,
        limits: place.request.limits.clone(),
    };
    let cancel = CancellationToken::new();
    // It lives until this test has seen the other one end.
    let long = tokio::spawn(builder::run_commands(request("one", "echo up; sleep 1000"), sender, cancel.clone()));
    while receiver.recv().await.expect("a line").message != "up" {}
    let (sender, mut short) = tokio::sync::mpsc::channel(100);
    builder::run_commands(request("two", "echo short"), sender, CancellationToken::new()).await.unwrap();
    while short.recv().await.is_some() {}
    cancel.cancel();
    // What was killed would have failed before that.
    assert!(matches!(long.await.unwrap(), Err(BuildFailure::Canceled)));
}

#[test]
fn the_tools_of_this_machine_are_told_with_their_versions() {
    let tools = builder::tools();
    let python = tools.iter().find(|tool| tool.name == "python3").unwrap();
    assert!(python.version.as_deref().is_some_and(|version| version.starts_with("3.")), "{python:?}");
    assert!(tools.iter().all(|tool| !tool.install_hint.is_empty() && !tool.needed_for.is_empty()));
}
