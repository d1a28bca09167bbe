//! Every package manager and compiler that detection knows, with real packages from the registries.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use builder::{BuildFailure, Built};
use domain::spec::RunPlan;

mod support;
use support::{Place, exists, text};

const NODE_PACKAGE: &str =
    r#"{"name":"hello","version":"1.0.0","dependencies":{"is-odd":"3.0.1"},"scripts":{"build":"node build.js","start":"node index.js"}}"#;
/// The build tells which package manager runs it.
const NODE_BUILD: &str = "console.log('built by', process.env.npm_config_user_agent.split('/')[0])";
const NODE_INDEX: &str = "console.log(require('is-odd')(3))";

const PNPM_LOCK: &str = "lockfileVersion: '9.0'

settings:
  autoInstallPeers: true
  excludeLinksFromLockfile: false

importers:

  .:
    dependencies:
      is-odd:
        specifier: 3.0.1
        version: 3.0.1

packages:

  is-number@6.0.0:
    resolution: {integrity: sha512-Wu1VHeILBK8KAWJUAiSZQX94GmOE45Rg6/538fKwiloUu21KncEkYGPqob2oSZ5mUT73vLGrHQjKw3KMPwfDzg==}
    engines: {node: '>=0.10.0'}

  is-odd@3.0.1:
    resolution: {integrity: sha512-CQpnWPrDwmP1+SMHXZhtLtJv90yiyVfluGsX5iNCVkrhQtU3TQHsUWPG9wkdk9Lgd5yNpAg9jQEo90CBaXgWMA==}
    engines: {node: '>=4'}

snapshots:

  is-number@6.0.0: {}

  is-odd@3.0.1:
    dependencies:
      is-number: 6.0.0
";

const YARN_LOCK: &str = "# yarn lockfile v1


is-number@^6.0.0:
  version \"6.0.0\"
  integrity sha512-Wu1VHeILBK8KAWJUAiSZQX94GmOE45Rg6/538fKwiloUu21KncEkYGPqob2oSZ5mUT73vLGrHQjKw3KMPwfDzg==

is-odd@3.0.1:
  version \"3.0.1\"
  integrity sha512-CQpnWPrDwmP1+SMHXZhtLtJv90yiyVfluGsX5iNCVkrhQtU3TQHsUWPG9wkdk9Lgd5yNpAg9jQEo90CBaXgWMA==
  dependencies:
    is-number \"^6.0.0\"
";

/// Builds, and runs `command` (or what the plan starts) as the driver would, without its sandbox. Says what it printed and the build's log.
async fn built_and_run(place: &Place, command: Option<&str>) -> (String, String) {
    let (built, lines) = place.build().await;
    let log = text(&lines);
    let built = built.unwrap_or_else(|failure| panic!("{failure}\n{log}"));
    (run(place, &built, command), log)
}

