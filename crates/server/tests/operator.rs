//! The operator's own commands, beside a server that runs and over one that does not.

mod harness;

use harness::{Live, Server, away_from_midnight, finish, until, write};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

fn projects(server: &Server, token: &str) -> Value {
    server.graphql_as(token, "{ projects { edges { node { id name } } } }")
}

#[test]
fn tokens_users_and_plans_are_managed_beside_a_running_server() {
    away_from_midnight();
    let server = Server::start();
    let me = server.graphql("{ me { workspaces { id } } }");
    let workspace = me["data"]["me"]["workspaces"][0]["id"].as_str().unwrap_or_else(|| panic!("{me}"));
    let query = format!("{{ auditLogs(workspaceId: \"{workspace}\", first: 50) {{ edges {{ node {{ eventType payload }} }} }} }}");
    let log = server.graphql(&query);
    let entries = log["data"]["auditLogs"]["edges"].as_array().unwrap_or_else(|| panic!("{log}"));
    let made: Vec<_> = entries.iter().map(|edge| &edge["node"]).filter(|node| node["eventType"] == "api_key_create").collect();
    assert!(made.len() == 1 && made[0].to_string().contains("first start"), "the token of the first start: {log}");
    let made = server.orrery(&["token", "create", "--name", "ci"]);
    assert_eq!(made.status, 0, "{made:?}");
    let token = made.stdout.trim().to_owned();
    assert!(token.starts_with("orr_") && made.stdout.lines().count() == 1, "only the token, for $(…): {made:?}");
    for _ in 0..3 {
        assert!(projects(&server, &token)["data"]["projects"].is_object());
    }

    let listed = server.orrery(&["token", "list"]).stdout;
    let line = listed.lines().find(|line| line.contains("  ci  ")).unwrap_or_else(|| panic!("{listed}"));
    assert!(line.contains("active") && line.contains("last used") && !listed.contains(&token), "{listed}");
    let id = line.split_whitespace().next().unwrap();
    // Counts are written a moment after they were made.
    until("the use of a token", || {
        let told = server.orrery(&["token", "usage", id]).stdout;
        if told.contains("3 allowed, 0 refused") { Ok(told) } else { Err(told) }
    });
    let renamed = server.orrery(&["token", "update", id, "--name", "ci two", "--per-minute", "7"]);
    let line = renamed.stdout.lines().next().unwrap_or_else(|| panic!("{renamed:?}"));
    assert!(renamed.status == 0 && line.starts_with(id) && line.contains("  ci two  ") && line.ends_with(", 7 a minute"), "{renamed:?}");
    let listed = server.orrery(&["token", "list"]).stdout;
    assert!(listed.lines().any(|known| known.starts_with(id) && known.contains("ci two") && known.ends_with(", 7 a minute")), "{listed}");
    let nothing = server.orrery(&["token", "update", id]);
    assert!(nothing.status == 1 && nothing.stderr.contains("--per-minute"), "{nothing:?}");
    assert_eq!(server.orrery(&["token", "revoke", id]).status, 0);
    assert!(projects(&server, &token)["errors"][0]["message"].as_str().unwrap().contains("Not Authorized"));
    assert!(server.orrery(&["token", "list"]).stdout.contains("revoked"));
    for (args, words) in [
        (vec!["token", "revoke", id], "no active token"),
        (vec!["token", "revoke", "nonsense"], "orrery token list"),
        (vec!["token", "create", "--user", "nobody@example.test"], "orrery user create"),
        (vec!["login-link", "--user", "nobody@example.test"], "orrery user create"),
        (vec!["token", "create", "--kind", "project"], "--environment"),
        (vec!["user", "create", "no-address"], "is not an e-mail address"),
        (vec!["user", "create", "admin@localhost"], "already exists"),
        (vec!["plan", "set", "nobody", "free"], "no workspace is called nobody"),
    ] {
        let run = server.orrery(&args);
        assert_eq!(run.status, 1, "{args:?}: {run:?}");
        assert!(run.stderr.starts_with("orrery: ") && run.stderr.contains(words) && run.stdout.is_empty(), "{args:?}: {run:?}");
    }
    assert_eq!(server.orrery(&["token", "create", "--no-such-flag"]).status, 2);

    let bob = server.orrery(&["user", "create", "bob@example.test"]);
    let link = bob.stdout.split_whitespace().find(|word| word.contains("/login/link?token=")).unwrap().to_owned();
    assert!(link.starts_with(&format!("http://localhost:{}/", server.api)), "{link}");
    server.sign_in(&link);
    assert!(server.orrery(&["plan", "set", "bob", "hobby"]).stdout.contains("HOBBY"));
    let wrong = server.orrery(&["plan", "set", "bob", "diamond"]);
    assert!(wrong.status == 1 && wrong.stderr.contains("free, hobby or professional"), "{wrong:?}");
    assert!(server.orrery(&["user", "email", "bob@example.test", "Rob@example.test"]).stdout.contains("rob@example.test"));
    assert!(server.orrery(&["login-link", "--user", "bob@example.test"]).stderr.contains("no user has the address"));
    server.sign_in(server.orrery(&["login-link", "--user", "rob@example.test"]).stdout.trim());
    let taken = server.orrery(&["user", "email", "rob@example.test", "admin@localhost"]);
    assert!(taken.status == 1 && taken.stderr.contains("already exists"), "{taken:?}");
    let reset = server.orrery(&["user", "reset-two-factor", "Rob@example.test"]);
    assert!(reset.status == 0 && reset.stdout.contains("had no two-factor authentication"), "{reset:?}");
    let again = server.orrery(&["login-link"]);
    server.sign_in(again.stdout.trim());
}

