//! `http_request`, `notify`: other servers, through the client that keeps away from neighbours.

use std::time::Duration;

use hyper::Method;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::{Attempt, Failure, one};
use crate::outgoing::{Ask, Got, OutgoingError};
use crate::workflow::worker::Given;

/// The largest answer that a node takes in.
const ANSWER: usize = 3 << 20;
/// The node's own limit ends it earlier.
const PATIENCE: Duration = Duration::from_secs(3600);

/// Why there is no answer, and whether another attempt could go better.
fn failure(error: &OutgoingError) -> Failure {
    let lasting = matches!(error, OutgoingError::BadUrl(_) | OutgoingError::Refused { .. } | OutgoingError::TooLarge(_));
    Failure { text: error.to_string(), repeatable: !lasting }
}

pub(super) async fn ask(attempt: &Attempt, ask: Ask) -> Result<Got, Failure> {
    attempt.flow.shared.outgoing.ask(ask).await.map_err(|error| failure(&error))
}

/// Asks an address. A request that changes something carries the node run's id, by which its receiver can tell a repetition.
pub(super) async fn request(attempt: &Attempt) -> Result<Given, Failure> {
    let input = &attempt.input;
    let text = |name: &str| input.get(name).and_then(Value::as_str);
    let method = text("method").unwrap_or("GET");
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Failure::once(format!("method: {method} is none")))?;
    let mut headers = headers(input.get("headers"))?;
    let body = match input.get("body") {
        None | Some(Value::Null) => Bytes::new(),
        Some(Value::String(text)) => Bytes::from(text.clone()),
        Some(value) => {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
            Bytes::from(value.to_string())
        }
    };
    if !method.is_safe() {
        let (name, key) = key(attempt)?;
        headers.entry(name).or_insert(key);
    }
    let url = text("url").unwrap_or_default().to_owned();
    let got = ask(attempt, Ask { method, url, headers, body, timeout: PATIENCE, max_bytes: ANSWER, redirects: 5 }).await?;
    let status = got.status.as_u16();
    let body = content(&got);
    if status >= 400 && input.get("fail_on_error").and_then(Value::as_bool) != Some(false) {
        let words: String = body.as_str().map_or_else(|| body.to_string(), str::to_owned).chars().take(300).collect();
        return Err(Failure {
            text: format!("the answer was {status}: {words}"),
            repeatable: status >= 500 || status == 429 || status == 408,
        });
    }
    let named = got.headers.iter().map(|(name, value)| (name.to_string(), json!(String::from_utf8_lossy(value.as_bytes()))));
    let output =
        [("body".to_owned(), body), ("status".to_owned(), json!(status)), ("headers".to_owned(), named.collect::<Map<_, _>>().into())];
    Ok(Given { output: Map::from_iter(output), logs: vec![] })
}

/// What stays the same when a node is performed again.
fn key(attempt: &Attempt) -> Result<(HeaderName, HeaderValue), Failure> {
    let key = HeaderValue::from_str(&domain::cuid(attempt.key.0)).map_err(|error| Failure::once(error.to_string()))?;
    Ok((HeaderName::from_static("idempotency-key"), key))
}

fn headers(given: Option<&Value>) -> Result<HeaderMap, Failure> {
    let mut out = HeaderMap::new();
    let all = match given {
        None | Some(Value::Null) => return Ok(out),
        Some(Value::Object(all)) => all,
        Some(_) => return Err(Failure::once("headers: an object of texts is needed")),
    };
    for (name, value) in all {
        let bad = || Failure::once(format!("headers: {name} is no header with a text"));
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        out.insert(HeaderName::try_from(name.as_str()).map_err(|_| bad())?, HeaderValue::try_from(text).map_err(|_| bad())?);
    }
    Ok(out)
}

/// JSON where it says so and is; otherwise text.
fn content(got: &Got) -> Value {
    let kind = got.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let parsed = kind.contains("json").then(|| serde_json::from_slice(&got.body).ok()).flatten();
    parsed.unwrap_or_else(|| Value::String(String::from_utf8_lossy(&got.body).into_owned()))
}

/// Sends a message in Slack's form, with the node run's id.
pub(super) async fn notify(attempt: &Attempt) -> Result<Given, Failure> {
    let text = |name: &str| attempt.input.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json")), key(attempt)?]);
    let body = Bytes::from(json!({"text": text("text")}).to_string());
    let message = Ask { method: Method::POST, url: text("url"), headers, body, timeout: PATIENCE, max_bytes: 64 << 10, redirects: 3 };
    let got = ask(attempt, message).await?;
    if got.status.is_success() {
        return Ok(one("result", got.status.as_u16()));
    }
    Err(Failure { text: format!("the receiver answered {}", got.status.as_u16()), repeatable: got.status.is_server_error() })
}
