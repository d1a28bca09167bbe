//! Every route of Flow's, asked by everybody who must not have it (`SECURITY.md` rule 4).

use std::collections::{BTreeMap, BTreeSet};

use domain::delivery::{Delivery, DeliveryAttempt, DeliveryState, Target};
use domain::key::{KeyKind, KeyLimits};
use domain::workflow::edit::Place;
use domain::workflow::hide::HIDDEN;
use domain::workflow::run::{NodeRun, RunSource, RunStatus, Start};
use domain::{DeliveryId, NodeRunId, Role, RunId, Tenant, Timestamp, UserId, WorkflowId, WorkspaceId, cuid};
use ops::OpCtx;
use ops::api_key::ApiKeyCreate;
use ops::run::RunStart;
use secrecy::ExposeSecret as _;
use serde_json::{Map, Value, json};
use store::RunChange;

use crate::server::{Person, Reply};
use crate::walk::ended_keys;
use crate::world::World;

/// What a route needs in the workspace of what its path names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// No credential.
    Nothing,
    /// Some credential; it answers about the principal itself.
    Self_,
    /// To read.
    Read,
    /// To change something.
    Change,
    /// The same; what is not there is deleted already.
    Delete,
}
use Needs::{Change, Delete, Nothing, Read, Self_};

/// Every route with a body that it takes; `$name` stands for an id of the victim's.
const ROUTES: &[(&str, &str, Needs, &str)] = &[
    ("get", "/v1/credits/balance", Self_, ""),
    ("post", "/v1/hooks/{secret}", Nothing, "{}"),
    ("get", "/v1/media-library", Self_, ""),
    ("get", "/v1/media/{file}", Nothing, ""),
    ("get", "/v1/models", Self_, ""),
    ("get", "/v1/models/catalog", Nothing, ""),
    ("get", "/v1/models/search", Self_, ""),
    ("get", "/v1/models/{modelId}/pricing", Self_, ""),
    ("get", "/v1/models/{modelId}/schema", Self_, ""),
    ("post", "/v1/nodes/estimate-credits", Self_, "{\"nodes\": [{\"type\": \"merge\"}]}"),
    ("get", "/v1/nodes/runs/{runId}", Read, ""),
    ("post", "/v1/nodes/{nodeType}/run", Self_, "{\"input\": {}}"),
    ("get", "/v1/runs", Self_, ""),
    ("post", "/v1/runs", Change, "{\"workflowId\": \"$workflow\"}"),
    ("post", "/v1/runs/batch", Self_, "{\"ids\": [\"$run\", \"$direct\"]}"),
    ("get", "/v1/runs/{runId}", Read, ""),
    ("post", "/v1/runs/{runId}/cancel", Change, ""),
    ("get", "/v1/runs/{runId}/deliveries", Read, ""),
    ("post", "/v1/runs/{runId}/deliveries/{deliveryId}/replay", Change, ""),
    ("get", "/v1/system-workflows", Self_, ""),
    ("post", "/v1/uploads", Self_, "{\"filename\": \"a\", \"base64\": \"AAAA\"}"),
    ("get", "/v1/webhooks/secret", Self_, ""),
    ("get", "/v1/workflows", Self_, ""),
    ("post", "/v1/workflows", Self_, "{}"),
    ("post", "/v1/workflows/estimate-credits", Self_, "{\"nodes\": []}"),
    ("post", "/v1/workflows/quick-create", Self_, "{}"),
    ("delete", "/v1/workflows/{workflowId}", Delete, ""),
    ("get", "/v1/workflows/{workflowId}", Read, ""),
    ("patch", "/v1/workflows/{workflowId}", Change, "{\"name\": \"x\"}"),
    (
        "post",
        "/v1/workflows/{workflowId}/edges",
        Change,
        "{\"sourceNodeId\": \"$node\", \"sourceHandle\": \"out:result\", \"targetNodeId\": \"$node\", \"targetHandle\": \"in:items\"}",
    ),
    ("delete", "/v1/workflows/{workflowId}/edges/{edgeId}", Change, ""),
    ("get", "/v1/workflows/{workflowId}/media", Read, ""),
    ("post", "/v1/workflows/{workflowId}/nodes", Change, "{\"nodeType\": \"merge\"}"),
    ("delete", "/v1/workflows/{workflowId}/nodes/{nodeId}", Change, ""),
    ("patch", "/v1/workflows/{workflowId}/nodes/{nodeId}", Change, "{\"label\": \"x\"}"),
    ("get", "/v1/workflows/{workflowId}/triggers", Read, ""),
    ("post", "/v1/workflows/{workflowId}/triggers", Change, "{\"kind\": \"hook\"}"),
    ("delete", "/v1/workflows/{workflowId}/triggers/{triggerId}", Change, ""),
    ("patch", "/v1/workflows/{workflowId}/triggers/{triggerId}", Change, "{\"enabled\": false}"),
    ("post", "/v1/workflows/{workflowId}/triggers/{triggerId}/rotate", Change, ""),
];

