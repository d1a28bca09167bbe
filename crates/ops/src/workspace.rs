//! Workspaces that people share: who is in them, and as what.

use std::time::Duration;

use domain::account::{Invite, Plan, User, Workspace};
use domain::key::{self, KeyKind};
use domain::{Code, Permission, Place, Role, Tenant, UserId, WorkspaceId, name};
use futures_core::Stream;
use jiff::SignedDuration;
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use store::{AccountChange, Change, ChangeKind, NotificationChange, Store, StoreError};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};

use crate::context::{Opened, anew};
use crate::{Error, OpCtx, account, api_key, secret};

const INVITE_DAYS: i64 = 7;
/// Workspaces that one person may own.
const MAX_OWNED: u32 = 20;
/// Changes within this time are told as one.
const TOGETHER: Duration = Duration::from_millis(200);
/// How often is looked for what other processes have written.
const ELSEWHERE: Duration = Duration::from_secs(3);

/// Makes a workspace that the person owns.
///
/// # Errors
/// Not a person, a bad name, or too many.
pub async fn workspace_create(ctx: &OpCtx, wanted: &str) -> Result<Opened<Workspace>, Error> {
    let person = ctx.user()?;
    let wanted = name::display("name", wanted)?;
    let mut username = name::slug(&wanted, "team");
    if ctx.ops.store.workspace_by_username(&username).await?.is_some() {
        username = format!("{username}-{}", secret::suffix());
    }
    let row = Workspace {
        id: WorkspaceId::generate(),
        name: wanted,
        username,
        personal_of: None,
        plan: if person.user.operator { Plan::Professional } else { Plan::Hobby },
        created_at: ctx.now,
        updated_at: ctx.now,
    };
    let tenant = Tenant::system(row.id);
    let activity = ctx.activity(tenant, None, "workspace_create", row.id, json!({"name": row.name}));
    let insert = Change::WorkspaceInsert { workspace: row.clone(), owner: person.user.id, most: MAX_OWNED };
    ctx.ops.store.commit(tenant, vec![insert, activity]).await.map_err(|error| match error {
        StoreError::Stale => Error::conflict(format!("You own {MAX_OWNED} workspaces, which is the most: use one of them")),
        other => other.into(),
    })?;
    Ok(Opened { tenant, row })
}

/// Something each time that what is of a kind in the workspace has changed, and once at the beginning: who watches reads again what they
/// show. An engine of another process is heard of within seconds, by those who watch any kind. Never ends.
///
/// # Errors
/// Not found or not allowed.
pub async fn workspace_watch(ctx: &OpCtx, id: WorkspaceId, kind: ChangeKind) -> Result<impl Stream<Item = ()> + Send + use<>, Error> {
    let commits = ctx.ops.store.commits(kind);
    account::workspace_get(ctx, id).await?;
    let store = ctx.ops.store.clone();
    Ok(async_stream::stream! {
        let mut commits = commits;
        loop {
            yield ();
            changed(&mut commits, &store, id).await;
            tokio::time::sleep(TOGETHER).await;
            while !matches!(commits.try_recv(), Err(TryRecvError::Empty | TryRecvError::Closed)) {}
        }
    })
}

/// Resolves when this process has changed the workspace, or another one anything at all. What cannot tell counts as changed.
async fn changed(commits: &mut Receiver<WorkspaceId>, store: &Store, id: WorkspaceId) {
    let now = || (store.generation(), store.version());
    let mut before = now();
    let mut clock = tokio::time::interval(ELSEWHERE);
    // The first comes at once.
    clock.tick().await;
    loop {
        tokio::select! {
            told = commits.recv() => match told {
                Ok(workspace) if workspace == id => return,
                Ok(_) => {}
                Err(RecvError::Lagged(_)) => return,
                Err(RecvError::Closed) => std::future::pending().await,
            },
            _ = clock.tick() => {
                let (own, all) = now();
                if all.is_none() || (own == before.0 && all != before.1) {
                    return;
                }
                before = (own, all);
            }
        }
    }
}

