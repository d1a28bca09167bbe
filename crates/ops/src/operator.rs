//! What the operator of a server sees of it, and copies of its own database. Nobody else sees any of this, whatever their roles.

use std::cmp::Reverse;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use domain::account::{Membership, User};
use domain::{Code, Permission, Place, Tenant, Timestamp, UserId};
use jiff::SignedDuration;
use serde::Serialize;
use serde_json::json;
use store::{Store, StoreError};

use crate::{Error, OpCtx, Via};

/// Copies of the database that are kept; making one more removes the oldest.
const KEEP: usize = 14;

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Nothing to do.
    Ok,
    /// Works, with less than there could be.
    Warn,
    /// Something that is configured cannot work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// What it is called.
    pub name: String,
    /// How serious it is.
    pub state: State,
    /// What is there.
    pub found: String,
    /// What follows from it; empty when all is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub meaning: String,
    /// What to do about it; empty when all is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remedy: String,
}

impl Check {
    /// All is well.
    pub fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Ok, found: found.into(), meaning: String::new(), remedy: String::new() }
    }

    /// It works, with less than there could be.
    pub fn warn(name: impl Into<String>, found: impl Into<String>, meaning: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Warn, found: found.into(), meaning: meaning.into(), remedy: remedy.into() }
    }

    /// It cannot work.
    pub fn fail(name: impl Into<String>, found: impl Into<String>, meaning: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state: State::Fail, ..Self::warn(name, found, meaning, remedy) }
    }
}

/// What lies on the data disk.
#[derive(Clone, Debug, Default)]
pub struct Storage {
    /// What takes room, and how many bytes of it.
    pub parts: Vec<(&'static str, u64)>,
    /// Bytes that are free for this user.
    pub free: u64,
    /// Bytes that the disk has.
    pub total: u64,
}

/// What the operator's verbs need of the program around them: ways to look at the machine, which may take seconds, and a folder.
pub struct Machine {
    /// What `orrery doctor` finds.
    pub health: Box<dyn Fn() -> Vec<Check> + Send + Sync>,
    /// What lies on the data disk.
    pub storage: Box<dyn Fn() -> Storage + Send + Sync>,
    /// Where copies of the database are put.
    pub backups: PathBuf,
}

impl Machine {
    /// One of which nothing is known.
    #[must_use]
    pub fn unknown(backups: PathBuf) -> Self {
        Self { health: Box::new(Vec::new), storage: Box::new(Storage::default), backups }
    }
}

/// A copy of the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreBackup {
    /// The file's name.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
    /// How large it is.
    pub bytes: u64,
}

/// Somebody with an account here.
#[derive(Clone, Debug)]
pub struct Account {
    /// Who.
    pub user: User,
    /// Their logins by password ask for a code.
    pub second_factor: bool,
    /// Where they belong, oldest workspace first.
    pub memberships: Vec<Membership>,
}

/// Whether the principal is an operator of this server.
///
/// # Errors
/// Not a person, or not an operator.
pub fn operator(ctx: &OpCtx) -> Result<(), Error> {
    if ctx.user()?.user.operator {
        return Ok(());
    }
    Err(Error::new(Code::Forbidden, "Not Authorized: only an operator of this server sees this"))
}

/// What this machine lacks and what follows from it, looked at now.
///
/// # Errors
/// Not an operator.
pub async fn health(ctx: &OpCtx) -> Result<Vec<Check>, Error> {
    operator(ctx)?;
    let machine = Arc::clone(&ctx.ops.machine);
    tokio::task::spawn_blocking(move || (machine.health)()).await.map_err(|error| Error::internal("health", error))
}

/// What lies on the data disk, measured now.
///
/// # Errors
/// Not an operator.
pub async fn storage(ctx: &OpCtx) -> Result<Storage, Error> {
    operator(ctx)?;
    let machine = Arc::clone(&ctx.ops.machine);
    tokio::task::spawn_blocking(move || (machine.storage)()).await.map_err(|error| Error::internal("storage", error))
}

