//! GraphQL: documents in, JSON out. What the fields mean is in [`crate::railway`].
//!
//! A document is parsed, checked against limits, validated and kept ([`cache`]); an execution is synchronous: resolvers call verbs of
//! `ops` and wait for them ([`Ctx::wait`]), children of many rows are read in one statement ([`loader`]). Executions that may take long
//! or wait for the store run on a thread for blocking work.

mod answer;
mod cache;
mod context;
mod cost;
mod document;
mod fault;
pub(crate) mod loader;
mod recent;
pub(crate) mod scalar;
mod socket;
mod variables;
mod walk;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::Code;
use domain::rate::State;
use juniper::{GraphQLError, OperationType, RootNode, Variables};
use ops::auth::Surface;
use ops::{OpCtx, Principal};
use serde::Deserialize;
use serde_json::{Map, Value as Json, json};

use answer::Rejection;
pub use answer::{GraphqlResponse, error_body};
use cache::{Cache, Prepared};
pub use context::Ctx;
pub(crate) use context::Events;
pub use fault::Fault;
use recent::Recent;
pub use scalar::Scalar;
pub(crate) use socket::still_valid;

use crate::galaxy;
use crate::railway::{self, Event, Mutation, Query, Subscription};

/// Nested selections and values of a document; the introspection query of graphql-js takes 15.
pub(crate) const MAX_DEPTH: usize = 48;
/// Tokens of a document.
pub(crate) const MAX_TOKENS: usize = 15_000;
/// Fields of an operation after its fragments are expanded.
pub(crate) const MAX_FIELDS: usize = 5_000;

/// The types of a schema, whatever its roots.
pub(crate) type Types = juniper::SchemaType<Scalar>;
/// The schema with its roots.
pub(crate) type Schema = RootNode<Query, Mutation, Subscription, Scalar>;
/// The schema on which single events of subscriptions are executed.
pub(crate) type EventSchema = RootNode<Subscription, juniper::EmptyMutation<Ctx>, juniper::EmptySubscription<Ctx>, Scalar>;

/// Root fields that answer without a credential, besides introspection: telemetry, which is dropped.
const OPEN_FIELDS: &[&str] = &["cliEventTrack", "cliAuthEventTrack", "setupAgentEventTrack", "template", "templateSearch", "templates"];

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn types(surface: Surface) -> &'static Types {
    match surface {
        Surface::Galaxy => &galaxy::schema().schema,
        // Flow speaks no GraphQL.
        Surface::Railway | Surface::Flow => &railway::schema().schema,
    }
}

/// What anonymous requests are told.
pub(crate) fn unauthenticated() -> ops::Error {
    ops::Error::new(
        Code::Unauthenticated,
        "Not Authorized: no credential was sent. Send `Authorization: Bearer <account or workspace token>` or `Project-Access-Token: <project token>`",
    )
}

/// A request as clients send it.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GraphqlRequest {
    /// The document.
    pub query: String,
    /// Its variables, an object.
    #[serde(default)]
    pub variables: Option<Map<String, Json>>,
    /// Which of its operations.
    #[serde(default)]
    pub operation_name: Option<String>,
    /// What the client asks beside the operation.
    #[serde(default)]
    pub extensions: Option<Extensions>,
}

/// What can be asked beside an operation. Others send other things here, which are left alone.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Extensions {
    /// The answer is to say what the operation costs.
    #[serde(default)]
    pub cost: bool,
}

/// Executes documents of one surface. Cheap to clone.
#[derive(Clone)]
pub struct Engine {
    surface: Surface,
    cache: Arc<Cache>,
    recent: Arc<Recent>,
}

/// A subscription that was opened.
pub(crate) struct Opened {
    prepared: Arc<Prepared>,
    variables: Arc<Variables<Scalar>>,
}

/// An operation that may be executed.
struct Ready {
    prepared: Arc<Prepared>,
    variables: Arc<Variables<Scalar>>,
    /// What was charged for it.
    cost: u64,
    /// How whoever asks stands after that.
    budget: Option<State>,
}

