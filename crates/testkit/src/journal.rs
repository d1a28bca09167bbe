use std::sync::{Mutex, PoisonError};

use domain::ReplicaId;
use tokio::sync::watch;

/// Something that the engine did to the world outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Entry {
    /// The driver was asked to start a replica.
    Start(ReplicaId),
    /// The driver was asked to stop a replica.
    Stop(ReplicaId),
    /// The driver was asked to forget a replica.
    Forget(ReplicaId),
    /// The edge has taken a table that sends requests to these replicas.
    Table(Vec<ReplicaId>),
    /// The edge was asked to wait for a replica's requests.
    Drain(ReplicaId),
}

/// What the engine did to the driver and to the edge, in the order in which it happened.
#[derive(Default)]
pub struct Journal {
    entries: Mutex<Vec<Entry>>,
    rings: watch::Sender<u64>,
}

impl Journal {
    /// Everything so far.
    #[must_use]
    pub fn entries(&self) -> Vec<Entry> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Changes with every entry.
    #[must_use]
    pub fn rings(&self) -> watch::Receiver<u64> {
        self.rings.subscribe()
    }

    pub(crate) fn write(&self, entry: Entry) {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner).push(entry);
        self.ring();
    }

    pub(crate) fn ring(&self) {
        self.rings.send_modify(|count| *count += 1);
    }
}
