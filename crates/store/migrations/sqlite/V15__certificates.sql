-- Whether a domain wants TLS, what is known of its certificate, and when the next one is due: 0 is at once.
ALTER TABLE domains ADD COLUMN force_https INTEGER NOT NULL DEFAULT 0;
ALTER TABLE domains ADD COLUMN certificate TEXT NOT NULL DEFAULT '{}';
ALTER TABLE domains ADD COLUMN certificate_due_at INTEGER NOT NULL DEFAULT 0;
CREATE INDEX domains_certificate_due ON domains (certificate_due_at);
CREATE UNIQUE INDEX domains_workspace ON domains (id, workspace_id);

CREATE TABLE certificates (
    domain_id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL,
    chain TEXT NOT NULL,
    sealed_key BLOB NOT NULL,
    updated_at INTEGER NOT NULL,
    FOREIGN KEY (domain_id, workspace_id) REFERENCES domains (id, workspace_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

-- The server's own accounts with authorities, by the address of their directory.
CREATE TABLE acme_accounts (
    directory TEXT NOT NULL PRIMARY KEY,
    sealed_credentials BLOB NOT NULL,
    created_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
