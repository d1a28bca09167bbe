//! Commits: a list of changes becomes a list of statements, which run whole or not at all.

use std::collections::{BTreeMap, BTreeSet};

use domain::{InstanceId, Tenant, WorkspaceId};

use crate::executor::Statement;
use crate::vault::Vault;
use crate::{Change, RunChange, Store, StoreError};
use crate::{
    account, activity, api_key, backup, certificate, delivery, deployment, deployment_event, domain_name, environment, environment_patch,
    execution, instance, invite, notification, project, replica, run, service, tcp_proxy, trigger, variable, volume, workflow, workspace,
};

/// What a commit did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// The store's generation after it.
    pub generation: u64,
    /// The numbers of the instances that it inserted.
    pub numbers: BTreeMap<InstanceId, i64>,
}

/// What those who watch a workspace hear of, each by itself: some of it happens all the time, and is told to those alone who show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChangeKind {
    /// All that belongs to none of the others alone.
    State,
    /// Workflows, what starts them, and each step of their runs.
    Flow,
    /// Triggers of services and their runs.
    Triggers,
    /// Messages that leave the server, and how each attempt went.
    Deliveries,
}

impl ChangeKind {
    /// How many there are.
    pub(crate) const COUNT: usize = 4;
}

impl Store {
    /// Applies the changes in their order, all or none, and answers when they are on disk.
    ///
    /// # Errors
    /// [`StoreError::Conflict`], [`StoreError::Stale`] when a row to change or to build on is not in this workspace (any more),
    /// [`StoreError::ForeignTenant`] when a row says that it belongs to another one. Then nothing has changed.
    pub async fn commit(&self, tenant: Tenant, changes: Vec<Change>) -> Result<Committed, StoreError> {
        self.commit_across(vec![(tenant, changes)]).await
    }

    /// The same for what goes from one workspace to another: each change is held to the tenant that it stands with.
    ///
    /// # Errors
    /// As [`Store::commit`]. Then nothing has changed in any of them.
    pub async fn commit_across(&self, parts: Vec<(Tenant, Vec<Change>)>) -> Result<Committed, StoreError> {
        if parts.iter().any(|(tenant, changes)| changes.iter().any(|change| !change.belongs_to(*tenant))) {
            return Err(StoreError::ForeignTenant);
        }
        let told: BTreeSet<_> = parts
            .iter()
            .flat_map(|(tenant, changes)| changes.iter().flat_map(told_as).map(move |kind| (*kind, tenant.workspace())))
            .collect();
        let mut statements = vec![];
        let mut instances = vec![];
        for (tenant, change) in parts.into_iter().flat_map(|(tenant, changes)| changes.into_iter().map(move |change| (tenant, change))) {
            statements.extend(into_statements(&self.inner.vault, tenant, &change)?);
            if matches!(change, Change::InstanceInsert(_)) {
                instances.push(statements.len() - 1);
            }
        }
        let mut outcomes = if statements.is_empty() { vec![] } else { self.write(statements).await? };
        let mut committed = Committed { generation: self.generation(), ..Committed::default() };
        for at in instances {
            for mut row in std::mem::take(&mut outcomes[at].rows) {
                let (id, number) = instance::inserted(&mut row).map_err(|bad| bad.in_statement("INSTANCE_INSERT"))?;
                committed.numbers.insert(id, number);
            }
        }
        for (kind, workspace) in told {
            self.tell(kind, workspace);
        }
        Ok(committed)
    }

    /// Tells those who watch the workspace.
    pub(crate) fn tell(&self, kind: ChangeKind, workspace: WorkspaceId) {
        // No receiver is no error: nobody is watching.
        let _ = self.inner.commits[kind as usize].send(workspace);
    }
}

/// As what those who watch a workspace hear of it. Claims are of no interest: what has been claimed is told when it is done.
fn told_as(change: &Change) -> &'static [ChangeKind] {
    match change {
        Change::ActivitiesNoticed(_)
        | Change::ActivityUpdate { .. }
        | Change::DeliveryClaim { .. }
        | Change::Run(RunChange::Hold { .. } | RunChange::Reserve { .. })
        | Change::TriggerClaim { .. } => &[],
        Change::DeliveryDone { .. } => &[ChangeKind::Deliveries],
        Change::DeliveryInsert(_) | Change::DeliveryReplay { .. } => &[ChangeKind::State, ChangeKind::Deliveries],
        Change::Run(_) => &[ChangeKind::Flow],
        Change::Workflow(_) => &[ChangeKind::State, ChangeKind::Flow],
        Change::TriggerRunInsert(_) => &[ChangeKind::Triggers],
        Change::TriggerInsert(_) | Change::TriggerUpdate(_) | Change::TriggerDelete(_) => &[ChangeKind::State, ChangeKind::Triggers],
        _ => &[ChangeKind::State],
    }
}

