//! Finds containers that stop answering, and replaces them (`contracts/galaxy.md` 3.11).
//!
//! Should be true after each pass: of every container that requests are routed to it is written down whether it answers, and none has
//! failed its checks for longer than it may, unless its app is told to let it. Healthy is who says anything within five seconds
//! ([`health::speaks`]). For how long one was silent is forgotten with the control plane: then the time begins anew.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use domain::deployment::{Replica, ReplicaStatus};
use domain::galaxy::{APP_SILENT, UNHEALTHY, container_id};
use domain::project::Instance;
use domain::{InstanceId, ReplicaId, Tenant, Timestamp};
use futures::StreamExt as _;
use serde_json::json;
use store::{Change, StoreError};
use tokio::time::Instant;

use crate::{Shared, health, record};

/// How containers are watched.
#[derive(Clone, Copy, Debug)]
pub struct WatchConfig {
    /// Between two checks of a container.
    pub every: Duration,
    /// A container answers within.
    pub answer: Duration,
    /// A container that was healthy is replaced after failing for so long.
    pub patience: Duration,
    /// One that never was is replaced after so long.
    pub start_patience: Duration,
    /// When nobody listens on the port of a deployment's replica for so long, its build log says where an app has to listen.
    pub silence: Duration,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self {
            every: Duration::from_secs(15),
            answer: Duration::from_secs(5),
            patience: Duration::from_secs(300),
            start_patience: Duration::from_secs(600),
            silence: Duration::from_secs(15),
        }
    }
}

/// Checks at the same time.
const AT_ONCE: usize = 32;

/// Runs until the engine stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut failing: HashMap<ReplicaId, Silence> = HashMap::new();
    loop {
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            () = tokio::time::sleep(shared.config.watch.every) => {}
        }
        if let Err(error) = pass(&shared, &mut failing).await {
            tracing::warn!(%error, "containers could not be watched; it is tried again");
        }
    }
}

/// A container that did not answer when it was last asked.
struct Silence {
    since: Instant,
    times: u32,
}

/// So many times in a row a container is silent that counts as unhealthy: a single slow answer takes nobody out of service.
const TIMES: u32 = 2;

type Watched = (Replica, Instance);

async fn pass(shared: &Arc<Shared>, failing: &mut HashMap<ReplicaId, Silence>) -> Result<(), StoreError> {
    let config = shared.config.watch;
    let rows = shared.ops.store.system_watched_replicas().await?;
    let running: Vec<(ReplicaId, u16)> =
        rows.iter().filter(|(row, _)| row.status == ReplicaStatus::Running && row.port != 0).map(|(row, _)| (row.id, row.port)).collect();
    let checks = futures::stream::iter(running).map(|(id, port)| async move { (id, health::speaks(port, config.answer).await) });
    let answers: HashMap<ReplicaId, bool> = checks.buffer_unordered(AT_ONCE).collect().await;
    failing.retain(|id, _| answers.get(id) == Some(&false));
    let now = Instant::now();
    for id in answers.iter().filter(|(_, answered)| !**answered).map(|(id, _)| *id) {
        failing.entry(id).or_insert(Silence { since: now, times: 0 }).times += 1;
    }
    let up = |row: &Replica| match answers.get(&row.id) {
        Some(true) => true,
        Some(false) => row.answers() && failing.get(&row.id).is_none_or(|silence| silence.times < TIMES),
        None => row.answers(),
    };
    let mut apps: BTreeMap<InstanceId, Vec<&Watched>> = BTreeMap::new();
    for one in rows.iter().filter(|(row, _)| row.status == ReplicaStatus::Running) {
        apps.entry(one.1.id).or_default().push(one);
    }
    for containers in apps.values() {
        note(shared, containers, up).await?;
    }
    let late = |row: &Replica| match row.status {
        ReplicaStatus::Running => failing.get(&row.id).is_some_and(|silence| now.duration_since(silence.since) >= config.patience),
        ReplicaStatus::Initializing => {
            let age = Timestamp::now().duration_since(row.updated_at);
            Duration::try_from(age).is_ok_and(|age| age >= config.start_patience)
        }
        _ => false,
    };
    let late: Vec<&Watched> = rows.iter().filter(|(row, instance)| instance.spec.deploy.unhealthy_replacement && late(row)).collect();
    for (row, instance) in late {
        failing.remove(&row.id);
        replace(shared, row, instance).await?;
    }
    Ok(())
}

/// Writes down which of an app's running containers answer nobody and which do again, for its status and its route. An app of which none
/// answers any more is unavailable; that is told when it begins.
async fn note(shared: &Arc<Shared>, containers: &[&Watched], up: impl Fn(&Replica) -> bool) -> Result<(), StoreError> {
    let now = Timestamp::now();
    let changed = containers.iter().filter(|(row, _)| up(row) != row.answers());
    let mut changes: Vec<Change> = changed.map(|(row, _)| Change::ReplicaHealth(row.id, (!up(row)).then_some(now))).collect();
    let (Some((first, instance)), false) = (containers.first(), changes.is_empty()) else { return Ok(()) };
    let silent = containers.iter().any(|(row, _)| row.answers()) && !containers.iter().any(|(row, _)| up(row));
    if silent {
        tracing::info!(instance = %instance.id, "no container of an app answers");
        changes.push(record::about_instance(instance, APP_SILENT, first.deployment_id, json!({})));
    }
    match shared.ops.store.commit(Tenant::system(instance.workspace_id), changes).await {
        Ok(_) => {}
        // One of them ends or starts again just now; the next pass sees to the others.
        Err(StoreError::Stale) => return Ok(()),
        Err(error) => return Err(error),
    }
    if silent {
        shared.tell();
    }
    for (row, _) in containers {
        shared.ops.signals.deployment_changed(row.deployment_id);
    }
    shared.look(instance.workspace_id, instance.id);
    Ok(())
}

/// Ends a container, so that another takes its place.
async fn replace(shared: &Arc<Shared>, row: &Replica, instance: &Instance) -> Result<(), StoreError> {
    tracing::info!(replica = %row.id, "a container does not answer and is replaced");
    let end = Change::ReplicaEnd { id: row.id, reason: UNHEALTHY.to_owned(), at: Timestamp::now() };
    let data = json!({"container": container_id(instance.id, row.id)});
    let entry = record::about_instance(instance, "container_unhealthy", row.id, data);
    match shared.ops.store.commit(Tenant::system(row.workspace_id), vec![end, entry]).await {
        Ok(_) => {}
        // It ends already.
        Err(StoreError::Stale) => return Ok(()),
        Err(error) => return Err(error),
    }
    shared.tell();
    shared.look(row.workspace_id, instance.id);
    Ok(())
}
