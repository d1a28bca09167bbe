//! Workflows over REST, as a client of the contract uses them, against the whole program.

mod clients;
mod endpoints;
#[path = "../harness/mod.rs"]
mod harness;
mod nodes;
mod starts;
mod tools;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use harness::{Answer, Server, UNLIMITED, request, until};
use serde_json::{Value, json};

/// Asks as the server's first account does.
fn ask(server: &Server, method: &str, path: &str, body: &Value) -> Answer {
    let bearer = format!("Bearer {}", server.token);
    let body = if body.is_null() { vec![] } else { body.to_string().into_bytes() };
    request(server.api, method, "localhost", path, &[("authorization", &bearer), ("content-type", "application/json")], &body)
}

fn parsed(answer: &Answer) -> Value {
    serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {} {}", answer.status, answer.body))
}

/// An answer that must have gone well.
fn good(server: &Server, method: &str, path: &str, body: Value) -> Value {
    let answer = ask(server, method, path, &body);
    assert!((200..300).contains(&answer.status), "{method} {path} {body}: {} {}", answer.status, answer.body);
    parsed(&answer)
}

/// An answer that must be a refusal with this status.
fn bad(server: &Server, status: u16, method: &str, path: &str, body: Value) -> Value {
    let answer = ask(server, method, path, &body);
    assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
    let problem = parsed(&answer);
    assert_eq!(problem["error"], problem["message"], "{problem}");
    assert!(problem["traceId"].as_str().is_some_and(|id| id.starts_with("req_")), "{problem}");
    problem
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}

fn add(server: &Server, workflow: &str, kind: &str, inputs: Value) -> String {
    text(&good(server, "POST", &format!("/api/v1/workflows/{workflow}/nodes"), json!({"nodeType": kind, "inputs": inputs}))["nodeId"])
}

fn connect(server: &Server, workflow: &str, source: (&str, &str), target: (&str, &str)) -> Value {
    let body = json!({"sourceNodeId": source.0, "sourceHandle": source.1, "targetNodeId": target.0, "targetHandle": target.1});
    good(server, "POST", &format!("/api/v1/workflows/{workflow}/edges"), body)
}

/// Polls as the contract's clients do, until nothing follows.
fn ended(server: &Server, run: &str) -> Value {
    until("the end of a run", || {
        let answer = ask(server, "GET", &format!("/v1/runs/{run}?inDetails=true"), &Value::Null);
        if answer.status == 0 {
            return Err(answer.body);
        }
        let run = parsed(&answer);
        if matches!(run["status"].as_str(), Some("COMPLETED" | "FAILED" | "CANCELED")) { Ok(run) } else { Err(run.to_string()) }
    })
}

fn node<'a>(run: &'a Value, kind: &str) -> &'a Value {
    let nodes = run["nodeRuns"].as_array().expect("details");
    nodes.iter().find(|node| node["nodeType"] == kind).unwrap_or_else(|| panic!("no {kind}: {run}"))
}

