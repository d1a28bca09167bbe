//! The supervisor of one replica: `orrery shim DIR`.
//!
//! It lives as long as its app, in a session of its own, whatever becomes of the control plane. It starts the app in its sandbox, starts
//! it again by the replica's restart policy, keeps its output and `state.json`, and ends it when it is told to by SIGTERM. When it is
//! killed itself, the sandbox's guard notices and ends the app, so an app never runs without a supervisor.

mod app;
mod lines;
mod ringer;
mod spool;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::Timestamp;
use domain::redact::Redactor;
use domain::spec::{RestartPolicy, RunPlan};
use nix::fcntl::{Flock, FlockArg};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::cgroup::{self, Group};
use crate::folder::{Folder, Order, State};
use crate::proc::Identity;
use crate::sandbox::{Bind, Sandbox, own_program};
use crate::{ObservedPhase, ReplicaSpec, VolumeMount};

use app::{End, Run};
use ringer::Ringer;
use spool::Spool;

/// What the supervisor says on standard output once its state file is there.
pub(crate) const READY: &str = "ready\n";
/// The exit status of a second supervisor over the same folder.
pub(crate) const ALREADY_SUPERVISED: i32 = 3;

/// The pause before the first restart; each further one is twice as long, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// An app that ran for so long has recovered: the count of its restarts begins anew.
const RECOVERED: Duration = Duration::from_secs(60);

/// Keeps the replica of the folder `dir` alive until it is over; the subcommand `shim`. Returns the exit status of the process. Must be
/// called before any thread is started.
#[must_use]
pub fn shim_main(dir: &Path) -> i32 {
    match begin(dir) {
        Ok(()) => 0,
        Err(Failure::AlreadySupervised) => ALREADY_SUPERVISED,
        Err(failure) => {
            // Without standard error there is nobody to tell.
            let _ = writeln!(io::stderr(), "{failure}");
            1
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("another supervisor has this replica")]
    AlreadySupervised,
    #[error("{path} cannot be used: {source}")]
    File { path: PathBuf, source: io::Error },
    #[error("the supervisor cannot start: {0}")]
    System(#[from] io::Error),
}

fn begin(dir: &Path) -> Result<(), Failure> {
    // It fails for the leader of a process group, as which a person may have started it.
    let _ = nix::unistd::setsid();
    let folder = Folder::new(dir.canonicalize().map_err(|source| Failure::File { path: dir.to_owned(), source })?);
    let spec = folder.spec();
    let file = |source| Failure::File { path: spec.clone(), source };
    let claim = Flock::lock(File::open(&spec).map_err(file)?, FlockArg::LockExclusiveNonblock);
    let _claim = claim.map_err(|_| Failure::AlreadySupervised)?;
    let order = folder.order().map_err(file)?;
    cgroup::leave_service();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async { Supervisor::new(folder, order)?.supervise().await })?;
    Ok(())
}

/// A supervisor lives, also one that has not written its state yet. An error tells nothing about it.
pub(crate) fn is_supervised(folder: &Folder) -> io::Result<bool> {
    let file = match File::open(folder.spec()) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(_) => Ok(false),
        Err((_, nix::errno::Errno::EWOULDBLOCK)) => Ok(true),
        Err((_, error)) => Err(error.into()),
    }
}

struct Supervisor {
    folder: Folder,
    replica: ReplicaSpec,
    sandbox: Sandbox,
    group: Option<Group>,
    state: State,
    spool: Spool,
    ringer: Ringer,
    terminate: Signal,
}

/// What follows on the end of an app.
enum Verdict {
    Again,
    Over(ObservedPhase),
}

