//! What this machine allows, and what to do where it does not.

use std::fs;

use rustix::thread::CapabilitySet;

use super::confine;
use crate::cgroup;

/// What this machine allows a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// Runs as root, so services can have users of their own.
    pub root: bool,
    /// The version of the control group interface, if there is one.
    pub cgroup_version: Option<u8>,
    /// The controllers that can be used: of `memory`, `cpu`, `pids`, `cpuacct`.
    pub cgroup_controllers: Vec<String>,
    /// Namespaces can be made.
    pub namespaces: bool,
    /// Replicas can have private layers over a shared folder.
    pub overlay: bool,
    /// System calls can be filtered.
    pub seccomp: bool,
    /// A process without root can close files to itself.
    pub landlock: bool,
    /// A process without root can be kept from signalling others of its user.
    pub signals: bool,
}

/// One finding, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    /// What was looked at.
    pub name: &'static str,
    /// It is there.
    pub ok: bool,
    /// What was found.
    pub found: String,
    /// What is weaker without it and how to get it; empty when it is there.
    pub remedy: &'static str,
}

pub(super) fn find() -> Capabilities {
    let root = nix::unistd::geteuid().is_root();
    let effective = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let namespaces = effective.contains(CapabilitySet::SYS_ADMIN) && fs::exists("/proc/self/ns/pid").unwrap_or(false);
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let (cgroup_version, cgroup_controllers) = cgroup::describe();
    Capabilities {
        root,
        cgroup_version,
        cgroup_controllers,
        namespaces,
        overlay: namespaces && filesystems.lines().any(|line| line.ends_with("\toverlay")),
        seccomp: fs::exists("/proc/sys/kernel/seccomp/actions_avail").unwrap_or(false),
        landlock: confine::is_available(),
        signals: confine::keeps_signals_in(),
    }
}

impl Capabilities {
    /// The findings in order of weight.
    #[must_use]
    pub fn checks(&self) -> Vec<Check> {
        let missing: Vec<&str> =
            ["memory", "cpu", "pids"].into_iter().filter(|name| !self.cgroup_controllers.iter().any(|known| known == name)).collect();
        let groups = match self.cgroup_version {
            Some(version) if missing.is_empty() => format!("version {version} with {}", self.cgroup_controllers.join(", ")),
            Some(version) => format!("version {version} without {}", missing.join(", ")),
            None => "not mounted".to_owned(),
        };
        let yes = |ok: bool| if ok { "yes" } else { "no" }.to_owned();
        let check = |name, ok, found, remedy| Check { name, ok, found, remedy: if ok { "" } else { remedy } };
        vec![
            check(
                "root",
                self.root,
                yes(self.root),
                "Apps run as Orrery's own user and are kept apart by Landlock alone. Start Orrery as root.",
            ),
            check(
                "namespaces",
                self.namespaces,
                yes(self.namespaces),
                "Apps see the machine's processes and files as far as permissions let them. Start Orrery as root, in a container with CAP_SYS_ADMIN.",
            ),
            check(
                "control groups",
                missing.is_empty(),
                groups,
                "Limits of memory, CPU or processes are not enforced. Start Orrery as root; in a container, mount /sys/fs/cgroup writable; on older systems boot with cgroup_enable=memory.",
            ),
            check(
                "overlay file system",
                self.overlay,
                yes(self.overlay),
                "Replicas of a deployment share the files that they write. Load the kernel module `overlay` (modprobe overlay) and start Orrery as root.",
            ),
            check(
                "system call filter",
                self.seccomp,
                yes(self.seccomp),
                "Apps cannot be started: the sandbox needs a kernel with CONFIG_SECCOMP_FILTER.",
            ),
            check(
                "Landlock",
                self.landlock,
                yes(self.landlock),
                "Without root, only file permissions protect Orrery's files from apps. Use kernel 5.13 or newer and add `landlock` to the boot parameter lsm=.",
            ),
            check(
                "signals",
                self.root || self.signals,
                if self.root || self.signals { "kept inside" } else { "not kept inside" }.to_owned(),
                "Without root, an app can end Orrery and other apps by a signal. Start Orrery as root, or use kernel 6.12 or newer.",
            ),
        ]
    }
}
