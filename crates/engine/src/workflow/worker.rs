//! Performs nodes that execute what a user wrote, or decode what a stranger sent, in processes of their own: without network, without
//! files, with a limit on memory, and ended when they take too long. A template that loops, a program that allocates or a picture that
//! unfolds costs its own node and nothing else.
//!
//! A worker performs one node at a time and serves one workspace, so that nothing of one is left for another.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use domain::WorkspaceId;
use domain::spec::Limits;
use runtime::sandbox::{Sandbox, own_program};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit};

use super::nodes::{Failure, confined};
use crate::lock;

/// The hidden subcommand that performs nodes.
pub const NODE_WORKER: &str = "node-worker";

/// Workers at the same time.
const WORKERS: usize = 4;

/// Workers of one workspace at the same time: there is one left for others, however much it asks for.
const SHARE: usize = WORKERS / 2;

/// Address space of a worker in bytes: the program itself takes a part of it.
const MEMORY: u64 = 1 << 30;

/// The longest answer in bytes.
const ANSWER: u64 = 64 << 20;

#[derive(Serialize, Deserialize)]
struct Job {
    kind: String,
    input: Map<String, Value>,
}

/// What a node gives.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Given {
    pub(crate) output: Map<String, Value>,
    #[serde(default)]
    pub(crate) logs: Vec<String>,
}

/// The workers.
pub(crate) struct Workers {
    places: Semaphore,
    shares: Mutex<HashMap<WorkspaceId, Arc<Semaphore>>>,
    idle: Mutex<Vec<(WorkspaceId, Worker)>>,
    /// A folder of its own, and Orrery's, which it cannot see.
    root: PathBuf,
    hidden: PathBuf,
}

/// The right to one worker.
pub(crate) struct Place<'a> {
    _own: OwnedSemaphorePermit,
    _place: SemaphorePermit<'a>,
}

struct Worker {
    stream: tokio::io::BufReader<UnixStream>,
    /// Ended with everything inside when this is dropped.
    _child: Child,
}

impl Workers {
    pub(crate) fn new(data_dir: &std::path::Path) -> Self {
        let root = data_dir.join("scratch").join("node-worker");
        Self { places: Semaphore::new(WORKERS), shares: Mutex::default(), idle: Mutex::default(), root, hidden: data_dir.to_owned() }
    }

    /// Waits for a place. A workspace waits for one of its own share first, so that nobody else stands behind it.
    pub(crate) async fn place(&self, workspace: WorkspaceId) -> Result<Place<'_>, Failure> {
        let share = {
            let mut shares = lock(&self.shares);
            shares.retain(|_, share| Arc::strong_count(share) > 1);
            shares.entry(workspace).or_insert_with(|| Arc::new(Semaphore::new(SHARE))).clone()
        };
        let stopping = |_: AcquireError| Failure::again("the server is stopping");
        let own = share.acquire_owned().await.map_err(stopping)?;
        let place = self.places.acquire().await.map_err(stopping)?;
        Ok(Place { _own: own, _place: place })
    }

    /// Performs a node for whoever has a [`Place`]. Dropping the future ends the worker.
    pub(crate) async fn perform(&self, workspace: WorkspaceId, kind: &str, input: &Map<String, Value>) -> Result<Given, Failure> {
        let known = {
            let mut idle = lock(&self.idle);
            let at = idle.iter().position(|(of, _)| *of == workspace);
            at.map(|at| idle.swap_remove(at).1)
        };
        let mut worker = match known {
            Some(worker) => worker,
            None => self.start()?,
        };
        let job = Job { kind: kind.to_owned(), input: input.clone() };
        let outcome = worker.ask(&job).await?;
        let mut idle = lock(&self.idle);
        if idle.len() >= WORKERS {
            idle.remove(0);
        }
        idle.push((workspace, worker));
        outcome.map_err(Failure::once)
    }

    fn start(&self) -> Result<Worker, Failure> {
        let broken = |error: &dyn std::fmt::Display| Failure::again(format!("the worker of this node could not be started: {error}"));
        std::fs::create_dir_all(&self.root).map_err(|error| broken(&error))?;
        let sandbox = Sandbox {
            user: None,
            root: self.root.clone(),
            hidden: vec![self.hidden.clone()],
            limits: Limits::default(),
            ..Sandbox::default()
        };
        let (ours, theirs) = UnixStream::pair().map_err(|error| broken(&error))?;
        let theirs: OwnedFd =
            theirs.into_std().and_then(|stream| stream.set_nonblocking(false).map(|()| stream)).map_err(|error| broken(&error))?.into();
        let mut command = sandbox.command(own_program(), &[NODE_WORKER], &BTreeMap::new(), &self.root).map_err(|error| broken(&error))?;
        // Its answers come by the same way as its jobs.
        command.stdout(Stdio::from(theirs)).stderr(Stdio::null()).kill_on_drop(true);
        let child = command.spawn().map_err(|error| broken(&error))?;
        Ok(Worker { stream: tokio::io::BufReader::new(ours), _child: child })
    }
}

impl Worker {
    async fn ask(&mut self, job: &Job) -> Result<Result<Given, String>, Failure> {
        let mut line = serde_json::to_vec(job).map_err(|error| Failure::once(error.to_string()))?;
        line.push(b'\n');
        let ended = || Failure::once("it used more memory than a node may, or its sandbox could not be entered (see `orrery doctor`)");
        self.stream.get_mut().write_all(&line).await.map_err(|_| ended())?;
        let mut answer = vec![];
        let read = (&mut self.stream).take(ANSWER).read_until(b'\n', &mut answer).await;
        match read {
            Ok(0) | Err(_) => Err(ended()),
            Ok(_) if answer.last() != Some(&b'\n') => Err(Failure::once("its result is larger than a node's may be")),
            Ok(_) => serde_json::from_slice(&answer).map_err(|_| ended()),
        }
    }
}

/// The worker's side: reads jobs and answers them until nobody asks any more.
pub fn node_worker_main() {
    use nix::sys::resource::{Resource, setrlimit};
    // Where the limit cannot be set, the machine's own holds.
    let _ = setrlimit(Resource::RLIMIT_AS, MEMORY, MEMORY);
    let Ok(fd) = std::io::stdout().as_fd().try_clone_to_owned() else { return };
    let stream = std::os::unix::net::UnixStream::from(fd);
    let Ok(mut writer) = stream.try_clone() else { return };
    for line in BufReader::new(stream).split(b'\n') {
        let Ok(line) = line else { return };
        let Ok(job) = serde_json::from_slice::<Job>(&line) else { return };
        let done = std::panic::catch_unwind(AssertUnwindSafe(|| confined(&job.kind, job.input)));
        let outcome = done.unwrap_or_else(|_| Err("it ended abnormally".to_owned()));
        let Ok(mut answer) = serde_json::to_vec(&outcome) else { return };
        answer.push(b'\n');
        if writer.write_all(&answer).is_err() {
            return;
        }
    }
}
