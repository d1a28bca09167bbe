//! One run, from where it stands to its end or to where it has to wait.

use std::collections::{BTreeMap, HashMap};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use domain::delivery::Delivery;
use domain::variable::refers;
use domain::workflow::catalogue::{Catalogue, ENVIRONMENT, Effect, REFERRING};
use domain::workflow::machine::{After, Progress, Verdict, after_failure, weight, weight_of};
use domain::workflow::run::{NodeRun, Run, RunStatus, Subject};
use domain::workflow::{FILE_INPUT, Policy, is_scaffold};
use domain::{NodeRunId, Tenant, Timestamp};
use futures::FutureExt as _;
use jiff::SignedDuration;
use ops::run::Teller;
use serde_json::{Map, Value};
use store::{Change, RunChange, StoreError};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::nodes::{Attempt, Failure, is_confined, is_film, perform, waits_until};
use super::worker::Given;
use super::{Flow, HOLD};

/// Nodes of one run at the same time.
const AT_ONCE: usize = 16;
/// Rows that are written together at the most.
const BATCH: usize = 64;
/// A run that has to wait longer than this gives its place back.
const PARK: SignedDuration = SignedDuration::from_secs(5);
/// A run whose writing has failed is tried again after this.
const PAUSE: SignedDuration = SignedDuration::from_secs(5);
/// Starts of a node beyond its own attempts: the server was killed while it ran, every time.
const INTERRUPTIONS: u32 = 50;
/// The largest output of a node in bytes.
const OUTPUT: usize = 4 << 20;
/// What all nodes of a run are given and give at the most, in bytes.
const KEPT: usize = 64 << 20;
/// An attempt that holds a worker ends after this, whatever its node says: there are few of them.
const CONFINED: Duration = Duration::from_secs(60);
/// The longest error that is kept.
const ERROR: usize = 4000;

/// A node that has been handed out, with its row as it is now.
struct Landed {
    at: usize,
    row: NodeRun,
    outcome: Result<Given, Failure>,
    /// What it had of a node that is performed only so often at once.
    turn: Option<OwnedSemaphorePermit>,
}

struct Execution<'a> {
    flow: &'a Arc<Flow>,
    catalogue: Arc<Catalogue>,
    run: Arc<Run>,
    tenant: Tenant,
    progress: Progress,
    /// What its nodes have cost so far.
    credits: i64,
    /// Whom it tells, and what is to be told with the next rows.
    teller: Option<Teller>,
    notices: Vec<Delivery>,
    /// It was under way before. What ended it may be one of its nodes, so that each is written down before it begins.
    resumed: bool,
    completed: u32,
    failed: u32,
    /// What its nodes were given and gave so far, in bytes, and whether that has become too much.
    kept: usize,
    full: bool,
    /// Rows of nodes that have begun and have no output.
    begun: HashMap<String, NodeRun>,
    /// Rows to write, by node: a later state replaces an earlier one.
    pending: BTreeMap<usize, NodeRun>,
    flying: JoinSet<Landed>,
    /// When what waits goes on.
    timers: BTreeMap<(Timestamp, usize), NodeRun>,
}

/// Executes a run. A database that is silent leaves it as it is, for another attempt; what another attempt would meet again ends it.
pub(super) async fn execute(flow: &Arc<Flow>, run: Run, resumed: bool, token: &CancellationToken) {
    let id = run.id;
    let tenant = Tenant::system(run.workspace_id);
    let outcome = tokio::select! {
        // Everything that is under way is dropped here; what has to be known of it is in the store.
        () = token.cancelled() => return,
        outcome = go(flow, run, resumed) => outcome,
    };
    let (holder, now) = (flow.holder, Timestamp::now());
    let change = match outcome {
        Ok(()) => return flow.shared.ops.signals.ring_runs(),
        // Canceled, or another engine holds it.
        Err(StoreError::Stale) => return,
        Err(error) if is_passing(&error) => {
            tracing::warn!(%error, run = %id, "a run could not be written down; it is tried again");
            RunChange::Park { id, holder, until: now + PAUSE }
        }
        Err(error) => {
            tracing::error!(%error, run = %id, "a run cannot be executed and is given up");
            RunChange::End { id, holder, status: RunStatus::Failed, error: Some(unkept(&error)), credits: 0, at: now }
        }
    };
    match flow.shared.ops.store.commit(tenant, vec![Change::Run(change)]).await {
        Ok(_) => flow.shared.ops.signals.ring_runs(),
        Err(error) => tracing::warn!(%error, run = %id, "the run could not be given back; its hold runs out"),
    }
}

