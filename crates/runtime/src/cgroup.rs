//! The control group of one sandbox, on either version of the interface.
//!
//! On version 1 the groups lie below the group of the caller, so that limits set from outside go on holding. On version 2 a group with
//! processes cannot hand controllers down, so they lie in a folder of their own below the root that this process sees. In a container that
//! root has processes, which move into a group of their own.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::spec::Limits;

use crate::proc;

/// The folder that holds all groups of ours.
const PARENT: &str = "orrery";
/// Processes and threads of one sandbox: far more than an app needs, far fewer than hurt the machine.
const MAX_TASKS: u32 = 4096;
/// Microseconds over which CPU time is measured out.
const CPU_PERIOD: u64 = 100_000;
/// The controllers that are used, where the machine has them.
const CONTROLLERS: [&str; 4] = ["memory", "cpu", "pids", "cpuacct"];

/// What the machine offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hierarchy {
    /// One tree for all controllers: the folder under which groups are made, and the tree's mount point.
    V2 { base: PathBuf, mount: PathBuf },
    /// A tree per controller: name, folder under which groups are made, mount point.
    V1(Vec<(String, PathBuf, PathBuf)>),
    /// Nothing that this process may use.
    Absent,
}

/// Looks for the hierarchy that has the controllers. Whether they may be used shows when a group is made.
pub(crate) fn hierarchy() -> Hierarchy {
    let (Ok(mounts), Ok(own)) = (proc::mounts(), fs::read_to_string("/proc/self/cgroup")) else { return Hierarchy::Absent };
    let mut v1: Vec<(String, PathBuf, PathBuf)> = vec![];
    for mount in mounts.iter().filter(|mount| mount.kind == "cgroup") {
        let options: Vec<&str> = mount.super_options.split(',').collect();
        let here = CONTROLLERS.into_iter().filter(|name| options.contains(name) && !v1.iter().any(|(known, ..)| known == name));
        for controller in here.collect::<Vec<_>>() {
            let path = own.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':').skip(1);
                fields.next()?.split(',').any(|name| name == controller).then(|| fields.next())?
            });
            let point = PathBuf::from(&mount.point);
            v1.push((controller.to_owned(), below(&point, &mount.root, path.unwrap_or("/")).join(PARENT), point));
        }
    }
    if v1.iter().any(|(name, ..)| name == "memory" || name == "cpu") {
        return Hierarchy::V1(v1);
    }
    match mounts.iter().find(|mount| mount.kind == "cgroup2") {
        Some(mount) => {
            let point = PathBuf::from(&mount.point);
            Hierarchy::V2 { base: point.join(PARENT), mount: point }
        }
        None => Hierarchy::Absent,
    }
}

/// The folder of group `path` in a mount that shows the tree from `root` on; the mount itself when the group is outside of it.
fn below(mount: &Path, root: &str, path: &str) -> PathBuf {
    let inner = Path::new(path).strip_prefix(root).unwrap_or(Path::new(""));
    Some(mount.join(inner)).filter(|folder| folder.is_dir()).unwrap_or_else(|| mount.to_owned())
}

/// One group: its folder in each tree with that tree's mount point.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    folders: Vec<(PathBuf, PathBuf)>,
}

impl Group {
    /// Makes the group `name` if it is not there, and writes the limits. Second: whether it was made by this call. `None` where the
    /// machine does not let this process have groups.
    pub(crate) fn prepare(name: &str, limits: &Limits) -> Option<(Self, bool)> {
        let hierarchy = hierarchy();
        let mut made = false;
        let mut folders = vec![];
        for (folder, mount) in places(&hierarchy, name) {
            match fs::create_dir_all(folder.parent().unwrap_or(&folder))
                .and_then(|()| enable(&hierarchy))
                .and_then(|()| fs::create_dir(&folder))
            {
                Ok(()) => made = true,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(_) => continue,
            }
            folders.push((folder, mount));
        }
        let group = Self { folders };
        group.limit(&hierarchy, limits);
        (!group.folders.is_empty()).then_some((group, made))
    }

    /// The group `name` as far as it is there.
    pub(crate) fn find(name: &str) -> Self {
        let mut folders = places(&hierarchy(), name);
        folders.retain(|(folder, _)| folder.is_dir());
        Self { folders }
    }

