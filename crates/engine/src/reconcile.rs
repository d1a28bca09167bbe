//! The reconciler: reads, plans, and performs the plan.
//!
//! A pass looks at the instances that were named by a bell, whose replicas have changed or whose time has come; by the clock, and when a
//! bell names nobody, at all of them. An instance at rest costs nothing in between.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use domain::deployment::{Deployment, DeploymentStatus, Replica, ReplicaStatus};
use domain::galaxy::APP_ENDED;
use domain::log::LogKind;
use domain::rollout::{self, Phase, Plan, Transition};
use domain::routing::Asleep;
use domain::{DeploymentId, ReplicaId, Timestamp};
use runtime::Observation;
use store::{Change, StoreError};
use tokio::time::{Instant, MissedTickBehavior};

use crate::observe::{self, Seen, View};
use crate::routes::{self, Offer, Routes};
use crate::{Home, Shared, build, executions, ingest, lock, record, replicas, steps, tidy};

/// Someone else changed what was being changed: read again.
const AFTER_STALE: Duration = Duration::from_millis(50);
/// The edge or the driver did not answer.
const AFTER_SILENCE: Duration = Duration::from_millis(300);
/// The store did not answer.
const AFTER_FAILURE: Duration = Duration::from_secs(1);
/// Who waits for a volume hears nothing of what uses it.
const WHILE_PAUSED: jiff::SignedDuration = jiff::SignedDuration::from_millis(300);

/// What the reconciler remembers between passes. All of it can be found out again.
struct Reconciler {
    shared: Arc<Shared>,
    routes: Routes,
    /// The last observation.
    seen: Seen,
    /// Whose the replicas are.
    homes: HashMap<ReplicaId, Home>,
    /// When to look at instances although nothing happens.
    timers: HashMap<Home, Instant>,
    /// Everything is to be looked at.
    everything: bool,
    /// Domains may have changed.
    domains: bool,
    /// Replicas without a deployment wait for a table without them.
    untidy: bool,
    /// The driver or the list of instances could not be read.
    again_at: Option<Instant>,
}

/// Runs passes until the engine stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut signals = shared.ops.signals.work();
    let mut driver = shared.driver.bell();
    let mut own = shared.bell.subscribe();
    let mut period = tokio::time::interval(shared.config.period);
    period.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut rings = *signals.borrow_and_update();
    let mut reconciler = Reconciler {
        routes: Routes::new(&shared.config.edge_dir),
        seen: Seen::default(),
        homes: HashMap::new(),
        timers: HashMap::new(),
        everything: true,
        domains: true,
        untidy: false,
        again_at: None,
        shared: shared.clone(),
    };
    loop {
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            _ = signals.changed() => {}
            _ = driver.changed() => {}
            _ = own.changed() => {}
            () = sleep_until(reconciler.next_timer()) => {}
            _ = period.tick() => reconciler.everything = true,
        }
        driver.mark_unchanged();
        own.mark_unchanged();
        // Counted before the names are taken: a ring for nobody in particular is never hidden by a name that came later.
        let count = *signals.borrow_and_update();
        let named = shared.ops.signals.take();
        reconciler.domains |= count != rings;
        reconciler.everything |= count.wrapping_sub(rings) > named.len() as u64;
        rings = count;
        reconciler.timers.extend(named.into_iter().map(|home| (home, Instant::now())));
        reconciler.pass().await;
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// An instance between being looked at and being done with.
struct Looked {
    view: View,
    plan: Plan,
}

impl Reconciler {
    fn next_timer(&self) -> Option<Instant> {
        self.timers.values().copied().chain(self.again_at).min()
    }

