//! What a workspace's plan allows on this server, and how much of it is used.

use std::collections::HashMap;

use domain::account::Plan;
use domain::rate::{Day, Limits};
use domain::spec::MAX_REPLICAS;
use domain::{Tenant, Timestamp, WorkspaceId};
use store::{Store, StoreError};

use crate::Ops;

/// What a workspace uses of what its plan allows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    /// Containers that the workspace's apps are to have.
    pub containers: u32,
    /// Requests of all keys of the workspace since midnight UTC that were let through, as far as they are written down.
    pub allowed: u64,
    /// Those that were refused because a window was used up.
    pub refused: u64,
}

/// The limits of a plan beside what a workspace uses of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanUse {
    /// What is used.
    pub used: Used,
    /// How many its apps may be scaled to together. `None` where no app may be scaled.
    pub container_limit: Option<u32>,
    /// How many one app may have.
    pub containers_per_app: u32,
    /// Whether keys for Galaxy's API can be made.
    pub galaxy_keys: bool,
    /// Requests that each key may make, unless it has limits of its own.
    pub key_limits: Limits,
}

/// What workspaces use of their plans, in as many statements as for one. Those that use nothing are left out.
///
/// # Errors
/// The store does not answer.
pub async fn used(store: &Store, tenants: &[Tenant], now: Timestamp) -> Result<HashMap<WorkspaceId, Used>, StoreError> {
    let mut all: HashMap<WorkspaceId, Used> = HashMap::new();
    for instance in store.instances_of_workspaces(tenants).await? {
        all.entry(instance.workspace_id).or_default().containers += instance.spec.deploy.replicas();
    }
    for (workspace, today) in store.usage_of_workspaces(tenants, Day::of(now)).await? {
        let used = all.entry(workspace).or_default();
        (used.allowed, used.refused) = (today.allowed, today.refused);
    }
    Ok(all)
}

/// What a plan allows on this server, beside what is used of it.
#[must_use]
pub fn plan_use(ops: &Ops, plan: Plan, used: Used) -> PlanUse {
    let may_scale = plan != Plan::Free;
    PlanUse {
        used,
        container_limit: may_scale.then_some(ops.settings.apps.container_limit),
        containers_per_app: if may_scale { MAX_REPLICAS } else { 1 },
        galaxy_keys: plan == Plan::Professional,
        key_limits: ops.limits.of_plan(plan),
    }
}
