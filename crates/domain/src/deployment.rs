//! Deployments, their steps and their replicas.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::activity::Actor;
use crate::log::{LogKind, LogSource};
use crate::spec::{InstanceSpec, RunPlan};
use crate::{DeploymentId, EnvironmentId, EventId, InstanceId, ProjectId, ReplicaId, ServiceId, SnapshotId, WorkspaceId};

macro_rules! wire_enum {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $text)] $variant),+ }

        impl $name {
            /// Every value.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];

            /// As stored and as on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str { match self { $(Self::$variant => $text),+ } }

            /// Reads a stored value.
            #[must_use]
            pub fn parse(text: &str) -> Option<Self> { match text { $($text => Some(Self::$variant),)+ _ => None } }
        }
    };
}

wire_enum! {
    /// Where a deployment stands (`contracts/railway.md` 3.2).
    DeploymentStatus {
        /// The source has arrived.
        Initializing = "INITIALIZING",
        /// Waits for a place in the builder.
        Queued = "QUEUED",
        /// Waits for checks elsewhere.
        Waiting = "WAITING",
        /// Waits for an admin, in a protected environment.
        NeedsApproval = "NEEDS_APPROVAL",
        /// The artifact is being made.
        Building = "BUILDING",
        /// Replicas start and are checked.
        Deploying = "DEPLOYING",
        /// It serves, or has completed.
        Success = "SUCCESS",
        /// Idle; a request wakes it.
        Sleeping = "SLEEPING",
        /// Never became healthy, or was not built.
        Failed = "FAILED",
        /// Its app ended and the restarts are used up.
        Crashed = "CRASHED",
        /// Not built, on purpose.
        Skipped = "SKIPPED",
        /// Its replicas drain.
        Removing = "REMOVING",
        /// Nothing of it runs.
        Removed = "REMOVED",
    }
}

impl DeploymentStatus {
    /// Nothing will happen to it any more by itself.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Failed | Self::Skipped | Self::Removed)
    }

    /// Not decided yet: what a cancel stops.
    #[must_use]
    pub fn is_pending(self) -> bool {
        matches!(self, Self::Initializing | Self::Queued | Self::Waiting | Self::NeedsApproval | Self::Building | Self::Deploying)
    }

    /// It may have replicas.
    #[must_use]
    pub fn is_live(self) -> bool {
        matches!(self, Self::Deploying | Self::Success | Self::Sleeping | Self::Crashed | Self::Removing)
    }
}

wire_enum! {
    /// Where a replica stands (`contracts/railway.md` 3.2).
    ReplicaStatus {
        /// Planned.
        Created = "CREATED",
        /// Its process runs; it is not healthy yet.
        Initializing = "INITIALIZING",
        /// Healthy.
        Running = "RUNNING",
        /// Its app ended and will be started again.
        Restarting = "RESTARTING",
        /// Its app ended with an error and will not be started again.
        Crashed = "CRASHED",
        /// Its app ended well.
        Exited = "EXITED",
        /// It was stopped on request.
        Stopped = "STOPPED",
        /// It drains.
        Removing = "REMOVING",
        /// Gone.
        Removed = "REMOVED",
    }
}

impl ReplicaStatus {
    /// A process may exist for it.
    #[must_use]
    pub fn is_live(self) -> bool {
        matches!(self, Self::Created | Self::Initializing | Self::Running | Self::Restarting | Self::Removing)
    }
}

wire_enum! {
    /// Where a run of a service with a schedule stands: those of `DeploymentInstanceStatus` that a run has.
    ExecutionStatus {
        /// Its time has come, or somebody has asked for it.
        Created = "CREATED",
        /// Its replica was started.
        Running = "RUNNING",
        /// Its command ended well.
        Exited = "EXITED",
        /// Its command ended with an error and the restarts are used up.
        Crashed = "CRASHED",
        /// It was ended, or never began, because its deployment was stopped or replaced.
        Removed = "REMOVED",
        /// The run before it had not ended.
        Skipped = "SKIPPED",
    }
}

wire_enum! {
    /// A step as `deploymentEvents` names it.
    EventStep {
        /// The upload is unpacked and checked.
        SnapshotCode = "SNAPSHOT_CODE",
        /// The artifact is made.
        BuildImage = "BUILD_IMAGE",
        /// The artifact is stored.
        PublishImage = "PUBLISH_IMAGE",
        /// The user's commands before the start.
        PreDeployCommand = "PRE_DEPLOY_COMMAND",
        /// Replicas are started.
        CreateContainer = "CREATE_CONTAINER",
        /// Replicas are asked for their health.
        Healthcheck = "HEALTHCHECK",
        /// Traffic is switched.
        ConfigureNetwork = "CONFIGURE_NETWORK",
        /// The previous deployment drains.
        DrainInstances = "DRAIN_INSTANCES",
        /// Other services of the same batch come first, or an admin's approval.
        WaitForDependencies = "WAIT_FOR_DEPENDENCIES",
    }
}

wire_enum! {
    /// Why a deployment was made.
    DeployReason {
        /// New source.
        Deploy = "deploy",
        /// The same artifact with today's configuration.
        Redeploy = "redeploy",
        /// An earlier deployment, artifact and configuration.
        Rollback = "rollback",
    }
}

