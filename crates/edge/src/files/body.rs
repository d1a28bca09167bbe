//! The content of a file as the body of an answer: small ones at once, large ones piece by piece.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::task::JoinHandle;

/// Read in one piece, by the thread that answers: such a file is most likely in memory.
const SMALL: u64 = 128 * 1024;
/// Otherwise read in such pieces, when the client takes them, by threads that may wait for the disk.
const PIECE: u64 = 256 * 1024;

/// The rest of an answer.
pub(super) struct FileBody {
    ready: Option<Bytes>,
    /// What is still to be read.
    rest: Option<(std::sync::Arc<File>, Range<u64>)>,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
    left: u64,
}

impl FileBody {
    pub(super) fn empty() -> Self {
        Self { ready: None, rest: None, reading: None, left: 0 }
    }

    pub(super) fn from_static(text: &'static str) -> Self {
        Self { ready: Some(Bytes::from_static(text.as_bytes())), left: text.len() as u64, ..Self::empty() }
    }

    /// # Errors
    /// When a small file cannot be read.
    pub(super) fn of(file: File, bytes: Range<u64>) -> io::Result<Self> {
        let left = bytes.end - bytes.start;
        if left <= SMALL {
            return Ok(Self { ready: Some(read(&file, &bytes)?), left, ..Self::empty() });
        }
        Ok(Self { rest: Some((std::sync::Arc::new(file), bytes)), left, ..Self::empty() })
    }
}

fn read(file: &File, bytes: &Range<u64>) -> io::Result<Bytes> {
    let mut buffer = vec![0; usize::try_from(bytes.end - bytes.start).map_err(io::Error::other)?];
    file.read_exact_at(&mut buffer, bytes.start)?;
    Ok(buffer.into())
}

impl Body for FileBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        let this = self.get_mut();
        if this.left == 0 {
            return Poll::Ready(None);
        }
        if let Some((file, bytes)) = &mut this.rest
            && this.reading.is_none()
            && bytes.start < bytes.end
        {
            let piece = bytes.start..bytes.end.min(bytes.start + PIECE);
            bytes.start = piece.end;
            let file = std::sync::Arc::clone(file);
            this.reading = Some(tokio::task::spawn_blocking(move || read(&file, &piece)));
        }
        let piece = match (&mut this.reading, this.ready.take()) {
            (_, Some(ready)) => Ok(ready),
            (Some(reading), None) => {
                let done = ready!(Pin::new(reading).poll(cx));
                this.reading = None;
                done.map_err(io::Error::other).flatten()
            }
            (None, None) => return Poll::Ready(None),
        };
        this.left = this.left.saturating_sub(piece.as_ref().map_or(this.left, |piece| piece.len() as u64));
        Poll::Ready(Some(piece.map(Frame::data)))
    }

    fn is_end_stream(&self) -> bool {
        self.left == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.left)
    }
}
