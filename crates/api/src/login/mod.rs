//! Signing in and out in a browser.

use axum::Extension;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{SET_COOKIE, USER_AGENT};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::Response;
use domain::Code;
use domain::account::Session;
use ops::account::PasswordLogin;
use ops::auth::Surface;
use ops::{Error, Principal, Via, account, second_factor};
use secrecy::{ExposeSecret, SecretString};

use crate::http::{
    ApiState, Arrival, Asker, Credential, Form, Html, Page, Shared, context, context_of, cookie, escape, read_form, redirect,
    require_same_origin,
};

/// Sends a visitor to sign in first and back to where they were going.
pub(crate) fn first(uri: &Uri) -> Response {
    let next = uri.path_and_query().map_or("/", |path| path.as_str());
    let query = form_urlencoded::Serializer::new(String::new()).append_pair("next", next).finish();
    redirect(&format!("/login?{query}"))
}

/// A path on this server to go to after signing in; the start page for anything else. Browsers read `//host` and `/\host` as another
/// server.
fn next_of(form: &Form) -> &str {
    let local = |text: &&str| {
        text.starts_with('/')
            && !text[1..].starts_with(['/', '\\'])
            && text.len() <= 4000
            && text.bytes().all(|byte| byte.is_ascii_graphic())
    };
    form.get("next").filter(local).unwrap_or("/")
}

/// `GET /login`
pub(crate) async fn form(Extension(arrival): Extension<Arrival>, uri: Uri) -> Response {
    match Form::parse(uri.query().unwrap_or_default().as_bytes()) {
        Ok(query) => login_page(next_of(&query), None).answer(StatusCode::OK),
        Err(error) => Page::refuse(&error, &arrival.request_id),
    }
}

fn login_page(next: &str, problem: Option<&str>) -> Page<'static> {
    let problem = problem.map(|text| format!("<p role=\"alert\"><strong>{}</strong></p>", escape(text))).unwrap_or_default();
    Page::new(
        "Sign in",
        Html(format!(
            "{problem}<form method=\"post\" action=\"/login\"><input type=\"hidden\" name=\"next\" value=\"{}\">\
             <label>E-mail address <input name=\"email\" type=\"email\" autocomplete=\"username\" required autofocus></label>\
             <label>Password <input name=\"password\" type=\"password\" autocomplete=\"current-password\" required></label>\
             <button>Sign in</button></form>\
             <p>No password? Use the login link: the server printed one at its first start, and <code>orrery login-link</code> \
             on the server makes another.</p>",
            escape(next)
        )),
    )
}

/// `POST /login`
pub(crate) async fn submit(State(state): State<Shared>, Extension(arrival): Extension<Arrival>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let form = match own_form(&state, &parts, body).await {
        Ok(form) => form,
        Err(error) => return Page::refuse(&error, &arrival.request_id),
    };
    match password(&state, &arrival, &parts, &form).await {
        Ok(response) => response,
        Err(error) if matches!(error.code, Code::Unauthenticated | Code::RateLimited | Code::BadUserInput) => {
            let status = if error.code == Code::RateLimited { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::UNAUTHORIZED };
            login_page(next_of(&form), Some(&error.public)).answer(status)
        }
        Err(error) => Page::refuse(&error, &arrival.request_id),
    }
}

async fn password(state: &ApiState, arrival: &Arrival, parts: &Parts, form: &Form) -> Result<Response, Error> {
    let email = form.need("email")?;
    let password = form.secret("password").ok_or_else(|| Error::bad_input("Type your password"))?;
    let attempt = state.limits.login(arrival.address, email, arrival.now)?;
    let browser = browser(arrival, parts);
    match account::password_login(&state.ops, email, password, arrival.now, browser).await? {
        (user, PasswordLogin::Entered(session, secret)) => {
            attempt.succeeded();
            arrival.asked_by(Asker::Person(user.id));
            Ok(enter(state, arrival, parts, &session, &secret, next_of(form)).await)
        }
        // Counts until the code was right: what waits for one takes room.
        (_, PasswordLogin::CodeNeeded(waiting)) => Ok(code_page(next_of(form), waiting.expose_secret(), None).answer(StatusCode::OK)),
    }
}

fn code_page(next: &str, waiting: &str, problem: Option<&str>) -> Page<'static> {
    let problem = problem.map(|text| format!("<p role=\"alert\"><strong>{}</strong></p>", escape(text))).unwrap_or_default();
    Page::new(
        "Your code",
        Html(format!(
            "{problem}<form method=\"post\" action=\"/login/code\"><input type=\"hidden\" name=\"next\" value=\"{}\">\
             <input type=\"hidden\" name=\"waiting\" value=\"{}\">\
             <label>Code <input name=\"code\" autocomplete=\"one-time-code\" spellcheck=\"false\" required autofocus></label>\
             <button>Sign in</button></form>\
             <p>The six digits that your app shows now, or one of your recovery codes. Neither is at hand? \
             <code>orrery user reset-two-factor</code> on the server lets you in by your password alone.</p>",
            escape(next),
            escape(waiting)
        )),
    )
}

/// `GET /login/code`: the page is only ever an answer, and a browser that loads it again begins again.
pub(crate) async fn code_form() -> Response {
    redirect("/login")
}

/// `POST /login/code`
pub(crate) async fn code_submit(State(state): State<Shared>, Extension(arrival): Extension<Arrival>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let form = match own_form(&state, &parts, body).await {
        Ok(form) => form,
        Err(error) => return Page::refuse(&error, &arrival.request_id),
    };
    match code(&state, &arrival, &parts, &form).await {
        Ok(response) => response,
        Err(error) if error.code == Code::Unauthenticated => {
            login_page(next_of(&form), Some(&error.public)).answer(StatusCode::UNAUTHORIZED)
        }
        Err(error) if matches!(error.code, Code::RateLimited | Code::BadUserInput) => {
            let status = if error.code == Code::RateLimited { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::UNAUTHORIZED };
            code_page(next_of(&form), form.get("waiting").unwrap_or_default(), Some(&error.public)).answer(status)
        }
        Err(error) => Page::refuse(&error, &arrival.request_id),
    }
}

