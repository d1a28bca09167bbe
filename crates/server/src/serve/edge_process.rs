//! Starts the edge, detached, and again whenever it has ended.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

/// How the edge is started.
pub(super) struct Edge {
    pub(super) dir: PathBuf,
    pub(super) listen: Vec<SocketAddr>,
    pub(super) tls_listen: Vec<SocketAddr>,
    pub(super) base_domain: String,
    /// Absolute.
    pub(super) tls_certificate: Option<PathBuf>,
}

/// What an edge says of itself.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Pong {
    listen: Vec<SocketAddr>,
    /// Of an edge from before there was TLS: none.
    #[serde(default)]
    tls_listen: Vec<SocketAddr>,
    #[serde(default)]
    tls_certificate: Option<PathBuf>,
}

impl Edge {
    /// Whether it listens where it should, with the certificate that it should have. Where the kernel chooses a port, any will do.
    fn is(&self, pong: &Pong) -> bool {
        let same = |wanted: &[SocketAddr], found: &[SocketAddr]| wanted == found || wanted.iter().any(|address| address.port() == 0);
        same(&self.listen, &pong.listen) && same(&self.tls_listen, &pong.tls_listen) && self.tls_certificate == pong.tls_certificate
    }
}

/// Keeps an edge running until `stop`. The edge outlives this process on purpose: apps go on answering while the control plane is
/// restarted or upgraded. One that was started with other addresses is replaced by another, which takes over from it.
pub(super) async fn keep_running(edge: Edge, stop: CancellationToken) {
    let mut compared = false;
    loop {
        match connect(&edge.dir).await {
            // The connection closes when the edge ends: that is the event to wait for.
            Some((mut stream, pong)) => {
                let first = !std::mem::replace(&mut compared, true);
                if first && pong.is_some_and(|pong| !edge.is(&pong)) {
                    tracing::info!("the edge was started with other settings; another one takes over");
                    start(&edge);
                }
                let mut end = [0; 64];
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = stream.read(&mut end) => {}
                }
            }
            None => {
                compared = true;
                start(&edge);
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = until_ready(&edge.dir) => {}
                }
            }
        }
    }
}

fn start(edge: &Edge) {
    if let Err(error) = spawn(edge) {
        tracing::error!(%error, "the edge cannot be started; it is tried again");
    }
}

/// A connection to the edge, and what it says of itself if that can be read.
async fn connect(dir: &Path) -> Option<(UnixStream, Option<Pong>)> {
    let ask = async {
        let mut stream = UnixStream::connect(dir.join("control.sock")).await.ok()?;
        stream.write_all(b"{\"op\":\"ping\"}\n").await.ok()?;
        let mut answer = [0; 4096];
        let length = stream.read(&mut answer).await.ok()?;
        (length > 0).then(|| (stream, serde_json::from_slice(&answer[..length]).ok()))
    };
    tokio::time::timeout(Duration::from_secs(2), ask).await.ok().flatten()
}

/// A fresh process gives no sign when its socket is there, so the socket is tried.
async fn until_ready(dir: &Path) {
    for _ in 0..100 {
        tokio::time::sleep(Duration::from_millis(30)).await;
        if connect(dir).await.is_some() {
            return;
        }
    }
}

fn spawn(edge: &Edge) -> std::io::Result<()> {
    use std::os::unix::process::CommandExt;
    let log = std::fs::OpenOptions::new().create(true).append(true).open(edge.dir.join("edge.log"))?;
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
    // Reaped when it ends while we live; taken over by init when we end first.
    std::thread::Builder::new().name("edge-reaper".into()).stack_size(64 * 1024).spawn(move || child.wait())?;
    Ok(())
}
