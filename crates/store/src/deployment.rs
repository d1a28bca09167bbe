//! Deployments and the variables that are frozen with them.

use std::collections::BTreeMap;

use domain::deployment::{DeployReason, Deployment, DeploymentStatus};
use domain::page::{Page, PageRequest};
use domain::spec::{InstanceSpec, RunPlan};
use domain::{DeploymentId, EnvironmentId, InstanceId, ProjectId, Sealed, ServiceId, SnapshotId, Tenant, Timestamp, WorkspaceId};
use zeroize::Zeroizing;

use crate::executor::{BadCell, Named, Param, Record, Sql, Statement, json};
use crate::vault::Vault;
use crate::{Store, StoreError, page};

/// A page within a scope. Each scope names the columns of one index, which is in the order of the page.
macro_rules! page_of {
    ($scope:literal, $order:literal) => {
        concat!(
            "SELECT ",
            deployment_columns!(),
            " FROM deployments WHERE ",
            $scope,
            " AND id > $above AND id < $below AND status IN ($statuses) AND workspace_id = $workspace",
            " AND ($any_project OR project_id = $project) ORDER BY id ",
            $order,
            " LIMIT $limit"
        )
    };
}

/// One step down an index for each row of the answer: each finds the next older one of its service, under the same further condition.
macro_rules! newest_of_services {
    ($newest:literal, $older:literal) => {
        concat!(
            "WITH RECURSIVE step (service_id, id, place) AS ( \
             SELECT services.id, (SELECT newest.id FROM deployments AS newest WHERE newest.workspace_id = $workspace \
             AND newest.service_id = services.id ",
            $newest,
            "ORDER BY newest.id DESC LIMIT 1), CAST(1 AS BIGINT) \
             FROM services WHERE services.id IN ($services) AND services.workspace_id = $workspace \
             UNION ALL \
             SELECT step.service_id, (SELECT older.id FROM deployments AS older WHERE older.workspace_id = $workspace \
             AND older.service_id = step.service_id ",
            $older,
            "AND older.id < step.id ORDER BY older.id DESC LIMIT 1), step.place + 1 \
             FROM step WHERE step.place < $limit AND step.id IS NOT NULL) \
             SELECT ",
            deployment_columns!(),
            " FROM step JOIN deployments ON deployments.id = step.id"
        )
    };
}

