//! Domains that route to an instance.

use std::sync::Arc;

use domain::certificate::{CertificateFacts, CertificateKey, CertificateStatus as Stands, FailureKind};
use domain::project::{Domain, DomainKind, VERIFICATION_LABEL};
use domain::{DomainId, EnvironmentId, ProjectId, ServiceId};
use juniper::{GraphQLInputObject, GraphQLObject, ID, graphql_object};
use ops::certificate::OwnCertificate;
use ops::domain_name::{CustomDomainCreate, DomainPatch, Within, orders};

use super::enums::{
    CDNProvider, CertificateErrorType, CertificateStatus, CertificateStatusDetailed, CustomDomainSyncStatus, DNSRecordPurpose,
    DNSRecordStatus, DNSRecordType, KeyType, ServiceDomainSyncStatus,
};
use super::inputs::{self, CustomDomainCreateInput};
use crate::graphql::scalar::DateTime;
use crate::graphql::{Ctx, Fault, Scalar};

/// All domains of an instance.
pub(crate) struct AllDomains {
    pub(crate) custom: Vec<CustomDomain>,
    pub(crate) service: Vec<ServiceDomain>,
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl AllDomains {
    fn custom_domains(&self) -> &[CustomDomain] {
        &self.custom
    }
    fn service_domains(&self) -> &[ServiceDomain] {
        &self.service
    }
}

fn port(domain: &Domain) -> Option<i32> {
    domain.target_port.map(i32::from)
}

/// A domain under the server's base domain.
pub(crate) struct ServiceDomain(pub(crate) Arc<Domain>);

#[graphql_object(context = Ctx, scalar = Scalar)]
impl ServiceDomain {
    fn created_at(&self) -> Option<DateTime> {
        Some(DateTime(self.0.created_at))
    }
    fn deleted_at(&self) -> Option<DateTime> {
        None
    }
    fn domain(&self) -> &str {
        &self.0.domain
    }
    fn environment_id(&self) -> String {
        self.0.environment_id.to_string()
    }
    /// Whoever asks without TLS is sent there, where the server speaks it.
    fn force_https(&self) -> bool {
        self.0.force_https
    }
    fn id(&self) -> ID {
        ID::from(self.0.id.to_string())
    }
    fn project_id(&self) -> Option<String> {
        Some(self.0.project_id.to_string())
    }
    fn service_id(&self) -> String {
        self.0.service_id.to_string()
    }
    /// What stands behind the first label; clients compute the domain as label, dot and this.
    fn suffix(&self) -> Option<&str> {
        self.0.domain.split_once('.').map(|(_, suffix)| suffix)
    }
    fn sync_status(&self) -> ServiceDomainSyncStatus {
        ServiceDomainSyncStatus::Active
    }
    fn target_port(&self) -> Option<i32> {
        port(&self.0)
    }
    fn updated_at(&self) -> Option<DateTime> {
        Some(DateTime(self.0.updated_at))
    }
}

/// A domain of the user's own.
pub(crate) struct CustomDomain(pub(crate) Arc<Domain>);

#[graphql_object(context = Ctx, scalar = Scalar)]
impl CustomDomain {
    fn created_at(&self) -> Option<DateTime> {
        Some(DateTime(self.0.created_at))
    }
    fn deleted_at(&self) -> Option<DateTime> {
        None
    }
    fn domain(&self) -> &str {
        &self.0.domain
    }
    fn environment_id(&self) -> String {
        self.0.environment_id.to_string()
    }
    /// Whoever asks without TLS is sent there, where the server speaks it.
    fn force_https(&self) -> bool {
        self.0.force_https
    }
    fn id(&self) -> ID {
        ID::from(self.0.id.to_string())
    }
    fn project_id(&self) -> Option<String> {
        Some(self.0.project_id.to_string())
    }
    fn service_id(&self) -> String {
        self.0.service_id.to_string()
    }
    fn status(&self, ctx: &Ctx) -> CustomDomainStatus {
        CustomDomainStatus { domain: Arc::clone(&self.0), base: ctx.op.ops.settings.base_domain.clone() }
    }
    fn sync_status(&self) -> CustomDomainSyncStatus {
        CustomDomainSyncStatus::Active
    }
    fn target_port(&self) -> Option<i32> {
        port(&self.0)
    }
    fn updated_at(&self) -> Option<DateTime> {
        Some(DateTime(self.0.updated_at))
    }
}

/// What a custom domain still needs.
pub(crate) struct CustomDomainStatus {
    domain: Arc<Domain>,
    base: String,
}

impl CustomDomainStatus {
    fn status(&self, ctx: &Ctx) -> Stands {
        self.domain.certificate_status(orders(&ctx.op.ops.settings, self.domain.kind), ctx.op.now)
    }

