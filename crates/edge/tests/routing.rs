//! Which replica a request reaches, what the replica gets to see, and what the client sees when there is none.

mod support;

use std::time::Duration;

use edge::Limits;
use http::{Method, Request, Response};
use support::{App, Edge, full, nobody, route, table};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

#[tokio::test(flavor = "multi_thread")]
async fn requests_go_by_host_whatever_its_spelling() {
    let (shop, blog, any) = (App::named("shop").await, App::named("blog").await, App::named("any").await);
    let hosts = vec![
        ("shop.localhost", route(vec![shop.target()])),
        ("blog.localhost", route(vec![blog.target()])),
        ("*.apps.localhost", route(vec![any.target()])),
    ];
    let edge = Edge::start(&table(1, hosts)).await;
    for (host, name) in [
        ("shop.localhost", "shop"),
        ("Shop.LocalHost:8080", "shop"),
        ("blog.localhost.", "blog"),
        ("one.apps.localhost", "any"),
        ("a.b.apps.localhost:1", "any"),
    ] {
        assert_eq!(edge.get(host, "/").await.text(), name, "{host}");
    }
    let absolute = edge.raw("GET http://shop.localhost/x HTTP/1.1\r\nHost: shop.localhost\r\nConnection: close\r\n\r\n").await;
    assert!(absolute.ends_with("shop"), "{absolute}");

    let stranger = edge.get("apps.localhost", "/").await;
    assert_eq!((stranger.status.as_u16(), stranger.header("content-type")), (404, "application/json"));
    assert_eq!(stranger.json()["code"], "UNKNOWN_HOST");
    assert_eq!(stranger.json()["requestId"], stranger.header("x-request-id"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_app_learns_who_asked_and_nothing_that_was_meant_for_the_edge() {
    let app = App::start(|request| async move {
        let mut seen: Vec<_> =
            request.headers().iter().map(|(name, value)| format!("{name}: {}", String::from_utf8_lossy(value.as_bytes()))).collect();
        seen.sort();
        Response::builder()
            .header("connection", "x-inner")
            .header("x-inner", "1")
            .header("keep-alive", "timeout=5")
            .body(full(seen.join("\n")))
            .unwrap()
    })
    .await;
    let edge = Edge::start(&table(1, vec![("a.localhost", route(vec![app.target()]))])).await;
    let request = Request::get("/")
        .header("host", "A.localhost:80")
        .header("connection", "x-mine, close")
        .header("x-mine", "1")
        .header("te", "trailers")
        .header("upgrade", "h2c")
        .header("x-forwarded-for", "10.0.0.1")
        .header("x-real-ip", "10.0.0.1")
        .header("x-request-id", "mine-1");
    let reply = edge.send(request.body(full("")).unwrap()).await;
    let expected = [
        "host: A.localhost:80",
        "x-forwarded-for: 10.0.0.1, 127.0.0.1",
        "x-forwarded-host: A.localhost:80",
        "x-forwarded-proto: http",
        "x-real-ip: 127.0.0.1",
        "x-request-id: mine-1",
    ];
    assert_eq!(reply.text().lines().collect::<Vec<_>>(), expected);
    assert_eq!((reply.header("x-request-id"), reply.header("x-inner"), reply.header("keep-alive")), ("mine-1", "", ""));

    let odd = Request::get("/").header("host", "a.localhost").header("x-request-id", "<script>");
    let reply = edge.send(odd.body(full("")).unwrap()).await;
    assert_eq!(reply.header("x-request-id").len(), 36, "an odd request id is replaced");
}

/// Takes a request and closes the connection, as an application does that crashes over it.
async fn closing_at_once() -> domain::routing::Target {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = domain::routing::Target { address: listener.local_addr().unwrap(), ..nobody() };
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.read_exact(&mut [0; 16]).await.unwrap();
        }
    });
    target
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_say_which_deployment_and_why() {
    let silent = App::start(|_| std::future::pending()).await;
    let dying = closing_at_once().await;
    let refused = nobody();
    let mut empty = route(vec![]);
    empty.deployment_id = Some(silent.deployment);
    empty.unavailable = Some("The deployment has crashed: <out of memory>.".into());
    let hosts = vec![
        ("silent.localhost", route(vec![silent.target()])),
        ("dying.localhost", route(vec![dying.clone()])),
        ("refused.localhost", route(vec![refused.clone()])),
        ("empty.localhost", empty),
    ];
    let limits = Limits { first_byte: Duration::from_secs(2), ..Limits::default() };
    let edge = Edge::with(&table(1, hosts), limits).await;
    for (host, status, code, deployment) in [
        ("silent.localhost", 504, "TIMEOUT", silent.deployment),
        ("dying.localhost", 502, "ANSWER_BROKEN_OFF", dying.deployment_id),
        ("refused.localhost", 502, "CONNECTION_REFUSED", refused.deployment_id),
        ("empty.localhost", 503, "NO_REPLICA", silent.deployment),
    ] {
        let reply = edge.get(host, "/").await;
        let object = reply.json();
        assert_eq!((reply.status.as_u16(), reply.header("x-orrery-error")), (status, code));
        assert_eq!((object["code"].as_str(), object["service"].as_str()), (Some(code), Some("shop <1>")));
        assert_eq!(object["deploymentId"], deployment.to_string());

        let page = edge.send(Request::get("/").header("host", host).header("accept", "text/html,*/*").body(full("")).unwrap()).await;
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert!(page.text().contains(&deployment.to_string()) && page.text().contains("shop &lt;1&gt;"), "{}", page.text());
        assert!(page.text().contains(page.header("x-request-id")));
    }
    let page = edge.send(Request::get("/").header("host", "empty.localhost").header("accept", "text/html").body(full("")).unwrap()).await;
    assert!(page.text().contains("crashed: &lt;out of memory&gt;."), "{}", page.text());
    let log = edge.stop().await;
    assert_eq!(log.iter().map(|line| line.status).collect::<Vec<_>>(), [504, 504, 502, 502, 502, 502, 503, 503, 503]);
    assert!(log[4].upstream_errors.contains("refused") && log[4].replica_id == Some(refused.replica_id), "{:?}", log[4]);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_least_loaded_replica_gets_the_request() {
    let (busy, idle) = (App::start(|_| std::future::pending()).await, App::named("idle").await);
    let edge = Edge::start(&table(1, vec![("a.localhost", route(vec![busy.target(), idle.target()]))])).await;
    // Requests stay with the busy replica as they come, so one of the first must get stuck there, and never a second one.
    let mut answered = 0;
    let mut stuck = vec![];
    for _ in 0..20 {
        let (address, request) = (edge.address, Request::get("/").header("host", "a.localhost").body(full("")).unwrap());
        let mut asking = Box::pin(support::send(address, request));
        tokio::select! {
            reply = &mut asking => { assert_eq!(reply.text(), "idle"); answered += 1; }
            () = busy_with(&edge, busy.replica, 1 + stuck.len() as u64) => stuck.push(asking),
        }
    }
    assert_eq!((answered, stuck.len()), (19, 1));
}

async fn busy_with(edge: &Edge, replica: domain::ReplicaId, count: u64) {
    while edge.ask(r#"{"op":"stats"}"#).await["connections"][replica.to_string()].as_u64() < Some(count) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_refuses_is_passed_over_even_for_requests_with_a_body() {
    let app = App::start(|request| async move {
        let body = http_body_util::BodyExt::collect(request.into_body()).await.unwrap().to_bytes();
        Response::new(full(body))
    })
    .await;
    let edge = Edge::start(&table(1, vec![("a.localhost", route(vec![nobody(), app.target(), nobody()]))])).await;
    for _ in 0..20 {
        let request = Request::post("/").header("host", "a.localhost").body(full("pay once")).unwrap();
        assert_eq!(edge.send(request).await.text(), "pay once");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sticky_visitor_stays_until_its_replica_is_gone() {
    let (one, two) = (App::named("one").await, App::named("two").await);
    let sticky = |targets| domain::routing::Route { sticky: true, ..route(targets) };
    let edge = Edge::start(&table(1, vec![("a.localhost", sticky(vec![one.target(), two.target()]))])).await;
    let first = edge.get("a.localhost", "/").await;
    let cookie = first.header("set-cookie").split(';').next().unwrap().to_owned();
    assert!(cookie.starts_with("galaxy-sticky=!"), "{cookie}");
    let again = || Request::get("/").header("host", "a.localhost").header("cookie", format!("a=b; {cookie}")).body(full("")).unwrap();
    for _ in 0..10 {
        let reply = edge.send(again()).await;
        assert_eq!((reply.text(), reply.header("set-cookie")), (first.text(), ""));
    }
    let other = if first.text() == "one" { &two } else { &one };
    edge.publish(&table(2, vec![("a.localhost", sticky(vec![other.target()]))])).await;
    let moved = edge.send(again()).await;
    assert_ne!(moved.text(), first.text());
    assert!(moved.header("set-cookie").contains(&other.replica.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_address_can_ask_for_a_replica_and_every_answer_names_its_own() {
    let (one, two) = (App::named("one").await, App::named("two").await);
    let named = |app: &App, name: &str| domain::routing::Target { name: name.to_owned(), ..app.target() };
    let edge = Edge::start(&table(1, vec![("a.localhost", route(vec![named(&one, "app-1"), named(&two, "app-2")]))])).await;
    for (name, text) in [("app-1", "one"), ("app-2", "two"), ("app-2", "two"), ("app-1", "one")] {
        let reply = edge.get("a.localhost", &format!("/?x=1&_g_container_={name}")).await;
        assert_eq!((reply.text(), reply.header("x-galaxy-container")), (text, name));
    }
    let anyone = edge.get("a.localhost", "/?_g_container_=app-3").await;
    assert!(["app-1", "app-2"].contains(&anyone.header("x-galaxy-container")));
    // A table that names nobody.
    edge.publish(&table(2, vec![("a.localhost", route(vec![one.target()]))])).await;
    assert_eq!(edge.get("a.localhost", "/").await.header("x-galaxy-container"), one.replica.to_string());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_are_tallied_until_they_are_collected() {
    let app = App::named("hello").await;
    let (up, down) = (route(vec![app.target()]), route(vec![]));
    let edge = Edge::start(&table(1, vec![("up.localhost", up.clone()), ("down.localhost", down.clone())])).await;
    for _ in 0..20 {
        edge.get("up.localhost", "/").await;
    }
    edge.get("down.localhost", "/").await;
    let collect = async |after: i64| -> Vec<domain::metric::TrafficSlot> {
        let answer = edge.ask(&format!(r#"{{"op":"traffic","after":{after}}}"#)).await;
        assert_eq!(answer["more"], false);
        serde_json::from_value(answer["slots"].clone()).unwrap()
    };
    let requests = |slots: &[domain::metric::TrafficSlot]| {
        slots.iter().flat_map(|slot| &slot.entries).map(|entry| entry.traffic.requests).sum::<u64>()
    };
    // An interval is handed over when it has ended, which nothing but the clock tells.
    let mut slots = collect(0).await;
    while requests(&slots) < 21 {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        slots = collect(0).await;
    }
    let entries: Vec<_> = slots.iter().flat_map(|slot| slot.entries.clone()).collect();
    let of = |source: domain::metric::MetricSource, status| {
        let matching = entries.iter().filter(move |entry| entry.source == source && entry.status == status);
        matching.fold(domain::metric::Traffic::default(), |mut sum, entry| {
            sum.merge(&entry.traffic);
            sum
        })
    };
    let source = |route: &domain::routing::Route, replica| domain::metric::MetricSource {
        workspace_id: route.workspace_id,
        project_id: route.project_id,
        environment_id: route.environment_id,
        service_id: route.service_id,
        replica,
    };
    let served = of(source(&up, Some((app.deployment, app.replica))), 200);
    assert_eq!((served.requests, served.tx_bytes, served.durations.count()), (20, 100, 20));
    assert_eq!(of(source(&down, None), 503).requests, 1);
    // What is stored is forgotten, and nothing else.
    let last = slots.last().unwrap().at;
    assert!(collect(last).await.is_empty());
    assert!(collect(0).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn the_request_log_has_every_field_and_no_query() {
    let app = App::start(|request| async move {
        let size = http_body_util::BodyExt::collect(request.into_body()).await.unwrap().to_bytes().len();
        Response::builder().status(201).body(full(vec![b'x'; size * 2])).unwrap()
    })
    .await;
    let shop = route(vec![app.target()]);
    let edge = Edge::start(&table(1, vec![("a.localhost", shop.clone())])).await;
    let request =
        Request::builder().method(Method::PUT).uri("/pay?card=4111").header("host", "A.localhost:99").header("user-agent", "till/1");
    let reply = edge.send(request.body(full("12345")).unwrap()).await;
    edge.get("stranger.localhost", "/").await;
    let log = edge.stop().await;
    let [line] = log.as_slice() else { panic!("{log:?}") };
    assert_eq!((line.method.as_str(), line.path.as_str(), line.host.as_str(), line.status), ("PUT", "/pay", "a.localhost", 201));
    assert_eq!((line.rx_bytes, line.tx_bytes, line.client_ua.as_str(), line.src_ip.to_string().as_str()), (5, 10, "till/1", "127.0.0.1"));
    assert_eq!(line.request_id, reply.header("x-request-id"));
    assert_eq!((line.replica_id, line.deployment_id), (Some(app.replica), Some(app.deployment)));
    assert_eq!((line.service_id, line.environment_id, line.workspace_id), (shop.service_id, shop.environment_id, shop.workspace_id));
    assert_eq!((line.upstream_address.as_str(), line.downstream_proto.as_str()), (app.address.to_string().as_str(), "HTTP/1.1"));
    assert_eq!((line.upstream_errors.as_str(), line.response_details.as_str()), ("", ""));
}
