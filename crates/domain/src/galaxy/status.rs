//! States as Galaxy names them, read from deployments and replicas (`contracts/galaxy.md` 3.2, 3.3, 3.9).

use crate::deployment::{Deployment, DeploymentStatus, Replica, ReplicaStatus};
use crate::rollout::{ASLEEP, SCALED_DOWN, STOPPED};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$vdoc])* $variant),+ }

        impl $name {
            /// As on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str { match self { $(Self::$variant => $text),+ } }
        }
    };
}

words! {
    /// Where an app stands.
    AppStatus {
        /// All wanted containers run.
        Running = "running",
        /// Its first containers are not healthy yet.
        Starting = "starting",
        /// A version is rolled out, or it is scaled.
        Updating = "updating",
        /// Its containers end on request.
        Stopping = "stopping",
        /// Somebody stopped it.
        Stopped = "stopped",
        /// None of its containers is healthy.
        Unavailable = "unavailable",
        /// It never came to run.
        StartingFailed = "startingFailed",
    }
}

words! {
    /// Where a container stands.
    ContainerStatus {
        /// Healthy.
        Running = "running",
        /// Launched, not healthy yet.
        Starting = "starting",
        /// Its app ended and starts again, or does not answer.
        Unhealthy = "unhealthy",
        /// It drains.
        Stopping = "stopping",
        /// It is gone.
        Stopped = "stopped",
    }
}

words! {
    /// Where the build of a version stands.
    BuildStatus {
        /// There was nothing to build.
        Missing = "missing",
        /// Under way.
        Building = "building",
        /// It failed for a reason of the platform's own, which tries it again.
        FailedTemporarily = "failed-temporarily",
        /// It does not build.
        FailedPermanently = "failed-permanently",
        /// Built.
        Success = "success",
    }
}

words! {
    /// Where the rollout of a version stands.
    RolloutStatus {
        /// Under way.
        Deploying = "deploying",
        /// It served, or does.
        Success = "success",
        /// It never became healthy.
        Failed = "failed",
        /// Somebody ended it.
        Aborted = "aborted",
    }
}

/// Where a container stands.
#[must_use]
pub fn container_status(replica: &Replica) -> ContainerStatus {
    match replica.status {
        ReplicaStatus::Created | ReplicaStatus::Initializing => ContainerStatus::Starting,
        ReplicaStatus::Running if replica.is_up() => ContainerStatus::Running,
        ReplicaStatus::Running | ReplicaStatus::Restarting | ReplicaStatus::Crashed => ContainerStatus::Unhealthy,
        ReplicaStatus::Removing => ContainerStatus::Stopping,
        ReplicaStatus::Exited | ReplicaStatus::Stopped | ReplicaStatus::Removed => ContainerStatus::Stopped,
    }
}

/// Where an app stands. `open` are its deployments that are not final, oldest first; `latest` is its newest one of all; `replicas` are
/// all rows of the open ones, those that are gone included; `wanted` is the number of containers that it shall have.
#[must_use]
pub fn app_status(open: &[Deployment], latest: Option<&Deployment>, replicas: &[Replica], wanted: u32) -> AppStatus {
    let serving = open.iter().rev().find(|d| matches!(d.status, DeploymentStatus::Success | DeploymentStatus::Sleeping));
    let newest = open.iter().rev().find(|d| d.status != DeploymentStatus::Removing);
    let live = |d: &Deployment| {
        let id = d.id;
        replicas.iter().filter(move |r| r.deployment_id == id && r.status.is_live())
    };
    if newest.is_some_and(|d| d.status == DeploymentStatus::Deploying) {
        let before = open.iter().any(|d| d.status != DeploymentStatus::Deploying && live(d).any(|r| r.status == ReplicaStatus::Running));
        let restart = newest.is_some_and(|d| d.generation > 0);
        return if before || restart { AppStatus::Updating } else { AppStatus::Starting };
    }
    let Some(serving) = serving else {
        let removing = open.iter().any(|d| d.status == DeploymentStatus::Removing && live(d).next().is_some());
        let building = newest.is_some_and(|d| d.status.is_pending());
        return match latest.map(|d| d.status) {
            _ if removing => AppStatus::Stopping,
            _ if building => AppStatus::Starting,
            Some(DeploymentStatus::Failed) => AppStatus::StartingFailed,
            Some(DeploymentStatus::Crashed) => AppStatus::Unavailable,
            _ => AppStatus::Stopped,
        };
    };
    if serving.stopped || serving.status == DeploymentStatus::Sleeping {
        return if live(serving).next().is_some() { AppStatus::Stopping } else { AppStatus::Stopped };
    }
    // Between its runs it has no containers, and nothing is wrong with that.
    if serving.spec.deploy.cron_schedule.is_some() {
        return AppStatus::Running;
    }
    let places: Vec<Place> = (0..wanted.max(1)).map(|index| Place::of(serving, replicas, index)).collect();
    if places.contains(&Place::Starting) {
        return AppStatus::Starting;
    }
    let leaving = live(serving).any(|r| r.generation == serving.generation && r.index >= wanted.max(1));
    let draining = open.iter().any(|d| d.id < serving.id && live(d).next().is_some());
    if leaving || draining || places.contains(&Place::Added) {
        return AppStatus::Updating;
    }
    if places.contains(&Place::Healthy) { AppStatus::Running } else { AppStatus::Unavailable }
}