/// What a person has of everything.
pub(crate) struct Estate {
    pub(crate) person: Person,
    pub(crate) workspace: WorkspaceId,
    pub(crate) user: UserId,
    pub(crate) workflow: String,
    pub(crate) node: String,
    pub(crate) trigger: String,
    secret: String,
    pub(crate) run: String,
    pub(crate) direct: String,
    file: String,
}

impl Estate {
    pub(crate) async fn of(world: &World, email: &str) -> Self {
        let person = world.server.person(email, None).await;
        let ctx = OpCtx { now: Timestamp::now(), ..world.server.ctx(&person.token).await };
        let flow = ops::workflow::workflow_create(&ctx, &format!("{email}'s own"), "", vec![]).await.unwrap();
        let (_, node) = ops::workflow::node_add(&ctx, flow.id, "merge", Place::default(), Map::new(), None).await.unwrap();
        let made = ops::flow_trigger::flow_trigger_create(&ctx, flow.id, Start::Hook).await.unwrap();
        let start = RunStart {
            workflow: cuid(flow.id.0),
            values: Map::new(),
            input_overrides: Map::new(),
            node_overrides: vec![],
            webhook: None,
            source: RunSource::Api,
        };
        let run = ops::run::run_start(&ctx, start).await.unwrap();
        let direct = ops::run::node_run_start(&ctx, "merge", None, Map::new(), None, RunSource::Api).await.unwrap();
        let file = ops::file::file_add(&ctx, "secret-file.txt", b"canary").await.unwrap();
        let url = made.url.unwrap().expose_secret().to_owned();
        Self {
            workspace: flow.workspace_id,
            user: person.user.id,
            workflow: cuid(flow.id.0),
            node,
            trigger: cuid(made.trigger.id.0),
            secret: url.rsplit('/').next().unwrap().to_owned(),
            run: run.0.to_string(),
            direct: cuid(direct.0),
            file: file.file.id.0.to_string(),
            person,
        }
    }

    fn path(&self, path: &str) -> String {
        let run = if path.starts_with("/v1/nodes/") { &self.direct } else { &self.run };
        let forged = format!("{}?expires=9999999999&signature=AAAA", self.file);
        let names = [
            ("{workflowId}", self.workflow.as_str()),
            ("{file}", &forged),
            ("{nodeId}", &self.node),
            ("{edgeId}", "edge_1_x"),
            ("{runId}", run),
            ("{triggerId}", &self.trigger),
            ("{deliveryId}", "00000000-0000-7000-8000-000000000000"),
            ("{modelId}", "merge"),
            ("{nodeType}", "merge"),
            ("{secret}", "wrong"),
        ];
        format!("/api{}", names.iter().fold(path.to_owned(), |path, (name, id)| path.replace(name, id)))
    }

    fn body(&self, body: &str) -> String {
        let names = [("$workflow", &self.workflow), ("$node", &self.node), ("$run", &self.run), ("$direct", &self.direct)];
        names.iter().fold(body.to_owned(), |body, (name, id)| body.replace(name, id))
    }

    /// What a stranger must never see.
    pub(crate) fn ids(&self) -> [&str; 8] {
        [&self.workflow, &self.node, &self.trigger, &self.secret, &self.run, &self.direct, &self.file, "victim@x.test's own"]
    }
}

/// One request; whether it has written anything.
async fn ask(world: &World, bearer: Option<&str>, victim: &Estate, route: &(&str, &str, Needs, &str)) -> (Reply, bool) {
    let (method, path, _, body) = *route;
    let bearer = bearer.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("Content-Type", "application/json")];
    headers.extend(bearer.as_ref().map(|bearer| ("Authorization", bearer.as_str())));
    let before = world.server.ops.store.generation();
    let reply = world.server.call(&method.to_ascii_uppercase(), &victim.path(path), &headers, victim.body(body).as_bytes()).await;
    (reply, world.server.ops.store.generation() != before)
}

