//! Replicas that are only played: no processes, but real loopback listeners, so that health checks, the edge and the engine can be tried
//! against every fault without a sandbox.
//!
//! A played app answers any HTTP request with 200 and its replica's id. How the next ones behave is said with [`SimDriver::script`] or
//! [`SimDriver::script_next`]; running ones are steered with [`SimDriver::crash`], [`SimDriver::exit`], [`SimDriver::restart`],
//! [`SimDriver::lose`], [`SimDriver::listen`], [`SimDriver::answer`], [`SimDriver::hang`] and [`SimDriver::load`].

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use domain::shell::ShellSpec;
use domain::{ReplicaId, Timestamp};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;

use crate::{BoxFuture, Driver, DriverError, Observation, ObservedPhase, ReplicaSpec, ReplicaUsage, Shell};

/// Connections that wait to be accepted.
const BACKLOG: u32 = 128;

/// No status: connections are taken, and instead of an answer there is nothing.
pub const SILENT: u16 = 0;

/// How a played app behaves from its start on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Script {
    /// `start` fails with this text.
    pub refuse_start: Option<String>,
    /// Connections are refused for so long, or until [`SimDriver::listen`].
    pub listens_after: Option<Duration>,
    /// The status that requests are answered with; see [`SILENT`].
    pub status: u16,
    /// It ends by itself.
    pub ending: Option<(Duration, Ending)>,
    /// It takes the whole grace to stop, instead of stopping at once.
    pub stubborn: bool,
}

impl Default for Script {
    /// Healthy at once and for ever.
    fn default() -> Self {
        Self { refuse_start: None, listens_after: None, status: 200, ending: None, stubborn: false }
    }
}

/// How a played app ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With status 0, not to be started again.
    Exit,
    /// With this status, its restarts used up.
    Crash(i32),
    /// Together with its supervisor.
    Lose,
}

/// Plays replicas. Cheap to clone; clones play the same ones.
#[derive(Clone)]
pub struct SimDriver {
    stage: Arc<Mutex<Stage>>,
    rings: watch::Sender<u64>,
}

#[derive(Default)]
struct Stage {
    script: Script,
    next: VecDeque<Script>,
    replicas: BTreeMap<ReplicaId, Actor>,
    graces: BTreeMap<ReplicaId, Duration>,
}

struct Actor {
    spec: ReplicaSpec,
    port: u16,
    phase: ObservedPhase,
    since: Timestamp,
    restarts: u32,
    stubborn: bool,
    status: watch::Sender<u16>,
    /// Rings when it is to listen at once.
    listens: Arc<Notify>,
    /// Cores that it uses, since when, and the CPU time that it used before.
    load: (f64, Instant, Duration),
    memory_bytes: u64,
    /// The listener and its connections; gone when the app has ended.
    playing: Option<JoinSet<()>>,
}

impl Actor {
    fn cpu_time(&self) -> Duration {
        let (cores, since, before) = self.load;
        before + since.elapsed().mul_f64(cores)
    }
}

impl Default for SimDriver {
    fn default() -> Self {
        Self::new()
    }
}

impl SimDriver {
    /// A stage without replicas. Replicas must be started inside a tokio runtime.
    #[must_use]
    pub fn new() -> Self {
        Self { stage: Arc::default(), rings: watch::channel(0).0 }
    }

    /// How every app that is started from now on behaves.
    pub fn script(&self, script: Script) {
        self.stage().script = script;
    }

    /// How the next app that is started behaves; called again, the one after it.
    pub fn script_next(&self, script: Script) {
        self.stage().next.push_back(script);
    }

    /// What every replica was started with, also those that have ended.
    #[must_use]
    pub fn specs(&self) -> Vec<ReplicaSpec> {
        self.stage().replicas.values().map(|actor| actor.spec.clone()).collect()
    }

    /// How long the app was given to end when it was last told to.
    #[must_use]
    pub fn grace(&self, replica: ReplicaId) -> Option<Duration> {
        self.stage().graces.get(&replica).copied()
    }

    /// The app ends with `status` and its restarts are used up.
    pub fn crash(&self, replica: ReplicaId, status: i32) {
        self.finish(replica, crashed(status));
    }

    /// The app ends well.
    pub fn exit(&self, replica: ReplicaId) {
        self.finish(replica, ObservedPhase::Exited);
    }

    /// The supervisor is gone, and the app with it.
    pub fn lose(&self, replica: ReplicaId) {
        self.finish(replica, ObservedPhase::Lost);
    }

