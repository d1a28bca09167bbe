//! Changes of environments' documents. The change itself is sealed, since it may hold values of variables. Each commit deletes what is
//! older than the newest 100 of its environment; the rest goes with the environment.

use domain::page::{Page, PageRequest};
use domain::project::{EnvironmentPatch, PatchStatus};
use domain::{EnvironmentId, EnvironmentPatchId, ProjectId, Sealed, Tenant, WorkspaceId};
use zeroize::Zeroizing;

use crate::executor::{BadCell, Record, Statement, json};
use crate::vault::Vault;
use crate::{Store, StoreError, page};

macro_rules! select {
    () => {
        "SELECT id, workspace_id, project_id, environment_id, status, message, changes, author, applied_at, created_at, updated_at, \
         sealed_patch FROM environment_patches "
    };
}

statements! {
    ENVIRONMENT_PATCH = concat!(select!(), "WHERE id = $id");
    ENVIRONMENT_PATCH_STAGED =
        concat!(select!(), "WHERE environment_id = $environment AND status = 'STAGED' AND workspace_id = $workspace");
    ENVIRONMENT_PATCHES = concat!(
        select!(), "WHERE environment_id = $environment AND workspace_id = $workspace AND id > $above AND id < $below ORDER BY id DESC LIMIT $limit"
    );
    ENVIRONMENT_PATCHES_FROM_END = concat!(
        select!(), "WHERE environment_id = $environment AND workspace_id = $workspace AND id > $above AND id < $below ORDER BY id ASC LIMIT $limit"
    );
    STAGED_COUNTS =
        "SELECT environment_id, changes FROM environment_patches \
         WHERE environment_id IN ($environments) AND status = 'STAGED' AND workspace_id = $workspace";
    ENVIRONMENT_PATCH_INSERT =
        "INSERT INTO environment_patches (id, workspace_id, project_id, environment_id, status, message, sealed_patch, changes, author, \
         applied_at, created_at, updated_at) \
         VALUES ($id, $workspace, $project, $environment, $status, $message, $sealed_patch, $changes, $author, $applied, $created, $updated)";
    ENVIRONMENT_PATCHES_TRIM =
        "DELETE FROM environment_patches WHERE environment_id = $environment AND workspace_id = $workspace AND status = 'COMMITTED' AND id < \
         (SELECT newest.id FROM environment_patches AS newest WHERE newest.environment_id = $environment AND newest.workspace_id = $workspace \
         ORDER BY newest.id DESC LIMIT 1 OFFSET 100)";
    ENVIRONMENT_PATCH_DELETE = "DELETE FROM environment_patches WHERE id = $id AND workspace_id = $workspace AND status = 'STAGED'";
}

/// A row before its change is opened.
type Closed = (EnvironmentPatch, Vec<u8>);

/// How many settings the staged change of an environment names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StagedCount {
    /// The environment.
    pub environment_id: EnvironmentId,
    /// Settings.
    pub changes: u32,
}

fn row(r: &mut Record) -> Result<Closed, BadCell> {
    let patch = EnvironmentPatch {
        id: r.id(EnvironmentPatchId)?,
        workspace_id: r.id(WorkspaceId)?,
        project_id: r.id(ProjectId)?,
        environment_id: r.id(EnvironmentId)?,
        status: r.word(PatchStatus::parse)?,
        message: r.maybe_text()?,
        patch: serde_json::Value::Null,
        changes: r.number()?,
        author: r.json()?,
        applied_at: r.maybe_time()?,
        created_at: r.time()?,
        updated_at: r.time()?,
    };
    Ok((patch, r.bytes()?))
}

fn place(id: EnvironmentPatchId) -> String {
    format!("environment_patches.sealed_patch/{id}")
}

