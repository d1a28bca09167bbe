//! Starts the edge, detached, and again whenever it has ended.

use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::Context;
use edge::control::{Pong, SOCKET};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::pipe;
use tokio::sync::{oneshot, watch};
use tokio_util::sync::CancellationToken;

/// An edge that could not start is started again after so long.
const AGAIN: Duration = Duration::from_secs(3);
/// How often a new edge is asked whether it is there, and how many times: longer than one waits for a port.
const LOOK: Duration = Duration::from_millis(30);
const LOOKS: u32 = 200;
/// An edge that is told to end has taken no longer, whatever its clients do.
const ENDING: Duration = Duration::from_secs(30);
/// The last line of an edge's log is looked for in so many bytes.
const TAIL: u64 = 4096;

/// How the edge is started.
pub(super) struct Edge {
    pub(super) dir: PathBuf,
    pub(super) listen: Vec<SocketAddr>,
    pub(super) tls_listen: Vec<SocketAddr>,
    pub(super) base_domain: String,
    /// Absolute.
    pub(super) tls_certificate: Option<PathBuf>,
}

/// What has become of the edge.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// It does not answer yet.
    Starting,
    /// It takes requests as it should.
    Ready,
    /// It has ended at its start; why, for the operator.
    Failed(String),
}

impl Edge {
    /// Whether it is this program and listens where it should, with the certificate and for the domain that it should have. Where the kernel
    /// chooses a port, any will do.
    fn is(&self, pong: &Pong) -> bool {
        let same = |wanted: &[SocketAddr], found: &[SocketAddr]| wanted == found || wanted.iter().any(|address| address.port() == 0);
        same(&self.listen, &pong.listen)
            && same(&self.tls_listen, &pong.tls_listen)
            && self.tls_certificate == pong.tls_certificate
            && self.base_domain == pong.base_domain
            && edge::control::program() == pong.program
    }
}

/// Keeps an edge running until `stop`. The edge outlives this process on purpose: apps go on answering while the control plane is
/// restarted or upgraded. One of another program, or that was started with other settings, is replaced by another, which takes over from it.
pub(super) async fn keep_running(edge: Edge, state: watch::Sender<State>, stop: CancellationToken) {
    let mut settled = false;
    loop {
        let found = connect(&edge.dir).await;
        let differs = found.as_ref().is_some_and(|(_, pong)| pong.as_ref().is_some_and(|pong| !edge.is(pong)));
        match found {
            // The connection closes when the edge ends: that is the event to wait for.
            Some((mut stream, _)) if settled || !differs => {
                settled = true;
                state.send_replace(State::Ready);
                let mut end = [0; 64];
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = stream.read(&mut end) => {}
                }
            }
            _ => {
                if differs {
                    tracing::info!("the edge is of another program or was started with other settings; another one takes over");
                }
                let failure = tokio::select! {
                    () = stop.cancelled() => return,
                    failure = start(&edge) => failure,
                };
                settled = failure.is_none();
                if let Some(failure) = failure {
                    tell(&state, failure);
                    tokio::select! {
                        () = stop.cancelled() => return,
                        () = tokio::time::sleep(AGAIN) => {}
                    }
                }
            }
        }
    }
}

/// Says once why there is no edge, however often it is tried.
fn tell(state: &watch::Sender<State>, failure: String) {
    let known = matches!(&*state.borrow(), State::Failed(known) if *known == failure);
    if !known {
        tracing::error!("the edge does not start, and is tried again: {failure}");
        state.send_replace(State::Failed(failure));
    }
}

/// Starts an edge and waits until it answers; why it has ended instead, if it has.
async fn start(edge: &Edge) -> Option<String> {
    let mut ended = match spawn(edge) {
        Ok(ended) => ended,
        Err(error) => return Some(error.to_string()),
    };
    tokio::select! {
        () = until_ready(edge) => None,
        status = &mut ended => Some(last_words(&edge.dir.join(LOG), status.ok())),
    }
}