/// What is at one place of a deployment. Scaling and starting are told from replacing by what was there before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Healthy,
    /// Comes because the app is scaled.
    Added,
    /// Comes because the app was started.
    Starting,
    /// Takes the place of one that was killed, has ended or was lost.
    Replaced,
    /// Runs, and answers nobody.
    Silent,
}

impl Place {
    fn of(deployment: &Deployment, replicas: &[Replica], index: u32) -> Self {
        let mine = |r: &&Replica| r.deployment_id == deployment.id && r.generation == deployment.generation && r.index == index;
        let mut rows: Vec<&Replica> = replicas.iter().filter(mine).collect();
        rows.sort_by_key(|row| row.id);
        let newest = rows.last();
        if newest.is_some_and(|row| row.is_up()) {
            return Self::Healthy;
        }
        if newest.is_some_and(|row| row.status == ReplicaStatus::Running) {
            return Self::Silent;
        }
        let comes = |row: &&Replica| matches!(row.status, ReplicaStatus::Created | ReplicaStatus::Initializing);
        if newest.is_some_and(|row| row.restarts > 0) {
            return Self::Replaced;
        }
        let before = if newest.is_some_and(comes) { rows.iter().rev().nth(1) } else { newest };
        match before.map(|row| row.reason.as_deref()) {
            None | Some(Some(SCALED_DOWN)) => Self::Added,
            Some(Some(STOPPED | ASLEEP)) => Self::Starting,
            Some(_) => Self::Replaced,
        }
    }
}

/// How far a version has come, by its first deployment.
#[must_use]
pub fn version_status(deployment: &Deployment) -> (BuildStatus, Option<RolloutStatus>) {
    let built = deployment.artifact.is_some();
    let build = match deployment.status {
        _ if built => BuildStatus::Success,
        DeploymentStatus::Failed => BuildStatus::FailedPermanently,
        DeploymentStatus::Skipped | DeploymentStatus::Removing | DeploymentStatus::Removed => BuildStatus::Missing,
        // Why the last attempt failed, until the next one begins.
        DeploymentStatus::Building if deployment.status_reason.is_some() => BuildStatus::FailedTemporarily,
        _ => BuildStatus::Building,
    };
    let rollout = match deployment.status {
        DeploymentStatus::Removing | DeploymentStatus::Removed if !built => Some(RolloutStatus::Aborted),
        _ if !built => None,
        DeploymentStatus::Deploying => Some(RolloutStatus::Deploying),
        DeploymentStatus::Failed | DeploymentStatus::Crashed => Some(RolloutStatus::Failed),
        DeploymentStatus::Success | DeploymentStatus::Sleeping | DeploymentStatus::Removing | DeploymentStatus::Removed => {
            Some(RolloutStatus::Success)
        }
        _ => None,
    };
    (build, rollout)
}

#[cfg(test)]
mod tests;
