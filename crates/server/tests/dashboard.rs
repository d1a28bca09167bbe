//! The dashboard in a real browser: the scripts in `web/tests` click, this starts what they click on.

mod harness;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::names::{A, Names, TXT};
use harness::pebble::Pebble;
use harness::{Live, Server, finish_within, write};
use rcgen::{CertificateParams, KeyPair};

/// A script visits every page in four sizes and colours when it has done what it is about: minutes, and more beside other tests on a slow
/// machine. Shorter than what the runner of the tests gives each, so that what it has said until then is told.
const PATIENCE: Duration = Duration::from_secs(1080);

/// A script of `web/tests` for a server, with an app to deploy and a second account.
fn script(server: &Server, name: &str) -> Command {
    let web = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../web");
    assert!(web.join("dist/index.html.gz").exists(), "the dashboard is not built: run `make web`");
    let [app, broken, real] = apps(server);
    let second = server.orrery(&["user", "create", "second@example.test"]).stdout;
    let second = second.split_whitespace().find(|word| word.contains("/login/link?token=")).expect("a new user gets a login link");
    let shots = std::env::var_os("ORRERY_TEST_SHOTS").map_or_else(|| Path::new(env!("CARGO_TARGET_TMPDIR")).join("pages"), PathBuf::from);

    let mut command = Command::new("node");
    command
        .arg(web.join("tests").join(name))
        .env("ORRERY_TEST_API", format!("http://localhost:{}", server.api))
        .env("ORRERY_TEST_LOGIN", &server.login)
        .env("ORRERY_TEST_LOGIN_SECOND", second)
        .env("ORRERY_TEST_APP", &app)
        .env("ORRERY_TEST_APP_BROKEN", &broken)
        .env("ORRERY_TEST_APP_REAL", &real)
        .env("ORRERY_TEST_SHOTS", shots.join(name.trim_end_matches(".mjs")))
        .stdin(Stdio::null());
    command
}

/// Runs a script in a browser on a server of its own.
fn browse(name: &str, settings: &[(&str, &str)]) {
    let server = Server::start_with(settings);
    let run = finish_within(script(&server, name), name, PATIENCE);
    assert_eq!(run.status, 0, "{}\n{}", run.stdout, run.stderr);
}

fn apps(server: &Server) -> [PathBuf; 3] {
    let [app, broken, real] = ["hello-shop", "broken", "library"].map(|name| server.dir.path().join("apps").join(name));
    write(&app, &[("package.json", r#"{"scripts":{"start":"node server.js"}}"#), ("server.js", APP)]);
    write(
        &broken,
        &[("package.json", r#"{"scripts":{"build":"echo this build is broken && exit 3","start":"node server.js"}}"#), ("server.js", APP)],
    );
    let start =
        r#"{"private":true,"dependencies":{"json-server":"0.17.4"},"scripts":{"start":"json-server --host 0.0.0.0 --port $PORT db.json"}}"#;
    write(&real, &[("package.json", start), ("db.json", r#"{"books":[{"id":1,"title":"Orbits"},{"id":2,"title":"Gears"}]}"#)]);
    [app, broken, real]
}

#[test]
fn people_get_everything_done_in_a_browser() {
    browse("journey.mjs", &[]);
}

#[test]
fn an_app_from_a_public_registry_is_looked_after_in_a_browser() {
    browse("real.mjs", &[]);
}

#[test]
fn no_mouse_is_needed_for_the_life_of_an_app_in_a_browser() {
    browse("keyboard.mjs", &[]);
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
fn projects_have_environments_and_tokens_and_end_by_their_names_in_a_browser() {
    browse("projects.mjs", &[]);
}

#[test]
fn a_workflow_is_drawn_and_run_in_a_browser() {
    browse("flow.mjs", &[]);
}

#[test]
fn a_domain_says_in_a_browser_where_its_certificate_stands() {
    let (names, dir) = (Names::start(), tempfile::tempdir().unwrap());
    let (tls, port, host) = (harness::free_port(), harness::free_port(), "www.example.test");
    let trust = Pebble::prepare(dir.path());
    let server = Server::start_with(&[
        ("ORRERY_BASE_DOMAIN", "apps.test"),
        ("ORRERY_DNS_RESOLVER", &names.address.to_string()),
        ("ORRERY_EDGE_TLS_LISTEN", &format!("127.0.0.1:{tls}")),
        ("ORRERY_ACME_DIRECTORY", &format!("https://localhost:{port}/dir")),
        ("ORRERY_ACME_EMAIL", "operator@apps.test"),
        ("ORRERY_ACME_CA", Pebble::certificate(dir.path()).0.to_str().unwrap()),
    ]);
    let _pebble = Pebble::start(dir.path(), trust, port, server.edge, &names, 86_400);
    let key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec![host.to_owned()]).unwrap().self_signed(&key).unwrap().pem();
    let mut command = script(&server, "certificates.mjs");
    command.env("ORRERY_TEST_DOMAIN", host).env("ORRERY_TEST_CERTIFICATE", own).env("ORRERY_TEST_CERTIFICATE_KEY", key.serialize_pem());
    command.stdin(Stdio::piped());

    let mut run = Live::start(command);
    run.wait_for("ok    an app runs");
    let seen = run.wait_for(" is wanted");
    let proof = seen.split_once("proof ").and_then(|(_, rest)| rest.split_once(" is wanted")).expect("a proof").0;
    names.set(&format!("_orrery-verify.{host}"), TXT, [&[proof.len() as u8], proof.as_bytes()].concat());
    run.types("set\n");
    run.wait_for("an address is wanted");
    names.set(host, A, vec![127, 0, 0, 1]);
    run.types("set\n");
    run.wait_for("ok    ordered again");
    run.wait_for("ok    an owner's certificate");
    let (status, text) = run.end();
    assert_eq!(status, 0, "{text}");
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
  if (request.url === "/levels") for (const level of ["info", "warn", "error"]) console.log(JSON.stringify({ level, msg: `told as ${level}` }));
  if (request.url === "/folds") {
    for (let n = 0; n < 12; n++) console.log("waiting for the moon");
    console.log(["Error: out of orbit", ...[1, 2, 3, 4, 5, 6].map((n) => `    at turn (orbit.js:${n}:1)`)].join("\n"));
    const moons = Array.from({ length: 12 }, (_, n) => [`moon ${n}`, n]);
    console.log(JSON.stringify(Object.fromEntries(moons), null, 2));
  }
  response.end(request.url === "/cache" ? `cache ${process.env.CACHE_URL}` : page());
}).listen(process.env.PORT, () => console.log("listening"));
"#;
