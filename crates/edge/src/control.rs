//! The control socket, `control.sock` in the edge's folder: a Unix stream socket for its owner only. Requests and answers are JSON objects, one a
//! line, one answer per request in the order of the requests; a connection may send as many as it likes, and connections do not wait for each other.
//!
//! | request | answer |
//! | --- | --- |
//! | `{"op":"reload"}` | `{"version":N}` once every thread uses `table.json` as it is now |
//! | `{"op":"drain","replica":"…","timeoutMs":3000}` | `{"inFlight":N}` once no request or websocket to the replica is in flight (0), or at the timeout |
//! | `{"op":"stats"}` | `{"version":N,"connections":{"<replica>":n},"idleMs":{"<replica>":n},"requests":N,"unlogged":N,"clients":N,"pid":N}` |
//! | `{"op":"traffic","after":N}` | `{"slots":[…],"more":false}`: what was asked and answered in the intervals behind N ([`domain::metric::TrafficSlot`]); up to N it is forgotten |
//! | `{"op":"wanted","timeoutMs":30000}` | `{"apps":[{"workspaceId":"…","deploymentId":"…"}]}` once a request waits for an app that sleeps, or none at the timeout |
//! | `{"op":"certificates"}` | `{"certificates":N,"challenges":N,"refused":["host: why"]}` once new connections use `certificates.json` as it is now |
//! | `{"op":"ping"}` | what the edge is and how it was started ([`Pong`]) |
//! | `{"op":"shutdown"}` | `{}`, and the edge ends gracefully |
//!
//! Whatever cannot be done is answered `{"error":"…"}`; a table that cannot be read leaves the present one in use and adds its `version`.

use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use domain::ReplicaId;
use domain::routing::RoutingTable;
use futures::{SinkExt as _, StreamExt as _};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Mutex, Notify, mpsc, oneshot};
use tokio_util::codec::{Framed, LinesCodec};

use crate::tcp::Ports;
use crate::worker::{Command, Shared};
use crate::{EdgeConfig, table, tls};

/// The name of the socket in the edge's folder.
pub const SOCKET: &str = "control.sock";
/// A request longer than this ends its connection.
const LINE: usize = 64 * 1024;
/// The operator's certificate is renewed behind our back: it is read again so often.
const REFRESH: Duration = Duration::from_secs(3_600);
/// How long an edge that is to be replaced may take to agree.
const TAKEOVER: Duration = Duration::from_secs(3);
/// How often the edge looks whether the socket under its name is still its own.
const SIGHT: Duration = Duration::from_secs(1);

/// What the edge can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Request {
    /// Read the table again.
    Reload,
    /// Wait until a replica has nothing in flight.
    Drain {
        /// Which.
        replica: ReplicaId,
        /// For how long at most, in ms.
        timeout_ms: u64,
    },
    /// Count.
    Stats,
    /// Tell what was asked and answered.
    Traffic {
        /// Up to where it is stored, in seconds since the epoch: 0 at first, then the last interval of the answer before.
        after: i64,
    },
    /// Tell which apps that sleep are asked for, as soon as there is one.
    Wanted {
        /// For how long to wait at most, in ms.
        timeout_ms: u64,
    },
    /// Read the certificates and the answers to authorities again.
    Certificates,
    /// Say that you live.
    Ping,
    /// End gracefully.
    Shutdown,
}

/// What an edge says of itself. Those of earlier versions say less.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Pong {
    /// Of the table in use.
    pub version: u64,
    /// Of its process.
    pub pid: u32,
    /// Where it takes plain HTTP.
    pub listen: Vec<SocketAddr>,
    /// Where it takes HTTP inside TLS.
    pub tls_listen: Vec<SocketAddr>,
    /// The file of the base domain's certificate.
    pub tls_certificate: Option<PathBuf>,
    /// The base domain.
    pub base_domain: String,
    /// [`program`] of its process.
    pub program: String,
}

/// Tells the file that this process runs from those that were installed in its place before and after: its version, length and time of writing.
#[must_use]
pub fn program() -> String {
    // The link leads to the file that was started, also when another has its name by now.
    let file = std::fs::metadata("/proc/self/exe");
    let file = file.map(|file| format!(" {} {}.{:09}", file.len(), file.mtime(), file.mtime_nsec())).unwrap_or_default();
    format!("{}{file}", env!("CARGO_PKG_VERSION"))
}

/// Where this edge listens, the file of the base domain's certificate, and the base domain.
pub(crate) struct Listening {
    pub(crate) http: Vec<SocketAddr>,
    pub(crate) tls: Vec<SocketAddr>,
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) base_domain: String,
}

