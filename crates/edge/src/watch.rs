//! Watches the bytes that a client sends, beside hyper.
//!
//! Two things cannot be had from hyper itself. It drops a `Content-Length` that comes with a `Transfer-Encoding` before we see the request
//! (safe, but an attempt at smuggling deserves a refusal), and its one timer for headers also runs while a connection is idle. So the socket
//! is wrapped: [`Scanner`] follows where heads and bodies begin and end, and [`Watch`] is what it knows, shared with the connection's task.

use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

use crate::Limits;

/// The state of one client connection. Everything happens on one thread; the atomics are only there because hyper wants `Send` sockets.
#[derive(Debug)]
pub(crate) struct Watch {
    epoch: Instant,
    /// Heads that were read to their end.
    heads: AtomicU64,
    /// Requests that the proxy began to answer.
    begun: AtomicU64,
    /// Requests whose answer is complete or given up.
    ended: AtomicU64,
    /// The first request (by number) that must be refused.
    refuse_from: AtomicU64,
    /// A head has begun and is not complete.
    partial: AtomicBool,
    /// When the connection went idle or the present head began, in ms since `epoch`.
    since: AtomicU64,
    /// When the proxy last had reason to expect an answer from a replica, 0 if it waits for none.
    waiting: AtomicU64,
    expired: AtomicBool,
    /// The connection now speaks another protocol.
    detached: AtomicBool,
    /// Bytes of the present request's body so far.
    received: AtomicU64,
}

/// What the connection's timer has to do.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Due {
    At(Instant),
    /// The client has taken too long over its headers or has been idle for too long.
    Close,
    /// The replica has taken too long: poll the proxy, which now sees [`Watch::expired`].
    Expire,
}

impl Watch {
    pub(crate) fn new(epoch: Instant) -> Self {
        let watch = Self {
            epoch,
            heads: AtomicU64::new(0),
            begun: AtomicU64::new(0),
            ended: AtomicU64::new(0),
            refuse_from: AtomicU64::new(u64::MAX),
            // A new connection gets the time of a head, not that of an idle connection.
            partial: AtomicBool::new(true),
            since: AtomicU64::new(0),
            waiting: AtomicU64::new(0),
            expired: AtomicBool::new(false),
            detached: AtomicBool::new(false),
            received: AtomicU64::new(0),
        };
        watch.since.store(watch.now(), Relaxed);
        watch
    }

    fn now(&self) -> u64 {
        // At least 1, because 0 means "not waiting".
        u64::try_from(self.epoch.elapsed().as_millis()).map_or(u64::MAX, |ms| ms.max(1))
    }

    /// Begins a request; whether it may be passed on.
    pub(crate) fn begin(&self) -> bool {
        self.received.store(0, Relaxed);
        self.expired.store(false, Relaxed);
        self.begun.fetch_add(1, Relaxed) < self.refuse_from.load(Relaxed)
    }

    /// Ends a request, however it went.
    pub(crate) fn end(&self) {
        self.waiting.store(0, Relaxed);
        self.ended.fetch_add(1, Relaxed);
        self.since.store(self.now(), Relaxed);
    }

    /// From now on an answer of a replica is due.
    pub(crate) fn wait(&self) {
        self.waiting.store(self.now(), Relaxed);
    }

    /// The answer has begun, or is no longer waited for.
    pub(crate) fn answered(&self) {
        self.waiting.store(0, Relaxed);
    }

    pub(crate) fn expired(&self) -> bool {
        self.expired.load(Relaxed)
    }

    /// Counts a piece of the request's body, which also gives the replica more time.
    pub(crate) fn received(&self, bytes: usize) {
        self.received.fetch_add(bytes as u64, Relaxed);
        if self.waiting.load(Relaxed) != 0 {
            self.wait();
        }
    }

    pub(crate) fn received_bytes(&self) -> u64 {
        self.received.load(Relaxed)
    }

    pub(crate) fn detach(&self) {
        self.detached.store(true, Relaxed);
    }

