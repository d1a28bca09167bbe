//! The settings of an instance: persisted as JSON with the instance, frozen into each deployment.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::name::BadName;
use crate::schedule::Schedule;
use crate::server::ServerPlan;
use crate::volume::mount_path;

mod in_source;

pub use in_source::InSource;

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
    /// Asked with GET until it answers 200. Without one, an app with a domain must say anything to `GET /`, and others accept a connection.
    pub healthcheck_path: Option<String>,
    /// Seconds until a deployment that is not healthy fails.
    pub healthcheck_timeout: Option<u32>,
    /// See [`RestartPolicy`].
    pub restart_policy_type: RestartPolicy,
    /// Restarts before the replica counts as crashed.
    pub restart_policy_max_retries: u32,
    /// Replicas by region. Empty means one in the server's own region.
    pub regions: BTreeMap<String, u32>,
    /// Five cron fields, UTC: the service runs at these times alone, and each run is expected to end.
    pub cron_schedule: Option<String>,
    /// The schedule was written in the source, so that a deployment of what the same source made keeps it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub cron_in_source: bool,
    /// What else the source said; of deployments that were built, and of none from before this was noted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub in_source: Option<Box<InSource>>,
    /// Sleeps when idle.
    pub sleep_application: bool,
    /// A visitor stays with the replica that answered first, by a cookie.
    pub sticky: bool,
    /// Seconds that the old deployment goes on beside the new one.
    pub overlap_seconds: u32,
    /// Seconds between SIGTERM and SIGKILL (`contracts/galaxy.md` 3.11).
    pub draining_seconds: u32,
    /// It is not started unless a volume is mounted there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required_mount_path: Option<String>,
    /// A variable said them for this deployment, whatever the settings say later.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub draining_in_variable: bool,
    /// Limits of each replica.
    pub limits: Limits,
    /// A replica that requests are routed to and that stops answering is replaced, and a deployment without a health check's path fails
    /// when it never answers (`contracts/galaxy.md` 3.9, 3.11).
    pub unhealthy_replacement: bool,
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
            cron_in_source: false,
            in_source: None,
            sleep_application: false,
            sticky: false,
            overlap_seconds: 0,
            draining_seconds: 30,
            required_mount_path: None,
            draining_in_variable: false,
            limits: Limits::default(),
            unhealthy_replacement: true,
        }
    }
}

/// Replicas of one instance that can be asked for.
pub const MAX_REPLICAS: u32 = 50;
/// The longest of all settings in seconds.
const MAX_SECONDS: u32 = 3_600;

impl InstanceSpec {
    /// Checks the settings that users choose.
    ///
    /// # Errors
    /// A sentence that names the setting that is out of range.
    pub fn check(&self) -> Result<(), BadName> {
        let deploy = &self.deploy;
        if deploy.healthcheck_path.as_deref().is_some_and(|path| !path.starts_with('/') || path.chars().any(char::is_control)) {
            return Err(BadName("healthcheckPath must begin with a slash, like /health".into()));
        }
        if deploy.required_mount_path.as_deref().is_some_and(|path| mount_path(path).is_err()) {
            return Err(BadName("requiredMountPath must be the absolute path of a volume, like /data".into()));
        }
        let seconds = [
            ("healthcheckTimeout", deploy.healthcheck_timeout.unwrap_or_default()),
            ("drainingSeconds", deploy.draining_seconds),
            ("overlapSeconds", deploy.overlap_seconds),
        ];
        if let Some((name, value)) = seconds.into_iter().find(|(_, value)| *value > MAX_SECONDS) {
            return Err(BadName(format!("{name} is {value}: it may be at most {MAX_SECONDS} seconds")));
        }
        if deploy.regions.values().map(|count| u64::from(*count)).sum::<u64>() > u64::from(MAX_REPLICAS) {
            return Err(BadName(format!("{} replicas are asked for: at most {MAX_REPLICAS} are allowed", deploy.replicas())));
        }
        if let Some(text) = &deploy.cron_schedule {
            Schedule::parse(text).map_err(|bad| BadName(bad.0))?;
        }
        Ok(())
    }
}

