//! The way of one request: checked, given to a replica, given to another one if that is safe, answered.

use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use domain::ReplicaId;
use http::header::{SET_COOKIE, STRICT_TRANSPORT_SECURITY};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, Version};
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use crate::answer::{AnswerBody, Problem, own, plain, redirect};
use crate::exchange::Exchange;
use crate::headers::{self, X_REQUEST_ID};
use crate::pool::{Sender, Upload, connect};
use crate::routes::{Lease, LiveRoute};
use crate::tls::CHALLENGES;
use crate::watch::Watch;
use crate::worker::Conn;
use crate::{asleep, host, tunnel};

/// A request that must not be sent twice goes only over a connection that was in use so recently: most servers close theirs after 2 to 5 s, and
/// a request that meets the closing would be lost.
const FRESH: Duration = Duration::from_secs(1);
const UNCLEAR_END: &str = "The request does not say clearly where it ends: send either Content-Length or Transfer-Encoding, once.";
/// Upper bound for the tries of one request.
const TRIES: usize = 6;

/// Answers one request.
pub(crate) async fn serve(conn: Rc<Conn>, mut request: Request<Incoming>) -> Response<AnswerBody> {
    let sound = conn.watch.begin();
    let mut exchange = Exchange::begin(conn, &request);
    let worker = Rc::clone(&exchange.conn.worker);
    worker.count_request();
    if !sound {
        return own(exchange, Problem::BadRequest(UNCLEAR_END));
    }
    if *request.method() == Method::CONNECT {
        return own(exchange, Problem::Connect);
    }
    if let Some(text) = worker.shared.certificates.challenge(request.uri().path()) {
        return plain(exchange, StatusCode::OK, text);
    }
    let host = exchange.host().clone();
    let key = match host::of(request.uri(), request.headers()) {
        // It was checked to be text.
        Ok(_) => host::key(host.to_str().unwrap_or_default()),
        Err(bad) => return own(exchange, Problem::BadRequest(bad.text())),
    };
    let Some(route) = worker.table().route(&key).map(Arc::clone) else {
        return own(exchange, Problem::UnknownHost);
    };
    if let Some(location) = with_tls(&exchange, &route, request.uri(), &key) {
        return redirect(exchange, location);
    }
    let route = if route.route.asleep.is_some() { asleep::awake(&worker, &key, route).await } else { route };
    exchange.route = Some(Arc::clone(&route));

    let pinned = headers::pinned_replica(request.uri().query()).map(str::to_owned);
    let cookie = if route.route.sticky { headers::sticky_replica(request.headers()) } else { None };
    let wanted = pinned.or_else(|| cookie.clone());
    let switch = headers::wanted_upgrade(request.version(), request.headers()).map(|protocol| (protocol, hyper::upgrade::on(&mut request)));
    let protocol = switch.as_ref().map(|(protocol, _)| protocol.clone());
    let outgoing = outgoing(request, &exchange, protocol);
    match forward(&mut exchange, route, &key, wanted.as_deref(), outgoing, switch.is_some()).await {
        Ok(response) => answer(exchange, response, switch, cookie.as_deref()),
        Err(problem) => own(exchange, problem),
    }
}

/// Where the request should have gone, if its host wants TLS: the same address with it. Authorities ask without.
fn with_tls(exchange: &Exchange, route: &LiveRoute, uri: &Uri, key: &str) -> Option<HeaderValue> {
    let port = exchange.conn.worker.shared.tls_port.filter(|_| route.route.force_https && !exchange.conn.secure)?;
    let path = uri.path_and_query().map(PathAndQuery::as_str).filter(|path| path.starts_with('/')).unwrap_or("/");
    if path.starts_with(CHALLENGES) {
        return None;
    }
    let port = if port == 443 { String::new() } else { format!(":{port}") };
    HeaderValue::try_from(format!("https://{key}{port}{path}")).ok()
}

