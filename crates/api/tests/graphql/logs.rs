//! Logs by query (`contracts/railway.md` 3.3).

use domain::log::{LogKind, Severity};
use domain::{Tenant, Timestamp};
use serde_json::{Value, json};

use crate::world::World;

const DEPLOYMENT_LOGS: &str =
    "query DeploymentLogs($deploymentId: String!, $limit: Int, $filter: String, $startDate: DateTime, $endDate: DateTime) {
    deploymentLogs(deploymentId: $deploymentId, limit: $limit, filter: $filter, startDate: $startDate, endDate: $endDate) {
      timestamp message severity attributes { key value } tags { deploymentId snapshotId } } }";

const ENVIRONMENT_LOGS: &str = "query EnvironmentLogs($environmentId: String!, $filter: String, $beforeLimit: Int, $beforeDate: String, $anchorDate: String,
      $afterDate: String, $afterLimit: Int) {
    environmentLogs(environmentId: $environmentId, filter: $filter, beforeLimit: $beforeLimit, beforeDate: $beforeDate, anchorDate: $anchorDate,
      afterDate: $afterDate, afterLimit: $afterLimit) { timestamp message attributes { key value } } }";

fn messages(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|line| line["message"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_lines_come_oldest_first_with_their_level() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ann = world.bearer(&estate.person.token).await;
    let lines = [(Severity::Info, "one"), (Severity::Error, "two"), (Severity::Warn, "three"), (Severity::Info, "four")];
    world.log(&estate, LogKind::Deploy, &lines).await;
    let of = |more: Value| {
        let mut asked =
            json!({"deploymentId": estate.deployment.to_string(), "limit": null, "filter": null, "startDate": null, "endDate": null});
        asked.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        asked
    };
    let all = world.data(&ann, DEPLOYMENT_LOGS, of(json!({}))).await["deploymentLogs"].clone();
    assert_eq!(messages(&all), ["one", "two", "three", "four"]);
    assert_eq!(all[1]["attributes"], json!([{"key": "level", "value": "\"error\""}, {"key": "ms", "value": "12"}]));
    let stamps: Vec<&str> = all.as_array().unwrap().iter().map(|line| line["timestamp"].as_str().unwrap()).collect();
    assert!(stamps.windows(2).all(|pair| pair[0] < pair[1]), "{stamps:?}");
    assert!(stamps.iter().all(|stamp| stamp.len() == "2026-11-21T10:00:00.123456789Z".len() && stamp.ends_with('Z')), "{stamps:?}");
    let two = world.data(&ann, DEPLOYMENT_LOGS, of(json!({"limit": 2}))).await;
    assert_eq!(messages(&two["deploymentLogs"]), ["three", "four"]);
    let bad = world.data(&ann, DEPLOYMENT_LOGS, of(json!({"filter": "@level:error"}))).await;
    assert_eq!(messages(&bad["deploymentLogs"]), ["two"]);
    // A moment names its line, whichever side of the window it is on.
    let at = json!(stamps[2]);
    assert_eq!(messages(&world.data(&ann, DEPLOYMENT_LOGS, of(json!({"startDate": at}))).await["deploymentLogs"]), ["three", "four"]);
    assert_eq!(messages(&world.data(&ann, DEPLOYMENT_LOGS, of(json!({"endDate": at}))).await["deploymentLogs"]), ["one", "two", "three"]);
    for wrong in [json!({"limit": -1}), json!({"limit": 6_000}), json!({"filter": "((("}), json!({"startDate": "yesterday"})] {
        let (_, body) = world.send(&ann, DEPLOYMENT_LOGS, of(wrong.clone())).await;
        assert_eq!(body["errors"][0]["extensions"]["code"], json!("BAD_USER_INPUT"), "{wrong}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_log_is_found_as_the_client_looks_for_it() {
    let world = World::start().await;
    let estate = world.estate("ann@x.test").await;
    let ann = world.bearer(&estate.person.token).await;
    world.log(&estate, LogKind::Build, &[(Severity::Info, "unpacking"), (Severity::Error, "it failed")]).await;
    world.log(&estate, LogKind::Deploy, &[(Severity::Info, "an app's line")]).await;
    let store = &world.server.ops.store;
    let row = store.deployment(estate.deployment).await.unwrap().unwrap().open(Tenant::system(estate.workspace)).unwrap();
    let filter = format!("(@snapshot:{0} OR @replica:{0})", row.snapshot_id);
    let now = Timestamp::now();
    let since = (now - std::time::Duration::from_secs(300)).to_string();
    let environment = estate.person.environment.to_string();
    let asked = json!({"environmentId": environment, "filter": filter, "beforeLimit": 500, "beforeDate": since,
        "anchorDate": (now + std::time::Duration::from_secs(1)).to_string(), "afterDate": now.to_string(), "afterLimit": 0});
    let lines = world.data(&ann, ENVIRONMENT_LOGS, asked).await["environmentLogs"].clone();
    assert_eq!(messages(&lines), ["unpacking", "it failed"]);
    let everything = json!({"environmentId": environment, "filter": null, "beforeLimit": null});
    assert_eq!(world.data(&ann, ENVIRONMENT_LOGS, everything).await["environmentLogs"].as_array().unwrap().len(), 3);
    let around = json!({"environmentId": environment, "beforeLimit": 1, "afterLimit": 1, "anchorDate": lines[0]["timestamp"]});
    assert_eq!(messages(&world.data(&ann, ENVIRONMENT_LOGS, around).await["environmentLogs"]), ["unpacking", "it failed"]);
    let build = format!("{{ buildLogs(deploymentId: \"{}\") {{ message }} }}", estate.deployment);
    assert_eq!(messages(&world.data(&ann, &build, Value::Null).await["buildLogs"]), ["unpacking", "it failed"]);
}
