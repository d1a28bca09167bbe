//! Every tool of MCP does what it says, to workflows and to an app that runs.

use std::cell::RefCell;
use std::collections::BTreeSet;

use super::*;

const HOST: &str = "shop-production.localhost";

/// Says what it was told to be like.
const APP: &str = r#"
import os
print("hello from the shop", flush=True)
def answer(path):
    return os.environ.get("MOOD", "unset")
"#;

/// Calls tools, and remembers which.
struct Assistant<'a> {
    server: &'a Server,
    called: RefCell<BTreeSet<String>>,
}

impl Assistant<'_> {
    /// A call that must go well; what it gave.
    fn call(&self, name: &str, arguments: Value) -> Value {
        let result = tool(self.server, name, arguments.clone());
        assert_eq!(result["isError"], false, "{name} {arguments}: {result}");
        self.called.borrow_mut().insert(name.to_owned());
        result["structuredContent"].clone()
    }

    /// A call that must be refused; what was said.
    fn refused(&self, name: &str, arguments: Value) -> String {
        let result = tool(self.server, name, arguments.clone());
        assert_eq!(result["isError"], true, "{name} {arguments}: {result}");
        text(&result["content"][0]["text"])
    }

    /// The tools that there are.
    fn listed(&self) -> BTreeSet<String> {
        let listed = mcp(self.server, "tools/list", json!({}));
        listed["tools"].as_array().unwrap_or_else(|| panic!("{listed}")).iter().map(|tool| text(&tool["name"])).collect()
    }

    /// Waits until a deployment of the service serves.
    fn serves(&self, place: &Value, deployment: &Value) {
        until("a deployment that serves", || {
            let listed = self.call("list_deployments", place.clone());
            let found = listed["items"].as_array().unwrap().iter().any(|one| one["id"] == *deployment && one["status"] == "SUCCESS");
            if found { Ok(()) } else { Err(listed.to_string()) }
        });
    }

    /// Waits until the app says so.
    fn says(&self, mood: &str) {
        self.server.visit_until(HOST, "/", |answer| answer.status == 200 && answer.body == mood);
    }
}

/// The arguments that name a service, and more.
fn with(place: &Value, more: Value) -> Value {
    let mut all = place.clone();
    all.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap());
    all
}

#[test]
fn every_tool_does_what_it_says() {
    let server = Server::start_with(&[
        ("ORRERY_LIMITS_HOBBY", "none"),
        ("ORRERY_LIMITS_PROFESSIONAL", "none"),
        ("ORRERY_LIMITS_OPERATOR", "none"),
        ("ORRERY_NODE_PRICES", "text_template=10"),
        ("ORRERY_CREDIT_ALLOWANCE", "5000"),
    ]);
    let assistant = Assistant { server: &server, called: RefCell::default() };
    models_are_described_and_run(&assistant);
    let workflow = workflows_are_built(&assistant);
    runs_are_started_found_and_canceled(&assistant, &workflow);
    workflows_are_started_by_themselves_and_deleted(&assistant, &workflow);
    let place = an_app_is_looked_at(&assistant);
    an_app_is_changed(&assistant, &place);
    assert_eq!(*assistant.called.borrow(), assistant.listed(), "each was called with arguments that it takes");
}

