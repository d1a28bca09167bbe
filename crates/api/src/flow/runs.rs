//! Runs of workflows (`contracts/flow.md` 1.1 to 1.3).

use std::collections::BTreeMap;

use axum::http::StatusCode;
use domain::workflow::run::{NodeRun, Run, RunSource, RunStatus, Webhook};
use domain::workflow::template::Template;
use domain::{RunId, Timestamp};
use ops::run::{RunStart, RunView, wire_subject};
use ops::{Error, OpCtx};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use store::RunQuery;
use utoipa::{IntoParams, ToSchema};

use super::answer::{Answer, Caller, Given, Good, Path, Query, ok};
use super::workflows::workflow_id;

/// Node id -> field -> value.
pub(crate) type Records = BTreeMap<String, BTreeMap<String, Value>>;

/// What a run is started with.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct StartRun {
    /// A workflow's id, or the slug of a system workflow.
    #[schema(min_length = 1)]
    pub(crate) workflow_id: String,
    /// Node id -> field, by its id or its display name -> value.
    #[serde(default)]
    pub(crate) values: Option<BTreeMap<String, BTreeMap<String, Value>>>,
    /// Node id -> input -> value, for any node.
    #[serde(default)]
    pub(crate) graph_input_overrides: Option<BTreeMap<String, BTreeMap<String, Value>>>,
    /// Nodes that replace those of the same id for this run, or that are added to it.
    #[serde(default)]
    pub(crate) node_overrides: Option<Vec<NodeShape>>,
    /// Ignored: where an editor's camera stands.
    #[serde(default, rename = "viewport")]
    #[schema(value_type = Option<Object>)]
    _viewport: Option<Value>,
    /// Whom the run tells of its progress.
    #[serde(default)]
    pub(crate) webhook: Option<WebhookShape>,
    /// Where it comes from; `api` when absent.
    #[serde(default)]
    pub(crate) source: Option<Source>,
}

/// Where a run comes from.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Source {
    /// The dashboard.
    Ui,
    /// An MCP tool.
    Mcp,
    /// A REST client.
    Api,
}

/// A node of a graph.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NodeShape {
    /// Unique within the graph.
    #[schema(min_length = 1, max_length = 200)]
    id: String,
    /// A key of the model list.
    #[serde(rename = "type")]
    #[schema(min_length = 1)]
    kind: String,
    /// Where an editor draws it.
    position: PositionShape,
    /// `label`, `inputs`, and for the request node `dynamicFields`.
    #[schema(value_type = Object)]
    data: Value,
}

/// A place on the editor's canvas.
#[derive(Clone, Copy, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PositionShape {
    /// To the right.
    pub(crate) x: f64,
    /// Down.
    pub(crate) y: f64,
}

/// Whom a run tells of its progress.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WebhookShape {
    /// An https address.
    #[schema(min_length = 1, max_length = 2000)]
    url: String,
    /// `run.started`, `run.completed`, `run.failed`, `run.canceled`, `node.completed`, `node.failed`; all when absent.
    #[serde(default)]
    events: Option<Vec<String>>,
    /// Sent back as it is.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    metadata: Option<Value>,
    /// Further headers of the requests.
    #[serde(default)]
    headers: Option<BTreeMap<String, String>>,
}

impl From<WebhookShape> for Webhook {
    fn from(shape: WebhookShape) -> Self {
        let WebhookShape { url, events, metadata, headers } = shape;
        let headers = headers.into_iter().flatten().map(|(name, value)| (name, Value::String(value))).collect();
        Self { url, events, metadata: metadata.unwrap_or_default(), headers }
    }
}

/// A run that has been started.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Started {
    /// Its id.
    pub(crate) run_id: String,
}

