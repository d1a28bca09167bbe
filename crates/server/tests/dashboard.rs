//! The dashboard in a real browser: the scripts in `web/tests` click, this starts what they click on.

mod harness;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::{Server, finish_within, write};

/// A script visits every page in four sizes and colours when it has done what it is about.
const PATIENCE: Duration = Duration::from_secs(600);

/// Runs a script of `web/tests` in a browser on a server of its own, with an app to deploy and a second account.
fn browse(script: &str, settings: &[(&str, &str)]) {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
    assert!(web.join("dist/index.html.gz").exists(), "the dashboard is not built: run `make web`");
    let server = Server::start_with(settings);
    let [app, broken] = apps(&server);
    let second = server.orrery(&["user", "create", "second@example.test"]).stdout;
    let second = second.split_whitespace().find(|word| word.contains("/login/link?token=")).expect("a new user gets a login link");
    let shots = std::env::var_os("ORRERY_TEST_SHOTS").map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages"), PathBuf::from);

    let mut journey = Command::new("node");
    journey
        .arg(web.join("tests").join(script))
        .env("ORRERY_TEST_API", format!("http://localhost:{}", server.api))
        .env("ORRERY_TEST_LOGIN", &server.login)
        .env("ORRERY_TEST_LOGIN_SECOND", second)
        .env("ORRERY_TEST_APP", &app)
        .env("ORRERY_TEST_APP_BROKEN", &broken)
        .env("ORRERY_TEST_SHOTS", shots.join(script.trim_end_matches(".mjs")))
        .stdin(Stdio::null());
    let run = finish_within(journey, script, PATIENCE);
    assert_eq!(run.status, 0, "{}\n{}", run.stdout, run.stderr);
}

fn apps(server: &Server) -> [PathBuf; 2] {
    let [app, broken] = ["hello-shop", "broken"].map(|name| server.dir.path().join("apps").join(name));
    write(&app, &[("package.json", r#"{"scripts":{"start":"node server.js"}}"#), ("server.js", APP)]);
    write(
        &broken,
        &[("package.json", r#"{"scripts":{"build":"echo this build is broken && exit 3","start":"node server.js"}}"#), ("server.js", APP)],
    );
    [app, broken]
}

#[test]
fn people_get_everything_done_in_a_browser() {
    browse("journey.mjs", &[]);
}

#[test]
fn databases_containers_and_triggers_are_looked_after_in_a_browser() {
    browse("services.mjs", &[("ORRERY_TRIGGER_SECONDS", "1")]);
}

#[test]
fn people_share_a_workspace_as_far_as_their_roles_go() {
    browse("people.mjs", &[("ORRERY_REGIONS", "paris=https://paris.example.com")]);
}

#[test]
fn a_workflow_is_drawn_and_run_in_a_browser() {
    browse("flow.mjs", &[]);
}

const APP: &str = r#"
const http = require("http");
if (process.env.JOB) {
  console.log("counted");
  process.exit(0);
}
let many = 0;
const count = () => {
  for (let n = 0; n < 20 && many > 0; n++) console.log(`${many--} to go`);
  if (many > 0) setTimeout(count, 50);
};
const page = () => `<!doctype html><title>hello</title><h1>Hello ${process.env.GREETING || "world"}</h1>`;
http.createServer((request, response) => {
  console.log(`${request.method} ${request.url}`);
  if (request.url === "/many") { many = 1500; count(); }
  response.end(request.url === "/cache" ? `cache ${process.env.CACHE_URL}` : page());
}).listen(process.env.PORT, () => console.log("listening"));
"#;