    pub(crate) fn due(&self, limits: &Limits) -> Due {
        let after = |ms: u64, limit: Duration| self.epoch + Duration::from_millis(ms) + limit;
        let now = Instant::now();
        let (deadline, then) = match self.waiting.load(Relaxed) {
            0 if self.detached.load(Relaxed) || self.heads.load(Relaxed) > self.ended.load(Relaxed) => {
                // Nothing is waited for now; whatever begins later is due no earlier than this.
                return Due::At(now + limits.shortest());
            }
            0 if self.partial.load(Relaxed) => (after(self.since.load(Relaxed), limits.header_read), Due::Close),
            0 => (after(self.since.load(Relaxed), limits.idle), Due::Close),
            since => (after(since, limits.first_byte), Due::Expire),
        };
        if now < deadline {
            // Something else may begin before that, and be due before that.
            return Due::At(deadline.min(now + limits.shortest()));
        }
        if then == Due::Expire {
            self.waiting.store(0, Relaxed);
            self.expired.store(true, Relaxed);
        }
        then
    }
}

/// A client's socket that is watched.
pub(crate) struct Watched<S> {
    stream: S,
    scanner: Scanner,
    watch: Arc<Watch>,
    /// For how long the rest of a request that was answered early is thrown away.
    linger: Duration,
    /// Set while that is so.
    lingering: Option<Pin<Box<Sleep>>>,
}

impl<S> Watched<S> {
    pub(crate) fn new(stream: S, watch: Arc<Watch>, linger: Duration) -> Self {
        Self { stream, scanner: Scanner::default(), watch, linger, lingering: None }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let polled = Pin::new(&mut this.stream).poll_read(cx, buf);
        if polled.is_ready() && !this.watch.detached.load(Relaxed) {
            this.scanner.scan(&buf.filled()[before..], &this.watch);
        }
        polled
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.note_write(polled.is_ready());
        polled
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, bufs: &[io::IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let polled = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.note_write(polled.is_ready());
        polled
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    /// Closing a socket on which unread bytes wait resets it, and the client may never see the answer (say, that its upload is refused). So when a
    /// request was not read to its end, what still comes is read and thrown away for a moment.
    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.lingering.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
            if this.scanner.at_boundary() || this.watch.detached.load(Relaxed) {
                return Poll::Ready(Ok(()));
            }
        }
        let linger = this.linger;
        let limit = this.lingering.get_or_insert_with(|| Box::pin(tokio::time::sleep(linger)));
        let mut scrap = [MaybeUninit::uninit(); 16 * 1024];
        loop {
            if limit.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut scrap = ReadBuf::uninit(&mut scrap);
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut scrap)) {
                Ok(()) if !scrap.filled().is_empty() => {}
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

impl<S> Watched<S> {
    /// A client that still takes the end of an answer is not idle.
    fn note_write(&self, wrote: bool) {
        if wrote && !self.scanner.in_head() {
            self.watch.since.store(self.watch.now(), Relaxed);
        }
    }
}

/// Which part of the stream comes next.
#[derive(Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Head,
    /// So many bytes of a body, or of a chunk with its line end.
    Fixed {
        left: u64,
        then_chunk: bool,
    },
    ChunkSize,
    Trailer,
    /// Not HTTP as we know it: the request that is being read is refused, or hyper refuses it.
    Lost,
}

/// Only the beginning of a line matters: a name and a number.
const LINE_KEPT: usize = 64;

#[derive(Debug, Default)]
struct Scanner {
    part: Part,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    lines: u32,
    length: Option<u64>,
    has_length: bool,
    chunked: bool,
}

impl Scanner {
    /// Everything that was read belongs to complete requests.
    fn at_boundary(&self) -> bool {
        self.part == Part::Head && !self.in_head()
    }

    fn in_head(&self) -> bool {
        self.part == Part::Head && (self.lines > 0 || !self.line.is_empty())
    }

    fn scan(&mut self, mut bytes: &[u8], watch: &Watch) {
        let had_begun = self.in_head();
        while !bytes.is_empty() {
            if let Part::Fixed { left, then_chunk } = &mut self.part {
                let taken = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= taken as u64;
                bytes = &bytes[taken..];
                if *left == 0 {
                    self.part = if *then_chunk { Part::ChunkSize } else { Part::Head };
                }
                continue;
            }
            if self.part == Part::Lost {
                return;
            }
            let end = memchr::memchr(b'\n', bytes);
            let piece = &bytes[..end.unwrap_or(bytes.len())];
            let Some(end) = end else {
                let room = LINE_KEPT - self.line.len().min(LINE_KEPT);
                self.line.extend_from_slice(&piece[..piece.len().min(room)]);
                break;
            };
            if self.line.is_empty() {
                self.take_line(piece, watch);
            } else {
                let mut line = std::mem::take(&mut self.line);
                let room = LINE_KEPT - line.len().min(LINE_KEPT);
                line.extend_from_slice(&piece[..piece.len().min(room)]);
                self.take_line(&line, watch);
                line.clear();
                self.line = line;
            }
            bytes = &bytes[end + 1..];
        }
        let began = self.in_head();
        watch.partial.store(began, Relaxed);
        if began && !had_begun {
            watch.since.store(watch.now(), Relaxed);
        }
    }

