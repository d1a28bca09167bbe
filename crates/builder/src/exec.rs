//! Runs one command as the build's user and takes everything it started away again.

use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use domain::spec::Limits;
use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::Pid;
use runtime::UnixUser;
use runtime::sandbox::{EXIT_NOT_ENTERED, Sandbox};
use sha2::{Digest, Sha256};
use tokio::process::{Child, Command};
use tokio::time::Instant;

use crate::failure::BuildFailure;
use crate::output::{LineReader, Output};
use crate::{BuildLimits, Cancel, tools};

/// Every process of a build carries this variable with [`Workplace::own`]; that is how those are found that left their group.
const MARK: &str = "ORRERY_BUILD";
/// How a sandbox says that it did not start the command.
const NOT_ENTERED: &[u8] = b"orrery: the sandbox could not be entered";
/// The most that is kept of what a compiler says.
const KEPT_BYTES: usize = 4 << 20;
/// How long a sandbox may take to end everything inside.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where and as whom commands run.
pub(crate) struct Workplace<'a> {
    /// The artifact: the working directory, writable.
    pub root: &'a Path,
    /// The folder that nobody else works with at this time; its path tells these commands' processes from all others.
    pub own: &'a Path,
    /// A folder for what is written to `root`, which then stays as it is: as root, and where the file system can carry a layer.
    pub layer: Option<&'a Path>,
    /// Caches and temporary files.
    pub writable: Vec<&'a Path>,
    pub user: Option<UnixUser>,
    pub limits: &'a BuildLimits,
}

/// What a compiler says of the programs that it has made, one JSON object a line.
pub(crate) struct Messages {
    pub lines: Vec<String>,
    /// Bytes that are still taken: what is compiled can say as much as it likes.
    room: usize,
}

impl Messages {
    pub(crate) fn new() -> Self {
        Self { lines: vec![], room: KEPT_BYTES }
    }

    /// Keeps a line that names a program, if there is room. Most others are of libraries.
    fn take(&mut self, line: &[u8]) {
        const NAMES_ONE: &[u8] = br#""executable":""#;
        // A short line costs more than its bytes.
        let size = line.len() + size_of::<String>();
        if size <= self.room && line.windows(NAMES_ONE.len()).any(|part| part == NAMES_ONE) {
            self.room -= size;
            self.lines.push(String::from_utf8_lossy(line).into_owned());
        }
    }
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
        Self { deadline: Instant::now() + Duration::from_secs(seconds), seconds, cancel }
    }

    /// Ends when the build must.
    pub(crate) async fn reached(&self) -> BuildFailure {
        tokio::select! {
            () = self.cancel.cancelled() => BuildFailure::Canceled,
            () = tokio::time::sleep_until(self.deadline) => BuildFailure::Timeout(self.seconds),
        }
    }
}

/// The command in a sandbox of its own, with nothing of the server's environment. The only place where builds start processes.
pub(crate) fn user_command(
    place: &Workplace<'_>,
    program: &Path,
    args: &[String],
    env: &BTreeMap<String, String>,
) -> Result<Command, BuildFailure> {
    let mut env = env.clone();
    env.insert(MARK.to_owned(), place.own.to_string_lossy().into_owned());
    let sandbox = Sandbox {
        user: place.user.filter(|_| nix::unistd::geteuid().is_root()),
        root: place.root.to_owned(),
        overlay: place.layer.map(Path::to_owned),
        writable: place.writable.iter().map(|path| (*path).to_owned()).collect(),
        readable: tools::toolchain(place.user).into_iter().collect(),
        binds: vec![],
        hidden: place.own_folder().into_iter().collect(),
        limits: Limits { memory_bytes: place.limits.memory_bytes, cpu_millis: place.limits.cpu_millis },
        cgroup: Some(group_name(place.own)),
        network: true,
    };
    let command = sandbox.command(program, args, &env, place.root);
    let mut command = command.map_err(|error| BuildFailure::Internal(format!("the sandbox of the build: {error}")))?;
    command.process_group(0).kill_on_drop(true).stdout(Stdio::piped()).stderr(Stdio::piped());
    Ok(command)
}

impl Workplace<'_> {
    /// Orrery's data directory: the folder that holds the artifact, the caches and the temporary files.
    fn own_folder(&self) -> Option<PathBuf> {
        let holds = |folder: &&Path| self.writable.iter().all(|path| path.starts_with(folder));
        let folder = self.root.ancestors().skip(1).find(holds)?;
        folder.parent().is_some().then(|| folder.to_owned())
    }
}

/// The same for every command of a build, so that a later server finds what an earlier one has left.
fn group_name(own: &Path) -> String {
    let digest = Sha256::digest(own.as_os_str().as_encoded_bytes());
    let short = digest.iter().take(8).fold(String::new(), |text, byte| format!("{text}{byte:02x}"));
    format!("orrery-build-{short}")
}

