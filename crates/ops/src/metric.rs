//! What running apps use and answer.

use std::collections::{BTreeMap, BTreeSet};

use domain::log::LogLine;
use domain::log::filter::Filter;
use domain::metric::Traffic;
use domain::{EnvironmentId, ProjectId, ServiceId, Tenant, Timestamp, WorkspaceId};
use jiff::tz::TimeZone;
use telemetry::metrics::{MetricScope, MetricTag, MetricTags, MetricWindow, Point, Total, TrafficPoint};
use telemetry::{LogQuery, LogScope, TelemetryError};

use crate::{Error, OpCtx, account, environment, project, service};

/// Points of one series that a question may have.
const MAX_POINTS: i64 = 10_000;
/// Requests that are read for a question about a method or a path.
const MAX_REQUESTS: usize = 200_000;

/// Whose metrics are asked for; the narrowest that is named counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct MetricPlace {
    /// A workspace.
    pub workspace: Option<WorkspaceId>,
    /// A project.
    pub project: Option<ProjectId>,
    /// An environment.
    pub environment: Option<EnvironmentId>,
    /// A service.
    pub service: Option<ServiceId>,
}

/// Which requests are counted.
#[derive(Clone, Debug, Default)]
pub struct RequestFilter {
    /// Only those with this method.
    pub method: Option<String>,
    /// Only those for exactly this path.
    pub path: Option<String>,
    /// Only those answered with this status.
    pub status: Option<u16>,
}

/// What was used in a window, added up over everything with the same tags, oldest first.
///
/// # Errors
/// No place, a window that makes no sense or about too much, not found, or not allowed.
pub async fn metrics(
    ctx: &OpCtx,
    place: MetricPlace,
    window: MetricWindow,
    group: &BTreeSet<MetricTag>,
) -> Result<Vec<(MetricTags, Vec<Point>)>, Error> {
    check(window)?;
    let scope = scope_of(ctx, place).await?;
    ctx.ops.telemetry.metrics().range(scope, window, group).map_err(failed)
}

/// A calendar month in UTC: what use is added up over when nobody says otherwise.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Month {
    /// Its first moment, in seconds since the epoch.
    pub from: i64,
    /// The moment behind its last, in seconds since the epoch.
    pub to: i64,
}

impl Month {
    /// The month of a moment.
    #[must_use]
    pub fn of(now: Timestamp) -> Self {
        const DAY: i64 = 86_400;
        let date = now.to_zoned(TimeZone::UTC).date();
        let from = (now.as_second().div_euclid(DAY) + 1 - i64::from(date.day())) * DAY;
        Self { from, to: from + i64::from(date.days_in_month()) * DAY }
    }
}

/// What was used from one moment to another, in seconds since the epoch, added up over everything with the same tags. Without a place it is
/// that of the principal's own workspace.
///
/// # Errors
/// A window that makes no sense or about too much, not found, or not allowed.
pub async fn usage(
    ctx: &OpCtx,
    place: MetricPlace,
    (from, to): (i64, i64),
    group: &BTreeSet<MetricTag>,
    include_deleted: bool,
) -> Result<BTreeMap<MetricTags, Total>, Error> {
    // As finely as it takes for the ends of the window to be right, without reading every measurement of a month.
    let window = MetricWindow { from, to, step: if to.saturating_sub(from) > 172_800 { 3_600 } else { 180 } };
    check(window)?;
    let workspace = place.workspace.or_else(|| project::default_workspace(ctx).filter(|_| place.project.is_none()));
    let scope = scope_of(ctx, MetricPlace { workspace, ..place }).await?;
    let by_project: BTreeSet<MetricTag> = group.iter().copied().chain([MetricTag::Project]).collect();
    let mut found = ctx.ops.telemetry.metrics().totals(scope, window, &by_project).map_err(failed)?;
    if !include_deleted {
        let ids: BTreeSet<ProjectId> = found.keys().filter_map(|tags| tags.project).collect();
        let ids: Vec<ProjectId> = ids.into_iter().collect();
        let rows = ctx.ops.store.projects_by_id(tenant_of(scope), &ids).await?;
        let living: BTreeSet<ProjectId> = rows.into_iter().filter(|row| row.deleted_at.is_none()).map(|row| row.id).collect();
        found.retain(|tags, _| tags.project.is_some_and(|project| living.contains(&project)));
    }
    let mut sums: BTreeMap<MetricTags, Total> = BTreeMap::new();
    for (tags, total) in found {
        let tags = MetricTags { project: tags.project.filter(|_| group.contains(&MetricTag::Project)), ..tags };
        let sum = sums.entry(tags).or_default();
        *sum = sum.plus(total);
    }
    Ok(sums)
}

/// The requests to a service in a window by interval and status, oldest first. Those of a method or a path are counted from the request
/// log, which keeps at most 500 a second.
///
/// # Errors
/// A window that makes no sense or about too much, not found, or not allowed.
pub async fn http_metrics(
    ctx: &OpCtx,
    environment: EnvironmentId,
    service: ServiceId,
    window: MetricWindow,
    filter: &RequestFilter,
) -> Result<Vec<TrafficPoint>, Error> {
    check(window)?;
    let tenant = service::service_instance_get(ctx, environment, service).await?.tenant;
    let telemetry = &ctx.ops.telemetry;
    let mut points = if filter.method.is_none() && filter.path.is_none() {
        telemetry.metrics().traffic(MetricScope::Instance(tenant, environment, service), window).map_err(failed)?
    } else {
        let query = LogQuery {
            scope: LogScope::EnvironmentRequests { tenant, environment },
            filter: lines_of(service, filter)?,
            after: Some(nanos(window.from).saturating_sub(1)),
            before: Some(nanos(window.to)),
            limit: MAX_REQUESTS,
            newest: true,
        };
        counted(&telemetry.query(&query).map_err(failed)?, window.step)
    };
    points.retain(|point| filter.status.is_none_or(|status| status == point.status));
    Ok(points)
}

