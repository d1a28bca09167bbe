//! Canaries: secrets that are used in every way and must come out nowhere.

mod harness;

use std::path::{Path, PathBuf};

use harness::{Hold, Live, Server, finish, raw, request, until, write};
use serde_json::{Value, json};

const CANARY: &str = "canary-7f3a9c5e1b-do-not-print";
/// The value of a sealed variable with a harmless name.
const SEALED: &str = "ahoy-7b";

/// Starts and says what it should not.
const APP: &str = r#"
import http.server, os
print("starting with", os.environ["SECRET_WORD"], "and", os.environ["GREETING"], flush=True)
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(str(len(os.environ["SECRET_WORD"])).encode())
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

/// `None` for what the server, which goes on working, has taken away since it was listed.
fn present<T>(found: std::io::Result<T>) -> Option<T> {
    match found {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        found => Some(found.unwrap()),
    }
}

/// Files that hold any of the words, apart from those that must.
fn spilled(folder: &Path, words: &[String], found: &mut Vec<(PathBuf, String)>) {
    for entry in present(std::fs::read_dir(folder)).into_iter().flatten().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            spilled(&path, words, found);
        } else if kind.is_file() {
            // The environment that a supervisor hands to its app, readable by root alone.
            if path.file_name().is_some_and(|name| name == "spec.json") {
                use std::os::unix::fs::PermissionsExt;
                let mode = present(entry.metadata()).map_or(0o600, |data| data.permissions().mode() & 0o777);
                assert_eq!(mode, 0o600, "{}", path.display());
                continue;
            }
            let Ok(bytes) = std::fs::read(&path) else { continue };
            for word in words {
                if bytes.windows(word.len()).any(|window| window == word.as_bytes()) {
                    found.push((path.clone(), word.clone()));
                }
            }
        }
    }
}

fn tokens_of(server: &Server, home: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(server.railway_config(home)).unwrap();
    let config: Value = serde_json::from_str(&text).unwrap();
    ["accessToken", "refreshToken"].map(|name| config["user"][name].as_str().unwrap().to_owned()).to_vec()
}

#[test]
fn no_secret_comes_out_anywhere() {
    let mut server = Server::start_with(&[("ORRERY_LOG_FILTER", "debug")]);
    let app = server.dir.path().join("app");
    write(&app, &[("main.py", APP), ("Procfile", "web: python3 main.py\n")]);
    let seen = Hold::begin();
    let build = format!("echo building with $SECRET_WORD $GREETING; {}", seen.command());
    let settings = json!({"build": {"buildCommand": build}, "deploy": {"preDeployCommand": "echo before $SECRET_WORD $GREETING"}});
    write(&app, &[("railway.json", &settings.to_string())]);
    let made = server.json(&app, &["init", "--name", "app", "--json"]);
    let project = made["id"].as_str().unwrap().to_owned();
    server.json(&app, &["add", "--service", "app", "--json"]);
    server.ok(&app, &["service", "link", "app"]);
    server.json(&app, &["variable", "set", &format!("SECRET_WORD={CANARY}"), "--json"]);
    let cookie = server.sign_in(&server.login);
    let home = server.dir.path().join("ada");
    server.log_in(&home, &cookie);
    let mut secrets = vec![CANARY.to_owned(), server.token.clone(), server.login.split_once("token=").unwrap().1.to_owned()];
    secrets.push(cookie.split_once('=').unwrap().1.to_owned());
    secrets.extend(tokens_of(&server, &home));
    let environment = server.json(&app, &["status", "--json"])["environments"]["edges"][0]["node"]["id"].as_str().unwrap().to_owned();
    let mutation =
        format!("mutation {{ projectTokenCreate(input: {{projectId: \"{project}\", environmentId: \"{environment}\", name: \"t\"}}) }}");
    secrets.push(server.graphql(&mutation)["data"]["projectTokenCreate"].as_str().unwrap().to_owned());
    secrets.push(server.orrery(&["login-link"]).stdout.split_once("token=").unwrap().1.trim().to_owned());
    secrets.extend(keys_in_use(&server));

    seal(&server, &environment);
    secrets.push(SEALED.to_owned());

    let up = Live::start(server.railway_command(&app, &["up", "--ci"]));
    // The client leaves with the success, whatever it has seen of the log by then: the build waits until the log was seen.
    up.wait_for("building with ••• •••");
    drop(seen);
    let (status, up) = up.end();
    assert!(status == 0 && up.contains("Deploy complete") && !up.contains(CANARY), "{up}");
    assert_eq!(server.visit("app-production.localhost", "/").body, CANARY.len().to_string());
    let logs = until("the app's first words", || {
        let logs = server.ok(&app, &["logs", "--build", "--json"]) + &server.ok(&app, &["logs", "--deployment", "--lines", "50", "--json"]);
        if logs.contains("starting with ••• and •••") { Ok(logs) } else { Err(logs) }
    });
    assert!(logs.contains("before ••• •••"), "{logs}");
    assert!(!logs.contains(CANARY) && !logs.contains(SEALED), "{logs}");
    let shown = server.ok(&app, &["variables", "--kv"]);
    assert!(shown.contains(CANARY) && !shown.contains(SEALED), "its owner may read what is not sealed");

    answers_repeat_nothing(&server, &app, &home, &secrets);
    server.json(&app, &["redeploy", "-y", "--json"]);
    server.sigkill();
    server.start_again();
    assert!(server.graphql("{ me { email } }")["errors"].is_null());

    let mut found = vec![];
    spilled(&server.data(), &secrets, &mut found);
    assert!(found.is_empty(), "{found:#?}");
    let log = std::fs::read_to_string(server.dir.path().join("serve.log")).unwrap();
    for secret in &secrets {
        assert!(!log.contains(secret.as_str()), "{secret} is in the server's log");
    }
}

