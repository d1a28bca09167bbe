//! What a person sees who watches: logs that go on, `up` on a terminal, and programs that run with a service's variables.

mod harness;

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use harness::{Hold, Live, Server, python, request, until, write};
use serde_json::json;

const HOST: &str = "talker-production.localhost";

/// Says on its standard output which path was asked for.
const APP: &str = r#"
print("talker is up", flush=True)
def answer(path):
    print("asked for " + path, flush=True)
    return "heard"
"#;

fn talker(server: &Server) -> PathBuf {
    let app = server.dir.path().join("talker");
    write(&app, &[("main.py", &python::app(APP)), ("Procfile", "web: python3 main.py\n")]);
    server.json(&app, &["init", "--name", "talker", "--json"]);
    app
}

#[test]
fn up_on_a_terminal_shows_the_build_the_success_and_then_the_app() {
    let server = Server::start();
    let app = talker(&server);
    let (first, second) = (Hold::begin(), Hold::begin());
    let build = format!("echo first step; {}; echo second step; {}", first.command(), second.command());
    write(&app, &[("railway.json", &json!({"build": {"buildCommand": build}}).to_string())]);
    let up = Live::start(server.terminal_command(&app, "up"));
    // The log and the status come by two sockets: each step is seen before the build goes on.
    up.wait_for("\r\nfirst step");
    drop(first);
    up.wait_for("\r\nsecond step");
    drop(second);
    up.wait_for("Deploy complete");
    let seen = up.wait_for("talker is up");
    let place = |words: &str| seen.find(words).unwrap_or_else(|| panic!("{words} in {seen}"));
    assert!(place("\r\nfirst step") < place("\r\nsecond step"), "{seen}");
    assert!(place("\r\nsecond step") < place("Deploy complete"), "{seen}");
    assert_eq!(server.visit(HOST, "/while-watching").body, "heard");
    up.wait_for("asked for /while-watching");
    assert_eq!(up.seen().matches("asked for /while-watching").count(), 1, "{}", up.seen());
}

#[test]
fn logs_replay_what_was_and_follow_what_comes() {
    let server = Server::start();
    let app = talker(&server);
    server.ok(&app, &["up", "--ci"]);
    server.ok(&app, &["service", "link", "talker"]);
    server.visit(HOST, "/before");

    let logs = Live::start(server.terminal_command(&app, "logs"));
    logs.wait_for("asked for /before");
    for turn in 0..20 {
        server.visit(HOST, &format!("/turn-{turn}-"));
    }
    let seen = logs.wait_for("asked for /turn-19-");
    let turns: Vec<&str> = seen.lines().filter(|line| line.contains("/turn-")).collect();
    let expected: Vec<String> = (0..20).map(|turn| format!("asked for /turn-{turn}-")).collect();
    assert_eq!(turns, expected, "each line once and in order");

    let only = server.ok(&app, &["logs", "--deployment", "--filter", "\"turn-7-\"", "--lines", "10"]);
    assert_eq!(only.trim(), "asked for /turn-7-");
}

#[test]
fn a_build_can_be_watched_while_it_runs() {
    let server = Server::start();
    let app = server.dir.path().join("slow");
    write(&app, &[("index.html", "built"), ("railway.json", "{}")]);
    server.json(&app, &["init", "--name", "slow", "--json"]);
    server.ok(&app, &["up", "--ci"]);
    server.ok(&app, &["service", "link", "slow"]);
    let seen = Hold::begin();
    let build = format!("echo stage one; {}; echo stage two", seen.command());
    write(&app, &[("railway.json", &json!({"build": {"buildCommand": build}}).to_string())]);
    server.json(&app, &["up", "--detach", "--json"]);
    let watched = Live::start(server.terminal_command(&app, "logs --build --latest"));
    watched.wait_for("\r\nstage one");
    drop(seen);
    watched.wait_for("\r\nstage two");
    let seen = watched.wait_for("Build time");
    assert_eq!(seen.matches("\r\nstage one").count(), 1, "{seen}");
}

#[test]
fn programs_run_with_the_variables_and_nothing_of_ours() {
    let server = Server::start();
    let app = talker(&server);
    server.json(&app, &["add", "--service", "talker", "--json"]);
    server.ok(&app, &["service", "link", "talker"]);
    server.json(&app, &["variable", "set", "GREETING=hello there", "--skip-deploys", "--json"]);

    let script = "echo \"<$GREETING>\"; echo \"token=$RAILWAY_API_TOKEN proxy=$HTTPS_PROXY home=$HOME\"; exit 4\n";
    let mut command = server.railway_command(&app, &["shell", "--silent"]);
    let mut shell = command.env("SHELL", "/bin/sh").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    shell.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
    let output = shell.wait_with_output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("<hello there>"), "{output:?}");
    assert!(text.contains(&format!("token= proxy= home={}\n", server.dir.path().join("home").display())), "{text}");

    let run = server.railway(&app, &["run", "--", "sh", "-c", "echo \"$GREETING $RAILWAY_SERVICE_NAME\"; exit 9"]);
    assert_eq!((run.stdout.trim(), run.status), ("hello there talker", 9), "{run:?}");
    let missing = server.railway(&app, &["run", "--", "/no/such/program"]);
    assert_ne!(missing.status, 0, "{missing:?}");
    let none = server.railway(&app, &["connect", "talker"]);
    assert_eq!(none.status, 1, "{none:?}");
    assert!(none.stderr.contains("No supported database"), "{none:?}");
}

