use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use domain::ReplicaId;
use domain::shell::ShellSpec;
use runtime::sim::SimDriver;
use runtime::{BoxFuture, Driver, DriverError, Observation, ReplicaSpec, ReplicaUsage, Shell};
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::journal::{Entry, Journal};

/// What becomes of the call that was chosen. Starts, stops and forgets are counted together, from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It fails without having done anything.
    Fails,
    /// It never returns and has done nothing.
    HangsBefore,
    /// It is done and never returns.
    HangsAfter,
}

/// The simulated driver, with a journal and with faults in single calls. Its replicas belong to the runtime that it was made in, so that
/// they outlive an engine that is killed.
#[derive(Clone)]
pub struct Stage {
    /// The driver itself.
    pub sim: SimDriver,
    journal: Arc<Journal>,
    home: Handle,
    calls: Arc<AtomicU64>,
    fault: watch::Sender<Option<(u64, Fault)>>,
    struck: watch::Sender<bool>,
    blind_for: Arc<AtomicU64>,
    observed: Arc<AtomicU64>,
}

impl Stage {
    pub(crate) fn new(journal: Arc<Journal>) -> Self {
        Self {
            sim: SimDriver::new(),
            journal,
            home: Handle::current(),
            calls: Arc::default(),
            fault: watch::Sender::new(None),
            struck: watch::Sender::new(false),
            blind_for: Arc::default(),
            observed: Arc::default(),
        }
    }

    /// The `nth` call from now on goes wrong.
    pub fn fault(&self, nth: u64, fault: Fault) {
        self.struck.send_replace(false);
        self.fault.send_replace(Some((self.calls.load(Ordering::SeqCst) + nth, fault)));
    }

    /// Whether the chosen call has been made.
    #[must_use]
    pub fn has_struck(&self) -> bool {
        *self.struck.borrow()
    }

    /// The next so many observations fail.
    pub fn blind_for(&self, observations: u64) {
        self.blind_for.store(observations, Ordering::SeqCst);
    }

    /// How often the driver was observed.
    #[must_use]
    pub fn observations(&self) -> u64 {
        self.observed.load(Ordering::SeqCst)
    }

    async fn call<T>(&self, entry: Entry, act: impl Future<Output = Result<T, DriverError>>) -> Result<T, DriverError> {
        let number = self.calls.fetch_add(1, Ordering::SeqCst) + 1;
        let fault = self.fault.borrow().filter(|(at, _)| *at == number).map(|(_, fault)| fault);
        let strike = || {
            self.struck.send_replace(true);
            self.journal.ring();
        };
        match fault {
            None => {
                self.journal.write(entry);
                let done = act.await;
                self.journal.ring();
                done
            }
            Some(Fault::Fails) => {
                strike();
                Err(DriverError::Simulated(format!("call {number} was told to fail")))
            }
            Some(Fault::HangsBefore) => {
                strike();
                std::future::pending().await
            }
            Some(Fault::HangsAfter) => {
                self.journal.write(entry);
                // Whatever the answer is, nobody gets it.
                let _ = act.await;
                strike();
                std::future::pending().await
            }
        }
    }
}

impl Driver for Stage {
    fn start(&self, spec: ReplicaSpec) -> BoxFuture<'_, Result<(), DriverError>> {
        Box::pin(async move {
            let (sim, home, replica) = (self.sim.clone(), self.home.clone(), spec.replica_id);
            let start = async move {
                let started = home.spawn(async move { sim.start(spec).await });
                started.await.map_err(|error| DriverError::Simulated(error.to_string()))?
            };
            self.call(Entry::Start(replica), start).await
        })
    }

    fn stop(&self, replica: ReplicaId, grace: Duration) -> BoxFuture<'_, Result<(), DriverError>> {
        Box::pin(async move {
            let (sim, home) = (self.sim.clone(), self.home.clone());
            let stop = async move {
                let stopped = home.spawn(async move { sim.stop(replica, grace).await });
                stopped.await.map_err(|error| DriverError::Simulated(error.to_string()))?
            };
            self.call(Entry::Stop(replica), stop).await
        })
    }

    fn observe(&self) -> BoxFuture<'_, Result<Vec<Observation>, DriverError>> {
        Box::pin(async {
            self.observed.fetch_add(1, Ordering::SeqCst);
            self.journal.ring();
            let left = self.blind_for.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if left.is_ok() {
                return Err(DriverError::Simulated("an observation was told to fail".into()));
            }
            self.sim.observe().await
        })
    }

    fn usage<'a>(&'a self, replicas: &'a [ReplicaId]) -> BoxFuture<'a, Vec<(ReplicaId, ReplicaUsage)>> {
        self.sim.usage(replicas)
    }

    fn shell(&self, replica: ReplicaId, spec: ShellSpec) -> BoxFuture<'_, Result<Shell, DriverError>> {
        self.sim.shell(replica, spec)
    }

    fn forget(&self, replica: ReplicaId) -> BoxFuture<'_, Result<(), DriverError>> {
        Box::pin(self.call(Entry::Forget(replica), self.sim.forget(replica)))
    }

    fn bell(&self) -> watch::Receiver<u64> {
        self.sim.bell()
    }
}
