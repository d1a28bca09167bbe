//! Replaces containers that stop answering (`contracts/galaxy.md` 3.11).
//!
//! Should be true after each pass: no container that requests are routed to has failed its checks for longer than it may. Healthy is who
//! says anything within five seconds ([`health::speaks`]). What a check found is forgotten with the control plane: then the time begins
//! anew.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use domain::deployment::{Replica, ReplicaStatus};
use domain::galaxy::{UNHEALTHY, container_id};
use domain::project::Instance;
use domain::{ReplicaId, Tenant, Timestamp};
use futures::StreamExt as _;
use serde_json::json;
use store::{Change, StoreError};
use tokio::time::Instant;

use crate::{Shared, health, record};

/// How containers are watched.
#[derive(Clone, Copy, Debug)]
pub struct WatchConfig {
    /// Between two checks of a container.
    pub every: Duration,
    /// A container answers within.
    pub answer: Duration,
    /// A container that was healthy is replaced after failing for so long.
    pub patience: Duration,
    /// One that never was is replaced after so long.
    pub start_patience: Duration,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(15),
            answer: Duration::from_secs(5),
            patience: Duration::from_secs(300),
            start_patience: Duration::from_secs(600),
        }
    }
}

/// Checks at the same time.
const AT_ONCE: usize = 32;

/// Runs until the engine stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut failing: HashMap<ReplicaId, Instant> = HashMap::new();
    loop {
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            () = tokio::time::sleep(shared.config.watch.every) => {}
        }
        if let Err(error) = pass(&shared, &mut failing).await {
            tracing::warn!(%error, "containers could not be watched; it is tried again");
        }
    }
}

async fn pass(shared: &Arc<Shared>, failing: &mut HashMap<ReplicaId, Instant>) -> Result<(), StoreError> {
    let config = shared.config.watch;
    let mut rows = shared.ops.store.system_watched_replicas().await?;
    // What nobody would replace is not disturbed with questions.
    rows.retain(|(_, instance)| instance.spec.deploy.unhealthy_replacement);
    let running: Vec<(ReplicaId, u16)> =
        rows.iter().filter(|(row, _)| row.status == ReplicaStatus::Running && row.port != 0).map(|(row, _)| (row.id, row.port)).collect();
    let checks = futures::stream::iter(running).map(|(id, port)| async move { (id, health::speaks(port, config.answer).await) });
    let answers: Vec<(ReplicaId, bool)> = checks.buffer_unordered(AT_ONCE).collect().await;
    failing.retain(|id, _| answers.iter().any(|(known, answered)| known == id && !answered));
    let now = Instant::now();
    for (id, _) in answers.iter().filter(|(_, answered)| !answered) {
        failing.entry(*id).or_insert(now);
    }
    let late = |row: &Replica| match row.status {
        ReplicaStatus::Running => failing.get(&row.id).is_some_and(|since| now.duration_since(*since) >= config.patience),
        ReplicaStatus::Initializing => {
            let age = Timestamp::now().duration_since(row.updated_at);
            Duration::try_from(age).is_ok_and(|age| age >= config.start_patience)
        }
        _ => false,
    };
    let late: Vec<&(Replica, Instance)> = rows.iter().filter(|(row, _)| late(row)).collect();
    for (row, instance) in late {
        failing.remove(&row.id);
        replace(shared, row, instance).await?;
    }
    Ok(())
}

/// Ends a container, so that another takes its place.
async fn replace(shared: &Arc<Shared>, row: &Replica, instance: &Instance) -> Result<(), StoreError> {
    tracing::info!(replica = %row.id, "a container does not answer and is replaced");
    let end = Change::ReplicaEnd { id: row.id, reason: UNHEALTHY.to_owned(), at: Timestamp::now() };
    let data = json!({"container": container_id(instance.id, row.id)});
    let entry = record::about_instance(instance, "container_unhealthy", row.id, data);
    match shared.ops.store.commit(Tenant::system(row.workspace_id), vec![end, entry]).await {
        Ok(_) => {}
        // It ends already.
        Err(StoreError::Stale) => return Ok(()),
        Err(error) => return Err(error),
    }
    shared.tell();
    shared.look(row.workspace_id, instance.id);
    Ok(())
}
