//! Services, and their settings in each environment.

use std::collections::BTreeMap;

use domain::project::{Environment, Instance, Project, Service};
use domain::spec::{InstanceSpec, Limits, RestartPolicy, Source};
use domain::{EnvironmentId, InstanceId, Permission, Place, ProjectId, ServiceId, Tenant, name};
use serde_json::json;
use store::Change;

use crate::context::{Opened, anew};
use crate::{Error, OpCtx, app, environment, project, secret, variable, volume};

/// What a new service is to be.
#[derive(Clone, Debug)]
pub struct ServiceCreate {
    /// The project.
    pub project: ProjectId,
    /// Only in this environment if it goes away by itself, or if the credential reaches no further. Otherwise, and when absent, in every
    /// lasting one.
    pub environment: Option<EnvironmentId>,
    /// Unique in the project; made up when absent.
    pub name: Option<String>,
    /// Picture for the canvas.
    pub icon: Option<String>,
    /// Where the code comes from; uploaded when absent.
    pub source: Option<Source>,
    /// Its first variables.
    pub variables: BTreeMap<String, String>,
}

/// Settings to change; what is absent stays. An empty text takes a setting back to its default.
#[derive(Clone, Debug, Default)]
pub struct InstancePatch {
    /// `buildCommand`
    pub build_command: Option<String>,
    /// `builder`
    pub builder: Option<String>,
    /// `cronSchedule`
    pub cron_schedule: Option<String>,
    /// `dockerfilePath`
    pub dockerfile_path: Option<String>,
    /// `drainingSeconds`
    pub draining_seconds: Option<u32>,
    /// `healthcheckPath`
    pub healthcheck_path: Option<String>,
    /// `healthcheckTimeout`, seconds
    pub healthcheck_timeout: Option<u32>,
    /// `multiRegionConfig`: replicas by region
    pub regions: Option<BTreeMap<String, u32>>,
    /// `numReplicas`
    pub replicas: Option<u32>,
    /// `overlapSeconds`
    pub overlap_seconds: Option<u32>,
    /// `preDeployCommand`
    pub pre_deploy_command: Option<Vec<String>>,
    /// `railwayConfigFile`
    pub config_file: Option<String>,
    /// `restartPolicyMaxRetries`
    pub restart_policy_max_retries: Option<u32>,
    /// `restartPolicyType`
    pub restart_policy_type: Option<RestartPolicy>,
    /// `rootDirectory`
    pub root_directory: Option<String>,
    /// `sleepApplication`
    pub sleep_application: Option<bool>,
    /// `source`
    pub source: Option<Source>,
    /// `startCommand`
    pub start_command: Option<String>,
    /// `stickySessions`
    pub sticky: Option<bool>,
    /// `unhealthyContainerReplacement`
    pub unhealthy_replacement: Option<bool>,
    /// `watchPatterns`
    pub watch_patterns: Option<Vec<String>>,
}

impl InstancePatch {
    fn apply(self, spec: &mut InstanceSpec, region: &str) -> Result<(), Error> {
        let text = |new: Option<String>, old: &mut Option<String>| {
            if let Some(new) = new {
                *old = Some(new).filter(|text| !text.trim().is_empty());
            }
        };
        text(self.build_command, &mut spec.build.build_command);
        text(self.builder, &mut spec.build.builder);
        text(self.dockerfile_path, &mut spec.build.dockerfile_path);
        text(self.config_file, &mut spec.build.config_file);
        text(self.root_directory, &mut spec.build.root_directory);
        text(self.start_command, &mut spec.deploy.start_command);
        text(self.cron_schedule, &mut spec.deploy.cron_schedule);
        text(self.healthcheck_path, &mut spec.deploy.healthcheck_path);
        if let Some(value) = self.healthcheck_timeout {
            spec.deploy.healthcheck_timeout = Some(value).filter(|value| *value > 0);
        }
        spec.deploy.draining_seconds = self.draining_seconds.unwrap_or(spec.deploy.draining_seconds);
        spec.deploy.overlap_seconds = self.overlap_seconds.unwrap_or(spec.deploy.overlap_seconds);
        spec.deploy.sticky = self.sticky.unwrap_or(spec.deploy.sticky);
        spec.deploy.unhealthy_replacement = self.unhealthy_replacement.unwrap_or(spec.deploy.unhealthy_replacement);
        if let Some(regions) = self.regions {
            spec.deploy.regions = regions.into_iter().filter(|(_, replicas)| *replicas > 0).collect();
        }
        if let Some(replicas) = self.replicas {
            let place = spec.deploy.regions.keys().next().cloned().unwrap_or_else(|| region.to_owned());
            spec.deploy.regions = BTreeMap::from([(place, replicas)]);
        }
        let Self { pre_deploy_command, restart_policy_max_retries, restart_policy_type, sleep_application, source, watch_patterns, .. } =
            self;
        spec.deploy.pre_deploy_command = pre_deploy_command.unwrap_or_else(|| std::mem::take(&mut spec.deploy.pre_deploy_command));
        spec.deploy.restart_policy_max_retries = restart_policy_max_retries.unwrap_or(spec.deploy.restart_policy_max_retries);
        spec.deploy.restart_policy_type = restart_policy_type.unwrap_or(spec.deploy.restart_policy_type);
        spec.deploy.sleep_application = sleep_application.unwrap_or(spec.deploy.sleep_application);
        spec.build.watch_patterns = watch_patterns.unwrap_or_else(|| std::mem::take(&mut spec.build.watch_patterns));
        spec.source = source.or_else(|| spec.source.take());
        spec.check()?;
        Ok(())
    }
}

