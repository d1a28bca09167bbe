//! Which log a principal may read.

use domain::{DeploymentId, EnvironmentId, Permission};
use telemetry::LogScope;

use crate::{Error, OpCtx, deployment, environment};

/// The output of a deployment's app.
///
/// # Errors
/// Not found or not allowed.
pub async fn deployment_logs(ctx: &OpCtx, id: DeploymentId) -> Result<LogScope, Error> {
    let found = deployment::deployment_for(ctx, id, Permission::Read).await?;
    Ok(LogScope::Deployment { tenant: found.tenant, deployment: id })
}

/// The output of the build that made a deployment's artifact.
///
/// # Errors
/// Not found or not allowed.
pub async fn build_logs(ctx: &OpCtx, id: DeploymentId) -> Result<LogScope, Error> {
    let found = deployment::deployment_for(ctx, id, Permission::Read).await?;
    Ok(LogScope::Snapshot { tenant: found.tenant, snapshot: found.row.snapshot_id })
}

/// Everything of an environment.
///
/// # Errors
/// Not found or not allowed.
pub async fn environment_logs(ctx: &OpCtx, id: EnvironmentId) -> Result<LogScope, Error> {
    let found = environment::environment_get(ctx, id).await?;
    Ok(LogScope::Environment { tenant: found.tenant, environment: id })
}

/// The requests to a deployment.
///
/// # Errors
/// Not found or not allowed.
pub async fn http_logs(ctx: &OpCtx, id: DeploymentId) -> Result<LogScope, Error> {
    let found = deployment::deployment_for(ctx, id, Permission::Read).await?;
    Ok(LogScope::Requests { tenant: found.tenant, deployment: id })
}
