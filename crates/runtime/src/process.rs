//! Replicas as processes of this machine, each under a detached supervisor of its own (`orrery shim DIR`, see [`crate::shim_main`]).
//!
//! The driver keeps nothing that matters in memory: supervisors outlive it, and the next driver over the same data directory finds them
//! by their folders.

mod bell;
mod meter;
mod ports;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io;
use std::ops::RangeInclusive;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use domain::shell::ShellSpec;
use domain::{ReplicaId, Timestamp};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::AsyncReadExt;

use crate::cgroup::Group;
use crate::folder::{self, Folder, Order, Stop};
use crate::proc::{self, Identity};
use crate::{BoxFuture, Driver, DriverError, Observation, ObservedPhase, ReplicaSpec, ReplicaUsage, Shell, sandbox, shim};

use bell::Bell;
pub(crate) use bell::address as bell_address;
use meter::Meter;
use ports::Ports;

/// The driver's settings.
#[derive(Clone, Debug)]
pub struct ProcessConfig {
    /// Replicas live in `replicas/<id>/` below, the bell's socket in `run/`.
    pub data_dir: PathBuf,
    /// The program that knows the subcommands `shim DIR` and `sandbox-exec`.
    pub exe: PathBuf,
    /// What apps shall not see.
    pub hidden: Vec<PathBuf>,
    /// Loopback ports that replicas are given.
    pub port_range: RangeInclusive<u16>,
}

/// See the module. Dropping it leaves the replicas alone.
pub struct ProcessDriver {
    exe: PathBuf,
    hidden: Vec<PathBuf>,
    replicas: PathBuf,
    run: PathBuf,
    ports: Arc<Mutex<Ports>>,
    /// Replicas whose supervisor is just being started.
    starting: Arc<Mutex<HashSet<ReplicaId>>>,
    /// The volumes' folders, as far as they were looked up: an order is not written again while its supervisor lives.
    volumes: Mutex<HashMap<ReplicaId, Option<PathBuf>>>,
    bell: Bell,
    meter: Meter,
}

impl ProcessDriver {
    /// Opens the data directory and adopts the replicas that run there. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// When the data directory cannot be used.
    pub fn new(config: ProcessConfig) -> Result<Self, DriverError> {
        let ProcessConfig { data_dir, exe, hidden, port_range } = config;
        let storage = |path: &Path| {
            let path = path.to_owned();
            move |source| DriverError::Storage { path, source }
        };
        let make = |path: &Path, mode: u32| fs::DirBuilder::new().recursive(true).mode(mode).create(path).map_err(storage(path));
        make(&data_dir, 0o711)?;
        let data_dir = data_dir.canonicalize().map_err(storage(&data_dir))?;
        let (replicas, run) = (data_dir.join("replicas"), data_dir.join("run"));
        make(&replicas, 0o711)?;
        make(&run, 0o700)?;
        let hidden = hidden.into_iter().map(|path| path.canonicalize().unwrap_or(path)).collect();
        let driver = Self {
            // Supervisors start in another folder.
            exe: std::path::absolute(&exe).unwrap_or(exe),
            hidden,
            ports: Arc::new(Mutex::new(Ports::new(port_range))),
            starting: Arc::default(),
            volumes: Mutex::default(),
            bell: Bell::hang(&run).map_err(storage(&run))?,
            meter: Meter::new(),
            replicas,
            run,
        };
        for (replica, folder) in driver.folders()? {
            if let Ok(order) = folder.order() {
                lock(&driver.ports).hold(replica, order.replica.port);
            }
            if let Ok(Some(state)) = folder.state() {
                driver.bell.watch(state.supervisor);
            }
        }
        Ok(driver)
    }

    fn folder(&self, replica: ReplicaId) -> Folder {
        Folder::new(self.replicas.join(replica.to_string()))
    }

