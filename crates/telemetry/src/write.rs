//! Writing: one thread gives every line its time and its place and stores it.

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use domain::log::{LogLine, LogSource};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};

use crate::file::{FileKey, SCHEMA, day_of, open_for_writing};
use crate::follow::Stored;
use crate::ingest::{Chunk, Position, Spool};
use crate::read::{stored_kind, stored_severity};
use crate::requests::Pace;
use crate::scope::Stream;
use crate::spool::MAX_NANOS;
use crate::{Shared, TelemetryError, file, read};

/// How many files are open for writing at once: today's, and yesterday's for lines that come late.
const MAX_OPEN: usize = 2;
/// How many streams, and how many sources of a file, are remembered before they are looked up again.
const MAX_REMEMBERED: usize = 10_000;

/// What the writer's thread is asked for.
pub(crate) enum Command {
    Append { lines: Vec<LogLine>, done: oneshot::Sender<Result<(), TelemetryError>> },
    Ingest { spool: Spool, dir: PathBuf, done: oneshot::Sender<Result<Chunk, TelemetryError>> },
}

/// Serves commands until the last handle is gone, then lets go of the files and of the followers.
pub(crate) fn run(shared: &Arc<Shared>, mut commands: mpsc::Receiver<Command>) {
    while let Some(command) = commands.blocking_recv() {
        let mut writer = shared.writer();
        // Nobody may be waiting any more; the lines are stored all the same.
        match command {
            Command::Append { lines, done } => {
                let stored = writer.append(shared, lines);
                writer.make_room(shared);
                drop(done.send(stored));
            }
            Command::Ingest { spool, dir, done } => {
                let stored = writer.ingest(shared, &spool, &dir);
                writer.make_room(shared);
                drop(done.send(stored));
            }
        }
    }
    *shared.writer() = Writer::default();
    shared.hubs.close();
}

/// The state of writing.
#[derive(Default)]
pub(crate) struct Writer {
    /// Held from the first write on: the numbering of lines bears one writer.
    lock: Option<File>,
    /// Least recently used first.
    open: Vec<(FileKey, OpenFile)>,
    /// The last time of each stream.
    streams: HashMap<Stream, i64>,
    /// How far each replica's spool is read. Loaded before the first use.
    pub(crate) positions: Option<HashMap<uuid::Uuid, Position>>,
    /// How many requests are kept of each deployment.
    pub(crate) pace: Pace,
    /// Written since it was last brought to the disk for sure.
    unsynced: Option<FileKey>,
    /// There is a further file since room was last made.
    pub(crate) grown: bool,
}

struct OpenFile {
    connection: Connection,
    sources: HashMap<LogSource, i64>,
}

/// Where a spool is read up to once lines are stored; `ends` has an entry for every line.
pub(crate) struct Progress<'a> {
    pub(crate) replica: uuid::Uuid,
    pub(crate) dir: &'a Path,
    pub(crate) segment: i64,
    pub(crate) ends: &'a [u64],
}

impl Progress<'_> {
    /// The number of the last line is not known yet.
    fn position(&self, end: u64) -> (uuid::Uuid, Position) {
        let at = i64::try_from(end).unwrap_or(i64::MAX);
        (self.replica, Position { segment: self.segment, at, seq: 0, dir: self.dir.to_owned() })
    }
}

impl Writer {
    fn append(&mut self, shared: &Shared, lines: Vec<LogLine>) -> Result<(), TelemetryError> {
        self.store(shared, lines, None)
    }

    /// Makes sure that this is the only process that writes.
    pub(crate) fn claim(&mut self, shared: &Shared) -> Result<(), TelemetryError> {
        if self.lock.is_none() {
            self.lock = Some(file::claim(&shared.dir)?);
        }
        Ok(())
    }

