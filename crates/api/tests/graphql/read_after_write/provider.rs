//! Every operation of the Terraform provider (`contracts/railway.md` 4) under its name, with the arguments, fields and fragments of its
//! generated client and with inputs as that writes them: an unset text is empty, an unset flag false and an unset number 0.

use ops::deployment::{Blob, Upload};
use serde_json::{Value, json};

use super::Place;

const PROJECT: &str = "fragment Project on Project { id name description isPublic prDeploys workspace { id }
    environments { edges { node { id name createdAt } } } }";
const ENVIRONMENT: &str = "fragment Environment on Environment { id name projectId }";
const SERVICE: &str = "fragment Service on Service { id name projectId }";
const VOLUME: &str = "fragment Volume on Volume { id name
    volumeInstances { edges { node { id environmentId serviceId mountPath sizeMB } } } }";
const SERVICE_DOMAIN: &str = "fragment ServiceDomain on ServiceDomain { id domain suffix environmentId serviceId }";
const CUSTOM_DOMAIN: &str = "fragment CustomDomain on CustomDomain { id domain targetPort
    status { dnsRecords { hostlabel requiredValue zone } verificationDnsHost verificationToken } environmentId serviceId }";
const TCP_PROXY: &str = "fragment TCPProxy on TCPProxy { id applicationPort proxyPort domain environmentId serviceId }";

impl Place {
    /// Sends an operation, with the fragment that it uses behind it.
    async fn operation(&self, text: &str, fragment: &str, variables: Value) -> Value {
        self.ask(&format!("{text}\n{fragment}"), variables).await
    }

    /// One of the mutations that answer with nothing but that they are done.
    async fn done(&self, text: &str, variables: Value) {
        assert_eq!(self.ask(text, variables).await, json!(true), "{text}");
    }

    async fn create_service(&self, input: Value) -> Value {
        let text = "mutation createService($input: ServiceCreateInput!) { serviceCreate(input: $input) { ...Service } }";
        self.operation(text, SERVICE, json!({"input": input})).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn railway_project_and_railway_environment() {
    let place = Place::new().await;
    let input = json!({"defaultEnvironmentName": "production", "description": "", "isMonorepo": false, "isPublic": false, "name": "infra",
        "prDeploys": false, "repo": null, "runtime": null, "workspaceId": null});
    let create = "mutation createProject($input: ProjectCreateInput!) { projectCreate(input: $input) { ...Project } }";
    let made = place.operation(create, PROJECT, json!({"input": input})).await;
    assert_eq!((&made["name"], &made["description"], &made["prDeploys"]), (&json!("infra"), &Value::Null, &json!(false)));
    let environments = made["environments"]["edges"].as_array().unwrap();
    assert_eq!((environments.len(), &environments[0]["node"]["name"]), (1, &json!("production")));
    let id = json!({"id": made["id"]});
    let read = "query getProject($id: String!) { project(id: $id) { ...Project } }";
    assert_eq!(place.operation(read, PROJECT, id.clone()).await, made);
    let input = json!({"botPrEnvironments": false, "description": "all of it", "focusedPrEnvironments": false, "isPublic": false,
        "name": "infra-2", "prDeploys": false});
    let update =
        "mutation updateProject($id: String!, $input: ProjectUpdateInput!) { projectUpdate(id: $id, input: $input) { ...Project } }";
    let updated = place.operation(update, PROJECT, json!({"id": made["id"], "input": input})).await;
    for key in ["name", "description", "isPublic", "prDeploys"] {
        assert_eq!(updated[key], input[key], "{key}");
    }
    assert_eq!((&updated["workspace"], &updated["environments"]), (&made["workspace"], &made["environments"]));
    assert_eq!(place.operation(read, PROJECT, id.clone()).await, updated);
    let list = "query listProjects($workspaceId: String!, $after: String) { projects(workspaceId: $workspaceId, includeDeleted: false,
        first: 100, after: $after) { edges { node { ...Project } } pageInfo { hasNextPage endCursor } } }";
    let all = place.operation(list, PROJECT, json!({"workspaceId": made["workspace"]["id"], "after": null})).await;
    assert!(all["edges"].as_array().unwrap().contains(&json!({"node": updated})), "{all}");

