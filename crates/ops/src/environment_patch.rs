//! Changes of an environment's document (`contracts/railway.md` 3.9): applied whole or not at all, at once or after having been staged.

use std::collections::{BTreeMap, BTreeSet};

use domain::config::{self, VariablePatch};
use domain::page::{Page, PageRequest};
use domain::project::{Domain, DomainKind, Environment, EnvironmentPatch, Instance, PatchStatus, Service};
use domain::spec::{DeploySpec, InstanceSpec};
use domain::tcp_proxy::ProxyKind;
use domain::variable::{Generator, Variable};
use domain::{EnvironmentId, EnvironmentPatchId, Permission, ServiceId, Tenant};
use serde_json::{Map, Value, json};
use store::Change;

use crate::batch::{self, State};
use crate::context::{Opened, anew};
use crate::{Error, OpCtx, approval, domain_name, environment, service, variable};

mod attached;

impl From<config::BadConfig> for Error {
    fn from(bad: config::BadConfig) -> Self {
        Self::bad_input(bad.0)
    }
}

/// How a patch is committed.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// What its author says about it.
    pub message: Option<String>,
    /// The services that it concerns wait for their next deployment.
    pub skip_deploys: bool,
}

/// Applies a patch at once.
///
/// # Errors
/// Something in it that this server does not have or that is out of range, not found, or not allowed. Then nothing has changed.
pub async fn environment_patch_commit(ctx: &OpCtx, id: EnvironmentId, patch: Value, how: Commit) -> Result<EnvironmentPatch, Error> {
    let opened = writable(ctx, id).await?;
    apply(ctx, &opened, row(ctx, &opened.row, patch, how.message), vec![], how.skip_deploys).await
}

/// Keeps a patch until it is committed, on top of what is staged already or in its place. It is checked as if an admin committed it now.
///
/// # Errors
/// As [`environment_patch_commit`].
pub async fn environment_stage_changes(ctx: &OpCtx, id: EnvironmentId, patch: Value, merge: bool) -> Result<EnvironmentPatch, Error> {
    let opened = writable(ctx, id).await?;
    let staged = ctx.ops.store.environment_patch_staged(opened.tenant, id).await?;
    let whole = match &staged {
        Some(staged) if merge => {
            let mut whole = staged.patch.clone();
            config::stack(&mut whole, &patch);
            whole
        }
        _ => patch,
    };
    let mut after = State::load(ctx, &opened).await?;
    Plan::new(ctx, &opened, &mut after, vec![]).patch(&whole).await?;
    let mut made = row(ctx, &opened.row, whole, staged.as_ref().and_then(|staged| staged.message.clone()));
    made.status = PatchStatus::Staged;
    let mut changes: Vec<Change> = staged.iter().map(|staged| Change::EnvironmentPatchDelete(staged.id)).collect();
    // What only takes something away is a change, too.
    if made.changes > 0 {
        changes.push(Change::EnvironmentPatchInsert(made.clone()));
    }
    let data = json!({"changes": made.changes});
    changes.push(ctx.activity(opened.tenant, Some(opened.row.project_id), "environment_stage_changes", id, data));
    ctx.commit(opened.tenant, changes).await?;
    Ok(made)
}

/// What is staged; an empty patch when nothing is.
///
/// # Errors
/// Not found or not allowed: a patch may hold values of variables.
pub async fn environment_staged_changes(ctx: &OpCtx, id: EnvironmentId) -> Result<Opened<EnvironmentPatch>, Error> {
    let opened = environment::environment_for(ctx, id, Permission::Read).await?;
    let staged = ctx.ops.store.environment_patch_staged(opened.tenant, id).await?;
    let none = || EnvironmentPatch {
        // There is no row that could have an identity of its own.
        id: EnvironmentPatchId(id.0),
        status: PatchStatus::Staged,
        created_at: opened.row.updated_at,
        updated_at: opened.row.updated_at,
        ..row(ctx, &opened.row, json!({}), None)
    };
    let found = staged.unwrap_or_else(none);
    Ok(opened.with(found))
}