    fn folders(&self) -> Result<Vec<(ReplicaId, Folder)>, DriverError> {
        let failed = |source| DriverError::Storage { path: self.replicas.clone(), source };
        let mut folders = vec![];
        for entry in fs::read_dir(&self.replicas).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if let Some(replica) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                folders.push((replica, Folder::new(entry.path())));
            }
        }
        Ok(folders)
    }

    async fn start_replica(&self, mut spec: ReplicaSpec) -> Result<(), DriverError> {
        let replica = spec.replica_id;
        let folder = self.folder(replica);
        if let Some(state) = read_state(&folder)?
            && (state.phase.is_over() || is_alive(state.supervisor, &folder)?)
        {
            return Ok(());
        }
        let artifact = |source| DriverError::Artifact { path: spec.root.clone(), source };
        spec.root = fs::canonicalize(&spec.root).map_err(artifact)?;
        if !lock(&self.starting).insert(replica) {
            // Another task has begun it and will tell whether it worked.
            return Ok(());
        }
        let _turn = Turn { starting: self.starting.clone(), replica };
        spec.port = lock(&self.ports).take(replica, spec.port)?;
        lock(&self.volumes).remove(&replica);
        let order = Order { replica: spec, hidden: self.hidden.clone(), bell: self.run.clone() };
        let storage = |source| DriverError::Storage { path: folder.path().to_owned(), source };
        folder.make().and_then(|()| folder.clear()).and_then(|()| folder.write_order(&order)).map_err(storage)?;
        self.spawn(&folder).await
    }

    /// Starts the supervisor and waits until it has taken over.
    async fn spawn(&self, folder: &Folder) -> Result<(), DriverError> {
        let path = folder.supervisor_log();
        let storage = |source| DriverError::Storage { path: path.clone(), source };
        let log = fs::OpenOptions::new().create(true).append(true).open(&path).map_err(storage)?;
        let mut child = tokio::process::Command::new(&self.exe)
            .arg("shim")
            .arg(folder.path())
            .env_clear()
            // Where this process was started must stay free to be unmounted.
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .map_err(|source| DriverError::Spawn { exe: self.exe.clone(), source })?;
        let mut word = String::new();
        if let Some(mut stdout) = child.stdout.take() {
            stdout.read_to_string(&mut word).await.map_err(storage)?;
        }
        if word == shim::READY {
            if let Some(state) = read_state(folder)? {
                self.bell.watch(state.supervisor);
            }
            return Ok(());
        }
        let status = child.wait().await.map_err(storage)?;
        if status.code() == Some(shim::ALREADY_SUPERVISED) {
            return Ok(());
        }
        let said = fs::read_to_string(&path).unwrap_or_default();
        Err(DriverError::Supervisor(said.lines().last().map_or_else(|| status.to_string(), str::to_owned)))
    }

    async fn stop_replica(&self, replica: ReplicaId, grace: Duration) -> Result<(), DriverError> {
        let folder = self.folder(replica);
        let storage = |source| DriverError::Storage { path: folder.path().to_owned(), source };
        if !folder.path().try_exists().map_err(storage)? {
            return Ok(());
        }
        // Also without a supervisor: one that is just starting looks for it.
        let grace_millis = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        folder.write_stop(&Stop { grace_millis }).map_err(storage)?;
        let Some(state) = read_state(&folder)?.filter(|state| !state.phase.is_over()) else { return Ok(()) };
        terminate(state.supervisor).map_err(storage)
    }

    fn observe_replicas(&self) -> Result<Vec<Observation>, DriverError> {
        let mut seen = vec![];
        for (replica, folder) in self.folders()? {
            // A folder can be forgotten while this looks at it, and one without a state is being started or was left by a crash.
            let observation = match folder.state() {
                Ok(Some(state)) => {
                    let runs = state.phase.is_over() || is_alive(state.supervisor, &folder)?;
                    let phase = if runs { state.phase } else { ObservedPhase::Lost };
                    self.bell.watch(state.supervisor);
                    let guard = state.guard.filter(|guard| !phase.is_over() && guard.is_alive().unwrap_or(false));
                    let app_pid = guard.and_then(|guard| proc::app_below(guard.pid));
                    let volume = if phase.is_over() { None } else { self.volume(replica, &folder)? };
                    Some(Observation {
                        replica_id: replica,
                        port: state.port,
                        phase,
                        restarts: state.restarts,
                        app_pid,
                        since: state.since,
                        volume,
                    })
                }
                Ok(None) => self.observe_without_state(replica, &folder)?,
                // Of whom nothing can be read, nothing may be assumed: another would start beside it, over the same volume.
                Err(source) if !folder::is_damage(&source) => {
                    return Err(DriverError::Storage { path: folder.path().to_owned(), source });
                }
                Err(error) => {
                    tracing::warn!(%error, %replica, "the state of a replica cannot be read; it counts as lost");
                    Some(lost(replica))
                }
            };
            seen.extend(observation);
        }
        Ok(seen)
    }

    fn volume(&self, replica: ReplicaId, folder: &Folder) -> Result<Option<PathBuf>, DriverError> {
        if let Some(known) = lock(&self.volumes).get(&replica) {
            return Ok(known.clone());
        }
        let order = match folder.order() {
            Ok(order) => order,
            Err(error) if error.kind() == io::ErrorKind::NotFound || folder::is_damage(&error) => return Ok(None),
            // A volume that seems free would be copied while it is written to.
            Err(source) => return Err(DriverError::Storage { path: folder.spec(), source }),
        };
        let volume = order.replica.volume.map(|volume| volume.source);
        lock(&self.volumes).insert(replica, volume.clone());
        Ok(volume)
    }

    fn observe_without_state(&self, replica: ReplicaId, folder: &Folder) -> Result<Option<Observation>, DriverError> {
        let storage = |source| DriverError::Storage { path: folder.path().to_owned(), source };
        let known = lock(&self.starting).contains(&replica) || shim::is_supervised(folder).map_err(storage)?;
        Ok((!known && folder.path().is_dir()).then(|| lost(replica)))
    }

    fn open_shell(&self, replica: ReplicaId, spec: ShellSpec) -> Result<Shell, DriverError> {
        let folder = self.folder(replica);
        let runs = |process: &Identity| process.is_alive().unwrap_or(false);
        let state = read_state(&folder)?.filter(|state| !state.phase.is_over() && runs(&state.supervisor));
        let guard = state.and_then(|state| state.guard).filter(|guard| runs(guard) && proc::app_below(guard.pid).is_some());
        let guard = guard.ok_or(DriverError::NotRunning(replica))?;
        let user = folder.order().map_err(DriverError::Shell)?.replica.user;
        let terminal = spec.terminal;
        let visit = sandbox::Visit { folder: folder.path().to_owned(), guard, shell: spec, parent: std::process::id() };
        let visit = serde_json::to_string(&visit).map_err(|error| DriverError::Shell(error.into()))?;
        let mut command = tokio::process::Command::new(&self.exe);
        command.arg0("orrery").arg(sandbox::SHELL_SUBCOMMAND).env_clear().env(sandbox::VARIABLE, visit).current_dir("/");
        Shell::start(command, terminal, user).map_err(DriverError::Shell)
    }

    fn forget_replica(&self, replica: ReplicaId) -> Result<(), DriverError> {
        let folder = self.folder(replica);
        let storage = |source| DriverError::Storage { path: folder.path().to_owned(), source };
        let alive = match folder.state() {
            Ok(Some(state)) => !state.phase.is_over() && is_alive(state.supervisor, &folder)?,
            Err(error) if !folder::is_damage(&error) => return Err(storage(error)),
            // A damaged state is no reason to keep the folder for ever.
            Ok(None) | Err(_) => lock(&self.starting).contains(&replica) || shim::is_supervised(&folder).map_err(storage)?,
        };
        if alive {
            return Err(DriverError::Alive(replica));
        }
        // Only after a supervisor was lost there is something left to end.
        let group = replica.to_string();
        if sandbox::remove_cgroup(&group).is_err() {
            // Its processes are on their way out; nobody has to wait for that.
            tokio::task::spawn_blocking(move || Group::find(&group).remove_soon());
        }
        folder.delete().map_err(storage)?;
        lock(&self.ports).release(replica);
        lock(&self.volumes).remove(&replica);
        Ok(())
    }
}

