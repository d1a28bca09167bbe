//! Starts, ends and forgets single replicas. What takes time runs beside the reconciler and rings when it is done.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use domain::deployment::{Deployment, DeploymentStatus, Replica, ReplicaStatus};
use domain::log::LogKind;
use domain::rollout::{Phase, Plan};
use domain::spec::Limits;
use domain::volume::{VolumeInstance, VolumeState};
use domain::{ReplicaId, Sealed, Tenant, Timestamp, redact};
use runtime::{DriverError, ReplicaSpec, UnixUser, VolumeMount};
use store::{Change, StoreError};

use crate::observe::View;
use crate::{EngineConfig, Home, Shared, executions, ingest, lock, volumes};

/// Unix users of instances are numbered from here; the one before performs nodes of workflows.
const FIRST_UID: u32 = 200_000;
/// A candidate whose replica cannot be started is given up after so many attempts, and so is a run; one that serves is tried for ever.
const ATTEMPTS: u32 = 5;
/// The pause after the first failed attempt, doubled with each, and the longest one.
const PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The grace period that was usual once, which rows of that time say although nobody chose it.
const USUAL_ONCE: u32 = 3;
/// So long an app that is to end goes on with the requests that it has before it hears of it. Websockets and answers without an end would
/// take its whole grace period otherwise, and it would have that once more afterwards.
const LAST_REQUESTS: Duration = Duration::from_secs(3);

pub(crate) fn user_of(shared: &Shared, view: &View) -> Option<UnixUser> {
    let uid = FIRST_UID.checked_add(u32::try_from(view.instance.number).ok()?)?;
    shared.config.separate_users.then_some(UnixUser { uid, gid: uid })
}

/// Whom nodes of workflows are performed as: a user that no instance has.
pub(crate) fn worker_user(config: &EngineConfig) -> Option<UnixUser> {
    config.separate_users.then_some(UnixUser { uid: FIRST_UID - 1, gid: FIRST_UID - 1 })
}

/// The variables that a deployment was frozen with, and what of them is sealed.
pub(crate) async fn variables(
    shared: &Shared,
    tenant: Tenant,
    deployment: &Deployment,
) -> Result<(BTreeMap<String, String>, Vec<String>), StoreError> {
    let env = shared.ops.store.deployment_variables(tenant, deployment.id).await?;
    let rows = shared.ops.store.variables(tenant, deployment.environment_id).await?;
    let sealed = redact::sealed(&rows, deployment.service_id, &env);
    Ok((env, sealed))
}

/// What a replica of the deployment may use: its own limits, or the installation's.
pub(crate) fn limits_of(shared: &Shared, deployment: &Deployment) -> Limits {
    let (own, default) = (&deployment.spec.deploy.limits, &shared.config.default_limits);
    Limits { memory_bytes: own.memory_bytes.or(default.memory_bytes), cpu_millis: own.cpu_millis.or(default.cpu_millis) }
}

/// Plans replicas in the store and starts those that are planned.
pub(crate) async fn start(shared: &Arc<Shared>, view: &View, plan: &Plan, launching: &HashSet<ReplicaId>) -> Result<(), StoreError> {
    let (mut rows, mut begun) = (vec![], vec![]);
    for (id, generation, index) in &plan.start {
        let Some(deployment) = view.deployment(*id) else { continue };
        let now = Timestamp::now();
        let run = executions::run_of(view, deployment);
        begun.extend(run.map(executions::started));
        rows.push(Replica {
            id: run.map_or_else(ReplicaId::generate, |run| run.id),
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
            unhealthy_since: None,
        });
    }
    if !rows.is_empty() {
        // The rows come first: a replica that runs without one is an orphan and is stopped.
        shared.ops.store.commit(view.tenant, rows.iter().cloned().map(Change::ReplicaInsert).chain(begun).collect()).await?;
    }
    let stops = |replica: &&Replica| plan.stop.iter().any(|(id, _)| *id == replica.id);
    let planned = view.replicas.iter().filter(|replica| replica.status == ReplicaStatus::Created && !stops(replica));
    let planned = planned.filter(|replica| !launching.contains(&replica.id));
    for replica in planned.chain(&rows) {
        if let Some(deployment) = view.deployment(replica.deployment_id) {
            launch(shared, view, deployment, replica);
        }
    }
    Ok(())
}

