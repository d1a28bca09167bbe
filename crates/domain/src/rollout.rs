//! The plan that brings one instance from what is observed to what is desired.
//!
//! A *set* is the replicas of one deployment in one generation (a restart raises the generation). The newest set that is wanted either
//! carries the traffic already or is the candidate for it; everything older goes on serving until the candidate is whole, and drains
//! then. A candidate that fails leaves the older set where it is.

use jiff::{SignedDuration, Timestamp};

pub use self::runs::{Begin, OpenRun, Runs};
use crate::deployment::DeploymentStatus;
use crate::schedule::Schedule;
use crate::{DeploymentId, ReplicaId};

mod runs;

/// Why a replica ends that scaling took away; the app is being scaled while it lasts.
pub const SCALED_DOWN: &str = "scaled down";

/// Why a replica ends when its app is stopped; the app is starting again while it lasts.
pub const STOPPED: &str = "stopped on request";

/// Why a replica ends whose app had no request for long.
pub const ASLEEP: &str = "asleep";

/// What is known of an instance.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Its deployments that are not final, oldest first.
    pub deployments: Vec<DeploymentState>,
    /// Its replicas share a volume: one set at a time may run.
    pub exclusive: bool,
    /// Nothing may run for the moment: its volume is being copied, or another service still uses it.
    pub paused: bool,
    /// Whether it may sleep; `None` when it may not.
    pub rest: Option<Rest>,
    /// How its runs stand, if a deployment of it has a schedule.
    pub runs: Runs,
}

/// When an instance sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rest {
    /// For how long none of its replicas had a request; `None` when nobody knows.
    pub idle: Option<SignedDuration>,
    /// After how long it sleeps.
    pub after: SignedDuration,
}

/// A deployment as the planner sees it.
#[derive(Clone, Debug)]
pub struct DeploymentState {
    /// Which.
    pub id: DeploymentId,
    /// Where it stands.
    pub status: DeploymentStatus,
    /// The generation that is wanted.
    pub generation: i64,
    /// Its replicas shall end while it stays.
    pub stopped: bool,
    /// How many replicas it wants.
    pub wanted: u32,
    /// When the status last changed.
    pub since: Timestamp,
    /// Seconds that a candidate has to become healthy.
    pub health_seconds: u32,
    /// It fails when it is late; otherwise it counts as deployed then, and its predecessor serves until it answers.
    pub verified: bool,
    /// Seconds that its predecessor goes on beside it.
    pub overlap_seconds: u32,
    /// Something comes before its first start, such as a pre-deploy command.
    pub waiting: bool,
    /// It runs at these times alone.
    pub schedule: Option<Schedule>,
    /// Its replicas that are not gone.
    pub replicas: Vec<ReplicaState>,
}

/// A replica as the planner sees it.
#[derive(Clone, Debug)]
pub struct ReplicaState {
    /// Which.
    pub id: ReplicaId,
    /// Its place.
    pub index: u32,
    /// Its generation.
    pub generation: i64,
    /// What it does.
    pub phase: Phase,
    /// It is not known to answer nobody; the others take requests only where there is none like it.
    pub answers: bool,
}

/// What a replica does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Its app runs and is not healthy yet, or will be started again.
    Starting,
    /// Its app answers.
    Healthy,
    /// Its app ended well and shall not be started again.
    Exited,
    /// Its app ended with an error and the restarts are used up.
    Crashed {
        /// What happened, in words for the user.
        reason: String,
    },
    /// It drains.
    Stopping,
    /// Somebody has killed it. Where it is the only one, nothing takes its place before then.
    Killed {
        /// When that has shown for long enough; while it still runs, when to look again at the latest.
        until: Timestamp,
    },
    /// Its supervisor is gone: nothing is known of the app.
    Lost,
}