impl Driver for ProcessDriver {
    fn start(&self, spec: ReplicaSpec) -> BoxFuture<'_, Result<(), DriverError>> {
        Box::pin(self.start_replica(spec))
    }

    fn stop(&self, replica: ReplicaId, grace: Duration) -> BoxFuture<'_, Result<(), DriverError>> {
        Box::pin(self.stop_replica(replica, grace))
    }

    fn observe(&self) -> BoxFuture<'_, Result<Vec<Observation>, DriverError>> {
        Box::pin(async { self.observe_replicas() })
    }

    fn usage<'a>(&'a self, replicas: &'a [ReplicaId]) -> BoxFuture<'a, Vec<(ReplicaId, ReplicaUsage)>> {
        let folders = replicas.iter().map(|replica| (*replica, self.folder(*replica))).collect::<Vec<_>>();
        Box::pin(async move { self.meter.read(&folders) })
    }

    fn shell(&self, replica: ReplicaId, spec: ShellSpec) -> BoxFuture<'_, Result<Shell, DriverError>> {
        Box::pin(async move { self.open_shell(replica, spec) })
    }

    fn forget(&self, replica: ReplicaId) -> BoxFuture<'_, Result<(), DriverError>> {
        Box::pin(async move { self.forget_replica(replica) })
    }

    fn bell(&self) -> tokio::sync::watch::Receiver<u64> {
        self.bell.listen()
    }
}

/// The mark that a replica is being started, also when its task is dropped half way.
struct Turn {
    starting: Arc<Mutex<HashSet<ReplicaId>>>,
    replica: ReplicaId,
}

impl Drop for Turn {
    fn drop(&mut self) {
        lock(&self.starting).remove(&self.replica);
    }
}

fn lost(replica: ReplicaId) -> Observation {
    let since = Timestamp::UNIX_EPOCH;
    Observation { replica_id: replica, port: 0, phase: ObservedPhase::Lost, restarts: 0, app_pid: None, since, volume: None }
}

fn read_state(folder: &Folder) -> Result<Option<crate::folder::State>, DriverError> {
    folder.state().map_err(|source| DriverError::Storage { path: folder.path().to_owned(), source })
}

fn is_alive(supervisor: Identity, folder: &Folder) -> Result<bool, DriverError> {
    supervisor.is_alive().map_err(|source| DriverError::Storage { path: folder.path().to_owned(), source })
}

/// Sends SIGTERM to exactly that process.
fn terminate(process: Identity) -> io::Result<()> {
    let Some(pid) = i32::try_from(process.pid).ok().and_then(Pid::from_raw) else { return Ok(()) };
    match pidfd_open(pid, PidfdFlags::empty()) {
        // With the handle in hand the number cannot pass on to another process any more.
        Ok(handle) => match process.is_alive()?.then(|| pidfd_send_signal(handle, Signal::TERM)) {
            None | Some(Err(rustix::io::Errno::SRCH)) => Ok(()),
            Some(result) => result.map_err(io::Error::from),
        },
        Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    // The guarded collections are whole between any two of their methods.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
