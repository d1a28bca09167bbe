//! Uploads and what runs have made (`contracts/flow.md` 1.9).

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::{Timestamp, UploadId};
use ops::file::FileView;
use ops::{Error, OpCtx};
use serde::{Deserialize, Serialize};
use tokio_util::io::ReaderStream;
use utoipa::{IntoParams, ToSchema};

use super::answer::{Answer, Caller, Path, Query, Refused, ok, read};
use super::runs::{limit, time};
use super::workflows::workflow_id;
use crate::http::Shared;

/// A file. Its content comes in one of `base64`, `data_uri` and `url`.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Upload {
    /// What people call it. Needed with `base64` and `data_uri`; with `url` its last part when absent.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 200)]
    filename: Option<String>,
    /// Ignored: the first bytes say what it is.
    #[serde(default, rename = "contentType")]
    _content_type: Option<String>,
    #[serde(default)]
    base64: Option<String>,
    /// `data:…;base64,…`
    #[serde(default)]
    data_uri: Option<String>,
    /// An http or https address that the file is fetched from.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 8000)]
    url: Option<String>,
}

/// A file that is kept.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct FileShape {
    id: String,
    /// Signed: whoever has it can read the file until it is deleted.
    pub(crate) url: String,
    filename: String,
    /// As its first bytes say.
    content_type: String,
    /// In bytes.
    size: i64,
    created_at: String,
    expires_at: String,
}

pub(crate) fn shape(view: FileView) -> FileShape {
    let FileView { file, url } = view;
    FileShape {
        id: file.id.0.to_string(),
        url,
        filename: file.filename,
        content_type: file.content_type,
        size: file.bytes,
        created_at: time(file.created_at),
        expires_at: time(file.expires_at),
    }
}

/// Keeps a file for thirty days.
#[utoipa::path(post, path = "/v1/uploads", operation_id = "upload", tag = "files", request_body = Upload, responses((status = 200, body = FileShape)))]
pub(crate) async fn upload(Caller(ctx): Caller, request: Request) -> Answer<FileShape> {
    let (parts, body) = request.into_parts();
    let most = usize::try_from(ctx.ops.settings.flow.max_file_bytes).unwrap_or(usize::MAX);
    let body: Upload = read(&parts, body, most.saturating_add(most / 3).saturating_add(64 << 10)).await?;
    ok(shape(keep(&ctx, body).await?))
}

pub(crate) async fn keep(ctx: &OpCtx, upload: Upload) -> Result<FileView, Error> {
    let Upload { filename, base64, data_uri, url, .. } = upload;
    let encoded = match (base64, data_uri, url) {
        (None, None, Some(url)) => return ops::file::file_fetch(ctx, &url, filename.as_deref()).await,
        (Some(text), None, None) => text,
        (None, Some(uri), None) => {
            let (_, text) =
                uri.split_once(";base64,").ok_or_else(|| Error::bad_input("data_uri: data:<type>;base64,<content> is needed"))?;
            text.to_owned()
        }
        _ => return Err(Error::bad_input("Give the content in exactly one of base64, data_uri and url")),
    };
    let filename = filename.ok_or_else(|| Error::bad_input("filename: required, and nothing was given"))?;
    let bytes = STANDARD.decode(encoded.trim()).map_err(|error| Error::bad_input(format!("The content is no base64: {error}")))?;
    ops::file::file_add(ctx, &filename, &bytes).await
}

/// A page of a list.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Paging {
    /// At most so many, 20 when absent.
    #[serde(default)]
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    /// The `nextCursor` of the page before.
    #[serde(default)]
    cursor: Option<String>,
}

/// Files of the account, newest first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Library {
    items: Vec<FileShape>,
    /// For the next page; null on the last.
    next_cursor: Option<String>,
}

