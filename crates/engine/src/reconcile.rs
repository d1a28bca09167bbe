//! The reconciler: reads, plans, and performs the plan.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use domain::deployment::{Deployment, DeploymentEvent, DeploymentStatus, EventStep, Replica, ReplicaStatus};
use domain::log::LogKind;
use domain::rollout::{self, Plan, Transition};
use domain::{DeploymentId, EventId, InstanceId, ReplicaId, Tenant, Timestamp, WorkspaceId};
use runtime::{Observation, ObservedPhase, ReplicaSpec, UnixUser};
use store::{Change, StoreError};

use crate::observe::{self, View};
use crate::routes::{self, Offer};
use crate::{Shared, build, ingest, lock};

/// Unix users of instances are numbered from here.
const FIRST_UID: u32 = 200_000;

/// Runs passes until the engine stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut signals = shared.ops.signals.work();
    let mut driver = shared.driver.bell();
    let mut own = shared.bell.subscribe();
    let mut period = tokio::time::interval(shared.config.period);
    let mut again_at: Option<tokio::time::Instant> = None;
    loop {
        let mut full = false;
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            _ = signals.changed() => {}
            _ = driver.changed() => {}
            _ = own.changed() => {}
            () = sleep_until(again_at) => full = true,
            _ = period.tick() => full = true,
        }
        signals.mark_unchanged();
        driver.mark_unchanged();
        own.mark_unchanged();
        again_at = pass(&shared, full).await;
    }
}

