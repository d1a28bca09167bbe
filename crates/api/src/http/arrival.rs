//! The outermost layer: names a request, finds out where it comes from, survives the panic of a handler, writes the access log.

use std::any::Any;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, HOST, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, Version};
use axum::middleware::Next;
use axum::response::Response;
use domain::network::Network;
use domain::rate::State as Standing;
use domain::{Code, Timestamp, UserId};
use futures::FutureExt;
use ops::{OpCtx, Principal};

use super::answer::refuse;
use super::caller::{GALAXY_KEY, HOST_COOKIE, PROJECT_TOKEN, SESSION_COOKIE};
use super::rate::{self, Dialect};
use super::{ApiState, Peer, Shared};

static REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
static FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
static FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// The circumstances of a request, made once when it comes in.
#[derive(Clone)]
pub(crate) struct Arrival {
    /// What the log and the client call it.
    pub(crate) request_id: String,
    /// When.
    pub(crate) now: Timestamp,
    /// From where: the socket's address, or what a trusted proxy says.
    pub(crate) address: IpAddr,
    /// The client speaks TLS, to a proxy in front of us or as the dashboard's address says.
    pub(crate) https: bool,
    /// How this address speaks of rate limits; `None` when it has none.
    pub(crate) dialect: Option<Dialect>,
    found: Arc<Found>,
}

/// What is found out about a request while it is handled.
#[derive(Default)]
struct Found {
    /// Who asks; for the access log.
    asker: OnceLock<Asker>,
    /// How they stand with their limits.
    standing: OnceLock<Standing>,
    /// What a layer in front of the handler has found out about them.
    ctx: OnceLock<OpCtx>,
}

impl Arrival {
    /// The name of the cookie that holds a browser's session.
    pub(crate) fn session_cookie(&self) -> &'static str {
        if self.https { HOST_COOKIE } else { SESSION_COOKIE }
    }

    /// Notes for the access log who asks; the first word counts.
    pub(crate) fn asked_by(&self, asker: Asker) {
        // Set already means that a handler looked twice.
        let _ = self.found.asker.set(asker);
    }

    /// Spares the handler to find out again who asks, and the one who asks to be counted twice.
    pub(crate) fn finds(&self, ctx: OpCtx) {
        // As above.
        let _ = self.found.ctx.set(ctx);
    }

    /// What [`Arrival::finds`] was told.
    pub(crate) fn found(&self) -> Option<OpCtx> {
        self.found.ctx.get().cloned()
    }

    /// Notes how whoever asks stands with their limits, for the headers of the answer; the first word counts.
    pub(crate) fn stands(&self, standing: Standing) {
        // As above.
        let _ = self.found.standing.set(standing);
    }
}

pub(crate) async fn receive(State(state): State<Shared>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let arrival = arrive(&state, &request);
    let method = request.method().clone();
    let uri = request.uri().clone();
    request.extensions_mut().insert(arrival.clone());

    let mut response = match ambiguous(request.version(), request.headers()) {
        Some(error) => refuse(&error, &arrival.request_id),
        None => survive(next.run(request), &arrival.request_id).await,
    };

    if let Some(dialect) = arrival.dialect {
        // Nobody asked who it is: a wrong method, an address without anything.
        let standing = arrival.found.standing.get_or_init(|| state.limits.stranger(&arrival, method == Method::OPTIONS));
        rate::tell(&mut response, standing, dialect, &arrival.request_id);
    }
    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::try_from(&arrival.request_id) {
        headers.insert(REQUEST_ID.clone(), value);
    }
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // Caching is opted into by a route; nothing here is the same for everybody.
    headers.entry(CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
    access_log(&arrival, &method, &uri, response.status(), started);
    response
}

/// A path as the log has it: without the secret that the URL of a workflow's trigger holds, or that of an invitation.
fn shown(path: &str) -> String {
    for secret in ["/v1/hooks/", "/invite/"] {
        if let Some((before, _)) = path.split_once(secret) {
            return format!("{before}{secret}…");
        }
    }
    path.chars().take(200).collect()
}

/// One line a request, without its query and its headers. What went well is for those who ask for it (`orrery::access=debug`): a line
/// each would cost more than many of the requests.
fn access_log(arrival: &Arrival, method: &Method, uri: &Uri, status: StatusCode, started: Instant) {
    let ms = started.elapsed().as_secs_f64() * 1000.0;
    let Arrival { request_id, address, .. } = arrival;
    let principal = arrival.found.asker.get().map(tracing::field::display);
    macro_rules! line {
        ($level:ident) => {
            tracing::$level!(target: "orrery::access", %method, path = shown(uri.path()), status = status.as_u16(), ms, request_id, %address, principal)
        };
    }
    match status.as_u16() {
        500.. => line!(warn),
        400.. => line!(info),
        _ => line!(debug),
    }
}

/// Who asks, for a line of the log.
pub(crate) enum Asker {
    /// Whoever a credential stands for.
    Principal(Principal),
    /// Somebody who has just signed in.
    Person(UserId),
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Principal(Principal::Anonymous) => f.write_str("anonymous"),
            Self::Principal(Principal::User(person)) => write!(f, "user:{}", person.user.id),
            Self::Principal(Principal::Key(key)) => write!(f, "key:{}", key.key.id),
            Self::Principal(Principal::System(system)) => write!(f, "system:{}", system.part),
            Self::Person(user) => write!(f, "user:{user}"),
        }
    }
}

