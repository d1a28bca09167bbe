//! What the engine writes into the audit log: how builds and rollouts ended, and what it did of its own accord.

use domain::activity::{Activity, Actor};
use domain::deployment::{Deployment, DeploymentStatus};
use domain::galaxy::APP_SLEPT;
use domain::project::Instance;
use domain::{ActivityId, InstanceId, ProjectId, Timestamp, WorkspaceId};
use serde_json::{Value, json};
use store::Change;

/// An entry about a deployment.
pub(crate) fn about(deployment: &Deployment, verb: &str, reason: Option<&str>) -> Change {
    let home = (deployment.workspace_id, deployment.project_id, deployment.instance_id);
    entry(home, verb, deployment.id.to_string(), json!({"snapshot": deployment.snapshot_id, "reason": reason}))
}

/// An entry about an app, whichever version it runs.
pub(crate) fn about_app(deployment: &Deployment, verb: &str) -> Change {
    let home = (deployment.workspace_id, deployment.project_id, deployment.instance_id);
    entry(home, verb, deployment.id.to_string(), json!({}))
}

/// An entry about a part of an instance.
pub(crate) fn about_instance(instance: &Instance, verb: &str, subject: impl ToString, data: Value) -> Change {
    entry((instance.workspace_id, instance.project_id, instance.id), verb, subject.to_string(), data)
}

fn entry((workspace, project, instance): (WorkspaceId, ProjectId, InstanceId), verb: &str, subject: String, data: Value) -> Change {
    Change::Activity(Activity {
        id: ActivityId::generate(),
        workspace_id: workspace,
        project_id: Some(project),
        instance_id: Some(instance),
        actor: Actor::System { part: "engine".into() },
        verb: verb.to_owned(),
        subject,
        data,
        address: None,
        created_at: Timestamp::now(),
    })
}

/// How a rollout ended, if this move ends one; what becomes of an app afterwards.
pub(crate) fn of_move(deployment: &Deployment, to: DeploymentStatus, reason: Option<&str>) -> Option<Change> {
    let first = deployment.status == DeploymentStatus::Deploying && deployment.generation == 0;
    match (deployment.status, to) {
        (DeploymentStatus::Deploying, DeploymentStatus::Success) if first => Some(about(deployment, "deployment_succeeded", None)),
        (DeploymentStatus::Deploying, DeploymentStatus::Failed | DeploymentStatus::Crashed) => {
            Some(about(deployment, "deployment_failed", reason))
        }
        (DeploymentStatus::Success, DeploymentStatus::Sleeping) => Some(about_app(deployment, APP_SLEPT)),
        (DeploymentStatus::Success, DeploymentStatus::Crashed) => Some(about(deployment, "app_unavailable", reason)),
        (_, DeploymentStatus::Removed) => Some(about(deployment, "deployment_removed", None)),
        _ => None,
    }
}
