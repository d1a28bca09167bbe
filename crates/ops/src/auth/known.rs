//! What is remembered of keys between requests.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::key::ApiKey;
use domain::{ApiKeyId, Timestamp};

use super::{NOTE_USE, leaves_traces, place_of};
use crate::context::Principal;
use crate::drawn::Drawn;

/// Keys that are remembered at the most.
const MAX_KNOWN: usize = 10_000;
/// Pairs of key and address that are remembered at the most; the store knows them all.
const MAX_SEEN: usize = 50_000;
/// A key that no longer works is written down at most so often, in seconds.
const NOTE_REFUSAL: i64 = 3_600;

/// Who presented which key, and from where. A principal counts while the store's version is the one it was read at, so that a revocation, a
/// changed role or a deleted account holds from the next request on, whichever process made it.
#[derive(Default)]
pub struct Principals {
    known: Mutex<HashMap<[u8; 32], Known, Drawn>>,
    seen: Mutex<HashSet<(ApiKeyId, u64)>>,
    /// When a refusal of a key was written down last, and how many there were since.
    refused: Mutex<HashMap<ApiKeyId, (Timestamp, u64)>>,
    hasher: RandomState,
}

struct Known {
    version: u64,
    principal: Principal,
    /// The key, when its addresses are of interest.
    key: Option<ApiKeyId>,
    /// From where it was used when it was remembered; the store knows of it.
    address: Option<Box<str>>,
    /// The key's end, or when its last use has to be noted again.
    until: Timestamp,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Principals {
    /// The principal of a key that was used from this address before.
    pub(super) fn find(&self, slot: &[u8; 32], version: u64, now: Timestamp, address: Option<&str>) -> Option<Principal> {
        let (principal, elsewhere) = {
            let known = lock(&self.known);
            let entry = known.get(slot).filter(|entry| entry.version == version && now < entry.until)?;
            // Mostly it comes from where it came from before, which a look at the text tells.
            let elsewhere = entry.key.zip(address).filter(|(_, address)| entry.address.as_deref() != Some(*address));
            (entry.principal.clone(), elsewhere)
        };
        elsewhere.is_none_or(|(key, address)| self.has_seen(key, &place_of(address))).then_some(principal)
    }

    /// Remembers who presented a key, and from where, of which the store knows.
    pub(super) fn remember(
        &self,
        slot: [u8; 32],
        version: u64,
        principal: &Principal,
        key: &ApiKey,
        now: Timestamp,
        address: Option<&str>,
    ) {
        let noted = key.last_used_at.unwrap_or(now) + jiff::SignedDuration::from_secs(NOTE_USE);
        let until = key.expires_at.map_or(noted, |end| end.min(noted));
        let mut known = lock(&self.known);
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        let (principal, key) = (principal.clone(), leaves_traces(key.kind).then_some(key.id));
        known.insert(slot, Known { version, principal, key, address: address.map(Box::from), until });
    }

    /// Whether this process has seen the key used from this address.
    pub(super) fn has_seen(&self, key: ApiKeyId, address: &str) -> bool {
        lock(&self.seen).contains(&(key, self.hasher.hash_one(address)))
    }

    /// The key was used from this address, and the store knows.
    pub(super) fn saw(&self, key: ApiKeyId, address: &str) {
        let mut seen = lock(&self.seen);
        if seen.len() >= MAX_SEEN {
            seen.clear();
        }
        seen.insert((key, self.hasher.hash_one(address)));
    }

    /// Whether a refusal of the key is to be written down, for as many of them: the first one in a while is, for those since the last.
    /// Somebody who has a dead key must not fill the log with it.
    pub(super) fn notes_refusal(&self, key: ApiKeyId, now: Timestamp) -> Option<u64> {
        let mut refused = lock(&self.refused);
        let mut times = 1;
        if let Some((at, more)) = refused.get_mut(&key) {
            *more += 1;
            if now.duration_since(*at).as_secs() < NOTE_REFUSAL {
                return None;
            }
            times = *more;
        } else if refused.len() >= MAX_KNOWN {
            refused.clear();
        }
        refused.insert(key, (now, 0));
        Some(times)
    }
}
