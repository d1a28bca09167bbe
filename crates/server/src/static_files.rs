//! `orrery static`: the file server of static sites.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context as _;

/// Arguments of `orrery static`.
#[derive(Debug, clap::Args)]
pub(crate) struct StaticArgs {
    /// The folder whose files are served.
    #[arg(long, value_name = "DIR")]
    root: PathBuf,
    /// The port on loopback to listen on; the edge is what others reach.
    #[arg(long, env = "PORT")]
    port: u16,
    /// Answer paths of pages that do not exist with /index.html, for apps that do their own routing.
    #[arg(long)]
    spa: bool,
}

/// Serves until SIGTERM or SIGINT.
pub(crate) fn run(args: StaticArgs) -> anyhow::Result<ExitCode> {
    let StaticArgs { root, port, spa } = args;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port))
            .await
            .with_context(|| format!("cannot listen on port {port}: stop what uses it, or choose another with --port"))?;
        let place = root.display().to_string();
        edge::files::serve(root, spa, listener).await.with_context(|| format!("cannot serve {place}: name a folder with --root"))
    })?;
    Ok(ExitCode::SUCCESS)
}
