//! What is remembered of keys between requests.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::Timestamp;
use domain::key::ApiKey;

use super::NOTE_USE;
use crate::context::Principal;

/// Keys that are remembered at the most.
const MAX_KNOWN: usize = 10_000;

/// Who presented which key. An entry counts while the store's version is the one it was read at, so that a revocation, a changed role or
/// a deleted account holds from the next request on, whichever process made it.
#[derive(Default)]
pub struct Principals(Mutex<HashMap<[u8; 32], Known>>);

struct Known {
    version: u64,
    principal: Principal,
    /// The key's end, or when its last use has to be noted again.
    until: Timestamp,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Principals {
    pub(super) fn find(&self, slot: &[u8; 32], version: u64, now: Timestamp) -> Option<Principal> {
        let known = lock(&self.0);
        known.get(slot).filter(|entry| entry.version == version && now < entry.until).map(|entry| entry.principal.clone())
    }

    pub(super) fn remember(&self, slot: [u8; 32], version: u64, principal: &Principal, key: &ApiKey, now: Timestamp) {
        let noted = key.last_used_at.unwrap_or(now) + jiff::SignedDuration::from_secs(NOTE_USE);
        let until = key.expires_at.map_or(noted, |end| end.min(noted));
        let mut known = lock(&self.0);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(slot, Known { version, principal: principal.clone(), until });
    }
}
