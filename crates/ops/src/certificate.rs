//! Certificates of domains: those that their owners bring, and asking for others.

use domain::certificate::{Certificate, CertificateFacts, CertificateKey, CertificateSource, CertificateStatus, covers};
use domain::project::{Domain, DomainKind};
use domain::{DomainId, Timestamp};
use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use serde_json::json;
use sha2::{Digest as _, Sha256};
use store::{CertificateChange, Change};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::public_key::PublicKey;

use crate::domain_name::{domain_for, orders};
use crate::{Error, OpCtx};

/// A certificate that a domain's owner brings. It has no debug output: the key is a secret.
#[derive(Clone)]
pub struct OwnCertificate {
    /// PEM: the domain's own first, then the intermediates.
    pub chain: String,
    /// PEM, not encrypted.
    pub key: String,
}

/// A chain or a key has at most so many bytes.
const MAX_PEM: usize = 64 << 10;
/// A chain has at most so many certificates.
const MAX_CHAIN: usize = 10;
const UNDER_WAY: &str = "A certificate is being ordered: look again in a minute";

/// What a certificate says, if it can be used for a host from now on.
///
/// # Errors
/// It cannot be read, has run out or does not hold yet, is not for the host, is out of order, or the key is not its own.
pub fn certificate_check(host: &str, own: &OwnCertificate, source: CertificateSource, now: Timestamp) -> Result<CertificateFacts, Error> {
    let chain = read(own)?;
    let parse = |der| x509_parser::parse_x509_certificate(der).map(|(_, parsed)| parsed).map_err(|_| unreadable());
    let parsed = chain.iter().map(|der| parse(der.as_ref())).collect::<Result<Vec<X509Certificate<'_>>, Error>>()?;
    let leaf = parsed.first().ok_or_else(unreadable)?;
    let facts = CertificateFacts {
        source,
        names: names(leaf),
        issuer: issuer(leaf),
        key: match leaf.public_key().parsed() {
            Ok(PublicKey::EC(_)) => CertificateKey::Ecdsa,
            Ok(PublicKey::RSA(key)) if key.key_size() == 2048 => CertificateKey::Rsa2048,
            Ok(PublicKey::RSA(key)) if key.key_size() == 4096 => CertificateKey::Rsa4096,
            _ => CertificateKey::Other,
        },
        fingerprint: chain.first().map(|der| fingerprint(der)).unwrap_or_default(),
        issued_at: time(leaf.validity().not_before.timestamp()),
        expires_at: time(leaf.validity().not_after.timestamp()),
    };
    if facts.expires_at <= now {
        return Err(Error::bad_input(format!("The certificate ran out at {}: get a new one", facts.expires_at)));
    }
    if facts.issued_at > now {
        return Err(Error::bad_input(format!("The certificate holds only from {} on: wait, or get one that holds now", facts.issued_at)));
    }
    if !covers(&facts.names, host) {
        let held = if facts.names.is_empty() { "no name".to_owned() } else { facts.names.join(", ") };
        return Err(Error::bad_input(format!("The certificate is for {held}, not for {host}: get one with this name")));
    }
    if parsed.windows(2).any(|pair| pair[0].issuer().as_raw() != pair[1].subject().as_raw()) {
        return Err(Error::bad_input(
            "The certificates are not in order: the domain's own comes first, and each one after it is that of the authority that signed the one before",
        ));
    }
    Ok(facts)
}

/// The chain, whose first certificate the key belongs to.
fn read(own: &OwnCertificate) -> Result<Vec<CertificateDer<'static>>, Error> {
    if own.chain.len() > MAX_PEM || own.key.len() > MAX_PEM {
        return Err(Error::bad_input(format!("A certificate and its key have at most {} KiB each", MAX_PEM >> 10)));
    }
    let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(own.chain.as_bytes()).collect();
    let chain = chain.map_err(|_| unreadable())?;
    if chain.is_empty() || chain.len() > MAX_CHAIN {
        return Err(unreadable());
    }
    let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).map_err(|_| {
        Error::bad_input("The private key cannot be read: give it as PEM, with its BEGIN and END lines, and not encrypted with a password")
    })?;
    let key = any_supported_type(&key).map_err(|_| {
        Error::bad_input(
            "The private key is of a kind that cannot be used: RSA of 2048 bits or more, ECDSA on P-256 or P-384 and Ed25519 can",
        )
    })?;
    let certified = CertifiedKey::new(chain, key);
    match certified.keys_match() {
        Ok(()) => Ok(certified.cert),
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(Error::bad_input("The private key does not belong to the certificate: give the one that it was requested with"))
        }
        Err(_) => Err(unreadable()),
    }
}

fn unreadable() -> Error {
    Error::bad_input(format!(
        "The certificate cannot be read: give it as PEM, with its BEGIN and END lines, the domain's own first and then the intermediates, {MAX_CHAIN} at most"
    ))
}

