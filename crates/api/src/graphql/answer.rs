//! Answers as bytes: `{"data":…}`, or `{"errors":[{message,locations,path,extensions:{code,requestId,documentation}}],"data":…}`
//! (`contracts/railway.md` 1.2). The key `errors` is absent when there are none: the command-line client fails on an empty list.

use domain::Code;
use domain::rate::State;
use juniper::parser::{ParseError, SourcePosition};
use juniper::{ExecutionError, GraphQLError, Value};
use serde::Serialize;
use serde_json::{Value as Json, json};

use super::Scalar;

/// The longest message that is sent; errors quote what the client wrote.
const MAX_MESSAGE: usize = 2_000;
/// Errors in one answer, and positions of one error.
const MAX_ERRORS: usize = 20;

/// An answer over HTTP.
#[derive(Clone, Debug)]
pub struct GraphqlResponse {
    /// 400 when the document was not executed, 429 when it costs more than is left, else 200 (`contracts/railway.md` 8).
    pub status: u16,
    /// With 429: seconds until it can be tried again.
    pub retry_after: Option<i64>,
    /// JSON.
    pub body: Vec<u8>,
}

/// Why a document was not executed, and in how many seconds it may be.
#[derive(Debug)]
pub(crate) struct Rejection(Vec<Problem>, Option<i64>);

#[derive(Debug)]
struct Problem {
    code: Code,
    message: String,
    locations: Vec<SourcePosition>,
    path: Option<Vec<String>>,
}

impl Rejection {
    pub(crate) fn one(code: Code, message: impl Into<String>) -> Self {
        Self(vec![Problem { code, message: message.into(), locations: vec![], path: None }], None)
    }

    /// The request is not one that can be executed.
    pub(crate) fn bad_request(message: impl Into<String>, at: Option<SourcePosition>) -> Self {
        let mut rejection = Self::one(Code::BadUserInput, message);
        rejection.0[0].locations.extend(at);
        rejection
    }

    /// The document goes beyond a limit.
    pub(crate) fn too_complex(message: impl Into<String>) -> Self {
        Self::one(Code::TooComplex, message)
    }

    /// It costs more than is left of the credential's minute.
    pub(crate) fn too_expensive(cost: u64, state: &State) -> Self {
        let (left, wait) = state.tightest().map_or((0, 1), |window| (window.remaining(), state.wait(window)));
        let text = format!(
            "Rate limit exceeded: the operation may resolve {cost} fields, and {left} are left for this minute; try again in {wait} s, or ask for smaller pages"
        );
        Self(Self::one(Code::RateLimited, text).0, Some(wait))
    }

    /// The root field needs a credential.
    pub(crate) fn refused(error: &ops::Error, response: &str, at: SourcePosition) -> Self {
        let mut rejection = Self::one(error.code, error.public.clone());
        rejection.0[0].locations.push(at);
        rejection.0[0].path = Some(vec![response.to_owned()]);
        rejection
    }

    /// A fault of ours; the log has the cause.
    pub(crate) fn internal() -> Self {
        Self::one(Code::Internal, "Problem processing request. Try again; if it stays, tell the operator the request id.")
    }

    /// What an execution met.
    pub(crate) fn executed(errors: &[ExecutionError<Scalar>]) -> Self {
        Self(errors.iter().take(MAX_ERRORS).map(Problem::executed).collect(), None)
    }

    /// The list as JSON, for bodies and for websocket messages.
    pub(crate) fn errors(&self, request_id: &str) -> Json {
        self.0.iter().map(|problem| problem.json(request_id)).collect()
    }

    /// As an HTTP answer.
    pub(crate) fn response(&self, status: u16, request_id: &str) -> GraphqlResponse {
        let body = json!({"errors": self.errors(request_id), "data": null});
        GraphqlResponse { status, retry_after: self.1, body: body.to_string().into_bytes() }
    }
}

impl Problem {
    fn executed(error: &ExecutionError<Scalar>) -> Self {
        let code = match error.error().extensions() {
            Value::Scalar(Scalar::String(code)) => Code::ALL.into_iter().find(|known| known.as_str() == code),
            _ => None,
        };
        Self {
            code: code.unwrap_or(Code::Internal),
            message: error.error().message().to_owned(),
            locations: vec![*error.location()],
            path: Some(error.path().to_vec()),
        }
    }

    fn json(&self, request_id: &str) -> Json {
        let mut error = json!({"message": cut(&self.message)});
        if !self.locations.is_empty() {
            error["locations"] = self.locations.iter().map(location).collect();
        }
        if let Some(path) = &self.path {
            error["path"] = json!(path);
        }
        error["extensions"] = json!({"code": self.code.as_str(), "requestId": request_id, "documentation": self.code.documentation()});
        error
    }
}

