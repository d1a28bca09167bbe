//! What is known of the nodes of runs. They go with their run.

use std::collections::BTreeMap;

use domain::workflow::run::{NodeRun, RunStatus};
use domain::{NodeRunId, RunId, Tenant, Timestamp, WorkflowId, WorkspaceId};
use serde_json::Value;
use uuid::Uuid;

use crate::executor::{BadCell, Record, Statement};
use crate::kept::{self, Kept, data_place, seal};
use crate::vault::Vault;
use crate::{Store, StoreError};

macro_rules! node_columns {
    () => {
        "node_runs.id, node_runs.workspace_id, node_runs.run_id, node_runs.node_id, node_runs.node_type, node_runs.status, \
         node_runs.attempts, node_runs.failures, node_runs.input, node_runs.output, node_runs.logs, node_runs.sealed_data, \
         node_runs.error, node_runs.credits, node_runs.started_at, node_runs.finished_at"
    };
}

statements! {
    NODE_RUNS_CANCEL =
        "UPDATE node_runs SET status = 'CANCELED', finished_at = $at \
         WHERE run_id = $id AND workspace_id = $workspace AND status IN ('QUEUED', 'RUNNING')";
    NODE_RUN_PUT =
        "INSERT INTO node_runs (run_id, node_id, workspace_id, id, node_type, status, attempts, failures, input, output, logs, sealed_data, \
         error, credits, started_at, finished_at) \
         VALUES ($run, $node, $workspace, $id, $node_type, $status, $attempts, $failures, NULL, NULL, '', $sealed, $error, $credits, \
         $started, $finished) \
         ON CONFLICT (run_id, node_id) DO UPDATE SET status = excluded.status, attempts = excluded.attempts, \
         failures = excluded.failures, input = NULL, output = NULL, logs = '', sealed_data = excluded.sealed_data, \
         error = excluded.error, credits = excluded.credits, \
         started_at = excluded.started_at, finished_at = excluded.finished_at \
         WHERE node_runs.workspace_id = excluded.workspace_id AND node_runs.id = excluded.id";
    /// Two that take a turn at nodes of a workflow do it one after the other.
    NODE_TURN_LOCK = "UPDATE workflows SET version = version WHERE id = $workflow AND workspace_id = $workspace";
    /// Counted in the index of what is held, which is little, and not through the workflow's history: hence the expressions.
    NODE_TURN_TAKE =
        "UPDATE node_runs SET status = 'RUNNING' \
         WHERE run_id = $run AND node_id = $node AND workspace_id = $workspace AND status = 'QUEUED' \
         AND EXISTS (SELECT 1 FROM runs WHERE runs.id = $run AND runs.holder = $holder) \
         AND (SELECT COUNT(*) FROM runs AS held WHERE held.holder IS NOT NULL AND COALESCE(held.workflow_id, held.holder) = $workflow \
         AND (SELECT other.status FROM node_runs AS other WHERE other.run_id = held.id AND other.node_id = $node) = 'RUNNING') < $most";
    NODE_RUNS_OVER =
        "SELECT COALESCE(SUM(CASE WHEN status = 'COMPLETED' THEN 1 ELSE 0 END), 0), \
         COALESCE(SUM(CASE WHEN status = 'FAILED' THEN 1 ELSE 0 END), 0) \
         FROM node_runs WHERE run_id = $id AND workspace_id = $workspace";
    NODE_RUNS_BYTES =
        "SELECT COALESCE(SUM(COALESCE(LENGTH(sealed_data), 0) + COALESCE(LENGTH(CAST(input AS TEXT)), 0) \
         + COALESCE(LENGTH(CAST(output AS TEXT)), 0)), 0) \
         FROM node_runs WHERE run_id IN ($runs) AND workspace_id = $workspace";
    NODE_RUNS_OF = concat!(
        "SELECT ",
        node_columns!(),
        " FROM node_runs WHERE run_id IN ($runs) AND workspace_id = $workspace"
    );
}

/// A node that waits for its turn, in a run that is held.
#[derive(Clone, Copy, Debug)]
pub struct NodeTurn<'a> {
    /// The run.
    pub run: RunId,
    /// Which of its nodes.
    pub node: &'a str,
    /// What runs.
    pub workflow: WorkflowId,
    /// Who holds the run.
    pub holder: Uuid,
    /// In how many runs of the workflow the node may be performed at the same time.
    pub most: u32,
}

