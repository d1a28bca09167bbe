//! What starts workflows by itself: schedules, URLs, and what happens on the platform.

use std::sync::Arc;

use domain::activity::Activity;
use domain::project::Instance;
use domain::schedule::Schedule;
use domain::workflow::run::{FlowTrigger, PlatformEvent, RunSource, Start};
use domain::workflow::{Graph, REQUEST};
use domain::{Code, FlowTriggerId, Permission, RunId, Tenant, Timestamp, WorkflowId, key};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use store::{Change, StoreError, WorkflowChange};

use crate::auth::acting;
use crate::context::Opened;
use crate::run::{Prepared, RunStart, prepare};
use crate::workflow::{opened, owner};
use crate::{Error, OpCtx, Ops, secret};

/// Triggers of a workflow at the most.
pub const MAX_TRIGGERS: usize = 20;

/// The field of the Request node that takes all that a trigger brings along.
const PAYLOAD: &str = "payload";

/// A trigger, and its URL when that has just been made: it is shown once.
#[derive(Clone, Debug)]
pub struct MadeTrigger {
    /// The trigger.
    pub trigger: FlowTrigger,
    /// With the secret in its path.
    pub url: Option<SecretString>,
}

fn url(ctx: &OpCtx, secret: &SecretString) -> SecretString {
    let base = ctx.ops.settings.dashboard_url.trim_end_matches('/');
    format!("{base}/api/v1/hooks/{}", secret.expose_secret()).into()
}

/// When a schedule comes next; nothing for what has no clock.
fn next(start: &Start, now: Timestamp) -> Result<Option<Timestamp>, Error> {
    let Start::Schedule { cron, timezone, .. } = start else { return Ok(None) };
    let schedule = Schedule::parse_in(cron, timezone.as_deref()).map_err(|bad| Error::bad_input(bad.0))?;
    Ok(schedule.after(now))
}

fn activity(ctx: &OpCtx, tenant: Tenant, verb: &str, trigger: &FlowTrigger) -> Change {
    let data = json!({"workflow": domain::cuid(trigger.workflow_id.0), "kind": trigger.start.kind()});
    ctx.activity(tenant, None, verb, trigger.id, data)
}

/// What starts a workflow, oldest first.
///
/// # Errors
/// Not found.
pub async fn flow_triggers(ctx: &OpCtx, workflow: WorkflowId) -> Result<Vec<FlowTrigger>, Error> {
    let tenant = opened(ctx, workflow, Permission::Read).await?.tenant;
    Ok(ctx.ops.store.flow_triggers_of(tenant, workflow).await?)
}

/// Has a workflow start by itself. Its runs have the rights of whoever asks, no further than a member's.
///
/// # Errors
/// Not a schedule, too many, not found, or a role below member.
pub async fn flow_trigger_create(ctx: &OpCtx, workflow: WorkflowId, start: Start) -> Result<MadeTrigger, Error> {
    let tenant = opened(ctx, workflow, Permission::Write).await?.tenant;
    let next_at = next(&start, ctx.now)?;
    if ctx.ops.store.flow_triggers_of(tenant, workflow).await?.len() >= MAX_TRIGGERS {
        return Err(Error::conflict(format!("This workflow has {MAX_TRIGGERS} triggers, which is the most: delete one first")));
    }
    let made = matches!(start, Start::Hook).then(secret::new_opaque);
    let trigger = FlowTrigger {
        id: FlowTriggerId::generate(),
        workspace_id: tenant.workspace(),
        workflow_id: workflow,
        user_id: owner(ctx)?,
        start,
        enabled: true,
        next_at,
        last_at: None,
        created_at: ctx.now,
    };
    let hash = made.as_ref().map(|(_, hash)| *hash);
    let insert = Change::Workflow(WorkflowChange::TriggerInsert { trigger: trigger.clone(), hash });
    ctx.commit(tenant, vec![insert, activity(ctx, tenant, "flow_trigger_create", &trigger)]).await?;
    ctx.ops.signals.ring();
    Ok(MadeTrigger { trigger, url: made.map(|(secret, _)| url(ctx, &secret)) })
}

async fn trigger_for(ctx: &OpCtx, workflow: WorkflowId, id: FlowTriggerId) -> Result<Opened<FlowTrigger>, Error> {
    let tenant = opened(ctx, workflow, Permission::Write).await?.tenant;
    let found = ctx.ops.store.flow_trigger(id).await?.and_then(|sealed| sealed.open(tenant));
    let row = found.filter(|trigger| trigger.workflow_id == workflow).ok_or_else(|| Error::not_found("Trigger"))?;
    Ok(Opened { tenant, row })
}

