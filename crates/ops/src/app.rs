//! Apps: instances with a domain, as Galaxy's clients see and change them (`contracts/galaxy.md`).
//!
//! What they change is the same desired state that Railway's clients change; only ids, names and rules are Galaxy's.

mod notifications;
mod settings;
mod told;
mod transfer;
mod triggers;

use std::collections::{BTreeMap, BTreeSet};

use domain::account::{Plan, Workspace};
use domain::deployment::{DeployReason, Deployment, DeploymentStatus, Replica, ReplicaStatus};
use domain::galaxy::{self, ContainerType, KILLED};
use domain::project::{Domain, Instance};
use domain::spec::{DeploySpec, Limits, MAX_REPLICAS};
use domain::{Code, DeploymentId, DomainId, EnvironmentId, InstanceId, Permission, ProjectId, ReplicaId, ServiceId, Tenant, Timestamp};
use serde_json::json;
use store::{Change, DeploymentQuery};

use crate::certificate::OwnCertificate;
use crate::context::{Opened, anew};
use crate::service::instance_place;
use crate::{Error, OpCtx, batch, certificate, deployment, domain_name, environment, service, variable};

pub(crate) use notifications::mailboxes;
pub use notifications::{notification_settings_get, notification_settings_set};
pub use settings::{AppPatch, app_settings_set, meteor_settings_set};
pub(crate) use told::{tell_of_apps, tell_of_removal};
pub use transfer::app_transfer;
pub use triggers::{TriggerInput, service_trigger_save, service_triggers, trigger_over_limit, trigger_remove, trigger_runs, trigger_save};

/// What the operator says about apps.
#[derive(Clone, Debug)]
pub struct AppSettings {
    /// The sizes of containers.
    pub container_types: Vec<ContainerType>,
    /// Containers that an account may have over all its apps.
    pub container_limit: u32,
    /// The shortest time between two runs of a trigger, in seconds.
    pub trigger_seconds: u32,
    /// What a container has whose service sets no limits.
    pub default_limits: Limits,
}

impl Default for AppSettings {
    fn default() -> Self {
        Self { container_types: ContainerType::galaxy(), container_limit: 100, trigger_seconds: 60, default_limits: Limits::default() }
    }
}

impl AppSettings {
    /// The limits of a container in numbers; no limit is zero.
    #[must_use]
    pub fn limits(&self, deploy: &DeploySpec) -> (u64, u32) {
        let Limits { memory_bytes, cpu_millis } = self.default_limits;
        (deploy.limits.memory_bytes.or(memory_bytes).unwrap_or(0), deploy.limits.cpu_millis.or(cpu_millis).unwrap_or(0))
    }

    /// The type that the settings of an instance amount to, if it is one.
    #[must_use]
    pub fn type_of(&self, deploy: &DeploySpec) -> Option<&ContainerType> {
        let (memory, cpu) = self.limits(deploy);
        self.container_types.iter().find(|one| one.memory_bytes == memory && one.cpu_millis == cpu)
    }
}

/// An instance and the first of its domains, which names it.
#[derive(Clone, Debug)]
pub struct App {
    /// The desired state.
    pub instance: Instance,
    /// Its hostname.
    pub domain: Domain,
}

/// An account by its username: a person's or a team's workspace.
///
/// # Errors
/// `User not found`, also for one that the principal does not reach.
pub async fn account_get(ctx: &OpCtx, username: &str) -> Result<Opened<Workspace>, Error> {
    let found = ctx.ops.store.workspace_by_username(username.trim()).await?;
    ctx.open(found, "User", |_| domain::Place::Workspace, Permission::Read)
}

