//! What can be changed. Every field is one verb of `ops`.

use std::collections::BTreeMap;
use std::sync::Arc;

use domain::project::DomainKind;
use domain::{ApiKeyId, DeploymentId, DomainId, EnvironmentId, ProjectId, ServiceId, WorkspaceId};
use juniper::graphql_object;
use ops::domain_name::{DomainPatch, Within};
use ops::project::ProjectCreate;
use ops::service::ServiceCreate;
use ops::variable::Upsert;
use secrecy::ExposeSecret;

use super::account::Workspace;
use super::api_key::{self, ApiKey, ApiKeyCreateInput, ApiKeyCreatePayload, ApiKeyUpdateInput};
use super::deployment::Deployment;
use super::domain_name::{CustomDomain, DomainCertificateSetInput, ServiceDomain};
use super::enums::{Plan, VolumeInstanceBackupScheduleKind};
use super::environment::Environment;
use super::environment_patch::EnvironmentPatch;
use super::inputs::{
    self, ApiTokenCreateInput, CliAuthEventTrackInput, CliEventTrackInput, CustomDomainCreateInput, DeploymentInstanceExecutionCreateInput,
    EnvironmentCreateInput, EnvironmentRenameInput, EnvironmentTriggersDeployInput, PluginCreateInput, PluginRestartInput,
    PluginUpdateInput, ProjectCreateInput, ProjectTokenCreateInput, ProjectUpdateInput, ResetPluginCredentialsInput, ResetPluginInput,
    ServiceConnectInput, ServiceCreateInput, ServiceDomainCreateInput, ServiceDomainUpdateInput, ServiceInstanceLimitsUpdateInput,
    ServiceInstanceUpdateInput, ServiceUpdateInput, SetupAgentEventTrackInput, TCPProxyCreateInput, TemplateDeployV2Input,
    VariableCollectionUpsertInput, VariableDeleteInput, VariableUpsertInput, VolumeCreateInput, VolumeInstanceUpdateInput,
    VolumeUpdateInput, id, id_option, off, port,
};
use super::notification::{NotificationSettings, NotificationSettingsInput};
use super::notification_rule::{self, CreateNotificationRuleInput, NotificationRule, UpdateNotificationRuleInput};
use super::operator::{self, OperatorBackup};
use super::plugin::Plugin;
use super::project::Project;
use super::service::Service;
use super::session::{AccountUpdateInput, PasswordSetInput};
use super::tcp_proxy::TCPProxy;
use super::template::TemplateDeployPayload;
use super::trigger::{Trigger, TriggerInput};
use super::two_factor::{
    self, RecoveryCodeValidateInput, RecoveryCodes, TwoFactorInfoCreateInput, TwoFactorInfoSecret, TwoFactorInfoValidateInput,
};
use super::volume::{Volume, WorkflowId};
use super::workspace::{
    self, WorkspaceCreateInput, WorkspaceInviteCodeCreateInput, WorkspacePermissionChangeInput, WorkspaceRoleSetInput,
    WorkspaceUpdateInput, WorkspaceUserInviteInput, WorkspaceUserRemoveInput,
};
use crate::graphql::scalar::EnvironmentConfig;
use crate::graphql::{Ctx, Fault, Scalar};

/// The root of mutations.
pub struct Mutation;

fn deployment_id(text: &str) -> Result<DeploymentId, Fault> {
    id("Deployment", text, DeploymentId)
}

fn pair(environment: &str, service: &str) -> Result<(EnvironmentId, ServiceId), Fault> {
    Ok((id("Environment", environment, EnvironmentId)?, id("Service", service, ServiceId)?))
}