#[test]
fn railway_ssh_runs_programs_in_a_container_and_has_a_terminal() {
    let server = Server::start_unlimited();
    let app = talker(&server);
    server.ok(&app, &["up", "--ci"]);
    server.ok(&app, &["service", "link", "talker"]);
    server.visit_until(HOST, "/", |answer| answer.body == "heard");

    let run = server.railway(&app, &["ssh", "--", "cat", "Procfile"]);
    assert_eq!((run.status, run.stdout.as_str()), (0, "web: python3 main.py\n"), "{run:?}");
    let run = server.railway(&app, &["ssh", "--service", "talker", "--", "echo $RAILWAY_SERVICE_NAME; echo apart >&2; exit 7"]);
    assert_eq!((run.status, run.stdout.as_str()), (7, "talker\n"), "{run:?}");
    assert!(run.stderr.contains("apart"), "{run:?}");

    // Both ways at once, and more than any buffer on the way holds.
    let mut command = server.railway_command(&app, &["ssh", "--", "cat"]);
    let mut cat = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut input = cat.stdin.take().unwrap();
    let sent: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    let text = sent.clone();
    let typing = std::thread::spawn(move || input.write_all(&text));
    let output = cat.wait_with_output().unwrap();
    typing.join().unwrap().unwrap();
    assert!(output.status.success() && output.stdout == sent, "{} bytes came back: {:?}", output.stdout.len(), output.stderr);

    let shell = Live::start(server.terminal_command(&app, "ssh -- 'stty size >/dev/null && test -t 1 && echo on-a-terminal; exit 5'"));
    shell.wait_for("on-a-terminal");
    assert_eq!(shell.end().0, 5);
    let mut shell = Live::start(server.terminal_command(&app, "ssh"));
    shell.types("echo typed-$((2+3))\n");
    shell.wait_for("typed-5");
    shell.types("exit 6\n");
    assert_eq!(shell.end().0, 6);
    let nowhere = "0193a1b2-0000-7000-8000-000000000000";
    let none = server.railway(&app, &["ssh", "--deployment-instance", nowhere, "--", "true"]);
    assert!(none.status == 255 && none.stderr.to_lowercase().contains("not found"), "{none:?}");
}

#[test]
fn a_shell_ends_with_its_container_and_is_written_down_without_what_was_said() {
    let server = Server::start_unlimited();
    let app = talker(&server);
    server.ok(&app, &["up", "--ci"]);
    server.ok(&app, &["service", "link", "talker"]);
    server.visit_until(HOST, "/", |answer| answer.body == "heard");
    let ask = |query: &str| {
        let answer = server.graphql(query);
        assert!(answer["errors"].is_null(), "{answer}");
        answer["data"].clone()
    };
    let all = ask("{ projects { edges { node { id environments { edges { node { id } } } services { edges { node { id } } } } } } }");
    let project = &all["projects"]["edges"][0]["node"];
    let id = |list: &str| project[list]["edges"][0]["node"]["id"].as_str().unwrap().to_owned();
    let place = format!("environmentId: \"{}\", serviceId: \"{}\"", id("environments"), id("services"));
    let container = ask(&format!("{{ containers({place}) {{ id }} }}"))["containers"][0]["id"].as_str().unwrap().to_owned();

    // What a browser asks that was refused.
    let created = server.orrery(&["user", "create", "eve@example.test"]);
    assert_eq!(created.status, 0, "{created:?}");
    let eve = server.orrery(&["token", "create", "--user", "eve@example.test"]).stdout.trim().to_owned();
    let path = format!("/graphql/v2/shell/{container}");
    let look = |token: Option<&str>| {
        let bearer = format!("Bearer {}", token.unwrap_or_default());
        let headers = [("authorization", bearer.as_str())];
        request(server.api, "GET", "localhost", &path, &headers[..usize::from(token.is_some())], b"").status
    };
    assert_eq!((look(None), look(Some(&eve)), look(Some(&server.token))), (401, 404, 426));

    let shell = Live::start(server.terminal_command(&app, "ssh -- 'echo in-$((1+1)); sleep 1000 # canary-line'"));
    shell.wait_for("in-2");
    ask(&format!("mutation {{ containerKill({place}, id: \"{container}\") }}"));
    assert_eq!(shell.end().0, 137);
    let log = "{ me { workspaces { id } } }";
    let workspace = ask(log)["me"]["workspaces"][0]["id"].as_str().unwrap().to_owned();
    let query = format!("{{ auditLogs(workspaceId: \"{workspace}\", first: 50) {{ edges {{ node {{ eventType payload context }} }} }} }}");
    let text = until("the end of the shell in the audit log", || {
        let text = ask(&query).to_string();
        if text.contains("container_shell_end") { Ok(text) } else { Err(text) }
    });
    assert!(text.contains("\"container_shell\"") && !text.contains("canary-line"), "{text}");
}
