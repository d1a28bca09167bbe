//! Templates, and deploying them (`contracts/railway.md` 3.5). They are files in `templates/`; a new file there is a new template.

mod catalogue;
mod source;

use std::collections::BTreeMap;

use domain::deployment::{DeployReason, Deployment, EventStep};
use domain::project::{Domain, Environment, Instance, Project, Service};
use domain::spec::{InstanceSpec, RestartPolicy, Source};
use domain::tcp_proxy::ProxyKind;
use domain::template::TemplateService;
use domain::volume::mount_path;
use domain::{EnvironmentId, Permission, ProjectId, ServiceId, Tenant, name};
use serde_json::{Value, json};
use store::Change;

use crate::context::{Opened, anew};
use crate::variable::Surroundings;
use crate::{Error, OpCtx, batch, deployment, domain_name, environment, project, secret, service, tcp_proxy, variable, volume};

pub use catalogue::{Entry, catalogue, find, server_for, service_for_image, template_of_image};

/// What is to be deployed.
#[derive(Clone, Debug)]
pub struct TemplateDeploy {
    /// The project; a new one when absent.
    pub project: Option<ProjectId>,
    /// The environment; the project's oldest when absent.
    pub environment: Option<EnvironmentId>,
    /// The template's id or code.
    pub template: String,
    /// The template's configuration as the client completed it; as it stands in the template when absent.
    pub config: Option<Value>,
}

/// What a deployed template led to.
#[derive(Clone, Debug)]
pub struct TemplateDeployed {
    /// The project.
    pub project: ProjectId,
    /// What clients wait for.
    pub workflow: String,
    /// The services, in the order of the template.
    pub services: Vec<Service>,
}

/// One service as it is going to be.
struct Wanted {
    name: String,
    icon: Option<String>,
    spec: InstanceSpec,
    variables: BTreeMap<String, String>,
    mount_path: Option<String>,
    tcp_port: Option<u16>,
    /// It has an address that stays although replicas change their ports.
    private: bool,
    domain: bool,
    files: BTreeMap<String, String>,
}

/// The most services of one deployment of a template.
const MAX_SERVICES: usize = 20;

/// Deploys a template: services, instances, volumes, ports, generated variables and deployments in one commit.
///
/// # Errors
/// An unknown template, a configuration of another shape, not found, or not allowed.
pub async fn template_deploy(ctx: &OpCtx, input: TemplateDeploy) -> Result<TemplateDeployed, Error> {
    let (project, environment) = place(ctx, input.project, input.environment).await?;
    let entry = find(&input.template).ok_or_else(|| Error::not_found("Template"))?;
    let config = input.config.unwrap_or_else(|| entry.serialized_config());
    let services = anew(|| deploy_once(ctx, &project, &environment, entry, &config)).await?;
    let workflow = format!("deployTemplate/project/{}/{}", project.row.id, secret::suffix());
    Ok(TemplateDeployed { project: project.row.id, workflow, services })
}

async fn deploy_once(
    ctx: &OpCtx,
    project: &Opened<Project>,
    environment: &Opened<Environment>,
    entry: &Entry,
    config: &Value,
) -> Result<Vec<Service>, Error> {
    let mut wanted = wanted(entry, config)?;
    let taken = ctx.ops.store.services_of(project.tenant, &[project.row.id]).await?;
    rename(&mut wanted, &taken);
    let made = make(ctx, &project.row, environment, wanted).await?;
    let tenant = project.tenant;
    let services: Vec<Service> = made.iter().map(|one| one.service.clone()).collect();
    let names: Vec<&str> = services.iter().map(|service| service.name.as_str()).collect();
    let woken: Vec<_> = made.iter().map(|one| one.instance.id).collect();
    let activity =
        ctx.activity(tenant, Some(project.row.id), "template_deploy", entry.id(), json!({"code": entry.template.code, "services": names}));
    let mut changes = assemble(ctx, environment, &made).await?;
    changes.push(activity);
    ctx.ops.store.commit(tenant, changes).await.map_err(|error| {
        Error::from(error).when_taken("a name or port that the template needs was taken in the meantime: deploy it again")
    })?;
    for instance in woken {
        ctx.ops.signals.wake(tenant.workspace(), instance);
    }
    Ok(services)
}

