//! Deployments of what is there already: what they take over from the earlier one.

use domain::Tenant;
use domain::deployment::{DeployReason, Deployment, DeploymentStatus, ReplicaStatus};
use domain::page::PageRequest;
use domain::project::{Environment, Instance};
use domain::rollout::STOPPED;
use domain::spec::InstanceSpec;
use store::DeploymentQuery;

use super::fresh;
use crate::{Error, OpCtx, approval};

/// The state in which a deployment of this artifact, or of this source, begins.
pub(crate) fn opening(of: &Deployment) -> DeploymentStatus {
    let built = of.artifact.is_some() && of.run.is_some();
    if built { DeploymentStatus::Deploying } else { DeploymentStatus::Initializing }
}

/// The newest deployment that can be deployed again: one that was not refused and is `usable`, behind any number of others.
pub(crate) async fn newest(
    ctx: &OpCtx,
    tenant: Tenant,
    query: &DeploymentQuery,
    usable: impl Fn(&Deployment) -> bool,
) -> Result<Option<Deployment>, Error> {
    let mut page = PageRequest { first: Some(20), ..PageRequest::default() };
    loop {
        let found = ctx.ops.store.deployments(tenant, query, &page).await?;
        page.after = found.items.last().filter(|_| found.has_next).map(|last| last.id.to_string());
        let newest = found.items.into_iter().find(|deployment| usable(deployment) && !deployment.is_refused());
        if newest.is_some() || page.after.is_none() {
            return Ok(newest);
        }
    }
}

/// A deployment of what an earlier one built, or of its source when it was not built.
pub(crate) fn again(ctx: &OpCtx, of: &Deployment, instance: &Instance, reason: DeployReason, spec: InstanceSpec) -> Deployment {
    Deployment {
        snapshot_id: of.snapshot_id,
        status: opening(of),
        source_blob: of.source_blob.clone(),
        artifact: of.artifact.clone(),
        run: of.run.clone(),
        message: of.message.clone(),
        ..fresh(ctx, instance, reason, spec)
    }
}

/// Whether somebody has stopped what is there of an instance. What has ended by itself counts as stopped, too, and runs again when its
/// settings change.
pub(crate) async fn is_stopped(ctx: &OpCtx, tenant: Tenant, live: &[Deployment]) -> Result<bool, Error> {
    let counts = |d: &&Deployment| !matches!(d.status, DeploymentStatus::Removing | DeploymentStatus::NeedsApproval);
    let Some(newest) = live.iter().rev().find(counts).filter(|d| d.status == DeploymentStatus::Success && d.stopped) else {
        return Ok(false);
    };
    let mut replicas = ctx.ops.store.replicas_of(tenant, &[newest.id]).await?;
    replicas.retain(|replica| replica.generation == newest.generation);
    let ended = replicas.iter().any(|replica| replica.status == ReplicaStatus::Exited);
    Ok(!ended || replicas.iter().any(|replica| replica.reason.as_deref() == Some(STOPPED)))
}

/// What follows from a change while somebody has stopped the instance: a deployment that is stopped as well, so that a later start has the
/// change. Nothing for one that would have to be built or approved first; that is left to the start.
pub(crate) fn at_rest(ctx: &OpCtx, environment: &Environment, next: Deployment) -> Option<Deployment> {
    let ready = next.status == DeploymentStatus::Deploying && !approval::needed(ctx, environment);
    ready.then_some(Deployment { status: DeploymentStatus::Success, stopped: true, ..next })
}

/// Today's settings, and on top of them what the source of the earlier deployment said. What a deployment from before that was noted has
/// taken from a file in its source, it keeps where today's settings leave it open.
pub(crate) fn settings_for(instance: &Instance, of: &Deployment) -> InstanceSpec {
    let mut spec = instance.spec.clone();
    let (new, old) = (&mut spec.deploy, &of.spec.deploy);
    if new.cron_schedule.is_none() && old.cron_in_source {
        (new.cron_schedule, new.cron_in_source) = (old.cron_schedule.clone(), true);
    }
    if let Some(said) = &old.in_source {
        said.apply(new);
        return spec;
    }
    new.start_command = new.start_command.take().or_else(|| old.start_command.clone());
    new.healthcheck_path = new.healthcheck_path.take().or_else(|| old.healthcheck_path.clone());
    new.healthcheck_timeout = new.healthcheck_timeout.or(old.healthcheck_timeout);
    if new.pre_deploy_command.is_empty() {
        new.pre_deploy_command.clone_from(&old.pre_deploy_command);
    }
    spec
}

/// Has the source of a deployment built again, if `wanted` or if it is to start with another command than what was built: that is a part of
/// what is built. Without a source what there is has to do.
pub(super) fn build_anew(next: &mut Deployment, of: &Deployment, instance: &Instance, wanted: bool) {
    if next.source_blob.is_some() && (wanted || next.spec.deploy.start_command != of.spec.deploy.start_command) {
        (next.artifact, next.run, next.status) = (None, None, DeploymentStatus::Initializing);
        // The build reads anew what the source says.
        next.spec.clone_from(&instance.spec);
    }
}
