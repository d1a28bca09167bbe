//! What starts workflows by itself: schedules, URLs, and what happens on the platform.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use domain::activity::{Activity, Actor};
use domain::project::Instance;
use domain::schedule::Schedule;
use domain::workflow::run::{FlowTrigger, PlatformEvent, RunSource, Start, Subject};
use domain::workflow::{Graph, REQUEST, Workflow};
use domain::{ActivityId, Code, FlowTriggerId, InstanceId, Permission, RunId, Tenant, Timestamp, WorkflowId, key};
use jiff::SignedDuration;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value, json};
use store::{Change, StoreError, WorkflowChange};

use crate::auth::acting;
use crate::context::Opened;
use crate::run::{Prepared, insufficient, prepare_opened};
use crate::workflow::{opened, owner, sees_values};
use crate::{Error, OpCtx, Ops, secret};

/// Triggers of a workflow at the most.
pub const MAX_TRIGGERS: usize = 20;

/// A workflow that changes the platform is not started by what happens so soon after its last start: its own run may have caused it.
const BRAKE: SignedDuration = SignedDuration::from_secs(60);
/// What cannot start for a reason that may pass is tried for so long.
const PATIENCE: SignedDuration = SignedDuration::from_hours(1);

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
    let mut found = ctx.ops.store.flow_triggers_of(tenant, workflow).await?;
    if !sees_values(ctx, tenant) {
        found.iter_mut().for_each(FlowTrigger::hide);
    }
    Ok(found)
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

/// The workflow that a trigger starts, with the rights of whoever made the trigger.
async fn ready(ops: &Arc<Ops>, trigger: &FlowTrigger, now: Timestamp) -> Result<(OpCtx, Opened<Workflow>), Error> {
    let tenant = Tenant::system(trigger.workspace_id);
    let ctx = OpCtx {
        ops: ops.clone(),
        principal: acting(ops, tenant, trigger.user_id).await?,
        request_id: format!("trigger {}", trigger.id),
        address: None,
        now,
    };
    let workflow = opened(&ctx, trigger.workflow_id, Permission::Write).await?;
    Ok((ctx, workflow))
}

/// A run of what a trigger starts.
async fn run_of(ops: &Arc<Ops>, trigger: &FlowTrigger, payload: Value, now: Timestamp) -> Result<(OpCtx, Prepared), Error> {
    let (ctx, workflow) = ready(ops, trigger, now).await?;
    let source = match trigger.start {
        Start::Schedule { .. } => RunSource::Schedule,
        Start::Hook => RunSource::Hook,
        Start::Event { .. } => RunSource::Event,
    };
    let prepared = prepare_opened(&ctx, &workflow, values(&workflow.row.graph, payload), source).await?;
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
        // Its time has still come at the next look.
        Err(error) if error.is_passing() => {
            error.log("schedule");
            return Ok(());
        }
        Err(error) => {
            let told = failure(ops, trigger, &error, now);
            ops.store.commit(Tenant::system(trigger.workspace_id), std::iter::once(moved).chain(told).collect()).await
        }
    };
    match outcome {
        // Another engine was first, or it was changed meanwhile.
        Ok(_) | Err(StoreError::Stale) => Ok(()),
        Err(error) => Err(error),
    }
}

/// The entry that tells why a trigger has started nothing. One whose person may not start it any more is switched off with that.
fn failure(ops: &Arc<Ops>, trigger: &FlowTrigger, error: &Error, now: Timestamp) -> Vec<Change> {
    let (id, tenant) = (trigger.id, Tenant::system(trigger.workspace_id));
    let lost = error.code == Code::Forbidden;
    let data = json!({
        "workflow": domain::cuid(trigger.workflow_id.0),
        "kind": trigger.start.kind(),
        "reason": error.public,
        "enabled": !lost,
    });
    let entry = OpCtx::system(ops, tenant, "workflow", now).activity(tenant, None, "flow_trigger_failed", id, data);
    let off = lost.then_some(Change::Workflow(WorkflowChange::TriggerSwitch { id, enabled: false, next: None }));
    std::iter::once(entry).chain(off).collect()
}

