//! Apps as Galaxy's clients know them, over the simulated driver: triggers and what is told of them, and kills.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, SystemTime};

use domain::DeploymentId;
use domain::activity::Actor;
use domain::deployment::{DeploymentStatus, EventStep, Replica, ReplicaStatus};
use domain::galaxy::{
    ActivityKind, AppStatus, ContainerStatus, app_id, app_status, container_id, container_status, version_id, version_status,
};
use domain::notification::{NotificationSettings, Slack};
use domain::routing::Route;
use domain::trigger::TriggerRun;
use engine::WatchConfig;
use ops::app::{self as verbs, AppPatch, TriggerInput};
use ops::deployment::{Blob, Upload, deployment_cancel, deployment_create};
use ops::service::{InstancePatch, service_instance_update};
use ops::tcp_proxy::tcp_proxy_create;
use runtime::sim::{SILENT, Script};
use store::Change;
use testkit::{App, Entry, TestApp};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// A receiver of webhooks: its address, and the texts that come.
async fn receiver() -> (String, UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook", listener.local_addr().unwrap());
    let (sender, texts) = unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut text, mut buffer) = (String::new(), [0; 4096]);
            let body = loop {
                let Ok(count @ 1..) = stream.read(&mut buffer).await else { break None };
                text.push_str(&String::from_utf8_lossy(&buffer[..count]));
                let body = text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str::<serde_json::Value>(body).ok());
                if body.is_some() {
                    break body;
                }
            };
            let Some(body) = body else { continue };
            // The receiver is gone when the test is over.
            let _ = sender.send(body["text"].as_str().unwrap_or_default().to_owned());
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    });
    (url, texts)
}

fn trigger(app: &App, name: &str, action: &str, rule: (&str, f64)) -> TriggerInput {
    TriggerInput {
        app_id: app_id(app.instance),
        name: name.into(),
        action: action.into(),
        min: Some(1),
        max: Some(3),
        rules: vec![("cpu".into(), rule.0.into(), rule.1)],
        samples: Some(1),
        run_every: Some(1),
        ..TriggerInput::default()
    }
}

