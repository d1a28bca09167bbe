//! Whatever is written is read back the same, at once and field by field; what is deleted is gone. A plan of infrastructure that was just
//! applied is then empty (`contracts/railway.md` 4).

use ops::Principal;
use serde_json::{Value, json};

use crate::world::World;

mod provider;

/// A person with a project of their own that is empty but for its environment.
struct Place {
    world: World,
    who: Principal,
    project: Value,
    environment: Value,
}

const PROJECT: &str = "id name description isPublic prDeploys workspaceId createdAt updatedAt deletedAt team { id }
    environments { edges { node { id name isEphemeral createdAt updatedAt deletedAt projectId } } }";

impl Place {
    async fn new() -> Self {
        let world = World::start().await;
        let person = world.server.person("ann@x.test", None).await;
        let who = world.bearer(&person.token).await;
        let make = format!("mutation M($input: ProjectCreateInput!) {{ projectCreate(input: $input) {{ {PROJECT} }} }}");
        // Unset texts come as empty ones, and what a client knows but does not use comes as null.
        let input = json!({
            "name": "shop", "description": "", "defaultEnvironmentName": "main", "isPublic": false, "prDeploys": false,
            "workspaceId": null, "runtime": null, "repo": null, "isMonorepo": false,
        });
        let project = world.data(&who, &make, json!({"input": input})).await["projectCreate"].clone();
        let environment = project["environments"]["edges"][0]["node"]["id"].clone();
        Self { world, who, project, environment }
    }

    fn id(&self) -> Value {
        self.project["id"].clone()
    }

    async fn ask(&self, document: &str, variables: Value) -> Value {
        let data = self.world.data(&self.who, document, variables).await;
        data.as_object().unwrap().values().next().unwrap().clone()
    }

    async fn refused(&self, document: &str, variables: Value) -> String {
        self.world.error(&self.who, document, variables).await["extensions"]["code"].as_str().unwrap().to_owned()
    }

    /// A mutation with one input object.
    async fn write(&self, field: &str, input: Value, answer: &str) -> Value {
        let mut kind = field.to_owned();
        kind[..1].make_ascii_uppercase();
        let kind = kind.replace("TcpProxy", "TCPProxy");
        self.ask(&format!("mutation M($input: {kind}Input!) {{ {field}(input: $input) {answer} }}"), json!({"input": input})).await
    }

    async fn service(&self, name: &str) -> Value {
        let input = json!({"name": name, "projectId": self.id(), "source": null, "branch": null, "environmentId": null});
        self.write("serviceCreate", input, "{ id name projectId icon }").await
    }

