//! Waiting for a child while passing signals on: what a guard and an init process do.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::signalfd::{SfdFlags, SignalFd};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use super::enter::leave;
use crate::proc;

/// The signals that are passed on.
const PASSED: [Signal; 8] =
    [Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGUSR2, Signal::SIGWINCH, Signal::SIGCONT];

/// Whose child is waited for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Outside of a pid namespace: the child is its init process, with whose end everything inside has ended.
    Guard,
    /// Inside, or for a program that joins an app's namespaces: the child is the app or that program, a leader of its process group.
    Init,
    /// No namespace: the child is the app, and its orphans come to this process.
    Plain,
}

/// How an app ended.
#[derive(Clone, Copy, Serialize, Deserialize)]
pub(super) enum End {
    Status(i32),
    Signal(i32),
}

impl End {
    /// Ends this process in the same way.
    pub(super) fn repeat(self) -> ! {
        let number = match self {
            Self::Status(code) => leave(code),
            Self::Signal(number) => number,
        };
        if let Ok(signal) = Signal::try_from(number) {
            let mut mask = SigSet::empty();
            mask.add(signal);
            // A signal that cannot be repeated becomes the customary status below.
            let _ = mask.thread_unblock();
            // Twice: Rust's handler for stack overflows takes the first SIGSEGV and then stands back.
            let _ = nix::sys::signal::raise(signal).and_then(|()| nix::sys::signal::raise(signal));
        }
        leave(128 + number)
    }
}

/// Holds the signals of this process.
pub(super) struct Keeper {
    signals: SignalFd,
}

impl Keeper {
    /// Blocks the signals, for this process and those that it forks.
    pub(super) fn new() -> Result<Self, Errno> {
        let mut mask = SigSet::empty();
        PASSED.into_iter().chain([Signal::SIGCHLD, Signal::SIGALRM]).for_each(|signal| mask.add(signal));
        mask.thread_block()?;
        Ok(Self { signals: SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)? })
    }

    /// Waits for `child`. When one of the watched processes ends first, the child is ended.
    pub(super) fn keep(&self, child: Pid, role: Role, watched: &[&OwnedFd]) -> Result<End, Errno> {
        // Forked processes share a signal file, but it tells each reader of its own signals.
        let mut watched = watched;
        loop {
            if let Some(end) = reap(child, role)? {
                return Ok(end);
            }
            let mut waiting = vec![PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)];
            waiting.extend(watched.iter().map(|process| PollFd::new(process.as_fd(), PollFlags::POLLIN)));
            match poll(&mut waiting, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
                result => result?,
            };
            if waiting.iter().skip(1).any(|process| process.any() == Some(true)) {
                watched = &[];
                end_all(child, role);
            }
            while let Some(info) = self.signals.read_signal()? {
                match i32::try_from(info.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok()) {
                    Some(Signal::SIGALRM) => end_all(child, role),
                    Some(Signal::SIGCHLD) | None => {}
                    Some(signal) => pass_on(child, role, signal),
                }
            }
        }
    }
}

/// Takes leave of every child that has ended.
fn reap(child: Pid, role: Role) -> Result<Option<End>, Errno> {
    let mut ended = None;
    loop {
        let (pid, end) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) => (pid, End::Status(code)),
            Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, End::Signal(signal as i32)),
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => break,
            Ok(_) | Err(Errno::EINTR) => continue,
            Err(error) => return Err(error),
        };
        if pid == child {
            ended = Some(end);
        }
    }
    if ended.is_some() && role == Role::Plain {
        end_orphans(child)?;
    }
    Ok(ended)
}

/// The app is gone: so goes what it left behind. Without a pid namespace that is done by hand.
fn end_orphans(group: Pid) -> Result<(), Errno> {
    let _ = nix::sys::signal::killpg(group, Signal::SIGKILL);
    loop {
        for pid in proc::children(std::process::id()) {
            // It may have ended meanwhile.
            let _ = i32::try_from(pid).map(|pid| kill(Pid::from_raw(pid), Signal::SIGKILL));
        }
        match waitpid(None, None) {
            Err(Errno::ECHILD) => return Ok(()),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(error) => return Err(error),
        }
    }
}

fn pass_on(child: Pid, role: Role, signal: Signal) {
    // A process that has ended needs no signal; the loop sees its end next.
    let _ = match role {
        Role::Guard => kill(child, signal),
        // Before it leads its group, it is alone.
        Role::Init | Role::Plain => nix::sys::signal::killpg(child, signal).or_else(|_| kill(child, signal)),
    };
}

fn end_all(child: Pid, role: Role) {
    pass_on(child, role, Signal::SIGKILL);
}

/// Nobody holds the other end of the pipe.
pub(super) fn reader_is_gone(pipe: &io::PipeWriter) -> bool {
    let mut waiting = [PollFd::new(pipe.as_fd(), PollFlags::empty())];
    let found = poll(&mut waiting, PollTimeout::ZERO);
    found.is_ok_and(|count| count > 0) && waiting[0].revents().is_some_and(|events| events.contains(PollFlags::POLLERR))
}
