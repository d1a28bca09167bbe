//! Builds and pre-deploy commands: long work that runs beside the reconciler and reports through the store.

use std::sync::Arc;
use std::time::Duration;

use builder::{BuildFailure, BuildLine, BuildRequest, Built, SourceManifest};
use domain::deployment::{DeployReason, Deployment, DeploymentStatus, EventStep};
use domain::log::{LogKind, LogLine, Severity};
use domain::rollout::Plan;
use domain::spec::{RunPlan, Source};
use domain::{InstanceId, Tenant, Timestamp};
use runtime::UnixUser;
use store::{Change, StoreError};
use tokio::sync::{Mutex, MutexGuard, mpsc};
use tokio_util::sync::CancellationToken;

use crate::observe::{Seen, View};
use crate::places::Place;
use crate::{Home, Shared, lock, record, replicas, steps};

/// How long it is waited each time until a build that failed for a reason of this server's is tried again.
const AGAIN: [Duration; 2] = [Duration::from_secs(2), Duration::from_secs(10)];

/// A build or a pre-deploy command that is under way.
pub(crate) struct Running {
    pub(crate) home: Home,
    pub(crate) cancel: CancellationToken,
}

/// Ends what is under way for an instance that is gone.
pub(crate) fn cancel_all(shared: &Shared, instance: InstanceId) {
    for running in lock(&shared.builds).values().filter(|running| running.home.1 == instance) {
        running.cancel.cancel();
    }
}

/// Begins the builds that are due and ends those that nobody waits for any more.
pub(crate) async fn tend(shared: &Arc<Shared>, view: &View, seen: &Seen) {
    for deployment in &view.deployments {
        let running = lock(&shared.builds).get(&deployment.id).map(|running| running.cancel.clone());
        let due = matches!(deployment.status, DeploymentStatus::Initializing | DeploymentStatus::Queued | DeploymentStatus::Building);
        match running {
            Some(cancel) if !due && deployment.status != DeploymentStatus::Deploying => cancel.cancel(),
            // One that has just ended may have moved it since the view was read; it asks for another look.
            None if due && !seen.building.contains(&deployment.id) => begin(shared, view, deployment),
            _ => {}
        }
    }
}

fn begin(shared: &Arc<Shared>, view: &View, deployment: &Deployment) {
    let cancel = shared.shutdown.child_token();
    let home = (view.tenant.workspace(), view.instance.id);
    lock(&shared.builds).insert(deployment.id, Running { home, cancel: cancel.clone() });
    let job = Job {
        shared: shared.clone(),
        tenant: view.tenant,
        instance: view.instance.id,
        deployment: deployment.clone(),
        user: replicas::user_of(shared, view),
        cancel,
    };
    shared.tracker.spawn(async move {
        let result = job.run().await;
        lock(&job.shared.builds).remove(&job.deployment.id);
        lock(&job.shared.service_locks).retain(|_, turn| Arc::strong_count(turn) > 1);
        match result {
            // Stale: it was canceled or removed meanwhile, which is what the guard is for.
            Ok(()) | Err(StoreError::Stale) => job.shared.look(job.tenant.workspace(), job.instance),
            // No bell: while the store fails, the clock is often enough.
            Err(error) => tracing::error!(%error, deployment = %job.deployment.id, "a build could not be recorded; it begins anew"),
        }
    });
}

/// Everything that a build waits for.
struct Admission<'a> {
    place: Place,
    /// Where the deployment stands.
    from: DeploymentStatus,
    _turn: MutexGuard<'a, ()>,
}

struct Job {
    shared: Arc<Shared>,
    tenant: Tenant,
    instance: InstanceId,
    deployment: Deployment,
    user: Option<UnixUser>,
    cancel: CancellationToken,
}

