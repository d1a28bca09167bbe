//! What nodes there are, what they take and cost, and one node by itself (`contracts/flow.md` 1.7 to 1.9).

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use domain::RunId;
use domain::workflow::PortType;
use domain::workflow::catalogue::{Category, NodeType};
use domain::workflow::field::Input;
use domain::workflow::run::{RunSource, RunStatus, Subject, Webhook};
use ops::{Error, OpCtx, Principal};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::answer::{Answer, Caller, Given, Good, Path, Query, ok};
use super::runs::{Started, Status, WebhookShape, run_id, time, trigger_run_id};
use crate::http::Shared;

/// A type of node.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Model {
    pub(crate) node_type: String,
    pub(crate) name: String,
    pub(crate) description: &'static str,
    /// The family: image, video, audio, llm, utility, platform.
    pub(crate) category: &'static str,
    /// The name of an icon.
    icon: &'static str,
    /// A colour for it.
    accent: &'static str,
    /// Whether the key is this server's own.
    own: bool,
}

fn model(kind: &NodeType) -> Model {
    let (icon, accent) = match kind.category {
        Category::Image => ("image", "#8b5cf6"),
        Category::Video => ("video", "#ef4444"),
        Category::Audio => ("audio", "#f59e0b"),
        Category::Llm => ("text", "#10b981"),
        Category::Utility => ("tool", "#3b82f6"),
        Category::Platform => ("server", "#64748b"),
    };
    let (node_type, name) = (kind.key.to_string(), kind.name.to_string());
    Model { node_type, name, description: kind.description, category: kind.category.as_str(), icon, accent, own: kind.own }
}

pub(crate) fn all(ctx: &OpCtx, category: Option<&str>) -> Vec<Model> {
    let kinds = ctx.ops.settings.flow.catalogue.addable();
    kinds.filter(|kind| category.is_none_or(|wanted| kind.category.as_str() == wanted)).map(model).collect()
}

/// A type of node with its ports, for an editor.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModelPorts {
    #[serde(flatten)]
    model: Model,
    /// Where edges may end.
    inputs: Vec<InputPort>,
    /// Whether edges may also end at `in:` and a name of the user's choice.
    open: bool,
    /// Where edges may begin.
    outputs: Vec<OutputPort>,
}

/// Where an edge may end.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct InputPort {
    /// `in:<name>`.
    handle: String,
    /// What passes through.
    data_type: &'static str,
    /// Outputs of these types may be connected.
    accepts: Vec<&'static str>,
    /// Whether several edges may end here.
    many: bool,
    /// Whether the node cannot work without.
    required: bool,
}

/// Where an edge may begin.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct OutputPort {
    /// `out:<name>`.
    handle: String,
    /// What passes through.
    data_type: &'static str,
}

fn accepted(port: PortType) -> Vec<&'static str> {
    PortType::ALL.into_iter().filter(|source| port.takes(*source)).map(PortType::as_str).collect()
}

fn ports(kind: &NodeType) -> ModelPorts {
    let input = |input: &Input| InputPort {
        handle: format!("in:{}", input.name),
        data_type: input.port.as_str(),
        accepts: accepted(input.port),
        many: input.many,
        required: input.required,
    };
    let output = |(name, port): &(&str, PortType)| OutputPort { handle: format!("out:{name}"), data_type: port.as_str() };
    ModelPorts {
        model: model(kind),
        inputs: kind.inputs.iter().map(input).collect(),
        open: kind.open,
        outputs: kind.outputs.iter().map(output).collect(),
    }
}

/// Every type of node.
#[utoipa::path(get, path = "/v1/models", operation_id = "listModels", tag = "models", responses((status = 200, body = Vec<ModelPorts>)))]
pub(crate) async fn list(Caller(ctx): Caller) -> Answer<Vec<ModelPorts>> {
    ok(ctx.ops.settings.flow.catalogue.addable().map(ports).collect())
}

/// What is looked for.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Search {
    /// Words of key, name or description.
    #[serde(default)]
    query: Option<String>,
}

/// What was found.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Found {
    /// By category.
    model_catalog: BTreeMap<&'static str, Vec<FoundModel>>,
    /// `GENERATE` or `TRANSFORM`, by category.
    category_roles: BTreeMap<&'static str, &'static str>,
    /// How to use what was found.
    usage: &'static str,
    /// True when nothing was found.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    no_match: bool,
}

