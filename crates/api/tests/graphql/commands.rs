//! What the command-line client asks for (`contracts/railway-cli.md` 8 and 9), in its order, with its nulls.

use std::collections::BTreeMap;

use domain::deployment::DeploymentStatus as Status;
use domain::deployment::{Deployment, EventStep};
use domain::{DeploymentId, Tenant};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use store::Change;

use crate::world::World;

const PROJECT: &str = "query Project($id: String!) { project(id: $id) { id name workspaceId deletedAt workspace { name }
    buckets { edges { node { id name } } }
    environments { edges { node { id name canAccess deletedAt unmergedChangesCount } } }
    services { edges { node { id name } } } } }";

const INSTANCES: &str =
    "query EnvironmentInstances($environmentId: String!, $projectId: String!, $first: Int, $after: String, $volumes: Int) {
    environment(id: $environmentId, projectId: $projectId) { id name
      serviceInstances(first: $first, after: $after) { edges { node { id serviceId serviceName environmentId numReplicas
          latestDeployment { canRedeploy id meta status createdAt deploymentStopped instances { id status } }
          activeDeployments { id status createdAt meta deploymentStopped instances { id status } }
          source { repo image }
          domains { serviceDomains { id domain targetPort } customDomains { id domain targetPort } }
          cronSchedule nextCronRunAt startCommand tracingEnabled autoInstrumentationEnabled } }
        pageInfo { hasNextPage endCursor } }
      volumeInstances(first: $volumes) { edges { node { id serviceId mountPath environmentId currentSizeMB sizeMB state deletedAt
          isPendingDeletion volume { name id } } } pageInfo { hasNextPage endCursor } } } }";