/// Switches a trigger on or off. A schedule goes on with its next time from now.
///
/// # Errors
/// Not found, or a role below member.
pub async fn flow_trigger_switch(ctx: &OpCtx, workflow: WorkflowId, id: FlowTriggerId, enabled: bool) -> Result<FlowTrigger, Error> {
    let Opened { tenant, row } = trigger_for(ctx, workflow, id).await?;
    let next_at = if enabled { next(&row.start, ctx.now)? } else { None };
    let change = Change::Workflow(WorkflowChange::TriggerSwitch { id, enabled, next: next_at });
    ctx.commit(tenant, vec![change, activity(ctx, tenant, "flow_trigger_switch", &row)]).await?;
    ctx.ops.signals.ring();
    Ok(FlowTrigger { enabled, next_at, ..row })
}

/// Gives a trigger another URL; the one before is void.
///
/// # Errors
/// It has none, not found, or a role below member.
pub async fn flow_trigger_rotate(ctx: &OpCtx, workflow: WorkflowId, id: FlowTriggerId) -> Result<MadeTrigger, Error> {
    let Opened { tenant, row } = trigger_for(ctx, workflow, id).await?;
    if row.start != Start::Hook {
        return Err(Error::conflict("This trigger has no URL: only those of the kind hook do"));
    }
    let (secret, hash) = secret::new_opaque();
    let change = Change::Workflow(WorkflowChange::TriggerRotate { id, hash });
    ctx.commit(tenant, vec![change, activity(ctx, tenant, "flow_trigger_rotate", &row)]).await?;
    Ok(MadeTrigger { trigger: row, url: Some(url(ctx, &secret)) })
}

/// Deletes a trigger. Whether it was there: what is absent is deleted.
///
/// # Errors
/// The workflow is not found, or a role below member.
pub async fn flow_trigger_delete(ctx: &OpCtx, workflow: WorkflowId, id: FlowTriggerId) -> Result<bool, Error> {
    let found = match trigger_for(ctx, workflow, id).await {
        Ok(found) => found,
        // The workflow's own absence is told as such.
        Err(error) if error.code == Code::NotFound => return opened(ctx, workflow, Permission::Write).await.map(|_| false),
        Err(error) => return Err(error),
    };
    let change = Change::Workflow(WorkflowChange::TriggerDelete(id));
    let entry = activity(ctx, found.tenant, "flow_trigger_delete", &found.row);
    match ctx.ops.store.commit(found.tenant, vec![change, entry]).await {
        Err(StoreError::Stale) => Ok(false),
        outcome => outcome.map(|_| true).map_err(Error::from),
    }
}

/// What the Request node of a workflow is given: fields by their names, and all of it together as `payload`.
fn values(graph: &Graph, payload: Value) -> Map<String, Value> {
    let mut fields = payload.as_object().cloned().unwrap_or_default();
    fields.entry(PAYLOAD).or_insert(payload);
    let request = graph.nodes.iter().find(|node| node.kind == REQUEST);
    request.map(|node| (node.id.clone(), Value::Object(fields))).into_iter().collect()
}

/// A run of what a trigger starts, with the rights of whoever made it.
async fn run_of(ops: &Arc<Ops>, trigger: &FlowTrigger, payload: Value, now: Timestamp) -> Result<(OpCtx, Prepared), Error> {
    let tenant = Tenant::system(trigger.workspace_id);
    let ctx = OpCtx {
        ops: ops.clone(),
        principal: acting(ops, tenant, trigger.user_id).await?,
        request_id: format!("trigger {}", trigger.id),
        address: None,
        now,
    };
    let workflow = opened(&ctx, trigger.workflow_id, Permission::Write).await?.row;
    let start = RunStart {
        workflow: domain::cuid(trigger.workflow_id.0),
        values: values(&workflow.graph, payload),
        input_overrides: Map::new(),
        node_overrides: vec![],
        webhook: None,
        source: match trigger.start {
            Start::Schedule { .. } => RunSource::Schedule,
            Start::Hook => RunSource::Hook,
            Start::Event { .. } => RunSource::Event,
        },
    };
    let prepared = prepare(&ctx, start).await?;
    Ok((ctx, prepared))
}

