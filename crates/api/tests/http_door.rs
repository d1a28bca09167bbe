//! What every request meets before a handler: framing, sizes, names, origins, and the log.

mod server;

use std::io;
use std::sync::{Arc, LazyLock, Mutex};

use server::{Reply, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tracing_subscriber::fmt::MakeWriter;

#[tokio::test]
async fn every_answer_names_its_request() {
    let server = Server::start().await;
    let ada = server.person("ada@example.com", None).await;
    let bearer = format!("Bearer {}", ada.token);
    let mut replies = vec![
        (200, server.get("/", None).await),
        (200, server.get("/healthz", None).await),
        (200, server.graphql(&[("Authorization", &bearer)], "{ __typename }").await),
        (303, server.get("/oauth/device", None).await),
        (400, server.get("/oauth/auth", None).await),
        (400, server.graphql(&[("Authorization", &bearer)], "{ nonsense }").await),
        (400, server.form("/oauth/token", &[], &[]).await),
        (400, server.raw(b"GET / HTTP/1.1\r\n\r\n").await),
        (403, server.form("/login", &[("Origin", "http://evil.example")], &[]).await),
        (404, server.get("/nowhere", None).await),
        (405, server.get("/graphql/v2", None).await),
        (405, server.call("DELETE", "/login", &[], b"").await),
        (413, server.form("/oauth/token", &[], &[("x", &"y".repeat(20_000))]).await),
    ];
    let mut seen = std::collections::BTreeSet::new();
    for (status, reply) in replies.drain(..) {
        // OAuth has no word for a body that is too large but `invalid_request`.
        let status = if status == 413 { 400 } else { status };
        assert_eq!(reply.status, status, "{}", reply.text());
        let id = reply.header("x-request-id").unwrap_or_else(|| panic!("{}", reply.head));
        assert!(seen.insert(id.to_owned()), "{id} twice");
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{}", reply.head);
        if reply.status >= 400 && reply.header("content-type") == Some("application/json") {
            assert!(reply.text().contains(id), "{}", reply.text());
        }
    }
    server.end().await;
}

#[tokio::test]
async fn a_request_that_can_be_read_in_two_ways_is_refused() {
    let server = Server::start().await;
    let ada = server.person("ada@example.com", None).await;
    let token = &ada.token;
    let refused = [
        "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello".to_owned(),
        "POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello".to_owned(),
        "POST /login HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked, identity\r\n\r\n".to_owned(),
        "POST /login HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost: a\r\nX: y\r\n folded\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n".to_owned(),
        format!("GET / HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {token}\r\nAuthorization: Bearer x\r\n\r\n"),
        format!("GET / HTTP/1.1\r\nHost: a\r\nProject-Access-Token: {token}\r\nproject-access-token: x\r\n\r\n"),
    ];
    for request in refused {
        assert_eq!(server.raw(request.as_bytes()).await.status, 400, "{request}");
    }
    let large = format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "y".repeat(70_000));
    assert_eq!(server.raw(large.as_bytes()).await.status, 431);

    // Both lengths: the chunks count, and what follows them is a request of its own and not hidden in a body.
    let both = "POST /login HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
                GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut stream = server.connect().await;
    stream.write_all(both.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).await.unwrap();
    let statuses: Vec<_> = all.lines().filter(|line| line.starts_with("HTTP/1.1 ")).collect();
    assert!(statuses[0].contains("403"), "{all}");
    assert!(statuses.len() == 1 || statuses[1].contains("200"), "{all}");
    server.end().await;
}

