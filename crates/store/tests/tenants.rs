//! One tenant cannot see, change or build on another's rows.

use std::collections::BTreeMap;

use domain::account::Workspace;
use domain::activity::Activity;
use domain::deployment::{Deployment, DeploymentEvent, DeploymentStatus, EventStep, Replica};
use domain::key::ApiKey;
use domain::project::{Domain, Environment, Instance, Project, Service};
use domain::spec::{InstanceSpec, RunPlan};
use domain::variable::Variable;
use domain::*;
use store::{CertificateChange, Change, StoreError};

use crate::fixture::*;

/// Every change that names a row of `of`, as it stands and, where the row says whose it is, also as if it were `thief`'s own.
fn attacks(of: &Tree, thief: &Tree) -> Vec<Change> {
    let mine = thief.tenant.workspace();
    let (id, at, from) = (of.deployment.id, now(), of.deployment.status);
    let (environment, service) = (of.environment.id, Some(of.service.id));
    let workspace = Workspace { id: of.tenant.workspace(), ..workspace("renamed", None) };
    let mut all = vec![
        Change::WorkspaceUpdate(workspace, now()),
        Change::ProjectDelete(of.project.id),
        Change::EnvironmentDelete(environment),
        Change::ServiceDelete(of.service.id),
        Change::InstanceDelete(of.instance.id),
        Change::DomainDelete(of.domain.id),
        Change::DomainChecked { id: of.domain.id, value: None, verified: true, at },
        Change::DomainHttps { id: of.domain.id, force: true, at },
        Change::Certificate(CertificateChange::Set {
            domain: of.domain.id,
            chain: "stolen".into(),
            key: "stolen".into(),
            state: Default::default(),
            due: at,
            seen: None,
            at,
        }),
        Change::Certificate(CertificateChange::Note { domain: of.domain.id, state: Default::default(), due: at, seen: None }),
        Change::Certificate(CertificateChange::Claim {
            domain: of.domain.id,
            name: of.domain.domain.clone(),
            state: Default::default(),
            seen: Timestamp::UNIX_EPOCH,
            until: at,
        }),
        Change::Certificate(CertificateChange::Delete(of.domain.id)),
        Change::EnvironmentProtect(environment, true, at),
        Change::EnvironmentRevise(environment, 0),
        Change::VariableDelete { environment, service, name: of.variable.name.clone() },
        Change::VariablesClear { environment, service },
        Change::DeploymentMove { id, from, to: DeploymentStatus::Failed, reason: None, at },
        Change::DeploymentBuilt {
            id,
            artifact: "stolen".into(),
            run: RunPlan::Static { root: "/".into(), spa: false },
            spec: InstanceSpec::default(),
            at,
        },
        Change::DeploymentStopped { id, stopped: true, of: None, at },
        Change::DeploymentStopped { id, stopped: true, of: Some((from, of.deployment.generation)), at },
        Change::DeploymentRestart { id, from, at },
        Change::EventInsert(DeploymentEvent { id: EventId::generate(), ..of.event.clone() }),
        Change::EventComplete { deployment: id, step: EventStep::BuildImage, at, error: None, detail: None },
        Change::ReplicaEnd { id: of.replica.id, reason: "stolen".into(), at },
        Change::ReplicaHealth(of.replica.id, Some(at)),
        Change::ActivityUpdate { id: of.activity.id, data: serde_json::json!({"stolen": true}) },
        Change::MemberRemove { user: of.user.id },
        Change::ApiKeyRevoke { id: of.key.id, at },
    ];
    for workspace_id in [of.tenant.workspace(), mine] {
        let renamed = "renamed".to_owned();
        let environment = Environment { workspace_id, name: renamed.clone(), ..of.environment.clone() };
        let service = Service { workspace_id, name: renamed.clone(), ..of.service.clone() };
        let domain = Domain { workspace_id, domain: "renamed.example.com".into(), ..of.domain.clone() };
        let deployment = Deployment { workspace_id, ..of.deployment.clone() };
        let replica = Replica { workspace_id, restarts: 99, ..of.replica.clone() };
        all.extend([
            Change::ProjectUpdate(Project { workspace_id, name: renamed.clone(), ..of.project.clone() }, of.project.updated_at),
            Change::EnvironmentUpdate(environment.clone()),
            Change::EnvironmentInsert(Environment { id: EnvironmentId::generate(), ..environment }),
            Change::ServiceUpdate(service.clone()),
            Change::ServiceInsert(Service { id: ServiceId::generate(), ..service }),
            Change::InstanceUpdate {
                row: Instance { workspace_id, spec: InstanceSpec::default(), ..of.instance.clone() },
                seen: of.instance.updated_at,
            },
            Change::InstanceInsert(Instance { id: InstanceId::generate(), workspace_id, ..of.instance.clone() }),
            Change::DomainUpdate(domain.clone()),
            Change::DomainInsert(Domain { id: DomainId::generate(), ..domain }),
            Change::VariableSet(Variable { workspace_id, value: "stolen".into(), ..of.variable.clone() }),
            Change::VariableSet(Variable { workspace_id, name: "NEW".into(), ..of.variable.clone() }),
            Change::DeploymentInsert { deployment: Deployment { id: DeploymentId::generate(), ..deployment }, variables: BTreeMap::new() },
            Change::ReplicaUpdate(replica.clone()),
            Change::ReplicaInsert(Replica { id: ReplicaId::generate(), ..replica }),
            Change::ApiKeyInsert {
                key: ApiKey { id: ApiKeyId::generate(), user_id: thief.user.id, workspace_id: Some(workspace_id), ..of.key.clone() },
                hash: hash(),
            },
            Change::ApiKeyUpdate(ApiKey { workspace_id: Some(workspace_id), label: renamed, ..of.key.clone() }),
        ]);
    }
    // These two can be written into one's own log and list; into the other's they cannot.
    all.push(Change::Activity(Activity { id: ActivityId::generate(), ..of.activity.clone() }));
    all.push(Change::ProjectInsert(Project { id: ProjectId::generate(), ..of.project.clone() }));
    all
}

