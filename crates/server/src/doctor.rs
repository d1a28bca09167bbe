//! What this machine lacks.

use std::process::ExitCode;

use crate::config::Config;

/// Prints the checks.
pub(crate) fn run(_config: &Config, _json: bool) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`doctor` is not wired yet")
}
