//! What one request has loaded: every relation between rows that a query can walk.
//!
//! Rows are announced where they are made into objects (`announce_…`), see [`crate::graphql::loader`]. Rows that a narrowed key does not
//! reach are dropped here, once, for all fields.

use std::sync::Arc;

use domain::account::Workspace;
use domain::deployment::{Deployment, Replica};
use domain::project::{Domain, Environment, Instance, Project, Service};
use domain::volume::{Volume, VolumeInstance};
use domain::{DeploymentId, EnvironmentId, InstanceId, Permission, Place, ProjectId, ServiceId, Tenant, VolumeId, WorkspaceId};
use store::{StagedCount, StoreError};

use crate::graphql::loader::{Children, Known, Relation};
use crate::graphql::{Ctx, Fault};

/// Deployments of a service that its plain list shows.
pub(crate) const HISTORY: u32 = 50;

#[derive(Default)]
pub(crate) struct Loader {
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
    instance_latest: Relation<InstanceId, Deployment>,
    instance_live: Relation<InstanceId, Deployment>,
    deployment_replicas: Relation<DeploymentId, Replica>,
    workspace_by_id: Relation<WorkspaceId, Workspace>,
    project_by_id: Relation<ProjectId, Project>,
    environment_by_id: Relation<EnvironmentId, Environment>,
    service_by_id: Relation<ServiceId, Service>,
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