    /// Stores lines, a transaction for each day that they fall on. A spool's progress is part of the transaction of its lines.
    pub(crate) fn store(
        &mut self,
        shared: &Shared,
        mut lines: Vec<LogLine>,
        progress: Option<&Progress<'_>>,
    ) -> Result<(), TelemetryError> {
        self.claim(shared)?;
        if self.streams.len() >= MAX_REMEMBERED {
            // Only here: all of them are on disk and can be found again.
            self.streams.clear();
        }
        for line in &mut lines {
            line.nanos = self.next_nanos(shared, line)?;
        }
        // Times of a stream grow, so sorting by day keeps the order within it. A spool is one stream: its order stays whole.
        lines.sort_by_key(|line| day_of(line.nanos));
        let mut stored = 0;
        while !lines.is_empty() {
            let day = day_of(lines[0].nanos);
            let later = lines.split_off(lines.partition_point(|line| day_of(line.nanos) == day));
            stored += lines.len();
            let reached = progress.map(|progress| progress.position(progress.ends[stored - 1]));
            self.store_day(shared, day, lines, reached)?;
            lines = later;
        }
        Ok(())
    }

    fn next_nanos(&mut self, shared: &Shared, line: &LogLine) -> Result<i64, TelemetryError> {
        let stream = Stream::of(&line.source);
        let last = match self.streams.get(&stream) {
            Some(last) => *last,
            None => find_last_nanos(shared, stream)?,
        };
        let nanos = line.nanos.clamp(0, MAX_NANOS).max(last + 1);
        self.streams.insert(stream, nanos);
        Ok(nanos)
    }

    fn store_day(
        &mut self,
        shared: &Shared,
        day: i64,
        lines: Vec<LogLine>,
        reached: Option<(uuid::Uuid, Position)>,
    ) -> Result<(), TelemetryError> {
        let key = Self::part_for(shared, day);
        self.grown |= !shared.files().contains_key(&key);
        if self.unsynced.is_some_and(|other| other != key) {
            self.sync(shared)?;
        }
        self.unsynced = Some(key);
        let first_seq = shared.last_stored.load(Ordering::Acquire) + 1;
        let last_seq = first_seq + i64::try_from(lines.len()).unwrap_or(i64::MAX) - 1;
        // A number is never given twice, even when it is unknown what became of a failed transaction.
        let reached = reached.map(|(replica, position)| (replica, Position { seq: last_seq, ..position }));
        let result = insert(self.file(shared, key)?, first_seq, &lines, reached.as_ref());
        shared.files_mut().insert(key, last_seq);
        shared.last_stored.store(last_seq, Ordering::Release);
        if let Err(source) = result {
            self.open.retain(|(own, _)| *own != key);
            self.positions = None;
            let error = shared.database_error(key, source);
            if error.is_damage() {
                shared.set_aside(key)?;
            }
            return Err(error);
        }
        if let (Some(positions), Some((replica, position))) = (&mut self.positions, reached) {
            positions.insert(replica, position);
        }
        let stored = (first_seq..).zip(lines).map(|(seq, line)| Stored { seq, line }).collect();
        shared.hubs.announce(stored);
        Ok(())
    }

    /// The file that takes a day's lines now: the last part, or a new one when that is full.
    fn part_for(shared: &Shared, day: i64) -> FileKey {
        let first = FileKey { day, part: 0 };
        let Some(last) = shared.files().range(first..FileKey { day: day + 1, part: 0 }).next_back().map(|(key, _)| *key) else {
            return first;
        };
        if shared.size_of(last) < shared.part_bytes() { last } else { FileKey { part: last.part + 1, ..last } }
    }

    fn file(&mut self, shared: &Shared, key: FileKey) -> Result<&mut OpenFile, TelemetryError> {
        let found = self.open.iter().position(|(own, _)| *own == key);
        let entry = match found {
            Some(at) => self.open.remove(at),
            None => {
                let connection = open_for_writing(&shared.path(key), SCHEMA)?;
                shared.add_file(key);
                (key, OpenFile { connection, sources: HashMap::new() })
            }
        };
        if self.open.len() >= MAX_OPEN {
            self.open.remove(0);
        }
        self.open.push(entry);
        Ok(&mut self.open.last_mut().expect("an entry was pushed just now").1)
    }

    /// Lets go of a file that is about to be deleted.
    pub(crate) fn release(&mut self, key: FileKey) {
        self.open.retain(|(own, _)| *own != key);
        self.unsynced = self.unsynced.filter(|own| *own != key);
        // The last times of streams are kept: their clients may still hold lines with those times.
    }

