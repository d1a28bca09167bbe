//! Enumerations of the schema, and their counterparts in the domain.

use juniper::GraphQLEnum;

use crate::graphql::{Ctx, Scalar};

macro_rules! enums {
    ($($(#[$doc:meta])* $name:ident { $($variant:ident = $text:literal),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, GraphQLEnum)]
        #[graphql(context = Ctx, scalar = Scalar)]
        #[allow(missing_docs)]
        pub(crate) enum $name { $(#[graphql(name = $text)] $variant),+ }
    )+};
}

macro_rules! same {
    ($name:ident = $domain:ty { $($variant:ident),+ $(,)? }) => {
        impl From<$domain> for $name {
            fn from(value: $domain) -> Self {
                match value { $(<$domain>::$variant => Self::$variant),+ }
            }
        }
    };
}

enums! {
    /// Where a message stands.
    NotificationDeliveryStatus { Failed = "FAILED", Pending = "PENDING", Sent = "SENT" }
    /// How much an event matters.
    NotificationSeverity { Critical = "CRITICAL", Info = "INFO", Notice = "NOTICE", Warning = "WARNING" }
    /// What can be measured.
    MetricMeasurement {
        BackupUsageGb = "BACKUP_USAGE_GB", CpuLimit = "CPU_LIMIT", CpuUsage = "CPU_USAGE", CpuUsage2 = "CPU_USAGE_2",
        DiskUsageGb = "DISK_USAGE_GB", EphemeralDiskUsageGb = "EPHEMERAL_DISK_USAGE_GB", MeasurementUnspecified = "MEASUREMENT_UNSPECIFIED",
        MemoryLimitGb = "MEMORY_LIMIT_GB", MemoryUsageGb = "MEMORY_USAGE_GB", NetworkRxGb = "NETWORK_RX_GB", NetworkTxGb = "NETWORK_TX_GB",
        Unrecognized = "UNRECOGNIZED",
    }
    /// By what metrics can be grouped.
    MetricTag {
        DeploymentId = "DEPLOYMENT_ID", DeploymentInstanceId = "DEPLOYMENT_INSTANCE_ID", EnvironmentId = "ENVIRONMENT_ID",
        HostType = "HOST_TYPE", KeyUnspecified = "KEY_UNSPECIFIED", PluginId = "PLUGIN_ID", ProjectId = "PROJECT_ID", Region = "REGION",
        ServiceId = "SERVICE_ID", Unrecognized = "UNRECOGNIZED", VolumeId = "VOLUME_ID", VolumeInstanceId = "VOLUME_INSTANCE_ID",
    }
    /// Where a deployment stands.
    DeploymentStatus {
        Building = "BUILDING", Crashed = "CRASHED", Deploying = "DEPLOYING", Failed = "FAILED", Initializing = "INITIALIZING",
        NeedsApproval = "NEEDS_APPROVAL", Queued = "QUEUED", Removed = "REMOVED", Removing = "REMOVING", Skipped = "SKIPPED",
        Sleeping = "SLEEPING", Success = "SUCCESS", Waiting = "WAITING",
    }
    /// Where a running copy stands.
    DeploymentInstanceStatus {
        Crashed = "CRASHED", Created = "CREATED", Exited = "EXITED", Initializing = "INITIALIZING", Removed = "REMOVED",
        Removing = "REMOVING", Restarting = "RESTARTING", Running = "RUNNING", Skipped = "SKIPPED", Stopped = "STOPPED",
    }
    /// A step of a deployment.
    DeploymentEventStep {
        BuildImage = "BUILD_IMAGE", ConfigureNetwork = "CONFIGURE_NETWORK", CreateContainer = "CREATE_CONTAINER",
        DrainInstances = "DRAIN_INSTANCES", Healthcheck = "HEALTHCHECK", MigrateVolumes = "MIGRATE_VOLUMES",
        PreDeployCommand = "PRE_DEPLOY_COMMAND", PublishImage = "PUBLISH_IMAGE", SnapshotCode = "SNAPSHOT_CODE",
        WaitForDependencies = "WAIT_FOR_DEPENDENCIES",
    }
    /// Where a change of an environment stands.
    EnvironmentPatchStatus { Applying = "APPLYING", Committed = "COMMITTED", Staged = "STAGED" }
    /// How an upload is built.
    Builder { Heroku = "HEROKU", Nixpacks = "NIXPACKS", Paketo = "PAKETO", Railpack = "RAILPACK" }
    /// When an app that ended is started again.
    RestartPolicyType { Always = "ALWAYS", Never = "NEVER", OnFailure = "ON_FAILURE" }
    /// Order of projects.
    ProjectsOrderBy { CreatedAtDesc = "CREATED_AT_DESC", NameAsc = "NAME_ASC", UpdatedAtDesc = "UPDATED_AT_DESC" }
    /// Order of a list by age.
    SortOrder { Asc = "asc", Desc = "desc" }
    /// A member's role in a project.
    ProjectRole { Admin = "ADMIN", Member = "MEMBER", Viewer = "VIEWER" }
    /// What a workspace may use.
    Plan { Free = "FREE", Hobby = "HOBBY", Pro = "PRO" }
    /// A member's role.
    TeamRole { Admin = "ADMIN", Member = "MEMBER", Viewer = "VIEWER" }
    /// What of a workspace has changed; `STATE` is all that belongs to none of the others alone.
    WorkspaceChangeKind { Deliveries = "DELIVERIES", Flow = "FLOW", State = "STATE", Triggers = "TRIGGERS" }
    /// A member's role, of all that this server has.
    WorkspaceRole { Admin = "ADMIN", Deployer = "DEPLOYER", Member = "MEMBER", Owner = "OWNER", Viewer = "VIEWER" }
    /// Where somebody is signed in.
    SessionType { Browser = "BROWSER", Cli = "CLI", Forums = "FORUMS" }
    /// What a trigger does when its rules match.
    TriggerAction { Add = "ADD", Kill = "KILL", Remove = "REMOVE" }
    /// On which side of its value a rule matches.
    TriggerComparator { Above = "ABOVE", Below = "BELOW" }
    /// What a rule measures: percent of the limit, or open connections.
    TriggerMetric { Connections = "CONNECTIONS", Cpu = "CPU", Memory = "MEMORY" }
    /// How rules are joined.
    TriggerOperator { And = "AND", Or = "OR" }
    /// A database's engine.
    PluginType { Mongodb = "mongodb", Mysql = "mysql", Postgresql = "postgresql", Redis = "redis" }
    /// Where a volume stands.
    VolumeState {
        Deleted = "DELETED", Deleting = "DELETING", Broken = "ERROR", Migrating = "MIGRATING", MigrationPending = "MIGRATION_PENDING",
        Ready = "READY", Restoring = "RESTORING", Updating = "UPDATING",
    }
    /// How often backups are made.
    VolumeInstanceBackupScheduleKind { Daily = "DAILY", Monthly = "MONTHLY", Weekly = "WEEKLY" }
    /// Whether a database runs.
    PluginStatus { Deprecated = "DEPRECATED", Locked = "LOCKED", Removed = "REMOVED", Running = "RUNNING", Stopped = "STOPPED" }
    /// Whether a TCP proxy is in the routing table.
    TCPProxySyncStatus {
        Active = "ACTIVE", Creating = "CREATING", Deleted = "DELETED", Deleting = "DELETING", Unspecified = "UNSPECIFIED",
        Updating = "UPDATING",
    }
    /// Whether a template can be found.
    TemplateStatus { Hidden = "HIDDEN", Published = "PUBLISHED", Unpublished = "UNPUBLISHED" }
    /// Where a workflow stands.
    WorkflowStatus { Complete = "Complete", Broken = "Error", NotFound = "NotFound", Running = "Running" }
    /// Whether a service domain is in the routing table.
    ServiceDomainSyncStatus {
        Active = "ACTIVE", Creating = "CREATING", Deleted = "DELETED", Deleting = "DELETING", Unspecified = "UNSPECIFIED",
        Updating = "UPDATING",
    }
    /// Whether a custom domain is in the routing table.
    CustomDomainSyncStatus {
        Active = "ACTIVE", Creating = "CREATING", Deleted = "DELETED", Deleting = "DELETING", Unspecified = "UNSPECIFIED",
        Updating = "UPDATING",
    }
    /// Where a custom domain's certificate stands.
    CertificateStatus {
        IssueFailed = "CERTIFICATE_STATUS_TYPE_ISSUE_FAILED", Issuing = "CERTIFICATE_STATUS_TYPE_ISSUING",
        Unspecified = "CERTIFICATE_STATUS_TYPE_UNSPECIFIED", Valid = "CERTIFICATE_STATUS_TYPE_VALID",
        ValidatingOwnership = "CERTIFICATE_STATUS_TYPE_VALIDATING_OWNERSHIP", Unrecognized = "UNRECOGNIZED",
    }
    /// The same in detail.
    CertificateStatusDetailed {
        CleaningUp = "CERTIFICATE_STATUS_TYPE_DETAILED_CLEANING_UP", Complete = "CERTIFICATE_STATUS_TYPE_DETAILED_COMPLETE",
        CreatingOrder = "CERTIFICATE_STATUS_TYPE_DETAILED_CREATING_ORDER",
        Downloading = "CERTIFICATE_STATUS_TYPE_DETAILED_DOWNLOADING_CERTIFICATE", Failed = "CERTIFICATE_STATUS_TYPE_DETAILED_FAILED",
        Fetching = "CERTIFICATE_STATUS_TYPE_DETAILED_FETCHING_AUTHORIZATIONS",
        Finalizing = "CERTIFICATE_STATUS_TYPE_DETAILED_FINALIZING_ORDER",
        GeneratingKeys = "CERTIFICATE_STATUS_TYPE_DETAILED_GENERATING_KEYS",
        Initiating = "CERTIFICATE_STATUS_TYPE_DETAILED_INITIATING_CHALLENGES",
        Polling = "CERTIFICATE_STATUS_TYPE_DETAILED_POLLING_AUTHORIZATIONS",
        Presenting = "CERTIFICATE_STATUS_TYPE_DETAILED_PRESENTING_CHALLENGES",
        Unspecified = "CERTIFICATE_STATUS_TYPE_DETAILED_UNSPECIFIED", Unrecognized = "UNRECOGNIZED",
    }
    /// Why no certificate could be had.
    CertificateErrorType {
        Authorization = "CERTIFICATE_ERROR_TYPE_AUTHORIZATION_FAILED", Dns = "CERTIFICATE_ERROR_TYPE_DNS_VALIDATION",
        Internal = "CERTIFICATE_ERROR_TYPE_INTERNAL", KeyGeneration = "CERTIFICATE_ERROR_TYPE_KEY_GENERATION",
        OrderCreation = "CERTIFICATE_ERROR_TYPE_ORDER_CREATION", RateLimit = "CERTIFICATE_ERROR_TYPE_RATE_LIMIT",
        Unspecified = "CERTIFICATE_ERROR_TYPE_UNSPECIFIED", Unrecognized = "UNRECOGNIZED",
    }
    /// Whose proxy stands in front of a custom domain.
    CDNProvider {
        Cloudflare = "DETECTED_CDN_PROVIDER_CLOUDFLARE", Unspecified = "DETECTED_CDN_PROVIDER_UNSPECIFIED",
        Unrecognized = "UNRECOGNIZED",
    }
    /// What a DNS record is for.
    DNSRecordPurpose {
        Challenge = "DNS_RECORD_PURPOSE_ACME_DNS01_CHALLENGE", Traffic = "DNS_RECORD_PURPOSE_TRAFFIC_ROUTE",
        Unspecified = "DNS_RECORD_PURPOSE_UNSPECIFIED", Unrecognized = "UNRECOGNIZED",
    }
    /// A DNS record's type.
    DNSRecordType {
        A = "DNS_RECORD_TYPE_A", Cname = "DNS_RECORD_TYPE_CNAME", Ns = "DNS_RECORD_TYPE_NS", Txt = "DNS_RECORD_TYPE_TXT",
        Unspecified = "DNS_RECORD_TYPE_UNSPECIFIED", Unrecognized = "UNRECOGNIZED",
    }
    /// Whether a DNS record was seen.
    DNSRecordStatus {
        Propagated = "DNS_RECORD_STATUS_PROPAGATED", RequiresUpdate = "DNS_RECORD_STATUS_REQUIRES_UPDATE",
        Unspecified = "DNS_RECORD_STATUS_UNSPECIFIED", Unrecognized = "UNRECOGNIZED",
    }
    /// A certificate's kind of key.
    KeyType {
        Ecdsa = "KEY_TYPE_ECDSA", Rsa2048 = "KEY_TYPE_RSA_2048", Rsa4096 = "KEY_TYPE_RSA_4096",
        Unspecified = "KEY_TYPE_UNSPECIFIED", Unrecognized = "UNRECOGNIZED",
    }
}

same!(
    DeploymentStatus = domain::deployment::DeploymentStatus {
        Building,
        Crashed,
        Deploying,
        Failed,
        Initializing,
        NeedsApproval,
        Queued,
        Removed,
        Removing,
        Skipped,
        Sleeping,
        Success,
        Waiting,
    }
);
same!(
    DeploymentInstanceStatus =
        domain::deployment::ReplicaStatus { Crashed, Created, Exited, Initializing, Removed, Removing, Restarting, Running, Stopped }
);
same!(
    DeploymentEventStep = domain::deployment::EventStep {
        BuildImage,
        ConfigureNetwork,
        CreateContainer,
        DrainInstances,
        Healthcheck,
        PreDeployCommand,
        PublishImage,
        SnapshotCode,
        WaitForDependencies,
    }
);
same!(VolumeInstanceBackupScheduleKind = domain::volume::BackupKind { Daily, Monthly, Weekly });

impl From<VolumeInstanceBackupScheduleKind> for domain::volume::BackupKind {
    fn from(value: VolumeInstanceBackupScheduleKind) -> Self {
        match value {
            VolumeInstanceBackupScheduleKind::Daily => Self::Daily,
            VolumeInstanceBackupScheduleKind::Weekly => Self::Weekly,
            VolumeInstanceBackupScheduleKind::Monthly => Self::Monthly,
        }
    }
}

impl PluginType {
    /// The engine of that name.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "mongodb" => Self::Mongodb,
            "mysql" => Self::Mysql,
            "postgresql" => Self::Postgresql,
            "redis" => Self::Redis,
            _ => return None,
        })
    }
}