/// Renames a workspace.
///
/// # Errors
/// A bad name, not found, or a role below admin.
pub async fn workspace_update(ctx: &OpCtx, id: WorkspaceId, wanted: Option<&str>) -> Result<(), Error> {
    anew(|| update_once(ctx, id, wanted)).await
}

async fn update_once(ctx: &OpCtx, id: WorkspaceId, wanted: Option<&str>) -> Result<(), Error> {
    let found = ctx.ops.store.workspace(id).await?;
    let Opened { tenant, row } = ctx.open(found, "Workspace", |_| Place::Workspace, Permission::Administer)?;
    let Some(wanted) = wanted else { return Ok(()) };
    let named = name::display("name", wanted)?;
    let data = json!({"before": row.name, "after": named});
    let seen = row.updated_at;
    let change = Change::WorkspaceUpdate(Workspace { name: named, updated_at: ctx.now, ..row }, seen);
    ctx.commit(tenant, vec![change, ctx.activity(tenant, None, "workspace_update", id, data)]).await
}

/// Gives a member another role. Owners are made, and are made something else, by owners. What the member made that reaches further than
/// their new role ends with the old one.
///
/// # Errors
/// Not a member, a role that one's own does not reach, the last owner, the person whose own workspace it is, not found, or not allowed.
pub async fn workspace_permission_change(ctx: &OpCtx, id: WorkspaceId, user: UserId, role: Role) -> Result<(), Error> {
    let (tenant, member, before) = member_for(ctx, id, user, role).await?;
    if before == role {
        return Ok(());
    }
    if role != Role::Owner && is_own(ctx, tenant, user).await? {
        return Err(Error::conflict("This is the person's own workspace, of which they stay an owner"));
    }
    let data = json!({"email": member.email, "before": before.as_str(), "after": role.as_str()});
    let mut changes = vec![Change::MemberSet { user, role }, ctx.activity(tenant, None, "workspace_permission_change", user, data)];
    changes.extend(ways_back(ctx, tenant, &member, Some(role)).await?);
    commit_members(ctx, tenant, changes).await
}

/// Takes someone out of a workspace, with the keys and the open invitations that they made for it.
///
/// # Errors
/// Not a member, the last owner, the person whose own workspace it is, not found, or not allowed.
pub async fn workspace_user_remove(ctx: &OpCtx, id: WorkspaceId, user: UserId) -> Result<(), Error> {
    let (tenant, member, role) = member_for(ctx, id, user, Role::Viewer).await?;
    remove(ctx, tenant, &member, role, "workspace_user_remove").await
}

/// Leaves a workspace, with the keys and the open invitations that one made for it.
///
/// # Errors
/// Not a person, not a member, the last owner, or one's own workspace.
pub async fn workspace_leave(ctx: &OpCtx, id: WorkspaceId) -> Result<(), Error> {
    let tenant = ctx.allow(id, Place::Workspace, Permission::Read)?;
    let person = ctx.user()?;
    let role = person.memberships.iter().find(|membership| membership.workspace.id == id).map(|membership| membership.role);
    let role = role.ok_or_else(|| Error::not_found("Workspace"))?;
    remove(ctx, tenant, &person.user, role, "workspace_leave").await
}

async fn remove(ctx: &OpCtx, tenant: Tenant, member: &User, role: Role, verb: &str) -> Result<(), Error> {
    if is_own(ctx, tenant, member.id).await? {
        return Err(Error::conflict("This is the person's own workspace, which they cannot leave: make another workspace to share"));
    }
    let data = json!({"email": member.email, "role": role.as_str()});
    let mut changes = vec![Change::MemberRemove { user: member.id }, ctx.activity(tenant, None, verb, member.id, data)];
    changes.extend(ways_back(ctx, tenant, member, None).await?);
    commit_members(ctx, tenant, changes).await
}

