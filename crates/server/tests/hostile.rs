//! What a stranger or a broken client may send: each gets a clear answer, memory stays bounded, and the apps go on.

mod harness;

use std::fmt::Write as _;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};

use harness::{Answer, Server, raw, request, until, write};
use serde_json::{Value, json};

const HOST: &str = "app-production.localhost";

fn deployed() -> Server {
    let server = Server::start_unlimited();
    let site = server.dir.path().join("app");
    write(&site, &[("index.html", "still here")]);
    server.json(&site, &["init", "--name", "app", "--json"]);
    server.ok(&site, &["up", "--ci"]);
    server
}

/// Kilobytes, by their name in `/proc/PID/status`: `VmRSS` now, `VmHWM` at the highest.
fn memory(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

fn post(server: &Server, body: &[u8]) -> Answer {
    let bearer = format!("Bearer {}", server.token);
    request(server.api, "POST", "localhost", "/graphql/v2", &[("authorization", &bearer), ("content-type", "application/json")], body)
}

/// The message of a refusal, which every refusal must have.
fn message(what: &str, answer: &Answer) -> String {
    let body: Value = serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{what}: {error}: {answer:?}"));
    let text = body["errors"][0]["message"].as_str().unwrap_or_else(|| panic!("{what}: {body}"));
    assert!(answer.status < 500, "{what}: {answer:?}");
    assert!(text.len() < 500, "{what}: {text}");
    text.to_owned()
}

fn query(text: &str) -> Vec<u8> {
    json!({"query": text}).to_string().into_bytes()
}

fn fragment_bomb() -> String {
    let mut text = String::from("{...f0}");
    for n in 0..26 {
        let _ = write!(text, "fragment f{n} on Query{{...f{0} ...f{0}}}", n + 1);
    }
    text.push_str("fragment f26 on Query{__typename}");
    text
}

#[test]
fn hostile_operations_are_refused_in_bounded_memory() {
    let server = deployed();
    let pid = server.pid();
    for _ in 0..20 {
        assert!(server.graphql("{ projects { edges { node { name } } } }")["errors"].is_null());
    }
    let (now, highest) = (memory(pid, "VmRSS"), memory(pid, "VmHWM"));

    let bomb = fragment_bomb();
    assert!(bomb.len() < 1400, "{}", bomb.len());
    let deep = |n: usize| format!("{}{}{}", "{ projects { edges { node ".repeat(n), "{ id }", " } } }".repeat(n));
    let cases = [
        ("a fragment bomb", query(&bomb), "TOO_COMPLEX"),
        ("fragments in a circle", query("{...a} fragment a on Query{...b} fragment b on Query{...a}"), ""),
        ("10,000 directives", query(&format!("{{ __typename {} }}", "@include(if: true) ".repeat(10_000))), "TOO_COMPLEX"),
        ("10,000 unknown directives", query(&format!("{{ __typename {} }}", "@a ".repeat(10_000))), "TOO_COMPLEX"),
        (
            "10,000 aliases",
            query(&format!("{{ {} }}", (0..10_000).map(|n| format!("a{n}: me {{ id }} ")).collect::<String>())),
            "TOO_COMPLEX",
        ),
        ("10,000 levels", query(&deep(10_000 / 3)), "TOO_COMPLEX"),
        ("10,000 brackets", query(&format!("{{ a(b: {}{}) }}", "[".repeat(10_000), "]".repeat(10_000))), "TOO_COMPLEX"),
        ("10,000 operations", query(&"query a { __typename } ".repeat(10_000)), "TOO_COMPLEX"),
        (
            "deep variables",
            format!(r#"{{"query":"{{ __typename }}","variables":{{"a":{}{}}}}}"#, "[".repeat(100_000), "]".repeat(100_000)).into_bytes(),
            "request body",
        ),
        ("invalid UTF-8", b"{\"query\":\"{ me { \xff\xfe } }\"}".to_vec(), "not valid UTF-8"),
        ("invalid UTF-8 outside a string", b"\xff\xff\xff".to_vec(), "not valid UTF-8"),
        ("a NUL", query("{ me { id } } \u{0}"), ""),
        ("an open string", query("{ project(id: \""), ""),
        ("nothing", vec![], "request body"),
        ("an empty operation", query(""), ""),
        ("a batch", b"[{\"query\":\"{ __typename }\"}]".to_vec(), "request body"),
        ("an enormous number", query("{ projects(first: 99999999999999999999999) { edges { node { id } } } }"), ""),
        ("1 MB and more", query(&"#".repeat(1_200_000)), "larger than"),
    ];
    for round in 0..5 {
        for (what, body, says) in &cases {
            let answer = post(&server, body);
            assert!(!message(what, &answer).is_empty() && answer.body.contains(says), "{what} in round {round}: {answer:?}");
        }
    }
    let announced = format!(
        "POST /graphql/v2 HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 2000000000\r\n\r\n{{",
        server.token
    );
    for _ in 0..20 {
        assert!(message("2 GB announced", &raw(server.api, announced.as_bytes())).contains("larger"));
    }
    let begins = announced.replace("content-length: 2000000000\r\n\r\n{", "transfer-encoding: chunked\r\n\r\n");
    let piece = [b"186a0\r\n".as_slice(), &[b' '; 100_000], b"\r\n"].concat();
    let endless = [begins.as_bytes(), &piece.repeat(100)].concat();
    for _ in 0..5 {
        assert!(message("10 MB and more in pieces", &raw(server.api, &endless)).contains("larger"));
    }
    let too_many = server.graphql("{ projects(first: 1000000) { edges { node { id } } } }");
    assert!(too_many["errors"].is_array() || too_many["data"]["projects"]["edges"].as_array().is_some_and(|edges| edges.len() == 1));

    assert_eq!(server.visit(HOST, "/").body, "still here");
    assert!(server.graphql("{ me { email } }")["errors"].is_null());
    assert_eq!(server.pid(), pid);
    let grown = memory(pid, "VmRSS").saturating_sub(now);
    assert!(grown < 50_000, "serve holds {grown} kB more than before");
    let peak = memory(pid, "VmHWM").saturating_sub(highest);
    assert!(peak < 50_000, "serve held {peak} kB more at its highest");
}

#[test]
fn slow_clients_hold_nobody_up() {
    let server = deployed();
    let pid = server.pid();
    let before = memory(pid, "VmRSS");
    let head = format!(
        "POST /graphql/v2 HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\ncontent-length: 900000\r\n\r\n{{\"query\"",
        server.token
    );
    let slow = |port: u16, text: &str| {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        stream
    };
    let unfinished = format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx-slow: ");
    let held: Vec<TcpStream> =
        (0..200).flat_map(|_| [slow(server.api, &head), slow(server.edge, &unfinished), slow(server.api, "GET /")]).collect();
    for _ in 0..20 {
        assert!(server.graphql("{ me { email } }")["errors"].is_null());
        assert_eq!(server.visit(HOST, "/").body, "still here");
    }
    let grown = memory(pid, "VmRSS").saturating_sub(before);
    assert!(grown < 50_000, "serve holds {grown} kB more than before");
    drop(held);
}

#[test]
fn unknown_and_foreign_ids_look_the_same() {
    let server = deployed();
    assert_eq!(server.orrery(&["user", "create", "eve@example.test"]).status, 0);
    let eve = server.orrery(&["token", "create", "--user", "eve@example.test"]).stdout.trim().to_owned();
    let found = server.graphql(
        "{ projects { edges { node { id environments { edges { node { id } } } services { edges { node { id deployments { id } } } } } } } }",
    );
    let node = &found["data"]["projects"]["edges"][0]["node"];
    let service = &node["services"]["edges"][0]["node"];
    let unknown = "01a1fd3b-0000-7000-8000-000000000000";
    let ask = |id: &str, template: &str| {
        let answer = server.graphql_as(&eve, &template.replace("ID", id));
        let text = answer["errors"][0]["message"].as_str().unwrap_or_else(|| panic!("{template}: {answer}")).to_owned();
        text.replace(id, "ID")
    };
    let templates = [
        (&node["id"], "{ project(id: \"ID\") { name } }"),
        (&node["id"], "mutation { projectDelete(id: \"ID\") }"),
        (&node["id"], "mutation { serviceCreate(input: {projectId: \"ID\", name: \"x\"}) { id } }"),
        (&node["environments"]["edges"][0]["node"]["id"], "{ environment(id: \"ID\") { name } }"),
        (&node["environments"]["edges"][0]["node"]["id"], "{ environmentLogs(environmentId: \"ID\") { message } }"),
        (&service["id"], "{ service(id: \"ID\") { name } }"),
        (&service["id"], "mutation { serviceDelete(id: \"ID\") }"),
        (&service["deployments"][0]["id"], "{ deployment(id: \"ID\") { status } }"),
        (&service["deployments"][0]["id"], "{ buildLogs(deploymentId: \"ID\") { message } }"),
        (&service["deployments"][0]["id"], "mutation { deploymentRemove(id: \"ID\") }"),
        (&service["deployments"][0]["id"], "mutation { deploymentRedeploy(id: \"ID\") { id } }"),
    ];
    for (id, template) in templates {
        let id = id.as_str().unwrap_or_else(|| panic!("{template}: {found}"));
        assert_eq!(ask(id, template), ask(unknown, template), "{template}");
        assert!(!ask("no-id-at-all", template).is_empty());
        assert!(!ask("../../etc/passwd", template).is_empty());
    }
    assert_eq!(server.visit(HOST, "/").body, "still here");
}

#[test]
fn the_edge_refuses_what_it_cannot_route() {
    let server = deployed();
    let pids = server.processes("edge");
    assert_eq!(pids.len(), 1);
    let before = memory(pids[0], "VmRSS");
    let send = |text: String| raw(server.edge, text.as_bytes());
    for _ in 0..5 {
        let unknown = server.visit("nobody.example.test", "/");
        assert_eq!(unknown.status, 404, "{unknown:?}");
        assert!(unknown.body.contains("UNKNOWN_HOST"), "{unknown:?}");
        let spelled = server.visit("x\"><script>.localhost", "/");
        assert!((400..500).contains(&spelled.status) && !spelled.body.contains("<script>."), "{spelled:?}");
        for (what, text, status) in [
            ("two Host headers", format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nhost: other.localhost\r\n\r\n"), 400),
            ("no Host header", "GET / HTTP/1.1\r\n\r\n".to_owned(), 400),
            ("two lengths", format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd"), 400),
            (
                "a length and chunks",
                format!("POST / HTTP/1.1\r\nhost: {HOST}\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
                400,
            ),
            ("a huge header", format!("GET / HTTP/1.1\r\nhost: {HOST}\r\nx: {}\r\n\r\n", "y".repeat(1_000_000)), 431),
            ("many headers", format!("GET / HTTP/1.1\r\nhost: {HOST}\r\n{}\r\n", "x: y\r\n".repeat(5_000)), 431),
            ("a long path", format!("GET /{} HTTP/1.1\r\nhost: {HOST}\r\n\r\n", "y".repeat(200_000)), 431),
            ("no HTTP", "\u{16}\u{3}\u{1} hello\r\n\r\n".to_owned(), 400),
        ] {
            let answer = send(text);
            assert_eq!(answer.status, status, "{what}: {answer:?}");
        }
        for bad in [
            "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
            "POST /graphql/v2 HTTP/1.1\r\nhost: a\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n",
        ] {
            assert_eq!(raw(server.api, bad.as_bytes()).status, 400, "{bad}");
        }
        let large = format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}\r\n\r\n", "y".repeat(1_000_000));
        assert_eq!(raw(server.api, large.as_bytes()).status, 431);
    }
    for path in ["/../../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/..%2f..%2fetc/passwd", "//etc/passwd", "/\u{0}"] {
        let answer = server.visit(HOST, path);
        assert!(!answer.body.contains("root:"), "{path}: {answer:?}");
    }
    assert_eq!(server.visit(HOST, "/").body, "still here");
    assert_eq!(server.processes("edge"), pids);
    let grown = memory(pids[0], "VmRSS").saturating_sub(before);
    assert!(grown < 50_000, "the edge holds {grown} kB more than before");
}

/// A browser that is told `localhost` asks the machine's IPv6 address first.
#[test]
fn an_app_on_this_machine_cannot_listen_where_localhost_leads() {
    if TcpListener::bind(("::1", 0)).is_err() {
        println!("skipped: this machine has no IPv6");
        return;
    }
    let server = Server::start();
    for port in [server.api, server.edge] {
        until("a listener", || TcpStream::connect(("::1", port)).map_err(|error| error.to_string()));
        assert!(TcpListener::bind(("::1", port)).is_err(), "port {port} is free for an app");
    }
}

#[test]
fn an_app_on_this_machine_cannot_pretend_to_ask_from_elsewhere() {
    let server = Server::start();
    let origin = format!("http://{}", server.api);
    let guess = |n: u32| {
        let elsewhere = format!("203.0.113.{n}");
        let headers =
            [("origin", origin.as_str()), ("x-forwarded-for", elsewhere.as_str()), ("content-type", "application/x-www-form-urlencoded")];
        request(server.api, "POST", &server.api.to_string(), "/login", &headers, b"email=admin%40localhost&password=guess").status
    };
    let seen: Vec<u16> = (0..40).map(guess).collect();
    assert_eq!((seen[0], seen[39]), (401, 429), "{seen:?}");
}
