//! The head of the index of SQLite's write-ahead log: <https://sqlite.org/walformat.html>, 2.1.
//!
//! Every process that has the database open maps this file into its memory, and every commit of any of them changes the head. Looking at
//! it there costs some loads, where a read of the file costs a system call and asking the library costs locks, on every request.

use std::fs::File;
use std::mem::ManuallyDrop;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use memmap2::{MmapOptions, MmapRaw};

/// The head as far as it is looked at, in words of eight bytes: two of version and count, two of sizes, checksum and salts.
const WORDS: usize = 5;
/// In the second word: whether the head has been written.
const IS_INIT: usize = 4;

/// The head, mapped. Use it no longer than a connection to the database is open: the last one removes the file, and the library cuts it
/// down only while nobody else has it.
pub(super) struct WalIndex {
    head: MmapRaw,
    /// Never closed. Closing any descriptor of this file would give up every lock that SQLite has on it in this process, by which others
    /// know that it is in use and must not be cut down.
    _file: ManuallyDrop<File>,
}

impl WalIndex {
    /// `None` when there is no such file, or no head in it.
    pub(super) fn open(path: &Path) -> Option<Self> {
        let file = ManuallyDrop::new(File::open(path).ok()?);
        let enough = file.metadata().ok()?.len() >= size_of::<[u64; WORDS]>() as u64;
        let map = || MmapOptions::new().len(size_of::<[u64; WORDS]>()).map_raw_read_only(&*file).ok();
        let head = enough.then(map).flatten()?;
        Some(Self { head, _file: file })
    }

    /// A number that is another one after every commit; `None` while nobody has written to the log.
    pub(super) fn version(&self) -> Option<u64> {
        let [_, first, rest @ ..] = self.words();
        // A head that is read while it is written is like no other: what is kept under it is not found again.
        let mix = |mixed: u64, word: u64| mixed.rotate_left(17) ^ word.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        (first.to_ne_bytes()[IS_INIT] == 1).then(|| rest.into_iter().fold(mix(0, first), mix))
    }

    #[allow(unsafe_code)]
    fn words(&self) -> [u64; WORDS] {
        let start = self.head.as_mut_ptr().cast::<u64>();
        let words = std::array::from_fn(|at| {
            // SAFETY: a page holds all words and begins where a word may; `open` saw that the file is that long, and it stays so while a
            // connection is open. Other processes write there by atomic stores or under SQLite's locks; a relaxed load may read what is
            // mapped for reading only.
            unsafe { AtomicU64::from_ptr(start.add(at)) }.load(Ordering::Relaxed)
        });
        fence(Ordering::Acquire);
        words
    }
}
