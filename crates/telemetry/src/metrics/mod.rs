//! Metrics: append, make coarser, retain, query.
//!
//! Measurements of five seconds go into a file per hour; from these are made intervals of three minutes, an hour and a day, each in files
//! of their own, so that retention is deleting files. One process writes; any reads, and neither waits for the other. What is not over yet
//! is made of finer intervals while reading, so that also the series of days has its present point.

mod resolution;
mod rows;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use domain::metric::{MetricSource, Traffic, Usage};
use domain::{DeploymentId, EnvironmentId, ProjectId, ReplicaId, ServiceId, Tenant, Timestamp};

use crate::file::Readers;
use crate::{TelemetryError, waiting};
use resolution::{MetricFile, floor};
use rows::{Rows, Select};
use write::Writer;

pub use resolution::Resolution;
pub use write::Measured;

/// Points of one series that are read at once, at most.
pub const MAX_POINTS: usize = 10_000;

/// Intervals of all sources together that a question about a window reads, at most.
const MAX_ROWS: i64 = 2_000_000;

/// The measurements of running apps.
pub struct Metrics {
    shared: Shared,
    writer: Mutex<Writer>,
}

/// Whose measurements are asked for, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Series {
    /// A service in an environment: the sum over its replicas.
    Instance(EnvironmentId, ServiceId),
    /// A replica.
    Replica(ReplicaId),
}

/// Whose measurements are asked for, all of them.
#[derive(Clone, Copy, Debug)]
pub enum MetricScope {
    /// Everything of a workspace.
    Workspace(Tenant),
    /// Everything of a project.
    Project(Tenant, ProjectId),
    /// Everything of an environment.
    Environment(Tenant, EnvironmentId),
    /// A service in all its environments.
    Service(Tenant, ServiceId),
    /// A service in an environment.
    Instance(Tenant, EnvironmentId, ServiceId),
    /// A deployment.
    Deployment(Tenant, DeploymentId),
}

/// An interval of a series.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Point {
    /// When it began, in seconds since the epoch.
    pub at: i64,
    /// Something ran and was measured. Otherwise the values are zero and the limits those of the next point that was measured.
    pub measured: bool,
    /// Averages over the interval.
    pub usage: Usage,
    /// Bytes that the edge received for it in the interval.
    pub network_rx: f64,
    /// Bytes that the edge sent for it in the interval.
    pub network_tx: f64,
}

/// What was used in a window, added up.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Total {
    /// Use times the seconds that it was measured for: core seconds, byte seconds.
    pub usage: Usage,
    /// Bytes that the edge received.
    pub network_rx: f64,
    /// Bytes that the edge sent.
    pub network_tx: f64,
}

impl Total {
    /// Adds up, field by field.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            usage: self.usage.plus(other.usage),
            network_rx: self.network_rx + other.network_rx,
            network_tx: self.network_tx + other.network_tx,
        }
    }
}

/// By what a range is told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MetricTag {
    /// The project.
    Project,
    /// The environment.
    Environment,
    /// The service.
    Service,
    /// The deployment.
    Deployment,
    /// The replica.
    Replica,
}

/// What a part of a range has in common: only what was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MetricTags {
    /// The project.
    pub project: Option<ProjectId>,
    /// The environment.
    pub environment: Option<EnvironmentId>,
    /// The service.
    pub service: Option<ServiceId>,
    /// The deployment.
    pub deployment: Option<DeploymentId>,
    /// The replica.
    pub replica: Option<ReplicaId>,
}

/// A window of time.
#[derive(Clone, Copy, Debug)]
pub struct MetricWindow {
    /// The first moment, in seconds since the epoch.
    pub from: i64,
    /// The moment behind the last, in seconds since the epoch.
    pub to: i64,
    /// The length of an interval in seconds; where measurements are not kept so finely, points are further apart.
    pub step: i64,
}