fn upsert(
    ctx: &Ctx,
    (project, environment, service): (&str, &str, Option<&str>),
    values: BTreeMap<String, String>,
    how: Upsert,
) -> Result<bool, Fault> {
    let project = id("Project", project, ProjectId)?;
    let environment = id("Environment", environment, EnvironmentId)?;
    let service = id_option("Service", service, ServiceId)?;
    ctx.wait(ops::variable::variable_collection_upsert(&ctx.op, project, environment, service, values, how))?;
    Ok(true)
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl Mutation {
    /// Changes what the person is called, or the address that they sign in with.
    fn account_update(ctx: &Ctx, input: AccountUpdateInput) -> Result<bool, Fault> {
        super::session::account_update(ctx, input)
    }
    /// Makes a key of any kind. Its text is shown this once.
    fn api_key_create(ctx: &Ctx, input: ApiKeyCreateInput) -> Result<ApiKeyCreatePayload, Fault> {
        api_key::api_key_create(ctx, input)
    }
    /// Revokes a key, from the next request on.
    fn api_key_revoke(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        api_key::api_key_revoke(ctx, &id)
    }
    /// Changes a key's label or its limits.
    fn api_key_update(ctx: &Ctx, id: String, input: ApiKeyUpdateInput) -> Result<ApiKey, Fault> {
        api_key::api_key_update(ctx, &id, input)
    }
    /// Makes an account token, or a workspace token when a workspace is named. The secret is shown this once.
    fn api_token_create(ctx: &Ctx, input: ApiTokenCreateInput) -> Result<String, Fault> {
        let workspace = id_option("Workspace", input.workspace_id.as_deref(), WorkspaceId)?;
        let (_, secret) = ctx.wait(ops::token::api_token_create(&ctx.op, &input.name, workspace))?;
        Ok(secret.expose_secret().to_owned())
    }
    /// Revokes an account or workspace token.
    fn api_token_delete(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        ctx.wait(ops::token::api_token_delete(&ctx.op, inputs::id("Token", &id, ApiKeyId)?))?;
        Ok(true)
    }
    /// Takes a client's report and drops it.
    fn cli_auth_event_track(input: CliAuthEventTrackInput) -> bool {
        drop(input);
        true
    }
    /// Takes a client's report and drops it.
    fn cli_event_track(input: CliEventTrackInput) -> bool {
        drop(input);
        true
    }
    /// Replaces a running copy of a service by a fresh one.
    fn container_kill(ctx: &Ctx, environment_id: String, id: String, service_id: String) -> Result<bool, Fault> {
        super::container::container_kill(ctx, &environment_id, &id, &service_id)
    }
    /// Attaches a domain of the user's own.
    fn custom_domain_create(ctx: &Ctx, input: CustomDomainCreateInput) -> Result<CustomDomain, Fault> {
        super::domain_name::custom_domain_create(ctx, input)
    }
    /// Detaches a domain of the user's own.
    fn custom_domain_delete(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        ctx.wait(ops::domain_name::domain_delete(&ctx.op, inputs::id("Domain", &id, DomainId)?, DomainKind::Custom))?;
        Ok(true)
    }
    /// Has a certificate ordered for a domain of the user's own now.
    fn custom_domain_issue_certificate(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        super::domain_name::custom_domain_issue_certificate(ctx, &id)
    }
    /// Changes the port behind a domain of the user's own; without one it is the service's again.
    fn custom_domain_update(ctx: &Ctx, environment_id: String, id: String, target_port: Option<i32>) -> Result<bool, Fault> {
        super::domain_name::custom_domain_update(ctx, &environment_id, &id, target_port)
    }
    /// Lets a deployment that waits for an approval go on.
    fn deployment_approve(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        super::approval::deployment_approve(ctx, &id)
    }
    /// Ends a deployment that is not decided yet.
    fn deployment_cancel(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        ctx.wait(ops::deployment::deployment_cancel(&ctx.op, deployment_id(&id)?))?;
        Ok(true)
    }
    /// Runs a service with a schedule once, now.
    fn deployment_instance_execution_create(ctx: &Ctx, input: DeploymentInstanceExecutionCreateInput) -> Result<bool, Fault> {
        super::execution::deployment_instance_execution_create(ctx, &input.service_instance_id)
    }
    /// Deploys the same source again with today's settings.
    fn deployment_redeploy(ctx: &Ctx, id: String) -> Result<Deployment, Fault> {
        let made = ctx.wait(ops::deployment::deployment_redeploy(&ctx.op, deployment_id(&id)?))?;
        Ok(Deployment::new(ctx, made))
    }
    /// Takes a deployment out of service.
    fn deployment_remove(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        ctx.wait(ops::deployment::deployment_remove(&ctx.op, deployment_id(&id)?))?;
        Ok(true)
    }
    /// Replaces the running copies of a deployment.
    fn deployment_restart(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        ctx.wait(ops::deployment::deployment_restart(&ctx.op, deployment_id(&id)?))?;
        Ok(true)
    }
    /// Goes back to an earlier deployment.
    fn deployment_rollback(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        ctx.wait(ops::deployment::deployment_rollback(&ctx.op, deployment_id(&id)?))?;
        Ok(true)
    }
    /// Ends the running copies of a deployment.
    fn deployment_stop(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        ctx.wait(ops::deployment::deployment_stop(&ctx.op, deployment_id(&id)?))?;
        Ok(true)
    }
    /// Takes a domain's certificate away, with its private key.
    fn domain_certificate_remove(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        super::domain_name::domain_certificate_remove(ctx, &id)
    }
    /// Uses a certificate of the user's own for a domain.
    fn domain_certificate_set(ctx: &Ctx, input: DomainCertificateSetInput) -> Result<bool, Fault> {
        super::domain_name::domain_certificate_set(ctx, input)
    }
    /// Sends whoever asks a domain without TLS to the same address with it, or no longer.
    fn domain_https_set(ctx: &Ctx, force: bool, id: String) -> Result<bool, Fault> {
        super::domain_name::domain_https_set(ctx, force, &id)
    }
    /// Makes an environment.
    fn environment_create(ctx: &Ctx, input: EnvironmentCreateInput) -> Result<Environment, Fault> {
        Environment::create(ctx, input)
    }
    /// Deletes an environment with everything in it.
    fn environment_delete(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        ctx.wait(ops::environment::environment_delete(&ctx.op, inputs::id("Environment", &id, EnvironmentId)?))?;
        Ok(true)
    }
    /// Changes an environment's document at once; the id of a workflow that is complete already.
    fn environment_patch_commit(
        ctx: &Ctx,
        commit_message: Option<String>,
        environment_id: String,
        patch: Option<EnvironmentConfig>,
    ) -> Result<String, Fault> {
        EnvironmentPatch::commit(ctx, &environment_id, patch.as_ref(), commit_message)
    }
    /// Applies the staged changes of an environment.
    fn environment_patch_commit_staged(
        ctx: &Ctx,
        commit_message: Option<String>,
        environment_id: String,
        skip_deploys: Option<bool>,
    ) -> Result<String, Fault> {
        EnvironmentPatch::commit_staged(ctx, &environment_id, commit_message, skip_deploys.unwrap_or(false))
    }
    /// Makes deployments that others than admins ask for in an environment wait for an approval, or no longer.
    fn environment_protect(ctx: &Ctx, id: String, protected: bool) -> Result<bool, Fault> {
        super::approval::environment_protect(ctx, &id, protected)
    }
    /// Renames an environment.
    fn environment_rename(ctx: &Ctx, id: String, input: EnvironmentRenameInput) -> Result<Environment, Fault> {
        let environment = inputs::id("Environment", &id, EnvironmentId)?;
        Ok(Environment::new(ctx, ctx.wait(ops::environment::environment_rename(&ctx.op, environment, &input.name))?))
    }
    /// Stages changes of an environment, on top of those that are staged when `merge` is true.
    fn environment_stage_changes(
        ctx: &Ctx,
        environment_id: String,
        input: EnvironmentConfig,
        merge: Option<bool>,
    ) -> Result<EnvironmentPatch, Fault> {
        EnvironmentPatch::stage(ctx, &environment_id, &input, merge.unwrap_or(false))
    }
    /// Deploys the newest source of a service again.
    fn environment_triggers_deploy(ctx: &Ctx, input: EnvironmentTriggersDeployInput) -> Result<bool, Fault> {
        id("Project", &input.project_id, ProjectId)?;
        let (environment, service) = pair(&input.environment_id, &input.service_id)?;
        ctx.wait(ops::deployment::service_instance_redeploy(&ctx.op, environment, service))?;
        Ok(true)
    }
    /// Makes a rule that tells webhooks and mailboxes of deployments.
    fn notification_rule_create(ctx: &Ctx, input: CreateNotificationRuleInput) -> Result<NotificationRule, Fault> {
        notification_rule::notification_rule_create(ctx, input)
    }
    /// Deletes a notification rule, with its messages that wait to be sent.
    fn notification_rule_delete(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        notification_rule::notification_rule_delete(ctx, &id)
    }
    /// Sends a message of a notification rule again, to where it went then and under its own id, once it is sent or given up.
    fn notification_rule_delivery_replay(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        notification_rule::notification_rule_delivery_replay(ctx, &id)
    }
    /// Changes what a notification rule tells, or where to.
    fn notification_rule_update(ctx: &Ctx, id: String, input: UpdateNotificationRuleInput) -> Result<NotificationRule, Fault> {
        notification_rule::notification_rule_update(ctx, &id, input)
    }
    /// Says whom a workspace tells of what.
    fn notification_settings_set(ctx: &Ctx, input: NotificationSettingsInput) -> Result<NotificationSettings, Fault> {
        super::notification::notification_settings_set(ctx, input)
    }
    /// Copies the server's own database: for its operator, in a browser.
    fn operator_backup_create(ctx: &Ctx) -> Result<OperatorBackup, Fault> {
        operator::backup_create(ctx)
    }
    /// Deletes a copy of the server's own database: for its operator, in a browser.
    fn operator_backup_delete(ctx: &Ctx, name: String) -> Result<bool, Fault> {
        operator::backup_delete(ctx, &name)
    }
    /// Sets the person's password, and signs all of their other browsers and their command lines out.
    fn password_set(ctx: &Ctx, input: PasswordSetInput) -> Result<bool, Fault> {
        super::session::password_set(ctx, input)
    }
    /// Adds a database.
    fn plugin_create(ctx: &Ctx, input: PluginCreateInput) -> Result<Plugin, Fault> {
        super::plugin::create(ctx, input)
    }
    /// Deletes a database; its files are kept for 48 hours.
    fn plugin_delete(ctx: &Ctx, environment_id: Option<String>, id: String) -> Result<bool, Fault> {
        super::plugin::delete(ctx, environment_id.as_deref(), &id)
    }
    /// Empties a database and gives it new credentials.
    fn plugin_reset(ctx: &Ctx, id: String, input: ResetPluginInput) -> Result<bool, Fault> {
        super::plugin::reset(ctx, &id, &input.environment_id)
    }
    /// Gives a database new credentials; answers with the id of the deployment that brings them into use.
    fn plugin_reset_credentials(ctx: &Ctx, id: String, input: ResetPluginCredentialsInput) -> Result<String, Fault> {
        super::plugin::reset_credentials(ctx, &id, &input.environment_id)
    }
    /// Restarts a database.
    fn plugin_restart(ctx: &Ctx, id: String, input: PluginRestartInput) -> Result<Plugin, Fault> {
        super::plugin::restart(ctx, &id, input.environment_id.as_deref())
    }
    /// Renames a database.
    fn plugin_update(ctx: &Ctx, id: String, input: PluginUpdateInput) -> Result<Plugin, Fault> {
        super::plugin::update(ctx, &id, input.friendly_name)
    }
    /// Makes a project with its first environment.
    fn project_create(ctx: &Ctx, input: ProjectCreateInput) -> Result<Project, Fault> {
        off("isPublic", input.is_public)?;
        off("prDeploys", input.pr_deploys)?;
        let workspace = input.workspace_id.or(input.team_id);
        let wanted = ProjectCreate {
            name: input.name,
            description: input.description,
            workspace: id_option("Workspace", workspace.as_deref(), WorkspaceId)?,
            environment_name: input.default_environment_name,
        };
        Ok(Project::new(ctx, ctx.wait(ops::project::project_create(&ctx.op, wanted))?))
    }
    /// Deletes a project at once.
    fn project_delete(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        ctx.wait(ops::project::project_delete(&ctx.op, inputs::id("Project", &id, ProjectId)?))?;
        Ok(true)
    }
    /// Stops a project and deletes it after 48 hours.
    fn project_schedule_delete(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        ctx.wait(ops::project::project_schedule_delete(&ctx.op, inputs::id("Project", &id, ProjectId)?))?;
        Ok(true)
    }
    /// Takes back that a project is deleted; what went out of service with it is deployed again.
    fn project_schedule_delete_cancel(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        ctx.wait(ops::project::project_schedule_delete_cancel(&ctx.op, inputs::id("Project", &id, ProjectId)?))?;
        Ok(true)
    }
    /// Deletes a project at once whose 48 hours are not over.
    fn project_schedule_delete_force(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        ctx.wait(ops::project::project_schedule_delete_force(&ctx.op, inputs::id("Project", &id, ProjectId)?))?;
        Ok(true)
    }
    /// Makes a token for one environment. The secret is shown this once.
    fn project_token_create(ctx: &Ctx, input: ProjectTokenCreateInput) -> Result<String, Fault> {
        let project = id("Project", &input.project_id, ProjectId)?;
        let environment = id("Environment", &input.environment_id, EnvironmentId)?;
        let (_, secret) = ctx.wait(ops::token::project_token_create(&ctx.op, project, environment, &input.name))?;
        Ok(secret.expose_secret().to_owned())
    }
    /// Revokes a project token.
    fn project_token_delete(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        ctx.wait(ops::token::project_token_delete(&ctx.op, inputs::id("Token", &id, ApiKeyId)?))?;
        Ok(true)
    }
    /// Renames or describes a project.
    fn project_update(ctx: &Ctx, id: String, input: ProjectUpdateInput) -> Result<Project, Fault> {
        off("isPublic", input.is_public)?;
        off("prDeploys", input.pr_deploys)?;
        let project = inputs::id("Project", &id, ProjectId)?;
        Ok(Project::new(ctx, ctx.wait(ops::project::project_update(&ctx.op, project, input.name, input.description))?))
    }
    /// Makes new recovery codes in the place of all earlier ones, up to five minutes after a right code. They are shown this once.
    fn recovery_code_generate(ctx: &Ctx) -> Result<RecoveryCodes, Fault> {
        two_factor::recovery_code_generate(ctx)
    }
    /// Uses a recovery code up; for five minutes the session may do what needs one. Whether it was right.
    fn recovery_code_validate(ctx: &Ctx, input: RecoveryCodeValidateInput) -> Result<bool, Fault> {
        two_factor::recovery_code_validate(ctx, &input)
    }
    /// Lets a service deploy an image or a repository from now on, in every lasting environment.
    fn service_connect(ctx: &Ctx, id: String, input: ServiceConnectInput) -> Result<Service, Fault> {
        let source = input.source()?.ok_or_else(|| Fault::bad_input("name an image or a repo to connect the service to"))?;
        let service = inputs::id("Service", &id, ServiceId)?;
        Ok(Service::new(ctx, ctx.wait(ops::service::service_source_set(&ctx.op, service, Some(source)))?))
    }
    /// Makes a service.
    fn service_create(ctx: &Ctx, input: ServiceCreateInput) -> Result<Service, Fault> {
        let wanted = ServiceCreate {
            project: id("Project", &input.project_id, ProjectId)?,
            environment: id_option("Environment", input.environment_id.as_deref(), EnvironmentId)?,
            name: input.name,
            icon: input.icon,
            source: input.source.map(|source| source.source(input.branch)).transpose()?.flatten(),
            variables: input.variables.as_ref().map(inputs::variables).transpose()?.unwrap_or_default(),
        };
        Ok(Service::new(ctx, ctx.wait(ops::service::service_create(&ctx.op, wanted))?))
    }
    /// Deletes a service, in one environment when one is named.
    fn service_delete(ctx: &Ctx, environment_id: Option<String>, id: String) -> Result<bool, Fault> {
        let environment = id_option("Environment", environment_id.as_deref(), EnvironmentId)?;
        ctx.wait(ops::service::service_delete(&ctx.op, inputs::id("Service", &id, ServiceId)?, environment))?;
        Ok(true)
    }
    /// Lets a service deploy uploads alone.
    fn service_disconnect(ctx: &Ctx, id: String) -> Result<Service, Fault> {
        let service = inputs::id("Service", &id, ServiceId)?;
        Ok(Service::new(ctx, ctx.wait(ops::service::service_source_set(&ctx.op, service, None))?))
    }
    /// Gives a service a domain under the server's own.
    fn service_domain_create(ctx: &Ctx, input: ServiceDomainCreateInput) -> Result<ServiceDomain, Fault> {
        let (environment, service) = pair(&input.environment_id, &input.service_id)?;
        let made = ctx.wait(ops::domain_name::service_domain_create(&ctx.op, environment, service, port(input.target_port)?))?;
        Ok(ServiceDomain(Arc::new(made)))
    }
    /// Deletes a service domain.
    fn service_domain_delete(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        ctx.wait(ops::domain_name::domain_delete(&ctx.op, inputs::id("Domain", &id, DomainId)?, DomainKind::Service))?;
        Ok(true)
    }
    /// Renames a service domain or changes its port.
    fn service_domain_update(ctx: &Ctx, input: ServiceDomainUpdateInput) -> Result<bool, Fault> {
        let (environment, service) = pair(&input.environment_id, &input.service_id)?;
        let domain = id("Domain", &input.service_domain_id, DomainId)?;
        let within = Within { kind: DomainKind::Service, environment, service: Some(service) };
        // Clients with generated types send 0 where they name no port.
        let target_port = port(input.target_port.filter(|port| *port != 0))?.map(Some);
        let patch = DomainPatch { name: Some(input.domain), target_port };
        ctx.wait(ops::domain_name::domain_update(&ctx.op, domain, within, patch))?;
        Ok(true)
    }
    /// Deploys the newest source of a service again.
    fn service_instance_deploy(ctx: &Ctx, environment_id: String, latest_commit: Option<bool>, service_id: String) -> Result<bool, Fault> {
        // Uploads have no commits: the newest source is the only one there is.
        let _ = latest_commit;
        let (environment, service) = pair(&environment_id, &service_id)?;
        ctx.wait(ops::deployment::service_instance_redeploy(&ctx.op, environment, service))?;
        Ok(true)
    }
    /// The same; answers with the deployment's id.
    #[graphql(name = "serviceInstanceDeployV2")]
    fn service_instance_deploy_v2(
        ctx: &Ctx,
        commit_sha: Option<String>,
        environment_id: String,
        service_id: String,
    ) -> Result<String, Fault> {
        super::deployment::deploy_newest(ctx, commit_sha.as_deref(), pair(&environment_id, &service_id)?)
    }
    /// Changes the limits of each running copy; they take effect with the next deployment.
    fn service_instance_limits_update(ctx: &Ctx, input: ServiceInstanceLimitsUpdateInput) -> Result<bool, Fault> {
        let (environment, service) = pair(&input.environment_id, &input.service_id)?;
        ctx.wait(ops::service::service_instance_limits_update(&ctx.op, environment, service, input.limits()?))?;
        Ok(true)
    }
    /// Deploys the newest source of a service again, if there is any.
    fn service_instance_redeploy(ctx: &Ctx, environment_id: String, service_id: String) -> Result<bool, Fault> {
        let (environment, service) = pair(&environment_id, &service_id)?;
        ctx.wait(ops::deployment::service_instance_redeploy(&ctx.op, environment, service))?;
        Ok(true)
    }
    /// Changes a service's settings, in one environment or in every lasting one.
    fn service_instance_update(
        ctx: &Ctx,
        environment_id: Option<String>,
        input: ServiceInstanceUpdateInput,
        service_id: String,
    ) -> Result<bool, Fault> {
        let environment = id_option("Environment", environment_id.as_deref(), EnvironmentId)?;
        let service = id("Service", &service_id, ServiceId)?;
        ctx.wait(ops::service::service_instance_update(&ctx.op, service, environment, input.patch()?))?;
        Ok(true)
    }
    /// Renames a service or changes its picture.
    fn service_update(ctx: &Ctx, id: String, input: ServiceUpdateInput) -> Result<Service, Fault> {
        let service = inputs::id("Service", &id, ServiceId)?;
        Ok(Service::new(ctx, ctx.wait(ops::service::service_update(&ctx.op, service, input.name, input.icon.map(Some)))?))
    }
    /// Signs one of the person's browsers or command lines out.
    fn session_delete(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        super::session::session_delete(ctx, &id)
    }
    /// Takes a client's report and drops it.
    fn setup_agent_event_track(input: SetupAgentEventTrackInput) -> bool {
        drop(input);
        true
    }
    /// Gives a service a TCP port of the server.
    fn tcp_proxy_create(ctx: &Ctx, input: TCPProxyCreateInput) -> Result<TCPProxy, Fault> {
        super::tcp_proxy::create(ctx, input)
    }
    /// Takes a TCP port from a service.
    fn tcp_proxy_delete(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        super::tcp_proxy::delete(ctx, &id)
    }
    /// Deploys a template.
    #[graphql(name = "templateDeployV2")]
    fn template_deploy_v2(ctx: &Ctx, input: TemplateDeployV2Input) -> Result<TemplateDeployPayload, Fault> {
        super::template::deploy(ctx, input)
    }
    /// Removes a trigger with the log of its runs.
    fn trigger_remove(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        super::trigger::trigger_remove(ctx, &id)
    }
    /// Makes a trigger or changes one; it runs in the next round.
    fn trigger_save(ctx: &Ctx, input: TriggerInput) -> Result<Trigger, Fault> {
        super::trigger::trigger_save(ctx, input)
    }
    /// Lets logins by password ask for a code of the app, which sends its first one. The answer is shown this once.
    fn two_factor_info_create(ctx: &Ctx, input: TwoFactorInfoCreateInput) -> Result<RecoveryCodes, Fault> {
        two_factor::two_factor_info_create(ctx, &input)
    }
    /// Lets logins go without a code again: with the password, up to five minutes after a right code.
    fn two_factor_info_delete(ctx: &Ctx, password: Option<String>) -> Result<bool, Fault> {
        two_factor::two_factor_info_delete(ctx, password)
    }
    /// Makes a secret for the app of a person who types their password. It is shown this once, and counts from its first code on.
    fn two_factor_info_secret(ctx: &Ctx, password: Option<String>) -> Result<TwoFactorInfoSecret, Fault> {
        two_factor::two_factor_info_secret(ctx, password)
    }
    /// Uses a code of the app up; for five minutes the session may do what needs one. Whether it was right.
    fn two_factor_info_validate(ctx: &Ctx, input: TwoFactorInfoValidateInput) -> Result<bool, Fault> {
        two_factor::two_factor_info_validate(ctx, &input)
    }
    /// Writes variables.
    fn variable_collection_upsert(ctx: &Ctx, input: VariableCollectionUpsertInput) -> Result<bool, Fault> {
        let how = Upsert { replace: input.replace.unwrap_or(false), skip_deploys: input.skip_deploys.unwrap_or(false) };
        let place = (input.project_id.as_str(), input.environment_id.as_str(), input.service_id.as_deref());
        upsert(ctx, place, inputs::variables(&input.variables)?, how)
    }
    /// Deletes a variable.
    fn variable_delete(ctx: &Ctx, input: VariableDeleteInput) -> Result<bool, Fault> {
        let project = id("Project", &input.project_id, ProjectId)?;
        let environment = id("Environment", &input.environment_id, EnvironmentId)?;
        let service = id_option("Service", input.service_id.as_deref(), ServiceId)?;
        ctx.wait(ops::variable::variable_delete(&ctx.op, project, environment, service, &input.name))?;
        Ok(true)
    }
    /// Writes one variable.
    fn variable_upsert(ctx: &Ctx, input: VariableUpsertInput) -> Result<bool, Fault> {
        let how = Upsert { replace: false, skip_deploys: input.skip_deploys.unwrap_or(false) };
        let place = (input.project_id.as_str(), input.environment_id.as_str(), input.service_id.as_deref());
        upsert(ctx, place, BTreeMap::from([(input.name, input.value)]), how)
    }
    /// Makes a volume.
    fn volume_create(ctx: &Ctx, input: VolumeCreateInput) -> Result<Volume, Fault> {
        super::volume::create(ctx, input)
    }
    /// Deletes a volume; its files are kept for 48 hours.
    fn volume_delete(ctx: &Ctx, volume_id: String) -> Result<bool, Fault> {
        super::volume::delete(ctx, &volume_id)
    }
    /// Makes a backup of a volume; its service stands still while the files are copied.
    fn volume_instance_backup_create(ctx: &Ctx, name: Option<String>, volume_instance_id: String) -> Result<WorkflowId, Fault> {
        super::volume::back_up(ctx, &volume_instance_id, name)
    }
    /// Deletes a backup.
    fn volume_instance_backup_delete(
        ctx: &Ctx,
        volume_instance_backup_id: String,
        volume_instance_id: String,
    ) -> Result<WorkflowId, Fault> {
        super::volume::delete_backup(ctx, &volume_instance_id, &volume_instance_backup_id)
    }
    /// Keeps a backup for good.
    fn volume_instance_backup_lock(ctx: &Ctx, volume_instance_backup_id: String, volume_instance_id: String) -> Result<bool, Fault> {
        super::volume::lock_backup(ctx, &volume_instance_id, &volume_instance_backup_id)
    }
    /// Puts a backup in the place of what its volume holds.
    fn volume_instance_backup_restore(
        ctx: &Ctx,
        replica_service_ids: Option<Vec<String>>,
        volume_instance_backup_id: String,
        volume_instance_id: String,
        wipe_service_ids: Option<Vec<String>>,
    ) -> Result<WorkflowId, Fault> {
        super::volume::alone(&[replica_service_ids, wipe_service_ids])?;
        super::volume::restore(ctx, &volume_instance_id, &volume_instance_backup_id)
    }
    /// Sets when backups of a volume are made by themselves.
    fn volume_instance_backup_schedule_update(
        ctx: &Ctx,
        kinds: Vec<VolumeInstanceBackupScheduleKind>,
        volume_instance_id: String,
    ) -> Result<bool, Fault> {
        super::volume::update_schedules(ctx, &volume_instance_id, kinds)
    }
    /// Moves, attaches or detaches a volume, in one environment or in all.
    fn volume_instance_update(
        ctx: &Ctx,
        environment_id: Option<String>,
        input: VolumeInstanceUpdateInput,
        volume_id: String,
    ) -> Result<bool, Fault> {
        super::volume::update_instance(ctx, environment_id.as_deref(), &volume_id, input)
    }
    /// Renames a volume.
    fn volume_update(ctx: &Ctx, input: VolumeUpdateInput, volume_id: String) -> Result<Volume, Fault> {
        super::volume::update(ctx, &volume_id, input)
    }
    /// Sends a message to an address once, unsigned, and answers with the status that came back: ten times a minute.
    fn webhook_test(ctx: &Ctx, payload: String, url: String) -> Result<i32, Fault> {
        notification_rule::webhook_test(ctx, &payload, &url)
    }
    /// Makes a workspace that the person owns.
    fn workspace_create(ctx: &Ctx, input: WorkspaceCreateInput) -> Result<Workspace, Fault> {
        workspace::create(ctx, &input).map(Workspace::new)
    }
    /// Makes the code of a one-time link into a workspace, good for a week.
    fn workspace_invite_code_create(ctx: &Ctx, input: WorkspaceInviteCodeCreateInput, workspace_id: String) -> Result<String, Fault> {
        workspace::invite_code_create(ctx, &workspace_id, &input)
    }
    /// Joins a workspace by the code of a link, which is used up.
    fn workspace_invite_code_use(ctx: &Ctx, code: String) -> Result<Workspace, Fault> {
        workspace::invite_code_use(ctx, code).map(Workspace::new)
    }
    /// Leaves a workspace.
    fn workspace_leave(ctx: &Ctx, id: String) -> Result<bool, Fault> {
        workspace::leave(ctx, &id)
    }
    /// Gives a member another role.
    fn workspace_permission_change(ctx: &Ctx, input: WorkspacePermissionChangeInput) -> Result<bool, Fault> {
        workspace::permission_change(ctx, &input)
    }
    /// Puts a workspace on a plan: for operators of the server.
    fn workspace_plan_set(ctx: &Ctx, id: String, plan: Plan) -> Result<Workspace, Fault> {
        Workspace::plan_set(ctx, inputs::id("Workspace", &id, WorkspaceId)?, plan)
    }
    /// Gives a member another role, of all that this server has.
    fn workspace_role_set(ctx: &Ctx, input: WorkspaceRoleSetInput) -> Result<bool, Fault> {
        workspace::role_set_to(ctx, &input)
    }
    /// Renames a workspace.
    fn workspace_update(ctx: &Ctx, id: String, input: WorkspaceUpdateInput) -> Result<bool, Fault> {
        workspace::update(ctx, &id, &input)
    }
    /// Adds somebody who has an account here, with the role of a code that was made for it.
    fn workspace_user_invite(ctx: &Ctx, input: WorkspaceUserInviteInput, workspace_id: String) -> Result<bool, Fault> {
        workspace::user_invite(ctx, &workspace_id, input)
    }
    /// Takes somebody out of a workspace.
    fn workspace_user_remove(ctx: &Ctx, input: WorkspaceUserRemoveInput, workspace_id: String) -> Result<bool, Fault> {
        workspace::user_remove(ctx, &workspace_id, &input)
    }
}