fn launch(shared: &Arc<Shared>, view: &View, deployment: &Deployment, replica: &Replica) {
    if !lock(&shared.launching).insert(replica.id) {
        return;
    }
    let launch = Launch {
        shared: shared.clone(),
        home: (view.tenant.workspace(), view.instance.id),
        tenant: view.tenant,
        deployment: deployment.clone(),
        replica: replica.clone(),
        user: user_of(shared, view),
        grace: grace(view, deployment),
    };
    shared.tracker.spawn(async move {
        launch.run().await;
        lock(&launch.shared.launching).remove(&launch.replica.id);
        launch.shared.look(launch.home.0, launch.home.1);
    });
}

/// The grace period that the deployment's source or a variable says, else the one that the app's settings say today.
fn grace(view: &View, deployment: &Deployment) -> u32 {
    let (own, usual) = (view.instance.spec.deploy.draining_seconds, domain::spec::DeploySpec::default().draining_seconds);
    let of = &deployment.spec.deploy;
    let said = of.draining_in_variable || of.in_source.as_ref().is_some_and(|said| said.draining_seconds.is_some());
    if said || [usual, USUAL_ONCE].contains(&own) { of.draining_seconds } else { own }
}

/// Why a replica was not started.
enum Missed {
    /// Its volume is in use or being copied. Nothing is wrong with the replica: it waits.
    Busy,
    /// It did not work.
    Failed {
        reason: String,
        /// It may work next time.
        worth_repeating: bool,
    },
}

impl Missed {
    fn again(reason: impl ToString) -> Self {
        Self::Failed { reason: reason.to_string(), worth_repeating: true }
    }
}

/// A start that is under way.
struct Launch {
    shared: Arc<Shared>,
    home: Home,
    tenant: Tenant,
    deployment: Deployment,
    replica: Replica,
    user: Option<UnixUser>,
    /// Seconds between SIGTERM and SIGKILL.
    grace: u32,
}

impl Launch {
    async fn run(&self) {
        let (mut pause, mut failures) = (PAUSE, 0);
        loop {
            let Err(missed) = self.attempt().await else { return };
            let Some(status) = self.wanted_in().await else { return };
            if let Missed::Failed { reason, worth_repeating } = missed {
                failures += 1;
                let (deployment, replica) = (self.deployment.id, self.replica.id);
                tracing::warn!(%deployment, %replica, failures, reason, "a replica could not be started");
                let limited = status == DeploymentStatus::Deploying || executions::is_scheduled(&self.deployment);
                if !worth_repeating || (limited && failures >= ATTEMPTS) {
                    return self.give_up(reason).await;
                }
            }
            tokio::select! {
                () = self.shared.shutdown.cancelled() => return,
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
            }
            if self.wanted_in().await.is_none() {
                return;
            }
        }
    }

    async fn attempt(&self) -> Result<(), Missed> {
        let Ok(_permit) = self.shared.launches.acquire().await else { return Ok(()) };
        let spec = self.spec().await.map_err(Missed::again)?;
        let mut spec = spec.ok_or_else(|| Missed::Failed {
            reason: "its artifact is missing: deploy the source again".to_owned(),
            worth_repeating: false,
        })?;
        // The claim ends when the driver shows the replica.
        let (volume, _claim) = self.volume().await?.unzip();
        spec.volume = volume;
        let started = self.shared.driver.start(spec).await;
        started
            .map_err(|error| Missed::Failed { reason: error.to_string(), worth_repeating: !matches!(error, DriverError::Artifact { .. }) })
    }

    /// Its volume as it is attached now, ready to be used by this replica and by nobody else.
    async fn volume(&self) -> Result<Option<(VolumeMount, volumes::Claim)>, Missed> {
        let Some(found) = self.attached().await? else { return Ok(None) };
        let claim = volumes::Claim::new(&self.shared, self.replica.id, found.id, self.deployment.instance_id);
        // Read again: whoever has copied or moved it since has seen the claim, or this sees what they did.
        let volume = self.attached().await?.filter(|volume| volume.id == found.id && volume.state == VolumeState::Ready);
        let Some(volume) = volume else { return Err(Missed::Busy) };
        let held = lock(&self.shared.held).contains(&volume.id);
        if held || !self.is_free(&volume).await? {
            return Err(Missed::Busy);
        }
        let source = volumes::prepare(&self.shared, volume.id, self.user).await;
        let source = source.map_err(|error| Missed::again(format!("its volume cannot be used: {error}")))?;
        Ok(Some((VolumeMount { source, path: volume.mount_path.into() }, claim)))
    }

    async fn attached(&self) -> Result<Option<VolumeInstance>, Missed> {
        let (environment, service) = (self.deployment.environment_id, self.deployment.service_id);
        self.shared.ops.store.volume_instance_of_service(self.tenant, environment, service).await.map_err(Missed::again)
    }