pub(crate) async fn service_for(ctx: &OpCtx, id: ServiceId, permission: Permission) -> Result<Opened<Service>, Error> {
    ctx.open(ctx.ops.store.service(id).await?, "Service", |service| Place::Project(service.project_id), permission)
}

/// One service.
///
/// # Errors
/// Not found or not allowed.
pub async fn service_get(ctx: &OpCtx, id: ServiceId) -> Result<Opened<Service>, Error> {
    service_for(ctx, id, Permission::Read).await
}

/// Makes a service.
///
/// # Errors
/// A bad or taken name, a bad variable name, not found, or not allowed.
pub async fn service_create(ctx: &OpCtx, input: ServiceCreate) -> Result<Opened<Service>, Error> {
    let wanted = input.name.clone().filter(|text| !text.trim().is_empty());
    let chosen = wanted.map_or_else(|| Ok(secret::friendly_name()), |text| name::display("service name", &text))?;
    let (opened, environments) = match input.environment {
        Some(id) => {
            let environment = environment::environment_for(ctx, id, Permission::Write).await?;
            if environment.row.project_id != input.project {
                return Err(Error::not_found("Environment"));
            }
            // A token of one environment may add a service to that environment.
            let project = project::project_for(ctx, input.project, Permission::Read).await?;
            let everywhere = ctx.may(project.tenant.workspace(), Place::Project(input.project), Permission::Write);
            let alone = environment.row.is_ephemeral || !everywhere;
            let environments = if alone { vec![environment.row] } else { lasting(ctx, &project).await? };
            (project, environments)
        }
        None => {
            let project = project::project_for(ctx, input.project, Permission::Write).await?;
            let environments = lasting(ctx, &project).await?;
            (project, environments)
        }
    };
    let service = new_service(ctx, &opened.row, chosen, input.icon);
    let mut changes = vec![Change::ServiceInsert(service.clone())];
    let spec = InstanceSpec { source: input.source, ..InstanceSpec::default() };
    for environment in &environments {
        changes.push(Change::InstanceInsert(new_instance(ctx, environment, service.id, spec.clone())));
        let written = input.variables.iter().map(|(key, value)| (key.clone(), (value.clone(), None))).collect();
        changes.extend(variable::write(ctx, environment, Some(service.id), written, &mut vec![])?);
    }
    changes.push(ctx.activity(opened.tenant, Some(input.project), "service_create", service.id, json!({"name": service.name})));
    ctx.ops
        .store
        .commit(opened.tenant, changes)
        .await
        .map_err(|error| Error::from(error).when_taken(format!("A service named {:?} already exists in this project", service.name)))?;
    Ok(opened.with(service))
}

/// The environments that do not go away by themselves.
async fn lasting(ctx: &OpCtx, project: &Opened<Project>) -> Result<Vec<Environment>, Error> {
    let mut all = ctx.ops.store.environments_of(project.tenant, &[project.row.id]).await?;
    all.retain(|environment| !environment.is_ephemeral);
    Ok(all)
}

pub(crate) fn new_service(ctx: &OpCtx, project: &Project, name: String, icon: Option<String>) -> Service {
    Service {
        id: ServiceId::generate(),
        workspace_id: project.workspace_id,
        project_id: project.id,
        name,
        icon,
        created_at: ctx.now,
        updated_at: ctx.now,
    }
}

