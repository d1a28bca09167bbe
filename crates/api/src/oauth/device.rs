//! The page where a person approves a device login.

use axum::Extension;
use axum::extract::{Request, State};
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use domain::Code;
use domain::account::DeviceGrant;
use ops::auth::Surface;
use ops::oauth::{device_answer, device_show};
use ops::{Error, OpCtx, Principal};

use crate::http::{ApiState, Arrival, Form, Html, Page, Shared, context, escape};
use crate::login;

/// `GET /oauth/device?user_code=`
pub(crate) async fn device_form(State(state): State<Shared>, Extension(arrival): Extension<Arrival>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let shown = async {
        let ctx = context(&state, Surface::Railway, &arrival, &parts).await?;
        let Principal::User(_) = &ctx.principal else { return Ok(login::first(&parts.uri)) };
        match code_of(&parts.uri)? {
            None => Ok(ask()),
            Some(code) => show(&state, &arrival, &ctx, &code).await,
        }
    };
    shown.await.unwrap_or_else(|error: Error| Page::refuse(&error, &arrival.request_id))
}

fn code_of(uri: &Uri) -> Result<Option<String>, Error> {
    let query = Form::parse(uri.query().unwrap_or_default().as_bytes())?;
    Ok(query.get("user_code").map(str::to_owned))
}

fn ask() -> Response {
    let body = "<form method=\"get\" action=\"/oauth/device\"><label>The code that the client shows \
                <input name=\"user_code\" autocomplete=\"off\" required autofocus></label><button>Next</button></form>";
    Page::new("Sign in a command-line client", Html(body.to_owned())).answer(StatusCode::OK)
}

async fn show(state: &ApiState, arrival: &Arrival, ctx: &OpCtx, code: &str) -> Result<Response, Error> {
    state.limits.user_code(arrival.address, arrival.now)?;
    let grant = device_show(&state.ops, code, arrival.now).await?;
    state.limits.code_was_right(arrival.address);
    match grant {
        DeviceGrant::Pending => {}
        DeviceGrant::Expired => return Err(Error::conflict("This code has expired: begin the login again in the client")),
        DeviceGrant::Approved(_) | DeviceGrant::Denied => return Err(Error::conflict("This code was answered already")),
    }
    let person = ctx.user()?;
    let code = escape(code.trim().to_ascii_uppercase());
    let body = format!(
        "<p>A command-line client wants to act as <strong>{}</strong> ({}) on this server. Approve only if you started it yourself \
         and it shows this code:</p><p><code>{code}</code></p>\
         <form method=\"post\" action=\"/oauth/device\"><input type=\"hidden\" name=\"user_code\" value=\"{code}\">\
         <button name=\"answer\" value=\"approve\">Approve</button><button name=\"answer\" value=\"deny\">Deny</button></form>",
        escape(&person.user.name),
        escape(&person.user.email)
    );
    Ok(Page::new("Sign in a command-line client", Html(body)).answer(StatusCode::OK))
}

/// `POST /oauth/device`
pub(crate) async fn device_submit(State(state): State<Shared>, Extension(arrival): Extension<Arrival>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let answered = async {
        let form = login::own_form(&state, &parts, body).await?;
        let ctx = context(&state, Surface::Railway, &arrival, &parts).await?;
        state.limits.user_code(arrival.address, arrival.now)?;
        let approve = match form.need("answer")? {
            "approve" => true,
            "deny" => false,
            _ => return Err(Error::bad_input("Choose `approve` or `deny`")),
        };
        device_answer(&ctx, form.need("user_code")?, approve).await.map_err(|error| match error.code {
            Code::NotFound => Error::new(Code::NotFound, "This code is unknown, answered or too old: begin the login again in the client"),
            _ => error,
        })?;
        state.limits.code_was_right(arrival.address);
        let body = if approve { "<p>The client is signed in. You can close this page.</p>" } else { "<p>The client was refused.</p>" };
        Ok(Page::new("Done", Html(body.to_owned())).answer(StatusCode::OK))
    };
    answered.await.unwrap_or_else(|error: Error| Page::refuse(&error, &arrival.request_id))
}
