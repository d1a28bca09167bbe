use proptest::prelude::*;

use super::*;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_000_000 + seconds).unwrap()
}

fn replica(index: u32, phase: Phase) -> ReplicaState {
    ReplicaState { id: ReplicaId::generate(), index, generation: 0, phase, answers: true }
}

fn deployment(status: DeploymentStatus, wanted: u32, replicas: Vec<ReplicaState>) -> DeploymentState {
    DeploymentState {
        id: DeploymentId::generate(),
        status,
        generation: 0,
        stopped: false,
        wanted,
        since: at(0),
        health_seconds: 300,
        verified: true,
        overlap_seconds: 0,
        waiting: false,
        schedule: None,
        replicas,
    }
}

fn crashed() -> Phase {
    Phase::Crashed { reason: "exited with status 1".into() }
}

#[test]
fn a_candidate_starts_what_is_missing() {
    let new = deployment(DeploymentStatus::Deploying, 2, vec![replica(1, Phase::Starting)]);
    let plan = plan(&Observed { deployments: vec![new.clone()], ..Observed::default() }, at(1));
    assert_eq!(plan.start, [(new.id, 0, 0)]);
    assert!(plan.route.is_empty());
    assert_eq!(plan.again_at, Some(at(300)));
}

#[test]
fn the_old_one_serves_until_the_candidate_is_whole_and_drains_then() {
    let old = deployment(DeploymentStatus::Success, 1, vec![replica(0, Phase::Healthy)]);
    let half = deployment(DeploymentStatus::Deploying, 2, vec![replica(0, Phase::Healthy), replica(1, Phase::Starting)]);
    let before = plan(&Observed { deployments: vec![old.clone(), half.clone()], ..Observed::default() }, at(1));
    assert_eq!(before.serving, Some(old.id));
    assert!(before.stop.is_empty());

    let mut whole = half;
    whole.replicas[1].phase = Phase::Healthy;
    let after = plan(&Observed { deployments: vec![old.clone(), whole.clone()], ..Observed::default() }, at(2));
    assert_eq!(after.serving, Some(whole.id));
    assert_eq!(after.route.len(), 2);
    assert_eq!(after.stop, [(old.replicas[0].id, "replaced by a newer deployment")]);
    assert!(after.transition.iter().any(|t| t.deployment == whole.id && t.to == DeploymentStatus::Success));
    assert!(after.transition.iter().any(|t| t.deployment == old.id && t.to == DeploymentStatus::Removing));
}

#[test]
fn an_overlap_begins_when_the_new_one_is_announced_and_the_old_one_leaves_after_it() {
    let old = deployment(DeploymentStatus::Success, 1, vec![replica(0, Phase::Healthy)]);
    let mut new = deployment(DeploymentStatus::Deploying, 1, vec![replica(0, Phase::Healthy)]);
    new.overlap_seconds = 60;
    let look = |new: &DeploymentState, exclusive, now| {
        plan(&Observed { deployments: vec![old.clone(), new.clone()], exclusive, ..Observed::default() }, at(now))
    };
    let leaves = |plan: &Plan| plan.transition.iter().any(|t| t.deployment == old.id && t.to == DeploymentStatus::Removing);
    // It has taken longer to become healthy than it overlaps.
    let announced = look(&new, false, 100);
    assert_eq!((announced.serving, announced.transition.len(), announced.transition[0].to), (Some(new.id), 1, DeploymentStatus::Success));
    assert!(announced.stop.is_empty() && !leaves(&announced), "{announced:?}");
    assert!(leaves(&look(&new, true, 100)), "one volume is for one set");

    (new.status, new.since) = (DeploymentStatus::Success, at(100));
    let beside = look(&new, false, 159);
    assert_eq!((beside.serving, beside.route.len(), beside.again_at), (Some(new.id), 1, Some(at(160))));
    assert!(beside.stop.is_empty() && !leaves(&beside), "{beside:?}");
    let over = look(&new, false, 160);
    assert_eq!(over.stop, [(old.replicas[0].id, "replaced by a newer deployment")]);
    assert!(leaves(&over));
    assert!(leaves(&look(&DeploymentState { stopped: true, ..new.clone() }, false, 159)), "what was stopped has no stand-in");
    let overtaken = DeploymentState { status: DeploymentStatus::Deploying, ..old.clone() };
    let overtaken = plan(&Observed { deployments: vec![overtaken, new.clone()], ..Observed::default() }, at(120));
    assert!(leaves(&overtaken), "what has never served has nothing to go on with");
    new.replicas[0].phase = Phase::Starting;
    assert_eq!(look(&new, false, 120).serving, Some(old.id), "while the old one is there it helps out");
}

