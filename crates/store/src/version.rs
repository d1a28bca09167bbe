//! Versions of an app: its deployments of new source, counted from 1.

use domain::deployment::Deployment;
use domain::{InstanceId, SnapshotId, Tenant};

use crate::deployment::row;
use crate::{Store, StoreError};

/// Versions of an app that are listed at the most, counted from the newest.
pub const MAX_VERSIONS: u32 = 500;

statements! {
    /// One step down the index for each version of the answer.
    VERSIONS_OF_INSTANCES = concat!(
        "WITH RECURSIVE step (instance_id, id, number, place) AS ( \
         SELECT instances.id, (SELECT newest.id FROM deployments AS newest WHERE newest.instance_id = instances.id \
         AND newest.reason = 'deploy' ORDER BY newest.id DESC LIMIT 1), \
         (SELECT COUNT(*) FROM deployments AS every WHERE every.instance_id = instances.id AND every.reason = 'deploy'), \
         CAST(1 AS BIGINT) \
         FROM instances WHERE instances.id IN ($instances) AND instances.workspace_id = $workspace \
         UNION ALL \
         SELECT step.instance_id, (SELECT older.id FROM deployments AS older WHERE older.instance_id = step.instance_id \
         AND older.reason = 'deploy' AND older.id < step.id ORDER BY older.id DESC LIMIT 1), step.number - 1, step.place + 1 \
         FROM step WHERE step.place < $limit AND step.id IS NOT NULL) \
         SELECT step.number, ",
        deployment_columns!(),
        " FROM step JOIN deployments ON deployments.id = step.id"
    );
    VERSION_NUMBER =
        "SELECT COUNT(*) FROM deployments WHERE instance_id = $instance AND reason = 'deploy' AND workspace_id = $workspace \
         AND id <= (SELECT first.id FROM deployments AS first WHERE first.instance_id = $instance AND first.reason = 'deploy' \
         AND first.snapshot_id = $snapshot ORDER BY first.id LIMIT 1)";
}

impl Store {
    /// The versions of each instance with their numbers, newest first, at most `limit` of each.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn versions_of_instances(
        &self,
        tenant: Tenant,
        instances: &[InstanceId],
        limit: u32,
    ) -> Result<Vec<(u32, Deployment)>, StoreError> {
        let params = params![workspace = tenant, instances = instances, limit = limit];
        let read = |r: &mut crate::executor::Record| Ok((r.number()?, row(r)?));
        self.batch(&VERSIONS_OF_INSTANCES, &params, read, |(_, row)| std::cmp::Reverse(row.id)).await
    }

    /// The number of the version whose source this is; 0 when there is none.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn version_number(&self, tenant: Tenant, instance: InstanceId, snapshot: SnapshotId) -> Result<u64, StoreError> {
        let params = params![workspace = tenant, instance = instance, snapshot = snapshot];
        Ok(self.one(&VERSION_NUMBER, &params, |r| r.number()).await?.unwrap_or(0))
    }
}
