//! Cargo, called from a program that cargo runs.

use std::process::Command;

/// Cargo without what it told this program about itself: build scripts ask for the same variables, and would run again with everything
/// that is built on them, now and with the next call from a shell.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(env!("CARGO"));
    for (name, _) in std::env::vars_os() {
        if name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_")) {
            command.env_remove(name);
        }
    }
    command
}
