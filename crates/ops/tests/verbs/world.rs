//! Verbs over a store of their own, and what the engine would do.

use std::sync::Arc;

use domain::deployment::{DeployReason, DeploymentStatus};
use domain::spec::RunPlan;
use domain::{Tenant, Timestamp};
use ops::auth::{Presented, Surface, authenticate};
use ops::deployment::{Blob, Upload};
use ops::project::ProjectCreate;
use ops::{OpCtx, Opened, Ops, Settings};
use store::{Change, MasterKey, Store, StoreConfig};
use telemetry::{Telemetry, TelemetryConfig};

pub(crate) struct World {
    pub(crate) ops: Arc<Ops>,
    pub(crate) dir: tempfile::TempDir,
}

pub(crate) async fn world() -> World {
    world_with(|_| ()).await
}

pub(crate) async fn world_with(change: impl FnOnce(&mut Settings)) -> World {
    let dir = tempfile::tempdir().unwrap();
    let url = format!("sqlite://{}", dir.path().join("orrery.db").display());
    open(dir, url, change).await
}

/// Over a database that somebody else has made.
pub(crate) async fn world_over(url: String) -> World {
    open(tempfile::tempdir().unwrap(), url, |_| ()).await
}

async fn open(dir: tempfile::TempDir, url: String, change: impl FnOnce(&mut Settings)) -> World {
    let store = Store::open(StoreConfig { url, master_key: MasterKey::from_bytes([7; 32]) }).await.unwrap();
    let telemetry =
        Telemetry::open(TelemetryConfig { dir: dir.path().join("telemetry"), retain_days: 1, retain_bytes: 1_000_000 }).unwrap();
    let mut settings = Settings::local(dir.path());
    change(&mut settings);
    World { ops: Arc::new(Ops::new(store, telemetry, settings)), dir }
}

impl World {
    pub(crate) async fn person(&self, email: &str) -> OpCtx {
        let now = Timestamp::now();
        let user = ops::first_run::user_create(&self.ops.store, email, "Person", false, None, now).await.unwrap();
        let (_, token) = ops::first_run::account_token(&self.ops.store, user.id, "test", now).await.unwrap();
        let principal = authenticate(&self.ops, Surface::Railway, Presented::Bearer(token), now, None).await.unwrap();
        OpCtx { ops: self.ops.clone(), principal, request_id: "test".into(), address: None, now }
    }

    pub(crate) async fn uploaded(&self, ctx: &OpCtx, name: &str) -> Opened<ops::deployment::Deployed> {
        let project =
            ops::project::project_create(ctx, ProjectCreate { name: Some(name.into()), ..ProjectCreate::default() }).await.unwrap();
        let environment = self.ops.store.environments_of(project.tenant, &[project.row.id]).await.unwrap().remove(0);
        let blob = Blob { sha256: "ab".repeat(32), bytes: 10 };
        let upload = Upload { project: project.row.id, environment: environment.id, service: None, blob, message: Some("first".into()) };
        ops::deployment::deployment_create(ctx, upload).await.unwrap()
    }

    /// What the engine does to a deployment that goes well.
    pub(crate) async fn goes_live(&self, deployed: &Opened<ops::deployment::Deployed>) {
        let (id, at) = (deployed.row.deployment.id, Timestamp::now());
        let step = |from, to| Change::DeploymentMove { id, from, to, reason: None, at };
        let run = RunPlan::Static { root: ".".into(), spa: false };
        std::fs::create_dir_all(self.ops.settings.artifacts.join(id.to_string())).unwrap();
        let built = Change::DeploymentBuilt { id, artifact: id.to_string(), run, spec: deployed.row.deployment.spec.clone(), at };
        let moves = vec![
            step(DeploymentStatus::Initializing, DeploymentStatus::Building),
            built,
            step(DeploymentStatus::Building, DeploymentStatus::Deploying),
            step(DeploymentStatus::Deploying, DeploymentStatus::Success),
        ];
        self.ops.store.commit(Tenant::system(deployed.tenant.workspace()), moves).await.unwrap();
    }

    pub(crate) async fn statuses(&self, deployed: &Opened<ops::deployment::Deployed>) -> Vec<(DeploymentStatus, DeployReason)> {
        let live = self.ops.store.deployments_live(deployed.tenant, &[deployed.row.deployment.instance_id]).await.unwrap();
        live.iter().map(|deployment| (deployment.status, deployment.reason)).collect()
    }
}

impl World {
    /// The same person after their memberships have changed.
    pub(crate) async fn again(&self, ctx: &OpCtx) -> OpCtx {
        let user = ctx.user().unwrap().user.id;
        let (_, token) = ops::first_run::account_token(&self.ops.store, user, "again", ctx.now).await.unwrap();
        let principal = authenticate(&self.ops, Surface::Railway, Presented::Bearer(token), ctx.now, None).await.unwrap();
        OpCtx { principal, ..ctx.clone() }
    }
}
