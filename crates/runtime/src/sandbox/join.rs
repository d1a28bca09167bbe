//! The subcommand `sandbox-shell`: into the sandbox of an app that runs, for a program that a person has named.
//!
//! As with the app there is a guard outside that ends as the program ends. The program gets the app's namespaces, control group, user and
//! filters, and has no more rights than the app from its first instruction on. It ends with its app: the kernel ends everything in the app's
//! pid namespace, and where there is none the guard watches the app's guard.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;

use domain::shell::ShellSpec;
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use rustix::process::{PidfdFlags, pidfd_open};
use serde::{Deserialize, Serialize};

use super::enter::{Attempt, Failure, become_app, fork, give_up, parent, prepare_plain};
use super::keep::{self, End, Keeper, Role};
use super::{Entry, confine, privileges};
use crate::cgroup::Group;
use crate::folder::{Folder, Order};
use crate::proc::{self, Identity};
use crate::shim;

/// The hidden subcommand behind [`sandbox_shell_main`].
pub const SHELL_SUBCOMMAND: &str = "sandbox-shell";

/// Holds the [`Visit`]. Not an argument, because a person's line may hold a secret and every user can read arguments.
pub(crate) const VARIABLE: &str = "ORRERY_SHELL";

/// The shells that are looked for when a person names no program.
const SHELLS: [&str; 2] = ["/bin/bash", "/bin/sh"];

/// Which replica, and what for. The app's environment is read from the replica's own file.
#[derive(Serialize, Deserialize)]
pub(crate) struct Visit {
    pub(crate) folder: PathBuf,
    /// The guard of the app.
    pub(crate) guard: Identity,
    pub(crate) shell: ShellSpec,
    /// The process that waits for this one. When it ends, so does the program.
    pub(crate) parent: u32,
}

/// Runs the subcommand `sandbox-shell`: starts the program on this process's own input and outputs, and ends as it ends. Must be called
/// before any thread is started.
pub fn sandbox_shell_main() -> ! {
    match join() {
        Ok(end) => end.repeat(),
        Err(Failure(what)) => give_up(&what),
    }
}

fn join() -> Result<End, Failure> {
    let foreign = |error: &dyn std::fmt::Display| Failure(format!("`{SHELL_SUBCOMMAND}` is for Orrery's own use ({error})"));
    let text = std::env::var(VARIABLE).map_err(|error| foreign(&error))?;
    let visit: Visit = serde_json::from_str(&text).map_err(|error| foreign(&error))?;
    let parent = parent(visit.parent)?;
    // The server's terminal must not reach it with Ctrl-C. It fails for the leader of a group, which nobody made it.
    let _ = nix::unistd::setsid();
    let folder = Folder::new(visit.folder.clone());
    let order = folder.order().attempt(|| "reading what the replica is".into())?;
    let entry = entry(&folder, &order, &visit);
    let group = entry.sandbox.cgroup.as_deref().map(Group::find);
    let keeper = Keeper::new().attempt(|| "taking over the signals".into())?;
    let guard = guard(visit.guard)?;
    match namespaces(visit.guard)? {
        Some(namespaces) => outer(&entry, group.as_ref(), &keeper, [&parent, &guard], &namespaces),
        None => plain(&entry, group.as_ref(), &keeper, [&parent, &guard]),
    }
}

/// The app's own sandbox and environment, with the person's program in it.
fn entry(folder: &Folder, order: &Order, visit: &Visit) -> Entry {
    let ShellSpec { command, program, terminal } = &visit.shell;
    let mut env = shim::environment(&order.replica);
    if terminal.is_some() {
        env.entry("TERM".to_owned()).or_insert_with(|| "xterm-256color".to_owned());
    }
    let found = || SHELLS.map(PathBuf::from).into_iter().find(|path| path.exists()).unwrap_or_else(|| SHELLS[1].into());
    Entry {
        sandbox: shim::sandbox(folder, order),
        program: program.as_ref().map_or_else(found, PathBuf::from),
        args: command.iter().flat_map(|line| ["-c".to_owned(), line.clone()]).collect(),
        env,
        cwd: order.replica.root.clone(),
        parent: visit.parent,
        terminal: terminal.is_some(),
    }
}

fn gone() -> Failure {
    Failure("the app does not run just now: try again when it does".into())
}

/// Who cannot be asked about is not joined.
fn is_alive(guard: Identity) -> bool {
    guard.is_alive().unwrap_or(false)
}

