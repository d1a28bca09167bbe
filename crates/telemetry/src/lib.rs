//! Logs and metrics: append, retain, query, follow. Never in the control database. Metrics are in [`metrics`]; this is about logs: one embedded database file per day, so that retention is deleting
//! files and a query opens the files of its range.
//!
//! One thread writes ([`write`]); it gives every line of a stream its own, growing time and every line a number in the order of storing.
//! Reading happens on the caller's thread ([`read`]) and touches only index entries that can match. Followers ([`follow`]) get what is
//! stored announced, and read from disk what they were too slow for. A replica's output arrives in spool files ([`ingest`]).

mod error;
mod file;
mod follow;
mod ingest;
pub mod metrics;
mod read;
mod requests;
mod retain;
mod scope;
mod spool;
mod write;

use std::collections::BTreeMap;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;

use domain::log::filter::Filter;
use domain::log::{LogLine, LogSource};
use futures_core::Stream;
use jiff::Timestamp;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{mpsc, oneshot};

use file::{FileKey, Reader, Readers};
use ingest::{Position, Spool};
use metrics::Metrics;
use write::{Command, Writer};

pub use error::TelemetryError;
pub use ingest::Ingested;
pub use retain::Purged;
pub use scope::{LogQuery, LogScope, Replay};

/// How many commands wait for the writer before callers have to.
const QUEUED: usize = 64;

/// What the log store has to know.
#[derive(Clone, Debug)]
pub struct TelemetryConfig {
    /// The folder; the files are in `logs`, `requests` and `metrics` in it.
    pub dir: PathBuf,
    /// Files of days longer ago are deleted.
    pub retain_days: u32,
    /// The oldest files are deleted while all together are larger. A quarter is for requests.
    pub retain_bytes: u64,
}

/// The store of logs and metrics. Clones share it; it stops when the last one is dropped.
#[derive(Clone)]
pub struct Telemetry {
    metrics: Arc<Metrics>,
    /// What builds and apps write.
    output: LogStore,
    /// What the edge has answered: apart, so that a busy app costs no other the lines that it wrote.
    requests: LogStore,
}

impl std::fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Telemetry").field("dir", &self.output.shared.dir).finish_non_exhaustive()
    }
}

impl Telemetry {
    /// Opens the store, creating its folders when there are none. Reading works beside another process; writing does not.
    ///
    /// # Errors
    /// The folder cannot be used, or a file is of a newer version.
    pub fn open(config: TelemetryConfig) -> Result<Self, TelemetryError> {
        let for_requests = config.retain_bytes / 4;
        Ok(Self {
            metrics: Arc::new(Metrics::open(config.dir.join("metrics"))?),
            output: LogStore::open(config.dir.join("logs"), config.retain_days, config.retain_bytes - for_requests)?,
            requests: LogStore::open(config.dir.join("requests"), config.retain_days, for_requests)?,
        })
    }

    /// Stores lines. They survive the end of the process once this has returned. A line whose time is not later than that of its stream's
    /// last one gets the next free nanosecond.
    ///
    /// # Errors
    /// The disk refuses. Lines of an earlier day than that of the failure may have been stored.
    pub async fn append(&self, lines: Vec<LogLine>) -> Result<(), TelemetryError> {
        if lines.is_empty() {
            return Ok(());
        }
        let (done, answer) = oneshot::channel();
        self.output.ask(Command::Append { lines, done }).await?;
        answer.await.unwrap_or(Err(TelemetryError::Stopped))
    }

    /// Lines of a range, oldest first. A filter that speaks of sources and levels alone costs no more than its result; one that speaks of
    /// text has to read, and then the other tasks of the thread are moved away where the runtime can do that.
    ///
    /// # Errors
    /// The disk refuses, or a text is so rare that a million lines were read without finding enough.
    pub fn query(&self, query: &LogQuery) -> Result<Vec<LogLine>, TelemetryError> {
        let shared = &self.store_of(&query.scope).shared;
        let last_seq = shared.last_stored.load(Ordering::Acquire);
        let scan = || read::scan(shared, query, last_seq, read::EXAMINE_LIMIT);
        let scan = if query.filter.reads_lines() { waiting(scan)? } else { scan()? };
        if scan.gave_up { Err(TelemetryError::TooBroad { examined: scan.examined }) } else { Ok(scan.lines) }
    }

