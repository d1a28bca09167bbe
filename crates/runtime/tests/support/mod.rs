//! What the tests of real processes share: folders, specs, waiting.

#![allow(dead_code, reason = "each test binary uses its part")]

#[path = "../../../server/tests/harness/folder.rs"]
mod folder;
#[path = "../../../server/tests/harness/ports.rs"]
mod ports;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use domain::log::{LogKind, LogSource, SpoolLine};
use domain::spec::{Limits, RestartPolicy, RunPlan};
use domain::{DeploymentId, EnvironmentId, ProjectId, ReplicaId, ServiceId, SnapshotId, WorkspaceId};
use runtime::process::{ProcessConfig, ProcessDriver};
use runtime::{Driver, Observation, ObservedPhase, ReplicaSpec, UnixUser};

/// Long enough for a busy machine; reached only by a failure.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// More than the replicas of any test.
const PORTS: u16 = 6;

pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// The user of the tests' apps, when there is a choice.
pub(crate) fn user(number: u32) -> Option<UnixUser> {
    is_root().then_some(UnixUser { uid: 61_000 + number, gid: 61_000 + number })
}

/// A data directory with one artifact that belongs to `user`.
pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) artifact: PathBuf,
    pub(crate) user: Option<UnixUser>,
}

impl Place {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder");
        let artifact = folder.path().join("artifacts/one");
        let place = Self { artifact, user: user(1), folder };
        place.artifact("one", place.user);
        place
    }

    pub(crate) fn data(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn artifact(&self, name: &str, user: Option<UnixUser>) -> PathBuf {
        let path = self.data().join("artifacts").join(name);
        std::fs::create_dir_all(&path).expect("a folder");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o750)).expect("permissions");
        if let Some(user) = user {
            std::os::unix::fs::chown(&path, Some(user.uid), Some(user.gid)).expect("a new owner");
        }
        path
    }

    pub(crate) fn driver(&self) -> ProcessDriver {
        ProcessDriver::new(config(self.data())).expect("a driver")
    }

    pub(crate) fn spec(&self, command: &str) -> ReplicaSpec {
        ReplicaSpec {
            replica_id: ReplicaId::generate(),
            source: source(),
            root: self.artifact.clone(),
            run: RunPlan::Command { command: command.to_owned(), env: BTreeMap::new() },
            env: BTreeMap::new(),
            sealed: vec![],
            port: 0,
            restart: RestartPolicy::Never,
            max_retries: 0,
            draining_seconds: 3,
            limits: Limits::default(),
            user: self.user,
            volume: None,
        }
    }

    pub(crate) fn replica(&self, id: ReplicaId) -> PathBuf {
        self.data().join("replicas").join(id.to_string())
    }

    /// Everything that the replica has said so far.
    pub(crate) fn lines(&self, id: ReplicaId) -> Vec<SpoolLine> {
        let mut segments: Vec<_> = std::fs::read_dir(self.replica(id).join("logs")).expect("a spool").flatten().map(|e| e.path()).collect();
        segments.sort();
        let text: String = segments.iter().map(|path| std::fs::read_to_string(path).expect("text")).collect();
        text.lines().map(|line| serde_json::from_str(line).expect("a spool line")).collect()
    }

    pub(crate) fn messages(&self, id: ReplicaId) -> Vec<String> {
        self.lines(id).into_iter().map(|line| line.message).collect()
    }

    /// Runs `command` until it has ended and gives its output, without the supervisor's last line.
    pub(crate) async fn output(&self, driver: &ProcessDriver, spec: ReplicaSpec) -> Vec<String> {
        let id = spec.replica_id;
        driver.start(spec).await.expect("a start");
        wait(driver, id, |seen| seen.phase.is_over()).await;
        let mut messages = self.messages(id);
        messages.pop();
        messages
    }
}

impl Drop for Place {
    /// Nothing that a failed test has started goes on: a supervisor that is killed takes its app along.
    fn drop(&mut self) {
        folder::clear(self.data());
    }
}

pub(crate) fn config(data: &Path) -> ProcessConfig {
    let first = ports::free_ports(PORTS);
    let exe = env!("CARGO_BIN_EXE_runtime-testbin").into();
    ProcessConfig { data_dir: data.to_owned(), exe, hidden: vec![data.to_owned()], port_range: first..=first + PORTS - 1 }
}

pub(crate) fn source() -> LogSource {
    LogSource {
        workspace_id: WorkspaceId::generate(),
        project_id: ProjectId::generate(),
        environment_id: EnvironmentId::generate(),
        service_id: ServiceId::generate(),
        deployment_id: DeploymentId::generate(),
        snapshot_id: SnapshotId::generate(),
        replica_id: None,
        kind: LogKind::Deploy,
    }
}

/// Waits until the driver sees the replica as wished: woken by the bell, and by the clock for what nobody rings for.
pub(crate) async fn wait(driver: &dyn Driver, id: ReplicaId, wished: impl Fn(&Observation) -> bool) -> Observation {
    let mut last = None;
    let look = async {
        let mut bell = driver.bell();
        loop {
            let seen = driver.observe().await.expect("an observation");
            last = seen.into_iter().find(|seen| seen.replica_id == id);
            if let Some(seen) = last.clone().filter(|seen| wished(seen)) {
                return seen;
            }
            let _ = tokio::time::timeout(Duration::from_millis(100), bell.changed()).await;
        }
    };
    match tokio::time::timeout(PATIENCE, look).await {
        Ok(seen) => seen,
        Err(_) => panic!("the replica never came so far; it was last seen as {last:?}"),
    }
}

/// Waits until the replica has said a line that contains `text`.
pub(crate) async fn hear(place: &Place, driver: &dyn Driver, id: ReplicaId, text: &str) {
    wait(driver, id, |_| place.messages(id).iter().any(|line| line.contains(text))).await;
}

pub(crate) fn crash_reason(seen: &Observation) -> &str {
    match &seen.phase {
        ObservedPhase::Crashed { reason, .. } => reason,
        other => panic!("not a crash: {other:?}"),
    }
}
