//! PostgreSQL: a pool of connections, each with its prepared statements.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres::config::{Host, SslMode};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::{FromSql, IsNull, ToSql, Type, to_sql_checked};
use tokio_postgres::{Config, Row};
use tokio_postgres_rustls::MakeRustlsConnect;
use uuid::Uuid;

use super::{Cell, Compiled, Counters, Named, Outcome, Param, Record, Sql, Statement, param};
use crate::StoreError;
use crate::error::constraint;

const CONNECTIONS: usize = 16;
/// How long a connection is waited for before the database counts as silent.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often a write is sent again that PostgreSQL gave up to break a deadlock.
const ATTEMPTS: u32 = 5;
/// The advisory lock under which one control plane migrates while others wait: "orrery" in ASCII.
const MIGRATION_LOCK: &str = "SELECT pg_advisory_lock(122537336205945)";
const MIGRATION_UNLOCK: &str = "SELECT pg_advisory_unlock(122537336205945)";

pub(crate) struct Postgres {
    pool: Pool,
    counters: Arc<Counters>,
}

impl Postgres {
    pub(crate) async fn open(url: &str, counters: Arc<Counters>) -> Result<Self, StoreError> {
        let (config, authority) = parse(url)?;
        let tls = tls(authority.as_deref())?;
        let manager = Manager::from_config(config, tls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
        let pool = Pool::builder(manager)
            .max_size(CONNECTIONS)
            .runtime(Runtime::Tokio1)
            .timeouts(deadpool_postgres::Timeouts { wait: Some(PATIENCE), create: Some(PATIENCE), recycle: Some(PATIENCE) })
            .build()
            .map_err(StoreError::unavailable)?;
        let postgres = Self { pool, counters };
        postgres.migrate().await?;
        Ok(postgres)
    }

    async fn client(&self) -> Result<Object, StoreError> {
        self.pool.get().await.map_err(StoreError::unavailable)
    }

    async fn migrate(&self) -> Result<(), StoreError> {
        let mut object = self.client().await?;
        object.batch_execute(MIGRATION_LOCK).await.map_err(StoreError::unavailable)?;
        let client: &mut tokio_postgres::Client = &mut object;
        let migrated = embedded::migrations::runner().set_grouped(true).run_async(client).await;
        object.batch_execute(MIGRATION_UNLOCK).await.map_err(StoreError::unavailable)?;
        migrated.map(|_| ()).map_err(|error| StoreError::Migration(Box::new(error)))
    }

    pub(crate) async fn read(&self, sql: &'static Sql, params: &[Named]) -> Result<Vec<Record>, StoreError> {
        let client = self.client().await?;
        let failed = |error| failure(sql, error);
        let compiled = sql.for_postgres();
        let prepared = client.prepare_cached(&compiled.text).await.map_err(failed)?;
        let rows = client.query(&prepared, &order(sql, compiled, params)?).await.map_err(failed)?;
        rows.iter().map(|row| record(row).map_err(failed)).collect()
    }

    pub(crate) async fn write(&self, statements: &[Statement]) -> Result<Vec<Outcome>, StoreError> {
        let mut attempt = 1;
        loop {
            match self.write_once(statements).await {
                Err(StoreError::Unavailable { source }) if is_deadlock(&*source) && attempt < ATTEMPTS => attempt += 1,
                result => return result,
            }
        }
    }

    async fn write_once(&self, statements: &[Statement]) -> Result<Vec<Outcome>, StoreError> {
        let mut client = self.client().await?;
        let transaction = client.transaction().await.map_err(StoreError::unavailable)?;
        let mut outcomes = vec![];
        for statement in statements {
            self.counters.executed();
            let Statement { sql, params, .. } = statement;
            let failed = |error| failure(sql, error);
            let compiled = sql.for_postgres();
            let prepared = transaction.prepare_cached(&compiled.text).await.map_err(failed)?;
            let values = order(sql, compiled, params)?;
            let outcome = if prepared.columns().is_empty() {
                Outcome { rows: vec![], touched: transaction.execute(&prepared, &values).await.map_err(failed)? }
            } else {
                let rows = transaction.query(&prepared, &values).await.map_err(failed)?;
                let rows: Vec<Record> = rows.iter().map(|row| record(row).map_err(failed)).collect::<Result<_, _>>()?;
                Outcome { touched: rows.len() as u64, rows }
            };
            statement.check(outcome.touched)?;
            outcomes.push(outcome);
        }
        transaction.commit().await.map_err(StoreError::unavailable)?;
        self.counters.committed(1);
        Ok(outcomes)
    }

    pub(crate) fn close(&self) {
        self.pool.close();
    }
}

mod embedded {
    refinery::embed_migrations!("migrations/postgres");
}

/// The connection's settings and, where the address names one, the file of the only authority that may have signed the server's certificate.
fn parse(url: &str) -> Result<(Config, Option<PathBuf>), StoreError> {
    let (base, query) = url.split_once('?').unwrap_or((url, ""));
    let mut authority = None;
    let mut kept = vec![];
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=') {
            Some(("sslrootcert", path)) => authority = Some(PathBuf::from(path)),
            // Certificates and names are always checked here, so that libpq's stricter words mean the same as `require`.
            Some(("sslmode", "verify-ca" | "verify-full")) => kept.push("sslmode=require"),
            _ => kept.push(pair),
        }
    }
    // The parser's errors name the key that is wrong and never repeat the address.
    let parsed = format!("{base}?{}", kept.join("&")).parse::<Config>();
    let mut config = parsed.map_err(|error| StoreError::BadUrl(error.to_string()))?;
    let local = |host: &Host| match host {
        Host::Tcp(name) => name == "localhost" || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback()),
        Host::Unix(_) => true,
    };
    if config.get_ssl_mode() == SslMode::Prefer && config.get_hosts().iter().all(local) {
        config.ssl_mode(SslMode::Disable);
    }
    if config.get_connect_timeout().is_none() {
        config.connect_timeout(PATIENCE);
    }
    config.application_name("orrery");
    Ok((config, authority))
}

