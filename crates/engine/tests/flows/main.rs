//! Runs of workflows: what they give, and that they survive the engine.

mod crowds;
mod files;
mod planes;
mod platform;
#[path = "../../../store/tests/postgres/mod.rs"]
#[allow(dead_code, reason = "these tests need one server and its databases")]
mod postgres;
mod programs;
mod starts;
mod survival;

use std::time::Duration;

use domain::workflow::edit::Place;
use domain::workflow::run::{FlowTrigger, Run, RunSource, RunStatus, Subject};
use domain::workflow::{PortType, Workflow};
use domain::{FlowTriggerId, GraphId, RunId, Tenant, Timestamp};
use ops::OpCtx;
use ops::auth::{Presented, Surface, authenticate};
use ops::run::{RunStart, RunView, run_get, run_start};
use ops::workflow::{NewField, node_add, nodes_connect, workflow_create};
use serde_json::{Map, Value, json};
use store::RunQuery;
use testkit::{App, TestApp};

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

/// A run of a workflow that waits for its turn.
fn queued(flow: &Workflow, graph_id: GraphId) -> Run {
    Run {
        id: RunId::generate(),
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
    }
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
    // What another control plane held is free after half a minute.
    match tokio::time::timeout(Duration::from_secs(120), found).await {
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
    match tokio::time::timeout(Duration::from_secs(120), found).await {
        Ok(all) => all,
        Err(_) => panic!("{count} runs did not come: {:#?}", runs(ctx).await),
    }
}

async fn trigger(app: &TestApp, id: FlowTriggerId, tenant: Tenant) -> FlowTrigger {
    app.ops.store.flow_trigger(id).await.expect("the store").and_then(|sealed| sealed.open(tenant)).expect("the trigger")
}

/// The person as they are today, by a new token.
async fn today(app: &TestApp, ctx: &OpCtx) -> OpCtx {
    let (user, at) = (ctx.user().expect("a person").user.id, Timestamp::now());
    let (_, token) = ops::first_run::account_token(&app.ops.store, user, "today", at).await.expect("a token");
    let principal = authenticate(&app.ops, Surface::Flow, Presented::Bearer(token), at, None).await.expect("the token just made");
    OpCtx { principal, now: at, ..ctx.clone() }
}

fn of(app: &App) -> Value {
    json!({"environment_id": app.environment.to_string(), "service_id": app.service.to_string()})
}
