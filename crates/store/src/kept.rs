//! What workflows and their runs hold: JSON in which anything may be a secret. It is sealed with each write. What versions before that
//! wrote plainly is read as it stands until [`Store::system_seal_plain`] has sealed it.

use domain::{FlowTriggerId, GraphId, RunId, WorkflowId, WorkspaceId};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::executor::{BadCell, Record, Statement};
use crate::vault::Vault;
use crate::{Store, StoreError};

statements! {
    SYSTEM_PLAIN_WORKFLOWS = "SELECT id, version, graph FROM workflows WHERE graph <> '' ORDER BY updated_at LIMIT $limit";
    SYSTEM_PLAIN_GRAPHS = "SELECT workspace_id, id, body FROM flow_graphs WHERE body <> '' ORDER BY id LIMIT $limit";
    SYSTEM_PLAIN_RUNS = "SELECT id, input FROM runs WHERE input <> '' ORDER BY created_at LIMIT $limit";
    SYSTEM_PLAIN_NODE_RUNS =
        "SELECT run_id, node_id, input, output, logs FROM node_runs WHERE logs <> '' ORDER BY id LIMIT $limit";
    SYSTEM_PLAIN_TRIGGERS = "SELECT id, spec FROM flow_triggers WHERE spec <> '' ORDER BY created_at LIMIT $limit";
    /// What was written since it was read is sealed already, or plain in another version.
    SYSTEM_WORKFLOW_SEAL =
        "UPDATE workflows SET sealed_graph = $sealed, graph = '' WHERE id = $id AND version = $version AND graph <> ''";
    SYSTEM_GRAPH_SEAL =
        "UPDATE flow_graphs SET sealed_body = $sealed, body = '' WHERE workspace_id = $workspace AND id = $id AND body <> ''";
    SYSTEM_RUN_SEAL = "UPDATE runs SET sealed_input = $sealed, input = '' WHERE id = $id AND input <> ''";
    SYSTEM_TRIGGER_SEAL = "UPDATE flow_triggers SET sealed_spec = $sealed, spec = '' WHERE id = $id AND spec <> ''";
    SYSTEM_NODE_RUN_SEAL =
        "UPDATE node_runs SET sealed_data = $sealed, input = NULL, output = NULL, logs = '' \
         WHERE run_id = $run AND node_id = $node AND logs <> ''";
}

pub(crate) fn graph_place(id: WorkflowId) -> String {
    format!("workflows.sealed_graph/{id}")
}

pub(crate) fn body_place(workspace: WorkspaceId, id: GraphId) -> String {
    format!("flow_graphs.sealed_body/{workspace}/{id}")
}

pub(crate) fn input_place(id: RunId) -> String {
    format!("runs.sealed_input/{id}")
}

pub(crate) fn spec_place(id: FlowTriggerId) -> String {
    format!("flow_triggers.sealed_spec/{id}")
}

pub(crate) fn data_place(run: RunId, node: &str) -> String {
    format!("node_runs.sealed_data/{run}/{node}")
}

/// A value as it is kept: the plain column, and the sealed one beside it.
pub(crate) struct Kept {
    plain: String,
    sealed: Option<Vec<u8>>,
}

impl Kept {
    /// Reads the two columns.
    pub(crate) fn read(r: &mut Record) -> Result<Self, BadCell> {
        Ok(Self { plain: r.text()?, sealed: r.maybe_bytes()? })
    }

    /// The value. Where there is a plain one it is the last: sealing leaves none.
    pub(crate) fn open<T: DeserializeOwned>(&self, vault: &Vault, place: &str) -> Result<T, BadCell> {
        let wrong = || BadCell(format!("{place} is not JSON of the expected shape"));
        if !self.plain.is_empty() {
            return serde_json::from_str(&self.plain).map_err(|_| wrong());
        }
        let sealed = self.sealed.as_ref().ok_or_else(|| BadCell(format!("{place} is missing")))?;
        let plain = vault.unseal(place, sealed).map_err(|_| BadCell(format!("{place} does not decrypt")))?;
        serde_json::from_slice(&plain).map_err(|_| wrong())
    }
}

