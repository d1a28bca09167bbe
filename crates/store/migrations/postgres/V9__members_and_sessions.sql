-- What a session's browser called itself, so that people recognise their own.
ALTER TABLE sessions ADD COLUMN agent TEXT;

-- One-time links into a workspace, by the hash of their secret. Making one clears out those that have ended.
CREATE TABLE workspace_invites (
    hash BYTEA NOT NULL PRIMARY KEY,
    workspace_id UUID NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    expires_at BIGINT NOT NULL
);
CREATE INDEX workspace_invites_workspace ON workspace_invites (workspace_id);
CREATE INDEX workspace_invites_expiry ON workspace_invites (expires_at);
