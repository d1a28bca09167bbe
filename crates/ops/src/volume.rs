//! Volumes: made, attached, moved, renamed and deleted here; mounted and measured by the engine.

use domain::project::{Environment, Instance};
use domain::spec::InstanceSpec;
use domain::volume::{DEFAULT_SIZE_MB, Volume, VolumeInstance, VolumeState, mount_path};
use domain::{EnvironmentId, InstanceId, Permission, Place, ProjectId, ServiceId, Tenant, VolumeId, VolumeInstanceId, name};
use serde_json::json;
use store::Change;

use crate::context::{Opened, anew};
use crate::variable::Surroundings;
use crate::{Error, OpCtx, approval, batch, deployment, environment, project, secret, service};

/// What a new volume is to be.
#[derive(Clone, Debug)]
pub struct VolumeCreate {
    /// The project.
    pub project: ProjectId,
    /// Where it gets an instance.
    pub place: VolumePlace,
    /// The service that it is attached to.
    pub service: Option<ServiceId>,
    /// Where the service finds it.
    pub mount_path: String,
}

/// In which environments a new volume gets an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumePlace {
    /// In none.
    Nowhere,
    /// In every lasting one.
    Everywhere,
    /// In this one.
    Environment(EnvironmentId),
}

/// What changes of a volume in an environment.
#[derive(Clone, Debug, Default)]
pub struct VolumeInstancePatch {
    /// Where its service finds it.
    pub mount_path: Option<String>,
    /// The service that it is attached to; `Some(None)` detaches it.
    pub service: Option<Option<ServiceId>>,
}

const ONE_REPLICA: &str =
    "a volume can be attached to a service with one replica only: scale the service to 1 first, or keep the data in a database";

/// Whose volume it is and what may be done with it: the environments that hold it decide, and without any the project does.
pub(crate) async fn volume_for(ctx: &OpCtx, id: VolumeId, permission: Permission) -> Result<(Opened<Volume>, Vec<VolumeInstance>), Error> {
    let found = ctx.ops.store.volume(id).await?;
    let opened = ctx.open(found, "Volume", |row| Place::Project(row.project_id), Permission::Read)?;
    let instances = ctx.ops.store.volume_instances_of_volumes(opened.tenant, &[id]).await?;
    if instances.is_empty() {
        ctx.check(opened.tenant.workspace(), Place::Project(opened.row.project_id), permission, "Volume")?;
    }
    for instance in &instances {
        ctx.check(opened.tenant.workspace(), place(instance), permission, "Volume")?;
    }
    Ok((opened, instances))
}

fn place(instance: &VolumeInstance) -> Place {
    Place::Environment(instance.project_id, instance.environment_id)
}

pub(crate) async fn volume_instance_for(
    ctx: &OpCtx,
    id: VolumeInstanceId,
    permission: Permission,
) -> Result<Opened<VolumeInstance>, Error> {
    ctx.open(ctx.ops.store.volume_instance(id).await?, "VolumeInstance", place, permission)
}

/// A volume in an environment.
///
/// # Errors
/// Not found or not allowed.
pub async fn volume_instance_get(ctx: &OpCtx, id: VolumeInstanceId) -> Result<Opened<VolumeInstance>, Error> {
    volume_instance_for(ctx, id, Permission::Read).await
}

/// A volume row for a project.
pub(crate) fn new_volume(ctx: &OpCtx, tenant: Tenant, project: ProjectId, name: String) -> Volume {
    Volume {
        id: VolumeId::generate(),
        workspace_id: tenant.workspace(),
        project_id: project,
        name,
        created_at: ctx.now,
        updated_at: ctx.now,
        deleted_at: None,
    }
}

/// A volume's instance in an environment.
pub(crate) fn new_volume_instance(
    ctx: &OpCtx,
    environment: &Environment,
    volume: VolumeId,
    service: Option<ServiceId>,
    mount_path: String,
) -> VolumeInstance {
    VolumeInstance {
        id: VolumeInstanceId::generate(),
        workspace_id: environment.workspace_id,
        project_id: environment.project_id,
        environment_id: environment.id,
        volume_id: volume,
        service_id: service,
        mount_path,
        size_mb: DEFAULT_SIZE_MB,
        used_bytes: 0,
        state: VolumeState::Ready,
        restoring: None,
        created_at: ctx.now,
        updated_at: ctx.now,
    }
}

