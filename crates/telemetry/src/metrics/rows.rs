//! Rows of a metrics file: what is stored of one source and one interval.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use domain::metric::{Histogram, INTERVAL, MetricSource, Traffic, Usage};
use domain::{DeploymentId, EnvironmentId, ProjectId, ReplicaId, ServiceId, WorkspaceId};
use rusqlite::types::ToSql;
use rusqlite::{Connection, Row};
use uuid::Uuid;

use super::resolution::floor;
use super::{Series, Total};
use crate::file::version;

/// `weight` is how many measurements a row stands for. `upto` is where the intervals end that have been made of finer ones.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE sources (
        id INTEGER PRIMARY KEY,
        workspace BLOB NOT NULL, project BLOB NOT NULL, environment BLOB NOT NULL, service BLOB NOT NULL,
        deployment BLOB NOT NULL, replica BLOB NOT NULL,
        UNIQUE (replica, service, environment, deployment, project, workspace)
    ) STRICT;
    CREATE INDEX sources_by_environment ON sources (environment, service);
    CREATE INDEX sources_by_deployment ON sources (deployment);
    CREATE TABLE usage (
        source INTEGER NOT NULL, at INTEGER NOT NULL, weight REAL NOT NULL,
        cpu REAL NOT NULL, cpu_limit REAL NOT NULL, memory REAL NOT NULL, memory_limit REAL NOT NULL,
        disk REAL NOT NULL, ephemeral_disk REAL NOT NULL, connections REAL NOT NULL, backups REAL NOT NULL DEFAULT 0,
        PRIMARY KEY (source, at)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE traffic (
        source INTEGER NOT NULL, at INTEGER NOT NULL, status INTEGER NOT NULL,
        requests INTEGER NOT NULL, rx INTEGER NOT NULL, tx INTEGER NOT NULL, durations BLOB NOT NULL,
        PRIMARY KEY (source, at, status)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE made (upto INTEGER NOT NULL) STRICT;
    INSERT INTO made VALUES (0);
    PRAGMA user_version = 2;";

/// The version of the tables that this server makes; it reads those before it, too.
pub(crate) const VERSION: i64 = 2;

/// What a file of version 1 lacks. Until something is written to it, it is read as it is.
const SECOND: &str = "BEGIN; ALTER TABLE usage ADD COLUMN backups REAL NOT NULL DEFAULT 0; PRAGMA user_version = 2; COMMIT;";

const SOURCES: &str = "SELECT id, workspace, project, environment, service, deployment, replica FROM sources";
const SOURCE_ID: &str = "INSERT INTO sources (workspace, project, environment, service, deployment, replica)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6) ON CONFLICT DO UPDATE SET replica = excluded.replica RETURNING id";
const USAGE: &str = "SELECT at, weight, cpu, cpu_limit, memory, memory_limit, disk, ephemeral_disk, connections, backups FROM usage
    WHERE source = ?1 AND at >= ?2 AND at < ?3 ORDER BY at";
const USAGE_OF_FIRST: &str = "SELECT at, weight, cpu, cpu_limit, memory, memory_limit, disk, ephemeral_disk, connections, 0.0 FROM usage
    WHERE source = ?1 AND at >= ?2 AND at < ?3 ORDER BY at";
const TRAFFIC: &str = "SELECT at, status, requests, rx, tx, durations FROM traffic
    WHERE source = ?1 AND at >= ?2 AND at < ?3 ORDER BY at, status";
const USAGE_SET: &str =
    "INSERT OR REPLACE INTO usage (source, at, weight, cpu, cpu_limit, memory, memory_limit, disk, ephemeral_disk, connections, backups)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
const TRAFFIC_SET: &str =
    "INSERT OR REPLACE INTO traffic (source, at, status, requests, rx, tx, durations) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

/// Brings the tables of a file to write to up to date.
pub(crate) fn migrate(connection: &Connection) -> rusqlite::Result<()> {
    if version(connection)? < VERSION { connection.execute_batch(SECOND) } else { Ok(()) }
}

/// What a source used in an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct UsageRow {
    pub(crate) at: i64,
    /// How many measurements the average is made of.
    pub(crate) weight: f64,
    pub(crate) usage: Usage,
}

/// The rows of one source, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct SourceRows {
    pub(crate) usage: Vec<UsageRow>,
    pub(crate) traffic: BTreeMap<(i64, u16), Traffic>,
}

