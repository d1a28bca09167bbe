//! The protocol graphql-transport-ws over one socket (`contracts/railway.md` 1.5).
//!
//! Credentials came with the handshake, so `connection_init` carries nothing. A key that is revoked or expires ends its sockets within
//! [`PERIOD`].

use std::collections::HashMap;
use std::pin::Pin;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use domain::Timestamp;
use domain::account::Membership;
use domain::key::KeyKind;
use futures::{Stream, StreamExt};
use ops::limit::refusal;
use ops::{OpCtx, Principal, Via};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};
use tokio::time::Instant;
use tokio_stream::StreamMap;

use super::{Engine, GraphqlRequest, Opened, Started, answer_event};
use crate::railway::Event;

/// Time for `connection_init` to come.
const INIT: Duration = Duration::from_secs(10);
/// How often the peer is pinged and the key looked at.
const PERIOD: Duration = Duration::from_secs(30);
/// Pings that may stay unanswered.
const MISSED: u32 = 3;
/// Operations at a time on one socket.
const MAX_OPERATIONS: usize = 32;
/// The largest message that is looked at.
const MAX_MESSAGE: usize = 1 << 20;

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
enum FromClient {
    ConnectionInit,
    Ping { payload: Option<Json> },
    Pong,
    Subscribe { id: String, payload: GraphqlRequest },
    Complete { id: String },
}

/// Why the socket is closed by us, see <https://github.com/enisdenjo/graphql-ws/blob/master/PROTOCOL.md>.
#[derive(Clone, Copy)]
enum Close {
    Invalid,
    Unauthorized,
    Forbidden,
    InitTimeout,
    DuplicateInit,
    DuplicateId,
}

impl Close {
    fn frame(self, detail: &str) -> Message {
        let (code, reason) = match self {
            Self::Invalid => (4400, "Invalid message received"),
            Self::Unauthorized => (4401, "Unauthorized"),
            Self::Forbidden => (4403, "Forbidden: the credential no longer works"),
            Self::InitTimeout => (4408, "Connection initialisation timeout"),
            Self::DuplicateInit => (4429, "Too many initialisation requests"),
            Self::DuplicateId => (4409, "Subscriber already exists for "),
        };
        // A close frame carries at most 123 bytes.
        let detail: String = detail.chars().filter(char::is_ascii).take(60).collect();
        Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::from(format!("{reason}{detail}")) }))
    }
}

/// The loop ended: by the client or the network (`None`), or with a frame to send.
type Ended = Option<Message>;

struct Connection {
    engine: Engine,
    ctx: OpCtx,
    socket: WebSocket,
    ready: bool,
    unanswered: u32,
    /// `None` is the end of that operation's events.
    running: StreamMap<String, Pin<Box<dyn Stream<Item = Option<Event>> + Send>>>,
    opened: HashMap<String, Opened>,
    contexts: u64,
}

impl Engine {
    /// Serves one socket until either side ends it. The handshake must have agreed on the protocol `graphql-transport-ws`.
    pub async fn serve_transport_ws(&self, ctx: OpCtx, socket: WebSocket) {
        let mut connection = Connection {
            engine: self.clone(),
            ctx,
            socket,
            ready: false,
            unanswered: 0,
            running: StreamMap::new(),
            opened: HashMap::new(),
            contexts: 0,
        };
        if let Some(frame) = connection.serve().await {
            // The peer may be gone already; then there is nobody to tell.
            let _ = connection.socket.send(frame).await;
        }
    }
}

impl Connection {
    async fn serve(&mut self) -> Ended {
        let deadline = Instant::now() + INIT;
        let mut period = tokio::time::interval_at(Instant::now() + PERIOD, PERIOD);
        loop {
            let step = tokio::select! {
                message = self.socket.recv() => match message {
                    Some(Ok(message)) => self.receive(message).await,
                    Some(Err(_)) | None => Err(None),
                },
                Some((id, event)) = self.running.next(), if !self.running.is_empty() => self.event(&id, event).await,
                () = tokio::time::sleep_until(deadline), if !self.ready => Err(Some(Close::InitTimeout.frame(""))),
                _ = period.tick() => self.keep_alive().await,
            };
            if let Err(ended) = step {
                return ended;
            }
        }
    }

    async fn send(&mut self, message: &Json) -> Result<(), Ended> {
        self.send_text(message.to_string()).await
    }

    async fn send_text(&mut self, text: String) -> Result<(), Ended> {
        self.socket.send(Message::Text(text.into())).await.map_err(|_| None)
    }

    async fn receive(&mut self, message: Message) -> Result<(), Ended> {
        let text = match message {
            Message::Text(text) if text.len() <= MAX_MESSAGE => text,
            Message::Ping(_) => return Ok(()),
            Message::Pong(_) => {
                self.unanswered = 0;
                return Ok(());
            }
            Message::Close(_) => return Err(None),
            Message::Text(_) | Message::Binary(_) => return Err(Some(Close::Invalid.frame(""))),
        };
        let Ok(message) = serde_json::from_str::<FromClient>(&text) else { return Err(Some(Close::Invalid.frame(""))) };
        match message {
            FromClient::ConnectionInit if self.ready => Err(Some(Close::DuplicateInit.frame(""))),
            FromClient::ConnectionInit => {
                self.ready = true;
                self.send(&json!({"type": "connection_ack"})).await
            }
            FromClient::Ping { payload } => {
                let mut pong = json!({"type": "pong"});
                if let Some(payload) = payload {
                    pong["payload"] = payload;
                }
                self.send(&pong).await
            }
            FromClient::Pong => Ok(()),
            FromClient::Subscribe { .. } if !self.ready => Err(Some(Close::Unauthorized.frame(""))),
            FromClient::Subscribe { id, payload } => self.subscribe(id, &payload).await,
            FromClient::Complete { id } => {
                self.running.remove(&id);
                self.opened.remove(&id);
                Ok(())
            }
        }
    }

