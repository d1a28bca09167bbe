//! A deploy that is refused, at the door or half way, leaves nothing behind.

mod harness;

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use harness::{Answer, Server, finish, raw, request, until, write};
use serde_json::Value;

/// Where uploads go, and who sends them.
struct Target {
    project: String,
    environment: String,
    service: String,
}

impl Target {
    fn path(&self) -> String {
        format!("/project/{}/environment/{}/up?serviceId={}", self.project, self.environment, self.service)
    }
}

/// Makes a project with one service that was never deployed.
fn target(server: &Server, token: &str, name: &str) -> Target {
    let ask = |query: String| {
        let answer = server.graphql_as(token, &query);
        assert!(answer["errors"].is_null(), "{answer}");
        answer["data"].clone()
    };
    let made =
        ask(format!("mutation {{ projectCreate(input: {{name: \"{name}\"}}) {{ id environments {{ edges {{ node {{ id }} }} }} }} }}"));
    let project = made["projectCreate"]["id"].as_str().unwrap().to_owned();
    let environment = made["projectCreate"]["environments"]["edges"][0]["node"]["id"].as_str().unwrap().to_owned();
    let made = ask(format!("mutation {{ serviceCreate(input: {{projectId: \"{project}\", name: \"{name}\"}}) {{ id }} }}"));
    Target { project, environment, service: made["serviceCreate"]["id"].as_str().unwrap().to_owned() }
}

/// Counts rows of a database that another process has open.
const ROWS: &str = "
import sqlite3, sys
database = sqlite3.connect(f'file:{sys.argv[1]}?mode=ro', uri=True)
for table in sys.argv[2:]:
    print(table, database.execute(f'SELECT count(*) FROM {table}').fetchone()[0])
";

/// The tables that a deploy writes to.
const TABLES: [&str; 10] = [
    "services",
    "instances",
    "domains",
    "variables",
    "deployments",
    "deployment_variables",
    "deployment_events",
    "replicas",
    "environment_patches",
    "idempotent_requests",
];

fn rows(server: &Server) -> Vec<(String, u64)> {
    let mut command = Command::new("python3");
    command.args(["-c", ROWS]).arg(server.data().join("orrery.db")).args(TABLES);
    let counted = finish(command, "counting rows");
    assert_eq!(counted.status, 0, "{counted:?}");
    let lines = counted.stdout.lines().map(|line| line.split_once(' ').unwrap());
    lines.map(|(table, count)| (format!("rows of {table}"), count.parse().unwrap())).collect()
}

/// Everything a deploy could leave: the files of the data directory with their sizes, and for deploys that may leave nothing at all, what
/// the database holds and the API counts.
fn traces(server: &Server, targets: &[&Target], token: &str) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(server.data()).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        // What a platform writes at any time: its database (see below), what it sees and hears, what it tells the edge.
        if name.starts_with("orrery.db") || ["telemetry", "edge"].contains(&name.as_str()) {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            list(&entry.path(), &name, &mut found);
        } else {
            found.insert(name, entry.metadata().map_or(0, |data| data.len()));
        }
    }
    if !targets.is_empty() {
        found.extend(rows(server));
    }
    for target in targets {
        let query = format!(
            "{{ project(id: \"{}\") {{ services {{ edges {{ node {{ id }} }} }} deployments {{ edges {{ node {{ id }} }} }} }} }}",
            target.project
        );
        let answer = server.graphql_as(token, &query);
        for list in ["services", "deployments"] {
            let count = answer["data"]["project"][list]["edges"].as_array().unwrap_or_else(|| panic!("{answer}")).len();
            found.insert(format!("{list} of {}", target.project), count as u64);
        }
    }
    found
}

/// Waits for what the engine writes of itself when it begins, which is beside what says that the server is ready.
fn until_begun(server: &Server) {
    until("the engine's name", || {
        let id = std::fs::read_to_string(server.data().join("run/engine.id")).unwrap_or_default();
        if id.len() == "00000000-0000-0000-0000-000000000000".len() { Ok(()) } else { Err(id) }
    });
}

fn list(folder: &Path, name: &str, found: &mut BTreeMap<String, u64>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let name = format!("{name}/{}", entry.file_name().display());
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.insert(name.clone(), 0);
            list(&entry.path(), &name, found);
        } else {
            found.insert(name, entry.metadata().map_or(0, |data| data.len()));
        }
    }
}

fn upload(server: &Server, token: &str, path: &str, body: &[u8]) -> Answer {
    let bearer = format!("Bearer {token}");
    request(server.api, "POST", "localhost", path, &[("authorization", &bearer), ("content-type", "application/gzip")], body)
}

