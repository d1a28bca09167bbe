//! The audit log: who did what, from where.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{ActivityId, ApiKeyId, EnvironmentId, InstanceId, ProjectId, RunId, ServiceId, UserId, WorkspaceId};

/// Who acts. Persisted as JSON in activities and as the creator of deployments.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Actor {
    /// A person, by session or by a key of their own.
    User {
        /// Who.
        id: UserId,
        /// Their name then.
        name: String,
        /// Their address then.
        email: String,
        /// The run of a workflow that did it in their name, when they did not do it themselves.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        run: Option<RunId>,
    },
    /// A key that acts for a workspace or a project.
    Key {
        /// Which.
        id: ApiKeyId,
        /// Its label then.
        label: String,
    },
    /// Orrery itself: a trigger, a schedule, the reconciler.
    System {
        /// Which part.
        part: String,
    },
}

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub struct Activity {
    /// Identity.
    pub id: ActivityId,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// The project, where it concerns one.
    pub project_id: Option<ProjectId>,
    /// The service in an environment, where it concerns one.
    pub instance_id: Option<InstanceId>,
    /// Who.
    pub actor: Actor,
    /// The operation, by the name it has at every layer (`project_create`).
    pub verb: String,
    /// The id of what was changed.
    pub subject: String,
    /// Before and after, without secrets.
    pub data: serde_json::Value,
    /// The client's address.
    pub address: Option<String>,
    /// When.
    pub created_at: Timestamp,
}

impl Activity {
    /// The environment that it says it is about. Where it is about an instance, that knows better.
    #[must_use]
    pub fn environment(&self) -> Option<EnvironmentId> {
        let is_subject = self.verb.starts_with("environment_") || self.verb.starts_with("variable_");
        is_subject.then(|| self.subject.parse().ok()).flatten().or_else(|| self.data.get("environment")?.as_str()?.parse().ok())
    }

    /// The service that it says it is about. Where it is about an instance, that knows better.
    #[must_use]
    pub fn service(&self) -> Option<ServiceId> {
        let is_subject = self.verb.starts_with("service_");
        is_subject.then(|| self.subject.parse().ok()).flatten().or_else(|| self.data.get("service")?.as_str()?.parse().ok())
    }
}
