//! Folders that belong to tenants, walked by Orrery's own user, which may be root.
//!
//! Their apps may rename things below at any moment. So every step is taken from an open folder, never from a path, and no link is
//! followed: what is a folder when it is looked at is the same folder when it is entered.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Dir, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fchmod, fchown, fstat, mkdirat, openat, readlinkat, statat,
    symlinkat,
};
use rustix::io::Errno;
use rustix::path::Arg;

use crate::UnixUser;

/// Folders inside one another. Each of them is open while those in it are walked through.
const MAX_DEPTH: usize = 200;

/// Gives a folder with everything in it to another user.
///
/// # Errors
/// Something cannot be read or given away, or folders are nested too deeply.
pub fn give(folder: &Path, user: UnixUser) -> io::Result<()> {
    give_folder(open_folder(CWD, folder)?, (Uid::from_raw(user.uid), Gid::from_raw(user.gid)), MAX_DEPTH)
}

/// Copies files, folders and links with their owners and modes to `to`, which must not be there; sockets and pipes mean nothing without
/// their process. Returns the bytes of files.
///
/// # Errors
/// Something cannot be read or written, or folders are nested too deeply.
pub fn copy(from: &Path, to: &Path) -> io::Result<u64> {
    let source = open_folder(CWD, from)?;
    mkdirat(CWD, to, Mode::RWXU)?;
    copy_folder(source, &open_folder(CWD, to)?, MAX_DEPTH)
}

/// Bytes on disk below a folder, as far as `most` entries go. What vanishes meanwhile or cannot be read counts for nothing.
#[must_use]
pub fn measure(folder: &Path, most: usize) -> u64 {
    let mut left = most;
    size_of(folder, &mut left)
}

pub(crate) fn size_of(folder: &Path, left: &mut usize) -> u64 {
    open_folder(CWD, folder).map_or(0, |folder| size_of_folder(folder, left, MAX_DEPTH))
}

fn open_folder(at: impl AsFd, name: impl Arg) -> Result<OwnedFd, Errno> {
    openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn next(entries: &mut Dir) -> io::Result<Option<CString>> {
    loop {
        let Some(entry) = entries.read() else { return Ok(None) };
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            return Ok(Some(entry.file_name().to_owned()));
        }
    }
}

fn deeper(left: usize) -> io::Result<usize> {
    left.checked_sub(1).ok_or_else(|| io::Error::other(format!("more than {MAX_DEPTH} folders are inside one another")))
}

