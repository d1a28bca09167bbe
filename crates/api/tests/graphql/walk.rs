//! Every root field, asked by everybody who must not have it (`SECURITY.md` rule 4).

use std::collections::BTreeSet;

use api::graphql::GraphqlRequest;
use domain::key::{ApiKey, KeyKind, KeyLimits};
use domain::{ApiKeyId, Role, Tenant, Timestamp, WorkspaceId};
use graphql_parser::schema::{Definition, TypeDefinition, parse_schema};
use ops::api_key::ApiKeyCreate;
use ops::auth::{Presented, Surface, authenticate};
use ops::{OpCtx, Principal};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use store::Change;

use crate::server::Person;
use crate::sockets::Socket;
use crate::world::{Estate, World, ids};

/// What a field needs in the workspace that it is asked about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Needs {
    /// Nothing: no credential, no workspace.
    Nothing,
    /// Some credential; it answers about the principal itself.
    Self_,
    /// To read.
    Read,
    /// To read secrets or keys, or to change something.
    More,
}
use Needs::{More, Nothing, Read, Self_};

/// Every root field with a selection; `$name` stands for an id of the victim's.
pub(crate) const FIELDS: &[(&str, Needs, &str)] = &[
    ("Query.apiKeyUsage", More, "{ apiKeyUsage(id: \"$accountKey\") { day allowed } }"),
    ("Query.apiKeys", More, "{ apiKeys(workspaceId: \"$workspace\") { edges { node { id label } } } }"),
    ("Query.apiToken", Self_, "{ apiToken { workspaces { id name } } }"),
    ("Query.apiTokens", Self_, "{ apiTokens { edges { node { id name } } } }"),
    ("Query.auditLog", More, "{ auditLog(id: \"$project\", workspaceId: \"$workspace\") { id } }"),
    (
        "Query.auditLogs",
        More,
        "{ auditLogs(workspaceId: \"$workspace\") { edges { node { id payload context environmentId serviceId service { name } } } } }",
    ),
    ("Query.buildLogs", Read, "{ buildLogs(deploymentId: \"$deployment\") { message } }"),
    ("Query.containers", Read, "{ containers(environmentId: \"$environment\", serviceId: \"$service\") { id } }"),
    ("Query.customDomain", Read, "{ customDomain(id: \"$customDomain\", projectId: \"$project\") { id domain } }"),
    ("Query.customDomainAvailable", Self_, "{ customDomainAvailable(domain: \"free.example.com\") { available message } }"),
    ("Query.deployment", Read, "{ deployment(id: \"$deployment\") { id meta } }"),
    ("Query.deploymentEvents", Read, "{ deploymentEvents(id: \"$deployment\") { edges { node { id } } } }"),
    (
        "Query.deploymentInstanceExecutions",
        Read,
        "{ deploymentInstanceExecutions(input: {environmentId: \"$environment\", serviceId: \"$service\"}) { edges { node { id } } } }",
    ),
    ("Query.deploymentLogs", Read, "{ deploymentLogs(deploymentId: \"$deployment\") { message } }"),
    ("Query.deployments", Read, "{ deployments(input: {projectId: \"$project\"}) { edges { node { id } } } }"),
    (
        "Query.domains",
        Read,
        "{ domains(projectId: \"$project\", environmentId: \"$environment\", serviceId: \"$service\") { serviceDomains { id } } }",
    ),
    ("Query.environment", Read, "{ environment(id: \"$environment\") { id } }"),
    ("Query.environmentLogs", Read, "{ environmentLogs(environmentId: \"$environment\") { message } }"),
    ("Query.environmentPatch", Read, "{ environmentPatch(id: \"$environmentPatch\") { id patch } }"),
    ("Query.environmentPatches", Read, "{ environmentPatches(environmentId: \"$environment\") { edges { node { id } } } }"),
    ("Query.environmentStagedChanges", Read, "{ environmentStagedChanges(environmentId: \"$environment\") { id patch } }"),
    ("Query.environments", Read, "{ environments(projectId: \"$project\") { edges { node { id } } } }"),
    (
        "Query.estimatedUsage",
        Read,
        "{ estimatedUsage(workspaceId: \"$workspace\", measurements: [CPU_USAGE]) { projectId estimatedValue } }",
    ),
    ("Query.externalWorkspaces", Self_, "{ externalWorkspaces { id } }"),
    (
        "Query.httpDurationMetrics",
        Read,
        "{ httpDurationMetrics(environmentId: \"$environment\", serviceId: \"$service\", startDate: \"2026-11-21T00:00:00Z\", endDate: \"2026-11-21T01:00:00Z\") { samples { ts } } }",
    ),
    ("Query.httpLogs", Read, "{ httpLogs(deploymentId: \"$deployment\") { path } }"),
    (
        "Query.httpMetrics",
        Read,
        "{ httpMetrics(environmentId: \"$environment\", serviceId: \"$service\", startDate: \"2026-11-21T00:00:00Z\", endDate: \"2026-11-21T01:00:00Z\") { samples { ts } } }",
    ),
    (
        "Query.httpMetricsGroupedByStatus",
        Read,
        "{ httpMetricsGroupedByStatus(environmentId: \"$environment\", serviceId: \"$service\", startDate: \"2026-11-21T00:00:00Z\", endDate: \"2026-11-21T01:00:00Z\") { statusCode } }",
    ),
    ("Query.me", Self_, "{ me { id workspaces { id projects { edges { node { id } } } } } }"),
    (
        "Query.metrics",
        Read,
        "{ metrics(environmentId: \"$environment\", serviceId: \"$service\", startDate: \"2026-11-21T00:00:00Z\", endDate: \"2026-11-21T01:00:00Z\", measurements: [CPU_USAGE]) { values { ts } } }",
    ),
    ("Query.notificationEventTypes", Nothing, "{ notificationEventTypes { name severity } }"),
    ("Query.notificationKinds", Nothing, "{ notificationKinds { type label } }"),
    ("Query.notificationRuleDeliveries", More, "{ notificationRuleDeliveries(id: \"$notificationRule\") { id to status } }"),
    (
        "Query.notificationRules",
        More,
        "{ notificationRules(workspaceId: \"$workspace\", projectId: \"$project\") { id channels { config } } }",
    ),
    ("Query.notificationSettings", More, "{ notificationSettings(workspaceId: \"$workspace\") { slack { url } } }"),
    ("Query.operator", More, "{ operator { version users { email } backups { name } } }"),
    ("Query.plugin", Read, "{ plugin(id: \"$plugin\") { id name } }"),
    ("Query.project", Read, "{ project(id: \"$project\") { id } }"),
    ("Query.projectFavorites", Read, "{ projectFavorites(workspaceId: \"$workspace\") }"),
    ("Query.projectMembers", Read, "{ projectMembers(projectId: \"$project\") { id email role } }"),
    ("Query.projectToken", Self_, "{ projectToken { id projectId } }"),
    ("Query.projectTokens", More, "{ projectTokens(projectId: \"$project\") { edges { node { id } } } }"),
    ("Query.projects", Read, "{ projects(workspaceId: \"$workspace\") { edges { node { id } } } }"),
    ("Query.rateLimit", Self_, "{ rateLimit { limit } }"),
    ("Query.regionEndpoints", Self_, "{ regionEndpoints { name url current } }"),
    ("Query.regions", Self_, "{ regions { name } }"),
    ("Query.service", Read, "{ service(id: \"$service\") { id } }"),
    (
        "Query.deploymentTriggers",
        Read,
        "{ deploymentTriggers(projectId: \"$project\", environmentId: \"$environment\", serviceId: \"$service\") { edges { node { id } } } }",
    ),
    ("Query.serviceDomainAvailable", Self_, "{ serviceDomainAvailable(domain: \"free\") { available message } }"),
    ("Query.serviceInstance", Read, "{ serviceInstance(environmentId: \"$environment\", serviceId: \"$service\") { id } }"),
    (
        "Query.serviceInstanceLimitOverride",
        Read,
        "{ serviceInstanceLimitOverride(environmentId: \"$environment\", serviceId: \"$service\") }",
    ),
    ("Query.serviceInstanceLimits", Read, "{ serviceInstanceLimits(environmentId: \"$environment\", serviceId: \"$service\") }"),
    ("Query.sessions", Self_, "{ sessions { edges { node { id name } } } }"),
    ("Query.tcpProxies", Read, "{ tcpProxies(environmentId: \"$environment\", serviceId: \"$plugin\") { id proxyPort } }"),
    ("Query.template", Nothing, "{ template(code: \"redis\") { id name serializedConfig } }"),
    ("Query.templateSearch", Nothing, "{ templateSearch(query: \"sql\") { edges { node { code } } } }"),
    ("Query.templates", Nothing, "{ templates { edges { node { code } } } }"),
    ("Query.triggerRuns", Read, "{ triggerRuns(triggerId: \"$trigger\") { number log } }"),
    ("Query.triggers", Read, "{ triggers(environmentId: \"$environment\", serviceId: \"$service\") { id name } }"),
    ("Query.twoFactorInfo", Self_, "{ twoFactorInfo { isVerified } }"),
    (
        "Query.usage",
        Read,
        "{ usage(workspaceId: \"$workspace\", measurements: [CPU_USAGE], groupBy: [PROJECT_ID]) { value tags { projectId } } }",
    ),
    ("Query.variables", More, "{ variables(projectId: \"$project\", environmentId: \"$environment\", serviceId: \"$service\") }"),
    (
        "Query.variablesForServiceDeployment",
        More,
        "{ variablesForServiceDeployment(projectId: \"$project\", environmentId: \"$environment\", serviceId: \"$service\") }",
    ),
    ("Query.volumeInstance", Read, "{ volumeInstance(id: \"$mounted\") { id mountPath } }"),
    ("Query.volumeInstanceBackupList", Read, "{ volumeInstanceBackupList(volumeInstanceId: \"$mounted\") { id } }"),
    ("Query.volumeInstanceBackupScheduleList", Read, "{ volumeInstanceBackupScheduleList(volumeInstanceId: \"$mounted\") { id } }"),
    ("Query.workflowStatus", Self_, "{ workflowStatus(workflowId: \"deployTemplate/project/$project/x\") { status } }"),
    ("Query.workspace", Read, "{ workspace(workspaceId: \"$workspace\") { id members { email } } }"),
    ("Mutation.accountUpdate", More, "mutation { accountUpdate(input: {name: \"x\"}) }"),
    (
        "Mutation.apiKeyCreate",
        More,
        "mutation { apiKeyCreate(input: {kind: FLOW, label: \"x\", workspaceId: \"$workspace\"}) { key apiKey { id } } }",
    ),
    ("Mutation.apiKeyRevoke", More, "mutation { apiKeyRevoke(id: \"$accountKey\") }"),
    ("Mutation.apiKeyUpdate", More, "mutation { apiKeyUpdate(id: \"$accountKey\", input: {label: \"x\"}) { id } }"),
    ("Mutation.apiTokenCreate", More, "mutation { apiTokenCreate(input: {name: \"x\", workspaceId: \"$workspace\"}) }"),
    ("Mutation.apiTokenDelete", More, "mutation { apiTokenDelete(id: \"$accountKey\") }"),
    ("Mutation.cliAuthEventTrack", Nothing, "mutation { cliAuthEventTrack(input: {outcome: \"x\", success: true, transport: \"x\"}) }"),
    (
        "Mutation.cliEventTrack",
        Nothing,
        "mutation { cliEventTrack(input: {arch: \"x\", cliVersion: \"x\", command: \"x\", durationMs: 1, isCi: true, os: \"x\", success: true}) }",
    ),
    (
        "Mutation.containerKill",
        More,
        "mutation { containerKill(environmentId: \"$environment\", id: \"$deployment\", serviceId: \"$service\") }",
    ),
    (
        "Mutation.customDomainCreate",
        More,
        "mutation { customDomainCreate(input: {projectId: \"$project\", environmentId: \"$environment\", serviceId: \"$service\", domain: \"a.b.test\"}) { id } }",
    ),
    ("Mutation.customDomainDelete", More, "mutation { customDomainDelete(id: \"$customDomain\") }"),
    ("Mutation.customDomainIssueCertificate", More, "mutation { customDomainIssueCertificate(id: \"$customDomain\") }"),
    (
        "Mutation.customDomainUpdate",
        More,
        "mutation { customDomainUpdate(environmentId: \"$environment\", id: \"$customDomain\", targetPort: 1) }",
    ),
    ("Mutation.deploymentApprove", More, "mutation { deploymentApprove(id: \"$deployment\") }"),
    ("Mutation.deploymentCancel", More, "mutation { deploymentCancel(id: \"$deployment\") }"),
    (
        "Mutation.deploymentInstanceExecutionCreate",
        More,
        "mutation { deploymentInstanceExecutionCreate(input: {serviceInstanceId: \"$serviceInstance\"}) }",
    ),
    ("Mutation.deploymentRedeploy", More, "mutation { deploymentRedeploy(id: \"$deployment\") { id } }"),
    ("Mutation.deploymentRemove", More, "mutation { deploymentRemove(id: \"$deployment\") }"),
    ("Mutation.deploymentRestart", More, "mutation { deploymentRestart(id: \"$deployment\") }"),
    ("Mutation.deploymentRollback", More, "mutation { deploymentRollback(id: \"$deployment\") }"),
    ("Mutation.deploymentStop", More, "mutation { deploymentStop(id: \"$deployment\") }"),
    ("Mutation.domainCertificateRemove", More, "mutation { domainCertificateRemove(id: \"$customDomain\") }"),
    (
        "Mutation.domainCertificateSet",
        More,
        "mutation { domainCertificateSet(input: {domainId: \"$customDomain\", certificate: \"x\", privateKey: \"x\"}) }",
    ),
    ("Mutation.domainHttpsSet", More, "mutation { domainHttpsSet(id: \"$serviceDomain\", force: true) }"),
    (
        "Mutation.environmentCreate",
        More,
        "mutation { environmentCreate(input: {projectId: \"$project\", name: \"x\", sourceEnvironmentId: \"$environment\"}) { id } }",
    ),
    ("Mutation.environmentDelete", More, "mutation { environmentDelete(id: \"$environment\") }"),
    (
        "Mutation.environmentPatchCommit",
        More,
        "mutation { environmentPatchCommit(environmentId: \"$environment\", patch: {services: {}}) }",
    ),
    ("Mutation.environmentPatchCommitStaged", More, "mutation { environmentPatchCommitStaged(environmentId: \"$environment\") }"),
    ("Mutation.environmentProtect", More, "mutation { environmentProtect(id: \"$environment\", protected: true) }"),
    ("Mutation.environmentRename", More, "mutation { environmentRename(id: \"$environment\", input: {name: \"x\"}) { id } }"),
    (
        "Mutation.environmentStageChanges",
        More,
        "mutation { environmentStageChanges(environmentId: \"$environment\", input: {sharedVariables: {A: {value: \"1\"}}}) { id } }",
    ),
    (
        "Mutation.environmentTriggersDeploy",
        More,
        "mutation { environmentTriggersDeploy(input: {projectId: \"$project\", environmentId: \"$environment\", serviceId: \"$service\"}) }",
    ),
    (
        "Mutation.notificationRuleCreate",
        More,
        "mutation { notificationRuleCreate(input: {workspaceId: \"$workspace\", projectId: \"$project\", eventTypes: [], channelConfigs: [{type: \"EMAIL\"}]}) { id } }",
    ),
    ("Mutation.notificationRuleDelete", More, "mutation { notificationRuleDelete(id: \"$notificationRule\") }"),
    ("Mutation.notificationRuleDeliveryReplay", More, "mutation { notificationRuleDeliveryReplay(id: \"$ruleMessage\") }"),
    (
        "Mutation.notificationRuleUpdate",
        More,
        "mutation { notificationRuleUpdate(id: \"$notificationRule\", input: {eventTypes: []}) { id channels { config } } }",
    ),
    (
        "Mutation.notificationSettingsSet",
        More,
        "mutation { notificationSettingsSet(input: {workspaceId: \"$workspace\"}) { slack { url } } }",
    ),
    ("Mutation.operatorBackupCreate", More, "mutation { operatorBackupCreate { name } }"),
    ("Mutation.operatorBackupDelete", More, "mutation { operatorBackupDelete(name: \"orrery-1.db\") }"),
    ("Mutation.passwordSet", More, "mutation { passwordSet(input: {password: \"correct horse battery\"}) }"),
    ("Mutation.pluginCreate", More, "mutation { pluginCreate(input: {name: \"redis\", projectId: \"$project\"}) { id } }"),
    ("Mutation.pluginDelete", More, "mutation { pluginDelete(id: \"$plugin\") }"),
    ("Mutation.pluginReset", More, "mutation { pluginReset(id: \"$plugin\", input: {environmentId: \"$environment\"}) }"),
    (
        "Mutation.pluginResetCredentials",
        More,
        "mutation { pluginResetCredentials(id: \"$plugin\", input: {environmentId: \"$environment\"}) }",
    ),
    ("Mutation.pluginRestart", More, "mutation { pluginRestart(id: \"$plugin\", input: {}) { id } }"),
    ("Mutation.pluginUpdate", More, "mutation { pluginUpdate(id: \"$plugin\", input: {friendlyName: \"x\"}) { id } }"),
    ("Mutation.projectCreate", More, "mutation { projectCreate(input: {name: \"x\", workspaceId: \"$workspace\"}) { id } }"),
    ("Mutation.projectDelete", More, "mutation { projectDelete(id: \"$project\") }"),
    ("Mutation.projectScheduleDelete", More, "mutation { projectScheduleDelete(id: \"$project\") }"),
    ("Mutation.projectScheduleDeleteCancel", More, "mutation { projectScheduleDeleteCancel(id: \"$project\") }"),
    ("Mutation.projectScheduleDeleteForce", More, "mutation { projectScheduleDeleteForce(id: \"$project\") }"),
    (
        "Mutation.projectTokenCreate",
        More,
        "mutation { projectTokenCreate(input: {projectId: \"$project\", environmentId: \"$environment\", name: \"x\"}) }",
    ),
    ("Mutation.projectTokenDelete", More, "mutation { projectTokenDelete(id: \"$projectKey\") }"),
    ("Mutation.projectUpdate", More, "mutation { projectUpdate(id: \"$project\", input: {name: \"x\"}) { id } }"),
    ("Mutation.recoveryCodeGenerate", More, "mutation { recoveryCodeGenerate { recoveryCodes } }"),
    ("Mutation.recoveryCodeValidate", More, "mutation { recoveryCodeValidate(input: {code: \"guessed\"}) }"),
    ("Mutation.serviceConnect", More, "mutation { serviceConnect(id: \"$service\", input: {image: \"nginx\"}) { id } }"),
    ("Mutation.serviceCreate", More, "mutation { serviceCreate(input: {projectId: \"$project\", name: \"x\"}) { id } }"),
    ("Mutation.serviceDelete", More, "mutation { serviceDelete(id: \"$service\", environmentId: \"$environment\") }"),
    ("Mutation.serviceDisconnect", More, "mutation { serviceDisconnect(id: \"$service\") { id } }"),
    (
        "Mutation.serviceDomainCreate",
        More,
        "mutation { serviceDomainCreate(input: {environmentId: \"$environment\", serviceId: \"$service\"}) { id } }",
    ),
    ("Mutation.serviceDomainDelete", More, "mutation { serviceDomainDelete(id: \"$serviceDomain\") }"),
    (
        "Mutation.serviceDomainUpdate",
        More,
        "mutation { serviceDomainUpdate(input: {serviceDomainId: \"$serviceDomain\", environmentId: \"$environment\", serviceId: \"$service\", domain: \"x.localhost\"}) }",
    ),
    (
        "Mutation.serviceInstanceDeploy",
        More,
        "mutation { serviceInstanceDeploy(environmentId: \"$environment\", serviceId: \"$service\") }",
    ),
    (
        "Mutation.serviceInstanceDeployV2",
        More,
        "mutation { serviceInstanceDeployV2(environmentId: \"$environment\", serviceId: \"$service\") }",
    ),
    (
        "Mutation.serviceInstanceLimitsUpdate",
        More,
        "mutation { serviceInstanceLimitsUpdate(input: {environmentId: \"$environment\", serviceId: \"$service\", vCPUs: 1.5}) }",
    ),
    (
        "Mutation.serviceInstanceRedeploy",
        More,
        "mutation { serviceInstanceRedeploy(environmentId: \"$environment\", serviceId: \"$service\") }",
    ),
    ("Mutation.serviceInstanceUpdate", More, "mutation { serviceInstanceUpdate(serviceId: \"$service\", input: {startCommand: \"x\"}) }"),
    ("Mutation.serviceUpdate", More, "mutation { serviceUpdate(id: \"$service\", input: {name: \"x\"}) { id } }"),
    ("Mutation.sessionDelete", More, "mutation { sessionDelete(id: \"$session\") }"),
    ("Mutation.setupAgentEventTrack", Nothing, "mutation { setupAgentEventTrack(input: {phase: \"x\"}) }"),
    (
        "Mutation.tcpProxyCreate",
        More,
        "mutation { tcpProxyCreate(input: {environmentId: \"$environment\", serviceId: \"$service\", applicationPort: 80}) { id } }",
    ),
    ("Mutation.tcpProxyDelete", More, "mutation { tcpProxyDelete(id: \"$proxy\") }"),
    (
        "Mutation.templateDeployV2",
        More,
        "mutation { templateDeployV2(input: {projectId: \"$project\", templateId: \"redis\", serializedConfig: {}}) { projectId } }",
    ),
    ("Mutation.triggerRemove", More, "mutation { triggerRemove(id: \"$trigger\") }"),
    (
        "Mutation.triggerSave",
        More,
        "mutation { triggerSave(input: {environmentId: \"$environment\", serviceId: \"$service\", name: \"x\", action: ADD, rules: []}) { id } }",
    ),
    ("Mutation.twoFactorInfoCreate", More, "mutation { twoFactorInfoCreate(input: {token: \"123456\"}) { recoveryCodes } }"),
    ("Mutation.twoFactorInfoDelete", More, "mutation { twoFactorInfoDelete(password: \"guessed\") }"),
    ("Mutation.twoFactorInfoSecret", More, "mutation { twoFactorInfoSecret { secret uri } }"),
    ("Mutation.twoFactorInfoValidate", More, "mutation { twoFactorInfoValidate(input: {token: \"123456\"}) }"),
    (
        "Mutation.variableCollectionUpsert",
        More,
        "mutation { variableCollectionUpsert(input: {projectId: \"$project\", environmentId: \"$environment\", serviceId: \"$service\", variables: {A: \"1\"}}) }",
    ),
    (
        "Mutation.variableDelete",
        More,
        "mutation { variableDelete(input: {projectId: \"$project\", environmentId: \"$environment\", serviceId: \"$service\", name: \"SECRET\"}) }",
    ),
    (
        "Mutation.variableUpsert",
        More,
        "mutation { variableUpsert(input: {projectId: \"$project\", environmentId: \"$environment\", serviceId: \"$service\", name: \"A\", value: \"1\"}) }",
    ),
    ("Mutation.volumeCreate", More, "mutation { volumeCreate(input: {projectId: \"$project\", mountPath: \"/x\"}) { id } }"),
    ("Mutation.volumeDelete", More, "mutation { volumeDelete(volumeId: \"$volume\") }"),
    ("Mutation.volumeInstanceBackupCreate", More, "mutation { volumeInstanceBackupCreate(volumeInstanceId: \"$mounted\") { workflowId } }"),
    (
        "Mutation.volumeInstanceBackupDelete",
        More,
        "mutation { volumeInstanceBackupDelete(volumeInstanceId: \"$mounted\", volumeInstanceBackupId: \"$backup\") { workflowId } }",
    ),
    (
        "Mutation.volumeInstanceBackupLock",
        More,
        "mutation { volumeInstanceBackupLock(volumeInstanceId: \"$mounted\", volumeInstanceBackupId: \"$backup\") }",
    ),
    (
        "Mutation.volumeInstanceBackupRestore",
        More,
        "mutation { volumeInstanceBackupRestore(volumeInstanceId: \"$mounted\", volumeInstanceBackupId: \"$backup\") { workflowId } }",
    ),
    (
        "Mutation.volumeInstanceBackupScheduleUpdate",
        More,
        "mutation { volumeInstanceBackupScheduleUpdate(volumeInstanceId: \"$mounted\", kinds: [DAILY]) }",
    ),
    ("Mutation.volumeInstanceUpdate", More, "mutation { volumeInstanceUpdate(volumeId: \"$volume\", input: {mountPath: \"/y\"}) }"),
    ("Mutation.volumeUpdate", More, "mutation { volumeUpdate(volumeId: \"$volume\", input: {name: \"x\"}) { id } }"),
    ("Mutation.webhookTest", Self_, "mutation { webhookTest(url: \"https://x.test/\", payload: \"{}\") }"),
    ("Mutation.workspaceCreate", Self_, "mutation { workspaceCreate(input: {name: \"x\"}) { id } }"),
    (
        "Mutation.workspaceInviteCodeCreate",
        More,
        "mutation { workspaceInviteCodeCreate(input: {role: \"VIEWER\"}, workspaceId: \"$workspace\") }",
    ),
    ("Mutation.workspaceInviteCodeUse", More, "mutation { workspaceInviteCodeUse(code: \"guessed\") { id } }"),
    (
        "Mutation.workspacePermissionChange",
        More,
        "mutation { workspacePermissionChange(input: {workspaceId: \"$workspace\", userId: \"$person\", role: VIEWER}) }",
    ),
    ("Mutation.workspacePlanSet", More, "mutation { workspacePlanSet(id: \"$workspace\", plan: FREE) { id } }"),
    (
        "Mutation.workspaceRoleSet",
        More,
        "mutation { workspaceRoleSet(input: {workspaceId: \"$workspace\", userId: \"$person\", role: VIEWER}) }",
    ),
    ("Mutation.workspaceUpdate", More, "mutation { workspaceUpdate(id: \"$workspace\", input: {name: \"x\"}) }"),
    (
        "Mutation.workspaceUserInvite",
        More,
        "mutation { workspaceUserInvite(input: {code: \"guessed\", email: \"stranger@x.test\"}, workspaceId: \"$workspace\") }",
    ),
    ("Mutation.workspaceUserRemove", More, "mutation { workspaceUserRemove(input: {userId: \"$person\"}, workspaceId: \"$workspace\") }"),
    ("Subscription.buildLogs", Read, "subscription { buildLogs(deploymentId: \"$deployment\") { message } }"),
    ("Subscription.deployment", Read, "subscription { deployment(id: \"$deployment\") { id } }"),
    ("Subscription.deploymentEvents", Read, "subscription { deploymentEvents(id: \"$deployment\") { id } }"),
    (
        "Subscription.deploymentInstanceExecutions",
        Read,
        "subscription { deploymentInstanceExecutions(input: {deploymentId: \"$deployment\"}) { id } }",
    ),
    ("Subscription.deploymentLogs", Read, "subscription { deploymentLogs(deploymentId: \"$deployment\") { message } }"),
    ("Subscription.environmentLogs", Read, "subscription { environmentLogs(environmentId: \"$environment\") { message } }"),
    ("Subscription.httpLogs", Read, "subscription { httpLogs(deploymentId: \"$deployment\") { path } }"),
    (
        "Subscription.workspaceChanges",
        Read,
        "subscription { workspaceChanges(workspaceId: \"$workspace\", kinds: [DELIVERIES, FLOW, STATE, TRIGGERS]) { kind workspaceId } }",
    ),
    // At the end: the viewer's walk is over once they have left.
    ("Mutation.workspaceLeave", Self_, "mutation { workspaceLeave(id: \"$workspace\") }"),
];

