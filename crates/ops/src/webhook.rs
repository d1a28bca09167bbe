//! Trying a webhook out: one message, sent at once and not again, and what its receiver answers.
//!
//! The engine has the way to addresses that people chose, so it sends the message; what it answers is nobody's state.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use domain::{Code, Permission, Place, Timestamp, WorkspaceId};
use jiff::SignedDuration;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use url::Url;

use crate::notification_rule::check_url;
use crate::{Error, OpCtx, Principal, project};

/// Messages that a workspace may try out in a minute.
const A_MINUTE: usize = 10;
/// The largest message in bytes.
const MAX_PAYLOAD: usize = 64 << 10;
/// Requests that wait for the engine.
const WAITING: usize = 16;

/// Webhooks that are tried out in a process.
#[derive(Default)]
pub struct Webhooks {
    /// Where the engine takes them from, while one runs in this process.
    door: Mutex<Option<mpsc::Sender<WebhookRequest>>>,
    /// When each workspace tried one lately.
    tried: Mutex<HashMap<WorkspaceId, Vec<Timestamp>>>,
}

/// A message that is to be sent once.
pub struct WebhookRequest {
    /// Where to.
    pub url: String,
    /// JSON.
    pub payload: String,
    /// The status of the answer, or in words for the person why there is none.
    pub answered: oneshot::Sender<Result<u16, Error>>,
}

impl Webhooks {
    /// The requests from now on; whoever asked for them before gets no more.
    pub fn requests(&self) -> mpsc::Receiver<WebhookRequest> {
        let (sender, receiver) = mpsc::channel(WAITING);
        *lock(&self.door) = Some(sender);
        receiver
    }

    /// Counts a message of a workspace, unless it has had its share of this minute.
    fn take(&self, workspace: WorkspaceId, now: Timestamp) -> Result<(), Error> {
        let mut tried = lock(&self.tried);
        let recent = |at: &Timestamp| now.duration_since(*at) < SignedDuration::from_mins(1);
        tried.retain(|_, times| times.iter().any(recent));
        let times = tried.entry(workspace).or_default();
        times.retain(recent);
        if times.len() >= A_MINUTE {
            return Err(Error::new(
                Code::RateLimited,
                format!("Rate limit exceeded: {A_MINUTE} webhooks can be tried out in a minute; try again in a minute"),
            ));
        }
        times.push(now);
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is guarded is whole between any two of its methods.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sends a message to an address, once and unsigned, and answers with the status that came back.
///
/// # Errors
/// Not allowed, too many in this minute, a bad address or message, an address that requests from here may not reach, or no answer.
pub async fn webhook_test(ctx: &OpCtx, url: &str, payload: &str) -> Result<u16, Error> {
    let workspace = project::default_workspace(ctx).ok_or_else(|| match ctx.principal {
        Principal::Anonymous => ctx.unauthenticated(),
        _ => Error::not_found("Workspace"),
    })?;
    let tenant = ctx.allow(workspace, Place::Workspace, Permission::Write)?;
    check_url(url)?;
    if payload.len() > MAX_PAYLOAD || serde_json::from_str::<Value>(payload).is_err() {
        return Err(Error::bad_input(format!("the payload of a webhook is JSON of at most {MAX_PAYLOAD} bytes")));
    }
    ctx.ops.webhooks.take(workspace, ctx.now)?;
    let absent =
        || Error::new(Code::Unavailable, "No webhook can be tried out here: this server runs the API alone. Ask one that runs apps");
    let door = lock(&ctx.ops.webhooks.door).clone().ok_or_else(absent)?;
    // Of the address, which may be a secret, only the host is written down.
    let host = Url::parse(url).ok().and_then(|url| url.host_str().map(str::to_owned));
    let activity = ctx.activity(tenant, None, "webhook_test", workspace, json!({"host": host}));
    ctx.commit(tenant, vec![activity]).await?;
    let (answered, answer) = oneshot::channel();
    let request = WebhookRequest { url: url.to_owned(), payload: payload.to_owned(), answered };
    door.send(request).await.map_err(|_| absent())?;
    answer.await.map_err(|_| Error::new(Code::Unavailable, "The server is being restarted: try the webhook again"))?
}
