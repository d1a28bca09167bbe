//! Deployments: made, watched, repeated and taken out of service here; carried out by the engine.

use std::collections::BTreeMap;

use domain::deployment::{DeployReason, Deployment, DeploymentEvent, DeploymentStatus, EventStep};
use domain::page::{Page, PageRequest};
use domain::project::{Domain, Environment, Instance, Service};
use domain::spec::InstanceSpec;
use domain::{Code, DeploymentId, EnvironmentId, EventId, Permission, Place, ProjectId, ServiceId, SnapshotId, Timestamp, name};
use futures_core::Stream;
use serde_json::json;
use store::{Change, DeploymentQuery};

use crate::context::{Opened, anew};
use crate::{Error, OpCtx, Ops, Signal, approval, batch, domain_name, environment, project, secret, service, template, variable};

mod again;

use again::build_anew;
pub(crate) use again::{again, at_rest, is_stopped, newest, opening, settings_for};

/// An upload that is to be deployed.
#[derive(Clone, Debug)]
pub struct Upload {
    /// The project.
    pub project: ProjectId,
    /// The environment.
    pub environment: EnvironmentId,
    /// The service; made when absent.
    pub service: Option<ServiceId>,
    /// The stored archive.
    pub blob: Blob,
    /// What the client says about it.
    pub message: Option<String>,
}

/// An archive in the blob folder.
#[derive(Clone, Debug)]
pub struct Blob {
    /// Its hash and its name, in hex.
    pub sha256: String,
    /// Its size.
    pub bytes: u64,
}

/// What an upload led to.
#[derive(Clone, Debug)]
pub struct Deployed {
    /// The deployment.
    pub deployment: Deployment,
    /// Its service, which may be new.
    pub service: Service,
    /// Where it will answer.
    pub domain: Option<Domain>,
}

/// Which deployments are wanted.
#[derive(Clone, Debug, Default)]
pub struct DeploymentFilter {
    /// Of this project.
    pub project: Option<ProjectId>,
    /// Of this environment.
    pub environment: Option<EnvironmentId>,
    /// Of this service.
    pub service: Option<ServiceId>,
    /// Only these.
    pub statuses_in: Vec<DeploymentStatus>,
    /// Not these.
    pub statuses_not_in: Vec<DeploymentStatus>,
}

fn place(deployment: &Deployment) -> Place {
    Place::Environment(deployment.project_id, deployment.environment_id)
}

pub(crate) async fn deployment_for(ctx: &OpCtx, id: DeploymentId, permission: Permission) -> Result<Opened<Deployment>, Error> {
    ctx.open(ctx.ops.store.deployment(id).await?, "Deployment", place, permission)
}

/// One deployment.
///
/// # Errors
/// Not found or not allowed.
pub async fn deployment_get(ctx: &OpCtx, id: DeploymentId) -> Result<Opened<Deployment>, Error> {
    deployment_for(ctx, id, Permission::Read).await
}

/// Deployments of a project, environment or service, newest first.
///
/// # Errors
/// Not found, not allowed, or nothing named.
pub async fn deployments(ctx: &OpCtx, filter: DeploymentFilter, page: &PageRequest) -> Result<Page<Opened<Deployment>>, Error> {
    let tenant = match (filter.environment, filter.project, filter.service) {
        (Some(environment), _, _) => environment::environment_get(ctx, environment).await?.tenant,
        (None, Some(project), _) => project::project_get(ctx, project).await?.tenant,
        (None, None, Some(service)) => service::service_get(ctx, service).await?.tenant,
        (None, None, None) => return Err(Error::bad_input("name a project, an environment or a service whose deployments are wanted")),
    };
    let query = DeploymentQuery {
        project: filter.project,
        // What a key of one environment does not see takes no place in a page.
        environment: filter.environment.or_else(|| ctx.grants().environment()),
        service: filter.service,
        statuses_in: filter.statuses_in,
        statuses_not_in: filter.statuses_not_in,
    };
    let found = ctx.ops.store.deployments(tenant, &query, &page.bounded()).await?;
    let visible = |row: &Deployment| ctx.may(tenant.workspace(), place(row), Permission::Read);
    let items = found.items.into_iter().filter(visible).map(|row| Opened { tenant, row }).collect();
    Ok(Page { items, has_next: found.has_next, has_previous: found.has_previous })
}

