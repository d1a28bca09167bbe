//! What was asked and answered, by replica and status, in intervals of five seconds, until the collector has taken it.
//!
//! The collector says up to which interval it has stored everything, and gets the later ones that are over. Whatever it does in between,
//! each interval is handed over until it is stored. When nobody collects, the oldest intervals go.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use domain::Timestamp;
use domain::metric::{INTERVAL, MetricSource, Traffic, TrafficEntry, TrafficSlot};

use crate::access::Record;

/// Intervals that are kept: an hour.
const KEPT: usize = 720;
/// Sources and statuses of one interval that are told apart; the rest counts for the services as a whole.
const WIDEST: usize = 20_000;
/// Entries that are handed over at once, save for those of one interval.
const HANDED: usize = 4_000;

type Slot = HashMap<(MetricSource, u16), Traffic>;

/// Counts for all threads.
#[derive(Default)]
pub(crate) struct Tally(Mutex<BTreeMap<i64, Slot>>);

impl Tally {
    /// Counts requests that are over, in the interval of `now`.
    pub(crate) fn count(&self, batch: &[Record], now: Timestamp) {
        let at = begin_of(now);
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = slots.entry(at).or_default();
        for record in batch {
            let source = record.source();
            let is_known = slot.len() < WIDEST || slot.contains_key(&(source, record.status));
            let key = if is_known { (source, record.status) } else { (source.instance(), record.status) };
            let micros = u64::try_from(record.total.as_micros()).unwrap_or(u64::MAX);
            slot.entry(key).or_default().count(micros, record.rx_bytes, record.tx_bytes);
        }
        while slots.len() > KEPT {
            slots.pop_first();
        }
    }

    /// The intervals behind `after` that are over, oldest first, and whether there are more. Those up to `after` are forgotten.
    pub(crate) fn take(&self, after: i64, now: Timestamp) -> (Vec<TrafficSlot>, bool) {
        let present = begin_of(now);
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back must not make the collector's word wipe out what it has not seen.
        if after < present {
            *slots = slots.split_off(&(after + 1));
        }
        let mut taken: Vec<TrafficSlot> = vec![];
        let mut entries = 0;
        for (at, slot) in slots.range(..present) {
            entries += slot.len();
            if entries > HANDED && !taken.is_empty() {
                return (taken, true);
            }
            let entry = |((source, status), traffic): (&(MetricSource, u16), &Traffic)| TrafficEntry {
                source: *source,
                status: *status,
                traffic: traffic.clone(),
            };
            taken.push(TrafficSlot { at: *at, entries: slot.iter().map(entry).collect() });
        }
        (taken, false)
    }
}

fn begin_of(now: Timestamp) -> i64 {
    now.as_second().div_euclid(INTERVAL) * INTERVAL
}
