//! What running apps use and answer, as a person sees it: by the Railway CLI, under load, across a restart.

mod harness;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use domain::{EnvironmentId, ServiceId, Tenant, Timestamp, WorkspaceId};
use harness::{Live, Server, until, write};
use serde_json::Value;
use telemetry::metrics::{Point, Resolution, Series};
use telemetry::{Telemetry, TelemetryConfig};

const HOST: &str = "worker-production.localhost";
const MB: f64 = 1_048_576.0;

/// Burns processor time, takes memory, or keeps its visitor waiting.
const APP: &str = r#"
import http.server, os, time
kept = []
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        status = 200
        if self.path == "/burn":
            end = time.monotonic() + 0.3
            while time.monotonic() < end:
                pass
        elif self.path == "/grow":
            kept.append(bytearray(os.urandom(1)) * (80 << 20))
        elif self.path == "/hold":
            time.sleep(30)
        elif self.path != "/":
            status = 404
        self.send_response(status)
        self.end_headers()
        self.wfile.write(b"done")
    def log_message(self, *args):
        pass
http.server.ThreadingHTTPServer(("0.0.0.0", int(os.environ["PORT"])), Handler).serve_forever()
"#;

struct App {
    folder: PathBuf,
    workspace: WorkspaceId,
    environment: EnvironmentId,
    service: ServiceId,
}

fn deploy(server: &Server) -> App {
    let folder = server.dir.path().join("worker");
    write(&folder, &[("main.py", APP), ("Procfile", "web: python3 main.py\n")]);
    server.json(&folder, &["init", "--name", "worker", "--json"]);
    server.ok(&folder, &["up", "--ci"]);
    server.ok(&folder, &["service", "link", "worker"]);
    server.visit_until(HOST, "/", |answer| answer.status == 200);
    let found = server.graphql(
        "{ projects { edges { node { workspaceId environments { edges { node { id } } } services { edges { node { id } } } } } } }",
    );
    let node = &found["data"]["projects"]["edges"][0]["node"];
    let id = |value: &Value| value.as_str().unwrap_or_else(|| panic!("no id in {found}")).parse().unwrap();
    App {
        folder,
        workspace: WorkspaceId(id(&node["workspaceId"])),
        environment: EnvironmentId(id(&node["environments"]["edges"][0]["node"]["id"])),
        service: ServiceId(id(&node["services"]["edges"][0]["node"]["id"])),
    }
}

/// The measured points of the last minutes, newest first.
fn points(server: &Server, app: &App) -> Vec<Point> {
    // As another process would read them.
    let config = TelemetryConfig { dir: server.data().join("telemetry"), retain_days: 1, retain_bytes: 1 << 30 };
    let store = Telemetry::open(config).unwrap();
    let wanted = [Series::Instance(app.environment, app.service)];
    let tenant = Tenant::system(app.workspace);
    let mut found = store.metrics().series(tenant, &wanted, Resolution::FiveSeconds, 240, Timestamp::now()).unwrap().remove(0);
    found.retain(|point| point.measured);
    found
}

fn newest(server: &Server, app: &App, what: &str, wanted: impl Fn(&Point) -> bool) -> Point {
    until(what, || {
        let points = points(server, app);
        points.first().copied().filter(|point| wanted(point)).ok_or_else(|| format!("{:?}", points.first()))
    })
}

/// Requests one after the other until the flag falls.
fn keep_asking(edge: u16, path: &'static str, go_on: &'static AtomicBool) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        while go_on.load(Ordering::Relaxed) {
            harness::request(edge, "GET", HOST, path, &[], b"");
        }
    })
}

