//! Services, and services in environments.

use std::sync::Arc;

use domain::deployment::DeploymentStatus;
use domain::page::Order;
use domain::project::DomainKind;
use domain::schedule::Schedule;
use domain::spec::Source;
use domain::{EnvironmentId, ServiceId, Tenant};
use juniper::{ID, graphql_object};
use ops::Opened;
use ops::deployment::DeploymentFilter;
use serde_json::json;

use super::connection::{connection, page};
use super::deployment::Deployment;
use super::domain_name::{AllDomains, CustomDomain, ServiceDomain};
use super::enums::{Builder, RestartPolicyType};
use super::inputs::id;
use super::loader::HISTORY;
use super::project::Project;
use crate::graphql::scalar::{DateTime, JSON};
use crate::graphql::{Ctx, Fault, Scalar};

/// A service that the principal may read.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) tenant: Tenant,
    pub(crate) row: Arc<domain::project::Service>,
}

impl Service {
    pub(crate) fn new(ctx: &Ctx, opened: Opened<domain::project::Service>) -> Self {
        ctx.loader.announce_services(opened.tenant, std::iter::once(&opened.row));
        Self { tenant: opened.tenant, row: Arc::new(opened.row) }
    }

    pub(crate) fn find(ctx: &Ctx, id: ServiceId) -> Result<Self, Fault> {
        Ok(Self::new(ctx, ctx.wait(ops::service::service_get(&ctx.op, id))?))
    }

    /// One that another row of the same tenant points to.
    pub(crate) fn of(ctx: &Ctx, tenant: Tenant, id: ServiceId) -> Result<Self, Fault> {
        Ok(Self { tenant, row: ctx.loader.service(ctx, tenant, id)? })
    }

    pub(crate) fn cursor(&self) -> String {
        self.row.id.to_string()
    }

    fn history(&self, ctx: &Ctx) -> Result<Vec<Deployment>, Fault> {
        let rows = ctx.loader.deployments_of_service(ctx, self.tenant, self.row.id)?;
        Ok(rows.iter().map(|row| Deployment { tenant: self.tenant, row: Arc::clone(row) }).collect())
    }
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl Service {
    fn created_at(&self) -> DateTime {
        DateTime(self.row.created_at)
    }
    fn deleted_at(&self) -> Option<DateTime> {
        None
    }
    /// Newest first.
    fn deployments(
        &self,
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        last: Option<i32>,
    ) -> Result<ServiceDeploymentsConnection, Fault> {
        let request = page(after, before, first, last)?;
        let simple = request.after.is_none() && request.before.is_none() && request.last.is_none();
        if simple && (ctx.plain_lists || request.first.is_none_or(|first| first < HISTORY)) {
            // Of all services of the query at once.
            let all = self.history(ctx)?;
            let more = !ctx.plain_lists && all.len() >= HISTORY as usize;
            let mut cut = request.shorten(all);
            cut.has_next |= more;
            return Ok(cut.into());
        }
        let filter = DeploymentFilter { service: Some(self.row.id), ..DeploymentFilter::default() };
        Ok(Deployment::page(ctx, ctx.wait(ops::deployment::deployments(&ctx.op, filter, &request))?)?.into())
    }
    fn icon(&self) -> Option<&str> {
        self.row.icon.as_deref()
    }
    fn id(&self) -> ID {
        ID::from(self.row.id.to_string())
    }
    fn name(&self) -> &str {
        &self.row.name
    }
    fn project(&self, ctx: &Ctx) -> Result<Project, Fault> {
        Ok(Project { tenant: self.tenant, row: ctx.loader.project(ctx, self.tenant, self.row.project_id)? })
    }
    fn project_id(&self) -> String {
        self.row.project_id.to_string()
    }
    fn service_instances(
        &self,
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        last: Option<i32>,
    ) -> Result<ServiceServiceInstancesConnection, Fault> {
        let rows = ctx.loader.instances_of_service(ctx, self.tenant, self.row.id)?;
        let all = rows.iter().map(|row| ServiceInstance { tenant: self.tenant, row: Arc::clone(row) }).collect();
        Ok(page(after, before, first, last)?.cut(Order::Oldest, all, ServiceInstance::cursor)?.into())
    }
    fn updated_at(&self) -> DateTime {
        DateTime(self.row.updated_at)
    }
}

connection! {
    /// Deployments of a service.
    ServiceDeploymentsConnection, ServiceDeploymentsConnectionEdge, Deployment;
    /// A service's instances.
    ServiceServiceInstancesConnection, ServiceServiceInstancesConnectionEdge, ServiceInstance;
}

/// A service in an environment.
#[derive(Clone)]
pub(crate) struct ServiceInstance {
    pub(crate) tenant: Tenant,
    pub(crate) row: Arc<domain::project::Instance>,
}

impl ServiceInstance {
    pub(crate) fn find(ctx: &Ctx, environment: EnvironmentId, service: ServiceId) -> Result<Self, Fault> {
        let opened = ctx.wait(ops::service::service_instance_get(&ctx.op, environment, service))?;
        ctx.loader.announce_instances(opened.tenant, std::iter::once(&opened.row));
        Ok(Self { tenant: opened.tenant, row: Arc::new(opened.row) })
    }

