//! Webhooks that people try out: the way from `ops::webhook` to the client for addresses that users chose.

use std::sync::Arc;
use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use ops::Error;
use ops::webhook::WebhookRequest;
use tokio::sync::mpsc;

use super::Ask;
use crate::Shared;

/// A receiver has so long to answer.
const PATIENCE: Duration = Duration::from_secs(15);
/// Nobody sees the answer's text.
const ANSWER: usize = 64 << 10;

/// Sends what is asked for, each once, until the engine stops.
pub(crate) async fn run(shared: Arc<Shared>, mut requests: mpsc::Receiver<WebhookRequest>) {
    loop {
        let request = tokio::select! {
            () = shared.shutdown.cancelled() => return,
            request = requests.recv() => request,
        };
        let Some(request) = request else { return };
        shared.tracker.spawn(send(shared.clone(), request));
    }
}

async fn send(shared: Arc<Shared>, request: WebhookRequest) {
    let WebhookRequest { url, payload, answered } = request;
    let ask = Ask {
        method: Method::POST,
        url,
        headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]),
        body: Bytes::from(payload),
        timeout: PATIENCE,
        max_bytes: ANSWER,
        redirects: 3,
    };
    let got = tokio::select! {
        // Whoever waits is told that nobody will answer.
        () = shared.shutdown.cancelled() => return,
        got = shared.outgoing.ask(ask) => got,
    };
    // Whoever asked may have gone already.
    let _ = answered.send(got.map(|got| got.status.as_u16()).map_err(|error| Error::bad_input(error.to_string())));
}
