//! Workflows, the frozen graphs of their runs, and what starts them. Graphs that no run uses go after a day; the rest stays until it is
//! deleted.

use std::sync::Arc;

use domain::page::{Page, PageRequest};
use domain::workflow::run::{FlowFile, FlowTrigger, Start};
use domain::workflow::{Graph, Workflow};
use domain::{FlowTriggerId, GraphId, Sealed, Tenant, Timestamp, UserId, WorkflowId, WorkspaceId};

use crate::executor::{BadCell, Named, Record, Sql, Statement};
use crate::kept::{Kept, body_place, graph_place, seal, spec_place};
use crate::vault::Vault;
use crate::{Store, StoreError, flow_file, page, run};

macro_rules! columns {
    () => {
        columns!("workflows.graph, workflows.sealed_graph")
    };
    ($graph:literal) => {
        concat!(
            "workflows.id, workflows.workspace_id, workflows.user_id, workflows.name, workflows.description, ",
            $graph,
            ", workflows.version, workflows.created_at, workflows.updated_at"
        )
    };
}

macro_rules! page_of {
    ($which:literal, $order:literal) => {
        concat!(
            "SELECT ",
            columns!("'{}', NULL"),
            " FROM workflows WHERE workspace_id = $workspace AND id > $above AND id < $below",
            $which,
            " ORDER BY id ",
            $order,
            " LIMIT $limit"
        )
    };
}

macro_rules! trigger_columns {
    () => {
        "flow_triggers.id, flow_triggers.workspace_id, flow_triggers.workflow_id, flow_triggers.user_id, flow_triggers.spec, \
         flow_triggers.sealed_spec, flow_triggers.enabled, flow_triggers.next_at, flow_triggers.last_at, flow_triggers.created_at"
    };
}

statements! {
    WORKFLOW = concat!("SELECT ", columns!(), " FROM workflows WHERE id = $id");
    WORKFLOWS = page_of!("", "DESC");
    WORKFLOWS_FROM_END = page_of!("", "ASC");
    WORKFLOWS_NAMED = page_of!(" AND LOWER(name) LIKE $search ESCAPE '\\'", "DESC");
    WORKFLOWS_NAMED_FROM_END = page_of!(" AND LOWER(name) LIKE $search ESCAPE '\\'", "ASC");
    WORKFLOW_INSERT =
        "INSERT INTO workflows (id, workspace_id, user_id, name, description, graph, sealed_graph, version, created_at, updated_at) \
         VALUES ($id, $workspace, $user, $name, $description, '', $graph, $version, $created, $updated)";
    /// The version before is the one that was read.
    WORKFLOW_UPDATE =
        "UPDATE workflows SET name = $name, description = $description, graph = '', sealed_graph = $graph, version = version + 1, \
         updated_at = $updated WHERE id = $id AND workspace_id = $workspace AND version = $version";
    WORKFLOW_DELETE = "DELETE FROM workflows WHERE id = $id AND workspace_id = $workspace";
    GRAPH = "SELECT body, sealed_body FROM flow_graphs WHERE workspace_id = $workspace AND id = $id";
    GRAPH_KEEP =
        "INSERT INTO flow_graphs (workspace_id, id, body, sealed_body, used_at) VALUES ($workspace, $id, '', $body, $now) \
         ON CONFLICT (workspace_id, id) DO UPDATE SET used_at = excluded.used_at";
    GRAPHS_FORGET =
        "DELETE FROM flow_graphs WHERE used_at < $over AND NOT EXISTS \
         (SELECT 1 FROM runs WHERE runs.workspace_id = flow_graphs.workspace_id AND runs.graph_id = flow_graphs.id)";
    TRIGGER = concat!("SELECT ", trigger_columns!(), " FROM flow_triggers WHERE id = $id");
    TRIGGER_BY_HASH = concat!("SELECT ", trigger_columns!(), " FROM flow_triggers WHERE hash = $hash");
    TRIGGERS_OF_WORKFLOW = concat!(
        "SELECT ",
        trigger_columns!(),
        " FROM flow_triggers WHERE workflow_id = $workflow AND workspace_id = $workspace ORDER BY id"
    );
    TRIGGERS_OF_EVENTS = concat!(
        "SELECT flow_triggers.id, ",
        trigger_columns!(),
        " FROM flow_triggers WHERE workspace_id = $workspace AND kind = 'event' AND enabled = TRUE ORDER BY id"
    );
    SYSTEM_FLOW_TRIGGER_NEXT =
        "SELECT next_at FROM flow_triggers WHERE next_at IS NOT NULL AND enabled = TRUE ORDER BY next_at LIMIT 1";
    SYSTEM_TRIGGERS_DUE = concat!(
        "SELECT flow_triggers.id, ",
        trigger_columns!(),
        " FROM flow_triggers WHERE next_at <= $now AND enabled = TRUE ORDER BY next_at LIMIT $limit"
    );
    SYSTEM_FLOW_TRIGGER_GIVE_UP = "UPDATE flow_triggers SET enabled = FALSE, next_at = NULL WHERE id = $id";
    TRIGGER_INSERT =
        "INSERT INTO flow_triggers (id, workspace_id, workflow_id, user_id, kind, spec, sealed_spec, hash, enabled, next_at, last_at, \
         created_at) VALUES ($id, $workspace, $workflow, $user, $kind, '', $spec, $hash, $enabled, $next, $last, $created)";
    TRIGGER_DELETE = "DELETE FROM flow_triggers WHERE id = $id AND workspace_id = $workspace";
    TRIGGER_SWITCH = "UPDATE flow_triggers SET enabled = $enabled, next_at = $next WHERE id = $id AND workspace_id = $workspace";
    TRIGGER_ROTATE = "UPDATE flow_triggers SET hash = $hash WHERE id = $id AND workspace_id = $workspace AND hash IS NOT NULL";
    TRIGGER_FIRED = "UPDATE flow_triggers SET last_at = $at WHERE id = $id AND workspace_id = $workspace AND enabled = TRUE";
    /// Of several control planes, one moves it on.
    TRIGGER_MOVE =
        "UPDATE flow_triggers SET next_at = $next, last_at = $last WHERE id = $id AND workspace_id = $workspace AND next_at = $was";
}

