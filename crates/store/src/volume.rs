//! Volumes, their instances and where these are attached. A deleted volume's rows go when its grace is over; an instance goes with its
//! environment; an attachment goes with either of its ends; what is kept on disk for a while goes when [`GRACE`] is over.

use domain::volume::{GRACE, Volume, VolumeInstance, VolumeState};
use domain::{BackupId, EnvironmentId, ProjectId, Sealed, ServiceId, Tenant, Timestamp, VolumeId, VolumeInstanceId, WorkspaceId};
use uuid::Uuid;

use crate::executor::{BadCell, Record, Statement};
use crate::{Store, StoreError};

macro_rules! volumes {
    ($rest:literal) => {
        concat!("SELECT id, workspace_id, project_id, name, created_at, updated_at, deleted_at FROM volumes ", $rest)
    };
}

macro_rules! instances {
    ($rest:literal) => {
        concat!(
            "SELECT volume_instances.id, volume_instances.workspace_id, volume_instances.project_id, volume_instances.environment_id, \
             volume_instances.volume_id, volume_mounts.service_id, volume_instances.mount_path, volume_instances.size_mb, \
             volume_instances.used_bytes, volume_instances.state, volume_instances.restoring, volume_instances.created_at, \
             volume_instances.updated_at FROM volume_instances \
             LEFT JOIN volume_mounts ON volume_mounts.volume_instance_id = volume_instances.id ",
            $rest
        )
    };
}

statements! {
    VOLUME = volumes!("WHERE id = $id");
    VOLUMES_OF_PROJECTS = volumes!("WHERE project_id IN ($projects) AND workspace_id = $workspace");
    VOLUMES_BY_ID = volumes!("WHERE id IN ($volumes) AND workspace_id = $workspace");
    SYSTEM_VOLUMES_TO_PURGE =
        "SELECT workspace_id, id FROM volumes WHERE deleted_at IS NOT NULL AND deleted_at < $over ORDER BY deleted_at";
    VOLUME_INSERT =
        "INSERT INTO volumes (id, workspace_id, project_id, name, name_key, created_at, updated_at, deleted_at) \
         VALUES ($id, $workspace, $project, $name, $name_key, $created, $updated, $deleted)";
    VOLUME_UPDATE =
        "UPDATE volumes SET name = $name, name_key = $name_key, updated_at = $updated, deleted_at = COALESCE(deleted_at, $deleted) \
         WHERE id = $id AND workspace_id = $workspace";
    VOLUME_DELETE = "DELETE FROM volumes WHERE id = $id AND workspace_id = $workspace";

    VOLUME_INSTANCE = instances!("WHERE volume_instances.id = $id");
    VOLUME_INSTANCE_OF_SERVICE = instances!(
        "WHERE volume_mounts.environment_id = $environment AND volume_mounts.service_id = $service \
         AND volume_instances.workspace_id = $workspace"
    );
    VOLUME_INSTANCES_OF_ENVIRONMENTS = instances!(
        "WHERE volume_instances.environment_id IN ($environments) AND volume_instances.workspace_id = $workspace"
    );
    VOLUME_INSTANCES_OF_VOLUMES = instances!(
        "WHERE volume_instances.volume_id IN ($volumes) AND volume_instances.workspace_id = $workspace"
    );
    SYSTEM_VOLUME_INSTANCES = instances!("");
    VOLUME_INSTANCE_INSERT =
        "INSERT INTO volume_instances (id, workspace_id, project_id, environment_id, volume_id, mount_path, size_mb, used_bytes, state, \
         restoring, created_at, updated_at) VALUES ($id, $workspace, $project, $environment, $volume, $mount_path, $size, $used, $state, \
         $restoring, $created, $updated)";
    VOLUME_INSTANCE_MOUNT_PATH =
        "UPDATE volume_instances SET mount_path = $mount_path, updated_at = $at WHERE id = $id AND workspace_id = $workspace";
    VOLUME_INSTANCE_MOVE =
        "UPDATE volume_instances SET state = $to, restoring = $restoring, updated_at = $at \
         WHERE id = $id AND state = $from AND workspace_id = $workspace";
    VOLUME_INSTANCE_USED = "UPDATE volume_instances SET used_bytes = $used WHERE id = $id AND workspace_id = $workspace";
    VOLUME_INSTANCE_DELETE = "DELETE FROM volume_instances WHERE id = $id AND workspace_id = $workspace";
    VOLUME_FILES_KEEP =
        "INSERT INTO volume_files_kept (id, workspace_id, deleted_at) SELECT id, workspace_id, $at FROM volume_instances \
         WHERE id = $id AND workspace_id = $workspace";
    BACKUP_FILES_KEEP =
        "INSERT INTO volume_files_kept (id, workspace_id, deleted_at) SELECT id, workspace_id, $at FROM volume_backups \
         WHERE volume_instance_id = $id AND workspace_id = $workspace";
    SYSTEM_VOLUME_FILES_KEPT = "SELECT id FROM volume_files_kept";
    SYSTEM_VOLUME_FILES_PURGE = "DELETE FROM volume_files_kept WHERE deleted_at < $over";
    VOLUME_ATTACH =
        "INSERT INTO volume_mounts (volume_instance_id, workspace_id, project_id, environment_id, service_id, single) \
         SELECT id, workspace_id, project_id, environment_id, $service, $single FROM volume_instances \
         WHERE id = $id AND workspace_id = $workspace";
    VOLUME_DETACH = "DELETE FROM volume_mounts WHERE volume_instance_id = $id AND workspace_id = $workspace";
}

