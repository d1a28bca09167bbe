//! The daily loop of a developer, through the unchanged Railway CLI, with applications that come from public registries.

mod harness;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use harness::{Hold, Live, Run, Server, write};
use serde_json::json;

/// An application, how it is known to serve, and a change of it that shows.
struct App {
    folder: PathBuf,
    /// Of the folder, and so of the project and the service.
    name: &'static str,
    path: &'static str,
    says: &'static str,
    /// A file as it is in the second version.
    changed: (&'static str, &'static str),
    /// What the second version answers, and where.
    then: (&'static str, &'static str),
}

impl App {
    fn host(&self) -> String {
        format!("{}-production.localhost", self.name)
    }

    /// Init, up, and the app answers; then everything that one does with an app, to its end.
    fn lives(&self, server: &Server) {
        let site = &self.folder;
        let me = server.json(site, &["whoami", "--json"]);
        assert_eq!(me["email"], "admin@localhost");
        let made = server.json(site, &["init", "--name", self.name, "--json"]);
        assert_eq!(made["name"], self.name);
        let up = server.ok(site, &["up", "--ci"]);
        assert!(up.contains("Deploy complete"), "{up}");
        self.answers(server, self.path, self.says);
        link_and_look(server, self);
        change_and_repeat(server, self);
        environments(server, self);
        project_token(server, self);
        ask_the_api(server, site);
    }

    fn answers(&self, server: &Server, path: &str, says: &str) {
        let answer = server.visit(&self.host(), path);
        assert!(answer.body.contains(says), "{path}: {answer:?}");
    }
}

/// What a newcomer does.
#[test]
fn a_folder_goes_live_and_is_looked_after() {
    let server = Server::start();
    let app = App {
        folder: server.dir.path().join("hello"),
        name: "hello",
        path: "/",
        says: "hello from a folder",
        changed: ("index.html", "second version"),
        then: ("/", "second version"),
    };
    write(&app.folder, &[("index.html", "<h1>hello from a folder</h1>")]);
    app.lives(&server);
    let listed = server.graphql("query { projects { edges { node { name } } } }");
    assert_eq!(listed, json!({"data": {"projects": {"edges": [{"node": {"name": "hello"}}]}}}));
    deploy_from_a_pipeline(&server, &app);
    take_down(&server, &app);
}

