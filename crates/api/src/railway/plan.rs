//! What a workspace's plan allows: fields of this server's own.

use domain::account::Workspace;
use domain::{Permission, Place};
use juniper::GraphQLObject;

use super::api_key::{ApiKeyLimits, whole};
use crate::graphql::{Ctx, Fault, Scalar};

/// The limits of a plan beside what a workspace uses of them.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct PlanUse {
    /// Containers that the workspace's apps may be scaled to together; null where no app may be scaled.
    container_limit: Option<i32>,
    /// Containers that its apps are to have.
    containers: i32,
    /// Containers that one app may have.
    containers_per_app: i32,
    /// Whether keys for Galaxy's API can be made.
    galaxy_keys: bool,
    /// Requests that each key may make, unless it has limits of its own.
    key_limits: ApiKeyLimits,
    /// Requests that the workspace's keys made since midnight UTC and that were refused because a window was used up.
    requests_refused: f64,
    /// Requests that the workspace's keys made since midnight UTC; they are added up with a delay of about a second.
    requests_today: f64,
}

pub(crate) fn plan_use(ctx: &Ctx, of: &Workspace) -> Result<PlanUse, Fault> {
    let tenant = ctx.op.allow(of.id, Place::Workspace, Permission::Read)?;
    let found = ops::plan::plan_use(&ctx.op.ops, of.plan, *ctx.loader.plan_used(ctx, tenant)?);
    Ok(PlanUse {
        container_limit: whole(found.container_limit),
        containers: whole(Some(found.used.containers)).unwrap_or_default(),
        containers_per_app: whole(Some(found.containers_per_app)).unwrap_or_default(),
        galaxy_keys: found.galaxy_keys,
        key_limits: found.key_limits.into(),
        requests_refused: count(found.used.refused),
        requests_today: count(found.used.allowed),
    })
}

// A day's requests are far below the 2^53 from which on this would be inexact.
fn count(requests: u64) -> f64 {
    requests as f64
}