/// Whether it may go better another time.
fn is_passing(error: &StoreError) -> bool {
    matches!(error, StoreError::Unavailable { .. })
}

/// What the run's owner reads when it cannot be kept.
fn unkept(error: &StoreError) -> String {
    match error {
        StoreError::BadText => "what its nodes were called or gave cannot be kept: a text holds a NUL character".to_owned(),
        _ => "Orrery could not keep what this run does: the operator finds the reason in the server's log".to_owned(),
    }
}

async fn go(flow: &Arc<Flow>, run: Run, resumed: bool) -> Result<(), StoreError> {
    let tenant = Tenant::system(run.workspace_id);
    let store = &flow.shared.ops.store;
    let graph = flow.graph(&run).await?.ok_or_else(|| StoreError::Corrupt(format!("run {} has no graph", run.id)))?;
    let rows = store.node_runs_of(tenant, &[run.id]).await?.remove(&run.id).unwrap_or_default();
    let credits = rows.iter().map(|row| row.credits).sum();
    let kept = rows.iter().map(|row| given_weight(row) + row.output.as_ref().map_or(0, weight)).sum();
    let teller = Teller::of(&flow.shared.ops, tenant, &run).await?;
    let fresh = rows.is_empty();
    let count = |status| u32::try_from(rows.iter().filter(|row| row.status == status).count()).unwrap_or(u32::MAX);
    let (completed, failed) = (count(RunStatus::Completed), count(RunStatus::Failed));
    let (mut known, mut begun) = (HashMap::new(), HashMap::new());
    for row in rows {
        match (row.status, &row.output) {
            (RunStatus::Completed, Some(Value::Object(output))) => {
                known.insert(row.node_id.clone(), output.clone());
            }
            _ => {
                begun.insert(row.node_id.clone(), row);
            }
        }
    }
    let progress = Progress::new(graph, run.values.clone(), known);
    let mut execution = Execution {
        flow,
        catalogue: flow.shared.ops.settings.flow.catalogue.clone(),
        run: Arc::new(run),
        tenant,
        progress,
        credits,
        teller,
        notices: vec![],
        resumed,
        completed,
        failed,
        kept,
        full: false,
        begun,
        pending: BTreeMap::new(),
        flying: JoinSet::new(),
        timers: BTreeMap::new(),
    };
    if fresh {
        // Told with its first row, and so once.
        execution.tell("run.started", None, None);
    }
    match execution.run().await {
        Err(error) if !is_passing(&error) && !matches!(error, StoreError::Stale) => execution.give_up(&error).await,
        outcome => outcome,
    }
}

/// What a node was given, in bytes.
fn given_weight(row: &NodeRun) -> usize {
    row.input.as_ref().map_or(0, weight)
}

/// Whether a node does no more than to hand on what the workflow has: no work begins there, and nothing is put in
/// (`contracts/flow.md` 1.2).
fn hands_on(kind: &str) -> bool {
    is_scaffold(kind) || kind == FILE_INPUT
}

fn status_row(row: NodeRun, status: RunStatus, now: Timestamp) -> NodeRun {
    NodeRun { status, finished_at: Some(now), ..row }
}

