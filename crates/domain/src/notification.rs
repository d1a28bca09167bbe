//! Whom an account or an app tells of what (`contracts/galaxy.md` 3.7).

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// The settings of an account, or of an app that overrides its account's. Persisted, sealed: a Slack address is a secret.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NotificationSettings {
    /// A webhook that understands Slack's messages.
    pub slack: Option<Slack>,
    /// Mail.
    pub mail: Option<MailSettings>,
}

/// Messages to a webhook in Slack's form.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Slack {
    /// Switched on.
    pub enabled: bool,
    /// The incoming webhook.
    pub url: String,
    /// The kinds of activities that are told, by their name on the wire.
    pub kinds: BTreeSet<String>,
    /// The channel of a kind, where it is not the webhook's own.
    pub channels: BTreeMap<String, String>,
}

/// Messages by mail.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct MailSettings {
    /// Switched on.
    pub enabled: bool,
    /// Mailboxes; every member of the account when there are none.
    pub to: Vec<String>,
    /// The kinds of activities that are told, by their name on the wire.
    pub kinds: BTreeSet<String>,
}

impl std::fmt::Debug for NotificationSettings {
    /// Without addresses.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NotificationSettings")
            .field("slack", &self.slack.as_ref().map(|slack| slack.enabled))
            .field("mail", &self.mail.as_ref().map(|mail| mail.enabled))
            .finish()
    }
}

impl NotificationSettings {
    /// The webhook and the channel that a kind goes to.
    #[must_use]
    pub fn slack_for(&self, kind: &str) -> Option<(&str, Option<&str>)> {
        let slack = self.slack.as_ref().filter(|slack| slack.enabled && slack.kinds.contains(kind))?;
        Some((&slack.url, slack.channels.get(kind).map(String::as_str)))
    }

    /// The mailboxes that a kind goes to; empty means every member.
    #[must_use]
    pub fn mail_for(&self, kind: &str) -> Option<&[String]> {
        self.mail.as_ref().filter(|mail| mail.enabled && mail.kinds.contains(kind)).map(|mail| mail.to.as_slice())
    }
}
