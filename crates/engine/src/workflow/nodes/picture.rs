//! `crop_image`, `resize_image`: fetched by the guarded client, worked on by a worker, kept as files of the account.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use domain::workflow::run::{Made, Subject};
use domain::{Code, Tenant, Timestamp};
use hyper::Method;
use hyper::body::Bytes;
use hyper::header::HeaderMap;
use serde_json::{Value, json};

use super::image::BYTES;
use super::{Attempt, Failure, http};
use crate::outgoing::Ask;
use crate::workflow::worker::Given;

/// The largest picture in bytes, in and out.
const PICTURE: usize = 20 << 20;

pub(super) async fn work_on(attempt: &Attempt) -> Result<Given, Failure> {
    let url = attempt.input.get("image_url").and_then(Value::as_str).unwrap_or_default();
    let bytes = match url.strip_prefix("data:") {
        Some(data) => {
            let (_, text) = data.split_once(";base64,").ok_or_else(|| Failure::once("image_url: a data: URL needs ;base64,"))?;
            text.to_owned()
        }
        None => STANDARD.encode(fetch(attempt, url).await?),
    };
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

/// Keeps what a node has made as a file of its account, and gives its address.
pub(super) async fn keep(attempt: &Attempt, filename: &str, bytes: &[u8]) -> Result<String, Failure> {
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
    kept.map(|view| view.url).map_err(|error| Failure { repeatable: error.code == Code::Internal, text: error.public })
}

async fn fetch(attempt: &Attempt, url: &str) -> Result<Bytes, Failure> {
    let ops = &attempt.flow.shared.ops;
    if let Some(file) = ops::file::system_file_of_address(ops, Tenant::system(attempt.run.workspace_id), url, Timestamp::now()).await {
        if usize::try_from(file.bytes).is_ok_and(|bytes| bytes > PICTURE) {
            return Err(Failure::once(format!("image_url: a picture has at most {PICTURE} bytes")));
        }
        let path = ops::file::file_path(ops, file.id);
        return tokio::fs::read(path).await.map(Bytes::from).map_err(|error| Failure::again(format!("image_url: {error}")));
    }
    let ask = Ask {
        method: Method::GET,
        url: url.to_owned(),
        headers: HeaderMap::new(),
        body: Bytes::new(),
        timeout: std::time::Duration::from_secs(60),
        max_bytes: PICTURE,
        redirects: 5,
    };
    let got = http::ask(attempt, ask).await?;
    if got.status.is_success() {
        return Ok(got.body);
    }
    Err(Failure { text: format!("image_url: the answer was {}", got.status.as_u16()), repeatable: got.status.is_server_error() })
}