#[test]
fn the_typical_client_builds_runs_polls_and_reads() {
    let server = Server::start();
    let fields = json!([{"name": "Car prompt", "type": "text", "value": "a car"}]);
    let made =
        good(&server, "POST", "/api/v1/workflows/quick-create", json!({"name": "cars", "description": "d", "requestFields": fields}));
    let workflow = text(&made["workflowId"]);
    assert!(workflow.len() == 25 && workflow.starts_with("cm") && made["id"] == made["workflowId"], "{made}");
    let (request_node, response_node) = (text(&made["requestNodeId"]), text(&made["responseNodeId"]));
    assert_eq!(made["fields"][0]["id"], "field_car_prompt");

    let body = json!({"nodeType": "text_template", "column": 1, "row": 0, "inputs": {"template": "Draw {{ what }}!"}});
    let added = good(&server, "POST", &format!("/api/v1/workflows/{workflow}/nodes"), body);
    assert_eq!((&added["type"], &added["inputsSet"]), (&json!("text_template"), &json!(["template"])));
    assert!(added["outputPorts"] == json!(["out:result"]) && added["position"]["x"].is_number(), "{added}");
    let draw = text(&added["nodeId"]);
    let edge = connect(&server, &workflow, (&request_node, "field_car_prompt"), (&draw, "in:what"));
    assert_eq!(edge["dataTypes"], json!({"source": "text", "target": "any"}));
    connect(&server, &workflow, (&draw, "out:result"), (&response_node, "result"));

    let graph = good(&server, "GET", &format!("/v1/workflows/{workflow}"), Value::Null);
    assert_eq!((graph["nodes"].as_array().unwrap().len(), graph["edges"].as_array().unwrap().len()), (3, 2));
    let listed = good(&server, "GET", "/v1/workflows?search=CAR&limit=5", Value::Null);
    assert_eq!((listed["items"][0]["id"].as_str(), &listed["nextCursor"]), (Some(workflow.as_str()), &Value::Null));

    // By the field's display name, by its id, and with its default.
    for (values, expected) in [
        (json!({(&request_node): {"Car prompt": "a Beetle"}}), "Draw a Beetle!"),
        (json!({(&request_node): {"field_car_prompt": "a Mini"}}), "Draw a Mini!"),
        (json!({"prompt": {}}), "Draw a car!"),
    ] {
        let started = ask(&server, "POST", "/api/v1/runs", &json!({"workflowId": workflow, "values": values}));
        assert_eq!(started.status, 200, "{}", started.body);
        let run = ended(&server, &text(&parsed(&started)["runId"]));
        assert_eq!(run["status"], "COMPLETED", "{run}");
        assert_eq!(node(&run, "response")["output"], json!({"text_template": expected}));
        assert_eq!(node(&run, "text_template")["output"], json!({"result": expected}));
        assert_eq!((&run["mode"], &run["nodeRunCount"], &run["singleNodeId"]), (&json!("full"), &json!(1), &json!(draw)));
    }
    let overridden = json!({"workflowId": workflow, "graphInputOverrides": {(&draw): {"template": "No {{ what }}"}}});
    let run = ended(&server, &text(&good(&server, "POST", "/v1/runs", overridden)["runId"]));
    assert_eq!(node(&run, "response")["output"], json!({"text_template": "No a car"}));

    let id = text(&run["id"]);
    let bare = good(&server, "GET", &format!("/v1/runs/{id}"), Value::Null);
    assert!(bare.get("nodeRuns").is_none() && bare["workflowName"] == "cars");
    let unknown = "00000000-0000-7000-8000-000000000000";
    let batch = good(&server, "POST", "/v1/runs/batch", json!({"ids": [id, unknown, "nonsense"]}));
    assert_eq!(batch["runs"].as_array().unwrap().len(), 1);
    assert!(batch["runs"][0]["nodeRuns"].as_array().unwrap().len() == 3 && batch["runs"][0]["context"] == json!({}));
    let named = |search: &str| {
        good(&server, "GET", &format!("/v1/runs?search={search}&workflowId={workflow}"), Value::Null)["items"].as_array().unwrap().len()
    };
    assert_eq!((named("CAR"), named("%25"), named("boats")), (4, 0, 0));
    let first = good(&server, "GET", "/v1/runs?status=completed&limit=3", Value::Null);
    let rest = good(&server, "GET", &format!("/v1/runs?limit=3&cursor={}", text(&first["nextCursor"])), Value::Null);
    assert_eq!((first["items"].as_array().unwrap().len(), rest["items"].as_array().unwrap().len()), (3, 1));
    bad(&server, 409, "POST", &format!("/v1/runs/{id}/cancel"), Value::Null);
    for _ in 0..2 {
        assert_eq!(good(&server, "DELETE", &format!("/v1/workflows/{workflow}"), Value::Null), json!({"success": true}));
    }
    bad(&server, 404, "GET", &format!("/v1/workflows/{workflow}"), Value::Null);
    bad(&server, 404, "GET", &format!("/v1/runs/{id}"), Value::Null);
}