/// A change of a workflow, its files or what starts it, as [`crate::Change::Workflow`] carries it.
#[derive(Clone, Debug)]
pub enum WorkflowChange {
    /// A new workflow.
    Insert(Workflow),
    /// Name, description and graph, if the version is still the one that was read.
    Update(Workflow),
    /// The workflow with its runs and triggers; its files have expired from then on.
    Delete(WorkflowId),
    /// A frozen graph, if it is not there yet.
    GraphKeep {
        /// By its content.
        id: GraphId,
        /// As JSON.
        body: Arc<str>,
        /// When.
        at: Timestamp,
    },
    /// A new file of the account, if there is room for it.
    FileInsert {
        /// The file.
        file: FlowFile,
        /// What all files of the account may take together, in bytes.
        most: i64,
    },
    /// A new trigger of a workflow.
    TriggerInsert {
        /// The trigger.
        trigger: FlowTrigger,
        /// The hash of its URL's secret.
        hash: Option<[u8; 32]>,
    },
    /// A trigger of a workflow.
    TriggerDelete(FlowTriggerId),
    /// A trigger is switched on or off.
    TriggerSwitch {
        /// Which.
        id: FlowTriggerId,
        /// Whether it starts something from now on.
        enabled: bool,
        /// When next, of a schedule.
        next: Option<Timestamp>,
    },
    /// The URL of a trigger has another secret; the one before is void.
    TriggerRotate {
        /// Which.
        id: FlowTriggerId,
        /// The secret's hash.
        hash: [u8; 32],
    },
    /// A trigger without a clock starts something, provided that it is still switched on.
    TriggerFired {
        /// Which.
        id: FlowTriggerId,
        /// When.
        at: Timestamp,
    },
    /// A trigger has its next time, if it still has the one that was read.
    TriggerMove {
        /// Which.
        id: FlowTriggerId,
        /// The time that was read.
        was: Timestamp,
        /// The next one.
        next: Option<Timestamp>,
        /// When it last started something.
        last: Option<Timestamp>,
    },
}

