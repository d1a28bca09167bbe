//! `orrery railway` with the real CLI, and its proxy with a client of our own, against a server that records what it is asked.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::http::{HeaderMap, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures::StreamExt as _;
use http_body_util::{BodyExt as _, Empty, StreamBody};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;

const ORRERY: &str = env!("CARGO_BIN_EXE_orrery");

/// The real CLI; see `cargo xtask railway-cli`.
fn railway_cli() -> PathBuf {
    let cache = || {
        let cache = std::env::var_os("ORRERY_CACHE").map(PathBuf::from);
        cache.unwrap_or_else(|| std::env::home_dir().unwrap().join(".cache/orrery")).join("railway/bin/railway")
    };
    let path = std::env::var_os("ORRERY_TEST_RAILWAY").map_or_else(cache, PathBuf::from);
    assert!(path.exists(), "{} is missing: get the Railway CLI with `cargo xtask railway-cli`", path.display());
    path
}

/// A server of Railway's API as far as these tests need it, and the headers of each request.
struct Server {
    url: String,
    seen: Arc<Mutex<Vec<HeaderMap>>>,
}

async fn server() -> Server {
    let seen = Arc::new(Mutex::new(vec![]));
    let record = seen.clone();
    let router = Router::new()
        .route("/prefix/graphql/v2", axum::routing::post(me).get(echo))
        .route("/prefix/project/{project}/environment/{environment}/up", axum::routing::post(count))
        .layer(axum::middleware::from_fn(move |request: Request<Body>, next: axum::middleware::Next| {
            record.lock().unwrap().push(request.headers().clone());
            next.run(request)
        }));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://localhost:{}/prefix", listener.local_addr().unwrap().port());
    tokio::spawn(async move { axum::serve(listener, router).await });
    Server { url, seen }
}

async fn me(headers: HeaderMap) -> Response {
    if headers.get(header::AUTHORIZATION).is_some_and(|value| value == "Bearer good") {
        let me = r#"{"data":{"me":{"id":"1","name":"Ada","email":"ada@example.com","workspaces":[]}}}"#;
        ([(header::CONTENT_TYPE, "application/json")], me).into_response()
    } else {
        (StatusCode::UNAUTHORIZED, r#"{"errors":[{"message":"Not Authorized"}]}"#).into_response()
    }
}

async fn echo(upgrade: WebSocketUpgrade) -> Response {
    upgrade.protocols(["graphql-transport-ws"]).on_upgrade(|mut socket| async move {
        while let Some(Ok(Message::Text(text))) = socket.recv().await {
            socket.send(Message::Text(text)).await.unwrap();
        }
    })
}

/// Answers with the length of the body, which it reads piece by piece.
async fn count(request: Request<Body>) -> String {
    let mut body = request.into_body().into_data_stream();
    let mut length = 0;
    while let Some(piece) = body.next().await {
        length += piece.unwrap().len();
    }
    length.to_string()
}

/// `orrery railway` as a user with an empty home runs it.
fn orrery(server: &Server, home: &Path) -> Command {
    let mut command = Command::new(ORRERY);
    command.env_clear().env("HOME", home).env("PATH", std::env::var_os("PATH").unwrap()).env("RAILWAY_CALLER", "ci");
    command.env("ORRERY_RAILWAY_BIN", railway_cli()).args(["railway", "--server", &server.url]).kill_on_drop(true);
    command
}

#[tokio::test]
async fn the_unmodified_cli_talks_to_the_server() {
    let (server, home) = (server().await, tempfile::tempdir().unwrap());

    let output = orrery(&server, home.path()).env("ORRERY_TOKEN", "good").args(["--", "whoami"]).output().await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success() && text.contains("ada@example.com"), "{output:?}");
    let headers = server.seen.lock().unwrap().last().unwrap().clone();
    assert_eq!(headers["x-forwarded-host"], "backboard.railway.com");
    assert_eq!(headers["x-forwarded-proto"], "https");
    assert!(server.url.contains(headers["host"].to_str().unwrap()));

    let refused = orrery(&server, home.path()).env("ORRERY_TOKEN", "bad").args(["--", "whoami"]).output().await.unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).contains("Unauthorized"), "{refused:?}");
    let usage = orrery(&server, home.path()).args(["--", "no-such-command"]).output().await.unwrap();
    assert_eq!(usage.status.code(), Some(2), "{usage:?}");

    // What the CLI keeps is beside, not in, the user's own folder for Railway, and no certificate is left.
    assert!(!home.path().join(".railway").exists());
    let kept = home.path().join(".local/share/orrery/railway");
    let kept = std::fs::read_dir(kept).unwrap().next().unwrap().unwrap().path();
    assert!(std::fs::read_dir(&kept).unwrap().all(|entry| !entry.unwrap().file_name().to_string_lossy().ends_with(".pem")));

    // With a login of its own, the CLI does not get the token.
    std::fs::create_dir_all(kept.join(".railway")).unwrap();
    std::fs::write(kept.join(".railway/config.json"), r#"{"projects":{},"user":{"accessToken":"mine"}}"#).unwrap();
    orrery(&server, home.path()).env("ORRERY_TOKEN", "good").args(["--", "whoami"]).output().await.unwrap();
    assert_eq!(server.seen.lock().unwrap().last().unwrap()["authorization"], "Bearer mine");
}

