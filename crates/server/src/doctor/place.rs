//! The files of Orrery itself: who can read them, and how much room they have.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use super::Check;
use crate::config::{Effective, Source};

/// Below this much room builds will fail.
const LITTLE: u64 = 1_000_000_000;
/// Below this much room it is time to act.
const SCARCE: u64 = 5_000_000_000;

/// The data directory, the master key, and the configuration file if it holds a password.
pub(super) fn files(effective: &Effective) -> Vec<Check> {
    let config = &effective.config;
    let mut checks = vec![data_dir(&config.data_dir)];
    if config.secrets.master_key.is_some() {
        checks.push(Check::ok("master key", "from ORRERY_MASTER_KEY"));
    } else {
        checks.push(master_key(&config.master_key_file, &config.data_dir.join("orrery.db")));
    }
    if let Source::File(path) = effective.source("database")
        && config.database.has_password()
        && let Ok(metadata) = path.metadata()
        && metadata.mode() & 0o077 != 0
    {
        let found = format!("{} has mode {:o} and holds the database's password", path.display(), metadata.mode() & 0o777);
        checks.push(Check::warn("configuration", found, "others on this machine can read it", format!("chmod 600 {}", path.display())));
    }
    checks
}

fn data_dir(path: &Path) -> Check {
    let name = "data directory";
    let Ok(metadata) = path.metadata() else {
        let Some(parent) = path.ancestors().skip(1).find(|parent| parent.exists()) else {
            return Check::fail(name, path.display().to_string(), "no folder above it exists", "choose another with --data-dir");
        };
        return if writable(parent) {
            Check::ok(name, format!("{} will be created", path.display()))
        } else {
            let meaning = format!("{} is not writable for you", parent.display());
            Check::fail(name, path.display().to_string(), meaning, "create it for this user, or choose another with --data-dir")
        };
    };
    if !metadata.is_dir() || !writable(path) {
        let meaning = "it is not a folder that this user can write to";
        return Check::fail(name, path.display().to_string(), meaning, "change its owner with chown, or choose another with --data-dir");
    }
    if metadata.mode() & 0o022 != 0 {
        let found = format!("{} has mode {:o}", path.display(), metadata.mode() & 0o777);
        return Check::fail(name, found, "others on this machine can replace its files", format!("chmod go-w {}", path.display()));
    }
    if nix::unistd::geteuid().is_root()
        && let Some(shut) = path.ancestors().find(|path| path.metadata().is_ok_and(|metadata| metadata.mode() & 0o001 == 0))
    {
        let found = format!("{} is closed to other users", shut.display());
        let remedy = format!("chmod o+x {}, or choose another with --data-dir", shut.display());
        return Check::warn(name, found, "services run as users of their own and may not reach their files", remedy);
    }
    Check::ok(name, path.display().to_string())
}

fn writable(path: &Path) -> bool {
    nix::unistd::access(path, nix::unistd::AccessFlags::W_OK | nix::unistd::AccessFlags::X_OK).is_ok()
}

fn master_key(path: &Path, database: &Path) -> Check {
    let name = "master key";
    match path.metadata() {
        Ok(metadata) if metadata.mode() & 0o077 != 0 => {
            let found = format!("{} has mode {:o}", path.display(), metadata.mode() & 0o777);
            Check::fail(name, found, "others on this machine can read every secret", format!("chmod 600 {}", path.display()))
        }
        Ok(_) => Check::ok(name, path.display().to_string()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !database.exists() => {
            Check::ok(name, format!("{} will be created", path.display()))
        }
        Err(error) => {
            let meaning = "the secrets in the database cannot be read without it";
            Check::fail(
                name,
                format!("{}: {error}", path.display()),
                meaning,
                "put the file back from your backup, or set ORRERY_MASTER_KEY",
            )
        }
    }
}

/// Whether there is room for builds and logs.
pub(super) fn disk(data_dir: &Path) -> Check {
    let name = "disk space";
    let existing = data_dir.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"));
    let free = match nix::sys::statvfs::statvfs(existing) {
        Ok(numbers) => numbers.blocks_available().saturating_mul(numbers.fragment_size()),
        Err(error) => return Check::warn(name, error.to_string(), "cannot be told", "look with `df`"),
    };
    let found = format!("{:.1} GB free at {}", free as f64 / 1e9, existing.display());
    let remedy = "make room, or choose another disk with --data-dir";
    if free < LITTLE {
        Check::fail(name, found, "builds and logs will soon fail", remedy)
    } else if free < SCARCE {
        Check::warn(name, found, "a few larger builds fill it", remedy)
    } else {
        Check::ok(name, found)
    }
}