#[test]
fn what_is_wrong_is_named() {
    let server = Server::start();
    let anonymous = request(server.api, "GET", "localhost", "/api/v1/workflows", &[], b"");
    assert_eq!((anonymous.status, &parsed(&anonymous)["error"]), (401, &json!("Invalid or expired API key.")));
    let problem = bad(&server, 400, "POST", "/v1/runs", json!({"workflowId": "", "values": {"prompt": "x"}, "more": 1}));
    assert_eq!((&problem["message"], &problem["code"]), (&json!("Input validation failed"), &json!("BAD_REQUEST")));
    let issues: Vec<String> =
        problem["issues"].as_array().unwrap().iter().map(|issue| format!("{}: {}", issue["path"], text(&issue["message"]))).collect();
    assert_eq!(
        issues,
        [
            "[\"workflowId\"]: Too small: expected string to have >=1 characters",
            "[\"values\",\"prompt\"]: Invalid input: expected record, received string",
            "[]: Unrecognized key: \"more\"",
        ]
    );
    assert_eq!(bad(&server, 404, "POST", "/v1/nodes/sora_2/run", json!({"input": {}}))["error"], "Unknown node type: sora_2");
    bad(&server, 404, "POST", "/v1/runs", json!({"workflowId": "cm00000000000000000000000"}));
    bad(&server, 400, "GET", "/v1/runs?limit=0", Value::Null);
    bad(&server, 400, "GET", "/v1/runs?cursor=x", Value::Null);
    bad(&server, 400, "POST", "/v1/runs", json!([]));

    let workflow = text(&good(&server, "POST", "/v1/workflows", json!({}))["id"]);
    let nodes = format!("/v1/workflows/{workflow}/nodes");
    bad(&server, 404, "POST", &nodes, json!({"nodeType": "nothing"}));
    bad(&server, 400, "POST", &nodes, json!({"nodeType": "delay", "inputs": {"seconds": -1}}));
    let (one, two) = (add(&server, &workflow, "merge", json!({})), add(&server, &workflow, "merge", json!({})));
    connect(&server, &workflow, (&one, "out:result"), (&two, "in:items"));
    let edges = format!("/v1/workflows/{workflow}/edges");
    let edge = |source: &str, out: &str, target: &str, input: &str| json!({"sourceNodeId": source, "sourceHandle": out, "targetNodeId": target, "targetHandle": input});
    let cycle = bad(&server, 409, "POST", &edges, edge(&two, "out:result", &one, "in:items"));
    assert!(text(&cycle["error"]).contains("cycle"), "{cycle}");
    let port = bad(&server, 400, "POST", &edges, edge(&one, "out:nothing", &two, "in:items"));
    assert!(text(&port["error"]).contains("out:result"), "{port}");
    bad(&server, 404, "POST", &edges, edge("node_0_none", "out:result", &two, "in:items"));
    let large = "x".repeat(10 << 20);
    bad(&server, 413, "POST", "/v1/runs", json!({"workflowId": workflow, "values": {"a": {"b": large}}}));
    // The server lives.
    good(&server, "GET", "/v1/credits/balance", Value::Null);
}

#[test]
fn nodes_reach_no_neighbours_unless_the_operator_allows_it() {
    let server = Server::start();
    let own = format!("http://127.0.0.1:{}/healthz", server.api);
    for url in ["http://169.254.169.254/latest/meta-data", own.as_str(), "http://localhost/", "http://[::1]/", "ftp://example.com/"] {
        let started = good(&server, "POST", "/v1/nodes/http_request/run", json!({"input": {"url": url}}));
        let id = text(&started["runId"]);
        let run = until("the end of a direct run", || {
            let run = good(&server, "GET", &format!("/v1/nodes/runs/{id}"), Value::Null);
            if run["status"] == "FAILED" { Ok(run) } else { Err(run.to_string()) }
        });
        let why = if url.starts_with("ftp") { "http" } else { "is not reachable for requests from here" };
        assert!(run["output"].is_null() && text(&run["error"]).contains(why), "{url}: {run}");
    }
}