/// A node before what it was given and gave is opened.
fn row(r: &mut Record) -> Result<(NodeRun, Kept), BadCell> {
    let mut node = NodeRun {
        id: r.id(NodeRunId)?,
        workspace_id: r.id(WorkspaceId)?,
        run_id: r.id(RunId)?,
        node_id: r.text()?,
        node_type: r.text()?,
        status: r.word(RunStatus::parse)?,
        attempts: r.number()?,
        failures: r.number()?,
        input: None,
        output: None,
        logs: vec![],
        error: None,
        credits: 0,
        started_at: None,
        finished_at: None,
    };
    let data = kept::node_data(r)?;
    (node.error, node.credits) = (r.maybe_text()?, r.number()?);
    (node.started_at, node.finished_at) = (r.maybe_time()?, r.maybe_time()?);
    Ok((node, data))
}

fn opened(vault: &Vault, (node, data): (NodeRun, Kept)) -> Result<NodeRun, BadCell> {
    let (input, output, logs): (Option<Value>, Option<Value>, Vec<String>) = data.open(vault, &data_place(node.run_id, &node.node_id))?;
    Ok(NodeRun { input, output, logs, ..node })
}

impl Store {
    /// The nodes of runs, in the order in which they began.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when what a node was given or gave does not decrypt.
    pub async fn node_runs_of(&self, tenant: Tenant, runs: &[RunId]) -> Result<BTreeMap<RunId, Vec<NodeRun>>, StoreError> {
        let rows = self.batch(&NODE_RUNS_OF, &params![workspace = tenant, runs = runs], row, |(row, _)| row.id).await?;
        let mut out: BTreeMap<RunId, Vec<NodeRun>> = BTreeMap::new();
        for found in rows {
            let node = opened(&self.inner.vault, found).map_err(|bad| bad.in_statement(NODE_RUNS_OF.name))?;
            out.entry(node.run_id).or_default().push(node);
        }
        Ok(out)
    }

    /// Has a queued node run, unless it does so already in as many runs of its workflow as may be, whoever holds those. Whether it runs now.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn node_turn_take(&self, tenant: Tenant, turn: NodeTurn<'_>) -> Result<bool, StoreError> {
        let NodeTurn { run, node, workflow, holder, most } = turn;
        let lock = Statement::any(&NODE_TURN_LOCK, params![workspace = tenant, workflow = workflow]);
        let take = params![workspace = tenant, run = run, node = node, workflow = workflow, holder = holder, most = most];
        let outcomes = self.write(vec![lock, Statement::any(&NODE_TURN_TAKE, take)]).await?;
        Ok(outcomes.last().is_some_and(|outcome| outcome.touched > 0))
    }

    /// How many nodes of a run have given their output, and how many have failed, as far as that is written down.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn node_runs_over(&self, tenant: Tenant, id: RunId) -> Result<(u32, u32), StoreError> {
        let counts = self.one(&NODE_RUNS_OVER, &params![workspace = tenant, id = id], |r| Ok((r.number()?, r.number()?))).await?;
        Ok(counts.unwrap_or_default())
    }

    /// About how many bytes the nodes of runs hold, without reading them.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn node_runs_bytes(&self, tenant: Tenant, runs: &[RunId]) -> Result<i64, StoreError> {
        Ok(self.one(&NODE_RUNS_BYTES, &params![workspace = tenant, runs = runs], Record::number).await?.unwrap_or_default())
    }
}

pub(crate) fn node_run_put(vault: &Vault, row: &NodeRun) -> Result<Statement, StoreError> {
    let NodeRun { id, workspace_id, run_id, node_id, node_type, status, attempts, failures, input, output, logs, error, .. } = row;
    let NodeRun { started_at, finished_at, .. } = row;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        run = *run_id,
        node = node_id,
        node_type = node_type,
        status = status.as_str(),
        attempts = *attempts,
        failures = *failures,
        sealed = seal(vault, &data_place(*run_id, node_id), &(input, output, logs))?,
        error = error.as_ref(),
        credits = row.credits,
        started = *started_at,
        finished = *finished_at
    ];
    Ok(Statement::touch(&NODE_RUN_PUT, params))
}

/// What of a run has no end yet is stopped with it.
pub(crate) fn node_runs_cancel(tenant: Tenant, run: RunId, at: Timestamp) -> Statement {
    Statement::any(&NODE_RUNS_CANCEL, params![id = run, workspace = tenant, at = at])
}