#[test]
fn the_operator_looks_at_the_machine_and_copies_the_database_while_it_runs() {
    let mut server = Server::start();
    let backup = server.orrery(&["backup"]);
    assert_eq!(backup.status, 0, "{backup:?}");
    let copy = std::path::Path::new(backup.stdout.trim());
    assert!(copy.starts_with(server.data().join("store-backups")), "{backup:?}");
    let seen = server.graphql_as(
        &server.token,
        "{ operator { version backups { name } health { name state found } storage { free total parts { name bytes } } } }",
    );
    let seen = &seen["data"]["operator"];
    assert_eq!(seen["backups"][0]["name"].as_str(), copy.file_name().unwrap().to_str(), "{seen}");
    let check = |name: &str| seen["health"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{seen}"));
    assert!(check("port of the API")["found"].as_str().unwrap().contains("is ours"), "{seen}");
    assert_eq!((&check("version")["state"], &check("version")["found"]), (&Value::from("OK"), &seen["version"]));
    let bytes = |name: &str| seen["storage"]["parts"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap()["bytes"].as_f64();
    assert!(bytes("database") > Some(0.0) && bytes("copies of the database") > Some(0.0), "{seen}");
    assert!(seen["storage"]["free"].as_f64() <= seen["storage"]["total"].as_f64(), "{seen}");

    // The copy is a database: beside its key a server starts with it.
    assert_eq!(server.orrery(&["user", "create", "late@example.test"]).status, 0);
    server.sigkill();
    let database = server.data().join("orrery.db");
    for suffix in ["", "-wal", "-shm"] {
        // Which of them there are depends on how the server ended.
        let _ = std::fs::remove_file(format!("{}{suffix}", database.display()));
    }
    std::fs::copy(copy, &database).unwrap();
    server.start_again();
    assert!(projects(&server, &server.token)["data"]["projects"].is_object());
    let gone = server.orrery(&["login-link", "--user", "late@example.test"]);
    assert!(gone.status == 1 && gone.stderr.contains("no user has the address"), "{gone:?}");
}

#[test]
fn the_operator_is_told_of_an_upgrade_that_is_installed_and_does_not_run() {
    let mut server = Server::start();
    server.sigterm();
    let program = server.dir.path().join("orrery");
    std::fs::copy(harness::exe(), &program).unwrap();
    server.start_again();
    let version = |server: &Server| {
        let seen = server.graphql_as(&server.token, "{ operator { health { name state meaning remedy } } }");
        let found = seen["data"]["operator"]["health"].as_array().unwrap().iter().find(|one| one["name"] == "version").cloned();
        found.unwrap_or_else(|| panic!("{seen}"))
    };
    assert_eq!(version(&server)["state"], "OK");

    let next = server.dir.path().join("orrery.next");
    std::fs::copy(harness::exe(), &next).unwrap();
    std::fs::rename(&next, &program).unwrap();
    let waits = version(&server);
    assert_eq!((&waits["state"], &waits["meaning"]), (&Value::from("WARN"), &Value::from("what was installed is not used yet")));
    assert!(waits["remedy"].as_str().unwrap().contains("restart"), "{waits}");

    server.sigterm();
    server.start_again();
    assert_eq!(version(&server)["state"], "OK");
}

#[test]
fn a_second_user_sees_nothing_of_the_first() {
    let server = Server::start();
    let site = server.dir.path().join("site");
    write(&site, &[("index.html", "private")]);
    let made = server.json(&site, &["init", "--name", "site", "--json"]);
    let project = made["id"].as_str().unwrap();
    assert_eq!(server.orrery(&["user", "create", "bob@example.test"]).status, 0);
    let bob = server.orrery(&["token", "create", "--user", "bob@example.test"]).stdout.trim().to_owned();
    let listed = server.orrery(&["token", "list", "--user", "bob@example.test"]).stdout;
    let id = listed.split_whitespace().next().unwrap();
    let raised = server.orrery(&["token", "update", id, "--per-second", "1000"]);
    assert_eq!(raised.status, 0, "whoever is at the server's shell may raise anybody's limits: {raised:?}");
    assert_eq!(projects(&server, &bob)["data"]["projects"]["edges"], serde_json::json!([]));
    let railway = |args: &[&str]| {
        let mut command = server.railway_command(&site, args);
        command.env("ORRERY_TOKEN", &bob);
        finish(command, &format!("railway {args:?} of another user"))
    };
    let listed = railway(&["list", "--json"]);
    assert!(listed.status == 0 && !listed.stdout.contains(project), "{listed:?}");
    for args in [&["status"][..], &["up", "--detach"], &["variables", "--json"], &["delete", "--project", project, "--yes", "--json"]] {
        let run = railway(args);
        assert_eq!(run.status, 1, "{args:?}: {run:?}");
    }
    assert!(projects(&server, &server.token).to_string().contains(project));
}

#[test]
fn settings_and_the_state_of_the_machine_are_shown() {
    let mut server = Server::start();
    let shown = server.orrery(&["config", "--show"]);
    assert_eq!(shown.status, 0, "{shown:?}");
    assert!(shown.stdout.contains("flag --data-dir") && shown.stdout.contains(&server.data().display().to_string()), "{shown:?}");

    let ports = |server: &Server| {
        let run = server.orrery(&["doctor", "--json"]);
        assert_eq!(run.status, 0, "{run:?}");
        let report: Value = serde_json::from_str(&run.stdout).unwrap();
        let checks = report["checks"].as_array().unwrap().clone();
        let found =
            |name: &str| checks.iter().find(|check| check["name"] == name).unwrap_or_else(|| panic!("{report}"))["found"].to_string();
        [found("port of the API"), found("port of apps")]
    };
    for found in ports(&server) {
        assert!(found.contains("is ours"), "{found}");
    }
    let mut other = std::process::Command::new(harness::exe());
    other.args(["doctor", "--json", "--listen", "127.0.0.1:0", "--edge-listen", &format!("127.0.0.1:{}", server.edge), "--data-dir"]);
    other.arg(server.dir.path().join("other"));
    let other = finish(other, "doctor of another data directory");
    let edge = format!("in use by the edge of {}", server.data().join("edge").display());
    assert!(other.status == 1 && other.stdout.contains(&edge), "{other:?}");
    let pid = server.pid();
    server.sigkill();
    let [api, _] = ports(&server);
    assert!(api.contains("is free"), "process {pid} has ended: {api}");
    let taken = std::net::TcpListener::bind(("127.0.0.1", server.api)).unwrap();
    let blocked = server.orrery(&["doctor"]);
    assert!(blocked.status != 0 && blocked.stdout.contains("port of the API"), "{blocked:?}");
    let refused = finish(server.orrery_command(&["serve"]), "serve on a taken port");
    assert!(refused.status == 1 && refused.stderr.contains("--listen"), "{refused:?}");
    drop(taken);

    // The operator's commands need no server.
    let token = server.orrery(&["token", "create"]).stdout.trim().to_owned();
    server.start_again();
    assert!(projects(&server, &token)["data"]["projects"].is_object());
}

#[test]
fn a_data_directory_has_one_server_and_one_key() {
    let mut server = Server::start();
    let second = finish(server.orrery_command(&["serve"]), "a second serve");
    assert_eq!(second.status, 1, "{second:?}");
    assert!(second.stderr.contains("another `orrery serve` uses"), "{second:?}");
    assert!(projects(&server, &server.token)["data"]["projects"].is_object(), "the first goes on");

    server.sigkill();
    let key = server.data().join("master.key");
    let right = std::fs::read_to_string(&key).unwrap();
    let attempt = |server: &Server, what: &str| {
        let run = finish(server.orrery_command(&["serve"]), what);
        assert_eq!(run.status, 1, "{what}: {run:?}");
        assert!(!run.stderr.contains(right.trim()), "{what}: {run:?}");
        run.stderr
    };
    std::fs::write(&key, "0123456789abcdef".repeat(4)).unwrap();
    assert!(attempt(&server, "another key").contains("encrypted with another master key"));
    let listed = server.orrery(&["token", "list"]);
    assert!(listed.status == 1 && listed.stderr.contains("another master key"), "{listed:?}");
    std::fs::write(&key, "too short").unwrap();
    assert!(attempt(&server, "no key at all").contains("64 hexadecimal digits"));
    std::fs::write(&key, &right).unwrap();
    harness::set_mode(&key, 0o644);
    assert!(attempt(&server, "a key that all can read").contains("chmod 600"));
    std::fs::remove_file(&key).unwrap();
    assert!(attempt(&server, "a lost key").contains("master.key"));
    assert!(!key.exists(), "no new key stands where the lost one must be put back");

    std::fs::write(&key, &right).unwrap();
    harness::set_mode(&key, 0o600);
    server.start_again();
    assert!(projects(&server, &server.token)["data"]["projects"].is_object());
}

#[test]
fn whoever_starts_it_is_told_that_apps_are_not_reached() {
    let mut server = Server::start();
    server.sigterm();
    for edge in server.processes("edge") {
        let _ = kill(Pid::from_raw(edge as i32), Signal::SIGKILL);
    }
    let taken =
        until("the port of the edge", || std::net::TcpListener::bind(("127.0.0.1", server.edge)).map_err(|error| error.to_string()));
    let serve = Live::start(server.orrery_command(&["serve"]));
    let seen = serve.wait_for("  Apps ");
    assert!(seen.contains("nobody reaches the apps") && !seen.contains("http://<service>"), "{seen}");
    let why = format!("cannot listen on 127.0.0.1:{}", server.edge);
    let seen = serve.wait_for("--edge-listen");
    assert!(seen.contains(&why), "{seen}");
    drop(taken);
    server.visit_until("nobody.localhost", "/", |answer| answer.status == 404);
}

/// The edge that has come in the place of those.
fn edge_after(server: &Server, before: &[u32]) -> Vec<u32> {
    until("one edge, and another", || match server.processes("edge") {
        now if now.len() == 1 && now != before => Ok(now),
        now => Err(format!("{now:?} after {before:?}")),
    })
}

#[test]
fn an_edge_of_another_program_or_for_another_domain_is_replaced() {
    let mut server = Server::start();
    let first = server.processes("edge");
    assert_eq!(first.len(), 1, "what says that the server is ready says that apps are reached");
    server.sigterm();
    server.start_again();
    assert_eq!(server.processes("edge"), first, "the same program goes on");

    server.sigterm();
    // The same program, written at another time: as an upgrade is.
    std::fs::copy(harness::exe(), server.dir.path().join("orrery")).unwrap();
    server.start_again();
    let second = edge_after(&server, &first);
    server.sigterm();
    server.start_again_with(&[("ORRERY_BASE_DOMAIN", "apps.test"), ("ORRERY_DNS_RESOLVER", "off")]);
    edge_after(&server, &second);
}

#[test]
fn commands_in_the_wrong_place_make_nothing() {
    let server = Server::start();
    let wrong = server.dir.path().join("wrong");
    for args in [&["login-link"][..], &["token", "list"], &["user", "create", "bob@example.test"], &["backup"]] {
        let mut command = std::process::Command::new(harness::exe());
        command.args(args).arg("--data-dir").arg(&wrong);
        let run = finish(command, &format!("orrery {args:?} in the wrong place"));
        assert!(run.status == 1 && run.stderr.contains("no server's data") && run.stderr.contains("--data-dir"), "{run:?}");
        assert!(!wrong.exists(), "{args:?}");
    }
    std::fs::create_dir(&wrong).unwrap();
    let mut command = std::process::Command::new(harness::exe());
    command.args(["login-link", "--data-dir"]).arg(&wrong);
    assert_eq!(finish(command, "login-link in an empty folder").status, 1);
    assert_eq!(std::fs::read_dir(&wrong).unwrap().count(), 0);
}

#[test]
fn a_newer_program_leaves_the_database_to_the_server() {
    let mut server = Server::start();
    let statement = "DELETE FROM refinery_schema_history WHERE version = (SELECT max(version) FROM refinery_schema_history)";
    let script = "import sqlite3, sys; c = sqlite3.connect(sys.argv[1], timeout=60); c.execute(sys.argv[2]); c.commit(); c.close()";
    let mut python = std::process::Command::new("python3");
    python.args(["-c", script]).arg(server.data().join("orrery.db")).arg(statement);
    assert_eq!(finish(python, "a database of an earlier program").status, 0);
    let refused = server.orrery(&["token", "list"]);
    assert!(refused.status == 1 && refused.stderr.contains("restart `orrery serve` first"), "{refused:?}");
    assert!(projects(&server, &server.token)["data"]["projects"].is_object(), "it goes on");
    assert!(!server.data().join("store-backups").exists());
    server.sigterm();
    // What the last migration has made is there, so that it fails; before that everything was copied, and not again at the next try.
    for _ in 0..2 {
        let serve = finish(server.orrery_command(&["serve"]), "serve");
        assert!(serve.status == 1 && serve.stderr.contains("could not be migrated"), "{serve:?}");
    }
    assert_eq!(std::fs::read_dir(server.data().join("store-backups")).unwrap().count(), 1);
}

#[test]
fn a_first_start_shows_its_credentials_wherever_they_can_be_kept() {
    let (dir, owner) = harness::folder::claim();
    let serve = |data: &str, config: &std::path::Path| {
        let mut command = std::process::Command::new(harness::exe());
        command.args(["serve", "--role", "api", "--listen", &format!("127.0.0.1:{}", harness::free_port()), "--data-dir"]);
        command.arg(dir.path().join(data)).env("XDG_CONFIG_HOME", config).env_remove("JOURNAL_STREAM");
        Live::start(command)
    };
    let nowhere = serve("one", std::path::Path::new("/dev/null/nowhere"));
    let seen = nowhere.wait_for("orrery login-link");
    assert!(seen.contains("  Login  http") && seen.contains("export TOKEN=orr_") && seen.contains("could not be kept"), "{seen}");

    let token = dir.path().join("orrery/token");
    write(dir.path(), &[("orrery/token", "orr_of_another\n")]);
    let other = serve("two", dir.path());
    let seen = other.wait_for("orrery token create");
    assert!(seen.contains("holds another token") && seen.contains(&token.display().to_string()), "{seen}");
    assert_eq!(std::fs::read_to_string(&token).unwrap(), "orr_of_another\n", "it may be of another server");
    drop((nowhere, other, dir));
    drop(owner);
}

#[test]
fn a_folder_that_is_used_for_something_else_keeps_its_permissions() {
    use std::os::unix::fs::PermissionsExt as _;
    let (dir, owner) = harness::folder::claim();
    let data = dir.path().join("mine");
    write(&data, &[("letter.txt", "mine")]);
    harness::set_mode(&data, 0o750);
    let mut command = std::process::Command::new(harness::exe());
    command.args(["serve", "--role", "api", "--listen", &format!("127.0.0.1:{}", harness::free_port()), "--data-dir"]).arg(&data);
    command.env("XDG_CONFIG_HOME", dir.path().join("config"));
    let serve = Live::start(command);
    serve.wait_for("its permissions stay as they are");
    serve.wait_for("  Apps ");
    assert_eq!(data.metadata().unwrap().permissions().mode() & 0o777, 0o750);
    drop((serve, dir));
    drop(owner);
}

#[test]
fn a_first_start_warns_of_nothing_that_settles_by_itself() {
    let server = Server::start();
    // The edge, which starts together with the engine, answers: the engine has tried to reach it before.
    server.visit_until("nobody.localhost", "/", |answer| answer.status == 404);
    let log = std::fs::read_to_string(server.dir.path().join("serve.log")).unwrap();
    assert!(!log.contains("the edge did not take"), "{log}");
}
