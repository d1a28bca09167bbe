//! The first request that the documents of each API show, sent by curl as it is written there but for host, user and key.

mod harness;

use std::process::Command;

use harness::Server;
use serde_json::{Value, json};

/// Status, headers in lower case, body.
fn curl(arguments: &[&str]) -> (String, Value) {
    let output = Command::new("curl").args(["--silent", "--include"]).args(arguments).output().expect("curl is installed");
    let text = String::from_utf8(output.stdout).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text}"));
    (head.to_ascii_lowercase(), serde_json::from_str(body).unwrap_or_else(|_| panic!("{text}")))
}

fn made(server: &Server, input: &str) -> String {
    let answer = server.graphql(&format!("mutation {{ apiKeyCreate(input: {input}) {{ key }} }}"));
    answer["data"]["apiKeyCreate"]["key"].as_str().unwrap_or_else(|| panic!("{answer}")).to_owned()
}

#[test]
fn the_documented_requests_of_each_api_are_answered() {
    let server = Server::start();
    let at = |path: &str| format!("http://127.0.0.1:{}{path}", server.api);
    let (galaxy, flow) = (made(&server, "{kind: GALAXY}"), made(&server, r#"{kind: FLOW, label: "Production"}"#));

    let (head, body) = curl(&[
        "--request",
        "POST",
        "--url",
        &at("/graphql/v2"),
        "--header",
        &format!("Authorization: Bearer {}", server.token),
        "--header",
        "Content-Type: application/json",
        "--data",
        r#"{"query":"query { projects { edges { node { name } } } }"}"#,
    ]);
    assert_eq!(body, json!({"data": {"projects": {"edges": []}}}), "{head}");
    assert!(head.contains("\r\nx-ratelimit-remaining: "), "{head}");

    let asked = r#"{ "query": "{ user(username:\"admin\"){ _id username runningAppCount }}" }"#;
    let key = format!("galaxy-api-key: {galaxy}");
    let (head, body) = curl(&["-X", "POST", "-H", "Content-Type: application/json", "-H", &key, "--data", asked, &at("/graphql")]);
    assert_eq!(
        (&body["data"]["user"]["username"], &body["data"]["user"]["runningAppCount"]),
        (&json!("admin"), &json!(0)),
        "{head} {body}"
    );

    // The key as a variable that the operation does not declare.
    let asked = json!({"query": "{ user(username: \"admin\") { _id } }", "variables": {"galaxyApiKey": galaxy}}).to_string();
    let (_, same) = curl(&["-X", "POST", "-H", "Content-Type: application/json", "--data", &asked, &at("/graphql")]);
    assert_eq!(same["data"]["user"]["_id"], body["data"]["user"]["_id"], "{same}");

    let (head, body) = curl(&[&at("/api/v1/workflows"), "-H", &format!("Authorization: Bearer {flow}")]);
    assert_eq!(body, json!({"items": [], "nextCursor": null}));
    for line in ["x-ratelimit-limit: 60", "x-ratelimit-remaining: 59"] {
        assert!(head.lines().any(|known| known == line), "{line}: {head}");
    }
}

#[test]
fn a_key_at_the_wrong_door_is_told_which_one_is_needed() {
    let server = Server::start();
    let flow = format!("Authorization: Bearer {}", made(&server, r#"{kind: FLOW, label: "a"}"#));
    let galaxy = made(&server, "{kind: GALAXY}");
    let asked = r#"{"query":"{ user(username:\"admin\") { _id } }"}"#;
    let at = |path: &str| format!("http://127.0.0.1:{}{path}", server.api);
    let json = "Content-Type: application/json";

    let (_, body) = curl(&["-X", "POST", "-H", json, "-H", &flow, "--data", asked, &at("/graphql")]);
    let told = body["errors"][0]["message"].as_str().unwrap_or_else(|| panic!("{body}"));
    assert!(told.contains("Flow API key") && told.contains("`galaxy-api-key`"), "{told}");

    let (_, body) = curl(&["-X", "POST", "-H", json, "-H", &format!("galaxy-api-key: {galaxy}"), "--data", asked, &at("/graphql/v2")]);
    let told = body["errors"][0]["message"].as_str().unwrap_or_else(|| panic!("{body}"));
    assert!(told.contains("Galaxy") && told.contains("`Authorization: Bearer`"), "{told}");

    let (head, body) = curl(&[&at("/api/v1/workflows"), "-H", &format!("Authorization: Bearer {galaxy}")]);
    assert!(head.starts_with("http/1.1 401"), "{head}");
    let told = body["error"].as_str().unwrap_or_else(|| panic!("{body}"));
    assert!(told.starts_with("Invalid or expired API key.") && told.contains("Galaxy API key") && told.contains("`gx_"), "{told}");
}
