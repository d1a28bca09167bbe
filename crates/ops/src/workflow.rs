//! Workflows: making and changing their graphs (`contracts/flow.md` 1.4 to 1.6).

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use domain::network::Network;
use domain::page::{Page, PageRequest};
use domain::workflow::catalogue::Catalogue;
use domain::workflow::edit::{Connected, NewEdge, NewNode, Place as NodePlace, Refusal};
use domain::workflow::{Graph, Policy, PortType, Position, RequestField, Workflow, field_id};
use domain::{Code, Permission, Place, Tenant, UserId, WorkflowId};
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use store::{Change, StoreError, WorkflowChange};

use crate::context::{Opened, Principal};
use crate::{Error, OpCtx, project};

/// What workflows may use.
#[derive(Clone, Debug)]
pub struct FlowSettings {
    /// The kinds of nodes.
    pub catalogue: Arc<Catalogue>,
    /// Where language models are asked.
    pub llm: Option<LlmSettings>,
    /// Where files of accounts are kept by their ids.
    pub files: PathBuf,
    /// The largest file in bytes.
    pub max_file_bytes: u64,
    /// All files of one workspace together in bytes.
    pub max_workspace_bytes: u64,
    /// Addresses that webhooks may name although they are not of the public internet: there, http will do.
    pub outgoing_allow: Vec<Network>,
    /// Runs of one workspace at the same time.
    pub runs_per_workspace: u32,
    /// What a node of a type costs, in microcredits; nothing when it is not listed.
    pub prices: std::collections::BTreeMap<String, i64>,
    /// What an account may use, in microcredits.
    pub allowance: i64,
}

impl Default for FlowSettings {
    fn default() -> Self {
        Self {
            catalogue: Arc::new(Catalogue::new([])),
            llm: None,
            files: std::env::temp_dir().join("orrery-files"),
            max_file_bytes: 50_000_000,
            max_workspace_bytes: 5_000_000_000,
            outgoing_allow: vec![],
            runs_per_workspace: 32,
            prices: std::collections::BTreeMap::new(),
            allowance: 1_000_000_000_000,
        }
    }
}

impl FlowSettings {
    /// What a node of a type costs, in microcredits.
    #[must_use]
    pub fn price(&self, kind: &str) -> i64 {
        let other_name = || self.prices.get(kind.strip_prefix("x_")?);
        self.prices.get(kind).or_else(other_name).copied().unwrap_or_default()
    }
}

/// An endpoint that speaks as OpenAI's does.
#[derive(Clone, Debug)]
pub struct LlmSettings {
    /// Up to and without `/chat/completions`.
    pub base_url: String,
    /// Sent as the bearer token.
    pub key: Option<SecretString>,
    /// The model behind each node type.
    pub models: std::collections::BTreeMap<String, String>,
}

/// A field of a Request node as it is to be.
#[derive(Clone, Debug, PartialEq)]
pub struct NewField {
    /// What people call it.
    pub name: String,
    /// What may be given.
    pub kind: PortType,
    /// What counts when nothing is given.
    pub value: Value,
}

/// What is changed of a node; what is not said stays.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeChange {
    /// Values of inputs; null takes one back.
    pub inputs: Map<String, Value>,
    /// Where it is drawn.
    pub position: Option<Position>,
    /// What is written on it.
    pub label: Option<String>,
    /// What happens when it fails.
    pub policy: Option<Policy>,
    /// Of the Request node: all that a caller may give, each with the id of the field that it was, unless it is new.
    pub fields: Option<Vec<(Option<String>, NewField)>>,
}

/// Fields of a Request node at the most.
const MAX_FIELDS: usize = 100;

/// Tries of an edit that others interfere with.
const TRIES: usize = 8;

impl From<Refusal> for Error {
    fn from(refusal: Refusal) -> Self {
        let code = match &refusal {
            Refusal::UnknownType(_) | Refusal::NodeNotFound(_) => Code::NotFound,
            Refusal::Scaffold(_) | Refusal::Taken { .. } | Refusal::Cycle(_) => Code::Conflict,
            Refusal::UnknownHandle { .. }
            | Refusal::Types { .. }
            | Refusal::Input { .. }
            | Refusal::Mode { .. }
            | Refusal::TooLarge
            | Refusal::Damaged(_) => Code::BadUserInput,
        };
        Self::new(code, refusal.to_string())
    }
}

/// Where the principal's workflows are, with the proof for one permission there.
pub(crate) fn home(ctx: &OpCtx, permission: Permission) -> Result<Tenant, Error> {
    let workspace = project::default_workspace(ctx).ok_or_else(|| ctx.unauthenticated())?;
    ctx.allow(workspace, Place::Workspace, permission)
}

