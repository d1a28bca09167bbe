//! Rules that tell webhooks and mailboxes of deployments (`contracts/railway-schema.graphql`, `NotificationRule`).
//!
//! The body of a webhook is the one that Railway documents (docs.railway.com, "Webhooks"): `type`, `details`, `resource`, `severity` and
//! `timestamp`. Addresses of Slack and Discord get a text in the form that those services take, as Railway's do.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::account::Workspace;
use crate::activity::{Activity, Actor};
use crate::deployment::Deployment;
use crate::project::{Environment, Project, Service};
use crate::spec::Source;
use crate::{NotificationChannelId, NotificationRuleId, ProjectId, UserId, WorkspaceId};

/// What becomes of a deployment, by the names that Railway's webhooks have for it, and of its service's volume, by names of this server's own.
/// Only what this server tells is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum NoticeEvent {
    /// Its source is being built.
    Building,
    /// It runs, but its app has ended and is not started again.
    Crashed,
    /// It serves, or has completed.
    Deployed,
    /// It was not built, or did not become healthy.
    Failed,
    /// It waits until an admin of the workspace lets it go on.
    NeedsApproval,
    /// Nothing of it runs any more: it was replaced, removed or canceled.
    Removed,
    /// It slept, and a request has woken it.
    Resumed,
    /// Somebody has its running copies replaced.
    Restarted,
    /// It sleeps for lack of requests.
    Slept,
    /// Its volume holds as much as it is meant to, or more.
    VolumeFull,
    /// Its volume holds four fifths of that.
    VolumeNearlyFull,
}

impl NoticeEvent {
    /// Every event, in the order of their names.
    pub const ALL: [Self; 11] = [
        Self::Building,
        Self::Crashed,
        Self::Deployed,
        Self::Failed,
        Self::NeedsApproval,
        Self::Removed,
        Self::Restarted,
        Self::Resumed,
        Self::Slept,
        Self::VolumeFull,
        Self::VolumeNearlyFull,
    ];

    /// On the wire, and as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Building => "Deployment.building",
            Self::Crashed => "Deployment.crashed",
            Self::Deployed => "Deployment.deployed",
            Self::Failed => "Deployment.failed",
            Self::NeedsApproval => "Deployment.needs_approval",
            Self::Removed => "Deployment.removed",
            Self::Resumed => "Deployment.resumed",
            Self::Restarted => "Deployment.restarted",
            Self::Slept => "Deployment.slept",
            Self::VolumeFull => "Volume.full",
            Self::VolumeNearlyFull => "Volume.nearlyFull",
        }
    }

    /// Reads a name, whatever its case is: clients write it both ways.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|event| event.as_str().eq_ignore_ascii_case(text))
    }

    /// What an entry of the audit log tells of a deployment; its subject is the deployment's id.
    #[must_use]
    pub fn of(activity: &Activity) -> Option<Self> {
        match activity.verb.as_str() {
            "deployment_building" => Some(Self::Building),
            "deployment_succeeded" => Some(Self::Deployed),
            "deployment_build_failed" | "deployment_failed" => Some(Self::Failed),
            "deployment_needs_approval" => Some(Self::NeedsApproval),
            "app_unavailable" => Some(Self::Crashed),
            "deployment_removed" => Some(Self::Removed),
            "deployment_restart" => Some(Self::Restarted),
            crate::galaxy::APP_SLEPT => Some(Self::Slept),
            crate::galaxy::APP_WOKEN => Some(Self::Resumed),
            "volume_full" => Some(Self::VolumeFull),
            "volume_nearly_full" => Some(Self::VolumeNearlyFull),
            _ => None,
        }
    }

    /// How much it matters. Railway's own example has a failed deployment as a warning.
    #[must_use]
    pub fn severity(self) -> NoticeSeverity {
        match self {
            Self::Crashed | Self::VolumeFull => NoticeSeverity::Critical,
            Self::Failed | Self::VolumeNearlyFull => NoticeSeverity::Warning,
            Self::NeedsApproval | Self::Removed | Self::Restarted => NoticeSeverity::Notice,
            Self::Building | Self::Deployed | Self::Resumed | Self::Slept => NoticeSeverity::Info,
        }
    }

    /// The deployment's status then.
    fn status(self) -> &'static str {
        match self {
            Self::Building => "BUILDING",
            Self::Crashed => "CRASHED",
            Self::Deployed | Self::Resumed | Self::VolumeFull | Self::VolumeNearlyFull => "SUCCESS",
            Self::Failed => "FAILED",
            Self::NeedsApproval => "NEEDS_APPROVAL",
            Self::Removed => "REMOVED",
            Self::Restarted => "DEPLOYING",
            Self::Slept => "SLEEPING",
        }
    }

    /// As the end of a sentence that begins with the service.
    fn words(self) -> &'static str {
        match self {
            Self::Building => "is being built",
            Self::Crashed => "has crashed",
            Self::Deployed => "is deployed",
            Self::Failed => "could not be deployed",
            Self::NeedsApproval => "has a deployment that needs an approval",
            Self::Removed => "has a deployment less: it was removed",
            Self::Resumed => "is awake again",
            Self::Restarted => "is being restarted",
            Self::Slept => "sleeps, for lack of requests",
            Self::VolumeFull => "has a full volume",
            Self::VolumeNearlyFull => "has a volume that is nearly full",
        }
    }
}

