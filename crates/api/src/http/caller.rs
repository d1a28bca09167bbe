//! From the headers of a request to the context of a verb.

use axum::http::header::{AUTHORIZATION, COOKIE, UPGRADE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use domain::Code;
use ops::auth::{Presented, Surface, identify};
use ops::limit::refusal;
use ops::{Error, OpCtx, Principal};
use secrecy::SecretString;
use serde_json::{Map, Value};

use super::{ApiState, Arrival, Asker, require_same_origin};
use crate::galaxy::KEY_VARIABLE;

/// The cookie of a browser that is signed in without TLS.
pub(crate) const SESSION_COOKIE: &str = "orrery_session";

/// The cookie of one that is signed in by https. Browsers take this name from this very host alone: an app beside it, below the same domain,
/// can neither plant a session of its own nor lock anybody out with a second one.
pub(crate) const HOST_COOKIE: &str = "__Host-orrery_session";

/// Where a project token is sent (`contracts/railway.md` 1.3).
pub(crate) static PROJECT_TOKEN: HeaderName = HeaderName::from_static("project-access-token");

/// Where a Galaxy account's key is sent (`contracts/galaxy.md` 2.1).
pub(crate) static GALAXY_KEY: HeaderName = HeaderName::from_static("galaxy-api-key");

/// What a request presents.
pub(crate) enum Credential {
    /// Nothing.
    None,
    /// A key of a person or a workspace.
    Bearer(SecretString),
    /// A key of an environment.
    ProjectToken(SecretString),
    /// A Galaxy account's key.
    GalaxyKey(SecretString),
    /// The cookie.
    Session(SecretString),
}

impl Credential {
    fn present(self) -> Presented {
        match self {
            Self::None => Presented::None,
            Self::Bearer(secret) => Presented::Bearer(secret),
            Self::ProjectToken(secret) => Presented::ProjectToken(secret),
            Self::GalaxyKey(secret) => Presented::GalaxyKey(secret),
            Self::Session(secret) => Presented::Session(secret),
        }
    }
}

/// Reads the credential: the surface's own header wins over a bearer token, which wins over the headers of other surfaces (they are
/// refused by name) and over the cookie of that name.
///
/// # Errors
/// A header that is there but not of the form it should have.
pub(crate) fn credential(headers: &HeaderMap, surface: Surface, cookie_name: &str) -> Result<Credential, Error> {
    let (own, foreign) = match surface {
        Surface::Galaxy => (&GALAXY_KEY, &PROJECT_TOKEN),
        Surface::Railway | Surface::Flow => (&PROJECT_TOKEN, &GALAXY_KEY),
    };
    if let Some(found) = of_header(headers, own) {
        return Ok(found);
    }
    if let Some(value) = headers.get(AUTHORIZATION) {
        let text = value.to_str().unwrap_or_default();
        let token = text.split_once(' ').filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer")).map(|(_, token)| token.trim());
        let token = token.ok_or_else(|| match surface {
            // Its clients look for the same words whatever is wrong with a key.
            Surface::Flow => surface.unauthenticated(),
            Surface::Railway | Surface::Galaxy => refused("Not Authorized: the `Authorization` header must read `Bearer <token>`"),
        })?;
        return Ok(Credential::Bearer(SecretString::from(token)));
    }
    let session = || cookie(headers, cookie_name).map(Credential::Session);
    Ok(of_header(headers, foreign).or_else(session).unwrap_or(Credential::None))
}

/// The same for an operation on Galaxy's surface, whose variable `galaxyApiKey` counts as its header, declared or not. The key is taken
/// out of the variables, which may be kept for a while.
///
/// # Errors
/// A header that is there but not of the form it should have.
pub(crate) fn galaxy_credential(headers: &HeaderMap, variables: &mut Map<String, Value>, cookie_name: &str) -> Result<Credential, Error> {
    let sent = variables.get_mut(KEY_VARIABLE).filter(|value| !value.is_null());
    // A declared variable still needs a value of its type.
    let sent = sent.map(|value| std::mem::replace(value, Value::String(String::new())));
    match sent {
        Some(Value::String(key)) if !headers.contains_key(&GALAXY_KEY) => Ok(Credential::GalaxyKey(SecretString::from(key.trim()))),
        _ => credential(headers, Surface::Galaxy, cookie_name),
    }
}

/// A key in a header of its own. What is not text is no key either, and is refused as one.
fn of_header(headers: &HeaderMap, name: &HeaderName) -> Option<Credential> {
    let secret = SecretString::from(headers.get(name)?.to_str().unwrap_or_default().trim());
    Some(if *name == GALAXY_KEY { Credential::GalaxyKey(secret) } else { Credential::ProjectToken(secret) })
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
pub(crate) async fn context(state: &ApiState, surface: Surface, arrival: &Arrival, parts: &Parts) -> Result<OpCtx, Error> {
    if let Some(found) = arrival.found() {
        return Ok(found);
    }
    let credential = credential(&parts.headers, surface, arrival.session_cookie()).map_err(|error| failed(state, arrival, error))?;
    let changes = !parts.method.is_safe() || parts.headers.contains_key(UPGRADE);
    if changes && matches!(credential, Credential::Session(_)) {
        require_same_origin(state, &parts.headers)?;
    }
    context_of(state, surface, arrival, credential).await
}

/// As [`context`], for a credential that was read before.
pub(crate) async fn context_of(state: &ApiState, surface: Surface, arrival: &Arrival, credential: Credential) -> Result<OpCtx, Error> {
    if let Some(found) = arrival.found() {
        return Ok(found);
    }
    let address = arrival.address.to_string();
    let found = identify(&state.ops, surface, credential.present(), arrival.now, Some(&address)).await;
    let found = found.map_err(|error| failed(state, arrival, error))?;
    arrival.asked_by(Asker::Principal(found.clone()));
    let principal = match surface.narrow(found.clone()) {
        Ok(principal) => principal,
        Err(refused) => {
            // The key works, so it is counted for it and not for its address.
            Box::pin(count(state, arrival, &found)).await?;
            return Err(refused);
        }
    };
    count(state, arrival, &principal).await?;
    Ok(OpCtx { ops: state.ops.clone(), principal, request_id: arrival.request_id.clone(), address: Some(address), now: arrival.now })
}

/// Counts the request for whoever asks: the one place where the limits of all APIs are applied. Addresses without an API are not counted.
async fn count(state: &ApiState, arrival: &Arrival, principal: &Principal) -> Result<(), Error> {
    if arrival.dialect.is_none() {
        return Ok(());
    }
    let standing = match state.ops.limits.take(&state.ops.store, principal, arrival.now).await {
        Ok(standing) => standing,
        Err(error) => {
            // Nothing was counted. What is known of the key is told, and not how its address stands, which has nothing to do with it.
            if let Ok(Some(known)) = Box::pin(state.ops.limits.look(&state.ops.store, principal, arrival.now)).await {
                arrival.stands(known);
            }
            return Err(error);
        }
    };
    let standing = standing.unwrap_or_else(|| state.limits.stranger(arrival, false));
    arrival.stands(standing);
    if standing.refused { Err(refusal(&standing)) } else { Ok(()) }
}

/// Counts a credential that does not work against its address. Those that work are never refused for it.
fn failed(state: &ApiState, arrival: &Arrival, error: Error) -> Error {
    if error.code != Code::Unauthenticated || arrival.dialect.is_none() {
        return error;
    }
    let standing = state.limits.failed_credential(arrival);
    arrival.stands(standing);
    if standing.refused { refusal(&standing) } else { error }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use secrecy::ExposeSecret;

    use super::*;

    #[test]
    fn each_surface_looks_at_its_own_header_first() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_static("Bearer b"));
        headers.insert(&PROJECT_TOKEN, HeaderValue::from_static("p"));
        headers.insert(&GALAXY_KEY, HeaderValue::from_static("g"));
        assert!(matches!(credential(&headers, Surface::Railway, HOST_COOKIE), Ok(Credential::ProjectToken(_))));
        assert!(matches!(credential(&headers, Surface::Galaxy, HOST_COOKIE), Ok(Credential::GalaxyKey(_))));
        headers.remove(&GALAXY_KEY);
        assert!(matches!(credential(&headers, Surface::Galaxy, HOST_COOKIE), Ok(Credential::Bearer(_))));
        headers.remove(AUTHORIZATION);
        assert!(matches!(credential(&headers, Surface::Galaxy, HOST_COOKIE), Ok(Credential::ProjectToken(_))));
    }

    #[test]
    fn a_header_without_its_scheme_is_refused_in_the_words_of_its_surface() {
        for sent in ["gx_abc", "Basic YTpi"] {
            let headers = HeaderMap::from_iter([(AUTHORIZATION, HeaderValue::from_static(sent))]);
            let told = |surface| credential(&headers, surface, HOST_COOKIE).err().map(|error| (error.code, error.public));
            assert_eq!(told(Surface::Flow), Some((Code::Unauthenticated, "Invalid or expired API key.".to_owned())), "{sent}");
            assert!(told(Surface::Railway).is_some_and(|(_, text)| text.contains("Bearer <token>")), "{sent}");
        }
    }

    #[test]
    fn the_variable_is_a_header_and_is_taken_out() {
        let mut variables = Map::from_iter([("galaxyApiKey".to_owned(), Value::from("gal_x")), ("n".to_owned(), Value::from(1))]);
        let Ok(Credential::GalaxyKey(key)) = galaxy_credential(&HeaderMap::new(), &mut variables, HOST_COOKIE) else { panic!() };
        assert_eq!((key.expose_secret(), variables["galaxyApiKey"].as_str(), &variables["n"]), ("gal_x", Some(""), &Value::from(1)));
        let mut headers = HeaderMap::new();
        headers.insert(&GALAXY_KEY, HeaderValue::from_static("gal_y"));
        let mut variables = Map::from_iter([("galaxyApiKey".to_owned(), Value::from("gal_x"))]);
        let Ok(Credential::GalaxyKey(key)) = galaxy_credential(&headers, &mut variables, HOST_COOKIE) else { panic!() };
        assert_eq!((key.expose_secret(), variables["galaxyApiKey"].as_str()), ("gal_y", Some("")));
    }

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