    /// Starts come before the table, the table before stops.
    async fn pass(&mut self) {
        let shared = self.shared.clone();
        self.again_at = None;
        let Some((asked, changed)) = self.observe().await else { return };
        let all = self.everything;
        let mut due = self.due(asked, &changed);
        if all && !self.add_everything(&mut due).await {
            return;
        }
        let mut looked = vec![];
        for home in due {
            match look(&shared, home, &self.seen).await {
                Ok(Some(one)) => {
                    self.homes.extend(one.view.replicas.iter().map(|replica| (replica.id, home)));
                    self.routes.offer(home.1, offer(&one.view, &one.plan));
                    if let Some(at) = one.plan.again_at {
                        self.timers.insert(home, instant(at));
                    }
                    looked.push((home, one));
                }
                Ok(None) => {
                    build::cancel_all(&shared, home.1);
                    self.routes.withdraw(home.1);
                }
                Err(error) => {
                    self.routes.doubt(home.1);
                    self.retry(home, &error);
                }
            }
        }
        let begun = Timestamp::now();
        let routed = self.routes.publish(&shared, self.domains).await;
        self.domains = !routed;
        if !routed {
            // The table waits also when no instance does.
            self.again_at = Some(Instant::now() + AFTER_SILENCE);
        }
        let covered: HashSet<ReplicaId> = looked.iter().flat_map(|(_, one)| one.view.replicas.iter().map(|replica| replica.id)).collect();
        for (home, one) in looked {
            match perform(&shared, one, routed.then_some(begun)).await {
                Ok(true) => {}
                Ok(false) => self.wake_by(home, Instant::now() + AFTER_SILENCE),
                Err(error) => self.retry(home, &error),
            }
        }
        self.untidy |= all || changed.iter().any(|id| self.seen.replicas.contains_key(id) && !covered.contains(id));
        if self.untidy && routed {
            match tidy::run(&shared, &self.seen.replicas, &covered).await {
                Ok(()) => self.untidy = false,
                Err(error) => {
                    tracing::warn!(%error, "replicas without a deployment could not be tidied up; it is tried again");
                    self.again_at = Some(Instant::now() + AFTER_FAILURE);
                }
            }
        }
    }

    /// Asks the driver; the instances that the engine's own tasks want looked at, and the replicas that have changed since the last time.
    async fn observe(&mut self) -> Option<(HashSet<Home>, Vec<ReplicaId>)> {
        // First: a task that counts as under way below asks for its look when it is not any more, and gets one that knows of that.
        let asked = std::mem::take(&mut *lock(&self.shared.work));
        let launching = lock(&self.shared.launching).clone();
        let ending = lock(&self.shared.ending).clone();
        let building = lock(&self.shared.builds).keys().copied().collect();
        let seen: HashMap<ReplicaId, Observation> = match self.shared.driver.observe().await {
            Ok(all) => all.into_iter().map(|observation| (observation.replica_id, observation)).collect(),
            Err(error) => {
                tracing::error!(%error, "the driver does not answer; nothing is changed until it does");
                lock(&self.shared.work).extend(asked);
                let again = Instant::now() + AFTER_SILENCE;
                // Instances whose time has come wait for it as well.
                self.timers.values_mut().for_each(|at| *at = again.max(*at));
                self.again_at = Some(again);
                return None;
            }
        };
        let changed = seen.iter().filter(|(id, observation)| self.seen.replicas.get(id) != Some(observation)).map(|(id, _)| *id);
        let gone = self.seen.replicas.keys().filter(|id| !seen.contains_key(id)).copied();
        let changed = changed.chain(gone).collect();
        self.seen = Seen { replicas: seen, launching, ending, building };
        Some((asked, changed))
    }

    /// The instances that were asked for or named, whose replicas have changed, or whose time has come.
    fn due(&mut self, asked: HashSet<Home>, changed: &[ReplicaId]) -> BTreeSet<Home> {
        let now = Instant::now();
        let mut due: BTreeSet<Home> = asked.into_iter().collect();
        due.extend(self.timers.extract_if(|_, at| *at <= now).map(|(home, _)| home));
        for id in changed {
            due.extend(self.homes.get(id));
            if !self.seen.replicas.contains_key(id) {
                self.homes.remove(id);
            }
        }
        due
    }

