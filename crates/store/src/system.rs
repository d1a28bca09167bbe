//! What the engine reads across workspaces.

use domain::{InstanceId, ProjectId, ServiceId, Timestamp, WorkspaceId};
use jiff::SignedDuration;

use crate::executor::Record;
use crate::{Store, StoreError};

/// A deployment's files are needed while something may still happen to it, while it is among the ten newest that a rollback can name, and
/// while it is one of its app's ten newest versions: those can be restored, however many deployments have followed and however their own
/// ended.
macro_rules! in_use {
    ($column:literal) => {
        concat!(
            "SELECT ",
            $column,
            " FROM (SELECT ",
            $column,
            ", status, row_number() OVER (PARTITION BY instance_id ORDER BY id DESC) AS place FROM deployments \
             WHERE status NOT IN ('FAILED', 'SKIPPED')) AS restorable \
             WHERE ",
            $column,
            " IS NOT NULL AND (place <= 10 OR status <> 'REMOVED') UNION SELECT ",
            $column,
            " FROM (SELECT ",
            $column,
            ", row_number() OVER (PARTITION BY instance_id ORDER BY id DESC) AS place FROM deployments \
             WHERE reason = 'deploy') AS versions WHERE ",
            $column,
            " IS NOT NULL AND place <= 10"
        )
    };
}

statements! {
    SYSTEM_INSTANCES_WITH_WORK =
        "SELECT DISTINCT workspace_id, instance_id FROM deployments WHERE status NOT IN ('FAILED', 'SKIPPED', 'REMOVED')";
    SYSTEM_PROJECTS_TO_PURGE = "SELECT workspace_id, id FROM projects WHERE deleted_at IS NOT NULL AND deleted_at < $over ORDER BY deleted_at";
    SYSTEM_ARTIFACTS_IN_USE = in_use!("artifact");
    SYSTEM_BLOBS_IN_USE = in_use!("source_blob");
    SYSTEM_SERVICES = "SELECT id FROM services";
}

/// How long a deleted project can be brought back.
const GRACE: SignedDuration = SignedDuration::from_hours(48);

impl Store {
    /// Every instance with a deployment that is neither failed, skipped nor removed.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_instances_with_work(&self) -> Result<Vec<(WorkspaceId, InstanceId)>, StoreError> {
        self.list(&SYSTEM_INSTANCES_WITH_WORK, &[], |r| Ok((r.id(WorkspaceId)?, r.id(InstanceId)?))).await
    }

    /// Every project that was deleted more than 48 hours ago.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_projects_to_purge(&self, now: Timestamp) -> Result<Vec<(WorkspaceId, ProjectId)>, StoreError> {
        let over = now.checked_sub(GRACE).unwrap_or(Timestamp::MIN);
        self.list(&SYSTEM_PROJECTS_TO_PURGE, &params![over = over], |r| Ok((r.id(WorkspaceId)?, r.id(ProjectId)?))).await
    }

    /// Every artifact that a deployment needs or may need again.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_artifacts_in_use(&self) -> Result<Vec<String>, StoreError> {
        self.list(&SYSTEM_ARTIFACTS_IN_USE, &[], Record::text).await
    }

    /// Every uploaded archive that a deployment needs or may need again.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_blobs_in_use(&self) -> Result<Vec<String>, StoreError> {
        self.list(&SYSTEM_BLOBS_IN_USE, &[], Record::text).await
    }

    /// Every service, also those of projects that can be brought back.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_services(&self) -> Result<Vec<ServiceId>, StoreError> {
        self.list(&SYSTEM_SERVICES, &[], |r| r.id(ServiceId)).await
    }
}
