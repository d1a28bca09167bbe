//! What the edge needs to know to send a request to the right replica. Written by the engine, read by the edge, kept on disk so that the
//! edge can start without the control plane.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::metric::MetricSource;
use crate::{DeploymentId, EnvironmentId, ProjectId, ReplicaId, ServiceId, WorkspaceId};

/// The whole table; immutable once read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RoutingTable {
    /// Grows with every change.
    pub version: u64,
    /// Routes by host name in lower case without a port.
    pub hosts: BTreeMap<String, Route>,
    /// Routes by TCP port.
    #[serde(default)]
    pub tcp: BTreeMap<u16, TcpRoute>,
}

/// Where a TCP port's connections go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TcpRoute {
    /// Open on the public addresses too, not on loopback alone.
    pub public: bool,
    /// Whose traffic it is; an edge that was told nothing counts none.
    #[serde(default)]
    pub source: Option<MetricSource>,
    /// The replicas that take connections, tried in order.
    pub targets: Vec<Target>,
}

/// Where a host's requests go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Route {
    /// The tenant, for the request log.
    pub workspace_id: WorkspaceId,
    /// The project.
    pub project_id: ProjectId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// The service.
    pub service_id: ServiceId,
    /// The service's name, for error pages.
    pub service_name: String,
    /// The deployment that serves, if any.
    pub deployment_id: Option<DeploymentId>,
    /// Why nothing serves, for error pages, when `targets` is empty.
    pub unavailable: Option<String>,
    /// Where requests go: every one healthy when the table was written.
    pub targets: Vec<Target>,
    /// Keeps a visitor on the same replica by cookie.
    pub sticky: bool,
    /// Who sleeps, or is waking up: requests wait, and the control plane is told.
    #[serde(default)]
    pub asleep: Option<Asleep>,
    /// Whoever asks without TLS is sent to the same address with it.
    #[serde(default)]
    pub force_https: bool,
}

/// What the edge needs to speak TLS and to answer authorities. Written by the engine to a file of its own, which only its owner can read.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeCertificates {
    /// By host.
    pub certificates: Vec<EdgeCertificate>,
    /// Answers to authorities that ask whether a domain leads here, by the token in the path.
    #[serde(default)]
    pub challenges: BTreeMap<String, String>,
}

impl std::fmt::Debug for EdgeCertificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EdgeCertificates({} certificates, {} challenges)", self.certificates.len(), self.challenges.len())
    }
}

/// A certificate with its key. It is used for its host alone, whatever other names it holds for: those may be somebody else's here.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeCertificate {
    /// In lower case; `*.example.com` stands for every name with one label more.
    pub host: String,
    /// PEM: the certificate itself, then those that lead to its authority.
    pub chain: String,
    /// PEM.
    pub key: String,
}

impl std::fmt::Debug for EdgeCertificate {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "EdgeCertificate({})", self.host)
    }
}

/// An app that has no replicas because nobody has asked for it for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Asleep {
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// What answers once it is awake.
    pub deployment_id: DeploymentId,
}

/// A replica that takes requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Target {
    /// Which.
    pub replica_id: ReplicaId,
    /// The deployment it belongs to.
    pub deployment_id: DeploymentId,
    /// What visitors know it by (`contracts/galaxy.md` 3.5): in the answer's `X-Galaxy-Container`, the cookie and the address.
    #[serde(default)]
    pub name: String,
    /// Where it listens.
    pub address: std::net::SocketAddr,
}