/// The person behind the principal.
pub(crate) fn owner(ctx: &OpCtx) -> Result<UserId, Error> {
    match &ctx.principal {
        Principal::User(person) => Ok(person.user.id),
        Principal::Key(key) => Ok(key.key.user_id),
        Principal::System(_) | Principal::Anonymous => Err(ctx.unauthenticated()),
    }
}

/// Whether the principal sees what workflows and their runs hold, and not their shape alone.
pub(crate) fn sees_values(ctx: &OpCtx, tenant: Tenant) -> bool {
    ctx.may(tenant.workspace(), Place::Workspace, Permission::ReadSecrets)
}

pub(crate) async fn opened(ctx: &OpCtx, id: WorkflowId, permission: Permission) -> Result<Opened<Workflow>, Error> {
    ctx.open(ctx.ops.store.workflow(id).await?, "Workflow", |_| Place::Workspace, permission)
}

fn named(what: &str, text: &str, longest: usize) -> Result<String, Error> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Error::bad_input(format!("The {what} is empty: give it one")));
    }
    if text.chars().count() > longest || text.contains('\0') {
        return Err(Error::bad_input(format!("The {what} is at most {longest} characters long and holds no NUL")));
    }
    Ok(text.to_owned())
}

fn described(text: &str) -> Result<String, Error> {
    if text.chars().count() > 2000 || text.contains('\0') {
        return Err(Error::bad_input("The description is at most 2000 characters long and holds no NUL"));
    }
    Ok(text.to_owned())
}

/// Nine lower-case base-36 characters for ids of nodes and edges.
fn suffix() -> String {
    const ALPHABET: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";
    rand::random::<[u8; 9]>().iter().map(|byte| char::from(ALPHABET[usize::from(*byte) % 36])).collect()
}

/// Workflows of the principal's workspace without their graphs, newest first.
///
/// # Errors
/// A bad cursor, or unauthenticated.
pub async fn workflows(ctx: &OpCtx, search: Option<&str>, page: &PageRequest) -> Result<Page<Workflow>, Error> {
    let tenant = home(ctx, Permission::Read)?;
    Ok(ctx.ops.store.workflows(tenant, search.filter(|text| !text.trim().is_empty()), &page.bounded()).await?)
}

/// One workflow with its graph, without its values for whoever may not read secrets.
///
/// # Errors
/// Not found.
pub async fn workflow_get(ctx: &OpCtx, id: WorkflowId) -> Result<Workflow, Error> {
    let Opened { tenant, mut row } = opened(ctx, id, Permission::Read).await?;
    if !sees_values(ctx, tenant) {
        row.graph.hide(&ctx.ops.settings.flow.catalogue);
    }
    Ok(row)
}

/// Makes a workflow: the Request node with its fields, and the Response node.
///
/// # Errors
/// A bad name or field, or a role below member.
pub async fn workflow_create(ctx: &OpCtx, name: &str, description: &str, fields: Vec<NewField>) -> Result<Workflow, Error> {
    let tenant = home(ctx, Permission::Write)?;
    let workflow = Workflow {
        id: WorkflowId::generate(),
        workspace_id: tenant.workspace(),
        user_id: owner(ctx)?,
        name: named("workflow name", name, 120)?,
        description: described(description)?,
        graph: Graph::scaffold(ctx.now.as_millisecond(), request_fields(fields.into_iter().map(|field| (None, field)).collect())?),
        version: 0,
        created_at: ctx.now,
        updated_at: ctx.now,
    };
    workflow.graph.check_size()?;
    let activity = ctx.activity(tenant, None, "workflow_create", domain::cuid(workflow.id.0), json!({"name": workflow.name}));
    ctx.commit(tenant, vec![Change::Workflow(WorkflowChange::Insert(workflow.clone())), activity]).await?;
    Ok(workflow)
}

/// Fields with their ids: those that are given, and others after the fields' names.
fn request_fields(fields: Vec<(Option<String>, NewField)>) -> Result<Vec<RequestField>, Error> {
    if fields.len() > MAX_FIELDS {
        return Err(Error::bad_input(format!("A workflow has at most {MAX_FIELDS} request fields")));
    }
    let mut ids: HashSet<String> = HashSet::new();
    for id in fields.iter().filter_map(|(id, _)| id.as_ref()) {
        if !is_field_id(id) {
            return Err(Error::bad_input("A field's id is field_ and letters, digits and _: leave it out for a new field"));
        }
        if !ids.insert(id.clone()) {
            return Err(Error::bad_input(format!("Two fields have the id {id}: leave it out for the new one")));
        }
    }
    let mut out: Vec<RequestField> = vec![];
    for (id, NewField { name, kind, value }) in fields {
        let name = named("field name", &name, 100)?;
        let slug = field_id(&name);
        let free = || std::iter::once(slug.clone()).chain((2..).map(|n| format!("{slug}_{n}"))).find(|id| !ids.contains(id));
        let id = id.or_else(free).unwrap_or(slug);
        ids.insert(id.clone());
        out.push(RequestField { id, name, kind, value });
    }
    Ok(out)
}