/// Everybody with an account here, oldest account first.
///
/// # Errors
/// Not an operator.
pub async fn users(ctx: &OpCtx) -> Result<Vec<Account>, Error> {
    operator(ctx)?;
    let store = &ctx.ops.store;
    let factors: HashSet<UserId> = store.system_second_factors().await?.into_iter().collect();
    let mut places: HashMap<UserId, Vec<Membership>> = HashMap::new();
    for (user, membership) in store.system_memberships().await? {
        places.entry(user).or_default().push(membership);
    }
    let account = |user: User| {
        let memberships = places.remove(&user.id).unwrap_or_default();
        Account { second_factor: factors.contains(&user.id), memberships, user }
    };
    Ok(store.users().await?.into_iter().map(account).collect())
}

/// The copies of the database that there are, newest first.
///
/// # Errors
/// Not an operator, or the disk refuses.
pub async fn backups(ctx: &OpCtx) -> Result<Vec<StoreBackup>, Error> {
    operator(ctx)?;
    list(&ctx.ops.machine.backups)
}

/// Where it is written down what an operator does with copies. They have to be there: making copies removes old ones, and a key that leaks,
/// or a workflow of theirs, must not take all of them away.
fn in_person(ctx: &OpCtx) -> Result<Tenant, Error> {
    operator(ctx)?;
    let person = ctx.user()?;
    if !matches!(person.via, Via::Session(_) | Via::Server) {
        return Err(Error::new(
            Code::Forbidden,
            "Not Authorized: copies of the database are made and deleted in the dashboard, by an operator who is signed in there, and made \
             with `orrery backup` on the server",
        ));
    }
    let home = person.home().ok_or_else(|| Error::conflict("Your account has no workspace: create one"))?;
    ctx.allow(home.id, Place::Workspace, Permission::Read)
}

/// Copies the database.
///
/// # Errors
/// Not an operator who is there, the database is not a file, or the disk refuses.
pub async fn backup_create(ctx: &OpCtx) -> Result<StoreBackup, Error> {
    let tenant = in_person(ctx)?;
    let made = back_up(&ctx.ops.store, &ctx.ops.machine.backups, ctx.now).await?;
    ctx.commit(tenant, vec![ctx.activity(tenant, None, "operator_backup_create", &made.name, json!({"name": made.name}))]).await?;
    Ok(made)
}

/// Deletes a copy of the database.
///
/// # Errors
/// Not an operator who is there, or not found.
pub async fn backup_delete(ctx: &OpCtx, name: &str) -> Result<(), Error> {
    let tenant = in_person(ctx)?;
    let folder = &ctx.ops.machine.backups;
    // Only names from the list: no other path is ever touched.
    let found = list(folder)?.into_iter().find(|backup| backup.name == name).ok_or_else(|| Error::not_found("Backup"))?;
    // First, so that none goes without a trace.
    ctx.commit(tenant, vec![ctx.activity(tenant, None, "operator_backup_delete", &found.name, json!({"name": found.name}))]).await?;
    std::fs::remove_file(folder.join(found.name)).map_err(disk)
}

/// Copies the database into a folder, and removes the copies of it that are older than the newest fourteen.
///
/// # Errors
/// The database is not a file, or the disk refuses.
pub async fn back_up(store: &Store, folder: &Path, now: Timestamp) -> Result<StoreBackup, Error> {
    let draft = Draft::begin(folder, now)?;
    let made = store.snapshot(&draft.unfinished).await;
    draft.end(made)
}

/// The same of a database that is not open, before it is migrated; `url` as in [`store::StoreConfig`]. Where the newest copy has all of it
/// that one is enough: a server that starts anew every second because it cannot migrate would push out those from before.
///
/// # Errors
/// As [`back_up`].
pub async fn back_up_closed(url: &str, folder: &Path, now: Timestamp) -> Result<StoreBackup, Error> {
    if let Some(newest) = list(folder)?.into_iter().next().filter(|newest| has_all(newest, url)) {
        return Ok(newest);
    }
    let draft = Draft::begin(folder, now)?;
    let made = Store::copy_closed(url, &draft.unfinished).await;
    draft.end(made)
}