/// A name that no living volume of the project has.
pub(crate) async fn free_name(ctx: &OpCtx, tenant: Tenant, project: ProjectId, wanted: &str) -> Result<String, Error> {
    let taken = ctx.ops.store.volumes_of_projects(tenant, &[project]).await?;
    let free = |text: &str| !taken.iter().any(|volume| volume.deleted_at.is_none() && volume.name.eq_ignore_ascii_case(text));
    Ok(if free(wanted) { wanted.to_owned() } else { format!("{wanted}-{}", secret::suffix()) })
}

/// Makes a volume and attaches it to a service. A service that runs is deployed again, with the volume.
///
/// # Errors
/// A bad mount path, a service with a volume or with several replicas, not found, or not allowed.
pub async fn volume_create(ctx: &OpCtx, input: VolumeCreate) -> Result<Opened<Volume>, Error> {
    anew(|| create_once(ctx, &input)).await
}

async fn create_once(ctx: &OpCtx, input: &VolumeCreate) -> Result<Opened<Volume>, Error> {
    let path = mount_path(&input.mount_path)?;
    let (project, environments) = match input.place {
        VolumePlace::Environment(id) => {
            let environment = environment::environment_for(ctx, id, Permission::Write).await?;
            if environment.row.project_id != input.project {
                return Err(Error::not_found("Environment"));
            }
            (project::project_for(ctx, input.project, Permission::Read).await?, vec![environment.row])
        }
        VolumePlace::Everywhere | VolumePlace::Nowhere => {
            let project = project::project_for(ctx, input.project, Permission::Write).await?;
            let mut all = ctx.ops.store.environments_of(project.tenant, &[input.project]).await?;
            all.retain(|row| !row.is_ephemeral && input.place == VolumePlace::Everywhere);
            (project, all)
        }
    };
    let tenant = project.tenant;
    let service = match input.service {
        Some(id) => {
            let service = service::service_get(ctx, id).await?;
            if service.row.project_id != input.project {
                return Err(Error::not_found("Service"));
            }
            Some(service.row)
        }
        None => None,
    };
    let wanted = service.as_ref().map_or_else(|| "volume".to_owned(), |service| format!("{}-volume", name::slug(&service.name, "service")));
    let volume = new_volume(ctx, tenant, input.project, free_name(ctx, tenant, input.project, &wanted).await?);
    let mut changes = vec![Change::VolumeInsert(volume.clone())];
    let mut woken = vec![];
    for environment in environments {
        batch::rest_on(ctx, tenant, environment.id, &mut changes).await?;
        let instance = match &service {
            Some(service) => ctx.ops.store.instance_of(environment.id, service.id).await?.and_then(|sealed| sealed.open(tenant)),
            None => None,
        };
        if service.is_some() && instance.is_none() && matches!(input.place, VolumePlace::Environment(_)) {
            return Err(Error::not_found("ServiceInstance"));
        }
        let attached = instance.as_ref().map(|instance| instance.service_id);
        let made = new_volume_instance(ctx, &environment, volume.id, attached, path.clone());
        changes.push(Change::VolumeInstanceInsert(made.clone()));
        if let Some(instance) = instance {
            check_free(ctx, tenant, &instance).await?;
            woken.extend(follow_up(ctx, &project.with(environment), &instance, Some((&made, &volume.name)), &mut changes).await?);
        }
    }
    changes.push(ctx.activity(tenant, Some(input.project), "volume_create", volume.id, json!({"name": volume.name, "mountPath": path})));
    commit(ctx, tenant, changes, woken).await?;
    Ok(project.with(volume))
}

/// Refuses several replicas of a service that has a volume.
pub(crate) fn check_replicas(spec: &InstanceSpec, has_volume: bool) -> Result<(), Error> {
    if has_volume && spec.deploy.replicas() > 1 {
        return Err(Error::conflict("a service with a volume has one replica: detach its volume first, or keep the data in a database"));
    }
    Ok(())
}

/// One volume of a service, and none where several replicas run. The database holds both rules; this says them in words.
async fn check_free(ctx: &OpCtx, tenant: Tenant, instance: &Instance) -> Result<(), Error> {
    if instance.spec.deploy.replicas() > 1 {
        return Err(Error::conflict(ONE_REPLICA));
    }
    let held = ctx.ops.store.volume_instance_of_service(tenant, instance.environment_id, instance.service_id).await?;
    match held {
        Some(_) => Err(Error::conflict("the service already has a volume in this environment: detach or delete that one first")),
        None => Ok(()),
    }
}

