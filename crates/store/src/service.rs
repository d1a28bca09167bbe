//! Services.

use domain::project::Service;
use domain::{ProjectId, Sealed, ServiceId, Tenant, WorkspaceId};

use crate::executor::{BadCell, Record, Statement};
use crate::{Store, StoreError};

macro_rules! select {
    () => {
        "SELECT id, workspace_id, project_id, name, icon, created_at, updated_at FROM services "
    };
}

statements! {
    SERVICE = concat!(select!(), "WHERE id = $id");
    SERVICES_OF = concat!(select!(), "WHERE project_id IN ($projects) AND workspace_id = $workspace");
    SERVICES_BY_ID = concat!(select!(), "WHERE id IN ($ids) AND workspace_id = $workspace");
    SERVICE_INSERT =
        "INSERT INTO services (id, workspace_id, project_id, name, name_key, icon, created_at, updated_at) \
         VALUES ($id, $workspace, $project, $name, $name_key, $icon, $created, $updated)";
    SERVICE_UPDATE =
        "UPDATE services SET name = $name, name_key = $name_key, icon = $icon, updated_at = $updated \
         WHERE id = $id AND workspace_id = $workspace";
    SERVICE_DELETE = "DELETE FROM services WHERE id = $id AND workspace_id = $workspace";
}

fn row(r: &mut Record) -> Result<Service, BadCell> {
    Ok(Service {
        id: r.id(ServiceId)?,
        workspace_id: r.id(WorkspaceId)?,
        project_id: r.id(ProjectId)?,
        name: r.text()?,
        icon: r.maybe_text()?,
        created_at: r.time()?,
        updated_at: r.time()?,
    })
}

impl Store {
    /// A service.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn service(&self, id: ServiceId) -> Result<Option<Sealed<Service>>, StoreError> {
        self.sealed(&SERVICE, &params![id = id], row, |service| service.workspace_id).await
    }

    /// The services of the projects, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn services_of(&self, tenant: Tenant, projects: &[ProjectId]) -> Result<Vec<Service>, StoreError> {
        self.batch(&SERVICES_OF, &params![workspace = tenant, projects = projects], row, |row| row.id).await
    }

    /// Those of the services that are the workspace's, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn services_by_id(&self, tenant: Tenant, ids: &[ServiceId]) -> Result<Vec<Service>, StoreError> {
        self.batch(&SERVICES_BY_ID, &params![workspace = tenant, ids = ids], row, |row| row.id).await
    }
}

pub(crate) fn service_insert(service: &Service) -> Statement {
    let Service { id, workspace_id, project_id, name, icon, created_at, updated_at } = service;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        project = *project_id,
        name = name,
        name_key = name.to_lowercase(),
        icon = icon.as_ref(),
        created = *created_at,
        updated = *updated_at
    ];
    Statement::touch(&SERVICE_INSERT, params)
}

pub(crate) fn service_update(service: &Service) -> Statement {
    let Service { id, workspace_id, name, icon, updated_at, .. } = service;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        name = name,
        name_key = name.to_lowercase(),
        icon = icon.as_ref(),
        updated = *updated_at
    ];
    Statement::touch(&SERVICE_UPDATE, params)
}

pub(crate) fn service_delete(tenant: Tenant, id: ServiceId) -> Statement {
    Statement::touch(&SERVICE_DELETE, params![id = id, workspace = tenant])
}