statements! {
    DEPLOYMENT = concat!("SELECT ", deployment_columns!(), " FROM deployments WHERE id = $id");
    DEPLOYMENTS_BY_ID = concat!("SELECT ", deployment_columns!(), " FROM deployments WHERE id IN ($ids) AND workspace_id = $workspace");
    PAGE_OF_PLACE = page_of!("environment_id = $environment AND service_id = $service", "DESC");
    PAGE_OF_PLACE_FROM_END = page_of!("environment_id = $environment AND service_id = $service", "ASC");
    PAGE_OF_ENVIRONMENT = page_of!("environment_id = $environment", "DESC");
    PAGE_OF_ENVIRONMENT_FROM_END = page_of!("environment_id = $environment", "ASC");
    PAGE_OF_SERVICE = page_of!("service_id = $service", "DESC");
    PAGE_OF_SERVICE_FROM_END = page_of!("service_id = $service", "ASC");
    PAGE_OF_PROJECT = page_of!("project_id = $project", "DESC");
    PAGE_OF_PROJECT_FROM_END = page_of!("project_id = $project", "ASC");
    PAGE_OF_WORKSPACE = page_of!("workspace_id = $workspace", "DESC");
    PAGE_OF_WORKSPACE_FROM_END = page_of!("workspace_id = $workspace", "ASC");
    /// One step down the index for each instance, however long its history is.
    DEPLOYMENTS_LATEST = concat!(
        "SELECT ", deployment_columns!(), " FROM instances JOIN deployments ON deployments.id = (SELECT newest.id FROM deployments AS newest \
         WHERE newest.instance_id = instances.id ORDER BY newest.id DESC LIMIT 1) \
         WHERE instances.id IN ($instances) AND instances.workspace_id = $workspace"
    );
    DEPLOYMENTS_LIVE = concat!(
        "SELECT ", deployment_columns!(), " FROM deployments WHERE instance_id IN ($instances) AND workspace_id = $workspace \
         AND status NOT IN ('FAILED', 'SKIPPED', 'REMOVED')"
    );
    DEPLOYMENTS_OF_SERVICES = newest_of_services!("", "");
    DEPLOYMENTS_OF_SERVICES_IN =
        newest_of_services!("AND newest.environment_id = $environment ", "AND older.environment_id = $environment ");
    DEPLOYMENTS_OF_SERVICES_ALL = concat!(
        "SELECT ", deployment_columns!(), " FROM deployments WHERE service_id IN ($services) AND workspace_id = $workspace \
         AND ($everywhere OR environment_id = $environment) LIMIT $limit"
    );
    DEPLOYMENT_VARIABLES = "SELECT sealed_values FROM deployment_variables WHERE deployment_id = $id AND workspace_id = $workspace";
    DEPLOYMENT_INSERT =
        "INSERT INTO deployments (id, workspace_id, project_id, environment_id, service_id, instance_id, snapshot_id, status, \
         status_reason, status_at, generation, stopped, reason, spec, source_blob, artifact, run, waits_for, message, creator, created_at, updated_at) \
         VALUES ($id, $workspace, $project, $environment, $service, $instance, $snapshot, $status, $status_reason, $status_at, \
         $generation, $stopped, $reason, $spec, $source_blob, $artifact, $run, $waits_for, $message, $creator, $created, $updated)";
    DEPLOYMENT_VARIABLES_INSERT =
        "INSERT INTO deployment_variables (deployment_id, workspace_id, sealed_values) VALUES ($id, $workspace, $sealed)";
    DEPLOYMENT_MOVE =
        "UPDATE deployments SET status = $to, status_reason = $reason, status_at = $at, updated_at = $at \
         WHERE id = $id AND workspace_id = $workspace AND status = $from";
    DEPLOYMENT_BUILT =
        "UPDATE deployments SET artifact = $artifact, run = $run, spec = $spec, updated_at = $at \
         WHERE id = $id AND workspace_id = $workspace";
    DEPLOYMENT_STOPPED = "UPDATE deployments SET stopped = $stopped, updated_at = $at WHERE id = $id AND workspace_id = $workspace";
    DEPLOYMENT_STOPPED_OF =
        "UPDATE deployments SET stopped = $stopped, updated_at = $at \
         WHERE id = $id AND workspace_id = $workspace AND status = $status AND generation = $generation";
    DEPLOYMENT_RESTART =
        "UPDATE deployments SET generation = generation + 1, status = 'DEPLOYING', status_reason = NULL, status_at = $at, \
         stopped = FALSE, updated_at = $at WHERE id = $id AND workspace_id = $workspace AND status = $from";
}

/// Which deployments are wanted. What is not said does not narrow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeploymentQuery {
    /// Of this project.
    pub project: Option<ProjectId>,
    /// Of this environment.
    pub environment: Option<EnvironmentId>,
    /// Of this service.
    pub service: Option<ServiceId>,
    /// In one of these states; empty means any.
    pub statuses_in: Vec<DeploymentStatus>,
    /// In none of these states.
    pub statuses_not_in: Vec<DeploymentStatus>,
}

pub(crate) fn row(r: &mut Record) -> Result<Deployment, BadCell> {
    Ok(Deployment {
        id: r.id(DeploymentId)?,
        workspace_id: r.id(WorkspaceId)?,
        project_id: r.id(ProjectId)?,
        environment_id: r.id(EnvironmentId)?,
        service_id: r.id(ServiceId)?,
        instance_id: r.id(InstanceId)?,
        snapshot_id: r.id(SnapshotId)?,
        status: r.word(DeploymentStatus::parse)?,
        status_reason: r.maybe_text()?,
        status_at: r.time()?,
        generation: r.number()?,
        stopped: r.flag()?,
        reason: r.word(DeployReason::parse)?,
        spec: r.json()?,
        source_blob: r.maybe_text()?,
        artifact: r.maybe_text()?,
        run: r.maybe_json()?,
        waits_for: r.json()?,
        message: r.maybe_text()?,
        creator: r.json()?,
        created_at: r.time()?,
        updated_at: r.time()?,
    })
}

