//! An app that goes to another account.

use domain::certificate::Certificate;
use domain::deployment::{DeployReason, Deployment, DeploymentStatus};
use domain::galaxy::APP_TRANSFERRED;
use domain::project::{Domain, DomainKind, Environment, Instance, Project, Service};
use domain::trigger::Trigger;
use domain::variable::Variable;
use domain::{DomainId, EnvironmentId, Permission, Place, ProjectId, Tenant, TriggerId};
use serde_json::json;
use store::{CertificateChange, Change, StoredCertificate};

use super::{App, account_get, app_for, check_growth, is_of, live, newest_built};
use crate::context::{Opened, anew};
use crate::domain_name::to_be_proved;
use crate::variable::Surroundings;
use crate::{Error, OpCtx, batch, deployment, environment, service};

/// The app as it will be in its new account: in a project of its own.
struct Arrival {
    project: Project,
    environment: Environment,
    service: Service,
    instance: Instance,
    domains: Vec<Domain>,
    certificates: Vec<Change>,
    variables: Vec<Variable>,
    triggers: Vec<Trigger>,
}

/// Moves an app to another account under the same hostnames, with its certificates, its settings, its triggers, its variables and those that
/// all services of its environment share, and with what runs of it. There it starts anew and has another id. What it had stays behind and
/// ends as if it were deleted: its containers, earlier versions, measurements and log, and all that keys of the old account could do with it.
///
/// # Errors
/// A volume, whose data cannot go along; variables that refer to services which stay; an account that is its own, has no room or is not
/// found; not found, or a role below admin in the old account or below member in the new one.
pub async fn app_transfer(ctx: &OpCtx, app_id: &str, username: &str) -> Result<Opened<App>, Error> {
    anew(|| transfer_once(ctx, app_id, username)).await
}

async fn transfer_once(ctx: &OpCtx, app_id: &str, username: &str) -> Result<Opened<App>, Error> {
    let app = app_for(ctx, app_id, Permission::Administer).await?;
    let account = account_get(ctx, username).await?;
    let target = ctx.allow(account.row.id, Place::Workspace, Permission::Write)?;
    if target == app.tenant {
        return Err(Error::conflict("The app belongs to this account already"));
    }
    let from = ctx.ops.store.workspace(app.tenant.workspace()).await?.and_then(|sealed| sealed.open(app.tenant));
    let from = from.ok_or_else(|| Error::not_found("Workspace"))?.username;
    let old = &app.row.instance;
    if ctx.ops.store.volume_instance_of_service(app.tenant, old.environment_id, old.service_id).await?.is_some() {
        return Err(Error::conflict("The app has a volume, which cannot go to another account: save its data and detach it first"));
    }
    let mut leave = vec![];
    batch::rest_on(ctx, app.tenant, old.environment_id, &mut leave).await?;
    let arrival = Arrival::of(ctx, &app, target).await?;
    let data = json!({"host": app.row.domain.domain, "from": from, "to": account.row.username});
    leave.extend(service::deletion(ctx, app.tenant, old.service_id, Some(old.environment_id)).await?.0);
    leave.push(ctx.activity_of(app.tenant, old, APP_TRANSFERRED, old.id, data.clone()));
    let mut come = arrival.changes();
    let count = arrival.instance.spec.deploy.replicas();
    if count > 1 {
        come.push(check_growth(ctx, target, &[(arrival.instance.id, count)]).await?);
    }
    come.extend(arrival.start(ctx, &app).await?);
    come.push(ctx.activity_of(target, &arrival.instance, APP_TRANSFERRED, arrival.instance.id, data));
    ctx.ops.store.commit_across(vec![(app.tenant, leave), (target, come)]).await?;
    ctx.ops.signals.deployments_deleted();
    ctx.ops.signals.wake(target.workspace(), arrival.instance.id);
    ctx.ops.signals.ring();
    let domain = arrival.domains.into_iter().next().ok_or_else(|| Error::not_found("App"))?;
    Ok(Opened { tenant: target, row: App { instance: arrival.instance, domain } })
}

impl Arrival {
    async fn of(ctx: &OpCtx, app: &Opened<App>, target: Tenant) -> Result<Self, Error> {
        let (store, old, workspace_id) = (&ctx.ops.store, &app.row.instance, target.workspace());
        let was = service::service_get(ctx, old.service_id).await?.row;
        let place = environment::environment_get(ctx, old.environment_id).await?.row;
        let mut variables = store.variables(app.tenant, old.environment_id).await?;
        variables.retain(|row| row.service_id.is_none_or(|service| service == was.id));
        if let Some((name, other)) = variables.iter().find_map(|row| Some((&row.name, refers_elsewhere(&row.value, &was.name)?))) {
            return Err(Error::conflict(format!("{name} refers to the service {other}, which stays: write its value out first")));
        }
        let project = Project {
            id: ProjectId::generate(),
            workspace_id,
            name: was.name.clone(),
            description: None,
            created_at: ctx.now,
            updated_at: ctx.now,
            deleted_at: None,
        };
        let environment = Environment {
            id: EnvironmentId::generate(),
            workspace_id,
            project_id: project.id,
            name: place.name,
            is_ephemeral: false,
            is_protected: false,
            source_environment_id: None,
            created_at: ctx.now,
            updated_at: ctx.now,
        };
        let service = service::new_service(ctx, &project, was.name, was.icon);
        let instance = service::new_instance(ctx, &environment, service.id, old.spec.clone());
        let (domains, certificates) = Self::names(ctx, app, &instance).await?;
        let (project_id, environment_id, updated_at) = (project.id, environment.id, ctx.now);
        for row in &mut variables {
            (row.workspace_id, row.project_id, row.environment_id, row.updated_at) = (workspace_id, project_id, environment_id, updated_at);
            row.service_id = row.service_id.map(|_| service.id);
        }
        let mut triggers = store.triggers_of_instances(app.tenant, &[old.id]).await?;
        for trigger in &mut triggers {
            (trigger.id, trigger.workspace_id, trigger.instance_id, trigger.runs) = (TriggerId::generate(), workspace_id, instance.id, 0);
        }
        Ok(Self { project, environment, service, instance, domains, certificates, variables, triggers })
    }