/// What to do, in this order: transitions that announce, starts, the table, then stops and the transitions that follow from it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Replicas to start: deployment, generation, index.
    pub start: Vec<(DeploymentId, i64, u32)>,
    /// Replicas that shall take requests.
    pub route: Vec<ReplicaId>,
    /// The deployment that serves.
    pub serving: Option<DeploymentId>,
    /// Replicas to stop, with the reason.
    pub stop: Vec<(ReplicaId, &'static str)>,
    /// Replicas whose row says that they are gone.
    pub forget: Vec<(ReplicaId, &'static str)>,
    /// Status changes.
    pub transition: Vec<Transition>,
    /// The open run has ended.
    pub finish: Option<ReplicaId>,
    /// A time of the schedule has come.
    pub begin: Option<Begin>,
    /// When to look again even if nothing happens.
    pub again_at: Option<Timestamp>,
}

/// A change of a deployment's status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transition {
    /// Which.
    pub deployment: DeploymentId,
    /// From.
    pub from: DeploymentStatus,
    /// To.
    pub to: DeploymentStatus,
    /// Why, in words for the user.
    pub reason: Option<String>,
    /// All its replicas have ended well.
    pub completed: bool,
}

/// Plans the next steps. Pure: the same observation gives the same plan, and an observation that already is as desired gives an empty
/// one (but for the route).
#[must_use]
pub fn plan(observed: &Observed, now: Timestamp) -> Plan {
    if observed.paused {
        return pause(observed);
    }
    let mut plan = Plan::default();
    let newest_whole = observed.deployments.iter().rposition(|d| is_whole(d) && d.status != DeploymentStatus::Removing);

    for (at, deployment) in observed.deployments.iter().enumerate() {
        let superseded = newest_whole.is_some_and(|whole| at < whole);
        let successor = newest_whole.filter(|whole| at < *whole).map(|whole| &observed.deployments[whole]);
        if deployment.status == DeploymentStatus::Removing {
            retire(&mut plan, deployment, "removed");
        } else if superseded && deployment.status.is_live() {
            // Two sets cannot use one volume, what has a schedule takes over from nobody, and who does not serve has nothing to go on with.
            let serves = deployment.status == DeploymentStatus::Success && deployment.schedule.is_none();
            let beside = successor.filter(|next| serves && !observed.exclusive && next.schedule.is_none());
            if let Some(until) = beside.and_then(|next| overlap_end(next, now)).filter(|until| *until > now) {
                look_again(&mut plan, until);
            } else {
                announce(&mut plan, deployment, DeploymentStatus::Removing, None);
                retire(&mut plan, deployment, "replaced by a newer deployment");
            }
        } else if !superseded {
            converge(&mut plan, deployment, &observed.runs, now);
            if deployment.status == DeploymentStatus::Sleeping && observed.rest.is_none() {
                announce(&mut plan, deployment, DeploymentStatus::Success, None);
            }
        }
    }
    for replica in observed.deployments.iter().flat_map(|deployment| &deployment.replicas) {
        if let Phase::Killed { until } = replica.phase {
            look_again(&mut plan, until);
        }
    }
    runs::tend(&mut plan, observed, now);
    fall_asleep(&mut plan, observed, now);
    route(&mut plan, observed);
    if observed.exclusive {
        one_at_a_time(&mut plan, observed);
    }
    // A replica that still carries traffic must not be stopped in the same breath.
    plan.stop.retain(|(replica, _)| !plan.route.contains(replica));
    plan
}

fn runs(replica: &ReplicaState) -> bool {
    matches!(replica.phase, Phase::Starting | Phase::Healthy)
}

/// Everything ends and nothing is decided.
fn pause(observed: &Observed) -> Plan {
    let all = observed.deployments.iter().flat_map(|deployment| &deployment.replicas);
    let stop = all
        .filter(|replica| runs(replica))
        .map(|replica| (replica.id, "its volume is being copied, or another service still uses it"))
        .collect();
    Plan { stop, ..Plan::default() }
}

