//! Keys over HTTP: made, used and revoked through the API; requests that are sent again.

use domain::account::Plan;
use domain::key::{ApiKey, KeyKind};
use domain::{Tenant, Timestamp};
use futures::future::join_all;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use store::Change;

use crate::world::{Estate, World};

struct Client<'a> {
    world: &'a World,
    bearer: String,
}

impl Client<'_> {
    async fn send(&self, query: &str, idempotency: Option<&str>) -> (u16, Value, bool) {
        let mut headers = vec![("Authorization", self.bearer.as_str())];
        headers.extend(idempotency.map(|name| ("Idempotency-Key", name)));
        let reply = self.world.server.graphql(&headers, query).await;
        let replayed = reply.header("idempotency-replayed").is_some();
        (reply.status, reply.json(), replayed)
    }

    async fn data(&self, query: &str) -> Value {
        let (status, body, _) = self.send(query, None).await;
        assert!(status == 200 && body.get("errors").is_none(), "{body:#}");
        body["data"].clone()
    }

    async fn error(&self, query: &str) -> (String, String) {
        let (_, body, _) = self.send(query, None).await;
        let error = &body["errors"][0];
        assert!(body["data"].is_null(), "{body:#}");
        (error["extensions"]["code"].as_str().unwrap().to_owned(), error["message"].as_str().unwrap().to_owned())
    }

    async fn labels(&self) -> Vec<String> {
        let data = self.data("{ apiKeys(first: 100) { edges { node { label } } } }").await;
        let edges = data["apiKeys"]["edges"].as_array().unwrap().clone();
        edges.iter().map(|edge| edge["node"]["label"].as_str().unwrap().to_owned()).collect()
    }
}

fn client<'a>(world: &'a World, estate: &Estate) -> Client<'a> {
    Client { world, bearer: format!("Bearer {}", estate.person.token) }
}