    /// The app's domains as they will be, and what gives them their certificates.
    async fn names(ctx: &OpCtx, app: &Opened<App>, instance: &Instance) -> Result<(Vec<Domain>, Vec<Change>), Error> {
        let (store, old) = (&ctx.ops.store, &app.row.instance);
        let mut domains = store.domains_of_environments(app.tenant, &[old.environment_id]).await?;
        domains.retain(|domain| is_of(domain, old.environment_id, old.service_id));
        let ids: Vec<DomainId> = domains.iter().map(|domain| domain.id).collect();
        let mut held = store.certificates_of(app.tenant, &ids).await?;
        let mut certificates = vec![];
        for domain in &mut domains {
            let own = held.iter().position(|one| one.domain == domain.id).map(|at| held.swap_remove(at));
            (domain.id, domain.workspace_id, domain.updated_at) = (DomainId::generate(), instance.workspace_id, ctx.now);
            (domain.project_id, domain.environment_id, domain.service_id) =
                (instance.project_id, instance.environment_id, instance.service_id);
            // The proof that is still to come is the new account's.
            if domain.kind == DomainKind::Custom && domain.verified_at.is_none() {
                to_be_proved(ctx, domain);
            }
            let Some(StoredCertificate { chain, key, due, .. }) = own else {
                domain.certificate = Certificate::default();
                continue;
            };
            // An order that is under way ends with the domain that it is for.
            domain.certificate.ordering_until = None;
            let state = domain.certificate.clone();
            let set = CertificateChange::Set { domain: domain.id, chain, key, state, due, seen: None, at: ctx.now };
            certificates.push(Change::Certificate(set));
        }
        Ok((domains, certificates))
    }

    fn changes(&self) -> Vec<Change> {
        let mut changes = vec![
            Change::ProjectInsert(self.project.clone()),
            Change::EnvironmentInsert(self.environment.clone()),
            Change::ServiceInsert(self.service.clone()),
            Change::InstanceInsert(self.instance.clone()),
        ];
        changes.extend(self.domains.iter().cloned().map(Change::DomainInsert));
        changes.extend(self.certificates.iter().cloned());
        changes.extend(self.variables.iter().cloned().map(Change::VariableSet));
        changes.extend(self.triggers.iter().cloned().map(Change::TriggerInsert));
        changes
    }

    /// The deployment of what runs, or would run if it were started.
    async fn start(&self, ctx: &OpCtx, app: &Opened<App>) -> Result<Vec<Change>, Error> {
        let (deployments, _) = live(ctx, app).await?;
        let serves = |d: &&Deployment| {
            let up = matches!(d.status, DeploymentStatus::Deploying | DeploymentStatus::Success | DeploymentStatus::Sleeping);
            up && d.artifact.is_some()
        };
        let serving = deployments.iter().rev().find(serves).cloned();
        let stopped = serving.as_ref().is_none_or(|d| d.stopped);
        let of = match serving {
            Some(serving) => Some(serving),
            None => newest_built(ctx, app).await?,
        };
        let Some(of) = of else { return Ok(vec![]) };
        let surroundings = Surroundings::alone(&self.environment, &self.project.name, self.service.clone(), self.domains.clone());
        let variables = surroundings.render(ctx, &self.variables, &self.service.name);
        let spec = deployment::settings_for(&self.instance, &of);
        let mut next = deployment::again(ctx, &of, &self.instance, DeployReason::Deploy, spec);
        if stopped {
            (next.status, next.stopped) = (DeploymentStatus::Success, true);
        }
        Ok(deployment::insertion(ctx, &self.environment, &mut next, variables))
    }
}

/// The service that a value refers to, when it is neither its own nor the variables that all share.
fn refers_elsewhere<'a>(value: &'a str, own: &str) -> Option<&'a str> {
    value.split("${{").skip(1).find_map(|rest| {
        let (owner, _) = rest.split("}}").next()?.split_once('.')?;
        let owner = owner.trim().trim_matches('"');
        (owner != "shared" && !owner.eq_ignore_ascii_case(own)).then_some(owner)
    })
}
