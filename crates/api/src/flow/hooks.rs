//! Webhooks of runs: their secret, what was sent, and sending it again (`contracts/flow.md` 1.10).

use domain::DeliveryId;
use domain::delivery::{Delivery, DeliveryAttempt, DeliveryState};
use ops::Error;
use secrecy::ExposeSecret;
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::{Answer, Caller, Path, ok};
use super::runs::{run_id, time};

/// What webhooks are signed with.
#[derive(Serialize, ToSchema)]
pub(crate) struct SigningSecret {
    /// `whsec_…`, for the verifier of any Svix library.
    secret: String,
}

/// The secret that the webhooks of the account's runs are signed with.
#[utoipa::path(get, path = "/v1/webhooks/secret", operation_id = "getWebhookSecret", tag = "webhooks", responses((status = 200, body = SigningSecret)))]
pub(crate) async fn secret(Caller(ctx): Caller) -> Answer<SigningSecret> {
    ok(SigningSecret { secret: ops::run::webhook_secret(&ctx).await?.expose_secret().to_owned() })
}

/// A message to a webhook.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeliveryShape {
    id: String,
    state: DeliveryStatus,
    /// Oldest first.
    attempts: Vec<AttemptShape>,
    /// When it is tried next, while it is pending.
    next_attempt_at: Option<String>,
    created_at: String,
    updated_at: String,
    /// What was sent.
    body: String,
}

/// An attempt to send a message.
#[derive(Serialize, ToSchema)]
pub(crate) struct AttemptShape {
    at: String,
    /// How long it took, in milliseconds.
    duration: u32,
    /// Of the answer, if there was one.
    status: Option<u16>,
    error: Option<String>,
}

/// Where a message stands.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum DeliveryStatus {
    Pending,
    Delivered,
    Failed,
}

/// The messages of a run.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Deliveries {
    items: Vec<DeliveryShape>,
    /// Always null.
    next_cursor: Option<String>,
}

fn shape(delivery: Delivery, attempts: Vec<DeliveryAttempt>) -> DeliveryShape {
    let pending = delivery.state == DeliveryState::Pending;
    DeliveryShape {
        id: delivery.id.0.to_string(),
        state: match delivery.state {
            DeliveryState::Pending => DeliveryStatus::Pending,
            DeliveryState::Delivered => DeliveryStatus::Delivered,
            DeliveryState::Failed => DeliveryStatus::Failed,
        },
        attempts: attempts
            .into_iter()
            .map(|DeliveryAttempt { at, millis, status, error, .. }| AttemptShape { at: time(at), duration: millis, status, error })
            .collect(),
        next_attempt_at: pending.then(|| time(delivery.next_at)),
        created_at: time(delivery.created_at),
        updated_at: time(delivery.updated_at),
        body: delivery.body,
    }
}

/// What was sent to a run's webhook.
#[utoipa::path(get, path = "/v1/runs/{runId}/deliveries", operation_id = "listDeliveries", tag = "webhooks", params(("runId" = String, Path)), responses((status = 200, body = Deliveries)))]
pub(crate) async fn deliveries(Caller(ctx): Caller, Path(id): Path<String>) -> Answer<Deliveries> {
    let found = ops::run::run_deliveries(&ctx, run_id(&id)?).await?;
    ok(Deliveries { items: found.into_iter().map(|(delivery, attempts)| shape(delivery, attempts)).collect(), next_cursor: None })
}

/// Sends a message again.
#[utoipa::path(post, path = "/v1/runs/{runId}/deliveries/{deliveryId}/replay", operation_id = "replayDelivery", tag = "webhooks", params(("runId" = String, Path), ("deliveryId" = String, Path)), responses((status = 200, body = DeliveryShape)))]
pub(crate) async fn replay(Caller(ctx): Caller, Path((run, id)): Path<(String, String)>) -> Answer<DeliveryShape> {
    let id = uuid::Uuid::parse_str(&id).map(DeliveryId).map_err(|_| Error::not_found("Delivery"))?;
    ok(shape(ops::run::run_delivery_replay(&ctx, run_id(&run)?, id).await?, vec![]))
}
