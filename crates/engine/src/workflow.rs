//! Executes runs of workflows.
//!
//! Should be true after each pass: as many waiting runs are under way as there are places, and no workspace has more of them than its
//! share. A run belongs to whoever holds it; a hold is put off by the clock and runs out when its process is gone. What a node was given
//! and what it gave is a row; a run that is taken up again performs only the nodes without an output. A node that reaches outside is
//! written down before it begins, and keeps its id: whoever it asks can tell a repetition by that.

mod execute;
mod leftovers;
mod nodes;
pub(crate) mod starts;
mod turns;
pub(crate) mod worker;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::workflow::Graph;
use domain::workflow::run::Run;
use domain::{GraphId, RunId, Timestamp, WorkspaceId};
use jiff::SignedDuration;
use store::StoreError;
use tokio::sync::{broadcast, watch};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::places::Places;
use crate::replicas::worker_user;
use crate::{Shared, lock, rounds};
use worker::Workers;

/// Runs under way at the same time.
const PLACES: usize = 256;
/// A hold without news ends after this.
const HOLD: SignedDuration = SignedDuration::from_secs(30);
/// Holds are put off, and those of others looked through, so often.
const RENEW: Duration = Duration::from_secs(10);
/// Runs that another process has started are looked for so often: it rings no bell here.
const ELSEWHERE: Duration = Duration::from_secs(1);
/// What is over and what has expired is looked for so often.
const CLEAN: Duration = Duration::from_secs(600);
/// A run is kept so long after its end, a graph without runs so long after its last use.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 30);
const GRAPH_KEPT: SignedDuration = SignedDuration::from_hours(24);
/// Rows that are deleted together.
const SWEPT: u32 = 500;
/// Rows of each kind that are sealed together: some hold megabytes.
const SEALED: u32 = 20;
/// Graphs that are remembered.
const GRAPHS: usize = 64;

/// What the tasks of runs share.
pub(crate) struct Flow {
    pub(crate) shared: Arc<Shared>,
    pub(crate) holder: Uuid,
    pub(crate) workers: Workers,
    /// Turns at ffmpeg, which takes every core that there is.
    pub(crate) films: Places,
    /// Turns at nodes with a limit of their own.
    turns: turns::Turns,
    under_way: Mutex<HashMap<RunId, UnderWay>>,
    /// Counts executions.
    begun: AtomicU64,
    graphs: Mutex<HashMap<(WorkspaceId, GraphId), Arc<Graph>>>,
    landed: watch::Sender<u64>,
}

/// A run that is being executed.
struct UnderWay {
    workspace: WorkspaceId,
    token: CancellationToken,
    /// Tells this execution from another one of the same run.
    serial: u64,
}

/// Takes an execution off the list, however it ends.
struct Landing {
    flow: Arc<Flow>,
    run: RunId,
    serial: u64,
}

impl Drop for Landing {
    fn drop(&mut self) {
        let mut under_way = lock(&self.flow.under_way);
        if under_way.get(&self.run).is_some_and(|known| known.serial == self.serial) {
            under_way.remove(&self.run);
        }
        drop(under_way);
        self.flow.landed.send_modify(|count| *count += 1);
    }
}

/// Runs until the engine stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let flow = Arc::new(Flow {
        holder: holder(&shared.config.data_dir),
        workers: Workers::new(&shared.config.data_dir, worker_user(&shared.config)),
        films: Places::new(1),
        turns: turns::Turns::default(),
        shared: shared.clone(),
        under_way: Mutex::default(),
        begun: AtomicU64::default(),
        graphs: Mutex::default(),
        landed: watch::Sender::new(0),
    });
    nodes::clear(&shared.config.data_dir);
    // What an earlier process of this engine has left is taken up at once.
    if let Err(error) = shared.ops.store.system_runs_release(flow.holder, Timestamp::now()).await {
        tracing::warn!(%error, "the runs of the last start could not be given back; their holds run out");
    }
    shared.tracker.spawn(keep(flow.clone()));
    shared.tracker.spawn(clean(flow.clone()));
    shared.tracker.spawn(leftovers::run(flow.clone()));
    shared.tracker.spawn(seal(flow.clone()));
    let (mut rings, mut landed) = (shared.ops.signals.runs(), flow.landed.subscribe());
    // A database without a version is one of several processes.
    let period = if shared.ops.store.version().is_none() { ELSEWHERE.min(shared.config.period) } else { shared.config.period };
    loop {
        rings.mark_unchanged();
        landed.mark_unchanged();
        let wait = flow.pass().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "waiting runs could not be read; it is tried again");
            shared.config.period
        });
        tokio::select! {
            () = shared.shutdown.cancelled() => break,
            _ = rings.changed() => {}
            _ = landed.changed() => {}
            () = tokio::time::sleep(wait.min(period)) => {}
        }
    }
    flow.leave().await;
}