const FIELDS: &str = "id kind label state displayKey limits { perSecond perMinute perHour perDay } expiresAt lastUsedAt workspaceId";

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_shown_once_listed_changed_and_revoked() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ann = client(&world, &estate);
    let create = format!("mutation {{ apiKeyCreate(input: {{kind: FLOW, label: \"Production\"}}) {{ key apiKey {{ {FIELDS} }} }} }}");
    let made = ann.data(&create).await["apiKeyCreate"].clone();
    let (key, id) = (made["key"].as_str().unwrap(), made["apiKey"]["id"].as_str().unwrap());
    assert!(key.starts_with("gx_") && key.len() == 52, "{made}");
    assert_eq!(made["apiKey"]["limits"], json!({"perSecond": null, "perMinute": 60, "perHour": null, "perDay": 1000}));
    assert_eq!((&made["apiKey"]["state"], &made["apiKey"]["kind"]), (&json!("ACTIVE"), &json!("FLOW")));
    assert!(made["apiKey"]["displayKey"].as_str().unwrap().starts_with("gx_"));
    let listed = ann.data(&format!("{{ apiKeys {{ edges {{ node {{ {FIELDS} }} }} }} }}")).await;
    assert!(!listed.to_string().contains(key) && listed.to_string().contains(id), "{listed}");

    let update = format!(
        "mutation {{ apiKeyUpdate(id: \"{id}\", input: {{label: \"Staging\", limits: {{perMinute: 10000, perDay: 5}}}}) {{ {FIELDS} }} }}"
    );
    let changed = ann.data(&update).await["apiKeyUpdate"].clone();
    assert_eq!(
        (&changed["label"], &changed["limits"]["perMinute"], &changed["limits"]["perDay"]),
        (&json!("Staging"), &json!(10000), &json!(5))
    );
    let (code, text) = ann.error(&update.replace("10000", "10001")).await;
    assert!(code == "BAD_USER_INPUT" && text.contains("1 to 10000"), "{text}");
    let (code, text) = ann.error(&create.replace("Production", "Staging")).await;
    assert!(code == "ALREADY_EXISTS" && text.contains("Staging"), "{text}");
    assert_eq!(ann.data(&format!("{{ apiKeyUsage(id: \"{id}\") {{ day allowed refused }} }}")).await["apiKeyUsage"], json!([]));
    let (code, _) = ann.error(&format!("{{ apiKeyUsage(id: \"{id}\", firstDay: \"yesterday\") {{ day }} }}")).await;
    assert_eq!(code, "BAD_USER_INPUT");

    // A Flow key says so where it does not belong.
    let flow = Client { world: &world, bearer: format!("Bearer {key}") };
    let (code, text) = flow.error("{ me { id } }").await;
    assert!(code == "UNAUTHENTICATED" && text.contains("Not Authorized") && text.contains("Flow API key"), "{text}");

    assert_eq!(ann.data(&format!("mutation {{ apiKeyRevoke(id: \"{id}\") }}")).await["apiKeyRevoke"], json!(true));
    assert!(!ann.labels().await.contains(&"Staging".to_owned()));
    let log = format!(
        "{{ auditLogs(workspaceId: \"{}\", first: 3) {{ edges {{ node {{ id eventType payload context }} }} pageInfo {{ hasNextPage }} }} }}",
        estate.workspace
    );
    let log = ann.data(&log).await["auditLogs"].clone();
    let kinds: Vec<_> =
        log["edges"].as_array().unwrap().iter().map(|edge| edge["node"]["eventType"].as_str().unwrap().to_owned()).collect();
    assert_eq!(kinds, ["api_key_revoke", "api_key_update", "api_key_create"]);
    let update = &log["edges"][1]["node"];
    assert_eq!((&update["payload"]["before"]["label"], &update["payload"]["after"]["label"]), (&json!("Production"), &json!("Staging")));
    assert_eq!((&update["payload"]["subject"], &update["context"]["actor"]["email"]), (&json!(id), &json!("ann@x.test")));
    assert_eq!(update["context"]["address"], json!("127.0.0.1"));
    assert!(log["pageInfo"]["hasNextPage"] == json!(true) && !log.to_string().contains(key));
    let entry = format!("{{ auditLog(id: {}, workspaceId: \"{}\") {{ eventType }} }}", update["id"], estate.workspace);
    assert_eq!(ann.data(&entry).await["auditLog"]["eventType"], json!("api_key_update"));
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_other_kinds_are_made_the_same_way() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ann = client(&world, &estate);
    for (input, prefix) in [
        ("kind: ACCOUNT, label: \"a\"".to_owned(), "orr_"),
        (format!("kind: WORKSPACE, label: \"w\", workspaceId: \"{}\"", estate.workspace), "orw_"),
        (format!("kind: PROJECT, label: \"p\", environmentId: \"{}\"", estate.person.environment), "orp_"),
    ] {
        let made = ann.data(&format!("mutation {{ apiKeyCreate(input: {{{input}}}) {{ key }} }}")).await;
        let key = made["apiKeyCreate"]["key"].as_str().unwrap().to_owned();
        assert!(key.starts_with(prefix), "{input}");
        let header = if prefix == "orp_" { ("Project-Access-Token", key) } else { ("Authorization", format!("Bearer {key}")) };
        let name = if prefix == "orp_" { "projectToken { project { name } }" } else { "projects { edges { node { name } } }" };
        let reply = world.server.graphql(&[(header.0, &header.1)], &format!("{{ {name} }}")).await;
        assert!(reply.text().contains("shop"), "{input}: {}", reply.text());
    }
    let (code, text) = ann.error("mutation { apiKeyCreate(input: {kind: WORKSPACE, label: \"w\"}) { key } }").await;
    assert!(code == "BAD_USER_INPUT" && text.contains("workspaceId"), "{text}");
    let (code, text) = ann.error("mutation { apiKeyCreate(input: {kind: GALAXY}) { key } }").await;
    assert!(code == "PLAN_LIMIT" && text.contains("Professional"), "{text}");
}

