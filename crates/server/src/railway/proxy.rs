//! The proxy between the CLI and the server: CONNECT, TLS, plain requests.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::http::uri::PathAndQuery;
use axum::http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Either, Full};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper::{client, server};
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::TaskTracker;

use super::certificate::{Authority, HOSTS};
use super::database;
use super::server::Server;

type Body = Either<Incoming, Full<Bytes>>;

/// The longest wait for a window of the server's limits that is worth it: that of a second, and some more for the clock.
const WAIT: Duration = Duration::from_secs(2);
/// How often a request waits.
const WAITS: usize = 10;
/// The largest body that is kept until the server has taken it: every operation, no upload.
const KEPT: u64 = 1 << 20;

/// Answers for Railway's hosts by asking `server`, and refuses every other host.
#[derive(Clone)]
pub(super) struct Proxy {
    server: Arc<Server>,
    acceptor: TlsAcceptor,
    tasks: TaskTracker,
    /// The CLI connects to a database: see [`database`].
    connects: bool,
}

impl Proxy {
    pub(super) fn new(server: Server, authority: &Authority, connects: bool) -> anyhow::Result<Self> {
        let mut config = rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![authority.leaf.clone()], authority.leaf_key.clone_key())?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { server: Arc::new(server), acceptor: TlsAcceptor::from(Arc::new(config)), tasks: TaskTracker::new(), connects })
    }

    /// Serves until the future is dropped, or until nothing was connected for `idle`.
    pub(super) async fn serve(&self, listener: TcpListener, idle: Option<Duration>) -> anyhow::Result<()> {
        loop {
            let accepted = match idle {
                None => listener.accept().await,
                Some(idle) => match tokio::time::timeout(idle, listener.accept()).await {
                    Ok(accepted) => accepted,
                    Err(_) if self.tasks.is_empty() => return Ok(()),
                    Err(_) => continue,
                },
            };
            let (socket, _) = accepted?;
            let proxy = self.clone();
            self.tasks.spawn(async move {
                let service = service_fn(|request| std::future::ready(Ok::<_, Infallible>(proxy.on_proxy_request(request))));
                // A client that goes away is no fault, and one that sends nonsense was told so.
                let _ = server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), service).with_upgrades().await;
            });
        }
    }

    /// The outer protocol: only CONNECT, only to Railway's hosts.
    fn on_proxy_request(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let place = request.uri().authority().cloned();
        let known =
            place.is_some_and(|place| place.port_u16() == Some(443) && HOSTS.iter().any(|host| place.host().eq_ignore_ascii_case(host)));
        if request.method() != Method::CONNECT || !known {
            let mut answer = Response::new(Full::from(format!(
                "`orrery railway` connects to {} and nowhere else; {} is refused\n",
                self.server,
                request.uri().authority().map_or("this", |place| place.as_str())
            )));
            *answer.status_mut() = StatusCode::FORBIDDEN;
            return answer;
        }
        let proxy = self.clone();
        self.tasks.spawn(async move {
            // The client that closed before the tunnel was up, or does not trust our certificate, says so itself.
            let Ok(tunnel) = hyper::upgrade::on(request).await else { return };
            let Ok(stream) = proxy.acceptor.accept(TokioIo::new(tunnel)).await else { return };
            let service = service_fn(|request| {
                let proxy = proxy.clone();
                async move { Ok::<_, Infallible>(proxy.on_request(request).await) }
            });
            let _ = server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades().await;
        });
        Response::new(Full::default())
    }

    /// The inner protocol: what the CLI believes to say to Railway.
    async fn on_request(&self, request: Request<Incoming>) -> Response<Body> {
        let upgrades = request.headers().contains_key(header::UPGRADE);
        let small = request.body().size_hint().upper().is_some_and(|length| length <= KEPT);
        let answer = if small && !upgrades { self.patiently(request).await } else { self.forward(request.map(Either::Left)).await };
        match answer {
            Ok(answer) => answer,
            Err(error) => {
                // The CLI shows the first error's message, and `message` for an upload: contracts/railway-cli.md 4 and 5.
                let text = format!("{error:#}");
                let body = serde_json::json!({ "errors": [{ "message": text }], "message": text }).to_string();
                let mut answer = Response::new(Either::Right(Full::from(body)));
                *answer.status_mut() = StatusCode::BAD_GATEWAY;
                answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
                answer
            }
        }
    }

    /// Sends the request again when it came too soon after others: the CLI itself would give up, in the middle of a script. One that is
    /// refused for its number has done nothing.
    async fn patiently(&self, request: Request<Incoming>) -> anyhow::Result<Response<Body>> {
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes();
        let again = || Request::from_parts(head.clone(), Either::Right(Full::from(body.clone())));
        for _ in 0..WAITS {
            let answer = self.forward(again()).await?;
            let after = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
            match after.map(Duration::from_secs) {
                Some(wait) if answer.status() == StatusCode::TOO_MANY_REQUESTS && wait <= WAIT => tokio::time::sleep(wait).await,
                _ => return Ok(answer),
            }
        }
        self.forward(again()).await
    }

    /// One connection per request: the CLI makes few, and none is ever sent on a connection that the server is about to close.
    async fn forward(&self, mut request: Request<Body>) -> anyhow::Result<Response<Body>> {
        let stream = self.server.connect().await?;
        let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(stream)).await?;
        self.tasks.spawn(async move {
            // What goes wrong here also ends the request or the upgraded stream, which report it.
            let _ = connection.with_upgrades().await;
        });
        let upgrade = request.headers().contains_key(header::UPGRADE).then(|| hyper::upgrade::on(&mut request));
        rewrite(&self.server, &mut request)?;
        if self.connects {
            request.headers_mut().remove(header::ACCEPT_ENCODING);
        }
        let mut answer = sender.send_request(request).await?;
        if let (StatusCode::SWITCHING_PROTOCOLS, Some(upgrade)) = (answer.status(), upgrade) {
            let far = hyper::upgrade::on(&mut answer);
            self.tasks.spawn(async move {
                if let (Ok(near), Ok(far)) = (upgrade.await, far.await) {
                    // Either side closing ends both; there is nobody left to tell.
                    let _ = tokio::io::copy_bidirectional(&mut TokioIo::new(near), &mut TokioIo::new(far)).await;
                }
            });
        }
        if !self.connects || answer.status() != StatusCode::OK {
            return Ok(answer.map(Either::Left));
        }
        let (mut head, body) = answer.into_parts();
        let body = body.collect().await?.to_bytes();
        let body = database::disguise(&body, self.server.is_local()).map_or(body, Bytes::from);
        // It may have another length now; the new one is told by whoever sends it.
        head.headers.remove(header::CONTENT_LENGTH);
        head.headers.remove(header::TRANSFER_ENCODING);
        Ok(Response::from_parts(head, Either::Right(Full::from(body))))
    }
}

fn rewrite(server: &Server, request: &mut Request<Body>) -> anyhow::Result<()> {
    let path = request.uri().path_and_query().map_or("/", PathAndQuery::as_str);
    *request.uri_mut() = Uri::try_from(format!("{}{path}", server.prefix()))?;
    let headers = request.headers_mut();
    let asked = headers.insert(header::HOST, HeaderValue::from_str(server.authority())?);
    if let Some(asked) = asked {
        headers.insert(HeaderName::from_static("x-forwarded-host"), asked);
    }
    headers.insert(HeaderName::from_static("x-forwarded-proto"), HeaderValue::from_static("https"));
    // The body is asked for as it is forwarded; a second "100 Continue" from the server would be one too many.
    headers.remove(header::EXPECT);
    Ok(())
}