/// The apps of an account, oldest first. Those of a project that waits to be purged are gone.
///
/// # Errors
/// The store does not answer.
pub async fn apps(ctx: &OpCtx, tenant: Tenant) -> Result<Vec<App>, Error> {
    let mut instances = ctx.ops.store.instances_of_workspace(tenant).await?;
    let projects: BTreeSet<ProjectId> = instances.iter().map(|instance| instance.project_id).collect();
    let projects = ctx.ops.store.projects_by_id(tenant, &projects.into_iter().collect::<Vec<_>>()).await?;
    let living: BTreeSet<ProjectId> = projects.iter().filter(|project| project.deleted_at.is_none()).map(|project| project.id).collect();
    instances.retain(|instance| {
        living.contains(&instance.project_id) && ctx.may(tenant.workspace(), instance_place(instance), Permission::Read)
    });
    let domains = ctx.ops.store.domains_of_workspace(tenant).await?;
    let named = |instance: Instance| {
        let domain = domains.iter().find(|d| d.environment_id == instance.environment_id && d.service_id == instance.service_id)?;
        Some(App { domain: domain.clone(), instance })
    };
    Ok(instances.into_iter().filter_map(named).collect())
}

/// An app by one of its hostnames.
///
/// # Errors
/// `App not found`, also for one that the principal does not reach.
pub async fn app_by_host(ctx: &OpCtx, hostname: &str) -> Result<Opened<App>, Error> {
    let name = hostname.trim().trim_end_matches('.').to_ascii_lowercase();
    let found = ctx.ops.store.domain_by_name(&name).await?;
    let place = |domain: &Domain| domain::Place::Environment(domain.project_id, domain.environment_id);
    let domain = ctx.open(found, "App", place, Permission::Read)?;
    let instance = ctx.ops.store.instance_of(domain.row.environment_id, domain.row.service_id).await?;
    let instance = instance.and_then(|sealed| sealed.open(domain.tenant)).ok_or_else(|| Error::not_found("App"))?;
    named(ctx, domain.with(instance)).await
}

async fn named(ctx: &OpCtx, opened: Opened<Instance>) -> Result<Opened<App>, Error> {
    let (environment, service) = (opened.row.environment_id, opened.row.service_id);
    let domains = ctx.ops.store.domains_of_environments(opened.tenant, &[environment]).await?;
    let domain = domains.into_iter().find(|domain| domain.service_id == service).ok_or_else(|| Error::not_found("App"))?;
    Ok(opened.with(App { instance: opened.row.clone(), domain }))
}

/// An app by its id, for one permission.
///
/// # Errors
/// `App not found` for what is no id, is not there or cannot be seen; forbidden.
pub async fn app_for(ctx: &OpCtx, app_id: &str, permission: Permission) -> Result<Opened<App>, Error> {
    let found = match galaxy::app_range(app_id.trim()) {
        Some((first, last)) => ctx.ops.store.instance_between(first, last).await?,
        None => None,
    };
    named(ctx, ctx.open(found, "App", instance_place, permission)?).await
}

/// Sets the number of containers. Those that run go on.
///
/// # Errors
/// Out of range, beyond the account's limit, not found, or not allowed.
pub async fn container_count_set(ctx: &OpCtx, app_id: &str, count: i32) -> Result<Opened<App>, Error> {
    anew(|| async move {
        let app = app_for(ctx, app_id, Permission::Write).await?;
        let scaled = scale(ctx, app.with(app.row.instance.clone()), count, None).await?;
        Ok(app.with(App { instance: scaled.row, ..app.row.clone() }))
    })
    .await
}

/// The same for a trigger, whose name goes into the audit log.
///
/// # Errors
/// As [`container_count_set`].
pub async fn container_count_trigger(ctx: &OpCtx, instance: InstanceId, count: u32, trigger: &str) -> Result<(), Error> {
    let count = i32::try_from(count).unwrap_or(i32::MAX);
    let set = || async move {
        let opened = ctx.open(ctx.ops.store.instance(instance).await?, "App", instance_place, Permission::Write)?;
        scale(ctx, opened, count, Some(trigger)).await
    };
    anew(set).await.map(|_| ())
}

