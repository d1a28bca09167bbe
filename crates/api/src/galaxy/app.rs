//! Apps: instances with a domain.

use std::sync::Arc;

use domain::account::Plan;
use domain::certificate::CertificateStatus;
use domain::deployment::{Deployment, DeploymentStatus};
use domain::galaxy::{self, AppStatus, Told, app_id, app_status};
use domain::{Permission, Tenant};
use juniper::graphql_object;
use ops::Opened;

use super::activity::{Activity, Version};
use super::container::Container;
use super::int;
use super::loader::series_of;
use super::metric::Metric;
use super::notification::NotificationSettings;
use super::trigger::Trigger;
use crate::graphql::scalar::DateTime;
use crate::graphql::{Ctx, Fault, Scalar};

/// Entries of a feed.
const FEED: usize = 100;
/// Containers of an app that can be asked for at once.
const MAX_CONTAINERS: i32 = 1_000;

/// An app that the principal may read.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) tenant: Tenant,
    pub(crate) row: Arc<ops::app::App>,
}

impl App {
    pub(crate) fn new(ctx: &Ctx, opened: Opened<ops::app::App>) -> Self {
        ctx.galaxy.announce_apps(opened.tenant, std::iter::once(&opened.row));
        Self { tenant: opened.tenant, row: Arc::new(opened.row) }
    }

    pub(crate) fn state(&self, ctx: &Ctx) -> Result<AppStatus, Fault> {
        let (instance, loader) = (&self.row.instance, &ctx.galaxy);
        let open = loader.open(ctx, self.tenant, instance.id)?;
        let latest = loader.latest(ctx, self.tenant, instance.id)?;
        let mut replicas = vec![];
        for deployment in open.iter() {
            replicas.extend(loader.replicas(ctx, self.tenant, deployment.id)?.iter().map(|row| (**row).clone()));
        }
        let open: Vec<Deployment> = open.iter().map(|row| (**row).clone()).collect();
        Ok(app_status(&open, latest.as_deref(), &replicas, instance.spec.deploy.replicas()))
    }

    /// Everything of the audit log that has a name in Galaxy, newest first.
    pub(crate) fn feed(&self, ctx: &Ctx) -> Result<Vec<Activity>, Fault> {
        let rows = ctx.galaxy.activities(ctx, self.tenant, self.row.instance.id)?;
        let host: Arc<str> = self.row.domain.domain.as_str().into();
        let named = rows.iter().filter_map(|row| {
            let kind = galaxy::ActivityKind::of(row)?;
            Some(Activity { tenant: self.tenant, app: self.row.instance.id, host: Arc::clone(&host), kind, row: Arc::clone(row) })
        });
        Ok(named.collect())
    }

    /// The deployment that serves.
    fn serving(&self, ctx: &Ctx) -> Result<Option<Arc<Deployment>>, Fault> {
        let open = ctx.galaxy.open(ctx, self.tenant, self.row.instance.id)?;
        let serves = |row: &&Arc<Deployment>| matches!(row.status, DeploymentStatus::Success | DeploymentStatus::Sleeping);
        Ok(open.iter().rev().find(serves).map(Arc::clone))
    }

    fn all_versions(&self, ctx: &Ctx) -> Result<Vec<Version>, Fault> {
        let rows = ctx.galaxy.versions(ctx, self.tenant, self.row.instance.id)?;
        let serving = self.serving(ctx)?.map(|deployment| deployment.snapshot_id);
        let version = |(place, row): (usize, &Arc<(u32, Deployment)>)| Version {
            tenant: self.tenant,
            row: Arc::clone(row),
            place,
            active: serving == Some(row.1.snapshot_id),
        };
        Ok(rows.iter().enumerate().map(version).collect())
    }
}

