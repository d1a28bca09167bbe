//! The app's output on disk: segments of JSON lines ([`SpoolLine`]) that the log store reads and deletes.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use domain::log::SpoolLine;
use domain::redact::Redactor;
use tokio::time::Instant;

/// Lines that are kept per second.
const LINES_PER_SECOND: u32 = 500;
const SECOND: Duration = Duration::from_secs(1);
/// Bytes that are kept per second as they are on the disk: all apps share the room for logs.
const BYTES_PER_SECOND: u64 = 1 << 20;
/// What an app that was quiet may say at once.
const BURST_BYTES: u64 = 8 << 20;
/// A segment that has reached this size is closed and the next one begun.
const SEGMENT_BYTES: u64 = 1 << 20;
/// Segments that nobody has read are kept up to this size together, the newest of them.
const KEPT_BYTES: u64 = 64 << 20;

/// Appends lines.
pub(super) struct Spool {
    folder: PathBuf,
    redactor: Redactor,
    segment: Option<File>,
    number: u64,
    bytes: u64,
    /// Time of the last line: the next one's is later, whatever the clock does.
    nanos: i64,
    buffer: Vec<u8>,
    second: Instant,
    lines: u32,
    /// Bytes that may be written before the next second.
    room: u64,
    dropped: u64,
    /// Some of them were too much in bytes, not in lines.
    heavy: bool,
}

impl Spool {
    /// Continues after the segments that are there.
    pub(super) fn open(folder: &Path, redactor: Redactor) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        let segments = segments(folder)?;
        Ok(Self {
            // A segment is only ever written by one supervisor: the last line of an older one may be incomplete.
            number: segments.last().map_or(0, |(number, ..)| number + 1),
            nanos: segments.iter().rev().find_map(|(_, path, _)| last_nanos(path)).unwrap_or(0),
            folder: folder.to_owned(),
            redactor,
            segment: None,
            bytes: 0,
            buffer: vec![],
            second: Instant::now(),
            lines: 0,
            room: BURST_BYTES,
            dropped: 0,
            heavy: false,
        })
    }

    /// Takes a line of the app's, unless it has said too much this second.
    pub(super) fn line(&mut self, error: bool, text: &[u8]) {
        let elapsed = self.second.elapsed();
        if elapsed >= SECOND {
            self.tick();
            (self.second, self.lines) = (Instant::now(), 0);
            self.room = BURST_BYTES.min(self.room.saturating_add(elapsed.as_secs().saturating_mul(BYTES_PER_SECOND)));
        }
        if self.lines >= LINES_PER_SECOND || self.room == 0 {
            self.heavy |= self.lines < LINES_PER_SECOND;
            self.dropped += 1;
            return;
        }
        self.lines += 1;
        let text = self.redactor.apply(String::from_utf8_lossy(text).into_owned());
        let before = self.buffer.len();
        self.push(error, text);
        self.room = self.room.saturating_sub((self.buffer.len() - before) as u64);
    }

    /// Writes a line of the supervisor's own.
    pub(super) fn note(&mut self, error: bool, text: &str) {
        self.tick();
        self.push(error, text.to_owned());
        self.flush();
    }

    /// When [`Self::tick`] is due.
    pub(super) fn due(&self) -> Option<Instant> {
        (self.dropped > 0).then(|| self.second + SECOND)
    }

    /// Tells of lines that were dropped.
    pub(super) fn tick(&mut self) {
        if self.dropped > 0 {
            let bytes = if std::mem::take(&mut self.heavy) { " and 1 MB" } else { "" };
            let limit = format!("the limit is {LINES_PER_SECOND} lines{bytes} per second and replica");
            let text = format!("{} log lines were dropped: {limit}", self.dropped);
            self.dropped = 0;
            self.push(true, text);
            self.flush();
        }
    }

    fn push(&mut self, error: bool, message: String) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_nanos()).unwrap_or(i64::MAX));
        self.nanos = now.max(self.nanos + 1);
        let line = SpoolLine { nanos: self.nanos, error, message };
        // Numbers and text always have a JSON form, and a vector takes everything.
        if serde_json::to_writer(&mut self.buffer, &line).is_ok() {
            self.buffer.push(b'\n');
        }
    }

    /// Writes what was taken. What the disk refuses is lost and counted: the app must not wait for it.
    pub(super) fn flush(&mut self) {
        if self.buffer.is_empty() {
            return;
        }
        if let Err(_full) = self.write() {
            self.dropped += self.buffer.iter().filter(|byte| **byte == b'\n').count() as u64;
            // What was written of it ends in the middle of a line, which a new segment puts behind.
            self.segment = None;
            // The notice waits for the next second, like everything that is dropped.
            self.second = Instant::now();
        }
        self.buffer.clear();
        self.buffer.shrink_to(LONGEST_BUFFER);
    }

    fn write(&mut self) -> io::Result<()> {
        if self.segment.is_none() {
            let path = self.folder.join(format!("{:06}.log", self.number));
            self.segment = Some(File::options().create_new(true).append(true).open(path)?);
            (self.number, self.bytes) = (self.number + 1, 0);
            self.prune()?;
        }
        if let Some(segment) = &mut self.segment {
            segment.write_all(&self.buffer)?;
            self.bytes += self.buffer.len() as u64;
        }
        if self.bytes >= SEGMENT_BYTES {
            self.segment = None;
        }
        Ok(())
    }

    /// Nobody reads: the oldest output goes.
    fn prune(&self) -> io::Result<()> {
        let segments = segments(&self.folder)?;
        let mut bytes: u64 = segments.iter().map(|(.., bytes)| bytes).sum();
        for (_, path, size) in segments {
            if bytes <= KEPT_BYTES {
                break;
            }
            // Its reader may have deleted it meanwhile.
            let _ = fs::remove_file(path);
            bytes -= size;
        }
        Ok(())
    }
}

