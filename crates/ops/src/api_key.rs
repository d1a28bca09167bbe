//! Keys of every kind: made, listed, changed, revoked and counted. A key is shown once, by the verb that makes it.

use domain::account::Plan;
use domain::key::{self, ApiKey, KeyKind, KeyLimits};
use domain::rate::{Day, DayUsage};
use domain::{ApiKeyId, Code, EnvironmentId, Grant, Permission, Place, Tenant, Timestamp, UserId, WorkspaceId, name};
use secrecy::SecretString;
use serde_json::json;
use store::{Change, Constraint, StoreError};

use crate::{Error, OpCtx, Principal, Via, environment, secret::new_key};

/// What Galaxy's keys are called, of which an account has one.
const GALAXY_LABEL: &str = "Galaxy API key";
/// Attempts of a write that another one of the same kind got in the way of.
const ATTEMPTS: usize = 5;
/// Days of counts that one request may ask for.
const MAX_DAYS: u32 = 400;

/// A key that is wanted.
#[derive(Clone, Debug)]
pub struct ApiKeyCreate {
    /// What it is for.
    pub kind: KeyKind,
    /// What the owner calls it. Galaxy's may go without.
    pub label: Option<String>,
    /// Whose it is to be, for workspace, Galaxy and Flow keys; the person's own workspace for the latter two when it is left out.
    pub workspace: Option<WorkspaceId>,
    /// The environment of a project token.
    pub environment: Option<EnvironmentId>,
    /// Its own limits.
    pub limits: KeyLimits,
    /// When it stops working.
    pub expires_at: Option<Timestamp>,
}

/// Changes of a key. What is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct ApiKeyPatch {
    /// Another label.
    pub label: Option<String>,
    /// Other limits, all of them.
    pub limits: Option<KeyLimits>,
}

/// The keys that the principal manages, oldest first: a person's own tokens, and those of the workspaces that it administers. Revoked ones are
/// left out, expired ones are not.
///
/// # Errors
/// Unauthenticated, or not an admin of the workspace that is named.
pub async fn api_keys(ctx: &OpCtx, workspace: Option<WorkspaceId>) -> Result<Vec<ApiKey>, Error> {
    let mut keys = vec![];
    let workspaces = match (workspace, &ctx.principal) {
        (_, Principal::Anonymous | Principal::System(_)) => return Err(ctx.unauthenticated()),
        (Some(one), _) => {
            vec![ctx.allow(one, Place::Workspace, Permission::Administer)?]
        }
        (None, principal) => {
            if let Principal::User(person) = principal {
                keys = ctx.ops.store.api_keys_of_user(person.user.id, &[KeyKind::Account]).await?;
            }
            let administered = |grant: &Grant| ctx.allow(grant.workspace, Place::Workspace, Permission::Administer).ok();
            ctx.grants().0.iter().filter_map(administered).collect()
        }
    };
    keys.extend(ctx.ops.store.api_keys_of_workspaces(&workspaces).await?);
    keys.sort_by_key(|key| key.id);
    Ok(keys)
}

/// Makes a key. The secret is returned this once.
///
/// # Errors
/// A bad or taken label, limits or an end that a key cannot have, an eleventh Flow key, a Galaxy key below the Professional plan, an unknown
/// workspace or environment, or a role below admin, also one that was lost while the key was made.
pub async fn api_key_create(ctx: &OpCtx, wanted: ApiKeyCreate) -> Result<(ApiKey, SecretString), Error> {
    create(ctx, "api_key_create", wanted).await
}

/// As [`api_key_create`], for the operation that `verb` names in the audit log.
pub(crate) async fn create(ctx: &OpCtx, verb: &str, wanted: ApiKeyCreate) -> Result<(ApiKey, SecretString), Error> {
    let place = place_for(ctx, &wanted).await?;
    if let Some(plan) = place.plan {
        check_limits(ctx, wanted.kind, wanted.limits, plan)?;
    }
    for attempt in 1.. {
        let (key, secret, hash) = fresh(&wanted, &place, owner(ctx)?, ctx.now)?;
        let mut changes = replaced(ctx, place.tenant, &key).await?;
        let data = json!({"label": key.label, "kind": key.kind.as_str(), "expiresAt": key.expires_at});
        let project = key.project.map(|(project, _)| project);
        changes.push(Change::ApiKeyInsert { key: key.clone(), hash });
        changes.push(ctx.activity(place.tenant, project, verb, key.id, data));
        match ctx.ops.store.commit(place.tenant, changes).await {
            Ok(_) => return Ok((key, secret)),
            Err(StoreError::Conflict { constraint: Constraint::KeyPlace | Constraint::GalaxyKey }) if attempt < ATTEMPTS => {}
            Err(error) => return Err(refused(ctx, &key, error).await?),
        }
    }
    Err(Error::conflict("Other keys of this account are being made at the same time: repeat the request"))
}