/// Everything that the tenant can see, as text.
async fn sight(fixture: &Fixture, tenant: Tenant, tree: &Tree) -> String {
    let (store, (p, e, s, i, d)) =
        (&fixture.store, (tree.project.id, tree.environment.id, tree.service.id, tree.instance.id, tree.deployment.id));
    let values: Vec<String> = store.variables(tenant, e).await.unwrap().into_iter().map(|variable| variable.value).collect();
    let rows = format!(
        "{:?}{:?}{:?}{:?}{:?}{:?}{:?}{:?}{:?}{:?}{:?}{:?}{:?}{:?}",
        store.projects_by_id(tenant, &[p]).await.unwrap(),
        store.environments_of(tenant, &[p]).await.unwrap(),
        store.environments_by_id(tenant, &[e]).await.unwrap(),
        store.services_of(tenant, &[p]).await.unwrap(),
        store.services_by_id(tenant, &[s]).await.unwrap(),
        store.instances_of_environments(tenant, &[e]).await.unwrap(),
        store.instances_of_services(tenant, &[s]).await.unwrap(),
        store.domains_of_environments(tenant, &[e]).await.unwrap(),
        store.deployments_by_id(tenant, &[d]).await.unwrap(),
        store.deployments_latest(tenant, &[i]).await.unwrap(),
        store.deployments_live(tenant, &[i]).await.unwrap(),
        store.deployments_of_services(tenant, &[s], None, 10).await.unwrap(),
        store.replicas_of(tenant, &[d]).await.unwrap(),
        store.deployment_events(tenant, d).await.unwrap(),
    );
    let query = store::DeploymentQuery { environment: Some(e), service: Some(s), ..Default::default() };
    let more = format!(
        "{:?}{:?}{:?}{:?}{:?}{:?}",
        store.deployments_of_services(tenant, &[s], Some(e), 10).await.unwrap(),
        store.deployments_of_services_all(tenant, &[s], None, 10).await.unwrap(),
        store.deployments(tenant, &query, &Default::default()).await.unwrap().items,
        store.api_keys_of_project(tenant, p).await.unwrap(),
        store.activities(tenant, Some(p), 10).await.unwrap(),
        store.deployment_variables(tenant, d).await.unwrap(),
    );
    let more = format!("{more}{:?}", store.instances_by_id(tenant, &[i]).await.unwrap());
    format!("{values:?}{rows}{more}")
}