#[test]
fn uploads_are_kept_and_read_by_signed_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start_with(&[("ORRERY_FILES_DIR", folder.path().to_str().unwrap())]);
    let mut picture = vec![0x89, b'P', b'N', b'G', b'\r', b'\n', 0x1a, b'\n'];
    picture.extend([1, 2, 3]);
    let body = json!({"filename": "a.html", "contentType": "text/html", "base64": "iVBORw0KGgoBAgM="});
    let file = good(&server, "POST", "/v1/uploads", body);
    assert_eq!((&file["contentType"], &file["size"]), (&json!("image/png"), &json!(11)));
    let url = text(&file["url"]);
    let path = &url[url.find("/api/").expect("an address of the API")..];
    let read = request(server.api, "GET", "localhost", path, &[], b"");
    assert_eq!((read.status, read.header("content-type")), (200, Some("image/png")));
    assert_eq!(read.body, String::from_utf8_lossy(&picture));
    assert_eq!(std::fs::read(folder.path().join(text(&file["id"]))).unwrap(), picture, "it lies where the operator says");
    let forged = path.replace("signature=", "signature=A");
    assert_eq!(request(server.api, "GET", "localhost", &forged, &[], b"").status, 404);
    assert_eq!(good(&server, "GET", "/v1/media-library", Value::Null)["items"][0]["id"], file["id"]);
    bad(&server, 400, "POST", "/v1/uploads", json!({"filename": "a", "base64": "!"}));
    bad(&server, 400, "POST", "/v1/uploads", json!({"filename": "a"}));
}

/// A run of one node, to its end.
fn performed(server: &Server, kind: &str, input: Value) -> Value {
    let started = ask(server, "POST", &format!("/v1/nodes/{kind}/run"), &json!({"input": input}));
    assert_eq!(started.status, 202, "{}", started.body);
    let id = text(&parsed(&started)["runId"]);
    until("the end of a direct run", || {
        let run = good(server, "GET", &format!("/v1/nodes/runs/{id}"), Value::Null);
        if matches!(run["status"].as_str(), Some("COMPLETED" | "FAILED")) { Ok(run) } else { Err(run.to_string()) }
    })
}

/// Performs each request once by its `Idempotency-Key`, and remembers how often each key came.
struct Receiver {
    port: u16,
    seen: Arc<Mutex<BTreeMap<String, (String, u32)>>>,
    bodies: Arc<Mutex<Vec<(String, String)>>>,
    /// Requests for a number that is not below this one wait for their answer.
    gate: Arc<(Mutex<u32>, Condvar)>,
}

/// A server whose nodes may ask this machine, and whose keys have no limits.
fn open_server(more: &[(&str, &str)]) -> Server {
    Server::start_with(&[&UNLIMITED[..], &[("ORRERY_OUTGOING_ALLOW", "127.0.0.0/8")], more].concat())
}

impl Receiver {
    fn start() -> Self {
        Self::answering(200, b"ok")
    }

