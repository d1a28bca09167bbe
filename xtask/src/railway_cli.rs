//! The real Railway CLI for the tests: built once per machine, outside the checkout.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, ensure};

use crate::cargo::cargo;

/// The release that the wire contract was recorded from (`contracts/railway-cli.md`).
const VERSION: &str = "5.71.0";

/// Builds it unless the cache has it, and prints where it is.
pub(crate) fn run() -> anyhow::Result<()> {
    let cache = match std::env::var_os("ORRERY_CACHE") {
        Some(cache) => PathBuf::from(cache),
        None => std::env::home_dir().context("there is no home directory: set ORRERY_CACHE")?.join(".cache/orrery"),
    };
    let root = cache.join("railway");
    let program = root.join("bin/railway");
    // More than a gigabyte that nobody needs again.
    let work = cache.join("railway-target");
    if !is_wanted(&program) {
        let status = cargo()
            .args(["install", "railwayapp", "--version", VERSION, "--locked", "--debug", "--force", "--root"])
            .arg(&root)
            .env("CARGO_TARGET_DIR", &work)
            .env("CARGO_PROFILE_DEV_DEBUG", "0")
            .status()?;
        ensure!(status.success(), "the Railway CLI did not build: it needs crates.io and a C compiler (Debian: build-essential)");
    }
    if work.exists() {
        std::fs::remove_dir_all(&work)?;
    }
    writeln!(std::io::stdout(), "{}", program.display())?;
    Ok(())
}

fn is_wanted(program: &PathBuf) -> bool {
    let output = Command::new(program).arg("--version").env("RAILWAY_NO_AUTO_UPDATE", "1").env("RAILWAY_NO_TELEMETRY", "1").output();
    output.is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains(VERSION))
}
