//! What a commit can do.

mod kind;

use std::collections::BTreeMap;

use domain::account::{Invite, Workspace};
use domain::activity::Activity;
use domain::delivery::{Delivery, DeliveryAttempt, DeliveryState};
use domain::deployment::{Deployment, DeploymentEvent, DeploymentStatus, EventStep, Execution, Replica};
use domain::key::ApiKey;
use domain::project::{Domain, Environment, EnvironmentPatch, Instance, Project, Service};
use domain::spec::{InstanceSpec, RunPlan};
use domain::tcp_proxy::TcpProxy;
use domain::trigger::{Trigger, TriggerRun};
use domain::variable::Variable;
use domain::volume::{Backup, BackupKind, BackupState, Volume, VolumeInstance, VolumeState};
use domain::{
    ActivityId, ApiKeyId, BackupId, DeliveryId, DeploymentId, DomainId, EnvironmentId, EnvironmentPatchId, InstanceId, ProjectId,
    ReplicaId, Role, ServiceId, TcpProxyId, Tenant, Timestamp, TriggerId, UserId, VolumeId, VolumeInstanceId, WorkspaceId,
};

use crate::{AccountChange, CertificateChange, NotificationChange, RunChange, WorkflowChange};

/// One change to the rows of a workspace. Rows are written as they are; an update leaves identity, parents and creation time alone.
/// An update or deletion that finds no row fails the commit as [`crate::StoreError::Stale`].
#[derive(Clone)]
#[expect(clippy::large_enum_variant, reason = "a commit holds a handful of changes; boxing would burden each place that makes one")]
pub enum Change {
    /// A new project.
    ProjectInsert(Project),
    /// Name, description, deletion mark, if nobody has changed it since this time of its last change was read.
    ProjectUpdate(Project, Timestamp),
    /// The project with everything in it.
    ProjectDelete(ProjectId),
    /// A new environment.
    EnvironmentInsert(Environment),
    /// Name, ephemerality.
    EnvironmentUpdate(Environment),
    /// Whether deployments there wait for an approval, and when that was said. A renaming leaves it alone.
    EnvironmentProtect(EnvironmentId, bool, Timestamp),
    /// The commit rests on what was read of the environment at this revision: nothing that does so, too, has come in between.
    EnvironmentRevise(EnvironmentId, i64),
    /// The environment with everything in it. The last one of its project stays: that is [`crate::StoreError::Stale`].
    EnvironmentDelete(EnvironmentId),
    /// A change of an environment's document: staged, or as it is being applied.
    EnvironmentPatchInsert(EnvironmentPatch),
    /// A staged change.
    EnvironmentPatchDelete(EnvironmentPatchId),
    /// A new service.
    ServiceInsert(Service),
    /// Name, icon.
    ServiceUpdate(Service),
    /// The service with everything of it in every environment.
    ServiceDelete(ServiceId),
    /// A new instance. Its number is assigned; see [`crate::Committed::numbers`].
    InstanceInsert(Instance),
    /// The settings, if nobody has changed them since they were read.
    InstanceUpdate {
        /// As it will be.
        row: Instance,
        /// The time of the last change that was read.
        seen: Timestamp,
    },
    /// The instance with its deployments and domains.
    InstanceDelete(InstanceId),
    /// A new domain of an existing instance.
    DomainInsert(Domain),
    /// Name and port; what DNS says of it is not touched.
    DomainUpdate(Domain),
    /// What DNS says of a custom domain that is not verified yet.
    DomainChecked {
        /// Which.
        id: DomainId,
        /// Where it leads.
        value: Option<String>,
        /// Its owner has proved it.
        verified: bool,
        /// When DNS was asked.
        at: Timestamp,
    },
    /// Whether whoever asks a domain without TLS is sent there.
    DomainHttps {
        /// Which.
        id: DomainId,
        /// Whether.
        force: bool,
        /// When.
        at: Timestamp,
    },
    /// A domain.
    DomainDelete(DomainId),
    /// A custom domain that nobody has proved.
    DomainLapse(DomainId),
    /// Something about a domain's certificate.
    Certificate(CertificateChange),
    /// A variable, new or with another value.
    VariableSet(Variable),
    /// One variable.
    VariableDelete {
        /// Where.
        environment: EnvironmentId,
        /// Whose; `None` for a shared one.
        service: Option<ServiceId>,
        /// Which.
        name: String,
    },
    /// All variables of a service in an environment, or all shared ones. There may be none.
    VariablesClear {
        /// Where.
        environment: EnvironmentId,
        /// Whose; `None` for the shared ones.
        service: Option<ServiceId>,
    },
    /// A new deployment with the variables that it runs with.
    DeploymentInsert {
        /// The deployment.
        deployment: Deployment,
        /// Its rendered variables.
        variables: BTreeMap<String, String>,
    },
    /// A change of state, if the state is still `from`.
    DeploymentMove {
        /// Which.
        id: DeploymentId,
        /// The state that it must be in.
        from: DeploymentStatus,
        /// The state that it goes to.
        to: DeploymentStatus,
        /// Why, in words for the user.
        reason: Option<String>,
        /// When.
        at: Timestamp,
    },
    /// The result of a build.
    DeploymentBuilt {
        /// Which.
        id: DeploymentId,
        /// The artifact.
        artifact: String,
        /// How it starts.
        run: RunPlan,
        /// The settings, with what the source's own configuration says.
        spec: InstanceSpec,
        /// When.
        at: Timestamp,
    },
    /// Its replicas shall end while it stays, or no longer.
    DeploymentStopped {
        /// Which.
        id: DeploymentId,
        /// Whether.
        stopped: bool,
        /// The state and the generation that it must be in, if that matters.
        of: Option<(DeploymentStatus, i64)>,
        /// When.
        at: Timestamp,
    },
    /// The next generation of replicas, if the state is still `from`.
    DeploymentRestart {
        /// Which.
        id: DeploymentId,
        /// The state that it must be in.
        from: DeploymentStatus,
        /// When.
        at: Timestamp,
    },
    /// A step begins.
    EventInsert(DeploymentEvent),
    /// The newest open step of this kind ends.
    EventComplete {
        /// Of which deployment.
        deployment: DeploymentId,
        /// Which kind.
        step: EventStep,
        /// When.
        at: Timestamp,
        /// Why it failed.
        error: Option<String>,
        /// Details; `None` keeps what is there.
        detail: Option<String>,
    },
    /// A new replica.
    ReplicaInsert(Replica),
    /// Status, port, end, restarts. What was told to end is not taken back by someone who did not know.
    ReplicaUpdate(Replica),
    /// A replica is told to end, if none has told it so and it has not ended by itself.
    ReplicaEnd {
        /// Which.
        id: ReplicaId,
        /// Why, in words for the user.
        reason: String,
        /// When.
        at: Timestamp,
    },
    /// Since when a replica that runs answers nobody; `None` when it answers again.
    ReplicaHealth(ReplicaId, Option<Timestamp>),
    /// A new run of a service with a schedule. What is not deployed (any more) is not run: that is [`crate::StoreError::Stale`].
    ExecutionInsert(Execution),
    /// Status and end of a run that has not ended.
    ExecutionUpdate(Execution),
    /// An entry of the audit log.
    Activity(Activity),
    /// What an entry of the audit log tells, when it counts what goes on.
    ActivityUpdate {
        /// Which.
        id: ActivityId,
        /// In place of what it told.
        data: serde_json::Value,
    },
    /// Notifications have been made of these entries, and had not been of any of them.
    ActivitiesNoticed(Vec<ActivityId>),
    /// A new message that leaves the server. That of a rule which is gone is left out.
    DeliveryInsert(Delivery),
    /// An attempt begins, if `attempts` have been made and it is pending. It counts as lost when its end is not told by `until`.
    DeliveryClaim {
        /// Which.
        id: DeliveryId,
        /// Attempts before this one.
        attempts: u32,
        /// When.
        at: Timestamp,
        /// When it may be tried again in any case.
        until: Timestamp,
    },
    /// The claimed attempt has ended.
    DeliveryDone {
        /// How.
        attempt: DeliveryAttempt,
        /// What becomes of the message.
        state: DeliveryState,
        /// When.
        at: Timestamp,
        /// When it is tried next, if it is pending.
        next: Timestamp,
    },
    /// A message that is done is sent again.
    DeliveryReplay {
        /// Which.
        id: DeliveryId,
        /// When.
        at: Timestamp,
    },
    /// Something about whom an account or an app tells of what.
    Notification(NotificationChange),
    /// A new trigger.
    TriggerInsert(Trigger),
    /// What it is, whether it runs, and when next.
    TriggerUpdate(Trigger),
    /// A trigger with its runs.
    TriggerDelete(TriggerId),
    /// A run begins, if `runs` have been before it.
    TriggerClaim {
        /// Which.
        id: TriggerId,
        /// Runs before this one.
        runs: u32,
        /// When it runs next.
        next: Timestamp,
    },
    /// What a run did and why.
    TriggerRunInsert(TriggerRun),
    /// A member, new or with another role. The last owner stays one: that is [`crate::StoreError::Stale`].
    MemberSet {
        /// Who.
        user: UserId,
        /// The role.
        role: Role,
    },
    /// Someone is no longer a member. The last owner cannot go: that is [`crate::StoreError::Stale`].
    MemberRemove {
        /// Who.
        user: UserId,
    },
    /// A one-time link into the workspace.
    InviteInsert {
        /// What it leads to.
        invite: Invite,
        /// Of its secret.
        hash: [u8; 32],
        /// When it is made.
        at: Timestamp,
    },
    /// A link is used up, by the hash of its secret.
    InviteDelete {
        /// Of its secret.
        hash: [u8; 32],
    },
    /// Something about a person: how they sign in, or what ends with their role.
    Account(AccountChange),
    /// A new workspace with its owner, who owns less than `most`; otherwise that is [`crate::StoreError::Stale`].
    WorkspaceInsert {
        /// The workspace, which is the commit's tenant.
        workspace: Workspace,
        /// Who owns it.
        owner: UserId,
        /// Workspaces that they may own.
        most: u32,
    },
    /// Name, username, plan, if nobody has changed it since this time of its last change was read.
    WorkspaceUpdate(Workspace, Timestamp),
    /// It gets more of what it may have only so much of, if nobody has changed it or given it more since that was counted.
    WorkspaceGrow {
        /// The time of its last change that was read.
        seen: Timestamp,
        /// When.
        at: Timestamp,
    },
    /// Something about a workflow, its files or what starts it.
    Workflow(WorkflowChange),
    /// Something about a run.
    Run(RunChange),
    /// A new key: the workspace's, or a person's own that is recorded here. An eleventh Flow key is [`crate::StoreError::Stale`], and so is
    /// a key whose maker does not have the role that it gives (any more).
    ApiKeyInsert {
        /// The key.
        key: ApiKey,
        /// The hash of its secret.
        hash: [u8; 32],
    },
    /// Label and limits of a key that was not revoked.
    ApiKeyUpdate(ApiKey),
    /// A key stops working.
    ApiKeyRevoke {
        /// Which.
        id: ApiKeyId,
        /// When.
        at: Timestamp,
    },
    /// A new volume.
    VolumeInsert(Volume),
    /// Name, deletion mark, which nothing takes back.
    VolumeUpdate(Volume),
    /// The volume with its instances and their backups.
    VolumeDelete(VolumeId),
    /// A new volume instance, attached to its service if it names one.
    VolumeInstanceInsert(VolumeInstance),
    /// Where a volume instance is mounted.
    VolumeInstanceMountPath {
        /// Which.
        id: VolumeInstanceId,
        /// An absolute path.
        mount_path: String,
        /// When.
        at: Timestamp,
    },
    /// A change of state, if the state is still `from`.
    VolumeInstanceMove {
        /// Which.
        id: VolumeInstanceId,
        /// The state that it must be in.
        from: VolumeState,
        /// The state that it goes to.
        to: VolumeState,
        /// The backup that takes its place, for [`VolumeState::Restoring`].
        restoring: Option<BackupId>,
        /// When.
        at: Timestamp,
    },
    /// What a volume instance holds.
    VolumeInstanceUsed {
        /// Which.
        id: VolumeInstanceId,
        /// Bytes of files.
        used_bytes: i64,
    },
    /// The files of a volume instance that goes away, and those of its backups, are kept for their grace.
    VolumeFilesKeep {
        /// Which.
        id: VolumeInstanceId,
        /// When it goes.
        at: Timestamp,
    },
    /// A volume in one environment.
    VolumeInstanceDelete(VolumeInstanceId),
    /// Attaches a volume instance that is attached to nothing.
    VolumeAttach {
        /// Which.
        id: VolumeInstanceId,
        /// The service, with at most one replica and no other volume in that environment.
        service: ServiceId,
    },
    /// Detaches a volume instance, if it is attached.
    VolumeDetach(VolumeInstanceId),
    /// A new backup.
    BackupInsert(Backup),
    /// A backup is made, or has failed.
    BackupEnd {
        /// Which.
        id: BackupId,
        /// How it ended.
        state: BackupState,
        /// Bytes of files in it.
        used_bytes: i64,
        /// Why it failed.
        reason: Option<String>,
    },
    /// A whole backup was put in the place of its volume's files, or could not be.
    BackupRestored {
        /// Which.
        id: BackupId,
        /// Why it could not be; `None` also before it is tried.
        reason: Option<String>,
    },
    /// A backup stays for good.
    BackupLock(BackupId),
    /// A backup.
    BackupDelete(BackupId),
    /// The schedules of a volume instance, with when each was set up.
    BackupSchedulesSet {
        /// Whose.
        instance: VolumeInstance,
        /// All of them.
        kinds: Vec<(BackupKind, Timestamp)>,
    },
    /// A new TCP proxy of an existing instance.
    TcpProxyInsert(TcpProxy),
    /// A TCP proxy.
    TcpProxyDelete(TcpProxyId),
}

