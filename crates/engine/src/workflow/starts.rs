//! Starts workflows by the clock.
//!
//! Should be true after each pass: no schedule's time has come without its workflow having been started. Starting and moving the schedule
//! on are one commit, so that neither a restart nor a second engine starts it twice. What happens on the platform starts workflows
//! where notifications are made of it ([`crate::notify`]).

use std::sync::Arc;
use std::time::Duration;

use domain::Timestamp;
use store::StoreError;

use crate::Shared;

/// Schedules of one pass.
const BATCH: u32 = 50;
/// The clock's own look, for a bell that was lost.
const PERIOD: Duration = Duration::from_secs(30);
/// Between two looks, also when something cannot be started.
const FLOOR: Duration = Duration::from_secs(1);

/// Runs until the engine stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut rings = shared.ops.signals.work();
    loop {
        rings.mark_unchanged();
        let wait = pass(&shared).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "schedules of workflows could not be read; it is tried again");
            PERIOD
        });
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            () = rung_after_a_while(&mut rings) => {}
            () = tokio::time::sleep(wait.clamp(FLOOR, PERIOD)) => {}
        }
    }
}

/// The bell rings for everything that happens; once a second is enough to look.
async fn rung_after_a_while(rings: &mut tokio::sync::watch::Receiver<u64>) {
    // The sender lives as long as the engine.
    let _ = rings.changed().await;
    tokio::time::sleep(FLOOR).await;
}

/// Starts what is due. Returns how long nothing more is.
async fn pass(shared: &Arc<Shared>) -> Result<Duration, StoreError> {
    let store = &shared.ops.store;
    for trigger in store.system_flow_triggers_due(Timestamp::now(), BATCH).await? {
        // One that cannot be started keeps no other from its time.
        if let Err(error) = ops::flow_trigger::system_schedule_start(&shared.ops, &trigger, Timestamp::now()).await {
            tracing::warn!(%error, trigger = %trigger.id, "a schedule could not start its workflow; it is tried again");
        }
    }
    let next = store.system_flow_trigger_next().await?;
    Ok(next.map_or(PERIOD, |at| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO)))
}
