//! Which host a request is for. Apps and the edge must agree on it, so everything doubtful is refused.

use std::borrow::Cow;

use http::header::HOST;
use http::{HeaderMap, Uri};

/// Why a request does not name its host well enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BadHost {
    Missing,
    Twice,
    Malformed,
    /// The target of the request names another host than its `Host` header.
    Contradiction,
}

impl BadHost {
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Missing => "The request has no Host header. Every request must say which host it is for.",
            Self::Twice => "The request has more than one Host header. Send exactly one.",
            Self::Malformed => "The Host header is not a host name with an optional port.",
            Self::Contradiction => "The request's target and its Host header name different hosts.",
        }
    }
}

/// The value of the one `Host` header.
///
/// # Errors
/// When there is none, more than one, or one that disagrees with the request's target or is not a host.
pub(crate) fn of<'a>(uri: &Uri, headers: &'a HeaderMap) -> Result<&'a str, BadHost> {
    let mut all = headers.get_all(HOST).iter();
    let first = all.next().ok_or(BadHost::Missing)?;
    if all.next().is_some() {
        return Err(BadHost::Twice);
    }
    let text = first.to_str().map_err(|_| BadHost::Malformed)?;
    let name = without_port(text).ok_or(BadHost::Malformed)?;
    if let Some(authority) = uri.authority()
        && without_port(authority.as_str()).is_none_or(|other| !other.eq_ignore_ascii_case(name))
    {
        return Err(BadHost::Contradiction);
    }
    Ok(text)
}

/// The key under which the table knows a `Host` value that [`of`] accepted: lower case, without port and trailing dot.
pub(crate) fn key(host: &str) -> Cow<'_, str> {
    let name = without_port(host).unwrap_or(host);
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) { Cow::Owned(name.to_ascii_lowercase()) } else { Cow::Borrowed(name) }
}

fn without_port(text: &str) -> Option<&str> {
    let (name, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            (&text[..address.len() + 2], rest)
        }
        None => {
            let (name, port) = text.split_at(memchr::memchr(b':', text.as_bytes()).unwrap_or(text.len()));
            let sane = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
            if !name.bytes().all(sane) || name.starts_with('.') || name.contains("..") {
                return None;
            }
            (name, port)
        }
    };
    let digits = if port.is_empty() { port } else { port.strip_prefix(':')? };
    let sane_port = digits.len() <= 5 && digits.bytes().all(|byte| byte.is_ascii_digit());
    (sane_port && !name.is_empty() && name.len() <= 255).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_compared_without_case_port_and_final_dot() {
        assert_eq!(key("App.Example.COM.:8080"), "app.example.com");
        assert_eq!(key("[::1]:80"), "[::1]");
        assert_eq!(key("a.b"), "a.b");
    }

    #[test]
    fn only_hosts_are_hosts() {
        for good in ["a", "a.b-c_d", "A:80", "127.0.0.1:8080", "[::1]", "[::1]:9", "a.", "a:"] {
            assert!(without_port(good).is_some(), "{good}");
        }
        for bad in ["", ":80", "a b", "a/b", "u@h", "a:b", "a:123456", "[::1", "[x]", "[::1]x", "a,b", "..", "a..b", ".a", "é"] {
            assert!(without_port(bad).is_none(), "{bad}");
        }
    }
}
