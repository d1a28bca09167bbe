//! The engine's side of the edge's control socket: one JSON object a line, one answer each.

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use domain::ReplicaId;
use domain::metric::TrafficSlot;
use domain::routing::{Asleep, EdgeCertificates, RoutingTable};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::sync::Mutex;

/// Speaks to the edge, if there is one.
#[derive(Clone, Debug)]
pub(crate) struct EdgeClient {
    dir: PathBuf,
    /// When the edge was last asked for how long replicas have had no request, and what it said.
    idle: Arc<Mutex<Option<(Instant, Idle)>>>,
}

/// For how long each replica has had no request, if the edge knows.
type Idle = Option<Arc<HashMap<ReplicaId, Duration>>>;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    #[serde(default)]
    version: u64,
    #[serde(default)]
    in_flight: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Stats {
    connections: HashMap<ReplicaId, u64>,
    #[serde(default)]
    idle_ms: HashMap<ReplicaId, u64>,
}

#[derive(Deserialize)]
struct Wanted {
    apps: Vec<Asleep>,
}

#[derive(Deserialize)]
struct Certified {
    #[serde(default)]
    error: Option<String>,
}

#[derive(Deserialize)]
struct Traffic {
    slots: Vec<TrafficSlot>,
    more: bool,
}

/// The files that the edge reads.
const TABLE: &str = "table.json";
const CERTIFICATES: &str = "certificates.json";

/// How long the edge may take to count.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long what it has said of idle replicas is used again: a look at many services asks once for all of them.
const FRESH: Duration = Duration::from_secs(1);

impl EdgeClient {
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), idle: Arc::default() }
    }

    async fn ask<T: DeserializeOwned>(&self, request: serde_json::Value, limit: Duration) -> io::Result<T> {
        let exchange = async {
            let mut stream = UnixStream::connect(self.dir.join("control.sock")).await?;
            stream.write_all(format!("{request}\n").as_bytes()).await?;
            let mut line = String::new();
            BufReader::new(stream).read_line(&mut line).await?;
            serde_json::from_str(&line).map_err(io::Error::other)
        };
        tokio::time::timeout(limit, exchange).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Puts a table in place and waits until every thread of the edge uses it. The file is written even when nobody answers: an edge
    /// that starts later reads it.
    pub(crate) async fn publish(&self, table: &RoutingTable) -> io::Result<()> {
        let (dir, text) = (self.dir.clone(), serde_json::to_vec(table).map_err(io::Error::other)?);
        tokio::task::spawn_blocking(move || write(&dir, TABLE, &text)).await.map_err(io::Error::other)??;
        let answer: Answer = self.ask(json!({"op": "reload"}), Duration::from_secs(5)).await?;
        if answer.version == table.version { Ok(()) } else { Err(io::Error::other("the edge read another table")) }
    }

    /// Whether the edge was ever given certificates.
    pub(crate) fn has_certificates(&self) -> bool {
        self.dir.join(CERTIFICATES).exists()
    }

    /// Puts certificates and answers to authorities in place and waits until the edge uses them. As with a table, the file is written even
    /// when nobody answers.
    pub(crate) async fn certify(&self, certificates: &EdgeCertificates) -> io::Result<()> {
        let (dir, text) = (self.dir.clone(), serde_json::to_vec(certificates).map_err(io::Error::other)?);
        tokio::task::spawn_blocking(move || write(&dir, CERTIFICATES, &text)).await.map_err(io::Error::other)??;
        let answer: Certified = self.ask(json!({"op": "certificates"}), PATIENCE).await?;
        answer.error.map_or(Ok(()), |error| Err(io::Error::other(error)))
    }

    /// Waits until no request to a replica is under way, or for so long; the number that is left.
    pub(crate) async fn drain(&self, replica: ReplicaId, limit: Duration) -> io::Result<u64> {
        let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        let request = json!({"op": "drain", "replica": replica.to_string(), "timeoutMs": millis});
        Ok(self.ask::<Answer>(request, limit + Duration::from_secs(2)).await?.in_flight)
    }

    /// Requests and websockets that are open now, by replica.
    pub(crate) async fn connections(&self) -> io::Result<HashMap<ReplicaId, u64>> {
        Ok(self.ask::<Stats>(json!({"op": "stats"}), PATIENCE).await?.connections)
    }

    /// For how long each replica has had no request, as it was a second ago at the most; nothing when nobody answers.
    pub(crate) async fn idle(&self) -> Idle {
        let mut said = self.idle.lock().await;
        if let Some((_, known)) = said.as_ref().filter(|(at, _)| at.elapsed() < FRESH) {
            return known.clone();
        }
        let stats = self.ask::<Stats>(json!({"op": "stats"}), PATIENCE).await.ok();
        let known: Idle = stats.map(|stats| {
            let each = stats.idle_ms.into_iter().map(|(replica, ms)| (replica, Duration::from_millis(ms)));
            Arc::new(each.collect())
        });
        *said = Some((Instant::now(), known.clone()));
        known
    }

    /// Waits until a request waits for an app that sleeps, or for so long; the apps.
    pub(crate) async fn wanted(&self, limit: Duration) -> io::Result<Vec<Asleep>> {
        let millis = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        Ok(self.ask::<Wanted>(json!({"op": "wanted", "timeoutMs": millis}), limit + PATIENCE).await?.apps)
    }

    /// What was asked and answered in the intervals behind `after` that are over, oldest first.
    pub(crate) async fn traffic(&self, mut after: i64) -> io::Result<Vec<TrafficSlot>> {
        let mut slots = vec![];
        loop {
            let answer: Traffic = self.ask(json!({"op": "traffic", "after": after}), PATIENCE).await?;
            slots.extend(answer.slots);
            match slots.last() {
                Some(last) if answer.more => after = last.at,
                _ => return Ok(slots),
            }
        }
    }
}

fn write(dir: &Path, name: &str, text: &[u8]) -> io::Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::create_dir_all(dir)?;
    let fresh = dir.join(format!("{name}.new"));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
    file.write_all(text)?;
    file.sync_data()?;
    std::fs::rename(fresh, dir.join(name))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::net::UnixListener;

    use super::*;

    #[tokio::test]
    async fn many_services_ask_once_who_is_idle() {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join("control.sock")).unwrap();
        let (replica, asked) = (ReplicaId::generate(), Arc::new(AtomicU32::new(0)));
        let counter = asked.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                counter.fetch_add(1, Ordering::SeqCst);
                let (mut stream, mut line) = (BufReader::new(stream), String::new());
                stream.read_line(&mut line).await.unwrap();
                let answer = json!({"connections": {}, "idleMs": {(replica.to_string()): 1500}});
                stream.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
            }
        });
        let edge = EdgeClient::new(dir.path());
        let all = futures::future::join_all((0..50).map(|_| edge.idle())).await;
        assert!(all.iter().all(|idle| idle.as_ref().is_some_and(|idle| idle[&replica] == Duration::from_millis(1500))));
        assert_eq!(asked.load(Ordering::SeqCst), 1);
        let nobody = EdgeClient::new(&dir.path().join("elsewhere"));
        assert_eq!(nobody.idle().await, None);
    }
}