async fn sleep_until(at: Option<tokio::time::Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// Looks at every instance that may need something. Starts come before the table, the table before stops.
async fn pass(shared: &Arc<Shared>, full: bool) -> Option<tokio::time::Instant> {
    let seen: HashMap<ReplicaId, Observation> = match shared.driver.observe().await {
        Ok(all) => all.into_iter().map(|observation| (observation.replica_id, observation)).collect(),
        Err(error) => {
            tracing::error!(%error, "the driver does not answer; nothing is changed until it does");
            return None;
        }
    };
    let mut due: BTreeSet<(WorkspaceId, InstanceId)> = shared.ops.signals.take().into_iter().collect();
    due.extend(std::mem::take(&mut *lock(&shared.work)));
    // A bell of the driver names no instance, so whatever has work is looked at; a look that finds nothing to do costs a few reads.
    match shared.ops.store.system_instances_with_work().await {
        Ok(all) => due.extend(all),
        Err(error) => tracing::error!(%error, "the instances cannot be read; the next pass tries again"),
    }
    let mut stops = vec![];
    let mut again: Option<Timestamp> = None;
    for (workspace, instance) in due {
        match look(shared, workspace, instance, &seen).await {
            Ok(Some((view, plan))) => {
                again = [again, plan.again_at].into_iter().flatten().min();
                stops.push((view, plan));
            }
            Ok(None) => {}
            // Someone else moved it between reading and writing: the next pass sees the new state.
            Err(StoreError::Stale) => shared.look(workspace, instance),
            Err(error) => tracing::error!(%error, %instance, "an instance could not be reconciled; the next pass tries again"),
        }
    }
    let routed = routes::publish(shared).await;
    for (view, plan) in stops {
        if routed {
            stop(shared, &view, &plan).await;
        }
        forget(shared, &view, &plan).await;
    }
    if full {
        orphans(shared, &seen).await;
    }
    let wait = again.map(|at| at.duration_since(Timestamp::now()).max(jiff::SignedDuration::from_millis(20)));
    let wait = wait.and_then(|wait| Duration::try_from(wait).ok());
    let retry = (!routed).then_some(Duration::from_millis(300));
    [wait, retry].into_iter().flatten().min().map(|wait| tokio::time::Instant::now() + wait)
}

/// Everything for one instance but the stops, which wait for the table.
async fn look(
    shared: &Arc<Shared>,
    workspace: WorkspaceId,
    id: InstanceId,
    seen: &HashMap<ReplicaId, Observation>,
) -> Result<Option<(View, Plan)>, StoreError> {
    let Some(mut view) = observe::view(shared, workspace, id, seen).await? else {
        shared.routes.lock().await.offer(id, Offer::default());
        return Ok(None);
    };
    build::tend(shared, &view).await;
    let mut plan = rollout::plan(&view.observed, Timestamp::now());
    build::hold_for_pre_deploy(shared, &view, &mut plan).await?;

    let updates = std::mem::take(&mut view.updates);
    let moves = transitions(&view, &plan);
    let changed: BTreeSet<DeploymentId> = view
        .replicas
        .iter()
        .filter(|replica| updates.iter().any(|change| matches!(change, Change::ReplicaUpdate(row) if row.id == replica.id)))
        .map(|replica| replica.deployment_id)
        .chain(plan.transition.iter().map(|transition| transition.deployment))
        .collect();
    if !updates.is_empty() {
        shared.ops.store.commit(view.tenant, updates).await?;
    }
    start(shared, &view, &plan).await?;
    offer(shared, &view, &plan).await;
    if !moves.is_empty() {
        // What succeeds is announced when it can be reached.
        let announces = plan.transition.iter().any(|transition| transition.to == DeploymentStatus::Success);
        if announces {
            routes::publish(shared).await;
        }
        shared.ops.store.commit(view.tenant, moves).await?;
        shared.look(workspace, id);
    }
    for deployment in changed {
        shared.ops.signals.deployment_changed(deployment);
    }
    Ok(Some((view, plan)))
}

async fn offer(shared: &Arc<Shared>, view: &View, plan: &Plan) {
    let targets = plan
        .route
        .iter()
        .filter_map(|id| view.replicas.iter().find(|replica| replica.id == *id))
        .map(|replica| (replica.id, replica.deployment_id, replica.port))
        .collect();
    let offer = Offer { serving: plan.serving, targets, unavailable: Some(routes::explain(&view.deployments)) };
    shared.routes.lock().await.offer(view.instance.id, offer);
}

fn transitions(view: &View, plan: &Plan) -> Vec<Change> {
    let now = Timestamp::now();
    let mut changes = vec![];
    for Transition { deployment: id, from, to, reason, completed } in &plan.transition {
        let Some(deployment) = view.deployments.iter().find(|deployment| deployment.id == *id) else { continue };
        if *completed && !deployment.stopped {
            changes.push(Change::DeploymentStopped { id: *id, stopped: true, at: now });
        }
        if from != to {
            tracing::info!(deployment = %id, from = from.as_str(), to = to.as_str(), reason, "deployment moves");
            changes.extend(step_of(deployment, *to, reason.as_deref(), now));
            changes.push(Change::DeploymentMove { id: *id, from: *from, to: *to, reason: reason.clone(), at: now });
        }
    }
    changes
}

/// The step that a move ends, as users see it.
fn step_of(deployment: &Deployment, to: DeploymentStatus, reason: Option<&str>, now: Timestamp) -> Option<Change> {
    let step = match to {
        DeploymentStatus::Success | DeploymentStatus::Failed => EventStep::Healthcheck,
        DeploymentStatus::Crashed => EventStep::CreateContainer,
        DeploymentStatus::Removing => EventStep::DrainInstances,
        _ => return None,
    };
    Some(Change::EventInsert(DeploymentEvent {
        id: EventId::generate(),
        deployment_id: deployment.id,
        step,
        created_at: deployment.status_at,
        completed_at: Some(now),
        error: reason.map(str::to_owned),
        detail: None,
    }))
}

async fn start(shared: &Arc<Shared>, view: &View, plan: &Plan) -> Result<(), StoreError> {
    for (id, generation, index) in &plan.start {
        let Some(deployment) = view.deployments.iter().find(|deployment| deployment.id == *id) else { continue };
        let now = Timestamp::now();
        let mut replica = Replica {
            id: ReplicaId::generate(),
            workspace_id: deployment.workspace_id,
            deployment_id: *id,
            generation: *generation,
            index: *index,
            status: ReplicaStatus::Created,
            port: 0,
            exit_code: None,
            reason: None,
            restarts: 0,
            created_at: now,
            updated_at: now,
        };
        // The row comes first: a replica that runs without one is an orphan and is stopped.
        shared.ops.store.commit(view.tenant, vec![Change::ReplicaInsert(replica.clone())]).await?;
        let started = match spec(shared, view, deployment, &replica).await? {
            Some(spec) => shared.driver.start(spec).await.map_err(|error| error.to_string()),
            None => Err("its artifact is missing: deploy the source again".to_owned()),
        };
        if let Err(reason) = started {
            tracing::warn!(deployment = %id, replica = %replica.id, reason, "a replica could not be started");
            replica.status = ReplicaStatus::Crashed;
            replica.reason = Some(reason);
            shared.ops.store.commit(view.tenant, vec![Change::ReplicaUpdate(replica)]).await?;
        }
        shared.look(view.tenant.workspace(), view.instance.id);
    }
    Ok(())
}

pub(crate) fn user_of(shared: &Shared, view: &View) -> Option<UnixUser> {
    let uid = FIRST_UID.checked_add(u32::try_from(view.instance.number).ok()?)?;
    shared.config.separate_users.then_some(UnixUser { uid, gid: uid })
}

async fn spec(shared: &Arc<Shared>, view: &View, deployment: &Deployment, replica: &Replica) -> Result<Option<ReplicaSpec>, StoreError> {
    let (Some(artifact), Some(run)) = (&deployment.artifact, &deployment.run) else { return Ok(None) };
    let root = shared.config.data_dir.join("artifacts").join(artifact);
    if !root.is_dir() {
        return Ok(None);
    }
    let mut env = shared.ops.store.deployment_variables(view.tenant, deployment.id).await?;
    env.insert("RAILWAY_DEPLOYMENT_ID".into(), deployment.id.to_string());
    env.insert("RAILWAY_SNAPSHOT_ID".into(), deployment.snapshot_id.to_string());
    env.insert("RAILWAY_REPLICA_ID".into(), replica.id.to_string());
    env.insert("RAILWAY_REPLICA_REGION".into(), shared.ops.settings.region.clone());
    let deploy = &deployment.spec.deploy;
    Ok(Some(ReplicaSpec {
        replica_id: replica.id,
        source: observe::source(deployment, Some(replica.id), LogKind::Deploy),
        root,
        run: run.clone(),
        env,
        port: 0,
        restart: deploy.restart_policy_type,
        max_retries: deploy.restart_policy_max_retries,
        draining_seconds: deploy.draining_seconds,
        limits: domain::spec::Limits {
            memory_bytes: deploy.limits.memory_bytes.or(shared.config.default_limits.memory_bytes),
            cpu_millis: deploy.limits.cpu_millis.or(shared.config.default_limits.cpu_millis),
        },
        user: user_of(shared, view),
    }))
}

/// Stops replicas that the edge no longer sends requests to: first those requests end, then the app is asked to.
async fn stop(shared: &Arc<Shared>, view: &View, plan: &Plan) {
    for (id, reason) in &plan.stop {
        let Some(replica) = view.replicas.iter().find(|replica| replica.id == *id) else { continue };
        let deployment = view.deployments.iter().find(|deployment| deployment.id == replica.deployment_id);
        let grace = Duration::from_secs(deployment.map_or(3, |deployment| u64::from(deployment.spec.deploy.draining_seconds)));
        let row = Replica {
            status: ReplicaStatus::Removing,
            reason: Some((*reason).to_owned()),
            updated_at: Timestamp::now(),
            ..replica.clone()
        };
        if let Err(error) = shared.ops.store.commit(view.tenant, vec![Change::ReplicaUpdate(row)]).await {
            tracing::warn!(%error, replica = %id, "a replica could not be marked for removal; the next pass tries again");
            continue;
        }
        let (task, id, edge) = (shared.clone(), *id, shared.routes.lock().await.edge.clone());
        shared.tracker.spawn(async move {
            // An edge that does not answer has no requests under way either.
            let _ = edge.drain(id, grace.max(Duration::from_secs(1))).await;
            task.health.forget(id);
            if let Err(error) = task.driver.stop(id, grace).await {
                tracing::warn!(%error, replica = %id, "a replica could not be stopped");
            }
        });
    }
}

/// Takes leave of replicas that have ended.
async fn forget(shared: &Arc<Shared>, view: &View, plan: &Plan) {
    let mut ended: Vec<(ReplicaId, &str)> = plan.forget.clone();
    let stopped = view.observed.deployments.iter().flat_map(|deployment| &deployment.replicas);
    let gone = stopped.filter(|replica| replica.phase == rollout::Phase::Lost).map(|replica| (replica.id, "ended"));
    ended.extend(gone.filter(|(id, _)| !plan.forget.iter().any(|(known, _)| known == id)));
    for (id, reason) in ended {
        let Some(replica) = view.replicas.iter().find(|replica| replica.id == id) else { continue };
        ingest::finish(shared, id).await;
        shared.health.forget(id);
        let reason = replica.reason.clone().unwrap_or_else(|| reason.to_owned());
        let row = Replica { status: ReplicaStatus::Removed, reason: Some(reason), updated_at: Timestamp::now(), ..replica.clone() };
        if let Err(error) = shared.ops.store.commit(view.tenant, vec![Change::ReplicaUpdate(row)]).await {
            tracing::warn!(%error, replica = %id, "a replica that has ended could not be marked; the next pass tries again");
            continue;
        }
        if let Err(error) = shared.driver.forget(id).await {
            tracing::warn!(%error, replica = %id, "the folder of a replica could not be deleted");
        }
        shared.ops.signals.deployment_changed(replica.deployment_id);
        shared.look(view.tenant.workspace(), view.instance.id);
    }
}

/// Ends replicas that no reconciled instance owns: those of deleted projects, those whose row was never committed, and those of
/// deployments that have failed.
async fn orphans(shared: &Arc<Shared>, seen: &HashMap<ReplicaId, Observation>) {
    let rows = match shared.ops.store.system_live_replicas().await {
        Ok(rows) => rows,
        Err(error) => {
            tracing::error!(%error, "the replicas cannot be read; orphans wait for the next pass");
            return;
        }
    };
    let known: BTreeSet<ReplicaId> = rows.iter().map(|replica| replica.id).collect();
    for observation in seen.values().filter(|observation| !known.contains(&observation.replica_id)) {
        let id = observation.replica_id;
        let row = match shared.ops.store.replica(id).await {
            Ok(row) => row.and_then(|sealed| {
                let tenant = Tenant::system(sealed.workspace());
                sealed.open(tenant)
            }),
            Err(_) => continue,
        };
        // A crashed or completed replica keeps its folder until its deployment goes.
        if row.is_none_or(|replica| !matches!(replica.status, ReplicaStatus::Crashed | ReplicaStatus::Exited)) {
            end(shared, observation).await;
        }
    }
    if let Err(error) = leftovers(shared, rows, seen).await {
        tracing::warn!(%error, "replicas of failed deployments could not be tidied up; the next pass tries again");
    }
}

async fn end(shared: &Shared, observation: &Observation) {
    let id = observation.replica_id;
    let ended =
        matches!(observation.phase, ObservedPhase::Exited | ObservedPhase::Crashed { .. } | ObservedPhase::Stopped | ObservedPhase::Lost);
    let result = if ended { shared.driver.forget(id).await } else { shared.driver.stop(id, Duration::from_secs(3)).await };
    if let Err(error) = result {
        tracing::warn!(%error, replica = %id, "a replica without a deployment could not be ended");
    }
}

/// Rows that are live although their deployment is final.
async fn leftovers(shared: &Arc<Shared>, rows: Vec<Replica>, seen: &HashMap<ReplicaId, Observation>) -> Result<(), StoreError> {
    let mut by_workspace: HashMap<WorkspaceId, Vec<Replica>> = HashMap::new();
    for row in rows {
        by_workspace.entry(row.workspace_id).or_default().push(row);
    }
    for (workspace, rows) in by_workspace {
        let tenant = Tenant::system(workspace);
        let ids: Vec<DeploymentId> = rows.iter().map(|row| row.deployment_id).collect::<BTreeSet<_>>().into_iter().collect();
        let deployments = shared.ops.store.deployments_by_id(tenant, &ids).await?;
        let over = |row: &Replica| deployments.iter().any(|deployment| deployment.id == row.deployment_id && deployment.status.is_final());
        for row in rows.into_iter().filter(over) {
            match seen.get(&row.id) {
                Some(observation)
                    if matches!(observation.phase, ObservedPhase::Running | ObservedPhase::Restarting | ObservedPhase::Stopping) =>
                {
                    end(shared, observation).await;
                }
                _ => {
                    ingest::finish(shared, row.id).await;
                    let gone = Replica { status: ReplicaStatus::Removed, updated_at: Timestamp::now(), ..row };
                    let id = gone.id;
                    shared.ops.store.commit(tenant, vec![Change::ReplicaUpdate(gone)]).await?;
                    if let Err(error) = shared.driver.forget(id).await {
                        tracing::warn!(%error, replica = %id, "the folder of a replica could not be deleted");
                    }
                }
            }
        }
    }
    Ok(())
}
