//! Answers of Flow's surface: errors with both names of their text, a code and a trace id (`contracts/flow.md` 2.3).

use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use axum::http::header::{LINK, WWW_AUTHENTICATE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use domain::Code;
use ops::auth::Surface;
use ops::{Error, OpCtx};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::check::issues;
use super::openapi;
use crate::http::{self, Arrival, Shared};

/// The largest body that is not a file.
const BODY: usize = 4 << 20;
/// How long a body may take to arrive.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// Why a request was refused. The fields of the answer are those of [`Problem`].
#[derive(Debug)]
pub(crate) struct Refused {
    error: Error,
    issues: Vec<Value>,
}

/// An error.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Problem {
    /// What is wrong and what to do next.
    error: String,
    /// The same text: clients read one or the other.
    message: String,
    /// The reason, such as `BAD_REQUEST`, `NOT_FOUND` or `RATE_LIMITED`.
    code: String,
    /// What the server's log calls this request.
    trace_id: String,
    /// Of a body that breaks its schema: each finding with its path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(required = false)]
    issues: Vec<Value>,
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Self { error, issues: vec![] }
    }
}

impl From<domain::workflow::edit::Refusal> for Refused {
    fn from(refusal: domain::workflow::edit::Refusal) -> Self {
        Error::from(refusal).into()
    }
}

impl Refused {
    /// The text for the client.
    pub(crate) fn text(&self) -> String {
        let findings = self.issues.iter().take(5).map(|issue| {
            let path: Vec<String> = issue["path"]
                .as_array()
                .into_iter()
                .flatten()
                .map(|step| step.as_str().map_or_else(|| step.to_string(), str::to_owned))
                .collect();
            format!(
                "{}: {}",
                if path.is_empty() { "body".to_owned() } else { path.join(".") },
                issue["message"].as_str().unwrap_or_default()
            )
        });
        let findings: Vec<String> = findings.collect();
        let public = &self.error.public;
        if findings.is_empty() { public.clone() } else { format!("{public}: {}", findings.join("; ")) }
    }

    /// Writes what the client is not told to the log.
    pub(crate) fn log(&self, request_id: &str) {
        self.error.log(request_id);
    }

    /// Findings of a body.
    pub(crate) fn invalid(issues: Vec<Value>) -> Self {
        Self { error: Error::bad_input("Input validation failed"), issues }
    }
}

fn code(code: Code) -> &'static str {
    match code {
        Code::Unauthenticated => "UNAUTHORIZED",
        Code::BadUserInput | Code::TooComplex => "BAD_REQUEST",
        code => code.as_str(),
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::empty());
        response.extensions_mut().insert(Arc::new(self));
        response
    }
}

/// Writes what was refused, for the request that it was.
pub(crate) async fn settle(Extension(arrival): Extension<Arrival>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    match response.extensions().get::<Arc<Refused>>() {
        Some(refused) => write(refused, &arrival.request_id),
        None => response,
    }
}

/// What the server's log calls a request, as Flow's clients know it.
pub(crate) fn trace_id(request_id: &str) -> String {
    format!("req_{request_id}")
}

/// The answer to what is refused in front of the routes.
pub(crate) fn refuse(error: Error, request_id: &str) -> Response {
    write(&error.into(), request_id)
}

fn write(refused: &Refused, request_id: &str) -> Response {
    let error = &refused.error;
    error.log(request_id);
    let text = &error.public;
    let problem = Problem {
        error: text.to_owned(),
        message: text.to_owned(),
        code: code(error.code).to_owned(),
        trace_id: trace_id(request_id),
        issues: refused.issues.clone(),
    };
    let mut response = http::json(http::status(error.code), &json!(problem));
    // The fields are those that clients know, so that what explains the code stands beside them.
    if let Ok(value) = HeaderValue::try_from(format!("<{}>; rel=\"help\"", error.code.documentation())) {
        response.headers_mut().insert(LINK, value);
    }
    if error.code == Code::Unauthenticated {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer error=\"invalid_token\""));
    }
    response
}

/// What a handler answers.
pub(crate) type Answer<T> = Result<Good<T>, Refused>;

/// An answer that went well, with its status.
pub(crate) struct Good<T>(pub(crate) StatusCode, pub(crate) T);

pub(crate) fn ok<T>(value: T) -> Answer<T> {
    Ok(Good(StatusCode::OK, value))
}

impl<T: Serialize> IntoResponse for Good<T> {
    fn into_response(self) -> Response {
        match serde_json::to_vec(&self.1) {
            Ok(body) => http::build(self.0, "application/json", body),
            Err(error) => Refused::from(Error::internal("an answer as JSON", error)).into_response(),
        }
    }
}

/// Who asks: never nobody.
pub(crate) struct Caller(pub(crate) OpCtx);

impl FromRequestParts<Shared> for Caller {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, Refused> {
        let arrival = parts.extensions.get::<Arrival>().cloned();
        let arrival = arrival.ok_or_else(|| Error::internal("a request that did not arrive", std::io::Error::other("no Arrival")))?;
        let ctx = http::context(state, Surface::Flow, &arrival, parts).await?;
        if matches!(ctx.principal, ops::Principal::Anonymous) {
            return Err(Surface::Flow.unauthenticated().into());
        }
        Ok(Self(ctx))
    }
}

/// A query string.
pub(crate) struct Query<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Shared> for Query<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Refused> {
        match axum::extract::Query::<T>::try_from_uri(&parts.uri) {
            Ok(axum::extract::Query(value)) => Ok(Self(value)),
            Err(error) => Err(Error::bad_input(format!("The query is wrong: {}", error.body_text())).into()),
        }
    }
}

/// A part of the path.
pub(crate) struct Path<T>(pub(crate) T);

impl<T: DeserializeOwned + Send> FromRequestParts<Shared> for Path<T> {
    type Rejection = Refused;

    async fn from_request_parts(parts: &mut Parts, state: &Shared) -> Result<Self, Refused> {
        match axum::extract::Path::<T>::from_request_parts(parts, state).await {
            Ok(axum::extract::Path(value)) => Ok(Self(value)),
            // What is not text names nothing.
            Err(_) => Err(Error::not_found("Object").into()),
        }
    }
}

/// A body, checked against its schema.
pub(crate) struct Given<T>(pub(crate) T);

impl<T: DeserializeOwned + ToSchema> FromRequest<Shared> for Given<T> {
    type Rejection = Refused;

    async fn from_request(request: Request, _: &Shared) -> Result<Self, Refused> {
        let (parts, body) = request.into_parts();
        read(&parts, body, BODY).await.map(Self)
    }
}

/// Reads a body of at most so many bytes.
pub(crate) async fn read<T: DeserializeOwned + ToSchema>(parts: &Parts, body: Body, limit: usize) -> Result<T, Refused> {
    let bytes = http::read(&parts.headers, body, limit, PATIENCE).await?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|error| Error::bad_input(format!("The body is no JSON: {error}")))?;
    typed(value)
}

/// A value as a type, by its published schema.
pub(crate) fn typed<T: DeserializeOwned + ToSchema>(value: Value) -> Result<T, Refused> {
    let schemas = openapi::schemas();
    let found = issues(schemas, &schemas[&*T::name()], &value);
    if !found.is_empty() {
        return Err(Refused::invalid(found));
    }
    let wrong = |error: serde_json::Error| Refused::invalid(vec![json!({"code": "custom", "path": [], "message": error.to_string()})]);
    serde_json::from_value(value).map_err(wrong)
}
