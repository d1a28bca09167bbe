//! The process driver with real supervisors and real apps.

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use domain::ReplicaId;
use domain::spec::{RestartPolicy, RunPlan};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime::process::ProcessDriver;
use runtime::{Driver, DriverError, Observation, ObservedPhase, VolumeMount};
use support::*;

fn send(pid: u32, signal: Signal) {
    kill(Pid::from_raw(pid.try_into().expect("a number")), signal).expect("a process");
}

fn supervisor(place: &Place, id: ReplicaId) -> u32 {
    let text = std::fs::read_to_string(place.replica(id).join("state.json")).expect("a state");
    let state: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    state["supervisor"]["pid"].as_u64().and_then(|pid| pid.try_into().ok()).expect("a process")
}

async fn app(driver: &ProcessDriver, id: ReplicaId) -> u32 {
    wait(driver, id, |seen| seen.app_pid.is_some()).await.app_pid.expect("a process")
}

async fn stop(driver: &ProcessDriver, id: ReplicaId) {
    driver.stop(id, Duration::ZERO).await.expect("a stop");
    wait(driver, id, |seen| seen.phase.is_over()).await;
}

/// The process is gone, or only waits for its parent to take notice.
async fn is_gone(driver: &ProcessDriver, id: ReplicaId, pid: u32) {
    let gone = |_: &Observation| std::fs::read_to_string(format!("/proc/{pid}/stat")).map_or(true, |stat| stat.contains(") Z "));
    wait(driver, id, gone).await;
}

#[tokio::test]
async fn a_killed_supervisor_takes_its_app_along_and_is_seen_as_lost() {
    let place = Place::new();
    let driver = place.driver();
    let mut spec = place.spec("sleep 1000 & echo up; wait");
    spec.restart = RestartPolicy::Always;
    let id = spec.replica_id;
    driver.start(spec).await.expect("a start");
    let pid = app(&driver, id).await;
    hear(&place, &driver, id, "up").await;
    assert!(matches!(driver.forget(id).await, Err(DriverError::Alive(_))));

    let mut bell = driver.bell();
    bell.mark_unchanged();
    send(supervisor(&place, id), Signal::SIGKILL);
    tokio::time::timeout(PATIENCE, bell.changed()).await.expect("a ring").expect("a bell");
    wait(&driver, id, |seen| seen.phase == ObservedPhase::Lost).await;
    is_gone(&driver, id, pid).await;
    driver.forget(id).await.expect("nothing lives there");
    assert!(driver.observe().await.expect("an observation").is_empty());
    assert!(!place.replica(id).exists());
}

/// As when the machine has no more open files: who took it for an end would start another one over the same volume.
#[tokio::test]
async fn what_cannot_be_read_is_not_taken_for_an_end() {
    let place = Place::new();
    let driver = place.driver();
    let spec = place.spec("echo up; exec sleep 1000");
    let id = spec.replica_id;
    driver.start(spec).await.expect("a start");
    let pid = app(&driver, id).await;
    hear(&place, &driver, id, "up").await;
    let file = |name: &str| place.replica(id).join(name);
    let hide = |name: &str| {
        std::fs::rename(file(name), file("hidden")).expect("a file");
        std::os::unix::fs::symlink(name, file(name)).expect("a link to itself");
    };
    let show = |name: &str| std::fs::rename(file("hidden"), file(name)).expect("a file");

    hide("state.json");
    assert!(matches!(driver.observe().await, Err(DriverError::Storage { .. })));
    assert!(driver.forget(id).await.is_err());
    show("state.json");
    let seen = wait(&driver, id, |_| true).await;
    assert_eq!((seen.phase, seen.app_pid), (ObservedPhase::Running, Some(pid)));

    // Neither who supervises it nor which volume it has; another driver has not seen it before.
    let other = place.driver();
    hide("spec.json");
    assert!(matches!(other.observe().await, Err(DriverError::Storage { .. })));
    std::fs::rename(file("state.json"), file("state")).expect("a file");
    assert!(matches!(other.observe().await, Err(DriverError::Storage { .. })));
    assert!(other.forget(id).await.is_err());
    std::fs::rename(file("state"), file("state.json")).expect("a file");
    show("spec.json");
    stop(&driver, id).await;
}

