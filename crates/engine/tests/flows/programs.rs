//! What nodes compute, and that what users write in them hurts nobody.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use domain::workflow::run::RunStatus;
use domain::workflow::{Graph, Node, NodeData, OnError, Policy, Position};
use domain::{GraphId, UploadId};
use ops::run::{node_run_start, run_cancel};
use ops::workflow::{NodeChange, node_update, workflow_get};
use store::{Change, RunChange, WorkflowChange};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;

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
    let graph_id = GraphId(uuid::Uuid::new_v4());
    let run = queued(&flow, graph_id);
    let id = run.id;
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
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("workers end with their engine");
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
    tokio::time::timeout(Duration::from_secs(60), gone).await.expect("it is removed");
    assert!(known.exists() && fresh.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn programs_of_one_workspace_do_not_hold_up_those_of_another() {
    workers();
    let app = TestApp::started().await;
    let (ada, bob) = (app.person("ada@example.com").await, app.person("bob@example.com").await);
    let (busy, quick) = (workflow(&ada).await, workflow(&bob).await);
    for _ in 0..16 {
        let node = add(&ada, &busy, "javascript", json!({"code": "for (;;) {}"})).await;
        // The end of one is followed by the next, so that her run lasts longer than anybody waits for Bob's.
        let policy = Policy { on_error: OnError::Continue, ..Policy::default() };
        node_update(&now(&ada), busy.id, &node, NodeChange { policy: Some(policy), ..NodeChange::default() }).await.expect("a policy");
    }
    add(&bob, &quick, "javascript", json!({"code": "return 1"})).await;
    let endless = start(&ada, &busy, json!({})).await;
    until(&app, &ada, endless, |view| view.run.status == RunStatus::Running).await;
    let run = start(&bob, &quick, json!({})).await;
    assert_eq!(ended(&app, &bob, run).await.run.status, RunStatus::Completed);
    let view = run_get(&ada, endless, true).await.expect("the run");
    assert_eq!(view.run.status, RunStatus::Running, "every worker was Ada's until her programs had ended: {view:#?}");
}

/// Whoever looks a name up twice, once to see whether it may be asked and once to ask it, gets two answers from whoever owns the name.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_changes_its_answer_leads_a_node_to_no_neighbour() {
    let open = TcpListener::bind("127.0.0.2:0").await.expect("a port");
    let port = open.local_addr().expect("its address").port();
    let neighbour = std::net::TcpListener::bind(("127.0.0.3", port)).expect("the same port next door");
    neighbour.set_nonblocking(true).expect("a socket");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = open.accept().await {
            let _ = stream.read(&mut [0; 4096]).await;
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nopen").await;
        }
    });
    let questions = Arc::new(AtomicU8::new(0));
    let counted = questions.clone();
    let names = engine::Names::told_by(move |name, port| {
        assert_eq!(name, "rebinding.example");
        let host = if counted.fetch_add(1, Ordering::SeqCst) == 0 { 2 } else { 3 };
        vec![SocketAddr::from(([127, 0, 0, host], port))]
    });
    let mut app = TestApp::new().await;
    let allow = vec!["127.0.0.2/32".parse().expect("a network")];
    app.set_outgoing(engine::OutgoingConfig { allow, names, ..engine::OutgoingConfig::default() });
    app.start_engine();
    let ctx = app.person("ada@example.com").await;
    let asked = async || {
        let input = map(json!({"url": format!("http://rebinding.example:{port}/")}));
        let run = node_run_start(&now(&ctx), "http_request", None, input, None, RunSource::Api).await.expect("a run");
        ended(&app, &ctx, run).await
    };
    let view = asked().await;
    assert_eq!((view.run.status, &output(&view, "http_request")["body"]), (RunStatus::Completed, &json!("open")), "{view:#?}");
    assert_eq!(questions.load(Ordering::SeqCst), 1, "the address that was looked at is the one that was asked");
    let error = asked().await.run.error.unwrap_or_default();
    assert!(error.contains("rebinding.example is not reachable for requests from here: 127.0.0.3"), "{error}");
    assert!(neighbour.accept().is_err(), "nobody came to the neighbour");
}
