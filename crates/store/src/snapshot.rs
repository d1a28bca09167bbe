//! A copy of the whole database, made while it is in use.

use std::path::Path;

use crate::{Store, StoreError};

impl Store {
    /// Copies the database as it is now to a file that is not there yet, readable for this user only. Secrets in it stay encrypted with the
    /// master key, which is not in it. Whether it could: PostgreSQL is copied by programs of its own.
    ///
    /// # Errors
    /// The disk refuses.
    pub async fn snapshot(&self, to: &Path) -> Result<bool, StoreError> {
        self.inner.database.snapshot(to).await
    }
}
