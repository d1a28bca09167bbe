//! The logins of the command-line client: by device code and by browser, with rotating refresh tokens (`contracts/railway.md` 1.7).

use std::sync::Arc;

use base64::Engine as _;
use domain::account::DeviceGrant;
use domain::key::{self, ApiKey, KeyKind};
use domain::{Timestamp, UserId};
use jiff::SignedDuration;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use sha2::Digest;
use store::{AccountChange, OAuthCode, RefreshUse};
use uuid::Uuid;

use crate::account::{commit_own, in_browser};
use crate::{Error, OpCtx, Ops, secret};

const DEVICE_SECONDS: u32 = 900;
const POLL_SECONDS: u32 = 2;
const CODE_SECONDS: i64 = 60;
const ACCESS_SECONDS: u32 = 3600;
const REFRESH_DAYS: i64 = 60;

/// A device login that has begun.
#[derive(Debug)]
pub struct DeviceStart {
    /// For the client; it polls with it.
    pub device_code: SecretString,
    /// For the person; typed or followed as a link.
    pub user_code: String,
    /// Seconds until both end.
    pub expires_in: u32,
    /// Seconds between polls.
    pub interval: u32,
}

/// What a client exchanges for tokens.
#[derive(Debug)]
pub enum TokenGrant {
    /// The code of an answered device login.
    Device {
        /// The client's secret.
        device_code: SecretString,
    },
    /// The code of a browser login.
    Code {
        /// The code.
        code: SecretString,
        /// Must equal the one it was made for.
        redirect_uri: String,
        /// Hashes to the challenge that it was made for.
        verifier: SecretString,
    },
    /// The token of the exchange before.
    Refresh {
        /// Works once, and for half a minute again for whoever lost the answer.
        refresh_token: SecretString,
    },
}

/// A pair of tokens.
#[derive(Debug)]
pub struct Tokens {
    /// For the API.
    pub access: SecretString,
    /// For the next pair.
    pub refresh: SecretString,
    /// Seconds until the access token ends.
    pub expires_in: u32,
}

/// Why no tokens were given, as RFC 6749 and RFC 8628 name it.
#[derive(Debug, thiserror::Error)]
pub enum OAuthError {
    /// The person has not answered.
    #[error("the login was not approved yet")]
    AuthorizationPending,
    /// Polled too often.
    #[error("poll less often")]
    SlowDown,
    /// The device code is too old.
    #[error("the code has expired: begin the login again")]
    ExpiredToken,
    /// The person refused.
    #[error("the login was refused")]
    AccessDenied,
    /// Unknown, used, or of another client.
    #[error("{0}")]
    InvalidGrant(&'static str),
    /// The request is not well formed.
    #[error("{0}")]
    InvalidRequest(String),
    /// Try again.
    #[error("the server cannot answer now: try again")]
    Unavailable(#[source] Error),
}

impl OAuthError {
    /// The `error` field of the answer.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::AuthorizationPending => "authorization_pending",
            Self::SlowDown => "slow_down",
            Self::ExpiredToken => "expired_token",
            Self::AccessDenied => "access_denied",
            Self::InvalidGrant(_) => "invalid_grant",
            Self::InvalidRequest(_) => "invalid_request",
            Self::Unavailable(_) => "temporarily_unavailable",
        }
    }
}

impl From<store::StoreError> for OAuthError {
    fn from(error: store::StoreError) -> Self {
        Self::Unavailable(error.into())
    }
}

/// Begins a device login.
///
/// # Errors
/// The store does not answer.
pub async fn device_start(ops: &Arc<Ops>, now: Timestamp) -> Result<DeviceStart, Error> {
    let (device_code, hash) = secret::new_opaque();
    let user_code = format!("{}-{}", secret::suffix(), secret::suffix()).to_ascii_uppercase();
    ops.store.device_create(hash, &user_code, now + SignedDuration::from_secs(i64::from(DEVICE_SECONDS))).await?;
    Ok(DeviceStart { device_code, user_code, expires_in: DEVICE_SECONDS, interval: POLL_SECONDS })
}

fn normal(user_code: &str) -> String {
    user_code.trim().to_ascii_uppercase()
}

/// Where the device login with this user code stands.
///
/// # Errors
/// Not found.
pub async fn device_show(ops: &Arc<Ops>, user_code: &str, now: Timestamp) -> Result<DeviceGrant, Error> {
    ops.store.device_by_user_code(&normal(user_code), now).await?.ok_or_else(|| Error::not_found("Code"))
}

