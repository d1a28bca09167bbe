//! The folders of one build: made, owned, and taken away whole.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt, fchown, lchown};
use std::path::{Path, PathBuf};

use crate::failure::BuildFailure;
use runtime::UnixUser;

/// Removes its folders when dropped, unless they are kept.
pub(crate) struct Folders {
    remove: Vec<PathBuf>,
}

impl Folders {
    /// Takes responsibility for folders that need not exist yet.
    pub(crate) fn new(remove: Vec<PathBuf>) -> Self {
        Self { remove }
    }

    /// The folder stays.
    pub(crate) fn keep(&mut self, path: &Path) {
        self.remove.retain(|other| other != path);
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        for path in &self.remove {
            if let Err(error) = remove_tree(path) {
                tracing::error!(path = %path.display(), %error, "a folder of a build could not be removed");
            }
        }
    }
}

/// Makes a folder of ours, with its parents, for everyone to pass through and nothing else.
pub(crate) fn make_passage(path: &Path) -> Result<(), BuildFailure> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o711).create(path);
    made.map_err(|error| BuildFailure::io("making the folder", path, &error))
}

/// Makes a folder for the build's user alone, in one of ours.
pub(crate) fn make_private(path: &Path, user: Option<UnixUser>) -> Result<(), BuildFailure> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(BuildFailure::io("making the folder", path, &error)),
        _ => {}
    }
    own(path, user).map_err(|error| BuildFailure::io("changing the owner of", path, &error))
}

/// Gives a path of ours to the build's user.
pub(crate) fn own(path: &Path, user: Option<UnixUser>) -> io::Result<()> {
    match user {
        Some(user) if nix::unistd::geteuid().is_root() => lchown(path, Some(user.uid), Some(user.gid)),
        _ => Ok(()),
    }
}

/// Gives an open file of ours to the build's user.
pub(crate) fn own_file(file: &fs::File, user: Option<UnixUser>) -> io::Result<()> {
    match user {
        Some(user) if nix::unistd::geteuid().is_root() => fchown(file, Some(user.uid), Some(user.gid)),
        _ => Ok(()),
    }
}

/// Removes a folder and everything in it, also folders that their owner made unwritable. Links are removed, never followed.
///
/// # Errors
/// What the machine refuses; that there is no such folder is none.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            open_up(path)?;
            fs::remove_dir_all(path)
        }
        other => other,
    }
}

fn open_up(path: &Path) -> io::Result<()> {
    let mut waiting = vec![path.to_owned()];
    while let Some(folder) = waiting.pop() {
        fs::set_permissions(&folder, Permissions::from_mode(0o700))?;
        for entry in fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    Ok(())
}

/// Whether the user could pass through every folder above `path`. Only mode bits are looked at; that is what this program sets.
pub(crate) fn reachable(path: &Path, user: Option<UnixUser>) -> bool {
    path.ancestors().skip(1).all(|folder| fs::metadata(folder).is_ok_and(|meta| permits(&meta, user, 0o1)))
}

/// Whether the mode bits of a file give `user` the bits of `want` (4 read, 2 write, 1 execute).
pub(crate) fn permits(meta: &fs::Metadata, user: Option<UnixUser>, want: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    let (uid, gid) = match user {
        Some(user) => (user.uid, user.gid),
        None => (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw()),
    };
    let mode = meta.mode();
    let bits = if uid == 0 {
        mode | (mode >> 3) | (mode >> 6) | 0o6 | u32::from(meta.is_dir())
    } else if meta.uid() == uid {
        mode >> 6
    } else if meta.gid() == gid {
        mode >> 3
    } else {
        mode
    };
    bits & want == want
}
