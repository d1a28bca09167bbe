//! What every answer of an API says about limits, and what comes beyond them.

mod server;

use std::process::Command;

use domain::account::Plan;
use domain::key::{KeyKind, KeyLimits};
use domain::rate::Limits;
use ops::api_key::ApiKeyCreate;
use ops::limit::{LimitRules, Limiter};
use secrecy::ExposeSecret;
use server::{Reply, Server};
use tokio::io::AsyncWriteExt;

fn limited(limits: &str) -> Limiter {
    let limits: Limits = limits.parse().unwrap();
    Limiter::new(LimitRules { free: limits, hobby: limits, professional: limits, operator: limits, ..LimitRules::default() })
}

fn number(reply: &Reply, name: &str) -> i64 {
    let value = reply.header(name).unwrap_or_else(|| panic!("no {name}: {}", reply.head));
    value.parse().unwrap_or_else(|_| panic!("{name}: {value}"))
}

/// The request of Railway's documentation, but for the host and the token.
fn documented(server: &Server, token: &str) -> (String, String) {
    let output = Command::new("curl")
        .args(["--silent", "--include", "--request", "POST"])
        .args(["--url", &format!("http://{}/graphql/v2", server.address)])
        .args(["--header", &format!("Authorization: Bearer {token}")])
        .args(["--header", "Content-Type: application/json"])
        .args(["--data", r#"{"query":"query { projects { edges { node { name } } } }"}"#])
        .output()
        .expect("curl is installed");
    let text = String::from_utf8(output.stdout).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{text}"));
    (head.to_ascii_lowercase(), body.to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documented_request_is_answered_with_the_documented_headers() {
    let server = Server::start_limited(limited("1000/day")).await;
    let ada = server.person("ada@example.com", None).await;
    for left in [999, 998] {
        let (head, body) = documented(&server, &ada.token);
        assert_eq!(body, r#"{"data":{"projects":{"edges":[{"node":{"name":"shop"}}]}}}"#);
        for line in ["x-ratelimit-limit: 1000", &format!("x-ratelimit-remaining: {left}"), "x-ratelimit-reset: "] {
            assert!(head.lines().any(|known| known.starts_with(line)), "{line}: {head}");
        }
        assert!(!head.contains("retry-after"), "{head}");
        assert!(head.contains("ratelimit-policy: \"day\";q=1000;w=86400\r\n"), "{head}");
        assert!(head.contains(&format!("ratelimit: \"day\";r={left};t=")), "{head}");
    }
    server.end().await;
}

#[tokio::test]
async fn every_answer_of_an_api_says_what_is_left() {
    let server = Server::start_limited(Limiter::default()).await;
    let ada = server.person("ada@example.com", None).await;
    let bearer = format!("Bearer {}", ada.token);
    let cookie = server.browser(&ada).await;
    let own = server.origin();
    let unknown = format!("Bearer {}", domain::key::encode(domain::key::KeyKind::Account, &[3; 32]));
    let before = domain::Timestamp::now().as_second();
    let replies = [
        (200, server.graphql(&[("Authorization", &bearer)], "{ me { email } }").await),
        (200, server.graphql(&[("Authorization", &unknown)], "{ me { email } }").await),
        (200, server.graphql(&[], "{ me { email } }").await),
        (200, server.graphql(&[("Cookie", &cookie), ("Origin", &own)], "{ me { email } }").await),
        (400, server.graphql(&[("Authorization", &bearer)], "{ nonsense }").await),
        (400, server.call("POST", "/graphql/v2", &[("Authorization", &bearer)], b"no json").await),
        (405, server.call("DELETE", "/graphql/v2", &[("Authorization", &bearer)], b"").await),
        (204, server.call("OPTIONS", "/graphql/v2", &[], b"").await),
        (400, server.raw(b"POST /graphql/v2 HTTP/1.1\r\n\r\n").await),
        (401, server.call("POST", "/project/a/environment/b/up", &[("Authorization", "Bearer x")], b"").await),
        (404, server.call("POST", "/api/v1/nothing", &[("Authorization", &bearer)], b"").await),
    ];
    for (status, reply) in &replies {
        assert_eq!(reply.status, *status, "{}{}", reply.head, reply.text());
        assert!(number(reply, "x-ratelimit-remaining") < number(reply, "x-ratelimit-limit"), "{}", reply.head);
        let unit = if *status == 404 { 1000 } else { 1 };
        let left = number(reply, "x-ratelimit-reset") / unit - before;
        assert!((1..=86_400).contains(&left), "{}", reply.head);
        assert!(reply.header("ratelimit-policy").is_some() && reply.header("ratelimit").is_some(), "{}", reply.head);
        assert_eq!(reply.header("retry-after"), None);
    }
    assert_eq!(server.get("/login", None).await.header("x-ratelimit-limit"), None, "a page is no API");
    let exposed = server.graphql(&[("Authorization", &bearer), ("Origin", "https://tools.example")], "{ me { email } }").await;
    assert!(exposed.header("access-control-expose-headers").unwrap().contains("x-ratelimit-remaining"));
    server.end().await;
}

#[tokio::test]
async fn beyond_the_limit_the_answer_says_which_and_how_long() {
    let server = Server::start_limited(limited("1000/hour,3/day")).await;
    let (ada, bob) = (server.person("ada@example.com", None).await, server.person("bob@example.com", None).await);
    let bearer = format!("Bearer {}", ada.token);
    let asks = "{ me { email } }";
    for left in [2, 1, 0] {
        let reply = server.graphql(&[("Authorization", &bearer)], asks).await;
        assert_eq!((reply.status, number(&reply, "x-ratelimit-remaining")), (200, left));
    }
    let mutation = br#"{"query":"mutation { projectCreate(input: { name: \"x\" }) { id } }"}"#;
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json"), ("Idempotency-Key", "k1")];
    let reply = server.call("POST", "/graphql/v2", &headers, mutation).await;
    assert_eq!((reply.status, number(&reply, "x-ratelimit-remaining")), (429, 0), "a key for repetitions opens no way around");
    let reply = server.graphql(&[("Authorization", &bearer), ("Origin", "https://tools.example")], asks).await;
    assert_eq!(reply.status, 429);
    let wait = number(&reply, "retry-after");
    assert!((1..=86_400).contains(&wait));
    assert_eq!((number(&reply, "x-ratelimit-limit"), number(&reply, "x-ratelimit-remaining")), (3, 0));
    assert_eq!(reply.header("access-control-allow-origin"), Some("*"), "a page can read it");
    let answer = reply.json();
    assert!(answer["data"].is_null(), "{answer}");
    let error = &answer["errors"][0];
    assert!(error["message"].as_str().unwrap().contains("3 requests in 86400 seconds"), "{answer}");
    assert_eq!(error["extensions"]["code"], "RATE_LIMITED");
    assert_eq!(error["extensions"]["violatedPolicies"], serde_json::json!(["day"]));
    assert_eq!(error["extensions"]["requestId"].as_str(), reply.header("x-request-id"));

    let path = format!("/project/{}/environment/{}/up", ada.project, ada.environment);
    let upload = server.call("POST", &path, &[("Authorization", &bearer)], b"").await;
    assert_eq!((upload.status, upload.json()["code"].as_str()), (429, Some("RATE_LIMITED")));
    assert!(number(&upload, "retry-after") >= 1);
    let other = server.graphql(&[("Authorization", &format!("Bearer {}", bob.token))], asks).await;
    assert_eq!(other.status, 200, "one person's limit is not another's");
    let cookie = server.browser(&ada).await;
    let own = server.origin();
    for _ in 0..10 {
        let reply = server.graphql(&[("Cookie", &cookie), ("Origin", &own)], asks).await;
        assert_eq!(reply.json()["data"]["me"]["email"], "ada@example.com", "a session is no key");
    }
    server.end().await;
}

#[tokio::test]
async fn a_flow_key_beyond_its_limit_gets_the_documented_answer() {
    let server = Server::start_limited(Limiter::default()).await;
    let ada = server.person("ada@example.com", None).await;
    let limits = KeyLimits { minute: Some(1), day: Some(1), ..KeyLimits::OF_PLAN };
    let wanted =
        ApiKeyCreate { kind: KeyKind::Flow, label: Some("one".into()), workspace: None, environment: None, limits, expires_at: None };
    let (made, key) = ops::api_key::api_key_create(&server.ctx(&ada.token).await, wanted).await.unwrap();
    let bearer = format!("Bearer {}", key.expose_secret());
    let ask = async || server.call("GET", "/api/v1/workflows", &[("Authorization", &bearer)], b"").await;
    let before = domain::Timestamp::now().as_millisecond();
    assert_eq!(ask().await.status, 200);
    let refused = ask().await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    let body = refused.json();
    assert_eq!((&body["error"], &body["message"]), (&"Rate limit exceeded. Please try again later.".into(), &body["error"]));
    assert_eq!(body["code"], "RATE_LIMITED");
    assert_eq!(body["traceId"], format!("req_{}", refused.header("x-request-id").unwrap()));
    assert!((1..=86_400).contains(&number(&refused, "retry-after")), "{}", refused.head);
    assert_eq!((number(&refused, "x-ratelimit-limit"), number(&refused, "x-ratelimit-remaining")), (1, 0));
    let left = number(&refused, "x-ratelimit-reset") - before;
    assert!((0..=86_400_000).contains(&left), "milliseconds: {}", refused.head);

    // What was counted is told to whoever manages the key, once it has been written.
    server.ops.limits.keep(&server.ops.store, domain::Timestamp::now()).await.unwrap();
    let own = format!("Bearer {}", ada.token);
    let told = server.graphql(&[("Authorization", &own)], &format!("{{ apiKeyUsage(id: \"{}\") {{ allowed refused }} }}", made.id)).await;
    let days = told.json()["data"]["apiKeyUsage"].as_array().unwrap_or_else(|| panic!("{}", told.text())).clone();
    let sum = |name: &str| days.iter().map(|day| day[name].as_i64().unwrap()).sum::<i64>();
    assert_eq!((sum("allowed"), sum("refused")), (1, 1), "{days:?}");
    let eve = server.person("eve@example.com", None).await;
    let stranger = format!("Bearer {}", eve.token);
    let none = server.graphql(&[("Authorization", &stranger)], &format!("{{ apiKeyUsage(id: \"{}\") {{ allowed }} }}", made.id)).await;
    assert_eq!(none.json()["errors"][0]["extensions"]["code"], "NOT_FOUND", "{}", none.text());
    server.end().await;
}

#[tokio::test]
async fn a_galaxy_key_beyond_its_limit_is_refused_as_a_header_and_as_a_variable() {
    let server = Server::start_limited(Limiter::default()).await;
    let ada = server.person("ada@example.com", None).await;
    let home = server.ctx(&ada.token).await.user().unwrap().home().unwrap().id;
    server.plan(home, Plan::Professional).await;
    let limits = KeyLimits { day: Some(2), ..KeyLimits::OF_PLAN };
    let wanted = ApiKeyCreate { kind: KeyKind::Galaxy, label: None, workspace: None, environment: None, limits, expires_at: None };
    let (_, key) = ops::api_key::api_key_create(&server.ctx(&ada.token).await, wanted).await.unwrap();
    let key = key.expose_secret();
    let query = "{ containerTypes { _id } }";
    let by_header = async || {
        let headers = [("galaxy-api-key", key), ("Content-Type", "application/json")];
        server.call("POST", "/graphql", &headers, serde_json::json!({"query": query}).to_string().as_bytes()).await
    };
    let by_variable = async || {
        let body = serde_json::json!({"query": query, "variables": {"galaxyApiKey": key}}).to_string();
        server.call("POST", "/graphql", &[("Content-Type", "application/json")], body.as_bytes()).await
    };
    for (reply, left) in [(by_header().await, 1), (by_variable().await, 0)] {
        assert_eq!((reply.status, number(&reply, "x-ratelimit-remaining")), (200, left), "{}", reply.text());
        assert!(reply.json()["data"]["containerTypes"].is_array(), "{}", reply.text());
    }
    let now = domain::Timestamp::now().as_second();
    for reply in [by_header().await, by_variable().await] {
        assert_eq!((reply.status, number(&reply, "x-ratelimit-limit"), number(&reply, "x-ratelimit-remaining")), (429, 2, 0));
        assert!((1..=86_400).contains(&number(&reply, "retry-after")), "{}", reply.head);
        assert!((0..=86_400).contains(&(number(&reply, "x-ratelimit-reset") - now)), "seconds: {}", reply.head);
        let body = reply.json();
        let extensions = &body["errors"][0]["extensions"];
        assert!(body["data"].is_null() && extensions["code"] == "RATE_LIMITED", "{body}");
        assert_eq!(extensions["violatedPolicies"], serde_json::json!(["day"]), "{body}");
    }
    server.end().await;
}

#[tokio::test]
async fn a_key_whose_plan_does_not_open_an_api_is_counted_as_a_key() {
    let server = Server::start_limited(limited("5/day")).await;
    let ada = server.person("ada@example.com", None).await;
    let bearer = format!("Bearer {}", ada.token);
    let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
    for left in [4, 3] {
        let reply = server.call("POST", "/graphql", &headers, br#"{"query":"{ user(username: \"ada\") { _id } }"}"#).await;
        assert_eq!(reply.json()["errors"][0]["extensions"]["code"], "PLAN_LIMIT", "{}", reply.text());
        assert_eq!((number(&reply, "x-ratelimit-limit"), number(&reply, "x-ratelimit-remaining")), (5, left));
        assert_eq!(reply.header("ratelimit-policy"), Some("\"day\";q=5;w=86400"));
    }
    server.end().await;
}

#[tokio::test]
async fn an_address_without_a_key_has_a_limit_of_its_own() {
    let server = Server::start_limited(Limiter::default()).await;
    let ada = server.person("ada@example.com", None).await;
    let from = |address: &str, authorization: &str| {
        let body = r#"{"query":"{ __typename }"}"#;
        format!(
            "POST /graphql/v2 HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {address}\r\n{authorization}Content-Type: application/json\r\n\
             Content-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let mut stream = server.connect().await;
    let ask = from("203.0.113.7", "");
    for asked in 1..=6_000 {
        stream.write_all(ask.as_bytes()).await.unwrap();
        let reply = Reply::read(&mut stream).await;
        assert_eq!((reply.status, number(&reply, "x-ratelimit-remaining")), (200, 6_000 - asked), "{}", reply.text());
    }
    stream.write_all(ask.as_bytes()).await.unwrap();
    let reply = Reply::read(&mut stream).await;
    assert_eq!((reply.status, number(&reply, "x-ratelimit-limit")), (429, 6_000));
    assert_eq!(reply.json()["errors"][0]["extensions"]["violatedPolicies"][0], "anonymous");
    assert!((1..=600).contains(&number(&reply, "retry-after")));
    assert_eq!(server.raw(from("203.0.113.8", "").as_bytes()).await.status, 200, "another address has its own");
    let key = format!("Authorization: Bearer {}\r\n", ada.token);
    assert_eq!(server.raw(from("203.0.113.7", &key).as_bytes()).await.status, 200, "whoever has a key is not held up by it");
    server.end().await;
}

#[tokio::test]
async fn guessing_keys_is_limited_by_address_and_locks_nobody_out() {
    let server = Server::start_limited(Limiter::default()).await;
    let ada = server.person("ada@example.com", None).await;
    let from = |address: &'static str, key: &str| {
        let body = r#"{"query":"{ me { email } }"}"#;
        format!(
            "POST /graphql/v2 HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: {address}\r\nAuthorization: Bearer {key}\r\n\
             Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
    };
    let mut refused = None;
    for attempt in 1..=1_100u32 {
        let reply = server.raw(from("203.0.113.7", "orr_guessed").as_bytes()).await;
        if reply.status == 429 {
            refused = Some((attempt, reply));
            break;
        }
    }
    let (attempt, reply) = refused.expect("guessing goes on for ever");
    assert_eq!(attempt, 1_001);
    assert_eq!(reply.json()["errors"][0]["extensions"]["violatedPolicies"][0], "failed-authentication");
    assert!((1..=600).contains(&number(&reply, "retry-after")));
    assert_eq!(server.raw(from("203.0.113.7", &ada.token).as_bytes()).await.status, 200, "a key that works does");
    assert_eq!(server.raw(from("203.0.113.8", "orr_guessed").as_bytes()).await.status, 200, "another address is told that it does not");
    server.end().await;
}

#[tokio::test]
async fn what_operations_cost_is_charged_before_and_given_back() {
    let server = Server::start_limited(Limiter::new(LimitRules { cost: Some(600), hobby: Limits::NONE, ..LimitRules::default() })).await;
    let ada = server.person("ada@example.com", None).await;
    let bearer = format!("Bearer {}", ada.token);
    let ask = async |query: &str| {
        let reply = server.graphql(&[("Authorization", &bearer)], query).await;
        (reply.status, reply.header("retry-after").map(str::to_owned), reply.json())
    };
    // It may resolve 50 x 5 fields, and there is one project.
    let listing = "{ projects(first: 50) { edges { node { id name createdAt } } } rateLimit { limit used remaining cost resetAt } }";
    let mut used = 0;
    for _ in 0..4 {
        let (status, _, body) = ask(listing).await;
        let told = &body["data"]["rateLimit"];
        assert_eq!((status, &told["limit"]), (200, &serde_json::json!(600)), "{body}");
        let number = |name: &str| told[name].as_i64().unwrap();
        assert!((150..=320).contains(&number("cost")), "{told}");
        assert_eq!(number("used") + number("remaining"), 600);
        assert!(number("used") - number("cost") <= used + 20, "what was not used came back: {told} after {used}");
        used = number("used") - number("cost");
    }
    // What its variables keep from being executed costs nothing, however dear it would have been.
    let body =
        r#"{"query":"query Q($id: String!) { project(id: $id) { id } projects(first: 50) { edges { node { id name createdAt } } } }"}"#;
    for _ in 0..8 {
        let headers = [("Authorization", bearer.as_str()), ("Content-Type", "application/json")];
        let reply = server.call("POST", "/graphql/v2", &headers, body.as_bytes()).await;
        assert_eq!(reply.status, 400, "{}", reply.text());
    }
    let (status, wait, body) =
        ask("{ projects(first: 100) { edges { node { id name createdAt description services { edges { node { id } } } } } } }").await;
    assert_eq!((status, body["errors"][0]["extensions"]["code"].as_str()), (429, Some("RATE_LIMITED")), "{body}");
    assert!((1..=60).contains(&wait.unwrap().parse::<u32>().unwrap()));
    assert!(body["errors"][0]["message"].as_str().unwrap().contains("smaller pages"), "{body}");
    let (status, _, body) = ask("{ me { email apiTokenRateLimit { remainingPoints } } }").await;
    assert_eq!(status, 200, "the refused one cost nothing: {body}");
    assert!(body["data"]["me"]["apiTokenRateLimit"]["remainingPoints"].as_i64().unwrap() > 500, "{body}");
    server.end().await;
}