    fn at(&self, service: &Value) -> Value {
        json!({"projectId": self.id(), "environmentId": self.environment, "serviceId": service["id"]})
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn projects_and_environments() {
    let place = Place::new().await;
    let read = format!("query Q($id: String!) {{ project(id: $id) {{ {PROJECT} }} }}");
    assert_eq!(place.ask(&read, json!({"id": place.id()})).await, place.project);
    assert_eq!((&place.project["name"], &place.project["description"]), (&json!("shop"), &Value::Null));
    assert_eq!(place.project["environments"]["edges"].as_array().unwrap().len(), 1);
    let update =
        format!("mutation M($id: String!, $input: ProjectUpdateInput!) {{ projectUpdate(id: $id, input: $input) {{ {PROJECT} }} }}");
    // What a provider's generated types always say, whether it is meant or not.
    let input = json!({"name": "store", "description": "sells", "isPublic": false, "prDeploys": false, "botPrEnvironments": false,
        "focusedPrEnvironments": false});
    let updated = place.ask(&update, json!({"id": place.id(), "input": input})).await;
    assert_eq!((&updated["name"], &updated["description"]), (&json!("store"), &json!("sells")));
    assert_eq!(place.ask(&read, json!({"id": place.id()})).await, updated);

    let fields = "{ id name projectId isEphemeral createdAt updatedAt deletedAt canAccess unmergedChangesCount }";
    let staging = json!({"name": "staging", "projectId": place.id(), "ephemeral": false, "skipInitialDeploys": false,
        "applyChangesInBackground": false, "stageInitialChanges": false, "sourceEnvironmentId": null});
    let made = place.write("environmentCreate", staging, fields).await;
    let one = format!("query Q($id: String!) {{ environment(id: $id) {fields} }}");
    let id = json!({"id": made["id"]});
    assert_eq!(place.ask(&one, id.clone()).await, made);
    let all = format!("query Q($id: String!) {{ environments(projectId: $id) {{ edges {{ node {fields} }} }} }}");
    assert_eq!(place.ask(&all, json!({"id": place.id()})).await["edges"][1]["node"], made);
    let rename = format!("mutation M($id: String!) {{ environmentRename(id: $id, input: {{name: \"qa\"}}) {fields} }}");
    let renamed = place.ask(&rename, id.clone()).await;
    assert_eq!(renamed["name"], "qa");
    assert_eq!(place.ask(&one, id.clone()).await, renamed);
    assert_eq!(place.ask("mutation M($id: String!) { environmentDelete(id: $id) }", id.clone()).await, json!(true));
    assert_eq!(place.refused(&one, id).await, "NOT_FOUND");
    assert_eq!(place.ask(&all, json!({"id": place.id()})).await["edges"].as_array().unwrap().len(), 1);

    assert_eq!(place.ask("mutation M($id: String!) { projectDelete(id: $id) }", json!({"id": place.id()})).await, json!(true));
    assert_eq!(place.refused(&read, json!({"id": place.id()})).await, "NOT_FOUND");
    let names = place.ask("{ projects { edges { node { id } } } }", Value::Null).await;
    assert!(!names.to_string().contains(place.id().as_str().unwrap()), "{names}");
}

const SETTINGS: [&str; 22] = [
    "buildCommand",
    "builder",
    "cronSchedule",
    "dockerfilePath",
    "drainingSeconds",
    "healthcheckPath",
    "healthcheckTimeout",
    "numReplicas",
    "overlapSeconds",
    "preDeployCommand",
    "railwayConfigFile",
    "region",
    "restartPolicyMaxRetries",
    "restartPolicyType",
    "rootDirectory",
    "sleepApplication",
    "source",
    "startCommand",
    "stickySessions",
    "tracingEnabled",
    "unhealthyContainerReplacement",
    "watchPatterns",
];

#[tokio::test(flavor = "multi_thread")]
async fn services_and_their_settings() {
    let place = Place::new().await;
    let made = place.service("web").await;
    let id = json!({"id": made["id"]});
    let one = "query Q($id: String!) { service(id: $id) { id name projectId icon } }";
    assert_eq!(place.ask(one, id.clone()).await, made);
    let rename =
        "mutation M($id: String!, $input: ServiceUpdateInput!) { serviceUpdate(id: $id, input: $input) { id name projectId icon } }";
    let renamed = place.ask(rename, json!({"id": made["id"], "input": {"name": "front", "icon": "star"}})).await;
    assert_eq!((&renamed["name"], &renamed["icon"]), (&json!("front"), &json!("star")));
    assert_eq!(place.ask(one, id.clone()).await, renamed);

    let fields = SETTINGS.join(" ").replace("source", "source { image repo }");
    let instance = format!("query Q($e: String!, $s: String!) {{ serviceInstance(environmentId: $e, serviceId: $s) {{ {fields} }} }}");
    let here = json!({"e": place.environment, "s": made["id"]});
    let update = "mutation M($s: String!, $input: ServiceInstanceUpdateInput!) { serviceInstanceUpdate(environmentId: null, serviceId: $s, input: $input) }";
    let untouched = place.ask(&instance, here.clone()).await;
    let wanted = json!({
        "buildCommand": "make", "builder": "NIXPACKS", "cronSchedule": "0 3 * * *", "dockerfilePath": "Dockerfile.prod",
        "drainingSeconds": 7, "healthcheckPath": "/up", "healthcheckTimeout": 45, "numReplicas": 3, "overlapSeconds": 5,
        "preDeployCommand": ["migrate"], "railwayConfigFile": "/railway.toml", "region": "asia-southeast1-eqsg3a",
        "restartPolicyMaxRetries": 4, "restartPolicyType": "ALWAYS", "rootDirectory": "/app", "sleepApplication": true,
        "source": {"image": "nginx:latest", "repo": null}, "startCommand": "run", "stickySessions": true,
        "unhealthyContainerReplacement": false, "watchPatterns": ["src/**"],
    });
    let mut sent = wanted.clone();
    sent["ipv6EgressEnabled"] = json!(false);
    place.ask(update, json!({"s": made["id"], "input": sent.clone()})).await;
    sent["ipv6EgressEnabled"] = json!(true);
    let refused = place.world.error(&place.who, update, json!({"s": made["id"], "input": sent})).await;
    assert!(refused["message"].as_str().unwrap().contains("ipv6EgressEnabled"), "what is not done is not promised: {refused}");
    let read = place.ask(&instance, here.clone()).await;
    for (key, value) in wanted.as_object().unwrap() {
        assert_eq!(&read[key], value, "{key}");
    }
    // What is not named stays: also the region, when only the number of copies changes.
    place.ask(update, json!({"s": made["id"], "input": {"numReplicas": 2, "startCommand": null}})).await;
    let fewer = place.ask(&instance, here.clone()).await;
    for key in SETTINGS.iter().filter(|key| **key != "numReplicas") {
        assert_eq!(fewer[*key], read[*key], "{key}");
    }
    assert_eq!(fewer["numReplicas"], 2);
    // An empty text takes a setting back.
    let empty = json!({"buildCommand": "", "cronSchedule": "", "dockerfilePath": "", "healthcheckPath": "", "railwayConfigFile": "",
        "rootDirectory": "", "startCommand": "", "watchPatterns": [], "preDeployCommand": [], "healthcheckTimeout": 0});
    place.ask(update, json!({"s": made["id"], "input": empty.clone()})).await;
    let cleared = place.ask(&instance, here.clone()).await;
    for key in empty.as_object().unwrap().keys() {
        assert_eq!(cleared[key], untouched[key], "{key}");
    }

    let connect = "mutation M($id: String!, $input: ServiceConnectInput!) { serviceConnect(id: $id, input: $input) { id } }";
    place.ask(connect, json!({"id": made["id"], "input": {"repo": "a/b", "branch": "main"}})).await;
    assert_eq!(place.ask(&instance, here.clone()).await["source"], json!({"image": null, "repo": "a/b"}));
    let triggers = "query Q($projectId: String!, $environmentId: String!, $serviceId: String!, $after: String) { deploymentTriggers(
        projectId: $projectId, environmentId: $environmentId, serviceId: $serviceId, first: 100, after: $after) { edges { node {
        id branch checkSuites environmentId projectId provider repository serviceId } } pageInfo { hasNextPage endCursor } } }";
    let found = place.ask(triggers, place.at(&made)).await["edges"].clone();
    assert_eq!((&found[0]["node"]["repository"], &found[0]["node"]["branch"]), (&json!("a/b"), &json!("main")), "{found}");
    place.ask("mutation M($id: String!) { serviceDisconnect(id: $id) { id } }", id.clone()).await;
    assert_eq!(place.ask(&instance, here.clone()).await["source"], Value::Null);
    assert_eq!(place.ask(triggers, place.at(&made)).await["edges"], json!([]));
    let redeploy = "mutation M($e: String!, $s: String!) { serviceInstanceRedeploy(environmentId: $e, serviceId: $s) }";
    assert_eq!(place.ask(redeploy, here.clone()).await, json!(true), "there is nothing to do for one that was never deployed");
    assert_eq!(place.ask("mutation M($id: String!) { serviceDelete(id: $id) }", id.clone()).await, json!(true));
    assert_eq!(place.refused(one, id).await, "NOT_FOUND");
    assert_eq!(place.refused(&instance, here).await, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn variables_come_back_byte_for_byte() {
    let place = Place::new().await;
    let service = place.service("web").await;
    let read = "query Q($projectId: String!, $environmentId: String!, $serviceId: String) { variables(projectId: $projectId,
        environmentId: $environmentId, serviceId: $serviceId, unrendered: true) }";
    let odd = "${{shared.A}}  \t\"quoted\" \\n \u{fc}n\u{ef} $HOME\n";
    for owner in [place.at(&service), json!({"projectId": place.id(), "environmentId": place.environment})] {
        let with = |more: Value| {
            let mut input = owner.clone();
            input.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            input
        };
        assert_eq!(place.write("variableUpsert", with(json!({"name": "ONE", "value": odd})), "").await, json!(true));
        assert_eq!(place.ask(read, owner.clone()).await, json!({"ONE": odd}));
        let more = json!({"variables": {"TWO": "2", "EMPTY": ""}, "replace": false, "skipDeploys": false});
        place.write("variableCollectionUpsert", with(more), "").await;
        assert_eq!(place.ask(read, owner.clone()).await, json!({"ONE": odd, "TWO": "2", "EMPTY": ""}));
        place.write("variableUpsert", with(json!({"name": "ONE", "value": "1"})), "").await;
        place.write("variableCollectionUpsert", with(json!({"variables": {"ONE": "1", "THREE": "3"}, "replace": true})), "").await;
        assert_eq!(place.ask(read, owner.clone()).await, json!({"ONE": "1", "THREE": "3"}));
        for name in ["ONE", "THREE"] {
            assert_eq!(place.write("variableDelete", with(json!({"name": name})), "").await, json!(true));
        }
        assert_eq!(place.ask(read, owner).await, json!({}));
    }
}