fn volume(r: &mut Record) -> Result<Volume, BadCell> {
    Ok(Volume {
        id: r.id(VolumeId)?,
        workspace_id: r.id(WorkspaceId)?,
        project_id: r.id(ProjectId)?,
        name: r.text()?,
        created_at: r.time()?,
        updated_at: r.time()?,
        deleted_at: r.maybe_time()?,
    })
}

fn instance(r: &mut Record) -> Result<VolumeInstance, BadCell> {
    Ok(VolumeInstance {
        id: r.id(VolumeInstanceId)?,
        workspace_id: r.id(WorkspaceId)?,
        project_id: r.id(ProjectId)?,
        environment_id: r.id(EnvironmentId)?,
        volume_id: r.id(VolumeId)?,
        service_id: r.maybe_id(ServiceId)?,
        mount_path: r.text()?,
        size_mb: r.number()?,
        used_bytes: r.number()?,
        state: r.word(VolumeState::parse)?,
        restoring: r.maybe_id(BackupId)?,
        created_at: r.time()?,
        updated_at: r.time()?,
    })
}

impl Store {
    /// A volume, also one that is deleted and still kept.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn volume(&self, id: VolumeId) -> Result<Option<Sealed<Volume>>, StoreError> {
        self.sealed(&VOLUME, &params![id = id], volume, |row| row.workspace_id).await
    }

    /// The volumes of the projects, deleted ones that are still kept included, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn volumes_of_projects(&self, tenant: Tenant, projects: &[ProjectId]) -> Result<Vec<Volume>, StoreError> {
        self.batch(&VOLUMES_OF_PROJECTS, &params![workspace = tenant, projects = projects], volume, |row| row.id).await
    }

    /// These volumes.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn volumes_by_id(&self, tenant: Tenant, volumes: &[VolumeId]) -> Result<Vec<Volume>, StoreError> {
        self.batch(&VOLUMES_BY_ID, &params![workspace = tenant, volumes = volumes], volume, |row| row.id).await
    }

    /// Every volume whose grace is over.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_volumes_to_purge(&self, now: Timestamp) -> Result<Vec<(WorkspaceId, VolumeId)>, StoreError> {
        let over = now.checked_sub(GRACE).unwrap_or(Timestamp::MIN);
        self.list(&SYSTEM_VOLUMES_TO_PURGE, &params![over = over], |r| Ok((r.id(WorkspaceId)?, r.id(VolumeId)?))).await
    }

    /// A volume instance.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn volume_instance(&self, id: VolumeInstanceId) -> Result<Option<Sealed<VolumeInstance>>, StoreError> {
        self.sealed(&VOLUME_INSTANCE, &params![id = id], instance, |row| row.workspace_id).await
    }

    /// The volume instance that is attached to a service in an environment.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn volume_instance_of_service(
        &self,
        tenant: Tenant,
        environment: EnvironmentId,
        service: ServiceId,
    ) -> Result<Option<VolumeInstance>, StoreError> {
        let params = params![workspace = tenant, environment = environment, service = service];
        self.one(&VOLUME_INSTANCE_OF_SERVICE, &params, instance).await
    }

    /// The volume instances in the environments, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn volume_instances_of_environments(
        &self,
        tenant: Tenant,
        environments: &[EnvironmentId],
    ) -> Result<Vec<VolumeInstance>, StoreError> {
        let params = params![workspace = tenant, environments = environments];
        self.batch(&VOLUME_INSTANCES_OF_ENVIRONMENTS, &params, instance, |row| row.id).await
    }

    /// The instances of the volumes, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn volume_instances_of_volumes(&self, tenant: Tenant, volumes: &[VolumeId]) -> Result<Vec<VolumeInstance>, StoreError> {
        let params = params![workspace = tenant, volumes = volumes];
        self.batch(&VOLUME_INSTANCES_OF_VOLUMES, &params, instance, |row| row.id).await
    }

    /// Every volume instance of the server.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_volume_instances(&self) -> Result<Vec<VolumeInstance>, StoreError> {
        self.list(&SYSTEM_VOLUME_INSTANCES, &[], instance).await
    }

    /// The folders of volumes and backups without a row that are kept, once those are left out whose grace is over.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_volume_files_kept(&self, now: Timestamp) -> Result<Vec<Uuid>, StoreError> {
        let over = now.checked_sub(GRACE).unwrap_or(Timestamp::MIN);
        self.write_one(&SYSTEM_VOLUME_FILES_PURGE, params![over = over]).await?;
        self.list(&SYSTEM_VOLUME_FILES_KEPT, &[], |r| r.id(std::convert::identity)).await
    }
}

