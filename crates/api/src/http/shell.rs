//! A shell into a container, over a websocket: `GET /graphql/v2/shell/{target}`. An addition of this server's; the frames are those of
//! Railway's bridge for programs in sandboxes, so that a client of one speaks to the other.
//!
//! | frame | from | means |
//! | --- | --- | --- |
//! | text `{"type":"init_exec","data":{"command","program","terminal":{"columns","rows"}}}` | client, first | what runs; each may be left out |
//! | binary, first byte 2 | client | input |
//! | text `{"type":"stdin_close"}` | client | there is no more input |
//! | text `{"type":"resize","data":{"columns","rows"}}` | client | the terminal has another size |
//! | text `{"type":"signal","data":{"signal":"INT"}}` | client | a signal for the program |
//! | binary, first byte 1 or 3 | server | standard output (and everything on a terminal), standard error |
//! | text `{"type":"exit","data":{"exit_code"}}` | server, last | how it ended |
//! | text `{"type":"error","data":{"message","code"}}` | server, last | why there is no more of it |

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket, WebSocketUpgrade, close_code};
use axum::extract::{Path, Request, State};
use axum::http::header::{ALLOW, UPGRADE};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use domain::shell::{ShellEnd, ShellInput, ShellSignal, ShellSpec, ShellStream, TerminalSize};
use domain::{Code, Timestamp};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use ops::auth::Surface;
use ops::shell::{Shell, ShellSession, container_shell, container_shell_check, container_shell_end};
use ops::{Error, OpCtx};
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, interval_at, timeout};
use tokio_util::sync::CancellationToken;

use super::answer::refuse;
use super::caller::context;
use super::{ApiState, Arrival, Peer, Shared};
use crate::graphql::still_valid;

/// How long a peer may take to be told of the end.
const GOODBYE: Duration = Duration::from_secs(10);
/// A peer that was not heard of for so long is gone.
const SILENCE: Duration = Duration::from_secs(95);
/// The largest frame.
const FRAME: usize = 128 * 1024;

/// The first byte of a binary frame.
const OUTPUT: u8 = 1;
const INPUT: u8 = 2;
const ERROR: u8 = 3;

/// When shells are looked after.
#[derive(Clone, Copy, Debug)]
pub struct ShellTimes {
    /// Time for the first frame to come.
    pub first: Duration,
    /// How often the peer is pinged, and the credential looked at.
    pub period: Duration,
    /// A shell in which nothing is typed and nothing is said for longer is ended.
    pub idle: Duration,
}

impl Default for ShellTimes {
    fn default() -> Self {
        Self { first: Duration::from_secs(10), period: Duration::from_secs(30), idle: Duration::from_secs(30 * 60) }
    }
}

#[derive(Deserialize)]
#[serde(tag = "type", content = "data", rename_all = "snake_case")]
enum FromClient {
    InitExec(ShellSpec),
    StdinClose,
    Resize(TerminalSize),
    Signal { signal: ShellSignal },
}

/// When something was last typed or said, in milliseconds since the program was started.
struct Pulse {
    began: Instant,
    last: AtomicU64,
}

impl Pulse {
    fn new() -> Self {
        Self { began: Instant::now(), last: AtomicU64::new(0) }
    }

