//! Workflows: many short runs, one run of many light nodes, and starting a run behind a queue, beside n8n on the same machine.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use serde_json::{Value, json};

use super::budget::Budget::{self, Least, Most};
use super::budget::judged;
use super::{Peer, Server, free_port, orrery, say};

/// Short runs, and how many clients start them.
const RUNS: usize = 1_000;
const CLIENTS: usize = 8;
/// Nodes of a short run, and light nodes of the long one.
const SHORT: usize = 3;
const LONG: usize = 40;
/// Starts that are timed behind the queue.
const STARTS: usize = 500;
/// The version that is compared with; a newer one may be named.
const N8N: &str = "1";
/// The wanted multiple of its runs a second.
const BESIDE_N8N: Budget = Least(20.0);

pub(super) fn run(target: &Path, scratch: &Path) -> anyhow::Result<()> {
    let server = orrery(target, scratch, "flow", "all", false)?;
    let (short, long) = (workflow(&server, SHORT)?, workflow(&server, LONG)?);
    let ours = many(&server, &short)?;
    let per_node = light(&server, &long)?;
    let p99 = behind_a_queue(&server, &short)?;
    drop(server);
    let theirs = match n8n(scratch) {
        Ok(figures) => Some(figures),
        Err(error) => {
            // What was not measured is not within its budget.
            judged("runs beside n8n, which could not be had", 0.0, BESIDE_N8N);
            say(&format!("n8n could not be had, and is left out: {error:#}"))?;
            None
        }
    };
    let beside = theirs.map_or_else(String::new, |(rate, _)| {
        let budget = judged("runs beside n8n", ours / rate, BESIDE_N8N);
        format!(", n8n {rate:.1}/s: {:.1}x ({budget})", ours / rate)
    });
    say(&format!("{RUNS} runs of {SHORT} nodes: {ours:.1}/s{beside}"))?;
    let beside = theirs.map_or_else(String::new, |(_, node)| format!(", n8n {node:.2} ms"));
    let budget = judged("milliseconds of a light node", per_node, Most(3.0));
    say(&format!("one run of {LONG} light nodes: {per_node:.2} ms a node ({budget}){beside}"))?;
    let budget = judged("p99 in ms of a start behind a queue", p99, Most(10.0));
    say(&format!("POST /v1/runs while {RUNS} runs are queued: p99 {p99:.1} ms ({budget})"))
}

/// One request over a connection of its own; the answer's body.
fn ask(port: u16, method: &str, path: &str, token: &str, body: &Value) -> anyhow::Result<Value> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    let body = if body.is_null() { String::new() } else { body.to_string() };
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nauthorization: Bearer {token}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )?;
    let mut answer = vec![];
    stream.read_to_end(&mut answer)?;
    let answer = String::from_utf8_lossy(&answer);
    let (head, body) = answer.split_once("\r\n\r\n").with_context(|| format!("no answer to {method} {path}"))?;
    anyhow::ensure!(head.starts_with("HTTP/1.1 2"), "{method} {path}: {answer}");
    // n8n answers in chunks, whose content nobody needs.
    Ok(serde_json::from_str(body).unwrap_or(Value::Null))
}

fn word(value: &Value) -> anyhow::Result<String> {
    value.as_str().map(str::to_owned).with_context(|| format!("no text: {value}"))
}

/// A chain of templates between the request and the response.
fn workflow(server: &Server, nodes: usize) -> anyhow::Result<String> {
    let post = |path: &str, body: Value| ask(server.api, "POST", path, &server.token, &body);
    let made = post(
        "/v1/workflows",
        json!({"name": format!("chain of {nodes}"), "requestFields": [{"name": "v", "type": "text", "value": "x"}]}),
    )?;
    let id = word(&made["id"])?;
    let (mut last, mut out) = (word(&made["requestNodeId"])?, "field_v");
    for _ in 0..nodes {
        let body = json!({"nodeType": "text_template", "inputs": {"template": "{{ v }}."}});
        let node = word(&post(&format!("/v1/workflows/{id}/nodes"), body)?["nodeId"])?;
        let edge = json!({"sourceNodeId": last, "sourceHandle": out, "targetNodeId": node, "targetHandle": "in:v"});
        post(&format!("/v1/workflows/{id}/edges"), edge)?;
        (last, out) = (node, "out:result");
    }
    let edge = json!({"sourceNodeId": last, "sourceHandle": out, "targetNodeId": made["responseNodeId"], "targetHandle": "result"});
    post(&format!("/v1/workflows/{id}/edges"), edge)?;
    Ok(id)
}