async fn place(
    ctx: &OpCtx,
    project: Option<ProjectId>,
    environment: Option<EnvironmentId>,
) -> Result<(Opened<Project>, Opened<Environment>), Error> {
    let Some(id) = project else {
        let made = project::project_create(ctx, project::ProjectCreate::default()).await?;
        let environments = ctx.ops.store.environments_of(made.tenant, &[made.row.id]).await?;
        let first = environments.into_iter().next().ok_or_else(|| Error::not_found("Environment"))?;
        let environment = made.with(first);
        return Ok((made, environment));
    };
    let opened = project::project_for(ctx, id, Permission::Read).await?;
    let environment = match environment {
        Some(environment) => environment::environment_for(ctx, environment, Permission::Write).await?,
        None => {
            let all = ctx.ops.store.environments_of(opened.tenant, &[id]).await?;
            let oldest = all.iter().find(|row| !row.is_ephemeral).ok_or_else(|| Error::not_found("Environment"))?;
            environment::environment_for(ctx, oldest.id, Permission::Write).await?
        }
    };
    if environment.row.project_id != id {
        return Err(Error::not_found("Environment"));
    }
    Ok((opened, environment))
}

fn text(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer).and_then(Value::as_str).filter(|text| !text.trim().is_empty()).map(str::to_owned)
}

fn first_key(value: &Value, pointer: &str) -> Option<String> {
    value.pointer(pointer).and_then(Value::as_object).and_then(|map| map.keys().next().cloned())
}

/// Reads the configuration. What a service of the template runs comes from the template's file, whatever the client says.
fn wanted(entry: &Entry, config: &Value) -> Result<Vec<Wanted>, Error> {
    let services = config.pointer("/services").and_then(Value::as_object).filter(|services| !services.is_empty());
    let services = services.ok_or_else(|| Error::bad_input("serializedConfig has no services: send the template's own, completed"))?;
    if services.len() > MAX_SERVICES {
        return Err(Error::bad_input(format!("a template may have {MAX_SERVICES} services: deploy it in parts")));
    }
    services.iter().map(|(key, given)| wanted_service(entry.service(key), given)).collect()
}

fn wanted_service(known: Option<&TemplateService>, given: &Value) -> Result<Wanted, Error> {
    let image = known.map_or_else(|| text(given, "/source/image"), |known| known.image.clone());
    let files = known.map(|known| known.files.clone()).unwrap_or_default();
    if image.is_none() && files.is_empty() {
        return Err(Error::bad_input("a service of serializedConfig has neither an image nor a source that this server knows"));
    }
    let chosen = text(given, "/name").or_else(|| known.map(|known| known.name.clone())).unwrap_or_else(secret::friendly_name);
    let private = image.as_deref().is_some_and(|image| server_for(image).is_some());
    let mut spec = InstanceSpec { source: image.map(Source::Image), ..InstanceSpec::default() };
    spec.deploy.start_command = text(given, "/deploy/startCommand").filter(|_| known.is_none() && !private);
    spec.deploy.healthcheck_path = text(given, "/deploy/healthcheckPath");
    if let Some(seconds) = known.and_then(|known| known.draining_seconds) {
        spec.deploy.draining_seconds = seconds;
    }
    if private {
        spec.deploy.restart_policy_type = RestartPolicy::Always;
    }
    spec.check()?;
    let mount = given.pointer("/volumeMounts").and_then(Value::as_object).and_then(|mounts| mounts.values().next());
    let mount = mount.and_then(|mount| text(mount, "/mountPath")).map(|path| mount_path(&path)).transpose()?;
    let port = first_key(given, "/networking/tcpProxies");
    let port =
        port.map(|port| port.parse::<u16>().map_err(|_| Error::bad_input(format!("{port:?} is not a port: 1 to 65535")))).transpose()?;
    Ok(Wanted {
        name: name::display("service name", &chosen)?,
        icon: text(given, "/icon"),
        spec,
        variables: variables(given)?,
        mount_path: mount,
        tcp_port: port,
        private,
        domain: first_key(given, "/networking/serviceDomains").is_some(),
        files,
    })
}

/// The value that the client put in, or the default; generators run when it is written.
fn variables(given: &Value) -> Result<BTreeMap<String, String>, Error> {
    let mut all = BTreeMap::new();
    for (key, variable) in given.pointer("/variables").and_then(Value::as_object).into_iter().flatten() {
        name::variable(key)?;
        let generator = variable.get("generator").and_then(Value::as_str).map(|call| format!("${{{{{call}}}}}"));
        let value = ["value", "defaultValue"].iter().find_map(|field| variable.get(field).and_then(Value::as_str));
        let Some(value) = value.map(str::to_owned).or(generator) else { continue };
        all.insert(key.clone(), value);
    }
    Ok(all)
}

