//! What `serve` prints when it is ready, and the credentials that it prints once.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use ops::first_run::FirstRun;
use secrecy::{ExposeSecret, SecretString};
use tokio::sync::watch;

use super::edge_process::State;
use crate::config::{Config, token_file};

/// An edge that neither answers nor ends is waited for so long: longer than one waits for a port.
const PATIENCE: Duration = Duration::from_secs(20);

/// Tells the person at the terminal where to go, and what the first start made, once it is known whether apps are reached: `edge` tells of
/// the edge that this process keeps, if it keeps one. That may take a while, which nobody else has to wait for.
pub(super) async fn greet(config: &Config, first: Option<&FirstRun>, edge: Option<watch::Receiver<State>>) {
    let edge = match edge {
        Some(edge) => settled(edge).await,
        None => State::Ready,
    };
    let mut text = where_to_go(config, &edge);
    if let Some(first) = first {
        text.push_str(&credentials(config, first));
    }
    // A closed standard output is no reason not to serve.
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
}

/// What has become of the edge by now, or soon.
async fn settled(mut edge: watch::Receiver<State>) -> State {
    let told = tokio::time::timeout(PATIENCE, edge.wait_for(|state| !matches!(state, State::Starting))).await;
    match told {
        Ok(Ok(state)) => state.clone(),
        Ok(Err(_)) | Err(_) => State::Starting,
    }
}

fn where_to_go(config: &Config, edge: &State) -> String {
    let port = config.edge_listen.first().map_or(8081, std::net::SocketAddr::port);
    let apps = format!("http://<service>-<environment>.{}:{port}/", config.base_domain);
    let (ready, apps) = match edge {
        State::Ready => ("Orrery is ready.", apps),
        State::Starting => ("Orrery is ready, apart from the apps.", format!("{apps} as soon as the edge answers, which it does not yet")),
        State::Failed(why) => ("Orrery is ready, but nobody reaches the apps.", format!("none: {why}")),
    };
    format!("\n{ready}\n  Web    {0}/\n  API    {0}/graphql/v2\n  Apps   {apps}\n", config.public_url)
}

/// What the first start made, and where its token is kept.
fn credentials(config: &Config, first: &FirstRun) -> String {
    let mut text = if is_journal() {
        "\nThis is the first start. `orrery login-link` prints a link to log in with, `orrery token create` a token.\n".to_owned()
    } else {
        let (login, token) = (first.login.expose_secret(), first.token.expose_secret());
        format!(
            "\nThis is the first start. The following is shown once:\n  Login  {}/login/link?token={login}\n  Token  {token}\n\n  \
             export TOKEN={token}\n",
            config.public_url
        )
    };
    let path = token_file();
    let shown = path.display();
    // The account is made by now: whatever happens to the file, its credentials are told.
    let kept = match remember(&path, &first.token) {
        Ok(true) => format!("\n`orrery railway` uses the token in {shown}.\n"),
        Ok(false) => format!(
            "\n{shown} holds another token, which stays: `orrery railway` goes on with it. If it is not of another server that you use, \
             run `orrery token create --data-dir {} > {shown}`.\n",
            config.data_dir.display()
        ),
        Err(error) => format!(
            "\nThe token could not be kept for `orrery railway`: {error:#}. `orrery token create` makes one for \
             ORRERY_TOKEN, and `orrery login-link` prints a link to log in with.\n"
        ),
    };
    text.push_str(&kept);
    text
}

/// Whether standard output is systemd's journal, which keeps what is printed and shows it to more people than the one who starts a program.
fn is_journal() -> bool {
    let Ok(out) = std::fs::metadata("/proc/self/fd/1") else { return false };
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| stream == format!("{}:{}", out.dev(), out.ino()))
}

/// Keeps the token where `orrery railway` of the same user finds it; `false` when another one is there, which may be of another server.
fn remember(path: &Path, token: &SecretString) -> anyhow::Result<bool> {
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("the folder {} cannot be made", dir.display()))?;
    }
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            writeln!(file, "{}", token.expose_secret()).with_context(|| format!("{} cannot be written", path.display()))?;
            Ok(true)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).with_context(|| format!("{} cannot be written", path.display())),
    }
}
