//! HTTP requests that are made for a user: webhooks, notifications, nodes of workflows.
//!
//! Whoever chooses the address must not reach what only this machine or its neighbours can: loopback, link-local and private addresses
//! are refused unless the operator allows them. Names are resolved here, the addresses are checked, and the connection goes to an address
//! that was checked, so that a name which changes its mind in between gains nothing. Each redirect is checked the same way.

pub(crate) mod mail;
pub(crate) mod post;
mod signature;
pub(crate) mod trial;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use domain::network::{self, Network};
use futures::future::{Either, select};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use url::{Host, Url};

/// What the operator says about messages that leave the server.
#[derive(Clone, Debug, Default)]
pub struct OutgoingConfig {
    /// Addresses that requests for users may reach although they are not of the public internet.
    pub allow: Vec<Network>,
    /// How mail is sent; without it none is.
    pub mail: Option<mail::MailConfig>,
    /// Who says where names lead.
    pub names: Names,
}

type Answers = dyn Fn(&str, u16) -> Vec<SocketAddr> + Send + Sync;

/// Says where names lead: the machine, unless a function does.
#[derive(Clone, Default)]
pub struct Names(Option<Arc<Answers>>);

impl Names {
    /// Given a name and a port, the function says which addresses are meant; none for a name that is unknown.
    pub fn told_by(answers: impl Fn(&str, u16) -> Vec<SocketAddr> + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(answers)))
    }

    async fn of(&self, name: &str, port: u16) -> std::io::Result<Vec<SocketAddr>> {
        match &self.0 {
            Some(answers) => Ok(answers(name, port)),
            None => Ok(tokio::net::lookup_host((name, port)).await?.collect()),
        }
    }
}

impl std::fmt::Debug for Names {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "Names(a function)" } else { "Names(the machine)" })
    }
}

/// A request for a user.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) method: Method,
    pub(crate) url: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// For everything together, redirects included.
    pub(crate) timeout: Duration,
    /// The largest answer.
    pub(crate) max_bytes: usize,
    /// Redirects that are followed; further ones are the answer.
    pub(crate) redirects: u8,
}

/// An answer.
#[derive(Clone, Debug)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Why there is no answer, in words for whoever chose the address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OutgoingError {
    #[error("the address is not a URL that can be asked: {0}; write https://host/path")]
    BadUrl(String),
    #[error(
        "{host} is not reachable for requests from here: {address} is not an address of the public internet; the operator can allow it with outgoing_allow"
    )]
    Refused { host: String, address: IpAddr },
    #[error("the name {host} could not be resolved: check the address")]
    Unresolved { host: String },
    #[error("no connection to {host}: {cause}")]
    Connect { host: String, cause: String },
    #[error("no secure connection to {host}: {cause}")]
    Tls { host: String, cause: String },
    #[error("{host} broke off or does not speak HTTP: {cause}")]
    Broken { host: String, cause: String },
    #[error("no answer within {0} seconds")]
    Timeout(u64),
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

/// Every address: for a client that only asks where the operator has said.
pub(crate) fn everywhere() -> Vec<Network> {
    ["0.0.0.0/0", "::/0"].iter().filter_map(|text| text.parse().ok()).collect()
}

/// The client. One per engine and kind of address.
pub(crate) struct Outgoing {
    allow: Vec<Network>,
    names: Names,
    /// A file with an authority that is trusted besides those of the machine.
    root: Option<PathBuf>,
    /// The machine's authorities take a while to read.
    tls: OnceLock<Result<TlsConnector, String>>,
}

impl Outgoing {
    pub(crate) fn new(allow: Vec<Network>) -> Self {
        Self::trusting(allow, None)
    }

    /// One that also trusts the authority in a file, in PEM.
    pub(crate) fn trusting(allow: Vec<Network>, root: Option<PathBuf>) -> Self {
        Self { allow, names: Names::default(), root, tls: OnceLock::new() }
    }

    /// One that asks somebody else where names lead.
    pub(crate) fn named_by(self, names: Names) -> Self {
        Self { names, ..self }
    }