#[tokio::test(flavor = "multi_thread")]
async fn from_nothing_to_a_service_that_is_linked() {
    let world = World::start().await;
    let person = world.server.person("ann@x.test", None).await;
    let ann = world.bearer(&person.token).await;
    let me = world.data(&ann, "query UserMeta { me { id name email } }", json!({})).await;
    assert_eq!(me["me"]["email"], json!("ann@x.test"));

    let all = "query UserProjects { externalWorkspaces { id name teamId projects { id name createdAt updatedAt deletedAt
          environments { edges { node { id name canAccess } } } services { edges { node { id name } } } } }
        me { workspaces { id name team { id } projects(first: 500) { edges { node { id name createdAt updatedAt deletedAt
          environments { edges { node { id name canAccess } } } services { edges { node { id name } } } } } } } } }";
    let mine = world.data(&ann, all, Value::Null).await;
    let workspace = mine["me"]["workspaces"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(mine["externalWorkspaces"], json!([]));
    let favorites = "query F($workspaceId: String!) { projectFavorites(workspaceId: $workspaceId) }";
    assert_eq!(world.data(&ann, favorites, json!({"workspaceId": workspace})).await["projectFavorites"], json!([]));

    let create = "mutation ProjectCreate($name: String, $description: String, $workspaceId: String) {
        projectCreate(input: {name: $name, description: $description, workspaceId: $workspaceId}) {
          name id environments { edges { node { id name } } } } }";
    let made = world.data(&ann, create, json!({"name": "hello", "description": null, "workspaceId": workspace})).await;
    let project = made["projectCreate"]["id"].as_str().unwrap().to_owned();
    let environment = made["projectCreate"]["environments"]["edges"][0]["node"]["id"].as_str().unwrap().to_owned();

    let service = "mutation ServiceCreate($name: String, $projectId: String!, $environmentId: String, $source: ServiceSourceInput,
          $branch: String, $variables: EnvironmentVariables) {
        serviceCreate(input: {name: $name, projectId: $projectId, environmentId: $environmentId, source: $source, branch: $branch,
          variables: $variables}) { id name } }";
    let variables =
        json!({"name": "web", "projectId": project, "environmentId": null, "source": {}, "branch": null, "variables": {"A": "1"}});
    let web = world.data(&ann, service, variables).await["serviceCreate"]["id"].clone();

    let seen = world.data(&ann, PROJECT, json!({"id": project})).await["project"].clone();
    assert_eq!(seen["services"]["edges"], json!([{"node": {"id": web, "name": "web"}}]));
    assert_eq!(seen["workspaceId"], json!(workspace));
    assert_eq!(seen["environments"]["edges"][0]["node"]["canAccess"], json!(true));

    let asked = json!({"environmentId": environment, "projectId": project, "first": 500, "after": null, "volumes": 500});
    let here = world.data(&ann, INSTANCES, asked.clone()).await["environment"].clone();
    let instance = &here["serviceInstances"]["edges"][0]["node"];
    assert_eq!((&instance["serviceName"], &instance["latestDeployment"]), (&json!("web"), &Value::Null));
    assert_eq!(here["volumeInstances"], json!({"edges": [], "pageInfo": {"hasNextPage": false, "endCursor": null}}));
    // A connection that is read to its end is asked once more with a page of none.
    let mut none = asked;
    none["first"] = json!(0);
    let empty = world.data(&ann, INSTANCES, none).await;
    assert_eq!(empty["environment"]["serviceInstances"]["edges"], json!([]));
    let wrong = json!({"environmentId": environment, "projectId": person.project.to_string(), "first": 1, "volumes": 1});
    assert_eq!(world.error(&ann, INSTANCES, wrong).await["message"], json!("Environment not found"));

    let regions = "query Regions($projectId: String) { regions(projectId: $projectId) { name region country location workspaceId
        deploymentConstraints { deprecationInfo { isDeprecated replacementRegion } } } }";
    assert_eq!(world.data(&ann, regions, json!({"projectId": null})).await["regions"][0]["name"], json!("local"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_from_upload_to_removal() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ann = world.bearer(&estate.person.token).await;
    let (project, environment) = (estate.person.project.to_string(), estate.person.environment.to_string());
    let id = estate.deployment.to_string();
    let status = "query DeploymentStatus($id: String!) { deployment(id: $id) { status environmentId snapshotId createdAt url staticUrl
        canRedeploy canRollback creator { email } service { name } environment { name } suggestAddServiceDomain } }";
    let seen = world.data(&ann, status, json!({"id": id})).await["deployment"].clone();
    assert_eq!((&seen["status"], &seen["canRedeploy"], &seen["canRollback"]), (&json!("INITIALIZING"), &json!(true), &json!(false)));
    assert!(seen["snapshotId"].is_string());
    assert_eq!(seen["url"], json!("http://web-production.localhost:8081"));
    assert_eq!((&seen["creator"]["email"], &seen["service"]["name"]), (&json!("ann@x.test"), &json!("web")));
    assert!(seen["createdAt"].as_str().unwrap().ends_with('Z') && seen["createdAt"].as_str().unwrap().len() == 24, "{seen}");

    let list = "query Deployments($input: DeploymentListInput!, $first: Int) { deployments(input: $input, first: $first) {
        edges { node { id createdAt status meta } } } }";
    let of = json!({"projectId": project, "environmentId": environment, "serviceId": estate.service.to_string(), "status": null});
    let rows = world.data(&ann, list, json!({"input": of, "first": null})).await["deployments"]["edges"].clone();
    let meta = &rows[0]["node"]["meta"];
    assert_eq!(meta["serviceManifest"]["deploy"]["multiRegionConfig"], json!({"local": {"numReplicas": 1}}));
    assert_eq!((&meta["reason"], &meta["cliMessage"]), (&json!("deploy"), &json!("first")));
    let mut failed = of.clone();
    failed["status"] = json!({"in": ["FAILED"], "notIn": null});
    assert_eq!(world.data(&ann, list, json!({"input": failed, "first": 5})).await["deployments"]["edges"], json!([]));

    world.failed_step(estate.workspace, estate.deployment, EventStep::SnapshotCode, "the archive is empty").await;
    world.moved(estate.workspace, estate.deployment, Status::Initializing, Status::Failed, Some("the archive is empty")).await;
    let events = "query E($id: String!) { deploymentEvents(id: $id) { edges { node { id step completedAt payload { error skipped durationMs } } } } }";
    let steps = world.data(&ann, events, json!({"id": id})).await["deploymentEvents"]["edges"].clone();
    assert_eq!(
        (&steps[0]["node"]["step"], &steps[0]["node"]["payload"]["error"]),
        (&json!("SNAPSHOT_CODE"), &json!("the archive is empty"))
    );

    let again = world.data(&ann, "mutation R($id: String!) { deploymentRedeploy(id: $id) { id status } }", json!({"id": id})).await;
    let second = again["deploymentRedeploy"]["id"].as_str().unwrap().to_owned();
    let asked = json!({"environmentId": environment, "projectId": project, "first": 500, "after": null, "volumes": 500});
    let here = world.data(&ann, INSTANCES, asked).await["environment"]["serviceInstances"]["edges"][0]["node"].clone();
    assert_eq!(here["latestDeployment"]["id"], json!(second));
    assert_eq!(here["activeDeployments"], json!([]));
    let remove = "mutation D($id: String!) { deploymentRemove(id: $id) }";
    assert_eq!(world.data(&ann, remove, json!({"id": second})).await, json!({"deploymentRemove": true}));
    assert_eq!(world.error(&ann, remove, json!({"id": second})).await["extensions"]["code"], json!("CONFLICT"));
    // A commit can be named, and there is none: it is not deployed as if it were the newest source.
    let newest = "mutation ServiceInstanceDeployV2($environmentId: String!, $serviceId: String!, $commitSha: String) {
        serviceInstanceDeployV2(environmentId: $environmentId, serviceId: $serviceId, commitSha: $commitSha) }";
    let mut of = json!({"environmentId": environment, "serviceId": estate.service.to_string(), "commitSha": "3f2a9c1"});
    let refused = world.error(&ann, newest, of.clone()).await;
    assert_eq!(refused["extensions"]["code"], json!("BAD_USER_INPUT"), "{refused}");
    of["commitSha"] = Value::Null;
    let third = world.data(&ann, newest, of).await["serviceInstanceDeployV2"].clone();
    let cancel = "mutation DeploymentCancel($id: String!) { deploymentCancel(id: $id) }";
    assert_eq!(world.data(&ann, cancel, json!({"id": third})).await, json!({"deploymentCancel": true}));
    let ended = world.data(&ann, status, json!({"id": third})).await["deployment"]["status"].clone();
    assert_eq!(ended, json!("REMOVING"));
    assert_eq!(world.error(&ann, cancel, json!({"id": third})).await["extensions"]["code"], json!("CONFLICT"));
    let restart = world.error(&ann, "mutation R($id: String!) { deploymentRestart(id: $id) }", json!({"id": id})).await;
    assert!(restart["message"].as_str().unwrap().contains("FAILED"), "{restart}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_template_is_read_and_a_backup_put_back_as_the_client_asks_for_them() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ann = world.bearer(&estate.person.token).await;
    let template = "query Template($id: String, $code: String) { template(id: $id, code: $code) {
        id code name description image category readme demoProjectId status workspaceId } }";
    let seen = world.data(&ann, template, json!({"id": null, "code": "redis"})).await["template"].clone();
    assert_eq!((&seen["code"], &seen["status"], &seen["workspaceId"]), (&json!("redis"), &json!("PUBLISHED"), &Value::Null), "{seen}");

    let restore = "mutation VolumeInstanceBackupRestore($volumeInstanceId: String!, $volumeInstanceBackupId: String!,
          $replicaServiceIds: [String!], $wipeServiceIds: [String!]) {
        volumeInstanceBackupRestore(volumeInstanceId: $volumeInstanceId, volumeInstanceBackupId: $volumeInstanceBackupId,
          replicaServiceIds: $replicaServiceIds, wipeServiceIds: $wipeServiceIds) { workflowId } }";
    let asked = |replicas: Value, wiped: Value| {
        json!({"volumeInstanceId": estate.volume_instance.to_string(), "volumeInstanceBackupId": estate.backup.to_string(),
            "replicaServiceIds": replicas, "wipeServiceIds": wiped})
    };
    let service = json!([estate.service.to_string()]);
    for variables in [asked(service.clone(), Value::Null), asked(json!([]), service)] {
        let refused = world.error(&ann, restore, variables).await;
        assert_eq!(refused["extensions"]["code"], json!("BAD_USER_INPUT"), "another service's volume is not touched: {refused}");
    }
    // Nobody has made the copy yet, which is the verb's own answer.
    for variables in [asked(Value::Null, Value::Null), asked(json!([]), json!([]))] {
        let unfinished = world.error(&ann, restore, variables).await;
        assert!(unfinished["message"].as_str().unwrap().contains("backup is not whole"), "{unfinished}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_the_same_by_whichever_door_it_came() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ann = world.bearer(&estate.person.token).await;
    let (project, environment) = (estate.person.project.to_string(), estate.person.environment.to_string());
    // The estate's came by `pluginCreate`; this one comes as the CLI and the dashboard send it.
    let detail = "query TemplateDetail($code: String!) { template(code: $code) { id name serializedConfig } }";
    let template = world.data(&ann, detail, json!({"code": "redis"})).await["template"].clone();
    let deploy = "mutation TemplateDeploy($input: TemplateDeployV2Input!) { templateDeployV2(input: $input) { projectId workflowId } }";
    let (id, config) = (&template["id"], &template["serializedConfig"]);
    let input = json!({"projectId": project, "environmentId": environment, "templateId": id, "serializedConfig": config});
    world.data(&ann, deploy, json!({"input": input})).await;

    let read = "query C($id: String!) { environment(id: $id) { config(decryptVariables: true) } }";
    let config = world.data(&ann, read, json!({"id": environment})).await["environment"]["config"].clone();
    let app = estate.service.to_string();
    let services = config["services"].as_object().unwrap().iter().filter(|(id, _)| **id != app);
    // Ids and the secret that was drawn are each one's own.
    let alike = |one: &Value| {
        let mut variables = one["variables"].clone();
        let drawn = variables["REDIS_PASSWORD"].take();
        assert!(drawn["value"].as_str().is_some_and(|secret| secret.len() >= 16), "{one}");
        let mounts: Vec<&Value> = one["volumeMounts"].as_object().unwrap().values().collect();
        json!({"source": one["source"], "deploy": one["deploy"], "tcp": one["networking"]["tcpProxies"], "mounts": mounts, "variables": variables})
    };
    let databases: Vec<Value> = services.map(|(_, one)| alike(one)).collect();
    assert_eq!(databases.len(), 2, "{config}");
    assert_eq!(databases[0], databases[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_domains_environments_and_settings() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ann = world.bearer(&estate.person.token).await;
    let (project, environment, service) =
        (estate.person.project.to_string(), estate.person.environment.to_string(), estate.service.to_string());
    let place = json!({"projectId": project, "environmentId": environment, "serviceId": service});

    let edit = "query ServiceVariablesForEdit($projectId: String!, $environmentId: String!, $serviceId: String!) {
        userVariables: variables(projectId: $projectId, environmentId: $environmentId, serviceId: $serviceId, unrendered: true)
        deploymentVariables: variablesForServiceDeployment(projectId: $projectId, environmentId: $environmentId, serviceId: $serviceId)
        environment(id: $environmentId) { variables { edges { node { name serviceId isSealed id } } } } }";
    let seen = world.data(&ann, edit, place.clone()).await;
    assert_eq!(seen["userVariables"], json!({"SECRET": "canary-7f3a"}));
    assert_eq!(seen["deploymentVariables"]["RAILWAY_SERVICE_NAME"], json!("web"));
    assert_eq!(seen["environment"]["variables"]["edges"][0]["node"]["name"], json!("SECRET"));
    let delete = "mutation V($projectId: String!, $environmentId: String!, $name: String!, $serviceId: String) {
        variableDelete(input: {projectId: $projectId, environmentId: $environmentId, name: $name, serviceId: $serviceId}) }";
    let mut gone = place.clone();
    gone["name"] = json!("SECRET");
    world.data(&ann, delete, gone).await;
    assert_eq!(world.data(&ann, edit, place.clone()).await["userVariables"], json!({}));

    let domains = "query Domains($environmentId: String!, $projectId: String!, $serviceId: String!) {
        domains(environmentId: $environmentId, projectId: $projectId, serviceId: $serviceId) {
          serviceDomains { id domain suffix environmentId serviceId targetPort syncStatus createdAt updatedAt }
          customDomains { id domain environmentId projectId serviceId targetPort syncStatus createdAt updatedAt
            status { dnsRecords { hostlabel fqdn recordType requiredValue currentValue status zone purpose } cdnProvider certificateStatus
              certificateStatusDetailed certificateErrorMessage certificateErrorType certificateRetryable
              certificates { issuedAt expiresAt domainNames fingerprintSha256 keyType } verificationToken verificationDnsHost verified } } } }";
    let seen = world.data(&ann, domains, place.clone()).await["domains"].clone();
    let own = &seen["serviceDomains"][0];
    assert_eq!((&own["domain"], &own["suffix"]), (&json!("web-production.localhost"), &json!("localhost")));
    let record = &seen["customDomains"][0]["status"]["dnsRecords"][0];
    assert_eq!((&record["hostlabel"], &record["zone"], &record["fqdn"]), (&json!("www"), &json!("ann.test"), &json!("www.ann.test")));
    assert!(seen["customDomains"][0]["status"]["verificationToken"].is_string());
    let rename = "mutation S($input: ServiceDomainUpdateInput!) { serviceDomainUpdate(input: $input) }";
    let input = json!({"domain": "shop.localhost", "environmentId": environment, "serviceId": service, "serviceDomainId": own["id"], "targetPort": 3000});
    world.data(&ann, rename, json!({"input": input})).await;
    let renamed = world.data(&ann, domains, place.clone()).await["domains"]["serviceDomains"][0].clone();
    assert_eq!((&renamed["domain"], &renamed["targetPort"]), (&json!("shop.localhost"), &json!(3000)));
    let port = "mutation C($environmentId: String!, $id: String!, $targetPort: Int) { customDomainUpdate(environmentId: $environmentId, id: $id, targetPort: $targetPort) }";
    let custom = seen["customDomains"][0]["id"].clone();
    world.data(&ann, port, json!({"environmentId": environment, "id": custom, "targetPort": 9090})).await;
    assert_eq!(
        world.error(&ann, port, json!({"environmentId": environment, "id": custom, "targetPort": 70000})).await["extensions"]["code"],
        json!("BAD_USER_INPUT")
    );
    world.data(&ann, "mutation D($id: String!) { customDomainDelete(id: $id) }", json!({"id": custom})).await;
    assert_eq!(world.data(&ann, domains, place).await["domains"]["customDomains"], json!([]));

    let copy = "mutation EnvironmentCreate($projectId: String!, $name: String!, $sourceId: String, $applyChangesInBackground: Boolean) {
        environmentCreate(input: {projectId: $projectId, name: $name, sourceEnvironmentId: $sourceId,
          applyChangesInBackground: $applyChangesInBackground}) { name id } }";
    let made = world
        .data(&ann, copy, json!({"projectId": project, "name": "staging", "sourceId": environment, "applyChangesInBackground": null}))
        .await;
    let staging = made["environmentCreate"]["id"].clone();
    let all = "query Environments($projectId: String!, $isEphemeral: Boolean, $first: Int, $after: String) {
        environments(projectId: $projectId, isEphemeral: $isEphemeral, first: $first, after: $after) { edges { node { id name isEphemeral
          createdAt updatedAt canAccess unmergedChangesCount sourceEnvironment { id name } meta { prNumber prTitle prRepo branch baseBranch } } }
          pageInfo { hasNextPage endCursor } } }";
    let listed =
        world.data(&ann, all, json!({"projectId": project, "isEphemeral": null, "first": 1, "after": null})).await["environments"].clone();
    assert_eq!(listed["pageInfo"]["hasNextPage"], json!(true));
    let rest = json!({"projectId": project, "isEphemeral": null, "first": 5, "after": listed["pageInfo"]["endCursor"]});
    let rest = world.data(&ann, all, rest).await["environments"].clone();
    assert_eq!(rest["edges"][0]["node"]["sourceEnvironment"]["name"], json!("production"));

    let update = "mutation U($serviceId: String!, $environmentId: String, $input: ServiceInstanceUpdateInput!) {
        serviceInstanceUpdate(serviceId: $serviceId, environmentId: $environmentId, input: $input) }";
    let input =
        json!({"startCommand": "node .", "healthcheckPath": "/up", "multiRegionConfig": {"local": {"numReplicas": 2}, "old": null}});
    world.data(&ann, update, json!({"serviceId": service, "environmentId": null, "input": input})).await;
    let read = "query S($e: String!, $s: String!) { serviceInstance(environmentId: $e, serviceId: $s) { startCommand healthcheckPath numReplicas builder restartPolicyType } }";
    let settings = world.data(&ann, read, json!({"e": staging, "s": service})).await["serviceInstance"].clone();
    assert_eq!(
        settings,
        json!({"startCommand": "node .", "healthcheckPath": "/up", "numReplicas": 2, "builder": "RAILPACK", "restartPolicyType": "ON_FAILURE"})
    );
    world.data(&ann, "mutation E($id: String!) { environmentDelete(id: $id) }", json!({"id": staging})).await;
    assert_eq!(
        world.error(&ann, "mutation E($id: String!) { environmentDelete(id: $id) }", json!({"id": environment})).await["extensions"]["code"],
        json!("CONFLICT")
    );
    world.data(&ann, "mutation P($id: String!) { projectScheduleDelete(id: $id) }", json!({"id": project})).await;
    let listed = async || world.data(&ann, "{ projects { edges { node { id } } } }", Value::Null).await["projects"]["edges"].clone();
    assert_eq!(listed().await, json!([]));
    world.data(&ann, "mutation P($id: String!) { projectScheduleDeleteCancel(id: $id) }", json!({"id": project})).await;
    assert_eq!(listed().await, json!([{"node": {"id": project}}]));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_token_sees_its_environment_and_no_other() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ann = world.bearer(&estate.person.token).await;
    let project = estate.person.project.to_string();
    let make = format!("mutation {{ environmentCreate(input: {{projectId: \"{project}\", name: \"staging\"}}) {{ id }} }}");
    let staging = world.data(&ann, &make, Value::Null).await["environmentCreate"]["id"].clone();
    let token = world.project_token(&estate.project_token).await;
    let own =
        world.data(&token, "query ProjectToken { projectToken { id project { id name } environment { id name } } }", Value::Null).await;
    assert_eq!(own["projectToken"]["environment"], json!({"id": estate.person.environment.to_string(), "name": "production"}));
    let seen = world.data(&token, PROJECT, json!({"id": project})).await["project"].clone();
    assert_eq!(seen["environments"]["edges"].as_array().unwrap().len(), 1);
    assert!(seen["workspace"]["name"].is_string());
    let reached = "{ apiToken { workspaces { id } } }";
    for who in [&ann, &token] {
        let seen = world.data(who, reached, Value::Null).await["apiToken"].clone();
        assert_eq!(seen, json!({"workspaces": [{"id": estate.workspace.to_string()}]}));
    }
    let of_project = "query M($id: String!) { projectMembers(projectId: $id) { id email role } }";
    let all = world.data(&ann, of_project, json!({"id": project})).await["projectMembers"].clone();
    assert_eq!(all, json!([{"id": estate.person.user.id.to_string(), "email": "ann@x.test", "role": "ADMIN"}]));
    let refused = world.error(&token, of_project, json!({"id": project})).await;
    assert!(["NOT_FOUND", "FORBIDDEN"].contains(&refused["extensions"]["code"].as_str().unwrap()), "{refused}");
    let elsewhere = world.error(&token, "query E($id: String!) { environment(id: $id) { id } }", json!({"id": staging})).await;
    assert!(["NOT_FOUND", "FORBIDDEN"].contains(&elsewhere["extensions"]["code"].as_str().unwrap()), "{elsewhere}");
    let members =
        world.error(&token, "query P($id: String!) { project(id: $id) { workspace { members { email } } } }", json!({"id": project})).await;
    assert!(["NOT_FOUND", "FORBIDDEN"].contains(&members["extensions"]["code"].as_str().unwrap()), "{members}");
}