fn start(server: &Server, workflow: &str) -> anyhow::Result<String> {
    word(&ask(server.api, "POST", "/v1/runs", &server.token, &json!({"workflowId": workflow}))?["runId"])
}

/// Has several clients do their part of so many things at the same time.
fn spread(count: usize, work: impl Fn(usize) -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let work = &work;
        let clients: Vec<_> = (0..CLIENTS).map(|client| scope.spawn(move || (client..count).step_by(CLIENTS).try_for_each(work))).collect();
        clients.into_iter().try_for_each(|client| client.join().map_err(|_| anyhow::anyhow!("a client panicked"))?)
    })
}

/// Runs a second, from the first start to the last end.
fn many(server: &Server, workflow: &str) -> anyhow::Result<f64> {
    let begun = Instant::now();
    spread(RUNS, |_| start(server, workflow).map(drop))?;
    until_over(server, workflow)?;
    #[expect(clippy::cast_precision_loss, reason = "a thousand")]
    Ok(RUNS as f64 / begun.elapsed().as_secs_f64())
}

fn until_over(server: &Server, workflow: &str) -> anyhow::Result<()> {
    let begun = Instant::now();
    for status in ["QUEUED", "RUNNING"] {
        loop {
            let path = format!("/v1/runs?workflowId={workflow}&status={status}&limit=1");
            let left = ask(server.api, "GET", &path, &server.token, &Value::Null)?;
            if left["items"].as_array().is_some_and(Vec::is_empty) {
                break;
            }
            anyhow::ensure!(begun.elapsed() < Duration::from_secs(300), "runs are left over");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    let failed = ask(server.api, "GET", &format!("/v1/runs?workflowId={workflow}&status=FAILED&limit=1"), &server.token, &Value::Null)?;
    anyhow::ensure!(failed["items"].as_array().is_some_and(Vec::is_empty), "{failed}");
    Ok(())
}

/// Milliseconds a node, by the run's own times, the median of some runs.
fn light(server: &Server, workflow: &str) -> anyhow::Result<f64> {
    let mut times = vec![];
    for _ in 0..11 {
        let id = start(server, workflow)?;
        until_over(server, workflow)?;
        let nodes = ask(server.api, "GET", &format!("/v1/runs/{id}?inDetails=true"), &server.token, &Value::Null)?;
        times.push(millis(&nodes["finishedAt"])? - millis(&nodes["startedAt"])?);
    }
    #[expect(clippy::cast_precision_loss, reason = "forty")]
    Ok(super::median(times) / LONG as f64)
}

/// The milliseconds within the hour of a time such as `2026-11-21T18:45:19.123Z`. A run does not take so long.
fn millis(time: &Value) -> anyhow::Result<f64> {
    let text = time.as_str().with_context(|| format!("no time: {time}"))?;
    let part = |from: usize, to: usize| text.get(from..to).and_then(|digits| digits.parse::<f64>().ok()).context("no time");
    Ok(part(14, 16)? * 60_000.0 + part(17, 19)? * 1_000.0 + part(20, 23)?)
}

/// The 99th of a hundred starts in milliseconds while a thousand runs wait.
fn behind_a_queue(server: &Server, workflow: &str) -> anyhow::Result<f64> {
    let made = ask(server.api, "POST", "/v1/workflows", &server.token, &json!({"name": "slow"}))?;
    let slow = word(&made["id"])?;
    // Too short to be put aside, long enough to keep every place taken.
    let body = json!({"nodeType": "delay", "inputs": {"seconds": 4}});
    ask(server.api, "POST", &format!("/v1/workflows/{slow}/nodes"), &server.token, &body)?;
    spread(RUNS, |_| start(server, &slow).map(drop))?;
    let mut times = vec![];
    for _ in 0..STARTS {
        let begun = Instant::now();
        start(server, workflow)?;
        times.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[STARTS * 99 / 100])
}

/// Runs a second and milliseconds a node of n8n, as a webhook starts its workflows and waits for their end.
fn n8n(scratch: &Path) -> anyhow::Result<(f64, f64)> {
    let program = n8n_program()?;
    let home = scratch.join("n8n");
    std::fs::create_dir_all(&home)?;
    let port = free_port()?;
    let command = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command.args(arguments).env("N8N_USER_FOLDER", &home).env("N8N_PORT", port.to_string()).env("N8N_LISTEN_ADDRESS", "127.0.0.1");
        // Nothing is sent anywhere, and nothing but runs is done.
        for name in ["N8N_DIAGNOSTICS_ENABLED", "N8N_VERSION_NOTIFICATIONS_ENABLED", "N8N_TEMPLATES_ENABLED", "N8N_PERSONALIZATION_ENABLED"]
        {
            command.env(name, "false");
        }
        // The other one needs a native library that not every Node can build.
        command.env("N8N_EXPRESSION_ENGINE", "legacy");
        command.env("N8N_LOG_LEVEL", "error").env("N8N_RUNNERS_ENABLED", "false").stdin(Stdio::null()).stdout(Stdio::null());
        command
    };
    for (name, nodes) in [("short", SHORT - 1), ("long", LONG)] {
        let file = home.join(format!("{name}.json"));
        std::fs::write(&file, theirs(name, nodes).to_string())?;
        let input = format!("--input={}", file.display());
        anyhow::ensure!(command(&["import:workflow", &input]).status()?.success(), "n8n takes no workflow");
    }
    anyhow::ensure!(command(&["update:workflow", "--all", "--active=true"]).status()?.success(), "n8n activates no workflow");
    let _peer = Peer { child: command(&["start"]).spawn()? };
    let begun = Instant::now();
    while ask(port, "GET", "/webhook/short", "", &Value::Null).is_err() {
        if begun.elapsed() > Duration::from_secs(180) {
            bail!("n8n does not answer");
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    let begun = Instant::now();
    spread(RUNS, |_| ask(port, "GET", "/webhook/short", "", &Value::Null).map(drop))?;
    #[expect(clippy::cast_precision_loss, reason = "a thousand")]
    let rate = RUNS as f64 / begun.elapsed().as_secs_f64();
    let mut times = vec![];
    for _ in 0..11 {
        let begun = Instant::now();
        ask(port, "GET", "/webhook/long", "", &Value::Null)?;
        times.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    #[expect(clippy::cast_precision_loss, reason = "forty")]
    Ok((rate, super::median(times) / LONG as f64))
}

/// Installed once into the cache: it is larger than everything else together.
fn n8n_program() -> anyhow::Result<PathBuf> {
    let cache = std::env::var_os("ORRERY_CACHE").map(PathBuf::from).or_else(|| Some(std::env::home_dir()?.join(".cache/orrery")));
    let folder = cache.context("neither ORRERY_CACHE nor HOME is set")?.join("n8n");
    let program = folder.join("node_modules/.bin/n8n");
    if !program.exists() {
        std::fs::create_dir_all(&folder)?;
        // It wants a spreadsheet library from a server of its makers; the registry has one that does for what is measured.
        let wanted = json!({"private": true, "dependencies": {"n8n": N8N}, "overrides": {"xlsx": "0.18.5"}});
        std::fs::write(folder.join("package.json"), wanted.to_string())?;
        // Of its native libraries only the database is needed.
        let install = ["install", "--no-audit", "--no-fund", "--omit=dev", "--loglevel=error", "--ignore-scripts", "--prefix"];
        for arguments in [&install[..], &["rebuild", "sqlite3", "--prefix"]] {
            let status = Command::new("npm").args(arguments).arg(&folder).status().context("npm is needed")?;
            anyhow::ensure!(status.success(), "npm cannot install n8n {N8N}");
        }
    }
    Ok(program)
}

/// A workflow of n8n's: a webhook, and nodes that set a field by an expression, one behind the other.
fn theirs(name: &str, nodes: usize) -> Value {
    let webhook = json!({
        "id": "w", "name": "Webhook", "type": "n8n-nodes-base.webhook", "typeVersion": 2, "position": [0, 0], "webhookId": name,
        "parameters": {"path": name, "responseMode": "lastNode", "options": {}},
    });
    let mut all = vec![webhook];
    let mut connections = serde_json::Map::new();
    let mut last = "Webhook".to_owned();
    for at in 0..nodes {
        let this = format!("Set{at}");
        let field = json!({"id": "f", "name": "v", "type": "string", "value": "={{ ($json.v || 'x') + '.' }}"});
        all.push(json!({
            "id": this, "name": this, "type": "n8n-nodes-base.set", "typeVersion": 3.4, "position": [at, 0],
            "parameters": {"assignments": {"assignments": [field]}, "options": {}},
        }));
        connections.insert(last, json!({"main": [[{"node": this, "type": "main", "index": 0}]]}));
        last = this;
    }
    json!({"id": name, "name": name, "active": true, "nodes": all, "connections": connections, "settings": {"saveDataSuccessExecution": "all"}})
}