/// One of them.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FoundModel {
    model_id: String,
    name: String,
    description: &'static str,
}

/// Types of nodes by words.
#[utoipa::path(get, path = "/v1/models/search", operation_id = "searchModels", tag = "models", params(Search), responses((status = 200, body = Found)))]
pub(crate) async fn search(Caller(ctx): Caller, Query(search): Query<Search>) -> Answer<Found> {
    let words = search.query.unwrap_or_default().to_lowercase();
    let mut found = Found {
        model_catalog: BTreeMap::new(),
        category_roles: BTreeMap::new(),
        usage: "Read GET /v1/models/{modelId}/schema, then POST /v1/nodes/{modelId}/run with an input of that form",
        no_match: false,
    };
    for kind in all(&ctx, None) {
        let text = format!("{} {} {}", kind.node_type, kind.name, kind.description).to_lowercase();
        if words.split_whitespace().all(|word| text.contains(word)) {
            let role = if kind.category == "llm" { "GENERATE" } else { "TRANSFORM" };
            found.category_roles.insert(kind.category, role);
            let one = FoundModel { model_id: kind.node_type, name: kind.name, description: kind.description };
            found.model_catalog.entry(kind.category).or_default().push(one);
        }
    }
    found.no_match = found.model_catalog.is_empty();
    ok(found)
}

pub(crate) fn known<'a>(ctx: &'a OpCtx, key: &str) -> Result<&'a NodeType, Error> {
    let kind = ctx.ops.settings.flow.catalogue.get(&key.replace('-', "_")).filter(|kind| !domain::workflow::is_scaffold(&kind.key));
    let unknown = || Error::new(domain::Code::NotFound, format!("Unknown node type: {}", key.chars().take(80).collect::<String>()));
    kind.ok_or_else(unknown)
}

/// What a type of node takes.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ModelSchema {
    model_id: String,
    name: String,
    category: &'static str,
    description: &'static str,
    /// Empty.
    features: Vec<String>,
    /// Empty.
    capabilities: BTreeMap<String, Value>,
    /// `{name, type, dataType, required, description}` each, and limits.
    #[schema(value_type = Vec<Object>)]
    fields: Vec<Value>,
    defaults: BTreeMap<String, Value>,
}

/// What a type of node takes.
#[utoipa::path(get, path = "/v1/models/{modelId}/schema", operation_id = "getModelSchema", tag = "models", params(("modelId" = String, Path)), responses((status = 200, body = ModelSchema)))]
pub(crate) async fn schema(Caller(ctx): Caller, Path(id): Path<String>) -> Answer<ModelSchema> {
    ok(schema_of(&ctx, &id)?)
}

pub(crate) fn schema_of(ctx: &OpCtx, id: &str) -> Result<ModelSchema, Error> {
    let kind = known(ctx, id)?;
    let defaults = kind.inputs.iter().filter_map(|input| Some((input.name.to_owned(), input.default_value()?)));
    Ok(ModelSchema {
        model_id: kind.key.to_string(),
        name: kind.name.to_string(),
        category: kind.category.as_str(),
        description: kind.description,
        features: vec![],
        capabilities: BTreeMap::new(),
        fields: kind.inputs.iter().map(|input| input.describe()).collect(),
        defaults: defaults.collect(),
    })
}

/// What a type of node costs.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Pricing {
    model_id: String,
    /// Null.
    #[schema(value_type = Option<Object>)]
    cost_config: Option<Value>,
    cost_summary: String,
    /// `fixed`.
    pricing_approach: &'static str,
    pricing_details: PricingDetails,
    note: &'static str,
    /// In microcredits.
    estimated_cost: i64,
}

/// How the price comes about.
#[derive(Serialize, ToSchema)]
pub(crate) struct PricingDetails {
    /// `fixed`.
    #[serde(rename = "type")]
    kind: &'static str,
    /// In microcredits.
    microcredits: i64,
}

