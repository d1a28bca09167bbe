-- Runs of services with a schedule. A run has the id of the replica that carries it out. One is under way at a time, and each time of the
-- schedule is run or skipped once. Of each instance the newest thousand stay.
CREATE TABLE executions (
    id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL,
    instance_id BLOB NOT NULL,
    deployment_id BLOB NOT NULL,
    due_at INTEGER,
    status TEXT NOT NULL,
    exit_code INTEGER,
    reason TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    completed_at INTEGER,
    FOREIGN KEY (instance_id, workspace_id) REFERENCES instances (id, workspace_id) ON DELETE CASCADE,
    FOREIGN KEY (deployment_id, workspace_id) REFERENCES deployments (id, workspace_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX executions_instance ON executions (instance_id, id);
CREATE INDEX executions_deployment ON executions (deployment_id);
CREATE UNIQUE INDEX executions_due ON executions (instance_id, due_at);
CREATE UNIQUE INDEX executions_open ON executions (instance_id) WHERE completed_at IS NULL;
