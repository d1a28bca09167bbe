//! What goes on when a process of the platform is killed.

mod harness;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use harness::{Server, folder, python, until, write};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const HOST: &str = "app-production.localhost";

const APP: &str = r#"
import os, threading, time
ticks = [0]
def count():
    while True:
        print(f"tick {ticks[0]}", flush=True)
        ticks[0] += 1
        time.sleep(0.02)
threading.Thread(target=count, daemon=True).start()
def answer(path):
    return str(ticks[0]) if path == "/ticks" else os.environ["RAILWAY_REPLICA_ID"]
"#;

fn deployed() -> Server {
    let server = Server::start();
    deploy(&server);
    server
}

fn deploy(server: &Server) {
    let app = server.dir.path().join("app");
    write(&app, &[("main.py", &python::app(APP)), ("requirements.txt", "")]);
    server.json(&app, &["init", "--name", "app", "--json"]);
    server.ok(&app, &["up", "--ci"]);
    server.ok(&app, &["service", "link", "app"]);
}

/// How many lines the app has written.
fn ticks(server: &Server) -> u64 {
    let answer = server.visit(HOST, "/ticks");
    answer.body.parse().unwrap_or_else(|error| panic!("{error}: {answer:?}"))
}

fn sigkill(pid: u32) {
    kill(Pid::from_raw(pid as i32), Signal::SIGKILL).unwrap();
}

#[test]
fn killing_serve_under_load_loses_no_request_and_no_line() {
    let mut server = deployed();
    let before = (server.visit(HOST, "/").body, app_pid(&server));
    let load = Command::new("wrk")
        .args(["-t1", "-c8", "-d6s", "--timeout", "30s", "-H", &format!("Host: {HOST}"), &format!("http://127.0.0.1:{}/", server.edge)])
        .stdout(Stdio::piped())
        .spawn()
        .expect("wrk is not installed: apt-get install wrk");
    std::thread::sleep(std::time::Duration::from_secs(1));
    server.sigkill();
    let killed_at = ticks(&server);
    std::thread::sleep(std::time::Duration::from_secs(2));
    server.start_again();
    let back_at = ticks(&server);
    let output = load.wait_with_output().unwrap();
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    let answered = report.lines().find_map(|line| line.trim().split_once(" requests in ")?.0.parse::<u64>().ok());
    assert!(answered > Some(0), "{report}");
    assert!(!report.contains("Non-2xx") && !report.contains("Socket errors"), "{report}");

    assert_eq!((server.visit(HOST, "/").body, app_pid(&server)), before, "the same process of the same replica was adopted");
    let app = server.dir.path().join("app");
    let lines = until("a log from before the end of serve to after its return", || {
        let log = server.ok(&app, &["logs", "--deployment", "--lines", "5000", "--json"]);
        let lines: Vec<u64> = log
            .lines()
            .filter_map(|line| {
                serde_json::from_str::<serde_json::Value>(line).ok()?["message"].as_str()?.strip_prefix("tick ")?.parse().ok()
            })
            .collect();
        let whole = lines.first().is_some_and(|first| *first <= killed_at) && lines.last().is_some_and(|last| *last >= back_at);
        if whole { Ok(lines) } else { Err(format!("{:?} to {:?}, not {killed_at} to {back_at}", lines.first(), lines.last())) }
    });
    for pair in lines.windows(2) {
        assert_eq!(pair[1], pair[0] + 1, "the log has no gap and no line twice");
    }
}

/// A control group as systemd makes one for each service.
struct Service(PathBuf);

impl Service {
    /// Puts a process into a group. `None` where this user may not make groups.
    fn with(pid: u32) -> Option<Self> {
        let tree =
            ["/sys/fs/cgroup/systemd", "/sys/fs/cgroup"].into_iter().map(Path::new).find(|path| path.join("cgroup.procs").exists())?;
        let service = Self(tree.join(format!("orrery-test-{}", std::process::id())));
        std::fs::create_dir(&service.0).ok()?;
        std::fs::write(service.0.join("cgroup.procs"), pid.to_string()).ok()?;
        Some(service)
    }

    fn members(&self) -> Vec<u32> {
        std::fs::read_to_string(self.0.join("cgroup.procs")).unwrap().lines().map(|pid| pid.parse().unwrap()).collect()
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // It is empty unless the test has failed.
        let _ = std::fs::remove_dir(&self.0);
    }
}

#[test]
fn apps_and_traffic_go_on_when_the_service_manager_ends_the_service() {
    let mut server = Server::start();
    let Some(service) = Service::with(server.pid()) else {
        println!("skipped: this machine lets nobody make control groups");
        return;
    };
    // The next edge begins in the group of the service.
    sigkill(until("the edge, which starts beside what says that the server is ready", || match server.processes("edge").as_slice() {
        [edge] => Ok(*edge),
        others => Err(format!("{others:?}")),
    }));
    deploy(&server);
    let replica = server.visit_until(HOST, "/", |answer| answer.status == 200).body;
    assert!(service.members().contains(&server.pid()), "{:?}", service.members());
    for pid in service.members() {
        // What a build has left may have ended meanwhile.
        let _ = kill(Pid::from_raw(pid as i32), Signal::SIGKILL);
    }
    server.sigkill();
    until("the end of all that is in the group", || match service.members() {
        left if left.is_empty() => Ok(()),
        left => Err(format!("{left:?}")),
    });
    assert_eq!(server.visit(HOST, "/").body, replica, "the edge and the app are not in it");
    server.start_again();
    assert_eq!(server.visit(HOST, "/").body, replica, "and are found again");
}