    /// The host's label within its zone, and the zone: the last two labels.
    fn split(&self) -> (String, String) {
        let labels: Vec<&str> = self.domain.domain.split('.').collect();
        let (host, zone) = labels.split_at(labels.len().saturating_sub(2));
        (if host.is_empty() { "@".to_owned() } else { host.join(".") }, zone.join("."))
    }
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl CustomDomainStatus {
    fn cdn_provider(&self) -> Option<CDNProvider> {
        None
    }
    /// Why the last order failed, or what keeps one from being made.
    fn certificate_error_message(&self, ctx: &Ctx) -> Option<String> {
        self.domain.certificate_problem(orders(&ctx.op.ops.settings, self.domain.kind), ctx.op.now).map(str::to_owned)
    }
    fn certificate_error_type(&self) -> Option<CertificateErrorType> {
        Some(match self.domain.certificate.failure.as_ref()?.kind {
            FailureKind::Authorization => CertificateErrorType::Authorization,
            FailureKind::Dns => CertificateErrorType::Dns,
            FailureKind::Order => CertificateErrorType::OrderCreation,
            FailureKind::RateLimit => CertificateErrorType::RateLimit,
            FailureKind::Internal => CertificateErrorType::Internal,
        })
    }
    /// It is tried again by itself, and with `customDomainIssueCertificate` at once.
    fn certificate_retryable(&self) -> Option<bool> {
        self.domain.certificate.failure.as_ref().map(|_| true)
    }
    fn certificate_status(&self, ctx: &Ctx) -> CertificateStatus {
        match self.status(ctx) {
            Stands::Off => CertificateStatus::Unspecified,
            Stands::ValidatingOwnership => CertificateStatus::ValidatingOwnership,
            Stands::Issuing => CertificateStatus::Issuing,
            Stands::Valid => CertificateStatus::Valid,
            Stands::Failed => CertificateStatus::IssueFailed,
        }
    }
    fn certificate_status_detailed(&self, ctx: &Ctx) -> Option<CertificateStatusDetailed> {
        match self.status(ctx) {
            Stands::Off | Stands::ValidatingOwnership => None,
            Stands::Issuing => Some(CertificateStatusDetailed::CreatingOrder),
            Stands::Valid => Some(CertificateStatusDetailed::Complete),
            Stands::Failed => Some(CertificateStatusDetailed::Failed),
        }
    }
    fn certificates(&self) -> Option<Vec<CertificatePublicData>> {
        self.domain.certificate.used.clone().map(|used| vec![CertificatePublicData(used)])
    }
    fn dns_records(&self) -> Vec<DNSRecords> {
        let (hostlabel, zone) = self.split();
        let seen = self.domain.dns_value.as_ref() == Some(&self.base);
        vec![DNSRecords {
            current_value: self.domain.dns_value.clone().unwrap_or_default(),
            fqdn: self.domain.domain.clone(),
            hostlabel,
            purpose: DNSRecordPurpose::Traffic,
            record_type: DNSRecordType::Cname,
            required_value: self.base.clone(),
            status: if seen { DNSRecordStatus::Propagated } else { DNSRecordStatus::RequiresUpdate },
            zone,
        }]
    }
    fn verification_dns_host(&self) -> Option<String> {
        let (label, _) = self.split();
        let label = label.strip_prefix("*.").unwrap_or(if label == "*" { "@" } else { &label }).to_owned();
        Some(if label == "@" { VERIFICATION_LABEL.to_owned() } else { format!("{VERIFICATION_LABEL}.{label}") })
    }
    fn verification_token(&self) -> Option<&str> {
        self.domain.verification_token.as_deref()
    }
    fn verified(&self) -> bool {
        self.domain.verified_at.is_some()
    }
}

/// Whether a name is free.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct DomainAvailable {
    available: bool,
    /// Why it is not.
    message: String,
}

/// A record that the domain's owner sets.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct DNSRecords {
    current_value: String,
    fqdn: String,
    hostlabel: String,
    purpose: DNSRecordPurpose,
    record_type: DNSRecordType,
    required_value: String,
    status: DNSRecordStatus,
    zone: String,
}

/// A certificate that a domain uses.
pub(crate) struct CertificatePublicData(CertificateFacts);

