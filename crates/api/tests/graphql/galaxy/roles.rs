//! What the roles between viewer and admin open on Galaxy's API, and that keys that have ended open nothing (`SECURITY.md` rule 4).

use domain::Role;
use domain::key::KeyKind;
use serde_json::json;

use super::{App, FIELDS, Galaxy, TRIGGER, code};
use crate::walk::ended_keys;

/// What a deployer does beyond looking.
const DEPLOYS: [&str; 4] = ["Mutation.killContainer", "Mutation.restoreVersion", "Mutation.startApp", "Mutation.stopApp"];

impl Galaxy {
    async fn trigger(&self, app: &App) -> String {
        let owner = self.bearer(&app.estate.person.token).await;
        let saved = self.data(&owner, TRIGGER, json!({"appId": app.id()})).await;
        saved["saveTrigger"]["_id"].as_str().unwrap().to_owned()
    }
}

/// Asks every mutation, in somebody else's account, as one who has the role there.
async fn walk(role: Role, may: impl Fn(&str) -> bool) {
    let galaxy = Galaxy::start().await;
    let (owner, other) = (galaxy.app("owner@x.test").await, galaxy.app("other@x.test").await);
    let container = galaxy.containers(&owner, 1, 1).await[0];
    galaxy.world.member(owner.estate.workspace, other.estate.person.user.id, role).await;
    let who = galaxy.bearer(&other.estate.person.token).await;
    let trigger = galaxy.trigger(&owner).await;
    let generation = || galaxy.world.server.ops.store.generation();
    // What is refused comes first: what is allowed changes what there is.
    for (name, _, text) in FIELDS.iter().filter(|(name, read, _)| !read && !may(name)) {
        let text = galaxy.document(text, &owner, container, &trigger).await;
        let before = generation();
        let body = galaxy.ask(&who, &text, json!({})).await;
        assert!(["NOT_FOUND", "FORBIDDEN"].contains(&code(&body)), "{role:?}, {name}: {body}");
        assert_eq!(generation(), before, "{role:?}, {name} wrote something");
    }
    for (name, _, text) in FIELDS.iter().filter(|(name, read, _)| !read && may(name)) {
        let text = galaxy.document(text, &owner, container, &trigger).await;
        let body = galaxy.ask(&who, &text, json!({})).await;
        assert_ne!(code(&body), "FORBIDDEN", "{role:?}, {name}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployer_starts_and_stops_apps_and_changes_nothing_else() {
    walk(Role::Deployer, |name| DEPLOYS.contains(&name)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_changes_apps_and_gives_none_away() {
    walk(Role::Member, |name| name != "Mutation.transferApp").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_field_answers_to_a_key_that_has_ended() {
    let galaxy = Galaxy::start().await;
    let owner = galaxy.app("owner@x.test").await;
    let container = galaxy.containers(&owner, 1, 1).await[0];
    let trigger = galaxy.trigger(&owner).await;
    for kind in [KeyKind::Account, KeyKind::Workspace, KeyKind::Galaxy] {
        for (header, value) in &ended_keys(&galaxy.world, &owner.estate.person, owner.estate.workspace, kind).await {
            for (name, _, text) in FIELDS {
                let text = galaxy.document(text, &owner, container, &trigger).await;
                let (_, body) = galaxy.post(&[(header, value)], json!({"query": text})).await;
                assert!(code(&body) == "UNAUTHENTICATED" && body["data"].is_null(), "{kind:?}, {name}: {body}");
            }
        }
    }
}