async fn scale(ctx: &OpCtx, mut opened: Opened<Instance>, count: i32, trigger: Option<&str>) -> Result<Opened<Instance>, Error> {
    let count = u32::try_from(count).ok().filter(|count| (1..=MAX_REPLICAS).contains(count)).ok_or_else(|| {
        Error::bad_input(format!("containerCount is {count}: it may be 1 to {}; stopApp ends all containers", MAX_REPLICAS))
    })?;
    let from = opened.row.spec.deploy.replicas();
    let mut changes = vec![];
    if count > from {
        changes.push(check_growth(ctx, opened.tenant, &[(opened.row.id, count)]).await?);
    }
    if count == from {
        return Ok(opened);
    }
    opened.row.spec.deploy.regions = [(ctx.ops.settings.region.clone(), count)].into();
    let seen = std::mem::replace(&mut opened.row.updated_at, ctx.now);
    let instance = opened.row.clone();
    let data = json!({"from": from, "to": count, "trigger": trigger});
    let activity = ctx.activity_of(opened.tenant, &instance, "container_count_set", instance.id, data);
    let id = instance.id;
    changes.extend([Change::InstanceUpdate { row: instance, seen }, activity]);
    commit(ctx, opened.tenant, id, changes).await?;
    Ok(opened)
}

/// What the plan and the operator allow, for instances that are to have so many replicas. Returns what is committed with them, so that two
/// who count at the same time do not both find room.
pub(crate) async fn check_growth(ctx: &OpCtx, tenant: Tenant, grown: &[(InstanceId, u32)]) -> Result<Change, Error> {
    let account = ctx.ops.store.workspace(tenant.workspace()).await?.and_then(|sealed| sealed.open(tenant));
    let account = account.ok_or_else(|| Error::not_found("Workspace"))?;
    if account.plan == Plan::Free {
        return Err(Error::new(Code::PlanLimit, "An app of a Free account has one container: change the account's plan to scale it"));
    }
    let is_grown = |instance: &Instance| grown.iter().any(|(id, _)| *id == instance.id);
    let all = ctx.ops.store.instances_of_workspace(tenant).await?;
    let others: u32 = all.iter().filter(|other| !is_grown(other)).map(|other| other.spec.deploy.replicas()).sum();
    let room = ctx.ops.settings.apps.container_limit.saturating_sub(others);
    let count: u32 = grown.iter().map(|(_, count)| count).sum();
    if count > room {
        return Err(Error::new(
            Code::PlanLimit,
            format!(
                "{count} containers are beyond the account's limit, which leaves {room} here: scale another app down, or ask the operator"
            ),
        ));
    }
    Ok(Change::WorkspaceGrow { seen: account.updated_at, at: ctx.now })
}

/// Containers that the account's limit leaves for one of its apps.
///
/// # Errors
/// The store does not answer.
pub async fn container_room(ctx: &OpCtx, tenant: Tenant, app: InstanceId) -> Result<u32, Error> {
    let all = ctx.ops.store.instances_of_workspace(tenant).await?;
    let others: u32 = all.iter().filter(|other| other.id != app).map(|other| other.spec.deploy.replicas()).sum();
    Ok(ctx.ops.settings.apps.container_limit.saturating_sub(others).min(MAX_REPLICAS))
}

async fn plan_of(ctx: &OpCtx, tenant: Tenant) -> Result<Plan, Error> {
    let found = ctx.ops.store.workspace(tenant.workspace()).await?;
    Ok(found.and_then(|sealed| sealed.open(tenant)).map_or(Plan::Free, |workspace| workspace.plan))
}

async fn commit(ctx: &OpCtx, tenant: Tenant, instance: InstanceId, changes: Vec<Change>) -> Result<(), Error> {
    ctx.commit(tenant, changes).await?;
    ctx.ops.signals.wake(tenant.workspace(), instance);
    Ok(())
}

