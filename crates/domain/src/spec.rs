//! The settings of an instance: persisted as JSON with the instance, frozen into each deployment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Everything that a deployment of the instance depends on, except the variables.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct InstanceSpec {
    /// Where the code comes from, when it is not uploaded.
    pub source: Option<Source>,
    /// How it is built.
    pub build: BuildSpec,
    /// How it runs.
    pub deploy: DeploySpec,
}

/// A remote source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Source {
    /// A container image.
    Image(String),
    /// A Git repository and branch.
    Repo {
        /// `owner/name`.
        repo: String,
        /// The branch that deploys.
        branch: Option<String>,
    },
}

/// How an artifact is made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct BuildSpec {
    /// The builder's name as the client wrote it.
    pub builder: Option<String>,
    /// Overrides the detected build command.
    pub build_command: Option<String>,
    /// The folder of the upload that is built.
    pub root_directory: Option<String>,
    /// A Dockerfile's path.
    pub dockerfile_path: Option<String>,
    /// Only changes to matching files deploy.
    pub watch_patterns: Vec<String>,
    /// The path of `railway.json` or `railway.toml`, from the upload's root.
    pub config_file: Option<String>,
}

/// When an app that ended is started again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum RestartPolicy {
    /// After a non-zero exit.
    #[default]
    OnFailure,
    /// After every exit.
    Always,
    /// Not at all.
    Never,
}

/// How an artifact runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct DeploySpec {
    /// Overrides the detected start command.
    pub start_command: Option<String>,
    /// Run in order from the new artifact before it starts; a failure fails the deployment.
    pub pre_deploy_command: Vec<String>,
    /// Asked with GET until it answers 200; without one, an accepted connection counts.
    pub healthcheck_path: Option<String>,
    /// Seconds until a deployment that is not healthy fails.
    pub healthcheck_timeout: Option<u32>,
    /// See [`RestartPolicy`].
    pub restart_policy_type: RestartPolicy,
    /// Restarts before the replica counts as crashed.
    pub restart_policy_max_retries: u32,
    /// Replicas by region. Empty means one in the server's own region.
    pub regions: BTreeMap<String, u32>,
    /// Five cron fields, UTC.
    pub cron_schedule: Option<String>,
    /// Sleeps when idle.
    pub sleep_application: bool,
    /// A visitor stays with the replica that answered first, by a cookie.
    pub sticky: bool,
    /// Seconds that the old deployment goes on beside the new one.
    pub overlap_seconds: u32,
    /// Seconds between SIGTERM and SIGKILL.
    pub draining_seconds: u32,
    /// Limits of each replica.
    pub limits: Limits,
}

impl Default for DeploySpec {
    fn default() -> Self {
        Self {
            start_command: None,
            pre_deploy_command: vec![],
            healthcheck_path: None,
            healthcheck_timeout: None,
            restart_policy_type: RestartPolicy::OnFailure,
            restart_policy_max_retries: 10,
            regions: BTreeMap::new(),
            cron_schedule: None,
            sleep_application: false,
            sticky: false,
            overlap_seconds: 0,
            draining_seconds: 3,
            limits: Limits::default(),
        }
    }
}

impl DeploySpec {
    /// Replicas over all regions; one when nothing is said.
    #[must_use]
    pub fn replicas(&self) -> u32 {
        if self.regions.is_empty() { 1 } else { self.regions.values().sum() }
    }

    /// The health check's limit, 300 seconds by default (`contracts/railway.md` 3.8).
    #[must_use]
    pub fn healthcheck_seconds(&self) -> u32 {
        self.healthcheck_timeout.unwrap_or(300)
    }
}

/// Limits of one replica; `None` is the server's default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Limits {
    /// Bytes of memory; beyond it the kernel ends the app.
    pub memory_bytes: Option<u64>,
    /// Thousandths of a core.
    pub cpu_millis: Option<u32>,
}

/// How a built artifact is started: the builder's answer, stored with the deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RunPlan {
    /// A command of the user's or of the detection, for `sh -c` inside the sandbox, in the artifact's folder.
    Command {
        /// The command line.
        command: String,
        /// Variables that the build adds, such as a PATH with the virtual environment first.
        env: BTreeMap<String, String>,
    },
    /// Files for Orrery's own file server.
    Static {
        /// The folder inside the artifact.
        root: String,
        /// Unknown paths answer `index.html`.
        spa: bool,
    },
}
