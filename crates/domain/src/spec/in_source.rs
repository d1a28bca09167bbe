//! Settings that came with the source, remembered apart from those that were chosen.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{DeploySpec, RestartPolicy};

/// What the source of a deployment said about how it runs, in its configuration file (`contracts/railway.md` 3.7) or by a variable that its
/// build read. It goes with every deployment of what that source made, on top of the settings of the day; what is `None` was not said.
/// Replicas alone follow the settings where these name any, because scaling needs no deployment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct InSource {
    /// As [`DeploySpec::start_command`]; an empty text is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start_command: Option<String>,
    /// As [`DeploySpec::pre_deploy_command`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pre_deploy_command: Option<Vec<String>>,
    /// As [`DeploySpec::healthcheck_path`]; an empty text is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck_path: Option<String>,
    /// As [`DeploySpec::healthcheck_timeout`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub healthcheck_timeout: Option<u32>,
    /// As [`DeploySpec::restart_policy_type`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_policy_type: Option<RestartPolicy>,
    /// As [`DeploySpec::restart_policy_max_retries`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub restart_policy_max_retries: Option<u32>,
    /// As [`DeploySpec::regions`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub regions: Option<BTreeMap<String, u32>>,
    /// As [`DeploySpec::sleep_application`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sleep_application: Option<bool>,
    /// As [`DeploySpec::overlap_seconds`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overlap_seconds: Option<u32>,
    /// As [`DeploySpec::draining_seconds`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub draining_seconds: Option<u32>,
    /// As [`DeploySpec::required_mount_path`]; an empty text is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub required_mount_path: Option<String>,
}

impl InSource {
    /// Puts what was said into the settings of a deployment, and notes it there on top of what was noted before.
    pub fn apply(&self, spec: &mut DeploySpec) {
        fn put<T: Clone>(into: &mut T, said: Option<&T>) {
            if let Some(said) = said {
                into.clone_from(said);
            }
        }
        let text = |into: &mut Option<String>, said: Option<&String>| {
            if let Some(said) = said {
                *into = Some(said.trim().to_owned()).filter(|text| !text.is_empty());
            }
        };
        text(&mut spec.start_command, self.start_command.as_ref());
        text(&mut spec.healthcheck_path, self.healthcheck_path.as_ref());
        text(&mut spec.required_mount_path, self.required_mount_path.as_ref());
        put(&mut spec.pre_deploy_command, self.pre_deploy_command.as_ref());
        put(&mut spec.restart_policy_type, self.restart_policy_type.as_ref());
        put(&mut spec.restart_policy_max_retries, self.restart_policy_max_retries.as_ref());
        put(&mut spec.regions, self.regions.as_ref());
        put(&mut spec.sleep_application, self.sleep_application.as_ref());
        put(&mut spec.overlap_seconds, self.overlap_seconds.as_ref());
        put(&mut spec.draining_seconds, self.draining_seconds.as_ref());
        spec.healthcheck_timeout = self.healthcheck_timeout.or(spec.healthcheck_timeout);
        let before = spec.in_source.take().unwrap_or_default();
        spec.in_source = Some(Box::new(self.clone().over(*before)));
    }

    /// What both said, this one with the last word.
    fn over(self, before: Self) -> Self {
        Self {
            start_command: self.start_command.or(before.start_command),
            pre_deploy_command: self.pre_deploy_command.or(before.pre_deploy_command),
            healthcheck_path: self.healthcheck_path.or(before.healthcheck_path),
            healthcheck_timeout: self.healthcheck_timeout.or(before.healthcheck_timeout),
            restart_policy_type: self.restart_policy_type.or(before.restart_policy_type),
            restart_policy_max_retries: self.restart_policy_max_retries.or(before.restart_policy_max_retries),
            regions: self.regions.or(before.regions),
            sleep_application: self.sleep_application.or(before.sleep_application),
            overlap_seconds: self.overlap_seconds.or(before.overlap_seconds),
            draining_seconds: self.draining_seconds.or(before.draining_seconds),
            required_mount_path: self.required_mount_path.or(before.required_mount_path),
        }
    }
}