#[test]
fn a_candidate_that_crashes_or_is_late_leaves_the_old_one_alone() {
    for (phase, now, to) in [(crashed(), 5, DeploymentStatus::Crashed), (Phase::Starting, 300, DeploymentStatus::Failed)] {
        let old = deployment(DeploymentStatus::Success, 1, vec![replica(0, Phase::Healthy)]);
        let new = deployment(DeploymentStatus::Deploying, 1, vec![replica(0, phase)]);
        let plan = plan(&Observed { deployments: vec![old.clone(), new.clone()], ..Observed::default() }, at(now));
        assert_eq!(plan.serving, Some(old.id));
        assert!(!plan.stop.iter().any(|(replica, _)| *replica == old.replicas[0].id));
        assert_eq!(plan.transition.len(), 1);
        assert_eq!((plan.transition[0].deployment, plan.transition[0].to), (new.id, to));
    }
}

#[test]
fn who_answers_nobody_is_asked_only_where_nobody_answers() {
    let silent = |index| ReplicaState { answers: false, ..replica(index, Phase::Healthy) };
    let route = |wanted, replicas: &[&ReplicaState]| {
        let it = deployment(DeploymentStatus::Success, wanted, replicas.iter().map(|replica| (*replica).clone()).collect());
        let plan = plan(&Observed { deployments: vec![it], ..Observed::default() }, at(1));
        (plan.route, plan.stop.into_iter().map(|(id, _)| id).collect::<Vec<_>>())
    };
    let (zero, one) = (silent(0), replica(1, Phase::Healthy));
    assert_eq!(route(2, &[&zero, &one]), (vec![one.id], vec![]));
    assert_eq!(route(1, &[&zero]), (vec![zero.id], vec![]), "better a slow answer than none");
    // The one that answers goes when another does.
    assert_eq!(route(1, &[&zero, &one]), (vec![one.id], vec![]));
    let zero = ReplicaState { answers: true, ..zero };
    assert_eq!(route(1, &[&zero, &one]), (vec![zero.id], vec![one.id]));
}

#[test]
fn a_candidate_that_nobody_verifies_is_deployed_when_it_is_late_and_serves_when_it_answers() {
    let old = deployment(DeploymentStatus::Success, 1, vec![replica(0, Phase::Healthy)]);
    let mut new = DeploymentState { verified: false, ..deployment(DeploymentStatus::Deploying, 1, vec![replica(0, Phase::Starting)]) };
    let look = |new: &DeploymentState, now| plan(&Observed { deployments: vec![old.clone(), new.clone()], ..Observed::default() }, at(now));
    assert!(look(&new, 299).transition.is_empty());
    let late = look(&new, 300);
    assert_eq!((late.transition.len(), late.transition[0].deployment, late.transition[0].to), (1, new.id, DeploymentStatus::Success));
    new.status = DeploymentStatus::Success;
    for plan in [late, look(&new, 301)] {
        assert_eq!((plan.serving, plan.stop.len(), plan.start.len()), (Some(old.id), 0, 0));
    }
    new.replicas[0].phase = Phase::Healthy;
    let then = look(&new, 302);
    assert_eq!((then.serving, then.stop.len()), (Some(new.id), 1));
}

#[test]
fn an_idle_app_sleeps_and_wakes_when_it_may_sleep_no_longer() {
    let seconds = SignedDuration::from_secs;
    let rest = |idle: Option<i64>| Some(Rest { idle: idle.map(seconds), after: seconds(600) });
    let awake = deployment(DeploymentStatus::Success, 1, vec![replica(0, Phase::Healthy)]);
    let look = |it: &DeploymentState, rest, now| plan(&Observed { deployments: vec![it.clone()], rest, ..Observed::default() }, at(now));
    let busy = look(&awake, rest(Some(10)), 900);
    assert!(busy.transition.is_empty() && busy.again_at == Some(at(900 + 590)), "{busy:?}");
    assert!(look(&awake, rest(None), 900).transition.is_empty(), "the edge does not answer");
    assert!(look(&awake, rest(Some(900)), 599).transition.is_empty(), "it has been awake for less than that");
    let idle = look(&awake, rest(Some(700)), 900);
    assert_eq!((idle.transition[0].to, idle.stop.len()), (DeploymentStatus::Sleeping, 0));

    let mut asleep = DeploymentState { status: DeploymentStatus::Sleeping, ..awake };
    let ending = look(&asleep, rest(Some(700)), 901);
    assert!(ending.route.is_empty() && ending.transition.is_empty(), "{ending:?}");
    assert_eq!(ending.stop, [(asleep.replicas[0].id, ASLEEP)]);
    asleep.replicas.clear();
    assert_eq!(look(&asleep, rest(None), 902), Plan::default());
    assert_eq!(look(&asleep, None, 903).transition[0].to, DeploymentStatus::Success);
    let woken = DeploymentState { status: DeploymentStatus::Success, ..asleep };
    assert_eq!(look(&woken, rest(None), 904).start, [(woken.id, 0, 0)]);
}