#[tokio::test]
async fn a_missing_cli_or_server_is_explained() {
    let (mut server, home) = (server().await, tempfile::tempdir().unwrap());
    let output = orrery(&server, home.path()).env("ORRERY_RAILWAY_BIN", "/nowhere/railway").args(["--", "whoami"]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("npm install --global @railway/cli"), "{output:?}");

    // Bound, so that nobody else comes to listen there, and not listening.
    let held = tokio::net::TcpSocket::new_v4().unwrap();
    held.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    server.url = format!("http://{}", held.local_addr().unwrap());
    let output = orrery(&server, home.path()).env("ORRERY_TOKEN", "good").args(["--", "whoami"]).output().await.unwrap();
    assert!(String::from_utf8_lossy(&output.stderr).contains("start it with `orrery serve`"), "{output:?}");
}

/// A program in the CLI's place that does with its environment and arguments what the CLI does with `run` and `shell`.
fn stand_in(folder: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let path = folder.join("railway");
    let script = "#!/bin/sh\nexport FROM_SERVICE=1 NO_PROXY=service\ncase $1 in\nrun) shift; exec \"$@\";;\nshell) exec \"$SHELL\";;\n\
                  wait) trap 'kill $!; exit 7' TERM; sleep 60 & echo ready; wait;;\nesac\n";
    std::fs::write(&path, script).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[tokio::test]
async fn programs_under_run_and_shell_see_the_users_environment() {
    let (server, home) = (server().await, tempfile::tempdir().unwrap());
    let shell = home.path().join("shell");
    std::os::unix::fs::symlink("/usr/bin/env", &shell).unwrap();
    for args in [&["--", "run", "env"][..], &["--", "shell"]] {
        let mut command = orrery(&server, home.path());
        command.env("ORRERY_RAILWAY_BIN", stand_in(home.path())).env("ORRERY_TOKEN", "good").env("SHELL", &shell);
        let output = command.env("HTTPS_PROXY", "http://mine:1").args(args).output().await.unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let has =
            |line: String| assert!(text.lines().any(|other| other == line), "{line}\n{text}{}", String::from_utf8_lossy(&output.stderr));
        has(format!("HOME={}", home.path().display()));
        has("HTTPS_PROXY=http://mine:1".to_owned());
        has(format!("SHELL={}", shell.display()));
        // A variable of the service stays, also where the CLI had another.
        has("FROM_SERVICE=1".to_owned());
        has("NO_PROXY=service".to_owned());
        for gone in ["RAILWAY_API_TOKEN", "SSL_CERT_FILE", "ORRERY_RAILWAY_REPLACED", "https_proxy"] {
            assert!(!text.contains(&format!("{gone}=")), "{gone}\n{text}");
        }
    }
}

#[tokio::test]
async fn signals_and_their_exit_status_pass_through() {
    let (server, home) = (server().await, tempfile::tempdir().unwrap());
    let mut command = orrery(&server, home.path());
    command.env("ORRERY_RAILWAY_BIN", stand_in(home.path())).args(["--", "wait"]).stdout(std::process::Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut ready = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut ready).await.unwrap();
    let pid = nix::unistd::Pid::from_raw(child.id().unwrap().cast_signed());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().await.unwrap().code(), Some(7));
}

