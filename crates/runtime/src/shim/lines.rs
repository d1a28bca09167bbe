//! Bytes into lines.

/// A line that is longer is split.
pub(super) const LONGEST: usize = 64 * 1024;

/// The beginning of a line whose end has not been seen.
#[derive(Default)]
pub(super) struct Lines {
    begun: Vec<u8>,
}

impl Lines {
    /// Gives every line that is complete now, without its end.
    pub(super) fn feed(&mut self, mut bytes: &[u8], mut line: impl FnMut(&[u8])) {
        while let Some(end) = memchr::memchr(b'\n', bytes) {
            self.extend(&bytes[..end], &mut line);
            if self.begun.last() == Some(&b'\r') {
                self.begun.pop();
            }
            line(&self.begun);
            self.begun.clear();
            bytes = &bytes[end + 1..];
        }
        self.extend(bytes, &mut line);
    }

    /// Gives what is left when nothing more comes.
    pub(super) fn finish(&mut self, mut line: impl FnMut(&[u8])) {
        if !self.begun.is_empty() {
            line(&self.begun);
        }
        // An app that has ended does not need the room.
        self.begun = Vec::new();
    }

    fn extend(&mut self, bytes: &[u8], line: &mut impl FnMut(&[u8])) {
        self.begun.extend_from_slice(bytes);
        while self.begun.len() > LONGEST {
            let end = character_boundary(&self.begun, LONGEST);
            line(&self.begun[..end]);
            self.begun.drain(..end);
        }
    }
}

/// The last place at or before `at` that does not cut a character of UTF-8.
fn character_boundary(bytes: &[u8], at: usize) -> usize {
    let start = (at.saturating_sub(3)..=at).rev().find(|at| bytes[*at] & 0b1100_0000 != 0b1000_0000);
    start.unwrap_or(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(chunks: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut seen) = (Lines::default(), vec![]);
        for chunk in chunks {
            lines.feed(chunk, |line| seen.push(String::from_utf8_lossy(line).into_owned()));
        }
        lines.finish(|line| seen.push(String::from_utf8_lossy(line).into_owned()));
        seen
    }

    #[test]
    fn lines_are_found_across_reads() {
        assert_eq!(lines(&[b"on", b"e\r\n\ntw", b"o\nrest"]), ["one", "", "two", "rest"]);
        assert_eq!(lines(&[b"end\n"]), ["end"]);
        assert_eq!(lines(&[b"\xff\xfe!\n"]), ["\u{fffd}\u{fffd}!"]);
    }

    #[test]
    fn long_lines_are_split_between_characters() {
        let text = "é".repeat(LONGEST);
        let seen = lines(&[b"x", text.as_bytes(), b"\n"]);
        assert!(seen.iter().all(|line| line.len() <= LONGEST));
        assert_eq!(seen.concat(), format!("x{text}"));
    }
}
