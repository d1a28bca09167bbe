//! The folder of a test's server, and the end of all that the server has begun: nothing outlives a test, be it one that was killed.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of this module")]

#[path = "owned.rs"]
mod owned;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PREFIX: &str = "orrery-e2e-";

/// How long the guards of sandboxes are given to end what they guard and to leave nothing.
const POLITE: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(10);

/// A new folder, with the lock that says that somebody needs it. What killed tests have left goes first.
pub fn claim() -> (tempfile::TempDir, File) {
    let place = std::env::temp_dir();
    sweep(&place);
    owned::claim(PREFIX, &place)
}

/// Ends and removes what tests have left that were killed.
pub fn sweep(place: &Path) {
    owned::sweep(PREFIX, place, clear);
}

/// Ends every process of the server whose data is in the folder or below it, and removes its control groups.
pub fn clear(dir: &Path) {
    let (begun, groups) = (Instant::now(), groups(dir));
    while begun.elapsed() < PATIENCE {
        let (named, mut others) = processes(dir);
        let members = groups.iter().filter_map(|group| fs::read_to_string(group.join("cgroup.procs")).ok());
        others.extend(members.flat_map(|text| text.lines().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()));
        let impolite = begun.elapsed() > POLITE;
        if named.is_empty() && others.is_empty() {
            break;
        }
        for pid in named.iter().chain(others.iter().filter(|_| impolite)) {
            // It may have ended meanwhile.
            let _ = kill(Pid::from_raw(*pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    for group in groups {
        // A supervisor that ended in its own time has removed it.
        let _ = fs::remove_dir(group);
    }
}

/// The processes that name the folder in their command line, and those that only work there or were told of it: guards, apps and builds,
/// which end with the first.
fn processes(dir: &Path) -> (Vec<i32>, Vec<i32>) {
    let mark = dir.as_os_str().as_encoded_bytes();
    let own = i32::try_from(std::process::id()).unwrap();
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok()).filter(|pid| *pid != own);
    let (mut named, mut others) = (vec![], vec![]);
    for pid in pids {
        let holds =
            |file: &str| fs::read(format!("/proc/{pid}/{file}")).is_ok_and(|text| text.windows(mark.len()).any(|part| part == mark));
        if holds("cmdline") {
            named.push(pid);
        } else if holds("environ") || fs::read_link(format!("/proc/{pid}/cwd")).is_ok_and(|folder| folder.starts_with(dir)) {
            others.push(pid);
        }
    }
    (named, others)
}

/// The control groups of replicas, in each hierarchy of the machine.
fn groups(dir: &Path) -> Vec<PathBuf> {
    let folders = ["replicas", "data/replicas"].map(|name| dir.join(name));
    let replicas: Vec<_> = folders.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten().flatten().collect();
    let text = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    // On version 1 they are below the group of whoever starts the server, on version 2 at the root.
    let own = text.lines().filter_map(|line| line.splitn(3, ':').nth(2)).map(|path| path.trim_start_matches('/'));
    let places: BTreeSet<&str> = own.chain([""]).collect();
    let root = PathBuf::from("/sys/fs/cgroup");
    let mounts: Vec<PathBuf> = fs::read_dir(&root).into_iter().flatten().flatten().map(|entry| entry.path()).chain([root]).collect();
    let parents = mounts.iter().flat_map(|mount| places.iter().map(move |place| mount.join(place).join("orrery")));
    let all = parents.flat_map(|parent| replicas.iter().map(move |replica| parent.join(replica.file_name())));
    all.filter(|group| group.is_dir()).collect()
}
