//! Files of an account: what it uploads and what its runs make (`contracts/flow.md` 1.9). They are read by signed addresses.

use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use domain::page::Page;
use domain::workflow::catalogue::FETCH_FILE;
use domain::workflow::run::{FlowFile, Made, RunSource, RunStatus};
use domain::workflow::sniff::content_type;
use domain::{Code, Permission, Tenant, Timestamp, UploadId, WorkflowId};
use hmac::{Hmac, KeyInit, Mac};
use jiff::SignedDuration;
use sha2::Sha256;
use store::{Change, StoreError, WorkflowChange};

use crate::run::{fresh_secret, node_run_start, run_get};
use crate::workflow::{home, workflow_get};
use crate::{Error, OpCtx, Ops};

/// How long a file is kept.
const KEPT: SignedDuration = SignedDuration::from_hours(24 * 30);

/// A file and where it can be read until it is deleted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileView {
    /// The file.
    pub file: FlowFile,
    /// Its signed address.
    pub url: String,
}

/// Keeps a file that somebody has uploaded.
///
/// # Errors
/// Too large, empty, or a role below member.
pub async fn file_add(ctx: &OpCtx, filename: &str, bytes: &[u8]) -> Result<FileView, Error> {
    let tenant = home(ctx, Permission::Write)?;
    system_file_keep(&ctx.ops, tenant, None, filename, bytes, ctx.now).await
}

/// How long an upload by address is waited for.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(25);
/// Between two looks, where the engine is another process and rings no bell here.
const LOOK: std::time::Duration = std::time::Duration::from_millis(250);

/// Keeps a copy of the file at an address. The engine fetches it, as a run of [`FETCH_FILE`]: only its client may ask what users name.
///
/// # Errors
/// What the run failed of, a role below member, or a timeout: the copy may then still come.
pub async fn file_fetch(ctx: &OpCtx, url: &str, filename: Option<&str>) -> Result<FileView, Error> {
    let given = [("url", Some(url)), ("filename", filename)];
    let input = given.into_iter().filter_map(|(name, text)| Some((name.to_owned(), text?.into()))).collect();
    let mut rings = ctx.ops.signals.runs();
    let id = node_run_start(ctx, FETCH_FILE, None, input, None, RunSource::Api).await?;
    let over = async {
        loop {
            rings.mark_unchanged();
            let view = run_get(ctx, id, true).await?;
            if view.run.status.is_over() {
                return Ok::<_, Error>(view);
            }
            // Either will do.
            let _ = tokio::time::timeout(LOOK, rings.changed()).await;
        }
    };
    let late = || Err(Error::new(Code::Timeout, "The file is still being fetched: look for it in GET /v1/media-library"));
    let view = tokio::time::timeout(PATIENCE, over).await.unwrap_or_else(|_| late())?;
    if view.run.status != RunStatus::Completed {
        let why = view.nodes.into_iter().find_map(|node| node.error).or(view.run.error).unwrap_or_else(|| "it was stopped".to_owned());
        return Err(Error::bad_input(format!("The file could not be fetched: {why}")));
    }
    let told = view.nodes.iter().find_map(|node| node.output.as_ref()?.pointer("/result/fileId")?.as_str());
    let file = told.and_then(|text| uuid::Uuid::parse_str(text).ok()).map(UploadId).ok_or_else(|| Error::not_found("File"))?;
    let tenant = home(ctx, Permission::Write)?;
    let file = ctx.ops.store.flow_file(file).await?.and_then(|sealed| sealed.open(tenant)).ok_or_else(|| Error::not_found("File"))?;
    let secret = ctx.ops.store.flow_secret(tenant, &fresh_secret()).await?;
    Ok(FileView { url: address(&ctx.ops, &secret, &file), file })
}

/// Keeps a file of a workspace, from an upload or from a node.
///
/// # Errors
/// Too large, empty, no room among the account's files, or the disk is full.
pub async fn system_file_keep(
    ops: &Ops,
    tenant: Tenant,
    made: Option<Made>,
    filename: &str,
    bytes: &[u8],
    now: Timestamp,
) -> Result<FileView, Error> {
    let most = ops.settings.flow.max_file_bytes;
    if bytes.len() as u64 > most {
        return Err(Error::new(Code::TooLarge, format!("A file has at most {most} bytes: make it smaller")));
    }
    let filename: String = filename.chars().filter(|c| !c.is_control() && !matches!(c, '/' | '\\' | '"')).take(200).collect();
    if bytes.is_empty() || filename.is_empty() {
        return Err(Error::bad_input("A file needs a name and a content"));
    }
    let file = FlowFile {
        id: UploadId::generate(),
        workspace_id: tenant.workspace(),
        made,
        content_type: content_type(bytes).to_owned(),
        filename,
        bytes: i64::try_from(bytes.len()).unwrap_or(i64::MAX),
        created_at: now,
        expires_at: now + KEPT,
    };
    let path = file_path(ops, file.id);
    write(&path, bytes).await.map_err(|error| Error::internal(format!("a file at {}", path.display()), error))?;
    let all = ops.settings.flow.max_workspace_bytes;
    let insert = WorkflowChange::FileInsert { file: file.clone(), most: i64::try_from(all).unwrap_or(i64::MAX) };
    let kept = ops.store.commit(tenant, vec![Change::Workflow(insert)]).await;
    if let Err(error) = kept {
        // Nobody knows of it; a leftover costs its size until the folder is cleaned.
        let _ = tokio::fs::remove_file(&path).await;
        let no_room = || Error::new(Code::PlanLimit, format!("An account's files take at most {all} bytes: wait until older ones expire"));
        return Err(if matches!(error, StoreError::Stale) { no_room() } else { error.into() });
    }
    let secret = ops.store.flow_secret(tenant, &fresh_secret()).await?;
    Ok(FileView { url: address(ops, &secret, &file), file })
}