/// What follows for workflows from what has happened.
#[derive(Default)]
pub struct EventStarts {
    /// To be committed together with the note that the entries were looked at: then each starts once.
    pub changes: Vec<Change>,
    /// Entries that are to be looked at again: what waits for them could not be started, for a reason that may pass.
    pub later: BTreeSet<ActivityId>,
}

/// What is to be committed so that workflows start which wait for what has happened. What cannot start is told in the audit log, and keeps
/// nothing else from starting.
///
/// # Errors
/// The database does not answer.
pub async fn system_event_starts(ops: &Arc<Ops>, tenant: Tenant, entries: &[Activity], now: Timestamp) -> Result<EventStarts, StoreError> {
    let mut starts = EventStarts::default();
    let events: Vec<(&Activity, PlatformEvent)> =
        entries.iter().filter_map(|activity| Some((activity, PlatformEvent::of(activity)?))).collect();
    if events.is_empty() {
        return Ok(starts);
    }
    let mut triggers = ops.store.flow_triggers_of_events(tenant).await?;
    triggers.retain(|trigger| events.iter().any(|(_, event)| trigger.start == Start::Event { event: *event }));
    if triggers.is_empty() {
        return Ok(starts);
    }
    let mut look = Look::new(ops, tenant, &triggers, now).await?;
    for (activity, event) in events {
        let waiting: Vec<&FlowTrigger> = triggers.iter().filter(|trigger| trigger.start == Start::Event { event }).collect();
        match look.entry(activity, event, &waiting).await {
            Some(changes) => starts.changes.extend(changes),
            None => {
                starts.later.insert(activity.id);
            }
        }
    }
    Ok(starts)
}

/// One look at what has happened in a workspace.
struct Look<'a> {
    ops: &'a Arc<Ops>,
    tenant: Tenant,
    now: Timestamp,
    /// What each trigger starts, or why it does not.
    ready: HashMap<FlowTriggerId, Result<(OpCtx, Opened<Workflow>), Error>>,
    /// Where things have happened.
    instances: HashMap<InstanceId, Option<Instance>>,
    /// What the runs of this look may still cost, in microcredits.
    room: i64,
    /// Triggers that have started something in this look.
    fired: BTreeSet<FlowTriggerId>,
}

impl<'a> Look<'a> {
    async fn new(ops: &'a Arc<Ops>, tenant: Tenant, triggers: &[FlowTrigger], now: Timestamp) -> Result<Self, StoreError> {
        let mut found = HashMap::new();
        for trigger in triggers {
            found.insert(trigger.id, ready(ops, trigger, now).await);
        }
        let room = ops.settings.flow.allowance - ops.store.flow_credits(tenant).await?;
        Ok(Self { ops, tenant, now, ready: found, instances: HashMap::new(), room, fired: BTreeSet::new() })
    }

    /// What is to be committed so that an entry starts all that waits for it; nothing when it is to be looked at again.
    async fn entry(&mut self, activity: &Activity, event: PlatformEvent, waiting: &[&FlowTrigger]) -> Option<Vec<Change>> {
        if waiting.is_empty() {
            return Some(vec![]);
        }
        let instance = self.instance(activity).await;
        let payload = payload(activity, event, instance.as_ref());
        let maker = self.maker(activity, event, waiting).await;
        let (mut changes, mut room, mut fired) = (vec![], self.room, vec![]);
        for trigger in waiting {
            let more = match self.ready.get(&trigger.id)? {
                Ok(ready) if maker == Some(trigger.workflow_id) => self.refused(trigger, activity, &own_doing(&ready.1.row))?,
                Ok(ready) => match self.prepared(ready, trigger, activity, &payload, room).await {
                    Ok(prepared) => {
                        room -= prepared.reserved();
                        fired.push(trigger.id);
                        prepared.changes
                    }
                    Err(error) => self.refused(trigger, activity, &error)?,
                },
                Err(error) => self.refused(trigger, activity, error)?,
            };
            changes.extend(more);
        }
        self.room = room;
        let at = self.now;
        fired.retain(|id| self.fired.insert(*id));
        changes.extend(fired.into_iter().map(|id| Change::Workflow(WorkflowChange::TriggerFired { id, at })));
        Some(changes)
    }

