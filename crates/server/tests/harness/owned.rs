//! Folders that say by a lock whether somebody still needs them.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of this module")]

use std::fs::{self, File};
use std::path::Path;

/// Locked for as long as it is needed. The kernel lets go of it with the process, however that ends.
const OWNER: &str = "owner";

/// A new folder with its lock.
pub fn claim(prefix: &str, place: &Path) -> (tempfile::TempDir, File) {
    let dir = tempfile::Builder::new().prefix(prefix).tempdir_in(place).unwrap();
    let fresh = dir.path().join("owner.new");
    let owner = File::create(&fresh).unwrap();
    owner.lock().unwrap();
    // It gets its name when it is locked: in between, another test would take it for one that nobody holds.
    fs::rename(fresh, dir.path().join(OWNER)).unwrap();
    (dir, owner)
}

/// Deletes what tests have left that were killed, after `end` has ended what still runs over it.
pub fn sweep(prefix: &str, place: &Path, end: impl Fn(&Path)) {
    let folders = fs::read_dir(place).unwrap().flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    for dir in folders.map(|entry| entry.path()) {
        let Ok(owner) = File::open(dir.join(OWNER)) else { continue };
        if owner.try_lock().is_ok() {
            end(&dir);
            // Somebody else's cannot be removed.
            let _ = fs::remove_dir_all(&dir);
        }
    }
}