    /// A limit that the machine does not know (swap accounting is often off) is left out: `doctor` tells.
    fn limit(&self, hierarchy: &Hierarchy, limits: &Limits) {
        let v2 = matches!(hierarchy, Hierarchy::V2 { .. });
        if let Some(bytes) = limits.memory_bytes {
            let files: &[_] = if v2 { &["memory.max"] } else { &["memory.limit_in_bytes", "memory.memsw.limit_in_bytes"] };
            // Twice: the limit with swap must never be the smaller one, in whichever direction they move.
            for file in files.iter().chain(files) {
                self.write(file, &bytes.to_string());
            }
            self.write("memory.swap.max", "0");
            self.write("memory.oom.group", "1");
        }
        if let Some(millis) = limits.cpu_millis {
            let quota = (u64::from(millis) * CPU_PERIOD / 1000).max(1000);
            if v2 {
                self.write("cpu.max", &format!("{quota} {CPU_PERIOD}"));
            } else {
                self.write("cpu.cfs_period_us", &CPU_PERIOD.to_string());
                self.write("cpu.cfs_quota_us", &quota.to_string());
            }
        }
        self.write("pids.max", &MAX_TASKS.to_string());
    }

    /// Writes to the file in every folder that has it.
    fn write(&self, file: &str, value: &str) {
        for (folder, _) in &self.folders {
            if let Ok(mut file) = fs::OpenOptions::new().write(true).open(folder.join(file)) {
                // The kernel refuses what it cannot do; the next check of the machine says so.
                let _ = file.write_all(value.as_bytes());
            }
        }
    }

    /// Puts the calling process, which must have one thread, into the group.
    pub(crate) fn join(&self) -> io::Result<()> {
        self.folders.iter().try_for_each(|(folder, _)| {
            // Moving a process waits for the whole machine's forks to come to rest, about ten milliseconds; moving the calling thread
            // does not. Version 2 has no such file for groups like these.
            let thread = fs::OpenOptions::new().write(true).open(folder.join("tasks"));
            let file = thread.or_else(|_| fs::OpenOptions::new().write(true).open(folder.join("cgroup.procs")));
            file?.write_all(b"0")
        })
    }

    /// How many of its processes the kernel has ended because memory ran out.
    pub(crate) fn oom_kills(&self) -> u64 {
        let files = self.folders.iter().flat_map(|(folder, _)| [folder.join("memory.events"), folder.join("memory.oom_control")]);
        let texts = files.filter_map(|file| fs::read_to_string(file).ok());
        texts.filter_map(|text| text.lines().find_map(|line| line.strip_prefix("oom_kill ")?.trim().parse::<u64>().ok())).sum()
    }

    /// The folders with the mount points over which a sandbox shows them.
    pub(crate) fn folders(&self) -> &[(PathBuf, PathBuf)] {
        &self.folders
    }

