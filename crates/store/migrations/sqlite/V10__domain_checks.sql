-- What DNS was last seen to say of a custom domain, and when it was asked.
ALTER TABLE domains ADD COLUMN dns_value TEXT;
ALTER TABLE domains ADD COLUMN dns_checked_at INTEGER;
CREATE INDEX domains_unverified ON domains (id) WHERE kind = 'CUSTOM' AND verified_at IS NULL;
