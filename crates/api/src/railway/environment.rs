//! Environments and the names of their variables.

use std::sync::Arc;

use domain::page::Order;
use domain::{EnvironmentId, ProjectId, ServiceId, Tenant};
use juniper::{ID, graphql_object};
use ops::Opened;
use ops::deployment::DeploymentFilter;
use ops::environment::EnvironmentCreate;
use sha2::{Digest, Sha256};

use super::absent::EnvironmentMeta;
use super::connection::{connection, page, page_of, sized};
use super::deployment::Deployment;
use super::inputs::{EnvironmentCreateInput, id, id_option};
use super::service::{Service, ServiceInstance};
use super::volume::{EnvironmentVolumeInstancesConnection, VolumeInstance};
use crate::graphql::scalar::{DateTime, EnvironmentConfig};
use crate::graphql::{Ctx, Fault, Scalar};

/// The command-line client asks for so many variables at once when they are edited.
const MAX_VARIABLES: u32 = 10_000;

/// An environment that the principal may read.
#[derive(Clone)]
pub(crate) struct Environment {
    pub(crate) tenant: Tenant,
    pub(crate) row: Arc<domain::project::Environment>,
}

impl Environment {
    pub(crate) fn new(ctx: &Ctx, opened: Opened<domain::project::Environment>) -> Self {
        ctx.loader.announce_environments(opened.tenant, std::iter::once(&opened.row));
        Self { tenant: opened.tenant, row: Arc::new(opened.row) }
    }

    pub(crate) fn find(ctx: &Ctx, id: EnvironmentId) -> Result<Self, Fault> {
        Ok(Self::new(ctx, ctx.wait(ops::environment::environment_get(&ctx.op, id))?))
    }

    pub(crate) fn create(ctx: &Ctx, input: EnvironmentCreateInput) -> Result<Self, Fault> {
        let wanted = EnvironmentCreate {
            project: id("Project", &input.project_id, ProjectId)?,
            name: input.name,
            source: id_option("Environment", input.source_environment_id.as_deref(), EnvironmentId)?,
            ephemeral: input.ephemeral.unwrap_or(false),
            skip_deploys: input.skip_initial_deploys.unwrap_or(false),
        };
        Ok(Self::new(ctx, ctx.wait(ops::environment::environment_create(&ctx.op, wanted))?))
    }

    /// One that another row of the same tenant points to.
    pub(crate) fn of(ctx: &Ctx, tenant: Tenant, id: EnvironmentId) -> Result<Self, Fault> {
        Ok(Self { tenant, row: ctx.loader.environment(ctx, tenant, id)? })
    }