/// A run.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunShape {
    id: String,
    /// The workflow's id, the system workflow's slug, or the node type of a direct run.
    workflow_id: String,
    workflow_name: String,
    status: Status,
    /// Always `full`.
    mode: &'static str,
    started_at: Option<String>,
    finished_at: Option<String>,
    created_at: String,
    error: Option<String>,
    /// In microcredits.
    estimated_credits: i64,
    /// In microcredits.
    actual_credits: i64,
    /// Nodes besides request and response.
    node_run_count: u32,
    /// That node, when there is one.
    single_node_id: Option<String>,
    source: &'static str,
    /// With `inDetails=true`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    node_runs: Option<Vec<NodeRunShape>>,
}

/// How far a run or a node is.
#[derive(Clone, Copy, Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Status {
    Queued,
    Running,
    Completed,
    Failed,
    Canceled,
}

impl From<RunStatus> for Status {
    fn from(status: RunStatus) -> Self {
        match status {
            RunStatus::Queued => Self::Queued,
            RunStatus::Running => Self::Running,
            RunStatus::Completed => Self::Completed,
            RunStatus::Failed => Self::Failed,
            RunStatus::Canceled => Self::Canceled,
        }
    }
}

/// A node of a run.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeRunShape {
    id: String,
    node_id: String,
    node_type: String,
    status: Status,
    started_at: Option<String>,
    finished_at: Option<String>,
    error: Option<String>,
    /// Its values are `<hidden>` for whoever may not read secrets, as are those of `output`, `logs` and `error`.
    input: Option<Value>,
    output: Option<Value>,
    /// What the node wrote down.
    logs: Vec<String>,
    /// How often it was begun.
    attempts: u32,
    estimated_credits: i64,
    actual_credits: i64,
}

/// RFC 3339 with milliseconds.
pub(crate) fn time(at: Timestamp) -> String {
    format!("{at:.3}")
}

pub(crate) fn run_shape(ctx: &OpCtx, view: RunView, details: bool) -> RunShape {
    let RunView { run, nodes } = view;
    let price = |kind: &str| ctx.ops.settings.flow.price(kind);
    RunShape {
        id: run.id.0.to_string(),
        workflow_id: wire_subject(&run.subject),
        workflow_name: name(&run),
        status: run.status.into(),
        mode: "full",
        started_at: run.started_at.map(time),
        finished_at: run.finished_at.map(time),
        created_at: time(run.created_at),
        error: run.error,
        estimated_credits: run.estimated,
        actual_credits: run.credits,
        node_run_count: run.node_count,
        single_node_id: run.single_node,
        source: run.source.as_str(),
        node_runs: details.then(|| nodes.into_iter().map(|node| node_shape(price(&node.node_type), node)).collect()),
    }
}

fn name(run: &Run) -> String {
    use domain::workflow::run::Subject;
    match &run.subject {
        Subject::Workflow { name, .. } => name.clone(),
        Subject::Template { slug } => Template::of(slug).map_or_else(|| slug.clone(), |template| template.name.to_owned()),
        Subject::Node { kind, .. } => kind.clone(),
    }
}

fn node_shape(estimated: i64, node: NodeRun) -> NodeRunShape {
    NodeRunShape {
        id: domain::cuid(node.id.0),
        node_id: node.node_id,
        node_type: node.node_type,
        status: node.status.into(),
        started_at: node.started_at.map(time),
        finished_at: node.finished_at.map(time),
        error: node.error,
        input: node.input,
        output: node.output,
        logs: node.logs,
        attempts: node.attempts,
        estimated_credits: estimated,
        actual_credits: node.credits,
    }
}

/// A run's id as clients send it.
pub(crate) fn run_id(text: &str) -> Result<RunId, Error> {
    let id = uuid::Uuid::parse_str(text).ok().or_else(|| domain::parse_cuid(text));
    id.map(RunId).ok_or_else(|| Error::not_found("Run"))
}

/// Starts a workflow.
#[utoipa::path(post, path = "/v1/runs", operation_id = "startRun", tag = "runs", request_body = StartRun, responses((status = 200, body = Started)))]
pub(crate) async fn start(Caller(ctx): Caller, Given(body): Given<StartRun>) -> Answer<Started> {
    let run = begin(&ctx, body, RunSource::Api).await?;
    ok(Started { run_id: run.0.to_string() })
}