/// The requests of an interval that were answered with one status.
#[derive(Clone, Debug, PartialEq)]
pub struct TrafficPoint {
    /// When the interval began, in seconds since the epoch.
    pub at: i64,
    /// The status of the answers.
    pub status: u16,
    /// How many, how large, how long.
    pub traffic: Traffic,
}

impl Metrics {
    /// Opens the folder, creating it when there is none.
    pub(crate) fn open(dir: PathBuf) -> Result<Self, TelemetryError> {
        crate::file::make_folder(&dir)?;
        Ok(Self { shared: Shared { dir, readers: Readers::default() }, writer: Mutex::default() })
    }

    /// Stores measurements. Doing it twice for the same moment changes nothing. Blocks for as long as the disk takes.
    ///
    /// # Errors
    /// The disk refuses, or another process writes these metrics.
    pub fn record(&self, measured: Measured) -> Result<(), TelemetryError> {
        self.writer().record(&self.shared, measured)
    }

    /// The last interval of which traffic is stored, in seconds since the epoch; 0 when there is none.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn traffic_stored(&self) -> Result<i64, TelemetryError> {
        for file in self.shared.files()?.into_iter().rev().filter(|file| file.resolution == Resolution::FiveSeconds) {
            if let Some(newest) = self.shared.in_file(file, rows::newest_traffic)?.flatten() {
                return Ok(newest);
            }
        }
        Ok(0)
    }

    /// The newest `limit` intervals of each series, newest first, exactly so many ([`MAX_POINTS`] at most): where nothing ran, a point
    /// says so. All series end at the same interval. While it reads, the other tasks of the thread are moved away.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn series(
        &self,
        tenant: Tenant,
        wanted: &[Series],
        resolution: Resolution,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Vec<Point>>, TelemetryError> {
        waiting(|| self.read_series(tenant, wanted, resolution, limit, now))
    }

    fn read_series(
        &self,
        tenant: Tenant,
        wanted: &[Series],
        resolution: Resolution,
        limit: usize,
        now: Timestamp,
    ) -> Result<Vec<Vec<Point>>, TelemetryError> {
        let (step, limit) = (resolution.seconds(), limit.min(MAX_POINTS));
        let present = resolution.floor(now.as_second());
        let from = present - step * (i64::try_from(limit).unwrap_or(0) + 3);
        let select = Select::Named { workspace: tenant.workspace(), wanted: wanted.iter().copied().collect() };
        let mut rows = Rows::new();
        let mut reading = Reading { files: self.shared.files()?, asked: 0, most: i64::MAX };
        self.shared.load(&mut reading, resolution, &select, (from, present + step), &mut rows)?;
        let mut parts: BTreeMap<Series, Vec<rows::SourceRows>> = BTreeMap::new();
        for (source, rows) in rows {
            parts.entry(Series::of(&source)).or_default().push(rows);
        }
        let found: BTreeMap<Series, Vec<Point>> =
            parts.into_iter().map(|(series, rows)| (series, points(rows.into_iter(), step))).collect();
        let newest = found.values().filter_map(|points| points.last()).map(|point| point.at).max();
        // The interval that was over a moment ago may not be stored yet.
        let last = newest.filter(|at| *at >= present - 3 * step).unwrap_or(present - step);
        let points = |series: &Series| found.get(series).map_or(&[][..], Vec::as_slice);
        Ok(wanted.iter().map(|series| padded(points(series), last, step, limit)).collect())
    }

    /// The measured intervals of a window, oldest first, added up over everything with the same tags. While it reads, the other tasks of
    /// the thread are moved away.
    ///
    /// # Errors
    /// The disk refuses, or the window has too many intervals of too many sources.
    pub fn range(
        &self,
        scope: MetricScope,
        window: MetricWindow,
        group: &BTreeSet<MetricTag>,
    ) -> Result<Vec<(MetricTags, Vec<Point>)>, TelemetryError> {
        let by_replica = group.contains(&MetricTag::Replica) || group.contains(&MetricTag::Deployment);
        let step = window.step.max(Resolution::FiveSeconds.seconds());
        let rows = waiting(|| self.window_rows(&scope.select(!by_replica), window))?;
        let mut groups: BTreeMap<MetricTags, Vec<rows::SourceRows>> = BTreeMap::new();
        for (source, rows) in rows {
            groups.entry(MetricTags::of(&source, group)).or_default().push(rows.folded(step));
        }
        Ok(groups.into_iter().map(|(tags, rows)| (tags, points(rows.into_iter(), step))).collect())
    }

    /// What was used in a window by everything with the same tags together. Time in which nothing was measured does not count. While it
    /// reads, the other tasks of the thread are moved away.
    ///
    /// # Errors
    /// The disk refuses, or the window has too many intervals of too many sources.
    pub fn totals(
        &self,
        scope: MetricScope,
        window: MetricWindow,
        group: &BTreeSet<MetricTag>,
    ) -> Result<BTreeMap<MetricTags, Total>, TelemetryError> {
        let by_replica = group.contains(&MetricTag::Replica) || group.contains(&MetricTag::Deployment);
        let rows = waiting(|| self.window_rows(&scope.select(!by_replica), window))?;
        let mut totals: BTreeMap<MetricTags, Total> = BTreeMap::new();
        for (source, rows) in rows {
            let total = totals.entry(MetricTags::of(&source, group)).or_default();
            *total = total.plus(rows.total());
        }
        Ok(totals)
    }

    /// The requests of a window by interval and status, oldest first; what was carried without requests is left out. While it reads, the other tasks of the thread are moved away.
    ///
    /// # Errors
    /// The disk refuses, or the window has too many intervals of too many sources.
    pub fn traffic(&self, scope: MetricScope, window: MetricWindow) -> Result<Vec<TrafficPoint>, TelemetryError> {
        let step = window.step.max(Resolution::FiveSeconds.seconds());
        let mut sums: BTreeMap<(i64, u16), Traffic> = BTreeMap::new();
        let rows = waiting(|| self.window_rows(&scope.select(true), window))?;
        for rows in rows.into_values() {
            for (key, traffic) in rows.folded(step).traffic {
                sums.entry(key).or_default().merge(&traffic);
            }
        }
        let asked = sums.into_iter().filter(|(_, traffic)| traffic.requests > 0);
        Ok(asked.map(|((at, status), traffic)| TrafficPoint { at, status, traffic }).collect())
    }

    fn window_rows(&self, select: &Select, window: MetricWindow) -> Result<Rows, TelemetryError> {
        let mut reading = Reading { files: self.shared.files()?, asked: 0, most: MAX_ROWS };
        let resolution = resolution_for(&reading.files, window);
        let mut rows = Rows::new();
        self.shared.load(&mut reading, resolution, select, (resolution.floor(window.from), window.to), &mut rows)?;
        Ok(rows)
    }

    /// Deletes what is too old.
    pub(crate) fn purge(&self, now: Timestamp) -> Result<usize, TelemetryError> {
        let mut writer = self.writer();
        writer.claim(&self.shared)?;
        let mut deleted = 0;
        for file in self.shared.files()? {
            if file.ends() + file.resolution.kept() <= now.as_second() {
                writer.release(file);
                self.shared.delete(file)?;
                deleted += 1;
            }
        }
        Ok(deleted)
    }

    fn writer(&self) -> std::sync::MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The finest resolution that still has the beginning of the window, but no finer one than is asked for.