/// One entry of a tar archive, written by hand: a library would not write most of these.
fn entry(name: &str, kind: u8, link: &str, content: &[u8]) -> Vec<u8> {
    let mut head = [0u8; 512];
    head[..name.len()].copy_from_slice(name.as_bytes());
    head[100..107].copy_from_slice(b"0000644");
    head[108..115].copy_from_slice(b"0000000");
    head[116..123].copy_from_slice(b"0000000");
    head[124..135].copy_from_slice(format!("{:011o}", content.len()).as_bytes());
    head[136..147].copy_from_slice(b"00000000000");
    head[148..156].copy_from_slice(b"        ");
    head[156] = kind;
    head[157..157 + link.len()].copy_from_slice(link.as_bytes());
    head[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = head.iter().map(|byte| u32::from(*byte)).sum();
    head[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    let mut out = head.to_vec();
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(512), 0);
    out
}

fn archive(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(vec![], flate2::Compression::fast());
    for entry in entries {
        gzip.write_all(entry).unwrap();
    }
    gzip.write_all(&[0; 1024]).unwrap();
    gzip.finish().unwrap()
}

fn page() -> Vec<u8> {
    entry("index.html", b'0', "", b"fine")
}

#[test]
fn an_upload_that_is_not_taken_leaves_nothing() {
    let server = Server::start_with(&[("ORRERY_MAX_UPLOAD_BYTES", "3000000"), ("ORRERY_LIMITS_HOBBY", "none")]);
    let created = server.orrery(&["user", "create", "eve@example.test"]);
    assert_eq!(created.status, 0, "{created:?}");
    let eve = server.orrery(&["token", "create", "--user", "eve@example.test"]).stdout.trim().to_owned();
    let (mine, hers) = (target(&server, &server.token, "mine"), target(&server, &eve, "hers"));
    until_begun(&server);
    let look = || (traces(&server, &[&mine], &server.token), traces(&server, &[&hers], &eve));
    let before = look();
    let good = archive(&[page()]);
    let path = mine.path();

    let refused = |what: &str, answer: Answer, status: u16| {
        assert_eq!(answer.status, status, "{what}: {answer:?}");
        assert_eq!(look(), before, "{what} left something");
    };
    refused("a wrong token", upload(&server, "orr_nonsense", &path, &good), 401);
    refused("no token", request(server.api, "POST", "localhost", &path, &[("content-type", "application/gzip")], &good), 401);
    refused("a stranger", upload(&server, &eve, &path, &good), 400);
    refused("somebody else's project", upload(&server, &server.token, &hers.path(), &good), 400);
    let mixed = format!("/project/{}/environment/{}/up?serviceId={}", mine.project, mine.environment, hers.service);
    refused("somebody else's service", upload(&server, &server.token, &mixed, &good), 400);
    let mixed = format!("/project/{}/environment/{}/up?serviceId=", mine.project, hers.environment);
    refused("somebody else's environment", upload(&server, &server.token, &mixed, &good), 400);
    refused("no such project", upload(&server, &server.token, "/project/x/environment/y/up?serviceId=", &good), 400);
    refused("an empty body", upload(&server, &server.token, &path, b""), 400);
    refused("a body beyond the limit", upload(&server, &server.token, &path, &vec![7; 3_100_000]), 413);

    let head = |length: &str| {
        let bearer = &server.token;
        format!(
            "POST {path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {bearer}\r\ncontent-type: application/gzip\r\n{length}\r\n\r\n"
        )
    };
    let announced = [head("content-length: 2000000000").as_bytes(), &[7; 100_000]].concat();
    refused("2 GB announced", raw(server.api, &announced), 413);
    let mut endless = head("transfer-encoding: chunked").into_bytes();
    for _ in 0..40 {
        endless.extend_from_slice(b"186a0\r\n");
        endless.extend_from_slice(&[7; 100_000]);
        endless.extend_from_slice(b"\r\n");
    }
    refused("an endless body without a length", raw(server.api, &endless), 413);

    let mut cut = TcpStream::connect(("127.0.0.1", server.api)).unwrap();
    cut.write_all(head("content-length: 1000000").as_bytes()).unwrap();
    cut.write_all(&[7; 400_000]).unwrap();
    until("an upload that has begun", || if look() == before { Err("nothing".to_owned()) } else { Ok(()) });
    drop(cut);
    until("the end of what a cut upload left", || if look() == before { Ok(()) } else { Err(format!("{:?}", look())) });

    let taken = upload(&server, &server.token, &path, &good);
    assert_eq!(taken.status, 200, "{taken:?}");
}

#[test]
fn an_upload_that_dies_with_the_server_leaves_nothing() {
    let mut server = Server::start_unlimited();
    let mine = target(&server, &server.token, "mine");
    until_begun(&server);
    let before = traces(&server, &[&mine], &server.token);
    let mut cut = TcpStream::connect(("127.0.0.1", server.api)).unwrap();
    let head =
        format!("POST {} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 1000000\r\n\r\n", mine.path(), server.token);
    cut.write_all(head.as_bytes()).unwrap();
    cut.write_all(&[7; 400_000]).unwrap();
    until("an upload that has begun", || match traces(&server, &[&mine], &server.token) == before {
        true => Err("nothing".to_owned()),
        false => Ok(()),
    });
    server.sigkill();
    server.start_again();
    until("the end of what it left", || {
        let now = traces(&server, &[&mine], &server.token);
        if now == before { Ok(()) } else { Err(format!("{now:?}")) }
    });
}

#[test]
fn an_archive_that_cannot_be_used_fails_and_the_app_goes_on() {
    let server = Server::start_with(&[("ORRERY_BUILD_UNPACKED_BYTES", "5000000")]);
    let site = server.dir.path().join("site");
    write(&site, &[("index.html", "the good one")]);
    server.json(&site, &["init", "--name", "site", "--json"]);
    server.ok(&site, &["up", "--ci"]);
    let status = server.json(&site, &["status", "--json"]);
    let id = |value: &Value| value.as_str().unwrap_or_else(|| panic!("{status}")).to_owned();
    let mine = Target {
        project: id(&status["id"]),
        environment: id(&status["environments"]["edges"][0]["node"]["id"]),
        service: id(&status["services"]["edges"][0]["node"]["id"]),
    };

    let good = archive(&[page(), entry("big", b'0', "", &[1; 300_000])]);
    let cases: [(&str, Vec<u8>, &str); 11] = [
        ("a path with ..", archive(&[page(), entry("../../out", b'0', "", b"x")]), "leaves its folder with `..`"),
        ("an absolute path", archive(&[page(), entry("/etc/orrery-test", b'0', "", b"x")]), "is absolute"),
        ("a link out", archive(&[page(), entry("l", b'2', "../../../etc/passwd", b"")]), "points out of the upload"),
        ("an absolute link", archive(&[page(), entry("l", b'2', "/etc/passwd", b"")]), "points out of the upload"),
        ("a hard link", archive(&[page(), entry("l", b'1', "/etc/passwd", b"")]), "is a hard link"),
        ("a device", archive(&[page(), entry("null", b'3', "", b"")]), "is a device"),
        (
            "a file through a link",
            archive(&[entry("l", b'2', "d", b""), entry("l/x", b'0', "", b"x"), page()]),
            "is a folder and something else",
        ),
        ("a bomb", archive(&[page(), entry("zeros", b'0', "", &vec![0; 40_000_000])]), "unpacks to more than 5 MB"),
        ("a truncated archive", good[..good.len() / 2].to_vec(), "upload"),
        ("no archive", b"this is not an archive at all".to_vec(), "upload"),
        ("an archive without files", archive(&[]), "holds no files"),
    ];
    let mut listed = traces(&server, &[], &server.token);
    for (what, bytes, reason) in cases {
        let answer = upload(&server, &server.token, &mine.path(), &bytes);
        assert_eq!(answer.status, 200, "{what}: {answer:?}");
        let answer: Value = serde_json::from_str(&answer.body).unwrap();
        let deployment = answer["deploymentId"].as_str().unwrap();
        let said = failure(&server, deployment);
        assert!(said.contains(reason), "{what}: {said}");
        let mut now = traces(&server, &[], &server.token);
        // The upload itself stays with its deployment.
        let blobs = |map: &BTreeMap<String, u64>| map.keys().filter(|key| key.starts_with("blobs/")).count();
        assert_eq!(blobs(&now), blobs(&listed) + 1, "{what}");
        let without = |map: &mut BTreeMap<String, u64>| map.retain(|key, _| !key.starts_with("blobs/"));
        let mut then = listed.clone();
        listed = now.clone();
        without(&mut now);
        without(&mut then);
        assert_eq!(now, then, "{what} left something");
        assert_eq!(server.visit("site-production.localhost", "/").body, "the good one", "{what}");
    }
    assert!(!Path::new("/etc/orrery-test").exists());
}

/// Waits for the failure of a deployment; the reason, after checking that the log and the events agree on it.
fn failure(server: &Server, deployment: &str) -> String {
    until("a failed deployment", || {
        let answer = server.graphql(&format!("{{ deployment(id: \"{deployment}\") {{ status }} }}"));
        let status = answer["data"]["deployment"]["status"].as_str().unwrap_or("none").to_owned();
        if status == "FAILED" { Ok(()) } else { Err(answer.to_string()) }
    });
    let query = format!(
        "{{ deploymentEvents(id: \"{deployment}\") {{ edges {{ node {{ step payload {{ error }} }} }} }} \
         buildLogs(deploymentId: \"{deployment}\") {{ message severity }} }}"
    );
    let answer = server.graphql(&query);
    let events = answer["data"]["deploymentEvents"]["edges"].as_array().unwrap_or_else(|| panic!("{answer}"));
    let reasons: Vec<&str> = events.iter().filter_map(|edge| edge["node"]["payload"]["error"].as_str()).collect();
    let last = answer["data"]["buildLogs"].as_array().and_then(|lines| lines.last()).unwrap_or_else(|| panic!("{answer}"));
    assert_eq!(reasons, [last["message"].as_str().unwrap()], "{answer}");
    reasons[0].to_owned()
}
