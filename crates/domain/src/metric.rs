//! What is measured of running apps: usage by the driver, traffic by the edge.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{DeploymentId, EnvironmentId, ProjectId, ReplicaId, ServiceId, WorkspaceId};

/// The seconds between two measurements, and the length of the intervals that they stand for.
pub const INTERVAL: i64 = 5;

/// Whose measurements: a replica's, or, without deployment and replica, those of a service in an environment with all its replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MetricSource {
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// The project.
    pub project_id: ProjectId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// The service.
    pub service_id: ServiceId,
    /// The deployment and the replica; none for all of the service, and for requests that reached no replica.
    pub replica: Option<(DeploymentId, ReplicaId)>,
}

impl MetricSource {
    /// The service as a whole.
    #[must_use]
    pub fn instance(self) -> Self {
        Self { replica: None, ..self }
    }
}

/// What a replica uses, averaged over an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Cores.
    pub cpu: f64,
    /// Cores that it may use.
    pub cpu_limit: f64,
    /// Bytes of memory.
    pub memory: f64,
    /// Bytes of memory that it may use.
    pub memory_limit: f64,
    /// Bytes in its volumes.
    pub disk: f64,
    /// Bytes in its own, passing file system.
    pub ephemeral_disk: f64,
    /// Bytes of the backups of its volumes.
    pub backups: f64,
    /// Requests and websockets that are open through the edge.
    pub connections: f64,
}

impl Usage {
    /// Adds up, field by field.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu + other.cpu,
            cpu_limit: self.cpu_limit + other.cpu_limit,
            memory: self.memory + other.memory,
            memory_limit: self.memory_limit + other.memory_limit,
            disk: self.disk + other.disk,
            ephemeral_disk: self.ephemeral_disk + other.ephemeral_disk,
            backups: self.backups + other.backups,
            connections: self.connections + other.connections,
        }
    }

    /// Multiplies every field.
    #[must_use]
    pub fn times(self, factor: f64) -> Self {
        Self {
            cpu: self.cpu * factor,
            cpu_limit: self.cpu_limit * factor,
            memory: self.memory * factor,
            memory_limit: self.memory_limit * factor,
            disk: self.disk * factor,
            ephemeral_disk: self.ephemeral_disk * factor,
            backups: self.backups * factor,
            connections: self.connections * factor,
        }
    }
}

/// Requests that were answered with one status. Persisted, and sent from the edge to its collector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// How many.
    pub requests: u64,
    /// Bytes of the requests' bodies.
    pub rx_bytes: u64,
    /// Bytes of the answers' bodies.
    pub tx_bytes: u64,
    /// How long they took.
    pub durations: Histogram,
}

impl Traffic {
    /// Counts one request that took so many microseconds.
    pub fn count(&mut self, micros: u64, rx_bytes: u64, tx_bytes: u64) {
        self.requests += 1;
        self.rx_bytes += rx_bytes;
        self.tx_bytes += tx_bytes;
        self.durations.add(micros, 1);
    }

    /// Adds other requests.
    pub fn merge(&mut self, other: &Self) {
        self.requests += other.requests;
        self.rx_bytes += other.rx_bytes;
        self.tx_bytes += other.tx_bytes;
        self.durations.merge(&other.durations);
    }
}

/// The traffic of an interval, as the edge hands it to its collector.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficSlot {
    /// When the interval began, in seconds since the epoch: a multiple of [`INTERVAL`].
    pub at: i64,
    /// Who was asked, and what the answers were.
    pub entries: Vec<TrafficEntry>,
}

/// The requests of one replica, or of one service that had no replica for them, with one status.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TrafficEntry {
    /// Whose.
    pub source: MetricSource,
    /// The status of the answers.
    pub status: u16,
    /// How many, how large, how long.
    pub traffic: Traffic,
}

/// Durations in buckets that are an eighth of their power of two wide, so that a quantile is off by 6 % at most.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Histogram(BTreeMap<u16, u64>);

/// Buckets per power of two, as a power of two.
const FINENESS: u32 = 3;

impl Histogram {
    /// Counts a duration in microseconds.
    pub fn add(&mut self, micros: u64, count: u64) {
        *self.0.entry(bucket_of(micros)).or_default() += count;
    }