impl Execution<'_> {
    async fn run(&mut self) -> Result<(), StoreError> {
        loop {
            self.hand_out().await?;
            if self.pending.len() >= BATCH {
                self.write(vec![]).await?;
            }
            if !self.flying.is_empty() {
                self.wait_for_one().await?;
                continue;
            }
            if self.full {
                let words = format!("a run keeps at most {} MiB of what its nodes take and give: keep large things in files", KEPT >> 20);
                return self.end(RunStatus::Failed, Some(words)).await;
            }
            let next = self.timers.keys().next().map(|(at, _)| *at);
            match (self.progress.verdict(), next) {
                (Verdict::Going, Some(at)) => {
                    if at.duration_since(Timestamp::now()) > PARK {
                        return self.write(vec![RunChange::Park { id: self.run.id, holder: self.flow.holder, until: at }]).await;
                    }
                    self.write(vec![]).await?;
                    sleep_until(at).await;
                    self.wake().await?;
                }
                (Verdict::Going, None) => {
                    return self.end(RunStatus::Failed, Some("nothing is left to do, and the run is not complete".to_owned())).await;
                }
                (Verdict::Completed, _) => return self.end(RunStatus::Completed, None).await,
                (Verdict::Failed(error), _) => return self.end(RunStatus::Failed, Some(error)).await,
            }
        }
    }

    /// Begins every node that is ready, as far as there is room.
    async fn hand_out(&mut self) -> Result<(), StoreError> {
        while self.flying.len() < AT_ONCE && !self.full {
            let Some(at) = self.progress.take_next() else { return Ok(()) };
            if is_scaffold(&self.progress.node(at).kind) && self.is_too_much(at, 0) {
                return Ok(());
            }
            if let Some(output) = self.progress.scaffold(at) {
                let row = NodeRun { output: Some(Value::Object(output.clone())), ..self.new_row(at) };
                self.completed += 1;
                self.kept += weight_of(&output);
                self.pending.insert(at, status_row(row, RunStatus::Completed, Timestamp::now()));
                self.progress.done(at, output);
                continue;
            }
            let row = self.begun.remove(&self.progress.node(at).id).unwrap_or_else(|| self.new_row(at));
            self.begin(at, row).await?;
        }
        Ok(())
    }

    /// Whether the run would keep too much with what a node is to be given, beside what it was given before.
    fn is_too_much(&mut self, at: usize, before: usize) -> bool {
        let room = KEPT.saturating_sub(self.kept.saturating_sub(before));
        self.full = self.full || self.progress.weight(at, room) > room;
        self.full
    }

    fn new_row(&self, at: usize) -> NodeRun {
        let node = self.progress.node(at);
        NodeRun {
            id: NodeRunId::generate(),
            workspace_id: self.run.workspace_id,
            run_id: self.run.id,
            node_id: node.id.clone(),
            node_type: node.kind.clone(),
            status: RunStatus::Running,
            attempts: 0,
            failures: 0,
            input: None,
            output: None,
            logs: vec![],
            error: None,
            credits: 0,
            started_at: (!hands_on(&node.kind)).then(Timestamp::now),
            finished_at: None,
        }
    }

    /// Begins an attempt of a node.
    async fn begin(&mut self, at: usize, mut row: NodeRun) -> Result<(), StoreError> {
        if row.status == RunStatus::Failed {
            // The server was killed between the node's end and the run's.
            self.progress.failed(at, row.error.as_deref().unwrap_or("it failed"));
            return Ok(());
        }
        let before = given_weight(&row);
        if self.is_too_much(at, before) {
            return Ok(());
        }
        let input = match self.progress.input(at, &self.catalogue) {
            Ok(input) => input,
            Err(error) => return self.landed(Landed { at, row, outcome: Err(Failure::once(error)), turn: None }).await,
        };
        self.kept = self.kept.saturating_sub(before) + weight_of(&input);
        row.input = (!hands_on(&row.node_type)).then(|| Value::Object(input.clone()));
        let node = self.progress.node(at);
        let at_once = node.data.policy.concurrency;
        row.status = if at_once.is_some() { RunStatus::Queued } else { RunStatus::Running };
        let kind = self.catalogue.get(&node.kind).map_or_else(|| node.kind.clone(), |kind| kind.key.to_string());
        if let Some(until) = waits(&row, node.data.policy, &kind, &input).filter(|until| *until > Timestamp::now()) {
            self.pending.insert(at, row.clone());
            self.timers.insert((until, at), row);
            return Ok(());
        }
        row.attempts += 1;
        row.finished_at = None;
        if row.attempts > row.failures + INTERRUPTIONS {
            let outcome = Err(Failure::once("the server ended too often while it ran"));
            return self.landed(Landed { at, row, outcome, turn: None }).await;
        }
        let (outside, limit) = self.terms(at);
        if outside || self.resumed || at_once.is_some() {
            self.pending.insert(at, row.clone());
            self.write(vec![]).await?;
        }
        let node = self.progress.node(at);
        let attempt = Attempt {
            flow: self.flow.clone(),
            run: self.run.clone(),
            key: row.id,
            node_id: row.node_id.clone(),
            label: node.data.label.clone(),
            refers: self.referring(at, &kind, &input),
            kind,
            input,
        };
        self.flying.spawn(async move {
            let (outcome, turn) = perform_in_turn(&attempt, limit, at_once).await;
            Landed { at, row, outcome, turn }
        });
        Ok(())
    }

    /// The inputs that may refer to variables, as far as it is the workflow that does, and not what came with the run: that is text. One
    /// node by itself is all its caller's own.
    fn referring(&self, at: usize, kind: &str, input: &Map<String, Value>) -> Vec<String> {
        let direct = matches!(self.run.subject, Subject::Node { .. });
        let is_told = |name: &str| direct || self.progress.is_told(at, name);
        if !REFERRING.contains(&kind) || !input.contains_key(ENVIRONMENT) || !is_told(ENVIRONMENT) {
            return vec![];
        }
        let names = input.iter().filter(|(name, value)| refers(value) && is_told(name)).map(|(name, _)| name.clone());
        names.collect()
    }

    /// Whether a node reaches outside, and how long an attempt may take.
    fn terms(&self, at: usize) -> (bool, Duration) {
        let node = self.progress.node(at);
        let kind = self.catalogue.get(&node.kind);
        let own = kind.map_or(30_000, |kind| kind.timeout_ms);
        (kind.is_some_and(|kind| kind.effect == Effect::Outside), Duration::from_millis(node.data.policy.timeout_ms.unwrap_or(own)))
    }

    async fn wait_for_one(&mut self) -> Result<(), StoreError> {
        let next = self.timers.keys().next().map(|(at, _)| *at);
        tokio::select! {
            landed = self.flying.join_next() => match landed {
                Some(Ok(landed)) => self.landed(landed).await,
                // Panics are outcomes: this one was ended with the engine, and the run is left for the next.
                Some(Err(_)) => Err(StoreError::Stale),
                None => Ok(()),
            },
            () = sleep_until(next.unwrap_or(Timestamp::MAX)), if next.is_some() => self.wake().await,
        }
    }

    /// Goes on with what has waited long enough.
    async fn wake(&mut self) -> Result<(), StoreError> {
        let now = Timestamp::now();
        while let Some(entry) = self.timers.first_entry() {
            let (until, at) = *entry.key();
            if until > now {
                break;
            }
            let row = entry.remove();
            self.begin(at, row).await?;
        }
        Ok(())
    }

    async fn landed(&mut self, landed: Landed) -> Result<(), StoreError> {
        let Landed { at, row, outcome, turn } = landed;
        let outcome = outcome.and_then(bounded);
        let is_written = turn.is_some() || (outcome.is_ok() && self.terms(at).0);
        self.judge(at, row, outcome);
        let written = if is_written { self.write(vec![]).await } else { Ok(()) };
        // Whoever is next counts what is written.
        drop(turn);
        written
    }

    fn judge(&mut self, at: usize, row: NodeRun, outcome: Result<Given, Failure>) {
        let now = Timestamp::now();
        let failure = match outcome {
            Ok(given) => {
                let credits = self.flow.shared.ops.settings.flow.price(&row.node_type);
                return self.finish(at, NodeRun { logs: given.logs, error: None, credits, ..row }, given.output, now);
            }
            Err(failure) => failure,
        };
        let text: String = failure.text.replace('\0', "\u{fffd}").chars().take(ERROR).collect();
        let row = NodeRun { failures: row.failures + 1, error: Some(text.clone()), ..row };
        match after_failure(&self.progress.node(at).data.policy, row.failures, failure.repeatable, &text) {
            After::Again(pause) => {
                // With the time of the failure, so that the pause outlives the engine.
                let row = NodeRun { finished_at: Some(now), ..row };
                self.pending.insert(at, row.clone());
                self.timers.insert((now + milliseconds(pause), at), row);
            }
            After::Continue(output) => self.finish(at, row, output, now),
            After::Fail => {
                self.failed += 1;
                self.tell("node.failed", Some((&row.node_id, &row.node_type)), Some(&text));
                self.pending.insert(at, status_row(row, RunStatus::Failed, now));
                self.progress.failed(at, &text);
                // What waits is not going to begin any more.
                for ((_, at), row) in std::mem::take(&mut self.timers) {
                    self.pending.insert(at, status_row(row, RunStatus::Canceled, now));
                    self.progress.failed(at, "the run has failed before");
                }
            }
        }
    }

    fn finish(&mut self, at: usize, row: NodeRun, output: Map<String, Value>, now: Timestamp) {
        let row = NodeRun { output: Some(Value::Object(output.clone())), ..row };
        self.credits += row.credits;
        self.completed += 1;
        self.kept += weight_of(&output);
        self.tell("node.completed", Some((&row.node_id, &row.node_type)), None);
        self.pending.insert(at, status_row(row, RunStatus::Completed, now));
        self.progress.done(at, output);
    }

    /// Notes an event for whoever wants to hear of it.
    fn tell(&mut self, event: &str, node: Option<(&str, &str)>, error: Option<&str>) {
        let Some(teller) = &self.teller else { return };
        let status = match event {
            "run.completed" => RunStatus::Completed,
            "run.failed" => RunStatus::Failed,
            _ => RunStatus::Running,
        };
        let progress = ops::run::Progress { completed: self.completed, failed: self.failed, node, error };
        self.notices.extend(teller.message(&self.run, status, event, progress, Timestamp::now()));
    }

    /// Writes the rows, provided that the run is still held.
    async fn write(&mut self, more: Vec<RunChange>) -> Result<(), StoreError> {
        let mut changes = vec![];
        if more.is_empty() {
            if self.pending.is_empty() {
                return Ok(());
            }
            changes.push(RunChange::Hold { id: self.run.id, holder: self.flow.holder, until: Timestamp::now() + HOLD });
        }
        changes.extend(more);
        changes.extend(std::mem::take(&mut self.pending).into_values().map(RunChange::Node));
        let mut changes: Vec<Change> = changes.into_iter().map(Change::Run).collect();
        let told = !self.notices.is_empty();
        changes.extend(self.notices.drain(..).map(Change::DeliveryInsert));
        self.flow.shared.ops.store.commit(self.tenant, changes).await?;
        if told {
            self.flow.shared.ops.signals.ring();
        }
        Ok(())
    }

    /// Ends a run whose rows the database will never take.
    async fn give_up(&mut self, error: &StoreError) -> Result<(), StoreError> {
        tracing::error!(%error, run = %self.run.id, "a run cannot be written down and is given up");
        self.pending.clear();
        self.notices.clear();
        self.end(RunStatus::Failed, Some(unkept(error))).await
    }

    async fn end(&mut self, status: RunStatus, error: Option<String>) -> Result<(), StoreError> {
        self.tell(if status == RunStatus::Completed { "run.completed" } else { "run.failed" }, None, error.as_deref());
        let end = RunChange::End { id: self.run.id, holder: self.flow.holder, status, error, credits: self.credits, at: Timestamp::now() };
        self.write(vec![end]).await
    }
}