/// Room that the buffer keeps between writes.
const LONGEST_BUFFER: usize = 64 * 1024;

/// Number, path and size of every segment, oldest first.
fn segments(folder: &Path) -> io::Result<Vec<(u64, PathBuf, u64)>> {
    let mut found = vec![];
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let number = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".log")?.parse().ok());
        if let (Some(number), Ok(meta)) = (number, fs::metadata(&path)) {
            found.push((number, path, meta.len()));
        }
    }
    found.sort();
    Ok(found)
}

/// The time of the last complete line.
fn last_nanos(path: &Path) -> Option<i64> {
    let text = fs::read(path).ok()?;
    let mut lines = text.split(|byte| *byte == b'\n').rev();
    lines.find_map(|line| serde_json::from_slice::<SpoolLine>(line).ok()).map(|line| line.nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(folder: &Path) -> Vec<SpoolLine> {
        let texts = segments(folder).expect("a folder").into_iter().map(|(_, path, _)| fs::read_to_string(path).expect("text"));
        texts.flat_map(|text| text.lines().map(|line| serde_json::from_str(line).expect("a line")).collect::<Vec<_>>()).collect()
    }

    #[tokio::test]
    async fn time_goes_on_across_supervisors_and_torn_lines() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut spool = Spool::open(folder.path(), Redactor::default()).expect("a spool");
        spool.line(false, b"one");
        spool.nanos = i64::MAX / 2;
        spool.line(true, b"two");
        spool.flush();
        let mut first = File::options().append(true).open(folder.path().join("000000.log")).expect("a segment");
        first.write_all(br#"{"n":7,"m":"to"#).expect("room");

        let mut spool = Spool::open(folder.path(), Redactor::default()).expect("a spool");
        spool.line(false, b"three");
        spool.flush();
        let text = fs::read_to_string(folder.path().join("000001.log")).expect("a new segment");
        let line: SpoolLine = serde_json::from_str(text.trim()).expect("a line");
        assert_eq!((line.message.as_str(), line.nanos), ("three", i64::MAX / 2 + 2));
    }

    #[tokio::test]
    async fn unread_output_is_bounded_and_the_newest_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        for number in 0..80 {
            let segment = File::create(folder.path().join(format!("{number:06}.log"))).expect("a segment");
            segment.set_len(SEGMENT_BYTES).expect("room");
        }
        let mut spool = Spool::open(folder.path(), Redactor::default()).expect("a spool");
        spool.note(false, "the newest");
        let kept = segments(folder.path()).expect("a folder");
        assert_eq!(kept.iter().map(|(number, ..)| *number).collect::<Vec<_>>(), (16..=80).collect::<Vec<_>>());
        assert!(fs::read_to_string(&kept.last().expect("segments").1).expect("text").contains("the newest"));
    }

    #[tokio::test]
    async fn a_flood_of_bytes_is_cut_visibly_like_one_of_lines() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut spool = Spool::open(folder.path(), Redactor::default()).expect("a spool");
        let text = "x".repeat(60_000);
        // However long this takes, no further second comes.
        spool.second = Instant::now() + 1000 * SECOND;
        // Fewer than a second takes, and more bytes than there is room for.
        (0..400).for_each(|_| spool.line(false, text.as_bytes()));
        spool.line(false, b"one too many");
        spool.note(false, "the end");
        let lines = read(folder.path());
        let told: u64 = lines
            .iter()
            .filter_map(|line| line.message.strip_suffix(" log lines were dropped: the limit is 500 lines and 1 MB per second and replica"))
            .map(|count| count.parse::<u64>().expect("a number"))
            .sum();
        let kept = lines.iter().filter(|line| line.message == text).count() as u64;
        assert_eq!(kept + told, 401, "{told} were told");
        assert!(told > 0 && lines.last().is_some_and(|line| line.message == "the end"));
    }

    #[tokio::test]
    async fn a_full_segment_is_followed_by_the_next() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut spool = Spool::open(folder.path(), Redactor::default()).expect("a spool");
        let text = "x".repeat(300_000);
        (0..8).for_each(|_| spool.note(false, &text));
        let lines = read(folder.path());
        assert!(lines.len() == 8 && lines.windows(2).all(|pair| pair[0].nanos < pair[1].nanos));
        assert_eq!(segments(folder.path()).expect("a folder").len(), 2);
    }
}