impl Supervisor {
    fn new(folder: Folder, order: Order) -> io::Result<Self> {
        let sandbox = sandbox(&folder, &order);
        let Order { replica, bell, .. } = order;
        let name = replica.replica_id.to_string();
        let state = State {
            phase: ObservedPhase::Running,
            since: Timestamp::now(),
            supervisor: Identity::own()?,
            guard: None,
            port: replica.port,
            restarts: 0,
        };
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            spool: Spool::open(&folder.logs(), Redactor::of_secrets(&replica.env, &replica.sealed))?,
            ringer: Ringer::new(&bell, &name),
            group: Group::prepare(&name, &replica.limits).map(|(group, _)| group),
            sandbox,
            folder,
            replica,
            state,
        })
    }

    async fn supervise(mut self) -> io::Result<()> {
        self.folder.write_state(&self.state)?;
        self.ringer.now();
        announce()?;
        let (mut failures, mut pause) = (0, FIRST_PAUSE);
        loop {
            // It may have been asked before there was anybody to ask.
            if !matches!(self.folder.stop(), Ok(None)) {
                self.end(ObservedPhase::Stopped);
                return Ok(());
            }
            let run = self.run().await?;
            if run.stopped {
                let said = self.describe(&run);
                self.spool.note(false, &format!("The app {said} after it was asked to stop."));
                self.end(ObservedPhase::Stopped);
                return Ok(());
            }
            if run.lasted >= RECOVERED {
                (failures, pause) = (0, FIRST_PAUSE);
            }
            let said = self.describe(&run);
            match self.judge(&run, &said, failures) {
                Verdict::Over(phase) => {
                    self.note(&run, &format!("The app {said}."));
                    self.end(phase);
                    return Ok(());
                }
                Verdict::Again => self.note(&run, &format!("The app {said}; it starts again in {} ms.", pause.as_millis())),
            }
            failures += 1;
            self.state.restarts += 1;
            self.enter(ObservedPhase::Restarting, None);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                _ = self.terminate.recv() => {
                    self.end(ObservedPhase::Stopped);
                    return Ok(());
                }
            }
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }

    fn judge(&self, run: &Run, said: &str, failures: u32) -> Verdict {
        let well = matches!(run.end, End::Status(0));
        let tries = self.replica.max_retries;
        let reason = match (self.replica.restart, well) {
            (RestartPolicy::Always, _) => return Verdict::Again,
            (_, true) => return Verdict::Over(ObservedPhase::Exited),
            (RestartPolicy::OnFailure, false) if failures < tries => return Verdict::Again,
            (RestartPolicy::OnFailure, false) if tries > 0 => {
                format!("{said} ({tries} restart{} used up)", if tries == 1 { "" } else { "s" })
            }
            (RestartPolicy::OnFailure | RestartPolicy::Never, false) => said.to_owned(),
        };
        let (code, signal) = match run.end {
            End::Status(code) => (Some(code), None),
            End::Signal(number) => (None, Some(number)),
        };
        Verdict::Over(ObservedPhase::Crashed { code, signal, reason })
    }

    /// How the app ended, in words.
    fn describe(&self, run: &Run) -> String {
        let how = match &run.end {
            End::Status(code) => format!("exited with status {code}"),
            End::Signal(number) => format!("ended by signal {number}"),
        };
        match self.replica.limits.memory_bytes.filter(|_| run.out_of_memory) {
            Some(bytes) => format!("{how}: out of memory at {} MB", megabytes(bytes)),
            None => how,
        }
    }

    fn note(&mut self, run: &Run, text: &str) {
        self.spool.note(!matches!(run.end, End::Status(0)), text);
        self.ringer.output();
    }

    /// Makes a phase known. An app does not end because the disk is full: then its last known phase stands, and should this process
    /// end as well, the replica counts as lost.
    fn enter(&mut self, phase: ObservedPhase, guard: Option<Identity>) {
        if phase != self.state.phase {
            self.state.since = Timestamp::now();
        }
        (self.state.phase, self.state.guard) = (phase, guard);
        if let Err(error) = self.folder.write_state(&self.state) {
            // The log of this process is on the same disk; there is nobody else to tell.
            let _ = writeln!(io::stderr(), "state.json cannot be written: {error}");
        }
        self.ringer.now();
    }

    fn end(&mut self, phase: ObservedPhase) {
        self.enter(phase, None);
        if let Some(group) = &self.group {
            group.remove_soon();
        }
    }

    fn command(&self) -> io::Result<tokio::process::Command> {
        let root = &self.replica.root;
        let command = match &self.replica.run {
            RunPlan::Command { command, .. } => self.sandbox.command("/bin/sh", &["-c", command], &environment(&self.replica), root),
            RunPlan::Server(plan) => {
                // It holds no secret: what it needs of them are placeholders.
                let plan = serde_json::to_string(plan)?;
                let args = [crate::launch::SUBCOMMAND, &plan, volume_variable()];
                self.sandbox.command(own_program(), &args, &environment(&self.replica), root)
            }
            RunPlan::Static { root: folder, spa } => {
                let (folder, port) = (root.join(folder).display().to_string(), self.replica.port.to_string());
                let mut args = vec!["static", "--root", &folder, "--port", &port];
                args.extend(spa.then_some("--spa"));
                self.sandbox.command(own_program(), &args, &environment(&self.replica), root)
            }
        };
        command.map_err(io::Error::other)
    }
}

/// The sandbox of a replica's app, and of what is started beside it.
pub(crate) fn sandbox(folder: &Folder, order: &Order) -> Sandbox {
    let replica = &order.replica;
    Sandbox {
        user: replica.user,
        root: replica.root.clone(),
        overlay: Some(folder.path().to_owned()),
        writable: vec![],
        readable: vec![],
        binds: replica.volume.iter().map(bind).collect(),
        hidden: order.hidden.clone(),
        limits: replica.limits,
        cgroup: Some(replica.replica_id.to_string()),
        network: true,
    }
}

/// What an app finds in its environment. `PORT` is where the edge will look for it, so nothing may change it.
pub(crate) fn environment(replica: &ReplicaSpec) -> BTreeMap<String, String> {
    let mut env = BTreeMap::from([("HOME".to_owned(), replica.root.display().to_string())]);
    env.extend(replica.env.clone());
    if let RunPlan::Command { env: built, .. } = &replica.run {
        env.extend(built.clone());
    }
    env.insert("PORT".to_owned(), replica.port.to_string());
    env
}

/// Where an app finds its volume (`contracts/railway.md` 3.6).
fn volume_variable() -> &'static str {
    "RAILWAY_VOLUME_MOUNT_PATH"
}

fn bind(volume: &VolumeMount) -> Bind {
    Bind { source: volume.source.clone(), target: volume.path.clone(), variable: volume_variable().to_owned() }
}

/// Tells the driver that this process has taken over, and lets go of the pipe.
fn announce() -> io::Result<()> {
    let mut stdout = io::stdout();
    // A driver that has ended meanwhile does not listen; the replica goes on.
    let _ = stdout.write_all(READY.as_bytes()).and_then(|()| stdout.flush());
    let null = File::options().write(true).open("/dev/null")?;
    nix::unistd::dup2_stdout(&null)?;
    Ok(())
}

fn megabytes(bytes: u64) -> u64 {
    if bytes.is_multiple_of(1 << 20) { bytes >> 20 } else { bytes / 1_000_000 }
}
