//! Many nodes, many runs, and how many of them are under way at once.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use domain::GraphId;
use domain::workflow::run::RunStatus;
use domain::workflow::{Edge, Graph, Node, NodeData, Policy, Position};
use ops::workflow::{NodeChange, node_update, workflow_get, workflow_graph_set};
use store::{Change, RunChange, WorkflowChange};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::sync::Barrier;

use super::*;

/// Twenty rows of fifty steps, each of which hands on what the one before it gave.
fn wide(mut graph: Graph) -> Graph {
    let (request, response) = (graph.nodes[0].id.clone(), graph.nodes[1].id.clone());
    for row in 0..20 {
        let (mut source, mut handle) = (request.clone(), "field_name");
        for step in 0..50 {
            let id = format!("node_{row}_{step}");
            let data = NodeData { inputs: map(json!({"seconds": 0})), ..NodeData::default() };
            graph.nodes.push(Node { id: id.clone(), kind: "delay".into(), position: Position::default(), data });
            graph.edges.push(edge(&source, handle, &id, "in:value"));
            (source, handle) = (id, "out:result");
        }
        graph.edges.push(edge(&source, handle, &response, "result"));
    }
    graph
}

fn edge(source: &str, source_handle: &str, target: &str, target_handle: &str) -> Edge {
    Edge {
        id: format!("edge_{source}_{target}"),
        source: source.to_owned(),
        source_handle: source_handle.to_owned(),
        target: target.to_owned(),
        target_handle: target_handle.to_owned(),
    }
}

/// Waits for the end of a run by the bell alone: looks of the clock's own would be counted with what the run costs.
async fn rung_out(app: &TestApp, ctx: &OpCtx, id: RunId) -> RunView {
    let mut rings = app.ops.signals.runs();
    loop {
        rings.mark_unchanged();
        let view = run_get(ctx, id, true).await.expect("the run");
        if view.run.status.is_over() {
            return view;
        }
        let rung = tokio::time::timeout(Duration::from_secs(180), rings.changed()).await;
        rung.expect("the end of the run").expect("the signals outlive the test");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_of_a_thousand_nodes_is_normal() {
    let app = TestApp::started().await;
    let ctx = app.person("ada@example.com").await;
    let flow = workflow(&ctx).await;
    let request = flow.graph.nodes[0].id.clone();
    workflow_graph_set(&now(&ctx), flow.id, None, wide(flow.graph.clone())).await.expect("a graph");
    let before = app.ops.store.statements();
    let run = start(&ctx, &flow, json!({(request): {"name": "Ada"}})).await;
    let view = rung_out(&app, &ctx, run).await;
    // A row each, and little beside them.
    let used = app.ops.store.statements() - before;
    assert!(used < 3_000, "{used} statements");
    assert_eq!((view.run.status, view.run.node_count, view.nodes.len()), (RunStatus::Completed, 1_000, 1_002));
    assert!(view.nodes.iter().all(|node| node.status == RunStatus::Completed && node.attempts <= 1));
    let given = map(output(&view, "response").clone());
    assert_eq!((given.len(), given.values().all(|value| *value == json!("Ada"))), (20, true), "{given:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_runs_wait_for_their_turn_and_hold_up_nobody() {
    const RUNS: u64 = 10_000;
    let mut app = TestApp::new().await;
    // As many as there are places: one account could take all of them.
    Arc::get_mut(&mut app.ops).expect("nobody else has it yet").settings.flow.runs_per_workspace = 256;
    let (ada, bob) = (app.person("ada@example.com").await, app.person("bob@example.com").await);
    let (busy, quick) = (workflow(&ada).await, workflow(&bob).await);
    add(&ada, &busy, "merge", json!({})).await;
    let busy = workflow_get(&ada, busy.id).await.expect("the workflow");
    let (tenant, graph_id) = (Tenant::system(busy.workspace_id), GraphId(uuid::Uuid::new_v4()));
    let body = serde_json::to_string(&busy.graph).expect("a graph").into();
    let keep = Change::Workflow(WorkflowChange::GraphKeep { id: graph_id, body, at: Timestamp::now() });
    app.ops.store.commit(tenant, vec![keep]).await.expect("a graph");
    for _ in 0..10 {
        let insert = |_| Change::Run(RunChange::Insert { run: queued(&busy, graph_id), webhook: None });
        app.ops.store.commit(tenant, (0..RUNS / 10).map(insert).collect()).await.expect("runs");
    }
    let before = app.ops.store.statements();
    app.start_engine();
    let run = start(&bob, &quick, json!({})).await;
    assert_eq!(ended(&app, &bob, run).await.run.status, RunStatus::Completed);
    let count = async |status: RunStatus, first: u32| {
        let query = RunQuery { status: Some(status), ..RunQuery::default() };
        ops::run::runs(&ada, query, first, None).await.expect("a list").items.len()
    };
    assert_eq!(count(RunStatus::Queued, 500).await, 500, "the other's runs are far from through");
    let all = async {
        while count(RunStatus::Queued, 1).await + count(RunStatus::Running, 1).await > 0 {
            assert!(count(RunStatus::Running, 500).await <= 256, "no more than there are places");
            // Each end of a run rings: what is waited for is the last one.
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    // Reached only by a failure, however slow the machine is.
    tokio::time::timeout(Duration::from_secs(900), all).await.expect("they end");
    assert_eq!(count(RunStatus::Completed, 10_001).await, 10_000);
    // The same few for each, however many wait.
    let used = app.ops.store.statements() - before;
    assert!(used < 16 * RUNS, "{used} statements");
}

/// A server that answers when so many ask it at once, and how many those were at the most.
async fn gathering(at_once: usize) -> (String, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}/", listener.local_addr().expect("its address"));
    let (now, most, all) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(at_once)));
    let told = most.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (now, most, all) = (now.clone(), most.clone(), all.clone());
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await;
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                all.wait().await;
                // Work, in which one too many would be seen.
                tokio::time::sleep(Duration::from_millis(30)).await;
                now.fetch_sub(1, Ordering::SeqCst);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}").await;
            });
        }
    });
    (url, told)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_performed_only_so_often_at_once() {
    let app = TestApp::started().await;
    let ctx = app.person("ada@example.com").await;
    let (url, most) = gathering(2).await;
    let flow = workflow(&ctx).await;
    let node = add(&ctx, &flow, "http_request", json!({"url": url})).await;
    let policy = Policy { concurrency: Some(2), ..Policy::default() };
    node_update(&now(&ctx), flow.id, &node, NodeChange { policy: Some(policy), ..NodeChange::default() }).await.expect("a policy");
    let mut all = vec![];
    for _ in 0..8 {
        all.push(start(&ctx, &flow, json!({})).await);
    }
    for run in all {
        let view = ended(&app, &ctx, run).await;
        assert_eq!(view.run.status, RunStatus::Completed, "{view:#?}");
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_has_only_so_many_runs_under_way() {
    let mut app = TestApp::new().await;
    Arc::get_mut(&mut app.ops).expect("nobody else has it yet").settings.flow.runs_per_workspace = 3;
    let ctx = app.person("ada@example.com").await;
    let (url, most) = gathering(3).await;
    let flow = workflow(&ctx).await;
    add(&ctx, &flow, "http_request", json!({"url": url})).await;
    let mut all = vec![];
    for _ in 0..9 {
        all.push(start(&ctx, &flow, json!({})).await);
    }
    app.start_engine();
    for run in all {
        assert_eq!(ended(&app, &ctx, run).await.run.status, RunStatus::Completed);
    }
    assert_eq!(most.load(Ordering::SeqCst), 3);
}
