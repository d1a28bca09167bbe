//! What each endpoint does, where the typical client of the contract does not come by.

use std::collections::BTreeSet;

use super::*;

/// A picture of four by two points.
const PICTURE: &str = "iVBORw0KGgoAAAANSUhEUgAAAAQAAAACCAIAAADwyuo0AAAAEElEQVR4nGM4IWcDRwzIHAB6SgkR8ZlAYwAAAABJRU5ErkJggg==";

fn graph(server: &Server, workflow: &str) -> Value {
    good(server, "GET", &format!("/v1/workflows/{workflow}"), Value::Null)
}

/// A node of a stored graph.
fn stored(server: &Server, workflow: &str, id: &str) -> Value {
    let nodes = graph(server, workflow)["nodes"].clone();
    nodes.as_array().unwrap().iter().find(|node| node["id"] == id).unwrap_or_else(|| panic!("no {id}: {nodes}")).clone()
}

/// Starts a run, and waits for its end.
fn run(server: &Server, body: Value) -> Value {
    ended(server, &text(&good(server, "POST", "/v1/runs", body)["runId"]))
}

#[test]
fn workflows_and_their_graphs_are_changed() {
    let server = Server::start_unlimited();
    let made = good(&server, "POST", "/v1/workflows", json!({"name": "First", "description": "kept"}));
    let (workflow, response) = (text(&made["id"]), text(&made["responseNodeId"]));
    let path = format!("/v1/workflows/{workflow}");
    let before = graph(&server, &workflow);
    let changed = good(&server, "PATCH", &path, json!({"name": "Second"}));
    assert_eq!((&changed["name"], &changed["description"]), (&json!("Second"), &json!("kept")), "what is not said stays");
    good(&server, "PATCH", &path, json!({"description": ""}));
    let after = graph(&server, &workflow);
    assert_eq!((&after["name"], &after["description"]), (&json!("Second"), &json!("")));
    assert!(after["version"].as_u64() > before["version"].as_u64() && after["nodes"] == before["nodes"], "{after}");
    for refused in [json!({"name": ""}), json!({"name": "x".repeat(121)}), json!({"title": "x"})] {
        bad(&server, 400, "PATCH", &path, refused);
    }

    let script = add(&server, &workflow, "javascript", json!({"code": "throw new Error('it is broken')"}));
    let node_path = format!("{path}/nodes/{script}");
    let body = json!({"inputs": {"input": 7}, "label": "Breaks", "position": {"x": 12.5, "y": -3.0}});
    let answer = good(&server, "PATCH", &node_path, body);
    assert_eq!((&answer["nodeId"], &answer["position"]), (&json!(script), &json!({"x": 12.5, "y": -3.0})));
    let set: BTreeSet<String> = answer["inputsSet"].as_array().unwrap().iter().map(text).collect();
    assert_eq!(set, ["code".to_owned(), "input".to_owned()].into());
    good(&server, "PATCH", &node_path, json!({"inputs": {"input": null}}));
    let node_now = stored(&server, &workflow, &script);
    assert_eq!((&node_now["data"]["label"], node_now["data"]["inputs"].get("input")), (&json!("Breaks"), None));
    assert_eq!(node_now["position"]["x"], 12.5);
    bad(&server, 400, "PATCH", &node_path, json!({"policy": {"retries": 11}}));
    bad(&server, 404, "PATCH", &format!("{path}/nodes/node_0_none"), json!({"label": "x"}));

    connect(&server, &workflow, (&script, "out:result"), (&response, "result"));
    let failed = run(&server, json!({"workflowId": workflow}));
    assert!(failed["status"] == "FAILED" && text(&failed["error"]).contains("it is broken"), "{failed}");
    good(&server, "PATCH", &node_path, json!({"policy": {"continueOnError": true}}));
    let went_on = run(&server, json!({"workflowId": workflow}));
    assert_eq!(went_on["status"], "COMPLETED", "{went_on}");
    assert!(text(&node(&went_on, "javascript")["output"]["error"]).contains("it is broken"), "{went_on}");

    let other = add(&server, &workflow, "merge", json!({}));
    let edge = text(&connect(&server, &workflow, (&script, "out:result"), (&other, "in:items"))["edgeId"]);
    let edges = || graph(&server, &workflow)["edges"].as_array().unwrap().len();
    assert_eq!(edges(), 2);
    for _ in 0..2 {
        assert_eq!(good(&server, "DELETE", &format!("{path}/edges/{edge}"), Value::Null), json!({"success": true}));
        assert_eq!(edges(), 1);
    }
    for _ in 0..2 {
        assert_eq!(good(&server, "DELETE", &node_path, Value::Null), json!({"success": true}));
        assert_eq!((edges(), graph(&server, &workflow)["nodes"].as_array().unwrap().len()), (0, 3), "its edge went with it");
    }
    bad(&server, 409, "DELETE", &format!("{path}/nodes/{response}"), Value::Null);
}