    async fn prepared(
        &self,
        (ctx, workflow): &(OpCtx, Opened<Workflow>),
        trigger: &FlowTrigger,
        activity: &Activity,
        payload: &Value,
        room: i64,
    ) -> Result<Prepared, Error> {
        // What happened before it started is not its doing.
        let since = trigger.last_at.map(|last| activity.created_at.duration_since(last)).filter(|since| since.is_positive());
        if since.is_some_and(|since| since < BRAKE) && changes_platform(&workflow.row) {
            return Err(Error::conflict(format!(
                "This workflow changes apps, and this happened less than {} seconds after its last start: it may be its own doing, and is left out",
                BRAKE.as_secs()
            )));
        }
        let values = values(&workflow.row.graph, payload.clone());
        let prepared = prepare_opened(ctx, workflow, values, RunSource::Event).await?;
        // A start beyond the allowance would undo the commit, and all the others with it.
        if prepared.reserved() > room { Err(insufficient()) } else { Ok(prepared) }
    }

    /// The workflow whose run has made the deployment that an entry tells the outcome of, where one of those that wait may be it.
    async fn maker(&self, activity: &Activity, event: PlatformEvent, waiting: &[&FlowTrigger]) -> Option<WorkflowId> {
        let may = |trigger: &&FlowTrigger| matches!(self.ready.get(&trigger.id), Some(Ok((_, found))) if changes_platform(&found.row));
        if !matches!(event, PlatformEvent::DeploymentSucceeded | PlatformEvent::DeploymentFailed) || !waiting.iter().any(may) {
            return None;
        }
        let id = activity.subject.parse().ok()?;
        let read = async {
            let Some(deployment) = self.ops.store.deployment(id).await?.and_then(|sealed| sealed.open(self.tenant)) else {
                return Ok(None);
            };
            let Actor::User { run: Some(run), .. } = deployment.creator else { return Ok(None) };
            Ok::<_, StoreError>(self.ops.store.run(run).await?.and_then(|sealed| sealed.open(self.tenant)))
        };
        let run = read.await.unwrap_or_else(|error| {
            tracing::warn!(%error, deployment = %activity.subject, "who has made a deployment cannot be read");
            None
        })?;
        if let Subject::Workflow { id, .. } = run.subject { Some(id) } else { None }
    }

    /// What tells of a refusal; nothing when it may pass soon.
    fn refused(&self, trigger: &FlowTrigger, activity: &Activity, error: &Error) -> Option<Vec<Change>> {
        error.log("event");
        let soon = error.is_passing() && self.now.duration_since(activity.created_at) < PATIENCE;
        (!soon).then(|| failure(self.ops, trigger, error, self.now))
    }

    /// Where something has happened. What cannot be read is left out of what the workflow is told.
    async fn instance(&mut self, activity: &Activity) -> Option<Instance> {
        let id = activity.instance_id?;
        if let Some(known) = self.instances.get(&id) {
            return known.clone();
        }
        let found = self.ops.store.instance(id).await.unwrap_or_else(|error| {
            tracing::warn!(%error, instance = %id, "a workflow is not told where something has happened");
            None
        });
        let found = found.and_then(|sealed| sealed.open(self.tenant));
        self.instances.insert(id, found.clone());
        found
    }
}

fn own_doing(workflow: &Workflow) -> Error {
    let name = &workflow.name;
    Error::conflict(format!("This deployment was made by a run of the workflow {name} itself, which is not started by that"))
}

/// Whether a workflow has nodes that change what runs on the platform, so that something may happen there because of it.
fn changes_platform(workflow: &Workflow) -> bool {
    let changes = |kind: &str| {
        matches!(
            kind.strip_prefix("x_").unwrap_or(kind),
            "deploy" | "redeploy" | "rollback" | "restart" | "scale" | "set_variable" | "create_environment"
        )
    };
    workflow.graph.nodes.iter().any(|node| changes(&node.kind))
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
