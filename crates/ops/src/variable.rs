//! Variables of services and environments.

use std::collections::BTreeMap;

use domain::project::{Environment, Instance, Service};
use domain::variable::{Scope, Variable};
use domain::{EnvironmentId, Permission, ProjectId, ServiceId, Tenant, name};
use serde_json::json;
use store::Change;

use crate::context::Opened;
use crate::{Error, OpCtx, deployment, environment, service};

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

async fn environment_of(ctx: &OpCtx, project: ProjectId, id: EnvironmentId, permission: Permission) -> Result<Opened<Environment>, Error> {
    let opened = environment::environment_for(ctx, id, permission).await?;
    if opened.row.project_id != project {
        return Err(Error::not_found("Project"));
    }
    Ok(opened)
}

/// Variables of a service, or the shared ones of the environment.
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
    let rows = ctx.ops.store.variables(opened.tenant, environment).await?;
    let sealed = |name: &str| rows.iter().any(|row| row.service_id == service && row.name == name && row.is_sealed);
    if view == View::Raw {
        let own = rows.iter().filter(|row| row.service_id == service && !row.is_sealed);
        return Ok(own.map(|row| (row.name.clone(), Some(row.value.clone()))).collect());
    }
    let context = Surroundings::load(ctx, &opened).await?;
    let scope = context.scope(ctx, &rows);
    let Some(service) = service else {
        return Ok(scope.render_shared().into_iter().filter(|(name, _)| !sealed(name)).map(|(name, value)| (name, Some(value))).collect());
    };
    let Some(found) = context.services.iter().find(|row| row.id == service) else { return Err(Error::not_found("Service")) };
    let rendered = scope.render(&found.name);
    Ok(match view {
        View::ForDeployment => {
            let mut all: BTreeMap<_, _> = scope.render_shared().into_iter().map(|(name, value)| (name, Some(value))).collect();
            for (name, value) in rendered {
                let value = (!sealed(&name)).then_some(value);
                all.insert(name, value);
            }
            all
        }
        _ => rendered.into_iter().filter(|(name, _)| !sealed(name)).map(|(name, value)| (name, Some(value))).collect(),
    })
}

/// What references of an environment can reach besides the variables themselves.
pub(crate) struct Surroundings {
    environment: Environment,
    project_name: String,
    pub(crate) services: Vec<Service>,
    domains: Vec<domain::project::Domain>,
}

impl Surroundings {
    pub(crate) async fn load(ctx: &OpCtx, environment: &Opened<Environment>) -> Result<Self, Error> {
        let (tenant, row) = (environment.tenant, &environment.row);
        let projects = ctx.ops.store.projects_by_id(tenant, &[row.project_id]).await?;
        Ok(Self {
            environment: row.clone(),
            project_name: projects.into_iter().next().map(|project| project.name).unwrap_or_default(),
            services: ctx.ops.store.services_of(tenant, &[row.project_id]).await?,
            domains: ctx.ops.store.domains_of_environments(tenant, &[row.id]).await?,
        })
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
            // Replicas of the process driver share the machine's loopback interface.
            ("RAILWAY_PRIVATE_DOMAIN", "localhost".to_owned()),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
        if let Some(domain) = self.domains.iter().find(|domain| domain.service_id == service.id) {
            map.insert("RAILWAY_PUBLIC_DOMAIN".into(), domain.domain.clone());
            map.insert("RAILWAY_STATIC_URL".into(), crate::domain_name::public_url(&ctx.ops.settings, domain));
        }
        map
    }
}

/// What a deployment of the service gets, sealed values included: for the store, never for a client.
pub(crate) async fn frozen(ctx: &OpCtx, environment: &Opened<Environment>, service: &str) -> Result<BTreeMap<String, String>, Error> {
    let rows = ctx.ops.store.variables(environment.tenant, environment.row.id).await?;
    let surroundings = Surroundings::load(ctx, environment).await?;
    Ok(render_frozen(&surroundings.scope(ctx, &rows), service))
}

fn render_frozen(scope: &Scope, service: &str) -> BTreeMap<String, String> {
    let mut all = scope.render_shared();
    all.extend(scope.render(service));
    all
}

