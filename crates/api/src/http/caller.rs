//! From the headers of a request to the context of a verb.

use axum::http::header::{AUTHORIZATION, COOKIE, UPGRADE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use domain::Code;
use ops::auth::{Presented, authenticate};
use ops::{Error, OpCtx, Principal};
use secrecy::SecretString;

use super::{ApiState, Arrival, require_same_origin};

/// The cookie of a signed-in browser.
pub(crate) const SESSION_COOKIE: &str = "orrery_session";

/// Where a project token is sent (`contracts/railway.md` 1.3).
pub(crate) static PROJECT_TOKEN: HeaderName = HeaderName::from_static("project-access-token");

/// What a request presents. Unlike [`Presented`] it can be presented again: a websocket outlives the check at its door.
#[derive(Clone)]
pub(crate) enum Credential {
    /// Nothing.
    None,
    /// A key of a person or a workspace.
    Bearer(SecretString),
    /// A key of an environment.
    ProjectToken(SecretString),
    /// The cookie.
    Session(SecretString),
}

impl Credential {
    pub(super) fn present(&self) -> Presented {
        match self {
            Self::None => Presented::None,
            Self::Bearer(secret) => Presented::Bearer(secret.clone()),
            Self::ProjectToken(secret) => Presented::ProjectToken(secret.clone()),
            Self::Session(secret) => Presented::Session(secret.clone()),
        }
    }
}

/// Reads the credential: a project token wins over a bearer token, which wins over the cookie.
///
/// # Errors
/// A header that is there but not of the form it should have.
pub(crate) fn credential(headers: &HeaderMap) -> Result<Credential, Error> {
    if let Some(value) = headers.get(&PROJECT_TOKEN) {
        let token = value.to_str().map_err(|_| refused("Project token not found"))?.trim();
        return Ok(Credential::ProjectToken(SecretString::from(token)));
    }
    if let Some(value) = headers.get(AUTHORIZATION) {
        let text = value.to_str().unwrap_or_default();
        let token = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        let token = token.ok_or_else(|| refused("Not Authorized: the `Authorization` header must read `Bearer <token>`"))?;
        return Ok(Credential::Bearer(SecretString::from(token)));
    }
    Ok(cookie(headers, SESSION_COOKIE).map_or(Credential::None, Credential::Session))
}

fn refused(text: &str) -> Error {
    Error::new(Code::Unauthenticated, text)
}

/// A cookie's value. One that comes twice is none: a neighbouring host may have planted the other.
pub(crate) fn cookie(headers: &HeaderMap, name: &str) -> Option<SecretString> {
    let pairs = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    let mut found = pairs.filter_map(|pair| pair.trim().split_once('=')).filter(|(key, _)| *key == name).map(|(_, value)| value);
    let value = found.next().filter(|value| !value.is_empty())?;
    found.next().is_none().then(|| SecretString::from(value))
}

/// Who asks. A browser's session is believed for a change only when the page that sends it is ours.
///
/// # Errors
/// Unauthenticated for a credential that does not work, forbidden for one that a foreign page makes a browser send.
pub(crate) async fn context(state: &ApiState, arrival: &Arrival, parts: &Parts) -> Result<OpCtx, Error> {
    let credential = credential(&parts.headers)?;
    let changes = !parts.method.is_safe() || parts.headers.contains_key(UPGRADE);
    if changes && matches!(credential, Credential::Session(_)) {
        require_same_origin(state, &parts.headers)?;
    }
    context_of(state, arrival, &credential).await
}

/// As [`context`], for a credential that was read before.
pub(crate) async fn context_of(state: &ApiState, arrival: &Arrival, credential: &Credential) -> Result<OpCtx, Error> {
    let address = arrival.address.to_string();
    let principal = authenticate(&state.ops, credential.present(), arrival.now, Some(&address)).await?;
    arrival.asked_by(label(&principal));
    Ok(OpCtx { ops: state.ops.clone(), principal, request_id: arrival.request_id.clone(), address: Some(address), now: arrival.now })
}

fn label(principal: &Principal) -> String {
    match principal {
        Principal::Anonymous => "anonymous".to_owned(),
        Principal::User(person) => format!("user:{}", person.user.id),
        Principal::Key(key) => format!("key:{}", key.key.id),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn a_cookie_that_comes_twice_is_none() {
        let read = |lines: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for line in lines {
                headers.append(COOKIE, HeaderValue::from_static(line));
            }
            cookie(&headers, SESSION_COOKIE).map(|value| value.expose_secret().to_owned())
        };
        assert_eq!(read(&["a=1; orrery_session=x"]).as_deref(), Some("x"));
        assert_eq!(read(&["orrery_session=x; orrery_session=y"]), None);
        assert_eq!(read(&["orrery_session=x", "orrery_session=y"]), None);
        assert_eq!(read(&["xorrery_session=x; orrery_session="]), None);
    }
}
