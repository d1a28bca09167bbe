//! The build log: lines in order, secrets replaced, length and rate limited.

use std::time::{Duration, Instant};

use domain::redact::Redactor;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::{BuildLine, Cancel, Lines};

/// Longer lines are cut here.
const LINE_BYTES: usize = 64 * 1024;
/// Bytes that are kept per second, and at once after a quiet time: builds and apps share the room for logs.
const BYTES_PER_SECOND: usize = 1 << 20;
const BURST_BYTES: usize = 8 << 20;
/// Read beyond the cut, so that a secret across it is still recognised.
const MARGIN: usize = 8 * 1024;

/// Where everything that people read of a build goes.
pub(crate) struct Output {
    lines: Lines,
    cancel: Cancel,
    redactor: Redactor,
    rate: Rate,
}

impl Output {
    pub(crate) fn new(lines: Lines, cancel: Cancel, redactor: Redactor, lines_per_second: u32) -> Self {
        Self { lines, cancel, redactor, rate: Rate::new(lines_per_second, Instant::now()) }
    }

    /// A line of ours.
    pub(crate) async fn say(&mut self, message: impl Into<String>) {
        self.flush_notice().await;
        self.send(false, message.into()).await;
    }

    /// The last line of a build that failed.
    pub(crate) async fn end(&mut self, error: bool, message: String) {
        self.flush_notice().await;
        let line = BuildLine { error, message: self.redactor.apply(message) };
        // Also sent after a cancellation. Without a reader nobody misses it.
        let _ = self.lines.send_timeout(line, Duration::from_secs(1)).await;
    }

    /// A line of a command.
    pub(crate) async fn line(&mut self, error: bool, bytes: Vec<u8>) {
        match self.rate.admit(Instant::now(), bytes.len()) {
            Admission::Yes => self.send(error, visible(bytes, &self.redactor)).await,
            Admission::YesAfter(dropped) => {
                self.notice(dropped).await;
                self.send(error, visible(bytes, &self.redactor)).await;
            }
            Admission::No => {}
        }
    }

    async fn flush_notice(&mut self) {
        let dropped = std::mem::take(&mut self.rate.dropped);
        if dropped > 0 {
            self.notice(dropped).await;
        }
    }

    async fn notice(&mut self, dropped: u64) {
        let bytes = if std::mem::take(&mut self.rate.heavy) { " and 1 MB" } else { "" };
        let text = format!("{dropped} lines of output were dropped: the limit is {} lines{bytes} per second and build", self.rate.limit);
        self.send(true, text).await;
    }

    async fn send(&self, error: bool, message: String) {
        let line = BuildLine { error, message: self.redactor.apply(message) };
        tokio::select! {
            // A reader that is gone does not end the build: its result counts.
            _ = self.lines.send(line) => {}
            () = self.cancel.cancelled() => {}
        }
    }
}

struct Rate {
    limit: u32,
    since: Instant,
    count: u32,
    /// Bytes that may come before the next second.
    room: usize,
    dropped: u64,
    /// Some of them were too much in bytes, not in lines.
    heavy: bool,
}

enum Admission {
    Yes,
    YesAfter(u64),
    No,
}

impl Rate {
    fn new(lines_per_second: u32, now: Instant) -> Self {
        Self { limit: lines_per_second.max(1), since: now, count: 0, room: BURST_BYTES, dropped: 0, heavy: false }
    }

    fn admit(&mut self, now: Instant, bytes: usize) -> Admission {
        let seconds = now.duration_since(self.since).as_secs();
        if seconds > 0 {
            (self.since, self.count) = (now, 0);
            let more = usize::try_from(seconds).unwrap_or(usize::MAX).saturating_mul(BYTES_PER_SECOND);
            self.room = BURST_BYTES.min(self.room.saturating_add(more));
        }
        if self.count >= self.limit || self.room == 0 {
            self.heavy |= self.count < self.limit;
            self.dropped += 1;
            return Admission::No;
        }
        self.count += 1;
        self.room = self.room.saturating_sub(bytes.min(LINE_BYTES));
        match std::mem::take(&mut self.dropped) {
            0 => Admission::Yes,
            dropped => Admission::YesAfter(dropped),
        }
    }
}

/// What a terminal would show in the end: the text after the last carriage return.
fn visible(mut bytes: Vec<u8>, redactor: &Redactor) -> String {
    while bytes.last() == Some(&b'\r') {
        bytes.pop();
    }
    let shown = bytes.rsplit(|byte| *byte == b'\r').next().unwrap_or_default();
    let mut text = redactor.apply(String::from_utf8_lossy(shown).into_owned());
    if text.len() > LINE_BYTES {
        text.truncate(text.floor_char_boundary(LINE_BYTES));
    }
    text
}

/// Takes a pipe apart into lines with bounded memory. Every method can be dropped at an await without losing bytes.
pub(crate) struct LineReader<R> {
    pipe: R,
    buffer: Vec<u8>,
    /// The rest of a line that was cut is thrown away.
    skipping: bool,
    ended: bool,
}

impl<R: AsyncRead + Unpin> LineReader<R> {
    pub(crate) fn new(pipe: R) -> Self {
        Self { pipe, buffer: vec![], skipping: false, ended: false }
    }

    /// Nothing more will come.
    pub(crate) fn ended(&self) -> bool {
        self.ended && self.buffer.is_empty()
    }

    /// The next line without its end; `None` at the end of the pipe.
    pub(crate) async fn next(&mut self) -> Option<Vec<u8>> {
        loop {
            if let Some(at) = self.buffer.iter().position(|byte| *byte == b'\n') {
                let mut line: Vec<u8> = self.buffer.drain(..=at).collect();
                line.pop();
                if !std::mem::take(&mut self.skipping) {
                    return Some(line);
                }
                continue;
            }
            if self.skipping {
                self.buffer.clear();
            } else if self.buffer.len() > LINE_BYTES + MARGIN {
                self.skipping = true;
                return Some(std::mem::take(&mut self.buffer));
            }
            if self.ended {
                let rest = std::mem::take(&mut self.buffer);
                return Some(rest).filter(|rest| !rest.is_empty());
            }
            // An error of a pipe is its end.
            self.ended = !matches!(self.pipe.read_buf(&mut self.buffer).await, Ok(count) if count > 0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_has_room_for_so_many_lines_and_bytes() {
        let begun = Instant::now();
        let at = |seconds| begun + Duration::from_secs(seconds);
        let mut rate = Rate::new(1_000, begun);
        let mut kept = |now, count: usize, bytes: usize| -> (usize, bool) {
            let kept = (0..count).filter(|_| !matches!(rate.admit(now, bytes), Admission::No)).count();
            (kept, std::mem::take(&mut rate.heavy))
        };
        assert_eq!(kept(at(0), 1_500, 10), (1_000, false));
        let long = 1 << 16;
        assert_eq!(kept(at(60), 900, long), (BURST_BYTES / long, true));
        assert_eq!(kept(at(61), 900, long), (BYTES_PER_SECOND / long, true));
        assert_eq!(kept(at(61), 1, 10), (0, true), "until the next second");
        assert_eq!(kept(at(62), 900, 10), (900, false));
    }
}
