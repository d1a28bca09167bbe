//! Brings the output of replicas from their spool files into the log store.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::ReplicaId;
use domain::log::LogSource;
use domain::spec::Limits;

use crate::{Shared, lock, rounds};

/// Lines of apps wait at most so long because others are read.
const LONGEST_PAUSE: Duration = Duration::from_millis(500);

/// Requests wait at most so long.
const REQUESTS_EVERY: Duration = Duration::from_millis(500);

/// The replicas whose spools are read.
#[derive(Default)]
pub(crate) struct Sources {
    known: Mutex<HashMap<ReplicaId, (LogSource, Limits)>>,
    /// One reader at a time: the loop and the last look before a folder goes away must not overlap.
    reading: tokio::sync::Mutex<()>,
}

impl Sources {
    pub(crate) fn watch(&self, replica: ReplicaId, source: LogSource, limits: Limits) {
        lock(&self.known).entry(replica).or_insert((source, limits));
    }

    /// The replicas that are measured, with what they may use.
    pub(crate) fn measured(&self) -> HashMap<ReplicaId, (LogSource, Limits)> {
        lock(&self.known).clone()
    }

    pub(crate) fn drop_known(&self, replica: ReplicaId) {
        lock(&self.known).remove(&replica);
    }

    fn all(&self) -> Vec<(ReplicaId, LogSource)> {
        lock(&self.known).iter().map(|(replica, (source, _))| (*replica, source.clone())).collect()
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
        let begun = tokio::time::Instant::now();
        for (replica, source) in shared.sources.all() {
            // What is still in a spool is read by the next control plane.
            tokio::select! {
                () = shared.shutdown.cancelled() => return,
                () = read(&shared, replica, &source) => {}
            }
        }
        // A ring names no replica, so each round looks at all of them; however many there are, and however often supervisors ring, the
        // rounds take a fifth of the time.
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            () = tokio::time::sleep((begun.elapsed() * 4).min(LONGEST_PAUSE)) => {}
        }
    }
}

/// Follows the request log of the edge, which rings nobody.
pub(crate) async fn run_requests(shared: Arc<Shared>) {
    let dir = shared.config.edge_dir.join("log");
    let problem = "requests could not be stored; they stay in the edge's log";
    let ingest = || shared.ops.telemetry.ingest_requests(&shared.ops.settings.region, &dir);
    rounds::by_clock(&shared, REQUESTS_EVERY, problem, ingest).await;
}

async fn read(shared: &Shared, replica: ReplicaId, source: &LogSource) {
    let _turn = shared.sources.reading.lock().await;
    if let Err(error) = shared.ops.telemetry.ingest(source, &logs_dir(shared, replica)).await {
        tracing::warn!(%error, %replica, "the output of a replica could not be stored; it stays in its spool");
    }
}

/// The last look at the spool of a replica whose app has ended, and again before its folder goes away.
pub(crate) async fn finish(shared: &Shared, replica: ReplicaId, source: &LogSource) {
    read(shared, replica, source).await;
    shared.sources.drop_known(replica);
}
