//! Ends replicas that no reconciled instance owns: those of deleted projects, those whose row was never committed, and those of
//! deployments that are over.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use domain::deployment::{Replica, ReplicaStatus};
use domain::{DeploymentId, ReplicaId, Tenant, WorkspaceId};
use runtime::{Observation, ObservedPhase};
use store::StoreError;

use crate::{Shared, lock, replicas};

/// Looks at everything that the driver knows, but for what was looked at with its instance just now: more may have become of that than
/// was seen.
pub(crate) async fn run(
    shared: &Arc<Shared>,
    seen: &HashMap<ReplicaId, Observation>,
    covered: &HashSet<ReplicaId>,
) -> Result<(), StoreError> {
    let mut rows = shared.ops.store.system_live_replicas().await?;
    let known: HashSet<ReplicaId> = rows.iter().map(|replica| replica.id).chain(covered.iter().copied()).collect();
    for observation in seen.values().filter(|observation| !known.contains(&observation.replica_id)) {
        let id = observation.replica_id;
        let row = shared.ops.store.replica(id).await?.and_then(|sealed| {
            let tenant = Tenant::system(sealed.workspace());
            sealed.open(tenant)
        });
        match row {
            // It keeps its folder until its deployment goes.
            Some(row) if matches!(row.status, ReplicaStatus::Crashed | ReplicaStatus::Exited) => rows.push(row),
            _ => end(shared, observation, Duration::from_secs(3)).await,
        }
    }
    leftovers(shared, rows, seen).await
}

async fn end(shared: &Shared, observation: &Observation, grace: Duration) {
    let id = observation.replica_id;
    let result = if observation.phase.is_over() {
        shared.health.forget(id);
        shared.sources.drop_known(id);
        shared.driver.forget(id).await
    } else if observation.phase == ObservedPhase::Stopping {
        Ok(())
    } else {
        shared.driver.stop(id, grace).await
    };
    if let Err(error) = result {
        tracing::warn!(%error, replica = %id, "a replica without a deployment could not be ended; the next full pass tries again");
    }
}

/// Rows that are live, or keep a folder, although their deployment is final.
async fn leftovers(shared: &Arc<Shared>, rows: Vec<Replica>, seen: &HashMap<ReplicaId, Observation>) -> Result<(), StoreError> {
    let mut by_workspace: HashMap<WorkspaceId, Vec<Replica>> = HashMap::new();
    for row in rows {
        by_workspace.entry(row.workspace_id).or_default().push(row);
    }
    for (workspace, rows) in by_workspace {
        let tenant = Tenant::system(workspace);
        let ids: Vec<DeploymentId> = rows.iter().map(|row| row.deployment_id).collect::<BTreeSet<_>>().into_iter().collect();
        let deployments = shared.ops.store.deployments_by_id(tenant, &ids).await?;
        for row in rows {
            let over = |deployment: &&domain::deployment::Deployment| deployment.id == row.deployment_id && deployment.status.is_final();
            let Some(deployment) = deployments.iter().find(over) else { continue };
            match seen.get(&row.id) {
                Some(observation) if !observation.phase.is_over() => {
                    end(shared, observation, Duration::from_secs(u64::from(deployment.spec.deploy.draining_seconds))).await;
                }
                // Whether it has started shows in the next observation.
                None if lock(&shared.launching).contains(&row.id) => {}
                _ => replicas::leave(shared, tenant, deployment, &row, "its deployment failed").await?,
            }
        }
    }
    Ok(())
}
