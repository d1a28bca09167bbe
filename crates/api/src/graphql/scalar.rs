//! What a leaf of an answer or of an input can be: GraphQL's own scalars, 64-bit integers, and whole JSON documents.
//!
//! Railway's schema has scalars that are JSON objects (`EnvironmentVariables`, `DeploymentMeta`, …). They travel as one leaf,
//! [`Scalar::Json`]: on the way in [`super::variables`] wraps them before the library sees them, on the way out they are written as
//! they are.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use juniper::{GraphQLScalar, ParseScalarResult, ParseScalarValue, ScalarToken, ScalarValue};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value as Json;

/// The library's leaf, see the module.
#[derive(Clone, Debug, PartialEq, ScalarValue, Serialize)]
#[serde(untagged)]
pub enum Scalar {
    /// A 32-bit integer.
    #[value(to_float, to_int)]
    Int(i32),
    /// A larger integer.
    Long(i64),
    /// A number with a fraction.
    #[value(to_float)]
    Float(f64),
    /// Text.
    #[value(as_str, to_string)]
    String(String),
    /// Yes or no.
    #[value(to_bool)]
    Boolean(bool),
    /// A whole document.
    Json(Arc<Json>),
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(value) => value.fmt(f),
            Self::Long(value) => value.fmt(f),
            Self::Float(value) => value.fmt(f),
            Self::String(value) => value.fmt(f),
            Self::Boolean(value) => value.fmt(f),
            Self::Json(_) => f.write_str("{…}"),
        }
    }
}

impl From<i32> for Scalar {
    fn from(value: i32) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Scalar {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl From<bool> for Scalar {
    fn from(value: bool) -> Self {
        Self::Boolean(value)
    }
}

impl From<String> for Scalar {
    fn from(value: String) -> Self {
        Self::String(value)
    }
}

impl From<&str> for Scalar {
    fn from(value: &str) -> Self {
        Self::String(value.to_owned())
    }
}

impl TryFrom<Scalar> for String {
    type Error = Scalar;

    fn try_from(value: Scalar) -> Result<Self, Scalar> {
        match value {
            Scalar::String(text) => Ok(text),
            other => Err(other),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self::of(Json::deserialize(deserializer)?))
    }
}

impl Scalar {
    /// The narrowest leaf that holds a JSON value.
    pub(crate) fn of(value: Json) -> Self {
        match value {
            Json::Bool(value) => Self::Boolean(value),
            Json::String(text) => Self::String(text),
            Json::Number(number) => match number.as_i64() {
                Some(value) => i32::try_from(value).map_or(Self::Long(value), Self::Int),
                None => Self::Float(number.as_f64().unwrap_or(f64::MAX)),
            },
            other => Self::Json(Arc::new(other)),
        }
    }

    /// The leaf as a JSON value.
    pub(crate) fn to_json(&self) -> Json {
        match self {
            Self::Int(value) => Json::from(*value),
            Self::Long(value) => Json::from(*value),
            Self::Float(value) => Json::from(*value),
            Self::String(value) => Json::from(value.as_str()),
            Self::Boolean(value) => Json::from(*value),
            Self::Json(value) => (**value).clone(),
        }
    }
}

macro_rules! json_scalars {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        $(
            $(#[$doc])*
            #[derive(Clone, Debug, GraphQLScalar)]
            #[allow(clippy::upper_case_acronyms, reason = "the names are the schema's")]
            #[graphql(scalar = Scalar, to_output_with = Self::leaf, from_input_with = Self::read, parse_token_with = any_token)]
            pub(crate) struct $name(pub(crate) Arc<Json>);

            impl $name {
                fn leaf(&self) -> Scalar {
                    Scalar::Json(Arc::clone(&self.0))
                }

                fn read(leaf: &juniper::Scalar<Scalar>) -> Self {
                    Self(Arc::new(leaf.to_json()))
                }
            }

            impl From<Json> for $name {
                fn from(value: Json) -> Self {
                    Self(Arc::new(value))
                }
            }
        )+

        /// The scalars that may hold lists and objects.
        pub(crate) const JSON_SCALARS: &[&str] = &[$(stringify!($name)),+];
    };
}

json_scalars! {
    /// Any JSON value.
    JSON,
    /// Variables by name; a sealed one is null.
    EnvironmentVariables,
    /// What a deployment was made from.
    DeploymentMeta,
    /// An environment as one document.
    EnvironmentConfig,
    /// The limits of each running copy.
    ServiceInstanceLimit,
    /// A template as one document.
    SerializedTemplateConfig,
    /// Where a notification goes.
    NotificationChannelConfig,
}

fn any_token(token: ScalarToken<'_>) -> ParseScalarResult<Scalar> {
    <String as ParseScalarValue<Scalar>>::from_str(token)
        .or_else(|_| <i32 as ParseScalarValue<Scalar>>::from_str(token))
        .or_else(|_| <f64 as ParseScalarValue<Scalar>>::from_str(token))
}

/// A moment, RFC 3339 in UTC with milliseconds.
#[derive(Clone, Copy, Debug, GraphQLScalar)]
#[graphql(scalar = Scalar, to_output_with = Self::write, from_input_with = Self::read, parse_token(String))]
pub(crate) struct DateTime(pub(crate) Timestamp);

impl DateTime {
    fn write(&self) -> Scalar {
        Scalar::String(self.text())
    }

    /// As it is written.
    pub(crate) fn text(self) -> String {
        format!("{:.3}", self.0)
    }

    fn read(text: &str) -> Result<Self, String> {
        moment(text).map(Self)
    }
}

/// Reads a moment as clients write it.
///
/// # Errors
/// A sentence that says how to write one.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    let shown: String = text.chars().take(40).collect();
    text.parse().map_err(|_| format!("{shown:?} is not a moment: write it like 2026-11-21T10:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_have_milliseconds_and_a_z() {
        let at: Timestamp = "2026-11-21T10:00:00.1234567Z".parse().unwrap();
        assert_eq!(DateTime(at).write(), Scalar::String("2026-11-21T10:00:00.123Z".into()));
        let at: Timestamp = "2026-11-21T10:00:00Z".parse().unwrap();
        assert_eq!(DateTime(at).write(), Scalar::String("2026-11-21T10:00:00.000Z".into()));
    }

    #[test]
    fn numbers_keep_their_width() {
        assert_eq!(serde_json::to_string(&Scalar::of(Json::from(9_007_199_254_740_993_i64))).unwrap(), "9007199254740993");
        assert_eq!(Scalar::of(Json::from(7)), Scalar::Int(7));
    }
}