fn models_are_described_and_run(assistant: &Assistant<'_>) {
    let types = assistant.call("list_node_types", json!({"category": "utility"}));
    let template = types["items"].as_array().unwrap().iter().find(|one| one["type"] == "text_template").expect("a text template");
    assert_eq!((&template["takesAnyInput"], &template["inputs"][0]["handle"]), (&json!(true), &json!("in:template")));
    assert_eq!(template["outputs"], json!([{"handle": "out:result", "type": "text"}]));
    let models = assistant.call("list_models", json!({"category": "platform"}))["models"].clone();
    let models = models.as_array().unwrap();
    assert!(!models.is_empty() && models.iter().all(|one| one["category"] == "platform"), "{models:?}");
    let schema = assistant.call("get_model_schema", json!({"modelId": "crop-image"}));
    assert_eq!((&schema["modelId"], &schema["defaults"]["width_percent"]), (&json!("crop_image"), &json!(100)));
    assert_eq!(assistant.call("get_pricing", json!({"modelId": "text_template"}))["estimatedCost"], 10);

    let balance = || assistant.call("get_balance", json!({}))["availableBalance"].clone();
    assert_eq!(balance(), 5000);
    let run = assistant.call("run_model", json!({"nodeType": "text_template", "input": {"template": "{{ 6 * 7 }}"}}))["runId"].clone();
    let ended = until("the end of a node's run", || {
        let run = assistant.call("get_model_run", json!({"runId": run}));
        if run["status"] == "COMPLETED" { Ok(run) } else { Err(run.to_string()) }
    });
    assert_eq!((&ended["output"]["result"], &ended["source"]), (&json!("42"), &json!("mcp")), "{ended}");
    assert_eq!((&ended["runId"], &ended["assets"]), (&run, &json!([])));
    assert_eq!(balance(), 4990);

    let file = assistant.call("upload_file", json!({"filename": "a.txt", "data_uri": "data:text/plain;base64,aGVsbG8="}));
    let url = text(&file["url"]);
    let read = request(assistant.server.api, "GET", "localhost", &url[url.find("/api/").expect("an address of the API")..], &[], b"");
    assert_eq!((read.status, read.body.as_str()), (200, "hello"));
}

/// Builds, takes apart and builds again; the workflow, which has no request fields.
fn workflows_are_built(assistant: &Assistant<'_>) -> String {
    let made = assistant.call("create_workflow", json!({"name": "First", "requestFields": []}));
    let (workflow, response) = (made["workflowId"].clone(), made["responseNodeId"].clone());
    assert_eq!(assistant.call("list_workflows", json!({"search": "irs", "limit": 1}))["items"][0]["id"], workflow);
    assistant.call("update_workflow", json!({"workflowId": workflow, "name": "Second", "description": "of two"}));
    let graph = || assistant.call("get_workflow", json!({"workflowId": workflow}));
    assert_eq!((&graph()["name"], &graph()["description"]), (&json!("Second"), &json!("of two")));

    let add = |kind: &str| assistant.call("add_node", json!({"workflowId": workflow, "nodeType": kind}))["nodeId"].clone();
    let (template, merge) = (add("text_template"), add("merge"));
    let told = |inputs: Value| {
        assistant.call("update_node", json!({"workflowId": workflow, "nodeId": template, "inputs": inputs}));
        let all = graph()["nodes"].clone();
        let node = all.as_array().unwrap().iter().find(|node| node["id"] == template).expect("the node").clone();
        node["data"]["inputs"].clone()
    };
    assert_eq!(told(json!({"template": "x", "who": "Ada"})), json!({"template": "x", "who": "Ada"}));
    assert_eq!(told(json!({"template": "Hi {{ who }}"})), json!({"template": "Hi {{ who }}", "who": "Ada"}));
    assert_eq!(told(json!({"who": null})), json!({"template": "Hi {{ who }}"}));
    told(json!({"who": "Ada"}));

    let connect = |source: &Value, target: &Value, input: &str| {
        let edge = json!({"workflowId": workflow, "sourceNodeId": source, "sourceHandle": "out:result", "targetNodeId": target, "targetHandle": input});
        assistant.call("connect_nodes", edge)["edgeId"].clone()
    };
    let edge = connect(&template, &merge, "in:items");
    assert_eq!(graph()["edges"][0]["id"], edge);
    assert_eq!(assistant.call("disconnect_nodes", json!({"workflowId": workflow, "edgeId": edge}))["success"], true);
    assert_eq!(graph()["edges"], json!([]));
    connect(&template, &merge, "in:items");
    let pair = json!({"workflowId": workflow, "sourceNodeId": template, "targetNodeId": merge});
    assert_eq!((&assistant.call("disconnect_nodes", pair)["deleted"], &graph()["edges"]), (&json!(1), &json!([])));
    assert!(assistant.refused("disconnect_nodes", json!({"workflowId": workflow})).contains("edgeId"));

    connect(&template, &merge, "in:items");
    connect(&template, &response, "result");
    assistant.call("delete_node", json!({"workflowId": workflow, "nodeId": merge}));
    let graph = graph();
    assert_eq!((graph["nodes"].as_array().unwrap().len(), graph["edges"].as_array().unwrap().len()), (3, 1), "its edge went with it");
    assert!(
        assistant.refused("delete_node", json!({"workflowId": workflow, "nodeId": response})).contains("neither added nor deleted"),
        "the scaffold stays"
    );
    text(&workflow)
}

