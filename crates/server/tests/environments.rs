//! Environments, variables and scaling through the unchanged Railway CLI (`contracts/railway-cli.md` 8).

mod harness;

use std::path::{Path, PathBuf};

use harness::{Run, Server, write};
use serde_json::{Value, json};

/// A service `web` that answers with its environment variables' say, running in production, linked.
fn site(server: &Server) -> PathBuf {
    let site = server.dir.path().join("shop");
    let app = "from http.server import *\nimport os\nclass App(BaseHTTPRequestHandler):\n    def do_GET(self):\n        self.send_response(200)\n        \
               self.end_headers()\n        say = [os.environ.get(n, '') for n in ('SAY', 'RAILWAY_ENVIRONMENT_NAME', 'RAILWAY_REPLICA_ID')]\n        \
               self.wfile.write('|'.join(say).encode())\nThreadingHTTPServer(('', int(os.environ['PORT'])), App).serve_forever()\n";
    write(&site, &[("main.py", app), ("requirements.txt", ""), ("Procfile", "web: python3 main.py\n")]);
    server.json(&site, &["init", "--name", "shop", "--json"]);
    server.json(&site, &["add", "--service", "web", "--json"]);
    server.ok(&site, &["service", "link", "web"]);
    server.ok(&site, &["up", "--ci"]);
    site
}

fn newest(server: &Server, site: &Path) -> Value {
    server.json(site, &["deployment", "list", "--json"])[0].clone()
}

fn settled(server: &Server, site: &Path) {
    harness::until("the newest deployment's success", || {
        let newest = newest(server, site);
        if newest["status"] == "SUCCESS" { Ok(()) } else { Err(newest.to_string()) }
    });
}

/// A command with something on its standard input.
fn piped(server: &Server, site: &Path, args: &[&str], input: &str) -> Run {
    let file = server.dir.path().join("input");
    std::fs::write(&file, input).unwrap();
    let mut command = server.railway_command(site, args);
    command.stdin(std::fs::File::open(&file).unwrap());
    harness::finish(command, &format!("railway {args:?}"))
}

fn say(server: &Server, host: &str) -> String {
    server.visit(host, "/").body
}

#[test]
fn variables_refer_to_each_other_and_one_change_is_one_deployment() {
    let server = Server::start();
    let site = site(&server);
    let shared = json!({"sharedVariables": {"NAME": {"value": "orbit"}}}).to_string();
    let run = piped(&server, &site, &["environment", "edit", "-m", "shared", "--json"], &shared);
    assert_eq!(run.status, 0, "{run:?}");
    server.json(&site, &["add", "--service", "api", "--variables", "HOST=api-host", "--json"]);
    server.ok(&site, &["service", "link", "web"]);
    let before = server.json(&site, &["deployment", "list", "--json"]).as_array().unwrap().len();
    let set = server.json(&site, &["variable", "set", "SAY=${{api.HOST}}/${{shared.NAME}}/${{OWN}}", "OWN=own", "--json"]);
    assert_eq!(set["set"], true, "{set}");
    server.visit_until("web-production.localhost", "/", |answer| answer.body.starts_with("api-host/orbit/own|production|"));
    settled(&server, &site);
    assert_eq!(server.json(&site, &["deployment", "list", "--json"]).as_array().unwrap().len(), before + 1);

    let listed = server.json(&site, &["variable", "list", "--json"]);
    assert_eq!((&listed["SAY"], &listed["NAME"]), (&json!("api-host/orbit/own"), &json!("orbit")));
    assert_eq!(server.ok(&site, &["run", "--", "printenv", "SAY"]).trim(), "api-host/orbit/own");
    let circle = server.railway(&site, &["variable", "set", "OWN=${{SAY}}", "--json"]);
    assert_eq!(circle.status, 1, "{circle:?}");
    assert!(format!("{circle:?}").contains("web.OWN -> web.SAY -> web.OWN"), "{circle:?}");
    server.json(&site, &["variable", "set", "LATER=1", "--skip-deploys", "--json"]);
    assert_eq!(server.json(&site, &["deployment", "list", "--json"]).as_array().unwrap().len(), before + 1);

    // The service that is referred to changes: who refers to it follows.
    server.ok(&site, &["variable", "set", "HOST=moved", "--service", "api"]);
    server.visit_until("web-production.localhost", "/", |answer| answer.body.starts_with("moved/orbit/own|"));
    let edited = piped(&server, &site, &["variable", "set", "SAY", "--stdin", "--json"], "from stdin");
    assert_eq!(edited.status, 0, "{edited:?}");
    server.visit_until("web-production.localhost", "/", |answer| answer.body.starts_with("from stdin|"));
}

