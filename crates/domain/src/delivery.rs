//! Messages that leave the server for somebody's webhook or mailbox: kept, tried again with growing pauses, visible, and sent again on
//! request. What makes one (a notification, a workflow's run, a project's webhook) says so in `kind` and `subject`.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{DeliveryId, WorkspaceId};

/// The kind of messages that rules make; their subject is the rule's id.
pub const RULE_DELIVERIES: &str = "notification_rule";

/// One message.
#[derive(Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Identity; receivers see it and can drop what they have had.
    pub id: DeliveryId,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// What made it, such as `notification`.
    pub kind: String,
    /// The id of what it belongs to, for the list of those.
    pub subject: String,
    /// Where it goes.
    pub target: Target,
    /// What it says: JSON for a webhook, text for a mail.
    pub body: String,
    /// Where it stands.
    pub state: DeliveryState,
    /// Attempts so far.
    pub attempts: u32,
    /// Attempts since it was last asked for: what the pauses grow by.
    pub tries: u32,
    /// When it is tried next, while it is pending.
    pub next_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}

impl std::fmt::Debug for Delivery {
    /// Without target and body: an address may hold a secret.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { id, kind, subject, state, attempts, .. } = self;
        f.debug_struct("Delivery")
            .field("id", id)
            .field("kind", kind)
            .field("subject", subject)
            .field("state", state)
            .field("attempts", attempts)
            .finish_non_exhaustive()
    }
}

/// Where a message goes. Persisted, sealed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Target {
    /// A POST of the body.
    Webhook {
        /// `https://…` or `http://…`.
        url: String,
        /// Headers beyond `Content-Type: application/json`.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// Signs each attempt as Svix does (`contracts/flow.md`): `whsec_` and base64, or any text.
        #[serde(default)]
        secret: Option<String>,
    },
    /// A mail.
    Mail {
        /// The mailboxes.
        to: Vec<String>,
        /// Its subject line.
        subject: String,
    },
}

/// Where a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DeliveryState {
    /// It will be tried, at once or again.
    Pending,
    /// The receiver has taken it.
    Delivered,
    /// It was given up.
    Failed,
}

impl DeliveryState {
    /// As stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Delivered => "DELIVERED",
            Self::Failed => "FAILED",
        }
    }

    /// Reads a stored state.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Pending, Self::Delivered, Self::Failed].into_iter().find(|state| state.as_str() == text)
    }
}

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeliveryAttempt {
    /// Of which message.
    pub delivery_id: DeliveryId,
    /// Counted from 1.
    pub number: u32,
    /// When it began.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub millis: u32,
    /// The status of the answer, if there was one.
    pub status: Option<u16>,
    /// What went wrong, in words for the owner.
    pub error: Option<String>,
}

/// Seconds between attempts (`contracts/flow.md`, webhooks): the eighth attempt is the last.
pub const PAUSES: [i64; 7] = [5, 300, 1_800, 7_200, 18_000, 36_000, 36_000];

/// When a message is tried again after its `tries`-th failure, or that it is given up.
#[must_use]
pub fn next_attempt(tries: u32, now: Timestamp) -> Option<Timestamp> {
    let pause = PAUSES.get(usize::try_from(tries).ok()?.checked_sub(1)?)?;
    now.checked_add(SignedDuration::from_secs(*pause)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_and_end() {
        let now = Timestamp::UNIX_EPOCH;
        let all: Vec<_> = (1..10).map_while(|tries| next_attempt(tries, now)).collect();
        assert_eq!(all.len(), PAUSES.len());
        assert!(all.is_sorted());
        assert_eq!(all[0], Timestamp::from_second(5).unwrap());
    }
}
