//! Makes the world match the store.
//!
//! Everything here is level-triggered: a pass reads what is desired and what is there, and does what is missing. It runs when a bell
//! rings and by the clock, does nothing when all is well, and may be repeated or interrupted anywhere.

mod asleep;
mod build;
mod certificates;
mod dependencies;
mod domain_names;
mod edge_client;
mod executions;
mod health;
mod ingest;
mod meter;
mod notify;
mod observe;
mod obstacles;
mod outgoing;
mod places;
mod reconcile;
mod record;
mod replicas;
mod rounds;
mod routes;
mod shells;
mod steps;
mod sweep;
mod tidy;
mod trigger;
mod volumes;
mod watch;
mod workflow;

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use domain::spec::Limits;
use domain::{DeploymentId, EnvironmentId, InstanceId, ReplicaId, ServiceId, Timestamp, VolumeInstanceId, WorkspaceId};
use ops::Ops;
use runtime::Driver;
use tokio::sync::{Mutex, Semaphore, watch as watch_channel};
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

pub use certificates::AcmeConfig;
pub use domain_names::DnsConfig;
pub use outgoing::mail::MailConfig;
pub use outgoing::{Names, OutgoingConfig};
pub use watch::WatchConfig;
pub use workflow::worker::{NODE_WORKER, node_worker_main};

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
    /// As [`builder::BuildRequest::mirror_credentials`].
    pub build_credentials: bool,
    /// Limits of one build.
    pub build_limits: builder::BuildLimits,
    /// Limits of a replica whose service sets none.
    pub default_limits: Limits,
    /// Run builds and replicas as users of their own; needs root.
    pub separate_users: bool,
    /// A full pass at least so often.
    pub period: Duration,
    /// Messages that leave the server.
    pub outgoing: OutgoingConfig,
    /// How containers are watched.
    pub watch: WatchConfig,
    /// An app that may sleep does so when it had no request for so long.
    pub sleep_after: Duration,
    /// Who is asked about custom domains.
    pub dns: DnsConfig,
    /// Who is asked for certificates; without it, none are ordered.
    pub acme: Option<AcmeConfig>,
}

/// A running engine. Dropping it ends it as [`Engine::stop`] does, without waiting.
pub struct Engine {
    shutdown: DropGuard,
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
    pub(crate) bell: watch_channel::Sender<u64>,
    pub(crate) work: std::sync::Mutex<HashSet<Home>>,
    pub(crate) builds: std::sync::Mutex<HashMap<DeploymentId, build::Running>>,
    pub(crate) building: places::Places,
    pub(crate) service_locks: std::sync::Mutex<HashMap<InstanceId, Arc<Mutex<()>>>>,
    /// Whose turn it is to run the pre-deploy commands of a service.
    pub(crate) pre_deploys: std::sync::Mutex<HashMap<InstanceId, Arc<Mutex<()>>>>,
    pub(crate) health: health::Board,
    pub(crate) edge: edge_client::EdgeClient,
    pub(crate) certificates: certificates::Desk,
    /// Who waits for deployments of others.
    pub(crate) dependencies: dependencies::Dependencies,
    /// Replicas whose start is under way.
    pub(crate) launching: std::sync::Mutex<HashSet<ReplicaId>>,
    /// Replicas whose end is under way.
    pub(crate) ending: std::sync::Mutex<HashSet<ReplicaId>>,
    /// Starts at the same time.
    pub(crate) launches: Semaphore,
    pub(crate) sources: ingest::Sources,
    /// The one way to an address that a user chose.
    pub(crate) outgoing: outgoing::Outgoing,
    /// The way to addresses that the operator chose, wherever they are.
    pub(crate) operators: outgoing::Outgoing,
    /// Bytes of the volume that a service has and of its backups, as they were last measured.
    pub(crate) disks: std::sync::Mutex<HashMap<(EnvironmentId, ServiceId), (u64, u64)>>,
    /// Volumes that nothing may use while they are copied.
    pub(crate) held: std::sync::Mutex<HashSet<VolumeInstanceId>>,
    /// Replicas that are being started with a volume: it may be in use although nothing is seen to use it.
    pub(crate) mounting: std::sync::Mutex<HashMap<ReplicaId, (VolumeInstanceId, InstanceId)>>,
    /// Instances that have lost their volume and are not through with that.
    pub(crate) detached: std::sync::Mutex<HashSet<InstanceId>>,
    /// When instances last had to stand still.
    pub(crate) paused: std::sync::Mutex<HashMap<InstanceId, Timestamp>>,
    /// Rung when the engine has written into the audit log.
    pub(crate) told: watch_channel::Sender<u64>,
    /// Rung when there are new messages to send.
    pub(crate) mail: watch_channel::Sender<u64>,
}

