//! Builds and pre-deploy commands: long work that runs beside the reconciler and reports through the store.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use builder::{BuildFailure, BuildLine, BuildRequest, Built, SourceManifest};
use domain::deployment::{DeployReason, Deployment, DeploymentEvent, DeploymentStatus, EventStep};
use domain::log::{LogKind, LogLine, Severity};
use domain::rollout::Plan;
use domain::spec::RunPlan;
use domain::{DeploymentId, EventId, InstanceId, Tenant, Timestamp};
use runtime::UnixUser;
use store::{Change, StoreError};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::observe::{self, View};
use crate::{Shared, lock, reconcile};

/// Begins the builds that are due and ends those that nobody waits for any more.
pub(crate) async fn tend(shared: &Arc<Shared>, view: &View) {
    for deployment in &view.deployments {
        let running = lock(&shared.builds).get(&deployment.id).cloned();
        let due = matches!(deployment.status, DeploymentStatus::Initializing | DeploymentStatus::Queued | DeploymentStatus::Building);
        match running {
            Some(cancel) if !due && deployment.status != DeploymentStatus::Deploying => cancel.cancel(),
            None if due => begin(shared, view, deployment),
            _ => {}
        }
    }
}

fn begin(shared: &Arc<Shared>, view: &View, deployment: &Deployment) {
    let cancel = shared.shutdown.child_token();
    lock(&shared.builds).insert(deployment.id, cancel.clone());
    let job = Job {
        shared: shared.clone(),
        tenant: view.tenant,
        instance: view.instance.id,
        deployment: deployment.clone(),
        user: reconcile::user_of(shared, view),
        cancel,
    };
    shared.tracker.spawn(async move {
        let result = job.run().await;
        lock(&job.shared.builds).remove(&job.deployment.id);
        match result {
            // Stale: it was canceled or removed meanwhile, which is what the guard is for.
            Ok(()) | Err(StoreError::Stale) => job.shared.look(job.tenant.workspace(), job.instance),
            // No bell: while the store fails, the clock is often enough.
            Err(error) => tracing::error!(%error, deployment = %job.deployment.id, "a build could not be recorded; it begins anew"),
        }
    });
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
        let Ok(_permit) = self.shared.building.acquire().await else { return Ok(()) };
        // One build of a service at a time: they share its caches.
        let turn = self.shared.service_locks.lock().await.entry(self.instance).or_default().clone();
        let _turn = turn.lock().await;
        if self.cancel.is_cancelled() {
            return Ok(());
        }
        let id = self.deployment.id;
        let now = Timestamp::now();
        let mut changes = vec![
            Change::EventComplete { deployment: id, step: EventStep::SnapshotCode, at: now, error: None, detail: None },
            Change::EventInsert(event(id, EventStep::BuildImage)),
        ];
        if self.deployment.status == DeploymentStatus::Building {
            // The control plane ended in the middle of this build; its steps are there already.
            changes.clear();
        } else {
            changes.push(Change::DeploymentMove {
                id,
                from: self.deployment.status,
                to: DeploymentStatus::Building,
                reason: None,
                at: now,
            });
        }
        if self.deployment.reason != DeployReason::Deploy && !changes.is_empty() {
            // A repeated deployment has no upload whose step could end.
            changes.remove(0);
        }
        self.commit(changes).await?;
        let result = self.build().await;
        self.record(result).await
    }

    async fn commit(&self, changes: Vec<Change>) -> Result<(), StoreError> {
        if changes.is_empty() {
            return Ok(());
        }
        self.shared.ops.store.commit(self.tenant, changes).await?;
        self.shared.ops.signals.deployment_changed(self.deployment.id);
        Ok(())
    }

    async fn build(&self) -> Result<Built, BuildFailure> {
        let config = &self.shared.config;
        let id = self.deployment.id;
        let blob = self.deployment.source_blob.as_deref();
        let blob = blob.ok_or_else(|| BuildFailure::Source("nothing was uploaded for this deployment: deploy the source again".into()))?;
        let variables = self.shared.ops.store.deployment_variables(self.tenant, id).await;
        let env = variables.map_err(|error| BuildFailure::Internal(format!("the variables cannot be read: {error}")))?;
        let request = BuildRequest {
            archive: config.blobs.join(blob),
            artifact: config.data_dir.join("artifacts").join(id.to_string()),
            cache: config.data_dir.join("cache").join(self.deployment.service_id.to_string()),
            scratch: config.data_dir.join("scratch").join(id.to_string()),
            spec: self.deployment.spec.clone(),
            environment_name: env.get("RAILWAY_ENVIRONMENT_NAME").cloned().unwrap_or_default(),
            env,
            user: self.user,
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
                self.commit(vec![done(None), built, step(DeploymentStatus::Deploying, None)]).await
            }
            // The control plane stops: the next start builds again. A canceled deployment has its status already.
            Err(BuildFailure::Canceled) => Ok(()),
            Err(BuildFailure::Skipped(reason)) => self.commit(vec![done(None), step(DeploymentStatus::Skipped, Some(reason))]).await,
            Err(failure) => {
                let reason = failure.to_string();
                tracing::info!(deployment = %id, reason, "a build has failed");
                // The event first: a client that sees the status has its reason then.
                self.commit(vec![done(Some(reason.clone()))]).await?;
                self.commit(vec![step(DeploymentStatus::Failed, Some(reason))]).await
            }
        }
    }
}

