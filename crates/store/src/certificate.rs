//! Certificates of domains with their private keys, and the server's own accounts with authorities. A certificate goes with its domain, or when
//! the domain is renamed; an account stays.

use domain::certificate::Certificate;
use domain::routing::EdgeCertificate;
use domain::{DomainId, Tenant, Timestamp};
use zeroize::Zeroizing;

use crate::executor::{BadCell, Record, Statement, json};
use crate::vault::Vault;
use crate::{Store, StoreError};

statements! {
    SYSTEM_CERTIFICATE_STAMPS =
        "SELECT certificates.domain_id, domains.domain, certificates.updated_at, domains.certificate FROM certificates \
         JOIN domains ON domains.id = certificates.domain_id \
         WHERE domains.kind <> 'CUSTOM' OR domains.verified_at IS NOT NULL ORDER BY certificates.domain_id";
    SYSTEM_CERTIFICATES =
        "SELECT certificates.domain_id, domains.domain, certificates.chain, certificates.sealed_key, domains.certificate FROM certificates \
         JOIN domains ON domains.id = certificates.domain_id \
         WHERE domains.kind <> 'CUSTOM' OR domains.verified_at IS NOT NULL ORDER BY certificates.domain_id";
    CERTIFICATES_OF =
        "SELECT certificates.domain_id, certificates.chain, certificates.sealed_key, domains.certificate_due_at FROM certificates \
         JOIN domains ON domains.id = certificates.domain_id \
         WHERE certificates.domain_id IN ($domains) AND certificates.workspace_id = $workspace";
    CERTIFICATE_SET =
        "INSERT INTO certificates (domain_id, workspace_id, chain, sealed_key, updated_at) \
         VALUES ($id, $workspace, $chain, $sealed, $at) \
         ON CONFLICT (domain_id) DO UPDATE SET chain = excluded.chain, sealed_key = excluded.sealed_key, \
         updated_at = excluded.updated_at WHERE certificates.workspace_id = excluded.workspace_id";
    CERTIFICATE_NOTE =
        "UPDATE domains SET certificate = $certificate, certificate_due_at = $due WHERE id = $id AND workspace_id = $workspace";
    CERTIFICATE_NOTE_SEEN =
        "UPDATE domains SET certificate = $certificate, certificate_due_at = $due \
         WHERE id = $id AND workspace_id = $workspace AND certificate_due_at = $seen";
    CERTIFICATE_CLAIM =
        "UPDATE domains SET certificate = $certificate, certificate_due_at = $until \
         WHERE id = $id AND workspace_id = $workspace AND domain = $name AND certificate_due_at = $seen";
    CERTIFICATE_DELETE = "DELETE FROM certificates WHERE domain_id = $id AND workspace_id = $workspace";
    ACME_ACCOUNT = "SELECT sealed_credentials FROM acme_accounts WHERE directory = $directory";
    ACME_ACCOUNT_DELETE = "DELETE FROM acme_accounts WHERE directory = $directory";
    ACME_ACCOUNT_INSERT =
        "INSERT INTO acme_accounts (directory, sealed_credentials, created_at) VALUES ($directory, $sealed, $at) \
         ON CONFLICT (directory) DO NOTHING";
}

fn key_place(id: DomainId) -> String {
    format!("certificates.sealed_key/{id}")
}

fn account_place(directory: &str) -> String {
    format!("acme_accounts.sealed_credentials/{directory}")
}

/// One that has run out would only stand in the way of another that is shown instead.
fn holds(state: &Certificate, now: Timestamp) -> bool {
    state.used.as_ref().is_some_and(|used| used.expires_at > now)
}

/// A certificate with its private key, to go with its domain from one workspace to another. It has no debug output: the key is a secret.
pub struct StoredCertificate {
    /// Whose it is.
    pub domain: DomainId,
    /// PEM, the certificate itself first.
    pub chain: String,
    /// PEM.
    pub key: String,
    /// When the next one is due.
    pub due: Timestamp,
}

impl Store {
    /// The certificates of the domains that have one.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when a key does not decrypt.
    pub async fn certificates_of(&self, tenant: Tenant, domains: &[DomainId]) -> Result<Vec<StoredCertificate>, StoreError> {
        let read = |r: &mut Record| -> Result<_, BadCell> { Ok((r.id(DomainId)?, r.text()?, r.bytes()?, r.time()?)) };
        let rows = self.list(&CERTIFICATES_OF, &params![workspace = tenant, domains = domains], read).await?;
        let open = |(domain, chain, sealed, due): (DomainId, String, Vec<u8>, Timestamp)| -> Result<_, StoreError> {
            let key = self.inner.vault.unseal(&key_place(domain), &sealed)?;
            Ok(StoredCertificate { domain, chain, key: String::from_utf8_lossy(&key).into_owned(), due })
        };
        rows.into_iter().map(open).collect()
    }

