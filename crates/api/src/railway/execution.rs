//! Runs of services with a schedule (`contracts/railway.md` 3.8; the CLI's `cron`).

use std::sync::Arc;

use domain::deployment::{Deployment, Execution};
use domain::page::Page;
use domain::{DeploymentId, EnvironmentId, InstanceId, ServiceId};
use juniper::{ID, graphql_object};

use super::connection::{connection, page, sized};
use super::deployment::meta;
use super::enums::DeploymentInstanceStatus;
use super::inputs::{DeploymentInstanceExecutionListInput, id};
use crate::graphql::scalar::{DateTime, DeploymentMeta};
use crate::graphql::{Ctx, Fault, Scalar};

/// One run of a service with a schedule.
#[derive(Clone)]
pub(crate) struct DeploymentInstanceExecution {
    row: Execution,
    deployment: Arc<Deployment>,
}

impl DeploymentInstanceExecution {
    pub(crate) fn new(row: Execution, deployment: Arc<Deployment>) -> Self {
        Self { row, deployment }
    }
    fn cursor(&self) -> String {
        self.row.id.to_string()
    }
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl DeploymentInstanceExecution {
    fn completed_at(&self) -> Option<DateTime> {
        self.row.completed_at.map(DateTime)
    }
    fn created_at(&self) -> DateTime {
        DateTime(self.row.created_at)
    }
    fn deployment_id(&self) -> String {
        self.row.deployment_id.to_string()
    }
    fn deployment_meta(&self, ctx: &Ctx) -> DeploymentMeta {
        meta(&self.deployment, &ctx.op.ops.settings.region).into()
    }
    /// The exit status of its command. An addition of this server's.
    fn exit_code(&self) -> Option<i32> {
        self.row.exit_code
    }
    /// Log lines and metrics name it so as `deploymentInstanceId`.
    fn id(&self) -> ID {
        ID::from(self.row.id.to_string())
    }
    /// Why it ended as it did, when there is something to say. An addition of this server's.
    fn reason(&self) -> Option<&str> {
        self.row.reason.as_deref()
    }
    fn status(&self) -> DeploymentInstanceStatus {
        self.row.status.into()
    }
    fn updated_at(&self) -> DateTime {
        DateTime(self.row.updated_at)
    }
}

connection! {
    /// Runs of a service with a schedule.
    QueryDeploymentInstanceExecutionsConnection, QueryDeploymentInstanceExecutionsConnectionEdge, DeploymentInstanceExecution;
}

/// The four arguments of a connection.
type Asked = (Option<String>, Option<String>, Option<i32>, Option<i32>);

pub(crate) fn deployment_instance_executions(
    ctx: &Ctx,
    (after, before, first, last): Asked,
    input: &DeploymentInstanceExecutionListInput,
) -> Result<QueryDeploymentInstanceExecutionsConnection, Fault> {
    let environment = id("Environment", &input.environment_id, EnvironmentId)?;
    let service = id("Service", &input.service_id, ServiceId)?;
    let request = sized(page(after, before, first, last)?);
    let found = ctx.wait(ops::execution::deployment_instance_executions(&ctx.op, environment, service, &request))?;
    ctx.charge(found.row.items.len())?;
    let mut ids: Vec<DeploymentId> = found.row.items.iter().map(|row| row.deployment_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let all = ctx.read(ctx.op.ops.store.deployments_by_id(found.tenant, &ids))?;
    let all: Vec<Arc<Deployment>> = all.into_iter().map(Arc::new).collect();
    let Page { items, has_next, has_previous } = found.row;
    // A deployment that was deleted between the two readings took its runs along.
    let with = |row: Execution| {
        let deployment = all.iter().find(|deployment| deployment.id == row.deployment_id).map(Arc::clone)?;
        Some(DeploymentInstanceExecution { row, deployment })
    };
    Ok(Page { items: items.into_iter().filter_map(with).collect(), has_next, has_previous }.into())
}

pub(crate) fn deployment_instance_execution_create(ctx: &Ctx, service_instance: &str) -> Result<bool, Fault> {
    let instance = id("ServiceInstance", service_instance, InstanceId)?;
    ctx.wait(ops::execution::deployment_instance_execution_create(&ctx.op, instance))?;
    Ok(true)
}