    /// One that always answers the same.
    fn answering(status: u16, answer: &[u8]) -> Self {
        let head = format!("HTTP/1.1 {status} Said\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
        let answer = Arc::new([head.as_bytes(), answer].concat());
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("its address").port();
        let (seen, bodies): (Arc<Mutex<BTreeMap<_, _>>>, Arc<Mutex<Vec<_>>>) = Default::default();
        let gate = Arc::new((Mutex::new(u32::MAX), Condvar::new()));
        let (all, texts, way) = (seen.clone(), bodies.clone(), gate.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (all, texts, answer, way) = (all.clone(), texts.clone(), answer.clone(), way.clone());
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream);
                    let mut head = String::new();
                    while !head.ends_with("\r\n\r\n") {
                        if reader.read_line(&mut head).unwrap_or(0) == 0 {
                            return;
                        }
                    }
                    let value = |name: &str| {
                        head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix(name).map(|value| value.trim().to_owned()))
                    };
                    let length = value("content-length:").and_then(|text| text.parse().ok()).unwrap_or(0);
                    let mut body = vec![0; length];
                    if reader.read_exact(&mut body).is_err() {
                        return;
                    }
                    let body = String::from_utf8_lossy(&body).into_owned();
                    let path = head.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
                    let number: u32 = path.parse().unwrap_or(0);
                    if let Some(key) = value("idempotency-key:") {
                        all.lock().unwrap().entry(key).or_insert_with(|| (path, 0)).1 += 1;
                    }
                    texts.lock().unwrap().push((head, body));
                    drop(way.1.wait_while(way.0.lock().unwrap(), |below| number >= *below).unwrap());
                    let _ = reader.get_mut().write_all(&answer);
                });
            }
        });
        Self { port, seen, bodies, gate }
    }

    /// Answers requests for numbers below this one; those for others wait, in the middle of being performed.
    fn answer_below(&self, number: u32) {
        *self.gate.0.lock().unwrap() = number;
        self.gate.1.notify_all();
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }
}

/// A workflow of so many requests in a row, each to the address that is its number.
fn chain(server: &Server, receiver: &Receiver, steps: u32) -> String {
    let workflow = text(&good(server, "POST", "/v1/workflows", json!({"name": "chain"}))["id"]);
    let mut last: Option<String> = None;
    for step in 0..steps {
        let inputs = json!({"url": format!("{}{step}", receiver.url()), "method": "POST"});
        let node = add(server, &workflow, "http_request", inputs);
        if let Some(last) = &last {
            connect(server, &workflow, (last, "out:body"), (&node, "in:body"));
        }
        last = Some(node);
    }
    workflow
}

/// Twenty runs of fifty nodes, each of which lives through twenty kills of the server at points that nobody has chosen. They are under way
/// together, so that twenty kills are enough for all of them.
#[test]
fn runs_survive_sigkill_and_perform_every_node_once() {
    const RUNS: usize = 20;
    const KILLS: u32 = 20;
    const STEPS: u32 = 50;
    let receiver = Receiver::start();
    let mut server = open_server(&[]);
    let workflow = chain(&server, &receiver, STEPS);
    bad(&server, 400, "POST", "/v1/runs", json!({"workflowId": workflow, "nope": 1}));
    receiver.answer_below(2);
    let runs: Vec<String> = (0..RUNS).map(|_| text(&good(&server, "POST", "/v1/runs", json!({"workflowId": workflow}))["runId"])).collect();
    let mut before = 0;
    for kill in 0..KILLS {
        // Each run asks again for what was under way, or for what comes next, at least once in a life of the server.
        let wanted = before + 1 + rand::random::<u32>() as usize % RUNS;
        until("requests of this life of the server", || {
            let heard = receiver.bodies.lock().unwrap().len();
            if heard >= wanted { Ok(()) } else { Err(format!("{heard} of {wanted}")) }
        });
        std::thread::sleep(Duration::from_millis(u64::from(rand::random::<u32>() % 60)));
        server.sigkill();
        before = receiver.bodies.lock().unwrap().len();
        // Two nodes further in each life at the most, so that no run is over before the last.
        receiver.answer_below(2 * (kill + 2));
        server.start_again();
    }
    // None is over, and the last one has begun by now or begins soon.
    until("all runs under way", || {
        let under_way = good(&server, "GET", "/v1/runs?status=running&limit=100", Value::Null);
        if under_way["items"].as_array().unwrap().len() == RUNS { Ok(()) } else { Err(under_way.to_string()) }
    });
    receiver.answer_below(u32::MAX);
    for run in &runs {
        let run = ended(&server, run);
        assert_eq!(run["status"], "COMPLETED", "{run}");
    }
    let seen = receiver.seen.lock().unwrap();
    let mut performed: BTreeMap<u32, usize> = BTreeMap::new();
    for (path, _) in seen.values() {
        *performed.entry(path.parse().unwrap()).or_default() += 1;
    }
    // A node that was performed twice would have come under two keys.
    assert_eq!(performed, (0..STEPS).map(|step| (step, RUNS)).collect());
    let repeated = seen.values().filter(|(_, times)| *times > 1).count();
    assert!(repeated > 0, "no kill met a node that was under way");
}