    /// Which certificates of routed domains hold, for what host, and when each was set: what the edge has is out of date when this differs.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_certificate_stamps(&self, now: Timestamp) -> Result<Vec<(DomainId, String, Timestamp)>, StoreError> {
        let read = |r: &mut Record| -> Result<_, BadCell> { Ok(((r.id(DomainId)?, r.text()?, r.time()?), r.json::<Certificate>()?)) };
        let all = self.list(&SYSTEM_CERTIFICATE_STAMPS, &[], read).await?;
        Ok(all.into_iter().filter(|(_, state)| holds(state, now)).map(|(stamp, _)| stamp).collect())
    }

    /// Every certificate of a routed domain that holds, with its private key, for the edge; and the errors of those whose key does not decrypt.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_certificates(&self, now: Timestamp) -> Result<(Vec<EdgeCertificate>, Vec<StoreError>), StoreError> {
        let read =
            |r: &mut Record| -> Result<_, BadCell> { Ok((r.id(DomainId)?, r.text()?, r.text()?, r.bytes()?, r.json::<Certificate>()?)) };
        let (mut readable, mut unreadable) = (vec![], vec![]);
        for (id, host, chain, sealed, state) in self.list(&SYSTEM_CERTIFICATES, &[], read).await? {
            if !holds(&state, now) {
                continue;
            }
            match self.inner.vault.unseal(&key_place(id), &sealed) {
                Ok(key) => readable.push(EdgeCertificate { host, chain, key: String::from_utf8_lossy(&key).into_owned() }),
                Err(error) => unreadable.push(error),
            }
        }
        Ok((readable, unreadable))
    }

    /// The credentials of the server's account with an authority.
    ///
    /// # Errors
    /// [`StoreError::Corrupt`] when they do not decrypt.
    pub async fn acme_account(&self, directory: &str) -> Result<Option<Zeroizing<Vec<u8>>>, StoreError> {
        let sealed = self.one(&ACME_ACCOUNT, &params![directory = directory], Record::bytes).await?;
        sealed.map(|sealed| self.inner.vault.unseal(&account_place(directory), &sealed)).transpose()
    }

    /// Forgets an account that the authority has forgotten.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn acme_account_delete(&self, directory: &str) -> Result<(), StoreError> {
        self.write_one(&ACME_ACCOUNT_DELETE, params![directory = directory]).await?;
        Ok(())
    }

    /// Keeps the credentials of a new account. Where another process was first, its account stays.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn acme_account_insert(&self, directory: &str, credentials: &[u8], at: Timestamp) -> Result<(), StoreError> {
        let sealed = self.inner.vault.seal(&account_place(directory), credentials)?;
        self.write_one(&ACME_ACCOUNT_INSERT, params![directory = directory, sealed = sealed, at = at]).await?;
        Ok(())
    }
}

/// One change of a domain's certificate.
#[derive(Clone)]
pub enum CertificateChange {
    /// Another certificate with its private key, in the place of the one before.
    Set {
        /// Of which domain.
        domain: DomainId,
        /// PEM, the certificate itself first.
        chain: String,
        /// PEM.
        key: String,
        /// What is known of it.
        state: Certificate,
        /// When the next one is due.
        due: Timestamp,
        /// When one was due before, if it must still be so.
        seen: Option<Timestamp>,
        /// When.
        at: Timestamp,
    },
    /// What is known of it; the certificate stays as it is.
    Note {
        /// Of which domain.
        domain: DomainId,
        /// What.
        state: Certificate,
        /// When the next one is due.
        due: Timestamp,
        /// When one was due before, if it must still be so.
        seen: Option<Timestamp>,
    },
    /// An order begins, if the domain is called so and `seen` is when it was due. It counts as lost when its end is not told by `until`.
    Claim {
        /// For which domain.
        domain: DomainId,
        /// What it is called: a renamed domain has the same one due at the same time.
        name: String,
        /// What is known of the one before, and that another is being ordered.
        state: Certificate,
        /// When it was due.
        seen: Timestamp,
        /// When it may be tried again in any case.
        until: Timestamp,
    },
    /// There is none any more, and the next one is due.
    Delete(DomainId),
}

impl CertificateChange {
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Set { .. } => "CertificateSet",
            Self::Note { .. } => "CertificateNote",
            Self::Claim { .. } => "CertificateClaim",
            Self::Delete(_) => "CertificateDelete",
        }
    }
}

pub(crate) fn statements(vault: &Vault, tenant: Tenant, change: &CertificateChange) -> Result<Vec<Statement>, StoreError> {
    Ok(match change {
        CertificateChange::Set { domain, chain, key, state, due, seen, at } => {
            let sealed = vault.seal(&key_place(*domain), key.as_bytes())?;
            let params = params![id = *domain, workspace = tenant, chain = chain, sealed = sealed, at = *at];
            vec![note(tenant, *domain, state, *due, *seen), Statement::touch(&CERTIFICATE_SET, params)]
        }
        CertificateChange::Note { domain, state, due, seen } => vec![note(tenant, *domain, state, *due, *seen)],
        CertificateChange::Claim { domain, name, state, seen, until } => {
            let params = params![id = *domain, workspace = tenant, name = name, certificate = json(state), seen = *seen, until = *until];
            vec![Statement::touch(&CERTIFICATE_CLAIM, params)]
        }
        CertificateChange::Delete(domain) => {
            let noted = note(tenant, *domain, &Certificate::default(), Timestamp::UNIX_EPOCH, None);
            // Deleting what is not there is no surprise.
            vec![noted, Statement::any(&CERTIFICATE_DELETE, params![id = *domain, workspace = tenant])]
        }
    })
}

fn note(tenant: Tenant, id: DomainId, state: &Certificate, due: Timestamp, seen: Option<Timestamp>) -> Statement {
    let certificate = json(state);
    match seen {
        Some(seen) => {
            let params = params![id = id, workspace = tenant, certificate = certificate, due = due, seen = seen];
            Statement::touch(&CERTIFICATE_NOTE_SEEN, params)
        }
        None => Statement::touch(&CERTIFICATE_NOTE, params![id = id, workspace = tenant, certificate = certificate, due = due]),
    }
}
