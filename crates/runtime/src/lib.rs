//! Keeps replicas alive: the [`Driver`] interface, its drivers [`process`] and [`sim`], the supervisor of one replica ([`shim_main`])
//! and the [`sandbox`] in which users' commands run.
//!
//! Nothing here knows the database. A driver's truth is the folder of each replica, so it can be dropped and made anew at any time.

mod cgroup;
mod folder;
mod launch;
mod proc;
pub mod process;
pub mod sandbox;
mod shell;
mod shim;
pub mod sim;
pub mod tree;

use std::collections::BTreeMap;
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use domain::log::LogSource;
use domain::shell::ShellSpec;
use domain::spec::{Limits, RestartPolicy, RunPlan};
use domain::{ReplicaId, Timestamp};
use serde::{Deserialize, Serialize};

pub use cgroup::leave_service;
pub use launch::{SUBCOMMAND as LAUNCH, find as find_server, launch_main};
pub use proc::port_owner;
pub use sandbox::UnixUser;
pub use shell::{Shell, ShellOutput};
pub use shim::shim_main;

/// What an `async fn` of [`Driver`] returns.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Starts, observes and ends replicas.
pub trait Driver: Send + Sync {
    /// Starts a replica and returns when its supervisor has taken over. Repeating it for the same replica changes nothing.
    fn start(&self, spec: ReplicaSpec) -> BoxFuture<'_, Result<(), DriverError>>;

    /// Asks the replica to end: SIGTERM now, SIGKILL after `grace`. Returns at once; repeating it can only shorten the grace.
    fn stop(&self, replica: ReplicaId, grace: Duration) -> BoxFuture<'_, Result<(), DriverError>>;

    /// Every replica that has been started and not been forgotten.
    fn observe(&self) -> BoxFuture<'_, Result<Vec<Observation>, DriverError>>;

    /// What the apps of these replicas have used. Replicas whose app does not run, or of which the machine does not tell, are left out.
    /// Cheap enough to be asked every few seconds.
    fn usage<'a>(&'a self, replicas: &'a [ReplicaId]) -> BoxFuture<'a, Vec<(ReplicaId, ReplicaUsage)>>;

    /// Starts a program that a person has named beside a replica's app, confined as the app is. It ends with the app at the latest.
    fn shell(&self, replica: ReplicaId, spec: ShellSpec) -> BoxFuture<'_, Result<Shell, DriverError>>;

    /// Deletes what is left of a replica that has ended. Forgetting an unknown replica is no error; a live one is refused.
    fn forget(&self, replica: ReplicaId) -> BoxFuture<'_, Result<(), DriverError>>;

    /// Changes whenever some replica's state or output has changed. Rings may be joined or, rarely, lost.
    fn bell(&self) -> tokio::sync::watch::Receiver<u64>;
}

/// What a replica is made of. Persisted in a 0600 file, because the environment holds secrets.
#[derive(Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaSpec {
    /// Which.
    pub replica_id: ReplicaId,
    /// Where its output belongs.
    pub source: LogSource,
    /// The artifact's folder, an absolute path.
    pub root: PathBuf,
    /// What runs.
    pub run: RunPlan,
    /// The rendered variables. `PORT` is set by the driver.
    pub env: BTreeMap<String, String>,
    /// Values that are redacted in what it prints, whatever their names.
    #[serde(default)]
    pub sealed: Vec<String>,
    /// The loopback port that the app shall listen on; 0 lets the driver choose.
    pub port: u16,
    /// When it is started again.
    pub restart: RestartPolicy,
    /// Restarts after failures before it counts as crashed. [`RestartPolicy::Always`] has no such limit.
    pub max_retries: u32,
    /// Seconds between SIGTERM and SIGKILL, when [`Driver::stop`] did not say.
    pub draining_seconds: u32,
    /// Memory and CPU.
    pub limits: Limits,
    /// Whom it runs as; `None` is Orrery's own user.
    pub user: Option<UnixUser>,
    /// Its volume.
    #[serde(default)]
    pub volume: Option<VolumeMount>,
}

