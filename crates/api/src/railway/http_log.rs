//! Requests to a deployment, one by one (`contracts/railway-cli.md` 9).

use std::collections::HashMap;

use domain::log::LogLine;
use juniper::graphql_object;
use serde_json::Value;

use crate::graphql::{Ctx, Scalar};

/// A request.
pub(crate) struct HttpLog {
    line: LogLine,
    fields: HashMap<String, Value>,
}

impl HttpLog {
    /// The fields of a line of the request log.
    pub(crate) fn new(mut line: LogLine) -> Self {
        let fields = std::mem::take(&mut line.attributes).into_iter();
        let fields = fields.filter_map(|(name, json)| Some((name, serde_json::from_str(&json).ok()?))).collect();
        Self { line, fields }
    }

    fn text(&self, name: &str) -> &str {
        self.fields.get(name).and_then(Value::as_str).unwrap_or("")
    }

    fn number(&self, name: &str) -> i32 {
        let value = self.fields.get(name).and_then(Value::as_i64).unwrap_or(0);
        i32::try_from(value).unwrap_or(i32::MAX)
    }
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl HttpLog {
    fn client_ua(&self) -> &str {
        self.text("clientUa")
    }
    fn deployment_id(&self) -> String {
        self.line.source.deployment_id.to_string()
    }
    /// Empty when no replica was reached.
    fn deployment_instance_id(&self) -> String {
        self.line.source.replica_id.map(|id| id.to_string()).unwrap_or_default()
    }
    fn downstream_proto(&self) -> &str {
        self.text("downstreamProto")
    }
    fn edge_region(&self) -> &str {
        self.text("edgeRegion")
    }
    fn host(&self) -> &str {
        self.text("host")
    }
    fn http_status(&self) -> i32 {
        self.number("httpStatus")
    }
    fn method(&self) -> &str {
        self.text("method")
    }
    fn path(&self) -> &str {
        self.text("path")
    }
    fn request_id(&self) -> &str {
        self.text("requestId")
    }
    fn response_details(&self) -> &str {
        self.text("responseDetails")
    }
    fn rx_bytes(&self) -> i32 {
        self.number("rxBytes")
    }
    fn src_ip(&self) -> &str {
        self.text("srcIp")
    }
    /// Nine digits and a Z: clients compare timestamps as text.
    fn timestamp(&self) -> String {
        telemetry::timestamp(self.line.nanos)
    }
    /// Milliseconds.
    fn total_duration(&self) -> i32 {
        self.number("totalDuration")
    }
    fn tx_bytes(&self) -> i32 {
        self.number("txBytes")
    }
    fn upstream_address(&self) -> &str {
        self.text("upstreamAddress")
    }
    fn upstream_errors(&self) -> &str {
        self.text("upstreamErrors")
    }
    /// How the edge speaks with replicas; empty when none was reached.
    fn upstream_proto(&self) -> &str {
        if self.text("upstreamAddress").is_empty() { "" } else { "HTTP/1.1" }
    }
    /// Milliseconds.
    fn upstream_rq_duration(&self) -> i32 {
        self.number("upstreamRqDuration")
    }
}
