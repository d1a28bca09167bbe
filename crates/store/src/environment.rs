//! Environments.

use domain::project::Environment;
use domain::{EnvironmentId, ProjectId, Sealed, Tenant, Timestamp, WorkspaceId};

use crate::executor::{BadCell, Record, Statement};
use crate::{Store, StoreError};

macro_rules! select {
    () => {
        "SELECT id, workspace_id, project_id, name, is_ephemeral, is_protected, source_environment_id, created_at, updated_at FROM environments "
    };
}

statements! {
    ENVIRONMENT = concat!(select!(), "WHERE id = $id");
    ENVIRONMENTS_OF = concat!(select!(), "WHERE project_id IN ($projects) AND workspace_id = $workspace");
    ENVIRONMENTS_BY_ID = concat!(select!(), "WHERE id IN ($ids) AND workspace_id = $workspace");
    ENVIRONMENT_INSERT =
        "INSERT INTO environments \
         (id, workspace_id, project_id, name, name_key, is_ephemeral, is_protected, source_environment_id, created_at, updated_at) \
         VALUES ($id, $workspace, $project, $name, $name_key, $is_ephemeral, $is_protected, $source, $created, $updated)";
    ENVIRONMENT_UPDATE =
        "UPDATE environments SET name = $name, name_key = $name_key, is_ephemeral = $is_ephemeral, updated_at = $updated \
         WHERE id = $id AND workspace_id = $workspace";
    ENVIRONMENT_PROTECT = "UPDATE environments SET is_protected = $protected, updated_at = $at WHERE id = $id AND workspace_id = $workspace";
    ENVIRONMENT_REVISION = "SELECT revision FROM environments WHERE id = $id AND workspace_id = $workspace";
    ENVIRONMENT_REVISE =
        "UPDATE environments SET revision = revision + 1 WHERE id = $id AND workspace_id = $workspace AND revision = $seen";
    /// Whoever deletes an environment waits for whoever does so in the same project, so that two do not leave it without any.
    ENVIRONMENT_DELETE_LOCK =
        "UPDATE projects SET name = name WHERE workspace_id = $workspace AND id = (SELECT environments.project_id FROM environments \
         WHERE environments.id = $id AND environments.workspace_id = $workspace)";
    ENVIRONMENT_DELETE =
        "DELETE FROM environments WHERE id = $id AND workspace_id = $workspace AND EXISTS (SELECT 1 FROM environments AS other \
         WHERE other.project_id = environments.project_id AND other.id <> environments.id)";
}

fn row(r: &mut Record) -> Result<Environment, BadCell> {
    Ok(Environment {
        id: r.id(EnvironmentId)?,
        workspace_id: r.id(WorkspaceId)?,
        project_id: r.id(ProjectId)?,
        name: r.text()?,
        is_ephemeral: r.flag()?,
        is_protected: r.flag()?,
        source_environment_id: r.maybe_id(EnvironmentId)?,
        created_at: r.time()?,
        updated_at: r.time()?,
    })
}

impl Store {
    /// An environment.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn environment(&self, id: EnvironmentId) -> Result<Option<Sealed<Environment>>, StoreError> {
        self.sealed(&ENVIRONMENT, &params![id = id], row, |environment| environment.workspace_id).await
    }

    /// The environments of the projects, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn environments_of(&self, tenant: Tenant, projects: &[ProjectId]) -> Result<Vec<Environment>, StoreError> {
        self.batch(&ENVIRONMENTS_OF, &params![workspace = tenant, projects = projects], row, |row| row.id).await
    }

    /// Those of the environments that are the workspace's, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn environments_by_id(&self, tenant: Tenant, ids: &[EnvironmentId]) -> Result<Vec<Environment>, StoreError> {
        self.batch(&ENVIRONMENTS_BY_ID, &params![workspace = tenant, ids = ids], row, |row| row.id).await
    }

    /// How many commits have rested on what was read of an environment ([`crate::Change::EnvironmentRevise`]); `None` for one that is not
    /// there.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn environment_revision(&self, tenant: Tenant, id: EnvironmentId) -> Result<Option<i64>, StoreError> {
        self.one(&ENVIRONMENT_REVISION, &params![id = id, workspace = tenant], Record::number).await
    }
}

pub(crate) fn environment_insert(environment: &Environment) -> Statement {
    let Environment { id, workspace_id, project_id, name, is_ephemeral, is_protected, source_environment_id, created_at, updated_at } =
        environment;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        project = *project_id,
        name = name,
        name_key = name.to_lowercase(),
        is_ephemeral = *is_ephemeral,
        is_protected = *is_protected,
        source = *source_environment_id,
        created = *created_at,
        updated = *updated_at
    ];
    Statement::touch(&ENVIRONMENT_INSERT, params)
}

pub(crate) fn environment_update(environment: &Environment) -> Statement {
    let Environment { id, workspace_id, name, is_ephemeral, updated_at, .. } = environment;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        name = name,
        name_key = name.to_lowercase(),
        is_ephemeral = *is_ephemeral,
        updated = *updated_at
    ];
    Statement::touch(&ENVIRONMENT_UPDATE, params)
}

pub(crate) fn environment_protect(tenant: Tenant, id: EnvironmentId, protected: bool, at: Timestamp) -> Statement {
    Statement::touch(&ENVIRONMENT_PROTECT, params![id = id, workspace = tenant, protected = protected, at = at])
}

pub(crate) fn environment_revise(tenant: Tenant, id: EnvironmentId, seen: i64) -> Statement {
    Statement::touch(&ENVIRONMENT_REVISE, params![id = id, workspace = tenant, seen = seen])
}

pub(crate) fn environment_delete(tenant: Tenant, id: EnvironmentId) -> Vec<Statement> {
    let params = params![id = id, workspace = tenant];
    vec![Statement::touch(&ENVIRONMENT_DELETE_LOCK, params.clone()), Statement::touch(&ENVIRONMENT_DELETE, params)]
}
