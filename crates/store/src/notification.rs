//! Settings of notifications: one row for an account, one for each app that overrides it. They go with their owner. And rules, which tell
//! of deployments: they go with their project, and with the member who made them.

use domain::delivery::RULE_DELIVERIES;
use domain::notification::NotificationSettings;
use domain::notification_rule::{NotificationRule, RuleSpec};
use domain::{InstanceId, NotificationRuleId, ProjectId, Sealed, Tenant, Timestamp, UserId, WorkspaceId};
use uuid::Uuid;

use crate::executor::{BadCell, Record, Statement, json};
use crate::vault::Vault;
use crate::{Store, StoreError};

macro_rules! rule_columns {
    () => {
        "id, workspace_id, project_id, created_by, spec, sealed_channels, created_at, updated_at FROM notification_rules "
    };
}

statements! {
    NOTIFICATION_SETTINGS =
        "SELECT owner, instance_id, sealed_settings FROM notification_settings WHERE owner IN ($owners) AND workspace_id = $workspace";
    NOTIFICATION_SETTINGS_SET =
        "INSERT INTO notification_settings (owner, workspace_id, instance_id, sealed_settings, updated_at) \
         VALUES ($owner, $workspace, $instance, $sealed, $updated) \
         ON CONFLICT (owner) DO UPDATE SET sealed_settings = excluded.sealed_settings, updated_at = excluded.updated_at \
         WHERE notification_settings.workspace_id = excluded.workspace_id";
    NOTIFICATION_SETTINGS_DELETE = "DELETE FROM notification_settings WHERE owner = $owner AND workspace_id = $workspace";
    NOTIFICATION_RULE = concat!("SELECT ", rule_columns!(), "WHERE id = $id");
    NOTIFICATION_RULES = concat!("SELECT ", rule_columns!(), "WHERE workspace_id = $workspace");
    NOTIFICATION_RULE_INSERT =
        "INSERT INTO notification_rules (id, workspace_id, project_id, created_by, spec, sealed_channels, created_at, updated_at) \
         VALUES ($id, $workspace, $project, $creator, $spec, $sealed, $created, $updated)";
    NOTIFICATION_RULE_UPDATE =
        "UPDATE notification_rules SET spec = $spec, sealed_channels = $sealed, updated_at = $updated \
         WHERE id = $id AND workspace_id = $workspace AND updated_at = $seen";
    NOTIFICATION_RULE_DELETE = "DELETE FROM notification_rules WHERE id = $id AND workspace_id = $workspace";
    NOTIFICATION_RULES_OF_MEMBER_DELETE = "DELETE FROM notification_rules WHERE workspace_id = $workspace AND created_by = $user";
    NOTIFICATION_RULE_DELIVERIES_DELETE = "DELETE FROM deliveries WHERE kind = $kind AND subject = $subject AND workspace_id = $workspace";
}

/// Something about whom an account or an app tells of what.
#[derive(Clone)]
pub enum NotificationChange {
    /// Whom an account or an app tells of what.
    SettingsSet {
        /// The app; `None` for the account's own.
        instance: Option<InstanceId>,
        /// What.
        settings: NotificationSettings,
        /// When.
        at: Timestamp,
    },
    /// The app follows its account again, or the account tells nobody.
    SettingsDelete {
        /// The app; `None` for the account's own.
        instance: Option<InstanceId>,
    },
    /// A new rule, of a project and a member of the workspace where it names them.
    RuleInsert(NotificationRule),
    /// What a rule tells and where to, if nobody has changed it since it was read.
    RuleUpdate {
        /// As it will be.
        rule: NotificationRule,
        /// The time of the last change that was read.
        seen: Timestamp,
    },
    /// A rule with its messages, those that wait to be sent included.
    RuleDelete(NotificationRuleId),
    /// The rules that a member made. There may be none.
    RulesDelete {
        /// Who.
        user: UserId,
        /// Those that were found: with their messages, those that wait to be sent included.
        found: Vec<NotificationRuleId>,
    },
}

impl NotificationChange {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::SettingsSet { .. } => "NotificationSettingsSet",
            Self::SettingsDelete { .. } => "NotificationSettingsDelete",
            Self::RuleInsert(_) => "NotificationRuleInsert",
            Self::RuleUpdate { .. } => "NotificationRuleUpdate",
            Self::RuleDelete(_) => "NotificationRuleDelete",
            Self::RulesDelete { .. } => "NotificationRulesDelete",
        }
    }

    pub(crate) fn names_workspace(&self) -> Option<WorkspaceId> {
        match self {
            Self::RuleInsert(rule) | Self::RuleUpdate { rule, .. } => Some(rule.workspace_id),
            Self::SettingsSet { .. } | Self::SettingsDelete { .. } | Self::RuleDelete(_) | Self::RulesDelete { .. } => None,
        }
    }
}

