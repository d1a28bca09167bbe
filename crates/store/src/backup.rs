//! Backups of volume instances and their schedules. They go with their instance, by hand, and when they expire.

use domain::volume::{Backup, BackupKind, BackupSchedule, BackupState, VolumeInstance};
use domain::{BackupId, EnvironmentId, ProjectId, Sealed, Tenant, Timestamp, UserId, VolumeInstanceId, WorkspaceId};

use crate::executor::{BadCell, Record, Statement};
use crate::{Store, StoreError};

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT id, workspace_id, project_id, environment_id, volume_instance_id, name, creator_id, kind, state, reason, locked, \
             used_bytes, expires_at, created_at FROM volume_backups ",
            $rest
        )
    };
}

statements! {
    BACKUP = select!("WHERE id = $id");
    BACKUPS_OF_VOLUME_INSTANCES = select!("WHERE volume_instance_id IN ($instances) AND workspace_id = $workspace");
    SYSTEM_BACKUPS_UNDER_WAY = select!("WHERE state = 'CREATING'");
    SYSTEM_BACKUPS_EXPIRED = select!("WHERE expires_at IS NOT NULL AND expires_at < $now");
    SYSTEM_BACKUPS_FAILED = select!("WHERE state = 'FAILED' AND created_at < $before");
    SYSTEM_BACKUPS = "SELECT id FROM volume_backups";
    BACKUP_INSERT =
        "INSERT INTO volume_backups (id, workspace_id, project_id, environment_id, volume_instance_id, name, creator_id, kind, state, \
         reason, locked, used_bytes, expires_at, created_at) VALUES ($id, $workspace, $project, $environment, $instance, $name, $creator, \
         $kind, $state, $reason, $locked, $used, $expires, $created)";
    BACKUP_END =
        "UPDATE volume_backups SET state = $state, used_bytes = $used, reason = $reason \
         WHERE id = $id AND state = 'CREATING' AND workspace_id = $workspace";
    BACKUP_RESTORED =
        "UPDATE volume_backups SET reason = $reason WHERE id = $id AND state = 'READY' AND workspace_id = $workspace";
    BACKUP_LOCK =
        "UPDATE volume_backups SET locked = $locked, expires_at = NULL WHERE id = $id AND workspace_id = $workspace";
    BACKUP_DELETE = "DELETE FROM volume_backups WHERE id = $id AND workspace_id = $workspace";
    BACKUP_SCHEDULES =
        "SELECT volume_instance_id, kind, created_at FROM volume_backup_schedules \
         WHERE volume_instance_id IN ($instances) AND workspace_id = $workspace";
    SYSTEM_BACKUP_SCHEDULES = "SELECT volume_instance_id, kind, created_at FROM volume_backup_schedules";
    BACKUP_SCHEDULES_CLEAR =
        "DELETE FROM volume_backup_schedules WHERE volume_instance_id = $instance AND workspace_id = $workspace";
    BACKUP_SCHEDULE_INSERT =
        "INSERT INTO volume_backup_schedules (volume_instance_id, kind, workspace_id, project_id, environment_id, created_at) \
         VALUES ($instance, $kind, $workspace, $project, $environment, $created)";
}

fn row(r: &mut Record) -> Result<Backup, BadCell> {
    Ok(Backup {
        id: r.id(BackupId)?,
        workspace_id: r.id(WorkspaceId)?,
        project_id: r.id(ProjectId)?,
        environment_id: r.id(EnvironmentId)?,
        volume_instance_id: r.id(VolumeInstanceId)?,
        name: r.maybe_text()?,
        creator_id: r.maybe_id(UserId)?,
        kind: r.maybe_text()?.and_then(|text| BackupKind::parse(&text)),
        state: r.word(BackupState::parse)?,
        reason: r.maybe_text()?,
        locked: r.flag()?,
        used_bytes: r.number()?,
        expires_at: r.maybe_time()?,
        created_at: r.time()?,
    })
}

fn schedule(r: &mut Record) -> Result<BackupSchedule, BadCell> {
    Ok(BackupSchedule { volume_instance_id: r.id(VolumeInstanceId)?, kind: r.word(BackupKind::parse)?, created_at: r.time()? })
}