impl Job {
    async fn run(&self) -> Result<(), StoreError> {
        // One build of a service at a time: they share its caches. Who waits for that takes no place from others.
        let turn = lock(&self.shared.service_locks).entry(self.instance).or_default().clone();
        let Some(Admission { mut place, from, _turn }) = self.admission(&turn).await? else { return Ok(()) };
        self.tell_of_begin(from).await?;
        let mut result = self.build().await;
        for pause in AGAIN {
            let Err(failure @ BuildFailure::Internal(_)) = &result else { break };
            self.tell_of_retry(&failure.to_string(), pause).await?;
            // Others build meanwhile.
            drop(place);
            let again = async {
                tokio::time::sleep(pause).await;
                self.shared.building.place(self.tenant.workspace()).await
            };
            place = tokio::select! {
                () = self.cancel.cancelled() => return Ok(()),
                place = again => place,
            };
            self.commit(vec![self.attempt(None)]).await?;
            result = self.build().await;
        }
        let recorded = self.record(result).await;
        drop(place);
        recorded
    }

    /// Waits for the service's turn and for a place, and says so when it has to. Nothing when it was canceled before.
    async fn admission<'a>(&self, turn: &'a Mutex<()>) -> Result<Option<Admission<'a>>, StoreError> {
        let (mut from, workspace) = (self.deployment.status, self.tenant.workspace());
        if let Ok(_turn) = turn.try_lock()
            && let Some(place) = self.shared.building.free(workspace)
        {
            return Ok(Some(Admission { place, from, _turn }));
        }
        if from == DeploymentStatus::Initializing {
            let (id, to) = (self.deployment.id, DeploymentStatus::Queued);
            self.commit(vec![Change::DeploymentMove { id, from, to, reason: None, at: Timestamp::now() }]).await?;
            from = to;
        }
        let both = async { (turn.lock().await, self.shared.building.place(workspace).await) };
        tokio::select! {
            () = self.cancel.cancelled() => Ok(None),
            (_turn, place) = both => Ok(Some(Admission { place, from, _turn })),
        }
    }

    /// It is being built from now on. `from` is where it stands.
    async fn tell_of_begin(&self, from: DeploymentStatus) -> Result<(), StoreError> {
        let id = self.deployment.id;
        let now = Timestamp::now();
        let begin = Change::EventInsert(steps::open(id, EventStep::BuildImage, now));
        let mut changes = vec![];
        if from == DeploymentStatus::Building {
            // The control plane ended in the middle of this build. Its step is there already, unless it had just ended.
            let events = self.shared.ops.store.deployment_events(self.tenant, id).await?;
            changes.extend((!steps::is_open(&events, EventStep::BuildImage)).then_some(begin));
            // Always: whatever has moved it on since it was read uses the artifact that is about to be made anew.
            changes.push(self.attempt(None));
        } else {
            if self.deployment.reason == DeployReason::Deploy {
                // A repeated deployment has no upload whose step could end.
                changes.push(Change::EventComplete { deployment: id, step: EventStep::SnapshotCode, at: now, error: None, detail: None });
            }
            let to = DeploymentStatus::Building;
            let told = record::about(&self.deployment, "deployment_building", None);
            changes.extend([begin, Change::DeploymentMove { id, from, to, reason: None, at: now }, told]);
        }
        self.commit(changes).await
    }

    /// Nobody who deploys can correct what has failed, so it is tried again.
    async fn tell_of_retry(&self, reason: &str, pause: Duration) -> Result<(), StoreError> {
        let message = format!("The build is tried again in {} seconds", pause.as_secs());
        log(&self.shared, &self.deployment, std::iter::once(BuildLine { error: true, message })).await;
        let told = record::about(&self.deployment, "deployment_build_retried", Some(reason));
        self.commit(vec![self.attempt(Some(reason)), told]).await
    }

    /// It is under way, or waits for another attempt because the last one failed for this reason.
    fn attempt(&self, failed: Option<&str>) -> Change {
        let (id, from, to) = (self.deployment.id, DeploymentStatus::Building, DeploymentStatus::Building);
        Change::DeploymentMove { id, from, to, reason: failed.map(str::to_owned), at: Timestamp::now() }
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.shared.ops.store.commit(self.tenant, changes).await?;
        self.shared.ops.signals.deployment_changed(self.deployment.id);
        self.shared.tell();
        Ok(())
    }

    async fn build(&self) -> Result<Built, BuildFailure> {
        let config = &self.shared.config;
        let id = self.deployment.id;
        if let Some(Source::Image(image)) = self.deployment.spec.source.as_ref().filter(|_| self.deployment.source_blob.is_none()) {
            return self.server(image).await;
        }
        let blob = self.deployment.source_blob.as_deref();
        let blob = blob.ok_or_else(|| BuildFailure::Source("nothing was uploaded for this deployment: deploy the source again".into()))?;
        let variables = replicas::variables(&self.shared, self.tenant, &self.deployment).await;
        let (env, sealed) = variables.map_err(|error| BuildFailure::Internal(format!("the variables cannot be read: {error}")))?;
        let ephemeral =
            self.is_ephemeral().await.map_err(|error| BuildFailure::Internal(format!("the environment cannot be read: {error}")))?;
        let request = BuildRequest {
            archive: config.blobs.join(blob),
            artifact: config.data_dir.join("artifacts").join(id.to_string()),
            cache: config.data_dir.join("cache").join(self.deployment.service_id.to_string()),
            scratch: config.data_dir.join("scratch").join(id.to_string()),
            spec: self.deployment.spec.clone(),
            environment_name: env.get("RAILWAY_ENVIRONMENT_NAME").cloned().unwrap_or_default(),
            ephemeral,
            region: self.shared.ops.settings.region.clone(),
            env,
            sealed,
            user: self.user,
            mirror_credentials: config.build_credentials,
            limits: config.build_limits.clone(),
            previous: self.previous_manifest().await,
        };
        // What a build left behind that was cut off with the control plane.
        match tokio::fs::remove_dir_all(&request.artifact).await {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(BuildFailure::Internal(format!("the folder of an earlier attempt cannot be cleared: {error}")));
            }
            _ => {}
        }
        let (sender, receiver) = mpsc::channel(256);
        let log = tokio::spawn(store_lines(self.shared.clone(), self.deployment.clone(), receiver));
        let result = builder::build(request, sender, self.cancel.clone()).await;
        if let Err(error) = log.await {
            tracing::error!(%error, deployment = %id, "the build log ended abnormally");
        }
        result
    }

    async fn is_ephemeral(&self) -> Result<bool, StoreError> {
        let environment = self.shared.ops.store.environment(self.deployment.environment_id).await?;
        Ok(environment.and_then(|sealed| sealed.open(self.tenant)).is_some_and(|environment| environment.is_ephemeral))
    }

    /// In place of an image: the machine's own program, if it has it. There is nothing to build.
    async fn server(&self, image: &str) -> Result<Built, BuildFailure> {
        let Some(plan) = ops::template::server_for(image) else {
            return Err(BuildFailure::Source(format!(
                "the image {image} cannot be run: this server runs uploads and the servers of its own templates; upload the source instead"
            )));
        };
        let line = |message: String| BuildLine { error: false, message };
        let Some(program) = runtime::find_server(&plan.folders, &plan.programs, None) else {
            return Err(BuildFailure::Source(format!(
                "{} is not on this machine: install the Debian package {} (apt-get install {}), then redeploy",
                plan.programs.join(" or "),
                plan.package,
                plan.package
            )));
        };
        let artifact = self.shared.config.data_dir.join("artifacts").join(self.deployment.id.to_string());
        let made = tokio::fs::create_dir_all(&artifact).await;
        made.map_err(|error| BuildFailure::Internal(format!("{} cannot be made: {error}", artifact.display())))?;
        let said = [format!("Using {} of this machine for {image}", program.display()), "There is nothing to build.".to_owned()];
        log(&self.shared, &self.deployment, said.into_iter().map(line)).await;
        let (run, spec) = (RunPlan::Server(plan.clone()), self.deployment.spec.clone());
        Ok(Built { run, spec, manifest: SourceManifest::default(), provider: "server" })
    }

    /// The files of the last build of this service, for watch patterns. Someone who deploys the same source again wants it built.
    async fn previous_manifest(&self) -> Option<SourceManifest> {
        if self.deployment.reason != DeployReason::Deploy {
            return None;
        }
        let live = self.shared.ops.store.deployments_live(self.tenant, &[self.instance]).await.ok()?;
        let artifact = live.iter().rev().find(|d| d.status == DeploymentStatus::Success)?.artifact.clone()?;
        let path = self.shared.config.data_dir.join("artifacts").join(format!("{artifact}.manifest.json"));
        serde_json::from_slice(&tokio::fs::read(path).await.ok()?).ok()
    }

    async fn record(&self, result: Result<Built, BuildFailure>) -> Result<(), StoreError> {
        let id = self.deployment.id;
        let now = Timestamp::now();
        let done =
            |error: Option<String>| Change::EventComplete { deployment: id, step: EventStep::BuildImage, at: now, error, detail: None };
        let step = |to, reason| Change::DeploymentMove { id, from: DeploymentStatus::Building, to, reason, at: now };
        match result {
            Ok(built) => {
                let Built { run, spec, .. } = built;
                let built = Change::DeploymentBuilt { id, artifact: id.to_string(), run, spec, at: now };
                let told = record::about(&self.deployment, "deployment_built", None);
                self.commit(vec![done(None), built, step(DeploymentStatus::Deploying, None), told]).await
            }
            // The control plane stops: the next start builds again. A canceled deployment has its status already.
            Err(BuildFailure::Canceled) => Ok(()),
            Err(BuildFailure::Skipped(reason)) => self.commit(vec![done(None), step(DeploymentStatus::Skipped, Some(reason))]).await,
            Err(failure) => {
                let reason = failure.to_string();
                tracing::info!(deployment = %id, reason, "a build has failed");
                // The event first: a client that sees the status has its reason then.
                self.commit(vec![done(Some(reason.clone()))]).await?;
                let told = record::about(&self.deployment, "deployment_build_failed", Some(&reason));
                self.commit(vec![step(DeploymentStatus::Failed, Some(reason)), told]).await
            }
        }
    }
}