/// Whether an upload would be taken; asked before its body is read.
///
/// # Errors
/// Not found, not allowed, or the project is being deleted.
pub async fn deployment_upload_check(
    ctx: &OpCtx,
    project: ProjectId,
    environment: EnvironmentId,
    service: Option<ServiceId>,
) -> Result<(), Error> {
    let needed = if service.is_some() { Permission::Deploy } else { Permission::Write };
    let opened = environment::environment_for(ctx, environment, needed).await?;
    project::project_get(ctx, project).await?;
    if opened.row.project_id != project {
        return Err(Error::not_found("Environment"));
    }
    if let Some(service) = service
        && service::service_get(ctx, service).await?.row.project_id != project
    {
        return Err(Error::not_found("Service"));
    }
    Ok(())
}

/// Deploys an upload: makes the service, its instance and its first domain where they are missing, freezes settings and variables, and
/// wakes the engine. Answers before anything is built.
///
/// # Errors
/// As [`deployment_upload_check`].
pub async fn deployment_create(ctx: &OpCtx, input: Upload) -> Result<Opened<Deployed>, Error> {
    deployment_upload_check(ctx, input.project, input.environment, input.service).await?;
    anew(|| create_once(ctx, &input)).await
}

async fn create_once(ctx: &OpCtx, input: &Upload) -> Result<Opened<Deployed>, Error> {
    let environment = environment::environment_get(ctx, input.environment).await?;
    let tenant = environment.tenant;
    let mut changes = vec![];
    batch::rest_on(ctx, tenant, input.environment, &mut changes).await?;
    let service = match input.service {
        Some(id) => service::service_get(ctx, id).await?.row,
        None => {
            let service = unnamed_service(ctx, input.project).await?;
            changes.push(Change::ServiceInsert(service.clone()));
            service
        }
    };
    let found = ctx.ops.store.instance_of(input.environment, service.id).await?.and_then(|sealed| sealed.open(tenant));
    let instance = found.unwrap_or_else(|| {
        let made = service::new_instance(ctx, &environment.row, service.id, InstanceSpec::default());
        changes.push(Change::InstanceInsert(made.clone()));
        made
    });
    let mut all = ctx.ops.store.domains_of_environments(tenant, &[input.environment]).await?;
    all.retain(|domain| domain.service_id == service.id);
    let earlier = ctx.ops.store.deployments_latest(tenant, &[instance.id]).await?;
    let domain = match all.into_iter().next() {
        Some(domain) => Some(domain),
        // Someone who deleted the domain does not want it back with every deployment.
        None if !earlier.is_empty() => None,
        None => {
            let domain = domain_name::free_service_domain(ctx, &environment.row, &service, None, &[]).await?;
            changes.push(Change::DomainInsert(domain.clone()));
            Some(domain)
        }
    };
    let mut deployment = Deployment {
        snapshot_id: SnapshotId::generate(),
        source_blob: Some(input.blob.sha256.clone()),
        message: input.message.clone().filter(|text| !text.is_empty()),
        ..fresh(ctx, &instance, DeployReason::Deploy, instance.spec.clone())
    };
    let mut variables = variable::frozen(ctx, &environment, &service.name).await?;
    if input.service.is_none() || domain.is_some() {
        provide_new(ctx, &mut variables, &service, domain.as_ref());
    }
    let step = event(ctx, deployment.id, EventStep::SnapshotCode);
    changes.extend(insertion(ctx, &environment.row, &mut deployment, variables));
    changes.push(Change::EventInsert(step));
    let data = json!({"service": service.name, "environment": environment.row.name, "bytes": input.blob.bytes, "message": deployment.message, "snapshot": deployment.snapshot_id});
    changes.push(ctx.activity_of(tenant, &instance, "deployment_create", deployment.id, data));
    ctx.commit(tenant, changes).await?;
    ctx.ops.signals.wake(tenant.workspace(), instance.id);
    approval::tell_waiting(ctx, &deployment).await;
    Ok(environment.with(Deployed { deployment, service, domain }))
}