pub(crate) fn new_instance(ctx: &OpCtx, environment: &Environment, service: ServiceId, spec: InstanceSpec) -> Instance {
    Instance {
        id: InstanceId::generate(),
        workspace_id: environment.workspace_id,
        project_id: environment.project_id,
        environment_id: environment.id,
        service_id: service,
        number: 0,
        spec,
        created_at: ctx.now,
        updated_at: ctx.now,
    }
}

/// Renames a service or changes its icon.
///
/// # Errors
/// A bad or taken name, not found, or not allowed.
pub async fn service_update(
    ctx: &OpCtx,
    id: ServiceId,
    new_name: Option<String>,
    icon: Option<Option<String>>,
) -> Result<Opened<Service>, Error> {
    let mut opened = service_for(ctx, id, Permission::Write).await?;
    let before = opened.row.name.clone();
    if let Some(text) = new_name {
        opened.row.name = name::display("service name", &text)?;
    }
    if let Some(icon) = icon {
        opened.row.icon = icon.filter(|text| !text.is_empty());
    }
    opened.row.updated_at = ctx.now;
    let data = json!({"before": before, "after": opened.row.name});
    let activity = ctx.activity(opened.tenant, Some(opened.row.project_id), "service_update", id, data);
    ctx.ops
        .store
        .commit(opened.tenant, vec![Change::ServiceUpdate(opened.row.clone()), activity])
        .await
        .map_err(|error| Error::from(error).when_taken("A service of that name already exists in this project"))?;
    Ok(opened)
}

/// Deletes a service: in one environment when one is named and it is not the only one, else altogether.
///
/// # Errors
/// Not found or not allowed.
pub async fn service_delete(ctx: &OpCtx, id: ServiceId, environment: Option<EnvironmentId>) -> Result<(), Error> {
    let opened = match environment {
        Some(environment) => {
            let service = service_for(ctx, id, Permission::Read).await?;
            let here = environment::environment_for(ctx, environment, Permission::Write).await?;
            if here.row.project_id != service.row.project_id {
                return Err(Error::not_found("Environment"));
            }
            service
        }
        None => service_for(ctx, id, Permission::Write).await?,
    };
    let (tenant, project) = (opened.tenant, opened.row.project_id);
    let data = json!({"name": opened.row.name, "environment": environment});
    let (mut changes, gone) = deletion(ctx, tenant, id, environment).await?;
    changes.push(ctx.activity(tenant, Some(project), "service_delete", id, data));
    changes.extend(app::tell_of_removal(ctx, tenant, &gone).await?);
    ctx.commit(tenant, changes).await?;
    ctx.ops.signals.deployments_deleted();
    ctx.ops.signals.ring();
    Ok(())
}

/// What deletes a service as [`service_delete`] does, and the instances that go.
pub(crate) async fn deletion(
    ctx: &OpCtx,
    tenant: Tenant,
    id: ServiceId,
    environment: Option<EnvironmentId>,
) -> Result<(Vec<Change>, Vec<Instance>), Error> {
    let instances = ctx.ops.store.instances_of_services(tenant, &[id]).await?;
    let mut changes = vec![];
    match environment.map(|environment| instances.iter().find(|instance| instance.environment_id == environment)) {
        Some(None) => Err(Error::not_found("Service")),
        Some(Some(instance)) if instances.len() > 1 => {
            let domains = ctx.ops.store.domains_of_environments(tenant, &[instance.environment_id]).await?;
            changes.extend(domains.iter().filter(|domain| domain.service_id == id).map(|domain| Change::DomainDelete(domain.id)));
            changes.push(Change::VariablesClear { environment: instance.environment_id, service: Some(id) });
            changes.extend(volume::removals_with_service(ctx, tenant, id, &[instance.environment_id], false).await?);
            changes.push(Change::InstanceDelete(instance.id));
            Ok((changes, vec![instance.clone()]))
        }
        _ => {
            let environments: Vec<_> = instances.iter().map(|instance| instance.environment_id).collect();
            changes.extend(volume::removals_with_service(ctx, tenant, id, &environments, environment.is_none()).await?);
            changes.push(Change::ServiceDelete(id));
            Ok((changes, instances.clone()))
        }
    }
}

pub(crate) fn instance_place(instance: &Instance) -> Place {
    Place::Environment(instance.project_id, instance.environment_id)
}

pub(crate) async fn instance_for(
    ctx: &OpCtx,
    environment: EnvironmentId,
    service: ServiceId,
    permission: Permission,
) -> Result<Opened<Instance>, Error> {
    let opened = ctx.open(ctx.ops.store.instance_of(environment, service).await?, "ServiceInstance", instance_place, permission)?;
    project::check_stays(ctx, opened.tenant, opened.row.project_id, permission).await?;
    Ok(opened)
}

