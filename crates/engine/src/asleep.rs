//! Wakes apps that sleep. The edge lets requests wait and says whom for; the reconciler does the rest once the deployment counts as awake.

use std::sync::Arc;
use std::time::Duration;

use domain::Tenant;
use domain::Timestamp;
use domain::deployment::DeploymentStatus;
use domain::galaxy::APP_WOKEN;
use domain::routing::Asleep;
use store::{Change, StoreError};

use crate::{Shared, record};

/// One question to the edge waits so long for news.
const LISTEN: Duration = Duration::from_secs(30);
/// The edge does not answer, or the store.
const PAUSE: Duration = Duration::from_secs(1);

/// Runs until the engine stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    loop {
        let wanted = tokio::select! {
            () = shared.shutdown.cancelled() => return,
            wanted = shared.edge.wanted(LISTEN) => wanted,
        };
        let mut failed = wanted.is_err();
        for app in wanted.unwrap_or_default() {
            if let Err(error) = wake(&shared, app).await {
                // Whoever waits asks again in a few seconds.
                tracing::warn!(%error, deployment = %app.deployment_id, "an app could not be woken");
                failed = true;
            }
        }
        if failed {
            tokio::select! {
                () = shared.shutdown.cancelled() => return,
                () = tokio::time::sleep(PAUSE) => {}
            }
        }
    }
}

async fn wake(shared: &Shared, app: Asleep) -> Result<(), StoreError> {
    let tenant = Tenant::system(app.workspace_id);
    let found = shared.ops.store.deployment(app.deployment_id).await?.and_then(|sealed| sealed.open(tenant));
    let Some(deployment) = found.filter(|deployment| deployment.status == DeploymentStatus::Sleeping) else { return Ok(()) };
    let (from, to) = (DeploymentStatus::Sleeping, DeploymentStatus::Success);
    tracing::info!(deployment = %deployment.id, "an app that slept is asked for and wakes");
    let change = Change::DeploymentMove { id: deployment.id, from, to, reason: None, at: Timestamp::now() };
    match shared.ops.store.commit(tenant, vec![change, record::about_app(&deployment, APP_WOKEN)]).await {
        // It was woken or replaced meanwhile.
        Err(StoreError::Stale) => return Ok(()),
        done => done?,
    };
    shared.tell();
    shared.ops.signals.deployment_changed(deployment.id);
    shared.look(app.workspace_id, deployment.instance_id);
    Ok(())
}