/// Writes variables; one new deployment of each service that runs follows, unless it is to wait.
///
/// # Errors
/// A bad name, a value over 64 KB, not found, or not allowed.
pub async fn variable_collection_upsert(
    ctx: &OpCtx,
    project: ProjectId,
    environment: EnvironmentId,
    service: Option<ServiceId>,
    values: BTreeMap<String, String>,
    how: Upsert,
) -> Result<(), Error> {
    let opened = environment_of(ctx, project, environment, Permission::Write).await?;
    let mut rows = ctx.ops.store.variables(opened.tenant, environment).await?;
    if let Some(service) = service {
        service::service_get(ctx, service).await?;
        service::instance_for(ctx, environment, service, Permission::Write).await?;
    }
    let mut changes = vec![];
    for (key, value) in &values {
        name::variable(key)?;
        if value.len() > MAX_VALUE {
            return Err(Error::bad_input(format!(
                "the value of {key} is larger than {MAX_VALUE} bytes: keep large data in a file or a volume"
            )));
        }
        let old = rows.iter().position(|row| row.service_id == service && row.name == *key);
        let row = Variable {
            workspace_id: opened.tenant.workspace(),
            project_id: project,
            environment_id: environment,
            service_id: service,
            name: key.clone(),
            value: value.clone(),
            is_sealed: old.is_some_and(|at| rows[at].is_sealed),
            updated_at: ctx.now,
        };
        match old {
            Some(at) => rows[at] = row.clone(),
            None => rows.push(row.clone()),
        }
        changes.push(Change::VariableSet(row));
    }
    if how.replace {
        let gone = |row: &Variable| row.service_id == service && !values.contains_key(&row.name);
        changes.extend(rows.iter().filter(|row| gone(row)).map(|row| Change::VariableDelete {
            environment,
            service,
            name: row.name.clone(),
        }));
        rows.retain(|row| !gone(row));
    }
    let data = json!({"names": values.keys().collect::<Vec<_>>(), "service": service});
    changes.push(ctx.activity(opened.tenant, Some(project), "variable_collection_upsert", environment, data));
    finish(ctx, &opened, service, changes, &rows, how.skip_deploys).await
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
    let opened = environment_of(ctx, project, environment, Permission::Write).await?;
    let mut rows = ctx.ops.store.variables(opened.tenant, environment).await?;
    let Some(at) = rows.iter().position(|row| row.service_id == service && row.name == key) else {
        return Err(Error::not_found("Variable"));
    };
    rows.remove(at);
    let changes = vec![
        Change::VariableDelete { environment, service, name: key.to_owned() },
        ctx.activity(opened.tenant, Some(project), "variable_delete", environment, json!({"name": key, "service": service})),
    ];
    finish(ctx, &opened, service, changes, &rows, false).await
}

/// Commits changed variables together with the deployments that follow from them.
async fn finish(
    ctx: &OpCtx,
    environment: &Opened<Environment>,
    service: Option<ServiceId>,
    mut changes: Vec<Change>,
    rows: &[Variable],
    skip_deploys: bool,
) -> Result<(), Error> {
    let mut woken = vec![];
    if !skip_deploys {
        let surroundings = Surroundings::load(ctx, environment).await?;
        let scope = surroundings.scope(ctx, rows);
        for instance in affected(ctx, environment.tenant, environment.row.id, service).await? {
            let Some(owner) = surroundings.services.iter().find(|row| row.id == instance.service_id) else { continue };
            let variables = render_frozen(&scope, &owner.name);
            if let Some(follow_up) = deployment::redeployment(ctx, environment.tenant, &instance, variables).await? {
                changes.extend(follow_up);
                woken.push(instance.id);
            }
        }
    }
    ctx.commit(environment.tenant, changes).await?;
    for instance in woken {
        ctx.ops.signals.wake(environment.tenant.workspace(), instance);
    }
    Ok(())
}

async fn affected(ctx: &OpCtx, tenant: Tenant, environment: EnvironmentId, service: Option<ServiceId>) -> Result<Vec<Instance>, Error> {
    let mut all = ctx.ops.store.instances_of_environments(tenant, &[environment]).await?;
    all.retain(|instance| service.is_none_or(|service| instance.service_id == service));
    Ok(all)
}