/// A value as JSON, sealed for its place.
pub(crate) fn seal(vault: &Vault, place: &str, value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    let plain = serde_json::to_vec(value).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    vault.seal(place, &plain)
}

impl Store {
    /// Seals what an earlier version has written plainly: at most so many rows of each kind. How many it has found.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_seal_plain(&self, limit: u32) -> Result<usize, StoreError> {
        let vault = &self.inner.vault;
        let limit = params![limit = limit];
        let mut statements = vec![];
        let workflows = self.list(&SYSTEM_PLAIN_WORKFLOWS, &limit, |r| Ok((r.id(WorkflowId)?, r.number::<u32>()?, r.text()?))).await?;
        for (id, version, graph) in workflows {
            let sealed = vault.seal(&graph_place(id), graph.as_bytes())?;
            statements.push(Statement::any(&SYSTEM_WORKFLOW_SEAL, params![id = id, version = version, sealed = sealed]));
        }
        let graphs = self.list(&SYSTEM_PLAIN_GRAPHS, &limit, |r| Ok((r.id(WorkspaceId)?, r.id(GraphId)?, r.text()?))).await?;
        for (workspace, id, body) in graphs {
            let sealed = vault.seal(&body_place(workspace, id), body.as_bytes())?;
            statements.push(Statement::any(&SYSTEM_GRAPH_SEAL, params![workspace = workspace, id = id, sealed = sealed]));
        }
        for (id, input) in self.list(&SYSTEM_PLAIN_RUNS, &limit, |r| Ok((r.id(RunId)?, r.text()?))).await? {
            let sealed = vault.seal(&input_place(id), input.as_bytes())?;
            statements.push(Statement::any(&SYSTEM_RUN_SEAL, params![id = id, sealed = sealed]));
        }
        for (id, spec) in self.list(&SYSTEM_PLAIN_TRIGGERS, &limit, |r| Ok((r.id(FlowTriggerId)?, r.text()?))).await? {
            let sealed = vault.seal(&spec_place(id), spec.as_bytes())?;
            statements.push(Statement::any(&SYSTEM_TRIGGER_SEAL, params![id = id, sealed = sealed]));
        }
        for (run, node, data) in self.list(&SYSTEM_PLAIN_NODE_RUNS, &limit, plain_node).await? {
            let sealed = vault.seal(&data_place(run, &node), data.as_bytes())?;
            statements.push(Statement::any(&SYSTEM_NODE_RUN_SEAL, params![run = run, node = node, sealed = sealed]));
        }
        let found = statements.len();
        if found > 0 {
            self.write(statements).await?;
        }
        Ok(found)
    }
}

/// A node's input, output and log as one text, as they are sealed.
fn together(input: Option<String>, output: Option<String>, logs: &str) -> String {
    let or_null = |text: Option<String>| text.unwrap_or_else(|| "null".to_owned());
    format!("[{},{},{logs}]", or_null(input), or_null(output))
}

/// Reads a node's input, output and log, plain and sealed.
pub(crate) fn node_data(r: &mut Record) -> Result<Kept, BadCell> {
    let (input, output, logs, sealed) = (r.maybe_text()?, r.maybe_text()?, r.text()?, r.maybe_bytes()?);
    let plain = if logs.is_empty() { String::new() } else { together(input, output, &logs) };
    Ok(Kept { plain, sealed })
}

fn plain_node(r: &mut Record) -> Result<(RunId, String, String), BadCell> {
    let (run, node, input, output, logs) = (r.id(RunId)?, r.text()?, r.maybe_text()?, r.maybe_text()?, r.text()?);
    Ok((run, node, together(input, output, &logs)))
}