/// One rollout of one artifact with one frozen configuration.
#[derive(Clone, Debug, PartialEq)]
pub struct Deployment {
    /// Identity.
    pub id: DeploymentId,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// The project.
    pub project_id: ProjectId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// The service.
    pub service_id: ServiceId,
    /// The instance.
    pub instance_id: InstanceId,
    /// The source; shared by redeploys of the same upload. Build logs are filed under it.
    pub snapshot_id: SnapshotId,
    /// Where it stands.
    pub status: DeploymentStatus,
    /// Why it failed, crashed or was skipped, or why its build is tried again, in words for the user.
    pub status_reason: Option<String>,
    /// When the status last changed.
    pub status_at: Timestamp,
    /// Raised by a restart; replicas of an older generation are replaced.
    pub generation: i64,
    /// Someone asked it to stop without removing it, or ended it while it waited for an approval, or all its replicas ended well.
    pub stopped: bool,
    /// Why it was made.
    pub reason: DeployReason,
    /// The settings it was made with.
    pub spec: InstanceSpec,
    /// The uploaded archive (SHA-256, hex), when there is one to build.
    pub source_blob: Option<String>,
    /// The built artifact, once there is one.
    pub artifact: Option<String>,
    /// How the artifact starts, once built.
    pub run: Option<RunPlan>,
    /// Deployments of the same batch that its variables refer to: its replicas start when these are decided.
    pub waits_for: Vec<DeploymentId>,
    /// What the client said about it (`railway up -m`).
    pub message: Option<String>,
    /// Who made it.
    pub creator: Actor,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}

impl Deployment {
    /// It was ended while it waited for an approval. Unlike one that could not be built, its source does not come back by itself.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        self.status == DeploymentStatus::Failed && self.stopped
    }

    /// Where its lines come from.
    #[must_use]
    pub fn log_source(&self, replica_id: Option<ReplicaId>, kind: LogKind) -> LogSource {
        LogSource {
            workspace_id: self.workspace_id,
            project_id: self.project_id,
            environment_id: self.environment_id,
            service_id: self.service_id,
            deployment_id: self.id,
            snapshot_id: self.snapshot_id,
            replica_id,
            kind,
        }
    }
}

/// A step of a deployment as users see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeploymentEvent {
    /// Identity.
    pub id: EventId,
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// What it is about.
    pub step: EventStep,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Why it failed.
    pub error: Option<String>,
    /// Details in words.
    pub detail: Option<String>,
}

/// A running copy of a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    /// Identity.
    pub id: ReplicaId,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// The deployment's generation that it belongs to.
    pub generation: i64,
    /// Its place, from 0.
    pub index: u32,
    /// Where it stands.
    pub status: ReplicaStatus,
    /// The loopback port that its app was told to listen on; 0 until it is started.
    pub port: u16,
    /// The last exit status of its app.
    pub exit_code: Option<i32>,
    /// Why it ended, in words for the user.
    pub reason: Option<String>,
    /// How often its app was started again.
    pub restarts: u32,
    /// When it was planned.
    pub created_at: Timestamp,
    /// Last change, but for `unhealthy_since`.
    pub updated_at: Timestamp,
    /// Since when it answers nobody although it runs (`contracts/galaxy.md` 3.11).
    pub unhealthy_since: Option<Timestamp>,
}

impl Replica {
    /// It is not known to answer nobody.
    #[must_use]
    pub fn answers(&self) -> bool {
        self.unhealthy_since.is_none()
    }

    /// It is healthy, and answers.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.status == ReplicaStatus::Running && self.answers()
    }
}

/// One run of a service with a schedule (`DeploymentInstanceExecution` in `contracts/railway-schema.graphql`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Execution {
    /// Identity; the replica that carries it out has the same.
    pub id: ReplicaId,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// The instance.
    pub instance_id: InstanceId,
    /// The deployment whose command runs.
    pub deployment_id: DeploymentId,
    /// The time of the schedule that it belongs to; `None` when somebody asked for it.
    pub due_at: Option<Timestamp>,
    /// Where it stands.
    pub status: ExecutionStatus,
    /// The exit status of its command.
    pub exit_code: Option<i32>,
    /// Why it ended as it did, in words for the user.
    pub reason: Option<String>,
    /// When its time came, or somebody asked for it.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
}

impl Execution {
    /// The run as it ends. `replica` is what is left of it; `None` when it never began or is gone.
    #[must_use]
    pub fn ended(&self, replica: Option<&Replica>, at: Timestamp) -> Self {
        let removed = || Some("its deployment was stopped or replaced".to_owned());
        let (status, reason) = match replica.map(|replica| (replica.status, replica.reason.clone())) {
            Some((ReplicaStatus::Exited, _)) => (ExecutionStatus::Exited, None),
            Some((ReplicaStatus::Crashed, reason)) => (ExecutionStatus::Crashed, reason),
            Some((ReplicaStatus::Removing | ReplicaStatus::Removed | ReplicaStatus::Stopped, reason)) => {
                (ExecutionStatus::Removed, reason.or_else(removed))
            }
            // The machine was restarted, or somebody has killed its supervisor.
            Some(_) => (ExecutionStatus::Crashed, Some("its supervisor ended".to_owned())),
            None => (ExecutionStatus::Removed, removed()),
        };
        let exit_code = replica.and_then(|replica| replica.exit_code);
        Self { status, exit_code, reason, updated_at: at, completed_at: Some(at), ..self.clone() }
    }
}
