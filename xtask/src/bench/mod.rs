//! `cargo xtask bench`: Orrery beside its peers, measured in one run. Ratios are the result; single figures only say what machine it was.

mod browser;
mod budget;
mod flow;
mod galaxy;
mod idle;
mod limits;
mod railway;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use budget::Budget::{Least, Most};
use budget::judged;

use crate::cargo::cargo;

const SECONDS: u32 = 4;
const ROUNDS: usize = 3;
const SINGLE: &str = "query { me { id name email } }";

/// A process that ends with its handle.
struct Peer {
    child: Child,
}

impl Drop for Peer {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Case {
    name: &'static str,
    query: String,
    /// The wanted share of the bare handler.
    share: f64,
    /// The wanted multiple of Mercurius.
    multiple: f64,
}

type Part = fn(&Path, &Path, &Path) -> anyhow::Result<()>;

const PARTS: [(&str, Part); 7] = [
    ("idle", |_, target, scratch| idle::run(target, scratch)),
    ("graphql", graphql),
    ("limits", limits::run),
    ("deploy", |_, target, scratch| deploy(target, scratch)),
    ("railway", |_, target, scratch| railway::run(target, scratch)),
    ("flow", |_, target, scratch| flow::run(target, scratch)),
    ("browser", browser::run),
];

/// Measures the named parts, or everything, and prints a table per part.
pub(crate) fn run(root: &Path, wanted: &[&str]) -> anyhow::Result<()> {
    if let Some(unknown) = wanted.iter().find(|name| PARTS.iter().all(|(known, _)| known != *name)) {
        bail!("there is no part {unknown:?}: name some of {}", PARTS.map(|(name, _)| name).join(", "));
    }
    build(root)?;
    let target = target_dir(root);
    let scratch = Scratch::make()?;
    for (name, part) in PARTS.iter().filter(|(name, _)| wanted.is_empty() || wanted.contains(name)) {
        let folder = scratch.0.join(name);
        std::fs::create_dir_all(&folder)?;
        part(root, &target, &folder)?;
        // What one part has written goes before the next one begins, whose commits would wait for the disk to take it.
        empty(&folder);
        anyhow::ensure!(Command::new("sync").status()?.success(), "the disk does not take what was written");
    }
    budget::settle()
}

fn target_dir(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from).join("release")
}

/// Where everything that is measured keeps its data: a gigabyte and more, which goes also when a part fails.
struct Scratch(PathBuf);

impl Scratch {
    fn make() -> anyhow::Result<Self> {
        let dir = std::env::temp_dir().join(format!("orrery-bench-{}", std::process::id()));
        std::fs::create_dir_all(&dir)?;
        Ok(Self(dir))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        empty(&self.0);
    }
}

fn empty(folder: &Path) {
    // A server that is about to end may write once more.
    let _ = std::fs::remove_dir_all(folder).or_else(|_| std::fs::remove_dir_all(folder));
}

fn build(root: &Path) -> anyhow::Result<()> {
    let arguments = ["build", "--release", "--workspace", "--bins", "--examples"];
    let status = cargo().args(arguments).current_dir(root).status()?;
    anyhow::ensure!(status.success(), "cargo {arguments:?} failed");
    for peer in ["bench/browser", "bench/mercurius", "bench/rate-limiter-flexible"] {
        let folder = root.join(peer);
        if !folder.join("node_modules").exists() {
            let status =
                Command::new("npm").args(["ci", "--no-audit", "--no-fund"]).current_dir(&folder).status().context("npm is needed")?;
            anyhow::ensure!(status.success(), "npm ci failed in {peer}");
        }
    }
    Ok(())
}

fn pinned(core: u32, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.arg("-c").arg(core.to_string()).arg(program).stdin(Stdio::null());
    command
}

/// Moves a program that runs to these cores, with all of its threads.
fn move_to(pid: u32, cores: &str) -> anyhow::Result<()> {
    let mut command = Command::new("taskset");
    let status = command.args(["-a", "-c", "-p", cores, &pid.to_string()]).stdout(Stdio::null()).status()?;
    anyhow::ensure!(status.success(), "the server cannot be moved to the cores {cores}");
    Ok(())
}

fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

