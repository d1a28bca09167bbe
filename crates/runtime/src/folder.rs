//! The folder of a replica: what its driver and its supervisor tell each other.
//!
//! | file | written by | holds |
//! | --- | --- | --- |
//! | `spec.json` | driver, once | what runs; 0600, because it holds secrets; locked by the supervisor while it lives |
//! | `state.json` | supervisor | phase, processes, restarts |
//! | `stop.json` | driver | the grace of a stop |
//! | `logs/NNNNNN.log` | supervisor | the output; deleted by its reader |
//! | `upper/`, `work/`, `tmp/` | the sandbox | what the app writes |
//! | `supervisor.log` | supervisor | why it gave up, if it did |

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use domain::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::proc::Identity;
use crate::{ObservedPhase, ReplicaSpec};

/// The folder of one replica.
#[derive(Clone, Debug)]
pub(crate) struct Folder(PathBuf);

/// `spec.json`. Persisted.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Order {
    pub(crate) replica: ReplicaSpec,
    /// What the app shall not see.
    pub(crate) hidden: Vec<PathBuf>,
    /// The folder of the socket that wants to hear of changes.
    pub(crate) bell: PathBuf,
}

/// `state.json`. Persisted.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct State {
    #[serde(flatten)]
    pub(crate) phase: ObservedPhase,
    pub(crate) since: Timestamp,
    pub(crate) supervisor: Identity,
    /// The guard of the app's sandbox, while there is one.
    pub(crate) guard: Option<Identity>,
    pub(crate) port: u16,
    pub(crate) restarts: u32,
}

/// `stop.json`. Persisted.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stop {
    pub(crate) grace_millis: u64,
}

impl Folder {
    pub(crate) fn new(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.0.join("logs")
    }

    pub(crate) fn spec(&self) -> PathBuf {
        self.0.join("spec.json")
    }

    pub(crate) fn supervisor_log(&self) -> PathBuf {
        self.0.join("supervisor.log")
    }

    /// Makes the folder. Apps of other users may pass to their `tmp` and can list nothing.
    pub(crate) fn make(&self) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o711).create(&self.0)?;
        fs::DirBuilder::new().recursive(true).mode(0o700).create(self.logs())
    }

    pub(crate) fn write_order(&self, order: &Order) -> io::Result<()> {
        replace(&self.spec(), order)
    }

    pub(crate) fn order(&self) -> io::Result<Order> {
        let text = fs::read(self.spec())?;
        serde_json::from_slice(&text).map_err(io::Error::from)
    }

    pub(crate) fn write_state(&self, state: &State) -> io::Result<()> {
        replace(&self.0.join("state.json"), state)
    }

    /// `None` before a supervisor has taken over.
    pub(crate) fn state(&self) -> io::Result<Option<State>> {
        read(&self.0.join("state.json"))
    }

    pub(crate) fn write_stop(&self, stop: &Stop) -> io::Result<()> {
        replace(&self.0.join("stop.json"), stop)
    }

    pub(crate) fn stop(&self) -> io::Result<Option<Stop>> {
        read(&self.0.join("stop.json"))
    }

    /// Removes what the last supervisor left, so that a new one starts from the beginning. The output stays.
    pub(crate) fn clear(&self) -> io::Result<()> {
        for name in ["state.json", "stop.json"] {
            match fs::remove_file(self.0.join(name)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    /// Deletes the folder with everything in it. Apps may have left folders that nobody may write to.
    pub(crate) fn delete(&self) -> io::Result<()> {
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        };
        if gone(fs::remove_dir_all(&self.0)).is_ok() {
            return Ok(());
        }
        unlock(&self.0);
        gone(fs::remove_dir_all(&self.0))
    }
}

/// What was read is not what the file should hold, as after a loss of power: reading it again would not help.
pub(crate) fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof)
}

/// Gives every folder back to its owner. What cannot be changed shows when it cannot be deleted.
fn unlock(folder: &Path) {
    use std::os::unix::fs::PermissionsExt;
    let _ = fs::set_permissions(folder, fs::Permissions::from_mode(0o700));
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())) {
        unlock(&entry.path());
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read(path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(io::Error::from),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a file that is seen whole or not at all, and by its owner only.
fn replace(path: &Path, value: &impl Serialize) -> io::Result<()> {
    let temporary = path.with_extension("json.new");
    let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(&serde_json::to_vec(value).map_err(io::Error::from)?)?;
    fs::rename(&temporary, path)
}
