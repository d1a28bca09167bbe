//! The environment of build commands: nothing of the server's own, except what tells package managers how to reach their registries.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::BuildFailure;
use crate::{place, tools};
use runtime::UnixUser;

/// Variables of the server that builds see, by the beginning of their name, compared without case: mirrors, proxies, certificates.
const PASSED: [&str; 22] = [
    "PIP_",
    "NPM_CONFIG_",
    "YARN_NPM_",
    "YARN_HTTP",
    "UV_",
    "POETRY_HTTP_",
    "POETRY_REPOSITORIES_",
    "CARGO_REGISTR",
    "CARGO_SOURCE_",
    "CARGO_HTTP_",
    "CARGO_NET_",
    "GOPROXY",
    "GOSUMDB",
    "GONOSUMDB",
    "GOPRIVATE",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "ALL_PROXY",
    "NO_PROXY",
    "SSL_CERT_",
    "NODE_EXTRA_CA_CERTS",
    "REQUESTS_CA_BUNDLE",
];
/// More of the kind, by their whole name.
const PASSED_EXACTLY: [&str; 5] = ["CURL_CA_BUNDLE", "GIT_SSL_CAINFO", "LANG", "LC_ALL", "TZ"];
/// Of those, the ones that would move files to places of the server's user.
const NOT_PASSED: [&str; 17] = [
    "PIP_CACHE_DIR",
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_USER",
    "PIP_REQUIRE_VIRTUALENV",
    "PIP_LOG",
    "NPM_CONFIG_CACHE",
    "NPM_CONFIG_PREFIX",
    "NPM_CONFIG_LOCAL_PREFIX",
    "NPM_CONFIG_GLOBAL_PREFIX",
    "NPM_CONFIG_GLOBALCONFIG",
    "NPM_CONFIG_INIT_MODULE",
    "UV_CACHE_DIR",
    "UV_PROJECT_ENVIRONMENT",
    "UV_PYTHON_INSTALL_DIR",
    "UV_TOOL_DIR",
];
/// Variables that name a file of settings, and where its copy belongs in the build's home.
const POINTERS: [(&str, &str); 3] =
    [("NPM_CONFIG_USERCONFIG", ".npmrc"), ("PIP_CONFIG_FILE", ".config/pip/pip.conf"), ("UV_CONFIG_FILE", ".config/uv/uv.toml")];
/// Settings in the server's home that the build gets a copy of, because its user cannot read that home.
const COPIED: [&str; 8] = [
    ".npmrc",
    ".yarnrc",
    ".yarnrc.yml",
    ".config/pip/pip.conf",
    ".pip/pip.conf",
    ".config/uv/uv.toml",
    ".config/pypoetry/config.toml",
    ".config/go/env",
];

/// Variables that tell package managers where their cache is, and its folder.
const CACHES: [(&str, &str); 9] = [
    ("npm_config_cache", "npm"),
    ("PNPM_HOME", "pnpm"),
    ("YARN_CACHE_FOLDER", "yarn"),
    ("PIP_CACHE_DIR", "pip"),
    ("UV_CACHE_DIR", "uv"),
    ("POETRY_CACHE_DIR", "poetry"),
    ("CARGO_HOME", "cargo"),
    ("GOCACHE", "go-build"),
    ("GOMODCACHE", "go-mod"),
];

/// What the environment is made of.
pub(crate) struct Parts<'a> {
    pub cache: &'a Path,
    pub scratch: &'a Path,
    pub user: Option<UnixUser>,
    /// The rendered variables of the service.
    pub variables: &'a BTreeMap<String, String>,
}