fn runs_are_started_found_and_canceled(assistant: &Assistant<'_>, workflow: &str) {
    let run = text(&assistant.call("start_run", json!({"workflowId": workflow}))["runId"]);
    let status = until("the end of a run that is waited for", || {
        let found = assistant.call("get_run_status", json!({"runId": run, "runType": "workflow"}));
        if found["status"] == "COMPLETED" { Ok(found) } else { Err(found.to_string()) }
    });
    assert_eq!((&status["output"], &status["assets"]), (&json!({"text_template": "Hi Ada"}), &json!([])));
    assert_eq!(node(&ended(assistant.server, &run), "response")["output"], json!({"text_template": "Hi Ada"}));
    assert_eq!(assistant.call("get_run", json!({"runId": run}))["output"], json!({"text_template": "Hi Ada"}));
    let several = assistant.call("get_runs", json!({"ids": [run, "nonsense"]}))["runs"].clone();
    assert_eq!((several.as_array().unwrap().len(), &several[0]["status"]), (1, &json!("COMPLETED")));

    let ready_made = assistant.call("list_system_workflows", json!({"category": "image"}));
    assert_eq!(ready_made["items"].as_array().unwrap().iter().map(|one| text(&one["slug"])).collect::<Vec<_>>(), ["crop-to-centre"]);
    let inputs = json!({"template": "Hi {{ who }}", "values": {"who": "Bob"}});
    let filled = text(&assistant.call("run_system_workflow", json!({"name": "Fill", "inputs": inputs}))["runId"]);
    assert_eq!(node(&ended(assistant.server, &filled), "response")["output"], json!({"text_template": "Hi Bob"}));
    let listed = |filter: Value| assistant.call("list_runs", filter)["items"].as_array().unwrap().len();
    assert_eq!((listed(json!({"workflowId": workflow})), listed(json!({"workflowId": workflow, "status": "failed"}))), (1, 0));

    let slow = assistant.call("create_workflow", json!({"name": "Slow"}))["workflowId"].clone();
    assistant.call("add_node", json!({"workflowId": slow, "nodeType": "delay", "inputs": {"seconds": 86_400}}));
    let run = assistant.call("start_run", json!({"name": "slow"}))["runId"].clone();
    let status = || assistant.call("get_run", json!({"runId": run}))["status"].clone();
    until("a run under way", || if status() == "RUNNING" { Ok(()) } else { Err(status().to_string()) });
    assert_eq!(assistant.call("cancel_run", json!({"runId": run}))["status"], "CANCELED");
    assert_eq!(status(), "CANCELED");
    assert!(assistant.refused("cancel_run", json!({"runId": run})).contains("over already"));
}

fn workflows_are_started_by_themselves_and_deleted(assistant: &Assistant<'_>, workflow: &str) {
    let wanted = json!({"workflowId": workflow, "kind": "schedule", "cron": "0 3 * * *", "timezone": "Europe/Berlin"});
    let made = assistant.call("create_trigger", wanted);
    let listed = || assistant.call("list_triggers", json!({"workflowId": workflow}))["items"].clone();
    assert!(made["nextAt"].is_string() && listed()[0]["id"] == made["id"] && listed()[0]["cron"] == "0 3 * * *", "{made}");
    assistant.call("delete_trigger", json!({"workflowId": workflow, "triggerId": made["id"]}));
    assert_eq!(listed(), json!([]));
    assistant.call("delete_workflow", json!({"workflowId": workflow}));
    assert_eq!(assistant.refused("get_workflow", json!({"workflowId": workflow})), "Workflow not found");
}

