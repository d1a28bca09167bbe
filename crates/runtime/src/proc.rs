//! What the kernel tells of processes under `/proc`.

use std::io;

use serde::{Deserialize, Serialize};

/// A process that cannot be mistaken for a later one with the same number. Persisted in state files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// Clock ticks between the machine's start and the process's.
    pub(crate) start: u64,
}

impl Identity {
    /// Who calls.
    pub(crate) fn own() -> io::Result<Self> {
        Self::of(std::process::id()).ok_or_else(|| io::Error::other("/proc does not show this process: is it mounted?"))
    }

    /// The process that has this number now.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        stat(pid).ok().flatten().map(|(_, start)| Self { pid, start })
    }

    /// It runs; one that has ended and waits for its parent does not. An error tells nothing about it.
    pub(crate) fn is_alive(self) -> io::Result<bool> {
        Ok(stat(self.pid)?.is_some_and(|(state, start)| start == self.start && !matches!(state, b'Z' | b'X')))
    }
}

/// The user who listens on a TCP port of this machine, on whichever of its addresses; `None` when nobody does. When several do, the
/// one who is not `expected` is named, so that a port that somebody else shares counts as theirs.
#[must_use]
pub fn port_owner(port: u16, expected: u32) -> Option<u32> {
    let mut found = None;
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        for owner in text.lines().skip(1).filter_map(|line| listener(line, port)) {
            if owner != expected {
                return Some(owner);
            }
            found = Some(owner);
        }
    }
    found
}

/// The user of a line of the kernel's socket table, if it is a listener on the port.
fn listener(line: &str, port: u16) -> Option<u32> {
    const LISTEN: &str = "0A";
    let mut fields = line.split_ascii_whitespace();
    let local = fields.nth(1)?;
    let state = fields.nth(1)?;
    let (_, hex) = local.rsplit_once(':')?;
    if state != LISTEN || u16::from_str_radix(hex, 16).ok()? != port {
        return None;
    }
    fields.nth(3)?.parse().ok()
}

/// State letter and start time; `None` when no process of this user has the number.
fn stat(pid: u32) -> io::Result<Option<(u8, u64)>> {
    let line = match std::fs::read(format!("/proc/{pid}/stat")) {
        Ok(line) => line,
        // It ended before it was opened, or after; or the number is that of somebody whom this machine hides.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => return Ok(None),
        Err(error) if error.raw_os_error() == Some(libc::ESRCH) => return Ok(None),
        Err(error) => return Err(error),
    };
    let text = String::from_utf8_lossy(&line);
    parse_stat(&text).map(Some).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not as expected: {text:?}")))
}

fn parse_stat(text: &str) -> Option<(u8, u64)> {
    // The name in parentheses may hold anything, also a parenthesis.
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    // Field 22 of the line; the state is field 3.
    Some((state, fields.nth(18)?.parse().ok()?))
}

/// A process among all others.
pub(crate) struct Process {
    parent: u32,
    cpu_ticks: u64,
    resident_pages: u64,
}

/// All processes of the machine by their number.
pub(crate) fn processes() -> std::collections::HashMap<u32, Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter_map(|pid| Some((pid, process(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)?))).collect()
}

fn process(stat: &str) -> Option<Process> {
    let fields: Vec<&str> = stat.get(stat.rfind(')')? + 1..)?.split_ascii_whitespace().collect();
    // Field 3 of the line, the state, is the first here.
    let number = |field: usize| fields.get(field - 3)?.parse::<u64>().ok();
    // Its own time, and that of children which have ended.
    let cpu_ticks = number(14)? + number(15)? + number(16)? + number(17)?;
    Some(Process { parent: u32::try_from(number(4)?).ok()?, cpu_ticks, resident_pages: number(24)? })
}

/// CPU time in nanoseconds and resident memory in bytes of a process and all of its descendants.
pub(crate) fn sum_below(root: u32, processes: &std::collections::HashMap<u32, Process>) -> (u64, u64) {
    let (ticks_per_second, page_bytes) = units();
    let is_below = |mut pid: u32| {
        // A line of ancestors is never longer than there are processes, also when it changed while it was read.
        for _ in 0..processes.len() {
            if pid == root {
                return true;
            }
            match processes.get(&pid) {
                Some(process) => pid = process.parent,
                None => return false,
            }
        }
        false
    };
    let below = processes.iter().filter(|(pid, _)| is_below(**pid));
    let (ticks, pages) = below.fold((0, 0), |(ticks, pages), (_, one)| (ticks + one.cpu_ticks, pages + one.resident_pages));
    (ticks * (1_000_000_000 / ticks_per_second), pages * page_bytes)
}

