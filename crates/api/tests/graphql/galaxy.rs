//! Galaxy's API over a real store: what its clients require (`contracts/galaxy.md` 1), who gets nothing, and what is refused.

mod clients;
mod roles;
mod stopping;
mod transfer;

use std::collections::BTreeSet;

use api::graphql::{Engine, GraphqlRequest};
use domain::account::Plan;
use domain::deployment::{DeploymentStatus, Replica, ReplicaStatus};
use domain::galaxy::{app_id, container_id, version_id};
use domain::key::{ApiKey, KeyKind};
use domain::{InstanceId, ReplicaId, Role, SnapshotId, Tenant, Timestamp};
use graphql_parser::schema::{Definition, TypeDefinition, parse_schema};
use ops::auth::{Presented, Surface, authenticate};
use ops::{OpCtx, Principal};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use store::Change;

use crate::world::{Estate, World, ids};

/// An estate whose account is on the Professional plan, with an app that runs.
struct Galaxy {
    world: World,
    engine: Engine,
}

struct App {
    estate: Estate,
    tenant: Tenant,
    instance: InstanceId,
    host: String,
    snapshot: SnapshotId,
}

impl App {
    fn id(&self) -> String {
        app_id(self.instance)
    }
}

impl Galaxy {
    async fn start() -> Self {
        Self { world: World::start().await, engine: Engine::new(Surface::Galaxy) }
    }

    async fn app(&self, email: &str) -> App {
        let estate = self.world.estate(email).await;
        self.world.server.plan(estate.workspace, Plan::Professional).await;
        let store = &self.world.server.ops.store;
        let tenant = Tenant::system(estate.workspace);
        let deployment = store.deployment(estate.deployment).await.unwrap().unwrap().open(tenant).unwrap();
        let domains = store.domains_of_environments(tenant, &[estate.person.environment]).await.unwrap();
        for (from, to) in [
            (DeploymentStatus::Initializing, DeploymentStatus::Building),
            (DeploymentStatus::Building, DeploymentStatus::Deploying),
            (DeploymentStatus::Deploying, DeploymentStatus::Success),
        ] {
            self.world.moved(estate.workspace, estate.deployment, from, to, None).await;
        }
        let app =
            App { tenant, instance: deployment.instance_id, host: domains[0].domain.clone(), snapshot: deployment.snapshot_id, estate };
        self.containers(&app, 0, 1).await;
        app
    }

    async fn containers(&self, app: &App, from: u32, count: u32) -> Vec<ReplicaId> {
        let now = Timestamp::now();
        let replica = |index| Replica {
            id: ReplicaId::generate(),
            workspace_id: app.estate.workspace,
            deployment_id: app.estate.deployment,
            generation: 0,
            index,
            status: ReplicaStatus::Running,
            port: 1,
            exit_code: None,
            reason: None,
            restarts: 0,
            created_at: now,
            updated_at: now,
            unhealthy_since: None,
        };
        let rows: Vec<Replica> = (from..from + count).map(replica).collect();
        let ids = rows.iter().map(|row| row.id).collect();
        let changes = rows.into_iter().map(Change::ReplicaInsert).collect();
        self.world.server.ops.store.commit(app.tenant, changes).await.unwrap();
        ids
    }

    async fn username(&self, app: &App) -> String {
        let store = &self.world.server.ops.store;
        store.workspace(app.estate.workspace).await.unwrap().unwrap().open(app.tenant).unwrap().username
    }

    async fn key(&self, app: &App) -> SecretString {
        let (key, secret, hash) = ops::new_key(KeyKind::Galaxy, app.estate.person.user.id, "galaxy".into(), Timestamp::now());
        let key = ApiKey { workspace_id: Some(app.estate.workspace), ..key };
        self.world.server.ops.store.commit(app.tenant, vec![Change::ApiKeyInsert { key, hash }]).await.unwrap();
        secret
    }

    async fn bearer(&self, token: &str) -> Principal {
        let presented = Presented::Bearer(SecretString::from(token));
        authenticate(&self.world.server.ops, Surface::Galaxy, presented, Timestamp::now(), None).await.unwrap()
    }

    async fn ask(&self, who: &Principal, query: &str, variables: Value) -> Value {
        let variables = variables.as_object().cloned();
        let request = GraphqlRequest { query: query.to_owned(), variables, operation_name: None, extensions: None };
        let ctx = OpCtx { now: Timestamp::now(), ..self.world.ctx(who.clone()) };
        serde_json::from_slice(&self.engine.execute(ctx, request).await.body).unwrap()
    }

    async fn data(&self, who: &Principal, query: &str, variables: Value) -> Value {
        let body = self.ask(who, query, variables).await;
        assert_eq!(body.get("errors"), None, "{query}: {body:#}");
        body["data"].clone()
    }

