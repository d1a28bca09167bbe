//! Bodies: read with a limit before anything looks into them.

use std::time::Duration;

use axum::body::Body;
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_LENGTH, CONTENT_TYPE, EXPECT};
use bytes::{Bytes, BytesMut};
use domain::Code;
use futures::StreamExt;
use http_body_util::BodyExt;
use ops::Error;
use secrecy::SecretString;

const FORM_BYTES: usize = 16 * 1024;

/// How long, and how much, the rest of a refused body is read and thrown away.
const LINGER: Duration = Duration::from_secs(20);
const LINGER_BYTES: usize = 1 << 30;

/// The announced length of the body.
pub(crate) fn announced(headers: &HeaderMap) -> Option<u64> {
    headers.get(CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

/// Reads a whole body.
///
/// # Errors
/// Too large, too slow to arrive, or broken off.
pub(crate) async fn read(headers: &HeaderMap, body: Body, limit: usize, patience: Duration) -> Result<Bytes, Error> {
    let too_large = || Error::new(Code::TooLarge, format!("The request body is larger than {limit} bytes: send less"));
    if announced(headers).is_some_and(|length| length > limit as u64) {
        linger(headers, body);
        return Err(too_large());
    }
    let mut body = body;
    let collect = async {
        let mut whole = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Error::bad_input("The request body broke off: send it again"))?;
            let Ok(data) = frame.into_data() else { continue };
            if whole.len() + data.len() > limit {
                return Err(too_large());
            }
            whole.extend_from_slice(&data);
        }
        Ok(whole.freeze())
    };
    let outcome = tokio::time::timeout(patience, collect).await;
    let outcome = outcome.unwrap_or_else(|_| Err(Error::new(Code::Timeout, "The request body came too slowly: send it again")));
    if outcome.as_ref().is_err_and(|error| error.code == Code::TooLarge) {
        linger(headers, body);
    }
    outcome
}

/// Reads the rest of a refused body beside the answer. A connection that is closed with unread bytes is reset, and a client that is
/// still sending would see that instead of the answer.
pub(crate) fn linger(headers: &HeaderMap, body: Body) {
    // Such a client waits for a word before it sends the body; reading would be that word.
    if headers.contains_key(EXPECT) {
        return;
    }
    tokio::spawn(async move {
        let mut data = body.into_data_stream();
        let drain = async {
            let mut seen = 0;
            while let Some(Ok(chunk)) = data.next().await {
                seen += chunk.len();
                if seen > LINGER_BYTES {
                    break;
                }
            }
        };
        // Either way the connection is done with this body.
        let _ = tokio::time::timeout(LINGER, drain).await;
    });
}

/// The fields of a form or of a query, each at most once.
pub(crate) struct Form(Vec<(String, String)>);

impl Form {
    /// Parses `application/x-www-form-urlencoded` text.
    ///
    /// # Errors
    /// A field that comes twice: two readers could take different ones.
    pub(crate) fn parse(text: &[u8]) -> Result<Self, Error> {
        let mut fields: Vec<(String, String)> = vec![];
        for (name, value) in form_urlencoded::parse(text) {
            if fields.iter().any(|(known, _)| *known == name) {
                return Err(Error::bad_input(format!("The field `{}` came more than once: send it once", short(&name))));
            }
            fields.push((name.into_owned(), value.into_owned()));
        }
        Ok(Self(fields))
    }

    /// A field that is there and not empty.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()).filter(|value| !value.is_empty())
    }

    /// As [`Form::get`], for what must not be printed.
    pub(crate) fn secret(&self, name: &str) -> Option<SecretString> {
        self.get(name).map(SecretString::from)
    }

    /// As [`Form::get`].
    ///
    /// # Errors
    /// It is missing.
    pub(crate) fn need(&self, name: &str) -> Result<&str, Error> {
        self.get(name).ok_or_else(|| Error::bad_input(format!("The field `{name}` is missing")))
    }
}

fn short(text: &str) -> String {
    text.chars().take(40).collect()
}

/// Reads a form from a request's body.
///
/// # Errors
/// Not a form, too large, or a field that comes twice.
pub(crate) async fn read_form(headers: &HeaderMap, body: Body) -> Result<Form, Error> {
    let form = headers.get(CONTENT_TYPE).is_some_and(|value| value.as_bytes().starts_with(b"application/x-www-form-urlencoded"));
    if !form {
        linger(headers, body);
        return Err(Error::bad_input("Send the fields as `Content-Type: application/x-www-form-urlencoded`"));
    }
    Form::parse(&read(headers, body, FORM_BYTES, Duration::from_secs(20)).await?)
}