async fn store_lines(shared: Arc<Shared>, deployment: Deployment, mut lines: mpsc::Receiver<BuildLine>) {
    let mut batch = vec![];
    while lines.recv_many(&mut batch, 256).await > 0 {
        log(&shared, &deployment, batch.drain(..)).await;
    }
}

/// Appends to a deployment's build log.
pub(crate) async fn log(shared: &Shared, deployment: &Deployment, lines: impl Iterator<Item = BuildLine>) {
    let source = deployment.log_source(None, LogKind::Build);
    let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
    let lines = lines
        .map(|line| LogLine {
            nanos: now,
            source: source.clone(),
            severity: if line.error { Severity::Error } else { Severity::Info },
            message: line.message,
            attributes: vec![],
        })
        .collect();
    if let Err(error) = shared.ops.telemetry.append(lines).await {
        tracing::warn!(%error, deployment = %deployment.id, "lines of a build log could not be stored");
    }
}

/// A candidate that waits for others, or whose pre-deploy commands have not run, starts nothing yet. The commands are begun here; they may
/// need what is waited for.
pub(crate) fn hold(shared: &Arc<Shared>, view: &View, plan: &mut Plan, seen: &Seen) {
    let held = |deployment: &&Deployment| view.awaits_others(deployment) || view.awaits_pre_deploy(deployment);
    for deployment in view.deployments.iter().filter(held) {
        plan.start.retain(|(id, ..)| *id != deployment.id);
        // As with builds.
        let is_begun = seen.building.contains(&deployment.id) || lock(&shared.builds).contains_key(&deployment.id);
        if !view.obstacles.contains_key(&deployment.id) && !is_begun {
            pre_deploy(shared, view, deployment);
        }
    }
}

