//! The executor: the only place that knows that there are two databases.
//!
//! A read is one statement. A write is a list of statements that commit together, or not at all; it is a value, so that it can be handed to
//! the writer thread, put into a group with others, or sent again after PostgreSQL has broken a deadlock. What one statement decides the
//! next ones see in the tables: there is no code between them.

#[macro_use]
mod sql;
#[macro_use]
mod value;
mod postgres;
mod sqlite;
mod wal_index;

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::StoreError;

pub(crate) use sql::{Compiled, Sql};
pub(crate) use value::{BadCell, Cell, Named, Param, Record, json};

/// What a statement of a write must do.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Expect {
    /// Anything, nothing included.
    Any,
    /// Touch a row; otherwise the whole write is undone as [`StoreError::Stale`].
    Touch,
    /// Touch so many rows; otherwise the same.
    Exactly(u64),
}

/// A statement of a write.
#[derive(Clone)]
pub(crate) struct Statement {
    pub(crate) sql: &'static Sql,
    pub(crate) params: Vec<Named>,
    pub(crate) expect: Expect,
}

impl Statement {
    /// A statement that may touch nothing.
    pub(crate) fn any(sql: &'static Sql, params: impl Into<Vec<Named>>) -> Self {
        Self { sql, params: params.into(), expect: Expect::Any }
    }

    /// A statement that must touch a row.
    pub(crate) fn touch(sql: &'static Sql, params: impl Into<Vec<Named>>) -> Self {
        Self { sql, params: params.into(), expect: Expect::Touch }
    }

    /// A statement that must touch so many rows.
    pub(crate) fn exactly(sql: &'static Sql, params: impl Into<Vec<Named>>, rows: u64) -> Self {
        Self { sql, params: params.into(), expect: Expect::Exactly(rows) }
    }

    fn check(&self, touched: u64) -> Result<(), StoreError> {
        let met = match self.expect {
            Expect::Any => true,
            Expect::Touch => touched > 0,
            Expect::Exactly(rows) => touched == rows,
        };
        if met { Ok(()) } else { Err(StoreError::Stale) }
    }
}

/// What a statement of a write did.
#[derive(Default)]
pub(crate) struct Outcome {
    /// What it returned.
    pub(crate) rows: Vec<Record>,
    /// How many rows it touched.
    pub(crate) touched: u64,
}

/// Counts of this process.
#[derive(Default)]
pub(crate) struct Counters {
    commits: AtomicU64,
    statements: AtomicU64,
}

impl Counters {
    /// Raises the generation. Called after a commit and before anyone is told of it: whoever sees the new rows sees the new generation.
    fn committed(&self, writes: u64) {
        self.commits.fetch_add(writes, Ordering::AcqRel);
    }

    fn executed(&self) {
        self.statements.fetch_add(1, Ordering::Relaxed);
    }
}

enum Kind {
    Sqlite(sqlite::Sqlite),
    Postgres(postgres::Postgres),
}

/// An open, migrated database.
pub(crate) struct Database {
    kind: Kind,
    counters: Arc<Counters>,
}

impl Database {
    pub(crate) async fn open(url: &str) -> Result<Self, StoreError> {
        let counters = Arc::new(Counters::default());
        let kind = if let Some(path) = url.strip_prefix("sqlite://") {
            Kind::Sqlite(sqlite::Sqlite::open(path.into(), counters.clone())?)
        } else if url.starts_with("postgres://") || url.starts_with("postgresql://") {
            Kind::Postgres(postgres::Postgres::open(url, counters.clone()).await?)
        } else {
            // The address may hold a password, so that only its scheme is repeated.
            let scheme: String = url.chars().take_while(|c| c.is_ascii_alphanumeric()).take(20).collect();
            return Err(StoreError::BadUrl(format!("it begins with {scheme:?}")));
        };
        Ok(Self { kind, counters })
    }

    /// Whether opening the file would migrate what is in it; `false` for a database that is no file.
    pub(crate) fn is_behind(url: &str) -> Result<bool, StoreError> {
        url.strip_prefix("sqlite://").map_or(Ok(false), |path| sqlite::is_behind(Path::new(path)))
    }

    /// As [`Self::snapshot`], of a file that is not opened here and stays as it is.
    pub(crate) async fn copy(url: &str, to: &Path) -> Result<bool, StoreError> {
        match url.strip_prefix("sqlite://") {
            Some(path) => sqlite::copy(path.into(), to.to_owned()).await.map(|()| true),
            None => Ok(false),
        }
    }

    /// Runs one reading statement.
    pub(crate) async fn read(&self, sql: &'static Sql, params: &[Named]) -> Result<Vec<Record>, StoreError> {
        refuse_bad_text(params)?;
        self.counters.executed();
        match &self.kind {
            Kind::Sqlite(sqlite) => sqlite.read(sql, params),
            Kind::Postgres(postgres) => postgres.read(sql, params).await,
        }
    }

    /// Runs statements in one transaction and answers when it is on disk.
    pub(crate) async fn write(&self, statements: Vec<Statement>) -> Result<Vec<Outcome>, StoreError> {
        for statement in &statements {
            refuse_bad_text(&statement.params)?;
        }
        match &self.kind {
            Kind::Sqlite(sqlite) => sqlite.write(statements).await,
            Kind::Postgres(postgres) => postgres.write(&statements).await,
        }
    }

    /// Copies everything to a file; `false` for a database that is no file.
    pub(crate) async fn snapshot(&self, to: &Path) -> Result<bool, StoreError> {
        match &self.kind {
            Kind::Sqlite(sqlite) => sqlite.snapshot(to.to_owned()).await.map(|()| true),
            Kind::Postgres(_) => Ok(false),
        }
    }

    pub(crate) fn generation(&self) -> u64 {
        self.counters.commits.load(Ordering::Acquire)
    }

    pub(crate) fn version(&self) -> Option<u64> {
        match &self.kind {
            Kind::Sqlite(sqlite) => sqlite.version(),
            Kind::Postgres(_) => None,
        }
    }

    pub(crate) fn statements(&self) -> u64 {
        self.counters.statements.load(Ordering::Relaxed)
    }

    pub(crate) async fn close(&self) {
        match &self.kind {
            Kind::Sqlite(sqlite) => sqlite.close().await,
            Kind::Postgres(postgres) => postgres.close(),
        }
    }
}

fn refuse_bad_text(params: &[Named]) -> Result<(), StoreError> {
    if params.iter().any(|(_, param)| param.is_bad_text()) { Err(StoreError::BadText) } else { Ok(()) }
}

fn param<'a>(sql: &Sql, params: &'a [Named], name: &str) -> Result<&'a Param, StoreError> {
    let found = params.iter().find(|(known, _)| *known == name).map(|(_, param)| param);
    found.ok_or_else(|| StoreError::Fault { statement: sql.name, source: format!("parameter ${name} is missing").into() })
}
