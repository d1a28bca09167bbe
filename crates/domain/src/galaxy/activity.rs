//! The audit log as Galaxy tells it (`contracts/galaxy.md` 3.7, 3.14).

use crate::activity::{Activity, Actor};

/// Where an event is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// In the feed and in notifications.
    Everywhere,
    /// In the service log and in notifications, not in the feed.
    Notified,
}

/// An event that has a name in Galaxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ActivityKind {
    /// On the wire.
    pub wire: &'static str,
    /// As the settings of notifications label it.
    pub label: &'static str,
    /// Where it is told.
    pub told: Told,
}

const fn kind(wire: &'static str, label: &'static str) -> ActivityKind {
    ActivityKind { wire, label, told: Told::Everywhere }
}

const fn quiet(wire: &'static str, label: &'static str) -> ActivityKind {
    ActivityKind { wire, label, told: Told::Notified }
}

/// Verbs of the audit log, and what Galaxy calls them.
const KINDS: [(&str, ActivityKind); 21] = [
    ("deployment_create", kind("appDeploy", "App deployed")),
    ("deployment_redeploy", kind("appDeploy", "App deployed")),
    ("service_instance_redeploy", kind("appDeploy", "App deployed")),
    ("deployment_built", kind("appBuildSuccess", "Build succeeded")),
    ("deployment_build_failed", kind("appBuildFailedPermanently", "Build failed permanently")),
    ("deployment_succeeded", kind("appDeploySuccess", "Deploy succeeded")),
    ("deployment_failed", kind("appDeployFailed", "Deploy failed")),
    ("deployment_cancel", kind("appDeployAbort", "Deploy aborted")),
    ("deployment_rollback", kind("appRestore", "App restored")),
    ("deployment_start", kind("appStart", "App started")),
    ("deployment_stop", kind("appStop", "App stopped")),
    ("deployment_restart", kind("appRestart", "App restarted")),
    ("deployment_remove", kind("appStop", "App stopped")),
    ("container_count_set", kind("appContainers", "App scaled")),
    ("container_type_set", kind("appResize", "App resized")),
    ("container_kill", kind("containerStop", "Container killed")),
    ("app_settings_set", kind("appSettings", "App settings changed")),
    ("meteor_settings_set", kind("appSettings", "App settings changed")),
    ("trigger_over_limit", kind("triggerAddContainersLimitError", "Trigger add containers limit error")),
    ("container_unhealthy", quiet("containerUnhealthy", "Container unhealthy")),
    ("app_unavailable", quiet("appUnavailable", "App unavailable")),
];

impl ActivityKind {
    /// Every kind that can be notified of, in the order of its label.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let mut all: Vec<Self> = KINDS.iter().map(|(_, kind)| *kind).collect();
        all.sort_by_key(|kind| kind.label);
        all.dedup_by_key(|kind| kind.wire);
        all
    }

    /// What Galaxy calls an entry; `None` for what it knows nothing of.
    #[must_use]
    pub fn of(activity: &Activity) -> Option<Self> {
        if ["service_instance_update", "service_instance_limits_update"].contains(&activity.verb.as_str()) {
            return of_update(&activity.data);
        }
        KINDS.iter().find(|(verb, _)| *verb == activity.verb).map(|(_, kind)| *kind)
    }

    /// The entry as a sentence of the feed. `who` is the member's name, `host` the app's.
    #[must_use]
    pub fn sentence(self, activity: &Activity, who: &str, host: &str) -> String {
        let number = |key: &str| activity.data.get(key).and_then(serde_json::Value::as_u64);
        let text = |key: &str| activity.data.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let who = if matches!(activity.actor, Actor::System { .. }) { "Galaxy" } else { who };
        match self.wire {
            "appDeploy" => format!("{who} initiated deploy for {host}"),
            "appBuildSuccess" => format!("{who} successfully built {host}"),
            "appBuildFailedPermanently" => format!("Build failed for {host}: {}", text("reason")),
            "appDeploySuccess" => format!("{who} successfully deployed {host}"),
            "appDeployFailed" => format!("Deploy failed for {host}: {}", text("reason")),
            "appDeployAbort" => format!("{who} aborted the deploy of {host}"),
            "appRestore" => format!("{who} restored {host}"),
            "appStart" => format!("{who} started {host}"),
            "appStop" => format!("{who} stopped {host}"),
            "appRestart" => format!("{who} restarted {host}"),
            "appContainers" => match (number("from"), number("to")) {
                (Some(from), Some(to)) => {
                    let direction = if to > from { "up" } else { "down" };
                    format!("{who} scaled {host} {direction} from {from} to {to} containers")
                }
                _ => format!("{who} scaled {host}"),
            },
            "appResize" => format!("{who} resized {host} from {} to {} sized containers", text("from"), text("to")),
            "containerStop" => format!("{who} killed container {} of {host}", text("container")),
            "triggerAddContainersLimitError" => {
                format!("Trigger {} could not add containers to {host}: the account's limit is reached", text("trigger"))
            }
            "containerUnhealthy" => format!("Container {} of {host} is unhealthy and is replaced", text("container")),
            "appUnavailable" => format!("{host} is unavailable: none of its containers is healthy"),
            _ => format!("{who} changed settings of {host}"),
        }
    }
}

/// A change of settings that is a scaling is told as one.
fn of_update(data: &serde_json::Value) -> Option<ActivityKind> {
    let part = |side: &str, key: &str| data.get(side).and_then(|spec| spec.get("deploy")).and_then(|deploy| deploy.get(key)).cloned();
    let differs = |key: &str| part("before", key) != part("after", key);
    if differs("regions") {
        Some(kind("appContainers", "App scaled"))
    } else if differs("limits") {
        Some(kind("appResize", "App resized"))
    } else if differs("drainingSeconds") || differs("unhealthyReplacement") {
        Some(kind("appSettings", "App settings changed"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_label_and_labels_are_in_order() {
        let all = ActivityKind::all();
        assert!(all.is_sorted_by_key(|kind| kind.label));
        for label in [
            "App resized",
            "App restored",
            "App scaled",
            "App unavailable",
            "Build failed permanently",
            "Container unhealthy",
            "Deploy failed",
            "Trigger add containers limit error",
        ] {
            assert!(all.iter().any(|kind| kind.label == label), "{label}");
        }
    }
}
