//! Variables of services and environments.

use std::collections::BTreeMap;

use domain::galaxy::{LARGEST_SETTINGS, SETTINGS};
use domain::project::{Environment, Service};
use domain::tcp_proxy::{ProxyKind, TcpProxy};
use domain::variable::{Scope, Variable, generate};
use domain::volume::VolumeInstance;
use domain::{EnvironmentId, Permission, ProjectId, ServiceId, VolumeInstanceId, name};
use serde_json::json;
use store::Change;

use crate::batch::{self, State};
use crate::context::{Opened, anew};
use crate::{Error, OpCtx, environment, service};

/// How variables are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// As written.
    Raw,
    /// With references replaced.
    Rendered,
    /// What a deployment gets: rendered, with shared and provided ones. Sealed ones have no value.
    ForDeployment,
}

/// How a collection is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct Upsert {
    /// Variables that are not in the collection go away.
    pub replace: bool,
    /// The change waits for the next deployment.
    pub skip_deploys: bool,
}

/// The largest value in bytes.
const MAX_VALUE: usize = 64 * 1024;

/// The most variables of one service, and of those that an environment shares.
const MAX_VARIABLES: usize = 1_000;

/// Replicas of the process driver share the machine's loopback interface. By its address: some clients of databases take the name `localhost`
/// for a socket file.
const PRIVATE_DOMAIN: &str = "127.0.0.1";

async fn environment_of(ctx: &OpCtx, project: ProjectId, id: EnvironmentId, permission: Permission) -> Result<Opened<Environment>, Error> {
    let opened = environment::environment_for(ctx, id, permission).await?;
    if opened.row.project_id != project {
        return Err(Error::not_found("Project"));
    }
    Ok(opened)
}

/// Variables of a service, or the shared ones of the environment. Sealed ones are in no view; where a deployment gets one, and where
/// another variable refers to one, nothing is shown in its place.
///
/// # Errors
/// Not found, or a role that may not read secrets.
pub async fn variables(
    ctx: &OpCtx,
    project: ProjectId,
    environment: EnvironmentId,
    service: Option<ServiceId>,
    view: View,
) -> Result<BTreeMap<String, Option<String>>, Error> {
    let opened = environment_of(ctx, project, environment, Permission::ReadSecrets).await?;
    let mut rows = ctx.ops.store.variables(opened.tenant, environment).await?;
    if view == View::Raw {
        let own = rows.into_iter().filter(|row| row.service_id == service && !row.is_sealed);
        return Ok(own.map(|row| (row.name, Some(row.value))).collect());
    }
    let sealed: Vec<(Option<ServiceId>, String)> =
        rows.iter().filter(|row| row.is_sealed).map(|row| (row.service_id, row.name.clone())).collect();
    let is_sealed = |owner: Option<ServiceId>, name: &str| sealed.iter().any(|(service, sealed)| *service == owner && sealed == name);
    rows.iter_mut().filter(|row| row.is_sealed).for_each(|row| row.value.clear());
    let context = Surroundings::load(ctx, &opened).await?;
    let scope = context.scope(ctx, &rows);
    let shown = |owner: Option<ServiceId>, values: BTreeMap<String, String>| -> BTreeMap<String, Option<String>> {
        let values = values.into_iter().map(|(name, value)| {
            let value = (!is_sealed(owner, &name)).then_some(value);
            (name, value)
        });
        values.filter(|(_, value)| value.is_some() || view == View::ForDeployment).collect()
    };
    let Some(service) = service else { return Ok(shown(None, scope.render_shared())) };
    let Some(found) = context.services.iter().find(|row| row.id == service) else { return Err(Error::not_found("Service")) };
    let mut all = if view == View::ForDeployment { shown(None, scope.render_shared()) } else { BTreeMap::new() };
    all.extend(shown(Some(service), scope.render(&found.name)));
    Ok(all)
}

/// What a reference from outside can reach in an environment, such as a workflow's node. Sealed variables are not among it: deployments alone
/// get them, and what refers to one has nothing in its place.
///
/// # Errors
/// Not found, or a role that may not read secrets.
pub async fn variables_in_reach(ctx: &OpCtx, environment: EnvironmentId) -> Result<Scope, Error> {
    let opened = environment::environment_for(ctx, environment, Permission::ReadSecrets).await?;
    let mut rows = ctx.ops.store.variables(opened.tenant, environment).await?;
    rows.retain(|row| !row.is_sealed);
    Ok(Surroundings::load(ctx, &opened).await?.scope(ctx, &rows))
}

