//! Whom a workspace tells of what happens in it (`contracts/galaxy.md` 3.7), in the manner of this API.

use domain::galaxy::ActivityKind;
use domain::notification::{self, MailSettings, Slack};
use domain::{Permission, Place, WorkspaceId};
use juniper::{GraphQLInputObject, GraphQLObject};

use super::inputs::id;
use crate::graphql::{Ctx, Fault, Scalar};

/// Whom a workspace tells of what.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct NotificationSettings {
    /// Messages by mail; null when none were ever set.
    mail: Option<MailNotifications>,
    /// Messages to a webhook that understands Slack's; null when none were ever set.
    slack: Option<SlackNotifications>,
}

/// Messages by mail.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct MailNotifications {
    enabled: bool,
    /// What is told, by its type in `notificationKinds`.
    kinds: Vec<String>,
    /// Mailboxes; every member of the workspace when there are none.
    to: Vec<String>,
}

/// Messages to a webhook that understands Slack's.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct SlackNotifications {
    enabled: bool,
    /// What is told, by its type in `notificationKinds`.
    kinds: Vec<String>,
    /// The incoming webhook.
    url: String,
}

/// Something that can be told.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct NotificationKind {
    /// As people read it.
    label: String,
    /// As the settings name it.
    #[graphql(name = "type")]
    wire: String,
}

/// The settings of a workspace, whole: what is left out is switched off.
#[derive(Clone, Debug, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct NotificationSettingsInput {
    mail: Option<MailNotificationsInput>,
    slack: Option<SlackNotificationsInput>,
    workspace_id: String,
}

/// Messages by mail.
#[derive(Clone, Debug, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct MailNotificationsInput {
    enabled: bool,
    kinds: Vec<String>,
    /// Every member of the workspace when there are none.
    to: Option<Vec<String>>,
}

/// Messages to a webhook that understands Slack's.
#[derive(Clone, Debug, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct SlackNotificationsInput {
    enabled: bool,
    kinds: Vec<String>,
    url: String,
}

impl From<notification::NotificationSettings> for NotificationSettings {
    fn from(settings: notification::NotificationSettings) -> Self {
        let mail =
            settings.mail.map(|MailSettings { enabled, to, kinds }| MailNotifications { enabled, to, kinds: kinds.into_iter().collect() });
        let slack = settings.slack.map(|slack| SlackNotifications {
            enabled: slack.enabled,
            kinds: slack.kinds.into_iter().collect(),
            url: slack.url,
        });
        Self { mail, slack }
    }
}

pub(crate) fn notification_kinds() -> Vec<NotificationKind> {
    let kinds = ActivityKind::all();
    kinds.iter().map(|kind| NotificationKind { label: kind.label.to_owned(), wire: kind.wire.to_owned() }).collect()
}

pub(crate) fn notification_settings(ctx: &Ctx, workspace: &str) -> Result<NotificationSettings, Fault> {
    let tenant = ctx.op.allow(id("Workspace", workspace, WorkspaceId)?, Place::Workspace, Permission::ReadSecrets)?;
    let found = ctx.wait(ops::app::notification_settings_get(&ctx.op, tenant))?;
    Ok(found.unwrap_or_default().into())
}

pub(crate) fn notification_settings_set(ctx: &Ctx, input: NotificationSettingsInput) -> Result<NotificationSettings, Fault> {
    let workspace = ctx.wait(ops::account::workspace_get(&ctx.op, id("Workspace", &input.workspace_id, WorkspaceId)?))?.row;
    let tenant = ctx.op.allow(workspace.id, Place::Workspace, Permission::Write)?;
    let before = ctx.wait(ops::app::notification_settings_get(&ctx.op, tenant))?.unwrap_or_default();
    let channels = before.slack.map(|slack| slack.channels).unwrap_or_default();
    let NotificationSettingsInput { mail, slack, .. } = input;
    let settings = notification::NotificationSettings {
        slack: slack.map(|slack| Slack { enabled: slack.enabled, url: slack.url, kinds: slack.kinds.into_iter().collect(), channels }),
        mail: mail.map(|mail| MailSettings {
            enabled: mail.enabled,
            to: mail.to.unwrap_or_default(),
            kinds: mail.kinds.into_iter().collect(),
        }),
    };
    ctx.wait(ops::app::notification_settings_set(&ctx.op, Some(&workspace.username), None, Some(settings.clone())))?;
    Ok(settings.into())
}