impl Store {
    /// A backup.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn backup(&self, id: BackupId) -> Result<Option<Sealed<Backup>>, StoreError> {
        self.sealed(&BACKUP, &params![id = id], row, |row| row.workspace_id).await
    }

    /// The backups of the volume instances, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn backups_of(&self, tenant: Tenant, instances: &[VolumeInstanceId]) -> Result<Vec<Backup>, StoreError> {
        let params = params![workspace = tenant, instances = instances];
        self.batch(&BACKUPS_OF_VOLUME_INSTANCES, &params, row, |row| row.id).await
    }

    /// Every backup that was asked for and is not made yet.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_backups_under_way(&self) -> Result<Vec<Backup>, StoreError> {
        self.list(&SYSTEM_BACKUPS_UNDER_WAY, &[], row).await
    }

    /// Every backup whose time is over.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_backups_expired(&self, now: Timestamp) -> Result<Vec<Backup>, StoreError> {
        self.list(&SYSTEM_BACKUPS_EXPIRED, &params![now = now], row).await
    }

    /// Every backup that has failed and was asked for before then.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_backups_failed(&self, before: Timestamp) -> Result<Vec<Backup>, StoreError> {
        self.list(&SYSTEM_BACKUPS_FAILED, &params![before = before], row).await
    }

    /// Every backup of the server.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_backups(&self) -> Result<Vec<BackupId>, StoreError> {
        self.list(&SYSTEM_BACKUPS, &[], |r| r.id(BackupId)).await
    }

    /// The schedules of the volume instances.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn backup_schedules(&self, tenant: Tenant, instances: &[VolumeInstanceId]) -> Result<Vec<BackupSchedule>, StoreError> {
        let params = params![workspace = tenant, instances = instances];
        self.batch(&BACKUP_SCHEDULES, &params, schedule, |row| (row.volume_instance_id, row.kind)).await
    }

    /// Every schedule of the server.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_backup_schedules(&self) -> Result<Vec<BackupSchedule>, StoreError> {
        self.list(&SYSTEM_BACKUP_SCHEDULES, &[], schedule).await
    }
}

pub(crate) fn backup_insert(backup: &Backup) -> Statement {
    let Backup { id, workspace_id, project_id, environment_id, volume_instance_id, name, creator_id, kind, .. } = backup;
    let Backup { state, reason, locked, used_bytes, expires_at, created_at, .. } = backup;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        project = *project_id,
        environment = *environment_id,
        instance = *volume_instance_id,
        name = name.as_ref(),
        creator = *creator_id,
        kind = kind.map(BackupKind::as_str),
        state = state.as_str(),
        reason = reason.as_ref(),
        locked = *locked,
        used = *used_bytes,
        expires = *expires_at,
        created = *created_at
    ];
    Statement::touch(&BACKUP_INSERT, params)
}

pub(crate) fn backup_end(tenant: Tenant, id: BackupId, state: BackupState, used_bytes: i64, reason: Option<&str>) -> Statement {
    let params = params![id = id, workspace = tenant, state = state.as_str(), used = used_bytes, reason = reason];
    Statement::touch(&BACKUP_END, params)
}

/// One that is gone by now needs no answer.
pub(crate) fn backup_restored(tenant: Tenant, id: BackupId, reason: Option<&str>) -> Statement {
    Statement::any(&BACKUP_RESTORED, params![id = id, workspace = tenant, reason = reason])
}

pub(crate) fn backup_lock(tenant: Tenant, id: BackupId) -> Statement {
    Statement::touch(&BACKUP_LOCK, params![id = id, workspace = tenant, locked = true])
}

pub(crate) fn backup_delete(tenant: Tenant, id: BackupId) -> Statement {
    Statement::touch(&BACKUP_DELETE, params![id = id, workspace = tenant])
}

/// These schedules and no others.
pub(crate) fn backup_schedules_set(instance: &VolumeInstance, kinds: &[(BackupKind, Timestamp)]) -> Vec<Statement> {
    let VolumeInstance { id, workspace_id, project_id, environment_id, .. } = instance;
    let mut statements = vec![Statement::any(&BACKUP_SCHEDULES_CLEAR, params![instance = *id, workspace = *workspace_id])];
    statements.extend(kinds.iter().map(|(kind, created)| {
        let params = params![
            instance = *id,
            kind = kind.as_str(),
            workspace = *workspace_id,
            project = *project_id,
            environment = *environment_id,
            created = *created
        ];
        Statement::touch(&BACKUP_SCHEDULE_INSERT, params)
    }));
    statements
}
