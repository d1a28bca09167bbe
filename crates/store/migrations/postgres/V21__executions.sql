-- Runs of services with a schedule. A run has the id of the replica that carries it out. One is under way at a time, and each time of the
-- schedule is run or skipped once. Of each instance the newest thousand stay.
CREATE TABLE executions (
    id UUID NOT NULL PRIMARY KEY,
    workspace_id UUID NOT NULL,
    instance_id UUID NOT NULL,
    deployment_id UUID NOT NULL,
    due_at BIGINT,
    status TEXT NOT NULL,
    exit_code BIGINT,
    reason TEXT,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    completed_at BIGINT,
    FOREIGN KEY (instance_id, workspace_id) REFERENCES instances (id, workspace_id) ON DELETE CASCADE,
    FOREIGN KEY (deployment_id, workspace_id) REFERENCES deployments (id, workspace_id) ON DELETE CASCADE
);
CREATE INDEX executions_instance ON executions (instance_id, id);
CREATE INDEX executions_deployment ON executions (deployment_id);
CREATE UNIQUE INDEX executions_due ON executions (instance_id, due_at);
CREATE UNIQUE INDEX executions_open ON executions (instance_id) WHERE completed_at IS NULL;
