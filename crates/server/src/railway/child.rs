//! Starting the CLI, and the programs that it starts.

use std::ffi::{OsStr, OsString};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;
use tokio::signal::unix::{SignalKind, signal};

use super::environment::{self, Connection};
use super::server::Server;
use super::{database, ssh};

/// The name under which this program, as `SHELL`, becomes the user's shell.
const SHELL_NAME: &str = "orrery-railway-shell";

fn verb(args: &[OsString]) -> Option<&OsStr> {
    args.iter().find(|arg| !arg.as_encoded_bytes().starts_with(b"-")).map(OsString::as_os_str)
}

/// Whether the CLI is going to start a database's client.
pub(super) fn is_connect(args: &[OsString]) -> bool {
    verb(args) == Some(OsStr::new("connect"))
}

/// The CLI with `args`, ready to start.
pub(super) fn command(server: &Server, home: &Path, connection: &Connection, args: &[OsString]) -> anyhow::Result<Command> {
    let program = std::env::var_os("ORRERY_RAILWAY_BIN").unwrap_or_else(|| "railway".into());
    let orrery = std::env::current_exe().context("cannot tell where this program is")?;
    let verb = verb(args);

    let mut changes = environment::connecting(connection);
    changes.insert("HOME", Some(home.into()));
    if let Some(token) = environment::token(server, Some(home), verb)? {
        changes.insert("RAILWAY_API_TOKEN", Some(token.into()));
    }
    if verb == Some(OsStr::new("shell")) {
        let shell = home.join(SHELL_NAME);
        link(&shell, &orrery)?;
        changes.insert("SHELL", Some(shell.into()));
    }
    let stand_ins = if is_connect(args) {
        Some(database::folder(home, &orrery)?)
    } else if ssh::is_session(args) {
        changes.insert(ssh::SERVER, Some(server.to_string().into()));
        Some(ssh::folder(home, &orrery)?)
    } else {
        None
    };
    if let Some(folder) = stand_ins {
        let path = std::env::var_os("PATH").unwrap_or_default();
        changes.insert("PATH", Some(std::env::join_paths([folder].into_iter().chain(std::env::split_paths(&path)))?));
    }

    let mut command = Command::new(program);
    command.args(with_child_wrapper(&ssh::with_identity(args), &orrery)).env(environment::REPLACED, environment::record(&changes)?);
    for (name, value) in &changes {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Ok(command)
}

/// Runs `command` in this terminal until it ends, and passes on signals and the exit status.
pub(super) async fn run(mut command: Command) -> anyhow::Result<ExitCode> {
    // Handlers first: a signal between the start and them would end this process alone.
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hang_up = signal(SignalKind::hangup())?;
    let mut child = command.spawn().map_err(|error| {
        let name = command.as_std().get_program().display();
        if error.kind() == std::io::ErrorKind::NotFound {
            anyhow::anyhow!(
                "there is no {name}: install the Railway CLI with `npm install --global @railway/cli` or `cargo install railwayapp`, \
                 or name the program in ORRERY_RAILWAY_BIN"
            )
        } else {
            anyhow::Error::new(error).context(format!("cannot start {name}"))
        }
    })?;
    let pid = Pid::from_raw(child.id().context("the CLI has no process id")?.cast_signed());
    let status = loop {
        let caught = tokio::select! {
            status = child.wait() => break status?,
            _ = interrupt.recv() => Signal::SIGINT,
            _ = quit.recv() => Signal::SIGQUIT,
            _ = terminate.recv() => Signal::SIGTERM,
            _ = hang_up.recv() => Signal::SIGHUP,
        };
        // The terminal sends these two to every process in its foreground, the CLI among them.
        if !(matches!(caught, Signal::SIGINT | Signal::SIGQUIT) && in_foreground()) {
            // It may just have ended; then its status comes next.
            let _ = kill(pid, caught);
        }
    };
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    Ok(ExitCode::from(u8::try_from(code & 0xff).unwrap_or(1)))
}

fn in_foreground() -> bool {
    std::fs::File::open("/dev/tty")
        .is_ok_and(|terminal| nix::unistd::tcgetpgrp(&terminal).is_ok_and(|group| group == nix::unistd::getpgrp()))
}

/// `railway run [OPTIONS] PROGRAM …` becomes `railway run [OPTIONS] orrery railway-child PROGRAM …`. With an option that is not known here
/// the program cannot be told from the option's value; it then runs in the CLI's environment.
fn with_child_wrapper(args: &[OsString], orrery: &Path) -> Vec<OsString> {
    let Some(place) = program_of_run(args) else { return args.to_vec() };
    let (before, program) = args.split_at(place);
    [before, &[orrery.into(), "railway-child".into()], program].concat()
}

/// The index of the program in the arguments of `railway run`, whose options are in `contracts/railway-cli.md` 7.
fn program_of_run(args: &[OsString]) -> Option<usize> {
    let run = args.iter().position(|arg| !arg.as_encoded_bytes().starts_with(b"-"))?;
    if args[run] != "run" && args[run] != "local" {
        return None;
    }
    let mut at = run + 1;
    while at < args.len() {
        let text = args[at].to_str().unwrap_or("");
        at += match text {
            "--" => return (at + 1 < args.len()).then_some(at + 1),
            "-s" | "--service" | "-e" | "--environment" | "-p" | "--project" => 2,
            "--no-local" | "-v" | "--verbose" => 1,
            _ if ["--service=", "--environment=", "--project="].iter().any(|option| text.starts_with(option)) => 1,
            _ if text.starts_with('-') => return None,
            _ => return Some(at),
        };
    }
    None
}

/// Becomes `program` in the user's environment. Returns only when that fails.
fn become_program(program: &OsStr, args: &[OsString]) -> anyhow::Result<ExitCode> {
    let mut command = std::process::Command::new(program);
    command.args(args);
    for (name, value) in environment::restoring()? {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    Err(command.exec()).with_context(|| format!("cannot run {}", program.display()))
}

/// `orrery railway-child PROGRAM …`.
pub(crate) fn run_child(command: &[OsString]) -> anyhow::Result<ExitCode> {
    let (program, args) = command.split_first().context("there is no program to run: name one")?;
    become_program(program, args)
}

/// Becomes the user's shell if this program was started as one by `railway shell`.
pub(crate) fn run_as_shell() -> Option<ExitCode> {
    let mut args = std::env::args_os();
    let name = PathBuf::from(args.next()?);
    if name.file_name() != Some(OsStr::new(SHELL_NAME)) {
        return None;
    }
    become_or_tell(|| {
        let shell = environment::restoring()?.remove("SHELL").flatten().unwrap_or_else(|| "/bin/sh".into());
        Ok((shell, args.collect()))
    })
}

/// Becomes the program that `which` names, with its arguments, in the user's environment; returns only when that fails.
pub(super) fn become_or_tell(which: impl FnOnce() -> anyhow::Result<(OsString, Vec<OsString>)>) -> Option<ExitCode> {
    let error = which().and_then(|(program, args)| become_program(&program, &args)).err()?;
    #[expect(clippy::print_stderr, reason = "the error of a command line program")]
    {
        eprintln!("orrery: {error:#}");
    }
    Some(ExitCode::FAILURE)
}

/// Makes a link to this program, or leads the one that is there to it.
pub(super) fn link(link: &Path, orrery: &Path) -> anyhow::Result<()> {
    let fresh = link.with_extension(std::process::id().to_string());
    std::os::unix::fs::symlink(orrery, &fresh)
        .and_then(|()| std::fs::rename(&fresh, link))
        .with_context(|| format!("cannot create {}", link.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrapped(line: &str) -> String {
        let args: Vec<OsString> = line.split(' ').map(Into::into).collect();
        with_child_wrapper(&args, Path::new("O")).join(OsStr::new(" ")).into_string().unwrap()
    }

    #[test]
    fn the_program_of_run_is_found() {
        for (line, expected) in [
            ("run npm start", "run O railway-child npm start"),
            ("run -s web -- npm -- x", "run -s web -- O railway-child npm -- x"),
            ("local --service=web -v env -i", "local --service=web -v O railway-child env -i"),
            ("run --new-option web npm", "run --new-option web npm"),
            ("run -s web", "run -s web"),
            ("run --", "run --"),
            ("up --ci", "up --ci"),
            ("--help", "--help"),
        ] {
            assert_eq!(wrapped(line), expected);
        }
    }
}
