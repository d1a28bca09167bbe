//! The number of SQL statements depends on the shape of a query, never on the number of rows.

use domain::activity::{Activity, Actor};
use domain::project::{Environment, Instance, Project, Service};
use domain::spec::InstanceSpec;
use domain::{ActivityId, EnvironmentId, InstanceId, ProjectId, Role, ServiceId, Tenant, Timestamp, WorkspaceId};
use ops::Principal;
use serde_json::{Value, json};
use store::Change;

use crate::world::World;

/// Projects with two environments, two services and their instances.
async fn projects(world: &World, workspace: WorkspaceId, count: usize) {
    let now = Timestamp::now();
    for at in 0..count {
        let project_id = ProjectId::generate();
        let project = Project {
            id: project_id,
            workspace_id: workspace,
            name: format!("p{at}"),
            description: None,
            created_at: now,
            updated_at: now,
            deleted_at: None,
        };
        let mut changes = vec![Change::ProjectInsert(project)];
        let environments = [EnvironmentId::generate(), EnvironmentId::generate()];
        for (id, name) in environments.into_iter().zip(["production", "staging"]) {
            changes.push(Change::EnvironmentInsert(Environment {
                id,
                workspace_id: workspace,
                project_id,
                name: name.into(),
                is_ephemeral: false,
                is_protected: false,
                source_environment_id: None,
                created_at: now,
                updated_at: now,
            }));
        }
        for name in ["web", "worker"] {
            let service_id = ServiceId::generate();
            changes.push(Change::ServiceInsert(Service {
                id: service_id,
                workspace_id: workspace,
                project_id,
                name: name.into(),
                icon: None,
                created_at: now,
                updated_at: now,
            }));
            for environment_id in environments {
                changes.push(Change::InstanceInsert(Instance {
                    id: InstanceId::generate(),
                    workspace_id: workspace,
                    project_id,
                    environment_id,
                    service_id,
                    number: 0,
                    spec: InstanceSpec::default(),
                    created_at: now,
                    updated_at: now,
                }));
            }
        }
        world.server.ops.store.commit(Tenant::system(workspace), changes).await.unwrap();
    }
}

async fn counted(world: &World, who: &Principal, query: &str, variables: Value) -> (u64, Value) {
    let before = world.server.ops.store.statements();
    let data = world.data(who, query, variables).await;
    (world.server.ops.store.statements() - before, data)
}

const ALL: &str = "query UserProjects($first: Int) { externalWorkspaces { id } me { workspaces { id team { id } projects(first: $first) { edges { node { id
    workspace { name } environments { edges { node { id name canAccess sourceEnvironment { name } } } } services { edges { node { id name project { name } } } } } } } } } }";

const DEEP: &str = "query Deep($first: Int) { projects(first: $first) { edges { node { id
    environments { edges { node { name serviceInstances { edges { node { serviceName service { name } latestDeployment { status instances { id } }
      activeDeployments { id url instances { id } } domains { serviceDomains { domain } customDomains { domain } } } } } } } }
    services { edges { node { deployments { id status service { name } environment { name } } serviceInstances { edges { node { id } } } } } } } } } }";

#[tokio::test(flavor = "multi_thread")]
async fn ten_projects_take_as_many_statements_as_a_thousand() {
    let world = World::start().await;
    let (few, many) = (world.estate("few@x.test").await, world.estate("many@x.test").await);
    projects(&world, few.workspace, 9).await;
    projects(&world, many.workspace, 999).await;
    let (few, many) = (world.bearer(&few.person.token).await, world.bearer(&many.person.token).await);
    for (query, first, limit) in [(ALL, 100, 12), (DEEP, 40, 24)] {
        let (small, data) = counted(&world, &few, query, json!({"first": first})).await;
        let (large, _) = counted(&world, &many, query, json!({"first": first})).await;
        // The page of the few holds the only deployment that there is, which takes a statement more.
        assert!(large <= small && small <= limit, "{small} and {large} statements for {query}");
        assert!(data.to_string().contains("worker"), "{data}");
    }
    let (_, data) = counted(&world, &many, ALL, json!({"first": 500})).await;
    assert_eq!(data["me"]["workspaces"][0]["projects"]["edges"].as_array().unwrap().len(), 500);
}

const ENTRIES: &str = "query Entries($id: String!, $first: Int) { auditLogs(workspaceId: $id, first: $first) { edges { node {
    eventType environmentId environment { name } serviceId service { name } } } } }";

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_of_the_audit_log_says_what_it_is_about_in_as_many_statements_as_twenty() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let who = world.bearer(&estate.person.token).await;
    let (environment, service) = (estate.person.environment.to_string(), estate.service.to_string());
    let set = "mutation Set($input: VariableUpsertInput!) { variableUpsert(input: $input) }";
    let project = estate.person.project.to_string();
    let input = json!({"projectId": project, "environmentId": environment, "serviceId": service, "name": "A", "value": "1",
        "skipDeploys": true});
    world.data(&who, set, json!({"input": input})).await;
    for _ in 0..20 {
        let entry = Activity {
            id: ActivityId::generate(),
            workspace_id: estate.workspace,
            project_id: Some(estate.person.project),
            instance_id: Some(estate.service_instance),
            actor: Actor::System { part: "engine".into() },
            verb: "deployment_built".into(),
            subject: estate.deployment.to_string(),
            data: json!({}),
            address: None,
            created_at: Timestamp::now(),
        };
        world.server.ops.store.commit(Tenant::system(estate.workspace), vec![Change::Activity(entry)]).await.unwrap();
    }
    let of = |first: u32| json!({"id": estate.workspace.to_string(), "first": first});
    let (one, _) = counted(&world, &who, ENTRIES, of(1)).await;
    let (all, data) = counted(&world, &who, ENTRIES, of(21)).await;
    assert!(all <= one, "{all} statements instead of {one}");
    let entries = data["auditLogs"]["edges"].as_array().unwrap();
    let set = &entries[20]["node"];
    assert!(set["eventType"].as_str().unwrap().starts_with("variable_"), "{set}");
    for entry in entries {
        let node = &entry["node"];
        assert_eq!((&node["environmentId"], &node["serviceId"]), (&json!(environment), &json!(service)), "{node}");
        assert!(node["environment"]["name"].is_string() && node["service"]["name"].is_string(), "{node}");
    }
    world.server.ops.store.commit(Tenant::system(estate.workspace), vec![Change::ServiceDelete(estate.service)]).await.unwrap();
    let (_, data) = counted(&world, &who, ENTRIES, of(21)).await;
    for entry in data["auditLogs"]["edges"].as_array().unwrap() {
        assert_eq!((&entry["node"]["serviceId"], &entry["node"]["service"]), (&json!(null), &json!(null)), "what is gone is led to");
    }
}