fn run(place: &Place, built: &Built, command: Option<&str>) -> String {
    use std::os::unix::process::CommandExt;
    let RunPlan::Command { command: start, env } = &built.run else { panic!("{:?}", built.run) };
    let mut process = Command::new("sh");
    process.args(["-c", command.unwrap_or(start)]).current_dir(&place.request.artifact).env_clear().envs(env);
    if let Some(user) = place.request.user {
        process.uid(user.uid).gid(user.gid);
    }
    let output = process.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn node(lock: (&str, &str)) -> Place {
    Place::of(&[("package.json", NODE_PACKAGE), ("build.js", NODE_BUILD), ("index.js", NODE_INDEX), lock])
}

#[tokio::test]
async fn pnpm_installs_what_its_lock_file_says() {
    let place = node(("pnpm-lock.yaml", PNPM_LOCK));
    let (printed, log) = built_and_run(&place, None).await;
    assert_eq!(printed, "true\n");
    assert!(log.contains("pnpm install --frozen-lockfile") && log.contains("built by pnpm\n"), "{log}");
}

#[tokio::test]
async fn yarn_installs_what_its_lock_file_says() {
    let place = node(("yarn.lock", YARN_LOCK));
    let (printed, log) = built_and_run(&place, None).await;
    assert_eq!(printed, "true\n");
    assert!(log.contains("yarn install --frozen-lockfile") && log.contains("built by yarn\n"), "{log}");
}

#[tokio::test]
async fn a_lock_file_that_does_not_fit_fails_the_build() {
    let place = node(("pnpm-lock.yaml", &PNPM_LOCK.replace("specifier: 3.0.1", "specifier: 2.0.0")));
    let (built, lines) = place.build().await;
    assert!(matches!(built, Err(BuildFailure::Command { .. })), "{}", text(&lines));
    assert!(text(&lines).contains("frozen-lockfile"), "{}", text(&lines));
    assert!(!exists(&place.request.artifact));
}

const PYTHON_MAIN: &str = "import six, sys\nprint(six.__version__, sys.prefix)\n";

#[tokio::test]
async fn uv_installs_what_its_lock_file_says() {
    let project = "[project]\nname = \"hello\"\nversion = \"1.0.0\"\nrequires-python = \">=3.9\"\ndependencies = [\"six==1.17.0\"]\n";
    let own = tempfile::tempdir().unwrap();
    fs::write(own.path().join("pyproject.toml"), project).unwrap();
    let venv = own.path().join("venv");
    for command in [
        Command::new("python3").arg("-m").arg("venv").arg(&venv),
        Command::new(venv.join("bin/pip")).args(["install", "--quiet", "uv"]),
        Command::new(venv.join("bin/uv")).arg("lock").current_dir(own.path()),
    ] {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    let lock = fs::read_to_string(own.path().join("uv.lock")).unwrap();
    let place = Place::of(&[("pyproject.toml", project), ("uv.lock", &lock), ("main.py", PYTHON_MAIN)]);
    let (printed, log) = built_and_run(&place, None).await;
    assert_eq!(printed, format!("1.17.0 {}/.venv\n", place.request.artifact.display()));
    assert!(log.contains("sync --frozen --no-dev"), "{log}");
}

#[tokio::test]
async fn poetry_installs_what_its_file_says() {
    let project = "[tool.poetry]\nname = \"hello\"\nversion = \"1.0.0\"\ndescription = \"\"\nauthors = []\npackage-mode = false\n\n\
        [tool.poetry.dependencies]\npython = \">=3.9\"\nsix = \"1.17.0\"\n\n\
        [[tool.poetry.source]]\nname = \"simple\"\nurl = \"https://pypi.org/simple/\"\npriority = \"primary\"\n";
    let place = Place::of(&[("pyproject.toml", project), ("main.py", PYTHON_MAIN)]);
    let (printed, log) = built_and_run(&place, None).await;
    assert_eq!(printed, format!("1.17.0 {}/.venv\n", place.request.artifact.display()));
    assert!(log.contains("poetry install --only main") && !exists(&place.request.artifact.join(".orrery/poetry")), "{log}");
}

#[tokio::test]
async fn a_go_app_becomes_one_program() {
    let main = "package main\n\nimport \"example.com/hello/greet\"\n\nfunc main() { greet.Greet() }\n";
    let greet = "package greet\n\nimport \"fmt\"\n\nfunc Greet() { fmt.Println(\"compiled\") }\n";
    let module = "module example.com/hello\n\ngo 1.19\n";
    let place = Place::of(&[("go.mod", module), ("cmd/web/main.go", main), ("greet/greet.go", greet)]);
    let (printed, log) = built_and_run(&place, None).await;
    assert_eq!(printed, "compiled\n", "{log}");

    let mut broken = Place::of(&[("go.mod", module), ("main.go", "package main\n\nfunc main() { nothing() }\n")]);
    broken.request.env = BTreeMap::from([("GOFLAGS".into(), "-mod=mod".into())]);
    let (built, lines) = broken.build().await;
    assert!(matches!(built, Err(BuildFailure::Command { .. })), "{}", text(&lines));
    assert!(text(&lines).contains("undefined: nothing"), "{}", text(&lines));
}
