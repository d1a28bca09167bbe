//! A fresh database, and rows to put into it.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::account::{Plan, User, Workspace};
use domain::activity::{Activity, Actor};
use domain::deployment::{DeployReason, Deployment, DeploymentEvent, DeploymentStatus, EventStep, Replica, ReplicaStatus};
use domain::key::{ApiKey, KeyKind, KeyLimits};
use domain::project::{Domain, DomainKind, Environment, Instance, Project, Service};
use domain::spec::{InstanceSpec, RunPlan};
use domain::variable::Variable;
use domain::*;
use jiff::SignedDuration;
use store::{Change, MasterKey, NewUser, Store, StoreConfig};

use crate::postgres::Postgres;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Sqlite,
    Postgres,
}

/// A database that nobody else uses. It goes with the fixture.
pub(crate) struct Fixture {
    pub(crate) store: Store,
    pub(crate) url: String,
    pub(crate) kind: Kind,
    pub(crate) dir: tempfile::TempDir,
    _server: Option<Arc<Postgres>>,
}

/// Declares a test that runs on both databases.
macro_rules! both {
    ($(async fn $name:ident($fixture:ident: Fixture) $body:block)+) => {$(
        mod $name {
            #[allow(clippy::wildcard_imports)]
            use super::*;
            use crate::fixture::{Fixture, Kind};

            async fn case($fixture: Fixture) $body

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn sqlite() {
                case(Fixture::new(Kind::Sqlite).await).await;
            }

            #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
            async fn postgres() {
                case(Fixture::new(Kind::Postgres).await).await;
            }
        }
    )+};
}

pub(crate) const KEY: [u8; 32] = [7; 32];

impl Fixture {
    pub(crate) async fn new(kind: Kind) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (server, url) = match kind {
            Kind::Sqlite => (None, format!("sqlite://{}", dir.path().join("orrery.db").display())),
            Kind::Postgres => {
                let server = Postgres::shared();
                let url = server.database().await;
                (Some(server), url)
            }
        };
        let store = open(&url, KEY).await.unwrap();
        Self { store, url, kind, dir, _server: server }
    }

    /// A workspace with its owner and nothing in it.
    pub(crate) async fn tenant(&self, name: &str) -> (Tenant, User) {
        let user = user(name);
        let workspace = workspace(name, Some(user.id));
        let tenant = Tenant::system(workspace.id);
        self.store.user_create(NewUser { user: user.clone(), password_hash: None, workspace }).await.unwrap();
        (tenant, user)
    }

    /// A workspace with one row of every kind.
    pub(crate) async fn tree(&self, name: &str) -> Tree {
        let (tenant, user) = self.tenant(name).await;
        let tree = Tree::new(tenant, user, name);
        self.store.commit(tenant, tree.inserts()).await.unwrap();
        tree
    }
}

pub(crate) async fn open(url: &str, key: [u8; 32]) -> Result<Store, store::StoreError> {
    Store::open(StoreConfig { url: url.to_owned(), master_key: MasterKey::from_bytes(key) }).await
}

/// A time that survives a trip through the database, which keeps microseconds.
pub(crate) fn now() -> Timestamp {
    Timestamp::from_microsecond(1_790_000_000_123_456).unwrap()
}

pub(crate) fn later(seconds: i64) -> Timestamp {
    now() + SignedDuration::from_secs(seconds)
}

pub(crate) fn user(name: &str) -> User {
    User { id: UserId::generate(), email: format!("{name}@example.com"), name: name.to_owned(), operator: false, created_at: now() }
}

pub(crate) fn workspace(name: &str, personal_of: Option<UserId>) -> Workspace {
    Workspace {
        id: WorkspaceId::generate(),
        name: format!("{name}'s workspace"),
        username: name.to_owned(),
        personal_of,
        plan: Plan::Hobby,
        created_at: now(),
        updated_at: now(),
    }
}

pub(crate) fn project(tenant: Tenant, name: &str) -> Project {
    Project {
        id: ProjectId::generate(),
        workspace_id: tenant.workspace(),
        name: name.to_owned(),
        description: None,
        created_at: now(),
        updated_at: now(),
        deleted_at: None,
    }
}

pub(crate) fn environment(project: &Project, name: &str) -> Environment {
    Environment {
        id: EnvironmentId::generate(),
        workspace_id: project.workspace_id,
        project_id: project.id,
        name: name.to_owned(),
        is_ephemeral: false,
        is_protected: false,
        source_environment_id: None,
        created_at: now(),
        updated_at: now(),
    }
}

pub(crate) fn service(project: &Project, name: &str) -> Service {
    Service {
        id: ServiceId::generate(),
        workspace_id: project.workspace_id,
        project_id: project.id,
        name: name.to_owned(),
        icon: None,
        created_at: now(),
        updated_at: now(),
    }
}

pub(crate) fn instance(environment: &Environment, service: &Service) -> Instance {
    Instance {
        id: InstanceId::generate(),
        workspace_id: environment.workspace_id,
        project_id: environment.project_id,
        environment_id: environment.id,
        service_id: service.id,
        number: 0,
        spec: InstanceSpec::default(),
        created_at: now(),
        updated_at: now(),
    }
}

pub(crate) fn deployment(instance: &Instance, status: DeploymentStatus) -> Deployment {
    Deployment {
        id: DeploymentId::generate(),
        workspace_id: instance.workspace_id,
        project_id: instance.project_id,
        environment_id: instance.environment_id,
        service_id: instance.service_id,
        instance_id: instance.id,
        snapshot_id: SnapshotId::generate(),
        status,
        status_reason: None,
        status_at: now(),
        generation: 0,
        stopped: false,
        reason: DeployReason::Deploy,
        spec: instance.spec.clone(),
        source_blob: Some("ab".repeat(32)),
        artifact: None,
        run: None,
        waits_for: vec![],
        message: Some("first \u{1F680}".into()),
        creator: Actor::System { part: "test".into() },
        created_at: now(),
        updated_at: now(),
    }
}