fn pre_deploy(shared: &Arc<Shared>, view: &View, deployment: &Deployment) {
    let cancel = shared.shutdown.child_token();
    let home = (view.tenant.workspace(), view.instance.id);
    lock(&shared.builds).insert(deployment.id, Running { home, cancel: cancel.clone() });
    let (shared, tenant, deployment) = (shared.clone(), view.tenant, deployment.clone());
    let user = replicas::user_of(&shared, view);
    // A control plane that ended half way has left the step open.
    let begun = view.events.get(&deployment.id).is_some_and(|events| steps::is_open(events, EventStep::PreDeployCommand));
    let tracker = shared.tracker.clone();
    tracker.spawn(async move {
        let id = deployment.id;
        if let Err(error) = carry_out_pre_deploy(&shared, tenant, &deployment, user, begun, cancel).await {
            tracing::warn!(%error, deployment = %id, "a pre-deploy command could not be recorded; it runs again");
        }
        lock(&shared.builds).remove(&id);
        lock(&shared.pre_deploys).retain(|_, turn| Arc::strong_count(turn) > 1);
        shared.ops.signals.deployment_changed(id);
        shared.look(home.0, home.1);
    });
}

async fn carry_out_pre_deploy(
    shared: &Arc<Shared>,
    tenant: Tenant,
    deployment: &Deployment,
    user: Option<UnixUser>,
    begun: bool,
    cancel: CancellationToken,
) -> Result<(), StoreError> {
    let (id, step) = (deployment.id, EventStep::PreDeployCommand);
    // One deployment of a service at a time: two migrations of one database would meet.
    let turn = lock(&shared.pre_deploys).entry(deployment.instance_id).or_default().clone();
    let _turn = tokio::select! {
        () = cancel.cancelled() => return Ok(()),
        turn = turn.lock() => turn,
    };
    let now = shared.ops.store.deployment(id).await?.and_then(|sealed| sealed.open(tenant));
    if now.is_none_or(|now| now.status != DeploymentStatus::Deploying) {
        // It was removed while it waited.
        return Ok(());
    }
    if !begun {
        shared.ops.store.commit(tenant, vec![Change::EventInsert(steps::open(id, step, Timestamp::now()))]).await?;
        shared.ops.signals.deployment_changed(id);
    }
    let result = run_pre_deploy(shared, tenant, deployment, user, cancel).await;
    let at = Timestamp::now();
    let done = |error| vec![Change::EventComplete { deployment: id, step, at, error, detail: None }];
    match result {
        Ok(()) => shared.ops.store.commit(tenant, done(None)).await?,
        Err(BuildFailure::Canceled) => return Ok(()),
        Err(failure) => {
            let reason = failure.to_string();
            // At once: with the event alone, a control plane that ended in between would take the step for done.
            let (from, to) = (DeploymentStatus::Deploying, DeploymentStatus::Failed);
            let mut changes = done(Some(reason.clone()));
            changes.extend(record::of_move(deployment, to, Some(&reason)));
            changes.push(Change::DeploymentMove { id, from, to, reason: Some(reason), at });
            shared.ops.store.commit(tenant, changes).await?
        }
    };
    shared.tell();
    Ok(())
}

