//! Metrics as `railway metrics` asks for them (`contracts/railway-cli.md` 7 and 9).

use std::collections::{BTreeMap, BTreeSet};

use domain::metric::Histogram;
use domain::{EnvironmentId, ProjectId, ServiceId, Timestamp, WorkspaceId};
use juniper::GraphQLObject;
use ops::metric::{MetricPlace, Month, RequestFilter};
use telemetry::metrics::{MetricTag as Tag, MetricTags as Tags, MetricWindow, Point, Total, TrafficPoint};

use super::enums::{MetricMeasurement, MetricTag};
use super::inputs::{id, id_option};
use crate::graphql::scalar::DateTime;
use crate::graphql::{Ctx, Fault, Scalar};

/// What this API counts memory, disk and network in.
const GB: f64 = 1_073_741_824.0;

/// The samples of one measurement with the same tags.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct MetricsResult {
    measurement: MetricMeasurement,
    tags: MetricTags,
    values: Vec<Metric>,
}

/// A sample.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct Metric {
    /// Seconds since the epoch.
    ts: i32,
    value: f64,
}

/// What samples were grouped by.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct MetricTags {
    deployment_id: Option<String>,
    deployment_instance_id: Option<String>,
    environment_id: Option<String>,
    project_id: Option<String>,
    region: Option<String>,
    service_id: Option<String>,
}

/// Durations of requests.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct HttpDurationMetricsResult {
    samples: Vec<HttpDurationMetricsSample>,
}

/// Quantiles of an interval, in milliseconds.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct HttpDurationMetricsSample {
    p50: f64,
    p90: f64,
    p95: f64,
    p99: f64,
    /// Seconds since the epoch.
    ts: i32,
}

/// Requests.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct HttpMetricsResult {
    samples: Vec<HttpMetricsSample>,
}

/// Requests that were answered with one status.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct HttpMetricsByStatusResult {
    samples: Vec<HttpMetricsSample>,
    status_code: i32,
}

/// How many requests an interval had.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct HttpMetricsSample {
    /// Seconds since the epoch.
    ts: i32,
    value: f64,
}

/// The arguments of `metrics`.
pub(crate) struct MetricsAsked {
    pub(crate) end_date: Option<DateTime>,
    pub(crate) environment_id: Option<String>,
    pub(crate) group_by: Option<Vec<MetricTag>>,
    pub(crate) measurements: Vec<MetricMeasurement>,
    pub(crate) project_id: Option<String>,
    pub(crate) sample_rate_seconds: Option<i32>,
    pub(crate) service_id: Option<String>,
    pub(crate) start_date: DateTime,
    pub(crate) workspace_id: Option<String>,
}

/// The arguments that all questions about requests share.
pub(crate) struct HttpAsked {
    pub(crate) end_date: DateTime,
    pub(crate) environment_id: String,
    pub(crate) method: Option<String>,
    pub(crate) path: Option<String>,
    pub(crate) service_id: String,
    pub(crate) start_date: DateTime,
    pub(crate) status_code: Option<i32>,
    pub(crate) step_seconds: Option<i32>,
}

fn seconds(at: i64) -> i32 {
    i32::try_from(at).unwrap_or(i32::MAX)
}

// Counts of requests are far below the 2^53 from which on this would be inexact.
#[expect(clippy::cast_precision_loss)]
fn count(value: u64) -> f64 {
    value as f64
}

/// The intervals of the dashboards of this API, for who names none.
fn usual_step(from: i64, to: i64) -> i64 {
    match (to - from) / 3_600 {
        ..=1 => 30,
        2..=6 => 60,
        7..=24 => 240,
        25..=168 => 3_600,
        _ => 14_400,
    }
}

fn window(start: Timestamp, end: Timestamp, step: Option<i32>) -> MetricWindow {
    let (from, to) = (start.as_second(), end.as_second());
    MetricWindow { from, to, step: step.map_or_else(|| usual_step(from, to), i64::from) }
}

