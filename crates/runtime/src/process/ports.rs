//! Loopback ports for replicas.

use std::collections::HashMap;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::time::{Duration, Instant};

use domain::ReplicaId;

use crate::DriverError;

/// An app that does not listen by then is not waited for by other servers.
const CLAIMED: Duration = Duration::from_secs(60);

/// Which replica holds which port.
pub(super) struct Ports {
    range: RangeInclusive<u16>,
    held: HashMap<ReplicaId, u16>,
    /// What tells other servers of this machine of ports that were given a moment ago: nobody may listen there yet.
    claims: HashMap<ReplicaId, (Instant, UnixListener)>,
    /// Ports are given in turn, so that one that was given back rests as long as possible: a stale route must not meet a stranger.
    next: u16,
}

impl Ports {
    pub(super) fn new(range: RangeInclusive<u16>) -> Self {
        // Two servers on one machine that both began at the first port would take the same free one at the same moment.
        let span = u32::from(*range.end()).saturating_sub((*range.start()).into()) + 1;
        let offset = std::process::id().wrapping_mul(7919) % span;
        let next = range.start().saturating_add(u16::try_from(offset).unwrap_or_default());
        Self { next, range, held: HashMap::new(), claims: HashMap::new() }
    }

    /// Notes a port that a running replica has.
    pub(super) fn hold(&mut self, replica: ReplicaId, port: u16) {
        self.held.insert(replica, port);
        if self.range.contains(&port) && port >= self.next {
            self.next = self.after(port);
        }
    }

    /// The wanted port, the one that the replica holds already, or (for 0) the next one that nobody holds and nobody listens on.
    pub(super) fn take(&mut self, replica: ReplicaId, wanted: u16) -> Result<u16, DriverError> {
        if let Some(held) = self.held.get(&replica).filter(|held| wanted == 0 || **held == wanted) {
            return Ok(*held);
        }
        if wanted != 0 {
            self.held.insert(replica, wanted);
            return Ok(wanted);
        }
        self.claims.retain(|_, (since, _)| since.elapsed() < CLAIMED);
        for _ in self.range.clone() {
            let port = self.next;
            self.next = self.after(port);
            if self.held.values().any(|held| *held == port) || !is_free(port) {
                continue;
            }
            if let Ok(claim) = claim(port) {
                self.claims.extend(claim.map(|claim| (replica, (Instant::now(), claim))));
                self.held.insert(replica, port);
                return Ok(port);
            }
        }
        Err(DriverError::NoPort(self.range.clone()))
    }

    pub(super) fn release(&mut self, replica: ReplicaId) {
        self.held.remove(&replica);
        self.claims.remove(&replica);
    }

    fn after(&self, port: u16) -> u16 {
        if port >= *self.range.end() { *self.range.start() } else { port + 1 }
    }
}

/// The mark that a port was given to somebody, if there can be one here.
///
/// # Errors
/// Another server has marked it.
fn claim(port: u16) -> io::Result<Option<UnixListener>> {
    // A name of the kernel's, which goes with this process.
    match SocketAddr::from_abstract_name(format!("orrery-replica-port-{port}")).and_then(|name| UnixListener::bind_addr(&name)) {
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => Err(error),
        other => Ok(other.ok()),
    }
}

/// Nobody listens there on any address of version 4.
fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_servers_give_no_port_twice_before_anybody_listens_there() {
        // Both begin at the same port.
        let (mut one, mut other) = (Ports::new(61_000..=61_999), Ports::new(61_000..=61_999));
        let (mine, theirs) = (ReplicaId::generate(), ReplicaId::generate());
        let port = one.take(mine, 0).unwrap();
        assert_ne!(other.take(theirs, 0).unwrap(), port);
        one.release(mine);
        other.next = port;
        assert_eq!(other.take(ReplicaId::generate(), 0).unwrap(), port, "what was given back is free");
    }
}