async fn code(state: &ApiState, arrival: &Arrival, parts: &Parts, form: &Form) -> Result<Response, Error> {
    let waiting = form.secret("waiting").ok_or_else(|| Error::new(Code::Unauthenticated, "Begin with your password"))?;
    let code = form.need("code")?;
    state.limits.link(arrival.address, arrival.now)?;
    let browser = browser(arrival, parts);
    let (session, secret, user) = second_factor::code_login(&state.ops, &waiting, code, arrival.now, browser).await?;
    state.limits.link_was_right(arrival.address);
    state.limits.login_was_right(arrival.address, &user.email);
    arrival.asked_by(Asker::Person(user.id));
    Ok(enter(state, arrival, parts, &session, &secret, next_of(form)).await)
}

/// `GET /login/link?token=`: asks before it uses the link up, because mail programs and chats open links to show a preview.
pub(crate) async fn link_form(Extension(arrival): Extension<Arrival>, uri: Uri) -> Response {
    let token = Form::parse(uri.query().unwrap_or_default().as_bytes()).and_then(|query| query.need("token").map(str::to_owned));
    match token {
        Ok(token) => {
            let body = format!(
                "<p>The link works once.</p><form method=\"post\" action=\"/login/link\">\
                 <input type=\"hidden\" name=\"token\" value=\"{}\"><button>Sign in</button></form>",
                escape(token)
            );
            Page::new("Sign in with this link", Html(body)).answer(StatusCode::OK)
        }
        Err(error) => Page::refuse(&error, &arrival.request_id),
    }
}

/// `POST /login/link`
pub(crate) async fn link_submit(State(state): State<Shared>, Extension(arrival): Extension<Arrival>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let done = async {
        let form = own_form(&state, &parts, body).await?;
        let token = form.secret("token").ok_or_else(|| Error::bad_input("The link is not complete: copy all of it"))?;
        state.limits.link(arrival.address, arrival.now)?;
        let browser = browser(&arrival, &parts);
        let (session, secret, user) = account::login_link_use(&state.ops, &token, arrival.now, browser).await?;
        state.limits.link_was_right(arrival.address);
        arrival.asked_by(Asker::Person(user.id));
        Ok(enter(&state, &arrival, &parts, &session, &secret, "/").await)
    };
    done.await.unwrap_or_else(|error: Error| Page::refuse(&error, &arrival.request_id))
}

/// `GET /logout`: a link must not be able to sign anybody out, so this only asks.
pub(crate) async fn out_form() -> Response {
    let body = Html("<form method=\"post\" action=\"/logout\"><button>Sign out</button></form>".to_owned());
    Page::new("Sign out", body).answer(StatusCode::OK)
}

/// `POST /logout`
pub(crate) async fn out_submit(State(state): State<Shared>, Extension(arrival): Extension<Arrival>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let done = async {
        require_same_origin(&state, &parts.headers)?;
        let ctx = context(&state, Surface::Railway, &arrival, &parts).await?;
        if let Principal::User(person) = &ctx.principal
            && matches!(person.via, Via::Session(_))
        {
            account::session_end(&ctx).await?;
        }
        Ok(with_session(redirect("/"), &arrival, "", 0))
    };
    done.await.unwrap_or_else(|error: Error| Page::refuse(&error, &arrival.request_id))
}

/// A form that one of our own pages sent.
pub(crate) async fn own_form(state: &ApiState, parts: &Parts, body: Body) -> Result<Form, Error> {
    require_same_origin(state, &parts.headers)?;
    read_form(&parts.headers, body).await
}

fn browser(arrival: &Arrival, parts: &Parts) -> account::Browser {
    let agent = parts.headers.get(USER_AGENT).and_then(|value| value.to_str().ok()).map(str::to_owned);
    account::Browser { address: Some(arrival.address.to_string()), agent }
}

/// Hands the browser its session and ends the one it had: a session never outlives a login.
async fn enter(state: &ApiState, arrival: &Arrival, parts: &Parts, session: &Session, secret: &SecretString, next: &str) -> Response {
    if let Some(old) = cookie(&parts.headers, arrival.session_cookie()) {
        end_old(state, arrival, old).await;
    }
    let seconds = session.expires_at.duration_since(arrival.now).as_secs().max(0);
    with_session(redirect(next), arrival, secret.expose_secret(), seconds)
}

async fn end_old(state: &ApiState, arrival: &Arrival, secret: SecretString) {
    let ended = async {
        let ctx = context_of(state, Surface::Railway, arrival, Credential::Session(secret)).await?;
        match &ctx.principal {
            Principal::User(_) => account::session_end(&ctx).await,
            _ => Ok(()),
        }
    };
    // The new session counts; the old one ends by itself at the latest.
    if let Err(error) = ended.await {
        error.log(&arrival.request_id);
    }
}

/// Hands the browser its session for so many seconds; none of them takes it away.
fn with_session(mut response: Response, arrival: &Arrival, secret: &str, seconds: i64) -> Response {
    let secure = if arrival.https { "; Secure" } else { "" };
    let name = arrival.session_cookie();
    if let Ok(value) = HeaderValue::try_from(format!("{name}={secret}; Path=/; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}")) {
        response.headers_mut().append(SET_COOKIE, value);
    }
    response
}