pub(crate) type Rows = HashMap<MetricSource, SourceRows>;

impl SourceRows {
    /// The same in intervals of `step` seconds: averages of usage, sums of traffic.
    pub(crate) fn folded(self, step: i64) -> Self {
        let mut usage: Vec<UsageRow> = vec![];
        for row in self.usage {
            let at = floor(row.at, step);
            match usage.last_mut() {
                Some(last) if last.at == at => {
                    let weight = last.weight + row.weight;
                    last.usage = last.usage.times(last.weight / weight).plus(row.usage.times(row.weight / weight));
                    last.weight = weight;
                }
                _ => usage.push(UsageRow { at, ..row }),
            }
        }
        let mut traffic = BTreeMap::<(i64, u16), Traffic>::new();
        for ((at, status), one) in self.traffic {
            traffic.entry((floor(at, step), status)).or_default().merge(&one);
        }
        Self { usage, traffic }
    }

    /// All of it together.
    pub(crate) fn total(&self) -> Total {
        // Seconds of a measurement, and bytes, are far below the 2^53 from which on this would be inexact.
        #[expect(clippy::cast_precision_loss)]
        let (seconds, bytes) = (INTERVAL as f64, |count: u64| count as f64);
        let mut total = Total::default();
        for row in &self.usage {
            total.usage = total.usage.plus(row.usage.times(row.weight * seconds));
        }
        for traffic in self.traffic.values() {
            total.network_rx += bytes(traffic.rx_bytes);
            total.network_tx += bytes(traffic.tx_bytes);
        }
        total
    }

    /// Adds later rows.
    pub(crate) fn extend(&mut self, later: Self) {
        self.usage.extend(later.usage);
        self.traffic.extend(later.traffic);
    }
}

