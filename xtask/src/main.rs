//! Chores of the repository: `cargo xtask tidy | generate [--check] | railway-cli | bench`.

mod bench;
mod cargo;
mod coverage;
mod generate;
mod railway_cli;
mod tidy;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

const USAGE: &str = "usage: cargo xtask tidy            check the rules of docs/ARCHITECTURE.md and docs/SECURITY.md
       cargo xtask generate        write surface/ anew
       cargo xtask generate --check   fail if surface/ is not what the code says
       cargo xtask bench [PART …]  measure Orrery beside its peers
       cargo xtask railway-cli     build the Railway CLI that the tests drive, once, into a cache";

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let result = match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["tidy"] => tidy::run(&root()),
        ["generate"] => generate::run(&root(), false),
        ["generate", "--check"] => generate::run(&root(), true),
        ["bench", ref parts @ ..] => bench::run(&root(), parts),
        ["railway-cli"] => railway_cli::run(),
        _ => Err(anyhow::anyhow!(USAGE)),
    };
    let Err(error) = result else { return ExitCode::SUCCESS };
    // Without a standard error there is only the exit status to tell.
    let _ = writeln!(std::io::stderr(), "{error:#}");
    ExitCode::FAILURE
}

/// The folder of the workspace from which cargo was called. Not the one that was compiled: checkouts may share a target folder.
fn root() -> PathBuf {
    let package = std::env::var_os("CARGO_MANIFEST_DIR").map_or_else(|| env!("CARGO_MANIFEST_DIR").into(), PathBuf::from);
    package.parent().map_or_else(|| package.clone(), Path::to_owned)
}
