//! What is known of one instance, gathered from the store, the driver and the health checks.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use crate::health::{Check, Sign};
use crate::obstacles::{self, Obstacle};
use crate::{Shared, dependencies, executions, lock, replicas, volumes};
use domain::deployment::{Deployment, DeploymentEvent, DeploymentStatus, EventStep, Execution, Replica, ReplicaStatus};
use domain::galaxy::KILLED;
use domain::log::LogKind;
use domain::project::{Domain, Instance};
use domain::rollout::{DeploymentState, Observed, Phase, ReplicaState, Rest};
use domain::tcp_proxy::TcpProxy;
use domain::volume::{VolumeInstance, VolumeState};
use domain::{DeploymentId, InstanceId, ReplicaId, Tenant, Timestamp, WorkspaceId};
use jiff::SignedDuration;
use runtime::{Observation, ObservedPhase};

/// Apps that never listen (workers) count as healthy after running so long, unless requests are routed to them.
const WORKER_GRACE: Duration = Duration::from_secs(3);

/// A killed container is seen to be gone for at least so long, when it was the only one: clients that look once a second wait for that
/// (`contracts/galaxy.md` 1, number 7).
const KILL_SHOWS: jiff::SignedDuration = jiff::SignedDuration::from_secs(2);

/// What the driver knows.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) replicas: HashMap<ReplicaId, Observation>,
    /// Replicas whose start was under way before that was found out: it may not show yet.
    pub(crate) launching: HashSet<ReplicaId>,
    /// The same of their end.
    pub(crate) ending: HashSet<ReplicaId>,
    /// Builds and pre-deploy commands that were under way then: what is read later may be from before their end.
    pub(crate) building: HashSet<DeploymentId>,
}

/// One instance in full.
pub(crate) struct View {
    pub(crate) tenant: Tenant,
    pub(crate) instance: Instance,
    /// Pending and live ones, oldest first.
    pub(crate) deployments: Vec<Deployment>,
    pub(crate) replicas: Vec<Replica>,
    pub(crate) observed: Observed,
    /// Rows whose replica has moved on.
    pub(crate) updates: Vec<Replica>,
    /// Replicas that run with a volume that is no longer theirs.
    pub(crate) strays: Vec<ReplicaId>,
    /// Replicas that need not be told to end: they are being told, have been and are at it, or have ended.
    pub(crate) told: HashSet<ReplicaId>,
    /// The run of its schedule that has not ended.
    pub(crate) execution: Option<Execution>,
    /// The steps so far; read only while some deployment is on its way.
    pub(crate) events: HashMap<DeploymentId, Vec<DeploymentEvent>>,
    /// What keeps deployments from starting.
    pub(crate) obstacles: HashMap<DeploymentId, Obstacle>,
}

impl View {
    pub(crate) fn deployment(&self, id: DeploymentId) -> Option<&Deployment> {
        self.deployments.iter().find(|deployment| deployment.id == id)
    }

    /// Others of its batch come before it.
    pub(crate) fn awaits_others(&self, deployment: &Deployment) -> bool {
        matches!(self.obstacles.get(&deployment.id), Some(Obstacle::Others))
    }

    /// What it cannot start without, in words for the user.
    pub(crate) fn lacks(&self, id: DeploymentId) -> Option<&str> {
        self.obstacles.get(&id).and_then(|obstacle| if let Obstacle::Missing(what) = obstacle { Some(what.as_str()) } else { None })
    }

    /// Its pre-deploy commands have not ended yet.
    pub(crate) fn awaits_pre_deploy(&self, deployment: &Deployment) -> bool {
        // A restart does not run them again.
        deployment.status == DeploymentStatus::Deploying
            && deployment.generation == 0
            && !deployment.spec.deploy.pre_deploy_command.is_empty()
            && self.pre_deployed_at(deployment.id).is_none()
    }

    fn pre_deployed_at(&self, id: DeploymentId) -> Option<Timestamp> {
        let events = self.events.get(&id)?;
        events.iter().filter(|event| event.step == EventStep::PreDeployCommand).find_map(|event| event.completed_at)
    }

    /// When a deployment's present status began to count against its time limit.
    fn since(&self, deployment: &Deployment) -> Timestamp {
        if self.awaits_others(deployment) || self.awaits_pre_deploy(deployment) {
            return Timestamp::now();
        }
        let waited = dependencies::waited_until(self.events.get(&deployment.id));
        let before = self.pre_deployed_at(deployment.id).max(waited);
        before.map_or(deployment.status_at, |at| at.max(deployment.status_at))
    }
}

