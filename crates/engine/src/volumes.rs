//! Volumes on disk: `volumes/<instance>/data` for the files, `backups/<id>` for copies. A service stands still while its volume is copied:
//! a database's files make sense only together.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use domain::deployment::Deployment;
use domain::project::Instance;
use domain::volume::{Backup, BackupState, Fill, VolumeInstance, VolumeState};
use domain::{BackupId, InstanceId, ReplicaId, Tenant, Timestamp, VolumeInstanceId, WorkspaceId};
use runtime::tree::{copy, give, measure};
use runtime::{Observation, UnixUser};
use store::{Change, StoreError};
use tokio::sync::{Mutex, Semaphore};

use crate::{Home, Shared, lock, record, rounds};

/// What is under way is looked at so often, also when no bell was heard.
const PERIOD: Duration = Duration::from_secs(60);
/// Whether a service has come to rest is looked at so often.
const REST: Duration = Duration::from_millis(100);
/// A service that does not come to rest in this time, besides what it may take to end, is copied another time.
const PATIENCE: Duration = Duration::from_secs(60);
/// Nobody is waited for longer, whatever grace they have.
const LONGEST: Duration = Duration::from_secs(1800);
/// Volumes that are copied at the same time; more would only slow one another down.
const COPIES: usize = 4;
/// What is said of a backup that has failed can be asked for so long.
const FAILED_KEPT: jiff::SignedDuration = jiff::SignedDuration::from_hours(7 * 24);
/// Files and folders of a volume that are counted, at most.
const GAUGED: usize = 1_000_000;

fn data_of(shared: &Shared, id: VolumeInstanceId) -> PathBuf {
    shared.config.data_dir.join("volumes").join(id.to_string()).join("data")
}

fn copy_of(shared: &Shared, id: BackupId) -> PathBuf {
    shared.config.data_dir.join("backups").join(id.to_string())
}

/// Makes the folder of a volume and gives it to the user that is going to use it.
pub(crate) async fn prepare(shared: &Arc<Shared>, id: VolumeInstanceId, user: Option<UnixUser>) -> io::Result<PathBuf> {
    let path = data_of(shared, id);
    let data = path.clone();
    let prepared = tokio::task::spawn_blocking(move || {
        if let Some(parent) = data.parent() {
            std::fs::DirBuilder::new().recursive(true).mode(0o711).create(parent)?;
        }
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&data)?;
        match user {
            // Only a volume that has moved to another service has another owner.
            Some(user) if std::fs::metadata(&data)?.uid() != user.uid => give(&data, user),
            _ => Ok(()),
        }
    });
    prepared.await.map_err(io::Error::other)??;
    Ok(path)
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether one of the replicas that `counts` runs with the volume.
pub(crate) fn is_used<'a>(
    seen: impl IntoIterator<Item = &'a Observation>,
    volume: VolumeInstanceId,
    counts: impl Fn(ReplicaId) -> bool,
) -> bool {
    seen.into_iter().any(|one| has(one, volume) && counts(one.replica_id))
}

/// Whether the replica runs with another volume than the one that is its instance's now.
pub(crate) fn is_stray(seen: &Observation, volume: Option<&VolumeInstance>) -> bool {
    !seen.phase.is_over() && seen.volume.is_some() && volume.is_none_or(|volume| !has(seen, volume.id))
}

/// By the end of the path: an engine that was started from elsewhere may write the same folder in another way.
fn has(seen: &Observation, volume: VolumeInstanceId) -> bool {
    let tail = Path::new(&volume.to_string()).join("data");
    !seen.phase.is_over() && seen.volume.as_ref().is_some_and(|path| path.ends_with(tail))
}

/// The mark that a replica is being started with a volume.
pub(crate) struct Claim {
    shared: Arc<Shared>,
    replica: ReplicaId,
}

impl Claim {
    pub(crate) fn new(shared: &Arc<Shared>, replica: ReplicaId, volume: VolumeInstanceId, instance: InstanceId) -> Self {
        lock(&shared.mounting).insert(replica, (volume, instance));
        Self { shared: shared.clone(), replica }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        lock(&self.shared.mounting).remove(&self.replica);
    }
}

