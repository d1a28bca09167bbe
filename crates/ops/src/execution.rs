//! Runs of services with a schedule: listed and asked for here, carried out by the engine.

use std::collections::BTreeMap;

use domain::deployment::{DeploymentStatus, Execution, ExecutionStatus};
use domain::page::{Page, PageRequest};
use domain::{DeploymentId, EnvironmentId, InstanceId, Permission, ReplicaId, ServiceId};
use futures_core::Stream;
use serde_json::json;
use store::Change;

use crate::context::Opened;
use crate::deployment::{deployment_get, wait_for};
use crate::{Error, OpCtx, service};

/// Runs that are watched: the newest of their service, no more than any list of them shows.
const WATCHED: u32 = 50;

/// Runs of a service in an environment, newest first. A run's cursor is its id.
///
/// # Errors
/// Not found, not allowed, or a cursor that this list has not given out.
pub async fn deployment_instance_executions(
    ctx: &OpCtx,
    environment: EnvironmentId,
    service: ServiceId,
    page: &PageRequest,
) -> Result<Opened<Page<Execution>>, Error> {
    let instance = service::instance_for(ctx, environment, service, Permission::Read).await?;
    let found = ctx.ops.store.executions(instance.tenant, instance.row.id, &page.bounded()).await?;
    Ok(instance.with(found))
}

/// The runs of a deployment: the newest so far, oldest first, then each new one and each that changes. Does not end.
///
/// # Errors
/// Not found or not allowed.
pub async fn deployment_instance_executions_watch(
    ctx: &OpCtx,
    id: DeploymentId,
) -> Result<impl Stream<Item = Execution> + Send + use<>, Error> {
    let changes = ctx.ops.signals.changes();
    let Opened { tenant, row: deployment } = deployment_get(ctx, id).await?;
    let store = ctx.ops.store.clone();
    Ok(async_stream::stream! {
        let mut changes = changes;
        let mut seen: BTreeMap<ReplicaId, Execution> = BTreeMap::new();
        let newest = PageRequest { first: Some(WATCHED), ..PageRequest::default() };
        loop {
            match store.executions(tenant, deployment.instance_id, &newest).await {
                Ok(page) => {
                    let its = page.items.into_iter().filter(|execution| execution.deployment_id == id);
                    let its: BTreeMap<ReplicaId, Execution> = its.map(|execution| (execution.id, execution)).collect();
                    for (run, execution) in &its {
                        if seen.get(run) != Some(execution) {
                            yield execution.clone();
                        }
                    }
                    seen = its;
                }
                Err(error) => tracing::warn!(%error, "the runs of a watched deployment could not be read; the next change tries again"),
            }
            wait_for(&mut changes, id).await;
        }
    })
}

/// Runs a service with a schedule once, now, as its newest successful deployment has it.
///
/// # Errors
/// Not found, not allowed, nothing that runs by a schedule is deployed, or a run is under way.
pub async fn deployment_instance_execution_create(ctx: &OpCtx, id: InstanceId) -> Result<Execution, Error> {
    let found = ctx.ops.store.instance(id).await?;
    let Opened { tenant, row: instance } = ctx.open(found, "ServiceInstance", service::instance_place, Permission::Deploy)?;
    let live = ctx.ops.store.deployments_live(tenant, &[id]).await?;
    let serving = live.iter().rev().find(|deployment| deployment.status == DeploymentStatus::Success);
    let serving = serving.ok_or_else(|| Error::conflict("Nothing of this service is deployed: deploy it, then run it"))?;
    if serving.spec.deploy.cron_schedule.is_none() {
        return Err(Error::conflict("What is deployed of this service has no schedule: set cronSchedule and deploy it again"));
    }
    if serving.stopped {
        return Err(Error::conflict("This service was stopped: redeploy it, then run it"));
    }
    let execution = Execution {
        id: ReplicaId::generate(),
        workspace_id: tenant.workspace(),
        instance_id: id,
        deployment_id: serving.id,
        due_at: None,
        status: ExecutionStatus::Created,
        exit_code: None,
        reason: None,
        created_at: ctx.now,
        updated_at: ctx.now,
        completed_at: None,
    };
    let data = json!({"deployment": serving.id});
    let entry = ctx.activity_of(tenant, &instance, "deployment_instance_execution_create", execution.id, data);
    let made = ctx.commit(tenant, vec![Change::ExecutionInsert(execution.clone()), entry]).await;
    made.map_err(|error| error.when_taken("A run of this service is under way: wait for its end, or stop the deployment"))?;
    ctx.ops.signals.wake(tenant.workspace(), id);
    ctx.ops.signals.deployment_changed(serving.id);
    Ok(execution)
}
