//! `Idempotency-Key`: a request that makes something can be sent again without making it twice. One layer for all surfaces.
//!
//! The first answer is kept for at least a day, for the owner of the key that came with the request, and given again with the header
//! `Idempotency-Replayed`. What was refused before anything was done is not kept. GraphQL queries and requests without a credential take their
//! usual course. An archive is not read twice: the handler of uploads asks here once it has arrived ([`once_read`]).

use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use domain::{Code, Timestamp};
use http_body::Body as _;
use ops::auth::Surface;
use ops::idempotency::{self, Attempt, Repeat};
use ops::{Error, OpCtx, Ops};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use store::KeptAnswer;

use super::answer::refuse_graphql;
use super::caller::{Credential, context_of, credential, galaxy_credential};
use super::graphql::BODY_BYTES;
use super::{ApiState, Arrival, Shared, announced, body, require_same_origin};
use crate::flow;

static KEY: HeaderName = HeaderName::from_static("idempotency-key");
static REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The largest answer that is kept.
const BYTES: u64 = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

/// The largest body that is looked at; what is larger takes its usual course.
fn longest(surface: Surface) -> u64 {
    match surface {
        Surface::Flow => BYTES,
        Surface::Railway | Surface::Galaxy => BODY_BYTES as u64,
    }
}

/// The layer of a surface with many routes.
pub(super) async fn layer(
    State((state, surface)): State<(Shared, Surface)>,
    Extension(arrival): Extension<Arrival>,
    request: Request,
    next: Next,
) -> Response {
    once(&state, surface, &arrival, request, |request| next.run(request)).await
}

/// Answers with `run`, unless the request is the repetition of an earlier one.
pub(super) async fn once<F>(
    state: &Shared,
    surface: Surface,
    arrival: &Arrival,
    request: Request,
    run: impl FnOnce(Request) -> F + Send + 'static,
) -> Response
where
    F: Future<Output = Response> + Send + 'static,
{
    if !is_repeatable(surface, &request) {
        return run(request).await;
    }
    let answer = repeatable(state, surface, arrival, request, run).await;
    answer.unwrap_or_else(|error| match surface {
        Surface::Flow => flow::refuse(error, &arrival.request_id),
        Surface::Railway | Surface::Galaxy => refuse_graphql(&error, &arrival.request_id),
    })
}

/// The key of a request whose body is too large to be looked at beforehand, with where it went.
pub(crate) struct Named {
    name: String,
    place: String,
}

impl Named {
    /// `None` for one that may not be repeated.
    pub(crate) fn of(parts: &Parts) -> Option<Self> {
        let name = parts.headers.get(&KEY)?.to_str().unwrap_or_default().to_owned();
        Some(Self { name, place: place(parts).to_owned() })
    }
}

/// As [`once`], for a handler that has read the body already and knows its hash. What `run` refuses was not done.
pub(crate) async fn once_read(
    ctx: &OpCtx,
    named: Option<Named>,
    hash: &str,
    run: impl Future<Output = Result<Response, Error>>,
) -> Result<Response, Error> {
    let Some(Named { name, place }) = named else { return run.await };
    // The body may have taken longer to arrive than a request may be at work.
    let now = Timestamp::now();
    let attempt = match idempotency::begin(&ctx.ops, &ctx.principal, &name, fingerprint(&place, hash.as_bytes()), now).await? {
        None => return run.await,
        Some(Repeat::Again(answer)) => return Ok(replay(answer)),
        Some(Repeat::First(attempt)) => attempt,
    };
    match run.await {
        Ok(response) => Ok(keep(&ctx.ops, Surface::Railway, &attempt, response, &ctx.request_id).await),
        Err(refused) => {
            if let Err(error) = idempotency::finish(&ctx.ops, &attempt, None).await {
                error.log(&ctx.request_id);
            }
            Err(refused)
        }
    }
}

fn place(parts: &Parts) -> &str {
    parts.uri.path_and_query().map_or("", |path| path.as_str())
}

fn fingerprint(place: &str, body: &[u8]) -> [u8; 32] {
    let mut hasher = Sha256::new();
    hasher.update(place);
    hasher.update([0]);
    hasher.update(body);
    hasher.finalize().into()
}

fn is_repeatable(surface: Surface, request: &Request) -> bool {
    let headers = request.headers();
    if !headers.contains_key(&KEY) || request.method() != Method::POST {
        return false;
    }
    let json = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/"));
    // An upload in pieces may be larger than what is looked at; every other handler refuses such a body anyway.
    let looked_at = announced(headers).map_or(!request.uri().path().ends_with("/uploads"), |length| length <= longest(surface));
    json && looked_at
}

