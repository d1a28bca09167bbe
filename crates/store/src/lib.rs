//! The database: desired state, history and secrets, on SQLite or PostgreSQL.
//!
//! [`Store`] is concrete, and every statement of Orrery stands in this crate, beside the noun that it is about. Three kinds of methods:
//! reads that take a [`domain::Tenant`] and see that workspace only; look-ups by a global id, whose answer is [`domain::Sealed`] until a
//! tenant opens it; and [`Store::commit`], which applies a list of [`Change`]s of one workspace whole or not at all. What belongs to no
//! workspace (accounts, sessions, keys, logins) has methods of its own, and what the engine needs across workspaces begins with `system_`.

#[macro_use]
mod executor;

/// The columns of a person, in the order in which `account::user_row` reads them.
macro_rules! user_columns {
    () => {
        "users.id, users.email, users.name, users.operator, users.created_at"
    };
}

/// The columns of a deployment, in the order in which `deployment::row` reads them.
macro_rules! deployment_columns {
    () => {
        "deployments.id, deployments.workspace_id, deployments.project_id, deployments.environment_id, deployments.service_id, \
         deployments.instance_id, deployments.snapshot_id, deployments.status, deployments.status_reason, deployments.status_at, \
         deployments.generation, deployments.stopped, deployments.reason, deployments.spec, deployments.source_blob, \
         deployments.artifact, deployments.run, deployments.waits_for, deployments.message, deployments.creator, deployments.created_at, deployments.updated_at"
    };
}

mod account;
mod activity;
mod api_key;
mod backup;
mod certificate;
mod change;
mod commit;
mod delivery;
mod deployment;
mod deployment_event;
mod domain_name;
mod environment;
mod environment_patch;
mod error;
mod execution;
mod flow_file;
mod idempotency;
mod instance;
mod invite;
mod kept;
mod master_key;
mod node_run;
mod notification;
mod oauth;
mod page;
mod project;
mod replica;
mod run;
mod second_factor;
mod service;
mod session;
mod snapshot;
mod system;
mod tcp_proxy;
mod trigger;
mod usage;
mod variable;
mod vault;
mod version;
mod volume;
mod workflow;
mod workspace;

#[cfg(test)]
mod explain;

use std::sync::Arc;

use domain::Sealed;
use domain::WorkspaceId;
use tokio::sync::broadcast;

pub use account::{AccountChange, NewUser};
pub use certificate::{CertificateChange, StoredCertificate};
pub use change::Change;
pub use commit::{ChangeKind, Committed};
pub use deployment::DeploymentQuery;
pub use environment_patch::StagedCount;
pub use error::{Cause, Constraint, StoreError};
pub use idempotency::{Begun, KeptAnswer};
pub use master_key::MasterKey;
pub use node_run::NodeTurn;
pub use notification::NotificationChange;
pub use oauth::{OAuthCode, RefreshUse};
pub use run::{RunChange, RunQuery};
pub use second_factor::SecondFactor;
pub use usage::{KEEP_DAYS, UsageAdd};
pub use version::MAX_VERSIONS;
pub use workflow::WorkflowChange;

use executor::{BadCell, Database, Named, Outcome, Record, Sql, Statement};
use vault::Vault;

/// Where the database is and how its secrets are kept.
#[derive(Clone)]
pub struct StoreConfig {
    /// `sqlite:///path/orrery.db`, or `postgres://…` as libpq writes it. With `sslmode=require` the server's certificate is
    /// checked against `sslrootcert` or the machine's authorities; to this machine itself no TLS is used unless it is asked for.
    pub url: String,
    /// Wraps the key that encrypts secrets.
    pub master_key: MasterKey,
}

impl std::fmt::Debug for StoreConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The address may hold a password.
        f.debug_struct("StoreConfig").finish_non_exhaustive()
    }
}

/// The open database. Clones share it.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    vault: Vault,
    /// By [`ChangeKind`].
    commits: [broadcast::Sender<WorkspaceId>; ChangeKind::COUNT],
}

