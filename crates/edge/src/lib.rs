//! The data plane: takes requests from the internet and hands each to a replica of the app that its host name belongs to.
//!
//! It knows what the engine leaves in its folder, a [`domain::routing::RoutingTable`] and certificates, and has two doors:
//! the [`control`] socket that says "read it again", and the [`access`] log that others collect. It never sees the database, an API key or
//! a user, so it keeps serving while everything else is down, and it can be replaced while everything else keeps running.
//!
//! One thread per core, each with its own listener (`SO_REUSEPORT`), its own runtime and its own pool of upstream connections; threads share
//! only the table (swapped whole), a counter of requests in flight per replica, and the tally of those that are over.

pub mod access;
mod answer;
mod asleep;
pub mod control;
mod exchange;
pub mod files;
mod headers;
mod host;
mod listen;
mod pool;
mod process;
mod proxy;
mod routes;
pub mod table;
mod tally;
mod tcp;
pub mod tls;
mod tunnel;
mod watch;
mod worker;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

pub use process::run;

/// How to run the edge.
#[derive(Clone, Debug)]
pub struct EdgeConfig {
    /// Where to take plain HTTP. Port 0 lets the kernel choose; [`control`]'s `ping` tells what it chose.
    pub listen: Vec<SocketAddr>,
    /// Where to take HTTP inside TLS; nowhere when empty.
    pub tls_listen: Vec<SocketAddr>,
    /// Names that have no certificate get one for this domain and those below it, which nobody trusts.
    pub base_domain: String,
    /// A file with a certificate that they get instead, and its private key, both in PEM. It is read again from time to time.
    pub tls_certificate: Option<PathBuf>,
    /// The folder that holds `table.json`, `certificates.json`, `control.sock` and `log/`. Made (0700) if missing.
    pub dir: PathBuf,
    /// How many threads take requests: at least 1.
    pub threads: usize,
    /// How long to wait for whom.
    pub limits: Limits,
}

impl EdgeConfig {
    /// The usual configuration: one thread per core and the default limits.
    #[must_use]
    pub fn new(listen: Vec<SocketAddr>, dir: PathBuf) -> Self {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let base_domain = "localhost".to_owned();
        Self { listen, tls_listen: vec![], base_domain, tls_certificate: None, dir, threads, limits: Limits::default() }
    }
}

/// How long the edge waits for clients and for replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From a client's connection until it and the edge have agreed on a key, where it speaks TLS; then the connection is closed.
    pub handshake: Duration,
    /// From the first byte of a request until its headers are complete; then the connection is closed.
    pub header_read: Duration,
    /// How long a connection may stay open between requests.
    pub idle: Duration,
    /// From the last byte of a request to the first byte of its answer; then the client gets 504.
    pub first_byte: Duration,
    /// For the TCP handshake with a replica.
    pub connect: Duration,
    /// How long an unused connection to a replica is kept.
    pub pool_idle: Duration,
    /// How long requests in flight may take to end after the edge was told to stop.
    pub graceful: Duration,
    /// How long a request waits for an app that sleeps.
    pub wake: Duration,
    /// How long a client may go on sending after it got its last answer.
    pub linger: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(10),
            header_read: Duration::from_secs(30),
            idle: Duration::from_secs(75),
            first_byte: Duration::from_secs(300),
            connect: Duration::from_secs(5),
            pool_idle: Duration::from_secs(30),
            graceful: Duration::from_secs(10),
            wake: Duration::from_secs(120),
            linger: Duration::from_secs(2),
        }
    }
}

impl Limits {
    /// Nothing that begins now is due earlier than this, on a client's connection.
    pub(crate) fn shortest(&self) -> Duration {
        self.header_read.min(self.idle).min(self.first_byte)
    }
}
