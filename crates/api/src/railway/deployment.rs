//! Deployments, their steps and their running copies.

use std::sync::Arc;

use domain::activity::Actor;
use domain::deployment::{DeploymentStatus as Status, Replica, ReplicaStatus};
use domain::page::Page;
use domain::project::Domain;
use domain::spec::Source;
use domain::{DeploymentId, EnvironmentId, ServiceId, Tenant};
use juniper::{GraphQLObject, ID, graphql_object};
use ops::Opened;
use ops::deployment::is_kept;
use serde_json::{Map, Value as Json, json};

use super::connection::connection;
use super::enums::{DeploymentEventStep, DeploymentInstanceStatus, DeploymentStatus};
use super::environment::Environment;
use super::service::Service;
use crate::graphql::scalar::{DateTime, DeploymentMeta};
use crate::graphql::{Ctx, Fault, Scalar};

/// A deployment that the principal may read.
#[derive(Clone)]
pub(crate) struct Deployment {
    pub(crate) tenant: Tenant,
    pub(crate) row: Arc<domain::deployment::Deployment>,
}

impl Deployment {
    pub(crate) fn new(ctx: &Ctx, opened: Opened<domain::deployment::Deployment>) -> Self {
        ctx.loader.announce_deployments(opened.tenant, std::iter::once(&opened.row));
        Self { tenant: opened.tenant, row: Arc::new(opened.row) }
    }

    pub(crate) fn find(ctx: &Ctx, id: DeploymentId) -> Result<Self, Fault> {
        Ok(Self::new(ctx, ctx.wait(ops::deployment::deployment_get(&ctx.op, id))?))
    }

    /// All rows are known before the first of them is looked into.
    pub(crate) fn page(ctx: &Ctx, page: Page<Opened<domain::deployment::Deployment>>) -> Result<Page<Self>, Fault> {
        ctx.charge(page.items.len())?;
        for rows in page.items.chunk_by(|one, next| one.tenant == next.tenant) {
            ctx.loader.announce_deployments(rows[0].tenant, rows.iter().map(|opened| &opened.row));
        }
        let items = page.items.into_iter().map(|Opened { tenant, row }| Self { tenant, row: Arc::new(row) }).collect();
        Ok(Page { items, has_next: page.has_next, has_previous: page.has_previous })
    }

    pub(crate) fn cursor(&self) -> String {
        self.row.id.to_string()
    }

    fn domain(&self, ctx: &Ctx) -> Result<Option<Arc<Domain>>, Fault> {
        let rows = ctx.loader.domains_of(ctx, self.tenant, self.row.environment_id)?;
        Ok(rows.iter().find(|row| row.service_id == self.row.service_id).map(Arc::clone))
    }
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl Deployment {
    fn can_redeploy(&self) -> bool {
        self.row.artifact.is_some() || self.row.source_blob.is_some()
    }
    fn can_rollback(&self, ctx: &Ctx) -> bool {
        matches!(self.row.status, Status::Removing | Status::Removed) && is_kept(&ctx.op.ops, &self.row)
    }
    fn created_at(&self) -> DateTime {
        DateTime(self.row.created_at)
    }
    fn creator(&self) -> Option<DeploymentCreator> {
        DeploymentCreator::of(&self.row.creator)
    }
    fn deployment_stopped(&self) -> bool {
        self.row.stopped
    }
    fn environment(&self, ctx: &Ctx) -> Result<Environment, Fault> {
        Environment::of(ctx, self.tenant, self.row.environment_id)
    }
    fn environment_id(&self) -> String {
        self.row.environment_id.to_string()
    }
    fn id(&self) -> ID {
        ID::from(self.row.id.to_string())
    }
    fn instances(&self, ctx: &Ctx) -> Result<Vec<DeploymentDeploymentInstance>, Fault> {
        let rows = ctx.loader.replicas_of(ctx, self.tenant, self.row.id)?;
        let present = rows.iter().filter(|row| row.status != ReplicaStatus::Removed);
        Ok(present.map(|row| DeploymentDeploymentInstance(Arc::clone(row))).collect())
    }
    fn meta(&self, ctx: &Ctx) -> Option<DeploymentMeta> {
        Some(meta(&self.row, &ctx.op.ops.settings.region).into())
    }
    fn project_id(&self) -> String {
        self.row.project_id.to_string()
    }
    fn service(&self, ctx: &Ctx) -> Result<Service, Fault> {
        Service::of(ctx, self.tenant, self.row.service_id)
    }
    fn service_id(&self) -> Option<String> {
        Some(self.row.service_id.to_string())
    }
    /// Never null: the command-line client finds its build log by it.
    fn snapshot_id(&self) -> Option<String> {
        Some(self.row.snapshot_id.to_string())
    }
    fn static_url(&self, ctx: &Ctx) -> Result<Option<String>, Fault> {
        Ok(self.domain(ctx)?.map(|row| row.domain.clone()))
    }
    fn status(&self) -> DeploymentStatus {
        self.row.status.into()
    }
    fn status_updated_at(&self) -> Option<DateTime> {
        Some(DateTime(self.row.status_at))
    }
    fn suggest_add_service_domain(&self, ctx: &Ctx) -> Result<bool, Fault> {
        Ok(self.row.status == Status::Success && self.domain(ctx)?.is_none())
    }
    fn updated_at(&self) -> DateTime {
        DateTime(self.row.updated_at)
    }
    fn url(&self, ctx: &Ctx) -> Result<Option<String>, Fault> {
        Ok(self.domain(ctx)?.map(|row| ops::domain_name::public_url(&ctx.op.ops.settings, &row)))
    }
}

/// What a deployment was made from (`contracts/railway.md` 3.2). Unset settings are absent, `multiRegionConfig` never is.
pub(super) fn meta(row: &domain::deployment::Deployment, region: &str) -> Json {
    let (build, deploy) = (&row.spec.build, &row.spec.deploy);
    let mut meta = json!({
        "reason": row.reason.as_str(),
        "runtime": "V2",
        "cliMessage": row.message,
        "configFile": build.config_file,
        "rootDirectory": build.root_directory,
        "serviceManifest": {
            "build": {
                "builder": build.builder.as_deref().unwrap_or("RAILPACK"),
                "buildCommand": build.build_command,
                "dockerfilePath": build.dockerfile_path,
                "watchPatterns": build.watch_patterns,
            },
            "deploy": {
                "startCommand": deploy.start_command,
                "preDeployCommand": deploy.pre_deploy_command,
                "healthcheckPath": deploy.healthcheck_path,
                "healthcheckTimeout": deploy.healthcheck_timeout,
                "restartPolicyType": deploy.restart_policy_type,
                "restartPolicyMaxRetries": deploy.restart_policy_max_retries,
                "numReplicas": deploy.replicas(),
                "multiRegionConfig": domain::config::multi_region(deploy, region),
                "cronSchedule": deploy.cron_schedule,
                "sleepApplication": deploy.sleep_application,
                "drainingSeconds": deploy.draining_seconds,
                "overlapSeconds": deploy.overlap_seconds,
                "requiredMountPath": deploy.required_mount_path,
                "limitOverride": domain::config::limit_override(&deploy.limits),
                "runtime": "V2",
            },
        },
    });
    if let (Json::Object(fields), Some(source)) = (&mut meta, &row.spec.source) {
        match source {
            Source::Image(image) => fields.extend([("image".to_owned(), json!(image))]),
            Source::Repo { repo, branch } => fields.extend([("repo".to_owned(), json!(repo)), ("branch".to_owned(), json!(branch))]),
        }
    }
    without_nulls(meta)
}

fn without_nulls(value: Json) -> Json {
    match value {
        Json::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            Json::Object(kept.map(|(name, value)| (name, without_nulls(value))).collect::<Map<_, _>>())
        }
        other => other,
    }
}

