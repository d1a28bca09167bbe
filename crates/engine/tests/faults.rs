//! Every step is broken on purpose: the driver, the edge and the engine itself fail or vanish in the middle, and the world still becomes
//! what was asked for.

use std::time::Duration;

use domain::deployment::{DeploymentEvent, DeploymentStatus, EventStep, ExecutionStatus, ReplicaStatus};
use domain::page::PageRequest;
use domain::{Code, DeploymentId, EventId, ReplicaId, Tenant, Timestamp};
use ops::deployment as verbs;
use ops::execution::deployment_instance_execution_create;
use runtime::sim::{Ending, Script};
use store::Change;
use testkit::{App, Entry, Fault, TestApp};

/// Exactly one deployment serves, with one replica that the driver, the store and the edge agree on.
async fn assert_clean(test: &TestApp, app: &App, serving: DeploymentId) {
    let targets = test.until_routed(app, serving, 1).await;
    test.until_driver_has(app, &targets).await;
    test.until("one replica that runs", async || {
        let rows = test.replicas(app, serving).await;
        (rows.len() == 1 && rows[0].status == ReplicaStatus::Running && rows[0].id == targets[0]).then_some(())
    })
    .await;
    let events = test.events(app, serving).await;
    assert!(events.iter().all(|event| event.completed_at.is_some()), "a step is open: {events:#?}");
    test.assert_always_served(app);
    test.assert_stops_follow_the_table();
}

