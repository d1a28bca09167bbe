//! Runs triggers.
//!
//! Should be true after each pass: every enabled trigger whose time has come has run once, its next time is set, and its log says what it did
//! and why. A run is claimed before it acts, so that two control planes do not act twice; one that is killed in between has a number
//! without a log, and the next run decides anew.

use std::sync::Arc;
use std::time::Duration;

use domain::deployment::{DeploymentStatus, ReplicaStatus};
use domain::trigger::{self, Decision, Reading, Sample, Trigger, TriggerRun, Verdict};
use domain::{Tenant, Timestamp};
use jiff::SignedDuration;
use ops::OpCtx;
use ops::app::{container_count_trigger, container_kill_trigger, container_room, trigger_over_limit};
use store::{Change, StoreError};
use telemetry::metrics::{Resolution, Series};

use crate::Shared;

/// Triggers of one pass.
const BATCH: u32 = 50;
/// The clock's own look, for a bell that was lost.
const PERIOD: Duration = Duration::from_secs(30);
const FLOOR: Duration = Duration::from_millis(200);

/// Runs until the engine stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut rings = shared.ops.signals.work();
    loop {
        rings.mark_unchanged();
        let wait = pass(&shared).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "triggers could not be run; it is tried again");
            PERIOD
        });
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            _ = rings.changed() => {}
            () = tokio::time::sleep(wait.clamp(FLOOR, PERIOD)) => {}
        }
    }
}

/// Runs what is due. Returns how long nothing more is.
async fn pass(shared: &Arc<Shared>) -> Result<Duration, StoreError> {
    let store = &shared.ops.store;
    for trigger in store.system_triggers_due(Timestamp::now(), BATCH).await? {
        let tenant = Tenant::system(trigger.workspace_id);
        let next = Timestamp::now() + SignedDuration::from_secs(i64::from(trigger.spec.run_every));
        match store.commit(tenant, vec![Change::TriggerClaim { id: trigger.id, runs: trigger.runs, next }]).await {
            Ok(_) => {
                // The others do not wait for it.
                if let Err(error) = one(shared, tenant, &trigger).await {
                    tracing::warn!(%error, trigger = %trigger.id, "a trigger could not be run; its next run decides anew");
                }
            }
            // Somebody else runs it, or it was changed or removed.
            Err(StoreError::Stale) => {}
            Err(error) => tracing::warn!(%error, trigger = %trigger.id, "a trigger could not be begun; it is tried again"),
        }
    }
    let next = store.system_trigger_next().await?;
    Ok(next.map_or(PERIOD, |at| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO)))
}

async fn one(shared: &Arc<Shared>, tenant: Tenant, trigger: &Trigger) -> Result<(), StoreError> {
    let now = Timestamp::now();
    let ctx = OpCtx::system(&shared.ops, tenant, "trigger", now);
    let Some(reading) = reading(shared, &ctx, tenant, trigger, now).await? else { return Ok(()) };
    let Verdict { decision, mut log } = trigger::evaluate(&trigger.spec, &reading, now);
    let outcome = match act(shared, &ctx, trigger, &decision).await {
        Ok(true) => "executed",
        Ok(false) => "not executed",
        Err(reason) => {
            log.push(reason);
            "failed"
        }
    };
    let run = TriggerRun { trigger_id: trigger.id, number: trigger.runs + 1, at: now, outcome: outcome.to_owned(), log };
    match shared.ops.store.commit(tenant, vec![Change::TriggerRunInsert(run)]).await {
        // It was removed while it ran.
        Ok(_) | Err(StoreError::Stale) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What the app shows; `None` when it is gone.
async fn reading(shared: &Shared, ctx: &OpCtx, tenant: Tenant, trigger: &Trigger, now: Timestamp) -> Result<Option<Reading>, StoreError> {
    let store = &shared.ops.store;
    let Some(instance) = store.instance(trigger.instance_id).await?.and_then(|sealed| sealed.open(tenant)) else { return Ok(None) };
    let deployments = store.deployments_live(tenant, &[instance.id]).await?;
    let ids: Vec<_> = deployments.iter().map(|deployment| deployment.id).collect();
    let replicas = store.replicas_present(tenant, &ids).await?;
    let running: Vec<_> = replicas.iter().filter(|replica| replica.status == ReplicaStatus::Running).map(|replica| replica.id).collect();
    let limit = container_room(ctx, tenant, instance.id).await.unwrap_or_else(|error| {
        tracing::warn!(%error, "the account's limit of containers could not be read; no container is added");
        0
    });
    let series: Vec<Series> = running.iter().map(|replica| Series::Replica(*replica)).collect();
    let resolution = Resolution::parse(&trigger.spec.series).unwrap_or(Resolution::FiveSeconds);
    let wanted = trigger.spec.samples as usize + 1;
    let points = shared.ops.telemetry.metrics().series(tenant, &series, resolution, wanted, now);
    let points = points.unwrap_or_else(|error| {
        tracing::warn!(%error, "the metrics of an app could not be read; its triggers see none");
        vec![]
    });
    let percent = |used: f64, of: f64| if of > 0.0 { used / of * 100.0 } else { 0.0 };
    let samples = points.into_iter().map(|points| {
        let measured = points.into_iter().filter(|point| point.measured);
        let sample = measured.map(|point| Sample {
            at: point.at,
            cpu: percent(point.usage.cpu, point.usage.cpu_limit),
            memory: percent(point.usage.memory, point.usage.memory_limit),
            connections: point.usage.connections,
        });
        sample.collect()
    });
    Ok(Some(Reading {
        instance: instance.id,
        wanted: instance.spec.deploy.replicas(),
        deploying: deployments.iter().any(|deployment| deployment.status == DeploymentStatus::Deploying),
        stopped: !deployments.iter().any(|deployment| deployment.status == DeploymentStatus::Success && !deployment.stopped),
        limit,
        containers: running.into_iter().zip(samples).collect(),
    }))
}

/// Whether it did something, or why it could not.
async fn act(shared: &Shared, ctx: &OpCtx, trigger: &Trigger, decision: &Decision) -> Result<bool, String> {
    let (instance, name) = (trigger.instance_id, trigger.spec.name.as_str());
    match decision {
        Decision::Stay => Ok(false),
        Decision::Scale { to, .. } => container_count_trigger(ctx, instance, *to, name).await.map(|()| true).map_err(|error| error.public),
        Decision::Kill(chosen) => {
            for replica in chosen {
                container_kill_trigger(ctx, instance, *replica, name).await.map_err(|error| error.public)?;
            }
            Ok(true)
        }
        Decision::OverLimit { to } => {
            let written = trigger_over_limit(ctx, instance, trigger.id, name, *to).await;
            shared.tell();
            Err(written.map_or_else(|error| error.public, |()| "the account's limit of containers is reached".to_owned()))
        }
    }
}
