//! Sockets that clients connect to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// Connections that wait to be accepted, per thread.
const BACKLOG: i32 = 4096;
/// A client that takes no byte of its answer for so long is gone.
const STUCK: Duration = Duration::from_secs(300);
/// A quiet client (a websocket, mostly) is asked after so long whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);

/// Opens every address once per thread: the kernel spreads connections over listeners that share an address. The addresses that came out of it
/// are the second part.
///
/// # Errors
/// When an address cannot be had; the error names it.
pub(crate) fn open(addresses: &[SocketAddr], threads: usize) -> io::Result<(Vec<Vec<TcpListener>>, Vec<SocketAddr>)> {
    let mut per_thread: Vec<Vec<TcpListener>> = (0..threads).map(|_| vec![]).collect();
    let mut bound = vec![];
    for wanted in addresses {
        // Where the kernel chooses the port, its first choice holds for all.
        let mut address = *wanted;
        for listeners in &mut per_thread {
            let listener = bind(address).map_err(|error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}")))?;
            address = listener.local_addr()?;
            listeners.push(listener);
        }
        bound.push(address);
        if let Some(twin) = twin(address, *wanted, addresses) {
            open_twin(twin, &mut per_thread)?;
        }
    }
    Ok((per_thread, bound))
}

/// The same port of the other loopback address, unless it is to be opened anyway or the kernel chose the port: `localhost` is that one as
/// well, and whoever listened there would be given what visitors send to apps.
fn twin(address: SocketAddr, wanted: SocketAddr, all: &[SocketAddr]) -> Option<SocketAddr> {
    let own = |other: &SocketAddr| other.is_ipv6() && other.port() == address.port();
    let needed = address.ip() == IpAddr::from(Ipv4Addr::LOCALHOST) && wanted.port() != 0 && !all.iter().any(own);
    needed.then(|| SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())))
}

/// Opens it for every thread. A machine without such an address goes on without.
fn open_twin(address: SocketAddr, per_thread: &mut [Vec<TcpListener>]) -> io::Result<()> {
    for listeners in per_thread {
        match bind(address) {
            Ok(listener) => listeners.push(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                let text = format!(
                    "somebody else listens on {address}, where `localhost` leads, too: stop what uses that port, or choose another: {error}"
                );
                return Err(io::Error::new(error.kind(), text));
            }
            Err(error) => {
                tracing::debug!(%error, %address, "there is no other loopback address to listen on");
                return Ok(());
            }
        }
    }
    Ok(())
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Prepares an accepted connection.
///
/// # Errors
/// When it is already gone.
pub(crate) fn tune(stream: &tokio::net::TcpStream) -> io::Result<()> {
    let socket = SockRef::from(stream);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_user_timeout(Some(STUCK))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(KEEPALIVE))
}

/// Whether accepting failed for want of something rather than because of the client.
pub(crate) fn is_exhausted(error: &io::Error) -> bool {
    use nix::libc::{EMFILE, ENFILE, ENOBUFS, ENOMEM};
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE | ENOBUFS | ENOMEM))
}

/// Raises the limit of open files as far as allowed; how many clients fit into it, each with a connection to a replica.
pub(crate) fn max_connections() -> usize {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let open = match getrlimit(Resource::RLIMIT_NOFILE) {
        Ok((_, hard)) if setrlimit(Resource::RLIMIT_NOFILE, hard, hard).is_ok() => hard,
        Ok((soft, _)) => soft,
        Err(_) => 1024,
    };
    // Some files are needed for the listeners, the log and the control socket.
    usize::try_from(open.saturating_sub(64) / 2).unwrap_or(usize::MAX).max(16)
}