async fn live(ctx: &OpCtx, app: &Opened<App>) -> Result<(Vec<Deployment>, Vec<Replica>), Error> {
    live_of(ctx, &app.with(app.row.instance.clone())).await
}

pub(crate) async fn live_of(ctx: &OpCtx, opened: &Opened<Instance>) -> Result<(Vec<Deployment>, Vec<Replica>), Error> {
    let deployments = ctx.ops.store.deployments_live(opened.tenant, &[opened.row.id]).await?;
    let ids: Vec<_> = deployments.iter().map(|deployment| deployment.id).collect();
    let replicas = ctx.ops.store.replicas_present(opened.tenant, &ids).await?;
    Ok((deployments, replicas))
}

/// Replaces a container by a fresh one.
///
/// # Errors
/// Not found, not allowed, or the container ends already.
pub async fn container_kill(ctx: &OpCtx, app_id: &str, container_id: &str) -> Result<Opened<(App, Replica)>, Error> {
    let app = app_for(ctx, app_id, Permission::Deploy).await?;
    let (_, replicas) = live(ctx, &app).await?;
    let wanted = container_id.trim();
    let is_it = |replica: &&Replica| replica.status.is_live() && galaxy::container_id(app.row.instance.id, replica.id) == wanted;
    let replica = replicas.iter().find(is_it).ok_or_else(|| Error::not_found("Container"))?;
    if replica.status == ReplicaStatus::Removing {
        return Err(Error::conflict("This container is being stopped already"));
    }
    let killed = kill(ctx, &app.with(app.row.instance.clone()), replica, None).await?;
    Ok(app.with((app.row.clone(), killed)))
}

/// The containers of a service in an environment that live, with their deployments, oldest first.
///
/// # Errors
/// Not found or not allowed.
pub async fn containers(ctx: &OpCtx, environment: EnvironmentId, service: ServiceId) -> Result<Vec<(Replica, Deployment)>, Error> {
    let opened = service::service_instance_get(ctx, environment, service).await?;
    let (deployments, replicas) = live_of(ctx, &opened).await?;
    let living = replicas.into_iter().filter(|replica| replica.status.is_live());
    let paired = living.filter_map(|replica| {
        let of = deployments.iter().find(|deployment| deployment.id == replica.deployment_id)?;
        Some((replica, of.clone()))
    });
    Ok(paired.collect())
}

/// Replaces a container of a service by a fresh one, as [`container_kill`] does for an app.
///
/// # Errors
/// Not found, not allowed, or the container ends already.
pub async fn service_container_kill(ctx: &OpCtx, environment: EnvironmentId, service: ServiceId, id: ReplicaId) -> Result<(), Error> {
    let opened = service::instance_for(ctx, environment, service, Permission::Deploy).await?;
    let (_, replicas) = live_of(ctx, &opened).await?;
    let replica = replicas.iter().find(|replica| replica.id == id && replica.status.is_live());
    let replica = replica.ok_or_else(|| Error::not_found("Container"))?;
    if replica.status == ReplicaStatus::Removing {
        return Err(Error::conflict("This container is being stopped already"));
    }
    kill(ctx, &opened, replica, None).await.map(|_| ())
}

/// The same for a trigger; a container that has gone meanwhile is no error.
///
/// # Errors
/// The store does not answer, or not allowed.
pub async fn container_kill_trigger(ctx: &OpCtx, instance: InstanceId, replica: ReplicaId, trigger: &str) -> Result<(), Error> {
    let opened = ctx.open(ctx.ops.store.instance(instance).await?, "App", instance_place, Permission::Deploy)?;
    let (_, replicas) = live_of(ctx, &opened).await?;
    let running = |row: &&Replica| row.id == replica && row.status == ReplicaStatus::Running;
    let Some(replica) = replicas.iter().find(running) else { return Ok(()) };
    match kill(ctx, &opened, replica, Some(trigger)).await {
        Err(error) if !error.is_stale() => Err(error),
        _ => Ok(()),
    }
}

