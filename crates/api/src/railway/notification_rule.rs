//! Rules that tell webhooks and mailboxes of deployments.

use std::sync::Arc;

use domain::delivery::{Delivery, DeliveryAttempt, DeliveryState, Target};
use domain::notification_rule::{NoticeEvent, NoticeSeverity};
use domain::{DeliveryId, NotificationRuleId, ProjectId, WorkspaceId, notification_rule as rules};
use juniper::{GraphQLInputObject, GraphQLObject, ID, graphql_object};
use ops::notification_rule::{NotificationRuleCreate, NotificationRulePatch};
use serde_json::Value as Json;

use super::enums::{NotificationDeliveryStatus, NotificationSeverity};
use super::inputs::{id, id_option};
use crate::graphql::scalar::{DateTime, NotificationChannelConfig};
use crate::graphql::{Ctx, Fault, Scalar};

/// Who is told of which deployments.
pub(crate) struct NotificationRule(Arc<rules::NotificationRule>);

#[graphql_object(context = Ctx, scalar = Scalar)]
impl NotificationRule {
    fn channels(&self) -> Vec<NotificationChannel> {
        (0..self.0.channels.len()).map(|at| NotificationChannel { rule: Arc::clone(&self.0), at }).collect()
    }
    fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }
    /// Always null: a rule is narrowed by project.
    fn environment_id(&self) -> Option<String> {
        None
    }
    /// Whether environments of pull requests are told of; they are unless this is false.
    fn ephemeral_environments(&self) -> Option<bool> {
        self.0.spec.ephemeral_environments
    }
    /// By the names in `notificationEventTypes`; every event when there are none.
    fn event_types(&self) -> &[String] {
        &self.0.spec.event_types
    }
    fn id(&self) -> ID {
        ID::from(self.0.id.to_string())
    }
    /// The only project that it is about; null for every one of the workspace.
    fn project_id(&self) -> Option<String> {
        self.0.project_id.map(|id| id.to_string())
    }
    /// Always null: a rule is narrowed by project.
    fn service_id(&self) -> Option<String> {
        None
    }
    /// Every severity when there are none.
    fn severities(&self) -> Vec<NotificationSeverity> {
        self.0.spec.severities.iter().copied().map(NotificationSeverity::from).collect()
    }
    fn updated_at(&self) -> DateTime {
        DateTime(self.0.updated_at)
    }
    fn workspace_id(&self) -> String {
        self.0.workspace_id.to_string()
    }
}

/// One place that a rule tells.
pub(crate) struct NotificationChannel {
    rule: Arc<rules::NotificationRule>,
    at: usize,
}

impl NotificationChannel {
    fn channel(&self) -> &rules::Channel {
        &self.rule.channels[self.at]
    }
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl NotificationChannel {
    /// `{"type": "WEBHOOK", "url": …, "signed": …}` or `{"type": "EMAIL", "to": […]}`. A secret is not shown.
    fn config(&self) -> NotificationChannelConfig {
        self.channel().config.shown().into()
    }
    fn created_at(&self) -> DateTime {
        DateTime(self.channel().created_at)
    }
    fn id(&self) -> ID {
        ID::from(self.channel().id.to_string())
    }
    fn updated_at(&self) -> DateTime {
        DateTime(self.channel().updated_at)
    }
    fn workspace_id(&self) -> String {
        self.rule.workspace_id.to_string()
    }
}

/// An event that a rule can tell of.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct NotificationEventType {
    /// As rules name it.
    name: String,
    /// How much it matters.
    severity: NotificationSeverity,
}

/// A message of a rule.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct NotificationRuleDelivery {
    attempts: i32,
    created_at: DateTime,
    /// What was wrong with the last attempt, if anything was.
    error: Option<String>,
    /// Its receivers see it as `svix-id`, behind `msg_`.
    id: ID,
    /// When it is tried next, while it is pending.
    next_attempt_at: Option<DateTime>,
    status: NotificationDeliveryStatus,
    /// The status that the last attempt was answered with.
    status_code: Option<i32>,
    /// The webhook's address, or the mailboxes.
    to: String,
}

/// A new rule.
#[derive(Clone, Debug, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct CreateNotificationRuleInput {
    /// `{"type": "WEBHOOK", "url": …, "secret": …}` or `{"type": "EMAIL", "to": […]}` each. Without `to`, every member gets the mail. With a
    /// secret, messages are signed as Svix does, in the headers `svix-id`, `svix-timestamp` and `svix-signature`.
    channel_configs: Vec<NotificationChannelConfig>,
    ephemeral_environments: Option<bool>,
    /// By the names in `notificationEventTypes`; every event when there are none.
    event_types: Vec<String>,
    project_id: Option<String>,
    severities: Option<Vec<NotificationSeverity>>,
    workspace_id: String,
}

/// Changes of a rule; what is left out stays.
#[derive(Clone, Debug, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct UpdateNotificationRuleInput {
    /// All of them. A webhook that the rule has already keeps its secret unless another one, or null, is sent.
    channel_configs: Option<Vec<NotificationChannelConfig>>,
    ephemeral_environments: Option<bool>,
    event_types: Option<Vec<String>>,
    severities: Option<Vec<NotificationSeverity>>,
}

