//! A line of a log. The filter language over lines is [`filter`].

pub mod filter;

use std::net::IpAddr;

use serde::{Deserialize, Serialize, Serializer};

use crate::{DeploymentId, EnvironmentId, ProjectId, ReplicaId, ServiceId, SnapshotId, Timestamp, WorkspaceId};

/// How serious a line is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// For developers.
    Debug,
    /// What is written to standard output.
    Info,
    /// Worth a look.
    Warn,
    /// What is written to standard error.
    Error,
}

impl Severity {
    /// As on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    /// Reads the many spellings that apps use.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.to_ascii_lowercase().as_str() {
            "trace" | "debug" | "verbose" => Some(Self::Debug),
            "info" | "information" | "notice" | "log" => Some(Self::Info),
            "warn" | "warning" => Some(Self::Warn),
            "err" | "error" | "fatal" | "critical" | "crit" | "alert" | "emerg" | "emergency" | "panic" => Some(Self::Error),
            _ => None,
        }
    }
}

/// Which log a line belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogKind {
    /// The builder's output, filed under a snapshot.
    Build,
    /// An app's output, filed under a deployment and a replica.
    Deploy,
    /// Requests to an app, filed under a deployment; the fields of [`AccessLine`] are attributes.
    Http,
}

/// Where a line comes from: what it can be found by.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LogSource {
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// The project.
    pub project_id: ProjectId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// The service.
    pub service_id: ServiceId,
    /// The deployment.
    pub deployment_id: DeploymentId,
    /// The source tree.
    pub snapshot_id: SnapshotId,
    /// The replica; none for build output.
    pub replica_id: Option<ReplicaId>,
    /// Which log.
    pub kind: LogKind,
}

/// A line. `nanos` is unique and strictly growing within its stream, because clients order and de-duplicate by it
/// (`contracts/railway.md` 3.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogLine {
    /// Nanoseconds since the epoch.
    pub nanos: i64,
    /// Where it comes from.
    pub source: LogSource,
    /// How serious.
    pub severity: Severity,
    /// The text, or the `message` of a structured line.
    pub message: String,
    /// Further fields of a structured line: name and JSON-encoded value.
    pub attributes: Vec<(String, String)>,
}

/// A raw line as a supervisor appends it to a replica's spool file, one JSON object a line. Persisted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpoolLine {
    /// Nanoseconds since the epoch, strictly growing within the replica.
    #[serde(rename = "n")]
    pub nanos: i64,
    /// Standard error instead of standard output.
    #[serde(rename = "e", default, skip_serializing_if = "std::ops::Not::not")]
    pub error: bool,
    /// The text without its line end.
    #[serde(rename = "m")]
    pub message: String,
}

/// A request as the edge writes it down; the fields are those of `httpLogs` (`contracts/railway-cli.md` 9). Persisted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessLine {
    /// When the request's headers were complete; nine digits.
    #[serde(serialize_with = "nine_digits")]
    pub timestamp: Timestamp,
    /// Unique, or the client's own `X-Request-Id`.
    pub request_id: String,
    /// The method.
    pub method: String,
    /// The path without the query, which may hold secrets.
    pub path: String,
    /// The host without port, in lower case.
    pub host: String,
    /// What the client was answered; 499 if it left before there was an answer.
    pub status: u16,
    /// From the headers of the request to the last byte of the answer, in ms.
    pub total_duration: u64,
    /// From the request's way to the replica to the last byte of its answer, in ms; 0 if no replica was reached.
    pub upstream_rq_duration: u64,
    /// The `User-Agent`.
    pub client_ua: String,
    /// The client's address.
    pub src_ip: IpAddr,
    /// Bytes of the answer's body.
    pub tx_bytes: u64,
    /// Bytes of the request's body.
    pub rx_bytes: u64,
    /// The replica's address, or empty.
    pub upstream_address: String,
    /// How the edge speaks with replicas, or empty.
    pub upstream_proto: String,
    /// How the client speaks with the edge.
    pub downstream_proto: String,
    /// What went wrong with replicas on the way, separated by `; `. A request can have errors here and still be answered by another replica.
    pub upstream_errors: String,
    /// Why the answer is the edge's own or incomplete, or empty.
    pub response_details: String,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// The project.
    pub project_id: ProjectId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// The service.
    pub service_id: ServiceId,
    /// The deployment that answered or should have.
    pub deployment_id: Option<DeploymentId>,
    /// The replica, if one was reached.
    pub replica_id: Option<ReplicaId>,
}

fn nine_digits<S: Serializer>(timestamp: &Timestamp, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&format_args!("{timestamp:.9}"))
}

/// Takes a raw line of an app apart: JSON objects give message, severity and attributes, everything else is text.
#[must_use]
pub fn parse_line(text: &str, fallback: Severity) -> (Severity, String, Vec<(String, String)>) {
    if text.starts_with('{')
        && let Ok(serde_json::Value::Object(fields)) = serde_json::from_str(text)
    {
        let mut severity = fallback;
        let mut message = None;
        let mut attributes = vec![];
        for (name, value) in fields {
            match (name.as_str(), &value) {
                ("message" | "msg", serde_json::Value::String(text)) if message.is_none() => message = Some(text.clone()),
                ("level" | "severity" | "lvl", serde_json::Value::String(text)) if Severity::parse(text).is_some() => {
                    severity = Severity::parse(text).unwrap_or(fallback);
                }
                _ => attributes.push((name, value.to_string())),
            }
        }
        return (severity, message.unwrap_or_default(), attributes);
    }
    (fallback, text.to_owned(), vec![])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_lines_are_taken_apart() {
        let (severity, message, attributes) = parse_line(r#"{"level":"warning","msg":"slow","ms":12,"who":"db"}"#, Severity::Info);
        assert_eq!((severity, message.as_str()), (Severity::Warn, "slow"));
        assert_eq!(attributes, [("ms".into(), "12".into()), ("who".into(), "\"db\"".into())]);
    }

    #[test]
    fn other_lines_are_text() {
        assert_eq!(parse_line("{not json", Severity::Error), (Severity::Error, "{not json".into(), vec![]));
    }
}
