//! From a presented credential to a principal.

mod known;
mod surface;

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;

use domain::account::{Membership, Session};
use domain::activity::Activity;
use domain::key::{self, ApiKey, KeyKind, KeyLimits};
use domain::network::visitor;
use domain::workflow::run::Run;
use domain::{Code, Grant, Grants, Permission, Place, Role, RunId, Tenant, Timestamp, UserId};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use store::{Change, StoreError};

use crate::context::{KeyPrincipal, OpCtx, Principal, UserPrincipal, Via};
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
/// As [`identify`]; Galaxy's surface refuses accounts below the Professional plan.
pub async fn authenticate(
    ops: &Arc<Ops>,
    surface: Surface,
    presented: Presented,
    now: Timestamp,
    address: Option<&str>,
) -> Result<Principal, Error> {
    surface.narrow(identify(ops, surface, presented, now, address).await?)
}

/// The first half of [`authenticate`]: whose credential it is, which may still reach nothing here ([`Surface::narrow`]).
///
/// # Errors
/// Unauthenticated, in words that name the kind of key that came and what is needed, when it is unknown, expired, revoked, sent in
/// the wrong place or of a kind that the surface does not take.
pub async fn identify(
    ops: &Arc<Ops>,
    surface: Surface,
    presented: Presented,
    now: Timestamp,
    address: Option<&str>,
) -> Result<Principal, Error> {
    let (sent, secret) = match &presented {
        Presented::None => return Ok(Principal::Anonymous),
        Presented::Session(secret) => return Box::pin(session(ops, secret, now)).await,
        Presented::Bearer(secret) => (Sent::Bearer, secret),
        Presented::ProjectToken(secret) => (Sent::ProjectToken, secret),
        Presented::GalaxyKey(secret) => (Sent::GalaxyKey, secret),
    };
    let slot = key::hash(secret.expose_secret());
    let version = ops.store.version();
    let known = version.and_then(|version| ops.principals.find(&slot, version, now, address));
    // Whatever is remembered was well-formed when it came first.
    let kind = if known.is_some() { key::claimed(secret.expose_secret()) } else { key::recognise(secret.expose_secret()) };
    let kind = surface.admit(sent, kind)?;
    if let Some(known) = known {
        return Ok(known);
    }
    // Apart, so that not every request carries the room that a look into the store takes.
    Box::pin(look_up(ops, surface, kind, slot, now, address)).await
}

/// Finds out whom a key acts for that is not remembered, and remembers it.
async fn look_up(
    ops: &Arc<Ops>,
    surface: Surface,
    kind: KeyKind,
    slot: [u8; 32],
    now: Timestamp,
    address: Option<&str>,
) -> Result<Principal, Error> {
    let version = ops.store.version();
    let found = ops.store.api_key_by_hash(slot).await?.filter(|key| key.kind == kind);
    let key = found.ok_or_else(|| refused(surface, kind, "is unknown; it may have been deleted"))?;
    let principal = principal_of(ops, surface, &key).await?;
    let from = OpCtx { ops: ops.clone(), principal, request_id: String::new(), address: address.map(str::to_owned), now };
    if let Some((reason, words)) = ended(&key, now) {
        note_refusal(&from, &key, reason).await;
        return Err(refused(surface, kind, words));
    }
    let key = note_use(&from, key, address.map(place_of).as_deref()).await?;
    let principal = from.principal;
    if let Some(version) = version {
        ops.principals.remember(slot, version, &principal, &key, now, address);
    }
    Ok(principal)
}

async fn session(ops: &Arc<Ops>, secret: &SecretString, now: Timestamp) -> Result<Principal, Error> {
    // An ended session is an anonymous visitor, not an error: the page asks to sign in again.
    let Some(session) = ops.store.session_by_hash(key::hash(secret.expose_secret()), now).await? else { return Ok(Principal::Anonymous) };
    let person = person(ops, session.user_id, Via::Session(session.id), KeyLimits::OF_PLAN).await?;
    person.ok_or_else(|| Surface::Railway.refused(GONE))
}

/// The circumstances of somebody who has just proved who they are, in the session that begins with it.
pub(crate) async fn signing_in(ops: &Arc<Ops>, session: &Session, now: Timestamp) -> Result<OpCtx, Error> {
    let person = person(ops, session.user_id, Via::Session(session.id), KeyLimits::OF_PLAN).await?;
    let principal = person.ok_or_else(|| Surface::Railway.refused(GONE))?;
    Ok(OpCtx { ops: ops.clone(), principal, request_id: String::new(), address: session.address.clone(), now })
}

