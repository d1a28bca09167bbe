//! Runs: started here, executed by the engine (`contracts/flow.md` 1.1 to 1.3, 1.7).

use std::net::IpAddr;
use std::sync::Arc;

use base64::Engine as _;
use domain::delivery::{Delivery, DeliveryAttempt, DeliveryState, Target};
use domain::page::Page;
use domain::workflow::edit::Refusal;
use domain::workflow::hide::HIDDEN;
use domain::workflow::run::{EVENTS, NodeRun, Run, RunSource, RunStatus, Subject, Webhook};
use domain::workflow::template::Template;
use domain::workflow::{Graph, Node, NodeData, Policy, Position, Workflow};
use domain::{Code, DeliveryId, GraphId, Permission, Place, RunId, Sealed, Tenant, Timestamp, WorkflowId};
use secrecy::SecretString;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use store::{Change, RunChange, RunQuery, StoreError, WorkflowChange};

use crate::context::Opened;
use crate::workflow::{home, owner, sees_values};
use crate::{Error, OpCtx, Ops};

/// What a run is started with.
#[derive(Clone, Debug)]
pub struct RunStart {
    /// A workflow's id, or a template's slug.
    pub workflow: String,
    /// Node id -> field -> value.
    pub values: Map<String, Value>,
    /// Node id -> input -> value: wins over what nodes were told.
    pub input_overrides: Map<String, Value>,
    /// Nodes that replace those of the same id, or that are added.
    pub node_overrides: Vec<Node>,
    /// Whom it tells.
    pub webhook: Option<Webhook>,
    /// Where it comes from.
    pub source: RunSource,
}

/// A run and what is known of its nodes.
#[derive(Clone, Debug, PartialEq)]
pub struct RunView {
    /// The run.
    pub run: Run,
    /// Its nodes, in the order in which they began.
    pub nodes: Vec<NodeRun>,
}

impl RunView {
    /// Without values for whoever may not read secrets.
    fn shown(mut self, ctx: &OpCtx, tenant: Tenant) -> Self {
        if !sees_values(ctx, tenant) {
            self.run.hide();
            self.nodes.iter_mut().for_each(NodeRun::hide);
        }
        self
    }
}

/// Runs that a batch asks for at the most.
pub const MAX_BATCH: usize = 500;
/// What several runs of a batch may hold together, in bytes.
const MAX_BATCH_BYTES: i64 = 64 << 20;

/// The refusal of a run that costs more than there is.
pub(crate) fn insufficient() -> Error {
    Error::new(Code::PlanLimit, "Insufficient credits: this run costs more than the account has left")
}

/// Starts a workflow, or a template by its slug.
///
/// # Errors
/// Not found, a graph that cannot run, or a role below member.
pub async fn run_start(ctx: &OpCtx, start: RunStart) -> Result<RunId, Error> {
    prepare(ctx, start).await?.commit(ctx, vec![]).await
}

/// A run that is checked and not committed.
pub(crate) struct Prepared {
    pub(crate) id: RunId,
    tenant: Tenant,
    pub(crate) changes: Vec<Change>,
}

impl Prepared {
    /// What it sets aside of the account's allowance, in microcredits.
    pub(crate) fn reserved(&self) -> i64 {
        let of = |change: &Change| if let Change::Run(RunChange::Reserve { credits, .. }) = change { *credits } else { 0 };
        self.changes.iter().map(of).sum()
    }

    /// Begins it together with other changes: both, or neither.
    pub(crate) async fn commit(self, ctx: &OpCtx, more: Vec<Change>) -> Result<RunId, Error> {
        let Self { id, tenant, mut changes } = self;
        changes.extend(more);
        ctx.commit(tenant, changes).await?;
        ctx.ops.signals.ring_runs();
        Ok(id)
    }
}

