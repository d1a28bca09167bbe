//! What is changed in headers on their way to a replica and back.

use http::header::{CONNECTION, CONTENT_LENGTH, COOKIE, EXPECT, HOST, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::{HeaderMap, HeaderValue, Version};

pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_REAL_IP: HeaderName = HeaderName::from_static("x-real-ip");
const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// The cookie that keeps a visitor on a replica: `galaxy-sticky=!<replica>` (`contracts/galaxy.md` 3.5).
const STICKY: &str = "galaxy-sticky";
/// The query parameter that asks for a replica (`contracts/galaxy.md` 3.5).
const PIN: &str = "_g_container_";
/// Which replica has answered.
pub(crate) const X_GALAXY_CONTAINER: HeaderName = HeaderName::from_static("x-galaxy-container");

/// Removes what concerns one connection only, including what `Connection` names, except what the message cannot do without.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    let mut named = vec![];
    for value in headers.get_all(CONNECTION) {
        for token in value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii) {
            if token.eq_ignore_ascii_case(b"close") || token.eq_ignore_ascii_case(b"keep-alive") || token.eq_ignore_ascii_case(b"upgrade") {
                continue;
            }
            named.extend(HeaderName::from_bytes(token));
        }
    }
    for name in named {
        if name != HOST && name != CONTENT_LENGTH {
            headers.remove(name);
        }
    }
    for name in [&CONNECTION, &KEEP_ALIVE, &PROXY_CONNECTION, &TE, &TRANSFER_ENCODING, &UPGRADE] {
        headers.remove(name);
    }
}

/// The protocol that the client wants to switch to, if it may. HTTP/2 without TLS may not: requests inside it would pass unseen.
pub(crate) fn wanted_upgrade(version: Version, headers: &HeaderMap) -> Option<HeaderValue> {
    let protocol = headers.get(UPGRADE)?;
    let named =
        |value: &HeaderValue| value.as_bytes().split(|byte| *byte == b',').any(|token| token.trim_ascii().eq_ignore_ascii_case(b"upgrade"));
    let h2 = protocol.as_bytes().to_ascii_lowercase().starts_with(b"h2");
    (version == Version::HTTP_11 && !h2 && headers.get_all(CONNECTION).iter().any(named)).then(|| protocol.clone())
}

/// Marks a message as the request for, or the answer to, a switch of protocols.
pub(crate) fn set_upgrade(headers: &mut HeaderMap, protocol: HeaderValue) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, protocol);
}

/// Tells the app who asks and for what.
pub(crate) fn set_forwarded(headers: &mut HeaderMap, client: &HeaderValue, secure: bool, request_id: &HeaderValue) {
    let chain = if headers.contains_key(X_FORWARDED_FOR) {
        let mut text = vec![];
        for value in headers.get_all(X_FORWARDED_FOR) {
            text.extend_from_slice(value.as_bytes());
            text.extend_from_slice(b", ");
        }
        text.extend_from_slice(client.as_bytes());
        HeaderValue::from_bytes(&text).unwrap_or_else(|_| client.clone())
    } else {
        client.clone()
    };
    headers.insert(X_FORWARDED_FOR, chain);
    headers.insert(X_REAL_IP, client.clone());
    headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(if secure { "https" } else { "http" }));
    if let Some(host) = headers.get(HOST).cloned() {
        headers.insert(X_FORWARDED_HOST, host);
    }
    headers.insert(X_REQUEST_ID, request_id.clone());
    // The client is told to go on as soon as the body is asked for; the replica need not be asked.
    headers.remove(EXPECT);
}

/// The client's own request id, if it may be repeated in logs and pages.
pub(crate) fn sane_request_id(headers: &HeaderMap) -> Option<&HeaderValue> {
    let sane = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b':');
    headers.get(X_REQUEST_ID).filter(|value| (1..=128).contains(&value.len()) && value.as_bytes().iter().all(|byte| sane(*byte)))
}

/// The name of the replica that the visitor was sent to before.
pub(crate) fn sticky_replica(headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|text| text.split(';'));
    let value = cookies.filter_map(|cookie| cookie.trim().strip_prefix(STICKY)?.strip_prefix('=')).next()?;
    Some(value.strip_prefix('!').unwrap_or(value).to_owned())
}

/// `None` when the name cannot be part of a header. A visitor who is sent to https anyway need not show it elsewhere: `secure`.
pub(crate) fn sticky_cookie(replica: &str, secure: bool) -> Option<HeaderValue> {
    let secure = if secure { "; Secure" } else { "" };
    HeaderValue::try_from(format!("{STICKY}=!{replica}; Path=/; HttpOnly; SameSite=Lax{secure}")).ok()
}

/// The name of the replica that the address asks for: `?_g_container_=…`.
pub(crate) fn pinned_replica(query: Option<&str>) -> Option<&str> {
    query?.split('&').find_map(|pair| pair.strip_prefix(PIN)?.strip_prefix('=')).filter(|name| !name.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn what_connection_names_is_removed_but_not_the_frame_of_the_message() {
        let mut headers = HeaderMap::new();
        for (name, value) in
            [("connection", "close, X-Secret,host"), ("connection", "content-length, x-other"), ("x-secret", "1"), ("x-other", "1")]
        {
            headers.append(name, HeaderValue::from_static(value));
        }
        headers.extend(map(&[("host", "a"), ("content-length", "3"), ("keep-alive", "timeout=5"), ("te", "trailers"), ("x-kept", "1")]));
        strip_hop_by_hop(&mut headers);
        let mut names: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "host", "x-kept"]);
    }

    #[test]
    fn only_asked_for_and_safe_switches_are_passed_on() {
        let wanted = |pairs| wanted_upgrade(Version::HTTP_11, &map(pairs)).is_some();
        assert!(wanted(&[("connection", "keep-alive, Upgrade"), ("upgrade", "websocket")]));
        assert!(!wanted(&[("upgrade", "websocket")]));
        assert!(!wanted(&[("connection", "Upgrade, HTTP2-Settings"), ("upgrade", "h2c")]));
        assert!(wanted_upgrade(Version::HTTP_10, &map(&[("connection", "upgrade"), ("upgrade", "websocket")])).is_none());
    }

    #[test]
    fn a_client_cannot_choose_what_the_app_believes() {
        let mut headers = map(&[("host", "a"), ("x-forwarded-for", "1.1.1.1"), ("x-real-ip", "1.1.1.1"), ("x-forwarded-proto", "https")]);
        set_forwarded(&mut headers, &HeaderValue::from_static("9.9.9.9"), false, &HeaderValue::from_static("id"));
        assert_eq!(headers["x-forwarded-for"], "1.1.1.1, 9.9.9.9");
        assert_eq!(headers["x-real-ip"], "9.9.9.9");
        assert_eq!(headers["x-forwarded-proto"], "http");
        assert_eq!(headers["x-forwarded-host"], "a");
    }
}
