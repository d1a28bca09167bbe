//! Messages to webhooks and mailboxes, and their attempts. Messages that are done are deleted thirty days later, with their attempts.

use std::collections::HashMap;

use domain::delivery::{Delivery, DeliveryAttempt, DeliveryState, RULE_DELIVERIES, Target};
use domain::{DeliveryId, NotificationRuleId, Sealed, Tenant, Timestamp, WorkspaceId};

use crate::executor::{BadCell, Record, Statement};
use crate::vault::Vault;
use crate::{Store, StoreError};

macro_rules! columns {
    () => {
        "id, workspace_id, kind, subject, body, state, attempts, tries, next_at, created_at, updated_at, sealed_target"
    };
}

macro_rules! insert {
    () => {
        "INSERT INTO deliveries (id, workspace_id, kind, subject, sealed_target, body, state, attempts, tries, next_at, created_at, \
         updated_at) "
    };
}

macro_rules! values {
    () => {
        "$id, $workspace, $kind, $subject, $sealed, $body, $state, $attempts, $tries, $next, $created, $updated"
    };
}

statements! {
    DELIVERY = concat!("SELECT ", columns!(), " FROM deliveries WHERE id = $id");
    DELIVERIES = concat!(
        "SELECT ", columns!(), " FROM deliveries WHERE kind = $kind AND subject = $subject AND workspace_id = $workspace \
         ORDER BY id DESC LIMIT $limit"
    );
    DELIVERY_ATTEMPTS =
        "SELECT delivery_id, number, at, millis, status, error FROM delivery_attempts \
         WHERE delivery_id IN ($deliveries) AND workspace_id = $workspace";
    SYSTEM_DELIVERIES_DUE = concat!(
        "SELECT ", columns!(), " FROM deliveries WHERE state = 'PENDING' AND next_at <= $now AND NOT workspace_id IN ($busy) \
         ORDER BY next_at LIMIT $limit"
    );
    SYSTEM_DELIVERY_GIVE_UP = "UPDATE deliveries SET state = $state, updated_at = $at WHERE id = $id AND state = 'PENDING'";
    SYSTEM_DELIVERY_NEXT = "SELECT next_at FROM deliveries WHERE state = 'PENDING' ORDER BY next_at LIMIT 1";
    SYSTEM_DELIVERIES_PURGE = "DELETE FROM deliveries WHERE state <> 'PENDING' AND updated_at < $over";
    DELIVERY_INSERT = concat!(insert!(), "VALUES (", values!(), ")");
    /// A deletion that is under way waits for the message, or the message for it.
    DELIVERY_RULE_HOLD = "UPDATE notification_rules SET updated_at = updated_at WHERE id = $rule AND workspace_id = $workspace";
    /// What is read of a rule may be gone when its message is written: then there is nobody to tell.
    DELIVERY_OF_RULE_INSERT = concat!(
        insert!(), "SELECT ", values!(),
        " WHERE EXISTS (SELECT 1 FROM notification_rules WHERE notification_rules.id = $rule \
         AND notification_rules.workspace_id = $workspace)"
    );
    DELIVERY_CLAIM =
        "UPDATE deliveries SET attempts = attempts + 1, tries = tries + 1, next_at = $until, updated_at = $at \
         WHERE id = $id AND attempts = $attempts AND state = 'PENDING' AND workspace_id = $workspace";
    DELIVERY_DONE =
        "UPDATE deliveries SET state = $state, next_at = $next, updated_at = $at \
         WHERE id = $id AND attempts = $attempts AND state = 'PENDING' AND workspace_id = $workspace";
    DELIVERY_ATTEMPT_INSERT =
        "INSERT INTO delivery_attempts (workspace_id, delivery_id, number, at, millis, status, error) \
         VALUES ($workspace, $delivery, $number, $at, $millis, $status, $error)";
    DELIVERY_REPLAY =
        "UPDATE deliveries SET state = 'PENDING', tries = 0, next_at = $at, updated_at = $at \
         WHERE id = $id AND state <> 'PENDING' AND workspace_id = $workspace";
}

