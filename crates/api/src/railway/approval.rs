//! Deployments that wait for an admin. Which environments are protected so is an addition of this server's: the contract has the status
//! and the approval alone.

use domain::{DeploymentId, EnvironmentId};

use super::inputs::id;
use crate::graphql::{Ctx, Fault};

pub(crate) fn deployment_approve(ctx: &Ctx, deployment: &str) -> Result<bool, Fault> {
    ctx.wait(ops::approval::deployment_approve(&ctx.op, id("Deployment", deployment, DeploymentId)?))?;
    Ok(true)
}

pub(crate) fn environment_protect(ctx: &Ctx, environment: &str, protected: bool) -> Result<bool, Fault> {
    ctx.wait(ops::environment::environment_protect(&ctx.op, id("Environment", environment, EnvironmentId)?, protected))?;
    Ok(true)
}