/// The signed-in person's answer to a device login.
///
/// # Errors
/// Not signed in, or the code is unknown, answered or too old.
pub async fn device_answer(ctx: &OpCtx, user_code: &str, approve: bool) -> Result<(), Error> {
    let user = in_browser(ctx)?.0.user.id;
    let user_code = normal(user_code);
    if !approve {
        return if ctx.ops.store.device_deny(&user_code, ctx.now).await? { Ok(()) } else { Err(Error::not_found("Code")) };
    }
    let approval = AccountChange::DeviceApprove { user, user_code, at: ctx.now };
    let approved = commit_own(ctx, approval, "login", user, json!({"method": "the command line's code"})).await;
    approved.map_err(|error| if error.is_stale() { Error::not_found("Code") } else { error })
}

/// A code for a browser login that the person has approved.
///
/// # Errors
/// Not signed in.
pub async fn code_create(ctx: &OpCtx, redirect_uri: &str, code_challenge: &str) -> Result<SecretString, Error> {
    let user_id = in_browser(ctx)?.0.user.id;
    let (secret, hash) = secret::new_opaque();
    let code = OAuthCode { user_id, redirect_uri: redirect_uri.to_owned(), challenge: code_challenge.to_owned() };
    let insert = AccountChange::CodeInsert { code, hash, expires_at: ctx.now + SignedDuration::from_secs(CODE_SECONDS) };
    commit_own(ctx, insert, "login", user_id, json!({"method": "the command line's browser"})).await?;
    Ok(secret)
}

/// Exchanges a grant for tokens.
///
/// # Errors
/// As the RFCs name them.
pub async fn token_exchange(ops: &Arc<Ops>, grant: TokenGrant, now: Timestamp) -> Result<Tokens, OAuthError> {
    let (user, family) = match grant {
        TokenGrant::Device { device_code } => match ops.store.device_exchange(key::hash(device_code.expose_secret()), now).await? {
            None => return Err(OAuthError::InvalidGrant("the device code is unknown or was used already: begin the login again")),
            Some(DeviceGrant::Pending) => return Err(OAuthError::AuthorizationPending),
            Some(DeviceGrant::Denied) => return Err(OAuthError::AccessDenied),
            Some(DeviceGrant::Expired) => return Err(OAuthError::ExpiredToken),
            Some(DeviceGrant::Approved(user)) => (user, Uuid::now_v7()),
        },
        TokenGrant::Code { code, redirect_uri, verifier } => {
            let used = ops.store.oauth_code_use(key::hash(code.expose_secret()), now).await?;
            let used = used.ok_or(OAuthError::InvalidGrant("the code is unknown, used or too old: begin the login again"))?;
            let challenge =
                base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(sha2::Sha256::digest(verifier.expose_secret().as_bytes()));
            if used.redirect_uri != redirect_uri || used.challenge != challenge {
                return Err(OAuthError::InvalidGrant("the code was made for another client"));
            }
            (used.user_id, Uuid::now_v7())
        }
        TokenGrant::Refresh { refresh_token } => match ops.store.oauth_refresh_use(key::hash(refresh_token.expose_secret()), now).await? {
            RefreshUse::Fresh { user_id, family } => (user_id, family),
            RefreshUse::Reused => {
                tracing::warn!("a refresh token was used twice; its whole family is revoked");
                return Err(OAuthError::InvalidGrant("this refresh token was used before, so the login was ended: sign in again"));
            }
            RefreshUse::Unknown => return Err(OAuthError::InvalidGrant("the refresh token is unknown or too old: sign in again")),
        },
    };
    issue(ops, user, family, now).await
}

async fn issue(ops: &Arc<Ops>, user: UserId, family: Uuid, now: Timestamp) -> Result<Tokens, OAuthError> {
    let token = |kind: KeyKind, life: SignedDuration| {
        let (key, secret, hash) = secret::new_key(kind, user, "command-line login".into(), now);
        (ApiKey { expires_at: Some(now + life), ..key }, secret, hash)
    };
    let (access_row, access, access_hash) = token(KeyKind::OAuthAccess, SignedDuration::from_secs(i64::from(ACCESS_SECONDS)));
    let (refresh_row, refresh, refresh_hash) = token(KeyKind::OAuthRefresh, SignedDuration::from_hours(24 * REFRESH_DAYS));
    ops.store.oauth_tokens_create(family, access_row, access_hash, refresh_row, refresh_hash).await?;
    Ok(Tokens { access, refresh, expires_in: ACCESS_SECONDS })
}
