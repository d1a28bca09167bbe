//! Environments of a project, and their configuration as one document.

use std::collections::BTreeMap;

use domain::config;
use domain::project::{DomainKind, Environment, Instance};
use domain::tcp_proxy::{ProxyKind, TcpProxy};
use domain::variable::Variable;
use domain::volume::{BackupSchedule, VolumeInstance};
use domain::{EnvironmentId, InstanceId, Permission, Place, ProjectId, ServiceId, name};
use serde_json::{Value, json};
use store::{Change, Constraint};

use crate::batch::{self, State};
use crate::context::{Opened, anew};
use crate::{Error, OpCtx, app, domain_name, project, tcp_proxy, volume};

/// What a new environment is to be.
#[derive(Clone, Debug)]
pub struct EnvironmentCreate {
    /// The project.
    pub project: ProjectId,
    /// Unique in the project.
    pub name: String,
    /// Copy services, settings and variables of this one.
    pub source: Option<EnvironmentId>,
    /// Goes away by itself.
    pub ephemeral: bool,
    /// Do not start the copied services.
    pub skip_deploys: bool,
}

pub(crate) fn place(environment: &Environment) -> Place {
    Place::Environment(environment.project_id, environment.id)
}

pub(crate) async fn environment_for(ctx: &OpCtx, id: EnvironmentId, permission: Permission) -> Result<Opened<Environment>, Error> {
    let opened = ctx.open(ctx.ops.store.environment(id).await?, "Environment", place, permission)?;
    project::check_stays(ctx, opened.tenant, opened.row.project_id, permission).await?;
    Ok(opened)
}

/// One environment.
///
/// # Errors
/// Not found or not allowed.
pub async fn environment_get(ctx: &OpCtx, id: EnvironmentId) -> Result<Opened<Environment>, Error> {
    environment_for(ctx, id, Permission::Read).await
}

/// Makes an environment; with a source, everything in it is copied and what runs there starts here too.
///
/// # Errors
/// A bad or taken name, a source of another project, or not allowed.
pub async fn environment_create(ctx: &OpCtx, input: EnvironmentCreate) -> Result<Opened<Environment>, Error> {
    let opened = project::project_for(ctx, input.project, Permission::Write).await?;
    let environment = Environment {
        id: EnvironmentId::generate(),
        workspace_id: opened.tenant.workspace(),
        project_id: input.project,
        name: name::display("environment name", &input.name)?,
        is_ephemeral: input.ephemeral,
        // Protection is not copied: a copy is somewhere to try things.
        is_protected: false,
        source_environment_id: input.source,
        created_at: ctx.now,
        updated_at: ctx.now,
    };
    let mut changes = vec![Change::EnvironmentInsert(environment.clone())];
    let made = opened.with(environment);
    let before = State::load(ctx, &made).await?;
    let mut after = before.clone();
    if let Some(source) = input.source {
        let source = environment_for(ctx, source, Permission::ReadSecrets).await?;
        if source.row.project_id != input.project {
            return Err(Error::not_found("Source environment"));
        }
        copy(ctx, &source, &made.row, &mut after, &mut changes).await?;
    }
    changes.push(ctx.activity(opened.tenant, Some(input.project), "environment_create", made.row.id, json!({"name": made.row.name})));
    batch::commit(ctx, &made, &before, &after, changes, input.skip_deploys).await.map_err(|error| {
        let taken = if error.breaks(Constraint::EnvironmentName) {
            format!("An environment named {:?} already exists in this project", made.row.name)
        } else {
            "A domain or a TCP port that the copy was to have was taken in the meantime: try again".to_owned()
        };
        error.when_taken(taken)
    })?;
    Ok(made)
}