/// Runs to the end, or until told to stop. No process of it is left then. `collect` gets standard output instead of the log.
///
/// # Errors
/// `Command` for an unsuccessful end, named by `shown`; what [`Stop`] says.
pub(crate) async fn run(
    mut command: Command,
    place: &Workplace<'_>,
    shown: &str,
    output: &mut Output,
    stop: &Stop,
    mut collect: Option<&mut Messages>,
) -> Result<(), BuildFailure> {
    let mut child = command.spawn().map_err(|error| BuildFailure::Internal(format!("`{shown}` could not be started: {error}")))?;
    let mut processes = Processes { guard: child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw), own: place.own };
    let (Some(stdout), Some(stderr)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(BuildFailure::Internal(format!("`{shown}` has no output")));
    };
    let (mut stdout, mut stderr) = (LineReader::new(stdout), LineReader::new(stderr));
    let (mut status, mut refused) = (None, false);
    while status.is_none() || !stdout.ended() || !stderr.ended() {
        tokio::select! {
            failure = stop.reached() => {
                processes.end_with(&mut child).await;
                return Err(failure);
            }
            line = stdout.next(), if !stdout.ended() => match (line, &mut collect) {
                (Some(line), Some(into)) => into.take(&line),
                (Some(line), None) => output.line(false, line).await,
                (None, _) => {}
            },
            line = stderr.next(), if !stderr.ended() => if let Some(line) = line {
                refused = line.starts_with(NOT_ENTERED);
                output.line(true, line).await;
            },
            ended = child.wait(), if status.is_none() => {
                status = Some(ended.map_err(|error| BuildFailure::Internal(format!("waiting for `{shown}`: {error}")))?);
                // What it left in the background would hold the pipes open.
                processes.end();
            }
        }
    }
    match status {
        Some(status) if refused && status.code() == Some(EXIT_NOT_ENTERED) => Err(BuildFailure::Machine(
            "this server could not make the sandbox in which builds run: the line above says why, and `orrery doctor` what to do"
                .to_owned(),
        )),
        Some(status) if !status.success() => Err(BuildFailure::Command { command: shown.to_owned(), status: words(status, place.limits) }),
        _ => Ok(()),
    }
}

fn words(status: ExitStatus, limits: &BuildLimits) -> String {
    let allowed = |bytes: u64| format!(": a build may use {} MB here, as this server's setting build_memory_bytes says", bytes / 1_000_000);
    let memory = format!("perhaps for want of memory{}", limits.memory_bytes.map(allowed).unwrap_or_default());
    match (status.code(), status.signal()) {
        (Some(127), _) => "failed with status 127 (a program in it was not found)".to_owned(),
        // What a shell says when its child was ended so.
        (Some(137), _) => format!("failed with status 137 ({memory})"),
        (Some(code), _) => format!("failed with status {code}"),
        (None, Some(9)) => format!("was ended by signal 9 ({memory})"),
        (None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
    }
}

/// The processes of one command; dropping it ends them.
struct Processes<'a> {
    guard: Option<Pid>,
    own: &'a Path,
}

impl Processes<'_> {
    /// Asks the sandbox to end everything inside, which it does before it ends itself; what does not follow is ended by force.
    async fn end_with(&mut self, child: &mut Child) {
        if let Some(guard) = self.guard {
            // It fails when it has ended already.
            let _ = kill(guard, Signal::SIGALRM);
        }
        if tokio::time::timeout(PATIENCE, child.wait()).await.is_err() {
            tracing::warn!(folder = %self.own.display(), "the sandbox of a build did not end when asked to");
        }
        self.end();
    }

    fn end(&mut self) {
        if let Some(guard) = self.guard.take() {
            // It fails when the group has ended already.
            let _ = killpg(guard, Signal::SIGKILL);
            end_marked(self.own);
        }
    }
}

impl Drop for Processes<'_> {
    fn drop(&mut self) {
        self.end();
    }
}

/// Ends processes that carry the mark of this folder, until there are none: those that an earlier server has left, and without root
/// those that escaped their sandbox's guard.
pub(crate) fn end_marked(own: &Path) {
    let mark = [MARK.as_bytes(), b"=", own.as_os_str().as_encoded_bytes()].concat();
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
    tracing::warn!(folder = %own.display(), "processes of a build keep starting others");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_what_a_compiler_says_little_is_kept() {
        let mut said = Messages::new();
        said.take(br#"{"reason":"compiler-artifact","executable":null}"#);
        said.take(br#"{"reason":"build-script-executed"}"#);
        let program = br#"{"reason":"compiler-artifact","executable":"/target/release/app"}"#;
        said.take(program);
        assert_eq!(said.lines, [String::from_utf8_lossy(program)]);
        (0..1_000_000).for_each(|_| said.take(br#""executable":""#));
        let bytes: usize = said.lines.iter().map(|line| line.len() + size_of::<String>()).sum();
        assert!(bytes <= KEPT_BYTES, "{bytes}");
    }
}
