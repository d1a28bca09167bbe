//! Why a field has no value, as the library carries it to the encoder.

use domain::Code;
use domain::page::BadCursor;
use juniper::{FieldError, IntoFieldError, Value};

use super::Scalar;

/// A verb's refusal on its way through the library. The code travels as the error's extension; [`super::answer`] adds the request id.
#[derive(Debug)]
pub struct Fault(pub ops::Error);

impl From<ops::Error> for Fault {
    fn from(error: ops::Error) -> Self {
        Self(error)
    }
}

impl From<BadCursor> for Fault {
    fn from(bad: BadCursor) -> Self {
        Self::bad_input(bad.to_string())
    }
}

impl Fault {
    /// A refusal of a value that the client sent.
    pub(crate) fn bad_input(text: impl Into<String>) -> Self {
        Self(ops::Error::bad_input(text))
    }

    /// Absent or invisible.
    pub(crate) fn not_found(what: &str) -> Self {
        Self(ops::Error::not_found(what))
    }

    /// More rows than one request may touch.
    pub(crate) fn too_complex(text: impl Into<String>) -> Self {
        Self(ops::Error::new(Code::TooComplex, text))
    }
}

impl IntoFieldError<Scalar> for Fault {
    fn into_field_error(self) -> FieldError<Scalar> {
        FieldError::new(self.0.public, Value::scalar(self.0.code.as_str()))
    }
}
