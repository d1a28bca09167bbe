//! The audit log as Galaxy tells it (`contracts/galaxy.md` 3.7, 3.14).

use crate::account::Plan;
use crate::activity::{Activity, Actor};
use crate::galaxy::ContainerType;
use crate::spec::{DeploySpec, InstanceSpec, Limits};

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

/// An app stopped for lack of connections: the engine's entry in the audit log.
pub const APP_SLEPT: &str = "app_slept";
/// A request came for an app that had stopped so.
pub const APP_WOKEN: &str = "app_woken";
/// All containers of an app ended by themselves and well, so that it counts as stopped.
pub const APP_ENDED: &str = "app_ended";
/// All containers of an app run, and none of them answers any more.
pub const APP_SILENT: &str = "app_silent";
/// An app was deleted; its entry knows its hostname.
pub const APP_REMOVED: &str = "app_removed";
/// An app went to another account; the entries of both know its hostname.
pub const APP_TRANSFERRED: &str = "app_transferred";
/// The account of an app is on another plan.
pub const APP_PLAN: &str = "app_plan";
/// Who starts an app that had stopped for lack of connections.
const CONNECTION: &str = "A new connection";

/// Verbs of the audit log, and what Galaxy calls them.
const KINDS: [(&str, ActivityKind); 30] = [
    ("deployment_create", kind("appDeploy", "App deployed")),
    ("deployment_redeploy", kind("appDeploy", "App deployed")),
    ("service_instance_redeploy", kind("appDeploy", "App deployed")),
    ("deployment_built", kind("appBuildSuccess", "Build succeeded")),
    ("deployment_build_failed", kind("appBuildFailedPermanently", "Build failed permanently")),
    ("deployment_build_retried", kind("appBuildFailedTemporarily", "Build failed temporarily")),
    ("deployment_succeeded", kind("appDeploySuccess", "Deploy succeeded")),
    ("deployment_failed", kind("appDeployFailed", "Deploy failed")),
    ("deployment_cancel", kind("appDeployAbort", "Deploy aborted")),
    ("deployment_rollback", kind("appRestore", "App restored")),
    ("deployment_start", kind("appStart", "App started")),
    (APP_WOKEN, kind("appStart", "App started")),
    ("deployment_stop", kind("appStop", "App stopped")),
    ("deployment_restart", kind("appRestart", "App restarted")),
    ("deployment_remove", kind("appStop", "App stopped")),
    (APP_SLEPT, kind("coldStart", "App stopped by cold start")),
    (APP_ENDED, kind("appAutoStop", "App automatically stopped")),
    (APP_REMOVED, kind("appRemove", "App removed")),
    (APP_TRANSFERRED, kind("appTransfer", "App transferred")),
    (APP_PLAN, kind("appTierChange", "App plan changed")),
    ("container_count_set", kind("appContainers", "App scaled")),
    ("container_type_set", kind("appResize", "App resized")),
    ("container_kill", kind("containerStop", "Container killed")),
    ("app_settings_set", kind("appSettings", "App settings changed")),
    ("meteor_settings_set", kind("appSettings", "App settings changed")),
    ("certificate_failed", kind("certificateGenerationError", "Certificate generation error")),
    ("trigger_over_limit", kind("triggerAddContainersLimitError", "Trigger add containers limit error")),
    ("container_unhealthy", quiet("containerUnhealthy", "Container unhealthy")),
    ("app_unavailable", quiet("appUnavailable", "App unavailable")),
    (APP_SILENT, quiet("appUnavailable", "App unavailable")),
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

    /// Who did it, as clients read it (`contracts/galaxy.md` 3.14): `name` is what the actor is called. Nobody stopped what had no
    /// connections, and it is a connection that starts it again.
    #[must_use]
    pub fn user_name<'a>(self, activity: &Activity, name: &'a str) -> Option<&'a str> {
        match activity.verb.as_str() {
            APP_SLEPT => None,
            APP_WOKEN => Some(CONNECTION),
            _ => Some(name),
        }
    }

    /// The entry as a sentence of the feed. `who` is the member's name, `host` the app's.
    #[must_use]
    pub fn sentence(self, activity: &Activity, who: &str, host: &str) -> String {
        let settings = || Some((settings(&activity.data, "before")?, settings(&activity.data, "after")?));
        let number = |key: &str| activity.data.get(key).and_then(serde_json::Value::as_u64);
        let text = |key: &str| activity.data.get(key).and_then(serde_json::Value::as_str).unwrap_or_default().to_owned();
        let who = if matches!(activity.actor, Actor::System { .. }) { "Galaxy" } else { who };
        match self.wire {
            "appDeploy" => format!("{who} initiated deploy for {host}"),
            "appBuildSuccess" => format!("{who} successfully built {host}"),
            "appBuildFailedPermanently" => format!("Build failed for {host}: {}", text("reason")),
            "appBuildFailedTemporarily" => format!("Build failed for {host} and is tried again: {}", text("reason")),
            "appDeploySuccess" => format!("{who} successfully deployed {host}"),
            "appDeployFailed" => format!("Deploy failed for {host}: {}", text("reason")),
            "appDeployAbort" => format!("{who} aborted the deploy of {host}"),
            "appRestore" => format!("{who} restored {host}"),
            "appStart" if activity.verb == APP_WOKEN => format!("{CONNECTION} started {host}"),
            "appStart" => format!("{who} started {host}"),
            "appStop" => format!("{who} stopped {host}"),
            "appRemove" => format!("{who} removed {host}"),
            "appTransfer" => format!("{who} transferred {host} from {} to {}", text("from"), text("to")),
            "appTierChange" => {
                let plan = |key: &str| serde_json::from_value::<Plan>(activity.data.get(key).cloned().unwrap_or_default()).ok();
                let better = plan("to") > plan("from");
                let name = |key: &str| plan(key).map_or("none", Plan::label);
                format!("{who} {} {host} from {} to {}", if better { "upgraded" } else { "downgraded" }, name("from"), name("to"))
            }
            "coldStart" => "Cold start app stopped due to lack of connections".to_owned(),
            "appAutoStop" => format!("{host} stopped: all of its containers have ended"),
            "appRestart" => format!("{who} restarted {host}"),
            "appContainers" => {
                let counts = settings().map(|(before, after)| (u64::from(before.replicas()), u64::from(after.replicas())));
                match number("from").zip(number("to")).or(counts) {
                    Some((from, to)) => {
                        let direction = if to > from { "up" } else { "down" };
                        format!("{who} scaled {host} {direction} from {from} to {to} containers")
                    }
                    None => format!("{who} scaled {host}"),
                }
            }
            "appResize" => {
                let sizes = settings().map(|(before, after)| (size(before.limits), size(after.limits)));
                let (from, to) = sizes.unwrap_or_else(|| (text("from"), text("to")));
                format!("{who} resized {host} from {from} to {to} sized containers")
            }
            "containerStop" => format!("{who} killed container {} of {host}", text("container")),
            "triggerAddContainersLimitError" => {
                format!("Trigger {} could not add containers to {host}: the account's limit is reached", text("trigger"))
            }
            "certificateGenerationError" => format!("No certificate could be had for {}: {}", text("domain"), text("reason")),
            "containerUnhealthy" => format!("Container {} of {host} is unhealthy and is replaced", text("container")),
            "appUnavailable" => format!("{host} is unavailable: none of its containers is healthy"),
            _ => match (activity.data.as_object().map(serde_json::Map::len), number("stopGraceSeconds")) {
                (Some(1), Some(seconds)) => format!("{who} set the container stop grace period of {host} to {}", span(seconds)),
                _ => format!("{who} changed settings of {host}"),
            },
        }
    }
}