#[test]
fn the_walk_misses_no_route() {
    let document: Value = serde_json::from_str(&api::flow::openapi()).unwrap();
    let paths = document["paths"].as_object().unwrap();
    let served: BTreeSet<(&str, &str)> = paths
        .iter()
        .flat_map(|(path, operations)| operations.as_object().unwrap().keys().map(|method| (method.as_str(), path.as_str())))
        .collect();
    let walked: BTreeSet<(&str, &str)> = ROUTES.iter().map(|(method, path, ..)| (*method, *path)).collect();
    assert_eq!(served, walked);
}

#[test]
fn the_document_names_the_headers_of_requests_and_answers() {
    let document: Value = serde_json::from_str(&api::flow::openapi()).unwrap();
    let reset = document["components"]["headers"]["X-RateLimit-Reset"]["description"].as_str().unwrap();
    assert!(reset.contains("milliseconds"), "{reset}");
    let run = &document["paths"]["/v1/runs"]["post"];
    let named = |header: &str| Value::from(format!("#/components/headers/{header}"));
    for name in ["X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset", "RateLimit-Policy", "RateLimit", "Retry-After"] {
        assert!(document["components"]["headers"][name].is_object(), "{name}");
        assert_eq!(run["responses"]["429"]["headers"][name]["$ref"], named(name));
    }
    for (status, response) in run["responses"].as_object().unwrap() {
        assert_eq!(response["headers"]["X-RateLimit-Limit"]["$ref"], named("X-RateLimit-Limit"), "{status}");
        assert_eq!(response["headers"].get("Retry-After").is_some(), status == "429", "{status}");
    }
    let takes_key = |path: &str, method: &str| {
        let parameters = document["paths"][path][method]["parameters"].as_array().cloned().unwrap_or_default();
        parameters.iter().any(|one| one["$ref"] == "#/components/parameters/IdempotencyKey")
    };
    assert!(takes_key("/v1/runs", "post") && takes_key("/v1/workflows", "post"));
    assert!(!takes_key("/v1/runs", "get") && !takes_key("/v1/hooks/{secret}", "post"));
}

/// Asks for everything with what is no working key.
async fn is_nobody(world: &World, bearer: Option<&str>, victim: &Estate) {
    for route in ROUTES {
        let (reply, written) = ask(world, bearer, victim, route).await;
        let expected = match (route.2, route.1) {
            (Nothing, "/v1/models/catalog") => 200,
            (Nothing, _) => 404,
            _ => 401,
        };
        assert!(reply.status == expected && !written, "{} {}: {} {}", route.0, route.1, reply.status, reply.text());
    }
}

