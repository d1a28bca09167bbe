//! Whom an account or an app tells of what (`contracts/galaxy.md` 3.7).

use domain::galaxy::ActivityKind;
use domain::notification;
use juniper::{GraphQLObject, graphql_object};

use crate::graphql::{Ctx, Scalar};

/// The settings of an account, or those with which an app overrides its account's.
pub(crate) struct NotificationSettings(pub(crate) notification::NotificationSettings);

/// Whom an account or an app tells of what.
#[graphql_object(context = Ctx, scalar = Scalar)]
impl NotificationSettings {
    /// Messages to a webhook in Slack's form.
    fn slack(&self) -> Option<SlackSettings> {
        let slack = self.0.slack.clone()?;
        let channels = slack.channels.into_iter().map(|(activity_type, channel)| SlackChannel { activity_type, channel });
        let (enabled, url) = (slack.enabled, slack.url);
        Some(SlackSettings { enabled, url, activity_types: slack.kinds.into_iter().collect(), channels: channels.collect() })
    }
    /// Messages by mail.
    fn email(&self) -> Option<EmailSettings> {
        let mail = self.0.mail.clone()?;
        Some(EmailSettings { enabled: mail.enabled, to: mail.to, activity_types: mail.kinds.into_iter().collect() })
    }
}

/// Messages to a webhook that understands Slack's.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct SlackSettings {
    enabled: bool,
    /// The incoming webhook.
    url: String,
    /// The types of activities that are told.
    activity_types: Vec<String>,
    /// Channels of their own.
    channels: Vec<SlackChannel>,
}

/// The channel of a type of activities.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct SlackChannel {
    activity_type: String,
    channel: String,
}

/// Messages by mail.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct EmailSettings {
    enabled: bool,
    /// Mailboxes; every member of the account when there are none.
    to: Vec<String>,
    /// The types of activities that are told.
    activity_types: Vec<String>,
}

/// A type of activities.
pub(crate) struct ActivityType(pub(crate) ActivityKind);

/// A type of activities that can be told.
#[graphql_object(context = Ctx, scalar = Scalar)]
impl ActivityType {
    #[graphql(name = "_id")]
    fn id(&self) -> &str {
        self.0.wire
    }
    /// As people read it.
    fn label(&self) -> &str {
        self.0.label
    }
}
