//! Browser sessions and the links that begin them.

use domain::account::Session;
use domain::{SessionId, Timestamp, UserId};

use crate::account::long_over;
use crate::executor::{BadCell, Record, Statement};
use crate::{Store, StoreError};

macro_rules! columns {
    () => {
        "sessions.id, sessions.user_id, sessions.created_at, sessions.expires_at, sessions.address, sessions.agent"
    };
}

statements! {
    LOGIN_LINKS_PURGE = "DELETE FROM login_links WHERE expires_at < $over";
    LOGIN_LINK_CREATE = "INSERT INTO login_links (hash, user_id, expires_at) VALUES ($hash, $user, $expires)";
    LOGIN_LINK_USE = "DELETE FROM login_links WHERE hash = $hash AND expires_at > $now RETURNING user_id";
    SESSIONS_PURGE = "DELETE FROM sessions WHERE expires_at < $now";
    SESSION_CREATE =
        "INSERT INTO sessions (id, user_id, hash, address, agent, created_at, expires_at) \
         VALUES ($id, $user, $hash, $address, $agent, $created, $expires)";
    SESSION_BY_HASH = concat!("SELECT ", columns!(), " FROM sessions WHERE hash = $hash AND expires_at > $now");
    SESSIONS = concat!("SELECT ", columns!(), " FROM sessions WHERE user_id = $user ORDER BY id DESC");
    SESSION_DELETE = "DELETE FROM sessions WHERE id = $id AND user_id = $user";
    SESSIONS_DELETE_OTHERS = "DELETE FROM sessions WHERE user_id = $user AND id <> $id";
}

fn row(r: &mut Record) -> Result<Session, BadCell> {
    Ok(Session {
        id: r.id(SessionId)?,
        user_id: r.id(UserId)?,
        created_at: r.time()?,
        expires_at: r.time()?,
        address: r.maybe_text()?,
        agent: r.maybe_text()?,
    })
}

impl Store {
    /// Keeps a one-time login link by the hash of its secret. Links live at most two days.
    ///
    /// # Errors
    /// There is no such person.
    pub async fn login_link_create(&self, hash: [u8; 32], user: UserId, expires_at: Timestamp) -> Result<(), StoreError> {
        let purge = Statement::any(&LOGIN_LINKS_PURGE, params![over = long_over(expires_at)]);
        let create = Statement::touch(&LOGIN_LINK_CREATE, params![hash = hash, user = user, expires = expires_at]);
        self.write(vec![purge, create]).await.map(|_| ())
    }

    /// Uses a login link up. Of any number of uses at once, one gets the person.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn login_link_use(&self, hash: [u8; 32], now: Timestamp) -> Result<Option<UserId>, StoreError> {
        self.write_returning(&LOGIN_LINK_USE, params![hash = hash, now = now], |r| r.id(UserId)).await
    }

    /// The session of a cookie, unless it has ended.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn session_by_hash(&self, hash: [u8; 32], now: Timestamp) -> Result<Option<Session>, StoreError> {
        self.one(&SESSION_BY_HASH, &params![hash = hash, now = now], row).await
    }

    /// The sessions of a person, newest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn sessions(&self, user: UserId) -> Result<Vec<Session>, StoreError> {
        self.list(&SESSIONS, &params![user = user], row).await
    }
}

pub(crate) fn session_insert(session: &Session, hash: [u8; 32]) -> Vec<Statement> {
    let Session { id, user_id, created_at, expires_at, address, agent } = session;
    let purge = Statement::any(&SESSIONS_PURGE, params![now = *created_at]);
    let params = params![
        id = *id,
        user = *user_id,
        hash = hash,
        address = address.as_ref(),
        agent = agent.as_ref(),
        created = *created_at,
        expires = *expires_at
    ];
    vec![purge, Statement::touch(&SESSION_CREATE, params)]
}

pub(crate) fn session_delete(user: UserId, id: SessionId) -> Statement {
    Statement::touch(&SESSION_DELETE, params![id = id, user = user])
}

/// Ends every session of a person but one.
pub(crate) fn sessions_delete_others(user: UserId, id: SessionId) -> Statement {
    Statement::any(&SESSIONS_DELETE_OTHERS, params![id = id, user = user])
}
