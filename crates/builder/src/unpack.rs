//! The upload, read as a hostile file: one pass, bounded memory, nothing outside its folder.
//!
//! Headers are taken raw from the tar library, because its own handling of long names and extended headers reads as much into memory
//! as the archive claims. Every parent of a written path is a real folder that this pass has made, so no link is ever followed.

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown, lchown, symlink};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, Ordering};

use flate2::bufread::MultiGzDecoder;
use sha2::{Digest, Sha256};
use tar::{EntryType, PaxExtensions};

use crate::BuildLimits;
use crate::failure::BuildFailure;
use crate::manifest::SourceManifest;
use runtime::UnixUser;

mod path;

pub(crate) use path::relative;

/// Names and extended headers beyond this are an attack.
const METADATA_BYTES: u64 = 64 * 1024;
/// Configuration files beyond this are not read.
const KEPT_BYTES: u64 = 1024 * 1024;

/// What to unpack, and where to.
pub(crate) struct Unpack {
    /// The upload.
    pub archive: PathBuf,
    /// An existing, empty folder.
    pub into: PathBuf,
    /// Only this folder of the upload is written, as the root. Empty for all.
    pub root: String,
    /// Files of the upload's root whose content is wanted, inside `root` or not.
    pub keep: BTreeSet<String>,
    /// Owner of all that is written.
    pub user: Option<UnixUser>,
    /// Sizes and counts.
    pub limits: BuildLimits,
}

/// What was in it.
#[derive(Debug, Default)]
pub(crate) struct Unpacked {
    /// All files of the upload.
    pub manifest: SourceManifest,
    /// Paths of files and folders below the root, relative to it.
    pub paths: BTreeSet<String>,
    /// The wanted files.
    pub kept: BTreeMap<String, Vec<u8>>,
    /// SHA-256 of the archive in hexadecimal.
    pub digest: String,
}

/// Reads the archive to its end. `stop` ends the work early.
///
/// # Errors
/// `Source` for an archive that is broken or refused, `Limit` for one that is too large, `Canceled` after `stop`.
pub(crate) fn unpack(order: &Unpack, stop: &AtomicBool) -> Result<Unpacked, BuildFailure> {
    let file = File::open(&order.archive).map_err(|error| BuildFailure::io("opening the upload", &order.archive, &error))?;
    let end = Rc::new(Cell::new(None));
    let hashing = Rc::new(Cell::new(Sha256::new()));
    let compressed = BufReader::with_capacity(128 * 1024, Hashing { inner: file, hash: hashing.clone() });
    let reader =
        Bounded { inner: MultiGzDecoder::new(compressed), left: order.limits.unpacked_bytes + METADATA_BYTES, end: end.clone(), stop };
    let mut archive = tar::Archive::new(reader);
    let mut writer = Writer { order, unpacked: Unpacked::default(), kinds: BTreeMap::new(), entries: 0, bytes: 0 };
    let result = read_entries(&mut archive, &mut writer).and_then(|()| {
        // What is behind the last entry must be intact as well: a checksum stands at the end.
        io::copy(&mut archive.into_inner(), &mut io::sink()).map_err(unreadable).map(drop)
    });
    match (end.get(), result) {
        (Some(End::Stopped), _) => return Err(BuildFailure::Canceled),
        (Some(End::TooLarge), _) => return Err(too_large(&order.limits)),
        (None, Err(failure)) => return Err(failure),
        (None, Ok(())) => {}
    }
    let mut unpacked = writer.unpacked;
    if unpacked.manifest.files.is_empty() {
        return Err(BuildFailure::Source("the upload holds no files: deploy from the folder of your app".into()));
    }
    if !order.root.is_empty() && !writer.kinds.contains_key("") {
        return Err(BuildFailure::Source(format!("the root directory {:?} is not in the upload: correct it in the settings", order.root)));
    }
    unpacked.digest = hex(hashing.take().finalize());
    Ok(unpacked)
}

fn read_entries<R: Read>(archive: &mut tar::Archive<R>, writer: &mut Writer<'_>) -> Result<(), BuildFailure> {
    let mut long = Long::default();
    for entry in archive.entries().map_err(unreadable)?.raw(true) {
        let mut entry = entry.map_err(unreadable)?;
        match entry.header().entry_type() {
            EntryType::GNULongName => long.path = Some(until_nul(metadata(&mut entry)?)),
            EntryType::GNULongLink => long.link = Some(until_nul(metadata(&mut entry)?)),
            EntryType::XHeader => long.extend(&metadata(&mut entry)?)?,
            EntryType::XGlobalHeader => drop(metadata(&mut entry)?),
            _ => writer.entry(&mut entry, &std::mem::take(&mut long))?,
        }
    }
    Ok(())
}

