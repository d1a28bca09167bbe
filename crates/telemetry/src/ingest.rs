//! From a replica's spool into the store, each line exactly once.
//!
//! How far a spool is read is stored in the transaction that stores its lines. Whatever happens between two transactions, the next attempt
//! goes on at the line behind the last stored one. A segment is deleted only when all its lines are on disk for sure.

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use domain::log::{LogLine, LogSource, Severity, SpoolLine, parse_line};
use uuid::Uuid;

use crate::spool::{self, Item};
use crate::write::{Progress, Writer};
use crate::{Shared, TelemetryError, requests};

/// How far a spool is read.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Position {
    pub(crate) segment: i64,
    /// In bytes.
    pub(crate) at: i64,
    /// The last line that was stored with it: the greater one is the later.
    pub(crate) seq: i64,
    /// The spool's folder: when that is gone, so is the use of the position.
    pub(crate) dir: PathBuf,
}

/// What was brought in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ingested {
    /// Lines of the app.
    pub lines: u64,
    /// Lines of the spool that could not be read; a line of the log says so where they would have been.
    pub unreadable: u64,
}

/// A step of an ingest.
pub(crate) struct Chunk {
    pub(crate) ingested: Ingested,
    /// There is more to read now.
    pub(crate) more: bool,
}

/// What is in a spool.
pub(crate) enum Spool {
    /// The output of a replica.
    Output(LogSource),
    /// Requests that an edge of this region has answered.
    Requests { region: String },
}

impl Spool {
    /// Under which its position is kept.
    fn key(&self) -> Uuid {
        match self {
            Self::Output(source) => source.replica_id.map_or(source.deployment_id.0, |id| id.0),
            Self::Requests { .. } => Uuid::nil(),
        }
    }
}

/// Lines of a segment that are to be stored.
struct Piece {
    lines: Vec<LogLine>,
    ends: Vec<u64>,
    /// Where the next one begins, whether or not anything of this one is kept.
    end: u64,
    ingested: Ingested,
    exhausted: bool,
}

impl Writer {
    /// Brings in the next piece of a spool.
    pub(crate) fn ingest(&mut self, shared: &Shared, spool: &Spool, dir: &Path) -> Result<Chunk, TelemetryError> {
        self.claim(shared)?;
        let dir = std::path::absolute(dir).map_err(TelemetryError::io(dir))?;
        let replica = spool.key();
        let position = self.positions(shared)?.get(&replica).cloned();
        let (segment, at) = position.as_ref().map_or((0, 0), |position| (position.segment, position.at));
        // Looked at before the file is read: a segment that had a successor by then does not grow any more.
        let segments = spool::segments(&dir).map_err(TelemetryError::io(&dir))?;
        for done in segments.iter().filter(|number| **number < segment) {
            self.delete_segment(shared, &dir, *done)?;
        }
        let Some(current) = segments.iter().copied().find(|number| *number >= segment) else {
            return Ok(Chunk { ingested: Ingested::default(), more: false });
        };
        let path = spool::path_of(&dir, current);
        let finished = segments.last() != Some(&current);
        let offset = if current == segment { u64::try_from(at).unwrap_or(0) } else { 0 };
        // Segments are numbered without a gap.
        let gap = position.is_some() && current > segment + 1;
        let piece = match start_of(&path, offset).and_then(|offset| self.read(spool, &path, offset, finished, gap)) {
            Ok(piece) => piece,
            // A supervisor whose spool is full deletes the oldest segment.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Chunk { ingested: Ingested::default(), more: true }),
            Err(source) => return Err(TelemetryError::Io { path, source }),
        };
        let Piece { lines, ends, end, ingested, exhausted } = piece;
        if !lines.is_empty() {
            self.store(shared, lines, Some(&Progress { replica, dir: &dir, segment: current, ends: &ends }))?;
        } else if end != offset {
            // In memory only: after a restart it is passed over once more.
            let (at, seq) = (i64::try_from(end).unwrap_or(i64::MAX), position.map_or(0, |position| position.seq));
            self.positions(shared)?.insert(replica, Position { segment: current, at, seq, dir: dir.clone() });
        }
        if exhausted && finished {
            self.delete_segment(shared, &dir, current)?;
            // Also when it held nothing: the next one follows it without a gap.
            if let Some(position) = self.positions(shared)?.get_mut(&replica) {
                position.segment = current;
            }
        }
        Ok(Chunk { ingested, more: !exhausted || finished })
    }