/// A service in an environment.
///
/// # Errors
/// Not found or not allowed.
pub async fn service_instance_get(ctx: &OpCtx, environment: EnvironmentId, service: ServiceId) -> Result<Opened<Instance>, Error> {
    instance_for(ctx, environment, service, Permission::Read).await
}

/// Changes settings, in one environment or in every lasting one. They take effect with the next deployment; a changed number of
/// replicas does so at once.
///
/// # Errors
/// A setting out of range, not found, or not allowed.
pub async fn service_instance_update(
    ctx: &OpCtx,
    service: ServiceId,
    environment: Option<EnvironmentId>,
    patch: InstancePatch,
) -> Result<(), Error> {
    change(ctx, service, environment, "service_instance_update", |spec| patch.clone().apply(spec, &ctx.ops.settings.region)).await
}

/// Sets where a service's code comes from, in every lasting environment; `None` means uploads alone.
///
/// # Errors
/// Not found or not allowed.
pub async fn service_source_set(ctx: &OpCtx, service: ServiceId, source: Option<Source>) -> Result<Opened<Service>, Error> {
    let set = |spec: &mut InstanceSpec| {
        spec.source.clone_from(&source);
        Ok(())
    };
    change(ctx, service, None, "service_source_set", set).await?;
    service_get(ctx, service).await
}

/// Sets limits of each replica of a service in an environment, those that are named. They take effect with the next deployment.
///
/// # Errors
/// Not found or not allowed.
pub async fn service_instance_limits_update(
    ctx: &OpCtx,
    environment: EnvironmentId,
    service: ServiceId,
    limits: Limits,
) -> Result<(), Error> {
    let set = |spec: &mut InstanceSpec| {
        let old = spec.deploy.limits;
        spec.deploy.limits =
            Limits { memory_bytes: limits.memory_bytes.or(old.memory_bytes), cpu_millis: limits.cpu_millis.or(old.cpu_millis) };
        Ok(())
    };
    change(ctx, service, Some(environment), "service_instance_limits_update", set).await
}

/// Changes the settings of a service in one environment or in every lasting one, with one activity for each that is changed.
async fn change(
    ctx: &OpCtx,
    service: ServiceId,
    environment: Option<EnvironmentId>,
    verb: &str,
    apply: impl Fn(&mut InstanceSpec) -> Result<(), Error>,
) -> Result<(), Error> {
    let apply = &apply;
    anew(|| change_once(ctx, service, environment, verb, apply)).await
}

async fn change_once(
    ctx: &OpCtx,
    service: ServiceId,
    environment: Option<EnvironmentId>,
    verb: &str,
    apply: &impl Fn(&mut InstanceSpec) -> Result<(), Error>,
) -> Result<(), Error> {
    let instances = match environment {
        Some(environment) => {
            let opened = instance_for(ctx, environment, service, Permission::Write).await?;
            opened.with(vec![opened.row.clone()])
        }
        None => {
            let opened = service_for(ctx, service, Permission::Write).await?;
            let environments = ctx.ops.store.environments_of(opened.tenant, &[opened.row.project_id]).await?;
            let mut all = ctx.ops.store.instances_of_services(opened.tenant, &[service]).await?;
            all.retain(|instance| environments.iter().any(|e| e.id == instance.environment_id && !e.is_ephemeral));
            opened.with(all)
        }
    };
    let (mut changes, mut woken, mut grown) = (vec![], vec![], vec![]);
    for mut instance in instances.row {
        let before = instance.spec.clone();
        apply(&mut instance.spec)?;
        if instance.spec == before {
            continue;
        }
        let held = ctx.ops.store.volume_instance_of_service(instances.tenant, instance.environment_id, service).await?;
        volume::check_replicas(&instance.spec, held.is_some())?;
        let count = instance.spec.deploy.replicas();
        grown.extend((count > before.deploy.replicas()).then_some((instance.id, count)));
        let seen = std::mem::replace(&mut instance.updated_at, ctx.now);
        let data = json!({"before": before, "after": instance.spec});
        changes.push(ctx.activity_of(instances.tenant, &instance, verb, instance.id, data));
        woken.push(instance.id);
        changes.push(Change::InstanceUpdate { row: instance, seen });
    }
    if !grown.is_empty() {
        changes.push(app::check_growth(ctx, instances.tenant, &grown).await?);
    }
    if !changes.is_empty() {
        ctx.commit(instances.tenant, changes).await?;
    }
    for instance in woken {
        ctx.ops.signals.wake(instances.tenant.workspace(), instance);
    }
    Ok(())
}
