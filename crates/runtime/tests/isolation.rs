//! What an app can see and do: as root, where the whole sandbox stands.

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use domain::ReplicaId;
use domain::shell::{ShellEnd, ShellInput, ShellSignal, ShellSpec, ShellStream, TerminalSize};
use domain::spec::Limits;
use runtime::process::ProcessDriver;
use runtime::sandbox::Sandbox;
use runtime::{Driver, DriverError, ObservedPhase, ReplicaSpec, ShellOutput};
use support::*;
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;

macro_rules! needs_root {
    () => {
        if !is_root() {
            println!("skipped: namespaces and users need root");
            return;
        }
    };
}

macro_rules! needs_control_groups {
    ($controller:literal) => {
        needs_root!();
        if !Sandbox::capabilities().cgroup_controllers.iter().any(|name| name == $controller) {
            println!(concat!("skipped: this machine has no control groups for ", $controller));
            return;
        }
    };
}

/// What runs out of memory soon.
const GREEDY: &str = "exec tail /dev/zero";

/// An app with 64 MB.
fn small(place: &Place, command: &str) -> ReplicaSpec {
    ReplicaSpec { limits: Limits { memory_bytes: Some(64 << 20), cpu_millis: None }, ..place.spec(command) }
}

#[tokio::test]
async fn an_app_sees_neither_orrery_nor_other_apps() {
    needs_root!();
    let place = Place::new();
    for name in ["orrery.db", "master.key"] {
        std::fs::write(place.data().join(name), "secret").expect("a file");
        // Even a mistake in permissions must not open them.
        std::fs::set_permissions(place.data().join(name), std::fs::Permissions::from_mode(0o644)).expect("permissions");
    }
    let neighbour = place.artifact("two", user(2));
    std::fs::write(neighbour.join("code"), "secret").expect("a file");
    std::fs::set_permissions(&neighbour, std::fs::Permissions::from_mode(0o755)).expect("permissions");

    let driver = place.driver();
    let mut other = place.spec("echo up; exec sleep 1000");
    (other.root, other.user) = (neighbour.clone(), user(2));
    other.env.insert("CANARY".into(), "canary-5d1f".into());
    let other_id = other.replica_id;
    driver.start(other).await.expect("a start");
    hear(&place, &driver, other_id, "up").await;
    let other_pid = wait(&driver, other_id, |seen| seen.app_pid.is_some()).await.app_pid.expect("a process");

    let data = place.data().display();
    let command = format!(
        "cat {data}/orrery.db {data}/master.key {data}/replicas/*/spec.json {}/code; ls {data} {data}/artifacts; \
         cat /proc/{other_pid}/environ; cat /proc/*/environ | tr '\\0' '\\n' | grep -c canary-5d1f; ls -d /proc/[0-9]* | wc -l; ls /root /home",
        neighbour.display()
    );
    let said = place.output(&driver, place.spec(&command)).await.join("\n");
    assert!(!said.contains("secret"), "{said}");
    let other_lines: Vec<&str> = said.lines().filter(|line| !line.contains("No such file") && !line.starts_with("/")).collect();
    // The folders show nothing but the way to the app's own, no environment holds the canary, and only its own processes run.
    assert!(said.contains("\n0\n"), "{said}");
    assert!(!other_lines.contains(&"two") && !other_lines.contains(&"replicas"), "{said}");
    assert!(!said.contains("canary"), "{said}");

    driver.stop(other_id, std::time::Duration::ZERO).await.expect("a stop");
    wait(&driver, other_id, |seen| seen.phase == ObservedPhase::Stopped).await;
}

#[tokio::test]
async fn no_privilege_is_left_and_none_can_be_had() {
    needs_root!();
    let place = Place::new();
    std::fs::set_permissions(&place.artifact, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    let driver = place.driver();
    let command = "grep -E '^(Cap...|NoNewPrivs|Seccomp|Groups):' /proc/self/status; id -u; \
                   unshare --user true 2>/dev/null && echo user namespace; unshare --mount true 2>/dev/null && echo mount namespace; \
                   mount -t tmpfs none /mnt 2>/dev/null && echo mounted; chroot / true 2>/dev/null && echo changed root; \
                   strace -V >/dev/null 2>&1; dmesg >/dev/null 2>&1 && echo kernel log; true";
    for user in [place.user, None] {
        let mut spec = place.spec(command);
        spec.user = user;
        let said = place.output(&driver, spec).await;
        let status: BTreeMap<&str, &str> = said.iter().filter_map(|line| line.split_once(":")).map(|(k, v)| (k, v.trim())).collect();
        for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
            assert_eq!(status[set], "0000000000000000", "{set} of {user:?}");
        }
        assert_eq!((status["NoNewPrivs"], status["Seccomp"]), ("1", "2"));
        assert_eq!(said.last().map(String::as_str), Some(user.map_or("0".into(), |user| user.uid.to_string()).as_str()), "{said:?}");
        if user.is_some() {
            assert_eq!(status["Groups"], "");
        }
    }
}