/// `30s`, `1m`, `1m 30s`.
fn span(seconds: u64) -> String {
    match (seconds / 60, seconds % 60) {
        (0, seconds) => format!("{seconds}s"),
        (minutes, 0) => format!("{minutes}m"),
        (minutes, seconds) => format!("{minutes}m {seconds}s"),
    }
}

/// What the audit log says of settings before or after a change.
fn settings(data: &serde_json::Value, side: &str) -> Option<DeploySpec> {
    let spec: InstanceSpec = serde_json::from_value(data.get(side)?.clone()).ok()?;
    Some(spec.deploy)
}

/// Galaxy's name of a size, or how much memory that is.
fn size(limits: Limits) -> String {
    let is_it = |one: &ContainerType| (Some(one.memory_bytes), Some(one.cpu_millis)) == (limits.memory_bytes, limits.cpu_millis);
    let known = ContainerType::galaxy().into_iter().find(is_it).map(|one| one.name);
    known.unwrap_or_else(|| limits.memory_bytes.map_or_else(|| "custom".to_owned(), |bytes| format!("{} MB", bytes >> 20)))
}

/// A change of settings that is a scaling is told as one.
fn of_update(data: &serde_json::Value) -> Option<ActivityKind> {
    let (before, after) = (settings(data, "before")?, settings(data, "after")?);
    let told = |deploy: &DeploySpec| (deploy.draining_seconds, deploy.unhealthy_replacement, deploy.sticky, deploy.sleep_application);
    if before.replicas() != after.replicas() {
        Some(kind("appContainers", "App scaled"))
    } else if before.limits != after.limits {
        Some(kind("appResize", "App resized"))
    } else if told(&before) != told(&after) {
        Some(kind("appSettings", "App settings changed"))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::{ActivityId, InstanceId, ReplicaId, Timestamp, UserId, WorkspaceId};
    use serde_json::{Value, json};

    fn sentence(verb: &str, data: Value) -> Option<String> {
        let activity = Activity {
            id: ActivityId::generate(),
            workspace_id: WorkspaceId::generate(),
            project_id: None,
            instance_id: Some(InstanceId::generate()),
            actor: Actor::User { id: UserId::generate(), name: "Alice".into(), email: "alice@example.com".into(), run: None },
            verb: verb.into(),
            subject: ReplicaId::generate().to_string(),
            data,
            address: None,
            created_at: Timestamp::UNIX_EPOCH,
        };
        ActivityKind::of(&activity).map(|kind| kind.sentence(&activity, "alice", "a.example.com"))
    }

    #[test]
    fn every_kind_is_a_sentence_whoever_made_the_change() {
        let change = |set: fn(&mut DeploySpec)| {
            let (before, mut after) = (InstanceSpec::default(), InstanceSpec::default());
            set(&mut after.deploy);
            json!({"before": before, "after": after})
        };
        let reason = || json!({"snapshot": "s", "reason": "it did not answer"});
        let container = || json!({"container": "x1z2"});
        for (verb, data, wanted) in [
            ("deployment_create", json!({}), "alice initiated deploy for a.example.com"),
            ("deployment_redeploy", json!({}), "alice initiated deploy for a.example.com"),
            ("service_instance_redeploy", json!({}), "alice initiated deploy for a.example.com"),
            ("deployment_built", reason(), "alice successfully built a.example.com"),
            ("deployment_build_failed", reason(), "Build failed for a.example.com: it did not answer"),
            ("deployment_build_retried", reason(), "Build failed for a.example.com and is tried again: it did not answer"),
            ("deployment_succeeded", reason(), "alice successfully deployed a.example.com"),
            ("deployment_failed", reason(), "Deploy failed for a.example.com: it did not answer"),
            ("deployment_cancel", json!({}), "alice aborted the deploy of a.example.com"),
            ("deployment_rollback", json!({}), "alice restored a.example.com"),
            ("deployment_start", json!({}), "alice started a.example.com"),
            ("deployment_stop", json!({}), "alice stopped a.example.com"),
            ("deployment_restart", json!({}), "alice restarted a.example.com"),
            ("deployment_remove", json!({}), "alice stopped a.example.com"),
            (APP_REMOVED, json!({"host": "a.example.com"}), "alice removed a.example.com"),
            (APP_TRANSFERRED, json!({"from": "alice", "to": "team"}), "alice transferred a.example.com from alice to team"),
            (APP_PLAN, json!({"from": Plan::Professional, "to": Plan::Hobby}), "alice downgraded a.example.com from Professional to Hobby"),
            (APP_PLAN, json!({"from": "FREE", "to": "HOBBY"}), "alice upgraded a.example.com from Free to Hobby"),
            (APP_SLEPT, reason(), "Cold start app stopped due to lack of connections"),
            (APP_WOKEN, reason(), "A new connection started a.example.com"),
            (APP_ENDED, reason(), "a.example.com stopped: all of its containers have ended"),
            ("container_count_set", json!({"from": 3, "to": 1}), "alice scaled a.example.com down from 3 to 1 containers"),
            (
                "service_instance_update",
                change(|deploy| deploy.regions = [("a".into(), 2), ("b".into(), 1)].into()),
                "alice scaled a.example.com up from 1 to 3 containers",
            ),
            (
                "container_type_set",
                json!({"from": "tiny", "to": "double"}),
                "alice resized a.example.com from tiny to double sized containers",
            ),
            (
                "service_instance_limits_update",
                change(|deploy| deploy.limits = Limits { memory_bytes: Some(512 << 20), cpu_millis: Some(500) }),
                "alice resized a.example.com from custom to compact sized containers",
            ),
            (
                "service_instance_limits_update",
                change(|deploy| deploy.limits.memory_bytes = Some(700 << 20)),
                "alice resized a.example.com from custom to 700 MB sized containers",
            ),
            ("container_kill", container(), "alice killed container x1z2 of a.example.com"),
            ("app_settings_set", json!({"stopGraceSeconds": 60}), "alice set the container stop grace period of a.example.com to 1m"),
            ("app_settings_set", json!({"stopGraceSeconds": 90}), "alice set the container stop grace period of a.example.com to 1m 30s"),
            ("app_settings_set", json!({"stopGraceSeconds": 9, "sticky": true}), "alice changed settings of a.example.com"),
            ("meteor_settings_set", json!({}), "alice changed settings of a.example.com"),
            ("service_instance_update", change(|deploy| deploy.sticky = true), "alice changed settings of a.example.com"),
            ("service_instance_update", change(|deploy| deploy.sleep_application = true), "alice changed settings of a.example.com"),
            ("service_instance_update", change(|deploy| deploy.draining_seconds = 9), "alice changed settings of a.example.com"),
            (
                "trigger_over_limit",
                json!({"trigger": "up", "to": 9}),
                "Trigger up could not add containers to a.example.com: the account's limit is reached",
            ),
            (
                "certificate_failed",
                json!({"domain": "www.example.com", "reason": "it leads elsewhere"}),
                "No certificate could be had for www.example.com: it leads elsewhere",
            ),
            ("container_unhealthy", container(), "Container x1z2 of a.example.com is unhealthy and is replaced"),
            ("app_unavailable", reason(), "a.example.com is unavailable: none of its containers is healthy"),
            (APP_SILENT, json!({}), "a.example.com is unavailable: none of its containers is healthy"),
        ] {
            assert_eq!(sentence(verb, data.clone()).as_deref(), Some(wanted), "{verb} {data}");
        }
        // Neither the number nor the size of containers is another one.
        assert_eq!(sentence("service_instance_update", change(|deploy| deploy.regions = [("a".into(), 1)].into())), None);
        assert_eq!(sentence("service_instance_update", change(|deploy| deploy.start_command = Some("x".into()))), None);
        assert_eq!(sentence("project_create", json!({})), None);
    }

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
            "Build failed temporarily",
            "Container unhealthy",
            "Deploy failed",
            "Trigger add containers limit error",
        ] {
            assert!(all.iter().any(|kind| kind.label == label), "{label}");
        }
    }
}