/// The same name at every start over the same data.
fn holder(data_dir: &Path) -> Uuid {
    let path = data_dir.join("run").join("engine.id");
    let known = std::fs::read_to_string(&path).ok().and_then(|text| Uuid::parse_str(text.trim()).ok());
    known.unwrap_or_else(|| {
        let id = Uuid::new_v4();
        let kept = path.parent().map_or(Ok(()), std::fs::create_dir_all).and_then(|()| std::fs::write(&path, id.to_string()));
        if let Err(error) = kept {
            tracing::warn!(%error, "the engine's name could not be kept: after a restart its runs wait until their holds run out");
        }
        id
    })
}

/// Puts off the holds, takes up what nobody holds any more, and ends what somebody has stopped.
async fn keep(flow: Arc<Flow>) {
    let mut canceled = flow.shared.ops.signals.canceled_runs();
    let mut tick = tokio::time::interval(RENEW);
    loop {
        tokio::select! {
            () = flow.shared.shutdown.cancelled() => return,
            _ = tick.tick() => if let Err(error) = flow.renew().await {
                tracing::warn!(%error, "the holds of runs could not be put off; it is tried again");
            },
            stopped = canceled.recv() => match stopped {
                Ok(run) => flow.end(run),
                // What was missed shows at the next renewal.
                Err(broadcast::error::RecvError::Lagged(_)) => {}
                Err(broadcast::error::RecvError::Closed) => return,
            },
        }
    }
}

/// Deletes what is over, beside what puts off the holds of runs: it may take longer than another control plane waits for those.
async fn clean(flow: Arc<Flow>) {
    let problem = "old runs and files could not be deleted; it is tried again";
    rounds::by_clock(&flow.shared, CLEAN, problem, || flow.clean()).await;
}

/// Seals what an earlier version has written plainly. Once that is done, every later start finds nothing.
async fn seal(flow: Arc<Flow>) {
    loop {
        let found = tokio::select! {
            () = flow.shared.shutdown.cancelled() => return,
            found = flow.shared.ops.store.system_seal_plain(SEALED) => found,
        };
        match found {
            Ok(0) => return,
            Ok(_) => continue,
            Err(error) => tracing::warn!(%error, "what workflows held before could not be sealed; it is tried again"),
        }
        tokio::select! {
            () = flow.shared.shutdown.cancelled() => return,
            () = tokio::time::sleep(CLEAN) => {}
        }
    }
}

impl Flow {
    /// Begins what there is room for. Returns how long nothing more can be.
    async fn pass(self: &Arc<Self>) -> Result<Duration, StoreError> {
        let store = &self.shared.ops.store;
        loop {
            let waiting = store.system_run_tenants().await?;
            let now = Timestamp::now();
            let due: Vec<WorkspaceId> = waiting.iter().filter(|(_, at)| *at <= now).map(|(workspace, _)| *workspace).collect();
            let (shares, room) = self.shares(&due);
            if room == 0 {
                return Ok(self.shared.config.period);
            }
            let most = self.shared.ops.settings.flow.runs_per_workspace;
            let taken =
                if shares.is_empty() { vec![] } else { store.system_runs_claim(&shares, most, self.holder, now + HOLD, now).await? };
            if taken.is_empty() {
                // What is due already belongs to a workspace that has its share; it is looked for when one of those lands.
                let next = waiting.iter().map(|(_, at)| at.duration_since(now)).filter(|wait| wait.is_positive()).min();
                return Ok(next.and_then(|wait| Duration::try_from(wait).ok()).unwrap_or(self.shared.config.period));
            }
            for run in taken {
                self.begin(run, now);
            }
        }
    }