    fn beat(&self) {
        self.last.store(u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    fn quiet_for(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_millis(self.last.load(Ordering::Relaxed)))
    }
}

/// `GET /graphql/v2/shell/{target}`: a websocket. Without one it says whether a shell would be opened, because browsers hide why a
/// handshake was refused.
pub(super) async fn open(
    State(state): State<Shared>,
    Extension(arrival): Extension<Arrival>,
    Path(target): Path<String>,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    request: Request,
) -> Response {
    let (parts, _) = request.into_parts();
    let shutdown = parts.extensions.get::<Peer>().map(|peer| peer.shutdown.clone()).unwrap_or_default();
    match admit(&state, &arrival, &target, upgrade, &parts, shutdown).await {
        Ok(response) => response,
        Err(error) => refuse(&error, &arrival.request_id),
    }
}

async fn admit(
    state: &ApiState,
    arrival: &Arrival,
    target: &str,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
    parts: &Parts,
    shutdown: CancellationToken,
) -> Result<Response, Error> {
    let ctx = context(state, Surface::Railway, arrival, parts).await?;
    if !parts.headers.contains_key(UPGRADE) {
        container_shell_check(&ctx, target).await?;
        let mut response = refuse(&Error::bad_input("This is a shell: open a websocket here"), &arrival.request_id);
        *response.status_mut() = StatusCode::UPGRADE_REQUIRED;
        response.headers_mut().insert(UPGRADE, HeaderValue::from_static("websocket"));
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET"));
        return Ok(response);
    }
    let upgrade = upgrade
        .map_err(|_| Error::bad_input("This is not a websocket handshake: GET with `Upgrade: websocket` and `Sec-WebSocket-Version: 13`"))?
        .max_message_size(FRAME)
        .max_frame_size(FRAME);
    let shell = container_shell(&ctx, target).await?;
    let times = state.shell_times;
    Ok(upgrade.on_upgrade(move |socket| converse(ctx, shell, socket, times, shutdown)))
}

/// How a conversation ended: what is said about it, or that nobody is there to be told.
type Ending = Option<Result<ShellEnd, Error>>;

type Sink = SplitSink<WebSocket, Message>;

/// Serves a shell until the program, the person, the credential or the server ends it.
async fn converse(ctx: OpCtx, shell: Shell, socket: WebSocket, times: ShellTimes, shutdown: CancellationToken) {
    let (mut sink, mut stream) = socket.split();
    let end = tokio::select! {
        end = talk(&ctx, &shell, &mut sink, &mut stream, times) => end,
        () = shutdown.cancelled() => Some(Err(restarting())),
    };
    if let Some(end) = end {
        // Neither does a peer that takes nothing hold it up.
        let _ = timeout(GOODBYE, say_goodbye(&ctx, &mut sink, end)).await;
    }
    let ctx = OpCtx { now: Timestamp::now(), ..ctx };
    if let Err(error) = container_shell_end(&ctx, shell).await {
        error.log(&ctx.request_id);
    }
}

fn restarting() -> Error {
    Error::new(Code::Unavailable, "The server is being restarted: open the shell again")
}

async fn talk(ctx: &OpCtx, shell: &Shell, sink: &mut Sink, stream: &mut SplitStream<WebSocket>, times: ShellTimes) -> Ending {
    let spec = match timeout(times.first, first(stream)).await {
        Ok(Ok(spec)) => spec,
        Ok(Err(ending)) => return ending,
        Err(_) => return Some(Err(Error::new(Code::Timeout, "The first frame did not come in time: begin with `init_exec`"))),
    };
    let ShellSession { input, output, ended } = match shell.begin(ctx, spec).await {
        Ok(session) => session,
        Err(error) => return Some(Err(error)),
    };
    let pulse = Pulse::new();
    // Each goes on while the other one has to wait.
    tokio::select! {
        end = listen(stream, &input, &pulse) => end,
        end = speak(sink, output, ended, &pulse, times.period) => end,
        end = look_after(ctx, &pulse, times) => end,
    }
}

fn invalid() -> Ending {
    Some(Err(Error::bad_input(
        "This frame is not one of a shell: send `init_exec` first, then binary frames that begin with the byte 2, `resize`, `signal` or `stdin_close`",
    )))
}

async fn first(stream: &mut SplitStream<WebSocket>) -> Result<ShellSpec, Ending> {
    loop {
        match stream.next().await {
            Some(Ok(Message::Text(text))) => {
                return match serde_json::from_str(&text) {
                    Ok(FromClient::InitExec(spec)) => Ok(spec),
                    _ => Err(invalid()),
                };
            }
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            Some(Ok(Message::Binary(_))) => return Err(invalid()),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(None),
        }
    }
}

/// Hands on what the person sends, until they send no more.
async fn listen(stream: &mut SplitStream<WebSocket>, input: &mpsc::Sender<ShellInput>, pulse: &Pulse) -> Ending {
    loop {
        let Ok(frame) = timeout(SILENCE, stream.next()).await else { return None };
        let piece = match frame {
            Some(Ok(Message::Binary(bytes))) if bytes.first() == Some(&INPUT) => ShellInput::Bytes(bytes[1..].to_vec()),
            Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                Ok(FromClient::StdinClose) => ShellInput::End,
                Ok(FromClient::Resize(size)) if size.check().is_ok() => ShellInput::Resize(size),
                Ok(FromClient::Signal { signal }) => ShellInput::Signal(signal),
                _ => return invalid(),
            },
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => continue,
            Some(Ok(Message::Binary(_))) => return invalid(),
            Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
        };
        pulse.beat();
        if input.send(piece).await.is_err() {
            // The program is over, which comes out at the other end.
            return std::future::pending().await;
        }
    }
}

/// Tells what the program says, and how it ended.
async fn speak(
    sink: &mut Sink,
    mut output: mpsc::Receiver<(ShellStream, Vec<u8>)>,
    ended: oneshot::Receiver<Result<ShellEnd, Error>>,
    pulse: &Pulse,
    period: Duration,
) -> Ending {
    let mut period = interval_at(Instant::now() + period, period);
    loop {
        let frame = tokio::select! {
            piece = output.recv() => match piece {
                None => break,
                Some((stream, bytes)) => {
                    pulse.beat();
                    let tag = if stream == ShellStream::Error { ERROR } else { OUTPUT };
                    Message::Binary([&[tag][..], bytes.as_slice()].concat().into())
                }
            },
            _ = period.tick() => Message::Ping(Bytes::new()),
        };
        if sink.send(frame).await.is_err() {
            return None;
        }
    }
    Some(ended.await.unwrap_or_else(|_| Err(restarting())))
}

/// Ends what is forgotten or not allowed any more, however long the peer lets us wait.
async fn look_after(ctx: &OpCtx, pulse: &Pulse, times: ShellTimes) -> Ending {
    let mut period = interval_at(Instant::now() + times.period, times.period);
    loop {
        period.tick().await;
        if pulse.quiet_for() > times.idle {
            return Some(Err(Error::new(Code::Timeout, "Nothing happened here for 30 minutes: open the shell again")));
        }
        if !still_valid(ctx).await {
            return Some(Err(Error::new(Code::Forbidden, "The credential that opened this shell does not work any more")));
        }
    }
}

async fn say_goodbye(ctx: &OpCtx, sink: &mut Sink, end: Result<ShellEnd, Error>) {
    let (frame, code) = match end {
        Ok(end) => (json!({"type": "exit", "data": {"exit_code": end.code()}}), close_code::NORMAL),
        Err(error) => {
            error.log(&ctx.request_id);
            let data = json!({"message": error.public, "code": error.code.as_str(), "requestId": ctx.request_id});
            (json!({"type": "error", "data": data}), close_code::POLICY)
        }
    };
    let close = Message::Close(Some(CloseFrame { code, reason: Utf8Bytes::default() }));
    for frame in [Message::Text(frame.to_string().into()), close] {
        // The peer may be gone already; then there is nobody to tell.
        let _ = sink.send(frame).await;
    }
}
