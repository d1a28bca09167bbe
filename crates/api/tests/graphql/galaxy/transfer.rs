//! Apps that go to another account.

use domain::deployment::DeploymentStatus;
use domain::galaxy::app_range;
use domain::project::Domain;
use domain::variable::Variable;
use domain::{Role, Timestamp};
use ops::certificate::OwnCertificate;
use ops::volume::{VolumeCreate, VolumePlace};
use serde_json::{Value, json};
use store::Change;

use super::{App, Galaxy, certificate, code};

impl Galaxy {
    async fn transfer(&self, app: &App, to: &str) -> Value {
        let who = self.bearer(&app.estate.person.token).await;
        let transfer =
            format!("transferApp(appId: \"{}\", username: \"{to}\") {{ _id hostname domains {{ name }} environmentId }}", app.id());
        self.ask(&who, &format!("mutation {{ {transfer} }}"), json!({})).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_goes_to_another_account_with_its_names_its_variables_and_what_runs() {
    let galaxy = Galaxy::start().await;
    let (ann, bob) = (galaxy.app("ann@x.test").await, galaxy.app("bob@x.test").await);
    let (from, to) = (galaxy.username(&ann).await, galaxy.username(&bob).await);
    let running = galaxy.version(&ann, DeploymentStatus::Success).await;
    assert_eq!(code(&galaxy.transfer(&ann, &to).await), "NOT_FOUND", "an account of strangers");
    galaxy.world.member(bob.estate.workspace, ann.estate.person.user.id, Role::Viewer).await;
    assert_eq!(code(&galaxy.transfer(&ann, &to).await), "FORBIDDEN");
    assert_eq!(code(&galaxy.transfer(&ann, &from).await), "CONFLICT");
    galaxy.world.member(bob.estate.workspace, ann.estate.person.user.id, Role::Member).await;
    let custom = |domains: Vec<Domain>| domains.into_iter().find(|domain| domain.domain == "www.ann.test").unwrap();
    let store = &galaxy.world.server.ops.store;
    let (chain, key) = certificate("www.ann.test");
    let own = OwnCertificate { chain: chain.clone(), key: key.clone() };
    let ctx = galaxy.world.server.ctx(&ann.estate.person.token).await;
    ops::certificate::domain_certificate_set(&ctx, ann.estate.custom_domain, own).await.unwrap();
    let before = custom(store.domains_of_environments(ann.tenant, &[ann.estate.person.environment]).await.unwrap());

    let body = galaxy.transfer(&ann, &to).await;
    let found = &body["data"]["transferApp"];
    assert_eq!((&found["hostname"], &found["domains"][1]["name"]), (&json!(ann.host), &json!("www.ann.test")), "{body}");
    assert_ne!(found["_id"], json!(ann.id()));
    let environment = domain::EnvironmentId(found["environmentId"].as_str().unwrap().parse().unwrap());
    let after = custom(store.domains_of_environments(bob.tenant, &[environment]).await.unwrap());
    assert!(after.verification_token.is_some() && after.verification_token != before.verification_token, "it is proved by its account");
    assert!(after.certificate == before.certificate && after.certificate.used.is_some());
    let held = store.certificates_of(bob.tenant, &[after.id]).await.unwrap();
    assert!(held.len() == 1 && (&held[0].chain, &held[0].key) == (&chain, &key), "it is there, and not only said to be");
    assert!(store.certificates_of(ann.tenant, &[before.id, after.id]).await.unwrap().is_empty());
    let variables = store.variables(bob.tenant, environment).await.unwrap();
    assert!(variables.iter().any(|row| row.name == "SECRET" && row.value == "canary-7f3a" && row.service_id.is_some()));
    let (first, last) = app_range(found["_id"].as_str().unwrap()).unwrap();
    let instance = store.instance_between(first, last).await.unwrap().unwrap().open(bob.tenant).unwrap();
    let live = store.deployments_live(bob.tenant, &[instance.id]).await.unwrap();
    assert_eq!((live.len(), live[0].status, &live[0].artifact), (1, DeploymentStatus::Deploying, &running.artifact));

    // Nothing of it is left, and both accounts are told.
    assert!(store.instance(ann.instance).await.unwrap().is_none());
    let left = store.variables(ann.tenant, ann.estate.person.environment).await.unwrap();
    assert!(left.iter().all(|row| row.service_id != Some(ann.estate.service)));
    let message = format!("{from} transferred {} from {from} to {to}", ann.host);
    for (app, count) in [(&ann, 0), (&bob, 2)] {
        let (who, user) = (galaxy.bearer(&app.estate.person.token).await, galaxy.username(app).await);
        let asked = format!("{{ user(username: \"{user}\") {{ appCount activities {{ type userName message }} }} }}");
        let account = galaxy.data(&who, &asked, json!({})).await["user"].clone();
        assert_eq!(account["appCount"], count, "{account}");
        assert_eq!(account["activities"][0], json!({"type": "appTransfer", "userName": from, "message": message}), "{account}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_that_refers_to_what_stays_is_not_transferred() {
    let galaxy = Galaxy::start().await;
    let (ann, bob) = (galaxy.app("ann@x.test").await, galaxy.app("bob@x.test").await);
    galaxy.world.member(bob.estate.workspace, ann.estate.person.user.id, Role::Admin).await;
    let variable = Variable {
        workspace_id: ann.estate.workspace,
        project_id: ann.estate.person.project,
        environment_id: ann.estate.person.environment,
        service_id: Some(ann.estate.service),
        name: "MONGO_URL".into(),
        value: "${{ shared.SCHEME }}://${{ mongo.HOST }}".into(),
        is_sealed: false,
        updated_at: Timestamp::now(),
    };
    let store = &galaxy.world.server.ops.store;
    store.commit(ann.tenant, vec![Change::VariableSet(variable)]).await.unwrap();
    let before = store.generation();
    let body = galaxy.transfer(&ann, &galaxy.username(&bob).await).await;
    assert_eq!(code(&body), "CONFLICT", "{body}");
    let told = body["errors"][0]["message"].as_str().unwrap();
    assert!(told.contains("MONGO_URL refers to the service mongo"), "{told}");
    assert_eq!(store.generation(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_with_a_volume_is_not_transferred() {
    let galaxy = Galaxy::start().await;
    let (ann, bob) = (galaxy.app("ann@x.test").await, galaxy.app("bob@x.test").await);
    galaxy.world.member(bob.estate.workspace, ann.estate.person.user.id, Role::Admin).await;
    let person = &ann.estate.person;
    let wanted = VolumeCreate {
        project: person.project,
        place: VolumePlace::Environment(person.environment),
        service: Some(ann.estate.service),
        mount_path: "/data".into(),
    };
    let ctx = galaxy.world.server.ctx(&person.token).await;
    ops::volume::volume_create(&ctx, wanted).await.unwrap();
    let store = &galaxy.world.server.ops.store;
    let before = store.generation();
    let body = galaxy.transfer(&ann, &galaxy.username(&bob).await).await;
    assert_eq!(code(&body), "CONFLICT", "{body}");
    assert!(body["errors"][0]["message"].as_str().unwrap().contains("has a volume"), "{body}");
    assert_eq!(store.generation(), before);
}
