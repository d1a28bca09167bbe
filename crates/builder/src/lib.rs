//! Source archive in, runnable artifact out, without containers.
//!
//! [`build`] unpacks a hostile archive, reads the settings it carries, decides how the app is made ([`detect`]), runs that as the
//! service's own user and answers how the result is started. The artifact is built where it will run, because virtual environments
//! hold absolute paths. After any failure nothing is left of the artifact, of the scratch folder or of the processes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use domain::spec::{InstanceSpec, RunPlan};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

mod build;
mod config_file;
mod detect;
mod environment;
mod exec;
mod failure;
mod manifest;
mod output;
mod place;
mod tools;
mod unpack;

pub use build::{build, run_commands};
pub use failure::BuildFailure;
pub use manifest::SourceManifest;
pub use place::remove_tree;
pub use runtime::UnixUser;
pub use tools::{ToolStatus, tools};

/// One build of one upload.
#[derive(Clone)]
pub struct BuildRequest {
    /// The upload: a gzip'd tar as the Railway CLI writes it (`contracts/railway-cli.md` 5).
    pub archive: PathBuf,
    /// The folder to create. It is built in place and runs at the same path. The folder that holds it together with `cache` and
    /// `scratch` is Orrery's own: the commands see nothing else in it.
    pub artifact: PathBuf,
    /// Package managers' caches of this service, kept between builds. Two builds must not share it at the same time.
    pub cache: PathBuf,
    /// Temporary files; gone when the build ends.
    pub scratch: PathBuf,
    /// The settings of the instance.
    pub spec: InstanceSpec,
    /// Chooses the block `environments.<name>` of a configuration file.
    pub environment_name: String,
    /// The environment is a copy for a while, for which the block `environments.pr` holds where there is none of its name.
    pub ephemeral: bool,
    /// The server's own region, in which replicas are counted where a file names no other.
    pub region: String,
    /// The rendered variables.
    pub env: BTreeMap<String, String>,
    /// Values that are redacted in what is printed, whatever their names and however short.
    pub sealed: Vec<String>,
    /// Who owns the artifact and runs the commands; `None` is the server's own user.
    pub user: Option<UnixUser>,
    /// Whether the addresses of the operator's package mirrors and proxies keep the names and passwords in them, which every build can
    /// then read. They are redacted in what is printed either way.
    pub mirror_credentials: bool,
    /// See [`BuildLimits`].
    pub limits: BuildLimits,
    /// The source of the last successful build, for watch patterns. `None` always builds: pass it for a redeploy, whose source is
    /// the same on purpose.
    pub previous: Option<SourceManifest>,
}

/// Commands in a finished artifact: the pre-deploy commands of a deployment.
#[derive(Clone)]
pub struct CommandRequest {
    /// The artifact's folder, where each command starts. As root, and where the file system can carry a layer, it stays as it is: what
    /// they write there is in `scratch`, seen by the later ones.
    pub root: PathBuf,
    /// Temporary files; gone when the commands have ended. Nobody else may use it at the same time: by its path their processes are told
    /// from others.
    pub scratch: PathBuf,
    /// The user's texts, each for `sh -c`, in their order.
    pub commands: Vec<String>,
    /// Rendered variables and those of the run plan.
    pub env: BTreeMap<String, String>,
    /// As in [`BuildRequest::sealed`].
    pub sealed: Vec<String>,
    /// Who runs them.
    pub user: Option<UnixUser>,
    /// Of these, time (of each command), memory, cores and lines count.
    pub limits: BuildLimits,
}

/// What one build may take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildLimits {
    /// Bytes of the unpacked upload.
    pub unpacked_bytes: u64,
    /// Files and folders of the upload.
    pub entries: u64,
    /// Seconds from beginning to end.
    pub seconds: u64,
    /// Memory of the commands together, where the machine can limit it.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a core for them together, the same way.
    pub cpu_millis: Option<u32>,
    /// Lines of output a second; what is beyond is dropped with a notice.
    pub output_lines_per_second: u32,
}

impl Default for BuildLimits {
    fn default() -> Self {
        Self {
            unpacked_bytes: 2_000_000_000,
            entries: 200_000,
            seconds: 900,
            memory_bytes: None,
            cpu_millis: None,
            output_lines_per_second: 2_000,
        }
    }
}

/// A line of the build log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BuildLine {
    /// From standard error, or the reason of a failure.
    pub error: bool,
    /// One line without its end, at most 64 KB, secrets replaced.
    pub message: String,
}

/// A finished build.
#[derive(Clone, Debug)]
pub struct Built {
    /// How the artifact is started.
    pub run: RunPlan,
    /// The request's settings with the source's `railway.json` or `railway.toml` merged in, for this deployment only.
    pub spec: InstanceSpec,
    /// The files of the upload; also saved beside the artifact as `<artifact>.manifest.json`.
    pub manifest: SourceManifest,
    /// The detected kind of app, as shown to people.
    pub provider: &'static str,
}

/// Where lines of a build go.
pub(crate) type Lines = mpsc::Sender<BuildLine>;
/// Ends a build early.
pub(crate) type Cancel = CancellationToken;
