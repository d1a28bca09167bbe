//! What keeps a deployment from its first start.

use std::collections::HashMap;

use domain::deployment::{Deployment, DeploymentEvent, DeploymentStatus, Replica};
use domain::volume::{VolumeInstance, mount_path};
use domain::{DeploymentId, Tenant};
use store::StoreError;

use crate::{Shared, dependencies};

/// Why a deployment does not start.
pub(crate) enum Obstacle {
    /// Others of its batch come first.
    Others,
    /// Something is missing that does not come by itself, in words for the user.
    Missing(String),
}

/// The obstacles of an instance's deployments. `volume` is the one that is attached.
pub(crate) async fn found(
    shared: &Shared,
    tenant: Tenant,
    deployments: &[Deployment],
    events: &HashMap<DeploymentId, Vec<DeploymentEvent>>,
    replicas: &[Replica],
    volume: Option<&VolumeInstance>,
) -> Result<HashMap<DeploymentId, Obstacle>, StoreError> {
    let waiting = dependencies::waiting(shared, tenant, deployments, events, replicas).await?;
    let starts = |deployment: &&Deployment| {
        deployment.status == DeploymentStatus::Deploying
            && deployment.generation == 0
            && replicas.iter().all(|replica| replica.deployment_id != deployment.id)
    };
    let obstacle = |deployment: &Deployment| match waiting.contains(&deployment.id) {
        true => Some(Obstacle::Others),
        false => missing(shared, deployment, volume).map(Obstacle::Missing),
    };
    Ok(deployments.iter().filter(starts).filter_map(|deployment| Some((deployment.id, obstacle(deployment)?))).collect())
}

fn missing(shared: &Shared, deployment: &Deployment, volume: Option<&VolumeInstance>) -> Option<String> {
    let artifact = deployment.artifact.as_ref().filter(|_| deployment.run.is_some());
    if !artifact.is_some_and(|artifact| shared.config.data_dir.join("artifacts").join(artifact).is_dir()) {
        return Some("the files of this deployment were removed: deploy the source again".to_owned());
    }
    let required = deployment.spec.deploy.required_mount_path.as_deref()?;
    // What cannot be a mount path is none of any volume.
    let path = mount_path(required).ok();
    if path.is_some() && path.as_deref() == volume.map(|volume| volume.mount_path.as_str()) {
        return None;
    }
    Some(format!(
        "no volume is mounted at {required}, where this service requires one (requiredMountPath): attach one there and deploy again"
    ))
}
