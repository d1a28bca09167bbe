//! The encoder of answers that are neither GraphQL nor a page.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, LOCATION};
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use domain::Code;
use serde_json::{Value, json};

/// Headers that an answer has.
const HEADERS: usize = 12;

/// The HTTP status of a reason.
pub(crate) fn status(code: Code) -> StatusCode {
    match code {
        Code::Unauthenticated => StatusCode::UNAUTHORIZED,
        Code::Forbidden | Code::PlanLimit => StatusCode::FORBIDDEN,
        Code::NotFound => StatusCode::NOT_FOUND,
        Code::BadUserInput | Code::TooComplex => StatusCode::BAD_REQUEST,
        Code::AlreadyExists | Code::Conflict => StatusCode::CONFLICT,
        Code::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Code::RateLimited => StatusCode::TOO_MANY_REQUESTS,
        Code::Unsupported => StatusCode::NOT_IMPLEMENTED,
        Code::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Code::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Code::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, value: &Value) -> Response {
    build(status, "application/json", value.to_string())
}

/// A plain text answer.
pub(crate) fn text(status: StatusCode, text: impl Into<String>) -> Response {
    build(status, "text/plain; charset=utf-8", text.into())
}

pub(crate) fn build(status: StatusCode, content_type: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    // What `arrival` and `rate` add, so that the map does not grow three times.
    response.headers_mut().reserve(HEADERS);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// A redirect that is followed with GET.
pub(crate) fn redirect(to: &str) -> Response {
    let mut response = Response::new(Body::empty());
    *response.status_mut() = StatusCode::SEE_OTHER;
    match HeaderValue::try_from(to) {
        Ok(value) => {
            response.headers_mut().insert(LOCATION, value);
            response
        }
        // Only our own paths and checked loopback addresses come here; neither holds what a header cannot.
        Err(_) => text(StatusCode::BAD_REQUEST, "The address to go back to is not valid"),
    }
}

/// The error envelope of REST routes: `{"error","message","code","requestId","documentation"}`. The cause goes to the log here and nowhere else.
pub(crate) fn refuse(error: &ops::Error, request_id: &str) -> Response {
    error.log(request_id);
    json(status(error.code), &envelope(error.code, &error.public, request_id))
}

pub(crate) fn envelope(code: Code, message: &str, request_id: &str) -> Value {
    json!({"error": message, "message": message, "code": code.as_str(), "requestId": request_id, "documentation": code.documentation()})
}

/// The errors of GraphQL, for what is refused before the engine sees it. A credential that does not work is a 200 as in the engine:
/// clients read the text, and some read no other status (`contracts/railway.md` 1.2, 8). So is an account whose plan does not open
/// Galaxy's API (`contracts/galaxy.md` 2).
pub(crate) fn refuse_graphql(error: &ops::Error, request_id: &str) -> Response {
    error.log(request_id);
    let status = if matches!(error.code, Code::Unauthenticated | Code::PlanLimit) { StatusCode::OK } else { status(error.code) };
    build(status, "application/json", crate::graphql::error_body(error, request_id))
}
