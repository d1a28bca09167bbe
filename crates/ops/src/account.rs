//! Signing in and out, and workspaces.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use argon2::password_hash::{PasswordHasher, PasswordVerifier, phc::PasswordHash};
use domain::account::{ClientLogin, Plan, Session, User, Workspace};
use domain::galaxy::APP_PLAN;
use domain::{Code, Permission, Place, SessionId, Tenant, Timestamp, UserId, WorkspaceId, key, name};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use store::{AccountChange, Change};

use crate::context::{Opened, UserPrincipal, Via, anew};
use crate::{Error, OpCtx, Ops, app, auth, first_run, second_factor, secret};

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
    let (session, cookie) = session_start(ops, &user, "link", now, browser).await?;
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
    let (session, cookie) = session_start(ops, &user, "password", now, browser).await?;
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
    long_enough(&password)?;
    let _permit = HASHING.acquire().await.map_err(|error| Error::internal("password hashing", error))?;
    tokio::task::spawn_blocking(move || {
        argon2::Argon2::default().hash_password(password.expose_secret().as_bytes()).map(|hash| hash.to_string()).map_err(|e| e.to_string())
    })
    .await
    .map_err(|error| Error::internal("password hashing", error))?
    .map_err(|error| Error::internal("password hashing", error))
}

fn long_enough(password: &SecretString) -> Result<(), Error> {
    if password.expose_secret().chars().count() < 10 {
        return Err(Error::bad_input("the password is shorter than 10 characters: choose a longer one"));
    }
    Ok(())
}

/// Begins a session, with how the person proved who they are.
pub(crate) async fn session_start(
    ops: &Arc<Ops>,
    user: &User,
    method: &str,
    now: Timestamp,
    browser: Browser,
) -> Result<(Session, SecretString), Error> {
    let (cookie, hash) = secret::new_opaque();
    let session = Session {
        id: SessionId::generate(),
        user_id: user.id,
        created_at: now,
        expires_at: now + jiff::SignedDuration::from_hours(24 * SESSION_DAYS),
        address: browser.address,
        agent: browser.agent.map(|agent| agent.chars().filter(|c| !c.is_control()).take(300).collect()),
    };
    let from = auth::signing_in(ops, &session, now).await?;
    let data = json!({"method": method, "browser": session.agent});
    commit_own(&from, AccountChange::SessionInsert { session: session.clone(), hash }, "login", session.id, data).await?;
    Ok((session, cookie))
}

/// Changes something of the person's own, which their own workspace's audit log tells.
pub(crate) async fn commit_own(
    ctx: &OpCtx,
    change: AccountChange,
    verb: &str,
    subject: impl ToString,
    data: serde_json::Value,
) -> Result<(), Error> {
    let home = ctx.user()?.home().map(|home| home.id);
    let home = home.ok_or_else(|| Error::conflict("Your account has no workspace: ask the operator to create one"))?;
    let tenant = ctx.allow(home, Place::Workspace, Permission::Read)?;
    ctx.commit(tenant, vec![Change::Account(change), ctx.activity(tenant, None, verb, subject, data)]).await
}

/// The person and their session. Only a browser reaches how somebody signs in: a key that leaks must not become a login.
pub(crate) fn in_browser(ctx: &OpCtx) -> Result<(&UserPrincipal, SessionId), Error> {
    let person = ctx.user()?;
    match person.via {
        Via::Session(session) => Ok((person, session)),
        _ => Err(Error::new(
            Code::Forbidden,
            "Not Authorized: how you sign in is seen and changed in the dashboard, by somebody who is signed in there",
        )),
    }
}

/// Ends the session that the request came with.
///
/// # Errors
/// The request came with something else.
pub async fn session_end(ctx: &OpCtx) -> Result<(), Error> {
    let person = ctx.user()?;
    let Via::Session(id) = person.via else { return Err(Error::bad_input("there is no session to end: the request came with a key")) };
    match commit_own(ctx, AccountChange::SessionDelete { user: person.user.id, id }, "logout", id, json!({})).await {
        // Another browser has ended it meanwhile.
        Err(error) if error.is_stale() => Ok(()),
        done => done,
    }
}

