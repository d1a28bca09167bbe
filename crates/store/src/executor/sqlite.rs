//! SQLite: readers run where they are called, one thread writes for all.
//!
//! A read takes microseconds, less than handing it to another thread would; its future is ready when first polled. A write waits for the
//! disk, and the disk takes as long for sixty writes as for one: whatever has queued up while it worked becomes the next transaction.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rusqlite::config::DbConfig;
use rusqlite::functions::FunctionFlags;
use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{Connection, Statement as Prepared, ffi};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::wal_index::WalIndex;
use super::{Cell, Compiled, Counters, Named, Outcome, Param, Record, Sql, Statement, param};
use crate::StoreError;
use crate::error::constraint;
use crate::page::lowered;

/// Writes in one transaction at most.
const GROUP: usize = 64;
/// Writes that may wait; beyond it callers wait for a place.
const QUEUE: usize = 1024;
/// Idle readers that are kept. There are never more than threads that poll futures.
const READERS: usize = 16;
/// How long another process may hold the write lock.
const BUSY: Duration = Duration::from_secs(10);
/// After so long is asked again what SQLite does not wait for by itself.
const AGAIN: Duration = Duration::from_millis(5);

type Reply = Result<Vec<Outcome>, StoreError>;

enum Job {
    Write { statements: Vec<Statement>, reply: oneshot::Sender<Reply> },
    Close { done: oneshot::Sender<()> },
}

pub(crate) struct Sqlite {
    path: PathBuf,
    readers: Mutex<Vec<Connection>>,
    closed: AtomicBool,
    queue: mpsc::Sender<Job>,
    watcher: Mutex<Option<Watcher>>,
}

/// Sees that something was committed, by whichever process.
struct Watcher {
    /// Never writes: `data_version` compares what one connection has seen. While it is open the index stays what it is.
    connection: Connection,
    index: Option<WalIndex>,
}

impl Watcher {
    fn open(path: &Path) -> Result<Self, StoreError> {
        let mut index = path.as_os_str().to_owned();
        index.push("-shm");
        let mut watcher = Self { connection: connect(path)?, index: None };
        // The index is there from the first read on.
        watcher.ask();
        watcher.index = WalIndex::open(Path::new(&index));
        Ok(watcher)
    }

    fn version(&self) -> Option<u64> {
        self.index.as_ref().and_then(WalIndex::version).or_else(|| self.ask())
    }

    /// The same from the library, which takes and gives back a lock.
    fn ask(&self) -> Option<u64> {
        let mut statement = self.connection.prepare_cached("PRAGMA data_version").ok()?;
        let version: i64 = statement.query_row([], |row| row.get(0)).ok()?;
        u64::try_from(version).ok()
    }
}

