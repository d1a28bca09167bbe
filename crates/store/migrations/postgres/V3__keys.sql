-- Flow keys stand in numbered places, so that an account never has more of them than places, however many are made at once.
ALTER TABLE api_keys ADD COLUMN place BIGINT CHECK (CASE kind WHEN 'FLOW' THEN place IS NOT NULL AND place BETWEEN 1 AND 10 ELSE place IS NULL END);
CREATE UNIQUE INDEX api_keys_place_key ON api_keys (workspace_id, place) WHERE kind = 'FLOW' AND revoked_at IS NULL;
CREATE UNIQUE INDEX api_keys_label_key ON api_keys (workspace_id, label) WHERE kind = 'FLOW' AND revoked_at IS NULL;
CREATE UNIQUE INDEX api_keys_galaxy_key ON api_keys (workspace_id) WHERE kind = 'GALAXY' AND revoked_at IS NULL;

-- From where each key was used.
CREATE TABLE api_key_addresses (
    key_id UUID NOT NULL REFERENCES api_keys (id) ON DELETE CASCADE,
    address TEXT NOT NULL,
    first_used_at BIGINT NOT NULL,
    PRIMARY KEY (key_id, address)
);
CREATE INDEX api_key_addresses_age ON api_key_addresses (key_id, first_used_at);

-- Requests that were sent under an Idempotency-Key, and their first answers; status is null while the first one is at work.
CREATE TABLE idempotent_requests (
    owner UUID NOT NULL,
    name TEXT NOT NULL,
    fingerprint BYTEA NOT NULL,
    attempt UUID NOT NULL,
    status BIGINT,
    content_type TEXT,
    sealed_body BYTEA,
    created_at BIGINT NOT NULL,
    PRIMARY KEY (owner, name)
);
CREATE INDEX idempotent_requests_age ON idempotent_requests (created_at);
