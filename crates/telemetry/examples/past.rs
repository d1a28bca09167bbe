//! A past, for the benchmarks: lines and measurements of one deployment, in a telemetry folder that no server uses meanwhile.
//!
//! `past FOLDER WORKSPACE PROJECT ENVIRONMENT SERVICE DEPLOYMENT LINES DAYS`

use std::path::Path;

use domain::log::{LogKind, LogLine, LogSource, Severity};
use domain::metric::{MetricSource, Traffic, TrafficEntry, TrafficSlot, Usage};
use domain::{ReplicaId, SnapshotId, Timestamp};
use telemetry::metrics::Measured;
use telemetry::{Telemetry, TelemetryConfig};

/// Lines that are stored at once.
const BATCH: usize = 5_000;
/// From one line to the next, in nanoseconds.
const APART: i64 = 10_000_000;
/// From one measurement to the next, in seconds: the shortest interval that is kept for long is longer.
const EVERY: i64 = 1_200;

#[tokio::main(flavor = "current_thread")]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder, workspace, project, environment, service, deployment, lines, days] = &arguments[..] else {
        panic!("past FOLDER WORKSPACE PROJECT ENVIRONMENT SERVICE DEPLOYMENT LINES DAYS");
    };
    let source = LogSource {
        workspace_id: workspace.parse().expect("the workspace's id"),
        project_id: project.parse().expect("the project's id"),
        environment_id: environment.parse().expect("the environment's id"),
        service_id: service.parse().expect("the service's id"),
        deployment_id: deployment.parse().expect("the deployment's id"),
        snapshot_id: SnapshotId::generate(),
        replica_id: Some(ReplicaId::generate()),
        kind: LogKind::Deploy,
    };
    let config = TelemetryConfig { dir: Path::new(folder).to_owned(), retain_days: 62, retain_bytes: 5_000_000_000 };
    let telemetry = Telemetry::open(config).expect("the telemetry opens");
    let now = Timestamp::now();
    write(&telemetry, &source, lines.parse().expect("a number of lines"), now).await;
    measure(&telemetry, &source, days.parse().expect("a number of days"), now);
}

async fn write(telemetry: &Telemetry, source: &LogSource, count: usize, now: Timestamp) {
    let end = i64::try_from(now.as_nanosecond()).expect("a time of this century");
    for from in (0..count).step_by(BATCH) {
        let lines = (from..count.min(from + BATCH)).map(|at| LogLine {
            nanos: end - i64::try_from(count - at).expect("a small number") * APART,
            source: source.clone(),
            severity: match at % 500 {
                0 => Severity::Error,
                at if at % 50 == 0 => Severity::Warn,
                _ => Severity::Info,
            },
            message: format!("line {at} of the past: GET /orders/{} answered 200 in {} ms", at % 9_973, at % 97),
            attributes: vec![],
        });
        telemetry.append(lines.collect()).await.expect("lines are stored");
    }
}

fn measure(telemetry: &Telemetry, source: &LogSource, days: i64, now: Timestamp) {
    let whole = MetricSource {
        workspace_id: source.workspace_id,
        project_id: source.project_id,
        environment_id: source.environment_id,
        service_id: source.service_id,
        replica: source.replica_id.map(|replica| (source.deployment_id, replica)),
    };
    let end = now.as_second() - now.as_second().rem_euclid(EVERY);
    for at in (0..days * 86_400 / EVERY).rev().map(|back| end - back * EVERY) {
        // A tide of half a day.
        let height = 1.0 + (at as f64 / 6_875.0).sin();
        let usage = Usage { cpu: 0.2 * height, cpu_limit: 2.0, memory: 6e7 + 4e7 * height, memory_limit: 1e9, ..Usage::default() };
        let mut answered = Traffic::default();
        for request in 0..40 {
            answered.count(2_000 + request * 350, 200, 4_000);
        }
        let mut failed = Traffic::default();
        failed.count(90_000, 200, 300);
        let entries = vec![
            TrafficEntry { source: whole, status: 200, traffic: answered },
            TrafficEntry { source: whole, status: 502, traffic: failed },
        ];
        let measured = Measured { at, usage: vec![(whole, usage)], traffic: vec![TrafficSlot { at, entries }] };
        telemetry.metrics().record(measured).expect("measurements are stored");
    }
}