same!(DeploymentInstanceStatus = domain::deployment::ExecutionStatus { Created, Running, Exited, Crashed, Removed, Skipped });
same!(RestartPolicyType = domain::spec::RestartPolicy { Always, Never, OnFailure });

impl From<DeploymentStatus> for domain::deployment::DeploymentStatus {
    fn from(value: DeploymentStatus) -> Self {
        Self::ALL.iter().copied().find(|status| DeploymentStatus::from(*status) == value).unwrap_or(Self::Failed)
    }
}

same!(NotificationSeverity = domain::notification_rule::NoticeSeverity { Critical, Info, Notice, Warning });

impl From<NotificationSeverity> for domain::notification_rule::NoticeSeverity {
    fn from(value: NotificationSeverity) -> Self {
        match value {
            NotificationSeverity::Critical => Self::Critical,
            NotificationSeverity::Info => Self::Info,
            NotificationSeverity::Notice => Self::Notice,
            NotificationSeverity::Warning => Self::Warning,
        }
    }
}

impl From<RestartPolicyType> for domain::spec::RestartPolicy {
    fn from(value: RestartPolicyType) -> Self {
        match value {
            RestartPolicyType::Always => Self::Always,
            RestartPolicyType::Never => Self::Never,
            RestartPolicyType::OnFailure => Self::OnFailure,
        }
    }
}

