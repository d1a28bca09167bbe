//! Runs that outlive their engine, wait for long, are canceled, or have many others beside them.

use std::sync::{Arc, Mutex};

use domain::workflow::Policy;
use domain::workflow::run::RunStatus;
use ops::run::run_cancel;
use ops::workflow::{NodeChange, node_update};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

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
    let taken = store.system_runs_claim(&share, 1, uuid::Uuid::new_v4(), Timestamp::UNIX_EPOCH, far).await.expect("the store");
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
    // Nobody listens there, and that may change: bound, so that nobody else does.
    let held = tokio::net::TcpSocket::new_v4().expect("a socket");
    held.bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let port = held.local_addr().expect("its address").port();
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
    tokio::time::timeout(Duration::from_secs(60), closed).await.expect("the connection is closed");
    let view = run_get(&ctx, run, true).await.expect("the run");
    assert_eq!(view.run.status, RunStatus::Canceled);
    let node = view.nodes.iter().find(|node| node.node_type == "http_request").expect("its row");
    assert_eq!(node.status, RunStatus::Canceled);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_workspace_does_not_hold_up_another() {
    let app = TestApp::started().await;
    let (ada, bob) = (app.person("ada@example.com").await, app.person("bob@example.com").await);
    let busy = workflow(&ada).await;
    // Whoever asks there waits for as long as this test takes.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", silent.local_addr().expect("its address"));
    add(&ada, &busy, "http_request", json!({"url": url})).await;
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

/// A server that refuses so often before it answers, and the keys by which it could tell a repetition.
async fn refusing(refusal: &'static str, times: usize) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("its address"));
    let keys: Arc<Mutex<Vec<String>>> = Arc::default();
    let kept = keys.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                let Ok(letter) = stream.read_u8().await else { break };
                head.push(char::from(letter));
            }
            let key = head.lines().find_map(|line| line.strip_prefix("idempotency-key: "));
            let count = {
                let mut kept = kept.lock().expect("no panic");
                kept.push(key.unwrap_or_default().to_owned());
                kept.len()
            };
            let status = if count <= times { refusal } else { "200 OK" };
            let answer = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    (url, keys)
}

/// A run of one node with a policy, to its end: what became of it, how often the node was begun, and why it failed.
async fn with_policy(app: &TestApp, ctx: &OpCtx, url: &str, policy: Policy) -> (RunStatus, u32, String) {
    let flow = workflow(ctx).await;
    let node = add(ctx, &flow, "http_request", json!({"url": url, "method": "POST"})).await;
    node_update(&now(ctx), flow.id, &node, NodeChange { policy: Some(policy), ..NodeChange::default() }).await.expect("a policy");
    let run = start(ctx, &flow, json!({})).await;
    let view = ended(app, ctx, run).await;
    let row = view.nodes.iter().find(|row| row.node_id == node).expect("its row");
    (view.run.status, row.attempts, row.error.clone().unwrap_or_default())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_tried_as_often_as_its_policy_says() {
    let app = TestApp::started().await;
    let ctx = app.person("ada@example.com").await;
    for (refusal, refusals, retries, status, attempts) in [
        ("503 Later", 2, 2, RunStatus::Completed, 3),
        ("503 Later", 2, 1, RunStatus::Failed, 2),
        // Another attempt would meet it again.
        ("404 Nothing", 1, 2, RunStatus::Failed, 1),
    ] {
        let (url, keys) = refusing(refusal, refusals).await;
        let policy = Policy { retries, backoff_ms: 1, ..Policy::default() };
        let (ended, begun, error) = with_policy(&app, &ctx, &url, policy).await;
        assert_eq!((ended, begun), (status, attempts), "{refusal}, {retries} retries: {error}");
        let keys = keys.lock().expect("no panic").clone();
        assert!(keys.len() == attempts as usize && keys.iter().all(|key| !key.is_empty() && *key == keys[0]), "{keys:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_ends_with_its_time() {
    let app = TestApp::started().await;
    let ctx = app.person("ada@example.com").await;
    // Connections are taken, and nothing is said.
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", silent.local_addr().expect("its address"));
    let policy = Policy { retries: 1, backoff_ms: 1, timeout_ms: Some(200), ..Policy::default() };
    let (status, attempts, error) = with_policy(&app, &ctx, &url, policy).await;
    assert_eq!((status, attempts, error.as_str()), (RunStatus::Failed, 2, "it took longer than 200 ms"));
}
