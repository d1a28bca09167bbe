//! What Galaxy's clients require whatever else is built (`contracts/galaxy.md` 1), one test for each but the last two: keys and bodies have
//! theirs beside this module, and killing every container is seen from outside only (`killing_the_only_container_shows_and_…` of the
//! engine).

use std::collections::BTreeMap;
use std::path::PathBuf;

use domain::deployment::{Deployment, DeploymentStatus, Replica};
use domain::galaxy::{container_id, version_id};
use domain::spec::RunPlan;
use domain::{DeploymentId, ReplicaId, SnapshotId};
use serde_json::{Value, json};
use store::Change;

use super::{App, Galaxy, code};

impl Galaxy {
    /// Another deployment of the app, of a source of its own that was built.
    pub(super) async fn version(&self, app: &App, status: DeploymentStatus) -> Deployment {
        let store = &self.world.server.ops.store;
        let first = store.deployment(app.estate.deployment).await.unwrap().unwrap().open(app.tenant).unwrap();
        let id = DeploymentId::generate();
        std::fs::create_dir_all(self.artifact(id)).unwrap();
        let (artifact, run) = (Some(id.to_string()), Some(RunPlan::Static { root: ".".into(), spa: false }));
        let deployment = Deployment { id, snapshot_id: SnapshotId::generate(), status, artifact, run, ..first };
        let insert = Change::DeploymentInsert { deployment: deployment.clone(), variables: BTreeMap::new() };
        store.commit(app.tenant, vec![insert]).await.unwrap();
        deployment
    }

    /// Where the artifact of a deployment lies.
    fn artifact(&self, of: DeploymentId) -> PathBuf {
        self.world.server.ops.settings.artifacts.join(of.to_string())
    }

    /// Fields of the app, as its owner reads them.
    async fn read(&self, app: &App, fields: &str) -> Value {
        let who = self.bearer(&app.estate.person.token).await;
        self.data(&who, &format!("{{ app(hostname: \"{}\") {{ {fields} }} }}", app.host), json!({})).await["app"].clone()
    }