const DOMAINS: &str = "query Q($projectId: String!, $environmentId: String!, $serviceId: String!) { domains(projectId: $projectId,
    environmentId: $environmentId, serviceId: $serviceId) { serviceDomains { SERVICE } customDomains { CUSTOM } } }";
const SERVICE_DOMAIN: &str = "id domain suffix environmentId serviceId projectId targetPort syncStatus createdAt updatedAt deletedAt";
const CUSTOM_DOMAIN: &str = "id domain environmentId serviceId projectId targetPort syncStatus createdAt updatedAt deletedAt
    status { verified verificationToken verificationDnsHost certificateStatus
      dnsRecords { hostlabel fqdn zone recordType requiredValue currentValue status purpose } }";

#[tokio::test(flavor = "multi_thread")]
async fn domains_of_both_kinds() {
    let place = Place::new().await;
    let service = place.service("web").await;
    let at = place.at(&service);
    let read = DOMAINS.replace("SERVICE", SERVICE_DOMAIN).replace("CUSTOM", CUSTOM_DOMAIN);
    let input = json!({"environmentId": place.environment, "serviceId": service["id"], "targetPort": 3000});
    let own = place.write("serviceDomainCreate", input, &format!("{{ {SERVICE_DOMAIN} }}")).await;
    assert_eq!(own["domain"], json!(format!("web-main.{}", own["suffix"].as_str().unwrap())));
    let mut input = at.clone();
    input["domain"] = json!("www.example.com");
    let custom = place.write("customDomainCreate", input, &format!("{{ {CUSTOM_DOMAIN} }}")).await;
    assert_eq!(custom["status"]["dnsRecords"][0]["hostlabel"], "www");
    assert!(custom["status"]["verificationToken"].is_string() && custom["status"]["verificationDnsHost"].is_string(), "{custom}");
    assert_eq!(place.ask(&read, at.clone()).await, json!({"serviceDomains": [own], "customDomains": [custom]}));

    let one = format!("query Q($id: String!, $p: String!) {{ customDomain(id: $id, projectId: $p) {{ {CUSTOM_DOMAIN} }} }}");
    assert_eq!(place.ask(&one, json!({"id": custom["id"], "p": place.id()})).await, custom);
    assert_eq!(place.refused(&one, json!({"id": own["id"], "p": place.id()})).await, "NOT_FOUND");
    let below = format!("x.{}", own["suffix"].as_str().unwrap());
    for (kind, name, available) in [
        ("custom", "shop.example.com", true),
        ("custom", "WWW.example.com", false),
        ("custom", below.as_str(), false),
        ("custom", "not a name", false),
        ("service", "till", true),
        ("service", "web-main", false),
        ("service", "", false),
    ] {
        let ask = format!("query Q($name: String!) {{ {kind}DomainAvailable(domain: $name) {{ available message }} }}");
        let told = place.ask(&ask, json!({"name": name})).await;
        assert!(told["available"] == json!(available) && told["message"] != "", "{kind} {name:?}: {told}");
    }

    let update = json!({"serviceDomainId": own["id"], "domain": format!("till.{}", own["suffix"].as_str().unwrap()),
        "environmentId": place.environment, "serviceId": service["id"], "targetPort": 4000});
    assert_eq!(place.write("serviceDomainUpdate", update.clone(), "").await, json!(true));
    let mut nameless = update.clone();
    nameless["domain"] = json!("");
    let rename = "mutation M($input: ServiceDomainUpdateInput!) { serviceDomainUpdate(input: $input) }";
    assert_eq!(place.refused(rename, json!({"input": nameless})).await, "BAD_USER_INPUT");
    let port = "mutation M($e: String!, $id: String!) { customDomainUpdate(environmentId: $e, id: $id, targetPort: 9090) }";
    assert_eq!(place.ask(port, json!({"e": place.environment, "id": custom["id"]})).await, json!(true));
    let after = place.ask(&read, at.clone()).await;
    assert_eq!((&after["serviceDomains"][0]["domain"], &after["serviceDomains"][0]["targetPort"]), (&update["domain"], &json!(4000)));
    assert_eq!(after["customDomains"][0]["targetPort"], 9090);
    assert_eq!(after["customDomains"][0]["status"], custom["status"]);

    // Neither a stranger, nor a place that is not the domain's own, changes anything.
    let stranger = place.world.server.person("eve@x.test", None).await;
    let eve = place.world.bearer(&stranger.token).await;
    let other = place.write("environmentCreate", json!({"name": "other", "projectId": place.id()}), "{ id }").await["id"].clone();
    for (who, environment) in [(&eve, json!(stranger.environment.to_string())), (&eve, place.environment.clone()), (&place.who, other)] {
        let refused = place.world.error(who, port, json!({"e": environment, "id": custom["id"]})).await;
        assert_eq!(refused["extensions"]["code"], "NOT_FOUND", "{refused}");
        let mut input = update.clone();
        input["environmentId"] = environment;
        input["domain"] = json!("stolen");
        let refused = place.world.error(who, rename, json!({"input": input})).await;
        assert_eq!(refused["extensions"]["code"], "NOT_FOUND", "{refused}");
    }
    assert_eq!(place.ask(&read, at.clone()).await, after);

    assert_eq!(place.ask("mutation M($id: String!) { serviceDomainDelete(id: $id) }", json!({"id": own["id"]})).await, json!(true));
    assert_eq!(place.ask("mutation M($id: String!) { customDomainDelete(id: $id) }", json!({"id": custom["id"]})).await, json!(true));
    assert_eq!(place.ask(&read, at).await, json!({"serviceDomains": [], "customDomains": []}));
}