/// Gives services whose name is taken another one, also where the template's other services refer to it. Domains and volumes are called
/// after the slug, so that no two services of the template may have the same.
fn rename(wanted: &mut [Wanted], taken: &[Service]) {
    let mut names: Vec<String> = taken.iter().map(|service| service.name.to_lowercase()).collect();
    let (mut renamed, mut slugs) = (vec![], vec![]);
    for one in wanted.iter_mut() {
        if names.contains(&one.name.to_lowercase()) || slugs.contains(&name::slug(&one.name, "service")) {
            let fresh = format!("{}-{}", one.name, secret::suffix());
            renamed.push((format!("${{{{{}.", one.name), format!("${{{{{fresh}.")));
            one.name = fresh;
        }
        names.push(one.name.to_lowercase());
        slugs.push(name::slug(&one.name, "service"));
    }
    for value in wanted.iter_mut().flat_map(|one| one.variables.values_mut()) {
        for (before, after) in &renamed {
            *value = value.replace(before, after);
        }
    }
}

/// A service with everything of it.
struct Made {
    wanted: Wanted,
    service: Service,
    instance: Instance,
    domain: Option<Domain>,
    blob: Option<String>,
}

async fn make(ctx: &OpCtx, project: &Project, environment: &Opened<Environment>, wanted: Vec<Wanted>) -> Result<Vec<Made>, Error> {
    let mut made = vec![];
    for one in wanted {
        let service = service::new_service(ctx, project, one.name.clone(), one.icon.clone());
        let instance = service::new_instance(ctx, &environment.row, service.id, one.spec.clone());
        let domain = match one.domain {
            // Their slugs differ, see `rename`.
            true => Some(domain_name::free_service_domain(ctx, &environment.row, &service, None, &[]).await?),
            false => None,
        };
        let blob = match one.files.is_empty() {
            true => None,
            false => Some(source::store(&ctx.ops.settings.blobs, &one.files, ctx.now)?),
        };
        made.push(Made { wanted: one, service, instance, domain, blob });
    }
    Ok(made)
}

/// The changes, parents first; variables are rendered over what is there and what comes.
async fn assemble(ctx: &OpCtx, environment: &Opened<Environment>, made: &[Made]) -> Result<Vec<Change>, Error> {
    let tenant = environment.tenant;
    let mut changes = vec![];
    batch::rest_on(ctx, tenant, environment.row.id, &mut changes).await?;
    let mut surroundings = Surroundings::load(ctx, environment).await?;
    let mut rows = ctx.ops.store.variables(tenant, environment.row.id).await?;
    for one in made {
        changes.push(Change::ServiceInsert(one.service.clone()));
        changes.push(Change::InstanceInsert(one.instance.clone()));
        surroundings.services.push(one.service.clone());
        if let Some(domain) = &one.domain {
            changes.push(Change::DomainInsert(domain.clone()));
            surroundings.add_domain(domain.clone());
        }
        let written = one.wanted.variables.iter().map(|(name, value)| (name.clone(), (value.clone(), None))).collect();
        changes.extend(variable::write(ctx, &environment.row, Some(one.service.id), written, &mut rows)?);
    }
    changes.extend(volumes(ctx, environment, made, &mut surroundings).await?);
    changes.extend(ports(ctx, made, &mut surroundings).await?);
    let scope = surroundings.scope(ctx, &rows);
    variable::refuse_circles(&scope, &surroundings.services, &changes)?;
    let deployment = |one: &Made| Deployment {
        source_blob: one.blob.clone(),
        ..deployment::fresh(ctx, &one.instance, DeployReason::Deploy, one.instance.spec.clone())
    };
    let mut deployments: Vec<_> = made.iter().map(|one| (deployment(one), variable::render_frozen(&scope, &one.service.name))).collect();
    let name_of = |id: ServiceId| made.iter().find(|one| one.service.id == id).map(|one| one.service.name.as_str());
    batch::put_in_order(&scope, name_of, &mut deployments);
    for (mut deployment, variables) in deployments {
        let step = deployment::event(ctx, deployment.id, EventStep::SnapshotCode);
        changes.extend(deployment::insertion(ctx, &environment.row, &mut deployment, variables));
        changes.push(Change::EventInsert(step));
    }
    Ok(changes)
}

