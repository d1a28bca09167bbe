//! Runs: one execution of a graph, and what is known of each of its nodes (`contracts/flow.md` 1.2, 4.2).

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::activity::Activity;
use crate::{ApiKeyId, FlowTriggerId, GraphId, NodeRunId, RunId, UploadId, UserId, WorkflowId, WorkspaceId};

/// How far a run, or a node of it, has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum RunStatus {
    /// Waits for its turn.
    Queued,
    /// Has begun.
    Running,
    /// Is done.
    Completed,
    /// Did not work.
    Failed,
    /// Somebody stopped it.
    Canceled,
}

impl RunStatus {
    /// Every status.
    pub const ALL: [Self; 5] = [Self::Queued, Self::Running, Self::Completed, Self::Failed, Self::Canceled];

    /// As on the wire and as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "QUEUED",
            Self::Running => "RUNNING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Canceled => "CANCELED",
        }
    }

    /// Reads a status.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// Whether nothing follows it.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Canceled)
    }
}

/// What began a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RunSource {
    /// A person in the dashboard.
    Ui,
    /// A tool of the MCP server.
    Mcp,
    /// A REST client.
    Api,
    /// A schedule.
    Schedule,
    /// Somebody called the workflow's own URL.
    Hook,
    /// Something happened on the platform.
    Event,
}

impl RunSource {
    /// Every source.
    pub const ALL: [Self; 6] = [Self::Ui, Self::Mcp, Self::Api, Self::Schedule, Self::Hook, Self::Event];

    /// As on the wire and as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ui => "ui",
            Self::Mcp => "mcp",
            Self::Api => "api",
            Self::Schedule => "schedule",
            Self::Hook => "hook",
            Self::Event => "event",
        }
    }

    /// Reads a source.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|source| source.as_str() == text)
    }
}

/// Whom a run tells of its progress (`contracts/flow.md` 1.10). Persisted with the run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Webhook {
    /// Where, by https.
    pub url: String,
    /// Which events; all when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<Vec<String>>,
    /// Sent back as it is.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub metadata: Value,
    /// Further headers of the requests.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub headers: Map<String, Value>,
}

/// The events that a run can tell of.
pub const EVENTS: [&str; 6] = ["run.started", "run.completed", "run.failed", "run.canceled", "node.completed", "node.failed"];

impl Webhook {
    /// Whether it wants to hear of an event.
    #[must_use]
    pub fn wants(&self, event: &str) -> bool {
        self.events.as_ref().is_none_or(|events| events.iter().any(|known| known == event))
    }
}

/// What is executed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A workflow, by the name that it had.
    Workflow {
        /// Which.
        id: WorkflowId,
        /// Its name then.
        name: String,
    },
    /// A workflow that belongs to nobody.
    Template {
        /// Its slug.
        slug: String,
    },
    /// One node by itself.
    Node {
        /// The type's key.
        kind: String,
        /// The model that was asked for, where the type has several.
        sub_model: Option<String>,
    },
}

/// One execution.
#[derive(Clone, Debug, PartialEq)]
pub struct Run {
    /// Identity.
    pub id: RunId,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// Whose rights it has.
    pub user_id: UserId,
    /// The key that started it.
    pub key_id: Option<ApiKeyId>,
    /// What is executed.
    pub subject: Subject,
    /// The graph as it was when it started.
    pub graph_id: GraphId,
    /// What the caller gave: node id -> field -> value.
    pub values: Map<String, Value>,
    /// Where it came from.
    pub source: RunSource,
    /// How far it is.
    pub status: RunStatus,
    /// Why it failed.
    pub error: Option<String>,
    /// Nodes besides the scaffold.
    pub node_count: u32,
    /// That node, when there is one.
    pub single_node: Option<String>,
    /// What its nodes cost if all are executed, in microcredits.
    pub estimated: i64,
    /// What they have cost, once it is over.
    pub credits: i64,
    /// When it was asked for.
    pub created_at: Timestamp,
    /// When its turn came.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// What is known of one node of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct NodeRun {
    /// Identity, and the stable key that the node sends along.
    pub id: NodeRunId,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// Of which run.
    pub run_id: RunId,
    /// Which node.
    pub node_id: String,
    /// Its type.
    pub node_type: String,
    /// How far it is.
    pub status: RunStatus,
    /// How often it was begun.
    pub attempts: u32,
    /// How often it was reported as failed.
    pub failures: u32,
    /// What it was given.
    pub input: Option<Value>,
    /// What it gave.
    pub output: Option<Value>,
    /// What it wrote down.
    pub logs: Vec<String>,
    /// Why it failed, or failed last.
    pub error: Option<String>,
    /// What it has cost, in microcredits.
    pub credits: i64,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// A file of an account: an upload, or what a node has made (`contracts/flow.md` 1.9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowFile {
    /// Identity, and its name on disk.
    pub id: UploadId,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// Where it comes from; nowhere for an upload.
    pub made: Option<Made>,
    /// What people call it.
    pub filename: String,
    /// What it is, as found in its first bytes.
    pub content_type: String,
    /// How large.
    pub bytes: i64,
    /// When.
    pub created_at: Timestamp,
    /// When it is deleted.
    pub expires_at: Timestamp,
}

