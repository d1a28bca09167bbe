-- Apps that watch and report themselves: triggers, notifications and the messages that leave the server.

-- Triggers and notification settings refer to an instance by itself and its workspace.
CREATE UNIQUE INDEX instances_home ON instances (id, workspace_id);

-- What the entry is about, for the list of one app; and whether notifications have still to be made of it.
ALTER TABLE activities ADD COLUMN instance_id UUID;
ALTER TABLE activities ADD COLUMN pending BOOLEAN NOT NULL DEFAULT FALSE;
CREATE INDEX activities_instance ON activities (workspace_id, instance_id, id);
CREATE INDEX activities_pending ON activities (id) WHERE pending;

-- A message to somebody's webhook or mailbox. Address and signing secret are sealed. Rows that are done go after thirty days.
CREATE TABLE deliveries (
    id UUID NOT NULL PRIMARY KEY,
    workspace_id UUID NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    subject TEXT NOT NULL,
    sealed_target BYTEA NOT NULL,
    body TEXT NOT NULL,
    state TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    tries BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT deliveries_tenant_key UNIQUE (id, workspace_id)
);
CREATE INDEX deliveries_subject ON deliveries (workspace_id, kind, subject, id);
CREATE INDEX deliveries_due ON deliveries (next_at) WHERE state = 'PENDING';
CREATE INDEX deliveries_done ON deliveries (updated_at) WHERE state <> 'PENDING';

CREATE TABLE delivery_attempts (
    workspace_id UUID NOT NULL,
    delivery_id UUID NOT NULL,
    number BIGINT NOT NULL,
    at BIGINT NOT NULL,
    millis BIGINT NOT NULL,
    status BIGINT,
    error TEXT,
    PRIMARY KEY (delivery_id, number),
    FOREIGN KEY (delivery_id, workspace_id) REFERENCES deliveries (id, workspace_id) ON DELETE CASCADE
);

-- What is told to whom: an account's settings, or those of one app that override them. owner is the workspace or the instance.
CREATE TABLE notification_settings (
    owner UUID NOT NULL PRIMARY KEY,
    workspace_id UUID NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    instance_id UUID,
    sealed_settings BYTEA NOT NULL,
    updated_at BIGINT NOT NULL,
    FOREIGN KEY (instance_id, workspace_id) REFERENCES instances (id, workspace_id) ON DELETE CASCADE
);
CREATE INDEX notification_settings_instance ON notification_settings (instance_id, workspace_id);
CREATE INDEX notification_settings_workspace ON notification_settings (workspace_id, owner);

CREATE TABLE triggers (
    id UUID NOT NULL PRIMARY KEY,
    workspace_id UUID NOT NULL,
    instance_id UUID NOT NULL,
    enabled BOOLEAN NOT NULL,
    spec JSON NOT NULL,
    runs BIGINT NOT NULL,
    next_at BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT triggers_tenant_key UNIQUE (id, workspace_id),
    FOREIGN KEY (instance_id, workspace_id) REFERENCES instances (id, workspace_id) ON DELETE CASCADE
);
CREATE INDEX triggers_instance ON triggers (instance_id, workspace_id, id);
CREATE INDEX triggers_due ON triggers (next_at) WHERE enabled;

-- One run of a trigger and why it acted or not. Rows go after seven days.
CREATE TABLE trigger_runs (
    workspace_id UUID NOT NULL,
    trigger_id UUID NOT NULL,
    number BIGINT NOT NULL,
    at BIGINT NOT NULL,
    outcome TEXT NOT NULL,
    log JSON NOT NULL,
    PRIMARY KEY (trigger_id, number),
    FOREIGN KEY (trigger_id, workspace_id) REFERENCES triggers (id, workspace_id) ON DELETE CASCADE
);
CREATE INDEX trigger_runs_at ON trigger_runs (at);