/// Names for the next entry that its own header has no room for.
#[derive(Default)]
struct Long {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

impl Long {
    fn extend(&mut self, block: &[u8]) -> Result<(), BuildFailure> {
        for extension in PaxExtensions::new(block) {
            let extension = extension.map_err(unreadable)?;
            match extension.key_bytes() {
                b"path" => self.path = Some(extension.value_bytes().to_vec()),
                b"linkpath" => self.link = Some(extension.value_bytes().to_vec()),
                // Writers need it beyond 8 GB only, which no limit allows; a smaller one hides entries from other readers.
                b"size" => return Err(refused("an entry claims two sizes")),
                key if key.starts_with(b"GNU.sparse") => return Err(refused("a sparse file is in it")),
                _ => {}
            }
        }
        Ok(())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Folder,
    File,
    Link,
}

struct Writer<'a> {
    order: &'a Unpack,
    unpacked: Unpacked,
    /// What stands at each path below the root; the root itself is "".
    kinds: BTreeMap<String, Kind>,
    entries: u64,
    bytes: u64,
}

impl Writer<'_> {
    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, long: &Long) -> Result<(), BuildFailure> {
        self.count()?;
        let raw = long.path.clone().unwrap_or_else(|| entry.path_bytes().into_owned());
        let path = path::of_entry(&raw).map_err(|why| refused(&why))?;
        let kind = entry.header().entry_type();
        let size = entry.size();
        if size > self.order.limits.unpacked_bytes.saturating_sub(self.bytes) {
            return Err(too_large(&self.order.limits));
        }
        match kind {
            EntryType::Directory => self.folder(&path),
            // Archives of the oldest kind mark a folder by its last character only.
            EntryType::Regular if raw.ends_with(b"/") => self.folder(&path),
            EntryType::Regular => self.file(entry, &path, size),
            EntryType::Symlink => {
                let target = match &long.link {
                    Some(target) => target.clone(),
                    None => entry.link_name_bytes().unwrap_or_default().into_owned(),
                };
                self.link(&path, &target)
            }
            EntryType::Link => Err(refused(&format!("{path:?} is a hard link"))),
            EntryType::Char | EntryType::Block => Err(refused(&format!("{path:?} is a device"))),
            EntryType::Fifo => Err(refused(&format!("{path:?} is a pipe"))),
            _ => Err(refused(&format!("{path:?} is neither a file nor a folder"))),
        }
    }

    fn count(&mut self) -> Result<(), BuildFailure> {
        self.entries += 1;
        let limit = self.order.limits.entries;
        if self.entries > limit {
            let text =
                format!("the upload holds more than {limit} files and folders: leave out what the app does not need with .railwayignore");
            return Err(BuildFailure::Limit(text));
        }
        Ok(())
    }

    /// The path below the root, or `None` when it is outside the part that is built.
    fn inside<'p>(&self, path: &'p str) -> Option<&'p str> {
        let root = self.order.root.as_str();
        if root.is_empty() {
            return Some(path);
        }
        let rest = path.strip_prefix(root)?;
        if rest.is_empty() { Some("") } else { rest.strip_prefix('/') }
    }

    fn folder(&mut self, path: &str) -> Result<(), BuildFailure> {
        match self.inside(path) {
            Some(path) => self.make_folders(path),
            None => Ok(()),
        }
    }

    /// Makes the folder and its parents. All of them are folders of this pass or do not exist.
    fn make_folders(&mut self, path: &str) -> Result<(), BuildFailure> {
        let ends = path.match_indices('/').map(|(at, _)| at).chain([path.len()]);
        self.kinds.insert(String::new(), Kind::Folder);
        for end in ends {
            let path = &path[..end];
            match self.kinds.get(path) {
                Some(Kind::Folder) => continue,
                Some(_) => return Err(refused(&format!("{path:?} is a folder and something else"))),
                None => self.count()?,
            }
            let on_disk = self.order.into.join(path);
            fs::DirBuilder::new().mode(0o755).create(&on_disk).map_err(|error| unwritable(&on_disk, &error))?;
            self.own(&on_disk).map_err(|error| unwritable(&on_disk, &error))?;
            self.kinds.insert(path.to_owned(), Kind::Folder);
            self.unpacked.paths.insert(path.to_owned());
        }
        Ok(())
    }

    /// Makes room for a file or link: the parent exists, and an older one of the same name is gone.
    fn claim(&mut self, path: &str, kind: Kind) -> Result<PathBuf, BuildFailure> {
        if path.is_empty() {
            return Err(refused("its root is not a folder"));
        }
        self.make_folders(path.rsplit_once('/').map_or("", |(parent, _)| parent))?;
        let on_disk = self.order.into.join(path);
        match self.kinds.insert(path.to_owned(), kind) {
            Some(Kind::Folder) => return Err(refused(&format!("{path:?} is a folder and something else"))),
            Some(_) => fs::remove_file(&on_disk).map_err(|error| unwritable(&on_disk, &error))?,
            None => {}
        }
        self.unpacked.paths.insert(path.to_owned());
        Ok(on_disk)
    }

    fn file<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>, path: &str, size: u64) -> Result<(), BuildFailure> {
        let executable = entry.header().mode().is_ok_and(|mode| mode & 0o111 != 0);
        let inside = self.inside(path).map(str::to_owned);
        let mut sink = Sink { file: None, hash: Sha256::new(), kept: None, full: None };
        if let Some(inside) = &inside {
            let on_disk = self.claim(inside, Kind::File)?;
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&on_disk);
            sink.file = Some(file.map_err(|error| unwritable(&on_disk, &error))?);
        }
        if self.order.keep.contains(path) && size <= KEPT_BYTES {
            sink.kept = Some(vec![]);
        }
        let copied = io::copy(&mut entry.by_ref(), &mut sink).map_err(|error| match sink.full.take() {
            Some(error) => unwritable(&self.order.into.join(path), &error),
            None => unreadable(error),
        })?;
        if copied != size {
            return Err(unreadable(io::ErrorKind::UnexpectedEof.into()));
        }
        self.bytes += size;
        if let Some(file) = &sink.file {
            let mode = if executable { 0o755 } else { 0o644 };
            let done = file.set_permissions(fs::Permissions::from_mode(mode)).and_then(|()| match self.owner() {
                Some(user) => fchown(file, Some(user.uid), Some(user.gid)),
                None => Ok(()),
            });
            done.map_err(|error| unwritable(&self.order.into.join(path), &error))?;
        }
        self.unpacked.manifest.files.insert(path.to_owned(), hex(sink.hash.finalize()));
        if let Some(bytes) = sink.kept {
            self.unpacked.kept.insert(path.to_owned(), bytes);
        }
        Ok(())
    }

    fn link(&mut self, path: &str, target: &[u8]) -> Result<(), BuildFailure> {
        let mut hash = Sha256::new();
        hash.update(b"link:");
        hash.update(target);
        self.unpacked.manifest.files.insert(path.to_owned(), hex(hash.finalize()));
        let Some(inside) = self.inside(path).map(str::to_owned) else { return Ok(()) };
        let target = path::of_link(&inside, target).map_err(|why| refused(&why))?;
        let on_disk = self.claim(&inside, Kind::Link)?;
        symlink(target, &on_disk).and_then(|()| self.own(&on_disk)).map_err(|error| unwritable(&on_disk, &error))
    }

    fn owner(&self) -> Option<UnixUser> {
        self.order.user.filter(|_| nix::unistd::geteuid().is_root())
    }

    fn own(&self, path: &Path) -> io::Result<()> {
        match self.owner() {
            Some(user) => lchown(path, Some(user.uid), Some(user.gid)),
            None => Ok(()),
        }
    }
}