fn into_statements(vault: &Vault, tenant: Tenant, change: &Change) -> Result<Vec<Statement>, StoreError> {
    let one = match change {
        Change::ProjectInsert(row) => project::project_insert(row),
        Change::ProjectUpdate(row, seen) => project::project_update(row, *seen),
        Change::ProjectDelete(id) => project::project_delete(tenant, *id),
        Change::EnvironmentInsert(row) => environment::environment_insert(row),
        Change::EnvironmentUpdate(row) => environment::environment_update(row),
        Change::EnvironmentProtect(id, protected, at) => environment::environment_protect(tenant, *id, *protected, *at),
        Change::EnvironmentRevise(id, seen) => environment::environment_revise(tenant, *id, *seen),
        Change::EnvironmentDelete(id) => return Ok(environment::environment_delete(tenant, *id)),
        Change::EnvironmentPatchInsert(row) => return environment_patch::environment_patch_insert(vault, row),
        Change::EnvironmentPatchDelete(id) => environment_patch::environment_patch_delete(tenant, *id),
        Change::ServiceInsert(row) => service::service_insert(row),
        Change::ServiceUpdate(row) => service::service_update(row),
        Change::ServiceDelete(id) => service::service_delete(tenant, *id),
        Change::InstanceInsert(row) => return Ok(instance::instance_insert(row)),
        Change::InstanceUpdate { row, seen } => instance::instance_update(row, *seen),
        Change::InstanceDelete(id) => instance::instance_delete(tenant, *id),
        Change::DomainInsert(row) => domain_name::domain_insert(row),
        Change::DomainUpdate(row) => domain_name::domain_update(row),
        Change::DomainChecked { id, value, verified, at } => domain_name::domain_checked(tenant, *id, value.as_ref(), *verified, *at),
        Change::DomainHttps { id, force, at } => domain_name::domain_https(tenant, *id, *force, *at),
        Change::DomainDelete(id) => domain_name::domain_delete(tenant, *id),
        Change::DomainLapse(id) => domain_name::domain_lapse(tenant, *id),
        Change::Certificate(change) => return certificate::statements(vault, tenant, change),
        Change::VariableSet(row) => variable::variable_set(vault, row)?,
        Change::VariableDelete { environment, service, name } => variable::variable_delete(tenant, *environment, *service, name),
        Change::VariablesClear { environment, service } => variable::variables_clear(tenant, *environment, *service),
        Change::DeploymentInsert { deployment, variables } => return deployment::deployment_insert(vault, deployment, variables),
        Change::DeploymentMove { id, from, to, reason, at } => deployment::deployment_move(tenant, *id, *from, *to, reason.clone(), *at),
        Change::DeploymentBuilt { id, artifact, run, spec, at } => {
            deployment::deployment_built(tenant, *id, artifact.clone(), run, spec, *at)
        }
        Change::DeploymentStopped { id, stopped, of, at } => deployment::deployment_stopped(tenant, *id, *stopped, *of, *at),
        Change::DeploymentRestart { id, from, at } => deployment::deployment_restart(tenant, *id, *from, *at),
        Change::EventInsert(row) => deployment_event::event_insert(tenant, row),
        Change::EventComplete { deployment, step, at, error, detail } => {
            deployment_event::event_complete(tenant, *deployment, *step, *at, error.clone(), detail.clone())
        }
        Change::ReplicaInsert(row) => replica::replica_insert(row),
        Change::ReplicaUpdate(row) => replica::replica_update(row),
        Change::ReplicaEnd { id, reason, at } => replica::replica_end(tenant, *id, reason, *at),
        Change::ReplicaHealth(id, since) => replica::replica_health(tenant, *id, *since),
        Change::ExecutionInsert(row) => execution::execution_insert(row),
        Change::ExecutionUpdate(row) => execution::execution_update(row),
        Change::Activity(row) => activity::activity_insert(row),
        Change::ActivityUpdate { id, data } => activity::activity_update(tenant, *id, data),
        Change::ActivitiesNoticed(ids) => activity::activities_noticed(tenant, ids),
        Change::DeliveryInsert(row) => return delivery::delivery_insert(vault, row),
        Change::DeliveryClaim { id, attempts, at, until } => delivery::delivery_claim(tenant, *id, *attempts, *at, *until),
        Change::DeliveryDone { attempt, state, at, next } => return Ok(delivery::delivery_done(tenant, attempt, *state, *at, *next)),
        Change::DeliveryReplay { id, at } => delivery::delivery_replay(tenant, *id, *at),
        Change::Notification(change) => return notification::statements(vault, tenant, change),
        Change::TriggerInsert(row) => trigger::trigger_insert(row),
        Change::TriggerUpdate(row) => trigger::trigger_update(row),
        Change::TriggerDelete(id) => trigger::trigger_delete(tenant, *id),
        Change::TriggerClaim { id, runs, next } => trigger::trigger_claim(tenant, *id, *runs, *next),
        Change::TriggerRunInsert(row) => trigger::trigger_run_insert(tenant, row),
        Change::MemberSet { user, role } => return Ok(workspace::member_set(tenant, *user, *role)),
        Change::MemberRemove { user } => return Ok(workspace::member_remove(tenant, *user)),
        Change::InviteInsert { invite, hash, at } => return Ok(invite::invite_insert(invite, *hash, *at)),
        Change::InviteDelete { hash } => invite::invite_delete(tenant, *hash),
        Change::Account(change) => return Ok(account::statements(tenant, change)),
        Change::WorkspaceInsert { workspace, owner, most } => return Ok(workspace::workspace_insert_below(workspace, *owner, *most)),
        Change::WorkspaceUpdate(row, seen) => workspace::workspace_update(tenant, row, *seen),
        Change::WorkspaceGrow { seen, at } => workspace::workspace_grow(tenant, *seen, *at),
        Change::Workflow(change) => return workflow::statements(vault, tenant, change),
        Change::Run(change) => return run::statements(vault, tenant, change),
        Change::ApiKeyInsert { key, hash } => return Ok(api_key::api_key_made(key, *hash)),
        Change::ApiKeyUpdate(key) => api_key::api_key_update(tenant, key),
        Change::ApiKeyRevoke { id, at } => api_key::api_key_revoke(tenant, *id, *at),
        Change::VolumeInsert(row) => volume::volume_insert(row),
        Change::VolumeUpdate(row) => volume::volume_update(row),
        Change::VolumeDelete(id) => volume::volume_delete(tenant, *id),
        Change::VolumeInstanceInsert(row) => return Ok(volume::volume_instance_insert(row)),
        Change::VolumeInstanceMountPath { id, mount_path, at } => volume::volume_instance_mount_path(tenant, *id, mount_path, *at),
        Change::VolumeInstanceMove { id, from, to, restoring, at } => {
            volume::volume_instance_move(tenant, *id, (*from, *to), *restoring, *at)
        }
        Change::VolumeInstanceUsed { id, used_bytes } => volume::volume_instance_used(tenant, *id, *used_bytes),
        Change::VolumeFilesKeep { id, at } => return Ok(volume::volume_files_keep(tenant, *id, *at)),
        Change::VolumeInstanceDelete(id) => volume::volume_instance_delete(tenant, *id),
        Change::VolumeAttach { id, service } => volume::volume_attach(tenant, *id, *service),
        Change::VolumeDetach(id) => volume::volume_detach(tenant, *id),
        Change::BackupInsert(row) => backup::backup_insert(row),
        Change::BackupEnd { id, state, used_bytes, reason } => backup::backup_end(tenant, *id, *state, *used_bytes, reason.as_deref()),
        Change::BackupRestored { id, reason } => backup::backup_restored(tenant, *id, reason.as_deref()),
        Change::BackupLock(id) => backup::backup_lock(tenant, *id),
        Change::BackupDelete(id) => backup::backup_delete(tenant, *id),
        Change::BackupSchedulesSet { instance, kinds } => return Ok(backup::backup_schedules_set(instance, kinds)),
        Change::TcpProxyInsert(row) => tcp_proxy::tcp_proxy_insert(row),
        Change::TcpProxyDelete(id) => tcp_proxy::tcp_proxy_delete(tenant, *id),
    };
    Ok(vec![one])
}
