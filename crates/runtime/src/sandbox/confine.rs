//! Landlock: what a process without root can do to shut itself in.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetError, RulesetStatus, Scope,
};

use super::Sandbox;
use super::enter::Failure;

/// The newest set of rights that is asked for; older kernels enforce the part that they know.
const VERSION: ABI = ABI::V6;

/// Closes the machine's abstract sockets, which no namespace but the network's covers. An older kernel does not know how.
pub(super) fn scope() {
    let restrict = || -> Result<(), RulesetError> {
        Ruleset::default().scope(Scope::AbstractUnixSocket)?.create()?.restrict_self()?;
        Ok(())
    };
    // Best effort by nature: a layer on top of those that must hold.
    let _ = restrict();
}

/// Everything can be read but what is hidden; nothing can be written but the own folders and devices. Tracing stays inside, and
/// from kernel 6.12 on signals and abstract sockets do too. A kernel without Landlock leaves the file permissions alone to protect. `doctor`
/// tells of either.
pub(super) fn files(sandbox: &Sandbox) -> Result<(), Failure> {
    let restrict = || -> Result<(), RulesetError> {
        let ruleset = Ruleset::default().handle_access(AccessFs::from_all(VERSION))?.scope(Scope::AbstractUnixSocket | Scope::Signal)?;
        let mut rules = ruleset.create()?;
        let hidden: Vec<PathBuf> = sandbox.hidden.iter().map(|path| std::fs::canonicalize(path).unwrap_or_else(|_| path.clone())).collect();
        rules = open(rules, Path::new("/"), &hidden, AccessFs::from_read(VERSION))?;
        let tmp = sandbox.overlay.as_ref().map(|overlay| overlay.join("tmp"));
        for path in [&sandbox.root].into_iter().chain(&sandbox.writable).chain(sandbox.binds.iter().map(|bind| &bind.source)).chain(&tmp) {
            rules = allow(rules, path, AccessFs::from_all(VERSION))?;
        }
        for path in ["/tmp", "/var/tmp", "/dev/shm"].map(Path::new) {
            rules = open(rules, path, &hidden, AccessFs::from_all(VERSION))?;
        }
        // Terminals and null; what matters under /dev is closed by its permissions.
        rules = allow(rules, Path::new("/dev"), AccessFs::from_file(VERSION) | AccessFs::ReadDir)?;
        rules = allow(rules, Path::new("/proc/self"), AccessFs::from_file(VERSION) | AccessFs::ReadDir)?;
        rules.restrict_self()?;
        Ok(())
    };
    restrict().map_err(|error| Failure(format!("confining files: {error}")))
}

/// Allows `path` without the hidden folders inside. Rules only ever add, so a folder that holds a hidden one is replaced by its other
/// entries as they are now.
fn open(rules: RulesetCreated, path: &Path, hidden: &[PathBuf], rights: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    if hidden.iter().any(|hidden| path.starts_with(hidden)) {
        return Ok(rules);
    }
    if !hidden.iter().any(|hidden| hidden.starts_with(path)) {
        return allow(rules, path, rights);
    }
    let Ok(entries) = std::fs::read_dir(path) else { return Ok(rules) };
    // Links are judged where they lead to.
    let entries = entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| !kind.is_symlink()));
    entries.map(|entry| entry.path()).try_fold(rules, |rules, entry| open(rules, &entry, hidden, rights))
}

fn allow(rules: RulesetCreated, path: &Path, rights: BitFlags<AccessFs>) -> Result<RulesetCreated, RulesetError> {
    // What this user cannot open needs no rule.
    let Ok(handle) = PathFd::new(path) else { return Ok(rules) };
    let rights = if path.is_dir() { rights } else { rights & AccessFs::from_file(VERSION) };
    rules.add_rule(PathBeneath::new(handle, rights))
}

/// Whether the kernel enforces Landlock. Asked on a thread of its own, which stays restricted.
pub(super) fn is_available() -> bool {
    let restrict = || Ruleset::default().handle_access(AccessFs::MakeBlock)?.create()?.restrict_self();
    let answer = std::thread::spawn(move || restrict().is_ok_and(|status| status.ruleset != RulesetStatus::NotEnforced)).join();
    answer.unwrap_or(false)
}

/// Whether the kernel lets a process refuse itself signals to the outside.
pub(super) fn keeps_signals_in() -> bool {
    Ruleset::default().set_compatibility(CompatLevel::HardRequirement).scope(Scope::Signal).is_ok()
}
