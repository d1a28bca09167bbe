use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use domain::routing::{Route, RoutingTable};
use edge::control::{Request, SOCKET};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::journal::{Entry, Journal};

/// Stands in for the edge at its control socket: reads tables as the edge does, keeps them, and has no requests.
pub struct EdgeDouble {
    shared: Arc<Shared>,
    present: Mutex<Option<JoinHandle<()>>>,
}

struct Shared {
    dir: PathBuf,
    journal: Arc<Journal>,
    tables: Mutex<Vec<RoutingTable>>,
    held: watch::Sender<bool>,
    waiting: watch::Sender<bool>,
}

impl EdgeDouble {
    pub(crate) fn new(dir: PathBuf, journal: Arc<Journal>) -> Self {
        let (held, waiting) = (watch::Sender::new(false), watch::Sender::new(false));
        let it = Self { shared: Arc::new(Shared { dir, journal, tables: Mutex::default(), held, waiting }), present: Mutex::default() };
        it.come();
        it
    }

    /// Begins to answer.
    ///
    /// # Panics
    /// When the socket cannot be made.
    pub fn come(&self) {
        std::fs::create_dir_all(&self.shared.dir).expect("the edge's folder");
        let listener = UnixListener::bind(self.shared.dir.join(SOCKET)).expect("a free control socket");
        let shared = self.shared.clone();
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, shared.clone()));
            }
        });
        *self.present.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// Answers no more, as if it had ended.
    pub fn go(&self) {
        // Nobody is there when it is asked twice.
        let _ = std::fs::remove_file(self.shared.dir.join(SOCKET));
        if let Some(task) = self.present.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }

    /// Takes no table until it is let go on; who asks for that waits.
    pub fn hold(&self) {
        self.shared.waiting.send_replace(false);
        self.shared.held.send_replace(true);
    }

    /// Somebody has come to wait since [`EdgeDouble::hold`].
    #[must_use]
    pub fn keeps_someone_waiting(&self) -> bool {
        *self.shared.waiting.borrow()
    }

    /// Goes on after [`EdgeDouble::hold`].
    pub fn let_go(&self) {
        self.shared.held.send_replace(false);
    }

    /// Every table that it has acknowledged, oldest first.
    #[must_use]
    pub fn tables(&self) -> Vec<RoutingTable> {
        self.shared.tables().clone()
    }

    /// Where a host's requests go at the moment.
    #[must_use]
    pub fn route(&self, host: &str) -> Option<Route> {
        self.shared.tables().last()?.hosts.get(host).cloned()
    }
}

impl Shared {
    fn tables(&self) -> MutexGuard<'_, Vec<RoutingTable>> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn answer(&self, request: Request) -> Value {
        match request {
            Request::Reload => self.reload().await,
            Request::Drain { replica, .. } => {
                self.journal.write(Entry::Drain(replica));
                json!({"inFlight": 0})
            }
            Request::Ping => json!({"version": 0, "pid": std::process::id(), "listen": []}),
            Request::Stats => json!({"connections": {}, "idleMs": {}}),
            // Nobody asks for an app here.
            Request::Wanted { .. } => std::future::pending().await,
            Request::Traffic { .. } => json!({"slots": [], "more": false}),
            // It speaks no TLS.
            Request::Certificates | Request::Shutdown => json!({}),
        }
    }

    async fn reload(&self) -> Value {
        let mut held = self.held.subscribe();
        if *held.borrow_and_update() {
            self.waiting.send_replace(true);
            self.journal.ring();
            // The sender is in `self`, so this ends only by being let go on.
            let _ = held.wait_for(|held| !held).await;
        }
        let table = match edge::table::load(&self.dir) {
            Ok(table) => table,
            Err(error) => return json!({"error": error.to_string(), "version": 0}),
        };
        let version = table.version;
        let targets = table.hosts.values().flat_map(|route| &route.targets).map(|target| target.replica_id).collect();
        self.tables().push(table);
        self.journal.write(Entry::Table(targets));
        json!({"version": version})
    }
}

async fn converse(stream: UnixStream, shared: Arc<Shared>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await.is_ok_and(|length| length > 0) {
        let answer = match serde_json::from_str(&line) {
            Ok(request) => shared.answer(request).await,
            Err(error) => json!({"error": error.to_string()}),
        };
        if stream.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
            return;
        }
        line.clear();
    }
}