fn page_sql(query: &DeploymentQuery, oldest_first: bool) -> &'static Sql {
    let (newest, oldest) = match (query.environment, query.service, query.project) {
        (Some(_), Some(_), _) => (&PAGE_OF_PLACE, &PAGE_OF_PLACE_FROM_END),
        (Some(_), None, _) => (&PAGE_OF_ENVIRONMENT, &PAGE_OF_ENVIRONMENT_FROM_END),
        (None, Some(_), _) => (&PAGE_OF_SERVICE, &PAGE_OF_SERVICE_FROM_END),
        (None, None, Some(_)) => (&PAGE_OF_PROJECT, &PAGE_OF_PROJECT_FROM_END),
        (None, None, None) => (&PAGE_OF_WORKSPACE, &PAGE_OF_WORKSPACE_FROM_END),
    };
    if oldest_first { oldest } else { newest }
}

impl Store {
    /// A deployment.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn deployment(&self, id: DeploymentId) -> Result<Option<Sealed<Deployment>>, StoreError> {
        self.sealed(&DEPLOYMENT, &params![id = id], row, |deployment| deployment.workspace_id).await
    }

    /// Those of the deployments that are the workspace's, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn deployments_by_id(&self, tenant: Tenant, ids: &[DeploymentId]) -> Result<Vec<Deployment>, StoreError> {
        self.batch(&DEPLOYMENTS_BY_ID, &params![workspace = tenant, ids = ids], row, |row| row.id).await
    }

    /// Deployments of the workspace, newest first. A deployment's cursor is its id.
    ///
    /// # Errors
    /// [`StoreError::BadCursor`].
    pub async fn deployments(
        &self,
        tenant: Tenant,
        query: &DeploymentQuery,
        request: &PageRequest,
    ) -> Result<Page<Deployment>, StoreError> {
        let range = page::range(request)?;
        let wanted = |status: &&DeploymentStatus| {
            (query.statuses_in.is_empty() || query.statuses_in.contains(status)) && !query.statuses_not_in.contains(status)
        };
        let statuses: Vec<&'static str> = DeploymentStatus::ALL.iter().filter(wanted).map(|status| status.as_str()).collect();
        let params = params![
            workspace = tenant,
            environment = query.environment,
            service = query.service,
            project = query.project,
            any_project = query.project.is_none(),
            statuses = statuses,
            above = range.above,
            below = range.below,
            limit = range.limit
        ];
        let rows = self.list(page_sql(query, range.oldest_first), &params, row).await?;
        Ok(page::page(request, &range, rows))
    }

    /// The newest deployment of each instance, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn deployments_latest(&self, tenant: Tenant, instances: &[InstanceId]) -> Result<Vec<Deployment>, StoreError> {
        self.batch(&DEPLOYMENTS_LATEST, &params![workspace = tenant, instances = instances], row, |row| row.id).await
    }

    /// The instances' deployments that are pending or may have replicas, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn deployments_live(&self, tenant: Tenant, instances: &[InstanceId]) -> Result<Vec<Deployment>, StoreError> {
        self.batch(&DEPLOYMENTS_LIVE, &params![workspace = tenant, instances = instances], row, |row| row.id).await
    }

    /// The newest deployments of each service, everywhere or in one environment, at most so many of each, newest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn deployments_of_services(
        &self,
        tenant: Tenant,
        services: &[ServiceId],
        environment: Option<EnvironmentId>,
        limit_each: u32,
    ) -> Result<Vec<Deployment>, StoreError> {
        if limit_each == 0 {
            return Ok(vec![]);
        }
        let sql = if environment.is_some() { &DEPLOYMENTS_OF_SERVICES_IN } else { &DEPLOYMENTS_OF_SERVICES };
        let params = params![workspace = tenant, services = services, environment = environment, limit = limit_each];
        self.batch(sql, &params, row, |row| std::cmp::Reverse(row.id)).await
    }

    /// All deployments of the services, everywhere or in one environment, newest first; of more than `limit` just any so many.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn deployments_of_services_all(
        &self,
        tenant: Tenant,
        services: &[ServiceId],
        environment: Option<EnvironmentId>,
        limit: u32,
    ) -> Result<Vec<Deployment>, StoreError> {
        let params =
            params![workspace = tenant, services = services, everywhere = environment.is_none(), environment = environment, limit = limit];
        self.batch(&DEPLOYMENTS_OF_SERVICES_ALL, &params, row, |row| std::cmp::Reverse(row.id)).await
    }

    /// The variables that were frozen with a deployment; none for one that is not there.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when they do not decrypt.
    pub async fn deployment_variables(&self, tenant: Tenant, id: DeploymentId) -> Result<BTreeMap<String, String>, StoreError> {
        let Some(sealed) = self.one(&DEPLOYMENT_VARIABLES, &params![workspace = tenant, id = id], Record::bytes).await? else {
            return Ok(BTreeMap::new());
        };
        let plain = self.inner.vault.unseal(&place(id), &sealed)?;
        serde_json::from_slice(&plain).map_err(|_| StoreError::Corrupt(format!("{}: not a map of strings", place(id))))
    }
}