    async fn add_everything(&mut self, due: &mut BTreeSet<Home>) -> bool {
        match self.shared.ops.store.system_instances_with_work().await {
            Ok(all) => {
                due.extend(lock(&self.shared.builds).values().map(|running| running.home));
                let working: HashSet<_> = all.iter().map(|(_, instance)| *instance).collect();
                self.routes.keep_only(|instance| working.contains(&instance));
                due.extend(all);
                (self.everything, self.domains) = (false, true);
                true
            }
            Err(error) => {
                tracing::error!(%error, "the instances cannot be read; it is tried again");
                let again = Instant::now() + AFTER_FAILURE;
                for home in std::mem::take(due) {
                    self.wake_by(home, again);
                }
                self.again_at = Some(again);
                false
            }
        }
    }

    fn wake_by(&mut self, home: Home, at: Instant) {
        let timer = self.timers.entry(home).or_insert(at);
        *timer = at.min(*timer);
    }

    fn retry(&mut self, home: Home, error: &StoreError) {
        // Someone else moved it between reading and writing: the next look sees the new state.
        if matches!(error, StoreError::Stale) {
            self.wake_by(home, Instant::now() + AFTER_STALE);
        } else {
            tracing::error!(%error, instance = %home.1, "an instance could not be reconciled; it is tried again");
            self.wake_by(home, Instant::now() + AFTER_FAILURE);
        }
    }
}

fn instant(at: Timestamp) -> Instant {
    let wait = at.duration_since(Timestamp::now()).max(jiff::SignedDuration::from_millis(20));
    Instant::now() + Duration::try_from(wait).unwrap_or(AFTER_FAILURE)
}

/// What can be done for one instance before the table is published.
async fn look(shared: &Arc<Shared>, home: Home, seen: &Seen) -> Result<Option<Looked>, StoreError> {
    let Some(mut view) = observe::view(shared, home.0, home.1, seen).await? else { return Ok(None) };
    build::tend(shared, &view, seen).await;
    let mut plan = rollout::plan(&view.observed, Timestamp::now());
    amend(&view, &mut plan);
    refuse(&view, &mut plan);
    if view.observed.paused {
        plan.again_at = Some(Timestamp::now() + WHILE_PAUSED);
    }
    build::hold(shared, &view, &mut plan, seen);

    let updates = std::mem::take(&mut view.updates);
    for replica in updates.iter().filter(|replica| matches!(replica.status, ReplicaStatus::Crashed | ReplicaStatus::Exited)) {
        if let Some(deployment) = view.deployment(replica.deployment_id) {
            ingest::finish(shared, replica.id, &deployment.log_source(Some(replica.id), LogKind::Deploy)).await;
        }
    }
    let (begun, checked) = steps::starting(&mut view, &plan);
    write_down(shared, &view, updates, begun).await?;
    for deployment in checked {
        steps::tell_begin(shared, &deployment).await;
    }
    replicas::start(shared, &view, &plan, &seen.launching).await?;
    Ok(Some(Looked { view, plan }))
}

/// Commits rows of replicas and steps, and tells who watches.
async fn write_down(shared: &Shared, view: &View, updates: Vec<Replica>, steps: Vec<Change>) -> Result<(), StoreError> {
    if updates.is_empty() && steps.is_empty() {
        return Ok(());
    }
    let mut changed: BTreeSet<DeploymentId> = updates.iter().map(|replica| replica.deployment_id).collect();
    changed.extend(steps.iter().filter_map(deployment_of));
    let changes = updates.into_iter().map(Change::ReplicaUpdate).chain(steps).collect();
    shared.ops.store.commit(view.tenant, changes).await?;
    shared.tell();
    for deployment in changed {
        shared.ops.signals.deployment_changed(deployment);
    }
    Ok(())
}

