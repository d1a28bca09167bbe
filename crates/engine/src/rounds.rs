//! Work that is looked after again and again until the engine stops.

use std::fmt::Display;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::Shared;

/// Calls `look` at once, whenever the bell rings, and by the clock, for a bell that was lost. A look that is under way when the engine stops
/// is given up; of one that fails, `problem` is told.
pub(crate) async fn on_bell<F, T, E>(
    shared: &Shared,
    mut bell: watch::Receiver<u64>,
    period: Duration,
    problem: &str,
    mut look: impl FnMut() -> F,
) where
    F: Future<Output = Result<T, E>>,
    E: Display,
{
    let mut tick = tokio::time::interval(period);
    // After a look that took longer than the period, the next one has time again.
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            _ = bell.changed() => {}
            _ = tick.tick() => {}
        }
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            done = look() => if let Err(error) = done {
                tracing::warn!(%error, "{problem}");
            }
        }
    }
}

/// The same for what nobody rings for.
pub(crate) async fn by_clock<F, T, E>(shared: &Shared, period: Duration, problem: &str, look: impl FnMut() -> F)
where
    F: Future<Output = Result<T, E>>,
    E: Display,
{
    let (_silent, bell) = watch::channel(0);
    on_bell(shared, bell, period, problem, look).await;
}
