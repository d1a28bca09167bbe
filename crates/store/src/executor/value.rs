//! What goes into a statement and what comes out of it.

use domain::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::StoreError;

/// A parameter.
#[derive(Clone)]
pub(crate) enum Param {
    Null,
    Int(i64),
    Flag(bool),
    Text(String),
    Bytes(Vec<u8>),
    Uuid(Uuid),
    Uuids(Vec<Uuid>),
    Texts(Vec<&'static str>),
}

impl std::fmt::Debug for Param {
    /// Drivers print parameters in their errors, and parameters hold secrets.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Param(…)")
    }
}

/// A parameter with the name that it has in the statement's text.
pub(crate) type Named = (&'static str, Param);

/// `params![id = row.id, now = now]`: an array of named parameters.
macro_rules! params {
    ($($name:ident = $value:expr),* $(,)?) => {
        [$((stringify!($name), $crate::executor::Param::from($value))),*]
    };
}

impl<T: Into<Param>> From<Option<T>> for Param {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

macro_rules! param_from {
    ($($from:ty: |$value:ident| $param:expr;)+) => {
        $(impl From<$from> for Param { fn from($value: $from) -> Self { $param } })+
    };
}

param_from! {
    i64: |value| Self::Int(value);
    u32: |value| Self::Int(value.into());
    i32: |value| Self::Int(value.into());
    u16: |value| Self::Int(value.into());
    bool: |value| Self::Flag(value);
    &str: |value| Self::Text(value.to_owned());
    &String: |value| Self::Text(value.clone());
    String: |value| Self::Text(value);
    Vec<u8>: |value| Self::Bytes(value);
    [u8; 32]: |value| Self::Bytes(value.to_vec());
    Uuid: |value| Self::Uuid(value);
    Timestamp: |value| Self::Int(value.as_microsecond());
    Vec<&'static str>: |value| Self::Texts(value);
    UserId: |value| Self::Uuid(value.0);
    WorkspaceId: |value| Self::Uuid(value.0);
    ProjectId: |value| Self::Uuid(value.0);
    EnvironmentId: |value| Self::Uuid(value.0);
    ServiceId: |value| Self::Uuid(value.0);
    InstanceId: |value| Self::Uuid(value.0);
    DeploymentId: |value| Self::Uuid(value.0);
    SnapshotId: |value| Self::Uuid(value.0);
    EnvironmentPatchId: |value| Self::Uuid(value.0);
    ReplicaId: |value| Self::Uuid(value.0);
    DomainId: |value| Self::Uuid(value.0);
    ApiKeyId: |value| Self::Uuid(value.0);
    ActivityId: |value| Self::Uuid(value.0);
    EventId: |value| Self::Uuid(value.0);
    SessionId: |value| Self::Uuid(value.0);
    DeliveryId: |value| Self::Uuid(value.0);
    NotificationRuleId: |value| Self::Uuid(value.0);
    TriggerId: |value| Self::Uuid(value.0);
    VolumeId: |value| Self::Uuid(value.0);
    VolumeInstanceId: |value| Self::Uuid(value.0);
    BackupId: |value| Self::Uuid(value.0);
    TcpProxyId: |value| Self::Uuid(value.0);
    WorkflowId: |value| Self::Uuid(value.0);
    RunId: |value| Self::Uuid(value.0);
    NodeRunId: |value| Self::Uuid(value.0);
    GraphId: |value| Self::Uuid(value.0);
    FlowTriggerId: |value| Self::Uuid(value.0);
    UploadId: |value| Self::Uuid(value.0);
    &[WorkflowId]: |value| Self::Uuids(value.iter().map(|id| id.0).collect());
    &[RunId]: |value| Self::Uuids(value.iter().map(|id| id.0).collect());
    &[UploadId]: |value| Self::Uuids(value.iter().map(|id| id.0).collect());
    &[ProjectId]: |value| Self::Uuids(value.iter().map(|id| id.0).collect());
    &[EnvironmentId]: |value| Self::Uuids(value.iter().map(|id| id.0).collect());
    &[ServiceId]: |value| Self::Uuids(value.iter().map(|id| id.0).collect());
    &[InstanceId]: |value| Self::Uuids(value.iter().map(|id| id.0).collect());
    &[DomainId]: |value| Self::Uuids(value.iter().map(|id| id.0).collect());
    &[VolumeId]: |value| Self::Uuids(value.iter().map(|id| id.0).collect());
    &[VolumeInstanceId]: |value| Self::Uuids(value.iter().map(|id| id.0).collect());
    &[DeploymentId]: |value| Self::Uuids(value.iter().map(|id| id.0).collect());
    &[UserId]: |value| Self::Uuids(value.iter().map(|id| id.0).collect());
    &[WorkspaceId]: |value| Self::Uuids(value.iter().map(|id| id.0).collect());
    &[ActivityId]: |value| Self::Uuids(value.iter().map(|id| id.0).collect());
    &[DeliveryId]: |value| Self::Uuids(value.iter().map(|id| id.0).collect());
    &[TriggerId]: |value| Self::Uuids(value.iter().map(|id| id.0).collect());
    &[Tenant]: |value| Self::Uuids(value.iter().map(|tenant| tenant.workspace().0).collect());
    Tenant: |value| Self::Uuid(value.workspace().0);
}

/// A value as JSON text.
pub(crate) fn json(value: &impl Serialize) -> Param {
    // The types that are stored as JSON have string keys and no serializer of their own, so writing them cannot fail.
    Param::Text(serde_json::to_string(value).expect("stored types serialise"))
}

impl Param {
    /// PostgreSQL refuses NUL in text while SQLite takes it: neither sees one.
    pub(crate) fn is_bad_text(&self) -> bool {
        matches!(self, Self::Text(text) if text.contains('\0'))
    }
}

/// A value of a result.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    Int(i64),
    Text(String),
    Bytes(Vec<u8>),
    Uuid(Uuid),
}

/// A row of a result, taken apart from left to right.
pub(crate) struct Record {
    cells: std::vec::IntoIter<Cell>,
    width: usize,
}

/// What was expected of which column.
#[derive(Debug)]
pub(crate) struct BadCell(pub(crate) String);

impl BadCell {
    pub(crate) fn in_statement(self, name: &str) -> StoreError {
        StoreError::Corrupt(format!("{name}: {}", self.0))
    }
}

type Taken<T> = Result<T, BadCell>;

impl Record {
    pub(crate) fn new(cells: Vec<Cell>) -> Self {
        Self { width: cells.len(), cells: cells.into_iter() }
    }

    fn wrong<T>(&self, what: &str) -> Taken<T> {
        Err(BadCell(format!("column {} is not {what}", self.width - self.cells.len())))
    }

    fn take(&mut self) -> Cell {
        self.cells.next().unwrap_or(Cell::Null)
    }

    /// Reads an identifier.
    pub(crate) fn id<T>(&mut self, wrap: fn(Uuid) -> T) -> Taken<T> {
        self.maybe_id(wrap)?.map_or_else(|| self.wrong("an id"), Ok)
    }

    pub(crate) fn maybe_id<T>(&mut self, wrap: fn(Uuid) -> T) -> Taken<Option<T>> {
        match self.take() {
            Cell::Uuid(id) => Ok(Some(wrap(id))),
            Cell::Null => Ok(None),
            _ => self.wrong("an id"),
        }
    }

    pub(crate) fn text(&mut self) -> Taken<String> {
        self.maybe_text()?.map_or_else(|| self.wrong("text"), Ok)
    }

    pub(crate) fn maybe_text(&mut self) -> Taken<Option<String>> {
        match self.take() {
            Cell::Text(text) => Ok(Some(text)),
            Cell::Null => Ok(None),
            _ => self.wrong("text"),
        }
    }

    /// Reads a number that fits `T`.
    pub(crate) fn number<T: TryFrom<i64>>(&mut self) -> Taken<T> {
        self.maybe_number()?.map_or_else(|| self.wrong("a number"), Ok)
    }

    pub(crate) fn maybe_number<T: TryFrom<i64>>(&mut self) -> Taken<Option<T>> {
        match self.take() {
            Cell::Int(number) => T::try_from(number).map_or_else(|_| self.wrong("a number in its range"), |number| Ok(Some(number))),
            Cell::Null => Ok(None),
            _ => self.wrong("a number"),
        }
    }

    pub(crate) fn flag(&mut self) -> Taken<bool> {
        Ok(self.number::<i64>()? != 0)
    }

    pub(crate) fn time(&mut self) -> Taken<Timestamp> {
        self.maybe_time()?.map_or_else(|| self.wrong("a time"), Ok)
    }

    pub(crate) fn maybe_time(&mut self) -> Taken<Option<Timestamp>> {
        let Some(micros) = self.maybe_number()? else { return Ok(None) };
        Timestamp::from_microsecond(micros).map_or_else(|_| self.wrong("a time"), |time| Ok(Some(time)))
    }

    pub(crate) fn bytes(&mut self) -> Taken<Vec<u8>> {
        self.maybe_bytes()?.map_or_else(|| self.wrong("bytes"), Ok)
    }

    pub(crate) fn maybe_bytes(&mut self) -> Taken<Option<Vec<u8>>> {
        match self.take() {
            Cell::Bytes(bytes) => Ok(Some(bytes)),
            // SQLite does not tell ids from other values of 16 bytes.
            Cell::Uuid(id) => Ok(Some(id.as_bytes().to_vec())),
            Cell::Null => Ok(None),
            _ => self.wrong("bytes"),
        }
    }

    pub(crate) fn json<T: DeserializeOwned>(&mut self) -> Taken<T> {
        self.maybe_json()?.map_or_else(|| self.wrong("JSON"), Ok)
    }

    pub(crate) fn maybe_json<T: DeserializeOwned>(&mut self) -> Taken<Option<T>> {
        let Some(text) = self.maybe_text()? else { return Ok(None) };
        serde_json::from_str(&text).map_or_else(|_| self.wrong("JSON of the expected shape"), |value| Ok(Some(value)))
    }

    /// Reads one of a closed list of words.
    pub(crate) fn word<T>(&mut self, parse: impl FnOnce(&str) -> Option<T>) -> Taken<T> {
        let text = self.text()?;
        parse(&text).map_or_else(|| self.wrong("one of the known words"), Ok)
    }
}