/// Starts the workflow behind a URL, by the secret in its path: the secret is the permission.
///
/// # Errors
/// Not found for a secret that is unknown, void or switched off; a workflow that cannot run.
pub async fn system_hook_start(ops: &Arc<Ops>, secret: &str, payload: Value, now: Timestamp) -> Result<RunId, Error> {
    let absent = || Error::not_found("Webhook");
    let trigger = ops.store.flow_trigger_by_hash(key::hash(secret)).await?.filter(|trigger| trigger.enabled).ok_or_else(absent)?;
    let (ctx, prepared) = run_of(ops, &trigger, payload, now).await?;
    let fired = Change::Workflow(WorkflowChange::TriggerFired { id: trigger.id, at: now });
    prepared.commit(&ctx, vec![fired]).await
}

/// Starts the workflow of a schedule whose time has come and moves the schedule on, in one commit: however many engines try, one does. What
/// was missed while none ran is made up for once.
///
/// # Errors
/// The database does not answer.
pub async fn system_schedule_start(ops: &Arc<Ops>, trigger: &FlowTrigger, now: Timestamp) -> Result<(), StoreError> {
    let (Start::Schedule { values, .. }, Some(was)) = (&trigger.start, trigger.next_at) else { return Ok(()) };
    let next = next(&trigger.start, now).ok().flatten();
    let moved = Change::Workflow(WorkflowChange::TriggerMove { id: trigger.id, was, next, last: Some(now) });
    let mut payload = values.clone();
    payload.insert("scheduledAt".to_owned(), was.to_string().into());
    let outcome = match run_of(ops, trigger, Value::Object(payload), now).await {
        Ok((ctx, Prepared { changes, .. })) => {
            let started = ops.store.commit(Tenant::system(trigger.workspace_id), changes.into_iter().chain([moved]).collect()).await;
            ctx.ops.signals.ring_runs();
            started
        }
        Err(error) if error.code == Code::Internal => {
            error.log("schedule");
            return Ok(());
        }
        Err(error) => ops.store.commit(Tenant::system(trigger.workspace_id), vec![moved, failure(ops, trigger, &error, now)]).await,
    };
    match outcome {
        // Another engine was first, or it was changed meanwhile.
        Ok(_) | Err(StoreError::Stale) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The entry that tells why a trigger has started nothing.
fn failure(ops: &Arc<Ops>, trigger: &FlowTrigger, error: &Error, now: Timestamp) -> Change {
    let tenant = Tenant::system(trigger.workspace_id);
    let data = json!({"workflow": domain::cuid(trigger.workflow_id.0), "kind": trigger.start.kind(), "reason": error.public});
    OpCtx::system(ops, tenant, "workflow", now).activity(tenant, None, "flow_trigger_failed", trigger.id, data)
}

/// What is to be committed so that workflows start which wait for what has happened. Committed together with the note that the entries were
/// looked at, each starts once.
///
/// # Errors
/// The database does not answer.
pub async fn system_event_starts(ops: &Arc<Ops>, tenant: Tenant, entries: &[Activity], now: Timestamp) -> Result<Vec<Change>, StoreError> {
    let events: Vec<(&Activity, PlatformEvent)> =
        entries.iter().filter_map(|activity| Some((activity, PlatformEvent::of(activity)?))).collect();
    if events.is_empty() {
        return Ok(vec![]);
    }
    let triggers = ops.store.flow_triggers_of_events(tenant).await?;
    let mut changes = vec![];
    for (activity, event) in events {
        for trigger in triggers.iter().filter(|trigger| trigger.start == Start::Event { event }) {
            let instance = match activity.instance_id {
                Some(id) => ops.store.instance(id).await?.and_then(|sealed| sealed.open(tenant)),
                None => None,
            };
            match run_of(ops, trigger, payload(activity, event, instance.as_ref()), now).await {
                Ok((_, prepared)) => changes.extend(prepared.changes),
                Err(error) => changes.push(failure(ops, trigger, &error, now)),
            }
        }
    }
    Ok(changes)
}

/// What a workflow is told of an event.
fn payload(activity: &Activity, event: PlatformEvent, instance: Option<&Instance>) -> Value {
    let about = activity.verb.starts_with("deployment_") || activity.verb == "app_unavailable";
    json!({
        "event": event.as_str(),
        "projectId": activity.project_id.map(|id| id.to_string()),
        "environmentId": instance.map(|instance| instance.environment_id.to_string()),
        "serviceId": instance.map(|instance| instance.service_id.to_string()),
        "deploymentId": about.then(|| activity.subject.clone()),
        "reason": activity.data.get("reason").cloned().unwrap_or_default(),
        "data": activity.data,
        "at": activity.created_at.to_string(),
    })
}