    fn take_line(&mut self, line: &[u8], watch: &Watch) {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.part {
            Part::Head => self.take_head_line(line, watch),
            Part::ChunkSize => {
                let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                let size = number(&line[..digits], 16);
                self.part = match size {
                    Some(0) => Part::Trailer,
                    // The data and its CRLF.
                    Some(size) => Part::Fixed { left: size.saturating_add(2), then_chunk: true },
                    None => self.lost(watch),
                };
            }
            Part::Trailer if line.is_empty() => self.part = Part::Head,
            Part::Trailer | Part::Fixed { .. } | Part::Lost => {}
        }
    }

    fn take_head_line(&mut self, line: &[u8], watch: &Watch) {
        if !line.is_empty() {
            self.lines += 1;
            if self.lines == 1 {
                return;
            }
            if let Some(value) = header(line, b"content-length:") {
                self.has_length = true;
                self.length = number(value.trim_ascii(), 10);
            } else if header(line, b"transfer-encoding:").is_some() {
                self.chunked = true;
            }
            return;
        }
        if self.lines == 0 {
            return;
        }
        let doubtful = self.chunked && self.has_length;
        self.part = match (self.chunked, self.has_length, self.length) {
            (true, ..) => Part::ChunkSize,
            (false, false, _) | (false, true, Some(0)) => Part::Head,
            (false, true, Some(left)) => Part::Fixed { left, then_chunk: false },
            (false, true, None) => self.lost(watch),
        };
        if doubtful {
            watch.refuse_from.fetch_min(watch.heads.load(Relaxed), Relaxed);
        }
        watch.heads.fetch_add(1, Relaxed);
        (self.lines, self.length, self.has_length, self.chunked) = (0, None, false, false);
    }

    /// What hyper reads from here on may not be what is meant: nothing of it may reach an app.
    fn lost(&self, watch: &Watch) -> Part {
        watch.refuse_from.fetch_min(watch.heads.load(Relaxed), Relaxed);
        Part::Lost
    }
}

/// Digits only: a sign, which the standard parser would take, means that somebody else reads the number differently.
fn number(text: &[u8], radix: u32) -> Option<u64> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    u64::from_str_radix(text, radix).ok()
}

fn header<'a>(line: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let (start, value) = line.split_at_checked(name.len())?;
    start.eq_ignore_ascii_case(name).then_some(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused_from(stream: &str, step: usize) -> (u64, u64) {
        let (mut scanner, watch) = (Scanner::default(), Watch::new(Instant::now()));
        for piece in stream.as_bytes().chunks(step) {
            scanner.scan(piece, &watch);
        }
        (watch.heads.load(Relaxed), watch.refuse_from.load(Relaxed))
    }

    #[test]
    fn heads_are_found_between_bodies_however_the_bytes_arrive() {
        let fixed = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 30\r\n\r\nTransfer-Encoding: x\r\n\r\n123456";
        let chunked =
            "POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n1a;x=y\r\nContent-Length: 5\r\n\r\nabcde\r\n0\r\nTrailer: 1\r\n\r\n";
        let plain = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let both = "POST / HTTP/1.1\r\nCONTENT-LENGTH: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
        for step in [1, 2, 3, 7, 50, 10_000] {
            assert_eq!(refused_from(&format!("{plain}{fixed}{chunked}{plain}"), step), (4, u64::MAX), "in steps of {step}");
            assert_eq!(refused_from(&format!("{fixed}{plain}{chunked}{both}{plain}"), step), (5, 3), "in steps of {step}");
        }
    }

    #[test]
    fn an_unreadable_length_refuses_the_request() {
        assert_eq!(refused_from("POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\nhello", 100).1, 0);
    }
}