#[test]
fn usage_moves_with_the_load_and_survives_a_restart() {
    static GO_ON: AtomicBool = AtomicBool::new(true);
    let mut server = Server::start();
    let app = deploy(&server);
    let idle = newest(&server, &app, "a measurement at rest", |point| point.usage.cpu < 0.2 && point.usage.memory > 0.0);
    assert!((1.0 * MB..200.0 * MB).contains(&idle.usage.memory), "{idle:?}");
    assert!(idle.usage.cpu_limit > 0.0 && idle.usage.memory_limit > idle.usage.memory, "{idle:?}");

    assert_eq!(server.visit(HOST, "/grow").status, 200);
    let burning: Vec<_> = (0..2).map(|_| keep_asking(server.edge, "/burn", &GO_ON)).collect();
    let holding: Vec<_> = (0..5).map(|_| keep_asking(server.edge, "/hold", &GO_ON)).collect();
    let busy = newest(&server, &app, "a measurement under load", |point| {
        point.usage.cpu > idle.usage.cpu + 0.1 && point.usage.memory > idle.usage.memory + 60.0 * MB && point.usage.connections >= 5.0
    });
    assert!(busy.usage.cpu <= 2.2 && busy.usage.connections <= 8.0, "{busy:?}");
    GO_ON.store(false, Ordering::Relaxed);
    newest(&server, &app, "a measurement after the load", |point| point.usage.cpu < busy.usage.cpu / 2.0);

    // What was measured before a crash of the control plane is there after it, and measuring goes on.
    let before = points(&server, &app);
    server.sigkill();
    server.start_again();
    let after = until("measurements after the restart", || {
        let after = points(&server, &app);
        if after[0].at > before[0].at + 10 { Ok(after) } else { Err(format!("{:?}", after[0])) }
    });
    // What an edge that was asked in vain has counted in an interval comes with the next one.
    let more = |now: &Point, then: &Point| now.network_rx >= then.network_rx && now.network_tx >= then.network_tx;
    let kept = |then: &Point| after.iter().any(|now| now.at == then.at && now.usage == then.usage && more(now, then));
    assert!(before.iter().all(kept), "{before:?}\n{after:?}");
    for thread in burning.into_iter().chain(holding) {
        thread.join().unwrap();
    }
}

#[test]
fn the_command_line_shows_metrics_and_requests() {
    let server = Server::start_unlimited();
    let app = deploy(&server);
    let folder: &Path = &app.folder;
    for path in ["/", "/", "/missing"] {
        server.visit(HOST, path);
    }
    // Shown once an interval is over.
    let metrics = until("metrics in the CLI", || {
        let found = server.json(folder, &["metrics", "--json"]);
        let is_there = found["http"]["4xx"] == 1 && found["cpu"].is_object();
        if is_there { Ok(found) } else { Err(found.to_string()) }
    });
    assert!(metrics["memory"]["current_mb"].as_f64().is_some_and(|mb| mb > 0.0), "{metrics}");
    assert!(metrics["http"]["2xx"].as_i64().is_some_and(|requests| requests >= 2), "{metrics}");
    let all = server.json(folder, &["metrics", "--all", "--json"]);
    assert!(all.to_string().contains("worker"), "{all}");
    let raw = server.json(folder, &["metrics", "--raw", "--json", "--cpu", "--memory"]);
    assert!(raw["measurements"].to_string().contains("\"ts\""), "{raw}");
    let of_path = server.json(folder, &["metrics", "--http", "--json", "--path", "/missing"]);
    assert!(of_path.to_string().contains("404") || of_path.to_string().contains("4xx"), "{of_path}");

    let logs = |more: &[&str]| -> Vec<Value> {
        let text = server.ok(folder, &[&["logs", "--http", "--json", "--lines", "50"], more].concat());
        text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    };
    // The edge hands its lines over by itself, in no strict order.
    let logged = |count: usize, more: &[&str]| {
        until("requests in the log", || {
            let found = logs(more);
            if found.len() >= count { Ok(found) } else { Err(format!("{found:?}")) }
        })
    };
    let missing = logged(1, &["--status", ">=400"]);
    assert_eq!(missing.len(), 1, "{missing:?}");
    assert_eq!((missing[0]["path"].as_str(), missing[0]["httpStatus"].as_i64()), (Some("/missing"), Some(404)));
    logged(3, &["--method", "GET", "--path", "/"]);
    assert!(logs(&["--filter=-@method:GET"]).is_empty());

    let live = Live::start(server.terminal_command(folder, "logs --http"));
    // The CLI says nothing when it listens.
    until("a request in the live log", || {
        server.visit(HOST, "/watched");
        let seen = live.seen();
        if seen.contains("/watched") { Ok(()) } else { Err(seen) }
    });
}