/// Applies what is staged.
///
/// # Errors
/// Nothing is staged, or as [`environment_patch_commit`].
pub async fn environment_patch_commit_staged(ctx: &OpCtx, id: EnvironmentId, how: Commit) -> Result<EnvironmentPatch, Error> {
    let opened = writable(ctx, id).await?;
    let staged = ctx.ops.store.environment_patch_staged(opened.tenant, id).await?;
    let Some(staged) = staged else { return Err(Error::conflict("Nothing is staged in this environment: stage a change first")) };
    let message = how.message.or_else(|| staged.message.clone());
    let made = row(ctx, &opened.row, staged.patch, message);
    apply(ctx, &opened, made, vec![Change::EnvironmentPatchDelete(staged.id)], how.skip_deploys).await
}

/// One change.
///
/// # Errors
/// Not found or not allowed.
pub async fn environment_patch_get(ctx: &OpCtx, id: EnvironmentPatchId) -> Result<Opened<EnvironmentPatch>, Error> {
    let place = |patch: &EnvironmentPatch| domain::Place::Environment(patch.project_id, patch.environment_id);
    ctx.open(ctx.ops.store.environment_patch(id).await?, "EnvironmentPatch", place, Permission::Read)
}

/// The changes of an environment, newest first.
///
/// # Errors
/// Not found or not allowed.
pub async fn environment_patches(ctx: &OpCtx, id: EnvironmentId, page: &PageRequest) -> Result<Opened<Page<EnvironmentPatch>>, Error> {
    let opened = environment::environment_for(ctx, id, Permission::Read).await?;
    let found = ctx.ops.store.environment_patches(opened.tenant, id, &page.bounded()).await?;
    Ok(opened.with(found))
}

/// A patch as a reader sees it: without the values of its variables unless `decrypt`, and those of variables that it sealed, that were
/// sealed when it was applied, or that are sealed now, never.
///
/// # Errors
/// With `decrypt`, a role that may not read secrets.
pub async fn environment_patch_document(ctx: &OpCtx, patch: &Opened<EnvironmentPatch>, decrypt: bool) -> Result<Value, Error> {
    let row = &patch.row;
    let mut sealed = BTreeSet::new();
    if decrypt {
        let place = domain::Place::Environment(row.project_id, row.environment_id);
        ctx.allow(patch.tenant.workspace(), place, Permission::ReadSecrets)?;
        sealed = sealed_among(&ctx.ops.store.variables(patch.tenant, row.environment_id).await?);
    }
    let mut document = row.patch.clone();
    each_variable(&mut document, &mut |owner, name, entry| {
        let hidden = entry.get("isSealed") == Some(&Value::Bool(true)) || sealed.contains(&(owner, name.to_owned()));
        if !entry.is_null() && (hidden || !decrypt) {
            *entry = if hidden { json!({"isSealed": true}) } else { json!({"value": null}) };
        }
    });
    Ok(document)
}

fn sealed_among(variables: &[Variable]) -> BTreeSet<(Option<ServiceId>, String)> {
    variables.iter().filter(|row| row.is_sealed).map(|row| (row.service_id, row.name.clone())).collect()
}

/// Calls `visit` for each variable of a patch with its owner, its name and what is said of it.
fn each_variable(patch: &mut Value, visit: &mut impl FnMut(Option<ServiceId>, &str, &mut Value)) {
    let shared = patch.get_mut("sharedVariables").and_then(Value::as_object_mut);
    for (name, entry) in shared.into_iter().flatten() {
        visit(None, name, entry);
    }
    for (id, service) in patch.get_mut("services").and_then(Value::as_object_mut).into_iter().flatten() {
        let own = service.get_mut("variables").and_then(Value::as_object_mut);
        for (name, entry) in own.into_iter().flatten() {
            visit(id.parse().ok(), name, entry);
        }
    }
}

