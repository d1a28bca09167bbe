//! What every answer of an API says about rate limits, and the answer beyond one. The same for all surfaces: a handler only passes the
//! error on that [`super::context`] gave it.
//!
//! `X-RateLimit-*` tell of the tightest window. Its end is in seconds since 1970 on the GraphQL surfaces and for uploads
//! (`contracts/railway.md` 1.4), in milliseconds on GalaxyAI's (`contracts/flow.md` 2.2). `RateLimit-Policy` and `RateLimit` are those of
//! the IETF's draft on rate limit headers, with every window.

use std::fmt::Write as _;

use axum::body::Body;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use domain::Code;
use domain::rate::State;
use serde_json::{Value, json};

use super::answer::envelope;
use crate::flow;

static LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
static REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
static RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
static POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
static CURRENT: HeaderName = HeaderName::from_static("ratelimit");

/// For pages of other origins, which otherwise see none of these.
pub(super) const EXPOSED: HeaderValue = HeaderValue::from_static(
    "x-request-id, retry-after, x-ratelimit-limit, x-ratelimit-remaining, x-ratelimit-reset, ratelimit-policy, ratelimit",
);

/// What GalaxyAI's clients are told (`contracts/flow.md` 2.2).
const EXCEEDED: &str = "Rate limit exceeded. Please try again later.";

/// The problem type of RFC 9457 that the IETF's draft registers.
const PROBLEM: &str = "https://iana.org/assignments/http-problem-types#quota-exceeded";

/// How a path of an API speaks of limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// GraphQL: errors in its form, seconds.
    Graphql,
    /// Uploads: the error envelope, seconds.
    Upload,
    /// GalaxyAI's: the error envelope, milliseconds.
    Rest,
}

/// The dialect of a path; `None` for pages and logins, which have limits of their own.
pub(super) fn dialect(path: &str) -> Option<Dialect> {
    let below = |prefix: &str| path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    match path {
        "/graphql" | "/graphql/v2" => Some(Dialect::Graphql),
        _ if below("/graphql/v2/shell") => Some(Dialect::Graphql),
        _ if below("/api") || below("/v1") => Some(Dialect::Rest),
        _ if below("/project") && path.ends_with("/up") => Some(Dialect::Upload),
        _ => None,
    }
}

/// Writes the headers, and the whole answer when the request was refused for its number.
pub(super) fn tell(response: &mut Response, state: &State, dialect: Dialect, request_id: &str) {
    if state.refused {
        refuse(response, state, dialect, request_id);
    }
    write_headers(response.headers_mut(), state, dialect);
}

fn write_headers(headers: &mut HeaderMap, state: &State, dialect: Dialect) {
    let Some(tightest) = state.tightest() else { return };
    let reset = if dialect == Dialect::Rest { tightest.ends } else { tightest.ends / 1000 };
    headers.insert(LIMIT.clone(), HeaderValue::from(tightest.limit));
    headers.insert(REMAINING.clone(), HeaderValue::from(tightest.remaining()));
    headers.insert(RESET.clone(), HeaderValue::from(reset));
    if state.refused {
        headers.insert(RETRY_AFTER, HeaderValue::from(state.wait(tightest)));
    }
    let (mut policy, mut current) = (String::with_capacity(80), String::with_capacity(80));
    for window in state.windows() {
        let comma = if policy.is_empty() { "" } else { "," };
        // Writing to a string cannot fail.
        let _ = write!(policy, "{comma}\"{}\";q={};w={}", window.name, window.limit, window.seconds);
        let _ = write!(current, "{comma}\"{}\";r={};t={}", window.name, window.remaining(), state.wait(window));
    }
    if let (Ok(policy), Ok(current)) = (HeaderValue::try_from(policy), HeaderValue::try_from(current)) {
        headers.insert(POLICY.clone(), policy);
        headers.insert(CURRENT.clone(), current);
    }
}

/// Puts the refusal in the place of what the handler has answered, and leaves the headers that it has set.
fn refuse(response: &mut Response, state: &State, dialect: Dialect, request_id: &str) {
    let violated: Vec<&str> = state.exhausted().map(|window| window.name).collect();
    let text = ops::limit::refusal(state).public;
    let body = match dialect {
        Dialect::Graphql => {
            let extensions = json!({
                "code": Code::RateLimited.as_str(),
                "requestId": request_id,
                "documentation": Code::RateLimited.documentation(),
                "type": PROBLEM,
                "violatedPolicies": violated,
                "retryAfter": state.tightest().map(|window| state.wait(window)),
            });
            json!({"errors": [{"message": text, "extensions": extensions}], "data": null})
        }
        Dialect::Upload => problem(envelope(Code::RateLimited, &text, request_id), &violated),
        Dialect::Rest => {
            let mut body = problem(envelope(Code::RateLimited, EXCEEDED, request_id), &violated);
            body["detail"] = Value::from(text);
            body["traceId"] = Value::from(flow::trace_id(request_id));
            body
        }
    };
    *response.status_mut() = StatusCode::TOO_MANY_REQUESTS;
    *response.body_mut() = Body::from(body.to_string());
    response.headers_mut().remove(CONTENT_LENGTH);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
}

fn problem(mut body: Value, violated: &[&str]) -> Value {
    body["type"] = Value::from(PROBLEM);
    body["violated-policies"] = json!(violated);
    body
}

#[cfg(test)]
mod tests {
    use domain::Timestamp;
    use domain::rate::Limits;

    use super::*;

    #[test]
    fn every_path_of_an_api_has_its_dialect() {
        for (path, expected) in [
            ("/graphql", Some(Dialect::Graphql)),
            ("/graphql/v2", Some(Dialect::Graphql)),
            ("/graphql/v2/shell/0193", Some(Dialect::Graphql)),
            ("/graphql/v2/shells", None),
            ("/api/v1/workflows", Some(Dialect::Rest)),
            ("/api/mcp", Some(Dialect::Rest)),
            ("/v1/runs", Some(Dialect::Rest)),
            ("/project/a/environment/b/up", Some(Dialect::Upload)),
            ("/project/a", None),
            ("/v12", None),
            ("/apis", None),
            ("/login", None),
            ("/", None),
        ] {
            assert_eq!(dialect(path), expected, "{path}");
        }
    }

    #[test]
    fn the_headers_are_those_that_clients_read() {
        let now = Timestamp::from_millisecond(1_790_000_010_500).unwrap();
        let state = State::new(Limits([None, Some(60), None, Some(1000)]), [0, 10, 0, 100], now, false);
        let told = |dialect| {
            let mut response = Response::new(Body::empty());
            tell(&mut response, &state, dialect, "r1");
            response.headers().iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect::<Vec<_>>().join("\n")
        };
        let minute = 1_790_000_010_500_i64 / 60_000 * 60 + 60;
        let expected = format!(
            "x-ratelimit-limit: 60\nx-ratelimit-remaining: 50\nx-ratelimit-reset: {minute}\n\
             ratelimit-policy: \"minute\";q=60;w=60,\"day\";q=1000;w=86400\nratelimit: \"minute\";r=50;t=30,\"day\";r=900;t=35190"
        );
        assert_eq!(told(Dialect::Graphql), expected);
        assert_eq!(told(Dialect::Rest), expected.replace(&minute.to_string(), &format!("{minute}000")));
    }
}