/// Which sources are meant.
#[derive(Clone, Debug)]
pub(crate) enum Select {
    /// All that there are.
    Everything,
    /// Those of a workspace with these names.
    Named { workspace: WorkspaceId, wanted: BTreeSet<Series> },
    /// Those of a workspace, narrowed by conditions on columns. `whole`: services as a whole instead of replicas.
    Of { workspace: WorkspaceId, columns: Vec<(&'static str, Uuid)>, whole: bool },
}

impl Select {
    /// The matching sources of a file.
    pub(crate) fn sources(&self, connection: &Connection) -> rusqlite::Result<Vec<(i64, MetricSource)>> {
        match self {
            Self::Everything => matching(connection, "", &[]),
            Self::Named { workspace, wanted } => named(connection, *workspace, wanted),
            Self::Of { workspace, columns, whole } => {
                let mut text = " WHERE workspace = ?".to_owned();
                let mut values = vec![*workspace.0.as_bytes()];
                for (column, id) in columns {
                    text.push_str(" AND ");
                    text.push_str(column);
                    text.push_str(" = ?");
                    values.push(*id.as_bytes());
                }
                text.push_str(if *whole { " AND replica = x''" } else { " AND replica <> x''" });
                matching(connection, &text, &values)
            }
        }
    }
}

/// Replicas are found by their ids, services as a whole by those of their environments.
fn named(connection: &Connection, workspace: WorkspaceId, wanted: &BTreeSet<Series>) -> rusqlite::Result<Vec<(i64, MetricSource)>> {
    let (mut replicas, mut environments) = (BTreeSet::new(), BTreeSet::new());
    for series in wanted {
        match series {
            Series::Instance(environment, _) => environments.insert(*environment.0.as_bytes()),
            Series::Replica(replica) => replicas.insert(*replica.0.as_bytes()),
        };
    }
    let mut found = vec![];
    for (condition, ids) in [("replica", replicas), ("replica = x'' AND environment", environments)] {
        if ids.is_empty() {
            continue;
        }
        let marks = vec!["?"; ids.len()].join(", ");
        let values: Vec<[u8; 16]> = ids.into_iter().chain([*workspace.0.as_bytes()]).collect();
        found.extend(matching(connection, &format!(" WHERE {condition} IN ({marks}) AND workspace = ?"), &values)?);
    }
    found.retain(|(_, source)| wanted.contains(&Series::of(source)));
    Ok(found)
}

fn matching(connection: &Connection, condition: &str, values: &[[u8; 16]]) -> rusqlite::Result<Vec<(i64, MetricSource)>> {
    let mut statement = connection.prepare_cached(&format!("{SOURCES}{condition}"))?;
    let parameters: Vec<&dyn ToSql> = values.iter().map(|value| value as &dyn ToSql).collect();
    statement.query_map(parameters.as_slice(), read_source)?.collect()
}

fn read_source(row: &Row<'_>) -> rusqlite::Result<(i64, MetricSource)> {
    let id = |at| row.get(at).map(Uuid::from_bytes);
    let optional = |at| row.get(at).map(|bytes: Vec<u8>| Uuid::from_slice(&bytes).ok());
    let replica = optional(5)?.zip(optional(6)?).map(|(deployment, replica)| (DeploymentId(deployment), ReplicaId(replica)));
    let source = MetricSource {
        workspace_id: WorkspaceId(id(1)?),
        project_id: ProjectId(id(2)?),
        environment_id: EnvironmentId(id(3)?),
        service_id: ServiceId(id(4)?),
        replica,
    };
    Ok((row.get(0)?, source))
}

/// The number of a source in a file; it gets one when it is new.
pub(crate) fn source_id(connection: &Connection, source: &MetricSource) -> rusqlite::Result<i64> {
    let (deployment, replica): (&[u8], &[u8]) = match &source.replica {
        Some((deployment, replica)) => (deployment.0.as_bytes(), replica.0.as_bytes()),
        None => (&[], &[]),
    };
    let values = (
        source.workspace_id.0.as_bytes(),
        source.project_id.0.as_bytes(),
        source.environment_id.0.as_bytes(),
        source.service_id.0.as_bytes(),
        deployment,
        replica,
    );
    connection.prepare_cached(SOURCE_ID)?.query_row(values, |row| row.get(0))
}

/// The rows of sources that begin within `from..to`.
pub(crate) fn read(
    connection: &Connection,
    sources: Vec<(i64, MetricSource)>,
    from: i64,
    to: i64,
) -> rusqlite::Result<Vec<(MetricSource, SourceRows)>> {
    let usage = if version(connection)? < VERSION { USAGE_OF_FIRST } else { USAGE };
    sources.into_iter().map(|(id, source)| Ok((source, rows_of(connection, usage, (id, from, to))?))).collect()
}

fn rows_of(connection: &Connection, usage: &str, range: (i64, i64, i64)) -> rusqlite::Result<SourceRows> {
    let mut statement = connection.prepare_cached(usage)?;
    let usage = statement.query_map(range, |row| {
        let usage = Usage {
            cpu: row.get(2)?,
            cpu_limit: row.get(3)?,
            memory: row.get(4)?,
            memory_limit: row.get(5)?,
            disk: row.get(6)?,
            ephemeral_disk: row.get(7)?,
            connections: row.get(8)?,
            backups: row.get(9)?,
        };
        Ok(UsageRow { at: row.get(0)?, weight: row.get(1)?, usage })
    })?;
    let usage = usage.collect::<Result<_, _>>()?;
    let mut statement = connection.prepare_cached(TRAFFIC)?;
    let traffic = statement.query_map(range, |row| {
        let number = |at| row.get::<_, i64>(at).map(|value| u64::try_from(value).unwrap_or(0));
        let durations = decode(row.get_ref(5)?.as_blob()?);
        let traffic = Traffic { requests: number(2)?, rx_bytes: number(3)?, tx_bytes: number(4)?, durations };
        Ok(((row.get(0)?, row.get(1)?), traffic))
    })?;
    Ok(SourceRows { usage, traffic: traffic.collect::<Result<_, _>>()? })
}

pub(crate) fn write_usage(connection: &Connection, source: i64, row: &UsageRow) -> rusqlite::Result<()> {
    let Usage { cpu, cpu_limit, memory, memory_limit, disk, ephemeral_disk, connections, backups } = row.usage;
    let values = (source, row.at, row.weight, cpu, cpu_limit, memory, memory_limit, disk, ephemeral_disk, connections, backups);
    connection.prepare_cached(USAGE_SET)?.execute(values).map(drop)
}

pub(crate) fn write_traffic(connection: &Connection, source: i64, (at, status): (i64, u16), traffic: &Traffic) -> rusqlite::Result<()> {
    let stored = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
    let Traffic { requests, rx_bytes, tx_bytes, durations } = traffic;
    let values = (source, at, status, stored(*requests), stored(*rx_bytes), stored(*tx_bytes), encode(durations));
    connection.prepare_cached(TRAFFIC_SET)?.execute(values).map(drop)
}

/// Up to where a file's intervals have been made of finer ones; 0 before the first.
pub(crate) fn made_upto(connection: &Connection) -> rusqlite::Result<i64> {
    connection.prepare_cached("SELECT upto FROM made")?.query_row([], |row| row.get(0))
}

/// The last interval of a file that has traffic.
pub(crate) fn newest_traffic(connection: &Connection) -> rusqlite::Result<Option<i64>> {
    connection.query_row("SELECT max(at) FROM traffic", [], |row| row.get(0))
}

pub(crate) fn set_made_upto(connection: &Connection, upto: i64) -> rusqlite::Result<()> {
    connection.prepare_cached("UPDATE made SET upto = ?1")?.execute([upto]).map(drop)
}

/// Pairs of numbers, seven bits a byte, the lowest first.
fn encode(durations: &Histogram) -> Vec<u8> {
    let mut bytes = vec![];
    for (bucket, count) in durations.parts() {
        for mut value in [u64::from(bucket), count] {
            while value >= 0x80 {
                bytes.push((value & 0x7f) as u8 | 0x80);
                value >>= 7;
            }
            bytes.push(value as u8);
        }
    }
    bytes
}

/// What cannot be read, in a damaged row, is left out.
fn decode(bytes: &[u8]) -> Histogram {
    let mut values = vec![];
    let (mut value, mut shift) = (0_u64, 0);
    for byte in bytes {
        value |= u64::from(byte & 0x7f).checked_shl(shift).unwrap_or(0);
        shift += 7;
        if byte & 0x80 == 0 {
            values.push(value);
            (value, shift) = (0, 0);
        }
    }
    values.as_chunks::<2>().0.iter().filter_map(|[bucket, count]| Some((u16::try_from(*bucket).ok()?, *count))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_come_back_as_they_were() {
        let histogram: Histogram = [(0, 1), (3, 127), (127, 128), (128, 70_000), (400, u64::from(u32::MAX) * 9)].into_iter().collect();
        assert_eq!(decode(&encode(&histogram)), histogram);
        assert_eq!(decode(&[0xff; 40]), Histogram::default());
    }

    #[test]
    fn folding_weighs_by_measurements() {
        let row = |at, weight, cpu| UsageRow { at, weight, usage: Usage { cpu, ..Usage::default() } };
        let rows = SourceRows { usage: vec![row(0, 1.0, 1.0), row(5, 3.0, 3.0), row(180, 1.0, 9.0)], traffic: BTreeMap::new() };
        let folded = rows.folded(180);
        assert_eq!(folded.usage, [row(0, 4.0, 2.5), row(180, 1.0, 9.0)]);
    }
}
