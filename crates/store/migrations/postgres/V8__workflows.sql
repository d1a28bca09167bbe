-- Workflows and their runs. The engine holds a run while it executes it; a run whose holder is gone gets another one.

CREATE TABLE workflows (
    id UUID NOT NULL PRIMARY KEY,
    workspace_id UUID NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    graph JSON NOT NULL,
    version BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    CONSTRAINT workflows_tenant_key UNIQUE (id, workspace_id)
);
CREATE INDEX workflows_workspace ON workflows (workspace_id, id);
CREATE INDEX workflows_user ON workflows (user_id);

-- Graphs as runs use them, by their content: a thousand runs of one workflow share one.
CREATE TABLE flow_graphs (
    workspace_id UUID NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    id UUID NOT NULL,
    body JSON NOT NULL,
    used_at BIGINT NOT NULL,
    PRIMARY KEY (workspace_id, id)
);
CREATE INDEX flow_graphs_used ON flow_graphs (used_at);

-- ready_at: waits for its turn from then on. holder: who executes it, until held_until unless that is put off. Neither: it is over.
CREATE TABLE runs (
    id UUID NOT NULL PRIMARY KEY,
    workspace_id UUID NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key_id UUID,
    workflow_id UUID,
    name TEXT NOT NULL,
    sub_model TEXT,
    graph_id UUID NOT NULL,
    input JSON NOT NULL,
    source TEXT NOT NULL,
    sealed_webhook BYTEA,
    status TEXT NOT NULL,
    error TEXT,
    node_count BIGINT NOT NULL,
    single_node TEXT,
    estimated BIGINT NOT NULL,
    credits BIGINT NOT NULL,
    ready_at BIGINT,
    holder UUID,
    held_until BIGINT,
    created_at BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT,
    CONSTRAINT runs_tenant_key UNIQUE (id, workspace_id),
    CHECK ((holder IS NULL) = (held_until IS NULL)),
    CHECK (holder IS NULL OR ready_at IS NULL),
    CHECK ((status IN ('COMPLETED', 'FAILED', 'CANCELED')) = (finished_at IS NOT NULL)),
    CHECK (finished_at IS NULL OR (holder IS NULL AND ready_at IS NULL)),
    FOREIGN KEY (workflow_id, workspace_id) REFERENCES workflows (id, workspace_id) ON DELETE CASCADE,
    FOREIGN KEY (workspace_id, graph_id) REFERENCES flow_graphs (workspace_id, id)
);
CREATE INDEX runs_workspace ON runs (workspace_id, id);
CREATE INDEX runs_workflow ON runs (workflow_id, workspace_id, id);
CREATE INDEX runs_status ON runs (workspace_id, status, id);
CREATE INDEX runs_graph ON runs (workspace_id, graph_id);
CREATE INDEX runs_user ON runs (user_id);
CREATE INDEX runs_ready ON runs (workspace_id, ready_at, id) WHERE ready_at IS NOT NULL;
CREATE INDEX runs_held ON runs (holder, held_until) WHERE holder IS NOT NULL;
CREATE INDEX runs_over ON runs (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE node_runs (
    run_id UUID NOT NULL,
    node_id TEXT NOT NULL,
    workspace_id UUID NOT NULL,
    id UUID NOT NULL,
    node_type TEXT NOT NULL,
    status TEXT NOT NULL,
    attempts BIGINT NOT NULL,
    failures BIGINT NOT NULL,
    input JSON,
    output JSON,
    logs JSON NOT NULL,
    error TEXT,
    credits BIGINT NOT NULL,
    started_at BIGINT,
    finished_at BIGINT,
    PRIMARY KEY (run_id, node_id),
    FOREIGN KEY (run_id, workspace_id) REFERENCES runs (id, workspace_id) ON DELETE CASCADE
);

-- Files of an account: uploads, and what its runs have made.
CREATE TABLE flow_files (
    id UUID NOT NULL PRIMARY KEY,
    workspace_id UUID NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    workflow_id UUID,
    run_id UUID,
    node_id TEXT,
    node_type TEXT,
    node_label TEXT,
    filename TEXT NOT NULL,
    content_type TEXT NOT NULL,
    bytes BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    expires_at BIGINT NOT NULL,
    FOREIGN KEY (workflow_id, workspace_id) REFERENCES workflows (id, workspace_id) ON DELETE CASCADE
);
CREATE INDEX flow_files_workspace ON flow_files (workspace_id, id);
CREATE INDEX flow_files_workflow ON flow_files (workflow_id, workspace_id, id);
CREATE INDEX flow_files_expiry ON flow_files (expires_at);

-- What starts a workflow by itself: a schedule (next_at), a URL (hash of its secret), an event.
CREATE TABLE flow_triggers (
    id UUID NOT NULL PRIMARY KEY,
    workspace_id UUID NOT NULL,
    workflow_id UUID NOT NULL,
    user_id UUID NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    spec JSON NOT NULL,
    hash BYTEA,
    enabled BOOLEAN NOT NULL,
    next_at BIGINT,
    last_at BIGINT,
    created_at BIGINT NOT NULL,
    CONSTRAINT flow_triggers_hash_key UNIQUE (hash),
    FOREIGN KEY (workflow_id, workspace_id) REFERENCES workflows (id, workspace_id) ON DELETE CASCADE
);
CREATE INDEX flow_triggers_workflow ON flow_triggers (workflow_id, workspace_id, id);
CREATE INDEX flow_triggers_user ON flow_triggers (user_id);
CREATE INDEX flow_triggers_due ON flow_triggers (next_at) WHERE next_at IS NOT NULL AND enabled = TRUE;

-- What an account has used, in microcredits, and the secret that its webhooks are signed with, once either is needed.
CREATE TABLE flow_accounts (
    workspace_id UUID NOT NULL PRIMARY KEY REFERENCES workspaces (id) ON DELETE CASCADE,
    credits BIGINT NOT NULL,
    sealed_secret BYTEA
);
