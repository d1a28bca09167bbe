//! Triggers and the log of their runs. Runs are deleted after seven days, with their trigger or with the app.

use domain::trigger::{Trigger, TriggerRun};
use domain::{InstanceId, Sealed, Tenant, Timestamp, TriggerId, WorkspaceId};

use crate::executor::{BadCell, Record, Statement, json};
use crate::{Store, StoreError};

macro_rules! columns {
    () => {
        "id, workspace_id, instance_id, enabled, spec, runs, next_at, created_at, updated_at FROM triggers "
    };
}

macro_rules! select {
    () => {
        concat!("SELECT ", columns!())
    };
}

statements! {
    TRIGGER = concat!(select!(), "WHERE id = $id");
    TRIGGERS_OF_INSTANCES = concat!(select!(), "WHERE instance_id IN ($instances) AND workspace_id = $workspace");
    TRIGGER_RUNS =
        "SELECT trigger_id, number, at, outcome, log FROM trigger_runs WHERE trigger_id = $trigger AND workspace_id = $workspace \
         ORDER BY number DESC LIMIT $limit";
    SYSTEM_TRIGGERS_DUE = concat!("SELECT id, ", columns!(), "WHERE enabled AND next_at <= $now ORDER BY next_at LIMIT $limit");
    SYSTEM_TRIGGER_GIVE_UP = "UPDATE triggers SET enabled = FALSE, updated_at = $at WHERE id = $id";
    SYSTEM_TRIGGER_NEXT = "SELECT next_at FROM triggers WHERE enabled ORDER BY next_at LIMIT 1";
    SYSTEM_TRIGGER_RUNS_PURGE = "DELETE FROM trigger_runs WHERE at < $over";
    TRIGGER_INSERT =
        "INSERT INTO triggers (id, workspace_id, instance_id, enabled, spec, runs, next_at, created_at, updated_at) \
         VALUES ($id, $workspace, $instance, $enabled, $spec, $runs, $next, $created, $updated)";
    TRIGGER_UPDATE =
        "UPDATE triggers SET enabled = $enabled, spec = $spec, next_at = $next, updated_at = $updated \
         WHERE id = $id AND workspace_id = $workspace";
    TRIGGER_DELETE = "DELETE FROM triggers WHERE id = $id AND workspace_id = $workspace";
    TRIGGER_CLAIM =
        "UPDATE triggers SET runs = runs + 1, next_at = $next WHERE id = $id AND runs = $runs AND enabled AND workspace_id = $workspace";
    TRIGGER_RUN_INSERT =
        "INSERT INTO trigger_runs (workspace_id, trigger_id, number, at, outcome, log) \
         VALUES ($workspace, $trigger, $number, $at, $outcome, $log)";
}

fn row(r: &mut Record) -> Result<Trigger, BadCell> {
    Ok(Trigger {
        id: r.id(TriggerId)?,
        workspace_id: r.id(WorkspaceId)?,
        instance_id: r.id(InstanceId)?,
        enabled: r.flag()?,
        spec: r.json()?,
        runs: r.number()?,
        next_at: r.time()?,
        created_at: r.time()?,
        updated_at: r.time()?,
    })
}

fn run_row(r: &mut Record) -> Result<TriggerRun, BadCell> {
    Ok(TriggerRun { trigger_id: r.id(TriggerId)?, number: r.number()?, at: r.time()?, outcome: r.text()?, log: r.json()? })
}

impl Store {
    /// A trigger.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn trigger(&self, id: TriggerId) -> Result<Option<Sealed<Trigger>>, StoreError> {
        self.sealed(&TRIGGER, &params![id = id], row, |trigger| trigger.workspace_id).await
    }

    /// The triggers of the apps, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn triggers_of_instances(&self, tenant: Tenant, instances: &[InstanceId]) -> Result<Vec<Trigger>, StoreError> {
        self.batch(&TRIGGERS_OF_INSTANCES, &params![workspace = tenant, instances = instances], row, |row| row.id).await
    }

    /// The runs of a trigger, newest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn trigger_runs(&self, tenant: Tenant, trigger: TriggerId, limit: u32) -> Result<Vec<TriggerRun>, StoreError> {
        self.list(&TRIGGER_RUNS, &params![workspace = tenant, trigger = trigger, limit = limit], run_row).await
    }

    /// Enabled triggers of all workspaces whose time has come, the longest waiting first. One that cannot be read is disabled: no other
    /// waits behind it.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_triggers_due(&self, now: Timestamp, limit: u32) -> Result<Vec<Trigger>, StoreError> {
        let read = |r: &mut Record| {
            let id = r.id(TriggerId)?;
            Ok(row(r).map_err(|bad| (id, bad.0)))
        };
        let mut due = vec![];
        for found in self.list(&SYSTEM_TRIGGERS_DUE, &params![now = now, limit = limit], read).await? {
            match found {
                Ok(trigger) => due.push(trigger),
                Err((id, error)) => {
                    tracing::error!(error, trigger = %id, "a trigger cannot be read and is disabled");
                    self.write_one(&SYSTEM_TRIGGER_GIVE_UP, params![id = id, at = now]).await?;
                }
            }
        }
        Ok(due)
    }

    /// When the next trigger runs.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_trigger_next(&self) -> Result<Option<Timestamp>, StoreError> {
        self.one(&SYSTEM_TRIGGER_NEXT, &[], Record::time).await
    }

    /// Deletes runs that were before `over`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_trigger_runs_purge(&self, over: Timestamp) -> Result<(), StoreError> {
        self.write_one(&SYSTEM_TRIGGER_RUNS_PURGE, params![over = over]).await.map(|_| ())
    }
}

pub(crate) fn trigger_insert(trigger: &Trigger) -> Statement {
    let Trigger { id, workspace_id, instance_id, enabled, spec, runs, next_at, created_at, updated_at } = trigger;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        instance = *instance_id,
        enabled = *enabled,
        spec = json(spec),
        runs = *runs,
        next = *next_at,
        created = *created_at,
        updated = *updated_at
    ];
    Statement::touch(&TRIGGER_INSERT, params)
}

pub(crate) fn trigger_update(trigger: &Trigger) -> Statement {
    let Trigger { id, workspace_id, enabled, spec, next_at, updated_at, .. } = trigger;
    let params =
        params![id = *id, workspace = *workspace_id, enabled = *enabled, spec = json(spec), next = *next_at, updated = *updated_at];
    Statement::touch(&TRIGGER_UPDATE, params)
}

pub(crate) fn trigger_delete(tenant: Tenant, id: TriggerId) -> Statement {
    Statement::touch(&TRIGGER_DELETE, params![id = id, workspace = tenant])
}

pub(crate) fn trigger_claim(tenant: Tenant, id: TriggerId, runs: u32, next: Timestamp) -> Statement {
    Statement::touch(&TRIGGER_CLAIM, params![id = id, workspace = tenant, runs = runs, next = next])
}

pub(crate) fn trigger_run_insert(tenant: Tenant, run: &TriggerRun) -> Statement {
    let TriggerRun { trigger_id, number, at, outcome, log } = run;
    let params = params![workspace = tenant, trigger = *trigger_id, number = *number, at = *at, outcome = outcome, log = json(log)];
    Statement::touch(&TRIGGER_RUN_INSERT, params)
}