/// Starts a workflow for a client of REST or MCP.
pub(crate) async fn begin(ctx: &OpCtx, body: StartRun, source: RunSource) -> Result<RunId, Error> {
    let object = |records: Option<Records>| {
        let records = records.into_iter().flatten();
        records.map(|(node, fields)| (node, Value::Object(fields.into_iter().collect()))).collect()
    };
    let nodes = body.node_overrides.into_iter().flatten().map(|node| {
        let NodeShape { id, kind, position, data } = node;
        let data = serde_json::from_value(data).map_err(|error| Error::bad_input(format!("nodeOverrides: the data of {id}: {error}")))?;
        let position = domain::workflow::Position { x: position.x, y: position.y };
        Ok(domain::workflow::Node { id, kind, position, data })
    });
    let start = RunStart {
        workflow: body.workflow_id,
        values: object(body.values),
        input_overrides: object(body.graph_input_overrides),
        node_overrides: nodes.collect::<Result<_, Error>>()?,
        webhook: body.webhook.map(Webhook::from),
        source: body.source.map_or(source, |source| match source {
            Source::Ui => RunSource::Ui,
            Source::Mcp => RunSource::Mcp,
            Source::Api => RunSource::Api,
        }),
    };
    ops::run::run_start(ctx, start).await
}

/// What of a run is wanted.
#[derive(Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct Details {
    /// Whether its node runs are wanted too.
    #[serde(default)]
    in_details: Option<bool>,
}

/// One run.
#[utoipa::path(get, path = "/v1/runs/{runId}", operation_id = "getRun", tag = "runs", params(("runId" = String, Path), Details), responses((status = 200, body = RunShape)))]
pub(crate) async fn get(Caller(ctx): Caller, Path(id): Path<String>, Query(details): Query<Details>) -> Answer<RunShape> {
    let details = details.in_details == Some(true);
    let view = ops::run::run_get(&ctx, run_id(&id)?, details).await?;
    ok(run_shape(&ctx, view, details))
}

/// Which runs are wanted.
#[derive(Default, Deserialize, IntoParams)]
#[serde(rename_all = "camelCase")]
#[into_params(parameter_in = Query)]
pub(crate) struct RunFilter {
    /// Of one workflow, or of a system workflow by its slug.
    #[serde(default)]
    pub(crate) workflow_id: Option<String>,
    /// In one status.
    #[serde(default)]
    #[param(inline)]
    pub(crate) status: Option<String>,
    /// A part of the workflow's name, or of the node type of a direct run.
    #[serde(default)]
    pub(crate) search: Option<String>,
    /// At most so many, 20 when absent.
    #[serde(default)]
    #[param(minimum = 1, maximum = 100)]
    pub(crate) limit: Option<u32>,
    /// The `nextCursor` of the page before.
    #[serde(default)]
    pub(crate) cursor: Option<String>,
}

/// Runs, newest first, without their nodes.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RunPage {
    pub(crate) items: Vec<RunShape>,
    /// For the next page; null on the last.
    pub(crate) next_cursor: Option<String>,
}

/// Runs, newest first.
#[utoipa::path(get, path = "/v1/runs", operation_id = "listRuns", tag = "runs", params(RunFilter), responses((status = 200, body = RunPage)))]
pub(crate) async fn list(Caller(ctx): Caller, Query(filter): Query<RunFilter>) -> Answer<RunPage> {
    ok(page(&ctx, filter).await?)
}