fn resolution_for(files: &BTreeSet<MetricFile>, window: MetricWindow) -> Resolution {
    let newest = files.iter().map(|file| file.ends()).max().unwrap_or(window.to).min(window.to);
    let fits = |resolution: &Resolution| resolution.seconds() <= window.step && window.from >= newest - resolution.kept();
    let coarsest_fitting = Resolution::ALL.into_iter().rev().find(fits);
    let kept = |resolution: &Resolution| window.from >= newest - resolution.kept();
    coarsest_fitting.or_else(|| Resolution::ALL.into_iter().find(kept)).unwrap_or(Resolution::OneDay)
}

impl Series {
    fn of(source: &MetricSource) -> Self {
        match source.replica {
            Some((_, replica)) => Self::Replica(replica),
            None => Self::Instance(source.environment_id, source.service_id),
        }
    }
}

impl MetricScope {
    fn select(self, whole: bool) -> Select {
        let (tenant, columns, whole) = match self {
            Self::Workspace(tenant) => (tenant, vec![], whole),
            Self::Project(tenant, project) => (tenant, vec![("project", project.0)], whole),
            Self::Environment(tenant, environment) => (tenant, vec![("environment", environment.0)], whole),
            Self::Service(tenant, service) => (tenant, vec![("service", service.0)], whole),
            Self::Instance(tenant, environment, service) => (tenant, vec![("environment", environment.0), ("service", service.0)], whole),
            // Services as a whole are not told apart by deployment.
            Self::Deployment(tenant, deployment) => (tenant, vec![("deployment", deployment.0)], false),
        };
        Select::Of { workspace: tenant.workspace(), columns, whole }
    }
}

