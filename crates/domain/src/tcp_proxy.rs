//! TCP ports of the server through which an instance is reached, besides HTTP (`contracts/railway.md` 3.8).

use jiff::Timestamp;

use crate::{EnvironmentId, ProjectId, ServiceId, TcpProxyId, WorkspaceId};

/// A port that the edge forwards to an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpProxy {
    /// Identity.
    pub id: TcpProxyId,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// The project.
    pub project_id: ProjectId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// The service.
    pub service_id: ServiceId,
    /// Who can reach it.
    pub kind: ProxyKind,
    /// What the app calls its port.
    pub application_port: u16,
    /// The port of the server, unique on it.
    pub proxy_port: u16,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}

/// Who can reach a port. An instance has at most one of each kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ProxyKind {
    /// Whoever reaches the server's other public addresses.
    Public,
    /// Apps on the same machine: a lasting address where replicas share loopback and change their ports.
    Private,
}

impl ProxyKind {
    /// As stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Public => "PUBLIC",
            Self::Private => "PRIVATE",
        }
    }

    /// Reads a stored kind.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Public, Self::Private].into_iter().find(|kind| kind.as_str() == text)
    }
}