#[tokio::test(flavor = "multi_thread")]
async fn tcp_proxies() {
    const FIELDS: &str = "{ id domain proxyPort applicationPort serviceId environmentId syncStatus createdAt updatedAt deletedAt }";
    let place = Place::new().await;
    let service = place.service("db").await;
    let read = format!("query Q($e: String!, $s: String!) {{ tcpProxies(environmentId: $e, serviceId: $s) {FIELDS} }}");
    let here = json!({"e": place.environment, "s": service["id"]});
    let input = json!({"applicationPort": 5432, "environmentId": place.environment, "serviceId": service["id"]});
    let made = place.write("tcpProxyCreate", input, FIELDS).await;
    assert_eq!(made["applicationPort"], 5432);
    assert_eq!(place.ask(&read, here.clone()).await, json!([made]));
    assert_eq!(place.ask("mutation M($id: String!) { tcpProxyDelete(id: $id) }", json!({"id": made["id"]})).await, json!(true));
    assert_eq!(place.ask(&read, here.clone()).await, json!([]));
    // The other way to one: the environment's document (`contracts/railway.md` 3.8).
    let commit = "mutation M($e: String!, $patch: EnvironmentConfig!) { environmentPatchCommit(environmentId: $e, patch: $patch) }";
    let patch = |value: Value| json!({"e": place.environment, "patch": {"services": {service["id"].as_str().unwrap(): {"networking": {"tcpProxies": {"5432": value}}}}}});
    let workflow = place.ask(commit, patch(json!({}))).await;
    let status = "query Q($id: String!) { workflowStatus(workflowId: $id) { status error } }";
    assert_eq!(place.ask(status, json!({"id": workflow})).await, json!({"status": "Complete", "error": null}));
    assert_eq!(place.ask(&read, here.clone()).await[0]["applicationPort"], 5432);
    place.ask(commit, patch(Value::Null)).await;
    assert_eq!(place.ask(&read, here).await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes() {
    const FIELDS: &str = "{ id name projectId createdAt volumeInstances { edges { node { id environmentId serviceId mountPath sizeMB state
        isPendingDeletion deletedAt } } } }";
    let place = Place::new().await;
    let service = place.service("db").await;
    let read = format!("query Q($id: String!) {{ project(id: $id) {{ volumes {{ edges {{ node {FIELDS} }} }} }} }}");
    let all = async || place.ask(&read, json!({"id": place.id()})).await["volumes"]["edges"].clone();
    let input = json!({"projectId": place.id(), "serviceId": service["id"], "mountPath": "/data"});
    let made = place.write("volumeCreate", input, FIELDS).await;
    let instance = &made["volumeInstances"]["edges"][0]["node"];
    assert_eq!((&instance["mountPath"], &instance["sizeMB"], &instance["serviceId"]), (&json!("/data"), &json!(50_000), &service["id"]));
    assert_eq!(all().await, json!([{"node": made}]));
    let rename = format!("mutation M($id: String!) {{ volumeUpdate(volumeId: $id, input: {{name: \"rows\"}}) {FIELDS} }}");
    let renamed = place.ask(&rename, json!({"id": made["id"]})).await;
    assert_eq!(renamed["name"], "rows");
    assert_eq!(all().await, json!([{"node": renamed}]));
    let update = "mutation M($id: String!, $input: VolumeInstanceUpdateInput!) { volumeInstanceUpdate(volumeId: $id, environmentId: null, input: $input) }";
    place.ask(update, json!({"id": made["id"], "input": {"mountPath": "/rows", "serviceId": service["id"]}})).await;
    assert_eq!(all().await[0]["node"]["volumeInstances"]["edges"][0]["node"]["mountPath"], "/rows");
    place.ask(update, json!({"id": made["id"], "input": {"serviceId": null}})).await;
    assert_eq!(all().await[0]["node"]["volumeInstances"]["edges"][0]["node"]["serviceId"], Value::Null);
    place.ask(update, json!({"id": made["id"], "input": {"serviceId": service["id"]}})).await;
    assert_eq!(all().await[0]["node"]["volumeInstances"]["edges"][0]["node"]["serviceId"], service["id"]);

    // A client that deletes a service deletes its volume after that, which is on its way out by then.
    assert_eq!(place.ask("mutation M($id: String!) { serviceDelete(id: $id) }", json!({"id": service["id"]})).await, json!(true));
    let pending = all().await[0]["node"]["volumeInstances"]["edges"][0]["node"].clone();
    assert_eq!((&pending["isPendingDeletion"], &pending["serviceId"]), (&json!(true), &Value::Null));
    assert_eq!(place.ask("mutation M($id: String!) { volumeDelete(volumeId: $id) }", json!({"id": made["id"]})).await, json!(true));
}

