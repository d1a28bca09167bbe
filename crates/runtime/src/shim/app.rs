//! One life of the app: from its start until it has ended and its last line is kept.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Child;
use tokio::time::{Instant, sleep_until};

use super::Supervisor;
use super::lines::Lines;
use super::spool::Spool;
use crate::ObservedPhase;
use crate::proc::Identity;

/// The guard is given so long to end everything inside before it is killed itself.
const GUARD_GRACE: Duration = Duration::from_secs(2);
/// Output that is still in a pipe after the end is waited for so long; only a process that escaped could hold the pipe open.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

/// How an app ended.
pub(super) enum End {
    Status(i32),
    Signal(i32),
}

/// A life of the app.
pub(super) struct Run {
    pub(super) end: End,
    pub(super) lasted: Duration,
    /// The kernel ended a process of it for want of memory.
    pub(super) out_of_memory: bool,
    /// It was asked to stop.
    pub(super) stopped: bool,
}

/// One of the app's two outputs.
struct Output<R> {
    pipe: Option<R>,
    lines: Lines,
    error: bool,
    buffer: Vec<u8>,
}

impl<R: AsyncRead + Unpin> Output<R> {
    fn new(pipe: Option<R>, error: bool) -> Self {
        Self { pipe, lines: Lines::default(), error, buffer: vec![0; 16 * 1024] }
    }

    /// Waits for more. Never ready once it has ended.
    async fn read(&mut self) -> usize {
        match &mut self.pipe {
            // An error on a pipe is its end.
            Some(pipe) => pipe.read(&mut self.buffer).await.unwrap_or(0),
            None => std::future::pending().await,
        }
    }

    fn keep(&mut self, length: usize, spool: &mut Spool) {
        let error = self.error;
        if length == 0 {
            self.pipe = None;
            self.lines.finish(|line| spool.line(error, line));
        } else {
            self.lines.feed(&self.buffer[..length], |line| spool.line(error, line));
        }
        spool.flush();
    }
}

/// A stop that is under way.
#[derive(Default)]
struct Stopping {
    /// When patience ends: first with the app, then with its guard.
    deadline: Option<Instant>,
    asked: bool,
    forced: bool,
}

impl Supervisor {
    /// Runs the app once.
    pub(super) async fn run(&mut self) -> io::Result<Run> {
        let kills_before = self.group.as_ref().map_or(0, |group| group.oom_kills());
        let mut child = self.command()?.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
        let guard = child.id().and_then(Identity::of);
        self.enter(ObservedPhase::Running, guard);
        let began = Instant::now();
        let mut stdout = Output::new(child.stdout.take(), false);
        let mut stderr = Output::new(child.stderr.take(), true);
        let mut stopping = Stopping::default();
        let mut ended: Option<(ExitStatus, Instant)> = None;
        while ended.is_none() || ((stdout.pipe.is_some() || stderr.pipe.is_some()) && !is_past(ended.map(|(_, at)| at + LAST_OUTPUT))) {
            tokio::select! {
                length = stdout.read() => { stdout.keep(length, &mut self.spool); self.ringer.output(); }
                length = stderr.read() => { stderr.keep(length, &mut self.spool); self.ringer.output(); }
                status = child.wait(), if ended.is_none() => ended = Some((status?, Instant::now())),
                _ = self.terminate.recv() => self.ask(&child, guard, &mut stopping),
                () = until(stopping.deadline), if ended.is_none() => force(&child, &mut stopping),
                () = until(self.spool.due()) => { self.spool.tick(); self.ringer.output(); }
                () = until(self.ringer.due()) => self.ringer.tick(),
                () = until(ended.map(|(_, at)| at + LAST_OUTPUT)) => {}
            }
        }
        stdout.keep(0, &mut self.spool);
        stderr.keep(0, &mut self.spool);
        let kills = self.group.as_ref().map_or(0, |group| group.oom_kills());
        let end = ended.map_or(End::Status(-1), |(status, _)| end_of(status));
        Ok(Run { end, lasted: began.elapsed(), out_of_memory: kills > kills_before, stopped: stopping.asked })
    }

    /// Asks the app to end. Asked again, it can only get less time.
    fn ask(&mut self, child: &Child, guard: Option<Identity>, stopping: &mut Stopping) {
        let grace = self.folder.stop().ok().flatten().map(|stop| Duration::from_millis(stop.grace_millis));
        let grace = grace.unwrap_or(Duration::from_secs(u64::from(self.replica.draining_seconds)));
        // Far enough to mean "whenever it likes", near enough to be counted.
        let deadline = Instant::now() + grace.min(Duration::from_secs(86_400));
        stopping.deadline = Some(stopping.deadline.map_or(deadline, |before| before.min(deadline)));
        if !std::mem::replace(&mut stopping.asked, true) {
            send(child, Signal::SIGTERM);
            self.enter(ObservedPhase::Stopping, guard);
        }
    }
}

/// Patience has ended.
fn force(child: &Child, stopping: &mut Stopping) {
    if stopping.forced {
        send(child, Signal::SIGKILL);
        stopping.deadline = None;
    } else {
        // The guard's sign for ending everything inside.
        send(child, Signal::SIGALRM);
        stopping.forced = true;
        stopping.deadline = Some(Instant::now() + GUARD_GRACE);
    }
}

fn send(child: &Child, signal: Signal) {
    // Its number stays valid until it has been waited for, after which there is none.
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

fn is_past(instant: Option<Instant>) -> bool {
    instant.is_some_and(|instant| Instant::now() >= instant)
}

fn end_of(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Status(code),
        (None, signal) => End::Signal(signal.unwrap_or_default()),
    }
}
