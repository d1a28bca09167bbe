//! Projects.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use domain::deployment::{Deployment, DeploymentStatus};
use domain::page::{Page, PageRequest};
use domain::project::{Environment, Instance, Project};
use domain::{EnvironmentId, InstanceId, Permission, Place, ProjectId, Tenant, Timestamp, WorkspaceId, name};
use serde_json::json;
use store::Change;

use crate::context::{Opened, Principal, anew};
use crate::{Error, OpCtx, app, batch, deployment, secret, template, variable};

/// What a new project is to be.
#[derive(Clone, Debug, Default)]
pub struct ProjectCreate {
    /// Its name; made up when absent or blank.
    pub name: Option<String>,
    /// Free text.
    pub description: Option<String>,
    /// Where; the person's own workspace when absent.
    pub workspace: Option<WorkspaceId>,
    /// The first environment's name, `production` when absent.
    pub environment_name: Option<String>,
}

pub(crate) fn place(project: &Project) -> Place {
    Place::Project(project.id)
}

pub(crate) async fn project_for(ctx: &OpCtx, id: ProjectId, permission: Permission) -> Result<Opened<Project>, Error> {
    let opened = ctx.open(ctx.ops.store.project(id).await?, "Project", place, permission)?;
    check(&opened.row, permission)?;
    Ok(opened)
}

/// Refuses to change or deploy anything in a project that is being deleted: nothing of it is to be at work any more. Who may read its
/// secrets and who may delete it still do, and what ends something is not asked here.
fn check(project: &Project, permission: Permission) -> Result<(), Error> {
    match permission {
        Permission::Deploy | Permission::Write if project.deleted_at.is_some() => Err(Error::conflict(
            "This project is being deleted: take that back with projectScheduleDeleteCancel before you change anything in it",
        )),
        _ => Ok(()),
    }
}

/// The same for a row of a project.
pub(crate) async fn check_stays(ctx: &OpCtx, tenant: Tenant, id: ProjectId, permission: Permission) -> Result<(), Error> {
    if !matches!(permission, Permission::Deploy | Permission::Write) {
        return Ok(());
    }
    ctx.ops.store.projects_by_id(tenant, &[id]).await?.iter().try_for_each(|project| check(project, permission))
}

/// One project.
///
/// # Errors
/// `Project not found`, or not allowed.
pub async fn project_get(ctx: &OpCtx, id: ProjectId) -> Result<Opened<Project>, Error> {
    project_for(ctx, id, Permission::Read).await
}

/// Projects, newest first: of one workspace, or of all that the credential reaches when none is named. Each workspace is read with its own
/// tenant, a page of every one of them.
///
/// # Errors
/// An unknown workspace, or not allowed.
pub async fn projects(
    ctx: &OpCtx,
    workspace: Option<WorkspaceId>,
    page: &PageRequest,
    include_deleted: bool,
) -> Result<Page<Opened<Project>>, Error> {
    if let (None, Principal::Key(key)) = (workspace, &ctx.principal)
        && let Some((project, _)) = key.key.project
    {
        let only = project_get(ctx, project).await?;
        return Ok(Page { items: vec![only], has_next: false, has_previous: false });
    }
    let reached = || ctx.grants().0.iter().map(|grant| grant.workspace).collect();
    let workspaces: BTreeSet<WorkspaceId> = workspace.map_or_else(reached, |one| BTreeSet::from([one]));
    if workspaces.is_empty() {
        return Err(ctx.unauthenticated());
    }
    let page = page.bounded();
    let mut all = Page { items: vec![], has_next: false, has_previous: false };
    for workspace in workspaces {
        let tenant = ctx.allow(workspace, Place::Workspace, Permission::Read)?;
        let found = ctx.ops.store.projects(tenant, &page, include_deleted).await?;
        all.items.extend(found.items.into_iter().map(|row| Opened { tenant, row }));
        all.has_next |= found.has_next;
        all.has_previous |= found.has_previous;
    }
    all.items.sort_unstable_by_key(|project| Reverse(project.row.id));
    // The cursors have done their work; of the pages together as much is left as one has.
    let cut = page.shorten(all.items);
    Ok(Page { items: cut.items, has_next: all.has_next || cut.has_next, has_previous: all.has_previous || cut.has_previous })
}

/// Where new things go when the client does not say: the person's own workspace, else the first that the principal reaches.
pub(crate) fn default_workspace(ctx: &OpCtx) -> Option<WorkspaceId> {
    if let Principal::User(person) = &ctx.principal
        && let Some(own) = person.memberships.iter().find(|m| m.workspace.personal_of == Some(person.user.id))
    {
        return Some(own.workspace.id);
    }
    ctx.grants().0.first().map(|grant| grant.workspace)
}