pub(crate) fn statements(vault: &Vault, tenant: Tenant, change: &NotificationChange) -> Result<Vec<Statement>, StoreError> {
    Ok(match change {
        NotificationChange::SettingsSet { instance, settings, at } => {
            vec![notification_settings_set(vault, tenant, *instance, settings, *at)?]
        }
        NotificationChange::SettingsDelete { instance } => vec![notification_settings_delete(tenant, *instance)],
        NotificationChange::RuleInsert(rule) => vec![rule_insert(vault, rule)?],
        NotificationChange::RuleUpdate { rule, seen } => vec![rule_update(vault, rule, *seen)?],
        NotificationChange::RuleDelete(id) => rule_delete(tenant, *id),
        NotificationChange::RulesDelete { user, found } => {
            let rules = Statement::any(&NOTIFICATION_RULES_OF_MEMBER_DELETE, params![workspace = tenant, user = *user]);
            std::iter::once(rules).chain(found.iter().map(|id| rule_deliveries_delete(tenant, *id))).collect()
        }
    })
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

    /// A rule.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when its channels do not decrypt.
    pub async fn notification_rule(&self, id: NotificationRuleId) -> Result<Option<Sealed<NotificationRule>>, StoreError> {
        let Some(closed) = self.one(&NOTIFICATION_RULE, &params![id = id], rule_row).await? else { return Ok(None) };
        let rule = rule_open(&self.inner.vault, closed)?;
        Ok(Some(Sealed::new(rule.workspace_id, rule)))
    }

    /// The rules of the workspace and of its projects, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when the channels of one do not decrypt.
    pub async fn notification_rules(&self, tenant: Tenant) -> Result<Vec<NotificationRule>, StoreError> {
        let rows = self.batch(&NOTIFICATION_RULES, &params![workspace = tenant], rule_row, |row| row.id).await?;
        rows.into_iter().map(|closed| rule_open(&self.inner.vault, closed)).collect()
    }
}

/// A rule before its channels are opened.
struct ClosedRule {
    id: NotificationRuleId,
    workspace_id: WorkspaceId,
    project_id: Option<ProjectId>,
    created_by: Option<UserId>,
    spec: RuleSpec,
    sealed: Vec<u8>,
    created_at: Timestamp,
    updated_at: Timestamp,
}

fn rule_row(r: &mut Record) -> Result<ClosedRule, BadCell> {
    Ok(ClosedRule {
        id: r.id(NotificationRuleId)?,
        workspace_id: r.id(WorkspaceId)?,
        project_id: r.maybe_id(ProjectId)?,
        created_by: r.maybe_id(UserId)?,
        spec: r.json()?,
        sealed: r.bytes()?,
        created_at: r.time()?,
        updated_at: r.time()?,
    })
}

fn rule_place(id: NotificationRuleId) -> String {
    format!("notification_rules.sealed_channels/{id}")
}

fn rule_open(vault: &Vault, closed: ClosedRule) -> Result<NotificationRule, StoreError> {
    let ClosedRule { id, workspace_id, project_id, created_by, spec, sealed, created_at, updated_at } = closed;
    let place = rule_place(id);
    let plain = vault.unseal(&place, &sealed)?;
    let channels = serde_json::from_slice(&plain).map_err(|_| StoreError::Corrupt(format!("{place} are not channels")))?;
    Ok(NotificationRule { id, workspace_id, project_id, created_by, spec, channels, created_at, updated_at })
}

fn rule_sealed(vault: &Vault, rule: &NotificationRule) -> Result<Vec<u8>, StoreError> {
    let plain = serde_json::to_vec(&rule.channels).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    vault.seal(&rule_place(rule.id), &plain)
}

fn rule_insert(vault: &Vault, rule: &NotificationRule) -> Result<Statement, StoreError> {
    let params = params![
        id = rule.id,
        workspace = rule.workspace_id,
        project = rule.project_id,
        creator = rule.created_by,
        spec = json(&rule.spec),
        sealed = rule_sealed(vault, rule)?,
        created = rule.created_at,
        updated = rule.updated_at
    ];
    Ok(Statement::touch(&NOTIFICATION_RULE_INSERT, params))
}

fn rule_update(vault: &Vault, rule: &NotificationRule, seen: Timestamp) -> Result<Statement, StoreError> {
    let params = params![
        id = rule.id,
        workspace = rule.workspace_id,
        spec = json(&rule.spec),
        sealed = rule_sealed(vault, rule)?,
        updated = rule.updated_at,
        seen = seen
    ];
    Ok(Statement::touch(&NOTIFICATION_RULE_UPDATE, params))
}

fn rule_delete(tenant: Tenant, id: NotificationRuleId) -> Vec<Statement> {
    vec![Statement::touch(&NOTIFICATION_RULE_DELETE, params![id = id, workspace = tenant]), rule_deliveries_delete(tenant, id)]
}

fn rule_deliveries_delete(tenant: Tenant, id: NotificationRuleId) -> Statement {
    let params = params![kind = RULE_DELIVERIES, subject = id.to_string(), workspace = tenant];
    Statement::any(&NOTIFICATION_RULE_DELIVERIES_DELETE, params)
}

fn notification_settings_set(
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
fn notification_settings_delete(tenant: Tenant, instance: Option<InstanceId>) -> Statement {
    Statement::any(&NOTIFICATION_SETTINGS_DELETE, params![owner = owner(tenant, instance), workspace = tenant])
}
