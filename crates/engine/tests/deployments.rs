//! What people see of deployments: over the simulated driver, with every fault that it can play.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, SystemTime};

use domain::deployment::{DeploymentEvent, DeploymentStatus, EventStep, Execution, ExecutionStatus, ReplicaStatus};
use domain::page::PageRequest;
use domain::schedule::Schedule;
use domain::spec::{InSource, RestartPolicy};
use domain::volume::{Backup, BackupKind, BackupState};
use domain::{Code, DeploymentId, ServiceId, Timestamp, VolumeInstanceId};
use jiff::tz::TimeZone;
use ops::OpCtx;
use ops::approval::deployment_approve;
use ops::auth::{Presented, Surface, authenticate};
use ops::backup::{new_backup, volume_instance_backup_create, volume_instance_backup_lock};
use ops::deployment as verbs;
use ops::environment::{EnvironmentCreate, environment_create, environment_delete, environment_protect};
use ops::execution::deployment_instance_execution_create;
use ops::service::{InstancePatch, ServiceCreate, service_create, service_instance_get, service_instance_update};
use ops::volume::{VolumeCreate, VolumeInstancePatch, VolumePlace, volume_create, volume_instance_update};
use runtime::Driver;
use runtime::sim::{Ending, Script};
use store::Change;
use testkit::{App, Entry, TestApp};

/// Another service beside the app, without a domain.
async fn sibling(app: &App, name: &str) -> App {
    let create = ServiceCreate {
        project: app.project,
        environment: None,
        name: Some(name.into()),
        icon: None,
        source: None,
        variables: BTreeMap::new(),
    };
    let service = service_create(&app.ctx(), create).await.unwrap().row.id;
    let instance = service_instance_get(&app.ctx(), app.environment, service).await.unwrap().row.id;
    let mut sibling = app.clone();
    (sibling.service, sibling.instance, sibling.host) = (service, instance, String::new());
    sibling
}

fn never_listens() -> Script {
    Script { listens_after: Some(Duration::from_secs(3600)), ..Script::default() }
}

