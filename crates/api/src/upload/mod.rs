//! `railway up`: a source archive comes in, is kept by its hash, and becomes a deployment (`contracts/railway.md` 1.6).

mod spool;

use std::path::Path as FilePath;
use std::sync::Arc;

use axum::Extension;
use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::header::CONNECTION;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use domain::{Code, EnvironmentId, ProjectId, ServiceId};
use ops::auth::Surface;
use ops::deployment::{Blob, Deployed, Upload, deployment_create, deployment_upload_check};
use ops::{Error, OpCtx, Settings, domain_name};
use serde_json::json;
use tokio::sync::Mutex;

pub(crate) use self::spool::sweep;
use self::spool::{Received, receive};
use crate::http::{ApiState, Arrival, Form, Named, Shared, announced, context, json, linger, once_read, refuse, text};

/// One at a time between a blob's arrival under its name and the deployment that uses it: the same archive may come twice at once, and
/// the one that fails must not take the other's blob away. By the first byte of the hash.
pub(crate) struct Turns([Mutex<()>; 256]);

impl Default for Turns {
    fn default() -> Self {
        Self(std::array::from_fn(|_| Mutex::default()))
    }
}

/// Where an upload is to go.
#[derive(Clone, Debug)]
struct Target {
    project: ProjectId,
    environment: EnvironmentId,
    service: Option<ServiceId>,
    message: Option<String>,
}

/// `POST /project/{project}/environment/{environment}/up?serviceId=&message=`
pub(crate) async fn up(
    State(state): State<Shared>,
    Extension(arrival): Extension<Arrival>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    let (parts, mut body) = request.into_parts();
    match take(&state, &arrival, &parts, path, &mut body).await {
        Ok(response) => response,
        Err(error) => {
            // The client may still be sending, and must be able to read why it should stop.
            linger(&parts.headers, body);
            let mut response = encode(&error, &arrival.request_id);
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            response
        }
    }
}

/// What the client prints: the message of a 400, the text of a 413, nothing but the status of anything else.
fn encode(error: &Error, request_id: &str) -> Response {
    match error.code {
        Code::TooLarge => text(StatusCode::PAYLOAD_TOO_LARGE, &error.public),
        Code::Unauthenticated | Code::RateLimited | Code::Timeout | Code::Unavailable | Code::Internal => refuse(error, request_id),
        _ => {
            let mut response = refuse(error, request_id);
            *response.status_mut() = StatusCode::BAD_REQUEST;
            response
        }
    }
}

async fn take(
    state: &Shared,
    arrival: &Arrival,
    parts: &Parts,
    path: Result<Path<(String, String)>, PathRejection>,
    body: &mut Body,
) -> Result<Response, Error> {
    let ctx = context(state, Surface::Railway, arrival, parts).await?;
    let target = target(parts, path)?;
    deployment_upload_check(&ctx, target.project, target.environment, target.service).await?;
    let limit = ctx.ops.settings.max_upload_bytes;
    if announced(&parts.headers).is_some_and(|length| length > limit) {
        return Err(spool::too_large(limit));
    }
    let received = receive(body, &ctx.ops.settings.blobs, limit).await?;
    // A client that goes away now has sent everything: what follows is finished without it, or undone, but never dropped half way.
    let (state, named) = (Shared::clone(state), Named::of(parts));
    let finished = tokio::spawn(async move {
        let hash = received.sha256.clone();
        let run = async {
            let deployed = deploy(&state, &ctx, target, received).await?;
            Ok(json(StatusCode::OK, &answer(&ctx.ops.settings, &deployed)))
        };
        once_read(&ctx, named, &hash, run).await
    });
    finished.await.unwrap_or_else(|error| Err(Error::internal("an upload's last step", error)))
}

fn target(parts: &Parts, path: Result<Path<(String, String)>, PathRejection>) -> Result<Target, Error> {
    let Ok(Path((project, environment))) = path else { return Err(Error::not_found("Project")) };
    let query = Form::parse(parts.uri.query().unwrap_or_default().as_bytes())?;
    let service = query.get("serviceId").map(str::parse).transpose().map_err(|_| Error::not_found("Service"))?;
    Ok(Target {
        project: project.parse().map_err(|_| Error::not_found("Project"))?,
        environment: environment.parse().map_err(|_| Error::not_found("Environment"))?,
        service,
        message: query.get("message").map(|text| text.chars().take(1000).collect()),
    })
}

async fn deploy(state: &ApiState, ctx: &OpCtx, target: Target, received: Received) -> Result<Deployed, Error> {
    let Received { file, sha256, bytes } = received;
    let turn = u8::from_str_radix(&sha256[..2], 16).unwrap_or_default();
    let turns: Arc<Turns> = state.uploads.clone();
    let _mine = turns.0[usize::from(turn)].lock().await;
    let path = ctx.ops.settings.blobs.join(&sha256);
    let known = path.exists();
    let target_path = path.clone();
    let kept = tokio::task::spawn_blocking(move || spool::keep(file, &target_path)).await;
    kept.unwrap_or_else(|error| Err(Error::internal("keeping a blob", error)))?;
    let upload = Upload {
        project: target.project,
        environment: target.environment,
        service: target.service,
        blob: Blob { sha256, bytes },
        message: target.message,
    };
    let created = deployment_create(ctx, upload).await;
    if created.is_err() && !known {
        forget(&path, &ctx.request_id);
    }
    Ok(created?.row)
}

/// Removes a blob that no deployment came to use.
fn forget(path: &FilePath, request_id: &str) {
    if let Err(error) = std::fs::remove_file(path) {
        tracing::warn!(request_id, %error, "the blob of a refused upload could not be removed");
    }
}

/// The four strings that the client insists on.
fn answer(settings: &Settings, deployed: &Deployed) -> serde_json::Value {
    let row = &deployed.deployment;
    let page = format!("{}/project/{}/service/{}", settings.dashboard_url.trim_end_matches('/'), row.project_id, row.service_id);
    let logs_url = format!("{page}?id={}&environmentId={}", row.id, row.environment_id);
    // The client puts `https://` in front of a bare host, which is wrong where the edge has a port of its own.
    let domain = deployed.domain.as_ref().map(|domain| match settings.edge_port {
        None => domain.domain.clone(),
        Some(_) => domain_name::public_url(settings, domain),
    });
    let url = deployed.domain.as_ref().map_or_else(|| logs_url.clone(), |domain| domain_name::public_url(settings, domain));
    json!({"deploymentId": row.id, "url": url, "logsUrl": logs_url, "deploymentDomain": domain.unwrap_or_default()})
}
