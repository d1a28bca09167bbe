//! Typed identifiers. Every one is a UUID, lower case on the wire (`contracts/railway.md` 3.1).

use serde::{Deserialize, Serialize};
use uuid::Uuid;

const CUID: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
const CUID_DIGITS: usize = 23;

/// An id in the form of a cuid, `cm` and 23 characters (`contracts/flow.md` 0). The same id, and the same order, as the UUID: what a UUID of
/// version 7 says of itself and the six highest bits of its time, zero until the year 2109, are left out.
#[must_use]
pub fn cuid(id: Uuid) -> String {
    let bits = id.as_u128();
    let mut rest = ((bits >> 80) << 74) | (((bits >> 64) & 0xfff) << 62) | (bits & ((1 << 62) - 1));
    let mut out = [b'0'; CUID_DIGITS];
    for place in out.iter_mut().rev() {
        *place = CUID[(rest % 36) as usize];
        rest /= 36;
    }
    format!("cm{}", String::from_utf8_lossy(&out))
}

/// Reads what [`cuid`] has written.
#[must_use]
pub fn parse_cuid(text: &str) -> Option<Uuid> {
    let digits = text.strip_prefix("cm").filter(|digits| digits.len() == CUID_DIGITS)?;
    let mut rest: u128 = 0;
    for byte in digits.bytes() {
        let digit = CUID.iter().position(|known| *known == byte)?;
        rest = rest.checked_mul(36)?.checked_add(digit as u128)?;
    }
    let time = rest >> 74;
    if time >= 1 << 48 {
        return None;
    }
    Some(Uuid::from_u128((time << 80) | (7 << 76) | (((rest >> 62) & 0xfff) << 64) | (2 << 62) | (rest & ((1 << 62) - 1))))
}

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
    /// Whom deployments are told to.
    NotificationRuleId,
    /// One place that a rule tells of deployments.
    NotificationChannelId,
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
    /// A workflow. `cm…` on the wire.
    WorkflowId,
    /// One execution of a workflow or of a single node.
    RunId,
    /// One node's part of a run. `cm…` on the wire; also the key that it sends along so that a receiver can tell a repetition.
    NodeRunId,
    /// A frozen graph, by its content.
    GraphId,
    /// What starts a workflow by itself.
    FlowTriggerId,
    /// A file of an account.
    UploadId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cuid_is_its_id() {
        let mut before = String::new();
        for _ in 0..1000 {
            let id = Uuid::now_v7();
            let text = cuid(id);
            assert_eq!((text.len(), parse_cuid(&text)), (25, Some(id)));
            assert!(text > before, "the order is that of the ids");
            before = text;
        }
        for nonsense in ["", "cm", "cm_0000000000000000000000", "xx00000000000000000000000"] {
            assert_eq!(parse_cuid(nonsense), None, "{nonsense}");
        }
    }
}
