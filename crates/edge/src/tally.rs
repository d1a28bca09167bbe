//! What was asked and answered, by replica and status, in intervals of five seconds, until the collector has taken it.
//!
//! The collector says up to which interval it has stored everything, and gets the later ones that are over. Whatever it does in between,
//! each interval is handed over until it is stored. When nobody collects, the oldest intervals go.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use domain::Timestamp;
use domain::metric::{INTERVAL, MetricSource, Traffic, TrafficEntry, TrafficSlot};

use crate::access::Record;

/// Intervals that are kept: an hour.
const KEPT: usize = 720;
/// Sources and statuses of one interval that are told apart; the rest counts for the services as a whole.
const WIDEST: usize = 20_000;
/// Statuses of one service in an interval that are told apart, since an app may answer with any; further ones count as the first of their
/// hundred.
const STATUSES: usize = 64;
/// Entries that are handed over at once, save for those of one interval.
const HANDED: usize = 4_000;

/// The status of what is no answer: bytes of a TCP port.
const CARRIED: u16 = 0;

/// What was answered in an interval.
#[derive(Clone, Debug, Default)]
struct Slot {
    counts: HashMap<(MetricSource, u16), Traffic>,
    /// The statuses of each service.
    statuses: HashMap<MetricSource, BTreeSet<u16>>,
}

impl Slot {
    fn count(&mut self, source: MetricSource, status: u16, micros: u64, rx: u64, tx: u64) {
        let key = self.key(source, status);
        self.counts.entry(key).or_default().count(micros, rx, tx);
    }

    /// As what an answer counts.
    fn key(&mut self, source: MetricSource, status: u16) -> (MetricSource, u16) {
        if self.counts.contains_key(&(source, status)) {
            return (source, status);
        }
        let known = self.statuses.entry(source.instance()).or_default();
        let status = if known.len() < STATUSES || known.contains(&status) { status } else { status / 100 * 100 };
        known.insert(status);
        let is_known = self.counts.len() < WIDEST || self.counts.contains_key(&(source, status));
        (if is_known { source } else { source.instance() }, status)
    }
}

/// Counts for all threads. Intervals that are over are shared with whoever takes them, so that nobody waits while they are copied.
#[derive(Default)]
pub(crate) struct Tally(Mutex<BTreeMap<i64, Arc<Slot>>>);

impl Tally {
    /// Counts requests that are over, in the interval of `now`.
    pub(crate) fn count(&self, batch: &[Record], now: Timestamp) {
        let at = begin_of(now);
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = Arc::make_mut(slots.entry(at).or_default());
        for record in batch {
            let micros = u64::try_from(record.total.as_micros()).unwrap_or(u64::MAX);
            slot.count(record.source(), record.status, micros, record.rx_bytes, record.tx_bytes);
        }
        while slots.len() > KEPT {
            slots.pop_first();
        }
    }

    /// Counts bytes that belong to no request, under a status that no answer has.
    pub(crate) fn carried(&self, source: MetricSource, rx_bytes: u64, tx_bytes: u64, now: Timestamp) {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let slot = Arc::make_mut(slots.entry(begin_of(now)).or_default());
        let key = slot.key(source, CARRIED);
        let traffic = slot.counts.entry(key).or_default();
        traffic.rx_bytes += rx_bytes;
        traffic.tx_bytes += tx_bytes;
        while slots.len() > KEPT {
            slots.pop_first();
        }
    }

    /// The intervals behind `after` that are over, oldest first, and whether there are more. Those up to `after` are forgotten.
    pub(crate) fn take(&self, after: i64, now: Timestamp) -> (Vec<TrafficSlot>, bool) {
        let (over, more) = self.over(after, begin_of(now));
        let entry = |((source, status), traffic): (&(MetricSource, u16), &Traffic)| TrafficEntry {
            source: *source,
            status: *status,
            traffic: traffic.clone(),
        };
        let slots = over.into_iter().map(|(at, slot)| TrafficSlot { at, entries: slot.counts.iter().map(entry).collect() });
        (slots.collect(), more)
    }

    fn over(&self, after: i64, present: i64) -> (Vec<(i64, Arc<Slot>)>, bool) {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that was set back must not make the collector's word wipe out what it has not seen.
        if after < present {
            *slots = slots.split_off(&(after + 1));
        }
        let mut over: Vec<(i64, Arc<Slot>)> = vec![];
        let mut entries = 0;
        for (at, slot) in slots.range(..present) {
            entries += slot.counts.len();
            if entries > HANDED && !over.is_empty() {
                return (over, true);
            }
            over.push((*at, Arc::clone(slot)));
        }
        (over, false)
    }
}

fn begin_of(now: Timestamp) -> i64 {
    now.as_second().div_euclid(INTERVAL) * INTERVAL
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::{DeploymentId, EnvironmentId, ProjectId, ReplicaId, ServiceId, WorkspaceId};

    fn service() -> MetricSource {
        MetricSource {
            workspace_id: WorkspaceId::generate(),
            project_id: ProjectId::generate(),
            environment_id: EnvironmentId::generate(),
            service_id: ServiceId::generate(),
            replica: None,
        }
    }

    #[test]
    fn an_app_that_answers_with_every_status_takes_no_more_room_than_others() {
        let (wild, other) = (service(), service());
        let replica = MetricSource { replica: Some((DeploymentId::generate(), ReplicaId::generate())), ..wild };
        let mut slot = Slot::default();
        for _ in 0..2 {
            for status in 100..1_000 {
                slot.count(replica, status, 1, 2, 3);
                slot.count(wild, status, 1, 2, 3);
            }
        }
        slot.count(other, 418, 1, 2, 3);
        let classes = 10;
        assert!(slot.counts.len() <= 2 * (STATUSES + classes) + 1, "{}", slot.counts.len());
        assert_eq!(slot.counts.values().map(|traffic| traffic.requests).sum::<u64>(), 4 * 900 + 1, "each is counted");
        assert!(slot.counts[&(replica, 900)].requests >= 2 * 99, "by its hundred");
        assert_eq!(slot.counts[&(other, 418)].requests, 1);
    }
}
