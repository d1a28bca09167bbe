//! What the roles between viewer and admin open, and what they do not (`SECURITY.md` rule 4).

use domain::Role;

use crate::walk::{FIELDS, HIDDEN, Needs, ask, code, document};
use crate::world::World;

/// What a deployer does beyond looking.
const DEPLOYS: &[&str] = &[
    "Mutation.containerKill",
    "Mutation.deploymentCancel",
    "Mutation.deploymentInstanceExecutionCreate",
    "Mutation.deploymentRedeploy",
    "Mutation.deploymentRemove",
    "Mutation.deploymentRestart",
    "Mutation.deploymentRollback",
    "Mutation.deploymentStop",
    "Mutation.environmentTriggersDeploy",
    "Mutation.pluginRestart",
    "Mutation.serviceInstanceDeploy",
    "Mutation.serviceInstanceDeployV2",
    "Mutation.serviceInstanceRedeploy",
];

/// What is too much for a member: what an admin decides, what is a person's own, and what an operator sees.
const BEYOND_MEMBERS: &[&str] = &[
    "Query.apiKeyUsage",
    "Query.apiKeys",
    "Query.auditLog",
    "Query.auditLogs",
    "Query.operator",
    "Query.projectTokens",
    "Mutation.accountUpdate",
    "Mutation.apiKeyCreate",
    "Mutation.apiKeyRevoke",
    "Mutation.apiKeyUpdate",
    "Mutation.apiTokenCreate",
    "Mutation.apiTokenDelete",
    "Mutation.deploymentApprove",
    "Mutation.environmentDelete",
    "Mutation.environmentProtect",
    "Mutation.operatorBackupCreate",
    "Mutation.operatorBackupDelete",
    "Mutation.passwordSet",
    "Mutation.projectDelete",
    "Mutation.projectScheduleDelete",
    "Mutation.projectScheduleDeleteCancel",
    "Mutation.projectScheduleDeleteForce",
    "Mutation.projectTokenCreate",
    "Mutation.projectTokenDelete",
    "Mutation.recoveryCodeGenerate",
    "Mutation.recoveryCodeValidate",
    "Mutation.sessionDelete",
    "Mutation.twoFactorInfoCreate",
    "Mutation.twoFactorInfoDelete",
    "Mutation.twoFactorInfoSecret",
    "Mutation.twoFactorInfoValidate",
    "Mutation.workspaceInviteCodeCreate",
    "Mutation.workspaceInviteCodeUse",
    "Mutation.workspacePermissionChange",
    "Mutation.workspacePlanSet",
    "Mutation.workspaceRoleSet",
    "Mutation.workspaceUpdate",
    "Mutation.workspaceUserInvite",
    "Mutation.workspaceUserRemove",
];

#[test]
fn the_lists_name_what_is_served() {
    for name in DEPLOYS.iter().chain(BEYOND_MEMBERS) {
        assert!(FIELDS.iter().any(|(field, needs, _)| field == name && *needs == Needs::More), "{name}");
    }
}

/// Asks for everything beyond looking, in somebody else's workspace, as one who has the role there.
async fn walk(role: Role, may: impl Fn(&str) -> bool) {
    let world = World::start().await;
    let (owner, other) = (world.estate("owner@x.test").await, world.estate("other@x.test").await);
    world.member(owner.workspace, other.person.user.id, role).await;
    let who = world.bearer(&other.person.token).await;
    let fields = || FIELDS.iter().filter(|(name, needs, _)| !name.starts_with("Subscription") && *needs == Needs::More);
    // What is refused comes first: what is allowed changes what there is.
    for (name, _, text) in fields().filter(|(name, ..)| !may(name)) {
        let (body, written) = ask(&world, &who, &document(text, &owner)).await;
        assert!(HIDDEN.contains(&code(&body)) && !written, "{role:?}, {name}: {body}");
    }
    for (name, _, text) in fields().filter(|(name, ..)| may(name)) {
        let (body, _) = ask(&world, &who, &document(text, &owner)).await;
        assert_ne!(code(&body), "FORBIDDEN", "{role:?}, {name}: {body}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployer_deploys_and_changes_nothing_else() {
    walk(Role::Deployer, |name| DEPLOYS.contains(&name)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_changes_what_runs_and_not_who_may_or_what_stays() {
    walk(Role::Member, |name| !BEYOND_MEMBERS.contains(&name)).await;
}