fn tag(tag: MetricTag) -> Result<Option<Tag>, Fault> {
    Ok(match tag {
        MetricTag::ProjectId => Some(Tag::Project),
        MetricTag::EnvironmentId => Some(Tag::Environment),
        MetricTag::ServiceId => Some(Tag::Service),
        MetricTag::DeploymentId => Some(Tag::Deployment),
        MetricTag::DeploymentInstanceId => Some(Tag::Replica),
        // There is one region, and everything is in it.
        MetricTag::Region => None,
        MetricTag::HostType
        | MetricTag::KeyUnspecified
        | MetricTag::PluginId
        | MetricTag::Unrecognized
        | MetricTag::VolumeId
        | MetricTag::VolumeInstanceId => {
            return Err(Fault::bad_input(format!(
                "metrics cannot be grouped by {tag:?}: group by project, environment, service, deployment, deployment instance or region"
            )));
        }
    })
}

/// The value of a point; `None` when there is nothing that is measured so.
fn value(measurement: MetricMeasurement, point: &Point) -> Option<f64> {
    let used = |value: f64| point.measured.then_some(value);
    match measurement {
        MetricMeasurement::CpuUsage | MetricMeasurement::CpuUsage2 => used(point.usage.cpu),
        MetricMeasurement::CpuLimit => used(point.usage.cpu_limit),
        MetricMeasurement::MemoryUsageGb => used(point.usage.memory / GB),
        MetricMeasurement::MemoryLimitGb => used(point.usage.memory_limit / GB),
        MetricMeasurement::EphemeralDiskUsageGb => used(point.usage.ephemeral_disk / GB),
        MetricMeasurement::DiskUsageGb => used(point.usage.disk / GB).filter(|value| *value > 0.0),
        MetricMeasurement::NetworkRxGb => Some(point.network_rx / GB),
        MetricMeasurement::NetworkTxGb => Some(point.network_tx / GB),
        MetricMeasurement::BackupUsageGb => used(point.usage.backups / GB).filter(|value| *value > 0.0),
        MetricMeasurement::MeasurementUnspecified | MetricMeasurement::Unrecognized => None,
    }
}

fn tags(ctx: &Ctx, tags: Tags, by_region: bool) -> MetricTags {
    MetricTags {
        deployment_id: tags.deployment.map(|id| id.to_string()),
        deployment_instance_id: tags.replica.map(|id| id.to_string()),
        environment_id: tags.environment.map(|id| id.to_string()),
        project_id: tags.project.map(|id| id.to_string()),
        region: by_region.then(|| ctx.op.ops.settings.region.clone()),
        service_id: tags.service.map(|id| id.to_string()),
    }
}

/// `metrics`.
pub(crate) fn metrics(ctx: &Ctx, asked: MetricsAsked) -> Result<Vec<MetricsResult>, Fault> {
    let place = MetricPlace {
        workspace: id_option("Workspace", asked.workspace_id.as_deref(), WorkspaceId)?,
        project: id_option("Project", asked.project_id.as_deref(), ProjectId)?,
        environment: id_option("Environment", asked.environment_id.as_deref(), EnvironmentId)?,
        service: id_option("Service", asked.service_id.as_deref(), ServiceId)?,
    };
    let group = asked.group_by.unwrap_or_default();
    let by_region = group.contains(&MetricTag::Region);
    let group: BTreeSet<Tag> = group.into_iter().filter_map(|one| tag(one).transpose()).collect::<Result<_, _>>()?;
    let window = window(asked.start_date.0, asked.end_date.map_or(ctx.op.now, |end| end.0), asked.sample_rate_seconds);
    let mut found = ctx.wait(ops::metric::metrics(&ctx.op, place, window, &group))?;
    if found.is_empty() && group.is_empty() {
        found.push((Tags::default(), vec![]));
    }
    let mut results = vec![];
    for measurement in asked.measurements {
        for (its, points) in &found {
            let sample = |point: &Point| Some(Metric { ts: seconds(point.at), value: value(measurement, point)? });
            let values: Vec<Metric> = points.iter().filter_map(sample).collect();
            ctx.charge(values.len())?;
            results.push(MetricsResult { measurement, tags: tags(ctx, *its, by_region), values });
        }
    }
    Ok(results)
}