/// A key of each further kind, used where it belongs in every way that it can be sent.
fn keys_in_use(server: &Server) -> [String; 3] {
    let made = |input: &str| {
        let answer = server.graphql(&format!("mutation {{ apiKeyCreate(input: {input}) {{ key }} }}"));
        answer["data"]["apiKeyCreate"]["key"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
    };
    let me = server.graphql("{ me { workspaces { id } } }");
    let workspace = me["data"]["me"]["workspaces"][0]["id"].as_str().unwrap_or_else(|| panic!("{me}"));
    let team = made(&format!("{{kind: WORKSPACE, label: \"team\", workspaceId: \"{workspace}\"}}"));
    let (galaxy, flow) = (made("{kind: GALAXY}"), made("{kind: FLOW, label: \"flow\"}"));
    let (bearer, own) = (format!("Bearer {team}"), format!("Bearer {flow}"));
    let user = json!({"query": "{ user(username: \"admin\") { _id } }"}).to_string();
    let user_with_key = json!({"query": "{ user(username: \"admin\") { _id } }", "variables": {"galaxyApiKey": galaxy}}).to_string();
    for (method, path, header, body) in [
        ("POST", "/graphql/v2", Some(("authorization", bearer.as_str())), r#"{"query":"{ projects { edges { node { id } } } }"}"#),
        ("POST", "/graphql", Some(("galaxy-api-key", galaxy.as_str())), user.as_str()),
        ("POST", "/graphql", None, user_with_key.as_str()),
        ("GET", "/api/v1/workflows", Some(("authorization", own.as_str())), ""),
    ] {
        let headers: Vec<_> = header.into_iter().chain([("content-type", "application/json")]).collect();
        let answer = request(server.api, method, "localhost", path, &headers, body.as_bytes());
        assert!(answer.status == 200 && !answer.body.contains("errors"), "{path}: {}", answer.body);
    }
    [team, galaxy, flow]
}

/// Gives the only service a sealed variable.
fn seal(server: &Server, environment: &str) {
    let all = server.graphql("{ projects { edges { node { services { edges { node { id } } } } } } }");
    let service = all["data"]["projects"]["edges"][0]["node"]["services"]["edges"][0]["node"]["id"].as_str().unwrap();
    let patch = json!({"services": {service: {"variables": {"GREETING": {"value": SEALED, "isSealed": true}}}}});
    let query = "mutation P($id: String!, $patch: EnvironmentConfig!) { environmentPatchCommit(environmentId: $id, patch: $patch) }";
    let body = json!({"query": query, "variables": {"id": environment, "patch": patch}}).to_string();
    let bearer = format!("Bearer {}", server.token);
    let headers = [("authorization", bearer.as_str()), ("content-type", "application/json")];
    let answer = request(server.api, "POST", "localhost", "/graphql/v2", &headers, body.as_bytes());
    assert!(answer.status == 200 && !answer.body.contains("errors"), "{}", answer.body);
}

/// Secrets in places where they do not belong, and refusals of requests that hold them.
fn answers_repeat_nothing(server: &Server, app: &Path, home: &Path, secrets: &[String]) {
    let quiet = |what: &str, text: &str| {
        for secret in secrets {
            assert!(!text.contains(secret.as_str()), "{what} repeats {secret}: {text}");
        }
    };
    for secret in secrets {
        let bearer = format!("Bearer {secret}x");
        for headers in [
            [("authorization", bearer.as_str()), ("content-type", "application/json")],
            [("project-access-token", secret.as_str()), ("content-type", "application/json")],
        ] {
            for body in [r#"{"query":"{ me { email } }"}"#, r#"{"query":"{ nothing"}"#, "not json"] {
                let answer = request(server.api, "POST", "localhost", "/graphql/v2", &headers, body.as_bytes());
                quiet("an answer", &answer.body);
            }
            let answer = request(server.api, "POST", "localhost", "/project/a/environment/b/up", &headers, b"x");
            quiet("an upload's answer", &answer.body);
            quiet("a workflow's answer", &request(server.api, "POST", "localhost", "/api/v1/workflows", &headers, b"{").body);
        }
        let json = ("content-type", "application/json");
        let asked = json!({"query": "{ user(username: \"admin\") { nothing } }", "variables": {"galaxyApiKey": secret}}).to_string();
        quiet("a variable's answer", &request(server.api, "POST", "localhost", "/graphql", &[json], asked.as_bytes()).body);
        let own = [("galaxy-api-key", secret.as_str()), json];
        quiet("Galaxy's answer", &request(server.api, "POST", "localhost", "/graphql", &own, b"{").body);
        let form = [("content-type", "application/x-www-form-urlencoded")];
        let used = format!("grant_type=refresh_token&client_id=x&refresh_token={secret}x");
        quiet("a token answer", &request(server.api, "POST", "localhost", "/oauth/token", &form, used.as_bytes()).body);
        quiet("a login", &server.submit("/login/link", None, &format!("token={secret}x")).body);
        // Which page was asked for is logged; keys are known by their form and taken out of it, other words cannot be.
        if ["orr_", "orw_", "orp_", "ora_", "orf_", "gal_", "gx_"].iter().any(|prefix| secret.starts_with(prefix)) {
            quiet("a page", &request(server.api, "GET", "localhost", &format!("/{secret}"), &[], b"").body);
        }
        quiet("the edge", &server.visit("nobody.localhost", &format!("/?key={secret}")).body);
        let broken =
            format!("POST /graphql/v2 HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {secret}\r\nauthorization: Bearer {secret}\r\n\r\n");
        quiet("a refusal", &raw(server.api, broken.as_bytes()).body);
    }
    let secret = &secrets[0];
    for query in [
        format!("mutation {{ variableUpsert(input: {{projectId: \"x\", environmentId: \"y\", name: \"A\", value: \"{secret}\"}}) }}"),
        format!("mutation {{ variableUpsert(input: {{projectId: \"x\", nonsense: \"{secret}\"}}) }}"),
    ] {
        quiet("a refused mutation", &server.graphql(&query).to_string());
    }
    let wrong = {
        let mut command = server.railway_command(app, &["whoami"]);
        command.env("ORRERY_TOKEN", format!("{}x", server.token));
        finish(command, "whoami with a token that is almost right")
    };
    quiet("the client", &format!("{}{}", wrong.stdout, wrong.stderr));
    let shown = server.orrery(&["config", "--show"]);
    quiet("the settings", &format!("{}{}", shown.stdout, shown.stderr));
    let mut known = server.railway_command(home, &["whoami"]);
    known.env("HOME", home).env_remove("ORRERY_TOKEN");
    let (status, text) = Live::start(known).end();
    assert_eq!(status, 0, "{text}");
    quiet("whoami", &text);
}

/// As systemd starts a service: standard output is kept, and the environment says that it is the journal.
#[test]
fn a_first_start_as_a_service_leaves_no_credentials_in_the_journal() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    let (dir, owner) = harness::folder::claim();
    let orrery = |args: &[&str]| {
        let mut command = std::process::Command::new(harness::exe());
        command.env_clear().env("HOME", dir.path()).env("PATH", std::env::var_os("PATH").unwrap());
        command.args(args).arg("--data-dir").arg(dir.path().join("data"));
        command
    };
    let journal = dir.path().join("journal");
    let file = std::fs::File::create(&journal).unwrap();
    let place = file.metadata().unwrap();
    let mut serve = orrery(&["serve", "--role", "api", "--listen", &format!("127.0.0.1:{}", harness::free_port())]);
    serve.env("JOURNAL_STREAM", format!("{}:{}", place.dev(), place.ino())).stderr(file.try_clone().unwrap()).stdout(file);
    let mut child = serve.spawn().unwrap();
    let kept = until("a server that is ready", || {
        let kept = std::fs::read_to_string(&journal).unwrap();
        if kept.contains("orrery login-link") && kept.contains("orrery railway") { Ok(kept) } else { Err(kept) }
    });
    child.kill().unwrap();
    child.wait().unwrap();
    let remembered = dir.path().join(".config/orrery/token");
    assert_eq!(remembered.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    let token = std::fs::read_to_string(&remembered).unwrap();
    assert!(token.starts_with("orr_") && !kept.contains(token.trim()) && !kept.contains("link?token="), "{kept}");
    let link = finish(orrery(&["login-link"]), "orrery login-link");
    assert!(link.status == 0 && link.stdout.contains("/login/link?token="), "{link:?}");
    drop(dir);
    drop(owner);
}