/// The node that made a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Made {
    /// Of which workflow; none for a direct run.
    pub workflow: Option<WorkflowId>,
    /// In which run.
    pub run: RunId,
    /// Which node.
    pub node_id: String,
    /// Its type.
    pub node_type: String,
    /// What its owner calls it.
    pub node_label: String,
}

/// What starts a workflow by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowTrigger {
    /// Identity.
    pub id: FlowTriggerId,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// What it starts.
    pub workflow_id: WorkflowId,
    /// Whose rights the runs have.
    pub user_id: UserId,
    /// When.
    pub start: Start,
    /// Whether it does.
    pub enabled: bool,
    /// When the next time is, of a schedule or of a look for events.
    pub next_at: Option<Timestamp>,
    /// When it last did.
    pub last_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// When a workflow starts by itself. Persisted, and published with the kind beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Start {
    /// By the clock.
    Schedule {
        /// Five fields of cron.
        cron: String,
        /// Whose clock, such as `Europe/Berlin`; UTC when absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        timezone: Option<String>,
        /// Field -> value of the Request node.
        #[serde(default, skip_serializing_if = "Map::is_empty")]
        values: Map<String, Value>,
    },
    /// When somebody calls its URL.
    Hook,
    /// When something happens on the platform.
    Event {
        /// What.
        event: PlatformEvent,
    },
}

impl Start {
    /// As stored beside it.
    #[must_use]
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Schedule { .. } => "schedule",
            Self::Hook => "hook",
            Self::Event { .. } => "event",
        }
    }
}

/// Something that happens on the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlatformEvent {
    /// A deployment of the workspace could not be built or did not come into service.
    #[serde(rename = "deployment.failed")]
    DeploymentFailed,
    /// A deployment of the workspace has come into service.
    #[serde(rename = "deployment.succeeded")]
    DeploymentSucceeded,
    /// A deployment that was in service has no healthy replica any more.
    #[serde(rename = "deployment.crashed")]
    DeploymentCrashed,
    /// A trigger of an app has added or removed containers, or wanted to.
    #[serde(rename = "trigger.fired")]
    TriggerFired,
    /// A container has stopped answering and is replaced.
    #[serde(rename = "container.unhealthy")]
    ContainerUnhealthy,
}

impl PlatformEvent {
    /// Every event.
    pub const ALL: [Self; 5] =
        [Self::DeploymentFailed, Self::DeploymentSucceeded, Self::DeploymentCrashed, Self::TriggerFired, Self::ContainerUnhealthy];

    /// As on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::DeploymentFailed => "deployment.failed",
            Self::DeploymentSucceeded => "deployment.succeeded",
            Self::DeploymentCrashed => "deployment.crashed",
            Self::TriggerFired => "trigger.fired",
            Self::ContainerUnhealthy => "container.unhealthy",
        }
    }

    /// Reads an event.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str() == text)
    }

    /// The event that an entry of the audit log tells of, if it is one.
    #[must_use]
    pub fn of(activity: &Activity) -> Option<Self> {
        match activity.verb.as_str() {
            "deployment_failed" | "deployment_build_failed" => Some(Self::DeploymentFailed),
            "deployment_succeeded" => Some(Self::DeploymentSucceeded),
            "app_unavailable" => Some(Self::DeploymentCrashed),
            "trigger_over_limit" => Some(Self::TriggerFired),
            // People scale and kill as well.
            "container_count_set" | "container_kill" => {
                activity.data.get("trigger").is_some_and(Value::is_string).then_some(Self::TriggerFired)
            }
            "container_unhealthy" => Some(Self::ContainerUnhealthy),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::ActivityId;
    use crate::activity::Actor;

    #[test]
    fn events_are_persisted_as_they_are_published() {
        for event in PlatformEvent::ALL {
            assert_eq!(serde_json::to_value(event).ok(), Some(Value::from(event.as_str())));
            assert_eq!(PlatformEvent::parse(event.as_str()), Some(event));
        }
    }

    #[test]
    fn only_what_the_platform_did_is_an_event() {
        let of = |verb: &str, data: Value| {
            PlatformEvent::of(&Activity {
                id: ActivityId::generate(),
                workspace_id: WorkspaceId::generate(),
                project_id: None,
                instance_id: None,
                actor: Actor::System { part: "engine".into() },
                verb: verb.into(),
                subject: "anything".into(),
                data,
                address: None,
                created_at: Timestamp::UNIX_EPOCH,
            })
        };
        for (verb, event) in [
            ("deployment_failed", PlatformEvent::DeploymentFailed),
            ("deployment_build_failed", PlatformEvent::DeploymentFailed),
            ("deployment_succeeded", PlatformEvent::DeploymentSucceeded),
            ("app_unavailable", PlatformEvent::DeploymentCrashed),
            ("trigger_over_limit", PlatformEvent::TriggerFired),
            ("container_unhealthy", PlatformEvent::ContainerUnhealthy),
        ] {
            assert_eq!(of(verb, json!({})), Some(event), "{verb}");
        }
        for verb in ["container_count_set", "container_kill"] {
            assert_eq!(of(verb, json!({"trigger": "grow"})), Some(PlatformEvent::TriggerFired), "{verb}");
            assert_eq!(of(verb, json!({"trigger": null})), None, "{verb} by a person");
        }
        for verb in ["deployment_redeploy", "app_ended", "flow_trigger_failed"] {
            assert_eq!(of(verb, json!({"trigger": "grow"})), None, "{verb}");
        }
    }
}