/// Only the newest set that is wanted runs, and it begins when no other does any more: two servers over the same files would ruin them.
fn one_at_a_time(plan: &mut Plan, observed: &Observed) {
    let wanted = |deployment: &&DeploymentState| match deployment.status {
        DeploymentStatus::Deploying => !deployment.waiting,
        DeploymentStatus::Success => !deployment.stopped,
        _ => false,
    };
    let Some(chosen) = observed.deployments.iter().rev().find(wanted) else { return };
    let failing = plan.transition.iter().any(|transition| {
        transition.deployment == chosen.id && matches!(transition.to, DeploymentStatus::Failed | DeploymentStatus::Crashed)
    });
    let mut occupied = failing;
    for deployment in &observed.deployments {
        let others = deployment.replicas.iter().filter(|replica| deployment.id != chosen.id || replica.generation != chosen.generation);
        for replica in others {
            occupied |= runs(replica) || matches!(replica.phase, Phase::Stopping | Phase::Killed { .. });
            if runs(replica) && !failing {
                plan.route.retain(|id| *id != replica.id);
                if !plan.stop.iter().any(|(id, _)| *id == replica.id) {
                    plan.stop.push((replica.id, "its volume is needed by a newer one"));
                }
            }
        }
    }
    // One that is still on its way out has the files open.
    occupied |= current(chosen).any(|replica| replica.phase == Phase::Stopping);
    plan.start.retain(|(deployment, generation, _)| !occupied && *deployment == chosen.id && *generation == chosen.generation);
}

/// Every wanted replica of the wanted generation is healthy.
fn is_whole(deployment: &DeploymentState) -> bool {
    if deployment.schedule.is_some() {
        return runs::is_whole(deployment);
    }
    let healthy = current(deployment).filter(|replica| replica.phase == Phase::Healthy).count();
    match deployment.status {
        DeploymentStatus::Deploying => healthy as u32 >= deployment.wanted.max(1),
        DeploymentStatus::Success => healthy > 0 || deployment.stopped,
        _ => false,
    }
}

fn current(deployment: &DeploymentState) -> impl Iterator<Item = &ReplicaState> {
    deployment.replicas.iter().filter(|replica| replica.generation == deployment.generation)
}

/// Until when a predecessor goes on beside its whole successor. Beside one that was stopped it would take the requests.
fn overlap_end(next: &DeploymentState, now: Timestamp) -> Option<Timestamp> {
    // It begins when the successor is announced, which for one that deploys is still to come.
    let begun = if next.status == DeploymentStatus::Deploying { now } else { next.since };
    (next.overlap_seconds > 0 && !next.stopped).then(|| begun + SignedDuration::from_secs(i64::from(next.overlap_seconds)))
}

fn announce(plan: &mut Plan, deployment: &DeploymentState, to: DeploymentStatus, reason: Option<String>) {
    plan.transition.push(Transition { deployment: deployment.id, from: deployment.status, to, reason, completed: false });
}

fn look_again(plan: &mut Plan, at: Timestamp) {
    plan.again_at = Some(plan.again_at.map_or(at, |other| other.min(at)));
}

/// Stops every replica; once none is left the deployment is removed.
fn retire(plan: &mut Plan, deployment: &DeploymentState, why: &'static str) {
    let mut left = false;
    for replica in &deployment.replicas {
        match replica.phase {
            Phase::Starting | Phase::Healthy => {
                plan.stop.push((replica.id, why));
                left = true;
            }
            Phase::Stopping | Phase::Killed { .. } => left = true,
            Phase::Exited | Phase::Crashed { .. } | Phase::Lost => plan.forget.push((replica.id, why)),
        }
    }
    if !left && deployment.status == DeploymentStatus::Removing {
        announce(plan, deployment, DeploymentStatus::Removed, None);
    }
}

/// An instance that is as it should be, and that nobody has asked for long enough, sleeps from now on.
fn fall_asleep(plan: &mut Plan, observed: &Observed, now: Timestamp) {
    let (Some(rest), [only]) = (observed.rest, observed.deployments.as_slice()) else { return };
    let awake = only.status == DeploymentStatus::Success && !only.stopped && only.schedule.is_none();
    let at_rest = plan.transition.is_empty() && plan.start.is_empty() && plan.stop.is_empty();
    if !awake || !at_rest || !only.replicas.iter().all(|replica| replica.phase == Phase::Healthy) {
        return;
    }
    // Whoever woke it has not been answered yet.
    let idle = rest.idle.map_or(SignedDuration::ZERO, |idle| idle.min(now.duration_since(only.since)));
    if idle >= rest.after {
        announce(plan, only, DeploymentStatus::Sleeping, None);
    } else {
        look_again(plan, now + (rest.after - idle));
    }
}