/// A server that is prepared through a socket of its own before the public one runs, and only when there is something new to tell it.
#[test]
fn a_step_may_have_a_server_of_its_own() {
    const SERVER: &str = r#"#!/usr/bin/env python3
import os, socket, sys

if sys.argv[1] == "public":
    print("public", open(os.environ["VOL"] + "/heard").read(), flush=True)
    sys.exit(0)
listener = socket.socket(socket.AF_UNIX)
if os.path.exists(sys.argv[2]):
    os.unlink(sys.argv[2])
listener.bind(sys.argv[2])
listener.listen()
while True:
    peer, _ = listener.accept()
    with open(os.environ["VOL"] + "/heard", "ab") as file:
        file.write(peer.recv(100))
    peer.close()
"#;
    const TELLER: &str = r#"#!/usr/bin/env python3
import socket, sys

peer = socket.socket(socket.AF_UNIX)
peer.connect(sys.argv[1])
peer.sendall(open(sys.argv[2], "rb").read())
peer.shutdown(socket.SHUT_WR)
peer.recv(1)
"#;
    let folder = tempfile::tempdir().expect("a folder");
    let place = |name: &str| folder.path().join(name);
    for (name, text) in [("a-server", SERVER), ("a-teller", TELLER)] {
        std::fs::write(place(name), text).expect("a program");
        std::fs::set_permissions(place(name), std::fs::Permissions::from_mode(0o755)).expect("permissions");
    }
    let plan = serde_json::json!({
        "programs": ["a-server"],
        "package": "none",
        "folders": [folder.path()],
        "files": {"${RUN}/words": "${WORD}."},
        "prepare": [{
            "remembers": "${VOLUME}/.told",
            "server": {"args": ["beside", "${RUN}/socket"], "socket": "${RUN}/socket"},
            "commands": [{"program": "a-teller", "args": ["${RUN}/socket", "${RUN}/words"]}],
        }],
        "start": ["public"],
    });
    let launch = |word: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_runtime-testbin"));
        command.args([runtime::LAUNCH, &plan.to_string(), "VOL"]).env("TMPDIR", folder.path()).env("VOL", folder.path()).env("WORD", word);
        let done = command.output().expect("a launch");
        assert!(done.status.success(), "{done:?}");
        String::from_utf8_lossy(&done.stdout).trim().to_owned()
    };
    assert_eq!(launch("first"), "public first.");
    assert_eq!(launch("first"), "public first.", "it was told that already");
    assert_eq!(launch("second"), "public first.second.", "what a file of the plan says counts");
}

#[tokio::test]
async fn a_killed_app_is_started_again() {
    let place = Place::new();
    let driver = place.driver();
    let mut spec = place.spec("echo up; exec sleep 1000");
    (spec.restart, spec.max_retries) = (RestartPolicy::OnFailure, 10);
    let id = spec.replica_id;
    driver.start(spec.clone()).await.expect("a start");
    let first = app(&driver, id).await;
    hear(&place, &driver, id, "up").await;
    send(first, Signal::SIGKILL);
    let seen = wait(&driver, id, |seen| seen.restarts == 1 && seen.app_pid.is_some_and(|pid| pid != first)).await;
    assert_eq!(seen.phase, ObservedPhase::Running);
    assert_eq!(place.messages(id)[..2], ["up", "The app ended by signal 9; it starts again in 100 ms."]);

    // Starting it again changes nothing.
    let before = supervisor(&place, id);
    driver.start(spec).await.expect("no change");
    assert_eq!(supervisor(&place, id), before);
    stop(&driver, id).await;
}

#[tokio::test]
async fn a_replica_is_seen_with_its_volume_until_it_is_over() {
    let place = Place::new();
    let source = place.data().join("volumes/one/data");
    std::fs::create_dir_all(&source).expect("a folder");
    if let Some(user) = place.user {
        std::os::unix::fs::chown(&source, Some(user.uid), Some(user.gid)).expect("a new owner");
    }
    let mut spec = place.spec("echo up; exec sleep 1000");
    spec.volume = Some(VolumeMount { source: source.clone(), path: "/data".into() });
    let id = spec.replica_id;
    place.driver().start(spec).await.expect("a start");
    // As after a restart of the control plane.
    let driver = place.driver();
    hear(&place, &driver, id, "up").await;
    assert_eq!(wait(&driver, id, |seen| seen.phase == ObservedPhase::Running).await.volume, Some(source));
    stop(&driver, id).await;
    assert_eq!(wait(&driver, id, |seen| seen.phase.is_over()).await.volume, None);
}

