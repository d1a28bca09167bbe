//! Instances.

use domain::project::Instance;
use domain::{EnvironmentId, InstanceId, ProjectId, Sealed, ServiceId, Tenant, Timestamp, TriggerId, WorkspaceId};

use crate::executor::{BadCell, Record, Statement, json};
use crate::{Store, StoreError};

macro_rules! select {
    () => {
        "SELECT id, workspace_id, project_id, environment_id, service_id, number, spec, created_at, updated_at FROM instances "
    };
}

statements! {
    INSTANCE = concat!(select!(), "WHERE id = $id");
    INSTANCE_OF = concat!(select!(), "WHERE environment_id = $environment AND service_id = $service");
    INSTANCES_OF_ENVIRONMENTS = concat!(select!(), "WHERE environment_id IN ($environments) AND workspace_id = $workspace");
    INSTANCES_OF_SERVICES = concat!(select!(), "WHERE service_id IN ($services) AND workspace_id = $workspace");
    INSTANCES_BY_ID = concat!(select!(), "WHERE id IN ($ids) AND workspace_id = $workspace");
    INSTANCES_OF_WORKSPACES = concat!(select!(), "WHERE workspace_id IN ($workspaces)");
    INSTANCE_OF_TRIGGER = concat!(select!(), "WHERE id = (SELECT triggers.instance_id FROM triggers WHERE triggers.id = $trigger)");
    INSTANCE_BETWEEN = concat!(select!(), "WHERE id >= $first AND id <= $last ORDER BY id LIMIT 1");
    INSTANCE_NUMBER_NEXT = "UPDATE counters SET value = value + 1 WHERE name = 'instance'";
    INSTANCE_INSERT =
        "INSERT INTO instances (id, workspace_id, project_id, environment_id, service_id, number, spec, single, created_at, updated_at) \
         VALUES ($id, $workspace, $project, $environment, $service, (SELECT value FROM counters WHERE name = 'instance'), $spec, \
         $single, $created, $updated) RETURNING id, number";
    INSTANCE_UPDATE =
        "UPDATE instances SET spec = $spec, single = $single, updated_at = $updated \
         WHERE id = $id AND workspace_id = $workspace AND updated_at = $seen";
    INSTANCE_DELETE = "DELETE FROM instances WHERE id = $id AND workspace_id = $workspace";
}

pub(crate) fn row(r: &mut Record) -> Result<Instance, BadCell> {
    Ok(Instance {
        id: r.id(InstanceId)?,
        workspace_id: r.id(WorkspaceId)?,
        project_id: r.id(ProjectId)?,
        environment_id: r.id(EnvironmentId)?,
        service_id: r.id(ServiceId)?,
        number: r.number()?,
        spec: r.json()?,
        created_at: r.time()?,
        updated_at: r.time()?,
    })
}

impl Store {
    /// An instance.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn instance(&self, id: InstanceId) -> Result<Option<Sealed<Instance>>, StoreError> {
        self.sealed(&INSTANCE, &params![id = id], row, |instance| instance.workspace_id).await
    }

    /// Every instance of the workspace, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn instances_of_workspace(&self, tenant: Tenant) -> Result<Vec<Instance>, StoreError> {
        self.instances_of_workspaces(&[tenant]).await
    }

    /// The same of several workspaces.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn instances_of_workspaces(&self, tenants: &[Tenant]) -> Result<Vec<Instance>, StoreError> {
        self.batch(&INSTANCES_OF_WORKSPACES, &params![workspaces = tenants], row, |row| row.id).await
    }

    /// The instance whose id lies between these two, themselves included: what a shortened id leads to.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn instance_between(&self, first: InstanceId, last: InstanceId) -> Result<Option<Sealed<Instance>>, StoreError> {
        self.sealed(&INSTANCE_BETWEEN, &params![first = first, last = last], row, |instance| instance.workspace_id).await
    }

    /// The instance of a service in an environment.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn instance_of(&self, environment: EnvironmentId, service: ServiceId) -> Result<Option<Sealed<Instance>>, StoreError> {
        let params = params![environment = environment, service = service];
        self.sealed(&INSTANCE_OF, &params, row, |instance| instance.workspace_id).await
    }

    /// The instance that a trigger belongs to.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn instance_of_trigger(&self, trigger: TriggerId) -> Result<Option<Sealed<Instance>>, StoreError> {
        self.sealed(&INSTANCE_OF_TRIGGER, &params![trigger = trigger], row, |instance| instance.workspace_id).await
    }

    /// Those of the instances that are the workspace's, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn instances_by_id(&self, tenant: Tenant, ids: &[InstanceId]) -> Result<Vec<Instance>, StoreError> {
        self.batch(&INSTANCES_BY_ID, &params![workspace = tenant, ids = ids], row, |row| row.id).await
    }

    /// The instances in the environments, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn instances_of_environments(&self, tenant: Tenant, environments: &[EnvironmentId]) -> Result<Vec<Instance>, StoreError> {
        self.batch(&INSTANCES_OF_ENVIRONMENTS, &params![workspace = tenant, environments = environments], row, |row| row.id).await
    }

    /// The instances of the services, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn instances_of_services(&self, tenant: Tenant, services: &[ServiceId]) -> Result<Vec<Instance>, StoreError> {
        self.batch(&INSTANCES_OF_SERVICES, &params![workspace = tenant, services = services], row, |row| row.id).await
    }
}

/// What the attachment of a volume depends on.
fn single(instance: &Instance) -> bool {
    instance.spec.deploy.replicas() <= 1
}

/// The number in the row is ignored: the next one of the server is taken. The counter's row stays locked until the commit, so that no
/// number is given out twice, and numbers are never used again.
pub(crate) fn instance_insert(instance: &Instance) -> Vec<Statement> {
    let Instance { id, workspace_id, project_id, environment_id, service_id, number: _, spec, created_at, updated_at } = instance;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        project = *project_id,
        environment = *environment_id,
        service = *service_id,
        spec = json(spec),
        single = single(instance),
        created = *created_at,
        updated = *updated_at
    ];
    vec![Statement::touch(&INSTANCE_NUMBER_NEXT, []), Statement::touch(&INSTANCE_INSERT, params)]
}

/// What the insertion returns: the instance and the number that it was given.
pub(crate) fn inserted(r: &mut Record) -> Result<(InstanceId, i64), BadCell> {
    Ok((r.id(InstanceId)?, r.number()?))
}

pub(crate) fn instance_update(instance: &Instance, seen: Timestamp) -> Statement {
    let Instance { id, workspace_id, spec, updated_at, .. } = instance;
    let params =
        params![id = *id, workspace = *workspace_id, spec = json(spec), single = single(instance), updated = *updated_at, seen = seen];
    Statement::touch(&INSTANCE_UPDATE, params)
}

pub(crate) fn instance_delete(tenant: Tenant, id: InstanceId) -> Statement {
    Statement::touch(&INSTANCE_DELETE, params![id = id, workspace = tenant])
}
