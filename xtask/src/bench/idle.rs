//! What a server without apps keeps in memory.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::budget::Budget::Most;
use super::budget::judged;
use super::{SINGLE, Server, orrery, post, ready, say};

/// How long a server is left alone before it is looked at.
const REST: Duration = Duration::from_secs(10);

/// `serve` and `edge` together, after their start and after the first questions.
pub(super) fn run(target: &Path, scratch: &Path) -> anyhow::Result<()> {
    let server = orrery(target, scratch, "idle", "all", false)?;
    ready(server.edge)?;
    let (resident, shared) = at_rest(&server)?;
    let budget = judged("megabytes of serve and edge, idle", resident, Most(40.0));
    say(&format!("serve and edge without apps: {resident:.1} MB resident ({budget}), {shared:.1} MB when shared pages count in part"))?;
    for _ in 0..3 {
        post(server.api, &server.token, SINGLE)?;
        post(server.api, &server.token, "{ projects { edges { node { name } } } }")?;
    }
    let mut stream = TcpStream::connect(("127.0.0.1", server.edge))?;
    write!(stream, "GET / HTTP/1.1\r\nhost: nobody.localhost\r\nconnection: close\r\n\r\n")?;
    stream.read_to_end(&mut vec![])?;
    let (resident, shared) = at_rest(&server)?;
    say(&format!("the same after the first questions: {resident:.1} MB resident, {shared:.1} MB when shared pages count in part"))
}

/// Resident and proportional megabytes of every process of the server.
fn at_rest(server: &Server) -> anyhow::Result<(f64, f64)> {
    std::thread::sleep(REST);
    let begun = Instant::now();
    loop {
        let (mut resident, mut proportional) = (0.0, 0.0);
        let processes = server.processes()?;
        for pid in &processes {
            let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
            resident += megabytes(&text, "Rss:").unwrap_or_default();
            proportional += megabytes(&text, "Pss:").unwrap_or_default();
        }
        if processes.len() >= 2 {
            return Ok((resident, proportional));
        }
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(10), "the edge does not run");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn megabytes(text: &str, field: &str) -> anyhow::Result<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(field)).with_context(|| format!("no {field}"))?;
    Ok(line.trim().trim_end_matches("kB").trim().parse::<f64>()? / 1024.0)
}
