//! What every request goes through, and the table of routes.

mod answer;
mod arrival;
mod body;
mod caller;
mod graphql;
mod limits;
mod origin;
mod page;
mod pages;
mod rate;
mod repeat;
mod serve;
mod shell;
mod sockets;

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, State};
use axum::response::Response;
use axum::routing::{get, post};
use axum::{Extension, Router, middleware};
use domain::Code;
use domain::network::Network;
use ops::Ops;
use ops::auth::Surface;

pub(crate) use self::answer::{build, json, redirect, refuse, status, text};
pub(crate) use self::arrival::{Arrival, Asker};
pub(crate) use self::body::{Form, announced, linger, read, read_form};
pub(crate) use self::caller::{Credential, context, context_of, cookie};
pub(crate) use self::limits::Limits;
pub(crate) use self::origin::require_same_origin;
pub(crate) use self::page::{Html, Page, escape};
pub(crate) use self::repeat::{Named, once_read};
use self::serve::Peer;
pub use self::serve::serve;
pub use self::shell::ShellTimes;
use self::sockets::Sockets;
use crate::dashboard::Dashboard;
use crate::graphql::Engine;
use crate::{flow, login, oauth, upload};

/// How long a handler that reads no upload may take, its body included.
const REQUEST: Duration = Duration::from_secs(60);

/// What handlers are given: one count goes up with a request, not one for each of the parts.
pub(crate) type Shared = Arc<ApiState>;

/// What every handler shares.
pub struct ApiState {
    /// The verbs.
    pub ops: Arc<Ops>,
    /// The engine of `/graphql/v2`.
    pub engine: Engine,
    /// The engine of `/graphql`.
    pub galaxy: Engine,
    /// Whether browsers get the dashboard.
    pub dashboard: Dashboard,
    /// Where reverse proxies are whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed. Loopback is no exception: apps are there too.
    pub trusted_proxies: Arc<[Network]>,
    /// When shells into containers are looked after.
    pub shell_times: ShellTimes,
    pub(crate) limits: Arc<Limits>,
    pub(crate) uploads: Arc<upload::Turns>,
    pub(crate) sockets: Arc<Sockets>,
}

impl ApiState {
    /// Gathers what handlers share, and removes what uploads of a killed process have left behind.
    #[must_use]
    pub fn new(ops: Arc<Ops>) -> Self {
        upload::sweep(&ops.settings.blobs);
        let (engine, galaxy) = (Engine::new(Surface::Railway), Engine::new(Surface::Galaxy));
        Self {
            ops,
            engine,
            galaxy,
            dashboard: Dashboard::Absent,
            trusted_proxies: Arc::default(),
            shell_times: ShellTimes::default(),
            limits: Arc::default(),
            uploads: Arc::default(),
            sockets: Arc::default(),
        }
    }
}

/// Every route of the API's port.
pub fn router(state: ApiState) -> Router {
    let state = Shared::new(state);
    // An upload has its own limits and deadlines, and a websocket lives as long as it likes.
    let repeatable = middleware::from_fn_with_state((state.clone(), Surface::Flow), repeat::layer);
    let long = Router::new()
        .route("/project/{project}/environment/{environment}/up", post(upload::up))
        .route("/graphql", post(graphql::execute_galaxy).options(graphql::preflight))
        .route("/graphql/v2", get(graphql::greet).post(graphql::execute).options(graphql::preflight))
        .route("/graphql/v2/shell/{target}", get(shell::open));
    let short = Router::new()
        .route("/", get(pages::start))
        .route("/healthz", get(pages::healthz))
        .route("/docs/errors", get(pages::errors))
        .route("/project/{project}", get(pages::project))
        .route("/project/{project}/service/{service}", get(pages::service))
        .route("/login", get(login::form).post(login::submit))
        .route("/login/code", get(login::code_form).post(login::code_submit))
        .route("/login/link", get(login::link_form).post(login::link_submit))
        .route("/logout", get(login::out_form).post(login::out_submit))
        .route("/oauth/device/auth", post(oauth::device_auth))
        .route("/oauth/token", post(oauth::token))
        .route("/oauth/device", get(oauth::device_form).post(oauth::device_submit))
        .route("/oauth/auth", get(oauth::consent_form).post(oauth::consent_submit))
        .merge(flow::routes(&state).layer(repeatable))
        .layer(middleware::from_fn(deadline));
    long.merge(short)
        .fallback(absent)
        .method_not_allowed_fallback(wrong_method)
        // Each handler reads its body with a limit of its own; axum's would answer in other words.
        .layer(DefaultBodyLimit::disable())
        .layer(middleware::from_fn_with_state(state.clone(), arrival::receive))
        .with_state(state)
}

/// What is refused beside the handlers, in the words of the address.
fn refuse_as(arrival: &Arrival, error: ops::Error) -> Response {
    match arrival.dialect {
        Some(rate::Dialect::Rest) => flow::refuse(error, &arrival.request_id),
        _ => refuse(&error, &arrival.request_id),
    }
}

async fn deadline(Extension(arrival): Extension<Arrival>, request: axum::extract::Request, next: middleware::Next) -> Response {
    match tokio::time::timeout(REQUEST, next.run(request)).await {
        Ok(response) => response,
        Err(_) => refuse_as(&arrival, ops::Error::new(Code::Timeout, "The request took too long: try again")),
    }
}

async fn absent(State(state): State<Shared>, Extension(arrival): Extension<Arrival>, request: axum::extract::Request) -> Response {
    if request.method().is_safe()
        && let Some(page) = state.dashboard.answer(request.uri().path(), request.headers())
    {
        return page;
    }
    let words = match arrival.dialect {
        Some(rate::Dialect::Rest) => "There is nothing at this address: the API is described at /docs/api",
        _ => "There is nothing at this address: the API is at /graphql/v2",
    };
    refuse_as(&arrival, ops::Error::new(Code::NotFound, words))
}

async fn wrong_method(Extension(arrival): Extension<Arrival>) -> Response {
    let error = ops::Error::bad_input("This address does not take that method: see the `Allow` header");
    let mut response = refuse_as(&arrival, error);
    *response.status_mut() = axum::http::StatusCode::METHOD_NOT_ALLOWED;
    response
}