/// Makes a project with its first environment.
///
/// # Errors
/// A bad name, an unknown workspace, or a role below member.
pub async fn project_create(ctx: &OpCtx, input: ProjectCreate) -> Result<Opened<Project>, Error> {
    let workspace = input.workspace.or_else(|| default_workspace(ctx)).ok_or_else(|| ctx.unauthenticated())?;
    let tenant = ctx.allow(workspace, Place::Workspace, Permission::Write)?;
    let wanted = input.name.filter(|text| !text.trim().is_empty());
    let project = Project {
        id: ProjectId::generate(),
        workspace_id: tenant.workspace(),
        name: wanted.map_or_else(|| Ok(secret::friendly_name()), |text| name::display("project name", &text))?,
        description: input.description.filter(|text| !text.is_empty()),
        created_at: ctx.now,
        updated_at: ctx.now,
        deleted_at: None,
    };
    let first = input.environment_name.filter(|text| !text.trim().is_empty()).unwrap_or_else(|| "production".into());
    let environment = Environment {
        id: EnvironmentId::generate(),
        workspace_id: tenant.workspace(),
        project_id: project.id,
        name: name::display("environment name", &first)?,
        is_ephemeral: false,
        is_protected: false,
        source_environment_id: None,
        created_at: ctx.now,
        updated_at: ctx.now,
    };
    let activity = ctx.activity(tenant, Some(project.id), "project_create", project.id, json!({"name": project.name}));
    ctx.commit(tenant, vec![Change::ProjectInsert(project.clone()), Change::EnvironmentInsert(environment), activity]).await?;
    Ok(Opened { tenant, row: project })
}

/// Renames or describes a project.
///
/// # Errors
/// A bad name, not found, or not allowed.
pub async fn project_update(
    ctx: &OpCtx,
    id: ProjectId,
    new_name: Option<String>,
    description: Option<String>,
) -> Result<Opened<Project>, Error> {
    anew(|| update_once(ctx, id, new_name.as_deref(), description.as_deref())).await
}

async fn update_once(ctx: &OpCtx, id: ProjectId, new_name: Option<&str>, description: Option<&str>) -> Result<Opened<Project>, Error> {
    let mut opened = project_for(ctx, id, Permission::Write).await?;
    let before = opened.row.name.clone();
    if let Some(text) = new_name {
        opened.row.name = name::display("project name", text)?;
    }
    if let Some(text) = description {
        opened.row.description = Some(text.to_owned()).filter(|text| !text.is_empty());
    }
    let seen = std::mem::replace(&mut opened.row.updated_at, ctx.now);
    let data = json!({"before": before, "after": opened.row.name});
    let activity = ctx.activity(opened.tenant, Some(id), "project_update", id, data);
    ctx.commit(opened.tenant, vec![Change::ProjectUpdate(opened.row.clone(), seen), activity]).await?;
    Ok(opened)
}

/// Stops everything in a project and hides it; it is purged after 48 hours.
///
/// # Errors
/// Not found, or a role below admin.
pub async fn project_schedule_delete(ctx: &OpCtx, id: ProjectId) -> Result<(), Error> {
    anew(|| schedule_delete_once(ctx, id)).await
}

async fn schedule_delete_once(ctx: &OpCtx, id: ProjectId) -> Result<(), Error> {
    let mut opened = project_for(ctx, id, Permission::Administer).await?;
    if opened.row.deleted_at.is_some() {
        return Ok(());
    }
    opened.row.deleted_at = Some(ctx.now);
    let seen = std::mem::replace(&mut opened.row.updated_at, ctx.now);
    let with = removals(ctx, &opened).await?;
    put(ctx, (&opened, seen), "project_schedule_delete", with).await
}

/// Takes back that a project is deleted, as long as it is not purged. What went out of service with it is deployed again, but where
/// deployments wait for an approval: there somebody says what is to run. Of a project that stays there is nothing to do.
///
/// # Errors
/// Not found, or a role below admin.
pub async fn project_schedule_delete_cancel(ctx: &OpCtx, id: ProjectId) -> Result<(), Error> {
    anew(|| cancel_once(ctx, id)).await
}

async fn cancel_once(ctx: &OpCtx, id: ProjectId) -> Result<(), Error> {
    let mut opened = project_for(ctx, id, Permission::Administer).await?;
    let Some(since) = opened.row.deleted_at.take() else { return Ok(()) };
    let seen = std::mem::replace(&mut opened.row.updated_at, ctx.now);
    let with = returns(ctx, &opened, since).await?;
    put(ctx, (&opened, seen), "project_schedule_delete_cancel", with).await
}

/// Writes the project, unless it was changed since then, with what goes along, and wakes these instances.
async fn put(
    ctx: &OpCtx,
    (project, seen): (&Opened<Project>, Timestamp),
    verb: &str,
    with: (Vec<Change>, Vec<InstanceId>),
) -> Result<(), Error> {
    let (mut changes, woken) = with;
    let (tenant, row) = (project.tenant, &project.row);
    changes.push(Change::ProjectUpdate(row.clone(), seen));
    changes.push(ctx.activity(tenant, Some(row.id), verb, row.id, json!({"name": row.name})));
    ctx.commit(tenant, changes).await?;
    for instance in woken {
        ctx.ops.signals.wake(tenant.workspace(), instance);
    }
    ctx.ops.signals.ring();
    Ok(())
}

