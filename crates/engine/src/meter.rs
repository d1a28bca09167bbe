//! Measures what replicas use and what the edge has counted for them, every five seconds.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::log::LogSource;
use domain::metric::{INTERVAL, MetricSource, Usage};
use domain::spec::Limits;
use domain::{ReplicaId, Timestamp};
use telemetry::metrics::Measured;

use crate::{Shared, lock};

/// The edge closes an interval by the clock; its threads hand in their counts a moment later.
const AFTER_INTERVAL: Duration = Duration::from_millis(150);

/// What is remembered from one measurement to the next. A new engine begins anew and leaves out one point.
struct Meter {
    shared: Arc<Shared>,
    /// CPU time of each replica, and when it was read.
    last: HashMap<ReplicaId, (Instant, u64)>,
    /// The last interval of traffic that is stored.
    stored: i64,
    /// What replicas without a limit may use.
    machine: Machine,
}

struct Machine {
    cores: f64,
    memory: f64,
}

impl Machine {
    fn look() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
        let kilobytes: f64 = line.and_then(|text| text.trim().parse().ok()).unwrap_or(0.0);
        Self { cores: u32::try_from(cores).map_or(1.0, f64::from), memory: kilobytes * 1024.0 }
    }
}

pub(crate) async fn run(shared: Arc<Shared>) {
    let stored = shared.ops.telemetry.metrics().traffic_stored().unwrap_or_else(|error| {
        tracing::warn!(%error, "it is not known which traffic is stored; what the edge still has is counted again");
        0
    });
    let mut meter = Meter { last: HashMap::new(), stored, machine: Machine::look(), shared: shared.clone() };
    loop {
        let wait = until_next_interval(Timestamp::now());
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            () = tokio::time::sleep(wait) => {}
        }
        if let Err(error) = meter.measure().await {
            tracing::warn!(%error, "metrics could not be stored; the next measurement tries again");
        }
    }
}

fn until_next_interval(now: Timestamp) -> Duration {
    let interval = Duration::from_secs(INTERVAL.unsigned_abs());
    let into = u64::try_from(now.as_nanosecond().rem_euclid(i128::try_from(interval.as_nanos()).unwrap_or(1))).unwrap_or(0);
    let rest = interval - Duration::from_nanos(into) + AFTER_INTERVAL;
    // Woken a little late for this interval, the next one is meant.
    if rest > interval { rest - interval } else { rest }.max(Duration::from_millis(1))
}

impl Meter {
    async fn measure(&mut self) -> Result<(), telemetry::TelemetryError> {
        let at = Timestamp::now().as_second().div_euclid(INTERVAL) * INTERVAL - INTERVAL;
        let known = self.shared.sources.measured();
        let replicas: Vec<ReplicaId> = known.keys().copied().collect();
        let used = self.shared.driver.usage(&replicas).await;
        let now = Instant::now();
        // An edge that does not answer has no connections; what it has counted it tells later.
        let connections = self.shared.edge.connections().await.unwrap_or_default();
        let (traffic, edge_is_silent) = match self.shared.edge.traffic(self.stored).await {
            Ok(traffic) => (traffic, false),
            Err(_) => (vec![], true),
        };
        let disks = lock(&self.shared.disks).clone();
        let mut usage = vec![];
        let mut last = HashMap::new();
        for (replica, used) in used {
            let Some((source, limits)) = known.get(&replica) else { continue };
            last.insert(replica, (now, used.cpu_nanos));
            let Some((before, cpu_before)) = self.last.get(&replica) else { continue };
            // An app that was started again begins at zero; that interval counts from there.
            let spent = used.cpu_nanos.checked_sub(*cpu_before).unwrap_or(used.cpu_nanos);
            let cpu = Duration::from_nanos(spent).as_secs_f64() / (now - *before).as_secs_f64().max(0.001);
            let connections = connections.get(&replica).copied().unwrap_or(0);
            let disk = disks.get(&(source.environment_id, source.service_id)).copied().unwrap_or((0, 0));
            let sample = self.usage(cpu, (used.memory_bytes, used.ephemeral_disk_bytes), disk, *limits, connections);
            usage.push((metric_source(source, replica), sample));
        }
        self.last = last;
        let newest = traffic.last().map(|slot| slot.at);
        if usage.is_empty() && traffic.is_empty() {
            return Ok(());
        }
        let shared = self.shared.clone();
        let stored = tokio::task::spawn_blocking(move || shared.ops.telemetry.metrics().record(Measured { at, usage, traffic })).await;
        stored.unwrap_or(Err(telemetry::TelemetryError::Stopped))?;
        if let Some(newest) = newest.filter(|_| !edge_is_silent) {
            self.stored = newest;
        }
        Ok(())
    }

    // Bytes are far below the 2^53 from which on this would be inexact.
    #[expect(clippy::cast_precision_loss)]
    fn usage(
        &self,
        cpu: f64,
        (memory, ephemeral_disk): (u64, u64),
        (disk, backups): (u64, u64),
        limits: Limits,
        connections: u64,
    ) -> Usage {
        Usage {
            cpu,
            cpu_limit: limits.cpu_millis.map_or(self.machine.cores, |millis| f64::from(millis) / 1000.0),
            memory: memory as f64,
            memory_limit: limits.memory_bytes.map_or(self.machine.memory, |bytes| bytes as f64),
            disk: disk as f64,
            ephemeral_disk: ephemeral_disk as f64,
            backups: backups as f64,
            connections: connections as f64,
        }
    }
}

fn metric_source(source: &LogSource, replica: ReplicaId) -> MetricSource {
    MetricSource {
        workspace_id: source.workspace_id,
        project_id: source.project_id,
        environment_id: source.environment_id,
        service_id: source.service_id,
        replica: Some((source.deployment_id, replica)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measurements_follow_the_end_of_each_interval() {
        let after = |millis: i64| until_next_interval(Timestamp::from_millisecond(1_795_219_200_000 + millis).unwrap()).as_millis();
        assert_eq!([after(0), after(150), after(151), after(4_900), after(5_000)], [150, 5_000, 4_999, 250, 150]);
    }
}
