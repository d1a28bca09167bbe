//! Tools for workflows, nodes and runs (`contracts/flow.md` 3.2).

use domain::page::PageRequest;
use domain::workflow::Graph;
use domain::workflow::run::RunSource;
use domain::workflow::template::Template;
use ops::{Error, OpCtx};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};
use utoipa::ToSchema;

use super::{ToolSpec, results};
use crate::flow::answer::{Refused, typed};
use crate::flow::runs::{self, RunFilter, StartRun, run_id};
use crate::flow::workflows::{self, AddNode, Connect, CreateWorkflow, UpdateNode, UpdateWorkflow, WorkflowFilter, workflow_id};
use crate::flow::{catalogue, files, templates, triggers};

pub(super) static TOOLS: [ToolSpec; 29] = [
    ToolSpec {
        name: "list_system_workflows",
        about: "Ready-made workflows that can be run by their name",
        takes: &[("category", "string", false, "image, video, audio, utility or llm")],
    },
    ToolSpec {
        name: "run_system_workflow",
        about: "Runs a ready-made workflow",
        takes: &[
            ("name", "string", true, "Its name or slug, or a part of it"),
            ("mode", "string", false, "Ignored"),
            ("inputs", "object", false, "Field name -> value; without any, nothing starts and the fields are answered"),
        ],
    },
    ToolSpec {
        name: "list_workflows",
        about: "Your workflows, newest first",
        takes: &[
            ("search", "string", false, "A part of the name"),
            ("limit", "integer", false, "1 to 100"),
            ("cursor", "string", false, "nextCursor of the page before"),
        ],
    },
    ToolSpec {
        name: "get_workflow",
        about: "A workflow with its nodes and edges",
        takes: &[("workflowId", "string", true, "Its id, or a system workflow's slug")],
    },
    ToolSpec {
        name: "update_workflow",
        about: "Renames or describes a workflow",
        takes: &[
            ("workflowId", "string", true, "Its id"),
            ("name", "string", false, "At most 120 characters"),
            ("description", "string", false, "At most 2000 characters"),
        ],
    },
    ToolSpec { name: "delete_workflow", about: "Deletes a workflow with its runs", takes: &[("workflowId", "string", true, "Its id")] },
    ToolSpec {
        name: "create_workflow",
        about: "Makes a workflow with its Request and Response node",
        takes: &[
            ("name", "string", true, "At most 120 characters"),
            ("description", "string", false, "At most 2000 characters"),
            ("requestFields", "field[]", false, "What a caller may give"),
        ],
    },
    ToolSpec {
        name: "list_node_types",
        about: "Types of nodes with their ports",
        takes: &[("category", "string", false, "A family of types")],
    },
    ToolSpec {
        name: "add_node",
        about: "Adds a node to a workflow",
        takes: &[
            ("workflowId", "string", true, "Its id"),
            ("nodeType", "string", true, "A type of list_node_types"),
            ("column", "integer", false, "Of the layout, from 1"),
            ("row", "integer", false, "Of the layout, from 0"),
            ("inputs", "object", false, "First values of inputs"),
            ("mode", "string", false, "Which of several ways the type works"),
        ],
    },
    ToolSpec {
        name: "update_node",
        about: "Changes values of a node's inputs, and the fields of the Request node",
        takes: &[
            ("workflowId", "string", true, "Its id"),
            ("nodeId", "string", true, "The node's id"),
            ("inputs", "object", false, "Input -> value; null takes one back"),
            ("requestFields", "changed_field[]", false, "Of the Request node: all of its fields; one that is left out goes with its edges"),
        ],
    },
    ToolSpec {
        name: "connect_nodes",
        about: "Draws an edge; a Request field's handle is its id, the Response node's is `result`, others are out:… and in:…",
        takes: &[
            ("workflowId", "string", true, "Its id"),
            ("sourceNodeId", "string", true, "The node that gives"),
            ("sourceHandle", "string", true, "Its port"),
            ("targetNodeId", "string", true, "The node that takes"),
            ("targetHandle", "string", true, "Its port"),
        ],
    },
    ToolSpec {
        name: "delete_node",
        about: "Deletes a node with its edges",
        takes: &[("workflowId", "string", true, "Its id"), ("nodeId", "string", true, "The node's id")],
    },
    ToolSpec {
        name: "disconnect_nodes",
        about: "Deletes an edge, by its id or all between two nodes",
        takes: &[
            ("workflowId", "string", true, "Its id"),
            ("edgeId", "string", false, "The edge's id"),
            ("sourceNodeId", "string", false, "The node that gives"),
            ("targetNodeId", "string", false, "The node that takes"),
        ],
    },
    ToolSpec {
        name: "list_models",
        about: "Types of nodes that can also run by themselves",
        takes: &[("category", "string", false, "A family of types")],
    },
    ToolSpec { name: "get_model_schema", about: "What a type of node takes", takes: &[("modelId", "string", true, "Its key")] },
    ToolSpec { name: "get_pricing", about: "What a type of node costs here", takes: &[("modelId", "string", true, "Its key")] },
    ToolSpec { name: "get_balance", about: "What is left of the account's credits", takes: &[] },
    ToolSpec {
        name: "run_model",
        about: "Runs one node by itself; get_run_status waits for its output",
        takes: &[
            ("nodeType", "string", true, "A type of list_models"),
            ("subModelId", "string", false, "For types with several models"),
            ("input", "object", true, "By get_model_schema"),
        ],
    },
    ToolSpec { name: "get_model_run", about: "A node that ran by itself", takes: &[("runId", "string", true, "Its id")] },
    ToolSpec {
        name: "start_run",
        about: "Starts a workflow. Of one with Request fields nothing starts without values: its fields are answered instead",
        takes: &[
            ("workflowId", "string", false, "Its id"),
            ("name", "string", false, "Instead of the id: its name, or a part of it"),
            ("values", "object", false, "Request node id -> field id -> value"),
        ],
    },
    ToolSpec { name: "get_run", about: "A run with its outputs", takes: &[("runId", "string", true, "Its id")] },
    ToolSpec {
        name: "get_run_status",
        about: "Waits for the end of a run, of a workflow or of one node: its output and files, or how far it is by then",
        takes: &[
            ("runId", "string", true, "Its id"),
            ("runType", "string", false, "model or workflow; the id says it, too"),
            ("waitSeconds", "integer", false, "How long to wait for its end, 0 to 50; 25 when absent"),
        ],
    },
    ToolSpec { name: "get_runs", about: "Several runs with their outputs", takes: &[("ids", "text[]", true, "Their ids, at most 500")] },
    ToolSpec {
        name: "list_runs",
        about: "Runs, newest first",
        takes: &[
            ("workflowId", "string", false, "Of one workflow"),
            ("status", "string", false, "QUEUED, RUNNING, COMPLETED, FAILED or CANCELED"),
            ("search", "string", false, "A part of the workflow's name"),
            ("limit", "integer", false, "1 to 100"),
            ("cursor", "string", false, "nextCursor of the page before"),
        ],
    },
    ToolSpec { name: "cancel_run", about: "Stops a run", takes: &[("runId", "string", true, "Its id")] },
    ToolSpec {
        name: "list_triggers",
        about: "What starts a workflow by itself",
        takes: &[("workflowId", "string", true, "The workflow's id")],
    },
    ToolSpec {
        name: "create_trigger",
        about: "Has a workflow start by the clock, by a URL of its own, or when something happens on the platform",
        takes: &[
            ("workflowId", "string", true, "The workflow's id"),
            ("kind", "string", true, "schedule, hook or event"),
            ("cron", "string", false, "Of a schedule: minute, hour, day, month, weekday"),
            ("timezone", "string", false, "Of a schedule: such as Europe/Berlin; UTC without"),
            ("values", "object", false, "Of a schedule: request field -> value"),
            (
                "event",
                "string",
                false,
                "Of an event: deployment.failed, deployment.succeeded, deployment.crashed, trigger.fired or container.unhealthy",
            ),
        ],
    },
    ToolSpec {
        name: "delete_trigger",
        about: "Deletes what starts a workflow",
        takes: &[("workflowId", "string", true, "The workflow's id"), ("triggerId", "string", true, "The trigger's id")],
    },
    ToolSpec {
        name: "upload_file",
        about: "Keeps a file and gives its address",
        takes: &[
            ("filename", "string", false, "What it is called; needed with base64 and data_uri"),
            ("base64", "string", false, "Its content"),
            ("data_uri", "string", false, "Its content, as data:…;base64,…"),
            ("url", "string", false, "Instead of the content: where it is fetched from"),
        ],
    },
];