    /// Sends a body as a client would.
    async fn post(&self, headers: &[(&str, &str)], body: Value) -> (u16, Value) {
        let mut headers = headers.to_vec();
        headers.push(("Content-Type", "application/json"));
        let reply = self.world.server.call("POST", "/graphql", &headers, body.to_string().as_bytes()).await;
        (reply.status, reply.json())
    }
}

fn code(body: &Value) -> &str {
    body["errors"][0]["extensions"]["code"].as_str().unwrap_or("none")
}

/// Every root field and whether reading is enough; names of the victim's stand for themselves.
const FIELDS: &[(&str, bool, &str)] = &[
    ("Query.activityTypes", true, "{ activityTypes { _id label } }"),
    ("Query.app", true, "{ app(hostname: \"$host\") { _id url status projectId containers { _id status } } }"),
    ("Query.containerTypes", true, "{ containerTypes { _id name memory cpu } }"),
    ("Query.rateLimit", true, "{ rateLimit { cost limit remaining resetAt used } }"),
    ("Query.triggerRuns", true, "{ triggerRuns(triggerId: \"$trigger\") { number log } }"),
    ("Query.user", true, "{ user(username: \"$user\") { _id username apps { _id hostname activities { type userName } } } }"),
    ("Mutation.killContainer", false, "mutation { killContainer(appId: \"$app\", containerId: \"$container\") { _id status } }"),
    ("Mutation.removeDomain", false, "mutation { removeDomain(domainId: \"$domain\") }"),
    ("Mutation.removeDomainCertificate", false, "mutation { removeDomainCertificate(domainId: \"$domain\") { _id } }"),
    ("Mutation.removeNotificationSettings", false, "mutation { removeNotificationSettings(appId: \"$app\") }"),
    ("Mutation.removeTrigger", false, "mutation { removeTrigger(triggerId: \"$trigger\") }"),
    ("Mutation.restoreVersion", false, "mutation { restoreVersion(appId: \"$app\", versionId: \"$version\") { _id } }"),
    ("Mutation.saveDomain", false, "mutation { saveDomain(domain: {appId: \"$app\", name: \"new.shop.test\"}) { _id } }"),
    (
        "Mutation.saveNotificationSettings",
        false,
        "mutation { saveNotificationSettings(notificationSettings: {username: \"$user\", slack: {enabled: true, url: \"https://a.test/x\", activityTypes: [\"appStop\"]}}) { slack { url } } }",
    ),
    (
        "Mutation.saveTrigger",
        false,
        "mutation { saveTrigger(trigger: {appId: \"$app\", name: \"t\", action: \"add containers\", rules: [{metric: \"cpu\", comparator: \"above\", value: 50}]}) { _id } }",
    ),
    (
        "Mutation.setAppSettings",
        false,
        "mutation { setAppSettings(appId: \"$app\", settings: {containerStopGracePeriod: 60, unhealthyContainerReplacement: false}) { _id containerStopGracePeriod unhealthyContainerReplacement } }",
    ),
    ("Mutation.setContainerCountForApp", false, "mutation { setContainerCountForApp(appId: \"$app\", containerCount: 3) { status } }"),
    ("Mutation.setContainerType", false, "mutation { setContainerType(appId: \"$app\", containerType: \"tiny\") { _id } }"),
    ("Mutation.setMeteorSettings", false, "mutation { setMeteorSettings(appId: \"$app\", settings: \"{}\") { _id } }"),
    ("Mutation.startApp", false, "mutation { startApp(appId: \"$app\") { _id } }"),
    ("Mutation.stopApp", false, "mutation { stopApp(appId: \"$app\") { _id } }"),
    ("Mutation.transferApp", false, "mutation { transferApp(appId: \"$app\", username: \"$user\") { _id } }"),
];

/// Fields that tell of nobody.
const OF_NOBODY: [&str; 3] = ["Query.activityTypes", "Query.containerTypes", "Query.rateLimit"];

const TRIGGER: &str = "mutation($appId: String!, $id: String) { saveTrigger(trigger: {_id: $id, appId: $appId, name: \"up\", action: \"add containers\",
    max: 3, operator: \"OR\", rules: [{metric: \"CPU (%)\", comparator: \"above\", value: 80}, {metric: \"connections\", comparator: \"above\", value: 100}]}) {
    _id name enabled action min max step operator rules { metric comparator value } seriesName sampleQuantity runEverySeconds } }";

impl Galaxy {
    async fn document(&self, text: &str, app: &App, container: ReplicaId, trigger: &str) -> String {
        let user = self.username(app).await;
        [
            ("$host", app.host.clone()),
            ("$domain", app.estate.custom_domain.to_string()),
            ("$container", container_id(app.instance, container)),
            ("$trigger", trigger.to_owned()),
            ("$user", user),
            ("$domain", app.estate.custom_domain.to_string()),
            ("$app", app.id()),
            ("$version", version_id(app.snapshot)),
        ]
        .into_iter()
        .fold(text.to_owned(), |text, (name, value)| text.replace(name, &value))
    }
}

