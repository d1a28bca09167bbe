//! `sql_query`: a statement that a user wrote, sent to a database of theirs. What the server keeps for itself is out of reach: the address
//! must lead to a service of the run's own workspace.

mod wire;

use std::error::Error as _;
use std::time::Duration;

use bytes::BytesMut;
use futures::TryStreamExt as _;
use mysql_async::prelude::Queryable as _;
use ops::platform::database_url;
use serde_json::{Map, Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_postgres::NoTls;
use tokio_postgres::types::{Format, IsNull, ToSql, Type};
use url::Url;

use super::{Attempt, Failure, platform};
use crate::workflow::worker::Given;
use wire::{MESSAGE, TooMuch, Wire};

/// The largest result in bytes, somewhat below what a node may give.
const RESULT: usize = 3 << 20;
const CONNECT: Duration = Duration::from_secs(10);

/// What is asked.
struct Query<'a> {
    text: &'a str,
    params: Vec<Value>,
    read_only: bool,
    max_rows: usize,
    timeout: Duration,
}

/// What a database answers.
#[derive(Default)]
struct Rows {
    rows: Vec<Value>,
    /// Rows that were changed by a statement without a result.
    changed: u64,
    truncated: bool,
    bytes: usize,
}

impl Rows {
    /// Takes a row, unless that is one too many. Whether there is room for more.
    fn take(&mut self, row: Value, most: usize) -> bool {
        self.bytes += row.to_string().len();
        if self.rows.len() == most || self.bytes > RESULT {
            self.truncated = true;
            return false;
        }
        self.rows.push(row);
        true
    }
}

pub(super) async fn query(attempt: &Attempt) -> Result<Given, Failure> {
    let input = &attempt.input;
    let text = |name: &str| input.get(name).and_then(Value::as_str).unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the catalogue bounds both")]
    let number = |name: &str, default: f64| input.get(name).and_then(Value::as_f64).unwrap_or(default) as u64;
    let params = match input.get("params") {
        None | Some(Value::Null) => vec![],
        Some(Value::Array(all)) => all.clone(),
        Some(_) => return Err(Failure::once("params: a list of values is needed")),
    };
    let query = Query {
        text: text("query").trim().trim_end_matches(';'),
        params,
        read_only: input.get("read_only").and_then(Value::as_bool) != Some(false),
        max_rows: usize::try_from(number("max_rows", 1000.0)).unwrap_or(1000),
        timeout: Duration::from_secs(number("timeout_seconds", 30.0)),
    };
    let ctx = platform::owner(attempt).await?;
    let url = database_url(&ctx, text("environment_id"), text("service_id")).await.map_err(platform::failure)?;
    let asked = async {
        match url.scheme() {
            "postgres" | "postgresql" => postgres(&url, &query).await,
            "mysql" | "mariadb" => mysql(url.clone(), &query).await,
            other => Err(Failure::once(format!("{other} is no database that is asked in SQL: PostgreSQL and MySQL are"))),
        }
    };
    // The database ends the statement itself; this is for one that does not.
    let late = || Err(Failure::again(format!("the database did not answer within {} seconds", query.timeout.as_secs())));
    let rows = tokio::time::timeout(query.timeout + CONNECT, asked).await.unwrap_or_else(|_| late())?;
    if rows.truncated && rows.rows.is_empty() && query.read_only {
        return Err(Failure::once(format!("the first row is larger than {RESULT} bytes: ask for fewer or shorter columns")));
    }
    let count = if rows.rows.is_empty() { rows.changed } else { rows.rows.len() as u64 };
    let entries = [("rows", Value::Array(rows.rows)), ("count", json!(count)), ("truncated", json!(rows.truncated))];
    Ok(Given { output: entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(), logs: vec![] })
}

/// A value as the text from which PostgreSQL reads whatever type it expects there.
#[derive(Debug)]
struct Word(Option<String>);