/// The request as the replica gets it.
fn outgoing(mut request: Request<Incoming>, exchange: &Exchange, protocol: Option<HeaderValue>) -> Request<Upload> {
    if request.uri().authority().is_some() {
        // Apps expect the path only; the host was compared with the Host header.
        let path = request.uri().path_and_query().cloned();
        *request.uri_mut() = path.map_or_else(Uri::default, Uri::from);
    }
    *request.version_mut() = Version::HTTP_11;
    headers::strip_hop_by_hop(request.headers_mut());
    headers::set_forwarded(request.headers_mut(), &exchange.conn.peer_text, exchange.conn.secure, &exchange.request_id);
    if let Some(protocol) = protocol {
        headers::set_upgrade(request.headers_mut(), protocol);
    }
    request.map(|incoming| Upload::new(incoming, Arc::clone(&exchange.conn.watch)))
}

/// How a request may be handled on its way.
#[derive(Clone, Copy)]
struct Manner {
    /// Sending it twice does no harm, and there is no body that would be gone.
    repeatable: bool,
    /// It asks for a switch of protocols, so it needs a connection for itself.
    upgrade: bool,
}

/// Gets an answer from a replica. Another replica is tried when the request cannot have reached the first: it refused the connection, or the
/// connection from the pool had ended. A request that may be repeated is also tried again when the connection ended without an answer.
async fn forward(
    exchange: &mut Exchange,
    mut route: Arc<LiveRoute>,
    key: &str,
    wanted: Option<&str>,
    mut request: Request<Upload>,
    upgrade: bool,
) -> Result<Response<Incoming>, Problem> {
    let worker = Rc::clone(&exchange.conn.worker);
    let manner = Manner { repeatable: request.body().is_end_stream() && request.method().is_idempotent() && !upgrade, upgrade };
    let mut tried: Vec<ReplicaId> = vec![];
    let mut pooled = !upgrade;
    let mut problem = Problem::Unavailable;
    for _ in 0..TRIES {
        let Some(lease) = route.pick(wanted, &tried, worker.turn()) else { break };
        let replica = lease.target.replica_id;
        let address = lease.target.address;
        exchange.lease = Some(lease);
        let missed = match attempt(exchange, replica, address, request, manner, pooled).await {
            Ok(response) => return Ok(response),
            Err(missed) => missed,
        };
        problem = missed.problem;
        if missed.from_pool {
            pooled = false;
        } else {
            tried.push(replica);
        }
        let Some(again) = missed.again else { break };
        request = *again;
        // The table may have changed because of just this failure.
        let Some(now) = worker.table().route(key).map(Arc::clone) else { break };
        route = now;
    }
    Err(problem)
}

/// A replica that did not answer.
struct Missed {
    problem: Problem,
    /// The request, if it may be sent once more.
    again: Option<Box<Request<Upload>>>,
    /// The replica may be well: the connection was an old one.
    from_pool: bool,
}

async fn attempt(
    exchange: &mut Exchange,
    replica: ReplicaId,
    address: SocketAddr,
    request: Request<Upload>,
    manner: Manner,
    pooled: bool,
) -> Result<Response<Incoming>, Missed> {
    let worker = Rc::clone(&exchange.conn.worker);
    let age = if manner.repeatable { worker.shared.limits.pool_idle } else { FRESH };
    let kept = if pooled { worker.pool.take(replica, address, age) } else { None };
    let from_pool = kept.is_some();
    let sender = match kept {
        Some(sender) => sender,
        None => match connect(address, manner.upgrade, &worker.shared.limits).await {
            Ok(sender) => sender,
            Err(error) => {
                exchange.upstream_errors.push(format!("{address}: {error}"));
                exchange.lease.iter().for_each(Lease::avoid);
                return Err(Missed { problem: Problem::Refused, again: Some(Box::new(request)), from_pool });
            }
        },
    };
    let spare = manner.repeatable.then(|| Box::new(repeat(&request, &exchange.conn.watch)));
    send(exchange, sender, request).await.map_err(|failed| match failed {
        Failed::TimedOut => Missed { problem: Problem::TimedOut, again: None, from_pool },
        Failed::BrokenOff { unsent, error } => {
            exchange.upstream_errors.push(format!("{address}: {error}"));
            Missed { problem: Problem::BrokenOff, again: unsent.or(spare), from_pool }
        }
    })
}

