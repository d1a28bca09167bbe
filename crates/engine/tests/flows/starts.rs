//! What starts workflows by itself, and what keeps it from doing so.

use std::time::Duration;

use domain::activity::{Activity, Actor};
use domain::deployment::DeploymentStatus;
use domain::galaxy::app_id;
use domain::workflow::run::{PlatformEvent, RunStatus, Start, Subject};
use domain::{ActivityId, Role};
use jiff::SignedDuration;
use ops::app::{TriggerInput, container_count_set, trigger_save};
use ops::flow_trigger::{flow_trigger_create, system_schedule_start};
use runtime::sim::{Ending, Script};
use store::{Change, WorkflowChange};

use super::*;

/// A schedule of every day that does not come while a test runs.
fn not_now() -> String {
    let hour = Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).hour();
    format!("0 {} * * *", (hour + 12) % 24)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_starts_its_workflow_once_whoever_tries() {
    let mut app = TestApp::started().await;
    let ctx = app.person("ada@example.com").await;
    let flow = workflow(&ctx).await;
    let tenant = Tenant::system(flow.workspace_id);
    let values = map(json!({"name": "Ada"}));
    let start = Start::Schedule { cron: not_now(), timezone: Some("Europe/Berlin".into()), values };
    let made = flow_trigger_create(&now(&ctx), flow.id, start).await.expect("a trigger").trigger;
    let due = |was: Timestamp, at: Timestamp| {
        vec![Change::Workflow(WorkflowChange::TriggerMove { id: made.id, was, next: Some(at), last: None })]
    };
    // Its time came three times while nothing ran: that is made up for once, whichever of two engines is first.
    app.kill_engine().await;
    let past = Timestamp::now() - SignedDuration::from_hours(72);
    app.ops.store.commit(tenant, due(made.next_at.expect("a time"), past)).await.expect("a new time");
    let found = trigger(&app, made.id, tenant).await;
    let at = Timestamp::now();
    let (one, other) = tokio::join!(system_schedule_start(&app.ops, &found, at), system_schedule_start(&app.ops, &found, at));
    one.and(other).expect("both are content");
    assert_eq!(runs(&ctx).await.len(), 1);
    app.start_engine();
    let all = until_runs(&app, &ctx, 1).await;
    let view = run_get(&ctx, all[0].id, true).await.expect("the run");
    assert_eq!((view.run.source, &output(&view, "request")["name"]), (RunSource::Schedule, &json!("Ada")));
    let moved = trigger(&app, made.id, tenant).await;
    assert!(moved.next_at.expect("a next time") > at && moved.last_at.is_some(), "{moved:?}");

    // The engine finds by itself what is due, also one that is killed on the way.
    app.kill_engine().await;
    app.ops.store.commit(tenant, due(moved.next_at.expect("a time"), past)).await.expect("a new time");
    for _ in 0..3 {
        app.start_engine();
        tokio::time::sleep(Duration::from_millis(rand::random::<u64>() % 20)).await;
        app.kill_engine().await;
    }
    app.start_engine();
    assert_eq!(until_runs(&app, &ctx, 2).await.len(), 2);
    let bad = Start::Schedule { cron: "every day".into(), timezone: None, values: Map::new() };
    assert!(flow_trigger_create(&now(&ctx), flow.id, bad).await.expect_err("no schedule").public.contains("not a schedule"));
}

async fn on(ctx: &OpCtx, event: PlatformEvent) -> (Workflow, FlowTriggerId) {
    let fields = ["event", "deploymentId", "serviceId", "payload"];
    let fields = fields.map(|name| NewField { name: name.into(), kind: PortType::Any, value: json!(null) }).to_vec();
    let flow = workflow_create(&now(ctx), event.as_str(), "", fields).await.expect("a workflow");
    let made = flow_trigger_create(&now(ctx), flow.id, Start::Event { event }).await.expect("a trigger");
    (flow, made.trigger.id)
}

