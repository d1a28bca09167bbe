//! The steps of a deployment as users see them: `deploymentEvents`, and the health check's lines in the build log
//! (`contracts/railway.md` 3.3).
//!
//! A deployment that is restarted goes through its steps again: a *round* are the steps since its status last became DEPLOYING.

use builder::BuildLine;
use domain::deployment::{Deployment, DeploymentEvent, DeploymentStatus, EventStep, ReplicaStatus};
use domain::rollout::{Phase, Plan};
use domain::{DeploymentId, EventId, Timestamp};
use store::Change;

use crate::observe::View;
use crate::{Shared, build};

/// Why a deployment waits for others.
const OTHERS_FIRST: &str = "its variables refer to services that are deployed with it and come first";

/// A step that begins.
pub(crate) fn open(deployment: DeploymentId, step: EventStep, at: Timestamp) -> DeploymentEvent {
    let (id, deployment_id) = (EventId::generate(), deployment);
    DeploymentEvent { id, deployment_id, step, created_at: at, completed_at: None, error: None, detail: None }
}

/// Whether such a step has begun and not ended.
pub(crate) fn is_open(events: &[DeploymentEvent], step: EventStep) -> bool {
    events.iter().any(|event| event.step == step && event.completed_at.is_none())
}

/// Writes down steps, and keeps the view's knowledge of them up to date.
struct Writer<'a> {
    view: &'a mut View,
    now: Timestamp,
    changes: Vec<Change>,
}

impl Writer<'_> {
    fn in_round(&self, deployment: &Deployment, step: EventStep) -> Option<&DeploymentEvent> {
        let events = self.view.events.get(&deployment.id)?;
        events.iter().rev().find(|event| event.step == step && event.created_at >= deployment.status_at)
    }

    /// Begins a step that this round has not begun.
    fn begin(&mut self, deployment: &Deployment, step: EventStep) -> bool {
        if self.in_round(deployment, step).is_some() {
            return false;
        }
        // A clock that was set back must not make the step look like one of an earlier round.
        let detail = (step == EventStep::WaitForDependencies).then(|| OTHERS_FIRST.to_owned());
        let event = DeploymentEvent { detail, ..open(deployment.id, step, self.now.max(deployment.status_at)) };
        self.changes.push(Change::EventInsert(event.clone()));
        self.view.events.entry(deployment.id).or_default().push(event);
        true
    }

    /// Ends the newest open step of this kind, if there is one.
    fn end(&mut self, id: DeploymentId, step: EventStep, error: Option<&str>) {
        let events = self.view.events.get_mut(&id);
        let open = events.and_then(|events| events.iter_mut().rev().find(|event| event.step == step && event.completed_at.is_none()));
        if let Some(event) = open {
            event.completed_at = Some(self.now);
            let error = error.map(str::to_owned);
            self.changes.push(Change::EventComplete { deployment: id, step, at: self.now, error, detail: None });
        }
    }

    fn end_all(&mut self, id: DeploymentId, error: Option<&str>) {
        let steps: Vec<EventStep> =
            self.view.events.get(&id).into_iter().flatten().filter(|event| event.completed_at.is_none()).map(|event| event.step).collect();
        for step in steps {
            self.end(id, step, error);
        }
    }
}

fn writer(view: &mut View) -> Writer<'_> {
    Writer { view, now: Timestamp::now(), changes: vec![] }
}