/// What a service that is made in the same breath is provided with; the store does not know it yet when variables are rendered.
fn provide_new(ctx: &OpCtx, variables: &mut BTreeMap<String, String>, service: &Service, domain: Option<&Domain>) {
    let mut provide = |name: &str, value: String| {
        variables.entry(name.to_owned()).or_insert(value);
    };
    provide("RAILWAY_SERVICE_ID", service.id.to_string());
    provide("RAILWAY_SERVICE_NAME", service.name.clone());
    if let Some(domain) = domain {
        provide("RAILWAY_PUBLIC_DOMAIN", domain.domain.clone());
        provide("RAILWAY_STATIC_URL", domain_name::public_url(&ctx.ops.settings, domain));
    }
}

/// A service for an upload that names none: called after the project when that is free.
async fn unnamed_service(ctx: &OpCtx, project: ProjectId) -> Result<Service, Error> {
    let opened = project::project_get(ctx, project).await?;
    let taken = ctx.ops.store.services_of(opened.tenant, &[project]).await?;
    let wanted = name::display("service name", &opened.row.name)?;
    let free = |text: &str| !taken.iter().any(|service| service.name.eq_ignore_ascii_case(text));
    let chosen = if free(&wanted) { wanted } else { format!("{wanted}-{}", secret::suffix()) };
    Ok(service::new_service(ctx, &opened.row, chosen, None))
}

pub(crate) fn fresh(ctx: &OpCtx, instance: &Instance, reason: DeployReason, spec: InstanceSpec) -> Deployment {
    Deployment {
        id: DeploymentId::generate(),
        workspace_id: instance.workspace_id,
        project_id: instance.project_id,
        environment_id: instance.environment_id,
        service_id: instance.service_id,
        instance_id: instance.id,
        snapshot_id: SnapshotId::generate(),
        status: DeploymentStatus::Initializing,
        status_reason: None,
        status_at: ctx.now,
        generation: 0,
        stopped: false,
        reason,
        spec,
        source_blob: None,
        artifact: None,
        run: None,
        waits_for: vec![],
        message: None,
        creator: ctx.actor(),
        created_at: ctx.now,
        updated_at: ctx.now,
    }
}

pub(crate) fn event(ctx: &OpCtx, deployment: DeploymentId, step: EventStep) -> DeploymentEvent {
    DeploymentEvent {
        id: EventId::generate(),
        deployment_id: deployment,
        step,
        created_at: ctx.now,
        completed_at: None,
        error: None,
        detail: None,
    }
}

/// The changes that make a deployment. What needs an approval is one that waits from here on.
pub(crate) fn insertion(
    ctx: &OpCtx,
    environment: &Environment,
    deployment: &mut Deployment,
    variables: BTreeMap<String, String>,
) -> Vec<Change> {
    let held = approval::hold(ctx, environment, deployment);
    deployment.spec.obey(&variables);
    let insert = Change::DeploymentInsert { deployment: deployment.clone(), variables };
    std::iter::once(insert).chain(held).collect()
}

/// The deployment that follows from changed settings or variables of an instance that runs; nothing for one that does not. With
/// `rebuild`, its source is built again where there is one. What waits for an approval is taken up only by what will wait, too.
pub(crate) fn redeployment(
    ctx: &OpCtx,
    environment: &Environment,
    instance: &Instance,
    live: &[Deployment],
    rebuild: bool,
) -> Option<Deployment> {
    let waits = approval::needed(ctx, environment);
    let usable = |d: &&Deployment| {
        let source = d.artifact.is_some() || d.source_blob.is_some() || template::is_server(&d.spec);
        source && (waits || d.status != DeploymentStatus::NeedsApproval)
    };
    let newest = live.iter().rev().filter(|d| d.status != DeploymentStatus::Removing).find(usable)?;
    let spec = settings_for(instance, newest);
    let mut next = again(ctx, newest, instance, DeployReason::Redeploy, spec);
    build_anew(&mut next, newest, instance, rebuild);
    Some(next)
}

/// The changes that bring new variables of an instance into use, if it runs.
pub(crate) async fn follow_up(
    ctx: &OpCtx,
    environment: &Opened<Environment>,
    instance: &Instance,
    variables: BTreeMap<String, String>,
) -> Result<Option<Vec<Change>>, Error> {
    let live = ctx.ops.store.deployments_live(environment.tenant, &[instance.id]).await?;
    let next = redeployment(ctx, &environment.row, instance, &live, false);
    Ok(next.map(|mut next| insertion(ctx, &environment.row, &mut next, variables)))
}

