//! Runs one command as the build's user and takes everything it started away again.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::failure::BuildFailure;
use crate::output::{LineReader, Output};
use crate::{BuildLimits, Cancel};

/// Every process of a build carries this variable with the path of its artifact; that is how those are found that left their group.
const MARK: &str = "ORRERY_BUILD";

/// A user of this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnixUser {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
}

/// Where and as whom commands run.
pub(crate) struct Workplace<'a> {
    /// The artifact: the working directory, writable.
    pub root: &'a Path,
    /// Caches and temporary files.
    pub writable: Vec<&'a Path>,
    pub user: Option<UnixUser>,
    pub limits: &'a BuildLimits,
}

/// When to stop early.
pub(crate) struct Stop {
    pub deadline: Instant,
    pub seconds: u64,
    pub cancel: Cancel,
}

impl Stop {
    /// From now on.
    pub(crate) fn new(seconds: u64, cancel: Cancel) -> Self {
        Self { deadline: Instant::now() + std::time::Duration::from_secs(seconds), seconds, cancel }
    }

    /// Ends when the build must.
    pub(crate) async fn reached(&self) -> BuildFailure {
        tokio::select! {
            () = self.cancel.cancelled() => BuildFailure::Canceled,
            () = tokio::time::sleep_until(self.deadline) => BuildFailure::Timeout(self.seconds),
        }
    }
}

/// The command with nothing of the server's environment, as the build's user, in its own process group.
pub(crate) fn user_command(
    place: &Workplace<'_>,
    program: &Path,
    args: &[String],
    env: &BTreeMap<String, String>,
) -> Result<Command, BuildFailure> {
    let mut command = Command::new(program);
    command.args(args).env_clear().envs(env).env(MARK, place.root).current_dir(place.root).process_group(0).kill_on_drop(true);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(user) = place.user.filter(|_| nix::unistd::geteuid().is_root()) {
        command.uid(user.uid).gid(user.gid);
    }
    Ok(command)
}

/// Runs to the end, or until told to stop. No process of it is left then. `collect` gets the lines of standard output instead of the log.
///
/// # Errors
/// `Command` for an unsuccessful end, named by `shown`; what [`Stop`] says.
pub(crate) async fn run(
    mut command: Command,
    place: &Workplace<'_>,
    shown: &str,
    output: &mut Output,
    stop: &Stop,
    mut collect: Option<&mut Vec<String>>,
) -> Result<(), BuildFailure> {
    let mut child = command.spawn().map_err(|error| BuildFailure::Internal(format!("`{shown}` could not be started: {error}")))?;
    let mut guard = Processes { group: child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw), root: place.root };
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(BuildFailure::Internal(format!("`{shown}` has no output")));
    };
    let (mut stdout, mut stderr) = (LineReader::new(stdout), LineReader::new(stderr));
    let mut status = None;
    while status.is_none() || !stdout.ended() || !stderr.ended() {
        tokio::select! {
            failure = stop.reached() => {
                drop(guard);
                reap(&mut child).await;
                return Err(failure);
            }
            line = stdout.next(), if !stdout.ended() => match (line, &mut collect) {
                (Some(line), Some(into)) => into.push(String::from_utf8_lossy(&line).into_owned()),
                (Some(line), None) => output.line(false, line).await,
                (None, _) => {}
            },
            line = stderr.next(), if !stderr.ended() => if let Some(line) = line { output.line(true, line).await },
            ended = child.wait(), if status.is_none() => {
                status = Some(ended.map_err(|error| BuildFailure::Internal(format!("waiting for `{shown}`: {error}")))?);
                // What it left in the background would hold the pipes open.
                guard.end();
            }
        }
    }
    match status {
        Some(status) if !status.success() => Err(BuildFailure::Command { command: shown.to_owned(), status: words(status) }),
        _ => Ok(()),
    }
}

async fn reap(child: &mut Child) {
    if let Err(error) = child.wait().await {
        tracing::warn!(%error, "a build command that was ended could not be waited for");
    }
}

fn words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(127), _) => "failed with status 127 (a program in it was not found)".to_owned(),
        (Some(code), _) => format!("failed with status {code}"),
        (None, Some(9)) => "was ended by signal 9 (perhaps for want of memory)".to_owned(),
        (None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
    }
}

/// The processes of one command; dropping it ends them.
struct Processes<'a> {
    group: Option<Pid>,
    root: &'a Path,
}

impl Processes<'_> {
    fn end(&mut self) {
        if let Some(group) = self.group.take() {
            // It fails when the group has ended already.
            let _ = killpg(group, Signal::SIGKILL);
        }
        end_marked(self.root);
    }
}

impl Drop for Processes<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Ends processes that carry the mark of this artifact, until there are none: also those that made a session of their own, and those that
/// an earlier server has left.
pub(crate) fn end_marked(root: &Path) {
    let mark = [MARK.as_bytes(), b"=", root.as_os_str().as_encoded_bytes()].concat();
    let marked = |id: &str| {
        let environ = std::fs::read(format!("/proc/{id}/environ")).unwrap_or_default();
        environ.split(|byte| *byte == 0).any(|variable| variable == mark)
    };
    for _ in 0..50 {
        let Ok(entries) = std::fs::read_dir("/proc") else { return };
        let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        let found: Vec<i32> =
            names.filter(|name| name.bytes().all(|b| b.is_ascii_digit()) && marked(name)).filter_map(|id| id.parse().ok()).collect();
        if found.is_empty() {
            return;
        }
        for id in found {
            // It fails when the process has ended meanwhile.
            let _ = kill(Pid::from_raw(id), Signal::SIGKILL);
        }
    }
    tracing::warn!(root = %root.display(), "processes of a build keep starting others");
}
