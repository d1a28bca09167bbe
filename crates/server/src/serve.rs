//! The long-running processes.

use std::path::Path;
use std::process::ExitCode;

use crate::cli::EdgeArgs;
use crate::config::Config;

/// Runs the API and the engine until a signal ends them.
pub(crate) fn serve(_config: Config) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`serve` is not wired yet")
}

/// Runs the reverse proxy until a signal ends it.
pub(crate) fn edge(_args: EdgeArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`edge` is not wired yet")
}

/// Keeps the replica of `dir` alive.
pub(crate) fn shim(_dir: &Path) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`shim` is not wired yet")
}

/// Enters the sandbox that standard input describes.
pub(crate) fn sandbox_exec() -> anyhow::Result<ExitCode> {
    anyhow::bail!("`sandbox-exec` is not wired yet")
}
