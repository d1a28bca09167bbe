//! Runs of workflows: what they give, and that they survive the engine.

use std::time::Duration;

use domain::activity::{Activity, Actor};
use domain::deployment::DeploymentStatus;
use domain::galaxy::app_id;
use domain::workflow::edit::Place;
use domain::workflow::run::{FlowTrigger, PlatformEvent, Run, RunSource, RunStatus, Start, Subject};
use domain::workflow::{Graph, Node, NodeData, Policy, PortType, Position, Workflow};
use domain::{ActivityId, FlowTriggerId, GraphId, Role, RunId, Tenant, Timestamp, UploadId};
use jiff::SignedDuration;
use ops::OpCtx;
use ops::app::{TriggerInput, container_count_set, trigger_save};
use ops::auth::{Presented, Surface, authenticate};
use ops::flow_trigger::{flow_trigger_create, system_schedule_start};
use ops::run::{RunStart, RunView, node_run_start, run_cancel, run_get, run_start};
use ops::workflow::{NewField, NodeChange, node_add, node_update, nodes_connect, workflow_create, workflow_get};
use runtime::sim::{Ending, Script};
use serde_json::{Map, Value, json};
use store::{Change, RunChange, RunQuery, WorkflowChange};
use testkit::{App, TestApp};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

fn now(ctx: &OpCtx) -> OpCtx {
    OpCtx { now: Timestamp::now(), ..ctx.clone() }
}

fn map(value: Value) -> Map<String, Value> {
    value.as_object().cloned().expect("an object")
}

/// A workflow with the text field `name`.
async fn workflow(ctx: &OpCtx) -> Workflow {
    let field = NewField { name: "name".into(), kind: PortType::Text, value: json!("nobody") };
    workflow_create(ctx, "greeting", "", vec![field]).await.expect("a workflow")
}

async fn add(ctx: &OpCtx, workflow: &Workflow, kind: &str, inputs: Value) -> String {
    node_add(&now(ctx), workflow.id, kind, Place::default(), map(inputs), None).await.expect("a node").1
}

async fn connect(ctx: &OpCtx, workflow: &Workflow, source: (&str, &str), target: (&str, &str)) {
    nodes_connect(&now(ctx), workflow.id, source, target).await.expect("an edge");
}

async fn start(ctx: &OpCtx, workflow: &Workflow, values: Value) -> RunId {
    let start = RunStart {
        workflow: domain::cuid(workflow.id.0),
        values: map(values),
        input_overrides: Map::new(),
        node_overrides: vec![],
        webhook: None,
        source: RunSource::Api,
    };
    run_start(&now(ctx), start).await.expect("a run")
}

/// Waits until a run is as wanted; it is looked at whenever something has become of a run.
async fn until(app: &TestApp, ctx: &OpCtx, id: RunId, wanted: impl Fn(&RunView) -> bool) -> RunView {
    let mut rings = app.ops.signals.runs();
    let found = async {
        loop {
            rings.mark_unchanged();
            let view = run_get(ctx, id, true).await.expect("the run");
            if wanted(&view) {
                return view;
            }
            // A node's row rings no bell.
            let _ = tokio::time::timeout(Duration::from_millis(50), rings.changed()).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(60), found).await {
        Ok(view) => view,
        Err(_) => panic!("it did not come: {:#?}", run_get(ctx, id, true).await),
    }
}

async fn ended(app: &TestApp, ctx: &OpCtx, id: RunId) -> RunView {
    until(app, ctx, id, |view| view.run.status.is_over()).await
}

fn output<'a>(view: &'a RunView, kind: &str) -> &'a Value {
    let node = view.nodes.iter().find(|node| node.node_type == kind).unwrap_or_else(|| panic!("no {kind}: {view:#?}"));
    node.output.as_ref().unwrap_or(&Value::Null)
}