impl Builder {
    /// As stored and as written in `railway.json`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Heroku => "HEROKU",
            Self::Nixpacks => "NIXPACKS",
            Self::Paketo => "PAKETO",
            Self::Railpack => "RAILPACK",
        }
    }

    /// A stored name; what the schema cannot say is the default.
    pub(crate) fn parse(text: Option<&str>) -> Self {
        [Self::Heroku, Self::Nixpacks, Self::Paketo].into_iter().find(|builder| Some(builder.as_str()) == text).unwrap_or(Self::Railpack)
    }
}

impl From<domain::account::Plan> for Plan {
    fn from(plan: domain::account::Plan) -> Self {
        match plan {
            domain::account::Plan::Free => Self::Free,
            domain::account::Plan::Hobby => Self::Hobby,
            domain::account::Plan::Professional => Self::Pro,
        }
    }
}

impl From<domain::Role> for ProjectRole {
    fn from(role: domain::Role) -> Self {
        match TeamRole::from(role) {
            TeamRole::Admin => Self::Admin,
            TeamRole::Member => Self::Member,
            TeamRole::Viewer => Self::Viewer,
        }
    }
}

impl From<domain::Role> for TeamRole {
    fn from(role: domain::Role) -> Self {
        match role {
            domain::Role::Owner | domain::Role::Admin => Self::Admin,
            domain::Role::Member | domain::Role::Deployer => Self::Member,
            domain::Role::Viewer => Self::Viewer,
        }
    }
}