/// One deployment replaces another; the calls of the driver on the way are a start, a stop and a forget.
async fn replaced(test: &TestApp, app: &App, old: DeploymentId, new: DeploymentId) {
    test.until_status(app, new, DeploymentStatus::Success).await;
    test.until_status(app, old, DeploymentStatus::Removed).await;
    assert_clean(test, app, new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_fails_at_any_call_delays_a_deployment_and_no_more() {
    let mut strokes = 0;
    for nth in 1.. {
        let test = TestApp::started().await;
        let app = test.app("broken").await;
        let old = test.live(&app).await;
        test.stage.fault(nth, Fault::Fails);
        let new = test.deploy(&app, |_| {}).await;
        replaced(&test, &app, old, new).await;
        if !test.stage.has_struck() {
            break;
        }
        strokes += 1;
    }
    assert_eq!(strokes, 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_killed_in_any_call_is_taken_over_from() {
    for fault in [Fault::HangsBefore, Fault::HangsAfter] {
        for nth in 1..=3 {
            let mut test = TestApp::started().await;
            let app = test.app("killed").await;
            let old = test.live(&app).await;
            test.stage.fault(nth, fault);
            let new = test.deploy(&app, |_| {}).await;
            test.until("the call", async || test.stage.has_struck().then_some(())).await;
            test.kill_engine().await;
            test.start_engine();
            replaced(&test, &app, old, new).await;
            let starts = test.journal.entries().iter().filter(|entry| matches!(entry, Entry::Start(_))).count();
            assert!(starts <= 3, "{fault:?} in call {nth}: a replica that was started is started no more: {:#?}", test.journal.entries());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_is_killed_in_any_status_is_taken_over_from() {
    for status in [DeploymentStatus::Deploying, DeploymentStatus::Success, DeploymentStatus::Removing] {
        let mut test = TestApp::started().await;
        let app = test.app("status").await;
        test.stage.sim.script(Script { listens_after: Some(Duration::from_millis(50)), stubborn: true, ..Script::default() });
        // Who leaves takes as long, and who does not listen is on its way, until this test has seen it there.
        let old = test.deploy(&app, |spec| spec.deploy.draining_seconds = 3600).await;
        test.until_status(&app, old, DeploymentStatus::Success).await;
        let leaving = test.targets(&app)[0];
        let pause = if status == DeploymentStatus::Deploying { Duration::from_secs(3600) } else { Duration::from_millis(50) };
        test.stage.sim.script(Script { listens_after: Some(pause), stubborn: true, ..Script::default() });
        let new = test.deploy(&app, |_| {}).await;
        let watched = if status == DeploymentStatus::Removing { old } else { new };
        test.until_status(&app, watched, status).await;
        test.kill_engine().await;
        test.stage.sim.script(Script { stubborn: true, ..Script::default() });
        test.start_engine();
        test.listen(new).await;
        test.until_status(&app, old, DeploymentStatus::Removing).await;
        test.stage.sim.exit(leaving);
        replaced(&test, &app, old, new).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_adopted_by_the_next_engine_and_never_unrouted() {
    let mut test = TestApp::started().await;
    let app = test.app("adopted").await;
    let id = test.live(&app).await;
    let before = test.targets(&app);
    let first = test.journal.entries();
    test.stop_engine().await;
    test.start_engine();
    // A second deployment of someone else shows that the new engine has done its first pass.
    let other = test.app("witness").await;
    test.live(&other).await;
    assert_eq!(test.targets(&app), before);
    assert_eq!(test.deployment(&app, id).await.status, DeploymentStatus::Success);
    let touched = test.journal.entries()[first.len()..].iter().any(|entry| match entry {
        Entry::Start(replica) | Entry::Stop(replica) | Entry::Forget(replica) => before.contains(replica),
        _ => false,
    });
    assert!(!touched, "{:#?}", test.journal.entries());
    test.assert_always_served(&app);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ended_while_no_engine_ran_is_found_out() {
    let mut test = TestApp::started().await;
    let (lost, crashed) = (test.app("lost").await, test.app("crashed").await);
    let (one, two) = (test.live(&lost).await, test.live(&crashed).await);
    let before = test.targets(&lost)[0];
    test.kill_engine().await;
    test.stage.sim.lose(before);
    test.stage.sim.crash(test.targets(&crashed)[0], 9);
    test.start_engine();
    test.until_status(&crashed, two, DeploymentStatus::Crashed).await;
    test.until("another replica", async || {
        let targets = test.until_routed(&lost, one, 1).await;
        (targets[0] != before).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_edge_nothing_is_announced_or_stopped_until_it_is_back() {
    let test = TestApp::started().await;
    let app = test.app("away").await;
    let old = test.live(&app).await;
    let serving = test.targets(&app);
    test.edge.go();
    let new = test.deploy(&app, |_| {}).await;
    test.until("the switch to be under way", async || {
        let events = test.events(&app, new).await;
        events.into_iter().find(|event| event.step == EventStep::ConfigureNetwork && event.completed_at.is_none())
    })
    .await;
    // Something else that happens meanwhile changes nothing about that: someone else's replica starts, and is not announced either.
    let other = test.app("bystander").await;
    let waiting = test.deploy(&other, |_| {}).await;
    test.until("their switch to be under way", async || {
        let events = test.events(&other, waiting).await;
        events.into_iter().find(|event| event.step == EventStep::ConfigureNetwork)
    })
    .await;
    assert_eq!(test.deployment(&app, new).await.status, DeploymentStatus::Deploying);
    assert_eq!(test.deployment(&app, old).await.status, DeploymentStatus::Success);
    assert!(!test.journal.entries().iter().any(|entry| matches!(entry, Entry::Stop(_))));
    assert_eq!(test.targets(&app), serving);
    test.edge.come();
    replaced(&test, &app, old, new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_cannot_be_observed_takes_nothing_away() {
    let test = TestApp::started().await;
    let app = test.app("blind").await;
    let old = test.live(&app).await;
    test.stage.blind_for(3);
    let new = test.deploy(&app, |_| {}).await;
    replaced(&test, &app, old, new).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_that_never_works_fails_the_candidate_and_not_what_serves() {
    let test = TestApp::started().await;
    let app = test.app("refused").await;
    let old = test.live(&app).await;
    let before = test.targets(&app);
    test.stage.sim.script(Script { refuse_start: Some("no port is free".into()), ..Script::default() });
    let new = test.deploy(&app, |_| {}).await;
    let crashed = test.until_status(&app, new, DeploymentStatus::Crashed).await;
    assert_eq!(crashed.status_reason.as_deref(), Some("no port is free"));
    assert_eq!(test.targets(&app), before);
    // What serves and is lost is tried until it works.
    test.stage.sim.lose(before[0]);
    test.until("no target", async || test.targets(&app).is_empty().then_some(())).await;
    test.stage.sim.script(Script::default());
    test.until_routed(&app, old, 1).await;
    assert_eq!(test.deployment(&app, old).await.status, DeploymentStatus::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_without_its_artifact_says_so_at_once() {
    let test = TestApp::started().await;
    let app = test.app("missing").await;
    let old = test.live(&app).await;
    std::fs::remove_dir_all(test.dir().join("artifacts").join(old.to_string())).unwrap();
    let new = verbs::deployment_redeploy(&app.ctx(), old).await.unwrap().row.id;
    // It never started, so that it has not crashed.
    let failed = test.until_status(&app, new, DeploymentStatus::Failed).await;
    assert_eq!(failed.status_reason.as_deref(), Some("the files of this deployment were removed: deploy the source again"));
    assert_eq!(test.build_log(&app, new).await, [failed.status_reason.unwrap()]);
    test.until_routed(&app, old, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn siblings_of_a_crashed_replica_end_although_the_engine_was_killed_in_between() {
    let mut test = TestApp::started().await;
    let app = test.app("siblings").await;
    test.stage.sim.script(Script { listens_after: Some(Duration::from_secs(3600)), ..Script::default() });
    let id = test.deploy(&app, |_| {}).await;
    test.until("a replica", async || (!test.stage.sim.specs().is_empty()).then_some(())).await;
    test.kill_engine().await;
    let (from, to, at) = (DeploymentStatus::Deploying, DeploymentStatus::Crashed, Timestamp::now());
    let moved = Change::DeploymentMove { id, from, to, reason: Some("a sibling crashed".into()), at };
    test.ops.store.commit(Tenant::system(app.tenant.workspace()), vec![moved]).await.unwrap();
    test.start_engine();
    test.until_driver_has(&app, &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_changes_under_the_engine_is_read_again() {
    let test = TestApp::started().await;
    let app = test.app("stale").await;
    let mut last = test.live(&app).await;
    // Each removal races the passes that begin, route and announce the deployment.
    for delay in 0..12 {
        let next = test.deploy(&app, |_| {}).await;
        let entries = test.journal.entries().len();
        if delay > 0 {
            test.until("some progress", async || (test.journal.entries().len() >= entries + delay / 4).then_some(())).await;
        }
        // The verb may lose the race as well, and says so; people repeat it then.
        while let Err(error) = verbs::deployment_remove(&app.ctx(), next).await {
            assert_eq!(error.code, Code::Conflict);
        }
        test.until_status(&app, next, DeploymentStatus::Removed).await;
        if test.deployment(&app, last).await.status == DeploymentStatus::Removed {
            last = test.live(&app).await;
        }
    }
    let end = test.live(&app).await;
    let targets = test.until_routed(&app, end, 1).await;
    test.until_driver_has(&app, &targets).await;
    test.assert_stops_follow_the_table();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_at_rest_reads_nothing_between_its_clock_and_leaves_other_instances_alone() {
    let mut test = TestApp::new().await;
    test.set_period(Duration::from_secs(3600));
    test.start_engine();
    let busy = test.app("busy").await;
    let id = test.live(&busy).await;
    let cost = async |rounds: u32| {
        let before = test.ops.store.statements();
        for _ in 0..rounds {
            verbs::deployment_restart(&busy.ctx(), id).await.unwrap();
            test.until("the restart", async || {
                let row = test.deployment(&busy, id).await;
                (row.status == DeploymentStatus::Success).then_some(())
            })
            .await;
            let targets = test.until_routed(&busy, id, 1).await;
            test.until_driver_has(&busy, &targets).await;
        }
        test.ops.store.statements() - before
    };
    let alone = cost(5).await;
    for number in 0..30 {
        let other = test.app_of(&busy.ctx(), &format!("idle{number}")).await;
        test.live(&other).await;
    }
    let among_others = cost(5).await;
    assert!(among_others < alone * 2, "five restarts took {alone} statements alone and {among_others} among 30 idle instances");
    // A bell that brings no news, as the output of apps does. The first rounds see off what the last restart has left.
    let ring = async || {
        for _ in 0..5 {
            let passes = test.stage.observations();
            test.stage.sim.restart(ReplicaId::generate());
            test.until("a pass", async || (test.stage.observations() > passes).then_some(())).await;
        }
        test.ops.store.statements()
    };
    // What has a clock of its own may look in some of the rounds, but not in each.
    let mut before = ring().await;
    let mut quiet = 0;
    for _ in 0..20 {
        let after = ring().await;
        quiet += u32::from(after == before);
        before = after;
    }
    assert!(quiet > 0, "each bell costs statements");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_removed_while_its_route_is_made_is_not_announced_and_replaces_nothing() {
    let test = TestApp::started().await;
    let app = test.app("withdrawn").await;
    let old = test.live(&app).await;
    let before = test.targets(&app);
    test.edge.hold();
    let new = test.deploy(&app, |_| {}).await;
    test.until("the table to be on its way", async || test.edge.keeps_someone_waiting().then_some(())).await;
    verbs::deployment_remove(&app.ctx(), new).await.unwrap();
    test.edge.let_go();
    test.until_status(&app, new, DeploymentStatus::Removed).await;
    assert_eq!(test.until_routed(&app, old, 1).await, before);
    test.until_driver_has(&app, &before).await;
    assert_eq!(test.deployment(&app, old).await.status, DeploymentStatus::Success);
    test.assert_always_served(&app);
    test.assert_stops_follow_the_table();
}

#[tokio::test(flavor = "multi_thread")]
async fn pre_deploy_commands_run_first_and_their_time_is_not_the_health_checks() {
    runtime::sandbox::use_program(env!("CARGO_BIN_EXE_engine-testbin"));
    let test = TestApp::started().await;
    let app = test.app("migrated").await;
    let id = test
        .deploy(&app, |spec| {
            spec.deploy.pre_deploy_command = vec!["sleep 6".into()];
            spec.deploy.healthcheck_timeout = Some(5);
        })
        .await;
    test.until_status(&app, id, DeploymentStatus::Success).await;
    let events = test.events(&app, id).await;
    assert_eq!(events[0].step, EventStep::PreDeployCommand);
    assert!(events[0].completed_at.is_some_and(|at| at <= events[1].created_at), "{events:#?}");

    let bad = test.deploy(&app, |spec| spec.deploy.pre_deploy_command = vec!["exit 3".into()]).await;
    let failed = test.until_status(&app, bad, DeploymentStatus::Failed).await;
    let events = test.events(&app, bad).await;
    assert_eq!((events.len(), events[0].error.clone()), (1, failed.status_reason));
    test.until_routed(&app, id, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pre_deploy_command_that_was_cut_off_runs_again_within_one_step() {
    runtime::sandbox::use_program(env!("CARGO_BIN_EXE_engine-testbin"));
    let mut test = TestApp::started().await;
    let app = test.app("cut").await;
    // It is at work until this test lets it end, which is after the engine has.
    let id = test.deploy(&app, |spec| spec.deploy.pre_deploy_command = vec!["test -e go || sleep 1000".into()]).await;
    test.until("the step", async || (!test.events(&app, id).await.is_empty()).then_some(())).await;
    test.until_build_line(&app, id, "$ test -e go || sleep 1000").await;
    test.stop_engine().await;
    std::fs::write(test.dir().join("artifacts").join(id.to_string()).join("go"), "").unwrap();
    test.start_engine();
    test.until_status(&app, id, DeploymentStatus::Success).await;
    let log = test.build_log(&app, id).await;
    assert_eq!(log.iter().filter(|line| *line == "$ test -e go || sleep 1000").count(), 2, "{log:?}");
    let steps: Vec<_> = test.events(&app, id).await.into_iter().map(|event| event.step).collect();
    assert_eq!(steps.iter().filter(|step| **step == EventStep::PreDeployCommand).count(), 1, "{steps:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn pre_deploy_commands_of_one_service_wait_for_each_other() {
    runtime::sandbox::use_program(env!("CARGO_BIN_EXE_engine-testbin"));
    let test = TestApp::started().await;
    let app = test.app("migrated").await;
    let waits = "until test -e $HOME/go; do sleep 0.1; done";
    let first = test.deploy(&app, |spec| spec.deploy.pre_deploy_command = vec![waits.into()]).await;
    test.until_build_line(&app, first, &format!("$ {waits}")).await;
    let second = test.deploy(&app, |spec| spec.deploy.pre_deploy_command = vec!["true".into()]).await;
    // By then the engine has looked at the second one.
    let other = test.app("other").await;
    test.live(&other).await;
    std::fs::write(test.dir().join("scratch").join(format!("{first}-pre")).join("home/go"), "").unwrap();
    test.until_status(&app, second, DeploymentStatus::Success).await;
    let step = async |id| {
        let steps = test.events(&app, id).await;
        steps.into_iter().find(|event| event.step == EventStep::PreDeployCommand).expect("a step")
    };
    let (first, second) = (step(first).await, step(second).await);
    assert_eq!(first.error, None);
    assert!(first.completed_at.is_some_and(|at| at <= second.created_at), "{first:?} {second:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_whose_end_was_only_half_recorded_is_ended() {
    let mut test = TestApp::new().await;
    let app = test.app("half").await;
    let id = test.deploy(&app, |_| {}).await;
    // The step has ended, and then the engine, before the status was moved.
    let at = Timestamp::now();
    let (from, to) = (DeploymentStatus::Deploying, DeploymentStatus::Building);
    let event = DeploymentEvent {
        id: EventId::generate(),
        deployment_id: id,
        step: EventStep::BuildImage,
        created_at: at,
        completed_at: Some(at),
        error: Some("the build command failed".into()),
        detail: None,
    };
    let changes = vec![Change::DeploymentMove { id, from, to, reason: None, at }, Change::EventInsert(event)];
    test.ops.store.commit(app.tenant, changes).await.unwrap();
    test.start_engine();
    let failed = test.until_status(&app, id, DeploymentStatus::Failed).await;
    assert!(failed.status_reason.is_some_and(|reason| reason.contains("deploy the source again")));
    assert!(test.events(&app, id).await.iter().all(|event| event.completed_at.is_some()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_carried_out_once_in_whatever_call_the_engine_is_killed() {
    // On its way the driver starts its replica and forgets it.
    for (fault, nth) in
        [(Fault::Fails, 1), (Fault::HangsBefore, 1), (Fault::HangsAfter, 1), (Fault::HangsBefore, 2), (Fault::HangsAfter, 2)]
    {
        let mut test = TestApp::started().await;
        let app = test.app("job").await;
        let id = test.deploy(&app, |spec| spec.deploy.cron_schedule = Some("0 4 1 1 *".into())).await;
        test.until_status(&app, id, DeploymentStatus::Success).await;
        test.stage.sim.script(Script { ending: Some((Duration::from_millis(50), Ending::Exit)), ..Script::default() });
        test.stage.fault(nth, fault);
        let run = deployment_instance_execution_create(&app.ctx(), app.instance).await.unwrap();
        test.until("the call", async || test.stage.has_struck().then_some(())).await;
        test.kill_engine().await;
        test.start_engine();
        let runs = async || test.ops.store.executions(app.tenant, app.instance, &PageRequest::default()).await.unwrap().items;
        let ended = test.until("its end", async || runs().await.pop().filter(|run| run.completed_at.is_some())).await;
        assert_eq!((ended.id, ended.status, ended.exit_code), (run.id, ExecutionStatus::Exited, Some(0)), "{fault:?} in call {nth}");
        test.until_driver_has(&app, &[]).await;
        assert_eq!(runs().await, [ended]);
        assert!(test.replicas(&app, id).await.is_empty());
    }
}
