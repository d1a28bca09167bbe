//! The few pages of the API's port: what this server is, and what the command-line client's links lead to.

use axum::Extension;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use domain::deployment::Deployment;
use domain::page::PageRequest;
use domain::{Code, DeploymentId, EnvironmentId, ProjectId, ServiceId};
use ops::auth::Surface;
use ops::deployment::DeploymentFilter;
use ops::{Error, OpCtx, Principal, deployment, project as projects, service as services};

use super::answer::{refuse, text};
use super::{ApiState, Arrival, Form, Html, Page, Shared, context, escape};
use crate::login;

/// `GET /healthz`: the process answers and its store does.
pub(super) async fn healthz(State(state): State<Shared>, Extension(arrival): Extension<Arrival>) -> Response {
    match state.ops.store.is_empty().await {
        Ok(_) => text(StatusCode::OK, "ok\n"),
        Err(error) => refuse(&error.into(), &arrival.request_id),
    }
}

/// `GET /docs/errors`: what to do about each code, which is where answers with an error lead (`documentation`).
pub(super) async fn errors() -> Response {
    let about = |code: Code| {
        // Every second part stands between backquotes.
        let parts = code.remedy().split('`').enumerate();
        let text: String =
            parts.map(|(at, part)| if at % 2 == 1 { format!("<code>{}</code>", escape(part)) } else { escape(part).0 }).collect();
        format!("<dt id=\"{code}\"><code>{code}</code></dt><dd>{text}</dd>", code = code.as_str())
    };
    let list: String = Code::ALL.into_iter().map(about).collect();
    let body = Html(format!(
        "<p>Every error of every API carries one of these codes. The workflows' API says <code>UNAUTHORIZED</code> for \
         <code>UNAUTHENTICATED</code>, and <code>BAD_REQUEST</code> for <code>BAD_USER_INPUT</code> and <code>TOO_COMPLEX</code>.</p><dl>{list}</dl>"
    ));
    Page::new("Error codes", body).answer(StatusCode::OK)
}

/// `GET /`
pub(super) async fn start(State(state): State<Shared>, Extension(arrival): Extension<Arrival>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    if let Some(page) = state.dashboard.page(&parts.headers) {
        return page;
    }
    let who = match context(&state, Surface::Railway, &arrival, &parts).await {
        Ok(ctx) => match &ctx.principal {
            Principal::User(person) => format!(
                "<p>You are signed in as {} ({}).</p><form method=\"post\" action=\"/logout\"><button>Sign out</button></form>",
                escape(&person.user.name),
                escape(&person.user.email)
            ),
            _ => "<p>You are not signed in. <a href=\"/login\">Sign in</a></p>".to_owned(),
        },
        Err(error) => return Page::refuse(&error, &arrival.request_id),
    };
    let url = escape(&state.ops.settings.dashboard_url);
    let body = Html(format!(
        "<p>This server builds and runs apps. Use it with the client that you have:</p>\
         <dl><dt>GraphQL</dt><dd><code>{url}/graphql/v2</code> (POST, and websocket for subscriptions)</dd>\
         <dt>Command line</dt><dd><code>orrery railway -- up</code> deploys the folder you are in</dd>\
         <dt>Login code</dt><dd>a client showed you one? <a href=\"/oauth/device\">Enter it here</a></dd></dl>{who}"
    ));
    Page::new("Orrery", body).answer(StatusCode::OK)
}

/// `GET /project/{project}`
pub(super) async fn project(
    State(state): State<Shared>,
    Extension(arrival): Extension<Arrival>,
    path: Result<Path<String>, PathRejection>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    if let Some(page) = state.dashboard.page(&parts.headers) {
        return page;
    }
    let shown = async {
        let Some(ctx) = signed_in(&state, &arrival, &parts).await? else { return Ok(login::first(&parts.uri)) };
        let id: ProjectId = path.ok().and_then(|Path(id)| id.parse().ok()).ok_or_else(|| Error::not_found("Project"))?;
        let found = projects::project_get(&ctx, id).await?;
        let services = ctx.ops.store.services_of(found.tenant, &[id]).await?;
        let items: String = services
            .iter()
            .map(|service| format!("<li><a href=\"/project/{id}/service/{}\">{}</a></li>", service.id, escape(&service.name)))
            .collect();
        let body = Html(format!("<p>Project <code>{id}</code></p><ul>{items}</ul>"));
        Ok(Page::new(&found.row.name, body).answer(StatusCode::OK))
    };
    shown.await.unwrap_or_else(|error: Error| Page::refuse(&error, &arrival.request_id))
}