#[test]
fn types_of_nodes_are_found_and_have_their_prices() {
    let prices = [("ORRERY_NODE_PRICES", "text_template=10,crop_image=5000"), ("ORRERY_LIMITS_OPERATOR", "none")];
    let server = Server::start_with(&prices);
    let found = good(&server, "GET", "/v1/models/search?query=Crop%20PICTURE", Value::Null);
    assert_eq!(found["modelCatalog"]["utility"][0]["modelId"], "crop_image", "{found}");
    assert!(found["modelCatalog"]["utility"].as_array().unwrap().len() == 1 && found.get("noMatch").is_none(), "{found}");
    assert_eq!((&found["categoryRoles"], found["usage"].is_string()), (&json!({"utility": "TRANSFORM"}), true));
    let none = good(&server, "GET", "/v1/models/search?query=perpetual", Value::Null);
    assert_eq!((&none["modelCatalog"], &none["noMatch"]), (&json!({}), &json!(true)));

    let schema = good(&server, "GET", "/v1/models/crop_image/schema", Value::Null);
    let field = |name: &str| schema["fields"].as_array().unwrap().iter().find(|field| field["name"] == name).expect("a field").clone();
    assert_eq!((&schema["modelId"], &schema["defaults"]["x_percent"]), (&json!("crop_image"), &json!(0)));
    assert_eq!((&field("image_url")["required"], &field("image_url")["type"]), (&json!(true), &json!("image")));
    let slider = field("width_percent");
    assert_eq!((slider["min"].as_f64(), slider["max"].as_f64(), &slider["default"]), (Some(0.0), Some(100.0), &json!(100)));
    assert_eq!(bad(&server, 404, "GET", "/v1/models/sora_2/schema", Value::Null)["error"], "Unknown node type: sora_2");

    let price = good(&server, "GET", "/v1/models/crop_image/pricing", Value::Null);
    assert_eq!((&price["estimatedCost"], &price["pricingDetails"]), (&json!(5000), &json!({"type": "fixed", "microcredits": 5000})));
    assert_eq!(good(&server, "GET", "/v1/models/catalog", Value::Null)["models"]["crop_image"]["cost"], 5000);
    let nodes = json!({"nodes": [{"type": "crop_image", "data": {"a": 1}}, {"type": "merge"}, {"type": "text_template"}]});
    let estimates = json!([{"microcredits": 5000}, {"microcredits": 0}, {"microcredits": 10}]);
    assert_eq!(good(&server, "POST", "/v1/nodes/estimate-credits", nodes.clone()), json!({"estimates": estimates}));
    let whole = good(&server, "POST", "/v1/workflows/estimate-credits", nodes);
    assert_eq!(whole, json!({"totalMicrocredits": 5010, "estimates": estimates}));
    let many = json!({"nodes": vec![json!({"type": "merge"}); 101]});
    bad(&server, 400, "POST", "/v1/workflows/estimate-credits", many);

    let ready_made = good(&server, "GET", "/v1/system-workflows", Value::Null);
    let slugs: BTreeSet<String> = ready_made["items"].as_array().unwrap().iter().map(|one| text(&one["slug"])).collect();
    assert!(slugs.contains("fill-template") && ready_made["nextCursor"].is_null(), "{ready_made}");
    // Each of them can be started by what it is called here.
    for slug in slugs {
        let started = good(&server, "POST", "/v1/runs", json!({"workflowId": slug}));
        assert_eq!(good(&server, "GET", &format!("/v1/runs/{}", text(&started["runId"])), Value::Null)["workflowId"], slug);
    }
}

