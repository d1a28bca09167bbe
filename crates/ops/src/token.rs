//! Account, workspace and project tokens.

use domain::key::{ApiKey, KeyKind, KeyLimits};
use domain::{ApiKeyId, EnvironmentId, Permission, ProjectId, WorkspaceId};
use secrecy::SecretString;

use crate::api_key::{self, ApiKeyCreate};
use crate::{Error, OpCtx, environment, project};

/// The person's own account tokens and the tokens of the workspaces that they administer.
///
/// # Errors
/// Unauthenticated, or not a person.
pub async fn api_tokens(ctx: &OpCtx) -> Result<Vec<ApiKey>, Error> {
    ctx.user()?;
    let mut keys = api_key::api_keys(ctx, None).await?;
    keys.retain(|key| matches!(key.kind, KeyKind::Account | KeyKind::Workspace));
    Ok(keys)
}

/// Makes an account token, or a workspace token when a workspace is named. The secret is returned this once.
///
/// # Errors
/// A bad name, an unknown workspace, or a role below admin there.
pub async fn api_token_create(ctx: &OpCtx, label: &str, workspace: Option<WorkspaceId>) -> Result<(ApiKey, SecretString), Error> {
    ctx.user()?;
    let kind = if workspace.is_some() { KeyKind::Workspace } else { KeyKind::Account };
    api_key::create(ctx, "api_token_create", ApiKeyCreate { workspace, ..wanted(kind, label) }).await
}

fn wanted(kind: KeyKind, label: &str) -> ApiKeyCreate {
    let label = Some(label.to_owned());
    ApiKeyCreate { kind, label, workspace: None, environment: None, limits: KeyLimits::OF_PLAN, expires_at: None }
}

/// Revokes an account token of the person, or a workspace token where they are admin.
///
/// # Errors
/// Not found when it is someone else's.
pub async fn api_token_delete(ctx: &OpCtx, id: ApiKeyId) -> Result<(), Error> {
    ctx.user()?;
    api_key::revoke(ctx, "api_token_delete", id, &[KeyKind::Account, KeyKind::Workspace]).await
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
    let project = project::project_for(ctx, project_id, Permission::Administer).await?;
    let environment = environment::environment_get(ctx, environment_id).await?;
    if environment.row.project_id != project.row.id {
        return Err(Error::not_found("Environment"));
    }
    let wanted = ApiKeyCreate { environment: Some(environment_id), ..wanted(KeyKind::Project, label) };
    api_key::create(ctx, "project_token_create", wanted).await
}

/// Revokes a project token.
///
/// # Errors
/// Not found, or a role below admin.
pub async fn project_token_delete(ctx: &OpCtx, id: ApiKeyId) -> Result<(), Error> {
    api_key::revoke(ctx, "project_token_delete", id, &[KeyKind::Project]).await
}
