//! OAuth for the command-line client: the endpoints that it calls and the pages that its user sees (`contracts/railway.md` 1.7).

mod browser;
mod device;

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use domain::Code;
use ops::Error;
use ops::oauth::{OAuthError, TokenGrant, device_start, token_exchange};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;

pub(crate) use self::browser::{consent_form, consent_submit};
pub(crate) use self::device::{device_form, device_submit};
use crate::http::{Arrival, Form, Shared, json, read_form};

/// `POST /oauth/device/auth`
pub(crate) async fn device_auth(State(state): State<Shared>, Extension(arrival): Extension<Arrival>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let started = async {
        state.limits.device_start(arrival.address, arrival.now)?;
        read_form(&parts.headers, body).await?.need("client_id")?;
        device_start(&state.ops, arrival.now).await
    };
    match started.await {
        Ok(started) => {
            let url = state.ops.settings.dashboard_url.trim_end_matches('/');
            json(
                StatusCode::OK,
                &json!({
                    "device_code": started.device_code.expose_secret(),
                    "user_code": started.user_code,
                    "verification_uri": format!("{url}/oauth/device"),
                    "verification_uri_complete": format!("{url}/oauth/device?user_code={}", started.user_code),
                    "expires_in": started.expires_in,
                    "interval": started.interval,
                }),
            )
        }
        Err(error) => refuse(&named(error), &arrival.request_id),
    }
}

/// `POST /oauth/token`
pub(crate) async fn token(State(state): State<Shared>, Extension(arrival): Extension<Arrival>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let exchanged = async {
        let form = read_form(&parts.headers, body).await.map_err(named)?;
        let grant = grant_of(&form)?;
        if state.limits.exchange(arrival.address, arrival.now).is_err() {
            // What a polling client understands; one that refreshes keeps its login on a 503 and tries again.
            return Err(match grant {
                TokenGrant::Device { .. } => OAuthError::SlowDown,
                _ => OAuthError::Unavailable(Error::new(Code::RateLimited, "Too many attempts")),
            });
        }
        token_exchange(&state.ops, grant, arrival.now).await
    };
    match exchanged.await {
        Ok(tokens) => json(
            StatusCode::OK,
            &json!({
                "access_token": tokens.access.expose_secret(),
                "refresh_token": tokens.refresh.expose_secret(),
                "token_type": "Bearer",
                "expires_in": tokens.expires_in,
            }),
        ),
        Err(error) => refuse(&error, &arrival.request_id),
    }
}

fn grant_of(form: &Form) -> Result<TokenGrant, OAuthError> {
    let text = |name: &str| form.need(name).map(str::to_owned).map_err(named);
    let secret = |name: &str| text(name).map(SecretString::from);
    match text("grant_type")?.as_str() {
        "urn:ietf:params:oauth:grant-type:device_code" => Ok(TokenGrant::Device { device_code: secret("device_code")? }),
        "authorization_code" => {
            Ok(TokenGrant::Code { code: secret("code")?, redirect_uri: text("redirect_uri")?, verifier: secret("code_verifier")? })
        }
        "refresh_token" => Ok(TokenGrant::Refresh { refresh_token: secret("refresh_token")? }),
        _ => Err(OAuthError::InvalidRequest(
            "`grant_type` must be authorization_code, refresh_token or urn:ietf:params:oauth:grant-type:device_code".to_owned(),
        )),
    }
}

/// An error of a verb or of the request's form, as OAuth names it.
fn named(error: Error) -> OAuthError {
    match error.code {
        Code::BadUserInput | Code::TooLarge | Code::Timeout => OAuthError::InvalidRequest(error.public),
        _ => OAuthError::Unavailable(error),
    }
}

/// The error answer of RFC 6749 5.2. Only what the client may try again unchanged is a 5xx.
fn refuse(error: &OAuthError, request_id: &str) -> Response {
    let status = match error {
        OAuthError::Unavailable(cause) => {
            cause.log(request_id);
            StatusCode::SERVICE_UNAVAILABLE
        }
        _ => StatusCode::BAD_REQUEST,
    };
    json(status, &json!({"error": error.as_str(), "error_description": error.to_string(), "requestId": request_id}))
}