/// Deletes a project at once that is deleted after 48 hours otherwise.
///
/// # Errors
/// Not found, a role below admin, or it is to stay.
pub async fn project_schedule_delete_force(ctx: &OpCtx, id: ProjectId) -> Result<(), Error> {
    let opened = project_for(ctx, id, Permission::Administer).await?;
    if opened.row.deleted_at.is_none() {
        return Err(Error::conflict("This project is not being deleted: call projectDelete to delete it at once"));
    }
    project_delete(ctx, id).await
}

/// Deletes a project at once, with all that is in it.
///
/// # Errors
/// Not found, or a role below admin.
pub async fn project_delete(ctx: &OpCtx, id: ProjectId) -> Result<(), Error> {
    let opened = project_for(ctx, id, Permission::Administer).await?;
    // The audit entry outlives the project, so it is filed under the workspace alone.
    let activity = ctx.activity(opened.tenant, None, "project_delete", id, json!({"name": opened.row.name}));
    let mut changes = vec![Change::ProjectDelete(id), activity];
    // Of one that waits to be purged this was told before.
    if opened.row.deleted_at.is_none() {
        changes.extend(app::tell_of_removal(ctx, opened.tenant, &instances_of(ctx, &opened).await?).await?);
    }
    ctx.commit(opened.tenant, changes).await?;
    ctx.ops.signals.deployments_deleted();
    ctx.ops.signals.ring();
    Ok(())
}

/// What takes every deployment of a project out of service, and the instances to wake once that is committed.
async fn removals(ctx: &OpCtx, project: &Opened<Project>) -> Result<(Vec<Change>, Vec<InstanceId>), Error> {
    let instances = instances_of(ctx, project).await?;
    let ids: Vec<_> = instances.iter().map(|instance| instance.id).collect();
    let live = ctx.ops.store.deployments_live(project.tenant, &ids).await?;
    let mut changes: Vec<_> = live.iter().filter_map(|deployment| crate::deployment::removal(deployment, ctx.now)).collect();
    changes.extend(app::tell_of_removal(ctx, project.tenant, &instances).await?);
    Ok((changes, ids))
}

/// What deploys again what the deletion of a project took out of service, and the instances to wake once that is committed.
async fn returns(ctx: &OpCtx, project: &Opened<Project>, since: Timestamp) -> Result<(Vec<Change>, Vec<InstanceId>), Error> {
    let environments = ctx.ops.store.environments_of(project.tenant, &[project.row.id]).await?;
    let instances = instances_in(ctx, project, &environments).await?;
    let ids: Vec<_> = instances.iter().map(|instance| instance.id).collect();
    let newest = ctx.ops.store.deployments_latest(project.tenant, &ids).await?;
    let (mut changes, mut woken) = (vec![], vec![]);
    for environment in environments.into_iter().filter(|environment| !environment.is_protected) {
        let gone = newest.iter().filter(|of| of.environment_id == environment.id && went_with_project(of, since));
        let gone: Vec<_> = gone.collect();
        if gone.is_empty() {
            continue;
        }
        let place = project.with(environment);
        batch::rest_on(ctx, place.tenant, place.row.id, &mut changes).await?;
        let surroundings = variable::Surroundings::load(ctx, &place).await?;
        let rows = ctx.ops.store.variables(place.tenant, place.row.id).await?;
        let scope = surroundings.scope(ctx, &rows);
        for of in gone {
            let instance = instances.iter().find(|instance| instance.id == of.instance_id);
            let service = surroundings.services.iter().find(|service| service.id == of.service_id);
            let (Some(instance), Some(service)) = (instance, service) else { continue };
            let variables = variable::render_frozen(&scope, &service.name);
            changes.extend(deployment::repetition(ctx, &place.row, instance, of, variables));
            woken.push(instance.id);
        }
    }
    Ok((changes, woken))
}

/// Whether a deployment would still be there, and running, if its project had not been deleted at that time.
fn went_with_project(deployment: &Deployment, since: Timestamp) -> bool {
    let ended = matches!(deployment.status, DeploymentStatus::Removing | DeploymentStatus::Removed) && deployment.status_at >= since;
    let source = deployment.artifact.is_some() || deployment.source_blob.is_some() || template::is_server(&deployment.spec);
    ended && source && !deployment.stopped
}

async fn instances_of(ctx: &OpCtx, project: &Opened<Project>) -> Result<Vec<Instance>, Error> {
    let environments = ctx.ops.store.environments_of(project.tenant, &[project.row.id]).await?;
    instances_in(ctx, project, &environments).await
}

async fn instances_in(ctx: &OpCtx, project: &Opened<Project>, environments: &[Environment]) -> Result<Vec<Instance>, Error> {
    let ids: Vec<_> = environments.iter().map(|environment| environment.id).collect();
    Ok(ctx.ops.store.instances_of_environments(project.tenant, &ids).await?)
}

/// Whether a status still has to be taken out of service.
pub(crate) fn removable(status: DeploymentStatus) -> bool {
    status != DeploymentStatus::Removing && (status.is_live() || status.is_pending())
}