#[test]
fn the_walk_misses_no_field_of_galaxy() {
    let text = api::galaxy::sdl();
    let mut served = BTreeSet::new();
    for definition in &parse_schema::<String>(&text).unwrap().definitions {
        if let Definition::TypeDefinition(TypeDefinition::Object(one)) = definition
            && ["Query", "Mutation", "Subscription"].contains(&one.name.as_str())
        {
            served.extend(one.fields.iter().map(|field| format!("{}.{}", one.name, field.name)));
        }
    }
    let walked: BTreeSet<String> = FIELDS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(served, walked);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_and_strangers_get_nothing_and_viewers_change_nothing() {
    let galaxy = Galaxy::start().await;
    let (victim, other) = (galaxy.app("victim@x.test").await, galaxy.app("stranger@x.test").await);
    let container = galaxy.containers(&victim, 1, 1).await[0];
    let owner = galaxy.bearer(&victim.estate.person.token).await;
    let saved = galaxy.data(&owner, TRIGGER, json!({"appId": victim.id()})).await;
    let trigger = saved["saveTrigger"]["_id"].as_str().unwrap().to_owned();
    let stranger = galaxy.bearer(&other.estate.person.token).await;
    let workspace_key = {
        let secret = galaxy.key(&other).await;
        let presented = Presented::GalaxyKey(secret);
        authenticate(&galaxy.world.server.ops, Surface::Galaxy, presented, Timestamp::now(), None).await.unwrap()
    };
    let ctx = galaxy.world.server.ctx(&other.estate.person.token).await;
    let (_, team) = ops::token::api_token_create(&ctx, "team", Some(other.estate.workspace)).await.unwrap();
    let team = galaxy.bearer(team.expose_secret()).await;
    let generation = || galaxy.world.server.ops.store.generation();
    for (name, _, text) in FIELDS {
        let text = galaxy.document(text, &victim, container, &trigger).await;
        for (who, codes) in [
            (&Principal::Anonymous, &["UNAUTHENTICATED"][..]),
            (&stranger, &["NOT_FOUND", "FORBIDDEN"]),
            (&workspace_key, &["NOT_FOUND", "FORBIDDEN"]),
            (&team, &["NOT_FOUND", "FORBIDDEN"]),
        ] {
            if OF_NOBODY.contains(name) && !matches!(who, Principal::Anonymous) {
                continue;
            }
            let before = generation();
            let body = galaxy.ask(who, &text, json!({})).await;
            assert!(codes.contains(&code(&body)), "{name}: {body}");
            let told = body.to_string();
            assert!(ids(&victim.estate).iter().all(|id| !told.contains(id)) && !told.contains(&victim.id()), "{name}: {told}");
            assert_eq!(generation(), before, "{name} wrote something");
        }
    }
    galaxy.world.member(victim.estate.workspace, other.estate.person.user.id, Role::Viewer).await;
    let viewer = galaxy.bearer(&other.estate.person.token).await;
    for (name, read, text) in FIELDS {
        let text = galaxy.document(text, &victim, container, &trigger).await;
        let before = generation();
        let body = galaxy.ask(&viewer, &text, json!({})).await;
        if *read {
            assert_eq!(body.get("errors"), None, "{name}: {body}");
        } else {
            assert!(["NOT_FOUND", "FORBIDDEN"].contains(&code(&body)), "{name}: {body}");
            assert_eq!(generation(), before, "{name} wrote something");
        }
    }
    let secret = format!("{{ app(hostname: \"{}\") {{ notificationSettings {{ slack {{ url }} }} }} }}", victim.host);
    assert_eq!(code(&galaxy.ask(&viewer, &secret, json!({})).await), "FORBIDDEN");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_comes_as_header_or_variable_and_the_body_may_hold_more() {
    let galaxy = Galaxy::start().await;
    let app = galaxy.app("ann@x.test").await;
    let key = galaxy.key(&app).await;
    let key = key.expose_secret();
    let query = format!("{{ app(hostname: \"{}\") {{ _id }} }}", app.host);
    let wanted = json!({"app": {"_id": app.id()}});

    // Unknown keys beside the query, no variables, no name of an operation.
    let (status, body) = galaxy.post(&[("galaxy-api-key", key)], json!({"query": query, "extensions": {}, "whatever": 1})).await;
    assert_eq!((status, &body["data"]), (200, &wanted), "{body}");
    let (status, body) = galaxy.post(&[], json!({"query": query, "variables": {"galaxyApiKey": key, "unknown": [1]}})).await;
    assert_eq!((status, &body["data"]), (200, &wanted), "{body}");
    let declared = "query($hostname: String!) { app(hostname: $hostname) { _id } }";
    let variables = json!({"galaxyApiKey": key, "hostname": app.host});
    let (status, body) = galaxy.post(&[], json!({"query": declared, "variables": &variables, "operationName": null})).await;
    assert_eq!((status, &body["data"]), (200, &wanted), "{body}");

    // Declared for nothing but to be sent: alone, before and behind others.
    for declared in [
        format!("query($galaxyApiKey: String) {{ app(hostname: \"{}\") {{ _id }} }}", app.host),
        "query One($galaxyApiKey: String!, $hostname: String!) { app(hostname: $hostname) { _id } }".to_owned(),
        "query One($hostname: String!, $galaxyApiKey: String = \"\") { app(hostname: $hostname) { _id } }".to_owned(),
    ] {
        let (status, body) = galaxy.post(&[], json!({"query": declared, "variables": variables})).await;
        assert_eq!((status, &body["data"]), (200, &wanted), "{declared}: {body}");
    }

    // What is done with a key, its account has done.
    let set = format!(
        "mutation {{ setAppSettings(appId: \"{}\", settings: {{stickySessions: true}}) {{ activities {{ type userName }} }} }}",
        app.id()
    );
    let (_, body) = galaxy.post(&[("galaxy-api-key", key)], json!({"query": set})).await;
    let wanted = json!({"type": "appSettings", "userName": galaxy.username(&app).await});
    assert_eq!(body["data"]["setAppSettings"]["activities"][0], wanted, "{body}");

    let (status, body) = galaxy.post(&[("galaxy-api-key", "gal_wrong")], json!({"query": query})).await;
    assert_eq!((status, code(&body)), (200, "UNAUTHENTICATED"), "{body}");
    let (_, body) = galaxy.post(&[], json!({"query": query})).await;
    assert_eq!(code(&body), "UNAUTHENTICATED", "{body}");
    galaxy.world.server.plan(app.estate.workspace, Plan::Hobby).await;
    let (status, body) = galaxy.post(&[("galaxy-api-key", key)], json!({"query": query})).await;
    assert_eq!((status, code(&body)), (200, "PLAN_LIMIT"), "{body}");
}

/// What the bots ask, as they write it.
const BOT: &str = "query($hostname: String!, $seriesName: String!, $limit: Int!, $containerLimit: Int!) { app(hostname: $hostname) {
    _id hostname url status createdAt cluster containerCount containerType { _id name }
    containers(limit: $containerLimit) { _id status up runningAt createdAt shouldStop metrics(seriesName: $seriesName, limit: $limit) { _id timestamp cpu cpuCap memory memoryCap connections } }
    metrics(seriesName: $seriesName, limit: $limit) { _id timestamp cpu cpuCap memory memoryCap connections }
    versions { _id version userName createdAt buildStatus deployStatus }
    activities { type versionId userName createdAt }
    triggers { _id } domains { name primary } } }";

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_read_as_its_clients_read_it() {
    let galaxy = Galaxy::start().await;
    let app = galaxy.app("ann@x.test").await;
    let who = galaxy.bearer(&app.estate.person.token).await;
    let variables = json!({"hostname": app.host, "seriesName": "5s", "limit": 13, "containerLimit": 500});
    let data = galaxy.data(&who, BOT, variables).await;
    let found = &data["app"];
    assert_eq!(found["_id"], json!(app.id()));
    assert_eq!((found["hostname"].as_str(), found["status"].as_str()), (Some(app.host.as_str()), Some("running")));
    assert!(found["url"].as_str().is_some_and(|url| url.starts_with("http") && !url.ends_with('/')), "{found}");
    assert_eq!(found["containers"][0]["up"], json!(true));
    assert_eq!(found["containers"][0]["status"], json!("running"));
    assert!(found["containers"][0]["_id"].as_str().unwrap().starts_with(&format!("{}-", app.id())));
    // Exactly as many points as were asked for, newest first, in seconds.
    for metrics in [&found["metrics"], &found["containers"][0]["metrics"]] {
        let times: Vec<f64> = metrics.as_array().unwrap().iter().map(|point| point["timestamp"].as_f64().unwrap()).collect();
        assert_eq!(times.len(), 13, "{metrics}");
        assert!(times.windows(2).all(|two| two[0] - two[1] == 5.0), "{times:?}");
        assert!((1.7e9..4.1e9).contains(&times[0]), "{times:?}");
    }
    // Every version that an activity names is listed, and members are called by their usernames.
    let versions: Vec<&Value> = found["versions"].as_array().unwrap().iter().map(|version| &version["_id"]).collect();
    let activities = found["activities"].as_array().unwrap();
    assert!(activities.iter().any(|activity| activity["type"] == "appDeploy" && activity["versionId"].is_string()), "{activities:?}");
    for activity in activities {
        assert!(activity["versionId"].is_null() || versions.contains(&&activity["versionId"]), "{activity}");
    }
    assert_eq!(activities.last().unwrap()["userName"], json!(galaxy.username(&app).await));
    assert_eq!((&found["versions"][0]["version"], &found["domains"][0]["name"]), (&json!(1), &json!(app.host)));

    let user = galaxy.username(&app).await;
    let asked =
        format!("{{ user(username: \"{user}\") {{ _id username accountLocked appCount runningAppCount apps {{ hostname status }} }} }}");
    let account = galaxy.data(&who, &asked, json!({})).await;
    assert_eq!((&account["user"]["appCount"], &account["user"]["runningAppCount"]), (&json!(1), &json!(1)), "{account}");
    assert_eq!(account["user"]["apps"][0]["hostname"], json!(app.host));
}