/// Ends the edge of a folder and waits until it has; `false` when there is none. What it has begun to answer is answered.
pub(super) async fn end(dir: &Path) -> anyhow::Result<bool> {
    let Some((mut stream, pong)) = connect(dir).await else { return Ok(false) };
    let pid = pong.and_then(|pong| i32::try_from(pong.pid).ok()).and_then(Pid::from_raw);
    let process = pid.and_then(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK).ok());
    stream.write_all(b"{\"op\":\"shutdown\"}\n").await?;
    let over = async {
        // The connection is closed when it takes nothing new any more; what it has begun goes on until the process ends.
        let mut rest = vec![];
        stream.read_to_end(&mut rest).await?;
        if let Some(process) = process {
            // Tokio's pipe is its one way to wait for any descriptor that owns itself; nothing is ever read from it.
            pipe::Receiver::from_owned_fd_unchecked(process)?.readable().await?;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(ENDING, over).await.context("the edge did not end: try again")??;
    Ok(true)
}

/// A connection to the edge, and what it says of itself if that can be read.
async fn connect(dir: &Path) -> Option<(UnixStream, Option<Pong>)> {
    let ask = async {
        let mut stream = UnixStream::connect(dir.join(SOCKET)).await.ok()?;
        stream.write_all(b"{\"op\":\"ping\"}\n").await.ok()?;
        let mut answer = [0; 4096];
        let length = stream.read(&mut answer).await.ok()?;
        (length > 0).then(|| (stream, serde_json::from_slice(&answer[..length]).ok()))
    };
    tokio::time::timeout(Duration::from_secs(2), ask).await.ok().flatten()
}

/// A fresh process gives no sign when its socket is there, so the socket is tried; the one before may answer at first.
async fn until_ready(edge: &Edge) {
    for _ in 0..LOOKS {
        tokio::time::sleep(LOOK).await;
        if connect(&edge.dir).await.is_some_and(|(_, pong)| pong.is_none_or(|pong| edge.is(&pong))) {
            return;
        }
    }
}

/// Why an edge has ended, in its own words where it left any.
fn last_words(log: &Path, status: Option<ExitStatus>) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(TAIL)))?;
        let mut bytes = vec![];
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let last = text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    match last.strip_prefix("orrery: ") {
        Some(error) if error.starts_with("cannot listen on ") => {
            format!("{error}. Stop what uses that port, or choose another with --edge-listen (for https --edge-tls-listen)")
        }
        Some(error) => error.to_owned(),
        None => format!("{}; see {}", status.map_or_else(|| "it has ended".to_owned(), |status| status.to_string()), log.display()),
    }
}

/// What the edge writes to standard error, in its folder.
const LOG: &str = "edge.log";

/// Starts an edge; how it ends, if it does while we live.
fn spawn(edge: &Edge) -> std::io::Result<oneshot::Receiver<ExitStatus>> {
    use std::os::unix::process::CommandExt;
    let log = std::fs::OpenOptions::new().create(true).append(true).open(edge.dir.join(LOG))?;
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.arg("edge").arg("--dir").arg(&edge.dir).arg("--base-domain").arg(&edge.base_domain);
    for address in &edge.listen {
        command.arg("--listen").arg(address.to_string());
    }
    for address in &edge.tls_listen {
        command.arg("--tls-listen").arg(address.to_string());
    }
    if let Some(file) = &edge.tls_certificate {
        command.arg("--tls-certificate").arg(file);
    }
    // A process group of its own: an interrupt at the terminal ends `serve` and leaves the edge.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.env_clear().current_dir("/");
    let mut child = command.spawn()?;
    let (sender, ended) = oneshot::channel();
    // Reaped when it ends while we live; taken over by init when we end first.
    std::thread::Builder::new().name("edge-reaper".into()).stack_size(64 * 1024).spawn(move || {
        if let Ok(status) = child.wait() {
            // Nobody waits for one that has once been ready.
            let _ = sender.send(status);
        }
    })?;
    Ok(ended)
}