/// An app.
#[graphql_object(context = Ctx, scalar = Scalar)]
impl App {
    /// 17 characters; equals `GALAXY_APP_ID`.
    #[graphql(name = "_id")]
    fn id(&self) -> String {
        app_id(self.row.instance.id)
    }
    /// The oldest of its hostnames.
    fn hostname(&self) -> &str {
        &self.row.domain.domain
    }
    /// Where people open it, without a slash at the end.
    fn url(&self, ctx: &Ctx) -> String {
        ops::domain_name::public_url(&ctx.op.ops.settings, &self.row.domain)
    }
    /// `running`, `starting`, `updating`, `stopping`, `stopped`, `unavailable` or `startingFailed`.
    fn status(&self, ctx: &Ctx) -> Result<&'static str, Fault> {
        Ok(self.state(ctx)?.as_str())
    }
    fn created_at(&self) -> String {
        DateTime(self.row.instance.created_at).text()
    }
    /// The region.
    fn cluster(&self, ctx: &Ctx) -> String {
        ctx.op.ops.settings.region.clone()
    }
    /// The containers that it shall have.
    fn container_count(&self) -> i32 {
        int(self.row.instance.spec.deploy.replicas())
    }
    fn container_type(&self, ctx: &Ctx) -> Result<ContainerType, Fault> {
        let professional = ctx.galaxy.workspace(ctx, self.tenant)?.plan == Plan::Professional;
        let (apps, deploy) = (&ctx.op.ops.settings.apps, &self.row.instance.spec.deploy);
        let (memory_bytes, cpu_millis) = apps.limits(deploy);
        Ok(apps.type_of(deploy).map_or_else(
            || ContainerType { id: "custom".into(), name: "Custom".into(), memory_bytes, cpu_millis },
            |one| ContainerType::of(one, professional),
        ))
    }
    /// Those that run, start or end.
    fn containers(&self, ctx: &Ctx, limit: Option<i32>) -> Result<Vec<Container>, Fault> {
        let limit = limit.unwrap_or(MAX_CONTAINERS);
        let wanted = usize::try_from(limit).ok().filter(|wanted| *wanted <= MAX_CONTAINERS as usize);
        let wanted = wanted.ok_or_else(|| Fault::bad_input(format!("limit is {limit}: it may be 0 to {MAX_CONTAINERS}")))?;
        let mut containers = vec![];
        for deployment in ctx.galaxy.open(ctx, self.tenant, self.row.instance.id)?.iter() {
            let rows = ctx.galaxy.replicas(ctx, self.tenant, deployment.id)?;
            containers.extend(rows.iter().filter(|row| row.status.is_live()).map(|row| Container {
                tenant: self.tenant,
                instance: self.row.instance.id,
                row: Arc::clone(row),
                of: Some(Arc::clone(deployment)),
            }));
        }
        containers.truncate(wanted);
        let series = containers.iter().map(|container| telemetry::metrics::Series::Replica(container.row.id));
        ctx.galaxy.announce_series(self.tenant, series);
        Ok(containers)
    }
    /// The sum over its containers: the newest `limit` points of `5s`, `3m`, `1h` or `1d`, newest first.
    fn metrics(&self, ctx: &Ctx, series_name: String, limit: i32) -> Result<Vec<Metric>, Fault> {
        Metric::list(ctx, self.tenant, &app_id(self.row.instance.id), series_of(&self.row), &series_name, limit)
    }
    /// Newest first.
    fn versions(&self, ctx: &Ctx) -> Result<Vec<Version>, Fault> {
        self.all_versions(ctx)
    }
    /// The version that runs.
    fn active_version(&self, ctx: &Ctx) -> Result<Option<Version>, Fault> {
        Ok(self.all_versions(ctx)?.into_iter().find(|version| version.active))
    }
    /// Newest first, at most 100 entries.
    fn activities(&self, ctx: &Ctx) -> Result<Vec<Activity>, Fault> {
        let mut feed = self.feed(ctx)?;
        feed.retain(|activity| activity.kind.told == Told::Everywhere);
        feed.truncate(FEED);
        Ok(feed)
    }
    /// Its hostnames, oldest first.
    fn domains(&self, ctx: &Ctx) -> Result<Vec<Domain>, Fault> {
        let rows = ctx.galaxy.domains(ctx, self.tenant, self.row.instance.environment_id)?;
        let own = rows.iter().filter(|row| row.service_id == self.row.instance.service_id);
        Ok(own.map(|row| Domain { row: Arc::clone(row), primary: row.id == self.row.domain.id }).collect())
    }
    /// Oldest first.
    fn triggers(&self, ctx: &Ctx) -> Result<Vec<Trigger>, Fault> {
        Ok(ctx.galaxy.triggers(ctx, self.tenant, self.row.instance.id)?.iter().map(|row| Trigger(Arc::clone(row))).collect())
    }
    /// `free`, `hobby` or `professional`: that of its account.
    fn plan(&self, ctx: &Ctx) -> Result<String, Fault> {
        Ok(ctx.galaxy.workspace(ctx, self.tenant)?.plan.as_str().to_ascii_lowercase())
    }
    /// Seconds between SIGTERM and SIGKILL.
    fn container_stop_grace_period(&self) -> i32 {
        int(self.row.instance.spec.deploy.draining_seconds)
    }
    /// Containers that stop answering are replaced.
    fn unhealthy_container_replacement(&self) -> bool {
        self.row.instance.spec.deploy.unhealthy_replacement
    }
    /// Visitors stay on the same container, by the cookie `galaxy-sticky`.
    fn sticky_sessions(&self) -> bool {
        self.row.instance.spec.deploy.sticky
    }
    /// It stops after the operator's `sleep_after_seconds` without a connection, and the next request starts it.
    fn cold_start(&self) -> bool {
        self.row.instance.spec.deploy.sleep_application
    }
    /// What overrides the account's; null when the app follows its account.
    fn notification_settings(&self, ctx: &Ctx) -> Result<Option<NotificationSettings>, Fault> {
        let place = domain::Place::Environment(self.row.instance.project_id, self.row.instance.environment_id);
        if !ctx.op.may(self.tenant.workspace(), place, Permission::ReadSecrets) {
            return Err(Fault(ops::Error::new(domain::Code::Forbidden, "Your role may not read whom the app tells: it holds secrets")));
        }
        Ok(ctx.galaxy.notifications(ctx, self.tenant, self.row.instance.id)?.map(NotificationSettings))
    }
    /// The same place in the Railway API.
    fn project_id(&self) -> String {
        self.row.instance.project_id.to_string()
    }
    /// The same place in the Railway API.
    fn environment_id(&self) -> String {
        self.row.instance.environment_id.to_string()
    }
    /// The same place in the Railway API.
    fn service_id(&self) -> String {
        self.row.instance.service_id.to_string()
    }
}

