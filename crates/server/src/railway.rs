//! `orrery railway`.

use std::ffi::OsString;
use std::process::ExitCode;

/// Arguments of `orrery railway`.
#[derive(Debug, clap::Args)]
pub(crate) struct RailwayArgs {
    /// The server to talk to.
    #[arg(long, env = "ORRERY_URL", default_value = "http://localhost:8080", value_name = "URL")]
    server: String,
    /// Print `export` lines for a shell instead of running the CLI: eval "$(orrery railway --env)".
    #[arg(long, conflicts_with = "args")]
    env: bool,
    /// What the Railway CLI gets, after `--`.
    #[arg(last = true)]
    args: Vec<OsString>,
}

/// Arguments of the detached proxy.
#[derive(Debug, clap::Args)]
pub(crate) struct ProxyArgs {
    /// The server to talk to.
    #[arg(long)]
    server: String,
}

pub(crate) fn run(_args: RailwayArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`railway` is not wired yet")
}
pub(crate) fn run_child(_command: &[OsString]) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`railway` is not wired yet")
}
pub(crate) fn run_proxy(_args: &ProxyArgs) -> anyhow::Result<ExitCode> {
    anyhow::bail!("`railway` is not wired yet")
}
pub(crate) fn run_as_shell() -> Option<ExitCode> {
    None
}
