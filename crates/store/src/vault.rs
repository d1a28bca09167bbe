//! Encryption at rest. Values are sealed with a random data key, which the database keeps wrapped by the master key: the master key can
//! change without touching a row, and a wrong one is noticed when it cannot unwrap.

use aes_gcm::aead::{Aead, Payload};
use aes_gcm::{Aes256Gcm, Key, KeyInit, Nonce};
use zeroize::Zeroizing;

use crate::StoreError;
use crate::executor::{Database, Statement};
use crate::master_key::MasterKey;

statements! {
    DATA_KEY = "SELECT wrapped FROM data_keys WHERE name = 'primary'";
    DATA_KEY_INSERT = "INSERT INTO data_keys (name, wrapped) VALUES ('primary', $wrapped) ON CONFLICT (name) DO NOTHING";
}

/// The first byte of everything sealed: AES-256-GCM, then 12 bytes of nonce, then text and tag.
const FORM: u8 = 1;
const NONCE: usize = 12;
const DATA_KEY_PLACE: &str = "data_keys.wrapped/primary";

/// Seals and opens values.
pub(crate) struct Vault(Aes256Gcm);

impl Vault {
    /// Opens the vault of a database; makes its key on first use.
    pub(crate) async fn open(database: &Database, master: &MasterKey) -> Result<Self, StoreError> {
        let master = Self::with_key(master.bytes());
        let mut wrapped = Self::wrapped(database).await?;
        if wrapped.is_none() {
            let mut key = Zeroizing::new([0u8; 32]);
            rand::fill(&mut *key);
            let fresh = master.seal(DATA_KEY_PLACE, &*key)?;
            database.write(vec![Statement::any(&DATA_KEY_INSERT, params![wrapped = fresh])]).await?;
            // Another process may have been first; its key stands.
            wrapped = Self::wrapped(database).await?;
        }
        let wrapped = wrapped.ok_or_else(|| StoreError::Corrupt("the data key is missing".into()))?;
        let key = master.open_bytes(DATA_KEY_PLACE, &wrapped).ok_or(StoreError::WrongMasterKey)?;
        let key: &[u8; 32] = key.as_slice().try_into().map_err(|_| StoreError::Corrupt("the data key is not 32 bytes".into()))?;
        Ok(Self::with_key(key))
    }

    async fn wrapped(database: &Database) -> Result<Option<Vec<u8>>, StoreError> {
        let rows = database.read(&DATA_KEY, &[]).await?;
        rows.into_iter().next().map(|mut row| row.bytes().map_err(|bad| bad.in_statement(DATA_KEY.name))).transpose()
    }

    fn with_key(key: &[u8; 32]) -> Self {
        Self(Aes256Gcm::new(&Key::<Aes256Gcm>::from(*key)))
    }

    /// Seals a value for one place. `place` names table, column and row, so that a sealed value copied elsewhere does not open there.
    pub(crate) fn seal(&self, place: &str, plain: &[u8]) -> Result<Vec<u8>, StoreError> {
        let mut nonce = [0u8; NONCE];
        rand::fill(&mut nonce);
        let payload = Payload { msg: plain, aad: place.as_bytes() };
        let sealed =
            self.0.encrypt(&Nonce::from(nonce), payload).map_err(|_| StoreError::Corrupt("a value is too large to encrypt".into()))?;
        let mut out = Vec::with_capacity(1 + NONCE + sealed.len());
        out.push(FORM);
        out.extend_from_slice(&nonce);
        out.extend_from_slice(&sealed);
        Ok(out)
    }

    /// Opens what was sealed for the same place.
    pub(crate) fn unseal(&self, place: &str, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, StoreError> {
        self.open_bytes(place, sealed).ok_or_else(|| StoreError::Corrupt(format!("{place} does not decrypt")))
    }

    fn open_bytes(&self, place: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (&form, rest) = sealed.split_first()?;
        let (nonce, text) = rest.split_at_checked(NONCE)?;
        let nonce: [u8; NONCE] = nonce.try_into().ok()?;
        if form != FORM {
            return None;
        }
        self.0.decrypt(&Nonce::from(nonce), Payload { msg: text, aad: place.as_bytes() }).ok().map(Zeroizing::new)
    }
}