/// A size of containers.
pub(crate) struct ContainerType {
    id: String,
    name: String,
    memory_bytes: u64,
    cpu_millis: u32,
}

impl ContainerType {
    pub(crate) fn of(row: &galaxy::ContainerType, professional: bool) -> Self {
        let galaxy::ContainerType { memory_bytes, cpu_millis, .. } = *row;
        Self { id: row.id(professional), name: row.display(professional), memory_bytes, cpu_millis }
    }
}

/// A size of containers.
#[graphql_object(context = Ctx, scalar = Scalar)]
impl ContainerType {
    #[graphql(name = "_id")]
    fn id(&self) -> &str {
        &self.id
    }
    fn name(&self) -> &str {
        &self.name
    }
    /// Bytes of a container; 0 is no limit.
    #[expect(clippy::cast_precision_loss, reason = "sizes of memory are whole megabytes")]
    fn memory(&self) -> f64 {
        self.memory_bytes as f64
    }
    /// ECU of a container, which are cores; 0 is no limit.
    fn cpu(&self) -> f64 {
        f64::from(self.cpu_millis) / 1_000.0
    }
}

/// A hostname of an app.
pub(crate) struct Domain {
    pub(crate) row: Arc<domain::project::Domain>,
    pub(crate) primary: bool,
}

/// A hostname of an app.
#[graphql_object(context = Ctx, scalar = Scalar)]
impl Domain {
    #[graphql(name = "_id")]
    fn id(&self) -> String {
        self.row.id.to_string()
    }
    fn name(&self) -> &str {
        &self.row.domain
    }
    /// It names the app.
    fn primary(&self) -> bool {
        self.primary
    }
    /// `Enabled` while it has a certificate that holds, else `Disabled`.
    fn encryption(&self, ctx: &Ctx) -> &str {
        if self.status(ctx) == CertificateStatus::Valid { "Enabled" } else { "Disabled" }
    }
    /// Whoever asks without TLS is sent there.
    #[graphql(name = "forceSSL")]
    fn force_ssl(&self) -> bool {
        self.row.force_https
    }
    /// Where its certificate stands: `none`, `validating`, `issuing`, `valid` or `failed`.
    fn certificate_status(&self, ctx: &Ctx) -> &str {
        match self.status(ctx) {
            CertificateStatus::Off => "none",
            CertificateStatus::ValidatingOwnership => "validating",
            CertificateStatus::Issuing => "issuing",
            CertificateStatus::Valid => "valid",
            CertificateStatus::Failed => "failed",
        }
    }
    /// Until when its certificate holds.
    fn certificate_expires_at(&self) -> Option<String> {
        self.row.certificate.used.as_ref().map(|used| DateTime(used.expires_at).text())
    }
    /// Why there is no new certificate.
    fn certificate_error(&self, ctx: &Ctx) -> Option<String> {
        self.row.certificate_problem(self.orders(ctx), ctx.op.now).map(str::to_owned)
    }
}

impl Domain {
    /// Certificates are ordered for it.
    fn orders(&self, ctx: &Ctx) -> bool {
        ops::domain_name::orders(&ctx.op.ops.settings, self.row.kind)
    }

    fn status(&self, ctx: &Ctx) -> CertificateStatus {
        self.row.certificate_status(self.orders(ctx), ctx.op.now)
    }
}