    pub(crate) fn cursor(&self) -> String {
        self.row.id.to_string()
    }
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl Environment {
    /// What the principal does not reach is not listed at all.
    fn can_access(&self) -> bool {
        true
    }
    fn config(&self, ctx: &Ctx, decrypt_variables: Option<bool>) -> Result<EnvironmentConfig, Fault> {
        let decrypt = decrypt_variables.unwrap_or(false);
        Ok(ctx.wait(ops::environment::environment_config(&ctx.op, self.row.id, decrypt))?.into())
    }
    fn created_at(&self) -> DateTime {
        DateTime(self.row.created_at)
    }
    fn deleted_at(&self) -> Option<DateTime> {
        None
    }
    fn deployments(
        &self,
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        last: Option<i32>,
    ) -> Result<EnvironmentDeploymentsConnection, Fault> {
        let filter = DeploymentFilter { environment: Some(self.row.id), ..DeploymentFilter::default() };
        let request = sized(page(after, before, first, last)?);
        Ok(Deployment::page(ctx, ctx.wait(ops::deployment::deployments(&ctx.op, filter, &request))?)?.into())
    }
    fn id(&self) -> ID {
        ID::from(self.row.id.to_string())
    }
    fn is_ephemeral(&self) -> bool {
        self.row.is_ephemeral
    }
    /// Whether deployments here wait for an approval, unless an admin asks for them.
    fn is_protected(&self) -> bool {
        self.row.is_protected
    }
    fn meta(&self) -> Option<EnvironmentMeta> {
        None
    }
    fn name(&self) -> &str {
        &self.row.name
    }
    fn project_id(&self) -> String {
        self.row.project_id.to_string()
    }
    fn service_instances(
        &self,
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        last: Option<i32>,
    ) -> Result<EnvironmentServiceInstancesConnection, Fault> {
        let rows = ctx.loader.instances_of_environment(ctx, self.tenant, self.row.id)?;
        let all = rows.iter().map(|row| ServiceInstance { tenant: self.tenant, row: Arc::clone(row) }).collect();
        Ok(page(after, before, first, last)?.cut(Order::Oldest, all, ServiceInstance::cursor)?.into())
    }
    fn source_environment(&self, ctx: &Ctx) -> Option<Environment> {
        // One that was deleted since, or that the key does not reach, is as good as none.
        self.row.source_environment_id.and_then(|id| Self::of(ctx, self.tenant, id).ok())
    }
    /// How many settings the staged change names.
    fn unmerged_changes_count(&self, ctx: &Ctx) -> Result<Option<i32>, Fault> {
        let staged = ctx.loader.staged_of(ctx, self.tenant, self.row.id)?;
        Ok(Some(staged.first().map_or(0, |count| i32::try_from(count.changes).unwrap_or(i32::MAX))))
    }
    fn updated_at(&self) -> DateTime {
        DateTime(self.row.updated_at)
    }
    fn variables(
        &self,
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        last: Option<i32>,
    ) -> Result<EnvironmentVariablesConnection, Fault> {
        let mut rows = ctx.read(ctx.op.ops.store.variables(self.tenant, self.row.id))?;
        ctx.charge(rows.len())?;
        rows.sort_by(|a, b| (a.service_id, &a.name).cmp(&(b.service_id, &b.name)));
        let all = rows.into_iter().map(|row| Variable::new(self.tenant, row)).collect();
        Ok(page_of(MAX_VARIABLES, after, before, first, last)?.cut(Order::Other, all, Variable::cursor)?.into())
    }
    fn volume_instances(
        &self,
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        last: Option<i32>,
    ) -> Result<EnvironmentVolumeInstancesConnection, Fault> {
        let all = VolumeInstance::of_environment(ctx, self.tenant, self.row.id)?;
        Ok(page(after, before, first, last)?.cut(Order::Oldest, all, VolumeInstance::cursor)?.into())
    }
}

connection! {
    /// Services in an environment.
    EnvironmentServiceInstancesConnection, EnvironmentServiceInstancesConnectionEdge, ServiceInstance;
    /// Deployments of an environment.
    EnvironmentDeploymentsConnection, EnvironmentDeploymentsConnectionEdge, Deployment;
    /// Variables of an environment, without their values.
    EnvironmentVariablesConnection, EnvironmentVariablesConnectionEdge, Variable;
}

/// A variable without its value.
#[derive(Clone)]
pub(crate) struct Variable {
    tenant: Tenant,
    environment: EnvironmentId,
    service: Option<ServiceId>,
    name: String,
    is_sealed: bool,
    updated_at: domain::Timestamp,
}

impl Variable {
    fn new(tenant: Tenant, row: domain::variable::Variable) -> Self {
        Self {
            tenant,
            environment: row.environment_id,
            service: row.service_id,
            name: row.name,
            is_sealed: row.is_sealed,
            updated_at: row.updated_at,
        }
    }

    /// Variables are known by place and name; clients want an id, so it is made from these.
    fn cursor(&self) -> String {
        let place = format!("{}/{:?}/{}", self.environment, self.service, self.name);
        let digest = Sha256::digest(place.as_bytes());
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
    }
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl Variable {
    fn environment(&self, ctx: &Ctx) -> Result<Environment, Fault> {
        Environment::of(ctx, self.tenant, self.environment)
    }
    fn environment_id(&self) -> Option<String> {
        Some(self.environment.to_string())
    }
    fn id(&self) -> ID {
        ID::from(self.cursor())
    }
    fn is_sealed(&self) -> bool {
        self.is_sealed
    }
    fn name(&self) -> &str {
        &self.name
    }
    fn service(&self, ctx: &Ctx) -> Result<Service, Fault> {
        let id = self.service.ok_or_else(|| Fault::not_found("Service"))?;
        Service::of(ctx, self.tenant, id)
    }
    fn service_id(&self) -> Option<String> {
        self.service.map(|id| id.to_string())
    }
    fn updated_at(&self) -> DateTime {
        DateTime(self.updated_at)
    }
}
