//! What starts workflows by itself: schedules, URLs of their own, events of the platform.

use std::collections::BTreeMap;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use domain::workflow::run::{FlowTrigger, PlatformEvent, Start};
use domain::{Code, FlowTriggerId};
use ops::flow_trigger::MadeTrigger;
use ops::{Error, OpCtx};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::answer::{Answer, Caller, Given, Good, Path, ok};
use super::runs::{Started, time};
use super::workflows::{Done, workflow_id};
use crate::http::{self, Arrival, Shared};

/// The largest payload of a trigger's URL in bytes, and how long it may take to arrive.
const PAYLOAD: usize = 1 << 20;
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(30);

/// A new trigger of a workflow.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct CreateTrigger {
    kind: TriggerKind,
    /// Of a schedule: minute, hour, day of the month, month, day of the week.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 200)]
    cron: Option<String>,
    /// Of a schedule: whose clock, such as `Europe/Berlin`; UTC when absent.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 100)]
    timezone: Option<String>,
    /// Of a schedule: request field -> value.
    #[serde(default)]
    values: Option<BTreeMap<String, Value>>,
    /// Of an event: which.
    #[serde(default)]
    event: Option<TriggerEvent>,
}

/// What starts a workflow.
#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum TriggerKind {
    /// The clock.
    Schedule,
    /// Whoever calls its URL.
    Hook,
    /// Something that happens on the platform.
    Event,
}

/// Something that happens on the platform.
#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
pub(crate) enum TriggerEvent {
    #[serde(rename = "deployment.failed")]
    DeploymentFailed,
    #[serde(rename = "deployment.succeeded")]
    DeploymentSucceeded,
    #[serde(rename = "deployment.crashed")]
    DeploymentCrashed,
    #[serde(rename = "trigger.fired")]
    TriggerFired,
    #[serde(rename = "container.unhealthy")]
    ContainerUnhealthy,
}

macro_rules! events {
    ($($name:ident),*) => {
        impl From<TriggerEvent> for PlatformEvent {
            fn from(event: TriggerEvent) -> Self {
                match event { $(TriggerEvent::$name => Self::$name),* }
            }
        }
        impl From<PlatformEvent> for TriggerEvent {
            fn from(event: PlatformEvent) -> Self {
                match event { $(PlatformEvent::$name => Self::$name),* }
            }
        }
    };
}
events!(DeploymentFailed, DeploymentSucceeded, DeploymentCrashed, TriggerFired, ContainerUnhealthy);

/// What starts a workflow by itself.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct TriggerShape {
    id: String,
    workflow_id: String,
    kind: TriggerKind,
    cron: Option<String>,
    timezone: Option<String>,
    #[schema(value_type = Option<Object>)]
    values: Option<Map<String, Value>>,
    event: Option<TriggerEvent>,
    enabled: bool,
    /// Of a schedule.
    next_at: Option<String>,
    /// When it last started a run.
    last_at: Option<String>,
    created_at: String,
    /// Of a hook that was just made or rotated: shown once. POST to it starts the workflow.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    url: Option<String>,
}

fn shape(trigger: FlowTrigger) -> TriggerShape {
    let (kind, cron, timezone, values, event) = match trigger.start {
        Start::Schedule { cron, timezone, values } => (TriggerKind::Schedule, Some(cron), timezone, Some(values), None),
        Start::Hook => (TriggerKind::Hook, None, None, None, None),
        Start::Event { event } => (TriggerKind::Event, None, None, None, Some(event.into())),
    };
    TriggerShape {
        id: domain::cuid(trigger.id.0),
        workflow_id: domain::cuid(trigger.workflow_id.0),
        kind,
        cron,
        timezone,
        values,
        event,
        enabled: trigger.enabled,
        next_at: trigger.next_at.map(time),
        last_at: trigger.last_at.map(time),
        created_at: time(trigger.created_at),
        url: None,
    }
}

pub(crate) fn made(made: MadeTrigger) -> TriggerShape {
    TriggerShape { url: made.url.map(|url| url.expose_secret().to_owned()), ..shape(made.trigger) }
}

/// The triggers of a workflow.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Triggers {
    items: Vec<TriggerShape>,
    /// Always null.
    next_cursor: Option<String>,
}

/// A trigger's id as clients send it.
fn trigger_id(text: &str) -> Result<FlowTriggerId, Error> {
    domain::parse_cuid(text).map(FlowTriggerId).ok_or_else(|| Error::not_found("Trigger"))
}

/// What starts a workflow by itself, oldest first.
#[utoipa::path(get, path = "/v1/workflows/{workflowId}/triggers", operation_id = "listTriggers", tag = "triggers", params(("workflowId" = String, Path)), responses((status = 200, body = Triggers)))]
pub(crate) async fn list(Caller(ctx): Caller, Path(id): Path<String>) -> Answer<Triggers> {
    ok(all(&ctx, &id).await?)
}

pub(crate) async fn all(ctx: &OpCtx, workflow: &str) -> Result<Triggers, Error> {
    let found = ops::flow_trigger::flow_triggers(ctx, workflow_id(workflow)?).await?;
    Ok(Triggers { items: found.into_iter().map(shape).collect(), next_cursor: None })
}

