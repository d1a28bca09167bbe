//! The bell: supervisors ring over a datagram socket, and the kernel rings when one of them ends.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::net::UnixDatagram;
use tokio::net::unix::pipe;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::proc::Identity;

/// The socket's name in the folder `run`.
pub(crate) const SOCKET: &str = "bell.sock";

/// Socket addresses are at most 107 bytes long and data directories are not: the folder is named by its handle.
pub(crate) fn address(folder: &File) -> String {
    format!("/proc/self/fd/{}/{SOCKET}", folder.as_raw_fd())
}

pub(super) struct Bell {
    rings: watch::Sender<u64>,
    watched: Arc<Mutex<HashSet<Identity>>>,
    /// Ended with the bell.
    tasks: Mutex<JoinSet<()>>,
}

impl Bell {
    /// Takes the socket over, also from a driver that has not ended yet.
    pub(super) fn hang(run: &Path) -> io::Result<Self> {
        let folder = File::open(run)?;
        match fs::remove_file(run.join(SOCKET)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let socket = UnixDatagram::bind(address(&folder))?;
        let (rings, _) = watch::channel(0);
        let mut tasks = JoinSet::new();
        tasks.spawn(listen(socket, rings.clone()));
        Ok(Self { rings, watched: Arc::default(), tasks: Mutex::new(tasks) })
    }

    pub(super) fn listen(&self) -> watch::Receiver<u64> {
        self.rings.subscribe()
    }

    /// Rings when the process ends: a supervisor that is killed cannot do it itself.
    pub(super) fn watch(&self, process: Identity) {
        let mut watched = self.watched.lock().unwrap_or_else(PoisonError::into_inner);
        if watched.contains(&process) || !process.is_alive().unwrap_or(false) {
            return;
        }
        let handle = i32::try_from(process.pid).ok().and_then(Pid::from_raw).map(|pid| pidfd_open(pid, PidfdFlags::NONBLOCK));
        // Gone already, or a kernel without such handles: the next observation tells in any case.
        let Some(Ok(handle)) = handle else { return };
        // Tokio's pipe is its one way to wait for any descriptor that owns itself; nothing is ever read from it.
        let Ok(handle) = pipe::Receiver::from_owned_fd_unchecked(handle) else { return };
        watched.insert(process);
        let (rings, watched) = (self.rings.clone(), self.watched.clone());
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while tasks.try_join_next().is_some() {}
        tasks.spawn(async move {
            // It becomes readable once, when the process ends.
            let ended = handle.readable().await.is_ok();
            watched.lock().unwrap_or_else(PoisonError::into_inner).remove(&process);
            if ended {
                ring(&rings);
            }
        });
    }
}

async fn listen(socket: UnixDatagram, rings: watch::Sender<u64>) {
    let mut name = [0; 64];
    // The socket fails only when it is closed, which happens with this task.
    while socket.recv(&mut name).await.is_ok() {
        ring(&rings);
    }
}

fn ring(rings: &watch::Sender<u64>) {
    rings.send_modify(|count| *count = count.wrapping_add(1));
}
