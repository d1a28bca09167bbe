//! A program that a person has started beside a replica's app: its terminal or its pipes, from outside.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use domain::shell::{ShellEnd, ShellInput, ShellSignal, ShellStream, TerminalSize};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, Interest};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};
use tokio::sync::mpsc::{Receiver, Sender};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use crate::UnixUser;

/// One piece of output is this long at most.
const PIECE: usize = 16 * 1024;
/// A program whose person has gone is given so long to end by itself, and its guard so long to end everything.
const GRACE: Duration = Duration::from_secs(2);
/// More output is waited for so long after the end; only what the program left behind could hold it back.
const LAST_OUTPUT: Duration = Duration::from_secs(2);

/// A piece of output and where it comes from.
pub type ShellOutput = (ShellStream, Vec<u8>);

/// See the module. Dropping it ends the program.
#[derive(Debug)]
pub struct Shell {
    child: Child,
    wires: Wires,
}

#[derive(Debug)]
enum Wires {
    Terminal(AsyncFd<OwnedFd>),
    Pipes { input: Option<ChildStdin>, output: Option<ChildStdout>, error: Option<ChildStderr> },
}

/// A terminal's near end, for tasks that wait until there is something to read or room to write.
#[allow(unsafe_code)]
fn watched(near: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open, and the same file, until it is dropped, which is no earlier than the `AsyncFd` that owns it.
    Ok(unsafe { AsyncFd::register(near) }?)
}

impl Shell {
    /// Starts the command, on a terminal of that size or on pipes. The terminal belongs to `user`, so that programs can open it by name.
    pub(crate) fn start(mut command: Command, terminal: Option<TerminalSize>, user: Option<UnixUser>) -> io::Result<Self> {
        command.kill_on_drop(true);
        let Some(size) = terminal else {
            let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
            let wires = Wires::Pipes { input: child.stdin.take(), output: child.stdout.take(), error: child.stderr.take() };
            return Ok(Self { child, wires });
        };
        let (near, far) = terminal_of(size, user)?;
        command.stdin(Stdio::from(far.try_clone()?)).stdout(Stdio::from(far.try_clone()?)).stderr(Stdio::from(far));
        let child = command.spawn()?;
        // It holds the far end, which ends only when nobody does.
        drop(command);
        Ok(Self { child, wires: Wires::Terminal(watched(near)?) })
    }

    /// Passes on what comes and goes until the program has ended. It is hung up when nobody sends or listens any more.
    ///
    /// # Errors
    /// The program cannot be waited for.
    pub async fn relay(self, input: Receiver<ShellInput>, output: Sender<ShellOutput>) -> io::Result<ShellEnd> {
        let Self { mut child, wires } = self;
        let guard = child.id();
        let (terminal, pipe, outputs) = match wires {
            Wires::Terminal(terminal) => (Some(terminal), None, None),
            Wires::Pipes { input, output, error } => (None, input, Some((output, error))),
        };
        let over = watch::Sender::new(false);
        let mut reading = std::pin::pin!(async {
            if let Some(terminal) = &terminal {
                read_terminal(terminal, &output, &over).await;
            }
            if let Some((out, error)) = outputs {
                tokio::join!(read_pipe(out, ShellStream::Output, &output, &over), read_pipe(error, ShellStream::Error, &output, &over));
            }
        });
        let mut writing = std::pin::pin!(async {
            tokio::select! {
                () = write_all(input, terminal.as_ref(), pipe, guard) => {}
                // Also while the program reads nothing.
                () = output.closed() => {}
            }
        });
        let (mut read, mut written) = (false, false);
        let mut patience = Patience::default();
        let status = loop {
            tokio::select! {
                status = child.wait() => break status?,
                () = &mut reading, if !read => read = true,
                () = &mut writing, if !written => {
                    written = true;
                    patience.lose(guard);
                }
                () = until(patience.ends) => patience.lose(guard),
            }
        };
        over.send_replace(true);
        if !read {
            // As slowly as the person takes it.
            reading.await;
        }
        Ok(end_of(status))
    }
}

/// What is left of it for a program whose person has gone.
#[derive(Default)]
struct Patience {
    ends: Option<Instant>,
    lost: u8,
}

impl Patience {
    /// First the program is hung up, then everything is ended by its guard, then the guard itself.
    fn lose(&mut self, guard: Option<u32>) {
        send(guard, [Signal::SIGHUP, Signal::SIGALRM].get(usize::from(self.lost)).copied().unwrap_or(Signal::SIGKILL));
        self.lost = self.lost.saturating_add(1);
        self.ends = Some(Instant::now() + GRACE);
    }
}

async fn until(instant: Option<Instant>) {
    match instant {
        Some(instant) => sleep_until(instant).await,
        None => std::future::pending().await,
    }
}