/// What references of an environment can reach besides the variables themselves.
#[derive(Clone)]
pub(crate) struct Surroundings {
    environment: Environment,
    project_name: String,
    pub(crate) services: Vec<Service>,
    pub(crate) domains: Vec<domain::project::Domain>,
    /// Volumes that are attached, with their names.
    pub(crate) mounts: Vec<(VolumeInstance, String)>,
    pub(crate) proxies: Vec<TcpProxy>,
}

impl Surroundings {
    /// Those of an environment that is being made, with one service.
    pub(crate) fn alone(environment: &Environment, project_name: &str, service: Service, domains: Vec<domain::project::Domain>) -> Self {
        let (environment, project_name) = (environment.clone(), project_name.to_owned());
        Self { environment, project_name, services: vec![service], domains, mounts: vec![], proxies: vec![] }
    }

    pub(crate) async fn load(ctx: &OpCtx, environment: &Opened<Environment>) -> Result<Self, Error> {
        let (tenant, row) = (environment.tenant, &environment.row);
        let projects = ctx.ops.store.projects_by_id(tenant, &[row.project_id]).await?;
        let volumes = ctx.ops.store.volumes_of_projects(tenant, &[row.project_id]).await?;
        let mut mounts = ctx.ops.store.volume_instances_of_environments(tenant, &[row.id]).await?;
        mounts.retain(|mount| mount.service_id.is_some());
        let name = |mount: &VolumeInstance| volumes.iter().find(|volume| volume.id == mount.volume_id).map(|volume| volume.name.clone());
        Ok(Self {
            mounts: mounts.into_iter().map(|mount| (mount.clone(), name(&mount).unwrap_or_default())).collect(),
            proxies: ctx.ops.store.tcp_proxies_of_environments(tenant, &[row.id]).await?,
            environment: row.clone(),
            project_name: projects.into_iter().next().map(|project| project.name).unwrap_or_default(),
            services: ctx.ops.store.services_of(tenant, &[row.project_id]).await?,
            domains: ctx.ops.store.domains_of_environments(tenant, &[row.id]).await?,
        })
    }

    /// What the environment was copied from.
    pub(crate) fn source(&self) -> Option<EnvironmentId> {
        self.environment.source_environment_id
    }

    /// Everything that references can reach; a user's own variable wins over a provided one of the same name.
    pub(crate) fn scope(&self, ctx: &OpCtx, rows: &[Variable]) -> Scope {
        let mut scope = Scope::default();
        for service in &self.services {
            let mut map = self.provided(ctx, service);
            for row in rows.iter().filter(|row| row.service_id == Some(service.id)) {
                map.insert(row.name.clone(), row.value.clone());
            }
            scope.services.insert(service.name.clone(), map);
        }
        scope.shared = rows.iter().filter(|row| row.service_id.is_none()).map(|row| (row.name.clone(), row.value.clone())).collect();
        scope
    }

