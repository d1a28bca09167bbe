//! The door of the GraphQL engine: JSON over POST, `graphql-transport-ws` over a websocket (`contracts/railway.md` 1.1, 1.5).

use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocket, WebSocketUpgrade};
use axum::extract::{Request, State};
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE, ALLOW, CONTENT_TYPE, ORIGIN, RETRY_AFTER,
};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use domain::Code;
use ops::auth::Surface;
use ops::{Error, OpCtx, Principal};
use tokio_util::sync::CancellationToken;

use super::answer::{build, refuse, refuse_graphql};
use super::caller::{Credential, context, context_of, credential, galaxy_credential};
use super::rate::EXPOSED;
use super::{ApiState, Arrival, Peer, Shared, body, repeat, require_same_origin};
use crate::graphql::{GraphqlRequest, GraphqlResponse};

/// The largest operation.
pub(super) const BODY_BYTES: usize = 1 << 20;
const PATIENCE: Duration = Duration::from_secs(30);
/// Of each websocket, for as long as it lives: the library's own choice is 128 KiB, and operations are short.
const READ_BUFFER: usize = 4 * 1024;
const PROTOCOL: &str = "graphql-transport-ws";

/// `POST /graphql/v2`
pub(super) async fn execute(State(state): State<Shared>, Extension(arrival): Extension<Arrival>, request: Request) -> Response {
    operation(&state, Surface::Railway, &arrival, request).await
}

/// Executes the operation of a request, once when it may be repeated.
async fn operation(state: &Shared, surface: Surface, arrival: &Arrival, request: Request) -> Response {
    let foreign = request.headers().contains_key(ORIGIN);
    let (own, known) = (Shared::clone(state), arrival.clone());
    let run = move |request: Request| async move {
        let (parts, body) = request.into_parts();
        let run = async {
            match surface {
                Surface::Galaxy => run_galaxy(&own, &known, &parts, body).await,
                Surface::Railway | Surface::Flow => run(&own, &known, &parts, body).await,
            }
        };
        let answer = tokio::time::timeout(super::REQUEST, run).await;
        let answer = answer.unwrap_or_else(|_| Err(Error::new(Code::Timeout, "The operation took too long: ask for less, or try again")));
        answer.unwrap_or_else(|error| refuse_graphql(&error, &known.request_id))
    };
    with_cors(foreign, repeat::once(state, surface, arrival, request, run).await)
}

async fn run(state: &ApiState, arrival: &Arrival, parts: &Parts, body: Body) -> Result<Response, Error> {
    let ctx = match context(state, Surface::Railway, arrival, parts).await {
        Ok(ctx) => ctx,
        Err(error) => {
            body::linger(&parts.headers, body);
            return Err(error);
        }
    };
    let request = read_request(&parts.headers, body).await?;
    Ok(respond(state.engine.execute(ctx, request).await))
}