#[tokio::test]
async fn the_machine_is_read_only_and_writes_stay_private() {
    needs_root!();
    let place = Place::new();
    std::fs::write(place.artifact.join("shipped"), "as built\n").expect("a file");
    std::fs::set_permissions(&place.artifact, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    let user = place.user.expect("root chooses");
    std::os::unix::fs::chown(place.artifact.join("shipped"), Some(user.uid), Some(user.gid)).expect("a new owner");
    let driver = place.driver();
    // Root by number: only the mounts can refuse it.
    let mut spec =
        place.spec("for at in /etc /usr /var /sys /proc/sys/kernel /root /dev; do touch $at/x 2>/dev/null && echo wrote $at; done; true");
    spec.user = None;
    assert_eq!(place.output(&driver, spec).await, Vec::<String>::new());

    let write =
        "ls; cat shipped; echo changed > shipped; echo mine > new; echo t > /tmp/t; ls /tmp /dev/shm; echo x > /dev/shm/x; echo $HOME";
    let home = place.artifact.display().to_string();
    for _ in 0..2 {
        let said = place.output(&driver, place.spec(write)).await;
        assert_eq!(said, ["shipped", "as built", "/dev/shm:", "", "/tmp:", "t", &home]);
    }
    assert_eq!(std::fs::read_to_string(place.artifact.join("shipped")).expect("a file"), "as built\n");
    assert!(!place.artifact.join("new").exists());
}

#[tokio::test]
async fn too_much_memory_ends_the_app_and_the_reason_says_so() {
    needs_control_groups!("memory");
    let place = Place::new();
    let driver = place.driver();
    let spec = small(&place, GREEDY);
    let id = spec.replica_id;
    driver.start(spec).await.expect("a start");
    let seen = wait(&driver, id, |seen| seen.phase.is_over()).await;
    assert_eq!(crash_reason(&seen), "ended by signal 9: out of memory at 64 MB");
    assert_eq!(place.messages(id), ["The app ended by signal 9: out of memory at 64 MB."]);
}

#[tokio::test]
async fn an_app_is_held_to_its_share_of_the_cpu_and_can_read_its_limits() {
    needs_control_groups!("cpu");
    let place = Place::new();
    let driver = place.driver();
    let command = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; \
                   until cat /sys/fs/cgroup/cpu/cpu.stat /sys/fs/cgroup/cpu.stat 2>/dev/null | grep -q 'nr_throttled [1-9]'; do :; done; echo held";
    let mut spec = place.spec(command);
    spec.limits = Limits { memory_bytes: Some(128 << 20), cpu_millis: Some(250) };
    assert_eq!(place.output(&driver, spec).await, ["134217728", "held"]);
}

/// A container's processes are in the outermost group that they see, from which the kernel lets no limits be handed down.
#[tokio::test]
async fn limits_hold_in_a_container() {
    needs_root!();
    let outermost = std::path::Path::new("/sys/fs/cgroup");
    if Sandbox::capabilities().cgroup_version != Some(2) || !outermost.join("cgroup.controllers").exists() {
        println!("skipped: this machine has no control groups of version 2");
        return;
    }
    let place = Place::new();
    // Hands the controllers down to the group that stands for the container.
    assert_eq!(place.output(&place.driver(), place.spec("echo up")).await, ["up"]);
    let group = outermost.join(format!("orrery-test-{}", std::process::id()));
    std::fs::create_dir(&group).expect("a group");
    let contain = "echo 0 >$0/cgroup.procs && exec unshare --cgroup --mount sh -c \
                   'umount /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec \"$@\"' sh \"$@\"";
    let output = tokio::process::Command::new("sh")
        .args(["-c", contain])
        .arg(&group)
        .arg(std::env::current_exe().expect("this program"))
        .args(["--test-threads", "1", "--nocapture", "--exact"])
        .arg("too_much_memory_ends_the_app_and_the_reason_says_so")
        .arg("an_app_is_held_to_its_share_of_the_cpu_and_can_read_its_limits")
        .output()
        .await
        .expect("an end");
    std::fs::write(group.join("cgroup.kill"), "1").expect("nothing is left");
    let empty = async {
        while !std::fs::read_to_string(group.join("cgroup.events")).is_ok_and(|events| events.contains("populated 0")) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, empty).await.expect("the container is empty");
    let removed =
        tokio::process::Command::new("find").arg(&group).args(["-depth", "-type", "d", "-exec", "rmdir", "{}", ";"]).status().await;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("2 passed") && !said.contains("skipped"), "{said}");
    assert!(removed.expect("an end").success());
}