    /// Nobody else runs with the volume or is about to; the planner sees to those of the same instance.
    async fn is_free(&self, volume: &VolumeInstance) -> Result<bool, Missed> {
        let (store, instance) = (&self.shared.ops.store, self.deployment.instance_id);
        if lock(&self.shared.mounting).values().any(|(claimed, by)| *claimed == volume.id && *by != instance) {
            return Ok(false);
        }
        let live = store.deployments_live(self.tenant, &[instance]).await.map_err(Missed::again)?;
        let ids: Vec<_> = live.iter().map(|deployment| deployment.id).collect();
        let rows = store.replicas_of(self.tenant, &ids).await.map_err(Missed::again)?;
        let mine: HashSet<ReplicaId> = rows.into_iter().map(|replica| replica.id).collect();
        let seen = self.shared.driver.observe().await.map_err(Missed::again)?;
        Ok(!volumes::is_used(&seen, volume.id, |replica| !mine.contains(&replica)))
    }

    /// The status of the deployment, if the replica is still to be started.
    async fn wanted_in(&self) -> Option<DeploymentStatus> {
        let replica = self.shared.ops.store.replica(self.replica.id).await;
        let deployment = self.shared.ops.store.deployment(self.deployment.id).await;
        let (Ok(replica), Ok(deployment)) = (replica, deployment) else {
            // The store does not answer at the moment; that takes no replica away.
            return Some(DeploymentStatus::Success);
        };
        let open = |sealed: Sealed<Replica>| sealed.open(self.tenant);
        replica.and_then(open).filter(|replica| replica.status == ReplicaStatus::Created)?;
        let status = deployment.and_then(|sealed| sealed.open(self.tenant))?.status;
        matches!(status, DeploymentStatus::Deploying | DeploymentStatus::Success).then_some(status)
    }

    /// What Galaxy's apps find in their environment. What has no hostname yet is an app as soon as it is given one.
    async fn add_galaxy(&self, env: &mut BTreeMap<String, String>) -> Result<(), StoreError> {
        let (ops, deployment) = (&self.shared.ops, &self.deployment);
        let domains = ops.store.domains_of_environments(self.tenant, &[deployment.environment_id]).await?;
        let domain = domains.iter().find(|domain| domain.service_id == deployment.service_id);
        let version = ops.store.version_number(self.tenant, deployment.instance_id, deployment.snapshot_id).await?;
        let container = domain::galaxy::container_id(deployment.instance_id, self.replica.id);
        let url = domain.map(|domain| ops::domain_name::public_url(&ops.settings, domain));
        domain::galaxy::environment(env, &container, version, url.as_deref(), self.grace);
        Ok(())
    }

    async fn give_up(&self, reason: String) {
        let (status, updated_at) = (ReplicaStatus::Crashed, Timestamp::now());
        let row = Replica { status, updated_at, reason: Some(reason), ..self.replica.clone() };
        if let Err(error) = self.shared.ops.store.commit(self.tenant, vec![Change::ReplicaUpdate(row)]).await {
            tracing::warn!(%error, replica = %self.replica.id, "a replica that cannot be started could not be marked; it is tried again");
        }
        self.shared.ops.signals.deployment_changed(self.deployment.id);
    }

    async fn spec(&self) -> Result<Option<ReplicaSpec>, StoreError> {
        let (shared, deployment, replica) = (&self.shared, &self.deployment, &self.replica);
        let (Some(artifact), Some(run)) = (&deployment.artifact, &deployment.run) else { return Ok(None) };
        let root = shared.config.data_dir.join("artifacts").join(artifact);
        if !root.is_dir() {
            return Ok(None);
        }
        let (mut env, sealed) = variables(shared, self.tenant, deployment).await?;
        env.insert("RAILWAY_DEPLOYMENT_ID".into(), deployment.id.to_string());
        env.insert("RAILWAY_SNAPSHOT_ID".into(), deployment.snapshot_id.to_string());
        env.insert("RAILWAY_REPLICA_ID".into(), replica.id.to_string());
        env.insert("RAILWAY_REPLICA_REGION".into(), shared.ops.settings.region.clone());
        self.add_galaxy(&mut env).await?;
        let deploy = &deployment.spec.deploy;
        Ok(Some(ReplicaSpec {
            replica_id: replica.id,
            source: deployment.log_source(Some(replica.id), LogKind::Deploy),
            root,
            run: run.clone(),
            env,
            sealed,
            port: 0,
            restart: executions::restart_policy(deployment),
            max_retries: deploy.restart_policy_max_retries,
            draining_seconds: self.grace,
            limits: limits_of(shared, deployment),
            user: self.user,
            volume: None,
        }))
    }
}