/// Services with their settings, variables, empty volumes and TCP ports, and a domain of their own where the source has one.
async fn copy(
    ctx: &OpCtx,
    source: &Opened<Environment>,
    target: &Environment,
    after: &mut State,
    changes: &mut Vec<Change>,
) -> Result<(), Error> {
    let from = State::load(ctx, source).await?;
    for variable in from.variables {
        let variable = Variable { environment_id: target.id, updated_at: ctx.now, ..variable };
        after.variables.push(variable.clone());
        changes.push(Change::VariableSet(variable));
    }
    for instance in from.instances {
        let twin = Instance { id: InstanceId::generate(), environment_id: target.id, created_at: ctx.now, updated_at: ctx.now, ..instance };
        changes.push(Change::InstanceInsert(twin.clone()));
        let domains = &from.surroundings.domains;
        let domain = domains.iter().find(|domain| domain.service_id == twin.service_id && domain.kind == DomainKind::Service);
        if let (Some(domain), Some(service)) = (domain, after.surroundings.services.iter().find(|row| row.id == twin.service_id)) {
            let coming = &after.surroundings.domains;
            let own = domain_name::free_service_domain(ctx, target, service, domain.target_port, coming).await?;
            after.surroundings.domains.push(own.clone());
            changes.push(Change::DomainInsert(own));
        }
        after.instances.push(twin);
    }
    for (mount, name) in volume::copies(ctx, source.tenant, source.row.id, target).await? {
        if let Some(service) = mount.service_id {
            after.surroundings.mount(service, Some((&mount, &name)));
        }
        changes.push(Change::VolumeInstanceInsert(mount));
    }
    let proxies = tcp_proxy::copies(ctx, source.tenant, source.row.id, &after.instances).await?;
    after.surroundings.add_proxies(&proxies);
    changes.extend(proxies.into_iter().map(Change::TcpProxyInsert));
    Ok(())
}

/// Renames an environment.
///
/// # Errors
/// A bad or taken name, not found, or not allowed.
pub async fn environment_rename(ctx: &OpCtx, id: EnvironmentId, new_name: &str) -> Result<Opened<Environment>, Error> {
    let mut opened = environment_for(ctx, id, Permission::Write).await?;
    let before = std::mem::replace(&mut opened.row.name, name::display("environment name", new_name)?);
    opened.row.updated_at = ctx.now;
    let data = json!({"before": before, "after": opened.row.name});
    let activity = ctx.activity(opened.tenant, Some(opened.row.project_id), "environment_rename", id, data);
    ctx.ops
        .store
        .commit(opened.tenant, vec![Change::EnvironmentUpdate(opened.row.clone()), activity])
        .await
        .map_err(|error| Error::from(error).when_taken("An environment of that name already exists in this project"))?;
    Ok(opened)
}

/// Makes deployments that people and keys below admin ask for in an environment wait for an approval, or no longer. What waits already goes
/// on waiting: it is approved or canceled by hand.
///
/// # Errors
/// Not found, or a role below admin.
pub async fn environment_protect(ctx: &OpCtx, id: EnvironmentId, protected: bool) -> Result<(), Error> {
    let opened = environment_for(ctx, id, Permission::Administer).await?;
    if opened.row.is_protected == protected {
        return Ok(());
    }
    let data = json!({"name": opened.row.name, "protected": protected});
    let activity = ctx.activity(opened.tenant, Some(opened.row.project_id), "environment_protect", id, data);
    ctx.commit(opened.tenant, vec![Change::EnvironmentProtect(id, protected, ctx.now), activity]).await
}

/// Deletes an environment with everything in it.
///
/// # Errors
/// Not found, not allowed, or the last one of its project.
pub async fn environment_delete(ctx: &OpCtx, id: EnvironmentId) -> Result<(), Error> {
    anew(|| delete_once(ctx, id)).await
}

async fn delete_once(ctx: &OpCtx, id: EnvironmentId) -> Result<(), Error> {
    let opened = environment_for(ctx, id, Permission::Administer).await?;
    let all = ctx.ops.store.environments_of(opened.tenant, &[opened.row.project_id]).await?;
    if all.len() <= 1 {
        return Err(Error::conflict("This is the project's only environment: delete the project instead"));
    }
    let mut changes = volume::removals_with_environment(ctx, opened.tenant, id).await?;
    let kept = |change: &Change| if let Change::VolumeFilesKeep { id, .. } = change { Some(id.to_string()) } else { None };
    let data = json!({"name": opened.row.name, "volumesKept": changes.iter().filter_map(kept).collect::<Vec<_>>()});
    let activity = ctx.activity(opened.tenant, Some(opened.row.project_id), "environment_delete", id, data);
    let instances = ctx.ops.store.instances_of_environments(opened.tenant, &[id]).await?;
    changes.extend(app::tell_of_removal(ctx, opened.tenant, &instances).await?);
    changes.extend([Change::EnvironmentDelete(id), activity]);
    ctx.commit(opened.tenant, changes).await?;
    ctx.ops.signals.deployments_deleted();
    ctx.ops.signals.ring();
    Ok(())
}