fn respond(answer: GraphqlResponse) -> Response {
    let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = build(status, "application/json", answer.body);
    if let Some(seconds) = answer.retry_after {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

async fn read_request(headers: &HeaderMap, body: Body) -> Result<GraphqlRequest, Error> {
    if !speaks_json(headers) {
        body::linger(headers, body);
        return Err(Error::bad_input(
            "Send the operation as JSON: `Content-Type: application/json` and {\"query\": …, \"variables\": {…}}",
        ));
    }
    let bytes = body::read(headers, body, BODY_BYTES, PATIENCE).await?;
    let text = std::str::from_utf8(&bytes).map_err(|_| Error::bad_input("The request body is not valid UTF-8: send JSON text"))?;
    // serde_json gives up at 128 levels, long before the stack does.
    serde_json::from_str(text).map_err(|error| {
        Error::bad_input(format!(
            "The request body is not {{\"query\": \"…\", \"variables\": {{…}}, \"operationName\": \"…\"}} in JSON (line {}, column {})",
            error.line(),
            error.column()
        ))
    })
}

fn speaks_json(headers: &HeaderMap) -> bool {
    let Some(kind) = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()) else { return false };
    let kind = kind.split(';').next().unwrap_or_default().trim();
    ["application/json", "application/graphql+json"].iter().any(|known| kind.eq_ignore_ascii_case(known))
}

/// `GET /graphql/v2`: a websocket, or a hint for a person who opened the address in a browser.
pub(super) async fn greet(
    State(state): State<Shared>,
    Extension(arrival): Extension<Arrival>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    if !parts.headers.contains_key("upgrade") {
        let error = Error::bad_input("This is the GraphQL API: send operations by POST as JSON, or open a websocket for subscriptions");
        let mut response = refuse_graphql(&error, &arrival.request_id);
        *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED;
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
        return with_cors(parts.headers.contains_key(ORIGIN), response);
    }
    let shutdown = parts.extensions.get::<Peer>().map(|peer| peer.shutdown.clone()).unwrap_or_default();
    match subscribe(state, &arrival, upgrade, &parts, shutdown).await {
        Ok(response) => response,
        Err(error) => refuse(&error, &arrival.request_id),
    }
}

async fn subscribe(
    state: Shared,
    arrival: &Arrival,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    parts: &Parts,
    shutdown: CancellationToken,
) -> Result<Response, Error> {
    let credential = credential(&parts.headers, Surface::Railway, arrival.session_cookie())?;
    if matches!(credential, Credential::Session(_)) {
        require_same_origin(&state, &parts.headers)?;
    }
    let ctx = context_of(&state, Surface::Railway, arrival, credential).await?;
    if matches!(ctx.principal, Principal::Anonymous) {
        return Err(Error::new(
            Code::Unauthenticated,
            "Not Authorized: send the credential as a header of the websocket's handshake, or sign in",
        ));
    }
    let upgrade = upgrade
        .map_err(|_| Error::bad_input("This is not a websocket handshake: GET with `Upgrade: websocket` and `Sec-WebSocket-Version: 13`"))?
        .max_message_size(BODY_BYTES)
        .max_frame_size(BODY_BYTES)
        .read_buffer_size(READ_BUFFER)
        .protocols([PROTOCOL]);
    if upgrade.selected_protocol().is_none() {
        return Err(Error::bad_input(format!("Offer `Sec-WebSocket-Protocol: {PROTOCOL}`: no other is spoken here")));
    }
    let place = state.sockets.open(&ctx.principal)?;
    Ok(upgrade.on_upgrade(move |socket| async move {
        converse(state, ctx, shutdown, socket).await;
        drop(place);
    }))
}

/// Serves a websocket until it ends, the server stops, or the credential does.
async fn converse(state: Shared, ctx: OpCtx, shutdown: CancellationToken, socket: WebSocket) {
    tokio::select! {
        () = state.engine.serve_transport_ws(ctx, socket) => {}
        () = shutdown.cancelled() => {}
    }
}

/// `POST /graphql`: Galaxy's API (`contracts/galaxy.md` 2). The key may come among the variables, so the body is read first.
pub(super) async fn execute_galaxy(State(state): State<Shared>, Extension(arrival): Extension<Arrival>, request: Request) -> Response {
    operation(&state, Surface::Galaxy, &arrival, request).await
}

async fn run_galaxy(state: &ApiState, arrival: &Arrival, parts: &Parts, body: Body) -> Result<Response, Error> {
    let mut request = read_request(&parts.headers, body).await?;
    let variables = request.variables.get_or_insert_default();
    let credential = galaxy_credential(&parts.headers, variables, arrival.session_cookie())?;
    if matches!(credential, Credential::Session(_)) {
        require_same_origin(state, &parts.headers)?;
    }
    let ctx = context_of(state, Surface::Galaxy, arrival, credential).await?;
    Ok(respond(state.galaxy.execute(ctx, request).await))
}

/// `OPTIONS /graphql/v2`
pub(super) async fn preflight(headers: HeaderMap) -> Response {
    let mut response = build(StatusCode::NO_CONTENT, "text/plain", Body::empty());
    let out = response.headers_mut();
    out.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("POST"));
    out.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("authorization, galaxy-api-key, project-access-token, content-type, idempotency-key, x-source"),
    );
    out.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    with_cors(headers.contains_key(ORIGIN), response)
}

/// A page anywhere may use this API with a token it was given. `*` never lets a browser add its cookies.
fn with_cors(foreign: bool, mut response: Response) -> Response {
    if foreign {
        response.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        response.headers_mut().insert(ACCESS_CONTROL_EXPOSE_HEADERS, EXPOSED);
    }
    response
}