impl ToSql for Word {
    fn to_sql(&self, _: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        let Some(text) = &self.0 else { return Ok(IsNull::Yes) };
        out.extend_from_slice(text.as_bytes());
        Ok(IsNull::No)
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    fn encode_format(&self, _: &Type) -> Format {
        Format::Text
    }

    fn to_sql_checked(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn std::error::Error + Sync + Send>> {
        self.to_sql(ty, out)
    }
}

impl From<Value> for Word {
    fn from(value: Value) -> Self {
        Self(match value {
            Value::Null => None,
            Value::String(text) => Some(text),
            other => Some(other.to_string()),
        })
    }
}

fn refused(error: &tokio_postgres::Error) -> Failure {
    if let Some(much) = error.source().and_then(TooMuch::behind) {
        return Failure::once(much.to_string());
    }
    match error.as_db_error() {
        // Statements that stood in each other's way, a server that is starting or has no room.
        Some(told) => Failure {
            text: format!("the database refused: {}", told.message()),
            repeatable: ["40", "53", "57", "08"].iter().any(|class| told.code().code().starts_with(class)) && told.code().code() != "57014",
        },
        None => Failure::again(format!(
            "the database does not answer: {error}{}",
            error.source().map_or_else(String::new, |cause| format!(": {cause}"))
        )),
    }
}

/// How PostgreSQL is reached at an address that was checked. Only the parts that were looked at are handed on: the library has a grammar of
/// its own, in which a query or a second `@` would lead elsewhere.
fn postgres_config(url: &Url) -> Result<tokio_postgres::Config, Failure> {
    let bad = || Failure::once("the database's address is no address of PostgreSQL: it needs a user, a port and a database");
    let (user, port) = (Some(url.username()).filter(|user| !user.is_empty()).ok_or_else(bad)?, url.port().ok_or_else(bad)?);
    let password = url.password().map_or_else(String::new, |password| format!(":{password}"));
    format!("postgres://{user}{password}@127.0.0.1:{port}{}", url.path()).parse().map_err(|_| bad())
}

async fn postgres(url: &Url, query: &Query<'_>) -> Result<Rows, Failure> {
    let config = postgres_config(url)?;
    let connected = async {
        let stream = TcpStream::connect(("127.0.0.1", url.port().unwrap_or_default())).await;
        let stream = stream.map_err(|error| Failure::again(format!("the database cannot be reached: {error}")))?;
        // Without it an answer comes somewhat later.
        let _ = stream.set_nodelay(true);
        config.connect_raw(Wire::new(stream), NoTls).await.map_err(|error| refused(&error))
    };
    let (mut client, connection) = tokio::time::timeout(CONNECT, connected).await.unwrap_or_else(|_| Err(unconnected()))?;
    // Ends with this function, also when nobody waits for that any more.
    let mut talk = JoinSet::new();
    talk.spawn(connection);
    match ask_postgres(&mut client, query).await {
        Ok(rows) => Ok(rows),
        // Who reads from the connection knows why it has ended.
        Err(error) if error.is_closed() => match talk.join_next().await {
            Some(Ok(Err(cause))) => Err(refused(&cause)),
            _ => Err(refused(&error)),
        },
        Err(error) => Err(refused(&error)),
    }
}

fn unconnected() -> Failure {
    Failure::again(format!("the database did not let anybody in within {} seconds", CONNECT.as_secs()))
}

async fn ask_postgres(client: &mut tokio_postgres::Client, query: &Query<'_>) -> Result<Rows, tokio_postgres::Error> {
    client.batch_execute(&format!("SET statement_timeout = {}", query.timeout.as_millis())).await?;
    let transaction = client.build_transaction().read_only(query.read_only).start().await?;
    let params: Vec<Word> = query.params.iter().cloned().map(Word::from).collect();
    let mut rows = Rows::default();
    let statement = transaction.prepare(query.text).await?;
    if statement.columns().is_empty() {
        let params: Vec<&(dyn ToSql + Sync)> = params.iter().map(|word| word as _).collect();
        rows.changed = transaction.execute(&statement, &params).await?;
    } else {
        // The database itself makes JSON of its types, and stops where enough is.
        let text = format!("WITH asked AS ({}\n) SELECT to_jsonb(asked) FROM asked LIMIT {}", query.text, query.max_rows + 1);
        let statement = transaction.prepare(&text).await?;
        let mut found = std::pin::pin!(transaction.query_raw(&statement, params).await?);
        while let Some(row) = found.try_next().await? {
            if rows.take(row.try_get(0)?, query.max_rows) {
                continue;
            }
            if query.read_only {
                // There is nothing to commit, and the rest is not waited for.
                return Ok(rows);
            }
            break;
        }
    }
    transaction.commit().await?;
    Ok(rows)
}

fn refused_by_mysql(error: &mysql_async::Error) -> Failure {
    match error {
        mysql_async::Error::Server(told) => Failure {
            text: format!("the database refused: {}", told.message),
            // A lock that was not given in time, a deadlock, no room for another connection.
            repeatable: matches!(told.code, 1205 | 1213 | 1040),
        },
        mysql_async::Error::Io(mysql_async::IoError::Io(error)) if is_too_large(error) => Failure::once(TooMuch::message().to_string()),
        other => Failure::again(format!("the database does not answer: {other}")),
    }
}

/// The library has refused a message that is larger than it was told to take.
fn is_too_large(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(|cause| cause.to_string().contains("larger than max_allowed_packet"))
}

async fn mysql(mut url: Url, query: &Query<'_>) -> Result<Rows, Failure> {
    url.set_query(None);
    if url.scheme() != "mysql" && url.set_scheme("mysql").is_err() {
        return Err(Failure::once("the database's address is no address of MySQL"));
    }
    let options = mysql_async::Opts::from_url(url.as_str()).map_err(|_| Failure::once("the database's address is no address of MySQL"))?;
    let options = mysql_async::OptsBuilder::from_opts(options).prefer_socket(false).max_allowed_packet(Some(MESSAGE));
    let connected = tokio::time::timeout(CONNECT, mysql_async::Conn::new(options)).await;
    let mut connection = connected.map_err(|_| unconnected())?.map_err(|error| refused_by_mysql(&error))?;
    let outcome = ask_mysql(&mut connection, query).await;
    // What is left of a result goes with the connection.
    drop(connection);
    outcome.map_err(|error| refused_by_mysql(&error))
}

async fn ask_mysql(connection: &mut mysql_async::Conn, query: &Query<'_>) -> Result<Rows, mysql_async::Error> {
    // One of both is known, to MySQL and to MariaDB.
    let _ = connection.query_drop(format!("SET SESSION max_execution_time = {}", query.timeout.as_millis())).await;
    let _ = connection.query_drop(format!("SET SESSION max_statement_time = {}", query.timeout.as_secs())).await;
    if query.read_only {
        connection.query_drop("SET SESSION TRANSACTION READ ONLY").await?;
    }
    let params: Vec<mysql_async::Value> = query.params.iter().map(to_mysql).collect();
    let params = if params.is_empty() { mysql_async::Params::Empty } else { mysql_async::Params::Positional(params) };
    let mut result = connection.exec_iter(query.text, params).await?;
    let mut rows = Rows { changed: result.affected_rows(), ..Rows::default() };
    while let Some(row) = result.next().await? {
        let columns = row.columns();
        let fields = columns.iter().zip(row.unwrap()).map(|(column, value)| (column.name_str().into_owned(), of_mysql(column, value)));
        if !rows.take(Value::Object(fields.collect::<Map<_, _>>()), query.max_rows) {
            return Ok(rows);
        }
    }
    Ok(rows)
}

fn to_mysql(value: &Value) -> mysql_async::Value {
    use mysql_async::Value as My;
    match value {
        Value::Null => My::NULL,
        Value::Bool(yes) => My::Int(i64::from(*yes)),
        Value::Number(number) => {
            number.as_i64().map(My::Int).or(number.as_u64().map(My::UInt)).unwrap_or(My::Double(number.as_f64().unwrap_or_default()))
        }
        Value::String(text) => My::Bytes(text.clone().into_bytes()),
        other => My::Bytes(other.to_string().into_bytes()),
    }
}

fn of_mysql(column: &mysql_async::Column, value: mysql_async::Value) -> Value {
    use mysql_async::Value as My;
    use mysql_async::consts::ColumnType;
    match value {
        My::NULL => Value::Null,
        My::Bytes(bytes) => {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            let json = column.column_type() == ColumnType::MYSQL_TYPE_JSON;
            let parsed = json.then(|| serde_json::from_str(&text).ok()).flatten();
            parsed.unwrap_or(Value::String(text))
        }
        My::Int(number) => number.into(),
        My::UInt(number) => number.into(),
        My::Float(number) => json!(number),
        My::Double(number) => json!(number),
        My::Date(year, month, day, 0, 0, 0, 0) if column.column_type() == ColumnType::MYSQL_TYPE_DATE => {
            format!("{year:04}-{month:02}-{day:02}").into()
        }
        My::Date(year, month, day, hour, minute, second, micros) => {
            let fraction = if micros == 0 { String::new() } else { format!(".{micros:06}") };
            format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}{fraction}").into()
        }
        My::Time(negative, days, hours, minutes, seconds, micros) => {
            let sign = if negative { "-" } else { "" };
            let fraction = if micros == 0 { String::new() } else { format!(".{micros:06}") };
            format!("{sign}{:02}:{minutes:02}:{seconds:02}{fraction}", days * 24 + u32::from(hours)).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn postgres_is_asked_nowhere_else_than_where_it_was_looked_at() {
        use tokio_postgres::config::Host;
        for text in [
            "postgres://u:p%40x@127.0.0.1:5555/db",
            "postgres://u:p%40x@localhost:5555/db?hostaddr=10.0.0.5&host=/run/postgresql",
            "postgres://u:p%40x@127.0.0.1:5555/db#?hostaddr=10.0.0.5",
            "postgres://u:p%40x@127.0.0.1:5555/db@10.0.0.5:5432/db",
        ] {
            let config = postgres_config(&text.parse().unwrap()).unwrap_or_else(|failure| panic!("{text}: {}", failure.text));
            assert_eq!((config.get_hosts(), config.get_ports()), (&[Host::Tcp("127.0.0.1".to_owned())][..], &[5555][..]), "{text}");
            assert!(config.get_hostaddrs().is_empty(), "{text}");
            assert_eq!((config.get_user(), config.get_password()), (Some("u"), Some(&b"p@x"[..])), "{text}");
        }
        for refused in ["postgres://127.0.0.1:5555/x@10.0.0.5:5432/db?user=postgres", "postgres://u@127.0.0.1/db"] {
            assert!(postgres_config(&refused.parse().unwrap()).is_err(), "{refused}");
        }
    }
}
