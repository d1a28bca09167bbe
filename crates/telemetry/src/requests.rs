//! The request log of the edge: from its spool into a log store of its own, so that a busy app costs no other the lines that it printed.

use std::collections::HashMap;

use domain::DeploymentId;
use domain::log::{AccessLine, LogKind, LogLine, LogSource, Severity};
use serde_json::{Value, json};

use crate::spool::{Item, MAX_NANOS};

/// Requests of one deployment and one second that are kept; above it they are only counted, by the metrics
/// (`contracts/railway.md` 3.3).
const KEPT_PER_SECOND: u32 = 500;

/// How many requests of its present second each deployment had.
pub(crate) type Pace = HashMap<DeploymentId, (i64, u32)>;

/// Deployments that are remembered.
const MAX_REMEMBERED: usize = 10_000;

pub(crate) fn parse(bytes: &[u8]) -> Option<AccessLine> {
    let line = serde_json::from_slice::<AccessLine>(bytes).ok()?;
    (1..=i128::from(MAX_NANOS)).contains(&line.timestamp.as_nanosecond()).then_some(line)
}

/// The lines of a piece and where each ends; also the number of those that could not be read. What is left out ends with the line before
/// it, so that the next reading goes on behind both.
pub(crate) fn lines_of(items: Vec<Item<AccessLine>>, region: &str, pace: &mut Pace) -> (Vec<LogLine>, Vec<u64>, u64) {
    if pace.len() >= MAX_REMEMBERED {
        pace.clear();
    }
    let (mut lines, mut ends, mut unreadable) = (vec![], vec![], 0);
    for Item { line, end } in items {
        let Some(line) = line else {
            unreadable += 1;
            if let Some(last) = ends.last_mut() {
                *last = end;
            }
            continue;
        };
        let Some(stored) = line_of(&line, region) else {
            if let Some(last) = ends.last_mut() {
                *last = end;
            }
            continue;
        };
        let second = line.timestamp.as_second();
        let (at, count) = pace.entry(stored.source.deployment_id).or_insert((second, 0));
        if *at < second {
            (*at, *count) = (second, 0);
        }
        *count += 1;
        if *count <= KEPT_PER_SECOND {
            lines.push(stored);
            ends.push(end);
        } else if let Some(last) = ends.last_mut() {
            *last = end;
        }
    }
    (lines, ends, unreadable)
}

/// A request as a line of the log; none for a service that was never deployed, whose requests have no log to be in.
fn line_of(line: &AccessLine, region: &str) -> Option<LogLine> {
    let source = LogSource {
        workspace_id: line.workspace_id,
        project_id: line.project_id,
        environment_id: line.environment_id,
        service_id: line.service_id,
        deployment_id: line.deployment_id?,
        snapshot_id: domain::SnapshotId(uuid::Uuid::nil()),
        replica_id: line.replica_id,
        kind: LogKind::Http,
    };
    let severity = match line.status {
        500.. => Severity::Error,
        400.. => Severity::Warn,
        _ => Severity::Info,
    };
    let fields: [(&str, Value); 18] = [
        ("requestId", json!(line.request_id)),
        ("timestamp", json!(format!("{:.9}", line.timestamp))),
        ("method", json!(line.method)),
        ("path", json!(line.path)),
        ("host", json!(line.host)),
        ("httpStatus", json!(line.status)),
        ("totalDuration", json!(line.total_duration)),
        ("responseTime", json!(line.total_duration)),
        ("upstreamRqDuration", json!(line.upstream_rq_duration)),
        ("clientUa", json!(line.client_ua)),
        ("srcIp", json!(line.src_ip)),
        ("edgeRegion", json!(region)),
        ("txBytes", json!(line.tx_bytes)),
        ("rxBytes", json!(line.rx_bytes)),
        ("upstreamAddress", json!(line.upstream_address)),
        ("upstreamErrors", json!(line.upstream_errors)),
        ("downstreamProto", json!(line.downstream_proto)),
        ("responseDetails", json!(line.response_details)),
    ];
    let written = fields.into_iter().filter(|(_, value)| value.as_str() != Some(""));
    Some(LogLine {
        nanos: i64::try_from(line.timestamp.as_nanosecond()).ok()?,
        source,
        severity,
        message: format!("{} {} {}", line.method, line.path, line.status),
        attributes: written.map(|(name, value)| (name.to_owned(), value.to_string())).collect(),
    })
}
