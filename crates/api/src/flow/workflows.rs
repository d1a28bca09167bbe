//! Workflows and their graphs (`contracts/flow.md` 1.4 to 1.6).

use std::collections::{BTreeMap, HashMap};

use domain::WorkflowId;
use domain::page::PageRequest;
use domain::workflow::edit::Place;
use domain::workflow::run::Subject;
use domain::workflow::template::Template;
use domain::workflow::{Graph, Node, Policy, PortType, Position, Workflow};
use ops::workflow::{NewField, NodeChange};
use ops::{Error, OpCtx};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::answer::{Answer, Caller, Given, Path, Query, ok};
use super::runs::{PositionShape, Status, limit, time};
use super::templates;

/// A workflow's id as clients send it.
pub(crate) fn workflow_id(text: &str) -> Result<WorkflowId, Error> {
    domain::parse_cuid(text).map(WorkflowId).ok_or_else(|| Error::not_found("Workflow"))
}

/// A new workflow.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct CreateWorkflow {
    /// `Untitled workflow` when absent.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 120)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    #[schema(max_length = 2000)]
    pub(crate) description: Option<String>,
    /// What a caller may give.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub(crate) request_fields: Option<Vec<FieldShape>>,
}

/// A field of the request node.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct FieldShape {
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    #[serde(rename = "type")]
    kind: FieldType,
    /// What counts when nothing is given.
    #[serde(default)]
    value: Value,
}

/// What may be given.
#[derive(Clone, Copy, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FieldType {
    Text,
    Number,
    Boolean,
    Image,
    Audio,
    Video,
    Media,
    Avmedia,
    File,
    Select,
    Any,
}

impl From<FieldType> for PortType {
    fn from(kind: FieldType) -> Self {
        match kind {
            FieldType::Text => Self::Text,
            FieldType::Number => Self::Number,
            FieldType::Boolean => Self::Boolean,
            FieldType::Image => Self::Image,
            FieldType::Audio => Self::Audio,
            FieldType::Video => Self::Video,
            FieldType::Media | FieldType::Avmedia => Self::Avmedia,
            FieldType::File => Self::File,
            FieldType::Select => Self::Select,
            FieldType::Any => Self::Any,
        }
    }
}

/// A workflow that has just been made.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Created {
    pub(crate) id: String,
    /// The same: clients read one or the other.
    pub(crate) workflow_id: String,
    name: String,
    description: String,
    pub(crate) request_node_id: String,
    response_node_id: String,
    /// The request node's fields.
    fields: Vec<CreatedField>,
}

/// A field of the request node.
#[derive(Serialize, ToSchema)]
pub(crate) struct CreatedField {
    /// Also the handle of its port.
    pub(crate) id: String,
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) value: Value,
}

pub(crate) fn fields_of(graph: &Graph) -> Vec<CreatedField> {
    let fields = graph.request().into_iter().flat_map(|node| &node.data.fields);
    let shape = |field: &domain::workflow::RequestField| CreatedField {
        id: field.id.clone(),
        name: field.name.clone(),
        kind: field.kind.as_str(),
        value: field.value.clone(),
    };
    fields.map(shape).collect()
}

/// Makes a workflow with its request and response node.
#[utoipa::path(post, path = "/v1/workflows", operation_id = "createWorkflow", tag = "workflows", request_body = CreateWorkflow, responses((status = 200, body = Created)))]
pub(crate) async fn create(Caller(ctx): Caller, Given(body): Given<CreateWorkflow>) -> Answer<Created> {
    ok(make(&ctx, body).await?)
}

/// Makes a workflow with its request fields.
#[utoipa::path(post, path = "/v1/workflows/quick-create", operation_id = "quickCreateWorkflow", tag = "workflows", request_body = CreateWorkflow, responses((status = 200, body = Created)))]
pub(crate) async fn quick_create(Caller(ctx): Caller, Given(body): Given<CreateWorkflow>) -> Answer<Created> {
    ok(make(&ctx, body).await?)
}

