//! Sockets: accepting within limits, and stopping without cutting anybody off.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use domain::network::visitor;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

const CONNECTIONS: usize = 2048;

/// Of one visitor; a reverse proxy on another machine counts as one.
const CONNECTIONS_OF_ONE: u32 = 1024;

const HEADER_BYTES: usize = 64 * 1024;

/// For the whole head of a request, and for the silence between two.
const HEADER_PATIENCE: Duration = Duration::from_secs(30);

/// For requests that are under way when the server stops.
const GRACE: Duration = Duration::from_secs(10);

/// What a request's connection knows, as an extension of the request.
#[derive(Clone, Debug)]
pub(crate) struct Peer {
    /// The other end of the socket.
    pub(crate) address: SocketAddr,
    /// Cancelled when the server stops: what outlives its request, a websocket, ends then.
    pub(crate) shutdown: CancellationToken,
}

/// Serves until `shutdown` is cancelled, then lets requests under way finish for ten seconds.
///
/// # Errors
/// A listener that cannot be used at all. A failing connection is that connection's affair.
pub async fn serve(listeners: Vec<TcpListener>, router: Router, shutdown: CancellationToken) -> io::Result<()> {
    for listener in &listeners {
        listener.local_addr()?;
    }
    let doors = Arc::new(Doors { all: Arc::new(Semaphore::new(CONNECTIONS)), of: Mutex::default() });
    let connections = TaskTracker::new();
    let mut accepting = vec![];
    for listener in &listeners {
        accepting.push(accept(listener, &router, &doors, &connections, &shutdown));
    }
    futures::future::join_all(accepting).await;
    drop(listeners);
    connections.close();
    connections.wait().await;
    Ok(())
}

/// Who is in.
struct Doors {
    all: Arc<Semaphore>,
    of: Mutex<HashMap<IpAddr, u32>>,
}

/// One connection's place, given back when it is dropped.
struct Place {
    doors: Arc<Doors>,
    address: IpAddr,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    fn take(doors: &Arc<Doors>, address: IpAddr, permit: OwnedSemaphorePermit) -> Option<Self> {
        let address = visitor(address);
        let mut of = doors.of.lock().unwrap_or_else(PoisonError::into_inner);
        let count = of.entry(address).or_default();
        if *count >= CONNECTIONS_OF_ONE {
            return None;
        }
        *count += 1;
        Some(Self { doors: doors.clone(), address, _permit: permit })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut of = self.doors.of.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = of.get_mut(&self.address) {
            *count -= 1;
            if *count == 0 {
                of.remove(&self.address);
            }
        }
    }
}

async fn accept(listener: &TcpListener, router: &Router, doors: &Arc<Doors>, connections: &TaskTracker, shutdown: &CancellationToken) {
    loop {
        let arrived = tokio::select! {
            () = shutdown.cancelled() => return,
            arrived = next(listener, doors) => arrived,
        };
        match arrived {
            Ok((stream, peer, permit)) => {
                // A stream without a place is closed by being dropped.
                if let Some(place) = Place::take(doors, peer.ip(), permit) {
                    connections.spawn(connection(stream, peer, router.clone(), place, shutdown.clone()));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                // Out of file descriptors, most likely. There is no event to wait for, and trying at once would spin.
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn next(listener: &TcpListener, doors: &Doors) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = doors.all.clone().acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = listener.accept().await?;
    Ok((stream, peer, permit))
}

async fn connection(stream: TcpStream, peer: SocketAddr, router: Router, place: Place, shutdown: CancellationToken) {
    // Without it answers wait for the client's acknowledgements; a socket that is gone already will say so below.
    let _ = stream.set_nodelay(true);
    let known = Peer { address: peer, shutdown: shutdown.clone() };
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(known.clone());
        router.clone().oneshot(request.map(Body::new))
    });
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(HEADER_PATIENCE).max_header_size(HEADER_BYTES).max_buf_size(2 * HEADER_BYTES);
    let mut served = std::pin::pin!(builder.serve_connection(TokioIo::new(stream), service).with_upgrades());
    let outcome = tokio::select! {
        outcome = served.as_mut() => outcome,
        () = shutdown.cancelled() => {
            served.as_mut().graceful_shutdown();
            match tokio::time::timeout(GRACE, served).await {
                Ok(outcome) => outcome,
                Err(_) => {
                    tracing::info!(%peer, "a connection was closed before its request was answered");
                    Ok(())
                }
            }
        }
    };
    if let Err(error) = outcome {
        // Clients go away in many ways; none of them is a fault of ours.
        tracing::debug!(%peer, %error, "a connection ended early");
    }
    drop(place);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_visitor_with_many_addresses_has_no_more_places() {
        let doors = Arc::new(Doors { all: Arc::new(Semaphore::new(CONNECTIONS)), of: Mutex::default() });
        let enter = |address: &str| Place::take(&doors, address.parse().unwrap(), doors.all.clone().try_acquire_owned().unwrap());
        let places: Vec<_> = (0..CONNECTIONS_OF_ONE).filter_map(|n| enter(&format!("2001:db8:0:1::{n:x}"))).collect();
        assert_eq!(places.len(), CONNECTIONS_OF_ONE as usize);
        assert!(enter("2001:db8:0:1:ffff::1").is_none(), "another address of the same network");
        let neighbour = enter("2001:db8:0:2::1");
        assert!(neighbour.is_some());
        drop((places, neighbour));
        assert!(enter("2001:db8:0:1::1").is_some());
        assert!(doors.of.lock().unwrap().is_empty(), "what nobody holds is forgotten");
    }
}
