//! Changes while requests are in flight: no request may notice.

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use domain::routing::TcpRoute;
use edge::Limits;
use futures::{SinkExt as _, StreamExt as _};
use http::{Request, Response};
use support::{App, Edge, Sender, full, receive, route, table, try_connect};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;

/// Visitors that keep asking over connections they keep open, with GET and POST in turn, until told to stop.
struct Visitors {
    stop: Arc<AtomicBool>,
    answered: Arc<AtomicUsize>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Visitors {
    fn start(edge: &Edge, count: usize) -> Self {
        let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let visit = |_| {
            let (address, stop, answered) = (edge.address, Arc::clone(&stop), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut failures = vec![];
                let mut sender = reach(address, &mut failures).await;
                for number in 0_usize.. {
                    if stop.load(SeqCst) {
                        break;
                    }
                    let body = if number.is_multiple_of(2) { "" } else { "something" };
                    let method = if number.is_multiple_of(2) { "GET" } else { "POST" };
                    let request = Request::builder().method(method).uri("/").header("host", "a.localhost").body(full(body)).unwrap();
                    match sender.send_request(request).await {
                        Ok(response) if response.status() == 200 => drop(receive(response).await),
                        Ok(response) => failures.push(format!("{:?}", receive(response).await)),
                        Err(error) => {
                            failures.push(error.to_string());
                            sender = reach(address, &mut failures).await;
                        }
                    }
                    if sender.ready().await.is_err() {
                        sender = reach(address, &mut failures).await;
                    }
                    answered.fetch_add(1, SeqCst);
                }
                failures
            })
        };
        let tasks = (0..count).map(visit).collect();
        Self { stop, answered, tasks }
    }

