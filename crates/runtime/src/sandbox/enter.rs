//! The subcommand `sandbox-exec`: from the description on standard input to the app.

use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;

use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{ForkResult, Pid};
use rustix::process::{PidfdFlags, pidfd_open};

use super::keep::{self, End, Keeper};
use super::{DEFAULT_PATH, EXIT_NOT_ENTERED, Entry, SUBCOMMAND, confine, mounts, own_program, privileges};
use crate::cgroup::Group;

/// A step that failed, with what was attempted.
pub(super) struct Failure(pub(super) String);

/// Says what was attempted when a step fails.
pub(super) trait Attempt<T> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<io::Error>> Attempt<T> for Result<T, E> {
    fn attempt(self, what: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|error| Failure(format!("{}: {}", what(), error.into())))
    }
}

/// Runs the subcommand `sandbox-exec`: reads the description that [`super::Sandbox::command`] wrote, makes the sandbox, and ends as the
/// program inside ends. Must be called before any thread is started.
pub fn sandbox_exec_main() -> ! {
    match enter() {
        Ok(end) => end.repeat(),
        Err(Failure(what)) => give_up(&what),
    }
}

pub(super) fn give_up(what: &str) -> ! {
    // Nobody is left to hear that standard error cannot be written to.
    let _ = writeln!(io::stderr(), "orrery: the sandbox could not be entered: {what}");
    leave(EXIT_NOT_ENTERED)
}

/// Ends this process.
pub(super) fn leave(status: i32) -> ! {
    std::process::exit(status)
}

fn enter() -> Result<End, Failure> {
    let entry = read_entry()?;
    let parent = parent(entry.parent)?;
    let keeper = Keeper::new().attempt(|| "taking over the signals".into())?;
    let group = entry.sandbox.cgroup.as_deref().and_then(|name| Group::prepare(name, &entry.sandbox.limits));
    let isolated = nix::unistd::geteuid().is_root() && unshare(CloneFlags::CLONE_NEWPID).is_ok();
    let end = if isolated {
        outer(&entry, group.as_ref().map(|(group, _)| group), &keeper, &parent)
    } else {
        plain(&entry, group.as_ref().map(|(group, _)| group), &keeper, &parent)
    };
    if let Some((group, true)) = group {
        group.remove_soon();
    }
    end
}

fn read_entry() -> Result<Entry, Failure> {
    let mut text = vec![];
    let mut input = File::from(io::stdin().as_fd().try_clone_to_owned().attempt(|| "reading standard input".into())?);
    input.rewind().and_then(|()| input.read_to_end(&mut text)).attempt(|| "reading the description".into())?;
    let null = File::open("/dev/null").attempt(|| "opening /dev/null".into())?;
    nix::unistd::dup2_stdin(&null).attempt(|| "closing standard input".into())?;
    serde_json::from_slice(&text)
        .map_err(|error| Failure(format!("`{SUBCOMMAND}` is for Orrery's own use and needs its description on standard input ({error})")))
}

/// A handle on the process that waits for this one.
pub(super) fn parent(expected: u32) -> Result<OwnedFd, Failure> {
    let gone = || Failure("who asked for it has ended".into());
    let pid = i32::try_from(expected).ok().and_then(rustix::process::Pid::from_raw).ok_or_else(gone)?;
    let handle = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone())?;
    // Checked with the handle in hand, so that a successor under the same number cannot be mistaken for it.
    if nix::unistd::getppid().as_raw() == pid.as_raw_nonzero().get() { Ok(handle) } else { Err(gone()) }
}

/// The guard of a sandbox with namespaces.
fn outer(entry: &Entry, group: Option<&Group>, keeper: &Keeper, parent: &OwnedFd) -> Result<End, Failure> {
    let (mut reader, writer) = io::pipe().attempt(|| "opening a pipe".into())?;
    let Some(init) = fork()? else {
        drop(reader);
        let end = inner(entry, group, keeper, &writer).unwrap_or_else(|Failure(what)| give_up(&what));
        // The guard is gone when nobody reads this, and the kernel ends this process in a moment.
        let _ = serde_json::to_writer(&writer, &end);
        leave(0);
    };
    drop(writer);
    let status = keeper.keep(init, keep::Role::Guard, &[parent]).attempt(|| "waiting for the sandbox".into())?;
    let mut report = vec![];
    // The kernel has closed the other end with the namespace, so this returns.
    reader.read_to_end(&mut report).attempt(|| "reading how the app ended".into())?;
    Ok(serde_json::from_slice(&report).unwrap_or(status))
}