    /// The app was started again: its count of restarts rises and its open connections break.
    pub fn restart(&self, replica: ReplicaId) {
        if let Some(actor) = self.stage().replicas.get_mut(&replica).filter(|actor| !actor.phase.is_over()) {
            actor.restarts += 1;
            actor.since = Timestamp::now();
            let status = *actor.status.borrow();
            // The same value, as a change: connections end.
            actor.status.send_replace(status);
        }
        self.ring();
    }

    /// An app that does not listen yet does from now on.
    pub fn listen(&self, replica: ReplicaId) {
        if let Some(actor) = self.stage().replicas.get(&replica) {
            actor.listens.notify_one();
        }
    }

    /// Requests are answered with `status` from now on.
    pub fn answer(&self, replica: ReplicaId, status: u16) {
        if let Some(actor) = self.stage().replicas.get(&replica) {
            actor.status.send_replace(status);
        }
    }

    /// Connections are taken from now on, and no request is answered.
    pub fn hang(&self, replica: ReplicaId) {
        self.answer(replica, SILENT);
    }

    /// The app uses so many cores and so much memory from now on. At its start it uses nothing.
    pub fn load(&self, replica: ReplicaId, cores: f64, memory_bytes: u64) {
        if let Some(actor) = self.stage().replicas.get_mut(&replica) {
            actor.load = (cores, Instant::now(), actor.cpu_time());
            actor.memory_bytes = memory_bytes;
        }
    }

    fn stage(&self) -> std::sync::MutexGuard<'_, Stage> {
        self.stage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        self.rings.send_modify(|count| *count = count.wrapping_add(1));
    }

    fn finish(&self, replica: ReplicaId, phase: ObservedPhase) {
        if let Some(actor) = self.stage().replicas.get_mut(&replica).filter(|actor| !actor.phase.is_over()) {
            (actor.phase, actor.since, actor.playing) = (phase, Timestamp::now(), None);
        }
        self.ring();
    }

    fn start_replica(&self, spec: ReplicaSpec) -> Result<(), DriverError> {
        let replica = spec.replica_id;
        let mut stage = self.stage();
        if stage.replicas.contains_key(&replica) {
            return Ok(());
        }
        let script = stage.next.pop_front().unwrap_or_else(|| stage.script.clone());
        if let Some(reason) = script.refuse_start {
            return Err(DriverError::Simulated(reason));
        }
        // Bound but not listening: the port is ours, and connections are refused until the app is there.
        let bound = || -> io::Result<(TcpSocket, u16)> {
            let socket = TcpSocket::new_v4()?;
            socket.bind((Ipv4Addr::LOCALHOST, spec.port).into())?;
            let port = socket.local_addr()?.port();
            Ok((socket, port))
        };
        let (socket, port) = bound().map_err(|error| DriverError::Simulated(format!("no port for a played replica: {error}")))?;
        let (status, answers) = watch::channel(script.status);
        let mut playing = JoinSet::new();
        let listens = Arc::new(Notify::new());
        match script.listens_after {
            // At once means: before `start` returns.
            None => {
                let listener = socket.listen(BACKLOG).map_err(|error| DriverError::Simulated(error.to_string()))?;
                playing.spawn(play(listener, replica, answers));
            }
            Some(pause) => {
                let (rings, told) = (self.rings.clone(), listens.clone());
                playing.spawn(async move {
                    // Told or not, it listens then.
                    let _ = tokio::time::timeout(pause, told.notified()).await;
                    let Ok(listener) = socket.listen(BACKLOG) else { return };
                    rings.send_modify(|count| *count = count.wrapping_add(1));
                    play(listener, replica, answers).await;
                });
            }
        }
        if let Some((after, ending)) = script.ending {
            let driver = self.clone();
            // Not among its own tasks, which end with the app.
            tokio::spawn(async move {
                tokio::time::sleep(after).await;
                let phase = match ending {
                    Ending::Exit => ObservedPhase::Exited,
                    Ending::Crash(status) => crashed(status),
                    Ending::Lose => ObservedPhase::Lost,
                };
                driver.finish(replica, phase);
            });
        }
        let (phase, since) = (ObservedPhase::Running, Timestamp::now());
        let (load, memory_bytes, playing) = ((0.0, Instant::now(), Duration::ZERO), 0, Some(playing));
        let (restarts, stubborn) = (0, script.stubborn);
        let actor = Actor { port, phase, since, restarts, stubborn, status, listens, load, memory_bytes, playing, spec };
        stage.replicas.insert(replica, actor);
        drop(stage);
        self.ring();
        Ok(())
    }

    fn stop_replica(&self, replica: ReplicaId, grace: Duration) {
        self.stage().graces.insert(replica, grace);
        let stubborn = match self.stage().replicas.get_mut(&replica).filter(|actor| !actor.phase.is_over()) {
            Some(actor) => {
                (actor.phase, actor.since) = (ObservedPhase::Stopping, Timestamp::now());
                actor.stubborn
            }
            None => return,
        };
        if stubborn {
            let driver = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(grace).await;
                driver.finish(replica, ObservedPhase::Stopped);
            });
            self.ring();
        } else {
            self.finish(replica, ObservedPhase::Stopped);
        }
    }
}