    /// The variables that the platform provides (`contracts/railway.md` 3.6), but for those of a replica.
    fn provided(&self, ctx: &OpCtx, service: &Service) -> BTreeMap<String, String> {
        let mut map: BTreeMap<String, String> = [
            ("RAILWAY_PROJECT_ID", self.environment.project_id.to_string()),
            ("RAILWAY_PROJECT_NAME", self.project_name.clone()),
            ("RAILWAY_ENVIRONMENT_ID", self.environment.id.to_string()),
            ("RAILWAY_ENVIRONMENT_NAME", self.environment.name.clone()),
            ("RAILWAY_ENVIRONMENT", self.environment.name.clone()),
            ("RAILWAY_SERVICE_ID", service.id.to_string()),
            ("RAILWAY_SERVICE_NAME", service.name.clone()),
            ("RAILWAY_PRIVATE_DOMAIN", PRIVATE_DOMAIN.to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        if let Some(domain) = self.domains.iter().find(|domain| domain.service_id == service.id) {
            map.insert("RAILWAY_PUBLIC_DOMAIN".into(), domain.domain.clone());
            map.insert("RAILWAY_STATIC_URL".into(), crate::domain_name::public_url(&ctx.ops.settings, domain));
        }
        if let Some((mount, name)) = self.mounts.iter().find(|(mount, _)| mount.service_id == Some(service.id)) {
            map.insert("RAILWAY_VOLUME_NAME".into(), name.clone());
            map.insert("RAILWAY_VOLUME_MOUNT_PATH".into(), mount.mount_path.clone());
        }
        for proxy in self.proxies.iter().filter(|proxy| proxy.service_id == service.id) {
            let port = proxy.proxy_port.to_string();
            match proxy.kind {
                ProxyKind::Public => {
                    map.insert("RAILWAY_TCP_PROXY_DOMAIN".into(), ctx.ops.settings.tcp_domain.clone());
                    map.insert("RAILWAY_TCP_PROXY_PORT".into(), port);
                    map.insert("RAILWAY_TCP_APPLICATION_PORT".into(), proxy.application_port.to_string());
                }
                // Where every service had an address of its own, this would be the application's port.
                ProxyKind::Private => drop(map.insert("RAILWAY_PRIVATE_PORT".into(), port)),
            }
        }
        map
    }

    /// The volume that the service has, and where.
    pub(crate) fn mounted(&self, service: ServiceId) -> Option<(VolumeInstanceId, &str)> {
        let found = self.mounts.iter().find(|(mount, _)| mount.service_id == Some(service));
        found.map(|(mount, _)| (mount.id, mount.mount_path.as_str()))
    }

    /// What the service has mounted from now on.
    pub(crate) fn mount(&mut self, service: ServiceId, mount: Option<(&VolumeInstance, &str)>) {
        self.mounts.retain(|(row, _)| row.service_id != Some(service) && mount.is_none_or(|(mount, _)| mount.id != row.id));
        self.mounts.extend(mount.map(|(mount, name)| (mount.clone(), name.to_owned())));
    }

    pub(crate) fn add_domain(&mut self, domain: domain::project::Domain) {
        self.domains.push(domain);
    }

    pub(crate) fn add_proxies(&mut self, rows: &[TcpProxy]) {
        self.proxies.extend_from_slice(rows);
    }

    /// What a deployment of the service gets, by name; sealed values included.
    pub(crate) fn render(&self, ctx: &OpCtx, rows: &[Variable], service: &str) -> BTreeMap<String, String> {
        render_frozen(&self.scope(ctx, rows), service)
    }

    /// The same by id, over the variables as they are; `None` for a service that is not there.
    pub(crate) async fn frozen(
        &self,
        ctx: &OpCtx,
        environment: &Opened<Environment>,
        service: ServiceId,
    ) -> Result<Option<BTreeMap<String, String>>, Error> {
        let Some(found) = self.services.iter().find(|row| row.id == service) else { return Ok(None) };
        let rows = ctx.ops.store.variables(environment.tenant, environment.row.id).await?;
        Ok(Some(self.render(ctx, &rows, &found.name)))
    }
}

/// What a deployment of the service gets, sealed values included: for the store, never for a client.
pub(crate) async fn frozen(ctx: &OpCtx, environment: &Opened<Environment>, service: &str) -> Result<BTreeMap<String, String>, Error> {
    let rows = ctx.ops.store.variables(environment.tenant, environment.row.id).await?;
    let surroundings = Surroundings::load(ctx, environment).await?;
    Ok(render_frozen(&surroundings.scope(ctx, &rows), service))
}

pub(crate) fn render_frozen(scope: &Scope, service: &str) -> BTreeMap<String, String> {
    let mut all = scope.render_shared();
    all.extend(scope.render(service));
    all
}

/// Checks names and sizes, makes up what generators ask for, and puts the values into `rows`: the changes that write them.
pub(crate) fn write(
    ctx: &OpCtx,
    environment: &Environment,
    service: Option<ServiceId>,
    values: BTreeMap<String, (String, Option<bool>)>,
    rows: &mut Vec<Variable>,
) -> Result<Vec<Change>, Error> {
    let mut changes = vec![];
    let mut count = rows.iter().filter(|row| row.service_id == service).count();
    for (key, (value, seal)) in values {
        name::variable(&key)?;
        // The settings of a Meteor app, whichever way they come.
        let most = if key == SETTINGS { LARGEST_SETTINGS } else { MAX_VALUE };
        if value.len() > most {
            return Err(Error::bad_input(format!("the value of {key} is larger than {most} bytes: keep large data in a file or a volume")));
        }
        let old = rows.iter().position(|row| row.service_id == service && row.name == key);
        let was_sealed = old.is_some_and(|at| rows[at].is_sealed);
        if was_sealed && seal == Some(false) {
            return Err(Error::bad_input(format!("{key} is sealed and stays so: delete it and make it anew to read it again")));
        }
        let row = Variable {
            workspace_id: environment.workspace_id,
            project_id: environment.project_id,
            environment_id: environment.id,
            service_id: service,
            value: generate(&value, &mut rand::rng()).ok_or_else(|| {
                Error::bad_input(format!("the generators in {key} make more than {MAX_VALUE} bytes: ask for shorter values"))
            })?,
            is_sealed: was_sealed || seal == Some(true),
            name: key,
            updated_at: ctx.now,
        };
        match old {
            Some(at) => rows[at] = row.clone(),
            None => {
                count += 1;
                if count > MAX_VARIABLES {
                    return Err(Error::bad_input(format!(
                        "a service or an environment has {MAX_VARIABLES} variables at most: keep larger settings in a file or a volume"
                    )));
                }
                rows.push(row.clone());
            }
        }
        changes.push(Change::VariableSet(row));
    }
    Ok(changes)
}

/// Refuses variables of which some that were just written lead back to themselves.
pub(crate) fn refuse_circles(scope: &Scope, services: &[Service], changes: &[Change]) -> Result<(), Error> {
    let names: BTreeMap<ServiceId, &str> = services.iter().map(|service| (service.id, service.name.as_str())).collect();
    let written = changes.iter().filter_map(|change| match change {
        Change::VariableSet(row) => match row.service_id {
            None => Some((None, row.name.as_str())),
            Some(id) => Some((Some(*names.get(&id)?), row.name.as_str())),
        },
        _ => None,
    });
    match scope.circle(written) {
        None => Ok(()),
        Some(circle) => Err(Error::bad_input(format!(
            "variables refer to each other in a circle: {}; write one of them without a reference",
            circle.join(" -> ")
        ))),
    }
}

/// Writes variables; one new deployment of each service whose variables are others then follows, unless it is to wait.
///
/// # Errors
/// A bad name, a value over 64 KB, more than 1,000 variables, references in a circle, not found, or not allowed.
pub async fn variable_collection_upsert(
    ctx: &OpCtx,
    project: ProjectId,
    environment: EnvironmentId,
    service: Option<ServiceId>,
    values: BTreeMap<String, String>,
    how: Upsert,
) -> Result<(), Error> {
    anew(|| upsert_once(ctx, project, environment, service, values.clone(), how)).await
}

async fn upsert_once(
    ctx: &OpCtx,
    project: ProjectId,
    environment: EnvironmentId,
    service: Option<ServiceId>,
    values: BTreeMap<String, String>,
    how: Upsert,
) -> Result<(), Error> {
    let opened = environment_of(ctx, project, environment, Permission::Write).await?;
    if let Some(service) = service {
        service::service_get(ctx, service).await?;
        service::instance_for(ctx, environment, service, Permission::Write).await?;
    }
    let before = State::load(ctx, &opened).await?;
    let mut after = before.clone();
    let names: Vec<String> = values.keys().cloned().collect();
    let written = values.into_iter().map(|(key, value)| (key, (value, None))).collect();
    let mut changes = vec![];
    // First, so that what goes does not count with what comes.
    if how.replace {
        let gone = |row: &Variable| row.service_id == service && !names.contains(&row.name);
        changes.extend(after.variables.iter().filter(|row| gone(row)).map(|row| Change::VariableDelete {
            environment,
            service,
            name: row.name.clone(),
        }));
        after.variables.retain(|row| !gone(row));
    }
    changes.extend(write(ctx, &opened.row, service, written, &mut after.variables)?);
    refuse_circles(&after.scope(ctx), &after.surroundings.services, &changes)?;
    let data = json!({"names": names, "service": service});
    changes.push(ctx.activity(opened.tenant, Some(project), "variable_collection_upsert", environment, data));
    batch::commit(ctx, &opened, &before, &after, changes, how.skip_deploys).await
}

/// Deletes a variable.
///
/// # Errors
/// Not found or not allowed.
pub async fn variable_delete(
    ctx: &OpCtx,
    project: ProjectId,
    environment: EnvironmentId,
    service: Option<ServiceId>,
    key: &str,
) -> Result<(), Error> {
    anew(|| delete_once(ctx, project, environment, service, key)).await
}

async fn delete_once(
    ctx: &OpCtx,
    project: ProjectId,
    environment: EnvironmentId,
    service: Option<ServiceId>,
    key: &str,
) -> Result<(), Error> {
    let opened = environment_of(ctx, project, environment, Permission::Write).await?;
    let before = State::load(ctx, &opened).await?;
    let mut after = before.clone();
    let Some(at) = after.variables.iter().position(|row| row.service_id == service && row.name == key) else {
        return Err(Error::not_found("Variable"));
    };
    after.variables.remove(at);
    let changes = vec![
        Change::VariableDelete { environment, service, name: key.to_owned() },
        ctx.activity(opened.tenant, Some(project), "variable_delete", environment, json!({"name": key, "service": service})),
    ];
    batch::commit(ctx, &opened, &before, &after, changes, false).await
}