#[test]
fn a_restart_keeps_the_older_generation_until_the_new_one_is_healthy() {
    let mut it = deployment(DeploymentStatus::Deploying, 1, vec![replica(0, Phase::Healthy)]);
    it.generation = 1;
    let first = plan(&Observed { deployments: vec![it.clone()], ..Observed::default() }, at(1));
    assert_eq!(first.start, [(it.id, 1, 0)]);
    assert_eq!(first.route, [it.replicas[0].id]);
    assert!(first.stop.is_empty());

    it.replicas.push(ReplicaState { generation: 1, ..replica(0, Phase::Healthy) });
    let then = plan(&Observed { deployments: vec![it.clone()], ..Observed::default() }, at(2));
    assert_eq!(then.route, [it.replicas[1].id]);
    assert_eq!(then.stop, [(it.replicas[0].id, "replaced by a restart")]);
}

#[test]
fn a_lost_replica_is_forgotten_and_replaced() {
    let it = deployment(DeploymentStatus::Success, 2, vec![replica(0, Phase::Healthy), replica(1, Phase::Lost)]);
    let plan = plan(&Observed { deployments: vec![it.clone()], ..Observed::default() }, at(1));
    assert_eq!(plan.start, [(it.id, 0, 1)]);
    assert_eq!(plan.forget, [(it.replicas[1].id, "its supervisor ended")]);
    assert_eq!(plan.route, [it.replicas[0].id]);
}

#[test]
fn all_replicas_ended_well_is_completed_and_ended_badly_is_crashed() {
    let well = deployment(DeploymentStatus::Success, 1, vec![replica(0, Phase::Exited)]);
    assert!(plan(&Observed { deployments: vec![well], ..Observed::default() }, at(1)).transition[0].completed);
    let badly = deployment(DeploymentStatus::Success, 1, vec![replica(0, crashed())]);
    assert_eq!(plan(&Observed { deployments: vec![badly], ..Observed::default() }, at(1)).transition[0].to, DeploymentStatus::Crashed);
}

#[test]
fn scaling_down_stops_the_highest_places() {
    let it = deployment(DeploymentStatus::Success, 1, vec![replica(0, Phase::Healthy), replica(1, Phase::Healthy)]);
    let plan = plan(&Observed { deployments: vec![it.clone()], ..Observed::default() }, at(1));
    // It still carries traffic in this table; the next round stops it.
    assert_eq!(plan.route, [it.replicas[0].id]);
    assert_eq!(plan.stop, [(it.replicas[1].id, "scaled down")]);
}

#[test]
fn what_is_removed_drains_and_vanishes() {
    let draining = deployment(DeploymentStatus::Removing, 1, vec![replica(0, Phase::Healthy)]);
    let first = plan(&Observed { deployments: vec![draining.clone()], ..Observed::default() }, at(1));
    assert!(first.route.is_empty());
    assert_eq!(first.stop.len(), 1);
    let gone = deployment(DeploymentStatus::Removing, 1, vec![]);
    assert_eq!(plan(&Observed { deployments: vec![gone], ..Observed::default() }, at(1)).transition[0].to, DeploymentStatus::Removed);
}

fn any_phase() -> impl Strategy<Value = Phase> {
    prop_oneof![
        Just(Phase::Starting),
        Just(Phase::Healthy),
        Just(Phase::Healthy),
        Just(Phase::Exited),
        Just(crashed()),
        Just(Phase::Stopping),
        Just(Phase::Lost)
    ]
}

fn any_deployment() -> impl Strategy<Value = DeploymentState> {
    let status = prop_oneof![
        Just(DeploymentStatus::Deploying),
        Just(DeploymentStatus::Success),
        Just(DeploymentStatus::Crashed),
        Just(DeploymentStatus::Removing)
    ];
    let replicas = prop::collection::vec((0u32..3, 0i64..2, any_phase(), any::<bool>()), 0..5);
    (status, 0u32..3, 0i64..2, any::<bool>(), replicas).prop_map(|(status, wanted, generation, stopped, replicas)| DeploymentState {
        generation,
        stopped: stopped && status == DeploymentStatus::Success,
        replicas: replicas
            .into_iter()
            .map(|(index, generation, phase, answers)| ReplicaState { generation, answers, ..replica(index, phase) })
            .collect(),
        ..deployment(status, wanted, vec![])
    })
}

