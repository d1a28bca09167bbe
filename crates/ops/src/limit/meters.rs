//! The counts in memory.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::Timestamp;
use domain::rate::{Budget, Day, Kept, Meter, State, Subject};
use store::UsageAdd;

use super::Counted;
use crate::drawn::Drawn;

/// So many locks: two requests seldom want the same one.
const SHARDS: usize = 64;
/// Seconds without a request after which a subject is forgotten. The store knows what lasts.
const IDLE: i64 = 120;

pub(super) struct Meters {
    shards: [Mutex<Shard>; SHARDS],
    hasher: Drawn,
    /// The shard that is looked through next for idle subjects.
    next: AtomicU32,
    day: AtomicU32,
}

#[derive(Default)]
struct Shard {
    entries: HashMap<Subject, Entry, Drawn>,
    /// Subjects with something to write.
    changed: Vec<Subject>,
    /// What was counted on a day that has ended since.
    ended: Vec<UsageAdd>,
}

/// With its key and its share of the table 73 to 146 bytes of memory.
#[derive(Clone, Copy, Default)]
struct Entry {
    meter: Meter,
    budget: Budget,
    /// Let through, and refused, and not written yet.
    allowed: u32,
    refused: u32,
}

impl Default for Meters {
    fn default() -> Self {
        let shards = std::array::from_fn(|_| Mutex::default());
        Self { shards, hasher: Drawn::default(), next: AtomicU32::new(0), day: AtomicU32::new(0) }
    }
}

fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    // Counts are numbers; a panic leaves none of them half changed.
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Meters {
    fn shard(&self, subject: Subject) -> MutexGuard<'_, Shard> {
        // Bits that do not choose the place within a shard.
        let place = (self.hasher.hash_one(subject) >> 40) % SHARDS as u64;
        lock(&self.shards[usize::try_from(place).unwrap_or_default()])
    }

    /// Begins with what was kept, unless another request of the subject was faster.
    pub(super) fn begin(&self, subject: Subject, kept: &Kept, now: Timestamp) {
        let entry = || Entry { meter: Meter::resume(kept, now), ..Entry::default() };
        self.shard(subject).entries.entry(subject).or_insert_with(entry);
    }

    /// Decides here. `None` when the subject is not known yet.
    pub(super) fn take(&self, counted: &Counted, now: Timestamp) -> Option<State> {
        self.shard(counted.subject).change(counted, now, |meter| meter.take(&counted.limits, now))
    }

    /// Counts what was decided elsewhere.
    pub(super) fn note(&self, counted: &Counted, state: &State, now: Timestamp) {
        self.shard(counted.subject).change(counted, now, |meter| {
            if !state.refused {
                meter.count(now);
            }
            *state
        });
    }

    /// Works on what the subject's operations cost. `None` when the subject is not known.
    pub(super) fn budget<T>(&self, subject: Subject, change: impl FnOnce(&mut Budget) -> T) -> Option<T> {
        self.shard(subject).entries.get_mut(&subject).map(|entry| change(&mut entry.budget))
    }

    /// The present counts. `None` when the subject is not known yet.
    pub(super) fn used(&self, subject: Subject, now: Timestamp) -> Option<[u32; 4]> {
        self.shard(subject).entries.get(&subject).map(|entry| entry.meter.used(now))
    }

    /// Everything that is to be written; from here on it counts as written.
    pub(super) fn news(&self) -> Vec<UsageAdd> {
        let mut news = vec![];
        for shard in &self.shards {
            let mut shard = lock(shard);
            news.append(&mut shard.ended);
            for subject in std::mem::take(&mut shard.changed) {
                if let Some(entry) = shard.entries.get_mut(&subject) {
                    news.push(entry.written(subject));
                }
            }
        }
        // Control planes that write the same rows in the same order do not wait for each other in a circle.
        news.sort_unstable_by_key(|add| (add.subject, add.allowed.day));
        news
    }

    /// What could not be written is to be written with the next news.
    pub(super) fn give_back(&self, adds: &[UsageAdd]) {
        for add in adds {
            self.shard(add.subject).ended.push(*add);
        }
    }

    /// Takes over what all control planes together have counted.
    pub(super) fn learn(&self, subject: Subject, total: &Kept) {
        if let Some(entry) = self.shard(subject).entries.get_mut(&subject) {
            let more = entry.allowed;
            let total = Kept {
                in_day: total.in_day.saturating_add(more),
                in_hour: total.in_hour.saturating_add(more),
                in_minute: total.in_minute.saturating_add(more),
                ..*total
            };
            entry.meter.learn(&total);
        }
    }

    /// Looks through one shard, so that each has its turn about once a minute.
    pub(super) fn forget_idle(&self, now: Timestamp) {
        let next = self.next.fetch_add(1, Ordering::Relaxed) as usize % SHARDS;
        let mut shard = lock(&self.shards[next]);
        let since = now.as_second() - IDLE;
        shard.entries.retain(|_, entry| entry.allowed + entry.refused > 0 || i64::from(entry.meter.last()) > since);
        if shard.entries.len() < shard.entries.capacity() / 4 {
            shard.entries.shrink_to_fit();
        }
    }

    pub(super) fn len(&self) -> usize {
        self.shards.iter().map(|shard| lock(shard).entries.len()).sum()
    }

    /// Whether this is the first time on this day.
    pub(super) fn is_new_day(&self, now: Timestamp) -> bool {
        let today = Day::of(now).0;
        self.day.swap(today, Ordering::Relaxed) != today
    }
}

impl Shard {
    /// Counts with `decide`, and notes that there is something to write.
    fn change(&mut self, counted: &Counted, now: Timestamp, decide: impl FnOnce(&mut Meter) -> State) -> Option<State> {
        let entry = self.entries.get_mut(&counted.subject)?;
        let waiting = entry.allowed + entry.refused > 0;
        // What was counted yesterday belongs there.
        let yesterday = (waiting && entry.meter.day() < Day::of(now)).then(|| entry.written(counted.subject));
        let state = decide(&mut entry.meter);
        if counted.lasting {
            let count = if state.refused { &mut entry.refused } else { &mut entry.allowed };
            *count = count.saturating_add(1);
            if !waiting {
                self.changed.push(counted.subject);
            }
        }
        self.ended.extend(yesterday);
        Some(state)
    }
}

impl Entry {
    /// What is to be added to the store's counts. Of what was let through since the last time, no more than the present count of a window
    /// can have been let through in it.
    fn written(&mut self, subject: Subject) -> UsageAdd {
        let kept = self.meter.kept();
        let (allowed, refused) = (std::mem::take(&mut self.allowed), std::mem::take(&mut self.refused));
        let allowed = Kept { in_day: allowed, in_hour: allowed.min(kept.in_hour), in_minute: allowed.min(kept.in_minute), ..kept };
        UsageAdd { subject, allowed, refused }
    }
}
