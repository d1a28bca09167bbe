//! The logins of command-line clients: device grants, browser codes and refresh tokens (`contracts/railway.md` 1.7).

use std::cmp::Reverse;

use domain::account::{ClientLogin, DeviceGrant};
use domain::key::ApiKey;
use domain::{SessionId, Timestamp, UserId};
use jiff::SignedDuration;
use uuid::Uuid;

use crate::account::long_over;
use crate::api_key::api_key_insert;
use crate::executor::{BadCell, Record, Statement};
use crate::{Store, StoreError, first};

statements! {
    DEVICE_PURGE = "DELETE FROM device_grants WHERE expires_at < $over";
    DEVICE_CREATE =
        "INSERT INTO device_grants (hash, user_code, user_id, denied, expires_at) VALUES ($hash, $user_code, NULL, FALSE, $expires)";
    DEVICE_BY_USER_CODE = "SELECT user_id, denied, expires_at > $now FROM device_grants WHERE user_code = $user_code";
    DEVICE_ANSWER =
        "UPDATE device_grants SET user_id = $user, denied = $denied \
         WHERE user_code = $user_code AND user_id IS NULL AND denied = FALSE AND expires_at > $now";
    DEVICE_TAKE = "DELETE FROM device_grants WHERE hash = $hash AND user_id IS NOT NULL AND expires_at > $now RETURNING user_id";
    DEVICE_BY_HASH = "SELECT user_id, denied, expires_at > $now FROM device_grants WHERE hash = $hash";
    CODE_PURGE = "DELETE FROM oauth_codes WHERE expires_at < $over";
    CODE_CREATE =
        "INSERT INTO oauth_codes (hash, user_id, redirect_uri, challenge, expires_at) VALUES ($hash, $user, $redirect_uri, $challenge, $expires)";
    CODE_USE = "DELETE FROM oauth_codes WHERE hash = $hash AND expires_at > $now RETURNING user_id, redirect_uri, challenge";
    FAMILY_PURGE = "DELETE FROM oauth_families WHERE expires_at < $over";
    ACCESS_PURGE = "DELETE FROM api_keys WHERE kind = 'OAUTH_ACCESS' AND expires_at < $over";
    REFRESH_PURGE = "DELETE FROM api_keys WHERE kind = 'OAUTH_REFRESH' AND expires_at < $over";
    FAMILY_EXTEND =
        "INSERT INTO oauth_families (id, user_id, revoked_at, expires_at, created_at) VALUES ($family, $user, NULL, $expires, $created) \
         ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at WHERE oauth_families.user_id = excluded.user_id";
    REFRESH_SPEND =
        "UPDATE api_keys SET revoked_at = $now, spent_by = $attempt \
         WHERE hash = $hash AND kind = 'OAUTH_REFRESH' AND revoked_at IS NULL AND expires_at > $now \
         AND EXISTS (SELECT 1 FROM oauth_families WHERE oauth_families.id = api_keys.family AND oauth_families.revoked_at IS NULL) \
         RETURNING user_id, family";
    /// Whoever did not get the answer asks again, and two programs that share a login ask at once: shortly after it was spent, the token
    /// counts once more as long as nobody has gone on from there.
    REFRESH_AGAIN =
        "UPDATE api_keys SET spent_by = $attempt \
         WHERE hash = $hash AND kind = 'OAUTH_REFRESH' AND spent_by IS NOT NULL AND spent_by <> $attempt \
         AND revoked_at > $recent AND expires_at > $now \
         AND EXISTS (SELECT 1 FROM oauth_families WHERE oauth_families.id = api_keys.family AND oauth_families.revoked_at IS NULL) \
         AND NOT EXISTS (SELECT 1 FROM api_keys AS heir WHERE heir.family = api_keys.family AND heir.id <> api_keys.id \
         AND heir.kind = 'OAUTH_REFRESH' AND heir.spent_by IS NOT NULL AND heir.created_at >= api_keys.revoked_at) \
         RETURNING user_id, family";
    FAMILY_REVOKE =
        "UPDATE oauth_families SET revoked_at = $now \
         WHERE revoked_at IS NULL AND id = (SELECT family FROM api_keys \
         WHERE hash = $hash AND kind = 'OAUTH_REFRESH' AND spent_by IS NOT NULL AND spent_by <> $attempt)";
    REFRESH_SPENT = "SELECT id FROM api_keys WHERE hash = $hash AND kind = 'OAUTH_REFRESH' AND spent_by IS NOT NULL";
    CLIENT_LOGINS =
        "SELECT oauth_families.id, oauth_families.user_id, oauth_families.created_at, oauth_families.expires_at, \
         MAX(COALESCE(api_keys.last_used_at, api_keys.created_at)), \
         (SELECT used.last_used_address FROM api_keys AS used WHERE used.family = oauth_families.id \
         AND used.last_used_address IS NOT NULL ORDER BY used.last_used_at DESC LIMIT 1) \
         FROM oauth_families JOIN api_keys ON api_keys.family = oauth_families.id \
         WHERE oauth_families.user_id = $user AND oauth_families.revoked_at IS NULL AND oauth_families.expires_at > $now \
         GROUP BY oauth_families.id, oauth_families.user_id, oauth_families.created_at, oauth_families.expires_at";
    CLIENT_LOGIN_END = "UPDATE oauth_families SET revoked_at = $now WHERE id = $id AND user_id = $user AND revoked_at IS NULL";
    CLIENT_LOGINS_END = "UPDATE oauth_families SET revoked_at = $now WHERE user_id = $user AND revoked_at IS NULL";
    CODES_CLEAR = "DELETE FROM oauth_codes WHERE user_id = $user";
    DEVICES_CLEAR = "DELETE FROM device_grants WHERE user_id = $user";
}

