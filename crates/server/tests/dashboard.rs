//! The dashboard in a real browser: `web/tests/journey.mjs` clicks, this starts what it clicks on.

mod harness;

use std::path::Path;
use std::process::{Command, Stdio};

use harness::{Server, finish, write};

#[test]
fn people_get_everything_done_in_a_browser() {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
    assert!(web.join("dist/index.html.gz").exists(), "the dashboard is not built: run `make web`");
    let server = Server::start();
    let apps = server.dir.path().join("apps");
    let (app, broken) = (apps.join("hello-shop"), apps.join("broken"));
    write(&app, &[("package.json", r#"{"scripts":{"start":"node server.js"}}"#), ("server.js", APP)]);
    write(
        &broken,
        &[("package.json", r#"{"scripts":{"build":"echo this build is broken && exit 3","start":"node server.js"}}"#), ("server.js", APP)],
    );
    let second = server.orrery(&["user", "create", "second@example.test"]).stdout;
    let second = second.split_whitespace().find(|word| word.contains("/login/link?token=")).expect("a new user gets a login link");

    let mut journey = Command::new("node");
    journey
        .arg(web.join("tests/journey.mjs"))
        .env("ORRERY_TEST_API", format!("http://localhost:{}", server.api))
        .env("ORRERY_TEST_LOGIN", &server.login)
        .env("ORRERY_TEST_LOGIN_SECOND", second)
        .env("ORRERY_TEST_APP", &app)
        .env("ORRERY_TEST_APP_BROKEN", &broken)
        .stdin(Stdio::null());
    let run = finish(journey, "the journey through the dashboard");
    assert_eq!(run.status, 0, "{}\n{}", run.stdout, run.stderr);
}

const APP: &str = r#"
const http = require("http");
const page = () => `<!doctype html><title>hello</title><h1>Hello ${process.env.GREETING || "world"}</h1>`;
http.createServer((request, response) => {
  console.log(`${request.method} ${request.url}`);
  response.end(page());
}).listen(process.env.PORT, () => console.log("listening"));
"#;