/// Commits that a listener may be behind with before it misses some.
const COMMITS: usize = 1024;

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("generation", &self.generation()).finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the database, makes or migrates its tables, and checks that the master key is the one it was made with.
    ///
    /// # Errors
    /// [`StoreError::BadUrl`], [`StoreError::Unavailable`], [`StoreError::Migration`], [`StoreError::WrongMasterKey`].
    pub async fn open(config: StoreConfig) -> Result<Self, StoreError> {
        let database = Database::open(&config.url).await?;
        let vault = Vault::open(&database, &config.master_key).await?;
        Ok(Self { inner: Arc::new(Inner { database, vault, commits: std::array::from_fn(|_| broadcast::Sender::new(COMMITS)) }) })
    }

    /// Whether the database in a file was made by an earlier program, so that [`Self::open`] would migrate it. `false` where there is none yet,
    /// and for PostgreSQL.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`].
    pub fn is_behind(url: &str) -> Result<bool, StoreError> {
        Database::is_behind(url)
    }

    /// Copies the database in a file to an empty file without opening or migrating it here; `false` for PostgreSQL.
    ///
    /// # Errors
    /// [`StoreError::Unavailable`], [`StoreError::BadUrl`] when the copy cannot be made.
    pub async fn copy_closed(url: &str, to: &std::path::Path) -> Result<bool, StoreError> {
        Database::copy(url, to).await
    }

    /// Grows with every commit of this process, before the commit's caller learns of it: a cache that was filled at the present
    /// generation is current as far as this process is concerned. Other processes' commits are not counted.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.inner.database.generation()
    }

    /// The workspaces whose data of a kind changes by a commit of this process from now on. Steps of workflows' runs, deliveries and triggers
    /// that did nothing are no [`ChangeKind::State`]: they happen all the time.
    #[must_use]
    pub fn commits(&self, kind: ChangeKind) -> broadcast::Receiver<WorkspaceId> {
        self.inner.commits[kind as usize].subscribe()
    }

    /// The version of the data: what was read while it stays the same is still true, whichever process writes. `None` when the database
    /// cannot tell cheaply, as PostgreSQL cannot; then nothing may be cached.
    #[must_use]
    pub fn version(&self) -> Option<u64> {
        self.inner.database.version()
    }

    /// Statements executed by this store so far, so that a test can show that a request costs the same number whatever it lists.
    #[must_use]
    pub fn statements(&self) -> u64 {
        self.inner.database.statements()
    }

    /// Waits for the writes that are queued and closes the connections. Clones fail from then on.
    pub async fn close(self) {
        self.inner.database.close().await;
    }

    async fn list<T>(
        &self,
        sql: &'static Sql,
        params: &[Named],
        read: fn(&mut Record) -> Result<T, BadCell>,
    ) -> Result<Vec<T>, StoreError> {
        let rows = self.inner.database.read(sql, params).await?;
        rows.into_iter().map(|mut row| read(&mut row).map_err(|bad| bad.in_statement(sql.name))).collect()
    }

    /// Rows in the order of an id, ordered here. Told to order them, SQLite sets up a sorter, which costs more than the rest of a short list,
    /// or walks through a whole workspace in that order rather than pick the few rows of a list of ids.
    async fn batch<T, I: Ord>(
        &self,
        sql: &'static Sql,
        params: &[Named],
        read: fn(&mut Record) -> Result<T, BadCell>,
        id: fn(&T) -> I,
    ) -> Result<Vec<T>, StoreError> {
        let mut rows = self.list(sql, params, read).await?;
        rows.sort_unstable_by_key(id);
        Ok(rows)
    }

    async fn one<T>(
        &self,
        sql: &'static Sql,
        params: &[Named],
        read: fn(&mut Record) -> Result<T, BadCell>,
    ) -> Result<Option<T>, StoreError> {
        Ok(self.list(sql, params, read).await?.into_iter().next())
    }

    async fn sealed<T>(
        &self,
        sql: &'static Sql,
        params: &[Named],
        read: fn(&mut Record) -> Result<T, BadCell>,
        owner: fn(&T) -> WorkspaceId,
    ) -> Result<Option<Sealed<T>>, StoreError> {
        Ok(self.one(sql, params, read).await?.map(|row| Sealed::new(owner(&row), row)))
    }

    async fn write(&self, statements: Vec<Statement>) -> Result<Vec<Outcome>, StoreError> {
        self.inner.database.write(statements).await
    }

    /// One writing statement. The answer is how many rows it touched.
    async fn write_one(&self, sql: &'static Sql, params: impl Into<Vec<Named>>) -> Result<u64, StoreError> {
        let outcomes = self.write(vec![Statement::any(sql, params)]).await?;
        Ok(outcomes.iter().map(|outcome| outcome.touched).sum())
    }

    /// One writing statement with `RETURNING`. The answer is its first row.
    async fn write_returning<T>(
        &self,
        sql: &'static Sql,
        params: impl Into<Vec<Named>>,
        read: fn(&mut Record) -> Result<T, BadCell>,
    ) -> Result<Option<T>, StoreError> {
        let outcomes = self.write(vec![Statement::any(sql, params)]).await?;
        first(sql, outcomes.into_iter().next(), read)
    }
}

/// The first row of an outcome.
fn first<T>(sql: &'static Sql, outcome: Option<Outcome>, read: fn(&mut Record) -> Result<T, BadCell>) -> Result<Option<T>, StoreError> {
    let row = outcome.and_then(|outcome| outcome.rows.into_iter().next());
    row.map(|mut row| read(&mut row).map_err(|bad| bad.in_statement(sql.name))).transpose()
}