#[tokio::test(flavor = "multi_thread")]
async fn deployments_of_another_environment_take_no_place_in_lists_of_a_project_token() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let (ctx, store, tenant) = (world.server.ctx(&estate.person.token).await, &world.server.ops.store, Tenant::system(estate.workspace));
    let staging = ops::environment::EnvironmentCreate {
        project: estate.person.project,
        name: "staging".into(),
        source: Some(estate.person.environment),
        ephemeral: false,
        skip_deploys: true,
    };
    let staging = ops::environment::environment_create(&ctx, staging).await.unwrap().row.id;
    let there = ops::service::service_instance_get(&ctx, staging, estate.service).await.unwrap().row;
    let own = store.deployment(estate.deployment).await.unwrap().unwrap().open(tenant).unwrap();
    let newer = (0..60).map(|_| Change::DeploymentInsert {
        deployment: Deployment { id: DeploymentId::generate(), environment_id: staging, instance_id: there.id, ..own.clone() },
        variables: BTreeMap::new(),
    });
    store.commit(tenant, newer.collect()).await.unwrap();
    let (ann, token) = (world.bearer(&estate.person.token).await, world.project_token(&estate.project_token).await);
    let production = json!(estate.person.environment.to_string());
    let page = "edges { node { environmentId } } pageInfo { hasNextPage endCursor }";
    for list in ["deployments(first: 10)", "deployments", "deployments(first: 100)"] {
        let query = format!("query D($id: String!) {{ service(id: $id) {{ {list} {{ {page} }} }} }}");
        let found = world.data(&token, &query, json!({"id": estate.service})).await["service"]["deployments"].clone();
        let edges = found["edges"].as_array().unwrap();
        assert!(!edges.is_empty() && edges.iter().all(|edge| edge["node"]["environmentId"] == production), "{list}: {found}");
        assert_eq!(found["pageInfo"]["hasNextPage"], json!(false), "{list}: {found}");
    }
    let query = format!("query D($id: String!) {{ deployments(input: {{serviceId: $id}}, first: 10) {{ {page} }} }}");
    let found = world.data(&token, &query, json!({"id": estate.service})).await["deployments"].clone();
    let edges = found["edges"].as_array().unwrap();
    assert!(!edges.is_empty() && edges.iter().all(|edge| edge["node"]["environmentId"] == production), "{found}");
    assert_eq!(found["pageInfo"]["hasNextPage"], json!(false), "{found}");
    // The list of 2022 has no pages, and leaves nothing out.
    let plain = "query D($id: String!) { service(id: $id) { deployments { environmentId } } }";
    let all = world.data(&ann, plain, json!({"id": estate.service})).await["service"]["deployments"].as_array().unwrap().clone();
    assert_eq!(all.iter().filter(|one| one["environmentId"] == json!(staging.to_string())).count(), 60);
    assert_eq!(all.iter().filter(|one| one["environmentId"] == production).count(), edges.len());
    let own = world.data(&token, plain, json!({"id": estate.service})).await["service"]["deployments"].as_array().unwrap().clone();
    assert_eq!(own.len(), edges.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_token_does_with_triggers_of_its_environment_what_it_may_make() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ctx = world.server.ctx(&estate.person.token).await;
    let staging = ops::environment::EnvironmentCreate {
        project: estate.person.project,
        name: "staging".into(),
        source: None,
        ephemeral: false,
        skip_deploys: true,
    };
    let staging = ops::environment::environment_create(&ctx, staging).await.unwrap().row.id;
    let (_, secret) = ops::token::project_token_create(&ctx, estate.person.project, staging, "other").await.unwrap();
    let (token, other) = (world.project_token(&estate.project_token).await, world.project_token(secret.expose_secret()).await);
    let place = format!("environmentId: \"{}\", serviceId: \"{}\"", estate.person.environment, estate.service);
    let save = |more: &str| {
        let rules = "rules: [{metric: CPU, comparator: ABOVE, value: 80}]";
        format!("mutation {{ triggerSave(input: {{{place}, name: \"grow\", action: ADD, {rules}{more}}}) {{ id enabled }} }}")
    };
    let id = world.data(&token, &save(""), Value::Null).await["triggerSave"]["id"].as_str().unwrap().to_owned();
    let changed = world.data(&token, &save(&format!(", id: \"{id}\", enabled: false")), Value::Null).await;
    assert_eq!(changed["triggerSave"], json!({"id": id, "enabled": false}));
    let listed = format!("{{ triggers({place}) {{ id }} }}");
    assert_eq!(world.data(&token, &listed, Value::Null).await["triggers"], json!([{"id": id}]));
    let (runs, remove) =
        (format!("{{ triggerRuns(triggerId: \"{id}\") {{ number }} }}"), format!("mutation {{ triggerRemove(id: \"{id}\") }}"));
    for text in [&save(""), &listed, &runs, &remove] {
        let refused = world.error(&other, text, Value::Null).await;
        assert!(["NOT_FOUND", "FORBIDDEN"].contains(&refused["extensions"]["code"].as_str().unwrap()), "{text}: {refused}");
    }
    assert_eq!(world.data(&token, &runs, Value::Null).await["triggerRuns"], json!([]));
    assert_eq!(world.data(&token, &remove, Value::Null).await["triggerRemove"], json!(true));
    assert_eq!(world.data(&token, &listed, Value::Null).await["triggers"], json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn cron_asks_for_the_runs_of_a_service_and_for_one_more() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let (ann, ctx) = (world.bearer(&estate.person.token).await, world.server.ctx(&estate.person.token).await);
    let run = "mutation DeploymentInstanceExecutionCreate($input: DeploymentInstanceExecutionCreateInput!) {
        deploymentInstanceExecutionCreate(input: $input) }";
    let once = json!({"input": {"serviceInstanceId": estate.service_instance.to_string()}});
    let set = format!("mutation {{ serviceInstanceUpdate(serviceId: \"{}\", input: {{cronSchedule: \"0 4 1 1 *\"}}) }}", estate.service);
    world.moved(estate.workspace, estate.deployment, Status::Initializing, Status::Success, None).await;
    world.data(&ann, &set, Value::Null).await;
    let place = json!({"environmentId": estate.person.environment.to_string(), "serviceId": estate.service.to_string()});
    let instance = "query S($environmentId: String!, $serviceId: String!) {
        serviceInstance(environmentId: $environmentId, serviceId: $serviceId) { cronSchedule nextCronRunAt } }";
    let seen = world.data(&ann, instance, place.clone()).await["serviceInstance"].clone();
    assert_eq!(seen, json!({"cronSchedule": "0 4 1 1 *", "nextCronRunAt": null}), "what is deployed runs all the time");
    assert_eq!(world.error(&ann, run, once.clone()).await["extensions"]["code"], json!("CONFLICT"));

    let next = world.deploy(&ctx, &estate.person, Some(estate.service)).await;
    world.moved(estate.workspace, next, Status::Initializing, Status::Success, None).await;
    let seen = world.data(&ann, instance, place.clone()).await;
    assert!(seen["serviceInstance"]["nextCronRunAt"].as_str().is_some_and(|at| at.contains("-01-01T04:00:00")), "{seen}");
    assert_eq!(world.data(&ann, run, once.clone()).await["deploymentInstanceExecutionCreate"], json!(true));
    assert_eq!(world.error(&ann, run, once).await["extensions"]["code"], json!("ALREADY_EXISTS"));
    let list = "query DeploymentInstanceExecutions($input: DeploymentInstanceExecutionListInput!, $first: Int) {
        deploymentInstanceExecutions(input: $input, first: $first) { edges { node { id deploymentId deploymentMeta status createdAt
          completedAt updatedAt exitCode } } } }";
    let listed = world.data(&ann, list, json!({"input": place, "first": 20})).await["deploymentInstanceExecutions"]["edges"].clone();
    assert_eq!(listed.as_array().map(Vec::len), Some(1), "{listed}");
    let node = &listed[0]["node"];
    assert_eq!((&node["status"], &node["deploymentId"]), (&json!("CREATED"), &json!(next.to_string())));
    assert_eq!((&node["completedAt"], &node["exitCode"]), (&Value::Null, &Value::Null));
    assert_eq!(node["deploymentMeta"]["serviceManifest"]["deploy"]["cronSchedule"], json!("0 4 1 1 *"));
}
