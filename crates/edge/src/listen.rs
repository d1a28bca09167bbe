//! Sockets that clients connect to.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};

/// Connections that wait to be accepted, per thread.
const BACKLOG: i32 = 4096;
/// A client that takes no byte of its answer for so long is gone.
const STUCK: Duration = Duration::from_secs(300);
/// A quiet client (a websocket, mostly) is asked after so long whether it is still there.
const KEEPALIVE: Duration = Duration::from_secs(60);
/// An edge that ends lets go of its ports a moment later, and one notices within a second that its folder is gone: so long they are waited for.
const LEAVING: Duration = Duration::from_secs(3);
const AGAIN: Duration = Duration::from_millis(50);

/// Makes sure that nobody else listens on the addresses, apart from those with a port that the edge before has, which is taken over. The kernel
/// lets listeners of one user share an address and gives requests to each of them in turn: those of another installation would come here.
///
/// # Errors
/// When an address cannot be had; the error names it.
pub(crate) fn claim<'a>(addresses: impl IntoIterator<Item = &'a SocketAddr>, held: &[u16]) -> io::Result<()> {
    let begun = Instant::now();
    for address in addresses.into_iter().filter(|address| address.port() != 0 && !held.contains(&address.port())) {
        try_alone(*address, begun).map_err(|error| refused(*address, &error))?;
        if let Some(twin) = twin(*address, *address, &[])
            && let Err(error) = try_alone(twin, begun)
            && error.kind() == io::ErrorKind::AddrInUse
        {
            return Err(taken_twin(twin, &error));
        }
    }
    Ok(())
}

fn try_alone(address: SocketAddr, begun: Instant) -> io::Result<()> {
    loop {
        match bind(address, false) {
            // A port gives no sign when it becomes free.
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && begun.elapsed() < LEAVING => std::thread::sleep(AGAIN),
            other => return other.map(drop),
        }
    }
}

fn refused(address: SocketAddr, error: &io::Error) -> io::Error {
    let why = if error.kind() == io::ErrorKind::PermissionDenied { "; ports below 1024 need root" } else { "" };
    io::Error::new(error.kind(), format!("cannot listen on {address}: {error}{why}"))
}

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
            let listener = bind(address, true).map_err(|error| refused(address, &error))?;
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
        match bind(address, true) {
            Ok(listener) => listeners.push(listener),
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => return Err(taken_twin(address, &error)),
            Err(error) => {
                tracing::debug!(%error, %address, "there is no other loopback address to listen on");
                return Ok(());
            }
        }
    }
    Ok(())
}

fn taken_twin(address: SocketAddr, error: &io::Error) -> io::Error {
    let text =
        format!("somebody else listens on {address}, where `localhost` leads, too: stop what uses that port, or choose another: {error}");
    io::Error::new(error.kind(), text)
}

fn bind(address: SocketAddr, shared: bool) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(shared)?;
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