/// What the audit log tells of triggers that have started nothing, oldest first, once there is so much of it.
async fn until_refused(app: &TestApp, tenant: Tenant, count: usize) -> Vec<String> {
    let mut rings = app.ops.signals.runs();
    let told = async || {
        let mut all = app.ops.store.activities(tenant, None, 200).await.expect("the store");
        all.retain(|entry| entry.verb == "flow_trigger_failed");
        all.into_iter().rev().map(|entry| entry.data["reason"].as_str().expect("a reason").to_owned()).collect::<Vec<_>>()
    };
    let found = async {
        loop {
            rings.mark_unchanged();
            let all = told().await;
            if all.len() >= count {
                return all;
            }
            let _ = tokio::time::timeout(Duration::from_millis(200), rings.changed()).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(120), found).await {
        Ok(all) => all,
        Err(_) => panic!("{count} refusals did not come: {:#?}", told().await),
    }
}

/// The entry of a deployment of an app that has failed.
fn failed(shop: &App) -> Activity {
    Activity {
        id: ActivityId::generate(),
        workspace_id: shop.tenant.workspace(),
        project_id: Some(shop.project),
        instance_id: Some(shop.instance),
        actor: Actor::System { part: "engine".into() },
        verb: "deployment_build_failed".into(),
        subject: "some deployment".into(),
        data: json!({"reason": "no start command"}),
        address: None,
        created_at: Timestamp::now(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn events_beyond_the_allowance_are_told_and_hold_up_nothing() {
    let mut app = TestApp::new().await;
    let settings = &mut std::sync::Arc::get_mut(&mut app.ops).expect("nobody else has it yet").settings.flow;
    settings.prices = [("merge".to_owned(), 40)].into();
    settings.allowance = 100;
    let shop = app.app("shop").await;
    let ctx = shop.ctx();
    let (flow, _) = on(&ctx, PlatformEvent::DeploymentFailed).await;
    add(&ctx, &flow, "merge", json!({})).await;
    let entries = (0..3).map(|_| Change::Activity(failed(&shop))).collect();
    app.ops.store.commit(shop.tenant, entries).await.expect("entries");
    app.start_engine();
    let told = until_refused(&app, shop.tenant, 1).await;
    assert!(told[0].contains("Insufficient credits"), "{told:?}");
    assert_eq!(until_runs(&app, &ctx, 2).await.len(), 2, "what fits is started");

    // What comes after it has its turn.
    app.ops.store.commit(shop.tenant, vec![Change::Activity(failed(&shop))]).await.expect("an entry");
    app.ops.signals.ring();
    assert_eq!(until_refused(&app, shop.tenant, 2).await.len(), 2);
    assert!(app.ops.store.system_activities_pending(10).await.expect("the store").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_is_not_started_by_what_it_has_done_itself() {
    let app = TestApp::started().await;
    let shop = app.app("shop").await;
    let ctx = shop.ctx();
    let (flow, id) = on(&ctx, PlatformEvent::DeploymentSucceeded).await;
    add(&ctx, &flow, "redeploy", of(&shop)).await;
    app.live(&shop).await;
    let told = until_refused(&app, shop.tenant, 1).await;
    assert!(told[0].contains("was made by a run of the workflow"), "{told:?}");
    let all = until_runs(&app, &ctx, 1).await;
    assert_eq!(all.iter().map(|run| run.status).collect::<Vec<_>>(), [RunStatus::Completed]);
    assert_eq!(trigger(&app, id, shop.tenant).await.last_at, Some(all[0].created_at));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workflow_that_changes_apps_rests_for_a_minute() {
    let app = TestApp::started().await;
    let shop = app.app("shop").await;
    let ctx = shop.ctx();
    let (acting, _) = on(&ctx, PlatformEvent::ContainerUnhealthy).await;
    add(
        &ctx,
        &acting,
        "scale",
        json!({"environment_id": shop.environment.to_string(), "service_id": shop.service.to_string(), "replicas": 2}),
    )
    .await;
    on(&ctx, PlatformEvent::ContainerUnhealthy).await;
    let happens = async || {
        let entry = Activity { verb: "container_unhealthy".into(), ..failed(&shop) };
        app.ops.store.commit(shop.tenant, vec![Change::Activity(entry)]).await.expect("an entry");
        app.ops.signals.ring();
    };
    happens().await;
    assert_eq!(until_runs(&app, &ctx, 2).await.len(), 2);
    happens().await;
    let told = until_refused(&app, shop.tenant, 1).await;
    assert!(told[0].contains("may be its own doing"), "{told:?}");
    let all = until_runs(&app, &ctx, 3).await;
    let of_acting = |run: &&Run| matches!(&run.subject, Subject::Workflow { id, .. } if *id == acting.id);
    assert_eq!((all.len(), all.iter().filter(of_acting).count()), (3, 1), "the one that only tells of it is started each time");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trigger_ends_with_the_role_of_whoever_made_it() {
    let app = TestApp::new().await;
    let (ada, bob) = (app.person("ada@example.com").await, app.person("bob@example.com").await);
    let flow = workflow(&ada).await;
    let (tenant, user) = (Tenant::system(flow.workspace_id), bob.user().expect("a person").user.id);
    let role = async |role| app.ops.store.commit(tenant, vec![Change::MemberSet { user, role }]).await.expect("a role");
    role(Role::Member).await;
    let bob = today(&app, &bob).await;
    let start = Start::Schedule { cron: not_now(), timezone: None, values: Map::new() };
    let made = flow_trigger_create(&now(&bob), flow.id, start).await.expect("a trigger").trigger;
    role(Role::Viewer).await;
    system_schedule_start(&app.ops, &trigger(&app, made.id, tenant).await, Timestamp::now()).await.expect("it is told");
    let after = trigger(&app, made.id, tenant).await;
    assert_eq!((after.enabled, after.next_at, runs(&ada).await.len()), (false, None, 0));
    assert!(until_refused(&app, tenant, 1).await[0].contains("MEMBER"), "and the log says why");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happens_to_an_app_starts_the_workflows_that_wait_for_it() {
    let app = TestApp::started().await;
    let shop = app.app("shop").await;
    let ctx = shop.ctx();
    on(&ctx, PlatformEvent::DeploymentSucceeded).await;
    on(&ctx, PlatformEvent::ContainerUnhealthy).await;
    let stranger = app.person("eve@example.com").await;
    on(&stranger, PlatformEvent::DeploymentSucceeded).await;
    let deployment = app.live(&shop).await;
    let all = until_runs(&app, &ctx, 1).await;
    assert_eq!((all.len(), all[0].source), (1, RunSource::Event));
    let view = run_get(&ctx, all[0].id, true).await.expect("the run");
    let told = output(&view, "request");
    assert_eq!((&told["event"], &told["deploymentId"]), (&json!("deployment.succeeded"), &json!(deployment.to_string())));
    assert_eq!(told["serviceId"], json!(shop.service.to_string()));
    assert_eq!(told["payload"]["environmentId"], json!(shop.environment.to_string()));

    // A build that fails is told of as well, and each entry starts what waits for it once.
    on(&ctx, PlatformEvent::DeploymentFailed).await;
    app.ops.store.commit(shop.tenant, vec![Change::Activity(failed(&shop))]).await.expect("an entry");
    app.ops.signals.ring();
    let all = until_runs(&app, &ctx, 2).await;
    let view = run_get(&ctx, all[0].id, true).await.expect("the run");
    assert_eq!(output(&view, "request")["payload"]["reason"], json!("no start command"));
    assert!(runs(&stranger).await.is_empty(), "events stay in their workspace");

    let person = stranger.user().expect("a person").user.id;
    assert!(ops::auth::acting(&app.ops, shop.tenant, person).await.is_err(), "who does not belong to the workspace acts for nobody there");
    let owner = ops::auth::acting(&app.ops, shop.tenant, ctx.user().expect("a person").user.id).await.expect("the owner acts");
    let ops::Principal::User(owner) = owner else { panic!("a person") };
    assert!(owner.grants.0.iter().all(|grant| grant.role == Role::Member), "and no further than a member");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_platform_does_to_an_app_starts_the_workflows_that_wait_for_it() {
    let app = TestApp::started().await;
    let shop = app.app("shop").await;
    let ctx = shop.ctx();
    let id = app.deploy(&shop, |spec| spec.deploy.limits.cpu_millis = Some(1_000)).await;
    app.until_routed(&shop, id, 1).await;
    for event in [PlatformEvent::TriggerFired, PlatformEvent::DeploymentCrashed, PlatformEvent::DeploymentFailed] {
        on(&ctx, event).await;
    }
    let told = async |count: usize| {
        let all = until_runs(&app, &ctx, count).await;
        assert_eq!(all.len(), count, "{all:#?}");
        output(&run_get(&ctx, all[0].id, true).await.expect("the run"), "request").clone()
    };
    // People scale as well: that was no trigger.
    container_count_set(&shop.ctx(), &app_id(shop.instance), 2).await.expect("two containers");
    app.until_routed(&shop, id, 2).await;
    let wanted = TriggerInput {
        app_id: app_id(shop.instance),
        name: "grow".into(),
        action: "add containers".into(),
        min: Some(1),
        max: Some(3),
        rules: vec![("cpu".into(), "above".into(), 50.0)],
        samples: Some(1),
        run_every: Some(1),
        ..TriggerInput::default()
    };
    trigger_save(&shop.ctx(), wanted).await.expect("a trigger");
    app.until("a third container", async || {
        for spec in app.stage.sim.specs() {
            app.stage.sim.load(spec.replica_id, 0.9, 10 << 20);
        }
        (app.targets(&shop).len() == 3).then_some(())
    })
    .await;
    let fired = told(1).await;
    assert_eq!((&fired["event"], &fired["serviceId"]), (&json!("trigger.fired"), &json!(shop.service.to_string())));
    let data = &fired["payload"]["data"];
    assert_eq!((&data["trigger"], &data["from"], &data["to"]), (&json!("grow"), &json!(2), &json!(3)), "{fired}");

    let fragile = app.app_of(&shop.ctx(), "fragile").await;
    let id = app.live(&fragile).await;
    app.stage.sim.crash(app.targets(&fragile)[0], 9);
    app.until_status(&fragile, id, DeploymentStatus::Crashed).await;
    let crashed = told(2).await;
    assert_eq!((&crashed["event"], &crashed["deploymentId"]), (&json!("deployment.crashed"), &json!(id.to_string())));
    assert_eq!(crashed["serviceId"], json!(fragile.service.to_string()));
    assert_eq!(crashed["payload"]["reason"], json!("exited with status 9"));

    // One that never came into service has failed.
    let never = Some(Duration::from_secs(3600));
    app.stage.sim.script(Script { listens_after: never, ending: Some((Duration::from_millis(50), Ending::Crash(7))), ..Script::default() });
    let id = app.deploy(&fragile, |_| {}).await;
    app.until_status(&fragile, id, DeploymentStatus::Crashed).await;
    let failed = told(3).await;
    assert_eq!((&failed["event"], &failed["deploymentId"]), (&json!("deployment.failed"), &json!(id.to_string())));
    assert_eq!(failed["payload"]["reason"], json!("exited with status 7"));
}
