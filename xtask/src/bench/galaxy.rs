//! Galaxy's API: the metrics of an app and of its twenty containers, as its clients ask for them; and what it costs to measure a hundred.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::budget::Budget::Most;
use super::budget::judged;
use super::{Server, move_to, post_to, say};

const CONTAINERS: usize = 20;
const REQUESTS: usize = 1_000;
/// Containers that do nothing while it is seen what their control plane does; an app has half of them at the most.
const IDLE: usize = 100;
const WATCHED: Duration = Duration::from_secs(60);
const POINT: &str = "{ timestamp cpu cpuCap memory memoryCap connections }";

/// Scales the app of the deploys to twenty containers and measures how long an answer takes.
pub(super) fn containers(server: &Server) -> anyhow::Result<()> {
    let ask = |query: &str| post_to("/graphql", server.api, &server.token, query);
    let app = "app(hostname: \"site-production.localhost\")";
    let answer = ask(&format!("{{ {app} {{ _id }} }}"))?;
    let id = answer.split("\"_id\":\"").nth(1).and_then(|rest| rest.split('"').next()).with_context(|| answer.clone())?;
    ask(&format!("mutation {{ setContainerCountForApp(appId: \"{id}\", containerCount: {CONTAINERS}) {{ _id }} }}"))?;
    let begun = Instant::now();
    loop {
        let up = ask(&format!("{{ {app} {{ containers {{ up }} }} }}"))?.matches("\"up\":true").count();
        if up == CONTAINERS {
            break;
        }
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(60), "{up} of {CONTAINERS} containers run");
        std::thread::sleep(Duration::from_millis(100));
    }
    // Some intervals of measurements.
    std::thread::sleep(Duration::from_secs(20));
    let metrics = format!("metrics(seriesName: \"5s\", limit: 60) {POINT}");
    let query = format!("{{ {app} {{ {metrics} containers {{ _id {metrics} }} }} }}");
    // The control plane alone: its containers stay where they are.
    let pid = server.peer.as_ref().context("the server has ended")?.child.id();
    move_to(pid, "0")?;
    let mut times = vec![];
    for _ in 0..REQUESTS {
        let begun = Instant::now();
        ask(&query)?;
        times.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    move_to(pid, &format!("0-{}", std::thread::available_parallelism()?.get() - 1))?;
    times.sort_by(f64::total_cmp);
    let (half, p99) = (times[REQUESTS / 2], times[REQUESTS * 99 / 100]);
    let budget = judged("metrics of an app, p99 in ms", p99, Most(15.0));
    say(&format!("metrics of {CONTAINERS} containers, 60 points each, on one core: {half:.1} ms, p99 {p99:.1} ms ({budget})"))
}

/// Scales the two apps of the deploys to a hundred idle containers and measures the processor time of the control plane: sampling them
/// every five seconds is a part of it.
pub(super) fn sampling(server: &Server) -> anyhow::Result<()> {
    let ask = |query: &str| post_to("/graphql", server.api, &server.token, query);
    let account = ask("{ user(username: \"admin\") { apps { _id } } }")?;
    let apps: Vec<&str> = account.split("\"_id\":\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    anyhow::ensure!(apps.len() == 2, "{account}");
    for app in &apps {
        ask(&format!("mutation {{ setContainerCountForApp(appId: \"{app}\", containerCount: {}) {{ _id }} }}", IDLE / apps.len()))?;
    }
    let begun = Instant::now();
    loop {
        let up = ask("{ user(username: \"admin\") { apps { containers { up } } } }")?.matches("\"up\":true").count();
        if up == IDLE {
            break;
        }
        anyhow::ensure!(begun.elapsed() < Duration::from_secs(180), "{up} of {IDLE} containers run");
        std::thread::sleep(Duration::from_millis(500));
    }
    // What their start has left to do.
    std::thread::sleep(Duration::from_secs(20));
    let pid = server.peer.as_ref().context("the server has ended")?.child.id();
    let (begun, before) = (Instant::now(), cpu_seconds(pid)?);
    std::thread::sleep(WATCHED);
    let share = (cpu_seconds(pid)? - before) / begun.elapsed().as_secs_f64() * 100.0;
    let budget = judged("control plane beside idle containers, % of a core", share, Most(1.0));
    say(&format!("control plane beside {IDLE} idle containers, their sampling included: {share:.2} % of a core ({budget})"))
}

/// Processor time of a process: user and system, in ticks of which Linux tells a hundred a second.
fn cpu_seconds(pid: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let times = fields.get(11..13).with_context(|| stat.clone())?;
    let mut ticks = 0.0;
    for time in times {
        ticks += time.parse::<f64>()?;
    }
    Ok(ticks / 100.0)
}