enum Failed {
    TimedOut,
    BrokenOff { unsent: Option<Box<Request<Upload>>>, error: hyper::Error },
}

async fn send(exchange: &mut Exchange, mut sender: Sender, request: Request<Upload>) -> Result<Response<Incoming>, Failed> {
    exchange.upstream_started = Some(Instant::now());
    let watch = &exchange.conn.watch;
    watch.wait();
    let mut sending = pin!(sender.try_send_request(request));
    let sent = std::future::poll_fn(|cx| match sending.as_mut().poll(cx) {
        Poll::Ready(sent) => Poll::Ready(Some(sent)),
        Poll::Pending if watch.expired() => Poll::Ready(None),
        Poll::Pending => Poll::Pending,
    })
    .await;
    watch.answered();
    match sent {
        Some(Ok(response)) => {
            exchange.sender = Some(sender);
            Ok(response)
        }
        Some(Err(mut error)) => Err(Failed::BrokenOff { unsent: error.take_message().map(Box::new), error: error.into_error() }),
        None => Err(Failed::TimedOut),
    }
}

/// The same request once more; it has no body.
fn repeat(request: &Request<Upload>, watch: &Arc<Watch>) -> Request<Upload> {
    let mut again = Request::new(Upload::none(Arc::clone(watch)));
    *again.method_mut() = request.method().clone();
    *again.uri_mut() = request.uri().clone();
    *again.headers_mut() = request.headers().clone();
    again
}

/// The replica's answer as the client gets it.
fn answer(
    mut exchange: Box<Exchange>,
    mut response: Response<Incoming>,
    switch: Option<(HeaderValue, OnUpgrade)>,
    cookie: Option<&str>,
) -> Response<AnswerBody> {
    let switched = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    if switched && switch.is_none() {
        return own(exchange, Problem::UnaskedSwitch);
    }
    exchange.status = Some(response.status());
    *response.version_mut() = Version::HTTP_11;
    let protocol = response.headers().get(http::header::UPGRADE).cloned();
    finish_headers(response.headers_mut(), &exchange, cookie);
    match switch {
        Some((asked, client)) if switched => {
            headers::set_upgrade(response.headers_mut(), protocol.unwrap_or(asked));
            let replica = hyper::upgrade::on(&mut response);
            tunnel::start(client, replica, exchange);
            response.map(|_| AnswerBody::Switched)
        }
        _ => response.map(|incoming| AnswerBody::Replica { incoming, exchange }),
    }
}

fn finish_headers(headers: &mut HeaderMap, exchange: &Exchange, cookie: Option<&str>) {
    headers::strip_hop_by_hop(headers);
    if !headers.contains_key(X_REQUEST_ID) {
        headers.insert(X_REQUEST_ID, exchange.request_id.clone());
    }
    let forced = exchange.conn.secure && exchange.route.as_ref().is_some_and(|live| live.route.force_https);
    if forced && !headers.contains_key(STRICT_TRANSPORT_SECURITY) {
        headers.insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static("max-age=31536000"));
    }
    if let Some(live) = exchange.route.as_ref().filter(|live| live.route.sticky)
        && let Some(lease) = &exchange.lease
        && cookie != Some(lease.target.name.as_str())
        && let Some(set) = headers::sticky_cookie(&lease.target.name, live.route.force_https && exchange.conn.secure)
    {
        headers.append(SET_COOKIE, set);
    }
    if let Some(name) = exchange.lease.as_ref().and_then(|lease| lease.target.header.clone()) {
        headers.insert(headers::X_GALAXY_CONTAINER, name);
    }
}
