//! Volumes, their instances in environments, and backups.

use std::sync::Arc;

use domain::page::Order;
use domain::{BackupId, EnvironmentId, ProjectId, ServiceId, Tenant, VolumeId, VolumeInstanceId};
use juniper::{GraphQLObject, ID, Nullable, graphql_object};
use ops::Opened;
use ops::volume::{VolumeCreate, VolumeInstancePatch, VolumePlace};

use super::connection::{connection, page};
use super::enums::{VolumeInstanceBackupScheduleKind, VolumeState};
use super::environment::Environment;
use super::inputs::{self, id, id_option};
use super::project::Project;
use super::service::Service;
use crate::graphql::scalar::DateTime;
use crate::graphql::{Ctx, Fault, Scalar};

/// Bytes as `sizeMB` counts them.
const MB: i64 = 1_000_000;

fn int(value: i64) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// A disk that outlives deployments.
#[derive(Clone)]
pub(crate) struct Volume {
    tenant: Tenant,
    row: Arc<domain::volume::Volume>,
}

impl Volume {
    pub(crate) fn new(ctx: &Ctx, opened: Opened<domain::volume::Volume>) -> Self {
        ctx.loader.announce_volumes(opened.tenant, std::iter::once(&opened.row));
        Self { tenant: opened.tenant, row: Arc::new(opened.row) }
    }

    pub(crate) fn cursor(&self) -> String {
        self.row.id.to_string()
    }

    pub(crate) fn of_project(ctx: &Ctx, tenant: Tenant, project: ProjectId) -> Result<Vec<Self>, Fault> {
        let rows = ctx.loader.volumes_of(ctx, tenant, project)?;
        Ok(rows.iter().map(|row| Self { tenant, row: Arc::clone(row) }).collect())
    }
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl Volume {
    fn created_at(&self) -> DateTime {
        DateTime(self.row.created_at)
    }
    fn id(&self) -> ID {
        ID::from(self.row.id.to_string())
    }
    fn name(&self) -> &str {
        &self.row.name
    }
    fn project(&self, ctx: &Ctx) -> Result<Project, Fault> {
        Ok(Project { tenant: self.tenant, row: ctx.loader.project(ctx, self.tenant, self.row.project_id)? })
    }
    fn project_id(&self) -> String {
        self.row.project_id.to_string()
    }
    fn volume_instances(
        &self,
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        last: Option<i32>,
    ) -> Result<VolumeVolumeInstancesConnection, Fault> {
        let rows = ctx.loader.instances_of_volume(ctx, self.tenant, self.row.id)?;
        let all = rows.iter().map(|row| VolumeInstance { tenant: self.tenant, row: Arc::clone(row) }).collect();
        Ok(page(after, before, first, last)?.cut(Order::Oldest, all, VolumeInstance::cursor)?.into())
    }
}

/// A disk in an environment.
#[derive(Clone)]
pub(crate) struct VolumeInstance {
    tenant: Tenant,
    row: Arc<domain::volume::VolumeInstance>,
}

impl VolumeInstance {
    pub(crate) fn find(ctx: &Ctx, text: &str) -> Result<Self, Fault> {
        let opened = ctx.wait(ops::volume::volume_instance_get(&ctx.op, instance_id(text)?))?;
        ctx.loader.announce_volume_instances(opened.tenant, std::iter::once(&opened.row));
        Ok(Self { tenant: opened.tenant, row: Arc::new(opened.row) })
    }

    pub(crate) fn cursor(&self) -> String {
        self.row.id.to_string()
    }

    pub(crate) fn of_environment(ctx: &Ctx, tenant: Tenant, environment: EnvironmentId) -> Result<Vec<Self>, Fault> {
        let rows = ctx.loader.volume_instances_of(ctx, tenant, environment)?;
        Ok(rows.iter().map(|row| Self { tenant, row: Arc::clone(row) }).collect())
    }