/// A workflow before its graph is opened.
fn row(r: &mut Record) -> Result<(Workflow, Kept), BadCell> {
    let (id, workspace_id, user_id) = (r.id(WorkflowId)?, r.id(WorkspaceId)?, r.id(UserId)?);
    let (name, description, graph) = (r.text()?, r.text()?, Kept::read(r)?);
    let (version, created_at, updated_at) = (r.number()?, r.time()?, r.time()?);
    let row = Workflow { id, workspace_id, user_id, name, description, graph: Graph::default(), version, created_at, updated_at };
    Ok((row, graph))
}

/// A workflow as lists have it.
fn bare(r: &mut Record) -> Result<Workflow, BadCell> {
    Ok(row(r)?.0)
}

/// A trigger before what it starts with is opened.
fn trigger_row(r: &mut Record) -> Result<(FlowTrigger, Kept), BadCell> {
    let (id, workspace_id, workflow_id, user_id) = (r.id(FlowTriggerId)?, r.id(WorkspaceId)?, r.id(WorkflowId)?, r.id(UserId)?);
    let (spec, enabled) = (Kept::read(r)?, r.flag()?);
    let (next_at, last_at, created_at) = (r.maybe_time()?, r.maybe_time()?, r.time()?);
    let start = Start::Hook;
    Ok((FlowTrigger { id, workspace_id, workflow_id, user_id, start, enabled, next_at, last_at, created_at }, spec))
}

fn opened_trigger(vault: &Vault, (trigger, spec): (FlowTrigger, Kept)) -> Result<FlowTrigger, BadCell> {
    Ok(FlowTrigger { start: spec.open(vault, &spec_place(trigger.id))?, ..trigger })
}

impl Store {
    /// A workflow.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when its graph does not decrypt.
    pub async fn workflow(&self, id: WorkflowId) -> Result<Option<Sealed<Workflow>>, StoreError> {
        let Some((row, graph)) = self.one(&WORKFLOW, &params![id = id], row).await? else { return Ok(None) };
        let graph = graph.open(&self.inner.vault, &graph_place(id)).map_err(|bad| bad.in_statement(WORKFLOW.name))?;
        Ok(Some(Sealed::new(row.workspace_id, Workflow { graph, ..row })))
    }

    /// Workflows of the workspace without their graphs, newest first, those whose name contains `search` when that is given. A workflow's
    /// cursor is its id.
    ///
    /// # Errors
    /// [`StoreError::BadCursor`].
    pub async fn workflows(&self, tenant: Tenant, search: Option<&str>, request: &PageRequest) -> Result<Page<Workflow>, StoreError> {
        let range = page::range(request)?;
        let sql = match (search.is_some(), range.oldest_first) {
            (false, false) => &WORKFLOWS,
            (false, true) => &WORKFLOWS_FROM_END,
            (true, false) => &WORKFLOWS_NAMED,
            (true, true) => &WORKFLOWS_NAMED_FROM_END,
        };
        let search = search.map(page::containing);
        let params = params![workspace = tenant, search = search, above = range.above, below = range.below, limit = range.limit];
        let rows = self.list(sql, &params, bare).await?;
        Ok(page::page(request, &range, rows))
    }

    /// A frozen graph.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it does not decrypt.
    pub async fn graph(&self, tenant: Tenant, id: GraphId) -> Result<Option<Graph>, StoreError> {
        let Some(body) = self.one(&GRAPH, &params![workspace = tenant, id = id], Kept::read).await? else { return Ok(None) };
        let place = body_place(tenant.workspace(), id);
        body.open(&self.inner.vault, &place).map(Some).map_err(|bad| bad.in_statement(GRAPH.name))
    }