/// TLS that trusts the named authority, or else the machine's.
fn tls(authority: Option<&Path>) -> Result<MakeRustlsConnect, StoreError> {
    let mut roots = RootCertStore::empty();
    match authority {
        None => {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Some(path) => {
            let bad = |error: &dyn Error| StoreError::BadUrl(format!("sslrootcert {} cannot be used: {error}", path.display()));
            for certificate in CertificateDer::pem_file_iter(path).map_err(|error| bad(&error))? {
                roots.add(certificate.map_err(|error| bad(&error))?).map_err(|error| bad(&error))?;
            }
        }
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(StoreError::unavailable)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}

fn order<'a>(sql: &Sql, compiled: &Compiled, params: &'a [Named]) -> Result<Vec<&'a (dyn ToSql + Sync)>, StoreError> {
    compiled.names.iter().map(|name| Ok(param(sql, params, name)? as &(dyn ToSql + Sync))).collect()
}

fn record(row: &Row) -> Result<Record, tokio_postgres::Error> {
    let cells: Result<Vec<Cell>, _> = (0..row.len()).map(|at| row.try_get(at)).collect();
    Ok(Record::new(cells?))
}

type Failed = Box<dyn Error + Sync + Send>;

impl ToSql for Param {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Failed> {
        match self {
            Self::Null => return Ok(IsNull::Yes),
            Self::Int(number) => return number.to_sql(ty, out),
            Self::Flag(flag) => return flag.to_sql(ty, out),
            // A column of type JSON takes the text as it stands.
            Self::Text(text) => out.put_slice(text.as_bytes()),
            Self::Bytes(bytes) => out.put_slice(bytes),
            Self::Uuid(id) => out.put_slice(id.as_bytes()),
            Self::Uuids(ids) => return ids.to_sql(ty, out),
            Self::Texts(words) => return words.to_sql(ty, out),
        }
        Ok(IsNull::No)
    }

    /// Says no where the type that PostgreSQL inferred is not the one that is sent: it would misread the bytes.
    fn accepts(ty: &Type) -> bool {
        [Type::INT8, Type::BOOL, Type::TEXT, Type::JSON, Type::BYTEA, Type::UUID, Type::UUID_ARRAY, Type::TEXT_ARRAY].contains(ty)
    }

    to_sql_checked!();
}

impl<'a> FromSql<'a> for Cell {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Failed> {
        Ok(match *ty {
            Type::INT8 => Self::Int(i64::from_sql(ty, raw)?),
            Type::INT4 => Self::Int(i32::from_sql(ty, raw)?.into()),
            Type::BOOL => Self::Int(bool::from_sql(ty, raw)?.into()),
            Type::UUID => Self::Uuid(Uuid::from_sql(ty, raw)?),
            Type::BYTEA => Self::Bytes(raw.to_vec()),
            _ => Self::Text(std::str::from_utf8(raw)?.to_owned()),
        })
    }

    fn from_sql_null(_: &Type) -> Result<Self, Failed> {
        Ok(Self::Null)
    }

    fn accepts(ty: &Type) -> bool {
        [Type::INT8, Type::INT4, Type::BOOL, Type::UUID, Type::BYTEA, Type::TEXT, Type::VARCHAR, Type::JSON].contains(ty)
    }
}

fn is_deadlock(source: &(dyn Error + Send + Sync + 'static)) -> bool {
    let code = source.downcast_ref::<tokio_postgres::Error>().and_then(tokio_postgres::Error::code);
    code == Some(&SqlState::T_R_DEADLOCK_DETECTED) || code == Some(&SqlState::T_R_SERIALIZATION_FAILURE)
}

fn failure(sql: &'static Sql, error: tokio_postgres::Error) -> StoreError {
    let Some(db) = error.as_db_error() else {
        // Without a word of the server: the connection broke, or a value did not fit its parameter.
        let broken = error.is_closed() || error.source().is_some_and(|source| source.is::<std::io::Error>());
        return if broken { StoreError::unavailable(error) } else { StoreError::Fault { statement: sql.name, source: Box::new(error) } };
    };
    let code = db.code();
    if *code == SqlState::FOREIGN_KEY_VIOLATION {
        return StoreError::Stale;
    }
    if *code == SqlState::UNIQUE_VIOLATION {
        return StoreError::Conflict { constraint: constraint(db.constraint().unwrap_or_default()) };
    }
    // Connection, resources, lock, shutdown, system, and what is tried again.
    if ["08", "40", "53", "55", "57", "58"].iter().any(|class| code.code().starts_with(class)) {
        return StoreError::unavailable(error);
    }
    // Without the server's details, which repeat the row.
    let said = format!("{} (SQLSTATE {}, {})", db.message(), code.code(), db.constraint().unwrap_or("no constraint"));
    StoreError::Fault { statement: sql.name, source: said.into() }
}