/// The variables that `orrery railway --env` prints, and its process, which ends with this.
struct Background {
    proxy: String,
    authority: PathBuf,
    pid: nix::unistd::Pid,
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = nix::sys::signal::kill(self.pid, nix::sys::signal::Signal::SIGTERM);
    }
}

async fn background(server: &Server, home: &Path) -> Background {
    let output = orrery(server, home).arg("--env").env("ORRERY_TOKEN", "it's").output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("export {name}=")));
        line.unwrap_or_else(|| panic!("{name} is missing in {text}")).trim_matches('\'').to_owned()
    };
    assert_eq!(value("RAILWAY_API_TOKEN"), r"it'\''s");
    let pid = nix::unistd::Pid::from_raw(value("ORRERY_RAILWAY_PROXY_PID").parse().unwrap());
    Background { proxy: value("HTTPS_PROXY").replace("http://", ""), authority: value("SSL_CERT_FILE").into(), pid }
}

/// Asks the proxy for a tunnel and returns the status of its answer with the connection.
async fn tunnel(background: &Background, place: &str) -> (u16, TcpStream) {
    let mut socket = TcpStream::connect(&background.proxy).await.unwrap();
    socket.write_all(format!("CONNECT {place} HTTP/1.1\r\nHost: {place}\r\n\r\n").as_bytes()).await.unwrap();
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        head.push(socket.read_u8().await.unwrap());
    }
    (String::from_utf8(head).unwrap().split(' ').nth(1).unwrap().parse().unwrap(), socket)
}

/// A connection through the proxy as the CLI makes it.
async fn connect(background: &Background, host: &'static str) -> tokio_rustls::client::TlsStream<TcpStream> {
    let (status, socket) = tunnel(background, &format!("{host}:443")).await;
    assert_eq!(status, 200);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&background.authority).unwrap()).unwrap();
    let mut config = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    connector.connect(ServerName::try_from(host).unwrap(), socket).await.unwrap()
}

#[tokio::test]
async fn a_shell_gets_a_proxy_that_lives_on() {
    let (server, home) = (server().await, tempfile::tempdir().unwrap());
    let background = background(&server, home.path()).await;

    for elsewhere in ["example.com:443", "backboard.railway.com:80", "backboard.railway.com.example.com:443", "127.0.0.1:22"] {
        assert_eq!(tunnel(&background, elsewhere).await.0, 403, "{elsewhere}");
    }

    // An upload passes through in pieces; both sides see its whole length.
    let stream = connect(&background, "backboard.railway.app").await;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let pieces =
        futures::stream::iter(0..256).map(|_| Ok::<_, std::io::Error>(hyper::body::Frame::data(bytes::Bytes::from(vec![7; 1 << 18]))));
    let upload = Request::post("/project/p/environment/e/up?serviceId=").header(header::HOST, "backboard.railway.app");
    let answer = sender.send_request(upload.body(StreamBody::new(pieces)).unwrap()).await.unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, (256_u64 << 18).to_string());

    // A websocket passes both ways.
    let stream = connect(&background, "backboard.railway-staging.com").await;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection.with_upgrades());
    let upgrade = Request::get("/graphql/v2")
        .header(header::HOST, "backboard.railway-staging.com")
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, "websocket")
        .header(header::SEC_WEBSOCKET_VERSION, "13")
        .header(header::SEC_WEBSOCKET_KEY, "dGhlIHNhbXBsZSBub25jZQ==")
        .header(header::SEC_WEBSOCKET_PROTOCOL, "graphql-transport-ws");
    let mut answer = sender.send_request(upgrade.body(Empty::<bytes::Bytes>::new()).unwrap()).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SWITCHING_PROTOCOLS);
    assert_eq!(answer.headers()[header::SEC_WEBSOCKET_PROTOCOL], "graphql-transport-ws");
    let mut socket = TokioIo::new(hyper::upgrade::on(&mut answer).await.unwrap());
    // A masked text frame "hi" with the mask 0, and its unmasked echo.
    socket.write_all(&[0x81, 0x82, 0, 0, 0, 0, b'h', b'i']).await.unwrap();
    let mut echo = [0; 4];
    socket.read_exact(&mut echo).await.unwrap();
    assert_eq!(&echo, &[0x81, 2, b'h', b'i']);
}
