//! Language models, through the one endpoint of the operator's choice that speaks as OpenAI's does.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::workflow::catalogue::LLM;
use domain::workflow::sniff::content_type;
use hyper::body::Bytes;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::{Method, StatusCode};
use ops::workflow::LlmSettings;
use secrecy::ExposeSecret;
use serde_json::{Map, Value, json};

use super::picture::fetch;
use super::{Attempt, Failure};
use crate::outgoing::{Ask, Got};
use crate::workflow::worker::Given;

/// The largest answer in bytes.
const ANSWER: usize = 8 << 20;
/// The node's own limit ends it earlier.
const PATIENCE: Duration = Duration::from_secs(3600);
/// Bytes of all pictures together, and how many there may be.
const PICTURES: usize = 20 << 20;
const MOST_PICTURES: usize = 20;
/// Handed on as they are.
const PARAMETERS: [&str; 12] = [
    "max_tokens",
    "temperature",
    "top_p",
    "top_k",
    "top_a",
    "min_p",
    "seed",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "reasoning",
    "stop",
];

/// Asks the model behind a type of node.
pub(super) async fn ask(attempt: &Attempt, kind: &str) -> Result<Given, Failure> {
    let ops = &attempt.flow.shared.ops;
    let settings = ops.settings.flow.llm.as_ref();
    let settings = settings.ok_or_else(|| Failure::once("no language models are configured: the operator sets llm_url and llm_models"))?;
    let own = || attempt.input.get("model").and_then(Value::as_str).filter(|_| kind == LLM).map(str::to_owned);
    let model = settings.models.get(kind).cloned().or_else(own);
    let model = model.ok_or_else(|| Failure::once(format!("{kind} has no model behind it: the operator names one in llm_models")))?;
    let mut headers = HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static("application/json"))]);
    if let Some(key) = &settings.key {
        let value = HeaderValue::try_from(format!("Bearer {}", key.expose_secret()));
        headers.insert(AUTHORIZATION, value.map_err(|_| Failure::once("the key of the language models is no text for a header"))?);
    }
    if let Ok(key) = HeaderValue::try_from(domain::cuid(attempt.key.0)) {
        headers.insert("idempotency-key", key);
    }
    let request = Ask {
        method: Method::POST,
        url: address(settings),
        headers,
        body: Bytes::from(body(&model, &attempt.input, pictures(attempt).await?).to_string()),
        timeout: PATIENCE,
        max_bytes: ANSWER,
        redirects: 0,
    };
    // The operator chose the address, not the user: it may well be of this machine.
    let got = attempt.flow.shared.operators.ask(request).await;
    let got = got.map_err(|error| Failure::again(format!("the language models do not answer: {error}")))?;
    read(&got, &model, ops.settings.flow.price(kind))
}

fn address(settings: &LlmSettings) -> String {
    format!("{}/chat/completions", settings.base_url.trim_end_matches('/'))
}

/// The pictures as the model is given them. They are fetched here, because whoever answers for the model may reach what users may not.
async fn pictures(attempt: &Attempt) -> Result<Vec<String>, Failure> {
    let given = attempt.input.get("image_urls").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    if given.len() > MOST_PICTURES {
        return Err(Failure::once(format!("image_urls: there may be {MOST_PICTURES} pictures at most")));
    }
    let (mut pictures, mut left) = (vec![], PICTURES);
    for (number, url) in (1..).zip(given) {
        let url = url.as_str().ok_or_else(|| Failure::once(format!("image_urls: picture {number} has no address")))?;
        let too_much = || Failure::once(format!("image_urls: the pictures have at most {PICTURES} bytes together"));
        if url.starts_with("data:") {
            left = left.checked_sub(url.len()).ok_or_else(too_much)?;
            pictures.push(url.to_owned());
            continue;
        }
        if left == 0 {
            return Err(too_much());
        }
        let bytes = fetch(attempt, "image_urls", url, left).await?;
        let kind = content_type(&bytes);
        if !kind.starts_with("image/") {
            return Err(Failure::once(format!("image_urls: picture {number} is none: what its address gave is {kind}")));
        }
        left = left.saturating_sub(bytes.len());
        pictures.push(format!("data:{kind};base64,{}", STANDARD.encode(&bytes)));
    }
    Ok(pictures)
}