/// What is being copied, and whose turn it is.
#[derive(Default)]
struct Work {
    under_way: std::sync::Mutex<HashSet<VolumeInstanceId>>,
    /// One volume of a workspace at a time, so that no workspace takes all the places.
    turns: std::sync::Mutex<HashMap<WorkspaceId, Arc<Mutex<()>>>>,
}

/// The mark that a volume is being copied.
struct UnderWay {
    work: Arc<Work>,
    volume: VolumeInstanceId,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        lock(&self.work.under_way).remove(&self.volume);
    }
}

pub(crate) async fn run(shared: Arc<Shared>) {
    let (work, places) = (Arc::new(Work::default()), Arc::new(Semaphore::new(COPIES)));
    let problem = "volumes could not be looked after; it is tried again";
    rounds::on_bell(&shared, shared.ops.signals.volumes(), PERIOD, problem, || pass(&shared, &work, &places)).await;
}

/// Restores come first: somebody waits for them.
async fn pass(shared: &Arc<Shared>, work: &Arc<Work>, places: &Arc<Semaphore>) -> Result<(), StoreError> {
    // Taken before anything is read: what ends after that is read as it was, and looked at the next time.
    let busy = lock(&work.under_way).clone();
    let volumes = shared.ops.store.system_volume_instances().await?;
    let wanted = shared.ops.store.system_backups_under_way().await?;
    let (restoring, ready): (Vec<_>, Vec<_>) = volumes.iter().partition(|volume| volume.state == VolumeState::Restoring);
    for volume in restoring.into_iter().chain(ready).filter(|volume| !busy.contains(&volume.id)) {
        let backups: Vec<Backup> = wanted.iter().filter(|backup| backup.volume_instance_id == volume.id).cloned().collect();
        if volume.state == VolumeState::Restoring || !backups.is_empty() {
            lock(&work.under_way).insert(volume.id);
            let mark = UnderWay { work: work.clone(), volume: volume.id };
            shared.tracker.spawn(tend(shared.clone(), places.clone(), mark, volume.clone(), backups));
        }
    }
    schedule(shared, &volumes).await
}

/// All that is to be done for one volume, when it is its turn.
async fn tend(shared: Arc<Shared>, places: Arc<Semaphore>, mark: UnderWay, volume: VolumeInstance, backups: Vec<Backup>) {
    let turn = lock(&mark.work.turns).entry(volume.workspace_id).or_default().clone();
    let done = async {
        let _turn = turn.lock().await;
        let Ok(_place) = places.acquire().await else { return Ok(false) };
        let mut done = true;
        if volume.state == VolumeState::Restoring {
            done = restore(&shared, &volume).await?;
        }
        for backup in &backups {
            back_up(&shared, &volume, backup).await?;
        }
        Ok::<bool, StoreError>(done)
    };
    let done = tokio::select! {
        () = shared.shutdown.cancelled() => return,
        done = done => done,
    };
    drop(mark);
    match done {
        // More may have been asked for meanwhile.
        Ok(true) => shared.ops.signals.ring_volumes(),
        Ok(false) => {}
        Err(error) => tracing::warn!(%error, volume = %volume.id, "a volume could not be looked after; it is tried again"),
    }
}

/// The instance that uses the volume, with its live deployments, oldest first.
async fn used_by(shared: &Shared, volume: &VolumeInstance) -> Result<Option<(Instance, Vec<Deployment>)>, StoreError> {
    let Some(service) = volume.service_id else { return Ok(None) };
    let tenant = Tenant::system(volume.workspace_id);
    let found = shared.ops.store.instance_of(volume.environment_id, service).await?;
    let Some(instance) = found.and_then(|sealed| sealed.open(tenant)) else { return Ok(None) };
    let live = shared.ops.store.deployments_live(tenant, &[instance.id]).await?;
    Ok(Some((instance, live)))
}

/// The instance that uses the volume, and the seconds that its replicas may take to end.
async fn user_of(shared: &Shared, volume: &VolumeInstance) -> Result<Option<(Home, u32)>, StoreError> {
    let Some((instance, live)) = used_by(shared, volume).await? else { return Ok(None) };
    let graces = live.iter().map(|deployment| deployment.spec.deploy.draining_seconds);
    let grace = graces.fold(instance.spec.deploy.draining_seconds, u32::max);
    Ok(Some(((volume.workspace_id, instance.id), grace)))
}