    fn read(&mut self, spool: &Spool, path: &Path, offset: u64, finished: bool, gap: bool) -> std::io::Result<Piece> {
        match spool {
            Spool::Output(source) => {
                let piece = spool::read(path, offset, finished, spool::parse)?;
                let end = piece.items.last().map_or(offset, |item| item.end);
                let (lines, ends, ingested) = lines_of(source, piece.items, gap, path);
                Ok(Piece { lines, ends, end, ingested, exhausted: piece.exhausted })
            }
            Spool::Requests { region } => {
                let piece = spool::read(path, offset, finished, requests::parse)?;
                let end = piece.items.last().map_or(offset, |item| item.end);
                let (lines, ends, unreadable) = requests::lines_of(piece.items, region, &mut self.pace);
                let ingested = Ingested { lines: lines.len() as u64, unreadable };
                Ok(Piece { lines, ends, end, ingested, exhausted: piece.exhausted })
            }
        }
    }

    fn delete_segment(&mut self, shared: &Shared, dir: &Path, segment: i64) -> Result<(), TelemetryError> {
        self.sync(shared)?;
        let path = spool::path_of(dir, segment);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(TelemetryError::Io { path, source: error }),
            _ => Ok(()),
        }
    }

    /// The latest position of every replica whose spool still exists.
    pub(crate) fn positions(&mut self, shared: &Shared) -> Result<&mut HashMap<Uuid, Position>, TelemetryError> {
        if self.positions.is_none() {
            let mut found = HashMap::<Uuid, Position>::new();
            for key in shared.files().into_keys() {
                for (replica, position) in shared.positions_in(key)? {
                    if found.get(&replica).is_none_or(|known| known.seq < position.seq) {
                        found.insert(replica, position);
                    }
                }
            }
            found.retain(|_, position| position.dir.try_exists().unwrap_or(true));
            self.positions = Some(found);
        }
        Ok(self.positions.get_or_insert_default())
    }
}

/// A spool that is shorter than what was read of it lost its end in a power cut; what comes is new.
fn start_of(path: &Path, offset: u64) -> std::io::Result<u64> {
    let length = std::fs::metadata(path)?.len();
    if length < offset {
        tracing::warn!(path = %path.display(), offset, length, "a log segment is shorter than what was read of it; going on at its end");
    }
    Ok(offset.min(length))
}

/// The lines of a piece and where each ends. Neighbours that cannot be read become one line that says so, and so does a gap before them.
fn lines_of(source: &LogSource, items: Vec<Item<SpoolLine>>, gap: bool, path: &Path) -> (Vec<LogLine>, Vec<u64>, Ingested) {
    let (mut lines, mut ends, mut ingested) = (vec![], vec![], Ingested::default());
    let first = items.iter().find_map(|item| item.line.as_ref()).map(|line| line.nanos);
    if gap && let Some(nanos) = first {
        let message = "older lines of this log were dropped: they were not read in time".to_owned();
        lines.push(LogLine { nanos, source: source.clone(), severity: Severity::Warn, message, attributes: vec![] });
        ends.push(0);
    }
    let mut items = items.into_iter().peekable();
    let mut nanos = None;
    while let Some(Item { line, mut end }) = items.next() {
        let (severity, message, attributes) = if let Some(line) = line {
            ingested.lines += 1;
            nanos = Some(line.nanos);
            parse_line(&line.message, if line.error { Severity::Error } else { Severity::Info })
        } else {
            let mut count = 1;
            while let Some(next) = items.next_if(|next| next.line.is_none()) {
                count += 1;
                end = next.end;
            }
            ingested.unreadable += count;
            nanos = nanos.or_else(|| items.peek().and_then(|next| next.line.as_ref()).map(|line| line.nanos));
            let text = if count == 1 { "1 line of this log was".to_owned() } else { format!("{count} lines of this log were") };
            (Severity::Warn, format!("{text} damaged and could not be read"), vec![])
        };
        let nanos = nanos.unwrap_or_else(|| modified(path));
        lines.push(LogLine { nanos, source: source.clone(), severity, message, attributes });
        ends.push(end);
    }
    (lines, ends, ingested)
}

fn modified(path: &Path) -> i64 {
    let modified = std::fs::metadata(path).and_then(|meta| meta.modified()).ok();
    let since = modified.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.and_then(|since| i64::try_from(since.as_nanos()).ok()).unwrap_or(0)
}
