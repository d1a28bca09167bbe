//! Reading: a merge of the index entries of every source that a query can match, file by file from the wanted end.

use std::collections::{BinaryHeap, HashMap, VecDeque};
use std::sync::Arc;

use domain::log::filter::{Filter, Reach};
use domain::log::{LogKind, LogLine, LogSource, Severity};
use domain::{DeploymentId, EnvironmentId, ProjectId, ReplicaId, ServiceId, SnapshotId, WorkspaceId};
use rusqlite::{Connection, Row};
use uuid::Uuid;

use crate::file::{FileKey, Reader, day_of};
use crate::scope::{Topic, What};
use crate::{LogQuery, Shared, TelemetryError};

/// A search ends after so many lines: about as long as a person waits.
pub(crate) const EXAMINE_LIMIT: usize = 1_000_000;
/// A result ends after so much text.
const RESULT_BYTES: usize = 16 << 20;
/// How far one step of a catch-up looks.
const CATCH_UP_STEP: i64 = 1024;

const SEVERITIES: [Severity; 4] = [Severity::Debug, Severity::Info, Severity::Warn, Severity::Error];

const PAGE_NEWEST: &str = "SELECT nanos, seq FROM lines
    WHERE source = ?1 AND severity = ?2 AND nanos > ?3 AND nanos < ?4 AND seq <= ?5 ORDER BY nanos DESC LIMIT ?6";
const PAGE_OLDEST: &str = "SELECT nanos, seq FROM lines
    WHERE source = ?1 AND severity = ?2 AND nanos > ?3 AND nanos < ?4 AND seq <= ?5 ORDER BY nanos LIMIT ?6";
const LINE: &str = "SELECT message, attributes FROM lines WHERE seq = ?1";
const STEP: &str = "SELECT seq, source, severity, nanos, message, attributes FROM lines WHERE seq > ?1 AND seq <= ?2 ORDER BY seq";
const SOURCE: &str = "SELECT id, workspace, project, environment, service, deployment, snapshot, replica, kind FROM sources";

/// What a search has found.
#[derive(Debug)]
pub(crate) struct Scan {
    /// Oldest first.
    pub(crate) lines: Vec<LogLine>,
    /// How many lines were looked at.
    pub(crate) examined: usize,
    /// There was more to look at than the search was allowed to.
    pub(crate) gave_up: bool,
}

/// Answers a query from the lines up to `last_seq`.
pub(crate) fn scan(shared: &Shared, query: &LogQuery, last_seq: i64, examine_limit: usize) -> Result<Scan, TelemetryError> {
    let mut scan = Scan { lines: vec![], examined: 0, gave_up: false };
    if query.limit == 0 {
        return Ok(scan);
    }
    let mut days: Vec<Vec<FileKey>> = vec![];
    for key in shared.files().into_keys() {
        match days.last_mut().filter(|day| day.iter().all(|other| other.day == key.day)) {
            Some(day) => day.push(key),
            None => days.push(vec![key]),
        }
    }
    let wanted = |keys: &Vec<FileKey>| {
        let day = keys[0].day;
        query.after.is_none_or(|after| day >= day_of(after)) && query.before.is_none_or(|before| day <= day_of(before))
    };
    days.retain(wanted);
    if query.newest {
        days.reverse();
    }
    let mut bytes = 0;
    for keys in days {
        let mut readers = vec![];
        for key in keys {
            readers.extend(shared.reader(key)?.map(|reader| (key, reader)));
        }
        if !scan_day(shared, query, last_seq, examine_limit, &readers, (&mut scan, &mut bytes))? {
            break;
        }
    }
    if query.newest {
        scan.lines.reverse();
    }
    Ok(scan)
}

