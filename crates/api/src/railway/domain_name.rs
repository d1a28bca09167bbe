//! Domains that route to an instance.

use std::sync::Arc;

use domain::project::{Domain, VERIFICATION_LABEL};
use juniper::{GraphQLObject, ID, graphql_object};

use super::absent::CertificatePublicData;
use super::enums::{
    CDNProvider, CertificateErrorType, CertificateStatus, CertificateStatusDetailed, CustomDomainSyncStatus, DNSRecordPurpose,
    DNSRecordStatus, DNSRecordType, ServiceDomainSyncStatus,
};
use crate::graphql::scalar::DateTime;
use crate::graphql::{Ctx, Scalar};

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
    fn certificate_error_message(&self) -> Option<String> {
        None
    }
    fn certificate_error_type(&self) -> Option<CertificateErrorType> {
        None
    }
    fn certificate_retryable(&self) -> Option<bool> {
        None
    }
    fn certificate_status(&self) -> CertificateStatus {
        CertificateStatus::Unspecified
    }
    fn certificate_status_detailed(&self) -> Option<CertificateStatusDetailed> {
        None
    }
    fn certificates(&self) -> Option<Vec<CertificatePublicData>> {
        None
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
