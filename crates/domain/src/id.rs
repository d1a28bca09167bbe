//! Typed identifiers. Every one is a UUID, lower case on the wire (`contracts/railway.md` 3.1).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh identifier whose order follows time.
            #[must_use]
            pub fn generate() -> Self { Self(Uuid::now_v7()) }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result { self.0.fmt(f) }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> { Uuid::parse_str(text).map(Self) }
        }
    )+};
}

ids! {
    /// A person.
    UserId,
    /// The owner of projects: one person's or a team's.
    WorkspaceId,
    /// A project.
    ProjectId,
    /// An environment of a project.
    EnvironmentId,
    /// A service of a project.
    ServiceId,
    /// A service in one environment.
    InstanceId,
    /// One rollout of one artifact with one frozen configuration.
    DeploymentId,
    /// An uploaded source tree.
    SnapshotId,
    /// A change of an environment's document.
    EnvironmentPatchId,
    /// A running copy of a deployment.
    ReplicaId,
    /// A domain that routes to an instance.
    DomainId,
    /// An API key of any kind.
    ApiKeyId,
    /// An entry of the audit log.
    ActivityId,
    /// A step of a deployment as users see it.
    EventId,
    /// A signed-in browser.
    SessionId,
    /// A message to somebody's webhook or mailbox.
    DeliveryId,
    /// A rule that scales or heals an app by its metrics.
    TriggerId,
    /// A volume: in each environment it has an instance.
    VolumeId,
    /// A volume in one environment.
    VolumeInstanceId,
    /// A backup of a volume instance.
    BackupId,
    /// A TCP port through which an instance is reached.
    TcpProxyId,
}