/// A patch as it is kept: it says itself which of its variables are sealed, also when that was said long before.
fn marked(mut patch: Value, variables: &[Variable]) -> Value {
    let sealed = sealed_among(variables);
    each_variable(&mut patch, &mut |owner, name, entry| {
        if !sealed.contains(&(owner, name.to_owned())) {
            return;
        }
        if let Some(fields) = entry.as_object_mut() {
            fields.insert("isSealed".into(), Value::Bool(true));
        } else if entry.is_string() {
            let value = entry.take();
            *entry = json!({"value": value, "isSealed": true});
        }
    });
    patch
}

async fn writable(ctx: &OpCtx, id: EnvironmentId) -> Result<Opened<Environment>, Error> {
    environment::environment_for(ctx, id, Permission::Write).await
}

fn row(ctx: &OpCtx, environment: &Environment, patch: Value, message: Option<String>) -> EnvironmentPatch {
    EnvironmentPatch {
        id: EnvironmentPatchId::generate(),
        workspace_id: environment.workspace_id,
        project_id: environment.project_id,
        environment_id: environment.id,
        status: PatchStatus::Committed,
        message: message.map(|text| text.chars().take(MAX_MESSAGE).collect::<String>()).filter(|text| !text.trim().is_empty()),
        changes: config::count(&patch),
        patch,
        author: ctx.actor(),
        applied_at: None,
        created_at: ctx.now,
        updated_at: ctx.now,
    }
}

/// Characters of a message that are kept.
const MAX_MESSAGE: usize = 1_000;

async fn apply(
    ctx: &OpCtx,
    opened: &Opened<Environment>,
    made: EnvironmentPatch,
    changes: Vec<Change>,
    skip_deploys: bool,
) -> Result<EnvironmentPatch, Error> {
    let (made, changes) = (&made, &changes);
    anew(|| apply_once(ctx, opened, made.clone(), changes.clone(), skip_deploys)).await
}

async fn apply_once(
    ctx: &OpCtx,
    opened: &Opened<Environment>,
    made: EnvironmentPatch,
    changes: Vec<Change>,
    skip_deploys: bool,
) -> Result<EnvironmentPatch, Error> {
    let made = EnvironmentPatch { applied_at: Some(ctx.now), ..made };
    let before = State::load(ctx, opened).await?;
    let mut after = before.clone();
    let mut plan = Plan::new(ctx, opened, &mut after, changes);
    plan.patch(&made.patch).await?;
    if plan.interrupts {
        approval::check_interruption(ctx, &opened.row)?;
    }
    let removes = !plan.removed.is_empty();
    let mut changes = plan.changes;
    let made = EnvironmentPatch { patch: marked(made.patch.clone(), &after.variables), ..made };
    changes.push(Change::EnvironmentPatchInsert(made.clone()));
    let data = json!({"changes": made.changes, "message": made.message});
    changes.push(ctx.activity(opened.tenant, Some(made.project_id), "environment_patch_commit", opened.row.id, data));
    let taken = "A domain, a TCP port or a place for a volume of this change is already in use: look and try again";
    batch::commit(ctx, opened, &before, &after, changes, skip_deploys).await.map_err(|error| error.when_taken(taken))?;
    if removes {
        ctx.ops.signals.deployments_deleted();
    }
    // Domains and services may have come or gone.
    ctx.ops.signals.ring();
    Ok(made)
}

/// A patch on its way to become changes; `after` is the environment as it will be.
struct Plan<'a> {
    ctx: &'a OpCtx,
    tenant: Tenant,
    environment: &'a Environment,
    after: &'a mut State,
    changes: Vec<Change>,
    /// Ports of the server that are to be found: for which instance, who reaches them, and the app's port.
    ports: Vec<(Instance, Vec<ProxyKind>, u16)>,
    /// The instances, here and elsewhere, of services that this patch may add.
    siblings: Vec<Instance>,
    /// Services that this patch adds.
    added: Vec<ServiceId>,
    /// Services that this patch takes out.
    removed: Vec<ServiceId>,
    /// It takes a volume from a service that stays.
    interrupts: bool,
}