/// Process 1 of the new pid namespace.
fn inner(entry: &Entry, group: Option<&Group>, keeper: &Keeper, report: &io::PipeWriter) -> Result<End, Failure> {
    let die = || nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).attempt(|| "asking to end with the guard".into());
    die()?;
    if keep::reader_is_gone(report) {
        return Err(Failure("its guard has ended".into()));
    }
    if let Some(group) = group {
        group.join().attempt(|| "joining the control group".into())?;
    }
    let mut flags = CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWIPC | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWCGROUP;
    if !entry.sandbox.network {
        flags |= CloneFlags::CLONE_NEWNET;
    }
    unshare(flags).attempt(|| "making namespaces".into())?;
    mounts::arrange(&entry.sandbox, group)?;
    privileges::own_output(entry.sandbox.user);
    privileges::drop_all(entry.sandbox.user)?;
    confine::scope();
    privileges::filter_system_calls(entry.sandbox.network)?;
    // Giving up privileges has cancelled it.
    die()?;
    let Some(app) = fork()? else { become_app(entry, false) };
    keeper.keep(app, keep::Role::Init, &[]).attempt(|| "waiting for the app".into())
}

/// The guard where there are no namespaces: the app is its child.
fn plain(entry: &Entry, group: Option<&Group>, keeper: &Keeper, parent: &OwnedFd) -> Result<End, Failure> {
    nix::sys::prctl::set_child_subreaper(true).attempt(|| "adopting orphans".into())?;
    let guard = nix::unistd::getpid();
    let Some(app) = fork()? else {
        if let Err(Failure(what)) = prepare_plain(entry, group, guard) {
            give_up(&what);
        }
        become_app(entry, true);
    };
    keeper.keep(app, keep::Role::Plain, &[parent]).attempt(|| "waiting for the app".into())
}

pub(super) fn prepare_plain(entry: &Entry, group: Option<&Group>, guard: Pid) -> Result<(), Failure> {
    if let Some(group) = group {
        group.join().attempt(|| "joining the control group".into())?;
    }
    if let Some(overlay) = &entry.sandbox.overlay {
        mounts::private_tmp(overlay, entry.sandbox.user)?;
    }
    privileges::own_output(entry.sandbox.user);
    privileges::drop_all(entry.sandbox.user)?;
    confine::files(&entry.sandbox)?;
    privileges::filter_system_calls(entry.sandbox.network)?;
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).attempt(|| "asking to end with the guard".into())?;
    if nix::unistd::getppid() == guard { Ok(()) } else { Err(Failure("its guard has ended".into())) }
}

/// Replaces this process by the program.
pub(super) fn become_app(entry: &Entry, plain: bool) -> ! {
    // Without a session of its own it would merely share the guard's process group: signals still reach it directly.
    let _ = nix::unistd::setsid();
    if entry.terminal {
        // Without it there is no job control, and the rest works.
        let _ = rustix::process::ioctl_tiocsctty(io::stdin());
    }
    let mut command = std::process::Command::new(&entry.program);
    command.args(&entry.args).env_clear().env("PATH", DEFAULT_PATH).envs(&entry.env);
    // Without a root of its own, the program sees the machine's paths.
    let bound = |bind: &super::Bind| (bind.variable.clone(), if plain { bind.source.clone() } else { bind.target.clone() });
    command.envs(entry.sandbox.binds.iter().map(bound));
    let tmp = entry.sandbox.overlay.as_ref().map(|overlay| overlay.join("tmp"));
    if let Some(tmp) = tmp.filter(|_| plain && !entry.env.contains_key("TMPDIR")) {
        command.env("TMPDIR", tmp);
    }
    if entry.program == own_program() {
        command.arg0("orrery");
    }
    let failed = std::env::set_current_dir(&entry.cwd)
        .map_err(|error| (126, format!("the folder {} cannot be entered: {error}", entry.cwd.display())))
        .and_then(|()| SigSet::empty().thread_set_mask().map_err(|error| (126, format!("signals cannot be unblocked: {error}"))));
    let (status, what) = match failed {
        Err(failed) => failed,
        Ok(()) => {
            let error = command.exec();
            let status = if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 };
            (status, format!("{} cannot be started: {error}", entry.program.display()))
        }
    };
    let _ = writeln!(io::stderr(), "orrery: {what}");
    leave(status)
}

/// The child gets `None`.
#[allow(unsafe_code)]
pub(super) fn fork() -> Result<Option<Pid>, Failure> {
    let threads = std::fs::read_dir("/proc/self/task").attempt(|| "counting threads".into())?.count();
    if threads != 1 {
        return Err(Failure(format!("`{SUBCOMMAND}` runs {threads} threads where one is allowed")));
    }
    // SAFETY: this process has one thread, as was just checked, so no lock can be held by a thread that the child lacks. `unshare` with a
    // new pid namespace needs a child, and a second execution of this program instead would cost each start some milliseconds.
    match unsafe { nix::unistd::fork() }.attempt(|| "making a process".into())? {
        ForkResult::Parent { child } => Ok(Some(child)),
        ForkResult::Child => Ok(None),
    }
}