#[test]
fn scaling_starts_and_ends_copies_and_leaves_the_others_alone() {
    let server = Server::start();
    let site = site(&server);
    let first = say(&server, "web-production.localhost");
    let region = server.graphql("{ regions { name } }")["data"]["regions"][0]["name"].as_str().unwrap().to_owned();
    let deployments = server.json(&site, &["deployment", "list", "--json"]).as_array().unwrap().len();
    let scaled = server.json(&site, &["scale", &format!("{region}=3"), "--json"]);
    assert_eq!(scaled["regions"][&region]["numReplicas"], 3, "{scaled}");
    let mut seen = std::collections::BTreeSet::new();
    harness::until("three copies that answer", || {
        seen.insert(say(&server, "web-production.localhost"));
        if seen.len() == 3 { Ok(()) } else { Err(format!("{seen:?}")) }
    });
    assert!(seen.contains(&first), "the copy that ran goes on: {first} in {seen:?}");
    assert_eq!(server.json(&site, &["deployment", "list", "--json"]).as_array().unwrap().len(), deployments, "scaling deploys nothing");
    let run = server.railway(&site, &["scale", &format!("{region}=1")]);
    assert_eq!(run.status, 0, "{run:?}");
    harness::until("one copy", || {
        let all: std::collections::BTreeSet<String> = (0..6).map(|_| say(&server, "web-production.localhost")).collect();
        if all == [first.clone()].into() { Ok(()) } else { Err(format!("{all:?}")) }
    });
    assert_eq!(server.railway(&site, &["service", "scale", &format!("{region}=2"), "--json"]).status, 0);
}

#[test]
fn an_environment_is_duplicated_edited_and_deleted() {
    let server = Server::start();
    let site = site(&server);
    server.json(&site, &["variable", "set", "SAY=hello", "--json"]);
    server.visit_until("web-production.localhost", "/", |answer| answer.body.starts_with("hello|production|"));
    settled(&server, &site);

    let made = server.json(&site, &["environment", "new", "dup", "--duplicate", "production", "--json"]);
    assert_eq!(made["name"], "dup", "{made}");
    server.visit_until("web-dup.localhost", "/", |answer| answer.body.starts_with("hello|dup|"));
    server.ok(&site, &["service", "link", "web"]);
    let config = server.json(&site, &["environment", "config", "--json"]);
    let service = config["services"].as_object().unwrap().keys().next().unwrap().clone();
    assert_eq!(config["services"][&service]["variables"]["SAY"]["value"], "hello", "{config}");

    let patch =
        json!({"services": {service.clone(): {"variables": {"SAY": {"value": "edited"}}, "deploy": {"drainingSeconds": 1}}}}).to_string();
    let edited = piped(&server, &site, &["environment", "edit", "-m", "why", "--json"], &patch);
    assert_eq!(edited.status, 0, "{edited:?}");
    let told: Value = serde_json::from_str(&edited.stdout).unwrap();
    assert_eq!((&told["committed"], &told["message"]), (&json!(true), &json!("why")), "{told}");
    server.visit_until("web-dup.localhost", "/", |answer| answer.body.starts_with("edited|dup|"));
    assert!(say(&server, "web-production.localhost").starts_with("hello|production|"), "the original is untouched");

    let refused = piped(
        &server,
        &site,
        &["environment", "edit", "--json"],
        &json!({"services": {service: {"deploy": {"healthcheckPath": "x"}}}}).to_string(),
    );
    assert_eq!(refused.status, 1, "{refused:?}");
    assert!(format!("{refused:?}").contains("healthcheckPath must begin with a slash"), "{refused:?}");
    let staged =
        harness::Live::start(server.terminal_command(&site, "environment edit --service-config web deploy.startCommand true --stage"));
    let (status, text) = staged.end();
    assert_eq!(status, 0, "{text}");
    assert!(text.contains("Changes staged for"), "{text}");
    assert!(say(&server, "web-dup.localhost").starts_with("edited|dup|"), "what is staged is not done");

    let list = server.json(&site, &["environment", "list", "--json"]);
    assert_eq!(list["environments"].as_array().unwrap().len(), 2, "{list}");
    server.json(&site, &["environment", "link", "production", "--json"]);
    server.json(&site, &["environment", "delete", "dup", "--yes", "--json"]);
    server.visit_until("web-dup.localhost", "/", |answer| answer.status == 404);
    server.ok(&site, &["service", "link", "web"]);
    server.json(&site, &["service", "source", "connect", "--image", "nginx:latest", "--service", "web", "--json"]);
    server.json(&site, &["service", "source", "disconnect", "--service", "web", "--json"]);
}

#[test]
fn a_deployment_is_repeated_restarted_and_taken_down() {
    let server = Server::start();
    let site = site(&server);
    let first = say(&server, "web-production.localhost");
    for args in [&["redeploy", "-y", "--json"][..], &["service", "redeploy", "-y", "--json"], &["deployment", "redeploy", "-y", "--json"]] {
        let made = server.json(&site, args);
        assert!(made["id"].is_string(), "{made}");
        settled(&server, &site);
    }
    server.visit_until("web-production.localhost", "/", |answer| answer.status == 200 && answer.body != first);
    let from_source = server.json(&site, &["redeploy", "--from-source", "-y", "--json"]);
    assert_eq!(from_source["success"], true, "{from_source}");
    settled(&server, &site);
    for args in [&["restart", "-y", "--json"][..], &["service", "restart", "-y", "--json"]] {
        assert!(server.json(&site, args)["id"].is_string());
        settled(&server, &site);
    }
    assert_eq!(server.railway(&site, &["restart", "-y"]).status, 0);
    server.ok(&site, &["down", "-y"]);
    server.visit_until("web-production.localhost", "/", |answer| answer.status == 503);
    assert_eq!(server.railway(&site, &["cron", "list", "--json"]).status, 1);
}