/// `GET /project/{project}/service/{service}?id=&environmentId=`: what `logsUrl` and the client's own links lead to.
pub(super) async fn service(
    State(state): State<Shared>,
    Extension(arrival): Extension<Arrival>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    if let Some(page) = state.dashboard.page(&parts.headers) {
        return page;
    }
    let shown = async {
        let Some(ctx) = signed_in(&state, &arrival, &parts).await? else { return Ok(login::first(&parts.uri)) };
        let ids = path.ok().and_then(|Path((project, service))| Some((project.parse().ok()?, service.parse().ok()?)));
        let (project, service): (ProjectId, ServiceId) = ids.ok_or_else(|| Error::not_found("Service"))?;
        let found = services::service_get(&ctx, service).await?.row;
        if found.project_id != project {
            return Err(Error::not_found("Service"));
        }
        let query = Form::parse(parts.uri.query().unwrap_or_default().as_bytes())?;
        let rows = match query.get("id") {
            Some(id) => vec![one_deployment(&ctx, id, service).await?],
            None => latest(&ctx, service, query.get("environmentId")).await?,
        };
        let mut body = Html::default();
        for row in &rows {
            body.0.push_str(&describe(row).0);
        }
        if rows.is_empty() {
            body.0.push_str("<p>Nothing was deployed yet.</p>");
        }
        Ok(Page::new(&found.name, body).answer(StatusCode::OK))
    };
    shown.await.unwrap_or_else(|error: Error| Page::refuse(&error, &arrival.request_id))
}

async fn signed_in(state: &ApiState, arrival: &Arrival, parts: &axum::http::request::Parts) -> Result<Option<OpCtx>, Error> {
    let ctx = context(state, Surface::Railway, arrival, parts).await?;
    Ok((!matches!(ctx.principal, Principal::Anonymous)).then_some(ctx))
}

async fn one_deployment(ctx: &OpCtx, id: &str, service: ServiceId) -> Result<Deployment, Error> {
    let not_found = || Error::not_found("Deployment");
    let id: DeploymentId = id.parse().map_err(|_| not_found())?;
    let row = deployment::deployment_get(ctx, id).await?.row;
    if row.service_id == service { Ok(row) } else { Err(not_found()) }
}

async fn latest(ctx: &OpCtx, service: ServiceId, environment: Option<&str>) -> Result<Vec<Deployment>, Error> {
    let environment: Option<EnvironmentId> =
        environment.map(str::parse).transpose().map_err(|_| Error::new(Code::NotFound, "Environment not found"))?;
    let filter = DeploymentFilter { service: Some(service), environment, ..DeploymentFilter::default() };
    let page = deployment::deployments(ctx, filter, &PageRequest { first: Some(5), ..PageRequest::default() }).await?;
    Ok(page.items.into_iter().map(|opened| opened.row).collect())
}

fn describe(row: &Deployment) -> Html {
    let mut out = format!(
        "<dl><dt>Deployment</dt><dd><code>{}</code></dd><dt>Status</dt><dd>{}</dd><dt>Created</dt><dd>{}</dd>",
        row.id,
        row.status.as_str(),
        row.created_at
    );
    for (name, value) in [("Reason", &row.status_reason), ("Message", &row.message)] {
        if let Some(value) = value {
            out.push_str(&format!("<dt>{name}</dt><dd>{}</dd>", escape(value)));
        }
    }
    out.push_str("</dl>");
    Html(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_of_users_is_never_markup() {
        assert_eq!(escape("<script>\"&'").0, "&lt;script&gt;&quot;&amp;&#39;");
    }
}