async fn kill(ctx: &OpCtx, opened: &Opened<Instance>, replica: &Replica, trigger: Option<&str>) -> Result<Replica, Error> {
    let end = Change::ReplicaEnd { id: replica.id, reason: KILLED.to_owned(), at: ctx.now };
    let container = galaxy::container_id(opened.row.id, replica.id);
    let data = json!({"container": container, "trigger": trigger});
    let activity = ctx.activity_of(opened.tenant, &opened.row, "container_kill", replica.id, data);
    commit(ctx, opened.tenant, opened.row.id, vec![end, activity]).await?;
    ctx.ops.signals.deployment_changed(replica.deployment_id);
    Ok(Replica { status: ReplicaStatus::Removing, reason: Some(KILLED.to_owned()), updated_at: ctx.now, ..replica.clone() })
}

/// Ends all containers, and what is on its way to take their place; settings, logs and versions stay.
///
/// # Errors
/// Not found, not allowed, or nothing runs.
pub async fn app_stop(ctx: &OpCtx, app_id: &str) -> Result<Opened<App>, Error> {
    anew(|| stop(ctx, app_id)).await
}

async fn stop(ctx: &OpCtx, app_id: &str) -> Result<Opened<App>, Error> {
    let app = app_for(ctx, app_id, Permission::Deploy).await?;
    let (deployments, _) = live(ctx, &app).await?;
    let instance = &app.row.instance;
    let running = |d: &&Deployment| matches!(d.status, DeploymentStatus::Success | DeploymentStatus::Sleeping) && !d.stopped;
    let running = deployments.iter().rev().find(running);
    let coming: Vec<&Deployment> = deployments.iter().filter(|d| d.status.is_pending() && counts(d)).collect();
    let stopped = running.or_else(|| coming.last().copied());
    let stopped = stopped.ok_or_else(|| Error::conflict("The app does not run: there is nothing to stop"))?;
    let mut changes = vec![];
    for next in &coming {
        let data = json!({"was": next.status, "snapshot": next.snapshot_id});
        changes.extend(deployment::removal(next, ctx.now));
        changes.push(ctx.activity_of(app.tenant, instance, "deployment_cancel", next.id, data));
    }
    if let Some(running) = running {
        // No request wakes what somebody has stopped.
        changes.extend((running.status == DeploymentStatus::Sleeping).then(|| awake(running.id, ctx.now)));
        changes.push(Change::DeploymentStopped { id: running.id, stopped: true, of: None, at: ctx.now });
    }
    changes.push(ctx.activity_of(app.tenant, instance, "deployment_stop", stopped.id, json!({})));
    commit(ctx, app.tenant, instance.id, changes).await?;
    for changed in coming.into_iter().chain(running) {
        ctx.ops.signals.deployment_changed(changed.id);
    }
    Ok(app)
}

/// Starts a stopped app again, with what has been set meanwhile; one that has crashed or was removed, too.
///
/// # Errors
/// Not found, not allowed, it runs, or nothing of it was ever deployed.
pub async fn app_start(ctx: &OpCtx, app_id: &str) -> Result<Opened<App>, Error> {
    anew(|| start(ctx, app_id)).await
}

