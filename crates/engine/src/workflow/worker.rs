//! Performs nodes that execute what a user wrote, or decode what a stranger sent, in processes of their own: without network, without
//! files, with a limit on memory, and ended when they take too long. A template that loops, a program that allocates or a picture that
//! unfolds costs its own node and nothing else.
//!
//! A worker performs one node at a time and serves one workspace, so that nothing of one is left for another.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead, BufReader, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt as _, chown};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::{Arc, Mutex};

use domain::WorkspaceId;
use domain::spec::Limits;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use runtime::UnixUser;
use runtime::sandbox::{Sandbox, own_program};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::process::Child;
use tokio::sync::{AcquireError, OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use uuid::Uuid;

use super::nodes::{Failure, confined};
use crate::lock;

/// The hidden subcommand that performs nodes.
pub const NODE_WORKER: &str = "node-worker";

/// Workers at the same time.
const WORKERS: usize = 4;

/// Workers of one workspace at the same time: there is one left for others, however much it asks for.
const SHARE: usize = WORKERS / 2;

/// Address space of a worker, and memory of its control group, in bytes: the program itself takes a part of it.
const MEMORY: u64 = 1 << 30;

/// Thousandths of a processor that a worker may use.
const CPU: u32 = 1000;

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
    /// Whom they run as; `None` is Orrery's own user.
    pub(crate) user: Option<UnixUser>,
    /// Where each has an empty folder of its own, and Orrery's, which it cannot see.
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
    guard: Child,
    root: PathBuf,
}

impl Drop for Worker {
    fn drop(&mut self) {
        if let Some(guard) = self.guard.id().and_then(|id| i32::try_from(id).ok()) {
            // Asked like this it ends everything inside, and takes its control group along. It fails when it has ended already.
            let _ = kill(Pid::from_raw(guard), Signal::SIGALRM);
        }
        // What is left is removed with the next start.
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

impl Workers {
    pub(crate) fn new(data_dir: &Path, user: Option<UnixUser>) -> Self {
        let root = data_dir.join("scratch").join("node-worker");
        // Left by a server that was killed; absent is what it should be.
        let _ = std::fs::remove_dir_all(&root);
        Self { places: Semaphore::new(WORKERS), shares: Mutex::default(), idle: Mutex::default(), user, root, hidden: data_dir.to_owned() }
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
        let name = Uuid::new_v4().simple().to_string();
        let root = self.root.join(&name);
        self.make(&root).map_err(|error| broken(&error))?;
        let sandbox = Sandbox {
            user: self.user,
            root: root.clone(),
            hidden: vec![self.hidden.clone()],
            limits: Limits { memory_bytes: Some(MEMORY), cpu_millis: Some(CPU) },
            cgroup: Some(format!("orrery-node-{name}")),
            ..Sandbox::default()
        };
        let (ours, theirs) = UnixStream::pair().map_err(|error| broken(&error))?;
        let theirs: OwnedFd =
            theirs.into_std().and_then(|stream| stream.set_nonblocking(false).map(|()| stream)).map_err(|error| broken(&error))?.into();
        let mut command = sandbox.command(own_program(), &[NODE_WORKER], &BTreeMap::new(), &root).map_err(|error| broken(&error))?;
        // Its answers come by the same way as its jobs.
        command.stdout(Stdio::from(theirs)).stderr(Stdio::null());
        let guard = command.spawn().map_err(|error| broken(&error))?;
        Ok(Worker { stream: tokio::io::BufReader::new(ours), guard, root })
    }

    /// Makes the folder of a worker.
    fn make(&self, root: &Path) -> std::io::Result<()> {
        std::fs::create_dir_all(&self.root)?;
        std::fs::DirBuilder::new().mode(0o700).create(root)?;
        match self.user {
            Some(user) => chown(root, Some(user.uid), Some(user.gid)),
            None => Ok(()),
        }
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