#[tokio::test(flavor = "multi_thread")]
async fn statements_do_not_grow_with_containers() {
    let galaxy = Galaxy::start().await;
    let app = galaxy.app("ann@x.test").await;
    let who = galaxy.bearer(&app.estate.person.token).await;
    let count = async |containers: usize| {
        let before = galaxy.world.server.ops.store.statements();
        let variables = json!({"hostname": app.host, "seriesName": "5s", "limit": 60, "containerLimit": 500});
        let data = galaxy.data(&who, BOT, variables).await;
        assert_eq!(data["app"]["containers"].as_array().unwrap().len(), containers);
        galaxy.world.server.ops.store.statements() - before
    };
    let one = count(1).await;
    galaxy.containers(&app, 1, 19).await;
    let twenty = count(20).await;
    assert!(one == twenty && one <= 14, "{one} statements for one container, {twenty} for twenty");
}

#[tokio::test(flavor = "multi_thread")]
async fn nonsense_is_refused_by_name() {
    let galaxy = Galaxy::start().await;
    let (app, other) = (galaxy.app("ann@x.test").await, galaxy.app("bob@x.test").await);
    let who = galaxy.bearer(&app.estate.person.token).await;
    let (id, host) = (app.id(), &app.host);
    let large = format!("{{\\\"a\\\":\\\"{}\\\"}}", "x".repeat(33 << 10));
    let trigger = |fields: &str| {
        let head = format!("appId: \"{id}\", name: \"t\", rules: [{{metric: \"cpu\", comparator: \"above\", value: 5}}]");
        format!("mutation {{ saveTrigger(trigger: {{{head}, {fields}}}) {{ _id }} }}")
    };
    let metrics = |arguments: &str| format!("{{ app(hostname: \"{host}\") {{ metrics({arguments}) {{ cpu }} }} }}");
    let count = |count: &str| format!("mutation {{ setContainerCountForApp(appId: \"{id}\", containerCount: {count}) {{ _id }} }}");
    let domain = |name: &str| format!("mutation {{ saveDomain(domain: {{appId: \"{id}\", name: \"{name}\"}}) {{ _id }} }}");
    let slack = |url: &str, kind: &str| {
        format!(
            "mutation {{ saveNotificationSettings(notificationSettings: {{appId: \"{id}\", slack: {{enabled: true, url: \"{url}\", activityTypes: [\"{kind}\"]}}}}) {{ slack {{ url }} }} }}"
        )
    };
    let cases = [
        (metrics("seriesName: \"10s\", limit: 5"), "BAD_USER_INPUT", "5s, 3m, 1h or 1d"),
        (metrics("seriesName: \"5s\", limit: -1"), "BAD_USER_INPUT", "limit is -1"),
        (metrics("seriesName: \"5s\", limit: 0"), "BAD_USER_INPUT", "limit is 0"),
        (metrics("seriesName: \"5s\", limit: 2000000000"), "", "2000000000"),
        (format!("{{ app(hostname: \"{host}\") {{ containers(limit: -3) {{ _id }} }} }}"), "BAD_USER_INPUT", "limit is -3"),
        (count("0"), "BAD_USER_INPUT", "stopApp"),
        (count("-1"), "BAD_USER_INPUT", "containerCount is -1"),
        (count("1000000"), "BAD_USER_INPUT", "containerCount is 1000000"),
        (format!("{{ app(hostname: \"{}\") {{ _id }} }}", other.host), "NOT_FOUND", "App"),
        (domain("www.bob.test"), "ALREADY_EXISTS", "already in use"),
        (domain("not a name"), "BAD_USER_INPUT", "name"),
        ("{ app(hostname: \"no-such-app.test\") { _id } }".to_owned(), "NOT_FOUND", "App"),
        (trigger("action: \"add containers\", min: 5, max: 2"), "BAD_USER_INPUT", "min is 5 and max is 2"),
        (trigger("action: \"add containers\", seriesName: \"1d\""), "BAD_USER_INPUT", "5s, 3m or 1h"),
        (trigger("action: \"explode\""), "BAD_USER_INPUT", "kill containers"),
        (trigger("action: \"add containers\", runEverySeconds: 5"), "BAD_USER_INPUT", "60"),
        (trigger("action: \"add containers\", utcOffset: 20"), "BAD_USER_INPUT", "utcOffset is 20"),
        (trigger("action: \"add containers\", max: 51"), "BAD_USER_INPUT", "max is 51"),
        (format!("mutation {{ setMeteorSettings(appId: \"{id}\", settings: \"{large}\") {{ _id }} }}"), "BAD_USER_INPUT", "32768"),
        (format!("mutation {{ setMeteorSettings(appId: \"{id}\", settings: \"no json\") {{ _id }} }}"), "BAD_USER_INPUT", "not JSON"),
        (format!("mutation {{ setContainerType(appId: \"{id}\", containerType: \"huge\") {{ _id }} }}"), "BAD_USER_INPUT", "tiny"),
        (
            format!("mutation {{ setAppSettings(appId: \"{id}\", settings: {{containerStopGracePeriod: 5}}) {{ _id }} }}"),
            "BAD_USER_INPUT",
            "10 to 600",
        ),
        (format!("mutation {{ killContainer(appId: \"{id}\", containerId: \"{id}-zzzzz\") {{ _id }} }}"), "NOT_FOUND", "Container"),
        (format!("mutation {{ restoreVersion(appId: \"{id}\", versionId: \"x\") {{ _id }} }}"), "NOT_FOUND", "Version"),
        (format!("mutation {{ startApp(appId: \"{id}\") {{ _id }} }}"), "CONFLICT", "runs"),
        ("mutation { stopApp(appId: \"../../etc\") { _id } }".to_owned(), "NOT_FOUND", "App"),
        (slack("ftp://x", "appStop"), "BAD_USER_INPUT", "webhook"),
        (slack("https://x.test/", "appExploded"), "BAD_USER_INPUT", "appStop"),
        ("{ user(username: \"no such\") { _id } }".to_owned(), "NOT_FOUND", "User"),
    ];
    for (text, wanted, word) in cases {
        let before = galaxy.world.server.ops.store.generation();
        let body = galaxy.ask(&who, &text, json!({})).await;
        let shown: String = text.chars().take(120).collect();
        assert!(wanted.is_empty() && code(&body) != "none" || code(&body) == wanted, "{shown}: {body}");
        assert!(wanted.is_empty() || body["errors"][0]["message"].as_str().unwrap().contains(word), "{shown}: {body}");
        assert_eq!(galaxy.world.server.ops.store.generation(), before, "{shown} wrote something");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_saved_is_read_back() {
    let galaxy = Galaxy::start().await;
    let app = galaxy.app("ann@x.test").await;
    let who = galaxy.bearer(&app.estate.person.token).await;
    let (id, host) = (app.id(), &app.host);
    let saved = galaxy.data(&who, TRIGGER, json!({"appId": id})).await["saveTrigger"].clone();
    assert_eq!((&saved["operator"], &saved["max"], &saved["rules"][0]["metric"]), (&json!("OR"), &json!(3), &json!("cpu")));
    let again = galaxy.data(&who, TRIGGER, json!({"appId": id, "id": saved["_id"]})).await;
    assert_eq!(again["saveTrigger"], saved);
    let renamed = "mutation($appId: String!, $id: String) { saveTrigger(trigger: {_id: $id, appId: $appId, name: \"more\", action: \"add containers\",
        rules: [{metric: \"cpu\", comparator: \"above\", value: 70}]}) { name max operator } }";
    let renamed = galaxy.data(&who, renamed, json!({"appId": id, "id": saved["_id"]})).await;
    assert_eq!(renamed["saveTrigger"], json!({"name": "more", "max": 3, "operator": "OR"}), "what is absent stays");
    let listed = format!("{{ app(hostname: \"{host}\") {{ triggers {{ _id enabled runCount }} }} }}");
    assert_eq!(galaxy.data(&who, &listed, json!({})).await["app"]["triggers"].as_array().unwrap().len(), 1);
    let remove = "mutation($id: String!) { removeTrigger(triggerId: $id) }";
    galaxy.data(&who, remove, json!({"id": saved["_id"]})).await;
    assert_eq!(galaxy.data(&who, &listed, json!({})).await["app"]["triggers"], json!([]));

    let save = "mutation($appId: String, $username: String) { saveNotificationSettings(notificationSettings: {appId: $appId, username: $username,
        slack: {enabled: true, url: \"https://hooks.test/x\", activityTypes: [\"appStop\"], channels: [{activityType: \"appStop\", channel: \"#ops\"}]},
        email: {enabled: false, activityTypes: []}}) { slack { url } } }";
    galaxy.data(&who, save, json!({"appId": id})).await;
    let read = format!(
        "{{ app(hostname: \"{host}\") {{ notificationSettings {{ slack {{ enabled url activityTypes channels {{ channel }} }} email {{ enabled to }} }} }} }}"
    );
    let found = galaxy.data(&who, &read, json!({})).await["app"]["notificationSettings"].clone();
    assert_eq!((&found["slack"]["channels"][0]["channel"], &found["email"]["to"]), (&json!("#ops"), &json!([])), "{found}");
    galaxy.data(&who, "mutation($id: String!) { removeNotificationSettings(appId: $id) }", json!({"id": id})).await;
    assert_eq!(galaxy.data(&who, &read, json!({})).await["app"]["notificationSettings"], Value::Null);

    let settings = format!(
        "mutation {{ setAppSettings(appId: \"{id}\", settings: {{containerStopGracePeriod: 60, unhealthyContainerReplacement: false, coldStart: true}}) {{ containerStopGracePeriod unhealthyContainerReplacement coldStart }} }}"
    );
    let set = galaxy.data(&who, &settings, json!({})).await;
    assert_eq!(set["setAppSettings"], json!({"containerStopGracePeriod": 60, "unhealthyContainerReplacement": false, "coldStart": true}));
    let domain = format!("mutation {{ saveDomain(domain: {{appId: \"{id}\", name: \"Www.Shop-Of-Ann.test\"}}) {{ name }} }}");
    for _ in 0..2 {
        assert_eq!(galaxy.data(&who, &domain, json!({})).await["saveDomain"]["name"], json!("www.shop-of-ann.test"));
    }
    for (name, primary) in [("www.shop-of-ann.test", false), (host, true)] {
        let saved = format!("mutation {{ saveDomain(domain: {{appId: \"{id}\", name: \"{name}\"}}) {{ primary }} }}");
        assert_eq!(galaxy.data(&who, &saved, json!({})).await["saveDomain"]["primary"], json!(primary), "{name}");
    }
    let by_other = galaxy.data(&who, "{ app(hostname: \"www.shop-of-ann.test\") { _id hostname } }", json!({})).await;
    assert_eq!(by_other["app"], json!({"_id": id, "hostname": host}));

    let listed = format!("{{ app(hostname: \"{host}\") {{ domains {{ _id name primary }} }} }}");
    let domains = galaxy.data(&who, &listed, json!({})).await["app"]["domains"].clone();
    let remove = "mutation($id: String!) { removeDomain(domainId: $id) }";
    let of = |name: &str| domains.as_array().unwrap().iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{domains}")).clone();
    galaxy.data(&who, remove, json!({"id": of("www.shop-of-ann.test")["_id"]})).await;
    let gone = galaxy.ask(&who, "{ app(hostname: \"www.shop-of-ann.test\") { _id } }", json!({})).await;
    assert_eq!(code(&gone), "NOT_FOUND", "{gone}");
    let primary = of(host);
    assert_eq!(primary["primary"], true);
    for (wanted, domain) in [("CONFLICT", &primary["_id"]), ("NOT_FOUND", &json!("www"))] {
        assert_eq!(code(&galaxy.ask(&who, remove, json!({"id": domain})).await), wanted);
    }
    assert_eq!(
        galaxy.data(&who, &listed, json!({})).await["app"]["domains"].as_array().unwrap().len(),
        domains.as_array().unwrap().len() - 1
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_is_told_which_of_its_apps_were_removed() {
    let galaxy = Galaxy::start().await;
    let app = galaxy.app("ann@x.test").await;
    let (who, user) = (galaxy.bearer(&app.estate.person.token).await, galaxy.username(&app).await);
    let ctx = OpCtx { now: Timestamp::now(), ..galaxy.world.ctx(who.clone()) };
    ops::service::service_delete(&ctx, app.estate.service, None).await.unwrap();
    let asked = format!("{{ user(username: \"{user}\") {{ plan apps {{ _id }} activities {{ type userName message }} }} }}");
    let removed = json!({"type": "appRemove", "userName": user, "message": format!("{user} removed {}", app.host)});
    let wanted = json!({"plan": "professional", "apps": [], "activities": [removed]});
    assert_eq!(galaxy.data(&who, &asked, json!({})).await["user"], wanted);

    // A project takes its apps with it as soon as it is told to go.
    let app = galaxy.app("bob@x.test").await;
    let (who, user) = (galaxy.bearer(&app.estate.person.token).await, galaxy.username(&app).await);
    let ctx = OpCtx { now: Timestamp::now(), ..galaxy.world.ctx(who.clone()) };
    ops::project::project_schedule_delete(&ctx, app.estate.person.project).await.unwrap();
    let asked = format!("{{ user(username: \"{user}\") {{ appCount activities {{ type message }} }} }}");
    let removed = json!({"type": "appRemove", "message": format!("{user} removed {}", app.host)});
    assert_eq!(galaxy.data(&who, &asked, json!({})).await["user"], json!({"appCount": 0, "activities": [removed]}));
}

/// A certificate that nobody trusts, and its key.
fn certificate(name: &str) -> (String, String) {
    let key = rcgen::KeyPair::generate().unwrap();
    let made = rcgen::CertificateParams::new(vec![name.to_owned()]).unwrap().self_signed(&key).unwrap();
    (made.pem(), key.serialize_pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_brings_its_certificate_and_the_key_is_never_seen_again() {
    let galaxy = Galaxy::start().await;
    let app = galaxy.app("ann@x.test").await;
    let who = galaxy.bearer(&app.estate.person.token).await;
    let save = "mutation($domain: DomainInput!) { saveDomain(domain: $domain) { _id name encryption forceSSL certificateStatus certificateExpiresAt
        certificateError } }";
    let with = |more: Value| {
        let mut domain = json!({"appId": app.id(), "name": "Www.Shop.test"});
        domain.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({ "domain": domain })
    };
    let plain = galaxy.data(&who, save, with(json!({}))).await["saveDomain"].clone();
    let told = |row: &Value| (row["encryption"].clone(), row["forceSSL"].clone(), row["certificateStatus"].clone());
    assert_eq!(told(&plain), (json!("Disabled"), json!(false), json!("none")));

    let (chain, key) = certificate("www.shop.test");
    let (foreign, _) = certificate("www.shop.test");
    let (elsewhere, elsewhere_key) = certificate("blog.test");
    for (bad, wanted) in [
        (json!({"certificate": chain}), "belong together"),
        (json!({"certificate": foreign, "privateKey": key}), "does not belong"),
        (json!({"certificate": elsewhere, "privateKey": elsewhere_key}), "not for www.shop.test"),
        (json!({"certificate": "x", "privateKey": key}), "PEM"),
    ] {
        let body = galaxy.ask(&who, save, with(bad)).await;
        assert_eq!(code(&body), "BAD_USER_INPUT", "{body}");
        assert!(body.to_string().contains(wanted) && !body.to_string().contains("PRIVATE KEY"), "{wanted}: {body}");
    }
    let own = galaxy.data(&who, save, with(json!({"certificate": chain, "privateKey": key, "forceSSL": true}))).await["saveDomain"].clone();
    assert_eq!(told(&own), (json!("Enabled"), json!(true), json!("valid")));
    assert_eq!((&own["_id"], &own["certificateExpiresAt"]), (&plain["_id"], &json!("4096-01-01T00:00:00.000Z")));
    let again = galaxy.data(&who, save, with(json!({}))).await["saveDomain"].clone();
    assert_eq!(told(&again), told(&own), "what is not named stays");

    let store = &galaxy.world.server.ops.store;
    let id = own["_id"].as_str().unwrap().parse().unwrap();
    let proved = Change::DomainChecked { id, value: None, verified: true, at: Timestamp::now() };
    store.commit(app.tenant, vec![proved]).await.unwrap();
    assert_eq!(store.system_certificates(Timestamp::now()).await.unwrap().0[0].key, key, "the edge gets it");

    // The same domain through the other surface.
    let seen = format!(
        "{{ domains(projectId: \"{}\", environmentId: \"{}\", serviceId: \"{}\") {{ customDomains {{ id domain forceHttps status {{
            certificateStatus certificateStatusDetailed certificates {{ domainNames expiresAt keyType fingerprintSha256 }} }} }} }} }}",
        app.estate.person.project, app.estate.person.environment, app.estate.service
    );
    let all = galaxy.world.data(&who, &seen, json!({})).await["domains"]["customDomains"].clone();
    let found = all.as_array().unwrap().iter().find(|one| one["id"] == own["_id"]).unwrap().clone();
    assert_eq!((&found["forceHttps"], &found["status"]["certificateStatus"]), (&json!(true), &json!("CERTIFICATE_STATUS_TYPE_VALID")));
    let public = &found["status"]["certificates"][0];
    assert_eq!((&public["domainNames"], &public["keyType"]), (&json!(["www.shop.test"]), &json!("KEY_TYPE_ECDSA")), "{found}");
    let audit = store.activities(app.tenant, None, 100).await.unwrap();
    assert!(audit.iter().any(|entry| entry.verb == "domain_certificate_set"));
    let secret = key.lines().nth(1).unwrap();
    assert!(!format!("{audit:?} {all} {own}").contains(secret), "the key is told to nobody");

    let issue = format!("mutation {{ customDomainIssueCertificate(id: {}) }}", own["_id"]);
    let refused = galaxy.world.error(&who, &issue, json!({})).await;
    assert_eq!(refused["extensions"]["code"], "UNSUPPORTED", "{refused}");
    let remove = format!("mutation {{ removeDomainCertificate(domainId: {}) {{ encryption certificateStatus forceSSL }} }}", own["_id"]);
    assert_eq!(
        told(&galaxy.data(&who, &remove, json!({})).await["removeDomainCertificate"]),
        (json!("Disabled"), json!(true), json!("none"))
    );
    assert_eq!(code(&galaxy.ask(&who, &remove, json!({})).await), "CONFLICT");
    assert!(store.system_certificates(Timestamp::now()).await.unwrap().0.is_empty(), "its key is gone too");
    let set = format!("mutation {{ domainHttpsSet(id: {}, force: false) }}", own["_id"]);
    assert_eq!(galaxy.world.data(&who, &set, json!({})).await["domainHttpsSet"], json!(true));
    assert_eq!(galaxy.data(&who, save, with(json!({}))).await["saveDomain"]["forceSSL"], json!(false));
}
