//! The audit log.

use domain::activity::Activity;
use domain::page::{Page, PageRequest};
use domain::{ActivityId, Permission, Place, ProjectId, WorkspaceId};

use crate::context::Opened;
use crate::{Error, OpCtx, project};

/// A page of what happened in a workspace, or in one project of it, newest first. The log names people, addresses and keys: it is for admins.
///
/// # Errors
/// Not found, a role below admin, or a cursor that this list has not given out.
pub async fn activities(
    ctx: &OpCtx,
    workspace: WorkspaceId,
    project: Option<ProjectId>,
    page: &PageRequest,
) -> Result<Opened<Page<Activity>>, Error> {
    let tenant = match project {
        None => ctx.allow(workspace, Place::Workspace, Permission::Administer)?,
        Some(project) => project::project_for(ctx, project, Permission::Administer).await?.tenant,
    };
    if tenant.workspace() != workspace {
        return Err(Error::not_found("Project"));
    }
    let row = ctx.ops.store.activities_page(tenant, project, &page.bounded()).await?;
    Ok(Opened { tenant, row })
}

/// One entry.
///
/// # Errors
/// Not found, or a role below admin.
pub async fn activity_get(ctx: &OpCtx, workspace: WorkspaceId, id: ActivityId) -> Result<Opened<Activity>, Error> {
    let tenant = ctx.allow(workspace, Place::Workspace, Permission::Administer)?;
    let row = ctx.ops.store.activity(tenant, id).await?.ok_or_else(|| Error::not_found("Audit log"))?;
    Ok(Opened { tenant, row })
}
