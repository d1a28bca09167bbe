//! A whole Orrery for tests: real store, logs, verbs and engine in a temporary folder, a simulated driver and a stand-in for the edge.
//!
//! Tests say what they wait for ([`TestApp::until`]); they are woken by what happens and never sleep.

mod edge_double;
mod journal;
mod run;
mod stage;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use domain::deployment::{DeployReason, Deployment, DeploymentEvent, DeploymentStatus, Replica, ReplicaStatus};
use domain::log::filter::Filter;
use domain::spec::{InstanceSpec, Limits, RunPlan};
use domain::{DeploymentId, EnvironmentId, InstanceId, ProjectId, ReplicaId, ServiceId, SnapshotId, Tenant, Timestamp};
use engine::EngineConfig;
use futures::StreamExt as _;
use ops::auth::{Presented, Surface, authenticate};
use ops::project::ProjectCreate;
use ops::service::ServiceCreate;
use ops::{OpCtx, Ops, Settings};
use store::{Change, MasterKey, Store, StoreConfig};
use telemetry::{LogQuery, LogScope, Replay, Telemetry, TelemetryConfig};
use tokio::sync::broadcast::error::RecvError;

pub use edge_double::EdgeDouble;
pub use journal::{Entry, Journal};
use run::Running;
pub use stage::{Fault, Stage};

/// Nothing that a test waits for takes so long, on a slow machine with much to do; it is lost when it does.
const PATIENCE: Duration = Duration::from_secs(180);

/// An Orrery without an edge, a builder's queue or a port.
pub struct TestApp {
    /// Store, logs, signals and settings.
    pub ops: Arc<Ops>,
    /// The driver, its faults and its replicas.
    pub stage: Stage,
    /// The edge's stand-in.
    pub edge: EdgeDouble,
    /// What the engine did, in order.
    pub journal: Arc<Journal>,
    config: EngineConfig,
    engine: Option<Running>,
    dir: tempfile::TempDir,
}

/// A service of someone, with one environment and a domain.
#[derive(Clone)]
pub struct App {
    ctx: OpCtx,
    /// Whose it is.
    pub tenant: Tenant,
    /// The project.
    pub project: ProjectId,
    /// The environment.
    pub environment: EnvironmentId,
    /// The service.
    pub service: ServiceId,
    /// The service in the environment.
    pub instance: InstanceId,
    /// Its domain.
    pub host: String,
}

impl App {
    /// A request of its owner that arrives now.
    #[must_use]
    pub fn ctx(&self) -> OpCtx {
        OpCtx { now: Timestamp::now(), ..self.ctx.clone() }
    }
}

