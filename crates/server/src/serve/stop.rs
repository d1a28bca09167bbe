//! `orrery stop --apps`: the end of what outlives `orrery serve`.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use runtime::Driver;
use runtime::process::{ProcessConfig, ProcessDriver};

use super::{Folders, REPLICA_PORTS, edge_process};
use crate::config::Config;

/// What an app has for its end, before it is killed.
const GRACE: Duration = Duration::from_secs(30);
/// When all of them should be over.
const PATIENCE: Duration = Duration::from_secs(60);
/// The driver's bell may rarely be lost.
const LOOK: Duration = Duration::from_millis(500);

/// Ends every app, database and run below the data directory, and then the edge. What is desired stays as it is, so that the next
/// `orrery serve` starts them again.
pub(crate) fn stop(config: &Config, apps: bool) -> anyhow::Result<ExitCode> {
    anyhow::ensure!(
        apps,
        "say what ends: --apps ends all apps and the edge; `orrery serve` itself ends by Ctrl-C or `systemctl stop orrery`"
    );
    let data = config.data_dir.display();
    let none = || format!("there is no server's data for this user in {data}: run this as the user of `orrery serve`, or give --data-dir");
    let _alone = match Folders::lock_of(&config.data_dir) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            anyhow::bail!("`orrery serve` runs over {data} and would start them again: stop it first, by Ctrl-C or `systemctl stop orrery`")
        }
        other => other.with_context(none)?,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (replicas, edge) = runtime.block_on(async {
        let replicas = end_replicas(config).await?;
        anyhow::Ok((replicas, edge_process::end(&config.data_dir.join("edge")).await?))
    })?;
    let edge = if edge { "the edge has ended" } else { "no edge ran" };
    let mut out = std::io::stdout().lock();
    writeln!(out, "{replicas} running copies of apps have ended, {edge}; the next `orrery serve` starts again what it finds")?;
    Ok(ExitCode::SUCCESS)
}

/// How many were running.
async fn end_replicas(config: &Config) -> anyhow::Result<usize> {
    let driver = ProcessDriver::new(ProcessConfig {
        data_dir: config.data_dir.clone(),
        exe: std::env::current_exe().context("the path of this program")?,
        hidden: vec![],
        port_range: REPLICA_PORTS,
    })?;
    let (begun, mut bell) = (Instant::now(), driver.bell());
    let mut asked = vec![];
    loop {
        bell.mark_unchanged();
        let seen = driver.observe().await?;
        let live: Vec<_> = seen.into_iter().filter(|seen| !seen.phase.is_over()).map(|seen| seen.replica_id).collect();
        if live.is_empty() {
            return Ok(asked.len());
        }
        anyhow::ensure!(begun.elapsed() < PATIENCE, "{} running copies of apps did not end: try again", live.len());
        for replica in live {
            if !asked.contains(&replica) {
                driver.stop(replica, GRACE).await?;
                asked.push(replica);
            }
        }
        // Either way it is looked at again; a bell that is gone rings no more.
        let _ = tokio::time::timeout(LOOK, bell.changed()).await;
    }
}
