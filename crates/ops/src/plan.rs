//! What a workspace's plan allows on this server, and how much of it is used.

use domain::WorkspaceId;
use domain::account::Plan;
use domain::rate::{Day, DayUsage, Limits};
use domain::spec::MAX_REPLICAS;

use crate::{Error, OpCtx, account};

/// The limits of a plan beside what a workspace uses of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanUse {
    /// Containers that the workspace's apps are to have.
    pub containers: u32,
    /// How many its apps may be scaled to together. `None` where no app may be scaled.
    pub container_limit: Option<u32>,
    /// How many one app may have.
    pub containers_per_app: u32,
    /// Whether keys for Galaxy's API can be made.
    pub galaxy_keys: bool,
    /// Requests that each key may make, unless it has limits of its own.
    pub key_limits: Limits,
    /// Requests of all keys of the workspace since midnight UTC, as far as they are written down.
    pub today: DayUsage,
}

/// What a workspace's plan allows, and how much of it is used.
///
/// # Errors
/// Not found or not allowed.
pub async fn plan_use(ctx: &OpCtx, workspace: WorkspaceId) -> Result<PlanUse, Error> {
    let found = account::workspace_get(ctx, workspace).await?;
    let (tenant, plan) = (found.tenant, found.row.plan);
    let instances = ctx.ops.store.instances_of_workspace(tenant).await?;
    let may_scale = plan != Plan::Free;
    Ok(PlanUse {
        containers: instances.iter().map(|instance| instance.spec.deploy.replicas()).sum(),
        container_limit: may_scale.then_some(ctx.ops.settings.apps.container_limit),
        containers_per_app: if may_scale { MAX_REPLICAS } else { 1 },
        galaxy_keys: plan == Plan::Professional,
        key_limits: ctx.ops.limits.of_plan(plan),
        today: ctx.ops.store.usage_of_workspace(tenant, Day::of(ctx.now)).await?,
    })
}