/// What became of an operation that came over a websocket.
pub(crate) enum Started {
    /// A query or a mutation: the whole answer.
    Answered(Vec<u8>),
    /// A subscription and what it waits for.
    Opened(Opened, Events),
}

impl Engine {
    /// An engine of a surface that speaks GraphQL, with an empty cache.
    #[must_use]
    pub fn new(surface: Surface) -> Self {
        Self { surface, cache: Arc::default(), recent: Arc::default() }
    }

    /// Executes a query or a mutation.
    pub async fn execute(&self, ctx: OpCtx, request: GraphqlRequest) -> GraphqlResponse {
        if request.extensions.as_ref().is_some_and(|extensions| extensions.cost) {
            let mut response = self.answer(ctx, &request).await;
            self.tell_cost(&mut response, &request);
            return response;
        }
        self.answer(ctx, &request).await
    }

    /// Adds `extensions.cost` to an answer: the fields that the operation may resolve, and how many it could at the most.
    fn tell_cost(&self, response: &mut GraphqlResponse, request: &GraphqlRequest) {
        let operation = request.operation_name.as_deref().filter(|name| !name.is_empty());
        let Ok(prepared) = self.cache.get(self.surface, &request.query, operation) else { return };
        let empty = Map::new();
        let variables = variables::read(&prepared.document, request.variables.as_ref().unwrap_or(&empty), types(self.surface));
        let cost = json!({"cost": {"requested": prepared.document.cost.with(&variables), "limit": cost::MAX_COST}});
        if response.body.pop() == Some(b'}') {
            response.body.extend_from_slice(format!(",\"extensions\":{cost}}}").as_bytes());
        }
    }

    async fn answer(&self, ctx: OpCtx, request: &GraphqlRequest) -> GraphqlResponse {
        let request_id = ctx.request_id.clone();
        let asked = match self.recent.ask(&ctx, request) {
            // Galaxy's answers hold metrics, which change without a commit.
            _ if self.surface == Surface::Galaxy => None,
            Ok(body) => return GraphqlResponse { status: 200, retry_after: None, body: body.to_vec() },
            Err(asked) => asked,
        };
        match self.prepare(&ctx, request) {
            Ok(ready) => match run(ctx, &ready).await {
                Ok(body) => {
                    self.recent.keep(asked, &ready.prepared.document, &body);
                    GraphqlResponse { status: 200, retry_after: None, body }
                }
                Err(rejection) => rejection.response(400, &request_id),
            },
            Err((status, rejection)) => rejection.response(status, &request_id),
        }
    }

    /// Begins an operation of a websocket.
    pub(crate) async fn start(&self, ctx: OpCtx, request: &GraphqlRequest) -> Result<Started, Rejection> {
        let ready = self.prepare(&ctx, request).map_err(|(_, rejection)| rejection)?;
        if ready.prepared.document.kind == OperationType::Subscription {
            return open(ctx, ready.prepared, ready.variables).await;
        }
        run(ctx, &ready).await.map(Started::Answered)
    }

    /// Finds the operation, and charges what it may cost.
    fn prepare(&self, ctx: &OpCtx, request: &GraphqlRequest) -> Result<Ready, (u16, Rejection)> {
        let operation = request.operation_name.as_deref().filter(|name| !name.is_empty());
        let prepared = self.cache.get(self.surface, &request.query, operation).map_err(|rejection| (400, rejection))?;
        check_principal(self.surface, ctx, &prepared).map_err(|rejection| (200, rejection))?;
        let empty = Map::new();
        let variables = variables::read(&prepared.document, request.variables.as_ref().unwrap_or(&empty), types(self.surface));
        let cost = prepared.document.cost.with(&variables);
        if cost > cost::MAX_COST {
            let text = format!(
                "The operation may resolve {cost} fields, more than the limit of {}: ask for smaller pages or fewer levels",
                cost::MAX_COST
            );
            return Err((400, Rejection::too_complex(text)));
        }
        let budget = ctx.ops.limits.charge(&ctx.principal, cost, ctx.now);
        match budget.filter(|state| state.refused) {
            Some(state) => Err((429, Rejection::too_expensive(cost, &state))),
            None => Ok(Ready { prepared, variables: Arc::new(variables), cost, budget }),
        }
    }
}

