//! The file system inside: the machine's own, read-only, with masks over what is nobody's business, and the app's folders in their places.
//!
//! Everything happens in a mount namespace of its own, so nothing has to be undone. Sources are opened before anything is covered and
//! mounted from those handles, which also carries them past folders that the app's user may not pass through.

mod room;

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};

use super::enter::{Attempt, Failure};
use super::{Sandbox, UnixUser};
use crate::cgroup::Group;
use crate::proc;

/// Folders of people and of the machine's services: homes, sockets such as a container engine's, other disks. Masked in every sandbox.
const VEILED: [&str; 6] = ["/root", "/home", "/run", "/boot", "/media", "/mnt"];
/// Devices that every program may expect.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];
/// Parts of `/proc` and `/sys` through which the machine could be steered, for users that own them by number.
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];
/// Parts that tell of the machine's memory, keys and hardware.
const UNREADABLE: [&str; 8] = [
    "/proc/acpi",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/scsi",
    "/proc/timer_list",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];

const NONE: Option<&str> = None;

/// Something that is mounted at its old place after the masks.
struct Kept {
    handle: File,
    path: PathBuf,
    folder: bool,
    writable: bool,
}

/// Arranges the calling process's mount namespace.
pub(super) fn arrange(sandbox: &Sandbox, group: Option<&Group>) -> Result<(), Failure> {
    nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o022));
    mount(NONE, "/", NONE, MsFlags::MS_REC | MsFlags::MS_PRIVATE, NONE).attempt(|| "separating the mounts".into())?;
    let masks = masks(sandbox);
    for bind in &sandbox.binds {
        room::make(&bind.target, &masks)?;
    }
    let machine = proc::mounts().attempt(|| "reading the mounts".into())?;
    let devices = DEVICES.iter().map(|name| keep(&Path::new("/dev").join(name), true)).collect::<Result<Vec<_>, _>>()?;
    let tmp = tmp(sandbox)?;
    let kept = kept(sandbox)?;

    lock(&machine, &masks)?;
    for mask in &masks {
        in_memory(mask, "mode=0755,size=1m")?;
    }
    for path in ["/tmp", "/var/tmp"].into_iter().filter(|path| Path::new(path).is_dir()) {
        match &tmp {
            Some(tmp) => put(tmp, Path::new(path), true)?,
            None => in_memory(Path::new(path), "mode=1777")?,
        }
    }
    for kept in &kept {
        place(kept)?;
    }
    for hidden in sandbox.hidden.iter().filter(|hidden| kept.iter().any(|kept| **hidden != kept.path && hidden.starts_with(&kept.path))) {
        in_memory(hidden, "mode=0755,size=4k")?;
        protect(hidden)?;
    }
    names(sandbox)?;
    for mask in &masks {
        protect(mask)?;
    }
    make_dev(&devices)?;
    show_own_group(group)?;
    make_proc()
}

/// What is covered: what is always veiled, what shall be hidden, and whatever stands between the app's user and its folders. Outermost
/// only: inside a mask there is nothing left to cover.
fn masks(sandbox: &Sandbox) -> Vec<PathBuf> {
    let mut masks: Vec<PathBuf> = VEILED.iter().map(PathBuf::from).chain(sandbox.hidden.iter().cloned()).collect();
    let bound = sandbox.binds.iter().map(|bind| &bind.target);
    for path in [&sandbox.root].into_iter().chain(&sandbox.writable).chain(&sandbox.readable).chain(bound) {
        let parents: Vec<_> = path.ancestors().skip(1).filter(|parent| parent.parent().is_some()).collect();
        masks.extend(parents.into_iter().rev().find(|parent| !may_pass(parent, sandbox.user)).map(Path::to_owned));
    }
    let mut masks: Vec<PathBuf> = masks.iter().filter_map(|path| fs::canonicalize(path).ok()).filter(|path| path.is_dir()).collect();
    masks.sort();
    let mut outermost: Vec<PathBuf> = vec![];
    for mask in masks {
        let private = ["/tmp", "/var/tmp"].iter().any(|tmp| mask.starts_with(tmp));
        let inside_root = mask.starts_with(&sandbox.root) || sandbox.writable.iter().any(|writable| mask.starts_with(writable));
        if !private && !inside_root && mask != Path::new("/") && !outermost.iter().any(|outer| mask.starts_with(outer)) {
            outermost.push(mask);
        }
    }
    outermost
}

fn may_pass(folder: &Path, user: Option<UnixUser>) -> bool {
    let (Some(user), Ok(meta)) = (user, fs::metadata(folder)) else { return true };
    let bit = if meta.uid() == user.uid {
        0o100
    } else if meta.gid() == user.gid {
        0o010
    } else {
        0o001
    };
    meta.mode() & bit != 0
}

