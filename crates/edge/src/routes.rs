//! The table as threads use it: looked up by host, with the load of each replica beside it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::routing::{Route, RoutingTable};
use domain::{DeploymentId, ReplicaId};
use http::HeaderValue;
use tokio::sync::Notify;

/// How long a replica that refused a connection is passed over while others answer.
const PENALTY: Duration = Duration::from_secs(1);

/// What all threads together know of a replica. Lives on while requests are in flight, also when the table no longer names it.
#[derive(Debug)]
pub(crate) struct Load {
    epoch: Instant,
    in_flight: AtomicUsize,
    /// In ms since `epoch`.
    avoided_until: AtomicU64,
    /// When the last request ended, or the replica was first heard of; in ms since `epoch`.
    used_at: AtomicU64,
    /// Somebody waits for `in_flight` to become 0.
    watched: AtomicBool,
    emptied: Notify,
}

impl Load {
    fn new(epoch: Instant) -> Self {
        let (in_flight, avoided_until, watched) = (AtomicUsize::new(0), AtomicU64::new(0), AtomicBool::new(false));
        let load = Self { epoch, in_flight, avoided_until, used_at: AtomicU64::new(0), watched, emptied: Notify::new() };
        load.used_at.store(load.now(), Ordering::Relaxed);
        load
    }

    /// Milliseconds since the last request ended; 0 while one is in flight.
    fn idle(&self) -> u64 {
        if self.in_flight() > 0 { 0 } else { self.now().saturating_sub(self.used_at.load(Ordering::Relaxed)) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::SeqCst)
    }

    /// Others are preferred for a moment.
    pub(crate) fn avoid(&self) {
        let until = self.now().saturating_add(u64::try_from(PENALTY.as_millis()).unwrap_or(u64::MAX));
        self.avoided_until.store(until, Ordering::Relaxed);
    }

    fn is_avoided(&self) -> bool {
        match self.avoided_until.load(Ordering::Relaxed) {
            0 => false,
            until => until > self.now(),
        }
    }

    /// Waits until nothing is in flight.
    pub(crate) async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            tokio::pin!(emptied);
            emptied.as_mut().enable();
            // Set before the count is read: whoever brings it to 0 after that sees the flag.
            self.watched.store(true, Ordering::SeqCst);
            if self.in_flight() == 0 {
                return;
            }
            emptied.await;
        }
    }
}

/// A replica with its load.
#[derive(Debug)]
pub(crate) struct LiveTarget {
    pub(crate) replica_id: ReplicaId,
    pub(crate) deployment_id: DeploymentId,
    pub(crate) address: SocketAddr,
    pub(crate) name: String,
    /// `name` as a header has it; `None` when it cannot be one.
    pub(crate) header: Option<HeaderValue>,
    load: Arc<Load>,
}

/// A request in flight to a replica; dropping it ends that.
#[derive(Debug)]
pub(crate) struct Lease {
    pub(crate) target: Arc<LiveTarget>,
}

impl Lease {
    fn new(target: &Arc<LiveTarget>) -> Self {
        target.load.in_flight.fetch_add(1, Ordering::SeqCst);
        Self { target: Arc::clone(target) }
    }

    pub(crate) fn avoid(&self) {
        self.target.load.avoid();
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let load = &self.target.load;
        load.used_at.store(load.now(), Ordering::Relaxed);
        if load.in_flight.fetch_sub(1, Ordering::SeqCst) == 1 && load.watched.load(Ordering::SeqCst) {
            load.emptied.notify_waiters();
        }
    }
}

/// A host's route.
#[derive(Debug)]
pub(crate) struct LiveRoute {
    pub(crate) route: Route,
    targets: Vec<Arc<LiveTarget>>,
}

