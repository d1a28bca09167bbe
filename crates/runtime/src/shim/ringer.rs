//! The supervisor's end of the bell.

use std::fs::File;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;

use crate::process::bell_address;

/// Rings for output are this far apart, so that a talkative app does not keep the control plane busy.
const PAUSE: Duration = Duration::from_millis(50);

/// Rings without waiting: nobody may be listening, and what is new is in the files in any case.
pub(super) struct Ringer {
    socket: Option<(UnixDatagram, String, File)>,
    name: String,
    last: Option<Instant>,
    pending: bool,
}

impl Ringer {
    pub(super) fn new(run: &Path, name: &str) -> Self {
        let open = || {
            let folder = File::open(run)?;
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            std::io::Result::Ok((socket, bell_address(&folder), folder))
        };
        Self { socket: open().ok(), name: name.to_owned(), last: None, pending: false }
    }

    /// Rings for a change of state.
    pub(super) fn now(&mut self) {
        if let Some((socket, address, _)) = &self.socket {
            // No driver, or one with a full mailbox that is going to look anyway.
            let _ = socket.send_to(self.name.as_bytes(), address);
        }
        (self.last, self.pending) = (Some(Instant::now()), false);
    }

    /// Rings for output, at once or a little later together with what comes until then.
    pub(super) fn output(&mut self) {
        if self.last.is_none_or(|last| last.elapsed() >= PAUSE) { self.now() } else { self.pending = true }
    }

    /// When [`Self::tick`] is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.last.filter(|_| self.pending).map(|last| last + PAUSE)
    }

    pub(super) fn tick(&mut self) {
        self.now();
    }
}
