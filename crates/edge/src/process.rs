//! The life of the process: table, listeners, threads, control socket; and the end of it in reverse.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use domain::routing::RoutingTable;
use tokio::signal::unix::{SignalKind, signal};

use crate::control::{Control, Listening};
use crate::routes::Loads;
use crate::tally::Tally;
use crate::tls::Certificates;
use crate::worker::{Command, Listeners, Shared};
use crate::{EdgeConfig, access, control, listen, table, tls, worker};

/// Runs the edge until SIGTERM, SIGINT or the control socket's `shutdown`; then takes no new connections and returns when the requests in flight
/// are done, at the latest after [`crate::Limits::graceful`].
///
/// If another edge answers on the folder's control socket, this one takes over from it: both listen for a moment, then the other one is told to end.
/// It also ends when its control socket is gone or another's: nobody can tell it of changes any more.
///
/// # Errors
/// When an address cannot be listened on, also because an edge of another folder does, or the folder cannot be written to.
pub fn run(config: EdgeConfig) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.dir)?;
    listen::claim(config.listen.iter().chain(&config.tls_listen), &control::held_ports(&config))?;
    // Before listening: a client that can connect must find its app.
    let table = first_table(&config.dir);
    let (plain, addresses) = listen::open(&config.listen, config.threads.max(1))?;
    let (secure, tls_addresses) = listen::open(&config.tls_listen, config.threads.max(1))?;
    let certificates = Arc::new(first_certificates(&config)?);
    let tls = if tls_addresses.is_empty() { None } else { Some(tls::acceptor(Arc::clone(&certificates))?) };
    let shared = Arc::new(Shared {
        limits: config.limits,
        loads: Loads::new(),
        tally: Tally::default(),
        requests: AtomicU64::new(0),
        unlogged: AtomicU64::new(0),
        connections: AtomicUsize::new(0),
        max_connections: listen::max_connections(),
        wanted: crate::asleep::Wanted::default(),
        certificates,
        tls,
        tls_port: tls_addresses.first().map(std::net::SocketAddr::port),
    });
    let live = Arc::new(shared.loads.compile(table.clone()));
    let (log, log_thread) = access::start(&config.dir)?;
    let (mut commanders, mut threads) = (vec![], vec![]);
    for (number, (plain, tls)) in plain.into_iter().zip(secure).enumerate() {
        let listeners = Listeners { plain, tls };
        let (commander, thread) = worker::start(number, listeners, Arc::clone(&shared), Arc::clone(&live), log.clone())?;
        commanders.push(commander);
        threads.push(thread);
    }
    drop(log);
    tracing::info!(?addresses, ?tls_addresses, version = live.version, threads = threads.len(), "the edge takes requests");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let listen = Listening { http: addresses, tls: tls_addresses, certificate: config.tls_certificate, base_domain: config.base_domain };
    let control = Arc::new(Control::new(config.dir, listen, shared, live.version, commanders.clone()));
    let served = runtime.block_on(async {
        control.open(&table);
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            served = control::serve(control) => served,
        }
    });
    // Its tasks have the TCP ports, which nobody serves any more: the next edge is to have them, and clients an end.
    runtime.shutdown_background();
    for commander in commanders {
        // A thread that is gone needs no command.
        let _ = commander.send(Command::Stop);
    }
    for thread in threads.into_iter().chain([log_thread]) {
        if thread.join().is_err() {
            tracing::error!("a thread of the edge panicked");
        }
    }
    tracing::info!("the edge has ended");
    served
}

fn first_table(dir: &Path) -> RoutingTable {
    table::load(dir).unwrap_or_else(|error| {
        if error.kind() == io::ErrorKind::NotFound {
            tracing::info!("there is no routing table yet: every address answers 404 until one comes");
        } else {
            tracing::error!(%error, dir = %dir.display(), "the routing table cannot be used: every address answers 404 until one comes");
        }
        RoutingTable::default()
    })
}

fn first_certificates(config: &EdgeConfig) -> io::Result<Certificates> {
    let base = Some(config.base_domain.as_str()).filter(|_| !config.tls_listen.is_empty());
    let certificates = Certificates::new(&config.dir, base, config.tls_certificate.clone())?;
    match certificates.load(&config.dir) {
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => tracing::info!("there are no certificates yet"),
        Err(error) => tracing::error!(%error, "the certificates cannot be used until others come"),
    }
    Ok(certificates)
}
