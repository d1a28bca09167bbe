//! Databases under the name that clients before 2024 know them by. A plugin is a service whose image is a database's: the same rows, another
//! door.

use std::collections::BTreeMap;

use domain::deployment::DeploymentStatus;
use domain::project::{Instance, Service};
use domain::spec::Source;
use domain::{DeploymentId, EnvironmentId, Permission, ProjectId, ServiceId};
use serde_json::json;
use store::Change;

use crate::context::{Opened, anew};
use crate::template::{TemplateDeploy, plugin_kind, service_for_image, template_deploy};
use crate::{Error, OpCtx, approval, batch, deployment, environment, service, variable, volume};

/// A database service and the name of its engine.
pub type Plugin = (Opened<Service>, &'static str);

/// What a new plugin is to be.
#[derive(Clone, Debug)]
pub struct PluginCreate {
    /// The engine: `redis`, `postgresql`, `mysql` or `mongodb`.
    pub name: String,
    /// The project.
    pub project: ProjectId,
    /// The environment; the project's oldest when absent.
    pub environment: Option<EnvironmentId>,
    /// What people call it.
    pub friendly_name: Option<String>,
}

/// Adds a database: the same as deploying the template of that name.
///
/// # Errors
/// An unknown engine, not found, or not allowed.
pub async fn plugin_create(ctx: &OpCtx, input: PluginCreate) -> Result<Plugin, Error> {
    let (project, environment) = (Some(input.project), input.environment);
    let entry = crate::template::find(&input.name).filter(|entry| entry.template.plugin.is_some());
    let Some(entry) = entry else {
        // Whoever may not see the project does not learn more.
        crate::project::project_get(ctx, input.project).await?;
        return Err(Error::bad_input(format!("{:?} is not a plugin: choose redis, postgresql, mysql or mongodb", input.name)));
    };
    let mut config = entry.serialized_config();
    if let (Some(name), Some(services)) = (input.friendly_name.filter(|name| !name.trim().is_empty()), config["services"].as_object_mut()) {
        services.values_mut().for_each(|service| service["name"] = json!(name));
    }
    let made =
        template_deploy(ctx, TemplateDeploy { project, environment, template: entry.template.code.clone(), config: Some(config) }).await?;
    let service = made.services.into_iter().next().ok_or_else(|| Error::not_found("Plugin"))?;
    plugin_get(ctx, service.id).await
}

/// A plugin.
///
/// # Errors
/// Not found (a service that is no database too) or not allowed.
pub async fn plugin_get(ctx: &OpCtx, id: ServiceId) -> Result<Plugin, Error> {
    let opened = service::service_get(ctx, id).await.map_err(as_plugin)?;
    let instances = ctx.ops.store.instances_of_services(opened.tenant, &[id]).await?;
    let kind = instances.iter().find_map(plugin_kind).ok_or_else(|| Error::not_found("Plugin"))?;
    Ok((opened, kind))
}

fn as_plugin(error: Error) -> Error {
    if error.code == domain::Code::NotFound { Error::not_found("Plugin") } else { error }
}

/// Renames a plugin.
///
/// # Errors
/// A bad or taken name, not found, or not allowed.
pub async fn plugin_update(ctx: &OpCtx, id: ServiceId, friendly_name: String) -> Result<Plugin, Error> {
    let (_, kind) = plugin_get(ctx, id).await?;
    Ok((service::service_update(ctx, id, Some(friendly_name), None).await?, kind))
}

/// Deletes a plugin; its files are kept for 48 hours.
///
/// # Errors
/// Not found or not allowed.
pub async fn plugin_delete(ctx: &OpCtx, id: ServiceId, environment: Option<EnvironmentId>) -> Result<(), Error> {
    plugin_get(ctx, id).await?;
    service::service_delete(ctx, id, environment).await
}

async fn instance_of(
    ctx: &OpCtx,
    id: ServiceId,
    environment: Option<EnvironmentId>,
    permission: Permission,
) -> Result<Opened<Instance>, Error> {
    let (opened, _) = plugin_get(ctx, id).await?;
    let environment = match environment {
        Some(environment) => environment,
        None => {
            let instances = ctx.ops.store.instances_of_services(opened.tenant, &[id]).await?;
            instances.first().map(|instance| instance.environment_id).ok_or_else(|| Error::not_found("Plugin"))?
        }
    };
    service::instance_for(ctx, environment, id, permission).await.map_err(as_plugin)
}

/// Restarts a plugin's server.
///
/// # Errors
/// It does not run, not found, or not allowed.
pub async fn plugin_restart(ctx: &OpCtx, id: ServiceId, environment: Option<EnvironmentId>) -> Result<Plugin, Error> {
    let instance = instance_of(ctx, id, environment, Permission::Deploy).await?;
    let live = ctx.ops.store.deployments_live(instance.tenant, &[instance.row.id]).await?;
    let running = live.iter().rev().find(|row| matches!(row.status, DeploymentStatus::Success | DeploymentStatus::Crashed));
    let running = running.ok_or_else(|| Error::conflict("the plugin does not run: look at its newest deployment, or deploy it again"))?;
    deployment::deployment_restart(ctx, running.id).await?;
    plugin_get(ctx, id).await
}

/// Draws the secrets of the template anew: the changes, and all variables as they are going to be.
async fn fresh_secrets(ctx: &OpCtx, instance: &Opened<Instance>) -> Result<(Vec<Change>, BTreeMap<String, String>), Error> {
    let environment = environment::environment_get(ctx, instance.row.environment_id).await?;
    let Some(Source::Image(image)) = &instance.row.spec.source else { return Err(Error::not_found("Plugin")) };
    let template = service_for_image(image).ok_or_else(|| Error::not_found("Plugin"))?;
    let mut changes = vec![];
    batch::rest_on(ctx, instance.tenant, environment.row.id, &mut changes).await?;
    let mut rows = ctx.ops.store.variables(instance.tenant, environment.row.id).await?;
    let secrets = template.variables.iter().filter(|(_, wanted)| wanted.default_value.contains("secret("));
    let written = secrets.map(|(name, wanted)| (name.clone(), (wanted.default_value.clone(), None))).collect();
    // Those that are sealed stay so.
    changes.extend(variable::write(ctx, &environment.row, Some(instance.row.service_id), written, &mut rows)?);
    let surroundings = variable::Surroundings::load(ctx, &environment).await?;
    let service = service::service_get(ctx, instance.row.service_id).await?;
    Ok((changes, surroundings.render(ctx, &rows, &service.row.name)))
}

async fn finish(
    ctx: &OpCtx,
    instance: &Opened<Instance>,
    mut changes: Vec<Change>,
    variables: BTreeMap<String, String>,
    verb: &str,
) -> Result<DeploymentId, Error> {
    let environment = environment::environment_get(ctx, instance.row.environment_id).await?;
    let follow_up = deployment::follow_up(ctx, &environment, &instance.row, variables).await?;
    let follow_up = follow_up.ok_or_else(|| Error::conflict("the plugin was never deployed: delete it and add it again"))?;
    let made = follow_up.iter().find_map(|change| match change {
        Change::DeploymentInsert { deployment, .. } => Some(deployment.id),
        _ => None,
    });
    changes.extend(follow_up);
    changes.push(ctx.activity(instance.tenant, Some(instance.row.project_id), verb, instance.row.service_id, json!({})));
    ctx.commit(instance.tenant, changes).await?;
    ctx.ops.signals.wake(instance.tenant.workspace(), instance.row.id);
    made.ok_or_else(|| Error::not_found("Deployment"))
}

/// Gives a plugin new credentials. Who refers to its variables gets them with its own next deployment.
///
/// # Errors
/// Not found or not allowed.
pub async fn plugin_reset_credentials(ctx: &OpCtx, id: ServiceId, environment: EnvironmentId) -> Result<DeploymentId, Error> {
    anew(|| reset_credentials_once(ctx, id, environment)).await
}

async fn reset_credentials_once(ctx: &OpCtx, id: ServiceId, environment: EnvironmentId) -> Result<DeploymentId, Error> {
    let instance = instance_of(ctx, id, Some(environment), Permission::Write).await?;
    let (changes, variables) = fresh_secrets(ctx, &instance).await?;
    finish(ctx, &instance, changes, variables, "plugin_reset_credentials").await
}

/// Empties a plugin: new credentials and a new volume. The old volume is kept for 48 hours.
///
/// # Errors
/// Not found or not allowed.
pub async fn plugin_reset(ctx: &OpCtx, id: ServiceId, environment: EnvironmentId) -> Result<(), Error> {
    anew(|| reset_once(ctx, id, environment)).await
}

async fn reset_once(ctx: &OpCtx, id: ServiceId, environment: EnvironmentId) -> Result<(), Error> {
    let instance = instance_of(ctx, id, Some(environment), Permission::Write).await?;
    let (mut changes, variables) = fresh_secrets(ctx, &instance).await?;
    let tenant = instance.tenant;
    if let Some(held) = ctx.ops.store.volume_instance_of_service(tenant, environment, id).await? {
        let here = environment::environment_get(ctx, environment).await?;
        approval::check_interruption(ctx, &here.row)?;
        changes.extend(volume::removals_with_service(ctx, tenant, id, &[environment], false).await?);
        let project = instance.row.project_id;
        let name = volume::free_name(ctx, tenant, project, "volume").await?;
        let fresh = volume::new_volume(ctx, tenant, project, name);
        let mount = volume::new_volume_instance(ctx, &here.row, fresh.id, Some(id), held.mount_path);
        changes.extend([Change::VolumeInsert(fresh), Change::VolumeInstanceInsert(mount)]);
    }
    finish(ctx, &instance, changes, variables, "plugin_reset").await?;
    Ok(())
}
