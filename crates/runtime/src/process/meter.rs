//! What replicas use: CPU time and memory of their control groups, or of their processes where there are none, and what they write.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use domain::ReplicaId;

use super::lock;
use crate::cgroup::Gauges;
use crate::folder::Folder;
use crate::proc::{self, Process};
use crate::tree::size_of;
use crate::{ObservedPhase, ReplicaUsage};

/// A folder is walked through so often; in between its size counts as unchanged.
const WALK_EVERY: Duration = Duration::from_secs(60);
/// Files and folders of one replica that are looked at, at most.
const WALK_LIMIT: usize = 20_000;

/// Measures. Remembers what costs much to find out.
pub(super) struct Meter {
    gauges: Gauges,
    sizes: Mutex<HashMap<ReplicaId, (Instant, u64)>>,
}

impl Meter {
    pub(super) fn new() -> Self {
        Self { gauges: Gauges::find(), sizes: Mutex::default() }
    }

    /// What those replicas use whose app runs.
    pub(super) fn read(&self, replicas: &[(ReplicaId, Folder)]) -> Vec<(ReplicaId, ReplicaUsage)> {
        lock(&self.sizes).retain(|id, _| replicas.iter().any(|(replica, _)| replica == id));
        let mut processes: Option<HashMap<u32, Process>> = None;
        let mut found = vec![];
        for (replica, folder) in replicas {
            let (mut cpu, mut memory) = self.gauges.read(&replica.to_string());
            if cpu.is_none() || memory.is_none() {
                let Some(guard) = running(folder) else { continue };
                let (ticked, resident) = proc::sum_below(guard, processes.get_or_insert_with(proc::processes));
                (cpu, memory) = (cpu.or(Some(ticked)), memory.or(Some(resident)));
            }
            if let (Some(cpu_nanos), Some(memory_bytes)) = (cpu, memory) {
                let ephemeral_disk_bytes = self.size(*replica, folder.path());
                found.push((*replica, ReplicaUsage { cpu_nanos, memory_bytes, ephemeral_disk_bytes }));
            }
        }
        found
    }

    fn size(&self, replica: ReplicaId, folder: &Path) -> u64 {
        if let Some((at, size)) = lock(&self.sizes).get(&replica)
            && at.elapsed() < WALK_EVERY
        {
            return *size;
        }
        let mut left = WALK_LIMIT;
        let size = ["upper", "tmp"].iter().map(|name| size_of(&folder.join(name), &mut left)).sum();
        lock(&self.sizes).insert(replica, (Instant::now(), size));
        size
    }
}

/// The process above the app, while the app runs.
fn running(folder: &Folder) -> Option<u32> {
    let state = folder.state().ok()??;
    let guard = state.guard.filter(|guard| state.phase == ObservedPhase::Running && guard.is_alive().unwrap_or(false))?;
    Some(guard.pid)
}
