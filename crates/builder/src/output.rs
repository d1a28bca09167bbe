//! The build log: lines in order, secrets replaced, length and rate limited.

use std::time::{Duration, Instant};

use domain::redact::Redactor;
use tokio::io::{AsyncRead, AsyncReadExt};

use crate::{BuildLine, Cancel, Lines};

/// Longer lines are cut here.
const LINE_BYTES: usize = 64 * 1024;
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
        Self { lines, cancel, redactor, rate: Rate { limit: lines_per_second.max(1), since: Instant::now(), count: 0, dropped: 0 } }
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
        match self.rate.admit(Instant::now()) {
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
        let text = format!("{dropped} lines of output were dropped: the limit is {} lines per second and build", self.rate.limit);
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
    dropped: u64,
}

enum Admission {
    Yes,
    YesAfter(u64),
    No,
}

impl Rate {
    fn admit(&mut self, now: Instant) -> Admission {
        if now.duration_since(self.since) >= Duration::from_secs(1) {
            (self.since, self.count) = (now, 0);
        }
        if self.count >= self.limit {
            self.dropped += 1;
            return Admission::No;
        }
        self.count += 1;
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
