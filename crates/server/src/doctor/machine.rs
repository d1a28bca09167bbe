//! What the kernel and the installed programs offer.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use runtime::sandbox::Sandbox;

use super::Check;

/// Whether apps can be confined, and by what.
pub(super) fn protections() -> Vec<Check> {
    let capabilities = Sandbox::capabilities();
    let checks = capabilities.checks().into_iter().map(|check| {
        if check.ok {
            return Check::ok(check.name, check.found);
        }
        let (meaning, remedy) = check.remedy.split_once(". ").unwrap_or((check.remedy, "Use another kernel or machine."));
        Check::warn(check.name, check.found, meaning, remedy)
    });
    checks.collect()
}

/// The programs that builds use.
pub(super) fn tools() -> Vec<Check> {
    let compiler = match find("cc") {
        Some(path) => Check::ok("cc", path.display().to_string()),
        None => Check::warn("cc", "not found", "needed for Rust apps and for packages with native code", "apt-get install build-essential"),
    };
    let known = builder::tools().into_iter().map(|tool| match tool.version {
        Some(version) => Check::ok(tool.name, version),
        None => Check::warn(tool.name, "not found", format!("needed for {}", tool.needed_for), tool.install_hint),
    });
    known.chain([compiler]).collect()
}

/// The programs behind the templates, and behind workflows' nodes for films.
pub(super) fn servers() -> Vec<Check> {
    let mut checks = vec![];
    for entry in ops::template::catalogue() {
        for plan in entry.template.services.values().filter_map(|service| service.server.as_ref()) {
            let needed_for = format!("the template {}", entry.template.name);
            checks.push(server(&plan.programs, &plan.folders, &needed_for, &plan.package));
        }
    }
    for program in ["ffmpeg", "ffprobe"] {
        checks.push(server(&[program.to_owned()], &[], "workflows that cut and join films and sound", "ffmpeg"));
    }
    checks
}

/// Looks where the engine looks, which is not this user's PATH.
fn server(programs: &[String], folders: &[String], needed_for: &str, package: &str) -> Check {
    let name = programs.first().map_or("", String::as_str);
    match runtime::find_server(folders, programs, None) {
        Some(path) => Check::ok(name, path.display().to_string()),
        None => Check::warn(name, "not found", format!("needed for {needed_for}"), format!("apt-get install {package}")),
    }
}

/// Whether `orrery railway` has something to run.
pub(super) fn railway_cli() -> Check {
    let named = std::env::var_os("ORRERY_RAILWAY_BIN").map(PathBuf::from);
    let found = named.filter(|path| is_program(path)).or_else(|| find("railway"));
    match found {
        Some(path) => Check::ok("railway CLI", path.display().to_string()),
        None => Check::warn(
            "railway CLI",
            "not found",
            "`orrery railway` has nothing to run; the API works without",
            "`npm install --global @railway/cli` or `cargo install railwayapp`, or name it in ORRERY_RAILWAY_BIN",
        ),
    }
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| is_program(path))
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
