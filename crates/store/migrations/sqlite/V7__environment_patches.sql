-- Changes of an environment's document, staged and applied. The change itself is sealed: it may hold values of variables.
CREATE TABLE environment_patches (
    id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL,
    project_id BLOB NOT NULL,
    environment_id BLOB NOT NULL,
    status TEXT NOT NULL,
    message TEXT,
    sealed_patch BLOB NOT NULL,
    changes INTEGER NOT NULL,
    author TEXT NOT NULL,
    applied_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    FOREIGN KEY (environment_id, project_id, workspace_id) REFERENCES environments (id, project_id, workspace_id) ON DELETE CASCADE
) STRICT;
CREATE INDEX environment_patches_environment ON environment_patches (workspace_id, environment_id, id);
CREATE UNIQUE INDEX environment_patches_staged ON environment_patches (environment_id) WHERE status = 'STAGED';

-- The deployments of the same batch that must be decided first, as a JSON list of ids.
ALTER TABLE deployments ADD COLUMN waits_for TEXT NOT NULL DEFAULT '[]';
