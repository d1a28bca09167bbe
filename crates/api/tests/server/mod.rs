//! The API on a real socket, with a real store in a temporary folder, and a client that sends exactly the bytes it is told to.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::{ApiState, ShellTimes};
use domain::account::{Plan, User};
use domain::rate::Limits;
use domain::{EnvironmentId, ProjectId, Tenant, Timestamp, WorkspaceId};
use ops::auth::{Presented, Surface, authenticate};
use ops::limit::{LimitRules, Limiter};
use ops::project::ProjectCreate;
use ops::{OpCtx, Ops, Settings, first_run};
use secrecy::{ExposeSecret, SecretString};
use store::{Change, MasterKey, Store, StoreConfig};
use telemetry::{Telemetry, TelemetryConfig};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// The largest upload of the servers here.
pub(crate) const LIMIT: u64 = 1 << 20;

pub(crate) struct Server {
    pub(crate) ops: Arc<Ops>,
    pub(crate) address: SocketAddr,
    pub(crate) stop: CancellationToken,
    pub(crate) task: JoinHandle<std::io::Result<()>>,
    pub(crate) dir: TempDir,
}

/// Somebody with a project of their own.
pub(crate) struct Person {
    pub(crate) user: User,
    pub(crate) token: String,
    pub(crate) project: ProjectId,
    pub(crate) environment: EnvironmentId,
}

impl Server {
    /// A server whose keys have no limits: tests ask faster than people do.
    pub(crate) async fn start() -> Self {
        Self::start_with_shells(ShellTimes::default()).await
    }

    /// The same with other times for shells.
    pub(crate) async fn start_with_shells(times: ShellTimes) -> Self {
        let rules = LimitRules {
            free: Limits::NONE,
            hobby: Limits::NONE,
            professional: Limits::NONE,
            operator: Limits::NONE,
            ..LimitRules::default()
        };
        Self::start_as(Limiter::new(rules), times).await
    }

    /// With limits. What is counted by the day begins anew at midnight, so that no such server starts shortly before it.
    pub(crate) async fn start_limited(limits: Limiter) -> Self {
        away_from_midnight().await;
        Self::start_as(limits, ShellTimes::default()).await
    }

    async fn start_as(limits: Limiter, times: ShellTimes) -> Self {
        let dir = TempDir::new().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let url = format!("sqlite://{}", dir.path().join("orrery.db").display());
        let store = Store::open(StoreConfig { url, master_key: MasterKey::from_bytes([7; 32]) }).await.unwrap();
        let logs = TelemetryConfig { dir: dir.path().join("telemetry"), retain_days: 1, retain_bytes: 1 << 20 };
        let settings = Settings {
            dashboard_url: format!("http://{address}"),
            max_upload_bytes: LIMIT,
            verify_domains: true,
            ..Settings::local(dir.path())
        };
        let mut ops = Ops::new(store, Telemetry::open(logs).unwrap(), settings);
        ops.limits = limits;
        let ops = Arc::new(ops);
        let stop = CancellationToken::new();
        let mut state = ApiState::new(ops.clone());
        // Tests stand in for a reverse proxy, and so for people elsewhere.
        state.trusted_proxies = ["127.0.0.1".parse().unwrap()].into();
        state.shell_times = times;
        let task = tokio::spawn(api::serve(vec![listener], api::router(state), stop.clone()));
        Self { ops, address, stop, task, dir }
    }

    pub(crate) fn blobs(&self) -> PathBuf {
        self.dir.path().join("blobs")
    }

