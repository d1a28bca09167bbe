//! Approval: what somebody below admin wants deployed in a protected environment waits until an admin lets it go on.
//!
//! Everything that makes a deployment passes [`hold`] on its way into the commit, whichever door the request came through. What Orrery
//! does by itself it does with an admin's rights; restarts and scaling make no deployment, and never wait.
//!
//! Deployments take effect in the order in which they were asked for. So the approval of one ends the older ones that still wait, and one
//! that is older than what was let go since cannot be approved any more. Both are said in words.

use domain::activity::Actor;
use domain::deployment::{Deployment, DeploymentEvent, DeploymentStatus, EventStep};
use domain::log::{LogKind, LogLine, Severity};
use domain::project::Environment;
use domain::{Code, DeploymentId, Permission, Tenant};
use serde_json::json;
use store::Change;

use crate::context::Opened;
use crate::{Error, OpCtx, deployment, environment};

/// What the build log says of a deployment that waits: who follows it (`railway up`) reads why nothing happens.
const WAITS: &str =
    "This environment is protected: the deployment waits for the approval of an admin of the workspace. What serves goes on.";

/// How a person, a key or a part of Orrery is called in a sentence.
fn called(actor: &Actor) -> String {
    match actor {
        Actor::User { name, email, .. } if name.trim().is_empty() => email.clone(),
        Actor::User { name, .. } => name.clone(),
        Actor::Key { label, .. } => format!("the key {label}"),
        Actor::System { part } => format!("the {part}"),
    }
}

/// Whether what the principal wants deployed there waits for somebody else.
pub(crate) fn needed(ctx: &OpCtx, environment: &Environment) -> bool {
    environment.is_protected && !ctx.may(environment.workspace_id, environment::place(environment), Permission::Administer)
}

/// Makes a new deployment wait where it has to: the step that says so, and the entry of which rules tell those who can approve it.
pub(crate) fn hold(ctx: &OpCtx, environment: &Environment, made: &mut Deployment) -> Vec<Change> {
    if !needed(ctx, environment) {
        return vec![];
    }
    made.status = DeploymentStatus::NeedsApproval;
    made.status_reason = Some("it waits for the approval of an admin of the workspace".into());
    let asked = format!("asked for by {}", called(&made.creator));
    let step = deployment::event(ctx, made.id, EventStep::WaitForDependencies);
    let step = DeploymentEvent { detail: Some(format!("needs an approval, {asked}")), ..step };
    let data = json!({"snapshot": made.snapshot_id, "reason": asked});
    // The deployment is of the workspace that its verb was allowed in; the commit holds it to that.
    let tenant = Tenant::system(made.workspace_id);
    let entry = ctx.activity_about(tenant, (made.project_id, made.instance_id), "deployment_needs_approval", made.id, data);
    vec![Change::EventInsert(step), entry]
}

/// Refuses what would end what serves in a protected environment, while what is to follow it would have to wait.
///
/// # Errors
/// Forbidden, for somebody whose deployments wait there.
pub(crate) fn check_interruption(ctx: &OpCtx, environment: &Environment) -> Result<(), Error> {
    if !needed(ctx, environment) {
        return Ok(());
    }
    Err(Error::new(
        Code::Forbidden,
        format!(
            "The environment {} is protected: taking a volume away ends what serves with it, and what follows would wait for an approval. Ask an admin of the workspace to do it",
            environment.name
        ),
    ))
}