struct Server {
    peer: Option<Peer>,
    data: PathBuf,
    api: u16,
    edge: u16,
    token: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // First `serve`, which would replace what ends; then the edge and the supervisors, which outlive it.
        drop(self.peer.take());
        for pid in self.processes().unwrap_or_default() {
            // It may have ended by itself.
            let _ = Command::new("kill").arg(pid.to_string()).stderr(Stdio::null()).status();
        }
    }
}

impl Server {
    /// Whatever runs over its data: `serve`, the edge, supervisors.
    fn processes(&self) -> anyhow::Result<Vec<u32>> {
        let mark = self.data.display().to_string();
        let pids = std::fs::read_dir("/proc")?.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let ours = pids.filter(|pid| {
            let command = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            command.contains(&mark) && *pid != std::process::id()
        });
        Ok(ours.collect())
    }
}

fn orrery(target: &Path, scratch: &Path, name: &str, role: &str, pin: bool) -> anyhow::Result<Server> {
    let (api, edge) = (free_port()?, free_port()?);
    let data = scratch.join(name);
    let mut command = serve(target, &data, (api, edge), role, pin);
    command.stdout(Stdio::piped());
    let mut child = command.spawn().context("orrery cannot be started")?;
    let mut lines = BufReader::new(child.stdout.take().context("no output")?).lines();
    let token = loop {
        let line = lines.next().context("orrery ended before it printed a token")??;
        if let Some(token) = line.trim().strip_prefix("Token") {
            break token.trim().to_owned();
        }
    };
    std::thread::spawn(move || lines.for_each(drop));
    Ok(Server { peer: Some(Peer { child }), data, api, edge, token })
}

/// Limits that no load of these benches reaches.
const PLENTY: &str = "1000000000/second,1000000000/hour";

/// How a server is started; once more over the same folder, it goes on where it was.
fn serve(target: &Path, data: &Path, (api, edge): (u16, u16), role: &str, pin: bool) -> Command {
    let program = target.join("orrery");
    let mut command = if pin { pinned(0, &program) } else { Command::new(&program) };
    command
        .arg("serve")
        .args(["--role", role, "--listen", &format!("127.0.0.1:{api}"), "--edge-listen", &format!("127.0.0.1:{edge}")])
        .arg("--data-dir")
        .arg(data)
        .env("XDG_CONFIG_HOME", data.with_file_name("config"))
        .env("ORRERY_LOG_FILTER", "warn")
        // Requests are counted as ever; none is refused.
        .env("ORRERY_LIMITS_PROFESSIONAL", PLENTY)
        .env("ORRERY_LIMITS_OPERATOR", PLENTY);
    command
}

fn post(port: u16, token: &str, query: &str) -> anyhow::Result<String> {
    post_to("/graphql/v2", port, token, query)
}