    /// The names in the blob folder.
    pub(crate) fn stored(&self) -> BTreeSet<String> {
        let Ok(entries) = std::fs::read_dir(self.blobs()) else { return BTreeSet::new() };
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    pub(crate) async fn person(&self, email: &str, password: Option<&str>) -> Person {
        let now = Timestamp::now();
        let store = &self.ops.store;
        let user = first_run::user_create(store, email, "Somebody", false, password.map(SecretString::from), now).await.unwrap();
        let (_, token) = first_run::account_token(store, user.id, "test", now).await.unwrap();
        let token = token.expose_secret().to_owned();
        let ctx = self.ctx(&token).await;
        let project = ops::project::project_create(
            &ctx,
            ProjectCreate { name: Some("shop".into()), description: None, workspace: None, environment_name: None },
        )
        .await
        .unwrap();
        let environments = store.environments_of(project.tenant, &[project.row.id]).await.unwrap();
        Person { user, token, project: project.row.id, environment: environments[0].id }
    }

    /// Puts a workspace on a plan.
    pub(crate) async fn plan(&self, workspace: WorkspaceId, plan: Plan) {
        let (store, tenant) = (&self.ops.store, Tenant::system(workspace));
        let mut row = store.workspace(workspace).await.unwrap().unwrap().open(tenant).unwrap();
        row.plan = plan;
        let seen = row.updated_at;
        store.commit(tenant, vec![Change::WorkspaceUpdate(row, seen)]).await.unwrap();
    }

    /// What a verb would be called with for a request with this token.
    pub(crate) async fn ctx(&self, token: &str) -> OpCtx {
        let now = Timestamp::now();
        let principal = authenticate(&self.ops, Surface::Railway, Presented::Bearer(SecretString::from(token)), now, None).await.unwrap();
        OpCtx { ops: self.ops.clone(), principal, request_id: "test".into(), address: None, now }
    }

    pub(crate) async fn login_link(&self, person: &Person) -> String {
        let secret = first_run::login_link(&self.ops.store, person.user.id, Timestamp::now()).await.unwrap();
        secret.expose_secret().to_owned()
    }

    /// A signed-in browser's `Cookie` header.
    pub(crate) async fn browser(&self, person: &Person) -> String {
        let token = self.login_link(person).await;
        let reply = self.submit("/login/link", None, &[("token", &token)]).await;
        assert_eq!(reply.status, 303, "{}", reply.text());
        reply.cookie()
    }

    pub(crate) fn origin(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Sends bytes as they are and reads one answer.
    pub(crate) async fn raw(&self, bytes: &[u8]) -> Reply {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        Reply::read(&mut stream).await
    }

    pub(crate) async fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut request = format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n", self.address, body.len());
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        let mut bytes = (request + "\r\n").into_bytes();
        bytes.extend_from_slice(body);
        self.raw(&bytes).await
    }

    pub(crate) async fn get(&self, path: &str, cookie: Option<&str>) -> Reply {
        let headers: Vec<_> = cookie.map(|cookie| ("Cookie", cookie)).into_iter().collect();
        self.call("GET", path, &headers, b"").await
    }

    /// Sends a form the way one of the server's own pages does.
    pub(crate) async fn submit(&self, path: &str, cookie: Option<&str>, fields: &[(&str, &str)]) -> Reply {
        let origin = self.origin();
        let mut headers = vec![("Origin", origin.as_str())];
        headers.extend(cookie.map(|cookie| ("Cookie", cookie)));
        self.form(path, &headers, fields).await
    }

    pub(crate) async fn form(&self, path: &str, headers: &[(&str, &str)], fields: &[(&str, &str)]) -> Reply {
        let mut headers = headers.to_vec();
        headers.push(("Content-Type", "application/x-www-form-urlencoded"));
        self.call("POST", path, &headers, encode(fields).as_bytes()).await
    }

    pub(crate) async fn graphql(&self, headers: &[(&str, &str)], query: &str) -> Reply {
        let mut headers = headers.to_vec();
        headers.push(("Content-Type", "application/json"));
        self.call("POST", "/graphql/v2", &headers, serde_json::json!({"query": query}).to_string().as_bytes()).await
    }

    /// Stops the server and waits until it has.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap().unwrap();
    }
}

/// What is counted for a day begins anew at midnight, UTC: whoever looks at it does not begin in the minute before.
pub(crate) async fn away_from_midnight() {
    let left = 86_400 - Timestamp::now().as_second() % 86_400;
    if left <= 60 {
        tokio::time::sleep(Duration::from_secs(left.unsigned_abs())).await;
    }
}

pub(crate) fn encode(fields: &[(&str, &str)]) -> String {
    form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish()
}

/// The beginning of an upload, up to and with the blank line.
pub(crate) fn upload_head(server: &Server, person: &Person, token: &str, framing: &str) -> String {
    format!(
        "POST /project/{}/environment/{}/up?serviceId= HTTP/1.1\r\nHost: {}\r\nContent-Type: application/gzip\r\n\
         Authorization: Bearer {token}\r\n{framing}\r\n\r\n",
        person.project, person.environment, server.address
    )
}

pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Reply {
    pub(crate) async fn read(stream: &mut TcpStream) -> Self {
        let mut bytes = vec![];
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
                break end + 4;
            }
            assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0, "closed without an answer: {}", String::from_utf8_lossy(&bytes));
        };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        let mut reply = Self { status, head, body: bytes[end..].to_vec() };
        let length: usize = reply.header("content-length").map_or(0, |length| length.parse().unwrap());
        while reply.body.len() < length {
            assert_ne!(stream.read_buf(&mut reply.body).await.unwrap(), 0, "closed in the middle of an answer");
        }
        reply
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}{}", self.head, self.text()))
    }

    /// The session that the answer sets, as a `Cookie` header.
    pub(crate) fn cookie(&self) -> String {
        let set = self.header("set-cookie").unwrap_or_else(|| panic!("no cookie: {}", self.head));
        set.split(';').next().unwrap().to_owned()
    }
}
