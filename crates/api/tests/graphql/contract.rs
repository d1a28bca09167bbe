//! Everything that is served is as Railway's schema has it.

use std::collections::BTreeMap;

use graphql_parser::schema::{Definition, EnumType, Field, InputObjectType, InputValue, ObjectType, Type, TypeDefinition, parse_schema};

const CONTRACT: &str = include_str!("../data/railway-schema.graphql");

/// Beyond the contract: how clients before 2026 name a workspace, the shape of 2022 for databases (`contracts/railway.md` 5), and what this
/// server adds: keys, and what the principal may do, so that a client need not copy the rules.
const EXTRAS: &[&str] = &[
    "AuditLog.service",
    "AuditLog.serviceId",
    "CustomDomain.forceHttps",
    "DeploymentInstanceExecution.exitCode",
    "DeploymentInstanceExecution.reason",
    "Environment.isProtected",
    "Mutation.accountUpdate",
    "Mutation.apiKeyCreate",
    "Mutation.apiKeyRevoke",
    "Mutation.apiKeyUpdate",
    "Mutation.containerKill",
    "Mutation.domainCertificateRemove",
    "Mutation.domainCertificateSet",
    "Mutation.domainHttpsSet",
    "Mutation.environmentProtect",
    "Mutation.notificationRuleDeliveryReplay",
    "Mutation.notificationSettingsSet",
    "Mutation.operatorBackupCreate",
    "Mutation.operatorBackupDelete",
    "Mutation.passwordSet",
    "Mutation.triggerRemove",
    "Mutation.triggerSave",
    "Mutation.twoFactorInfoDelete.password",
    "Mutation.twoFactorInfoSecret.password",
    "Mutation.workspaceCreate",
    "Mutation.workspacePlanSet",
    "Mutation.workspaceRoleSet",
    "Plugin.plugin",
    "PluginCreateInput.data",
    "Project.viewerCanAdminister",
    "Project.viewerCanDeploy",
    "Project.viewerCanWrite",
    "ProjectCreateInput.teamId",
    "Query.apiKeyUsage",
    "Query.apiKeys",
    "Query.containers",
    "Query.notificationEventTypes",
    "Query.notificationKinds",
    "Query.notificationRuleDeliveries",
    "Query.notificationSettings",
    "Query.operator",
    "Query.projects.teamId",
    "Query.rateLimit",
    "Query.regionEndpoints",
    "Query.triggerRuns",
    "Query.triggers",
    "ServiceDomain.forceHttps",
    "ServiceInstance.stickySessions",
    "ServiceInstance.unhealthyContainerReplacement",
    "ServiceInstanceUpdateInput.stickySessions",
    "ServiceInstanceUpdateInput.unhealthyContainerReplacement",
    "Subscription.workspaceChanges",
    "TemplateDeployV2Input.teamId",
    "User.hasPassword",
    "Workspace.flowCredits",
    "Workspace.planUse",
    "Workspace.username",
    "Workspace.viewerCanAdminister",
    "Workspace.viewerRole",
    "WorkspaceMember.workspaceRole",
];

/// Types that this server adds; none of them may be called like one of the contract.
const OWN_TYPES: &[&str] = &[
    "AccountUpdateInput",
    "ApiKey",
    "ApiKeyCreateInput",
    "ApiKeyCreatePayload",
    "ApiKeyKind",
    "ApiKeyLimits",
    "ApiKeyLimitsInput",
    "ApiKeyState",
    "ApiKeyUpdateInput",
    "ApiKeyUsage",
    "DomainCertificateSetInput",
    "FlowCredits",
    "MailNotifications",
    "MailNotificationsInput",
    "NotificationEventType",
    "NotificationKind",
    "NotificationRuleDelivery",
    "NotificationSettings",
    "NotificationSettingsInput",
    "Operator",
    "OperatorBackup",
    "OperatorCheck",
    "OperatorCheckState",
    "OperatorStorage",
    "OperatorStoragePart",
    "OperatorUser",
    "OperatorWorkspace",
    "PasswordSetInput",
    "PlanUse",
    "PluginCreateDataInput",
    "QueryApiKeysConnection",
    "QueryApiKeysConnectionEdge",
    "RateLimit",
    "RegionEndpoint",
    "ServiceContainer",
    "SlackNotifications",
    "SlackNotificationsInput",
    "Trigger",
    "TriggerAction",
    "TriggerComparator",
    "TriggerInput",
    "TriggerMetric",
    "TriggerOperator",
    "TriggerRule",
    "TriggerRuleInput",
    "TriggerRun",
    "WorkspaceChange",
    "WorkspaceChangeKind",
    "WorkspaceCreateInput",
    "WorkspaceRole",
    "WorkspaceRoleSetInput",
];

