//! From a presented credential to a principal.

use std::sync::Arc;

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

/// Finds out who presents the credential.
///
/// # Errors
/// Unauthenticated, in words that name the kind of key that came and what is needed, when it is unknown, expired, revoked or sent in
/// the wrong place.
pub async fn authenticate(ops: &Arc<Ops>, presented: Presented, now: Timestamp, address: Option<&str>) -> Result<Principal, Error> {
    match presented {
        Presented::None => Ok(Principal::Anonymous),
        Presented::Session(secret) => session(ops, &secret, now).await,
        Presented::Bearer(secret) => bearer(ops, &secret, now, address).await,
        Presented::ProjectToken(secret) => project_token(ops, &secret, now, address).await,
    }
}

fn refused(text: impl Into<String>) -> Error {
    Error::new(Code::Unauthenticated, text)
}

async fn session(ops: &Arc<Ops>, secret: &SecretString, now: Timestamp) -> Result<Principal, Error> {
    // An ended session is an anonymous visitor, not an error: the page asks to sign in again.
    let Some(session) = ops.store.session_by_hash(key::hash(secret.expose_secret()), now).await? else { return Ok(Principal::Anonymous) };
    person(ops, session.user_id, Via::Session(session.id)).await
}

async fn bearer(ops: &Arc<Ops>, secret: &SecretString, now: Timestamp, address: Option<&str>) -> Result<Principal, Error> {
    let kind = key::recognise(secret.expose_secret())
        .ok_or_else(|| refused("Not Authorized: the bearer token is not a key of this server (mistyped, or made elsewhere)"))?;
    match kind {
        KeyKind::Account | KeyKind::OAuthAccess => {
            let key = live_key(ops, secret, kind, now, address).await?;
            person(ops, key.user_id, Via::Key(key.id, kind)).await
        }
        KeyKind::Workspace => {
            let key = live_key(ops, secret, kind, now, address).await?;
            let Some(workspace) = key.workspace_id else {
                return Err(Error::internal("a workspace key without a workspace", std::io::Error::other(key.id.to_string())));
            };
            let grants = Grants(vec![Grant { workspace, role: Role::Admin, within: Place::Workspace }]);
            Ok(Principal::Key(Arc::new(KeyPrincipal { key, grants })))
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

async fn project_token(ops: &Arc<Ops>, secret: &SecretString, now: Timestamp, address: Option<&str>) -> Result<Principal, Error> {
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
    Ok(Principal::Key(Arc::new(KeyPrincipal { key, grants })))
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
    let stale = key.last_used_at.is_none_or(|at| now.duration_since(at).as_secs() >= 60);
    if stale {
        ops.store.api_key_touch(key.id, now, address).await?;
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
