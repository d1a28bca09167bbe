//! Runs of a deployment with a schedule (`contracts/railway.md` 3.8).
//!
//! Such a deployment has no replicas but those of its runs, one at a time. A run is recorded first, when its time has come or somebody has
//! asked for it; its replica follows, and the run ends with it. No request is routed to them.

use jiff::{SignedDuration, Timestamp};

use super::{DeploymentState, Observed, Phase, Plan, STOPPED, announce, current, drop_older_generations, look_again};
use crate::deployment::DeploymentStatus;
use crate::{DeploymentId, ReplicaId};

/// Why a replica ends whose service runs by a schedule from now on.
const BY_SCHEDULE: &str = "it runs by its schedule";

/// A run that could not begin for so long after its time is left out: nobody expects the job of the night in the afternoon.
const LATE: SignedDuration = SignedDuration::from_mins(2);

/// How the runs of an instance stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Runs {
    /// The one that has not ended.
    pub open: Option<OpenRun>,
    /// The newest time of the schedule for which there is a run, or a note that it was skipped.
    pub last_due: Option<Timestamp>,
}

/// A run that has not ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenRun {
    /// Its id and its replica's.
    pub id: ReplicaId,
    /// What it runs.
    pub deployment: DeploymentId,
    /// It has or had its replica.
    pub started: bool,
}

/// A run that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Begin {
    /// What is to run.
    pub deployment: DeploymentId,
    /// The time of the schedule.
    pub due: Timestamp,
    /// The run before it has not ended: this one is only noted.
    pub skipped: bool,
}

/// There is nothing to wait for but what comes before the first start.
pub(super) fn is_whole(deployment: &DeploymentState) -> bool {
    match deployment.status {
        DeploymentStatus::Deploying => !deployment.waiting,
        DeploymentStatus::Success => true,
        _ => false,
    }
}

/// It succeeds without having run.
pub(super) fn candidate(plan: &mut Plan, deployment: &DeploymentState) {
    if !deployment.waiting {
        announce(plan, deployment, DeploymentStatus::Success, None);
        drop_older_generations(plan, deployment);
    }
}

/// Nothing runs but the open run.
pub(super) fn keep(plan: &mut Plan, deployment: &DeploymentState, runs: &Runs) {
    drop_older_generations(plan, deployment);
    for replica in current(deployment) {
        let is_run = runs.open.as_ref().is_some_and(|run| run.id == replica.id);
        match replica.phase {
            Phase::Starting | Phase::Healthy if deployment.stopped => plan.stop.push((replica.id, STOPPED)),
            Phase::Starting | Phase::Healthy if !is_run => plan.stop.push((replica.id, BY_SCHEDULE)),
            Phase::Starting | Phase::Healthy | Phase::Stopping | Phase::Killed { .. } => {}
            Phase::Exited | Phase::Crashed { .. } | Phase::Lost => plan.forget.push((replica.id, "its run has ended")),
        }
    }
}

/// Starts and ends the open run, and begins the next one when its time has come.
pub(super) fn tend(plan: &mut Plan, observed: &Observed, now: Timestamp) {
    let newest = observed.deployments.iter().rev().find(|deployment| deployment.status == DeploymentStatus::Success);
    let serving = newest.filter(|deployment| !deployment.stopped).and_then(|deployment| Some((deployment, deployment.schedule.as_ref()?)));
    let busy = tend_open(plan, observed, serving.map(|(deployment, _)| deployment));
    let Some((deployment, schedule)) = serving else { return };
    if let Some(next) = schedule.after(now) {
        look_again(plan, next);
    }
    let since = observed.runs.last_due.map_or(deployment.since, |last| last.max(deployment.since));
    let due = schedule.due(now).filter(|due| *due > since && now.duration_since(*due) <= LATE);
    plan.begin = due.map(|due| Begin { deployment: deployment.id, due, skipped: busy });
}

