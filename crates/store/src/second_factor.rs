//! The second step of signing in by password: a secret that makes codes, codes for its loss, and logins that wait for one. Factors and
//! codes go when their person turns the step off; waiting logins last minutes, and the next one clears out what is over.

use domain::{SessionId, Timestamp, UserId};
use zeroize::Zeroizing;

use crate::executor::{BadCell, Record, Statement};
use crate::{Store, StoreError};

statements! {
    SECOND_FACTOR = "SELECT sealed_secret, verified_at, created_at FROM second_factors WHERE user_id = $user";
    /// What is verified stays: it has to be turned off first.
    SECOND_FACTOR_PROPOSE =
        "INSERT INTO second_factors (user_id, sealed_secret, last_step, created_at) VALUES ($user, $sealed_secret, $step, $now) \
         ON CONFLICT (user_id) DO UPDATE SET sealed_secret = excluded.sealed_secret, last_step = excluded.last_step, \
         created_at = excluded.created_at WHERE second_factors.verified_at IS NULL";
    SECOND_FACTOR_VERIFY =
        "UPDATE second_factors SET verified_at = $now, last_step = $step \
         WHERE user_id = $user AND verified_at IS NULL AND created_at = $proposed";
    SECOND_FACTOR_STEP =
        "UPDATE second_factors SET last_step = $step WHERE user_id = $user AND verified_at IS NOT NULL AND last_step < $step";
    SYSTEM_SECOND_FACTORS = "SELECT user_id FROM second_factors WHERE verified_at IS NOT NULL";
    SECOND_FACTOR_DELETE = "DELETE FROM second_factors WHERE user_id = $user";
    RECOVERY_CODE = "SELECT hash FROM recovery_codes WHERE user_id = $user LIMIT 1";
    RECOVERY_CODE_INSERT = "INSERT INTO recovery_codes (user_id, hash) VALUES ($user, $hash)";
    RECOVERY_CODE_USE = "DELETE FROM recovery_codes WHERE user_id = $user AND hash = $hash";
    RECOVERY_CODES_CLEAR = "DELETE FROM recovery_codes WHERE user_id = $user";
    PENDING_LOGINS_PURGE = "DELETE FROM pending_logins WHERE expires_at < $now";
    PENDING_LOGIN_CREATE = "INSERT INTO pending_logins (hash, user_id, expires_at) VALUES ($hash, $user, $expires)";
    PENDING_LOGIN = "SELECT user_id FROM pending_logins WHERE hash = $hash AND expires_at > $now";
    PENDING_LOGIN_USE = "DELETE FROM pending_logins WHERE hash = $hash AND expires_at > $now";
    PENDING_LOGINS_CLEAR = "DELETE FROM pending_logins WHERE user_id = $user";
    SESSION_CONFIRM = "UPDATE sessions SET confirmed_at = $now WHERE id = $id AND user_id = $user";
    SESSION_CONFIRMED = "SELECT confirmed_at FROM sessions WHERE id = $id AND user_id = $user";
}

/// What makes a person's codes.
pub struct SecondFactor {
    /// The secret that their app has, too.
    pub secret: Zeroizing<Vec<u8>>,
    /// When they showed that their app has it; `None` while it is only proposed.
    pub verified_at: Option<Timestamp>,
    /// When it was proposed.
    pub created_at: Timestamp,
}

impl std::fmt::Debug for SecondFactor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SecondFactor").field("verified_at", &self.verified_at).finish_non_exhaustive()
    }
}

fn place(user: UserId) -> String {
    format!("second_factors.sealed_secret/{user}")
}

fn row(r: &mut Record) -> Result<(Vec<u8>, Option<Timestamp>, Timestamp), BadCell> {
    Ok((r.bytes()?, r.maybe_time()?, r.time()?))
}

pub(crate) fn recovery_codes_set(user: UserId, hashes: &[[u8; 32]]) -> Vec<Statement> {
    let mut statements = vec![Statement::any(&RECOVERY_CODES_CLEAR, params![user = user])];
    statements.extend(hashes.iter().map(|hash| Statement::touch(&RECOVERY_CODE_INSERT, params![user = user, hash = *hash])));
    statements
}

pub(crate) fn second_factor_verify(user: UserId, proposed: Timestamp, step: i64, hashes: &[[u8; 32]], at: Timestamp) -> Vec<Statement> {
    let verify = params![user = user, proposed = proposed, step = step, now = at];
    let mut statements = vec![Statement::touch(&SECOND_FACTOR_VERIFY, verify)];
    statements.extend(recovery_codes_set(user, hashes));
    statements
}

