//! Account, workspace and project tokens.

use domain::key::{ApiKey, KeyKind, KeyLimits};
use domain::{ApiKeyId, Code, EnvironmentId, Permission, Place, ProjectId, WorkspaceId, name};
use secrecy::SecretString;
use serde_json::json;
use store::Change;

use crate::{Error, OpCtx, environment, project, secret::new_secret};

/// The person's own account tokens and the tokens of the workspaces that they administer.
///
/// # Errors
/// Unauthenticated, or not a person.
pub async fn api_tokens(ctx: &OpCtx) -> Result<Vec<ApiKey>, Error> {
    let person = ctx.user()?;
    let mut keys = ctx.ops.store.api_keys_of_user(person.user.id, &[KeyKind::Account]).await?;
    for membership in &person.memberships {
        if let Ok(tenant) = ctx.allow(membership.workspace.id, Place::Workspace, Permission::Administer) {
            keys.extend(ctx.ops.store.api_keys_of_workspace(tenant).await?.into_iter().filter(|key| key.kind == KeyKind::Workspace));
        }
    }
    keys.retain(|key| key.revoked_at.is_none());
    Ok(keys)
}

fn new_key(ctx: &OpCtx, kind: KeyKind, owner: domain::UserId, label: String) -> (ApiKey, SecretString, [u8; 32]) {
    let (secret, hash, display) = new_secret(kind);
    let key = ApiKey {
        id: ApiKeyId::generate(),
        kind,
        user_id: owner,
        workspace_id: None,
        project: None,
        label,
        display,
        limits: KeyLimits::OF_PLAN,
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
        last_used_address: None,
        created_at: ctx.now,
    };
    (key, secret, hash)
}

/// Makes an account token, or a workspace token when a workspace is named. The secret is returned this once.
///
/// # Errors
/// A bad name, an unknown workspace, or a role below admin there.
pub async fn api_token_create(ctx: &OpCtx, label: &str, workspace: Option<WorkspaceId>) -> Result<(ApiKey, SecretString), Error> {
    let person = ctx.user()?;
    let label = name::display("token name", label)?;
    let Some(workspace) = workspace else {
        let (key, secret, hash) = new_key(ctx, KeyKind::Account, person.user.id, label);
        let home = person.home().ok_or_else(|| Error::conflict("Your account has no workspace: ask the operator to create one"))?;
        let tenant = ctx.allow(home.id, Place::Workspace, Permission::Read)?;
        let activity = ctx.activity(tenant, None, "api_token_create", key.id, json!({"label": key.label, "kind": "account"}));
        ctx.commit(tenant, vec![Change::ApiKeyInsert { key: key.clone(), hash }, activity]).await?;
        return Ok((key, secret));
    };
    let tenant = ctx.allow(workspace, Place::Workspace, Permission::Administer)?;
    let (mut key, secret, hash) = new_key(ctx, KeyKind::Workspace, person.user.id, label);
    key.workspace_id = Some(workspace);
    let activity = ctx.activity(tenant, None, "api_token_create", key.id, json!({"label": key.label, "kind": "workspace"}));
    ctx.commit(tenant, vec![Change::ApiKeyInsert { key: key.clone(), hash }, activity]).await?;
    Ok((key, secret))
}

/// Revokes an account token of the person, or a workspace token where they are admin.
///
/// # Errors
/// Not found when it is someone else's.
pub async fn api_token_delete(ctx: &OpCtx, id: ApiKeyId) -> Result<(), Error> {
    let person = ctx.user()?;
    let not_found = || Error::not_found("Token");
    let key = ctx.ops.store.api_key(id).await?.ok_or_else(not_found)?;
    match (key.kind, key.workspace_id) {
        (KeyKind::Account, _) if key.user_id == person.user.id => {}
        (KeyKind::Workspace, Some(workspace)) => {
            ctx.check(workspace, Place::Workspace, Permission::Administer, "Token")?;
        }
        _ => return Err(not_found()),
    }
    ctx.ops.store.api_key_revoke(id, ctx.now).await?;
    Ok(())
}

/// The tokens of a project.
///
/// # Errors
/// Not found, or a role below admin.
pub async fn project_tokens(ctx: &OpCtx, id: ProjectId) -> Result<Vec<ApiKey>, Error> {
    let found = project::project_for(ctx, id, Permission::Administer).await?;
    let mut keys = ctx.ops.store.api_keys_of_project(found.tenant, id).await?;
    keys.retain(|key| key.revoked_at.is_none() && key.kind == KeyKind::Project);
    Ok(keys)
}

/// Makes a token for one environment of a project. The secret is returned this once.
///
/// # Errors
/// A bad name, an environment of another project, or a role below admin.
pub async fn project_token_create(
    ctx: &OpCtx,
    project_id: ProjectId,
    environment_id: EnvironmentId,
    label: &str,
) -> Result<(ApiKey, SecretString), Error> {
    let label = name::display("token name", label)?;
    let project = project::project_for(ctx, project_id, Permission::Administer).await?;
    let environment = environment::environment_get(ctx, environment_id).await?;
    if environment.row.project_id != project_id {
        return Err(Error::not_found("Environment"));
    }
    let owner = match &ctx.principal {
        crate::Principal::User(person) => person.user.id,
        crate::Principal::Key(key) => key.key.user_id,
        crate::Principal::Anonymous => return Err(ctx.unauthenticated()),
    };
    let (mut key, secret, hash) = new_key(ctx, KeyKind::Project, owner, label);
    key.workspace_id = Some(project.tenant.workspace());
    key.project = Some((project_id, environment_id));
    let activity = ctx.activity(project.tenant, Some(project_id), "project_token_create", key.id, json!({"label": key.label}));
    ctx.commit(project.tenant, vec![Change::ApiKeyInsert { key: key.clone(), hash }, activity]).await?;
    Ok((key, secret))
}

/// Revokes a project token.
///
/// # Errors
/// Not found, or a role below admin.
pub async fn project_token_delete(ctx: &OpCtx, id: ApiKeyId) -> Result<(), Error> {
    let not_found = || Error::new(Code::NotFound, "Token not found");
    if matches!(ctx.principal, crate::Principal::Anonymous) {
        return Err(ctx.unauthenticated());
    }
    let key = ctx.ops.store.api_key(id).await?.filter(|key| key.kind == KeyKind::Project).ok_or_else(not_found)?;
    let (Some(workspace), Some((project, _))) = (key.workspace_id, key.project) else { return Err(not_found()) };
    ctx.check(workspace, Place::Project(project), Permission::Administer, "Token")?;
    ctx.ops.store.api_key_revoke(id, ctx.now).await?;
    Ok(())
}