/// Whether an id is of the form that editors and [`field_id`] make.
fn is_field_id(id: &str) -> bool {
    let plain = |rest: &str| rest.len() <= 120 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    id.strip_prefix("field_").is_some_and(plain)
}

/// Renames or describes a workflow.
///
/// # Errors
/// A bad name, not found, or a role below member.
pub async fn workflow_update(ctx: &OpCtx, id: WorkflowId, name: Option<&str>, description: Option<&str>) -> Result<Workflow, Error> {
    let name = name.map(|text| named("workflow name", text, 120)).transpose()?;
    let description = description.map(described).transpose()?;
    let (workflow, ()) = edit(ctx, id, "workflow_update", |workflow| {
        if let Some(name) = &name {
            workflow.name.clone_from(name);
        }
        if let Some(description) = &description {
            workflow.description.clone_from(description);
        }
        Ok(())
    })
    .await?;
    Ok(workflow)
}

/// Deletes a workflow with its runs, files and triggers. Whether it was there: what is absent is deleted.
///
/// # Errors
/// A role below member.
pub async fn workflow_delete(ctx: &OpCtx, id: WorkflowId) -> Result<bool, Error> {
    let found = match opened(ctx, id, Permission::Write).await {
        Err(error) if error.code == Code::NotFound => return Ok(false),
        found => found?,
    };
    let activity = ctx.activity(found.tenant, None, "workflow_delete", domain::cuid(id.0), json!({"name": found.row.name}));
    match ctx.ops.store.commit(found.tenant, vec![Change::Workflow(WorkflowChange::Delete(id)), activity]).await {
        Err(StoreError::Stale) => Ok(false),
        outcome => outcome.map(|_| true).map_err(Error::from),
    }
}

