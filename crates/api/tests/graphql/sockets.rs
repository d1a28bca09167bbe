//! graphql-transport-ws on a real socket (`contracts/railway.md` 1.5, `railway-cli.md` 6).

use std::time::Duration;

use api::graphql::Engine;
use domain::deployment::DeploymentStatus as Status;
use domain::deployment::{EventStep, Execution, ExecutionStatus};
use domain::log::{LogKind, Severity};
use domain::rate::Limits;
use domain::trigger::TriggerRun;
use domain::{Tenant, Timestamp};
use futures::{SinkExt, StreamExt};
use ops::auth::Surface;
use ops::environment::EnvironmentCreate;
use ops::limit::{LimitRules, Limiter};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use store::Change;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::server::Server;
use crate::world::{Estate, World};

pub(crate) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    /// The handshake; `Err` is the status of a refusal.
    pub(crate) async fn open(world: &World, token: Option<&str>) -> Result<Self, u16> {
        let mut request = format!("ws://{}/graphql/v2", world.server.address).into_client_request().unwrap();
        request.headers_mut().insert("sec-websocket-protocol", "graphql-transport-ws".parse().unwrap());
        if let Some(token) = token {
            request.headers_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        }
        match connect_async(request).await {
            Ok((socket, _)) => Ok(Self(socket)),
            Err(tokio_tungstenite::tungstenite::Error::Http(answer)) => Err(answer.status().as_u16()),
            Err(error) => panic!("{error}"),
        }
    }

    /// Open and acknowledged.
    pub(crate) async fn ready(world: &World, token: &str) -> Self {
        let mut socket = Self::open(world, Some(token)).await.unwrap();
        socket.send(json!({"type": "connection_init"})).await;
        assert_eq!(socket.receive().await, json!({"type": "connection_ack"}));
        socket
    }

    pub(crate) async fn send(&mut self, message: Value) {
        self.0.send(Message::text(message.to_string())).await.unwrap();
    }

    pub(crate) async fn subscribe(&mut self, id: &str, query: &str, variables: Value) {
        self.send(json!({"type": "subscribe", "id": id, "payload": {"query": query, "variables": variables, "operationName": null}})).await;
    }

    async fn frame(&mut self) -> Message {
        loop {
            let frame = tokio::time::timeout(Duration::from_secs(60), self.0.next()).await.expect("nothing came").unwrap().unwrap();
            if !matches!(frame, Message::Ping(_) | Message::Pong(_)) {
                return frame;
            }
        }
    }

    pub(crate) async fn receive(&mut self) -> Value {
        match self.frame().await {
            Message::Text(text) => serde_json::from_str(&text).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    /// The data of the next event of `id`.
    async fn next(&mut self, id: &str) -> Value {
        let message = self.receive().await;
        assert_eq!((&message["type"], &message["id"]), (&json!("next"), &json!(id)), "{message}");
        assert_eq!(message["payload"].get("errors"), None, "{message}");
        message["payload"]["data"].clone()
    }

    /// The next event, whosever it is: which, and its data.
    async fn message(&mut self) -> (String, String) {
        let message = self.receive().await;
        assert_eq!(message["type"], json!("next"), "{message}");
        (message["id"].as_str().unwrap().to_owned(), message["payload"]["data"].to_string())
    }

    async fn closed_with(&mut self, code: u16) {
        match self.frame().await {
            Message::Close(Some(frame)) => assert_eq!(u16::from(frame.code), code, "{frame:?}"),
            other => panic!("{other:?}"),
        }
    }
}

const DEPLOYMENT: &str = "subscription Deployment($id: String!) { deployment(id: $id) { id status deploymentStopped environmentId snapshotId createdAt service { name } } }";
const EVENTS: &str = "subscription DeploymentEvents($id: String!) { deploymentEvents(id: $id) { id step payload { error skipped } } }";
const LOGS: &str = "subscription EnvironmentLogs($environmentId: String!, $filter: String, $beforeLimit: Int, $beforeDate: String, $anchorDate: String,
      $afterDate: String, $afterLimit: Int) {
    environmentLogs(environmentId: $environmentId, filter: $filter, beforeLimit: $beforeLimit, beforeDate: $beforeDate, anchorDate: $anchorDate,
      afterDate: $afterDate, afterLimit: $afterLimit) { timestamp message attributes { key value } } }";