proptest! {
    #[test]
    fn no_plan_stops_what_it_routes_or_routes_what_is_not_healthy(deployments in prop::collection::vec(any_deployment(), 0..4), now in 0i64..400) {
        let observed = Observed { deployments, ..Observed::default() };
        let plan = plan(&observed, at(now));
        for (stopped, _) in &plan.stop {
            prop_assert!(!plan.route.contains(stopped));
        }
        let healthy: Vec<ReplicaId> = observed.deployments.iter().flat_map(|d| &d.replicas)
            .filter(|r| r.phase == Phase::Healthy).map(|r| r.id).collect();
        prop_assert!(plan.route.iter().all(|replica| healthy.contains(replica)));
    }

    #[test]
    fn traffic_is_never_dropped_while_something_wanted_is_healthy(deployments in prop::collection::vec(any_deployment(), 0..4), now in 0i64..400) {
        let observed = Observed { deployments, ..Observed::default() };
        let plan = plan(&observed, at(now));
        let serves = observed.deployments.iter().any(|d| d.status == DeploymentStatus::Success && !d.stopped
            && d.replicas.iter().any(|r| r.phase == Phase::Healthy));
        prop_assert!(!serves || !plan.route.is_empty());
    }

    #[test]
    fn at_most_one_transition_a_deployment(deployments in prop::collection::vec(any_deployment(), 0..4), now in 0i64..400) {
        let plan = plan(&Observed { deployments, ..Observed::default() }, at(now));
        let mut ids: Vec<_> = plan.transition.iter().map(|t| t.deployment).collect();
        ids.sort();
        let before = ids.len();
        ids.dedup();
        prop_assert_eq!(ids.len(), before);
    }
}

#[test]
fn what_shares_a_volume_runs_one_at_a_time() {
    let old = deployment(DeploymentStatus::Success, 1, vec![replica(0, Phase::Healthy)]);
    let new = deployment(DeploymentStatus::Deploying, 1, vec![]);
    let seen = |old: &DeploymentState, new: &DeploymentState| Observed {
        deployments: vec![old.clone(), new.clone()],
        exclusive: true,
        ..Observed::default()
    };
    let first = plan(&seen(&old, &new), at(1));
    assert!(first.start.is_empty() && first.route.is_empty());
    assert_eq!(first.stop, [(old.replicas[0].id, "its volume is needed by a newer one")]);

    let mut draining = old.clone();
    draining.replicas[0].phase = Phase::Stopping;
    assert!(plan(&seen(&draining, &new), at(1)).start.is_empty(), "it still has the files open");
    let mut gone = old.clone();
    gone.replicas.clear();
    assert_eq!(plan(&seen(&gone, &new), at(1)).start, [(new.id, 0, 0)], "the candidate alone, not the old one again");

    // What comes before the candidate's start takes no service away.
    let held = DeploymentState { waiting: true, ..new.clone() };
    assert!(plan(&seen(&old, &held), at(1)).stop.is_empty());
    // A candidate that fails gives the files back.
    let failed = deployment(DeploymentStatus::Failed, 1, vec![]);
    assert_eq!(plan(&seen(&gone, &failed), at(1)).start, [(gone.id, 0, 0)]);
}

#[test]
fn a_restart_over_a_volume_waits_for_the_generation_before() {
    let mut one = deployment(DeploymentStatus::Deploying, 1, vec![replica(0, Phase::Healthy)]);
    one.generation = 1;
    let observed = |one: &DeploymentState| Observed { deployments: vec![one.clone()], exclusive: true, ..Observed::default() };
    let first = plan(&observed(&one), at(1));
    assert!(first.start.is_empty() && first.stop.len() == 1);
    // Also one that somebody has killed has the files open until it is gone.
    one.replicas = vec![replica(0, Phase::Killed { until: at(5) })];
    assert!(plan(&observed(&one), at(1)).start.is_empty());
    one.replicas.clear();
    assert_eq!(plan(&observed(&one), at(1)).start, [(one.id, 1, 0)]);
}

#[test]
fn one_that_was_killed_is_looked_at_again_when_that_has_shown_whatever_its_deployment_does() {
    for (status, wanted) in [(DeploymentStatus::Success, 1), (DeploymentStatus::Success, 3), (DeploymentStatus::Removing, 1)] {
        let it = deployment(status, wanted, vec![replica(0, Phase::Killed { until: at(3) })]);
        let plan = plan(&Observed { deployments: vec![it], ..Observed::default() }, at(1));
        assert_eq!(plan.again_at, Some(at(3)), "{status:?} of {wanted}");
    }
}

#[test]
fn nothing_runs_while_a_volume_is_copied() {
    let one = deployment(DeploymentStatus::Success, 1, vec![replica(0, Phase::Healthy)]);
    let plan = plan(&Observed { deployments: vec![one.clone()], exclusive: true, paused: true, ..Observed::default() }, at(1));
    assert_eq!((plan.stop.len(), plan.route.len(), plan.start.len(), plan.transition.len()), (1, 0, 0, 0));
}
