//! People, workspaces, memberships, sessions and the OAuth grants of the command-line client.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Role, SessionId, UserId, WorkspaceId};

/// A person who can sign in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Identity.
    pub id: UserId,
    /// Lower-cased; unique.
    pub email: String,
    /// Display name.
    pub name: String,
    /// May administer this installation.
    pub operator: bool,
    /// When the account was made.
    pub created_at: Timestamp,
}

/// What a workspace may use; limits are configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Plan {
    /// Documented default limits.
    Free,
    /// Small.
    Hobby,
    /// What the first account of a self-hosted server has.
    Professional,
}

impl Plan {
    /// As stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Free => "FREE",
            Self::Hobby => "HOBBY",
            Self::Professional => "PROFESSIONAL",
        }
    }

    /// As people read it.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::Free => "Free",
            Self::Hobby => "Hobby",
            Self::Professional => "Professional",
        }
    }

    /// Reads a stored plan.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Free, Self::Hobby, Self::Professional].into_iter().find(|plan| plan.as_str() == text)
    }
}

/// The owner of projects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// Identity.
    pub id: WorkspaceId,
    /// Display name.
    pub name: String,
    /// Unique short name (Galaxy's account name).
    pub username: String,
    /// The person whose personal workspace it is; `None` for a team's.
    pub personal_of: Option<UserId>,
    /// The plan.
    pub plan: Plan,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}

/// A person's place in a workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The workspace.
    pub workspace: Workspace,
    /// The role.
    pub role: Role,
}

/// A member as others of the workspace see them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Who.
    pub user: User,
    /// The role.
    pub role: Role,
}

/// A signed-in browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Session {
    /// Identity.
    pub id: SessionId,
    /// Whose.
    pub user_id: UserId,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ends.
    pub expires_at: Timestamp,
    /// The address that it began at.
    pub address: Option<String>,
    /// What the browser calls itself (`User-Agent`), at most 300 characters.
    pub agent: Option<String>,
}

/// A login of a command-line client, with every token that descends from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientLogin {
    /// Identity; no session of a browser has the same.
    pub id: SessionId,
    /// Whose.
    pub user_id: UserId,
    /// When it began.
    pub created_at: Timestamp,
    /// When it ends, unless its client gets new tokens before.
    pub expires_at: Timestamp,
    /// When one of its tokens was last used, to about a minute, or made.
    pub used_at: Timestamp,
    /// The address that one of its tokens was last used from.
    pub address: Option<String>,
}

/// A one-time link into a workspace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// Where it leads.
    pub workspace_id: WorkspaceId,
    /// Who made it, themselves or by a key of theirs: it ends with their right to.
    pub made_by: UserId,
    /// What whoever uses it becomes there.
    pub role: Role,
    /// When it ends.
    pub expires_at: Timestamp,
}

/// Where a device login stands (`contracts/railway.md` 1.7).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeviceGrant {
    /// The person has not answered yet.
    Pending,
    /// Approved by this person; the code can be exchanged once.
    Approved(UserId),
    /// Refused.
    Denied,
    /// Older than its life.
    Expired,
}
