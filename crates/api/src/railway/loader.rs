//! What one request has loaded: every relation between rows that a query can walk.
//!
//! Rows are announced where they are made into objects (`announce_…`), see [`crate::graphql::loader`]. Rows that a narrowed key does not
//! reach are dropped here, once, for all fields.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use domain::account::{Member, Workspace};
use domain::activity::Activity;
use domain::deployment::{Deployment, Replica};
use domain::project::{Domain, Environment, Instance, Project, Service};
use domain::volume::{Volume, VolumeInstance};
use domain::{DeploymentId, EnvironmentId, InstanceId, Permission, Place, ProjectId, ServiceId, Tenant, VolumeId, WorkspaceId};
use ops::plan::Used;
use store::{StagedCount, StoreError};

use crate::graphql::loader::{Across, Children, Known, Relation};
use crate::graphql::{Ctx, Fault, lock};

/// Deployments of a service that are read together with those of its siblings.
pub(crate) const HISTORY: u32 = 50;
/// Deployments that the lists without pages of one document may have in all.
const MAX_PLAIN: u32 = 10_000;

#[derive(Default)]
pub(crate) struct Loader {
    /// Workspaces that the principal may read.
    tenants: Mutex<Vec<Tenant>>,
    workspace_members: Across<Vec<Member>>,
    workspace_credits: Across<i64>,
    workspace_used: Across<Used>,
    workspaces: Known<WorkspaceId>,
    projects: Known<ProjectId>,
    environments: Known<EnvironmentId>,
    services: Known<ServiceId>,
    instances: Known<InstanceId>,
    deployments: Known<DeploymentId>,
    volumes: Known<VolumeId>,
    project_environments: Relation<ProjectId, Environment>,
    project_services: Relation<ProjectId, Service>,
    environment_instances: Relation<EnvironmentId, Instance>,
    environment_domains: Relation<EnvironmentId, Domain>,
    environment_staged: Relation<EnvironmentId, StagedCount>,
    service_instances: Relation<ServiceId, Instance>,
    service_deployments: Relation<ServiceId, Deployment>,
    /// There are more than [`MAX_PLAIN`].
    too_many_deployments: AtomicBool,
    instance_latest: Relation<InstanceId, Deployment>,
    instance_live: Relation<InstanceId, Deployment>,
    deployment_replicas: Relation<DeploymentId, Replica>,
    workspace_by_id: Relation<WorkspaceId, Workspace>,
    project_by_id: Relation<ProjectId, Project>,
    environment_by_id: Relation<EnvironmentId, Environment>,
    service_by_id: Relation<ServiceId, Service>,
    instance_by_id: Relation<InstanceId, Instance>,
    project_volumes: Relation<ProjectId, Volume>,
    environment_volumes: Relation<EnvironmentId, VolumeInstance>,
    volume_instances: Relation<VolumeId, VolumeInstance>,
    volume_by_id: Relation<VolumeId, Volume>,
}

fn reads(ctx: &Ctx, tenant: Tenant, project: ProjectId, environment: EnvironmentId) -> bool {
    ctx.op.may(tenant.workspace(), Place::Environment(project, environment), Permission::Read)
}

fn only<T>(result: Result<Vec<T>, StoreError>, keep: impl Fn(&T) -> bool) -> Result<Vec<T>, StoreError> {
    result.map(|mut rows| {
        rows.retain(keep);
        rows
    })
}

impl Loader {
    pub(crate) fn announce_workspaces(&self, tenants: impl Iterator<Item = Tenant>) {
        lock(&self.tenants).extend(tenants);
    }

    fn tenants(&self) -> Vec<Tenant> {
        lock(&self.tenants).clone()
    }