/// Where the bytes of one file go.
struct Sink {
    file: Option<File>,
    hash: Sha256,
    kept: Option<Vec<u8>>,
    /// Why the file could not be written: not the archive's fault.
    full: Option<io::Error>,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.hash.update(bytes);
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(bytes);
        }
        if let Some(Err(error)) = self.file.as_mut().map(|file| file.write_all(bytes)) {
            self.full = Some(error);
            return Err(io::Error::other("not written"));
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Clone, Copy)]
enum End {
    TooLarge,
    Stopped,
}

/// Ends the reading at a number of bytes or when told to.
struct Bounded<'a, R> {
    inner: R,
    left: u64,
    end: Rc<Cell<Option<End>>>,
    stop: &'a AtomicBool,
}

impl<R: Read> Read for Bounded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            self.end.set(Some(End::Stopped));
            return Err(io::Error::other("stopped"));
        }
        let count = self.inner.read(buffer)?;
        match self.left.checked_sub(count as u64) {
            Some(left) => self.left = left,
            None => {
                self.end.set(Some(End::TooLarge));
                return Err(io::Error::other("too large"));
            }
        }
        Ok(count)
    }
}

struct Hashing<R> {
    inner: R,
    hash: Rc<Cell<Sha256>>,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        let mut hash = self.hash.take();
        hash.update(&buffer[..count]);
        self.hash.set(hash);
        Ok(count)
    }
}

fn metadata<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Vec<u8>, BuildFailure> {
    if entry.size() > METADATA_BYTES {
        return Err(refused("an entry's name is too long"));
    }
    let mut bytes = vec![];
    entry.read_to_end(&mut bytes).map_err(unreadable)?;
    Ok(bytes)
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    bytes
}

fn hex(bytes: impl AsRef<[u8]>) -> String {
    use std::fmt::Write as _;
    bytes.as_ref().iter().fold(String::with_capacity(64), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[expect(clippy::needless_pass_by_value, reason = "it is the function of map_err")]
fn unreadable(error: io::Error) -> BuildFailure {
    BuildFailure::Source(format!("the archive cannot be read: {error}; upload it again"))
}

fn refused(why: &str) -> BuildFailure {
    BuildFailure::Source(format!("the archive was refused: {why}; leave it out and upload again"))
}

fn unwritable(path: &Path, error: &io::Error) -> BuildFailure {
    match error.kind() {
        io::ErrorKind::InvalidFilename => refused("a name in it is too long"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            BuildFailure::Machine("the disk of this server is full: free space and deploy again".into())
        }
        _ => BuildFailure::io("writing", path, error),
    }
}

fn too_large(limits: &BuildLimits) -> BuildFailure {
    BuildFailure::Limit(format!(
        "the upload unpacks to more than {} MB: leave out what the app does not need with .railwayignore",
        limits.unpacked_bytes / 1_000_000
    ))
}
