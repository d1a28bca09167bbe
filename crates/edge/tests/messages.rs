//! HTTP itself: bodies, framing, old and hostile clients, replicas that close connections.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use bytes::Bytes;
use edge::Limits;
use futures::StreamExt as _;
use http::{Method, Request, Response};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use support::{App, Edge, connect, full, nobody, read_all, route, table};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

async fn echo() -> App {
    App::start(|request| async move { Response::new(request.into_body().boxed()) }).await
}

async fn edge_of(app: &App) -> Edge {
    Edge::start(&table(1, vec![("a.localhost", route(vec![app.target()]))])).await
}

/// Highest resident memory of this process so far, in kB.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_body_passes_both_ways_in_little_memory() {
    const PIECES: usize = 1024;
    let app = echo().await;
    let edge = edge_of(&app).await;
    assert_eq!(edge.get("a.localhost", "/").await.status, 200);
    let before = peak();
    let piece = Bytes::from(vec![b'x'; 64 * 1024]);
    let pieces = futures::stream::iter((0..PIECES).map(move |_| Ok::<_, hyper::Error>(Frame::data(piece.clone()))));
    let request = Request::post("/").header("host", "a.localhost").body(http_body_util::BodyExt::boxed(StreamBody::new(pieces))).unwrap();
    let mut response = connect(edge.address).await.send_request(request).await.unwrap();
    let mut received = 0;
    while let Some(frame) = response.body_mut().frame().await {
        received += frame.unwrap().into_data().unwrap().len();
    }
    assert_eq!(received, PIECES * 64 * 1024);
    let grown = peak() - before;
    assert!(grown < 24 * 1024, "64 MB passed and memory grew by {grown} kB");
}