pub(crate) async fn view(
    shared: &Arc<Shared>,
    workspace: WorkspaceId,
    id: InstanceId,
    all: &Seen,
) -> Result<Option<View>, store::StoreError> {
    let tenant = Tenant::system(workspace);
    let Some(instance) = shared.ops.store.instance(id).await?.and_then(|sealed| sealed.open(tenant)) else { return Ok(None) };
    let deployments = shared.ops.store.deployments_live(tenant, &[id]).await?;
    let ids: Vec<_> = deployments.iter().map(|deployment| deployment.id).collect();
    // Before the replicas: a run that has begun has had its replica by then.
    let (runs, execution) = executions::read(shared, tenant, id, &deployments).await?;
    let mut replicas = shared.ops.store.replicas_present(tenant, &ids).await?;
    let domains = shared.ops.store.domains_of_environments(tenant, &[instance.environment_id]).await?;
    let proxies = shared.ops.store.tcp_proxies_of_environments(tenant, &[instance.environment_id]).await?;
    let reach = Reach::of(&instance, &domains, &proxies);
    let volume = shared.ops.store.volume_instance_of_service(tenant, instance.environment_id, instance.service_id).await?;

    let events = events(shared, tenant, &deployments).await?;
    let obstacles = obstacles::found(shared, tenant, &deployments, &events, &replicas, volume.as_ref()).await?;
    let paused = volume.as_ref().is_some_and(|volume| is_paused(shared, all, volume, &replicas));
    let sleeps = sleeps(&instance, &deployments, &domains, &proxies);
    let observed = Observed { deployments: vec![], exclusive: volume.is_some(), paused, rest: None, runs };
    let (updates, strays, told) = (vec![], vec![], HashSet::new());
    let mut view = View { tenant, instance, deployments, replicas: vec![], observed, updates, strays, told, execution, events, obstacles };
    let owner = replicas::user_of(shared, &view).map(|user| user.uid);
    let rested = rested(shared, id, paused);
    for deployment in view.deployments.iter().filter(|deployment| deployment.status.is_live()) {
        let mut states = vec![];
        let since = view.since(deployment).max(rested);
        for mut replica in replicas.extract_if(.., |replica| replica.deployment_id == deployment.id) {
            let seen = all.replicas.get(&replica.id);
            let launching = all.launching.contains(&replica.id) || lock(&shared.launching).contains(&replica.id);
            let phase = phase(shared, (deployment, since), &replica, (seen, launching), (reach, owner));
            if !matches!(phase, Phase::Exited | Phase::Crashed { .. }) {
                let limits = replicas::limits_of(shared, deployment);
                shared.sources.watch(replica.id, deployment.log_source(Some(replica.id), LogKind::Deploy), limits);
            }
            if refresh(&mut replica, &phase, seen) {
                view.updates.push(replica.clone());
            }
            view.strays.extend(seen.filter(|seen| volumes::is_stray(seen, volume.as_ref())).map(|seen| seen.replica_id));
            let ends = |seen: &Observation| seen.phase == ObservedPhase::Stopping || seen.phase.is_over();
            if all.ending.contains(&replica.id) || seen.is_none_or(ends) {
                view.told.insert(replica.id);
            }
            states.push(state(&replica, phase));
            view.replicas.push(replica);
        }
        let state = deployment_state(&view, deployment, since, states);
        view.observed.deployments.push(state);
    }
    view.observed.exclusive |= is_detached(shared, &view);
    view.observed.rest = if sleeps { Some(rest(shared, &view).await) } else { None };
    Ok(Some(view))
}

fn state(replica: &Replica, phase: Phase) -> ReplicaState {
    ReplicaState { id: replica.id, index: replica.index, generation: replica.generation, phase, answers: replica.answers() }
}

fn deployment_state(view: &View, deployment: &Deployment, since: Timestamp, replicas: Vec<ReplicaState>) -> DeploymentState {
    DeploymentState {
        id: deployment.id,
        status: deployment.status,
        generation: deployment.generation,
        stopped: deployment.stopped,
        wanted: wanted(&view.instance, deployment),
        since,
        health_seconds: deployment.spec.deploy.healthcheck_seconds(),
        verified: deployment.spec.deploy.healthcheck_path.is_some() || view.instance.spec.deploy.unhealthy_replacement,
        overlap_seconds: deployment.spec.deploy.overlap_seconds,
        waiting: view.obstacles.contains_key(&deployment.id) || view.awaits_pre_deploy(deployment),
        schedule: executions::schedule(deployment),
        replicas,
    }
}

