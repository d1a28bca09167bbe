//! The form of API keys: `prefix` + 43 base-62 characters of 256 random bits + 6 of checksum.
//!
//! The checksum lets a mistyped key be refused without asking the store, and lets secret scanners recognise a leaked one.

use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::name::BadName;
use crate::{ApiKeyId, EnvironmentId, ProjectId, Role, UserId, WorkspaceId};

/// What a key is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyKind {
    /// Acts as its user (Railway's personal token).
    Account,
    /// Acts for one workspace (Railway's team token).
    Workspace,
    /// Acts in one environment of one project.
    Project,
    /// Galaxy's account key.
    Galaxy,
    /// GalaxyAI Flow's key.
    Flow,
    /// A session of the command-line client, an hour long.
    OAuthAccess,
    /// Exchanged once for the next access and refresh tokens.
    OAuthRefresh,
}

impl KeyKind {
    /// Every kind.
    pub const ALL: [Self; 7] =
        [Self::Account, Self::Workspace, Self::Project, Self::Galaxy, Self::Flow, Self::OAuthAccess, Self::OAuthRefresh];

    /// The visible beginning of such keys.
    #[must_use]
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Account => "orr_",
            Self::Workspace => "orw_",
            Self::Project => "orp_",
            Self::Galaxy => "gal_",
            Self::Flow => "gx_",
            Self::OAuthAccess => "ora_",
            Self::OAuthRefresh => "orf_",
        }
    }

    /// As stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Account => "ACCOUNT",
            Self::Workspace => "WORKSPACE",
            Self::Project => "PROJECT",
            Self::Galaxy => "GALAXY",
            Self::Flow => "FLOW",
            Self::OAuthAccess => "OAUTH_ACCESS",
            Self::OAuthRefresh => "OAUTH_REFRESH",
        }
    }

    /// Reads a stored kind.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text)
    }

    /// What such a key is in the workspace that it belongs to; `None` for one that has the rights of its person.
    #[must_use]
    pub fn role(self) -> Option<Role> {
        match self {
            Self::Account | Self::OAuthAccess | Self::OAuthRefresh => None,
            Self::Workspace | Self::Galaxy => Some(Role::Admin),
            Self::Project | Self::Flow => Some(Role::Member),
        }
    }

    /// The kind's name in sentences to users.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Account => "account token",
            Self::Workspace => "workspace token",
            Self::Project => "project token",
            Self::Galaxy => "Galaxy API key",
            Self::Flow => "Flow API key",
            Self::OAuthAccess => "OAuth access token",
            Self::OAuthRefresh => "OAuth refresh token",
        }
    }
}

/// The most Flow keys that an account has at a time, expired ones included until they are revoked.
pub const FLOW_KEYS: u16 = 10;

/// A key's own limits, in requests per window. `None` leaves the window to the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLimits {
    /// Per second.
    pub second: Option<u32>,
    /// Per minute.
    pub minute: Option<u32>,
    /// Per hour.
    pub hour: Option<u32>,
    /// Per day.
    pub day: Option<u32>,
}

impl KeyLimits {
    /// A key that is limited by its plan alone.
    pub const OF_PLAN: Self = Self { second: None, minute: None, hour: None, day: None };
    /// What a Flow key has when its owner sets nothing else (`contracts/flow.md` 2.1).
    pub const FLOW: Self = Self { second: None, minute: Some(60), hour: None, day: Some(1_000) };

    /// Refuses what no key of the kind may have.
    ///
    /// # Errors
    /// A sentence that names the window and its range.
    pub fn check(self, kind: KeyKind) -> Result<(), BadName> {
        let most = if kind == KeyKind::Flow { [10_000, 10_000, 100_000, 100_000] } else { [100_000, 1_000_000, 10_000_000, 100_000_000] };
        let windows = [("second", self.second), ("minute", self.minute), ("hour", self.hour), ("day", self.day)];
        for ((window, limit), most) in windows.into_iter().zip(most) {
            if let Some(limit) = limit
                && !(1..=most).contains(&limit)
            {
                return Err(BadName(format!("The limit per {window} is {limit}: a {} has 1 to {most}", kind.label())));
            }
        }
        Ok(())
    }
}

/// A key as the store knows it; the secret itself is not among its fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiKey {
    /// Identity.
    pub id: ApiKeyId,
    /// What it is for.
    pub kind: KeyKind,
    /// Its user: the owner of account keys and OAuth tokens, the maker of others.
    pub user_id: UserId,
    /// The workspace it is tied to, for workspace, project, Galaxy and Flow keys.
    pub workspace_id: Option<WorkspaceId>,
    /// The project and environment it is tied to, for project keys.
    pub project: Option<(ProjectId, EnvironmentId)>,
    /// What the owner calls it.
    pub label: String,
    /// The first characters, to recognise it by.
    pub display: String,
    /// Its own limits.
    pub limits: KeyLimits,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used.
    pub last_used_at: Option<Timestamp>,
    /// From where that was.
    pub last_used_address: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
}