/// A volume that nothing uses until this is dropped.
struct Held {
    shared: Arc<Shared>,
    volume: VolumeInstanceId,
    home: Option<Home>,
}

impl Held {
    fn look(&self) {
        if let Some(home) = self.home {
            self.shared.look(home.0, home.1);
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        lock(&self.shared.held).remove(&self.volume);
        self.look();
    }
}

/// Stops what uses the volume and waits until nothing does. `Err(())` when it does not come to rest.
async fn hold(shared: &Arc<Shared>, volume: &VolumeInstance) -> Result<Result<Held, ()>, StoreError> {
    let user = user_of(shared, volume).await?;
    // First its requests end, then it does, which takes the whole grace at most; the rest is for a machine that is busy.
    let grace = Duration::from_secs(2 * u64::from(user.map_or(0, |(_, grace)| grace)));
    let home = user.map(|(home, _)| home);
    lock(&shared.held).insert(volume.id);
    let held = Held { shared: shared.clone(), volume: volume.id, home };
    held.look();
    let until = tokio::time::Instant::now() + (grace + PATIENCE).min(LONGEST);
    while !rests(shared, volume.id).await {
        if tokio::time::Instant::now() >= until {
            return Ok(Err(()));
        }
        // The driver's bell says that something has changed, not that all has ended.
        tokio::time::sleep(REST).await;
    }
    Ok(Ok(held))
}

/// Nothing uses the volume or is about to, whichever service it is attached to by now.
async fn rests(shared: &Shared, volume: VolumeInstanceId) -> bool {
    if lock(&shared.mounting).values().any(|(claimed, _)| *claimed == volume) {
        return false;
    }
    // A driver that does not answer says nothing about what runs.
    shared.driver.observe().await.is_ok_and(|seen| !is_used(&seen, volume, |_| true))
}

async fn back_up(shared: &Arc<Shared>, volume: &VolumeInstance, backup: &Backup) -> Result<(), StoreError> {
    let tenant = Tenant::system(volume.workspace_id);
    let made = match hold(shared, volume).await? {
        Err(()) => Err("its service did not stop: try again when it is idle".to_owned()),
        Ok(held) => {
            let (from, to) = (data_of(shared, volume.id), copy_of(shared, backup.id));
            let copied = tokio::task::spawn_blocking(move || {
                // Left by an attempt that was cut off.
                remove(&to)?;
                if from.is_dir() { copy(&from, &to) } else { std::fs::create_dir_all(&to).map(|()| 0) }
            });
            let copied = copied.await.map_err(io::Error::other).flatten();
            drop(held);
            copied.map_err(|error| format!("the files could not be copied: {error}"))
        }
    };
    let (state, used, reason) = match made {
        Ok(bytes) => (BackupState::Ready, i64::try_from(bytes).unwrap_or(i64::MAX), None),
        Err(reason) => (BackupState::Failed, 0, Some(reason)),
    };
    if let Some(reason) = &reason {
        tracing::warn!(reason, backup = %backup.id, "a backup has failed");
    }
    let change = Change::BackupEnd { id: backup.id, state, used_bytes: used, reason };
    match shared.ops.store.commit(tenant, vec![change]).await {
        // Deleted meanwhile.
        Err(StoreError::Stale) => Ok(()),
        result => result.map(|_| ()),
    }
}

/// Whether it is over.
async fn restore(shared: &Arc<Shared>, volume: &VolumeInstance) -> Result<bool, StoreError> {
    let Some(backup) = volume.restoring else { return Ok(true) };
    let tenant = Tenant::system(volume.workspace_id);
    let Ok(held) = hold(shared, volume).await? else {
        tracing::warn!(volume = %volume.id, "a volume is in use and cannot be restored yet; it is tried again");
        return Ok(false);
    };
    let (from, to) = (copy_of(shared, backup), data_of(shared, volume.id));
    let swapped = tokio::task::spawn_blocking(move || swap(&from, &to)).await.map_err(io::Error::other).flatten();
    let reason = swapped.err().map(|error| {
        tracing::error!(%error, volume = %volume.id, "a backup cannot be restored; what was there stays");
        format!("the backup could not be put in place, and what was there stays: {error}")
    });
    let (from, to) = (VolumeState::Restoring, VolumeState::Ready);
    let changes = vec![
        Change::VolumeInstanceMove { id: volume.id, from, to, restoring: None, at: Timestamp::now() },
        Change::BackupRestored { id: backup, reason },
    ];
    let done = shared.ops.store.commit(tenant, changes).await;
    drop(held);
    match done {
        Err(StoreError::Stale) => Ok(true),
        result => result.map(|_| true),
    }
}

/// Whole or not at all: what was there goes when the copy is in its place.
fn swap(copy_from: &Path, data: &Path) -> io::Result<()> {
    let (fresh, old) = (data.with_file_name("data.new"), data.with_file_name("data.old"));
    if let Some(parent) = data.parent() {
        std::fs::DirBuilder::new().recursive(true).mode(0o711).create(parent)?;
    }
    if !data.exists() && old.is_dir() {
        // An attempt was cut off between the two renames.
        std::fs::rename(&old, data)?;
    }
    remove(&fresh)?;
    remove(&old)?;
    let swapped = copy(copy_from, &fresh).and_then(|_| exchange(&fresh, data, &old));
    if swapped.is_err() {
        // The room is needed; if it does not work, the next attempt does it.
        let _ = remove(&fresh);
    }
    swapped
}

fn exchange(fresh: &Path, data: &Path, old: &Path) -> io::Result<()> {
    if !data.exists() {
        return std::fs::rename(fresh, data);
    }
    std::fs::rename(data, old)?;
    if let Err(error) = std::fs::rename(fresh, data) {
        std::fs::rename(old, data)?;
        return Err(error);
    }
    if let Err(error) = remove(old) {
        tracing::warn!(%error, path = %old.display(), "what a volume held before a backup was restored could not be deleted");
    }
    Ok(())
}

/// Asks for the backups that are due, and lets go of those whose time is over.
async fn schedule(shared: &Shared, volumes: &[VolumeInstance]) -> Result<(), StoreError> {
    let now = Timestamp::now();
    let mut asked = false;
    for schedule in shared.ops.store.system_backup_schedules().await? {
        let Some(volume) = volumes.iter().find(|volume| volume.id == schedule.volume_instance_id) else { continue };
        let tenant = Tenant::system(volume.workspace_id);
        let backups = shared.ops.store.backups_of(tenant, &[volume.id]).await?;
        let newest = backups.iter().filter(|backup| backup.kind == Some(schedule.kind)).map(|backup| backup.created_at).max();
        let under_way = backups.iter().any(|backup| backup.state == BackupState::Creating);
        if !under_way && schedule.kind.is_due(schedule.created_at, newest, now) {
            let backup = ops::backup::new_backup(volume, Some(schedule.kind), now);
            match shared.ops.store.commit(tenant, vec![Change::BackupInsert(backup)]).await {
                // Somebody has asked for one at the same moment; this one is still due after that.
                Err(StoreError::Conflict { .. }) => {}
                done => {
                    done?;
                    asked = true;
                }
            }
        }
    }
    let mut over = shared.ops.store.system_backups_expired(now).await?;
    over.extend(shared.ops.store.system_backups_failed(now - FAILED_KEPT).await?);
    for backup in over {
        let restoring = volumes.iter().any(|volume| volume.restoring == Some(backup.id));
        if !restoring && backup.state != BackupState::Creating {
            shared.ops.store.commit(Tenant::system(backup.workspace_id), vec![Change::BackupDelete(backup.id)]).await?;
        }
    }
    if asked {
        shared.ops.signals.ring_volumes();
    }
    Ok(())
}

/// Writes down what volumes hold, where that has changed.
pub(crate) async fn gauge(shared: Arc<Shared>) {
    let problem = "what volumes hold could not be written down; it is tried again";
    rounds::by_clock(&shared, PERIOD, problem, || gauge_all(&shared)).await;
}

async fn gauge_all(shared: &Shared) -> Result<(), StoreError> {
    let mut disks = HashMap::new();
    for volume in shared.ops.store.system_volume_instances().await? {
        let path = data_of(shared, volume.id);
        let Ok(used) = tokio::task::spawn_blocking(move || measure(&path, GAUGED)).await else { continue };
        let backups = shared.ops.store.backups_of(Tenant::system(volume.workspace_id), &[volume.id]).await?;
        let kept = backups.iter().map(|backup| u64::try_from(backup.used_bytes).unwrap_or(0)).sum::<u64>();
        disks.extend(volume.service_id.map(|service| ((volume.environment_id, service), (used, kept))));
        let used_bytes = i64::try_from(used).unwrap_or(i64::MAX);
        if used_bytes != volume.used_bytes {
            let mut changes = vec![Change::VolumeInstanceUsed { id: volume.id, used_bytes }];
            changes.extend(alert(shared, &volume, used_bytes).await?);
            let told = changes.len() > 1;
            shared.ops.store.commit(Tenant::system(volume.workspace_id), changes).await?;
            if told {
                shared.tell();
            }
        }
    }
    *lock(&shared.disks) = disks;
    Ok(())
}

/// What is written down when a volume comes to hold four fifths of its size, or all of it: nothing keeps its service from writing more.
async fn alert(shared: &Shared, volume: &VolumeInstance, used_bytes: i64) -> Result<Option<Change>, StoreError> {
    let Some(fill) = volume.fill(used_bytes).filter(|fill| Some(*fill) > volume.fill(volume.used_bytes)) else { return Ok(None) };
    let Some(deployment) = used_by(shared, volume).await?.and_then(|(_, mut live)| live.pop()) else { return Ok(None) };
    let verb = match fill {
        Fill::Full => "volume_full",
        Fill::Nearly => "volume_nearly_full",
    };
    let reason = format!("the volume at {} holds {} of its {} MB", volume.mount_path, used_bytes / 1_000_000, volume.size_mb);
    Ok(Some(record::about(&deployment, verb, Some(&reason))))
}

/// Deletes volumes whose grace is over, and folders that no row knows any more.
pub(crate) async fn sweep(shared: &Arc<Shared>, now: Timestamp) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    for (workspace, volume) in shared.ops.store.system_volumes_to_purge(now).await? {
        shared.ops.store.commit(Tenant::system(workspace), vec![Change::VolumeDelete(volume)]).await?;
    }
    // Folders first: one whose row comes later is made later too.
    let folders = |name: &str| list(&shared.config.data_dir.join(name));
    let (volume_folders, backup_folders) = (folders("volumes"), folders("backups"));
    let volumes: HashSet<String> = shared.ops.store.system_volume_instances().await?.iter().map(|row| row.id.to_string()).collect();
    let backups: HashSet<String> = shared.ops.store.system_backups().await?.iter().map(ToString::to_string).collect();
    let kept: HashSet<String> = shared.ops.store.system_volume_files_kept(now).await?.iter().map(ToString::to_string).collect();
    let unknown = |found: Vec<PathBuf>, known: HashSet<String>| {
        let is_known = |name: &str| known.contains(name) || kept.contains(name);
        let name = |path: &PathBuf| path.file_name().is_some_and(|name| !is_known(&name.to_string_lossy()));
        found.into_iter().filter(name).collect::<Vec<_>>()
    };
    let gone: Vec<PathBuf> = unknown(volume_folders, volumes).into_iter().chain(unknown(backup_folders, backups)).collect();
    tokio::task::spawn_blocking(move || {
        for path in gone {
            if let Err(error) = remove(&path) {
                tracing::warn!(%error, path = %path.display(), "the folder of a deleted volume or backup could not be deleted");
            }
        }
    })
    .await?;
    Ok(())
}

fn list(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder).map_or_else(|_| vec![], |entries| entries.flatten().map(|entry| entry.path()).collect())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_cannot_be_put_in_place_leaves_what_was_there() {
        let place = tempfile::tempdir().unwrap();
        let (kept, data) = (place.path().join("kept"), place.path().join("volume/data"));
        fs::create_dir_all(&data).unwrap();
        fs::write(data.join("file"), "today").unwrap();
        assert!(swap(&kept, &data).is_err(), "the copy is gone");
        assert!(exchange(&place.path().join("nothing"), &data, &place.path().join("volume/data.old")).is_err());
        assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "today");
        assert_eq!(list(&place.path().join("volume")), std::slice::from_ref(&data), "and nothing half done");

        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "yesterday").unwrap();
        swap(&kept, &data).unwrap();
        assert_eq!(fs::read_to_string(data.join("file")).unwrap(), "yesterday");
        assert_eq!(list(&place.path().join("volume")), [data]);
    }
}