async fn repeatable<F>(
    state: &Shared,
    surface: Surface,
    arrival: &Arrival,
    request: Request,
    run: impl FnOnce(Request) -> F + Send + 'static,
) -> Result<Response, Error>
where
    F: Future<Output = Response> + Send + 'static,
{
    let (parts, body) = request.into_parts();
    let bytes = body::read(&parts.headers, body, longest(surface) as usize, PATIENCE).await?;
    let begun = match begin(state, surface, arrival, &parts, &bytes).await? {
        None => return Ok(run(Request::from_parts(parts, Body::from(bytes))).await),
        Some(Repeat::Again(answer)) => return Ok(replay(answer)),
        Some(Repeat::First(attempt)) => attempt,
    };
    let (state, request_id) = (Shared::clone(state), arrival.request_id.clone());
    // A client that goes away does not end what it has begun: the next attempt is told how it went.
    let work = tokio::spawn(async move {
        let response = run(Request::from_parts(parts, Body::from(bytes))).await;
        keep(&state.ops, surface, &begun, response, &request_id).await
    });
    work.await.map_err(|error| Error::internal("a repeatable request ended abnormally", error))
}

/// Looks the request up. `None` for one that takes its usual course: that of nobody, a GraphQL query, or a credential that will be refused.
async fn begin(state: &ApiState, surface: Surface, arrival: &Arrival, parts: &Parts, bytes: &Bytes) -> Result<Option<Repeat>, Error> {
    let name = parts.headers.get(&KEY).and_then(|name| name.to_str().ok()).unwrap_or_default();
    if surface != Surface::Flow && !bytes.windows(8).any(|word| word == b"mutation") {
        return Ok(None);
    }
    let cookie = arrival.session_cookie();
    let sent = if surface == Surface::Galaxy { of_galaxy(parts, bytes, cookie) } else { credential(&parts.headers, surface, cookie) };
    let Ok(sent) = sent else { return Ok(None) };
    if matches!(sent, Credential::Session(_)) && require_same_origin(state, &parts.headers).is_err() {
        return Ok(None);
    }
    // Counted before anything is written: the handler finds what was found out here.
    let ctx = match context_of(state, surface, arrival, sent).await {
        Ok(ctx) => ctx,
        Err(error) if error.code == Code::RateLimited => return Err(error),
        Err(_) => return Ok(None),
    };
    arrival.finds(ctx.clone());
    idempotency::begin(&state.ops, &ctx.principal, name, fingerprint(place(parts), bytes), arrival.now).await
}

/// The credential of a Galaxy operation may be among its variables.
fn of_galaxy(parts: &Parts, bytes: &Bytes, cookie: &str) -> Result<Credential, Error> {
    let body: Option<Map<String, Value>> = serde_json::from_slice(bytes).ok();
    let mut variables = match body.and_then(|mut body| body.remove("variables")) {
        Some(Value::Object(variables)) => variables,
        _ => Map::new(),
    };
    galaxy_credential(&parts.headers, &mut variables, cookie)
}

fn replay(answer: KeptAnswer) -> Response {
    let mut response = Response::new(Body::from(answer.body));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::OK);
    if let Some(kind) = answer.content_type.and_then(|kind| HeaderValue::try_from(kind).ok()) {
        response.headers_mut().insert(CONTENT_TYPE, kind);
    }
    response.headers_mut().insert(REPLAYED.clone(), HeaderValue::from_static("true"));
    response
}

/// Whether something may have been done. GraphQL answers 200 as soon as an operation was executed.
fn executed(surface: Surface, status: StatusCode) -> bool {
    match surface {
        Surface::Flow => status.is_success() || status == StatusCode::INTERNAL_SERVER_ERROR || status == StatusCode::GATEWAY_TIMEOUT,
        Surface::Railway | Surface::Galaxy => status == StatusCode::OK || status == StatusCode::GATEWAY_TIMEOUT,
    }
}

/// What stands in for an answer that was too large to keep: what it answered was done, and must not be done again.
fn too_large(surface: Surface, status: StatusCode) -> KeptAnswer {
    const TEXT: &str = "This request was executed before; its answer was too large to be kept: read what it made instead";
    let body = if surface == Surface::Flow {
        json!({"error": TEXT, "message": TEXT})
    } else {
        json!({"errors": [{"message": TEXT, "extensions": {"code": Code::Conflict.as_str()}}], "data": null})
    };
    KeptAnswer { status: status.as_u16(), content_type: Some("application/json".to_owned()), body: body.to_string().into_bytes() }
}

/// Keeps the answer on its way to the client.
async fn keep(ops: &Ops, surface: Surface, attempt: &Attempt, response: Response, request_id: &str) -> Response {
    let executed = executed(surface, response.status());
    let fits = response.body().size_hint().upper().is_some_and(|length| length <= BYTES);
    let (parts, body) = response.into_parts();
    let (answer, body) = if executed && !fits {
        (Some(too_large(surface, parts.status)), body)
    } else if executed {
        // Its length is known, so that reading it fails only when the handler's own body does.
        let bytes = axum::body::to_bytes(body, BYTES as usize).await.unwrap_or_default();
        let content_type = parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
        (Some(KeptAnswer { status: parts.status.as_u16(), content_type, body: bytes.to_vec() }), Body::from(bytes))
    } else {
        (None, body)
    };
    // What was done is done, and the client is told; only a repetition would do it again.
    if let Err(error) = idempotency::finish(ops, attempt, answer.as_ref()).await {
        error.log(request_id);
    }
    Response::from_parts(parts, body)
}