/// As [`run_start`], up to what is to be committed.
pub(crate) async fn prepare(ctx: &OpCtx, start: RunStart) -> Result<Prepared, Error> {
    check_webhook(ctx, start.webhook.as_ref())?;
    let (tenant, subject, mut graph) = subject(ctx, &start.workflow).await?;
    let catalogue = &ctx.ops.settings.flow.catalogue;
    let mut values = start.values;
    for node in start.node_overrides {
        keep_as_text(&mut values, &node.id, &node.data.inputs);
        match graph.nodes.iter_mut().find(|known| known.id == node.id) {
            Some(known) => *known = node,
            None => graph.nodes.push(node),
        }
    }
    for (node, inputs) in start.input_overrides {
        let Value::Object(inputs) = inputs else {
            return Err(Error::bad_input(format!("graphInputOverrides.{node} must be an object of inputs")));
        };
        keep_as_text(&mut values, &node, &inputs);
        graph.set_inputs(catalogue, &node, inputs)?;
    }
    graph.check(catalogue)?;
    launch(ctx, Launch { tenant, subject, graph, values, webhook: start.webhook, source: start.source }).await
}

/// Keeps what a caller puts into nodes from being taken for the workflow's own words: as a value, a reference to a variable is text. An
/// application may well hand on there what a visitor wrote.
fn keep_as_text(values: &mut Map<String, Value>, node: &str, inputs: &Map<String, Value>) {
    for (name, value) in inputs.iter().filter(|(_, value)| domain::variable::refers(value)) {
        let given = values.entry(node).or_insert(Value::Null);
        if !given.is_object() {
            *given = Value::Object(Map::new());
        }
        if let Value::Object(given) = given {
            given.entry(name.as_str()).or_insert_with(|| value.clone());
        }
    }
}

/// As [`prepare`], for a workflow that is at hand and runs as it is.
pub(crate) async fn prepare_opened(
    ctx: &OpCtx,
    opened: &Opened<Workflow>,
    values: Map<String, Value>,
    source: RunSource,
) -> Result<Prepared, Error> {
    let Opened { tenant, row } = opened;
    row.graph.check(&ctx.ops.settings.flow.catalogue)?;
    let subject = Subject::Workflow { id: row.id, name: row.name.clone() };
    launch(ctx, Launch { tenant: *tenant, subject, graph: row.graph.clone(), values, webhook: None, source }).await
}

/// What a client calls a workflow: an id, or the slug of a template.
async fn subject(ctx: &OpCtx, name: &str) -> Result<(Tenant, Subject, Graph), Error> {
    if let Some(template) = Template::of(name) {
        let tenant = home(ctx, Permission::Write)?;
        let graph = template.graph(&ctx.ops.settings.flow.catalogue)?;
        return Ok((tenant, Subject::Template { slug: template.slug.to_owned() }, graph));
    }
    let id = domain::parse_cuid(name).map(WorkflowId).ok_or_else(|| Error::not_found("Workflow"))?;
    let found = ctx.open(ctx.ops.store.workflow(id).await?, "Workflow", |_| Place::Workspace, Permission::Write)?;
    Ok((found.tenant, Subject::Workflow { id, name: found.row.name }, found.row.graph))
}

/// Runs one node by itself.
///
/// # Errors
/// An unknown type, an input that it does not take, or a role below member.
pub async fn node_run_start(
    ctx: &OpCtx,
    kind: &str,
    sub_model: Option<String>,
    input: Map<String, Value>,
    webhook: Option<Webhook>,
    source: RunSource,
) -> Result<RunId, Error> {
    check_webhook(ctx, webhook.as_ref())?;
    let catalogue = &ctx.ops.settings.flow.catalogue;
    let known = catalogue.get(kind).filter(|known| !domain::workflow::is_scaffold(&known.key));
    let known = known.ok_or_else(|| Refusal::UnknownType(kind.chars().take(80).collect()))?;
    for required in known.inputs.iter().filter(|field| field.required) {
        if input.get(required.name).is_none_or(Value::is_null) {
            return Err(Error::bad_input(format!("{}: required, and nothing was given", required.name)));
        }
    }
    let tenant = home(ctx, Permission::Write)?;
    let node = Node {
        id: format!("node_0_{}", known.key),
        kind: known.key.to_string(),
        position: Position::default(),
        data: NodeData { label: known.name.to_string(), ..NodeData::default() },
    };
    let mut graph = Graph { nodes: vec![node], ..Graph::default() };
    let id = graph.nodes[0].id.clone();
    graph.set_inputs(catalogue, &id, input.clone())?;
    // The graph stays the same for every direct run of the type; what differs is what the caller gave.
    graph.nodes[0].data = NodeData { inputs: Map::new(), policy: Policy::default(), ..graph.nodes[0].data.clone() };
    let values = Map::from_iter([(id, Value::Object(input))]);
    let subject = Subject::Node { kind: known.key.to_string(), sub_model };
    launch(ctx, Launch { tenant, subject, graph, values, webhook, source }).await?.commit(ctx, vec![]).await
}

