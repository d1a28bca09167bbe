//! The daily loop of a developer, through the unchanged Railway CLI, with applications that come from public registries.

mod harness;

use harness::{Server, write};
use serde_json::json;

/// What a newcomer does: init, up, and the app answers.
#[test]
fn a_folder_goes_live_and_is_looked_after() {
    let server = Server::start();
    let site = server.dir.path().join("hello");
    write(&site, &[("index.html", "<h1>hello from a folder</h1>")]);

    let me = server.json(&site, &["whoami", "--json"]);
    assert_eq!(me["email"], "admin@localhost");
    let made = server.json(&site, &["init", "--name", "hello", "--json"]);
    assert_eq!(made["name"], "hello");
    let up = server.ok(&site, &["up", "--ci"]);
    assert!(up.contains("Deploy complete"), "{up}");
    let answer = server.visit("hello-production.localhost", "/");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.contains("hello from a folder"));

    let listed = server.graphql("query { projects { edges { node { name } } } }");
    assert_eq!(listed, json!({"data": {"projects": {"edges": [{"node": {"name": "hello"}}]}}}));

    link_and_look(&server, &site);
    change_and_repeat(&server, &site);
    environments_and_tokens(&server, &site);
    take_down(&server, &site);
}

fn link_and_look(server: &Server, site: &std::path::Path) {
    let list = server.json(site, &["list", "--json"]);
    assert!(list.to_string().contains("\"hello\""), "{list}");
    let elsewhere = server.dir.path().join("elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    let linked = server.json(&elsewhere, &["link", "--project", "hello", "--environment", "production", "--service", "hello", "--json"]);
    assert_eq!(linked["projectName"], "hello", "{linked}");
    let domain = server.json(&elsewhere, &["domain", "--json"]);
    assert!(domain.to_string().contains("hello-production.localhost"), "{domain}");
    server.ok(site, &["service", "link", "hello"]);
    let status = server.json(site, &["status", "--json"]);
    assert_eq!(status["name"], "hello");
    assert!(server.ok(site, &["status"]).contains("hello"));
    let services = server.json(site, &["service", "list", "--json"]);
    assert_eq!(services[0]["name"], "hello", "{services}");
    let state = server.json(site, &["service", "status", "--json"]);
    assert!(state.to_string().contains("SUCCESS"), "{state}");
    let deployments = server.json(site, &["deployment", "list", "--json"]);
    assert_eq!(deployments[0]["status"], "SUCCESS", "{deployments}");
    let build = server.ok(site, &["logs", "--build", "--json"]);
    assert!(build.contains("Build time"), "{build}");
    server.ok(site, &["logs", "--deployment", "--lines", "5", "--json"]);
    server.ok(site, &["logs", "--since", "1h", "--json"]);
    assert!(server.ok(site, &["open", "--print"]).contains("/project/"), "open prints the project's address");
}

fn change_and_repeat(server: &Server, site: &std::path::Path) {
    assert_eq!(server.json(site, &["variable", "set", "A=1", "B=two words", "--json"])["set"], true);
    let variables = server.json(site, &["variable", "list", "--json"]);
    assert_eq!((&variables["A"], &variables["B"]), (&json!("1"), &json!("two words")));
    assert!(server.ok(site, &["variables", "--kv"]).contains("A=1"));
    assert_eq!(server.json(site, &["variable", "delete", "A", "--json"])["deleted"], true);
    let ran = server.ok(site, &["run", "--", "printenv", "B"]);
    assert_eq!(ran.trim(), "two words");
    let domains = server.json(site, &["domain", "list", "--json"]);
    assert!(domains.to_string().contains("hello-production.localhost"), "{domains}");
    let custom = server.json(site, &["domain", "www.example.test", "--port", "8080", "--json"]);
    assert!(custom.to_string().contains("www.example.test"), "{custom}");
    server.json(site, &["domain", "delete", "www.example.test", "--yes", "--json"]);
    server.json(site, &["redeploy", "-y", "--json"]);
    server.visit_until("hello-production.localhost", "/", |answer| answer.status == 200);
    wait_for_success(server, site);
    server.ok(site, &["restart", "-y"]);
    assert_eq!(server.visit("hello-production.localhost", "/").status, 200);
    write(site, &[("index.html", "second version")]);
    let up = server.railway(site, &["up", "--json"]);
    assert_eq!(up.status, 0, "{up:?}");
    assert!(server.visit("hello-production.localhost", "/").body.contains("second version"));
    let detached = server.json(site, &["up", "--detach", "--json"]);
    assert!(detached["deploymentId"].is_string(), "{detached}");
    wait_for_success(server, site);
}

fn wait_for_success(server: &Server, site: &std::path::Path) {
    harness::until("the newest deployment's success", || {
        let listed = server.json(site, &["deployment", "list", "--json"]);
        if listed[0]["status"] == "SUCCESS" { Ok(()) } else { Err(listed[0].to_string()) }
    });
}

fn environments_and_tokens(server: &Server, site: &std::path::Path) {
    let staging = server.json(site, &["environment", "new", "staging", "--json"]);
    assert_eq!(staging["name"], "staging");
    let listed = server.json(site, &["environment", "list", "--json"]);
    assert!(listed.to_string().contains("staging"), "{listed}");
    server.json(site, &["environment", "link", "production", "--json"]);
    server.json(site, &["environment", "delete", "staging", "--yes", "--json"]);
    server.ok(site, &["service", "link", "hello"]);
    let api = server.json(site, &["service", "list", "--json"]);
    assert!(api.to_string().contains("hello"));
    let added = server.json(site, &["add", "--service", "api", "--json"]);
    assert_eq!(added["name"], "api");
    server.json(site, &["service", "delete", "--service", "api", "--yes", "--json"]);

    let status = server.json(site, &["status", "--json"]);
    let (project, environment) = (status["id"].as_str().unwrap(), status["environments"]["edges"][0]["node"]["id"].as_str().unwrap());
    let mutation =
        format!("mutation {{ projectTokenCreate(input: {{projectId: \"{project}\", environmentId: \"{environment}\", name: \"ci\"}}) }}");
    let token = server.graphql(&mutation)["data"]["projectTokenCreate"].as_str().unwrap().to_owned();
    let with_token = |args: &[&str]| {
        let mut command = server.railway_command(server.dir.path(), args);
        command.env("RAILWAY_TOKEN", &token).env_remove("ORRERY_TOKEN");
        harness::finish(command, &format!("with a project token: {args:?}"))
    };
    let variables = with_token(&["variables", "--service", "hello", "--json"]);
    assert_eq!(variables.status, 0, "{variables:?}");
    assert!(variables.stdout.contains("two words"));
    assert_ne!(with_token(&["whoami"]).status, 0, "a project token is nobody's account");

    assert!(server.ok(site, &["api", "{ me { email } }"]).contains("admin@localhost"));
    assert!(server.ok(site, &["api", "schema", "--compact"]).contains("__schema"));
    server.ok(site, &["api", "search", "deployment", "--kind", "mutation"]);
    server.ok(site, &["api", "describe", "ServiceInstanceUpdateInput"]);
}

fn take_down(server: &Server, site: &std::path::Path) {
    server.ok(site, &["down", "-y"]);
    server.visit_until("hello-production.localhost", "/", |answer| answer.status == 503);
    server.ok(site, &["unlink", "--yes"]);
    server.json(site, &["delete", "--project", "hello", "--yes", "--json"]);
    server.visit_until("hello-production.localhost", "/", |answer| answer.status != 200);
}

/// PyPI's httpbin under gunicorn, exactly as it comes from the registry.
#[test]
fn httpbin_from_pypi_is_built_and_served() {
    let server = Server::start();
    let app = server.dir.path().join("httpbin");
    write(
        &app,
        &[
            ("requirements.txt", "httpbin==0.10.2\ngunicorn==23.0.0\n"),
            ("Procfile", "web: gunicorn httpbin:app --bind 0.0.0.0:$PORT --workers 1\n"),
        ],
    );
    server.json(&app, &["init", "--name", "httpbin", "--json"]);
    let up = server.ok(&app, &["up", "--ci"]);
    assert!(up.contains("Deploy complete"), "{up}");
    let answer = server.visit("httpbin-production.localhost", "/get?who=orrery");
    assert_eq!(answer.status, 200, "{answer:?}");
    let echoed: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(echoed["args"]["who"], "orrery");
    assert_eq!(server.visit("httpbin-production.localhost", "/status/418").status, 418);
    // What an app says is brought in a moment after it has said it.
    harness::until("the app's own log", || {
        let log = server.ok(&app, &["logs", "--deployment", "--lines", "50", "--json"]);
        if log.contains("Listening at") { Ok(()) } else { Err(log) }
    });
}

/// An npm package that is a server: json-server over a little data.
#[test]
fn json_server_from_npm_is_built_and_served() {
    let server = Server::start();
    let app = server.dir.path().join("shop");
    write(
        &app,
        &[
            (
                "package.json",
                r#"{"name":"shop","private":true,"dependencies":{"json-server":"0.17.4"},"scripts":{"start":"json-server --host 0.0.0.0 --port $PORT db.json"}}"#,
            ),
            ("db.json", r#"{"books":[{"id":1,"title":"Orbits"},{"id":2,"title":"Gears"}]}"#),
        ],
    );
    server.json(&app, &["init", "--name", "shop", "--json"]);
    let up = server.ok(&app, &["up", "--ci"]);
    assert!(up.contains("Deploy complete"), "{up}");
    let answer = server.visit("shop-production.localhost", "/books/2");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.body.contains("Gears"));
}

/// Exit statuses of `up --ci` for what cannot go live, and the version that served goes on.
#[test]
fn what_fails_says_so_and_the_old_version_goes_on() {
    let server = Server::start();
    let app = server.dir.path().join("app");
    write(&app, &[("index.html", "the good one")]);
    server.json(&app, &["init", "--name", "app", "--json"]);
    server.ok(&app, &["up", "--ci"]);
    server.ok(&app, &["service", "link", "app"]);

    // The client takes the log and the status from two sockets, and leaves with the status.
    write(&app, &[("railway.json", r#"{"build":{"buildCommand":"echo about to fail; sleep 2; exit 3"}}"#)]);
    let failed = server.railway(&app, &["up", "--ci"]);
    assert_eq!(failed.status, 1, "{failed:?}");
    assert!(failed.stdout.contains("about to fail") || failed.stderr.contains("about to fail"), "{failed:?}");
    assert!(server.visit("app-production.localhost", "/").body.contains("the good one"));

    write(&app, &[("railway.json", r#"{"deploy":{"startCommand":"echo going down; exit 7","restartPolicyType":"NEVER"}}"#)]);
    let crashed = server.railway(&app, &["up", "--ci"]);
    assert_eq!(crashed.status, 1, "{crashed:?}");
    assert!(server.visit("app-production.localhost", "/").body.contains("the good one"));

    let wrong = {
        let mut command = server.railway_command(&app, &["whoami"]);
        command.env("ORRERY_TOKEN", "orr_nonsense");
        harness::finish(command, "whoami with a wrong token")
    };
    assert_eq!(wrong.status, 1);
    assert!(wrong.stderr.contains("Unauthorized"), "{wrong:?}");
}