pub(crate) fn event(deployment: &Deployment, step: EventStep) -> DeploymentEvent {
    DeploymentEvent {
        id: EventId::generate(),
        deployment_id: deployment.id,
        step,
        created_at: now(),
        completed_at: None,
        error: None,
        detail: None,
    }
}

pub(crate) fn replica(deployment: &Deployment, index: u32) -> Replica {
    Replica {
        id: ReplicaId::generate(),
        workspace_id: deployment.workspace_id,
        deployment_id: deployment.id,
        generation: 0,
        index,
        status: ReplicaStatus::Running,
        port: 40_123,
        exit_code: None,
        reason: None,
        restarts: 2,
        created_at: now(),
        updated_at: now(),
        unhealthy_since: None,
    }
}

pub(crate) fn variable(environment: &Environment, service: Option<ServiceId>, name: &str, value: &str) -> Variable {
    Variable {
        workspace_id: environment.workspace_id,
        project_id: environment.project_id,
        environment_id: environment.id,
        service_id: service,
        name: name.to_owned(),
        value: value.to_owned(),
        is_sealed: false,
        updated_at: now(),
    }
}

pub(crate) fn api_key(kind: KeyKind, user: UserId) -> ApiKey {
    ApiKey {
        id: ApiKeyId::generate(),
        kind,
        user_id: user,
        workspace_id: None,
        project: None,
        label: "test".into(),
        display: "orr_1234…5678".into(),
        limits: KeyLimits::OF_PLAN,
        expires_at: None,
        revoked_at: None,
        last_used_at: None,
        last_used_address: None,
        created_at: now(),
    }
}

/// A hash that nothing else has.
pub(crate) fn hash() -> [u8; 32] {
    let mut hash = [0; 32];
    rand::fill(&mut hash);
    hash
}

/// One row of every kind, each below the one before.
pub(crate) struct Tree {
    pub(crate) tenant: Tenant,
    pub(crate) user: User,
    pub(crate) project: Project,
    pub(crate) environment: Environment,
    pub(crate) service: Service,
    pub(crate) instance: Instance,
    pub(crate) domain: Domain,
    pub(crate) variable: Variable,
    pub(crate) deployment: Deployment,
    pub(crate) event: DeploymentEvent,
    pub(crate) replica: Replica,
    pub(crate) key: ApiKey,
    pub(crate) activity: Activity,
}

impl Tree {
    fn new(tenant: Tenant, user: User, name: &str) -> Self {
        let project = Project { description: Some("all of it".into()), ..project(tenant, name) };
        let environment = environment(&project, "production");
        let service = service(&project, "web");
        let mut instance = instance(&environment, &service);
        instance.spec.deploy.start_command = Some("./serve \"ü\"".into());
        let domain = Domain {
            id: DomainId::generate(),
            workspace_id: tenant.workspace(),
            project_id: project.id,
            environment_id: environment.id,
            service_id: service.id,
            kind: DomainKind::Custom,
            domain: format!("{name}.example.com"),
            target_port: Some(65_535),
            verification_token: Some("token".into()),
            verified_at: None,
            dns_value: Some("elsewhere.example.com".into()),
            dns_checked_at: Some(now()),
            force_https: false,
            certificate: Default::default(),
            created_at: now(),
            updated_at: now(),
        };
        let deployment = Deployment {
            run: Some(RunPlan::Static { root: "dist".into(), spa: true }),
            artifact: Some("artifact".into()),
            ..deployment(&instance, DeploymentStatus::Building)
        };
        let event = event(&deployment, EventStep::BuildImage);
        let replica = replica(&deployment, 0);
        let key = ApiKey {
            workspace_id: Some(tenant.workspace()),
            project: Some((project.id, environment.id)),
            ..api_key(KeyKind::Project, user.id)
        };
        let activity = Activity {
            id: ActivityId::generate(),
            workspace_id: tenant.workspace(),
            project_id: Some(project.id),
            instance_id: Some(instance.id),
            actor: Actor::User { id: user.id, name: user.name.clone(), email: user.email.clone(), run: None },
            verb: "project_create".into(),
            subject: project.id.to_string(),
            data: serde_json::json!({"name": name, "nested": [1, null, "\u{0}"]}),
            address: Some("127.0.0.1".into()),
            created_at: now(),
        };
        let variable = variable(&environment, Some(service.id), "TOKEN", name);
        Self { tenant, user, project, environment, service, instance, domain, variable, deployment, event, replica, key, activity }
    }

    pub(crate) fn inserts(&self) -> Vec<Change> {
        vec![
            Change::ProjectInsert(self.project.clone()),
            Change::EnvironmentInsert(self.environment.clone()),
            Change::ServiceInsert(self.service.clone()),
            Change::InstanceInsert(self.instance.clone()),
            Change::DomainInsert(self.domain.clone()),
            Change::VariableSet(self.variable.clone()),
            Change::DeploymentInsert { deployment: self.deployment.clone(), variables: BTreeMap::from([("A".into(), "b".into())]) },
            Change::EventInsert(self.event.clone()),
            Change::ReplicaInsert(self.replica.clone()),
            Change::ApiKeyInsert { key: self.key.clone(), hash: hash() },
            Change::Activity(self.activity.clone()),
        ]
    }
}