/// Changes a workflow as its last version is. Others may change it at the same time: then the change is made to theirs.
async fn edit<T>(
    ctx: &OpCtx,
    id: WorkflowId,
    verb: &str,
    mut change: impl FnMut(&mut Workflow) -> Result<T, Error>,
) -> Result<(Workflow, T), Error> {
    for _ in 0..TRIES {
        let mut found = opened(ctx, id, Permission::Write).await?;
        let answer = change(&mut found.row)?;
        found.row.graph.check_size()?;
        found.row.updated_at = ctx.now;
        let activity = ctx.activity(found.tenant, None, verb, domain::cuid(id.0), json!({"name": found.row.name}));
        match ctx.ops.store.commit(found.tenant, vec![Change::Workflow(WorkflowChange::Update(found.row.clone())), activity]).await {
            Ok(_) => {
                found.row.version += 1;
                return Ok((found.row, answer));
            }
            Err(StoreError::Stale) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Err(Error::conflict("Many others change this workflow at the same time: try again"))
}

/// Puts a whole graph in the place of the one that is there: what an editor saves.
///
/// # Errors
/// A graph that breaks a rule, a version that is no longer the last, not found, or a role below member.
pub async fn workflow_graph_set(ctx: &OpCtx, id: WorkflowId, version: Option<u32>, graph: Graph) -> Result<Workflow, Error> {
    graph.check(&ctx.ops.settings.flow.catalogue)?;
    let (workflow, ()) = edit(ctx, id, "workflow_graph_set", |workflow| {
        if version.is_some_and(|version| version != workflow.version) {
            return Err(Error::conflict("The workflow was changed in the meantime: read it again and repeat"));
        }
        workflow.graph = graph.clone();
        Ok(())
    })
    .await?;
    Ok(workflow)
}

/// Adds a node. The answer is the workflow and the node's id.
///
/// # Errors
/// An unknown type, wrong inputs, not found, or a role below member.
pub async fn node_add(
    ctx: &OpCtx,
    id: WorkflowId,
    kind: &str,
    place: NodePlace,
    inputs: Map<String, Value>,
    mode: Option<String>,
) -> Result<(Workflow, String), Error> {
    let node = format!("node_{}_{}", ctx.now.as_millisecond(), suffix());
    edit(ctx, id, "node_add", |workflow| {
        let new = NewNode { id: node.clone(), kind: kind.to_owned(), place, inputs: inputs.clone(), mode: mode.clone() };
        workflow.graph.add_node(&ctx.ops.settings.flow.catalogue, new)?;
        Ok(node.clone())
    })
    .await
}

/// Changes a node.
///
/// # Errors
/// Wrong inputs, not found, or a role below member.
pub async fn node_update(ctx: &OpCtx, id: WorkflowId, node: &str, change: NodeChange) -> Result<Workflow, Error> {
    let label = change.label.as_deref().map(|text| named("label", text, 120)).transpose()?;
    let fields = change.fields.map(request_fields).transpose()?;
    let (workflow, ()) = edit(ctx, id, "node_update", |workflow| {
        if let Some(fields) = &fields {
            workflow.graph.set_fields(&ctx.ops.settings.flow.catalogue, node, fields.clone())?;
        }
        workflow.graph.set_inputs(&ctx.ops.settings.flow.catalogue, node, change.inputs.clone())?;
        if let Some(policy) = change.policy {
            workflow.graph.set_policy(node, policy)?;
        }
        let found = workflow.graph.node_mut(node)?;
        found.position = change.position.unwrap_or(found.position);
        if let Some(label) = &label {
            found.data.label.clone_from(label);
        }
        Ok(())
    })
    .await?;
    Ok(workflow)
}

/// Deletes a node with its edges. Whether it was there.
///
/// # Errors
/// It belongs to the scaffold, the workflow is not found, or a role below member.
pub async fn node_delete(ctx: &OpCtx, id: WorkflowId, node: &str) -> Result<bool, Error> {
    if opened(ctx, id, Permission::Write).await?.row.graph.node(node).is_none() {
        return Ok(false);
    }
    Ok(edit(ctx, id, "node_delete", |workflow| Ok(workflow.graph.remove_node(node)?)).await?.1)
}

/// Connects two nodes.
///
/// # Errors
/// Unknown nodes or ports, types that do not fit, a cycle, an input that is taken, not found, or a role below member.
pub async fn nodes_connect(ctx: &OpCtx, id: WorkflowId, source: (&str, &str), target: (&str, &str)) -> Result<Connected, Error> {
    let edge = format!("edge_{}_{}", ctx.now.as_millisecond(), suffix());
    let (_, connected) = edit(ctx, id, "nodes_connect", |workflow| {
        let new = NewEdge {
            id: edge.clone(),
            source: source.0.to_owned(),
            source_handle: source.1.to_owned(),
            target: target.0.to_owned(),
            target_handle: target.1.to_owned(),
        };
        Ok(workflow.graph.connect(&ctx.ops.settings.flow.catalogue, new)?)
    })
    .await?;
    Ok(connected)
}

/// Deletes an edge. Whether it was there.
///
/// # Errors
/// The workflow is not found, or a role below member.
pub async fn nodes_disconnect(ctx: &OpCtx, id: WorkflowId, edge: &str) -> Result<bool, Error> {
    if !opened(ctx, id, Permission::Write).await?.row.graph.edges.iter().any(|known| known.id == edge) {
        return Ok(false);
    }
    Ok(edit(ctx, id, "nodes_disconnect", |workflow| Ok(workflow.graph.disconnect(edge))).await?.1)
}

#[cfg(test)]
mod tests {
    use domain::workflow::PortType;
    use serde_json::Value;

    use super::{FlowSettings, NewField, request_fields};

    #[test]
    fn fields_keep_their_ids_and_new_ones_take_none_of_them() {
        let field = |id: Option<&str>, name: &str| {
            (id.map(str::to_owned), NewField { name: name.into(), kind: PortType::Text, value: Value::Null })
        };
        let ids = |fields| request_fields(fields).map(|all| all.into_iter().map(|field| field.id).collect::<Vec<_>>());
        let found = ids(vec![field(None, "Car"), field(Some("field_car"), "Other"), field(Some("field_1777671164161_a1b2c3d4e"), "x")]);
        assert_eq!(found.ok(), Some(["field_car_2", "field_car", "field_1777671164161_a1b2c3d4e"].map(str::to_owned).to_vec()));
        for wrong in [vec![field(Some("result"), "a")], vec![field(Some("field_a"), "a"), field(Some("field_a"), "b")]] {
            assert!(ids(wrong).is_err());
        }
    }

    #[test]
    fn a_type_has_its_price_under_both_names() {
        let settings = FlowSettings { prices: [("http_request".to_owned(), 7)].into(), ..FlowSettings::default() };
        assert_eq!(["http_request", "x_http_request", "merge"].map(|kind| settings.price(kind)), [7, 7, 0]);
    }
}
