//! The log store through its public door, on real files.

mod follow;
mod ingest;
mod metrics;
mod query;
mod requests;
mod retention;

use std::path::Path;

use domain::log::filter::Filter;
use domain::log::{LogKind, LogLine, LogSource, Severity};
use domain::{DeploymentId, EnvironmentId, ProjectId, ReplicaId, ServiceId, SnapshotId, Tenant, WorkspaceId};
use telemetry::{LogQuery, LogScope, Telemetry, TelemetryConfig};

/// 2026-11-21, 00:00 UTC.
const MIDNIGHT: i64 = 1_795_219_200_000_000_000;
const DAY: i64 = 86_400_000_000_000;

fn open(dir: &Path) -> Telemetry {
    Telemetry::open(TelemetryConfig { dir: dir.to_owned(), retain_days: 30, retain_bytes: 10_000_000_000 }).unwrap()
}

/// The output of a fresh replica of a fresh deployment.
fn deploy_source() -> LogSource {
    LogSource {
        workspace_id: WorkspaceId::generate(),
        project_id: ProjectId::generate(),
        environment_id: EnvironmentId::generate(),
        service_id: ServiceId::generate(),
        deployment_id: DeploymentId::generate(),
        snapshot_id: SnapshotId::generate(),
        replica_id: Some(ReplicaId::generate()),
        kind: LogKind::Deploy,
    }
}

fn deployment(source: &LogSource) -> LogScope {
    LogScope::Deployment { tenant: Tenant::system(source.workspace_id), deployment: source.deployment_id }
}

fn line(source: &LogSource, nanos: i64, message: &str) -> LogLine {
    LogLine { nanos, source: source.clone(), severity: Severity::Info, message: message.to_owned(), attributes: vec![] }
}

fn all(scope: LogScope) -> LogQuery {
    LogQuery { scope, filter: Filter::default(), after: None, before: None, limit: usize::MAX, newest: false }
}

fn messages(lines: &[LogLine]) -> Vec<&str> {
    lines.iter().map(|line| line.message.as_str()).collect()
}

fn times_grow(lines: &[LogLine]) -> bool {
    lines.windows(2).all(|pair| pair[0].nanos < pair[1].nanos)
}