    /// Deletes the frozen graphs that no run uses and that were last used before `over`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_graphs_forget(&self, over: Timestamp) -> Result<u64, StoreError> {
        self.write_one(&GRAPHS_FORGET, params![over = over]).await
    }

    /// What starts a workflow.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn flow_trigger(&self, id: FlowTriggerId) -> Result<Option<Sealed<FlowTrigger>>, StoreError> {
        let Some(found) = self.one(&TRIGGER, &params![id = id], trigger_row).await? else { return Ok(None) };
        let trigger = opened_trigger(&self.inner.vault, found).map_err(|bad| bad.in_statement(TRIGGER.name))?;
        Ok(Some(Sealed::new(trigger.workspace_id, trigger)))
    }

    /// The trigger behind a URL, by the hash of its secret. The secret is the permission.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn flow_trigger_by_hash(&self, hash: [u8; 32]) -> Result<Option<FlowTrigger>, StoreError> {
        let Some(found) = self.one(&TRIGGER_BY_HASH, &params![hash = hash], trigger_row).await? else { return Ok(None) };
        opened_trigger(&self.inner.vault, found).map(Some).map_err(|bad| bad.in_statement(TRIGGER_BY_HASH.name))
    }

    /// All that starts a workflow, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn flow_triggers_of(&self, tenant: Tenant, workflow: WorkflowId) -> Result<Vec<FlowTrigger>, StoreError> {
        let found = self.list(&TRIGGERS_OF_WORKFLOW, &params![workspace = tenant, workflow = workflow], trigger_row).await?;
        let open = |row| opened_trigger(&self.inner.vault, row).map_err(|bad| bad.in_statement(TRIGGERS_OF_WORKFLOW.name));
        found.into_iter().map(open).collect()
    }

    /// What starts workflows of a workspace when something happens there, oldest first. One that cannot be read is switched off.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn flow_triggers_of_events(&self, tenant: Tenant) -> Result<Vec<FlowTrigger>, StoreError> {
        self.readable_triggers(&TRIGGERS_OF_EVENTS, &params![workspace = tenant]).await
    }

    /// Those triggers that can be read, of a statement that gives their ids first. The others are switched off: nothing waits behind them.
    async fn readable_triggers(&self, sql: &'static Sql, params: &[Named]) -> Result<Vec<FlowTrigger>, StoreError> {
        let read = |r: &mut Record| {
            let id = r.id(FlowTriggerId)?;
            Ok(trigger_row(r).map_err(|bad| (id, bad.0)))
        };
        let mut readable = vec![];
        for found in self.list(sql, params, read).await? {
            let opened = found.and_then(|row| {
                let id = row.0.id;
                opened_trigger(&self.inner.vault, row).map_err(|bad| (id, bad.0))
            });
            match opened {
                Ok(trigger) => readable.push(trigger),
                Err((id, error)) => {
                    tracing::error!(error, trigger = %id, "what starts a workflow cannot be read and is switched off");
                    self.write_one(&SYSTEM_FLOW_TRIGGER_GIVE_UP, params![id = id]).await?;
                }
            }
        }
        Ok(readable)
    }

    /// When the next trigger's time comes.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_flow_trigger_next(&self) -> Result<Option<Timestamp>, StoreError> {
        self.one(&SYSTEM_FLOW_TRIGGER_NEXT, &[], Record::time).await
    }

    /// The triggers whose time has come, at most so many. One that cannot be read is switched off.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_flow_triggers_due(&self, now: Timestamp, limit: u32) -> Result<Vec<FlowTrigger>, StoreError> {
        self.readable_triggers(&SYSTEM_TRIGGERS_DUE, &params![now = now, limit = limit]).await
    }
}

fn workflow_insert(vault: &Vault, row: &Workflow) -> Result<Statement, StoreError> {
    let Workflow { id, workspace_id, user_id, name, description, graph, version, created_at, updated_at } = row;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        user = *user_id,
        name = name,
        description = description,
        graph = seal(vault, &graph_place(*id), graph)?,
        version = *version,
        created = *created_at,
        updated = *updated_at
    ];
    Ok(Statement::touch(&WORKFLOW_INSERT, params))
}

fn workflow_update(vault: &Vault, row: &Workflow) -> Result<Statement, StoreError> {
    let Workflow { id, workspace_id, name, description, graph, version, updated_at, .. } = row;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        name = name,
        description = description,
        graph = seal(vault, &graph_place(*id), graph)?,
        version = *version,
        updated = *updated_at
    ];
    Ok(Statement::touch(&WORKFLOW_UPDATE, params))
}