/// Why a key was not made, in words for whoever wanted it.
async fn refused(ctx: &OpCtx, key: &ApiKey, error: StoreError) -> Result<Error, Error> {
    Ok(match error {
        StoreError::Stale if !has_maker(ctx, key).await? => {
            let text = "Not Authorized: by now this key would reach further than whoever makes it: ask an admin of the workspace for it";
            Error::new(Code::Forbidden, text)
        }
        StoreError::Stale if key.kind == KeyKind::Flow => too_many(),
        StoreError::Conflict { constraint: Constraint::KeyLabel } => label_taken(&key.label),
        other => other.into(),
    })
}

/// Whether the key's user is in its workspace as what the key gives. They may have had to go since the request began.
async fn has_maker(ctx: &OpCtx, key: &ApiKey) -> Result<bool, Error> {
    let Some((workspace, needed)) = key.workspace_id.zip(key.kind.role()) else { return Ok(true) };
    let memberships = ctx.ops.store.memberships(key.user_id).await?;
    // The weaker role is the greater one.
    Ok(memberships.iter().any(|membership| membership.workspace.id == workspace && membership.role <= needed))
}

fn too_many() -> Error {
    Error::new(Code::PlanLimit, format!("An account has at most {} Flow API keys, expired ones included: revoke one first", key::FLOW_KEYS))
}

fn label_taken(label: &str) -> Error {
    Error::new(Code::AlreadyExists, format!("This account already has a Flow API key with the label {label:?}: choose another one"))
}

/// Where a key will belong.
struct KeyPlace {
    tenant: Tenant,
    project: Option<(domain::ProjectId, EnvironmentId)>,
    /// The plan that bounds its limits; `None` when it was not looked up because it sets none.
    plan: Option<Plan>,
}

async fn place_for(ctx: &OpCtx, wanted: &ApiKeyCreate) -> Result<KeyPlace, Error> {
    let home = || -> Result<WorkspaceId, Error> {
        match &ctx.principal {
            Principal::Anonymous | Principal::System(_) => Err(ctx.unauthenticated()),
            Principal::Key(key) => Ok(key.workspace.id),
            Principal::User(person) => {
                let home = person.home().ok_or_else(|| Error::conflict("Your account has no workspace: ask the operator to create one"))?;
                Ok(home.id)
            }
        }
    };
    let (workspace, permission) = match wanted.kind {
        KeyKind::Account => {
            ctx.user()?;
            (home()?, Permission::Read)
        }
        KeyKind::Workspace => {
            let missing = || Error::bad_input("A workspace token needs the workspace that it is for: send workspaceId");
            (wanted.workspace.ok_or_else(missing)?, Permission::Administer)
        }
        KeyKind::Galaxy | KeyKind::Flow => (wanted.workspace.map_or_else(home, Ok)?, Permission::Administer),
        KeyKind::Project => {
            let missing = || Error::bad_input("A project token needs the environment that it is for: send environmentId");
            let environment = environment::environment_get(ctx, wanted.environment.ok_or_else(missing)?).await?;
            let (project, workspace) = (environment.row.project_id, environment.tenant.workspace());
            let tenant = ctx.check(workspace, Place::Project(project), Permission::Administer, "Environment")?;
            return Ok(KeyPlace { tenant, project: Some((project, environment.row.id)), plan: plan_of(ctx, tenant).await? });
        }
        KeyKind::OAuthAccess | KeyKind::OAuthRefresh => {
            return Err(Error::bad_input("OAuth tokens are made by signing in: choose another kind"));
        }
    };
    let tenant = ctx.allow(workspace, Place::Workspace, permission)?;
    let plan = plan_of(ctx, tenant).await?;
    if wanted.kind == KeyKind::Galaxy && plan != Some(Plan::Professional) {
        let text =
            "API access is only available for accounts on the Professional plan: the operator can change the plan with `orrery plan set`";
        return Err(Error::new(Code::PlanLimit, text));
    }
    Ok(KeyPlace { tenant, project: None, plan })
}

