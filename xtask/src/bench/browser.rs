//! The dashboard in a real browser: what it loads, and how it moves with much behind it. The figures are the browser's own.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::Context as _;

use super::budget::Budget::{self, Least, Most};
use super::budget::judged;
use super::railway::{archive, ids};
use super::{Peer, Server, orrery, post, ready, serve, until_200, upload};

const SERVICES: usize = 200;
const LINES: usize = 1_000_000;
const DAYS: usize = 30;

/// What each figure of the pages has to be; `bench/browser/pages.mjs` gives one, or several, for each name. A browser without a graphics
/// card draws by the processor that the server runs on: it keeps 60 frames a second where lines come in, and 50 while everything moves.
const BUDGETS: [(&str, Budget); 17] = [
    ("shell: kilobytes", Most(250.0)),
    ("log: milliseconds to open", Most(2000.0)),
    ("log that follows: frames a second", Least(58.0)),
    ("log that follows: milliseconds of the longest frame", Most(50.0)),
    ("log: frames a second", Least(50.0)),
    ("log: milliseconds of the longest frame", Most(100.0)),
    ("log: milliseconds to an answer", Most(100.0)),
    ("canvas: milliseconds to open", Most(2000.0)),
    ("canvas: frames a second", Least(50.0)),
    ("canvas: milliseconds of the longest frame", Most(100.0)),
    ("canvas: milliseconds to an answer", Most(100.0)),
    ("metrics: milliseconds to open", Most(2000.0)),
    ("metrics: frames a second", Least(50.0)),
    ("metrics: milliseconds of the longest frame", Most(100.0)),
    ("metrics: milliseconds to an answer", Most(100.0)),
    ("Lighthouse: performance", Least(95.0)),
    ("Lighthouse: accessibility", Least(95.0)),
];

/// Answers; asked for `/talk`, it writes 500 lines a second for half a minute.
const TALKER: &str = r#"
const http = require("http");
let until = 0, at = 0;
setInterval(() => { if (Date.now() < until) for (let n = 0; n < 25; n++) console.log(`line ${at++} of the present`); }, 50);
http.createServer((request, response) => {
  if (request.url === "/talk") until = Date.now() + 30_000;
  response.end("ok");
}).listen(process.env.PORT, () => console.log("listening"));
"#;

/// Where the pages are that are measured.
struct Stage {
    server: Server,
    project: String,
    environment: String,
    service: String,
}

pub(super) fn run(root: &Path, target: &Path, scratch: &Path) -> anyhow::Result<()> {
    anyhow::ensure!(root.join("web/dist/index.html.gz").exists(), "the dashboard is not built: run `make web` first");
    let stage = stage(target, scratch)?;
    until_200(stage.server.edge, "talker-production.localhost", "")?;
    let link = Command::new(target.join("orrery"))
        .args(["login-link", "--data-dir"])
        .arg(&stage.server.data)
        .env("XDG_CONFIG_HOME", scratch.join("config"))
        .output()?;
    let link = String::from_utf8_lossy(&link.stdout).trim().to_owned();
    anyhow::ensure!(link.contains("/login/link?token="), "no login link: {link}");
    let figures = scratch.join("browser-figures");
    let status = Command::new("node")
        .arg(root.join("bench/browser/pages.mjs"))
        .env("ORRERY_BENCH_FIGURES", &figures)
        .env("ORRERY_TEST_API", format!("http://localhost:{}", stage.server.api))
        .env("ORRERY_TEST_LOGIN", link)
        .env("ORRERY_BENCH_CANVAS", format!("/p/{}/{}", stage.project, stage.environment))
        .env("ORRERY_BENCH_SERVICE", &stage.service)
        .env("ORRERY_BENCH_APP", format!("http://talker-production.localhost:{}", stage.server.edge))
        .stdin(Stdio::null())
        .status()
        .context("node is needed")?;
    anyhow::ensure!(status.success(), "the browser's part failed");
    judge(&figures)
}

/// Holds each figure that the pages gave to its budget; one that was never given is an error, as is one that has none.
fn judge(figures: &Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(figures).context("the pages gave no figure")?;
    let mut absent = BUDGETS.map(|(name, _)| name).to_vec();
    for line in text.lines() {
        let given: serde_json::Value = serde_json::from_str(line)?;
        let (name, figure) = (given["name"].as_str().context("a figure without a name")?, given["figure"].as_f64().context("no figure")?);
        let (_, budget) = BUDGETS.iter().find(|(known, _)| *known == name).with_context(|| format!("{name:?} has no budget"))?;
        judged(name, figure, *budget);
        absent.retain(|one| *one != name);
    }
    anyhow::ensure!(absent.is_empty(), "the pages gave no figure for {}", absent.join(", "));
    Ok(())
}

/// A project of many services that refer to each other; one runs, with a long past. The past is written before anything is measured, and
/// while no server has its files open.
fn stage(target: &Path, scratch: &Path) -> anyhow::Result<Stage> {
    let mut server = orrery(target, scratch, "browser", "api", false)?;
    let ask = |query: &str| post(server.api, &server.token, query);
    let me = ask("{ me { workspaces { id } } }")?;
    let workspace = (*ids(&me).first().with_context(|| me.clone())?).to_owned();
    let made = ask("mutation { projectCreate(input: {name: \"talker\"}) { id environments { edges { node { id } } } } }")?;
    let [project, environment] = ids(&made)[..] else { anyhow::bail!("unexpected answer: {made}") };
    let files = [("package.json", r#"{"scripts":{"start":"node server.js"}}"#), ("server.js", TALKER)];
    let (deployment, service) = upload(&server, project, environment, "", &archive(scratch, "browser-app", &files)?)?;
    for at in 1..SERVICES {
        let place = format!("projectId: \"{project}\", environmentId: \"{environment}\"");
        let made = ask(&format!("mutation {{ serviceCreate(input: {{{place}, name: \"service-{at}\"}}) {{ id }} }}"))?;
        let id = ids(&made).first().with_context(|| made.clone())?.to_owned();
        let to = if at < 4 { "talker".to_owned() } else { format!("service-{}", at / 4) };
        let kept = ask(&format!(
            "mutation {{ variableUpsert(input: {{{place}, serviceId: \"{id}\", name: \"NEXT\", value: \"${{{{{to}.PORT}}}}\", skipDeploys: true}}) }}"
        ))?;
        anyhow::ensure!(!kept.contains("\"errors\""), "{kept}");
    }
    drop(server.peer.take());
    let status = Command::new(target.join("examples/past"))
        .arg(server.data.join("telemetry"))
        .args([workspace.as_str(), project, environment, &service, &deployment, &LINES.to_string(), &DAYS.to_string()])
        .status()?;
    anyhow::ensure!(status.success(), "the past cannot be written");
    let mut again = serve(target, &server.data, (server.api, server.edge), "all", false);
    server.peer = Some(Peer { child: again.stdout(Stdio::null()).spawn()? });
    ready(server.api)?;
    Ok(Stage { project: project.to_owned(), environment: environment.to_owned(), service, server })
}
