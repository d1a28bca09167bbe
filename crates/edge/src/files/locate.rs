//! From the path of a request to a file that may be served.

use std::fs::{self, File};
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode_str, utf8_percent_encode};

/// What is written as it is in the path of a redirect.
const PLAIN: &AsciiSet =
    &CONTROLS.add(b' ').add(b'"').add(b'#').add(b'%').add(b'<').add(b'>').add(b'?').add(b'`').add(b'{').add(b'}').add(b'\\');

/// Where a path leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// To a file.
    File(PathBuf),
    /// To a folder, and lacks its final slash: the path that has it.
    Folder(String),
    /// Nowhere; `page`: by its name it could be a page rather than an asset.
    Missing { page: bool },
    /// To something that is not to be served, and nothing may stand in for it.
    Refused,
}

/// A file that was opened.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) file: File,
    pub(super) length: u64,
    pub(super) modified: Option<SystemTime>,
    pub(super) encoding: Encoding,
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    Identity,
    Gzip,
    Brotli,
}

impl Encoding {
    pub(super) fn name(self) -> Option<&'static str> {
        match self {
            Self::Identity => None,
            Self::Gzip => Some("gzip"),
            Self::Brotli => Some("br"),
        }
    }

    /// Of the neighbour's name, and of its entity tag.
    pub(super) fn suffix(self) -> &'static str {
        match self {
            Self::Identity => "",
            Self::Gzip => ".gz",
            Self::Brotli => ".br",
        }
    }
}

/// Finds what a path of a URL names. The path is taken apart before it is decoded, so an encoded slash never separates.
pub(super) fn locate(root: &Path, path: &str) -> Place {
    let mut names = vec![];
    for raw in path.split('/').filter(|raw| !raw.is_empty()) {
        let Ok(name) = percent_decode_str(raw).decode_utf8() else { return Place::Refused };
        if name.contains(['/', '\\', '\0']) || is_hidden(&name) {
            return Place::Refused;
        }
        names.push(name);
    }
    let mut full = root.to_owned();
    full.extend(names.iter().map(|name| Path::new(name.as_ref())));
    let page = !names.last().is_some_and(|name| name.contains('.'));
    let Ok(known) = fs::metadata(&full) else { return Place::Missing { page } };
    match (known.is_dir(), names.is_empty() || path.ends_with('/')) {
        (false, false) => Place::File(full),
        (true, true) if full.join("index.html").is_file() => Place::File(full.join("index.html")),
        (true, false) if allowed(root, &full).is_none() => Place::Refused,
        (true, false) => {
            let encoded = names.iter().map(|name| utf8_percent_encode(name, PLAIN).to_string());
            Place::Folder(format!("/{}/", encoded.collect::<Vec<_>>().join("/")))
        }
        _ => Place::Missing { page },
    }
}

/// Opens a file, or the compressed neighbour of it that the client prefers.
pub(super) fn open(root: &Path, path: &Path, accepted: Option<&HeaderValue>) -> Option<Found> {
    let accepted = accepted.and_then(|value| value.to_str().ok()).unwrap_or_default();
    for encoding in [Encoding::Brotli, Encoding::Gzip] {
        if encoding.name().is_some_and(|name| is_accepted(accepted, name)) {
            let mut neighbour = path.as_os_str().to_owned();
            neighbour.push(encoding.suffix());
            // The neighbour only stands for a file that is there itself.
            if let Some(found) = open_one(root, Path::new(&neighbour), encoding)
                && allowed(root, path).is_some()
            {
                return Some(found);
            }
        }
    }
    open_one(root, path, Encoding::Identity)
}

fn open_one(root: &Path, path: &Path, encoding: Encoding) -> Option<Found> {
    // Looked at before it is opened: opening a pipe would wait for its other end.
    if !fs::metadata(path).ok()?.is_file() {
        return None;
    }
    let file = File::open(allowed(root, path)?).ok()?;
    let known = file.metadata().ok().filter(fs::Metadata::is_file)?;
    Some(Found { file, length: known.len(), modified: known.modified().ok(), encoding })
}

/// The path without links, if it stays in the folder and hides nothing.
fn allowed(root: &Path, path: &Path) -> Option<PathBuf> {
    let real = path.canonicalize().ok()?;
    let inside = real.strip_prefix(root).ok()?;
    let shown = inside.components().all(|part| matches!(part, Component::Normal(name) if !is_hidden(&name.to_string_lossy())));
    shown.then_some(real)
}

fn is_hidden(name: &str) -> bool {
    name.starts_with('.') && name != ".well-known"
}

fn is_accepted(header: &str, encoding: &str) -> bool {
    header.split(',').any(|item| {
        let (name, weight) = item.split_once(';').unwrap_or((item, ""));
        let weight = weight.trim().strip_prefix("q=").map_or(1.0, |text| text.trim().parse().unwrap_or(0.0));
        name.trim().eq_ignore_ascii_case(encoding) && weight > 0.0
    })
}
