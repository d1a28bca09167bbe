//! The environment of the CLI, and how the programs that it starts get the user's back.
//!
//! The CLI must see another `HOME`, a proxy and one trusted authority. A program under `railway run` or `railway shell` is the user's own and
//! must see none of that, nor the token. So what was replaced travels along in one variable, and the program is started through
//! `orrery railway-child`, which puts back every value that is still ours; a variable that the service itself sets stays.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

use super::certificate::CertificateFile;
use super::server::Server;
use crate::config::{token_file, user_dir};

/// Holds the [`Replaced`] of a run.
pub(super) const REPLACED: &str = "ORRERY_RAILWAY_REPLACED";

/// Where the CLI connects to, and whom it trusts.
pub(super) struct Connection {
    pub(super) port: u16,
    pub(super) authority: CertificateFile,
}

/// What the CLI's environment has in place of the user's.
pub(super) type Changes = BTreeMap<&'static str, Option<OsString>>;

/// Per variable, our value and the user's.
#[derive(Debug, Serialize, Deserialize)]
struct Replaced(BTreeMap<String, (Option<OsString>, Option<OsString>)>);

/// The home directory that the CLI sees for `server`; only its owner can read it, because the CLI keeps its login there.
pub(super) fn private_home(server: &Server) -> anyhow::Result<PathBuf> {
    let home = user_dir("XDG_DATA_HOME", ".local/share").join("railway").join(server.folder());
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&home).with_context(|| format!("cannot create {}", home.display()))?;
    Ok(home)
}

/// The variables that lead the CLI, or any client that honours them, to `connection`.
pub(super) fn connecting(connection: &Connection) -> Changes {
    let proxy = OsString::from(format!("http://127.0.0.1:{}", connection.port));
    let direct = OsString::from("127.0.0.1,localhost");
    let mut changes = Changes::new();
    for name in ["HTTPS_PROXY", "https_proxy"] {
        changes.insert(name, Some(proxy.clone()));
    }
    for name in ["NO_PROXY", "no_proxy"] {
        changes.insert(name, Some(direct.clone()));
    }
    changes.insert("SSL_CERT_FILE", Some(connection.authority.path().into()));
    // Another authority or proxy would be preferred to ours.
    for name in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "SSL_CERT_DIR"] {
        changes.insert(name, None);
    }
    for name in ["RAILWAY_NO_TELEMETRY", "DO_NOT_TRACK", "RAILWAY_NO_AUTO_UPDATE"] {
        changes.insert(name, Some("1".into()));
    }
    changes
}

/// The variable that a child needs to undo `changes`.
pub(super) fn record(changes: &Changes) -> anyhow::Result<String> {
    let replaced = changes.iter().map(|(name, ours)| ((*name).to_owned(), (ours.clone(), std::env::var_os(name)))).collect();
    Ok(serde_json::to_string(&Replaced(replaced))?)
}

/// The changes that lead from this process's environment back to the user's; nothing when there is no record.
pub(super) fn restoring() -> anyhow::Result<BTreeMap<String, Option<OsString>>> {
    let Some(record) = std::env::var_os(REPLACED) else { return Ok(BTreeMap::new()) };
    let record = record.to_str().context("the record of the environment is not text")?;
    let Replaced(replaced) = serde_json::from_str(record).with_context(|| format!("{REPLACED} is not ours: unset it"))?;
    let still_ours = replaced.into_iter().filter(|(name, (ours, _))| std::env::var_os(name) == *ours);
    Ok(still_ours.map(|(name, (_, before))| (name, before)).chain([(REPLACED.to_owned(), None)]).collect())
}

/// The token that the CLI gets, unless it has one or is about to get one.
pub(super) fn token(server: &Server, home: Option<&Path>, command: Option<&OsStr>) -> anyhow::Result<Option<String>> {
    let set = |name| std::env::var_os(name).is_some();
    let logging_in = command.is_some_and(|command| command == "login" || command == "logout");
    if set("RAILWAY_TOKEN") || set("RAILWAY_API_TOKEN") || logging_in || home.and_then(login).is_some() {
        return Ok(None);
    }
    if let Ok(token) = std::env::var("ORRERY_TOKEN") {
        return Ok(Some(token));
    }
    if let Some(path) = std::env::var_os("ORRERY_TOKEN_FILE") {
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read ORRERY_TOKEN_FILE {}", path.display()))?;
        return Ok(Some(text.trim().to_owned()));
    }
    if !server.is_local() {
        // The default file belongs to the server on this machine; no other may see it.
        return Ok(None);
    }
    match std::fs::read_to_string(token_file()) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", token_file().display())),
    }
}

/// The login that the CLI holds in one of its files, one per `RAILWAY_ENV` (contracts/railway.md 1.1).
pub(super) fn login(home: &Path) -> Option<String> {
    ["config.json", "config-staging.json", "config-dev.json"].iter().find_map(|name| {
        let text = std::fs::read_to_string(home.join(".railway").join(name)).ok()?;
        let config: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
        ["accessToken", "token"].iter().find_map(|key| Some(config["user"][key].as_str()?.to_owned()))
    })
}
