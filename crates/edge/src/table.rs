//! The routing table on disk, `table.json` in the edge's folder.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use domain::routing::RoutingTable;

/// The name of the file in the edge's folder.
pub const FILE: &str = "table.json";

/// Reads the table.
///
/// # Errors
/// When the file is missing or unreadable, and [`io::ErrorKind::InvalidData`] when it is not a table.
pub fn load(dir: &Path) -> io::Result<RoutingTable> {
    serde_json::from_slice(&fs::read(dir.join(FILE))?).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Replaces the table: a reader finds the old one or the new one, never a half, and the new one survives a power cut. Readable by the owner only.
///
/// # Errors
/// When the folder cannot be written to. The old table then stays.
pub fn write(dir: &Path, table: &RoutingTable) -> io::Result<()> {
    replace(dir, FILE, &serde_json::to_vec(table)?)
}

/// The same for any file of the edge's folder.
pub(crate) fn replace(dir: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    let fresh = dir.join(format!("{name}.{}", std::process::id()));
    let written = write_synced(&fresh, text).and_then(|()| fs::rename(&fresh, dir.join(name)));
    if let Err(error) = written {
        // The failed write is what the caller must hear of; a leftover is overwritten by the next attempt.
        let _ = fs::remove_file(&fresh);
        return Err(error);
    }
    File::open(dir)?.sync_all()
}

fn write_synced(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = File::options().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    file.write_all(text)?;
    file.sync_all()
}