pub(crate) fn document(text: &str, victim: &Estate) -> String {
    // The longer names first: `$service` is the beginning of `$serviceDomain`.
    [
        ("$serviceInstance", victim.service_instance.to_string()),
        ("$serviceDomain", victim.service_domain.to_string()),
        ("$customDomain", victim.custom_domain.to_string()),
        ("$accountKey", victim.account_key.to_string()),
        ("$projectKey", victim.project_key.to_string()),
        ("$environmentPatch", victim.environment_patch.to_string()),
        ("$notificationRule", victim.notification_rule.to_string()),
        ("$ruleMessage", victim.rule_message.to_string()),
        ("$plugin", victim.plugin.to_string()),
        ("$volume", victim.volume.to_string()),
        ("$mounted", victim.volume_instance.to_string()),
        ("$backup", victim.backup.to_string()),
        ("$proxy", victim.tcp_proxy.to_string()),
        ("$session", victim.session.to_string()),
        ("$trigger", victim.trigger.to_string()),
        ("$person", victim.person.user.id.to_string()),
        ("$deployment", victim.deployment.to_string()),
        ("$environment", victim.person.environment.to_string()),
        ("$workspace", victim.workspace.to_string()),
        ("$service", victim.service.to_string()),
        ("$project", victim.person.project.to_string()),
    ]
    .into_iter()
    .fold(text.to_owned(), |text, (name, id)| text.replace(name, &id))
}