fn deployment_of(change: &Change) -> Option<DeploymentId> {
    match change {
        Change::EventInsert(event) => Some(event.deployment_id),
        Change::EventComplete { deployment, .. } => Some(*deployment),
        Change::DeploymentMove { id, .. } | Change::DeploymentStopped { id, .. } => Some(*id),
        _ => None,
    }
}

/// A restart that is late must not end the generation that still serves, as a failed deployment would be; it has crashed. And what is
/// left of a crashed generation ends, also when the control plane ended before it had done that. What runs with a volume that has been
/// taken away ends at once, because another service waits for it.
fn amend(view: &View, plan: &mut Plan) {
    for transition in plan.transition.iter_mut().filter(|transition| transition.to == DeploymentStatus::Failed) {
        if view.deployment(transition.deployment).is_some_and(|deployment| deployment.generation > 0) {
            transition.to = DeploymentStatus::Crashed;
        }
    }
    plan.route.retain(|id| !view.strays.contains(id));
    for id in &view.strays {
        let stops = plan.stop.iter().any(|(stopped, _)| stopped == id);
        let runs = view.observed.deployments.iter().flat_map(|deployment| &deployment.replicas);
        let runs = runs.filter(|replica| matches!(replica.phase, Phase::Starting | Phase::Healthy)).any(|replica| replica.id == *id);
        if runs && !stops {
            plan.stop.push((*id, "its volume was taken away"));
        }
    }
    for deployment in view.observed.deployments.iter().filter(|deployment| deployment.status == DeploymentStatus::Crashed) {
        let lives = |phase: &Phase| matches!(phase, Phase::Starting | Phase::Healthy);
        for replica in deployment.replicas.iter().filter(|replica| replica.generation == deployment.generation && lives(&replica.phase)) {
            if !plan.stop.iter().any(|(id, _)| *id == replica.id) {
                plan.stop.push((replica.id, "its deployment failed"));
            }
        }
    }
}

/// What lacks something that it cannot start without fails, whatever else was planned for it, unless it is taken away anyway.
fn refuse(view: &View, plan: &mut Plan) {
    for deployment in &view.deployments {
        let id = deployment.id;
        let Some(reason) = view.lacks(id).map(str::to_owned) else { continue };
        plan.start.retain(|(of, ..)| *of != id);
        if plan.transition.iter().any(|transition| transition.deployment == id && transition.to == DeploymentStatus::Removing) {
            continue;
        }
        plan.transition.retain(|transition| transition.deployment != id);
        let (from, to) = (deployment.status, DeploymentStatus::Failed);
        plan.transition.push(Transition { deployment: id, from, to, reason: Some(reason), completed: false });
    }
}

fn offer(view: &View, plan: &Plan) -> Offer {
    let rows = plan.route.iter().filter_map(|id| view.replicas.iter().find(|replica| replica.id == *id));
    let targets: Vec<_> = rows.map(|replica| (replica.id, replica.deployment_id, replica.port)).collect();
    let unavailable = targets.is_empty().then(|| routes::explain(&view.deployments));
    let settings = &view.instance.spec.deploy;
    let rests = |deployment: &&Deployment| match deployment.status {
        DeploymentStatus::Sleeping => true,
        // It is waking up.
        DeploymentStatus::Success => !deployment.stopped && !executions::is_scheduled(deployment),
        _ => false,
    };
    let asleep = view.deployments.iter().rev().find(rests).filter(|of| targets.is_empty() && settings.lets_sleep(&of.spec.deploy));
    let asleep = asleep.map(|of| Asleep { workspace_id: of.workspace_id, deployment_id: of.id });
    Offer { serving: plan.serving, targets, sticky: settings.sticky, unavailable, asleep }
}

