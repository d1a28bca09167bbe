//! The file server of static sites.

use std::path::PathBuf;
use std::process::ExitCode;

/// Arguments of `orrery static`.
#[derive(Debug, clap::Args)]
pub(crate) struct StaticArgs {
    /// The folder whose files are served.
    #[arg(long)]
    pub(crate) root: PathBuf,
    /// The port to listen on.
    #[arg(long, env = "PORT")]
    pub(crate) port: u16,
    /// Answer unknown paths with /index.html, for single-page apps.
    #[arg(long)]
    pub(crate) spa: bool,
}

/// Serves until a signal ends it.
pub(crate) fn run(_args: &StaticArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`static` is not wired yet")
}