/// How long a refresh token that was spent still counts, as long as nobody has gone on from there.
const AGAIN: SignedDuration = SignedDuration::from_secs(30);

/// What a browser login's code was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OAuthCode {
    /// Who signed in.
    pub user_id: UserId,
    /// Where the code was sent; the exchange must name the same.
    pub redirect_uri: String,
    /// The S256 challenge that the exchange's verifier must meet.
    pub challenge: String,
}

/// What became of a refresh token that was presented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RefreshUse {
    /// It was valid and is spent now, or was a moment ago by somebody who asks again.
    Fresh {
        /// Whose login.
        user_id: UserId,
        /// Which login: the next tokens belong to it too.
        family: Uuid,
    },
    /// It had been spent before, so that someone holds a copy: every token of the login is revoked.
    Reused,
    /// Unknown, too old, or of a login that has ended.
    Unknown,
}

fn login(r: &mut Record) -> Result<ClientLogin, BadCell> {
    Ok(ClientLogin {
        id: r.id(SessionId)?,
        user_id: r.id(UserId)?,
        created_at: r.time()?,
        expires_at: r.time()?,
        used_at: r.time()?,
        address: r.maybe_text()?,
    })
}

fn spent(r: &mut Record) -> Result<(UserId, Uuid), BadCell> {
    Ok((r.id(UserId)?, r.id(|id| id)?))
}

fn grant(r: &mut Record) -> Result<DeviceGrant, BadCell> {
    let (user, denied, open) = (r.maybe_id(UserId)?, r.flag()?, r.flag()?);
    Ok(match (user, denied, open) {
        (_, _, false) => DeviceGrant::Expired,
        (_, true, true) => DeviceGrant::Denied,
        (Some(user), false, true) => DeviceGrant::Approved(user),
        (None, false, true) => DeviceGrant::Pending,
    })
}

impl Store {
    /// Begins a device login. Device logins live at most two days.
    ///
    /// # Errors
    /// The user code is in use.
    pub async fn device_create(&self, device_hash: [u8; 32], user_code: &str, expires_at: Timestamp) -> Result<(), StoreError> {
        let purge = Statement::any(&DEVICE_PURGE, params![over = long_over(expires_at)]);
        let create = Statement::touch(&DEVICE_CREATE, params![hash = device_hash, user_code = user_code, expires = expires_at]);
        self.write(vec![purge, create]).await.map(|_| ())
    }

