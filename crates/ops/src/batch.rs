//! One change of an environment, and the deployments that follow from it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use domain::deployment::{DeployReason, Deployment, DeploymentStatus};
use domain::project::{Environment, Instance};
use domain::spec::{DeploySpec, InstanceSpec};
use domain::variable::{Scope, Variable};
use domain::{DeploymentId, EnvironmentId, InstanceId, Permission, ServiceId, Tenant};
use store::Change;

use crate::context::Opened;
use crate::variable::{Surroundings, render_frozen};
use crate::{Error, OpCtx, app, deployment, domain_name, template, volume};

/// Makes a commit rest on what is read of an environment from here on: it is stale when another that rests on the same has come in between.
/// Variables are frozen with what was read, and of two who do not know of each other the later one would leave out what the other wrote.
pub(crate) async fn rest_on(ctx: &OpCtx, tenant: Tenant, environment: EnvironmentId, changes: &mut Vec<Change>) -> Result<(), Error> {
    let rests = changes.iter().any(|change| matches!(change, Change::EnvironmentRevise(id, _) if *id == environment));
    if !rests {
        let seen = ctx.ops.store.environment_revision(tenant, environment).await?;
        changes.extend(seen.map(|seen| Change::EnvironmentRevise(environment, seen)));
    }
    Ok(())
}

/// What an environment is made of, at one time.
#[derive(Clone)]
pub(crate) struct State {
    /// Makes a commit rest on all of it; nothing for an environment that is only being made.
    ground: Vec<Change>,
    pub(crate) surroundings: Surroundings,
    pub(crate) variables: Vec<Variable>,
    pub(crate) instances: Vec<Instance>,
}

impl State {
    pub(crate) async fn load(ctx: &OpCtx, environment: &Opened<Environment>) -> Result<Self, Error> {
        let (tenant, id) = (environment.tenant, environment.row.id);
        let mut ground = vec![];
        rest_on(ctx, tenant, id, &mut ground).await?;
        Ok(Self {
            ground,
            surroundings: Surroundings::load(ctx, environment).await?,
            variables: ctx.ops.store.variables(tenant, id).await?,
            instances: ctx.ops.store.instances_of_environments(tenant, &[id]).await?,
        })
    }

    pub(crate) fn scope(&self, ctx: &OpCtx) -> Scope {
        self.surroundings.scope(ctx, &self.variables)
    }

    pub(crate) fn name_of(&self, service: ServiceId) -> Option<&str> {
        self.surroundings.services.iter().find(|row| row.id == service).map(|row| row.name.as_str())
    }
}

/// What of a change of settings takes effect only in a new deployment.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Effect {
    /// Nothing: the number of replicas, and whether an idle one sleeps, are read as they are now.
    None,
    /// The same artifact starts anew.
    Start,
    /// The source is built anew.
    Build,
}

fn effect(before: &InstanceSpec, after: &InstanceSpec) -> Effect {
    // What the engine reads of the instance itself holds at once.
    let kept = |spec: &InstanceSpec| DeploySpec {
        regions: BTreeMap::new(),
        sleep_application: false,
        sticky: false,
        unhealthy_replacement: true,
        ..spec.deploy.clone()
    };
    if before.build != after.build || before.source != after.source {
        Effect::Build
    } else if kept(before) != kept(after) {
        Effect::Start
    } else {
        Effect::None
    }
}

/// Commits a change together with the deployments that follow from it: of each service that runs and whose variables or settings are
/// others now, and of each that is new here and has an artifact elsewhere. They start in the order of their references. It is stale when
/// the environment is not as it was `before` any more.
pub(crate) async fn commit(
    ctx: &OpCtx,
    environment: &Opened<Environment>,
    before: &State,
    after: &State,
    mut changes: Vec<Change>,
    skip_deploys: bool,
) -> Result<(), Error> {
    let mut woken: BTreeSet<InstanceId> = BTreeSet::new();
    let mut grown = vec![];
    changes.splice(..0, before.ground.iter().cloned());
    for instance in &after.instances {
        volume::check_replicas(&instance.spec, after.surroundings.mounted(instance.service_id).is_some())?;
        let earlier = before.instances.iter().find(|row| row.id == instance.id).map(|row| &row.spec);
        if earlier.is_some_and(|spec| *spec != instance.spec) {
            woken.insert(instance.id);
        }
        let count = instance.spec.deploy.replicas();
        grown.extend((count > earlier.map_or(1, |spec| spec.deploy.replicas())).then_some((instance.id, count)));
    }
    if !grown.is_empty() {
        changes.push(app::check_growth(ctx, environment.tenant, &grown).await?);
    }
    if !skip_deploys {
        for (mut deployment, variables) in deployments(ctx, environment, before, after).await? {
            woken.insert(deployment.instance_id);
            changes.extend(deployment::insertion(ctx, &environment.row, &mut deployment, variables));
        }
    }
    domain_name::commit(ctx, environment.tenant, changes).await?;
    for instance in woken {
        ctx.ops.signals.wake(environment.tenant.workspace(), instance);
    }
    Ok(())
}