    /// Asks, and follows redirects.
    pub(crate) async fn ask(&self, ask: Ask) -> Result<Got, OutgoingError> {
        let seconds = ask.timeout.as_secs().max(1);
        tokio::time::timeout(ask.timeout, self.follow(ask)).await.unwrap_or(Err(OutgoingError::Timeout(seconds)))
    }

    async fn follow(&self, mut ask: Ask) -> Result<Got, OutgoingError> {
        let mut url = parse(&ask.url)?;
        for left in (0..=ask.redirects).rev() {
            let got = self.once(&url, &ask).await?;
            let next = got.status.is_redirection().then(|| got.headers.get(LOCATION)).flatten().filter(|_| left > 0);
            let Some(next) = next.and_then(|value| value.to_str().ok()) else { return Ok(got) };
            let next = parse(url.join(next).map_err(|error| OutgoingError::BadUrl(error.to_string()))?.as_str())?;
            if !matches!(got.status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT) && ask.method != Method::HEAD {
                ask.method = Method::GET;
                ask.body = Bytes::new();
                ask.headers.remove(CONTENT_TYPE);
            }
            if !is_same(&url, &next) {
                // What was meant for one host is not for another, and any header can hold a secret.
                let harmless = [ACCEPT, CONTENT_TYPE, USER_AGENT].into_iter();
                ask.headers = harmless.filter_map(|name| ask.headers.remove(&name).map(|value| (name, value))).collect();
            }
            url = next;
        }
        Err(OutgoingError::BadUrl("it redirects too often".into()))
    }

    async fn once(&self, url: &Url, ask: &Ask) -> Result<Got, OutgoingError> {
        let host = url.host_str().unwrap_or_default().to_owned();
        let stream = self.connect(url, &host).await?;
        let request = request(url, ask)?;
        if url.scheme() == "https" {
            let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned());
            let name = name.map_err(|error| OutgoingError::Tls { host: host.clone(), cause: error.to_string() })?;
            let tls = self.tls().map_err(|cause| OutgoingError::Tls { host: host.clone(), cause })?;
            let stream = tls.connect(name, stream).await;
            let stream = stream.map_err(|error| OutgoingError::Tls { host: host.clone(), cause: error.to_string() })?;
            return exchange(stream, request, &host, ask.max_bytes).await;
        }
        exchange(stream, request, &host, ask.max_bytes).await
    }

    /// Looks the name up once, and connects to an address of those that were found.
    async fn connect(&self, url: &Url, host: &str) -> Result<TcpStream, OutgoingError> {
        let port = url.port_or_known_default().unwrap_or(80);
        let addresses: Vec<SocketAddr> = match url.host() {
            Some(Host::Ipv4(address)) => vec![SocketAddr::from((address, port))],
            Some(Host::Ipv6(address)) => vec![SocketAddr::from((address, port))],
            Some(Host::Domain(name)) => self.names.of(name, port).await.map_err(|_| OutgoingError::Unresolved { host: host.to_owned() })?,
            None => vec![],
        };
        self.reach(host, &addresses).await
    }

    /// Connects to the first of a host's addresses that may be reached and answers. The name is not looked up again.
    async fn reach(&self, host: &str, addresses: &[SocketAddr]) -> Result<TcpStream, OutgoingError> {
        let first = addresses.first().ok_or_else(|| OutgoingError::Unresolved { host: host.to_owned() })?;
        let refused = OutgoingError::Refused { host: host.to_owned(), address: first.ip() };
        let mut failure = refused;
        for address in addresses.iter().filter(|address| self.may_reach(address.ip())) {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Only costs time when it fails.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => failure = OutgoingError::Connect { host: host.to_owned(), cause: error.to_string() },
            }
        }
        Err(failure)
    }

    fn may_reach(&self, address: IpAddr) -> bool {
        network::is_public(address) || self.allow.iter().any(|network| network.contains(address))
    }

    fn tls(&self) -> Result<TlsConnector, String> {
        let made = self.tls.get_or_init(|| {
            let mut roots = rustls::RootCertStore::empty();
            let mut certificates = rustls_native_certs::load_native_certs().certs;
            if let Some(path) = &self.root {
                let more: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(|all| all.collect());
                certificates.extend(more.map_err(|error| format!("{} cannot be read: {error}", path.display()))?);
            }
            let (added, _) = roots.add_parsable_certificates(certificates);
            if added == 0 {
                return Err("this machine trusts no authorities: install ca-certificates".to_owned());
            }
            let provider = Arc::new(rustls::crypto::ring::default_provider());
            let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
            let config = config.map_err(|error| error.to_string())?.with_root_certificates(roots).with_no_client_auth();
            Ok(TlsConnector::from(Arc::new(config)))
        });
        made.clone()
    }
}