/// The handler's answer; one that panics fails its own request and no other.
async fn survive(handler: impl Future<Output = Response>, request_id: &str) -> Response {
    match AssertUnwindSafe(handler).catch_unwind().await {
        Ok(response) => response,
        Err(panic) => refuse(&ops::Error::internal("a handler panicked", panic_text(&*panic)), request_id),
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a text").to_owned()
}

fn arrive(state: &ApiState, request: &Request) -> Arrival {
    let dialect = rate::dialect(request.uri().path());
    let peer = request.extensions().get::<Peer>().map(|peer| peer.address.ip().to_canonical());
    let trusted = |address: IpAddr| is_trusted(&state.trusted_proxies, address);
    let through_proxy = peer.is_some_and(trusted);
    let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let address = if through_proxy { forwarded_for(request.headers(), peer, trusted) } else { peer };
    let https = state.ops.settings.dashboard_url.starts_with("https://")
        || (through_proxy && request.headers().get(&FORWARDED_PROTO).is_some_and(|proto| proto.as_bytes() == b"https"));
    Arrival { request_id: uuid::Uuid::now_v7().simple().to_string(), now: Timestamp::now(), address, https, dialect, found: Arc::default() }
}

/// Whether a proxy is there. One that is told to ask `localhost` comes from either of its addresses, since the server listens on both.
fn is_trusted(proxies: &[Network], address: IpAddr) -> bool {
    let listed = |address: IpAddr| proxies.iter().any(|network| network.contains(address));
    listed(address) || (address == Ipv6Addr::LOCALHOST && listed(IpAddr::V4(Ipv4Addr::LOCALHOST)))
}

/// The nearest address that is not one of our own proxies. Everything further left was written by somebody we do not know.
fn forwarded_for(headers: &HeaderMap, peer: IpAddr, trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut nearest = peer;
    let values: Vec<&str> = headers.get_all(&FORWARDED_FOR).iter().filter_map(|value| value.to_str().ok()).collect();
    for hop in values.iter().flat_map(|value| value.split(',')).rev() {
        let Ok(address) = hop.trim().parse::<IpAddr>() else { break };
        nearest = address.to_canonical();
        if !trusted(nearest) {
            break;
        }
    }
    nearest
}

/// A request that two readers could understand in two ways. Hyper has already settled the length of its body.
fn ambiguous(version: Version, headers: &HeaderMap) -> Option<ops::Error> {
    let count = |name: &HeaderName| headers.get_all(name).iter().count();
    let hosts = count(&HOST);
    if hosts > 1 || (hosts == 0 && version > Version::HTTP_10) {
        return Some(ops::Error::bad_input("The request needs exactly one `Host` header"));
    }
    for name in [&AUTHORIZATION, &PROJECT_TOKEN, &GALAXY_KEY] {
        if count(name) > 1 {
            return Some(ops::Error::new(Code::BadUserInput, format!("The header `{name}` came more than once: send it once")));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_answer_that_tells_nothing() {
        let response = survive(async { panic!("canary") }, "r1").await;
        assert_eq!(response.status(), 500);
        let body = axum::body::to_bytes(response.into_body(), 10_000).await.unwrap();
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(text.contains("r1") && !text.contains("canary"), "{text}");
    }

    #[test]
    fn secrets_in_paths_stay_out_of_the_log() {
        assert_eq!(shown("/api/v1/hooks/canary"), "/api/v1/hooks/…");
        assert_eq!(shown("/invite/canary"), "/invite/…");
        assert_eq!(shown("/graphql/v2"), "/graphql/v2");
    }

    #[test]
    fn a_proxy_on_this_machine_is_trusted_under_both_its_addresses() {
        let trusts = |proxy: &str, address: &str| is_trusted(&[proxy.parse().unwrap()], address.parse().unwrap());
        assert!(trusts("127.0.0.1", "127.0.0.1") && trusts("127.0.0.1", "::1") && trusts("::1", "::1"));
        assert!(!trusts("::1", "127.0.0.1") && !trusts("10.0.0.0/8", "::1") && !trusts("127.0.0.1", "::2"));
    }

    #[test]
    fn only_the_part_that_our_proxies_wrote_is_believed() {
        let proxy: IpAddr = "10.0.0.1".parse().unwrap();
        let trusted = |address: IpAddr| address.is_loopback() || address == proxy;
        let seen = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(FORWARDED_FOR.clone(), HeaderValue::from_static(line));
            }
            forwarded_for(&headers, IpAddr::V4(Ipv4Addr::LOCALHOST), trusted).to_string()
        };
        assert_eq!(seen(&[]), "127.0.0.1");
        assert_eq!(seen(&["9.9.9.9, 203.0.113.7"]), "203.0.113.7");
        assert_eq!(seen(&["9.9.9.9", "203.0.113.7, 10.0.0.1"]), "203.0.113.7");
        assert_eq!(seen(&["203.0.113.7, nonsense"]), "127.0.0.1");
        assert_eq!(seen(&["::ffff:203.0.113.7"]), "203.0.113.7");
    }
}