/// The person, for whoever runs a command on the server itself and so can read its database and its keys anyway.
///
/// # Errors
/// There is no such person.
pub async fn operator_as(ops: &Arc<Ops>, user: UserId) -> Result<Principal, Error> {
    let person = person(ops, user, Via::Server, KeyLimits::OF_PLAN).await?;
    person.ok_or_else(|| Error::not_found("User"))
}

/// The person whose rights something has that goes on without them: a run, a schedule. They reach the one workspace, no further than a
/// member does, and only while they belong to it.
///
/// # Errors
/// They do not belong to it any more.
pub async fn acting(ops: &Arc<Ops>, tenant: Tenant, user: UserId) -> Result<Principal, Error> {
    acting_by(ops, tenant, user, None).await
}

async fn acting_by(ops: &Arc<Ops>, tenant: Tenant, user: UserId, run: Option<RunId>) -> Result<Principal, Error> {
    let left = || Error::new(Code::Forbidden, "Whoever set this up does not belong to the workspace any more: set it up anew");
    let user = ops.store.user(user).await?.ok_or_else(left)?;
    let mut memberships = ops.store.memberships(user.id).await?;
    memberships.retain(|membership| membership.workspace.id == tenant.workspace());
    for membership in &mut memberships {
        // The weaker role is the greater one.
        membership.role = membership.role.max(Role::Member);
    }
    if memberships.is_empty() {
        return Err(left());
    }
    let grants = grants_of(&memberships);
    Ok(Principal::User(Arc::new(UserPrincipal { user, memberships, grants, via: Via::Absent, limits: KeyLimits::OF_PLAN, run })))
}

/// The rights of a run: those of whoever started it, while the key that they started it with works.
///
/// # Errors
/// They do not belong to the workspace any more, or the key was revoked or has expired.
pub async fn acting_for_run(ops: &Arc<Ops>, tenant: Tenant, run: &Run, now: Timestamp) -> Result<Principal, Error> {
    if let Some(id) = run.key_id {
        // An access token lives an hour and is exchanged for the next one: its run goes on until the login ends.
        let expires = |key: &ApiKey| key.kind != KeyKind::OAuthAccess && key.is_expired(now);
        let key = ops.store.api_key(id).await?;
        if key.is_none_or(|key| key.revoked_at.is_some() || expires(&key)) {
            let words = "The key that started this run was revoked or has expired: start the run anew with another key";
            return Err(Error::new(Code::Forbidden, words));
        }
    }
    acting_by(ops, tenant, run.user_id, Some(run.id)).await
}

const GONE: &str = "the account behind this credential no longer exists";

fn refused(surface: Surface, kind: KeyKind, why: &str) -> Error {
    let why = format!("this {} {why}", kind.label());
    match (kind, surface) {
        // The command-line client looks for these words and for no others.
        (KeyKind::Project, Surface::Railway) => Error { context: Some(why), ..surface::project_token_not_found() },
        _ => surface.refused(why),
    }
}

/// Why a key does not work any more, for the audit log and for its user.
fn ended(key: &ApiKey, now: Timestamp) -> Option<(&'static str, &'static str)> {
    if key.revoked_at.is_some() {
        return Some(("revoked", "was revoked; create a new one"));
    }
    key.is_expired(now).then_some(("expired", "has expired; create a new one or sign in again"))
}

/// Keys whose addresses and refusals belong into the audit log. Tokens of a login live an hour, and a login is an activity of its own.
fn leaves_traces(kind: KeyKind) -> bool {
    !matches!(kind, KeyKind::OAuthAccess | KeyKind::OAuthRefresh)
}

/// Where an address counts as: a visitor with IPv6 has so many that each request could come from another one.
fn place_of(address: &str) -> Cow<'_, str> {
    match address.parse() {
        Ok(wide @ IpAddr::V6(_)) => Cow::Owned(visitor(wide).to_string()),
        _ => Cow::Borrowed(address),
    }
}