#[tokio::test(flavor = "multi_thread")]
async fn pieces_arrive_as_they_are_sent() {
    let app = echo().await;
    let edge = edge_of(&app).await;
    let (send, pieces) = futures::channel::mpsc::unbounded::<Result<Frame<Bytes>, hyper::Error>>();
    let request = Request::post("/").header("host", "a.localhost").body(http_body_util::BodyExt::boxed(StreamBody::new(pieces))).unwrap();
    let mut sender = connect(edge.address).await;
    let mut response = sender.send_request(request).await.unwrap();
    for piece in ["one", "two", "three"] {
        send.unbounded_send(Ok(Frame::data(Bytes::from_static(piece.as_bytes())))).unwrap();
        // The next piece is only sent when this one has come back.
        assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), piece);
    }
    drop(send);
    assert!(response.body_mut().frame().await.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_that_can_be_read_in_two_ways_never_reach_an_app() {
    let reached = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&reached);
    let app = App::start(move |request| {
        let counter = Arc::clone(&counter);
        async move {
            // Only the first of two requests on a connection is an honest one.
            counter.fetch_add(usize::from(request.uri() != "/honest"), SeqCst);
            Response::new(full("reached"))
        }
    })
    .await;
    let edge = edge_of(&app).await;
    let bodies = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a.localhost\r\n\r\n";
    let mut hostile = vec![
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.0\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a.localhost\r\nHost: a.localhost\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a.localhost\r\nHost: b.localhost\r\n\r\n".to_owned(),
        "GET http://a.localhost/ HTTP/1.1\r\nHost: b.localhost\r\n\r\n".to_owned(),
        "GET http://a.localhost/ HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a.localhost\r\nX: 1\r\n folded\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost : a.localhost\r\n\r\n".to_owned(),
    ];
    for host in ["", "a b", "a.localhost/x", "u@a.localhost", "a.localhost:x", "a.localhost, b", "[::1", "..", "\u{e9}.localhost"] {
        hostile.push(format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    }
    for lengths in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 4",
        "transfer-encoding: CHUNKED\r\nCONTENT-LENGTH:4",
        "Content-Length: 4\r\nContent-Length: 5",
        "Content-Length: 4, 5",
        "Content-Length: +4",
        "Content-Length: -1",
        "Content-Length: 0x4",
        "Content-Length : 4",
        "Content-Length: 99999999999999999999",
        "Transfer-Encoding: identity, chunked\r\nContent-Length: 4",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, identity",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding:\u{b}chunked",
    ] {
        hostile.push(format!("POST / HTTP/1.1\r\nHost: a.localhost\r\n{lengths}\r\n\r\n{bodies}"));
    }
    for request in &hostile {
        let answer = edge.raw(request).await;
        assert!(answer.starts_with("HTTP/1.1 400") || answer.starts_with("HTTP/1.0 400"), "{request:?} was answered {answer:?}");
        assert_eq!(answer.matches("HTTP/1.").count(), 1, "{request:?} was answered {answer:?}");
    }
    assert_eq!(reached.load(SeqCst), 0);
    // Behind an honest request on the same connection, too.
    for honest in [
        "GET /honest HTTP/1.1\r\nHost: a.localhost\r\n\r\n",
        "POST /honest HTTP/1.1\r\nHost: a.localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
    ] {
        let answer = edge.raw(&format!("{honest}{}", hostile[hostile.len() - 15])).await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("HTTP/1.1 400"), "{answer:?}");
    }
    assert_eq!(reached.load(SeqCst), 0);
    assert!(edge.raw("CONNECT a.localhost:443 HTTP/1.1\r\nHost: a.localhost\r\n\r\n").await.starts_with("HTTP/1.1 405"));
    assert!(edge.raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.matches("200").count() == 0);
    assert_eq!(edge.get("a.localhost", "/honest").await.text(), "reached");
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_beyond_the_limit_are_refused_and_large_ones_pass() {
    let app = App::named("ok").await;
    // However long the machine takes to send what nobody reads.
    let limits = Limits { linger: Duration::from_secs(60), ..Limits::default() };
    let edge = Edge::with(&table(1, vec![("a.localhost", route(vec![app.target()]))]), limits).await;
    let with = |size: usize| format!("GET / HTTP/1.1\r\nHost: a.localhost\r\nConnection: close\r\nX-Big: {}\r\n\r\n", "x".repeat(size));
    assert!(edge.raw(&with(50_000)).await.starts_with("HTTP/1.1 200"));
    let refused = edge.raw(&with(80_000)).await;
    assert!(refused.starts_with("HTTP/1.1 431"), "{refused}");
    // The client sees why although most of what it sends is never read.
    let upload = format!("POST / HTTP/1.1\r\nHost: stranger\r\nContent-Length: 9000000\r\n\r\n{}", "x".repeat(4_000_000));
    assert!(edge.raw(&upload).await.starts_with("HTTP/1.1 404"));
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_without_a_body_have_none() {
    let app = App::start(|request| async move {
        let status: u16 = request.uri().path()[1..].parse().unwrap();
        let body = if status == 200 { full("12345") } else { full("") };
        Response::builder().status(status).header("etag", "\"1\"").body(body).unwrap()
    })
    .await;
    let edge = edge_of(&app).await;
    for (method, status, length) in [("HEAD", 200, Some("5")), ("GET", 304, None), ("GET", 204, None), ("HEAD", 304, None)] {
        let pair = format!(
            "{method} /{status} HTTP/1.1\r\nHost: a.localhost\r\n\r\nGET /200 HTTP/1.1\r\nHost: a.localhost\r\nConnection: close\r\n\r\n"
        );
        let answers = edge.raw(&pair).await;
        let (first, second) = answers.split_once("\r\n\r\n").unwrap();
        assert!(first.starts_with(&format!("HTTP/1.1 {status}")) && first.contains("etag: \"1\""), "{answers}");
        assert_eq!(first.lines().find_map(|line| line.strip_prefix("content-length: ")), length, "{method} {status}: {answers}");
        assert!(second.starts_with("HTTP/1.1 200") && second.ends_with("12345"), "{method} {status}: {answers}");
    }
    let head = edge.send(Request::builder().method(Method::HEAD).uri("/").header("host", "stranger").body(full("")).unwrap()).await;
    assert_eq!((head.status.as_u16(), head.body.len()), (404, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn old_and_impatient_clients_are_served() {
    let app = echo().await;
    let edge = edge_of(&app).await;
    let old = edge.raw("GET / HTTP/1.0\r\nHost: a.localhost\r\n\r\n").await;
    assert!(old.starts_with("HTTP/1.0 200"), "{old}");
    let piped = "POST / HTTP/1.0\r\nHost: a.localhost\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi";
    let old = edge.raw(&format!("{piped}{}", piped.replace("keep-alive", "close").replace("hi", "ho"))).await;
    assert!(old.contains("hi") && old.ends_with("ho"), "{old}");
    let close = edge.raw("GET / HTTP/1.1\r\nHost: a.localhost\r\nConnection: close\r\n\r\n").await;
    assert!(close.starts_with("HTTP/1.1 200") && close.contains("connection: close"), "{close}");

    // `Expect: 100-continue` is answered by the edge, and the body is sent only then.
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    let head = "POST / HTTP/1.1\r\nHost: a.localhost\r\nExpect: 100-continue\r\nConnection: close\r\nContent-Length: 5\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut go_on = [0; 12];
    stream.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100");
    stream.write_all(b"later").await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(answer.contains("HTTP/1.1 200") && answer.contains("later"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_and_silent_clients_are_let_go() {
    let app = App::start(|_| async {
        tokio::time::sleep(Duration::from_millis(2_500)).await;
        Response::new(full("worth waiting for"))
    })
    .await;
    let limits = Limits { header_read: Duration::from_millis(1_500), idle: Duration::from_secs(2), ..Limits::default() };
    let edge = Edge::with(&table(1, vec![("a.localhost", route(vec![app.target()]))]), limits).await;
    // Never says anything; says half a request; drips a header without end; goes idle after an answer that itself took longer than all limits.
    assert_eq!(edge.raw("").await, "");
    assert_eq!(edge.raw("GET / HTTP/1.1\r\nHo").await, "");
    let mut dripping = TcpStream::connect(edge.address).await.unwrap();
    dripping.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut dropped = false;
    for _ in 0..1_000 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        dropped = dripping.write_all(b"a: b\r\n").await.is_err();
        if dropped {
            break;
        }
    }
    assert!(dropped, "a client that drips its headers is still connected");
    let answer = edge.raw("GET / HTTP/1.1\r\nHost: a.localhost\r\n\r\n").await;
    assert!(answer.ends_with("worth waiting for"), "{answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_that_close_their_connections_cost_no_request() {
    // Says nothing of closing, and closes after every answer; every second connection even dies when the next request is on its way.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut target = nobody();
    target.address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        for number in 0_usize.. {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                if stream.read(&mut buffer).await.unwrap_or(0) == 0 {
                    return;
                }
                stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
                if number.is_multiple_of(2) {
                    let _ = stream.read(&mut buffer).await;
                }
            });
        }
    });
    let edge = Edge::start(&table(1, vec![("a.localhost", route(vec![target]))])).await;
    let mut sender = connect(edge.address).await;
    for number in 0..200 {
        sender.ready().await.unwrap();
        let reply =
            support::receive(sender.send_request(Request::get("/").header("host", "a.localhost").body(full("")).unwrap()).await.unwrap())
                .await;
        assert_eq!((reply.status.as_u16(), reply.text()), (200, "ok"), "request {number}: {reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_replicas_are_used_again() {
    let app = App::named("ok").await;
    let edge = edge_of(&app).await;
    let mut sender = connect(edge.address).await;
    for _ in 0..100 {
        sender.ready().await.unwrap();
        let request = Request::get("/").header("host", "a.localhost").body(full("")).unwrap();
        support::receive(sender.send_request(request).await.unwrap()).await;
    }
    assert_eq!(app.connections.load(SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_frees_the_replica_and_a_broken_answer_is_not_made_whole() {
    let app = App::start(|request| async move {
        if request.uri() == "/broken" {
            let pieces = futures::stream::iter(["part"]).map(|piece| Ok(Frame::data(Bytes::from(piece)))).chain(futures::stream::pending());
            return Response::builder()
                .header("content-length", "100")
                .body(http_body_util::BodyExt::boxed(StreamBody::new(pieces)))
                .unwrap();
        }
        std::future::pending().await
    })
    .await;
    let edge = edge_of(&app).await;
    let mut stream = TcpStream::connect(edge.address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: a.localhost\r\n\r\n").await.unwrap();
    while edge.ask(r#"{"op":"stats"}"#).await["connections"][app.replica.to_string()] != 1 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    drop(stream);
    assert_eq!(edge.drain(app.replica, Duration::from_secs(20)).await, 0);

    let request = Request::get("/broken").header("host", "a.localhost").body(full("")).unwrap();
    let mut response = connect(edge.address).await.send_request(request).await.unwrap();
    assert_eq!(response.body_mut().frame().await.unwrap().unwrap().into_data().unwrap(), "part");
    app.kill();
    assert!(response.body_mut().frame().await.unwrap().is_err(), "a broken answer must not look complete");
    let log = edge.stop().await;
    assert_eq!(log.iter().map(|line| line.status).collect::<Vec<_>>(), [499, 200]);
    assert!(log[1].response_details.contains("broke off"), "{log:?}");
}