async fn start() -> (World, Estate) {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    (world, estate)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_is_watched_as_up_does() {
    let (world, estate) = start().await;
    let mut socket = Socket::ready(&world, &estate.person.token).await;
    let id = json!({"id": estate.deployment.to_string()});
    socket.subscribe("0", EVENTS, id.clone()).await;
    assert_eq!(socket.next("0").await["deploymentEvents"]["step"], json!("SNAPSHOT_CODE"));
    socket.subscribe("1", DEPLOYMENT, id).await;
    // The present state at once.
    let first = socket.next("1").await["deployment"].clone();
    assert_eq!((&first["status"], &first["service"]["name"]), (&json!("INITIALIZING"), &json!("web")));
    let snapshot = first["snapshotId"].as_str().unwrap().to_owned();
    world.log(&estate, LogKind::Build, &[(Severity::Info, "early")]).await;
    let mut second = Socket::ready(&world, &estate.person.token).await;
    let since = (Timestamp::now() - Duration::from_secs(300)).to_string();
    let filter = format!("(@snapshot:{snapshot} OR @replica:{snapshot})");
    let window = json!({"environmentId": estate.person.environment.to_string(), "filter": filter, "beforeLimit": 500, "beforeDate": since,
        "anchorDate": null, "afterDate": null, "afterLimit": 0});
    second.subscribe("0", LOGS, window).await;
    assert_eq!(second.next("0").await["environmentLogs"][0]["message"], json!("early"));
    world.log(&estate, LogKind::Deploy, &[(Severity::Info, "an app's")]).await;
    world.log(&estate, LogKind::Build, &[(Severity::Error, "late")]).await;
    let late = second.next("0").await["environmentLogs"].clone();
    assert_eq!((&late[0]["message"], &late[0]["attributes"][0]), (&json!("late"), &json!({"key": "level", "value": "\"error\""})));
    second.send(json!({"type": "complete", "id": "0"})).await;

    world.moved(estate.workspace, estate.deployment, Status::Initializing, Status::Building, None).await;
    assert_eq!(socket.next("1").await["deployment"]["status"], json!("BUILDING"));
    world.failed_step(estate.workspace, estate.deployment, EventStep::SnapshotCode, "the build command failed").await;
    assert_eq!(socket.next("0").await["deploymentEvents"]["payload"]["error"], json!("the build command failed"));
    world.moved(estate.workspace, estate.deployment, Status::Building, Status::Failed, Some("it failed")).await;
    assert_eq!(socket.next("1").await["deployment"]["status"], json!("FAILED"));
    // Nothing is completed by the server; the client's own complete ends it without an answer.
    socket.send(json!({"type": "complete", "id": "1"})).await;
    socket.send(json!({"type": "ping", "payload": {"a": 1}})).await;
    assert_eq!(socket.receive().await, json!({"type": "pong", "payload": {"a": 1}}));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_runs_of_a_schedule_are_watched() {
    let (world, estate) = start().await;
    let (ctx, ann) = (world.server.ctx(&estate.person.token).await, world.bearer(&estate.person.token).await);
    let set = format!("mutation {{ serviceInstanceUpdate(serviceId: \"{}\", input: {{cronSchedule: \"0 4 1 1 *\"}}) }}", estate.service);
    world.data(&ann, &set, Value::Null).await;
    let scheduled = world.deploy(&ctx, &estate.person, Some(estate.service)).await;
    world.moved(estate.workspace, scheduled, Status::Initializing, Status::Success, None).await;
    let run = async || {
        let instance = estate.service_instance;
        ops::execution::deployment_instance_execution_create(&world.server.ctx(&estate.person.token).await, instance).await.unwrap()
    };
    let first = run().await;
    let mut socket = Socket::ready(&world, &estate.person.token).await;
    let query =
        "subscription R($id: String!) { deploymentInstanceExecutions(input: {deploymentId: $id}) { id status exitCode deploymentMeta } }";
    socket.subscribe("0", query, json!({"id": scheduled.to_string()})).await;
    let seen = socket.next("0").await["deploymentInstanceExecutions"].clone();
    assert_eq!((&seen["id"], &seen["status"]), (&json!(first.id.to_string()), &json!("CREATED")));
    assert_eq!(seen["deploymentMeta"]["serviceManifest"]["deploy"]["cronSchedule"], json!("0 4 1 1 *"));
    // What the engine would write down at its end.
    let at = Some(Timestamp::now());
    let ended = Execution { status: ExecutionStatus::Exited, exit_code: Some(0), completed_at: at, ..first.clone() };
    let tenant = Tenant::system(estate.workspace);
    world.server.ops.store.commit(tenant, vec![Change::ExecutionUpdate(ended)]).await.unwrap();
    world.server.ops.signals.deployment_changed(scheduled);
    let seen = socket.next("0").await["deploymentInstanceExecutions"].clone();
    assert_eq!((&seen["id"], &seen["status"], &seen["exitCode"]), (&json!(first.id.to_string()), &json!("EXITED"), &json!(0)));
    let second = run().await;
    let seen = socket.next("0").await["deploymentInstanceExecutions"].clone();
    assert_eq!((&seen["id"], &seen["status"]), (&json!(second.id.to_string()), &json!("CREATED")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_log_ends_after_its_deployment_is_decided_and_not_before() {
    let (world, estate) = start().await;
    world.log(&estate, LogKind::Build, &[(Severity::Info, "one")]).await;
    let mut logs = Socket::ready(&world, &estate.person.token).await;
    let mut status = Socket::ready(&world, &estate.person.token).await;
    let query = "subscription B($id: String!) { buildLogs(deploymentId: $id, filter: \"\", limit: 500) { message } }";
    let id = json!({"id": estate.deployment.to_string()});
    logs.subscribe("0", query, id.clone()).await;
    status.subscribe("0", DEPLOYMENT, id).await;
    assert_eq!(logs.next("0").await, json!({"buildLogs": [{"message": "one"}]}));
    status.next("0").await;
    world.moved(estate.workspace, estate.deployment, Status::Initializing, Status::Failed, None).await;
    assert_eq!(status.next("0").await["deployment"]["status"], json!("FAILED"));
    world.log(&estate, LogKind::Build, &[(Severity::Error, "the last line")]).await;
    assert_eq!(logs.next("0").await, json!({"buildLogs": [{"message": "the last line"}]}));
    assert_eq!(logs.receive().await, json!({"type": "complete", "id": "0"}));
}

/// `railway up` must neither hang nor call it a success.
#[tokio::test(flavor = "multi_thread")]
async fn a_build_log_ends_when_its_deployment_is_deleted() {
    for what in ["service", "environment", "project"] {
        let (world, estate) = start().await;
        let ctx = world.server.ctx(&estate.person.token).await;
        let person = &estate.person;
        let (project, name) = (person.project, "another".to_owned());
        let another = EnvironmentCreate { project, name, source: None, ephemeral: false, skip_deploys: true };
        ops::environment::environment_create(&ctx, another).await.unwrap();
        let mut socket = Socket::ready(&world, &person.token).await;
        let id = json!({"id": estate.deployment.to_string()});
        socket.subscribe("0", "subscription D($id: String!) { deployment(id: $id) { status } }", id.clone()).await;
        assert_eq!(socket.next("0").await["deployment"]["status"], json!("INITIALIZING"), "{what}");
        socket.subscribe("1", "subscription B($id: String!) { buildLogs(deploymentId: $id) { message } }", id).await;
        world.log(&estate, LogKind::Build, &[(Severity::Info, "one")]).await;
        assert_eq!(socket.next("1").await["buildLogs"][0]["message"], json!("one"), "{what}");
        match what {
            "service" => ops::service::service_delete(&ctx, estate.service, None).await.unwrap(),
            "environment" => ops::environment::environment_delete(&ctx, person.environment).await.unwrap(),
            _ => ops::project::project_delete(&ctx, person.project).await.unwrap(),
        }
        assert_eq!(socket.next("0").await["deployment"]["status"], json!("FAILED"), "{what}");
        assert_eq!(socket.receive().await, json!({"type": "complete", "id": "1"}), "{what}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_has_so_many_sockets_and_no_more() {
    let (world, estate) = start().await;
    let (token, mut open) = (estate.person.token.as_str(), vec![]);
    for _ in 0..64 {
        open.push(Socket::ready(&world, token).await);
    }
    assert_eq!(Socket::open(&world, Some(token)).await.err(), Some(429));
    let ctx = world.server.ctx(token).await;
    let (_, another) = ops::token::api_token_create(&ctx, "another", None).await.unwrap();
    Socket::ready(&world, another.expose_secret()).await;
    // One that ends makes room.
    drop(open.pop());
    let again = async {
        while Socket::open(&world, Some(token)).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), again).await.expect("a socket that ended is still counted");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_protocol_is_kept() {
    let (world, estate) = start().await;
    let token = estate.person.token.as_str();
    let mut socket = Socket::open(&world, Some(token)).await.unwrap();
    socket.subscribe("0", "subscription { deployment(id: \"x\") { id } }", json!({})).await;
    socket.closed_with(4401).await;
    for garbage in ["{", "[]", "{\"type\":\"start\"}", "{\"type\":\"subscribe\",\"id\":1}"] {
        let mut socket = Socket::ready(&world, token).await;
        socket.0.send(Message::text(garbage)).await.unwrap();
        socket.closed_with(4400).await;
    }
    let mut socket = Socket::ready(&world, token).await;
    socket.0.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    socket.closed_with(4400).await;
    let mut socket = Socket::ready(&world, token).await;
    socket.send(json!({"type": "connection_init"})).await;
    socket.closed_with(4429).await;
    let mut socket = Socket::ready(&world, token).await;
    let id = json!({"id": estate.deployment.to_string()});
    socket.subscribe("é", DEPLOYMENT, id.clone()).await;
    socket.next("é").await;
    socket.subscribe("é", DEPLOYMENT, id.clone()).await;
    socket.closed_with(4409).await;

    let mut socket = Socket::ready(&world, token).await;
    // Queries are answered, mistakes are errors of their operation, and the socket lives on.
    socket.subscribe("q", "{ me { email } }", json!({})).await;
    assert_eq!(socket.next("q").await, json!({"me": {"email": "ann@x.test"}}));
    assert_eq!(socket.receive().await, json!({"type": "complete", "id": "q"}));
    for (query, text) in [
        ("subscription { nothing }", "Cannot query field \"nothing\" on type \"Subscription\"."),
        (
            "subscription { a: deployment(id: \"x\") { id } b: deployment(id: \"x\") { id } }",
            "A subscription must select only one top level field.",
        ),
        ("subscription { __typename }", "`__typename` may not be included as a root field in a subscription operation."),
        ("subscription { deployment(id: \"x\") { id } }", "Deployment not found"),
        ("subscription", "Syntax Error: Unexpected <EOF>."),
    ] {
        socket.subscribe("e", query, json!({})).await;
        let message = socket.receive().await;
        assert_eq!((&message["type"], &message["payload"][0]["message"]), (&json!("error"), &json!(text)), "{query}: {message}");
    }
    for at in 0..32 {
        socket.subscribe(&format!("s{at}"), DEPLOYMENT, id.clone()).await;
        socket.next(&format!("s{at}")).await;
    }
    socket.subscribe("s32", DEPLOYMENT, id).await;
    assert_eq!(socket.receive().await["payload"][0]["extensions"]["code"], json!("TOO_COMPLEX"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_workspace_tells_that_something_in_it_has_changed() {
    const CHANGES: &str = "subscription Changes($id: String!) { workspaceChanges(workspaceId: $id) { workspaceId } }";
    let (world, estate) = start().await;
    let other = world.estate("bob@x.test").await;
    let told = |of: &Estate| json!({"workspaceChanges": {"workspaceId": of.workspace.to_string()}});
    let (mut socket, mut foreign) = (Socket::ready(&world, &estate.person.token).await, Socket::ready(&world, &other.person.token).await);
    for (socket, of) in [(&mut socket, &estate), (&mut foreign, &other)] {
        socket.subscribe("0", CHANGES, json!({"id": of.workspace.to_string()})).await;
        assert_eq!(socket.next("0").await, told(of));
    }
    // What the engine does, and what a person does.
    world.moved(estate.workspace, estate.deployment, Status::Initializing, Status::Building, None).await;
    assert_eq!(socket.next("0").await, told(&estate));
    let rename = "mutation P($id: String!, $name: String) { projectUpdate(id: $id, input: {name: $name}) { name } }";
    for name in ["second", "third"] {
        let of = json!({"id": other.person.project.to_string(), "name": name});
        world.data(&world.bearer(&other.person.token).await, rename, of).await;
        assert_eq!(foreign.next("0").await, told(&other));
    }
    // What a stranger was told of twice was not told here.
    socket.send(json!({"type": "ping"})).await;
    assert_eq!(socket.receive().await["type"], json!("pong"));
    let of = json!({"id": estate.person.project.to_string(), "name": "second"});
    world.data(&world.bearer(&estate.person.token).await, rename, of).await;
    assert_eq!(socket.next("0").await, told(&estate));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_a_kind_of_change_hears_of_it_and_nobody_else() {
    const CHANGES: &str = "subscription Changes($id: String!, $kinds: [WorkspaceChangeKind!]) {
        workspaceChanges(workspaceId: $id, kinds: $kinds) { kind workspaceId } }";
    let (world, estate) = start().await;
    let told = |kind: &str| json!({"workspaceChanges": {"kind": kind, "workspaceId": estate.workspace.to_string()}});
    let mut plain = Socket::ready(&world, &estate.person.token).await;
    plain.subscribe("0", CHANGES, json!({"id": estate.workspace.to_string()})).await;
    assert_eq!(plain.next("0").await, told("STATE"));
    let mut socket = Socket::ready(&world, &estate.person.token).await;
    for kind in ["TRIGGERS", "FLOW", "DELIVERIES"] {
        socket.subscribe(kind, CHANGES, json!({"id": estate.workspace.to_string(), "kinds": [kind]})).await;
        assert_eq!(socket.next(kind).await, told(kind));
    }
    socket.subscribe("two", CHANGES, json!({"id": estate.workspace.to_string(), "kinds": ["TRIGGERS", "FLOW", "FLOW"]})).await;
    let mut first = [socket.next("two").await.to_string(), socket.next("two").await.to_string()];
    first.sort();
    assert_eq!(first, [told("FLOW").to_string(), told("TRIGGERS").to_string()], "each once at the beginning");

    let (tenant, at) = (Tenant::system(estate.workspace), Timestamp::now());
    let run = TriggerRun { trigger_id: estate.trigger, number: 1, at, outcome: "not executed".into(), log: vec![] };
    world.server.ops.store.commit(tenant, vec![Change::TriggerRunInsert(run)]).await.unwrap();
    let mut heard = [socket.message().await, socket.message().await];
    heard.sort();
    assert_eq!(heard, [("TRIGGERS".to_owned(), told("TRIGGERS").to_string()), ("two".to_owned(), told("TRIGGERS").to_string())]);
    // What has been told above was not told here.
    plain.send(json!({"type": "ping"})).await;
    assert_eq!(plain.receive().await["type"], json!("pong"));
    world.moved(estate.workspace, estate.deployment, Status::Initializing, Status::Building, None).await;
    assert_eq!(plain.next("0").await, told("STATE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_line_in_an_older_spelling_and_its_fragments_are_followed() {
    let (world, estate) = start().await;
    let mut socket = Socket::ready(&world, &estate.person.token).await;
    let query = "# a comment with the word subscription\nfragment F on Subscription { here: deployment(id: $id) { id service { deployments { id } } } }
        subscription S($id: String!) { ...F }";
    socket.subscribe("0", query, json!({"id": estate.deployment.to_string()})).await;
    let id = json!(estate.deployment.to_string());
    assert_eq!(socket.next("0").await["here"], json!({"id": id, "service": {"deployments": [{"id": id}]}}));
}

#[tokio::test(flavor = "multi_thread")]
async fn every_operation_of_a_socket_is_a_request() {
    let limits: Limits = "3/day".parse().unwrap();
    let rules = LimitRules { free: limits, hobby: limits, professional: limits, operator: limits, ..LimitRules::default() };
    let world = World { server: Server::start_limited(Limiter::new(rules)).await, engine: Engine::new(Surface::Railway) };
    let ann = world.server.person("ann@x.test", None).await;
    // The handshake is the first.
    let mut socket = Socket::ready(&world, &ann.token).await;
    for id in ["1", "2"] {
        socket.subscribe(id, "{ me { email } }", json!({})).await;
        assert_eq!(socket.next(id).await["me"]["email"], json!("ann@x.test"));
        assert_eq!(socket.receive().await, json!({"type": "complete", "id": id}));
    }
    socket.subscribe("3", "{ me { email } }", json!({})).await;
    let refused = socket.receive().await;
    assert_eq!((&refused["type"], &refused["id"]), (&json!("error"), &json!("3")), "{refused}");
    assert_eq!(refused["payload"][0]["extensions"]["code"], json!("RATE_LIMITED"), "{refused}");
    assert_eq!(Socket::open(&world, Some(&ann.token)).await.err(), Some(429));
}