struct Launch {
    tenant: Tenant,
    subject: Subject,
    graph: Graph,
    values: Map<String, Value>,
    webhook: Option<Webhook>,
    source: RunSource,
}

async fn launch(ctx: &OpCtx, launch: Launch) -> Result<Prepared, Error> {
    let Launch { tenant, subject, graph, values, webhook, source } = launch;
    let body = serde_json::to_string(&graph).map_err(|error| Error::internal("a graph as text", error))?;
    let hash: [u8; 32] = Sha256::digest(body.as_bytes()).into();
    let graph_id = GraphId(uuid::Builder::from_slice(&hash[..16]).map_err(|error| Error::internal("a hash as id", error))?.into_uuid());
    let node_count = graph.processing().count();
    let settings = &ctx.ops.settings.flow;
    let estimated: i64 = graph.processing().map(|node| settings.price(&node.kind)).sum();
    if estimated > 0 && settings.allowance - ctx.ops.store.flow_credits(tenant).await? < estimated {
        return Err(insufficient());
    }
    let run = Run {
        id: RunId::generate(),
        workspace_id: tenant.workspace(),
        user_id: owner(ctx)?,
        key_id: ctx.principal.limited().map(|(id, ..)| id),
        subject,
        graph_id,
        values,
        source,
        status: RunStatus::Queued,
        error: None,
        node_count: u32::try_from(node_count).unwrap_or(u32::MAX),
        single_node: graph.processing().next().filter(|_| node_count == 1).map(|node| node.id.clone()),
        estimated,
        credits: 0,
        created_at: ctx.now,
        started_at: None,
        finished_at: None,
    };
    let id = run.id;
    let data = json!({"workflow": wire_subject(&run.subject), "source": source.as_str()});
    let mut changes = vec![
        Change::Workflow(WorkflowChange::GraphKeep { id: graph_id, body: Arc::from(body), at: ctx.now }),
        Change::Run(RunChange::Insert { run, webhook }),
        ctx.activity(tenant, None, "run_start", id, data),
    ];
    if estimated > 0 {
        // Decided by the commit; what was read before makes the better words.
        changes.push(Change::Run(RunChange::Reserve { credits: estimated, allowance: settings.allowance }));
    }
    Ok(Prepared { id, tenant, changes })
}

/// What clients call the thing that runs: a workflow's id, a template's slug, a type's key.
#[must_use]
pub fn wire_subject(subject: &Subject) -> String {
    match subject {
        Subject::Workflow { id, .. } => domain::cuid(id.0),
        Subject::Template { slug } => slug.clone(),
        Subject::Node { kind, .. } => kind.clone(),
    }
}

/// The address that an http URL names by its number. What is on the way there is the operator's to know.
fn literal(url: &str) -> Option<IpAddr> {
    let authority = url.strip_prefix("http://")?.split(['/', '?', '#', '\\']).next().filter(|authority| !authority.contains('@'))?;
    let host = match authority.strip_prefix('[') {
        Some(rest) => rest.split_once(']')?.0,
        None => authority.split(':').next()?,
    };
    host.parse().ok()
}

