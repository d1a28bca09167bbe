//! Domains.

use domain::project::{Domain, DomainKind};
use domain::{DomainId, EnvironmentId, InstanceId, ProjectId, Sealed, ServiceId, Tenant, Timestamp, WorkspaceId};

use crate::executor::{BadCell, Record, Statement};
use crate::{Store, StoreError};

macro_rules! columns {
    () => {
        "domains.id, domains.workspace_id, domains.project_id, domains.environment_id, domains.service_id, domains.kind, \
         domains.domain, domains.target_port, domains.verification_token, domains.verified_at, domains.dns_value, \
         domains.dns_checked_at, domains.force_https, domains.certificate, domains.created_at, domains.updated_at"
    };
}

statements! {
    DOMAIN = concat!("SELECT ", columns!(), " FROM domains WHERE id = $id");
    DOMAIN_BY_NAME = concat!("SELECT ", columns!(), " FROM domains WHERE domain = $domain");
    DOMAINS_OF_ENVIRONMENTS = concat!(
        "SELECT ", columns!(), " FROM domains WHERE environment_id IN ($environments) AND workspace_id = $workspace"
    );
    DOMAINS_OF_WORKSPACE = concat!("SELECT ", columns!(), " FROM domains WHERE workspace_id = $workspace");
    SYSTEM_ROUTES = concat!(
        "SELECT services.name, instances.id, ", columns!(), " FROM domains \
         JOIN instances ON instances.environment_id = domains.environment_id AND instances.service_id = domains.service_id \
         JOIN services ON services.id = domains.service_id \
         WHERE domains.kind <> 'CUSTOM' OR domains.verified_at IS NOT NULL ORDER BY domains.id"
    );
    SYSTEM_DOMAINS_UNVERIFIED =
        concat!("SELECT ", columns!(), " FROM domains WHERE kind = 'CUSTOM' AND verified_at IS NULL ORDER BY id");
    SYSTEM_CERTIFICATES_DUE = concat!(
        "SELECT domains.certificate_due_at, ", columns!(), " FROM (SELECT domains.*, \
         row_number() OVER (PARTITION BY workspace_id ORDER BY certificate_due_at, id) AS turn FROM domains WHERE certificate_due_at <= $now \
         AND (kind = 'CUSTOM' AND verified_at IS NOT NULL OR kind <> 'CUSTOM' AND $services) AND domain NOT LIKE '*.%') AS domains \
         WHERE turn <= 20 ORDER BY turn, certificate_due_at, id LIMIT $limit"
    );
    DOMAIN_INSERT =
        "INSERT INTO domains (id, workspace_id, project_id, environment_id, service_id, kind, domain, target_port, \
         verification_token, verified_at, dns_value, dns_checked_at, force_https, created_at, updated_at) VALUES ($id, $workspace, \
         $project, $environment, $service, $kind, $domain, $target_port, $token, $verified, $dns_value, $dns_checked, $force_https, \
         $created, $updated)";
    DOMAIN_CHECKED =
        "UPDATE domains SET dns_value = $dns_value, dns_checked_at = $at, verified_at = $verified \
         WHERE id = $id AND verified_at IS NULL AND workspace_id = $workspace";
    DOMAIN_UPDATE =
        "UPDATE domains SET domain = $domain, target_port = $target_port, updated_at = $updated WHERE id = $id AND workspace_id = $workspace";
    /// One that was proved meanwhile stays.
    DOMAIN_LAPSE =
        "DELETE FROM domains WHERE id = $id AND workspace_id = $workspace AND kind = 'CUSTOM' AND verified_at IS NULL";
    DOMAIN_HTTPS = "UPDATE domains SET force_https = $force, updated_at = $at WHERE id = $id AND workspace_id = $workspace";
    DOMAIN_DELETE = "DELETE FROM domains WHERE id = $id AND workspace_id = $workspace";
}

fn row(r: &mut Record) -> Result<Domain, BadCell> {
    Ok(Domain {
        id: r.id(DomainId)?,
        workspace_id: r.id(WorkspaceId)?,
        project_id: r.id(ProjectId)?,
        environment_id: r.id(EnvironmentId)?,
        service_id: r.id(ServiceId)?,
        kind: r.word(DomainKind::parse)?,
        domain: r.text()?,
        target_port: r.maybe_number()?,
        verification_token: r.maybe_text()?,
        verified_at: r.maybe_time()?,
        dns_value: r.maybe_text()?,
        dns_checked_at: r.maybe_time()?,
        force_https: r.flag()?,
        certificate: r.json()?,
        created_at: r.time()?,
        updated_at: r.time()?,
    })
}

