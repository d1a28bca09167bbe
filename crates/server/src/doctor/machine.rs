//! What the kernel and the installed programs offer.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use super::Check;

/// Whether apps can be confined, and by what.
pub(super) fn protections() -> Vec<Check> {
    let root = nix::unistd::geteuid().is_root();
    let user = if root {
        Check::ok("user", "root: every service runs as an unprivileged user of its own")
    } else {
        let meaning = "apps run as you: they can read your files and each other's, and limits of memory and processors may not hold";
        Check::warn("user", "not root", meaning, "start `orrery serve` as root to run apps of people whom you do not trust")
    };
    vec![user, cgroups(root), seccomp(), landlock(), namespaces()]
}

fn cgroups(root: bool) -> Check {
    let base = Path::new("/sys/fs/cgroup");
    let unified = std::fs::read_to_string(base.join("cgroup.controllers")).unwrap_or_default();
    let has = |name: &str| unified.split_whitespace().any(|other| other == name) || base.join(name).is_dir();
    let missing: Vec<_> = ["memory", "cpu", "pids"].into_iter().filter(|name| !has(name)).collect();
    let version = if unified.is_empty() { "version 1" } else { "version 2" };
    if !missing.is_empty() {
        let meaning = "an app can use more than its limit, up to the whole machine";
        let remedy = "boot with the controllers on: systemd.unified_cgroup_hierarchy=1 cgroup_enable=memory on the kernel's command line";
        return Check::warn("cgroups", format!("{version} without {}", missing.join(", ")), meaning, remedy);
    }
    if !root {
        let meaning = "limits of memory and processors are not enforced";
        return Check::warn("cgroups", format!("{version}, not writable"), meaning, "start `orrery serve` as root");
    }
    Check::ok("cgroups", format!("{version} with memory, cpu and pids"))
}

fn seccomp() -> Check {
    let actions = std::fs::read_to_string("/proc/sys/kernel/seccomp/actions_avail").unwrap_or_default();
    if actions.contains("errno") {
        return Check::ok("seccomp", "on");
    }
    let meaning = "apps can make every system call that their user may make";
    Check::warn("seccomp", "off", meaning, "use a kernel with CONFIG_SECCOMP_FILTER; Debian's linux-image-amd64 has it")
}

fn landlock() -> Check {
    let modules = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    if modules.split(',').any(|module| module.trim() == "landlock") {
        return Check::ok("landlock", "on");
    }
    let meaning = "without root, an app's access to files is not narrowed";
    Check::warn("landlock", "off or not visible", meaning, "use a kernel with landlock in its lsm= list; Debian's linux-image-amd64 has it")
}

fn namespaces() -> Check {
    let spaces = ["mnt", "pid", "ipc", "uts"].into_iter().all(|name| Path::new("/proc/self/ns").join(name).exists());
    if spaces {
        return Check::ok("namespaces", "mount, pid, ipc, uts");
    }
    let meaning = "apps see the machine's processes and folders";
    Check::warn(
        "namespaces",
        "not all of mount, pid, ipc, uts",
        meaning,
        "use a kernel with CONFIG_NAMESPACES; Debian's linux-image-amd64 has it",
    )
}

/// The programs that builds use: program, Debian package, what it builds.
const TOOLS: [(&str, &str, &str); 7] = [
    ("node", "nodejs", "Node apps"),
    ("npm", "npm", "Node apps"),
    ("python3", "python3", "Python apps"),
    ("python3", "python3-venv", "Python apps"),
    ("cc", "build-essential", "apps with native extensions, and Rust apps"),
    ("cargo", "rustup, from https://rustup.rs", "Rust apps"),
    ("go", "golang", "Go apps"),
];

/// Whether each program of a build is there.
pub(super) fn tools() -> Vec<Check> {
    TOOLS
        .iter()
        .map(|(program, package, builds)| {
            let venv = *package == "python3-venv";
            let name = if venv { "python3 venv" } else { *program };
            match find(program).filter(|_| !venv || has_ensurepip()) {
                Some(path) => Check::ok(name, path.display().to_string()),
                None => Check::warn(name, "not found", format!("builds of {builds} fail"), format!("install {package}")),
            }
        })
        .collect()
}

/// Debian leaves this module of Python's library to a package of its own.
fn has_ensurepip() -> bool {
    let folders = ["/usr/lib", "/usr/local/lib"].into_iter().filter_map(|folder| std::fs::read_dir(folder).ok());
    folders
        .flatten()
        .flatten()
        .any(|entry| entry.file_name().to_string_lossy().starts_with("python3") && entry.path().join("ensurepip/__init__.py").exists())
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