fn check_webhook(ctx: &OpCtx, webhook: Option<&Webhook>) -> Result<(), Error> {
    let Some(webhook) = webhook else { return Ok(()) };
    let allow = &ctx.ops.settings.flow.outgoing_allow;
    let allowed = |address| allow.iter().any(|network| network.contains(address));
    let secure = webhook.url.starts_with("https://") || literal(&webhook.url).is_some_and(allowed);
    if !secure || webhook.url.len() > 2000 || webhook.url.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Error::bad_input("webhook.url must be an https URL of at most 2000 characters"));
    }
    let unknown = webhook.events.iter().flatten().find(|event| !EVENTS.contains(&event.as_str()));
    if let Some(event) = unknown {
        let event: String = event.chars().take(80).collect();
        return Err(Error::bad_input(format!("webhook.events: {event:?} is none of {}", EVENTS.join(", "))));
    }
    if webhook.headers.len() > 20 || webhook.headers.values().any(|value| value.as_str().is_none_or(|text| text.len() > 2000)) {
        return Err(Error::bad_input("webhook.headers is an object of at most 20 texts"));
    }
    Ok(())
}

fn open(ctx: &OpCtx, found: Option<Sealed<Run>>, permission: Permission) -> Result<Opened<Run>, Error> {
    ctx.open(found, "Run", |_| Place::Workspace, permission)
}

/// One run, with its nodes when they are wanted, without values for whoever may not read secrets.
///
/// # Errors
/// Not found.
pub async fn run_get(ctx: &OpCtx, id: RunId, nodes: bool) -> Result<RunView, Error> {
    let found = open(ctx, ctx.ops.store.run(id).await?, Permission::Read)?;
    let nodes = if nodes { ctx.ops.store.node_runs_of(found.tenant, &[id]).await?.remove(&id).unwrap_or_default() } else { vec![] };
    Ok(RunView { run: found.row, nodes }.shown(ctx, found.tenant))
}

/// Runs of the principal's workspace without what they were given, newest first.
///
/// # Errors
/// A bad cursor, or unauthenticated.
pub async fn runs(ctx: &OpCtx, query: RunQuery, first: u32, after: Option<String>) -> Result<Page<Run>, Error> {
    let tenant = home(ctx, Permission::Read)?;
    let mut page = ctx.ops.store.runs(tenant, query, first, after).await?;
    if !sees_values(ctx, tenant) {
        page.items.iter_mut().for_each(Run::hide);
    }
    Ok(page)
}

/// The newest run of each of these workflows of the principal's workspace that has one, without what it was given.
///
/// # Errors
/// Unauthenticated.
pub async fn runs_last_of(ctx: &OpCtx, workflows: &[WorkflowId]) -> Result<Vec<Run>, Error> {
    let tenant = home(ctx, Permission::Read)?;
    let mut found = ctx.ops.store.runs_last_of(tenant, workflows).await?;
    if !sees_values(ctx, tenant) {
        found.iter_mut().for_each(Run::hide);
    }
    Ok(found)
}

/// Those of the runs that there are, in the order in which they were asked for.
///
/// # Errors
/// Too many or too large at once, or unauthenticated.
pub async fn runs_batch(ctx: &OpCtx, ids: &[RunId]) -> Result<Vec<RunView>, Error> {
    if ids.len() > MAX_BATCH {
        return Err(Error::bad_input(format!("At most {MAX_BATCH} runs at once: ask several times")));
    }
    let tenant = home(ctx, Permission::Read)?;
    let mut found = ctx.ops.store.runs_by_id(tenant, ids).await?;
    let known: Vec<RunId> = found.iter().map(|run| run.id).collect();
    if known.len() > 1 && ctx.ops.store.node_runs_bytes(tenant, &known).await? > MAX_BATCH_BYTES {
        let words = format!("These runs hold more than {MAX_BATCH_BYTES} bytes together: ask for fewer at once, or for one");
        return Err(Error::new(Code::TooLarge, words));
    }
    let mut nodes = ctx.ops.store.node_runs_of(tenant, &known).await?;
    found.sort_by_key(|run| ids.iter().position(|id| *id == run.id));
    let view = |run: Run| RunView { nodes: nodes.remove(&run.id).unwrap_or_default(), run }.shown(ctx, tenant);
    Ok(found.into_iter().map(view).collect())
}

