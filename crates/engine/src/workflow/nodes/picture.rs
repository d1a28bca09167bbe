//! `crop_image`, `resize_image`: fetched by the guarded client, worked on by a worker, kept as files of the account. `fetch_file`: the same
//! without any work.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::workflow::run::{Made, Subject};
use domain::{Tenant, Timestamp};
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use ops::file::FileView;
use serde_json::{Value, json};

use super::image::BYTES;
use super::{Attempt, Failure, http};
use crate::outgoing::Ask;
use crate::workflow::worker::Given;

/// The largest picture in bytes, in and out.
const PICTURE: usize = 20 << 20;

pub(super) async fn work_on(attempt: &Attempt) -> Result<Given, Failure> {
    let url = attempt.input.get("image_url").and_then(Value::as_str).unwrap_or_default();
    let bytes = STANDARD.encode(fetch(attempt, "image_url", url, PICTURE).await?);
    let mut input = attempt.input.clone();
    input.shift_remove("image_url");
    input.insert(BYTES.to_owned(), bytes.into());
    let mut given = attempt.flow.workers.perform(attempt.run.workspace_id, &attempt.kind, &input).await?;
    let made = given.output.shift_remove(BYTES);
    let kind = given.output.shift_remove("format");
    let (Some(Value::String(made)), Some(Value::String(kind))) = (made, kind) else { return Err(Failure::once("no picture came back")) };
    let bytes = STANDARD.decode(made).map_err(|error| Failure::once(error.to_string()))?;
    let extension = kind.rsplit('/').next().unwrap_or("png");
    let url = keep(attempt, &format!("{}.{extension}", attempt.kind), &bytes).await?;
    given.output.insert("image_url".to_owned(), url.into());
    given.output.insert("creditUsed".to_owned(), json!(attempt.flow.shared.ops.settings.flow.price(&attempt.kind)));
    Ok(given)
}

/// `fetch_file`: keeps a copy of what is at an address.
pub(super) async fn copy(attempt: &Attempt) -> Result<Given, Failure> {
    let text = |name: &str| attempt.input.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let url = text("url").unwrap_or_default();
    let most = usize::try_from(attempt.flow.shared.ops.settings.flow.max_file_bytes).unwrap_or(usize::MAX);
    let bytes = fetch(attempt, "url", url, most).await?;
    let last = || url.split(['?', '#']).next()?.rsplit('/').next().filter(|name| name.contains('.') && !url.starts_with("data:"));
    let view = keep_file(attempt, text("filename").or_else(last).unwrap_or("file"), &bytes).await?;
    let file = &view.file;
    let told = json!({"fileId": file.id.0.to_string(), "filename": file.filename, "contentType": file.content_type, "size": file.bytes});
    let output = [("file".to_owned(), view.url.into()), ("result".to_owned(), told)];
    Ok(Given { output: output.into_iter().collect(), logs: vec![] })
}

/// Keeps what a node has made as a file of its account, and gives its address.
pub(super) async fn keep(attempt: &Attempt, filename: &str, bytes: &[u8]) -> Result<String, Failure> {
    keep_file(attempt, filename, bytes).await.map(|view| view.url)
}

async fn keep_file(attempt: &Attempt, filename: &str, bytes: &[u8]) -> Result<FileView, Failure> {
    let run = &attempt.run;
    let workflow = if let Subject::Workflow { id, .. } = run.subject { Some(id) } else { None };
    let made = Made {
        workflow,
        run: run.id,
        node_id: attempt.node_id.clone(),
        node_type: attempt.kind.clone(),
        node_label: attempt.label.clone(),
    };
    let ops = &attempt.flow.shared.ops;
    let kept = ops::file::system_file_keep(ops, Tenant::system(run.workspace_id), Some(made), filename, bytes, Timestamp::now()).await;
    kept.map_err(|error| Failure { repeatable: error.is_passing(), text: error.public })
}

/// The file at an address: the account's own from the disk, any other through the guarded client.
pub(super) async fn fetch(attempt: &Attempt, input: &str, url: &str, most: usize) -> Result<Bytes, Failure> {
    if let Some(data) = url.strip_prefix("data:") {
        let (_, text) = data.split_once(";base64,").ok_or_else(|| Failure::once(format!("{input}: a data: URL needs ;base64,")))?;
        let bytes = STANDARD.decode(text.trim()).map_err(|error| Failure::once(format!("{input}: {error}")))?;
        return Ok(bytes.into());
    }
    let ops = &attempt.flow.shared.ops;
    if let Some(file) = ops::file::system_file_of_address(ops, Tenant::system(attempt.run.workspace_id), url, Timestamp::now()).await {
        if usize::try_from(file.bytes).is_ok_and(|bytes| bytes > most) {
            return Err(Failure::once(format!("{input}: a file has at most {most} bytes here")));
        }
        let path = ops::file::file_path(ops, file.id);
        return tokio::fs::read(path).await.map(Bytes::from).map_err(|error| Failure::again(format!("{input}: {error}")));
    }
    let ask = Ask {
        method: Method::GET,
        url: url.to_owned(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        timeout: std::time::Duration::from_secs(60),
        max_bytes: most,
        redirects: 5,
    };
    let got = http::ask(attempt, ask).await?;
    if got.status.is_success() {
        return Ok(got.body);
    }
    Err(Failure { text: format!("{input}: the answer was {}", got.status.as_u16()), repeatable: got.status.is_server_error() })
}