/// What a type of node costs here.
#[utoipa::path(get, path = "/v1/models/{modelId}/pricing", operation_id = "getModelPricing", tag = "models", params(("modelId" = String, Path)), responses((status = 200, body = Pricing)))]
pub(crate) async fn pricing(Caller(ctx): Caller, Path(id): Path<String>) -> Answer<Pricing> {
    ok(pricing_of(&ctx, &id)?)
}

pub(crate) fn pricing_of(ctx: &OpCtx, id: &str) -> Result<Pricing, Error> {
    let kind = known(ctx, id)?;
    let price = ctx.ops.settings.flow.price(&kind.key);
    Ok(Pricing {
        model_id: kind.key.to_string(),
        cost_config: None,
        cost_summary: format!("{price} microcredits for each execution"),
        pricing_approach: "fixed",
        pricing_details: PricingDetails { kind: "fixed", microcredits: price },
        note: "Prices are set by the operator of this server",
        estimated_cost: price,
    })
}

/// Every type with its price.
#[derive(Serialize, ToSchema)]
pub(crate) struct PublicCatalogue {
    models: BTreeMap<String, PublicModel>,
}

/// One of them.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PublicModel {
    node_type: String,
    /// In microcredits.
    cost: i64,
}

/// Every type with its price, without a key.
#[utoipa::path(get, path = "/v1/models/catalog", operation_id = "getCatalog", tag = "models", security(()), responses((status = 200, body = PublicCatalogue)))]
pub(crate) async fn catalog(State(state): State<Shared>) -> Answer<PublicCatalogue> {
    let settings = &state.ops.settings.flow;
    let one = |kind: &NodeType| (kind.key.to_string(), PublicModel { node_type: kind.key.to_string(), cost: settings.price(&kind.key) });
    ok(PublicCatalogue { models: settings.catalogue.addable().map(one).collect() })
}

/// What a node is given.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct RunNode {
    /// By the type's schema.
    pub(crate) input: BTreeMap<String, Value>,
    /// For types with several models.
    #[serde(default)]
    pub(crate) sub_model_id: Option<String>,
    /// Whom the run tells of its progress.
    #[serde(default)]
    pub(crate) webhook: Option<WebhookShape>,
    /// Ignored: the path says it.
    #[serde(default)]
    #[schema(value_type = Option<String>)]
    node_type: Option<Value>,
}

/// Runs one node by itself.
#[utoipa::path(post, path = "/v1/nodes/{nodeType}/run", operation_id = "runNode", tag = "nodes", params(("nodeType" = String, Path)), request_body = RunNode, responses((status = 202, body = Started)))]
pub(crate) async fn run(Caller(ctx): Caller, Path(kind): Path<String>, Given(body): Given<RunNode>) -> Answer<Started> {
    let run = begin(&ctx, &kind, body, RunSource::Api).await?;
    Ok(Good(StatusCode::ACCEPTED, Started { run_id: domain::cuid(run.0) }))
}

/// Runs a node for a client of REST or MCP.
pub(crate) async fn begin(ctx: &OpCtx, kind: &str, body: RunNode, source: RunSource) -> Result<RunId, Error> {
    // A text of the client's own in this place is no reason to refuse it.
    let _ = body.node_type;
    let key = known(ctx, kind)?.key.to_string();
    let input = body.input.into_iter().collect();
    ops::run::node_run_start(ctx, &key, body.sub_model_id, input, body.webhook.map(Webhook::from), source).await
}

/// A node that ran by itself.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DirectRun {
    id: String,
    node_type: String,
    sub_model_id: Option<String>,
    pub(crate) status: Status,
    #[schema(value_type = Object)]
    input: Value,
    /// Null until it is completed.
    pub(crate) output: Option<Value>,
    error: Option<String>,
    /// The same as the error, for people.
    user_message: Option<String>,
    /// In microcredits.
    credit_used: i64,
    trigger_run_id: Option<String>,
    source: &'static str,
    created_at: String,
}

/// A node that ran by itself.
#[utoipa::path(get, path = "/v1/nodes/runs/{runId}", operation_id = "getNodeRun", tag = "nodes", params(("runId" = String, Path)), responses((status = 200, body = DirectRun)))]
pub(crate) async fn run_get(Caller(ctx): Caller, Path(id): Path<String>) -> Answer<DirectRun> {
    ok(direct(&ctx, &id).await?)
}