    /// The circumstances of the next operation or event: as the handshake's, now, under a request id of its own.
    fn context(&mut self) -> OpCtx {
        self.contexts += 1;
        OpCtx { request_id: format!("{}-{}", self.ctx.request_id, self.contexts), now: Timestamp::now(), ..self.ctx.clone() }
    }

    async fn subscribe(&mut self, id: String, request: &GraphqlRequest) -> Result<(), Ended> {
        if self.opened.contains_key(&id) {
            return Err(Some(Close::DuplicateId.frame(&id)));
        }
        let ctx = self.context();
        let request_id = ctx.request_id.clone();
        if self.opened.len() >= MAX_OPERATIONS {
            let text = format!("This socket runs {MAX_OPERATIONS} operations already: complete one, or open another socket");
            let errors = super::Rejection::too_complex(text).errors(&request_id);
            return self.send(&json!({"id": id, "type": "error", "payload": errors})).await;
        }
        // The handshake was one request; each operation is another.
        match ctx.ops.limits.take(&ctx.ops.store, &ctx.principal, ctx.now).await {
            Ok(Some(standing)) if standing.refused => return self.refuse(&id, &refusal(&standing), &request_id).await,
            Ok(_) => {}
            Err(error) => return self.refuse(&id, &error, &request_id).await,
        }
        match self.engine.start(ctx, request).await {
            Ok(Started::Answered(body)) => {
                self.next(&id, body).await?;
                self.send(&json!({"id": id, "type": "complete"})).await
            }
            Ok(Started::Opened(opened, events)) => {
                self.running.insert(id.clone(), events.map(Some).chain(futures::stream::once(async { None })).boxed());
                self.opened.insert(id, opened);
                Ok(())
            }
            Err(rejection) => self.send(&json!({"id": id, "type": "error", "payload": rejection.errors(&request_id)})).await,
        }
    }

    async fn refuse(&mut self, id: &str, error: &ops::Error, request_id: &str) -> Result<(), Ended> {
        error.log(request_id);
        let errors = super::Rejection::one(error.code, error.public.clone()).errors(request_id);
        self.send(&json!({"id": id, "type": "error", "payload": errors})).await
    }

    async fn next(&mut self, id: &str, body: Vec<u8>) -> Result<(), Ended> {
        #[derive(serde::Serialize)]
        struct Next<'a> {
            id: &'a str,
            r#type: &'a str,
            payload: Box<RawValue>,
        }
        let text = String::from_utf8(body).ok().and_then(|text| RawValue::from_string(text).ok());
        let Some(payload) = text else { return Ok(()) };
        match serde_json::to_string(&Next { id, r#type: "next", payload }) {
            Ok(text) => self.send_text(text).await,
            Err(_) => Ok(()),
        }
    }

    async fn event(&mut self, id: &str, event: Option<Event>) -> Result<(), Ended> {
        let Some(event) = event else {
            self.running.remove(id);
            self.opened.remove(id);
            return self.send(&json!({"id": id, "type": "complete"})).await;
        };
        let ctx = self.context();
        let Some(opened) = self.opened.get(id) else { return Ok(()) };
        let body = answer_event(ctx, opened, event).await;
        self.next(id, body).await
    }

    async fn keep_alive(&mut self) -> Result<(), Ended> {
        if self.unanswered >= MISSED {
            return Err(None);
        }
        if !still_valid(&self.ctx).await {
            return Err(Some(Close::Forbidden.frame("")));
        }
        self.unanswered += 1;
        self.socket.send(Message::Ping(axum::body::Bytes::new())).await.map_err(|_| None)
    }
}

/// Whether nobody was put out of a workspace or has another role there. Another name, plan or workspace takes nothing away.
fn reach_as_before(before: &[Membership], now: &[Membership]) -> bool {
    let same = |one: &Membership| now.iter().any(|other| other.workspace.id == one.workspace.id && other.role == one.role);
    before.iter().all(same)
}

/// Whether the credential of the handshake still opens what it opened.
pub(crate) async fn still_valid(ctx: &OpCtx) -> bool {
    let key = match &ctx.principal {
        Principal::Anonymous | Principal::System(_) => return true,
        Principal::Key(key) => key.key.id,
        Principal::User(person) => match ctx.ops.store.memberships(person.user.id).await {
            Ok(memberships) if !reach_as_before(&person.memberships, &memberships) => return false,
            Ok(_) => match person.via {
                Via::Session(id) => {
                    return match ctx.ops.store.sessions(person.user.id).await {
                        Ok(sessions) => sessions.iter().any(|session| session.id == id && session.expires_at > Timestamp::now()),
                        Err(_) => true,
                    };
                }
                Via::Key(key, _) => key,
                Via::Absent | Via::Server => return true,
            },
            // What cannot be read now is looked at again in a moment.
            Err(_) => return true,
        },
    };
    match ctx.ops.store.api_key(key).await {
        // An access token's hour is for new requests: it must not cut a log that someone watches.
        Ok(found) => found.is_some_and(|key| {
            let expired = key.expires_at.is_some_and(|at| at <= Timestamp::now());
            key.revoked_at.is_none() && (!expired || key.kind == KeyKind::OAuthAccess)
        }),
        Err(_) => true,
    }
}