connection! {
    /// Deployments.
    QueryDeploymentsConnection, QueryDeploymentsConnectionEdge, Deployment;
    /// Steps of a deployment.
    QueryDeploymentEventsConnection, QueryDeploymentEventsConnectionEdge, DeploymentEvent;
}

/// Who made a deployment.
#[derive(Clone, GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct DeploymentCreator {
    avatar: Option<String>,
    email: String,
    id: String,
    name: Option<String>,
}

impl DeploymentCreator {
    fn of(actor: &Actor) -> Option<Self> {
        let (id, email, name) = match actor {
            Actor::User { id, name, email, .. } => (id.to_string(), email.clone(), name.clone()),
            Actor::Key { id, label } => (id.to_string(), format!("{id}@keys.local"), label.clone()),
            Actor::System { .. } => return None,
        };
        Some(Self { avatar: None, email, id, name: Some(name) })
    }
}

/// A running copy.
pub(crate) struct DeploymentDeploymentInstance(Arc<Replica>);

#[graphql_object(context = Ctx, scalar = Scalar)]
impl DeploymentDeploymentInstance {
    fn id(&self) -> String {
        self.0.id.to_string()
    }
    fn status(&self) -> DeploymentInstanceStatus {
        self.0.status.into()
    }
}

/// A step.
#[derive(Clone)]
pub(crate) struct DeploymentEvent(pub(crate) domain::deployment::DeploymentEvent);

impl DeploymentEvent {
    pub(crate) fn cursor(&self) -> String {
        self.0.id.to_string()
    }
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl DeploymentEvent {
    fn completed_at(&self) -> Option<DateTime> {
        self.0.completed_at.map(DateTime)
    }
    fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }
    fn id(&self) -> ID {
        ID::from(self.0.id.to_string())
    }
    fn payload(&self) -> Option<DeploymentEventPayload> {
        let event = &self.0;
        let milliseconds = event.completed_at.map(|at| at.duration_since(event.created_at).as_millis());
        Some(DeploymentEventPayload {
            detail: event.detail.clone(),
            duration_ms: milliseconds.map(|value| i32::try_from(value).unwrap_or(i32::MAX)),
            error: event.error.clone(),
            reason: None,
            skipped: None,
        })
    }
    fn step(&self) -> DeploymentEventStep {
        self.0.step.into()
    }
}

/// What is known of a step.
#[derive(Clone, GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct DeploymentEventPayload {
    detail: Option<String>,
    duration_ms: Option<i32>,
    error: Option<String>,
    reason: Option<String>,
    skipped: Option<bool>,
}

/// Deploys the newest source of a service again; the new deployment's id.
pub(crate) fn deploy_newest(
    ctx: &Ctx,
    commit_sha: Option<&str>,
    (environment, service): (EnvironmentId, ServiceId),
) -> Result<String, Fault> {
    if commit_sha.is_some() {
        return Err(Fault::bad_input(
            "commitSha is for Git sources, which this server does not build: leave it out, or upload that commit",
        ));
    }
    let made = ctx.wait(ops::deployment::service_instance_redeploy(&ctx.op, environment, service))?;
    made.map(|id| id.to_string()).ok_or_else(|| {
        let text = "Nothing of this service can be deployed again: upload its source (railway up), or approve what waits";
        Fault(ops::Error::conflict(text))
    })
}