fn object<'a>(path: &str, value: &'a Value) -> Result<&'a Map<String, Value>, Error> {
    value.as_object().ok_or_else(|| Error::bad_input(format!("{path} must be an object")))
}

fn unknown(path: &str) -> Error {
    Error::bad_input(format!("{path} is not available on this server: leave it out or set it to null"))
}

impl<'a> Plan<'a> {
    fn new(ctx: &'a OpCtx, opened: &'a Opened<Environment>, after: &'a mut State, changes: Vec<Change>) -> Self {
        Self {
            ctx,
            tenant: opened.tenant,
            environment: &opened.row,
            after,
            changes,
            ports: vec![],
            siblings: vec![],
            added: vec![],
            removed: vec![],
            interrupts: false,
        }
    }

    async fn patch(&mut self, patch: &Value) -> Result<(), Error> {
        let patch = object("the patch", patch)?;
        self.siblings = self.siblings_of(patch).await?;
        for (key, value) in patch {
            match key.as_str() {
                "services" => {
                    for (id, value) in object(key, value)? {
                        self.service(id, value).await?;
                    }
                }
                "sharedVariables" => self.variables(None, value)?,
                // They need the services to be there.
                "volumes" => {}
                _ if config::is_nothing(value) => {}
                _ => return Err(unknown(key)),
            }
        }
        self.volumes(patch).await?;
        self.find_ports().await?;
        variable::refuse_circles(&self.after.scope(self.ctx), &self.after.surroundings.services, &self.changes)
    }

    async fn service(&mut self, id: &str, value: &Value) -> Result<(), Error> {
        let known = id.parse::<ServiceId>().ok();
        let found = self.after.surroundings.services.iter().find(|row| Some(row.id) == known);
        let service = found.cloned().ok_or_else(|| Error::not_found(&format!("Service {id}")))?;
        let instance = self.after.instances.iter().position(|row| row.service_id == service.id);
        let patch = match value {
            Value::Null => return self.remove(&service, instance),
            value => object(id, value)?,
        };
        let says = |key: &str| patch.get(key) == Some(&Value::Bool(true));
        if says("isDeleted") {
            return self.remove(&service, instance);
        }
        let is_new = instance.is_none();
        let at = match instance {
            Some(at) => at,
            None if says("isCreated") => {
                let spec = self.inherited(service.id);
                self.after.instances.push(service::new_instance(self.ctx, self.environment, service.id, spec));
                self.added.push(service.id);
                self.after.instances.len() - 1
            }
            None => {
                let name = &service.name;
                return Err(Error::bad_input(format!("the service {name} is not in this environment: send isCreated true to add it")));
            }
        };
        let before = self.after.instances[at].spec.clone();
        let mut spec = config::patched(&before, patch, &self.ctx.ops.settings.region)?;
        let replicas = patch.get("deploy").and_then(|deploy| deploy.get("multiRegionConfig")).is_some_and(Value::is_object);
        if is_new && replicas {
            // The replica that every new instance begins with is not one that was asked for.
            let named = |region: &String| patch["deploy"]["multiRegionConfig"].get(region).is_some();
            spec.deploy.regions.retain(|region, _| named(region));
        }
        let seen = self.after.instances[at].updated_at;
        let next = Instance { spec, updated_at: self.ctx.now, ..self.after.instances[at].clone() };
        match (is_new, next.spec == before) {
            (true, _) => self.changes.push(Change::InstanceInsert(next.clone())),
            (false, false) => self.changes.push(Change::InstanceUpdate { row: next.clone(), seen }),
            (false, true) => {}
        }
        self.after.instances[at] = next.clone();
        if is_new {
            self.private_port(&next);
        }
        self.around(&service, is_new, patch).await
    }