/// What follows for a service whose mount changes: one deployment, if it runs. `mount` is what it has from now on. The commit of the
/// changes is stale when somebody else has changed the environment in the meantime.
async fn follow_up(
    ctx: &OpCtx,
    environment: &Opened<Environment>,
    instance: &Instance,
    mount: Option<(&VolumeInstance, &str)>,
    changes: &mut Vec<Change>,
) -> Result<Option<InstanceId>, Error> {
    batch::rest_on(ctx, environment.tenant, environment.row.id, changes).await?;
    let mut surroundings = Surroundings::load(ctx, environment).await?;
    surroundings.mount(instance.service_id, mount);
    let Some(variables) = surroundings.frozen(ctx, environment, instance.service_id).await? else { return Ok(None) };
    let follow_up = deployment::follow_up(ctx, environment, instance, variables).await?;
    Ok(follow_up.map(|follow_up| {
        changes.extend(follow_up);
        instance.id
    }))
}

async fn commit(ctx: &OpCtx, tenant: Tenant, changes: Vec<Change>, woken: Vec<InstanceId>) -> Result<(), Error> {
    ctx.ops.store.commit(tenant, changes).await.map_err(|error| {
        Error::from(error).when_taken("the name or the service's place for a volume was taken in the meantime: look and try again")
    })?;
    for instance in woken {
        ctx.ops.signals.wake(tenant.workspace(), instance);
    }
    Ok(())
}

/// Renames a volume.
///
/// # Errors
/// A bad or taken name, not found, or not allowed.
pub async fn volume_update(ctx: &OpCtx, id: VolumeId, new_name: Option<String>) -> Result<Opened<Volume>, Error> {
    let (mut opened, _) = volume_for(ctx, id, Permission::Write).await?;
    let Some(text) = new_name else { return Ok(opened) };
    let before = std::mem::replace(&mut opened.row.name, name::display("volume name", &text)?);
    opened.row.updated_at = ctx.now;
    let data = json!({"before": before, "after": opened.row.name});
    let activity = ctx.activity(opened.tenant, Some(opened.row.project_id), "volume_update", id, data);
    ctx.ops
        .store
        .commit(opened.tenant, vec![Change::VolumeUpdate(opened.row.clone()), activity])
        .await
        .map_err(|error| Error::from(error).when_taken("A volume of that name already exists in this project"))?;
    Ok(opened)
}

/// Moves, attaches or detaches a volume: in one environment, or in every one that has it. Services that run are deployed again.
///
/// # Errors
/// A bad mount path, a service with a volume or with several replicas, not found, or not allowed.
pub async fn volume_instance_update(
    ctx: &OpCtx,
    id: VolumeId,
    environment: Option<EnvironmentId>,
    patch: VolumeInstancePatch,
) -> Result<(), Error> {
    anew(|| update_once(ctx, id, environment, &patch)).await
}

async fn update_once(ctx: &OpCtx, id: VolumeId, environment: Option<EnvironmentId>, patch: &VolumeInstancePatch) -> Result<(), Error> {
    let found = ctx.ops.store.volume(id).await?;
    let opened = ctx.open(found, "Volume", |row| Place::Project(row.project_id), Permission::Read)?;
    let tenant = opened.tenant;
    let path = patch.mount_path.as_deref().map(mount_path).transpose()?;
    let mut instances = ctx.ops.store.volume_instances_of_volumes(tenant, &[id]).await?;
    instances.retain(|instance| environment.is_none_or(|wanted| instance.environment_id == wanted));
    if instances.is_empty() || opened.row.deleted_at.is_some() {
        return Err(Error::not_found("VolumeInstance"));
    }
    let (mut changes, mut woken) = (vec![], vec![]);
    for before in instances {
        let environment = environment::environment_for(ctx, before.environment_id, Permission::Write).await?;
        let mut after = before.clone();
        if let Some(path) = &path {
            after.mount_path.clone_from(path);
        }
        if let Some(service) = patch.service {
            after.service_id = service;
        }
        if after == before {
            continue;
        }
        woken.extend(update_one(ctx, &environment, &before, (&after, &opened.row.name), &mut changes).await?);
        let told = |row: &VolumeInstance| json!({"mountPath": row.mount_path, "service": row.service_id});
        let data = json!({"before": told(&before), "after": told(&after)});
        changes.push(ctx.activity(tenant, Some(before.project_id), "volume_instance_update", before.id, data));
    }
    commit(ctx, tenant, changes, woken).await
}

