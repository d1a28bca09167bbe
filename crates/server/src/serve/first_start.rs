//! What `serve` prints when it is ready, and the credentials that it prints once.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

use anyhow::Context;
use ops::Ops;
use secrecy::{ExposeSecret, SecretString};

use crate::config::{Config, token_file};

/// Makes the first account if there is none, and tells the person at the terminal where to go.
pub(super) async fn greet(config: &Config, ops: &Ops) -> anyhow::Result<()> {
    let first = ops::first_run::first_run(&ops.store, super::now()).await?;
    let port = config.edge_listen.first().map_or(8081, std::net::SocketAddr::port);
    let mut text = format!(
        "\nOrrery is ready.\n  API    {0}/graphql/v2\n  Apps   http://<service>-<environment>.{1}:{port}/\n",
        config.public_url, config.base_domain
    );
    if let Some(first) = &first {
        if is_journal() {
            text.push_str("\nThis is the first start. `orrery login-link` prints a link to log in with, `orrery token create` a token.\n");
        } else {
            let login = format!("{}/login/link?token={}", config.public_url, first.login.expose_secret());
            text.push_str(&format!(
                "\nThis is the first start. The following is shown once:\n  Login  {login}\n  Token  {}\n\n  export TOKEN={}\n",
                first.token.expose_secret(),
                first.token.expose_secret(),
            ));
        }
        if let Some(path) = remember(&first.token)? {
            text.push_str(&format!("\n`orrery railway` uses the token in {}.\n", path.display()));
        }
    }
    // A closed standard output is no reason not to serve.
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{text}").and_then(|()| out.flush());
    Ok(())
}

/// Whether standard output is systemd's journal, which keeps what is printed and shows it to more people than the one who starts a program.
fn is_journal() -> bool {
    let Ok(out) = std::fs::metadata("/proc/self/fd/1") else { return false };
    std::env::var("JOURNAL_STREAM").is_ok_and(|stream| stream == format!("{}:{}", out.dev(), out.ino()))
}

/// Keeps the token where `orrery railway` of the same user finds it, unless one is there already.
fn remember(token: &SecretString) -> anyhow::Result<Option<std::path::PathBuf>> {
    let path = token_file();
    if let Some(dir) = path.parent() {
        std::fs::create_dir_all(dir).with_context(|| format!("the folder {} cannot be made", dir.display()))?;
    }
    match std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path) {
        Ok(mut file) => {
            writeln!(file, "{}", token.expose_secret())?;
            Ok(Some(path))
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(None),
        Err(error) => Err(error).with_context(|| format!("the token cannot be written to {}", path.display())),
    }
}
