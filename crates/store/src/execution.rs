//! Runs of services with a schedule. Of each instance the newest thousand are kept; the others go with the clean-up.

use domain::deployment::{Execution, ExecutionStatus};
use domain::page::{Page, PageRequest};
use domain::{DeploymentId, InstanceId, ReplicaId, Tenant, Timestamp, WorkspaceId};

use crate::executor::{BadCell, Record, Statement};
use crate::{Store, StoreError, page};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, workspace_id, instance_id, deployment_id, due_at, status, exit_code, reason, created_at, updated_at, completed_at \
             FROM executions WHERE instance_id = $instance AND workspace_id = $workspace AND ",
            $rest
        )
    };
}

statements! {
    EXECUTION_OPEN = select!("completed_at IS NULL");
    EXECUTION_LAST_DUE =
        "SELECT due_at FROM executions WHERE instance_id = $instance AND workspace_id = $workspace AND due_at IS NOT NULL \
         ORDER BY due_at DESC LIMIT 1";
    EXECUTIONS_PAGE = select!("id > $above AND id < $below ORDER BY id DESC LIMIT $limit");
    EXECUTIONS_PAGE_FROM_END = select!("id > $above AND id < $below ORDER BY id ASC LIMIT $limit");
    /// Only services that have too many are ranked, and which those are the index alone says: this runs on the one thread that writes.
    SYSTEM_EXECUTIONS_PURGE =
        "DELETE FROM executions WHERE completed_at IS NOT NULL AND id IN (SELECT id FROM (SELECT id, \
         row_number() OVER (PARTITION BY instance_id ORDER BY id DESC) AS newness FROM executions WHERE instance_id IN \
         (SELECT instance_id FROM executions GROUP BY instance_id HAVING COUNT(*) > $kept)) AS ranked WHERE newness > $kept)";
    /// Only of what is deployed: nobody looks for a run of what has been removed meanwhile, which would never end.
    EXECUTION_INSERT =
        "INSERT INTO executions (id, workspace_id, instance_id, deployment_id, due_at, status, exit_code, reason, created_at, updated_at, \
         completed_at) SELECT $id, $workspace, $instance, $deployment, $due, $status, $exit_code, $reason, $created, $updated, $completed \
         WHERE EXISTS (SELECT 1 FROM deployments WHERE deployments.id = $deployment AND deployments.workspace_id = $workspace \
         AND deployments.instance_id = $instance AND deployments.status = 'SUCCESS')";
    EXECUTION_UPDATE =
        "UPDATE executions SET status = $status, exit_code = $exit_code, reason = $reason, updated_at = $updated, \
         completed_at = $completed WHERE id = $id AND workspace_id = $workspace AND completed_at IS NULL";
}

fn row(r: &mut Record) -> Result<Execution, BadCell> {
    Ok(Execution {
        id: r.id(ReplicaId)?,
        workspace_id: r.id(WorkspaceId)?,
        instance_id: r.id(InstanceId)?,
        deployment_id: r.id(DeploymentId)?,
        due_at: r.maybe_time()?,
        status: r.word(ExecutionStatus::parse)?,
        exit_code: r.maybe_number()?,
        reason: r.maybe_text()?,
        created_at: r.time()?,
        updated_at: r.time()?,
        completed_at: r.maybe_time()?,
    })
}

impl Store {
    /// The run of the instance that has not ended; there is at most one.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn execution_open(&self, tenant: Tenant, instance: InstanceId) -> Result<Option<Execution>, StoreError> {
        self.one(&EXECUTION_OPEN, &params![workspace = tenant, instance = instance], row).await
    }

    /// The newest time of the instance's schedule that was run or skipped.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn execution_last_due(&self, tenant: Tenant, instance: InstanceId) -> Result<Option<Timestamp>, StoreError> {
        self.one(&EXECUTION_LAST_DUE, &params![workspace = tenant, instance = instance], Record::time).await
    }

    /// A page of the runs of the instance, newest first. A run's cursor is its id.
    ///
    /// # Errors
    /// [`StoreError::BadCursor`].
    pub async fn executions(&self, tenant: Tenant, instance: InstanceId, request: &PageRequest) -> Result<Page<Execution>, StoreError> {
        let range = page::range(request)?;
        let params = params![workspace = tenant, instance = instance, above = range.above, below = range.below, limit = range.limit];
        let sql = if range.oldest_first { &EXECUTIONS_PAGE_FROM_END } else { &EXECUTIONS_PAGE };
        let rows = self.list(sql, &params, row).await?;
        Ok(page::page(request, &range, rows))
    }

    /// Deletes all runs but the newest `kept` of each instance, and those that go on.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_executions_purge(&self, kept: i64) -> Result<(), StoreError> {
        self.write_one(&SYSTEM_EXECUTIONS_PURGE, params![kept = kept]).await.map(|_| ())
    }
}

pub(crate) fn execution_insert(execution: &Execution) -> Statement {
    let Execution { id, workspace_id, instance_id, deployment_id, due_at, status, exit_code, reason, created_at, updated_at, completed_at } =
        execution;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        instance = *instance_id,
        deployment = *deployment_id,
        due = *due_at,
        status = status.as_str(),
        exit_code = *exit_code,
        reason = reason.as_ref(),
        created = *created_at,
        updated = *updated_at,
        completed = *completed_at
    ];
    Statement::touch(&EXECUTION_INSERT, params)
}

pub(crate) fn execution_update(execution: &Execution) -> Statement {
    let Execution { id, workspace_id, status, exit_code, reason, updated_at, completed_at, .. } = execution;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        status = status.as_str(),
        exit_code = *exit_code,
        reason = reason.as_ref(),
        updated = *updated_at,
        completed = *completed_at
    ];
    Statement::touch(&EXECUTION_UPDATE, params)
}