fn link_and_look(server: &Server, app: &App) {
    let (site, name, host) = (&app.folder, app.name, app.host());
    let list = server.json(site, &["list", "--json"]);
    assert!(list.to_string().contains(&format!("\"{name}\"")), "{list}");
    let elsewhere = server.dir.path().join("elsewhere");
    std::fs::create_dir_all(&elsewhere).unwrap();
    let linked = server.json(&elsewhere, &["link", "--project", name, "--environment", "production", "--service", name, "--json"]);
    assert_eq!(linked["projectName"], name, "{linked}");
    let domain = server.json(&elsewhere, &["domain", "--json"]);
    assert!(domain.to_string().contains(&host), "{domain}");
    server.ok(site, &["service", "link", name]);
    let status = server.json(site, &["status", "--json"]);
    assert_eq!(status["name"], name);
    assert!(server.ok(site, &["status"]).contains(name));
    let services = server.json(site, &["service", "list", "--json"]);
    assert_eq!(services[0]["name"], name, "{services}");
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

fn change_and_repeat(server: &Server, app: &App) {
    let (site, host) = (&app.folder, app.host());
    assert_eq!(server.json(site, &["variable", "set", "A=1", "B=two words", "--json"])["set"], true);
    let variables = server.json(site, &["variable", "list", "--json"]);
    assert_eq!((&variables["A"], &variables["B"]), (&json!("1"), &json!("two words")));
    assert!(server.ok(site, &["variables", "--kv"]).contains("A=1"));
    assert_eq!(server.json(site, &["variable", "delete", "A", "--json"])["deleted"], true);
    let ran = server.ok(site, &["run", "--", "printenv", "B"]);
    assert_eq!(ran.trim(), "two words");
    let shell = in_a_shell(server, site, "echo \"<$B>\"\n");
    assert!(shell.contains("<two words>"), "{shell}");
    let domains = server.json(site, &["domain", "list", "--json"]);
    assert!(domains.to_string().contains(&host), "{domains}");
    let custom = server.json(site, &["domain", "www.example.test", "--port", "8080", "--json"]);
    assert!(custom.to_string().contains("www.example.test"), "{custom}");
    server.json(site, &["domain", "delete", "www.example.test", "--yes", "--json"]);
    // A changed variable is a deployment of its own.
    wait_for_success(server, site);
    server.json(site, &["redeploy", "-y", "--json"]);
    server.visit_until(&host, app.path, |answer| answer.status == 200);
    wait_for_success(server, site);
    server.ok(site, &["restart", "-y"]);
    assert_eq!(server.visit(&host, app.path).status, 200);
    write(site, &[app.changed]);
    let up = server.railway(site, &["up", "--json"]);
    assert_eq!(up.status, 0, "{up:?}");
    app.answers(server, app.then.0, app.then.1);
    let detached = server.json(site, &["up", "--detach", "--json"]);
    assert!(detached["deploymentId"].is_string(), "{detached}");
    wait_for_success(server, site);
}

/// What `railway shell` prints that is given a script.
fn in_a_shell(server: &Server, site: &Path, script: &str) -> String {
    let mut command = server.railway_command(site, &["shell", "--silent"]);
    let mut shell = command.env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = shell.wait_with_output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What cannot go live ends `up` with 1, the version before it goes on, and the next good one takes its place.
fn fail_and_recover(server: &Server, app: &App) {
    let site = &app.folder;
    server.ok(site, &["service", "link", app.name]);
    for settings in [r#"{"build":{"buildCommand":"exit 3"}}"#, r#"{"deploy":{"startCommand":"exit 7","restartPolicyType":"NEVER"}}"#] {
        write(site, &[("railway.json", settings)]);
        let failed = server.railway(site, &["up", "--ci"]);
        assert_eq!(failed.status, 1, "{settings}: {failed:?}");
        let newest = &server.json(site, &["deployment", "list", "--json"])[0]["status"];
        assert!(newest == "FAILED" || newest == "CRASHED", "{settings}: {newest}");
        app.answers(server, app.then.0, app.then.1);
    }
    std::fs::remove_file(site.join("railway.json")).unwrap();
    let up = server.ok(site, &["up", "--ci"]);
    assert!(up.contains("Deploy complete"), "{up}");
    app.answers(server, app.then.0, app.then.1);
}

fn wait_for_success(server: &Server, site: &Path) {
    harness::until("the newest deployment's success", || {
        let listed = server.json(site, &["deployment", "list", "--json"]);
        if listed[0]["status"] == "SUCCESS" { Ok(()) } else { Err(listed[0].to_string()) }
    });
}

fn environments(server: &Server, app: &App) {
    let site = &app.folder;
    let staging = server.json(site, &["environment", "new", "staging", "--json"]);
    assert_eq!(staging["name"], "staging");
    let listed = server.json(site, &["environment", "list", "--json"]);
    assert!(listed.to_string().contains("staging"), "{listed}");
    server.json(site, &["environment", "link", "production", "--json"]);
    server.json(site, &["environment", "delete", "staging", "--yes", "--json"]);
    server.ok(site, &["service", "link", app.name]);
    let api = server.json(site, &["service", "list", "--json"]);
    assert!(api.to_string().contains(app.name));
    let added = server.json(site, &["add", "--service", "api", "--json"]);
    assert_eq!(added["name"], "api");
    server.json(site, &["service", "delete", "--service", "api", "--yes", "--json"]);
}

/// The client in a folder that is linked to nothing, with nothing but a project token.
struct Pipeline<'a> {
    server: &'a Server,
    folder: PathBuf,
    token: String,
}

impl<'a> Pipeline<'a> {
    fn of(server: &'a Server, app: &App) -> Self {
        let status = server.json(&app.folder, &["status", "--json"]);
        let (project, environment) = (status["id"].as_str().unwrap(), status["environments"]["edges"][0]["node"]["id"].as_str().unwrap());
        let input = format!("{{projectId: \"{project}\", environmentId: \"{environment}\", name: \"ci\"}}");
        let made = server.graphql(&format!("mutation {{ projectTokenCreate(input: {input}) }}"));
        let folder = server.dir.path().join("pipeline");
        std::fs::create_dir_all(&folder).unwrap();
        Self { server, folder, token: made["data"]["projectTokenCreate"].as_str().unwrap().to_owned() }
    }

    fn run(&self, args: &[&str]) -> Run {
        let mut command = self.server.railway_command(&self.folder, args);
        command.env("RAILWAY_TOKEN", &self.token).env_remove("ORRERY_TOKEN");
        harness::finish(command, &format!("with a project token: {args:?}"))
    }

    fn ok(&self, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!(run.status, 0, "with a project token: {args:?}\n{run:?}");
        run.stdout
    }
}

fn project_token(server: &Server, app: &App) {
    let pipeline = Pipeline::of(server, app);
    assert!(pipeline.ok(&["variables", "--service", app.name, "--json"]).contains("two words"));
    assert!(pipeline.ok(&["status", "--json"]).contains(&format!("\"{}\"", app.name)));
    pipeline.ok(&["logs", "--service", app.name, "--lines", "2", "--json"]);
    let ran = pipeline.ok(&["run", "--service", app.name, "--", "printenv", "RAILWAY_SERVICE_NAME"]);
    assert_eq!(ran.trim(), app.name);
    assert_ne!(pipeline.run(&["whoami"]).status, 0, "a project token is nobody's account");
}

fn deploy_from_a_pipeline(server: &Server, app: &App) {
    let pipeline = Pipeline::of(server, app);
    let again = pipeline.ok(&["redeploy", "--service", app.name, "-y", "--json"]);
    assert!(again.contains("\"id\""), "{again}");
    wait_for_success(server, &app.folder);
    write(&pipeline.folder, &[("index.html", "from a pipeline")]);
    let up = pipeline.ok(&["up", "--service", app.name, "--ci"]);
    assert!(up.contains("Deploy complete"), "{up}");
    app.answers(server, "/", "from a pipeline");
}

fn ask_the_api(server: &Server, site: &Path) {
    assert!(server.ok(site, &["api", "{ me { email } }"]).contains("admin@localhost"));
    assert!(server.ok(site, &["api", "schema", "--compact"]).contains("__schema"));
    server.ok(site, &["api", "search", "deployment", "--kind", "mutation"]);
    server.ok(site, &["api", "describe", "ServiceInstanceUpdateInput"]);
}

fn take_down(server: &Server, app: &App) {
    let (site, host) = (&app.folder, app.host());
    server.ok(site, &["down", "-y"]);
    server.visit_until(&host, app.path, |answer| answer.status == 503);
    server.ok(site, &["unlink", "--yes"]);
    server.json(site, &["delete", "--project", app.name, "--yes", "--json"]);
    server.visit_until(&host, app.path, |answer| answer.status != 200);
}

/// PyPI's httpbin under gunicorn, exactly as it comes from the registry.
#[test]
fn httpbin_from_pypi_is_built_and_served() {
    let server = Server::start();
    let app = App {
        folder: server.dir.path().join("httpbin"),
        name: "httpbin",
        path: "/get?who=orrery",
        says: "\"orrery\"",
        changed: ("Procfile", "web: gunicorn httpbin:app --bind 0.0.0.0:$PORT --workers 1 --limit-request-line 64\n"),
        then: ("/get?who=somebody-whose-name-is-longer-than-what-the-second-version-takes", "Request Line is too large"),
    };
    write(
        &app.folder,
        &[
            ("requirements.txt", "httpbin==0.10.2\ngunicorn==23.0.0\n"),
            ("Procfile", "web: gunicorn httpbin:app --bind 0.0.0.0:$PORT --workers 1\n"),
        ],
    );
    app.lives(&server);
    fail_and_recover(&server, &app);
    let host = app.host();
    let answer = server.visit(&host, app.path);
    assert_eq!(answer.status, 200, "{answer:?}");
    let echoed: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    assert_eq!(echoed["args"]["who"], "orrery");
    assert_eq!(server.visit(&host, "/status/418").status, 418);
    // What an app says is brought in a moment after it has said it.
    harness::until("the app's own log", || {
        let log = server.ok(&app.folder, &["logs", "--deployment", "--lines", "50", "--json"]);
        if log.contains("Listening at") { Ok(()) } else { Err(log) }
    });
    Live::start(server.terminal_command(&app.folder, "logs")).wait_for("Listening at");
    take_down(&server, &app);
}

/// An npm package that is a server: json-server over a little data.
#[test]
fn json_server_from_npm_is_built_and_served() {
    let server = Server::start();
    let app = App {
        folder: server.dir.path().join("shop"),
        name: "shop",
        path: "/books/2",
        says: "Gears",
        changed: ("db.json", r#"{"books":[{"id":2,"title":"Gears"},{"id":3,"title":"Springs"}]}"#),
        then: ("/books/3", "Springs"),
    };
    write(
        &app.folder,
        &[
            (
                "package.json",
                r#"{"name":"shop","private":true,"dependencies":{"json-server":"0.17.4"},"scripts":{"start":"json-server --host 0.0.0.0 --port $PORT db.json"}}"#,
            ),
            ("db.json", r#"{"books":[{"id":1,"title":"Orbits"},{"id":2,"title":"Gears"}]}"#),
        ],
    );
    app.lives(&server);
    fail_and_recover(&server, &app);
    take_down(&server, &app);
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

    // The client takes the log and the status from two sockets, and leaves with the status: the build waits until the log was seen.
    let seen = Hold::begin();
    let build = format!("printf 'about to %s\\n' fail; {}; exit 3", seen.command());
    write(&app, &[("railway.json", &json!({"build": {"buildCommand": build}}).to_string())]);
    let failing = Live::start(server.railway_command(&app, &["up", "--ci"]));
    failing.wait_for("about to fail");
    drop(seen);
    let (status, text) = failing.end();
    assert_eq!(status, 1, "{text}");
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
