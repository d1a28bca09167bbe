//! Who is in a workspace, and as what.

use domain::{Role, UserId, WorkspaceId};
use juniper::GraphQLInputObject;
use secrecy::{ExposeSecret, SecretString};

use super::enums::{TeamRole, WorkspaceRole};
use super::inputs::id;
use crate::graphql::{Ctx, Fault, Scalar};

/// A new workspace. The contract has none: there a workspace comes with a subscription.
#[derive(Clone, Debug, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct WorkspaceCreateInput {
    name: String,
}

/// Changes of a workspace.
#[derive(Clone, Debug, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct WorkspaceUpdateInput {
    name: Option<String>,
}

/// What an invitation makes of whoever uses it.
#[derive(Clone, Debug, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct WorkspaceInviteCodeCreateInput {
    /// `ADMIN`, `MEMBER`, `DEPLOYER` or `VIEWER`.
    role: String,
}

/// Another role for a member.
#[derive(Clone, Debug, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct WorkspacePermissionChangeInput {
    role: TeamRole,
    user_id: String,
    workspace_id: String,
}

/// The same with every role that there is.
#[derive(Clone, Debug, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct WorkspaceRoleSetInput {
    role: WorkspaceRole,
    user_id: String,
    workspace_id: String,
}

/// Whom a code that was made is for.
#[derive(Clone, Debug, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct WorkspaceUserInviteInput {
    code: String,
    email: String,
}

/// Who has to go.
#[derive(Clone, Debug, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct WorkspaceUserRemoveInput {
    user_id: String,
}

fn workspace(text: &str) -> Result<WorkspaceId, Fault> {
    id("Workspace", text, WorkspaceId)
}

pub(crate) fn create(ctx: &Ctx, input: &WorkspaceCreateInput) -> Result<domain::account::Workspace, Fault> {
    Ok(ctx.wait(ops::workspace::workspace_create(&ctx.op, &input.name))?.row)
}

pub(crate) fn update(ctx: &Ctx, of: &str, input: &WorkspaceUpdateInput) -> Result<bool, Fault> {
    ctx.wait(ops::workspace::workspace_update(&ctx.op, workspace(of)?, input.name.as_deref()))?;
    Ok(true)
}

pub(crate) fn invite_code_create(ctx: &Ctx, of: &str, input: &WorkspaceInviteCodeCreateInput) -> Result<String, Fault> {
    let role = Role::parse(&input.role.trim().to_ascii_uppercase());
    let role = role.ok_or_else(|| Fault::bad_input("role may be ADMIN, MEMBER, DEPLOYER or VIEWER"))?;
    let code = ctx.wait(ops::workspace::workspace_invite_code_create(&ctx.op, workspace(of)?, role))?;
    Ok(code.expose_secret().to_owned())
}

pub(crate) fn invite_code_use(ctx: &Ctx, code: String) -> Result<domain::account::Workspace, Fault> {
    Ok(ctx.wait(ops::workspace::workspace_invite_code_use(&ctx.op, &SecretString::from(code)))?.row)
}

pub(crate) fn leave(ctx: &Ctx, of: &str) -> Result<bool, Fault> {
    ctx.wait(ops::workspace::workspace_leave(&ctx.op, workspace(of)?))?;
    Ok(true)
}

pub(crate) fn permission_change(ctx: &Ctx, input: &WorkspacePermissionChangeInput) -> Result<bool, Fault> {
    role_set(ctx, (&input.workspace_id, &input.user_id), input.role.into())
}

pub(crate) fn role_set_to(ctx: &Ctx, input: &WorkspaceRoleSetInput) -> Result<bool, Fault> {
    role_set(ctx, (&input.workspace_id, &input.user_id), input.role.into())
}

fn role_set(ctx: &Ctx, (of, user): (&str, &str), role: Role) -> Result<bool, Fault> {
    let (of, user) = (workspace(of)?, id("Member", user, UserId)?);
    ctx.wait(ops::workspace::workspace_permission_change(&ctx.op, of, user, role))?;
    Ok(true)
}

pub(crate) fn user_invite(ctx: &Ctx, of: &str, input: WorkspaceUserInviteInput) -> Result<bool, Fault> {
    ctx.wait(ops::workspace::workspace_user_invite(&ctx.op, workspace(of)?, &SecretString::from(input.code), &input.email))?;
    Ok(true)
}

pub(crate) fn user_remove(ctx: &Ctx, of: &str, input: &WorkspaceUserRemoveInput) -> Result<bool, Fault> {
    let user = id("Member", &input.user_id, UserId)?;
    ctx.wait(ops::workspace::workspace_user_remove(&ctx.op, workspace(of)?, user))?;
    Ok(true)
}