const RULE: &str = "{ id workspaceId projectId environmentId serviceId eventTypes severities ephemeralEnvironments createdAt updatedAt
    channels { id config workspaceId createdAt updatedAt } }";

#[tokio::test(flavor = "multi_thread")]
async fn notification_rules() {
    let place = Place::new().await;
    let workspace = place.project["workspaceId"].clone();
    let create = format!("mutation M($input: CreateNotificationRuleInput!) {{ notificationRuleCreate(input: $input) {RULE} }}");
    let update = format!(
        "mutation M($id: String!, $input: UpdateNotificationRuleInput!) {{ notificationRuleUpdate(id: $id, input: $input) {RULE} }}"
    );
    let list = format!("query Q($w: String!, $p: String) {{ notificationRules(workspaceId: $w, projectId: $p) {RULE} }}");
    let delete = "mutation M($id: String!) { notificationRuleDelete(id: $id) }";
    let all = json!({"w": workspace});
    let input = json!({
        "workspaceId": workspace, "projectId": place.id(), "eventTypes": ["Deployment.failed", "Deployment.crashed"],
        "severities": ["WARNING", "CRITICAL"], "ephemeralEnvironments": false,
        "channelConfigs": [
            {"type": "WEBHOOK", "url": "https://hooks.example.com/a", "secret": "canary-of-mine-7"},
            {"type": "EMAIL", "to": ["ops@example.com"]},
        ],
    });
    let made = place.ask(&create, json!({"input": input})).await;
    assert_eq!((&made["projectId"], &made["workspaceId"]), (&place.id(), &workspace));
    assert_eq!((&made["eventTypes"], &made["severities"]), (&input["eventTypes"], &input["severities"]));
    assert_eq!((&made["ephemeralEnvironments"], &made["serviceId"]), (&json!(false), &Value::Null));
    let webhook = json!({"type": "WEBHOOK", "url": "https://hooks.example.com/a", "signed": true});
    assert_eq!((&made["channels"][0]["config"], &made["channels"][1]["config"]), (&webhook, &input["channelConfigs"][1]));
    assert!(!made.to_string().contains("canary"), "{made}");
    assert_eq!(place.ask(&list, all.clone()).await, json!([made]));
    assert_eq!(place.ask(&list, json!({"w": workspace, "p": place.id()})).await, json!([made]));
    assert_eq!(place.ask(&list, json!({"w": workspace, "p": uuid::Uuid::now_v7()})).await, json!([]));

    // What is left out stays, and so does the secret of a webhook that is sent as it was read.
    let id = made["id"].clone();
    let changed = place.ask(&update, json!({"id": id, "input": {"eventTypes": [], "channelConfigs": [webhook]}})).await;
    assert_eq!((&changed["eventTypes"], &changed["severities"]), (&json!([]), &made["severities"]));
    assert_eq!((&changed["channels"][0]["config"], &changed["channels"][0]["id"]), (&webhook, &made["channels"][0]["id"]));
    assert_eq!(changed["channels"].as_array().unwrap().len(), 1);
    assert_eq!(place.ask(&list, all.clone()).await, json!([changed]));
    let open = json!({"type": "WEBHOOK", "url": "https://hooks.example.com/a", "secret": null});
    let changed = place.ask(&update, json!({"id": id, "input": {"channelConfigs": [open]}})).await;
    assert_eq!(changed["channels"][0]["config"]["signed"], json!(false));

    assert_eq!(place.ask(delete, json!({"id": id})).await, json!(true));
    assert_eq!(place.ask(&list, all).await, json!([]));
    assert_eq!(place.refused(delete, json!({"id": id})).await, "NOT_FOUND");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notification_rule_that_cannot_be_is_refused_in_words_that_help() {
    let place = Place::new().await;
    let workspace = place.project["workspaceId"].clone();
    let create = "mutation M($input: CreateNotificationRuleInput!) { notificationRuleCreate(input: $input) { id } }";
    let input =
        |events: Value, channels: Value| json!({"input": {"workspaceId": workspace, "eventTypes": events, "channelConfigs": channels}});
    let error = place.world.error(&place.who, create, input(json!(["Deployment.exploded"]), json!([{"type": "EMAIL"}]))).await;
    let text = error["message"].as_str().unwrap();
    assert!(text.contains("Deployment.exploded") && text.contains("Deployment.deployed, Deployment.failed"), "{text}");
    for channels in [
        json!([]),
        json!(["https://hooks.example.com/"]),
        json!([{"type": "PIGEON"}]),
        json!([{"type": "WEBHOOK"}]),
        json!([{"type": "WEBHOOK", "url": ""}]),
        json!([{"type": "WEBHOOK", "url": "hooks.example.com"}]),
        json!([{"type": "WEBHOOK", "url": "ftp://hooks.example.com/"}]),
        json!([{"type": "WEBHOOK", "url": "https://user:secret@hooks.example.com/"}]),
        json!([{"type": "WEBHOOK", "url": "https://hooks.example.com/", "secret": "short"}]),
        json!([{"type": "WEBHOOK", "url": "https://hooks.example.com/", "colour": "red"}]),
        json!([{"type": "WEBHOOK", "url": "https://hooks.example.com/"}, {"type": "WEBHOOK", "url": "https://hooks.example.com/"}]),
        json!([{"type": "EMAIL", "to": ["nobody"]}]),
        json!([{"type": "EMAIL", "to": "ops@example.com"}]),
    ] {
        assert_eq!(place.refused(create, input(json!([]), channels.clone())).await, "BAD_USER_INPUT", "{channels}");
    }
    let other = place.world.server.person("bob@x.test", None).await;
    let mut foreign = input(json!([]), json!([{"type": "EMAIL"}]));
    foreign["input"]["projectId"] = json!(other.project);
    assert_eq!(place.refused(create, foreign).await, "NOT_FOUND");
}