/// May be left out here, because another shape takes their place.
const OPTIONAL: &[&str] = &["PluginCreateInput.name", "PluginCreateInput.projectId"];

type Types = BTreeMap<String, TypeDefinition<'static, String>>;

fn types(text: &str) -> Types {
    let document = parse_schema::<String>(text).unwrap().into_static();
    let definitions = document.definitions.into_iter().filter_map(|definition| match definition {
        Definition::TypeDefinition(definition) => Some((name(&definition).to_owned(), definition)),
        _ => None,
    });
    definitions.collect()
}

fn name<'a>(definition: &'a TypeDefinition<'static, String>) -> &'a str {
    match definition {
        TypeDefinition::Scalar(one) => &one.name,
        TypeDefinition::Object(one) => &one.name,
        TypeDefinition::Interface(one) => &one.name,
        TypeDefinition::Union(one) => &one.name,
        TypeDefinition::Enum(one) => &one.name,
        TypeDefinition::InputObject(one) => &one.name,
    }
}

struct Report(Vec<String>);

impl Report {
    fn expect(&mut self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.0.push(what());
        }
    }

    fn inputs(&mut self, place: &str, ours: &[InputValue<'static, String>], theirs: &[InputValue<'static, String>]) {
        for one in ours {
            let path = format!("{place}.{}", one.name);
            match theirs.iter().find(|other| other.name == one.name) {
                None => self.expect(EXTRAS.contains(&path.as_str()), || format!("{path} is not in the contract")),
                Some(other) => {
                    let looser = OPTIONAL.contains(&path.as_str()) && format!("{}!", one.value_type) == other.value_type.to_string();
                    self.expect(looser || one.value_type == other.value_type, || {
                        format!("{path}: {} instead of {}", one.value_type, other.value_type)
                    });
                    self.expect(one.default_value == other.default_value, || format!("{path}: another default"));
                }
            }
        }
        for other in theirs.iter().filter(|other| matches!(other.value_type, Type::NonNullType(_))) {
            self.expect(ours.iter().any(|one| one.name == other.name), || format!("{place}.{} is required and absent", other.name));
        }
    }

    fn object(&mut self, ours: &ObjectType<'static, String>, theirs: &ObjectType<'static, String>) {
        for one in &ours.fields {
            let path = format!("{}.{}", ours.name, one.name);
            let Some(other) = theirs.fields.iter().find(|other| other.name == one.name) else {
                self.expect(EXTRAS.contains(&path.as_str()), || format!("{path} is not in the contract"));
                continue;
            };
            let Field { field_type, arguments, .. } = one;
            self.expect(*field_type == other.field_type, || format!("{path}: {field_type} instead of {}", other.field_type));
            self.inputs(&path, arguments, &other.arguments);
        }
    }

    fn input(&mut self, ours: &InputObjectType<'static, String>, theirs: &InputObjectType<'static, String>) {
        self.inputs(&ours.name, &ours.fields, &theirs.fields);
    }

    fn values(&mut self, ours: &EnumType<'static, String>, theirs: &EnumType<'static, String>) {
        let sorted = |one: &EnumType<'static, String>| {
            let mut names: Vec<_> = one.values.iter().map(|value| value.name.clone()).collect();
            names.sort();
            names
        };
        self.expect(sorted(ours) == sorted(theirs), || format!("{}: {:?} instead of {:?}", ours.name, sorted(ours), sorted(theirs)));
    }
}

#[test]
fn what_is_served_is_what_the_contract_says() {
    let (ours, theirs) = (types(&api::railway::sdl()), types(CONTRACT));
    let mut report = Report(vec![]);
    for (name, one) in &ours {
        match (one, theirs.get(name)) {
            (TypeDefinition::Object(one), Some(TypeDefinition::Object(other))) => report.object(one, other),
            (TypeDefinition::InputObject(one), Some(TypeDefinition::InputObject(other))) => report.input(one, other),
            (TypeDefinition::Enum(one), Some(TypeDefinition::Enum(other))) => report.values(one, other),
            (TypeDefinition::Scalar(_), Some(TypeDefinition::Scalar(_))) => {}
            (_, None) if OWN_TYPES.contains(&name.as_str()) => {}
            _ => report.0.push(format!("{name} is not in the contract, or of another kind")),
        }
    }
    assert!(report.0.is_empty(), "{}", report.0.join("\n"));
}
