//! Why the store did not do what it was asked for.

use std::error::Error;

/// A rule of uniqueness, by what a person would call it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Constraint {
    /// One account per e-mail address.
    UserEmail,
    /// One workspace per username.
    WorkspaceUsername,
    /// One personal workspace per person.
    PersonalWorkspace,
    /// Names of environments within a project, whatever their case.
    EnvironmentName,
    /// Names of services within a project, whatever their case.
    ServiceName,
    /// One instance per service and environment.
    Instance,
    /// A domain routes to one instance of the whole server.
    Domain,
    /// Names of volumes within a project, whatever their case.
    VolumeName,
    /// One instance per volume and environment.
    VolumeInstance,
    /// One volume per service and environment, and one service per volume.
    VolumeMount,
    /// One backup of a volume is made at a time.
    Backup,
    /// One run of a service with a schedule at a time, and one for each of its times.
    Execution,
    /// A port of the server.
    TcpPort,
    /// One TCP proxy of a kind per service and environment.
    TcpProxy,
    /// A user code of a device login that is still open.
    DeviceUserCode,
    /// Labels of an account's Flow keys.
    KeyLabel,
    /// The places that an account has for Flow keys.
    KeyPlace,
    /// One Galaxy key per account.
    GalaxyKey,
    /// The hash of a secret: a token, a session, a link or a code.
    Secret,
    /// The identity of a row.
    Identity,
}

impl Constraint {
    /// What is unique, for the middle of a sentence.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::UserEmail => "e-mail address",
            Self::WorkspaceUsername => "workspace username",
            Self::PersonalWorkspace => "personal workspace of this person",
            Self::EnvironmentName => "environment name in this project",
            Self::ServiceName => "service name in this project",
            Self::Instance => "instance of this service in this environment",
            Self::Domain => "domain",
            Self::VolumeName => "volume name in this project",
            Self::VolumeInstance => "instance of this volume in this environment",
            Self::VolumeMount => "volume of this service in this environment",
            Self::Backup => "backup of this volume that is being made",
            Self::Execution => "run of this service",
            Self::TcpPort => "port",
            Self::TcpProxy => "TCP proxy of this service in this environment",
            Self::DeviceUserCode => "user code",
            Self::KeyLabel => "label of a key in this account",
            Self::KeyPlace => "place of a key in this account",
            Self::GalaxyKey => "Galaxy key of this account",
            Self::Secret => "secret",
            Self::Identity => "id",
        }
    }
}

/// The cause that a driver reported; its text goes to logs and not to clients.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Every way in which the store refuses or fails.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A rule of uniqueness stands against it.
    #[error("that {} is already taken: choose another one", constraint.label())]
    Conflict {
        /// Which rule.
        constraint: Constraint,
    },
    /// The row to change, or one that the change builds on, is not there in the expected state.
    #[error("the row was changed or removed in the meantime: read it again and repeat")]
    Stale,
    /// A row of one workspace in a commit for another one.
    #[error("a change belongs to another workspace than its commit: commit it with that workspace's tenant")]
    ForeignTenant,
    /// A page cursor that no list has given out.
    #[error("the cursor {0:?} is not one that this list returned: pass endCursor or startCursor of a page unchanged")]
    BadCursor(String),
    /// PostgreSQL cannot hold NUL in text, so that neither database accepts it.
    #[error("a text holds a NUL character: remove it")]
    BadText,
    /// The database's address.
    #[error("the database address is not valid: {0}; write sqlite:///path/orrery.db or postgres://user@host/name?sslmode=require")]
    BadUrl(String),
    /// The master key's text or file.
    #[error("the master key cannot be used: {0}")]
    MasterKey(String),
    /// The database was made with another master key.
    #[error("this database was encrypted with another master key: start with the key file that lay beside it when it was made")]
    WrongMasterKey,
    /// The schema could not be brought up to date.
    #[error("the database could not be migrated: {0}; restore the backup or start the version that made it")]
    Migration(#[source] Cause),
    /// A stored value that this version cannot read.
    #[error("a stored row cannot be read ({0}): was the database changed by hand or by a newer version?")]
    Corrupt(String),
    /// The database does not answer.
    #[error("the database does not answer: {source}; check that it runs and that the disk has room")]
    Unavailable {
        /// What the driver said.
        #[source]
        source: Cause,
    },
    /// The database refused a statement of ours.
    #[error("the database refused {statement}: {source}; this is a fault of Orrery, please report it")]
    Fault {
        /// The statement's name.
        statement: &'static str,
        /// What the driver said.
        #[source]
        source: Cause,
    },
}

impl StoreError {
    pub(crate) fn unavailable(source: impl Into<Cause>) -> Self {
        Self::Unavailable { source: source.into() }
    }
}

/// Finds a rule by PostgreSQL's name of the constraint, or by the columns that SQLite lists (`users.email`). Ends are compared, so a name
/// that ends like another one comes before it.
pub(crate) fn constraint(reported: &str) -> Constraint {
    const RULES: [(&str, &str, Constraint); 22] = [
        ("users_email_key", "users.email", Constraint::UserEmail),
        ("workspaces_username_key", "workspaces.username", Constraint::WorkspaceUsername),
        ("workspaces_personal_of_key", "workspaces.personal_of", Constraint::PersonalWorkspace),
        ("environments_name_key", "environments.project_id, environments.name_key", Constraint::EnvironmentName),
        ("services_name_key", "services.project_id, services.name_key", Constraint::ServiceName),
        ("volume_instances_place_key", "volume_instances.environment_id, volume_instances.volume_id", Constraint::VolumeInstance),
        (
            "instances_place_key",
            "instances.environment_id, instances.service_id, instances.project_id, instances.workspace_id",
            Constraint::Instance,
        ),
        ("instances_single", "instances.workspace_id, instances.single", Constraint::Instance),
        ("domains_domain_key", "domains.domain", Constraint::Domain),
        ("volumes_living_name", "volumes.project_id, volumes.name_key", Constraint::VolumeName),
        ("volume_mounts_service_key", "volume_mounts.environment_id, volume_mounts.service_id", Constraint::VolumeMount),
        ("volume_mounts_pkey", "volume_mounts.volume_instance_id", Constraint::VolumeMount),
        ("volume_backups_creating", "volume_backups.volume_instance_id", Constraint::Backup),
        ("executions_open", "executions.instance_id", Constraint::Execution),
        ("executions_due", "executions.instance_id, executions.due_at", Constraint::Execution),
        ("tcp_proxies_port_key", "tcp_proxies.proxy_port", Constraint::TcpPort),
        ("tcp_proxies_place_key", "tcp_proxies.environment_id, tcp_proxies.service_id, tcp_proxies.kind", Constraint::TcpProxy),
        ("device_grants_user_code_key", "device_grants.user_code", Constraint::DeviceUserCode),
        ("api_keys_label_key", "api_keys.workspace_id, api_keys.label", Constraint::KeyLabel),
        ("api_keys_place_key", "api_keys.workspace_id, api_keys.place", Constraint::KeyPlace),
        ("api_keys_galaxy_key", "api_keys.workspace_id", Constraint::GalaxyKey),
        ("_hash_key", ".hash", Constraint::Secret),
    ];
    let found = RULES.iter().find(|(postgres, sqlite, _)| reported.ends_with(postgres) || reported.ends_with(sqlite));
    found.map_or(Constraint::Identity, |(.., constraint)| *constraint)
}
