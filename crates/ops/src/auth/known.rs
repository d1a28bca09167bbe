//! What is remembered of keys between requests.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::activity::Activity;
use domain::key::ApiKey;
use domain::{ApiKeyId, Tenant, Timestamp};

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
    refused: Mutex<HashMap<ApiKeyId, Refused>>,
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

/// An entry of the audit log, and whose.
type Entry = (Tenant, Activity);

/// The refusals of a key that no longer works.
struct Refused {
    /// When one was written down last.
    noted: Timestamp,
    /// How many there were since.
    more: u64,
    /// The last of these.
    last: Option<Entry>,
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

    /// Counts a refusal of the key. Returns the entry for it and for those that were only counted: the first one at once, and then one in a
    /// while. Somebody who has a dead key must not fill the log with it.
    pub(super) fn notes_refusal(&self, key: ApiKeyId, entry: Entry, now: Timestamp) -> Option<Entry> {
        let mut refused = lock(&self.refused);
        if refused.len() >= MAX_KNOWN && !refused.contains_key(&key) {
            refused.retain(|_, known| known.more > 0);
            if refused.len() >= MAX_KNOWN {
                refused.clear();
            }
        }
        let known = refused.entry(key).or_insert(Refused { noted: Timestamp::MIN, more: 0, last: None });
        known.more += 1;
        known.last = Some(entry);
        if known.is_due(now) { known.take(now) } else { None }
    }

    /// The entries for refusals that were only counted: where their time has come, or all of them.
    pub(super) fn pending_refusals(&self, all: bool, now: Timestamp) -> Vec<Entry> {
        let mut refused = lock(&self.refused);
        refused.values_mut().filter(|known| all || known.is_due(now)).filter_map(|known| known.take(now)).collect()
    }
}

impl Refused {
    fn is_due(&self, now: Timestamp) -> bool {
        now.duration_since(self.noted).as_secs() >= NOTE_REFUSAL
    }

    fn take(&mut self, now: Timestamp) -> Option<Entry> {
        let (tenant, mut entry) = self.last.take()?;
        entry.data["times"] = self.more.into();
        (self.noted, self.more) = (now, 0);
        Some((tenant, entry))
    }
}