    /// Adds another's counts.
    pub fn merge(&mut self, other: &Self) {
        for (bucket, count) in &other.0 {
            *self.0.entry(*bucket).or_default() += count;
        }
    }

    /// How many durations were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.values().sum()
    }

    /// The duration in microseconds that the share `q` (0 to 1) of all durations does not exceed; `None` when there are none.
    #[must_use]
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let total = self.count();
        // Counts are far below the 2^53 from which on this would be inexact.
        #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let wanted = ((q * total as f64).ceil() as u64).clamp(1, total.max(1));
        let mut seen = 0;
        for (bucket, count) in &self.0 {
            seen += count;
            if seen >= wanted {
                return Some(middle_of(*bucket));
            }
        }
        None
    }

    /// Bucket and count, in order: how it is stored.
    pub fn parts(&self) -> impl Iterator<Item = (u16, u64)> {
        self.0.iter().map(|(bucket, count)| (*bucket, *count))
    }
}

impl FromIterator<(u16, u64)> for Histogram {
    fn from_iter<I: IntoIterator<Item = (u16, u64)>>(parts: I) -> Self {
        Self(parts.into_iter().collect())
    }
}

fn bucket_of(micros: u64) -> u16 {
    let narrow = 1 << FINENESS;
    if micros < narrow {
        // Below eight every number has its own bucket.
        return u16::try_from(micros).unwrap_or(0);
    }
    let power = micros.ilog2();
    let step = (micros >> (power - FINENESS)) - narrow;
    u16::try_from((u64::from(power - FINENESS) + 1) * narrow + step).unwrap_or(u16::MAX)
}

fn middle_of(bucket: u16) -> f64 {
    let narrow = 1_u32 << FINENESS;
    let (power, step) = (u32::from(bucket) / narrow, u32::from(bucket) % narrow);
    if power == 0 {
        return f64::from(step);
    }
    let width = f64::from(2_u32).powi(i32::try_from(power - 1).unwrap_or(0));
    (f64::from(narrow + step) + 0.5) * width
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_near_the_truth() {
        let mut histogram = Histogram::default();
        for micros in 1..=100_000 {
            histogram.add(micros, 1);
        }
        for (q, truth) in [(0.5, 50_000.0), (0.9, 90_000.0), (0.99, 99_000.0), (1.0, 100_000.0)] {
            let found = histogram.quantile(q).unwrap();
            assert!((found - truth).abs() <= truth * 0.0625, "{q}: {found}");
        }
        assert_eq!(Histogram::default().quantile(0.5), None);
        let mut one = Histogram::default();
        one.add(3, 1);
        assert_eq!(one.quantile(0.5), Some(3.0));
    }

    #[test]
    fn buckets_grow_with_durations_and_hold_them() {
        let mut last = 0;
        for micros in (0..5_000).chain((0..64).map(|power| 1 << power)).collect::<std::collections::BTreeSet<u64>>() {
            let bucket = bucket_of(micros);
            assert!(bucket >= last, "{micros}");
            last = bucket;
            #[expect(clippy::cast_precision_loss)]
            let truth = micros as f64;
            assert!((middle_of(bucket) - truth).abs() <= truth * 0.0625, "{micros}: {}", middle_of(bucket));
        }
    }

    #[test]
    fn a_slot_keeps_its_shape_on_the_wire() {
        let source = MetricSource {
            workspace_id: WorkspaceId(uuid::Uuid::nil()),
            project_id: ProjectId(uuid::Uuid::nil()),
            environment_id: EnvironmentId(uuid::Uuid::nil()),
            service_id: ServiceId(uuid::Uuid::nil()),
            replica: None,
        };
        let mut traffic = Traffic::default();
        traffic.count(1000, 1, 2);
        let slot = TrafficSlot { at: 5, entries: vec![TrafficEntry { source, status: 200, traffic }] };
        let text = serde_json::to_string(&slot).unwrap();
        assert!(text.ends_with(r#""status":200,"traffic":{"requests":1,"rxBytes":1,"txBytes":2,"durations":{"63":1}}}]}"#), "{text}");
        assert_eq!(serde_json::from_str::<TrafficSlot>(&text).unwrap(), slot);
    }
}