#[tokio::test]
async fn a_crash_loop_ends_after_its_restarts_and_a_good_end_is_none() {
    let place = Place::new();
    let driver = place.driver();
    let mut spec = place.spec("echo try >&2; exit 7");
    (spec.restart, spec.max_retries) = (RestartPolicy::OnFailure, 3);
    let id = spec.replica_id;
    driver.start(spec).await.expect("a start");
    let seen = wait(&driver, id, |seen| seen.phase.is_over()).await;
    assert_eq!(seen.restarts, 3);
    let reason = "exited with status 7 (3 restarts used up)".to_owned();
    assert_eq!(seen.phase, ObservedPhase::Crashed { code: Some(7), signal: None, reason });
    assert_eq!(place.messages(id).iter().filter(|line| *line == "try").count(), 4);

    let mut well = place.spec("echo done");
    (well.restart, well.max_retries) = (RestartPolicy::OnFailure, 3);
    let id = well.replica_id;
    driver.start(well).await.expect("a start");
    assert_eq!(wait(&driver, id, |seen| seen.phase.is_over()).await.phase, ObservedPhase::Exited);
    assert_eq!(place.messages(id), ["done", "The app exited with status 0."]);
    driver.stop(id, Duration::ZERO).await.expect("too late is no error");

    let mut always = place.spec("exit 0");
    always.restart = RestartPolicy::Always;
    let id = always.replica_id;
    driver.start(always).await.expect("a start");
    wait(&driver, id, |seen| seen.restarts >= 2).await;
    stop(&driver, id).await;
}

#[tokio::test]
async fn what_an_app_uses_is_measured() {
    let place = Place::new();
    let driver = place.driver();
    let busy = place.spec("echo up; while :; do :; done");
    // It waits without a further program, whose start would be counted.
    let idle = place.spec("mkfifo never; echo up; read line <never");
    let ids = [busy.replica_id, idle.replica_id];
    for spec in [busy, idle] {
        let id = spec.replica_id;
        driver.start(spec).await.expect("a start");
        hear(&place, &driver, id, "up").await;
    }
    let both = async || driver.usage(&ids).await.into_iter().collect::<std::collections::HashMap<_, _>>();
    let begun = std::time::Instant::now();
    let before = both().await;
    assert_eq!(before.len(), 2);
    let spent = |now: &std::collections::HashMap<_, runtime::ReplicaUsage>, id| now[&id].cpu_nanos - before[&id].cpu_nanos;
    // A machine with other work to do gives the loop little time, but in the end it gives some. A whole second of it: the kernel counts
    // in ticks of some hundredths, by which two readings are too far apart at the most.
    let mut now = both().await;
    while spent(&now, ids[0]) < 1_000_000_000 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        now = both().await;
    }
    let cores = spent(&now, ids[0]) as f64 / begun.elapsed().as_nanos() as f64;
    assert!(cores <= 1.1, "one loop uses one core at most: {cores}");
    assert!(spent(&now, ids[1]) < spent(&now, ids[0]) / 4, "{now:?}");
    assert!(now.values().all(|usage| (10_000..500_000_000).contains(&usage.memory_bytes)), "{now:?}");
    for id in ids {
        stop(&driver, id).await;
    }
}

#[tokio::test]
async fn stopping_asks_first_and_insists_then() {
    let place = Place::new();
    let driver = place.driver();
    let polite = place.spec("trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05 2>/dev/null; done");
    let stubborn = place.spec("trap 'echo no' TERM; echo up; while :; do sleep 0.05; done");
    let (polite_id, stubborn_id) = (polite.replica_id, stubborn.replica_id);
    for spec in [polite, stubborn] {
        let id = spec.replica_id;
        driver.start(spec).await.expect("a start");
        hear(&place, &driver, id, "up").await;
    }
    driver.stop(polite_id, Duration::from_secs(600)).await.expect("a stop");
    wait(&driver, polite_id, |seen| seen.phase == ObservedPhase::Stopped).await;
    let said = place.messages(polite_id);
    assert_eq!(said[..2], ["up", "bye"]);
    assert_eq!(said.last().map(String::as_str), Some("The app exited with status 0 after it was asked to stop."));

    let pid = app(&driver, stubborn_id).await;
    driver.stop(stubborn_id, Duration::from_secs(600)).await.expect("a stop");
    hear(&place, &driver, stubborn_id, "no").await;
    assert_eq!(wait(&driver, stubborn_id, |_| true).await.phase, ObservedPhase::Stopping);
    // Asked again with less patience.
    driver.stop(stubborn_id, Duration::from_millis(100)).await.expect("a stop");
    wait(&driver, stubborn_id, |seen| seen.phase == ObservedPhase::Stopped).await;
    is_gone(&driver, stubborn_id, pid).await;
}