async fn scale(app: &App, replicas: u32) {
    let patch = InstancePatch { replicas: Some(replicas), ..InstancePatch::default() };
    service_instance_update(&app.ctx(), app.service, Some(app.environment), patch).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_deployment_is_routed_when_it_answers_and_not_before() {
    let test = TestApp::started().await;
    let app = test.app("first").await;
    test.stage.sim.script(Script { status: 500, ..Script::default() });
    let id = test.deploy(&app, |spec| spec.deploy.healthcheck_path = Some("/health".into())).await;
    let replica = test.until("a replica that runs", async || test.stage.sim.specs().pop()).await;
    assert_eq!(replica.env.get("GREETING").map(String::as_str), Some("hello"));
    assert_eq!(replica.env.get("RAILWAY_DEPLOYMENT_ID"), Some(&id.to_string()));
    test.until("a step that is open", async || {
        test.events(&app, id).await.into_iter().find(|event| event.step == EventStep::Healthcheck && event.completed_at.is_none())
    })
    .await;
    assert_eq!(test.deployment(&app, id).await.status, DeploymentStatus::Deploying);
    assert!(test.targets(&app).is_empty());

    test.stage.sim.answer(replica.replica_id, 200);
    test.until_status(&app, id, DeploymentStatus::Success).await;
    // Who sees SUCCESS can reach it.
    assert_eq!(test.targets(&app), [replica.replica_id]);
    assert_eq!(test.replicas(&app, id).await[0].status, ReplicaStatus::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_steps_begin_and_end_once_and_the_build_log_tells_of_the_check() {
    let test = TestApp::started().await;
    let app = test.app("steps").await;
    let old = test.live(&app).await;
    let new = test
        .deploy(&app, |spec| {
            spec.deploy.healthcheck_path = Some("/health".into());
            spec.deploy.healthcheck_timeout = Some(300);
        })
        .await;
    test.until_status(&app, old, DeploymentStatus::Removed).await;
    let steps = |events: &[DeploymentEvent]| events.iter().map(|event| event.step).collect::<Vec<_>>();
    let events = test.events(&app, new).await;
    let expected = [EventStep::CreateContainer, EventStep::Healthcheck, EventStep::ConfigureNetwork, EventStep::DrainInstances];
    assert_eq!(steps(&events), expected);
    for event in &events {
        assert!(event.completed_at.is_some_and(|at| at >= event.created_at), "{event:?}");
        assert_eq!(event.error, None);
    }
    assert_eq!(steps(&test.events(&app, old).await), expected[..3]);
    let log = test.build_log(&app, new).await;
    assert_eq!(log, ["Starting Healthcheck", "Path: /health", "Retry window: 5m0s", "[1/1] Healthcheck succeeded!"]);
    assert_eq!(test.build_log(&app, old).await, [""; 0], "without a path there is no check to tell of");

    verbs::deployment_restart(&app.ctx(), new).await.unwrap();
    test.until("a second round of steps", async || {
        let events = test.events(&app, new).await;
        let rounds = events.iter().filter(|event| event.step == EventStep::ConfigureNetwork && event.completed_at.is_some()).count();
        (rounds == 2).then_some(())
    })
    .await;
    assert_eq!(test.events(&app, new).await.len(), 7);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_listens_elsewhere_is_told_where_it_has_to() {
    for path in [None, Some("/health".to_owned())] {
        let mut test = TestApp::new().await;
        test.set_watch(engine::WatchConfig { silence: Duration::from_millis(100), ..engine::WatchConfig::default() });
        test.start_engine();
        let app = test.app("elsewhere").await;
        test.stage.sim.script(never_listens());
        let late = test.deploy(&app, |spec| spec.deploy.healthcheck_path = path).await;
        let told = async || test.build_log(&app, late).await.into_iter().find(|line| line.contains("$PORT"));
        let line = test.until("a line that tells of $PORT", told).await;
        assert!(line.starts_with("Nothing answers on port ") && line.ends_with(" yet: the app has to listen on $PORT"), "{line}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_is_late_fails_and_the_old_one_keeps_its_route() {
    let test = TestApp::started().await;
    let app = test.app("late").await;
    let old = test.live(&app).await;
    let serving = test.targets(&app);
    test.stage.sim.script(never_listens());
    let late = test
        .deploy(&app, |spec| {
            spec.deploy.healthcheck_path = Some("/".into());
            // Time for an attempt that is told of, which is a second after the check has begun and more than one before it ends.
            spec.deploy.healthcheck_timeout = Some(8);
        })
        .await;
    let failed = test.until_status(&app, late, DeploymentStatus::Failed).await;
    let reason = "1/1 replicas never became healthy within 8 seconds: the app has to listen on $PORT and answer there";
    assert_eq!(failed.status_reason.as_deref(), Some(reason));
    test.until_driver_has(&app, &serving).await;
    assert_eq!(test.targets(&app), serving);
    assert_eq!(test.deployment(&app, old).await.status, DeploymentStatus::Success);
    let events = test.events(&app, late).await;
    let check = events.iter().find(|event| event.step == EventStep::Healthcheck).unwrap();
    assert_eq!(check.error, failed.status_reason);
    let log = test.build_log(&app, late).await;
    assert!(log.iter().any(|line| line.starts_with("Attempt #1 failed with service unavailable. Continuing to retry for ")), "{log:?}");
    assert_eq!(log[log.len() - 3], "1/1 replicas never became healthy!");
    assert_eq!(log[log.len() - 1], "Healthcheck failed!");
    assert!(test.replicas(&app, late).await.is_empty());
    test.assert_always_served(&app);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_that_crashes_takes_its_siblings_along_and_nothing_else() {
    let test = TestApp::started().await;
    let app = test.app("crash").await;
    test.live(&app).await;
    let serving = test.targets(&app);
    test.stage.sim.script_next(Script { ending: Some((Duration::from_millis(50), Ending::Crash(7))), ..never_listens() });
    test.stage.sim.script(never_listens());
    let bad = test.deploy(&app, |spec| spec.deploy.regions = BTreeMap::from([("local".to_owned(), 2)])).await;
    let crashed = test.until_status(&app, bad, DeploymentStatus::Crashed).await;
    assert_eq!(crashed.status_reason.as_deref(), Some("exited with status 7"));
    let left = test
        .until("only the crashed replica to stay, for its log", async || {
            let rows = test.replicas(&app, bad).await;
            rows.iter().all(|replica| replica.status == ReplicaStatus::Crashed).then_some(rows)
        })
        .await;
    assert_eq!((left.len(), left[0].exit_code), (1, Some(7)));
    test.until_driver_has(&app, &[serving[0], left[0].id]).await;
    assert_eq!(test.targets(&app), serving);
    // What follows takes it away.
    test.stage.sim.script(Script::default());
    let good = test.live(&app).await;
    test.until_status(&app, bad, DeploymentStatus::Removed).await;
    let now = test.until_routed(&app, good, 1).await;
    test.until_driver_has(&app, &now).await;
    test.assert_always_served(&app);
    test.assert_stops_follow_the_table();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_an_approval_starts_nothing_before_it_has_it_and_what_serves_goes_on() {
    let test = TestApp::started().await;
    let app = test.app("protected").await;
    let old = test.live(&app).await;
    let serving = test.targets(&app);
    environment_protect(&app.ctx(), app.environment, true).await.unwrap();
    let (_, secret) = ops::token::project_token_create(&app.ctx(), app.project, app.environment, "ci").await.unwrap();
    let principal = authenticate(&test.ops, Surface::Railway, Presented::ProjectToken(secret), Timestamp::now(), None).await.unwrap();
    let key = OpCtx { principal, ..app.ctx() };
    let canceled = verbs::deployment_redeploy(&key, old).await.unwrap().row.id;
    // A restart is seen to be carried out, and so is that the other is left alone.
    verbs::deployment_restart(&key, old).await.unwrap();
    test.until("the restarted copy", async || {
        let now = test.targets(&app);
        (now.len() == 1 && now != serving).then_some(())
    })
    .await;
    test.until_status(&app, old, DeploymentStatus::Success).await;
    assert_eq!(test.deployment(&app, canceled).await.status, DeploymentStatus::NeedsApproval);
    assert!(test.replicas(&app, canceled).await.is_empty());

    verbs::deployment_cancel(&key, canceled).await.unwrap();
    assert_eq!(test.deployment(&app, canceled).await.status, DeploymentStatus::Failed);
    let waiting = verbs::deployment_redeploy(&key, old).await.unwrap().row.id;
    assert_eq!(test.build_log(&app, waiting).await.len(), 3, "each that waits says so, and the one that was canceled that it was");
    deployment_approve(&app.ctx(), waiting).await.unwrap();
    test.until_status(&app, waiting, DeploymentStatus::Success).await;
    test.until_status(&app, old, DeploymentStatus::Removed).await;
    let now = test.until_routed(&app, waiting, 1).await;
    test.until_driver_has(&app, &now).await;
    assert_eq!(test.deployment(&app, canceled).await.status, DeploymentStatus::Failed);
    test.assert_always_served(&app);
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_replicas_are_replaced_and_the_others_go_on() {
    let test = TestApp::started().await;
    let app = test.app("lost").await;
    let id = test.live(&app).await;
    scale(&app, 2).await;
    let both = test.until_routed(&app, id, 2).await;
    test.stage.sim.script(Script { listens_after: Some(Duration::from_millis(300)), ..Script::default() });
    test.stage.sim.lose(both[0]);
    let after = test
        .until("two targets without the lost one", async || {
            let now = test.targets(&app);
            (now.len() == 2 && !now.contains(&both[0])).then_some(now)
        })
        .await;
    assert!(after.contains(&both[1]));
    test.until_driver_has(&app, &after).await;
    assert_eq!(test.deployment(&app, id).await.status, DeploymentStatus::Success);
    test.assert_always_served(&app);
    test.assert_stops_follow_the_table();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_app_is_routed_again_when_it_answers() {
    let test = TestApp::started().await;
    let app = test.app("again").await;
    let id = test.live(&app).await;
    let replica = test.targets(&app)[0];
    test.stage.sim.restart(replica);
    test.until("the row to tell of the restart, and the replica to be routed", async || {
        let rows = test.replicas(&app, id).await;
        let told = rows[0].restarts == 1 && rows[0].status == ReplicaStatus::Running;
        (told && test.targets(&app) == [replica]).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn scaling_needs_no_deployment_and_drops_nothing() {
    let test = TestApp::started().await;
    let app = test.app("scale").await;
    let id = test.live(&app).await;
    let first = test.targets(&app);
    scale(&app, 3).await;
    let three = test.until_routed(&app, id, 3).await;
    assert!(three.contains(&first[0]));
    scale(&app, 1).await;
    test.until_routed(&app, id, 1).await;
    test.until_driver_has(&app, &first).await;
    assert_eq!(test.targets(&app), first, "the highest places go first");
    test.assert_always_served(&app);
    test.assert_stops_follow_the_table();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_replaces_one_generation_by_the_next_without_a_gap() {
    let test = TestApp::started().await;
    let app = test.app("restart").await;
    let id = test.live(&app).await;
    let before = test.targets(&app);
    verbs::deployment_restart(&app.ctx(), id).await.unwrap();
    let after = test
        .until("another replica alone", async || {
            let now = test.targets(&app);
            (now.len() == 1 && now != before).then_some(now)
        })
        .await;
    test.until_driver_has(&app, &after).await;
    let row = test.until_status(&app, id, DeploymentStatus::Success).await;
    assert_eq!(row.generation, 1);
    test.assert_always_served(&app);
    test.assert_stops_follow_the_table();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_never_answers_leaves_the_older_generation_serving() {
    let test = TestApp::started().await;
    let app = test.app("stuck").await;
    let id = test.deploy(&app, |spec| spec.deploy.healthcheck_timeout = Some(10)).await;
    test.until_status(&app, id, DeploymentStatus::Success).await;
    let before = test.targets(&app);
    test.stage.sim.script(never_listens());
    verbs::deployment_restart(&app.ctx(), id).await.unwrap();
    test.until_status(&app, id, DeploymentStatus::Crashed).await;
    test.until_driver_has(&app, &before).await;
    assert_eq!(test.targets(&app), before);
    // And can be restarted once more.
    test.stage.sim.script(Script::default());
    verbs::deployment_restart(&app.ctx(), id).await.unwrap();
    test.until_status(&app, id, DeploymentStatus::Success).await;
    let after = test.targets(&app);
    test.until_driver_has(&app, &after).await;
    assert_ne!(after, before);
    test.assert_always_served(&app);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redeployment_replaces_and_a_removal_leaves_nothing() {
    let test = TestApp::started().await;
    let app = test.app("redeploy").await;
    let first = test.live(&app).await;
    let second = verbs::deployment_redeploy(&app.ctx(), first).await.unwrap().row.id;
    test.until_status(&app, first, DeploymentStatus::Removed).await;
    assert_eq!(test.deployment(&app, second).await.status, DeploymentStatus::Success);
    let serving = test.until_routed(&app, second, 1).await;
    test.until_driver_has(&app, &serving).await;
    test.assert_always_served(&app);

    verbs::deployment_remove(&app.ctx(), second).await.unwrap();
    test.until_status(&app, second, DeploymentStatus::Removed).await;
    test.until_driver_has(&app, &[]).await;
    assert!(test.replicas(&app, second).await.is_empty());
    let drain: Vec<_> = test.events(&app, second).await.into_iter().filter(|event| event.step == EventStep::DrainInstances).collect();
    // Once for what it replaced and once for itself.
    assert_eq!(drain.len(), 2);
    assert!(drain.iter().all(|event| event.completed_at.is_some()));
    test.until("a page that says what to do", async || {
        let route = test.edge.route(&app.host)?;
        route.unavailable.filter(|text| text.contains("railway up"))
    })
    .await;
    test.assert_stops_follow_the_table();
    let verbs: Vec<String> = test.activities(&app).await;
    assert!(verbs.contains(&"deployment_remove".to_owned()) && verbs.contains(&"deployment_redeploy".to_owned()), "{verbs:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_canceled_on_its_way_leaves_nothing_and_what_serves_goes_on() {
    let test = TestApp::started().await;
    let app = test.app("cancel").await;
    let old = test.live(&app).await;
    let serving = test.targets(&app);
    test.stage.sim.script(never_listens());
    let late = test.deploy(&app, |spec| spec.deploy.healthcheck_path = Some("/".into())).await;
    test.until("a copy of the new one", async || (!test.replicas(&app, late).await.is_empty()).then_some(())).await;
    test.until_status(&app, late, DeploymentStatus::Deploying).await;
    verbs::deployment_cancel(&app.ctx(), late).await.unwrap();
    test.until_status(&app, late, DeploymentStatus::Removed).await;
    test.until_driver_has(&app, &serving).await;
    assert!(test.replicas(&app, late).await.is_empty());
    assert_eq!((test.deployment(&app, old).await.status, test.targets(&app)), (DeploymentStatus::Success, serving));
    let decided = verbs::deployment_cancel(&app.ctx(), old).await.unwrap_err();
    assert!(decided.public.contains("SUCCESS"), "{}", decided.public);
    test.assert_always_served(&app);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_ends_the_replicas_and_a_restart_brings_them_back() {
    let test = TestApp::started().await;
    let app = test.app("stop").await;
    let id = test.live(&app).await;
    verbs::deployment_stop(&app.ctx(), id).await.unwrap();
    test.until_driver_has(&app, &[]).await;
    assert!(test.targets(&app).is_empty());
    let row = test.deployment(&app, id).await;
    assert_eq!((row.status, row.stopped), (DeploymentStatus::Success, true));
    verbs::deployment_restart(&app.ctx(), id).await.unwrap();
    test.until_routed(&app, id, 1).await;
    assert!(!test.until_status(&app, id, DeploymentStatus::Success).await.stopped);
    test.assert_stops_follow_the_table();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_ends_well_has_completed_and_one_that_does_not_has_crashed() {
    let test = TestApp::started().await;
    let app = test.app("ends").await;
    let id = test.live(&app).await;
    test.stage.sim.exit(test.targets(&app)[0]);
    let row =
        test.until("it to be completed", async || Some(test.deployment(&app, id).await).filter(|deployment| deployment.stopped)).await;
    assert_eq!(row.status, DeploymentStatus::Success);
    assert_eq!(test.replicas(&app, id).await[0].status, ReplicaStatus::Exited);
    assert!(test.activities(&app).await.contains(&"app_ended".to_owned()));
    assert!(test.targets(&app).is_empty());

    let next = test.live(&app).await;
    test.stage.sim.crash(test.targets(&app)[0], 3);
    let row = test.until_status(&app, next, DeploymentStatus::Crashed).await;
    assert_eq!(row.status_reason.as_deref(), Some("exited with status 3"));
    test.until("a page that says why", async || test.edge.route(&app.host)?.unavailable.filter(|text| text.contains("status 3"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_stopped_and_crashes_on_its_way_out_has_not_crashed() {
    let test = TestApp::started().await;
    let app = test.app("stubborn").await;
    test.stage.sim.script(Script { stubborn: true, ..Script::default() });
    let id = test.deploy(&app, |spec| spec.deploy.draining_seconds = 600).await;
    test.until_status(&app, id, DeploymentStatus::Success).await;
    let replica = test.targets(&app)[0];
    verbs::deployment_stop(&app.ctx(), id).await.unwrap();
    test.until("the stop", async || test.journal.entries().contains(&Entry::Stop(replica)).then_some(())).await;
    // Another deployment shows that the engine has looked again.
    let other = test.app("witness").await;
    test.live(&other).await;
    let told = test.journal.entries().iter().filter(|entry| **entry == Entry::Stop(replica)).count();
    assert_eq!(told, 1, "who takes long to end is told so once");
    test.stage.sim.crash(replica, 1);
    test.until_driver_has(&app, &[]).await;
    test.until("no replica", async || test.replicas(&app, id).await.is_empty().then_some(())).await;
    assert_eq!(test.deployment(&app, id).await.status, DeploymentStatus::Success);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_time_to_end_is_what_the_source_or_a_variable_says_and_else_the_setting_of_the_day() {
    let test = TestApp::started().await;
    let app = test.app("slow").await;
    let patch = InstancePatch { draining_seconds: Some(40), ..InstancePatch::default() };
    service_instance_update(&app.ctx(), app.service, Some(app.environment), patch).await.unwrap();
    let grace = async |id: DeploymentId| {
        test.until_status(&app, id, DeploymentStatus::Success).await;
        let specs = test.stage.sim.specs();
        specs.iter().find(|spec| spec.source.deployment_id == id).expect("a replica").draining_seconds
    };
    let file = |spec: &mut domain::spec::InstanceSpec| {
        InSource { draining_seconds: Some(7), ..InSource::default() }.apply(&mut spec.deploy);
    };
    assert_eq!(grace(test.deploy(&app, file).await).await, 7);
    let variables = BTreeMap::from([("RAILWAY_DEPLOYMENT_DRAINING_SECONDS".to_owned(), "9".to_owned())]);
    assert_eq!(grace(test.deploy(&app, |spec| spec.obey(&variables)).await).await, 9);
    assert_eq!(grace(test.live(&app).await).await, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_moves_is_used_by_one_service_at_a_time() {
    let test = TestApp::started().await;
    let one = test.app("one").await;
    let two = sibling(&one, "two").await;
    let create = VolumeCreate {
        project: one.project,
        place: VolumePlace::Environment(one.environment),
        service: Some(one.service),
        mount_path: "/data".into(),
    };
    let volume = volume_create(&one.ctx(), create).await.unwrap().row.id;
    let run_with = |app: &App, mounted: bool| {
        let mut specs = test.stage.sim.specs().into_iter();
        specs.find(|spec| spec.source.service_id == app.service && spec.volume.is_some() == mounted)
    };
    // The one that gives the volume away takes its whole grace to end.
    test.stage.sim.script_next(Script { stubborn: true, ..Script::default() });
    test.live(&one).await;
    test.live(&two).await;
    let first = run_with(&one, true).expect("a replica with the volume").replica_id;

    let patch = VolumeInstancePatch { mount_path: None, service: Some(Some(two.service)) };
    volume_instance_update(&one.ctx(), volume, None, patch).await.unwrap();
    test.until("the other one to run with the volume", async || run_with(&two, true)).await;
    let seen = test.stage.observe().await.unwrap();
    let over = seen.iter().find(|seen| seen.replica_id == first).is_none_or(|seen| seen.phase.is_over());
    assert!(over, "two servers over the same files: {:#?}", test.journal.entries());
    test.until("the first one to run without it", async || run_with(&one, false)).await;
    test.until("one user of the volume", async || {
        let seen = test.stage.observe().await.unwrap();
        (seen.iter().filter(|seen| seen.volume.is_some()).count() == 1).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_project_leaves_nothing_running() {
    let test = TestApp::started().await;
    let (app, other) = (test.app("doomed").await, test.app("other").await);
    test.live(&app).await;
    let id = test.live(&other).await;
    ops::project::project_delete(&app.ctx(), app.project).await.unwrap();
    let staying = test.until_routed(&other, id, 1).await;
    test.until_driver_has(&other, &staying).await;
    test.until_driver_has(&app, &[]).await;
    test.until("no route", async || test.edge.route(&app.host).is_none().then_some(())).await;
    test.assert_always_served(&other);
    test.assert_stops_follow_the_table();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_files_of_a_deleted_environment_are_kept_for_a_while() {
    let mut test = TestApp::new().await;
    let app = test.app("keeper").await;
    let create = EnvironmentCreate { project: app.project, name: "staging".into(), source: None, ephemeral: false, skip_deploys: true };
    let staging = environment_create(&app.ctx(), create).await.unwrap().row.id;
    let mut folders = vec![];
    for (place, gone) in [(VolumePlace::Environment(staging), true), (VolumePlace::Everywhere, true), (VolumePlace::Everywhere, false)] {
        let create = VolumeCreate { project: app.project, place, service: None, mount_path: "/data".into() };
        let volume = volume_create(&app.ctx(), create).await.unwrap().row.id;
        let its = test.ops.store.volume_instances_of_volumes(app.tenant, &[volume]).await.unwrap();
        let its = its.into_iter().find(|row| (row.environment_id == staging) == gone).unwrap();
        folders.push(test.dir().join("volumes").join(its.id.to_string()));
    }
    let stranger = test.dir().join("volumes/stranger");
    for folder in folders.iter().chain([&stranger]) {
        std::fs::create_dir_all(folder.join("data")).unwrap();
    }
    environment_delete(&app.ctx(), staging).await.unwrap();
    test.start_engine();
    test.until("the clean-up", async || (!stranger.exists()).then_some(())).await;
    assert_eq!(folders.iter().filter(|folder| folder.exists()).count(), 3, "what somebody deleted by mistake is lost");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_caches_of_services_that_are_gone_are_cleaned_away() {
    let mut test = TestApp::new().await;
    let app = test.app("cached").await;
    let cache = |service: ServiceId| test.dir().join("cache").join(service.to_string());
    let (kept, gone) = (cache(app.service), cache(ServiceId::generate()));
    for folder in [&kept, &gone] {
        std::fs::create_dir_all(folder.join("modules")).unwrap();
        std::fs::write(folder.join("modules/one"), "").unwrap();
        std::fs::File::open(folder).unwrap().set_modified(SystemTime::now() - Duration::from_secs(7200)).unwrap();
    }
    // As package managers leave what nobody is to change.
    std::fs::set_permissions(gone.join("modules"), std::fs::Permissions::from_mode(0o555)).unwrap();
    test.start_engine();
    test.until("the clean-up", async || (!gone.exists()).then_some(())).await;
    assert!(kept.join("modules/one").exists());
}

/// Waits for a backup that is whole. The bell of volumes says that something has been done for one.
async fn until_whole(test: &TestApp, app: &App, volume: VolumeInstanceId, wanted: impl Fn(&Backup) -> bool) -> Backup {
    let mut bell = test.ops.signals.volumes();
    let found = async {
        loop {
            let all = test.ops.store.backups_of(app.tenant, &[volume]).await.unwrap();
            if let Some(whole) = all.into_iter().find(|backup| backup.state == BackupState::Ready && wanted(backup)) {
                return whole;
            }
            bell.changed().await.expect("the signals outlive the test");
        }
    };
    tokio::time::timeout(Duration::from_secs(60), found).await.expect("a backup that is whole")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_makes_one_backup_at_its_time_and_lets_go_of_what_is_over() {
    const DAY: Duration = Duration::from_secs(86_400);
    let mut test = TestApp::new().await;
    let app = test.app("keeper").await;
    let place = VolumePlace::Environment(app.environment);
    let create = VolumeCreate { project: app.project, place, service: None, mount_path: "/data".into() };
    let volume = volume_create(&app.ctx(), create).await.unwrap().row.id;
    let volume = test.ops.store.volume_instances_of_volumes(app.tenant, &[volume]).await.unwrap().remove(0);
    let data = test.dir().join("volumes").join(volume.id.to_string()).join("data");
    std::fs::create_dir_all(&data).unwrap();
    std::fs::write(data.join("rows"), "of today").unwrap();
    std::fs::create_dir_all(test.dir().join("backups")).unwrap();
    let begun = Timestamp::now();
    let old = |kind: Option<BackupKind>, days: u32, state: BackupState| Backup { state, ..new_backup(&volume, kind, begun - DAY * days) };
    let over = [old(Some(BackupKind::Daily), 7, BackupState::Ready), old(None, 8, BackupState::Failed)];
    let kept = [
        old(Some(BackupKind::Daily), 5, BackupState::Ready),
        old(Some(BackupKind::Weekly), 40, BackupState::Ready),
        old(None, 400, BackupState::Ready),
    ];
    let mut changes: Vec<Change> = over.iter().chain(&kept).cloned().map(Change::BackupInsert).collect();
    changes.push(Change::BackupSchedulesSet { instance: volume.clone(), kinds: vec![(BackupKind::Daily, begun - DAY * 30)] });
    test.ops.store.commit(app.tenant, changes).await.unwrap();
    volume_instance_backup_lock(&app.ctx(), volume.id, kept[1].id).await.unwrap();

    test.start_engine();
    let made = until_whole(&test, &app, volume.id, |backup| backup.created_at >= begun).await;
    assert_eq!((made.kind, made.expires_at), (Some(BackupKind::Daily), Some(made.created_at + DAY * 6)));
    let copied = test.dir().join("backups").join(made.id.to_string()).join("rows");
    assert_eq!(std::fs::read_to_string(copied).unwrap(), "of today");
    // When the second of two others is made, the schedule has been looked at in between.
    let mut wanted: Vec<_> = kept.iter().map(|backup| backup.id).chain([made.id]).collect();
    for name in ["one", "two"] {
        let id = volume_instance_backup_create(&app.ctx(), volume.id, Some(name.into())).await.unwrap().id;
        until_whole(&test, &app, volume.id, |backup| backup.id == id).await;
        wanted.push(id);
    }
    let all = test.ops.store.backups_of(app.tenant, &[volume.id]).await.unwrap();
    let mut found: Vec<_> = all.iter().map(|backup| backup.id).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    assert_eq!(found, wanted, "{all:#?}");
}

/// A schedule whose time has come within this minute, and comes again tomorrow.
fn this_minute() -> String {
    let now = Timestamp::now().to_zoned(TimeZone::UTC);
    format!("{} {} * * *", now.minute(), now.hour())
}

async fn runs(test: &TestApp, app: &App) -> Vec<Execution> {
    test.ops.store.executions(app.tenant, app.instance, &PageRequest::default()).await.unwrap().items
}

async fn until_run(test: &TestApp, app: &App, status: ExecutionStatus) -> Execution {
    let what = format!("a run that is {}", status.as_str());
    test.until(&what, async || runs(test, app).await.into_iter().find(|run| run.status == status)).await
}

/// As if it had succeeded an hour ago, so that the time within this minute is one of its own.
async fn an_hour_older(test: &TestApp, app: &App, id: DeploymentId) {
    let (from, to) = (DeploymentStatus::Success, DeploymentStatus::Success);
    let at = Timestamp::now() - Duration::from_secs(3600);
    test.ops.store.commit(app.tenant, vec![Change::DeploymentMove { id, from, to, reason: None, at }]).await.unwrap();
    test.ops.signals.wake(app.tenant.workspace(), app.instance);
}

async fn until_started(test: &TestApp, run: &Execution) -> runtime::ReplicaSpec {
    test.until("the replica of the run", async || test.stage.sim.specs().into_iter().find(|spec| spec.replica_id == run.id)).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_with_a_schedule_runs_once_at_its_time_and_not_before() {
    let mut test = TestApp::started().await;
    let app = test.app("nightly").await;
    let ordinary = test.live(&app).await;
    let schedule = this_minute();
    let id = test.deploy(&app, |spec| spec.deploy.cron_schedule = Some(schedule.clone())).await;
    test.until_status(&app, ordinary, DeploymentStatus::Removed).await;
    test.until_driver_has(&app, &[]).await;
    assert_eq!(test.deployment(&app, id).await.status, DeploymentStatus::Success);
    test.until("a page that says why", async || test.edge.route(&app.host)?.unavailable.filter(|text| text.contains(&schedule))).await;
    assert!(runs(&test, &app).await.is_empty(), "it was deployed after its time");

    an_hour_older(&test, &app, id).await;
    let run = until_run(&test, &app, ExecutionStatus::Running).await;
    assert_eq!(run.due_at, Schedule::parse(&schedule).unwrap().due(run.created_at));
    until_started(&test, &run).await;
    assert!(test.targets(&app).is_empty(), "no request is for it");
    // The next engine finds it running, and does not run the same time again.
    test.kill_engine().await;
    test.start_engine();
    test.stage.sim.restart(run.id);
    test.stage.sim.exit(run.id);
    let ended = until_run(&test, &app, ExecutionStatus::Exited).await;
    assert_eq!((ended.id, ended.exit_code), (run.id, Some(0)));
    assert!(ended.completed_at.is_some_and(|at| at >= run.created_at));
    test.until_driver_has(&app, &[]).await;
    an_hour_older(&test, &app, id).await;
    // Another deployment shows that the engine has looked again.
    let other = test.app("witness").await;
    test.live(&other).await;
    assert_eq!(runs(&test, &app).await, [ended]);
    let row = test.deployment(&app, id).await;
    assert_eq!((row.status, row.stopped), (DeploymentStatus::Success, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_goes_on_lets_the_next_one_be_skipped_and_ends_with_its_deployment() {
    let test = TestApp::started().await;
    let app = test.app("slow").await;
    let id = test
        .deploy(&app, |spec| {
            spec.deploy.cron_schedule = Some(this_minute());
            spec.deploy.restart_policy_type = RestartPolicy::Always;
        })
        .await;
    test.until_status(&app, id, DeploymentStatus::Success).await;
    let asked = deployment_instance_execution_create(&app.ctx(), app.instance).await.unwrap();
    assert_eq!(until_started(&test, &asked).await.restart, RestartPolicy::OnFailure, "it is over when it has ended well");
    let twice = deployment_instance_execution_create(&app.ctx(), app.instance).await.unwrap_err();
    assert_eq!(twice.code, Code::AlreadyExists);
    an_hour_older(&test, &app, id).await;
    let skipped = until_run(&test, &app, ExecutionStatus::Skipped).await;
    assert_eq!(skipped.reason.as_deref(), Some("the run before it had not ended"));
    assert!(test.activities(&app).await.contains(&"execution_skipped".to_owned()));

    test.stage.sim.crash(asked.id, 3);
    let crashed = until_run(&test, &app, ExecutionStatus::Crashed).await;
    assert_eq!((crashed.id, crashed.exit_code, crashed.reason.as_deref()), (asked.id, Some(3), Some("exited with status 3")));
    assert!(test.activities(&app).await.contains(&"execution_crashed".to_owned()));
    assert_eq!(test.deployment(&app, id).await.status, DeploymentStatus::Success, "the next one may end well");

    let last = deployment_instance_execution_create(&app.ctx(), app.instance).await.unwrap();
    until_started(&test, &last).await;
    verbs::deployment_stop(&app.ctx(), id).await.unwrap();
    let removed = until_run(&test, &app, ExecutionStatus::Removed).await;
    assert_eq!((removed.id, removed.reason.as_deref()), (last.id, Some("stopped on request")));
    let stopped = deployment_instance_execution_create(&app.ctx(), app.instance).await.unwrap_err();
    assert!(stopped.code == Code::Conflict && stopped.public.contains("redeploy"), "{stopped:?}");

    // Without its schedule it runs all the time again.
    let ordinary = test.live(&app).await;
    test.until_routed(&app, ordinary, 1).await;
    let unknown = deployment_instance_execution_create(&app.ctx(), app.instance).await.unwrap_err();
    assert!(unknown.public.contains("cronSchedule"), "{unknown:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_refers_to_another_service_starts_when_that_one_serves_or_has_failed() {
    let mut test = TestApp::new().await;
    // What is waited for rings: the clock would come too late for this test.
    test.set_period(Duration::from_secs(3600));
    test.start_engine();
    let api = test.app("api").await;
    let web = sibling(&api, "web").await;
    test.stage.sim.script_next(never_listens());
    let slow = test.deploy(&api, |_| {}).await;
    let after = test
        .deploy_after(&web, &[slow], |spec| {
            // The time that it waits does not count.
            spec.deploy.healthcheck_path = Some("/".into());
        })
        .await;
    let step = async || test.events(&web, after).await.into_iter().find(|event| event.step == EventStep::WaitForDependencies);
    let begun = test.until("a step that tells of the wait", async || step().await).await;
    assert_eq!((begun.completed_at, begun.error), (None, None));
    assert!(begun.detail.is_some_and(|detail| detail.contains("come first")));
    test.until("the one that comes first to be started", async || test.replicas(&api, slow).await.pop()).await;
    assert_eq!(test.deployment(&web, after).await.status, DeploymentStatus::Deploying);
    assert!(test.replicas(&web, after).await.is_empty(), "it waits");

    test.listen(slow).await;
    test.until_status(&web, after, DeploymentStatus::Success).await;
    let first = test.deployment(&api, slow).await;
    assert_eq!(first.status, DeploymentStatus::Success);
    assert!(test.replicas(&web, after).await[0].created_at >= first.status_at);
    assert!(step().await.is_some_and(|event| event.completed_at.is_some() && event.error.is_none()));

    test.stage.sim.script_next(Script { ending: Some((Duration::from_millis(50), Ending::Crash(7))), ..never_listens() });
    let bad = test.deploy(&api, |_| {}).await;
    let goes_on = test.deploy_after(&web, &[bad], |_| {}).await;
    test.until_status(&web, goes_on, DeploymentStatus::Success).await;
    assert_eq!(test.deployment(&api, bad).await.status, DeploymentStatus::Crashed);
    // What is gone is not waited for.
    let alone = test.deploy_after(&web, &[DeploymentId::generate()], |_| {}).await;
    test.until_status(&web, alone, DeploymentStatus::Success).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_requires_a_volume_starts_only_where_one_is_mounted() {
    let test = TestApp::started().await;
    let app = test.app("files").await;
    let old = test.live(&app).await;
    let serving = test.targets(&app);
    let requires = |spec: &mut domain::spec::InstanceSpec| {
        spec.deploy.required_mount_path = Some("/data/".into());
        spec.deploy.pre_deploy_command = vec!["exit 1".into()];
    };
    let without = test.deploy(&app, requires).await;
    let failed = test.until_status(&app, without, DeploymentStatus::Failed).await;
    let reason = failed.status_reason.unwrap();
    assert!(reason.starts_with("no volume is mounted at /data/") && reason.contains("requiredMountPath"), "{reason}");
    let events = test.events(&app, without).await;
    let told: Vec<_> = events.iter().map(|event| (event.step, event.error.as_deref())).collect();
    assert_eq!(told, [(EventStep::CreateContainer, Some(reason.as_str()))], "no command runs for what cannot start");
    assert_eq!((test.targets(&app), test.deployment(&app, old).await.status), (serving, DeploymentStatus::Success));

    let place = VolumePlace::Environment(app.environment);
    let create = VolumeCreate { project: app.project, place, service: Some(app.service), mount_path: "/data".into() };
    volume_create(&app.ctx(), create).await.unwrap();
    let with = test.deploy(&app, |spec| spec.deploy.required_mount_path = Some("/data/".into())).await;
    test.until_status(&app, with, DeploymentStatus::Success).await;
}