/// Files of the account, newest first.
#[utoipa::path(get, path = "/v1/media-library", operation_id = "listMedia", tag = "files", params(Paging), responses((status = 200, body = Library)))]
pub(crate) async fn library(Caller(ctx): Caller, Query(paging): Query<Paging>) -> Answer<Library> {
    let found = ops::file::files(&ctx, None, limit(paging.limit)?, paging.cursor).await?;
    let next_cursor = found.items.last().filter(|_| found.has_next).map(|view| view.file.id.0.to_string());
    ok(Library { items: found.items.into_iter().map(shape).collect(), next_cursor })
}

/// A file that a run has made.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Medium {
    url: String,
    /// `image`, `video`, `audio` or `file`.
    #[serde(rename = "type")]
    kind: &'static str,
    node_type: String,
    node_label: String,
    node_id: String,
    run_id: String,
    created_at: String,
}

/// Files that a workflow's runs have made, newest first.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Media {
    items: Vec<Medium>,
    /// For the next page; null on the last.
    next_cursor: Option<String>,
}

/// Files that a workflow's runs have made, newest first.
#[utoipa::path(get, path = "/v1/workflows/{workflowId}/media", operation_id = "listWorkflowMedia", tag = "files", params(("workflowId" = String, Path), Paging), responses((status = 200, body = Media)))]
pub(crate) async fn media(Caller(ctx): Caller, Path(id): Path<String>, Query(paging): Query<Paging>) -> Answer<Media> {
    let found = ops::file::files(&ctx, Some(workflow_id(&id)?), limit(paging.limit)?, paging.cursor).await?;
    let next_cursor = found.items.last().filter(|_| found.has_next).map(|view| view.file.id.0.to_string());
    let items = found.items.into_iter().filter_map(|FileView { file, url }| {
        let made = file.made?;
        let family = file.content_type.split('/').next().unwrap_or_default();
        Some(Medium {
            url,
            kind: ["image", "video", "audio"].into_iter().find(|known| *known == family).unwrap_or("file"),
            node_type: made.node_type,
            node_label: made.node_label,
            node_id: made.node_id,
            run_id: made.run.0.to_string(),
            created_at: time(file.created_at),
        })
    });
    ok(Media { items: items.collect(), next_cursor })
}

/// What a signed address says besides its file.
#[derive(Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Signed {
    /// Until when the address leads to the file, in seconds since 1970.
    expires: i64,
    /// Of the file's id and that time.
    signature: String,
}

/// A file by its signed address. The signature is the permission.
#[utoipa::path(get, path = "/v1/media/{file}", operation_id = "getMedia", tag = "files", security(()), params(("file" = String, Path), Signed), responses((status = 200, description = "The file's bytes, under its own type", content_type = "*/*", body = String)))]
pub(crate) async fn content(
    State(state): State<Shared>,
    Path(id): Path<String>,
    Query(signed): Query<Signed>,
) -> Result<Response, Refused> {
    let absent = || Error::not_found("File");
    let id = uuid::Uuid::parse_str(&id).map(UploadId).map_err(|_| absent())?;
    let file = ops::file::system_file_by_address(&state.ops, id, signed.expires, &signed.signature, Timestamp::now()).await?;
    let opened = tokio::fs::File::open(ops::file::file_path(&state.ops, id)).await.map_err(|_| absent())?;
    let mut response = Response::new(Body::from_stream(ReaderStream::new(opened)));
    let disposition = format!("inline; filename=\"{}\"", file.filename.replace(|c: char| !c.is_ascii_graphic() && c != ' ', "_"));
    let policy = "default-src 'none'; sandbox".to_owned();
    let all: [(HeaderName, String); 5] = [
        (CONTENT_TYPE, file.content_type),
        (CONTENT_LENGTH, file.bytes.to_string()),
        (CONTENT_DISPOSITION, disposition),
        // What a user has uploaded is never a page of this server.
        (CONTENT_SECURITY_POLICY, policy),
        (CACHE_CONTROL, "private, max-age=3600".to_owned()),
    ];
    for (name, value) in all {
        if let Ok(value) = HeaderValue::try_from(value) {
            response.headers_mut().insert(name, value);
        }
    }
    Ok(response)
}