/// Whether the workspace is the person's own.
async fn is_own(ctx: &OpCtx, tenant: Tenant, user: UserId) -> Result<bool, Error> {
    let found = ctx.ops.store.workspace(tenant.workspace()).await?.and_then(|sealed| sealed.open(tenant));
    Ok(found.is_some_and(|workspace| workspace.personal_of == Some(user)))
}

/// What ends with a member's role: the open invitations and the keys that they made and that reach further than the role that is left to
/// them. They know these secrets, and would come back by them as what they were. And the rules that they made about whom deployments are
/// told to, which a viewer may not have.
async fn ways_back(ctx: &OpCtx, tenant: Tenant, member: &User, left: Option<Role>) -> Result<Vec<Change>, Error> {
    let user = member.id;
    // The weaker role is the greater one.
    let beyond = |role: Role| left.is_none_or(|left| role < left);
    let mut changes = vec![];
    if beyond(Role::Member) {
        // Reading them is for the log and for what waits to be sent: one that cannot be read must not keep its maker here.
        let made = ctx.ops.store.notification_rules(tenant).await.unwrap_or_default();
        let found: Vec<_> = made.iter().filter(|rule| rule.created_by == Some(user)).map(|rule| rule.id).collect();
        if !found.is_empty() {
            let data = json!({"email": member.email, "count": found.len()});
            changes.push(ctx.activity(tenant, None, "notification_rules_end", user, data));
        }
        changes.push(Change::Notification(NotificationChange::RulesDelete { user, found }));
    }
    if beyond(Role::Admin) {
        let open = ctx.ops.store.invites_made_by(tenant, user, ctx.now).await?.len();
        changes.push(Change::Account(AccountChange::InvitesDelete { user }));
        if open > 0 {
            let data = json!({"email": member.email, "count": open});
            changes.push(ctx.activity(tenant, None, "workspace_invite_codes_end", user, data));
        }
    }
    let kinds: Vec<KeyKind> = KeyKind::ALL.into_iter().filter(|kind| kind.role().is_some_and(beyond)).collect();
    if kinds.is_empty() {
        return Ok(changes);
    }
    for key in ctx.ops.store.api_keys_of_workspaces(&[tenant]).await? {
        if key.user_id == user && kinds.contains(&key.kind) {
            let data = json!({"label": key.label, "kind": key.kind.as_str()});
            changes.push(ctx.activity(tenant, key.project.map(|(project, _)| project), "api_key_revoke", key.id, data));
        }
    }
    changes.push(Change::Account(AccountChange::KeysRevoke { user, kinds, at: ctx.now }));
    Ok(changes)
}

async fn commit_members(ctx: &OpCtx, tenant: Tenant, changes: Vec<Change>) -> Result<(), Error> {
    ctx.ops.store.commit(tenant, changes).await.map(|_| ()).map_err(|error| match error {
        StoreError::Stale => Error::conflict("A workspace keeps at least one owner: make somebody else an owner first"),
        other => other.into(),
    })
}

/// A member and their role, for somebody who may give them another.
async fn member_for(ctx: &OpCtx, id: WorkspaceId, user: UserId, wanted: Role) -> Result<(Tenant, User, Role), Error> {
    let tenant = ctx.allow(id, Place::Workspace, Permission::Administer)?;
    let members = ctx.ops.store.members(tenant).await?;
    let found = members.into_iter().find(|member| member.user.id == user).ok_or_else(|| Error::not_found("Member"))?;
    if wanted == Role::Owner || found.role == Role::Owner {
        ctx.allow(id, Place::Workspace, Permission::Own)?;
    }
    Ok((tenant, found.user, found.role))
}