/// Whether the database was left alone since the copy was made, neither written to nor put in the place of another.
fn has_all(copy: &StoreBackup, url: &str) -> bool {
    use std::os::unix::fs::MetadataExt;
    let Some(path) = url.strip_prefix("sqlite://") else { return false };
    let log = std::fs::metadata(format!("{path}-wal")).is_ok_and(|log| log.len() > 0);
    let changed = std::fs::metadata(path).ok().and_then(|file| Timestamp::new(file.ctime(), i32::try_from(file.ctime_nsec()).ok()?).ok());
    !log && changed.is_some_and(|changed| changed < copy.created_at)
}

/// A copy that is being made.
struct Draft<'a> {
    folder: &'a Path,
    name: String,
    unfinished: PathBuf,
}

impl<'a> Draft<'a> {
    fn begin(folder: &'a Path, now: Timestamp) -> Result<Self, Error> {
        make_private(folder).map_err(disk)?;
        sweep(folder, now).map_err(disk)?;
        let name = format!("{PREFIX}{}{SUFFIX}", now.strftime("%Y-%m-%dT%H%M%S.%3fZ"));
        let unfinished = folder.join(format!("{name}.part"));
        // Left behind by one that was interrupted at the very same time of another clock, and hardly ever there.
        let _ = std::fs::remove_file(&unfinished);
        Ok(Self { folder, name, unfinished })
    }

    fn end(self, made: Result<bool, StoreError>) -> Result<StoreBackup, Error> {
        let Self { folder, name, unfinished } = self;
        if !matches!(made, Ok(true)) {
            // What there is of it is of no use; the answer is the first error.
            let _ = std::fs::remove_file(&unfinished);
        }
        if !made? {
            return Err(Error::new(
                Code::Unsupported,
                "The database is a PostgreSQL server: back it up with pg_dump, and keep master.key with it",
            ));
        }
        std::fs::rename(&unfinished, folder.join(&name)).map_err(disk)?;
        let all = list(folder)?;
        for old in all.iter().skip(KEEP) {
            std::fs::remove_file(folder.join(&old.name)).map_err(disk)?;
        }
        all.into_iter().find(|backup| backup.name == name).ok_or_else(|| Error::not_found("Backup"))
    }
}

const PREFIX: &str = "orrery-";
const SUFFIX: &str = ".db";
const UNFINISHED: &str = ".db.part";
/// No copy takes so long.
const ABANDONED: SignedDuration = SignedDuration::from_hours(24);

fn make_private(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
}

fn disk(error: std::io::Error) -> Error {
    Error::internal("copies of the database", error)
}

/// Removes what copies that were interrupted have left behind: nobody else does, and each is up to as large as the database.
fn sweep(folder: &Path, now: Timestamp) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // One that another removes meanwhile is not there.
        let Ok(metadata) = entry.metadata() else { continue };
        if !metadata.is_file() || !name.starts_with(PREFIX) || !name.ends_with(UNFINISHED) {
            continue;
        }
        let changed = metadata.modified().ok().and_then(|at| Timestamp::try_from(at).ok());
        if changed.is_some_and(|at| now.duration_since(at) > ABANDONED) {
            // What cannot be removed now is tried again before the next copy.
            let _ = std::fs::remove_file(entry.path());
        }
    }
    Ok(())
}

fn list(folder: &Path) -> Result<Vec<StoreBackup>, Error> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(disk(error)),
    };
    let mut found = vec![];
    for entry in entries {
        let entry = entry.map_err(disk)?;
        let Ok(name) = entry.file_name().into_string() else { continue };
        // One that another removes meanwhile is not there.
        let Ok(metadata) = entry.metadata() else { continue };
        if !metadata.is_file() || !name.starts_with(PREFIX) || !name.ends_with(SUFFIX) {
            continue;
        }
        let changed = metadata.modified().ok().and_then(|at| Timestamp::try_from(at).ok());
        found.push(StoreBackup { name, created_at: changed.unwrap_or(Timestamp::UNIX_EPOCH), bytes: metadata.len() });
    }
    // Names are times.
    found.sort_unstable_by_key(|backup| Reverse(backup.name.clone()));
    Ok(found)
}