/// Until when a node waits: for its next attempt after a failure, or because waiting is what it does.
fn waits(row: &NodeRun, policy: Policy, kind: &str, input: &Map<String, Value>) -> Option<Timestamp> {
    match row.finished_at {
        Some(failed) if row.failures > 0 => failed.checked_add(milliseconds(policy.pause(row.failures))).ok(),
        _ => waits_until(kind, input, row.started_at.unwrap_or_else(Timestamp::now)),
    }
}

fn milliseconds(pause: u64) -> SignedDuration {
    SignedDuration::from_millis(i64::try_from(pause).unwrap_or(i64::MAX))
}

/// Performs a node when it has its turn, and gives that back with what became of it.
async fn perform_in_turn(
    attempt: &Attempt,
    limit: Duration,
    at_once: Option<u32>,
) -> (Result<Given, Failure>, Option<OwnedSemaphorePermit>) {
    let turn = match at_once {
        Some(at_once) => match attempt.flow.turns.turn(attempt, at_once).await {
            Ok(turn) => Some(turn),
            Err(failure) => return (Err(failure), None),
        },
        None => None,
    };
    let outcome = AssertUnwindSafe(perform_within(attempt, limit)).catch_unwind().await;
    let panicked = |_| Err(Failure::once("it ended abnormally: this is a fault of Orrery, please report it"));
    (outcome.unwrap_or_else(panicked), turn)
}