fn failed(error: TelemetryError) -> Error {
    match error {
        TelemetryError::TooBroad { .. } | TelemetryError::TooMany { .. } => Error::bad_input(error.to_string()),
        other => Error::internal("metrics", other),
    }
}

fn check(window: MetricWindow) -> Result<(), Error> {
    if window.step < 1 {
        return Err(Error::bad_input(format!("an interval of {} seconds is asked for: it must be 1 or more", window.step)));
    }
    if window.to <= window.from {
        return Err(Error::bad_input("the window ends before it begins: give a startDate that is earlier than the endDate"));
    }
    let points = (window.to - window.from) / window.step;
    if points > MAX_POINTS {
        return Err(Error::bad_input(format!("{points} points are asked for, at most {MAX_POINTS} are given: ask for longer intervals")));
    }
    Ok(())
}

async fn scope_of(ctx: &OpCtx, place: MetricPlace) -> Result<MetricScope, Error> {
    let MetricPlace { workspace, project, environment, service } = place;
    // Of a project, and of a service in all its environments, a key of one environment is told what belongs to that one.
    let own = ctx.grants().environment().filter(|_| project.is_some() || service.is_some());
    let environment = environment.or(own);
    let (scope, its_project) = match (environment, service) {
        (Some(environment), Some(service)) => {
            let found = service::service_instance_get(ctx, environment, service).await?;
            (MetricScope::Instance(found.tenant, environment, service), Some(found.row.project_id))
        }
        (Some(environment), None) => {
            let found = environment::environment_get(ctx, environment).await?;
            (MetricScope::Environment(found.tenant, environment), Some(found.row.project_id))
        }
        (None, Some(service)) => {
            let found = service::service_get(ctx, service).await?;
            (MetricScope::Service(found.tenant, service), Some(found.row.project_id))
        }
        (None, None) => match (project, workspace) {
            (Some(project), _) => (MetricScope::Project(project::project_get(ctx, project).await?.tenant, project), Some(project)),
            (None, Some(workspace)) => (MetricScope::Workspace(account::workspace_get(ctx, workspace).await?.tenant), None),
            (None, None) => return Err(Error::bad_input("name a projectId, an environmentId, a serviceId or a workspaceId")),
        },
    };
    if project.is_some() && project != its_project {
        return Err(Error::not_found("Project"));
    }
    if workspace.is_some_and(|workspace| tenant_of(scope).workspace() != workspace) {
        return Err(Error::not_found("Workspace"));
    }
    Ok(scope)
}

fn tenant_of(scope: MetricScope) -> Tenant {
    match scope {
        MetricScope::Workspace(tenant)
        | MetricScope::Project(tenant, _)
        | MetricScope::Environment(tenant, _)
        | MetricScope::Service(tenant, _)
        | MetricScope::Instance(tenant, ..)
        | MetricScope::Deployment(tenant, _) => tenant,
    }
}

fn nanos(seconds: i64) -> i64 {
    seconds.saturating_mul(1_000_000_000)
}

/// The requests of a service in the filter language.
fn lines_of(service: ServiceId, filter: &RequestFilter) -> Result<Filter, Error> {
    let mut text = format!("@service:{service}");
    for (key, value) in [("method", &filter.method), ("path", &filter.path)] {
        if let Some(value) = value {
            let quoted = value.replace('\\', "\\\\").replace('"', "\\\"");
            text.push_str(&format!(" @{key}:\"{quoted}\""));
        }
    }
    Filter::parse(&text).map_err(|error| Error::bad_input(format!("The method or path cannot be searched for: {error}")))
}

fn counted(lines: &[LogLine], step: i64) -> Vec<TrafficPoint> {
    let mut sums: BTreeMap<(i64, u16), Traffic> = BTreeMap::new();
    for line in lines {
        let number = |name: &str| {
            let (_, json) = line.attributes.iter().find(|(own, _)| own == name)?;
            json.parse::<u64>().ok()
        };
        let Some(status) = number("httpStatus").and_then(|status| u16::try_from(status).ok()) else { continue };
        let at = (line.nanos / 1_000_000_000).div_euclid(step) * step;
        let (micros, rx, tx) = (number("totalDuration").unwrap_or(0) * 1_000, number("rxBytes"), number("txBytes"));
        sums.entry((at, status)).or_default().count(micros, rx.unwrap_or(0), tx.unwrap_or(0));
    }
    sums.into_iter().map(|((at, status), traffic)| TrafficPoint { at, status, traffic }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_month_begins_on_its_first_day_and_ends_behind_its_last() {
        let second = |text: &str| text.parse::<Timestamp>().unwrap().as_second();
        for (now, from, to) in [
            ("2026-11-21T22:00:00Z", "2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z"),
            ("2026-12-31T23:59:59.9Z", "2026-12-01T00:00:00Z", "2027-01-01T00:00:00Z"),
            ("2028-02-01T00:00:00Z", "2028-02-01T00:00:00Z", "2028-03-01T00:00:00Z"),
        ] {
            assert_eq!(Month::of(now.parse().unwrap()), Month { from: second(from), to: second(to) }, "{now}");
        }
    }
}