    /// The processes in it.
    pub(crate) fn members(&self) -> Vec<i32> {
        let texts = self.folders.iter().filter_map(|(folder, _)| fs::read_to_string(folder.join("cgroup.procs")).ok());
        let mut pids: Vec<i32> = texts.flat_map(|text| text.lines().filter_map(|line| line.parse().ok()).collect::<Vec<_>>()).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// Deletes the group of processes that have all been waited for. The kernel lets go of them a moment later and tells nobody, hence
    /// the short pauses. Left behind, a group is empty and costs next to nothing.
    pub(crate) fn remove_soon(&self) {
        for _ in 0..100 {
            if self.remove().is_ok() {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Deletes the group; refused by the kernel while a process is in it.
    pub(crate) fn remove(&self) -> io::Result<()> {
        self.folders.iter().try_for_each(|(folder, _)| match fs::remove_dir(folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
    }
}

/// Reads what groups use. The hierarchy is looked for once.
pub(crate) struct Gauges(Hierarchy);

impl Gauges {
    pub(crate) fn find() -> Self {
        Self(hierarchy())
    }

    /// CPU time in nanoseconds and memory in bytes of the group `name`, each where the machine tells. Memory leaves out the part of the
    /// file cache that would be given back first.
    pub(crate) fn read(&self, name: &str) -> (Option<u64>, Option<u64>) {
        match &self.0 {
            Hierarchy::V2 { base, .. } => {
                let folder = base.join(name);
                let cpu = field(&folder.join("cpu.stat"), "usage_usec").map(|micros| micros * 1000);
                (cpu, held(&folder, "memory.current", "inactive_file"))
            }
            Hierarchy::V1(trees) => {
                let tree = |controller: &str| trees.iter().find(|(own, ..)| own == controller).map(|(_, base, _)| base.join(name));
                let cpu = tree("cpuacct").and_then(|folder| number(&folder.join("cpuacct.usage")));
                (cpu, tree("memory").and_then(|folder| held(&folder, "memory.usage_in_bytes", "total_inactive_file")))
            }
            Hierarchy::Absent => (None, None),
        }
    }
}

fn held(folder: &Path, file: &str, reclaimable: &str) -> Option<u64> {
    let all = number(&folder.join(file))?;
    Some(all.saturating_sub(field(&folder.join("memory.stat"), reclaimable).unwrap_or(0)))
}

fn number(file: &Path) -> Option<u64> {
    fs::read_to_string(file).ok()?.trim().parse().ok()
}

fn field(file: &Path, name: &str) -> Option<u64> {
    let text = fs::read_to_string(file).ok()?;
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

fn places(hierarchy: &Hierarchy, name: &str) -> Vec<(PathBuf, PathBuf)> {
    match hierarchy {
        Hierarchy::V2 { base, mount } => vec![(base.join(name), mount.clone())],
        Hierarchy::V1(trees) => {
            let mut folders: Vec<_> = trees.iter().map(|(_, base, mount)| (base.join(name), mount.clone())).collect();
            folders.sort();
            folders.dedup();
            folders
        }
        Hierarchy::Absent => vec![],
    }
}

/// Hands the controllers down to the groups (version 2 only).
fn enable(hierarchy: &Hierarchy) -> io::Result<()> {
    let Hierarchy::V2 { base, mount } = hierarchy else { return Ok(()) };
    if !may_hand_down(mount, base)? {
        return Ok(());
    }
    for folder in [mount, base] {
        let offered = fs::read_to_string(folder.join("cgroup.controllers"))?;
        for controller in offered.split_ascii_whitespace().filter(|name| CONTROLLERS.contains(name)) {
            // One by one: a controller that cannot be handed down must not take the others with it.
            let _ = fs::write(folder.join("cgroup.subtree_control"), format!("+{controller}"));
        }
    }
    Ok(())
}

/// Whether the group at the mount may hand controllers down. The machine's outermost group always may. The one that a container shows
/// there holds the container's processes: they move aside first, for a controller that is handed down over their heads makes every group
/// below useless, and then no app could start. While some cannot be moved, apps run without limits.
fn may_hand_down(mount: &Path, base: &Path) -> io::Result<bool> {
    // The outermost group has no such file.
    if !fs::exists(mount.join("cgroup.type"))? {
        return Ok(true);
    }
    let members = || fs::read_to_string(mount.join("cgroup.procs"));
    let aside = base.join("others");
    // More than once, because a process that forks while this reads leaves its child behind.
    for _ in 0..10 {
        let found = members()?;
        if found.is_empty() {
            return Ok(true);
        }
        fs::create_dir_all(&aside)?;
        // Zero stands for a process that this one cannot name.
        for pid in found.lines().filter(|pid| *pid != "0") {
            // It may have ended meanwhile.
            let _ = fs::write(aside.join("cgroup.procs"), pid);
        }
    }
    Ok(members()?.is_empty())
}

/// Moves the calling process out of the group of the service that started it: a service manager ends everything in that group when the
/// service stops, and apps and traffic shall go on. Without the right to do so it stays where it is.
pub fn leave_service() {
    let (Ok(mounts), Ok(own)) = (proc::mounts(), fs::read_to_string("/proc/self/cgroup")) else { return };
    for mount in mounts.iter().filter(|mount| mount.kind == "cgroup2" || mount.super_options.split(',').any(|o| o == "name=systemd")) {
        let name = if mount.kind == "cgroup2" { "0::" } else { ":name=systemd:" };
        let path = own.lines().find_map(|line| line.split_once(name)).map_or("/", |(_, path)| path);
        if path == "/" || path.starts_with("/orrery/") {
            continue;
        }
        let folder = Path::new(&mount.point).join(PARENT).join("supervisors");
        if fs::create_dir_all(&folder).is_ok() {
            let _ = fs::write(folder.join("cgroup.procs"), "0");
        }
    }
}

/// Which controllers can be used and how, for people.
pub(crate) fn describe() -> (Option<u8>, Vec<String>) {
    let may_write = |folder: &Path| {
        let existing = folder.ancestors().find(|folder| folder.is_dir());
        existing.is_some_and(|folder| nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK).is_ok())
    };
    match hierarchy() {
        Hierarchy::Absent => (None, vec![]),
        Hierarchy::V1(trees) => (Some(1), trees.into_iter().filter(|(_, base, _)| may_write(base)).map(|(name, ..)| name).collect()),
        Hierarchy::V2 { base, mount } => {
            let text = fs::read_to_string(mount.join("cgroup.controllers")).unwrap_or_default();
            let names = text.split_ascii_whitespace().filter(|name| CONTROLLERS.contains(name) && may_write(&base));
            (Some(2), names.map(str::to_owned).collect())
        }
    }
}