pub(crate) fn second_factor_delete(user: UserId) -> Vec<Statement> {
    let mut statements =
        vec![Statement::touch(&SECOND_FACTOR_DELETE, params![user = user]), Statement::any(&PENDING_LOGINS_CLEAR, params![user = user])];
    statements.extend(recovery_codes_set(user, &[]));
    statements
}

impl Store {
    /// A person's second factor, proposed or verified.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn second_factor(&self, user: UserId) -> Result<Option<SecondFactor>, StoreError> {
        let Some((sealed, verified_at, created_at)) = self.one(&SECOND_FACTOR, &params![user = user], row).await? else { return Ok(None) };
        let secret = self.inner.vault.unseal(&place(user), &sealed)?;
        Ok(Some(SecondFactor { secret, verified_at, created_at }))
    }

    /// Proposes a secret in the place of the one that was proposed before. Whether it could: a verified one stays.
    ///
    /// # Errors
    /// There is no such person.
    pub async fn second_factor_propose(&self, user: UserId, secret: &[u8], now: Timestamp) -> Result<bool, StoreError> {
        let sealed = self.inner.vault.seal(&place(user), secret)?;
        let params = params![user = user, sealed_secret = sealed, step = 0_i64, now = now];
        Ok(self.write_one(&SECOND_FACTOR_PROPOSE, params).await? > 0)
    }

    /// Uses up the code of a step and of all before it. Of any number of uses of one code, one gets `true`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn second_factor_step(&self, user: UserId, step: i64) -> Result<bool, StoreError> {
        Ok(self.write_one(&SECOND_FACTOR_STEP, params![user = user, step = step]).await? > 0)
    }

    /// Everybody whose logins by password ask for a code: for the operator.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_second_factors(&self) -> Result<Vec<UserId>, StoreError> {
        self.list(&SYSTEM_SECOND_FACTORS, &[], |r| r.id(UserId)).await
    }

    /// Whether a person has recovery codes left.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn has_recovery_codes(&self, user: UserId) -> Result<bool, StoreError> {
        Ok(self.one(&RECOVERY_CODE, &params![user = user], Record::bytes).await?.is_some())
    }

    /// Uses a recovery code up. Of any number of uses at once, one gets `true`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn recovery_code_use(&self, user: UserId, hash: [u8; 32]) -> Result<bool, StoreError> {
        Ok(self.write_one(&RECOVERY_CODE_USE, params![user = user, hash = hash]).await? > 0)
    }

    /// Keeps a login whose password was right, by the hash of its secret.
    ///
    /// # Errors
    /// There is no such person.
    pub async fn pending_login_create(
        &self,
        hash: [u8; 32],
        user: UserId,
        now: Timestamp,
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        let purge = Statement::any(&PENDING_LOGINS_PURGE, params![now = now]);
        let create = Statement::touch(&PENDING_LOGIN_CREATE, params![hash = hash, user = user, expires = expires_at]);
        self.write(vec![purge, create]).await.map(|_| ())
    }

    /// Whose login waits under a secret, unless it has ended.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn pending_login(&self, hash: [u8; 32], now: Timestamp) -> Result<Option<UserId>, StoreError> {
        self.one(&PENDING_LOGIN, &params![hash = hash, now = now], |r| r.id(UserId)).await
    }

    /// Ends a waiting login. Of any number of uses at once, one gets `true`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn pending_login_use(&self, hash: [u8; 32], now: Timestamp) -> Result<bool, StoreError> {
        Ok(self.write_one(&PENDING_LOGIN_USE, params![hash = hash, now = now]).await? > 0)
    }

    /// Notes that somebody proved in a session of theirs that they hold the second factor.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn session_confirm(&self, user: UserId, id: SessionId, now: Timestamp) -> Result<(), StoreError> {
        self.write_one(&SESSION_CONFIRM, params![id = id, user = user, now = now]).await.map(|_| ())
    }

    /// When [`Store::session_confirm`] was last told so of a session.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn session_confirmed_at(&self, user: UserId, id: SessionId) -> Result<Option<Timestamp>, StoreError> {
        Ok(self.one(&SESSION_CONFIRMED, &params![id = id, user = user], Record::maybe_time).await?.flatten())
    }
}