impl MetricTags {
    fn of(source: &MetricSource, group: &BTreeSet<MetricTag>) -> Self {
        Self {
            project: group.contains(&MetricTag::Project).then_some(source.project_id),
            environment: group.contains(&MetricTag::Environment).then_some(source.environment_id),
            service: group.contains(&MetricTag::Service).then_some(source.service_id),
            deployment: source.replica.map(|(deployment, _)| deployment).filter(|_| group.contains(&MetricTag::Deployment)),
            replica: source.replica.map(|(_, replica)| replica).filter(|_| group.contains(&MetricTag::Replica)),
        }
    }
}

/// Adds up rows of the same intervals over all sources, oldest first.
fn points(rows: impl Iterator<Item = rows::SourceRows>, step: i64) -> Vec<Point> {
    let mut sums: BTreeMap<i64, Point> = BTreeMap::new();
    for rows in rows {
        for row in &rows.usage {
            let at = floor(row.at, step);
            let point = sums.entry(at).or_insert(Point { at, ..Point::default() });
            point.measured = true;
            point.usage = point.usage.plus(row.usage);
        }
        for ((at, _), traffic) in &rows.traffic {
            let at = floor(*at, step);
            let point = sums.entry(at).or_insert(Point { at, ..Point::default() });
            // Bytes of an interval are far below the 2^53 from which on this would be inexact.
            #[expect(clippy::cast_precision_loss)]
            let (rx, tx) = (traffic.rx_bytes as f64, traffic.tx_bytes as f64);
            point.network_rx += rx;
            point.network_tx += tx;
        }
    }
    sums.into_values().collect()
}

/// Exactly `limit` points back from `last`.
fn padded(points: &[Point], last: i64, step: i64, limit: usize) -> Vec<Point> {
    let known: BTreeMap<i64, &Point> = points.iter().map(|point| (point.at, point)).collect();
    let mut limits = points.iter().rev().find(|point| point.measured).map(|point| point.usage).unwrap_or_default();
    let mut series = Vec::with_capacity(limit);
    for back in 0..i64::try_from(limit).unwrap_or(0) {
        let at = last - back * step;
        let mut point = known.get(&at).map_or(Point { at, ..Point::default() }, |point| **point);
        if point.measured {
            limits = point.usage;
        } else {
            point.usage.cpu_limit = limits.cpu_limit;
            point.usage.memory_limit = limits.memory_limit;
        }
        series.push(point);
    }
    series
}

/// A question on its way through the files.
struct Reading {
    /// Those that there were when it began.
    files: BTreeSet<MetricFile>,
    /// Intervals of sources so far.
    asked: i64,
    most: i64,
}

/// What the writer and readers share.
struct Shared {
    dir: PathBuf,
    readers: Readers<MetricFile>,
}

impl Shared {
    fn path(&self, file: MetricFile) -> PathBuf {
        self.dir.join(file.name())
    }

