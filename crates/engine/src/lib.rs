//! Makes the world match the store.
//!
//! Everything here is level-triggered: a pass reads what is desired and what is there, and does what is missing. It runs when a bell
//! rings and by the clock, does nothing when all is well, and may be repeated or interrupted anywhere.

mod build;
mod edge_client;
mod health;
mod ingest;
mod observe;
mod reconcile;
mod routes;
mod sweep;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::spec::Limits;
use domain::{DeploymentId, InstanceId, WorkspaceId};
use ops::Ops;
use runtime::Driver;
use tokio::sync::{Mutex, Semaphore, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Settings of the engine.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Holds artifacts, caches and scratch space.
    pub data_dir: PathBuf,
    /// Holds the edge's table and its control socket.
    pub edge_dir: PathBuf,
    /// Holds uploads by their hash.
    pub blobs: PathBuf,
    /// Builds at the same time.
    pub build_concurrency: usize,
    /// Limits of one build.
    pub build_limits: builder::BuildLimits,
    /// Limits of a replica whose service sets none.
    pub default_limits: Limits,
    /// Run builds and replicas as users of their own; needs root.
    pub separate_users: bool,
    /// A full pass at least so often.
    pub period: Duration,
}

/// A running engine.
pub struct Engine {
    shutdown: CancellationToken,
    main: JoinHandle<()>,
    tracker: TaskTracker,
}

/// What the tasks of an engine share.
pub(crate) struct Shared {
    pub(crate) ops: Arc<Ops>,
    pub(crate) driver: Arc<dyn Driver>,
    pub(crate) config: EngineConfig,
    pub(crate) tracker: TaskTracker,
    pub(crate) shutdown: CancellationToken,
    /// Rung by the engine's own tasks (a build has ended, a replica is healthy).
    pub(crate) bell: watch::Sender<u64>,
    pub(crate) work: std::sync::Mutex<Vec<(WorkspaceId, InstanceId)>>,
    pub(crate) builds: std::sync::Mutex<HashMap<DeploymentId, CancellationToken>>,
    pub(crate) building: Semaphore,
    pub(crate) service_locks: Mutex<HashMap<InstanceId, Arc<Mutex<()>>>>,
    pub(crate) health: health::Board,
    pub(crate) routes: Mutex<routes::Routes>,
    pub(crate) sources: ingest::Sources,
}

impl Shared {
    /// Asks for another look at an instance.
    pub(crate) fn look(&self, workspace: WorkspaceId, instance: InstanceId) {
        lock(&self.work).push((workspace, instance));
        self.bell.send_modify(|count| *count += 1);
    }
}

/// A poisoned lock only says that some task panicked; the maps behind these stay usable.
pub(crate) fn lock<T>(mutex: &std::sync::Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Engine {
    /// Starts the background tasks.
    #[must_use]
    pub fn start(ops: Arc<Ops>, driver: Arc<dyn Driver>, config: EngineConfig) -> Self {
        let shutdown = CancellationToken::new();
        let tracker = TaskTracker::new();
        let shared = Arc::new(Shared {
            building: Semaphore::new(config.build_concurrency.max(1)),
            routes: Mutex::new(routes::Routes::new(&config.edge_dir)),
            ops,
            driver,
            config,
            tracker: tracker.clone(),
            shutdown: shutdown.clone(),
            bell: watch::Sender::new(0),
            work: std::sync::Mutex::default(),
            builds: std::sync::Mutex::default(),
            service_locks: Mutex::default(),
            health: health::Board::default(),
            sources: ingest::Sources::default(),
        });
        tracker.spawn(ingest::run(shared.clone()));
        tracker.spawn(sweep::run(shared.clone()));
        let main = tokio::spawn(reconcile::run(shared));
        Self { shutdown, main, tracker }
    }

    /// Ends the background tasks. Replicas and the edge go on; builds are ended and begin anew with the next start.
    pub async fn stop(self) {
        self.shutdown.cancel();
        if let Err(error) = self.main.await {
            tracing::error!(%error, "the reconciler ended abnormally");
        }
        self.tracker.close();
        self.tracker.wait().await;
    }
}
