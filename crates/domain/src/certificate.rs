//! Certificates of domains: what is in use, why there is none, and when the next one is due.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::project::{Domain, DomainKind};

/// What is known of a domain's certificate. Its private key is nowhere near.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Certificate {
    /// The one in use.
    pub used: Option<CertificateFacts>,
    /// Why the last order failed; none since one succeeded.
    pub failure: Option<CertificateFailure>,
    /// Orders that failed since one succeeded.
    pub failures: u32,
    /// While one is being ordered: when the order counts as lost.
    pub ordering_until: Option<Timestamp>,
}

/// Where a certificate comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CertificateSource {
    /// An authority, asked by this server.
    Acme,
    /// The domain's owner.
    Custom,
}

/// The kind of a certificate's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum CertificateKey {
    /// RSA of 2048 bits.
    Rsa2048,
    /// RSA of 4096 bits.
    Rsa4096,
    /// Any elliptic curve.
    Ecdsa,
    /// Something else that the edge can sign with.
    Other,
}

/// What a certificate says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateFacts {
    /// Where it comes from.
    pub source: CertificateSource,
    /// The names that it holds for, in lower case.
    pub names: Vec<String>,
    /// Who signed it.
    pub issuer: String,
    /// Its key.
    pub key: CertificateKey,
    /// SHA-256 of it, in hexadecimal digits.
    pub fingerprint: String,
    /// It holds from then.
    pub issued_at: Timestamp,
    /// And until then.
    pub expires_at: Timestamp,
}

impl CertificateFacts {
    /// When the next one is ordered: after two thirds of its time, so that a month is left where an authority gives three.
    #[must_use]
    pub fn renewal(&self) -> Timestamp {
        let seconds = self.expires_at.as_second().saturating_sub(self.issued_at.as_second()).max(0);
        let wait = SignedDuration::from_secs(seconds / 3 * 2 + seconds % 3 * 2 / 3);
        self.issued_at.checked_add(wait).unwrap_or(self.expires_at)
    }
}

/// Why there is no new certificate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateFailure {
    /// Where it failed.
    pub kind: FailureKind,
    /// In words for the domain's owner.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// Where an order failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum FailureKind {
    /// The authority could not see that the domain leads here.
    Authorization,
    /// The authority could not look up the name.
    Dns,
    /// The authority refused the order.
    Order,
    /// Too many orders.
    RateLimit,
    /// Anything else.
    Internal,
}

/// How long to wait after so many failures in a row. An authority allows a handful of failures an hour and blocks who goes on.
#[must_use]
pub fn retry(failures: u32, kind: FailureKind) -> SignedDuration {
    let minutes = match failures {
        0 | 1 => 1,
        2 => 5,
        3 => 20,
        4 => 60,
        5 => 4 * 60,
        6 => 12 * 60,
        _ => 24 * 60,
    };
    let least = if kind == FailureKind::RateLimit { 60 } else { 0 };
    SignedDuration::from_mins(minutes.max(least))
}

/// Whether a certificate with these names holds for a host. A host with a star is a wildcard, which only the same wildcard covers.
#[must_use]
pub fn covers(names: &[String], host: &str) -> bool {
    let parent = host.split_once('.').map(|(_, parent)| parent);
    names.iter().any(|name| name == host || (!host.starts_with("*.") && name.strip_prefix("*.").is_some_and(|zone| parent == Some(zone))))
}

/// Where a domain's certificate stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CertificateStatus {
    /// None is ordered for it.
    Off,
    /// None is ordered before the owner has proved the domain.
    ValidatingOwnership,
    /// One is being ordered.
    Issuing,
    /// One is in use.
    Valid,
    /// None could be had, or it has run out.
    Failed,
}

impl Domain {
    /// Where its certificate stands. `orders` says whether this server orders certificates for domains of its kind.
    #[must_use]
    pub fn certificate_status(&self, orders: bool, now: Timestamp) -> CertificateStatus {
        match &self.certificate.used {
            Some(used) if used.expires_at > now => return CertificateStatus::Valid,
            Some(_) if !orders => return CertificateStatus::Failed,
            _ => {}
        }
        if !orders || self.domain.starts_with("*.") {
            CertificateStatus::Off
        } else if self.kind == DomainKind::Custom && self.verified_at.is_none() {
            CertificateStatus::ValidatingOwnership
        } else if self.certificate.failure.is_some() {
            CertificateStatus::Failed
        } else {
            CertificateStatus::Issuing
        }
    }

