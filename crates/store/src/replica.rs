//! Replicas. Those that are gone are deleted an hour later, but for the two newest of each place.

use domain::deployment::{Replica, ReplicaStatus};
use domain::project::Instance;
use domain::{DeploymentId, ReplicaId, Sealed, Tenant, Timestamp, WorkspaceId};

use crate::executor::{BadCell, Record, Statement};
use crate::{Store, StoreError, instance};

macro_rules! select {
    () => {
        "SELECT id, workspace_id, deployment_id, generation, place, status, port, exit_code, reason, restarts, created_at, updated_at, \
         unhealthy_since FROM replicas "
    };
}

statements! {
    REPLICA = concat!(select!(), "WHERE id = $id");
    REPLICAS_OF = concat!(select!(), "WHERE deployment_id IN ($deployments) AND workspace_id = $workspace");
    REPLICAS_PRESENT =
        concat!(select!(), "WHERE deployment_id IN ($deployments) AND workspace_id = $workspace AND status <> 'REMOVED'");
    /// Only deployments with more than two are ranked, and which those are the index alone says: this runs on the one thread that writes.
    SYSTEM_REPLICAS_PURGE =
        "DELETE FROM replicas WHERE status = 'REMOVED' AND updated_at < $over AND id IN (SELECT id FROM (SELECT id, \
         row_number() OVER (PARTITION BY deployment_id, generation, place ORDER BY id DESC) AS newness FROM replicas \
         WHERE (workspace_id, deployment_id) IN (SELECT workspace_id, deployment_id FROM replicas \
         GROUP BY workspace_id, deployment_id HAVING COUNT(*) > 2)) AS ranked WHERE newness > 2)";
    SYSTEM_LIVE_REPLICAS =
        concat!(select!(), "WHERE status IN ('CREATED', 'INITIALIZING', 'RUNNING', 'RESTARTING', 'REMOVING') ORDER BY id");
    SYSTEM_WATCHED_REPLICAS =
        "SELECT r.id, r.workspace_id, r.deployment_id, r.generation, r.place, r.status, r.port, r.exit_code, r.reason, r.restarts, \
         r.created_at, r.updated_at, r.unhealthy_since, i.id, i.workspace_id, i.project_id, i.environment_id, i.service_id, i.number, \
         i.spec, i.created_at, i.updated_at FROM replicas r JOIN deployments d ON d.id = r.deployment_id JOIN instances i ON i.id = d.instance_id \
         WHERE r.status IN ('CREATED', 'INITIALIZING', 'RUNNING', 'RESTARTING', 'REMOVING') AND d.status = 'SUCCESS' AND NOT d.stopped \
         AND EXISTS (SELECT 1 FROM domains n WHERE n.workspace_id = i.workspace_id AND n.environment_id = i.environment_id \
         AND n.service_id = i.service_id) \
         AND (r.unhealthy_since IS NOT NULL OR NOT EXISTS (SELECT 1 FROM tcp_proxies p WHERE p.workspace_id = i.workspace_id \
         AND p.environment_id = i.environment_id AND p.service_id = i.service_id)) \
         AND NOT EXISTS (SELECT 1 FROM executions e WHERE e.id = r.id) ORDER BY r.id";
    REPLICA_INSERT =
        "INSERT INTO replicas (id, workspace_id, deployment_id, generation, place, status, port, exit_code, reason, restarts, \
         created_at, updated_at, unhealthy_since) \
         VALUES ($id, $workspace, $deployment, $generation, $place, $status, $port, $exit_code, $reason, $restarts, $created, $updated, \
         $unhealthy)";
    REPLICA_UPDATE =
        "UPDATE replicas SET status = $status, port = $port, exit_code = $exit_code, reason = $reason, restarts = $restarts, \
         updated_at = $updated, unhealthy_since = CASE WHEN $status = 'RUNNING' THEN unhealthy_since ELSE NULL END \
         WHERE id = $id AND workspace_id = $workspace \
         AND (status <> 'REMOVING' OR $status IN ('REMOVING', 'STOPPED', 'REMOVED'))";
    REPLICA_END =
        "UPDATE replicas SET status = 'REMOVING', reason = $reason, updated_at = $at WHERE id = $id AND workspace_id = $workspace \
         AND status IN ('CREATED', 'INITIALIZING', 'RUNNING', 'RESTARTING')";
    REPLICA_HEALTH =
        "UPDATE replicas SET unhealthy_since = $since WHERE id = $id AND workspace_id = $workspace AND status = 'RUNNING'";
}

