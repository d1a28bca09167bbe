//! Backups of volumes: asked for here, made by the engine.

use domain::volume::{Backup, BackupKind, BackupSchedule, BackupState, VolumeInstance, VolumeState};
use domain::{BackupId, Permission, VolumeInstanceId, name};
use jiff::SignedDuration;
use serde_json::json;
use store::Change;

use crate::context::{Opened, Principal};
use crate::volume::volume_instance_for;
use crate::{Error, OpCtx};

/// The most backups of one volume.
const MAX_BACKUPS: usize = 50;

const UNDER_WAY: &str = "the volume is being backed up or restored: wait until that is done";

/// The backups of a volume, newest first.
///
/// # Errors
/// Not found or not allowed.
pub async fn volume_instance_backups(ctx: &OpCtx, id: VolumeInstanceId) -> Result<Opened<Vec<Backup>>, Error> {
    let opened = volume_instance_for(ctx, id, Permission::Read).await?;
    let mut rows = ctx.ops.store.backups_of(opened.tenant, &[id]).await?;
    rows.reverse();
    Ok(opened.with(rows))
}

/// A row for a backup that is asked for.
#[must_use]
pub fn new_backup(volume: &VolumeInstance, kind: Option<BackupKind>, now: domain::Timestamp) -> Backup {
    let expires_at = kind.and_then(|kind| now.checked_add(SignedDuration::from_secs(kind.retention_seconds())).ok());
    Backup {
        id: BackupId::generate(),
        workspace_id: volume.workspace_id,
        project_id: volume.project_id,
        environment_id: volume.environment_id,
        volume_instance_id: volume.id,
        name: None,
        creator_id: None,
        kind,
        state: BackupState::Creating,
        reason: None,
        locked: false,
        used_bytes: 0,
        expires_at,
        created_at: now,
    }
}

/// Asks for a backup of a volume. Its service stands still while the files are copied.
///
/// # Errors
/// Another one is under way, too many, not found, or not allowed.
pub async fn volume_instance_backup_create(ctx: &OpCtx, id: VolumeInstanceId, called: Option<String>) -> Result<Backup, Error> {
    let opened = volume_instance_for(ctx, id, Permission::Write).await?;
    let before = ctx.ops.store.backups_of(opened.tenant, &[id]).await?;
    if opened.row.state != VolumeState::Ready || before.iter().any(|backup| backup.state == BackupState::Creating) {
        return Err(Error::conflict(UNDER_WAY));
    }
    // Those that have failed hold nothing and go by themselves.
    if before.iter().filter(|backup| backup.state != BackupState::Failed).count() >= MAX_BACKUPS {
        return Err(Error::conflict(format!("the volume has {MAX_BACKUPS} backups: delete some first")));
    }
    let creator_id = match &ctx.principal {
        Principal::User(user) => Some(user.user.id),
        Principal::Key(_) | Principal::System(_) | Principal::Anonymous => None,
    };
    let name = called.filter(|text| !text.trim().is_empty()).map(|text| name::display("backup name", &text)).transpose()?;
    let backup = Backup { name, creator_id, ..new_backup(&opened.row, None, ctx.now) };
    let data = json!({"name": backup.name, "volumeInstance": id});
    let activity = ctx.activity(opened.tenant, Some(opened.row.project_id), "volume_instance_backup_create", backup.id, data);
    let made = ctx.commit(opened.tenant, vec![Change::BackupInsert(backup.clone()), activity]).await;
    // Somebody else has asked at the same moment.
    made.map_err(|error| if error.code == domain::Code::AlreadyExists { Error::conflict(UNDER_WAY) } else { error })?;
    ctx.ops.signals.ring_volumes();
    Ok(backup)
}

async fn backup_for(ctx: &OpCtx, volume: VolumeInstanceId, id: BackupId) -> Result<(Opened<VolumeInstance>, Backup), Error> {
    let opened = volume_instance_for(ctx, volume, Permission::Write).await?;
    let found = ctx.ops.store.backup(id).await?.and_then(|sealed| sealed.open(opened.tenant));
    let backup = found.filter(|backup| backup.volume_instance_id == volume).ok_or_else(|| Error::not_found("Backup"))?;
    Ok((opened, backup))
}

/// Puts a backup in the place of what its volume holds now. The volume's service stands still meanwhile.
///
/// # Errors
/// The backup is not whole, the volume is being copied, not found, or not allowed.
pub async fn volume_instance_backup_restore(ctx: &OpCtx, volume: VolumeInstanceId, id: BackupId) -> Result<(), Error> {
    let (opened, backup) = backup_for(ctx, volume, id).await?;
    if backup.state != BackupState::Ready {
        return Err(Error::conflict("the backup is not whole: choose another one"));
    }
    if opened.row.state != VolumeState::Ready {
        return Err(Error::conflict("a backup is being restored already: wait until that is done"));
    }
    let (from, to) = (VolumeState::Ready, VolumeState::Restoring);
    let data = json!({"volumeInstance": volume, "createdAt": backup.created_at.to_string()});
    let changes = vec![
        Change::VolumeInstanceMove { id: volume, from, to, restoring: Some(id), at: ctx.now },
        Change::BackupRestored { id, reason: None },
        ctx.activity(opened.tenant, Some(opened.row.project_id), "volume_instance_backup_restore", id, data),
    ];
    ctx.commit(opened.tenant, changes).await?;
    ctx.ops.signals.ring_volumes();
    Ok(())
}