#[test]
fn a_message_is_sent_with_the_key_of_its_node() {
    let receiver = Receiver::start();
    let server = open_server(&[]);
    let run = performed(&server, "notify", json!({"url": receiver.url(), "text": "It is done"}));
    assert_eq!((&run["status"], &run["output"]["result"]), (&json!("COMPLETED"), &json!(200)), "{run}");
    let (head, body) = receiver.bodies.lock().unwrap()[0].clone();
    assert!(head.starts_with("POST / ") && head.to_ascii_lowercase().contains("content-type: application/json"), "{head}");
    assert_eq!(serde_json::from_str::<Value>(&body).unwrap(), json!({"text": "It is done"}));
    assert_eq!(receiver.seen.lock().unwrap().len(), 1, "a repetition after a kill could be told from a second message");
    let refusing = Receiver::answering(404, b"no");
    let run = performed(&server, "notify", json!({"url": refusing.url(), "text": "x"}));
    assert!(text(&run["error"]).contains("the receiver answered 404"), "{run}");
}

#[test]
fn a_webhook_hears_of_a_run_and_can_be_sent_again() {
    let receiver = Receiver::start();
    let server = open_server(&[]);
    let secret = text(&good(&server, "GET", "/v1/webhooks/secret", Value::Null)["secret"]);
    assert!(secret.starts_with("whsec_"));
    let webhook =
        json!({"url": receiver.url(), "events": ["run.started", "run.completed"], "metadata": {"token": "t"}, "headers": {"x-own": "yes"}});
    let body = json!({"workflowId": "fill-template", "values": {"node_0_request": {"template": "{{ a }}", "values": {"a": "b"}}}, "webhook": webhook});
    let run = text(&good(&server, "POST", "/v1/runs", body)["runId"]);
    let ended = ended(&server, &run);
    assert_eq!(node(&ended, "response")["output"], json!({"text_template": "b"}), "{ended}");
    let path = format!("/v1/runs/{run}/deliveries");
    let sent = until("both messages", || {
        let sent = good(&server, "GET", &path, Value::Null);
        let done = sent["items"].as_array().unwrap().iter().filter(|one| one["state"] == "DELIVERED").count();
        if done == 2 { Ok(sent) } else { Err(sent.to_string()) }
    });
    assert_eq!(sent["items"][0]["attempts"][0]["status"], 200);
    let heard = || receiver.bodies.lock().unwrap().clone();
    let types = |all: &[(String, String)]| {
        all.iter().map(|(_, body)| text(&serde_json::from_str::<Value>(body).unwrap()["type"])).collect::<Vec<_>>()
    };
    let all = heard();
    let mut kinds = types(&all);
    kinds.sort();
    assert_eq!(kinds, ["run.completed", "run.started"]);
    for (head, body) in &all {
        let head = head.to_ascii_lowercase();
        assert!(head.contains("svix-signature: v1,") && head.contains("svix-id: msg_") && head.contains("x-own: yes"), "{head}");
        let body: Value = serde_json::from_str(body).unwrap();
        assert_eq!((&body["runId"], &body["workflowId"], &body["metadata"]["token"]), (&json!(run), &json!("fill-template"), &json!("t")));
    }
    let id = text(&sent["items"][0]["id"]);
    good(&server, "POST", &format!("{path}/{id}/replay"), Value::Null);
    until("the repetition", || if heard().len() == 3 { Ok(()) } else { Err(format!("{:?}", heard())) });
}