fn row(r: &mut Record) -> Result<Replica, BadCell> {
    Ok(Replica {
        id: r.id(ReplicaId)?,
        workspace_id: r.id(WorkspaceId)?,
        deployment_id: r.id(DeploymentId)?,
        generation: r.number()?,
        index: r.number()?,
        status: r.word(ReplicaStatus::parse)?,
        port: r.number()?,
        exit_code: r.maybe_number()?,
        reason: r.maybe_text()?,
        restarts: r.number()?,
        created_at: r.time()?,
        updated_at: r.time()?,
        unhealthy_since: r.maybe_time()?,
    })
}

impl Store {
    /// A replica.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn replica(&self, id: ReplicaId) -> Result<Option<Sealed<Replica>>, StoreError> {
        self.sealed(&REPLICA, &params![id = id], row, |replica| replica.workspace_id).await
    }

    /// The replicas of the deployments, oldest first, those that are gone included.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn replicas_of(&self, tenant: Tenant, deployments: &[DeploymentId]) -> Result<Vec<Replica>, StoreError> {
        self.batch(&REPLICAS_OF, &params![workspace = tenant, deployments = deployments], row, |row| row.id).await
    }

    /// The same without those that are gone.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn replicas_present(&self, tenant: Tenant, deployments: &[DeploymentId]) -> Result<Vec<Replica>, StoreError> {
        self.batch(&REPLICAS_PRESENT, &params![workspace = tenant, deployments = deployments], row, |row| row.id).await
    }

    /// Deletes replicas that were gone before `over`. The two newest of each place stay: they say what has become of an app.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_replicas_purge(&self, over: Timestamp) -> Result<(), StoreError> {
        self.write_one(&SYSTEM_REPLICAS_PURGE, params![over = over]).await.map(|_| ())
    }

    /// Every replica of the server for which a process may exist, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_live_replicas(&self) -> Result<Vec<Replica>, StoreError> {
        self.list(&SYSTEM_LIVE_REPLICAS, &[], row).await
    }

    /// Every such replica to which requests of a domain are routed and that no TCP port leads to, with its instance, oldest first. One that
    /// was found to answer nobody stays among them when a port comes, until it answers or is replaced.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_watched_replicas(&self) -> Result<Vec<(Replica, Instance)>, StoreError> {
        self.list(&SYSTEM_WATCHED_REPLICAS, &[], |r| Ok((row(r)?, instance::row(r)?))).await
    }
}

pub(crate) fn replica_insert(replica: &Replica) -> Statement {
    let Replica { id, workspace_id, deployment_id, generation, index, status, port, exit_code, reason, .. } = replica;
    let Replica { restarts, created_at, updated_at, unhealthy_since, .. } = replica;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        deployment = *deployment_id,
        generation = *generation,
        place = *index,
        status = status.as_str(),
        port = *port,
        exit_code = *exit_code,
        reason = reason.as_ref(),
        restarts = *restarts,
        created = *created_at,
        updated = *updated_at,
        unhealthy = *unhealthy_since
    ];
    Statement::touch(&REPLICA_INSERT, params)
}

pub(crate) fn replica_update(replica: &Replica) -> Statement {
    let Replica { id, workspace_id, status, port, exit_code, reason, restarts, updated_at, .. } = replica;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        status = status.as_str(),
        port = *port,
        exit_code = *exit_code,
        reason = reason.as_ref(),
        restarts = *restarts,
        updated = *updated_at
    ];
    Statement::touch(&REPLICA_UPDATE, params)
}

pub(crate) fn replica_end(tenant: Tenant, id: ReplicaId, reason: &str, at: Timestamp) -> Statement {
    Statement::touch(&REPLICA_END, params![id = id, workspace = tenant, reason = reason, at = at])
}

pub(crate) fn replica_health(tenant: Tenant, id: ReplicaId, since: Option<Timestamp>) -> Statement {
    Statement::touch(&REPLICA_HEALTH, params![id = id, workspace = tenant, since = since])
}