async fn run_pre_deploy(
    shared: &Arc<Shared>,
    tenant: Tenant,
    deployment: &Deployment,
    user: Option<UnixUser>,
    cancel: CancellationToken,
) -> Result<(), BuildFailure> {
    let variables = replicas::variables(shared, tenant, deployment).await;
    let (mut env, sealed) = variables.map_err(|error| BuildFailure::Internal(error.to_string()))?;
    if let Some(RunPlan::Command { env: more, .. }) = &deployment.run {
        env.extend(more.clone());
    }
    let artifact = deployment.artifact.clone().unwrap_or_default();
    let root = shared.config.data_dir.join("artifacts").join(artifact);
    let (sender, receiver) = mpsc::channel(256);
    let log = tokio::spawn(store_lines(shared.clone(), deployment.clone(), receiver));
    let scratch = shared.config.data_dir.join("scratch").join(format!("{}-pre", deployment.id));
    let commands = deployment.spec.deploy.pre_deploy_command.clone();
    let limits = shared.config.build_limits.clone();
    let request = builder::CommandRequest { root, scratch, commands, env, sealed, user, limits };
    let result = builder::run_commands(request, sender, cancel).await;
    if let Err(error) = log.await {
        tracing::error!(%error, "the log of a pre-deploy command ended abnormally");
    }
    result
}
