//! Two control planes over one PostgreSQL.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::workflow::Policy;
use ops::run::run_cancel;
use ops::workflow::{NodeChange, node_update};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::*;
use crate::postgres::Postgres;

/// Requests to this path are answered at once, those to the other when the receiver is open.
const PROMPT: &str = "/prompt";
const HELD: &str = "/held";

/// A server that nodes ask, and what came: the path, and the key by which a repetition can be told.
struct Receiver {
    url: String,
    asked: watch::Sender<Vec<(String, String)>>,
    open: watch::Sender<bool>,
}

impl Receiver {
    async fn start(open: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        let (asked, open) = (watch::Sender::new(vec![]), watch::Sender::new(open));
        let (told, gate) = (asked.clone(), open.clone());
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(answer(stream, told.clone(), gate.subscribe()));
            }
        });
        Self { url, asked, open }
    }

    /// Waits until a path was asked so often.
    async fn until(&self, path: &str, count: usize) {
        let mut asked = self.asked.subscribe();
        let enough = asked.wait_for(|all| all.iter().filter(|(to, _)| to == path).count() >= count);
        assert!(tokio::time::timeout(Duration::from_secs(120), enough).await.is_ok(), "{:?}", *self.asked.borrow());
    }

    /// How often each key came to a path, the rarest first.
    fn counts(&self, path: &str) -> Vec<usize> {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for (_, key) in self.asked.borrow().iter().filter(|(to, _)| to == path) {
            *counts.entry(key.clone()).or_default() += 1;
        }
        let mut counts: Vec<usize> = counts.into_values().collect();
        counts.sort_unstable();
        counts
    }
}

async fn answer(mut stream: TcpStream, asked: watch::Sender<Vec<(String, String)>>, mut open: watch::Receiver<bool>) {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        let Ok(letter) = stream.read_u8().await else { return };
        head.push(char::from(letter));
    }
    let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
    let key = head.lines().find_map(|line| line.strip_prefix("idempotency-key: ")).unwrap_or_default().to_owned();
    let is_held = path == HELD;
    asked.send_modify(|all| all.push((path, key)));
    if is_held && open.wait_for(|open| *open).await.is_err() {
        return;
    }
    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
}

/// A control plane over a database that lets an account have so many runs under way, with its engine still to start.
async fn plane(database: &str, runs_per_workspace: u32) -> TestApp {
    let mut app = TestApp::on(database).await;
    Arc::get_mut(&mut app.ops).expect("nobody else has it yet").settings.flow.runs_per_workspace = runs_per_workspace;
    app
}

/// The same person at another control plane.
fn at(app: &TestApp, ctx: &OpCtx) -> OpCtx {
    OpCtx { ops: app.ops.clone(), ..ctx.clone() }
}

/// A workflow that asks the one path, and then the other.
async fn two_steps(ctx: &OpCtx, receiver: &Receiver) -> Workflow {
    let flow = workflow(ctx).await;
    let input = |path: &str| json!({"url": format!("{}{path}", receiver.url), "method": "POST"});
    let first = add(ctx, &flow, "http_request", input(PROMPT)).await;
    let second = add(ctx, &flow, "http_request", input(HELD)).await;
    // Held for as long as a test needs: half a minute, which such a node has otherwise, may pass before all have come.
    let policy = Policy { timeout_ms: Some(600_000), ..Policy::default() };
    node_update(&now(ctx), flow.id, &second, NodeChange { policy: Some(policy), ..NodeChange::default() }).await.expect("a policy");
    connect(ctx, &flow, (&first, "out:body"), (&second, "in:body")).await;
    flow
}

#[tokio::test(flavor = "multi_thread")]
async fn control_planes_share_what_waits_and_perform_nothing_twice() {
    let server = Postgres::shared();
    let database = server.database().await;
    let (mut one, mut other) = (plane(&database, 100).await, plane(&database, 100).await);
    one.start_engine();
    other.start_engine();
    let here = one.person("ada@example.com").await;
    let there = at(&other, &here);
    let receiver = Receiver::start(true).await;
    let flow = two_steps(&here, &receiver).await;
    let mut all = vec![];
    for _ in 0..30 {
        for ctx in [&here, &there] {
            all.push(start(ctx, &flow, json!({})).await);
            // Both look for it at once.
            one.ops.signals.ring_runs();
            other.ops.signals.ring_runs();
        }
    }
    for run in all {
        let view = ended(&one, &here, run).await;
        assert_eq!(view.run.status, RunStatus::Completed, "{view:#?}");
        assert!(view.nodes.iter().all(|node| node.attempts <= 1), "{view:#?}");
    }
    assert_eq!((receiver.counts(PROMPT), receiver.counts(HELD)), (vec![1; 60], vec![1; 60]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_control_plane_held_is_taken_over_by_another() {
    let server = Postgres::shared();
    let database = server.database().await;
    // The one gets as many runs as it lets the account have, so that what comes then is the other's.
    let (mut one, mut other) = (plane(&database, 8).await, plane(&database, 100).await);
    one.start_engine();
    let here = one.person("ada@example.com").await;
    let there = at(&other, &here);
    let receiver = Receiver::start(false).await;
    let flow = two_steps(&here, &receiver).await;
    let mut all = vec![];
    for _ in 0..8 {
        all.push(start(&here, &flow, json!({})).await);
    }
    receiver.until(HELD, 8).await;
    other.start_engine();
    for _ in 0..5 {
        all.push(start(&there, &flow, json!({})).await);
    }
    receiver.until(HELD, 13).await;
    assert_eq!((receiver.counts(PROMPT), receiver.counts(HELD)), (vec![1; 13], vec![1; 13]), "each is performed by one of them");

    one.kill_engine().await;
    receiver.open.send_replace(true);
    for run in all {
        let view = ended(&other, &there, run).await;
        assert_eq!(view.run.status, RunStatus::Completed, "{view:#?}");
    }
    assert_eq!(receiver.counts(PROMPT), vec![1; 13], "what had its output is not performed again");
    // What was under way is asked once more under the key that its receiver knows.
    assert_eq!(receiver.counts(HELD), [vec![1; 5], vec![2; 8]].concat());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_is_started_and_canceled_at_whichever_control_plane() {
    let server = Postgres::shared();
    let database = server.database().await;
    let (mut one, other) = (plane(&database, 8).await, plane(&database, 8).await);
    one.start_engine();
    let here = one.person("ada@example.com").await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let flow = workflow(&here).await;
    add(&here, &flow, "http_request", json!({"url": format!("http://{}/", listener.local_addr().expect("its address"))})).await;
    // Neither where it is started nor where it is canceled does anything execute runs.
    let there = at(&other, &here);
    let run = start(&there, &flow, json!({})).await;
    let (mut stream, _) = listener.accept().await.expect("a connection");
    let mut buffer = [0; 4096];
    assert!(stream.read(&mut buffer).await.expect("a request") > 0);
    run_cancel(&now(&there), run).await.expect("it goes on");
    // Nobody answers: it ends long before the node's own minute, because the one that holds it looks whether it still does.
    let closed = async { while stream.read(&mut buffer).await.is_ok_and(|count| count > 0) {} };
    tokio::time::timeout(Duration::from_secs(60), closed).await.expect("the connection is closed");
    assert_eq!(run_get(&there, run, false).await.expect("the run").run.status, RunStatus::Canceled);
}
