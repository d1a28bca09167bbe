//! Signing in and out, and workspaces.

use std::sync::Arc;

use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};
use domain::account::{Plan, Session, User, Workspace};
use domain::{Code, Permission, Place, SessionId, Tenant, Timestamp, WorkspaceId, key};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use store::Change;

use crate::context::{Opened, Via};
use crate::{Error, OpCtx, Ops, secret};

const SESSION_DAYS: i64 = 30;

/// Turns a one-time link into a session.
///
/// # Errors
/// Unauthenticated when the link is unknown, used or too old.
pub async fn login_link_use(
    ops: &Arc<Ops>,
    secret: &SecretString,
    now: Timestamp,
    address: Option<&str>,
) -> Result<(Session, SecretString, User), Error> {
    let used = ops.store.login_link_use(key::hash(secret.expose_secret()), now).await?;
    let user = match used {
        Some(id) => ops.store.user(id).await?,
        None => None,
    };
    let user = user.ok_or_else(|| {
        Error::new(Code::Unauthenticated, "This link was used already or is too old: make a new one with `orrery login-link`")
    })?;
    let (session, cookie) = session_start(ops, &user, now, address).await?;
    Ok((session, cookie, user))
}

/// Signs in by e-mail address and password.
///
/// # Errors
/// Unauthenticated, in the same words whether the address or the password is wrong.
pub async fn password_login(
    ops: &Arc<Ops>,
    email: &str,
    password: SecretString,
    now: Timestamp,
    address: Option<&str>,
) -> Result<(Session, SecretString, User), Error> {
    let user = ops.store.user_by_email(&email.trim().to_ascii_lowercase()).await?;
    let stored = match &user {
        Some(user) => ops.store.user_password_hash(user.id).await?,
        None => None,
    };
    let matches = verify_password(password, stored).await?;
    let user = user.filter(|_| matches).ok_or_else(|| Error::new(Code::Unauthenticated, "Wrong e-mail address or password"))?;
    let (session, cookie) = session_start(ops, &user, now, address).await?;
    Ok((session, cookie, user))
}

/// A hash takes 19 MB and a few tens of milliseconds: at most two at a time, off the async threads.
static HASHING: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(2);

async fn verify_password(password: SecretString, stored: Option<String>) -> Result<bool, Error> {
    let _permit = HASHING.acquire().await.map_err(|error| Error::internal("password hashing", error))?;
    tokio::task::spawn_blocking(move || {
        let hasher = argon2::Argon2::default();
        match stored.as_deref().map(PasswordHash::new) {
            Some(Ok(hash)) => hasher.verify_password(password.expose_secret().as_bytes(), &hash).is_ok(),
            // As much work for an unknown address as for a known one, so that the time tells nothing.
            _ => {
                let _ = hasher.hash_password(password.expose_secret().as_bytes());
                false
            }
        }
    })
    .await
    .map_err(|error| Error::internal("password hashing", error))
}

/// The stored form of a password.
///
/// # Errors
/// Shorter than 10 characters.
pub async fn password_hash(password: SecretString) -> Result<String, Error> {
    if password.expose_secret().chars().count() < 10 {
        return Err(Error::bad_input("the password is shorter than 10 characters: choose a longer one"));
    }
    let _permit = HASHING.acquire().await.map_err(|error| Error::internal("password hashing", error))?;
    tokio::task::spawn_blocking(move || {
        argon2::Argon2::default().hash_password(password.expose_secret().as_bytes()).map(|hash| hash.to_string()).map_err(|e| e.to_string())
    })
    .await
    .map_err(|error| Error::internal("password hashing", error))?
    .map_err(|error| Error::internal("password hashing", error))
}

async fn session_start(ops: &Arc<Ops>, user: &User, now: Timestamp, address: Option<&str>) -> Result<(Session, SecretString), Error> {
    let (cookie, hash) = secret::new_opaque();
    let session = Session {
        id: SessionId::generate(),
        user_id: user.id,
        created_at: now,
        expires_at: now + jiff::SignedDuration::from_hours(24 * SESSION_DAYS),
    };
    ops.store.session_create(session.clone(), hash, address.map(str::to_owned)).await?;
    Ok((session, cookie))
}

/// Ends the session that the request came with.
///
/// # Errors
/// The request came with something else.
pub async fn session_end(ctx: &OpCtx) -> Result<(), Error> {
    let person = ctx.user()?;
    let Via::Session(id) = person.via else { return Err(Error::bad_input("there is no session to end: the request came with a key")) };
    ctx.ops.store.session_delete(person.user.id, id).await?;
    Ok(())
}

/// Puts a workspace on a plan. Operators of the server do so, for any workspace.
///
/// # Errors
/// Not an operator, or not found.
pub async fn workspace_plan_set(ctx: &OpCtx, id: WorkspaceId, plan: Plan) -> Result<Opened<Workspace>, Error> {
    let person = ctx.user()?;
    if !person.user.operator {
        return Err(Error::new(Code::Forbidden, "Not Authorized: only an operator of this server changes plans"));
    }
    let tenant = Tenant::system(id);
    let found = ctx.ops.store.workspace(id).await?.and_then(|sealed| sealed.open(tenant));
    let before = found.ok_or_else(|| Error::not_found("Workspace"))?;
    let row = Workspace { plan, updated_at: ctx.now, ..before.clone() };
    let data = json!({"before": before.plan.as_str(), "after": plan.as_str()});
    let activity = ctx.activity(tenant, None, "workspace_plan_set", id, data);
    ctx.commit(tenant, vec![Change::WorkspaceUpdate(row.clone()), activity]).await?;
    Ok(Opened { tenant, row })
}

/// One workspace.
///
/// # Errors
/// Not found or not allowed.
pub async fn workspace_get(ctx: &OpCtx, id: WorkspaceId) -> Result<Opened<Workspace>, Error> {
    ctx.open(ctx.ops.store.workspace(id).await?, "Workspace", |_| Place::Workspace, Permission::Read)
}

/// One workspace by its short name.
///
/// # Errors
/// Not found or not allowed.
pub async fn workspace_by_username(ctx: &OpCtx, username: &str) -> Result<Opened<Workspace>, Error> {
    ctx.open(ctx.ops.store.workspace_by_username(username).await?, "Workspace", |_| Place::Workspace, Permission::Read)
}