    /// Where the device login with this user code stands.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn device_by_user_code(&self, user_code: &str, now: Timestamp) -> Result<Option<DeviceGrant>, StoreError> {
        self.one(&DEVICE_BY_USER_CODE, &params![user_code = user_code, now = now], grant).await
    }

    /// Refuses a device login. Whether it was still open; the first answer stands.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn device_deny(&self, user_code: &str, now: Timestamp) -> Result<bool, StoreError> {
        let params = params![user_code = user_code, user = None::<UserId>, denied = true, now = now];
        Ok(self.write_one(&DEVICE_ANSWER, params).await? > 0)
    }

    /// What a device code is worth. An approved login is returned once and is gone then.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn device_exchange(&self, device_hash: [u8; 32], now: Timestamp) -> Result<Option<DeviceGrant>, StoreError> {
        let take = Statement::any(&DEVICE_TAKE, params![hash = device_hash, now = now]);
        let look = Statement::any(&DEVICE_BY_HASH, params![hash = device_hash, now = now]);
        let mut outcomes = self.write(vec![take, look]).await?.into_iter();
        if let Some(user) = first(&DEVICE_TAKE, outcomes.next(), |r| r.id(UserId))? {
            return Ok(Some(DeviceGrant::Approved(user)));
        }
        let found = first(&DEVICE_BY_HASH, outcomes.next(), grant)?;
        // Approved between the two statements: the next poll takes it.
        Ok(found.map(|grant| if matches!(grant, DeviceGrant::Approved(_)) { DeviceGrant::Pending } else { grant }))
    }

    /// Uses a code up. Of any number of uses at once, one gets it.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn oauth_code_use(&self, hash: [u8; 32], now: Timestamp) -> Result<Option<OAuthCode>, StoreError> {
        let read = |r: &mut Record| Ok(OAuthCode { user_id: r.id(UserId)?, redirect_uri: r.text()?, challenge: r.text()? });
        self.write_returning(&CODE_USE, params![hash = hash, now = now], read).await
    }

    /// Keeps the tokens of a login, the first ones or those after a refresh. Tokens of a login that was ended meanwhile are born revoked.
    ///
    /// # Errors
    /// [`StoreError::Stale`] when the family is another person's.
    pub async fn oauth_tokens_create(
        &self,
        family: Uuid,
        access: ApiKey,
        access_hash: [u8; 32],
        refresh: ApiKey,
        refresh_hash: [u8; 32],
    ) -> Result<(), StoreError> {
        let expires = refresh.expires_at.unwrap_or(Timestamp::MAX);
        let over = long_over(access.created_at);
        let extend = params![family = family, user = refresh.user_id, expires = expires, created = refresh.created_at];
        let statements = vec![
            Statement::any(&FAMILY_PURGE, params![over = over]),
            Statement::any(&ACCESS_PURGE, params![over = over]),
            Statement::any(&REFRESH_PURGE, params![over = over]),
            Statement::touch(&FAMILY_EXTEND, extend),
            api_key_insert(&access, access_hash, Some(family)),
            api_key_insert(&refresh, refresh_hash, Some(family)),
        ];
        self.write(statements).await.map(|_| ())
    }

    /// Spends a refresh token. Another use within half a minute counts as the first did, as long as no token that was given for it is spent;
    /// later, or after that, it ends the login.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn oauth_refresh_use(&self, hash: [u8; 32], now: Timestamp) -> Result<RefreshUse, StoreError> {
        // Marks the token as spent by this very call: whoever finds another's mark knows that there are two holders.
        let attempt = Uuid::new_v4();
        let recent = now.checked_sub(AGAIN).unwrap_or(Timestamp::UNIX_EPOCH);
        let statements = vec![
            Statement::any(&REFRESH_SPEND, params![hash = hash, now = now, attempt = attempt]),
            Statement::any(&REFRESH_AGAIN, params![hash = hash, now = now, recent = recent, attempt = attempt]),
            Statement::any(&FAMILY_REVOKE, params![hash = hash, now = now, attempt = attempt]),
            Statement::any(&REFRESH_SPENT, params![hash = hash]),
        ];
        let mut outcomes = self.write(statements).await?.into_iter();
        for sql in [&REFRESH_SPEND, &REFRESH_AGAIN] {
            if let Some((user_id, family)) = first(sql, outcomes.next(), spent)? {
                return Ok(RefreshUse::Fresh { user_id, family });
            }
        }
        let known = first(&REFRESH_SPENT, outcomes.nth(1), |r| r.id(|id| id))?;
        Ok(if known.is_some() { RefreshUse::Reused } else { RefreshUse::Unknown })
    }

    /// The logins of a person's command-line clients that have not ended, newest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn client_logins(&self, user: UserId, now: Timestamp) -> Result<Vec<ClientLogin>, StoreError> {
        self.batch(&CLIENT_LOGINS, &params![user = user, now = now], login, |login| Reverse(login.id)).await
    }
}

/// Ends one login of a person's command-line clients.
pub(crate) fn client_login_end(user: UserId, id: SessionId, now: Timestamp) -> Statement {
    Statement::touch(&CLIENT_LOGIN_END, params![id = id, user = user, now = now])
}

/// Ends all of them, and what was approved and is not fetched yet.
pub(crate) fn client_logins_end(user: UserId, now: Timestamp) -> Vec<Statement> {
    vec![
        Statement::any(&CODES_CLEAR, params![user = user]),
        Statement::any(&DEVICES_CLEAR, params![user = user]),
        Statement::any(&CLIENT_LOGINS_END, params![user = user, now = now]),
    ]
}

/// The answer of a person who approves; the first answer stands.
pub(crate) fn device_approve(user_code: &str, user: UserId, now: Timestamp) -> Statement {
    Statement::touch(&DEVICE_ANSWER, params![user_code = user_code, user = user, denied = false, now = now])
}

/// The code of a browser login that the person has approved. Codes live at most two days.
pub(crate) fn code_insert(code: &OAuthCode, hash: [u8; 32], expires_at: Timestamp) -> Vec<Statement> {
    let OAuthCode { user_id, redirect_uri, challenge } = code;
    let purge = Statement::any(&CODE_PURGE, params![over = long_over(expires_at)]);
    let params = params![hash = hash, user = *user_id, redirect_uri = redirect_uri, challenge = challenge, expires = expires_at];
    vec![purge, Statement::touch(&CODE_CREATE, params)]
}
