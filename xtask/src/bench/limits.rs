//! What keys and limits cost.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context;

use super::budget::Budget::{Least, Most};
use super::budget::judged;
use super::{Peer, ROUNDS, SECONDS, SINGLE, free_port, median, pinned, rate, ready, say, wrk_for};

/// Keys that ask; the others only lie in the store.
const ASKING: usize = 100;
/// Of a second, for what is to be known to a hundredth.
const SHORT_ROUNDS: usize = 40;

pub(super) fn run(root: &Path, target: &Path, scratch: &Path) -> anyhow::Result<()> {
    share_of_bare(target, scratch)?;
    many_keys(target, scratch)?;
    memory(target)?;
    redis(root, target)
}

/// The bare handler behind keys and limits.
struct Guarded {
    _peer: Peer,
    port: u16,
    tokens: Vec<String>,
}

fn guarded(target: &Path, scratch: &Path, keys: usize) -> anyhow::Result<Guarded> {
    let port = free_port()?;
    let folder = scratch.join(format!("guarded-{port}"));
    std::fs::create_dir_all(&folder)?;
    let arguments = [port.to_string(), folder.display().to_string(), keys.to_string(), ASKING.to_string()];
    let peer = Peer { child: pinned(0, &target.join("examples/guarded_axum")).args(arguments).spawn()? };
    let begun = std::time::Instant::now();
    // A million keys take their time.
    while ready(port).is_err() {
        anyhow::ensure!(begun.elapsed().as_secs() < 900, "the keys are not made in time");
    }
    let tokens = std::fs::read_to_string(folder.join("tokens"))?.lines().map(str::to_owned).collect();
    Ok(Guarded { _peer: peer, port, tokens })
}

fn share_of_bare(target: &Path, scratch: &Path) -> anyhow::Result<()> {
    let bare_port = free_port()?;
    let _bare = Peer { child: pinned(0, &target.join("examples/bare_axum")).arg(bare_port.to_string()).spawn()? };
    ready(bare_port)?;
    let guarded = guarded(target, scratch, ASKING)?;
    let (mut bare, mut ours, mut shares) = (vec![], vec![], vec![]);
    // Each short round beside its neighbour, and each of the two first in turn: a machine that others use is not equally fast for long.
    for round in 0..SHORT_ROUNDS {
        let mut rates = [0.0; 2];
        for at in [round % 2, (round + 1) % 2] {
            rates[at] = wrk_for(1, scratch, [bare_port, guarded.port][at], &guarded.tokens[0], SINGLE)?;
        }
        bare.push(rates[0]);
        ours.push(rates[1]);
        shares.push(rates[1] / rates[0]);
    }
    let (bare, ours, share) = (median(bare), median(ours), median(shares));
    let budget = judged("share of a bare handler with keys and limits", share, Least(0.85));
    say(&format!("a handler with keys and limits: {ours:.0}/s, bare {bare:.0}/s: {share:.2} of it ({budget})"))
}

fn many_keys(target: &Path, scratch: &Path) -> anyhow::Result<()> {
    let few = guarded(target, scratch, ASKING)?;
    let many = guarded(target, scratch, 1_000_000)?;
    let (mut of_few, mut of_many) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        of_few.push(slowest_percent(scratch, &few)?);
        of_many.push(slowest_percent(scratch, &many)?);
    }
    let (few, many) = (median(of_few), median(of_many));
    let budget = judged("p99 with 1,000,000 keys", many / few, Most(1.2));
    say(&format!(
        "p99 of 100 keys that ask, with 100 and with 1,000,000 in the store: {few:.2} ms and {many:.2} ms, {:.2}x ({budget})",
        many / few
    ))
}

/// The 99th percentile in milliseconds, the keys taking turns.
fn slowest_percent(scratch: &Path, server: &Guarded) -> anyhow::Result<f64> {
    let script = scratch.join("turns.lua");
    let tokens = server.tokens.iter().map(|token| format!("\"Bearer {token}\"")).collect::<Vec<_>>().join(",");
    let body = serde_json::json!({"query": SINGLE}).to_string();
    std::fs::write(
        &script,
        format!(
            "local keys = {{{tokens}}}\nlocal at = 0\nfunction request()\n at = at % #keys + 1\n \
             return wrk.format(\"POST\", nil, {{[\"Content-Type\"] = \"application/json\", [\"Authorization\"] = keys[at]}}, {body:?})\nend\n"
        ),
    )?;
    let output = pinned(1, Path::new("wrk"))
        .args(["-t1", "-c8", "--latency", &format!("-d{SECONDS}s"), "-s"])
        .arg(&script)
        .arg(format!("http://127.0.0.1:{}/graphql/v2", server.port))
        .output()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(!text.contains("Non-2xx"), "keys are refused:\n{text}");
    rate(&text)?;
    let value = text.lines().find_map(|line| line.trim().strip_prefix("99%")).context("wrk printed no percentiles")?.trim();
    if let Some(microseconds) = value.strip_suffix("us") {
        return Ok(microseconds.parse::<f64>()? / 1000.0);
    }
    Ok(value.strip_suffix("ms").with_context(|| format!("an unexpected time: {value}"))?.parse()?)
}

fn printed(mut command: Command) -> anyhow::Result<f64> {
    let output = command.stderr(Stdio::inherit()).output().with_context(|| format!("{command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim().parse().with_context(|| format!("{command:?} printed {text:?}"))
}

fn memory(target: &Path) -> anyhow::Result<()> {
    let mut limiter = Command::new(target.join("examples/limiter"));
    limiter.args(["memory", "100000"]);
    let bytes = printed(limiter)?;
    let budget = judged("bytes of an active key", bytes, Most(300.0));
    say(&format!("memory of an active key, of 100,000: {bytes:.0} bytes ({budget})"))
}

/// Decisions a second on the same Redis, beside the library that Node programs use.
fn redis(root: &Path, target: &Path) -> anyhow::Result<()> {
    let port = free_port()?;
    let server = Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
        .stdout(Stdio::null())
        .spawn()
        .context("redis-server is needed: apt-get install redis-server")?;
    let _server = Peer { child: server };
    ready(port)?;
    let address = format!("redis://127.0.0.1:{port}");
    let (mut ours, mut theirs) = (vec![], vec![]);
    for _ in 0..ROUNDS {
        let mut limiter = pinned(0, &target.join("examples/limiter"));
        limiter.args([address.as_str(), &SECONDS.to_string()]);
        ours.push(printed(limiter)?);
        let mut node = pinned(0, Path::new("node"));
        node.arg(root.join("bench/rate-limiter-flexible/limiter.js")).args([address.as_str(), &SECONDS.to_string()]);
        theirs.push(printed(node)?);
    }
    let (ours, theirs) = (median(ours), median(theirs));
    let budget = judged("decisions on one Redis", ours / theirs, Least(1.0));
    say(&format!("decisions on one Redis: {ours:.0}/s, rate-limiter-flexible {theirs:.0}/s: {:.2}x ({budget})", ours / theirs))
}