#[tokio::test]
async fn a_command_in_a_sandbox_ends_as_its_program_ends() {
    needs_root!();
    runtime::sandbox::use_program(env!("CARGO_BIN_EXE_runtime-testbin"));
    let place = Place::new();
    let sandbox = Sandbox { user: place.user, root: place.artifact.clone(), network: false, ..Sandbox::default() };
    let env = BTreeMap::from([("GREETING".to_owned(), "hello".to_owned())]);
    let run = async |program: &str, args: &[&str]| {
        let mut command = sandbox.command(program, args, &env, &place.artifact).expect("a command");
        let output = command.output().await.expect("an end");
        (output.status, String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (status, said, _) = run("sh", &["-c", "echo $GREETING; cat; echo here > file; exit 7"]).await;
    assert_eq!((status.code(), said.as_str()), (Some(7), "hello\n"));
    assert_eq!(std::fs::read_to_string(place.artifact.join("file")).expect("written through"), "here\n");
    let (status, ..) = run("sh", &["-c", "kill -USR1 $$"]).await;
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(nix::sys::signal::Signal::SIGUSR1 as i32));
    let (status, _, error) = run("no-such-program", &[]).await;
    assert_eq!((status.code(), error.contains("no-such-program cannot be started")), (Some(127), true), "{error}");
    let (_, said, _) = run("cat", &["/proc/net/dev"]).await;
    assert!(!said.contains("eth0"), "{said}");

    let elsewhere = sandbox.command("true", &[] as &[&str], &env, "/no/such/folder").expect("a command").output().await.expect("an end");
    assert_eq!(elsewhere.status.code(), Some(126));
    let bad = Sandbox { root: "/no/such/root".into(), ..sandbox.clone() };
    let output = bad.command("true", &[] as &[&str], &env, "/").expect("a command").output().await.expect("an end");
    assert_eq!(output.status.code(), Some(runtime::sandbox::EXIT_NOT_ENTERED));
    let bad = Sandbox { cgroup: Some("../../x".into()), ..sandbox.clone() };
    assert!(bad.command("true", &[] as &[&str], &env, "/").is_err());
}

#[tokio::test]
async fn killing_a_command_ends_everything_inside() {
    needs_root!();
    runtime::sandbox::use_program(env!("CARGO_BIN_EXE_runtime-testbin"));
    let place = Place::new();
    let name = format!("orrery-test-{}", std::process::id());
    let sandbox =
        Sandbox { user: place.user, root: place.artifact.clone(), cgroup: Some(name.clone()), network: true, ..Sandbox::default() };
    let mut command =
        sandbox.command("sh", &["-c", "setsid sleep 1000 & echo up; wait"], &BTreeMap::new(), &place.artifact).expect("a command");
    let mut child = command.stdout(std::process::Stdio::piped()).spawn().expect("a child");
    let mut output = child.stdout.take().expect("a pipe");
    let mut word = [0; 3];
    output.read_exact(&mut word).await.expect("a word");
    child.kill().await.expect("a process to kill");
    // The pipe ends when the last process inside has ended.
    let mut rest = vec![];
    tokio::time::timeout(PATIENCE, output.read_to_end(&mut rest)).await.expect("an end").expect("a pipe");
    let removed = async {
        while runtime::sandbox::remove_cgroup(&name).is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, removed).await.expect("the group is empty");
}

/// A program beside an app, and a person who sits in front of it.
struct Visit {
    to: mpsc::Sender<ShellInput>,
    from: mpsc::Receiver<ShellOutput>,
    relay: tokio::task::JoinHandle<std::io::Result<ShellEnd>>,
    said: String,
    errors: String,
}

impl Visit {
    async fn pay(driver: &ProcessDriver, id: ReplicaId, spec: ShellSpec) -> Self {
        let shell = driver.shell(id, spec).await.expect("a program beside the app");
        let (to, input) = mpsc::channel(8);
        let (output, from) = mpsc::channel(8);
        let relay = tokio::spawn(shell.relay(input, output));
        Self { to, from, relay, said: String::new(), errors: String::new() }
    }

    async fn send(&self, input: ShellInput) {
        self.to.send(input).await.expect("a program that listens");
    }

    async fn types(&self, text: &str) {
        self.send(ShellInput::Bytes(text.into())).await;
    }

    /// Reads another piece; whether there was one.
    async fn hear(&mut self) -> bool {
        let piece = tokio::time::timeout(PATIENCE, self.from.recv()).await.unwrap_or_else(|_| panic!("nothing came after {:?}", self.said));
        let Some((stream, bytes)) = piece else { return false };
        let heard = if stream == ShellStream::Error { &mut self.errors } else { &mut self.said };
        heard.push_str(&String::from_utf8_lossy(&bytes));
        true
    }

    async fn sees(&mut self, words: &str) {
        while !self.said.contains(words) {
            assert!(self.hear().await, "it ended before it said {words:?}: {:?} {:?}", self.said, self.errors);
        }
    }

    async fn end(mut self) -> (String, String, ShellEnd) {
        while self.hear().await {}
        let end = tokio::time::timeout(PATIENCE, self.relay).await.expect("an end").expect("a task").expect("a program to wait for");
        (self.said, self.errors, end)
    }
}

fn line(command: &str) -> ShellSpec {
    ShellSpec { command: Some(command.to_owned()), ..ShellSpec::default() }
}

fn terminal(columns: u16, rows: u16) -> ShellSpec {
    ShellSpec { terminal: Some(TerminalSize { columns, rows }), ..ShellSpec::default() }
}

#[tokio::test]
async fn a_program_beside_an_app_has_what_the_app_has_and_no_more() {
    needs_root!();
    let place = Place::new();
    std::fs::set_permissions(&place.artifact, std::fs::Permissions::from_mode(0o755)).expect("permissions");
    std::fs::write(place.data().join("master.key"), "secret").expect("a file");
    let driver = place.driver();
    let mut spec = place.spec("echo made by the app > here; echo t > /tmp/there; echo up; exec sleep 1000");
    spec.env.insert("GREETING".into(), "hello there".into());
    let id = spec.replica_id;
    driver.start(spec).await.expect("a start");
    hear(&place, &driver, id, "up").await;

    let command = format!(
        "cat here /tmp/there; echo $GREETING; pwd; cat; id -u; ls -d /proc/[0-9]* | wc -l; ls {}; \
         grep -E '^(Cap...|NoNewPrivs|Seccomp|Groups):' /proc/self/status; unshare --user true && echo namespace; cat /proc/1/environ; exit 7",
        place.data().display()
    );
    let visit = Visit::pay(&driver, id, line(&command)).await;
    visit.types("typed\n").await;
    visit.send(ShellInput::End).await;
    let (said, errors, end) = visit.end().await;
    assert_eq!(end, ShellEnd::Status(7), "{said} {errors}");
    let user = place.user.expect("root chooses").uid;
    let expected = format!("made by the app\nt\nhello there\n{}\ntyped\n{user}\n", place.artifact.display());
    assert!(said.starts_with(&expected), "{said} {errors}");
    // Init, the app, and what the line itself started.
    let processes: usize = said[expected.len()..].lines().next().and_then(|count| count.parse().ok()).expect("a number");
    assert!((3..=6).contains(&processes), "{said}");
    for refused in ["master.key", "replicas", "namespace", "secret"] {
        assert!(!said.contains(refused), "{refused} is in {said}");
    }
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(said.contains(&format!("{set}:\t0000000000000000")), "{said}");
    }
    assert!(said.contains("NoNewPrivs:\t1") && said.contains("Seccomp:\t2"), "{said}");
    assert!(errors.contains("Permission denied"), "standard error comes apart: {errors}");

    let named = ShellSpec { program: Some("/usr/bin/env".into()), ..ShellSpec::default() };
    let (said, _, end) = Visit::pay(&driver, id, named).await.end().await;
    assert!(end == ShellEnd::Status(0) && said.contains("GREETING=hello there") && !said.contains("ORRERY_SHELL"), "{said}");
    let none = ShellSpec { program: Some("/no/such/program".into()), ..ShellSpec::default() };
    let (_, errors, end) = Visit::pay(&driver, id, none).await.end().await;
    assert!(end == ShellEnd::Status(127) && errors.contains("/no/such/program cannot be started"), "{errors}");

    driver.stop(id, std::time::Duration::ZERO).await.expect("a stop");
    wait(&driver, id, |seen| seen.phase == ObservedPhase::Stopped).await;
    assert!(matches!(driver.shell(id, line("true")).await, Err(DriverError::NotRunning(_))));
}