/// A row before its target is opened.
struct Closed {
    id: DeliveryId,
    workspace_id: WorkspaceId,
    kind: String,
    subject: String,
    body: String,
    state: DeliveryState,
    attempts: u32,
    tries: u32,
    next_at: Timestamp,
    created_at: Timestamp,
    updated_at: Timestamp,
    sealed: Vec<u8>,
}

fn row(r: &mut Record) -> Result<Closed, BadCell> {
    Ok(Closed {
        id: r.id(DeliveryId)?,
        workspace_id: r.id(WorkspaceId)?,
        kind: r.text()?,
        subject: r.text()?,
        body: r.text()?,
        state: r.word(DeliveryState::parse)?,
        attempts: r.number()?,
        tries: r.number()?,
        next_at: r.time()?,
        created_at: r.time()?,
        updated_at: r.time()?,
        sealed: r.bytes()?,
    })
}

fn attempt_row(r: &mut Record) -> Result<DeliveryAttempt, BadCell> {
    Ok(DeliveryAttempt {
        delivery_id: r.id(DeliveryId)?,
        number: r.number()?,
        at: r.time()?,
        millis: r.number()?,
        status: r.maybe_number()?,
        error: r.maybe_text()?,
    })
}

fn place(id: DeliveryId) -> String {
    format!("deliveries.sealed_target/{id}")
}

fn open(vault: &Vault, closed: Closed) -> Result<Delivery, StoreError> {
    let Closed { id, workspace_id, kind, subject, body, state, attempts, tries, next_at, created_at, updated_at, sealed } = closed;
    let place = place(id);
    let plain = vault.unseal(&place, &sealed)?;
    let target: Target = serde_json::from_slice(&plain).map_err(|_| StoreError::Corrupt(format!("{place} is not a target")))?;
    Ok(Delivery { id, workspace_id, kind, subject, target, body, state, attempts, tries, next_at, created_at, updated_at })
}

impl Store {
    /// A message.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when its target does not decrypt.
    pub async fn delivery(&self, id: DeliveryId) -> Result<Option<Sealed<Delivery>>, StoreError> {
        let Some(closed) = self.one(&DELIVERY, &params![id = id], row).await? else { return Ok(None) };
        let delivery = open(&self.inner.vault, closed)?;
        Ok(Some(Sealed::new(delivery.workspace_id, delivery)))
    }

    /// The messages of a kind that belong to a subject, newest first.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a target does not decrypt.
    pub async fn deliveries(&self, tenant: Tenant, kind: &str, subject: &str, limit: u32) -> Result<Vec<Delivery>, StoreError> {
        let params = params![workspace = tenant, kind = kind, subject = subject, limit = limit];
        let rows = self.list(&DELIVERIES, &params, row).await?;
        rows.into_iter().map(|closed| open(&self.inner.vault, closed)).collect()
    }

