//! TLS: which certificate a client is shown. Certificates come in a file of the engine's, `certificates.json`, so that they are there without it.
//!
//! A name without a certificate of its own gets the base domain's: from a file of the operator's, or else one that this edge made itself.
//! Nobody trusts that one, but whoever wants to can speak TLS from the first minute on.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use domain::routing::{EdgeCertificate, EdgeCertificates};
use rcgen::{CertificateParams, DnType, ExtendedKeyUsagePurpose, KeyPair, KeyUsagePurpose};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio_rustls::TlsAcceptor;

use crate::table;

/// The name of the file in the edge's folder. It holds private keys and is its owner's only.
pub const FILE: &str = "certificates.json";
/// The certificate that is of the edge's own making.
const SELF_SIGNED: &str = "self-signed.json";
/// Below this path authorities look for their answers.
pub(crate) const CHALLENGES: &str = "/.well-known/acme-challenge/";

/// Replaces the certificates as [`table::write`] replaces the table.
///
/// # Errors
/// When the folder cannot be written to. The old ones then stay.
pub fn write(dir: &Path, certificates: &EdgeCertificates) -> io::Result<()> {
    table::replace(dir, FILE, &serde_json::to_vec(certificates)?)
}

/// What is in use, replaced whole.
#[derive(Default)]
struct Live {
    hosts: HashMap<String, Held>,
    challenges: BTreeMap<String, String>,
}

/// A certificate as it was read, and ready for use.
struct Held {
    read: EdgeCertificate,
    key: Arc<CertifiedKey>,
}

/// The certificates, and the answers to authorities.
pub(crate) struct Certificates {
    live: RwLock<Arc<Live>>,
    /// For names without.
    base: RwLock<Option<Arc<CertifiedKey>>>,
    /// Where the operator's is kept.
    file: Option<PathBuf>,
}

/// What was read from the file.
pub(crate) struct Loaded {
    pub(crate) certificates: usize,
    pub(crate) challenges: usize,
    /// Hosts whose certificates cannot be used, and why.
    pub(crate) refused: Vec<String>,
}

impl std::fmt::Debug for Certificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Certificates({} hosts)", self.live().hosts.len())
    }
}

impl Certificates {
    /// None yet. With a base domain, names without a certificate get the one in `file`, or else one of the edge's own making.
    ///
    /// # Errors
    /// When that one cannot be made or kept.
    pub(crate) fn new(dir: &Path, base_domain: Option<&str>, file: Option<PathBuf>) -> io::Result<Self> {
        let made = base_domain.map(|base| certified(&self_signed(dir, base)?).map_err(io::Error::other)).transpose()?;
        let certificates = Self { live: RwLock::default(), base: RwLock::new(made.map(Arc::new)), file };
        certificates.refresh();
        Ok(certificates)
    }

    /// Uses the operator's file as it is now. One that cannot be used leaves in use what is.
    pub(crate) fn refresh(&self) {
        let Some(file) = &self.file else { return };
        let read = fs::read_to_string(file).map_err(|error| error.to_string());
        let read = read.and_then(|text| certified(&EdgeCertificate { host: String::new(), chain: text.clone(), key: text }));
        match read {
            Ok(key) => *self.base.write().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(key)),
            Err(error) => tracing::error!(file = %file.display(), error, "the base domain's certificate cannot be used"),
        }
    }

    /// Uses the file as it is now. A certificate that cannot be used is left out, and the others are not.
    ///
    /// # Errors
    /// When there is no file or it is not one of certificates; then nothing changes.
    pub(crate) fn load(&self, dir: &Path) -> io::Result<Loaded> {
        let read: EdgeCertificates = serde_json::from_slice(&fs::read(dir.join(FILE))?)?;
        let (before, mut hosts, mut refused) = (self.live(), HashMap::new(), vec![]);
        for one in read.certificates {
            // Checking a key takes long, and all are given again whenever one changes.
            let same = before.hosts.get(&one.host).filter(|held| held.read == one);
            match same.map_or_else(|| certified(&one).map(Arc::new), |held| Ok(Arc::clone(&held.key))) {
                Ok(key) => drop(hosts.insert(one.host.clone(), Held { read: one, key })),
                Err(error) => {
                    tracing::warn!(host = one.host, error, "a certificate cannot be used");
                    refused.push(format!("{}: {error}", one.host));
                }
            }
        }
        let loaded = Loaded { certificates: hosts.len(), challenges: read.challenges.len(), refused };
        let fresh = Arc::new(Live { hosts, challenges: read.challenges });
        *self.live.write().unwrap_or_else(PoisonError::into_inner) = fresh;
        Ok(loaded)
    }

    /// What an authority that asks for this path is told.
    pub(crate) fn challenge(&self, path: &str) -> Option<String> {
        let token = path.strip_prefix(CHALLENGES)?;
        self.live().challenges.get(token).cloned()
    }

    fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn of(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let (live, name) = (self.live(), name.to_ascii_lowercase());
        let wildcard = || live.hosts.get(&format!("*.{}", name.split_once('.')?.1));
        live.hosts.get(&name).or_else(wildcard).map(|held| Arc::clone(&held.key))
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let base = || self.base.read().unwrap_or_else(PoisonError::into_inner).clone();
        hello.server_name().and_then(|name| self.of(name)).or_else(base)
    }
}