#[tokio::test]
async fn output_is_complete_and_in_order() {
    let place = Place::new();
    let driver = place.driver();
    let long = "x".repeat(70_000);
    let command =
        "i=0; while [ $i -lt 200 ]; do echo out $i; i=$((i+1)); done; echo err >&2; printf 'a\\377b\\n'; cat long; printf 'no end'";
    std::fs::write(place.artifact.join("long"), format!("{long}\n")).expect("a file");
    let spec = place.spec(command);
    let id = spec.replica_id;
    place.output(&driver, spec).await;
    let lines = place.lines(id);
    assert!(lines.windows(2).all(|pair| pair[0].nanos < pair[1].nanos));
    let errors: Vec<_> = lines.iter().filter(|line| line.error).map(|line| line.message.as_str()).collect();
    assert_eq!(errors, ["err"]);
    let mut expected: Vec<String> = (0..200).map(|number| format!("out {number}")).collect();
    expected.extend(["a\u{fffd}b".into(), long[..65_536].into(), long[65_536..].into(), "no end".into()]);
    expected.push("The app exited with status 0.".into());
    assert_eq!(lines.iter().filter(|line| !line.error).map(|line| line.message.clone()).collect::<Vec<_>>(), expected);
}

#[tokio::test]
async fn a_flood_of_output_is_cut_visibly_and_nothing_is_lost_uncounted() {
    let place = Place::new();
    let driver = place.driver();
    let spec = place.spec("seq 1 20000");
    let id = spec.replica_id;
    let said = place.output(&driver, spec).await;
    let count =
        |line: &String| line.strip_suffix(" log lines were dropped: the limit is 500 lines per second and replica")?.parse::<usize>().ok();
    let dropped: usize = said.iter().filter_map(count).sum();
    let kept = said.iter().filter(|line| count(line).is_none()).count();
    assert_eq!(kept + dropped, 20_000);
    assert!(dropped > 0 && said[..500].iter().eq((1..=500).map(|number| number.to_string()).collect::<Vec<_>>().iter()));
    assert!(place.lines(id).iter().filter(|line| count(&line.message).is_some()).all(|line| line.error));
}

#[tokio::test]
async fn an_app_outlives_the_control_plane_and_is_adopted() {
    let place = Place::new();
    std::fs::write(place.artifact.join("index.html"), "still here").expect("a page");
    let mut spec = place.spec("");
    spec.run = RunPlan::Static { root: ".".into(), spa: true };
    spec.port = *config(place.data()).port_range.start();
    let (id, port) = (spec.replica_id, spec.port);
    let mut control = drive(place.data(), env!("CARGO_BIN_EXE_runtime-testbin").as_ref(), &spec, None);

    let driver = place.driver();
    let before = app(&driver, id).await;
    control.kill().and_then(|()| control.wait().map(|_| ())).expect("a process to kill");
    let seen = wait(&driver, id, |seen| seen.phase == ObservedPhase::Running).await;
    assert_eq!((seen.app_pid, seen.port, seen.restarts), (Some(before), port, 0));
    wait(&driver, id, |_| TcpStream::connect(("127.0.0.1", port)).is_ok()).await;
    assert!(get(port).ends_with("still here"));

    // The one who adopted it can do everything with it, and gives its port to nobody else.
    let second = place.spec("exec sleep 1000");
    let second_id = second.replica_id;
    driver.start(second).await.expect("a start");
    assert_ne!(wait(&driver, second_id, |_| true).await.port, port);
    stop(&driver, second_id).await;
    stop(&driver, id).await;
    driver.forget(id).await.expect("it has ended");
}

fn drive(data: &Path, exe: &Path, spec: &runtime::ReplicaSpec, user: Option<u32>) -> std::process::Child {
    let mut command = Command::new(exe);
    command.arg("drive").arg(data).stdin(Stdio::piped()).stdout(Stdio::piped());
    if let Some(user) = user {
        command.uid(user).gid(user);
    }
    let mut control = command.spawn().expect("a control plane");
    let mut input = control.stdin.take().expect("a pipe");
    input.write_all(&serde_json::to_vec(spec).expect("JSON")).expect("a listener");
    drop(input);
    let mut word = [0; 8];
    control.stdout.as_mut().expect("a pipe").read_exact(&mut word).expect("the replica was started");
    control
}

fn get(port: u16) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("a listener");
    stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n").expect("a request");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[tokio::test]