fn trigger_insert(vault: &Vault, row: &FlowTrigger, hash: Option<[u8; 32]>) -> Result<Statement, StoreError> {
    let FlowTrigger { id, workspace_id, workflow_id, user_id, start, enabled, next_at, last_at, created_at } = row;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        workflow = *workflow_id,
        user = *user_id,
        kind = start.kind(),
        spec = seal(vault, &spec_place(*id), start)?,
        hash = hash,
        enabled = *enabled,
        next = *next_at,
        last = *last_at,
        created = *created_at
    ];
    Ok(Statement::touch(&TRIGGER_INSERT, params))
}

pub(crate) fn statements(vault: &Vault, tenant: Tenant, change: &WorkflowChange) -> Result<Vec<Statement>, StoreError> {
    let mut all = match change {
        WorkflowChange::Delete(id) => vec![flow_file::flow_files_let_go(tenant, *id), run::let_go(tenant, *id)],
        _ => vec![],
    };
    all.push(statement(vault, tenant, change)?);
    Ok(all)
}

fn statement(vault: &Vault, tenant: Tenant, change: &WorkflowChange) -> Result<Statement, StoreError> {
    Ok(match change {
        WorkflowChange::Insert(row) => workflow_insert(vault, row)?,
        WorkflowChange::Update(row) => workflow_update(vault, row)?,
        WorkflowChange::Delete(id) => Statement::touch(&WORKFLOW_DELETE, params![id = *id, workspace = tenant]),
        WorkflowChange::GraphKeep { id, body, at } => {
            let body = vault.seal(&body_place(tenant.workspace(), *id), body.as_bytes())?;
            Statement::touch(&GRAPH_KEEP, params![workspace = tenant, id = *id, body = body, now = *at])
        }
        WorkflowChange::FileInsert { file, most } => flow_file::flow_file_insert(file, *most),
        WorkflowChange::TriggerInsert { trigger, hash } => trigger_insert(vault, trigger, *hash)?,
        WorkflowChange::TriggerDelete(id) => Statement::touch(&TRIGGER_DELETE, params![id = *id, workspace = tenant]),
        WorkflowChange::TriggerSwitch { id, enabled, next } => {
            Statement::touch(&TRIGGER_SWITCH, params![id = *id, workspace = tenant, enabled = *enabled, next = *next])
        }
        WorkflowChange::TriggerRotate { id, hash } => {
            Statement::touch(&TRIGGER_ROTATE, params![id = *id, workspace = tenant, hash = *hash])
        }
        WorkflowChange::TriggerFired { id, at } => Statement::touch(&TRIGGER_FIRED, params![id = *id, workspace = tenant, at = *at]),
        WorkflowChange::TriggerMove { id, was, next, last } => {
            Statement::touch(&TRIGGER_MOVE, params![id = *id, workspace = tenant, was = *was, next = *next, last = *last])
        }
    })
}

impl WorkflowChange {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Insert(_) => "WorkflowInsert",
            Self::Update(_) => "WorkflowUpdate",
            Self::Delete(_) => "WorkflowDelete",
            Self::GraphKeep { .. } => "GraphKeep",
            Self::FileInsert { .. } => "FlowFileInsert",
            Self::TriggerInsert { .. } => "FlowTriggerInsert",
            Self::TriggerDelete(_) => "FlowTriggerDelete",
            Self::TriggerSwitch { .. } => "FlowTriggerSwitch",
            Self::TriggerRotate { .. } => "FlowTriggerRotate",
            Self::TriggerFired { .. } => "FlowTriggerFired",
            Self::TriggerMove { .. } => "FlowTriggerMove",
        }
    }

    pub(crate) fn names_workspace(&self) -> Option<WorkspaceId> {
        match self {
            Self::Insert(row) | Self::Update(row) => Some(row.workspace_id),
            Self::FileInsert { file, .. } => Some(file.workspace_id),
            Self::TriggerInsert { trigger, .. } => Some(trigger.workspace_id),
            // The statements look for their row in the tenant's workspace.
            Self::Delete(_)
            | Self::GraphKeep { .. }
            | Self::TriggerDelete(_)
            | Self::TriggerSwitch { .. }
            | Self::TriggerRotate { .. }
            | Self::TriggerFired { .. }
            | Self::TriggerMove { .. } => None,
        }
    }
}