/// The volume is being copied, or is still used by others than these replicas of its service.
fn is_paused(shared: &Shared, all: &Seen, volume: &VolumeInstance, mine: &[Replica]) -> bool {
    let copied = volume.state == VolumeState::Restoring || lock(&shared.held).contains(&volume.id);
    copied || volumes::is_used(all.replicas.values(), volume.id, |used_by| mine.iter().all(|replica| replica.id != used_by))
}

/// When the instance last stood still: that time does not count against what is on its way.
fn rested(shared: &Shared, id: InstanceId, paused: bool) -> Timestamp {
    let mut all = lock(&shared.paused);
    if paused {
        all.insert(id, Timestamp::now());
    }
    all.get(&id).copied().unwrap_or(Timestamp::UNIX_EPOCH)
}

/// A volume has left the instance, and its deployments from before that are still there: until they are gone it is as if it had one, so
/// that none of them starts again where its files were.
fn is_detached(shared: &Shared, view: &View) -> bool {
    let mut detached = lock(&shared.detached);
    if !view.strays.is_empty() {
        detached.insert(view.instance.id);
    } else if view.deployments.len() <= 1 {
        detached.remove(&view.instance.id);
    }
    detached.contains(&view.instance.id)
}

/// From where an instance is reached.
#[derive(Clone, Copy)]
struct Reach {
    /// Requests or connections come from outside: it must listen.
    public: bool,
    /// It must say something to whoever connects. An app that a TCP port leads to may wait for the other side to speak, in words that are
    /// not HTTP; and an app's owner may have switched it off.
    speaks: bool,
}

impl Reach {
    fn of(instance: &Instance, domains: &[Domain], proxies: &[TcpProxy]) -> Self {
        let domain = domains.iter().any(|domain| domain.service_id == instance.service_id);
        let port = proxies.iter().any(|proxy| proxy.service_id == instance.service_id);
        Self { public: domain || port, speaks: domain && !port && instance.spec.deploy.unhealthy_replacement }
    }
}

/// Whether it may sleep. Whoever is reached by a TCP port could not be woken by it, and whoever has no domain by nothing.
fn sleeps(instance: &Instance, deployments: &[Deployment], domains: &[Domain], proxies: &[TcpProxy]) -> bool {
    let serves = |of: &&Deployment| matches!(of.status, DeploymentStatus::Success | DeploymentStatus::Sleeping);
    let serving = deployments.iter().rev().find(serves);
    serving.is_some_and(|of| instance.spec.deploy.lets_sleep(&of.spec.deploy))
        && domains.iter().any(|domain| domain.service_id == instance.service_id)
        && !proxies.iter().any(|proxy| proxy.service_id == instance.service_id)
}

fn signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

async fn rest(shared: &Shared, view: &View) -> Rest {
    Rest { idle: idle(shared, view).await, after: signed(shared.config.sleep_after) }
}

/// For how long no replica of the instance had a request, if all run and the edge knows.
async fn idle(shared: &Shared, view: &View) -> Option<SignedDuration> {
    if view.observed.deployments.iter().all(|deployment| deployment.status != DeploymentStatus::Success) {
        return None;
    }
    let known = shared.edge.idle().await?;
    let each = view.replicas.iter().map(|replica| known.get(&replica.id).copied());
    each.collect::<Option<Vec<Duration>>>()?.into_iter().min().map(signed)
}

/// The steps of the deployments, unless the instance is at rest: then nothing becomes of them.
async fn events(
    shared: &Shared,
    tenant: Tenant,
    deployments: &[Deployment],
) -> Result<HashMap<DeploymentId, Vec<DeploymentEvent>>, store::StoreError> {
    let mut events = HashMap::new();
    if deployments.iter().any(|deployment| matches!(deployment.status, DeploymentStatus::Deploying | DeploymentStatus::Removing)) {
        for deployment in deployments {
            events.insert(deployment.id, shared.ops.store.deployment_events(tenant, deployment.id).await?);
        }
    }
    Ok(events)
}

/// The number of replicas follows today's settings, so that scaling needs no deployment.
fn wanted(instance: &Instance, deployment: &Deployment) -> u32 {
    let today = &instance.spec.deploy;
    if today.regions.is_empty() { deployment.spec.deploy.replicas() } else { today.replicas() }
}