impl TestApp {
    /// Everything but the engine.
    ///
    /// # Panics
    /// When the machine has no room for it.
    pub async fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let url = format!("sqlite://{}", dir.path().join("orrery.db").display());
        Self::over(dir, url).await
    }

    /// The same over a database that others may use as well; the folder is its own.
    ///
    /// # Panics
    /// As [`TestApp::new`].
    pub async fn on(database: &str) -> Self {
        Self::over(tempfile::tempdir().expect("a temporary folder"), database.to_owned()).await
    }

    async fn over(dir: tempfile::TempDir, database: String) -> Self {
        let ops = Arc::new(ops(dir.path(), database).await);
        let journal = Arc::new(Journal::default());
        let config = EngineConfig {
            data_dir: dir.path().to_owned(),
            edge_dir: dir.path().join("edge"),
            blobs: ops.settings.blobs.clone(),
            build_concurrency: 1,
            build_credentials: false,
            build_limits: builder::BuildLimits::default(),
            default_limits: Limits::default(),
            separate_users: false,
            // Short enough for what only the clock finds, long enough that a test fails when a bell is missing.
            period: Duration::from_secs(2),
            outgoing: engine::OutgoingConfig {
                allow: vec!["127.0.0.0/8".parse().expect("a network")],
                ..engine::OutgoingConfig::default()
            },
            watch: engine::WatchConfig::default(),
            sleep_after: Duration::from_secs(600),
            dns: engine::DnsConfig::Off,
            acme: None,
        };
        let edge = EdgeDouble::new(config.edge_dir.clone(), journal.clone());
        Self { ops, stage: Stage::new(journal.clone()), edge, journal, config, engine: None, dir }
    }

    /// Everything, running.
    ///
    /// # Panics
    /// As [`TestApp::new`].
    pub async fn started() -> Self {
        let mut app = Self::new().await;
        app.start_engine();
        app
    }

    /// The folder of all data.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Changes how often the engine looks by the clock; for the next start.
    pub fn set_period(&mut self, period: Duration) {
        self.config.period = period;
    }

    /// Runs what users wrote as users of their own, which only root can; for the next start.
    pub fn set_separate_users(&mut self) {
        self.config.separate_users = true;
    }

    /// Changes how containers are watched; for the next start.
    pub fn set_watch(&mut self, watch: engine::WatchConfig) {
        self.config.watch = watch;
    }

    /// Changes what requests for users may reach, and who says where names lead; for the next start.
    pub fn set_outgoing(&mut self, outgoing: engine::OutgoingConfig) {
        self.config.outgoing = outgoing;
    }

    /// Starts an engine over the store, the driver and the edge as they are.
    pub fn start_engine(&mut self) {
        self.engine = Some(Running::start(self.ops.clone(), Arc::new(self.stage.clone()), self.config.clone()));
    }

    /// Ends the engine as a signal would.
    pub async fn stop_engine(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.stop().await;
        }
    }

    /// Ends the engine as SIGKILL would: each of its tasks where it is.
    pub async fn kill_engine(&mut self) {
        if let Some(engine) = self.engine.take() {
            engine.kill().await;
        }
    }

    /// A person with an account.
    ///
    /// # Panics
    /// When the e-mail address is taken.
    pub async fn person(&self, email: &str) -> OpCtx {
        let now = Timestamp::now();
        let store = &self.ops.store;
        let user = ops::first_run::user_create(store, email, "Person", false, None, now).await.expect("a new account");
        let (_, token) = ops::first_run::account_token(store, user.id, "test", now).await.expect("a token");
        let principal = authenticate(&self.ops, Surface::Railway, Presented::Bearer(token), now, None).await.expect("the token just made");
        OpCtx { ops: self.ops.clone(), principal, request_id: "test".into(), address: None, now }
    }

    /// A project of a new person, with a service and a domain, and nothing deployed.
    ///
    /// # Panics
    /// When a verb refuses.
    pub async fn app(&self, name: &str) -> App {
        let ctx = self.person(&format!("{name}@example.com")).await;
        self.app_of(&ctx, name).await
    }

    /// The same for a person who is there.
    ///
    /// # Panics
    /// When a verb refuses.
    pub async fn app_of(&self, ctx: &OpCtx, name: &str) -> App {
        let create = ProjectCreate { name: Some(name.into()), ..ProjectCreate::default() };
        let project = ops::project::project_create(ctx, create).await.expect("a project");
        let (tenant, project) = (project.tenant, project.row.id);
        let environment = self.ops.store.environments_of(tenant, &[project]).await.expect("environments").remove(0).id;
        let create = ServiceCreate {
            project,
            environment: None,
            name: Some(name.into()),
            icon: None,
            source: None,
            variables: std::collections::BTreeMap::default(),
        };
        let service = ops::service::service_create(ctx, create).await.expect("a service").row.id;
        let instance = ops::service::service_instance_get(ctx, environment, service).await.expect("an instance").row.id;
        let host = ops::domain_name::service_domain_create(ctx, environment, service, None).await.expect("a domain").domain;
        App { ctx: ctx.clone(), tenant, project, environment, service, instance, host }
    }

    /// A deployment that is built already, so that it is the engine's turn to start replicas.
    ///
    /// # Panics
    /// When the store refuses.
    pub async fn deploy(&self, app: &App, change: impl FnOnce(&mut InstanceSpec)) -> DeploymentId {
        self.deploy_after(app, &[], change).await
    }

    /// The same for one that waits for others.
    ///
    /// # Panics
    /// When the store refuses.
    pub async fn deploy_after(&self, app: &App, others: &[DeploymentId], change: impl FnOnce(&mut InstanceSpec)) -> DeploymentId {
        let now = Timestamp::now();
        let instance = ops::service::service_instance_get(&app.ctx, app.environment, app.service).await.expect("an instance").row;
        let mut spec = instance.spec;
        // Nobody waits half a minute for what is only played.
        spec.deploy.draining_seconds = 3;
        change(&mut spec);
        let id = DeploymentId::generate();
        std::fs::create_dir_all(self.dir().join("artifacts").join(id.to_string())).expect("an artifact");
        let deployment = Deployment {
            id,
            workspace_id: instance.workspace_id,
            project_id: app.project,
            environment_id: app.environment,
            service_id: app.service,
            instance_id: app.instance,
            snapshot_id: SnapshotId::generate(),
            status: DeploymentStatus::Deploying,
            status_reason: None,
            status_at: now,
            generation: 0,
            stopped: false,
            reason: DeployReason::Deploy,
            spec,
            source_blob: None,
            artifact: Some(id.to_string()),
            run: Some(RunPlan::Static { root: ".".into(), spa: false }),
            waits_for: others.to_vec(),
            message: None,
            creator: app.ctx.actor(),
            created_at: now,
            updated_at: now,
        };
        let variables = [("GREETING".to_owned(), "hello".to_owned())].into();
        self.ops.store.commit(app.tenant, vec![Change::DeploymentInsert { deployment, variables }]).await.expect("a new deployment");
        self.ops.signals.wake(app.tenant.workspace(), app.instance);
        id
    }

    /// Waits until `probe` finds what it looks for; it is asked again whenever something has happened.
    ///
    /// # Panics
    /// When that does not come, with `what`.
    pub async fn until<T>(&self, what: &str, mut probe: impl AsyncFnMut() -> Option<T>) -> T {
        let (mut changes, mut entries) = (self.ops.signals.changes(), self.journal.rings());
        let mut bell = runtime::Driver::bell(&self.stage);
        let found = async {
            loop {
                if let Some(found) = probe().await {
                    return found;
                }
                tokio::select! {
                    change = changes.recv() => assert!(!matches!(change, Err(RecvError::Closed)), "the signals outlive the test"),
                    _ = entries.changed() => {}
                    _ = bell.changed() => {}
                }
            }
        };
        match tokio::time::timeout(PATIENCE, found).await {
            Ok(found) => found,
            Err(_) => panic!("this did not come: {what}; the journal: {:#?}", self.journal.entries()),
        }
    }

    /// The deployment as it is.
    ///
    /// # Panics
    /// When there is no such deployment.
    pub async fn deployment(&self, app: &App, id: DeploymentId) -> Deployment {
        let found = self.ops.store.deployment(id).await.expect("the store").and_then(|sealed| sealed.open(app.tenant));
        found.expect("a deployment")
    }

    /// Waits for a status.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn until_status(&self, app: &App, id: DeploymentId, status: DeploymentStatus) -> Deployment {
        self.until(&format!("{id} to become {}", status.as_str()), async || {
            Some(self.deployment(app, id).await).filter(|deployment| deployment.status == status)
        })
        .await
    }

    /// The replicas of a deployment that are not gone.
    ///
    /// # Panics
    /// When the store does not answer.
    pub async fn replicas(&self, app: &App, id: DeploymentId) -> Vec<Replica> {
        let mut rows = self.ops.store.replicas_of(app.tenant, &[id]).await.expect("the store");
        rows.retain(|replica| replica.status != ReplicaStatus::Removed);
        rows
    }

    /// The replicas that the edge sends requests for the app to, sorted.
    #[must_use]
    pub fn targets(&self, app: &App) -> Vec<ReplicaId> {
        let route = self.edge.route(&app.host);
        let mut targets: Vec<_> = route.iter().flat_map(|route| &route.targets).map(|target| target.replica_id).collect();
        targets.sort_unstable();
        targets
    }

    /// Waits until the edge sends requests to exactly so many replicas, all of that deployment.
    ///
    /// # Panics
    /// When that does not come.
    pub async fn until_routed(&self, app: &App, id: DeploymentId, count: usize) -> Vec<ReplicaId> {
        self.until(&format!("{count} targets of {id}"), async || {
            let route = self.edge.route(&app.host)?;
            let right = route.targets.len() == count && route.targets.iter().all(|target| target.deployment_id == id);
            right.then(|| self.targets(app))
        })
        .await
    }

    /// Deploys, and waits until it serves.
    ///
    /// # Panics
    /// When that does not come.
    pub async fn live(&self, app: &App) -> DeploymentId {
        let id = self.deploy(app, |_| {}).await;
        self.until_status(app, id, DeploymentStatus::Success).await;
        id
    }

    /// Waits until the driver knows exactly these replicas of an app.
    ///
    /// # Panics
    /// When that does not come.
    pub async fn until_driver_has(&self, app: &App, wanted: &[ReplicaId]) {
        let mut wanted = wanted.to_vec();
        wanted.sort_unstable();
        self.until(&format!("the driver to have {wanted:?}"), async || {
            let known = self.stage.sim.specs().into_iter().filter(|spec| spec.source.service_id == app.service);
            let mut known: Vec<_> = known.map(|spec| spec.replica_id).collect();
            known.sort_unstable();
            (known == wanted).then_some(())
        })
        .await;
    }

    /// Has the played app of a deployment listen, once it has been started.
    ///
    /// # Panics
    /// When that does not come.
    pub async fn listen(&self, id: DeploymentId) {
        self.until(&format!("an app of {id} that can listen"), async || {
            let spec = self.stage.sim.specs().into_iter().find(|spec| spec.source.deployment_id == id)?;
            self.stage.sim.listen(spec.replica_id);
            Some(())
        })
        .await;
    }

    /// The steps of a deployment, oldest first.
    ///
    /// # Panics
    /// When the store does not answer.
    pub async fn events(&self, app: &App, id: DeploymentId) -> Vec<DeploymentEvent> {
        self.ops.store.deployment_events(app.tenant, id).await.expect("the store")
    }

    /// The lines of a deployment's build log.
    ///
    /// # Panics
    /// When the log store does not answer.
    pub async fn build_log(&self, app: &App, id: DeploymentId) -> Vec<String> {
        let snapshot = self.deployment(app, id).await.snapshot_id;
        let query = LogQuery {
            scope: LogScope::Snapshot { tenant: app.tenant, snapshot },
            filter: Filter::default(),
            after: None,
            before: None,
            limit: 1000,
            newest: false,
        };
        self.ops.telemetry.query(&query).expect("the log store").into_iter().map(|line| line.message).collect()
    }

    /// Waits for a line of a deployment's build log.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn until_build_line(&self, app: &App, id: DeploymentId, wanted: &str) {
        let snapshot = self.deployment(app, id).await.snapshot_id;
        let scope = LogScope::Snapshot { tenant: app.tenant, snapshot };
        let replay = Replay { limit: 1000, ..Replay::default() };
        let mut lines = std::pin::pin!(self.ops.telemetry.follow(scope, Filter::default(), replay));
        let found = async {
            while let Some(lines) = lines.next().await {
                if lines.iter().any(|line| line.message == wanted) {
                    return true;
                }
            }
            false
        };
        assert!(tokio::time::timeout(PATIENCE, found).await.is_ok_and(|found| found), "this line did not come: {wanted}");
    }

    /// The verbs in the app's audit log.
    ///
    /// # Panics
    /// When the store does not answer.
    pub async fn activities(&self, app: &App) -> Vec<String> {
        let found = self.ops.store.activities(app.tenant, Some(app.project), 100).await.expect("the store");
        found.into_iter().map(|activity| activity.verb).collect()
    }

    /// From the first table with a target on, no table left the app without one.
    ///
    /// # Panics
    /// When one did.
    pub fn assert_always_served(&self, app: &App) {
        let tables = self.edge.tables();
        let served = tables.iter().map(|table| table.hosts.get(&app.host).is_some_and(|route| !route.targets.is_empty()));
        let gaps = served.skip_while(|served| !served).filter(|served| !served).count();
        assert_eq!(gaps, 0, "a table without a target: {tables:#?}");
    }

    /// Every replica was stopped after the edge had taken a table without it, and none was routed after its stop.
    ///
    /// # Panics
    /// When that was not so.
    pub fn assert_stops_follow_the_table(&self) {
        let entries = self.journal.entries();
        for (at, entry) in entries.iter().enumerate() {
            let Entry::Stop(stopped) = entry else { continue };
            let routes = |entry: &Entry| matches!(entry, Entry::Table(targets) if targets.contains(stopped));
            let last = entries[..at].iter().rev().find(|entry| matches!(entry, Entry::Table(_)));
            assert!(!last.is_some_and(routes), "{stopped} was stopped while it was routed: {entries:#?}");
            assert!(!entries[at..].iter().any(routes), "{stopped} was routed after its stop: {entries:#?}");
        }
    }
}

async fn ops(dir: &Path, url: String) -> Ops {
    let store = Store::open(StoreConfig { url, master_key: MasterKey::from_bytes([7; 32]) }).await.expect("a new store");
    let config = TelemetryConfig { dir: dir.join("telemetry"), retain_days: 1, retain_bytes: 10_000_000 };
    let settings = Settings {
        // Few containers and quick triggers, so that tests reach both limits.
        apps: ops::app::AppSettings { trigger_seconds: 1, container_limit: 10, ..ops::app::AppSettings::default() },
        ..Settings::local(dir)
    };
    Ops::new(store, Telemetry::open(config).expect("a new log store"), settings)
}
