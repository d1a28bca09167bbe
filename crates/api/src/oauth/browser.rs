//! The browser login: a signed-in person agrees, and the client on their machine gets a code that only it can use (PKCE).

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use ops::auth::Surface;
use ops::oauth::code_create;
use ops::{Error, Principal};
use secrecy::ExposeSecret;

use crate::http::{Arrival, Form, Html, Page, Shared, context, escape, redirect};
use crate::login;

/// What the client asked for, checked.
#[derive(Debug)]
struct Wanted {
    client_id: String,
    redirect: LoopbackCallback,
    state: Option<String>,
    challenge: String,
}

/// `http://127.0.0.1:<port>/callback`, or `localhost`: nothing else leaves this server with a code.
#[derive(Clone, Debug, PartialEq, Eq)]
struct LoopbackCallback {
    origin: String,
}

impl LoopbackCallback {
    fn parse(text: &str) -> Option<Self> {
        let origin = text.strip_suffix("/callback")?;
        let port = origin.strip_prefix("http://127.0.0.1:").or_else(|| origin.strip_prefix("http://localhost:"))?;
        let digits = !port.starts_with('0') && port.bytes().all(|byte| byte.is_ascii_digit());
        (digits && port.parse::<u16>().is_ok()).then(|| Self { origin: origin.to_owned() })
    }

    fn uri(&self) -> String {
        format!("{}/callback", self.origin)
    }

    /// The callback with an answer in its query.
    fn with(&self, answer: &[(&str, &str)], state: Option<&str>) -> String {
        let mut query = form_urlencoded::Serializer::new(String::new());
        query.extend_pairs(answer);
        if let Some(state) = state {
            query.append_pair("state", state);
        }
        format!("{}?{}", self.uri(), query.finish())
    }
}

/// A request that cannot be answered.
enum Unfit {
    /// Nobody trustworthy to tell: the person sees it.
    Show(Error),
    /// The client is told.
    Tell { to: String },
}

fn read(form: &Form) -> Result<Wanted, Unfit> {
    let client_id = form.need("client_id").map_err(Unfit::Show)?;
    let redirect = form.need("redirect_uri").map_err(Unfit::Show)?;
    let redirect = LoopbackCallback::parse(redirect).ok_or_else(|| {
        Unfit::Show(Error::bad_input(
            "`redirect_uri` must read http://127.0.0.1:<port>/callback: logins go to programs on your own machine only",
        ))
    })?;
    let state = form.get("state").map(str::to_owned);
    let tell =
        |error: &str, text: &str| Unfit::Tell { to: redirect.with(&[("error", error), ("error_description", text)], state.as_deref()) };
    if form.get("response_type") != Some("code") {
        return Err(tell("unsupported_response_type", "response_type must be code"));
    }
    let challenge = form.get("code_challenge").filter(|text| is_challenge(text)).map(str::to_owned);
    let (Some(challenge), Some("S256")) = (challenge, form.get("code_challenge_method")) else {
        return Err(tell("invalid_request", "PKCE is needed: code_challenge with code_challenge_method=S256"));
    };
    Ok(Wanted { client_id: client_id.chars().take(80).collect(), redirect, state, challenge })
}

/// 32 bytes in base64url without padding.
fn is_challenge(text: &str) -> bool {
    text.len() == 43 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

/// `GET /oauth/auth`
pub(crate) async fn consent_form(State(state): State<Shared>, Extension(arrival): Extension<Arrival>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let shown = async {
        let query = Form::parse(parts.uri.query().unwrap_or_default().as_bytes())?;
        let wanted = match read(&query) {
            Ok(wanted) => wanted,
            Err(Unfit::Show(error)) => return Err(error),
            Err(Unfit::Tell { to }) => return Ok(redirect(&to)),
        };
        let ctx = context(&state, Surface::Railway, &arrival, &parts).await?;
        let Principal::User(person) = &ctx.principal else { return Ok(login::first(&parts.uri)) };
        let hidden = |name: &str, value: &str| format!("<input type=\"hidden\" name=\"{name}\" value=\"{}\">", escape(value));
        let body = format!(
            "<p>The program <code>{}</code> on your machine wants to act as <strong>{}</strong> ({}) on this server. Approve only if \
             you started it yourself.</p><form method=\"post\" action=\"/oauth/auth\">{}{}{}{}{}{}\
             <button name=\"answer\" value=\"approve\">Approve</button><button name=\"answer\" value=\"deny\">Deny</button></form>",
            escape(&wanted.client_id),
            escape(&person.user.name),
            escape(&person.user.email),
            hidden("client_id", &wanted.client_id),
            hidden("redirect_uri", &wanted.redirect.uri()),
            hidden("state", wanted.state.as_deref().unwrap_or_default()),
            hidden("code_challenge", &wanted.challenge),
            hidden("code_challenge_method", "S256"),
            hidden("response_type", "code"),
        );
        let mut page = Page::new("Sign in a command-line client", Html(body));
        page.leads_to = Some(&wanted.redirect.origin);
        Ok(page.answer(StatusCode::OK))
    };
    shown.await.unwrap_or_else(|error: Error| Page::refuse(&error, &arrival.request_id))
}

/// `POST /oauth/auth`
pub(crate) async fn consent_submit(State(state): State<Shared>, Extension(arrival): Extension<Arrival>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answered = async {
        let form = login::own_form(&state, &parts, body).await?;
        let wanted = match read(&form) {
            Ok(wanted) => wanted,
            Err(Unfit::Show(error)) => return Err(error),
            Err(Unfit::Tell { to }) => return Ok(redirect(&to)),
        };
        let ctx = context(&state, Surface::Railway, &arrival, &parts).await?;
        let sent_back = wanted.state.as_deref();
        match form.need("answer")? {
            "approve" => {
                let code = code_create(&ctx, &wanted.redirect.uri(), &wanted.challenge).await?;
                Ok(redirect(&wanted.redirect.with(&[("code", code.expose_secret())], sent_back)))
            }
            "deny" => {
                ctx.user()?;
                Ok(redirect(&wanted.redirect.with(&[("error", "access_denied")], sent_back)))
            }
            _ => Err(Error::bad_input("Choose `approve` or `deny`")),
        }
    };
    answered.await.unwrap_or_else(|error: Error| Page::refuse(&error, &arrival.request_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_go_to_this_machine_only() {
        for good in ["http://127.0.0.1:1/callback", "http://localhost:65535/callback"] {
            assert_eq!(LoopbackCallback::parse(good).map(|callback| callback.uri()).as_deref(), Some(good));
        }
        for bad in [
            "https://127.0.0.1:1/callback",
            "http://127.0.0.1/callback",
            "http://127.0.0.1:/callback",
            "http://127.0.0.1:0/callback",
            "http://127.0.0.1:01/callback",
            "http://127.0.0.1:65536/callback",
            "http://127.0.0.1:1@evil.example/callback",
            "http://127.0.0.1:1/callback/",
            "http://127.0.0.1:1/callback?x=1",
            "http://127.0.0.1:1/x/callback",
            "http://127.0.0.1.evil.example:1/callback",
            "http://localhost.evil.example:1/callback",
            "http://evil.example:1/callback",
            "//127.0.0.1:1/callback",
            "http://127.0.0.1:+1/callback",
        ] {
            assert_eq!(LoopbackCallback::parse(bad), None, "{bad}");
        }
    }
}
