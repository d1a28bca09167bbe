//! Log lines (`contracts/railway.md` 3.3) and the windows in which they are asked for.

use domain::Timestamp;
use domain::log::LogLine;
use domain::log::filter::Filter;
use juniper::{GraphQLObject, graphql_object};
use telemetry::{LogQuery, LogScope, Replay};

use crate::graphql::scalar::moment;
use crate::graphql::{Ctx, Fault, Scalar};

/// Lines of an answer when the client names no limit, and at most.
const DEFAULT_LIMIT: usize = 500;
const MAX_LIMIT: usize = 5_000;

/// A line.
pub(crate) struct Log(pub(crate) LogLine);

#[graphql_object(context = Ctx, scalar = Scalar)]
impl Log {
    /// Values are JSON-encoded; `level` is always among them, because clients colour and stop by it.
    fn attributes(&self) -> Vec<LogAttribute> {
        let level = LogAttribute { key: "level".to_owned(), value: format!("\"{}\"", self.0.severity.as_str()) };
        let others = self.0.attributes.iter().filter(|(key, _)| key != "level");
        std::iter::once(level).chain(others.map(|(key, value)| LogAttribute { key: key.clone(), value: value.clone() })).collect()
    }
    fn message(&self) -> &str {
        &self.0.message
    }
    fn severity(&self) -> Option<&str> {
        Some(self.0.severity.as_str())
    }
    fn tags(&self) -> Option<LogTags> {
        let source = &self.0.source;
        Some(LogTags {
            deployment_id: Some(source.deployment_id.to_string()),
            deployment_instance_id: source.replica_id.map(|id| id.to_string()),
            environment_id: Some(source.environment_id.to_string()),
            project_id: Some(source.project_id.to_string()),
            service_id: Some(source.service_id.to_string()),
            snapshot_id: Some(source.snapshot_id.to_string()),
        })
    }
    /// Nine digits and a Z: clients compare timestamps as text.
    fn timestamp(&self) -> String {
        telemetry::timestamp(self.0.nanos)
    }
}

/// A field of a structured line.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct LogAttribute {
    key: String,
    value: String,
}

/// Where a line comes from.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct LogTags {
    deployment_id: Option<String>,
    deployment_instance_id: Option<String>,
    environment_id: Option<String>,
    project_id: Option<String>,
    service_id: Option<String>,
    snapshot_id: Option<String>,
}

fn limit(value: Option<i32>, fallback: usize) -> Result<usize, Fault> {
    match value {
        None => Ok(fallback),
        Some(value) => usize::try_from(value)
            .ok()
            .filter(|value| *value <= MAX_LIMIT)
            .ok_or_else(|| Fault::bad_input(format!("{value} lines are asked for: it may be 0 to {MAX_LIMIT}"))),
    }
}

fn nanos(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(if at < Timestamp::UNIX_EPOCH { i64::MIN } else { i64::MAX })
}

fn nanos_of(text: Option<&str>) -> Result<Option<i64>, Fault> {
    text.filter(|text| !text.is_empty()).map(|text| moment(text).map(nanos)).transpose().map_err(Fault::bad_input)
}

fn parse(filter: Option<&str>) -> Result<Filter, Fault> {
    Filter::parse(filter.unwrap_or("")).map_err(|error| Fault::bad_input(format!("The filter cannot be read: {error}")))
}

fn query(ctx: &Ctx, query: &LogQuery) -> Result<Vec<LogLine>, Fault> {
    let lines = ctx.op.ops.telemetry.query(query).map_err(|error| {
        let error = ops::Error::internal("logs", error);
        error.log(&ctx.op.request_id);
        Fault(error)
    })?;
    ctx.charge(lines.len())?;
    Ok(lines)
}

/// The newest lines of a deployment's log between two moments, both included.
pub(crate) fn between(
    ctx: &Ctx,
    scope: LogScope,
    filter: Option<&str>,
    start: Option<Timestamp>,
    end: Option<Timestamp>,
    wanted: Option<i32>,
) -> Result<Vec<Log>, Fault> {
    let wanted = LogQuery {
        scope,
        filter: parse(filter)?,
        after: start.map(|at| nanos(at).saturating_sub(1)),
        before: end.map(|at| nanos(at).saturating_add(1)),
        limit: limit(wanted, DEFAULT_LIMIT)?,
        newest: true,
    };
    Ok(query(ctx, &wanted)?.into_iter().map(Log).collect())
}

/// A window around an anchor: up to `before_limit` lines back to `before_date`, and up to `after_limit` lines on to `after_date`.
/// Without an anchor it is the present, behind which there is nothing.
#[derive(Default)]
pub(crate) struct Window {
    pub(crate) after_date: Option<String>,
    pub(crate) after_limit: Option<i32>,
    pub(crate) anchor_date: Option<String>,
    pub(crate) before_date: Option<String>,
    pub(crate) before_limit: Option<i32>,
}

impl Window {
    pub(crate) fn query(&self, ctx: &Ctx, scope: LogScope, filter: Option<&str>) -> Result<Vec<Log>, Fault> {
        Ok(self.lines(ctx, scope, filter)?.into_iter().map(Log).collect())
    }

    pub(crate) fn lines(&self, ctx: &Ctx, scope: LogScope, filter: Option<&str>) -> Result<Vec<LogLine>, Fault> {
        let filter = parse(filter)?;
        let anchor = nanos_of(self.anchor_date.as_deref())?;
        let back = LogQuery {
            scope,
            filter: filter.clone(),
            after: nanos_of(self.before_date.as_deref())?.map(|at| at.saturating_sub(1)),
            before: anchor.map(|at| at.saturating_add(1)),
            limit: limit(self.before_limit, if self.after_limit.is_some() { 0 } else { DEFAULT_LIMIT })?,
            newest: true,
        };
        let mut lines = if back.limit == 0 { vec![] } else { query(ctx, &back)? };
        if let Some(anchor) = anchor {
            let on = LogQuery {
                scope,
                filter,
                after: Some(anchor),
                before: nanos_of(self.after_date.as_deref())?.map(|at| at.saturating_add(1)),
                limit: limit(self.after_limit, 0)?,
                newest: false,
            };
            if on.limit > 0 {
                lines.extend(query(ctx, &on)?);
            }
        }
        Ok(lines)
    }

    /// What is sent first of a log that is followed.
    pub(crate) fn replay(&self) -> Result<Replay, Fault> {
        if let (Some(anchor), None) = (nanos_of(self.anchor_date.as_deref())?, self.before_limit) {
            // Who names a moment and nothing before it wants what comes after it.
            return Ok(Replay { limit: limit(self.after_limit, DEFAULT_LIMIT)?, after: Some(anchor), before: None });
        }
        Ok(Replay {
            limit: limit(self.before_limit, DEFAULT_LIMIT)?,
            after: nanos_of(self.before_date.as_deref())?.map(|at| at.saturating_sub(1)),
            before: None,
        })
    }
}

/// The filter and the first lines of a log that is followed.
pub(crate) fn following(filter: Option<&str>, window: &Window) -> Result<(Filter, Replay), ops::Error> {
    let read = || Ok((parse(filter)?, window.replay()?));
    read().map_err(|fault: Fault| fault.0)
}