/// A folder that outlives replicas.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeMount {
    /// Where its files are; it belongs to the replica's user.
    pub source: PathBuf,
    /// Where the app sees them, if the driver can show them there; `RAILWAY_VOLUME_MOUNT_PATH` tells the app.
    pub path: PathBuf,
}

impl std::fmt::Debug for ReplicaSpec {
    /// Leaves out the values of the environment, which are secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReplicaSpec")
            .field("replica_id", &self.replica_id)
            .field("root", &self.root)
            .field("port", &self.port)
            .field("restart", &self.restart)
            .field("limits", &self.limits)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// What a driver sees of a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Observation {
    /// Which.
    pub replica_id: ReplicaId,
    /// The loopback port that it was given.
    pub port: u16,
    /// What it does.
    pub phase: ObservedPhase,
    /// How often its app was started again.
    pub restarts: u32,
    /// The app's process, while there is one and the machine tells.
    pub app_pid: Option<u32>,
    /// Since when it is in this phase.
    pub since: Timestamp,
    /// The folder of the volume that it was started with, until it is over.
    pub volume: Option<PathBuf>,
}

/// What a replica has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReplicaUsage {
    /// CPU time since some moment that stays the same while its app runs, in nanoseconds. It may fall when the app is started again.
    pub cpu_nanos: u64,
    /// Memory that it holds now and that could not be taken back without writing to disk, in bytes.
    pub memory_bytes: u64,
    /// What it has written to its own, passing file system, in bytes on disk.
    pub ephemeral_disk_bytes: u64,
}

/// What a replica does. Persisted in the supervisor's state file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "phase", rename_all = "camelCase")]
pub enum ObservedPhase {
    /// Its app runs. Whether it answers is for others to find out.
    Running,
    /// Its app has ended and will be started again after a pause.
    Restarting,
    /// Its app ended well and shall not be started again.
    Exited,
    /// Its app ended with an error and will not be started again.
    Crashed {
        /// Its exit status.
        code: Option<i32>,
        /// The signal that ended it.
        signal: Option<i32>,
        /// What happened, in words for the user.
        reason: String,
    },
    /// It was asked to stop and has not ended yet.
    Stopping,
    /// It ended because it was asked to.
    Stopped,
    /// Its supervisor is gone, and the app with it.
    Lost,
}

impl ObservedPhase {
    /// Nothing happens any more: the replica can be forgotten.
    #[must_use]
    pub fn is_over(&self) -> bool {
        match self {
            Self::Running | Self::Restarting | Self::Stopping => false,
            Self::Exited | Self::Crashed { .. } | Self::Stopped | Self::Lost => true,
        }
    }
}

/// Why a driver could not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// The artifact's folder is not there.
    #[error("the artifact in {path} cannot be used: deploy the source again")]
    Artifact {
        /// Where it should be.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The driver's own files.
    #[error("{path} cannot be used: check the free space and the permissions of the data directory")]
    Storage {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The supervisor's program did not run.
    #[error("the supervisor {exe} cannot be started: is the program still in its place?")]
    Spawn {
        /// The program.
        exe: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The supervisor ended before it took over.
    #[error("the replica's supervisor gave up: {0}")]
    Supervisor(String),
    /// Its app does not run, so that nothing can be started beside it.
    #[error("the app of replica {0} does not run just now: try again when it does")]
    NotRunning(ReplicaId),
    /// A program beside an app.
    #[error("nothing can be started beside the app: {0}")]
    Shell(io::Error),
    /// Every port is taken.
    #[error("no port from {} to {} is free: remove deployments, or stop what else listens there", .0.start(), .0.end())]
    NoPort(RangeInclusive<u16>),
    /// It cannot be forgotten yet.
    #[error("replica {0} has not ended: stop it first")]
    Alive(ReplicaId),
    /// A fault that the simulator was told to make.
    #[error("{0}")]
    Simulated(String),
}