/// An instance and whose it is.
pub(crate) type Home = (WorkspaceId, InstanceId);

/// Supervisors that are started at the same time; more would only slow one another down.
const LAUNCHES: usize = 8;

impl Shared {
    /// Asks for another look at an instance.
    pub(crate) fn look(&self, workspace: WorkspaceId, instance: InstanceId) {
        lock(&self.work).insert((workspace, instance));
        self.bell.send_modify(|count| *count += 1);
    }
}

impl Shared {
    /// Says that the engine has written into the audit log.
    pub(crate) fn tell(&self) {
        self.told.send_modify(|count| *count += 1);
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
        let (allow, names) = (config.outgoing.allow.clone(), config.outgoing.names.clone());
        let shared = Arc::new(Shared {
            building: places::Places::new(config.build_concurrency),
            edge: edge_client::EdgeClient::new(&config.edge_dir),
            certificates: certificates::Desk::default(),
            dependencies: dependencies::Dependencies::default(),
            launching: std::sync::Mutex::default(),
            ending: std::sync::Mutex::default(),
            launches: Semaphore::new(LAUNCHES),
            disks: std::sync::Mutex::default(),
            ops,
            driver,
            config,
            tracker: tracker.clone(),
            shutdown: shutdown.clone(),
            bell: watch_channel::Sender::new(0),
            work: std::sync::Mutex::default(),
            builds: std::sync::Mutex::default(),
            service_locks: std::sync::Mutex::default(),
            pre_deploys: std::sync::Mutex::default(),
            health: health::Board::default(),
            sources: ingest::Sources::default(),
            outgoing: outgoing::Outgoing::new(allow).named_by(names),
            operators: outgoing::Outgoing::new(outgoing::everywhere()),
            held: std::sync::Mutex::default(),
            mounting: std::sync::Mutex::default(),
            detached: std::sync::Mutex::default(),
            paused: std::sync::Mutex::default(),
            told: watch_channel::Sender::new(0),
            mail: watch_channel::Sender::new(0),
        });
        tracker.spawn(ingest::run(shared.clone()));
        tracker.spawn(ingest::run_requests(shared.clone()));
        tracker.spawn(meter::run(shared.clone()));
        tracker.spawn(sweep::run(shared.clone()));
        tracker.spawn(outgoing::post::run(shared.clone()));
        tracker.spawn(outgoing::trial::run(shared.clone(), shared.ops.webhooks.requests()));
        tracker.spawn(volumes::run(shared.clone()));
        tracker.spawn(volumes::gauge(shared.clone()));
        tracker.spawn(notify::run(shared.clone()));
        tracker.spawn(trigger::run(shared.clone()));
        tracker.spawn(watch::run(shared.clone()));
        tracker.spawn(domain_names::run(shared.clone()));
        tracker.spawn(certificates::run(shared.clone()));
        tracker.spawn(certificates::run_orders(shared.clone()));
        tracker.spawn(asleep::run(shared.clone()));
        tracker.spawn(dependencies::run(shared.clone()));
        tracker.spawn(shells::run(shared.clone()));
        tracker.spawn(workflow::run(shared.clone()));
        tracker.spawn(workflow::starts::run(shared.clone()));
        let main = tokio::spawn(reconcile::run(shared));
        Self { shutdown: shutdown.drop_guard(), main, tracker }
    }

    /// Ends the background tasks. Replicas and the edge go on; builds are ended and begin anew with the next start.
    pub async fn stop(self) {
        drop(self.shutdown);
        if let Err(error) = self.main.await {
            tracing::error!(%error, "the reconciler ended abnormally");
        }
        self.tracker.close();
        self.tracker.wait().await;
    }
}