pub(crate) async fn make(ctx: &OpCtx, body: CreateWorkflow) -> Result<Created, Error> {
    let fields = body.request_fields.into_iter().flatten();
    let fields = fields.map(|FieldShape { name, kind, value }| NewField { name, kind: kind.into(), value }).collect();
    let name = body.name.as_deref().unwrap_or("Untitled workflow");
    let workflow = ops::workflow::workflow_create(ctx, name, body.description.as_deref().unwrap_or_default(), fields).await?;
    Ok(Created {
        id: domain::cuid(workflow.id.0),
        workflow_id: domain::cuid(workflow.id.0),
        request_node_id: id_of(workflow.graph.request()),
        response_node_id: id_of(workflow.graph.response()),
        fields: fields_of(&workflow.graph),
        name: workflow.name,
        description: workflow.description,
    })
}

pub(super) fn id_of(node: Option<&Node>) -> String {
    node.map(|node| node.id.clone()).unwrap_or_default()
}

/// A workflow without its graph.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WorkflowSummary {
    pub(crate) id: String,
    pub(crate) name: String,
    description: String,
    created_at: String,
    updated_at: String,
    /// Its newest run; null before the first, and once that is forgotten.
    last_run: Option<LastRun>,
}

/// How the newest run of a workflow went.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LastRun {
    id: String,
    status: Status,
    created_at: String,
}

/// Workflows, newest first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WorkflowPage {
    pub(crate) items: Vec<WorkflowSummary>,
    /// For the next page; null on the last.
    next_cursor: Option<String>,
}

/// Which workflows are wanted.
#[derive(Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct WorkflowFilter {
    /// A part of the name.
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

/// Workflows, newest first.
#[utoipa::path(get, path = "/v1/workflows", operation_id = "listWorkflows", tag = "workflows", params(WorkflowFilter), responses((status = 200, body = WorkflowPage)))]
pub(crate) async fn list(Caller(ctx): Caller, Query(filter): Query<WorkflowFilter>) -> Answer<WorkflowPage> {
    ok(page(&ctx, filter).await?)
}

pub(crate) async fn page(ctx: &OpCtx, filter: WorkflowFilter) -> Result<WorkflowPage, Error> {
    let request = PageRequest { first: Some(limit(filter.limit)?), after: filter.cursor, ..PageRequest::default() };
    let found = ops::workflow::workflows(ctx, filter.search.as_deref(), &request).await?;
    let next_cursor = found.items.last().filter(|_| found.has_next).map(|workflow| workflow.id.0.to_string());
    let ids: Vec<WorkflowId> = found.items.iter().map(|workflow| workflow.id).collect();
    let last = ops::run::runs_last_of(ctx, &ids).await?.into_iter().filter_map(|run| {
        let Subject::Workflow { id, .. } = run.subject else { return None };
        Some((id, LastRun { id: run.id.0.to_string(), status: run.status.into(), created_at: time(run.created_at) }))
    });
    let mut last: HashMap<WorkflowId, LastRun> = last.collect();
    let items = found.items.into_iter().map(|workflow| {
        let last_run = last.remove(&workflow.id);
        summary(workflow, last_run)
    });
    Ok(WorkflowPage { items: items.collect(), next_cursor })
}

fn summary(workflow: Workflow, last_run: Option<LastRun>) -> WorkflowSummary {
    WorkflowSummary {
        last_run,
        id: domain::cuid(workflow.id.0),
        name: workflow.name,
        description: workflow.description,
        created_at: time(workflow.created_at),
        updated_at: time(workflow.updated_at),
    }
}

/// A workflow with its graph.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WorkflowShape {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) description: String,
    /// `{id, type, position, data}` each. For whoever may not read secrets, values in `data` are `<hidden>`.
    #[schema(value_type = Vec<Object>)]
    pub(super) nodes: Vec<Value>,
    /// `{id, source, sourceHandle, target, targetHandle}` each.
    #[schema(value_type = Vec<Object>)]
    pub(super) edges: Vec<Value>,
    /// Grows with every change.
    pub(super) version: u32,
    pub(super) created_at: String,
    pub(super) updated_at: String,
}

pub(super) fn values<T: Serialize>(all: &[T]) -> Result<Vec<Value>, Error> {
    let found: Result<_, serde_json::Error> = all.iter().map(serde_json::to_value).collect();
    found.map_err(|error| Error::internal("a graph as JSON", error))
}