/// A deployment of what `of` built, with today's settings and these variables.
pub(crate) fn repetition(
    ctx: &OpCtx,
    environment: &Environment,
    instance: &Instance,
    of: &Deployment,
    variables: BTreeMap<String, String>,
) -> Vec<Change> {
    let mut next = again(ctx, of, instance, DeployReason::Redeploy, settings_for(instance, of));
    build_anew(&mut next, of, instance, false);
    insertion(ctx, environment, &mut next, variables)
}

async fn repeat(ctx: &OpCtx, of: Opened<Deployment>, reason: DeployReason, verb: &str) -> Result<Opened<Deployment>, Error> {
    anew(|| repeat_once(ctx, &of, reason, verb)).await
}

async fn repeat_once(ctx: &OpCtx, of: &Opened<Deployment>, reason: DeployReason, verb: &str) -> Result<Opened<Deployment>, Error> {
    if of.row.artifact.is_none() && of.row.source_blob.is_none() {
        return Err(Error::conflict("This deployment has neither an artifact nor a source any more: deploy the source again"));
    }
    let mut changes = vec![];
    batch::rest_on(ctx, of.tenant, of.row.environment_id, &mut changes).await?;
    let instance = ctx
        .ops
        .store
        .instance_of(of.row.environment_id, of.row.service_id)
        .await?
        .and_then(|sealed| sealed.open(of.tenant))
        .ok_or_else(|| Error::not_found("ServiceInstance"))?;
    let environment = environment::environment_for(ctx, of.row.environment_id, Permission::Deploy).await?;
    let (spec, variables) = match reason {
        DeployReason::Rollback => (of.row.spec.clone(), ctx.ops.store.deployment_variables(of.tenant, of.row.id).await?),
        _ => {
            let service = service::service_get(ctx, of.row.service_id).await?;
            (settings_for(&instance, &of.row), variable::frozen(ctx, &environment, &service.row.name).await?)
        }
    };
    let mut deployment = again(ctx, &of.row, &instance, reason, spec);
    if reason != DeployReason::Rollback {
        build_anew(&mut deployment, &of.row, &instance, false);
    }
    changes.extend(insertion(ctx, &environment.row, &mut deployment, variables));
    changes.push(ctx.activity_of(of.tenant, &instance, verb, deployment.id, json!({"of": of.row.id, "snapshot": deployment.snapshot_id})));
    ctx.commit(of.tenant, changes).await?;
    ctx.ops.signals.wake(of.tenant.workspace(), instance.id);
    approval::tell_waiting(ctx, &deployment).await;
    Ok(of.with(deployment))
}

/// Deploys the same source again with today's settings and variables.
///
/// # Errors
/// Not found, not allowed, or nothing left to deploy.
pub async fn deployment_redeploy(ctx: &OpCtx, id: DeploymentId) -> Result<Opened<Deployment>, Error> {
    let of = deployment_for(ctx, id, Permission::Deploy).await?;
    repeat(ctx, of, DeployReason::Redeploy, "deployment_redeploy").await
}

/// Whether what a deployment was built to is still there: of older ones it is cleared away, and a copy of the database comes without any.
#[must_use]
pub fn is_kept(ops: &Ops, deployment: &Deployment) -> bool {
    deployment.artifact.as_ref().is_some_and(|artifact| ops.settings.artifacts.join(artifact).is_dir())
}

/// Goes back to an earlier deployment, settings and variables included.
///
/// # Errors
/// Not found, not allowed, it was never built, or what was built is no longer there.
pub async fn deployment_rollback(ctx: &OpCtx, id: DeploymentId) -> Result<Opened<Deployment>, Error> {
    let of = deployment_for(ctx, id, Permission::Deploy).await?;
    if of.row.artifact.is_none() {
        return Err(Error::conflict("This deployment was never built: choose one that has served"));
    }
    if !is_kept(&ctx.ops, &of.row) {
        return Err(Error::conflict("What this deployment was built to is no longer there: deploy its source again"));
    }
    repeat(ctx, of, DeployReason::Rollback, "deployment_rollback").await
}