    let input = json!({"applyChangesInBackground": false, "ephemeral": false, "name": "staging", "projectId": made["id"],
        "skipInitialDeploys": false, "stageInitialChanges": false});
    let create = "mutation createEnvironment($input: EnvironmentCreateInput!) { environmentCreate(input: $input) { ...Environment } }";
    let staging = place.operation(create, ENVIRONMENT, json!({"input": input})).await;
    assert_eq!((&staging["name"], &staging["projectId"]), (&json!("staging"), &made["id"]));
    let read_one = "query getEnvironment($id: String!) { environment(id: $id) { ...Environment } }";
    assert_eq!(place.operation(read_one, ENVIRONMENT, json!({"id": staging["id"]})).await, staging);
    let list = "query getEnvironments($projectId: String!) { environments(projectId: $projectId) { edges { node { ...Environment } } } }";
    let named = async || place.operation(list, ENVIRONMENT, json!({"projectId": made["id"]})).await["edges"].clone();
    assert_eq!((named().await.as_array().unwrap().len(), &named().await[1]["node"]), (2, &staging));
    place.done("mutation deleteEnvironment($id: String!) { environmentDelete(id: $id) }", json!({"id": staging["id"]})).await;
    assert_eq!(place.refused(&format!("{read_one} {ENVIRONMENT}"), json!({"id": staging["id"]})).await, "NOT_FOUND");
    assert_eq!(named().await.as_array().unwrap().len(), 1);
    place.done("mutation deleteProject($id: String!) { projectDelete(id: $id) }", id.clone()).await;
    assert_eq!(place.refused(&format!("{read} {PROJECT}"), id).await, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn railway_service_with_its_settings_and_its_source() {
    let place = Place::new().await;
    let made = place.create_service(json!({"name": "web", "projectId": place.id(), "variables": null})).await;
    assert_eq!((&made["name"], &made["projectId"]), (&json!("web"), &place.id()));
    let read = "query getService($id: String!) { service(id: $id) { ...Service } }";
    assert_eq!(place.operation(read, SERVICE, json!({"id": made["id"]})).await, made);
    let update =
        "mutation updateService($id: String!, $input: ServiceUpdateInput!) { serviceUpdate(id: $id, input: $input) { ...Service } }";
    let renamed = place.operation(update, SERVICE, json!({"id": made["id"], "input": {"icon": "", "name": "front"}})).await;
    assert_eq!((&renamed["id"], &renamed["name"]), (&made["id"], &json!("front")));
    assert_eq!(place.operation(read, SERVICE, json!({"id": made["id"]})).await, renamed);
    let instances = "query getServiceInstances($serviceId: String!) { service(id: $serviceId) { serviceInstances { edges { node {
        id environmentId } } } } }";
    let all = place.ask(instances, json!({"serviceId": made["id"]})).await["serviceInstances"]["edges"].clone();
    assert_eq!((all.as_array().unwrap().len(), &all[0]["node"]["environmentId"]), (1, &place.environment));

    let here = json!({"environmentId": place.environment, "serviceId": made["id"]});
    let one = "query getServiceInstance($environmentId: String!, $serviceId: String!) { serviceInstance(environmentId: $environmentId,
        serviceId: $serviceId) { source { image repo } rootDirectory railwayConfigFile cronSchedule latestDeployment { meta } } }";
    let nothing = json!({"source": null, "rootDirectory": null, "railwayConfigFile": null, "cronSchedule": null, "latestDeployment": null});
    assert_eq!(place.ask(one, here.clone()).await, nothing);
    let change = "mutation updateServiceInstance($serviceId: String!, $input: ServiceInstanceUpdateInput!) { serviceInstanceUpdate(
        environmentId: null, input: $input, serviceId: $serviceId) }";
    let input = json!({"cronSchedule": "0 3 * * *", "dockerfilePath": "", "drainingSeconds": 0, "ipv6EgressEnabled": false,
        "overlapSeconds": 0, "railwayConfigFile": "railway.toml", "rootDirectory": "api"});
    place.done(change, json!({"serviceId": made["id"], "input": input})).await;
    let set = place.ask(one, here.clone()).await;
    for key in ["cronSchedule", "railwayConfigFile", "rootDirectory"] {
        assert_eq!(set[key], input[key], "{key}");
    }
    // A schedule that was taken out of the configuration is null; what is left out stays.
    let input = json!({"cronSchedule": null, "dockerfilePath": "", "drainingSeconds": 0, "ipv6EgressEnabled": false, "overlapSeconds": 0});
    place.done(change, json!({"serviceId": made["id"], "input": input})).await;
    let mut taken = set.clone();
    taken["cronSchedule"] = Value::Null;
    assert_eq!(place.ask(one, here.clone()).await, taken);

    let connect =
        "mutation connectService($id: String!, $input: ServiceConnectInput!) { serviceConnect(id: $id, input: $input) { ...Service } }";
    let connected = place.operation(connect, SERVICE, json!({"id": made["id"], "input": {"branch": "main", "repo": "a/b"}})).await;
    assert_eq!(connected, renamed);
    assert_eq!(place.ask(one, here.clone()).await["source"], json!({"image": null, "repo": "a/b"}));
    let triggers = "query listDeploymentTriggers($projectId: String!, $environmentId: String!, $serviceId: String!) { deploymentTriggers(
        environmentId: $environmentId, projectId: $projectId, serviceId: $serviceId) { edges { node { id branch } } } }";
    assert_eq!(place.ask(triggers, place.at(&made)).await["edges"][0]["node"]["branch"], "main");
    place.ask("mutation disconnectService($id: String!) { serviceDisconnect(id: $id) { id } }", json!({"id": made["id"]})).await;
    assert_eq!(
        (place.ask(one, here.clone()).await["source"].clone(), place.ask(triggers, place.at(&made)).await),
        (Value::Null, json!({"edges": []}))
    );

    let redeploy = "mutation redeployServiceInstance($environmentId: String!, $serviceId: String!) { serviceInstanceRedeploy(
        environmentId: $environmentId, serviceId: $serviceId) }";
    place.done(redeploy, here.clone()).await;
    let id = |value: &Value| value.as_str().unwrap().to_owned();
    let upload = Upload {
        project: id(&place.id()).parse().unwrap(),
        environment: id(&place.environment).parse().unwrap(),
        service: Some(id(&made["id"]).parse().unwrap()),
        blob: Blob { sha256: "0".repeat(64), bytes: 1 },
        message: None,
    };
    ops::deployment::deployment_create(&place.world.ctx(place.who.clone()), upload).await.unwrap();
    // The provider reads regions from here, and gives up on a deployment that does not tell them.
    let meta = place.ask(one, here.clone()).await["latestDeployment"]["meta"].clone();
    let regions = meta["serviceManifest"]["deploy"]["multiRegionConfig"].as_object().unwrap();
    assert!(regions.len() == 1 && regions.values().all(|region| region["numReplicas"] == 1), "{meta}");
    place.done(redeploy, here).await;

    let list = "query listServices($projectId: String!, $after: String) { project(id: $projectId) { services(first: 100, after: $after) {
        edges { node { ...Service } } pageInfo { hasNextPage endCursor } } } }";
    let names = async || place.operation(list, SERVICE, json!({"projectId": place.id(), "after": null})).await["services"]["edges"].clone();
    assert_eq!(names().await, json!([{"node": renamed}]));
    place.done("mutation deleteService($id: String!) { serviceDelete(id: $id) }", json!({"id": made["id"]})).await;
    assert_eq!(names().await, json!([]));
    assert_eq!(place.refused(&format!("{read} {SERVICE}"), json!({"id": made["id"]})).await, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_volume_of_a_railway_service() {
    let place = Place::new().await;
    let service =
        place.create_service(json!({"name": "db", "projectId": place.id(), "source": {"image": "nginx:latest"}, "variables": null})).await;
    let create = "mutation createVolume($input: VolumeCreateInput!) { volumeCreate(input: $input) { ...Volume } }";
    let input = json!({"mountPath": "/data", "projectId": place.id(), "serviceId": service["id"]});
    let made = place.operation(create, VOLUME, json!({"input": input})).await;
    let node = &made["volumeInstances"]["edges"][0]["node"];
    assert_eq!((&node["mountPath"], &node["serviceId"], &node["environmentId"]), (&json!("/data"), &service["id"], &place.environment));
    let read = "query getVolumeInstances($id: String!) { project(id: $id) { volumes { edges { node { ...Volume } } } } }";
    let all = async || place.operation(read, VOLUME, json!({"id": place.id()})).await["volumes"]["edges"].clone();
    assert_eq!(all().await, json!([{"node": made}]));
    let update =
        "mutation updateVolume($id: String!, $input: VolumeUpdateInput!) { volumeUpdate(volumeId: $id, input: $input) { ...Volume } }";
    let renamed = place.operation(update, VOLUME, json!({"id": made["id"], "input": {"name": "rows"}})).await;
    assert_eq!((&renamed["name"], all().await), (&json!("rows"), json!([{"node": renamed}])));
    let change = "mutation updateVolumeInstance($id: String!, $input: VolumeInstanceUpdateInput!) { volumeInstanceUpdate(volumeId: $id,
        environmentId: null, input: $input) }";
    place.done(change, json!({"id": made["id"], "input": {"mountPath": "/rows", "serviceId": service["id"]}})).await;
    let mut moved = renamed.clone();
    moved["volumeInstances"]["edges"][0]["node"]["mountPath"] = json!("/rows");
    assert_eq!(all().await, json!([{"node": moved}]));
    place.done("mutation deleteVolume($id: String!) { volumeDelete(volumeId: $id) }", json!({"id": made["id"]})).await;
    assert!(!all().await.to_string().contains(service["id"].as_str().unwrap()), "a volume that was deleted is of no service");
}

