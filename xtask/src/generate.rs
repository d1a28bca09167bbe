//! `surface/`: what Orrery offers, as files that a review can see change.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

use crate::cargo::cargo;
use crate::coverage;

/// What `orrery surface NAME` prints, one file each.
const FILES: [&str; 6] = ["config.schema.json", "cli-help.txt", "errors.md", "galaxy.graphql", "openapi.json", "railway.graphql"];

/// How much of Railway's schema the last of them is.
const COVERAGE: &str = "coverage.json";
const CONTRACT: &str = "crates/api/tests/data/railway-schema.graphql";

/// Writes the files, or with `check` only compares them.
pub(crate) fn run(root: &Path, check: bool) -> anyhow::Result<()> {
    let built = cargo().args(["build", "--quiet", "--package", "orrery"]).current_dir(root).status()?;
    ensure!(built.success(), "`orrery` does not build");
    let program = program(root)?;
    let mut stale = vec![];
    let mut files = vec![];
    for name in FILES {
        let output = Command::new(&program).args(["surface", name]).env_clear().output().context("cannot run `orrery surface`")?;
        ensure!(output.status.success(), "`orrery surface {name}`: {}", String::from_utf8_lossy(&output.stderr));
        files.push((name, output.stdout));
    }
    let served = files.last().map(|(_, text)| String::from_utf8_lossy(text)).unwrap_or_default();
    let contract = std::fs::read_to_string(root.join(CONTRACT)).with_context(|| format!("cannot read {CONTRACT}"))?;
    let counted = coverage::count(&served, &contract)?;
    files.push((COVERAGE, counted.into_bytes()));
    for (name, text) in files {
        let path = root.join("surface").join(name);
        if std::fs::read(&path).ok().as_ref() == Some(&text) {
            continue;
        }
        if check {
            stale.push(name);
        } else {
            std::fs::create_dir_all(root.join("surface"))?;
            std::fs::write(&path, &text).with_context(|| format!("cannot write {}", path.display()))?;
        }
    }
    if !stale.is_empty() {
        bail!("surface/ is not what the code says: {}. Run `cargo xtask generate` and commit the difference", stale.join(", "));
    }
    Ok(())
}

/// Where cargo has put the program.
fn program(root: &Path) -> anyhow::Result<std::path::PathBuf> {
    let metadata = cargo_metadata::MetadataCommand::new().current_dir(root).no_deps().exec()?;
    Ok(metadata.target_directory.join("debug/orrery").into())
}
