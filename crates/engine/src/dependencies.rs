//! The starting order of a batch (`contracts/railway.md` 3.8): a service whose variables refer to others that are deployed with it starts
//! when those are decided, whether they serve or not.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};

use domain::deployment::{Deployment, DeploymentEvent, DeploymentStatus, EventStep, Replica};
use domain::{DeploymentId, Tenant, Timestamp};
use jiff::SignedDuration;
use ops::Signal;
use store::StoreError;
use tokio::sync::broadcast::error::RecvError;

use crate::{Home, Shared, lock};

/// Nobody waits longer: a long build with a long health check fits in, and whoever is stuck holds nobody up for ever.
const LONGEST: SignedDuration = SignedDuration::from_mins(30);

/// Who waits for which deployment.
#[derive(Default)]
pub(crate) struct Dependencies(Mutex<HashMap<DeploymentId, HashSet<Home>>>);

impl Dependencies {
    fn add(&self, home: Home, on: &[DeploymentId]) {
        let mut all = lock(&self.0);
        for id in on {
            all.entry(*id).or_default().insert(home);
        }
    }

    fn remove(&self, home: Home, on: &[DeploymentId]) {
        let mut all = lock(&self.0);
        for id in on {
            if let Some(homes) = all.get_mut(id) {
                homes.remove(&home);
            }
        }
        all.retain(|_, homes| !homes.is_empty());
    }

    /// Those who wait for it, and are not on the list from now on.
    fn take(&self, id: DeploymentId) -> HashSet<Home> {
        lock(&self.0).remove(&id).unwrap_or_default()
    }

    fn take_all(&self) -> HashSet<Home> {
        std::mem::take(&mut *lock(&self.0)).into_values().flatten().collect()
    }
}

/// Asks for a look at whoever waits for a deployment that has changed, until the engine stops. The look puts them on the list again if they
/// have to wait on.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut changes = shared.ops.signals.changes();
    loop {
        let homes = tokio::select! {
            () = shared.shutdown.cancelled() => return,
            change = changes.recv() => match change {
                Ok(Signal::Deployment(id)) => shared.dependencies.take(id),
                // Rows that are gone are named by nobody.
                Ok(Signal::DeploymentsDeleted) | Err(RecvError::Lagged(_)) => shared.dependencies.take_all(),
                Err(RecvError::Closed) => return,
            },
        };
        for (workspace, instance) in homes {
            shared.look(workspace, instance);
        }
    }
}

/// Which of an instance's deployments have to wait for others.
pub(crate) async fn waiting(
    shared: &Shared,
    tenant: Tenant,
    deployments: &[Deployment],
    events: &HashMap<DeploymentId, Vec<DeploymentEvent>>,
    replicas: &[Replica],
) -> Result<HashSet<DeploymentId>, StoreError> {
    let mut waiting = HashSet::new();
    for deployment in deployments.iter().filter(|deployment| may_wait(deployment, events.get(&deployment.id), replicas)) {
        let home = (deployment.workspace_id, deployment.instance_id);
        // Before they are read: what is decided after that finds it on the list.
        shared.dependencies.add(home, &deployment.waits_for);
        let others = shared.ops.store.deployments_by_id(tenant, &deployment.waits_for).await?;
        if others.iter().any(|other| comes_first(other.status)) {
            waiting.insert(deployment.id);
        } else {
            shared.dependencies.remove(home, &deployment.waits_for);
        }
    }
    Ok(waiting)
}

/// It has not begun to start, and has not waited before: what was decided once is not waited for again when it is restarted.
fn may_wait(deployment: &Deployment, events: Option<&Vec<DeploymentEvent>>, replicas: &[Replica]) -> bool {
    deployment.status == DeploymentStatus::Deploying
        && deployment.generation == 0
        && !deployment.waits_for.is_empty()
        && Timestamp::now().duration_since(deployment.status_at) < LONGEST
        && replicas.iter().all(|replica| replica.deployment_id != deployment.id)
        && !steps_of(events).any(|event| event.created_at >= deployment.status_at && event.completed_at.is_some())
}

/// What is pending by itself. For what needs an approval nobody waits: it may never have one.
fn comes_first(status: DeploymentStatus) -> bool {
    status.is_pending() && !matches!(status, DeploymentStatus::NeedsApproval | DeploymentStatus::Waiting)
}

fn steps_of(events: Option<&Vec<DeploymentEvent>>) -> impl Iterator<Item = &DeploymentEvent> {
    events.into_iter().flatten().filter(|event| event.step == EventStep::WaitForDependencies)
}

/// Until when a deployment waited for others, or now if its step has not ended yet. An approval is a step of the same name, and is over
/// before the deployment's present status begins.
pub(crate) fn waited_until(events: Option<&Vec<DeploymentEvent>>) -> Option<Timestamp> {
    steps_of(events).map(|event| event.completed_at.unwrap_or_else(Timestamp::now)).max()
}