impl ApiKey {
    /// Whether its end has come; it does not work in the second that is named any more.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// SHA-256 of a secret: what is stored and looked up.
#[must_use]
pub fn hash(secret: &str) -> [u8; 32] {
    Sha256::digest(secret.as_bytes()).into()
}

const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
const BODY: usize = 43;
const CHECK: usize = 6;

fn base62(bytes: &[u8], width: usize) -> String {
    let mut digits = bytes.to_vec();
    let mut out = vec![ALPHABET[0]; width];
    for place in out.iter_mut().rev() {
        let mut rest = 0u32;
        for digit in &mut digits {
            let value = (rest << 8) | u32::from(*digit);
            *digit = (value / 62) as u8;
            rest = value % 62;
        }
        *place = ALPHABET[rest as usize];
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn checksum(prefixed: &str) -> String {
    base62(&hash(prefixed)[..4], CHECK)
}

/// Writes a key of the kind from 256 random bits.
#[must_use]
pub fn encode(kind: KeyKind, random: &[u8; 32]) -> String {
    let body = format!("{}{}", kind.prefix(), base62(random, BODY));
    let check = checksum(&body);
    body + &check
}

/// The beginning of secrets that are no keys: login links, sessions, codes. It lets [`redact`] know them.
pub const OPAQUE_PREFIX: &str = "orl_";

/// Writes a secret that is no key from 256 random bits.
#[must_use]
pub fn encode_opaque(random: &[u8; 32]) -> String {
    format!("{OPAQUE_PREFIX}{}", base62(random, BODY))
}

/// The kind that a text claims to be a key of: its beginning.
#[must_use]
pub fn claimed(secret: &str) -> Option<KeyKind> {
    KeyKind::ALL.into_iter().find(|kind| secret.starts_with(kind.prefix()))
}

/// The kind of a well-formed key, or `None` for anything else. Says nothing about whether the key exists.
#[must_use]
pub fn recognise(secret: &str) -> Option<KeyKind> {
    let kind = claimed(secret)?;
    let body = kind.prefix().len() + BODY;
    let well_formed = secret.len() == body + CHECK && secret.bytes().skip(kind.prefix().len()).all(|byte| byte.is_ascii_alphanumeric());
    (well_formed && checksum(&secret[..body]) == secret[body..]).then_some(kind)
}

/// What is shown of a key after its creation.
#[must_use]
pub fn display(secret: &str) -> String {
    format!("{}…{}", &secret[..secret.len().min(8)], &secret[secret.len().saturating_sub(4)..])
}

/// Takes every key and other secret of Orrery out of a text, for logs. Other texts are returned as they are.
#[must_use]
pub fn redact(text: &str) -> std::borrow::Cow<'_, str> {
    let mut out = String::new();
    let mut copied = 0;
    let mut at = 0;
    while at < text.len() {
        let word = text.as_bytes()[at..].iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_').count();
        let end = at + word;
        let prefixes = KeyKind::ALL.into_iter().map(KeyKind::prefix).chain([OPAQUE_PREFIX]);
        let secret = prefixes.flat_map(|prefix| text[at..end].match_indices(prefix));
        if let Some((found, prefix)) = secret.filter(|(found, prefix)| word >= found + prefix.len() + BODY).min_by_key(|(found, _)| *found)
        {
            out.push_str(&text[copied..at + found]);
            out.push_str(prefix);
            out.push_str("•••");
            copied = end;
        }
        at = end + text[end..].chars().next().map_or(1, char::len_utf8);
    }
    if copied == 0 {
        return std::borrow::Cow::Borrowed(text);
    }
    out.push_str(&text[copied..]);
    std::borrow::Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_key_is_recognised_and_no_damaged_one(random: [u8; 32], which in 0usize..7, at in 0usize..60, with in "[0-9A-Za-z]") {
            let kind = KeyKind::ALL[which];
            let key = encode(kind, &random);
            prop_assert_eq!(recognise(&key), Some(kind));
            let at = kind.prefix().len() + at % (key.len() - kind.prefix().len());
            let mut damaged = key.clone();
            damaged.replace_range(at..=at, &with);
            prop_assert!(damaged == key || recognise(&damaged).is_none());
        }
    }

    proptest! {
        #[test]
        fn no_secret_survives_redaction(random: [u8; 32], which in 0usize..8, before in ".*", after in ".*") {
            let key = KeyKind::ALL.get(which).map_or_else(|| encode_opaque(&random), |kind| encode(*kind, &random));
            let text = format!("{before}{key}{after}");
            prop_assert!(!redact(&text).contains(&key));
            let secret_part = &key[key.len() - 20..];
            prop_assert!(!redact(&text).contains(secret_part));
        }
    }

    #[test]
    fn what_is_no_key_stays() {
        for text in ["", "orr_", "gx_your_api_key", "é orr_1", "a path/orp_x"] {
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn a_key_holds_all_its_bits() {
        assert_eq!(encode(KeyKind::Flow, &[255; 32]).len(), 3 + 43 + 6);
        assert_ne!(encode(KeyKind::Flow, &[255; 32]), encode(KeyKind::Flow, &[254; 32]));
    }

    #[test]
    fn nonsense_is_no_key() {
        for text in ["", "orr_", "orr_é", "Bearer", "gx_your_api_key"] {
            assert_eq!(recognise(text), None, "{text}");
        }
    }
}
