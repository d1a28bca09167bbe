-- Whose invitations these are, so that they end with their maker's rights. Of those that are open nobody knows it, so they end now: they
-- live a week at most.
DROP TABLE workspace_invites;
CREATE TABLE workspace_invites (
    hash BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    made_by BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX workspace_invites_workspace ON workspace_invites (workspace_id, made_by);
CREATE INDEX workspace_invites_maker ON workspace_invites (made_by);
CREATE INDEX workspace_invites_expiry ON workspace_invites (expires_at);

-- Folders of volumes and backups that went with their environment: what lies in them is kept as long as that of a deleted volume.
CREATE TABLE volume_files_kept (
    id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    deleted_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX volume_files_kept_workspace ON volume_files_kept (workspace_id);
CREATE INDEX volume_files_kept_since ON volume_files_kept (deleted_at);
