-- The second step of signing in by password. Until it is verified a secret is only proposed, and nobody is asked for its codes.
CREATE TABLE second_factors (
    user_id UUID NOT NULL PRIMARY KEY REFERENCES users (id) ON DELETE CASCADE,
    sealed_secret BYTEA NOT NULL,
    verified_at BIGINT,
    last_step BIGINT NOT NULL,
    created_at BIGINT NOT NULL
);

-- Codes for somebody who has lost the first way to make them, by their hashes. Using one removes it.
CREATE TABLE recovery_codes (
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    hash BYTEA NOT NULL,
    PRIMARY KEY (user_id, hash)
);

-- Logins whose password was right and that wait for a code. Beginning one clears out those that have ended.
CREATE TABLE pending_logins (
    hash BYTEA NOT NULL PRIMARY KEY,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    expires_at BIGINT NOT NULL
);
CREATE INDEX pending_logins_user ON pending_logins (user_id);
CREATE INDEX pending_logins_expiry ON pending_logins (expires_at);

-- When somebody last proved in a session that they hold the second factor.
ALTER TABLE sessions ADD COLUMN confirmed_at BIGINT;
