//! A real edge in a folder of its own, real applications behind it, and clients that can also misbehave.
#![allow(dead_code, reason = "every test file uses a part of it")]

#[path = "../../../server/tests/harness/ports.rs"]
mod ports;

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use domain::routing::{Route, RoutingTable, Target};
use domain::{DeploymentId, EnvironmentId, ProjectId, ReplicaId, ServiceId, WorkspaceId};
use edge::{EdgeConfig, Limits};
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream, UnixStream};

pub(crate) type Body = BoxBody<Bytes, hyper::Error>;
pub(crate) type Sender = hyper::client::conn::http1::SendRequest<Body>;

pub(crate) fn free_port() -> u16 {
    ports::free_port()
}

pub(crate) fn full(text: impl Into<Bytes>) -> Body {
    Full::new(text.into()).map_err(|never| match never {}).boxed()
}

/// An application.
pub(crate) struct App {
    pub(crate) address: SocketAddr,
    pub(crate) replica: ReplicaId,
    pub(crate) deployment: DeploymentId,
    pub(crate) connections: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl App {
    pub(crate) async fn start<H, F>(handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), handler)
    }

    pub(crate) fn on<H, F>(listener: TcpListener, handler: H) -> Self
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Body>> + Send + 'static,
    {
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            let mut conns = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                counter.fetch_add(1, Ordering::SeqCst);
                let handler = handler.clone();
                let service = hyper::service::service_fn(move |request| {
                    let answered = handler(request);
                    async move { Ok::<_, Infallible>(answered.await) }
                });
                conns.spawn(async move {
                    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { address, replica: ReplicaId::generate(), deployment: DeploymentId::generate(), connections, task }
    }

    /// Answers its name.
    pub(crate) async fn named(name: &'static str) -> Self {
        Self::start(move |_| async move { Response::new(full(name)) }).await
    }

    pub(crate) fn target(&self) -> Target {
        Target { replica_id: self.replica, deployment_id: self.deployment, name: String::new(), address: self.address }
    }

    /// Ends it at once, with all its connections.
    pub(crate) fn kill(&self) {
        self.task.abort();
    }
}

impl Drop for App {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn route(targets: Vec<Target>) -> Route {
    Route {
        workspace_id: WorkspaceId::generate(),
        project_id: ProjectId::generate(),
        environment_id: EnvironmentId::generate(),
        service_id: ServiceId::generate(),
        service_name: "shop <1>".into(),
        deployment_id: targets.first().map(|target| target.deployment_id),
        unavailable: None,
        targets,
        sticky: false,
        asleep: None,
        force_https: false,
    }
}

pub(crate) fn table(version: u64, hosts: Vec<(&str, Route)>) -> RoutingTable {
    RoutingTable {
        version,
        hosts: hosts.into_iter().map(|(host, route)| (host.to_owned(), route)).collect::<BTreeMap<_, _>>(),
        tcp: BTreeMap::new(),
    }
}

/// An address where nothing listens, also later: it stays bound to a socket of this process.
pub(crate) fn nobody() -> Target {
    let held = TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let address = held.local_addr().unwrap();
    let _ = std::os::fd::IntoRawFd::into_raw_fd(held);
    Target { replica_id: ReplicaId::generate(), deployment_id: DeploymentId::generate(), name: String::new(), address }
}

pub(crate) struct Edge {
    pub(crate) dir: Arc<tempfile::TempDir>,
    pub(crate) address: SocketAddr,
    pub(crate) tls: Option<SocketAddr>,
    thread: Option<std::thread::JoinHandle<std::io::Result<()>>>,
}

impl Edge {
    pub(crate) async fn start(table: &RoutingTable) -> Self {
        Self::with(table, Limits::default()).await
    }

    pub(crate) async fn with(table: &RoutingTable, limits: Limits) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        edge::table::write(dir.path(), table).unwrap();
        Self::in_dir(dir, "127.0.0.1:0".parse().unwrap(), limits).await
    }

    /// At a port that stays the test's when the edge has ended; one that the kernel chose would be anybody's then.
    pub(crate) async fn on_own_port(table: &RoutingTable) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        edge::table::write(dir.path(), table).unwrap();
        Self::in_dir(dir, SocketAddr::from(([127, 0, 0, 1], ports::free_port())), Limits::default()).await
    }

    pub(crate) async fn in_dir(dir: Arc<tempfile::TempDir>, listen: SocketAddr, limits: Limits) -> Self {
        let config = EdgeConfig { threads: 2, limits, ..EdgeConfig::new(vec![listen], dir.path().to_owned()) };
        Self::run(dir, config).await
    }

    /// One that speaks TLS too, for names below `apps.test`.
    pub(crate) async fn secure(dir: Arc<tempfile::TempDir>, limits: Limits) -> Self {
        Self::certified(dir, limits, None).await
    }

    /// The same with the operator's certificate for them.
    pub(crate) async fn certified(dir: Arc<tempfile::TempDir>, limits: Limits, file: Option<PathBuf>) -> Self {
        let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let plain = EdgeConfig::new(vec![any], dir.path().to_owned());
        Self::run(
            dir,
            EdgeConfig { threads: 2, limits, tls_listen: vec![any], tls_certificate: file, base_domain: "apps.test".into(), ..plain },
        )
        .await
    }

    async fn run(dir: Arc<tempfile::TempDir>, config: EdgeConfig) -> Self {
        let socket = dir.path().join(edge::control::SOCKET);
        let before = inode(&socket);
        let thread = std::thread::spawn(move || edge::run(config));
        while inode(&socket) == before {
            assert!(!thread.is_finished(), "the edge ended: {:?}", thread.join());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let pong = ask(dir.path(), r#"{"op":"ping"}"#).await;
        let address = pong["listen"][0].as_str().unwrap().parse().unwrap();
        let tls = pong["tlsListen"][0].as_str().map(|text| text.parse().unwrap());
        Self { dir, address, tls, thread: Some(thread) }
    }

    pub(crate) async fn ask(&self, request: &str) -> Value {
        ask(self.dir.path(), request).await
    }

    /// Puts a table in place as the engine does.
    pub(crate) async fn publish(&self, table: &RoutingTable) {
        edge::table::write(self.dir.path(), table).unwrap();
        assert_eq!(self.ask(r#"{"op":"reload"}"#).await["version"], table.version);
    }

    pub(crate) async fn drain(&self, replica: ReplicaId, timeout: Duration) -> u64 {
        let request = format!(r#"{{"op":"drain","replica":"{replica}","timeoutMs":{}}}"#, timeout.as_millis());
        self.ask(&request).await["inFlight"].as_u64().unwrap()
    }

    pub(crate) async fn get(&self, host: &str, path: &str) -> Reply {
        self.send(Request::get(path).header("host", host).body(full("")).unwrap()).await
    }

    pub(crate) async fn send(&self, request: Request<Body>) -> Reply {
        send(self.address, request).await
    }

    /// Sends bytes as they are and reads until the edge closes the connection.
    pub(crate) async fn raw(&self, bytes: &str) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes.as_bytes()).await.unwrap();
        read_all(&mut stream).await
    }

    /// Ends it and returns the lines of its request log.
    pub(crate) async fn stop(mut self) -> Vec<edge::access::AccessLine> {
        self.ask(r#"{"op":"shutdown"}"#).await;
        self.join().await;
        self.log()
    }

    pub(crate) async fn join(&mut self) {
        let thread = self.thread.take().unwrap();
        tokio::task::spawn_blocking(move || thread.join().unwrap().unwrap()).await.unwrap();
    }

    pub(crate) fn log(&self) -> Vec<edge::access::AccessLine> {
        let mut files: Vec<_> = std::fs::read_dir(self.dir.path().join("log")).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        let texts =
            files.iter().filter(|path| path.extension().is_some_and(|end| end == "log")).map(|path| std::fs::read_to_string(path).unwrap());
        let mut lines: Vec<edge::access::AccessLine> =
            texts.collect::<String>().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        lines.sort_by_key(|line| line.timestamp);
        lines
    }
}

fn inode(path: &Path) -> Option<u64> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(path).ok().map(|known| known.ino())
}

async fn ask(dir: &Path, request: &str) -> Value {
    let mut stream = UnixStream::connect(dir.join(edge::control::SOCKET)).await.unwrap();
    stream.write_all(format!("{request}\n").as_bytes()).await.unwrap();
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).await.unwrap();
    serde_json::from_str(&line).unwrap()
}

pub(crate) async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = vec![];
    let read = stream.read_to_end(&mut bytes);
    // A reset after the answer is as good as an end.
    let _ = tokio::time::timeout(Duration::from_secs(60), read).await.expect("the edge keeps the connection open");
    String::from_utf8_lossy(&bytes).into_owned()
}

#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

pub(crate) async fn connect(address: SocketAddr) -> Sender {
    try_connect(address).await.unwrap()
}

/// The same for clients that a server may send away.
pub(crate) async fn try_connect(address: SocketAddr) -> std::io::Result<Sender> {
    let stream = TcpStream::connect(address).await?;
    let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    Ok(sender)
}

/// One request over its own connection.
pub(crate) async fn send(address: SocketAddr, request: Request<Body>) -> Reply {
    receive(connect(address).await.send_request(request).await.unwrap()).await
}

pub(crate) async fn receive(response: Response<Incoming>) -> Reply {
    let (parts, body) = response.into_parts();
    Reply { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
}