    pub(crate) fn announce_volumes<'a>(&self, tenant: Tenant, rows: impl Iterator<Item = &'a Volume> + Clone) {
        self.projects.announce(tenant, rows.clone().map(|row| row.project_id));
        self.volumes.announce(tenant, rows.map(|row| row.id));
    }

    pub(crate) fn announce_volume_instances<'a>(&self, tenant: Tenant, rows: impl Iterator<Item = &'a VolumeInstance> + Clone) {
        self.volumes.announce(tenant, rows.clone().map(|row| row.volume_id));
        self.environments.announce(tenant, rows.clone().map(|row| row.environment_id));
        self.services.announce(tenant, rows.filter_map(|row| row.service_id));
    }

    pub(crate) fn volumes_of(&self, ctx: &Ctx, tenant: Tenant, project: ProjectId) -> Result<Children<Volume>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<ProjectId>| async move { store.volumes_of_projects(tenant, &ids).await };
        self.project_volumes.get(
            ctx,
            tenant,
            project,
            &self.projects,
            load,
            |row| row.project_id,
            |rows| {
                self.announce_volumes(tenant, rows.iter().map(AsRef::as_ref));
                for row in rows {
                    self.volume_by_id.seed(tenant, row.id, Arc::clone(row));
                }
            },
        )
    }

    pub(crate) fn volume_instances_of(
        &self,
        ctx: &Ctx,
        tenant: Tenant,
        environment: EnvironmentId,
    ) -> Result<Children<VolumeInstance>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<EnvironmentId>| async move { store.volume_instances_of_environments(tenant, &ids).await };
        self.environment_volumes.get(
            ctx,
            tenant,
            environment,
            &self.environments,
            load,
            |row| row.environment_id,
            |rows| self.announce_volume_instances(tenant, rows.iter().map(AsRef::as_ref)),
        )
    }

    pub(crate) fn instances_of_volume(&self, ctx: &Ctx, tenant: Tenant, id: VolumeId) -> Result<Children<VolumeInstance>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<VolumeId>| async move {
            only(store.volume_instances_of_volumes(tenant, &ids).await, |row| reads(ctx, tenant, row.project_id, row.environment_id))
        };
        self.volume_instances.get(
            ctx,
            tenant,
            id,
            &self.volumes,
            load,
            |row| row.volume_id,
            |rows| self.announce_volume_instances(tenant, rows.iter().map(AsRef::as_ref)),
        )
    }

    pub(crate) fn volume(&self, ctx: &Ctx, tenant: Tenant, id: VolumeId) -> Result<Arc<Volume>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<VolumeId>| async move { store.volumes_by_id(tenant, &ids).await };
        let rows = self.volume_by_id.get(ctx, tenant, id, &self.volumes, load, |row| row.id, |_| {})?;
        rows.first().map(Arc::clone).ok_or_else(|| Fault::not_found("Volume"))
    }

    pub(crate) fn environments_of(&self, ctx: &Ctx, tenant: Tenant, project: ProjectId) -> Result<Children<Environment>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<ProjectId>| async move {
            only(store.environments_of(tenant, &ids).await, |row| reads(ctx, tenant, row.project_id, row.id))
        };
        self.project_environments.get(
            ctx,
            tenant,
            project,
            &self.projects,
            load,
            |row| row.project_id,
            |rows| {
                self.announce_environments(tenant, rows.iter().map(AsRef::as_ref));
                for row in rows {
                    self.environment_by_id.seed(tenant, row.id, Arc::clone(row));
                }
            },
        )
    }

    pub(crate) fn services_of(&self, ctx: &Ctx, tenant: Tenant, project: ProjectId) -> Result<Children<Service>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<ProjectId>| async move { store.services_of(tenant, &ids).await };
        self.project_services.get(
            ctx,
            tenant,
            project,
            &self.projects,
            load,
            |row| row.project_id,
            |rows| {
                self.announce_services(tenant, rows.iter().map(AsRef::as_ref));
                for row in rows {
                    self.service_by_id.seed(tenant, row.id, Arc::clone(row));
                }
            },
        )
    }

    pub(crate) fn instances_of_environment(&self, ctx: &Ctx, tenant: Tenant, id: EnvironmentId) -> Result<Children<Instance>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<EnvironmentId>| async move { store.instances_of_environments(tenant, &ids).await };
        self.environment_instances.get(
            ctx,
            tenant,
            id,
            &self.environments,
            load,
            |row| row.environment_id,
            |rows| self.announce_instances(tenant, rows.iter().map(AsRef::as_ref)),
        )
    }

    pub(crate) fn instances_of_service(&self, ctx: &Ctx, tenant: Tenant, id: ServiceId) -> Result<Children<Instance>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<ServiceId>| async move {
            only(store.instances_of_services(tenant, &ids).await, |row| reads(ctx, tenant, row.project_id, row.environment_id))
        };
        self.service_instances.get(
            ctx,
            tenant,
            id,
            &self.services,
            load,
            |row| row.service_id,
            |rows| self.announce_instances(tenant, rows.iter().map(AsRef::as_ref)),
        )
    }

    pub(crate) fn deployments_of_service(&self, ctx: &Ctx, tenant: Tenant, id: ServiceId) -> Result<Children<Deployment>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<ServiceId>| async move {
            let found = store.deployments_of_services(tenant, &ids, HISTORY).await;
            only(found, |row| reads(ctx, tenant, row.project_id, row.environment_id))
        };
        self.service_deployments.get(
            ctx,
            tenant,
            id,
            &self.services,
            load,
            |row| row.service_id,
            |rows| self.announce_deployments(tenant, rows.iter().map(AsRef::as_ref)),
        )
    }

    pub(crate) fn domains_of(&self, ctx: &Ctx, tenant: Tenant, id: EnvironmentId) -> Result<Children<Domain>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<EnvironmentId>| async move { store.domains_of_environments(tenant, &ids).await };
        self.environment_domains.get(ctx, tenant, id, &self.environments, load, |row| row.environment_id, |_| {})
    }

    pub(crate) fn staged_of(&self, ctx: &Ctx, tenant: Tenant, id: EnvironmentId) -> Result<Children<StagedCount>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<EnvironmentId>| async move { store.staged_counts(tenant, &ids).await };
        self.environment_staged.get(ctx, tenant, id, &self.environments, load, |row| row.environment_id, |_| {})
    }

    pub(crate) fn latest_deployment(&self, ctx: &Ctx, tenant: Tenant, id: InstanceId) -> Result<Children<Deployment>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<InstanceId>| async move { store.deployments_latest(tenant, &ids).await };
        self.instance_latest.get(
            ctx,
            tenant,
            id,
            &self.instances,
            load,
            |row| row.instance_id,
            |rows| self.announce_deployments(tenant, rows.iter().map(AsRef::as_ref)),
        )
    }

    pub(crate) fn live_deployments(&self, ctx: &Ctx, tenant: Tenant, id: InstanceId) -> Result<Children<Deployment>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<InstanceId>| async move { store.deployments_live(tenant, &ids).await };
        self.instance_live.get(
            ctx,
            tenant,
            id,
            &self.instances,
            load,
            |row| row.instance_id,
            |rows| self.announce_deployments(tenant, rows.iter().map(AsRef::as_ref)),
        )
    }

    pub(crate) fn replicas_of(&self, ctx: &Ctx, tenant: Tenant, id: DeploymentId) -> Result<Children<Replica>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<DeploymentId>| async move { store.replicas_of(tenant, &ids).await };
        self.deployment_replicas.get(ctx, tenant, id, &self.deployments, load, |row| row.deployment_id, |_| {})
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
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<ProjectId>| async move { store.projects_by_id(tenant, &ids).await };
        let rows = self.project_by_id.get(ctx, tenant, id, &self.projects, load, |row| row.id, |_| {})?;
        rows.first().map(Arc::clone).ok_or_else(|| Fault::not_found("Project"))
    }

    pub(crate) fn environment(&self, ctx: &Ctx, tenant: Tenant, id: EnvironmentId) -> Result<Arc<Environment>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<EnvironmentId>| async move {
            only(store.environments_by_id(tenant, &ids).await, |row| reads(ctx, tenant, row.project_id, row.id))
        };
        let rows = self.environment_by_id.get(
            ctx,
            tenant,
            id,
            &self.environments,
            load,
            |row| row.id,
            |rows| self.announce_environments(tenant, rows.iter().map(AsRef::as_ref)),
        )?;
        rows.first().map(Arc::clone).ok_or_else(|| Fault::not_found("Environment"))
    }

    pub(crate) fn service(&self, ctx: &Ctx, tenant: Tenant, id: ServiceId) -> Result<Arc<Service>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<ServiceId>| async move { store.services_by_id(tenant, &ids).await };
        let rows = self.service_by_id.get(ctx, tenant, id, &self.services, load, |row| row.id, |_| {})?;
        rows.first().map(Arc::clone).ok_or_else(|| Fault::not_found("Service"))
    }
}