/// Later versions have a resource for the volume and one for its place in each environment.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_and_its_places_apart_from_each_other() {
    let place = Place::new().await;
    let service = place.create_service(json!({"name": "db", "projectId": place.id(), "variables": null})).await;
    let create = "mutation createManagedVolume($projectId: String!, $mountPath: String!) { volumeCreate(input: {projectId: $projectId,
        mountPath: $mountPath, serviceId: null, environmentId: null}) { id name projectId } }";
    let made = place.ask(create, json!({"projectId": place.id(), "mountPath": "/data"})).await;
    let id = made["id"].as_str().unwrap();
    let qa = json!({"name": "qa", "projectId": place.id(), "skipInitialDeploys": true});
    let qa = place.write("environmentCreate", qa, "{ id }").await["id"].clone();
    let commit = "mutation commitEnvironmentPatch($environmentId: String!, $patch: EnvironmentConfig!, $commitMessage: String) {
        environmentPatchCommit(environmentId: $environmentId, patch: $patch, commitMessage: $commitMessage) }";
    for environment in [&place.environment, &qa] {
        let patch = json!({"volumes": {id: {"isCreated": true, "sizeMB": 500}}});
        let workflow = place.ask(commit, json!({"environmentId": environment, "patch": patch, "commitMessage": "Terraform"})).await;
        let patch = workflow.as_str().unwrap().rsplit('/').next().unwrap();
        let status = "query getEnvironmentPatch($id: String!) { environmentPatch(id: $id) { status lastAppliedError } }";
        assert_eq!(place.ask(status, json!({"id": patch})).await, json!({"status": "COMMITTED", "lastAppliedError": null}));
    }
    let list = "query getManagedVolumeInstances($environmentId: String!, $after: String) { environment(id: $environmentId) {
        volumeInstances(first: 100, after: $after) { edges { node { volumeId environmentId serviceId mountPath sizeMB state } }
        pageInfo { endCursor hasNextPage } } } }";
    let here = async |environment: Value| place.ask(list, json!({"environmentId": environment})).await["volumeInstances"]["edges"].clone();
    let found = |environment: &Value, service: Value, state: &str| {
        let node = json!({"volumeId": id, "environmentId": environment, "serviceId": service, "mountPath": "/data", "sizeMB": 500,
            "state": state});
        json!([{ "node": node }])
    };
    assert_eq!(here(place.environment.clone()).await[0]["node"]["serviceId"], Value::Null);
    assert_eq!(here(qa.clone()).await.as_array().unwrap().len(), 1);

    let update =
        "mutation updateManagedVolumeInstance($volumeId: String!, $environmentId: String!, $serviceId: String, $mountPath: String!) {
        volumeInstanceUpdate(volumeId: $volumeId, environmentId: $environmentId, input: {serviceId: $serviceId, mountPath: $mountPath}) }";
    let attached = |service: Value| json!({"volumeId": id, "environmentId": place.environment, "serviceId": service, "mountPath": "/data"});
    for service in [service["id"].clone(), Value::Null, service["id"].clone()] {
        place.done(update, attached(service.clone())).await;
        assert_eq!(here(place.environment.clone()).await, found(&place.environment, service, "READY"));
    }
    let moved = json!({"volumeId": id, "environmentId": place.environment, "mountPath": "/data"});
    place.done(update, moved).await;
    assert_eq!(here(place.environment.clone()).await, found(&place.environment, service["id"].clone(), "READY"));

    let delete = "mutation deleteManagedVolumeInstance($volumeId: String!, $environmentId: String!) { volumeInstanceUpdate(
        volumeId: $volumeId, environmentId: $environmentId, input: {state: DELETED}) }";
    place.done(delete, json!({"volumeId": id, "environmentId": qa})).await;
    assert_eq!(here(qa.clone()).await, json!([]));
    assert_eq!(here(place.environment.clone()).await, found(&place.environment, service["id"].clone(), "READY"));
    assert_eq!(place.refused(delete, json!({"volumeId": id, "environmentId": qa})).await, "NOT_FOUND");
    let odd = delete.replace("DELETED", "MIGRATING");
    assert_eq!(place.refused(&odd, json!({"volumeId": id, "environmentId": place.environment})).await, "BAD_USER_INPUT");
    // Without its last place it is still the project's.
    place.done(delete, json!({"volumeId": id, "environmentId": place.environment})).await;
    assert_eq!(here(place.environment.clone()).await, json!([]));
    let volumes = "query getManagedVolumes($id: String!) { project(id: $id) { volumes { edges { node { id name projectId } } } } }";
    assert_eq!(place.ask(volumes, json!({"id": place.id()})).await["volumes"]["edges"], json!([{ "node": made }]));
    place.done("mutation deleteManagedVolume($id: String!) { volumeDelete(volumeId: $id) }", json!({"id": id})).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn railway_variable_and_railway_variable_collection_and_railway_shared_variable() {
    let place = Place::new().await;
    let service = place.create_service(json!({"name": "web", "projectId": place.id(), "variables": null})).await;
    let of_service = "query getVariables($projectId: String!, $environmentId: String!, $serviceId: String!) { variables(
        environmentId: $environmentId, projectId: $projectId, serviceId: $serviceId, unrendered: true) }";
    let shared = "query getSharedVariables($projectId: String!, $environmentId: String!) { variables(environmentId: $environmentId,
        projectId: $projectId, unrendered: true) }";
    let upsert = "mutation upsertVariable($input: VariableUpsertInput!) { variableUpsert(input: $input) }";
    let collect = "mutation upsertVariableCollection($input: VariableCollectionUpsertInput!) { variableCollectionUpsert(input: $input) }";
    let delete = "mutation deleteVariable($input: VariableDeleteInput!) { variableDelete(input: $input) }";
    let nobody = json!({"id": null});
    for (owner, read) in [(&service, of_service), (&nobody, shared)] {
        let place_of = place.at(owner);
        let with = |more: Value| {
            let mut input = place_of.clone();
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            json!({"input": input})
        };
        let odd = " ${{shared.URL}} \"x\"\n";
        place.done(upsert, with(json!({"name": "ONE", "skipDeploys": false, "value": odd}))).await;
        assert_eq!(place.ask(read, place_of.clone()).await, json!({"ONE": odd}));
        let many = json!({"replace": false, "skipDeploys": false, "variables": {"TWO": "2", "THREE": ""}});
        place.done(collect, with(many)).await;
        assert_eq!(place.ask(read, place_of.clone()).await, json!({"ONE": odd, "TWO": "2", "THREE": ""}));
        for name in ["ONE", "TWO", "THREE"] {
            place.done(delete, with(json!({"name": name}))).await;
        }
        assert_eq!(place.ask(read, place_of.clone()).await, json!({}));
    }
    let mut url = place.at(&nobody);
    url.as_object_mut().unwrap().extend(json!({"name": "URL", "skipDeploys": false, "value": "http://x"}).as_object().unwrap().clone());
    place.done(upsert, json!({"input": url})).await;
    let mut own = place.at(&service);
    own.as_object_mut()
        .unwrap()
        .extend(json!({"name": "API", "skipDeploys": false, "value": "${{shared.URL}}/v1"}).as_object().unwrap().clone());
    place.done(upsert, json!({"input": own})).await;
    let rendered = "query getRenderedVariables($projectId: String!, $environmentId: String!, $serviceId: String!) { variables(
        environmentId: $environmentId, projectId: $projectId, serviceId: $serviceId, unrendered: false) }";
    assert_eq!(place.ask(rendered, place.at(&service)).await["API"], "http://x/v1");
    let listed = "query getEnvironmentVariables($environmentId: String!, $after: String) { environment(id: $environmentId) { variables(
        first: 100, after: $after) { edges { node { name serviceId isSealed } } pageInfo { endCursor hasNextPage } } } }";
    let all = place.ask(listed, json!({"environmentId": place.environment, "after": null})).await["variables"]["edges"].clone();
    for expected in [
        json!({"name": "API", "serviceId": service["id"], "isSealed": false}),
        json!({"name": "URL", "serviceId": null, "isSealed": false}),
    ] {
        assert!(all.as_array().unwrap().contains(&json!({"node": expected})), "{expected} in {all}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn railway_service_domain_and_railway_custom_domain_and_railway_tcp_proxy() {
    let place = Place::new().await;
    let service = place.create_service(json!({"name": "web", "projectId": place.id(), "variables": null})).await;
    let at = place.at(&service);
    let here = json!({"environmentId": place.environment, "serviceId": service["id"]});
    let create =
        "mutation createServiceDomain($input: ServiceDomainCreateInput!) { serviceDomainCreate(input: $input) { ...ServiceDomain } }";
    let made = place.operation(create, SERVICE_DOMAIN, json!({"input": here})).await;
    let list = "query listServiceDomains($environmentId: String!, $serviceId: String!, $projectId: String!) { domains(environmentId:
        $environmentId, serviceId: $serviceId, projectId: $projectId) { serviceDomains { ...ServiceDomain } } }";
    let own = async || place.operation(list, SERVICE_DOMAIN, at.clone()).await["serviceDomains"].clone();
    assert_eq!(own().await, json!([made]));
    let domain = format!("shop.{}", made["suffix"].as_str().unwrap());
    let input = json!({"domain": domain, "environmentId": place.environment, "serviceDomainId": made["id"], "serviceId": service["id"],
        "targetPort": 0});
    place
        .done(
            "mutation updateServiceDomain($input: ServiceDomainUpdateInput!) { serviceDomainUpdate(input: $input) }",
            json!({"input": input}),
        )
        .await;
    let mut renamed = made.clone();
    renamed["domain"] = json!(domain);
    assert_eq!(own().await, json!([renamed]));
    place.done("mutation deleteServiceDomain($id: String!) { serviceDomainDelete(id: $id) }", json!({"id": made["id"]})).await;
    assert_eq!(own().await, json!([]));

    let create = "mutation createCustomDomain($input: CustomDomainCreateInput!) { customDomainCreate(input: $input) { ...CustomDomain } }";
    let input =
        json!({"domain": "www.example.com", "environmentId": place.environment, "projectId": place.id(), "serviceId": service["id"]});
    let made = place.operation(create, CUSTOM_DOMAIN, json!({"input": input})).await;
    let record = &made["status"]["dnsRecords"][0];
    assert_eq!((&record["hostlabel"], &record["zone"], &made["targetPort"]), (&json!("www"), &json!("example.com"), &Value::Null));
    assert!(record["requiredValue"].is_string() && made["status"]["verificationToken"].is_string(), "{made}");
    let list = "query listCustomDomains($environmentId: String!, $serviceId: String!, $projectId: String!) { domains(environmentId:
        $environmentId, serviceId: $serviceId, projectId: $projectId) { customDomains { ...CustomDomain } } }";
    let brought = async || place.operation(list, CUSTOM_DOMAIN, at.clone()).await["customDomains"].clone();
    assert_eq!(brought().await, json!([made]));
    let update = "mutation updateCustomDomain($environmentId: String!, $id: String!, $targetPort: Int) { customDomainUpdate(
        environmentId: $environmentId, id: $id, targetPort: $targetPort) }";
    for port in [json!(8080), Value::Null] {
        place.done(update, json!({"environmentId": place.environment, "id": made["id"], "targetPort": port})).await;
        let mut expected = made.clone();
        expected["targetPort"] = port;
        assert_eq!(brought().await, json!([expected]));
    }
    place.done("mutation deleteCustomDomain($id: String!) { customDomainDelete(id: $id) }", json!({"id": made["id"]})).await;
    assert_eq!(brought().await, json!([]));

    let create = "mutation createTcpProxy($input: TCPProxyCreateInput!) { tcpProxyCreate(input: $input) { ...TCPProxy } }";
    let input = json!({"applicationPort": 6379, "environmentId": place.environment, "serviceId": service["id"]});
    let made = place.operation(create, TCP_PROXY, json!({"input": input})).await;
    assert!(made["domain"].is_string() && made["proxyPort"].as_u64().is_some_and(|port| port > 0), "{made}");
    let list = "query getTcpProxy($environmentId: String!, $serviceId: String!) { tcpProxies(environmentId: $environmentId,
        serviceId: $serviceId) { ...TCPProxy } }";
    assert_eq!(place.operation(list, TCP_PROXY, here.clone()).await, json!([made]));
    place.done("mutation deleteTcpProxy($id: String!) { tcpProxyDelete(id: $id) }", json!({"id": made["id"]})).await;
    assert_eq!(place.operation(list, TCP_PROXY, here).await, json!([]));
}
