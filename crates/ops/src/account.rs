//! Signing in and out, and workspaces.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};
use domain::account::{Plan, Session, User, Workspace};
use domain::{Code, Permission, Place, SessionId, Tenant, Timestamp, UserId, WorkspaceId, key};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use store::Change;

use crate::context::{Opened, Via};
use crate::{Error, OpCtx, Ops, second_factor, secret};

const SESSION_DAYS: i64 = 30;

/// The browser that signs in, as far as it says.
#[derive(Clone, Debug, Default)]
pub struct Browser {
    /// Its address.
    pub address: Option<String>,
    /// Its `User-Agent`.
    pub agent: Option<String>,
}

/// Turns a one-time link into a session.
///
/// # Errors
/// Unauthenticated when the link is unknown, used or too old.
pub async fn login_link_use(
    ops: &Arc<Ops>,
    secret: &SecretString,
    now: Timestamp,
    browser: Browser,
) -> Result<(Session, SecretString, User), Error> {
    let used = ops.store.login_link_use(key::hash(secret.expose_secret()), now).await?;
    let user = match used {
        Some(id) => ops.store.user(id).await?,
        None => None,
    };
    let user = user.ok_or_else(|| {
        Error::new(Code::Unauthenticated, "This link was used already or is too old: make a new one with `orrery login-link`")
    })?;
    let (session, cookie) = session_start(ops, &user, now, browser).await?;
    Ok((session, cookie, user))
}

/// What a right password leads to.
#[derive(Debug)]
pub enum PasswordLogin {
    /// A session, with the secret of its cookie.
    Entered(Session, SecretString),
    /// A code is asked for next: [`second_factor::code_login`] goes on under this secret.
    CodeNeeded(SecretString),
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
    browser: Browser,
) -> Result<(User, PasswordLogin), Error> {
    let user = ops.store.user_by_email(&email.trim().to_ascii_lowercase()).await?;
    let stored = match &user {
        Some(user) => ops.store.user_password_hash(user.id).await?,
        None => None,
    };
    let matches = verify_password(password, stored).await?;
    let user = user.filter(|_| matches).ok_or_else(|| Error::new(Code::Unauthenticated, "Wrong e-mail address or password"))?;
    if let Some(waiting) = second_factor::wait_for_code(ops, &user, now).await? {
        return Ok((user, PasswordLogin::CodeNeeded(waiting)));
    }
    let (session, cookie) = session_start(ops, &user, now, browser).await?;
    Ok((user, PasswordLogin::Entered(session, cookie)))
}

/// A hash takes 19 MB and a few tens of milliseconds: at most two at a time, off the async threads.
static HASHING: tokio::sync::Semaphore = tokio::sync::Semaphore::const_new(2);

pub(crate) async fn verify_password(password: SecretString, stored: Option<String>) -> Result<bool, Error> {
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

pub(crate) async fn session_start(ops: &Arc<Ops>, user: &User, now: Timestamp, browser: Browser) -> Result<(Session, SecretString), Error> {
    let (cookie, hash) = secret::new_opaque();
    let session = Session {
        id: SessionId::generate(),
        user_id: user.id,
        created_at: now,
        expires_at: now + jiff::SignedDuration::from_hours(24 * SESSION_DAYS),
        address: browser.address,
        agent: browser.agent.map(|agent| agent.chars().filter(|c| !c.is_control()).take(300).collect()),
    };
    ops.store.session_create(session.clone(), hash).await?;
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

/// The browsers in which the person is signed in, newest first.
///
/// # Errors
/// Not a person.
pub async fn sessions(ctx: &OpCtx) -> Result<Vec<Session>, Error> {
    let person = ctx.user()?;
    let mut found = ctx.ops.store.sessions(person.user.id).await?;
    found.retain(|session| session.expires_at > ctx.now);
    Ok(found)
}

/// Signs one of the person's browsers out.
///
/// # Errors
/// Not a person, or it is signed out already.
pub async fn session_delete(ctx: &OpCtx, id: SessionId) -> Result<(), Error> {
    let user = ctx.user()?.user.id;
    // A deletion counts as a write even when there is nothing to delete: whoever guesses ids must not make others read again.
    let known = ctx.ops.store.sessions(user).await?.iter().any(|session| session.id == id);
    if known && ctx.ops.store.session_delete(user, id).await? { Ok(()) } else { Err(Error::not_found("Session")) }
}

/// Whether the person can sign in by password.
///
/// # Errors
/// Not a person.
pub async fn has_password(ctx: &OpCtx) -> Result<bool, Error> {
    Ok(ctx.ops.store.user_password_hash(ctx.user()?.user.id).await?.is_some())
}

/// Sets the person's password, and signs all of their other browsers out. Only a browser may: a key that leaks must not become a login.
///
/// # Errors
/// Not a session, a wrong present password, too many of these, or a new one that is too short.
pub async fn password_set(ctx: &OpCtx, current: Option<SecretString>, password: SecretString) -> Result<(), Error> {
    let person = ctx.user()?;
    let Via::Session(session) = person.via else {
        return Err(Error::new(Code::Forbidden, "Not Authorized: a password is set in the dashboard, by somebody who is signed in there"));
    };
    let user = person.user.id;
    if let Some(stored) = ctx.ops.store.user_password_hash(user).await? {
        ctx.ops.guesses.take(user, ctx.now)?;
        let current = current.ok_or_else(|| Error::bad_input("type the present password, too"))?;
        if !verify_password(current, Some(stored)).await? {
            return Err(Error::bad_input("the present password is another one: type it again, or sign in by a login link"));
        }
        ctx.ops.guesses.was_right(user);
    }
    let hash = password_hash(password).await?;
    ctx.ops.store.user_password_set(user, Some(hash)).await?;
    ctx.ops.store.sessions_delete_others(user, session).await?;
    Ok(())
}

/// Wrong passwords and codes of people who are signed in, or whose password was right: nobody may try them all.
#[derive(Default)]
pub struct Guesses(Mutex<HashMap<UserId, (Timestamp, u32)>>);

impl Guesses {
    const MOST: u32 = 5;
    const SECONDS: i64 = 600;
    const PEOPLE: usize = 10_000;

    pub(crate) fn take(&self, user: UserId, now: Timestamp) -> Result<(), Error> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (since, _)| now.duration_since(*since).as_secs() < Self::SECONDS);
        let room = all.len() < Self::PEOPLE || all.contains_key(&user);
        let (_, count) = all.entry(user).or_insert((now, 0));
        if *count >= Self::MOST || !room {
            return Err(Error::new(
                Code::RateLimited,
                "Too many wrong passwords or codes: try again in ten minutes, or sign in by a login link",
            ));
        }
        *count += 1;
        Ok(())
    }

    pub(crate) fn was_right(&self, user: UserId) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&user);
    }
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