    /// Why there is no new certificate, in words for the domain's owner.
    #[must_use]
    pub fn certificate_problem(&self, orders: bool, now: Timestamp) -> Option<&str> {
        if let Some(failure) = &self.certificate.failure {
            return Some(&failure.message);
        }
        match self.certificate_status(orders, now) {
            CertificateStatus::Failed => Some("the certificate has run out: bring another one"),
            CertificateStatus::Off if orders => Some("no authority proves a wildcard by asking a host: bring a certificate of your own"),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(issued: &str, expires: &str) -> CertificateFacts {
        CertificateFacts {
            source: CertificateSource::Acme,
            names: vec![],
            issuer: String::new(),
            key: CertificateKey::Ecdsa,
            fingerprint: String::new(),
            issued_at: issued.parse().unwrap(),
            expires_at: expires.parse().unwrap(),
        }
    }

    #[test]
    fn a_certificate_is_renewed_after_two_thirds_of_its_time() {
        let ninety_days = facts("2026-01-01T00:00:00Z", "2026-04-01T00:00:00Z");
        assert_eq!(ninety_days.renewal(), "2026-03-02T00:00:00Z".parse::<Timestamp>().unwrap());
        let seconds = facts("2026-01-01T00:00:00Z", "2026-01-01T00:00:09Z");
        assert_eq!(seconds.renewal(), "2026-01-01T00:00:06Z".parse::<Timestamp>().unwrap());
        let backwards = facts("2026-01-02T00:00:00Z", "2026-01-01T00:00:00Z");
        assert_eq!(backwards.renewal(), backwards.issued_at);
    }

    #[test]
    fn failures_are_tried_again_ever_later_and_never_often() {
        let waits: Vec<_> = (1..12).map(|failures| retry(failures, FailureKind::Authorization)).collect();
        assert!(waits.is_sorted());
        assert!(waits[..4].iter().sum::<SignedDuration>() >= SignedDuration::from_hours(1), "at most four failures in an hour");
        assert_eq!(retry(1, FailureKind::RateLimit), SignedDuration::from_hours(1));
    }

    #[test]
    fn a_domain_says_where_its_certificate_stands() {
        use CertificateStatus::{Failed, Issuing, Off, Valid, ValidatingOwnership};

        use crate::{DomainId, EnvironmentId, ProjectId, ServiceId, WorkspaceId};

        let now: Timestamp = "2026-06-01T00:00:00Z".parse().unwrap();
        let fresh = Domain {
            id: DomainId::generate(),
            workspace_id: WorkspaceId::generate(),
            project_id: ProjectId::generate(),
            environment_id: EnvironmentId::generate(),
            service_id: ServiceId::generate(),
            kind: DomainKind::Custom,
            domain: "www.example.com".into(),
            target_port: None,
            verification_token: None,
            verified_at: None,
            dns_value: None,
            dns_checked_at: None,
            force_https: false,
            certificate: Certificate::default(),
            created_at: now,
            updated_at: now,
        };
        let proved = Domain { verified_at: Some(now), ..fresh.clone() };
        let wildcard = Domain { domain: "*.example.com".into(), ..proved.clone() };
        let with = |used, failure| Domain { certificate: Certificate { used, failure, ..Certificate::default() }, ..proved.clone() };
        let good = Some(facts("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"));
        let old = Some(facts("2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z"));
        let failure = Some(CertificateFailure { kind: FailureKind::Dns, message: "no such name".into(), at: now });
        for (domain, ordering, alone, problem) in [
            (&fresh, ValidatingOwnership, Off, None),
            (&proved, Issuing, Off, None),
            (&wildcard, Off, Off, Some("no authority proves a wildcard by asking a host: bring a certificate of your own")),
            (&with(good.clone(), None), Valid, Valid, None),
            (&with(good, failure.clone()), Valid, Valid, Some("no such name")),
            (&with(None, failure), Failed, Off, Some("no such name")),
            (&with(old, None), Issuing, Failed, None),
        ] {
            assert_eq!((domain.certificate_status(true, now), domain.certificate_status(false, now)), (ordering, alone), "{domain:?}");
            assert_eq!(domain.certificate_problem(true, now), problem, "{domain:?}");
        }
        let old = with(Some(facts("2025-01-01T00:00:00Z", "2026-01-01T00:00:00Z")), None);
        assert_eq!(old.certificate_problem(false, now), Some("the certificate has run out: bring another one"));
    }

    #[test]
    fn a_wildcard_covers_one_label() {
        let names = ["*.example.com".to_owned(), "example.org".to_owned()];
        for good in ["www.example.com", "*.example.com", "example.org"] {
            assert!(covers(&names, good), "{good}");
        }
        for bad in ["example.com", "a.b.example.com", "*.example.org", "www.example.org", "com"] {
            assert!(!covers(&names, bad), "{bad}");
        }
    }
}
