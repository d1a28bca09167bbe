//! Projects.

use domain::page::{Page, PageRequest};
use domain::project::Project;
use domain::{ProjectId, Sealed, Tenant, Timestamp, WorkspaceId};

use crate::executor::{BadCell, Record, Statement};
use crate::{Store, StoreError, page};

macro_rules! columns {
    () => {
        "projects.id, projects.workspace_id, projects.name, projects.description, projects.created_at, projects.updated_at, \
         projects.deleted_at"
    };
}

macro_rules! page_of {
    ($which:literal, $order:literal) => {
        concat!(
            "SELECT ",
            columns!(),
            " FROM projects WHERE workspace_id = $workspace AND id > $above AND id < $below ",
            $which,
            " ORDER BY id ",
            $order,
            " LIMIT $limit"
        )
    };
}

statements! {
    PROJECT = concat!("SELECT ", columns!(), " FROM projects WHERE id = $id");
    PROJECTS_BY_ID = concat!("SELECT ", columns!(), " FROM projects WHERE id IN ($ids) AND workspace_id = $workspace");
    PROJECTS_LIVING = page_of!("AND deleted_at IS NULL", "DESC");
    PROJECTS_LIVING_FROM_END = page_of!("AND deleted_at IS NULL", "ASC");
    PROJECTS_ALL = page_of!("", "DESC");
    PROJECTS_ALL_FROM_END = page_of!("", "ASC");
    PROJECT_COUNT = "SELECT COUNT(*) FROM projects WHERE workspace_id = $workspace AND deleted_at IS NULL";
    PROJECT_INSERT =
        "INSERT INTO projects (id, workspace_id, name, description, created_at, updated_at, deleted_at) \
         VALUES ($id, $workspace, $name, $description, $created, $updated, $deleted)";
    PROJECT_UPDATE =
        "UPDATE projects SET name = $name, description = $description, updated_at = $updated, deleted_at = $deleted \
         WHERE id = $id AND workspace_id = $workspace AND updated_at = $seen";
    PROJECT_DELETE = "DELETE FROM projects WHERE id = $id AND workspace_id = $workspace";
}

fn row(r: &mut Record) -> Result<Project, BadCell> {
    Ok(Project {
        id: r.id(ProjectId)?,
        workspace_id: r.id(WorkspaceId)?,
        name: r.text()?,
        description: r.maybe_text()?,
        created_at: r.time()?,
        updated_at: r.time()?,
        deleted_at: r.maybe_time()?,
    })
}

impl Store {
    /// A project.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn project(&self, id: ProjectId) -> Result<Option<Sealed<Project>>, StoreError> {
        self.sealed(&PROJECT, &params![id = id], row, |project| project.workspace_id).await
    }

    /// Projects of the workspace, newest first. A project's cursor is its id.
    ///
    /// # Errors
    /// [`StoreError::BadCursor`].
    pub async fn projects(&self, tenant: Tenant, request: &PageRequest, include_deleted: bool) -> Result<Page<Project>, StoreError> {
        let range = page::range(request)?;
        let sql = match (include_deleted, range.oldest_first) {
            (false, false) => &PROJECTS_LIVING,
            (false, true) => &PROJECTS_LIVING_FROM_END,
            (true, false) => &PROJECTS_ALL,
            (true, true) => &PROJECTS_ALL_FROM_END,
        };
        let params = params![workspace = tenant, above = range.above, below = range.below, limit = range.limit];
        Ok(page::page(request, &range, self.list(sql, &params, row).await?))
    }

    /// How many projects the workspace has, deleted ones not counted.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn project_count(&self, tenant: Tenant) -> Result<u64, StoreError> {
        Ok(self.one(&PROJECT_COUNT, &params![workspace = tenant], Record::number).await?.unwrap_or(0))
    }

    /// Those of the projects that are the workspace's, oldest first, deleted ones included.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn projects_by_id(&self, tenant: Tenant, ids: &[ProjectId]) -> Result<Vec<Project>, StoreError> {
        self.batch(&PROJECTS_BY_ID, &params![workspace = tenant, ids = ids], row, |row| row.id).await
    }
}

pub(crate) fn project_insert(project: &Project) -> Statement {
    let Project { id, workspace_id, name, description, created_at, updated_at, deleted_at } = project;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        name = name,
        description = description.as_ref(),
        created = *created_at,
        updated = *updated_at,
        deleted = *deleted_at
    ];
    Statement::touch(&PROJECT_INSERT, params)
}

pub(crate) fn project_update(project: &Project, seen: Timestamp) -> Statement {
    let Project { id, workspace_id, name, description, created_at: _, updated_at, deleted_at } = project;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        name = name,
        description = description.as_ref(),
        updated = *updated_at,
        deleted = *deleted_at,
        seen = seen
    ];
    Statement::touch(&PROJECT_UPDATE, params)
}

pub(crate) fn project_delete(tenant: Tenant, id: ProjectId) -> Statement {
    Statement::touch(&PROJECT_DELETE, params![id = id, workspace = tenant])
}