impl Store {
    fn open_patch(&self, (patch, sealed): Closed) -> Result<EnvironmentPatch, StoreError> {
        let place = place(patch.id);
        let plain = self.inner.vault.unseal(&place, &sealed)?;
        let document = serde_json::from_slice(&plain).map_err(|_| StoreError::Corrupt(format!("{place} is not JSON")))?;
        Ok(EnvironmentPatch { patch: document, ..patch })
    }

    /// A change of an environment.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it does not decrypt.
    pub async fn environment_patch(&self, id: EnvironmentPatchId) -> Result<Option<Sealed<EnvironmentPatch>>, StoreError> {
        let found = self.one(&ENVIRONMENT_PATCH, &params![id = id], row).await?;
        let patch = found.map(|closed| self.open_patch(closed)).transpose()?;
        Ok(patch.map(|patch| Sealed::new(patch.workspace_id, patch)))
    }

    /// The staged change of an environment.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when it does not decrypt.
    pub async fn environment_patch_staged(&self, tenant: Tenant, id: EnvironmentId) -> Result<Option<EnvironmentPatch>, StoreError> {
        let found = self.one(&ENVIRONMENT_PATCH_STAGED, &params![workspace = tenant, environment = id], row).await?;
        found.map(|closed| self.open_patch(closed)).transpose()
    }

    /// The changes of an environment, newest first. A change's cursor is its id.
    ///
    /// # Errors
    /// [`StoreError::BadCursor`], [`StoreError::Corrupt`] when one does not decrypt.
    pub async fn environment_patches(
        &self,
        tenant: Tenant,
        environment: EnvironmentId,
        request: &PageRequest,
    ) -> Result<Page<EnvironmentPatch>, StoreError> {
        let range = page::range(request)?;
        let sql = if range.oldest_first { &ENVIRONMENT_PATCHES_FROM_END } else { &ENVIRONMENT_PATCHES };
        let params = params![workspace = tenant, environment = environment, above = range.above, below = range.below, limit = range.limit];
        let rows = self.list(sql, &params, row).await?;
        let opened = rows.into_iter().map(|closed| self.open_patch(closed)).collect::<Result<_, _>>()?;
        Ok(page::page(request, &range, opened))
    }

    /// How much is staged in each of the environments; nothing for one in which nothing is.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn staged_counts(&self, tenant: Tenant, environments: &[EnvironmentId]) -> Result<Vec<StagedCount>, StoreError> {
        let read = |r: &mut Record| Ok(StagedCount { environment_id: r.id(EnvironmentId)?, changes: r.number()? });
        self.batch(&STAGED_COUNTS, &params![workspace = tenant, environments = environments], read, |row| row.environment_id).await
    }
}

pub(crate) fn environment_patch_insert(vault: &Vault, patch: &EnvironmentPatch) -> Result<Vec<Statement>, StoreError> {
    let EnvironmentPatch { id, workspace_id, project_id, environment_id, status, message, patch: document, .. } = patch;
    let EnvironmentPatch { changes, author, applied_at, created_at, updated_at, .. } = patch;
    let plain = Zeroizing::new(serde_json::to_vec(document).map_err(|error| StoreError::Corrupt(error.to_string()))?);
    let params = params![
        id = *id,
        workspace = *workspace_id,
        project = *project_id,
        environment = *environment_id,
        status = status.as_str(),
        message = message.as_ref(),
        sealed_patch = vault.seal(&place(*id), &plain)?,
        changes = *changes,
        author = json(author),
        applied = *applied_at,
        created = *created_at,
        updated = *updated_at
    ];
    let trim = params![workspace = *workspace_id, environment = *environment_id];
    Ok(vec![Statement::touch(&ENVIRONMENT_PATCH_INSERT, params), Statement::any(&ENVIRONMENT_PATCHES_TRIM, trim)])
}

pub(crate) fn environment_patch_delete(tenant: Tenant, id: EnvironmentPatchId) -> Statement {
    Statement::touch(&ENVIRONMENT_PATCH_DELETE, params![id = id, workspace = tenant])
}