    /// Follows a scope. The first item is the replay, at once and possibly empty; then come the lines that are stored from that moment on,
    /// in the order of storing, without a gap and without a repetition. Ends when the store stops, or when lines that the follower was too
    /// slow for cannot be read from disk.
    pub fn follow(&self, scope: LogScope, filter: Filter, replay: Replay) -> impl Stream<Item = Vec<LogLine>> + Send + 'static {
        follow::follow(Arc::clone(&self.store_of(&scope).shared), scope, filter, replay)
    }

    /// Deletes what is too old or too much. Short: files are deleted whole.
    ///
    /// # Errors
    /// The disk refuses, or another process writes here.
    pub fn purge(&self, now: Timestamp) -> Result<Purged, TelemetryError> {
        let metrics = self.metrics.purge(now)?;
        let output = self.output.shared.writer().purge(&self.output.shared, now)?;
        let requests = self.requests.shared.writer().purge(&self.requests.shared, now)?;
        Ok(Purged { files: output.files + requests.files + metrics, bytes: output.bytes + requests.bytes })
    }

    /// What running apps use, and the requests that they answer.
    #[must_use]
    pub fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Brings in what a supervisor has written to its replica's spool since the last time, each line exactly once, and deletes the segments
    /// that are done with.
    ///
    /// # Errors
    /// The disk refuses; the next call goes on where this one stopped.
    pub async fn ingest(&self, source: &LogSource, logs_dir: &Path) -> Result<Ingested, TelemetryError> {
        self.output.ingest(|| Spool::Output(source.clone()), logs_dir).await
    }

    /// Brings in the requests that the edge has written down since the last time, as [`Telemetry::ingest`] does; of each deployment 500 a
    /// second at most.
    ///
    /// # Errors
    /// The disk refuses; the next call goes on where this one stopped.
    pub async fn ingest_requests(&self, region: &str, log_dir: &Path) -> Result<Ingested, TelemetryError> {
        self.requests.ingest(|| Spool::Requests { region: region.to_owned() }, log_dir).await
    }

    fn store_of(&self, scope: &LogScope) -> &LogStore {
        match scope {
            LogScope::Requests { .. } | LogScope::EnvironmentRequests { .. } => &self.requests,
            LogScope::Deployment { .. } | LogScope::Snapshot { .. } | LogScope::Environment { .. } => &self.output,
        }
    }
}

/// Lines in a folder of files, and the thread that writes them.
#[derive(Clone)]
struct LogStore {
    shared: Arc<Shared>,
    // Last: its drop waits for the writer.
    thread: Arc<WriterThread>,
}

impl LogStore {
    fn open(dir: PathBuf, retain_days: u32, retain_bytes: u64) -> Result<Self, TelemetryError> {
        file::make_folder(&dir)?;
        let shared = Shared {
            dir,
            retain_days,
            retain_bytes,
            files: RwLock::default(),
            readers: Readers::default(),
            last_stored: AtomicI64::new(0),
            hubs: follow::Hubs::default(),
            writer: Mutex::default(),
        };
        shared.load()?;
        let shared = Arc::new(shared);
        let (commands, inbox) = mpsc::channel(QUEUED);
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new()
            .name("log-writer".to_owned())
            .spawn(move || write::run(&theirs, inbox))
            .map_err(TelemetryError::io(&shared.dir))?;
        Ok(Self { shared, thread: Arc::new(WriterThread { commands: Some(commands), thread: Some(thread) }) })
    }

    async fn ingest(&self, spool: impl Fn() -> Spool, dir: &Path) -> Result<Ingested, TelemetryError> {
        let mut sum = Ingested::default();
        loop {
            let (done, answer) = oneshot::channel();
            self.ask(Command::Ingest { spool: spool(), dir: dir.to_owned(), done }).await?;
            let chunk = answer.await.unwrap_or(Err(TelemetryError::Stopped))?;
            sum.lines += chunk.ingested.lines;
            sum.unreadable += chunk.ingested.unreadable;
            if !chunk.more {
                return Ok(sum);
            }
        }
    }

    async fn ask(&self, command: Command) -> Result<(), TelemetryError> {
        let commands = self.thread.commands.as_ref().ok_or(TelemetryError::Stopped)?;
        commands.send(command).await.map_err(|_| TelemetryError::Stopped)
    }
}

/// Does what may take long on the caller's thread, whose other tasks are moved away where the runtime can do that.
fn waiting<T>(work: impl FnOnce() -> T) -> T {
    let can_move = Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if can_move { tokio::task::block_in_place(work) } else { work() }
}