async fn start(ctx: &OpCtx, app_id: &str) -> Result<Opened<App>, Error> {
    let app = app_for(ctx, app_id, Permission::Deploy).await?;
    let (deployments, _) = live(ctx, &app).await?;
    let instance = &app.row.instance;
    let newest = deployments.iter().rev().find(|d| counts(d));
    if let Some(stopped) = newest.filter(|d| d.status == DeploymentStatus::Success && d.stopped)
        && is_as_set(ctx, &app, stopped).await?
    {
        let started = Change::DeploymentStopped { id: stopped.id, stopped: false, of: None, at: ctx.now };
        let activity = ctx.activity_of(app.tenant, instance, "deployment_start", stopped.id, json!({}));
        commit(ctx, app.tenant, instance.id, vec![started, activity]).await?;
        ctx.ops.signals.deployment_changed(stopped.id);
        return Ok(app);
    }
    if let Some(asleep) = newest.filter(|d| d.status == DeploymentStatus::Sleeping) {
        let activity = ctx.activity_of(app.tenant, instance, "deployment_start", asleep.id, json!({}));
        commit(ctx, app.tenant, instance.id, vec![awake(asleep.id, ctx.now), activity]).await?;
        ctx.ops.signals.deployment_changed(asleep.id);
        return Ok(app);
    }
    if newest.is_some_and(|d| !d.stopped && d.status != DeploymentStatus::Crashed) {
        return Err(Error::conflict("The app runs or is being started already"));
    }
    let again = newest_built(ctx, &app).await?;
    let again = again.ok_or_else(|| Error::conflict("Nothing of this app can be started: deploy it first"))?;
    let mut changes = vec![];
    batch::rest_on(ctx, app.tenant, instance.environment_id, &mut changes).await?;
    let environment = environment::environment_for(ctx, instance.environment_id, Permission::Deploy).await?;
    // Its settings may have changed since it was found.
    let instance = &service::instance_for(ctx, instance.environment_id, instance.service_id, Permission::Deploy).await?.row;
    changes.extend(deployment::repetition(ctx, &environment.row, instance, &again, variables(ctx, &app).await?));
    changes.push(ctx.activity_of(app.tenant, instance, "deployment_start", again.id, json!({})));
    commit(ctx, app.tenant, instance.id, changes).await?;
    Ok(app)
}

/// Whether what was stopped comes up as it is set now. What was set meanwhile is in it already ([`deployment::at_rest`]), but for what has
/// to be built or approved first.
async fn is_as_set(ctx: &OpCtx, app: &Opened<App>, stopped: &Deployment) -> Result<bool, Error> {
    let (set, was) = (deployment::settings_for(&app.row.instance, stopped), &stopped.spec.deploy);
    // What was rolled back starts as it did then.
    let command = set.deploy.start_command == was.start_command || stopped.reason == DeployReason::Rollback;
    if set.deploy.limits != was.limits || !command {
        return Ok(false);
    }
    let environment = environment::environment_get(ctx, app.row.instance.environment_id).await?;
    if !environment.row.is_protected {
        return Ok(true);
    }
    Ok(variables(ctx, app).await? == ctx.ops.store.deployment_variables(app.tenant, stopped.id).await?)
}

/// Whether an app runs is not said by a deployment that goes, nor by one that waits for an approval.
fn counts(deployment: &Deployment) -> bool {
    !matches!(deployment.status, DeploymentStatus::Removing | DeploymentStatus::NeedsApproval)
}

/// The change that takes a deployment out of its sleep.
fn awake(id: DeploymentId, at: Timestamp) -> Change {
    Change::DeploymentMove { id, from: DeploymentStatus::Sleeping, to: DeploymentStatus::Success, reason: None, at }
}

/// What can be started again. What waits for an approval, or was not given one, is not: starting is no way around it.
async fn newest_built(ctx: &OpCtx, app: &Opened<App>) -> Result<Option<Deployment>, Error> {
    let query = DeploymentQuery {
        environment: Some(app.row.instance.environment_id),
        service: Some(app.row.instance.service_id),
        statuses_not_in: vec![DeploymentStatus::NeedsApproval],
        ..DeploymentQuery::default()
    };
    deployment::newest(ctx, app.tenant, &query, |deployment| deployment.artifact.is_some()).await
}