async fn secrets_are_in_private_files_only_and_what_ended_leaves_nothing() {
    let place = Place::new();
    let driver = place.driver();
    let mut spec =
        place.spec("mkdir -p a/b /tmp/c && echo x > a/b/x && chmod 500 a/b a && chmod 0 /tmp/c; echo $SECRET | wc -c; exec sleep 1000");
    spec.env.insert("SECRET".into(), "canary-77aa".into());
    assert!(!format!("{spec:?}").contains("canary"));
    let id = spec.replica_id;
    driver.start(spec).await.expect("a start");
    hear(&place, &driver, id, "12").await;
    let mode = std::fs::metadata(place.replica(id).join("spec.json")).expect("a file").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let arguments =
        std::fs::read_dir("/proc").expect("processes").flatten().filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    // All of it: other tests, which run at the same time, have canaries of their own.
    assert!(!arguments.into_iter().any(|line| String::from_utf8_lossy(&line).contains("canary-77aa")));
    stop(&driver, id).await;
    driver.forget(id).await.expect("it has ended");
    driver.forget(id).await.expect("twice is no error");
    assert_eq!(std::fs::read_dir(place.data().join("replicas")).expect("a folder").count(), 0);
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let place = Place::new();
    let driver = place.driver();
    let mut spec = place.spec("true");
    spec.root = place.data().join("artifacts/none");
    assert!(matches!(driver.start(spec).await, Err(DriverError::Artifact { .. })));

    let mut config = config(place.data());
    config.exe = "/no/such/orrery".into();
    let broken = ProcessDriver::new(config).expect("a driver");
    let spec = place.spec("true");
    let id = spec.replica_id;
    assert!(matches!(broken.start(spec).await, Err(DriverError::Spawn { .. })));
    assert_eq!(wait(&broken, id, |_| true).await.phase, ObservedPhase::Lost);
    broken.forget(id).await.expect("nothing lives there");
}

/// The second protection, on its own: a control plane without root.
#[tokio::test]
async fn without_root_an_app_still_cannot_reach_orrery() {
    if !is_root() {
        println!("skipped: every other test runs without root already");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let owner = user(9).expect("root chooses");
    let (data, exe) = (folder.path().join("data"), folder.path().join("orrery"));
    std::fs::copy(env!("CARGO_BIN_EXE_runtime-testbin"), &exe).expect("a copy");
    let artifact = data.join("artifacts/one");
    std::fs::create_dir_all(&artifact).expect("a folder");
    std::fs::write(data.join("master.key"), "secret").expect("a key");
    for path in [folder.path(), &data, &data.join("artifacts"), &artifact, &data.join("master.key"), &exe] {
        std::os::unix::fs::chown(path, Some(owner.uid), Some(owner.gid)).expect("a new owner");
    }
    let place = Place { artifact, user: None, folder };
    let command = format!(
        "cat {0}/master.key; ls {0}; echo x > {0}/new; grep -E '^(CapEff|NoNewPrivs|Seccomp):' /proc/self/status; kill -0 $PPID && echo can signal; \
         unshare --user true && echo namespace; echo mine > file && cat file; echo t > $TMPDIR/t && cat $TMPDIR/t; \
         cat /proc/$PPID/environ && echo can look; (sleep 1000 &) ; echo end",
        data.display()
    );
    let mut spec = place.spec(&command);
    spec.port = *config(place.data()).port_range.end();
    let id = spec.replica_id;
    let mut control = drive(&data, &exe, &spec, Some(owner.uid));
    let driver = ProcessDriver::new(config(&data)).expect("a driver");
    wait(&driver, id, |seen| seen.phase.is_over()).await;
    control.kill().and_then(|()| control.wait().map(|_| ())).expect("a process to kill");

    let shown = std::fs::read_dir(data.join("replicas").join(id.to_string()).join("logs")).expect("a spool").flatten();
    let said: String = shown.map(|entry| std::fs::read_to_string(entry.path()).expect("text")).collect();
    for expected in ["CapEff:\\t0000000000000000", "NoNewPrivs:\\t1", "Seccomp:\\t2", "\"mine\"", "\"t\"", "\"end\"", "status 0"] {
        assert!(said.contains(expected), "{expected} is missing in {said}");
    }
    assert!(!said.contains("namespace\""), "{said}");
    let machine = runtime::sandbox::Sandbox::capabilities();
    if machine.landlock {
        for refused in ["secret", "can look", "artifacts\""] {
            assert!(!said.contains(refused), "{refused} is in {said}");
        }
        assert!(!data.join("new").exists());
    }
    assert_eq!(said.contains("can signal"), !machine.signals, "{said}");
}