/// The environment as one document (`contracts/railway.md` 3.9). Values of variables are left out unless `decrypt`; sealed ones always.
///
/// # Errors
/// Not found or not allowed; with `decrypt` the permission to read secrets is needed.
pub async fn environment_config(ctx: &OpCtx, id: EnvironmentId, decrypt: bool) -> Result<Value, Error> {
    let permission = if decrypt { Permission::ReadSecrets } else { Permission::Read };
    let opened = environment_for(ctx, id, permission).await?;
    let tenant = opened.tenant;
    let instances = ctx.ops.store.instances_of_environments(tenant, &[id]).await?;
    let domains = ctx.ops.store.domains_of_environments(tenant, &[id]).await?;
    let variables = ctx.ops.store.variables(tenant, id).await?;
    let attached = Attached::load(ctx, &opened).await?;
    let variables_of = |service: Option<ServiceId>| -> BTreeMap<&str, Value> {
        variables
            .iter()
            .filter(|variable| variable.service_id == service)
            .map(|variable| {
                let value = if variable.is_sealed || !decrypt { Value::Null } else { json!(variable.value) };
                let entry = if variable.is_sealed { json!({"isSealed": true}) } else { json!({"value": value}) };
                (variable.name.as_str(), entry)
            })
            .collect()
    };
    let domains_of = |service, kind: DomainKind| -> BTreeMap<&str, Value> {
        domains
            .iter()
            .filter(|domain| domain.service_id == service && domain.kind == kind)
            .map(|domain| (domain.domain.as_str(), domain.target_port.map_or_else(|| json!({}), |port| json!({"port": port}))))
            .collect()
    };
    let services: serde_json::Map<String, Value> = instances
        .iter()
        .map(|instance| {
            let networking = json!({
                "serviceDomains": domains_of(instance.service_id, DomainKind::Service),
                "customDomains": domains_of(instance.service_id, DomainKind::Custom),
                "tcpProxies": attached.tcp_proxies(instance.service_id),
            });
            let mut document = config::document(&instance.spec, &ctx.ops.settings.region);
            document.insert("networking".into(), networking);
            document.insert("variables".into(), json!(variables_of(Some(instance.service_id))));
            document.insert("volumeMounts".into(), json!(attached.volume_mounts(instance.service_id)));
            (instance.service_id.to_string(), Value::Object(document))
        })
        .collect();
    Ok(json!({
        "services": services,
        "sharedVariables": variables_of(None),
        "volumes": attached.volumes(&ctx.ops.settings.region),
    }))
}

/// Volumes and TCP ports as the document shows them.
struct Attached {
    volumes: Vec<VolumeInstance>,
    schedules: Vec<BackupSchedule>,
    proxies: Vec<TcpProxy>,
}

impl Attached {
    async fn load(ctx: &OpCtx, environment: &Opened<Environment>) -> Result<Self, Error> {
        let (store, tenant, here) = (&ctx.ops.store, environment.tenant, [environment.row.id]);
        let living = store.volumes_of_projects(tenant, &[environment.row.project_id]).await?;
        let mut volumes = store.volume_instances_of_environments(tenant, &here).await?;
        volumes.retain(|row| living.iter().any(|volume| volume.id == row.volume_id && volume.deleted_at.is_none()));
        let ids: Vec<_> = volumes.iter().map(|row| row.id).collect();
        let mut proxies = store.tcp_proxies_of_environments(tenant, &here).await?;
        // The private ones are how this server gives a database an address, and nobody chooses them.
        proxies.retain(|row| row.kind == ProxyKind::Public);
        Ok(Self { schedules: store.backup_schedules(tenant, &ids).await?, volumes, proxies })
    }

    fn tcp_proxies(&self, service: ServiceId) -> BTreeMap<String, Value> {
        self.proxies.iter().filter(|row| row.service_id == service).map(|row| (row.application_port.to_string(), json!({}))).collect()
    }

    fn volume_mounts(&self, service: ServiceId) -> BTreeMap<String, Value> {
        let entry = |row: &VolumeInstance| {
            let its = self.schedules.iter().filter(|schedule| schedule.volume_instance_id == row.id);
            let kinds: Vec<&str> = its.map(|schedule| schedule.kind.as_str()).collect();
            let mut entry = json!({"mountPath": row.mount_path});
            if !kinds.is_empty() {
                entry["backupSchedules"] = json!(kinds);
            }
            (row.volume_id.to_string(), entry)
        };
        self.volumes.iter().filter(|row| row.service_id == Some(service)).map(entry).collect()
    }

    fn volumes(&self, region: &str) -> BTreeMap<String, Value> {
        self.volumes.iter().map(|row| (row.volume_id.to_string(), json!({"sizeMB": row.size_mb, "region": region}))).collect()
    }
}