    async fn scale(&self, app: &App, count: u32) -> Value {
        let who = self.bearer(&app.estate.person.token).await;
        let scale = format!("setContainerCountForApp(appId: \"{}\", containerCount: {count}) {{ status containerCount }}", app.id());
        self.data(&who, &format!("mutation {{ {scale} }}"), json!({})).await["setContainerCountForApp"].clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_version_that_an_activity_names_is_listed() {
    let galaxy = Galaxy::start().await;
    let app = galaxy.app("ann@x.test").await;
    for _ in 0..3 {
        let version = galaxy.version(&app, DeploymentStatus::Removed).await;
        let restored = format!("restoreVersion(appId: \"{}\", versionId: \"{}\") {{ _id }}", app.id(), version_id(version.snapshot_id));
        let who = galaxy.bearer(&app.estate.person.token).await;
        galaxy.data(&who, &format!("mutation {{ {restored} }}"), json!({})).await;
    }
    let found = galaxy.read(&app, "versions { _id } activities { type versionId }").await;
    let listed: Vec<&Value> = found["versions"].as_array().unwrap().iter().map(|version| &version["_id"]).collect();
    let named: Vec<&Value> = found["activities"].as_array().unwrap().iter().map(|activity| &activity["versionId"]).collect();
    assert_eq!((listed.len(), named.iter().filter(|id| !id.is_null()).count()), (4, 4), "{found}");
    assert!(named.iter().all(|id| id.is_null() || listed.contains(id)), "{found}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_is_called_as_its_own_environment_calls_it() {
    let galaxy = Galaxy::start().await;
    let app = galaxy.app("ann@x.test").await;
    let replica = galaxy.containers(&app, 1, 1).await[0];
    let mut env = BTreeMap::new();
    domain::galaxy::environment(&mut env, &container_id(app.instance, replica), 1, None, 30);
    let found = galaxy.read(&app, "_id containers { _id }").await;
    assert_eq!(
        (found["_id"].as_str(), found["containers"][1]["_id"].as_str()),
        (env.get("GALAXY_APP_ID").map(String::as_str), env.get("GALAXY_CONTAINER_ID").map(String::as_str))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_container_that_does_not_answer_says_since_when() {
    let galaxy = Galaxy::start().await;
    let app = galaxy.app("ann@x.test").await;
    let store = &galaxy.world.server.ops.store;
    let well = store.replicas_of(app.tenant, &[app.estate.deployment]).await.unwrap().remove(0);
    let since = "2026-01-02T03:04:05Z".parse().unwrap();
    let hung = Replica { id: ReplicaId::generate(), index: 1, unhealthy_since: Some(since), ..well };
    store.commit(app.tenant, vec![Change::ReplicaInsert(hung)]).await.unwrap();
    let found = galaxy.read(&app, "containers { status }").await;
    assert_eq!(found["containers"], json!([{"status": "running"}, {"status": "unhealthy"}]));
    let (who, person) = (galaxy.bearer(&app.estate.person.token).await, &app.estate.person);
    let asked = format!(
        "{{ containers(environmentId: \"{}\", serviceId: \"{}\") {{ status unhealthySince }} }}",
        person.environment, app.estate.service
    );
    let found = galaxy.world.data(&who, &asked, json!({})).await["containers"].clone();
    assert_eq!(found[0], json!({"status": "RUNNING", "unhealthySince": null}));
    assert_eq!(found[1], json!({"status": "RUNNING", "unhealthySince": "2026-01-02T03:04:05.000Z"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_metric_comes_first() {
    let galaxy = Galaxy::start().await;
    let app = galaxy.app("ann@x.test").await;
    for (series, seconds) in [("5s", 5.0), ("3m", 180.0), ("1h", 3_600.0), ("1d", 86_400.0)] {
        let metrics = format!("metrics(seriesName: \"{series}\", limit: 4) {{ timestamp }}");
        let found = galaxy.read(&app, &format!("{metrics} containers {{ {metrics} }}")).await;
        for points in [&found["metrics"], &found["containers"][0]["metrics"]] {
            let times: Vec<f64> = points.as_array().unwrap().iter().map(|point| point["timestamp"].as_f64().unwrap()).collect();
            assert!(times.windows(2).all(|two| two[0] - two[1] == seconds), "{series}: {times:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn exactly_as_many_metrics_come_as_were_asked_for() {
    let galaxy = Galaxy::start().await;
    let app = galaxy.app("ann@x.test").await;
    for series in ["5s", "3m", "1h", "1d"] {
        for limit in [1, 2, 13, 60] {
            let metrics = format!("metrics(seriesName: \"{series}\", limit: {limit}) {{ cpu }}");
            let found = galaxy.read(&app, &format!("{metrics} containers {{ {metrics} }}")).await;
            let counts = [&found["metrics"], &found["containers"][0]["metrics"]].map(|points| points.as_array().unwrap().len());
            assert_eq!(counts, [limit, limit], "{series}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_is_updating_while_it_is_scaled_or_rolled_out_and_not_otherwise() {
    let galaxy = Galaxy::start().await;
    let app = galaxy.app("ann@x.test").await;
    let status = async || galaxy.read(&app, "status").await["status"].clone();
    assert_eq!(status().await, "running");
    assert_eq!(galaxy.scale(&app, 3).await["status"], "updating");
    assert_eq!(status().await, "updating");
    let added = galaxy.containers(&app, 1, 2).await;
    assert_eq!(status().await, "running");

    let who = galaxy.bearer(&app.estate.person.token).await;
    let container = container_id(app.instance, added[0]);
    let kill = format!("mutation {{ killContainer(appId: \"{}\", containerId: \"{container}\") {{ status }} }}", app.id());
    assert_eq!(galaxy.data(&who, &kill, json!({})).await["killContainer"]["status"], "stopping");
    assert_eq!(status().await, "running", "a container that is replaced is neither");

    galaxy.version(&app, DeploymentStatus::Deploying).await;
    assert_eq!(status().await, "updating");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_count_of_containers_is_absolute() {
    let galaxy = Galaxy::start().await;
    let app = galaxy.app("ann@x.test").await;
    for count in [3, 3, 2] {
        assert_eq!(galaxy.scale(&app, count).await["containerCount"], count);
        assert_eq!(galaxy.read(&app, "containerCount").await["containerCount"], count);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_ten_versions_are_restored_without_a_build_and_older_ones_are_refused() {
    let galaxy = Galaxy::start().await;
    let app = galaxy.app("ann@x.test").await;
    let mut made = vec![];
    for _ in 0..11 {
        made.push(galaxy.version(&app, DeploymentStatus::Removed).await);
    }
    // One of them has lost what it was built to.
    std::fs::remove_dir_all(galaxy.artifact(made[5].id)).unwrap();
    let found = galaxy.read(&app, "versions { _id version restorable }").await["versions"].clone();
    let restorable: Vec<bool> = found.as_array().unwrap().iter().map(|version| version["restorable"] == true).collect();
    assert_eq!(restorable, [[true; 5].as_slice(), &[false], &[true; 4], &[false; 2]].concat(), "{found}");
    assert_eq!((&found[0]["version"], &found[9]["_id"]), (&json!(12), &json!(version_id(made[1].snapshot_id))));

    let who = galaxy.bearer(&app.estate.person.token).await;
    let restore = |version: &Deployment| {
        let id = version_id(version.snapshot_id);
        format!("mutation {{ restoreVersion(appId: \"{}\", versionId: \"{id}\") {{ _id }} }}", app.id())
    };
    let body = galaxy.ask(&who, &restore(&made[0]), json!({})).await;
    assert_eq!(code(&body), "CONFLICT", "{body}");
    assert!(body["errors"][0]["message"].as_str().unwrap().contains("Only the last 10 versions"), "{body}");
    let lost = galaxy.ask(&who, &restore(&made[5]), json!({})).await;
    assert_eq!(code(&lost), "CONFLICT", "{lost}");
    assert!(lost["errors"][0]["message"].as_str().unwrap().contains("deploy its source again"), "{lost}");

    galaxy.data(&who, &restore(&made[1]), json!({})).await;
    let live = galaxy.world.server.ops.store.deployments_live(app.tenant, &[app.instance]).await.unwrap();
    let restored = live.last().unwrap();
    assert_eq!((restored.snapshot_id, restored.status), (made[1].snapshot_id, DeploymentStatus::Deploying), "nothing is built");
    assert_eq!(restored.artifact, made[1].artifact);
    let feed = galaxy.read(&app, "activities { type versionId message }").await["activities"][0].clone();
    assert_eq!((&feed["type"], &feed["versionId"]), (&json!("appRestore"), &json!(version_id(made[1].snapshot_id))));
    assert!(feed["message"].as_str().unwrap().ends_with(&format!("restored {} to v3", app.host)), "{feed}");
}
