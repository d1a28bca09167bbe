//! Whether a browser's request was made by one of our own pages.

use axum::http::HeaderMap;
use axum::http::header::{HOST, ORIGIN};
use domain::Code;
use ops::Error;

use super::ApiState;

/// Refuses what a page of another origin makes a browser send. Apps that run here live on neighbouring hosts, which `SameSite` does not
/// keep out.
///
/// # Errors
/// Forbidden, in words for a person who sees it in a browser.
pub(crate) fn require_same_origin(state: &ApiState, headers: &HeaderMap) -> Result<(), Error> {
    if same_origin(headers, &state.ops.settings.dashboard_url) {
        return Ok(());
    }
    Err(Error::new(
        Code::Forbidden,
        "Refused: this was not sent by a page of this server. Open the page here and send it again, or use a token in a script",
    ))
}

fn same_origin(headers: &HeaderMap, dashboard_url: &str) -> bool {
    // A browser sends this only over TLS or to loopback; where it does, no script can forge it.
    if let Some(site) = headers.get("sec-fetch-site") {
        return matches!(site.as_bytes(), b"same-origin" | b"none");
    }
    let text = |name| headers.get(name).and_then(|value: &axum::http::HeaderValue| value.to_str().ok());
    let Some(origin) = text(ORIGIN) else { return false };
    if origin.eq_ignore_ascii_case(dashboard_url.trim_end_matches('/')) {
        return true;
    }
    let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    authority.is_some_and(|authority| text(HOST).is_some_and(|host| host.eq_ignore_ascii_case(authority)))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_neighbouring_host_is_another_origin() {
        let ask = |pairs: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            same_origin(&headers, "https://deploy.example.com")
        };
        assert!(ask(&[("host", "localhost:8080"), ("origin", "http://localhost:8080")]));
        assert!(ask(&[("host", "10.0.0.2"), ("origin", "https://deploy.example.com")]));
        assert!(ask(&[("host", "localhost:8080"), ("sec-fetch-site", "same-origin")]));
        for bad in [
            vec![("host", "localhost:8080")],
            vec![("host", "localhost:8080"), ("origin", "null")],
            vec![("host", "localhost:8080"), ("origin", "http://app.localhost:8080")],
            vec![("host", "localhost:8080"), ("origin", "http://localhost:8081")],
            vec![("host", "localhost:8080"), ("origin", "http://localhost:8080"), ("sec-fetch-site", "same-site")],
        ] {
            assert!(!ask(&bad), "{bad:?}");
        }
    }
}