pub(crate) async fn direct(ctx: &OpCtx, id: &str) -> Result<DirectRun, Error> {
    let ops::run::RunView { run, nodes } = ops::run::run_get(ctx, run_id(id)?, true).await?;
    let Subject::Node { kind, sub_model } = run.subject else { return Err(Error::not_found("Run")) };
    let completed = run.status == RunStatus::Completed;
    let output = nodes.into_iter().next().and_then(|node| node.output).filter(|_| completed);
    Ok(DirectRun {
        id: domain::cuid(run.id.0),
        node_type: kind,
        sub_model_id: sub_model,
        status: run.status.into(),
        input: run.values.values().next().cloned().unwrap_or_else(|| json!({})),
        output,
        user_message: run.error.clone(),
        error: run.error,
        credit_used: run.credits,
        trigger_run_id: run.started_at.map(|_| trigger_run_id(run.id)),
        source: run.source.as_str(),
        created_at: time(run.created_at),
    })
}

/// Nodes whose cost is asked for.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Estimate {
    #[schema(max_items = 100)]
    nodes: Vec<EstimateNode>,
}

/// One of them.
#[derive(Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EstimateNode {
    #[serde(rename = "type")]
    #[schema(min_length = 1)]
    kind: String,
    #[serde(default, rename = "data")]
    #[schema(value_type = Option<Object>)]
    _data: Option<Value>,
    #[serde(default, rename = "subModelId")]
    _sub_model_id: Option<String>,
}

/// Costs, in the order of the nodes.
#[derive(Serialize, ToSchema)]
pub(crate) struct Estimates {
    estimates: Vec<Cost>,
}

/// Costs, in the order of the nodes, and their sum.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EstimatedTotal {
    total_microcredits: i64,
    estimates: Vec<Cost>,
}

/// A cost.
#[derive(Serialize, ToSchema)]
pub(crate) struct Cost {
    microcredits: i64,
}

fn costs(ctx: &OpCtx, asked: &Estimate) -> Vec<Cost> {
    asked.nodes.iter().map(|node| Cost { microcredits: ctx.ops.settings.flow.price(&node.kind) }).collect()
}

/// What nodes cost.
#[utoipa::path(post, path = "/v1/nodes/estimate-credits", operation_id = "estimateNodes", tag = "credits", request_body = Estimate, responses((status = 200, body = Estimates)))]
pub(crate) async fn estimate_nodes(Caller(ctx): Caller, Given(body): Given<Estimate>) -> Answer<Estimates> {
    ok(Estimates { estimates: costs(&ctx, &body) })
}

/// What a graph costs.
#[utoipa::path(post, path = "/v1/workflows/estimate-credits", operation_id = "estimateWorkflow", tag = "credits", request_body = Estimate, responses((status = 200, body = EstimatedTotal)))]
pub(crate) async fn estimate_workflow(Caller(ctx): Caller, Given(body): Given<Estimate>) -> Answer<EstimatedTotal> {
    let estimates = costs(&ctx, &body);
    ok(EstimatedTotal { total_microcredits: estimates.iter().map(|cost| cost.microcredits).sum(), estimates })
}

/// What is left.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Balance {
    /// In microcredits.
    available_balance: i64,
    /// For people.
    formatted: String,
    /// Always true: nobody pays here.
    has_active_subscription: bool,
    /// Whether the key is a team's, and not one person's.
    is_organization: bool,
}

/// What is left of the allowance.
#[utoipa::path(get, path = "/v1/credits/balance", operation_id = "getBalance", tag = "credits", responses((status = 200, body = Balance)))]
pub(crate) async fn balance(Caller(ctx): Caller) -> Answer<Balance> {
    ok(balance_of(&ctx).await?)
}

pub(crate) async fn balance_of(ctx: &OpCtx) -> Result<Balance, Error> {
    let left = ops::run::credits(ctx).await?;
    let hundredths = left / 10_000;
    let formatted = format!("{}.{:02}M", hundredths / 100, (hundredths % 100).abs());
    // Whoever comes as a person comes for their own workspace.
    let is_organization = matches!(&ctx.principal, Principal::Key(key) if key.workspace.personal_of.is_none());
    Ok(Balance { available_balance: left, formatted, has_active_subscription: true, is_organization })
}