const WORKSPACES: &str =
    "{ me { workspaces { id members { role } flowCredits { used } planUse { containers requestsToday keyLimits { perDay } } } } }";

#[tokio::test(flavor = "multi_thread")]
async fn ten_workspaces_take_as_many_statements_as_one() {
    let world = World::start().await;
    let (few, many) = (world.estate("few@x.test").await, world.estate("many@x.test").await);
    for at in 0..9 {
        let team = world.estate(&format!("team{at}@x.test")).await;
        world.member(team.workspace, many.person.user.id, Role::Member).await;
    }
    let (few, many) = (world.bearer(&few.person.token).await, world.bearer(&many.person.token).await);
    let (one, data) = counted(&world, &few, WORKSPACES, Value::Null).await;
    let own = &data["me"]["workspaces"][0];
    assert_eq!(own["members"], json!([{"role": "ADMIN"}]));
    let (ten, data) = counted(&world, &many, WORKSPACES, Value::Null).await;
    assert!(ten <= one, "{ten} statements instead of {one}");
    let all = data["me"]["workspaces"].as_array().unwrap();
    assert_eq!(all.len(), 10);
    for workspace in all {
        assert_eq!((&workspace["planUse"], &workspace["flowCredits"]), (&own["planUse"], &own["flowCredits"]), "{workspace}");
    }
    // Each has its own members: the nine others two.
    let members: usize = all.iter().map(|workspace| workspace["members"].as_array().unwrap().len()).sum();
    assert_eq!(members, 1 + 9 * 2);
}

/// What nearly every command of Railway's CLI asks for (`contracts/railway-cli.md` 9).
const PROJECT: &str = "query Project($id: String!) { project(id: $id) { id name workspaceId deletedAt workspace { name }
    buckets { edges { node { id name } } } environments { edges { node { id name canAccess deletedAt unmergedChangesCount } } }
    services { edges { node { id name } } } } }";

const INSTANCES: &str =
    "query EnvironmentInstances($id: String!, $environmentId: String!) { environment(id: $environmentId, projectId: $id) {
    id name serviceInstances(first: 500) { edges { node { id serviceId serviceName environmentId numReplicas
        latestDeployment { canRedeploy id meta status createdAt deploymentStopped instances { id status } }
        activeDeployments { id status createdAt meta deploymentStopped instances { id status } } source { repo image }
        domains { serviceDomains { id domain targetPort } customDomains { id domain targetPort } }
        cronSchedule nextCronRunAt startCommand tracingEnabled autoInstrumentationEnabled } } pageInfo { hasNextPage endCursor } }
    volumeInstances(first: 500) { edges { node { id serviceId mountPath environmentId currentSizeMB sizeMB state deletedAt
        isPendingDeletion volume { name id } } } pageInfo { hasNextPage endCursor } } } }";

const CONFIG: &str = "query GetEnvironmentConfig($id: String!, $environmentId: String!) {
    environment(id: $environmentId, projectId: $id) { id name config(decryptVariables: true) } }";

#[tokio::test(flavor = "multi_thread")]
async fn a_project_of_many_services_takes_as_many_statements_as_one_of_few() {
    let world = World::start().await;
    let (few, many) = (world.estate("few@x.test").await, world.estate("many@x.test").await);
    let ctx = world.server.ctx(&many.person.token).await;
    for at in 0..50 {
        let wanted = ops::service::ServiceCreate {
            project: many.person.project,
            environment: None,
            name: Some(format!("s{at}")),
            icon: None,
            source: None,
            variables: [("A".to_owned(), "1".to_owned())].into(),
        };
        let service = ops::service::service_create(&ctx, wanted).await.unwrap();
        world.deploy(&ctx, &many.person, Some(service.row.id)).await;
    }
    for (query, limit) in [(PROJECT, 8), (INSTANCES, 14), (CONFIG, 10)] {
        let mut counts = vec![];
        for estate in [&few, &many] {
            let who = world.bearer(&estate.person.token).await;
            let asked = json!({"id": estate.person.project.to_string(), "environmentId": estate.person.environment.to_string()});
            counts.push(counted(&world, &who, query, asked).await.0);
        }
        assert!(counts[1] <= counts[0] && counts[0] <= limit, "{counts:?} statements for {query}");
    }
}
