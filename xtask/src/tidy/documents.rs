//! What must be written down: why each dependency is used.

use std::path::Path;

use anyhow::Context as _;

use super::Finding;

pub(super) fn check(root: &Path) -> anyhow::Result<Vec<Finding>> {
    let read = |path: &str| std::fs::read_to_string(root.join(path)).with_context(|| format!("cannot read {path}"));
    let manifest: toml::Table = read("Cargo.toml")?.parse()?;
    let page = read("docs/DEPENDENCIES.md")?;
    let named = |name: &str| page.lines().any(|line| line.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{name}`"))));
    let dependencies = manifest["workspace"]["dependencies"].as_table().context("Cargo.toml has no workspace.dependencies")?;
    let outside = dependencies.iter().filter(|(_, value)| value.get("path").is_none());
    Ok(outside
        .filter(|(name, _)| !named(name))
        .map(|(name, _)| Finding::new("docs/DEPENDENCIES.md", format!("has no line for `{name}`: say why it is used, or remove it")))
        .collect())
}
