//! Turns at nodes that say how often they are performed at the same time, over all runs of their workflow. In this process they are given in
//! the order of asking; what other control planes perform is counted in the store.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::workflow::MAX_CONCURRENCY;
use domain::workflow::run::Subject;
use domain::{Tenant, WorkspaceId};
use ops::run::wire_subject;
use store::NodeTurn;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::nodes::{Attempt, Failure};
use crate::lock;

/// A node of which N may be performed at once takes an Nth of these for each. With so many, N + 1 of them never fit, whatever N is, and runs
/// of versions of a workflow that say different numbers stand in one queue.
const SHARES: u32 = 2 * MAX_CONCURRENCY * MAX_CONCURRENCY;
/// Between two looks whether another control plane has left a turn.
const LOOK: Duration = Duration::from_millis(250);
/// The same while the store does not answer, which is said each time.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Whose node it is: of what, and which.
type Key = (WorkspaceId, String, String);

#[derive(Default)]
pub(super) struct Turns(Mutex<HashMap<Key, Arc<Semaphore>>>);

impl Turns {
    /// Waits for a turn at a node whose row says that it does. The turn is to be kept until the row says that it is over.
    pub(super) async fn turn(&self, attempt: &Attempt, at_once: u32) -> Result<OwnedSemaphorePermit, Failure> {
        let at_once = at_once.clamp(1, MAX_CONCURRENCY);
        let key = (attempt.run.workspace_id, wire_subject(&attempt.run.subject), attempt.node_id.clone());
        let queue = {
            let mut queues = lock(&self.0);
            queues.retain(|_, queue| Arc::strong_count(queue) > 1);
            queues.entry(key).or_insert_with(|| Arc::new(Semaphore::new(SHARES as usize))).clone()
        };
        let turn = queue.acquire_many_owned(SHARES / at_once).await;
        let turn = turn.map_err(|_| Failure::again("the server is stopping"))?;
        until_no_other_has_it(attempt, at_once).await;
        Ok(turn)
    }
}

async fn until_no_other_has_it(attempt: &Attempt, most: u32) {
    let Attempt { flow, run, node_id, .. } = attempt;
    // Only a workflow is the same in two runs.
    let Subject::Workflow { id: workflow, .. } = run.subject else { return };
    let turn = NodeTurn { run: run.id, node: node_id, workflow, holder: flow.holder, most };
    loop {
        let pause = match flow.shared.ops.store.node_turn_take(Tenant::system(run.workspace_id), turn).await {
            Ok(true) => return,
            Ok(false) => LOOK,
            Err(error) => {
                tracing::warn!(%error, run = %run.id, "a node could not take its turn; it is tried again");
                AFTER_FAILURE
            }
        };
        tokio::time::sleep(pause).await;
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
