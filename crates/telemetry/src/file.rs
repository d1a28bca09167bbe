//! One SQLite file per day; a day with very much output goes on in numbered parts, so that retention by size has something to delete.

use std::fs::File;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use jiff::civil::Date;
use rusqlite::{Connection, OpenFlags};

use crate::TelemetryError;

const SCHEMA_VERSION: i64 = 1;
const DAY_NANOS: i64 = 86_400_000_000_000;

/// `seq` counts lines over all files in the order in which they were stored. Within a source it grows together with `nanos`.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE sources (
        id INTEGER PRIMARY KEY,
        workspace BLOB NOT NULL, project BLOB NOT NULL, environment BLOB NOT NULL, service BLOB NOT NULL,
        deployment BLOB NOT NULL, snapshot BLOB NOT NULL, replica BLOB NOT NULL, kind INTEGER NOT NULL,
        UNIQUE (deployment, replica, kind, snapshot, service, environment, project, workspace)
    ) STRICT;
    CREATE INDEX sources_by_snapshot ON sources (snapshot);
    CREATE INDEX sources_by_environment ON sources (environment);
    CREATE TABLE lines (
        seq INTEGER PRIMARY KEY, source INTEGER NOT NULL, severity INTEGER NOT NULL, nanos INTEGER NOT NULL,
        message TEXT NOT NULL, attributes TEXT
    ) STRICT;
    CREATE INDEX lines_by_time ON lines (source, severity, nanos);
    CREATE TABLE positions (
        replica BLOB PRIMARY KEY, dir BLOB NOT NULL, segment INTEGER NOT NULL, at INTEGER NOT NULL, seq INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    PRAGMA user_version = 1;";

/// Names a file. Ordered by time; the lines of a stream are in files of growing keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct FileKey {
    /// Days since the epoch.
    pub(crate) day: i64,
    pub(crate) part: u32,
}

pub(crate) fn day_of(nanos: i64) -> i64 {
    nanos.div_euclid(DAY_NANOS)
}

impl FileKey {
    /// `2026-11-21.db`, `2026-11-21.1.db`.
    pub(crate) fn file_name(self) -> String {
        let seconds = self.day.saturating_mul(86_400);
        let date = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX).strftime("%Y-%m-%d").to_string();
        if self.part == 0 { format!("{date}.db") } else { format!("{date}.{}.db", self.part) }
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        let stem = name.strip_suffix(".db")?;
        let (date, part) = stem.split_once('.').map_or((stem, Some(0)), |(date, part)| (date, part.parse().ok()));
        let key = Self { day: day_of_name(date)?, part: part? };
        (key.file_name() == name).then_some(key)
    }
}

/// The day that a file's name begins with, for whatever lies beside the databases as well.
pub(crate) fn day_of_name(name: &str) -> Option<i64> {
    let date: Date = name.get(..10)?.parse().ok()?;
    let midnight = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp();
    Some(midnight.as_second().div_euclid(86_400))
}

/// Makes a folder for files of ours, which nobody else may read.
pub(crate) fn make_folder(dir: &Path) -> Result<(), TelemetryError> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(TelemetryError::io(dir))
}

/// Makes sure that this is the only process that writes in a folder, for as long as the answer is held.
pub(crate) fn claim(dir: &Path) -> Result<File, TelemetryError> {
    let path = dir.join("lock");
    let file = File::options().create(true).append(true).open(&path).map_err(TelemetryError::io(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(TelemetryError::InUse { path: dir.to_owned() }),
        Err(std::fs::TryLockError::Error(source)) => Err(TelemetryError::Io { path, source }),
    }
}

/// Renames a file that cannot be read, so that work goes on without it and the operator can look at it.
pub(crate) fn set_aside(path: &Path) -> Result<(), TelemetryError> {
    tracing::error!(path = %path.display(), "a file is damaged; it is set aside under a name that ends in .damaged");
    for ending in ["db-wal", "db-shm", "db"] {
        let from = path.with_extension(ending);
        match std::fs::rename(&from, path.with_extension(format!("{ending}.damaged"))) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(TelemetryError::Io { path: from, source: error }),
            _ => {}
        }
    }
    Ok(())
}

/// Deletes a file. The database last: a log without its database could be taken for that of a new file of the same name.
pub(crate) fn delete(path: &Path) -> Result<(), TelemetryError> {
    for path in [path.with_extension("db-wal"), path.with_extension("db-shm"), path.to_owned()] {
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(TelemetryError::Io { path, source: error }),
            _ => {}
        }
    }
    Ok(())
}

/// Opens a file for the writer and makes it, with the tables of `schema`, when it is new.
pub(crate) fn open_for_writing(path: &Path, schema: &str) -> Result<Connection, TelemetryError> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let prepare = || -> rusqlite::Result<Connection> {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA cache_size = -1024;")?;
        if version(&connection)? == 0 {
            connection.execute_batch(&format!("BEGIN; {schema} COMMIT;"))?;
        }
        Ok(connection)
    };
    prepare().map_err(TelemetryError::database(path))
}

