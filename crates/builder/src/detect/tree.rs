//! The source as the detection sees it: which paths exist, and the texts of a few files.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// Texts beyond this are cut; no file that decides anything is that long.
const TEXT_BYTES: u64 = 512 * 1024;

/// Files whose text matters.
const TEXTS: [&str; 20] = [
    "package.json",
    "pnpm-lock.yaml",
    "yarn.lock",
    ".yarnrc.yml",
    "requirements.txt",
    "pyproject.toml",
    "Procfile",
    "Staticfile",
    "Cargo.toml",
    "go.mod",
    "start.sh",
    "main.py",
    "app.py",
    "server.py",
    "api.py",
    "wsgi.py",
    "asgi.py",
    "run.py",
    "app/main.py",
    "src/main.py",
];

/// A listing and some texts.
#[derive(Debug, Default)]
pub(crate) struct Tree {
    paths: BTreeSet<String>,
    texts: BTreeMap<String, String>,
}

impl Tree {
    /// Reads the texts from the disk. Only called before any command of the user has run: the links in it stay inside.
    pub(crate) fn read(root: &Path, paths: BTreeSet<String>) -> Self {
        let read = |name: &str| {
            let mut bytes = vec![];
            File::open(root.join(name)).ok()?.take(TEXT_BYTES).read_to_end(&mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes).into_owned())
        };
        let texts = TEXTS.iter().filter(|name| paths.contains(**name));
        let texts = texts.filter_map(|name| Some(((*name).to_owned(), read(name)?))).collect();
        Self { paths, texts }
    }

    /// Whether a file or folder exists.
    pub(crate) fn has(&self, path: &str) -> bool {
        self.paths.contains(path)
    }

    /// The text of one of the known files.
    pub(crate) fn text(&self, path: &str) -> Option<&str> {
        self.texts.get(path).map(String::as_str)
    }

    /// All paths in order.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        self.paths.iter().map(String::as_str)
    }

    #[cfg(test)]
    pub(crate) fn of(files: &[(&str, &str)]) -> Self {
        let owned = || files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        let folders = files.iter().flat_map(|(path, _)| path.match_indices('/').map(|(at, _)| path[..at].to_owned()));
        Self {
            paths: owned().map(|(path, _)| path).chain(folders).collect(),
            texts: owned().filter(|(path, _)| TEXTS.contains(&path.as_str())).collect(),
        }
    }
}
