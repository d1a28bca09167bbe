//! Galaxy's API: the metrics of an app and of its twenty containers, as its clients ask for them.

use std::time::{Duration, Instant};

use anyhow::Context as _;

use super::{Server, post_to, say};

const CONTAINERS: usize = 20;
const REQUESTS: usize = 1_000;
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
    let mut times = vec![];
    for _ in 0..REQUESTS {
        let begun = Instant::now();
        ask(&query)?;
        times.push(begun.elapsed().as_secs_f64() * 1_000.0);
    }
    times.sort_by(f64::total_cmp);
    let (half, p99) = (times[REQUESTS / 2], times[REQUESTS * 99 / 100]);
    say(&format!("metrics of {CONTAINERS} containers, 60 points each: {half:.1} ms, p99 {p99:.1} ms (≤ 15)"))
}
