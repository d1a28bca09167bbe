//! Workflows over REST (`contracts/flow.md`): the same routes under `/api/v1` and `/v1`, and as MCP tools.

mod answer;
mod catalogue;
mod check;
mod files;
mod hooks;
mod mcp;
mod openapi;
mod reference;
mod runs;
mod templates;
mod triggers;
mod workflows;

use axum::routing::{delete, get, patch, post};
use axum::{Router, middleware};

pub(crate) use self::answer::{refuse, trace_id};
pub use self::openapi::openapi;
use crate::http::Shared;

/// The routes.
pub(crate) fn routes(state: &Shared) -> Router<Shared> {
    let tools = Router::new()
        .route_service("/api/mcp", mcp::service())
        .route_layer(middleware::from_fn_with_state(state.clone(), mcp::admit))
        .layer(middleware::from_fn(answer::settle));
    Router::new().nest("/api/v1", version()).nest("/v1", version()).merge(tools).route("/docs/api", get(reference::page))
}

fn version() -> Router<Shared> {
    Router::new()
        .route("/runs", get(runs::list).post(runs::start))
        .route("/runs/batch", post(runs::batch))
        .route("/runs/{run}", get(runs::get))
        .route("/runs/{run}/cancel", post(runs::cancel))
        .route("/runs/{run}/deliveries", get(hooks::deliveries))
        .route("/runs/{run}/deliveries/{delivery}/replay", post(hooks::replay))
        .route("/workflows", get(workflows::list).post(workflows::create))
        .route("/workflows/quick-create", post(workflows::quick_create))
        .route("/workflows/estimate-credits", post(catalogue::estimate_workflow))
        .route("/workflows/{workflow}", get(workflows::get).patch(workflows::update).delete(workflows::delete))
        .route("/workflows/{workflow}/nodes", post(workflows::add_node))
        .route("/workflows/{workflow}/nodes/{node}", patch(workflows::update_node).delete(workflows::delete_node))
        .route("/workflows/{workflow}/edges", post(workflows::connect))
        .route("/workflows/{workflow}/edges/{edge}", delete(workflows::disconnect))
        .route("/workflows/{workflow}/media", get(files::media))
        .route("/workflows/{workflow}/triggers", get(triggers::list).post(triggers::create))
        .route("/workflows/{workflow}/triggers/{trigger}", patch(triggers::update).delete(triggers::delete))
        .route("/workflows/{workflow}/triggers/{trigger}/rotate", post(triggers::rotate))
        .route("/hooks/{secret}", post(triggers::call))
        .route("/system-workflows", get(templates::system))
        .route("/nodes/estimate-credits", post(catalogue::estimate_nodes))
        .route("/nodes/runs/{run}", get(catalogue::run_get))
        .route("/nodes/{kind}/run", post(catalogue::run))
        .route("/models", get(catalogue::list))
        .route("/models/search", get(catalogue::search))
        .route("/models/catalog", get(catalogue::catalog))
        .route("/models/{model}/schema", get(catalogue::schema))
        .route("/models/{model}/pricing", get(catalogue::pricing))
        .route("/credits/balance", get(catalogue::balance))
        .route("/uploads", post(files::upload))
        .route("/media-library", get(files::library))
        .route("/media/{file}", get(files::content))
        .route("/webhooks/secret", get(hooks::secret))
        .route("/openapi.json", get(openapi::serve))
        .layer(middleware::from_fn(answer::settle))
}
