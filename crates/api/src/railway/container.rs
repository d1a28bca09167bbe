//! The running copies of a service, one by one. An addition of this server's: the contract has them below a deployment only.

use domain::deployment::{Deployment, Replica};
use domain::{EnvironmentId, ReplicaId, ServiceId};
use juniper::{ID, graphql_object};

use super::enums::DeploymentInstanceStatus;
use super::inputs::id;
use crate::graphql::scalar::DateTime;
use crate::graphql::{Ctx, Fault, Scalar};

/// A running copy of a service.
pub(crate) struct ServiceContainer(Replica, Deployment);

#[graphql_object(context = Ctx, scalar = Scalar)]
impl ServiceContainer {
    fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }
    fn deployment_id(&self) -> String {
        self.1.id.to_string()
    }
    /// Its place among its deployment's, from 0.
    fn index(&self) -> i32 {
        i32::try_from(self.0.index).unwrap_or(i32::MAX)
    }
    /// Log lines and metrics name it so as `deploymentInstanceId`.
    fn id(&self) -> ID {
        ID::from(self.0.id.to_string())
    }
    /// Why it is as it is, when there is something to say.
    fn reason(&self) -> Option<&str> {
        self.0.reason.as_deref()
    }
    /// How often its app was started again.
    fn restarts(&self) -> i32 {
        i32::try_from(self.0.restarts).unwrap_or(i32::MAX)
    }
    fn status(&self) -> DeploymentInstanceStatus {
        self.0.status.into()
    }
    /// Since when it answers nobody although it runs.
    fn unhealthy_since(&self) -> Option<DateTime> {
        self.0.unhealthy_since.map(DateTime)
    }
    /// Since when it is in its status.
    fn updated_at(&self) -> DateTime {
        DateTime(self.0.updated_at)
    }
}

pub(crate) fn containers(ctx: &Ctx, environment: &str, service: &str) -> Result<Vec<ServiceContainer>, Fault> {
    let (environment, service) = (id("Environment", environment, EnvironmentId)?, id("Service", service, ServiceId)?);
    let found = ctx.wait(ops::app::containers(&ctx.op, environment, service))?;
    ctx.charge(found.len())?;
    Ok(found.into_iter().map(|(replica, deployment)| ServiceContainer(replica, deployment)).collect())
}

pub(crate) fn container_kill(ctx: &Ctx, environment: &str, container: &str, service: &str) -> Result<bool, Fault> {
    let (environment, service) = (id("Environment", environment, EnvironmentId)?, id("Service", service, ServiceId)?);
    let container = id("Container", container, ReplicaId)?;
    ctx.wait(ops::app::service_container_kill(&ctx.op, environment, service, container))?;
    Ok(true)
}