both! {
    async fn what_goes_from_one_tenant_to_another_goes_at_once_and_each_is_held_to_its_own(fixture: Fixture) {
        let (from, to) = (fixture.tree("from").await, fixture.tree("to").await);
        let leave = || Change::DomainDelete(from.domain.id);
        let come = || Change::DomainInsert(Domain { id: DomainId::generate(), domain: from.domain.domain.clone(), ..to.domain.clone() });
        let store = &fixture.store;
        let foreign = store.commit_across(vec![(from.tenant, vec![leave(), come()])]).await;
        assert!(matches!(foreign, Err(StoreError::ForeignTenant)), "{foreign:?}");
        let stale = store.commit_across(vec![(to.tenant, vec![leave()]), (to.tenant, vec![come()])]).await;
        assert!(matches!(stale, Err(StoreError::Stale)), "{stale:?}");
        let taken = store.commit_across(vec![(to.tenant, vec![come()]), (from.tenant, vec![leave()])]).await;
        assert!(taken.is_err(), "{taken:?}");
        let name = from.domain.domain.as_str();
        assert_eq!(store.domain_by_name(name).await.unwrap().unwrap().workspace(), from.tenant.workspace());
        store.commit_across(vec![(from.tenant, vec![leave()]), (to.tenant, vec![come()])]).await.unwrap();
        assert_eq!(store.domain_by_name(name).await.unwrap().unwrap().workspace(), to.tenant.workspace());
    }

    async fn another_tenant_reaches_nothing(fixture: Fixture) {
        let victim = fixture.tree("victim").await;
        let thief = fixture.tree("thief").await;
        let before = sight(&fixture, victim.tenant, &victim).await;
        for change in attacks(&victim, &thief) {
            let what = format!("{change:?}");
            let empty = matches!(change, Change::VariablesClear { .. });
            let result = fixture.store.commit(thief.tenant, vec![change]).await;
            match result {
                Err(StoreError::ForeignTenant | StoreError::Stale) => {}
                Ok(_) if empty => {}
                other => panic!("{what} gave {other:?}"),
            }
        }
        assert_eq!(sight(&fixture, victim.tenant, &victim).await, before);
        assert_eq!(fixture.store.members(victim.tenant).await.unwrap().len(), 1);
        let blind = sight(&fixture, thief.tenant, &victim).await;
        assert!(!blind.contains(|c: char| c.is_alphanumeric()), "{blind}");
    }

    async fn rows_found_by_id_open_for_their_owner_only(fixture: Fixture) {
        let (owner, other) = (fixture.tree("owner").await, fixture.tree("other").await);
        let store = &fixture.store;
        macro_rules! check {
            ($($found:expr),+ $(,)?) => {$(
                let sealed = $found.await.unwrap().expect(stringify!($found));
                assert!(sealed.clone().open(other.tenant).is_none(), stringify!($found));
                assert!(sealed.open(owner.tenant).is_some(), stringify!($found));
            )+};
        }
        check!(
            store.workspace(owner.tenant.workspace()),
            store.workspace_by_username("owner"),
            store.project(owner.project.id),
            store.environment(owner.environment.id),
            store.service(owner.service.id),
            store.instance(owner.instance.id),
            store.instance_of(owner.environment.id, owner.service.id),
            store.domain(owner.domain.id),
            store.domain_by_name("owner.example.com"),
            store.deployment(owner.deployment.id),
            store.replica(owner.replica.id),
        );
        assert!(store.project(ProjectId::generate()).await.unwrap().is_none());
    }

    async fn rows_of_one_project_cannot_hang_below_another(fixture: Fixture) {
        let tree = fixture.tree("owner").await;
        let elsewhere = project(tree.tenant, "elsewhere");
        let foreign = environment(&elsewhere, "production");
        let inserts = vec![Change::ProjectInsert(elsewhere), Change::EnvironmentInsert(foreign.clone())];
        fixture.store.commit(tree.tenant, inserts).await.unwrap();
        let mixed = Instance { project_id: tree.project.id, ..instance(&foreign, &tree.service) };
        let result = fixture.store.commit(tree.tenant, vec![Change::InstanceInsert(mixed)]).await;
        assert!(matches!(result, Err(StoreError::Stale)), "{result:?}");
    }
}