/// Only what this client speaks, and nothing that hides a password in the address.
fn parse(text: &str) -> Result<Url, OutgoingError> {
    let url = Url::parse(text).map_err(|error| OutgoingError::BadUrl(error.to_string()))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(OutgoingError::BadUrl(format!("{} is not spoken here", url.scheme())));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(OutgoingError::BadUrl("it holds a user name; send an Authorization header instead".into()));
    }
    Ok(url)
}

/// Whether a redirect leads to whom was asked: the same origin, or the same host that insists on TLS.
fn is_same(from: &Url, to: &Url) -> bool {
    let usual = from.port().is_none() && to.port().is_none();
    let insists = usual && (from.scheme(), to.scheme()) == ("http", "https") && from.host() == to.host();
    insists || from.origin() == to.origin()
}

fn request(url: &Url, ask: &Ask) -> Result<Request<Full<Bytes>>, OutgoingError> {
    let bad = |error: hyper::http::Error| OutgoingError::BadUrl(error.to_string());
    let path = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let host = &url[url::Position::BeforeHost..url::Position::AfterPort];
    let mut request = Request::builder().method(ask.method.clone()).uri(path).body(Full::new(ask.body.clone())).map_err(bad)?;
    let headers = request.headers_mut();
    headers.extend(ask.headers.clone());
    headers.remove(CONTENT_LENGTH);
    let host = HeaderValue::from_str(host).map_err(|error| OutgoingError::BadUrl(error.to_string()))?;
    headers.insert(HOST, host);
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static("Orrery/1"));
    Ok(request)
}