    /// The files that there are, by resolution and age. Looked up each time: another process may be the one that writes.
    fn files(&self) -> Result<BTreeSet<MetricFile>, TelemetryError> {
        let entries = std::fs::read_dir(&self.dir).map_err(TelemetryError::io(&self.dir))?;
        let mut files = BTreeSet::new();
        for entry in entries {
            let name = entry.map_err(TelemetryError::io(&self.dir))?.file_name();
            files.extend(name.to_str().and_then(MetricFile::parse));
        }
        Ok(files)
    }

    /// Up to where a resolution has been made; 0 when it has not.
    fn made_upto(&self, files: &BTreeSet<MetricFile>, resolution: Resolution) -> Result<i64, TelemetryError> {
        let Some(newest) = files.iter().rfind(|file| file.resolution == resolution) else { return Ok(0) };
        Ok(self.in_file(*newest, rows::made_upto)?.unwrap_or(0))
    }

    /// Rows of `from..to`; what is not made yet comes from finer intervals.
    fn load(
        &self,
        reading: &mut Reading,
        resolution: Resolution,
        select: &Select,
        (from, to): (i64, i64),
        rows: &mut Rows,
    ) -> Result<(), TelemetryError> {
        let Some(finer) = resolution.finer() else { return self.load_stored(reading, resolution, select, (from, to), rows) };
        let made = self.made_upto(&reading.files, resolution)?;
        self.load_stored(reading, resolution, select, (from, to.min(made)), rows)?;
        let rest = from.max(made);
        if rest < to {
            let mut fine = Rows::new();
            self.load(reading, finer, select, (rest, to), &mut fine)?;
            for (source, tail) in fine {
                rows.entry(source).or_default().extend(tail.folded(resolution.seconds()));
            }
        }
        Ok(())
    }

    fn load_stored(
        &self,
        reading: &mut Reading,
        resolution: Resolution,
        select: &Select,
        (from, to): (i64, i64),
        rows: &mut Rows,
    ) -> Result<(), TelemetryError> {
        let mut found = vec![];
        for file in reading.files.iter().filter(|file| file.resolution == resolution && file.begins < to && file.ends() > from) {
            let sources = self.in_file(*file, |connection| select.sources(connection))?.unwrap_or_default();
            let intervals = (to.min(file.ends()) - from.max(file.begins)) / resolution.seconds() + 1;
            reading.asked = reading.asked.saturating_add(intervals.saturating_mul(i64::try_from(sources.len()).unwrap_or(i64::MAX)));
            found.push((*file, sources));
        }
        if reading.asked > reading.most {
            return Err(TelemetryError::TooMany { asked: reading.asked, most: reading.most });
        }
        for (file, sources) in found {
            let parts = self.in_file(file, |connection| rows::read(connection, sources, from, to))?;
            for (source, part) in parts.into_iter().flatten() {
                rows.entry(source).or_default().extend(part);
            }
        }
        Ok(())
    }

    /// Reads from a file; `None` when it is gone, or not finished by the one who makes it.
    fn in_file<T>(
        &self,
        file: MetricFile,
        read: impl FnOnce(&rusqlite::Connection) -> rusqlite::Result<T>,
    ) -> Result<Option<T>, TelemetryError> {
        let path = self.path(file);
        let Some(reader) = self.readers.reader(&path, file)? else { return Ok(None) };
        match crate::file::version(&reader).map_err(TelemetryError::database(&path))? {
            0 => Ok(None),
            1..=rows::VERSION => read(&reader).map(Some).map_err(TelemetryError::database(&path)),
            _ => Err(TelemetryError::Newer { path }),
        }
    }

    fn delete(&self, file: MetricFile) -> Result<(), TelemetryError> {
        self.readers.forget(file);
        crate::file::delete(&self.path(file))
    }

    /// Renames a file that cannot be read, so that measuring goes on and the operator can look at it.
    fn set_aside(&self, file: MetricFile) -> Result<(), TelemetryError> {
        self.readers.forget(file);
        crate::file::set_aside(&self.path(file))
    }
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}
