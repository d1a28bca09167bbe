//! Domains that route to an instance.

use std::collections::HashSet;

use domain::certificate::Certificate;
use domain::project::{Domain, DomainKind, Environment, Instance, Service};
use domain::{DomainId, EnvironmentId, Permission, Place, ProjectId, ServiceId, Tenant, key, name};
use serde_json::json;
use store::{CertificateChange, Change};

use crate::context::{Opened, Principal, anew};
use crate::{Error, OpCtx, Settings, environment, project, secret, service};

/// What a custom domain is to be.
#[derive(Clone, Debug)]
pub struct CustomDomainCreate {
    /// The project.
    pub project: ProjectId,
    /// The environment.
    pub environment: EnvironmentId,
    /// The service.
    pub service: ServiceId,
    /// The user's own name.
    pub domain: String,
    /// The app's port.
    pub target_port: Option<u16>,
}

/// Where people open a domain.
#[must_use]
pub fn public_url(settings: &Settings, domain: &Domain) -> String {
    let trusted = has_certificate(settings, domain) || forces_https(settings, domain);
    match (settings.edge_tls_port.filter(|_| trusted), settings.edge_port) {
        (Some(443), _) | (None, None) => format!("https://{}", domain.domain),
        (Some(port), _) => format!("https://{}:{port}", domain.domain),
        (None, Some(port)) => format!("http://{}:{port}", domain.domain),
    }
}

/// Whether this server orders certificates for domains of a kind. Nobody vouches for a name below `localhost`, and names below a base domain
/// with a certificate need none.
#[must_use]
pub fn orders(settings: &Settings, kind: DomainKind) -> bool {
    settings.orders_certificates && (kind == DomainKind::Custom || (settings.base_domain != "localhost" && !settings.base_certificate))
}

fn has_certificate(settings: &Settings, domain: &Domain) -> bool {
    domain.certificate.used.is_some() || (domain.kind == DomainKind::Service && settings.base_certificate)
}

/// Whether whoever asks a domain without TLS is sent there. Where a certificate comes by itself, nobody is sent to a page of warnings meanwhile.
#[must_use]
pub fn forces_https(settings: &Settings, domain: &Domain) -> bool {
    domain.force_https && (has_certificate(settings, domain) || !orders(settings, domain.kind))
}

/// The domains of a service in an environment, oldest first.
///
/// # Errors
/// Not found or not allowed.
pub async fn domains(
    ctx: &OpCtx,
    project: ProjectId,
    environment: EnvironmentId,
    service: ServiceId,
) -> Result<Opened<Vec<Domain>>, Error> {
    let opened = environment::environment_get(ctx, environment).await?;
    if opened.row.project_id != project {
        return Err(Error::not_found("Project"));
    }
    let mut found = ctx.ops.store.domains_of_environments(opened.tenant, &[environment]).await?;
    found.retain(|domain| domain.service_id == service);
    Ok(opened.with(found))
}

/// A domain of a kind in a project.
///
/// # Errors
/// Not found or not allowed.
pub async fn domain_get(ctx: &OpCtx, id: DomainId, kind: DomainKind, project: ProjectId) -> Result<Opened<Domain>, Error> {
    let opened = open(ctx, id, Permission::Read).await?;
    if (opened.row.kind, opened.row.project_id) != (kind, project) {
        return Err(Error::not_found("Domain"));
    }
    Ok(opened)
}

/// Why no service could be given a domain of this name now; `None` when one could. Nothing is told of who has it.
///
/// # Errors
/// Nobody is signed in.
pub async fn domain_unavailable(ctx: &OpCtx, kind: DomainKind, text: &str) -> Result<Option<String>, Error> {
    if matches!(ctx.principal, Principal::Anonymous) {
        return Err(ctx.unauthenticated());
    }
    let base = &ctx.ops.settings.base_domain;
    let name = match kind {
        DomainKind::Custom => custom_name(base, text),
        DomainKind::Service => service_label(base, text).map(|label| format!("{label}.{base}")),
    };
    let name = match name.and_then(|name| not_our_own(&ctx.ops.settings, name)) {
        Ok(name) => name,
        Err(bad) => return Ok(Some(bad.public)),
    };
    let Some(found) = ctx.ops.store.domain_by_name(&name).await? else { return Ok(None) };
    let holder = Tenant::system(found.workspace());
    let gives_way = |to| found.open(holder).is_some_and(|held| held.gives_way(to, ctx.now));
    let free = project::default_workspace(ctx).is_some_and(gives_way);
    Ok((!free).then(|| taken(&name)))
}

