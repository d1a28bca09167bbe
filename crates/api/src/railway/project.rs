//! Projects.

use std::sync::Arc;

use domain::page::{Order, Page};
use domain::{Permission, Place, ProjectId, Tenant};
use juniper::{ID, graphql_object};
use ops::Opened;
use ops::deployment::DeploymentFilter;

use super::absent::{self, ProjectBucketsConnection, Team};
use super::account::Workspace;
use super::connection::{connection, page, sized};
use super::deployment::Deployment;
use super::enums::SortOrder;
use super::environment::Environment;
use super::plugin::{Plugin, ProjectPluginsConnection};
use super::service::Service;
use super::volume::{ProjectVolumesConnection, Volume};
use crate::graphql::scalar::DateTime;
use crate::graphql::{Ctx, Fault, Scalar};

/// A project that the principal may read.
#[derive(Clone)]
pub(crate) struct Project {
    pub(crate) tenant: Tenant,
    pub(crate) row: Arc<domain::project::Project>,
}

impl Project {
    pub(crate) fn new(ctx: &Ctx, opened: Opened<domain::project::Project>) -> Self {
        ctx.loader.announce_projects(opened.tenant, std::iter::once(&opened.row));
        Self { tenant: opened.tenant, row: Arc::new(opened.row) }
    }

    pub(crate) fn find(ctx: &Ctx, id: ProjectId) -> Result<Self, Fault> {
        Ok(Self::new(ctx, ctx.wait(ops::project::project_get(&ctx.op, id))?))
    }

    /// All rows are known before the first of them is looked into.
    pub(crate) fn page(ctx: &Ctx, page: Page<Opened<domain::project::Project>>) -> Result<Page<Self>, Fault> {
        ctx.charge(page.items.len())?;
        for rows in page.items.chunk_by(|one, next| one.tenant == next.tenant) {
            ctx.loader.announce_projects(rows[0].tenant, rows.iter().map(|opened| &opened.row));
        }
        let items = page.items.into_iter().map(|Opened { tenant, row }| Self { tenant, row: Arc::new(row) }).collect();
        Ok(Page { items, has_next: page.has_next, has_previous: page.has_previous })
    }

    pub(crate) fn cursor(&self) -> String {
        self.row.id.to_string()
    }

    fn may(&self, ctx: &Ctx, permission: Permission) -> bool {
        ctx.op.may(self.tenant.workspace(), Place::Project(self.row.id), permission)
    }

    pub(crate) fn all_environments(&self, ctx: &Ctx, is_ephemeral: Option<bool>) -> Result<Vec<Environment>, Fault> {
        let rows = ctx.loader.environments_of(ctx, self.tenant, self.row.id)?;
        let wanted = rows.iter().filter(|row| is_ephemeral.is_none_or(|wanted| row.is_ephemeral == wanted));
        Ok(wanted.map(|row| Environment { tenant: self.tenant, row: Arc::clone(row) }).collect())
    }
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl Project {
    fn base_environment_id(&self) -> Option<String> {
        None
    }
    fn buckets(
        &self,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        last: Option<i32>,
    ) -> Result<ProjectBucketsConnection, Fault> {
        page(after, before, first, last)?;
        Ok(absent::nothing().into())
    }
    fn created_at(&self) -> DateTime {
        DateTime(self.row.created_at)
    }
    fn deleted_at(&self) -> Option<DateTime> {
        self.row.deleted_at.map(DateTime)
    }
    fn deployments(
        &self,
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        last: Option<i32>,
    ) -> Result<ProjectDeploymentsConnection, Fault> {
        let filter = DeploymentFilter { project: Some(self.row.id), ..DeploymentFilter::default() };
        let request = sized(page(after, before, first, last)?);
        Ok(Deployment::page(ctx, ctx.wait(ops::deployment::deployments(&ctx.op, filter, &request))?)?.into())
    }
    fn description(&self) -> Option<&str> {
        self.row.description.as_deref()
    }
    #[expect(clippy::too_many_arguments, reason = "they are the schema's")]
    fn environments(
        &self,
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        is_ephemeral: Option<bool>,
        last: Option<i32>,
        sort: Option<SortOrder>,
    ) -> Result<ProjectEnvironmentsConnection, Fault> {
        let mut all = self.all_environments(ctx, is_ephemeral)?;
        let mut order = Order::Oldest;
        if sort == Some(SortOrder::Desc) {
            all.reverse();
            order = Order::Newest;
        }
        Ok(page(after, before, first, last)?.cut(order, all, Environment::cursor)?.into())
    }
    fn id(&self) -> ID {
        ID::from(self.row.id.to_string())
    }
    fn is_public(&self) -> bool {
        false
    }
    fn name(&self) -> &str {
        &self.row.name
    }
    fn plugins(
        &self,
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        last: Option<i32>,
    ) -> Result<ProjectPluginsConnection, Fault> {
        let all = Plugin::of_project(ctx, self.tenant, self.row.id)?;
        Ok(page(after, before, first, last)?.cut(Order::Oldest, all, Plugin::cursor)?.into())
    }
    fn pr_deploys(&self) -> bool {
        false
    }
    fn services(
        &self,
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        last: Option<i32>,
    ) -> Result<ProjectServicesConnection, Fault> {
        let rows = ctx.loader.services_of(ctx, self.tenant, self.row.id)?;
        let all = rows.iter().map(|row| Service { tenant: self.tenant, row: Arc::clone(row) }).collect();
        Ok(page(after, before, first, last)?.cut(Order::Oldest, all, Service::cursor)?.into())
    }
    fn team(&self) -> Option<Team> {
        None
    }
    fn team_id(&self) -> Option<String> {
        None
    }
    fn updated_at(&self) -> DateTime {
        DateTime(self.row.updated_at)
    }
    /// Whether the principal may change the project itself, its environments and its keys.
    fn viewer_can_administer(&self, ctx: &Ctx) -> bool {
        self.may(ctx, Permission::Administer)
    }
    /// Whether the principal may deploy, restart and roll back.
    fn viewer_can_deploy(&self, ctx: &Ctx) -> bool {
        self.may(ctx, Permission::Deploy)
    }
    /// Whether the principal may change services, variables and domains.
    fn viewer_can_write(&self, ctx: &Ctx) -> bool {
        self.may(ctx, Permission::Write)
    }
    fn volumes(
        &self,
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        last: Option<i32>,
    ) -> Result<ProjectVolumesConnection, Fault> {
        let all = Volume::of_project(ctx, self.tenant, self.row.id)?;
        Ok(page(after, before, first, last)?.cut(Order::Oldest, all, Volume::cursor)?.into())
    }
    fn workspace(&self, ctx: &Ctx) -> Result<Option<Workspace>, Fault> {
        Workspace::of(ctx, self.tenant)
    }
    fn workspace_id(&self) -> Option<String> {
        Some(self.row.workspace_id.to_string())
    }
}

connection! {
    /// Environments of a project.
    ProjectEnvironmentsConnection, ProjectEnvironmentsConnectionEdge, Environment;
    /// Services of a project.
    ProjectServicesConnection, ProjectServicesConnectionEdge, Service;
    /// Deployments of a project.
    ProjectDeploymentsConnection, ProjectDeploymentsConnectionEdge, Deployment;
}