pub(crate) fn shape(workflow: Workflow) -> Result<WorkflowShape, Error> {
    Ok(WorkflowShape {
        id: domain::cuid(workflow.id.0),
        nodes: values(&workflow.graph.nodes)?,
        edges: values(&workflow.graph.edges)?,
        name: workflow.name,
        description: workflow.description,
        version: workflow.version,
        created_at: time(workflow.created_at),
        updated_at: time(workflow.updated_at),
    })
}

/// One workflow with its graph. A system workflow is read by its slug.
#[utoipa::path(get, path = "/v1/workflows/{workflowId}", operation_id = "getWorkflow", tag = "workflows", params(("workflowId" = String, Path)), responses((status = 200, body = WorkflowShape)))]
pub(crate) async fn get(Caller(ctx): Caller, Path(id): Path<String>) -> Answer<WorkflowShape> {
    ok(one(&ctx, &id).await?)
}

/// A workflow by its id, or a system workflow by its slug.
pub(crate) async fn one(ctx: &OpCtx, id: &str) -> Result<WorkflowShape, Error> {
    match Template::of(id) {
        Some(template) => templates::shape(ctx, template),
        None => shape(ops::workflow::workflow_get(ctx, workflow_id(id)?).await?),
    }
}

/// What is changed of a workflow.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct UpdateWorkflow {
    #[serde(default)]
    #[schema(min_length = 1, max_length = 120)]
    pub(crate) name: Option<String>,
    #[serde(default)]
    #[schema(max_length = 2000)]
    pub(crate) description: Option<String>,
}

/// Renames or describes a workflow.
#[utoipa::path(patch, path = "/v1/workflows/{workflowId}", operation_id = "updateWorkflow", tag = "workflows", params(("workflowId" = String, Path)), request_body = UpdateWorkflow, responses((status = 200, body = WorkflowShape)))]
pub(crate) async fn update(Caller(ctx): Caller, Path(id): Path<String>, Given(body): Given<UpdateWorkflow>) -> Answer<WorkflowShape> {
    let changed = ops::workflow::workflow_update(&ctx, workflow_id(&id)?, body.name.as_deref(), body.description.as_deref()).await?;
    ok(shape(changed)?)
}

/// It is done.
#[derive(Serialize, ToSchema)]
pub(crate) struct Done {
    /// Always true.
    pub(crate) success: bool,
}

/// Deletes a workflow with its runs. What is not there is deleted.
#[utoipa::path(delete, path = "/v1/workflows/{workflowId}", operation_id = "deleteWorkflow", tag = "workflows", params(("workflowId" = String, Path)), responses((status = 200, body = Done)))]
pub(crate) async fn delete(Caller(ctx): Caller, Path(id): Path<String>) -> Answer<Done> {
    if let Ok(id) = workflow_id(&id) {
        ops::workflow::workflow_delete(&ctx, id).await?;
    }
    ok(Done { success: true })
}

/// A new node.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct AddNode {
    /// A key of the model list.
    #[schema(min_length = 1)]
    pub(crate) node_type: String,
    /// Wins over column and row.
    #[serde(default)]
    pub(crate) position: Option<PositionShape>,
    /// Of the layout, from 1.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1_000_000)]
    pub(crate) column: Option<u32>,
    /// Of the layout, from 0.
    #[serde(default)]
    #[schema(minimum = 0, maximum = 1_000_000)]
    pub(crate) row: Option<u32>,
    /// First values of inputs.
    #[serde(default)]
    pub(crate) inputs: Option<BTreeMap<String, Value>>,
    /// Which of several ways the type works.
    #[serde(default)]
    pub(crate) mode: Option<String>,
}

/// A node with its ports.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct NodeAnswer {
    pub(crate) node_id: String,
    #[serde(rename = "type")]
    kind: String,
    position: PositionShape,
    input_ports: Vec<String>,
    output_ports: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(required = false)]
    mode: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    inputs_set: Vec<String>,
}

