use std::collections::BTreeSet;
use std::sync::Mutex;

use domain::{DeploymentId, InstanceId, RunId, WorkspaceId};
use tokio::sync::{broadcast, watch};

/// The bell between verbs and the engine, and from both to subscribers. A lost ring costs time, never correctness: the engine also
/// looks by the clock, and subscribers read the store when they have lagged.
pub struct Signals {
    dirty: Mutex<BTreeSet<(WorkspaceId, InstanceId)>>,
    work: watch::Sender<u64>,
    volumes: watch::Sender<u64>,
    changes: broadcast::Sender<Change>,
    runs: watch::Sender<u64>,
    canceled: broadcast::Sender<RunId>,
}

/// Something that subscribers may be waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// A deployment's row, its events or its replicas.
    Deployment(DeploymentId),
    /// Some deployments are gone, with the project, environment or service that they were in.
    DeploymentsDeleted,
}

impl Default for Signals {
    fn default() -> Self {
        Self {
            dirty: Mutex::default(),
            work: watch::Sender::new(0),
            volumes: watch::Sender::new(0),
            changes: broadcast::Sender::new(1024),
            runs: watch::Sender::new(0),
            canceled: broadcast::Sender::new(1024),
        }
    }
}

impl Signals {
    /// Asks the engine to look at an instance.
    pub fn wake(&self, workspace: WorkspaceId, instance: InstanceId) {
        self.dirty.lock().unwrap_or_else(std::sync::PoisonError::into_inner).insert((workspace, instance));
        self.ring();
    }

    /// Asks the engine to look at everything that may concern routes and clean-up.
    pub fn ring(&self) {
        self.work.send_modify(|count| *count += 1);
    }

    /// Asks the engine to look at what is to be copied of volumes.
    pub fn ring_volumes(&self) {
        self.volumes.send_modify(|count| *count += 1);
    }

    /// Changes whenever a copy of a volume is asked for.
    pub fn volumes(&self) -> watch::Receiver<u64> {
        self.volumes.subscribe()
    }

    /// The instances that asked for attention since the last call.
    pub fn take(&self) -> Vec<(WorkspaceId, InstanceId)> {
        std::mem::take(&mut *self.dirty.lock().unwrap_or_else(std::sync::PoisonError::into_inner)).into_iter().collect()
    }

    /// Changes whenever someone rings.
    pub fn work(&self) -> watch::Receiver<u64> {
        self.work.subscribe()
    }

    /// Tells the engine that a run waits for its turn, and whoever waits for one that something has become of it.
    pub fn ring_runs(&self) {
        self.runs.send_modify(|count| *count += 1);
    }

    /// Changes whenever a run is new or over.
    pub fn runs(&self) -> watch::Receiver<u64> {
        self.runs.subscribe()
    }

    /// Tells the engine that somebody has stopped a run.
    pub fn run_canceled(&self, run: RunId) {
        // No receiver is no error: the engine runs elsewhere, and finds that it holds the run no longer.
        let _ = self.canceled.send(run);
    }

    /// Runs that are stopped from now on.
    pub fn canceled_runs(&self) -> broadcast::Receiver<RunId> {
        self.canceled.subscribe()
    }

    /// Tells subscribers that a deployment has changed.
    pub fn deployment_changed(&self, deployment: DeploymentId) {
        // No receiver is no error: nobody is watching.
        let _ = self.changes.send(Change::Deployment(deployment));
    }

    /// Tells subscribers that something was deleted which deployments may have been in: whoever watches one looks whether it is there.
    pub fn deployments_deleted(&self) {
        // As above.
        let _ = self.changes.send(Change::DeploymentsDeleted);
    }

    /// All changes from now on.
    pub fn changes(&self) -> broadcast::Receiver<Change> {
        self.changes.subscribe()
    }
}