/// Deploys the newest source of a service again, apart from what was not approved. Of a service that was never deployed there is nothing
/// to do.
///
/// # Errors
/// Not found or not allowed.
pub async fn service_instance_redeploy(ctx: &OpCtx, environment: EnvironmentId, service: ServiceId) -> Result<Option<DeploymentId>, Error> {
    let instance = service::instance_for(ctx, environment, service, Permission::Deploy).await?;
    let place = environment::environment_get(ctx, environment).await?;
    let mut statuses_not_in = vec![DeploymentStatus::Skipped];
    if !approval::needed(ctx, &place.row) {
        statuses_not_in.push(DeploymentStatus::NeedsApproval);
    }
    let query = DeploymentQuery { environment: Some(environment), service: Some(service), statuses_not_in, ..DeploymentQuery::default() };
    let usable = |d: &Deployment| d.artifact.is_some() || d.source_blob.is_some();
    let Some(newest) = newest(ctx, instance.tenant, &query, usable).await? else { return Ok(None) };
    let made = repeat(ctx, instance.with(newest), DeployReason::Redeploy, "service_instance_redeploy").await?;
    Ok(Some(made.row.id))
}

/// Replaces the replicas of a deployment by new ones of the same artifact, without an interruption.
///
/// # Errors
/// Not found, not allowed, or it does not run.
pub async fn deployment_restart(ctx: &OpCtx, id: DeploymentId) -> Result<(), Error> {
    let of = deployment_for(ctx, id, Permission::Deploy).await?;
    let restartable = matches!(of.row.status, DeploymentStatus::Success | DeploymentStatus::Crashed | DeploymentStatus::Sleeping);
    if !restartable || of.row.artifact.is_none() {
        return Err(Error::conflict(format!("A deployment that is {} cannot be restarted: redeploy it instead", of.row.status.as_str())));
    }
    let changes = vec![
        Change::DeploymentRestart { id, from: of.row.status, at: ctx.now },
        ctx.activity_about(of.tenant, (of.row.project_id, of.row.instance_id), "deployment_restart", id, json!({})),
    ];
    changed(ctx, &of, changes).await
}

/// Between two looks at a deployment the engine moves it at most through its states once.
const MOVES: usize = 8;

/// Takes a deployment out of service. One that is still being built is canceled.
///
/// # Errors
/// Not found, not allowed, or it is out of service already.
pub async fn deployment_remove(ctx: &OpCtx, id: DeploymentId) -> Result<(), Error> {
    for attempt in 1.. {
        let of = deployment_for(ctx, id, Permission::Deploy).await?;
        if of.row.status == DeploymentStatus::NeedsApproval {
            return approval::refuse(ctx, &of, "deployment_remove").await;
        }
        let Some(removal) = removal(&of.row, ctx.now) else {
            return Err(Error::conflict(format!("This deployment is {} already", of.row.status.as_str())));
        };
        let activity =
            ctx.activity_about(of.tenant, (of.row.project_id, of.row.instance_id), "deployment_remove", id, json!({"was": of.row.status}));
        match changed(ctx, &of, vec![removal, activity]).await {
            // The engine has moved it on between the two; whatever it is now can be removed too, or says why not.
            Err(error) if error.code == Code::Conflict && attempt < MOVES => {}
            done => return done,
        }
    }
    Ok(())
}

/// Ends a deployment that is not decided yet.
///
/// # Errors
/// Not found, not allowed, or it is decided.
pub async fn deployment_cancel(ctx: &OpCtx, id: DeploymentId) -> Result<(), Error> {
    let of = deployment_for(ctx, id, Permission::Deploy).await?;
    if of.row.status == DeploymentStatus::NeedsApproval {
        return approval::refuse(ctx, &of, "deployment_cancel").await;
    }
    let removal = removal(&of.row, ctx.now).filter(|_| of.row.status.is_pending());
    let Some(removal) = removal else {
        return Err(Error::conflict(format!("This deployment is {}: only one that is under way can be canceled", of.row.status.as_str())));
    };
    let activity = ctx.activity_about(
        of.tenant,
        (of.row.project_id, of.row.instance_id),
        "deployment_cancel",
        id,
        json!({"was": of.row.status, "snapshot": of.row.snapshot_id}),
    );
    changed(ctx, &of, vec![removal, activity]).await
}

