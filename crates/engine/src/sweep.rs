//! Deletes what nothing refers to any more: artifacts, uploads, caches of builds, projects whose grace is over, old logs.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use domain::{Tenant, Timestamp};
use store::Change;

use crate::{Shared, volumes};

/// Uploads and artifacts that are younger than this may belong to a request that has not committed yet.
const GRACE: Duration = Duration::from_secs(3600);

/// Messages that are done can be looked at for so long.
const KEPT: jiff::SignedDuration = jiff::SignedDuration::from_hours(30 * 24);

/// Runs of triggers can be looked at for so long.
const RUNS_KEPT: jiff::SignedDuration = jiff::SignedDuration::from_hours(7 * 24);

/// Of the containers of a place more than the two newest can be looked at for so long after their end.
const REPLICAS_KEPT: jiff::SignedDuration = jiff::SignedDuration::from_hours(1);

/// Runs of each service with a schedule that can be looked at: of one that runs every five minutes, those of three days.
const EXECUTIONS_KEPT: i64 = 1000;

pub(crate) async fn run(shared: Arc<Shared>) {
    let mut tick = tokio::time::interval(Duration::from_secs(600));
    loop {
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            _ = tick.tick() => {}
        }
        if let Err(error) = sweep(&shared).await {
            tracing::warn!(%error, "the clean-up could not finish; the next one tries again");
        }
    }
}

async fn sweep(shared: &Arc<Shared>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let now = Timestamp::now();
    for (workspace, project) in shared.ops.store.system_projects_to_purge(now).await? {
        shared.ops.store.commit(Tenant::system(workspace), vec![Change::ProjectDelete(project)]).await?;
        shared.ops.signals.deployments_deleted();
    }
    volumes::sweep(shared, now).await?;
    let artifacts: HashSet<String> = shared.ops.store.system_artifacts_in_use().await?.into_iter().collect();
    let blobs: HashSet<String> = shared.ops.store.system_blobs_in_use().await?.into_iter().collect();
    let (artifact_dir, blob_dir) = (shared.config.data_dir.join("artifacts"), shared.config.blobs.clone());
    let (scratch_dir, cache_dir) = (shared.config.data_dir.join("scratch"), shared.config.data_dir.join("cache"));
    let services: HashSet<String> = shared.ops.store.system_services().await?.iter().map(ToString::to_string).collect();
    let building: HashSet<String> = crate::lock(&shared.builds).keys().map(ToString::to_string).collect();
    tokio::task::spawn_blocking(move || {
        remove_unused(&artifact_dir, |name| artifacts.contains(stem(name)) || building.contains(stem(name)));
        remove_unused(&blob_dir, |name| blobs.contains(name));
        remove_unused(&cache_dir, |name| services.contains(name));
        // Left by builds that ended with the control plane.
        remove_unused(&scratch_dir, |name| building.contains(name.strip_suffix("-pre").unwrap_or(name)));
    })
    .await?;
    shared.ops.store.system_deliveries_purge(now - KEPT).await?;
    shared.ops.store.system_trigger_runs_purge(now - RUNS_KEPT).await?;
    shared.ops.store.system_replicas_purge(now - REPLICAS_KEPT).await?;
    shared.ops.store.system_executions_purge(EXECUTIONS_KEPT).await?;
    shared.ops.telemetry.purge(now)?;
    Ok(())
}

/// An artifact's manifest lies beside it under the same name with an ending.
fn stem(name: &str) -> &str {
    name.split('.').next().unwrap_or(name)
}

fn remove_unused(dir: &Path, used: impl Fn(&str) -> bool) {
    let Ok(entries) = std::fs::read_dir(dir) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let age = entry.metadata().and_then(|meta| meta.modified()).ok().and_then(|at| SystemTime::now().duration_since(at).ok());
        if used(&name) || age.is_none_or(|age| age < GRACE) {
            continue;
        }
        let path = entry.path();
        let removed = if path.is_dir() { builder::remove_tree(&path) } else { std::fs::remove_file(&path) };
        if let Err(error) = removed {
            tracing::warn!(%error, path = %path.display(), "an unused file could not be deleted");
        }
    }
}