    pub(crate) fn cursor(&self) -> String {
        self.row.id.to_string()
    }

    /// What was set for each running copy; null when nothing was.
    pub(crate) fn limits(ctx: &Ctx, environment: &str, service: &str) -> Result<serde_json::Value, Fault> {
        let (environment, service) = (id("Environment", environment, EnvironmentId)?, id("Service", service, ServiceId)?);
        Ok(domain::config::limit_override(&Self::find(ctx, environment, service)?.row.spec.deploy.limits))
    }
}

fn int(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl ServiceInstance {
    /// Those that run.
    fn active_deployments(&self, ctx: &Ctx) -> Result<Vec<Deployment>, Fault> {
        let rows = ctx.loader.live_deployments(ctx, self.tenant, self.row.id)?;
        let running = rows.iter().filter(|row| matches!(row.status, DeploymentStatus::Success | DeploymentStatus::Sleeping));
        Ok(running.map(|row| Deployment { tenant: self.tenant, row: Arc::clone(row) }).collect())
    }
    fn auto_instrumentation_enabled(&self) -> bool {
        false
    }
    fn build_command(&self) -> Option<&str> {
        self.row.spec.build.build_command.as_deref()
    }
    fn builder(&self) -> Builder {
        Builder::parse(self.row.spec.build.builder.as_deref())
    }
    fn created_at(&self) -> DateTime {
        DateTime(self.row.created_at)
    }
    fn cron_schedule(&self) -> Option<&str> {
        self.row.spec.deploy.cron_schedule.as_deref()
    }
    fn deleted_at(&self) -> Option<DateTime> {
        None
    }
    fn dockerfile_path(&self) -> Option<&str> {
        self.row.spec.build.dockerfile_path.as_deref()
    }
    fn domains(&self, ctx: &Ctx) -> Result<AllDomains, Fault> {
        let rows = ctx.loader.domains_of(ctx, self.tenant, self.row.environment_id)?;
        let of_kind = |kind| rows.iter().filter(move |row| row.service_id == self.row.service_id && row.kind == kind);
        Ok(AllDomains {
            custom: of_kind(DomainKind::Custom).map(|row| CustomDomain(Arc::clone(row))).collect(),
            service: of_kind(DomainKind::Service).map(|row| ServiceDomain(Arc::clone(row))).collect(),
        })
    }
    fn draining_seconds(&self) -> Option<i32> {
        Some(int(self.row.spec.deploy.draining_seconds))
    }
    fn environment_id(&self) -> String {
        self.row.environment_id.to_string()
    }
    fn healthcheck_path(&self) -> Option<&str> {
        self.row.spec.deploy.healthcheck_path.as_deref()
    }
    fn healthcheck_timeout(&self) -> Option<i32> {
        self.row.spec.deploy.healthcheck_timeout.map(int)
    }
    fn id(&self) -> ID {
        ID::from(self.row.id.to_string())
    }
    fn is_updatable(&self) -> bool {
        true
    }
    /// The newest by creation, in any state.
    fn latest_deployment(&self, ctx: &Ctx) -> Result<Option<Deployment>, Fault> {
        let rows = ctx.loader.latest_deployment(ctx, self.tenant, self.row.id)?;
        Ok(rows.first().map(|row| Deployment { tenant: self.tenant, row: Arc::clone(row) }))
    }
    /// As what is deployed has it; before that, as the settings have it.
    fn next_cron_run_at(&self, ctx: &Ctx) -> Result<Option<DateTime>, Fault> {
        let rows = ctx.loader.live_deployments(ctx, self.tenant, self.row.id)?;
        let serving = rows.iter().rev().find(|row| row.status == DeploymentStatus::Success);
        if serving.is_some_and(|row| row.stopped) {
            return Ok(None);
        }
        let deploy = serving.map_or(&self.row.spec.deploy, |row| &row.spec.deploy);
        let schedule = deploy.cron_schedule.as_ref().and_then(|text| Schedule::parse_in(text, None).ok());
        Ok(schedule.and_then(|schedule| schedule.after(ctx.op.now)).map(DateTime))
    }
    fn num_replicas(&self) -> Option<i32> {
        Some(int(self.row.spec.deploy.replicas()))
    }
    fn overlap_seconds(&self) -> Option<i32> {
        Some(int(self.row.spec.deploy.overlap_seconds))
    }
    fn pre_deploy_command(&self) -> Option<JSON> {
        let commands = &self.row.spec.deploy.pre_deploy_command;
        (!commands.is_empty()).then(|| json!(commands).into())
    }
    fn railway_config_file(&self) -> Option<&str> {
        self.row.spec.build.config_file.as_deref()
    }
    fn region(&self, ctx: &Ctx) -> Option<String> {
        Some(self.row.spec.deploy.regions.keys().next().unwrap_or(&ctx.op.ops.settings.region).clone())
    }
    fn restart_policy_max_retries(&self) -> i32 {
        int(self.row.spec.deploy.restart_policy_max_retries)
    }
    fn restart_policy_type(&self) -> RestartPolicyType {
        self.row.spec.deploy.restart_policy_type.into()
    }
    fn root_directory(&self) -> Option<&str> {
        self.row.spec.build.root_directory.as_deref()
    }
    fn service(&self, ctx: &Ctx) -> Result<Service, Fault> {
        Service::of(ctx, self.tenant, self.row.service_id)
    }
    fn service_id(&self) -> String {
        self.row.service_id.to_string()
    }
    fn service_name(&self, ctx: &Ctx) -> Result<String, Fault> {
        Ok(ctx.loader.service(ctx, self.tenant, self.row.service_id)?.name.clone())
    }
    fn sleep_application(&self) -> Option<bool> {
        Some(self.row.spec.deploy.sleep_application)
    }
    fn source(&self) -> Option<ServiceSource> {
        self.row.spec.source.clone().map(ServiceSource)
    }
    fn start_command(&self) -> Option<&str> {
        self.row.spec.deploy.start_command.as_deref()
    }
    /// Visitors stay on the same replica, by the cookie `galaxy-sticky`.
    fn sticky_sessions(&self) -> bool {
        self.row.spec.deploy.sticky
    }
    fn tracing_enabled(&self) -> bool {
        false
    }
    /// Replicas that stop answering are replaced, and a deployment counts only when it answers.
    fn unhealthy_container_replacement(&self) -> bool {
        self.row.spec.deploy.unhealthy_replacement
    }
    fn updated_at(&self) -> DateTime {
        DateTime(self.row.updated_at)
    }
    fn watch_patterns(&self) -> &[String] {
        &self.row.spec.build.watch_patterns
    }
}

/// Where the code of an instance comes from.
pub(crate) struct ServiceSource(Source);

#[graphql_object(context = Ctx, scalar = Scalar)]
impl ServiceSource {
    fn image(&self) -> Option<&str> {
        match &self.0 {
            Source::Image(image) => Some(image),
            Source::Repo { .. } => None,
        }
    }
    fn repo(&self) -> Option<&str> {
        match &self.0 {
            Source::Repo { repo, .. } => Some(repo),
            Source::Image(_) => None,
        }
    }
}