/// Deploys the app by the Railway CLI, and finds it by tools; the arguments that name it.
fn an_app_is_looked_at(assistant: &Assistant<'_>) -> Value {
    let server = assistant.server;
    let folder = server.dir.path().join("shop");
    harness::write(&folder, &[("main.py", &harness::python::app(APP)), ("Procfile", "web: python3 main.py\n")]);
    server.json(&folder, &["init", "--name", "shop", "--json"]);
    server.ok(&folder, &["up", "--ci"]);
    let app = assistant.call("list_apps", json!({}))["items"][0].clone();
    assert_eq!((&app["name"], &app["services"][0]["name"]), (&json!("shop"), &json!("shop")));
    let place = json!({"environmentId": app["environments"][0]["id"], "serviceId": app["services"][0]["id"]});
    assistant.says("unset");

    let lines = |filter: &str| assistant.call("logs", with(&place, json!({"filter": filter, "limit": 10})))["items"].clone();
    until("the app's line", || {
        let found = lines("hello");
        let said = found.as_array().unwrap().iter().any(|line| line["message"] == "hello from the shop");
        if said { Ok(()) } else { Err(found.to_string()) }
    });
    assert_eq!(lines("goodbye"), json!([]));
    until("measurements", || {
        let found = assistant.call("metrics", with(&place, json!({"minutes": 5})));
        let used = found["items"].as_array().unwrap().iter().any(|point| point["memoryBytes"].as_f64().is_some_and(|bytes| bytes > 1e6));
        if used && found["memoryBytes"].as_f64().is_some_and(|bytes| bytes > 1e6) { Ok(()) } else { Err(found.to_string()) }
    });

    let wanted = json!({"projectId": app["id"], "name": "staging", "sourceEnvironmentId": place["environmentId"], "skipDeploys": true});
    assistant.call("create_environment", wanted);
    let all = assistant.call("list_apps", json!({}))["items"][0]["environments"].clone();
    let names: BTreeSet<String> = all.as_array().unwrap().iter().map(|one| text(&one["name"])).collect();
    assert_eq!(names, ["production".to_owned(), "staging".to_owned()].into());
    place
}

fn an_app_is_changed(assistant: &Assistant<'_>, place: &Value) {
    let newest = || assistant.call("list_deployments", with(place, json!({"limit": 1})))["items"][0]["id"].clone();
    let first = newest();
    assistant.call("set_variable", with(place, json!({"name": "MOOD", "value": "bright"})));
    assistant.says("bright");
    let second = newest();
    assert_ne!(first, second);
    assistant.serves(place, &second);

    let back = assistant.call("rollback", json!({"deploymentId": first}))["deploymentId"].clone();
    assistant.serves(place, &back);
    assistant.says("unset");
    let again = assistant.call("deploy", place.clone())["deploymentId"].clone();
    assistant.serves(place, &again);
    assistant.says("bright");
    let third = assistant.call("redeploy", json!({"deploymentId": first}))["deploymentId"].clone();
    assert!(third != again && third != first);
    assistant.serves(place, &third);
    assistant.says("bright");

    let containers = || -> BTreeSet<String> {
        let visits = (0..20).map(|_| assistant.server.visit(HOST, "/"));
        visits.filter_map(|answer| answer.header("x-galaxy-container").map(str::to_owned)).collect()
    };
    let before = until("one container", || Some(containers()).filter(|all| all.len() == 1).ok_or_else(|| "more".to_owned()));
    assert_eq!(assistant.call("restart", place.clone())["deploymentId"], third);
    until("another container", || {
        let now = containers();
        if now.len() == 1 && now != before { Ok(()) } else { Err(format!("{now:?} after {before:?}")) }
    });
    assistant.serves(place, &third);
    assert_eq!(assistant.call("scale", with(place, json!({"replicas": 2})))["replicas"], 2);
    until("two containers", || Some(containers()).filter(|all| all.len() == 2).map(|_| ()).ok_or_else(|| "one".to_owned()));
}
