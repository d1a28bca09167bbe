//! A body on its way to the blob folder. Until it has its final name, dropping it removes it.

use std::fs::File;
use std::io;
use std::path::Path;
use std::time::Duration;

use axum::body::Body;
use domain::Code;
use http_body_util::BodyExt;
use ops::Error;
use sha2::{Digest, Sha256};
use tempfile::NamedTempFile;
use tokio::io::AsyncWriteExt;

const PREFIX: &str = "tmp-";

/// The longest silence between two parts of a body, and the longest upload.
const SILENCE: Duration = Duration::from_secs(30);
const WHOLE: Duration = Duration::from_secs(30 * 60);

/// An archive that has arrived and has no name yet.
pub(crate) struct Received {
    /// Locked as long as it is open, which tells [`sweep`] that somebody cares for it.
    pub(crate) file: NamedTempFile,
    /// In hex.
    pub(crate) sha256: String,
    /// Its size.
    pub(crate) bytes: u64,
}

pub(crate) fn too_large(limit: u64) -> Error {
    Error::new(
        Code::TooLarge,
        format!(
            "The archive is larger than this server's limit of {limit} bytes: leave files out with .railwayignore, or ask for a higher max_upload_bytes"
        ),
    )
}

fn disk(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Error {
            source: Some(Box::new(error)),
            ..Error::new(Code::Unavailable, "The server's disk is full: tell its operator, then upload again")
        },
        _ => Error::internal("the blob folder", error),
    }
}

/// Reads a body into a temporary file of the folder, hashing and counting on the way.
///
/// # Errors
/// Too large, empty, too slow, broken off, or the disk is full. Nothing is left in the folder then.
pub(crate) async fn receive(body: &mut Body, folder: &Path, limit: u64) -> Result<Received, Error> {
    std::fs::create_dir_all(folder).map_err(disk)?;
    let temporary = tempfile::Builder::new().prefix(PREFIX).tempfile_in(folder).map_err(disk)?;
    temporary.as_file().lock().map_err(disk)?;
    let mut file = tokio::fs::File::from_std(temporary.as_file().try_clone().map_err(disk)?);
    let copied = tokio::time::timeout(WHOLE, copy(body, &mut file, limit)).await;
    let (sha256, bytes) = copied.unwrap_or_else(|_| Err(slow()))?;
    if bytes == 0 {
        return Err(Error::bad_input("The archive is empty: send the folder as a gzip'd tar in the body"));
    }
    Ok(Received { file: temporary, sha256, bytes })
}

fn slow() -> Error {
    Error::new(Code::Timeout, "The upload came too slowly: send it again")
}

async fn copy(body: &mut Body, file: &mut tokio::fs::File, limit: u64) -> Result<(String, u64), Error> {
    let mut hash = Sha256::new();
    let mut bytes = 0u64;
    loop {
        let Some(frame) = tokio::time::timeout(SILENCE, body.frame()).await.map_err(|_| slow())? else { break };
        let frame = frame.map_err(|_| Error::bad_input("The upload broke off: send it again"))?;
        let Ok(data) = frame.into_data() else { continue };
        bytes += data.len() as u64;
        if bytes > limit {
            return Err(too_large(limit));
        }
        hash.update(&data);
        file.write_all(&data).await.map_err(disk)?;
    }
    file.flush().await.map_err(disk)?;
    file.sync_data().await.map_err(disk)?;
    let hex = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    Ok((hex, bytes))
}

/// Gives the file its final name, so that it is there after a power cut too.
///
/// # Errors
/// The disk.
pub(crate) fn keep(file: NamedTempFile, path: &Path) -> Result<(), Error> {
    file.persist(path).map_err(|error| disk(error.error))?;
    if let Some(folder) = path.parent() {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(disk)?;
    }
    Ok(())
}

/// Removes temporary files that nobody holds: a process that is killed cannot clean up.
pub(crate) fn sweep(folder: &Path) {
    // No folder means no upload yet.
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let orphan = File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
        if orphan && let Err(error) = std::fs::remove_file(entry.path()) {
            tracing::warn!(%error, "an unfinished upload of an earlier process could not be removed");
        }
    }
}
