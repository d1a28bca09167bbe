//! From a presented credential to a principal.

mod known;
mod surface;

use std::sync::Arc;

use domain::account::Membership;
use domain::key::{self, ApiKey, KeyKind, KeyLimits};
use domain::{Grant, Grants, Permission, Place, Role, Timestamp, UserId};
use secrecy::{ExposeSecret, SecretString};

use crate::context::{KeyPrincipal, Principal, UserPrincipal, Via};
use crate::{Error, Ops};

pub use known::Principals;
use surface::Sent;
pub use surface::Surface;

/// What a request brought along.
pub enum Presented {
    /// Nothing.
    None,
    /// `Authorization: Bearer`.
    Bearer(SecretString),
    /// `Project-Access-Token`.
    ProjectToken(SecretString),
    /// `galaxy-api-key`, or the GraphQL variable `galaxyApiKey`.
    GalaxyKey(SecretString),
    /// The session cookie.
    Session(SecretString),
}

/// A key's use is noted at most so often, in seconds.
const NOTE_USE: i64 = 60;

/// Finds out who presents the credential to a surface: the one way in for every kind of key.
///
/// # Errors
/// Unauthenticated, in words that name the kind of key that came and what is needed, when it is unknown, expired, revoked, sent in
/// the wrong place or of a kind that the surface does not take. Galaxy's surface refuses accounts below the Professional plan.
pub async fn authenticate(
    ops: &Arc<Ops>,
    surface: Surface,
    presented: Presented,
    now: Timestamp,
    address: Option<&str>,
) -> Result<Principal, Error> {
    let (sent, secret) = match &presented {
        Presented::None => return Ok(Principal::Anonymous),
        Presented::Session(secret) => return surface.narrow(session(ops, secret, now).await?),
        Presented::Bearer(secret) => (Sent::Bearer, secret),
        Presented::ProjectToken(secret) => (Sent::ProjectToken, secret),
        Presented::GalaxyKey(secret) => (Sent::GalaxyKey, secret),
    };
    let kind = surface.admit(sent, secret.expose_secret())?;
    let slot = key::hash(secret.expose_secret());
    let version = ops.store.version();
    if let Some(known) = version.and_then(|version| ops.principals.find(&slot, version, now)) {
        return surface.narrow(known);
    }
    let key = live_key(ops, surface, kind, slot, now, address).await?;
    let principal = principal_of(ops, surface, &key).await?;
    if let Some(version) = version {
        ops.principals.remember(slot, version, &principal, &key, now);
    }
    surface.narrow(principal)
}

async fn session(ops: &Arc<Ops>, secret: &SecretString, now: Timestamp) -> Result<Principal, Error> {
    // An ended session is an anonymous visitor, not an error: the page asks to sign in again.
    let Some(session) = ops.store.session_by_hash(key::hash(secret.expose_secret()), now).await? else { return Ok(Principal::Anonymous) };
    let person = person(ops, session.user_id, Via::Session(session.id), KeyLimits::OF_PLAN).await?;
    person.ok_or_else(|| Surface::Railway.refused(GONE))
}

const GONE: &str = "the account behind this credential no longer exists";

/// Looks a key up and refuses it unless it works now.
async fn live_key(
    ops: &Arc<Ops>,
    surface: Surface,
    kind: KeyKind,
    hash: [u8; 32],
    now: Timestamp,
    address: Option<&str>,
) -> Result<ApiKey, Error> {
    let refused = |why: String| match (kind, surface) {
        // The command-line client looks for these words and for no others.
        (KeyKind::Project, Surface::Railway) => Error { context: Some(why), ..surface::project_token_not_found() },
        _ => surface.refused(why),
    };
    let label = kind.label();
    let key = ops.store.api_key_by_hash(hash).await?.filter(|key| key.kind == kind);
    let key = key.ok_or_else(|| refused(format!("this {label} is unknown; it may have been deleted")))?;
    if key.revoked_at.is_some() {
        return Err(refused(format!("this {label} was revoked; create a new one")));
    }
    if key.expires_at.is_some_and(|at| at <= now) {
        return Err(refused(format!("this {label} has expired; create a new one or sign in again")));
    }
    let stale = key.last_used_at.is_none_or(|at| now.duration_since(at).as_secs() >= NOTE_USE);
    if stale {
        ops.store.api_key_touch(key.id, now, address).await?;
        return Ok(ApiKey { last_used_at: Some(now), ..key });
    }
    Ok(key)
}

/// Whom a key acts for: its user, or the workspace, project or account that it belongs to.
async fn principal_of(ops: &Arc<Ops>, surface: Surface, key: &ApiKey) -> Result<Principal, Error> {
    let (role, within) = match (key.kind, key.project) {
        (KeyKind::Account | KeyKind::OAuthAccess | KeyKind::OAuthRefresh, _) => {
            let person = person(ops, key.user_id, Via::Key(key.id, key.kind), key.limits).await?;
            return person.ok_or_else(|| surface.refused(GONE));
        }
        (KeyKind::Project, Some((project, environment))) => (Role::Member, Place::Environment(project, environment)),
        (KeyKind::Workspace | KeyKind::Galaxy, _) => (Role::Admin, Place::Workspace),
        (KeyKind::Flow | KeyKind::Project, _) => (Role::Member, Place::Workspace),
    };
    let lost = || Error::internal("a key without what it belongs to", std::io::Error::other(key.id.to_string()));
    let workspace = key.workspace_id.filter(|_| key.kind != KeyKind::Project || key.project.is_some()).ok_or_else(lost)?;
    let grants = Grants(vec![Grant { workspace, role, within }]);
    let tenant = grants.allow(workspace, within, Permission::Read).map_err(|_| lost())?;
    let workspace = ops.store.workspace(workspace).await?.and_then(|sealed| sealed.open(tenant)).ok_or_else(lost)?;
    Ok(Principal::Key(Arc::new(KeyPrincipal { key: key.clone(), workspace, grants })))
}

async fn person(ops: &Arc<Ops>, id: UserId, via: Via, limits: KeyLimits) -> Result<Option<Principal>, Error> {
    let Some(user) = ops.store.user(id).await? else { return Ok(None) };
    let memberships = ops.store.memberships(id).await?;
    let grants = grants_of(&memberships);
    Ok(Some(Principal::User(Arc::new(UserPrincipal { user, memberships, grants, via, limits }))))
}

fn grants_of(memberships: &[Membership]) -> Grants {
    Grants(memberships.iter().map(|m| Grant { workspace: m.workspace.id, role: m.role, within: Place::Workspace }).collect())
}