    /// How many runs each workspace may begin now: the room in equal parts, at least one, in an order that changes.
    fn shares(&self, waiting: &[WorkspaceId]) -> (Vec<(WorkspaceId, u32)>, usize) {
        let under_way = lock(&self.under_way);
        let mut room = PLACES.saturating_sub(under_way.len());
        let mut of: HashMap<WorkspaceId, u32> = HashMap::new();
        for known in under_way.values() {
            *of.entry(known.workspace).or_default() += 1;
        }
        let start = usize::try_from(*self.landed.borrow()).unwrap_or_default() % waiting.len().max(1);
        let part = u32::try_from((room / waiting.len().max(1)).max(1)).unwrap_or(1);
        let most = self.shared.ops.settings.flow.runs_per_workspace;
        let mut shares = vec![];
        for workspace in waiting.iter().cycle().skip(start).take(waiting.len()) {
            let own =
                most.saturating_sub(of.get(workspace).copied().unwrap_or_default()).min(part).min(u32::try_from(room).unwrap_or(u32::MAX));
            if own > 0 {
                shares.push((*workspace, own));
                room -= own as usize;
            }
        }
        (shares, PLACES.saturating_sub(under_way.len()))
    }

    fn begin(self: &Arc<Self>, run: Run, now: Timestamp) {
        // The database keeps microseconds.
        let resumed = run.started_at.is_some_and(|at| at.as_microsecond() < now.as_microsecond());
        let token = self.shared.shutdown.child_token();
        let serial = self.begun.fetch_add(1, Ordering::Relaxed);
        let known = UnderWay { workspace: run.workspace_id, token: token.clone(), serial };
        if let Some(earlier) = lock(&self.under_way).insert(run.id, known) {
            // Its hold has run out, and it has not noticed yet.
            earlier.token.cancel();
        }
        let landing = Landing { flow: self.clone(), run: run.id, serial };
        self.shared.tracker.spawn(async move {
            execute::execute(&landing.flow, run, resumed, &token).await;
        });
    }

    fn end(&self, run: RunId) {
        if let Some(known) = lock(&self.under_way).get(&run) {
            known.token.cancel();
        }
    }

    async fn renew(&self) -> Result<(), StoreError> {
        let store = &self.shared.ops.store;
        let now = Timestamp::now();
        let before: HashMap<RunId, CancellationToken> =
            lock(&self.under_way).iter().map(|(run, known)| (*run, known.token.clone())).collect();
        if !before.is_empty() {
            let ids: Vec<RunId> = before.keys().copied().collect();
            let held = store.system_runs_renew(self.holder, &ids, now + HOLD).await?;
            // The execution that was seen, and not one that has taken its place meanwhile.
            for (_, token) in before.iter().filter(|(run, _)| !held.contains(run)) {
                token.cancel();
            }
        }
        if store.system_runs_expire(now).await? > 0 {
            self.shared.ops.signals.ring_runs();
        }
        Ok(())
    }

    /// Deletes what is kept no longer: the file first, so that a row never outlives what tells of it.
    async fn clean(&self) -> Result<(), StoreError> {
        let (store, now) = (&self.shared.ops.store, Timestamp::now());
        loop {
            let expired = store.system_flow_files_expired(now, SWEPT).await?;
            if expired.is_empty() {
                break;
            }
            for id in &expired {
                // Absent already: an earlier look was interrupted.
                let _ = tokio::fs::remove_file(ops::file::file_path(&self.shared.ops, *id)).await;
            }
            store.system_flow_files_delete(&expired).await?;
        }
        while store.system_runs_forget(now - KEPT, SWEPT).await? > 0 {}
        store.system_graphs_forget(now - GRAPH_KEPT).await?;
        Ok(())
    }

    /// Gives back what is under way, for the next start.
    async fn leave(&self) {
        let ended = async {
            let mut landed = self.landed.subscribe();
            while !lock(&self.under_way).is_empty() {
                if landed.changed().await.is_err() {
                    return;
                }
            }
        };
        if tokio::time::timeout(RENEW, ended).await.is_err() {
            tracing::warn!("some runs did not stop in time; their holds run out");
        }
        if let Err(error) = self.shared.ops.store.system_runs_release(self.holder, Timestamp::now()).await {
            tracing::warn!(%error, "runs could not be given back; their holds run out");
        }
    }

    async fn graph(&self, run: &Run) -> Result<Option<Arc<Graph>>, StoreError> {
        let slot = (run.workspace_id, run.graph_id);
        if let Some(known) = lock(&self.graphs).get(&slot) {
            return Ok(Some(known.clone()));
        }
        let found = self.shared.ops.store.graph(domain::Tenant::system(run.workspace_id), run.graph_id).await?.map(Arc::new);
        if let Some(graph) = &found {
            let mut graphs = lock(&self.graphs);
            if graphs.len() >= GRAPHS {
                graphs.clear();
            }
            graphs.insert(slot, graph.clone());
        }
        Ok(found)
    }
}