/// Where a file lies on disk.
#[must_use]
pub fn file_path(ops: &Ops, id: UploadId) -> PathBuf {
    ops.settings.flow.files.join(id.0.to_string())
}

async fn write(path: &Path, bytes: &[u8]) -> std::io::Result<()> {
    if let Some(folder) = path.parent() {
        tokio::fs::create_dir_all(folder).await?;
    }
    tokio::fs::write(path, bytes).await
}

fn address(ops: &Ops, secret: &str, file: &FlowFile) -> String {
    let expires = file.expires_at.as_second();
    let base = ops.settings.dashboard_url.trim_end_matches('/');
    format!("{base}/api/v1/media/{}?expires={expires}&signature={}", file.id.0, sign(secret, file.id, expires))
}

fn mac(secret: &str, id: UploadId, expires: i64) -> Hmac<Sha256> {
    let mut mac = <Hmac<Sha256> as KeyInit>::new_from_slice(secret.as_bytes()).unwrap_or_else(|_| unreachable!("any length is a key"));
    mac.update(format!("media.{}.{expires}", id.0).as_bytes());
    mac
}

fn sign(secret: &str, id: UploadId, expires: i64) -> String {
    URL_SAFE_NO_PAD.encode(mac(secret, id, expires).finalize().into_bytes())
}

/// The file behind a signed address.
///
/// # Errors
/// Not found, also for a signature that is wrong or has expired.
pub async fn system_file_by_address(ops: &Ops, id: UploadId, expires: i64, signature: &str, now: Timestamp) -> Result<FlowFile, Error> {
    let absent = || Error::not_found("File");
    let sealed = ops.store.flow_file(id).await?.ok_or_else(absent)?;
    // The signature is the permission, and tells whose file it is.
    let tenant = Tenant::system(sealed.workspace());
    let secret = ops.store.flow_secret(tenant, &fresh_secret()).await?;
    let given = URL_SAFE_NO_PAD.decode(signature).map_err(|_| absent())?;
    mac(&secret, id, expires).verify_slice(&given).map_err(|_| absent())?;
    let file = sealed.open(tenant).ok_or_else(absent)?;
    if expires < now.as_second() || file.expires_at < now { Err(absent()) } else { Ok(file) }
}

/// The workspace's own file that a signed address of this server names, so that nobody has to ask the network for it.
pub async fn system_file_of_address(ops: &Ops, tenant: Tenant, address: &str, now: Timestamp) -> Option<FlowFile> {
    let rest = address.strip_prefix(ops.settings.dashboard_url.trim_end_matches('/'))?.strip_prefix("/api/v1/media/")?;
    let (id, query) = rest.split_once('?')?;
    let id = UploadId(uuid::Uuid::parse_str(id).ok()?);
    let value = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let file = system_file_by_address(ops, id, value("expires")?.parse().ok()?, value("signature")?, now).await.ok()?;
    (file.workspace_id == tenant.workspace()).then_some(file)
}

/// Files of the account, or those that a workflow's runs have made, newest first.
///
/// # Errors
/// A bad cursor, not found, or unauthenticated.
pub async fn files(ctx: &OpCtx, workflow: Option<WorkflowId>, first: u32, after: Option<String>) -> Result<Page<FileView>, Error> {
    if let Some(workflow) = workflow {
        workflow_get(ctx, workflow).await?;
    }
    let tenant = home(ctx, Permission::Read)?;
    let found = ctx.ops.store.flow_files(tenant, workflow, first, after).await?;
    let secret = ctx.ops.store.flow_secret(tenant, &fresh_secret()).await?;
    let items = found.items.into_iter().map(|file| FileView { url: address(&ctx.ops, &secret, &file), file }).collect();
    Ok(Page { items, has_next: found.has_next, has_previous: found.has_previous })
}