#[tokio::test]
async fn a_graphql_body_is_checked_before_anything_looks_into_it() {
    let server = Server::start().await;
    let ada = server.person("ada@example.com", None).await;
    let bearer = format!("Bearer {}", ada.token);
    let send = async |kind: &str, body: &[u8]| {
        server.call("POST", "/graphql/v2", &[("Authorization", &bearer), ("Content-Type", kind)], body).await
    };
    let deep = format!(r#"{{"query":"{{__typename}}","variables":{{"a":{}1{}}}}}"#, "[".repeat(100_000), "]".repeat(100_000));
    let cases: [(&str, Vec<u8>); 8] = [
        ("application/json", b"{\"query\":\"\xff\"}".to_vec()),
        ("application/json", b"query { __typename }".to_vec()),
        ("application/json", b"".to_vec()),
        ("application/json", b"{\"variables\":{}}".to_vec()),
        ("application/json", b"[{\"query\":\"{__typename}\"}]".to_vec()),
        ("application/json", b"{\"query\":\"{__typename}\",\"variables\":[1]}".to_vec()),
        ("application/json", deep.into_bytes()),
        ("text/plain", b"{\"query\":\"{__typename}\"}".to_vec()),
    ];
    for (kind, body) in cases {
        let reply = send(kind, &body).await;
        let shown = String::from_utf8_lossy(&body[..body.len().min(60)]).into_owned();
        assert_eq!(reply.status, 400, "{shown}: {}", reply.text());
        let answer = reply.json();
        assert!(answer["data"].is_null() && answer["errors"][0]["message"].is_string(), "{shown}: {answer}");
        assert_eq!(answer["errors"][0]["extensions"]["code"], "BAD_USER_INPUT", "{shown}");
    }
    for kind in ["application/json", "application/json; charset=utf-8", "application/graphql+json"] {
        let reply = send(kind, b"{\"query\":\"{__typename}\",\"variables\":null,\"operationName\":null}").await;
        assert_eq!((reply.status, reply.json()["data"]["__typename"].as_str()), (200, Some("Query")), "{kind}");
    }
    let reply = send("application/json", &vec![b' '; (1 << 20) + 1]).await;
    assert_eq!((reply.status, reply.json()["errors"][0]["extensions"]["code"].as_str()), (413, Some("TOO_LARGE")));
    let head = format!(
        "POST /graphql/v2 HTTP/1.1\r\nHost: a\r\nAuthorization: {bearer}\r\nContent-Type: application/json\r\nContent-Length: 2147483648\r\n\r\n"
    );
    assert_eq!(server.raw(head.as_bytes()).await.status, 413);
    server.end().await;
}

#[tokio::test]
async fn each_credential_has_its_place() {
    let server = Server::start().await;
    let ada = server.person("ada@example.com", None).await;
    let ctx = server.ctx(&ada.token).await;
    let (_, key) = ops::token::project_token_create(&ctx, ada.project, ada.environment, "ci").await.unwrap();
    let project = secrecy::ExposeSecret::expose_secret(&key).to_owned();
    let bearer = format!("Bearer {}", ada.token);
    let asks = "{ projectToken { projectId } }";
    let project_id = ada.project.to_string();
    let first = |reply: &Reply| reply.json()["errors"][0]["message"].as_str().unwrap_or_default().to_owned();

    for name in ["Project-Access-Token", "project-access-token", "PROJECT-ACCESS-TOKEN"] {
        // It wins over the other header.
        let reply = server.graphql(&[(name, &project), ("Authorization", &bearer)], asks).await;
        assert_eq!(reply.json()["data"]["projectToken"]["projectId"].as_str(), Some(project_id.as_str()), "{}", reply.text());
    }
    let reply = server.graphql(&[("Authorization", &format!("Bearer {project}"))], asks).await;
    assert!(first(&reply).contains("Not Authorized") && first(&reply).contains("Project-Access-Token"), "{}", reply.text());
    let reply = server.graphql(&[("Project-Access-Token", "orp_unknown")], asks).await;
    assert!(first(&reply).to_lowercase().contains("project token not found"), "{}", reply.text());
    let reply = server.graphql(&[("Authorization", "Basic YTpi")], asks).await;
    assert!(first(&reply).contains("Not Authorized"), "{}", reply.text());
    let reply = server.graphql(&[("Authorization", &bearer.replace("Bearer", "bearer"))], "{ me { email } }").await;
    assert_eq!(reply.json()["data"]["me"]["email"], "ada@example.com");
    server.end().await;
}

#[tokio::test]
async fn a_foreign_page_cannot_use_a_visitors_session() {
    let server = Server::start().await;
    let ada = server.person("ada@example.com", None).await;
    let cookie = server.browser(&ada).await;
    let own = server.origin();
    let me = "{ me { email } }";

    let reply = server.graphql(&[("Cookie", &cookie), ("Origin", &own)], me).await;
    assert_eq!(reply.json()["data"]["me"]["email"], "ada@example.com");
    for foreign in [
        vec![("Origin", "http://hello.localhost:8081")],
        vec![("Origin", "null")],
        vec![],
        vec![("Origin", own.as_str()), ("Sec-Fetch-Site", "cross-site")],
    ] {
        let mut headers = vec![("Cookie", cookie.as_str())];
        headers.extend(&foreign);
        let reply = server.graphql(&headers, me).await;
        assert_eq!(reply.status, 403, "{foreign:?}");
        assert!(!reply.text().contains("ada@example.com"));
        headers.extend(handshake());
        let upgrade = server.call("GET", "/graphql/v2", &headers, b"").await;
        assert_eq!(upgrade.status, 403, "{foreign:?}");
    }

    // With a token of its own any page may ask, but never with the browser's cookies.
    let bearer = format!("Bearer {}", ada.token);
    let reply = server.graphql(&[("Authorization", &bearer), ("Origin", "https://tools.example")], me).await;
    assert_eq!(reply.json()["data"]["me"]["email"], "ada@example.com");
    assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    assert_eq!(reply.header("access-control-allow-credentials"), None);
    let preflight = server.call("OPTIONS", "/graphql/v2", &[("Origin", "https://tools.example")], b"").await;
    assert_eq!(preflight.status, 204);
    assert!(preflight.header("access-control-allow-headers").unwrap().contains("authorization"));
    assert_eq!(server.get("/login", None).await.header("access-control-allow-origin"), None);
    server.end().await;
}

fn handshake() -> [(&'static str, &'static str); 5] {
    [
        ("Connection", "upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Version", "13"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Protocol", "graphql-transport-ws"),
    ]
}

/// A client's text frame; the mask is zero, which leaves the text readable.
fn frame(text: &str) -> Vec<u8> {
    assert!(text.len() < 126);
    [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0], text.as_bytes()].concat()
}

#[tokio::test]
async fn the_websocket_handshake_is_the_one_that_the_client_checks() {
    let server = Server::start().await;
    let ada = server.person("ada@example.com", None).await;
    let bearer = format!("Bearer {}", ada.token);
    let mut request = format!("GET /graphql/v2 HTTP/1.1\r\nHost: {}\r\nAuthorization: {bearer}\r\n", server.address);
    for (name, value) in handshake() {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    let mut stream = server.connect().await;
    stream.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
    let reply = Reply::read(&mut stream).await;
    assert_eq!(reply.status, 101, "{}{}", reply.head, reply.text());
    assert!(reply.header("connection").unwrap().eq_ignore_ascii_case("upgrade"), "{}", reply.head);
    assert!(reply.header("upgrade").unwrap().eq_ignore_ascii_case("websocket"));
    assert_eq!(reply.header("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(reply.header("sec-websocket-protocol"), Some("graphql-transport-ws"));
    assert!(reply.header("x-request-id").is_some());
    stream.write_all(&frame(r#"{"type":"connection_init"}"#)).await.unwrap();
    let mut seen = reply.body;
    while !String::from_utf8_lossy(&seen).contains("connection_ack") {
        assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "{}", String::from_utf8_lossy(&seen));
    }

    // No credential, a bad one, another protocol, half a handshake.
    let without = |name: &str| handshake().into_iter().filter(|(key, _)| *key != name).collect::<Vec<_>>();
    assert_eq!(server.call("GET", "/graphql/v2", &handshake(), b"").await.status, 401);
    let mut headers = handshake().to_vec();
    headers.push(("Authorization", "Bearer nonsense"));
    assert_eq!(server.call("GET", "/graphql/v2", &headers, b"").await.status, 401);
    for missing in ["Sec-WebSocket-Protocol", "Sec-WebSocket-Key", "Sec-WebSocket-Version"] {
        let mut headers = without(missing);
        headers.push(("Authorization", &bearer));
        assert_eq!(server.call("GET", "/graphql/v2", &headers, b"").await.status, 400, "{missing}");
    }

    // The open socket ends with the server and does not hold it up.
    server.end().await;
    while stream.read_buf(&mut seen).await.is_ok_and(|read| read > 0) {}
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;
    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_ansi(false).with_writer(log.clone()).finish();
    tracing::subscriber::set_global_default(subscriber).unwrap();
    log
});

#[tokio::test]
async fn no_secret_comes_out_of_the_log() {
    const PASSWORD: &str = "canary-password-1";
    let log = LOG.clone();
    let server = Server::start().await;
    let ada = server.person("ada@example.com", Some(PASSWORD)).await;
    let link = server.login_link(&ada).await;
    let bearer = format!("Bearer {}", ada.token);
    let unknown = domain::key::encode(domain::key::KeyKind::Account, &[9; 32]);

    server.get(&format!("/login/link?token={link}"), None).await;
    server.submit("/login/link", None, &[("token", &link)]).await;
    server.submit("/login/link", None, &[("token", &link)]).await;
    let entered = server.submit("/login", None, &[("email", "ada@example.com"), ("password", PASSWORD)]).await;
    let cookie = entered.cookie();
    server.get("/", Some(&cookie)).await;
    server.graphql(&[("Authorization", &bearer)], "{ me { email } canaryField }").await;
    server.graphql(&[("Authorization", &format!("Bearer {unknown}"))], "{ me { email } }").await;
    server.graphql(&[("Project-Access-Token", &unknown)], "{ me { email } }").await;
    let started = server.form("/oauth/device/auth", &[], &[("client_id", "x")]).await.json();
    let device = started["device_code"].as_str().unwrap();
    let user_code = started["user_code"].as_str().unwrap();
    server.submit("/oauth/device", Some(&cookie), &[("user_code", user_code), ("answer", "approve")]).await;
    let grant = [("grant_type", "urn:ietf:params:oauth:grant-type:device_code"), ("device_code", device)];
    let tokens = server.form("/oauth/token", &[], &grant).await.json();
    let refresh = tokens["refresh_token"].as_str().unwrap();
    for _ in 0..2 {
        server.form("/oauth/token", &[], &[("grant_type", "refresh_token"), ("refresh_token", refresh)]).await;
    }
    let path = format!("/project/{}/environment/{}/up?serviceId=&message=canary-message", ada.project, ada.environment);
    assert_eq!(server.call("POST", &path, &[("Authorization", &bearer)], b"canary-archive").await.status, 200);
    server.end().await;

    let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    let session = cookie.split_once('=').unwrap().1;
    let access = tokens["access_token"].as_str().unwrap();
    for secret in [PASSWORD, &link, session, &ada.token, &unknown, device, refresh, access, "canary-archive"] {
        assert!(!text.contains(secret), "{secret} is in the log");
    }
    // The log does say who did what.
    for known in ["orrery::access", "/login/link", "/oauth/token", &format!("user:{}", ada.user.id)] {
        assert!(text.contains(known), "{known} is not in the log:\n{text}");
    }
    assert!(!text.contains("?token=") && !text.contains("canary-message"));
}
