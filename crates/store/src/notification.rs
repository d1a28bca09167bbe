//! Settings of notifications: one row for an account, one for each app that overrides it. They go with their owner.

use domain::notification::NotificationSettings;
use domain::{InstanceId, Tenant, Timestamp};
use uuid::Uuid;

use crate::executor::{BadCell, Record, Statement};
use crate::vault::Vault;
use crate::{Store, StoreError};

statements! {
    NOTIFICATION_SETTINGS =
        "SELECT owner, instance_id, sealed_settings FROM notification_settings WHERE owner IN ($owners) AND workspace_id = $workspace";
    NOTIFICATION_SETTINGS_SET =
        "INSERT INTO notification_settings (owner, workspace_id, instance_id, sealed_settings, updated_at) \
         VALUES ($owner, $workspace, $instance, $sealed, $updated) \
         ON CONFLICT (owner) DO UPDATE SET sealed_settings = excluded.sealed_settings, updated_at = excluded.updated_at \
         WHERE notification_settings.workspace_id = excluded.workspace_id";
    NOTIFICATION_SETTINGS_DELETE = "DELETE FROM notification_settings WHERE owner = $owner AND workspace_id = $workspace";
}

fn row(r: &mut Record) -> Result<(Uuid, Option<InstanceId>, Vec<u8>), BadCell> {
    Ok((r.id(|id| id)?, r.maybe_id(InstanceId)?, r.bytes()?))
}

fn place(owner: Uuid) -> String {
    format!("notification_settings.sealed_settings/{owner}")
}

fn owner(tenant: Tenant, instance: Option<InstanceId>) -> Uuid {
    instance.map_or(tenant.workspace().0, |instance| instance.0)
}

impl Store {
    /// The account's settings (under `None`) and those of the apps that have their own.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when they do not decrypt.
    pub async fn notification_settings(
        &self,
        tenant: Tenant,
        instances: &[InstanceId],
    ) -> Result<Vec<(Option<InstanceId>, NotificationSettings)>, StoreError> {
        let owners: Vec<InstanceId> = instances.iter().copied().chain([InstanceId(tenant.workspace().0)]).collect();
        let rows = self.list(&NOTIFICATION_SETTINGS, &params![workspace = tenant, owners = owners.as_slice()], row).await?;
        let open = |(owner, instance, sealed): (Uuid, Option<InstanceId>, Vec<u8>)| {
            let place = place(owner);
            let plain = self.inner.vault.unseal(&place, &sealed)?;
            let settings = serde_json::from_slice(&plain).map_err(|_| StoreError::Corrupt(format!("{place} are not settings")))?;
            Ok((instance, settings))
        };
        rows.into_iter().map(open).collect()
    }
}

pub(crate) fn notification_settings_set(
    vault: &Vault,
    tenant: Tenant,
    instance: Option<InstanceId>,
    settings: &NotificationSettings,
    at: Timestamp,
) -> Result<Statement, StoreError> {
    let owner = owner(tenant, instance);
    let plain = serde_json::to_vec(settings).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    let params = params![owner = owner, workspace = tenant, instance = instance, sealed = vault.seal(&place(owner), &plain)?, updated = at];
    Ok(Statement::touch(&NOTIFICATION_SETTINGS_SET, params))
}

/// Deleting what is not there is no surprise.
pub(crate) fn notification_settings_delete(tenant: Tenant, instance: Option<InstanceId>) -> Statement {
    Statement::any(&NOTIFICATION_SETTINGS_DELETE, params![owner = owner(tenant, instance), workspace = tenant])
}