impl From<GraphQLError> for Rejection {
    fn from(error: GraphQLError) -> Self {
        match error {
            GraphQLError::ParseError(error) => {
                let code = match error.item {
                    ParseError::DepthLimitExceeded(_) | ParseError::TokenLimitExceeded(_) | ParseError::FieldLimitExceeded(_) => {
                        Code::TooComplex
                    }
                    _ => Code::BadUserInput,
                };
                Self(vec![Problem { code, message: syntax(&error.item), locations: vec![error.start()], path: None }], None)
            }
            GraphQLError::ValidationError(errors) => Self(
                errors
                    .iter()
                    .take(MAX_ERRORS)
                    .map(|error| Problem {
                        code: if error.message().contains("too many overlapping") { Code::TooComplex } else { Code::BadUserInput },
                        message: worded(error.message()),
                        locations: error.locations().iter().take(MAX_ERRORS).copied().collect(),
                        path: None,
                    })
                    .collect(),
                None,
            ),
            GraphQLError::NoOperationProvided => Self::bad_request("Must provide an operation.", None),
            GraphQLError::MultipleOperationsProvided => {
                Self::bad_request("Must provide operation name if query contains multiple operations.", None)
            }
            GraphQLError::UnknownOperationName => Self::bad_request("Unknown operation: the document holds none of that name.", None),
            GraphQLError::IsSubscription => {
                Self::bad_request("Subscriptions are served over a websocket on this path, with the protocol graphql-transport-ws.", None)
            }
            other @ (GraphQLError::NotSubscription | GraphQLError::NotSupported(_)) => Self::bad_request(other.to_string(), None),
        }
    }
}

/// The body of an answer to an executed operation.
pub(crate) fn executed(data: &Value<Scalar>, errors: &[ExecutionError<Scalar>], request_id: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Body<'a> {
        #[serde(skip_serializing_if = "Option::is_none")]
        errors: Option<Json>,
        data: &'a Value<Scalar>,
    }
    let errors = (!errors.is_empty()).then(|| Rejection::executed(errors).errors(request_id));
    serde_json::to_vec(&Body { errors, data }).unwrap_or_else(|error| {
        tracing::error!(request_id, %error, "an answer could not be written as JSON");
        Rejection::internal().response(200, request_id).body
    })
}

/// How many fields an answer holds.
pub(crate) fn fields(data: &Value<Scalar>) -> u64 {
    match data {
        Value::Scalar(_) | Value::Null => 0,
        Value::List(items) => items.iter().map(fields).sum(),
        Value::Object(object) => object.iter().map(|(_, value)| 1 + fields(value)).sum(),
    }
}

/// The body for a request that fails before its document is looked at, such as one with an unknown token.
#[must_use]
pub fn error_body(error: &ops::Error, request_id: &str) -> Vec<u8> {
    Rejection::one(error.code, error.public.clone()).response(200, request_id).body
}

fn location(position: &SourcePosition) -> Json {
    json!({"line": position.line() + 1, "column": position.column() + 1})
}

fn cut(message: &str) -> String {
    match message.char_indices().nth(MAX_MESSAGE) {
        Some((at, _)) => format!("{}…", &message[..at]),
        None => message.to_owned(),
    }
}

fn syntax(error: &ParseError) -> String {
    match error {
        ParseError::UnexpectedEndOfFile => "Syntax Error: Unexpected <EOF>.".to_owned(),
        ParseError::DepthLimitExceeded(_) | ParseError::TokenLimitExceeded(_) | ParseError::FieldLimitExceeded(_) => {
            format!("{error}: ask for less in one operation.")
        }
        ParseError::UnexpectedToken(_) | ParseError::LexerError(_) | ParseError::ExpectedScalarError(_) => {
            format!("Syntax Error: {error}.")
        }
    }
}

/// The library's validation messages in the words of graphql-js, which clients match (`contracts/railway.md` 1.2).
fn worded(message: &str) -> String {
    let quoted: Vec<&str> = message.split('"').skip(1).step_by(2).collect();
    match (message.split('"').next().unwrap_or_default(), quoted.as_slice()) {
        ("Unknown field ", [field, parent]) => format!("Cannot query field \"{field}\" on type \"{parent}\"."),
        ("Unknown argument ", [argument, field, parent]) => format!("Unknown argument \"{argument}\" on field \"{parent}.{field}\"."),
        ("Unknown argument ", [argument, directive]) => format!("Unknown argument \"{argument}\" on directive \"@{directive}\"."),
        ("Unknown directive ", [name]) => format!("Unknown directive \"@{name}\"."),
        ("Unknown fragment: ", [name]) => format!("Unknown fragment \"{name}\"."),
        ("Field ", [field, argument, kind]) if message.ends_with("is required but not provided") => {
            format!("Field \"{field}\" argument \"{argument}\" of type \"{kind}\" is required, but it was not provided.")
        }
        ("Variable ", [name, kind, expected]) if message.contains("used in position expecting") => {
            format!("Variable \"${name}\" of type \"{kind}\" used in position expecting type \"{expected}\".")
        }
        ("Variable ", [name, operation]) if message.contains("is not used by operation") => {
            format!("Variable \"{name}\" is never used in operation \"{operation}\".")
        }
        ("Variable ", [name]) if message.ends_with("is not used") => format!("Variable \"{name}\" is never used."),
        _ if message.ends_with(['.', '?', '!']) => message.to_owned(),
        _ => format!("{message}."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_speak_like_graphql_js() {
        for (ours, theirs) in [
            (r#"Unknown field "x" on type "Y""#, r#"Cannot query field "x" on type "Y"."#),
            (r#"Unknown argument "a" on field "f" of type "T""#, r#"Unknown argument "a" on field "T.f"."#),
            (r#"Variable "$x" is not used by operation "Q""#, r#"Variable "$x" is never used in operation "Q"."#),
            (r#"Variable "$x" is not defined"#, r#"Variable "$x" is not defined."#),
            (
                r#"Field "f" argument "a" of type "T!" is required but not provided"#,
                r#"Field "f" argument "a" of type "T!" is required, but it was not provided."#,
            ),
        ] {
            assert_eq!(worded(ours), theirs);
        }
    }

    #[test]
    fn long_messages_are_cut() {
        assert_eq!(cut(&"é".repeat(5_000)).chars().count(), MAX_MESSAGE + 1);
    }
}