async fn plan_of(ctx: &OpCtx, tenant: Tenant) -> Result<Option<Plan>, Error> {
    let workspace = ctx.ops.store.workspace(tenant.workspace()).await?.and_then(|sealed| sealed.open(tenant));
    Ok(workspace.map(|workspace| workspace.plan))
}

/// Who a key is of: the person, or whoever made the key that makes it.
pub(crate) fn owner(ctx: &OpCtx) -> Result<UserId, Error> {
    match &ctx.principal {
        Principal::User(person) => Ok(person.user.id),
        Principal::Key(key) => Ok(key.key.user_id),
        Principal::Anonymous | Principal::System(_) => Err(ctx.unauthenticated()),
    }
}

fn fresh(wanted: &ApiKeyCreate, place: &KeyPlace, user_id: UserId, now: Timestamp) -> Result<(ApiKey, SecretString, [u8; 32]), Error> {
    let label = match (&wanted.label, wanted.kind) {
        (None, KeyKind::Galaxy) => GALAXY_LABEL.to_owned(),
        (label, _) => name::display("label", label.as_deref().unwrap_or_default())?,
    };
    if wanted.expires_at.is_some_and(|end| end <= now) {
        return Err(Error::bad_input("expiresAt is not in the future: choose a later time, or leave it out for a key without an end"));
    }
    let (key, secret, hash) = new_key(wanted.kind, user_id, label, now);
    let key = ApiKey {
        workspace_id: (wanted.kind != KeyKind::Account).then_some(place.tenant.workspace()),
        project: place.project,
        limits: defaults(wanted.kind, wanted.limits),
        expires_at: wanted.expires_at,
        ..key
    };
    Ok((key, secret, hash))
}

/// A Flow key always has limits per minute and per day.
fn defaults(kind: KeyKind, limits: KeyLimits) -> KeyLimits {
    if kind != KeyKind::Flow {
        return limits;
    }
    KeyLimits { minute: limits.minute.or(KeyLimits::FLOW.minute), day: limits.day.or(KeyLimits::FLOW.day), ..limits }
}

/// An account has one Galaxy key: the new one takes the place of the old one.
async fn replaced(ctx: &OpCtx, tenant: Tenant, key: &ApiKey) -> Result<Vec<Change>, Error> {
    if key.kind != KeyKind::Galaxy {
        return Ok(vec![]);
    }
    let old = ctx.ops.store.api_keys_of_workspaces(&[tenant]).await?.into_iter();
    let old = old.filter(|old| old.kind == KeyKind::Galaxy);
    Ok(old.map(|old| Change::ApiKeyRevoke { id: old.id, at: ctx.now }).collect())
}

/// Flow keys have the documented ranges; the limits of other keys can be below their plan's, and above only for an operator.
fn check_limits(ctx: &OpCtx, kind: KeyKind, limits: KeyLimits, plan: Plan) -> Result<(), Error> {
    limits.check(kind)?;
    let operator = matches!(&ctx.principal, Principal::User(person) if person.user.operator || person.via == Via::Server);
    if kind == KeyKind::Flow || operator {
        return Ok(());
    }
    let own = [("second", limits.second), ("minute", limits.minute), ("hour", limits.hour), ("day", limits.day)];
    for ((window, own), most) in own.into_iter().zip(ctx.ops.limits.of_plan(plan).0) {
        if let (Some(own), Some(most)) = (own, most)
            && own > most
        {
            let text =
                format!("The limit per {window} is {own}, and the plan allows {most}: choose less, or ask an operator of this server");
            return Err(Error::new(Code::PlanLimit, text));
        }
    }
    Ok(())
}