/// What begins and ends while replicas start: the changes, and the deployments whose health check begins now.
pub(crate) fn starting(view: &mut View, plan: &Plan) -> (Vec<Change>, Vec<Deployment>) {
    let candidates: Vec<Deployment> =
        view.deployments.iter().filter(|deployment| deployment.status == DeploymentStatus::Deploying).cloned().collect();
    let mut writer = writer(view);
    let mut checked = vec![];
    for deployment in &candidates {
        if writer.view.awaits_others(deployment) {
            writer.begin(deployment, EventStep::WaitForDependencies);
            continue;
        }
        writer.end(deployment.id, EventStep::WaitForDependencies, None);
        if writer.view.awaits_pre_deploy(deployment) {
            continue;
        }
        let replicas = writer.view.replicas.iter();
        let current: Vec<_> =
            replicas.filter(|replica| replica.deployment_id == deployment.id && replica.generation == deployment.generation).collect();
        let missing = plan.start.iter().any(|(id, ..)| *id == deployment.id);
        if current.is_empty() && !missing {
            continue;
        }
        let started = !missing && current.iter().all(|replica| replica.status != ReplicaStatus::Created);
        writer.begin(deployment, EventStep::CreateContainer);
        if started {
            writer.end(deployment.id, EventStep::CreateContainer, None);
            if writer.begin(deployment, EventStep::Healthcheck) {
                checked.push(deployment.clone());
            }
        }
    }
    (writer.changes, checked)
}

/// The health check has been passed and the traffic is being switched since then.
pub(crate) fn switching(view: &mut View, deployment: &Deployment, since: Timestamp) -> Vec<Change> {
    let mut writer = Writer { view, now: since, changes: vec![] };
    writer.begin(deployment, EventStep::CreateContainer);
    writer.end(deployment.id, EventStep::CreateContainer, None);
    writer.begin(deployment, EventStep::Healthcheck);
    writer.end(deployment.id, EventStep::Healthcheck, None);
    writer.begin(deployment, EventStep::ConfigureNetwork);
    writer.changes
}

/// The traffic is switched.
pub(crate) fn switched(view: &mut View, deployment: &Deployment, since: Option<Timestamp>) -> Vec<Change> {
    let mut changes = switching(view, deployment, since.unwrap_or_else(Timestamp::now));
    let mut writer = writer(view);
    writer.end(deployment.id, EventStep::ConfigureNetwork, None);
    changes.append(&mut writer.changes);
    changes
}

/// A candidate fails in whatever it was at.
pub(crate) fn failing(view: &mut View, deployment: &Deployment, reason: &str) -> Vec<Change> {
    let first = if view.lacks(deployment.id).is_some() { EventStep::CreateContainer } else { EventStep::Healthcheck };
    let mut writer = writer(view);
    let at_work = [EventStep::ConfigureNetwork, EventStep::Healthcheck, EventStep::CreateContainer];
    let begun = |step: &EventStep| writer.view.events.get(&deployment.id).is_some_and(|events| is_open(events, *step));
    let step = at_work.into_iter().find(begun).unwrap_or(first);
    writer.begin(deployment, step);
    writer.end_all(deployment.id, Some(reason));
    writer.changes
}

/// What drains: told with the deployment that takes over, or with the one that was taken out of service when nothing follows it. `leaving`
/// are those that become REMOVING now, `left` those that become REMOVED.
pub(crate) fn draining(view: &mut View, leaving: &[DeploymentId], left: &[DeploymentId]) -> Vec<Change> {
    let is_leaving = |d: &Deployment| leaving.contains(&d.id) || (d.status == DeploymentStatus::Removing && !left.contains(&d.id));
    let drains: Vec<DeploymentId> = view.deployments.iter().filter(|d| is_leaving(d)).map(|d| d.id).collect();
    let removed: Vec<Deployment> = view.deployments.iter().filter(|d| left.contains(&d.id)).cloned().collect();
    let has_replicas = |id: DeploymentId| {
        let state = view.observed.deployments.iter().find(|state| state.id == id);
        let runs = |phase: &Phase| matches!(phase, Phase::Starting | Phase::Healthy | Phase::Stopping | Phase::Killed { .. });
        state.is_some_and(|state| state.replicas.iter().any(|replica| runs(&replica.phase)))
    };
    let tellers: Vec<Deployment> = drains
        .iter()
        .filter(|id| has_replicas(**id))
        .filter_map(|id| {
            let at = view.deployments.iter().position(|deployment| deployment.id == *id)?;
            let follows = |d: &&Deployment| matches!(d.status, DeploymentStatus::Success | DeploymentStatus::Deploying);
            let successor = view.deployments[at + 1..].iter().rev().filter(|d| !drains.contains(&d.id)).find(follows);
            Some(successor.unwrap_or(&view.deployments[at]).clone())
        })
        .collect();
    let everyone: Vec<DeploymentId> = view.deployments.iter().map(|deployment| deployment.id).collect();
    let mut writer = writer(view);
    for teller in tellers {
        writer.begin(&teller, EventStep::DrainInstances);
    }
    for deployment in removed {
        writer.end_all(deployment.id, None);
    }
    if drains.is_empty() && !left.is_empty() {
        for id in everyone {
            writer.end(id, EventStep::DrainInstances, None);
        }
    }
    writer.changes
}