/// Of whoever made a team's token, it reaches neither what is their own nor their other teams.
#[tokio::test(flavor = "multi_thread")]
async fn a_teams_token_reaches_the_team_alone() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ann = client(&world, &estate);
    let mut made = vec![];
    for name in ["team", "other"] {
        let workspace = ann.data(&format!("mutation {{ workspaceCreate(input: {{name: \"{name}\"}}) {{ id }} }}")).await;
        let workspace = workspace["workspaceCreate"]["id"].as_str().unwrap().to_owned();
        let input = format!("{{name: \"of-{name}\", workspaceId: \"{workspace}\"}}");
        let project = ann.data(&format!("mutation {{ projectCreate(input: {input}) {{ id }} }}")).await;
        made.push((workspace, project["projectCreate"]["id"].as_str().unwrap().to_owned()));
    }
    // A person's own token reaches all of them, page by page.
    let mine = [made[1].1.clone(), made[0].1.clone(), estate.person.project.to_string()];
    for (size, pages, order) in [("first", "after", mine.to_vec()), ("last", "before", mine.iter().rev().cloned().collect::<Vec<_>>())] {
        let (mut seen, mut cursor) = (vec![], String::new());
        loop {
            let info = "pageInfo { hasNextPage hasPreviousPage }";
            let found =
                ann.data(&format!("{{ projects({size}: 1{cursor}) {{ edges {{ node {{ id }} }} {info} }} }}")).await["projects"].clone();
            let id = found["edges"][0]["node"]["id"].as_str().unwrap().to_owned();
            cursor = format!(", {pages}: \"{id}\"");
            seen.push(id);
            let more = if size == "first" { "hasNextPage" } else { "hasPreviousPage" };
            if found["pageInfo"][more] != json!(true) {
                break;
            }
        }
        assert_eq!(seen, order);
    }
    let input = format!("{{kind: WORKSPACE, label: \"ci\", workspaceId: \"{}\"}}", made[0].0);
    let key = ann.data(&format!("mutation {{ apiKeyCreate(input: {input}) {{ key }} }}")).await;
    let token = Client { world: &world, bearer: format!("Bearer {}", key["apiKeyCreate"]["key"].as_str().unwrap()) };
    let seen = token.data("{ projects { edges { node { name } } } me { workspaces { id } } }").await;
    assert_eq!(seen["projects"]["edges"], json!([{"node": {"name": "of-team"}}]), "{seen}");
    assert_eq!(seen["me"]["workspaces"], json!([{"id": made[0].0}]), "{seen}");
    let project = async |id: &str| token.error(&format!("{{ project(id: \"{id}\") {{ id }} }}")).await;
    let absent = project("00000000-0000-7000-8000-000000000000").await;
    for id in [estate.person.project.to_string(), made[1].1.clone()] {
        assert_eq!(project(&id).await, absent);
    }

    let flow = async |bearer: &str, method: &str, path: &str, body: &str| {
        let headers = [("Authorization", bearer), ("Content-Type", "application/json")];
        let reply = world.server.call(method, path, &headers, body.as_bytes()).await;
        assert_eq!(reply.status, 200, "{}", reply.text());
        reply.json()
    };
    let workflows = async |bearer: &str, method: &str, body: &str| flow(bearer, method, "/api/v1/workflows", body).await;
    workflows(&ann.bearer, "POST", r#"{"name": "her own"}"#).await;
    assert_eq!(workflows(&token.bearer, "GET", "").await["items"], json!([]));
    workflows(&token.bearer, "POST", r#"{"name": "the team's"}"#).await;
    let listed = workflows(&token.bearer, "GET", "").await;
    assert_eq!((listed["items"].as_array().unwrap().len(), &listed["items"][0]["name"]), (1, &json!("the team's")));
    assert_eq!(workflows(&ann.bearer, "GET", "").await["items"][0]["name"], "her own");
    for (bearer, wanted) in [(&token.bearer, true), (&ann.bearer, false)] {
        assert_eq!(flow(bearer, "GET", "/api/v1/credits/balance", "").await["isOrganization"], wanted);
    }
}

/// The header with which a key of the kind is sent that belongs to the person, their workspace or their environment.
async fn sent(world: &World, estate: &Estate, kind: KeyKind) -> (&'static str, String) {
    let own = matches!(kind, KeyKind::Account | KeyKind::OAuthAccess | KeyKind::OAuthRefresh);
    let (key, secret, hash) = ops::new_key(kind, estate.person.user.id, "made by hand".into(), Timestamp::now());
    let key = ApiKey {
        workspace_id: (!own).then_some(estate.workspace),
        project: (kind == KeyKind::Project).then_some((estate.person.project, estate.person.environment)),
        ..key
    };
    world.server.ops.store.commit(Tenant::system(estate.workspace), vec![Change::ApiKeyInsert { key, hash }]).await.unwrap();
    match kind {
        KeyKind::Project => ("Project-Access-Token", secret.expose_secret().to_owned()),
        KeyKind::Galaxy => ("galaxy-api-key", secret.expose_secret().to_owned()),
        _ => ("Authorization", format!("Bearer {}", secret.expose_secret())),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_opens_its_doors_and_at_the_others_is_told_what_they_need() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    world.server.plan(estate.workspace, Plan::Professional).await;
    let typename = br#"{"query":"{ __typename }"}"#.as_slice();
    for (kind, opens) in [
        (KeyKind::Account, [true, true, true]),
        (KeyKind::Workspace, [true, true, true]),
        (KeyKind::Project, [true, false, false]),
        (KeyKind::Galaxy, [false, true, false]),
        (KeyKind::Flow, [false, false, true]),
        (KeyKind::OAuthAccess, [true, true, true]),
        (KeyKind::OAuthRefresh, [false, false, false]),
    ] {
        let (name, value) = sent(&world, &estate, kind).await;
        let headers = [(name, value.as_str()), ("Content-Type", "application/json")];
        let doors = [
            ("POST", "/graphql/v2", typename, "`Project-Access-Token`"),
            ("POST", "/graphql", typename, "`galaxy-api-key`"),
            ("GET", "/api/v1/workflows", b"".as_slice(), "`gx_…`"),
        ];
        for ((method, path, body, needed), opens) in doors.into_iter().zip(opens) {
            let reply = world.server.call(method, path, &headers, body).await;
            let answer = reply.json();
            if opens {
                assert!(reply.status == 200 && answer["errors"].is_null() && answer["error"].is_null(), "{kind:?}, {path}: {answer}");
                continue;
            }
            let told = answer["errors"][0]["message"].as_str().or(answer["error"].as_str());
            let told = told.unwrap_or_else(|| panic!("{kind:?} opened {path}: {answer}"));
            assert!(told.contains(kind.label()) && told.contains(needed), "{kind:?}, {path}: {told}");
            assert_eq!(reply.status, if method == "GET" { 401 } else { 200 }, "{kind:?}, {path}: {told}");
            assert!(answer["data"].is_null() && !told.contains(&value), "{answer}");
        }
    }
}

fn create(label: &str) -> String {
    format!("mutation {{ apiKeyCreate(input: {{kind: ACCOUNT, label: \"{label}\"}}) {{ key apiKey {{ id }} }} }}")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_sent_again_gets_the_first_answer() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ann = client(&world, &estate);
    let count = async |label: &str| ann.labels().await.iter().filter(|known| *known == label).count();
    let first = ann.send(&create("once"), Some("8e03")).await;
    let again = ann.send(&create("once"), Some("8e03")).await;
    assert_eq!((first.0, first.2, again.0, again.2), (200, false, 200, true));
    assert_eq!((&first.1, count("once").await), (&again.1, 1));
    let (status, body, _) = ann.send(&create("other"), Some("8e03")).await;
    assert_eq!((status, &body["errors"][0]["extensions"]["code"]), (400, &json!("BAD_USER_INPUT")), "{body}");
    assert!(body["errors"][0]["message"].as_str().unwrap().contains("another request"), "{body}");
    ann.send(&create("once"), Some("8e04")).await;
    ann.send(&create("once"), None).await;
    assert_eq!((count("once").await, count("other").await), (3, 0));

    // The name belongs to the person, by whatever key.
    let other_key = first.1["data"]["apiKeyCreate"]["key"].as_str().unwrap();
    let same = Client { world: &world, bearer: format!("Bearer {other_key}") };
    assert!(same.send(&create("once"), Some("8e03")).await.2);
    let bob = world.estate("bob@x.test").await;
    let (_, body, replayed) = client(&world, &bob).send(&create("once"), Some("8e03")).await;
    assert!(!replayed && body != first.1, "{body}");

    // Nothing was done by a document that is not valid, so that its name is free; queries take their course.
    assert_eq!(ann.send("mutation { nothing }", Some("8e05")).await.0, 400);
    assert!(!ann.send(&create("after"), Some("8e05")).await.2);
    for _ in 0..2 {
        assert!(!ann.send("{ me { id } }", Some("8e06")).await.2);
    }
    for name in ["", &"x".repeat(256)] {
        let (status, body, _) = ann.send(&create("bad name"), Some(name)).await;
        assert_eq!(status, 400, "{body}");
    }
    assert_eq!(count("bad name").await, 0);
    // A failure is an answer too: the second attempt is not a second try.
    let refused = "mutation { apiTokenDelete(id: \"00000000-0000-0000-0000-000000000000\") }";
    assert_eq!(ann.send(refused, Some("8e07")).await.1, ann.send(refused, Some("8e07")).await.1);
}

#[tokio::test(flavor = "multi_thread")]
async fn workflows_and_galaxys_operations_are_repeated_the_same_way() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let bearer = format!("Bearer {}", estate.person.token);
    let send = async |path: &str, name: &str, body: &str| {
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json"), ("Idempotency-Key", name)];
        let reply = world.server.call("POST", path, &headers, body.as_bytes()).await;
        (reply.status, reply.header("idempotency-replayed").is_some(), reply.json())
    };
    let (status, replayed, made) = send("/api/v1/workflows", "w1", r#"{"name": "once"}"#).await;
    assert!((200..300).contains(&status) && !replayed, "{made}");
    assert_eq!(send("/api/v1/workflows", "w1", r#"{"name": "once"}"#).await, (status, true, made));
    let (status, _, refused) = send("/api/v1/workflows", "w1", r#"{"name": "other"}"#).await;
    assert_eq!((status, &refused["code"]), (400, &json!("BAD_REQUEST")), "{refused}");
    assert!(refused["traceId"].as_str().unwrap().starts_with("req_"), "{refused}");
    assert!(refused["error"].as_str().unwrap().contains("another request") && refused["error"] == refused["message"], "{refused}");
    let headers = [("Authorization", bearer.as_str())];
    let listed = world.server.call("GET", "/api/v1/workflows", &headers, b"").await.text();
    assert_eq!((listed.matches("\"once\"").count(), listed.matches("\"other\"").count()), (1, 0), "{listed}");

    world.server.plan(estate.workspace, Plan::Professional).await;
    // A failure is an answer too.
    let kill = r#"{"query": "mutation { killContainer(appId: \"nothing\", containerId: \"nothing\") { __typename } }"}"#;
    let (status, replayed, answer) = send("/graphql", "g1", kill).await;
    assert!(status == 200 && !replayed && !answer["errors"].is_null(), "{answer}");
    assert_eq!(send("/graphql", "g1", kill).await, (200, true, answer));
    let (_, _, told) = send("/graphql", "g2", r#"{"query": "{ rateLimit { cost limit remaining resetAt used } }"}"#).await;
    let number = |name: &str| told["data"]["rateLimit"][name].as_i64().unwrap_or_else(|| panic!("{told}"));
    assert!(number("cost") > 0 && number("used") >= number("cost") && number("used") + number("remaining") == number("limit"), "{told}");
    assert!(told["data"]["rateLimit"]["resetAt"].as_str().is_some_and(|at| at.parse::<domain::Timestamp>().is_ok()), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_many_at_once_one_is_executed() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ann = client(&world, &estate);
    let query = create("once");
    let answers = join_all((0..20).map(|_| ann.send(&query, Some("storm")))).await;
    let made: std::collections::BTreeSet<_> = answers.iter().filter(|one| one.0 == 200).map(|one| one.1.to_string()).collect();
    assert_eq!(made.len(), 1, "{answers:?}");
    assert!(answers.iter().all(|one| one.0 == 200 || one.0 == 409), "{answers:?}");
    assert_eq!(answers.iter().filter(|one| one.0 == 200 && !one.2).count(), 1);
    assert_eq!(ann.labels().await.iter().filter(|label| *label == "once").count(), 1);
    assert!(ann.send(&query, Some("storm")).await.2);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cost_of_an_operation_is_told_when_asked_for() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let bearer = format!("Bearer {}", estate.person.token);
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let ask = async |query: &str, extensions: Value| {
        let body = json!({"query": query, "extensions": extensions}).to_string();
        world.server.call("POST", "/graphql/v2", &headers, body.as_bytes()).await.json()
    };
    let query = "{ projects(first: 10) { edges { node { id } } } }";
    assert_eq!(ask(query, Value::Null).await.get("extensions"), None);
    let cost = async |query: &str| ask(query, json!({"cost": true})).await["extensions"]["cost"].clone();
    let (one, two) = (
        cost(query).await,
        cost("{ a: projects(first: 10) { edges { node { id } } } b: projects(first: 10) { edges { node { id } } } }").await,
    );
    assert!(one["requested"].as_u64().unwrap() > 10 && one["limit"].as_u64().unwrap() > 1_000_000, "{one}");
    assert_eq!(two["requested"].as_u64().unwrap(), 2 * one["requested"].as_u64().unwrap(), "an alias costs what its field costs");
    let dear = "{ projects(first: 500) { edges { node { services(first: 500) { edges { node { deployments(first: 500) { edges { node { id } } } } } } } } } }";
    let refused = ask(dear, json!({"cost": true})).await;
    assert_eq!(refused["errors"][0]["extensions"]["code"], json!("TOO_COMPLEX"), "{refused}");
    assert!(refused["extensions"]["cost"]["requested"].as_u64().unwrap() > one["limit"].as_u64().unwrap(), "{refused}");
}