/// What the control socket needs of the rest.
pub(crate) struct Control {
    dir: PathBuf,
    listen: Listening,
    shared: Arc<Shared>,
    version: AtomicU64,
    threads: Vec<mpsc::UnboundedSender<Command>>,
    ports: Ports,
    /// One table is put in place at a time.
    reloading: Mutex<()>,
    /// And so is one set of certificates.
    certifying: Mutex<()>,
    shutdown: Notify,
}

impl Control {
    pub(crate) fn new(
        dir: PathBuf,
        listen: Listening,
        shared: Arc<Shared>,
        version: u64,
        threads: Vec<mpsc::UnboundedSender<Command>>,
    ) -> Self {
        let ports = Ports::new(Arc::clone(&shared), &listen.http);
        let (version, shutdown) = (AtomicU64::new(version), Notify::new());
        let (reloading, certifying) = (Mutex::default(), Mutex::default());
        Self { dir, listen, shared, version, threads, ports, reloading, certifying, shutdown }
    }

    /// Opens the TCP ports of the first table.
    pub(crate) fn open(&self, table: &RoutingTable) {
        self.ports.apply(&table.tcp);
    }
}

/// Serves the socket until somebody asks for the end.
///
/// # Errors
/// When the socket cannot be made.
pub(crate) async fn serve(control: Arc<Control>) -> io::Result<()> {
    if let Err(error) = take_over(&control.dir).await
        && !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused)
    {
        tracing::warn!(%error, "another edge has this folder and did not agree to end");
    }
    let (listener, own) = bind(&control.dir)?;
    // Until now the edge before was told of changes.
    if control.dir.join(table::FILE).exists() {
        reload(&control).await;
    }
    if control.dir.join(tls::FILE).exists() {
        certificates(&control).await;
    }
    let (mut again, mut sight) = (tokio::time::interval(REFRESH), tokio::time::interval(SIGHT));
    loop {
        tokio::select! {
            _ = sight.tick() => match identity(&control.dir.join(SOCKET)) {
                Ok(found) if found != own => {
                    tracing::info!("another edge has this folder: this one ends");
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    tracing::info!(dir = %control.dir.display(), "the control socket was removed: the edge ends");
                    return Ok(());
                }
                _ => {}
            },
            _ = again.tick() => {
                let shared = Arc::clone(&control.shared);
                drop(tokio::task::spawn_blocking(move || shared.certificates.refresh()));
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => drop(tokio::spawn(converse(Arc::clone(&control), stream))),
                Err(error) => {
                    tracing::warn!(%error, "the control socket cannot take a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            },
            () = control.shutdown.notified() => return Ok(()),
        }
    }
}

/// Which file has this name. That of a socket is nobody else's as long as the socket is open.
fn identity(name: &Path) -> io::Result<(u64, u64)> {
    let file = std::fs::symlink_metadata(name)?;
    Ok((file.dev(), file.ino()))
}

/// The ports of the edge that has the folder now, which the one to come shares with it until that has ended. One that does not say has them all.
pub(crate) fn held_ports(config: &EdgeConfig) -> Vec<u16> {
    let Ok(stream) = std::os::unix::net::UnixStream::connect(config.dir.join(SOCKET)) else { return vec![] };
    let held = match ping(stream) {
        Ok(pong) => [pong.listen, pong.tls_listen].concat(),
        Err(_) => [&config.listen[..], &config.tls_listen[..]].concat(),
    };
    held.iter().map(SocketAddr::port).collect()
}

fn ping(mut stream: std::os::unix::net::UnixStream) -> io::Result<Pong> {
    stream.set_read_timeout(Some(TAKEOVER))?;
    stream.write_all(b"{\"op\":\"ping\"}\n")?;
    stream.shutdown(std::net::Shutdown::Write)?;
    let mut answer = vec![];
    stream.read_to_end(&mut answer)?;
    Ok(serde_json::from_slice(&answer)?)
}

/// Ends the edge that has had this folder until now, if any.
async fn take_over(dir: &Path) -> io::Result<()> {
    let stream = UnixStream::connect(dir.join(SOCKET)).await?;
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(LINE));
    let agreed = async {
        lines.send(serde_json::to_string(&Request::Shutdown)?).await.map_err(io::Error::other)?;
        lines.next().await.ok_or(io::ErrorKind::UnexpectedEof)?.map_err(io::Error::other)
    };
    tokio::time::timeout(TAKEOVER, agreed).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    tracing::info!("another edge had this folder; it ends now");
    Ok(())
}

/// The socket appears under its name only when it has its final permissions, and in place of an old one without a gap. The second part is
/// which file it is.
fn bind(dir: &Path) -> io::Result<(UnixListener, (u64, u64))> {
    let fresh = dir.join(format!("{SOCKET}.{}", std::process::id()));
    if let Err(error) = std::fs::remove_file(&fresh)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let listener = UnixListener::bind(&fresh).map_err(|error| {
        io::Error::new(error.kind(), format!("cannot make {} (a socket's path has at most 107 bytes): {error}", fresh.display()))
    })?;
    std::fs::set_permissions(&fresh, std::fs::Permissions::from_mode(0o600))?;
    // Before it has its name: another edge may take that from it at once.
    let own = identity(&fresh)?;
    std::fs::rename(&fresh, dir.join(SOCKET))?;
    Ok((listener, own))
}

async fn converse(control: Arc<Control>, stream: UnixStream) {
    let mut lines = Framed::new(stream, LinesCodec::new_with_max_length(LINE));
    while let Some(Ok(line)) = lines.next().await {
        let request = serde_json::from_str(&line);
        let last = matches!(request, Ok(Request::Shutdown));
        let answer = match request {
            Ok(request) => perform(&control, request).await,
            Err(error) => json!({ "error": format!("not a request to the edge: {error}") }),
        };
        let written = lines.send(answer.to_string()).await;
        if last {
            control.shutdown.notify_one();
        }
        if written.is_err() {
            return;
        }
    }
}

async fn perform(control: &Control, request: Request) -> Value {
    match request {
        Request::Reload => reload(control).await,
        Request::Drain { replica, timeout_ms } => {
            let Some(load) = control.shared.loads.of(replica) else { return json!({ "inFlight": 0 }) };
            // Either way the count tells.
            let _ = tokio::time::timeout(Duration::from_millis(timeout_ms), load.empty()).await;
            json!({ "inFlight": load.in_flight() })
        }
        Request::Stats => {
            let busy: serde_json::Map<_, _> =
                control.shared.loads.in_flight().into_iter().map(|(replica, count)| (replica.to_string(), count.into())).collect();
            let idle: serde_json::Map<_, _> =
                control.shared.loads.idle().into_iter().map(|(replica, ms)| (replica.to_string(), ms.into())).collect();
            json!({
                "version": control.version.load(Relaxed),
                "connections": busy,
                "idleMs": idle,
                "requests": control.shared.requests.load(Relaxed),
                "unlogged": control.shared.unlogged.load(Relaxed),
                "clients": control.shared.connections.load(Relaxed),
                "pid": std::process::id(),
            })
        }
        Request::Traffic { after } => {
            let (slots, more) = control.shared.tally.take(after, domain::Timestamp::now());
            json!({ "slots": slots, "more": more })
        }
        Request::Wanted { timeout_ms } => {
            let apps = tokio::time::timeout(Duration::from_millis(timeout_ms), control.shared.wanted.take()).await;
            json!({ "apps": apps.unwrap_or_default() })
        }
        Request::Certificates => certificates(control).await,
        Request::Ping => json!(pong(control)),
        Request::Shutdown => json!({}),
    }
}

fn pong(control: &Control) -> Pong {
    let Listening { http, tls, certificate, base_domain } = &control.listen;
    Pong {
        version: control.version.load(Relaxed),
        pid: std::process::id(),
        listen: http.clone(),
        tls_listen: tls.clone(),
        // JSON knows no other names of files.
        tls_certificate: certificate.as_ref().map(|file| file.display().to_string().into()),
        base_domain: base_domain.clone(),
        program: program(),
    }
}

async fn certificates(control: &Control) -> Value {
    let _one = control.certifying.lock().await;
    let (shared, dir) = (Arc::clone(&control.shared), control.dir.clone());
    // Keys take long to check, and this thread carries the TCP ports' connections.
    let loading = tokio::task::spawn_blocking(move || {
        shared.certificates.refresh();
        shared.certificates.load(&dir)
    });
    match loading.await.unwrap_or_else(|error| Err(io::Error::other(error))) {
        Ok(loaded) => json!({ "certificates": loaded.certificates, "challenges": loaded.challenges, "refused": loaded.refused }),
        Err(error) => json!({ "error": format!("certificates.json cannot be read: {error}") }),
    }
}

async fn reload(control: &Control) -> Value {
    let _one = control.reloading.lock().await;
    let table = match table::load(&control.dir) {
        Ok(table) => table,
        Err(error) => {
            tracing::error!(%error, "the routing table cannot be read; the present one stays in use");
            let version = control.version.load(Relaxed);
            return json!({ "error": format!("table.json cannot be read: {error}"), "version": version });
        }
    };
    control.ports.apply(&table.tcp);
    let live = Arc::new(control.shared.loads.compile(table));
    let mut acknowledged = vec![];
    for thread in &control.threads {
        let (done, when_done) = oneshot::channel();
        if thread.send(Command::Use(Arc::clone(&live), done)).is_ok() {
            acknowledged.push(when_done);
        }
    }
    // A thread that ended meanwhile uses no table.
    drop(futures::future::join_all(acknowledged).await);
    control.version.store(live.version, Relaxed);
    json!({ "version": live.version })
}