pub(crate) async fn page(ctx: &OpCtx, filter: RunFilter) -> Result<RunPage, Error> {
    let status = filter.status.as_deref().map(|text| {
        let known = RunStatus::parse(&text.to_ascii_uppercase());
        known.ok_or_else(|| Error::bad_input("status is one of QUEUED, RUNNING, COMPLETED, FAILED, CANCELED"))
    });
    let template = filter.workflow_id.as_deref().and_then(Template::of);
    let query = RunQuery {
        workflow: filter.workflow_id.as_deref().filter(|_| template.is_none()).map(workflow_id).transpose()?,
        template: template.map(|template| template.slug.to_owned()),
        status: status.transpose()?,
        search: filter.search.filter(|text| !text.trim().is_empty()),
    };
    let found = ops::run::runs(ctx, query, limit(filter.limit)?, filter.cursor).await?;
    let next_cursor = found.items.last().filter(|_| found.has_next).map(|run| run.id.0.to_string());
    let items = found.items.into_iter().map(|run| run_shape(ctx, RunView { run, nodes: vec![] }, false)).collect();
    Ok(RunPage { items, next_cursor })
}

/// The length of a page.
pub(crate) fn limit(asked: Option<u32>) -> Result<u32, Error> {
    match asked.unwrap_or(20) {
        limit @ 1..=100 => Ok(limit),
        _ => Err(Error::bad_input("limit is a number from 1 to 100")),
    }
}

/// Which runs are wanted.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct BatchGet {
    /// Their ids. Those that are not there are left out.
    #[schema(min_items = 1, max_items = 500)]
    pub(crate) ids: Vec<String>,
}

/// Several runs.
#[derive(Serialize, ToSchema)]
pub(crate) struct Batch {
    runs: Vec<BatchRun>,
}

/// A run with its nodes.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BatchRun {
    id: String,
    status: Status,
    workflow_id: String,
    trigger_run_id: Option<String>,
    created_at: String,
    started_at: Option<String>,
    finished_at: Option<String>,
    error: Option<String>,
    /// Empty.
    context: BTreeMap<String, Value>,
    node_runs: Vec<NodeRunShape>,
}

/// Several runs by their ids.
#[utoipa::path(post, path = "/v1/runs/batch", operation_id = "batchGetRuns", tag = "runs", request_body = BatchGet, responses((status = 200, body = Batch)))]
pub(crate) async fn batch(Caller(ctx): Caller, Given(body): Given<BatchGet>) -> Answer<Batch> {
    ok(batch_of(&ctx, &body.ids).await?)
}

pub(crate) async fn batch_of(ctx: &OpCtx, ids: &[String]) -> Result<Batch, Error> {
    let ids: Vec<RunId> = ids.iter().filter_map(|id| run_id(id).ok()).collect();
    let found = ops::run::runs_batch(ctx, &ids).await?;
    let runs = found.into_iter().map(|RunView { run, nodes }| BatchRun {
        id: run.id.0.to_string(),
        status: run.status.into(),
        workflow_id: wire_subject(&run.subject),
        trigger_run_id: run.started_at.map(|_| trigger_run_id(run.id)),
        created_at: time(run.created_at),
        started_at: run.started_at.map(time),
        finished_at: run.finished_at.map(time),
        error: run.error,
        context: BTreeMap::new(),
        node_runs: nodes.into_iter().map(|node| node_shape(ctx.ops.settings.flow.price(&node.node_type), node)).collect(),
    });
    Ok(Batch { runs: runs.collect() })
}

/// What clients of the contract call the execution of a run.
pub(crate) fn trigger_run_id(id: RunId) -> String {
    format!("run_{}", id.0.simple())
}

/// Stops a run. 409 when it is over already.
#[utoipa::path(post, path = "/v1/runs/{runId}/cancel", operation_id = "cancelRun", tag = "runs", params(("runId" = String, Path)), responses((status = 200, body = RunShape)))]
pub(crate) async fn cancel(Caller(ctx): Caller, Path(id): Path<String>) -> Answer<RunShape> {
    let run = ops::run::run_cancel(&ctx, run_id(&id)?).await?;
    Ok(Good(StatusCode::OK, run_shape(&ctx, RunView { run, nodes: vec![] }, false)))
}