/// Asks for everything with a key of somebody else.
async fn is_stranger(world: &World, token: &str, victim: &Estate) {
    for route in ROUTES {
        // The use of a key is written down once a minute.
        ask(world, Some(token), victim, &ROUTES[0]).await;
        let (reply, written) = ask(world, Some(token), victim, route).await;
        let told = format!("{} {}: {} {}", route.0, route.1, reply.status, reply.text());
        match route.2 {
            Read | Change => assert!(reply.status == 404 && !written, "{told}"),
            Delete => assert!(reply.status == 200 && !written, "{told}"),
            Nothing | Self_ => assert!([200, 202, 404].contains(&reply.status), "{told}"),
        }
        assert!(victim.ids().iter().all(|id| !reply.text().contains(id)), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_answers_to_a_key_that_has_ended() {
    let world = World::start().await;
    let victim = Estate::of(&world, "victim@x.test").await;
    for kind in [KeyKind::Account, KeyKind::Workspace, KeyKind::Flow] {
        for (_, value) in &ended_keys(&world, &victim.person, victim.workspace, kind).await {
            let token = value.strip_prefix("Bearer ");
            // The first refusal of a key is written down.
            ask(&world, token, &victim, &ROUTES[0]).await;
            is_nobody(&world, token, &victim).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_and_no_stranger_gets_anything_of_a_workflow() {
    let world = World::start().await;
    let (victim, stranger) = (Estate::of(&world, "victim@x.test").await, Estate::of(&world, "stranger@x.test").await);
    let unknown = domain::key::encode(KeyKind::Flow, &[9; 32]);
    for bearer in [None, Some(unknown.as_str())] {
        is_nobody(&world, bearer, &victim).await;
    }
    let ctx = world.server.ctx(&stranger.person.token).await;
    let (_, team) = ops::token::api_token_create(&ctx, "team", Some(stranger.workspace)).await.unwrap();
    let wanted = ApiKeyCreate {
        kind: KeyKind::Flow,
        label: Some("flow".into()),
        workspace: None,
        environment: None,
        limits: KeyLimits { minute: Some(1_000), ..KeyLimits::OF_PLAN },
        expires_at: None,
    };
    let (_, flow) = ops::api_key::api_key_create(&ctx, wanted).await.unwrap();
    for token in [stranger.person.token.as_str(), team.expose_secret(), flow.expose_secret()] {
        is_stranger(&world, token, &victim).await;
    }
    let of_victim = format!("/api/v1/runs?workflowId={}", victim.workflow);
    let bearer = format!("Bearer {}", stranger.person.token);
    let listed = world.server.call("GET", &of_victim, &[("Authorization", &bearer)], b"").await.json();
    assert_eq!(listed["items"], serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn only_members_change_workflows() {
    let world = World::start().await;
    let (victim, other) = (Estate::of(&world, "victim@x.test").await, Estate::of(&world, "other@x.test").await);
    for role in [Role::Viewer, Role::Deployer, Role::Member] {
        world.member(victim.workspace, other.user, role).await;
        for route in ROUTES {
            ask(&world, Some(&other.person.token), &victim, &ROUTES[0]).await;
            let (reply, written) = ask(&world, Some(&other.person.token), &victim, route).await;
            let told = format!("{role:?}, {} {}: {} {}", route.0, route.1, reply.status, reply.text());
            match route.2 {
                Change | Delete if role == Role::Member => assert!(![401, 403].contains(&reply.status), "{told}"),
                // The workflow is gone once the member has deleted it.
                Read => assert!(role == Role::Member || (reply.status == 200 && !written), "{told}"),
                Change | Delete => {
                    assert!(reply.status == 403 && !written, "{told}");
                    assert!(reply.text().contains("needs the role MEMBER"), "{told}");
                }
                Nothing | Self_ => {}
            }
            assert!(role == Role::Member || !reply.text().contains(&victim.secret), "{told}");
        }
    }
}

/// What a workflow of the owner's, a schedule, a run and a direct run hold, each with a secret in it: by REST and by MCP.
async fn secrets(world: &World, owner: &Estate) -> Vec<(String, &'static str, Value)> {
    let ctx = OpCtx { now: Timestamp::now(), ..world.server.ctx(&owner.person.token).await };
    let id = domain::parse_cuid(&owner.workflow).map(WorkflowId).unwrap();
    let map = |value: Value| value.as_object().unwrap().clone();
    let inputs = json!({"url": "https://example.com/?key=canary", "method": "PUT", "headers": {"authorization": "canary"}});
    ops::workflow::node_add(&ctx, id, "http_request", Place::default(), map(inputs), None).await.unwrap();
    let schedule = Start::Schedule { cron: "0 3 * * *".into(), timezone: None, values: map(json!({"field": "canary"})) };
    ops::flow_trigger::flow_trigger_create(&ctx, id, schedule).await.unwrap();
    let direct = ops::run::node_run_start(&ctx, "merge", None, map(json!({"a": "canary"})), None, RunSource::Api).await.unwrap();
    let run: RunId = owner.run.parse().unwrap();
    let node = NodeRun {
        id: NodeRunId::generate(),
        workspace_id: owner.workspace,
        run_id: run,
        node_id: owner.node.clone(),
        node_type: "merge".into(),
        status: RunStatus::Failed,
        attempts: 1,
        failures: 1,
        input: Some(json!({"headers": {"authorization": "canary"}})),
        output: Some(json!({"body": "canary"})),
        logs: vec!["canary".into()],
        error: Some("canary is no header".into()),
        credits: 0,
        started_at: Some(ctx.now),
        finished_at: Some(ctx.now),
    };
    let row = store::Change::Run(RunChange::Node(node));
    world.server.ops.store.commit(Tenant::system(owner.workspace), vec![row]).await.unwrap();
    let (run, direct, workflow) = (&owner.run, cuid(direct.0), &owner.workflow);
    vec![
        (format!("/api/v1/workflows/{workflow}"), "get_workflow", json!({"workflowId": workflow})),
        (format!("/api/v1/workflows/{workflow}/triggers"), "list_triggers", json!({"workflowId": workflow})),
        (format!("/api/v1/runs/{run}?inDetails=true"), "get_run", json!({"runId": run})),
        (format!("/api/v1/nodes/runs/{direct}"), "get_model_run", json!({"runId": direct})),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_sees_the_shape_of_workflows_and_no_value() {
    let world = World::start().await;
    let (owner, viewer) = (Estate::of(&world, "owner@x.test").await, Estate::of(&world, "viewer@x.test").await);
    world.member(owner.workspace, viewer.user, Role::Viewer).await;
    for (path, tool, arguments) in secrets(&world, &owner).await {
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}).to_string();
        for (who, sees) in [(&owner, true), (&viewer, false)] {
            let bearer = format!("Bearer {}", who.person.token);
            let headers = [
                ("Authorization", bearer.as_str()),
                ("Content-Type", "application/json"),
                ("Accept", "application/json, text/event-stream"),
            ];
            let rest = world.server.call("GET", &path, &headers, b"").await;
            let mcp = world.server.call("POST", "/api/mcp", &headers, call.as_bytes()).await;
            assert!(rest.status == 200 && mcp.json()["result"]["isError"] == false, "{path}: {} {}", rest.text(), mcp.text());
            for answer in [rest.text(), mcp.text()] {
                assert_eq!((answer.contains("canary"), answer.contains(HIDDEN)), (sees, !sees), "{path}: {answer}");
            }
        }
    }
    let bearer = format!("Bearer {}", viewer.person.token);
    let graph = world.server.call("GET", &viewer.path("/v1/workflows/{workflowId}"), &[("Authorization", &bearer)], b"").await;
    assert!(!graph.text().contains(HIDDEN), "what is one's own is not hidden");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_sees_that_a_webhook_was_asked_and_not_what_was_said() {
    let world = World::start().await;
    let (owner, viewer) = (Estate::of(&world, "owner@x.test").await, Estate::of(&world, "viewer@x.test").await);
    world.member(owner.workspace, viewer.user, Role::Viewer).await;
    let (run, at): (RunId, _) = (owner.run.parse().unwrap(), Timestamp::now());
    let delivery = Delivery {
        id: DeliveryId::generate(),
        workspace_id: owner.workspace,
        kind: ops::run::DELIVERIES.into(),
        subject: run.to_string(),
        target: Target::Webhook { url: "https://hooks.example.com/".into(), headers: BTreeMap::new(), secret: None },
        body: json!({"error": "canary"}).to_string(),
        state: DeliveryState::Pending,
        attempts: 1,
        tries: 1,
        next_at: at,
        created_at: at,
        updated_at: at,
    };
    let error = Some("the receiver answered 400: canary is no header".to_owned());
    let attempt = DeliveryAttempt { delivery_id: delivery.id, number: 1, at, millis: 1, status: Some(400), error };
    let done = store::Change::DeliveryDone { attempt, state: DeliveryState::Failed, at, next: at };
    let changes = vec![store::Change::DeliveryInsert(delivery), done];
    world.server.ops.store.commit(Tenant::system(owner.workspace), changes).await.unwrap();
    for (who, told) in [(&owner, 2), (&viewer, 0)] {
        let bearer = format!("Bearer {}", who.person.token);
        let answer = world.server.call("GET", &format!("/v1/runs/{run}/deliveries"), &[("Authorization", &bearer)], b"").await;
        let text = answer.text();
        assert_eq!((text.matches("canary").count(), text.matches(HIDDEN).count()), (told, 2 - told), "{text}");
        assert_eq!(answer.json()["items"][0]["attempts"][0]["status"], 400, "{text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_of_workflows_says_how_the_newest_run_of_each_went() {
    let world = World::start().await;
    let (ann, _bob) = (Estate::of(&world, "ann@x.test").await, Estate::of(&world, "bob@x.test").await);
    let bearer = format!("Bearer {}", ann.person.token);
    let listed = async || world.server.call("GET", "/v1/workflows", &[("Authorization", &bearer)], b"").await.json();
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    let made = world.server.call("POST", "/v1/workflows", &headers, b"{\"name\": \"Never\"}").await.json();
    let of = |listed: &Value, id: &Value| {
        let found = listed["items"].as_array().unwrap().iter().find(|one| one["id"] == *id).unwrap_or_else(|| panic!("no {id}: {listed}"));
        found["lastRun"].clone()
    };
    let first = listed().await;
    assert_eq!(of(&first, &made["id"]), Value::Null);
    let last = of(&first, &json!(ann.workflow));
    assert_eq!((&last["id"], &last["status"]), (&json!(ann.run), &json!("QUEUED")));
    let body = json!({"workflowId": ann.workflow}).to_string();
    let again = world.server.call("POST", "/v1/runs", &headers, body.as_bytes()).await.json();
    assert_eq!(of(&listed().await, &json!(ann.workflow))["id"], again["runId"]);
    // However many there are, it is one more statement and not one each.
    let cost = async || {
        let before = world.server.ops.store.statements();
        listed().await;
        world.server.ops.store.statements() - before
    };
    let few = cost().await;
    let ctx = OpCtx { now: Timestamp::now(), ..world.server.ctx(&ann.person.token).await };
    for at in 0..5 {
        ops::workflow::workflow_create(&ctx, &format!("more {at}"), "", vec![]).await.unwrap();
    }
    listed().await;
    assert_eq!(cost().await, few);
}

/// A POST with an `Idempotency-Key`: its status, its answer, and whether that was the answer of an earlier one.
async fn keyed(world: &World, token: &str, key: &str, path: &str, body: &Value) -> (u16, Value, bool) {
    let bearer = format!("Bearer {token}");
    let headers = [
        ("Authorization", bearer.as_str()),
        ("Content-Type", "application/json"),
        ("Accept", "application/json, text/event-stream"),
        ("Idempotency-Key", key),
    ];
    let reply = world.server.call("POST", path, &headers, body.to_string().as_bytes()).await;
    (reply.status, reply.json(), reply.header("idempotency-replayed").is_some())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_sent_again_with_its_key_is_done_once() {
    let world = World::start().await;
    let (ann, bob) = (Estate::of(&world, "ann@x.test").await, Estate::of(&world, "bob@x.test").await);
    let token = ann.person.token.as_str();
    let count = async |path: &str| {
        let bearer = format!("Bearer {token}");
        let listed = world.server.call("GET", path, &[("Authorization", &bearer)], b"").await.json();
        listed["items"].as_array().unwrap().len()
    };
    let run = serde_json::json!({"workflowId": ann.workflow});
    let tool = serde_json::json!({
        "jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "create_workflow", "arguments": {"name": "By a tool"}},
    });
    for (path, body, expected, list) in [
        ("/api/v1/runs", run.clone(), 200, "/v1/runs"),
        ("/v1/nodes/merge/run", serde_json::json!({"input": {}}), 202, "/v1/runs"),
        ("/v1/workflows", serde_json::json!({"name": "Once"}), 200, "/v1/workflows"),
        ("/api/mcp", tool, 200, "/v1/workflows"),
    ] {
        let before = count(list).await;
        let (status, first, replayed) = keyed(&world, token, path, path, &body).await;
        assert!(status == expected && !replayed, "{path}: {status} {first}");
        let (status, again, replayed) = keyed(&world, token, path, path, &body).await;
        assert!(status == expected && replayed && again == first, "{path}: {status} {again} after {first}");
        assert_eq!(count(list).await, before + 1, "{path}");
    }
    let (status, problem, _) = keyed(&world, token, "/v1/workflows", "/v1/workflows", &serde_json::json!({"name": "Twice"})).await;
    assert!(status == 400 && problem.to_string().contains("another request"), "{problem}");
    // What was refused was not done, and its key is free.
    let (status, problem, _) = keyed(&world, token, "k2", "/v1/runs", &serde_json::json!({"workflowId": ""})).await;
    assert_eq!(status, 400, "{problem}");
    let (status, started, replayed) = keyed(&world, token, "k2", "/v1/runs", &run).await;
    assert!(status == 200 && !replayed, "{started}");
    // Another person's keys are their own.
    let (status, problem, _) = keyed(&world, &bob.person.token, "k2", "/v1/runs", &run).await;
    assert_eq!(status, 404, "{problem}");
}