fn kept(sandbox: &Sandbox) -> Result<Vec<Kept>, Failure> {
    if let Some(overlay) = &sandbox.overlay {
        // A file system that cannot carry the layer leaves the folder as it is: shared, but working.
        let _ = layer(&sandbox.root, overlay, sandbox.user);
    }
    let mut kept = vec![keep(&sandbox.root, true)?];
    for path in &sandbox.writable {
        kept.push(keep(path, true)?);
    }
    for path in &sandbox.readable {
        kept.push(keep(path, false)?);
    }
    for bind in &sandbox.binds {
        kept.push(Kept { path: bind.target.clone(), ..keep(&bind.source, true)? });
    }
    // Resolvers' configuration is often a link into a folder that is veiled.
    if let Ok(resolver) = fs::canonicalize("/etc/resolv.conf")
        && VEILED.iter().any(|veiled| resolver.starts_with(veiled))
    {
        kept.push(keep(&resolver, false)?);
    }
    kept.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(kept)
}

fn keep(path: &Path, writable: bool) -> Result<Kept, Failure> {
    let what = || format!("opening {}", path.display());
    let handle = fs::OpenOptions::new().read(true).custom_flags((OFlag::O_PATH | OFlag::O_CLOEXEC).bits()).open(path).attempt(what)?;
    let folder = handle.metadata().attempt(what)?.is_dir();
    Ok(Kept { handle, path: path.to_owned(), folder, writable })
}

/// Mounts the working tree over itself with a private layer for writes.
fn layer(root: &Path, overlay: &Path, user: Option<UnixUser>) -> io::Result<()> {
    let (upper, work) = (overlay.join("upper"), overlay.join("work"));
    fs::create_dir_all(&work)?;
    fs::create_dir_all(&upper)?;
    let meta = fs::metadata(root)?;
    fs::set_permissions(&upper, Permissions::from_mode(meta.mode() & 0o7777))?;
    let (uid, gid) = user.map_or((meta.uid(), meta.gid()), |user| (user.uid, user.gid));
    chown(&upper, Some(uid), Some(gid))?;
    let open = |path: &Path| fs::OpenOptions::new().read(true).custom_flags(OFlag::O_PATH.bits()).open(path);
    let (lower, upper, work) = (open(root)?, open(&upper)?, open(&work)?);
    // By handle: a colon or comma in a path would be read as a separator.
    let at = |file: &File| format!("/proc/self/fd/{}", file.as_raw_fd());
    let options = format!("lowerdir={},upperdir={},workdir={}", at(&lower), at(&upper), at(&work));
    mount(Some("overlay"), root, Some("overlay"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV, Some(options.as_str()))?;
    Ok(())
}

/// The folder that becomes `/tmp`.
fn tmp(sandbox: &Sandbox) -> Result<Option<Kept>, Failure> {
    let Some(overlay) = &sandbox.overlay else { return Ok(None) };
    private_tmp(overlay, sandbox.user)?;
    keep(&overlay.join("tmp"), true).map(Some)
}

/// Makes the private folder for temporary files.
pub(super) fn private_tmp(overlay: &Path, user: Option<UnixUser>) -> Result<(), Failure> {
    let tmp = overlay.join("tmp");
    let what = || format!("making {}", tmp.display());
    fs::create_dir_all(&tmp).attempt(what)?;
    if let Some(user) = user.filter(|_| nix::unistd::geteuid().is_root()) {
        chown(&tmp, Some(user.uid), Some(user.gid)).attempt(what)?;
    }
    fs::set_permissions(&tmp, Permissions::from_mode(0o1777)).attempt(what)
}

/// Makes every mount of the machine read-only, except those that are going to be covered.
fn lock(machine: &[proc::Mount], masks: &[PathBuf]) -> Result<(), Failure> {
    for mounted in machine {
        let path = Path::new(&mounted.point);
        let covered = path.starts_with("/proc") || path.starts_with("/dev") || masks.iter().any(|mask| path.starts_with(mask));
        let options: Vec<&str> = mounted.options.split(',').collect();
        if covered || options.contains(&"ro") {
            continue;
        }
        let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        for (name, flag) in [
            ("nosuid", MsFlags::MS_NOSUID),
            ("nodev", MsFlags::MS_NODEV),
            ("noexec", MsFlags::MS_NOEXEC),
            ("noatime", MsFlags::MS_NOATIME),
            ("nodiratime", MsFlags::MS_NODIRATIME),
            ("relatime", MsFlags::MS_RELATIME),
        ] {
            flags.set(flag, options.contains(&name));
        }
        match mount(NONE, path, NONE, flags, NONE) {
            // Covered by a later mount, or out of root's own reach: then it is out of the app's.
            Err(nix::errno::Errno::ENOENT | nix::errno::Errno::EACCES | nix::errno::Errno::EINVAL) if path != Path::new("/") => {}
            result => result.attempt(|| format!("making {} read-only", path.display()))?,
        }
    }
    Ok(())
}

fn in_memory(path: &Path, options: &str) -> Result<(), Failure> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options)).attempt(|| format!("covering {}", path.display()))
}

