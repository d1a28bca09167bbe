//! Answers: a replica's, passed on as it comes, and the edge's own when there is none.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, HeaderName, LOCATION, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use serde_json::json;

use crate::exchange::Exchange;
use crate::headers::X_REQUEST_ID;

/// Says that the edge itself answers, and why: the code of [`Problem`].
const X_ORRERY_ERROR: HeaderName = HeaderName::from_static("x-orrery-error");

/// The body of an answer. It owns the [`Exchange`], which therefore lasts exactly as long as the answer.
pub(crate) enum AnswerBody {
    /// Of the edge's own making.
    Own { text: Option<Bytes>, exchange: Box<Exchange> },
    /// A replica's.
    Replica { incoming: Incoming, exchange: Box<Exchange> },
    /// Of a switch of protocols, which has no body.
    Switched,
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Own { text, exchange } => Poll::Ready(text.take().map(|text| {
                exchange.sent += text.len() as u64;
                Ok(Frame::data(text))
            })),
            Self::Switched => Poll::Ready(None),
            Self::Replica { incoming, exchange } => {
                let polled = Pin::new(incoming).poll_frame(cx);
                match &polled {
                    Poll::Ready(Some(Ok(frame))) => exchange.sent += frame.data_ref().map_or(0, Bytes::len) as u64,
                    Poll::Ready(Some(Err(error))) => {
                        exchange.upstream_errors.push(format!("the answer broke off: {error}"));
                        exchange.details = "the replica broke off its answer";
                    }
                    Poll::Ready(None) => exchange.complete = true,
                    Poll::Pending => {}
                }
                polled
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own { text, .. } => text.is_none(),
            Self::Replica { incoming, .. } => incoming.is_end_stream(),
            Self::Switched => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own { text, .. } => SizeHint::with_exact(text.as_ref().map_or(0, Bytes::len) as u64),
            Self::Replica { incoming, .. } => incoming.size_hint(),
            Self::Switched => SizeHint::with_exact(0),
        }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        if let Self::Replica { incoming, exchange } = self {
            exchange.complete |= incoming.is_end_stream();
            if !exchange.complete && exchange.details.is_empty() {
                exchange.details = "the client left before the answer was complete";
            }
        }
    }
}

/// Why the edge answers itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Problem {
    BadRequest(&'static str),
    Connect,
    UnknownHost,
    Unavailable,
    Refused,
    BrokenOff,
    UnaskedSwitch,
    TimedOut,
}

impl Problem {
    fn status(self) -> StatusCode {
        match self {
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Self::UnknownHost => StatusCode::NOT_FOUND,
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::Refused | Self::BrokenOff | Self::UnaskedSwitch => StatusCode::BAD_GATEWAY,
            Self::TimedOut => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    fn code(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "BAD_REQUEST",
            Self::Connect => "METHOD_NOT_ALLOWED",
            Self::UnknownHost => "UNKNOWN_HOST",
            Self::Unavailable => "NO_REPLICA",
            Self::Refused => "CONNECTION_REFUSED",
            Self::BrokenOff => "ANSWER_BROKEN_OFF",
            Self::UnaskedSwitch => "BAD_ANSWER",
            Self::TimedOut => "TIMEOUT",
        }
    }

    fn title(self) -> &'static str {
        match self {
            Self::BadRequest(_) => "This request cannot be understood",
            Self::Connect => "This is not a forward proxy",
            Self::UnknownHost => "Nothing is deployed at this address",
            Self::Unavailable => "This service is not running",
            Self::Refused => "The application does not answer",
            Self::BrokenOff => "The application broke off",
            Self::UnaskedSwitch => "The application's answer makes no sense",
            Self::TimedOut => "The application took too long",
        }
    }

    fn detail(self, unavailable: Option<&str>) -> &str {
        match self {
            Self::BadRequest(text) => text,
            Self::Connect => "CONNECT is not supported here. Ask for the page itself.",
            Self::UnknownHost => {
                "No service has this domain. If it is yours, check its spelling, add the domain to a service \
                 (`railway domain`), or deploy one (`railway up`)."
            }
            Self::Unavailable => {
                unavailable.unwrap_or("No replica of the deployment takes requests. Look at its log (`railway logs`) and deploy again.")
            }
            Self::Refused => {
                "No connection to any of its replicas could be made. It must listen on the port in the variable PORT, on every address (0.0.0.0) \
                 rather than one. Its log (`railway logs`) may say more."
            }
            Self::BrokenOff => {
                "The connection ended before there was an answer. The application may have crashed: look at its log (`railway logs`)."
            }
            Self::UnaskedSwitch => "It switched to another protocol without being asked to.",
            Self::TimedOut => {
                "It took the request but did not begin to answer in time. Try again later; its log (`railway logs`) may say more."
            }
        }
    }
}