/// Everything but introspection and telemetry needs a principal; resolvers check what it may do.
fn check_principal(surface: Surface, ctx: &OpCtx, prepared: &Prepared) -> Result<(), Rejection> {
    if !matches!(ctx.principal, Principal::Anonymous) {
        return Ok(());
    }
    let closed = |name: &str| !name.starts_with("__") && !OPEN_FIELDS.contains(&name);
    match prepared.document.roots.iter().find(|root| closed(&root.name)) {
        Some(root) => Err(Rejection::refused(&surface.unauthenticated(), &root.response, root.position)),
        None => Ok(()),
    }
}

/// Runs `work` here when it is short and cannot wait, else on a thread for blocking work.
async fn on_thread<T: Send + 'static>(inline: bool, request_id: &str, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Rejection> {
    if inline {
        return Ok(work());
    }
    tokio::task::spawn_blocking(work).await.map_err(|error| {
        tracing::error!(request_id, %error, "an execution ended abnormally");
        Rejection::internal()
    })
}

/// Executes a query or a mutation, and gives back what it was charged beyond the fields of its answer.
async fn run(ctx: OpCtx, ready: &Ready) -> Result<Vec<u8>, Rejection> {
    let Ready { cost, budget, .. } = *ready;
    let (prepared, variables) = (Arc::clone(&ready.prepared), Arc::clone(&ready.variables));
    let plain_lists = prepared.document.plain_lists;
    // What has no pages may be long.
    let inline = prepared.document.kind == OperationType::Query && cost <= cost::INLINE_COST && !plain_lists;
    let request_id = ctx.request_id.clone();
    on_thread(inline, &request_id, move || {
        let ctx = Ctx::charged(ctx, cost, budget).with_plain_lists(plain_lists);
        let executed = prepared.operation.execute(&variables, &ctx);
        // What was not executed, for a variable of another type, has used nothing.
        let used = executed.as_ref().map_or(0, |(data, _)| answer::fields(data));
        ctx.op.ops.limits.refund(&ctx.op.principal, cost.saturating_sub(used), ctx.op.now);
        let (mut data, errors) = executed?;
        if plain_lists {
            document::flatten(&mut data);
        }
        Ok(answer::executed(&data, &errors, &ctx.op.request_id))
    })
    .await?
    .map_err(|error: GraphQLError| error.into())
}

async fn open(ctx: OpCtx, prepared: Arc<Prepared>, variables: Arc<Variables<Scalar>>) -> Result<Started, Rejection> {
    let request_id = ctx.request_id.clone();
    on_thread(false, &request_id, move || {
        let Some(events) = &prepared.events else { return Err(GraphQLError::NotSubscription.into()) };
        let ctx = Ctx::opening(ctx);
        let (_, errors) = events.borrow_dependent().execute_sync(&variables, &ctx)?;
        match ctx.opened() {
            Some(events) => Ok(Started::Opened(Opened { prepared, variables }, events)),
            None => Err(Rejection::executed(&errors)),
        }
    })
    .await?
}

/// The answer to one event of a subscription.
pub(crate) async fn answer_event(ctx: OpCtx, opened: &Opened, event: Event) -> Vec<u8> {
    let (prepared, variables) = (Arc::clone(&opened.prepared), Arc::clone(&opened.variables));
    let plain_lists = prepared.document.plain_lists;
    let request_id = ctx.request_id.clone();
    let done = on_thread(!plain_lists, &request_id, move || {
        let ctx = Ctx::answering(ctx, event).with_plain_lists(plain_lists);
        let request_id = ctx.op.request_id.clone();
        let events = prepared.events.as_ref().ok_or(GraphQLError::NotSubscription)?;
        let (mut data, errors) = events.borrow_dependent().execute_sync(&variables, &ctx)?;
        if plain_lists {
            document::flatten(&mut data);
        }
        Ok(answer::executed(&data, &errors, &request_id))
    });
    match done.await.and_then(|result| result.map_err(|error: GraphQLError| error.into())) {
        Ok(body) => body,
        Err(rejection) => rejection.response(200, &request_id).body,
    }
}