    /// What of a service's entry is no setting of the instance. Its volumes need all services to be there, and come later.
    async fn around(&mut self, service: &Service, is_new: bool, patch: &Map<String, Value>) -> Result<(), Error> {
        for (key, value) in patch {
            match key.as_str() {
                "source" | "build" | "deploy" | "configFile" | "volumeMounts" | "isCreated" | "isDeleted" => {}
                "variables" => self.variables(Some(service.id), value)?,
                "networking" => self.networking(service, is_new, value).await?,
                // Where a service stands on a canvas, and what it is a part of there.
                "groupId" | "parentServiceId" | "clusterRole" | "icon" | "name" => {}
                _ if config::is_nothing(value) => {}
                _ => return Err(unknown(&format!("services.{}.{key}", service.id))),
            }
        }
        Ok(())
    }

    /// What a service that comes to this environment begins with: the settings of its oldest instance elsewhere that clients' types of the
    /// document have no place for, and that a copied document therefore comes without.
    fn inherited(&self, service: ServiceId) -> InstanceSpec {
        let mut spec = InstanceSpec::default();
        if let Some(oldest) = self.siblings.iter().find(|row| row.service_id == service) {
            let DeploySpec { sticky, unhealthy_replacement, .. } = &oldest.spec.deploy;
            (spec.deploy.sticky, spec.deploy.unhealthy_replacement) = (*sticky, *unhealthy_replacement);
        }
        spec
    }

    async fn siblings_of(&self, patch: &Map<String, Value>) -> Result<Vec<Instance>, Error> {
        let services = patch.get("services").and_then(Value::as_object).into_iter().flatten();
        let created = services.filter(|(_, value)| value.get("isCreated") == Some(&Value::Bool(true)));
        let ids: Vec<ServiceId> = created.filter_map(|(id, _)| id.parse().ok()).collect();
        match ids.as_slice() {
            [] => Ok(vec![]),
            ids => Ok(self.ctx.ops.store.instances_of_services(self.tenant, ids).await?),
        }
    }

    /// Takes a service out of the environment.
    fn remove(&mut self, service: &Service, instance: Option<usize>) -> Result<(), Error> {
        let Some(at) = instance else { return Ok(()) };
        let instance = self.after.instances.remove(at);
        let (domains, kept): (Vec<Domain>, Vec<Domain>) =
            std::mem::take(&mut self.after.surroundings.domains).into_iter().partition(|domain| domain.service_id == service.id);
        self.after.surroundings.domains = kept;
        self.after.variables.retain(|row| row.service_id != Some(service.id));
        self.changes.extend(domains.iter().map(|domain| Change::DomainDelete(domain.id)));
        self.changes.push(Change::VariablesClear { environment: self.environment.id, service: Some(service.id) });
        self.changes.push(Change::InstanceDelete(instance.id));
        self.after.surroundings.proxies.retain(|proxy| proxy.service_id != service.id);
        self.removed.push(service.id);
        Ok(())
    }

    fn variables(&mut self, owner: Option<ServiceId>, value: &Value) -> Result<(), Error> {
        if value.is_null() {
            return Ok(());
        }
        let mut written = BTreeMap::new();
        for (name, patch) in config::variables(value)? {
            let old = self.after.variables.iter().position(|row| row.service_id == owner && row.name == name);
            match patch {
                VariablePatch::Remove => {
                    if let Some(at) = old {
                        self.after.variables.remove(at);
                        self.changes.push(Change::VariableDelete { environment: self.environment.id, service: owner, name });
                    }
                }
                VariablePatch::Set { value, generator, is_sealed } => {
                    let kept = |variable: &Variable| variable.value.clone();
                    let value = match (value, generator, old) {
                        (Some(value), _, _) => Some(value),
                        (None, Some(text), None) => Some(generated(&name, &text)?),
                        // A generator runs once, and a value that was not sent stays.
                        (None, _, Some(at)) => Some(kept(&self.after.variables[at])),
                        // Documents are sent back without what is sealed in them.
                        (None, None, None) => None,
                    };
                    written.extend(value.map(|value| (name, (value, is_sealed))));
                }
            }
        }
        self.changes.extend(variable::write(self.ctx, self.environment, owner, written, &mut self.after.variables)?);
        Ok(())
    }