/// Seconds as the build log has always written them: `5m0s`.
fn window(seconds: i64) -> String {
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    match (hours, minutes) {
        (0, 0) => format!("{seconds}s"),
        (0, _) => format!("{minutes}m{seconds}s"),
        _ => format!("{hours}h{minutes}m{seconds}s"),
    }
}

async fn tell(shared: &Shared, deployment: &Deployment, lines: Vec<(bool, String)>) {
    let lines = lines.into_iter().map(|(error, message)| BuildLine { error, message });
    build::log(shared, deployment, lines).await;
}

/// The health check begins.
pub(crate) async fn tell_begin(shared: &Shared, deployment: &Deployment) {
    if let Some(path) = &deployment.spec.deploy.healthcheck_path {
        let limit = window(i64::from(deployment.spec.deploy.healthcheck_seconds()));
        let lines = ["Starting Healthcheck".to_owned(), format!("Path: {path}"), format!("Retry window: {limit}")];
        tell(shared, deployment, lines.map(|line| (false, line)).into()).await;
    }
}

/// An attempt has failed and there will be more.
pub(crate) async fn tell_attempt(shared: &Shared, deployment: &Deployment, number: u32, failure: &str, until: Timestamp) {
    let left = until.duration_since(Timestamp::now()).as_secs();
    if left > 0 {
        let line = format!("Attempt #{number} failed with {failure}. Continuing to retry for {}", window(left));
        tell(shared, deployment, vec![(false, line)]).await;
    }
}

/// Nobody listens where requests will be sent.
pub(crate) async fn tell_silence(shared: &Shared, deployment: &Deployment, port: u16) {
    let line = format!("Nothing answers on port {port} yet: the app has to listen on $PORT");
    tell(shared, deployment, vec![(false, line)]).await;
}

/// The health check is over, or there was nothing to check.
pub(crate) async fn tell_end(shared: &Shared, view: &View, deployment: &Deployment, failure: Option<&str>) {
    if let Some(what) = view.lacks(deployment.id) {
        return tell(shared, deployment, vec![(true, what.to_owned())]).await;
    }
    if deployment.spec.deploy.healthcheck_path.is_none() {
        return;
    }
    let state = view.observed.deployments.iter().find(|state| state.id == deployment.id);
    let wanted = state.map_or(1, |state| state.wanted.max(1));
    let healthy = state.map_or(0, |state| {
        state.replicas.iter().filter(|replica| replica.generation == state.generation && replica.phase == Phase::Healthy).count()
    });
    let lines = match failure {
        None => vec![(false, format!("[{wanted}/{wanted}] Healthcheck succeeded!"))],
        Some(reason) => vec![
            (true, format!("{}/{wanted} replicas never became healthy!", wanted as usize - healthy.min(wanted as usize))),
            (true, reason.to_owned()),
            (true, "Healthcheck failed!".to_owned()),
        ],
    };
    tell(shared, deployment, lines).await;
}

#[cfg(test)]
mod tests {
    #[test]
    fn times_are_written_as_users_know_them() {
        let written = [0, 45, 289, 300, 3600].map(super::window);
        assert_eq!(written, ["0s", "45s", "4m49s", "5m0s", "1h0m0s"]);
    }
}