/// The variables of every build command. Makes the build's home in `scratch` and copies the operator's settings into it.
pub(crate) fn for_build(parts: &Parts<'_>) -> Result<BTreeMap<String, String>, BuildFailure> {
    let home = parts.scratch.join("home");
    let temporary = parts.scratch.join("tmp");
    let cache = |folder: &str| parts.cache.join(folder);
    // The folder of the caches itself is not the user's: what we write below it cannot be led elsewhere by a link.
    place::make_passage(parts.cache)?;
    for folder in [home.clone(), temporary.clone()].into_iter().chain(CACHES.map(|(_, folder)| cache(folder))) {
        place::make_private(&folder, parts.user)?;
    }
    let cargo_home = cache("cargo");
    let mut env: BTreeMap<String, String> = std::env::vars_os()
        .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
        .filter(|(name, _)| passes(name))
        .collect();
    copy_settings(&home, &cargo_home, parts.user)?;
    env.extend([("LANG", "C.UTF-8"), ("npm_config_fund", "false"), ("npm_config_audit", "false")].map(|(k, v)| (k.into(), v.into())));
    env.extend(
        [("npm_config_update_notifier", "false"), ("PIP_DISABLE_PIP_VERSION_CHECK", "1"), ("PIP_PROGRESS_BAR", "off")]
            .map(|(k, v)| (k.into(), v.into())),
    );
    env.extend(rustup(parts.user).map(|folder| ("RUSTUP_HOME".to_owned(), folder)));
    env.extend(parts.variables.clone());
    env.extend(CACHES.map(|(name, folder)| (name.to_owned(), cache(folder).to_string_lossy().into_owned())));
    let folders = [("HOME", &home), ("TMPDIR", &temporary)];
    env.extend(folders.map(|(name, folder)| (name.to_owned(), folder.to_string_lossy().into_owned())));
    Ok(env)
}

/// Where the toolchains are that the `cargo` of rustup starts: beside the server's own home, when the build's user can go there.
fn rustup(user: Option<UnixUser>) -> Option<String> {
    let own = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".rustup"));
    let folder = std::env::var_os("RUSTUP_HOME").map(PathBuf::from).or_else(own)?;
    let usable = folder.is_dir() && tools::visible(&folder.join("toolchains"), user);
    usable.then(|| folder.to_string_lossy().into_owned())
}

/// PATH and, for Python, the active environment: the same while building and while running.
pub(crate) fn for_both(artifact: &Path, path: &[String], venv: bool, user: Option<UnixUser>) -> BTreeMap<String, String> {
    let own = path.iter().map(|folder| artifact.join(folder));
    let mut env = BTreeMap::from([("PATH".to_owned(), tools::join_path(own.chain(tools::path_folders(user))))]);
    if venv {
        env.insert("VIRTUAL_ENV".into(), artifact.join(".venv").to_string_lossy().into_owned());
    }
    env
}

/// The variables of a pre-deploy command: those of the deployment, with a home and a PATH.
pub(crate) fn for_command(scratch: &Path, user: Option<UnixUser>, env: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut all = for_both(Path::new("/"), &[], false, user);
    all.extend(env.clone());
    let scratch = scratch.to_string_lossy().into_owned();
    all.extend([("HOME".to_owned(), scratch.clone()), ("TMPDIR".to_owned(), scratch)]);
    all
}

fn passes(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    let listed = PASSED.iter().any(|prefix| upper.starts_with(prefix)) || PASSED_EXACTLY.contains(&upper.as_str());
    listed && !NOT_PASSED.contains(&upper.as_str()) && !POINTERS.iter().any(|(pointer, _)| *pointer == upper)
}

fn copy_settings(home: &Path, cargo_home: &Path, user: Option<UnixUser>) -> Result<(), BuildFailure> {
    let own_home = std::env::var_os("HOME").map(PathBuf::from);
    let mut copies: Vec<(PathBuf, PathBuf)> = vec![];
    if let Some(own_home) = &own_home {
        copies.extend(COPIED.iter().map(|file| (own_home.join(file), home.join(file))));
        let own_cargo = std::env::var_os("CARGO_HOME").map_or_else(|| own_home.join(".cargo"), PathBuf::from);
        copies.extend(["config.toml", "config", "credentials.toml"].map(|file| (own_cargo.join(file), cargo_home.join(file))));
    }
    for (variable, file) in POINTERS {
        let value = std::env::vars_os().find(|(name, _)| name.to_string_lossy().eq_ignore_ascii_case(variable));
        copies.extend(value.map(|(_, value)| (PathBuf::from(value), home.join(file))));
    }
    for (from, to) in copies.iter().filter(|(from, _)| from.is_file()) {
        copy(from, to, user)?;
    }
    Ok(())
}

/// A copy that only the build's user can read. What stood there is replaced, not written through.
fn copy(from: &Path, to: &Path, user: Option<UnixUser>) -> Result<(), BuildFailure> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    let bytes = fs::read(from).map_err(|error| BuildFailure::io("reading the settings in", from, &error))?;
    for folder in to.ancestors().skip(1).take_while(|folder| !folder.exists()).collect::<Vec<_>>().into_iter().rev() {
        place::make_private(folder, user)?;
    }
    let written = || {
        match fs::remove_file(to) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
        file.write_all(&bytes)?;
        place::own_file(&file, user)
    };
    written().map_err(|error| BuildFailure::io("writing", to, &error))
}
