use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use domain::routing::{Route, RoutingTable};
use edge::control::{Request, SOCKET};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;

use crate::journal::{Entry, Journal};

/// Stands in for the edge at its control socket: reads tables as the edge does, keeps them, and has no requests.
pub struct EdgeDouble {
    dir: PathBuf,
    journal: Arc<Journal>,
    tables: Arc<Mutex<Vec<RoutingTable>>>,
    present: Mutex<Option<JoinHandle<()>>>,
}

impl EdgeDouble {
    pub(crate) fn new(dir: PathBuf, journal: Arc<Journal>) -> Self {
        let it = Self { dir, journal, tables: Arc::default(), present: Mutex::default() };
        it.come();
        it
    }

    /// Begins to answer.
    ///
    /// # Panics
    /// When the socket cannot be made.
    pub fn come(&self) {
        let path = self.dir.join(SOCKET);
        std::fs::create_dir_all(&self.dir).expect("the edge's folder");
        let listener = UnixListener::bind(path).expect("a free control socket");
        let (dir, journal, tables) = (self.dir.clone(), self.journal.clone(), self.tables.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(converse(stream, dir.clone(), journal.clone(), tables.clone()));
            }
        });
        *self.present.lock().unwrap_or_else(PoisonError::into_inner) = Some(task);
    }

    /// Answers no more, as if it had ended.
    pub fn go(&self) {
        // Nobody is there when it is asked twice.
        let _ = std::fs::remove_file(self.dir.join(SOCKET));
        if let Some(task) = self.present.lock().unwrap_or_else(PoisonError::into_inner).take() {
            task.abort();
        }
    }

    /// Every table that it has acknowledged, oldest first.
    #[must_use]
    pub fn tables(&self) -> Vec<RoutingTable> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Where a host's requests go at the moment.
    #[must_use]
    pub fn route(&self, host: &str) -> Option<Route> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner).last()?.hosts.get(host).cloned()
    }
}

async fn converse(stream: UnixStream, dir: PathBuf, journal: Arc<Journal>, tables: Arc<Mutex<Vec<RoutingTable>>>) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    while stream.read_line(&mut line).await.is_ok_and(|length| length > 0) {
        let answer = match serde_json::from_str(&line) {
            Ok(request) => answer(request, &dir, &journal, &tables),
            Err(error) => json!({"error": error.to_string()}),
        };
        if stream.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
            return;
        }
        line.clear();
    }
}

fn answer(request: Request, dir: &Path, journal: &Journal, tables: &Mutex<Vec<RoutingTable>>) -> Value {
    match request {
        Request::Reload => {
            let table = match edge::table::load(dir) {
                Ok(table) => table,
                Err(error) => return json!({"error": error.to_string(), "version": 0}),
            };
            let version = table.version;
            let targets = table.hosts.values().flat_map(|route| &route.targets).map(|target| target.replica_id).collect();
            tables.lock().unwrap_or_else(PoisonError::into_inner).push(table);
            journal.write(Entry::Table(targets));
            json!({"version": version})
        }
        Request::Drain { replica, .. } => {
            journal.write(Entry::Drain(replica));
            json!({"inFlight": 0})
        }
        Request::Ping => json!({"version": 0, "pid": std::process::id(), "listen": []}),
        Request::Stats | Request::Shutdown => json!({}),
    }
}
