//! Ports that no other test takes, in whichever process it runs.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of this module")]

use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::{Mutex, PoisonError};

/// Below those that the kernel gives to connections, and neither a replica's nor, unless it is told so, a TCP proxy's.
const FIRST: u16 = 10_000;
const COUNT: u16 = 10_000;

/// What says to other tests that ports are taken, also while nobody listens there. It goes with the process.
static CLAIMS: Mutex<Vec<UnixListener>> = Mutex::new(vec![]);

/// A port that is this process's as long as it lives.
pub fn free_port() -> u16 {
    free_ports(1)
}

/// The first of so many ports in a row.
pub fn free_ports(count: u16) -> u16 {
    let mut claims = CLAIMS.lock().unwrap_or_else(PoisonError::into_inner);
    let start = (std::process::id().wrapping_mul(7919) % u32::from(COUNT)) as u16;
    let mut places = (0..COUNT).map(|offset| FIRST + (start + offset) % COUNT).filter(|first| first + count <= FIRST + COUNT);
    let all = |first: u16| Some((first, (first..first + count).map(claim).collect::<Option<Vec<_>>>()?));
    let (first, taken) = places.find_map(all).expect("free ports");
    claims.extend(taken);
    first
}

fn claim(port: u16) -> Option<UnixListener> {
    let name = SocketAddr::from_abstract_name(format!("orrery-test-port-{port}")).expect("a name");
    let claim = UnixListener::bind_addr(&name).ok()?;
    // Something that is no test may listen there.
    TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).ok().map(|_| claim)
}