fn taken(name: &str) -> String {
    format!(
        "The domain {name} is already in use on this server. If nobody proves that it is theirs, it is free an hour after it was claimed"
    )
}

fn row(ctx: &OpCtx, environment: &Environment, service: ServiceId, kind: DomainKind, text: String, target_port: Option<u16>) -> Domain {
    Domain {
        id: DomainId::generate(),
        workspace_id: environment.workspace_id,
        project_id: environment.project_id,
        environment_id: environment.id,
        service_id: service,
        kind,
        domain: text,
        target_port,
        verification_token: None,
        verified_at: None,
        dns_value: None,
        dns_checked_at: None,
        // As on the platforms that people come from: where a certificate comes by itself, nobody is left without.
        force_https: orders(&ctx.ops.settings, kind) || (kind == DomainKind::Service && ctx.ops.settings.base_certificate),
        certificate: Certificate::default(),
        created_at: ctx.now,
        updated_at: ctx.now,
    }
}

/// A free name under the base domain for a service, with a few random characters when the plain one is taken: by somebody, or by one of
/// those that come in the same commit.
pub(crate) async fn free_service_domain(
    ctx: &OpCtx,
    environment: &Environment,
    service: &Service,
    target_port: Option<u16>,
    coming: &[Domain],
) -> Result<Domain, Error> {
    let base = &ctx.ops.settings.base_domain;
    let label = name::label(&name::slug(&service.name, "app"), &name::slug(&environment.name, "env"));
    let mut candidate = format!("{label}.{base}");
    for _ in 0..8 {
        let is_free = !coming.iter().any(|domain| domain.domain == candidate) && not_our_own(&ctx.ops.settings, candidate.clone()).is_ok();
        if is_free && ctx.ops.store.domain_by_name(&candidate).await?.is_none() {
            return Ok(row(ctx, environment, service.id, DomainKind::Service, candidate, target_port));
        }
        candidate = format!("{label}-{}.{base}", secret::suffix());
    }
    Err(Error::conflict("No free name was found for this service: choose one with a custom domain"))
}

/// A domain as an environment's document names it.
pub(crate) fn named(
    ctx: &OpCtx,
    environment: &Environment,
    service: ServiceId,
    kind: DomainKind,
    text: &str,
    target_port: Option<u16>,
) -> Result<Domain, Error> {
    let base = &ctx.ops.settings.base_domain;
    let name = match kind {
        DomainKind::Custom => custom_name(base, text)?,
        DomainKind::Service => format!("{}.{base}", service_label(base, text)?),
    };
    let mut made = row(ctx, environment, service, kind, not_our_own(&ctx.ops.settings, name)?, target_port);
    if kind == DomainKind::Custom {
        to_be_proved(ctx, &mut made);
    }
    Ok(made)
}

/// Refuses the names at which people reach this server's own pages and API, or those of its other regions: whoever had one would see what
/// they send there.
fn not_our_own(settings: &Settings, name: String) -> Result<String, Error> {
    let mut ours = std::iter::once(&settings.dashboard_url).chain(settings.regions.iter().map(|(_, address)| address));
    if ours.any(|address| host_of(address).eq_ignore_ascii_case(&name)) {
        return Err(Error::bad_input(format!("{name} is this server's own address: choose another name")));
    }
    Ok(name)
}

/// The host in the address of a page.
fn host_of(address: &str) -> &str {
    let rest = address.split_once("://").map_or(address, |(_, rest)| rest);
    let place = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = place.rsplit_once('@').map_or(place, |(_, host)| host);
    host.split_once(':').map_or(host, |(host, _)| host).trim_end_matches('.')
}