    /// The members of a workspace, oldest account first.
    pub(crate) fn members(&self, ctx: &Ctx, tenant: Tenant) -> Result<Arc<Vec<Member>>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |tenants: Vec<Tenant>| async move {
            let mut all: HashMap<WorkspaceId, Vec<Member>> = HashMap::new();
            for (workspace, member) in store.members_of_workspaces(&tenants).await? {
                all.entry(workspace).or_default().push(member);
            }
            Ok(all)
        };
        self.workspace_members.get(ctx, tenant, &self.tenants(), load)
    }

    /// What a workspace's runs have used, in microcredits.
    pub(crate) fn flow_credits(&self, ctx: &Ctx, tenant: Tenant) -> Result<Arc<i64>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |tenants: Vec<Tenant>| async move { Ok(store.flow_credits_of_workspaces(&tenants).await?.into_iter().collect()) };
        self.workspace_credits.get(ctx, tenant, &self.tenants(), load)
    }

    /// What a workspace uses of its plan.
    pub(crate) fn plan_used(&self, ctx: &Ctx, tenant: Tenant) -> Result<Arc<Used>, Fault> {
        let (store, now) = (ctx.op.ops.store.clone(), ctx.op.now);
        let load = |tenants: Vec<Tenant>| async move { ops::plan::used(&store, &tenants, now).await };
        self.workspace_used.get(ctx, tenant, &self.tenants(), load)
    }

    pub(crate) fn announce_projects<'a>(&self, tenant: Tenant, rows: impl Iterator<Item = &'a Project>) {
        self.projects.announce(tenant, rows.map(|row| row.id));
    }

    pub(crate) fn announce_places(&self, tenant: Tenant, project: ProjectId, environment: EnvironmentId) {
        self.projects.announce(tenant, [project]);
        self.environments.announce(tenant, [environment]);
    }

    pub(crate) fn announce_environments<'a>(&self, tenant: Tenant, rows: impl Iterator<Item = &'a Environment> + Clone) {
        self.projects.announce(tenant, rows.clone().map(|row| row.project_id));
        self.environments.announce(tenant, rows.clone().map(|row| row.id));
        self.environments.announce(tenant, rows.filter_map(|row| row.source_environment_id));
    }

    pub(crate) fn announce_services<'a>(&self, tenant: Tenant, rows: impl Iterator<Item = &'a Service> + Clone) {
        self.projects.announce(tenant, rows.clone().map(|row| row.project_id));
        self.services.announce(tenant, rows.map(|row| row.id));
    }

    pub(crate) fn announce_instances<'a>(&self, tenant: Tenant, rows: impl Iterator<Item = &'a Instance> + Clone) {
        self.instances.announce(tenant, rows.clone().map(|row| row.id));
        self.environments.announce(tenant, rows.clone().map(|row| row.environment_id));
        self.services.announce(tenant, rows.map(|row| row.service_id));
    }

    pub(crate) fn announce_deployments<'a>(&self, tenant: Tenant, rows: impl Iterator<Item = &'a Deployment> + Clone) {
        self.deployments.announce(tenant, rows.clone().map(|row| row.id));
        self.environments.announce(tenant, rows.clone().map(|row| row.environment_id));
        self.services.announce(tenant, rows.map(|row| row.service_id));
    }

    /// What entries of the audit log are about, as far as it is still there.
    pub(crate) fn announce_activities<'a>(&self, tenant: Tenant, rows: impl Iterator<Item = &'a Activity> + Clone) {
        self.instances.announce(tenant, rows.clone().filter_map(|row| row.instance_id));
        self.environments.announce(tenant, rows.clone().filter_map(Activity::environment));
        self.services.announce(tenant, rows.filter_map(Activity::service));
    }

    pub(crate) fn announce_volumes<'a>(&self, tenant: Tenant, rows: impl Iterator<Item = &'a Volume> + Clone) {
        self.projects.announce(tenant, rows.clone().map(|row| row.project_id));
        self.volumes.announce(tenant, rows.map(|row| row.id));
    }

    pub(crate) fn announce_volume_instances<'a>(&self, tenant: Tenant, rows: impl Iterator<Item = &'a VolumeInstance> + Clone) {
        self.volumes.announce(tenant, rows.clone().map(|row| row.volume_id));
        self.environments.announce(tenant, rows.clone().map(|row| row.environment_id));
        self.services.announce(tenant, rows.filter_map(|row| row.service_id));
    }

    fn see_environments(&self, tenant: Tenant, rows: &[Arc<Environment>]) {
        self.announce_environments(tenant, rows.iter().map(AsRef::as_ref));
        for row in rows {
            self.environment_by_id.seed(tenant, row.id, Arc::clone(row));
        }
    }

    fn see_services(&self, tenant: Tenant, rows: &[Arc<Service>]) {
        self.announce_services(tenant, rows.iter().map(AsRef::as_ref));
        for row in rows {
            self.service_by_id.seed(tenant, row.id, Arc::clone(row));
        }
    }

    fn see_instances(&self, tenant: Tenant, rows: &[Arc<Instance>]) {
        self.announce_instances(tenant, rows.iter().map(AsRef::as_ref));
    }

    fn see_deployments(&self, tenant: Tenant, rows: &[Arc<Deployment>]) {
        self.announce_deployments(tenant, rows.iter().map(AsRef::as_ref));
    }

    fn see_volumes(&self, tenant: Tenant, rows: &[Arc<Volume>]) {
        self.announce_volumes(tenant, rows.iter().map(AsRef::as_ref));
        for row in rows {
            self.volume_by_id.seed(tenant, row.id, Arc::clone(row));
        }
    }

    fn see_volume_instances(&self, tenant: Tenant, rows: &[Arc<VolumeInstance>]) {
        self.announce_volume_instances(tenant, rows.iter().map(AsRef::as_ref));
    }

    pub(crate) fn workspace(&self, ctx: &Ctx, tenant: Tenant) -> Result<Option<Arc<Workspace>>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |_| async move {
            let found = store.workspace(tenant.workspace()).await?;
            Ok(found.and_then(|sealed| sealed.open(tenant)).into_iter().collect())
        };
        let rows = self.workspace_by_id.get(ctx, tenant, tenant.workspace(), &self.workspaces, load, |row| row.id, |_| {})?;
        Ok(rows.first().map(Arc::clone))
    }

    pub(crate) fn project(&self, ctx: &Ctx, tenant: Tenant, id: ProjectId) -> Result<Arc<Project>, Fault> {
        the_one("Project", &self.projects_called(ctx, tenant, id)?)
    }

    pub(crate) fn environment(&self, ctx: &Ctx, tenant: Tenant, id: EnvironmentId) -> Result<Arc<Environment>, Fault> {
        the_one("Environment", &self.environments_called(ctx, tenant, id)?)
    }

    pub(crate) fn service(&self, ctx: &Ctx, tenant: Tenant, id: ServiceId) -> Result<Arc<Service>, Fault> {
        the_one("Service", &self.services_called(ctx, tenant, id)?)
    }

    pub(crate) fn volume(&self, ctx: &Ctx, tenant: Tenant, id: VolumeId) -> Result<Arc<Volume>, Fault> {
        the_one("Volume", &self.volumes_called(ctx, tenant, id)?)
    }
}