fn take(given: &mut Map<String, Value>, name: &str) -> String {
    match given.shift_remove(name) {
        Some(Value::String(text)) => text,
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

fn rest<T: DeserializeOwned + ToSchema>(given: Map<String, Value>) -> Result<T, Refused> {
    typed(Value::Object(given))
}

fn plain<T: DeserializeOwned>(given: Map<String, Value>) -> Result<T, Refused> {
    serde_json::from_value(Value::Object(given)).map_err(|error| Error::bad_input(error.to_string()).into())
}

pub(super) fn value<T: Serialize>(shape: T) -> Result<Value, Refused> {
    serde_json::to_value(shape).map_err(|error| Error::internal("an answer as JSON", error).into())
}

pub(super) async fn call(ctx: &OpCtx, name: &str, mut given: Map<String, Value>) -> Result<Value, Refused> {
    let g = &mut given;
    match name {
        "list_system_workflows" => {
            let category = take(g, "category");
            let mut all = templates::all(ctx)?;
            all.items.retain(|one| category.is_empty() || one.category == category);
            value(all)
        }
        "run_system_workflow" => run_template(ctx, given).await,
        "list_workflows" => value(workflows::page(ctx, plain::<WorkflowFilter>(given)?).await?),
        "get_workflow" => value(workflows::one(ctx, &take(g, "workflowId")).await?),
        "update_workflow" => {
            let id = workflow_id(&take(g, "workflowId"))?;
            let body: UpdateWorkflow = rest(given)?;
            let changed = ops::workflow::workflow_update(ctx, id, body.name.as_deref(), body.description.as_deref()).await?;
            value(workflows::shape(changed)?)
        }
        "delete_workflow" => {
            ops::workflow::workflow_delete(ctx, workflow_id(&take(g, "workflowId"))?).await?;
            Ok(json!({"success": true}))
        }
        "create_workflow" => value(workflows::make(ctx, rest::<CreateWorkflow>(given)?).await?),
        "list_node_types" | "list_models" => {
            let category = take(g, "category");
            types(ctx, Some(category.as_str()).filter(|text| !text.is_empty()), name == "list_node_types")
        }
        "add_node" => {
            let id = take(g, "workflowId");
            value(workflows::node_added(ctx, &id, rest::<AddNode>(given)?).await?)
        }
        "update_node" => {
            let (id, node) = (take(g, "workflowId"), take(g, "nodeId"));
            value(workflows::node_updated(ctx, &id, &node, rest::<UpdateNode>(given)?).await?)
        }
        "connect_nodes" => {
            let id = take(g, "workflowId");
            value(workflows::connected(ctx, &id, &rest::<Connect>(given)?).await?)
        }
        "delete_node" => {
            let (id, node) = (workflow_id(&take(g, "workflowId"))?, take(g, "nodeId"));
            ops::workflow::node_delete(ctx, id, &node).await?;
            Ok(json!({"success": true}))
        }
        "disconnect_nodes" => disconnect(ctx, given).await,
        "list_triggers" => value(triggers::all(ctx, &take(g, "workflowId")).await?),
        "create_trigger" => {
            let id = take(g, "workflowId");
            value(triggers::make(ctx, &id, rest::<triggers::CreateTrigger>(given)?).await?)
        }
        "delete_trigger" => {
            let (id, trigger) = (take(g, "workflowId"), take(g, "triggerId"));
            triggers::remove(ctx, &id, &trigger).await?;
            Ok(json!({"success": true}))
        }
        "upload_file" => value(files::shape(files::keep(ctx, rest::<files::Upload>(given)?).await?)),
        _ => runs_and_models(ctx, name, given).await,
    }
}

async fn runs_and_models(ctx: &OpCtx, name: &str, mut given: Map<String, Value>) -> Result<Value, Refused> {
    let g = &mut given;
    match name {
        "get_model_schema" => value(catalogue::schema_of(ctx, &take(g, "modelId"))?),
        "get_pricing" => value(catalogue::pricing_of(ctx, &take(g, "modelId"))?),
        "get_balance" => value(catalogue::balance_of(ctx).await?),
        "run_model" => {
            let kind = take(g, "nodeType");
            let body: catalogue::RunNode = rest(given)?;
            let run = catalogue::begin(ctx, &kind, body, RunSource::Mcp).await?;
            Ok(json!({"runId": domain::cuid(run.0), "status": "QUEUED"}))
        }
        "get_model_run" => results::model_run(ctx, &take(g, "runId")).await,
        "start_run" => start(ctx, given).await,
        "get_run" => results::run(ctx, &take(g, "runId")).await,
        "get_run_status" => {
            let wait = given.get("waitSeconds").and_then(Value::as_u64);
            results::awaited(ctx, &take(&mut given, "runId"), wait).await
        }
        "get_runs" => value(runs::batch_of(ctx, &rest::<runs::BatchGet>(given)?.ids).await?),
        "list_runs" => value(runs::page(ctx, plain::<RunFilter>(given)?).await?),
        "cancel_run" => {
            let run = ops::run::run_cancel(ctx, run_id(&take(g, "runId"))?).await?;
            Ok(json!({"runId": run.id.0.to_string(), "status": run.status.as_str()}))
        }
        other => Err(Error::not_found(&format!("The tool {other}")).into()),
    }
}

fn types(ctx: &OpCtx, category: Option<&str>, ports: bool) -> Result<Value, Refused> {
    if !ports {
        return value(json!({"models": catalogue::all(ctx, category)}));
    }
    let kinds = ctx.ops.settings.flow.catalogue.addable().filter(|kind| category.is_none_or(|wanted| kind.category.as_str() == wanted));
    let kinds = kinds.map(|kind| {
        let inputs = kind.inputs.iter().map(|input| json!({"handle": format!("in:{}", input.name), "type": input.port.as_str(), "required": input.required, "description": input.description}));
        let outputs = kind.outputs.iter().map(|(name, port)| json!({"handle": format!("out:{name}"), "type": port.as_str()}));
        json!({
            "type": kind.key, "name": kind.name, "description": kind.description, "category": kind.category.as_str(), "modes": [],
            "takesAnyInput": kind.open, "inputs": inputs.collect::<Vec<_>>(), "outputs": outputs.collect::<Vec<_>>(),
        })
    });
    Ok(json!({"items": kinds.collect::<Vec<_>>()}))
}

async fn disconnect(ctx: &OpCtx, mut given: Map<String, Value>) -> Result<Value, Refused> {
    let id = workflow_id(&take(&mut given, "workflowId"))?;
    let (edge, source, target) = (take(&mut given, "edgeId"), take(&mut given, "sourceNodeId"), take(&mut given, "targetNodeId"));
    let edges = if edge.is_empty() {
        if source.is_empty() || target.is_empty() {
            return Err(Error::bad_input("Name the edge by edgeId, or both sourceNodeId and targetNodeId").into());
        }
        let found = ops::workflow::workflow_get(ctx, id).await?.graph.edges;
        found.into_iter().filter(|edge| edge.source == source && edge.target == target).map(|edge| edge.id).collect()
    } else {
        vec![edge]
    };
    for edge in &edges {
        ops::workflow::nodes_disconnect(ctx, id, edge).await?;
    }
    Ok(json!({"success": true, "deleted": edges.len()}))
}

fn template(text: &str) -> Option<&'static Template> {
    let wanted = text.to_lowercase();
    let all = &domain::workflow::template::TEMPLATES;
    let exact = all.iter().find(|template| template.slug == wanted || template.name.to_lowercase() == wanted);
    exact.or_else(|| all.iter().find(|template| template.name.to_lowercase().contains(&wanted) || template.slug.contains(&wanted)))
}

async fn run_template(ctx: &OpCtx, mut given: Map<String, Value>) -> Result<Value, Refused> {
    let name = take(&mut given, "name");
    if name.trim().is_empty() {
        return Err(Error::bad_input("Name the system workflow: list_system_workflows lists them").into());
    }
    let found = template(&name).ok_or_else(|| Error::not_found("System workflow"))?;
    let graph = found.graph(&ctx.ops.settings.flow.catalogue)?;
    let inputs = given.shift_remove("inputs").unwrap_or_else(|| json!({}));
    if let Some(asked) = asked(found.slug, &graph, &inputs, "inputs, keyed by field name or field id")? {
        return Ok(asked);
    }
    let request = graph.request().map(|node| node.id.clone()).unwrap_or_default();
    begin(ctx, json!({"workflowId": found.slug, "values": {request: inputs}})).await
}

async fn begin(ctx: &OpCtx, body: Value) -> Result<Value, Refused> {
    let run = runs::begin(ctx, typed::<StartRun>(body)?, RunSource::Mcp).await?;
    Ok(json!({"runId": run.0.to_string(), "status": "QUEUED"}))
}

/// What is answered instead of a run, when a workflow has fields and nothing was given for them.
fn asked(id: &str, graph: &Graph, given: &Value, how: &str) -> Result<Option<Value>, Refused> {
    let fields = workflows::fields_of(graph);
    if fields.is_empty() || given.as_object().is_some_and(|given| !given.is_empty()) {
        return Ok(None);
    }
    let (request, text) = (graph.request().map(|node| node.id.clone()), format!("Nothing was started: call again with {how}"));
    Ok(Some(json!({"started": false, "message": text, "workflowId": id, "requestNodeId": request, "fields": value(fields)?})))
}

/// Own workflows come first, then the ready-made ones; names may be parts of names.
async fn start(ctx: &OpCtx, mut given: Map<String, Value>) -> Result<Value, Refused> {
    let (id, name) = (take(&mut given, "workflowId"), take(&mut given, "name"));
    let by_id = !id.trim().is_empty();
    let wanted = if by_id { id } else { name };
    if wanted.trim().is_empty() {
        return Err(Error::bad_input("Name the workflow by workflowId or by name").into());
    }
    let found = match workflow_id(&wanted) {
        Ok(id) => Some(ops::workflow::workflow_get(ctx, id).await?),
        // Whoever names a system workflow by its id means no other that is called alike.
        Err(_) if by_id && Template::of(&wanted).is_some() => None,
        Err(_) => {
            let page = PageRequest { first: Some(20), ..PageRequest::default() };
            let named = ops::workflow::workflows(ctx, Some(&wanted), &page).await?.items;
            let exact = named.iter().position(|workflow| workflow.name.eq_ignore_ascii_case(&wanted));
            match named.get(exact.unwrap_or(0)) {
                Some(workflow) => Some(ops::workflow::workflow_get(ctx, workflow.id).await?),
                None => None,
            }
        }
    };
    let (id, graph) = match found {
        Some(workflow) => (domain::cuid(workflow.id.0), workflow.graph),
        None => {
            let found = template(&wanted).ok_or_else(|| Error::not_found("Workflow"))?;
            (found.slug.to_owned(), found.graph(&ctx.ops.settings.flow.catalogue)?)
        }
    };
    let values = given.shift_remove("values").unwrap_or_default();
    if let Some(asked) = asked(&id, &graph, &values, "values, keyed by requestNodeId and then by field id")? {
        return Ok(asked);
    }
    begin(ctx, json!({"workflowId": id, "values": values})).await
}
