//! One-time links into a workspace. Making one clears out those that have ended.

use domain::account::Invite;
use domain::{Role, Sealed, Tenant, Timestamp, WorkspaceId};

use crate::executor::{BadCell, Record, Statement};
use crate::{Store, StoreError};

statements! {
    INVITES_PURGE = "DELETE FROM workspace_invites WHERE expires_at < $over";
    INVITE_INSERT = "INSERT INTO workspace_invites (hash, workspace_id, role, expires_at) VALUES ($hash, $workspace, $role, $expires)";
    INVITE_BY_HASH = "SELECT workspace_id, role, expires_at FROM workspace_invites WHERE hash = $hash AND expires_at > $now";
    INVITE_DELETE = "DELETE FROM workspace_invites WHERE hash = $hash AND workspace_id = $workspace";
}

fn row(r: &mut Record) -> Result<Invite, BadCell> {
    Ok(Invite { workspace_id: r.id(WorkspaceId)?, role: r.word(Role::parse)?, expires_at: r.time()? })
}

impl Store {
    /// The invitation of a link, unless it was used or has ended.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn invite_by_hash(&self, hash: [u8; 32], now: Timestamp) -> Result<Option<Sealed<Invite>>, StoreError> {
        self.sealed(&INVITE_BY_HASH, &params![hash = hash, now = now], row, |invite| invite.workspace_id).await
    }
}

pub(crate) fn invite_insert(invite: &Invite, hash: [u8; 32], now: Timestamp) -> Vec<Statement> {
    let Invite { workspace_id, role, expires_at } = invite;
    let params = params![hash = hash, workspace = *workspace_id, role = role.as_str(), expires = *expires_at];
    let purge = Statement::any(&INVITES_PURGE, params![over = now]);
    vec![purge, Statement::touch(&INVITE_INSERT, params)]
}

pub(crate) fn invite_delete(tenant: Tenant, hash: [u8; 32]) -> Statement {
    Statement::touch(&INVITE_DELETE, params![hash = hash, workspace = tenant])
}
