//! Requests that were sent under an idempotency key, and the first answer to each. What is older than [`KEEP`] goes with the next request of
//! this kind.

use domain::Timestamp;
use jiff::SignedDuration;
use uuid::Uuid;

use crate::executor::{BadCell, Record, Statement};
use crate::{Store, StoreError, first};

statements! {
    IDEMPOTENCY_PURGE = "DELETE FROM idempotent_requests WHERE created_at < $over";
    /// A request whose control plane died is lost after a while, and its name is free again.
    IDEMPOTENCY_BEGIN =
        "INSERT INTO idempotent_requests (owner, name, fingerprint, attempt, created_at) \
         VALUES ($owner, $name, $fingerprint, $attempt, $now) \
         ON CONFLICT (owner, name) DO UPDATE SET fingerprint = excluded.fingerprint, attempt = excluded.attempt, \
         created_at = excluded.created_at WHERE idempotent_requests.status IS NULL AND idempotent_requests.created_at < $lost";
    IDEMPOTENCY_FIND =
        "SELECT fingerprint, attempt, status, content_type, sealed_body FROM idempotent_requests WHERE owner = $owner AND name = $name";
    IDEMPOTENCY_FINISH =
        "UPDATE idempotent_requests SET status = $status, content_type = $content_type, sealed_body = $sealed_body \
         WHERE owner = $owner AND name = $name AND attempt = $attempt";
    IDEMPOTENCY_ABANDON = "DELETE FROM idempotent_requests WHERE owner = $owner AND name = $name AND attempt = $attempt AND status IS NULL";
}

/// How long an answer is kept.
const KEEP: SignedDuration = SignedDuration::from_hours(25);
/// How long a request may be at work before it counts as lost: longer than any request may take.
const LOST: SignedDuration = SignedDuration::from_mins(3);

/// What becomes of a request under an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// It is the first: it is to be executed, and finished or abandoned under this mark.
    First(Uuid),
    /// The first one is still at work.
    Running,
    /// The first one's answer.
    Answered(KeptAnswer),
    /// The first one asked for something else.
    Other,
}

/// An answer over HTTP.
#[derive(Clone, PartialEq, Eq)]
pub struct KeptAnswer {
    /// The status.
    pub status: u16,
    /// Its `Content-Type`.
    pub content_type: Option<String>,
    /// The body, which may hold a secret that is shown once.
    pub body: Vec<u8>,
}

impl std::fmt::Debug for KeptAnswer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeptAnswer").field("status", &self.status).finish_non_exhaustive()
    }
}

fn place(owner: Uuid, name: &str) -> String {
    format!("idempotent_requests.sealed_body/{owner}/{name}")
}

struct Row {
    fingerprint: Vec<u8>,
    attempt: Uuid,
    status: Option<u16>,
    content_type: Option<String>,
    sealed: Option<Vec<u8>>,
}

fn row(r: &mut Record) -> Result<Row, BadCell> {
    Ok(Row {
        fingerprint: r.bytes()?,
        attempt: r.id(|id| id)?,
        status: r.maybe_number()?,
        content_type: r.maybe_text()?,
        sealed: r.maybe_bytes()?,
    })
}

impl Store {
    /// Begins a request under a name of its owner's, unless there was one. Of any number at once, one is the first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn idempotency_begin(&self, owner: Uuid, name: &str, fingerprint: [u8; 32], now: Timestamp) -> Result<Begun, StoreError> {
        let attempt = Uuid::new_v4();
        let ago = |span: SignedDuration| now.checked_sub(span).unwrap_or(Timestamp::UNIX_EPOCH);
        let begin = params![owner = owner, name = name, fingerprint = fingerprint, attempt = attempt, now = now, lost = ago(LOST)];
        let statements = vec![
            Statement::any(&IDEMPOTENCY_PURGE, params![over = ago(KEEP)]),
            Statement::any(&IDEMPOTENCY_BEGIN, begin),
            Statement::any(&IDEMPOTENCY_FIND, params![owner = owner, name = name]),
        ];
        let found = self.write(statements).await?.into_iter().nth(2);
        let Some(found) = first(&IDEMPOTENCY_FIND, found, row)? else { return Err(StoreError::Stale) };
        if found.attempt == attempt {
            return Ok(Begun::First(attempt));
        }
        if found.fingerprint != fingerprint {
            return Ok(Begun::Other);
        }
        let (Some(status), Some(sealed)) = (found.status, found.sealed) else { return Ok(Begun::Running) };
        let body = std::mem::take(&mut *self.inner.vault.unseal(&place(owner, name), &sealed)?);
        Ok(Begun::Answered(KeptAnswer { status, content_type: found.content_type, body }))
    }

    /// Keeps the answer of the request that began with this mark.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn idempotency_finish(&self, owner: Uuid, name: &str, attempt: Uuid, answer: &KeptAnswer) -> Result<(), StoreError> {
        let sealed = self.inner.vault.seal(&place(owner, name), &answer.body)?;
        let params = params![
            owner = owner,
            name = name,
            attempt = attempt,
            status = answer.status,
            content_type = answer.content_type.as_ref(),
            sealed_body = sealed
        ];
        self.write_one(&IDEMPOTENCY_FINISH, params).await.map(|_| ())
    }

    /// Forgets a request that was not executed.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn idempotency_abandon(&self, owner: Uuid, name: &str, attempt: Uuid) -> Result<(), StoreError> {
        self.write_one(&IDEMPOTENCY_ABANDON, params![owner = owner, name = name, attempt = attempt]).await.map(|_| ())
    }
}
