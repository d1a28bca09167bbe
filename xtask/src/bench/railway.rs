//! Railway's API: the two documents that nearly every command of its CLI asks for, on a large project, and a thousand followers of one log.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::budget::Budget::{Least, Most};
use super::budget::judged;
use super::{Peer, Server, orrery, post, ready, say, serve, until_200, upload};

const SERVICES: usize = 100;
const ENVIRONMENTS: [&str; 5] = ["production", "staging", "qa", "dev", "demo"];
const REQUESTS: usize = 1_000;
const FOLLOWERS: u32 = 1_000;
/// Followers with the same token: a credential has no more sockets.
const OF_ONE_TOKEN: u32 = 64;
const LINES: usize = 200;
/// How long that many services may take to run.
const START: Duration = Duration::from_secs(600);
/// How long the last line may take to reach the last follower.
const PATIENCE: Duration = Duration::from_secs(60);

/// What the CLI asks for (`contracts/railway-cli.md` 9), with the ids written out.
fn documents(project: &str, environment: &str) -> [(&'static str, String); 2] {
    let deployment = "id createdAt status meta deploymentStopped instances { id status }";
    [
        (
            "Project",
            format!(
                "{{ project(id: \"{project}\") {{ id name workspaceId deletedAt workspace {{ name }} buckets {{ edges {{ node {{ id name }} }} }}
                 environments {{ edges {{ node {{ id name canAccess deletedAt unmergedChangesCount }} }} }}
                 services {{ edges {{ node {{ id name }} }} }} }} }}"
            ),
        ),
        (
            "EnvironmentInstances",
            format!(
                "{{ environment(id: \"{environment}\", projectId: \"{project}\") {{ id name
                 serviceInstances(first: 500) {{ edges {{ node {{ id serviceId serviceName environmentId numReplicas
                   latestDeployment {{ canRedeploy {deployment} }} activeDeployments {{ {deployment} }} source {{ repo image }}
                   domains {{ serviceDomains {{ id domain targetPort }} customDomains {{ id domain targetPort }} }}
                   cronSchedule nextCronRunAt startCommand tracingEnabled autoInstrumentationEnabled }} }} pageInfo {{ hasNextPage endCursor }} }}
                 volumeInstances(first: 500) {{ edges {{ node {{ id serviceId mountPath environmentId currentSizeMB sizeMB state deletedAt
                   isPendingDeletion volume {{ name id }} }} }} pageInfo {{ hasNextPage endCursor }} }} }} }}"
            ),
        ),
    ]
}

/// The ids in an answer, in their order.
pub(super) fn ids(answer: &str) -> Vec<&str> {
    answer.match_indices("\"id\":\"").map(|(at, _)| &answer[at + 6..at + 42]).collect()
}

/// Both parts.
pub(super) fn run(target: &Path, scratch: &Path) -> anyhow::Result<()> {
    large_project(target, scratch)?;
    followers(target, scratch)
}

/// In the first environment everything runs, in the others it is deployed only. The API that answers has one core to itself.
fn large_project(target: &Path, scratch: &Path) -> anyhow::Result<()> {
    let mut server = orrery(target, scratch, "railway", "all", false)?;
    let made = ask(&server, "mutation { projectCreate(input: {name: \"large\"}) { id environments { edges { node { id } } } } }")?;
    let [project, first] = ids(&made)[..] else { anyhow::bail!("unexpected answer: {made}") };
    let mut others = vec![];
    for name in &ENVIRONMENTS[1..] {
        let made =
            ask(&server, &format!("mutation {{ environmentCreate(input: {{projectId: \"{project}\", name: \"{name}\"}}) {{ id }} }}"))?;
        others.push((*ids(&made).first().with_context(|| made.clone())?).to_owned());
    }
    let archive = archive(scratch, "large", &[("index.html", "x")])?;
    let mut services = vec![];
    for at in 0..SERVICES {
        let made =
            ask(&server, &format!("mutation {{ serviceCreate(input: {{projectId: \"{project}\", name: \"service-{at}\"}}) {{ id }} }}"))?;
        let service = (*ids(&made).first().with_context(|| made.clone())?).to_owned();
        upload(&server, project, first, &service, &archive)?;
        services.push(service);
    }
    all_run(&server, first)?;
    // What runs goes on without it.
    drop(server.peer.take());
    let mut command = serve(target, &server.data, (server.api, server.edge), "api", true);
    server.peer = Some(Peer { child: command.stdout(Stdio::null()).spawn()? });
    ready(server.api)?;
    for environment in &others {
        for service in &services {
            upload(&server, project, environment, service, &archive)?;
        }
    }
    for (name, query) in documents(project, first) {
        let mut times = vec![];
        for at in 0..REQUESTS {
            // Something has changed since the last question, so that its answer is of no use.
            ask(&server, &format!("mutation {{ projectUpdate(id: \"{project}\", input: {{description: \"{at}\"}}) {{ id }} }}"))?;
            let begun = Instant::now();
            ask(&server, &query)?;
            times.push(begun.elapsed().as_secs_f64() * 1_000.0);
        }
        times.sort_by(f64::total_cmp);
        let (half, p99) = (times[REQUESTS / 2], times[REQUESTS * 99 / 100]);
        let budget = judged(&format!("milliseconds of {name} for {SERVICES} services, p99"), p99, Most(25.0));
        say(&format!("{name}, {SERVICES} services x {} environments: {half:.1} ms, p99 {p99:.1} ms ({budget})", ENVIRONMENTS.len()))?;
    }
    Ok(())
}