fn place(id: DeploymentId) -> String {
    format!("deployment_variables.sealed_values/{id}")
}

/// A deployment and its frozen variables.
pub(crate) fn deployment_insert(
    vault: &Vault,
    row: &Deployment,
    variables: &BTreeMap<String, String>,
) -> Result<Vec<Statement>, StoreError> {
    let plain = Zeroizing::new(serde_json::to_vec(variables).map_err(|error| StoreError::Corrupt(error.to_string()))?);
    let sealed = vault.seal(&place(row.id), &plain)?;
    let frozen = params![id = row.id, workspace = row.workspace_id, sealed = sealed];
    Ok(vec![Statement::touch(&DEPLOYMENT_INSERT, insertion(row)), Statement::touch(&DEPLOYMENT_VARIABLES_INSERT, frozen)])
}

fn insertion(row: &Deployment) -> Vec<Named> {
    let Deployment { id, workspace_id, project_id, environment_id, service_id, instance_id, snapshot_id, .. } = row;
    let Deployment { status, status_reason, status_at, generation, stopped, reason, spec, source_blob, artifact, .. } = row;
    let Deployment { run, waits_for, message, creator, created_at, updated_at, .. } = row;
    params![
        id = *id,
        workspace = *workspace_id,
        project = *project_id,
        environment = *environment_id,
        service = *service_id,
        instance = *instance_id,
        snapshot = *snapshot_id,
        status = status.as_str(),
        status_reason = status_reason.as_ref(),
        status_at = *status_at,
        generation = *generation,
        stopped = *stopped,
        reason = reason.as_str(),
        spec = json(spec),
        source_blob = source_blob.as_ref(),
        artifact = artifact.as_ref(),
        run = run.as_ref().map_or(Param::Null, json),
        waits_for = json(waits_for),
        message = message.as_ref(),
        creator = json(creator),
        created = *created_at,
        updated = *updated_at
    ]
    .into()
}

pub(crate) fn deployment_move(
    tenant: Tenant,
    id: DeploymentId,
    from: DeploymentStatus,
    to: DeploymentStatus,
    reason: Option<String>,
    at: Timestamp,
) -> Statement {
    let params = params![id = id, workspace = tenant, from = from.as_str(), to = to.as_str(), reason = reason, at = at];
    Statement::touch(&DEPLOYMENT_MOVE, params)
}

pub(crate) fn deployment_built(
    tenant: Tenant,
    id: DeploymentId,
    artifact: String,
    run: &RunPlan,
    spec: &InstanceSpec,
    at: Timestamp,
) -> Statement {
    let params = params![id = id, workspace = tenant, artifact = artifact, run = json(run), spec = json(spec), at = at];
    Statement::touch(&DEPLOYMENT_BUILT, params)
}

pub(crate) fn deployment_stopped(
    tenant: Tenant,
    id: DeploymentId,
    stopped: bool,
    of: Option<(DeploymentStatus, i64)>,
    at: Timestamp,
) -> Statement {
    let Some((status, generation)) = of else {
        return Statement::touch(&DEPLOYMENT_STOPPED, params![id = id, workspace = tenant, stopped = stopped, at = at]);
    };
    let params = params![id = id, workspace = tenant, stopped = stopped, status = status.as_str(), generation = generation, at = at];
    Statement::touch(&DEPLOYMENT_STOPPED_OF, params)
}

pub(crate) fn deployment_restart(tenant: Tenant, id: DeploymentId, from: DeploymentStatus, at: Timestamp) -> Statement {
    Statement::touch(&DEPLOYMENT_RESTART, params![id = id, workspace = tenant, from = from.as_str(), at = at])
}