/// TLS 1.2 and 1.3, and HTTP/1.1 inside, which is what the edge speaks.
///
/// # Errors
/// When the system gives no randomness.
pub(crate) fn acceptor(certificates: Arc<Certificates>) -> io::Result<TlsAcceptor> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().map_err(io::Error::other)?;
    let mut config = config.with_no_client_auth().with_cert_resolver(certificates);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    // A visitor who comes back is taken by any thread without another exchange of keys.
    config.ticketer = rustls::crypto::ring::Ticketer::new().map_err(io::Error::other)?;
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Ready for use, or why not.
fn certified(one: &EdgeCertificate) -> Result<CertifiedKey, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(one.chain.as_bytes()).collect();
    let chain = chain.map_err(|error| format!("the certificate is not PEM: {error}"))?;
    let key = PrivateKeyDer::from_pem_slice(one.key.as_bytes()).map_err(|_| "the key is not PEM".to_owned())?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|_| "the key is of no kind that is known".to_owned())?;
    let certified = CertifiedKey::new(chain, key);
    certified.keys_match().map_err(|error| error.to_string())?;
    Ok(certified)
}

/// The same one as last time, so that whoever has made an exception for it need not do so again.
fn self_signed(dir: &Path, base: &str) -> io::Result<EdgeCertificate> {
    let kept = fs::read(dir.join(SELF_SIGNED)).ok().and_then(|text| serde_json::from_slice::<EdgeCertificate>(&text).ok());
    if let Some(kept) = kept.filter(|kept| kept.host == base && certified(kept).is_ok()) {
        return Ok(kept);
    }
    let mut params = CertificateParams::new(vec![base.to_owned(), format!("*.{base}")]).map_err(io::Error::other)?;
    params.distinguished_name.push(DnType::CommonName, base);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate().map_err(io::Error::other)?;
    let chain = params.self_signed(&key).map_err(io::Error::other)?.pem();
    let made = EdgeCertificate { host: base.to_owned(), chain, key: key.serialize_pem() };
    table::replace(dir, SELF_SIGNED, &serde_json::to_vec(&made)?)?;
    tracing::info!(base, "the edge has made itself a certificate, which nobody trusts, for names that have none");
    Ok(made)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(host: &str) -> EdgeCertificate {
        let key = KeyPair::generate().unwrap();
        let chain = CertificateParams::new(vec![host.to_owned()]).unwrap().self_signed(&key).unwrap().pem();
        EdgeCertificate { host: host.to_owned(), chain, key: key.serialize_pem() }
    }

    #[test]
    fn a_certificate_that_stays_is_not_made_ready_again() {
        let dir = tempfile::tempdir().unwrap();
        let certificates = Certificates::new(dir.path(), None, None).unwrap();
        let load = |all: &[EdgeCertificate]| {
            write(dir.path(), &EdgeCertificates { certificates: all.to_vec(), challenges: BTreeMap::new() }).unwrap();
            certificates.load(dir.path()).unwrap().certificates
        };
        let (stays, mut changes) = (made("stays.test"), made("changes.test"));
        assert_eq!(load(&[stays.clone(), changes.clone()]), 2);
        let before = ["stays.test", "changes.test"].map(|name| certificates.of(name).unwrap());
        changes = made("changes.test");
        let other_key = EdgeCertificate { key: changes.key.clone(), ..stays.clone() };
        assert_eq!(load(&[stays, changes]), 2);
        assert!(Arc::ptr_eq(&before[0], &certificates.of("stays.test").unwrap()));
        assert!(!Arc::ptr_eq(&before[1], &certificates.of("changes.test").unwrap()));
        assert_eq!(load(&[other_key]), 0, "a key of another is refused, although the certificate is the same");
    }
}