/// Notes when and from where a key is used; the first use from an address is an activity.
async fn note_use(from: &OpCtx, key: ApiKey, place: Option<&str>) -> Result<ApiKey, Error> {
    let (ops, now) = (&from.ops, from.now);
    let unseen = place.filter(|address| leaves_traces(key.kind) && !ops.principals.has_seen(key.id, address));
    if let Some(address) = unseen {
        if ops.store.api_key_address(key.id, address, now).await? {
            note(from, &key, "api_key_new_address", json!({"label": key.label, "address": address})).await;
        }
        ops.principals.saw(key.id, address);
    }
    let stale = key.last_used_at.is_none_or(|at| now.duration_since(at).as_secs() >= NOTE_USE);
    if stale || unseen.is_some_and(|address| key.last_used_address.as_deref() != Some(address)) {
        // When it was used last is worth less than the answer: with a full disk, reads go on.
        if let Err(error) = ops.store.api_key_touch(key.id, now, place).await {
            tracing::warn!(%error, "the use of a key could not be written down");
        }
        return Ok(ApiKey { last_used_at: Some(now), ..key });
    }
    Ok(key)
}

async fn note_refusal(from: &OpCtx, key: &ApiKey, reason: &str) {
    let home = home_of(from).filter(|_| leaves_traces(key.kind));
    let Some(tenant) = home else { return };
    let entry = entry_of(from, tenant, key, "api_key_refused", json!({"label": key.label, "reason": reason}));
    if let Some((tenant, entry)) = from.ops.principals.notes_refusal(key.id, (tenant, entry), from.now)
        && write_down(&from.ops, tenant, entry.clone()).await
    {
        from.ops.principals.wrote_refusals(key.id, &entry);
    }
}

/// Writes down how many refusals the entries have counted since the last time.
pub async fn refusals_keep(ops: &Ops, now: Timestamp) {
    for (key, (tenant, entry)) in ops.principals.pending_refusals(now) {
        let update = Change::ActivityUpdate { id: entry.id, data: entry.data.clone() };
        let kept = match ops.store.commit(tenant, vec![update]).await {
            // It could not be written down when it was made.
            Err(StoreError::Stale) => ops.store.commit(tenant, vec![Change::Activity(entry.clone())]).await,
            outcome => outcome,
        };
        match kept {
            // It is tried again the next time.
            Err(StoreError::Unavailable { .. }) => continue,
            Err(error) => tracing::warn!(%error, "refusals of a key could not be written down"),
            Ok(_) => {}
        }
        ops.principals.wrote_refusals(key, &entry);
    }
}

/// Writes down what happened to a key.
async fn note(from: &OpCtx, key: &ApiKey, verb: &str, data: serde_json::Value) {
    if let Some(tenant) = home_of(from) {
        write_down(&from.ops, tenant, entry_of(from, tenant, key, verb, data)).await;
    }
}

/// Where it is written down what happens to the key that somebody came with: in its workspace or its person's own.
fn home_of(from: &OpCtx) -> Option<Tenant> {
    let (workspace, place) = match &from.principal {
        Principal::Anonymous | Principal::System(_) => return None,
        Principal::Key(own) => (Some(own.workspace.id), own.grants.0.first().map_or(Place::Workspace, |grant| grant.within)),
        Principal::User(person) => (person.home().map(|home| home.id), Place::Workspace),
    };
    from.allow(workspace?, place, Permission::Read).ok()
}

fn entry_of(from: &OpCtx, tenant: Tenant, key: &ApiKey, verb: &str, data: serde_json::Value) -> Activity {
    from.entry(tenant, key.project.map(|(project, _)| project), verb, key.id.to_string(), data)
}

/// Whether it was; the answer to the request does not depend on it.
async fn write_down(ops: &Ops, tenant: Tenant, entry: Activity) -> bool {
    let written = ops.store.commit(tenant, vec![Change::Activity(entry)]).await;
    if let Err(error) = &written {
        tracing::warn!(%error, "what happened to a key could not be written down");
    }
    written.is_ok()
}

/// Whom a key acts for: its user, or the workspace, project or account that it belongs to.
async fn principal_of(ops: &Arc<Ops>, surface: Surface, key: &ApiKey) -> Result<Principal, Error> {
    let Some(role) = key.kind.role() else {
        let person = person(ops, key.user_id, Via::Key(key.id, key.kind), key.limits).await?;
        return person.ok_or_else(|| surface.refused(GONE));
    };
    let within = key.project.map_or(Place::Workspace, |(project, environment)| Place::Environment(project, environment));
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
    Ok(Some(Principal::User(Arc::new(UserPrincipal { user, memberships, grants, via, limits, run: None }))))
}

fn grants_of(memberships: &[Membership]) -> Grants {
    Grants(memberships.iter().map(|m| Grant { workspace: m.workspace.id, role: m.role, within: Place::Workspace }).collect())
}