impl From<TeamRole> for domain::Role {
    fn from(role: TeamRole) -> Self {
        match role {
            TeamRole::Admin => Self::Admin,
            TeamRole::Member => Self::Member,
            TeamRole::Viewer => Self::Viewer,
        }
    }
}

same!(WorkspaceRole = domain::Role { Owner, Admin, Member, Deployer, Viewer });
same!(WorkspaceChangeKind = store::ChangeKind { Deliveries, Flow, State, Triggers });

impl From<WorkspaceChangeKind> for store::ChangeKind {
    fn from(kind: WorkspaceChangeKind) -> Self {
        match kind {
            WorkspaceChangeKind::Deliveries => Self::Deliveries,
            WorkspaceChangeKind::Flow => Self::Flow,
            WorkspaceChangeKind::State => Self::State,
            WorkspaceChangeKind::Triggers => Self::Triggers,
        }
    }
}

impl From<WorkspaceRole> for domain::Role {
    fn from(role: WorkspaceRole) -> Self {
        match role {
            WorkspaceRole::Owner => Self::Owner,
            WorkspaceRole::Admin => Self::Admin,
            WorkspaceRole::Member => Self::Member,
            WorkspaceRole::Deployer => Self::Deployer,
            WorkspaceRole::Viewer => Self::Viewer,
        }
    }
}

impl From<domain::project::PatchStatus> for EnvironmentPatchStatus {
    fn from(value: domain::project::PatchStatus) -> Self {
        match value {
            domain::project::PatchStatus::Staged => Self::Staged,
            domain::project::PatchStatus::Committed => Self::Committed,
        }
    }
}

impl From<Plan> for domain::account::Plan {
    fn from(plan: Plan) -> Self {
        match plan {
            Plan::Free => Self::Free,
            Plan::Hobby => Self::Hobby,
            Plan::Pro => Self::Professional,
        }
    }
}
