//! Files of an account: uploads and what runs have made. They go when they expire.

use domain::page::{Page, PageRequest};
use domain::workflow::run::{FlowFile, Made};
use domain::{RunId, Sealed, Tenant, Timestamp, UploadId, WorkflowId, WorkspaceId};

use crate::executor::{BadCell, Record, Statement};
use crate::{Store, StoreError, page};

macro_rules! columns {
    () => {
        "flow_files.id, flow_files.workspace_id, flow_files.workflow_id, flow_files.run_id, flow_files.node_id, flow_files.node_type, \
         flow_files.node_label, flow_files.filename, flow_files.content_type, flow_files.bytes, flow_files.created_at, flow_files.expires_at"
    };
}

macro_rules! page_of {
    ($which:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            " FROM flow_files WHERE workspace_id = $workspace AND id > $above AND id < $below",
            $which,
            " ORDER BY id DESC LIMIT $limit"
        )
    };
}

statements! {
    FLOW_FILE = concat!("SELECT ", columns!(), " FROM flow_files WHERE id = $id");
    FLOW_FILES = page_of!("");
    FLOW_FILES_OF_WORKFLOW = page_of!(" AND workflow_id = $workflow");
    SYSTEM_FLOW_FILES_EXPIRED = "SELECT id FROM flow_files WHERE expires_at < $now ORDER BY expires_at LIMIT $limit";
    SYSTEM_FLOW_FILES_KNOWN = "SELECT id FROM flow_files WHERE id IN ($ids)";
    /// The rows outlive their workflow until their bytes are deleted.
    FLOW_FILES_LET_GO =
        "UPDATE flow_files SET workflow_id = NULL, expires_at = 0 WHERE workflow_id = $workflow AND workspace_id = $workspace";
    SYSTEM_FLOW_FILES_DELETE = "DELETE FROM flow_files WHERE id IN ($ids)";
    /// Only where there is room for it.
    FLOW_FILE_INSERT =
        "INSERT INTO flow_files (id, workspace_id, workflow_id, run_id, node_id, node_type, node_label, filename, content_type, bytes, \
         created_at, expires_at) \
         SELECT $id, $workspace, $workflow, $run, $node, $node_type, $node_label, $filename, $content_type, $bytes, $created, $expires \
         WHERE (SELECT CAST(COALESCE(SUM(kept.bytes), 0) AS BIGINT) FROM flow_files AS kept WHERE kept.workspace_id = $workspace) <= $room";
}

fn row(r: &mut Record) -> Result<FlowFile, BadCell> {
    let (id, workspace_id) = (r.id(UploadId)?, r.id(WorkspaceId)?);
    let (workflow, run, node_id, node_type, node_label) =
        (r.maybe_id(WorkflowId)?, r.maybe_id(RunId)?, r.maybe_text()?, r.maybe_text()?, r.maybe_text()?);
    let made = run.map(|run| Made {
        workflow,
        run,
        node_id: node_id.unwrap_or_default(),
        node_type: node_type.unwrap_or_default(),
        node_label: node_label.unwrap_or_default(),
    });
    Ok(FlowFile {
        id,
        workspace_id,
        made,
        filename: r.text()?,
        content_type: r.text()?,
        bytes: r.number()?,
        created_at: r.time()?,
        expires_at: r.time()?,
    })
}

impl Store {
    /// A file.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn flow_file(&self, id: UploadId) -> Result<Option<Sealed<FlowFile>>, StoreError> {
        self.sealed(&FLOW_FILE, &params![id = id], row, |file| file.workspace_id).await
    }

    /// Files of the workspace, or of the runs of one workflow, newest first. A file's cursor is its id.
    ///
    /// # Errors
    /// [`StoreError::BadCursor`].
    pub async fn flow_files(
        &self,
        tenant: Tenant,
        workflow: Option<WorkflowId>,
        first: u32,
        after: Option<String>,
    ) -> Result<Page<FlowFile>, StoreError> {
        let request = PageRequest { first: Some(first), after, ..PageRequest::default() };
        let range = page::range(&request)?;
        let sql = if workflow.is_some() { &FLOW_FILES_OF_WORKFLOW } else { &FLOW_FILES };
        let params = params![workspace = tenant, workflow = workflow, above = range.above, below = range.below, limit = range.limit];
        let rows = self.list(sql, &params, row).await?;
        Ok(page::page(&request, &range, rows))
    }

    /// Files that have expired, at most so many.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_flow_files_expired(&self, now: Timestamp, limit: u32) -> Result<Vec<UploadId>, StoreError> {
        self.list(&SYSTEM_FLOW_FILES_EXPIRED, &params![now = now, limit = limit], |r| r.id(UploadId)).await
    }

    /// Those of the files that there are.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_flow_files_known(&self, ids: &[UploadId]) -> Result<Vec<UploadId>, StoreError> {
        self.list(&SYSTEM_FLOW_FILES_KNOWN, &params![ids = ids], |r| r.id(UploadId)).await
    }

    /// Forgets files.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_flow_files_delete(&self, ids: &[UploadId]) -> Result<(), StoreError> {
        self.write_one(&SYSTEM_FLOW_FILES_DELETE, params![ids = ids]).await.map(|_| ())
    }
}

pub(crate) fn flow_files_let_go(tenant: Tenant, workflow: WorkflowId) -> Statement {
    Statement::any(&FLOW_FILES_LET_GO, params![workflow = workflow, workspace = tenant])
}

pub(crate) fn flow_file_insert(row: &FlowFile, most: i64) -> Statement {
    let FlowFile { id, workspace_id, made, filename, content_type, bytes, created_at, expires_at } = row;
    let made = made.as_ref();
    let params = params![
        id = *id,
        workspace = *workspace_id,
        workflow = made.and_then(|made| made.workflow),
        run = made.map(|made| made.run),
        node = made.map(|made| &made.node_id),
        node_type = made.map(|made| &made.node_type),
        node_label = made.map(|made| &made.node_label),
        filename = filename,
        content_type = content_type,
        bytes = *bytes,
        created = *created_at,
        expires = *expires_at,
        room = most.saturating_sub(*bytes)
    ];
    Statement::touch(&FLOW_FILE_INSERT, params)
}
