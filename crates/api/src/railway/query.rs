//! What can be asked.

use std::sync::Arc;

use domain::page::Order;
use domain::project::DomainKind;
use domain::{DeploymentId, EnvironmentId, ProjectId, ServiceId, WorkspaceId};
use juniper::graphql_object;
use ops::deployment::DeploymentFilter;
use ops::variable::View;
use serde_json::json;

use super::absent::ExternalWorkspace;
use super::account::{self, ProjectMember, User, Workspace, external_workspaces};
use super::api_key::{self, ApiKey, ApiKeyUsage, QueryApiKeysConnection};
use super::audit::{self, AuditLog, AuditLogFilterInput, QueryAuditLogsConnection};
use super::connection::{connection, page, sized};
use super::container::{self, ServiceContainer};
use super::deployment::{Deployment, DeploymentEvent, QueryDeploymentEventsConnection, QueryDeploymentsConnection};
use super::deployment_trigger::{self, QueryDeploymentTriggersConnection};
use super::domain_name::{self, AllDomains, CustomDomain, DomainAvailable, ServiceDomain};
use super::enums::{MetricMeasurement, MetricTag, ProjectsOrderBy};
use super::environment::Environment;
use super::environment_patch::{EnvironmentPatch, QueryEnvironmentPatchesConnection};
use super::execution::{self, QueryDeploymentInstanceExecutionsConnection};
use super::http_log::HttpLog;
use super::inputs::{DeploymentInstanceExecutionListInput, DeploymentListInput, id, id_option};
use super::log::{Log, Window, between};
use super::metric::{
    self, AggregatedUsage, EstimatedUsage, HttpAsked, HttpDurationMetricsResult, HttpMetricsByStatusResult, HttpMetricsResult,
    MetricsAsked, MetricsResult, UsageAsked,
};
use super::notification::{self, NotificationKind, NotificationSettings};
use super::notification_rule::{self, NotificationEventType, NotificationRule, NotificationRuleDelivery};
use super::operator::{self, Operator};
use super::plugin::Plugin;
use super::project::Project;
use super::rate_limit::RateLimit;
use super::region::{Region, RegionEndpoint, region_endpoints, regions};
use super::service::{Service, ServiceInstance};
use super::session::{self, QuerySessionsConnection, Session};
use super::tcp_proxy::TCPProxy;
use super::template::{QueryTemplateSearchConnection, QueryTemplatesConnection, Template, TemplateSearchResult, WorkflowResult};
use super::token::{ApiToken, ApiTokenContext, ProjectToken, QueryApiTokensConnection, QueryProjectTokensConnection};
use super::trigger::{self, Trigger, TriggerRun};
use super::two_factor::{self, TwoFactorInfo};
use super::volume::{VolumeInstance, VolumeInstanceBackup, VolumeInstanceBackupSchedule};
use crate::graphql::scalar::{DateTime, EnvironmentVariables, ServiceInstanceLimit};
use crate::graphql::{Ctx, Fault, Scalar};

/// The root of queries.
pub struct Query;

connection! {
    /// Projects.
    QueryProjectsConnection, QueryProjectsConnectionEdge, Project;
    /// Environments of a project.
    QueryEnvironmentsConnection, QueryEnvironmentsConnectionEdge, Environment;
}

fn service_instance(ctx: &Ctx, environment: &str, service: &str) -> Result<ServiceInstance, Fault> {
    ServiceInstance::find(ctx, id("Environment", environment, EnvironmentId)?, id("Service", service, ServiceId)?)
}

