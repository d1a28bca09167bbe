//! `orrery launch PLAN VARIABLE`: prepares and runs a server of the machine inside a replica's sandbox, as the replica's user.
//!
//! It stays beside the server to translate the signal that ends a replica into the one that ends this server well. VARIABLE names the
//! environment variable with the volume's path.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use domain::server::{ServerCommand, ServerPlan, ServerStep, StepServer, StopSignal, Unset, fill};
use nix::sys::signal::Signal;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::sandbox::DEFAULT_PATH;

/// The hidden subcommand behind [`launch_main`].
pub const SUBCOMMAND: &str = "launch";

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("{0}")]
    Unset(#[from] Unset),
    #[error("{} is not on this machine: install the Debian package {package}, and redeploy", programs.join(" or "))]
    Missing { programs: Vec<String>, package: String },
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    #[error("{program} failed ({status}): its last lines above say why")]
    Command { program: String, status: ExitStatus },
    #[error("the plan of this server cannot be read: {0}")]
    Plan(#[from] serde_json::Error),
    #[error("the server was asked to stop before it ran")]
    Stopped,
}

/// Runs the subcommand `launch`. Ends as the server ends.
#[must_use]
pub fn launch_main(plan: &str, volume_variable: &str) -> i32 {
    let ran = || -> Result<ExitStatus, Failure> {
        let plan: ServerPlan = serde_json::from_str(plan)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|source| Failure::Io { what: "starting".into(), source })?;
        runtime.block_on(launch(&plan, volume_variable))
    };
    match ran() {
        Ok(status) => status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default()),
        Err(Failure::Stopped) => 0,
        Err(failure) => {
            // Without standard error there is nobody to tell.
            let _ = writeln!(io::stderr(), "orrery: {failure}");
            1
        }
    }
}

/// Finds a program as [`ServerPlan`] says: in its folders, then on PATH.
///
/// `version` is what stands for the `*` of a folder; without it the highest there is.
#[must_use]
pub fn find(folders: &[String], programs: &[String], version: Option<&str>) -> Option<PathBuf> {
    let places: Vec<PathBuf> = folders.iter().flat_map(|folder| expand(folder, version)).collect();
    // Data of a version wants that version, wherever another one lies.
    let on_path: Vec<PathBuf> = if version.is_some() && folders.iter().any(|folder| folder.contains('*')) {
        vec![]
    } else {
        DEFAULT_PATH.split(':').map(PathBuf::from).collect()
    };
    let all = places.iter().chain(&on_path);
    programs.iter().find_map(|program| all.clone().map(|place| place.join(program)).find(|path| is_program(path)))
}

fn is_program(path: &Path) -> bool {
    nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok() && path.is_file()
}

/// The folders that a pattern means, the highest version first.
fn expand(pattern: &str, version: Option<&str>) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else { return vec![PathBuf::from(pattern)] };
    if let Some(version) = version {
        return vec![PathBuf::from(format!("{before}{version}{after}"))];
    }
    let Ok(entries) = fs::read_dir(before) else { return vec![] };
    let mut names: Vec<String> = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.split('.').map(|part| part.parse().unwrap_or(0)).collect::<Vec<u64>>()));
    names.into_iter().map(|name| PathBuf::from(format!("{before}{name}{after}"))).collect()
}

/// What commands have in common.
struct Launcher<'a> {
    plan: &'a ServerPlan,
    variables: BTreeMap<String, String>,
    program: PathBuf,
    stop: tokio::signal::unix::Signal,
}

async fn launch(plan: &ServerPlan, volume_variable: &str) -> Result<ExitStatus, Failure> {
    let stop = signal(SignalKind::terminate()).map_err(|source| Failure::Io { what: "listening for the signal to stop".into(), source })?;
    let mut variables: BTreeMap<String, String> = std::env::vars().collect();
    let run = std::env::temp_dir().join("orrery-server");
    make_folder(&run)?;
    variables.insert("RUN".into(), run.display().to_string());
    if let Some(volume) = variables.get(volume_variable).cloned() {
        variables.insert("VOLUME".into(), volume);
    }
    let version = match &plan.version_file {
        Some(file) => fs::read_to_string(fill(file, &variables)?).ok().map(|text| text.trim().to_owned()),
        None => None,
    };
    let missing = || {
        let package = match &version {
            Some(version) => format!("{}-{version}", plan.package),
            None => plan.package.clone(),
        };
        Failure::Missing { programs: plan.programs.clone(), package }
    };
    let program = find(&plan.folders, &plan.programs, version.as_deref()).ok_or_else(missing)?;
    let mut launcher = Launcher { plan, variables, program, stop };
    launcher.write_files()?;
    for step in &plan.prepare {
        launcher.step(step).await?;
    }
    launcher.serve().await
}

fn make_folder(path: &Path) -> Result<(), Failure> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| Failure::Io { what: format!("making {}", path.display()), source })
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let written = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path);
    let written = written.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|source| Failure::Io { what: format!("writing {}", path.display()), source })
}

fn rename(from: &Path, to: &Path) -> Result<(), Failure> {
    fs::rename(from, to).map_err(|source| Failure::Io { what: format!("putting {} in place", to.display()), source })
}