fn names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let alternative = leaf.subject_alternative_name().ok().flatten();
    let all = alternative.iter().flat_map(|extension| extension.value.general_names.iter());
    let text = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some(name.to_ascii_lowercase()),
        _ => None,
    };
    all.filter_map(text).collect()
}

fn issuer(leaf: &X509Certificate<'_>) -> String {
    let issuer = leaf.issuer();
    let name = issuer.iter_common_name().chain(issuer.iter_organization()).find_map(|attribute| attribute.as_str().ok());
    name.map_or_else(|| issuer.to_string(), str::to_owned)
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(if seconds < 0 { Timestamp::MIN } else { Timestamp::MAX })
}

fn fingerprint(der: &[u8]) -> String {
    let digest: [u8; 32] = Sha256::digest(der).into();
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Puts a certificate that its owner brings into a domain's row. When it runs out, another one is ordered, where any are.
pub(crate) fn bring(domain: &mut Domain, own: &OwnCertificate, now: Timestamp) -> Result<Change, Error> {
    let facts = certificate_check(&domain.domain, own, CertificateSource::Custom, now)?;
    let due = facts.expires_at;
    domain.certificate = Certificate { used: Some(facts), ..Certificate::default() };
    Ok(Change::Certificate(CertificateChange::Set {
        domain: domain.id,
        chain: own.chain.clone(),
        key: own.key.clone(),
        state: domain.certificate.clone(),
        due,
        seen: None,
        at: now,
    }))
}

/// What the audit log says of a certificate.
pub(crate) fn told(domain: &Domain) -> serde_json::Value {
    let used = domain.certificate.used.as_ref();
    json!({
        "domain": domain.domain,
        "fingerprint": used.map(|used| used.fingerprint.as_str()),
        "expiresAt": used.map(|used| used.expires_at),
    })
}

/// Uses a certificate that the domain's owner brings.
///
/// # Errors
/// It cannot be used for the domain ([`certificate_check`]), the domain is not found, or not allowed.
pub async fn domain_certificate_set(ctx: &OpCtx, id: DomainId, own: OwnCertificate) -> Result<Domain, Error> {
    let mut opened = domain_for(ctx, id).await?;
    let change = bring(&mut opened.row, &own, ctx.now)?;
    let activity = ctx.activity(opened.tenant, Some(opened.row.project_id), "domain_certificate_set", id, told(&opened.row));
    ctx.commit(opened.tenant, vec![change, activity]).await?;
    ctx.ops.signals.ring();
    Ok(opened.row)
}

/// Takes a domain's certificate away, with its private key. Where certificates are ordered, the next one is.
///
/// # Errors
/// There is none, the domain is not found, or not allowed.
pub async fn domain_certificate_remove(ctx: &OpCtx, id: DomainId) -> Result<Domain, Error> {
    let mut opened = domain_for(ctx, id).await?;
    if opened.row.certificate.used.is_none() {
        return Err(Error::conflict(format!("{} has no certificate", opened.row.domain)));
    }
    let activity = ctx.activity(opened.tenant, Some(opened.row.project_id), "domain_certificate_remove", id, told(&opened.row));
    ctx.commit(opened.tenant, vec![Change::Certificate(CertificateChange::Delete(id)), activity]).await?;
    ctx.ops.signals.ring();
    opened.row.certificate = Certificate::default();
    Ok(opened.row)
}

/// Has a certificate ordered for a custom domain now, although it failed a moment ago or the present one still holds for long.
///
/// # Errors
/// This server orders none, the domain is a wildcard or not proved, one is being ordered, not found, or not allowed.
pub async fn custom_domain_issue_certificate(ctx: &OpCtx, id: DomainId) -> Result<(), Error> {
    let opened = domain_for(ctx, id).await?;
    let domain = &opened.row;
    if domain.kind != DomainKind::Custom {
        return Err(Error::not_found("Domain"));
    }
    if !orders(&ctx.ops.settings, domain.kind) {
        return Err(Error::new(
            domain::Code::Unsupported,
            "This server orders no certificates: the operator can set acme_directory, or bring a certificate of your own",
        ));
    }
    let status = domain.certificate_status(true, ctx.now);
    if status == CertificateStatus::Valid && domain.certificate.used.as_ref().is_some_and(|used| used.source == CertificateSource::Custom) {
        return Err(Error::conflict("The domain uses a certificate of your own: remove that one first"));
    }
    match status {
        CertificateStatus::Valid | CertificateStatus::Failed => {}
        CertificateStatus::Off => {
            return Err(Error::conflict("No authority proves a wildcard by asking a host: bring a certificate of your own"));
        }
        CertificateStatus::ValidatingOwnership => {
            return Err(Error::conflict("The domain is not proved yet: publish its TXT record first"));
        }
        CertificateStatus::Issuing => return Err(Error::conflict(UNDER_WAY)),
    }
    // One is ordered again, or renewed, while the status is still that of the one before.
    if domain.certificate.ordering_until.is_some_and(|until| until > ctx.now) {
        return Err(Error::conflict(UNDER_WAY));
    }
    let mut state = domain.certificate.clone();
    state.failure = None;
    let change = CertificateChange::Note { domain: id, state, due: ctx.now, seen: None };
    let activity =
        ctx.activity(opened.tenant, Some(domain.project_id), "custom_domain_issue_certificate", id, json!({"domain": domain.domain}));
    ctx.commit(opened.tenant, vec![Change::Certificate(change), activity]).await?;
    ctx.ops.signals.ring();
    Ok(())
}

/// Sends whoever asks a domain without TLS to the same address with it, or no longer.
///
/// # Errors
/// Not found or not allowed.
pub async fn domain_https_set(ctx: &OpCtx, id: DomainId, force: bool) -> Result<Domain, Error> {
    let mut opened = domain_for(ctx, id).await?;
    let data = json!({"domain": opened.row.domain, "before": opened.row.force_https, "after": force});
    let activity = ctx.activity(opened.tenant, Some(opened.row.project_id), "domain_https_set", id, data);
    ctx.commit(opened.tenant, vec![Change::DomainHttps { id, force, at: ctx.now }, activity]).await?;
    ctx.ops.signals.ring();
    opened.row.force_https = force;
    Ok(opened.row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

    struct Signed {
        own: OwnCertificate,
        authority: String,
    }

    fn sign(names: &[&str], years: (i32, i32)) -> Signed {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "Test Authority");
        let key = KeyPair::generate().unwrap();
        let authority = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap();
        (params.not_before, params.not_after) = (date_time_ymd(years.0, 1, 1), date_time_ymd(years.1, 1, 1));
        let key = KeyPair::generate().unwrap();
        let chain = params.signed_by(&key, &issuer).unwrap().pem();
        Signed { own: OwnCertificate { chain, key: key.serialize_pem() }, authority }
    }

    fn check(host: &str, own: &OwnCertificate) -> Result<CertificateFacts, String> {
        let now = "2026-06-01T00:00:00Z".parse().unwrap();
        certificate_check(host, own, CertificateSource::Custom, now).map_err(|error| error.public)
    }

    #[test]
    fn a_good_certificate_tells_what_it_is() {
        let Signed { mut own, authority } = sign(&["WWW.Example.com", "*.example.org"], (2026, 2027));
        own.chain.push_str(&authority);
        let facts = check("www.example.com", &own).unwrap();
        assert_eq!(facts.names, ["www.example.com", "*.example.org"]);
        assert_eq!((facts.issuer.as_str(), facts.key), ("Test Authority", CertificateKey::Ecdsa));
        assert_eq!(
            (facts.issued_at.to_string(), facts.expires_at.to_string()),
            ("2026-01-01T00:00:00Z".into(), "2027-01-01T00:00:00Z".into())
        );
        assert_eq!(facts.fingerprint.len(), 64);
        assert!(check("*.example.org", &own).is_ok() && check("a.example.org", &own).is_ok());
    }

    #[test]
    fn what_cannot_be_used_is_told_apart() {
        let good = sign(&["www.example.com"], (2026, 2027));
        let other = sign(&["www.example.com"], (2026, 2027));
        let with = |chain: &str, key: &str| OwnCertificate { chain: chain.to_owned(), key: key.to_owned() };
        let (chain, key) = (good.own.chain.as_str(), good.own.key.as_str());
        let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
        let foreign = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let cases = [
            (with(chain, &other.own.key), "does not belong"),
            (with("", key), "cannot be read"),
            (with("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", key), "cannot be read"),
            (with(key, key), "cannot be read"),
            (with(&chain.repeat(11), key), "10 at most"),
            (with(&"x".repeat(MAX_PEM + 1), key), "64 KiB"),
            (with(chain, ""), "private key cannot be read"),
            (with(chain, encrypted), "not encrypted"),
            (with(chain, foreign), "kind that cannot be used"),
            (with(&format!("{}{chain}", good.authority), key), "does not belong"),
            (with(&format!("{chain}{}{chain}", good.authority), key), "not in order"),
            (sign(&["www.example.com"], (2024, 2025)).own, "ran out at 2025-01-01"),
            (sign(&["www.example.com"], (2030, 2031)).own, "only from 2030-01-01"),
            (sign(&["example.com", "a.test"], (2026, 2027)).own, "is for example.com, a.test, not for www.example.com"),
        ];
        for (own, wanted) in cases {
            let said = check("www.example.com", &own).unwrap_err();
            assert!(said.contains(wanted), "{wanted}: {said}");
            assert!(!said.contains("BEGIN PRIVATE"), "{said}");
        }
    }
}