#[test]
fn a_webhook_that_never_answers_holds_up_nothing() {
    // Connections are taken, and nothing is said.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let server = open_server(&[]);
    let url = format!("http://{}/", silent.local_addr().unwrap());
    let body = json!({"workflowId": "fill-template", "values": {"node_0_request": {"template": "x"}}, "webhook": {"url": url}});
    let run = text(&good(&server, "POST", "/v1/runs", body)["runId"]);
    assert_eq!(ended(&server, &run)["status"], "COMPLETED");
    let sent = until("an attempt that was given up", || {
        let sent = good(&server, "GET", &format!("/v1/runs/{run}/deliveries"), Value::Null);
        let tried = sent["items"].as_array().unwrap().iter().any(|one| one["attempts"][0]["error"].is_string());
        if tried { Ok(sent) } else { Err(sent.to_string()) }
    });
    let one = sent["items"].as_array().unwrap().iter().find(|one| one["attempts"][0]["error"].is_string()).unwrap();
    assert!(one["state"] == "PENDING" && text(&one["attempts"][0]["error"]).contains("no answer within"), "{one}");
}

#[test]
fn the_document_describes_what_is_served() {
    let server = Server::start();
    let served = request(server.api, "GET", "localhost", "/api/v1/openapi.json", &[], b"");
    let document = parsed(&served);
    assert!(document["openapi"].as_str().is_some_and(|version| version.starts_with("3.1")), "{}", document["openapi"]);
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            // Without a key every operation but the public catalogue refuses, and none is absent.
            let concrete = format!("/api{path}").replace(['{', '}'], "");
            let answer =
                request(server.api, &method.to_ascii_uppercase(), "localhost", &concrete, &[("content-type", "application/json")], b"{}");
            let expected = match path.as_str() {
                "/v1/models/catalog" => 200,
                // The secret in the path is the credential.
                "/v1/hooks/{secret}" => 404,
                // The signature is, and there is none.
                "/v1/media/{file}" => 400,
                _ => 401,
            };
            assert_eq!(answer.status, expected, "{method} {path}: {}", answer.body);
        }
    }
}

#[test]
fn the_reference_page_needs_nothing_from_elsewhere() {
    let server = Server::start();
    let page = request(server.api, "GET", "localhost", "/docs/api", &[], b"");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let document = parsed(&request(server.api, "GET", "localhost", "/api/v1/openapi.json", &[], b""));
    for (path, operations) in document["paths"].as_object().unwrap() {
        for method in operations.as_object().unwrap().keys() {
            let named = format!("<code>{} {path}</code>", method.to_ascii_uppercase());
            assert!(page.body.contains(&named), "{named}");
        }
    }
    for from_elsewhere in ["src=\"http", "src=\"//", "href=\"http", "href=\"//", "url(http", "@import"] {
        assert!(!page.body.contains(from_elsewhere), "{from_elsewhere}");
    }
}