/// Performs a node, ended when it takes too long. Its time begins when it has a worker: waiting for that is not its fault.
async fn perform_within(attempt: &Attempt, limit: Duration) -> Result<Given, Failure> {
    let confined = is_confined(&attempt.kind);
    let limit = if confined { limit.min(CONFINED) } else { limit };
    let _place = if confined { Some(attempt.flow.workers.place(attempt.run.workspace_id).await?) } else { None };
    // Files are fetched when it has its turn: they lie in memory, and of all the waiting ones they would be too much.
    let _turn = if is_film(&attempt.kind) { Some(attempt.flow.films.place(attempt.run.workspace_id).await) } else { None };
    let late = || Err(Failure::again(format!("it took longer than {} ms", limit.as_millis())));
    tokio::time::timeout(limit, perform(attempt)).await.unwrap_or_else(|_| late())
}

/// Refuses an output that is too large to keep.
fn bounded(given: Given) -> Result<Given, Failure> {
    let size = weight_of(&given.output) + given.logs.iter().map(String::len).sum::<usize>();
    if size > OUTPUT {
        let words = format!("its output, with its log, is larger than {OUTPUT} bytes: keep large things in files and hand on their URLs");
        return Err(Failure::once(words));
    }
    Ok(given)
}

async fn sleep_until(at: Timestamp) {
    let wait = at.duration_since(Timestamp::now());
    tokio::time::sleep(Duration::try_from(wait).unwrap_or(Duration::ZERO)).await;
}
