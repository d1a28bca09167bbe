//! What can be asked for.

use domain::log::filter::Filter;
use domain::log::{LogKind, LogSource};
use domain::{DeploymentId, EnvironmentId, SnapshotId, Tenant, WorkspaceId};
use uuid::Uuid;

/// Whose lines. Every scope carries the proof that its workspace may be read, and every query filters on that workspace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum LogScope {
    /// What the app of a deployment writes, all replicas together.
    Deployment {
        /// Whose it is.
        tenant: Tenant,
        /// The deployment.
        deployment: DeploymentId,
    },
    /// What the build of a snapshot writes.
    Snapshot {
        /// Whose it is.
        tenant: Tenant,
        /// The snapshot.
        snapshot: SnapshotId,
    },
    /// Requests to a deployment.
    Requests {
        /// Whose it is.
        tenant: Tenant,
        /// The deployment.
        deployment: DeploymentId,
    },
    /// Requests to everything in an environment.
    EnvironmentRequests {
        /// Whose it is.
        tenant: Tenant,
        /// The environment.
        environment: EnvironmentId,
    },
    /// Builds and apps of an environment.
    Environment {
        /// Whose it is.
        tenant: Tenant,
        /// The environment.
        environment: EnvironmentId,
    },
}

impl LogScope {
    /// Whether lines of this source are asked for.
    #[must_use]
    pub fn contains(&self, source: &LogSource) -> bool {
        Topic::of(self).holds(source)
    }
}

/// Lines of a range.
#[derive(Clone, Debug)]
pub struct LogQuery {
    /// Whose lines.
    pub scope: LogScope,
    /// Which of them.
    pub filter: Filter,
    /// Only lines later than this, in nanoseconds since the epoch.
    pub after: Option<i64>,
    /// Only lines earlier than this, in nanoseconds since the epoch.
    pub before: Option<i64>,
    /// At most so many lines; fewer when their text exceeds 16 MiB.
    pub limit: usize,
    /// Take the newest `limit` lines of the range instead of the oldest.
    pub newest: bool,
}

/// The old lines that a follower gets first: the newest `limit` of a range.
#[derive(Clone, Copy, Debug, Default)]
pub struct Replay {
    /// At most so many lines.
    pub limit: usize,
    /// Only lines later than this, in nanoseconds since the epoch.
    pub after: Option<i64>,
    /// Only lines earlier than this, in nanoseconds since the epoch.
    pub before: Option<i64>,
}

/// A scope as a plain value: the key under which followers wait, and the condition of a query.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Topic {
    pub(crate) workspace: WorkspaceId,
    pub(crate) what: What,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum What {
    Deployment(DeploymentId),
    Snapshot(SnapshotId),
    Requests(DeploymentId),
    Environment(EnvironmentId),
}

impl Topic {
    pub(crate) fn of(scope: &LogScope) -> Self {
        match *scope {
            LogScope::Deployment { tenant, deployment } => Self { workspace: tenant.workspace(), what: What::Deployment(deployment) },
            LogScope::Snapshot { tenant, snapshot } => Self { workspace: tenant.workspace(), what: What::Snapshot(snapshot) },
            LogScope::Requests { tenant, deployment } => Self { workspace: tenant.workspace(), what: What::Requests(deployment) },
            LogScope::Environment { tenant, environment } | LogScope::EnvironmentRequests { tenant, environment } => {
                Self { workspace: tenant.workspace(), what: What::Environment(environment) }
            }
        }
    }

    /// The topics that lines of a source belong to: its stream, and the environment unless they are requests.
    pub(crate) fn of_source(source: &LogSource) -> Vec<Self> {
        let environment = What::Environment(source.environment_id);
        let topics = match source.kind {
            LogKind::Build => vec![What::Snapshot(source.snapshot_id), environment],
            LogKind::Deploy => vec![What::Deployment(source.deployment_id), environment],
            LogKind::Http => vec![What::Requests(source.deployment_id)],
        };
        topics.into_iter().map(|what| Self { workspace: source.workspace_id, what }).collect()
    }

    pub(crate) fn holds(&self, source: &LogSource) -> bool {
        Self::of_source(source).contains(self)
    }
}

/// A stream: the lines whose times must be distinct and growing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Stream {
    Build(Uuid),
    Deploy(Uuid),
    Http(Uuid),
}

impl Stream {
    pub(crate) fn of(source: &LogSource) -> Self {
        match source.kind {
            LogKind::Build => Self::Build(source.snapshot_id.0),
            LogKind::Deploy => Self::Deploy(source.deployment_id.0),
            LogKind::Http => Self::Http(source.deployment_id.0),
        }
    }
}
