//! What is told of apps when something around them changes.

use domain::Tenant;
use domain::project::{Domain, Instance};
use serde_json::Value;
use store::Change;

use super::is_of;
use crate::{Error, OpCtx};

/// An entry of the audit log for each app among the instances. `data` is given the app's hostname, which nobody knows any more once it is
/// deleted.
pub(crate) async fn tell_of_apps(
    ctx: &OpCtx,
    tenant: Tenant,
    instances: &[Instance],
    verb: &str,
    data: impl Fn(&str) -> Value,
) -> Result<Vec<Change>, Error> {
    let domains = ctx.ops.store.domains_of_workspace(tenant).await?;
    let entry = |instance: &Instance| {
        let is_its = |domain: &&Domain| is_of(domain, instance.environment_id, instance.service_id);
        let domain = domains.iter().find(is_its)?;
        Some(ctx.activity_of(tenant, instance, verb, instance.id, data(&domain.domain)))
    };
    Ok(instances.iter().filter_map(entry).collect())
}

/// The same for apps that are deleted.
pub(crate) async fn tell_of_removal(ctx: &OpCtx, tenant: Tenant, instances: &[Instance]) -> Result<Vec<Change>, Error> {
    tell_of_apps(ctx, tenant, instances, domain::galaxy::APP_REMOVED, |host| serde_json::json!({"host": host})).await
}