async fn update_one(
    ctx: &OpCtx,
    environment: &Opened<Environment>,
    before: &VolumeInstance,
    (after, name): (&VolumeInstance, &str),
    changes: &mut Vec<Change>,
) -> Result<Vec<InstanceId>, Error> {
    let tenant = environment.tenant;
    let mut woken = vec![];
    batch::rest_on(ctx, tenant, environment.row.id, changes).await?;
    if after.mount_path != before.mount_path {
        let mount_path = after.mount_path.clone();
        changes.push(Change::VolumeInstanceMountPath { id: after.id, mount_path, at: ctx.now });
    }
    let moves = after.service_id != before.service_id;
    if moves && before.service_id.is_some() {
        changes.push(Change::VolumeDetach(after.id));
    }
    let find = async |service: ServiceId| -> Result<Option<Instance>, Error> {
        Ok(ctx.ops.store.instance_of(before.environment_id, service).await?.and_then(|sealed| sealed.open(tenant)))
    };
    if let Some(service) = after.service_id {
        let instance = find(service).await?.ok_or_else(|| Error::not_found("Service"))?;
        if moves {
            check_free(ctx, tenant, &instance).await?;
            changes.push(Change::VolumeAttach { id: after.id, service });
        }
        woken.extend(follow_up(ctx, environment, &instance, Some((after, name)), changes).await?);
    }
    if let Some(service) = before.service_id.filter(|_| moves)
        && let Some(instance) = find(service).await?
    {
        // Also where no deployment follows: what runs with the volume is to end.
        approval::check_interruption(ctx, &environment.row)?;
        follow_up(ctx, environment, &instance, None, changes).await?;
        woken.push(instance.id);
    }
    Ok(woken)
}

/// Takes a volume out of an environment: what has it there is deployed again without it, and the files that it has there are kept for 48
/// hours. The volume stays in the project, be it nowhere.
///
/// # Errors
/// It is not there, not found, or not allowed.
pub async fn volume_instance_delete(ctx: &OpCtx, id: VolumeId, environment: EnvironmentId) -> Result<(), Error> {
    anew(|| delete_once(ctx, id, environment)).await
}

async fn delete_once(ctx: &OpCtx, id: VolumeId, environment: EnvironmentId) -> Result<(), Error> {
    let found = ctx.ops.store.volume(id).await?;
    let opened = ctx.open(found, "Volume", |row| Place::Project(row.project_id), Permission::Read)?;
    let instances = ctx.ops.store.volume_instances_of_volumes(opened.tenant, &[id]).await?;
    let here = instances.into_iter().find(|instance| instance.environment_id == environment);
    let before = here.filter(|_| opened.row.deleted_at.is_none()).ok_or_else(|| Error::not_found("VolumeInstance"))?;
    let place = environment::environment_for(ctx, environment, Permission::Write).await?;
    let after = VolumeInstance { service_id: None, ..before.clone() };
    let mut changes = vec![];
    let woken = update_one(ctx, &place, &before, (&after, &opened.row.name), &mut changes).await?;
    changes.extend([kept(ctx, &before), Change::VolumeInstanceDelete(before.id)]);
    let data = json!({"name": opened.row.name, "environment": place.row.name});
    changes.push(ctx.activity(opened.tenant, Some(before.project_id), "volume_instance_delete", before.id, data));
    commit(ctx, opened.tenant, changes, woken).await
}

/// Deletes a volume: it is detached at once, and its files go after 48 hours. One that went with its service is on its way already.
///
/// # Errors
/// Not found or not allowed.
pub async fn volume_delete(ctx: &OpCtx, id: VolumeId) -> Result<(), Error> {
    anew(|| delete_everywhere_once(ctx, id)).await
}

async fn delete_everywhere_once(ctx: &OpCtx, id: VolumeId) -> Result<(), Error> {
    let (opened, instances) = volume_for(ctx, id, Permission::Write).await?;
    if opened.row.deleted_at.is_some() {
        return Ok(());
    }
    let mut changes = removal(ctx, opened.row.clone(), &instances);
    let mut woken = vec![];
    for before in instances.iter().filter(|instance| instance.service_id.is_some()) {
        let environment = environment::environment_for(ctx, before.environment_id, Permission::Write).await?;
        let mut nothing = vec![];
        let after = VolumeInstance { service_id: None, ..before.clone() };
        woken.extend(update_one(ctx, &environment, before, (&after, &opened.row.name), &mut nothing).await?);
        changes.extend(nothing.into_iter().filter(|change| !matches!(change, Change::VolumeDetach(_))));
    }
    let data = json!({"name": opened.row.name});
    changes.push(ctx.activity(opened.tenant, Some(opened.row.project_id), "volume_delete", id, data));
    commit(ctx, opened.tenant, changes, woken).await
}

/// The changes that delete a volume.
pub(crate) fn removal(ctx: &OpCtx, volume: Volume, instances: &[VolumeInstance]) -> Vec<Change> {
    let mut changes: Vec<Change> = instances.iter().map(|instance| Change::VolumeDetach(instance.id)).collect();
    changes.push(Change::VolumeUpdate(Volume { deleted_at: Some(ctx.now), updated_at: ctx.now, ..volume }));
    changes
}