fn ask(server: &Server, query: &str) -> anyhow::Result<String> {
    post(server.api, &server.token, query)
}

/// Waits until every service of an environment runs.
fn all_run(server: &Server, environment: &str) -> anyhow::Result<()> {
    let query = format!(
        "{{ environment(id: \"{environment}\") {{ serviceInstances(first: 500) {{ edges {{ node {{ activeDeployments {{ status \
         instances {{ status }} }} }} }} }} }} }}"
    );
    let begun = Instant::now();
    loop {
        let answer = ask(server, &query)?;
        let running = answer.matches("\"RUNNING\"").count();
        if running >= SERVICES {
            return Ok(());
        }
        anyhow::ensure!(begun.elapsed() < START, "only {running} of {SERVICES} services run: {answer}");
        std::thread::sleep(Duration::from_millis(500));
    }
}

pub(super) fn archive(scratch: &Path, name: &str, files: &[(&str, &str)]) -> anyhow::Result<Vec<u8>> {
    let (folder, path) = (scratch.join(name), scratch.join(format!("{name}.tar.gz")));
    std::fs::create_dir_all(&folder)?;
    for (file, text) in files {
        std::fs::write(folder.join(file), text)?;
    }
    let status = Command::new("tar").arg("-czf").arg(&path).arg("-C").arg(&folder).arg(".").status()?;
    anyhow::ensure!(status.success(), "tar failed");
    Ok(std::fs::read(path)?)
}