/// Documents of JSON that come as a list come as one leaf, whose list is the only element then.
fn documents(given: Vec<NotificationChannelConfig>) -> Vec<Json> {
    given
        .into_iter()
        .flat_map(|one| match &*one.0 {
            Json::Array(items) => items.clone(),
            other => vec![other.clone()],
        })
        .collect()
}

fn severities(given: Vec<NotificationSeverity>) -> Vec<NoticeSeverity> {
    given.into_iter().map(NoticeSeverity::from).collect()
}

fn rule(text: &str) -> Result<NotificationRuleId, Fault> {
    id("Notification rule", text, NotificationRuleId)
}

pub(crate) fn notification_event_types() -> Vec<NotificationEventType> {
    let known = NoticeEvent::ALL.into_iter();
    known.map(|event| NotificationEventType { name: event.as_str().to_owned(), severity: event.severity().into() }).collect()
}

pub(crate) fn notification_rules(ctx: &Ctx, project: Option<&str>, workspace: &str) -> Result<Vec<NotificationRule>, Fault> {
    let (workspace, project) = (id("Workspace", workspace, WorkspaceId)?, id_option("Project", project, ProjectId)?);
    let found = ctx.wait(ops::notification_rule::notification_rules(&ctx.op, workspace, project))?;
    ctx.charge(found.len())?;
    Ok(found.into_iter().map(|rule| NotificationRule(Arc::new(rule))).collect())
}

pub(crate) fn notification_rule_deliveries(ctx: &Ctx, id: &str) -> Result<Vec<NotificationRuleDelivery>, Fault> {
    let found = ctx.wait(ops::notification_rule::notification_rule_deliveries(&ctx.op, rule(id)?))?;
    ctx.charge(found.len())?;
    Ok(found.into_iter().map(|(delivery, attempts)| NotificationRuleDelivery::new(delivery, attempts.last())).collect())
}

impl NotificationRuleDelivery {
    fn new(delivery: Delivery, last: Option<&DeliveryAttempt>) -> Self {
        let Delivery { id, target, state, attempts, next_at, created_at, .. } = delivery;
        Self {
            attempts: i32::try_from(attempts).unwrap_or(i32::MAX),
            created_at: DateTime(created_at),
            error: last.and_then(|attempt| attempt.error.clone()),
            id: ID::from(id.to_string()),
            next_attempt_at: (state == DeliveryState::Pending).then_some(DateTime(next_at)),
            status: match state {
                DeliveryState::Pending => NotificationDeliveryStatus::Pending,
                DeliveryState::Delivered => NotificationDeliveryStatus::Sent,
                DeliveryState::Failed => NotificationDeliveryStatus::Failed,
            },
            status_code: last.and_then(|attempt| attempt.status).map(i32::from),
            to: match target {
                Target::Webhook { url, .. } => url,
                Target::Mail { to, .. } => to.join(", "),
            },
        }
    }
}

pub(crate) fn notification_rule_create(ctx: &Ctx, input: CreateNotificationRuleInput) -> Result<NotificationRule, Fault> {
    let wanted = NotificationRuleCreate {
        workspace: id("Workspace", &input.workspace_id, WorkspaceId)?,
        project: id_option("Project", input.project_id.as_deref(), ProjectId)?,
        channels: documents(input.channel_configs),
        event_types: input.event_types,
        severities: severities(input.severities.unwrap_or_default()),
        ephemeral_environments: input.ephemeral_environments,
    };
    let made = ctx.wait(ops::notification_rule::notification_rule_create(&ctx.op, wanted))?;
    Ok(NotificationRule(Arc::new(made)))
}

pub(crate) fn notification_rule_delete(ctx: &Ctx, id: &str) -> Result<bool, Fault> {
    ctx.wait(ops::notification_rule::notification_rule_delete(&ctx.op, rule(id)?))?;
    Ok(true)
}

pub(crate) fn notification_rule_delivery_replay(ctx: &Ctx, delivery: &str) -> Result<bool, Fault> {
    ctx.wait(ops::notification_rule::notification_rule_delivery_replay(&ctx.op, id("Delivery", delivery, DeliveryId)?))?;
    Ok(true)
}

pub(crate) fn notification_rule_update(ctx: &Ctx, id: &str, input: UpdateNotificationRuleInput) -> Result<NotificationRule, Fault> {
    let patch = NotificationRulePatch {
        channels: input.channel_configs.map(documents),
        event_types: input.event_types,
        severities: input.severities.map(severities),
        ephemeral_environments: input.ephemeral_environments,
    };
    let changed = ctx.wait(ops::notification_rule::notification_rule_update(&ctx.op, rule(id)?, patch))?;
    Ok(NotificationRule(Arc::new(changed)))
}

pub(crate) fn webhook_test(ctx: &Ctx, payload: &str, url: &str) -> Result<i32, Fault> {
    ctx.wait(ops::webhook::webhook_test(&ctx.op, url, payload)).map(i32::from)
}