/// Waits for so many routed containers, each of which is kept as busy as that.
async fn until_containers(test: &TestApp, app: &App, count: usize, cores: f64) {
    test.until(&format!("{count} containers"), async || {
        for spec in test.stage.sim.specs() {
            test.stage.sim.load(spec.replica_id, cores, 10 << 20);
        }
        (test.targets(app).len() == count).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_adds_and_removes_says_why_and_a_webhook_hears_of_it() {
    let test = TestApp::started().await;
    let app = test.app("busy").await;
    let (url, mut texts) = receiver().await;
    let slack = Slack { enabled: true, url, kinds: ["appContainers".to_owned()].into(), ..Slack::default() };
    let settings = NotificationSettings { slack: Some(slack), mail: None };
    verbs::notification_settings_set(&app.ctx(), None, Some(&app_id(app.instance)), Some(settings)).await.unwrap();
    let id = test.deploy(&app, |spec| spec.deploy.limits.cpu_millis = Some(1_000)).await;
    test.until_routed(&app, id, 1).await;

    let up = verbs::trigger_save(&app.ctx(), trigger(&app, "up", "add containers", ("above", 50.0))).await.unwrap().row;
    let down = verbs::trigger_save(&app.ctx(), trigger(&app, "down", "remove containers", ("below", 10.0))).await.unwrap().row;
    until_containers(&test, &app, 3, 0.9).await;
    until_containers(&test, &app, 1, 0.0).await;

    for (trigger, steps) in [(up, ["from 1 to 2", "from 2 to 3"]), (down, ["from 3 to 2", "from 2 to 1"])] {
        let log = async || verbs::trigger_runs(&app.ctx(), &trigger.id.to_string(), 1_000).await.unwrap();
        let told = |runs: &[TriggerRun], step: &str| runs.iter().position(|run| run.log.iter().any(|line| line.contains(step)));
        // A run is written down after it has done what it tells of.
        let runs = test
            .until("a log of each step", async || Some(log().await).filter(|runs| steps.iter().all(|step| told(runs, step).is_some())))
            .await;
        for step in steps {
            let run = &runs[told(&runs, step).unwrap()];
            assert_eq!(run.outcome, "executed");
            assert!(run.log.iter().any(|line| line.starts_with("matched rules")), "{run:#?}");
        }
        let idle = runs.iter().find(|run| run.outcome == "not executed");
        assert!(idle.is_none_or(|run| !run.log.is_empty()), "{idle:#?}");
    }
    let told = async {
        let mut told = vec![];
        while told.len() < 4 {
            told.push(texts.recv().await.expect("the receiver lives as long as the test"));
        }
        told
    };
    let told = tokio::time::timeout(Duration::from_secs(60), told).await.expect("four messages");
    for words in ["up from 1 to 2 containers", "up from 2 to 3 containers", "down from 3 to 2 containers", "down from 2 to 1 containers"] {
        let wanted = format!("Galaxy scaled {} {words}", app.host);
        assert!(told.contains(&wanted), "{wanted}: {told:#?}");
    }
    let activities = test.ops.store.activities_of_instances(app.tenant, &[app.instance], 50).await.unwrap();
    let scaled = activities.iter().filter(|activity| activity.verb == "container_count_set");
    assert!(
        scaled.clone().count() >= 4 && scaled.clone().all(|one| one.actor == Actor::System { part: "trigger".into() }),
        "{activities:#?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_told_of_its_apps_and_not_of_what_has_no_domain() {
    let test = TestApp::started().await;
    let app = test.app("told").await;
    let worker = test.app_of(&app.ctx(), "worker").await;
    let domain = test.ops.store.domains_of_environments(app.tenant, &[worker.environment]).await.unwrap().remove(0);
    test.ops.store.commit(app.tenant, vec![Change::DomainDelete(domain.id)]).await.unwrap();
    let account = test.ops.store.workspace(app.tenant.workspace()).await.unwrap().unwrap().open(app.tenant).unwrap();
    let (url, mut texts) = receiver().await;
    let slack = Slack { enabled: true, url, kinds: ["appContainers".to_owned(), "appRemove".to_owned()].into(), ..Slack::default() };
    let settings = NotificationSettings { slack: Some(slack), mail: None };
    verbs::notification_settings_set(&app.ctx(), Some(&account.username), None, Some(settings)).await.unwrap();
    for one in [&worker, &app] {
        let patch = InstancePatch { replicas: Some(2), ..InstancePatch::default() };
        service_instance_update(&one.ctx(), one.service, Some(one.environment), patch).await.unwrap();
    }
    let text = tokio::time::timeout(Duration::from_secs(60), texts.recv()).await.expect("a message").unwrap();
    assert!(text.contains(&app.host), "{text}");
    let about = async |app: &App| test.ops.store.deliveries(app.tenant, "notification", &app.instance.to_string(), 9).await.unwrap().len();
    assert_eq!((about(&app).await, about(&worker).await), (1, 0));
    for one in [&worker, &app] {
        ops::service::service_delete(&one.ctx(), one.service, None).await.unwrap();
    }
    let text = tokio::time::timeout(Duration::from_secs(60), texts.recv()).await.expect("another message").unwrap();
    assert!(text.ends_with(&format!("removed {}", app.host)), "{text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_hostname_yet_knows_its_ids_and_no_address() {
    let test = TestApp::started().await;
    let app = test.app("nameless").await;
    let domain = test.ops.store.domains_of_environments(app.tenant, &[app.environment]).await.unwrap().remove(0);
    test.ops.store.commit(app.tenant, vec![Change::DomainDelete(domain.id)]).await.unwrap();
    test.live(&app).await;
    let spec = test.stage.sim.specs().into_iter().find(|spec| spec.source.service_id == app.service).unwrap();
    assert_eq!(spec.env.get("GALAXY_APP_ID"), Some(&app_id(app.instance)));
    assert_eq!(spec.env.get("GALAXY_CONTAINER_ID"), Some(&container_id(app.instance, spec.replica_id)));
    assert!(spec.env.contains_key("GALAXY_APP_VERSION_ID") && !spec.env.contains_key("ROOT_URL"), "{:?}", spec.env.keys());
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_only_container_shows_and_killing_one_of_three_does_not() {
    let test = TestApp::started().await;
    let app = test.app("killed").await;
    let id = test.live(&app).await;
    let first = test.until_routed(&app, id, 1).await[0];
    let wire = app_id(app.instance);
    let before = test.edge.tables().len();
    let killed = verbs::container_kill(&app.ctx(), &wire, &container_id(app.instance, first)).await.unwrap();
    assert_eq!(killed.row.1.id, first);
    // Looked for among all tables: the next one may have followed at once.
    test.until("a table without the only container", async || {
        let empty = |route: &Route| route.targets.is_empty();
        test.edge.tables()[before..].iter().any(|table| table.hosts.get(&app.host).is_none_or(empty)).then_some(())
    })
    .await;
    let second = test.until("another container", async || test.targets(&app).first().copied().filter(|now| *now != first)).await;
    let told = test.journal.entries().iter().filter(|entry| **entry == Entry::Stop(first)).count();
    assert_eq!(told, 1, "who has ended is not told to end until that has shown for long enough");
    let error = verbs::container_kill(&app.ctx(), &wire, &container_id(app.instance, first)).await.unwrap_err();
    assert_eq!(error.code, domain::Code::NotFound);

    verbs::container_count_set(&app.ctx(), &wire, 3).await.unwrap();
    let three = test.until_routed(&app, id, 3).await;
    assert!(three.contains(&second), "scaling replaced a container");
    let before = test.edge.tables().len();
    verbs::container_kill(&app.ctx(), &wire, &container_id(app.instance, three[0])).await.unwrap();
    test.until("three others", async || {
        let targets = test.targets(&app);
        (targets.len() == 3 && !targets.contains(&three[0])).then_some(())
    })
    .await;
    let tables = test.edge.tables();
    let served = tables[before..].iter().all(|table| table.hosts.get(&app.host).is_some_and(|route| route.targets.len() >= 2));
    assert!(served, "fewer than two containers were routed");
    assert!(test.activities(&app).await.iter().filter(|verb| *verb == "container_kill").count() == 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_limit_stops_a_trigger_and_says_so() {
    let test = TestApp::started().await;
    let app = test.app("full").await;
    let other = test.app_of(&app.ctx(), "other").await;
    verbs::container_count_set(&app.ctx(), &app_id(other.instance), 5).await.unwrap();
    let error = verbs::container_count_set(&app.ctx(), &app_id(app.instance), 6).await.unwrap_err();
    assert_eq!(error.code, domain::Code::PlanLimit, "{}", error.public);
    let id = test.live(&app).await;
    test.until_routed(&app, id, 1).await;
    // Below the minimum is corrected before any rule.
    let mut input = trigger(&app, "many", "add containers", ("above", 90.0));
    (input.min, input.max) = (Some(8), Some(20));
    let saved = verbs::trigger_save(&app.ctx(), input).await.unwrap().row;
    test.until("an entry that the limit is reached", async || {
        test.activities(&app).await.contains(&"trigger_over_limit".to_owned()).then_some(())
    })
    .await;
    let runs = verbs::trigger_runs(&app.ctx(), &saved.id.to_string(), 10).await.unwrap();
    assert!(runs.iter().all(|run| run.outcome != "executed"), "{runs:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_hangs_is_replaced_unless_that_is_switched_off() {
    let mut test = TestApp::new().await;
    let every = Duration::from_millis(100);
    test.set_watch(WatchConfig { every, answer: Duration::from_secs(4), patience: every, ..WatchConfig::default() });
    test.start_engine();
    let app = test.app("hangs").await;
    let left = test.app_of(&app.ctx(), "left").await;
    let patch = AppPatch { unhealthy_replacement: Some(false), ..AppPatch::default() };
    verbs::app_settings_set(&left.ctx(), &app_id(left.instance), patch).await.unwrap();
    verbs::container_count_set(&app.ctx(), &app_id(app.instance), 2).await.unwrap();
    let ids = (test.live(&app).await, test.live(&left).await);
    let (two, only) = (test.until_routed(&app, ids.0, 2).await, test.until_routed(&left, ids.1, 1).await);
    test.stage.sim.hang(only[0]);
    test.stage.sim.hang(two[0]);
    test.until("another container", async || {
        let targets = test.targets(&app);
        (targets.len() == 2 && !targets.contains(&two[0])).then_some(())
    })
    .await;
    assert!(test.targets(&app).contains(&two[1]), "a container that answers was replaced");
    assert_eq!(test.targets(&left), only);

    let entries = test.ops.store.activities_of_instances(app.tenant, &[app.instance, left.instance], 50).await.unwrap();
    let told: Vec<_> = entries.iter().filter(|entry| entry.verb == "container_unhealthy").collect();
    let [told] = told[..] else { panic!("{told:#?}") };
    assert_eq!(
        (told.instance_id, told.data["container"].as_str()),
        (Some(app.instance), Some(container_id(app.instance, two[0]).as_str()))
    );
    let kind = ActivityKind::of(told).unwrap();
    assert_eq!(kind.wire, "containerUnhealthy");
    assert!(kind.sentence(told, "", &app.host).contains("is unhealthy and is replaced"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_restored_although_a_dozen_deployments_and_the_clean_up_came_after_it() {
    let mut test = TestApp::started().await;
    let app = test.app("old").await;
    let first = test.live(&app).await;
    let mut newest = test.live(&app).await;
    for _ in 0..11 {
        newest = ops::deployment::deployment_redeploy(&app.ctx(), newest).await.unwrap().row.id;
        test.until_status(&app, newest, DeploymentStatus::Success).await;
    }
    test.stop_engine().await;
    let unused = test.dir().join("artifacts/unused");
    std::fs::create_dir_all(&unused).unwrap();
    let yesterday = SystemTime::now() - Duration::from_secs(86_400);
    for entry in std::fs::read_dir(test.dir().join("artifacts")).unwrap() {
        std::fs::File::open(entry.unwrap().path()).unwrap().set_modified(yesterday).unwrap();
    }
    test.start_engine();
    test.until("the clean-up", async || (!unused.exists()).then_some(())).await;

    let snapshot = test.deployment(&app, first).await.snapshot_id;
    verbs::version_restore(&app.ctx(), &app_id(app.instance), &version_id(snapshot)).await.unwrap();
    test.until_status(&app, newest, DeploymentStatus::Removed).await;
    let live = test.ops.store.deployments_live(app.tenant, &[app.instance]).await.unwrap();
    let restored = live.last().map(|row| (row.status, row.snapshot_id));
    assert_eq!(restored, Some((DeploymentStatus::Success, snapshot)), "{live:#?}");
}

/// Takes connections, and answers nobody.
fn mute() -> Script {
    Script { status: SILENT, ..Script::default() }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_takes_connections_and_answers_nobody_is_not_deployed() {
    let test = TestApp::started().await;
    let app = test.app("mute").await;
    let old = test.live(&app).await;
    let before = test.targets(&app);
    test.stage.sim.script_next(mute());
    let late = test.deploy(&app, |spec| spec.deploy.healthcheck_timeout = Some(2)).await;
    let failed = test.until_status(&app, late, DeploymentStatus::Failed).await;
    let reason = "1/1 replicas never became healthy within 2 seconds: the app has to listen on $PORT and answer there";
    assert_eq!(failed.status_reason.as_deref(), Some(reason));
    assert_eq!((test.targets(&app), test.deployment(&app, old).await.status), (before, DeploymentStatus::Success));

    // An answer that is no success is one, and it may come late.
    test.stage.sim.script_next(mute());
    let slow = test.deploy(&app, |_| {}).await;
    let starting = |row: &Replica| row.status == ReplicaStatus::Initializing;
    let replica = test.until("a replica that runs", async || test.replicas(&app, slow).await.into_iter().find(starting)).await;
    test.stage.sim.answer(replica.id, 500);
    test.until_status(&app, slow, DeploymentStatus::Success).await;
    test.assert_always_served(&app);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_behind_a_port_of_its_own_and_one_that_is_not_watched_need_not_answer() {
    let test = TestApp::started().await;
    let (other, left) = (test.app("other").await, test.app("left").await);
    tcp_proxy_create(&other.ctx(), other.environment, other.service, 4_000).await.unwrap();
    let patch = AppPatch { unhealthy_replacement: Some(false), ..AppPatch::default() };
    verbs::app_settings_set(&left.ctx(), &app_id(left.instance), patch).await.unwrap();
    for app in [&other, &left] {
        test.stage.sim.script_next(mute());
        let id = test.live(app).await;
        test.until_routed(app, id, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_watched_is_deployed_when_its_time_is_over_and_serves_when_it_answers() {
    let test = TestApp::started().await;
    let app = test.app("slow").await;
    let patch = AppPatch { unhealthy_replacement: Some(false), ..AppPatch::default() };
    verbs::app_settings_set(&app.ctx(), &app_id(app.instance), patch).await.unwrap();
    let old = test.live(&app).await;
    let before = test.targets(&app);
    test.stage.sim.script_next(Script { listens_after: Some(Duration::from_secs(3600)), ..Script::default() });
    let late = test.deploy(&app, |spec| spec.deploy.healthcheck_timeout = Some(1)).await;
    test.until_status(&app, late, DeploymentStatus::Success).await;
    assert_eq!((test.targets(&app), test.deployment(&app, old).await.status), (before, DeploymentStatus::Success));
    test.listen(late).await;
    test.until_routed(&app, late, 1).await;
    test.until_status(&app, old, DeploymentStatus::Removed).await;
    test.assert_always_served(&app);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_never_answers_is_replaced_after_a_while_of_its_own() {
    let mut test = TestApp::new().await;
    let (every, start_patience) = (Duration::from_millis(100), Duration::from_secs(1));
    test.set_watch(WatchConfig { every, start_patience, ..WatchConfig::default() });
    test.start_engine();
    let app = test.app("dawdles").await;
    let id = test.live(&app).await;
    let first = test.until_routed(&app, id, 1).await[0];
    test.stage.sim.script_next(Script { listens_after: Some(Duration::from_secs(3600)), ..Script::default() });
    verbs::container_count_set(&app.ctx(), &app_id(app.instance), 2).await.unwrap();
    assert!(test.until_routed(&app, id, 2).await.contains(&first), "a container that answers was replaced");
    assert!(test.activities(&app).await.contains(&"container_unhealthy".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_hangs_takes_no_requests_and_an_app_of_such_is_unavailable() {
    let mut test = TestApp::new().await;
    test.set_watch(WatchConfig { every: Duration::from_millis(100), answer: Duration::from_secs(2), ..WatchConfig::default() });
    test.start_engine();
    let app = test.app("silent").await;
    let (url, mut texts) = receiver().await;
    let slack = Slack { enabled: true, url, kinds: ["appUnavailable".to_owned()].into(), ..Slack::default() };
    let settings = NotificationSettings { slack: Some(slack), mail: None };
    verbs::notification_settings_set(&app.ctx(), None, Some(&app_id(app.instance)), Some(settings)).await.unwrap();
    // Nothing is replaced, and is known all the same.
    let patch = AppPatch { unhealthy_replacement: Some(false), ..AppPatch::default() };
    verbs::app_settings_set(&app.ctx(), &app_id(app.instance), patch).await.unwrap();
    verbs::container_count_set(&app.ctx(), &app_id(app.instance), 2).await.unwrap();
    let id = test.live(&app).await;
    let two = test.until_routed(&app, id, 2).await;
    let state = async || {
        let open = test.ops.store.deployments_live(app.tenant, &[app.instance]).await.unwrap();
        let rows = test.ops.store.replicas_of(app.tenant, &[id]).await.unwrap();
        let each: Vec<_> = two.iter().filter_map(|id| rows.iter().find(|row| row.id == *id)).map(container_status).collect();
        (app_status(&open, open.last(), &rows, 2), each)
    };

    test.stage.sim.hang(two[0]);
    test.until("requests to the other one alone", async || (test.targets(&app) == [two[1]]).then_some(())).await;
    assert_eq!(state().await, (AppStatus::Running, vec![ContainerStatus::Unhealthy, ContainerStatus::Running]));

    test.stage.sim.hang(two[1]);
    let text = tokio::time::timeout(Duration::from_secs(60), texts.recv()).await.expect("a message").unwrap();
    assert_eq!(text, format!("{} is unavailable: none of its containers is healthy", app.host));
    test.until("requests to both: better a slow answer than none", async || (test.targets(&app) == two).then_some(())).await;
    assert_eq!(state().await, (AppStatus::Unavailable, vec![ContainerStatus::Unhealthy; 2]));

    test.stage.sim.answer(two[0], 404);
    test.until("requests to the one that answers again", async || (test.targets(&app) == [two[0]]).then_some(())).await;
    assert_eq!(state().await, (AppStatus::Running, vec![ContainerStatus::Running, ContainerStatus::Unhealthy]));
    test.assert_always_served(&app);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_has_the_grace_period_that_its_app_says_to_end() {
    let test = TestApp::started().await;
    let app = test.app("graceful").await;
    let id = test.live(&app).await;
    let grace = async |replica| test.until("the end of a container", async || test.stage.sim.grace(replica)).await;
    for (said, expected) in [(None, 3), (Some(40), 40), (Some(10), 10)] {
        let patch = AppPatch { stop_grace_seconds: said, ..AppPatch::default() };
        verbs::app_settings_set(&app.ctx(), &app_id(app.instance), patch).await.unwrap();
        let container = test.until_routed(&app, id, 1).await[0];
        verbs::container_kill(&app.ctx(), &app_id(app.instance), &container_id(app.instance, container)).await.unwrap();
        assert_eq!(grace(container).await, Duration::from_secs(expected));
        test.until("another container", async || (!test.targets(&app).is_empty() && test.targets(&app) != [container]).then_some(())).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_kills_the_container_that_matches_and_no_other() {
    let test = TestApp::started().await;
    let app = test.app("stuck").await;
    verbs::container_count_set(&app.ctx(), &app_id(app.instance), 3).await.unwrap();
    let id = test.deploy(&app, |spec| spec.deploy.limits.cpu_millis = Some(1_000)).await;
    let three = test.until_routed(&app, id, 3).await;
    let before = test.edge.tables().len();
    let saved = verbs::trigger_save(&app.ctx(), trigger(&app, "busy", "kill containers", ("above", 50.0))).await.unwrap().row;
    let now = test
        .until("another container in place of the busy one", async || {
            for spec in test.stage.sim.specs() {
                let cores = if spec.replica_id == three[1] { 0.9 } else { 0.0 };
                test.stage.sim.load(spec.replica_id, cores, 10 << 20);
            }
            Some(test.targets(&app)).filter(|targets| targets.len() == 3 && !targets.contains(&three[1]))
        })
        .await;
    assert!(now.contains(&three[0]) && now.contains(&three[2]), "an idle container was killed: {now:?}");
    let tables = test.edge.tables();
    let served = tables[before..].iter().all(|table| table.hosts.get(&app.host).is_some_and(|route| route.targets.len() >= 2));
    assert!(served, "fewer than two containers were routed");

    let run = test
        .until("the log of that run", async || {
            let runs = verbs::trigger_runs(&app.ctx(), &saved.id.to_string(), 1_000).await.unwrap();
            runs.into_iter().find(|run| run.outcome == "executed")
        })
        .await;
    assert_eq!(run.log.last().map(String::as_str), Some("executing to kill 1 of 3 containers"), "{run:#?}");
    let why = format!("container {}: matched rules", container_id(app.instance, three[1]));
    assert!(run.log.iter().any(|line| line.starts_with(&why)), "{why}: {run:#?}");
    let activities = test.ops.store.activities_of_instances(app.tenant, &[app.instance], 50).await.unwrap();
    let killed: Vec<_> = activities.iter().filter(|activity| activity.verb == "container_kill").collect();
    let [killed] = killed[..] else { panic!("{killed:#?}") };
    assert_eq!(killed.actor, Actor::System { part: "trigger".into() });
    let container = container_id(app.instance, three[1]);
    assert_eq!((killed.data["trigger"].as_str(), killed.data["container"].as_str()), (Some("busy"), Some(container.as_str())));
}

/// A source that is a site, outside of the folder of uploads.
fn packed(test: &TestApp) -> PathBuf {
    let site = test.dir().join("site");
    std::fs::create_dir_all(&site).unwrap();
    std::fs::create_dir_all(&test.ops.settings.blobs).unwrap();
    std::fs::write(site.join("index.html"), "hello").unwrap();
    let packed = test.dir().join("site.tar.gz");
    let made = Command::new("tar").arg("-czf").arg(&packed).arg("-C").arg(&site).arg("index.html").status().unwrap();
    assert!(made.success());
    packed
}

/// Has the upload of this name deployed, whether it is there or not.
async fn upload(app: &App, name: &str) -> DeploymentId {
    let upload = Upload {
        project: app.project,
        environment: app.environment,
        service: Some(app.service),
        blob: Blob { sha256: name.to_owned(), bytes: 1 },
        message: None,
    };
    deployment_create(&app.ctx(), upload).await.unwrap().row.deployment.id
}

#[tokio::test(flavor = "multi_thread")]
async fn who_finds_no_place_in_the_builder_is_queued_and_a_build_between_two_attempts_takes_none() {
    runtime::sandbox::use_program(env!("CARGO_BIN_EXE_engine-testbin"));
    let test = TestApp::started().await;
    let name = "ab".repeat(32);
    std::fs::rename(packed(&test), test.ops.settings.blobs.join(&name)).unwrap();
    let (slow, next) = (test.app("slow").await, test.app("next").await);
    let patch = InstancePatch { build_command: Some("sleep 600".into()), ..InstancePatch::default() };
    service_instance_update(&slow.ctx(), slow.service, Some(slow.environment), patch).await.unwrap();
    let first = upload(&slow, &name).await;
    test.until_status(&slow, first, DeploymentStatus::Building).await;
    let second = upload(&next, &name).await;
    test.until_status(&next, second, DeploymentStatus::Queued).await;
    assert_eq!(version_status(&test.deployment(&next, second).await).0.as_str(), "building");
    deployment_cancel(&slow.ctx(), first).await.unwrap();
    test.until_status(&next, second, DeploymentStatus::Success).await;

    // The upload is missing, which is the server's fault: it is tried again for a while, and others are built in between.
    let lost = upload(&next, &"cd".repeat(32)).await;
    let third = test.app("third").await;
    let built = upload(&third, &name).await;
    test.until_status(&third, built, DeploymentStatus::Success).await;
    let lost = test.until_status(&next, lost, DeploymentStatus::Failed).await;
    let ends = test.events(&third, built).await.into_iter().filter(|event| event.step == EventStep::BuildImage);
    let ends: Vec<_> = ends.filter_map(|event| event.completed_at).collect();
    assert!(ends.len() == 1 && ends[0] < lost.status_at, "{ends:?} {lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_fails_for_the_servers_own_reasons_is_tried_again_and_the_feed_says_so() {
    runtime::sandbox::use_program(env!("CARGO_BIN_EXE_engine-testbin"));
    let test = TestApp::started().await;
    let app = test.app("later").await;
    let packed = packed(&test);
    // It is not where it should be, at first.
    let name = "ab".repeat(32);
    let id = upload(&app, &name).await;
    let entries = async || test.ops.store.activities_of_instances(app.tenant, &[app.instance], 50).await.unwrap();
    let told = test
        .until("an entry that it is tried again", async || {
            entries().await.into_iter().find(|entry| entry.verb == "deployment_build_retried")
        })
        .await;
    let kind = ActivityKind::of(&told).unwrap();
    assert_eq!((kind.wire, told.data["snapshot"].is_string()), ("appBuildFailedTemporarily", true));
    assert!(matches!(told.actor, Actor::System { .. }), "{told:?}");
    // Between two attempts: whoever looks late sees it before the next one.
    test.until("a version that waits for another attempt", async || {
        let waits = test.deployment(&app, id).await;
        assert_eq!(waits.status, DeploymentStatus::Building);
        (version_status(&waits).0.as_str() == "failed-temporarily").then_some(())
    })
    .await;

    std::fs::rename(&packed, test.ops.settings.blobs.join(&name)).unwrap();
    let built = test.until_status(&app, id, DeploymentStatus::Success).await;
    assert_eq!(built.status_reason, None);
    let log = test.build_log(&app, id).await;
    assert!(log.iter().any(|line| line == "The build is tried again in 2 seconds"), "{log:?}");
    let failed = entries().await.iter().any(|entry| entry.verb == "deployment_build_failed");
    assert!(!failed, "a build that went well in the end has not failed");
}