/// Makes a one-time link's code, good for a week.
///
/// # Errors
/// Owner as the role, not found, or a role below admin.
pub async fn workspace_invite_code_create(ctx: &OpCtx, id: WorkspaceId, role: Role) -> Result<SecretString, Error> {
    let tenant = ctx.allow(id, Place::Workspace, Permission::Administer)?;
    if role == Role::Owner {
        return Err(Error::bad_input("a link makes nobody an owner: invite as ADMIN, and change the role afterwards"));
    }
    let (code, hash) = secret::new_opaque();
    let made_by = api_key::owner(ctx)?;
    let invite = Invite { workspace_id: id, made_by, role, expires_at: ctx.now + SignedDuration::from_hours(24 * INVITE_DAYS) };
    let data = json!({"role": role.as_str(), "expiresAt": invite.expires_at});
    let activity = ctx.activity(tenant, None, "workspace_invite_code_create", id, data);
    ctx.commit(tenant, vec![Change::InviteInsert { invite, hash, at: ctx.now }, activity]).await?;
    Ok(code)
}

/// Joins a workspace by a code, which is used up.
///
/// # Errors
/// Not a person, a member already, or a code that is unknown, used or too old.
pub async fn workspace_invite_code_use(ctx: &OpCtx, code: &SecretString) -> Result<Opened<Workspace>, Error> {
    let person = ctx.user()?;
    let hash = key::hash(code.expose_secret().trim());
    // Whoever holds the code may join: it is the permission.
    let found = ctx.ops.store.invite_by_hash(hash, ctx.now).await?.ok_or_else(no_invite)?;
    let tenant = Tenant::system(found.workspace());
    let invite = found.open(tenant).ok_or_else(no_invite)?;
    if person.memberships.iter().any(|membership| membership.workspace.id == tenant.workspace()) {
        return Err(Error::conflict("You are a member of this workspace already: the link is still good for somebody else"));
    }
    let data = json!({"email": person.user.email, "role": invite.role.as_str()});
    let activity = ctx.activity(tenant, None, "workspace_invite_code_use", person.user.id, data);
    let joined = vec![Change::InviteDelete { hash }, Change::MemberSet { user: person.user.id, role: invite.role }, activity];
    ctx.ops.store.commit(tenant, joined).await.map_err(|error| match error {
        StoreError::Stale => no_invite(),
        other => other.into(),
    })?;
    let row = ctx.ops.store.workspace(tenant.workspace()).await?.and_then(|sealed| sealed.open(tenant));
    Ok(Opened { tenant, row: row.ok_or_else(no_invite)? })
}

fn no_invite() -> Error {
    Error::new(Code::NotFound, "Invitation not found: it was used already or is older than a week. Ask for another link")
}

/// Adds somebody who has an account here, with the role that the code was made for; the code is used up.
///
/// # Errors
/// No account with the address, a member already, a code of another workspace, not found, or a role below admin.
pub async fn workspace_user_invite(ctx: &OpCtx, id: WorkspaceId, code: &SecretString, email: &str) -> Result<(), Error> {
    let tenant = ctx.allow(id, Place::Workspace, Permission::Administer)?;
    let hash = key::hash(code.expose_secret().trim());
    let invite = ctx.ops.store.invite_by_hash(hash, ctx.now).await?.and_then(|sealed| sealed.open(tenant)).ok_or_else(no_invite)?;
    let email = email.trim().to_ascii_lowercase();
    let user = ctx.ops.store.user_by_email(&email).await?.ok_or_else(|| {
        Error::new(
            Code::NotFound,
            "Account not found: nobody on this server has this address. Send the link, or have the operator make the account",
        )
    })?;
    if ctx.ops.store.members(tenant).await?.iter().any(|member| member.user.id == user.id) {
        return Err(Error::conflict(format!("{email} is a member already: change the role in the list")));
    }
    let data = json!({"email": email, "role": invite.role.as_str()});
    let activity = ctx.activity(tenant, None, "workspace_user_invite", user.id, data);
    ctx.commit(tenant, vec![Change::InviteDelete { hash }, Change::MemberSet { user: user.id, role: invite.role }, activity]).await
}
