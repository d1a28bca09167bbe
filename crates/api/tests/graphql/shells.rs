//! Who may open a shell into a container, and how many there may be: `GET /graphql/v2/shell/{target}` on a real socket. What is said in one is
//! for the tests of the server, which runs containers.

use std::time::Duration;

use api::ShellTimes;
use api::graphql::Engine;
use domain::deployment::{DeploymentStatus as Status, Replica, ReplicaStatus};
use domain::shell::ShellStream;
use domain::{ReplicaId, Role, Tenant, Timestamp};
use futures::{SinkExt, StreamExt};
use ops::environment::EnvironmentCreate;
use ops::shell::ShellRequest;
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use store::Change;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::http::HeaderName;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::world::{Estate, World};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

/// The handshake with these headers; `Err` is the status of a refusal.
async fn open(world: &World, target: &str, headers: &[(&'static str, &str)]) -> Result<Socket, u16> {
    let mut request = format!("ws://{}/graphql/v2/shell/{target}", world.server.address).into_client_request().unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(HeaderName::from_static(name), value.parse().unwrap());
    }
    match connect_async(request).await {
        Ok((socket, _)) => Ok(socket),
        Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
        Err(error) => panic!("{error}"),
    }
}

async fn status(world: &World, target: &str, headers: &[(&'static str, &str)]) -> u16 {
    open(world, target, headers).await.map_or_else(|status| status, |_| 101)
}

fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

/// The next text frame.
async fn told(socket: &mut Socket) -> Value {
    loop {
        let frame = tokio::time::timeout(Duration::from_secs(60), socket.next()).await.expect("nothing came").unwrap().unwrap();
        if let Message::Text(text) = frame {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

/// A running container of a deployment that was a success.
async fn container(world: &World, estate: &Estate) -> ReplicaId {
    let steps = [Status::Initializing, Status::Building, Status::Deploying, Status::Success];
    for pair in steps.windows(2) {
        world.moved(estate.workspace, estate.deployment, pair[0], pair[1], None).await;
    }
    let now = Timestamp::now();
    let replica = Replica {
        id: ReplicaId::generate(),
        workspace_id: estate.workspace,
        deployment_id: estate.deployment,
        generation: 0,
        index: 0,
        status: ReplicaStatus::Running,
        port: 1,
        exit_code: None,
        reason: None,
        restarts: 0,
        created_at: now,
        updated_at: now,
        unhealthy_since: None,
    };
    let id = replica.id;
    world.server.ops.store.commit(Tenant::system(estate.workspace), vec![Change::ReplicaInsert(replica)]).await.unwrap();
    id
}

async fn verbs(world: &World, estate: &Estate) -> Vec<String> {
    let all = world.server.ops.store.activities(Tenant::system(estate.workspace), None, 100).await.unwrap();
    all.into_iter().map(|activity| activity.verb).filter(|verb| verb.starts_with("container_shell")).collect()
}

/// Waits until so many ends of shells are written down.
async fn ends(world: &World, estate: &Estate, count: usize) {
    let ended = async {
        while verbs(world, estate).await.iter().filter(|verb| *verb == "container_shell_end").count() < count {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ended).await.expect("the ends of shells");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_is_for_whoever_may_read_the_secrets_of_its_container() {
    let world = World::start().await;
    let (victim, other) = (world.estate("victim@x.test").await, world.estate("other@x.test").await);
    let store = &world.server.ops.store;
    let tenant = Tenant::system(victim.workspace);
    let deployment = store.deployment(victim.deployment).await.unwrap().unwrap().open(tenant).unwrap();
    let (owner, stranger) = (bearer(&victim.person.token), bearer(&other.person.token));
    assert_eq!(status(&world, &deployment.instance_id.to_string(), &[("authorization", &owner)]).await, 409, "nothing runs yet");
    let targets = [container(&world, &victim).await.to_string(), deployment.instance_id.to_string()];

    let ctx = world.server.ctx(&victim.person.token).await;
    let project = victim.person.project;
    let beside = EnvironmentCreate { project, name: "beside".into(), source: None, ephemeral: false, skip_deploys: true };
    let beside = ops::environment::environment_create(&ctx, beside).await.unwrap();
    let (_, elsewhere) = ops::token::project_token_create(&ctx, project, beside.row.id, "beside").await.unwrap();
    let cookie = format!("orrery_session={}", victim.session);
    let origin = world.server.origin();
    for target in &targets {
        assert_eq!(status(&world, target, &[]).await, 401);
        assert_eq!(status(&world, target, &[("authorization", "Bearer orr_nonsense")]).await, 401);
        assert_eq!(status(&world, target, &[("authorization", &stranger)]).await, 404);
        assert_eq!(status(&world, target, &[("project-access-token", &other.project_token)]).await, 404);
        assert_eq!(status(&world, target, &[("project-access-token", elsewhere.expose_secret())]).await, 404);
        assert_eq!(status(&world, target, &[("cookie", &cookie)]).await, 403, "a page of nobody");
        assert_eq!(status(&world, target, &[("cookie", &cookie), ("origin", "http://app.localhost:8081")]).await, 403, "an app's page");
    }
    assert_eq!(status(&world, &ReplicaId::generate().to_string(), &[("authorization", &owner)]).await, 404);
    assert_eq!(status(&world, "nonsense", &[("authorization", &owner)]).await, 404);
    for role in [Role::Viewer, Role::Deployer] {
        world.member(victim.workspace, other.person.user.id, role).await;
        for target in &targets {
            assert_eq!(status(&world, target, &[("authorization", &stranger)]).await, 403, "{role:?}");
        }
    }
    world.member(victim.workspace, other.person.user.id, Role::Member).await;
    assert!(verbs(&world, &victim).await.is_empty(), "what is refused is not written down as opened");

    let mut opened = 0;
    for headers in [
        vec![("authorization", owner.as_str())],
        vec![("authorization", stranger.as_str())],
        vec![("project-access-token", victim.project_token.as_str())],
        vec![("cookie", cookie.as_str()), ("origin", origin.as_str())],
    ] {
        for target in &targets {
            assert_eq!(status(&world, target, &headers).await, 101, "{headers:?}");
            opened += 1;
            ends(&world, &victim, opened).await;
        }
    }
    ops::token::project_token_delete(&ctx, victim.project_key).await.unwrap();
    assert_eq!(status(&world, &targets[0], &[("project-access-token", &victim.project_token)]).await, 401);
}

#[tokio::test(flavor = "multi_thread")]
async fn shells_are_counted_written_down_and_given_back() {
    // The first of them says nothing until there are as many as there may be.
    let world = with(ShellTimes { first: Duration::from_secs(600), ..ShellTimes::default() }).await;
    let estate = world.estate("ann@x.test").await;
    let target = container(&world, &estate).await.to_string();
    let token = bearer(&estate.person.token);
    let headers = [("authorization", token.as_str())];
    let mut sockets = vec![];
    for _ in 0..4 {
        sockets.push(open(&world, &target, &headers).await.unwrap());
    }
    assert_eq!(status(&world, &target, &headers).await, 409);
    assert_eq!(verbs(&world, &estate).await, ["container_shell"; 4]);

    // No engine runs in this process.
    let mut first = sockets.pop().unwrap();
    first.send(Message::text(json!({"type": "init_exec", "data": {"command": "canary-line"}}).to_string())).await.unwrap();
    let end = told(&mut first).await;
    assert_eq!((&end["type"], &end["data"]["code"]), (&json!("error"), &json!("UNAVAILABLE")), "{end}");
    for bad in [json!({"type": "resize", "data": {"columns": 1, "rows": 1}}), json!({"type": "init_exec", "data": {"command": ""}})] {
        let mut socket = sockets.pop().unwrap();
        socket.send(Message::text(bad.to_string())).await.unwrap();
        assert_eq!(told(&mut socket).await["data"]["code"], json!("BAD_USER_INPUT"), "{bad}");
    }
    drop(sockets);
    ends(&world, &estate, 4).await;
    // A place is given back just after its end was written down.
    let free = async {
        while status(&world, &target, &headers).await != 101 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), free).await.expect("a free place");
    let all = world.server.ops.store.activities(Tenant::system(estate.workspace), None, 100).await.unwrap();
    assert!(!format!("{all:?}").contains("canary-line"), "what is said in a shell is nobody else's business");
}

/// A server that looks after its shells so often.
async fn looking_after(period: Duration, idle: Duration) -> World {
    with(ShellTimes { period, idle, ..ShellTimes::default() }).await
}

async fn with(times: ShellTimes) -> World {
    World { server: crate::server::Server::start_with_shells(times).await, engine: Engine::new(ops::auth::Surface::Railway) }
}

/// A shell whose program is the test's own.
async fn begun(world: &World, requests: &mut mpsc::Receiver<ShellRequest>, target: &str, token: &str) -> (Socket, ShellRequest) {
    let mut socket = open(world, target, &[("authorization", token)]).await.unwrap();
    socket.send(Message::text(json!({"type": "init_exec", "data": {}}).to_string())).await.unwrap();
    let request = tokio::time::timeout(Duration::from_secs(60), requests.recv()).await.expect("the program's start").unwrap();
    (socket, request)
}

const OFTEN: Duration = Duration::from_millis(50);

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_nothing_types_no_more_either_once_their_key_is_gone() {
    let world = looking_after(OFTEN, Duration::from_secs(600)).await;
    let estate = world.estate("ann@x.test").await;
    let target = container(&world, &estate).await.to_string();
    let mut requests = world.server.ops.shells.requests();
    let (mut socket, ShellRequest { mut input, output, ended: _ended, .. }) =
        begun(&world, &mut requests, &target, &bearer(&estate.person.token)).await;
    // It says more than fits between the two, so that its next word has to wait.
    let patience = Duration::from_millis(500);
    while let Ok(taken) = tokio::time::timeout(patience, output.send((ShellStream::Output, vec![b'x'; 64 << 10]))).await {
        taken.unwrap();
    }
    let ctx = world.server.ctx(&estate.person.token).await;
    let ops::Via::Key(key, _) = ctx.user().unwrap().via else { panic!() };
    ops::token::api_token_delete(&ctx, key).await.unwrap();
    tokio::time::timeout(Duration::from_secs(60), output.closed()).await.expect("the shell goes on");
    assert!(input.recv().await.is_none(), "what is typed still arrives");
    assert_eq!(told(&mut socket).await["data"]["code"], json!("FORBIDDEN"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_shell_is_ended() {
    let world = looking_after(OFTEN, Duration::ZERO).await;
    let estate = world.estate("ann@x.test").await;
    let target = container(&world, &estate).await.to_string();
    let mut requests = world.server.ops.shells.requests();
    let (mut socket, _program) = begun(&world, &mut requests, &target, &bearer(&estate.person.token)).await;
    assert_eq!(told(&mut socket).await["data"]["code"], json!("TIMEOUT"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_shell_ends_with_the_role_that_opened_it_and_not_with_a_new_name() {
    let world = looking_after(OFTEN, Duration::from_secs(600)).await;
    let (estate, other, third) = (world.estate("ann@x.test").await, world.estate("bob@x.test").await, world.estate("cy@x.test").await);
    let bob = other.person.user.id;
    world.member(estate.workspace, bob, Role::Member).await;
    let target = container(&world, &estate).await.to_string();
    let mut requests = world.server.ops.shells.requests();
    let (mut socket, _program) = begun(&world, &mut requests, &target, &bearer(&other.person.token)).await;

    let ann = world.server.ctx(&estate.person.token).await;
    ops::workspace::workspace_update(&ann, estate.workspace, Some("Another name")).await.unwrap();
    world.member(third.workspace, bob, Role::Viewer).await;
    let mut pings = 0;
    while pings < 10 {
        let frame = tokio::time::timeout(Duration::from_secs(60), socket.next()).await.expect("nothing came").unwrap().unwrap();
        assert!(frame.is_ping(), "{frame:?}");
        pings += 1;
    }
    world.member(estate.workspace, bob, Role::Viewer).await;
    assert_eq!(told(&mut socket).await["data"]["code"], json!("FORBIDDEN"));
}
