//! `orrery railway --env`: the proxy as a process of its own, and the lines that lead a shell to it.

use std::io::{BufRead as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};

use super::certificate;
use super::environment::{self, Connection};
use super::proxy::Proxy;
use super::server::Server;

/// How long the proxy waits for a connection before it ends.
const IDLE: Duration = Duration::from_secs(8 * 60 * 60);

/// Arguments of the detached proxy.
#[derive(Debug, clap::Args)]
pub(crate) struct ProxyArgs {
    #[arg(long)]
    server: Server,
    /// The folder for the authority's certificate.
    #[arg(long)]
    folder: PathBuf,
}

/// What the proxy tells the process that started it, as one line of JSON.
#[derive(Serialize, Deserialize)]
struct Ready {
    pid: u32,
    changes: Vec<(String, Option<String>)>,
}

/// Starts a proxy and prints the lines.
pub(super) fn start(server: &Server, home: &Path) -> anyhow::Result<ExitCode> {
    let token = environment::token(server, None, None)?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["railway-proxy", "--server", &server.to_string(), "--folder"])
        .arg(home)
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .env_remove("ORRERY_TOKEN")
        .spawn()
        .context("cannot start the connection end")?;
    let mut line = String::new();
    std::io::BufReader::new(child.stdout.take().context("the connection end has no output")?).read_line(&mut line)?;
    let ready: Ready =
        serde_json::from_str(&line).context("the connection end did not start: run `orrery railway -- whoami` for the reason")?;

    let mut out = std::io::stdout().lock();
    for (name, value) in &ready.changes {
        match value {
            Some(value) => writeln!(out, "export {name}={}", quoted(value))?,
            None => writeln!(out, "unset {name}")?,
        }
    }
    if let Some(token) = token {
        writeln!(out, "export RAILWAY_API_TOKEN={}", quoted(&token))?;
    }
    // HOME stays the user's in a shell. This makes the CLI keep links and login in files beside the ones for Railway itself.
    writeln!(out, "export RAILWAY_ENV=staging")?;
    writeln!(out, "export ORRERY_RAILWAY_PROXY_PID={}", ready.pid)?;
    writeln!(out, "# The connection end is process {0}. It ends after 8 hours without use, or with: kill {0}", ready.pid)?;
    Ok(ExitCode::SUCCESS)
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// Runs the proxy until it is idle for long or told to end.
pub(crate) fn run_proxy(args: &ProxyArgs) -> anyhow::Result<ExitCode> {
    // Its own session, so that closing the terminal does not end it.
    nix::unistd::setsid()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let authority = certificate::generate()?;
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let connection = Connection { port: listener.local_addr()?.port(), authority: authority.write(&args.folder)? };
        let changes = environment::connecting(&connection)
            .into_iter()
            .map(|(name, value)| {
                Ok((
                    name.to_owned(),
                    value
                        .map(|value| value.into_string())
                        .transpose()
                        .map_err(|_| anyhow::anyhow!("{} is not text", args.folder.display()))?,
                ))
            })
            .collect::<anyhow::Result<Vec<_>>>()?;
        let proxy = Proxy::new(args.server.clone(), &authority, false)?;
        writeln!(std::io::stdout(), "{}", serde_json::to_string(&Ready { pid: std::process::id(), changes })?)?;
        tokio::select! {
            end = proxy.serve(listener, Some(IDLE)) => end.map(|()| ExitCode::SUCCESS),
            _ = terminate.recv() => Ok(ExitCode::SUCCESS),
        }
    })
}
