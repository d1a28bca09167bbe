//! TLS: who is shown which certificate, what apps learn of it, and who is sent there.

mod support;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use domain::routing::{EdgeCertificate, EdgeCertificates, Route, RoutingTable};
use edge::Limits;
use futures::{SinkExt as _, StreamExt as _};
use http::{Request, Response};
use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::json;
use support::{App, Edge, Reply, full, receive, route, table};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::tungstenite::Message;

/// An authority that only the test trusts.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the test's authority");
        let key = KeyPair::generate().unwrap();
        let der = params.self_signed(&key).unwrap().der().clone();
        Self { issuer: Issuer::new(params, key), der }
    }

    fn sign(&self, host: &str, names: &[&str]) -> EdgeCertificate {
        let params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        let key = KeyPair::generate().unwrap();
        let chain = params.signed_by(&key, &self.issuer).unwrap().pem();
        EdgeCertificate { host: host.to_owned(), chain, key: key.serialize_pem() }
    }
}

fn folder(table: &RoutingTable) -> Arc<tempfile::TempDir> {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    edge::table::write(dir.path(), table).unwrap();
    dir
}

/// What the edge has made itself.
fn self_signed(dir: &Path) -> CertificateDer<'static> {
    let path = dir.join("self-signed.json");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let made: EdgeCertificate = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    CertificateDer::from_pem_slice(made.chain.as_bytes()).unwrap()
}

