//! The source of a template's app, as if it had been uploaded.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::path::Path;

use domain::Timestamp;
use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};

use crate::Error;

/// Packs the files and puts them into the folder of uploads. The archive's hash and name, in hex.
pub(super) fn store(blobs: &Path, files: &BTreeMap<String, String>, now: Timestamp) -> Result<String, Error> {
    let archive = pack(files).map_err(|error| Error::internal("packing a template", error))?;
    let name: String = Sha256::digest(&archive).iter().map(|byte| format!("{byte:02x}")).collect();
    let write = || -> io::Result<()> {
        let path = blobs.join(&name);
        if path.is_file() {
            // It may be about to be swept, as one that nobody needs.
            return fs::File::options().append(true).open(&path)?.set_modified(now.into());
        }
        fs::create_dir_all(blobs)?;
        let fresh = blobs.join(format!("{name}.{}", uuid::Uuid::new_v4()));
        let mut file = fs::File::create(&fresh)?;
        file.write_all(&archive)?;
        file.sync_data()?;
        fs::rename(fresh, path)
    };
    write().map_err(|error| Error::internal("the blob folder", error))?;
    Ok(name)
}

/// The same files give the same archive.
fn pack(files: &BTreeMap<String, String>) -> io::Result<Vec<u8>> {
    let mut archive = tar::Builder::new(GzEncoder::new(vec![], Compression::default()));
    for (path, text) in files {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(text.len() as u64);
        archive.append_data(&mut header, path, text.as_bytes())?;
    }
    archive.into_inner()?.finish()
}
