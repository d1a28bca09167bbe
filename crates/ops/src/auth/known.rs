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
/// An entry counts the refusals of a key that no longer works for so long, in seconds.
const NOTE_REFUSAL: i64 = 3_600;
/// Where it says how many those were.
const TIMES: &str = "times";

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

/// The refusals of a key that no longer works, and the entry that counts them.
struct Refused {
    tenant: Tenant,
    entry: Activity,
    /// How many there were, and how many of them the store knows of.
    times: u64,
    written: u64,
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

    /// Counts a refusal of the key. Returns an entry for the first one, and for the first one in a while: somebody who has a dead key must not
    /// fill the log with it. Those that follow are counted in that entry.
    pub(super) fn notes_refusal(&self, key: ApiKeyId, (tenant, entry): Entry, now: Timestamp) -> Option<Entry> {
        let mut refused = lock(&self.refused);
        if let Some(known) = refused.get_mut(&key).filter(|known| !known.is_over(now)) {
            known.times += 1;
            return None;
        }
        if refused.len() >= MAX_KNOWN && !refused.contains_key(&key) {
            refused.retain(|_, known| known.written < known.times);
            if refused.len() >= MAX_KNOWN {
                refused.clear();
            }
        }
        let known = Refused { tenant, entry, times: 1, written: 0 };
        let told = (tenant, known.told());
        refused.insert(key, known);
        Some(told)
    }

    /// The entries that have counted what the store does not know yet. What is over is forgotten.
    pub(super) fn pending_refusals(&self, now: Timestamp) -> Vec<(ApiKeyId, Entry)> {
        let mut refused = lock(&self.refused);
        refused.retain(|_, known| !known.is_over(now));
        let news = refused.iter().filter(|(_, known)| known.written < known.times);
        news.map(|(key, known)| (*key, (known.tenant, known.told()))).collect()
    }

    /// The store knows the entry as it is here.
    pub(super) fn wrote_refusals(&self, key: ApiKeyId, entry: &Activity) {
        let times = entry.data[TIMES].as_u64().unwrap_or_default();
        if let Some(known) = lock(&self.refused).get_mut(&key).filter(|known| known.entry.id == entry.id) {
            known.written = known.written.max(times);
        }
    }
}

impl Refused {
    /// Another entry counts what comes now. What is not written down yet is kept until it is.
    fn is_over(&self, now: Timestamp) -> bool {
        self.written == self.times && now.duration_since(self.entry.created_at).as_secs() >= NOTE_REFUSAL
    }

    /// The entry with its count.
    fn told(&self) -> Activity {
        let mut entry = self.entry.clone();
        entry.data[TIMES] = self.times.into();
        entry
    }
}
