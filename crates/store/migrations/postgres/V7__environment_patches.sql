-- Changes of an environment's document, staged and applied. The change itself is sealed: it may hold values of variables.
CREATE TABLE environment_patches (
    id UUID NOT NULL PRIMARY KEY,
    workspace_id UUID NOT NULL,
    project_id UUID NOT NULL,
    environment_id UUID NOT NULL,
    status TEXT NOT NULL,
    message TEXT,
    sealed_patch BYTEA NOT NULL,
    changes BIGINT NOT NULL,
    author TEXT NOT NULL,
    applied_at BIGINT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    FOREIGN KEY (environment_id, project_id, workspace_id) REFERENCES environments (id, project_id, workspace_id) ON DELETE CASCADE
);
CREATE INDEX environment_patches_environment ON environment_patches (workspace_id, environment_id, id);
CREATE UNIQUE INDEX environment_patches_staged ON environment_patches (environment_id) WHERE status = 'STAGED';

-- The deployments of the same batch that must be decided first, as a JSON list of ids.
ALTER TABLE deployments ADD COLUMN waits_for TEXT NOT NULL DEFAULT '[]';