fn give_folder(folder: OwnedFd, owner: (Uid, Gid), left: usize) -> io::Result<()> {
    let left = deeper(left)?;
    let mut entries = Dir::new(folder)?;
    while let Some(name) = next(&mut entries)? {
        let at = entries.fd()?;
        match open_folder(at, name.as_c_str()) {
            Ok(below) => give_folder(below, owner, left)?,
            // Anything else, links to folders included.
            Err(Errno::NOTDIR | Errno::LOOP) => {
                chownat(at, name.as_c_str(), Some(owner.0), Some(owner.1), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Err(error) => return Err(error.into()),
        }
    }
    fchown(entries.fd()?, Some(owner.0), Some(owner.1))?;
    Ok(())
}

fn copy_folder(source: OwnedFd, target: &OwnedFd, left: usize) -> io::Result<u64> {
    let left = deeper(left)?;
    let meta = fstat(&source)?;
    let mut entries = Dir::new(source)?;
    let mut bytes = 0;
    while let Some(name) = next(&mut entries)? {
        bytes += copy_entry(entries.fd()?, target, &name, left)?;
    }
    settle(target.as_fd(), &meta)?;
    Ok(bytes)
}

fn copy_entry(at: BorrowedFd<'_>, target: &OwnedFd, name: &CStr, left: usize) -> io::Result<u64> {
    let meta = statat(at, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(meta.st_mode) {
        FileType::Directory => {
            let source = open_folder(at, name)?;
            mkdirat(target, name, Mode::RWXU)?;
            let made = open_folder(target, name)?;
            copy_folder(source, &made, left)
        }
        FileType::Symlink => {
            let leads_to = readlinkat(at, name, Vec::new())?;
            symlinkat(leads_to.as_c_str(), target, name)?;
            if is_root() {
                let (uid, gid) = (Uid::from_raw(meta.st_uid), Gid::from_raw(meta.st_gid));
                chownat(target, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
            }
            Ok(0)
        }
        FileType::RegularFile => {
            // A pipe that has come in its place must not hold this up.
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let source = openat(at, name, flags, Mode::empty())?;
            let meta = fstat(&source)?;
            if FileType::from_raw_mode(meta.st_mode) != FileType::RegularFile {
                return Ok(0);
            }
            let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let made = openat(target, name, flags, Mode::RUSR | Mode::WUSR)?;
            let (mut source, mut made) = (File::from(source), File::from(made));
            let bytes = io::copy(&mut source, &mut made)?;
            made.sync_data()?;
            settle(made.as_fd(), &meta)?;
            Ok(bytes)
        }
        _ => Ok(0),
    }
}

/// Owner and mode as they were. A new owner takes the mode's special bits away, so the mode comes last.
fn settle(made: BorrowedFd<'_>, meta: &Stat) -> io::Result<()> {
    if is_root() {
        fchown(made, Some(Uid::from_raw(meta.st_uid)), Some(Gid::from_raw(meta.st_gid)))?;
    }
    fchmod(made, Mode::from_raw_mode(meta.st_mode))?;
    Ok(())
}

/// Only root can give files away; everybody else owns all of them already.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn size_of_folder(folder: OwnedFd, left: &mut usize, depth: usize) -> u64 {
    let Some(depth) = depth.checked_sub(1) else { return 0 };
    let Ok(mut entries) = Dir::new(folder) else { return 0 };
    let mut sum = 0;
    while *left > 0
        && let Ok(Some(name)) = next(&mut entries)
    {
        *left -= 1;
        let Ok(at) = entries.fd() else { break };
        let Ok(meta) = statat(at, name.as_c_str(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        sum += u64::try_from(meta.st_blocks).unwrap_or(0) * 512;
        if FileType::from_raw_mode(meta.st_mode) == FileType::Directory
            && let Ok(below) = open_folder(at, name.as_c_str())
        {
            sum += size_of_folder(below, left, depth);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_copy_has_the_links_themselves_and_nothing_that_they_lead_to() {
        let place = tempfile::tempdir().unwrap();
        let (outside, from, to) = (place.path().join("outside"), place.path().join("from"), place.path().join("to"));
        fs::create_dir_all(outside.join("folder")).unwrap();
        fs::write(outside.join("secret"), "of the machine").unwrap();
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::write(from.join("a/b/file"), "twelve bytes").unwrap();
        fs::set_permissions(from.join("a/b/file"), fs::Permissions::from_mode(0o640)).unwrap();
        fs::set_permissions(from.join("a"), fs::Permissions::from_mode(0o550)).unwrap();
        symlink(outside.join("secret"), from.join("file")).unwrap();
        symlink(outside.join("folder"), from.join("folder")).unwrap();

        assert_eq!(copy(&from, &to).unwrap(), 12);
        assert_eq!(fs::read_to_string(to.join("a/b/file")).unwrap(), "twelve bytes");
        assert_eq!(fs::metadata(to.join("a/b/file")).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(fs::metadata(to.join("a")).unwrap().mode() & 0o7777, 0o550);
        for name in ["file", "folder"] {
            assert_eq!(fs::read_link(to.join(name)).unwrap(), fs::read_link(from.join(name)).unwrap());
        }
        assert!(copy(&from, &to).is_err(), "it is there already");
        assert!(measure(&from, 100) > 0);
        assert!(
            copy(&from.join("folder"), &place.path().join("other")).is_err(),
            "nor is a link that stands for the whole folder followed"
        );
    }

    #[test]
    fn what_links_lead_to_keeps_its_owner() {
        if !is_root() {
            return;
        }
        let place = tempfile::tempdir().unwrap();
        let (outside, mine) = (place.path().join("outside"), place.path().join("mine"));
        fs::create_dir_all(outside.join("folder")).unwrap();
        fs::write(outside.join("secret"), "of the machine").unwrap();
        fs::create_dir_all(mine.join("a")).unwrap();
        fs::write(mine.join("a/file"), "mine").unwrap();
        symlink(outside.join("secret"), mine.join("file")).unwrap();
        symlink(&outside, mine.join("folder")).unwrap();

        give(&mine, UnixUser { uid: 61_001, gid: 61_001 }).unwrap();
        for name in ["", "a", "a/file", "file", "folder"] {
            assert_eq!(fs::symlink_metadata(mine.join(name)).unwrap().uid(), 61_001, "{name}");
        }
        for name in ["", "secret", "folder"] {
            assert_eq!(fs::metadata(outside.join(name)).unwrap().uid(), 0, "{name}");
        }
    }

    #[test]
    fn folders_without_end_are_an_error_and_no_overflow() {
        let place = tempfile::tempdir().unwrap();
        let mut deep = place.path().join("from");
        for _ in 0..=MAX_DEPTH {
            deep.push("d");
        }
        fs::create_dir_all(&deep).unwrap();
        let error = copy(&place.path().join("from"), &place.path().join("to")).unwrap_err();
        assert!(error.to_string().contains("inside one another"), "{error}");
    }
}