/// Stops a run.
///
/// # Errors
/// It is over already, not found, or a role below member.
pub async fn run_cancel(ctx: &OpCtx, id: RunId) -> Result<Run, Error> {
    let found = open(ctx, ctx.ops.store.run(id).await?, Permission::Write)?;
    let over = |run: &Run| Error::conflict(format!("This run is over already ({}): nothing is left to cancel", run.status.as_str()));
    if found.row.status.is_over() {
        return Err(over(&found.row));
    }
    let activity = ctx.activity(found.tenant, None, "run_cancel", id, json!({"workflow": wire_subject(&found.row.subject)}));
    let mut changes = vec![Change::Run(RunChange::Cancel { id, at: ctx.now }), activity];
    let teller = Teller::of(&ctx.ops, found.tenant, &found.row).await?;
    let canceled = Run { status: RunStatus::Canceled, finished_at: Some(ctx.now), ..found.row.clone() };
    if let Some(teller) = teller {
        let (completed, failed) = ctx.ops.store.node_runs_over(found.tenant, id).await?;
        let progress = Progress { completed, failed, ..Progress::default() };
        changes.extend(teller.message(&canceled, canceled.status, "run.canceled", progress, ctx.now).map(Change::DeliveryInsert));
    }
    match ctx.ops.store.commit(found.tenant, changes).await {
        Ok(_) => {}
        Err(StoreError::Stale) => return Err(over(&run_get(ctx, id, false).await?.run)),
        Err(error) => return Err(error.into()),
    }
    ctx.ops.signals.run_canceled(id);
    ctx.ops.signals.ring_runs();
    ctx.ops.signals.ring();
    Ok(canceled)
}

/// What is left of the account's allowance, in microcredits.
///
/// # Errors
/// Unauthenticated.
pub async fn credits(ctx: &OpCtx) -> Result<i64, Error> {
    let tenant = home(ctx, Permission::Read)?;
    Ok(ctx.ops.settings.flow.allowance - ctx.ops.store.flow_credits(tenant).await?)
}

/// The secret that the webhooks of the account's runs are signed with.
///
/// # Errors
/// A role below member.
pub async fn webhook_secret(ctx: &OpCtx) -> Result<SecretString, Error> {
    let tenant = home(ctx, Permission::Write)?;
    Ok(ctx.ops.store.flow_secret(tenant, &fresh_secret()).await?.into())
}

pub(crate) fn fresh_secret() -> String {
    format!("whsec_{}", base64::engine::general_purpose::STANDARD.encode(rand::random::<[u8; 24]>()))
}

/// The kind of the messages that runs send.
pub const DELIVERIES: &str = "run";

/// What was sent to a run's webhook, with the attempts, newest first; without words for whoever may not read secrets.
///
/// # Errors
/// Not found.
pub async fn run_deliveries(ctx: &OpCtx, id: RunId) -> Result<Vec<(Delivery, Vec<DeliveryAttempt>)>, Error> {
    let tenant = open(ctx, ctx.ops.store.run(id).await?, Permission::Read)?.tenant;
    let mut found = ctx.ops.store.deliveries_with_attempts(tenant, DELIVERIES, &id.to_string(), 500).await?;
    if !sees_values(ctx, tenant) {
        // It repeats why something failed, and what the webhook was given; so may the words of whoever answered.
        for (delivery, attempts) in &mut found {
            HIDDEN.clone_into(&mut delivery.body);
            attempts.iter_mut().filter_map(|attempt| attempt.error.as_mut()).for_each(|error| HIDDEN.clone_into(error));
        }
    }
    Ok(found)
}

