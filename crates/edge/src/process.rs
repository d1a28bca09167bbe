//! The life of the process: table, listeners, threads, control socket; and the end of it in reverse.

use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize};

use domain::routing::RoutingTable;
use tokio::signal::unix::{SignalKind, signal};

use crate::control::Control;
use crate::routes::Loads;
use crate::tally::Tally;
use crate::worker::{Command, Shared};
use crate::{EdgeConfig, access, control, listen, table, worker};

/// Runs the edge until SIGTERM, SIGINT or the control socket's `shutdown`; then takes no new connections and returns when the requests in flight
/// are done, at the latest after [`crate::Limits::graceful`].
///
/// If another edge answers on the folder's control socket, this one takes over from it: both listen for a moment, then the other one is told to end.
///
/// # Errors
/// When an address cannot be listened on, or the folder cannot be written to.
pub fn run(config: EdgeConfig) -> io::Result<()> {
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&config.dir)?;
    let shared = Arc::new(Shared {
        limits: config.limits,
        loads: Loads::new(),
        tally: Tally::default(),
        requests: AtomicU64::new(0),
        unlogged: AtomicU64::new(0),
        connections: AtomicUsize::new(0),
        max_connections: listen::max_connections(),
        wanted: crate::asleep::Wanted::default(),
    });
    // Before listening: a client that can connect must find its app.
    let table = first_table(&config.dir);
    let live = Arc::new(shared.loads.compile(table.clone()));
    let (listeners, addresses) = listen::open(&config.listen, config.threads.max(1))?;
    let (log, log_thread) = access::start(&config.dir)?;
    let (mut commanders, mut threads) = (vec![], vec![]);
    for (number, listeners) in listeners.into_iter().enumerate() {
        let (commander, thread) = worker::start(number, listeners, Arc::clone(&shared), Arc::clone(&live), log.clone())?;
        commanders.push(commander);
        threads.push(thread);
    }
    drop(log);
    tracing::info!(?addresses, version = live.version, threads = threads.len(), "the edge takes requests");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let control = Arc::new(Control::new(config.dir, addresses, shared, live.version, commanders.clone()));
    let served = runtime.block_on(async {
        control.open(&table);
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        tokio::select! {
            _ = terminate.recv() => Ok(()),
            _ = interrupt.recv() => Ok(()),
            served = control::serve(control) => served,
        }
    });
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