fn read_variables(ctx: &Ctx, project: &str, environment: &str, service: Option<&str>, view: View) -> Result<EnvironmentVariables, Fault> {
    let project = id("Project", project, ProjectId)?;
    let environment = id("Environment", environment, EnvironmentId)?;
    let service = id_option("Service", service, ServiceId)?;
    let found = ctx.wait(ops::variable::variables(&ctx.op, project, environment, service, view))?;
    Ok(json!(found).into())
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl Query {
    /// A key's requests per day, of the last thirty days or from one day to another (2026-01-31, both included).
    fn api_key_usage(ctx: &Ctx, first_day: Option<String>, id: String, last_day: Option<String>) -> Result<Vec<ApiKeyUsage>, Fault> {
        api_key::api_key_usage(ctx, &id, first_day, last_day)
    }
    /// Keys of every kind that the credential manages: one's own, and those of the workspaces that it administers, or of one of these.
    fn api_keys(
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        last: Option<i32>,
        workspace_id: Option<String>,
    ) -> Result<QueryApiKeysConnection, Fault> {
        Ok(page(after, before, first, last)?.cut(Order::Oldest, api_key::api_keys(ctx, workspace_id)?, ApiKey::cursor)?.into())
    }
    /// What the credential that asks reaches.
    fn api_token(ctx: &Ctx) -> Result<ApiTokenContext, Fault> {
        ApiTokenContext::of(ctx)
    }
    /// Account and workspace tokens of the person.
    fn api_tokens(
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        last: Option<i32>,
    ) -> Result<QueryApiTokensConnection, Fault> {
        let keys = ctx.wait(ops::token::api_tokens(&ctx.op))?;
        let all = keys.into_iter().map(|key| ApiToken(Arc::new(key))).collect();
        Ok(page(after, before, first, last)?.cut(Order::Oldest, all, ApiToken::cursor)?.into())
    }
    /// An entry of a workspace's audit log.
    fn audit_log(ctx: &Ctx, id: String, workspace_id: String) -> Result<AuditLog, Fault> {
        audit::audit_log(ctx, &id, &workspace_id)
    }
    /// Who did what in a workspace, newest first.
    fn audit_logs(
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        filter: Option<AuditLogFilterInput>,
        first: Option<i32>,
        last: Option<i32>,
        workspace_id: String,
    ) -> Result<QueryAuditLogsConnection, Fault> {
        audit::audit_logs(ctx, (after, before, first, last), filter, &workspace_id)
    }
    /// The newest lines of the build that made a deployment's artifact, oldest first.
    fn build_logs(
        ctx: &Ctx,
        deployment_id: String,
        end_date: Option<DateTime>,
        filter: Option<String>,
        limit: Option<i32>,
        start_date: Option<DateTime>,
    ) -> Result<Vec<Log>, Fault> {
        let scope = ctx.wait(ops::logs::build_logs(&ctx.op, id("Deployment", &deployment_id, DeploymentId)?))?;
        between(ctx, scope, filter.as_deref(), start_date.map(|at| at.0), end_date.map(|at| at.0), limit)
    }
    /// The running copies of a service, oldest first.
    fn containers(ctx: &Ctx, environment_id: String, service_id: String) -> Result<Vec<ServiceContainer>, Fault> {
        container::containers(ctx, &environment_id, &service_id)
    }
    /// A domain of the user's own.
    fn custom_domain(ctx: &Ctx, id: String, project_id: String) -> Result<CustomDomain, Fault> {
        domain_name::custom_domain(ctx, &id, &project_id)
    }
    /// Whether a name of the user's own is free on this server.
    fn custom_domain_available(ctx: &Ctx, domain: String) -> Result<DomainAvailable, Fault> {
        domain_name::available(ctx, DomainKind::Custom, &domain)
    }
    /// A deployment.
    fn deployment(ctx: &Ctx, id: String) -> Result<Deployment, Fault> {
        Deployment::find(ctx, super::inputs::id("Deployment", &id, DeploymentId)?)
    }
    /// The steps of a deployment, oldest first.
    fn deployment_events(
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        id: String,
        last: Option<i32>,
    ) -> Result<QueryDeploymentEventsConnection, Fault> {
        let deployment = Deployment::find(ctx, super::inputs::id("Deployment", &id, DeploymentId)?)?;
        let rows = ctx.read(ctx.op.ops.store.deployment_events(deployment.tenant, deployment.row.id))?;
        let all = rows.into_iter().map(DeploymentEvent).collect();
        Ok(page(after, before, first, last)?.cut(Order::Oldest, all, DeploymentEvent::cursor)?.into())
    }
    /// Runs of a service with a schedule, newest first.
    fn deployment_instance_executions(
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        input: DeploymentInstanceExecutionListInput,
        last: Option<i32>,
    ) -> Result<QueryDeploymentInstanceExecutionsConnection, Fault> {
        execution::deployment_instance_executions(ctx, (after, before, first, last), &input)
    }
    /// The newest lines of a deployment's app, oldest first.
    fn deployment_logs(
        ctx: &Ctx,
        deployment_id: String,
        end_date: Option<DateTime>,
        filter: Option<String>,
        limit: Option<i32>,
        start_date: Option<DateTime>,
    ) -> Result<Vec<Log>, Fault> {
        let scope = ctx.wait(ops::logs::deployment_logs(&ctx.op, id("Deployment", &deployment_id, DeploymentId)?))?;
        between(ctx, scope, filter.as_deref(), start_date.map(|at| at.0), end_date.map(|at| at.0), limit)
    }
    /// From which branch a service deploys: one trigger, or none for a service that no repository is connected to.
    #[expect(clippy::too_many_arguments, reason = "they are the schema's")]
    fn deployment_triggers(
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        environment_id: String,
        first: Option<i32>,
        last: Option<i32>,
        project_id: String,
        service_id: String,
    ) -> Result<QueryDeploymentTriggersConnection, Fault> {
        let found = service_instance(ctx, &environment_id, &service_id)?;
        if found.row.project_id != id("Project", &project_id, ProjectId)? {
            return Err(Fault::not_found("Project"));
        }
        Ok(deployment_trigger::of(found.row, &page(after, before, first, last)?))
    }
    /// Deployments, newest first.
    fn deployments(
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        input: DeploymentListInput,
        last: Option<i32>,
    ) -> Result<QueryDeploymentsConnection, Fault> {
        let status = input.status;
        let statuses = |list: Option<Vec<super::enums::DeploymentStatus>>| list.unwrap_or_default().into_iter().map(Into::into).collect();
        let (within, not_in) = status.map_or((None, None), |status| (status.within, status.not_in));
        let filter = DeploymentFilter {
            project: id_option("Project", input.project_id.as_deref(), ProjectId)?,
            environment: id_option("Environment", input.environment_id.as_deref(), EnvironmentId)?,
            service: id_option("Service", input.service_id.as_deref(), ServiceId)?,
            statuses_in: statuses(within),
            statuses_not_in: statuses(not_in),
        };
        let request = sized(page(after, before, first, last)?);
        Ok(Deployment::page(ctx, ctx.wait(ops::deployment::deployments(&ctx.op, filter, &request))?)?.into())
    }
    /// The domains of a service in an environment.
    fn domains(ctx: &Ctx, environment_id: String, project_id: String, service_id: String) -> Result<AllDomains, Fault> {
        let project = id("Project", &project_id, ProjectId)?;
        let environment = id("Environment", &environment_id, EnvironmentId)?;
        let service = id("Service", &service_id, ServiceId)?;
        let rows = ctx.wait(ops::domain_name::domains(&ctx.op, project, environment, service))?.row;
        let rows: Vec<_> = rows.into_iter().map(Arc::new).collect();
        let of_kind = |kind| rows.iter().filter(move |row| row.kind == kind).map(Arc::clone);
        Ok(AllDomains {
            custom: of_kind(DomainKind::Custom).map(CustomDomain).collect(),
            service: of_kind(DomainKind::Service).map(ServiceDomain).collect(),
        })
    }
    /// An environment.
    fn environment(ctx: &Ctx, id: String, project_id: Option<String>) -> Result<Environment, Fault> {
        let found = Environment::find(ctx, super::inputs::id("Environment", &id, EnvironmentId)?)?;
        match id_option("Project", project_id.as_deref(), ProjectId)? {
            Some(project) if project != found.row.project_id => Err(Fault::not_found("Environment")),
            _ => Ok(found),
        }
    }
    /// The newest lines of everything in an environment, oldest first.
    #[expect(clippy::too_many_arguments, reason = "they are the schema's")]
    fn environment_logs(
        ctx: &Ctx,
        after_date: Option<String>,
        after_limit: Option<i32>,
        anchor_date: Option<String>,
        before_date: Option<String>,
        before_limit: Option<i32>,
        environment_id: String,
        filter: Option<String>,
    ) -> Result<Vec<Log>, Fault> {
        let scope = ctx.wait(ops::logs::environment_logs(&ctx.op, id("Environment", &environment_id, EnvironmentId)?))?;
        Window { after_date, after_limit, anchor_date, before_date, before_limit }.query(ctx, scope, filter.as_deref())
    }
    /// A change of an environment.
    fn environment_patch(ctx: &Ctx, id: String) -> Result<EnvironmentPatch, Fault> {
        EnvironmentPatch::find(ctx, &id)
    }
    /// The changes of an environment, newest first.
    fn environment_patches(
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        environment_id: String,
        first: Option<i32>,
        last: Option<i32>,
    ) -> Result<QueryEnvironmentPatchesConnection, Fault> {
        EnvironmentPatch::list(ctx, &environment_id, (after, before, first, last))
    }
    /// The staged change of an environment; an empty one when nothing is staged.
    fn environment_staged_changes(ctx: &Ctx, environment_id: String) -> Result<EnvironmentPatch, Fault> {
        EnvironmentPatch::staged(ctx, &environment_id)
    }
    /// Environments of a project, oldest first.
    fn environments(
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        is_ephemeral: Option<bool>,
        last: Option<i32>,
        project_id: String,
    ) -> Result<QueryEnvironmentsConnection, Fault> {
        let project = Project::find(ctx, id("Project", &project_id, ProjectId)?)?;
        let all = project.all_environments(ctx, is_ephemeral)?;
        Ok(page(after, before, first, last)?.cut(Order::Oldest, all, Environment::cursor)?.into())
    }
    /// What each project will have used by the end of the month, if it goes on as it did.
    fn estimated_usage(
        ctx: &Ctx,
        include_deleted: Option<bool>,
        measurements: Vec<MetricMeasurement>,
        project_id: Option<String>,
        workspace_id: Option<String>,
    ) -> Result<Vec<EstimatedUsage>, Fault> {
        metric::estimated_usage(ctx, include_deleted, &measurements, (workspace_id.as_deref(), project_id.as_deref()))
    }
    /// Workspaces of others in which the person has been given projects.
    fn external_workspaces(ctx: &Ctx, project_id: Option<String>) -> Result<Vec<ExternalWorkspace>, Fault> {
        let _ = project_id;
        external_workspaces(ctx)
    }
    /// How long requests to a service took; one sample for the whole window when no step is named.
    #[expect(clippy::too_many_arguments, reason = "they are the schema's")]
    fn http_duration_metrics(
        ctx: &Ctx,
        end_date: DateTime,
        environment_id: String,
        method: Option<String>,
        path: Option<String>,
        service_id: String,
        start_date: DateTime,
        status_code: Option<i32>,
        step_seconds: Option<i32>,
    ) -> Result<HttpDurationMetricsResult, Fault> {
        metric::http_durations(ctx, HttpAsked { end_date, environment_id, method, path, service_id, start_date, status_code, step_seconds })
    }
    /// Requests to a deployment, oldest first.
    #[expect(clippy::too_many_arguments, reason = "they are the schema's")]
    fn http_logs(
        ctx: &Ctx,
        after_date: Option<String>,
        after_limit: Option<i32>,
        anchor_date: Option<String>,
        before_date: Option<String>,
        before_limit: Option<i32>,
        deployment_id: String,
        filter: Option<String>,
        limit: Option<i32>,
    ) -> Result<Vec<HttpLog>, Fault> {
        let scope = ctx.wait(ops::logs::http_logs(&ctx.op, id("Deployment", &deployment_id, DeploymentId)?))?;
        let window = Window { after_date, after_limit, anchor_date, before_date, before_limit: before_limit.or(limit) };
        Ok(window.lines(ctx, scope, filter.as_deref())?.into_iter().map(HttpLog::new).collect())
    }
    /// How many requests a service had.
    #[expect(clippy::too_many_arguments, reason = "they are the schema's")]
    fn http_metrics(
        ctx: &Ctx,
        end_date: DateTime,
        environment_id: String,
        method: Option<String>,
        path: Option<String>,
        service_id: String,
        start_date: DateTime,
        status_code: Option<i32>,
        step_seconds: Option<i32>,
    ) -> Result<HttpMetricsResult, Fault> {
        metric::http_metrics(ctx, HttpAsked { end_date, environment_id, method, path, service_id, start_date, status_code, step_seconds })
    }
    /// How many requests a service had, by the status of the answer.
    #[expect(clippy::too_many_arguments, reason = "they are the schema's")]
    fn http_metrics_grouped_by_status(
        ctx: &Ctx,
        end_date: DateTime,
        environment_id: String,
        method: Option<String>,
        path: Option<String>,
        service_id: String,
        start_date: DateTime,
        step_seconds: Option<i32>,
    ) -> Result<Vec<HttpMetricsByStatusResult>, Fault> {
        let asked = HttpAsked { end_date, environment_id, method, path, service_id, start_date, status_code: None, step_seconds };
        metric::http_metrics_by_status(ctx, asked)
    }
    /// The person or workspace behind the credential.
    fn me(ctx: &Ctx) -> Result<User, Fault> {
        User::of(ctx)
    }
    /// What apps use. Network is what the edge carried in each interval; disks are told of services that have one.
    #[expect(clippy::too_many_arguments, reason = "they are the schema's")]
    fn metrics(
        ctx: &Ctx,
        end_date: Option<DateTime>,
        environment_id: Option<String>,
        group_by: Option<Vec<MetricTag>>,
        measurements: Vec<MetricMeasurement>,
        project_id: Option<String>,
        sample_rate_seconds: Option<i32>,
        service_id: Option<String>,
        start_date: DateTime,
        workspace_id: Option<String>,
    ) -> Result<Vec<MetricsResult>, Fault> {
        let asked = MetricsAsked {
            end_date,
            environment_id,
            group_by,
            measurements,
            project_id,
            sample_rate_seconds,
            service_id,
            start_date,
            workspace_id,
        };
        metric::metrics(ctx, asked)
    }
    /// What notification rules can tell of.
    fn notification_event_types() -> Vec<NotificationEventType> {
        notification_rule::notification_event_types()
    }
    /// What can be told of by notifications.
    fn notification_kinds() -> Vec<NotificationKind> {
        notification::notification_kinds()
    }
    /// The newest messages of a notification rule; they are kept for thirty days.
    fn notification_rule_deliveries(ctx: &Ctx, id: String) -> Result<Vec<NotificationRuleDelivery>, Fault> {
        notification_rule::notification_rule_deliveries(ctx, &id)
    }
    /// The rules of a workspace that tell of deployments, or those of one project of it.
    fn notification_rules(ctx: &Ctx, project_id: Option<String>, workspace_id: String) -> Result<Vec<NotificationRule>, Fault> {
        notification_rule::notification_rules(ctx, project_id.as_deref(), &workspace_id)
    }
    /// Whom a workspace tells of what.
    fn notification_settings(ctx: &Ctx, workspace_id: String) -> Result<NotificationSettings, Fault> {
        notification::notification_settings(ctx, &workspace_id)
    }
    /// This server, for its operator alone.
    fn operator(ctx: &Ctx) -> Result<Operator, Fault> {
        operator::operator(ctx)
    }
    /// A database.
    fn plugin(ctx: &Ctx, id: String) -> Result<Plugin, Fault> {
        Plugin::find(ctx, &id)
    }
    /// A project.
    fn project(ctx: &Ctx, id: String) -> Result<Project, Fault> {
        Project::find(ctx, super::inputs::id("Project", &id, ProjectId)?)
    }
    /// Projects that the person marked: none can be marked.
    fn project_favorites(ctx: &Ctx, order_by: Option<ProjectsOrderBy>, workspace_id: String) -> Result<Vec<String>, Fault> {
        let _ = order_by;
        Workspace::find(ctx, id("Workspace", &workspace_id, WorkspaceId)?)?;
        Ok(vec![])
    }
    /// The members of a project, which are those of its workspace.
    fn project_members(ctx: &Ctx, project_id: String) -> Result<Vec<ProjectMember>, Fault> {
        account::project_members(ctx, &project_id)
    }
    /// The project token that came with the request.
    fn project_token(ctx: &Ctx) -> Result<ProjectToken, Fault> {
        ProjectToken::presented(ctx)
    }
    /// Tokens of a project.
    fn project_tokens(
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        last: Option<i32>,
        project_id: String,
    ) -> Result<QueryProjectTokensConnection, Fault> {
        let keys = ctx.wait(ops::token::project_tokens(&ctx.op, id("Project", &project_id, ProjectId)?))?;
        let all = keys.into_iter().filter_map(|key| ProjectToken::of(ctx, key)).collect();
        Ok(page(after, before, first, last)?.cut(Order::Oldest, all, ProjectToken::cursor)?.into())
    }
    /// Projects of a workspace, newest first; of all that the credential reaches when none is named. `teamId` is how clients before 2026
    /// name the workspace.
    #[expect(clippy::too_many_arguments, reason = "they are the schema's")]
    fn projects(
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        include_deleted: Option<bool>,
        last: Option<i32>,
        team_id: Option<String>,
        workspace_id: Option<String>,
    ) -> Result<QueryProjectsConnection, Fault> {
        let workspace = id_option("Workspace", workspace_id.or(team_id).as_deref(), WorkspaceId)?;
        let request = sized(page(after, before, first, last)?);
        let found = ctx.wait(ops::project::projects(&ctx.op, workspace, &request, include_deleted.unwrap_or(false)))?;
        Ok(Project::page(ctx, found)?.into())
    }
    /// How the credential stands with what its operations may cost in a minute; null when nothing limits it.
    fn rate_limit(ctx: &Ctx) -> Result<Option<RateLimit>, Fault> {
        ctx.signed_in()?;
        Ok(RateLimit::of(ctx))
    }
    /// The servers that this one's dashboard leads to, itself first.
    fn region_endpoints(ctx: &Ctx) -> Result<Vec<RegionEndpoint>, Fault> {
        region_endpoints(ctx)
    }
    /// Where replicas can run.
    fn regions(ctx: &Ctx, project_id: Option<String>) -> Result<Vec<Region>, Fault> {
        if let Some(project) = id_option("Project", project_id.as_deref(), ProjectId)? {
            Project::find(ctx, project)?;
        }
        regions(ctx)
    }
    /// A service.
    fn service(ctx: &Ctx, id: String) -> Result<Service, Fault> {
        Service::find(ctx, super::inputs::id("Service", &id, ServiceId)?)
    }
    /// Whether a name under the server's own domain is free.
    fn service_domain_available(ctx: &Ctx, domain: String) -> Result<DomainAvailable, Fault> {
        domain_name::available(ctx, DomainKind::Service, &domain)
    }
    /// A service in an environment.
    fn service_instance(ctx: &Ctx, environment_id: String, service_id: String) -> Result<ServiceInstance, Fault> {
        service_instance(ctx, &environment_id, &service_id)
    }
    /// The limits of each running copy that were set; null when none was.
    fn service_instance_limit_override(
        ctx: &Ctx,
        environment_id: String,
        service_id: String,
    ) -> Result<Option<ServiceInstanceLimit>, Fault> {
        let limits = ServiceInstance::limits(ctx, &environment_id, &service_id)?;
        Ok((!limits.is_null()).then(|| limits.into()))
    }
    /// The limits of each running copy.
    fn service_instance_limits(ctx: &Ctx, environment_id: String, service_id: String) -> Result<ServiceInstanceLimit, Fault> {
        let limits = ServiceInstance::limits(ctx, &environment_id, &service_id)?;
        Ok(if limits.is_null() { json!({"containers": {}}) } else { limits }.into())
    }
    /// The browsers and command lines in which the person is signed in, newest first.
    fn sessions(
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        last: Option<i32>,
    ) -> Result<QuerySessionsConnection, Fault> {
        Ok(page(after, before, first, last)?.cut(Order::Newest, session::sessions(ctx)?, Session::cursor)?.into())
    }
    /// The TCP ports of a service in an environment.
    fn tcp_proxies(ctx: &Ctx, environment_id: String, service_id: String) -> Result<Vec<TCPProxy>, Fault> {
        super::tcp_proxy::list(ctx, &environment_id, &service_id)
    }
    /// A template, by its code or id. Everybody may ask.
    fn template(code: Option<String>, id: Option<String>, owner: Option<String>, repo: Option<String>) -> Result<Template, Fault> {
        // Templates here come with the server, not from anybody's repository.
        let _ = (owner, repo);
        Template::find(code, id)
    }
    /// Templates that hold every word of the query. Everybody may ask.
    fn template_search(
        after: Option<String>,
        before: Option<String>,
        category: Option<String>,
        first: Option<i32>,
        last: Option<i32>,
        query: String,
        verified: Option<bool>,
    ) -> Result<QueryTemplateSearchConnection, Fault> {
        // All of them are verified.
        let found = if verified == Some(false) { vec![] } else { TemplateSearchResult::search(&query, category.as_deref()) };
        Ok(page(after, before, first, last)?.cut(Order::Other, found, TemplateSearchResult::cursor)?.into())
    }
    /// All templates, databases first. Everybody may ask.
    fn templates(
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        last: Option<i32>,
        recommended: Option<bool>,
        verified: Option<bool>,
    ) -> Result<QueryTemplatesConnection, Fault> {
        // All of them are recommended and verified.
        let found = if recommended == Some(false) || verified == Some(false) { vec![] } else { Template::all() };
        Ok(page(after, before, first, last)?.cut(Order::Other, found, Template::cursor)?.into())
    }
    /// The newest runs of a trigger, newest first; 50 when no limit is named.
    fn trigger_runs(ctx: &Ctx, limit: Option<i32>, trigger_id: String) -> Result<Vec<TriggerRun>, Fault> {
        trigger::trigger_runs(ctx, limit, &trigger_id)
    }
    /// The triggers of a service, oldest first.
    fn triggers(ctx: &Ctx, environment_id: String, service_id: String) -> Result<Vec<Trigger>, Fault> {
        trigger::triggers(ctx, &environment_id, &service_id)
    }
    /// Whether the person's logins by password ask for a code.
    fn two_factor_info(ctx: &Ctx) -> Result<TwoFactorInfo, Fault> {
        two_factor::two_factor_info(ctx)
    }
    /// What was used of each thing, of a project or a workspace, from the month's beginning when no date is named.
    #[expect(clippy::too_many_arguments, reason = "they are the schema's")]
    fn usage(
        ctx: &Ctx,
        end_date: Option<DateTime>,
        group_by: Option<Vec<MetricTag>>,
        include_deleted: Option<bool>,
        measurements: Vec<MetricMeasurement>,
        project_id: Option<String>,
        start_date: Option<DateTime>,
        workspace_id: Option<String>,
    ) -> Result<Vec<AggregatedUsage>, Fault> {
        metric::usage(ctx, UsageAsked { end_date, group_by, include_deleted, measurements, project_id, start_date, workspace_id })
    }
    /// Variables of a service, or those shared by an environment, with references replaced unless `unrendered`.
    fn variables(
        ctx: &Ctx,
        environment_id: String,
        project_id: String,
        service_id: Option<String>,
        unrendered: Option<bool>,
    ) -> Result<EnvironmentVariables, Fault> {
        let view = if unrendered == Some(true) { View::Raw } else { View::Rendered };
        read_variables(ctx, &project_id, &environment_id, service_id.as_deref(), view)
    }
    /// What a deployment of the service gets; sealed variables are null.
    fn variables_for_service_deployment(
        ctx: &Ctx,
        environment_id: String,
        project_id: String,
        service_id: String,
    ) -> Result<EnvironmentVariables, Fault> {
        read_variables(ctx, &project_id, &environment_id, Some(&service_id), View::ForDeployment)
    }
    /// A volume in an environment.
    fn volume_instance(ctx: &Ctx, id: String) -> Result<VolumeInstance, Fault> {
        VolumeInstance::find(ctx, &id)
    }
    /// The backups of a volume, newest first.
    fn volume_instance_backup_list(ctx: &Ctx, volume_instance_id: String) -> Result<Vec<VolumeInstanceBackup>, Fault> {
        super::volume::backups(ctx, &volume_instance_id)
    }
    /// When backups of a volume are made by themselves.
    fn volume_instance_backup_schedule_list(ctx: &Ctx, volume_instance_id: String) -> Result<Vec<VolumeInstanceBackupSchedule>, Fault> {
        super::volume::schedules(ctx, &volume_instance_id)
    }
    /// Where a workflow stands that a mutation began.
    fn workflow_status(ctx: &Ctx, workflow_id: String) -> Result<WorkflowResult, Fault> {
        super::template::workflow(ctx, &workflow_id)
    }
    /// A workspace.
    fn workspace(ctx: &Ctx, workspace_id: String) -> Result<Workspace, Fault> {
        Workspace::find(ctx, id("Workspace", &workspace_id, WorkspaceId)?)
    }
}