/// What follows once the table is published: announcements, stops, and leave of what has ended. `routed` is when the publication began,
/// if the edge has agreed. Returns whether nothing had to wait for that.
async fn perform(shared: &Arc<Shared>, looked: Looked, routed: Option<Timestamp>) -> Result<bool, StoreError> {
    let Looked { mut view, plan } = looked;
    fail(shared, &mut view, &plan).await?;
    executions::record(shared, &view, &plan).await?;
    let mut waits = false;
    let mut changes = vec![];
    let (mut leaving, mut left) = (vec![], vec![]);
    for transition in &plan.transition {
        let Some(deployment) = view.deployment(transition.deployment).cloned() else { continue };
        // What has a schedule succeeds without having been started, checked or routed.
        let arrives = transition.to == DeploymentStatus::Success && transition.from == DeploymentStatus::Deploying;
        let arrives = arrives && !executions::is_scheduled(&deployment);
        match transition.to {
            DeploymentStatus::Failed | DeploymentStatus::Crashed => continue,
            DeploymentStatus::Removed => left.push(deployment.id),
            // What succeeds is announced when it can be reached, and what it replaces leaves after that.
            _ if routed.is_none() => {
                waits = true;
                if arrives {
                    let switching = steps::switching(&mut view, &deployment, Timestamp::now());
                    write_down(shared, &view, vec![], switching).await?;
                }
                continue;
            }
            DeploymentStatus::Removing => leaving.push(deployment.id),
            DeploymentStatus::Success if arrives => {
                changes.extend(steps::switched(&mut view, &deployment, routed));
                steps::tell_end(shared, &view, &deployment, None).await;
            }
            _ => {}
        }
        changes.extend(transition_changes(&deployment, transition));
    }
    if view.events.is_empty() && !leaving.is_empty() {
        for deployment in &view.deployments {
            view.events.insert(deployment.id, shared.ops.store.deployment_events(view.tenant, deployment.id).await?);
        }
    }
    changes.extend(steps::draining(&mut view, &leaving, &left));
    let moved = !changes.is_empty();
    write_down(shared, &view, vec![], changes).await?;
    if routed.is_some() {
        replicas::stop(shared, &view, &plan).await?;
    }
    replicas::forget(shared, &view, &plan).await?;
    if moved || !plan.transition.is_empty() && !waits {
        shared.look(view.tenant.workspace(), view.instance.id);
    }
    Ok(!waits && (routed.is_some() || plan.stop.is_empty()))
}

/// Failures wait for nothing. The step is told before the status: a client that sees the status has its reason then.
async fn fail(shared: &Shared, view: &mut View, plan: &Plan) -> Result<(), StoreError> {
    for transition in &plan.transition {
        if !matches!(transition.to, DeploymentStatus::Failed | DeploymentStatus::Crashed) {
            continue;
        }
        let Some(deployment) = view.deployment(transition.deployment).cloned() else { continue };
        if transition.from == DeploymentStatus::Deploying {
            let reason = transition.reason.as_deref().unwrap_or("it did not become healthy");
            steps::tell_end(shared, view, &deployment, Some(reason)).await;
            let failing = steps::failing(view, &deployment, reason);
            write_down(shared, view, vec![], failing).await?;
        }
        write_down(shared, view, vec![], transition_changes(&deployment, transition)).await?;
    }
    Ok(())
}

fn transition_changes(deployment: &Deployment, transition: &Transition) -> Vec<Change> {
    let now = Timestamp::now();
    let Transition { deployment: id, from, to, reason, completed } = transition.clone();
    let mut changes = vec![];
    if completed && !deployment.stopped {
        // A restart that was asked for meanwhile has the last word.
        changes.push(Change::DeploymentStopped { id, stopped: true, of: Some((from, deployment.generation)), at: now });
    }
    if from != to {
        tracing::info!(deployment = %id, from = from.as_str(), to = to.as_str(), reason, "deployment moves");
        changes.extend(record::of_move(deployment, to, reason.as_deref()));
        changes.push(Change::DeploymentMove { id, from, to, reason, at: now });
    }
    if completed && !deployment.stopped {
        changes.push(record::about_app(deployment, APP_ENDED));
    }
    changes
}
