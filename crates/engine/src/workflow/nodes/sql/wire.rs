//! What a database sends, as long as it is not too much: how large a row is, is known otherwise only after it was read.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The largest message of a database in bytes, and so the largest row.
pub(super) const MESSAGE: usize = 8 << 20;
/// What a database may send in answer to one query, in bytes.
const ALL: usize = 64 << 20;
/// A letter, and a length that counts itself and not the letter.
const HEADER: usize = 5;

/// The database sends more than is read of it.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct TooMuch(pub(super) String);

impl TooMuch {
    /// A row is beyond what one may have.
    pub(super) fn message() -> Self {
        Self(format!("a row is larger than {MESSAGE} bytes: ask for fewer or shorter columns"))
    }

    /// The reason behind an error of reading or writing, if it is this one.
    pub(super) fn behind<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a Self> {
        error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
    }
}

/// PostgreSQL's side of a connection. It ends where a message says that it is larger than one may be: the library would make room for
/// all of it at once.
pub(super) struct Wire<S> {
    stream: S,
    /// What has come of the next message's header, and how much that is.
    header: [u8; HEADER],
    known: usize,
    /// What is still to come of the present message, and of all.
    rest: usize,
    left: usize,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S) -> Self {
        Self { stream, header: [0; HEADER], known: 0, rest: 0, left: ALL }
    }

    fn look_at(&mut self, mut bytes: &[u8]) -> Result<(), TooMuch> {
        let all = || TooMuch(format!("the answer is larger than {ALL} bytes: ask for fewer rows"));
        self.left = self.left.checked_sub(bytes.len()).ok_or_else(all)?;
        while !bytes.is_empty() {
            let wanted = if self.rest > 0 { self.rest } else { HEADER - self.known };
            let (seen, more) = bytes.split_at(wanted.min(bytes.len()));
            bytes = more;
            if self.rest > 0 {
                self.rest -= seen.len();
                continue;
            }
            self.header[self.known..self.known + seen.len()].copy_from_slice(seen);
            self.known += seen.len();
            if self.known == HEADER {
                let [_, length @ ..] = self.header;
                let length = u32::from_be_bytes(length) as usize;
                if length > MESSAGE {
                    return Err(TooMuch::message());
                }
                (self.known, self.rest) = (0, length.saturating_sub(HEADER - 1));
            }
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buf))?;
        let seen = this.look_at(&buf.filled()[before..]);
        if seen.is_err() {
            // A read that fails has read nothing.
            buf.set_filled(before);
        }
        Poll::Ready(seen.map_err(io::Error::other))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn message(length: usize) -> Vec<u8> {
        let mut all = vec![b'D'];
        all.extend(u32::try_from(length + 4).unwrap().to_be_bytes());
        all.resize(HEADER + length, b'x');
        all
    }

    /// What comes through of all that is sent, in pieces of every size, and why it ends.
    async fn through(sent: Vec<u8>) -> Result<usize, String> {
        let (mut far, near) = tokio::io::duplex(4097);
        let sending = tokio::spawn(async move {
            // The other side may have had enough.
            let _ = far.write_all(&sent).await;
        });
        let mut wire = Wire::new(near);
        let mut got = vec![];
        let outcome = wire.read_to_end(&mut got).await;
        drop(wire);
        sending.await.unwrap();
        outcome.map_err(|error| TooMuch::behind(&error).map_or_else(|| error.to_string(), |much| much.0.clone()))
    }

    #[tokio::test]
    async fn messages_come_through_as_long_as_they_are_not_too_large() {
        let small: Vec<u8> = (0..5000).flat_map(|length| message(length % 13)).collect();
        let length = small.len();
        assert_eq!(through(small.clone()).await, Ok(length));
        let largest = message(MESSAGE - 4);
        assert_eq!(through(largest).await, Ok(MESSAGE + 1));
        let refused = through([small, message(MESSAGE)].concat()).await.unwrap_err();
        assert!(refused.contains("a row is larger"), "{refused}");
        // Nothing but the promise of two gigabytes.
        let refused = through(vec![b'D', 0x7f, 0xff, 0xff, 0xff]).await.unwrap_err();
        assert!(refused.contains("a row is larger"), "{refused}");
        let many: Vec<u8> = (0..9).flat_map(|_| message(MESSAGE - 4)).collect();
        let refused = through(many).await.unwrap_err();
        assert!(refused.contains("the answer is larger"), "{refused}");
    }
}
