//! Every tool of MCP, asked by everybody who must not have it (`SECURITY.md` rule 4).

use std::collections::BTreeSet;

use domain::key::{KeyKind, KeyLimits};
use domain::rate::Limits;
use domain::{Role, Timestamp};
use ops::OpCtx;
use ops::api_key::{ApiKeyCreate, api_key_create, api_key_revoke};
use ops::limit::{LimitRules, Limiter};
use ops::service::ServiceCreate;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use crate::flow::Estate;
use crate::flow::Needs::{self, Change, Delete, Read, Self_};
use crate::server::{Reply, Server};
use crate::world::World;

/// Every tool with arguments that it takes; `$name` stands for an id of the victim's.
const TOOLS: &[(&str, Needs, &str)] = &[
    ("add_node", Change, r#"{"workflowId": "$workflow", "nodeType": "merge"}"#),
    ("cancel_run", Change, r#"{"runId": "$run"}"#),
    (
        "connect_nodes",
        Change,
        r#"{"workflowId": "$workflow", "sourceNodeId": "$node", "sourceHandle": "out:result", "targetNodeId": "$node", "targetHandle": "in:items"}"#,
    ),
    ("create_environment", Change, r#"{"projectId": "$project", "name": "staging"}"#),
    ("create_trigger", Change, r#"{"workflowId": "$workflow", "kind": "hook"}"#),
    ("create_workflow", Self_, r#"{"name": "x"}"#),
    ("delete_node", Change, r#"{"workflowId": "$workflow", "nodeId": "$node"}"#),
    ("delete_trigger", Change, r#"{"workflowId": "$workflow", "triggerId": "$trigger"}"#),
    ("delete_workflow", Delete, r#"{"workflowId": "$workflow"}"#),
    ("deploy", Change, r#"{"environmentId": "$environment", "serviceId": "$service"}"#),
    ("disconnect_nodes", Change, r#"{"workflowId": "$workflow", "edgeId": "edge_1_x"}"#),
    ("get_balance", Self_, "{}"),
    ("get_model_run", Read, r#"{"runId": "$direct"}"#),
    ("get_model_schema", Self_, r#"{"modelId": "merge"}"#),
    ("get_pricing", Self_, r#"{"modelId": "merge"}"#),
    ("get_run", Read, r#"{"runId": "$run"}"#),
    ("get_run_status", Read, r#"{"runId": "$run", "runType": "workflow", "waitSeconds": 0}"#),
    ("get_runs", Self_, r#"{"ids": ["$run", "$direct"]}"#),
    ("get_workflow", Read, r#"{"workflowId": "$workflow"}"#),
    ("list_apps", Self_, "{}"),
    ("list_deployments", Read, r#"{"environmentId": "$environment", "serviceId": "$service"}"#),
    ("list_models", Self_, "{}"),
    ("list_node_types", Self_, "{}"),
    ("list_runs", Self_, r#"{"workflowId": "$workflow"}"#),
    ("list_system_workflows", Self_, "{}"),
    ("list_triggers", Read, r#"{"workflowId": "$workflow"}"#),
    ("list_workflows", Self_, "{}"),
    ("logs", Read, r#"{"deploymentId": "$deployment"}"#),
    ("metrics", Read, r#"{"environmentId": "$environment", "serviceId": "$service"}"#),
    ("redeploy", Change, r#"{"deploymentId": "$deployment"}"#),
    ("restart", Change, r#"{"deploymentId": "$deployment"}"#),
    ("rollback", Change, r#"{"deploymentId": "$deployment"}"#),
    ("run_model", Self_, r#"{"nodeType": "merge", "input": {}}"#),
    ("run_system_workflow", Self_, r#"{"name": "fill-template", "inputs": {"template": "x"}}"#),
    ("scale", Change, r#"{"environmentId": "$environment", "serviceId": "$service", "replicas": 2}"#),
    ("set_variable", Change, r#"{"environmentId": "$environment", "serviceId": "$service", "name": "A", "value": "b"}"#),
    ("start_run", Change, r#"{"workflowId": "$workflow"}"#),
    ("update_node", Change, r#"{"workflowId": "$workflow", "nodeId": "$node", "inputs": {}}"#),
    ("update_workflow", Change, r#"{"workflowId": "$workflow", "name": "x"}"#),
    ("upload_file", Self_, r#"{"filename": "a", "base64": "AAAA"}"#),
];

/// What somebody has: workflows, and an app that was deployed once.
struct Victim {
    flow: Estate,
    names: [(&'static str, String); 9],
}

impl Victim {
    async fn of(world: &World, email: &str) -> Self {
        let flow = Estate::of(world, email).await;
        let person = &flow.person;
        let ctx = now(&world.server.ctx(&person.token).await);
        let wanted = ServiceCreate {
            project: person.project,
            environment: None,
            name: Some("web".into()),
            icon: None,
            source: None,
            variables: Default::default(),
        };
        let service = ops::service::service_create(&ctx, wanted).await.unwrap().row.id;
        let deployment = world.deploy(&ctx, person, Some(service)).await;
        let names = [
            ("$workflow", flow.workflow.clone()),
            ("$node", flow.node.clone()),
            ("$trigger", flow.trigger.clone()),
            ("$run", flow.run.clone()),
            ("$direct", flow.direct.clone()),
            ("$project", person.project.to_string()),
            ("$environment", person.environment.to_string()),
            ("$service", service.to_string()),
            ("$deployment", deployment.to_string()),
        ];
        Self { flow, names }
    }

    fn arguments(&self, text: &str) -> Value {
        let text = self.names.iter().fold(text.to_owned(), |text, (name, id)| text.replace(name, id));
        serde_json::from_str(&text).unwrap()
    }

    /// What a stranger must never see.
    fn ids(&self) -> impl Iterator<Item = &str> {
        self.flow.ids().into_iter().chain(self.names.iter().map(|(_, id)| id.as_str()))
    }
}

fn now(ctx: &OpCtx) -> OpCtx {
    OpCtx { now: Timestamp::now(), ..ctx.clone() }
}

/// A message of MCP's; the answer as it came.
async fn send(server: &Server, bearer: Option<&str>, method: &str, params: Value) -> Reply {
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let bearer = bearer.map(|token| format!("Bearer {token}"));
    let mut headers = vec![("Content-Type", "application/json"), ("Accept", "application/json, text/event-stream")];
    headers.extend(bearer.as_ref().map(|bearer| ("Authorization", bearer.as_str())));
    server.call("POST", "/api/mcp", &headers, body.as_bytes()).await
}

/// Calls a tool; the answer, and whether anything was written.
async fn call(world: &World, bearer: Option<&str>, victim: &Victim, tool: &(&str, Needs, &str)) -> (Reply, bool) {
    let before = world.server.ops.store.generation();
    let params = json!({"name": tool.0, "arguments": victim.arguments(tool.2)});
    let reply = send(&world.server, bearer, "tools/call", params).await;
    (reply, world.server.ops.store.generation() != before)
}

/// Whether the tool has refused, and what it said.
fn told(reply: &Reply) -> (bool, String) {
    assert_eq!(reply.status, 200, "{}", reply.text());
    let result = reply.json()["result"].clone();
    let text = result["content"][0]["text"].as_str().unwrap_or_else(|| panic!("no text: {result}")).to_owned();
    (result["isError"] == true, text)
}

/// A Flow key of somebody's, with the id that revokes it.
async fn flow_key(ctx: &OpCtx, label: &str) -> (domain::ApiKeyId, String) {
    let wanted = ApiKeyCreate {
        kind: KeyKind::Flow,
        label: Some(label.to_owned()),
        workspace: None,
        environment: None,
        limits: KeyLimits::OF_PLAN,
        expires_at: None,
    };
    let (key, secret) = api_key_create(ctx, wanted).await.unwrap();
    (key.id, secret.expose_secret().to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_walk_misses_no_tool() {
    let world = World::start().await;
    let ann = world.server.person("ann@x.test", None).await;
    let listed = send(&world.server, Some(&ann.token), "tools/list", json!({})).await.json();
    let tools = listed["result"]["tools"].as_array().unwrap_or_else(|| panic!("{listed}"));
    let named: BTreeSet<&str> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert_eq!(named, TOOLS.iter().map(|(name, ..)| *name).collect());
    assert_eq!(tools.len(), TOOLS.len(), "no name twice");
    for tool in tools {
        let (_, _, arguments) = TOOLS.iter().find(|(name, ..)| tool["name"] == *name).unwrap();
        let arguments: Value = serde_json::from_str(arguments).unwrap();
        let schema = &tool["inputSchema"];
        let said = tool["description"].as_str().is_some_and(|text| !text.is_empty());
        assert!(said && schema["type"] == "object", "{tool}");
        for name in schema["required"].as_array().unwrap() {
            assert!(schema["properties"][name.as_str().unwrap()].is_object() && arguments.get(name.as_str().unwrap()).is_some(), "{tool}");
        }
    }
}

/// Arrays of a schema that do not say what they hold, by their place.
fn vague_arrays(schema: &Value, place: &str) -> Vec<String> {
    let own = schema["type"] == "array" && !schema["items"].is_object();
    let children = schema["properties"].as_object().into_iter().flatten().map(|(name, inner)| (name.as_str(), inner));
    let children = children.chain(schema.get("items").map(|inner| ("[]", inner)));
    own.then(|| place.to_owned())
        .into_iter()
        .chain(children.flat_map(|(name, inner)| vague_arrays(inner, &format!("{place}.{name}"))))
        .collect()
}

/// VS Code and clients of OpenAI's and Gemini's models refuse a tool whose schema has an array without `items`.
#[tokio::test(flavor = "multi_thread")]
async fn every_array_that_a_tool_takes_says_what_it_holds() {
    let world = World::start().await;
    let ann = world.server.person("ann@x.test", None).await;
    let listed = send(&world.server, Some(&ann.token), "tools/list", json!({})).await.json();
    let tools = listed["result"]["tools"].as_array().unwrap_or_else(|| panic!("{listed}"));
    for tool in tools {
        assert_eq!(vague_arrays(&tool["inputSchema"], tool["name"].as_str().unwrap()), Vec::<String>::new());
    }
    let takes = |name: &str| &tools.iter().find(|tool| tool["name"] == name).unwrap()["inputSchema"]["properties"];
    assert_eq!(takes("get_runs")["ids"]["items"], json!({"type": "string"}));
    let field = &takes("create_workflow")["requestFields"]["items"];
    assert_eq!(field["required"], json!(["name", "type"]));
    let types = field["properties"]["type"]["enum"].as_array().unwrap();
    assert!(types.contains(&json!("text")) && types.contains(&json!("image")), "{field}");
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_and_no_stranger_gets_anything_through_a_tool() {
    let world = World::start().await;
    let (victim, stranger) = (Victim::of(&world, "victim@x.test").await, Victim::of(&world, "stranger@x.test").await);
    let ctx = now(&world.server.ctx(&victim.flow.person.token).await);
    let (id, revoked) = flow_key(&ctx, "old").await;
    let (reply, _) = call(&world, Some(&revoked), &victim, &("get_workflow", Read, r#"{"workflowId": "$workflow"}"#)).await;
    assert!(!told(&reply).0, "it worked: {}", reply.text());
    api_key_revoke(&now(&ctx), id).await.unwrap();
    // The first refusal of a key is written down.
    call(&world, Some(&revoked), &victim, &("get_balance", Self_, "{}")).await;
    for tool in TOOLS {
        for bearer in [None, Some(revoked.as_str())] {
            let (reply, written) = call(&world, bearer, &victim, tool).await;
            assert!(reply.status == 401 && !written, "{}: {} {}", tool.0, reply.status, reply.text());
            assert_eq!(reply.json()["error"], "Invalid or expired API key.", "{}", tool.0);
        }
    }
    let token = stranger.flow.person.token.as_str();
    for tool in TOOLS {
        // The use of a key is written down once a minute.
        call(&world, Some(token), &victim, &("get_balance", Self_, "{}")).await;
        let (reply, written) = call(&world, Some(token), &victim, tool).await;
        let (refused, text) = told(&reply);
        match tool.1 {
            Read | Change => assert!(refused && text.ends_with(" not found") && !written, "{}: {text}", tool.0),
            Delete => assert!(!refused && !written, "{}: {text}", tool.0),
            Self_ | Needs::Nothing => assert!(!refused, "{}: {text}", tool.0),
        }
        assert!(victim.ids().all(|id| !reply.text().contains(id)), "{}: {}", tool.0, reply.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_changes_nothing_through_a_tool() {
    let world = World::start().await;
    let (victim, viewer) = (Victim::of(&world, "victim@x.test").await, Victim::of(&world, "viewer@x.test").await);
    world.member(victim.flow.workspace, viewer.flow.user, Role::Viewer).await;
    let token = viewer.flow.person.token.as_str();
    for tool in TOOLS {
        call(&world, Some(token), &victim, &("get_balance", Self_, "{}")).await;
        let (reply, written) = call(&world, Some(token), &victim, tool).await;
        let (refused, text) = told(&reply);
        match tool.1 {
            Read => assert!(!refused && !written, "{}: {text}", tool.0),
            Change | Delete => assert!(refused && text.contains("it needs the role ") && !written, "{}: {text}", tool.0),
            Self_ | Needs::Nothing => {}
        }
    }
}

/// A tool that must have gone well; what it gave.
async fn gives(server: &Server, bearer: &str, name: &str, arguments: Value) -> Value {
    let reply = send(server, Some(bearer), "tools/call", json!({"name": name, "arguments": arguments})).await;
    let result = reply.json()["result"].clone();
    assert_eq!(result["isError"], false, "{name}: {}", reply.text());
    result["structuredContent"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_system_workflow_says_what_it_takes_before_it_starts() {
    let world = World::start().await;
    let token = world.server.person("ann@x.test", None).await.token;
    let listed = gives(&world.server, &token, "list_system_workflows", json!({})).await;
    let fetch = listed["items"].as_array().unwrap().iter().find(|one| one["slug"] == "fetch-json").unwrap();
    let request = fetch["requestNodeId"].as_str().unwrap();
    assert_eq!((&fetch["fields"][0]["id"], &fetch["fields"][0]["type"]), (&json!("field_url"), &json!("text")));
    gives(&world.server, &token, "create_workflow", json!({"name": "Not fetch-json itself"})).await;
    let before = world.server.ops.store.generation();
    for (tool, arguments) in [
        ("start_run", json!({"name": "Fetch JSON"})),
        ("start_run", json!({"workflowId": "fetch-json"})),
        ("run_system_workflow", json!({"name": "Fetch JSON"})),
    ] {
        let told = gives(&world.server, &token, tool, arguments).await;
        assert_eq!(
            (&told["started"], &told["requestNodeId"], &told["fields"]),
            (&json!(false), &json!(request), &fetch["fields"]),
            "{tool}"
        );
    }
    assert_eq!(world.server.ops.store.generation(), before, "nothing was started");
    let nameless = json!({"name": "run_system_workflow", "arguments": {"name": " ", "inputs": {"url": "x"}}});
    assert!(told(&send(&world.server, Some(&token), "tools/call", nameless).await).0);
    let graph = gives(&world.server, &token, "get_workflow", json!({"workflowId": "fetch-json"})).await;
    assert_eq!((&graph["id"], &graph["nodes"][0]["id"]), (&json!("fetch-json"), &json!(request)));
    let values = json!({request: {"url": "https://example.com/"}});
    let started = gives(&world.server, &token, "start_run", json!({"workflowId": "fetch-json", "values": values})).await;
    // A run of something else is none of its.
    gives(&world.server, &token, "run_system_workflow", json!({"name": "fill-template", "inputs": {"template": "x"}})).await;
    for (filter, count) in [("", 1), ("&status=queued", 1), ("&status=failed", 0), ("&search=FETCH", 1), ("&search=fill", 0)] {
        let path = format!("/v1/runs?workflowId=fetch-json{filter}");
        let runs = world.server.call("GET", &path, &[("Authorization", &format!("Bearer {token}"))], b"").await.json();
        let ids: Vec<&Value> = runs["items"].as_array().unwrap_or_else(|| panic!("{runs}")).iter().map(|run| &run["id"]).collect();
        assert_eq!(ids.len(), count, "{path}: {runs}");
        assert!(ids.iter().all(|id| **id == started["runId"]), "{path}: {runs}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_says_first_what_clients_read() {
    let world = World::start().await;
    let ann = Estate::of(&world, "ann@x.test").await;
    let token = ann.person.token.as_str();
    for (tool, id) in [("get_run", &ann.run), ("get_model_run", &ann.direct), ("get_run_status", &ann.run), ("get_run_status", &ann.direct)]
    {
        let mut arguments = json!({"runId": id});
        if tool == "get_run_status" {
            arguments["waitSeconds"] = json!(0);
        }
        let reply = send(&world.server, Some(token), "tools/call", json!({"name": tool, "arguments": arguments})).await;
        let (refused, text) = told(&reply);
        assert!(!refused && text.starts_with(&format!("Run ID: {id}\n")), "{tool}: {text}");
        let result = reply.json()["result"]["structuredContent"].clone();
        let names: Vec<&str> = result.as_object().unwrap().keys().map(String::as_str).take(4).collect();
        assert_eq!(names, ["runId", "status", "output", "assets"], "{tool}");
        assert_eq!(
            (&result["runId"], &result["status"], &result["assets"]),
            (&json!(id), &json!("QUEUED"), &json!([])),
            "{tool}: {result}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_for_a_run_hears_of_its_end() {
    let world = World::start().await;
    let ann = Estate::of(&world, "ann@x.test").await;
    let wait = gives(&world.server, &ann.person.token, "get_run_status", json!({"runId": ann.run, "waitSeconds": 50}));
    let cancel = async {
        let ctx = now(&world.server.ctx(&ann.person.token).await);
        ops::run::run_cancel(&ctx, ann.run.parse().unwrap()).await.unwrap();
    };
    let (found, ()) = tokio::join!(wait, cancel);
    assert_eq!(found["status"], "CANCELED", "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_of_a_workflow_are_changed_after_it_was_made() {
    let world = World::start().await;
    let token = world.server.person("ann@x.test", None).await.token;
    let fields = json!([{"name": "who", "type": "text", "value": "nobody"}, {"name": "age", "type": "number"}]);
    let made = gives(&world.server, &token, "create_workflow", json!({"name": "Greet", "requestFields": fields})).await;
    let (workflow, request) = (&made["workflowId"], &made["requestNodeId"]);
    let node = json!({"workflowId": workflow, "nodeType": "text_template", "inputs": {"template": "{{ who }}"}});
    let node = gives(&world.server, &token, "add_node", node).await["nodeId"].clone();
    for name in ["who", "age"] {
        let edge = json!({
            "workflowId": workflow, "sourceNodeId": request, "sourceHandle": format!("field_{name}"), "targetNodeId": node,
            "targetHandle": format!("in:{name}"),
        });
        gives(&world.server, &token, "connect_nodes", edge).await;
    }
    let changed = json!([{"id": "field_who", "name": "Visitor", "type": "text", "value": "you"}, {"name": "Who", "type": "any"}]);
    let change = json!({"workflowId": workflow, "nodeId": request, "requestFields": changed});
    let answer = gives(&world.server, &token, "update_node", change).await;
    assert_eq!(answer["outputPorts"], json!(["field_who", "field_who_2"]));
    let graph = gives(&world.server, &token, "get_workflow", json!({"workflowId": workflow})).await;
    let sources: Vec<&Value> = graph["edges"].as_array().unwrap().iter().map(|edge| &edge["sourceHandle"]).collect();
    assert_eq!(sources, [&json!("field_who")], "the edge of what went is gone, that of what stays is there");
    let kept = &graph["nodes"][0]["data"]["dynamicFields"][0];
    assert_eq!((&kept["id"], &kept["name"], &kept["value"]), (&json!("field_who"), &json!("Visitor"), &json!("you")));
    for (target, fields) in [
        (&node, json!([])),
        (request, json!([{"name": "x", "type": "nothing"}])),
        (request, json!([{"id": "x", "name": "x", "type": "text"}])),
    ] {
        let wrong = json!({"name": "update_node", "arguments": {"workflowId": workflow, "nodeId": target, "requestFields": fields}});
        assert!(told(&send(&world.server, Some(&token), "tools/call", wrong).await).0, "{fields}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_another_origin_gets_no_tool_whatever_it_brings() {
    let world = World::start().await;
    let bearer = format!("Bearer {}", world.server.person("ann@x.test", None).await.token);
    let own = format!("http://{}", world.server.address);
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}).to_string();
    for (origin, status) in [(own.as_str(), 200), ("https://evil.example", 403), ("null", 403)] {
        let headers = [
            ("Authorization", bearer.as_str()),
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
            ("Origin", origin),
        ];
        let reply = world.server.call("POST", "/api/mcp", &headers, body.as_bytes()).await;
        assert_eq!(reply.status, status, "{origin}: {}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_bearer_token_is_told_in_the_words_that_clients_look_for() {
    let world = World::start().await;
    for (method, path) in [("GET", "/api/v1/workflows"), ("GET", "/v1/workflows"), ("POST", "/api/mcp")] {
        for sent in [None, Some("gx_abc"), Some("Basic YTpi"), Some("Bearer gx_abc")] {
            let headers: Vec<(&str, &str)> = sent.map(|value| ("Authorization", value)).into_iter().collect();
            let reply = world.server.call(method, path, &headers, b"{}").await;
            assert_eq!((reply.status, &reply.json()["error"]), (401, &json!("Invalid or expired API key.")), "{path} {sent:?}");
            assert_eq!(reply.header("www-authenticate"), Some("Bearer error=\"invalid_token\""), "{path} {sent:?}");
        }
    }
    for path in ["/api/v1/nothing", "/v1/nothing", "/api/nothing"] {
        let text = world.server.call("GET", path, &[], b"").await.text();
        assert!(text.contains("/docs/api") && !text.contains("graphql"), "{path}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tool_counts_as_a_request_and_is_refused_beyond_the_limit() {
    let limits: Limits = "3/day".parse().unwrap();
    let rules = LimitRules { free: limits, hobby: limits, professional: limits, operator: limits, ..LimitRules::default() };
    let server = Server::start_limited(Limiter::new(rules)).await;
    let ann = server.person("ann@x.test", None).await;
    let ctx = now(&server.ctx(&ann.token).await);
    let make = json!({"name": "create_workflow", "arguments": {"name": "flow"}});
    assert_eq!(send(&server, Some(&ann.token), "tools/list", json!({})).await.status, 200);
    for left in ["1", "0"] {
        let reply = send(&server, Some(&ann.token), "tools/call", make.clone()).await;
        assert_eq!((told(&reply).0, reply.header("x-ratelimit-remaining")), (false, Some(left)), "{}", reply.head);
    }
    let reply = send(&server, Some(&ann.token), "tools/call", make).await;
    assert_eq!((reply.status, reply.header("x-ratelimit-remaining")), (429, Some("0")), "{}", reply.text());
    assert_eq!(reply.json()["code"], "RATE_LIMITED");
    let wait: i64 = reply.header("retry-after").unwrap().parse().unwrap();
    // This one is in milliseconds (`contracts/flow.md` 2.2).
    let reset: i64 = reply.header("x-ratelimit-reset").unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&wait) && reset > Timestamp::now().as_millisecond(), "{}", reply.head);
    let made = ops::workflow::workflows(&ctx, None, &domain::page::PageRequest::default()).await.unwrap().items;
    assert_eq!(made.len(), 2, "what was refused was not done");
    server.end().await;
}