/// How much an event matters (`contracts/railway-schema.graphql`, `NotificationSeverity`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum NoticeSeverity {
    /// Somebody has to act.
    Critical,
    /// As it should be.
    Info,
    /// Worth knowing.
    Notice,
    /// Something did not work.
    Warning,
}

impl NoticeSeverity {
    /// On the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Critical => "CRITICAL",
            Self::Info => "INFO",
            Self::Notice => "NOTICE",
            Self::Warning => "WARNING",
        }
    }
}

/// Who is told of which deployments.
#[derive(Clone, PartialEq, Eq)]
pub struct NotificationRule {
    /// Identity.
    pub id: NotificationRuleId,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// The only project that it is about; every one of the workspace for `None`. The rule goes with it.
    pub project_id: Option<ProjectId>,
    /// The member who made it, with whom it goes; `None` when whoever did that is none.
    pub created_by: Option<UserId>,
    /// What is told.
    pub spec: RuleSpec,
    /// Where to.
    pub channels: Vec<Channel>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}

impl std::fmt::Debug for NotificationRule {
    /// Without channels: they hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NotificationRule").field("id", &self.id).field("spec", &self.spec).finish_non_exhaustive()
    }
}

/// What a rule tells. Persisted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct RuleSpec {
    /// Names of events, each one of [`NoticeEvent::ALL`]; every event when there are none.
    pub event_types: Vec<String>,
    /// Severities; every one when there are none.
    pub severities: Vec<NoticeSeverity>,
    /// Whether environments of pull requests are told of too; they are unless this is `false`.
    pub ephemeral_environments: Option<bool>,
}

/// One place that a rule tells. Persisted, sealed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Identity.
    pub id: NotificationChannelId,
    /// Where it leads.
    pub config: ChannelConfig,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}

/// Where a channel leads. Persisted, sealed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "UPPERCASE")]
pub enum ChannelConfig {
    /// A POST of JSON.
    Webhook {
        /// `https://…` or `http://…`.
        url: String,
        /// Signs each attempt as Svix does; not shown again.
        #[serde(default)]
        secret: Option<String>,
    },
    /// A mail.
    Email {
        /// Mailboxes; every member of the workspace when there are none.
        to: Vec<String>,
    },
}

impl ChannelConfig {
    /// As its owner sees it: whether there is a secret, not which.
    #[must_use]
    pub fn shown(&self) -> Value {
        match self {
            Self::Webhook { url, secret } => json!({"type": "WEBHOOK", "url": url, "signed": secret.is_some()}),
            Self::Email { to } => json!({"type": "EMAIL", "to": to}),
        }
    }
}

impl NotificationRule {
    /// Whether it tells of an event in a project.
    #[must_use]
    pub fn wants(&self, event: NoticeEvent, project: Option<ProjectId>) -> bool {
        let RuleSpec { event_types, severities, .. } = &self.spec;
        (self.project_id.is_none() || self.project_id == project)
            && (event_types.is_empty() || event_types.iter().any(|name| NoticeEvent::parse(name) == Some(event)))
            && (severities.is_empty() || severities.contains(&event.severity()))
    }

    /// Whether it tells of an environment.
    #[must_use]
    pub fn covers(&self, environment: &Environment) -> bool {
        !environment.is_ephemeral || self.spec.ephemeral_environments != Some(false)
    }
}

/// An event with everything that a message says of it.
#[derive(Clone, Copy, Debug)]
pub struct Notice<'a> {
    /// What happened.
    pub event: NoticeEvent,
    /// When.
    pub at: Timestamp,
    /// Why, where something went wrong.
    pub reason: Option<&'a str>,
    /// In whose workspace.
    pub workspace: &'a Workspace,
    /// In which project.
    pub project: &'a Project,
    /// In which environment.
    pub environment: &'a Environment,
    /// To which service.
    pub service: &'a Service,
    /// To which deployment of it.
    pub deployment: &'a Deployment,
}