/// The requests that are asked about; `whole`: without an interval, all of the window is one.
fn traffic(ctx: &Ctx, asked: HttpAsked, whole: bool) -> Result<(Vec<TrafficPoint>, MetricWindow), Fault> {
    let environment = id("Environment", &asked.environment_id, EnvironmentId)?;
    let service = id("Service", &asked.service_id, ServiceId)?;
    let status = match asked.status_code {
        None => None,
        Some(code) => {
            let known = u16::try_from(code).ok().filter(|code| (100..=599).contains(code));
            Some(known.ok_or_else(|| Fault::bad_input(format!("{code} is no HTTP status: it is 100 to 599")))?)
        }
    };
    let given = |text: Option<String>| text.filter(|text| !text.is_empty());
    let filter = RequestFilter { method: given(asked.method), path: given(asked.path), status };
    let mut window = window(asked.start_date.0, asked.end_date.0, asked.step_seconds);
    let all_in_one = whole && asked.step_seconds.is_none();
    let found = ctx.wait(ops::metric::http_metrics(&ctx.op, environment, service, window, &filter))?;
    ctx.charge(found.len())?;
    if all_in_one {
        window.step = window.to - window.from;
        return Ok((found.into_iter().map(|point| TrafficPoint { at: window.from, ..point }).collect(), window));
    }
    Ok((found, window))
}

/// `httpMetrics`.
pub(crate) fn http_metrics(ctx: &Ctx, asked: HttpAsked) -> Result<HttpMetricsResult, Fault> {
    let (found, _) = traffic(ctx, asked, false)?;
    let mut sums: BTreeMap<i64, u64> = BTreeMap::new();
    for point in found {
        *sums.entry(point.at).or_default() += point.traffic.requests;
    }
    let samples = sums.into_iter().map(|(at, requests)| HttpMetricsSample { ts: seconds(at), value: count(requests) });
    Ok(HttpMetricsResult { samples: samples.collect() })
}

/// `httpMetricsGroupedByStatus`.
pub(crate) fn http_metrics_by_status(ctx: &Ctx, asked: HttpAsked) -> Result<Vec<HttpMetricsByStatusResult>, Fault> {
    let (found, _) = traffic(ctx, asked, false)?;
    let mut groups: BTreeMap<u16, Vec<HttpMetricsSample>> = BTreeMap::new();
    for point in found {
        let sample = HttpMetricsSample { ts: seconds(point.at), value: count(point.traffic.requests) };
        groups.entry(point.status).or_default().push(sample);
    }
    let result = |(status, samples): (u16, _)| HttpMetricsByStatusResult { samples, status_code: i32::from(status) };
    Ok(groups.into_iter().map(result).collect())
}

/// `httpDurationMetrics`.
pub(crate) fn http_durations(ctx: &Ctx, asked: HttpAsked) -> Result<HttpDurationMetricsResult, Fault> {
    let (found, _) = traffic(ctx, asked, true)?;
    let mut sums: BTreeMap<i64, Histogram> = BTreeMap::new();
    for point in found {
        sums.entry(point.at).or_default().merge(&point.traffic.durations);
    }
    let sample = |(at, durations): (i64, Histogram)| {
        let millis = |q| durations.quantile(q).unwrap_or(0.0) / 1_000.0;
        HttpDurationMetricsSample { p50: millis(0.5), p90: millis(0.9), p95: millis(0.95), p99: millis(0.99), ts: seconds(at) }
    };
    Ok(HttpDurationMetricsResult { samples: sums.into_iter().map(sample).collect() })
}

/// What was used of one thing in a window.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct AggregatedUsage {
    measurement: MetricMeasurement,
    tags: MetricTags,
    /// vCPU minutes, GB minutes of memory and disks, GB of network.
    value: f64,
}

/// What a project will have used of one thing by the end of the month.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct EstimatedUsage {
    /// vCPU minutes, GB minutes of memory and disks, GB of network, when it goes on as it did.
    estimated_value: f64,
    measurement: MetricMeasurement,
    project_id: String,
}

/// The arguments of `usage`.
pub(crate) struct UsageAsked {
    pub(crate) end_date: Option<DateTime>,
    pub(crate) group_by: Option<Vec<MetricTag>>,
    pub(crate) include_deleted: Option<bool>,
    pub(crate) measurements: Vec<MetricMeasurement>,
    pub(crate) project_id: Option<String>,
    pub(crate) start_date: Option<DateTime>,
    pub(crate) workspace_id: Option<String>,
}

