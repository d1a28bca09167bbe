//! From a presented credential to a principal.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use domain::account::Membership;
use domain::key::{self, ApiKey, KeyKind};
use domain::{Code, Grant, Grants, Place, Role, Timestamp, UserId};
use secrecy::{ExposeSecret, SecretString};

use crate::context::{KeyPrincipal, Principal, UserPrincipal, Via};
use crate::{Error, Ops};

/// What a request brought along.
pub enum Presented {
    /// Nothing.
    None,
    /// `Authorization: Bearer`.
    Bearer(SecretString),
    /// `Project-Access-Token`.
    ProjectToken(SecretString),
    /// The session cookie.
    Session(SecretString),
}

/// Who presented which key. An entry counts while the store's version is the one it was read at, so that a revocation, a changed role or
/// a deleted account holds from the next request on, whichever process made it.
#[derive(Default)]
pub struct Principals(Mutex<HashMap<[u8; 32], Known>>);

struct Known {
    version: u64,
    principal: Principal,
    /// The key's end, or when its last use has to be noted again.
    until: Timestamp,
}

/// Keys that are remembered at the most.
const MAX_KNOWN: usize = 10_000;
/// A key's use is noted at most so often, in seconds.
const NOTE_USE: i64 = 60;

impl Principals {
    fn find(&self, slot: &[u8; 32], version: u64, now: Timestamp) -> Option<Principal> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(slot).filter(|entry| entry.version == version && now < entry.until).map(|entry| entry.principal.clone())
    }

    fn remember(&self, slot: [u8; 32], version: u64, principal: &Principal, key: &ApiKey, now: Timestamp) {
        let noted = key.last_used_at.unwrap_or(now) + jiff::SignedDuration::from_secs(NOTE_USE);
        let until = key.expires_at.map_or(noted, |end| end.min(noted));
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(slot, Known { version, principal: principal.clone(), until });
    }
}

/// Finds out who presents the credential.
///
/// # Errors
/// Unauthenticated, in words that name the kind of key that came and what is needed, when it is unknown, expired, revoked or sent in
/// the wrong place.
pub async fn authenticate(ops: &Arc<Ops>, presented: Presented, now: Timestamp, address: Option<&str>) -> Result<Principal, Error> {
    let (secret, project) = match &presented {
        Presented::None => return Ok(Principal::Anonymous),
        Presented::Session(secret) => return session(ops, secret, now).await,
        Presented::Bearer(secret) => (secret, false),
        Presented::ProjectToken(secret) => (secret, true),
    };
    // The kinds of keys have prefixes of their own, and a key is only remembered from the place where its kind belongs.
    let slot = key::hash(secret.expose_secret());
    let version = ops.store.version();
    let belongs = (key::recognise(secret.expose_secret()) == Some(KeyKind::Project)) == project;
    if let Some(known) = version.filter(|_| belongs).and_then(|version| ops.principals.find(&slot, version, now)) {
        return Ok(known);
    }
    let (principal, key) =
        if project { project_token(ops, secret, now, address).await? } else { bearer(ops, secret, now, address).await? };
    if let Some(version) = version {
        ops.principals.remember(slot, version, &principal, &key, now);
    }
    Ok(principal)
}

fn refused(text: impl Into<String>) -> Error {
    Error::new(Code::Unauthenticated, text)
}

async fn session(ops: &Arc<Ops>, secret: &SecretString, now: Timestamp) -> Result<Principal, Error> {
    // An ended session is an anonymous visitor, not an error: the page asks to sign in again.
    let Some(session) = ops.store.session_by_hash(key::hash(secret.expose_secret()), now).await? else { return Ok(Principal::Anonymous) };
    person(ops, session.user_id, Via::Session(session.id)).await
}

