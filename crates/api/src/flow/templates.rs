//! Workflows that belong to nobody: everybody can read and start them, and nobody can change them (`contracts/flow.md` 0).

use domain::Timestamp;
use domain::workflow::template::{TEMPLATES, Template};
use ops::{Error, OpCtx};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::{Answer, Caller, ok};
use super::runs::time;
use super::workflows::{CreatedField, WorkflowShape, fields_of, id_of, values};

/// A workflow that everybody can start and nobody can change.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SystemWorkflow {
    /// What it is started by.
    id: &'static str,
    slug: &'static str,
    pub(crate) name: &'static str,
    description: &'static str,
    pub(crate) category: &'static str,
    /// The key of the values that it is started with.
    request_node_id: String,
    /// What may be given there.
    fields: Vec<CreatedField>,
}

/// All of them.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SystemWorkflows {
    pub(crate) items: Vec<SystemWorkflow>,
    /// Always null.
    next_cursor: Option<String>,
}

/// Workflows that everybody can start by their slug.
#[utoipa::path(get, path = "/v1/system-workflows", operation_id = "listSystemWorkflows", tag = "workflows", responses((status = 200, body = SystemWorkflows)))]
pub(crate) async fn system(Caller(ctx): Caller) -> Answer<SystemWorkflows> {
    ok(all(&ctx)?)
}

pub(crate) fn all(ctx: &OpCtx) -> Result<SystemWorkflows, Error> {
    let shape = |template: &Template| -> Result<SystemWorkflow, Error> {
        let graph = template.graph(&ctx.ops.settings.flow.catalogue)?;
        Ok(SystemWorkflow {
            id: template.slug,
            slug: template.slug,
            name: template.name,
            description: template.description,
            category: template.category.as_str(),
            request_node_id: id_of(graph.request()),
            fields: fields_of(&graph),
        })
    };
    let items: Result<_, Error> = TEMPLATES.iter().map(shape).collect();
    Ok(SystemWorkflows { items: items?, next_cursor: None })
}

/// One of them with its graph.
pub(super) fn shape(ctx: &OpCtx, template: &Template) -> Result<WorkflowShape, Error> {
    let graph = template.graph(&ctx.ops.settings.flow.catalogue)?;
    // It is as old as the program.
    let made = time(Timestamp::UNIX_EPOCH);
    Ok(WorkflowShape {
        id: template.slug.to_owned(),
        nodes: values(&graph.nodes)?,
        edges: values(&graph.edges)?,
        name: template.name.to_owned(),
        description: template.description.to_owned(),
        version: 0,
        created_at: made.clone(),
        updated_at: made,
    })
}