/// What becomes of the volumes of a service that is deleted, as a whole or in some environments: they go with it, unless another service
/// has them in another environment.
pub(crate) async fn removals_with_service(
    ctx: &OpCtx,
    tenant: Tenant,
    service: ServiceId,
    environments: &[EnvironmentId],
    whole: bool,
) -> Result<Vec<Change>, Error> {
    let mut held = ctx.ops.store.volume_instances_of_environments(tenant, environments).await?;
    held.retain(|instance| instance.service_id == Some(service));
    // What lies detached in an environment goes along only for somebody who may change that environment too.
    let idle = |instance: &VolumeInstance| {
        let place = Place::Environment(instance.project_id, instance.environment_id);
        whole && instance.service_id.is_none() && ctx.allow(tenant.workspace(), place, Permission::Write).is_ok()
    };
    removals(ctx, tenant, &held, idle).await
}

/// The files of a volume that is taken out of an environment lie on disk for as long as those of one that is deleted.
fn kept(ctx: &OpCtx, instance: &VolumeInstance) -> Change {
    Change::VolumeFilesKeep { id: instance.id, at: ctx.now }
}

/// The changes that take volumes out of environments, with those instances elsewhere that go `along`. One that nothing else uses is
/// deleted; the files are kept for 48 hours in any case.
pub(crate) async fn removals(
    ctx: &OpCtx,
    tenant: Tenant,
    held: &[VolumeInstance],
    along: impl Fn(&VolumeInstance) -> bool,
) -> Result<Vec<Change>, Error> {
    let mut ids: Vec<VolumeId> = held.iter().map(|instance| instance.volume_id).collect();
    ids.sort_unstable();
    ids.dedup();
    let all = ctx.ops.store.volume_instances_of_volumes(tenant, &ids).await?;
    let mut changes = vec![];
    for volume in ctx.ops.store.volumes_by_id(tenant, &ids).await? {
        let its: Vec<VolumeInstance> = all.iter().filter(|instance| instance.volume_id == volume.id).cloned().collect();
        let here = |instance: &VolumeInstance| held.iter().any(|row| row.id == instance.id);
        if its.iter().all(|instance| here(instance) || along(instance)) {
            changes.extend(removal(ctx, volume, &its));
        } else {
            for instance in its.iter().filter(|instance| here(instance)) {
                changes.extend([kept(ctx, instance), Change::VolumeInstanceDelete(instance.id)]);
            }
        }
    }
    Ok(changes)
}

/// Volumes for an environment that is made after another one: empty ones, attached as there.
pub(crate) async fn copies(
    ctx: &OpCtx,
    tenant: Tenant,
    from: EnvironmentId,
    to: &Environment,
) -> Result<Vec<(VolumeInstance, String)>, Error> {
    let instances = ctx.ops.store.volume_instances_of_environments(tenant, &[from]).await?;
    let ids: Vec<VolumeId> = instances.iter().map(|instance| instance.volume_id).collect();
    let living = ctx.ops.store.volumes_by_id(tenant, &ids).await?;
    let copy = |row: VolumeInstance| {
        let volume = living.iter().find(|volume| volume.id == row.volume_id && volume.deleted_at.is_none())?;
        Some((new_volume_instance(ctx, to, row.volume_id, row.service_id, row.mount_path), volume.name.clone()))
    };
    Ok(instances.into_iter().filter_map(copy).collect())
}

/// What becomes of the volumes of an environment that is deleted. Their files are kept for 48 hours; a volume that is nowhere else is
/// deleted, too, instead of staying in the project with nothing in it.
pub(crate) async fn removals_with_environment(ctx: &OpCtx, tenant: Tenant, environment: EnvironmentId) -> Result<Vec<Change>, Error> {
    let here = ctx.ops.store.volume_instances_of_environments(tenant, &[environment]).await?;
    let ids: Vec<VolumeId> = here.iter().map(|instance| instance.volume_id).collect();
    let all = ctx.ops.store.volume_instances_of_volumes(tenant, &ids).await?;
    let elsewhere = |id: VolumeId| all.iter().any(|instance| instance.volume_id == id && instance.environment_id != environment);
    let volumes = ctx.ops.store.volumes_by_id(tenant, &ids).await?.into_iter();
    let last = volumes.filter(|volume| volume.deleted_at.is_none() && !elsewhere(volume.id));
    Ok(here.iter().map(|instance| kept(ctx, instance)).chain(last.flat_map(|volume| removal(ctx, volume, &[]))).collect())
}
