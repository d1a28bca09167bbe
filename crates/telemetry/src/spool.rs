//! The files into which a supervisor writes its replica's output: `NNNNNN.log`, one JSON object a line, only the last one growing.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use domain::log::SpoolLine;

/// How much is read at once.
const CHUNK: u64 = 256 << 10;
/// A line may be so long; longer ones are left out.
const MAX_LINE: u64 = 1 << 20;
/// Times outside of this range are no times of a clock that works.
pub(crate) const MAX_NANOS: i64 = 9_000_000_000_000_000_000;

/// Some lines of a segment.
#[derive(Debug, PartialEq)]
pub(crate) struct Piece<T> {
    pub(crate) items: Vec<Item<T>>,
    /// Nothing more is to be read from the segment now.
    pub(crate) exhausted: bool,
}

/// A line of a segment and where it ends.
#[derive(Debug, PartialEq)]
pub(crate) struct Item<T> {
    /// `None` when it cannot be read.
    pub(crate) line: Option<T>,
    pub(crate) end: u64,
}

/// The segments of a replica in order. None when the folder is gone.
pub(crate) fn segments(dir: &Path) -> io::Result<Vec<i64>> {
    let entries = match std::fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(error),
    };
    let mut found = vec![];
    for entry in entries {
        let name = entry?.file_name();
        found.extend(name.to_str().and_then(number_of));
    }
    found.sort_unstable();
    Ok(found)
}

fn number_of(name: &str) -> Option<i64> {
    let digits = name.strip_suffix(".log")?;
    let number: i64 = digits.parse().ok()?;
    (format!("{number:06}") == digits && number >= 0).then_some(number)
}

pub(crate) fn path_of(dir: &Path, segment: i64) -> PathBuf {
    dir.join(format!("{segment:06}.log"))
}

/// A line of a replica's output.
pub(crate) fn parse(bytes: &[u8]) -> Option<SpoolLine> {
    serde_json::from_slice::<SpoolLine>(bytes).ok().filter(|line| (1..=MAX_NANOS).contains(&line.nanos))
}

/// Reads on from `offset`. A last line without its end is left for later, unless the segment is `finished`.
pub(crate) fn read<T>(path: &Path, offset: u64, finished: bool, parse: fn(&[u8]) -> Option<T>) -> io::Result<Piece<T>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut buffer = Vec::new();
    let mut limit = CHUNK;
    file.by_ref().take(CHUNK).read_to_end(&mut buffer)?;
    if !buffer.contains(&b'\n') {
        limit = MAX_LINE;
        file.by_ref().take(MAX_LINE - buffer.len() as u64).read_to_end(&mut buffer)?;
    }
    let exhausted = (buffer.len() as u64) < limit;
    let mut items = vec![];
    let mut at = 0;
    while let Some(length) = buffer[at..].iter().position(|byte| *byte == b'\n') {
        items.push(Item { line: parse(&buffer[at..at + length]), end: offset + (at + length) as u64 + 1 });
        at += length + 1;
    }
    let rest = &buffer[at..];
    if exhausted && finished && !rest.is_empty() {
        items.push(Item { line: parse(rest), end: offset + buffer.len() as u64 });
    }
    if !exhausted && items.is_empty() {
        return skip(file, offset + buffer.len() as u64, finished);
    }
    Ok(Piece { items, exhausted })
}

/// Leaves out a line that is too long, once its end is there.
fn skip<T>(file: File, mut end: u64, finished: bool) -> io::Result<Piece<T>> {
    let mut reader = BufReader::new(file);
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            let items = if finished { vec![Item { line: None, end }] } else { vec![] };
            return Ok(Piece { items, exhausted: true });
        }
        let newline = buffer.iter().position(|byte| *byte == b'\n');
        let used = newline.map_or(buffer.len(), |at| at + 1);
        reader.consume(used);
        end += used as u64;
        if newline.is_some() {
            return Ok(Piece { items: vec![Item { line: None, end }], exhausted: false });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(piece: &Piece<SpoolLine>) -> Vec<Option<&str>> {
        piece.items.iter().map(|item| item.line.as_ref().map(|line| line.message.as_str())).collect()
    }

    #[test]
    fn what_is_no_line_is_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        let path = path_of(dir.path(), 1);
        let long = format!("{{\"n\":3,\"m\":\"{}\"}}\n", "x".repeat(MAX_LINE as usize));
        let start = "{\"n\":1,\"m\":\"one\"}\n\n\u{0}\u{0}\n{\"n\":0,\"m\":\"no time\"}\n{\"n\":2,\"e\":true,\"m\":\"two\"}\n";
        std::fs::write(&path, format!("{start}{long}{{\"n\":4,\"m\":\"four\"}}\n{{\"n\":5,\"m\":\"fi")).unwrap();

        let first = read(&path, 0, false, parse).unwrap();
        assert_eq!(texts(&first), [Some("one"), None, None, None, Some("two")]);
        assert_eq!(first.items[4].end, start.len() as u64);
        let second = read(&path, start.len() as u64, false, parse).unwrap();
        assert_eq!((texts(&second), second.items[0].end), (vec![None], (start.len() + long.len()) as u64));
        let third = read(&path, second.items[0].end, false, parse).unwrap();
        assert_eq!((texts(&third), third.exhausted), (vec![Some("four")], true));
        let last = read(&path, third.items[0].end, true, parse).unwrap();
        assert_eq!((texts(&last), last.exhausted), (vec![None], true));
        assert_eq!(last.items[0].end, std::fs::metadata(&path).unwrap().len());
        assert_eq!(read(&path, last.items[0].end, true, parse).unwrap(), Piece { items: vec![], exhausted: true });
    }

    #[test]
    fn only_numbered_files_are_segments() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["000002.log", "000010.log", "1000000.log", "000003.log.tmp", "state", "1.log", "-00001.log", "0000004.log"] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        assert_eq!(segments(dir.path()).unwrap(), [2, 10, 1_000_000]);
        assert!(segments(&dir.path().join("none")).unwrap().is_empty());
    }
}
