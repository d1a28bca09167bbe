//! Apps that somebody has stopped stay so, whatever was on its way and whatever is set meanwhile.

use domain::deployment::{Deployment, DeploymentStatus, Replica, ReplicaStatus};
use domain::{DeploymentId, ReplicaId, Timestamp};
use serde_json::json;
use store::Change;

use super::{App, Galaxy, code};

impl Galaxy {
    async fn act(&self, app: &App, field: &str) {
        let who = self.bearer(&app.estate.person.token).await;
        self.data(&who, &format!("mutation {{ {field}(appId: \"{}\") {{ _id }} }}", app.id()), json!({})).await;
    }

    async fn deployment(&self, app: &App, id: DeploymentId) -> Deployment {
        self.world.server.ops.store.deployment(id).await.unwrap().unwrap().open(app.tenant).unwrap()
    }

    /// The newest one that is not final.
    async fn newest(&self, app: &App) -> Deployment {
        self.world.server.ops.store.deployments_live(app.tenant, &[app.instance]).await.unwrap().pop().unwrap()
    }

    async fn set_variable(&self, app: &App, value: &str) {
        let (who, place) = (self.bearer(&app.estate.person.token).await, &app.estate);
        let input = format!(
            "{{projectId: \"{}\", environmentId: \"{}\", serviceId: \"{}\", name: \"GREETING\", value: \"{value}\"}}",
            place.person.project, place.person.environment, place.service
        );
        self.world.data(&who, &format!("mutation {{ variableUpsert(input: {input}) }}"), json!({})).await;
    }

    async fn variable(&self, app: &App, of: DeploymentId, name: &str) -> Option<String> {
        self.world.server.ops.store.deployment_variables(app.tenant, of).await.unwrap().remove(name)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_on_its_way_is_stopped_with_the_app() {
    let galaxy = Galaxy::start().await;
    let app = galaxy.app("ann@x.test").await;
    let rollout = galaxy.version(&app, DeploymentStatus::Deploying).await;
    let build = galaxy.version(&app, DeploymentStatus::Building).await;
    galaxy.act(&app, "stopApp").await;
    for coming in [rollout.id, build.id] {
        assert_eq!(galaxy.deployment(&app, coming).await.status, DeploymentStatus::Removing);
    }
    let serving = galaxy.deployment(&app, app.estate.deployment).await;
    assert_eq!((serving.status, serving.stopped), (DeploymentStatus::Success, true));
    let who = galaxy.bearer(&app.estate.person.token).await;
    let feed = format!("{{ app(hostname: \"{}\") {{ activities {{ type }} }} }}", app.host);
    let feed = galaxy.data(&who, &feed, json!({})).await["app"]["activities"].clone();
    let told = |kind: &str| feed.as_array().unwrap().iter().filter(|one| one["type"] == kind).count();
    assert_eq!((told("appStop"), told("appDeployAbort")), (1, 2), "{feed}");

    // The same while the very first one is on its way.
    let app = galaxy.app("bob@x.test").await;
    galaxy.world.moved(app.estate.workspace, app.estate.deployment, DeploymentStatus::Success, DeploymentStatus::Removed, None).await;
    let first = galaxy.version(&app, DeploymentStatus::Deploying).await;
    galaxy.act(&app, "stopApp").await;
    assert_eq!(galaxy.deployment(&app, first.id).await.status, DeploymentStatus::Removing);
    let who = galaxy.bearer(&app.estate.person.token).await;
    let again = galaxy.ask(&who, &format!("mutation {{ stopApp(appId: \"{}\") {{ _id }} }}", app.id()), json!({})).await;
    assert_eq!(code(&again), "CONFLICT", "{again}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_app_stays_so_when_it_is_set_otherwise_and_starts_with_that() {
    let galaxy = Galaxy::start().await;
    let app = galaxy.app("ann@x.test").await;
    galaxy.version(&app, DeploymentStatus::Success).await;
    galaxy.act(&app, "stopApp").await;
    let who = galaxy.bearer(&app.estate.person.token).await;
    let set = format!("mutation {{ setMeteorSettings(appId: \"{}\", settings: \"{{}}\") {{ status }} }}", app.id());
    assert_eq!(galaxy.data(&who, &set, json!({})).await["setMeteorSettings"]["status"], "stopped");
    galaxy.set_variable(&app, "hello").await;
    let resting = galaxy.newest(&app).await;
    assert_eq!((resting.status, resting.stopped), (DeploymentStatus::Success, true));

    galaxy.act(&app, "startApp").await;
    let started = galaxy.newest(&app).await;
    assert_eq!((started.id, started.stopped), (resting.id, false));
    assert_eq!(galaxy.variable(&app, started.id, "GREETING").await.as_deref(), Some("hello"));
    assert_eq!(galaxy.variable(&app, started.id, "METEOR_SETTINGS").await.as_deref(), Some("{}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_ended_by_itself_runs_again_when_it_is_set_otherwise() {
    let galaxy = Galaxy::start().await;
    let app = galaxy.app("ann@x.test").await;
    let ended = galaxy.version(&app, DeploymentStatus::Success).await;
    let store = &galaxy.world.server.ops.store;
    let of = store.replicas_of(app.tenant, &[app.estate.deployment]).await.unwrap().remove(0);
    let replica = Replica { id: ReplicaId::generate(), deployment_id: ended.id, status: ReplicaStatus::Exited, exit_code: Some(0), ..of };
    let stopped = Change::DeploymentStopped { id: ended.id, stopped: true, of: None, at: Timestamp::now() };
    store.commit(app.tenant, vec![Change::ReplicaInsert(replica), stopped]).await.unwrap();
    galaxy.set_variable(&app, "again").await;
    let next = galaxy.newest(&app).await;
    assert_eq!((next.status, next.stopped), (DeploymentStatus::Deploying, false));
    assert_eq!(galaxy.variable(&app, next.id, "GREETING").await.as_deref(), Some("again"));
}
