//! What the engine writes into the audit log: how builds and rollouts ended, and what it did of its own accord.

use domain::activity::{Activity, Actor};
use domain::deployment::{Deployment, DeploymentStatus};
use domain::{ActivityId, InstanceId, Tenant, Timestamp};
use serde_json::{Value, json};
use store::{Change, StoreError};

use crate::Shared;

/// An entry about a deployment.
pub(crate) fn about(deployment: &Deployment, verb: &str, reason: Option<&str>) -> Change {
    Change::Activity(Activity {
        id: ActivityId::generate(),
        workspace_id: deployment.workspace_id,
        project_id: Some(deployment.project_id),
        instance_id: Some(deployment.instance_id),
        actor: Actor::System { part: "engine".into() },
        verb: verb.to_owned(),
        subject: deployment.id.to_string(),
        data: json!({"snapshot": deployment.snapshot_id, "reason": reason}),
        address: None,
        created_at: Timestamp::now(),
    })
}

/// How a rollout ended, if this move ends one.
pub(crate) fn of_move(deployment: &Deployment, to: DeploymentStatus, reason: Option<&str>) -> Option<Change> {
    let first = deployment.status == DeploymentStatus::Deploying && deployment.generation == 0;
    match (deployment.status, to) {
        (DeploymentStatus::Deploying, DeploymentStatus::Success) if first => Some(about(deployment, "deployment_succeeded", None)),
        (DeploymentStatus::Deploying, DeploymentStatus::Failed | DeploymentStatus::Crashed) => {
            Some(about(deployment, "deployment_failed", reason))
        }
        (DeploymentStatus::Success, DeploymentStatus::Crashed) => Some(about(deployment, "app_unavailable", reason)),
        _ => None,
    }
}

/// An entry about an instance; `None` when it is gone.
pub(crate) async fn about_instance(
    shared: &Shared,
    tenant: Tenant,
    id: InstanceId,
    verb: &str,
    subject: impl ToString,
    data: Value,
) -> Result<Option<Activity>, StoreError> {
    let instance = shared.ops.store.instance(id).await?.and_then(|sealed| sealed.open(tenant));
    Ok(instance.map(|instance| Activity {
        id: ActivityId::generate(),
        workspace_id: instance.workspace_id,
        project_id: Some(instance.project_id),
        instance_id: Some(instance.id),
        actor: Actor::System { part: "engine".into() },
        verb: verb.to_owned(),
        subject: subject.to_string(),
        data,
        address: None,
        created_at: Timestamp::now(),
    }))
}
