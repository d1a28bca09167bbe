//! Requests to apps that sleep: they wait while the control plane, which asks for it, learns that somebody wants the app.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::routing::Asleep;
use tokio::sync::Notify;

use crate::routes::LiveRoute;
use crate::worker::Worker;

/// A control plane that died with the news is told again.
const AGAIN: Duration = Duration::from_secs(5);

/// The apps that somebody waits for and that the control plane has not been told of.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    apps: Mutex<BTreeSet<Asleep>>,
    news: Notify,
}

impl Wanted {
    fn add(&self, app: Asleep) {
        self.apps.lock().unwrap_or_else(PoisonError::into_inner).insert(app);
        self.news.notify_one();
    }

    /// Waits until there are any, and takes them.
    pub(crate) async fn take(&self) -> BTreeSet<Asleep> {
        loop {
            let apps = std::mem::take(&mut *self.apps.lock().unwrap_or_else(PoisonError::into_inner));
            if !apps.is_empty() {
                return apps;
            }
            // One that was added before this line is not missed: it left a permit.
            self.news.notified().await;
        }
    }
}

/// Waits until the app behind a route is awake, or for as long as the edge waits for one; the route as it is then.
pub(crate) async fn awake(worker: &Worker, key: &str, mut route: Arc<LiveRoute>) -> Arc<LiveRoute> {
    let until = Instant::now() + worker.shared.limits.wake;
    while let Some(app) = route.route.asleep {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        worker.shared.wanted.add(app);
        // Nothing tells this one apart from a change of somebody else's route, or from a time that has come.
        let _ = tokio::time::timeout(left.min(AGAIN), worker.changed.notified()).await;
        match worker.table().route(key) {
            Some(now) => route = Arc::clone(now),
            None => break,
        }
    }
    route
}