    async fn networking(&mut self, service: &Service, is_new: bool, value: &Value) -> Result<(), Error> {
        if value.is_null() {
            return Ok(());
        }
        for (key, value) in object("networking", value)? {
            let kind = match key.as_str() {
                "serviceDomains" => DomainKind::Service,
                "customDomains" => DomainKind::Custom,
                "tcpProxies" if !value.is_null() => {
                    self.tcp_proxies(service, value)?;
                    continue;
                }
                _ if config::is_nothing(value) => continue,
                _ => return Err(unknown(&format!("networking.{key}"))),
            };
            if value.is_null() {
                continue;
            }
            for (name, value) in object(&format!("networking.{key}"), value)? {
                let port = port(name, value)?;
                match (is_new, kind) {
                    // The names in a document of another environment are that environment's.
                    (true, DomainKind::Custom) => {}
                    (true, DomainKind::Service) => {
                        if !self.after.surroundings.domains.iter().any(|domain| domain.service_id == service.id) {
                            let (port, coming) = (port.flatten(), &self.after.surroundings.domains);
                            let domain = domain_name::free_service_domain(self.ctx, self.environment, service, port, coming).await?;
                            self.add(domain);
                        }
                    }
                    (false, _) => self.domain(service, kind, name, port)?,
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, domain: Domain) {
        self.after.surroundings.domains.push(domain.clone());
        self.changes.push(Change::DomainInsert(domain));
    }

    /// A domain of an instance that is there already: `None` for the port takes the domain away.
    fn domain(&mut self, service: &Service, kind: DomainKind, name: &str, port: Option<Option<u16>>) -> Result<(), Error> {
        let same = |domain: &Domain| domain.service_id == service.id && domain.kind == kind && domain.domain == name;
        let at = self.after.surroundings.domains.iter().position(same);
        match (at, port) {
            (None, None) => {}
            (Some(at), None) => {
                let gone = self.after.surroundings.domains.remove(at);
                self.changes.push(Change::DomainDelete(gone.id));
            }
            (Some(at), Some(port)) => {
                let domain = &mut self.after.surroundings.domains[at];
                if domain.target_port != port {
                    (domain.target_port, domain.updated_at) = (port, self.ctx.now);
                    self.changes.push(Change::DomainUpdate(domain.clone()));
                }
            }
            (None, Some(port)) => {
                let domain = domain_name::named(self.ctx, self.environment, service.id, kind, name, port)?;
                self.add(domain);
            }
        }
        Ok(())
    }
}

fn generated(name: &str, text: &str) -> Result<String, Error> {
    let generator = Generator::parse(text)
        .ok_or_else(|| Error::bad_input(format!("the generator of {name} is none: write secret(32) or randomInt(1, 100)")))?;
    Ok(generator.value(&mut rand::rng()))
}

/// `{"port": 80}`, `{}` or `null`.
fn port(name: &str, value: &Value) -> Result<Option<Option<u16>>, Error> {
    if value.is_null() {
        return Ok(None);
    }
    match object(name, value)?.get("port") {
        None | Some(Value::Null) => Ok(Some(None)),
        Some(port) => {
            let port = port.as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
            port.map(|port| Some(Some(port))).ok_or_else(|| Error::bad_input(format!("the port of {name} is none: 1 to 65535")))
        }
    }
}