impl InstanceSpec {
    /// Takes over the times that variables of the user's own say to the platform (`contracts/railway.md` 3.6). What is no number says
    /// nothing, and what the source's file says has the last word.
    pub fn obey(&mut self, variables: &BTreeMap<String, String>) {
        let seconds = |name: &str| variables.get(name)?.trim().parse::<u32>().ok().filter(|seconds| *seconds <= MAX_SECONDS);
        let said = self.deploy.in_source.as_deref().cloned().unwrap_or_default();
        if let Some(overlap) = seconds("RAILWAY_DEPLOYMENT_OVERLAP_SECONDS").filter(|_| said.overlap_seconds.is_none()) {
            self.deploy.overlap_seconds = overlap;
        }
        let draining = seconds("RAILWAY_DEPLOYMENT_DRAINING_SECONDS").filter(|_| said.draining_seconds.is_none());
        self.deploy.draining_in_variable = draining.is_some();
        self.deploy.draining_seconds = draining.unwrap_or(self.deploy.draining_seconds);
        let timeout = seconds("RAILWAY_HEALTHCHECK_TIMEOUT_SEC").filter(|timeout| *timeout > 0 && said.healthcheck_timeout.is_none());
        self.deploy.healthcheck_timeout = timeout.or(self.deploy.healthcheck_timeout);
    }
}

impl DeploySpec {
    /// Replicas over all regions; one when nothing is said.
    #[must_use]
    pub fn replicas(&self) -> u32 {
        if self.regions.is_empty() { 1 } else { self.regions.values().fold(0, |sum, count| sum.saturating_add(*count)) }
    }

    /// Whether the deployment `of` sleeps when idle under these settings of its instance: as its source said, or else as they say today.
    #[must_use]
    pub fn lets_sleep(&self, of: &Self) -> bool {
        of.in_source.as_ref().and_then(|said| said.sleep_application).unwrap_or(self.sleep_application)
    }

    /// How long a deployment has to become healthy: what it says, else 300 seconds where a path is asked (`contracts/railway.md` 3.8), and
    /// ten minutes where none is (`contracts/galaxy.md` 3.9).
    #[must_use]
    pub fn healthcheck_seconds(&self) -> u32 {
        self.healthcheck_timeout.unwrap_or(if self.healthcheck_path.is_some() { 300 } else { 600 })
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

impl Limits {
    /// Limits as clients write them; what is absent stays unlimited.
    ///
    /// # Errors
    /// Less than a hundredth of a core or 16 MB, or more than any machine has.
    pub fn of(cores: Option<f64>, memory_bytes: Option<f64>) -> Result<Self, BadName> {
        let within = |what: &str, value: Option<f64>, (least, most): (f64, f64), unit: &str| match value {
            Some(value) if !(least..=most).contains(&value) => Err(BadName(format!("{what} must be from {least} to {most} {unit}"))),
            value => Ok(value),
        };
        let cores = within("vCPUs", cores, (0.01, 1_024.0), "cores")?;
        let bytes = within("the memory limit", memory_bytes, (16e6, 64e12), "bytes")?;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "both lie within the ranges just checked")]
        let limits =
            Self { memory_bytes: bytes.map(|bytes| bytes.round() as u64), cpu_millis: cores.map(|cores| (cores * 1000.0).round() as u32) };
        Ok(limits)
    }
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
    /// A server of the machine, such as a database: nothing is built.
    Server(ServerPlan),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_has_the_time_that_it_says_or_that_its_check_has_always_had() {
        let seconds = |path: Option<&str>, timeout| {
            let deploy = DeploySpec { healthcheck_path: path.map(str::to_owned), healthcheck_timeout: timeout, ..DeploySpec::default() };
            deploy.healthcheck_seconds()
        };
        assert_eq!((seconds(Some("/up"), None), seconds(None, None)), (300, 600));
        assert_eq!((seconds(Some("/up"), Some(7)), seconds(None, Some(7))), (7, 7));
    }
}
