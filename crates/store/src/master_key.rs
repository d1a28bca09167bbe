//! The master key: 32 bytes in a file of the operator's or in their environment. It wraps the data key and encrypts nothing else.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use zeroize::{Zeroize, Zeroizing};

use crate::StoreError;

/// The key under which the database's own key is kept. Wiped from memory when dropped; never shown.
#[derive(Clone)]
pub struct MasterKey(Zeroizing<[u8; 32]>);

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

impl MasterKey {
    /// A key of 32 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(Zeroizing::new(bytes))
    }

    /// Reads a key of 32 bytes from 64 hexadecimal digits or base64 of either alphabet; space around it is ignored.
    ///
    /// # Errors
    /// [`StoreError::MasterKey`], without the text.
    pub fn parse(text: &str) -> Result<Self, StoreError> {
        let text = text.trim();
        let bytes = Zeroizing::new(if text.len() == 64 {
            hex(text)
        } else {
            let bare = text.trim_end_matches('=');
            STANDARD_NO_PAD.decode(bare).or_else(|_| URL_SAFE_NO_PAD.decode(bare)).ok()
        });
        let key = bytes.as_deref().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        key.map(Self::from_bytes).ok_or_else(|| StoreError::MasterKey("it must be 64 hexadecimal digits or 32 bytes in base64".into()))
    }

    /// Reads the key from a file, or makes the file with a random key, readable for its owner only. Of several processes that start at
    /// once, all use the same key.
    ///
    /// # Errors
    /// [`StoreError::MasterKey`] when the file cannot be read or made, holds no key, or is open to others.
    pub fn load_or_create(path: &Path) -> Result<Self, StoreError> {
        let shown = path.display();
        let failed = |what: &str, error: std::io::Error| StoreError::MasterKey(format!("{shown} cannot be {what}: {error}"));
        match File::open(path) {
            Ok(file) => return Self::read(file, path),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(failed("opened", error)),
        }
        // The name appears with the whole key behind it or not at all, and never replaces a key that someone else has just made.
        let mut suffix = [0u8; 8];
        rand::fill(&mut suffix);
        let draft = path.with_extension(format!("{:016x}.tmp", u64::from_be_bytes(suffix)));
        let made = write_draft(&draft).and_then(|()| match std::fs::hard_link(&draft, path) {
            Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        });
        if let Err(error) = std::fs::remove_file(&draft)
            && made.is_ok()
        {
            return Err(failed("tidied up", error));
        }
        made.map_err(|error| failed("created", error))?;
        if let Some(Ok(parent)) = path.parent().map(File::open) {
            parent.sync_all().map_err(|error| failed("made durable", error))?;
        }
        Self::read(File::open(path).map_err(|error| failed("opened", error))?, path)
    }

    fn read(file: File, path: &Path) -> Result<Self, StoreError> {
        let shown = path.display();
        let failed = |error: std::io::Error| StoreError::MasterKey(format!("{shown} cannot be read: {error}"));
        let mode = file.metadata().map_err(failed)?.mode() & 0o777;
        if mode & 0o077 != 0 {
            return Err(StoreError::MasterKey(format!("{shown} has mode {mode:o}: others can read it; run chmod 600 {shown}")));
        }
        let text = Zeroizing::new(std::io::read_to_string(file).map_err(failed)?);
        Self::parse(&text).map_err(|_| StoreError::MasterKey(format!("{shown} does not hold 64 hexadecimal digits or 32 bytes in base64")))
    }

    pub(crate) fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

fn write_draft(path: &Path) -> std::io::Result<()> {
    let mut key = Zeroizing::new([0u8; 32]);
    rand::fill(&mut *key);
    let mut text = Zeroizing::new(String::with_capacity(65));
    for byte in key.iter() {
        for digit in [byte >> 4, byte & 15] {
            text.push(char::from_digit(digit.into(), 16).expect("a digit below 16"));
        }
    }
    text.push('\n');
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(32);
    for pair in text.as_bytes().chunks(2) {
        let digit = |byte: u8| char::from(byte).to_digit(16);
        match (digit(pair[0]), pair.get(1).copied().and_then(digit)) {
            (Some(high), Some(low)) => bytes.push((high << 4 | low) as u8),
            _ => {
                bytes.zeroize();
                return None;
            }
        }
    }
    Some(bytes)
}
