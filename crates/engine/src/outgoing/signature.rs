//! Signatures of webhooks as Svix makes them (`contracts/flow.md`, webhooks): stock libraries of receivers verify them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::{DeliveryId, Timestamp};
use hmac::{Hmac, KeyInit as _, Mac as _};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use sha2::Sha256;

/// The headers of one attempt: `svix-id`, `svix-timestamp`, `svix-signature`.
pub(crate) fn headers(secret: &str, id: DeliveryId, at: Timestamp, body: &str) -> HeaderMap {
    let (id, seconds) = (format!("msg_{id}"), at.as_second().to_string());
    let signature = sign(secret, &format!("{id}.{seconds}.{body}"));
    let mut headers = HeaderMap::new();
    for (name, value) in [("svix-id", id), ("svix-timestamp", seconds), ("svix-signature", signature)] {
        // Made of letters, digits and a few signs.
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    headers
}

/// `v1,` and the base64 of HMAC-SHA256. A secret is `whsec_` and base64; any other text is taken as it stands.
fn sign(secret: &str, text: &str) -> String {
    let key = secret.strip_prefix("whsec_").and_then(|text| STANDARD.decode(text).ok()).unwrap_or_else(|| secret.as_bytes().to_vec());
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&key) else { return String::new() };
    mac.update(text.as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    /// The example in Svix's own documentation of manual verification.
    #[test]
    fn a_known_message_has_its_known_signature() {
        let secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
        let text = r#"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{"test": 2432232314}"#;
        assert_eq!(super::sign(secret, text), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
