//! Runs of services with a schedule: what the planner has to know of them, and what it decides about them is written down here.

use domain::deployment::{Deployment, Execution, ExecutionStatus};
use domain::rollout::{OpenRun, Plan, Runs};
use domain::schedule::Schedule;
use domain::spec::RestartPolicy;
use domain::{InstanceId, ReplicaId, Tenant, Timestamp};
use serde_json::json;
use store::{Change, StoreError};

use crate::observe::View;
use crate::{Shared, record};

/// Why a run is left out.
const OVERLAPS: &str = "the run before it had not ended";

/// When a deployment runs, if it does not run all the time. The distance between runs was checked when the schedule was written.
pub(crate) fn schedule(deployment: &Deployment) -> Option<Schedule> {
    Schedule::parse_in(deployment.spec.deploy.cron_schedule.as_ref()?, None).ok()
}

/// Whether a deployment runs by a schedule.
pub(crate) fn is_scheduled(deployment: &Deployment) -> bool {
    schedule(deployment).is_some()
}

/// A run is over when its command has ended well, whatever the settings say of apps that run all the time.
pub(crate) fn restart_policy(deployment: &Deployment) -> RestartPolicy {
    match deployment.spec.deploy.restart_policy_type {
        RestartPolicy::Always if is_scheduled(deployment) => RestartPolicy::OnFailure,
        policy => policy,
    }
}

/// How the runs of an instance stand, and the one that has not ended. Nobody is asked where nothing has a schedule.
pub(crate) async fn read(
    shared: &Shared,
    tenant: Tenant,
    instance: InstanceId,
    deployments: &[Deployment],
) -> Result<(Runs, Option<Execution>), StoreError> {
    if !deployments.iter().any(is_scheduled) {
        return Ok((Runs::default(), None));
    }
    let store = &shared.ops.store;
    let open = store.execution_open(tenant, instance).await?;
    let last_due = store.execution_last_due(tenant, instance).await?;
    let started = |execution: &Execution| execution.status != ExecutionStatus::Created;
    let run = open.as_ref().map(|one| OpenRun { id: one.id, deployment: one.deployment_id, started: started(one) });
    Ok((Runs { open: run, last_due }, open))
}

/// The run that a new replica of the deployment carries out.
pub(crate) fn run_of<'a>(view: &'a View, deployment: &Deployment) -> Option<&'a Execution> {
    view.execution.as_ref().filter(|execution| execution.deployment_id == deployment.id && is_scheduled(deployment))
}

/// The run has its replica.
pub(crate) fn started(execution: &Execution) -> Change {
    Change::ExecutionUpdate(Execution { status: ExecutionStatus::Running, updated_at: Timestamp::now(), ..execution.clone() })
}

/// Writes down that a run has ended, and that one is due or skipped. The end is written before its replica is forgotten, so that what it
/// tells is not lost with this process.
pub(crate) async fn record(shared: &Shared, view: &View, plan: &Plan) -> Result<(), StoreError> {
    let mut changes = ending(view, plan);
    changes.extend(beginning(view, plan));
    if changes.is_empty() {
        return Ok(());
    }
    match shared.ops.store.commit(view.tenant, changes).await {
        // Somebody has asked for a run at the same moment: the next look sees it.
        Err(StoreError::Conflict { .. }) => return Err(StoreError::Stale),
        done => done?,
    };
    shared.tell();
    for deployment in view.deployments.iter().filter(|deployment| is_scheduled(deployment)) {
        shared.ops.signals.deployment_changed(deployment.id);
    }
    shared.look(view.tenant.workspace(), view.instance.id);
    Ok(())
}

fn ending(view: &View, plan: &Plan) -> Vec<Change> {
    let Some(execution) = view.execution.as_ref().filter(|execution| plan.finish == Some(execution.id)) else { return vec![] };
    let replica = view.replicas.iter().find(|replica| replica.id == execution.id);
    let ended = execution.ended(replica, Timestamp::now());
    tracing::info!(execution = %ended.id, status = ended.status.as_str(), exit_code = ended.exit_code, "a run has ended");
    let mut changes = vec![];
    if ended.status == ExecutionStatus::Crashed {
        let data = json!({"deployment": ended.deployment_id, "exitCode": ended.exit_code, "reason": ended.reason});
        changes.push(record::about_instance(&view.instance, "execution_crashed", ended.id, data));
    }
    changes.push(Change::ExecutionUpdate(ended));
    changes
}

fn beginning(view: &View, plan: &Plan) -> Vec<Change> {
    let Some(begin) = &plan.begin else { return vec![] };
    let now = Timestamp::now();
    let execution = Execution {
        id: ReplicaId::generate(),
        workspace_id: view.tenant.workspace(),
        instance_id: view.instance.id,
        deployment_id: begin.deployment,
        due_at: Some(begin.due),
        status: if begin.skipped { ExecutionStatus::Skipped } else { ExecutionStatus::Created },
        exit_code: None,
        reason: begin.skipped.then(|| OVERLAPS.to_owned()),
        created_at: now,
        updated_at: now,
        completed_at: begin.skipped.then_some(now),
    };
    let mut changes = vec![];
    if begin.skipped {
        let data = json!({"deployment": begin.deployment, "due": begin.due.to_string(), "reason": OVERLAPS});
        changes.push(record::about_instance(&view.instance, "execution_skipped", execution.id, data));
    }
    changes.push(Change::ExecutionInsert(execution));
    changes
}