/// Clock ticks of a second, and bytes of a page, as the kernel tells every process at its start.
fn units() -> (u64, u64) {
    const AT_PAGESZ: u64 = 6;
    const AT_CLKTCK: u64 = 17;
    let bytes = std::fs::read("/proc/self/auxv").unwrap_or_default();
    let numbers: Vec<u64> = bytes.as_chunks::<8>().0.iter().map(|number| u64::from_ne_bytes(*number)).collect();
    let value = |key| numbers.as_chunks::<2>().0.iter().find(|[own, _]| *own == key).map(|[_, value]| *value);
    (value(AT_CLKTCK).filter(|ticks| *ticks > 0).unwrap_or(100), value(AT_PAGESZ).unwrap_or(4096))
}

/// The children of a single-threaded process.
pub(crate) fn children(pid: u32) -> Vec<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    text.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// The app below a sandbox's guard: the first descendant that runs another program than the guard does.
pub(crate) fn app_below(guard: u32) -> Option<u32> {
    let command_of = |pid: u32| std::fs::read(format!("/proc/{pid}/cmdline")).ok().filter(|line| !line.is_empty());
    let own = command_of(guard)?;
    let mut at = guard;
    // Guard, init of the namespace, app.
    for _ in 0..2 {
        at = *children(at).first()?;
        if command_of(at)? != own {
            return Some(at);
        }
    }
    None
}

/// Every mount of the calling process: where, which kind, with which options.
pub(crate) fn mounts() -> io::Result<Vec<Mount>> {
    let text = std::fs::read_to_string("/proc/self/mountinfo")?;
    Ok(text.lines().filter_map(parse_mount).collect())
}

pub(crate) struct Mount {
    /// The folder of its filesystem that is mounted.
    pub(crate) root: String,
    pub(crate) point: String,
    pub(crate) options: String,
    pub(crate) kind: String,
    pub(crate) super_options: String,
}

fn parse_mount(line: &str) -> Option<Mount> {
    let (mount, filesystem) = line.split_once(" - ")?;
    let mut mount = mount.split(' ').skip(3);
    let (root, point, options) = (mount.next()?, mount.next()?, mount.next()?);
    let mut filesystem = filesystem.split(' ');
    Some(Mount {
        root: unescape(root),
        point: unescape(point),
        options: options.to_owned(),
        kind: filesystem.next()?.to_owned(),
        super_options: filesystem.nth(1)?.to_owned(),
    })
}

/// Blanks and backslashes are written as three octal digits there.
fn unescape(text: &str) -> String {
    let mut bytes = vec![];
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal = tail.first_chunk::<3>().and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()).filter(|_| *first == b'\\') {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_with_blanks_are_read() {
        let line = r"36 35 98:0 /mnt1 /mnt\0402 rw,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let mount = parse_mount(line).expect("a valid line");
        assert_eq!((mount.point.as_str(), mount.kind.as_str(), mount.super_options.as_str()), ("/mnt 2", "ext3", "rw,errors=continue"));
    }

    #[test]
    fn this_process_is_alive_and_its_forerunner_is_not() {
        let own = Identity::own().expect("a process");
        assert!(own.is_alive().expect("an answer"));
        assert!(!Identity { start: own.start + 1, ..own }.is_alive().expect("an answer"));
        // No process has so high a number.
        assert!(!Identity { pid: u32::MAX, ..own }.is_alive().expect("an answer"));
    }

    #[test]
    fn time_and_memory_are_those_of_a_process_and_what_it_started() {
        let own = std::process::id();
        // A process has had time and pages as soon as the kernel says so, and not before.
        while sum_below(own, &processes()).0 < 20_000_000 {
            std::hint::spin_loop();
        }
        let mut child = std::process::Command::new("sleep").arg("100").spawn().unwrap();
        while sum_below(child.id(), &processes()).1 == 0 {
            std::thread::yield_now();
        }
        let all = processes();
        let (whole, part) = (sum_below(own, &all).1, sum_below(child.id(), &all).1);
        child.kill().unwrap();
        child.wait().unwrap();
        assert!(part < whole, "{part} of {whole}");
        assert_eq!(sum_below(child.id(), &processes()), (0, 0));
    }

    #[test]
    fn a_listener_is_found_by_its_port_and_has_an_owner() {
        let own = nix::unistd::geteuid().as_raw();
        let socket = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = socket.local_addr().unwrap().port();
        assert_eq!(port_owner(port, own), Some(own));
        assert_eq!(port_owner(port, own + 1), Some(own), "someone else's");
        drop(socket);
        assert_eq!(port_owner(port, own), None);
    }
}
