//! Turns at nodes that say how often they are performed at the same time, over all runs of their workflow in this process.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use domain::WorkspaceId;
use domain::workflow::MAX_CONCURRENCY;
use domain::workflow::run::Run;
use ops::run::wire_subject;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::nodes::Failure;
use crate::lock;

/// A node of which N may be performed at once takes an Nth of these for each. With so many, N + 1 of them never fit, whatever N is, and runs
/// of versions of a workflow that say different numbers stand in one queue.
const SHARES: u32 = 2 * MAX_CONCURRENCY * MAX_CONCURRENCY;

/// Whose node it is: of what, and which.
type Key = (WorkspaceId, String, String);

#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<Key, Arc<Semaphore>>>);

impl Turns {
    /// Waits for a turn at a node, in the order of asking. It ends when it is dropped.
    pub(super) async fn turn(&self, run: &Run, node: &str, at_once: u32) -> Result<OwnedSemaphorePermit, Failure> {
        let key = (run.workspace_id, wire_subject(&run.subject), node.to_owned());
        let queue = {
            let mut queues = lock(&self.0);
            queues.retain(|_, queue| Arc::strong_count(queue) > 1);
            queues.entry(key).or_insert_with(|| Arc::new(Semaphore::new(SHARES as usize))).clone()
        };
        let turn = queue.acquire_many_owned(SHARES / at_once.clamp(1, MAX_CONCURRENCY)).await;
        turn.map_err(|_| Failure::again("the server is stopping"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_more_never_fits() {
        for at_once in 1..=MAX_CONCURRENCY {
            let share = SHARES / at_once;
            assert!(share * at_once <= SHARES && share * (at_once + 1) > SHARES, "{at_once}");
        }
    }
}