/// Lets a deployment that waits go on, as if nobody had held it up. The older ones of the same service that still wait end.
///
/// # Errors
/// Not found, a role below admin, it does not wait, or a newer one was let go since.
pub async fn deployment_approve(ctx: &OpCtx, id: DeploymentId) -> Result<(), Error> {
    let of = deployment::deployment_for(ctx, id, Permission::Administer).await?;
    if of.row.status != DeploymentStatus::NeedsApproval {
        let text = format!("This deployment is {}: only one that needs an approval can be approved", of.row.status.as_str());
        return Err(Error::conflict(text));
    }
    let live = ctx.ops.store.deployments_live(of.tenant, &[of.row.instance_id]).await?;
    if live.iter().any(|row| row.id > id && overtakes(row.status)) {
        return Err(Error::conflict(
            "A newer deployment of this service was let go since, and an older one does not take its place: cancel this one, or redeploy it",
        ));
    }
    let (asked, approved) = (called(&of.row.creator), called(&ctx.actor()));
    let to = deployment::opening(&of.row);
    let data = json!({"snapshot": of.row.snapshot_id, "askedBy": asked});
    let mut changes = vec![
        Change::DeploymentMove { id, from: DeploymentStatus::NeedsApproval, to, reason: None, at: ctx.now },
        Change::EventComplete {
            deployment: id,
            step: EventStep::WaitForDependencies,
            at: ctx.now,
            error: None,
            detail: Some(format!("asked for by {asked}, approved by {approved}")),
        },
        ctx.activity_about(of.tenant, (of.row.project_id, of.row.instance_id), "deployment_approve", id, data),
    ];
    let why = format!("Not approved: {approved} approved a newer deployment of this service");
    let older: Vec<_> = live.iter().filter(|row| row.id < id && row.status == DeploymentStatus::NeedsApproval).collect();
    for row in &older {
        changes.extend(refusal(ctx, &of.with((*row).clone()), &why).await?);
    }
    deployment::changed(ctx, &of, changes).await?;
    tell(ctx, &of.row, Severity::Info, format!("Approved by {approved}")).await;
    for row in older {
        ctx.ops.signals.deployment_changed(row.id);
        tell(ctx, row, Severity::Error, why.clone()).await;
    }
    Ok(())
}

/// A newer deployment in this state serves, or is on its way to.
fn overtakes(status: DeploymentStatus) -> bool {
    !matches!(status, DeploymentStatus::NeedsApproval | DeploymentStatus::Crashed | DeploymentStatus::Removing)
}

/// Ends a deployment that waits: it is as one that was not built, and says why to whoever follows it.
///
/// # Errors
/// It was approved or ended meanwhile.
pub(crate) async fn refuse(ctx: &OpCtx, of: &Opened<Deployment>, verb: &str) -> Result<(), Error> {
    let why = format!("Not approved: canceled by {}", called(&ctx.actor()));
    let mut changes = refusal(ctx, of, &why).await?;
    let data = json!({"was": of.row.status, "snapshot": of.row.snapshot_id, "askedBy": called(&of.row.creator)});
    changes.push(ctx.activity_about(of.tenant, (of.row.project_id, of.row.instance_id), verb, of.row.id, data));
    deployment::changed(ctx, of, changes).await?;
    tell(ctx, &of.row, Severity::Error, why).await;
    Ok(())
}

async fn refusal(ctx: &OpCtx, of: &Opened<Deployment>, why: &str) -> Result<Vec<Change>, Error> {
    let id = of.row.id;
    let (from, to) = (DeploymentStatus::NeedsApproval, DeploymentStatus::Failed);
    let mut changes = vec![
        Change::DeploymentMove { id, from, to, reason: Some(why.to_owned()), at: ctx.now },
        // This sets it apart from one that could not be built: its source does not come back by itself.
        Change::DeploymentStopped { id, stopped: true, of: None, at: ctx.now },
    ];
    for event in ctx.ops.store.deployment_events(of.tenant, id).await? {
        if event.completed_at.is_none() {
            let error = (event.step == EventStep::WaitForDependencies).then(|| why.to_owned());
            changes.push(Change::EventComplete { deployment: id, step: event.step, at: ctx.now, error, detail: None });
        }
    }
    Ok(changes)
}

/// Says in the build log of a new deployment that it waits, if it does.
pub(crate) async fn tell_waiting(ctx: &OpCtx, made: &Deployment) {
    if made.status == DeploymentStatus::NeedsApproval {
        tell(ctx, made, Severity::Info, WAITS.to_owned()).await;
    }
}

async fn tell(ctx: &OpCtx, deployment: &Deployment, severity: Severity, message: String) {
    let nanos = i64::try_from(ctx.now.as_nanosecond()).unwrap_or(i64::MAX);
    let line = LogLine { nanos, source: deployment.log_source(None, LogKind::Build), severity, message, attributes: vec![] };
    if let Err(error) = ctx.ops.telemetry.append(vec![line]).await {
        tracing::warn!(%error, deployment = %deployment.id, "a line of a build log could not be stored");
    }
}
