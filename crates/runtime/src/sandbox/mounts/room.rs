//! Room for a mount point that the machine does not have. Its folders are the machine's own, so nothing may be made in them: the folder
//! that lacks the path is covered by one in memory with the same entries and one more.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

use super::{Attempt, Failure, NONE, in_memory, keep};

/// Makes sure that `target` can be mounted on. What lies below a mask is made there later.
pub(super) fn make(target: &Path, masks: &[PathBuf]) -> Result<(), Failure> {
    if target.is_dir() || masks.iter().chain(&["/tmp".into(), "/var/tmp".into()]).any(|mask| target.starts_with(mask)) {
        return Ok(());
    }
    let parents = target.ancestors().skip(1);
    let present = parents.into_iter().find(|parent| parent.is_dir()).unwrap_or(Path::new("/"));
    if present == Path::new("/") {
        twin_of_root(target)
    } else {
        let entries = entries(present)?;
        in_memory(present, "mode=0755,size=1m")?;
        fill(present, present, entries, Path::new(""))?;
        fs::create_dir_all(target).attempt(|| format!("making {}", target.display()))
    }
}

struct Entry {
    name: PathBuf,
    handle: File,
    link: Option<PathBuf>,
}

/// What a folder holds, opened before it is covered.
fn entries(folder: &Path) -> Result<Vec<Entry>, Failure> {
    let what = || format!("reading {}", folder.display());
    let mut found = vec![];
    for entry in fs::read_dir(folder).attempt(what)? {
        let entry = entry.attempt(what)?;
        let path = entry.path();
        let link = entry.file_type().attempt(what)?.is_symlink().then(|| fs::read_link(&path)).transpose().attempt(what)?;
        let handle = if link.is_some() { keep(folder, false)?.handle } else { keep(&path, false)?.handle };
        found.push(Entry { name: entry.file_name().into(), handle, link });
    }
    Ok(found)
}

/// Puts the entries into `to`; `busy` names the one that `to` itself covers.
fn fill(to: &Path, from: &Path, entries: Vec<Entry>, busy: &Path) -> Result<(), Failure> {
    for Entry { name, handle, link } in entries {
        let place = to.join(&name);
        let what = || format!("showing {}", from.join(&name).display());
        if let Some(link) = link {
            symlink(link, &place).attempt(what)?;
            continue;
        }
        if handle.metadata().attempt(what)?.is_dir() {
            fs::create_dir(&place).attempt(what)?;
        } else {
            File::create(&place).attempt(what)?;
        }
        let source = format!("/proc/self/fd/{}", handle.as_raw_fd());
        let flags = if name == busy { MsFlags::MS_BIND } else { MsFlags::MS_BIND | MsFlags::MS_REC };
        mount(Some(source.as_str()), &place, NONE, flags, NONE).attempt(what)?;
    }
    Ok(())
}

/// A root with one more folder. Nothing can be mounted over the root itself, so it is exchanged.
fn twin_of_root(target: &Path) -> Result<(), Failure> {
    let root = Path::new("/");
    let entries = entries(root)?;
    let busy = ["mnt", "media", "srv", "tmp"].map(Path::new).into_iter().find(|name| root.join(name).is_dir());
    let busy = busy.ok_or_else(|| Failure("there is neither /mnt nor /tmp to work in".into()))?;
    let twin = root.join(busy);
    in_memory(&twin, "mode=0755,size=1m")?;
    fill(&twin, root, entries, busy)?;
    let inside = twin.join(target.strip_prefix("/").unwrap_or(target));
    fs::create_dir_all(&inside).attempt(|| format!("making {}", target.display()))?;
    let what = || "exchanging the root".to_owned();
    std::env::set_current_dir(&twin).attempt(what)?;
    nix::unistd::pivot_root(".", ".").attempt(what)?;
    umount2(".", MntFlags::MNT_DETACH).attempt(what)?;
    std::env::set_current_dir("/").attempt(what)
}