fn node_answer(ctx: &OpCtx, workflow: &Workflow, id: &str) -> Result<NodeAnswer, Error> {
    let node = workflow.graph.node(id).ok_or_else(|| Error::not_found("Node"))?;
    let kind = ctx.ops.settings.flow.catalogue.get(&node.kind);
    let outputs = match node.kind.as_str() {
        domain::workflow::REQUEST => node.data.fields.iter().map(|field| field.id.clone()).collect(),
        _ => kind.map(|kind| kind.output_ports()).unwrap_or_default(),
    };
    let inputs = match node.kind.as_str() {
        domain::workflow::RESPONSE => vec!["result".to_owned()],
        _ => kind.map(|kind| kind.input_ports()).unwrap_or_default(),
    };
    Ok(NodeAnswer {
        node_id: node.id.clone(),
        kind: node.kind.clone(),
        position: PositionShape { x: node.position.x, y: node.position.y },
        input_ports: inputs,
        output_ports: outputs,
        mode: node.data.mode.clone(),
        inputs_set: node.data.inputs.keys().cloned().collect(),
    })
}

/// Adds a node.
#[utoipa::path(post, path = "/v1/workflows/{workflowId}/nodes", operation_id = "addNode", tag = "workflows", params(("workflowId" = String, Path)), request_body = AddNode, responses((status = 200, body = NodeAnswer)))]
pub(crate) async fn add_node(Caller(ctx): Caller, Path(id): Path<String>, Given(body): Given<AddNode>) -> Answer<NodeAnswer> {
    ok(node_added(&ctx, &id, body).await?)
}

pub(crate) async fn node_added(ctx: &OpCtx, workflow: &str, body: AddNode) -> Result<NodeAnswer, Error> {
    let position = body.position.map(|position| Position { x: position.x, y: position.y });
    let place = Place { position, column: body.column, row: body.row };
    let inputs = body.inputs.into_iter().flatten().collect();
    let (workflow, node) = ops::workflow::node_add(ctx, workflow_id(workflow)?, &body.node_type, place, inputs, body.mode).await?;
    node_answer(ctx, &workflow, &node)
}

/// A field of the request node as it is to be.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChangedField {
    /// Of a field that stays: with it, its edges stay. A new one is called after its name.
    #[serde(default)]
    id: Option<String>,
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    #[serde(rename = "type")]
    kind: FieldType,
    /// What counts when nothing is given.
    #[serde(default)]
    value: Value,
}

/// What is changed of a node.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct UpdateNode {
    /// Values of inputs; null takes one back.
    #[serde(default)]
    pub(crate) inputs: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    pub(crate) position: Option<PositionShape>,
    #[serde(default)]
    #[schema(min_length = 1, max_length = 120)]
    pub(crate) label: Option<String>,
    #[serde(default)]
    pub(crate) policy: Option<PolicyShape>,
    /// Of the request node: all of its fields. One that is left out goes with its edges.
    #[serde(default)]
    #[schema(max_items = 100)]
    pub(crate) request_fields: Option<Vec<ChangedField>>,
}

/// What happens when a node fails or takes long, and how often it is performed at once.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct PolicyShape {
    /// Further attempts.
    #[serde(default)]
    #[schema(maximum = 10)]
    retries: u32,
    /// The pause before the first of them; each next one is twice as long.
    #[serde(default)]
    #[schema(maximum = 3_600_000)]
    backoff_ms: Option<u64>,
    /// How long an attempt may take.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 3_600_000)]
    timeout_ms: Option<u64>,
    /// Whether the run goes on when the node has failed for good, with `{"error"}` as its output.
    #[serde(default)]
    continue_on_error: bool,
    /// How often the node is performed at the same time, over all runs of the workflow. Without it there is no limit.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 100)]
    concurrency: Option<u32>,
}

impl From<PolicyShape> for Policy {
    fn from(shape: PolicyShape) -> Self {
        use domain::workflow::OnError;
        let on_error = if shape.continue_on_error { OnError::Continue } else { OnError::Fail };
        let backoff_ms = shape.backoff_ms.unwrap_or(Self::default().backoff_ms);
        Self { retries: shape.retries, backoff_ms, timeout_ms: shape.timeout_ms, on_error, concurrency: shape.concurrency }
    }
}

/// Changes a node.
#[utoipa::path(patch, path = "/v1/workflows/{workflowId}/nodes/{nodeId}", operation_id = "updateNode", tag = "workflows", params(("workflowId" = String, Path), ("nodeId" = String, Path)), request_body = UpdateNode, responses((status = 200, body = NodeAnswer)))]
pub(crate) async fn update_node(
    Caller(ctx): Caller,
    Path((id, node)): Path<(String, String)>,
    Given(body): Given<UpdateNode>,
) -> Answer<NodeAnswer> {
    ok(node_updated(&ctx, &id, &node, body).await?)
}