/// What its next deployment sees.
async fn variables(ctx: &OpCtx, app: &Opened<App>) -> Result<BTreeMap<String, String>, Error> {
    let environment = environment::environment_get(ctx, app.row.instance.environment_id).await?;
    let service = service::service_get(ctx, app.row.instance.service_id).await?;
    variable::frozen(ctx, &environment, &service.row.name).await
}

/// Gives all containers another size, by replacing each of them.
///
/// # Errors
/// An unknown size, one that the plan has not, not found, or not allowed.
pub async fn container_type_set(ctx: &OpCtx, app_id: &str, container_type: &str) -> Result<Opened<App>, Error> {
    anew(|| resize(ctx, app_id, container_type)).await
}

async fn resize(ctx: &OpCtx, app_id: &str, container_type: &str) -> Result<Opened<App>, Error> {
    let mut app = app_for(ctx, app_id, Permission::Write).await?;
    let types = &ctx.ops.settings.apps.container_types;
    let chosen = types.iter().find(|one| one.is_meant_by(container_type)).ok_or_else(|| {
        let names: Vec<&str> = types.iter().map(|one| one.name.as_str()).collect();
        let asked: String = container_type.chars().take(60).collect();
        Error::bad_input(format!("there is no container type {asked:?}: choose one of {}", names.join(", ")))
    })?;
    if plan_of(ctx, app.tenant).await? == Plan::Free && types.first() != Some(chosen) {
        return Err(Error::new(Code::PlanLimit, "A Free account has the smallest container type only: change the account's plan first"));
    }
    let before = app.row.instance.spec.deploy.limits;
    let limits = Limits { memory_bytes: Some(chosen.memory_bytes), cpu_millis: Some(chosen.cpu_millis) };
    if before == limits {
        return Ok(app);
    }
    let from = ctx.ops.settings.apps.type_of(&app.row.instance.spec.deploy).map_or("custom", |one| one.name.as_str());
    let data = json!({"from": from, "to": chosen.name});
    app.row.instance.spec.deploy.limits = limits;
    let seen = std::mem::replace(&mut app.row.instance.updated_at, ctx.now);
    let instance = app.row.instance.clone();
    let activity = ctx.activity_of(app.tenant, &instance, "container_type_set", instance.id, data);
    let mut changes = vec![activity, Change::InstanceUpdate { row: instance.clone(), seen }];
    batch::rest_on(ctx, app.tenant, instance.environment_id, &mut changes).await?;
    let deployments = ctx.ops.store.deployments_live(app.tenant, &[instance.id]).await?;
    // A stopped app has the new size when it is started.
    let runs = deployments.iter().rev().find(|d| counts(d)).is_some_and(|d| !d.stopped);
    let environment = environment::environment_get(ctx, instance.environment_id).await?.row;
    if runs && let Some(mut next) = deployment::redeployment(ctx, &environment, &instance, &deployments, false) {
        changes.extend(deployment::insertion(ctx, &environment, &mut next, variables(ctx, &app).await?));
    }
    commit(ctx, app.tenant, instance.id, changes).await?;
    Ok(app)
}

/// Versions that can be restored, counted from the newest.
pub const RESTORABLE: usize = 10;

/// Deploys an earlier version's image again, without a build.
///
/// # Errors
/// Not found, not allowed, never built, no longer there, or older than the last ten.
pub async fn version_restore(ctx: &OpCtx, app_id: &str, version_id: &str) -> Result<Opened<App>, Error> {
    let app = app_for(ctx, app_id, Permission::Deploy).await?;
    let versions = ctx.ops.store.versions_of_instances(app.tenant, &[app.row.instance.id], store::MAX_VERSIONS).await?;
    let wanted = version_id.trim();
    let at = versions.iter().position(|(_, version)| galaxy::version_id(version.snapshot_id) == wanted);
    let at = at.ok_or_else(|| Error::not_found("Version"))?;
    if at >= RESTORABLE {
        return Err(Error::conflict(format!("Only the last {RESTORABLE} versions can be restored: deploy the source of this one again")));
    }
    deployment::deployment_rollback(ctx, versions[at].1.id).await?;
    Ok(app)
}