async fn connect_by(
    edge: &Edge,
    trust: &CertificateDer<'static>,
    host: &str,
    only: &[&'static rustls::SupportedProtocolVersion],
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(trust.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_protocol_versions(only).unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = TcpStream::connect(edge.tls.unwrap()).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(host.to_owned()).unwrap(), stream).await
}

/// A connection to `host`, if `trust` vouches for what the edge shows.
async fn connect(edge: &Edge, trust: &CertificateDer<'static>, host: &str) -> std::io::Result<TlsStream<TcpStream>> {
    connect_by(edge, trust, host, rustls::ALL_VERSIONS).await
}

async fn get(edge: &Edge, trust: &CertificateDer<'static>, host: &str) -> Reply {
    let stream = connect(edge, trust, host).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    receive(sender.send_request(Request::get("/").header("host", host).body(full("")).unwrap()).await.unwrap()).await
}

/// Answers with what it is told of the client's protocol.
async fn app() -> App {
    App::start(|request: Request<hyper::body::Incoming>| async move {
        let header = |name: &str| request.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        Response::new(full(format!("{} {}", header("x-forwarded-proto"), header("x-forwarded-host"))))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn https_works_from_the_first_minute() {
    let app = app().await;
    let dir = folder(&table(1, vec![("shop.apps.test", route(vec![app.target()]))]));
    let mut edge = Edge::secure(Arc::clone(&dir), Limits::default()).await;
    let trust = self_signed(dir.path());
    assert_eq!(get(&edge, &trust, "shop.apps.test").await.text(), "https shop.apps.test");
    assert_eq!(edge.get("shop.apps.test", "/").await.text(), "http shop.apps.test");
    let stream = connect(&edge, &trust, "shop.apps.test").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    drop(stream);
    for (only, wanted) in
        [(&rustls::version::TLS12, rustls::ProtocolVersion::TLSv1_2), (&rustls::version::TLS13, rustls::ProtocolVersion::TLSv1_3)]
    {
        let stream = connect_by(&edge, &trust, "shop.apps.test", &[only]).await.unwrap();
        assert_eq!(stream.get_ref().1.protocol_version(), Some(wanted));
    }
    edge.ask(r#"{"op":"shutdown"}"#).await;
    edge.join().await;
    let again = Edge::secure(Arc::clone(&dir), Limits::default()).await;
    assert_eq!(self_signed(dir.path()), trust, "an exception that somebody made for it still holds");
    assert_eq!(get(&again, &trust, "shop.apps.test").await.text(), "https shop.apps.test");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_name_is_shown_its_own_certificate_and_no_other() {
    let app = app().await;
    let hosts = ["www.shop.test", "blog.test", "one.wild.test", "broken.test"].map(|host| (host, route(vec![app.target()])));
    let dir = folder(&table(1, hosts.into()));
    let mut edge = Edge::secure(Arc::clone(&dir), Limits::default()).await;
    let (authority, own) = (Authority::new(), self_signed(dir.path()));
    assert!(connect(&edge, &authority.der, "www.shop.test").await.is_err(), "there is no certificate yet");

    // The first one also holds for the blog, which is another owner's.
    let shop = authority.sign("www.shop.test", &["www.shop.test", "blog.test"]);
    let mut broken = authority.sign("broken.test", &["broken.test"]);
    broken.key.clone_from(&shop.key);
    let wild = authority.sign("*.wild.test", &["*.wild.test"]);
    edge::tls::write(dir.path(), &EdgeCertificates { certificates: vec![broken, shop, wild], challenges: BTreeMap::new() }).unwrap();
    let answer = edge.ask(r#"{"op":"certificates"}"#).await;
    assert_eq!((&answer["certificates"], answer["refused"].as_array().unwrap().len()), (&json!(2), 1), "{answer}");
    assert!(!answer.to_string().contains("PRIVATE"));
    assert_eq!(std::fs::metadata(dir.path().join(edge::tls::FILE)).unwrap().permissions().mode() & 0o777, 0o600);

    for round in ["at once", "and after a restart, without the engine"] {
        for host in ["www.shop.test", "WWW.Shop.Test", "one.wild.test"] {
            assert!(get(&edge, &authority.der, host).await.text().starts_with("https"), "{host} {round}");
        }
        for host in ["blog.test", "broken.test", "a.b.wild.test", "wild.test"] {
            assert!(connect(&edge, &authority.der, host).await.is_err(), "{host} {round}");
        }
        assert!(connect(&edge, &own, "shop.apps.test").await.is_ok());
        edge.ask(r#"{"op":"shutdown"}"#).await;
        edge.join().await;
        edge = Edge::secure(Arc::clone(&dir), Limits::default()).await;
    }

    std::fs::write(dir.path().join(edge::tls::FILE), "{").unwrap();
    assert!(edge.ask(r#"{"op":"certificates"}"#).await["error"].is_string());
    assert!(get(&edge, &authority.der, "www.shop.test").await.text().starts_with("https"), "what was there stays in use");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_edge_before_was_told_last_holds_for_the_one_that_takes_over() {
    let (app, authority) = (app().await, Authority::new());
    let dir = folder(&table(1, vec![]));
    let listener = UnixListener::bind(dir.path().join(edge::control::SOCKET)).unwrap();
    let certificates = vec![authority.sign("www.shop.test", &["www.shop.test"])];
    let newer = table(2, vec![("www.shop.test", route(vec![app.target()]))]);
    // On disk beforehand: who takes over does not wait until a busy one has them.
    let (folder, next) = (Arc::clone(&dir), dir.path().join("next"));
    std::fs::create_dir(&next).unwrap();
    edge::table::write(&next, &newer).unwrap();
    edge::tls::write(&next, &EdgeCertificates { certificates, challenges: BTreeMap::new() }).unwrap();
    let before = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 256]).await.unwrap() > 0);
        for name in [edge::table::FILE, edge::tls::FILE] {
            std::fs::rename(next.join(name), folder.path().join(name)).unwrap();
        }
        stream.write_all(b"{}\n").await.unwrap();
    });
    let edge = Edge::secure(Arc::clone(&dir), Limits::default()).await;
    before.await.unwrap();
    assert!(get(&edge, &authority.der, "www.shop.test").await.text().starts_with("https"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_brings_one_certificate_for_all_names_below_the_base_domain() {
    let app = app().await;
    let hosts = ["shop.apps.test", "www.own.test"].map(|host| (host, route(vec![app.target()])));
    let dir = folder(&table(1, hosts.into()));
    let (first, second) = (Authority::new(), Authority::new());
    let file = dir.path().join("apps.test.pem");
    let bring = |authority: &Authority| {
        let made = authority.sign("", &["*.apps.test"]);
        std::fs::write(&file, format!("{}{}", made.chain, made.key)).unwrap();
    };
    bring(&first);
    let edge = Edge::certified(Arc::clone(&dir), Limits::default(), Some(file.clone())).await;
    assert!(get(&edge, &first.der, "shop.apps.test").await.text().starts_with("https"));
    assert!(connect(&edge, &first.der, "www.own.test").await.is_err());

    let own = second.sign("www.own.test", &["www.own.test"]);
    edge::tls::write(dir.path(), &EdgeCertificates { certificates: vec![own], challenges: BTreeMap::new() }).unwrap();
    bring(&second);
    edge.ask(r#"{"op":"certificates"}"#).await;
    for host in ["shop.apps.test", "www.own.test"] {
        assert!(get(&edge, &second.der, host).await.text().starts_with("https"), "{host}");
    }
    std::fs::write(&file, "").unwrap();
    edge.ask(r#"{"op":"certificates"}"#).await;
    assert!(get(&edge, &second.der, "shop.apps.test").await.text().starts_with("https"), "what was there stays in use");
}

fn forced(app: &App) -> Route {
    Route { force_https: true, ..route(vec![app.target()]) }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_without_tls_is_sent_there_but_authorities_are_answered() {
    let app = app().await;
    let hosts = table(1, vec![("shop.apps.test", forced(&app)), ("open.apps.test", route(vec![app.target()]))]);
    let dir = folder(&hosts);
    let edge = Edge::secure(Arc::clone(&dir), Limits::default()).await;
    let sent = edge.get("Shop.Apps.test:8081", "/a/b?c=d%20e").await;
    let port = edge.tls.unwrap().port();
    assert_eq!((sent.status.as_u16(), sent.header("location")), (308, format!("https://shop.apps.test:{port}/a/b?c=d%20e").as_str()));
    assert_eq!(sent.header("cache-control"), "no-store");
    assert_eq!(get(&edge, &self_signed(dir.path()), "shop.apps.test").await.text(), "https shop.apps.test");
    assert_eq!(edge.get("open.apps.test", "/").await.text(), "http open.apps.test");

    let path = "/.well-known/acme-challenge/token-1";
    assert_eq!(edge.get("shop.apps.test", path).await.text(), "http shop.apps.test", "an app may deal with authorities itself");
    let challenges = BTreeMap::from([("token-1".to_owned(), "token-1.thumb".to_owned())]);
    edge::tls::write(dir.path(), &EdgeCertificates { certificates: vec![], challenges }).unwrap();
    assert_eq!(edge.ask(r#"{"op":"certificates"}"#).await["challenges"], 1);
    for host in ["shop.apps.test", "open.apps.test", "unknown.test"] {
        let answer = edge.get(host, path).await;
        assert_eq!((answer.status.as_u16(), answer.text()), (200, "token-1.thumb"), "{host}");
    }
    assert_eq!(edge.get("open.apps.test", "/.well-known/acme-challenge/token-2").await.text(), "http open.apps.test");
    assert_eq!(edge.get("unknown.test", "/.well-known/acme-challenge/").await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cookie_of_a_domain_that_forces_tls_is_shown_over_tls_alone() {
    let app = app().await;
    let sticky = |force_https| Route { sticky: true, force_https, ..route(vec![app.target()]) };
    let dir = folder(&table(1, vec![("shop.apps.test", sticky(true)), ("open.apps.test", sticky(false))]));
    let edge = Edge::secure(Arc::clone(&dir), Limits::default()).await;
    let trust = self_signed(dir.path());
    for (host, secure) in [("shop.apps.test", true), ("open.apps.test", false)] {
        let answer = get(&edge, &trust, host).await;
        let cookie = answer.header("set-cookie");
        assert!(cookie.starts_with("galaxy-sticky=!") && cookie.ends_with("; Secure") == secure, "{host}: {cookie}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_that_forces_tls_is_asked_with_tls_from_then_on() {
    let app = app().await;
    let dir = folder(&table(1, vec![("shop.apps.test", forced(&app)), ("open.apps.test", route(vec![app.target()]))]));
    let edge = Edge::secure(Arc::clone(&dir), Limits::default()).await;
    let trust = self_signed(dir.path());
    for (host, wanted) in [("shop.apps.test", "max-age=31536000"), ("open.apps.test", "")] {
        assert_eq!(get(&edge, &trust, host).await.header("strict-transport-security"), wanted, "{host}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_without_tls_sends_nobody_away() {
    let app = app().await;
    let edge = Edge::start(&table(1, vec![("shop.apps.test", forced(&app))])).await;
    assert_eq!(edge.get("shop.apps.test", "/").await.text(), "http shop.apps.test");
    assert!(!edge.dir.path().join("self-signed.json").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_that_do_not_begin_with_tls_are_let_go() {
    let app = app().await;
    let dir = folder(&table(1, vec![("shop.apps.test", route(vec![app.target()]))]));
    let edge = Edge::secure(Arc::clone(&dir), Limits { handshake: Duration::from_secs(3), ..Limits::default() }).await;
    let mut silent = TcpStream::connect(edge.tls.unwrap()).await.unwrap();
    assert_eq!(support::read_all(&mut silent).await, "");
    let plain = Request::get("/").header("host", "shop.apps.test").body(full("")).unwrap();
    let mut sender = support::connect(edge.tls.unwrap()).await;
    assert!(sender.send_request(plain).await.is_err(), "HTTP is not answered where TLS is spoken");
    assert_eq!(edge.ask(r#"{"op":"stats"}"#).await["requests"], 0);
    assert_eq!(get(&edge, &self_signed(dir.path()), "shop.apps.test").await.text(), "https shop.apps.test");
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_and_large_answers_pass_through_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
        while let Some(Ok(message)) = socket.next().await {
            if message.is_text() {
                socket.send(message).await.unwrap();
            }
        }
    });
    let large = App::start(|_| async move { Response::new(full("x".repeat(3 << 20))) }).await;
    let mut target = large.target();
    target.address = address;
    target.replica_id = domain::ReplicaId::generate();
    let dir = folder(&table(1, vec![("chat.apps.test", route(vec![target])), ("large.apps.test", route(vec![large.target()]))]));
    let edge = Edge::secure(Arc::clone(&dir), Limits::default()).await;
    let trust = self_signed(dir.path());
    assert_eq!(get(&edge, &trust, "large.apps.test").await.body.len(), 3 << 20);

    let stream = connect(&edge, &trust, "chat.apps.test").await.unwrap();
    let (mut socket, _) = tokio_tungstenite::client_async("ws://chat.apps.test/chat", stream).await.unwrap();
    for text in ["a", "b"] {
        socket.send(Message::text(text)).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap().to_text().unwrap(), text);
    }
}
