use std::path::{Path, PathBuf};

/// Why logs could not be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The file system refused.
    #[error("the log files at {path} cannot be used; check the disk's space and the folder's owner")]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A log file could not be read or written.
    #[error("the log file {path} cannot be used; check the disk's space, and move the file away if it is damaged")]
    Database {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: rusqlite::Error,
    },
    /// A log file of a later version.
    #[error("the log file {path} was written by a newer version; start that version or move the file away")]
    Newer {
        /// The file.
        path: PathBuf,
    },
    /// Two writers.
    #[error("another process writes the logs in {path}; stop it, or use another data directory")]
    InUse {
        /// The folder.
        path: PathBuf,
    },
    /// The writer has ended.
    #[error("the log store has stopped; restart the server")]
    Stopped,
    /// A search read too many lines without finding enough.
    #[error("the search gave up after reading {examined} lines; give a start and an end, or name a service or a deployment")]
    TooBroad {
        /// How many lines were read.
        examined: usize,
    },
    /// A question about metrics that would read too much.
    #[error(
        "{asked} measurements would have to be read, at most {most} are: ask for a shorter window or longer intervals, or name a service or an environment"
    )]
    TooMany {
        /// Intervals times replicas or services, as far as they were counted.
        asked: i64,
        /// How many are read.
        most: i64,
    },
}

impl TelemetryError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        |source| Self::Io { path: path.to_owned(), source }
    }

    pub(crate) fn database(path: &Path) -> impl FnOnce(rusqlite::Error) -> Self {
        |source| Self::Database { path: path.to_owned(), source }
    }

    /// The file itself is bad: no later attempt will succeed.
    pub(crate) fn is_damage(&self) -> bool {
        let Self::Database { source, .. } = self else { return false };
        matches!(source.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase))
    }
}
