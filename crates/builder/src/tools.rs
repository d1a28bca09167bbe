//! Programs that builds need: where they are, whether the build's user can run them, and how to get those that are missing.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use crate::detect::Tool;
use crate::failure::BuildFailure;
use crate::place;
use runtime::UnixUser;

/// One program that builds may need, for `orrery doctor`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToolStatus {
    /// The program's name.
    pub name: &'static str,
    /// What it says of itself; `None` when it is missing or does not run.
    pub version: Option<String>,
    /// The apps that need it.
    pub needed_for: &'static str,
    /// How to get it.
    pub install_hint: &'static str,
}

struct Known {
    name: &'static str,
    probe: &'static [&'static str],
    needed_for: &'static str,
    hint: &'static str,
}

const KNOWN: [Known; 11] = [
    Known { name: "node", probe: &["--version"], needed_for: "Node apps", hint: "apt-get install nodejs" },
    Known { name: "npm", probe: &["--version"], needed_for: "Node apps", hint: "apt-get install npm" },
    Known {
        name: "pnpm",
        probe: &["--version"],
        needed_for: "Node apps with pnpm-lock.yaml; without it npm installs one for each build",
        hint: "npm install -g pnpm",
    },
    Known {
        name: "yarn",
        probe: &["--version"],
        needed_for: "Node apps with yarn.lock; without it npm installs one for each build",
        hint: "npm install -g yarn",
    },
    Known { name: "python3", probe: &["--version"], needed_for: "Python apps", hint: "apt-get install python3" },
    Known {
        name: "python3 venv module",
        probe: &["-c", "import venv, ensurepip, sys; print(sys.version.split()[0])"],
        needed_for: "Python apps",
        hint: "apt-get install python3-venv",
    },
    Known {
        name: "uv",
        probe: &["--version"],
        needed_for: "Python apps with uv.lock; without it pip installs one for each build",
        hint: "pip install uv",
    },
    Known {
        name: "poetry",
        probe: &["--version"],
        needed_for: "Python apps with poetry.lock; without it pip installs one for each build",
        hint: "pip install poetry",
    },
    Known { name: "cargo", probe: &["--version"], needed_for: "Rust apps", hint: "apt-get install cargo" },
    Known { name: "go", probe: &["version"], needed_for: "Go apps", hint: "apt-get install golang-go" },
    Known { name: "git", probe: &["--version"], needed_for: "dependencies that are Git repositories", hint: "apt-get install git" },
];

/// What of the programs for builds this machine has. Starts each of them once.
#[must_use]
pub fn tools() -> Vec<ToolStatus> {
    let status = |known: &Known| {
        let program = known.name.split(' ').next().unwrap_or(known.name);
        ToolStatus {
            name: known.name,
            version: find(program, None).ok().and_then(|path| version(&path, known.probe)),
            needed_for: known.needed_for,
            install_hint: known.hint,
        }
    };
    KNOWN.iter().map(status).collect()
}

fn version(program: &Path, args: &[&str]) -> Option<String> {
    let output =
        std::process::Command::new(program).args(args).current_dir("/").stdin(Stdio::null()).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let words = text.lines().next().unwrap_or_default().split_whitespace();
    let number =
        words.map(|word| word.trim_start_matches("go")).find(|word| word.trim_start_matches('v').starts_with(|c: char| c.is_ascii_digit()));
    number.filter(|_| output.status.success()).map(|word| word.trim_start_matches('v').trim_end_matches([')', ',']).to_owned())
}

/// The program's name on PATH.
pub(crate) fn name(tool: Tool) -> &'static str {
    match tool {
        Tool::Npm => "npm",
        Tool::Pnpm => "pnpm",
        Tool::Yarn => "yarn",
        Tool::Python => "python3",
        Tool::Uv => "uv",
        Tool::Poetry => "poetry",
        Tool::Cargo => "cargo",
        Tool::Go => "go",
    }
}

/// The tools that `user` can run here.
pub(crate) fn available(user: Option<UnixUser>) -> BTreeSet<Tool> {
    let all = [Tool::Npm, Tool::Pnpm, Tool::Yarn, Tool::Python, Tool::Uv, Tool::Poetry, Tool::Cargo, Tool::Go];
    all.into_iter().filter(|tool| find(name(*tool), user).is_ok()).collect()
}

/// Folders that no sandbox of a service's own user shows: people's homes and other disks.
const VEILED: [&str; 6] = ["/root", "/home", "/run", "/boot", "/media", "/mnt"];

/// Whether commands of `user` see this path.
pub(crate) fn visible(path: &Path, user: Option<UnixUser>) -> bool {
    let veiled = nix::unistd::geteuid().is_root() && VEILED.iter().any(|folder| path.starts_with(folder));
    !veiled && place::reachable(path, user)
}