#[test]
fn an_error_leads_to_what_explains_it() {
    let server = Server::start();
    let page = request(server.api, "GET", "localhost", "/docs/errors", &[], b"");
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    for code in domain::Code::ALL {
        assert!(page.body.contains(&format!("id=\"{}\"", code.as_str())), "{code:?}");
    }
    assert!(page.body.contains("<code>Retry-After</code>") && !page.body.contains('`'), "{}", page.body);
    let refused = request(server.api, "GET", "localhost", "/api/v1/runs", &[], b"");
    assert_eq!((refused.status, refused.header("link")), (401, Some("</docs/errors#UNAUTHENTICATED>; rel=\"help\"")));
    let body = br#"{"query": "{ nothing }"}"#;
    let asked = request(server.api, "POST", "localhost", "/graphql/v2", &[("content-type", "application/json")], body);
    let upload = format!("/project/{0}/environment/{0}/up", "00000000-0000-7000-8000-000000000000");
    let upload = request(server.api, "POST", "localhost", &upload, &[], b"");
    for told in [parsed(&asked)["errors"][0]["extensions"].clone(), parsed(&upload)] {
        assert_eq!(told["documentation"], format!("/docs/errors#{}", told["code"].as_str().unwrap()), "{told}");
    }
}

/// What MCP answers a client that has said no `initialize`.
fn mcp(server: &Server, method: &str, params: Value) -> Value {
    let bearer = format!("Bearer {}", server.token);
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string();
    let headers =
        [("authorization", bearer.as_str()), ("content-type", "application/json"), ("accept", "application/json, text/event-stream")];
    let answer = request(server.api, "POST", "localhost", "/api/mcp", &headers, body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.body);
    parsed(&answer)["result"].clone()
}

/// Calls a tool.
fn tool(server: &Server, name: &str, arguments: Value) -> Value {
    mcp(server, "tools/call", json!({"name": name, "arguments": arguments}))
}

#[test]
fn tools_build_and_run_a_workflow() {
    let server = Server::start();
    let good = |name: &str, arguments: Value| {
        let result = tool(&server, name, arguments);
        assert_eq!(result["isError"], false, "{name}: {result}");
        result["structuredContent"].clone()
    };
    let made = good("create_workflow", json!({"name": "Greeting", "requestFields": [{"name": "who", "type": "text"}]}));
    let workflow = text(&made["workflowId"]);
    let node = good("add_node", json!({"workflowId": workflow, "nodeType": "text_template", "inputs": {"template": "Hi {{ who }}"}}));
    let (request_node, response_node, greet) = (text(&made["requestNodeId"]), text(&made["responseNodeId"]), text(&node["nodeId"]));
    for (source, out, target, input) in [(&request_node, "field_who", &greet, "in:who"), (&greet, "out:result", &response_node, "result")] {
        let edge =
            json!({"workflowId": workflow, "sourceNodeId": source, "sourceHandle": out, "targetNodeId": target, "targetHandle": input});
        good("connect_nodes", edge);
    }
    let fields = good("start_run", json!({"name": "greet"}));
    assert_eq!((&fields["started"], &fields["fields"][0]["id"]), (&json!(false), &json!("field_who")));
    let started = tool(&server, "start_run", json!({"name": "greet", "values": {(&request_node): {"field_who": "Ada"}}}));
    let run = text(&started["structuredContent"]["runId"]);
    assert!(text(&started["content"][0]["text"]).contains(&format!("Run ID: {run}")), "{started}");
    let found = until("the run's end", || {
        let found = good("get_run", json!({"runId": run}));
        if found["status"] == "COMPLETED" { Ok(found) } else { Err(found.to_string()) }
    });
    assert_eq!(found["output"], json!({"text_template": "Hi Ada"}));
    assert_eq!(good("list_runs", json!({"workflowId": workflow}))["items"].as_array().unwrap().len(), 1);
    let wrong = tool(&server, "add_node", json!({"workflowId": workflow, "nodeType": "nothing"}));
    assert_eq!((&wrong["isError"], text(&wrong["content"][0]["text"]).contains("Unknown node type")), (&json!(true), true));
    assert_eq!(tool(&server, "get_run", json!({}))["isError"], true);
    assert!(good("list_apps", json!({}))["items"].is_array());
    let anonymous = request(server.api, "POST", "localhost", "/api/mcp", &[("content-type", "application/json")], b"{}");
    assert_eq!(anonymous.status, 401);
}
