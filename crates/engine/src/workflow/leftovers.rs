//! Removes files of accounts that no row tells of: what was left when a workspace went with its rows, or when the server was killed
//! between a file and its row.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use domain::UploadId;
use store::StoreError;
use tokio::fs::DirEntry;
use uuid::Uuid;

use super::{Flow, SWEPT};
use crate::rounds;

/// The folder is walked so often.
const PERIOD: Duration = Duration::from_secs(3600);
/// What is younger may still get its row.
const GRACE: Duration = Duration::from_secs(24 * 3600);

/// Runs until the engine stops, beside what puts off the holds of runs: a walk may take long.
pub(super) async fn run(flow: Arc<Flow>) {
    let problem = "files that belong to nobody could not be looked for; it is tried again";
    rounds::by_clock(&flow.shared, PERIOD, problem, || walk(&flow)).await;
}

async fn walk(flow: &Flow) -> Result<(), StoreError> {
    let ops = &flow.shared.ops;
    // Nothing was ever uploaded.
    let Ok(mut entries) = tokio::fs::read_dir(&ops.settings.flow.files).await else { return Ok(()) };
    let mut batch: Vec<UploadId> = vec![];
    loop {
        let entry = entries.next_entry().await.ok().flatten();
        let last = entry.is_none();
        if let Some(entry) = entry {
            batch.extend(old(&entry).await);
        }
        if last || batch.len() >= SWEPT as usize {
            let known: BTreeSet<UploadId> = ops.store.system_flow_files_known(&batch).await?.into_iter().collect();
            for id in batch.drain(..).filter(|id| !known.contains(id)) {
                // Gone already is as good.
                let _ = tokio::fs::remove_file(ops::file::file_path(ops, id)).await;
            }
        }
        if last {
            return Ok(());
        }
    }
}

/// The id of a file that is old enough to have its row.
async fn old(entry: &DirEntry) -> Option<UploadId> {
    let id = Uuid::parse_str(entry.file_name().to_str()?).ok()?;
    let age = entry.metadata().await.ok()?.modified().ok()?.elapsed().ok()?;
    (age > GRACE).then_some(UploadId(id))
}