/// The browsers in which the person is signed in, newest first.
///
/// # Errors
/// Not a session.
pub async fn sessions(ctx: &OpCtx) -> Result<Vec<Session>, Error> {
    let (person, _) = in_browser(ctx)?;
    let mut found = ctx.ops.store.sessions(person.user.id).await?;
    found.retain(|session| session.expires_at > ctx.now);
    Ok(found)
}

/// The logins of the person's command-line clients, newest first.
///
/// # Errors
/// Not a session.
pub async fn client_logins(ctx: &OpCtx) -> Result<Vec<ClientLogin>, Error> {
    let (person, _) = in_browser(ctx)?;
    Ok(ctx.ops.store.client_logins(person.user.id, ctx.now).await?)
}

/// Signs one of the person's browsers or command-line clients out.
///
/// # Errors
/// Not a session, or it is signed out already.
pub async fn session_delete(ctx: &OpCtx, id: SessionId) -> Result<(), Error> {
    let (person, _) = in_browser(ctx)?;
    let user = person.user.id;
    // A deletion counts as a write even when there is nothing to delete: whoever guesses ids must not make others read again.
    let known = ctx.ops.store.sessions(user).await?.into_iter().find(|session| session.id == id);
    let (change, data) = if let Some(session) = known {
        (AccountChange::SessionDelete { user, id }, json!({"browser": session.agent, "address": session.address}))
    } else {
        let login = ctx.ops.store.client_logins(user, ctx.now).await?.into_iter().find(|login| login.id == id);
        let login = login.ok_or_else(|| Error::not_found("Session"))?;
        (AccountChange::ClientLoginEnd { user, id, at: ctx.now }, json!({"client": "command line", "address": login.address}))
    };
    let ended = commit_own(ctx, change, "session_delete", id, data).await;
    ended.map_err(|error| if error.is_stale() { Error::not_found("Session") } else { error })
}

/// Whether the person can sign in by password.
///
/// # Errors
/// Not a person.
pub async fn has_password(ctx: &OpCtx) -> Result<bool, Error> {
    Ok(ctx.ops.store.user_password_hash(ctx.user()?.user.id).await?.is_some())
}

/// Sets the person's password, and signs all of their other browsers and their command-line clients out. Only a browser may: a key that leaks
/// must not become a login.
///
/// # Errors
/// Not a session, a wrong present password, too many of these, or a new one that is too short.
pub async fn password_set(ctx: &OpCtx, current: Option<SecretString>, password: SecretString) -> Result<(), Error> {
    let (person, session) = in_browser(ctx)?;
    let user = person.user.id;
    // First, so that what is refused anyway tells nothing of the present one.
    long_enough(&password)?;
    confirm(ctx, user, current).await?;
    let hash = password_hash(password).await?;
    commit_own(ctx, AccountChange::PasswordSet { user, hash, stays: session, at: ctx.now }, "password_set", user, json!({})).await
}

/// Whoever has a password types it once more before something changes by which they sign in.
pub(crate) async fn confirm(ctx: &OpCtx, user: UserId, current: Option<SecretString>) -> Result<(), Error> {
    let Some(stored) = ctx.ops.store.user_password_hash(user).await? else { return Ok(()) };
    let current = current.ok_or_else(|| Error::bad_input("type the present password, too"))?;
    ctx.ops.guesses.take(user, Guessed::Password, ctx.now)?;
    if !verify_password(current, Some(stored)).await? {
        return Err(Error::bad_input("the present password is another one: type it again, or sign in by a login link"));
    }
    ctx.ops.guesses.was_right(user, Guessed::Password);
    Ok(())
}

/// Changes of a person. What is `None` stays.
#[derive(Debug, Default)]
pub struct AccountPatch {
    /// What others see.
    pub name: Option<String>,
    /// What they sign in with and are found by.
    pub email: Option<String>,
    /// The present password, for another address.
    pub password: Option<SecretString>,
}

