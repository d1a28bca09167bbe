//! `xtask/tidy.toml`: which rule does not hold where, and why.

use std::path::Path;

use anyhow::Context as _;
use serde::Deserialize;

use super::Finding;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default, rename = "exception")]
    exceptions: Vec<Exception>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Exception {
    /// The rule's name.
    rule: String,
    /// The file; for the rule `function` the file, `#` and the function, for `trait` the trait.
    at: String,
    /// Why the rule does not serve there.
    reason: String,
    #[serde(skip)]
    used: bool,
}

/// The exceptions, and which of them a rule has asked for.
pub(super) struct Exceptions(Vec<Exception>);

impl Exceptions {
    #[cfg(test)]
    pub(super) fn none() -> Self {
        Self(vec![])
    }

    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file: File = toml::from_str(&text).with_context(|| path.display().to_string())?;
        Ok(Self(file.exceptions))
    }

    /// Whether `rule` may be broken at `at`.
    pub(super) fn allow(&mut self, rule: &str, at: &str) -> bool {
        let found = self.0.iter_mut().find(|exception| exception.rule == rule && exception.at == at);
        found.is_some_and(|exception| {
            exception.used = true;
            !exception.reason.trim().is_empty()
        })
    }

    /// Exceptions that nothing needs.
    pub(super) fn unused(&self) -> Vec<Finding> {
        let unused = self.0.iter().filter(|exception| !exception.used);
        unused
            .map(|exception| {
                Finding::new(
                    "xtask/tidy.toml",
                    format!("the exception from `{}` at {} is not needed: remove it", exception.rule, exception.at),
                )
            })
            .collect()
    }
}