/// Makes one mount read-only.
fn protect(path: &Path) -> Result<(), Failure> {
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(NONE, path, NONE, flags, NONE).attempt(|| format!("making {} read-only", path.display()))
}

/// Mounts what was opened before at a path.
fn put(kept: &Kept, path: &Path, nodev: bool) -> Result<(), Failure> {
    let what = || format!("mounting {}", path.display());
    let source = format!("/proc/self/fd/{}", kept.handle.as_raw_fd());
    mount(Some(source.as_str()), path, NONE, MsFlags::MS_BIND, NONE).attempt(what)?;
    let mut flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID;
    flags.set(MsFlags::MS_NODEV, nodev);
    flags.set(MsFlags::MS_RDONLY, !kept.writable);
    mount(NONE, path, NONE, flags, NONE).attempt(what)
}

/// Mounts it at its old place, which is made anew where a mask has taken it away.
fn place(kept: &Kept) -> Result<(), Failure> {
    if !kept.path.exists() {
        let parent = kept.path.parent().unwrap_or(Path::new("/"));
        let made = fs::create_dir_all(parent)
            .and_then(|()| if kept.folder { fs::create_dir(&kept.path) } else { File::create(&kept.path).map(|_| ()) });
        made.attempt(|| format!("making a place for {}", kept.path.display()))?;
    }
    put(kept, &kept.path, true)
}

/// Gives the sandbox a host name that resolves, and its user a name.
fn names(sandbox: &Sandbox) -> Result<(), Failure> {
    let folder = Path::new("/run/orrery");
    fs::create_dir_all(folder).attempt(|| "making /run/orrery".into())?;
    let replace = |path: &str, text: String| -> Result<(), Failure> {
        let copy = folder.join(Path::new(path).file_name().unwrap_or_default());
        fs::write(&copy, text).attempt(|| format!("writing {}", copy.display()))?;
        put(&keep(&copy, false)?, Path::new(path), true)
    };
    if let Some(host) = sandbox.cgroup.as_deref().map(|name| &name[..name.len().min(63)]) {
        nix::unistd::sethostname(host).attempt(|| "naming the host".into())?;
        if let Ok(hosts) = fs::read_to_string("/etc/hosts") {
            replace("/etc/hosts", format!("{hosts}\n127.0.0.1 {host}\n"))?;
        }
    }
    if let (Some(UnixUser { uid, gid }), Ok(users)) = (sandbox.user, fs::read_to_string("/etc/passwd")) {
        let home = sandbox.root.display().to_string();
        if !home.contains([':', '\n']) {
            replace("/etc/passwd", format!("{}\napp:x:{uid}:{gid}::{home}:/bin/sh\n", users.trim_end()))?;
        }
    }
    Ok(())
}

fn make_dev(devices: &[Kept]) -> Result<(), Failure> {
    let what = || "making /dev".to_owned();
    in_memory(Path::new("/dev"), "mode=0755,size=64k")?;
    for device in devices {
        File::create(&device.path).attempt(what)?;
        put(device, &device.path, false)?;
    }
    for (link, target) in [("fd", "/proc/self/fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2"), ("ptmx", "pts/ptmx")] {
        symlink(target, Path::new("/dev").join(link)).attempt(what)?;
    }
    fs::create_dir("/dev/shm").and_then(|()| fs::create_dir("/dev/pts")).attempt(what)?;
    in_memory(Path::new("/dev/shm"), "mode=1777")?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(Some("devpts"), "/dev/pts", Some("devpts"), flags, Some("newinstance,ptmxmode=0666,mode=0620")).attempt(what)?;
    protect(Path::new("/dev"))
}

/// Programs that size themselves read their limits where they expect them, and see no other group.
fn show_own_group(group: Option<&Group>) -> Result<(), Failure> {
    let Some(group) = group else { return Ok(()) };
    let handles = group.folders().iter().map(|(folder, point)| Ok((keep(folder, false)?, point))).collect::<Result<Vec<_>, Failure>>()?;
    handles.iter().try_for_each(|(folder, point)| put(folder, point, true))
}

/// Last, because everything before it mounts by `/proc/self/fd`.
fn make_proc() -> Result<(), Failure> {
    let null = keep(Path::new("/dev/null"), true)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    mount(Some("proc"), "/proc", Some("proc"), flags, NONE).attempt(|| "mounting /proc".into())?;
    for path in READ_ONLY.into_iter().filter(|path| Path::new(path).exists()) {
        put(&keep(Path::new(path), false)?, Path::new(path), true)?;
    }
    for path in UNREADABLE.map(Path::new) {
        match fs::symlink_metadata(path) {
            Ok(meta) if meta.is_dir() => in_memory(path, "mode=0555,size=4k").and_then(|()| protect(path))?,
            Ok(_) => put(&null, path, false)?,
            Err(_) => {}
        }
    }
    Ok(())
}