/// The edge's own answer: a page for browsers, JSON for everything else, with the service, the deployment and the request's id.
pub(crate) fn own(mut exchange: Box<Exchange>, problem: Problem) -> Response<AnswerBody> {
    exchange.status = Some(problem.status());
    exchange.details = problem.title();
    let wants_page = exchange.accept.as_ref().is_some_and(|accept| memchr::memmem::find(accept.as_bytes(), b"text/html").is_some());
    let (kind, text) = if wants_page {
        (HeaderValue::from_static("text/html; charset=utf-8"), page(&exchange, problem))
    } else {
        (HeaderValue::from_static("application/json"), object(&exchange, problem))
    };
    let request_id = exchange.request_id.clone();
    let mut response = Response::new(AnswerBody::Own { text: Some(Bytes::from(text)), exchange });
    *response.status_mut() = problem.status();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, kind);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_REQUEST_ID, request_id);
    headers.insert(X_ORRERY_ERROR, HeaderValue::from_static(problem.code()));
    match problem {
        Problem::BadRequest(_) => drop(headers.insert(CONNECTION, HeaderValue::from_static("close"))),
        Problem::Connect => {
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        Problem::Unavailable => drop(headers.insert(RETRY_AFTER, HeaderValue::from_static("5"))),
        _ => {}
    }
    response
}

/// Sends the client elsewhere, with the same method and body. Not to be remembered: the app's owner may change their mind.
pub(crate) fn redirect(exchange: Box<Exchange>, location: HeaderValue) -> Response<AnswerBody> {
    let mut response = plain(exchange, StatusCode::PERMANENT_REDIRECT, String::new());
    response.headers_mut().insert(LOCATION, location);
    response
}

/// A few words of the edge's own.
pub(crate) fn plain(mut exchange: Box<Exchange>, status: StatusCode, text: String) -> Response<AnswerBody> {
    exchange.status = Some(status);
    let request_id = exchange.request_id.clone();
    let text = Some(Bytes::from(text)).filter(|text| !text.is_empty());
    let mut response = Response::new(AnswerBody::Own { text, exchange });
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(X_REQUEST_ID, request_id);
    response
}

fn object(exchange: &Exchange, problem: Problem) -> String {
    let route = exchange.route.as_ref().map(|live| &live.route);
    let mut object = json!({
        "error": problem.detail(route.and_then(|route| route.unavailable.as_deref())),
        "code": problem.code(),
        "status": problem.status().as_u16(),
        "requestId": String::from_utf8_lossy(exchange.request_id.as_bytes()),
    });
    if let (Some(route), Some(fields)) = (route, object.as_object_mut()) {
        fields.insert("service".into(), route.service_name.as_str().into());
        fields.insert("serviceId".into(), route.service_id.to_string().into());
        fields.insert("deploymentId".into(), exchange.deployment().map(|id| id.to_string()).into());
    }
    object.to_string()
}

fn page(exchange: &Exchange, problem: Problem) -> String {
    let route = exchange.route.as_ref().map(|live| &live.route);
    let mut facts = vec![("Address", escaped(&String::from_utf8_lossy(exchange.host().as_bytes())))];
    if let Some(route) = route {
        facts.push(("Service", escaped(&route.service_name)));
        facts.push(("Deployment", exchange.deployment().map_or_else(|| "none".into(), |id| id.to_string())));
    }
    facts.push(("Request", escaped(&String::from_utf8_lossy(exchange.request_id.as_bytes()))));
    let facts: String = facts.iter().map(|(name, value)| format!("<dt>{name}</dt><dd>{value}</dd>")).collect();
    let (status, title) = (problem.status().as_u16(), problem.title());
    let detail = escaped(problem.detail(route.and_then(|route| route.unavailable.as_deref())));
    format!(
        "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
         <meta name=\"robots\" content=\"noindex\"><title>{status} {title}</title><style>{STYLE}</style></head>\
         <body><main><p class=\"status\">{status}</p><h1>{title}</h1><p>{detail}</p><dl>{facts}</dl></main></body></html>\n"
    )
}

const STYLE: &str = ":root{color-scheme:light dark}\
    body{font:16px/1.5 system-ui,sans-serif;margin:0;background:light-dark(#f7f7f5,#16171a);color:light-dark(#1c1d20,#e6e6e3)}\
    main{max-width:40rem;margin:12vh auto;padding:0 1.5rem}\
    h1{font-size:1.6rem;line-height:1.2;margin:.2rem 0 1rem}\
    .status{font-weight:600;color:light-dark(#6a6b70,#9a9ba1);margin:0}\
    dl{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1.2rem;margin-top:2rem;font-size:.875rem}\
    dt{color:light-dark(#6a6b70,#9a9ba1)}dd{margin:0;overflow-wrap:anywhere;font-family:ui-monospace,monospace}";

fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            _ => out.push(letter),
        }
    }
    out
}
