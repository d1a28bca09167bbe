//! Requests that may be sent again: the first answer is kept for at least a day and given again.

use domain::{Code, Timestamp};
use store::{Begun, KeptAnswer};
use uuid::Uuid;

use crate::{Error, Ops, Principal};

/// The longest key.
pub const MAX_KEY: usize = 255;

/// A request that is to be executed, and whose answer is to be kept.
#[derive(Clone, Debug)]
pub struct Attempt {
    owner: Uuid,
    name: String,
    mark: Uuid,
}

/// What is to be done with a request.
#[derive(Debug)]
pub enum Repeat {
    /// It is the first of its name.
    First(Attempt),
    /// It was answered before.
    Again(KeptAnswer),
}

/// Whose names these are: a person's by whatever key, else the account's or the environment's that a key belongs to.
fn owner(principal: &Principal) -> Option<Uuid> {
    match principal {
        Principal::Anonymous | Principal::System(_) => None,
        Principal::User(person) => Some(person.user.id.0),
        Principal::Key(key) => Some(key.key.project.map_or(key.workspace.id.0, |(_, environment)| environment.0)),
    }
}

/// Begins a request under a name that its client has chosen. `None` for nobody in particular, whose request takes its course.
///
/// # Errors
/// A name that is empty, too long or not of visible ASCII; another request under the same name; conflict while the first one is at work.
pub async fn begin(ops: &Ops, principal: &Principal, name: &str, fingerprint: [u8; 32], now: Timestamp) -> Result<Option<Repeat>, Error> {
    let Some(owner) = owner(principal) else { return Ok(None) };
    if name.is_empty() || name.len() > MAX_KEY || !name.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
        return Err(Error::bad_input(format!(
            "The header `Idempotency-Key` takes 1 to {MAX_KEY} visible ASCII characters, such as a UUID"
        )));
    }
    match ops.store.idempotency_begin(owner, name, fingerprint, now).await? {
        Begun::First(mark) => Ok(Some(Repeat::First(Attempt { owner, name: name.to_owned(), mark }))),
        Begun::Answered(answer) => Ok(Some(Repeat::Again(answer))),
        Begun::Running => {
            Err(Error::new(Code::Conflict, "The first request with this `Idempotency-Key` is still at work: repeat it in a moment"))
        }
        Begun::Other => Err(Error::bad_input(
            "This `Idempotency-Key` was sent before with another request: send the same request again, or choose a new key",
        )),
    }
}

/// Keeps the answer of a request that was executed; forgets one that was not, so that it can be sent again.
///
/// # Errors
/// The database does not answer.
pub async fn finish(ops: &Ops, attempt: &Attempt, answer: Option<&KeptAnswer>) -> Result<(), Error> {
    let Attempt { owner, name, mark } = attempt;
    match answer {
        Some(answer) => ops.store.idempotency_finish(*owner, name, *mark, answer).await?,
        None => ops.store.idempotency_abandon(*owner, name, *mark).await?,
    }
    Ok(())
}