/// A time as clients compare it: of fixed width, in UTC (`contracts/railway.md` 3.3).
#[must_use]
pub fn timestamp(nanos: i64) -> String {
    let time = Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or(Timestamp::MAX);
    format!("{time:.9}")
}

/// The writer's thread; ends with the last handle, when all its commands are done.
struct WriterThread {
    commands: Option<mpsc::Sender<Command>>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        drop(self.commands.take());
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the log writer ended abnormally");
        }
    }
}

/// What the writer, readers and followers share.
struct Shared {
    dir: PathBuf,
    retain_days: u32,
    retain_bytes: u64,
    /// Every file and its highest number of a line.
    files: RwLock<BTreeMap<FileKey, i64>>,
    readers: Readers,
    /// The highest number that a committed line may have.
    last_stored: AtomicI64,
    hubs: follow::Hubs,
    writer: Mutex<Writer>,
}

impl Shared {
    fn load(&self) -> Result<(), TelemetryError> {
        let entries = std::fs::read_dir(&self.dir).map_err(TelemetryError::io(&self.dir))?;
        let mut last_stored = 0;
        for entry in entries {
            let name = entry.map_err(TelemetryError::io(&self.dir))?.file_name();
            let Some(key) = name.to_str().and_then(FileKey::parse) else { continue };
            match file::last_seq(&self.path(key)) {
                Ok(None) => {}
                Ok(Some(last)) => {
                    self.files_mut().insert(key, last);
                    last_stored = last_stored.max(last);
                }
                Err(error) if error.is_damage() => self.set_aside(key)?,
                Err(error) => return Err(error),
            }
        }
        self.last_stored.store(last_stored, Ordering::Release);
        Ok(())
    }

    /// Renames a file that cannot be read, so that logging goes on and the operator can look at it.
    fn set_aside(&self, key: FileKey) -> Result<(), TelemetryError> {
        self.remove_file(key);
        file::set_aside(&self.path(key))
    }

    fn size_of(&self, key: FileKey) -> u64 {
        let path = self.path(key);
        [path.with_extension("db-wal"), path].iter().filter_map(|path| std::fs::metadata(path).ok()).map(|meta| meta.len()).sum()
    }

    fn path(&self, key: FileKey) -> PathBuf {
        self.dir.join(key.file_name())
    }

    /// A day goes on in a new file at this size: small enough that deleting one leaves most of the budget in use.
    fn part_bytes(&self) -> u64 {
        (self.retain_bytes / 16).clamp(64 << 10, 512 << 20)
    }

    fn files(&self) -> BTreeMap<FileKey, i64> {
        self.files.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn files_mut(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<FileKey, i64>> {
        self.files.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn add_file(&self, key: FileKey) {
        self.files_mut().entry(key).or_default();
    }

    fn remove_file(&self, key: FileKey) {
        self.files_mut().remove(&key);
        self.readers.forget(key);
    }

    fn reader(&self, key: FileKey) -> Result<Option<Reader<'_>>, TelemetryError> {
        self.readers.reader(&self.path(key), key)
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn database_error(&self, key: FileKey, source: rusqlite::Error) -> TelemetryError {
        TelemetryError::Database { path: self.path(key), source }
    }

    fn positions_in(&self, key: FileKey) -> Result<Vec<(uuid::Uuid, Position)>, TelemetryError> {
        let Some(reader) = self.reader(key)? else { return Ok(vec![]) };
        let read = || -> rusqlite::Result<Vec<_>> {
            let mut statement = reader.prepare_cached("SELECT replica, dir, segment, at, seq FROM positions")?;
            let rows = statement.query_map([], |row| {
                let dir = PathBuf::from(std::ffi::OsString::from_vec(row.get(1)?));
                Ok((uuid::Uuid::from_bytes(row.get(0)?), Position { segment: row.get(2)?, at: row.get(3)?, seq: row.get(4)?, dir }))
            })?;
            rows.collect()
        };
        read().map_err(|source| self.database_error(key, source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_sort_as_text() {
        assert_eq!(timestamp(1_795_246_108_000_000_001), "2026-11-21T07:28:28.000000001Z");
        assert_eq!(timestamp(0), "1970-01-01T00:00:00.000000000Z");
        assert_eq!(timestamp(spool::MAX_NANOS).len(), timestamp(0).len());
    }
}
