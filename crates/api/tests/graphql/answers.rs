//! The shapes of answers and errors that clients match (`contracts/railway.md` 1.2).

use domain::account::Plan;
use domain::metric::{INTERVAL, MetricSource, Usage};
use domain::rate::{Day, Kept, Subject};
use domain::{EnvironmentId, ProjectId, ReplicaId, Tenant, Timestamp};
use ops::Principal;
use ops::auth::{Presented, Surface, authenticate};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use store::UsageAdd;
use telemetry::metrics::Measured;

use crate::server::away_from_midnight;
use crate::world::World;

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_the_schema_and_nothing_else() {
    let world = World::start().await;
    let nobody = Principal::Anonymous;
    assert_eq!(world.data(&nobody, "{ __typename }", Value::Null).await, json!({"__typename": "Query"}));
    let schema = world.data(&nobody, "{ __schema { queryType { name } } __type(name: \"Project\") { kind } }", Value::Null).await;
    assert_eq!(schema, json!({"__schema": {"queryType": {"name": "Query"}}, "__type": {"kind": "OBJECT"}}));
    let error = world.error(&nobody, "{ __typename mine: me { id } }", Value::Null).await;
    assert!(error["message"].as_str().unwrap().contains("Not Authorized"), "{error}");
    assert_eq!(error["extensions"]["code"], json!("UNAUTHENTICATED"));
    assert_eq!((&error["path"], &error["locations"]), (&json!(["mine"]), &json!([{"line": 1, "column": 14}])));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_whole_introspection_query_is_answered() {
    let world = World::start().await;
    let kind = |depth: usize| format!("{}kind name{}", "kind name ofType { ".repeat(depth), " }".repeat(depth));
    let query = format!(
        "query IntrospectionQuery {{ __schema {{ description queryType {{ name kind }} mutationType {{ name kind }} subscriptionType {{ name kind }}
           types {{ ...FullType }}
           directives {{ name description isRepeatable locations args(includeDeprecated: true) {{ ...InputValue }} }} }} }}
         fragment FullType on __Type {{ kind name description specifiedByURL isOneOf
           fields(includeDeprecated: true) {{ name description args(includeDeprecated: true) {{ ...InputValue }} type {{ ...TypeRef }}
             isDeprecated deprecationReason }}
           inputFields(includeDeprecated: true) {{ ...InputValue }}
           interfaces {{ ...TypeRef }}
           enumValues(includeDeprecated: true) {{ name description isDeprecated deprecationReason }}
           possibleTypes {{ ...TypeRef }} }}
         fragment InputValue on __InputValue {{ name description type {{ ...TypeRef }} defaultValue isDeprecated deprecationReason }}
         fragment TypeRef on __Type {{ {} }}",
        kind(9)
    );
    let data = world.data(&Principal::Anonymous, &query, Value::Null).await;
    let types = data["__schema"]["types"].as_array().unwrap();
    let names: Vec<&str> = types.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"Deployment") && names.contains(&"EnvironmentVariables"), "{names:?}");
    assert!(!data.to_string().contains("__plain"));
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_documents_say_why_in_the_words_of_graphql_js() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ann = world.bearer(&estate.person.token).await;
    for (query, message) in [
        ("{ iacPartials }", "Cannot query field \"iacPartials\" on type \"Query\"."),
        ("{ me { id(x: 1) } }", "Unknown argument \"x\" on field \"User.id\"."),
        ("{ project { id } }", "Field \"project\" argument \"id\" of type \"String!\" is required, but it was not provided."),
        ("{ me }", "Field \"me\" of type \"User!\" must have a selection of subfields. Did you mean \"me { ... }\"?"),
        ("{ me { id }", "Syntax Error: Unexpected <EOF>."),
        ("", "Syntax Error: Unexpected <EOF>."),
        ("query A { me { id } } query B { me { id } }", "Must provide operation name if query contains multiple operations."),
        (
            "subscription { deployment(id: \"x\") { id } }",
            "Subscriptions are served over a websocket on this path, with the protocol graphql-transport-ws.",
        ),
        ("query P($id: String!) { project(id: $id) { id } }", "Variable \"$id\" of required type \"String!\" was not provided."),
    ] {
        let (status, body) = world.send(&ann, query, Value::Null).await;
        assert_eq!(status, 400, "{query}");
        assert_eq!(body["data"], Value::Null);
        assert_eq!(body["errors"][0]["message"], json!(message));
        let documentation = "/docs/errors#BAD_USER_INPUT";
        let extensions = json!({"code": "BAD_USER_INPUT", "requestId": "r-1", "documentation": documentation});
        assert_eq!(body["errors"][0]["extensions"], extensions);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_fields_are_an_answer_with_status_200() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ann = world.bearer(&estate.person.token).await;
    for (query, message, code) in [
        ("{ project(id: \"hello\") { id } }", "Project not found", "NOT_FOUND"),
        ("{ project(id: \"0197a000-0000-7000-8000-000000000000\") { id } }", "Project not found", "NOT_FOUND"),
        (
            "{ templates(after: \"nonsense\") { edges { cursor } } }",
            "the cursor \"nonsense\" is not in this list: pass endCursor or startCursor of a page unchanged, or read it from its beginning",
            "BAD_USER_INPUT",
        ),
        ("{ projects(first: 100000) { edges { cursor } } }", "first is 100000: a page has 0 to 500 rows", "BAD_USER_INPUT"),
        ("{ projects(first: 1, last: 1) { edges { cursor } } }", "first and last exclude each other: send one of them", "BAD_USER_INPUT"),
    ] {
        let (status, body) = world.send(&ann, query, Value::Null).await;
        assert_eq!((status, &body["data"]), (200, &Value::Null), "{body}");
        assert_eq!(body["errors"].as_array().unwrap().len(), 1, "{body}");
        assert_eq!(body["errors"][0]["message"], json!(message));
        assert_eq!(body["errors"][0]["extensions"]["code"], json!(code));
    }
    // No list of errors where there are none, and an empty cursor is none.
    for query in
        ["{ me { id } }", "{ templates(after: \"\") { edges { cursor } } }", "{ projects(after: \"\", before: \"\") { edges { cursor } } }"]
    {
        let (_, body) = world.send(&ann, query, Value::Null).await;
        assert_eq!(body.as_object().unwrap().keys().collect::<Vec<_>>(), ["data"], "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kind_of_token_is_named() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let token = world.project_token(&estate.project_token).await;
    let error = world.error(&token, "{ me { id } }", Value::Null).await;
    let text = error["message"].as_str().unwrap();
    assert!(text.contains("Not Authorized") && text.contains("account token") && text.contains("a project token was sent"), "{text}");
    let ann = world.bearer(&estate.person.token).await;
    let error = world.error(&ann, "{ projectToken { id } }", Value::Null).await;
    let text = error["message"].as_str().unwrap();
    assert!(text.contains("Not Authorized") && !text.to_lowercase().contains("project token not found"), "{text}");
    // Only an unknown project token is one that was not found.
    for (presented, found) in [
        (Presented::ProjectToken(SecretString::from("orp_nonsense")), true),
        (Presented::ProjectToken(SecretString::from(estate.person.token.as_str())), false),
        (Presented::Bearer(SecretString::from(estate.project_token.as_str())), false),
    ] {
        let error = authenticate(&world.server.ops, Surface::Railway, presented, Timestamp::now(), None).await.unwrap_err();
        assert_eq!(error.public.to_lowercase().contains("project token not found"), found, "{}", error.public);
        let body: Value = serde_json::from_slice(&api::graphql::error_body(&error, "r-9")).unwrap();
        let documentation = "/docs/errors#UNAUTHENTICATED";
        let extensions = json!({"code": "UNAUTHENTICATED", "requestId": "r-9", "documentation": documentation});
        assert_eq!(body, json!({"errors": [{"message": error.public, "extensions": extensions}], "data": null}));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_token_is_a_service_identity_with_one_workspace() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ctx = world.server.ctx(&estate.person.token).await;
    let (key, secret) = ops::token::api_token_create(&ctx, "robot", Some(estate.workspace)).await.unwrap();
    let robot = world.bearer(secret.expose_secret()).await;
    let query = "{ me { id name email workspaces { id name team { id } projects(first: 500) { edges { node { id name } } } } } }";
    let me = world.data(&robot, query, Value::Null).await["me"].clone();
    assert_eq!((&me["id"], &me["name"]), (&json!(key.id.to_string()), &json!("robot")));
    assert_eq!(me["email"], json!(format!("{}@keys.local", key.id)));
    assert_eq!(me["workspaces"].as_array().unwrap().len(), 1);
    assert_eq!(me["workspaces"][0]["id"], json!(estate.workspace.to_string()));
    assert_eq!(me["workspaces"][0]["projects"]["edges"][0]["node"]["id"], json!(estate.person.project.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn nulls_are_absent_and_json_goes_in_both_ways() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ann = world.bearer(&estate.person.token).await;
    let create = "mutation P($name: String, $workspaceId: String, $first: Int) {
        projectCreate(input: {name: $name, workspaceId: $workspaceId}) { name environments(first: $first) { edges { node { id name } } } } }";
    let made = world.data(&ann, create, json!({"name": null, "workspaceId": null, "first": null})).await;
    assert!(!made["projectCreate"]["name"].as_str().unwrap().is_empty());
    assert_eq!(made["projectCreate"]["environments"]["edges"][0]["node"]["name"], json!("production"));

    // Unset fields of an input that this server does not know are no error either; set ones are, by name.
    let create = "mutation P($input: ProjectCreateInput!) { projectCreate(input: $input) { name } }";
    let made = world.data(&ann, create, json!({"input": {"name": "t", "runtime": null, "repo": null, "isPublic": false}})).await;
    assert_eq!(made["projectCreate"]["name"], json!("t"));
    let (status, body) = world.send(&ann, create, json!({"input": {"name": "t", "runtime": "V2"}})).await;
    assert!(status == 400 && body["errors"][0]["message"].as_str().unwrap().contains("runtime"), "{body}");

    let (project, environment, service) = (estate.person.project, estate.person.environment, estate.service);
    let place = json!({"projectId": project.to_string(), "environmentId": environment.to_string(), "serviceId": service.to_string()});
    let upsert = "mutation V($input: VariableCollectionUpsertInput!) { variableCollectionUpsert(input: $input) }";
    let mut input = place.clone();
    input["variables"] = json!({"A": "1", "B": "é\n\"${{A}}"});
    world.data(&ann, upsert, json!({"input": input})).await;
    let literal = format!(
        "mutation {{ variableCollectionUpsert(input: {{projectId: \"{project}\", environmentId: \"{environment}\", serviceId: \"{service}\", \
         variables: {{C: \"ünicode\", D: 7, E: true}}, skipDeploys: true}}) }}"
    );
    world.data(&ann, &literal, Value::Null).await;
    let read = "query V($projectId: String!, $environmentId: String!, $serviceId: String!, $raw: Boolean) {
        variables(projectId: $projectId, environmentId: $environmentId, serviceId: $serviceId, unrendered: $raw) }";
    let mut ask = place;
    ask["raw"] = json!(true);
    let values = world.data(&ann, read, ask).await["variables"].clone();
    assert_eq!(
        (&values["A"], &values["B"], &values["C"], &values["D"], &values["E"]),
        (&json!("1"), &json!("é\n\"${{A}}"), &json!("ünicode"), &json!("7"), &json!("true"))
    );
    let mixed = literal.replace("mutation {", "mutation M($x: String!) {").replace("\"ünicode\"", "$x");
    let (status, body) = world.send(&ann, &mixed, json!({"x": "1"})).await;
    assert!(status == 400 && body["errors"][0]["message"].as_str().unwrap().contains("one variable"), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_of_clients_are_taken_in_any_shape() {
    let world = World::start().await;
    let track = "mutation CliEventTrack($input: CliEventTrackInput!) { cliEventTrack(input: $input) }";
    let input = json!({"command": "up", "ttyStreams": ["stdin"], "durationMs": "soon", "new": {"deep": [1]}});
    assert_eq!(world.data(&Principal::Anonymous, track, json!({"input": input})).await, json!({"cliEventTrack": true}));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_shapes_of_2022_are_answered() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ann = world.bearer(&estate.person.token).await;
    let query = format!(
        "query {{ project(id: \"{}\") {{ id name plugins {{ edges {{ node {{ id name }} }} }}
           environments {{ edges {{ node {{ id name }} }} }}
           services {{ edges {{ node {{ id name deployments {{ id status }} old: deployments {{ id }} new: deployments(first: 1) {{ edges {{ node {{ id }} }} }} }} }} }} }} }}",
        estate.person.project
    );
    for _ in 0..2 {
        let data = world.data(&ann, &query, Value::Null).await;
        let service = &data["project"]["services"]["edges"][0]["node"];
        assert_eq!(service["deployments"], json!([{"id": estate.deployment.to_string(), "status": "INITIALIZING"}]));
        assert_eq!(service["old"], json!([{"id": estate.deployment.to_string()}]));
        assert_eq!(service["new"]["edges"][0]["node"]["id"], json!(estate.deployment.to_string()));
        assert_eq!(data["project"]["plugins"]["edges"].as_array().map(Vec::len), Some(1));
        assert_eq!(data["project"]["plugins"]["edges"][0]["node"]["name"], json!("redis"));
    }
    let old =
        "mutation { projectCreate(input: {name: \"n\", teamId: \"TEAM\"}) { workspaceId } }".replace("TEAM", &estate.workspace.to_string());
    assert_eq!(world.data(&ann, &old, Value::Null).await["projectCreate"]["workspaceId"], json!(estate.workspace.to_string()));
    let listed = format!("{{ projects(teamId: \"{}\") {{ edges {{ node {{ name }} }} }} }}", estate.workspace);
    assert_eq!(world.data(&ann, &listed, Value::Null).await["projects"]["edges"].as_array().unwrap().len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_in_no_error_and_no_config_without_asking() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ann = world.bearer(&estate.person.token).await;
    let config = "query C($id: String!, $open: Boolean) { environment(id: $id) { config(decryptVariables: $open) } }";
    let id = estate.person.environment.to_string();
    let closed = world.data(&ann, config, json!({"id": id, "open": false})).await;
    assert!(!closed.to_string().contains("canary-7f3a"), "{closed}");
    let open = world.data(&ann, config, json!({"id": id, "open": true})).await;
    assert!(open.to_string().contains("canary-7f3a"), "{open}");
    assert!(world.server.ops.store.members(Tenant::system(estate.workspace)).await.unwrap().len() == 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_workspace_has_used_is_told_by_project() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ann = world.bearer(&estate.person.token).await;
    let source = MetricSource {
        workspace_id: estate.workspace,
        project_id: estate.person.project,
        environment_id: estate.person.environment,
        service_id: estate.service,
        replica: Some((estate.deployment, ReplicaId::generate())),
    };
    let deleted = MetricSource { project_id: ProjectId::generate(), ..source };
    let at = (Timestamp::now().as_second() - 3_600).div_euclid(INTERVAL) * INTERVAL;
    let used = Usage { cpu: 24.0, memory: 12.0 * 1_073_741_824.0, ..Usage::default() };
    world.server.ops.telemetry.metrics().record(Measured { at, usage: vec![(source, used), (deleted, used)], traffic: vec![] }).unwrap();
    let start = Timestamp::from_second(at - 3_600).unwrap();
    let usage = async |more: &str| {
        let arguments =
            format!("workspaceId: \"{}\", startDate: \"{start}\", measurements: [CPU_USAGE, MEMORY_USAGE_GB]", estate.workspace);
        let query = format!("{{ usage({arguments} {more}) {{ measurement value tags {{ projectId serviceId }} }} }}");
        let found = world.data(&ann, &query, Value::Null).await["usage"].as_array().unwrap().clone();
        found.into_iter().map(|one| (one["tags"]["projectId"].clone(), one["value"].as_f64().unwrap().round())).collect::<Vec<_>>()
    };
    // Five seconds of 24 cores and 12 GB.
    let project = json!(estate.person.project.to_string());
    assert_eq!(usage("groupBy: [PROJECT_ID]").await, [(project.clone(), 2.0), (project, 1.0)]);
    assert_eq!(usage("").await, [(Value::Null, 2.0), (Value::Null, 1.0)]);
    assert_eq!(usage("includeDeleted: true").await, [(Value::Null, 4.0), (Value::Null, 2.0)]);
    let credits = format!("{{ workspace(workspaceId: \"{}\") {{ flowCredits {{ used allowance }} }} }}", estate.workspace);
    let credits = world.data(&ann, &credits, Value::Null).await;
    let credits = ["used", "allowance"].map(|name| credits["workspace"]["flowCredits"][name].as_f64());
    assert_eq!(credits, [Some(0.0), Some(1_000_000.0)]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_project_token_is_told_what_its_own_environment_uses() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let (ann, token) = (world.bearer(&estate.person.token).await, world.project_token(&estate.project_token).await);
    let source = MetricSource {
        workspace_id: estate.workspace,
        project_id: estate.person.project,
        environment_id: estate.person.environment,
        service_id: estate.service,
        replica: Some((estate.deployment, ReplicaId::generate())),
    };
    let elsewhere = MetricSource { environment_id: EnvironmentId::generate(), ..source };
    let at = (Timestamp::now().as_second() - 3_600).div_euclid(INTERVAL) * INTERVAL;
    let used = Usage { cpu: 24.0, ..Usage::default() };
    world.server.ops.telemetry.metrics().record(Measured { at, usage: vec![(source, used), (elsewhere, used)], traffic: vec![] }).unwrap();
    let start = Timestamp::from_second(at - 3_600).unwrap();
    let (project, service) = (format!("projectId: \"{}\"", estate.person.project), format!("serviceId: \"{}\"", estate.service));
    let own = json!(estate.person.environment.to_string());
    for (field, place) in [("usage", &project), ("metrics", &project), ("metrics", &service)] {
        let arguments = format!("{place}, startDate: \"{start}\", measurements: [CPU_USAGE], groupBy: [ENVIRONMENT_ID]");
        let query = format!("{{ {field}({arguments}) {{ tags {{ environmentId }} }} }}");
        let environments = async |who: &Principal| {
            let found = world.data(who, &query, Value::Null).await[field].as_array().unwrap().clone();
            found.into_iter().map(|one| one["tags"]["environmentId"].clone()).collect::<Vec<_>>()
        };
        assert_eq!(environments(&ann).await.len(), 2, "{query}");
        assert_eq!(environments(&token).await, std::slice::from_ref(&own), "{query}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_is_told_with_what_is_used_of_it() {
    away_from_midnight().await;
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ann = world.bearer(&estate.person.token).await;
    let (store, tenant) = (&world.server.ops.store, Tenant::system(estate.workspace));
    // All of it happens on one day, whenever this test runs.
    let now = Timestamp::now();
    let allowed = Kept { day: Day::of(now), in_day: 5, ..Kept::default() };
    store.usage_add(&[UsageAdd { subject: Subject(estate.project_key.0), allowed, refused: 2 }]).await.unwrap();
    let fields =
        "containers containerLimit containersPerApp galaxyKeys keyLimits { perSecond perHour perDay } requestsToday requestsRefused";
    let query = format!("{{ workspace(workspaceId: \"{}\") {{ planUse {{ {fields} }} }} }}", estate.workspace);
    let told = async || world.data_at(&ann, now, &query).await["workspace"]["planUse"].clone();
    let containers = store.instances_of_workspace(tenant).await.unwrap().len();
    assert!(containers > 1, "an app and a database");
    let hobby = json!({
        "containers": containers, "containerLimit": world.server.ops.settings.apps.container_limit, "containersPerApp": 50, "galaxyKeys": false,
        "keyLimits": {"perSecond": null, "perHour": null, "perDay": null},
    });
    let mut first = told().await;
    let requests =
        ["requestsToday", "requestsRefused"].map(|name| first.as_object_mut().unwrap().remove(name).and_then(|one| one.as_f64()));
    assert_eq!((first, requests), (hobby, [Some(5.0), Some(2.0)]));

    world.server.plan(estate.workspace, Plan::Free).await;
    let free = told().await;
    assert_eq!((&free["containerLimit"], &free["containersPerApp"]), (&Value::Null, &json!(1)));
    assert_eq!(free["keyLimits"], json!({"perSecond": null, "perHour": null, "perDay": null}), "this server has no limits");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_operator_sees_everybody_and_keeps_copies_of_the_database() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let (store, now) = (&world.server.ops.store, Timestamp::now());
    let boss = ops::first_run::user_create(store, "boss@x.test", "Boss", true, None, now).await.unwrap();
    let (_, token) = ops::first_run::account_token(store, boss.id, "test", now).await.unwrap();
    let key = world.bearer(token.expose_secret()).await;
    let link = ops::first_run::login_link(store, boss.id, now).await.unwrap();
    let (_, cookie, _) = ops::account::login_link_use(&world.server.ops, &link, now, ops::account::Browser::default()).await.unwrap();
    let boss = authenticate(&world.server.ops, Surface::Railway, Presented::Session(cookie), now, None).await.unwrap();

    let plan = format!("mutation {{ workspacePlanSet(id: \"{}\", plan: FREE) {{ id }} }}", estate.workspace);
    world.data(&boss, &plan, Value::Null).await;
    let users = world.data(&boss, "{ operator { users { email isAdmin twoFactor workspaces { id plan role } } } }", Value::Null).await;
    let users = users["operator"]["users"].as_array().unwrap().clone();
    let ann = json!({"email": "ann@x.test", "isAdmin": false, "twoFactor": false,
        "workspaces": [{"id": estate.workspace.to_string(), "plan": "FREE", "role": "OWNER"}]});
    assert_eq!((users.len(), &users[0], &users[1]["isAdmin"]), (2, &ann, &json!(true)));

    let folder = world.server.blobs().with_file_name("store-backups");
    for second in 1..=14 {
        ops::operator::back_up(store, &folder, now - std::time::Duration::from_secs(100 - second)).await.unwrap();
    }
    let list = async || {
        let found = world.data(&boss, "{ operator { backups { name bytes } } }", Value::Null).await;
        found["operator"]["backups"].as_array().unwrap().clone()
    };
    let before = list().await;
    assert!(before.len() == 14 && before.iter().all(|one| one["bytes"].as_f64().unwrap() > 0.0), "{before:?}");
    let unfinished = ["orrery-old.db.part", "orrery-new.db.part"].map(|name| folder.join(name));
    for (path, age) in unfinished.iter().zip([2 * 86_400, 60]) {
        std::fs::File::create(path).unwrap().set_modified((now - std::time::Duration::from_secs(age)).into()).unwrap();
    }
    let made = world.data(&boss, "mutation { operatorBackupCreate { name } }", Value::Null).await;
    let after = list().await;
    assert_eq!((after.len(), &after[0]["name"]), (14, &made["operatorBackupCreate"]["name"]));
    assert_eq!(after[1..], before[..13], "the oldest made room");
    assert_eq!(unfinished.map(|path| path.exists()), [false, true], "what was interrupted stays for ever, or is taken from its maker");

    let delete = |name: &str| format!("mutation {{ operatorBackupDelete(name: \"{name}\") }}");
    for name in ["../orrery.db", "orrery-never.db"] {
        assert_eq!(world.error(&boss, &delete(name), Value::Null).await["extensions"]["code"], json!("NOT_FOUND"), "{name}");
    }
    let newest = delete(after[0]["name"].as_str().unwrap());
    for by_key in ["mutation { operatorBackupCreate { name } }", &newest] {
        assert_eq!(world.error(&key, by_key, Value::Null).await["extensions"]["code"], json!("FORBIDDEN"), "a key takes copies away");
    }
    assert_eq!(list().await, after);
    world.data(&boss, &newest, Value::Null).await;
    assert_eq!(list().await, after[1..]);
    let home = world.data(&boss, "{ me { workspaces { id } } }", Value::Null).await["me"]["workspaces"][0]["id"].clone();
    let log = world.data(&boss, &format!("{{ auditLogs(workspaceId: {home}) {{ edges {{ node {{ eventType }} }} }} }}"), Value::Null).await;
    let told = ["operator_backup_create", "operator_backup_delete"].map(|verb| log.to_string().matches(verb).count());
    assert_eq!(told, [1, 1], "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_names_itself_among_those_that_its_dashboard_leads_to() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ann = world.bearer(&estate.person.token).await;
    let found = world.data(&ann, "{ regionEndpoints { name url current } }", Value::Null).await;
    assert_eq!(found["regionEndpoints"], json!([{"name": "local", "url": world.server.origin(), "current": true}]));
}