async fn exchange<S>(stream: S, request: Request<Full<Bytes>>, host: &str, max_bytes: usize) -> Result<Got, OutgoingError>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let broken = |cause: &dyn std::fmt::Display| OutgoingError::Broken { host: host.to_owned(), cause: cause.to_string() };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(&error))?;
    let talk = async {
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let (head, body) = response.into_parts();
        let body = Limited::new(body, max_bytes).collect().await.map_err(|error| {
            if error.is::<http_body_util::LengthLimitError>() { OutgoingError::TooLarge(max_bytes) } else { broken(&error) }
        })?;
        Ok(Got { status: head.status, headers: head.headers, body: body.to_bytes() })
    };
    match select(pin!(talk), pin!(connection)).await {
        Either::Left((got, _)) => got,
        // The server has closed after its answer; what was read of it is still to be taken.
        Either::Right((_, talk)) => talk.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hyper::header::{AUTHORIZATION, HeaderName};
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn ask(url: &str) -> Ask {
        Ask {
            method: Method::POST,
            url: url.to_owned(),
            headers: HeaderMap::from_iter([
                (AUTHORIZATION, HeaderValue::from_static("secret")),
                (HeaderName::from_static("x-api-key"), HeaderValue::from_static("another secret")),
                (CONTENT_TYPE, HeaderValue::from_static("text/plain")),
            ]),
            body: Bytes::from_static(b"hello"),
            timeout: Duration::from_secs(20),
            max_bytes: 100,
            redirects: 3,
        }
    }

    /// Answers one connection with `answer` and returns what it was sent.
    async fn answering(answer: impl Into<String>) -> (SocketAddr, tokio::task::JoinHandle<String>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answer = answer.into();
        let heard = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut buffer = vec![0; 4096];
            let count = stream.read(&mut buffer).await.unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
            String::from_utf8_lossy(&buffer[..count]).into_owned()
        });
        (address, heard)
    }

    fn allowing(networks: &[&str]) -> Outgoing {
        Outgoing::new(networks.iter().map(|text| text.parse().unwrap()).collect())
    }

    #[tokio::test]
    async fn neighbours_are_refused_however_they_are_written() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        for host in ["127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0", "169.254.169.254", "10.0.0.1"] {
            let error = allowing(&[]).ask(ask(&format!("http://{host}:{port}/"))).await.unwrap_err();
            assert!(matches!(error, OutgoingError::Refused { .. }), "{host}: {error}");
        }
        for bad in ["", "ftp://example.com/", "file:///etc/passwd", "http://user:pass@example.com/", "//x", "gopher://1.1.1.1"] {
            let error = allowing(&[]).ask(ask(bad)).await.unwrap_err();
            assert!(matches!(error, OutgoingError::BadUrl(_)), "{bad}: {error}");
        }
    }

    #[tokio::test]
    async fn a_redirect_to_a_neighbour_is_refused() {
        let (address, _heard) = answering("HTTP/1.1 302 Found\r\nlocation: http://10.0.0.1/\r\ncontent-length: 0\r\n\r\n").await;
        let error = allowing(&["127.0.0.0/8"]).ask(ask(&format!("http://{address}/"))).await.unwrap_err();
        assert!(matches!(error, OutgoingError::Refused { .. }), "{error}");
    }

    #[tokio::test]
    async fn a_name_with_two_faces_leads_to_no_neighbour() {
        let listens = async |host: &str| tokio::net::TcpListener::bind((host, 0)).await.unwrap();
        let (allowed, other) = (listens("127.0.0.2").await, listens("127.0.0.3").await);
        let (address, neighbour) = (allowed.local_addr().unwrap(), other.local_addr().unwrap());
        let outgoing = allowing(&["127.0.0.2/32"]);
        // Both faces at once, and one of them after the other: the address that is connected to is the one that was looked at.
        let stream = outgoing.reach("rebinding.test", &[neighbour, address]).await.unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
        let error = outgoing.reach("rebinding.test", &[neighbour]).await.unwrap_err();
        assert!(matches!(error, OutgoingError::Refused { .. }), "{error}");
    }

    #[tokio::test]
    async fn what_was_meant_for_one_host_is_not_sent_to_another() {
        let (second, heard_second) = answering("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        let (first, heard_first) =
            answering(format!("HTTP/1.1 307 Moved\r\nlocation: http://{second}/there?x=1\r\ncontent-length: 0\r\n\r\n")).await;
        let got = allowing(&["127.0.0.0/8"]).ask(ask(&format!("http://{first}/here"))).await.unwrap();
        assert_eq!((got.status.as_u16(), &*got.body), (200, &b"ok"[..]));
        let (first, second) = (heard_first.await.unwrap(), heard_second.await.unwrap());
        assert!(first.starts_with("POST /here ") && first.contains("another secret") && first.ends_with("hello"), "{first}");
        assert!(second.contains("text/plain"), "what the body is goes with it: {second}");
        assert!(second.starts_with("POST /there?x=1 ") && !second.contains("secret") && second.ends_with("hello"), "{second}");
    }

    #[test]
    fn a_host_that_insists_on_tls_is_the_same() {
        let same = |from: &str, to: &str| is_same(&Url::parse(from).unwrap(), &Url::parse(to).unwrap());
        assert!(same("http://a.test/x", "https://a.test/y") && same("https://a.test/", "https://a.test/z"));
        for other in ["http://a.test/", "https://b.test/", "https://a.test:8443/"] {
            assert!(!same("https://a.test/", other), "{other}");
        }
        assert!(!same("http://a.test:81/", "https://a.test/"));
    }

    #[tokio::test]
    async fn answers_have_a_largest_size_and_a_server_may_close() {
        let (address, _heard) = answering(format!("HTTP/1.1 200 OK\r\ncontent-length: 101\r\n\r\n{}", "x".repeat(101))).await;
        let error = allowing(&["127.0.0.0/8"]).ask(ask(&format!("http://{address}/"))).await.unwrap_err();
        assert!(matches!(error, OutgoingError::TooLarge(100)), "{error}");
        let (address, _heard) = answering("HTTP/1.1 200 OK\r\n\r\nuntil the end").await;
        let got = allowing(&["127.0.0.0/8"]).ask(ask(&format!("http://{address}/"))).await.unwrap();
        assert_eq!(&*got.body, b"until the end");
    }
}
