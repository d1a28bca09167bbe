//! What starts workflows by itself, over HTTP.

use super::*;

fn call(server: &Server, url: &str, body: &str) -> Answer {
    let path = &url[url.find("/api/").expect("an address of the API")..];
    request(server.api, "POST", "localhost", path, &[("content-type", "application/json")], body.as_bytes())
}

#[test]
fn a_workflow_has_a_url_of_its_own_until_it_is_taken_away() {
    let server = Server::start_unlimited();
    let fields = json!([{"name": "who", "type": "text", "value": "nobody"}, {"name": "payload", "type": "any"}]);
    let made = good(&server, "POST", "/v1/workflows", json!({"name": "greet", "requestFields": fields}));
    let (workflow, request_node) = (text(&made["id"]), text(&made["requestNodeId"]));
    let triggers = format!("/v1/workflows/{workflow}/triggers");
    let hook = good(&server, "POST", &triggers, json!({"kind": "hook"}));
    let (id, url) = (text(&hook["id"]), text(&hook["url"]));

    let called = |url: &str, body: &str| {
        let answer = call(&server, url, body);
        assert_eq!(answer.status, 202, "{}", answer.body);
        let run = ended(&server, &text(&parsed(&answer)["runId"]));
        assert_eq!((&run["status"], &run["source"]), (&json!("COMPLETED"), &json!("hook")), "{run}");
        node(&run, "request")["output"].clone()
    };
    let got = called(&url, r#"{"who": "Ada", "more": [1]}"#);
    assert_eq!((&got["who"], &got["payload"]), (&json!("Ada"), &json!({"who": "Ada", "more": [1]})));
    let got = called(&url, "no json");
    assert_eq!((&got["who"], &got["payload"]), (&json!("nobody"), &json!("no json")));
    assert_eq!(called(&url, "")["who"], json!("nobody"));
    let listed = good(&server, "GET", &triggers, Value::Null);
    assert!(listed["items"][0]["lastAt"].is_string() && listed["items"][0].get("url").is_none(), "{listed}");

    let second = text(&good(&server, "POST", &format!("{triggers}/{id}/rotate"), Value::Null)["url"]);
    assert_eq!((call(&server, &url, "{}").status, call(&server, &second, "{}").status), (404, 202));
    good(&server, "PATCH", &format!("{triggers}/{id}"), json!({"enabled": false}));
    assert_eq!(call(&server, &second, "{}").status, 404);
    good(&server, "PATCH", &format!("{triggers}/{id}"), json!({"enabled": true}));
    assert_eq!(call(&server, &second, "{}").status, 202);
    let large = format!("\"{}\"", "x".repeat(2 << 20));
    assert_eq!(call(&server, &second, &large).status, 413);
    for _ in 0..2 {
        assert_eq!(good(&server, "DELETE", &format!("{triggers}/{id}"), Value::Null), json!({"success": true}));
    }
    assert_eq!(call(&server, &second, "{}").status, 404);
    assert_eq!(good(&server, "GET", &triggers, Value::Null)["items"], json!([]));
    let log = std::fs::read_to_string(server.dir.path().join("serve.log")).unwrap();
    for url in [url, second] {
        let secret = url.rsplit('/').next().unwrap().to_owned();
        assert!(secret.len() > 30 && !log.contains(&secret), "the secret is in the log");
    }
    assert!(!request_node.is_empty());
}

#[test]
fn what_is_no_trigger_is_told() {
    let server = Server::start();
    let workflow = text(&good(&server, "POST", "/v1/workflows", json!({}))["id"]);
    let triggers = format!("/v1/workflows/{workflow}/triggers");
    for (body, said) in [
        (json!({"kind": "schedule"}), "cron"),
        (json!({"kind": "schedule", "cron": "61 * * * *"}), "not a schedule"),
        (json!({"kind": "schedule", "cron": "0 0 31 2 *"}), "never comes"),
        (json!({"kind": "schedule", "cron": "0 0 * * *", "timezone": "Mars/Olympus"}), "timezone"),
        (json!({"kind": "event"}), "deployment.failed"),
        (json!({"kind": "hook", "cron": "0 0 * * *"}), "takes nothing else"),
        (json!({"kind": "nothing"}), "validation"),
        (json!({"kind": "event", "event": "sunrise"}), "validation"),
    ] {
        let problem = bad(&server, 400, "POST", &triggers, body);
        assert!(text(&problem["error"]).contains(said), "{said}: {problem}");
    }
    let schedule =
        good(&server, "POST", &triggers, json!({"kind": "schedule", "cron": "0 3 * * 1", "timezone": "Europe/Berlin", "values": {"a": 1}}));
    assert!(schedule["nextAt"].is_string() && schedule["values"] == json!({"a": 1}), "{schedule}");
    bad(&server, 409, "POST", &format!("{triggers}/{}/rotate", text(&schedule["id"])), Value::Null);
    let event = good(&server, "POST", &triggers, json!({"kind": "event", "event": "container.unhealthy"}));
    assert_eq!((&event["event"], &event["nextAt"]), (&json!("container.unhealthy"), &Value::Null));
    for _ in 2..20 {
        good(&server, "POST", &triggers, json!({"kind": "hook"}));
    }
    bad(&server, 409, "POST", &triggers, json!({"kind": "hook"}));
    bad(&server, 404, "PATCH", &format!("{triggers}/x"), json!({"enabled": true}));
    bad(&server, 404, "GET", "/v1/workflows/cm00000000000000000000000/triggers", Value::Null);
}