#[test]
fn a_run_has_nodes_of_its_own_leaves_its_files_and_is_canceled() {
    let server = Server::start_unlimited();
    let made = good(&server, "POST", "/v1/workflows", json!({"name": "Pictures"}));
    let (workflow, response) = (text(&made["id"]), text(&made["responseNodeId"]));
    let picture = good(&server, "POST", "/v1/uploads", json!({"filename": "a.png", "base64": PICTURE}))["url"].clone();
    let crop = add(&server, &workflow, "crop_image", json!({"image_url": picture, "width_percent": 50}));
    connect(&server, &workflow, (&crop, "out:image_url"), (&response, "result"));
    let media = || good(&server, "GET", &format!("/v1/workflows/{workflow}/media"), Value::Null)["items"].clone();
    assert_eq!(media(), json!([]));
    let first = run(&server, json!({"workflowId": workflow}));
    let output = node(&first, "crop_image")["output"].clone();
    assert_eq!((&output["width"], &output["height"]), (&json!(2), &json!(2)), "{first}");
    let all = media();
    assert_eq!(all.as_array().unwrap().len(), 1, "what was uploaded is not what a run has made: {all}");
    assert_eq!((&all[0]["runId"], &all[0]["nodeId"], &all[0]["nodeType"]), (&first["id"], &json!(crop), &json!("crop_image")));
    assert!(all[0]["type"] == "image" && all[0]["createdAt"].is_string(), "{all}");
    let url = text(&all[0]["url"]);
    let read = request(server.api, "GET", "localhost", &url[url.find("/api/").expect("an address of the API")..], &[], b"");
    assert_eq!((read.status, read.header("content-type")), (200, Some("image/png")));

    // One node in the place of another, and one more: for this run alone.
    let place = json!({"x": 0.0, "y": 0.0});
    let replaced = json!({"id": crop, "type": "crop_image", "position": place, "data": {"inputs": {"image_url": picture}}});
    let added = json!({"id": "node_1_more", "type": "text_template", "position": place, "data": {"inputs": {"template": "one more"}}});
    let own = run(&server, json!({"workflowId": workflow, "nodeOverrides": [replaced, added], "viewport": {"zoom": 1}}));
    assert_eq!((&node(&own, "crop_image")["output"]["width"], &own["nodeRunCount"]), (&json!(4), &json!(2)), "{own}");
    assert_eq!(node(&own, "text_template")["output"], json!({"result": "one more"}));
    assert_eq!((graph(&server, &workflow)["nodes"].as_array().unwrap().len(), media().as_array().unwrap().len()), (3, 2));
    let unknown = json!({"id": "node_2_x", "type": "nothing", "position": place, "data": {}});
    bad(&server, 404, "POST", "/v1/runs", json!({"workflowId": workflow, "nodeOverrides": [unknown]}));

    // What a workflow brings along is no work that begins.
    let brings = text(&good(&server, "POST", "/v1/workflows", json!({"name": "Brings a file"}))["id"]);
    add(&server, &brings, "file_input", json!({"files": [picture]}));
    let brought = run(&server, json!({"workflowId": brings}));
    let row = node(&brought, "file_input");
    assert_eq!((&row["startedAt"], &row["input"], &row["output"]["file"]), (&Value::Null, &Value::Null, &picture), "{row}");

    let slow = text(&good(&server, "POST", "/v1/workflows", json!({"name": "Slow"}))["id"]);
    add(&server, &slow, "delay", json!({"seconds": 86_400}));
    let id = text(&good(&server, "POST", "/v1/runs", json!({"workflowId": slow}))["runId"]);
    let details = || good(&server, "GET", &format!("/v1/runs/{id}?inDetails=true"), Value::Null);
    until("a node under way", || {
        let run = details();
        let begun = run["nodeRuns"].as_array().unwrap().iter().any(|node| node["nodeType"] == "delay");
        if begun && run["status"] == "RUNNING" { Ok(()) } else { Err(run.to_string()) }
    });
    let answer = good(&server, "POST", &format!("/v1/runs/{id}/cancel"), Value::Null);
    assert!(answer["id"] == id && answer["status"] == "CANCELED" && answer["finishedAt"].is_string(), "{answer}");
    let run = details();
    assert_eq!((&run["status"], &node(&run, "delay")["status"]), (&json!("CANCELED"), &json!("CANCELED")), "{run}");
    bad(&server, 409, "POST", &format!("/v1/runs/{id}/cancel"), Value::Null);
}

/// The messages that a receiver has heard of a run, by their type and the node that they are about.
fn heard(receiver: &Receiver, run: &str) -> BTreeMap<(String, Option<String>), Value> {
    let all = receiver.bodies.lock().unwrap();
    let bodies = all.iter().map(|(_, body)| serde_json::from_str::<Value>(body).unwrap());
    let of_run = bodies.filter(|body| body["runId"] == run);
    of_run.map(|body| ((text(&body["type"]), body["data"]["nodeId"].as_str().map(str::to_owned)), body)).collect()
}

