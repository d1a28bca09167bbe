//! Who is in a workspace, and as what.

use std::collections::BTreeMap;

use domain::delivery::{Delivery, DeliveryState, RULE_DELIVERIES, Target};
use domain::key::{KeyKind, KeyLimits};
use domain::page::PageRequest;
use domain::{Code, DeliveryId, NotificationRuleId, Role, Tenant, Timestamp, WorkspaceId};
use ops::OpCtx;
use ops::api_key::{ApiKeyCreate, api_key_create};
use ops::auth::{Presented, Surface, authenticate};
use ops::notification_rule::{NotificationRuleCreate, notification_rule_create, notification_rules};
use ops::token::api_token_create;
use ops::workspace::{
    workspace_create, workspace_invite_code_create, workspace_invite_code_use, workspace_leave, workspace_permission_change,
    workspace_user_invite, workspace_user_remove,
};
use secrecy::SecretString;
use serde_json::json;
use store::Change;

use crate::world::{World, world};

fn home(ctx: &OpCtx) -> WorkspaceId {
    ctx.user().unwrap().home().unwrap().id
}

/// The members' roles, oldest account first.
async fn roles(world: &World, ctx: &OpCtx, workspace: WorkspaceId) -> Vec<Role> {
    let tenant = ops::account::workspace_get(ctx, workspace).await.unwrap().tenant;
    world.ops.store.members(tenant).await.unwrap().into_iter().map(|member| member.role).collect()
}

#[tokio::test]
async fn an_invitation_is_used_once_and_gives_its_role() {
    let world = world().await;
    let (owner, guest, late) =
        (world.person("a@example.com").await, world.person("b@example.com").await, world.person("c@example.com").await);
    let code = workspace_invite_code_create(&owner, home(&owner), Role::Viewer).await.unwrap();
    assert_eq!(workspace_invite_code_use(&owner, &code).await.unwrap_err().code, Code::Conflict, "a member joins again");
    let joined = workspace_invite_code_use(&guest, &code).await.unwrap();
    assert_eq!(joined.row.id, home(&owner));
    assert_eq!(workspace_invite_code_use(&late, &code).await.unwrap_err().code, Code::NotFound, "the code works twice");
    assert_eq!(roles(&world, &owner, home(&owner)).await, [Role::Owner, Role::Viewer]);

    let old = workspace_invite_code_create(&owner, home(&owner), Role::Admin).await.unwrap();
    let later = OpCtx { now: late.now + std::time::Duration::from_secs(8 * 86_400), ..late.clone() };
    assert_eq!(workspace_invite_code_use(&later, &old).await.unwrap_err().code, Code::NotFound, "the code outlives its week");
    let as_owner = workspace_invite_code_create(&owner, home(&owner), Role::Owner).await.unwrap_err();
    assert_eq!(as_owner.code, Code::BadUserInput);

    let log = ops::activity::activities(&owner, home(&owner), None, &PageRequest::default()).await.unwrap().row.items;
    assert!(log.iter().any(|entry| entry.verb == "workspace_invite_code_use" && entry.data["email"] == "b@example.com"));
}

#[tokio::test]
async fn an_account_is_added_by_its_address_with_a_code_of_the_same_workspace() {
    let world = world().await;
    let (owner, guest) = (world.person("a@example.com").await, world.person("b@example.com").await);
    let code = workspace_invite_code_create(&owner, home(&owner), Role::Member).await.unwrap();
    let unknown = workspace_user_invite(&owner, home(&owner), &code, "nobody@example.com").await.unwrap_err();
    assert_eq!(unknown.code, Code::NotFound);
    let foreign = workspace_invite_code_create(&guest, home(&guest), Role::Admin).await.unwrap();
    assert_eq!(workspace_user_invite(&owner, home(&owner), &foreign, "b@example.com").await.unwrap_err().code, Code::NotFound);
    workspace_user_invite(&owner, home(&owner), &code, " B@Example.com ").await.unwrap();
    assert_eq!(roles(&world, &owner, home(&owner)).await, [Role::Owner, Role::Member]);
}

