//! Deployments that wait for an admin, as clients see them.

use domain::Role;
use domain::deployment::EventStep;
use serde_json::{Value, json};

use crate::sockets::Socket;
use crate::world::World;

const APPROVE: &str = "mutation A($id: String!) { deploymentApprove(id: $id) }";
const CANCEL: &str = "mutation C($id: String!) { deploymentCancel(id: $id) }";
const STATUS: &str = "query S($id: String!) { deployment(id: $id) { status environment { isProtected } creator { email } } }";
const EVENTS: &str = "query E($id: String!) { deploymentEvents(id: $id) { edges { node { step completedAt payload { detail error } } } } }";

async fn waiting_step(world: &World, who: &ops::Principal, id: &Value) -> Value {
    let events = world.data(who, EVENTS, id.clone()).await["deploymentEvents"]["edges"].clone();
    let step = json!(EventStep::WaitForDependencies.as_str());
    let found = events.as_array().unwrap().iter().map(|edge| edge["node"].clone()).find(|node| node["step"] == step);
    found.expect("a step that tells of the approval")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_that_needs_an_approval_is_seen_approved_and_canceled() {
    let world = World::start().await;
    let (estate, other) = (world.estate("ann@x.test").await, world.estate("bob@x.test").await);
    world.member(estate.workspace, other.person.user.id, Role::Member).await;
    let (ann, bob) = (world.bearer(&estate.person.token).await, world.bearer(&other.person.token).await);
    let protect = "mutation P($id: String!, $protected: Boolean!) { environmentProtect(id: $id, protected: $protected) }";
    let environment = json!({"id": estate.person.environment.to_string(), "protected": true});
    assert_eq!(world.error(&bob, protect, environment.clone()).await["extensions"]["code"], json!("FORBIDDEN"));
    assert_eq!(world.data(&ann, protect, environment).await, json!({"environmentProtect": true}));

    let made = world.deploy(&world.ctx(bob.clone()), &estate.person, Some(estate.service)).await;
    let id = json!({"id": made.to_string()});
    let seen = world.data(&bob, STATUS, id.clone()).await["deployment"].clone();
    let expected = json!({"status": "NEEDS_APPROVAL", "environment": {"isProtected": true}, "creator": {"email": "bob@x.test"}});
    assert_eq!(seen, expected);
    let mut socket = Socket::ready(&world, &other.person.token).await;
    socket.subscribe("0", "subscription D($id: String!) { deployment(id: $id) { status } }", id.clone()).await;
    assert_eq!(socket.receive().await["payload"]["data"]["deployment"]["status"], json!("NEEDS_APPROVAL"));

    let token = world.project_token(&estate.project_token).await;
    for weak in [&bob, &token] {
        assert_eq!(world.error(weak, APPROVE, id.clone()).await["extensions"]["code"], json!("FORBIDDEN"));
    }
    assert_eq!(world.data(&ann, APPROVE, id.clone()).await, json!({"deploymentApprove": true}));
    assert_eq!(socket.receive().await["payload"]["data"]["deployment"]["status"], json!("INITIALIZING"));
    let step = waiting_step(&world, &bob, &id).await;
    let detail = step["payload"]["detail"].as_str().unwrap();
    assert!(detail.contains("asked for by") && detail.contains("approved by") && step["completedAt"].is_string(), "{step}");
    let twice = world.error(&ann, APPROVE, id).await;
    assert_eq!(twice["extensions"]["code"], json!("CONFLICT"));
    assert!(twice["message"].as_str().unwrap().contains("INITIALIZING"), "{twice}");

    let made = world.deploy(&world.ctx(token), &estate.person, Some(estate.service)).await;
    let id = json!({"id": made.to_string()});
    assert_eq!(world.data(&bob, CANCEL, id.clone()).await, json!({"deploymentCancel": true}));
    assert_eq!(world.data(&bob, STATUS, id.clone()).await["deployment"]["status"], json!("FAILED"));
    let error = waiting_step(&world, &bob, &id).await["payload"]["error"].clone();
    assert!(error.as_str().unwrap().starts_with("Not approved: canceled by "), "{error}");
}