impl Driver for SimDriver {
    fn start(&self, spec: ReplicaSpec) -> BoxFuture<'_, Result<(), DriverError>> {
        Box::pin(async { self.start_replica(spec) })
    }

    fn stop(&self, replica: ReplicaId, grace: Duration) -> BoxFuture<'_, Result<(), DriverError>> {
        Box::pin(async move {
            self.stop_replica(replica, grace);
            Ok(())
        })
    }

    fn observe(&self) -> BoxFuture<'_, Result<Vec<Observation>, DriverError>> {
        Box::pin(async {
            let stage = self.stage();
            let observe = |(id, actor): (&ReplicaId, &Actor)| Observation {
                replica_id: *id,
                port: actor.port,
                phase: actor.phase.clone(),
                restarts: actor.restarts,
                app_pid: None,
                since: actor.since,
                volume: actor.spec.volume.as_ref().filter(|_| !actor.phase.is_over()).map(|volume| volume.source.clone()),
            };
            Ok(stage.replicas.iter().map(observe).collect())
        })
    }

    fn usage<'a>(&'a self, replicas: &'a [ReplicaId]) -> BoxFuture<'a, Vec<(ReplicaId, ReplicaUsage)>> {
        Box::pin(async move {
            let stage = self.stage();
            let playing = |replica: &ReplicaId| stage.replicas.get(replica).filter(|actor| actor.playing.is_some());
            let usage = |actor: &Actor| ReplicaUsage {
                cpu_nanos: u64::try_from(actor.cpu_time().as_nanos()).unwrap_or(u64::MAX),
                memory_bytes: actor.memory_bytes,
                ephemeral_disk_bytes: 0,
            };
            replicas.iter().filter_map(|replica| Some((*replica, usage(playing(replica)?)))).collect()
        })
    }

    fn shell(&self, replica: ReplicaId, _: ShellSpec) -> BoxFuture<'_, Result<Shell, DriverError>> {
        Box::pin(async move { Err(DriverError::Simulated(format!("replica {replica} is only played: nothing can be started beside it"))) })
    }

    fn forget(&self, replica: ReplicaId) -> BoxFuture<'_, Result<(), DriverError>> {
        Box::pin(async move {
            let mut stage = self.stage();
            if stage.replicas.get(&replica).is_some_and(|actor| !actor.phase.is_over()) {
                return Err(DriverError::Alive(replica));
            }
            stage.replicas.remove(&replica);
            Ok(())
        })
    }

    fn bell(&self) -> watch::Receiver<u64> {
        self.rings.subscribe()
    }
}

fn crashed(status: i32) -> ObservedPhase {
    ObservedPhase::Crashed { code: Some(status), signal: None, reason: format!("exited with status {status}") }
}

async fn play(listener: TcpListener, replica: ReplicaId, status: watch::Receiver<u16>) {
    let mut connections = JoinSet::new();
    // A listener fails when the process has run out of descriptors; a test sees refused connections then.
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let mut status = status.clone();
        connections.spawn(async move {
            status.mark_unchanged();
            let code = *status.borrow();
            tokio::select! {
                // The client has gone away; so has the reason to answer.
                _ = converse(stream, replica, code) => {}
                _ = status.changed() => {}
            }
        });
    }
}

/// Answers the requests of one connection. Bodies of requests are not expected.
async fn converse(stream: TcpStream, replica: ReplicaId, status: u16) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let body = replica.to_string();
    let answer = format!("HTTP/1.1 {status} Played\r\ncontent-type: text/plain\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    let mut line = String::new();
    while stream.read_line(&mut line).await? > 0 {
        // The blank line ends the head.
        if line.trim_end().is_empty() && status != SILENT {
            stream.write_all(answer.as_bytes()).await?;
        }
        line.clear();
    }
    Ok(())
}
