//! `surface/`: what Orrery offers, as files that a review can see change.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, bail, ensure};

/// What `orrery surface NAME` prints, one file each.
const FILES: [&str; 6] = ["config.schema.json", "cli-help.txt", "errors.md", "galaxy.graphql", "openapi.json", "railway.graphql"];

/// Writes the files, or with `check` only compares them.
pub(crate) fn run(root: &Path, check: bool) -> anyhow::Result<()> {
    let built = Command::new(env!("CARGO")).args(["build", "--quiet", "--package", "orrery"]).current_dir(root).status()?;
    ensure!(built.success(), "`orrery` does not build");
    let program = program(root)?;
    let mut stale = vec![];
    for name in FILES {
        let output = Command::new(&program).args(["surface", name]).env_clear().output().context("cannot run `orrery surface`")?;
        ensure!(output.status.success(), "`orrery surface {name}`: {}", String::from_utf8_lossy(&output.stderr));
        let path = root.join("surface").join(name);
        if std::fs::read(&path).ok().as_deref() == Some(&output.stdout) {
            continue;
        }
        if check {
            stale.push(name);
        } else {
            std::fs::create_dir_all(root.join("surface"))?;
            std::fs::write(&path, &output.stdout).with_context(|| format!("cannot write {}", path.display()))?;
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