async fn bearer(ops: &Arc<Ops>, secret: &SecretString, now: Timestamp, address: Option<&str>) -> Result<(Principal, ApiKey), Error> {
    let kind = key::recognise(secret.expose_secret())
        .ok_or_else(|| refused("Not Authorized: the bearer token is not a key of this server (mistyped, or made elsewhere)"))?;
    match kind {
        KeyKind::Account | KeyKind::OAuthAccess => {
            let key = live_key(ops, secret, kind, now, address).await?;
            Ok((person(ops, key.user_id, Via::Key(key.id, kind)).await?, key))
        }
        KeyKind::Workspace => {
            let key = live_key(ops, secret, kind, now, address).await?;
            let Some(workspace) = key.workspace_id else {
                return Err(Error::internal("a workspace key without a workspace", std::io::Error::other(key.id.to_string())));
            };
            let grants = Grants(vec![Grant { workspace, role: Role::Admin, within: Place::Workspace }]);
            Ok((Principal::Key(Arc::new(KeyPrincipal { key: key.clone(), grants })), key))
        }
        KeyKind::Project => Err(refused(
            "Not Authorized: a project token came as `Authorization: Bearer`; send it as the header `Project-Access-Token` (RAILWAY_TOKEN in the command-line client)",
        )),
        KeyKind::Galaxy | KeyKind::Flow | KeyKind::OAuthRefresh => Err(refused(format!(
            "Not Authorized: a {} does not open this API; it needs an account or workspace token (`orr_…`, `orw_…`)",
            kind.label()
        ))),
    }
}

async fn project_token(ops: &Arc<Ops>, secret: &SecretString, now: Timestamp, address: Option<&str>) -> Result<(Principal, ApiKey), Error> {
    match key::recognise(secret.expose_secret()) {
        Some(KeyKind::Project) => {}
        Some(other) => {
            return Err(refused(format!(
                "Not Authorized: the header `Project-Access-Token` takes a project token and a {} came; send that as `Authorization: Bearer`",
                other.label()
            )));
        }
        None => return Err(refused("Project token not found")),
    }
    let key = live_key(ops, secret, KeyKind::Project, now, address).await.map_err(|error| match error.code {
        Code::Unauthenticated => refused("Project token not found"),
        _ => error,
    })?;
    let (Some(workspace), Some((project, environment))) = (key.workspace_id, key.project) else {
        return Err(Error::internal("a project key without a project", std::io::Error::other(key.id.to_string())));
    };
    let grants = Grants(vec![Grant { workspace, role: Role::Member, within: Place::Environment(project, environment) }]);
    Ok((Principal::Key(Arc::new(KeyPrincipal { key: key.clone(), grants })), key))
}

/// Looks a key up and refuses it unless it works now.
async fn live_key(ops: &Arc<Ops>, secret: &SecretString, kind: KeyKind, now: Timestamp, address: Option<&str>) -> Result<ApiKey, Error> {
    let label = kind.label();
    let found = ops.store.api_key_by_hash(key::hash(secret.expose_secret())).await?;
    let key = found
        .filter(|key| key.kind == kind)
        .ok_or_else(|| refused(format!("Not Authorized: this {label} is unknown; it may have been deleted")))?;
    if key.revoked_at.is_some() {
        return Err(refused(format!("Not Authorized: this {label} was revoked; create a new one")));
    }
    if key.expires_at.is_some_and(|at| at <= now) {
        return Err(refused(format!("Not Authorized: this {label} has expired; create a new one or sign in again")));
    }
    let stale = key.last_used_at.is_none_or(|at| now.duration_since(at).as_secs() >= NOTE_USE);
    if stale {
        ops.store.api_key_touch(key.id, now, address).await?;
        return Ok(ApiKey { last_used_at: Some(now), ..key });
    }
    Ok(key)
}

async fn person(ops: &Arc<Ops>, id: UserId, via: Via) -> Result<Principal, Error> {
    let user = ops.store.user(id).await?.ok_or_else(|| refused("Not Authorized: the account behind this credential no longer exists"))?;
    let memberships = ops.store.memberships(id).await?;
    let grants = grants_of(&memberships);
    Ok(Principal::User(Arc::new(UserPrincipal { user, memberships, grants, via })))
}

fn grants_of(memberships: &[Membership]) -> Grants {
    Grants(memberships.iter().map(|m| Grant { workspace: m.workspace.id, role: m.role, within: Place::Workspace }).collect())
}