impl std::fmt::Debug for Change {
    /// The kind alone: the rows hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.kind())
    }
}

impl Change {
    /// The workspace that the row says it belongs to, where it says so.
    pub(crate) fn names_workspace(&self) -> Option<WorkspaceId> {
        match self {
            Self::ProjectInsert(row) | Self::ProjectUpdate(row, _) => Some(row.workspace_id),
            Self::EnvironmentInsert(row) | Self::EnvironmentUpdate(row) => Some(row.workspace_id),
            Self::EnvironmentPatchInsert(row) => Some(row.workspace_id),
            Self::ServiceInsert(row) | Self::ServiceUpdate(row) => Some(row.workspace_id),
            Self::InstanceInsert(row) | Self::InstanceUpdate { row, .. } => Some(row.workspace_id),
            Self::DomainInsert(row) | Self::DomainUpdate(row) => Some(row.workspace_id),
            Self::VariableSet(row) => Some(row.workspace_id),
            Self::DeploymentInsert { deployment, .. } => Some(deployment.workspace_id),
            Self::ReplicaInsert(row) | Self::ReplicaUpdate(row) => Some(row.workspace_id),
            Self::ExecutionInsert(row) | Self::ExecutionUpdate(row) => Some(row.workspace_id),
            Self::Activity(row) => Some(row.workspace_id),
            Self::DeliveryInsert(row) => Some(row.workspace_id),
            Self::TriggerInsert(row) | Self::TriggerUpdate(row) => Some(row.workspace_id),
            Self::InviteInsert { invite, .. } => Some(invite.workspace_id),
            Self::WorkspaceInsert { workspace: row, .. } | Self::WorkspaceUpdate(row, _) => Some(row.id),
            Self::ApiKeyInsert { key, .. } | Self::ApiKeyUpdate(key) => key.workspace_id,
            Self::VolumeInsert(row) | Self::VolumeUpdate(row) => Some(row.workspace_id),
            Self::VolumeInstanceInsert(row) | Self::BackupSchedulesSet { instance: row, .. } => Some(row.workspace_id),
            Self::BackupInsert(row) => Some(row.workspace_id),
            Self::TcpProxyInsert(row) => Some(row.workspace_id),
            Self::Notification(change) => change.names_workspace(),
            Self::Workflow(change) => change.names_workspace(),
            Self::Run(change) => change.names_workspace(),
            // These name rows by id; the statement looks for them in the tenant's workspace.
            Self::ProjectDelete(_)
            | Self::EnvironmentProtect(..)
            | Self::EnvironmentRevise(..)
            | Self::EnvironmentDelete(_)
            | Self::EnvironmentPatchDelete(_)
            | Self::ServiceDelete(_)
            | Self::InstanceDelete(_)
            | Self::DomainChecked { .. }
            | Self::DomainHttps { .. }
            | Self::DomainDelete(_)
            | Self::DomainLapse(_)
            | Self::Certificate(_)
            | Self::VariableDelete { .. }
            | Self::VariablesClear { .. }
            | Self::DeploymentMove { .. }
            | Self::DeploymentBuilt { .. }
            | Self::DeploymentStopped { .. }
            | Self::DeploymentRestart { .. }
            | Self::EventInsert(_)
            | Self::EventComplete { .. }
            | Self::ReplicaEnd { .. }
            | Self::ReplicaHealth(..)
            | Self::ActivityUpdate { .. }
            | Self::ActivitiesNoticed(_)
            | Self::TriggerDelete(_)
            | Self::TriggerClaim { .. }
            | Self::TriggerRunInsert(_)
            | Self::DeliveryClaim { .. }
            | Self::DeliveryDone { .. }
            | Self::DeliveryReplay { .. }
            | Self::MemberSet { .. }
            | Self::MemberRemove { .. }
            | Self::WorkspaceGrow { .. }
            | Self::InviteDelete { .. }
            | Self::Account(_)
            | Self::ApiKeyRevoke { .. }
            | Self::VolumeDelete(_)
            | Self::VolumeInstanceMountPath { .. }
            | Self::VolumeInstanceMove { .. }
            | Self::VolumeInstanceUsed { .. }
            | Self::VolumeFilesKeep { .. }
            | Self::VolumeInstanceDelete(_)
            | Self::VolumeAttach { .. }
            | Self::VolumeDetach(_)
            | Self::BackupEnd { .. }
            | Self::BackupRestored { .. }
            | Self::BackupLock(_)
            | Self::BackupDelete(_)
            | Self::TcpProxyDelete(_) => None,
        }
    }

    /// Whether it belongs into a commit of this tenant.
    pub(crate) fn belongs_to(&self, tenant: Tenant) -> bool {
        self.names_workspace().is_none_or(|workspace| workspace == tenant.workspace())
    }
}
