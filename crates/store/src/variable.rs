//! Variables. Their values are sealed.

use domain::variable::Variable;
use domain::{EnvironmentId, ProjectId, ServiceId, Tenant, WorkspaceId};
use uuid::Uuid;

use crate::executor::{BadCell, Record, Statement};
use crate::vault::Vault;
use crate::{Store, StoreError};

statements! {
    VARIABLES =
        "SELECT workspace_id, project_id, environment_id, service_id, name, is_sealed, updated_at, sealed_value FROM variables \
         WHERE environment_id = $environment AND workspace_id = $workspace ORDER BY owner, name";
    VARIABLE_SET =
        "INSERT INTO variables (workspace_id, project_id, environment_id, owner, service_id, name, sealed_value, is_sealed, updated_at) \
         VALUES ($workspace, $project, $environment, $owner, $service, $name, $sealed_value, $is_sealed, $updated) \
         ON CONFLICT (environment_id, owner, name) DO UPDATE SET sealed_value = excluded.sealed_value, \
         is_sealed = excluded.is_sealed, updated_at = excluded.updated_at WHERE variables.workspace_id = excluded.workspace_id";
    VARIABLE_DELETE =
        "DELETE FROM variables WHERE environment_id = $environment AND owner = $owner AND name = $name AND workspace_id = $workspace";
    VARIABLES_CLEAR = "DELETE FROM variables WHERE environment_id = $environment AND owner = $owner AND workspace_id = $workspace";
}

/// A variable's row before its value is opened.
type Closed = (Variable, Vec<u8>);

fn row(r: &mut Record) -> Result<Closed, BadCell> {
    let variable = Variable {
        workspace_id: r.id(WorkspaceId)?,
        project_id: r.id(ProjectId)?,
        environment_id: r.id(EnvironmentId)?,
        service_id: r.maybe_id(ServiceId)?,
        name: r.text()?,
        value: String::new(),
        is_sealed: r.flag()?,
        updated_at: r.time()?,
    };
    Ok((variable, r.bytes()?))
}

/// The service, or the environment for what its services share.
fn owner(environment: EnvironmentId, service: Option<ServiceId>) -> Uuid {
    service.map_or(environment.0, |service| service.0)
}

fn place(environment: EnvironmentId, service: Option<ServiceId>, name: &str) -> String {
    format!("variables.sealed_value/{environment}/{}/{name}", owner(environment, service))
}

impl Store {
    /// The variables of an environment: the shared ones and every service's.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a value does not decrypt.
    pub async fn variables(&self, tenant: Tenant, environment: EnvironmentId) -> Result<Vec<Variable>, StoreError> {
        let rows = self.list(&VARIABLES, &params![workspace = tenant, environment = environment], row).await?;
        let open = |(variable, sealed): Closed| {
            let place = place(variable.environment_id, variable.service_id, &variable.name);
            let mut plain = self.inner.vault.unseal(&place, &sealed)?;
            let value = String::from_utf8(std::mem::take(&mut *plain)).map_err(|_| StoreError::Corrupt(format!("{place} is not text")))?;
            Ok(Variable { value, ..variable })
        };
        rows.into_iter().map(open).collect()
    }
}

pub(crate) fn variable_set(vault: &Vault, variable: &Variable) -> Result<Statement, StoreError> {
    let Variable { workspace_id, project_id, environment_id, service_id, name, value, is_sealed, updated_at } = variable;
    let params = params![
        workspace = *workspace_id,
        project = *project_id,
        environment = *environment_id,
        owner = owner(*environment_id, *service_id),
        service = *service_id,
        name = name,
        sealed_value = vault.seal(&place(*environment_id, *service_id, name), value.as_bytes())?,
        is_sealed = *is_sealed,
        updated = *updated_at
    ];
    Ok(Statement::touch(&VARIABLE_SET, params))
}

pub(crate) fn variable_delete(tenant: Tenant, environment: EnvironmentId, service: Option<ServiceId>, name: &str) -> Statement {
    let params = params![workspace = tenant, environment = environment, owner = owner(environment, service), name = name];
    Statement::touch(&VARIABLE_DELETE, params)
}

/// Clearing what is empty already is no surprise.
pub(crate) fn variables_clear(tenant: Tenant, environment: EnvironmentId, service: Option<ServiceId>) -> Statement {
    Statement::any(&VARIABLES_CLEAR, params![workspace = tenant, environment = environment, owner = owner(environment, service)])
}