/// A terminal's near and far end.
fn terminal_of(size: TerminalSize, user: Option<UnixUser>) -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let near = openpt(flags)?;
    unlockpt(&near)?;
    let far = ioctl_tiocgptpeer(&near, flags)?;
    resize(&near, size)?;
    fcntl_setfl(&near, fcntl_getfl(&near)? | OFlags::NONBLOCK)?;
    if let Some(user) = user.filter(|_| nix::unistd::geteuid().is_root()) {
        // Without it the program cannot open its terminal a second time, by name; the ends that it is given work in any case.
        let _ = nix::unistd::fchown(&far, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)));
    }
    Ok((near, far))
}

fn resize(terminal: &OwnedFd, size: TerminalSize) -> io::Result<()> {
    let size = Winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    Ok(tcsetwinsize(terminal, size)?)
}

/// Returns when the program is over and nothing has come for a while.
async fn silence(over: &watch::Sender<bool>) {
    // The sender is here, so this only ends with the change.
    let _ = over.subscribe().wait_for(|over| *over).await;
    sleep(LAST_OUTPUT).await;
}

async fn read_terminal(terminal: &AsyncFd<OwnedFd>, output: &Sender<ShellOutput>, over: &watch::Sender<bool>) {
    let mut buffer = vec![0; PIECE];
    loop {
        let read = tokio::select! {
            read = terminal.async_io(Interest::READABLE, |near| Ok(nix::unistd::read(near, &mut buffer)?)) => read,
            () = silence(over) => return,
        };
        match read {
            // An error says that nobody holds the far end any more.
            Ok(0) | Err(_) => return,
            Ok(length) => {
                if output.send((ShellStream::Output, buffer[..length].to_vec())).await.is_err() {
                    return;
                }
            }
        }
    }
}

async fn read_pipe(pipe: Option<impl AsyncRead + Unpin>, stream: ShellStream, output: &Sender<ShellOutput>, over: &watch::Sender<bool>) {
    let Some(mut pipe) = pipe else { return };
    let mut buffer = vec![0; PIECE];
    loop {
        let read = tokio::select! {
            read = pipe.read(&mut buffer) => read,
            () = silence(over) => return,
        };
        // An error on a pipe is its end.
        let Ok(length @ 1..) = read else { return };
        if output.send((stream, buffer[..length].to_vec())).await.is_err() {
            return;
        }
    }
}

/// Hands on what a person sends until they send no more.
async fn write_all(mut input: Receiver<ShellInput>, terminal: Option<&AsyncFd<OwnedFd>>, mut pipe: Option<ChildStdin>, guard: Option<u32>) {
    while let Some(piece) = input.recv().await {
        match (piece, terminal) {
            (ShellInput::Bytes(bytes), Some(terminal)) => type_in(terminal, &bytes).await,
            (ShellInput::Bytes(bytes), None) => {
                let Some(open) = &mut pipe else { continue };
                // A program that reads no more gets no more.
                if open.write_all(&bytes).await.is_err() {
                    pipe = None;
                }
            }
            (ShellInput::End, _) => pipe = None,
            (ShellInput::Resize(size), Some(terminal)) => {
                // It is hung up, which shows elsewhere.
                let _ = resize(terminal.get_ref(), size);
            }
            (ShellInput::Resize(_), None) => {}
            (ShellInput::Signal(signal), _) => send(guard, number_of(signal)),
        }
    }
}

async fn type_in(terminal: &AsyncFd<OwnedFd>, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let written = terminal.async_io(Interest::WRITABLE, |near| Ok(nix::unistd::write(near, bytes)?)).await;
        // A terminal that takes nothing more is hung up, which shows elsewhere.
        let Ok(length) = written else { return };
        bytes = &bytes[length..];
    }
}

fn number_of(signal: ShellSignal) -> Signal {
    match signal {
        ShellSignal::Hup => Signal::SIGHUP,
        ShellSignal::Int => Signal::SIGINT,
        ShellSignal::Quit => Signal::SIGQUIT,
        ShellSignal::Term => Signal::SIGTERM,
        // The guard's sign for ending everything.
        ShellSignal::Kill => Signal::SIGALRM,
    }
}

/// The guard hands it on to the program. Its number stays valid until it has been waited for, after which nobody asks.
fn send(guard: Option<u32>, signal: Signal) {
    if let Some(pid) = guard.and_then(|pid| i32::try_from(pid).ok()) {
        let _ = kill(Pid::from_raw(pid), signal);
    }
}

fn end_of(status: ExitStatus) -> ShellEnd {
    match (status.code(), status.signal()) {
        (Some(code), _) => ShellEnd::Status(code),
        (None, signal) => ShellEnd::Signal(signal.unwrap_or_default()),
    }
}