impl Sqlite {
    pub(crate) fn open(path: PathBuf, counters: Arc<Counters>) -> Result<Self, StoreError> {
        create_private(&path)?;
        let mut writer = connect(&path)?;
        log_ahead(&writer)?;
        migrate(&mut writer)?;
        let (queue, jobs) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || write_all(writer, jobs, &counters))
            .map_err(StoreError::unavailable)?;
        let watcher = Mutex::new(Some(Watcher::open(&path)?));
        Ok(Self { path, readers: Mutex::default(), closed: AtomicBool::new(false), queue, watcher })
    }

    pub(crate) fn read(&self, sql: &'static Sql, params: &[Named]) -> Result<Vec<Record>, StoreError> {
        let idle = self.idle().pop();
        let reader = match idle {
            Some(reader) => reader,
            None if self.closed.load(Ordering::Acquire) => return Err(closed()),
            None => {
                let reader = connect(&self.path)?;
                reader.pragma_update(None, "query_only", true).map_err(StoreError::unavailable)?;
                reader
            }
        };
        let outcome = run(&reader, sql, params);
        let mut idle = self.idle();
        if idle.len() < READERS && !self.closed.load(Ordering::Acquire) {
            idle.push(reader);
        }
        Ok(outcome?.rows)
    }

    /// Changes with every commit to the file, whichever process made it.
    pub(crate) fn version(&self) -> Option<u64> {
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner).as_ref()?.version()
    }

    /// Copies the database to an empty file, through a connection of its own; writers do not wait for it.
    pub(crate) async fn snapshot(&self, to: PathBuf) -> Result<(), StoreError> {
        copy(self.path.clone(), to).await
    }

    pub(crate) async fn write(&self, statements: Vec<Statement>) -> Reply {
        let (reply, answer) = oneshot::channel();
        self.queue.send(Job::Write { statements, reply }).await.map_err(|_| closed())?;
        answer.await.map_err(|_| closed())?
    }

    pub(crate) async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.idle().clear();
        self.watcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (done, ended) = oneshot::channel();
        if self.queue.send(Job::Close { done }).await.is_ok() {
            // An error means that the writer ended before it could answer, which is what was wanted.
            let _ = ended.await;
        }
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Connection>> {
        // A panic cannot leave a vector of connections half changed.
        self.readers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn closed() -> StoreError {
    StoreError::unavailable("the store was closed")
}

/// Copies the database of a file to an empty file.
pub(super) async fn copy(from: PathBuf, to: PathBuf) -> Result<(), StoreError> {
    let copy = tokio::task::spawn_blocking(move || {
        create_private(&to)?;
        let name = to.to_str().ok_or_else(|| StoreError::unavailable("the copy's path is not UTF-8"))?;
        connect(&from)?.execute("VACUUM INTO ?1", [name]).map_err(StoreError::unavailable)?;
        // The library does not wait for the disk here.
        std::fs::File::open(&to).and_then(|file| file.sync_all()).map_err(StoreError::unavailable)
    });
    copy.await.map_err(StoreError::unavailable)?
}

/// Whether the file is a database that lacks migrations which this program has.
pub(super) fn is_behind(path: &Path) -> Result<bool, StoreError> {
    if !path.exists() {
        return Ok(false);
    }
    let (mut connection, runner) = (connect(path)?, embedded::migrations::runner());
    // Without the table of migrations there is nothing yet; what else is wrong with the file is told when it is opened.
    let Ok(applied) = runner.get_applied_migrations(&mut connection) else { return Ok(false) };
    let done: Vec<_> = applied.iter().map(|known| known.version()).collect();
    Ok(!done.is_empty() && runner.get_migrations().iter().any(|known| !done.contains(&known.version())))
}

/// The file holds password hashes and sealed secrets: nobody else may read it. SQLite gives its journals the mode of the file.
fn create_private(path: &Path) -> Result<(), StoreError> {
    use std::os::unix::fs::OpenOptionsExt;
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(StoreError::BadUrl(format!("{} cannot be created: {error}", path.display()))),
    }
}

fn connect(path: &Path) -> Result<Connection, StoreError> {
    let open = || {
        let connection = Connection::open(path)?;
        connection.busy_timeout(BUSY)?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "foreign_keys", true)?;
        connection.set_prepared_statement_cache_capacity(256);
        // Without this SQLite plans a statement anew whenever another value is bound to a parameter that bounds a range, such as a cursor.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        rusqlite::vtab::array::load_module(&connection)?;
        // SQLite's own knows the letters of ASCII alone.
        connection.create_scalar_function("lower", 1, FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC, |call| {
            Ok(call.get::<Option<String>>(0)?.as_deref().map(lowered))
        })?;
        Ok(connection)
    };
    open().map_err(|error: rusqlite::Error| StoreError::unavailable(error))
}

/// Turns the write-ahead log on. Here SQLite does not wait: of several that do so to a fresh file at once, all but one may be told that it
/// is locked.
fn log_ahead(writer: &Connection) -> Result<(), StoreError> {
    let begun = Instant::now();
    loop {
        match writer.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(())) {
            Err(error) if error.sqlite_error_code() == Some(ffi::ErrorCode::DatabaseBusy) && begun.elapsed() < BUSY => {
                std::thread::sleep(AGAIN);
            }
            outcome => return outcome.map_err(StoreError::unavailable),
        }
    }
}