#[test]
fn a_killed_supervisor_is_replaced_and_leaves_no_app_behind() {
    let server = deployed();
    let before = server.visit(HOST, "/").body;
    let app = app_pid(&server);
    let shims = server.processes("shim");
    assert_eq!(shims.len(), 1, "{shims:?}");
    sigkill(shims[0]);
    let after = server.visit_until(HOST, "/", |answer| answer.status == 200 && answer.body != before);
    assert_ne!(after.body, before);
    until("one supervisor", || {
        let shims = server.processes("shim");
        if shims.len() == 1 { Ok(()) } else { Err(format!("{shims:?}")) }
    });
    until("the end of the app that lost its supervisor", || {
        // One that has ended and was not waited for has no command line any more.
        let command = std::fs::read_to_string(format!("/proc/{app}/cmdline")).unwrap_or_default();
        if command.is_empty() { Ok(()) } else { Err(command) }
    });
}

#[test]
fn a_killed_app_is_started_again() {
    let server = deployed();
    let before = server.visit(HOST, "/").body;
    let pid = app_pid(&server);
    sigkill(pid);
    server.visit_until(HOST, "/", |answer| answer.status == 200 && answer.body == before);
    assert_ne!(app_pid(&server), pid);
}

/// The app's own process: the one that was given the replica's variables and runs its program.
fn app_pid(server: &Server) -> u32 {
    until("the app's process", || {
        let replica = server.visit(HOST, "/").body;
        let mark = format!("RAILWAY_REPLICA_ID={replica}");
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let mut pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let runs = |pid: &u32| {
            let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let variables = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            command.contains("main.py") && !command.starts_with("sh\0") && String::from_utf8_lossy(&variables).contains(&mark)
        };
        pids.find(runs).ok_or_else(|| format!("no process has {mark}"))
    })
}

#[test]
fn a_killed_edge_is_started_again_with_its_table() {
    let server = deployed();
    let edges = server.processes("edge");
    assert_eq!(edges.len(), 1, "{edges:?}");
    sigkill(edges[0]);
    server.visit_until(HOST, "/", |answer| answer.status == 200);
    assert_ne!(server.processes("edge"), edges);
}

#[test]
fn a_stopped_and_started_server_serves_what_it_served() {
    let mut server = deployed();
    let replica = server.visit(HOST, "/").body;
    let status = server.sigterm();
    assert_eq!(status.code(), Some(0), "{status}");
    assert_eq!(server.visit(HOST, "/").body, replica, "apps go on without the control plane");
    server.start_again();
    assert_eq!(server.visit(HOST, "/").body, replica, "and are found again");
}

#[test]
fn the_operator_ends_all_that_goes_on_without_the_server() {
    let mut server = deployed();
    let refused = server.orrery(&["stop", "--apps"]);
    assert!(refused.status == 1 && refused.stderr.contains("would start them again"), "{refused:?}");
    assert_eq!(server.visit(HOST, "/").status, 200);
    server.sigterm();
    let unclear = server.orrery(&["stop"]);
    assert!(unclear.status == 1 && unclear.stderr.contains("--apps"), "{unclear:?}");
    let ended = server.orrery(&["stop", "--apps"]);
    assert!(ended.status == 0 && ended.stdout.starts_with("1 running copies of apps have ended, the edge has ended"), "{ended:?}");
    for kind in ["edge", "shim"] {
        until(&format!("the end of every {kind}"), || match server.processes(kind) {
            left if left.is_empty() => Ok(()),
            left => Err(format!("{left:?}")),
        });
    }
    let again = server.orrery(&["stop", "--apps"]);
    assert!(again.status == 0 && again.stdout.starts_with("0 running copies of apps have ended, no edge ran"), "{again:?}");
    server.start_again();
    server.visit_until(HOST, "/", |answer| answer.status == 200);
}

#[test]
fn a_test_that_was_killed_leaves_nothing_to_the_next() {
    let place = tempfile::tempdir().unwrap();
    let left = |name: &str| {
        let dir = place.path().join(format!("orrery-e2e-{name}"));
        std::fs::create_dir(&dir).unwrap();
        (File::create(dir.join("owner")).unwrap(), dir)
    };
    let ((owner, needed), (_, forgotten)) = (left("needed"), left("forgotten"));
    owner.lock().unwrap();
    let process = |dir: &Path| {
        let child = Command::new("tail").arg("-f").arg(dir.join("owner")).spawn().unwrap();
        // The kernel lets the parent go on a moment before the child's command line can be read.
        while std::fs::read(format!("/proc/{}/cmdline", child.id())).unwrap().is_empty() {
            std::thread::yield_now();
        }
        child
    };
    let (mut alive, mut orphan) = (process(&needed), process(&forgotten));
    folder::sweep(place.path());
    assert!(needed.exists() && !forgotten.exists());
    assert_eq!(orphan.wait().unwrap().code(), None, "it was ended by a signal");
    assert!(alive.try_wait().unwrap().is_none(), "what a test still needs goes on");
    alive.kill().unwrap();
    alive.wait().unwrap();
}