/// A hostname of an app as it is to be. What is `None` stays as it is, or is as usual.
#[derive(Clone)]
pub struct DomainSave {
    /// The app.
    pub app_id: String,
    /// The hostname.
    pub name: String,
    /// Whoever asks without TLS is sent there.
    pub force_https: Option<bool>,
    /// A certificate that its owner brings.
    pub own: Option<OwnCertificate>,
}

/// Gives an app another hostname, or changes how one of its hostnames deals with TLS.
///
/// # Errors
/// Not a domain name, taken, a certificate that cannot be used for it, not found, or not allowed.
pub async fn domain_save(ctx: &OpCtx, save: DomainSave) -> Result<Domain, Error> {
    let app = app_for(ctx, &save.app_id, Permission::Write).await?;
    let Instance { project_id, environment_id, service_id, .. } = app.row.instance;
    let text = domain::name::host(&save.name)?;
    if let Some(found) = ctx.ops.store.domain_by_name(&text).await?.and_then(|sealed| sealed.open(app.tenant))
        && is_of(&found, environment_id, service_id)
    {
        return domain_resave(ctx, app.tenant, found, save).await;
    }
    let input = domain_name::CustomDomainCreate {
        project: project_id,
        environment: environment_id,
        service: service_id,
        domain: save.name,
        target_port: None,
    };
    let (instance, mut domain) = domain_name::custom_domain(ctx, input).await?;
    domain.force_https = save.force_https.unwrap_or(domain.force_https);
    let own = save.own.map(|own| certificate::bring(&mut domain, &own, ctx.now)).transpose()?;
    domain_name::insert(ctx, instance, domain, "custom_domain_create", own.into_iter().collect()).await
}

async fn domain_resave(ctx: &OpCtx, tenant: Tenant, mut domain: Domain, save: DomainSave) -> Result<Domain, Error> {
    let id = domain.id;
    let mut changes = vec![];
    if let Some(force) = save.force_https.filter(|force| *force != domain.force_https) {
        domain.force_https = force;
        changes.push(Change::DomainHttps { id, force, at: ctx.now });
        let data = json!({"domain": domain.domain, "before": !force, "after": force});
        changes.push(ctx.activity(tenant, Some(domain.project_id), "domain_https_set", id, data));
    }
    if let Some(own) = save.own {
        changes.push(certificate::bring(&mut domain, &own, ctx.now)?);
        changes.push(ctx.activity(tenant, Some(domain.project_id), "domain_certificate_set", id, certificate::told(&domain)));
    }
    if !changes.is_empty() {
        ctx.commit(tenant, changes).await?;
        ctx.ops.signals.ring();
    }
    Ok(domain)
}

fn is_of(domain: &Domain, environment: EnvironmentId, service: ServiceId) -> bool {
    domain.environment_id == environment && domain.service_id == service
}

/// Takes a hostname from an app, all but the one that names it.
///
/// # Errors
/// Not found, not allowed, or it names the app.
pub async fn domain_remove(ctx: &OpCtx, domain_id: &str) -> Result<(), Error> {
    let id: DomainId = domain_id.trim().parse().map_err(|_| Error::not_found("Domain"))?;
    let found = crate::domain_name::domain_for(ctx, id).await?;
    let Domain { environment_id, service_id, kind, .. } = found.row;
    let all = ctx.ops.store.domains_of_environments(found.tenant, &[environment_id]).await?;
    if all.iter().find(|domain| domain.service_id == service_id).is_some_and(|first| first.id == id) {
        return Err(Error::conflict(format!("{} names the app and stays with it: deploy the app anew for another name", found.row.domain)));
    }
    crate::domain_name::domain_delete(ctx, id, kind).await
}