async fn deployments(
    ctx: &OpCtx,
    environment: &Opened<Environment>,
    before: &State,
    after: &State,
) -> Result<Vec<(Deployment, BTreeMap<String, String>)>, Error> {
    let tenant = environment.tenant;
    // A domain that comes or goes is provided to the next deployment and is no reason for one.
    let compared = State { surroundings: before.surroundings.clone(), ..after.clone() };
    let (old, new, frozen) = (before.scope(ctx), compared.scope(ctx), after.scope(ctx));
    let ids: Vec<InstanceId> = after.instances.iter().map(|instance| instance.id).collect();
    let mut live: HashMap<InstanceId, Vec<Deployment>> = HashMap::new();
    for deployment in ctx.ops.store.deployments_live(tenant, &ids).await? {
        live.entry(deployment.instance_id).or_default().push(deployment);
    }
    let was_here = |instance: &&Instance| before.instances.iter().any(|row| row.id == instance.id);
    let arrived: Vec<&Instance> = after.instances.iter().filter(|instance| !was_here(instance)).collect();
    let elsewhere = elsewhere(ctx, tenant, &arrived).await?;
    let mut made = vec![];
    for instance in &after.instances {
        let Some(name) = after.name_of(instance.service_id) else { continue };
        let Some(earlier) = before.instances.iter().find(|row| row.id == instance.id) else {
            made.extend(first(ctx, after, instance, &elsewhere).map(|deployment| (deployment, render_frozen(&frozen, name))));
            continue;
        };
        let mut effect = effect(&earlier.spec, &instance.spec);
        if render_frozen(&old, name) != render_frozen(&new, name) {
            effect = effect.max(Effect::Start);
        }
        if before.surroundings.mounted(instance.service_id) != after.surroundings.mounted(instance.service_id) {
            effect = effect.max(Effect::Start);
        }
        if effect == Effect::None {
            continue;
        }
        let running = live.get(&instance.id).map_or(&[][..], Vec::as_slice);
        let stopped = deployment::is_stopped(ctx, tenant, running).await?;
        let next = deployment::redeployment(ctx, &environment.row, instance, running, effect == Effect::Build && !stopped);
        let next = if stopped { next.and_then(|next| deployment::at_rest(ctx, &environment.row, next)) } else { next };
        made.extend(next.map(|deployment| (deployment, render_frozen(&frozen, name))));
    }
    put_in_order(&frozen, |service| after.name_of(service), &mut made);
    Ok(made)
}

/// Notes for each deployment of a batch which of the others it waits for.
pub(crate) fn put_in_order<'a>(
    scope: &'a Scope,
    name_of: impl Fn(ServiceId) -> Option<&'a str>,
    made: &mut [(Deployment, BTreeMap<String, String>)],
) {
    let names = |service: ServiceId| name_of(service).unwrap_or_default();
    let started: BTreeMap<&str, DeploymentId> = made.iter().map(|(row, _)| (names(row.service_id), row.id)).collect();
    let order = scope.start_order(&started.keys().copied().collect());
    for (row, _) in made {
        row.waits_for = order.get(names(row.service_id)).into_iter().flatten().filter_map(|name| started.get(name)).copied().collect();
    }
}

/// The deployments of the services of new instances, in every other environment whose secrets the principal may see.
async fn elsewhere(ctx: &OpCtx, tenant: Tenant, new: &[&Instance]) -> Result<Vec<Deployment>, Error> {
    if new.is_empty() {
        return Ok(vec![]);
    }
    let services: Vec<ServiceId> = new.iter().map(|instance| instance.service_id).collect();
    let siblings = ctx.ops.store.instances_of_services(tenant, &services).await?;
    let visible = |sibling: &&Instance| {
        let place = crate::service::instance_place(sibling);
        new.iter().all(|instance| instance.id != sibling.id) && ctx.may(tenant.workspace(), place, Permission::ReadSecrets)
    };
    let ids: Vec<InstanceId> = siblings.iter().filter(visible).map(|sibling| sibling.id).collect();
    Ok(ctx.ops.store.deployments_live(tenant, &ids).await?)
}

/// The first deployment of an instance: what the service's newest deployment in the environment that this one was copied from has built
/// or was made from, or else the newest of those `elsewhere`. A database is deployed anew.
fn first(ctx: &OpCtx, state: &State, instance: &Instance, elsewhere: &[Deployment]) -> Option<Deployment> {
    let live: Vec<&Deployment> = elsewhere.iter().filter(|row| row.service_id == instance.service_id).collect();
    let usable = |row: &Deployment| row.status == DeploymentStatus::Success && (row.artifact.is_some() || row.source_blob.is_some());
    let source = state.surroundings.source();
    let rank = |row: &&Deployment| (Some(row.environment_id) == source, row.id);
    let Some(of) = live.iter().copied().filter(|row| usable(row)).max_by_key(rank) else {
        // A database that has not come up elsewhere yet needs nothing of what is there.
        let fresh = !live.is_empty() && template::is_server(&instance.spec);
        return fresh.then(|| deployment::fresh(ctx, instance, DeployReason::Deploy, instance.spec.clone()));
    };
    let spec = deployment::settings_for(instance, of);
    Some(deployment::again(ctx, of, instance, DeployReason::Deploy, spec))
}