mod embedded {
    refinery::embed_migrations!("migrations/sqlite");
}

fn migrate(connection: &mut Connection) -> Result<(), StoreError> {
    let run = |connection: &mut Connection| embedded::migrations::runner().set_grouped(true).run(connection);
    if run(connection).is_ok() {
        return Ok(());
    }
    // Another process may have migrated the same file between the look and the change; then there is nothing left to do.
    run(connection).map(|_| ()).map_err(|error| StoreError::Migration(Box::new(error)))
}

fn write_all(mut writer: Connection, mut jobs: mpsc::Receiver<Job>, counters: &Counters) {
    let mut closing = None;
    while closing.is_none() {
        let Some(first) = jobs.blocking_recv() else { break };
        let mut group = vec![];
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Write { statements, reply } => group.push((statements, reply)),
                Job::Close { done } => closing = Some(done),
            }
            next = if group.len() < GROUP && closing.is_none() { jobs.try_recv().ok() } else { None };
        }
        if !group.is_empty() {
            write_group(&mut writer, group, counters);
        }
    }
    // Closing the last connection folds the journal into the file.
    drop(writer);
    if let Some(done) = closing {
        // Nobody waits any more if the caller of `close` has gone.
        let _ = done.send(());
    }
}

type Queued = (Vec<Statement>, oneshot::Sender<Reply>);

/// Runs a group in one transaction. A write that fails is undone alone; the others commit. Nobody is answered before the disk has it.
fn write_group(writer: &mut Connection, group: Vec<Queued>, counters: &Counters) {
    let mut answers: Vec<(Reply, oneshot::Sender<Reply>)> = vec![];
    let mut begun = writer.execute_batch("BEGIN IMMEDIATE");
    for (statements, reply) in group {
        let result = match &begun {
            Ok(()) => write_one(writer, &statements, counters),
            Err(error) => Err(StoreError::unavailable(error.to_string())),
        };
        answers.push((result, reply));
        if begun.is_ok() && writer.is_autocommit() {
            // A full disk ends the whole transaction: what seemed done is undone, and the rest begins anew.
            fail_all(&mut answers, "the transaction was undone by an error of the disk");
            begun = writer.execute_batch("BEGIN IMMEDIATE");
        }
    }
    if begun.is_ok()
        && let Err(error) = writer.execute_batch("COMMIT")
    {
        tracing::error!(%error, "a group of writes could not be committed");
        fail_all(&mut answers, &error.to_string());
        if !writer.is_autocommit()
            && let Err(error) = writer.execute_batch("ROLLBACK")
        {
            tracing::error!(%error, "a group of writes could not be undone");
        }
    }
    counters.committed(answers.iter().filter(|(result, _)| result.is_ok()).count() as u64);
    for (result, reply) in answers {
        // A caller that has gone does not need the answer; its write stands.
        let _ = reply.send(result);
    }
}

fn fail_all(answers: &mut [(Reply, oneshot::Sender<Reply>)], why: &str) {
    for (result, _) in answers {
        if result.is_ok() {
            *result = Err(StoreError::unavailable(why));
        }
    }
}

fn write_one(writer: &Connection, statements: &[Statement], counters: &Counters) -> Reply {
    writer.execute_batch("SAVEPOINT one").map_err(StoreError::unavailable)?;
    let result = statements
        .iter()
        .map(|statement| {
            counters.executed();
            let outcome = run(writer, statement.sql, &statement.params)?;
            statement.check(outcome.touched)?;
            Ok(outcome)
        })
        .collect::<Reply>();
    let end = if result.is_ok() { "RELEASE one" } else { "ROLLBACK TO one; RELEASE one" };
    match writer.execute_batch(end) {
        Ok(()) => result,
        // The transaction is gone with its savepoints; the first error says why.
        Err(error) => result.and(Err(StoreError::unavailable(error))),
    }
}