    /// Brings what is committed to the disk itself. A commit survives the end of the process without this, but not a power cut.
    pub(crate) fn sync(&mut self, shared: &Shared) -> Result<(), TelemetryError> {
        if let Some(key) = self.unsynced {
            let path = shared.path(key);
            for path in [path.with_extension("db-wal"), path, shared.dir.clone()] {
                match File::open(&path).and_then(|file| file.sync_all()) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(TelemetryError::Io { path, source: error }),
                    _ => {}
                }
            }
            self.unsynced = None;
        }
        Ok(())
    }

    /// Records how far spools are read, apart from lines.
    pub(crate) fn carry(&mut self, shared: &Shared, key: FileKey, positions: &[(uuid::Uuid, Position)]) -> Result<(), TelemetryError> {
        let write = |file: &mut OpenFile| -> rusqlite::Result<()> {
            let transaction = file.connection.transaction()?;
            for (replica, position) in positions {
                write_position(&transaction, *replica, position)?;
            }
            transaction.commit()
        };
        if self.unsynced.is_some_and(|other| other != key) {
            self.sync(shared)?;
        }
        self.unsynced = Some(key);
        write(self.file(shared, key)?).map_err(|source| shared.database_error(key, source))?;
        self.sync(shared)
    }
}

/// The last time of a stream, from the newest file that knows it: files are written in the order of their keys by each stream.
fn find_last_nanos(shared: &Shared, stream: Stream) -> Result<i64, TelemetryError> {
    for key in shared.files().into_keys().rev() {
        let Some(reader) = shared.reader(key)? else { continue };
        if let Some(last) = read::last_nanos(&reader, stream).map_err(|source| shared.database_error(key, source))? {
            return Ok(last);
        }
    }
    Ok(0)
}

fn insert(file: &mut OpenFile, first_seq: i64, lines: &[LogLine], reached: Option<&(uuid::Uuid, Position)>) -> rusqlite::Result<()> {
    let transaction = file.connection.transaction()?;
    if file.sources.len() >= MAX_REMEMBERED {
        file.sources.clear();
    }
    {
        let mut statement = transaction
            .prepare_cached("INSERT INTO lines (seq, source, severity, nanos, message, attributes) VALUES (?1, ?2, ?3, ?4, ?5, ?6)")?;
        for (seq, line) in (first_seq..).zip(lines) {
            let source = match file.sources.get(&line.source) {
                Some(id) => *id,
                None => {
                    let id = source_id(&transaction, &line.source)?;
                    file.sources.insert(line.source.clone(), id);
                    id
                }
            };
            let attributes = match line.attributes.as_slice() {
                [] => None,
                pairs => serde_json::to_string(pairs).ok(),
            };
            statement.execute((seq, source, stored_severity(line.severity), line.nanos, &line.message, attributes))?;
        }
    }
    if let Some((replica, position)) = reached {
        write_position(&transaction, *replica, position)?;
    }
    transaction.commit()
}

fn source_id(connection: &Connection, source: &LogSource) -> rusqlite::Result<i64> {
    let replica: &[u8] = source.replica_id.as_ref().map_or(&[], |id| id.0.as_bytes());
    let values = (
        source.workspace_id.0.as_bytes(),
        source.project_id.0.as_bytes(),
        source.environment_id.0.as_bytes(),
        source.service_id.0.as_bytes(),
        source.deployment_id.0.as_bytes(),
        source.snapshot_id.0.as_bytes(),
        replica,
        stored_kind(source.kind),
    );
    let mut statement = connection.prepare_cached(
        "INSERT INTO sources (workspace, project, environment, service, deployment, snapshot, replica, kind)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
         ON CONFLICT DO UPDATE SET kind = excluded.kind RETURNING id",
    )?;
    statement.query_row(values, |row| row.get(0))
}

fn write_position(connection: &Connection, replica: uuid::Uuid, position: &Position) -> rusqlite::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let mut statement = connection.prepare_cached(
        "INSERT INTO positions (replica, dir, segment, at, seq) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (replica) DO UPDATE SET dir = excluded.dir, segment = excluded.segment, at = excluded.at, seq = excluded.seq
         WHERE excluded.seq > positions.seq",
    )?;
    let dir = position.dir.as_os_str().as_bytes();
    statement.execute((replica.as_bytes(), dir, position.segment, position.at, position.seq)).map(drop)
}
