//! Sends pending messages.
//!
//! Should be true after each pass: every message whose time has come is under way, as far as places are left. An attempt is claimed before it
//! is made, so that two control planes do not make it twice, and a claim that nobody ends (the control plane was killed) runs out. A
//! message may therefore arrive twice; its id stays the same.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use domain::delivery::{Delivery, DeliveryAttempt, DeliveryState, Target, next_attempt};
use domain::{Tenant, Timestamp, WorkspaceId};
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use jiff::SignedDuration;
use store::{Change, StoreError};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Ask, mail, signature};
use crate::{Shared, lock};

/// Messages under way at the same time: of the server, and of one workspace, whose receivers may be slow.
const PLACES: usize = 32;
const PLACES_OF_ONE: usize = 4;
/// A receiver has so long to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// A claim outlives every attempt.
const CLAIM: SignedDuration = SignedDuration::from_secs(60);
/// What is kept of an answer.
const ANSWER: usize = 64 << 10;
/// The clock's own look, for a bell that was lost.
const PERIOD: Duration = Duration::from_secs(30);
/// The shortest pause between two passes that were not rung for.
const FLOOR: Duration = Duration::from_millis(200);

struct Post {
    shared: Arc<Shared>,
    flying: Mutex<HashMap<WorkspaceId, usize>>,
    landed: watch::Sender<u64>,
}

/// Runs until the engine stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let post = Arc::new(Post { shared: shared.clone(), flying: Mutex::default(), landed: watch::Sender::new(0) });
    let (mut rings, mut landed, mut made) = (shared.ops.signals.work(), post.landed.subscribe(), shared.mail.subscribe());
    loop {
        rings.mark_unchanged();
        landed.mark_unchanged();
        made.mark_unchanged();
        let wait = post.pass().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "pending messages could not be read; it is tried again");
            PERIOD
        });
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            _ = rings.changed() => {}
            _ = landed.changed() => {}
            _ = made.changed() => {}
            () = tokio::time::sleep(wait.clamp(FLOOR, PERIOD)) => {}
        }
    }
}

impl Post {
    /// Begins what is due. Returns how long nothing more is.
    async fn pass(self: &Arc<Self>) -> Result<Duration, StoreError> {
        let store = &self.shared.ops.store;
        let busy: Vec<WorkspaceId> =
            lock(&self.flying).iter().filter(|(_, count)| **count >= PLACES_OF_ONE).map(|(workspace, _)| *workspace).collect();
        let room = PLACES.saturating_sub(lock(&self.flying).values().sum());
        if room == 0 {
            return Ok(PERIOD);
        }
        let due = store.system_deliveries_due(Timestamp::now(), &busy, u32::try_from(room).unwrap_or(1)).await?;
        for delivery in due {
            if lock(&self.flying).get(&delivery.workspace_id).is_some_and(|count| *count >= PLACES_OF_ONE) {
                continue;
            }
            let now = Timestamp::now();
            let claim = Change::DeliveryClaim { id: delivery.id, attempts: delivery.attempts, at: now, until: now + CLAIM };
            match store.commit(Tenant::system(delivery.workspace_id), vec![claim]).await {
                Ok(_) => self.send(delivery),
                // Somebody else sends it.
                Err(StoreError::Stale) => {}
                Err(error) => tracing::warn!(%error, delivery = %delivery.id, "a message could not be begun; it is tried again"),
            }
        }
        let next = store.system_delivery_next().await?;
        let wait = next.map(|at| Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO));
        Ok(wait.unwrap_or(PERIOD))
    }

    fn send(self: &Arc<Self>, delivery: Delivery) {
        *lock(&self.flying).entry(delivery.workspace_id).or_default() += 1;
        let post = self.clone();
        self.shared.tracker.spawn(async move {
            tokio::select! {
                // The claim runs out, and the next engine sends it.
                () = post.shared.shutdown.cancelled() => {}
                () = post.attempt(&delivery) => {}
            }
            let mut flying = lock(&post.flying);
            if let Some(count) = flying.get_mut(&delivery.workspace_id) {
                *count -= 1;
                if *count == 0 {
                    flying.remove(&delivery.workspace_id);
                }
            }
            post.landed.send_modify(|count| *count += 1);
        });
    }

    async fn attempt(&self, delivery: &Delivery) {
        let (begun, clock) = (Timestamp::now(), Instant::now());
        let (number, tries) = (delivery.attempts + 1, delivery.tries + 1);
        let outcome = self.carry(delivery, begun).await;
        let (status, error) = match outcome {
            Ok(status) => (status, None),
            Err((status, error)) => (status, Some(error)),
        };
        let now = Timestamp::now();
        let again = if error.is_none() { None } else { next_attempt(tries, now) };
        let state = match (&error, again) {
            (None, _) => DeliveryState::Delivered,
            (Some(_), Some(_)) => DeliveryState::Pending,
            (Some(_), None) => DeliveryState::Failed,
        };
        let millis = u32::try_from(clock.elapsed().as_millis()).unwrap_or(u32::MAX);
        let attempt = DeliveryAttempt { delivery_id: delivery.id, number, at: begun, millis, status, error };
        tracing::debug!(delivery = %delivery.id, number, ?state, "a message was sent");
        let done = Change::DeliveryDone { attempt, state, at: now, next: again.unwrap_or(now) };
        if let Err(error) = self.shared.ops.store.commit(Tenant::system(delivery.workspace_id), vec![done]).await {
            tracing::warn!(%error, delivery = %delivery.id, "the end of an attempt could not be written down; the message may be sent again");
        }
    }

    /// One attempt: the answer's status, and what was wrong.
    async fn carry(&self, delivery: &Delivery, at: Timestamp) -> Result<Option<u16>, (Option<u16>, String)> {
        match &delivery.target {
            Target::Mail { to, subject } => {
                let sent = mail::send(self.shared.config.outgoing.mail.as_ref(), to, subject, &delivery.body);
                let sent = tokio::time::timeout(PATIENCE, sent).await;
                sent.unwrap_or_else(|_| Err(format!("the mail server did not answer within {} seconds", PATIENCE.as_secs())))
                    .map(|()| None)
                    .map_err(|error| (None, error))
            }
            Target::Webhook { url, headers, secret } => {
                let mut all = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
                for (name, value) in headers {
                    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
                        all.insert(name, value);
                    }
                }
                if let Some(secret) = secret {
                    all.extend(signature::headers(secret, delivery.id, at, &delivery.body));
                }
                let ask = Ask {
                    method: Method::POST,
                    url: url.clone(),
                    headers: all,
                    body: Bytes::from(delivery.body.clone()),
                    timeout: PATIENCE,
                    max_bytes: ANSWER,
                    redirects: 3,
                };
                let got = self.shared.outgoing.ask(ask).await.map_err(|error| (None, error.to_string()))?;
                let status = got.status.as_u16();
                if got.status.is_success() {
                    return Ok(Some(status));
                }
                let start: String = String::from_utf8_lossy(&got.body).chars().filter(|c| !c.is_control()).take(200).collect();
                Err((Some(status), format!("the receiver answered {status}: {start}")))
            }
        }
    }
}
