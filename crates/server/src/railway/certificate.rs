//! The certificates that stand in for Railway's, made anew for each run.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};

/// The hosts that Railway's clients call: the CLI by its `RAILWAY_ENV`, the Terraform provider the last (`contracts/railway.md` 1.1).
pub(super) const HOSTS: [&str; 4] =
    ["backboard.railway.com", "backboard.railway-staging.com", "backboard.railway-develop.com", "backboard.railway.app"];

/// An authority whose key is gone, and the one certificate that it signed.
pub(super) struct Authority {
    certificate: String,
    pub(super) leaf: CertificateDer<'static>,
    pub(super) leaf_key: PrivateKeyDer<'static>,
}

/// Makes both. The authority's key is dropped here, so nothing else can ever be signed with it.
pub(super) fn generate() -> anyhow::Result<Authority> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.distinguished_name.push(DnType::CommonName, "orrery railway, for one run");
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?.pem();
    let issuer = Issuer::new(params, key);

    let mut params = CertificateParams::new(HOSTS.map(str::to_owned).to_vec())?;
    params.distinguished_name.push(DnType::CommonName, HOSTS[0]);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let key = KeyPair::generate()?;
    let leaf = params.signed_by(&key, &issuer)?.der().clone();
    Ok(Authority { certificate, leaf, leaf_key: PrivatePkcs8KeyDer::from(key.serialize_der()).into() })
}

/// A file that is removed when this is dropped.
pub(super) struct CertificateFile(PathBuf);

impl CertificateFile {
    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for CertificateFile {
    fn drop(&mut self) {
        // It holds nothing secret, and nothing trusts it once the run is over.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Authority {
    /// Writes the authority's certificate where the CLI can read it.
    pub(super) fn write(&self, folder: &Path) -> anyhow::Result<CertificateFile> {
        let path = folder.join(format!("authority-{}.pem", std::process::id()));
        let mut file = std::fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        file.write_all(self.certificate.as_bytes())?;
        Ok(CertificateFile(path))
    }
}