/// Sends a message of a run again.
///
/// # Errors
/// It is still under way, not found, or a role below member.
pub async fn run_delivery_replay(ctx: &OpCtx, id: RunId, delivery: DeliveryId) -> Result<Delivery, Error> {
    let tenant = open(ctx, ctx.ops.store.run(id).await?, Permission::Write)?.tenant;
    let found = ctx.ops.store.delivery(delivery).await?.and_then(|sealed| sealed.open(tenant));
    let found = found.filter(|found| found.kind == DELIVERIES && found.subject == id.to_string());
    let found = found.ok_or_else(|| Error::not_found("Delivery"))?;
    let replay = Change::DeliveryReplay { id: delivery, at: ctx.now };
    let activity = ctx.activity(tenant, None, "run_delivery_replay", delivery, json!({"run": id.to_string()}));
    match ctx.ops.store.commit(tenant, vec![replay, activity]).await {
        Err(StoreError::Stale) => return Err(Error::conflict("This message is still under way: wait for its end")),
        outcome => outcome?,
    };
    ctx.ops.signals.ring();
    Ok(Delivery { state: DeliveryState::Pending, next_at: ctx.now, updated_at: ctx.now, ..found })
}

/// How far a run is, for those whom it tells.
#[derive(Clone, Copy, Debug, Default)]
pub struct Progress<'a> {
    /// Nodes that have given their output.
    pub completed: u32,
    /// Nodes that have failed.
    pub failed: u32,
    /// The node that an event is about, with its type.
    pub node: Option<(&'a str, &'a str)>,
    /// Why it failed.
    pub error: Option<&'a str>,
}

/// Makes the messages of a run to its webhook.
#[derive(Clone)]
pub struct Teller {
    webhook: Webhook,
    secret: String,
}

impl Teller {
    /// Of a run; `None` when it tells nobody.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn of(ops: &Ops, tenant: Tenant, run: &Run) -> Result<Option<Self>, StoreError> {
        let Some(webhook) = ops.store.run_webhook(tenant, run.id).await? else { return Ok(None) };
        Ok(Some(Self { webhook, secret: ops.store.flow_secret(tenant, &fresh_secret()).await? }))
    }

    /// The message of an event, with the status that the run has then, if the webhook wants to hear of it (`contracts/flow.md` 1.10).
    #[must_use]
    pub fn message(&self, run: &Run, status: RunStatus, event: &str, progress: Progress<'_>, now: Timestamp) -> Option<Delivery> {
        let direct = matches!(run.subject, Subject::Node { .. });
        if !self.webhook.wants(event) || (direct && !matches!(event, "run.started" | "run.completed" | "run.failed")) {
            return None;
        }
        let mut data = json!({"status": status.as_str(), "completedNodes": progress.completed, "failedNodes": progress.failed});
        if let Some((id, kind)) = progress.node {
            data["nodeId"] = id.into();
            data["nodeType"] = kind.into();
        }
        let nothing = json!({});
        let body = json!({
            "success": !event.ends_with(".failed"),
            "type": event,
            "runId": if direct { domain::cuid(run.id.0) } else { run.id.to_string() },
            "workflowId": wire_subject(&run.subject),
            "data": data,
            "metadata": if self.webhook.metadata.is_null() { &nothing } else { &self.webhook.metadata },
            "error": progress.error,
            "createdAt": now.to_string(),
        });
        let headers = self.webhook.headers.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())));
        Some(Delivery {
            id: DeliveryId::generate(),
            workspace_id: run.workspace_id,
            kind: DELIVERIES.to_owned(),
            subject: run.id.to_string(),
            target: Target::Webhook { url: self.webhook.url.clone(), headers: headers.collect(), secret: Some(self.secret.clone()) },
            body: body.to_string(),
            state: DeliveryState::Pending,
            attempts: 0,
            tries: 0,
            next_at: now,
            created_at: now,
            updated_at: now,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::literal;

    #[test]
    fn only_a_number_is_an_address() {
        let of = |url| literal(url).map(|address| address.to_string());
        for (url, address) in [("http://127.0.0.1/a", "127.0.0.1"), ("http://10.1.2.3:80?x", "10.1.2.3"), ("http://[::1]:8080/", "::1")] {
            assert_eq!(of(url).as_deref(), Some(address), "{url}");
        }
        for url in ["http://localhost/", "http://127.0.0.1.example.com/", "http://127.0.0.1:x@example.com/", "ftp://127.0.0.1/", "http://"]
        {
            assert_eq!(of(url), None, "{url}");
        }
    }
}