/// Ends the replicas of a deployment that stays the service's current one.
///
/// # Errors
/// Not found, not allowed, or it does not run.
pub async fn deployment_stop(ctx: &OpCtx, id: DeploymentId) -> Result<(), Error> {
    let of = deployment_for(ctx, id, Permission::Deploy).await?;
    if of.row.status != DeploymentStatus::Success {
        return Err(Error::conflict(format!("This deployment is {}: only one that runs can be stopped", of.row.status.as_str())));
    }
    let activity = ctx.activity_about(of.tenant, (of.row.project_id, of.row.instance_id), "deployment_stop", id, json!({}));
    changed(ctx, &of, vec![Change::DeploymentStopped { id, stopped: true, of: None, at: ctx.now }, activity]).await
}

pub(crate) async fn changed(ctx: &OpCtx, of: &Opened<Deployment>, changes: Vec<Change>) -> Result<(), Error> {
    ctx.commit(of.tenant, changes).await?;
    ctx.ops.signals.wake(of.tenant.workspace(), of.row.instance_id);
    ctx.ops.signals.deployment_changed(of.row.id);
    Ok(())
}

/// The change that takes a deployment out of service, if there is anything to take.
pub(crate) fn removal(deployment: &Deployment, at: Timestamp) -> Option<Change> {
    project::removable(deployment.status).then(|| Change::DeploymentMove {
        id: deployment.id,
        from: deployment.status,
        to: DeploymentStatus::Removing,
        reason: None,
        at,
    })
}

/// A deployment as it is now and after each change. Ends when the deployment is deleted, never before.
///
/// # Errors
/// Not found or not allowed.
pub async fn deployment_watch(ctx: &OpCtx, id: DeploymentId) -> Result<impl Stream<Item = Deployment> + Send + use<>, Error> {
    let changes = ctx.ops.signals.changes();
    let opened = deployment_get(ctx, id).await?;
    let (store, tenant) = (ctx.ops.store.clone(), opened.tenant);
    Ok(async_stream::stream! {
        let mut changes = changes;
        let mut seen = opened.row.clone();
        yield opened.row;
        loop {
            wait_for(&mut changes, id).await;
            match store.deployment(id).await {
                Ok(Some(sealed)) => {
                    if let Some(row) = sealed.open(tenant) && row != seen {
                        seen = row.clone();
                        yield row;
                    }
                }
                Ok(None) => break,
                Err(error) => tracing::warn!(%error, "a watched deployment could not be read; the next change tries again"),
            }
        }
    })
}

/// The steps of a deployment: those so far, then each new one and each that ends.
///
/// # Errors
/// Not found or not allowed.
pub async fn deployment_events_watch(ctx: &OpCtx, id: DeploymentId) -> Result<impl Stream<Item = DeploymentEvent> + Send + use<>, Error> {
    let changes = ctx.ops.signals.changes();
    let opened = deployment_get(ctx, id).await?;
    let (store, tenant) = (ctx.ops.store.clone(), opened.tenant);
    Ok(async_stream::stream! {
        let mut changes = changes;
        let mut seen: BTreeMap<EventId, DeploymentEvent> = BTreeMap::new();
        loop {
            match store.deployment_events(tenant, id).await {
                Ok(events) => {
                    for event in events {
                        if seen.get(&event.id) != Some(&event) {
                            seen.insert(event.id, event.clone());
                            yield event;
                        }
                    }
                }
                Err(error) => tracing::warn!(%error, "the events of a watched deployment could not be read; the next change tries again"),
            }
            wait_for(&mut changes, id).await;
        }
    })
}

/// Waits until something may have changed about a deployment.
pub(crate) async fn wait_for(changes: &mut tokio::sync::broadcast::Receiver<Signal>, id: DeploymentId) {
    use tokio::sync::broadcast::error::RecvError;
    loop {
        match changes.recv().await {
            Ok(Signal::Deployment(changed)) if changed != id => {}
            // The last: something was missed. Look.
            Ok(Signal::Deployment(_) | Signal::DeploymentsDeleted) | Err(RecvError::Lagged(_)) => return,
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}
