//! Databases as clients before 2024 know them (`contracts/railway.md` 5).

use std::sync::Arc;

use domain::deployment::DeploymentStatus;
use domain::{EnvironmentId, ProjectId, ServiceId, Tenant};
use juniper::{ID, graphql_object};
use ops::plugin::PluginCreate;

use super::connection::connection;
use super::enums::{PluginStatus, PluginType};
use super::inputs::{PluginCreateInput, id, id_option};
use super::project::Project;
use crate::graphql::scalar::DateTime;
use crate::graphql::{Ctx, Fault, Scalar};

/// A database.
#[derive(Clone)]
pub(crate) struct Plugin {
    tenant: Tenant,
    row: Arc<domain::project::Service>,
    kind: PluginType,
}

impl Plugin {
    fn new(ctx: &Ctx, (opened, kind): ops::plugin::Plugin) -> Result<Self, Fault> {
        ctx.loader.announce_services(opened.tenant, std::iter::once(&opened.row));
        let kind = PluginType::parse(kind).ok_or_else(|| Fault::not_found("Plugin"))?;
        Ok(Self { tenant: opened.tenant, row: Arc::new(opened.row), kind })
    }

    pub(crate) fn find(ctx: &Ctx, text: &str) -> Result<Self, Fault> {
        Self::new(ctx, ctx.wait(ops::plugin::plugin_get(&ctx.op, service(text)?))?)
    }

    pub(crate) fn cursor(&self) -> String {
        self.row.id.to_string()
    }

    pub(crate) fn of_project(ctx: &Ctx, tenant: Tenant, project: ProjectId) -> Result<Vec<Self>, Fault> {
        let mut found = vec![];
        for row in &*ctx.loader.services_of(ctx, tenant, project)? {
            let instances = ctx.loader.instances_of_service(ctx, tenant, row.id)?;
            let kind = instances.iter().find_map(|instance| ops::template::plugin_kind(instance)).and_then(PluginType::parse);
            found.extend(kind.map(|kind| Self { tenant, row: Arc::clone(row), kind }));
        }
        Ok(found)
    }
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl Plugin {
    fn created_at(&self) -> DateTime {
        DateTime(self.row.created_at)
    }
    fn deleted_at(&self) -> Option<DateTime> {
        None
    }
    fn friendly_name(&self) -> &str {
        &self.row.name
    }
    fn id(&self) -> ID {
        ID::from(self.row.id.to_string())
    }
    fn logs_enabled(&self) -> bool {
        true
    }
    /// The service that it is.
    fn migration_database_service_id(&self) -> Option<String> {
        Some(self.row.id.to_string())
    }
    fn name(&self) -> PluginType {
        self.kind
    }
    /// Itself: clients of 2022 select what they made one level deeper.
    fn plugin(&self) -> &Self {
        self
    }
    fn project(&self, ctx: &Ctx) -> Result<Project, Fault> {
        Ok(Project { tenant: self.tenant, row: ctx.loader.project(ctx, self.tenant, self.row.project_id)? })
    }
    fn status(&self, ctx: &Ctx) -> Result<PluginStatus, Fault> {
        for instance in &*ctx.loader.instances_of_service(ctx, self.tenant, self.row.id)? {
            let live = ctx.loader.live_deployments(ctx, self.tenant, instance.id)?;
            if live.iter().any(|row| row.status == DeploymentStatus::Success && !row.stopped) {
                return Ok(PluginStatus::Running);
            }
        }
        Ok(PluginStatus::Stopped)
    }
}

connection! {
    /// Databases of a project.
    ProjectPluginsConnection, ProjectPluginsConnectionEdge, Plugin;
}

fn service(text: &str) -> Result<ServiceId, Fault> {
    id("Plugin", text, ServiceId)
}

fn environment(text: &str) -> Result<EnvironmentId, Fault> {
    id("Environment", text, EnvironmentId)
}

/// Takes the flat shape of today and the nested one of 2022.
pub(crate) fn create(ctx: &Ctx, input: PluginCreateInput) -> Result<Plugin, Fault> {
    let PluginCreateInput { data, environment_id, friendly_name, name, project_id } = input;
    let (name, project) = match (data, name, project_id) {
        (None, Some(name), Some(project)) => (name, project),
        (Some(data), None, None) => (data.name, data.project_id),
        _ => return Err(Fault::bad_input("write {name, projectId}, or {data: {name, projectId}} as clients of 2022 do, and not both")),
    };
    let wanted = PluginCreate {
        name,
        project: id("Project", &project, ProjectId)?,
        environment: id_option("Environment", environment_id.as_deref(), EnvironmentId)?,
        friendly_name,
    };
    Plugin::new(ctx, ctx.wait(ops::plugin::plugin_create(&ctx.op, wanted))?)
}

pub(crate) fn delete(ctx: &Ctx, within: Option<&str>, plugin: &str) -> Result<bool, Fault> {
    let within = id_option("Environment", within, EnvironmentId)?;
    ctx.wait(ops::plugin::plugin_delete(&ctx.op, service(plugin)?, within))?;
    Ok(true)
}

pub(crate) fn reset(ctx: &Ctx, plugin: &str, within: &str) -> Result<bool, Fault> {
    ctx.wait(ops::plugin::plugin_reset(&ctx.op, service(plugin)?, environment(within)?))?;
    Ok(true)
}

/// The id of the deployment that brings them into use.
pub(crate) fn reset_credentials(ctx: &Ctx, plugin: &str, within: &str) -> Result<String, Fault> {
    Ok(ctx.wait(ops::plugin::plugin_reset_credentials(&ctx.op, service(plugin)?, environment(within)?))?.to_string())
}

pub(crate) fn restart(ctx: &Ctx, plugin: &str, within: Option<&str>) -> Result<Plugin, Fault> {
    let within = id_option("Environment", within, EnvironmentId)?;
    Plugin::new(ctx, ctx.wait(ops::plugin::plugin_restart(&ctx.op, service(plugin)?, within))?)
}

pub(crate) fn update(ctx: &Ctx, plugin: &str, friendly_name: String) -> Result<Plugin, Fault> {
    Plugin::new(ctx, ctx.wait(ops::plugin::plugin_update(&ctx.op, service(plugin)?, friendly_name))?)
}
