//! The rules of the house as a test. What each rule is for: `docs/ARCHITECTURE.md` and `docs/SECURITY.md`.
//!
//! An exception stands in `xtask/tidy.toml` with its reason; one that is no longer needed is an error, so that the list only shrinks.

mod budgets;
mod documents;
mod edges;
mod exceptions;
mod licences;
mod names;
mod source;
mod traits;

use std::io::Write as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use exceptions::Exceptions;
use source::Source;

/// One broken rule at one place.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Finding {
    /// A file, with a line where there is one, or a crate.
    pub(crate) place: String,
    /// What is wrong and what to do.
    pub(crate) text: String,
}

impl Finding {
    fn new(place: impl Into<String>, text: impl Into<String>) -> Self {
        Self { place: place.into(), text: text.into() }
    }
}

/// Checks every rule and reports everything that breaks one.
pub(crate) fn run(root: &Path) -> anyhow::Result<()> {
    let mut exceptions = Exceptions::read(&root.join("xtask/tidy.toml"))?;
    let files = files(root)?;
    let sources = files
        .iter()
        .filter(|path| Path::new(path).extension().is_some_and(|extension| extension == "rs"))
        .map(|path| Source::read(root, path))
        .collect::<anyhow::Result<Vec<_>>>()?;
    let metadata = cargo_metadata::MetadataCommand::new().current_dir(root).exec()?;

    let mut findings = vec![];
    findings.extend(edges::check(&metadata));
    findings.extend(licences::check(&metadata, &root.join("deny.toml"))?);
    findings.extend(budgets::check(&sources, &mut exceptions));
    findings.extend(names::check(&sources, &mut exceptions));
    findings.extend(traits::check(&sources, &mut exceptions));
    findings.extend(names::check_files(root, &files)?);
    findings.extend(documents::check(root)?);
    findings.extend(exceptions.unused());
    findings.sort();

    let mut out = std::io::stdout().lock();
    for Finding { place, text } in &findings {
        writeln!(out, "{place}: {text}")?;
    }
    if !findings.is_empty() {
        bail!("tidy: {} finding(s)", findings.len());
    }
    writeln!(out, "tidy: {} files, nothing to say", files.len())?;
    Ok(())
}

/// The files of the repository, tracked or about to be, relative to `root`.
fn files(root: &Path) -> anyhow::Result<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
        .current_dir(root)
        .output()
        .context("cannot run git: install it (Debian: git)")?;
    ensure!(output.status.success(), "git ls-files: {}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).context("a file name is not UTF-8")?;
    let present = text.split('\0').filter(|path| !path.is_empty() && root.join(path).is_file());
    Ok(present.map(str::to_owned).collect())
}