impl Loader {
    /// The newest deployments of a service, at most [`HISTORY`]; all of them for a document with lists that have no pages. What a key of
    /// one environment does not see is not read, so that it takes no place among them.
    pub(crate) fn deployments_of_service(&self, ctx: &Ctx, tenant: Tenant, id: ServiceId) -> Result<Children<Deployment>, Fault> {
        let (store, environment, plain) = (ctx.op.ops.store.clone(), ctx.op.grants().environment(), ctx.plain_lists);
        let load = |ids: Vec<ServiceId>| async move {
            let found = if plain {
                store.deployments_of_services_all(tenant, &ids, environment, MAX_PLAIN + 1).await
            } else {
                store.deployments_of_services(tenant, &ids, environment, HISTORY).await
            };
            only(found, |row| reads(ctx, tenant, row.project_id, row.environment_id))
        };
        let see = |rows: &[Arc<Deployment>]| {
            if plain && rows.len() > MAX_PLAIN as usize {
                self.too_many_deployments.store(true, Ordering::Relaxed);
            }
            self.see_deployments(tenant, rows);
        };
        let found = self.service_deployments.get(ctx, tenant, id, &self.services, load, |row| row.service_id, see)?;
        if self.too_many_deployments.load(Ordering::Relaxed) {
            return Err(Fault::too_complex(format!(
                "The services have more than {MAX_PLAIN} deployments in all: ask for pages of them, deployments(first: 50) {{ edges … }}"
            )));
        }
        Ok(found)
    }
}

