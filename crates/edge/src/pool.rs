//! Open connections to replicas. Each thread has its own pool, so nothing here is locked.

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use domain::ReplicaId;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::Limits;
use crate::routes::LiveTable;
use crate::watch::Watch;

/// One replica's unused connections above this number are closed: more than that only a burst leaves behind.
const KEPT: usize = 1024;
/// How large the headers of an answer may be, and how much of an answer waits for a slow client.
const BUFFER: usize = 64 * 1024;

pub(crate) type Sender = http1::SendRequest<Upload>;

/// The body of a request on its way to a replica.
pub(crate) struct Upload {
    /// None when a request that has no body is sent again.
    incoming: Option<Incoming>,
    watch: Arc<Watch>,
}

impl Upload {
    pub(crate) fn new(incoming: Incoming, watch: Arc<Watch>) -> Self {
        Self { incoming: Some(incoming), watch }
    }

    pub(crate) fn none(watch: Arc<Watch>) -> Self {
        Self { incoming: None, watch }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        let polled = Pin::new(incoming).poll_frame(cx);
        if let Poll::Ready(Some(Ok(frame))) = &polled {
            self.watch.received(frame.data_ref().map_or(0, Bytes::len));
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Body::size_hint)
    }
}

struct Idle {
    sender: Sender,
    address: SocketAddr,
    since: Instant,
}

/// A thread's unused connections by replica.
#[derive(Default)]
pub(crate) struct Pool {
    idle: RefCell<HashMap<ReplicaId, Vec<Idle>>>,
}

impl Pool {
    /// A connection that has been unused for at most `age` and can take a request now; the one used last is the least likely to be closed.
    pub(crate) fn take(&self, replica: ReplicaId, address: SocketAddr, age: Duration) -> Option<Sender> {
        let mut pool = self.idle.borrow_mut();
        let idle = pool.get_mut(&replica)?;
        let now = Instant::now();
        for index in (0..idle.len()).rev() {
            let entry = &idle[index];
            if entry.sender.is_closed() || entry.address != address {
                idle.remove(index);
            } else if now.duration_since(entry.since) > age {
                return None;
            } else if entry.sender.is_ready() {
                return Some(idle.remove(index).sender);
            }
        }
        None
    }

    /// Keeps a connection whose request is complete, unless the table has dropped its replica in the meantime.
    pub(crate) fn put(&self, replica: ReplicaId, address: SocketAddr, sender: Sender, table: &LiveTable) {
        if sender.is_closed() || !table.has(replica, address) {
            return;
        }
        let mut pool = self.idle.borrow_mut();
        let idle = pool.entry(replica).or_default();
        if idle.len() < KEPT {
            idle.push(Idle { sender, address, since: Instant::now() });
        }
    }

    /// Closes what the table no longer names.
    pub(crate) fn keep_only(&self, table: &LiveTable) {
        self.idle.borrow_mut().retain(|replica, idle| {
            idle.retain(|entry| table.has(*replica, entry.address));
            !idle.is_empty()
        });
    }

    /// Closes what has been unused for too long.
    pub(crate) fn sweep(&self, limits: &Limits) {
        let now = Instant::now();
        self.idle.borrow_mut().retain(|_, idle| {
            idle.retain(|entry| !entry.sender.is_closed() && now.duration_since(entry.since) < limits.pool_idle);
            !idle.is_empty()
        });
    }
}

/// Opens a connection to a replica. `upgradable` ones can switch protocols and are used once.
///
/// # Errors
/// When nothing listens there or the handshake takes too long. No byte of a request was sent then.
pub(crate) async fn connect(address: SocketAddr, upgradable: bool, limits: &Limits) -> io::Result<Sender> {
    let stream =
        tokio::time::timeout(limits.connect, TcpStream::connect(address)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    let (sender, connection) =
        http1::Builder::new().max_buf_size(BUFFER).handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    // The end of a connection reaches whoever uses it as the error of its request, and the pool as `is_closed`.
    if upgradable {
        tokio::task::spawn_local(async { drop(connection.with_upgrades().await) });
    } else {
        tokio::task::spawn_local(async { drop(connection.await) });
    }
    Ok(sender)
}