/// Keeps a backup for good.
///
/// # Errors
/// Not found or not allowed.
pub async fn volume_instance_backup_lock(ctx: &OpCtx, volume: VolumeInstanceId, id: BackupId) -> Result<(), Error> {
    let (opened, _) = backup_for(ctx, volume, id).await?;
    let activity = ctx.activity(opened.tenant, Some(opened.row.project_id), "volume_instance_backup_lock", id, json!({}));
    ctx.commit(opened.tenant, vec![Change::BackupLock(id), activity]).await
}

/// Deletes a backup.
///
/// # Errors
/// It is locked or being restored, not found, or not allowed.
pub async fn volume_instance_backup_delete(ctx: &OpCtx, volume: VolumeInstanceId, id: BackupId) -> Result<(), Error> {
    let (opened, backup) = backup_for(ctx, volume, id).await?;
    if backup.locked {
        return Err(Error::conflict("the backup is locked, so that it stays: delete the volume to delete it"));
    }
    if opened.row.restoring == Some(id) || backup.state == BackupState::Creating {
        return Err(Error::conflict("the backup is being made or restored: wait until that is done"));
    }
    let activity = ctx.activity(opened.tenant, Some(opened.row.project_id), "volume_instance_backup_delete", id, json!({}));
    ctx.commit(opened.tenant, vec![Change::BackupDelete(id), activity]).await
}

/// The schedules of a volume's backups.
///
/// # Errors
/// Not found or not allowed.
pub async fn volume_instance_backup_schedules(ctx: &OpCtx, id: VolumeInstanceId) -> Result<Opened<Vec<BackupSchedule>>, Error> {
    let opened = volume_instance_for(ctx, id, Permission::Read).await?;
    let rows = ctx.ops.store.backup_schedules(opened.tenant, &[id]).await?;
    Ok(opened.with(rows))
}

/// Sets the schedules of a volume's backups: these and no others.
///
/// # Errors
/// Not found or not allowed.
pub async fn volume_instance_backup_schedule_update(ctx: &OpCtx, id: VolumeInstanceId, kinds: Vec<BackupKind>) -> Result<(), Error> {
    let opened = volume_instance_for(ctx, id, Permission::Write).await?;
    let data = json!({"kinds": kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>()});
    let before = ctx.ops.store.backup_schedules(opened.tenant, &[id]).await?;
    let changes = vec![
        schedules_set(ctx, &opened.row, &before, kinds),
        ctx.activity(opened.tenant, Some(opened.row.project_id), "volume_instance_backup_schedule_update", id, data),
    ];
    ctx.commit(opened.tenant, changes).await
}

/// The change that sets the schedules of a volume; one that was there `before` stays as old as it is.
pub(crate) fn schedules_set(ctx: &OpCtx, instance: &VolumeInstance, before: &[BackupSchedule], kinds: Vec<BackupKind>) -> Change {
    let same = |schedule: &&BackupSchedule, kind: BackupKind| schedule.volume_instance_id == instance.id && schedule.kind == kind;
    let since = |kind: BackupKind| before.iter().find(|row| same(row, kind)).map_or(ctx.now, |schedule| schedule.created_at);
    let mut kinds: Vec<_> = kinds.into_iter().map(|kind| (kind, since(kind))).collect();
    kinds.sort_unstable();
    kinds.dedup();
    Change::BackupSchedulesSet { instance: instance.clone(), kinds }
}

/// Where the making or the restoring of a backup stands.
pub(crate) async fn workflow(
    ctx: &OpCtx,
    restoring: bool,
    volume: VolumeInstanceId,
    id: BackupId,
) -> Result<crate::template::Workflow, Error> {
    use crate::template::Workflow;
    let opened = volume_instance_for(ctx, volume, Permission::Read).await?;
    if restoring && opened.row.restoring == Some(id) {
        return Ok(Workflow::Running);
    }
    let found = ctx.ops.store.backup(id).await?.and_then(|sealed| sealed.open(opened.tenant));
    Ok(match found.filter(|backup| backup.volume_instance_id == volume) {
        None => Workflow::NotFound,
        Some(backup) => match backup.state {
            BackupState::Creating => Workflow::Running,
            BackupState::Ready => match backup.reason.filter(|_| restoring) {
                Some(reason) => Workflow::Failed(reason),
                None => Workflow::Complete,
            },
            BackupState::Failed => Workflow::Failed(backup.reason.unwrap_or_else(|| "the backup has failed".into())),
        },
    })
}

/// What clients wait for.
#[must_use]
pub fn workflow_id(restoring: bool, volume: VolumeInstanceId, id: BackupId) -> String {
    format!("{}/{volume}/{id}", if restoring { "volumeRestore" } else { "volumeBackup" })
}