fn the_one<T>(what: &'static str, rows: &Children<T>) -> Result<Arc<T>, Fault> {
    rows.first().map(Arc::clone).ok_or_else(|| Fault::not_found(what))
}

/// For rows below which nothing is looked up.
fn leaf<T>(_: &Loader, _: Tenant, _: &[Arc<T>]) {}

/// `NAME(KEY) -> ROW = CELLS below KNOWN by FIELD: READ(MORE) if PLACE, SEE;`: the rows of a key, which their FIELD says, are kept in
/// CELLS. The first of them is read together with those of all KNOWN keys, by the store's READ; a narrowed key sees those of its
/// environment, which PLACE says; and SEE takes them in before any of them is looked into.
macro_rules! relations {
    (@read $found:expr) => { $found };
    (@read $found:expr, $ctx:ident, $tenant:ident, $place:ident) => {
        only($found, |row| reads($ctx, $tenant, row.project_id, row.$place))
    };
    ($($name:ident($key:ty) -> $row:ty = $cells:ident below $known:ident by $field:ident:
        $read:ident($($more:expr),*) $(if $place:ident)?, $see:path;)+) => {
        impl Loader {$(
            pub(crate) fn $name(&self, ctx: &Ctx, tenant: Tenant, id: $key) -> Result<Children<$row>, Fault> {
                let store = ctx.op.ops.store.clone();
                let load = |ids: Vec<$key>| async move {
                    relations!(@read store.$read(tenant, &ids $(, $more)*).await $(, ctx, tenant, $place)?)
                };
                self.$cells.get(ctx, tenant, id, &self.$known, load, |row| row.$field, |rows| $see(self, tenant, rows))
            }
        )+}
    };
}

relations! {
    projects_called(ProjectId) -> Project = project_by_id below projects by id: projects_by_id(), leaf;
    environments_called(EnvironmentId) -> Environment = environment_by_id below environments by id:
        environments_by_id() if id, Loader::see_environments;
    services_called(ServiceId) -> Service = service_by_id below services by id: services_by_id(), leaf;
    instances_called(InstanceId) -> Instance = instance_by_id below instances by id:
        instances_by_id() if environment_id, Loader::see_instances;
    volumes_called(VolumeId) -> Volume = volume_by_id below volumes by id: volumes_by_id(), leaf;
    environments_of(ProjectId) -> Environment = project_environments below projects by project_id:
        environments_of() if id, Loader::see_environments;
    services_of(ProjectId) -> Service = project_services below projects by project_id: services_of(), Loader::see_services;
    volumes_of(ProjectId) -> Volume = project_volumes below projects by project_id: volumes_of_projects(), Loader::see_volumes;
    instances_of_environment(EnvironmentId) -> Instance = environment_instances below environments by environment_id:
        instances_of_environments(), Loader::see_instances;
    volume_instances_of(EnvironmentId) -> VolumeInstance = environment_volumes below environments by environment_id:
        volume_instances_of_environments(), Loader::see_volume_instances;
    domains_of(EnvironmentId) -> Domain = environment_domains below environments by environment_id: domains_of_environments(), leaf;
    staged_of(EnvironmentId) -> StagedCount = environment_staged below environments by environment_id: staged_counts(), leaf;
    instances_of_service(ServiceId) -> Instance = service_instances below services by service_id:
        instances_of_services() if environment_id, Loader::see_instances;
    instances_of_volume(VolumeId) -> VolumeInstance = volume_instances below volumes by volume_id:
        volume_instances_of_volumes() if environment_id, Loader::see_volume_instances;
    latest_deployment(InstanceId) -> Deployment = instance_latest below instances by instance_id:
        deployments_latest(), Loader::see_deployments;
    live_deployments(InstanceId) -> Deployment = instance_live below instances by instance_id: deployments_live(), Loader::see_deployments;
    replicas_of(DeploymentId) -> Replica = deployment_replicas below deployments by deployment_id: replicas_of(), leaf;
}