fn run(connection: &Connection, sql: &'static Sql, params: &[Named]) -> Result<Outcome, StoreError> {
    let compiled = sql.for_sqlite();
    let failed = |error| failure(sql, error);
    let mut prepared = connection.prepare_cached(&compiled.text).map_err(failed)?;
    bind(&mut prepared, sql, compiled, params)?;
    let width = prepared.column_count();
    if width == 0 {
        let touched = prepared.raw_execute().map_err(failed)?;
        return Ok(Outcome { rows: vec![], touched: touched as u64 });
    }
    let mut found = vec![];
    let mut rows = prepared.raw_query();
    while let Some(row) = rows.next().map_err(failed)? {
        let cells: Result<Vec<Cell>, rusqlite::Error> = (0..width).map(|at| row.get_ref(at).map(cell)).collect();
        found.push(Record::new(cells.map_err(failed)?));
    }
    Ok(Outcome { touched: found.len() as u64, rows: found })
}

fn bind(prepared: &mut Prepared<'_>, sql: &'static Sql, compiled: &Compiled, params: &[Named]) -> Result<(), StoreError> {
    for (at, name) in compiled.names.iter().enumerate() {
        let at = at + 1;
        let bound = match param(sql, params, name)? {
            Param::Uuids(ids) => {
                prepared.raw_bind_parameter(at, Rc::new(ids.iter().map(|id| Value::Blob(id.as_bytes().to_vec())).collect::<Vec<_>>()))
            }
            Param::Texts(words) => {
                prepared.raw_bind_parameter(at, Rc::new(words.iter().map(|word| Value::Text((*word).to_owned())).collect::<Vec<_>>()))
            }
            Param::Null => prepared.raw_bind_parameter(at, rusqlite::types::Null),
            Param::Int(number) => prepared.raw_bind_parameter(at, number),
            Param::Flag(flag) => prepared.raw_bind_parameter(at, flag),
            Param::Text(text) => prepared.raw_bind_parameter(at, text),
            Param::Bytes(bytes) => prepared.raw_bind_parameter(at, bytes),
            Param::Uuid(id) => prepared.raw_bind_parameter(at, ToSqlOutput::Borrowed(ValueRef::Blob(id.as_bytes()))),
        };
        bound.map_err(|error| failure(sql, error))?;
    }
    Ok(())
}

fn cell(value: ValueRef<'_>) -> Cell {
    match value {
        ValueRef::Null => Cell::Null,
        ValueRef::Integer(number) => Cell::Int(number),
        // No statement returns fractions.
        ValueRef::Real(number) => Cell::Int(number as i64),
        ValueRef::Text(text) => Cell::Text(String::from_utf8_lossy(text).into_owned()),
        ValueRef::Blob(bytes) => Uuid::from_slice(bytes).map_or_else(|_| Cell::Bytes(bytes.to_vec()), Cell::Uuid),
    }
}

fn failure(sql: &'static Sql, error: rusqlite::Error) -> StoreError {
    let Some(code) = error.sqlite_error().map(|error| (error.code, error.extended_code)) else {
        return StoreError::Fault { statement: sql.name, source: Box::new(error) };
    };
    match code {
        (_, ffi::SQLITE_CONSTRAINT_FOREIGNKEY) => StoreError::Stale,
        (_, ffi::SQLITE_CONSTRAINT_UNIQUE | ffi::SQLITE_CONSTRAINT_PRIMARYKEY) => {
            StoreError::Conflict { constraint: constraint(&error.to_string()) }
        }
        (
            ffi::ErrorCode::DatabaseBusy
            | ffi::ErrorCode::DatabaseLocked
            | ffi::ErrorCode::DiskFull
            | ffi::ErrorCode::CannotOpen
            | ffi::ErrorCode::ReadOnly
            | ffi::ErrorCode::OutOfMemory
            | ffi::ErrorCode::SystemIoFailure,
            _,
        ) => StoreError::unavailable(error),
        (ffi::ErrorCode::DatabaseCorrupt | ffi::ErrorCode::NotADatabase, _) => StoreError::Corrupt(error.to_string()),
        _ => StoreError::Fault { statement: sql.name, source: Box::new(error) },
    }
}
