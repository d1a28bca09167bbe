//! Loopback ports for replicas.

use std::collections::HashMap;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;

use domain::ReplicaId;

use crate::DriverError;

/// Which replica holds which port.
pub(super) struct Ports {
    range: RangeInclusive<u16>,
    held: HashMap<ReplicaId, u16>,
    /// Ports are given in turn, so that one that was given back rests as long as possible: a stale route must not meet a stranger.
    next: u16,
}

impl Ports {
    pub(super) fn new(range: RangeInclusive<u16>) -> Self {
        // Two servers on one machine that both began at the first port would take the same free one at the same moment.
        let span = u32::from(*range.end()).saturating_sub((*range.start()).into()) + 1;
        let offset = std::process::id().wrapping_mul(7919) % span;
        let next = range.start().saturating_add(u16::try_from(offset).unwrap_or_default());
        Self { next, range, held: HashMap::new() }
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
        for _ in self.range.clone() {
            let port = self.next;
            self.next = self.after(port);
            if !self.held.values().any(|held| *held == port) && is_free(port) {
                self.held.insert(replica, port);
                return Ok(port);
            }
        }
        Err(DriverError::NoPort(self.range.clone()))
    }

    pub(super) fn release(&mut self, replica: ReplicaId) {
        self.held.remove(&replica);
    }

    fn after(&self, port: u16) -> u16 {
        if port >= *self.range.end() { *self.range.start() } else { port + 1 }
    }
}

/// Nobody listens there on any address of version 4.
fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok()
}