/// The first label of a service domain, given by itself or with the base domain behind it.
fn service_label(base: &str, text: &str) -> Result<String, Error> {
    let lower = text.trim().to_ascii_lowercase();
    let label = lower.strip_suffix(&format!(".{base}")).unwrap_or(&lower);
    if !name::is_label(label) {
        return Err(Error::bad_input("a service domain is one label of at most 63 letters, digits and dashes under this server's domain"));
    }
    Ok(label.to_owned())
}

fn custom_name(base: &str, text: &str) -> Result<String, Error> {
    let name = name::host(text)?;
    if name == *base || name.ends_with(&format!(".{base}")) {
        return Err(Error::bad_input(format!("{name} lies under this server's own domain {base}: create a service domain for it")));
    }
    Ok(name)
}

/// Gives a custom domain the token that its owner publishes; where DNS is not asked, it counts as proved at once. The token is no secret,
/// and a workspace's for a name stays the same, so that whoever has published it proves the name whenever they claim it.
pub(crate) fn to_be_proved(ctx: &OpCtx, domain: &mut Domain) {
    let proof = key::hash(&format!("{}/{}", domain.workspace_id, domain.domain));
    let token: String = proof[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    domain.verification_token = Some(format!("orrery-verify={token}"));
    if !ctx.ops.settings.verify_domains {
        (domain.verified_at, domain.dns_value) = (Some(ctx.now), Some(ctx.ops.settings.base_domain.clone()));
    }
}

/// Gives a service a domain under the server's base domain.
///
/// # Errors
/// Not found, not allowed, or it has one already.
pub async fn service_domain_create(
    ctx: &OpCtx,
    environment_id: EnvironmentId,
    service_id: ServiceId,
    target_port: Option<u16>,
) -> Result<Domain, Error> {
    let instance = service::instance_for(ctx, environment_id, service_id, Permission::Write).await?;
    let environment = environment::environment_get(ctx, environment_id).await?;
    let service = service::service_get(ctx, service_id).await?;
    let existing = ctx.ops.store.domains_of_environments(instance.tenant, &[environment_id]).await?;
    if existing.iter().any(|domain| domain.service_id == service_id && domain.kind == DomainKind::Service) {
        return Err(Error::conflict("The service already has a domain in this environment: delete or rename that one"));
    }
    let domain = free_service_domain(ctx, &environment.row, &service.row, target_port, &[]).await?;
    insert(ctx, instance, domain, "service_domain_create", vec![]).await
}

/// Attaches a domain of the user's own.
///
/// # Errors
/// Not a domain name, taken, under the base domain, not found, or not allowed.
pub async fn custom_domain_create(ctx: &OpCtx, input: CustomDomainCreate) -> Result<Domain, Error> {
    let (instance, domain) = custom_domain(ctx, input).await?;
    insert(ctx, instance, domain, "custom_domain_create", vec![]).await
}

/// A custom domain as it will be, and the instance that it is for.
pub(crate) async fn custom_domain(ctx: &OpCtx, input: CustomDomainCreate) -> Result<(Opened<Instance>, Domain), Error> {
    let text = not_our_own(&ctx.ops.settings, custom_name(&ctx.ops.settings.base_domain, &input.domain)?)?;
    let instance = service::instance_for(ctx, input.environment, input.service, Permission::Write).await?;
    if instance.row.project_id != input.project {
        return Err(Error::not_found("Project"));
    }
    let environment = environment::environment_get(ctx, input.environment).await?;
    let mut domain = row(ctx, &environment.row, input.service, DomainKind::Custom, text, input.target_port);
    to_be_proved(ctx, &mut domain);
    Ok((instance, domain))
}

/// Commits the changes, and with them what makes room for the custom domains among them: claims on their names that others did not prove
/// give way. Of a claim that was proved or deleted meanwhile it is stale; then nothing has changed.
pub(crate) async fn commit(ctx: &OpCtx, tenant: Tenant, changes: Vec<Change>) -> Result<(), Error> {
    let mut parts = room_for(ctx, &changes).await?;
    parts.push((tenant, changes));
    ctx.ops.store.commit_across(parts).await?;
    Ok(())
}

async fn room_for(ctx: &OpCtx, changes: &[Change]) -> Result<Vec<(Tenant, Vec<Change>)>, Error> {
    let mut names = HashSet::new();
    let mut room = vec![];
    for change in changes {
        let Change::DomainInsert(wanted) = change else { continue };
        if wanted.kind != DomainKind::Custom || !names.insert(&wanted.domain) {
            continue;
        }
        // Nothing of what is found is told, but that the name is in use.
        let Some(found) = ctx.ops.store.domain_by_name(&wanted.domain).await? else { continue };
        let holder = Tenant::system(found.workspace());
        let Some(held) = found.open(holder).filter(|held| held.gives_way(wanted.workspace_id, ctx.now)) else { continue };
        // It may be one's own, and move.
        if changes.iter().any(|change| matches!(change, Change::DomainDelete(id) if *id == held.id)) {
            continue;
        }
        let own = OpCtx::system(&ctx.ops, holder, "domains", ctx.now);
        let activity = own.activity(holder, Some(held.project_id), "domain_lapse", held.id, json!({"domain": held.domain}));
        room.push((holder, vec![Change::DomainLapse(held.id), activity]));
    }
    Ok(room)
}

/// `more` is done to the domain in the same commit.
pub(crate) async fn insert<T>(ctx: &OpCtx, opened: Opened<T>, domain: Domain, verb: &str, more: Vec<Change>) -> Result<Domain, Error> {
    let activity = ctx.activity(opened.tenant, Some(domain.project_id), verb, domain.id, json!({"domain": domain.domain}));
    let changes = [vec![Change::DomainInsert(domain.clone()), activity], more].concat();
    anew(|| commit(ctx, opened.tenant, changes.clone())).await.map_err(|error| error.when_taken(taken(&domain.domain)))?;
    ctx.ops.signals.ring();
    Ok(domain)
}

pub(crate) async fn domain_for(ctx: &OpCtx, id: DomainId) -> Result<Opened<Domain>, Error> {
    open(ctx, id, Permission::Write).await
}

async fn open(ctx: &OpCtx, id: DomainId, permission: Permission) -> Result<Opened<Domain>, Error> {
    let place = |domain: &Domain| Place::Environment(domain.project_id, domain.environment_id);
    ctx.open(ctx.ops.store.domain(id).await?, "Domain", place, permission)
}

/// Where a client believes a domain to be: a mistaken id changes nothing.
#[derive(Clone, Copy, Debug)]
pub struct Within {
    /// Its kind.
    pub kind: DomainKind,
    /// Its environment.
    pub environment: EnvironmentId,
    /// Its service, when the client names it.
    pub service: Option<ServiceId>,
}

/// Changes of a domain. What is `None` stays.
#[derive(Clone, Debug)]
pub struct DomainPatch {
    /// Another name, for a service domain.
    pub name: Option<String>,
    /// Another port; `Some(None)` for the service's own.
    pub target_port: Option<Option<u16>>,
}

/// Renames a service domain (its first label, or the whole name under the base domain) or changes the port.
///
/// # Errors
/// A bad or taken name, not found, not of the environment and the service that are named, or not allowed.
pub async fn domain_update(ctx: &OpCtx, id: DomainId, within: Within, patch: DomainPatch) -> Result<Domain, Error> {
    let DomainPatch { name: new_name, target_port } = patch;
    let mut opened = domain_for(ctx, id).await?;
    let elsewhere = within.service.is_some_and(|service| service != opened.row.service_id);
    if opened.row.environment_id != within.environment || opened.row.kind != within.kind || elsewhere {
        return Err(Error::not_found("Domain"));
    }
    let before = opened.row.domain.clone();
    if let Some(text) = new_name {
        let base = &ctx.ops.settings.base_domain;
        if opened.row.kind != DomainKind::Service {
            return Err(Error::bad_input("only a service domain can be renamed: delete this one and attach the other name"));
        }
        opened.row.domain = not_our_own(&ctx.ops.settings, format!("{}.{base}", service_label(base, &text)?))?;
    }
    if let Some(port) = target_port {
        opened.row.target_port = port;
    }
    opened.row.updated_at = ctx.now;
    let data = json!({"before": before, "after": opened.row.domain, "targetPort": opened.row.target_port});
    let activity = ctx.activity(opened.tenant, Some(opened.row.project_id), "domain_update", id, data);
    let mut changes = vec![Change::DomainUpdate(opened.row.clone()), activity];
    if opened.row.domain != before {
        // It was for the other name.
        opened.row.certificate = Certificate::default();
        changes.push(Change::Certificate(CertificateChange::Delete(id)));
    }
    ctx.ops
        .store
        .commit(opened.tenant, changes)
        .await
        .map_err(|error| Error::from(error).when_taken("That domain is already in use on this server"))?;
    ctx.ops.signals.ring();
    Ok(opened.row)
}

/// Deletes a domain of a kind.
///
/// # Errors
/// Not found or not allowed.
pub async fn domain_delete(ctx: &OpCtx, id: DomainId, kind: DomainKind) -> Result<(), Error> {
    let opened = domain_for(ctx, id).await?;
    if opened.row.kind != kind {
        return Err(Error::not_found("Domain"));
    }
    let activity = ctx.activity(opened.tenant, Some(opened.row.project_id), "domain_delete", id, json!({"domain": opened.row.domain}));
    ctx.commit(opened.tenant, vec![Change::DomainDelete(id), activity]).await?;
    ctx.ops.signals.ring();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use domain::certificate::{CertificateFacts, CertificateKey, CertificateSource};
    use domain::{Timestamp, WorkspaceId};

    use super::*;

    fn domain(kind: DomainKind, certified: bool) -> Domain {
        let at = Timestamp::UNIX_EPOCH;
        let facts = || CertificateFacts {
            source: CertificateSource::Acme,
            names: vec![],
            issuer: String::new(),
            key: CertificateKey::Ecdsa,
            fingerprint: String::new(),
            issued_at: at,
            expires_at: at,
        };
        Domain {
            id: DomainId::generate(),
            workspace_id: WorkspaceId::generate(),
            project_id: ProjectId::generate(),
            environment_id: EnvironmentId::generate(),
            service_id: ServiceId::generate(),
            kind,
            domain: "a.test".into(),
            target_port: None,
            verification_token: None,
            verified_at: None,
            dns_value: None,
            dns_checked_at: None,
            force_https: true,
            certificate: Certificate { used: certified.then(facts), ..Certificate::default() },
            created_at: at,
            updated_at: at,
        }
    }

    #[test]
    fn people_are_sent_to_https_when_there_is_a_certificate_or_none_is_to_come() {
        let plain = Settings { base_domain: "apps.test".into(), ..Settings::local(Path::new("/")) };
        let secure = Settings { edge_tls_port: Some(8443), ..plain.clone() };
        let ordering = Settings { orders_certificates: true, ..secure.clone() };
        let wildcard = Settings { base_certificate: true, edge_tls_port: Some(443), ..ordering.clone() };
        for (settings, kind, certified, address) in [
            (&plain, DomainKind::Custom, true, "http://a.test:8081"),
            (&secure, DomainKind::Custom, false, "https://a.test:8443"),
            (&ordering, DomainKind::Custom, false, "http://a.test:8081"),
            (&ordering, DomainKind::Service, false, "http://a.test:8081"),
            (&ordering, DomainKind::Service, true, "https://a.test:8443"),
            (&wildcard, DomainKind::Service, false, "https://a.test"),
            (&wildcard, DomainKind::Custom, false, "http://a.test:8081"),
        ] {
            let domain = domain(kind, certified);
            assert_eq!(public_url(settings, &domain), address, "{kind:?} {certified}");
        }
        assert!(orders(&ordering, DomainKind::Service) && !orders(&wildcard, DomainKind::Service) && orders(&wildcard, DomainKind::Custom));
        let local = Settings { base_domain: "localhost".into(), ..ordering };
        assert!(!orders(&local, DomainKind::Service), "nobody vouches for names below localhost");
    }
}
