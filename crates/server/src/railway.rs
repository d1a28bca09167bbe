//! `orrery railway`: the user's own, unmodified Railway CLI against an Orrery server.
//!
//! A release build of that CLI has no setting for its server, but it honours `HTTPS_PROXY` and `SSL_CERT_FILE`. So a proxy on loopback takes
//! its connections, ends their TLS with a certificate of an authority that exists only while the command runs, and passes the requests on.
//! Nothing on the machine changes and no privilege is needed. Facts about the CLI: `contracts/railway-cli.md` 3 and 4.
//!
//! The CLI keeps its login and its links of folders to projects in `$HOME/.railway`. It gets a home of its own per server
//! (`~/.local/share/orrery/railway/SERVER`), so that a login at Railway stays as it is. What `railway run` and `railway shell` start is the
//! user's own program and gets the user's own environment back: see [`environment`].

mod background;
mod certificate;
mod child;
mod database;
mod environment;
mod proxy;
mod server;
mod ssh;

use std::ffi::OsString;
use std::process::ExitCode;

use tokio::net::TcpListener;

pub(crate) use background::{ProxyArgs, run_proxy};
pub(crate) use child::{run_as_shell, run_child};
pub(crate) use database::run_as_client;
pub(crate) use ssh::run_as_ssh;

use environment::Connection;
use proxy::Proxy;
use server::Server;

/// Arguments of `orrery railway`.
#[derive(Debug, clap::Args)]
pub(crate) struct RailwayArgs {
    /// The server to talk to.
    #[arg(long, env = "ORRERY_URL", default_value = "http://localhost:8080", value_name = "URL")]
    server: Server,
    /// Print `export` lines for a shell instead of running the CLI: eval "$(orrery railway --env)".
    ///
    /// Starts a process in the background that holds the connection; it ends after 8 hours without use, and its id is exported as
    /// ORRERY_RAILWAY_PROXY_PID. Every program of that shell gets the variables, and can reach nothing but the server by HTTPS.
    #[arg(long, conflicts_with = "args")]
    env: bool,
    /// What the Railway CLI gets, after `--`.
    ///
    /// The CLI is the `railway` on PATH, or the one that ORRERY_RAILWAY_BIN names. It logs in with RAILWAY_TOKEN, RAILWAY_API_TOKEN, its own
    /// login at this server, ORRERY_TOKEN, or the token in the file ORRERY_TOKEN_FILE; the first that exists. For a server on this machine
    /// that file defaults to ~/.config/orrery/token.
    #[arg(last = true)]
    args: Vec<OsString>,
}

/// Runs the CLI, or prints what a shell needs to run it.
pub(crate) fn run(args: RailwayArgs) -> anyhow::Result<ExitCode> {
    args.server.warn_when_exposed();
    let home = environment::private_home(&args.server)?;
    if args.env {
        return background::start(&args.server, &home);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let authority = certificate::generate()?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let connection = Connection { port: listener.local_addr()?.port(), authority: authority.write(&home)? };
        let proxy = Proxy::new(args.server.clone(), &authority, child::is_connect(&args.args))?;
        let command = child::command(&args.server, &home, &connection, &args.args)?;
        tokio::select! {
            status = child::run(command) => status,
            end = proxy.serve(listener, None) => end.map(|()| ExitCode::FAILURE),
        }
    })
}