impl Notice<'_> {
    /// The body of a webhook, in the form that its address takes.
    #[must_use]
    pub fn body(&self, url: &str) -> Value {
        match host_and_path(url) {
            Some(("hooks.slack.com", _)) => json!({"text": self.sentence()}),
            Some(("discord.com" | "discordapp.com" | "ptb.discord.com" | "canary.discord.com", path))
                if path.starts_with("/api/webhooks/") =>
            {
                // Discord takes no more.
                json!({"content": self.sentence().chars().take(2_000).collect::<String>()})
            }
            _ => self.payload(),
        }
    }

    /// The body as Railway documents it (docs.railway.com, "Webhooks", "Example payload"). What this server does not know of a deployment,
    /// such as the hash of a commit, is absent; `details.reason` is its own.
    #[must_use]
    pub fn payload(&self) -> Value {
        let Self { workspace, project, environment, service, deployment, .. } = self;
        let (source, branch) = match &deployment.spec.source {
            Some(Source::Image(_)) => ("Image", None),
            Some(Source::Repo { branch, .. }) => ("GitHub", branch.as_deref()),
            None => ("CLI", None),
        };
        let author = match &deployment.creator {
            Actor::User { name, .. } => Some(name.as_str()),
            Actor::Key { label, .. } => Some(label.as_str()),
            Actor::System { .. } => None,
        };
        let details = [
            ("id", Some(deployment.id.to_string())),
            ("source", Some(source.to_owned())),
            ("status", Some(self.event.status().to_owned())),
            ("branch", branch.map(str::to_owned)),
            ("commitAuthor", author.map(str::to_owned)),
            ("commitMessage", deployment.message.clone()),
            ("reason", self.reason.map(str::to_owned)),
        ];
        let details: Map<String, Value> =
            details.into_iter().filter_map(|(name, value)| Some((name.to_owned(), Value::String(value?)))).collect();
        json!({
            "type": self.event.as_str(),
            "details": details,
            "resource": {
                "workspace": {"id": workspace.id, "name": workspace.name},
                "project": {"id": project.id, "name": project.name},
                "environment": {"id": environment.id, "name": environment.name, "isEphemeral": environment.is_ephemeral},
                "service": {"id": service.id, "name": service.name},
                "deployment": {"id": deployment.id},
            },
            "severity": self.event.severity().as_str(),
            "timestamp": format!("{:.3}", self.at),
        })
    }

    /// The same for people.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Self { project, environment, service, event, .. } = self;
        let why = self.reason.map(|reason| format!(": {reason}")).unwrap_or_default();
        format!("{} {} ({}, {}){why}", service.name, event.words(), project.name, environment.name)
    }

    /// The subject line of a mail.
    #[must_use]
    pub fn title(&self) -> String {
        // What people call their things may hold anything; a subject line is one line.
        let text = format!("{} {}", self.service.name, self.event.words());
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
    }
}

/// The host of an https address as it is written, and what follows it.
fn host_and_path(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("https://")?;
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    Some(rest.split_at(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(spec: RuleSpec, project_id: Option<ProjectId>) -> NotificationRule {
        let at = Timestamp::UNIX_EPOCH;
        let (id, workspace_id) = (NotificationRuleId::generate(), WorkspaceId::generate());
        NotificationRule { id, workspace_id, project_id, created_by: None, spec, channels: vec![], created_at: at, updated_at: at }
    }

    #[test]
    fn events_have_their_names_and_a_rule_without_any_wants_all() {
        for event in NoticeEvent::ALL {
            assert_eq!(NoticeEvent::parse(event.as_str()), Some(event));
            assert_eq!(NoticeEvent::parse(&event.as_str().to_uppercase()), Some(event));
            assert!(rule(RuleSpec::default(), None).wants(event, Some(ProjectId::generate())));
        }
        assert!(NoticeEvent::ALL.is_sorted_by_key(|event| event.as_str()));
        assert_eq!(NoticeEvent::parse("Deployment.exploded"), None);
    }

    #[test]
    fn a_rule_is_narrowed_by_event_severity_and_project() {
        let spec = RuleSpec { event_types: vec!["Deployment.Failed".into()], ..RuleSpec::default() };
        assert!(rule(spec.clone(), None).wants(NoticeEvent::Failed, None) && !rule(spec, None).wants(NoticeEvent::Crashed, None));
        let spec = RuleSpec { severities: vec![NoticeSeverity::Critical, NoticeSeverity::Warning], ..RuleSpec::default() };
        assert!(rule(spec.clone(), None).wants(NoticeEvent::Crashed, None) && !rule(spec, None).wants(NoticeEvent::Deployed, None));
        let (mine, other) = (ProjectId::generate(), ProjectId::generate());
        let narrowed = rule(RuleSpec::default(), Some(mine));
        assert!(narrowed.wants(NoticeEvent::Failed, Some(mine)));
        assert!(!narrowed.wants(NoticeEvent::Failed, Some(other)) && !narrowed.wants(NoticeEvent::Failed, None));
    }

    #[test]
    fn a_secret_is_not_shown() {
        let config = ChannelConfig::Webhook { url: "https://x.test/".into(), secret: Some("canary".into()) };
        assert_eq!(config.shown(), json!({"type": "WEBHOOK", "url": "https://x.test/", "signed": true}));
        let stored = serde_json::to_value(&config).unwrap();
        assert!(serde_json::from_value::<ChannelConfig>(stored).unwrap() == config);
    }

    #[test]
    fn services_are_known_by_their_address() {
        assert_eq!(host_and_path("https://hooks.slack.com/services/T/B"), Some(("hooks.slack.com", "/services/T/B")));
        assert_eq!(host_and_path("https://discord.com/api/webhooks/1/x"), Some(("discord.com", "/api/webhooks/1/x")));
        // Neither a port, a user nor a longer name is theirs.
        assert_eq!(host_and_path("https://hooks.slack.com.evil.test/"), Some(("hooks.slack.com.evil.test", "/")));
        assert_eq!(host_and_path("http://hooks.slack.com/"), None);
    }
}
