//! What the operator sees of this machine in the dashboard.

use std::path::Path;
use std::sync::Arc;

use ops::operator::{Check, Machine, Storage};
use runtime::tree::measure;

use crate::config::Effective;
use crate::doctor;

/// Files and folders of a part of the data directory that are measured at most.
const GAUGED: usize = 2_000_000;

pub(super) fn of(effective: Arc<Effective>) -> Machine {
    let (data, kept) = (effective.config.data_dir.clone(), effective.config.files_dir.clone());
    Machine {
        backups: super::store_backups(&effective.config),
        health: Box::new(move || {
            let mut checks = doctor::look(&effective);
            checks.push(program());
            checks
        }),
        storage: Box::new(move || storage(&data, &kept)),
    }
}

/// Whether the program that runs is the one that is installed.
fn program() -> Check {
    let (name, running) = ("version", env!("CARGO_PKG_VERSION"));
    let replaced = std::fs::read_link("/proc/self/exe").is_ok_and(|path| path.to_string_lossy().ends_with(" (deleted)"));
    if !replaced {
        return Check::ok(name, running);
    }
    let found = format!("{running} runs, and the program was replaced since it began");
    Check::warn(name, found, "what was installed is not used yet", "restart `orrery serve`: apps and their traffic go on meanwhile")
}

fn storage(data: &Path, kept: &Path) -> Storage {
    let folders = |names: &[&str]| names.iter().map(|name| measure(&data.join(name), GAUGED)).sum::<u64>();
    let files = |names: &[&str]| names.iter().map(|name| data.join(name).metadata().map_or(0, |file| file.len())).sum::<u64>();
    let parts = vec![
        ("database", files(&["orrery.db", "orrery.db-wal"])),
        ("copies of the database", folders(&["store-backups"])),
        ("logs", folders(&["telemetry/logs", "telemetry/requests"])),
        ("metrics", folders(&["telemetry/metrics"])),
        ("volumes", folders(&["volumes"])),
        ("backups of volumes", folders(&["backups"])),
        ("builds", folders(&["artifacts", "cache", "scratch"])),
        ("uploads", folders(&["blobs"])),
        ("files of workflows", measure(kept, GAUGED)),
        ("running copies of apps", folders(&["replicas"])),
    ];
    let disk = nix::sys::statvfs::statvfs(data);
    let bytes = |blocks: u64| disk.as_ref().map_or(0, |disk| blocks.saturating_mul(disk.fragment_size()));
    let blocks = disk.as_ref().map_or((0, 0), |disk| (disk.blocks_available(), disk.blocks()));
    Storage { parts, free: bytes(blocks.0), total: bytes(blocks.1) }
}