fn workers() {
    runtime::sandbox::use_program(env!("CARGO_BIN_EXE_engine-testbin"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_gives_what_its_nodes_compute() {
    workers();
    let app = TestApp::started().await;
    let ctx = app.person("ada@example.com").await;
    let flow = workflow(&ctx).await;
    let (request, response) = (&flow.graph.nodes[0].id, &flow.graph.nodes[1].id);
    let greet = add(&ctx, &flow, "text_template", json!({"template": "Hello {{ who }}"})).await;
    let count = add(&ctx, &flow, "json_transform", json!({"query": "{text: ., length: length}"})).await;
    let script = add(&ctx, &flow, "javascript", json!({"code": "console.log(input.text); return input.length * 2"})).await;
    connect(&ctx, &flow, (request, "field_name"), (&greet, "in:who")).await;
    connect(&ctx, &flow, (&greet, "out:result"), (&count, "in:input")).await;
    connect(&ctx, &flow, (&count, "out:result"), (&script, "in:input")).await;
    connect(&ctx, &flow, (&script, "out:result"), (response, "result")).await;

    let run = start(&ctx, &flow, json!({(request): {"name": "Ada"}})).await;
    let view = ended(&app, &ctx, run).await;
    assert_eq!(view.run.status, RunStatus::Completed, "{view:#?}");
    assert_eq!(output(&view, "response"), &json!({"javascript": 18}));
    assert_eq!(output(&view, "request"), &json!({"name": "Ada", "field_name": "Ada"}));
    let script = view.nodes.iter().find(|node| node.node_type == "javascript").expect("its row");
    assert_eq!(script.logs, ["Hello Ada"]);
    assert_eq!((view.run.node_count, view.nodes.len()), (3, 5));
    let stranger = app.person("eve@example.com").await;
    assert!(run_get(&stranger, run, true).await.is_err() && workflow_get(&stranger, flow.id).await.is_err());
    assert!(run_cancel(&now(&ctx), run).await.is_err(), "it is over");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_users_write_cannot_hurt_the_server() {
    workers();
    let app = TestApp::started().await;
    let ctx = app.person("ada@example.com").await;
    let cases = [
        ("javascript", json!({"code": "for (;;) {}"}), "it ran for more than"),
        ("javascript", json!({"code": "const a = []; for (;;) a.push('x'.repeat(1e6) + a.length)"}), "memory"),
        ("json_transform", json!({"query": "[range(1e12)]", "input": null}), ""),
        ("text_template", json!({"template": "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}"}), "fuel"),
        ("javascript", json!({"code": "return 'x'.repeat(20 << 20)"}), "larger than"),
    ];
    let mut runs = vec![];
    for (kind, inputs, expected) in cases {
        let flow = workflow(&ctx).await;
        add(&ctx, &flow, kind, inputs).await;
        runs.push((start(&ctx, &flow, json!({})).await, expected));
    }
    for (run, expected) in runs {
        let view = ended(&app, &ctx, run).await;
        assert_eq!(view.run.status, RunStatus::Failed);
        assert!(view.run.error.as_deref().is_some_and(|error| error.contains(expected)), "{expected}: {:?}", view.run.error);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_run_keeps_has_an_end() {
    workers();
    let app = TestApp::started().await;
    let ctx = app.person("ada@example.com").await;
    let flow = workflow(&ctx).await;
    let large = add(&ctx, &flow, "javascript", json!({"code": "return 'x'.repeat(3 << 20)"})).await;
    let all = add(&ctx, &flow, "merge", json!({"mode": "object"})).await;
    for at in 0..24 {
        connect(&ctx, &flow, (&large, "out:result"), (&all, &format!("in:copy_{at}"))).await;
    }
    let run = start(&ctx, &flow, json!({})).await;
    let view = ended(&app, &ctx, run).await;
    assert_eq!(view.run.status, RunStatus::Failed);
    assert!(view.run.error.as_deref().is_some_and(|error| error.contains("64 MiB")), "{:?}", view.run.error);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_can_never_be_written_down_fails_once() {
    let app = TestApp::started().await;
    let ctx = app.person("ada@example.com").await;
    let flow = workflow(&ctx).await;
    let unkept = Node { id: "a\0b".into(), kind: "merge".into(), position: Position::default(), data: NodeData::default() };
    let start = RunStart {
        workflow: domain::cuid(flow.id.0),
        values: Map::new(),
        input_overrides: Map::new(),
        node_overrides: vec![unkept.clone()],
        webhook: None,
        source: RunSource::Api,
    };
    assert!(run_start(&now(&ctx), start).await.expect_err("a refusal").public.contains("NUL"));

    // One that has come into the database all the same.
    let graph = Graph { nodes: vec![unkept], ..Graph::default() };
    let (id, graph_id) = (RunId::generate(), GraphId(uuid::Uuid::new_v4()));
    let run = Run {
        id,
        workspace_id: flow.workspace_id,
        user_id: flow.user_id,
        key_id: None,
        subject: Subject::Workflow { id: flow.id, name: flow.name.clone() },
        graph_id,
        values: Map::new(),
        source: RunSource::Api,
        status: RunStatus::Queued,
        error: None,
        node_count: 1,
        single_node: None,
        estimated: 0,
        credits: 0,
        created_at: Timestamp::now(),
        started_at: None,
        finished_at: None,
    };
    let body = serde_json::to_string(&graph).expect("a graph").into();
    let changes = vec![
        Change::Workflow(WorkflowChange::GraphKeep { id: graph_id, body, at: Timestamp::now() }),
        Change::Run(RunChange::Insert { run, webhook: None }),
    ];
    app.ops.store.commit(Tenant::system(flow.workspace_id), changes).await.expect("a run");
    app.ops.signals.ring_runs();
    let view = ended(&app, &ctx, id).await;
    assert_eq!(view.run.status, RunStatus::Failed);
    assert!(view.run.error.as_deref().is_some_and(|error| error.contains("NUL")), "{:?}", view.run.error);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_accounts_own_pictures_are_worked_on_wherever_the_server_is() {
    workers();
    let app = TestApp::started().await;
    let ctx = app.person("ada@example.com").await;
    let mut bytes = std::io::Cursor::new(vec![]);
    image::DynamicImage::new_rgb8(40, 20).write_to(&mut bytes, image::ImageFormat::Png).expect("a picture");
    let upload = ops::file::file_add(&now(&ctx), "a.png", bytes.get_ref()).await.expect("an upload");
    let flow = workflow(&ctx).await;
    let crop = add(&ctx, &flow, "crop_image", json!({"image_url": upload.url, "width_percent": 50})).await;
    let resize = add(&ctx, &flow, "resize_image", json!({"width_px": 10})).await;
    connect(&ctx, &flow, (&crop, "out:image_url"), (&resize, "in:image_url")).await;
    let run = start(&ctx, &flow, json!({})).await;
    let view = ended(&app, &ctx, run).await;
    assert_eq!(view.run.status, RunStatus::Completed, "{view:#?}");
    let made = output(&view, "resize_image");
    assert_eq!((&made["width"], &made["height"]), (&json!(10), &json!(10)));
    let (tenant, url) = (Tenant::system(flow.workspace_id), made["image_url"].as_str().expect("an address"));
    let file = ops::file::system_file_of_address(&app.ops, tenant, url, Timestamp::now()).await.expect("a file of the account");
    let kept = std::fs::read(ops::file::file_path(&app.ops, file.id)).expect("its bytes");
    assert!(kept.starts_with(b"\x89PNG"));

    // The address alone does not open another account's file for a node.
    let stranger = app.person("eve@example.com").await;
    let flow = workflow(&stranger).await;
    add(&stranger, &flow, "crop_image", json!({"image_url": upload.url})).await;
    let run = start(&stranger, &flow, json!({})).await;
    assert_eq!(ended(&app, &stranger, run).await.run.status, RunStatus::Failed);
}

/// Processes whose working folder lies in a folder, with the numbers of their users.
fn inside(folder: &std::path::Path) -> Vec<(std::path::PathBuf, u32)> {
    let processes = std::fs::read_dir("/proc").expect("processes").flatten().map(|entry| entry.path());
    let of = |path: std::path::PathBuf| {
        let cwd = std::fs::read_link(path.join("cwd")).ok()?;
        let status = std::fs::read_to_string(path.join("status")).ok()?;
        let user = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_whitespace().next()?.parse().ok())?;
        cwd.starts_with(folder).then_some((cwd, user))
    };
    processes.filter_map(of).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_users_write_is_nobodys_process() {
    if !nix::unistd::geteuid().is_root() {
        println!("skipped: only root can choose users");
        return;
    }
    workers();
    let mut app = TestApp::new().await;
    app.set_separate_users();
    app.start_engine();
    let folder = app.dir().join("scratch/node-worker");
    let mut folders = std::collections::BTreeSet::new();
    for email in ["ada@example.com", "bob@example.com"] {
        let ctx = app.person(email).await;
        let flow = workflow(&ctx).await;
        add(&ctx, &flow, "javascript", json!({"code": "return 1"})).await;
        let run = start(&ctx, &flow, json!({})).await;
        let view = ended(&app, &ctx, run).await;
        assert_eq!(view.run.status, RunStatus::Completed, "{view:#?}");
    }
    for (cwd, user) in inside(&folder) {
        assert_eq!(user, 199_999, "{}", cwd.display());
        folders.insert(cwd);
    }
    assert_eq!(folders.len(), 2, "each workspace has a worker in a folder of its own: {folders:?}");
    app.stop_engine().await;
    let gone = async {
        while !inside(&folder).is_empty() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("workers end with their engine");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_no_row_tells_of_are_removed() {
    let mut app = TestApp::new().await;
    let ctx = app.person("ada@example.com").await;
    let known = ops::file::file_add(&now(&ctx), "a.txt", b"known").await.expect("a file").file.id;
    let (left, fresh) = (UploadId::generate(), UploadId::generate());
    let path = |id| ops::file::file_path(&app.ops, id);
    let old = std::time::SystemTime::now() - Duration::from_secs(3 * 86_400);
    for (id, old) in [(known, Some(old)), (left, Some(old)), (fresh, None)] {
        let file = std::fs::OpenOptions::new().append(true).create(true).open(path(id)).expect("a file");
        old.map_or(Ok(()), |old| file.set_modified(old)).expect("a time");
    }
    let (known, left, fresh) = (path(known), path(left), path(fresh));
    app.start_engine();
    let gone = async {
        while left.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("it is removed");
    assert!(known.exists() && fresh.exists());
}

/// Fifty nodes in a row, and an engine that is killed again and again in the middle.
#[tokio::test(flavor = "multi_thread")]
async fn a_run_survives_the_death_of_its_engine() {
    workers();
    let mut app = TestApp::started().await;
    let ctx = app.person("ada@example.com").await;
    let flow = workflow(&ctx).await;
    let (request, response) = (flow.graph.nodes[0].id.clone(), flow.graph.nodes[1].id.clone());
    let mut last = (request, "field_name");
    for _ in 0..50 {
        let node = add(&ctx, &flow, "text_template", json!({"template": "{{ v }}."})).await;
        connect(&ctx, &flow, (&last.0, last.1), (&node, "in:v")).await;
        last = (node, "out:result");
    }
    connect(&ctx, &flow, (&last.0, last.1), (&response, "result")).await;
    for round in 0..5 {
        let run = start(&ctx, &flow, json!({})).await;
        for _ in 0..3 {
            tokio::time::sleep(Duration::from_millis(rand::random::<u64>() % 60 + 10)).await;
            app.kill_engine().await;
            app.start_engine();
        }
        let view = ended(&app, &ctx, run).await;
        assert_eq!(view.run.status, RunStatus::Completed, "round {round}: {view:#?}");
        assert_eq!(output(&view, "response"), &json!({"text_template": format!("nobody{}", ".".repeat(50))}));
    }
}

/// Waits until the run is parked for half an hour and more.
async fn until_parked(app: &TestApp) {
    let parked = async {
        let later = Timestamp::now() + jiff::SignedDuration::from_mins(30);
        while !app.ops.store.system_run_tenants().await.expect("the store").iter().any(|(_, at)| *at > later) {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), parked).await.expect("it is parked");
}

/// Takes a parked run from its time, so that the engine looks at it at once.
async fn wake_parked(app: &TestApp, flow: &Workflow) {
    let (store, far) = (&app.ops.store, Timestamp::now() + jiff::SignedDuration::from_hours(48));
    let share = [(flow.workspace_id, 1)];
    let taken = store.system_runs_claim(&share, uuid::Uuid::new_v4(), Timestamp::UNIX_EPOCH, far).await.expect("the store");
    assert_eq!(taken.len(), 1);
    store.system_runs_expire(Timestamp::now()).await.expect("the store");
    app.ops.signals.ring_runs();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delay_is_not_worn_out_by_looking_at_it() {
    let app = TestApp::started().await;
    let ctx = app.person("ada@example.com").await;
    let flow = workflow(&ctx).await;
    add(&ctx, &flow, "delay", json!({"seconds": 86_400})).await;
    let run = start(&ctx, &flow, json!({})).await;
    for _ in 0..60 {
        until_parked(&app).await;
        wake_parked(&app, &flow).await;
    }
    until_parked(&app).await;
    assert_eq!(run_get(&ctx, run, true).await.expect("the run").run.status, RunStatus::Running);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pause_before_another_attempt_outlives_the_engine() {
    let mut app = TestApp::started().await;
    let ctx = app.person("ada@example.com").await;
    let flow = workflow(&ctx).await;
    // Nobody listens there, and that may change.
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let node = add(&ctx, &flow, "http_request", json!({"url": format!("http://127.0.0.1:{port}/")})).await;
    let policy = Policy { retries: 3, backoff_ms: 3_600_000, ..Policy::default() };
    node_update(&now(&ctx), flow.id, &node, NodeChange { policy: Some(policy), ..NodeChange::default() }).await.expect("a policy");
    let run = start(&ctx, &flow, json!({})).await;
    let asked = async || {
        let view = run_get(&ctx, run, true).await.expect("the run");
        assert_eq!(view.run.status, RunStatus::Running, "{view:#?}");
        let row = view.nodes.into_iter().find(|row| row.node_id == node).expect("its row");
        (row.attempts, row.failures)
    };
    until_parked(&app).await;
    assert_eq!(asked().await, (1, 1));
    app.kill_engine().await;
    wake_parked(&app, &flow).await;
    app.start_engine();
    until_parked(&app).await;
    assert_eq!(asked().await, (1, 1), "it is asked again in an hour, not with the next engine");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_delay_parks_the_run_and_a_cancel_ends_it() {
    let app = TestApp::started().await;
    let ctx = app.person("ada@example.com").await;
    let flow = workflow(&ctx).await;
    add(&ctx, &flow, "delay", json!({"seconds": 86_400})).await;
    let run = start(&ctx, &flow, json!({})).await;
    let view = until(&app, &ctx, run, |view| view.nodes.iter().any(|node| node.node_type == "delay")).await;
    assert_eq!(view.run.status, RunStatus::Running);
    run_cancel(&now(&ctx), run).await.expect("it goes on");
    let view = run_get(&ctx, run, true).await.expect("the run");
    assert_eq!(view.run.status, RunStatus::Canceled);
    let delay = view.nodes.iter().find(|node| node.node_type == "delay").expect("its row");
    assert_eq!(delay.status, RunStatus::Canceled);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_ends_what_is_under_way() {
    let app = TestApp::started().await;
    let ctx = app.person("ada@example.com").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    let flow = workflow(&ctx).await;
    add(&ctx, &flow, "http_request", json!({"url": format!("http://{address}/")})).await;
    let run = start(&ctx, &flow, json!({})).await;
    let (mut stream, _) = listener.accept().await.expect("a connection");
    let mut buffer = [0; 4096];
    assert!(stream.read(&mut buffer).await.expect("a request") > 0);
    run_cancel(&now(&ctx), run).await.expect("it goes on");
    // Nobody answers it: it ends because nobody waits any more.
    let closed = async { while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {} };
    tokio::time::timeout(Duration::from_secs(20), closed).await.expect("the connection is closed");
    let view = run_get(&ctx, run, true).await.expect("the run");
    assert_eq!(view.run.status, RunStatus::Canceled);
    let node = view.nodes.iter().find(|node| node.node_type == "http_request").expect("its row");
    assert_eq!(node.status, RunStatus::Canceled);
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_of_one_workspace_do_not_hold_up_those_of_another() {
    workers();
    let app = TestApp::started().await;
    let (ada, bob) = (app.person("ada@example.com").await, app.person("bob@example.com").await);
    let (busy, quick) = (workflow(&ada).await, workflow(&bob).await);
    for _ in 0..16 {
        add(&ada, &busy, "javascript", json!({"code": "for (;;) {}"})).await;
    }
    add(&bob, &quick, "javascript", json!({"code": "return 1"})).await;
    let endless = start(&ada, &busy, json!({})).await;
    until(&app, &ada, endless, |view| view.run.status == RunStatus::Running).await;
    let run = start(&bob, &quick, json!({})).await;
    assert_eq!(ended(&app, &bob, run).await.run.status, RunStatus::Completed);
    let view = run_get(&ada, endless, true).await.expect("the run");
    assert_eq!(view.run.status, RunStatus::Running, "every worker was Ada's until her programs had ended: {view:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_workspace_does_not_hold_up_another() {
    let app = TestApp::started().await;
    let (ada, bob) = (app.person("ada@example.com").await, app.person("bob@example.com").await);
    let busy = workflow(&ada).await;
    add(&ada, &busy, "delay", json!({"seconds": 3})).await;
    for _ in 0..300 {
        start(&ada, &busy, json!({})).await;
    }
    let quick = workflow(&bob).await;
    let run = start(&bob, &quick, json!({})).await;
    assert_eq!(ended(&app, &bob, run).await.run.status, RunStatus::Completed);
    let waiting =
        ops::run::runs(&ada, RunQuery { status: Some(RunStatus::Queued), ..RunQuery::default() }, 500, None).await.expect("a list");
    assert!(!waiting.items.is_empty(), "the other's runs are not all through");
}

async fn runs(ctx: &OpCtx) -> Vec<Run> {
    ops::run::runs(ctx, RunQuery::default(), 100, None).await.expect("a list").items
}

/// Waits until so many runs are over.
async fn until_runs(app: &TestApp, ctx: &OpCtx, count: usize) -> Vec<Run> {
    let mut rings = app.ops.signals.runs();
    let found = async {
        loop {
            rings.mark_unchanged();
            let all = runs(ctx).await;
            if all.len() >= count && all.iter().all(|run| run.status.is_over()) {
                return all;
            }
            let _ = tokio::time::timeout(Duration::from_millis(200), rings.changed()).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(60), found).await {
        Ok(all) => all,
        Err(_) => panic!("{count} runs did not come: {:#?}", runs(ctx).await),
    }
}

async fn trigger(app: &TestApp, id: FlowTriggerId, tenant: Tenant) -> FlowTrigger {
    app.ops.store.flow_trigger(id).await.expect("the store").and_then(|sealed| sealed.open(tenant)).expect("the trigger")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_schedule_starts_its_workflow_once_whoever_tries() {
    let mut app = TestApp::started().await;
    let ctx = app.person("ada@example.com").await;
    let flow = workflow(&ctx).await;
    let tenant = Tenant::system(flow.workspace_id);
    let values = map(json!({"name": "Ada"}));
    let start = Start::Schedule { cron: "0 3 * * *".into(), timezone: Some("Europe/Berlin".into()), values };
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
    match tokio::time::timeout(Duration::from_secs(60), found).await {
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

/// The person as they are today, by a new token.
async fn today(app: &TestApp, ctx: &OpCtx) -> OpCtx {
    let (user, at) = (ctx.user().expect("a person").user.id, Timestamp::now());
    let (_, token) = ops::first_run::account_token(&app.ops.store, user, "today", at).await.expect("a token");
    let principal = authenticate(&app.ops, Surface::Flow, Presented::Bearer(token), at, None).await.expect("the token just made");
    OpCtx { principal, now: at, ..ctx.clone() }
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
    let start = Start::Schedule { cron: "0 3 * * *".into(), timezone: None, values: Map::new() };
    let made = flow_trigger_create(&now(&bob), flow.id, start).await.expect("a trigger").trigger;
    role(Role::Viewer).await;
    system_schedule_start(&app.ops, &trigger(&app, made.id, tenant).await, Timestamp::now()).await.expect("it is told");
    let after = trigger(&app, made.id, tenant).await;
    assert_eq!((after.enabled, after.next_at, runs(&ada).await.len()), (false, None, 0));
    assert!(until_refused(&app, tenant, 1).await[0].contains("MEMBER"), "and the log says why");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_reaches_no_further_than_the_key_that_started_it() {
    let mut app = TestApp::new().await;
    let shop = app.app("shop").await;
    let ctx = today(&app, &shop.ctx()).await;
    let ops::Principal::User(person) = &ctx.principal else { panic!("a person") };
    let ops::Via::Key(key, _) = person.via else { panic!("a key") };
    let read = json!({"environment_id": shop.environment.to_string(), "service_id": shop.service.to_string()});
    let run = node_run_start(&now(&ctx), "read_metrics", None, map(read), None, RunSource::Api).await.expect("a run");
    ops::token::api_token_delete(&now(&ctx), key).await.expect("it is revoked");
    app.start_engine();
    let view = ended(&app, &shop.ctx(), run).await;
    assert_eq!(view.run.status, RunStatus::Failed);
    assert!(view.run.error.as_deref().is_some_and(|error| error.contains("was revoked or has expired")), "{:?}", view.run.error);
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

/// A node by itself, to its end.
async fn performed(app: &TestApp, ctx: &OpCtx, kind: &str, input: Value) -> RunView {
    let run = node_run_start(&now(ctx), kind, None, map(input), None, RunSource::Api).await.expect("a run");
    ended(app, ctx, run).await
}

fn of(app: &App) -> Value {
    json!({"environment_id": app.environment.to_string(), "service_id": app.service.to_string()})
}

#[tokio::test(flavor = "multi_thread")]
async fn nodes_use_the_platform_with_their_owners_rights() {
    let app = TestApp::started().await;
    let shop = app.app("shop").await;
    let ctx = shop.ctx();
    let first = app.live(&shop).await;
    let with = |more: Value| {
        let mut input = map(of(&shop));
        input.extend(map(more));
        Value::Object(input)
    };
    let good = async |kind: &str, input: Value| {
        let view = performed(&app, &ctx, kind, input).await;
        assert_eq!(view.run.status, RunStatus::Completed, "{kind}: {:?}", view.run.error);
        output(&view, kind).clone()
    };
    good("scale", with(json!({"replicas": 2}))).await;
    app.until_routed(&shop, first, 2).await;
    good("restart", of(&shop)).await;
    app.until_status(&shop, first, DeploymentStatus::Success).await;
    assert!(good("read_logs", of(&shop)).await["items"].is_array());
    assert!(good("read_metrics", with(json!({"minutes": 5}))).await["cpu"].is_number());
    let second = good("redeploy", json!({"deployment_id": first.to_string()})).await["deployment_id"].clone();
    let second = second.as_str().and_then(|text| text.parse().ok()).expect("a deployment");
    app.until_status(&shop, second, DeploymentStatus::Success).await;
    let third = good("rollback", json!({"deployment_id": first.to_string()})).await["deployment_id"].clone();
    app.until_status(&shop, third.as_str().and_then(|text| text.parse().ok()).expect("a deployment"), DeploymentStatus::Success).await;
    let fourth = good("deploy", of(&shop)).await["deployment_id"].clone();
    assert!(fourth.is_string() && fourth != third);
    good("set_variable", with(json!({"name": "COLOUR", "value": "green", "skip_deploys": true}))).await;
    let view = ops::variable::View::Raw;
    let variables =
        ops::variable::variables(&shop.ctx(), shop.project, shop.environment, Some(shop.service), view).await.expect("variables");
    assert_eq!(variables["COLOUR"].as_deref(), Some("green"));
    let made = good("create_environment", json!({"project_id": shop.project.to_string(), "name": "staging"})).await;
    assert!(made["environment_id"].is_string(), "{made}");
    let log = app.ops.store.activities(shop.tenant, Some(shop.project), 100).await.expect("the store");
    let by_run = |verb: &str| {
        let entry = log.iter().find(|entry| entry.verb == verb).unwrap_or_else(|| panic!("no {verb}: {log:#?}"));
        matches!(entry.actor, Actor::User { run: Some(_), .. })
    };
    assert!(by_run("environment_create") && !by_run("service_create"), "the log tells a person from a run that acts for them");

    let stranger = app.person("eve@example.com").await;
    for (kind, input) in [
        ("scale", with(json!({"replicas": 1}))),
        ("deploy", of(&shop)),
        ("rollback", json!({"deployment_id": first.to_string()})),
        ("set_variable", with(json!({"name": "A", "value": "b"}))),
        ("read_logs", json!({"deployment_id": first.to_string()})),
        ("read_metrics", of(&shop)),
        ("sql_query", with(json!({"query": "SELECT 1"}))),
    ] {
        let view = performed(&app, &stranger, kind, input).await;
        let error = view.run.error.unwrap_or_default();
        assert!(view.run.status == RunStatus::Failed && error.contains("not found"), "{kind}: {error}");
    }
    let view = performed(&app, &ctx, "sql_query", with(json!({"query": "SELECT 1"}))).await;
    assert!(view.run.error.is_some_and(|error| error.contains("neither DATABASE_URL nor MYSQL_URL")));
    // A machine's other ports are nobody's to ask, whatever a variable says.
    good("set_variable", with(json!({"name": "DATABASE_URL", "value": "postgres://u:canary@127.0.0.1:5432/x", "skip_deploys": true})))
        .await;
    let view = performed(&app, &ctx, "sql_query", with(json!({"query": "SELECT 1"}))).await;
    let error = view.run.error.unwrap_or_default();
    assert!(error.contains("does not lead to a database") && !error.contains("canary"), "{error}");
}