pub(crate) async fn node_updated(ctx: &OpCtx, workflow: &str, node: &str, body: UpdateNode) -> Result<NodeAnswer, Error> {
    let field = |ChangedField { id, name, kind, value }: ChangedField| (id, NewField { name, kind: kind.into(), value });
    let change = NodeChange {
        fields: body.request_fields.map(|fields| fields.into_iter().map(field).collect()),
        inputs: body.inputs.into_iter().flatten().collect(),
        position: body.position.map(|position| Position { x: position.x, y: position.y }),
        label: body.label,
        policy: body.policy.map(Policy::from),
    };
    let workflow = ops::workflow::node_update(ctx, workflow_id(workflow)?, node, change).await?;
    node_answer(ctx, &workflow, node)
}

/// Deletes a node with its edges. What is not there is deleted.
#[utoipa::path(delete, path = "/v1/workflows/{workflowId}/nodes/{nodeId}", operation_id = "deleteNode", tag = "workflows", params(("workflowId" = String, Path), ("nodeId" = String, Path)), responses((status = 200, body = Done)))]
pub(crate) async fn delete_node(Caller(ctx): Caller, Path((id, node)): Path<(String, String)>) -> Answer<Done> {
    ops::workflow::node_delete(&ctx, workflow_id(&id)?, &node).await?;
    ok(Done { success: true })
}

/// A connection.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Connect {
    #[schema(min_length = 1)]
    pub(crate) source_node_id: String,
    /// `out:<name>`; of the request node a field's id.
    #[schema(min_length = 1)]
    pub(crate) source_handle: String,
    #[schema(min_length = 1)]
    pub(crate) target_node_id: String,
    /// `in:<name>`; of the response node `result`.
    #[schema(min_length = 1)]
    pub(crate) target_handle: String,
}

/// A connection that has been made.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Connection {
    edge_id: String,
    source: String,
    source_handle: String,
    target: String,
    target_handle: String,
    data_types: DataTypes,
}

/// What passes through a connection.
#[derive(Serialize, ToSchema)]
pub(crate) struct DataTypes {
    source: &'static str,
    target: &'static str,
}

/// Connects two nodes. Types must fit, there may be no cycle, and most inputs take one edge.
#[utoipa::path(post, path = "/v1/workflows/{workflowId}/edges", operation_id = "connectNodes", tag = "workflows", params(("workflowId" = String, Path)), request_body = Connect, responses((status = 200, body = Connection)))]
pub(crate) async fn connect(Caller(ctx): Caller, Path(id): Path<String>, Given(body): Given<Connect>) -> Answer<Connection> {
    ok(connected(&ctx, &id, &body).await?)
}

pub(crate) async fn connected(ctx: &OpCtx, workflow: &str, body: &Connect) -> Result<Connection, Error> {
    let source = (body.source_node_id.as_str(), body.source_handle.as_str());
    let target = (body.target_node_id.as_str(), body.target_handle.as_str());
    let made = ops::workflow::nodes_connect(ctx, workflow_id(workflow)?, source, target).await?;
    Ok(Connection {
        edge_id: made.edge.id,
        source: made.edge.source,
        source_handle: made.edge.source_handle,
        target: made.edge.target,
        target_handle: made.edge.target_handle,
        data_types: DataTypes { source: made.source_type.as_str(), target: made.target_type.as_str() },
    })
}

/// Deletes a connection. What is not there is deleted.
#[utoipa::path(delete, path = "/v1/workflows/{workflowId}/edges/{edgeId}", operation_id = "disconnectNodes", tag = "workflows", params(("workflowId" = String, Path), ("edgeId" = String, Path)), responses((status = 200, body = Done)))]
pub(crate) async fn disconnect(Caller(ctx): Caller, Path((id, edge)): Path<(String, String)>) -> Answer<Done> {
    ops::workflow::nodes_disconnect(&ctx, workflow_id(&id)?, &edge).await?;
    ok(Done { success: true })
}
