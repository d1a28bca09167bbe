//! Brings the output of replicas from their spool files into the log store.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::ReplicaId;
use domain::log::LogSource;

use crate::{Shared, lock};

/// The replicas whose spools are read.
#[derive(Default)]
pub(crate) struct Sources {
    known: Mutex<HashMap<ReplicaId, LogSource>>,
    /// One reader at a time: the loop and the last look before a folder goes away must not overlap.
    reading: tokio::sync::Mutex<()>,
}

impl Sources {
    pub(crate) fn watch(&self, replica: ReplicaId, source: LogSource) {
        lock(&self.known).entry(replica).or_insert(source);
    }

    fn all(&self) -> Vec<(ReplicaId, LogSource)> {
        lock(&self.known).iter().map(|(replica, source)| (*replica, source.clone())).collect()
    }
}

pub(crate) fn logs_dir(shared: &Shared, replica: ReplicaId) -> PathBuf {
    shared.config.data_dir.join("replicas").join(replica.to_string()).join("logs")
}

/// Follows all spools: at once when a supervisor rings, and by the clock.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut bell = shared.driver.bell();
    let mut tick = tokio::time::interval(Duration::from_secs(5));
    loop {
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            changed = bell.changed() => if changed.is_err() { return },
            _ = tick.tick() => {}
        }
        for (replica, source) in shared.sources.all() {
            read(&shared, replica, &source).await;
        }
    }
}

async fn read(shared: &Shared, replica: ReplicaId, source: &LogSource) {
    let _turn = shared.sources.reading.lock().await;
    if let Err(error) = shared.ops.telemetry.ingest(source, &logs_dir(shared, replica)).await {
        tracing::warn!(%error, %replica, "the output of a replica could not be stored; it stays in its spool");
    }
}

/// The last look at a replica's spool, before its folder goes away.
pub(crate) async fn finish(shared: &Shared, replica: ReplicaId) {
    let source = lock(&shared.sources.known).get(&replica).cloned();
    if let Some(source) = source {
        read(shared, replica, &source).await;
    }
    lock(&shared.sources.known).remove(&replica);
}