/// The folders of the server's PATH that `user` can enter.
pub(crate) fn path_folders(user: Option<UnixUser>) -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/usr/bin:/bin".into());
    let enterable = |folder: &PathBuf| {
        folder.is_absolute()
            && visible(folder, user)
            && fs::metadata(folder).is_ok_and(|meta| meta.is_dir() && place::permits(&meta, user, 0o1))
    };
    let mut folders: Vec<PathBuf> = vec![];
    for folder in std::env::split_paths(&path).filter(enterable) {
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

fn on_path(name: &str, user: Option<UnixUser>) -> Option<PathBuf> {
    path_folders(user).into_iter().map(|folder| folder.join(name)).find(|path| runnable(path, user))
}

const CARGO: &str = "cargo";

/// Where rustup keeps the toolchains of the server's user, also when a service manager has not told the server where that user's home is.
pub(crate) fn rustup_home() -> Option<PathBuf> {
    let own = || Some(std::env::home_dir()?.join(".rustup"));
    std::env::var_os("RUSTUP_HOME").map(PathBuf::from).or_else(own)
}

/// The Rust that rustup has installed for the server's user alone: its default toolchain, where no `cargo` on PATH can be run. Sandboxes
/// show this folder and nothing around it, so that credentials in root's home stay out of sight.
pub(crate) fn toolchain(user: Option<UnixUser>) -> Option<PathBuf> {
    if on_path(CARGO, user).is_some() {
        return None;
    }
    default_toolchain(&rustup_home()?, user)
}

fn default_toolchain(home: &Path, user: Option<UnixUser>) -> Option<PathBuf> {
    let settings: toml::Table = toml::from_str(&fs::read_to_string(home.join("settings.toml")).ok()?).ok()?;
    let text = |key: &str| settings.get(key).and_then(toml::Value::as_str);
    let name = text("default_toolchain")?;
    // Older settings name the channel alone.
    let full = text("default_host_triple").map(|host| format!("{name}-{host}"));
    let folder =
        [Some(name), full.as_deref()].into_iter().flatten().find_map(|name| fs::canonicalize(home.join("toolchains").join(name)).ok())?;
    let usable = |path: PathBuf| fs::metadata(path).is_ok_and(|meta| place::permits(&meta, user, 0o1));
    (usable(folder.clone()) && usable(folder.join("bin/cargo")) && usable(folder.join("bin/rustc"))).then_some(folder)
}

/// The first program of this name on PATH that `user` can run; for `cargo`, the one of [`toolchain`] after those.
///
/// # Errors
/// `Machine` that says how to install it, or that the one there is out of the user's reach.
pub(crate) fn find(name: &str, user: Option<UnixUser>) -> Result<PathBuf, BuildFailure> {
    on_path(name, user).or_else(|| toolchain(user).filter(|_| name == CARGO).map(|folder| folder.join("bin").join(name))).ok_or_else(|| {
        let hint = KNOWN.iter().find(|known| known.name == name).map_or("install it", |known| known.hint);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let elsewhere = std::env::split_paths(&path).map(|folder| folder.join(name)).find(|path| path.is_file());
        BuildFailure::Machine(match elsewhere {
            Some(path) => format!(
                "this project needs `{name}`, and the one at {} cannot be run by the user that runs builds: install it for all users ({hint})",
                path.display()
            ),
            None => format!("this project needs `{name}`, which is not on this machine: {hint}"),
        })
    })
}

fn runnable(path: &Path, user: Option<UnixUser>) -> bool {
    // The link's target counts, and every folder on the way to it.
    let Ok(real) = fs::canonicalize(path) else { return false };
    let Ok(meta) = fs::metadata(&real) else { return false };
    meta.is_file() && meta.permissions().mode() & 0o111 != 0 && place::permits(&meta, user, 0o1) && visible(&real, user)
}

/// A PATH out of folders, for an environment.
pub(crate) fn join_path(folders: impl IntoIterator<Item = PathBuf>) -> String {
    // A folder with a colon in its name cannot be on any PATH.
    let usable = folders.into_iter().filter(|folder| !folder.as_os_str().as_encoded_bytes().contains(&b':'));
    std::env::join_paths(usable).unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rustups_default_toolchain_is_found_by_either_of_its_names() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("toolchains/stable-x86_64-unknown-linux-gnu");
        let settings = |name: &str| {
            let text = format!("version = \"12\"\ndefault_toolchain = \"{name}\"\ndefault_host_triple = \"x86_64-unknown-linux-gnu\"\n");
            fs::write(home.path().join("settings.toml"), text).unwrap();
        };
        fs::create_dir_all(folder.join("bin")).unwrap();
        assert_eq!(default_toolchain(home.path(), None), None, "there are no settings");
        settings("stable");
        assert_eq!(default_toolchain(home.path(), None), None, "there is no cargo");
        for program in ["cargo", "rustc"] {
            fs::write(folder.join("bin").join(program), "").unwrap();
            fs::set_permissions(folder.join("bin").join(program), fs::Permissions::from_mode(0o755)).unwrap();
        }
        let found = fs::canonicalize(&folder).ok();
        assert_eq!(default_toolchain(home.path(), None), found);
        settings("stable-x86_64-unknown-linux-gnu");
        assert_eq!(default_toolchain(home.path(), None), found);
        settings("nightly");
        assert_eq!(default_toolchain(home.path(), None), None, "it is not installed");
    }
}