    /// The attempts of the messages, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn delivery_attempts(&self, tenant: Tenant, deliveries: &[DeliveryId]) -> Result<Vec<DeliveryAttempt>, StoreError> {
        let params = params![workspace = tenant, deliveries = deliveries];
        self.batch(&DELIVERY_ATTEMPTS, &params, attempt_row, |row| (row.delivery_id, row.number)).await
    }

    /// The same messages as [`Store::deliveries`], each with its attempts, oldest first.
    ///
    /// # Errors
    /// As [`Store::deliveries`].
    pub async fn deliveries_with_attempts(
        &self,
        tenant: Tenant,
        kind: &str,
        subject: &str,
        limit: u32,
    ) -> Result<Vec<(Delivery, Vec<DeliveryAttempt>)>, StoreError> {
        let found = self.deliveries(tenant, kind, subject, limit).await?;
        let ids: Vec<DeliveryId> = found.iter().map(|delivery| delivery.id).collect();
        let mut attempts: HashMap<DeliveryId, Vec<DeliveryAttempt>> = HashMap::new();
        for attempt in self.delivery_attempts(tenant, &ids).await? {
            attempts.entry(attempt.delivery_id).or_default().push(attempt);
        }
        let with_its = |delivery: Delivery| {
            let own = attempts.remove(&delivery.id).unwrap_or_default();
            (delivery, own)
        };
        Ok(found.into_iter().map(with_its).collect())
    }

    /// Messages of all workspaces but `busy` ones whose time has come, the longest waiting first. One whose target does not decrypt has
    /// failed: no other waits behind it.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_deliveries_due(&self, now: Timestamp, busy: &[WorkspaceId], limit: u32) -> Result<Vec<Delivery>, StoreError> {
        let mut due = vec![];
        for closed in self.list(&SYSTEM_DELIVERIES_DUE, &params![now = now, busy = busy, limit = limit], row).await? {
            let id = closed.id;
            match open(&self.inner.vault, closed) {
                Ok(delivery) => due.push(delivery),
                Err(error) => {
                    tracing::error!(%error, delivery = %id, "a message cannot be read and is given up");
                    let params = params![id = id, state = DeliveryState::Failed.as_str(), at = now];
                    self.write_one(&SYSTEM_DELIVERY_GIVE_UP, params).await?;
                }
            }
        }
        Ok(due)
    }

    /// When the next message is due.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_delivery_next(&self) -> Result<Option<Timestamp>, StoreError> {
        self.one(&SYSTEM_DELIVERY_NEXT, &[], Record::time).await
    }

    /// Deletes messages that were done before `over`.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_deliveries_purge(&self, over: Timestamp) -> Result<(), StoreError> {
        self.write_one(&SYSTEM_DELIVERIES_PURGE, params![over = over]).await.map(|_| ())
    }
}

/// A message; that of a rule only while the rule is there.
pub(crate) fn delivery_insert(vault: &Vault, delivery: &Delivery) -> Result<Vec<Statement>, StoreError> {
    let Delivery { id, workspace_id, kind, subject, target, body, state, attempts, tries, next_at, created_at, updated_at } = delivery;
    let plain = serde_json::to_vec(target).map_err(|error| StoreError::Corrupt(error.to_string()))?;
    let rule: Option<NotificationRuleId> = if kind == RULE_DELIVERIES { subject.parse().ok() } else { None };
    let params = params![
        id = *id,
        workspace = *workspace_id,
        rule = rule,
        kind = kind,
        subject = subject,
        sealed = vault.seal(&place(*id), &plain)?,
        body = body,
        state = state.as_str(),
        attempts = *attempts,
        tries = *tries,
        next = *next_at,
        created = *created_at,
        updated = *updated_at
    ];
    let Some(rule) = rule else { return Ok(vec![Statement::touch(&DELIVERY_INSERT, params)]) };
    let hold = Statement::any(&DELIVERY_RULE_HOLD, params![rule = rule, workspace = *workspace_id]);
    Ok(vec![hold, Statement::any(&DELIVERY_OF_RULE_INSERT, params)])
}

pub(crate) fn delivery_claim(tenant: Tenant, id: DeliveryId, attempts: u32, at: Timestamp, until: Timestamp) -> Statement {
    Statement::touch(&DELIVERY_CLAIM, params![id = id, workspace = tenant, attempts = attempts, at = at, until = until])
}

pub(crate) fn delivery_done(
    tenant: Tenant,
    attempt: &DeliveryAttempt,
    state: DeliveryState,
    at: Timestamp,
    next: Timestamp,
) -> Vec<Statement> {
    let DeliveryAttempt { delivery_id, number, at: begun, millis, status, error } = attempt;
    let insert = params![
        workspace = tenant,
        delivery = *delivery_id,
        number = *number,
        at = *begun,
        millis = *millis,
        status = *status,
        error = error.as_ref()
    ];
    let done = params![id = *delivery_id, workspace = tenant, attempts = *number, state = state.as_str(), next = next, at = at];
    vec![Statement::touch(&DELIVERY_DONE, done), Statement::touch(&DELIVERY_ATTEMPT_INSERT, insert)]
}

pub(crate) fn delivery_replay(tenant: Tenant, id: DeliveryId, at: Timestamp) -> Statement {
    Statement::touch(&DELIVERY_REPLAY, params![id = id, workspace = tenant, at = at])
}
