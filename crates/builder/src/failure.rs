//! Why there is no artifact.

/// The reason of a build that made nothing. Its text is the last line of the build log and stands in the deployment's events.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuildFailure {
    /// The upload cannot be used.
    #[error("{0}")]
    Source(String),
    /// This machine lacks something.
    #[error("{0}")]
    Machine(String),
    /// A command did not succeed.
    #[error("`{command}` {status}: correct what its output above names and deploy again")]
    Command {
        /// As echoed in the log.
        command: String,
        /// Such as "failed with status 1".
        status: String,
    },
    /// The build took longer than its limit.
    #[error("the build took longer than {0} seconds and was ended: make it shorter or raise the limit of this server")]
    Timeout(u64),
    /// The upload is larger than allowed.
    #[error("{0}")]
    Limit(String),
    /// Nothing that the watch patterns name has changed. The text begins as clients match it (`contracts/railway.md` 3.3).
    #[error("{0}")]
    Skipped(String),
    /// Nobody wants the result any more.
    #[error("the build was canceled")]
    Canceled,
    /// The server failed, not the app.
    #[error("this server could not do the build: {0}")]
    Internal(String),
}

impl BuildFailure {
    /// An operation of the server on a path that failed.
    pub(crate) fn io(doing: &str, path: &std::path::Path, error: &std::io::Error) -> Self {
        Self::Internal(format!("{doing} {}: {error}", path.display()))
    }
}
