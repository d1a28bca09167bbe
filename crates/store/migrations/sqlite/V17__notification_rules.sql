-- Whom deployments of a workspace, or of one project of it, are told to. Addresses and signing secrets are sealed. A rule goes with its
-- project, and with the member who made it when they leave; created_by is null when an operator made it.
CREATE TABLE notification_rules (
    id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    project_id BLOB,
    created_by BLOB,
    spec TEXT NOT NULL,
    sealed_channels BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    FOREIGN KEY (project_id, workspace_id) REFERENCES projects (id, workspace_id) ON DELETE CASCADE,
    FOREIGN KEY (workspace_id, created_by) REFERENCES memberships (workspace_id, user_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX notification_rules_workspace ON notification_rules (workspace_id, created_by);
CREATE INDEX notification_rules_project ON notification_rules (project_id, workspace_id);
