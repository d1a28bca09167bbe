//! `Idempotency-Key`: a request that makes something can be sent again without making it twice. One layer for all surfaces.
//!
//! The first answer is kept for at least a day, for the owner of the key that came with the request, and given again with the header
//! `Idempotency-Replayed`. What was refused before anything was done is not kept. GraphQL queries and requests without a credential take their
//! usual course.

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
use http_body::Body as _;
use ops::Error;
use ops::auth::{Surface, authenticate};
use ops::idempotency::{self, Attempt, Repeat};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use store::KeptAnswer;

use super::answer::{refuse, refuse_graphql};
use super::caller::{Credential, context_of, credential, galaxy_credential};
use super::{ApiState, Arrival, announced, body};

static KEY: HeaderName = HeaderName::from_static("idempotency-key");
static REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// The largest body of a request, and of an answer, that is looked at; what is larger takes its usual course.
const BYTES: u64 = 4 << 20;
const PATIENCE: Duration = Duration::from_secs(30);

pub(super) async fn once(
    State((state, surface)): State<(ApiState, Surface)>,
    Extension(arrival): Extension<Arrival>,
    request: Request,
    next: Next,
) -> Response {
    let headers = request.headers();
    let json = headers.get(CONTENT_TYPE).is_some_and(|kind| kind.as_bytes().starts_with(b"application/"));
    let concerned = request.method() == Method::POST && headers.contains_key(&KEY) && json;
    if !concerned || announced(headers).is_some_and(|length| length > BYTES) {
        return next.run(request).await;
    }
    let request_id = arrival.request_id.clone();
    let answer = repeatable(state, surface, arrival, request, next).await;
    answer.unwrap_or_else(|error| if surface == Surface::Flow { refuse(&error, &request_id) } else { refuse_graphql(&error, &request_id) })
}

async fn repeatable(state: ApiState, surface: Surface, arrival: Arrival, request: Request, next: Next) -> Result<Response, Error> {
    let (parts, body) = request.into_parts();
    let bytes = body::read(&parts.headers, body, BYTES as usize, PATIENCE).await?;
    let begun = match begin(&state, surface, &arrival, &parts, &bytes).await? {
        None => return Ok(next.run(Request::from_parts(parts, Body::from(bytes))).await),
        Some(Repeat::Again(answer)) => return Ok(replay(answer)),
        Some(Repeat::First(attempt)) => attempt,
    };
    let request_id = arrival.request_id;
    // A client that goes away does not end what it has begun: the next attempt is told how it went.
    let work = tokio::spawn(async move {
        let response = next.run(Request::from_parts(parts, Body::from(bytes))).await;
        keep(&state, surface, &begun, response, &request_id).await
    });
    work.await.map_err(|error| Error::internal("a repeatable request ended abnormally", error))
}

/// Looks the request up. `None` for one that takes its usual course: that of nobody, a GraphQL query, or a credential that will be refused.
async fn begin(state: &ApiState, surface: Surface, arrival: &Arrival, parts: &Parts, bytes: &Bytes) -> Result<Option<Repeat>, Error> {
    let name = parts.headers.get(&KEY).and_then(|name| name.to_str().ok()).unwrap_or_default();
    if surface != Surface::Flow && !bytes.windows(8).any(|word| word == b"mutation") {
        return Ok(None);
    }
    let sent = if surface == Surface::Galaxy { of_galaxy(parts, bytes) } else { credential(&parts.headers, surface) };
    let Ok(sent) = sent else { return Ok(None) };
    let Ok(principal) = authenticate(&state.ops, surface, sent.present(), arrival.now, None).await else { return Ok(None) };
    let mut hasher = Sha256::new();
    hasher.update(parts.uri.path_and_query().map_or("", |path| path.as_str()));
    hasher.update([0]);
    hasher.update(bytes);
    let begun = idempotency::begin(&state.ops, &principal, name, hasher.finalize().into(), arrival.now).await;
    if !matches!(begun, Ok(None | Some(Repeat::First(_)))) {
        // No handler will look at who asks: the request counts here, as every other does there.
        context_of(state, surface, arrival, &sent).await?;
    }
    begun
}

/// The credential of a Galaxy operation may be among its variables.
fn of_galaxy(parts: &Parts, bytes: &Bytes) -> Result<Credential, Error> {
    let body: Option<Map<String, Value>> = serde_json::from_slice(bytes).ok();
    let mut variables = match body.and_then(|mut body| body.remove("variables")) {
        Some(Value::Object(variables)) => variables,
        _ => Map::new(),
    };
    galaxy_credential(&parts.headers, &mut variables)
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

/// Keeps the answer on its way to the client.
async fn keep(state: &ApiState, surface: Surface, attempt: &Attempt, response: Response, request_id: &str) -> Response {
    let kept = executed(surface, response.status()) && response.body().size_hint().upper().is_some_and(|length| length <= BYTES);
    let (parts, body) = response.into_parts();
    let (answer, body) = if kept {
        // Its length is known, so that reading it fails only when the handler's own body does.
        let bytes = axum::body::to_bytes(body, BYTES as usize).await.unwrap_or_default();
        let content_type = parts.headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).map(str::to_owned);
        (Some(KeptAnswer { status: parts.status.as_u16(), content_type, body: bytes.to_vec() }), Body::from(bytes))
    } else {
        (None, body)
    };
    // What was done is done, and the client is told; only a repetition would do it again.
    if let Err(error) = idempotency::finish(&state.ops, attempt, answer.as_ref()).await {
        error.log(request_id);
    }
    Response::from_parts(parts, body)
}