/// Has a workflow start by the clock, by a URL of its own, or when something happens on the platform. The URL of a hook is shown once.
#[utoipa::path(post, path = "/v1/workflows/{workflowId}/triggers", operation_id = "createTrigger", tag = "triggers", params(("workflowId" = String, Path)), request_body = CreateTrigger, responses((status = 200, body = TriggerShape)))]
pub(crate) async fn create(Caller(ctx): Caller, Path(id): Path<String>, Given(body): Given<CreateTrigger>) -> Answer<TriggerShape> {
    ok(make(&ctx, &id, body).await?)
}

pub(crate) async fn make(ctx: &OpCtx, workflow: &str, body: CreateTrigger) -> Result<TriggerShape, Error> {
    let CreateTrigger { kind, cron, timezone, values, event } = body;
    let misplaced = match kind {
        TriggerKind::Schedule => event.is_some(),
        TriggerKind::Hook => cron.is_some() || timezone.is_some() || values.is_some() || event.is_some(),
        TriggerKind::Event => cron.is_some() || timezone.is_some() || values.is_some(),
    };
    if misplaced {
        return Err(Error::bad_input("A schedule takes cron, timezone and values, an event takes event, and a hook takes nothing else"));
    }
    let start = match kind {
        TriggerKind::Schedule => Start::Schedule {
            cron: cron.ok_or_else(|| Error::bad_input("cron: a schedule needs one, like \"0 3 * * *\""))?,
            timezone,
            values: values.into_iter().flatten().collect(),
        },
        TriggerKind::Hook => Start::Hook,
        TriggerKind::Event => {
            let event = event.ok_or_else(|| {
                let known: Vec<&str> = PlatformEvent::ALL.into_iter().map(PlatformEvent::as_str).collect();
                Error::bad_input(format!("event: one of {} is needed", known.join(", ")))
            })?;
            Start::Event { event: event.into() }
        }
    };
    Ok(made(ops::flow_trigger::flow_trigger_create(ctx, workflow_id(workflow)?, start).await?))
}

/// What is changed of a trigger.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateTrigger {
    /// Whether it starts anything.
    enabled: bool,
}

/// Switches a trigger on or off.
#[utoipa::path(patch, path = "/v1/workflows/{workflowId}/triggers/{triggerId}", operation_id = "updateTrigger", tag = "triggers", params(("workflowId" = String, Path), ("triggerId" = String, Path)), request_body = UpdateTrigger, responses((status = 200, body = TriggerShape)))]
pub(crate) async fn update(
    Caller(ctx): Caller,
    Path((workflow, id)): Path<(String, String)>,
    Given(body): Given<UpdateTrigger>,
) -> Answer<TriggerShape> {
    ok(shape(ops::flow_trigger::flow_trigger_switch(&ctx, workflow_id(&workflow)?, trigger_id(&id)?, body.enabled).await?))
}

/// Gives a hook another URL, which is shown once; the one before is void.
#[utoipa::path(post, path = "/v1/workflows/{workflowId}/triggers/{triggerId}/rotate", operation_id = "rotateTrigger", tag = "triggers", params(("workflowId" = String, Path), ("triggerId" = String, Path)), responses((status = 200, body = TriggerShape)))]
pub(crate) async fn rotate(Caller(ctx): Caller, Path((workflow, id)): Path<(String, String)>) -> Answer<TriggerShape> {
    ok(made(ops::flow_trigger::flow_trigger_rotate(&ctx, workflow_id(&workflow)?, trigger_id(&id)?).await?))
}

/// Deletes a trigger. What is not there is deleted.
#[utoipa::path(delete, path = "/v1/workflows/{workflowId}/triggers/{triggerId}", operation_id = "deleteTrigger", tag = "triggers", params(("workflowId" = String, Path), ("triggerId" = String, Path)), responses((status = 200, body = Done)))]
pub(crate) async fn delete(Caller(ctx): Caller, Path((workflow, id)): Path<(String, String)>) -> Answer<Done> {
    remove(&ctx, &workflow, &id).await?;
    ok(Done { success: true })
}

pub(crate) async fn remove(ctx: &OpCtx, workflow: &str, id: &str) -> Result<(), Error> {
    // What is no id names nothing that could be there.
    let id = trigger_id(id).unwrap_or(FlowTriggerId(uuid::Uuid::nil()));
    ops::flow_trigger::flow_trigger_delete(ctx, workflow_id(workflow)?, id).await.map(|_| ())
}

/// Starts the workflow of a hook. The secret in the path is the permission. Fields of a JSON object become the request fields of the same
/// names; the whole payload, also when it is something else, is the field `payload`.
#[utoipa::path(post, path = "/v1/hooks/{secret}", operation_id = "callHook", tag = "triggers", security(()), params(("secret" = String, Path)), request_body(content = Object, description = "Any JSON, or text"), responses((status = 202, body = Started)))]
pub(crate) async fn call(
    State(state): State<Shared>,
    Extension(arrival): Extension<Arrival>,
    Path(secret): Path<String>,
    request: Request,
) -> Answer<Started> {
    let standing = state.limits.stranger(&arrival, false);
    let refused = standing.refused;
    arrival.stands(standing);
    if refused {
        return Err(Error::new(Code::RateLimited, "Too many calls from this address: try again in a moment").into());
    }
    let (parts, body) = request.into_parts();
    let bytes = http::read(&parts.headers, body, PAYLOAD, PATIENCE).await?;
    let payload = if bytes.is_empty() {
        Value::Object(Map::new())
    } else {
        serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()))
    };
    let run = ops::flow_trigger::system_hook_start(&state.ops, &secret, payload, arrival.now).await?;
    Ok(Good(StatusCode::ACCEPTED, Started { run_id: run.0.to_string() }))
}