fn event(deployment: DeploymentId, step: EventStep) -> DeploymentEvent {
    DeploymentEvent {
        id: EventId::generate(),
        deployment_id: deployment,
        step,
        created_at: Timestamp::now(),
        completed_at: None,
        error: None,
        detail: None,
    }
}

async fn store_lines(shared: Arc<Shared>, deployment: Deployment, mut lines: mpsc::Receiver<BuildLine>) {
    let mut batch = vec![];
    while lines.recv_many(&mut batch, 256).await > 0 {
        log(&shared, &deployment, batch.drain(..)).await;
    }
}

async fn log(shared: &Shared, deployment: &Deployment, lines: impl Iterator<Item = BuildLine>) {
    let source = observe::source(deployment, None, LogKind::Build);
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

/// A candidate whose pre-deploy commands have not run starts nothing yet; they are begun here.
pub(crate) async fn hold_for_pre_deploy(shared: &Arc<Shared>, view: &View, plan: &mut Plan) -> Result<(), StoreError> {
    let starting: Vec<DeploymentId> = plan.start.iter().filter(|(_, generation, _)| *generation == 0).map(|(id, ..)| *id).collect();
    for deployment in view.deployments.iter().filter(|deployment| starting.contains(&deployment.id)) {
        if deployment.status != DeploymentStatus::Deploying || deployment.spec.deploy.pre_deploy_command.is_empty() {
            continue;
        }
        let events = shared.ops.store.deployment_events(view.tenant, deployment.id).await?;
        let done = events.iter().any(|event| event.step == EventStep::PreDeployCommand && event.completed_at.is_some());
        if done {
            continue;
        }
        plan.start.retain(|(id, ..)| *id != deployment.id);
        if !lock(&shared.builds).contains_key(&deployment.id) {
            pre_deploy(shared, view, deployment);
        }
    }
    Ok(())
}

fn pre_deploy(shared: &Arc<Shared>, view: &View, deployment: &Deployment) {
    let cancel = shared.shutdown.child_token();
    lock(&shared.builds).insert(deployment.id, cancel.clone());
    let (shared, tenant, deployment) = (shared.clone(), view.tenant, deployment.clone());
    let (instance, user) = (view.instance.id, reconcile::user_of(&shared, view));
    let tracker = shared.tracker.clone();
    tracker.spawn(async move {
        let id = deployment.id;
        let result = run_pre_deploy(&shared, tenant, &deployment, user, cancel).await;
        let now = Timestamp::now();
        let event =
            |error| Change::EventInsert(DeploymentEvent { completed_at: Some(now), error, ..event(id, EventStep::PreDeployCommand) });
        let committed = match result {
            Ok(()) => shared.ops.store.commit(tenant, vec![event(None)]).await,
            Err(BuildFailure::Canceled) => Ok(Default::default()),
            Err(failure) => {
                let reason = failure.to_string();
                let failed = Change::DeploymentMove {
                    id,
                    from: DeploymentStatus::Deploying,
                    to: DeploymentStatus::Failed,
                    reason: Some(reason.clone()),
                    at: now,
                };
                shared.ops.store.commit(tenant, vec![event(Some(reason)), failed]).await
            }
        };
        if let Err(error) = committed {
            tracing::warn!(%error, deployment = %id, "the end of a pre-deploy command could not be recorded");
        }
        lock(&shared.builds).remove(&id);
        shared.ops.signals.deployment_changed(id);
        shared.look(tenant.workspace(), instance);
    });
}

async fn run_pre_deploy(
    shared: &Arc<Shared>,
    tenant: Tenant,
    deployment: &Deployment,
    user: Option<UnixUser>,
    cancel: CancellationToken,
) -> Result<(), BuildFailure> {
    let variables = shared.ops.store.deployment_variables(tenant, deployment.id).await;
    let mut env: BTreeMap<String, String> = variables.map_err(|error| BuildFailure::Internal(error.to_string()))?;
    if let Some(RunPlan::Command { env: more, .. }) = &deployment.run {
        env.extend(more.clone());
    }
    let artifact = deployment.artifact.clone().unwrap_or_default();
    let root = shared.config.data_dir.join("artifacts").join(artifact);
    let (sender, receiver) = mpsc::channel(256);
    let log = tokio::spawn(store_lines(shared.clone(), deployment.clone(), receiver));
    let scratch = shared.config.data_dir.join("scratch").join(format!("{}-pre", deployment.id));
    let result = pre_deploy_commands(deployment, &root, &scratch, env, user, shared, sender, cancel).await;
    if let Err(error) = log.await {
        tracing::error!(%error, "the log of a pre-deploy command ended abnormally");
    }
    result
}

#[expect(clippy::too_many_arguments, reason = "one call site; a struct would only rename the arguments")]
async fn pre_deploy_commands(
    deployment: &Deployment,
    root: &Path,
    scratch: &Path,
    env: BTreeMap<String, String>,
    user: Option<UnixUser>,
    shared: &Shared,
    lines: mpsc::Sender<BuildLine>,
    cancel: CancellationToken,
) -> Result<(), BuildFailure> {
    for command in &deployment.spec.deploy.pre_deploy_command {
        let request = builder::CommandRequest {
            root: root.to_owned(),
            scratch: scratch.to_owned(),
            command: command.clone(),
            env: env.clone(),
            user,
            limits: shared.config.build_limits.clone(),
        };
        builder::run_command(request, lines.clone(), cancel.clone()).await?;
    }
    Ok(())
}