/// Whatever it does now, it was told to end; when it has ended, what is left is its folder.
fn ending(replica: &Replica, runs: bool) -> Phase {
    let now = Timestamp::now();
    // The driver rings when it ends: nobody looks all the time at one that takes longer than it has to show.
    let since = if runs { now } else { replica.updated_at };
    let until = since + KILL_SHOWS;
    if replica.reason.as_deref() == Some(KILLED) && now < until {
        return Phase::Killed { until };
    }
    if runs { Phase::Stopping } else { Phase::Lost }
}

fn phase(
    shared: &Arc<Shared>,
    (deployment, since): (&Deployment, Timestamp),
    replica: &Replica,
    (seen, launching): (Option<&Observation>, bool),
    (reach, owner): (Reach, Option<u32>),
) -> Phase {
    if replica.status == ReplicaStatus::Removing {
        return ending(replica, seen.is_some_and(|seen| !seen.phase.is_over()));
    }
    if launching {
        return Phase::Starting;
    }
    // What has been found out about an end stays, also when the folder that told it is gone.
    if seen.is_none_or(|seen| seen.phase.is_over()) {
        match replica.status {
            ReplicaStatus::Crashed => {
                return Phase::Crashed { reason: replica.reason.clone().unwrap_or_else(|| "it could not be started".into()) };
            }
            ReplicaStatus::Exited => return Phase::Exited,
            _ => {}
        }
    }
    let Some(seen) = seen else {
        // A start that was planned and has not happened is made up for.
        return if replica.status == ReplicaStatus::Created { Phase::Starting } else { Phase::Lost };
    };
    match &seen.phase {
        // It is no server whose health could be asked.
        ObservedPhase::Running if executions::is_scheduled(deployment) => Phase::Healthy,
        ObservedPhase::Running => {
            if replica.status == ReplicaStatus::Running && replica.restarts == seen.restarts {
                shared.health.adopt(replica.id, seen.restarts);
            }
            if shared.health.is_healthy(replica.id, seen.restarts) {
                return Phase::Healthy;
            }
            let window = jiff::SignedDuration::from_secs(i64::from(deployment.spec.deploy.healthcheck_seconds()));
            let deploying = deployment.status == DeploymentStatus::Deploying;
            // The path is asked while deploying, never after (contracts/railway.md 3.8).
            let sign = match deployment.spec.deploy.healthcheck_path.clone().filter(|_| deploying) {
                Some(path) => Sign::Ok(path),
                None if reach.speaks => Sign::Word,
                None => Sign::Connection,
            };
            let until = since.checked_add(window).ok().filter(|_| deploying);
            let grace = (!reach.public).then_some(WORKER_GRACE);
            let check = Check { port: seen.port, owner, sign, until, grace };
            shared.health.ask(shared, deployment, replica.id, seen.restarts, check);
            Phase::Starting
        }
        ObservedPhase::Restarting => Phase::Starting,
        ObservedPhase::Exited => Phase::Exited,
        ObservedPhase::Crashed { reason, .. } => Phase::Crashed { reason: reason.clone() },
        ObservedPhase::Stopping => Phase::Stopping,
        // It has ended as it was asked to; what is left is its folder.
        ObservedPhase::Stopped | ObservedPhase::Lost => Phase::Lost,
    }
}

/// Brings a replica's row up to date. Returns whether it was not.
fn refresh(replica: &mut Replica, phase: &Phase, seen: Option<&Observation>) -> bool {
    let restarting = seen.is_some_and(|seen| seen.phase == ObservedPhase::Restarting);
    let (status, reason) = match phase {
        Phase::Starting if seen.is_none() => return false,
        Phase::Starting if restarting => (ReplicaStatus::Restarting, None),
        Phase::Starting => (ReplicaStatus::Initializing, None),
        Phase::Healthy => (ReplicaStatus::Running, None),
        Phase::Exited => (ReplicaStatus::Exited, None),
        Phase::Crashed { reason } => (ReplicaStatus::Crashed, Some(reason.clone())),
        Phase::Stopping | Phase::Killed { .. } => (ReplicaStatus::Removing, replica.reason.clone()),
        Phase::Lost => return false,
    };
    let (port, restarts) = seen.map_or((replica.port, replica.restarts), |seen| (seen.port, seen.restarts));
    let exit_code = match seen.map(|seen| &seen.phase) {
        Some(ObservedPhase::Crashed { code, .. }) => *code,
        Some(ObservedPhase::Exited) => Some(0),
        _ => replica.exit_code,
    };
    let next = Replica { status, reason, port, restarts, exit_code, ..replica.clone() };
    if next == *replica {
        return false;
    }
    *replica = Replica { updated_at: Timestamp::now(), ..next };
    true
}