    async fn more(&self, count: usize) {
        let target = self.answered.load(SeqCst) + count;
        while self.answered.load(SeqCst) < target {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    async fn stop(self) -> Vec<String> {
        self.stop.store(true, SeqCst);
        let mut failures = vec![];
        for task in self.tasks {
            failures.extend(task.await.unwrap());
        }
        failures
    }
}

/// A visitor's connection. One that is reset while it is made is a failure like that of a request.
async fn reach(address: SocketAddr, failures: &mut Vec<String>) -> Sender {
    loop {
        match try_connect(address).await {
            Ok(sender) => return sender,
            Err(error) => failures.push(error.to_string()),
        }
        assert!(failures.len() < 100, "{failures:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_replaced_under_load_without_a_failed_request() {
    let slow = || async {
        App::start(|_| async {
            tokio::time::sleep(Duration::from_millis(3)).await;
            Response::new(full("hello"))
        })
        .await
    };
    let mut apps = vec![slow().await, slow().await];
    let hosts = |apps: &[App]| vec![("a.localhost", route(apps.iter().map(App::target).collect()))];
    let edge = Edge::start(&table(1, hosts(&apps))).await;
    let visitors = Visitors::start(&edge, 16);
    for version in 2..12 {
        visitors.more(100).await;
        let fresh = vec![slow().await, slow().await];
        edge.publish(&table(version, hosts(&fresh))).await;
        for old in std::mem::replace(&mut apps, fresh) {
            assert_eq!(edge.drain(old.replica, Duration::from_secs(60)).await, 0);
            old.kill();
        }
    }
    visitors.more(100).await;
    assert_eq!(visitors.stop().await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_edge_takes_over_from_the_old_one_under_load() {
    let app = App::named("hello").await;
    let mut old = Edge::start(&table(7, vec![("a.localhost", route(vec![app.target()]))])).await;
    let visitors = Visitors::start(&old, 8);
    visitors.more(200).await;
    let new = Edge::in_dir(Arc::clone(&old.dir), old.address, Limits::default()).await;
    assert_eq!(new.address, old.address);
    old.join().await;
    visitors.more(200).await;
    let failures = visitors.stop().await;
    // A client whose idle connection is closed just when it asks sees an error that HTTP clients repeat by themselves, and may see another
    // when the connection that it makes then still meets the old listener; an answer must never be wrong.
    assert!(failures.len() <= 16 && failures.iter().all(|failure| !failure.contains("Reply")), "{failures:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_is_not_shared_with_the_edge_of_another_folder() {
    let app = App::named("hello").await;
    let mut edge = Edge::on_own_port(&table(1, vec![("a.localhost", route(vec![app.target()]))])).await;
    let other = Arc::new(tempfile::tempdir().unwrap());
    let config = edge::EdgeConfig::new(vec![edge.address], other.path().to_owned());
    let error = tokio::task::spawn_blocking(move || edge::run(config)).await.unwrap().unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    assert!(error.to_string().contains(&edge.address.to_string()), "{error}");
    assert_eq!(edge.get("a.localhost", "/").await.text(), "hello");

    // As if the whole installation were removed and made again: its port is there for the next. At once, for it writes its log meanwhile.
    let gone = tempfile::tempdir().unwrap();
    std::fs::rename(edge.dir.path(), gone.path().join("edge")).unwrap();
    // The next one waits for it, but not for as long as a busy machine may take.
    edge.join().await;
    let next = Edge::in_dir(other, edge.address, Limits::default()).await;
    assert_eq!(next.get("a.localhost", "/").await.status, 404, "it is asked, and not the one before");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edge_says_which_program_it_is_and_how_it_was_started() {
    let edge = Edge::secure(Arc::new(tempfile::tempdir().unwrap()), Limits::default()).await;
    let pong: edge::control::Pong = serde_json::from_value(edge.ask(r#"{"op":"ping"}"#).await).unwrap();
    assert_eq!((pong.base_domain.as_str(), pong.listen), ("apps.test", vec![edge.address]));
    assert_eq!(pong.program, edge::control::program());
    assert!(pong.program.starts_with(env!("CARGO_PKG_VERSION")) && pong.program.contains(' '), "{}", pong.program);
    let earlier: edge::control::Pong = serde_json::from_str(r#"{"version":3,"pid":7,"listen":["127.0.0.1:80"]}"#).unwrap();
    assert_eq!((earlier.version, earlier.program.as_str()), (3, ""), "one from before says less");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_table_from_disk_is_there_with_the_first_connection() {
    let app = App::named("hello").await;
    let edge = Edge::on_own_port(&table(41, vec![("a.localhost", route(vec![app.target()]))])).await;
    assert_eq!(edge.get("a.localhost", "/").await.text(), "hello");
    let (dir, address) = (Arc::clone(&edge.dir), edge.address);
    edge.stop().await;
    // Nobody reloads anything here.
    let edge = Edge::in_dir(dir, address, Limits::default()).await;
    assert_eq!(edge.get("a.localhost", "/").await.text(), "hello");
    assert_eq!(edge.ask(r#"{"op":"ping"}"#).await["version"], 41);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_table_or_request_changes_nothing() {
    let app = App::named("hello").await;
    let edge = Edge::start(&table(3, vec![("a.localhost", route(vec![app.target()]))])).await;
    std::fs::write(edge.dir.path().join(edge::table::FILE), "{\"version\":4,").unwrap();
    let answer = edge.ask(r#"{"op":"reload"}"#).await;
    assert!(answer["error"].as_str().unwrap().contains("table.json") && answer["version"] == 3, "{answer}");
    for nonsense in ["", "{}", "[1]", r#"{"op":"drain"}"#, r#"{"op":"rm"}"#, r#"{"op":"drain","replica":"x","timeoutMs":1}"#] {
        assert!(edge.ask(nonsense).await["error"].is_string(), "{nonsense}");
    }
    assert_eq!(edge.get("a.localhost", "/").await.text(), "hello");
    let dir = Arc::clone(&edge.dir);
    edge.stop().await;
    let edge = Edge::in_dir(dir, "127.0.0.1:0".parse().unwrap(), Limits::default()).await;
    assert_eq!(edge.get("a.localhost", "/").await.status, 404, "a start with a broken table serves nothing, but it serves");
    use std::os::unix::fs::PermissionsExt as _;
    let mode = std::fs::metadata(edge.dir.path().join(edge::control::SOCKET)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_waits_for_requests_in_flight() {
    let (release, _) = tokio::sync::broadcast::channel::<()>(1);
    let (held, arrived) = (release.clone(), Arc::new(tokio::sync::Notify::new()));
    let notify = Arc::clone(&arrived);
    let app = App::start(move |_| {
        let (mut held, notify) = (held.subscribe(), Arc::clone(&notify));
        async move {
            notify.notify_one();
            held.recv().await.unwrap();
            Response::new(full("late"))
        }
    })
    .await;
    let edge = Arc::new(Edge::start(&table(1, vec![("a.localhost", route(vec![app.target()]))])).await);
    let asking = tokio::spawn({
        let edge = Arc::clone(&edge);
        async move { edge.get("a.localhost", "/").await }
    });
    arrived.notified().await;
    edge.publish(&table(2, vec![])).await;
    assert_eq!(edge.drain(app.replica, Duration::from_millis(30)).await, 1);
    let (drained, _) = tokio::join!(edge.drain(app.replica, Duration::from_secs(20)), async { release.send(()).unwrap() });
    assert_eq!(drained, 0);
    assert_eq!(asking.await.unwrap().text(), "late", "a request in flight is answered although its replica has left the table");
    assert_eq!(edge.drain(domain::ReplicaId::generate(), Duration::from_secs(20)).await, 0, "an unknown replica has nothing in flight");
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_answers_what_is_in_flight_and_takes_nothing_new() {
    let arrived = Arc::new(tokio::sync::Notify::new());
    let notify = Arc::clone(&arrived);
    let app = App::start(move |_| {
        let notify = Arc::clone(&notify);
        async move {
            notify.notify_one();
            tokio::time::sleep(Duration::from_millis(100)).await;
            Response::new(full("late"))
        }
    })
    .await;
    let mut edge = Edge::on_own_port(&table(1, vec![("a.localhost", route(vec![app.target()]))])).await;
    let address = edge.address;
    let asking =
        tokio::spawn(async move { support::send(address, Request::get("/").header("host", "a.localhost").body(full("")).unwrap()).await });
    arrived.notified().await;
    nix::sys::signal::raise(nix::sys::signal::Signal::SIGTERM).unwrap();
    edge.join().await;
    assert_eq!(asking.await.unwrap().text(), "late");
    assert!(TcpStream::connect(address).await.is_err());
    assert_eq!(edge.log().len(), 1);
}

/// Whoever is connected to a database hears of the end, and the next edge has the port, while requests are still answered.
#[tokio::test(flavor = "multi_thread")]
async fn tcp_ports_are_let_go_of_before_requests_in_flight_have_ended() {
    let (arrived, answer) = (Arc::new(tokio::sync::Notify::new()), Arc::new(tokio::sync::Notify::new()));
    let (notify, permit) = (Arc::clone(&arrived), Arc::clone(&answer));
    let app = App::start(move |_| {
        let (notify, permit) = (Arc::clone(&notify), Arc::clone(&permit));
        async move {
            notify.notify_one();
            permit.notified().await;
            Response::new(full("late"))
        }
    })
    .await;
    let port = support::free_port();
    let mut table = table(1, vec![("a.localhost", route(vec![app.target()]))]);
    table.tcp.insert(port, TcpRoute { public: false, source: None, targets: vec![] });
    let mut edge = Edge::with(&table, Limits { graceful: Duration::from_secs(1000), ..Limits::default() }).await;
    let address = edge.address;
    let mut held = loop {
        match TcpStream::connect(("127.0.0.1", port)).await {
            Ok(stream) => break stream,
            Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
        }
    };
    let asking =
        tokio::spawn(async move { support::send(address, Request::get("/").header("host", "a.localhost").body(full("")).unwrap()).await });
    arrived.notified().await;
    edge.ask(r#"{"op":"shutdown"}"#).await;
    assert_eq!(support::read_all(&mut held).await, "");
    // The port follows the connections, or comes before them.
    while TcpListener::bind(("127.0.0.1", port)).await.is_err() {
        assert!(!asking.is_finished(), "nobody has answered yet");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(!asking.is_finished());
    answer.notify_one();
    assert_eq!(asking.await.unwrap().text(), "late");
    edge.join().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn websockets_pass_both_ways_and_count_as_in_flight() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut target = support::nobody();
    target.address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut socket = tokio_tungstenite::accept_async(stream).await.unwrap();
                socket.send(Message::text("welcome")).await.unwrap();
                while let Some(Ok(message)) = socket.next().await {
                    if message.is_text() || message.is_binary() {
                        socket.send(message).await.unwrap();
                    }
                }
            });
        }
    });
    let replica = target.replica_id;
    let edge = Edge::start(&table(1, vec![("a.localhost", route(vec![target]))])).await;
    let stream = TcpStream::connect(edge.address).await.unwrap();
    let (mut socket, response) = tokio_tungstenite::client_async("ws://a.localhost/chat", stream).await.unwrap();
    assert_eq!(response.status(), 101);
    assert_eq!(socket.next().await.unwrap().unwrap().to_text().unwrap(), "welcome");
    for size in [1, 1000, 1_000_000] {
        let message = Message::binary(vec![7; size]);
        socket.send(message.clone()).await.unwrap();
        assert_eq!(socket.next().await.unwrap().unwrap(), message);
    }
    edge.publish(&table(2, vec![])).await;
    assert_eq!(edge.drain(replica, Duration::from_millis(20)).await, 1);
    socket.send(Message::text("still here")).await.unwrap();
    assert_eq!(socket.next().await.unwrap().unwrap().to_text().unwrap(), "still here");
    socket.close(None).await.unwrap();
    while let Some(Ok(_)) = socket.next().await {}
    drop(socket);
    assert_eq!(edge.drain(replica, Duration::from_secs(20)).await, 0);
    let log = edge.stop().await;
    assert_eq!((log.len(), log[0].status, log[0].path.as_str()), (1, 101, "/chat"));
    assert!(log[0].rx_bytes > 1_000_000 && log[0].tx_bytes > 1_000_000, "{log:?}");
}