fn converge(plan: &mut Plan, deployment: &DeploymentState, runs: &Runs, now: Timestamp) {
    match deployment.status {
        DeploymentStatus::Deploying if deployment.schedule.is_some() => runs::candidate(plan, deployment),
        DeploymentStatus::Success if deployment.schedule.is_some() => runs::keep(plan, deployment, runs),
        DeploymentStatus::Deploying => candidate(plan, deployment, now),
        DeploymentStatus::Success => serving(plan, deployment),
        // It stays, without replicas.
        DeploymentStatus::Sleeping => retire(plan, deployment, ASLEEP),
        _ => {}
    }
}

fn candidate(plan: &mut Plan, deployment: &DeploymentState, now: Timestamp) {
    if let Some(reason) = current(deployment).find_map(|replica| match &replica.phase {
        Phase::Crashed { reason } => Some(reason.clone()),
        _ => None,
    }) {
        return fail(plan, deployment, DeploymentStatus::Crashed, reason);
    }
    let ready = |replica: &ReplicaState| matches!(replica.phase, Phase::Healthy | Phase::Exited);
    let done = current(deployment).filter(|replica| ready(replica)).count() as u32;
    if done >= deployment.wanted.max(1) {
        let completed = current(deployment).all(|replica| replica.phase == Phase::Exited);
        plan.transition.push(Transition {
            deployment: deployment.id,
            from: deployment.status,
            to: DeploymentStatus::Success,
            reason: None,
            completed,
        });
        drop_older_generations(plan, deployment);
        return;
    }
    let deadline = deployment.since + jiff::SignedDuration::from_secs(i64::from(deployment.health_seconds));
    if now >= deadline && !deployment.verified {
        return announce(plan, deployment, DeploymentStatus::Success, None);
    }
    if now >= deadline {
        let reason = format!(
            "{}/{} replicas never became healthy within {} seconds: the app has to listen on $PORT and answer there",
            deployment.wanted.max(1) - done,
            deployment.wanted.max(1),
            deployment.health_seconds
        );
        return fail(plan, deployment, DeploymentStatus::Failed, reason);
    }
    look_again(plan, deadline);
    start_missing(plan, deployment);
}

/// A candidate that fails takes its own replicas along and nothing else. After a failed restart the older generation goes on.
fn fail(plan: &mut Plan, deployment: &DeploymentState, to: DeploymentStatus, reason: String) {
    announce(plan, deployment, to, Some(reason));
    for replica in current(deployment) {
        match replica.phase {
            Phase::Starting | Phase::Healthy => plan.stop.push((replica.id, "its deployment failed")),
            Phase::Lost => plan.forget.push((replica.id, "its supervisor ended")),
            _ => {}
        }
    }
}

fn serving(plan: &mut Plan, deployment: &DeploymentState) {
    drop_older_generations(plan, deployment);
    if deployment.stopped {
        for replica in current(deployment).filter(|replica| matches!(replica.phase, Phase::Starting | Phase::Healthy)) {
            plan.stop.push((replica.id, STOPPED));
        }
        return;
    }
    let ended = |replica: &ReplicaState| matches!(replica.phase, Phase::Exited | Phase::Crashed { .. });
    let all: Vec<_> = current(deployment).filter(|replica| replica.phase != Phase::Lost).collect();
    if !all.is_empty() && all.iter().all(|replica| ended(replica)) && all.len() as u32 >= deployment.wanted.max(1) {
        let crash = all.iter().find_map(|replica| match &replica.phase {
            Phase::Crashed { reason } => Some(reason.clone()),
            _ => None,
        });
        match crash {
            Some(reason) => announce(plan, deployment, DeploymentStatus::Crashed, Some(reason)),
            None => plan.transition.push(Transition {
                deployment: deployment.id,
                from: deployment.status,
                to: DeploymentStatus::Success,
                reason: None,
                completed: true,
            }),
        }
        return;
    }
    start_missing(plan, deployment);
    for replica in current(deployment).filter(|replica| replica.index >= deployment.wanted.max(1)) {
        if matches!(replica.phase, Phase::Starting | Phase::Healthy) {
            plan.stop.push((replica.id, SCALED_DOWN));
        }
    }
}