/// The version of a file's tables; 0 before they are there.
pub(crate) fn version(connection: &Connection) -> rusqlite::Result<i64> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Opens a file for reading; `None` when it is gone.
pub(crate) fn open_for_reading(path: &Path) -> Result<Option<Connection>, TelemetryError> {
    if !path.try_exists().map_err(TelemetryError::io(path))? {
        return Ok(None);
    }
    let open = || -> rusqlite::Result<Connection> {
        // Not read-only: after a crash the first to come has to recover the write-ahead log.
        let connection = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX)?;
        connection.busy_timeout(Duration::from_secs(5))?;
        connection.execute_batch("PRAGMA query_only = ON; PRAGMA cache_size = -128;")?;
        Ok(connection)
    };
    match open() {
        Ok(connection) => Ok(Some(connection)),
        Err(_) if !path.exists() => Ok(None),
        Err(source) => Err(TelemetryError::Database { path: path.to_owned(), source }),
    }
}

/// The highest `seq` of a file; `None` for a file that was never finished.
pub(crate) fn last_seq(path: &Path) -> Result<Option<i64>, TelemetryError> {
    let Some(connection) = open_for_reading(path)? else { return Ok(None) };
    match version(&connection).map_err(TelemetryError::database(path))? {
        0 => Ok(None),
        SCHEMA_VERSION => connection
            .query_row("SELECT coalesce(max(seq), 0) FROM lines", [], |row| row.get(0))
            .map(Some)
            .map_err(TelemetryError::database(path)),
        _ => Err(TelemetryError::Newer { path: path.to_owned() }),
    }
}

/// Idle connections for reading, least recently used first. Bounded: each holds 128 KiB of pages at most.
pub(crate) struct Readers<K = FileKey>(Mutex<Idle<K>>);

struct Idle<K> {
    connections: Vec<(K, Connection)>,
    /// Raised when a file is deleted: connections that were out at that time are not taken back.
    deletions: u64,
}

const MAX_IDLE: usize = 32;

/// A borrowed connection.
pub(crate) struct Reader<'a, K: Copy + PartialEq = FileKey> {
    readers: &'a Readers<K>,
    key: K,
    deletions: u64,
    /// Taken on drop only.
    connection: Option<Connection>,
}

impl<K> Default for Readers<K> {
    fn default() -> Self {
        Self(Mutex::new(Idle { connections: vec![], deletions: 0 }))
    }
}

impl<K: Copy + PartialEq> Readers<K> {
    /// A connection to the file at `path`; `None` when the file is gone.
    pub(crate) fn reader(&self, path: &Path, key: K) -> Result<Option<Reader<'_, K>>, TelemetryError> {
        let (found, deletions) = {
            let mut idle = self.lock();
            let at = idle.connections.iter().rposition(|(own, _)| *own == key);
            (at.map(|at| idle.connections.remove(at).1), idle.deletions)
        };
        let connection = match found {
            Some(connection) => Some(connection),
            None => open_for_reading(path)?,
        };
        Ok(connection.map(|connection| Reader { readers: self, key, deletions, connection: Some(connection) }))
    }

    pub(crate) fn forget(&self, key: K) {
        let mut idle = self.lock();
        idle.deletions += 1;
        idle.connections.retain(|(own, _)| *own != key);
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Idle<K>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Copy + PartialEq> std::ops::Deref for Reader<'_, K> {
    type Target = Connection;
    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("a connection is taken only when its reader is dropped")
    }
}

impl<K: Copy + PartialEq> Drop for Reader<'_, K> {
    fn drop(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        let mut idle = self.readers.lock();
        if idle.deletions != self.deletions {
            return;
        }
        if idle.connections.len() >= MAX_IDLE {
            idle.connections.remove(0);
        }
        idle.connections.push((self.key, connection));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_tell_day_and_part() {
        let key = FileKey { day: day_of(1_795_246_108_000_000_000), part: 0 };
        assert_eq!(key.file_name(), "2026-11-21.db");
        assert_eq!(FileKey { part: 12, ..key }.file_name(), "2026-11-21.12.db");
        for key in [key, FileKey { part: 12, ..key }, FileKey { day: 0, part: 0 }] {
            assert_eq!(FileKey::parse(&key.file_name()), Some(key));
        }
        for name in ["2026-11-21.db-wal", "2026-11-21.0.db", "2026-11-21.01.db", "lock", "2026-13-01.db", "äääääää.db", ""] {
            assert_eq!(FileKey::parse(name), None, "{name}");
        }
        assert_eq!(day_of_name("2026-11-21.db.damaged"), Some(key.day));
    }
}
