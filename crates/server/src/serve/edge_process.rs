//! Starts the edge, detached, and again whenever it has ended.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio_util::sync::CancellationToken;

/// Keeps an edge running until `stop`. The edge outlives this process on purpose: apps go on answering while the control plane is
/// restarted or upgraded.
pub(super) async fn keep_running(dir: PathBuf, listen: Vec<SocketAddr>, stop: CancellationToken) {
    loop {
        match connect(&dir).await {
            // The connection closes when the edge ends: that is the event to wait for.
            Some(mut stream) => {
                let mut end = [0; 64];
                tokio::select! {
                    () = stop.cancelled() => return,
                    _ = stream.read(&mut end) => {}
                }
            }
            None => {
                if let Err(error) = spawn(&dir, &listen) {
                    tracing::error!(%error, "the edge cannot be started; it is tried again");
                }
                tokio::select! {
                    () = stop.cancelled() => return,
                    () = until_ready(&dir) => {}
                }
            }
        }
    }
}

async fn connect(dir: &Path) -> Option<UnixStream> {
    let ask = async {
        let mut stream = UnixStream::connect(dir.join("control.sock")).await.ok()?;
        stream.write_all(b"{\"op\":\"ping\"}\n").await.ok()?;
        let mut answer = [0; 512];
        (stream.read(&mut answer).await.ok()? > 0).then_some(stream)
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

fn spawn(dir: &Path, listen: &[SocketAddr]) -> std::io::Result<()> {
    use std::os::unix::process::CommandExt;
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("edge.log"))?;
    let mut command = std::process::Command::new(std::env::current_exe()?);
    command.arg("edge").arg("--dir").arg(dir);
    for address in listen {
        command.arg("--listen").arg(address.to_string());
    }
    // A process group of its own: an interrupt at the terminal ends `serve` and leaves the edge.
    command.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command.env_clear().current_dir("/");
    let mut child = command.spawn()?;
    // Reaped when it ends while we live; taken over by init when we end first.
    std::thread::Builder::new().name("edge-reaper".into()).stack_size(64 * 1024).spawn(move || child.wait())?;
    Ok(())
}
