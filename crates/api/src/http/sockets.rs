//! How many websockets a credential has open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use domain::{Code, UserId};
use ops::{Error, Principal, Via};
use uuid::Uuid;

/// Websockets of one credential at a time. The dashboard has one for a tab, `railway up` three.
const MOST: u32 = 64;

/// Who has how many.
#[derive(Default)]
pub(crate) struct Sockets(Mutex<HashMap<Holder, u32>>);

/// What sockets are counted for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Holder {
    /// A session or a key.
    Credential(Uuid),
    /// A person who is here by neither.
    Person(UserId),
}

impl Holder {
    fn of(principal: &Principal) -> Option<Self> {
        match principal {
            Principal::User(person) => Some(match person.via {
                Via::Session(id) => Self::Credential(id.0),
                Via::Key(id, _) => Self::Credential(id.0),
                Via::Absent | Via::Server => Self::Person(person.user.id),
            }),
            Principal::Key(key) => Some(Self::Credential(key.key.id.0)),
            Principal::Anonymous | Principal::System(_) => None,
        }
    }
}

/// One socket, given back when it is dropped.
pub(super) struct Socket {
    all: Arc<Sockets>,
    holder: Option<Holder>,
}

impl Sockets {
    /// Counts a socket.
    ///
    /// # Errors
    /// There are as many as a credential may have.
    pub(super) fn open(self: &Arc<Self>, principal: &Principal) -> Result<Socket, Error> {
        let holder = Holder::of(principal);
        if let Some(holder) = holder {
            let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            let count = held.entry(holder).or_default();
            if *count >= MOST {
                let text = format!("{MOST} websockets are open with this credential, which is the most: close one of them, or use another");
                return Err(Error::new(Code::RateLimited, text));
            }
            *count += 1;
        }
        Ok(Socket { all: Arc::clone(self), holder })
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let Some(holder) = self.holder else { return };
        let mut held = self.all.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = held.get_mut(&holder) {
            *count -= 1;
            if *count == 0 {
                held.remove(&holder);
            }
        }
    }
}