pub(crate) fn volume_insert(row: &Volume) -> Statement {
    let Volume { id, workspace_id, project_id, name, created_at, updated_at, deleted_at } = row;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        project = *project_id,
        name = name,
        name_key = name.to_lowercase(),
        created = *created_at,
        updated = *updated_at,
        deleted = *deleted_at
    ];
    Statement::touch(&VOLUME_INSERT, params)
}

pub(crate) fn volume_update(row: &Volume) -> Statement {
    let Volume { id, workspace_id, name, updated_at, deleted_at, .. } = row;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        name = name,
        name_key = name.to_lowercase(),
        updated = *updated_at,
        deleted = *deleted_at
    ];
    Statement::touch(&VOLUME_UPDATE, params)
}

pub(crate) fn volume_delete(tenant: Tenant, id: VolumeId) -> Statement {
    Statement::touch(&VOLUME_DELETE, params![id = id, workspace = tenant])
}

/// The row, and where it is attached.
pub(crate) fn volume_instance_insert(row: &VolumeInstance) -> Vec<Statement> {
    let VolumeInstance { id, workspace_id, project_id, environment_id, volume_id, service_id, mount_path, size_mb, .. } = row;
    let VolumeInstance { used_bytes, state, restoring, created_at, updated_at, .. } = row;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        project = *project_id,
        environment = *environment_id,
        volume = *volume_id,
        mount_path = mount_path,
        size = *size_mb,
        used = *used_bytes,
        state = state.as_str(),
        restoring = *restoring,
        created = *created_at,
        updated = *updated_at
    ];
    let mut statements = vec![Statement::touch(&VOLUME_INSTANCE_INSERT, params)];
    statements.extend(service_id.map(|service| attach(*workspace_id, *id, service)));
    statements
}

fn attach(workspace: WorkspaceId, id: VolumeInstanceId, service: ServiceId) -> Statement {
    Statement::touch(&VOLUME_ATTACH, params![id = id, workspace = workspace, service = service, single = true])
}

pub(crate) fn volume_attach(tenant: Tenant, id: VolumeInstanceId, service: ServiceId) -> Statement {
    attach(tenant.workspace(), id, service)
}

/// Detaching what is not attached is no surprise.
pub(crate) fn volume_detach(tenant: Tenant, id: VolumeInstanceId) -> Statement {
    Statement::any(&VOLUME_DETACH, params![id = id, workspace = tenant])
}

pub(crate) fn volume_instance_mount_path(tenant: Tenant, id: VolumeInstanceId, mount_path: &str, at: Timestamp) -> Statement {
    Statement::touch(&VOLUME_INSTANCE_MOUNT_PATH, params![id = id, workspace = tenant, mount_path = mount_path, at = at])
}

pub(crate) fn volume_instance_move(
    tenant: Tenant,
    id: VolumeInstanceId,
    (from, to): (VolumeState, VolumeState),
    restoring: Option<BackupId>,
    at: Timestamp,
) -> Statement {
    let params = params![id = id, workspace = tenant, from = from.as_str(), to = to.as_str(), restoring = restoring, at = at];
    Statement::touch(&VOLUME_INSTANCE_MOVE, params)
}

/// A volume that is gone needs no measure.
pub(crate) fn volume_instance_used(tenant: Tenant, id: VolumeInstanceId, used_bytes: i64) -> Statement {
    Statement::any(&VOLUME_INSTANCE_USED, params![id = id, workspace = tenant, used = used_bytes])
}

/// What a volume instance that goes away has on disk, with its backups.
pub(crate) fn volume_files_keep(tenant: Tenant, id: VolumeInstanceId, at: Timestamp) -> Vec<Statement> {
    let params = params![id = id, workspace = tenant, at = at];
    vec![Statement::touch(&VOLUME_FILES_KEEP, params.clone()), Statement::any(&BACKUP_FILES_KEEP, params)]
}

pub(crate) fn volume_instance_delete(tenant: Tenant, id: VolumeInstanceId) -> Statement {
    Statement::touch(&VOLUME_INSTANCE_DELETE, params![id = id, workspace = tenant])
}
