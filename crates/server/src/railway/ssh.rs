//! `railway ssh`: a program in a container, without an SSH server.
//!
//! The CLI starts the system's `ssh` with the id of a service instance as the user of Railway's relay (`contracts/railway-cli.md` 3). The `ssh`
//! that it finds on its PATH is this program, which asks the server for a shell over a websocket, with the CLI's own credential. So no key has
//! to be registered, and none is looked for: the CLI is told to use an identity that nobody reads.

use std::ffi::{OsStr, OsString};
use std::io::IsTerminal as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use axum::http::{HeaderName, HeaderValue};
use domain::shell::{ShellSpec, TerminalSize};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt as _, StreamExt as _};
use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::{Error as SocketError, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use super::server::{Server, Stream};
use super::{child, environment};

/// Names the server to the program that stands in for `ssh`.
pub(super) const SERVER: &str = "ORRERY_RAILWAY_SERVER";

/// Holds the CLI's credential once its environment is gone.
const CREDENTIAL: &str = "ORRERY_RAILWAY_CREDENTIAL";

/// What `ssh` ends with when it is itself that has failed.
const FAILED: u8 = 255;

/// First bytes of binary frames: `api::http::shell` has the protocol.
const OUTPUT: u8 = 1;
const INPUT: u8 = 2;
const ERROR: u8 = 3;

type Socket = WebSocketStream<Box<dyn Stream>>;

/// Where the options of `railway ssh` begin, and whether one of them is an identity; `None` for other commands and for those about keys.
fn session(args: &[OsString]) -> Option<(usize, bool)> {
    let begin = args.iter().position(|arg| !arg.as_encoded_bytes().starts_with(b"-"))? + 1;
    if args[begin - 1] != "ssh" {
        return None;
    }
    let (mut at, mut identity) = (begin, false);
    while let Some(arg) = args.get(at) {
        let text = arg.to_str().unwrap_or("");
        at += match text {
            "-i" | "--identity-file" => {
                identity = true;
                2
            }
            "-p" | "--project" | "-s" | "--service" | "-e" | "--environment" | "-d" | "--deployment-instance" => 2,
            "--" => break,
            "keys" | "config" | "help" => return None,
            _ if text.starts_with("-i") || text.starts_with("--identity-file=") => {
                identity = true;
                1
            }
            _ if text.starts_with('-') => 1,
            _ => break,
        };
    }
    Some((begin, identity))
}

/// Whether the CLI is going to start `ssh`.
pub(super) fn is_session(args: &[OsString]) -> bool {
    session(args).is_some()
}

/// The arguments with an identity, without which the CLI looks for keys that the server knows.
pub(super) fn with_identity(args: &[OsString]) -> Vec<OsString> {
    match session(args) {
        Some((begin, false)) => {
            let (before, after) = args.split_at(begin);
            [before, &["-i".into(), "/dev/null".into()], after].concat()
        }
        _ => args.to_vec(),
    }
}

/// A folder with this program under the name `ssh`, to stand first on the CLI's PATH.
pub(super) fn folder(home: &Path, orrery: &Path) -> anyhow::Result<PathBuf> {
    let folder = home.join("ssh");
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot create {}", folder.display()))?;
    child::link(&folder.join("ssh"), orrery)?;
    Ok(folder)
}

/// Opens a shell if this program was started as `ssh` by `railway ssh`.
pub(crate) fn run_as_ssh() -> Option<ExitCode> {
    let mut args = std::env::args_os();
    if PathBuf::from(args.next()?).file_name() != Some(OsStr::new("ssh")) {
        return None;
    }
    let server = std::env::var(SERVER).ok()?;
    // Among what the CLI sees is the one authority that it trusts, which is not that of the server.
    let ran = if std::env::var_os(environment::REPLACED).is_some() { begin_anew(&server, args) } else { run(&server, args) };
    let code = ran.unwrap_or_else(|error| {
        #[expect(clippy::print_stderr, reason = "the error of a command line program")]
        {
            eprintln!("orrery: {error:#}");
        }
        FAILED
    });
    Some(ExitCode::from(code))
}

/// Becomes this program again, in the user's environment and with the CLI's credential. Returns only when that fails.
fn begin_anew(server: &str, args: std::env::ArgsOs) -> anyhow::Result<u8> {
    let credential = credential()?;
    let mut command = std::process::Command::new(std::env::current_exe().context("cannot tell where this program is")?);
    command.arg0("ssh").args(args);
    for (name, value) in environment::restoring()? {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Err(command.env(SERVER, server).env(CREDENTIAL, credential).exec()).context("cannot begin anew")
}

fn run(server: &str, args: std::env::ArgsOs) -> anyhow::Result<u8> {
    let server: Server = server.parse().map_err(anyhow::Error::msg)?;
    let credential = std::env::var(CREDENTIAL).context("this `ssh` is a part of `orrery railway -- ssh`")?;
    let call = Call::read(args.filter_map(|arg| arg.into_string().ok()))?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let code = runtime.block_on(converse(&server, &credential, &call));
    // A read from standard input cannot be called off.
    runtime.shutdown_background();
    code
}

/// What `ssh` was asked for.
#[derive(Debug, PartialEq, Eq)]
struct Call {
    target: String,
    /// Wanted or not; when nothing is said, an interactive shell has one.
    terminal: Option<bool>,
    command: Option<String>,
}

impl Call {
    fn read(mut args: impl Iterator<Item = String>) -> anyhow::Result<Self> {
        let mut terminal = None;
        while let Some(arg) = args.next() {
            match arg.as_str() {
                "-t" | "-tt" => terminal = Some(true),
                "-T" => terminal = Some(false),
                "-N" => bail!("tunnels are not offered: `railway connect` reaches databases without one"),
                "-p" | "-i" | "-o" | "-L" | "-l" | "-F" => drop(args.next()),
                _ if arg.starts_with('-') => {}
                _ => {
                    let target = arg.split('@').next().unwrap_or_default().to_owned();
                    let words: Vec<String> = args.skip_while(|word| word == "--").collect();
                    // As `ssh` does it: one line for the shell at the other end.
                    let command = Some(words.join(" ")).filter(|line| !line.is_empty());
                    return Ok(Self { target, terminal, command });
                }
            }
        }
        bail!("there is no container to connect to")
    }

    fn wants_terminal(&self) -> bool {
        self.terminal.unwrap_or(self.command.is_none()) && std::io::stdin().is_terminal()
    }
}

/// The header that the CLI sends its own requests with, its name and value apart by a blank (`contracts/railway.md` 1.3).
fn credential() -> anyhow::Result<String> {
    if let Ok(token) = std::env::var("RAILWAY_TOKEN") {
        return Ok(format!("project-access-token {token}"));
    }
    let login = || environment::login(Path::new(&std::env::var_os("HOME")?));
    let token = std::env::var("RAILWAY_API_TOKEN").ok().or_else(login);
    let token = token.context("not logged in: run `orrery railway -- login`, or set ORRERY_TOKEN")?;
    Ok(format!("authorization Bearer {token}"))
}

async fn converse(server: &Server, credential: &str, call: &Call) -> anyhow::Result<u8> {
    let (name, value) = credential.split_once(' ').context("the credential has no name")?;
    let address = format!("ws://{}{}/graphql/v2/shell/{}", server.authority(), server.prefix(), call.target);
    let mut request = address.into_client_request()?;
    request.headers_mut().insert(HeaderName::try_from(name)?, HeaderValue::try_from(value)?);
    let (socket, _) = client_async(request, server.connect().await?).await.map_err(refusal)?;
    let (mut sink, stream) = socket.split();

    let terminal = call.wants_terminal().then(size).flatten();
    let spec = ShellSpec { command: call.command.clone(), program: None, terminal };
    sink.send(text(&json!({"type": "init_exec", "data": spec}))).await?;
    let _raw = terminal.and_then(|_| Raw::enter());
    // Each goes on while the other one has to wait.
    let code = tokio::select! {
        code = hear(stream) => code?,
        never = speak(sink, terminal.is_some()) => never?,
    };
    Ok(u8::try_from(code & 0xff).unwrap_or(FAILED))
}

fn text(value: &Value) -> Message {
    Message::text(value.to_string())
}

fn refusal(error: SocketError) -> anyhow::Error {
    let SocketError::Http(answer) = &error else { return error.into() };
    let body: Value = answer.body().as_deref().and_then(|body| serde_json::from_slice(body).ok()).unwrap_or_default();
    match body["message"].as_str() {
        Some(message) => anyhow::Error::msg(message.to_owned()),
        None => error.into(),
    }
}

/// Prints what comes until the program has ended; its exit status.
async fn hear(mut stream: SplitStream<Socket>) -> anyhow::Result<i64> {
    let (mut out, mut err) = (tokio::io::stdout(), tokio::io::stderr());
    while let Some(frame) = stream.next().await {
        match frame? {
            Message::Binary(bytes) => match bytes.split_first() {
                Some((&OUTPUT, said)) => {
                    out.write_all(said).await?;
                    out.flush().await?;
                }
                Some((&ERROR, said)) => {
                    err.write_all(said).await?;
                    err.flush().await?;
                }
                _ => {}
            },
            Message::Text(text) => {
                let frame: Value = serde_json::from_str(&text)?;
                match frame["type"].as_str() {
                    Some("exit") => return Ok(frame["data"]["exit_code"].as_i64().unwrap_or(i64::from(FAILED))),
                    Some("error") => bail!("{}", frame["data"]["message"].as_str().unwrap_or("the shell was ended")),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    bail!("the connection was lost")
}

/// Sends what is typed. Ends only when it cannot begin: that the connection is gone is noticed by who hears.
async fn speak(mut sink: SplitSink<Socket, Message>, terminal: bool) -> anyhow::Result<i64> {
    let mut resized = signal(SignalKind::window_change())?;
    let mut interrupted = signal(SignalKind::interrupt())?;
    let mut stdin = tokio::io::stdin();
    let mut buffer = vec![0; 32 * 1024];
    let mut open = true;
    loop {
        let frame = tokio::select! {
            read = stdin.read(&mut buffer), if open => match read {
                Ok(length @ 1..) => Message::binary([&[INPUT][..], &buffer[..length]].concat()),
                // What cannot be read has no more to say.
                Ok(0) | Err(_) => {
                    open = false;
                    text(&json!({"type": "stdin_close"}))
                }
            },
            _ = resized.recv() => match size().filter(|_| terminal) {
                Some(size) => text(&json!({"type": "resize", "data": size})),
                None => continue,
            },
            _ = interrupted.recv() => text(&json!({"type": "signal", "data": {"signal": "INT"}})),
        };
        if sink.send(frame).await.is_err() {
            return std::future::pending().await;
        }
    }
}

/// The size of this program's terminal.
fn size() -> Option<TerminalSize> {
    let size = tcgetwinsize(std::io::stdin()).ok()?;
    // A terminal that nobody has measured says zero.
    let (columns, rows) = (if size.ws_col == 0 { 80 } else { size.ws_col }, if size.ws_row == 0 { 24 } else { size.ws_row });
    Some(TerminalSize { columns, rows })
}

/// A terminal that hands every key on; as it was again when this is dropped.
struct Raw(Termios);

impl Raw {
    fn enter() -> Option<Self> {
        let before = tcgetattr(std::io::stdin()).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw).ok()?;
        Some(Self(before))
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(line: &str) -> Vec<OsString> {
        line.split(' ').map(Into::into).collect()
    }

    #[test]
    fn a_session_gets_an_identity_unless_it_has_one() {
        for (line, expected) in [
            ("ssh", "ssh -i /dev/null"),
            ("ssh -s web -- ls -i", "ssh -i /dev/null -s web -- ls -i"),
            ("ssh ls -i", "ssh -i /dev/null ls -i"),
            ("ssh -s web -i mine", "ssh -s web -i mine"),
            ("ssh --identity-file=mine", "ssh --identity-file=mine"),
            ("ssh keys list", "ssh keys list"),
            ("run ssh", "run ssh"),
        ] {
            assert_eq!(with_identity(&words(line)), words(expected), "{line}");
        }
        assert!(is_session(&words("ssh -i mine")) && !is_session(&words("ssh config")) && !is_session(&words("up")));
    }

    #[test]
    fn what_the_cli_says_to_ssh_is_understood() {
        let read = |line: &str| Call::read(line.split(' ').map(str::to_owned));
        let call = |terminal, command: Option<&str>| Call { target: "id".into(), terminal, command: command.map(str::to_owned) };
        assert_eq!(read("-i /dev/null id@ssh.railway.com").unwrap(), call(None, None));
        assert_eq!(read("-p 2222 -i k -T id@ssh.railway.com ls -la").unwrap(), call(Some(false), Some("ls -la")));
        assert_eq!(read("-t id@ssh.railway.com -- exec tmux").unwrap(), call(Some(true), Some("exec tmux")));
        assert!(read("-N -L 1:127.0.0.1:2 id@ssh.railway.com").is_err() && read("-T").is_err());
    }
}