#[tokio::test]
async fn owners_are_made_by_owners_and_one_of_them_stays() {
    let world = world().await;
    let (owner, second) = (world.person("a@example.com").await, world.person("b@example.com").await);
    let team = workspace_create(&owner, "Observatory").await.unwrap().row;
    assert_eq!((team.name.as_str(), team.username.as_str(), team.personal_of), ("Observatory", "observatory", None));
    let owner = world.again(&owner).await;
    let code = workspace_invite_code_create(&owner, team.id, Role::Admin).await.unwrap();
    workspace_invite_code_use(&second, &code).await.unwrap();
    let second = world.again(&second).await;
    let [first_id, second_id] = [&owner, &second].map(|ctx| ctx.user().unwrap().user.id);

    for (user, role) in [(second_id, Role::Owner), (first_id, Role::Viewer)] {
        assert_eq!(workspace_permission_change(&second, team.id, user, role).await.unwrap_err().code, Code::Forbidden, "{role:?}");
    }
    assert_eq!(workspace_user_remove(&second, team.id, first_id).await.unwrap_err().code, Code::Forbidden);
    assert_eq!(workspace_leave(&owner, team.id).await.unwrap_err().code, Code::Conflict, "a workspace without an owner");
    workspace_permission_change(&owner, team.id, second_id, Role::Owner).await.unwrap();
    workspace_leave(&owner, team.id).await.unwrap();
    let second = world.again(&second).await;
    assert_eq!(roles(&world, &second, team.id).await, [Role::Owner]);
    assert_eq!(ops::account::workspace_get(&world.again(&owner).await, team.id).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn nobody_leaves_or_is_taken_out_of_their_own_workspace() {
    let world = world().await;
    let (owner, admin) = (world.person("a@example.com").await, world.person("b@example.com").await);
    let code = workspace_invite_code_create(&owner, home(&owner), Role::Admin).await.unwrap();
    workspace_invite_code_use(&admin, &code).await.unwrap();
    let (own, other) = (owner.user().unwrap().user.id, admin.user().unwrap().user.id);
    workspace_permission_change(&owner, home(&owner), other, Role::Owner).await.unwrap();
    let admin = world.again(&admin).await;
    assert_eq!(workspace_user_remove(&admin, home(&owner), own).await.unwrap_err().code, Code::Conflict);
    assert_eq!(workspace_leave(&owner, home(&owner)).await.unwrap_err().code, Code::Conflict);
    let demoted = workspace_permission_change(&admin, home(&owner), own, Role::Viewer).await.unwrap_err();
    assert_eq!(demoted.code, Code::Conflict, "somebody is a guest in their own workspace");
    assert_eq!(workspace_user_remove(&owner, home(&owner), domain::UserId::generate()).await.unwrap_err().code, Code::NotFound);
}

#[tokio::test]
async fn whoever_has_to_go_finds_no_way_back() {
    let world = world().await;
    let (owner, admin, third) =
        (world.person("a@example.com").await, world.person("b@example.com").await, world.person("c@example.com").await);
    let team = home(&owner);
    let code = workspace_invite_code_create(&owner, team, Role::Admin).await.unwrap();
    workspace_invite_code_use(&admin, &code).await.unwrap();
    let admin = world.again(&admin).await;
    let user = admin.user().unwrap().user.id;
    let enters = async |secret: &SecretString| {
        let presented = Presented::Bearer(secret.clone());
        authenticate(&world.ops, Surface::Railway, presented, admin.now, None).await.is_ok()
    };
    let theirs = workspace_invite_code_create(&admin, team, Role::Admin).await.unwrap();
    let kept = workspace_invite_code_create(&owner, team, Role::Viewer).await.unwrap();
    let (_, token) = api_token_create(&admin, "mine", Some(team)).await.unwrap();
    let (_, of_owner) = api_token_create(&owner, "theirs", Some(team)).await.unwrap();
    // A token that was made with a token of theirs is theirs.
    let principal = authenticate(&world.ops, Surface::Railway, Presented::Bearer(token.clone()), admin.now, None).await.unwrap();
    let by_token = OpCtx { principal, ..admin.clone() };
    let second = ApiKeyCreate {
        kind: KeyKind::Workspace,
        label: Some("second".into()),
        workspace: Some(team),
        environment: None,
        limits: KeyLimits::OF_PLAN,
        expires_at: None,
    };
    let (_, second) = api_key_create(&by_token, second).await.unwrap();
    assert!(enters(&token).await && enters(&second).await);

    workspace_permission_change(&owner, team, user, Role::Member).await.unwrap();
    assert!(!enters(&token).await && !enters(&second).await, "a token reaches further than the member who made it");
    assert!(enters(&of_owner).await);
    assert_eq!(
        workspace_invite_code_use(&third, &theirs).await.unwrap_err().code,
        Code::NotFound,
        "an admin's invitation outlives the admin"
    );

    workspace_permission_change(&owner, team, user, Role::Admin).await.unwrap();
    let admin = world.again(&admin).await;
    let theirs = workspace_invite_code_create(&admin, team, Role::Admin).await.unwrap();
    let (_, token) = api_token_create(&admin, "again", Some(team)).await.unwrap();
    workspace_user_remove(&owner, team, user).await.unwrap();
    assert!(!enters(&token).await, "a token outlives its maker's membership");
    assert_eq!(workspace_invite_code_use(&world.again(&admin).await, &theirs).await.unwrap_err().code, Code::NotFound);
    workspace_invite_code_use(&third, &kept).await.unwrap();

    let log = ops::activity::activities(&owner, team, None, &PageRequest::default()).await.unwrap().row.items;
    let labels: Vec<&str> =
        log.iter().filter(|entry| entry.verb == "api_key_revoke").filter_map(|entry| entry.data["label"].as_str()).collect();
    assert_eq!(labels.len(), 3, "{labels:?}");
    assert_eq!(log.iter().filter(|entry| entry.verb == "workspace_invite_codes_end").count(), 2);
}

#[tokio::test]
async fn a_key_comes_too_late_when_its_maker_has_gone() {
    let world = world().await;
    let (owner, admin) = (world.person("a@example.com").await, world.person("b@example.com").await);
    let team = home(&owner);
    let code = workspace_invite_code_create(&owner, team, Role::Admin).await.unwrap();
    workspace_invite_code_use(&admin, &code).await.unwrap();
    // Two requests that began before they had to go: by the person, and by a token of theirs.
    let admin = world.again(&admin).await;
    let (_, token) = api_token_create(&admin, "mine", Some(team)).await.unwrap();
    let principal = authenticate(&world.ops, Surface::Railway, Presented::Bearer(token), admin.now, None).await.unwrap();
    let by_token = OpCtx { principal, ..admin.clone() };
    workspace_user_remove(&owner, team, admin.user().unwrap().user.id).await.unwrap();
    for ctx in [&admin, &by_token] {
        for kind in [KeyKind::Workspace, KeyKind::Flow] {
            let late = ApiKeyCreate {
                kind,
                label: Some("late".into()),
                workspace: Some(team),
                environment: None,
                limits: KeyLimits::OF_PLAN,
                expires_at: None,
            };
            let refused = api_key_create(ctx, late).await.unwrap_err();
            assert_eq!(refused.code, Code::Forbidden, "{kind:?}: {}", refused.public);
        }
    }
    assert!(ops::api_key::api_keys(&owner, Some(team)).await.unwrap().is_empty(), "a key outlives its maker's membership");
}

#[tokio::test]
async fn one_document_does_not_make_more_workspaces_than_a_person_may_own() {
    let world = world().await;
    let ctx = world.person("a@example.com").await;
    // One snapshot of the person for all of them, as one request with many aliases has.
    let mut made = vec![];
    for at in 0..25 {
        made.push(workspace_create(&ctx, &format!("Team {at}")).await.map_err(|error| error.code).err());
    }
    let allowed = made.iter().filter(|error| error.is_none()).count();
    assert_eq!(allowed, 19, "their own workspace counts");
    assert!(made[allowed..].iter().all(|error| *error == Some(Code::Conflict)), "{made:?}");
}

#[tokio::test]
async fn a_notification_rule_goes_with_the_role_that_made_it() {
    let world = world().await;
    let (owner, guest) = (world.person("a@example.com").await, world.person("b@example.com").await);
    let team = home(&owner);
    let code = workspace_invite_code_create(&owner, team, Role::Member).await.unwrap();
    workspace_invite_code_use(&guest, &code).await.unwrap();
    let guest = world.again(&guest).await;
    let user = guest.user().unwrap().user.id;
    let make = async |ctx: &OpCtx| {
        let wanted = NotificationRuleCreate {
            workspace: team,
            project: None,
            channels: vec![json!({"type": "WEBHOOK", "url": "https://hooks.example.com/canary"})],
            event_types: vec![],
            severities: vec![],
            ephemeral_environments: None,
        };
        notification_rule_create(ctx, wanted).await.unwrap().id
    };
    let rules = async || notification_rules(&owner, team, None).await.unwrap().into_iter().map(|rule| rule.id).collect::<Vec<_>>();
    let kept = make(&owner).await;
    let gone = make(&guest).await;
    let messages = [waiting(team, kept), waiting(team, gone)];
    let inserts = messages.iter().cloned().map(Change::DeliveryInsert).collect();
    world.ops.store.commit(Tenant::system(team), inserts).await.unwrap();
    assert_eq!(rules().await.len(), 2);
    workspace_permission_change(&owner, team, user, Role::Admin).await.unwrap();
    assert_eq!(rules().await.len(), 2, "more than enough is enough");
    workspace_permission_change(&owner, team, user, Role::Viewer).await.unwrap();
    assert_eq!(rules().await, [kept]);
    let due = world.ops.store.system_deliveries_due(owner.now, &[], 10).await.unwrap();
    assert!(due == messages[..1], "what is still to be sent would go to somebody who may not hear it: {due:?}");

    workspace_permission_change(&owner, team, user, Role::Member).await.unwrap();
    make(&world.again(&guest).await).await;
    workspace_user_remove(&owner, team, user).await.unwrap();
    assert_eq!(rules().await, [kept]);
    let log = ops::activity::activities(&owner, team, None, &PageRequest::default()).await.unwrap().row.items;
    assert_eq!(log.iter().filter(|entry| entry.verb == "notification_rules_end").count(), 2);
    assert!(!format!("{log:?}").contains("canary"), "the log tells an address");
}

/// A message of a rule that is to be sent.
fn waiting(workspace: WorkspaceId, rule: NotificationRuleId) -> Delivery {
    let at = Timestamp::UNIX_EPOCH;
    Delivery {
        id: DeliveryId::generate(),
        workspace_id: workspace,
        kind: RULE_DELIVERIES.into(),
        subject: rule.to_string(),
        target: Target::Webhook { url: "https://hooks.example.com/canary".into(), headers: BTreeMap::new(), secret: None },
        body: "{}".into(),
        state: DeliveryState::Pending,
        attempts: 0,
        tries: 0,
        next_at: at,
        created_at: at,
        updated_at: at,
    }
}