fn post_to(path: &str, port: u16, token: &str, query: &str) -> anyhow::Result<String> {
    let body = serde_json::json!({"query": query}).to_string();
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    write!(
        stream,
        "POST {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    anyhow::ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(answer)
}

fn seed(server: &Server, from: usize, to: usize) -> anyhow::Result<()> {
    for at in from..to {
        post(server.api, &server.token, &format!("mutation {{ projectCreate(input: {{name: \"project-{at}\"}}) {{ id }} }}"))?;
    }
    Ok(())
}

/// Requests a second of one question.
fn wrk(scratch: &Path, port: u16, token: &str, query: &str) -> anyhow::Result<f64> {
    wrk_for(SECONDS, scratch, port, token, query)
}

fn wrk_for(seconds: u32, scratch: &Path, port: u16, token: &str, query: &str) -> anyhow::Result<f64> {
    let script = scratch.join("post.lua");
    let body = serde_json::json!({"query": query}).to_string();
    std::fs::write(
        &script,
        format!(
            "wrk.method = \"POST\"\nwrk.body = {body:?}\nwrk.headers[\"Content-Type\"] = \"application/json\"\nwrk.headers[\"Authorization\"] = \"Bearer {token}\"\n"
        ),
    )?;
    load(seconds, &script, port).with_context(|| query.to_owned())
}

/// Requests a second.
fn load(seconds: u32, script: &Path, port: u16) -> anyhow::Result<f64> {
    let output = pinned(1, Path::new("wrk"))
        .args(["-t1", "-c32", &format!("-d{seconds}s"), "-s"])
        .arg(script)
        .arg(format!("http://127.0.0.1:{port}/graphql/v2"))
        .output()
        .context("wrk is needed: apt-get install wrk")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(!text.contains("Non-2xx"), "not answered well:\n{text}");
    rate(&text)
}

fn rate(text: &str) -> anyhow::Result<f64> {
    let rate = text.lines().find_map(|line| line.trim().strip_prefix("Requests/sec:")?.trim().parse().ok());
    rate.with_context(|| format!("wrk printed no rate:\n{text}"))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn graphql(root: &Path, target: &Path, scratch: &Path) -> anyhow::Result<()> {
    let server = orrery(target, scratch, "graphql", "api", true)?;
    seed(&server, 0, 60)?;
    let bare_port = free_port()?;
    let _bare = Peer { child: pinned(0, &target.join("examples/bare_axum")).arg(bare_port.to_string()).spawn()? };
    let node_port = free_port()?;
    let node = pinned(0, Path::new("node"))
        .arg(root.join("bench/mercurius/server.js"))
        .arg(node_port.to_string())
        .arg(server.data.join("orrery.db"))
        .spawn()
        .context("node is needed")?;
    let _node = Peer { child: node };
    ready(bare_port)?;
    ready(node_port)?;

    let page = |first: u32| format!("query {{ projects(first: {first}) {{ edges {{ node {{ id name }} }} }} }}");
    let cases = [
        Case { name: "single object", query: SINGLE.into(), share: 0.35, multiple: 3.0 },
        Case { name: "5 edges", query: page(5), share: 0.25, multiple: 2.5 },
        Case { name: "50 edges", query: page(50), share: 0.12, multiple: 2.0 },
    ];
    say(&format!(
        "{:<16} {:>12} {:>12} {:>12} {:>16} {:>18}",
        "query", "bare/s", "orrery/s", "mercurius/s", "share of bare", "x mercurius"
    ))?;
    for case in &cases {
        let (mut bare, mut ours, mut theirs) = (vec![], vec![], vec![]);
        for _ in 0..ROUNDS {
            bare.push(wrk(scratch, bare_port, &server.token, &case.query)?);
            ours.push(wrk(scratch, server.api, &server.token, &case.query)?);
            theirs.push(wrk(scratch, node_port, &server.token, &case.query)?);
        }
        let (bare, ours, theirs) = (median(bare), median(ours), median(theirs));
        let share = judged(&format!("share of bare, {}", case.name), ours / bare, Least(case.share));
        let multiple = judged(&format!("beside Mercurius, {}", case.name), ours / theirs, Least(case.multiple));
        say(&format!(
            "{:<16} {bare:>12.0} {ours:>12.0} {theirs:>12.0} {:>7.2} ({share}) {:>8.1} ({multiple})",
            case.name,
            ours / bare,
            ours / theirs,
        ))?;
    }
    // With ten projects there would be no page of fifty to compare with: sixty are the fewest that make one and leave something out.
    let few = fresh_pages(scratch, &server)?;
    seed(&server, 60, 10_000)?;
    let many = fresh_pages(scratch, &server)?;
    let budget = judged("page of 50 among 10,000 projects", few / many, Most(1.3));
    say(&format!("page of 50 with 60 and with 10,000 projects: {few:.0}/s and {many:.0}/s, {:.2}x ({budget})", few / many))
}

/// Pages of 50 a second where no two questions are the same, so that each is put to the store.
fn fresh_pages(scratch: &Path, server: &Server) -> anyhow::Result<f64> {
    let script = scratch.join("pages.lua");
    let token = &server.token;
    std::fs::write(
        &script,
        format!(
            "local at = 0\nfunction request()\n at = at + 1\n return wrk.format(\"POST\", nil, {{[\"Content-Type\"] = \"application/json\", \
             [\"Authorization\"] = \"Bearer {token}\"}}, '{{\"query\":\"query {{ projects(first: 50) {{ edges {{ node {{ id name }} }} }} }} #' .. at .. '\"}}')\nend\n"
        ),
    )?;
    let mut rounds = vec![];
    for _ in 0..ROUNDS {
        rounds.push(load(SECONDS, &script, server.api)?);
    }
    Ok(median(rounds))
}

fn ready(port: u16) -> anyhow::Result<()> {
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        if begun.elapsed() > Duration::from_secs(20) {
            bail!("nothing listens on {port}");
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// From the upload of a static site to the first 200 through the edge, beside a plain spawn of the same file server.
fn deploy(target: &Path, scratch: &Path) -> anyhow::Result<()> {
    let site = scratch.join("site");
    let server = orrery(target, scratch, "deploy", "all", false)?;
    let made = post(
        server.api,
        &server.token,
        "mutation { projectCreate(input: {name: \"site\"}) { id environments { edges { node { id } } } } }",
    )?;
    let ids: Vec<&str> = made.match_indices("\"id\":\"").map(|(at, _)| &made[at + 6..at + 42]).collect();
    let [project, environment] = ids[..] else { bail!("unexpected answer: {made}") };
    let mut floor = vec![];
    let mut ours = vec![];
    let mut service = String::new();
    for round in 0..5 {
        let text = format!("round {round}");
        let archive = railway::archive(scratch, "site", &[("index.html", &text)])?;
        let port = free_port()?;
        let begun = Instant::now();
        let mut plain = Command::new(target.join("orrery"));
        plain.args(["static", "--port", &port.to_string(), "--root"]).arg(&site);
        let _plain = Peer { child: plain.spawn()? };
        until_200(port, "localhost", &text)?;
        floor.push(begun.elapsed().as_secs_f64());

        let begun = Instant::now();
        let (_, of) = upload(&server, project, environment, &service, &archive)?;
        until_200(server.edge, "site-production.localhost", &text)?;
        ours.push(begun.elapsed().as_secs_f64());
        service = of;
    }
    let (floor, ours) = (median(floor), median(ours));
    let budget = judged("static site, seconds from upload to its first answer", ours, Most(1.0));
    say(&format!(
        "static site, upload to the first 200 with its text: {ours:.3} s ({budget}); plain spawn of its file server: {floor:.3} s"
    ))?;
    sandboxed(target)?;
    galaxy::containers(&server)?;
    let archive = railway::archive(scratch, "another-site", &[("index.html", "another")])?;
    upload(&server, project, environment, "", &archive)?;
    galaxy::sampling(&server)
}

fn upload(server: &Server, project: &str, environment: &str, service: &str, archive: &[u8]) -> anyhow::Result<(String, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", server.api))?;
    write!(
        stream,
        "POST /project/{project}/environment/{environment}/up?serviceId={service} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {}\r\ncontent-type: application/gzip\r\ncontent-length: {}\r\n\r\n",
        server.token,
        archive.len()
    )?;
    stream.write_all(archive)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let field = |name: &str, length: usize| {
        let at = answer.find(name).with_context(|| format!("no {name} in {answer}"))? + name.len();
        anyhow::Ok(answer[at..at + length].to_owned())
    };
    Ok((field("\"deploymentId\":\"", 36)?, field("/service/", 36)?))
}

/// What the sandbox adds until a server answers.
fn sandboxed(target: &Path) -> anyhow::Result<()> {
    let output = Command::new(target.join("examples/start_latency")).stdin(Stdio::null()).output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let added = text.split("(adds ").nth(1).and_then(|rest| rest.split(')').next()?.trim().parse().ok());
    let added = added.with_context(|| format!("no figure in {text}"))?;
    let budget = judged("milliseconds that the sandbox adds to the first 200", added, Most(20.0));
    say(&format!("the sandbox adds {added:.2} ms to the first 200 of a plain child ({budget})"))
}

/// Asks until the answer has this text.
fn until_200(port: u16, host: &str, text: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) {
            write!(stream, "GET / HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")?;
            let mut answer = String::new();
            if stream.read_to_string(&mut answer).is_ok() && answer.starts_with("HTTP/1.1 200") && answer.contains(text) {
                return Ok(());
            }
        }
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(30), "no 200 from {host}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn say(line: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")?;
    Ok(out.flush()?)
}
