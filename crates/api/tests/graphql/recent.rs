//! Answers are remembered only while they are true, for the one who asked, whoever changes the data.

use domain::deployment::DeploymentStatus;
use domain::rate::{Day, Kept, Subject};
use domain::spec::{InstanceSpec, RunPlan};
use domain::{Tenant, Timestamp};
use ops::Principal;
use ops::auth::{Presented, Surface, authenticate};
use secrecy::SecretString;
use serde_json::{Value, json};
use store::{Change, MasterKey, Store, StoreConfig, UsageAdd};

use crate::world::World;

/// The same file, as the operator's commands open it from another process.
async fn elsewhere(world: &World) -> Store {
    let url = format!("sqlite://{}", world.server.dir.path().join("orrery.db").display());
    Store::open(StoreConfig { url, master_key: MasterKey::from_bytes([7; 32]) }).await.unwrap()
}

async fn asked(world: &World, who: &Principal, query: &str) -> (Value, u64) {
    let before = world.server.ops.store.statements();
    let data = world.data(who, query, json!({})).await;
    (data, world.server.ops.store.statements() - before)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repeated_question_costs_nothing_until_something_changes() {
    let world = World::start().await;
    let estate = world.estate("a@example.com").await;
    let stranger = world.estate("b@example.com").await;
    let who = world.bearer(&estate.person.token).await;
    let query = "{ projects { edges { node { id name } } } }";
    let (first, cost) = asked(&world, &who, query).await;
    assert!(cost > 0);
    assert_eq!(asked(&world, &who, query).await, (first.clone(), 0));

    let other = world.bearer(&stranger.person.token).await;
    assert_ne!(asked(&world, &other, query).await.0, first, "another principal gets their own answer");

    let rename = format!("mutation {{ projectUpdate(id: \"{}\", input: {{name: \"renamed here\"}}) {{ id }} }}", estate.person.project);
    world.data(&who, &rename, json!({})).await;
    assert!(asked(&world, &who, query).await.0.to_string().contains("renamed here"));

    let elsewhere = elsewhere(&world).await;
    let ctx = world.server.ctx(&estate.person.token).await;
    let mut project = ops::project::project_get(&ctx, estate.person.project).await.unwrap();
    project.row.name = "renamed elsewhere".into();
    let seen = project.row.updated_at;
    elsewhere.commit(project.tenant, vec![store::Change::ProjectUpdate(project.row, seen)]).await.unwrap();
    assert!(asked(&world, &who, query).await.0.to_string().contains("renamed elsewhere"));
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_variables_are_not_remembered() {
    let world = World::start().await;
    let estate = world.estate("a@example.com").await;
    let who = world.bearer(&estate.person.token).await;
    let query = format!(
        "{{ environment(id: \"{}\") {{ config(decryptVariables: true) }} variables(projectId: \"{}\", environmentId: \"{}\", serviceId: \"{}\") }}",
        estate.person.environment, estate.person.project, estate.person.environment, estate.service
    );
    asked(&world, &who, &query).await;
    assert!(asked(&world, &who, &query).await.1 > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_clock_changes_is_looked_up_again() {
    let world = World::start().await;
    let estate = world.estate("a@example.com").await;
    let who = world.bearer(&estate.person.token).await;
    let noon: Timestamp = "2026-06-01T12:00:00Z".parse().unwrap();
    let allowed = Kept { day: Day::of(noon), in_day: 5, ..Kept::default() };
    let store = &world.server.ops.store;
    store.usage_add(&[UsageAdd { subject: Subject(estate.project_key.0), allowed, refused: 0 }]).await.unwrap();
    let query = format!("{{ workspace(workspaceId: \"{}\") {{ planUse {{ requestsToday }} }} }}", estate.workspace);
    let told = async |now: Timestamp| {
        let before = store.statements();
        let data = world.data_at(&who, now, &query).await;
        (data["workspace"]["planUse"]["requestsToday"].as_f64(), store.statements() - before)
    };
    let (today, cost) = told(noon).await;
    assert!(today == Some(5.0) && cost > 0, "{today:?}, {cost} statements");
    assert_eq!(told(noon).await, (today, 0));
    assert_eq!(told(noon + std::time::Duration::from_secs(86_400)).await.0, Some(0.0), "nothing was asked on the next day");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_artifact_that_was_cleared_away_is_not_promised() {
    let world = World::start().await;
    let estate = world.estate("a@example.com").await;
    let who = world.bearer(&estate.person.token).await;
    let (ops, id, now) = (&world.server.ops, estate.deployment, Timestamp::now());
    let artifact = ops.settings.artifacts.join(id.to_string());
    std::fs::create_dir_all(&artifact).unwrap();
    let run = RunPlan::Static { root: ".".into(), spa: false };
    let built = Change::DeploymentBuilt { id, artifact: id.to_string(), run, spec: InstanceSpec::default(), at: now };
    ops.store.commit(Tenant::system(estate.workspace), vec![built]).await.unwrap();
    world.moved(estate.workspace, id, DeploymentStatus::Initializing, DeploymentStatus::Removed, None).await;
    let query = format!("{{ deployment(id: \"{id}\") {{ canRollback }} }}");
    let told = async |at: Timestamp| world.data_at(&who, at, &query).await["deployment"]["canRollback"].clone();
    assert_eq!(told(now).await, json!(true));
    std::fs::remove_dir(&artifact).unwrap();
    assert_eq!(told(now + std::time::Duration::from_secs(60)).await, json!(false));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_revoked_elsewhere_is_refused_at_once() {
    let world = World::start().await;
    let person = world.server.person("a@example.com", None).await;
    let present = async || {
        let secret = SecretString::from(person.token.clone());
        authenticate(&world.server.ops, Surface::Railway, Presented::Bearer(secret), Timestamp::now(), None).await
    };
    let principal = present().await.unwrap();
    present().await.unwrap();
    let before = world.server.ops.store.statements();
    present().await.unwrap();
    assert_eq!(world.server.ops.store.statements(), before, "a known key costs no statement");

    let Principal::User(user) = principal else { panic!("an account token is a person's") };
    let ops::Via::Key(key, _) = user.via else { panic!("it came with a key") };
    let tenant = Tenant::system(user.home().unwrap().id);
    let revoke = Change::ApiKeyRevoke { id: key, at: Timestamp::now() };
    elsewhere(&world).await.commit(tenant, vec![revoke]).await.unwrap();
    assert_eq!(present().await.unwrap_err().code, domain::Code::Unauthenticated);
}