fn drop_older_generations(plan: &mut Plan, deployment: &DeploymentState) {
    for replica in deployment.replicas.iter().filter(|replica| replica.generation < deployment.generation) {
        match replica.phase {
            Phase::Starting | Phase::Healthy => plan.stop.push((replica.id, "replaced by a restart")),
            Phase::Stopping | Phase::Killed { .. } => {}
            Phase::Exited | Phase::Crashed { .. } | Phase::Lost => plan.forget.push((replica.id, "replaced by a restart")),
        }
    }
}

fn start_missing(plan: &mut Plan, deployment: &DeploymentState) {
    for replica in current(deployment).filter(|replica| replica.phase == Phase::Lost) {
        plan.forget.push((replica.id, "its supervisor ended"));
    }
    let wanted = deployment.wanted.max(1);
    for index in 0..wanted {
        let present = current(deployment).filter(|replica| replica.index == index).any(|replica| match replica.phase {
            Phase::Lost | Phase::Stopping => false,
            Phase::Killed { .. } => wanted == 1,
            _ => true,
        });
        if !present {
            plan.start.push((deployment.id, deployment.generation, index));
        }
    }
}

/// The newest whole set serves; failing that, whatever is healthy of the newest set that has anything healthy, so that a failure
/// half way never takes the last working replica out of the table.
fn route(plan: &mut Plan, observed: &Observed) {
    let mut sets: Vec<(&DeploymentState, i64, Vec<ReplicaId>, bool)> = vec![];
    for deployment in observed.deployments.iter().rev() {
        let unreachable = matches!(deployment.status, DeploymentStatus::Removing | DeploymentStatus::Sleeping);
        if unreachable || deployment.stopped || deployment.schedule.is_some() {
            continue;
        }
        let mut generations: Vec<i64> = deployment.replicas.iter().map(|replica| replica.generation).collect();
        generations.sort_unstable();
        generations.dedup();
        for generation in generations.into_iter().rev() {
            let healthy = healthy_of(deployment, generation);
            let failed =
                matches!(deployment.status, DeploymentStatus::Crashed | DeploymentStatus::Failed) && generation == deployment.generation;
            let whole = generation == deployment.generation && is_whole(deployment);
            if !healthy.is_empty() && !failed {
                sets.push((deployment, generation, healthy, whole));
            }
        }
    }
    let is_candidate = |set: &&(&DeploymentState, i64, Vec<ReplicaId>, bool)| {
        set.0.status == DeploymentStatus::Deploying && set.1 == set.0.generation && !set.3
    };
    let chosen = sets.iter().find(|set| set.3).or_else(|| sets.iter().find(|set| !is_candidate(set)));
    if let Some((deployment, _, healthy, _)) = chosen {
        plan.serving = Some(deployment.id);
        plan.route.clone_from(healthy);
    }
}

/// The healthy replicas of one generation that are the best to ask: those that answer before those that do not, and then those that stay
/// before those that scaling down will stop. Whatever there is, something is asked.
fn healthy_of(deployment: &DeploymentState, generation: i64) -> Vec<ReplicaId> {
    let healthy = || deployment.replicas.iter().filter(|replica| replica.generation == generation && replica.phase == Phase::Healthy);
    let merit = |replica: &ReplicaState| {
        let stays = generation < deployment.generation || replica.index < deployment.wanted.max(1);
        (replica.answers, stays)
    };
    let best = healthy().map(merit).max();
    healthy().filter(|replica| Some(merit(replica)) == best).map(|replica| replica.id).collect()
}

#[cfg(test)]
mod tests;