impl LiveRoute {
    /// Takes the replica that the visitor's address or cookie names, or else the one with the fewest requests in flight; `turn` decides between equals.
    /// Replicas that just refused a connection come last, those in `tried` not at all.
    pub(crate) fn pick(&self, wanted: Option<&str>, tried: &[ReplicaId], turn: usize) -> Option<Lease> {
        if let [only] = self.targets.as_slice() {
            return (!tried.contains(&only.replica_id)).then(|| Lease::new(only));
        }
        let eligible = |target: &&Arc<LiveTarget>| !tried.contains(&target.replica_id);
        if let Some(wanted) = wanted
            && let Some(target) = self.targets.iter().filter(eligible).find(|target| target.name == wanted)
            && !target.load.is_avoided()
        {
            return Some(Lease::new(target));
        }
        let start = turn % self.targets.len().max(1);
        let (before, after) = self.targets.split_at(start);
        let rank = |target: &&Arc<LiveTarget>| (target.load.is_avoided(), target.load.in_flight());
        after.iter().chain(before).filter(eligible).min_by_key(rank).map(Lease::new)
    }
}

/// The whole table.
#[derive(Debug, Default)]
pub(crate) struct LiveTable {
    pub(crate) version: u64,
    hosts: HashMap<String, Arc<LiveRoute>>,
    has_wildcards: bool,
    replicas: HashMap<ReplicaId, Arc<LiveTarget>>,
}

impl LiveTable {
    /// The route of a host, given as [`crate::host::key`] writes it. `*.example.com` stands for every name below `example.com` that has no
    /// entry of its own; the longest such entry wins.
    pub(crate) fn route(&self, host: &str) -> Option<&Arc<LiveRoute>> {
        if let Some(route) = self.hosts.get(host) {
            return Some(route);
        }
        if !self.has_wildcards {
            return None;
        }
        let mut rest = host;
        while let Some((_, parent)) = rest.split_once('.') {
            if let Some(route) = self.hosts.get(&format!("*.{parent}")) {
                return Some(route);
            }
            rest = parent;
        }
        None
    }

    /// Whether requests may still go to that replica at that address.
    pub(crate) fn has(&self, replica: ReplicaId, address: SocketAddr) -> bool {
        self.replicas.get(&replica).is_some_and(|target| target.address == address)
    }
}

/// The loads of every replica that is in the table or busy.
#[derive(Debug)]
pub(crate) struct Loads {
    epoch: Instant,
    loads: Mutex<HashMap<ReplicaId, Arc<Load>>>,
}

impl Loads {
    pub(crate) fn new() -> Self {
        Self { epoch: Instant::now(), loads: Mutex::default() }
    }

    /// Makes the table that threads use. Replicas keep their load from one table to the next.
    pub(crate) fn compile(&self, table: RoutingTable) -> LiveTable {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        let mut live = LiveTable { version: table.version, ..LiveTable::default() };
        for (host, route) in table.hosts {
            let target = |target: &domain::routing::Target| {
                let load = loads.entry(target.replica_id).or_insert_with(|| Arc::new(Load::new(self.epoch)));
                let (replica_id, deployment_id, address) = (target.replica_id, target.deployment_id, target.address);
                // Tables from before replicas had names.
                let name = if target.name.is_empty() { replica_id.to_string() } else { target.name.clone() };
                let header = HeaderValue::from_str(&name).ok();
                Arc::new(LiveTarget { replica_id, deployment_id, address, name, header, load: Arc::clone(load) })
            };
            let targets: Vec<_> = route.targets.iter().map(target).collect();
            live.replicas.extend(targets.iter().map(|target| (target.replica_id, Arc::clone(target))));
            live.has_wildcards |= host.starts_with("*.");
            live.hosts.insert(crate::host::key(&host).into_owned(), Arc::new(LiveRoute { route, targets }));
        }
        // A thread that still has the old table may yet send a request to a replica of it, and a drain must find that: so only what no table
        // and no request holds is forgotten.
        loads.retain(|_, load| Arc::strong_count(load) > 1);
        live
    }

    pub(crate) fn of(&self, replica: ReplicaId) -> Option<Arc<Load>> {
        self.loads.lock().unwrap_or_else(PoisonError::into_inner).get(&replica).map(Arc::clone)
    }

    /// For how many milliseconds replicas have had no request.
    pub(crate) fn idle(&self) -> Vec<(ReplicaId, u64)> {
        let loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        loads.iter().map(|(replica, load)| (*replica, load.idle())).collect()
    }

    /// Requests in flight by replica.
    pub(crate) fn in_flight(&self) -> Vec<(ReplicaId, usize)> {
        let loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        loads.iter().map(|(replica, load)| (*replica, load.in_flight())).collect()
    }
}