/// Returns whether a run goes on.
fn tend_open(plan: &mut Plan, observed: &Observed, serving: Option<&DeploymentState>) -> bool {
    let Some(run) = &observed.runs.open else { return false };
    let mut replicas = observed.deployments.iter().flat_map(|deployment| &deployment.replicas);
    match replicas.find(|replica| replica.id == run.id).map(|replica| &replica.phase) {
        Some(Phase::Starting | Phase::Healthy | Phase::Stopping | Phase::Killed { .. }) => return true,
        Some(Phase::Exited | Phase::Crashed { .. } | Phase::Lost) => {}
        None => {
            if let Some(deployment) = serving.filter(|deployment| !run.started && deployment.id == run.deployment) {
                plan.start.push((deployment.id, deployment.generation, 0));
                return true;
            }
        }
    }
    plan.finish = Some(run.id);
    false
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::rollout::{ReplicaState, plan};
    use crate::schedule::Schedule;

    const STEP: i64 = 20;
    const STEPS: i64 = 360;

    /// Seconds after a full hour.
    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn replica(id: ReplicaId, phase: Phase) -> ReplicaState {
        ReplicaState { id, index: 0, generation: 0, phase, answers: true }
    }

    fn deployment(status: DeploymentStatus, schedule: Option<&str>, replicas: Vec<ReplicaState>) -> DeploymentState {
        DeploymentState {
            id: DeploymentId::generate(),
            status,
            generation: 0,
            stopped: false,
            wanted: 1,
            since: at(0),
            health_seconds: 300,
            verified: true,
            overlap_seconds: 0,
            waiting: false,
            schedule: schedule.map(|text| Schedule::parse(text).unwrap()),
            replicas,
        }
    }

    fn seen(deployments: &[&DeploymentState], runs: &Runs) -> Observed {
        Observed { deployments: deployments.iter().map(|one| (*one).clone()).collect(), runs: runs.clone(), ..Observed::default() }
    }

    fn open(deployment: &DeploymentState, started: bool) -> Runs {
        Runs { open: Some(OpenRun { id: ReplicaId::generate(), deployment: deployment.id, started }), last_due: None }
    }

    #[test]
    fn a_schedule_ends_what_ran_all_the_time_and_its_first_run_waits_for_its_time() {
        let old = deployment(DeploymentStatus::Success, None, vec![replica(ReplicaId::generate(), Phase::Healthy)]);
        let mut new = deployment(DeploymentStatus::Deploying, Some("0 * * * *"), vec![]);
        new.waiting = true;
        let before = plan(&seen(&[&old, &new], &Runs::default()), at(60));
        assert!(before.transition.is_empty() && before.route == [old.replicas[0].id], "{before:?}");
        new.waiting = false;
        let announced = plan(&seen(&[&old, &new], &Runs::default()), at(60));
        let moves: Vec<_> = announced.transition.iter().map(|one| (one.deployment, one.to)).collect();
        assert_eq!(moves, [(old.id, DeploymentStatus::Removing), (new.id, DeploymentStatus::Success)]);
        assert!(announced.start.is_empty());
        let (old, new) =
            (DeploymentState { status: DeploymentStatus::Removing, ..old }, DeploymentState { status: DeploymentStatus::Success, ..new });
        let then = plan(&seen(&[&old, &new], &Runs::default()), at(61));
        assert!(then.route.is_empty() && then.start.is_empty() && then.begin.is_none());
        assert_eq!((then.stop.len(), then.again_at), (1, Some(at(3600))));
        let due = plan(&seen(&[&new], &Runs::default()), at(3600));
        assert_eq!(due.begin, Some(Begin { deployment: new.id, due: at(3600), skipped: false }));
    }

    #[test]
    fn without_its_schedule_it_is_an_ordinary_service_again() {
        let old = deployment(DeploymentStatus::Success, Some("0 * * * *"), vec![]);
        let new = DeploymentState { since: at(3590), ..deployment(DeploymentStatus::Deploying, None, vec![]) };
        let candidate = plan(&seen(&[&old, &new], &Runs::default()), at(3600));
        assert_eq!(candidate.start, [(new.id, 0, 0)]);
        assert!(candidate.begin.is_some(), "the newest that has succeeded still runs at its times");
        let healthy = DeploymentState { replicas: vec![replica(ReplicaId::generate(), Phase::Healthy)], ..new };
        let whole = plan(&seen(&[&old, &healthy], &Runs::default()), at(60));
        assert_eq!((whole.route.len(), whole.serving), (1, Some(healthy.id)));
        assert!(whole.transition.iter().any(|one| one.deployment == old.id && one.to == DeploymentStatus::Removing));
    }

    #[test]
    fn what_is_asked_for_starts_at_once_and_a_stopped_one_ends_its_run() {
        let mut it = deployment(DeploymentStatus::Success, Some("0 * * * *"), vec![]);
        let mut runs = open(&it, false);
        assert_eq!(plan(&seen(&[&it], &runs), at(60)).start, [(it.id, 0, 0)]);
        let id = runs.open.as_ref().unwrap().id;
        it.replicas = vec![replica(id, Phase::Healthy)];
        runs = Runs { open: Some(OpenRun { id, deployment: it.id, started: true }), last_due: None };
        let running = plan(&seen(&[&it], &runs), at(60));
        assert_eq!(running, Plan { again_at: Some(at(3600)), ..Plan::default() });
        it.stopped = true;
        let stopped = plan(&seen(&[&it], &runs), at(3600));
        assert_eq!((stopped.stop, stopped.begin), (vec![(id, STOPPED)], None));
        it.replicas = vec![replica(id, Phase::Lost)];
        assert_eq!(plan(&seen(&[&it], &runs), at(3600)).finish, Some(id));
        // Its replica is gone altogether: it does not begin a second time.
        it.stopped = false;
        it.replicas.clear();
        let gone = plan(&seen(&[&it], &runs), at(60));
        assert_eq!((gone.finish, gone.start.len()), (Some(id), 0));
    }

    /// An engine that is up but for a while, over a deployment whose runs take so many steps each.
    struct Played {
        it: DeploymentState,
        runs: Runs,
        ends: i64,
        lengths: Vec<i64>,
        begun: usize,
        told: Vec<(i64, bool)>,
    }

    impl Played {
        /// One look. Returns whether there was nothing to do.
        fn look(&mut self, now: i64) -> bool {
            let plan = plan(&seen(&[&self.it], &self.runs), at(now));
            assert!(plan.route.is_empty() && plan.transition.is_empty() && plan.stop.is_empty(), "{plan:?}");
            let idle = plan.start.is_empty() && plan.finish.is_none() && plan.begin.is_none();
            if let Some(id) = plan.finish {
                assert_eq!(self.runs.open.take().map(|run| run.id), Some(id));
            }
            self.it.replicas.retain(|replica| !plan.forget.iter().any(|(id, _)| *id == replica.id));
            for start in plan.start {
                assert_eq!((start, self.it.replicas.len()), ((self.it.id, 0, 0), 0));
                let run = self.runs.open.as_mut().unwrap();
                run.started = true;
                self.it.replicas.push(replica(run.id, Phase::Healthy));
                self.ends = now + self.lengths[self.begun % self.lengths.len()] * STEP;
                self.begun += 1;
            }
            if let Some(begin) = plan.begin {
                let due = begin.due.as_second() - at(0).as_second();
                self.told.push((due, begin.skipped));
                self.runs.last_due = Some(begin.due);
                if !begin.skipped {
                    assert_eq!(self.runs.open, None);
                    self.runs.open = open(&self.it, false).open;
                }
            }
            idle
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn each_time_is_run_or_skipped_once_and_none_overlap(
            every in prop::sample::select(vec![5i64, 10, 15, 30]),
            lengths in prop::collection::vec(1i64..120, 1..12),
            (down, down_for) in (0i64..350, 0i64..60),
        ) {
            let it = deployment(DeploymentStatus::Success, Some(&format!("*/{every} * * * *")), vec![]);
            let mut played = Played { it, runs: Runs::default(), ends: 0, lengths: lengths.clone(), begun: 0, told: vec![] };
            let (mut expected, mut busy, mut begun): (Vec<(i64, bool)>, i64, usize) = (vec![], 0, 0);
            for step in (1..STEPS).filter(|step| !(down..down + down_for).contains(step)) {
                let now = step * STEP;
                if now >= played.ends {
                    for replica in &mut played.it.replicas {
                        replica.phase = Phase::Exited;
                    }
                }
                prop_assert!((0..5).any(|_| played.look(now)), "it comes to rest");
                let due = now / (every * 60) * (every * 60);
                let known = expected.last().map_or(0, |(last, _)| *last);
                if due > known && now - due <= 120 {
                    expected.push((due, busy > now));
                    if busy <= now {
                        busy = now + lengths[begun % lengths.len()] * STEP;
                        begun += 1;
                    }
                }
            }
            prop_assert_eq!(played.told, expected);
        }
    }
}