async fn volumes(
    ctx: &OpCtx,
    environment: &Opened<Environment>,
    made: &[Made],
    surroundings: &mut Surroundings,
) -> Result<Vec<Change>, Error> {
    let tenant = environment.tenant;
    let mut changes = vec![];
    for one in made {
        let Some(path) = &one.wanted.mount_path else { continue };
        let wanted = format!("{}-volume", name::slug(&one.service.name, "service"));
        let row = volume::new_volume(
            ctx,
            tenant,
            environment.row.project_id,
            volume::free_name(ctx, tenant, environment.row.project_id, &wanted).await?,
        );
        let mount = volume::new_volume_instance(ctx, &environment.row, row.id, Some(one.service.id), path.clone());
        surroundings.mount(one.service.id, Some((&mount, &row.name)));
        changes.extend([Change::VolumeInsert(row), Change::VolumeInstanceInsert(mount)]);
    }
    Ok(changes)
}

async fn ports(ctx: &OpCtx, made: &[Made], surroundings: &mut Surroundings) -> Result<Vec<Change>, Error> {
    const BOTH: [ProxyKind; 2] = [ProxyKind::Public, ProxyKind::Private];
    let kinds = |one: &Made| if one.wanted.private { &BOTH[..] } else { &BOTH[..1] };
    let wanted: Vec<_> = made.iter().filter_map(|one| Some((&one.instance, kinds(one), one.wanted.tcp_port?))).collect();
    let rows = tcp_proxy::several(ctx, &wanted).await?;
    surroundings.add_proxies(&rows);
    Ok(rows.into_iter().map(Change::TcpProxyInsert).collect())
}

/// Where a workflow that a client waits for stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Workflow {
    /// It goes on.
    Running,
    /// It has ended well.
    Complete,
    /// It has failed, and why.
    Failed(String),
    /// There is none of that name, or it is another workspace's.
    NotFound,
}

/// Looks after a workflow by the id that a mutation answered.
///
/// # Errors
/// No credential, or the store does not answer.
pub async fn workflow_status(ctx: &OpCtx, workflow: &str) -> Result<Workflow, Error> {
    if matches!(ctx.principal, crate::Principal::Anonymous) {
        return Err(ctx.unauthenticated());
    }
    let found = match workflow.split('/').collect::<Vec<_>>()[..] {
        // What a template makes, and what a patch changes, is there before the workflow's id is.
        ["deployTemplate" | "commitEnvironmentPatch", "project", id, _] => match id.parse() {
            Ok(id) => project::project_get(ctx, id).await.map(|_| Workflow::Complete),
            Err(_) => return Ok(Workflow::NotFound),
        },
        [kind @ ("volumeBackup" | "volumeRestore"), volume, backup] => match (volume.parse(), backup.parse()) {
            (Ok(volume), Ok(backup)) => crate::backup::workflow(ctx, kind == "volumeRestore", volume, backup).await,
            _ => return Ok(Workflow::NotFound),
        },
        _ => return Ok(Workflow::NotFound),
    };
    match found {
        Err(error) if matches!(error.code, domain::Code::NotFound | domain::Code::Forbidden) => Ok(Workflow::NotFound),
        found => found,
    }
}

/// The tenant's services that stand for databases as clients before 2024 knew them, with the engine's name.
///
/// # Errors
/// The store does not answer.
pub async fn plugins_of(ctx: &OpCtx, tenant: Tenant, services: &[Service]) -> Result<Vec<(Service, &'static str)>, Error> {
    let ids: Vec<ServiceId> = services.iter().map(|service| service.id).collect();
    let instances = ctx.ops.store.instances_of_services(tenant, &ids).await?;
    let kind = |service: &Service| instances.iter().filter(|instance| instance.service_id == service.id).find_map(plugin_kind);
    Ok(services.iter().filter_map(|service| Some((service.clone(), kind(service)?))).collect())
}

/// Whether it runs a server of the machine: then there is nothing to build, and each deployment is as good as the first.
pub(crate) fn is_server(spec: &InstanceSpec) -> bool {
    matches!(&spec.source, Some(Source::Image(image)) if server_for(image).is_some())
}

/// The engine's name, for an instance that is a database.
pub fn plugin_kind(instance: &Instance) -> Option<&'static str> {
    match &instance.spec.source {
        Some(Source::Image(image)) => template_of_image(image)?.template.plugin.as_deref(),
        _ => None,
    }
}
