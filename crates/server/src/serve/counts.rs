//! How often keys have asked, and were refused: where that is counted, and that it survives.

use std::sync::Arc;
use std::time::Duration;

use domain::Timestamp;
use ops::Ops;
use ops::auth::refusals_keep;
use ops::limit::{self, LimitRules, Limiter, Shared};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, Fallback};

/// With the time that a write takes, a count is never for longer than a second in memory alone.
const PERIOD: Duration = Duration::from_millis(800);

/// Counts as the settings say.
pub(crate) fn limiter(config: &Config) -> anyhow::Result<Limiter> {
    let rules = LimitRules {
        free: config.limits_free.parse()?,
        hobby: config.limits_hobby.parse()?,
        professional: config.limits_professional.parse()?,
        operator: config.limits_operator.parse()?,
        cost: (config.limits_cost > 0).then_some(config.limits_cost),
        ..LimitRules::default()
    };
    let Some(address) = config.limits.redis() else { return Ok(Limiter::new(rules)) };
    let fallback = match config.limits_fallback {
        Fallback::Local => limit::Fallback::Local,
        Fallback::Refuse => limit::Fallback::Refuse,
    };
    Ok(Limiter::with_shared(rules, Shared::open(address)?, fallback))
}

/// Writes the counts down until the server stops.
pub(super) async fn keep(ops: Arc<Ops>, stop: CancellationToken) {
    let mut failing = false;
    let mut ticks = tokio::time::interval(PERIOD);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let kept = ops.limits.keep(&ops.store, Timestamp::now()).await;
        match &kept {
            Err(error) if !failing => {
                tracing::warn!(%error, "counts of requests cannot be written: they are kept in memory until they can")
            }
            _ => {}
        }
        failing = kept.is_err();
        refusals_keep(&ops, Timestamp::now()).await;
    }
}

/// Writes down what is left when the last request has been answered.
pub(super) async fn keep_now(ops: &Ops) {
    if let Err(error) = ops.limits.keep(&ops.store, Timestamp::now()).await {
        tracing::warn!(%error, "the last counts of requests could not be written");
    }
    refusals_keep(ops, Timestamp::now()).await;
}
