//! TCP ports that lead to one replica each, such as a database's: bytes both ways, whatever they mean.
//!
//! They are few and their connections live long, so they have one listener each, on the control thread's runtime. A connection is not a
//! request in flight: a server that is asked to end closes its own.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::metric::MetricSource;
use domain::routing::TcpRoute;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio_util::io::InspectReader;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::listen;
use crate::worker::Shared;

/// A client waits so long for a replica: a server over a volume is away for a moment while it is replaced.
const PATIENCE: Duration = Duration::from_secs(15);
/// A port that somebody else holds is tried again after so long.
const TAKEN: Duration = Duration::from_millis(200);
/// What a connection carries is counted so much later at the most.
const TOLD: Duration = Duration::from_secs(2);

/// The ports that are listened on.
pub(crate) struct Ports {
    shared: Arc<Shared>,
    /// Where public ports are opened: on every address that takes HTTP.
    public: Vec<IpAddr>,
    open: Mutex<HashMap<u16, Port>>,
}

struct Port {
    route: watch::Sender<TcpRoute>,
    /// Dropping it ends the listener; connections go on.
    _listening: DropGuard,
}

impl Ports {
    pub(crate) fn new(shared: Arc<Shared>, listen: &[SocketAddr]) -> Self {
        let mut public: Vec<IpAddr> = listen.iter().map(SocketAddr::ip).collect();
        public.sort_unstable();
        public.dedup();
        Self { shared, public, open: Mutex::default() }
    }

    /// Listens on exactly these ports from now on. Must be called inside a tokio runtime.
    pub(crate) fn apply(&self, routes: &BTreeMap<u16, TcpRoute>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|port, held| routes.get(port).is_some_and(|route| route.public == held.route.borrow().public));
        for (port, route) in routes {
            match open.get(port) {
                Some(held) => drop(held.route.send_if_modified(|known| {
                    let differs = known != route;
                    known.clone_from(route);
                    differs
                })),
                None => drop(open.insert(*port, self.listen(*port, route))),
            }
        }
    }

    fn listen(&self, port: u16, route: &TcpRoute) -> Port {
        let (sender, receiver) = watch::channel(route.clone());
        let stop = CancellationToken::new();
        let loopback = [IpAddr::from(Ipv4Addr::LOCALHOST)];
        let addresses = if route.public { &self.public[..] } else { &loopback[..] };
        for address in addresses {
            let (shared, receiver, stop) = (Arc::clone(&self.shared), receiver.clone(), stop.clone());
            let address = SocketAddr::from((*address, port));
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = accept(shared, address, receiver) => {}
                }
            });
        }
        Port { route: sender, _listening: stop.drop_guard() }
    }
}

async fn bind(address: SocketAddr) -> TcpListener {
    let mut told = false;
    loop {
        // Without sharing: another server's port must not get half of its connections here.
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) if !told => {
                told = true;
                tracing::warn!(%address, %error, "a TCP port cannot be listened on; it is tried again");
            }
            Err(_) => {}
        }
        tokio::time::sleep(TAKEN).await;
    }
}

async fn accept(shared: Arc<Shared>, address: SocketAddr, route: watch::Receiver<TcpRoute>) {
    let listener = bind(address).await;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                if shared.connections.fetch_add(1, Relaxed) >= shared.max_connections {
                    shared.connections.fetch_sub(1, Relaxed);
                    continue;
                }
                let place = Place(Arc::clone(&shared));
                let route = route.clone();
                tokio::spawn(async move {
                    let place = place;
                    if let Err(error) = forward(&place.0, stream, route).await {
                        tracing::debug!(%error, %address, "a TCP connection ended");
                    }
                });
            }
            Err(error) => {
                tracing::debug!(%error, %address, "a connection was lost before it was accepted");
                // Nothing tells when a file descriptor becomes free.
                if listen::is_exhausted(&error) {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    }
}

/// A connection's place among `max_connections`.
struct Place(Arc<Shared>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

/// Bytes of a connection that are not in the tally yet: from the client, and to it.
#[derive(Default)]
struct Carried {
    rx: AtomicU64,
    tx: AtomicU64,
    /// Rings for the first of them: who carries nothing for hours is not asked.
    some: Notify,
}

impl Carried {
    fn count(&self, of: &AtomicU64, part: &[u8]) {
        if of.fetch_add(part.len() as u64, Relaxed) == 0 {
            self.some.notify_one();
        }
    }

    /// Comes when there is something to settle, and has been for a while.
    async fn due(&self) {
        self.some.notified().await;
        tokio::time::sleep(TOLD).await;
    }

    fn settle(&self, shared: &Shared, source: Option<MetricSource>) {
        let (rx, tx) = (self.rx.swap(0, Relaxed), self.tx.swap(0, Relaxed));
        if let Some(source) = source.filter(|_| rx + tx > 0) {
            shared.tally.carried(source, rx, tx, domain::Timestamp::now());
        }
    }
}

async fn forward(shared: &Shared, client: TcpStream, mut route: watch::Receiver<TcpRoute>) -> io::Result<()> {
    listen::tune(&client)?;
    let reached = tokio::time::timeout(PATIENCE, reach(&mut route)).await;
    let Some(server) = reached.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))? else { return Ok(()) };
    listen::tune(&server)?;
    let (source, carried) = (route.borrow().source, Carried::default());
    let mut client = InspectReader::new(client, |part| carried.count(&carried.rx, part));
    let mut server = InspectReader::new(server, |part| carried.count(&carried.tx, part));
    let mut copying = std::pin::pin!(tokio::io::copy_bidirectional(&mut client, &mut server));
    // A connection can last for weeks: what it carries is told while it does.
    let ended = loop {
        tokio::select! {
            ended = &mut copying => break ended,
            () = carried.due() => carried.settle(shared, source),
        }
    };
    carried.settle(shared, source);
    ended.map(drop)
}

/// A connection to a replica, as soon as there is one that takes it; `None` when the port is taken away.
async fn reach(route: &mut watch::Receiver<TcpRoute>) -> Option<TcpStream> {
    loop {
        let targets: Vec<SocketAddr> = route.borrow_and_update().targets.iter().map(|target| target.address).collect();
        for address in targets {
            if let Ok(stream) = TcpStream::connect(address).await {
                return Some(stream);
            }
        }
        tokio::select! {
            changed = route.changed() => changed.ok()?,
            // A server that is restarting is in the table all the time.
            () = tokio::time::sleep(TAKEN) => {}
        }
    }
}