    fn deleted(&self, ctx: &Ctx) -> Result<Option<domain::Timestamp>, Fault> {
        Ok(ctx.loader.volume(ctx, self.tenant, self.row.volume_id)?.deleted_at)
    }
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl VolumeInstance {
    fn created_at(&self) -> DateTime {
        DateTime(self.row.created_at)
    }
    /// What it held when it was last measured.
    #[graphql(name = "currentSizeMB")]
    #[expect(clippy::cast_precision_loss, reason = "megabytes with a fraction, for people")]
    fn current_size_mb(&self) -> f64 {
        self.row.used_bytes as f64 / MB as f64
    }
    fn deleted_at(&self, ctx: &Ctx) -> Result<Option<DateTime>, Fault> {
        Ok(self.deleted(ctx)?.map(DateTime))
    }
    fn environment(&self, ctx: &Ctx) -> Result<Environment, Fault> {
        Environment::of(ctx, self.tenant, self.row.environment_id)
    }
    fn environment_id(&self) -> String {
        self.row.environment_id.to_string()
    }
    fn id(&self) -> ID {
        ID::from(self.row.id.to_string())
    }
    /// Deleted, and kept for 48 hours.
    fn is_pending_deletion(&self, ctx: &Ctx) -> Result<bool, Fault> {
        Ok(self.deleted(ctx)?.is_some())
    }
    fn mount_path(&self) -> &str {
        &self.row.mount_path
    }
    fn region(&self, ctx: &Ctx) -> Option<String> {
        Some(ctx.op.ops.settings.region.clone())
    }
    fn service(&self, ctx: &Ctx) -> Result<Service, Fault> {
        Service::of(ctx, self.tenant, self.row.service_id.ok_or_else(|| Fault::not_found("Service"))?)
    }
    fn service_id(&self) -> Option<String> {
        self.row.service_id.map(|id| id.to_string())
    }
    #[graphql(name = "sizeMB")]
    fn size_mb(&self) -> i32 {
        int(self.row.size_mb.into())
    }
    fn state(&self, ctx: &Ctx) -> Result<Option<VolumeState>, Fault> {
        Ok(Some(match (self.deleted(ctx)?, self.row.state) {
            (Some(_), _) => VolumeState::Deleting,
            (None, domain::volume::VolumeState::Ready) => VolumeState::Ready,
            (None, domain::volume::VolumeState::Restoring) => VolumeState::Restoring,
        }))
    }
    fn volume(&self, ctx: &Ctx) -> Result<Volume, Fault> {
        Ok(Volume { tenant: self.tenant, row: ctx.loader.volume(ctx, self.tenant, self.row.volume_id)? })
    }
    fn volume_id(&self) -> String {
        self.row.volume_id.to_string()
    }
}

connection! {
    /// Instances of a volume.
    VolumeVolumeInstancesConnection, VolumeVolumeInstancesConnectionEdge, VolumeInstance;
    /// Volumes of a project.
    ProjectVolumesConnection, ProjectVolumesConnectionEdge, Volume;
    /// Volumes of an environment.
    EnvironmentVolumeInstancesConnection, EnvironmentVolumeInstancesConnectionEdge, VolumeInstance;
}

/// A copy of a volume's files at one moment.
pub(crate) struct VolumeInstanceBackup {
    row: domain::volume::Backup,
    size_mb: u32,
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl VolumeInstanceBackup {
    fn created_at(&self) -> DateTime {
        DateTime(self.row.created_at)
    }
    fn creator_id(&self) -> Option<String> {
        self.row.creator_id.map(|id| id.to_string())
    }
    fn expires_at(&self) -> Option<DateTime> {
        self.row.expires_at.map(DateTime)
    }
    /// What the copy is called on disk: its id.
    fn external_id(&self) -> String {
        self.row.id.to_string()
    }
    fn id(&self) -> String {
        self.row.id.to_string()
    }
    fn name(&self) -> Option<&str> {
        self.row.name.as_deref()
    }
    #[graphql(name = "referencedMB")]
    fn referenced_mb(&self) -> Option<i32> {
        Some(int(self.row.used_bytes.div_euclid(MB)))
    }
    /// The schedule that asked for it: there is one of each kind.
    fn schedule_id(&self) -> Option<String> {
        self.row.kind.map(|kind| format!("{}:{}", self.row.volume_instance_id, kind.as_str()))
    }
    #[graphql(name = "usedMB")]
    fn used_mb(&self) -> Option<i32> {
        Some(int(self.row.used_bytes.div_euclid(MB)))
    }
    #[graphql(name = "volumeInstanceSizeMB")]
    fn volume_instance_size_mb(&self) -> Option<i32> {
        Some(int(self.size_mb.into()))
    }
}

/// When backups are made by themselves.
pub(crate) struct VolumeInstanceBackupSchedule(domain::volume::BackupSchedule);

#[graphql_object(context = Ctx, scalar = Scalar)]
impl VolumeInstanceBackupSchedule {
    fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }
    fn cron(&self) -> &str {
        self.0.kind.cron()
    }
    fn id(&self) -> ID {
        ID::from(format!("{}:{}", self.0.volume_instance_id, self.0.kind.as_str()))
    }
    fn kind(&self) -> VolumeInstanceBackupScheduleKind {
        self.0.kind.into()
    }
    fn name(&self) -> &str {
        match self.0.kind {
            domain::volume::BackupKind::Daily => "Daily",
            domain::volume::BackupKind::Weekly => "Weekly",
            domain::volume::BackupKind::Monthly => "Monthly",
        }
    }
    fn retention_seconds(&self) -> Option<i32> {
        Some(int(self.0.kind.retention_seconds()))
    }
}

/// What a client waits for.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct WorkflowId {
    workflow_id: Option<String>,
}

fn volume_id(text: &str) -> Result<VolumeId, Fault> {
    id("Volume", text, VolumeId)
}

fn instance_id(text: &str) -> Result<VolumeInstanceId, Fault> {
    id("VolumeInstance", text, VolumeInstanceId)
}

fn pair(volume: &str, backup: &str) -> Result<(VolumeInstanceId, BackupId), Fault> {
    Ok((instance_id(volume)?, id("Backup", backup, BackupId)?))
}

pub(crate) fn create(ctx: &Ctx, input: inputs::VolumeCreateInput) -> Result<Volume, Fault> {
    let place = match input.environment_id {
        Nullable::Some(text) => VolumePlace::Environment(id("Environment", &text, EnvironmentId)?),
        Nullable::ExplicitNull => VolumePlace::Nowhere,
        Nullable::ImplicitNull => VolumePlace::Everywhere,
    };
    let wanted = VolumeCreate {
        project: id("Project", &input.project_id, ProjectId)?,
        place,
        service: id_option("Service", input.service_id.as_deref(), ServiceId)?,
        mount_path: input.mount_path,
    };
    Ok(Volume::new(ctx, ctx.wait(ops::volume::volume_create(&ctx.op, wanted))?))
}

pub(crate) fn delete(ctx: &Ctx, volume: &str) -> Result<bool, Fault> {
    ctx.wait(ops::volume::volume_delete(&ctx.op, volume_id(volume)?))?;
    Ok(true)
}

pub(crate) fn update(ctx: &Ctx, volume: &str, input: inputs::VolumeUpdateInput) -> Result<Volume, Fault> {
    Ok(Volume::new(ctx, ctx.wait(ops::volume::volume_update(&ctx.op, volume_id(volume)?, input.name))?))
}

pub(crate) fn update_instance(
    ctx: &Ctx,
    environment: Option<&str>,
    volume: &str,
    input: inputs::VolumeInstanceUpdateInput,
) -> Result<bool, Fault> {
    let environment = id_option("Environment", environment, EnvironmentId)?;
    if let Some(state) = input.state {
        let alone = input.mount_path.is_none() && input.service_id.is_implicit_null();
        if state != VolumeState::Deleted || !alone {
            return Err(Fault::bad_input("the state of a volume follows from what is done with it: send DELETED by itself, or no state"));
        }
        return delete_instance(ctx, environment, volume);
    }
    let service = match input.service_id {
        Nullable::ImplicitNull => None,
        Nullable::ExplicitNull => Some(None),
        Nullable::Some(text) => Some(Some(id("Service", &text, ServiceId)?)),
    };
    let patch = VolumeInstancePatch { mount_path: input.mount_path, service };
    ctx.wait(ops::volume::volume_instance_update(&ctx.op, volume_id(volume)?, environment, patch))?;
    Ok(true)
}

/// Out of one environment, or out of all.
fn delete_instance(ctx: &Ctx, environment: Option<EnvironmentId>, volume: &str) -> Result<bool, Fault> {
    let Some(environment) = environment else { return delete(ctx, volume) };
    ctx.wait(ops::volume::volume_instance_delete(&ctx.op, volume_id(volume)?, environment))?;
    Ok(true)
}

pub(crate) fn backups(ctx: &Ctx, instance: &str) -> Result<Vec<VolumeInstanceBackup>, Fault> {
    let volume = VolumeInstance::find(ctx, instance)?;
    let rows = ctx.wait(ops::backup::volume_instance_backups(&ctx.op, volume.row.id))?.row;
    let whole = rows.into_iter().filter(|row| row.state == domain::volume::BackupState::Ready);
    Ok(whole.map(|row| VolumeInstanceBackup { row, size_mb: volume.row.size_mb }).collect())
}

pub(crate) fn schedules(ctx: &Ctx, instance: &str) -> Result<Vec<VolumeInstanceBackupSchedule>, Fault> {
    let rows = ctx.wait(ops::backup::volume_instance_backup_schedules(&ctx.op, instance_id(instance)?))?.row;
    Ok(rows.into_iter().map(VolumeInstanceBackupSchedule).collect())
}

pub(crate) fn back_up(ctx: &Ctx, instance: &str, name: Option<String>) -> Result<WorkflowId, Fault> {
    let made = ctx.wait(ops::backup::volume_instance_backup_create(&ctx.op, instance_id(instance)?, name))?;
    Ok(WorkflowId { workflow_id: Some(ops::backup::workflow_id(false, made.volume_instance_id, made.id)) })
}

/// The backup is gone when this has answered, so there is nothing to wait for.
pub(crate) fn delete_backup(ctx: &Ctx, instance: &str, backup: &str) -> Result<WorkflowId, Fault> {
    let (instance, backup) = pair(instance, backup)?;
    ctx.wait(ops::backup::volume_instance_backup_delete(&ctx.op, instance, backup))?;
    Ok(WorkflowId { workflow_id: None })
}

pub(crate) fn lock_backup(ctx: &Ctx, instance: &str, backup: &str) -> Result<bool, Fault> {
    let (instance, backup) = pair(instance, backup)?;
    ctx.wait(ops::backup::volume_instance_backup_lock(&ctx.op, instance, backup))?;
    Ok(true)
}

/// A restore is of one volume; other services can be named, and there are none.
pub(crate) fn alone(others: &[Option<Vec<String>>]) -> Result<(), Fault> {
    if others.iter().flatten().any(|services| !services.is_empty()) {
        let text = "replicaServiceIds and wipeServiceIds are for clusters, which this server does not make: leave them out";
        return Err(Fault::bad_input(text));
    }
    Ok(())
}

pub(crate) fn restore(ctx: &Ctx, instance: &str, backup: &str) -> Result<WorkflowId, Fault> {
    let (instance, backup) = pair(instance, backup)?;
    ctx.wait(ops::backup::volume_instance_backup_restore(&ctx.op, instance, backup))?;
    Ok(WorkflowId { workflow_id: Some(ops::backup::workflow_id(true, instance, backup)) })
}

pub(crate) fn update_schedules(ctx: &Ctx, instance: &str, kinds: Vec<VolumeInstanceBackupScheduleKind>) -> Result<bool, Fault> {
    let kinds = kinds.into_iter().map(Into::into).collect();
    ctx.wait(ops::backup::volume_instance_backup_schedule_update(&ctx.op, instance_id(instance)?, kinds))?;
    Ok(true)
}