#[graphql_object(context = Ctx, scalar = Scalar)]
impl CertificatePublicData {
    fn domain_names(&self) -> &[String] {
        &self.0.names
    }
    fn expires_at(&self) -> Option<DateTime> {
        Some(DateTime(self.0.expires_at))
    }
    fn fingerprint_sha256(&self) -> &str {
        &self.0.fingerprint
    }
    fn issued_at(&self) -> Option<DateTime> {
        Some(DateTime(self.0.issued_at))
    }
    fn key_type(&self) -> KeyType {
        match self.0.key {
            CertificateKey::Rsa2048 => KeyType::Rsa2048,
            CertificateKey::Rsa4096 => KeyType::Rsa4096,
            CertificateKey::Ecdsa => KeyType::Ecdsa,
            CertificateKey::Other => KeyType::Unspecified,
        }
    }
}

/// A certificate that a domain's owner brings. The private key is never given out again.
#[derive(Clone, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct DomainCertificateSetInput {
    /// PEM: the domain's own first, then the intermediates.
    certificate: String,
    /// Of a service domain or a custom one.
    domain_id: String,
    /// PEM, not encrypted.
    private_key: String,
}

fn domain_id(text: &str) -> Result<DomainId, Fault> {
    inputs::id("Domain", text, DomainId)
}

pub(crate) fn custom_domain(ctx: &Ctx, id: &str, project: &str) -> Result<CustomDomain, Fault> {
    let project = inputs::id("Project", project, ProjectId)?;
    let found = ctx.wait(ops::domain_name::domain_get(&ctx.op, domain_id(id)?, DomainKind::Custom, project))?;
    Ok(CustomDomain(Arc::new(found.row)))
}

/// What creating a domain of this name would say.
pub(crate) fn available(ctx: &Ctx, kind: DomainKind, domain: &str) -> Result<DomainAvailable, Fault> {
    let problem = ctx.wait(ops::domain_name::domain_unavailable(&ctx.op, kind, domain))?;
    Ok(DomainAvailable { available: problem.is_none(), message: problem.unwrap_or_else(|| format!("{} is available", domain.trim())) })
}

pub(crate) fn custom_domain_create(ctx: &Ctx, input: CustomDomainCreateInput) -> Result<CustomDomain, Fault> {
    let wanted = CustomDomainCreate {
        project: inputs::id("Project", &input.project_id, ProjectId)?,
        environment: inputs::id("Environment", &input.environment_id, EnvironmentId)?,
        service: inputs::id("Service", &input.service_id, ServiceId)?,
        domain: input.domain,
        target_port: inputs::port(input.target_port)?,
    };
    Ok(CustomDomain(Arc::new(ctx.wait(ops::domain_name::custom_domain_create(&ctx.op, wanted))?)))
}

pub(crate) fn custom_domain_update(ctx: &Ctx, environment: &str, id: &str, target_port: Option<i32>) -> Result<bool, Fault> {
    let environment = inputs::id("Environment", environment, EnvironmentId)?;
    let within = Within { kind: DomainKind::Custom, environment, service: None };
    let patch = DomainPatch { name: None, target_port: Some(inputs::port(target_port)?) };
    ctx.wait(ops::domain_name::domain_update(&ctx.op, domain_id(id)?, within, patch))?;
    Ok(true)
}

pub(crate) fn custom_domain_issue_certificate(ctx: &Ctx, id: &str) -> Result<bool, Fault> {
    ctx.wait(ops::certificate::custom_domain_issue_certificate(&ctx.op, domain_id(id)?))?;
    Ok(true)
}

pub(crate) fn domain_certificate_remove(ctx: &Ctx, id: &str) -> Result<bool, Fault> {
    ctx.wait(ops::certificate::domain_certificate_remove(&ctx.op, domain_id(id)?))?;
    Ok(true)
}

pub(crate) fn domain_certificate_set(ctx: &Ctx, input: DomainCertificateSetInput) -> Result<bool, Fault> {
    let own = OwnCertificate { chain: input.certificate, key: input.private_key };
    ctx.wait(ops::certificate::domain_certificate_set(&ctx.op, domain_id(&input.domain_id)?, own))?;
    Ok(true)
}

pub(crate) fn domain_https_set(ctx: &Ctx, force: bool, id: &str) -> Result<bool, Fault> {
    ctx.wait(ops::certificate::domain_https_set(&ctx.op, domain_id(id)?, force))?;
    Ok(true)
}