impl Launcher<'_> {
    fn write_files(&self) -> Result<(), Failure> {
        for (path, text) in &self.plan.files {
            write(Path::new(&fill(path, &self.variables)?), &fill(text, &self.variables)?)?;
        }
        Ok(())
    }

    async fn step(&mut self, step: &ServerStep) -> Result<(), Failure> {
        let target = match &step.creates {
            Some(target) => {
                let target = PathBuf::from(fill(target, &self.variables)?);
                if target.exists() {
                    return Ok(());
                }
                let fresh = target.with_extension("new");
                // Left by a start that was cut off.
                if let Err(source) = fs::remove_dir_all(&fresh)
                    && source.kind() != io::ErrorKind::NotFound
                {
                    return Err(Failure::Io { what: format!("clearing {}", fresh.display()), source });
                }
                self.variables.insert("TARGET".into(), fresh.display().to_string());
                Some((fresh, target))
            }
            None => None,
        };
        let memory = self.memory(step)?;
        if let Some((path, told)) = &memory
            && fs::read_to_string(path).is_ok_and(|before| before == *told)
        {
            return Ok(());
        }
        // Where a command fails, it ends with this.
        let beside = match &step.server {
            Some(server) => Some(self.begin(server).await?),
            None => None,
        };
        for command in &step.commands {
            self.command(command).await?;
        }
        if let Some(mut server) = beside {
            end(&server, self.plan.stop_signal);
            server.wait().await.map_err(|source| Failure::Io { what: "ending the server of a step".into(), source })?;
        }
        if let Some((path, told)) = memory {
            let fresh = path.with_extension("new");
            write(&fresh, &told)?;
            rename(&fresh, &path)?;
        }
        match target {
            Some((fresh, target)) => rename(&fresh, &target),
            None => Ok(()),
        }
    }

    /// The file of a step that remembers, and the digest of what it will tell its commands.
    fn memory(&self, step: &ServerStep) -> Result<Option<(PathBuf, String)>, Failure> {
        let Some(path) = &step.remembers else { return Ok(None) };
        let mut told = String::new();
        for command in &step.commands {
            told.push_str(&command.program);
            for text in command.args.iter().chain(&command.stdin) {
                told.push('\0');
                told.push_str(&fill(text, &self.variables)?);
                if let Some(file) = self.plan.files.get(text) {
                    told.push('\0');
                    told.push_str(&fill(file, &self.variables)?);
                }
            }
        }
        Ok(Some((PathBuf::from(fill(path, &self.variables)?), domain::server::digest(&told))))
    }

    fn prepare(&self, program: &Path, args: &[String]) -> Result<Command, Failure> {
        let args = args.iter().map(|arg| fill(arg, &self.variables)).collect::<Result<Vec<_>, _>>()?;
        let mut command = Command::new(program);
        command.args(args).kill_on_drop(true);
        Ok(command)
    }

    /// Beside the server first: its helpers are of the same version.
    fn find(&self, program: &str) -> Result<PathBuf, Failure> {
        let beside = self.program.parent().map(|folder| folder.join(program)).filter(|path| is_program(path));
        let names = [program.to_owned()];
        beside
            .or_else(|| find(&self.plan.folders, &names, None))
            .ok_or_else(|| Failure::Missing { programs: names.to_vec(), package: self.plan.package.clone() })
    }

    async fn command(&mut self, command: &ServerCommand) -> Result<(), Failure> {
        let program = self.find(&command.program)?;
        let io = |source| Failure::Io { what: format!("running {}", command.program), source };
        let mut prepared = self.prepare(&program, &command.args)?;
        let stdin = command.stdin.as_ref().map(|text| fill(text, &self.variables)).transpose()?;
        prepared.stdin(if stdin.is_some() { Stdio::piped() } else { Stdio::null() });
        let mut child = prepared.spawn().map_err(io)?;
        if let (Some(text), Some(mut pipe)) = (stdin, child.stdin.take()) {
            pipe.write_all(text.as_bytes()).await.map_err(io)?;
        }
        let status = tokio::select! {
            status = child.wait() => status.map_err(io)?,
            // Whatever it was making is made anew next time.
            _ = self.stop.recv() => return Err(Failure::Stopped),
        };
        if status.success() { Ok(()) } else { Err(Failure::Command { program: command.program.clone(), status }) }
    }

    /// Starts the server of a step and waits until it accepts connections.
    async fn begin(&mut self, server: &StepServer) -> Result<Child, Failure> {
        let program = self.program.clone();
        let io = |source| Failure::Io { what: format!("running {}", program.display()), source };
        let socket = fill(&server.socket, &self.variables)?;
        let mut child = self.prepare(&program, &server.args)?.stdin(Stdio::null()).spawn().map_err(io)?;
        while tokio::net::UnixStream::connect(&socket).await.is_err() {
            tokio::select! {
                status = child.wait() => {
                    return Err(Failure::Command { program: program.display().to_string(), status: status.map_err(io)? });
                }
                _ = self.stop.recv() => return Err(Failure::Stopped),
                () = tokio::time::sleep(Duration::from_millis(50)) => {}
            }
        }
        Ok(child)
    }

    async fn serve(&mut self) -> Result<ExitStatus, Failure> {
        let program = self.program.clone();
        let io = |source| Failure::Io { what: format!("running {}", program.display()), source };
        let mut child = self.prepare(&program, &self.plan.start)?.kill_on_drop(false).stdin(Stdio::null()).spawn().map_err(io)?;
        loop {
            tokio::select! {
                status = child.wait() => return status.map_err(io),
                _ = self.stop.recv() => end(&child, self.plan.stop_signal),
            }
        }
    }
}

fn end(child: &Child, how: Option<StopSignal>) {
    let signal = match how {
        None => Signal::SIGTERM,
        Some(StopSignal::Sigint) => Signal::SIGINT,
        Some(StopSignal::Sigquit) => Signal::SIGQUIT,
    };
    if let Some(pid) = child.id().and_then(|pid| i32::try_from(pid).ok()) {
        // It may have ended by itself; then it is waited for next.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
    }
}