/// The amount of a measurement; `None` for what is not measured.
fn amount(measurement: MetricMeasurement, total: &Total) -> Option<f64> {
    let minutes = |seconds: f64| Some(seconds / 60.0);
    match measurement {
        MetricMeasurement::CpuUsage | MetricMeasurement::CpuUsage2 => minutes(total.usage.cpu),
        MetricMeasurement::CpuLimit => minutes(total.usage.cpu_limit),
        MetricMeasurement::MemoryUsageGb => minutes(total.usage.memory / GB),
        MetricMeasurement::MemoryLimitGb => minutes(total.usage.memory_limit / GB),
        MetricMeasurement::EphemeralDiskUsageGb => minutes(total.usage.ephemeral_disk / GB),
        MetricMeasurement::DiskUsageGb => minutes(total.usage.disk / GB),
        MetricMeasurement::NetworkRxGb => Some(total.network_rx / GB),
        MetricMeasurement::NetworkTxGb => Some(total.network_tx / GB),
        MetricMeasurement::BackupUsageGb => minutes(total.usage.backups / GB),
        MetricMeasurement::MeasurementUnspecified | MetricMeasurement::Unrecognized => None,
    }
}

fn usage_place(workspace: Option<&str>, project: Option<&str>) -> Result<MetricPlace, Fault> {
    let (workspace, project) = (id_option("Workspace", workspace, WorkspaceId)?, id_option("Project", project, ProjectId)?);
    Ok(MetricPlace { workspace, project, ..MetricPlace::default() })
}

/// `usage`.
pub(crate) fn usage(ctx: &Ctx, asked: UsageAsked) -> Result<Vec<AggregatedUsage>, Fault> {
    let place = usage_place(asked.workspace_id.as_deref(), asked.project_id.as_deref())?;
    let group = asked.group_by.unwrap_or_default();
    let by_region = group.contains(&MetricTag::Region);
    let group: BTreeSet<Tag> = group.into_iter().filter_map(|one| tag(one).transpose()).collect::<Result<_, _>>()?;
    let from = asked.start_date.map_or_else(|| Month::of(ctx.op.now).from, |at| at.0.as_second());
    let to = asked.end_date.map_or(ctx.op.now, |at| at.0).as_second();
    let mut found = ctx.wait(ops::metric::usage(&ctx.op, place, (from, to), &group, asked.include_deleted == Some(true)))?;
    if found.is_empty() && group.is_empty() {
        found.insert(Tags::default(), Total::default());
    }
    ctx.charge(found.len() * asked.measurements.len())?;
    let mut results = vec![];
    for measurement in asked.measurements {
        for (its, total) in &found {
            let Some(value) = amount(measurement, total) else { continue };
            results.push(AggregatedUsage { measurement, tags: tags(ctx, *its, by_region), value });
        }
    }
    Ok(results)
}

/// `estimatedUsage`
pub(crate) fn estimated_usage(
    ctx: &Ctx,
    include_deleted: Option<bool>,
    measurements: &[MetricMeasurement],
    place: (Option<&str>, Option<&str>),
) -> Result<Vec<EstimatedUsage>, Fault> {
    let Month { from, to } = Month::of(ctx.op.now);
    // In its first hour a month says nothing yet about the rest of it.
    let so_far = (ctx.op.now.as_second() - from).max(3_600);
    let place = usage_place(place.0, place.1)?;
    let by_project = BTreeSet::from([Tag::Project]);
    let found = ctx.wait(ops::metric::usage(&ctx.op, place, (from, from + so_far), &by_project, include_deleted == Some(true)))?;
    ctx.charge(found.len() * measurements.len())?;
    #[expect(clippy::cast_precision_loss, reason = "seconds of a month")]
    let factor = (to - from) as f64 / so_far as f64;
    let mut results = vec![];
    for measurement in measurements {
        for (tags, total) in &found {
            let (Some(used), Some(project)) = (amount(*measurement, total), tags.project) else { continue };
            results.push(EstimatedUsage { estimated_value: used * factor, measurement: *measurement, project_id: project.to_string() });
        }
    }
    Ok(results)
}