impl Store {
    /// A domain.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn domain(&self, id: DomainId) -> Result<Option<Sealed<Domain>>, StoreError> {
        self.sealed(&DOMAIN, &params![id = id], row, |domain| domain.workspace_id).await
    }

    /// A domain by its name, which is stored in lower case without a trailing dot.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn domain_by_name(&self, name: &str) -> Result<Option<Sealed<Domain>>, StoreError> {
        self.sealed(&DOMAIN_BY_NAME, &params![domain = name], row, |domain| domain.workspace_id).await
    }

    /// The domains in the environments, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn domains_of_environments(&self, tenant: Tenant, environments: &[EnvironmentId]) -> Result<Vec<Domain>, StoreError> {
        self.batch(&DOMAINS_OF_ENVIRONMENTS, &params![workspace = tenant, environments = environments], row, |row| row.id).await
    }

    /// The domains of the workspace, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn domains_of_workspace(&self, tenant: Tenant) -> Result<Vec<Domain>, StoreError> {
        self.batch(&DOMAINS_OF_WORKSPACE, &params![workspace = tenant], row, |row| row.id).await
    }

    /// Every custom domain of the server whose owner has not proved it, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_domains_unverified(&self) -> Result<Vec<Domain>, StoreError> {
        self.list(&SYSTEM_DOMAINS_UNVERIFIED, &[], row).await
    }

    /// Routed domains whose next certificate is due, and since when, in turns of the workspaces: the longest waiting one of each, then the
    /// second of each, 20 of one workspace at most. Service domains only with `services`. Wildcards are not among them: an authority that asks
    /// the host itself has none to ask.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_certificates_due(
        &self,
        now: Timestamp,
        services: bool,
        limit: u32,
    ) -> Result<Vec<(Domain, Timestamp)>, StoreError> {
        let read = |r: &mut Record| {
            let due = r.time()?;
            Ok((row(r)?, due))
        };
        self.list(&SYSTEM_CERTIFICATES_DUE, &params![now = now, services = services, limit = limit], read).await
    }

    /// Every domain of the server that is routed, with the name of its service and the instance that it routes to, for the edge's table.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_routes(&self) -> Result<Vec<(Domain, String, InstanceId)>, StoreError> {
        let read = |r: &mut Record| {
            let (name, instance) = (r.text()?, r.id(InstanceId)?);
            Ok((row(r)?, name, instance))
        };
        self.list(&SYSTEM_ROUTES, &[], read).await
    }
}

pub(crate) fn domain_insert(row: &Domain) -> Statement {
    let Domain { id, workspace_id, project_id, environment_id, service_id, kind, domain, .. } = row;
    let Domain { target_port, verification_token, verified_at, dns_value, dns_checked_at, force_https, created_at, updated_at, .. } = row;
    let params = params![
        id = *id,
        workspace = *workspace_id,
        project = *project_id,
        environment = *environment_id,
        service = *service_id,
        kind = kind.as_str(),
        domain = domain,
        target_port = *target_port,
        token = verification_token.as_ref(),
        verified = *verified_at,
        dns_value = dns_value.as_ref(),
        dns_checked = *dns_checked_at,
        force_https = *force_https,
        created = *created_at,
        updated = *updated_at
    ];
    Statement::touch(&DOMAIN_INSERT, params)
}

pub(crate) fn domain_update(row: &Domain) -> Statement {
    let Domain { id, workspace_id, domain, target_port, updated_at, .. } = row;
    let params = params![id = *id, workspace = *workspace_id, domain = domain, target_port = *target_port, updated = *updated_at];
    Statement::touch(&DOMAIN_UPDATE, params)
}

/// One that was verified meanwhile, or is gone, is not touched.
pub(crate) fn domain_checked(tenant: Tenant, id: DomainId, value: Option<&String>, verified: bool, at: Timestamp) -> Statement {
    let params = params![id = id, workspace = tenant, dns_value = value, verified = verified.then_some(at), at = at];
    Statement::touch(&DOMAIN_CHECKED, params)
}

pub(crate) fn domain_https(tenant: Tenant, id: DomainId, force: bool, at: Timestamp) -> Statement {
    Statement::touch(&DOMAIN_HTTPS, params![id = id, workspace = tenant, force = force, at = at])
}

pub(crate) fn domain_delete(tenant: Tenant, id: DomainId) -> Statement {
    Statement::touch(&DOMAIN_DELETE, params![id = id, workspace = tenant])
}

pub(crate) fn domain_lapse(tenant: Tenant, id: DomainId) -> Statement {
    Statement::touch(&DOMAIN_LAPSE, params![id = id, workspace = tenant])
}
