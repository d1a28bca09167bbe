//! The environment of build commands: nothing of the server's own, except what tells package managers how to reach their registries.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;

mod operator;
mod sift;

pub(crate) use operator::Operator;

use crate::failure::BuildFailure;
use crate::{place, tools};
use runtime::UnixUser;

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
    pub operator: &'a Operator,
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
    let mut env = parts.operator.variables.clone();
    write_settings(parts.operator, &home, &cache("cargo"), parts.user)?;
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
    let folder = tools::rustup_home()?;
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

fn write_settings(operator: &Operator, home: &Path, cargo_home: &Path, user: Option<UnixUser>) -> Result<(), BuildFailure> {
    // This folder is kept between builds, and with it what an earlier build was given.
    for old in ["config.toml", "config", "credentials.toml", "credentials"] {
        let path = cargo_home.join(old);
        remove(&path).map_err(|error| BuildFailure::io("removing", &path, &error))?;
    }
    for (file, text) in &operator.files {
        write(&home.join(file), text, user)?;
    }
    for (file, text) in &operator.cargo_files {
        write(&cargo_home.join(file), text, user)?;
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        // A build may have put a folder there.
        Err(error) if error.kind() == io::ErrorKind::IsADirectory => fs::remove_dir_all(path),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// A file that only the build's user can read. What stood there is replaced, not written through.
fn write(to: &Path, text: &str, user: Option<UnixUser>) -> Result<(), BuildFailure> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    for folder in to.ancestors().skip(1).take_while(|folder| !folder.exists()).collect::<Vec<_>>().into_iter().rev() {
        place::make_private(folder, user)?;
    }
    let written = || {
        remove(to)?;
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(to)?;
        file.write_all(text.as_bytes())?;
        place::own_file(&file, user)
    };
    written().map_err(|error| BuildFailure::io("writing", to, &error))
}