/// Marks replicas that the edge no longer sends requests to, and ends them; also those that were marked before a restart of the control
/// plane, or whose end has failed. One that is at its end is not told again: each telling asks for another look, and would be followed by
/// the next.
pub(crate) async fn stop(shared: &Arc<Shared>, view: &View, plan: &Plan) -> Result<(), StoreError> {
    let mut rows = vec![];
    for (id, reason) in &plan.stop {
        let Some(replica) = view.replicas.iter().find(|replica| replica.id == *id) else { continue };
        let (status, updated_at) = (ReplicaStatus::Removing, Timestamp::now());
        rows.push(Replica { status, updated_at, reason: Some((*reason).to_owned()), ..replica.clone() });
    }
    if !rows.is_empty() {
        shared.ops.store.commit(view.tenant, rows.iter().cloned().map(Change::ReplicaUpdate).collect()).await?;
        for row in &rows {
            shared.ops.signals.deployment_changed(row.deployment_id);
        }
    }
    let states = view.observed.deployments.iter().flat_map(|deployment| &deployment.replicas);
    let marked: Vec<ReplicaId> = states
        .filter(|state| matches!(state.phase, Phase::Stopping | Phase::Killed { .. }) && !view.told.contains(&state.id))
        .map(|state| state.id)
        .collect();
    for replica in view.replicas.iter().filter(|replica| marked.contains(&replica.id)).chain(&rows) {
        let draining = view.deployment(replica.deployment_id).map_or(USUAL_ONCE, |deployment| grace(view, deployment));
        end(shared, (view.tenant.workspace(), view.instance.id), replica.id, Duration::from_secs(u64::from(draining)));
    }
    Ok(())
}

/// First the requests end, then the app is asked to. An engine that stops leaves the rest to its successor.
fn end(shared: &Arc<Shared>, home: Home, id: ReplicaId, grace: Duration) {
    if !lock(&shared.ending).insert(id) {
        return;
    }
    let task = shared.clone();
    shared.tracker.spawn(async move {
        let drained = async {
            // An edge that does not answer has no requests under way either.
            let _ = task.edge.drain(id, grace.clamp(Duration::from_secs(1), LAST_REQUESTS)).await;
            task.health.forget(id);
            if let Err(error) = task.driver.stop(id, grace).await {
                tracing::warn!(%error, replica = %id, "a replica could not be stopped; it is tried again");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        };
        tokio::select! {
            () = task.shutdown.cancelled() => {}
            () = drained => {}
        }
        lock(&task.ending).remove(&id);
        task.look(home.0, home.1);
    });
}

/// Takes leave of replicas that have ended.
pub(crate) async fn forget(shared: &Arc<Shared>, view: &View, plan: &Plan) -> Result<(), StoreError> {
    let mut ended: Vec<(ReplicaId, &str)> = plan.forget.clone();
    let states = view.observed.deployments.iter().flat_map(|deployment| &deployment.replicas);
    let gone = states.filter(|replica| replica.phase == Phase::Lost).map(|replica| (replica.id, "ended"));
    ended.extend(gone.filter(|(id, _)| !plan.forget.iter().any(|(known, _)| known == id)));
    for (id, reason) in ended {
        let Some(replica) = view.replicas.iter().find(|replica| replica.id == id) else { continue };
        let Some(deployment) = view.deployment(replica.deployment_id) else { continue };
        leave(shared, view.tenant, deployment, replica, reason).await?;
        shared.look(view.tenant.workspace(), view.instance.id);
    }
    Ok(())
}

/// Reads the last lines of a replica that has ended, marks its row and deletes its folder.
pub(crate) async fn leave(
    shared: &Shared,
    tenant: Tenant,
    deployment: &Deployment,
    replica: &Replica,
    reason: &str,
) -> Result<(), StoreError> {
    let id = replica.id;
    ingest::finish(shared, id, &deployment.log_source(Some(id), LogKind::Deploy)).await;
    shared.health.forget(id);
    let reason = replica.reason.clone().unwrap_or_else(|| reason.to_owned());
    let row = Replica { status: ReplicaStatus::Removed, reason: Some(reason), updated_at: Timestamp::now(), ..replica.clone() };
    shared.ops.store.commit(tenant, vec![Change::ReplicaUpdate(row)]).await?;
    if let Err(error) = shared.driver.forget(id).await {
        tracing::warn!(%error, replica = %id, "the folder of a replica could not be deleted; the next full pass does it");
    }
    shared.ops.signals.deployment_changed(deployment.id);
    Ok(())
}