#[tokio::test]
async fn a_shell_has_a_terminal_with_a_size_and_ends_with_its_app() {
    needs_root!();
    let place = Place::new();
    let driver = place.driver();
    let spec = place.spec("echo up; exec sleep 1000");
    let id = spec.replica_id;
    driver.start(spec).await.expect("a start");
    hear(&place, &driver, id, "up").await;

    let mut visit = Visit::pay(&driver, id, terminal(100, 30)).await;
    visit.types("stty size; test -t 1 && echo on-a-$((1+1))\n").await;
    visit.sees("30 100").await;
    visit.sees("on-a-2").await;
    visit.send(ShellInput::Resize(TerminalSize { columns: 60, rows: 20 })).await;
    visit.types("stty size; echo words >/dev/tty; echo $TERM-$((2+2))\n").await;
    visit.sees("20 60").await;
    visit.sees("xterm-256color-4").await;
    // Ctrl-C reaches what runs in front, and not the shell.
    visit.types("sh -c 'echo go-$((3+3)); exec sleep 1000'\n").await;
    visit.sees("go-6").await;
    // What is typed before the shell is back is thrown away with what was interrupted.
    visit.said.clear();
    visit.types("\u{3}").await;
    visit.sees("$ ").await;
    visit.types("echo back-$((4+4))\n").await;
    visit.sees("back-8").await;
    visit.types("exit 5\n").await;
    assert_eq!(visit.end().await.2, ShellEnd::Status(5));

    // Whoever leaves takes the program along, also one that does not want to.
    let mut stubborn = Visit::pay(&driver, id, line("trap '' HUP; echo deaf; while :; do sleep 1; done")).await;
    stubborn.sees("deaf").await;
    let Visit { to, from, relay, .. } = stubborn;
    drop((to, from));
    let end = tokio::time::timeout(PATIENCE, relay).await.expect("an end").expect("a task").expect("a program to wait for");
    assert_eq!(end, ShellEnd::Signal(9));

    let mut asked = Visit::pay(&driver, id, line("trap 'echo asked; exit 4' TERM; echo up; while :; do sleep 0.05; done")).await;
    asked.sees("up").await;
    asked.send(ShellInput::Signal(ShellSignal::Term)).await;
    let (said, _, end) = asked.end().await;
    assert!(end == ShellEnd::Status(4) && said.contains("asked"), "{said}");

    let mut last = Visit::pay(&driver, id, terminal(80, 24)).await;
    last.types("echo in-$((1+1))\n").await;
    last.sees("in-2").await;
    driver.stop(id, std::time::Duration::ZERO).await.expect("a stop");
    assert_eq!(last.end().await.2, ShellEnd::Signal(9));
    wait(&driver, id, |seen| seen.phase == ObservedPhase::Stopped).await;
    driver.forget(id).await.expect("nothing is left");
}

#[tokio::test]
async fn what_a_shell_takes_is_counted_with_its_app() {
    needs_control_groups!("memory");
    let place = Place::new();
    let driver = place.driver();
    let spec = small(&place, "echo up; exec sleep 1000");
    let id = spec.replica_id;
    driver.start(spec).await.expect("a start");
    hear(&place, &driver, id, "up").await;
    let (_, _, end) = Visit::pay(&driver, id, line(GREEDY)).await.end().await;
    assert_eq!(end, ShellEnd::Signal(9));
    driver.stop(id, std::time::Duration::ZERO).await.expect("a stop");
    wait(&driver, id, |seen| seen.phase.is_over()).await;
}