/// Answers, and prints its lines when it is asked for `/say`.
const TALKER: &str = "import os
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class App(BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path == '/say':
            for at in range(int(os.environ['LINES'])):
                print(f'line-{at}-of-the-log', flush=True)
        self.send_response(200)
        self.send_header('content-length', '0')
        self.end_headers()
    def log_message(self, *_):
        pass

ThreadingHTTPServer(('127.0.0.1', int(os.environ['PORT'])), App).serve_forever()
";

fn followers(target: &Path, scratch: &Path) -> anyhow::Result<()> {
    let server = orrery(target, scratch, "followers", "all", false)?;
    let ask = |query: &str| post(server.api, &server.token, query);
    let made = ask("mutation { projectCreate(input: {name: \"talker\"}) { id environments { edges { node { id } } } } }")?;
    let [project, environment] = ids(&made)[..] else { anyhow::bail!("unexpected answer: {made}") };
    let line = format!("web: LINES={LINES} python3 app.py\n");
    let archive = archive(scratch, "talker", &[("app.py", TALKER), ("requirements.txt", ""), ("Procfile", &line)])?;
    let (deployment, _) = upload(&server, project, environment, "", &archive)?;
    until_200(server.edge, "talker-production.localhost", "")?;

    let tokens = (0..FOLLOWERS.div_ceil(OF_ONE_TOKEN)).map(|at| {
        let made = ask(&format!("mutation {{ apiTokenCreate(input: {{name: \"followers-{at}\"}}) }}"))?;
        let token = made.split("\"apiTokenCreate\":\"").nth(1).and_then(|rest| rest.split('"').next());
        anyhow::Ok(token.with_context(|| made.clone())?.to_owned())
    });
    let tokens = tokens.collect::<anyhow::Result<Vec<_>>>()?;
    let sockets = (0..FOLLOWERS).map(|at| follow(&server, &tokens[(at / OF_ONE_TOKEN) as usize], &deployment));
    let sockets = sockets.collect::<anyhow::Result<Vec<_>>>()?;
    let begun = Instant::now();
    let readers = sockets.into_iter().map(|socket| {
        std::thread::Builder::new().stack_size(256 * 1024).spawn(move || lines_of(socket)).context("no thread for a follower")
    });
    let readers = readers.collect::<anyhow::Result<Vec<_>>>()?;
    let mut stream = TcpStream::connect(("127.0.0.1", server.edge))?;
    write!(stream, "GET /say HTTP/1.1\r\nhost: talker-production.localhost\r\nconnection: close\r\n\r\n")?;
    stream.read_to_end(&mut vec![])?;
    let mut whole = 0;
    for reader in readers {
        let seen = reader.join().map_err(|_| anyhow::anyhow!("a follower panicked"))??;
        whole += u32::from(seen == LINES);
    }
    let took = begun.elapsed().as_secs_f64();
    let memory = peak_memory(&server)?;
    let all = judged("followers that got every line", f64::from(whole), Least(f64::from(FOLLOWERS)));
    let budget = judged("megabytes of the server with a thousand followers", memory, Most(150.0));
    say(&format!("{whole} followers ({all}) got all {LINES} lines in {took:.1} s; the server's peak memory: {memory:.0} MB ({budget})"))
}

/// Subscribes to a deployment's log.
fn follow(server: &Server, token: &str, deployment: &str) -> anyhow::Result<TcpStream> {
    let mut socket = TcpStream::connect(("127.0.0.1", server.api))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    write!(
        socket,
        "GET /graphql/v2 HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {token}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: graphql-transport-ws\r\n\r\n"
    )?;
    let mut head = vec![];
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        socket.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    anyhow::ensure!(head.starts_with("HTTP/1.1 101"), "{head}");
    send(&mut socket, "{\"type\":\"connection_init\"}")?;
    let query = format!("subscription {{ deploymentLogs(deploymentId: \"{deployment}\", filter: \"\", limit: 500) {{ message }} }}");
    let subscribe = serde_json::json!({"id": "0", "type": "subscribe", "payload": {"query": query, "variables": {}}});
    send(&mut socket, &subscribe.to_string())?;
    Ok(socket)
}

/// A text frame, masked with nothing.
fn send(socket: &mut TcpStream, text: &str) -> anyhow::Result<()> {
    let mut frame = vec![0x81];
    match u8::try_from(text.len()) {
        Ok(short @ ..126) => frame.push(0x80 | short),
        _ => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(text.len())?.to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(text.as_bytes());
    Ok(socket.write_all(&frame)?)
}

/// How many different lines a follower gets, until it has all or none comes for long. Where frames begin does not matter for that.
fn lines_of(mut socket: TcpStream) -> anyhow::Result<usize> {
    let (mut text, mut part) = (vec![], [0; 16 * 1024]);
    let mut seen = std::collections::BTreeSet::new();
    while seen.len() < LINES {
        let length = match socket.read(&mut part) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => break,
            Err(error) => return Err(error.into()),
        };
        text.extend_from_slice(&part[..length]);
        let read = String::from_utf8_lossy(&text).into_owned();
        seen.extend(read.match_indices("line-").filter_map(|(at, _)| read[at + 5..].split_once("-of-the-log")?.0.parse::<usize>().ok()));
        // The rest may be the first half of a line.
        text.drain(..text.len().saturating_sub(64));
    }
    Ok(seen.len())
}

/// In megabytes.
fn peak_memory(server: &Server) -> anyhow::Result<f64> {
    let pid = server.peer.as_ref().context("the server has ended")?.child.id();
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.trim().strip_suffix("kB")?.trim().parse::<f64>().ok());
    Ok(peak.with_context(|| format!("no VmHWM in {status}"))? / 1024.0)
}
