//! Documents that are meant to hurt are answered with a clear error, and the next request as ever.

use std::fmt::Write as _;

use ops::Principal;
use serde_json::{Value, json};

use crate::world::World;

fn nested(levels: usize) -> String {
    format!("{}{}", "{ a ".repeat(levels), "}".repeat(levels))
}

fn bomb(doublings: usize) -> String {
    let mut text = "{ ...F0 }".to_owned();
    for at in 0..doublings {
        let _ = write!(text, " fragment F{at} on Query {{ ...F{0} ...F{0} }}", at + 1);
    }
    text + &format!(" fragment F{doublings} on Query {{ __typename }}")
}

fn cycle(length: usize) -> String {
    let mut text = "{ ...F0 }".to_owned();
    for at in 0..length {
        let _ = write!(text, " fragment F{at} on Query {{ ...F{0} ...F{0} }}", (at + 1) % length);
    }
    text
}

fn aliases(count: usize) -> String {
    (0..count).fold("{".to_owned(), |mut text, at| {
        let _ = write!(text, " a{at}: __typename");
        text
    }) + " }"
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_beyond_a_limit_are_refused() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ann = world.bearer(&estate.person.token).await;
    let wide = "{ me { workspaces { projects(first: 500) { edges { node { services { edges { node { serviceInstances { edges { node { \
                latestDeployment { instances { id } } } } } } } } } } } } } }";
    let introspection = format!("{{ __schema {{ types {{ {} name {} }} }} }}", "fields { type { ".repeat(6), "} }".repeat(6));
    for (what, document) in [
        ("10,000 levels", nested(10_000)),
        ("10,000 aliases", aliases(10_000)),
        ("300 aliases", aliases(300)),
        ("10,000 directives", format!("{{ __typename {} }}", "@include(if: true) ".repeat(10_000))),
        ("200 directives", format!("{{ __typename {} }}", "@include(if: true) ".repeat(200))),
        ("2^26 fields in 1 KB", bomb(26)),
        ("2^26 fields that no operation asks for", bomb(26).replacen("...F0", "__typename", 1)),
        ("10,000 levels of a value", format!("{{ project(id: {}{}) {{ id }} }}", "[".repeat(10_000), "]".repeat(10_000))),
        ("a million tokens", format!("{{ {} }}", "a ".repeat(1_000_000))),
        ("61 root fields", format!("{{ {} }}", (0..61).map(|at| format!("a{at}: __typename ")).collect::<String>())),
        ("pages of pages", wide.to_owned()),
        ("the schema's types, again and again", introspection),
    ] {
        let (status, body) = world.send(&ann, &document, Value::Null).await;
        assert_eq!((status, &body["errors"][0]["extensions"]["code"]), (400, &json!("TOO_COMPLEX")), "{what}: {body}");
        assert!(body.to_string().len() < 4_000, "{what}");
    }
    let page = "query P($first: Int) { projects(first: $first) { edges { node { services(first: $first) { edges { node { serviceInstances(first: $first) { edges { node { id } } } } } } } } } }";
    assert_eq!(world.send(&ann, page, json!({"first": 10})).await.0, 200);
    let (status, body) = world.send(&ann, page, json!({"first": 500})).await;
    assert_eq!((status, &body["errors"][0]["extensions"]["code"]), (400, &json!("TOO_COMPLEX")));
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_documents_are_refused_in_few_words() {
    let world = World::start().await;
    let nobody = Principal::Anonymous;
    for (what, document) in [
        ("a cycle of fragments", cycle(26)),
        ("two fragments of one name", format!("{} fragment F0 on Query {{ __typename }}", cycle(3))),
        ("a cycle that no operation asks for", cycle(26).replacen("...F0", "__typename", 1)),
        ("a fragment of itself", "{ ...F } fragment F on Query { ...F }".to_owned()),
        ("one long word", "a".repeat(1 << 20)),
        ("one long text", format!("{{ project(id: \"{}", "x".repeat(1 << 20))),
        ("brackets only", "{".repeat(1 << 16)),
        ("nothing but commas", ",".repeat(1 << 20)),
        ("a byte order mark and no document", "\u{feff}".to_owned()),
        ("control characters", "\u{0}\u{1}\u{7f}".to_owned()),
        ("a schema", "type Query { a: Int }".to_owned()),
        ("a list that never ends", format!("{{ project(id: [{}", "1 ".repeat(1 << 12))),
        ("an unknown escape", "{ project(id: \"\\x\") { id } }".to_owned()),
        ("half a surrogate", "{ project(id: \"\\ud800\") { id } }".to_owned()),
        ("a fragment on nothing", "{ ...F } fragment F on Nothing { id }".to_owned()),
        ("two subscriptions in one", "subscription { deployment(id: \"a\") { id } deploymentEvents(id: \"a\") { id } }".to_owned()),
    ] {
        let (status, body) = world.send(&nobody, &document, Value::Null).await;
        assert_eq!(status, 400, "{what}: {body}");
        assert!(body["errors"][0]["message"].is_string() && body.to_string().len() < 40_000, "{what}: {}", body.to_string().len());
    }
    // And after all that:
    assert_eq!(world.data(&nobody, "{ __typename }", Value::Null).await, json!({"__typename": "Query"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn strange_variables_are_refused_by_name() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ann = world.bearer(&estate.person.token).await;
    let query = "query P($id: String!) { project(id: $id) { id } }";
    let mut deep = json!(1);
    for _ in 0..100 {
        deep = json!([deep]);
    }
    for value in [json!(7), json!(true), json!({"a": 1}), json!(["x", "y"]), deep, json!(1e300), json!(9_007_199_254_740_993_i64)] {
        let (status, body) = world.send(&ann, query, json!({"id": value})).await;
        assert_eq!(status, 400, "{body}");
        assert!(body["errors"][0]["message"].as_str().unwrap().contains("$id"), "{body}");
    }
    let (status, _) = world.send(&ann, query, json!({"id": "x".repeat(1 << 20)})).await;
    assert_eq!(status, 200);
    let page = "query P($first: Int) { projects(first: $first) { edges { cursor } } }";
    for first in [json!(-1), json!(2_147_483_647), json!(4_294_967_296_i64), json!("5")] {
        let (_, body) = world.send(&ann, page, json!({"first": first})).await;
        assert!(body["errors"][0]["message"].is_string(), "{first}: {body}");
    }
    for after in ["", "nonsense", "'; drop table projects; --", "\u{0}"] {
        let (status, _) =
            world.send(&ann, "query P($after: String) { projects(after: $after) { edges { cursor } } }", json!({"after": after})).await;
        assert_eq!(status, 200);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_webhook_is_tried_out_ten_times_a_minute() {
    let world = World::start().await;
    let person = world.server.person("ann@x.test", None).await;
    let who = world.bearer(&person.token).await;
    let test = "mutation M($url: String!, $payload: String!) { webhookTest(url: $url, payload: $payload) }";
    let asked = |url: &str, payload: &str| json!({"url": url, "payload": payload});
    let good = || asked("https://hooks.example.com/x", "{\"hello\":1}");
    let absent = world.error(&who, test, good()).await;
    assert_eq!(absent["extensions"]["code"], "UNAVAILABLE", "{absent}");

    // The engine's part.
    let mut requests = world.server.ops.webhooks.requests();
    tokio::spawn(async move {
        while let Some(request) = requests.recv().await {
            assert_eq!((request.url.as_str(), request.payload.as_str()), ("https://hooks.example.com/x", "{\"hello\":1}"));
            request.answered.send(Ok(503)).expect("somebody waits");
        }
    });
    for (url, payload) in [("file:///etc/passwd", "{}"), ("https://hooks.example.com/x", "hello"), ("", "{}")] {
        assert_eq!(world.error(&who, test, asked(url, payload)).await["extensions"]["code"], "BAD_USER_INPUT", "{url} {payload}");
    }
    // The one that could not be sent counts: whether it can is not known before.
    for _ in 0..9 {
        assert_eq!(world.data(&who, test, good()).await["webhookTest"], json!(503));
    }
    let error = world.error(&who, test, good()).await;
    assert_eq!(error["extensions"]["code"], "RATE_LIMITED", "{error}");
}
