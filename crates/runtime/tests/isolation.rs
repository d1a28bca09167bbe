//! What an app can see and do: as root, where the whole sandbox stands.

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;

use domain::spec::Limits;
use runtime::sandbox::Sandbox;
use runtime::{Driver, ObservedPhase};
use support::*;
use tokio::io::AsyncReadExt;

macro_rules! needs_root {
    () => {
        if !is_root() {
            println!("skipped: namespaces and users need root");
            return;
        }
    };
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
    needs_root!();
    if !Sandbox::capabilities().cgroup_controllers.iter().any(|name| name == "memory") {
        println!("skipped: this machine has no control groups for memory");
        return;
    }
    let place = Place::new();
    let driver = place.driver();
    let mut spec = place.spec("exec tail /dev/zero");
    spec.limits = Limits { memory_bytes: Some(64 << 20), cpu_millis: None };
    let id = spec.replica_id;
    driver.start(spec).await.expect("a start");
    let seen = wait(&driver, id, |seen| seen.phase.is_over()).await;
    assert_eq!(crash_reason(&seen), "ended by signal 9: out of memory at 64 MB");
    assert_eq!(place.messages(id), ["The app ended by signal 9: out of memory at 64 MB."]);
}

#[tokio::test]
async fn an_app_is_held_to_its_share_of_the_cpu_and_can_read_its_limits() {
    needs_root!();
    if !Sandbox::capabilities().cgroup_controllers.iter().any(|name| name == "cpu") {
        println!("skipped: this machine has no control groups for CPU");
        return;
    }
    let place = Place::new();
    let driver = place.driver();
    let command = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null; \
                   until cat /sys/fs/cgroup/cpu/cpu.stat /sys/fs/cgroup/cpu.stat 2>/dev/null | grep -q 'nr_throttled [1-9]'; do :; done; echo held";
    let mut spec = place.spec(command);
    spec.limits = Limits { memory_bytes: Some(128 << 20), cpu_millis: Some(100) };
    assert_eq!(place.output(&driver, spec).await, ["134217728", "held"]);
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