/// The request, as OpenAI's interface for chats takes it.
fn body(model: &str, input: &Map<String, Value>, pictures: Vec<String>) -> Value {
    let text = |name: &str| input.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let mut messages = vec![];
    if let Some(system) = text("system_prompt") {
        messages.push(json!({"role": "system", "content": system}));
    }
    let prompt = text("prompt").unwrap_or_default();
    let content = if pictures.is_empty() {
        json!(prompt)
    } else {
        let pictures = pictures.into_iter().map(|url| json!({"type": "image_url", "image_url": {"url": url}}));
        std::iter::once(json!({"type": "text", "text": prompt})).chain(pictures).collect()
    };
    messages.push(json!({"role": "user", "content": content}));
    let mut body = json!({"model": model, "messages": messages});
    for name in PARAMETERS {
        if let Some(value) = input.get(name).filter(|value| !value.is_null()) {
            // Forms send whole numbers as they send others, and endpoints are strict about it.
            let whole = value.as_f64().filter(|number| matches!(name, "max_tokens" | "seed" | "top_k") && number.fract() == 0.0);
            #[expect(clippy::cast_possible_truncation, reason = "whole, and bounded by the catalogue")]
            let value = whole.map_or_else(|| value.clone(), |number| json!(number as i64));
            body[name] = value;
        }
    }
    body
}

/// The answer in the contract's form (`contracts/flow.md` 1.2).
fn read(got: &Got, model: &str, price: i64) -> Result<Given, Failure> {
    let value: Value = serde_json::from_slice(&got.body).unwrap_or_default();
    if !got.status.is_success() {
        let told = value.pointer("/error/message").and_then(Value::as_str).unwrap_or("without a reason");
        let told: String = told.chars().take(300).collect();
        let passing = got.status.is_server_error() || matches!(got.status, StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT);
        return Err(Failure { text: format!("the model refused with {}: {told}", got.status.as_u16()), repeatable: passing });
    }
    let content = value.pointer("/choices/0/message/content");
    let output = match content {
        Some(Value::String(text)) => text.clone(),
        // Some endpoints answer in parts.
        Some(Value::Array(parts)) => parts.iter().filter_map(|part| part.get("text")?.as_str()).collect(),
        _ => return Err(Failure::again("the model's answer has no text in choices[0].message.content")),
    };
    let usage = value.get("usage").cloned().unwrap_or_else(|| json!({}));
    // Endpoints that stand in front of others say which one it was, and what it took.
    let provider = value.get("provider").filter(|name| name.is_string()).cloned();
    let cost = usage.get("cost").and_then(Value::as_number).map(|dollars| Value::String(dollars.to_string()));
    let entries = [
        ("model", value.get("model").cloned().unwrap_or_else(|| model.into())),
        ("usage", usage),
        ("output", output.into()),
        ("cost_usd", cost.unwrap_or_default()),
        ("creditUsed", price.into()),
        ("provider_used", provider.unwrap_or_default()),
    ];
    Ok(Given { output: entries.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(), logs: vec![] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_given_is_handed_on() {
        let input = json!({"prompt": "x", "top_k": 40.0, "min_p": 0.1, "reasoning": {"effort": "low"}, "repetition_penalty": null});
        let body = body("m", input.as_object().expect("an object"), vec![]);
        let rest = [("top_k", json!(40)), ("min_p", json!(0.1)), ("reasoning", json!({"effort": "low"}))];
        let mut expected = json!({"model": "m", "messages": [{"role": "user", "content": "x"}]});
        rest.into_iter().for_each(|(name, value)| expected[name] = value);
        assert_eq!(body, expected);
    }
}