#[test]
fn a_webhook_hears_of_failures_and_of_a_cancel() {
    let receiver = Receiver::start();
    let server = open_server(&[]);
    let workflow = text(&good(&server, "POST", "/v1/workflows", json!({"name": "Broken"}))["id"]);
    let works = add(&server, &workflow, "text_template", json!({"template": "x"}));
    let breaks = add(&server, &workflow, "javascript", json!({"code": "throw new Error('it is broken')"}));
    connect(&server, &workflow, (&works, "out:result"), (&breaks, "in:input"));
    let failed = run(&server, json!({"workflowId": workflow, "webhook": {"url": receiver.url()}}));
    assert_eq!(failed["status"], "FAILED", "{failed}");
    let id = text(&failed["id"]);
    let event = |kind: &str, node: Option<&str>| (kind.to_owned(), node.map(str::to_owned));
    let wanted =
        [event("run.started", None), event("node.completed", Some(&works)), event("node.failed", Some(&breaks)), event("run.failed", None)];
    let all = until("every message of the run", || {
        let all = heard(&receiver, &id);
        if wanted.iter().all(|one| all.contains_key(one)) { Ok(all) } else { Err(format!("{:?}", all.keys())) }
    });
    assert!(!all.contains_key(&event("run.completed", None)) && !all.contains_key(&event("node.completed", Some(&breaks))), "{all:?}");
    let told = &all[&event("run.failed", None)];
    assert_eq!((&told["success"], &told["error"], &told["data"]["status"]), (&json!(false), &failed["error"], &json!("FAILED")));
    assert_eq!((&told["data"]["failedNodes"], &told["workflowId"]), (&json!(1), &json!(workflow)), "{told}");
    assert_eq!(told["metadata"], json!({}), "nothing was given to be sent back: {told}");
    let told = &all[&event("node.failed", Some(&breaks))];
    assert!(told["success"] == false && text(&told["error"]).contains("it is broken"), "{told}");
    let told = &all[&event("node.completed", Some(&works))];
    assert_eq!((&told["success"], &told["data"]["nodeType"], &told["error"]), (&json!(true), &json!("text_template"), &Value::Null));

    // A node by itself tells of its run and of no nodes.
    let body = json!({"input": {"code": "throw new Error('it is broken')"}, "webhook": {"url": receiver.url()}});
    let direct = text(&good(&server, "POST", "/v1/nodes/javascript/run", body)["runId"]);
    let all = until("both messages of a node's run", || {
        let all = heard(&receiver, &direct);
        if all.len() == 2 { Ok(all) } else { Err(format!("{:?}", all.keys())) }
    });
    assert_eq!(all[&event("run.failed", None)]["workflowId"], "javascript", "{all:?}");

    let slow = text(&good(&server, "POST", "/v1/workflows", json!({"name": "Slow"}))["id"]);
    add(&server, &slow, "delay", json!({"seconds": 86_400}));
    let webhook = json!({"url": receiver.url(), "events": ["run.canceled"]});
    let id = text(&good(&server, "POST", "/v1/runs", json!({"workflowId": slow, "webhook": webhook}))["runId"]);
    good(&server, "POST", &format!("/v1/runs/{id}/cancel"), Value::Null);
    let all = until("the message of a cancel", || {
        let all = heard(&receiver, &id);
        if all.is_empty() { Err("nothing".to_owned()) } else { Ok(all) }
    });
    let told = &all[&event("run.canceled", None)];
    assert_eq!((all.len(), &told["success"], &told["data"]["status"]), (1, &json!(true), &json!("CANCELED")), "{all:?}");

    let start = |webhook: Value| json!({"workflowId": workflow, "webhook": webhook});
    for url in ["http://example.com/hook", "http://localhost/hook", "http://10.1.2.3/hook", "ftp://example.com/", "nothing"] {
        let refused = bad(&server, 400, "POST", "/v1/runs", start(json!({"url": url})));
        assert!(text(&refused["error"]).contains("must be an https URL"), "{url}: {refused}");
    }
    let refused = bad(&server, 400, "POST", "/v1/runs", start(json!({"url": "https://example.com/", "events": ["run.paused"]})));
    assert!(text(&refused["error"]).contains("run.canceled"), "the events are named: {refused}");
}