/// A handle on the guard of the app.
fn guard(guard: Identity) -> Result<OwnedFd, Failure> {
    let pid = i32::try_from(guard.pid).ok().and_then(rustix::process::Pid::from_raw).ok_or_else(gone)?;
    let handle = pidfd_open(pid, PidfdFlags::empty()).map_err(|_| gone())?;
    // Checked with the handle in hand, so that a successor under the same number cannot be mistaken for it.
    if is_alive(guard) { Ok(handle) } else { Err(gone()) }
}

/// A namespace of the app.
struct Namespace {
    handle: File,
    kind: CloneFlags,
}

/// The app's namespaces; `None` where it has none of its own. Only those of a program that has been started are taken: whoever is still
/// arranging a sandbox has the machine's files.
fn namespaces(guard: Identity) -> Result<Option<Vec<Namespace>>, Failure> {
    let app = proc::app_below(guard.pid).ok_or_else(gone)?;
    let is_own = |name: &str| -> Result<bool, Failure> {
        let read = |who: &str| fs::read_link(format!("/proc/{who}/ns/{name}")).map_err(|_| gone());
        Ok(read(&app.to_string())? == read("self")?)
    };
    if !nix::unistd::geteuid().is_root() || is_own("pid")? {
        return Ok(None);
    }
    if is_own("mnt")? {
        return Err(Failure("the app's files are not its own: deploy it again".into()));
    }
    // The mounts last: they take the way to the control groups away.
    let kinds = [
        ("pid", CloneFlags::CLONE_NEWPID),
        ("cgroup", CloneFlags::CLONE_NEWCGROUP),
        ("ipc", CloneFlags::CLONE_NEWIPC),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("net", CloneFlags::CLONE_NEWNET),
        ("mnt", CloneFlags::CLONE_NEWNS),
    ];
    let open = |(name, kind): (&str, CloneFlags)| -> Result<Namespace, Failure> {
        let handle = File::open(format!("/proc/{app}/ns/{name}")).map_err(|_| gone())?;
        Ok(Namespace { handle, kind })
    };
    let namespaces = kinds.into_iter().map(open).collect::<Result<Vec<_>, Failure>>()?;
    // With the handles in hand: they are those of the app, and not of a later process under its number.
    if proc::app_below(guard.pid) == Some(app) && is_alive(guard) { Ok(Some(namespaces)) } else { Err(gone()) }
}

fn enter(namespaces: &[Namespace]) -> Result<(), Failure> {
    namespaces.iter().try_for_each(|one| setns(&one.handle, one.kind)).attempt(|| "joining the app's namespaces".into())
}

/// The guard of a program in the app's namespaces.
fn outer(entry: &Entry, group: Option<&Group>, keeper: &Keeper, watched: [&OwnedFd; 2], namespaces: &[Namespace]) -> Result<End, Failure> {
    let (reader, writer) = io::pipe().attempt(|| "opening a pipe".into())?;
    // A pid namespace is for children only.
    let (pid, others) = namespaces.split_at(1);
    enter(pid)?;
    let Some(program) = fork()? else {
        drop(reader);
        if let Err(Failure(what)) = prepare(entry, group, others, &writer) {
            give_up(&what);
        }
        become_app(entry, false);
    };
    drop(writer);
    let end = keeper.keep(program, Role::Init, &watched).attempt(|| "waiting for the program".into());
    drop(reader);
    end
}

fn prepare(entry: &Entry, group: Option<&Group>, namespaces: &[Namespace], report: &io::PipeWriter) -> Result<(), Failure> {
    let die = || nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).attempt(|| "asking to end with the guard".into());
    die()?;
    if keep::reader_is_gone(report) {
        return Err(Failure("its guard has ended".into()));
    }
    if let Some(group) = group {
        group.join().attempt(|| "joining the control group".into())?;
    }
    enter(namespaces)?;
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    privileges::own_output(entry.sandbox.user);
    privileges::drop_all(entry.sandbox.user)?;
    confine::scope();
    privileges::filter_system_calls(entry.sandbox.network)?;
    // Giving up privileges has cancelled it.
    die()
}

/// The guard where there are no namespaces.
fn plain(entry: &Entry, group: Option<&Group>, keeper: &Keeper, watched: [&OwnedFd; 2]) -> Result<End, Failure> {
    nix::sys::prctl::set_child_subreaper(true).attempt(|| "adopting orphans".into())?;
    let own = nix::unistd::getpid();
    let Some(program) = fork()? else {
        if let Err(Failure(what)) = prepare_plain(entry, group, own) {
            give_up(&what);
        }
        become_app(entry, true);
    };
    keeper.keep(program, Role::Plain, &watched).attempt(|| "waiting for the program".into())
}
