-- Whether a domain wants TLS, what is known of its certificate, and when the next one is due: 0 is at once.
ALTER TABLE domains ADD COLUMN force_https BOOLEAN NOT NULL DEFAULT FALSE;
ALTER TABLE domains ADD COLUMN certificate TEXT NOT NULL DEFAULT '{}';
ALTER TABLE domains ADD COLUMN certificate_due_at BIGINT NOT NULL DEFAULT 0;
CREATE INDEX domains_certificate_due ON domains (certificate_due_at);
CREATE UNIQUE INDEX domains_workspace ON domains (id, workspace_id);

CREATE TABLE certificates (
    domain_id UUID NOT NULL PRIMARY KEY,
    workspace_id UUID NOT NULL,
    chain TEXT NOT NULL,
    sealed_key BYTEA NOT NULL,
    updated_at BIGINT NOT NULL,
    FOREIGN KEY (domain_id, workspace_id) REFERENCES domains (id, workspace_id) ON DELETE CASCADE
);

-- The server's own accounts with authorities, by the address of their directory.
CREATE TABLE acme_accounts (
    directory TEXT NOT NULL PRIMARY KEY,
    sealed_credentials BYTEA NOT NULL,
    created_at BIGINT NOT NULL
);