/// Changes the person's name, or the e-mail address that they sign in with. Others are added to workspaces by their address, so that it is
/// not for everybody to choose: an operator changes their own, and those of others with a command on the server.
///
/// # Errors
/// Neither a session nor a command on the server, a bad name, a bad or taken address, not an operator, or a wrong present password.
pub async fn account_update(ctx: &OpCtx, patch: AccountPatch) -> Result<(), Error> {
    let person = ctx.user()?;
    let on_server = person.via == Via::Server;
    if !on_server {
        in_browser(ctx)?;
    }
    let before = &person.user;
    let mut after = before.clone();
    if let Some(text) = &patch.name {
        after.name = name::display("name", text)?;
    }
    if let Some(text) = &patch.email {
        (after.email, _) = first_run::address(text)?;
    }
    if after.email != before.email && !on_server {
        if !before.operator {
            return Err(Error::new(
                Code::Forbidden,
                "Not Authorized: your address is what others add you to workspaces by. Ask an operator of this server for another one",
            ));
        }
        confirm(ctx, before.id, patch.password).await?;
    }
    if after == *before {
        return Ok(());
    }
    let told = |user: &User| json!({"name": user.name, "email": user.email});
    let data = json!({"before": told(before), "after": told(&after)});
    let change = AccountChange::ProfileSet { user: before.id, name: after.name, email: after.email };
    let done = commit_own(ctx, change, "account_update", before.id, data).await;
    done.map_err(|error| error.when_taken("An account with this e-mail address already exists on this server"))
}

/// What somebody types who is known.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Guessed {
    /// Their password.
    Password,
    /// A code of their app, or a recovery code.
    Code,
}

/// Wrong passwords and codes of people who are signed in, or whose password was right: nobody may try them all. Each is counted by itself, so
/// that whoever has the one gets no further tries at the other.
#[derive(Default)]
pub struct Guesses(Mutex<HashMap<(UserId, Guessed), (Timestamp, u32)>>);

impl Guesses {
    const MOST: u32 = 5;
    const SECONDS: i64 = 600;
    const PEOPLE: usize = 10_000;

    pub(crate) fn take(&self, user: UserId, what: Guessed, now: Timestamp) -> Result<(), Error> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|_, (since, _)| now.duration_since(*since).as_secs() < Self::SECONDS);
        let known = all.get(&(user, what)).copied();
        let (since, count) = known.unwrap_or((now, 0));
        let room = known.is_some() || all.len() < Self::PEOPLE;
        if count >= Self::MOST || !room {
            return Err(Error::new(
                Code::RateLimited,
                "Too many wrong passwords or codes: try again in ten minutes, or sign in by a login link",
            ));
        }
        all.insert((user, what), (since, count + 1));
        Ok(())
    }

    pub(crate) fn was_right(&self, user: UserId, what: Guessed) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&(user, what));
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
    anew(|| plan_set_once(ctx, id, plan)).await
}

async fn plan_set_once(ctx: &OpCtx, id: WorkspaceId, plan: Plan) -> Result<Opened<Workspace>, Error> {
    let tenant = Tenant::system(id);
    let found = ctx.ops.store.workspace(id).await?.and_then(|sealed| sealed.open(tenant));
    let before = found.ok_or_else(|| Error::not_found("Workspace"))?;
    let row = Workspace { plan, updated_at: ctx.now, ..before.clone() };
    let data = json!({"before": before.plan.as_str(), "after": plan.as_str()});
    let activity = ctx.activity(tenant, None, "workspace_plan_set", id, data);
    let mut changes = vec![Change::WorkspaceUpdate(row.clone(), before.updated_at), activity];
    if plan != before.plan {
        let instances = ctx.ops.store.instances_of_workspace(tenant).await?;
        let (from, to) = (before.plan, plan);
        changes.extend(app::tell_of_apps(ctx, tenant, &instances, APP_PLAN, |_| json!({"from": from, "to": to})).await?);
    }
    ctx.commit(tenant, changes).await?;
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