/// Merges one day's files into the result; `false` when the result is complete.
fn scan_day(
    shared: &Shared,
    query: &LogQuery,
    last_seq: i64,
    examine_limit: usize,
    readers: &[(FileKey, Reader<'_>)],
    (scan, bytes): (&mut Scan, &mut usize),
) -> Result<bool, TelemetryError> {
    let mut arms = vec![];
    for (key, reader) in readers {
        let found = arms_of(reader, query, last_seq).map_err(|source| shared.database_error(*key, source))?;
        arms.extend(found.into_iter().map(|arm| (*key, reader, arm)));
    }
    let page = (query.limit / arms.len().max(1)).clamp(8, 512);
    let mut heap = BinaryHeap::new();
    for (at, (key, reader, arm)) in arms.iter_mut().enumerate() {
        let head = arm.head(reader, query.newest, page).map_err(|source| shared.database_error(*key, source))?;
        heap.extend(head.map(|head| (in_order(head, query.newest), at)));
    }
    while let Some((_, at)) = heap.pop() {
        let (key, reader, arm) = &mut arms[at];
        if scan.examined >= examine_limit {
            scan.gave_up = true;
            return Ok(false);
        }
        let mut step = || -> rusqlite::Result<_> {
            let line = match arm.waiting.pop_front() {
                Some((nanos, seq)) => read_line(reader, arm, nanos, seq)?,
                None => None,
            };
            Ok((line, arm.head(reader, query.newest, page)?))
        };
        let (line, next) = step().map_err(|source| shared.database_error(*key, source))?;
        heap.extend(next.map(|head| (in_order(head, query.newest), at)));
        scan.examined += 1;
        let Some(line) = line.filter(|line| !arms[at].2.check || query.filter.matches(line)) else { continue };
        *bytes += line.message.len() + line.attributes.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        scan.lines.push(line);
        if scan.lines.len() >= query.limit || *bytes >= RESULT_BYTES {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The heap gives its greatest first; times are never negative.
fn in_order((nanos, seq): (i64, i64), newest: bool) -> (i64, i64) {
    if newest { (nanos, seq) } else { (-nanos, -seq) }
}

/// The index entries of one source and one severity within a file, read page by page.
struct Arm {
    id: i64,
    source: Arc<LogSource>,
    severity: Severity,
    /// Each line has to be asked about.
    check: bool,
    after: i64,
    before: i64,
    last_seq: i64,
    waiting: VecDeque<(i64, i64)>,
    exhausted: bool,
}

impl Arm {
    /// The next entry, fetching a page of them when none is at hand.
    fn head(&mut self, connection: &Connection, newest: bool, page: usize) -> rusqlite::Result<Option<(i64, i64)>> {
        if self.waiting.is_empty() && !self.exhausted {
            let mut statement = connection.prepare_cached(if newest { PAGE_NEWEST } else { PAGE_OLDEST })?;
            let values =
                (self.id, stored_severity(self.severity), self.after, self.before, self.last_seq, i64::try_from(page).unwrap_or(i64::MAX));
            let rows = statement.query_map(values, |row| Ok((row.get(0)?, row.get(1)?)))?;
            for row in rows {
                self.waiting.push_back(row?);
            }
            self.exhausted = self.waiting.len() < page;
            if let Some((nanos, _)) = self.waiting.back() {
                *(if newest { &mut self.before } else { &mut self.after }) = *nanos;
            }
        }
        Ok(self.waiting.front().copied())
    }
}

fn arms_of(connection: &Connection, query: &LogQuery, last_seq: i64) -> rusqlite::Result<Vec<Arm>> {
    let mut arms = vec![];
    for (id, source) in sources_of(connection, Topic::of(&query.scope))? {
        let source = Arc::new(source);
        for severity in SEVERITIES {
            let reach = query.filter.reach(&source, severity);
            if reach != Reach::Nothing {
                arms.push(Arm {
                    id,
                    source: Arc::clone(&source),
                    severity,
                    check: reach == Reach::Some,
                    after: query.after.unwrap_or(i64::MIN),
                    before: query.before.unwrap_or(i64::MAX),
                    last_seq,
                    waiting: VecDeque::new(),
                    exhausted: false,
                });
            }
        }
    }
    Ok(arms)
}

fn sources_of(connection: &Connection, topic: Topic) -> rusqlite::Result<Vec<(i64, LogSource)>> {
    let (condition, id, kind) = match topic.what {
        What::Deployment(id) => ("deployment = ?2 AND kind = ?3", id.0, stored_kind(LogKind::Deploy)),
        What::Snapshot(id) => ("snapshot = ?2 AND kind = ?3", id.0, stored_kind(LogKind::Build)),
        What::Requests(id) => ("deployment = ?2 AND kind = ?3", id.0, stored_kind(LogKind::Http)),
        What::Environment(id) => ("environment = ?2 AND kind <> ?3", id.0, -1),
    };
    let mut statement = connection.prepare_cached(&format!("{SOURCE} WHERE workspace = ?1 AND {condition}"))?;
    let rows = statement.query_map((topic.workspace.0.as_bytes(), id.as_bytes(), kind), read_source)?;
    rows.collect()
}

fn read_source(row: &Row<'_>) -> rusqlite::Result<(i64, LogSource)> {
    let id = |at| row.get(at).map(Uuid::from_bytes);
    let replica: Vec<u8> = row.get(7)?;
    let source = LogSource {
        workspace_id: WorkspaceId(id(1)?),
        project_id: ProjectId(id(2)?),
        environment_id: EnvironmentId(id(3)?),
        service_id: ServiceId(id(4)?),
        deployment_id: DeploymentId(id(5)?),
        snapshot_id: SnapshotId(id(6)?),
        replica_id: Uuid::from_slice(&replica).ok().map(ReplicaId),
        kind: kind_of(row.get(8)?),
    };
    Ok((row.get(0)?, source))
}

fn read_line(connection: &Connection, arm: &Arm, nanos: i64, seq: i64) -> rusqlite::Result<Option<LogLine>> {
    let mut statement = connection.prepare_cached(LINE)?;
    let mut rows = statement.query([seq])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (message, attributes) = (row.get(0)?, read_attributes(row.get_ref(1)?.as_str_or_null()?));
    Ok(Some(LogLine { nanos, source: LogSource::clone(&arm.source), severity: arm.severity, message, attributes }))
}

/// Written by us as JSON pairs; a text that is none comes from a damaged page and is shown without attributes.
fn read_attributes(json: Option<&str>) -> Vec<(String, String)> {
    json.and_then(|json| serde_json::from_str(json).ok()).unwrap_or_default()
}

/// As stored.
pub(crate) fn stored_severity(severity: Severity) -> i64 {
    match severity {
        Severity::Debug => 0,
        Severity::Info => 1,
        Severity::Warn => 2,
        Severity::Error => 3,
    }
}

/// As stored.
pub(crate) fn stored_kind(kind: LogKind) -> i64 {
    match kind {
        LogKind::Build => 0,
        LogKind::Deploy => 1,
        LogKind::Http => 2,
    }
}

fn kind_of(stored: i64) -> LogKind {
    let kinds = [LogKind::Build, LogKind::Http];
    kinds.into_iter().find(|kind| stored_kind(*kind) == stored).unwrap_or(LogKind::Deploy)
}

/// The next lines of a topic behind `cursor`, in the order in which they were stored, and where to go on: `upto` when all is read.
pub(crate) fn catch_up(
    shared: &Shared,
    topic: Topic,
    filter: &Filter,
    cursor: i64,
    upto: i64,
) -> Result<(Vec<LogLine>, i64), TelemetryError> {
    let end = upto.min(cursor.saturating_add(CATCH_UP_STEP));
    let mut found = vec![];
    for (key, last) in shared.files() {
        if last <= cursor {
            continue;
        }
        let Some(reader) = shared.reader(key)? else { continue };
        step_of(&reader, topic, cursor, end, &mut found).map_err(|source| shared.database_error(key, source))?;
    }
    found.sort_unstable_by_key(|(seq, _)| *seq);
    Ok((found.into_iter().map(|(_, line)| line).filter(|line| filter.matches(line)).collect(), end))
}

fn step_of(connection: &Connection, topic: Topic, cursor: i64, end: i64, found: &mut Vec<(i64, LogLine)>) -> rusqlite::Result<()> {
    let sources: HashMap<i64, LogSource> = sources_of(connection, topic)?.into_iter().collect();
    let mut statement = connection.prepare_cached(STEP)?;
    let mut rows = statement.query([cursor, end])?;
    while let Some(row) = rows.next()? {
        let Some(source) = sources.get(&row.get(1)?) else { continue };
        let stored: i64 = row.get(2)?;
        let severity = SEVERITIES.into_iter().find(|severity| stored_severity(*severity) == stored).unwrap_or(Severity::Info);
        let attributes = read_attributes(row.get_ref(5)?.as_str_or_null()?);
        found.push((row.get(0)?, LogLine { nanos: row.get(3)?, source: source.clone(), severity, message: row.get(4)?, attributes }));
    }
    Ok(())
}

/// The last time of a stream in a file.
pub(crate) fn last_nanos(connection: &Connection, stream: crate::scope::Stream) -> rusqlite::Result<Option<i64>> {
    use crate::scope::Stream;
    let (column, id, kind) = match stream {
        Stream::Build(id) => ("snapshot", id, LogKind::Build),
        Stream::Deploy(id) => ("deployment", id, LogKind::Deploy),
        Stream::Http(id) => ("deployment", id, LogKind::Http),
    };
    let text = format!(
        "SELECT max(latest) FROM (
            SELECT (SELECT max(nanos) FROM lines WHERE source = sources.id AND severity = severities.column1) AS latest
            FROM sources, (VALUES (0), (1), (2), (3)) AS severities WHERE {column} = ?1 AND kind = ?2)"
    );
    connection.prepare_cached(&text)?.query_row((id.as_bytes(), stored_kind(kind)), |row| row.get(0))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use domain::Tenant;

    use super::*;
    use crate::{LogScope, Telemetry, TelemetryConfig};

    fn source(environment: u128, deployment: u128) -> LogSource {
        LogSource {
            workspace_id: WorkspaceId(Uuid::from_u128(1)),
            project_id: ProjectId(Uuid::from_u128(2)),
            environment_id: EnvironmentId(Uuid::from_u128(environment)),
            service_id: ServiceId(Uuid::from_u128(4)),
            deployment_id: DeploymentId(Uuid::from_u128(deployment)),
            snapshot_id: SnapshotId(Uuid::from_u128(6)),
            replica_id: Some(ReplicaId(Uuid::from_u128(deployment))),
            kind: LogKind::Deploy,
        }
    }

    #[tokio::test]
    async fn the_newest_of_many_lines_are_found_without_reading_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let store = Telemetry::open(TelemetryConfig { dir: dir.path().to_owned(), retain_days: 1, retain_bytes: u64::MAX }).unwrap();
        let (start, sources) = (1_795_219_200_000_000_000, [source(3, 10), source(3, 11), source(4, 12)]);
        for thousand in 0..100 {
            let line = |i: i64| LogLine {
                nanos: start + thousand * 1000 + i,
                source: sources[usize::try_from(i % 3).unwrap()].clone(),
                severity: if i % 500 == 1 { Severity::Error } else { Severity::Info },
                message: format!("line {i}"),
                attributes: vec![],
            };
            store.append((0..1000).map(line).collect()).await.unwrap();
        }
        let shared = &store.output.shared;
        let last_seq = shared.last_stored.load(Ordering::Acquire);
        let tenant = Tenant::system(sources[0].workspace_id);
        let environment = LogScope::Environment { tenant, environment: sources[0].environment_id };
        let query = |filter: &str, limit| {
            let filter = Filter::parse(filter).unwrap();
            let query = LogQuery { scope: environment, filter, after: None, before: None, limit, newest: true };
            scan(shared, &query, last_seq, 5000).unwrap()
        };
        let found = query("", 500);
        assert_eq!((found.lines.len(), found.examined, found.gave_up), (500, 500, false));
        let found = query("@level:error", 100);
        assert_eq!((found.lines.len(), found.examined), (100, 100), "errors are found among many other lines");
        let found = query(&format!("@deployment:{}", sources[1].deployment_id), 100);
        assert_eq!((found.lines.len(), found.examined), (100, 100));
        let found = query("rare", 100);
        assert_eq!((found.lines.len(), found.gave_up), (0, true), "a search is bounded");

        let key = *shared.files().keys().next().unwrap();
        let reader = shared.reader(key).unwrap().unwrap();
        for (statement, index) in [
            (PAGE_NEWEST.to_owned(), "SEARCH lines USING COVERING INDEX lines_by_time (source=? AND severity=? AND nanos>? AND nanos<?)"),
            (PAGE_OLDEST.to_owned(), "SEARCH lines USING COVERING INDEX lines_by_time (source=? AND severity=? AND nanos>? AND nanos<?)"),
            (LINE.to_owned(), "SEARCH lines USING INTEGER PRIMARY KEY (rowid=?)"),
            (STEP.to_owned(), "SEARCH lines USING INTEGER PRIMARY KEY (rowid>? AND rowid<?)"),
        ] {
            let mut plan = reader.prepare(&format!("EXPLAIN QUERY PLAN {statement}")).unwrap();
            let parameters = vec![1; plan.parameter_count()];
            let steps = plan.query_map(rusqlite::params_from_iter(parameters), |row| row.get::<_, String>(3)).unwrap();
            assert_eq!(steps.collect::<Result<Vec<_>, _>>().unwrap(), [index], "{statement}");
        }
    }
}
