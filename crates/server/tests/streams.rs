//! What a person sees who watches: logs that go on, `up` on a terminal, and programs that run with a service's variables.

mod harness;

use std::io::Write;
use std::path::PathBuf;
use std::process::Stdio;

use harness::{Live, Server, write};

const HOST: &str = "talker-production.localhost";

/// Says on its standard output which path was asked for.
const APP: &str = r#"
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        print("asked for " + self.path, flush=True)
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"heard")
    def log_message(self, *args):
        pass
print("talker is up", flush=True)
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

fn talker(server: &Server) -> PathBuf {
    let app = server.dir.path().join("talker");
    write(&app, &[("main.py", APP), ("Procfile", "web: python3 main.py\n")]);
    server.json(&app, &["init", "--name", "talker", "--json"]);
    app
}

#[test]
fn up_on_a_terminal_shows_the_build_the_success_and_then_the_app() {
    let server = Server::start();
    let app = talker(&server);
    write(&app, &[("railway.json", r#"{"build":{"buildCommand":"echo first step; sleep 1; echo second step"}}"#)]);
    let up = Live::start(server.terminal_command(&app, "up"));
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
    write(&app, &[("railway.json", r#"{"build":{"buildCommand":"echo stage one; sleep 3; echo stage two"}}"#)]);
    server.json(&app, &["up", "--detach", "--json"]);
    let watched = Live::start(server.terminal_command(&app, "logs --build --latest"));
    watched.wait_for("stage one");
    watched.wait_for("stage two");
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