#[test]
fn the_walk_misses_no_field() {
    let text = api::railway::sdl();
    let schema = parse_schema::<String>(&text).unwrap();
    let mut served = BTreeSet::new();
    for definition in &schema.definitions {
        if let Definition::TypeDefinition(TypeDefinition::Object(one)) = definition
            && ["Query", "Mutation", "Subscription"].contains(&one.name.as_str())
        {
            served.extend(one.fields.iter().map(|field| format!("{}.{}", one.name, field.name)));
        }
    }
    let walked: BTreeSet<String> = FIELDS.iter().map(|(name, ..)| (*name).to_owned()).collect();
    assert_eq!(served, walked);
}

/// One question; the answer's body and whether anything was written.
pub(crate) async fn ask(world: &World, who: &Principal, text: &str) -> (Value, bool) {
    let before = world.server.ops.store.generation();
    let request = GraphqlRequest { query: text.to_owned(), variables: None, operation_name: None, extensions: None };
    let ctx = OpCtx { now: Timestamp::now(), ..world.ctx(who.clone()) };
    let body = world.engine.execute(ctx, request).await.body;
    (serde_json::from_slice(&body).unwrap(), world.server.ops.store.generation() != before)
}

pub(crate) fn code(body: &Value) -> &str {
    body["errors"][0]["extensions"]["code"].as_str().unwrap_or("none")
}

