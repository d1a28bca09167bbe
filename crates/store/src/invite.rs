//! One-time links into a workspace. Making one clears out those that have ended.

use domain::account::Invite;
use domain::{Role, Sealed, Tenant, Timestamp, UserId, WorkspaceId};

use crate::executor::{BadCell, Record, Statement};
use crate::{Store, StoreError};

statements! {
    INVITES_PURGE = "DELETE FROM workspace_invites WHERE expires_at < $over";
    INVITE_INSERT =
        "INSERT INTO workspace_invites (hash, workspace_id, made_by, role, expires_at) VALUES ($hash, $workspace, $user, $role, $expires)";
    /// One that was made while its maker lost the right to is worth nothing.
    INVITE_BY_HASH =
        "SELECT workspace_id, made_by, role, expires_at FROM workspace_invites WHERE hash = $hash AND expires_at > $now \
         AND EXISTS (SELECT 1 FROM memberships WHERE memberships.workspace_id = workspace_invites.workspace_id \
         AND memberships.user_id = workspace_invites.made_by AND memberships.role IN ('OWNER', 'ADMIN'))";
    INVITES_MADE_BY =
        "SELECT workspace_id, made_by, role, expires_at FROM workspace_invites WHERE workspace_id = $workspace AND made_by = $user \
         AND expires_at > $now";
    INVITE_DELETE = "DELETE FROM workspace_invites WHERE hash = $hash AND workspace_id = $workspace";
    INVITES_DELETE = "DELETE FROM workspace_invites WHERE workspace_id = $workspace AND made_by = $user";
}

fn row(r: &mut Record) -> Result<Invite, BadCell> {
    Ok(Invite { workspace_id: r.id(WorkspaceId)?, made_by: r.id(UserId)?, role: r.word(Role::parse)?, expires_at: r.time()? })
}

impl Store {
    /// The invitation of a link, unless it was used or has ended, or its maker is no admin any more.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn invite_by_hash(&self, hash: [u8; 32], now: Timestamp) -> Result<Option<Sealed<Invite>>, StoreError> {
        self.sealed(&INVITE_BY_HASH, &params![hash = hash, now = now], row, |invite| invite.workspace_id).await
    }

    /// The open invitations into the workspace that a person made.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn invites_made_by(&self, tenant: Tenant, user: UserId, now: Timestamp) -> Result<Vec<Invite>, StoreError> {
        self.list(&INVITES_MADE_BY, &params![workspace = tenant, user = user, now = now], row).await
    }
}

pub(crate) fn invite_insert(invite: &Invite, hash: [u8; 32], now: Timestamp) -> Vec<Statement> {
    let Invite { workspace_id, made_by, role, expires_at } = invite;
    let params = params![hash = hash, workspace = *workspace_id, user = *made_by, role = role.as_str(), expires = *expires_at];
    let purge = Statement::any(&INVITES_PURGE, params![over = now]);
    vec![purge, Statement::touch(&INVITE_INSERT, params)]
}

pub(crate) fn invite_delete(tenant: Tenant, hash: [u8; 32]) -> Statement {
    Statement::touch(&INVITE_DELETE, params![hash = hash, workspace = tenant])
}

pub(crate) fn invites_delete(tenant: Tenant, user: UserId) -> Statement {
    Statement::any(&INVITES_DELETE, params![workspace = tenant, user = user])
}