/// A key that the principal manages, with where changes to it are recorded.
async fn managed(ctx: &OpCtx, id: ApiKeyId) -> Result<(ApiKey, Tenant), Error> {
    const WHAT: &str = "API key";
    if matches!(ctx.principal, Principal::Anonymous) {
        return Err(ctx.unauthenticated());
    }
    let not_found = || Error::not_found(WHAT);
    let key = ctx.ops.store.api_key(id).await?.ok_or_else(not_found)?;
    let tenant = match (key.kind, key.workspace_id, key.project) {
        (KeyKind::Account, ..) => {
            let Principal::User(person) = &ctx.principal else { return Err(not_found()) };
            let home = person.home().filter(|_| person.user.id == key.user_id).ok_or_else(not_found)?;
            ctx.check(home.id, Place::Workspace, Permission::Read, WHAT)?
        }
        (KeyKind::Project, Some(workspace), Some((project, _))) => {
            ctx.check(workspace, Place::Project(project), Permission::Administer, WHAT)?
        }
        (KeyKind::Workspace | KeyKind::Galaxy | KeyKind::Flow, Some(workspace), _) => {
            ctx.check(workspace, Place::Workspace, Permission::Administer, WHAT)?
        }
        _ => return Err(not_found()),
    };
    Ok((key, tenant))
}

/// Changes the label or the limits of a key.
///
/// # Errors
/// Not found, a bad or taken label, or limits that the key cannot have. A revoked key does not change.
pub async fn api_key_update(ctx: &OpCtx, id: ApiKeyId, patch: ApiKeyPatch) -> Result<ApiKey, Error> {
    let (before, tenant) = managed(ctx, id).await?;
    if before.revoked_at.is_some() {
        return Err(Error::conflict("This key was revoked: create a new one"));
    }
    let mut key = before.clone();
    if let Some(label) = &patch.label {
        key.label = name::display("label", label)?;
    }
    // What is sent as it was stands, even if it could not be chosen today.
    if let Some(limits) = patch.limits.filter(|limits| *limits != before.limits) {
        let plan = plan_of(ctx, tenant).await?.unwrap_or(Plan::Free);
        check_limits(ctx, key.kind, limits, plan)?;
        key.limits = defaults(key.kind, limits);
    }
    let told = |key: &ApiKey| {
        let KeyLimits { second, minute, hour, day } = key.limits;
        json!({"label": key.label, "perSecond": second, "perMinute": minute, "perHour": hour, "perDay": day})
    };
    let data = json!({"before": told(&before), "after": told(&key)});
    let activity = ctx.activity(tenant, key.project.map(|(project, _)| project), "api_key_update", id, data);
    let committed = ctx.ops.store.commit(tenant, vec![Change::ApiKeyUpdate(key.clone()), activity]).await;
    committed.map_err(|error| match error {
        StoreError::Conflict { constraint: Constraint::KeyLabel } => label_taken(&key.label),
        other => other.into(),
    })?;
    Ok(key)
}

/// Revokes a key, an expired one too. Other keys are not touched. Revoking again does nothing.
///
/// # Errors
/// Not found.
pub async fn api_key_revoke(ctx: &OpCtx, id: ApiKeyId) -> Result<(), Error> {
    revoke(ctx, "api_key_revoke", id, &KeyKind::ALL).await
}

/// As [`api_key_revoke`], for keys of some kinds and the operation that `verb` names in the audit log.
pub(crate) async fn revoke(ctx: &OpCtx, verb: &str, id: ApiKeyId, kinds: &[KeyKind]) -> Result<(), Error> {
    let (key, tenant) = managed(ctx, id).await?;
    if !kinds.contains(&key.kind) {
        return Err(Error::not_found("Token"));
    }
    if key.revoked_at.is_some() {
        return Ok(());
    }
    let data = json!({"label": key.label, "kind": key.kind.as_str()});
    let activity = ctx.activity(tenant, key.project.map(|(project, _)| project), verb, id, data);
    ctx.commit(tenant, vec![Change::ApiKeyRevoke { id, at: ctx.now }, activity]).await
}

/// Requests of a key per day, from the first day to the last, both included; days without any are left out.
///
/// # Errors
/// Not found, or more days than are kept.
pub async fn api_key_usage(ctx: &OpCtx, id: ApiKeyId, first: Option<Day>, last: Option<Day>) -> Result<Vec<DayUsage>, Error> {
    let (key, _) = managed(ctx, id).await?;
    let last = last.unwrap_or(Day::of(ctx.now));
    let first = first.unwrap_or(Day(last.0.saturating_sub(29)));
    if first > last || last.0 - first.0 >= MAX_DAYS {
        return Err(Error::bad_input(format!("Ask for 1 to {MAX_DAYS} days, the first of them first")));
    }
    Ok(ctx.ops.store.api_key_usage(key.id, first, last).await?)
}