/// Asks every query and mutation; `allowed` says which may be answered. Nothing of the victim's may be in any answer that is not.
async fn walk(world: &World, victim: &Estate, who: &Principal, codes: &[&str], allowed: impl Fn(Needs) -> bool) {
    for (name, needs, text) in FIELDS.iter().filter(|(name, ..)| !name.starts_with("Subscription")) {
        let (body, written) = ask(world, who, &document(text, victim)).await;
        if allowed(*needs) {
            // What a principal asks about itself may be refused to its kind; it never tells of another.
            assert!(*needs == Read || ids(victim).iter().all(|id| !body.to_string().contains(id)), "{name}: {body}");
        } else {
            assert!(codes.contains(&code(&body)), "{name}: {body}");
            // A field that may be null is, and takes nothing along.
            let mut fields = body["data"].as_object().into_iter().flat_map(|fields| fields.values());
            assert!(body["data"].is_null() || fields.all(Value::is_null), "{name}: {body}");
            let text = body.to_string();
            assert!(ids(victim).iter().all(|id| !text.contains(id)), "{name}: {text}");
            assert!(!written, "{name} wrote something");
        }
    }
}

pub(crate) const HIDDEN: &[&str] = &["NOT_FOUND", "FORBIDDEN"];

#[tokio::test(flavor = "multi_thread")]
async fn nobody_without_a_credential_gets_anything() {
    let world = World::start().await;
    let victim = world.estate("victim@x.test").await;
    walk(&world, &victim, &Principal::Anonymous, &["UNAUTHENTICATED"], |needs| needs == Nothing).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_gets_nothing_of_another_workspace() {
    let world = World::start().await;
    let (victim, stranger) = (world.estate("victim@x.test").await, world.estate("stranger@x.test").await);
    let own = |needs| matches!(needs, Nothing | Self_);
    let account = world.bearer(&stranger.person.token).await;
    walk(&world, &victim, &account, HIDDEN, own).await;
    let project = world.project_token(&stranger.project_token).await;
    walk(&world, &victim, &project, HIDDEN, own).await;
    let ctx = world.server.ctx(&stranger.person.token).await;
    let (_, team) = ops::token::api_token_create(&ctx, "team", Some(stranger.workspace)).await.unwrap();
    walk(&world, &victim, &world.bearer(team.expose_secret()).await, HIDDEN, own).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_viewer_looks_and_changes_nothing() {
    let world = World::start().await;
    let (victim, viewer) = (world.estate("victim@x.test").await, world.estate("viewer@x.test").await);
    world.member(victim.workspace, viewer.person.user.id, Role::Viewer).await;
    let viewer = world.bearer(&viewer.person.token).await;
    // `me` and `projects` of a member name what they may see, so the walk looks at what needs more.
    for (name, needs, text) in FIELDS.iter().filter(|(name, ..)| !name.starts_with("Subscription")) {
        let (body, written) = ask(&world, &viewer, &document(text, &victim)).await;
        match needs {
            Read => assert_eq!(body.get("errors"), None, "{name}: {body}"),
            More => {
                assert!(HIDDEN.contains(&code(&body)), "{name}: {body}");
                assert!(!body.to_string().contains("canary-7f3a") && !written, "{name}: {body}");
            }
            Nothing | Self_ => {}
        }
    }
    let config = format!("{{ environment(id: \"{}\") {{ config(decryptVariables: true) }} }}", victim.person.environment);
    assert_eq!(code(&ask(&world, &viewer, &config).await.0), "FORBIDDEN");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_no_longer_work_open_nothing() {
    let world = World::start().await;
    let victim = world.estate("victim@x.test").await;
    let ctx = world.server.ctx(&victim.person.token).await;
    let tenant = Tenant::system(victim.workspace);
    let before = world.server.ops.store.api_keys_of_project(tenant, victim.person.project).await.unwrap().len();
    ops::token::project_token_delete(&ctx, victim.project_key).await.unwrap();
    let late = ctx.now + std::time::Duration::from_secs(2 * 3_600);
    let refused = authenticate(
        &world.server.ops,
        Surface::Railway,
        Presented::ProjectToken(SecretString::from(victim.project_token.as_str())),
        late,
        None,
    )
    .await;
    assert!(refused.unwrap_err().public.to_lowercase().contains("project token not found"));
    assert_eq!(before, 1);
    // Over HTTP, for the other kinds.
    let Principal::User(person) = world.bearer(&victim.person.token).await else { panic!() };
    let ops::Via::Key(key, _) = person.via else { panic!() };
    ops::token::api_token_delete(&ctx, key).await.unwrap();
    let bearer = format!("Bearer {}", victim.person.token);
    let reply = world.server.graphql(&[("Authorization", &bearer)], "{ me { id } }").await;
    let body = reply.json();
    assert!(body["errors"][0]["message"].as_str().unwrap().contains("Not Authorized") && body["data"].is_null(), "{body}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_field_answers_to_a_key_that_has_ended() {
    for kind in [KeyKind::Account, KeyKind::Workspace, KeyKind::Project, KeyKind::Flow] {
        // A server of its own for each kind: an address may fail a thousand times in ten minutes.
        let world = World::start().await;
        let victim = world.estate("victim@x.test").await;
        for (header, value) in &ended_keys(&world, &victim.person, victim.workspace, kind).await {
            for (name, _, text) in FIELDS.iter().filter(|(name, ..)| !name.starts_with("Subscription")) {
                let reply = world.server.graphql(&[(header, value)], &document(text, &victim)).await;
                let body = reply.json();
                assert!(code(&body) == "UNAUTHENTICATED" && body["data"].is_null(), "{name}: {body}");
            }
            let upload = format!("/project/{}/environment/{}/up", victim.person.project, victim.person.environment);
            assert_eq!(world.server.call("POST", &upload, &[(header, value)], b"").await.status, 401);
        }
    }
}

/// Headers with a key that was revoked and one that has expired.
pub(crate) async fn ended_keys(world: &World, person: &Person, workspace: WorkspaceId, kind: KeyKind) -> [(&'static str, String); 2] {
    let ctx = world.server.ctx(&person.token).await;
    let wanted = ApiKeyCreate {
        kind,
        label: Some("ended".into()),
        workspace: (kind != KeyKind::Account).then_some(workspace),
        environment: (kind == KeyKind::Project).then_some(person.environment),
        limits: KeyLimits::OF_PLAN,
        expires_at: None,
    };
    let (key, revoked) = ops::api_key::api_key_create(&ctx, wanted).await.unwrap();
    ops::api_key::api_key_revoke(&ctx, key.id).await.unwrap();
    let (expired, hash, display) = ops::new_secret(kind);
    let key = ApiKey { id: ApiKeyId::generate(), display, expires_at: Some(ctx.now), ..key };
    world.server.ops.store.commit(Tenant::system(workspace), vec![Change::ApiKeyInsert { key, hash }]).await.unwrap();
    [revoked, expired].map(|secret| match (kind, secret.expose_secret().to_owned()) {
        (KeyKind::Project, secret) => ("Project-Access-Token", secret),
        (KeyKind::Galaxy, secret) => ("galaxy-api-key", secret),
        (_, secret) => ("Authorization", format!("Bearer {secret}")),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_watches_what_is_not_theirs() {
    let world = World::start().await;
    let (victim, stranger) = (world.estate("victim@x.test").await, world.estate("stranger@x.test").await);
    let subscriptions: Vec<_> = FIELDS.iter().filter(|(name, ..)| name.starts_with("Subscription")).collect();
    assert_eq!(Socket::open(&world, None).await.err(), Some(401));
    let mut socket = Socket::ready(&world, &stranger.person.token).await;
    for (name, _, text) in &subscriptions {
        socket.subscribe("0", &document(text, &victim), json!({})).await;
        let message = socket.receive().await;
        assert_eq!(message["type"], json!("error"), "{name}: {message}");
        assert!(HIDDEN.contains(&message["payload"][0]["extensions"]["code"].as_str().unwrap()), "{name}: {message}");
    }
}
