-- Workflows and their runs. The engine holds a run while it executes it; a run whose holder is gone gets another one.

CREATE TABLE workflows (
    id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    user_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    description TEXT NOT NULL,
    graph TEXT NOT NULL,
    version INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT workflows_tenant_key UNIQUE (id, workspace_id)
) STRICT;
CREATE INDEX workflows_workspace ON workflows (workspace_id, id);
CREATE INDEX workflows_user ON workflows (user_id);

-- Graphs as runs use them, by their content: a thousand runs of one workflow share one.
CREATE TABLE flow_graphs (
    workspace_id BLOB NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    id BLOB NOT NULL,
    body TEXT NOT NULL,
    used_at INTEGER NOT NULL,
    PRIMARY KEY (workspace_id, id)
) STRICT;
CREATE INDEX flow_graphs_used ON flow_graphs (used_at);

-- ready_at: waits for its turn from then on. holder: who executes it, until held_until unless that is put off. Neither: it is over.
CREATE TABLE runs (
    id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    user_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    key_id BLOB,
    workflow_id BLOB,
    name TEXT NOT NULL,
    sub_model TEXT,
    graph_id BLOB NOT NULL,
    input TEXT NOT NULL,
    source TEXT NOT NULL,
    sealed_webhook BLOB,
    status TEXT NOT NULL,
    error TEXT,
    node_count INTEGER NOT NULL,
    single_node TEXT,
    estimated INTEGER NOT NULL,
    credits INTEGER NOT NULL,
    ready_at INTEGER,
    holder BLOB,
    held_until INTEGER,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    CONSTRAINT runs_tenant_key UNIQUE (id, workspace_id),
    CHECK ((holder IS NULL) = (held_until IS NULL)),
    CHECK (holder IS NULL OR ready_at IS NULL),
    CHECK ((status IN ('COMPLETED', 'FAILED', 'CANCELED')) = (finished_at IS NOT NULL)),
    CHECK (finished_at IS NULL OR (holder IS NULL AND ready_at IS NULL)),
    FOREIGN KEY (workflow_id, workspace_id) REFERENCES workflows (id, workspace_id) ON DELETE CASCADE,
    FOREIGN KEY (workspace_id, graph_id) REFERENCES flow_graphs (workspace_id, id)
) STRICT;
CREATE INDEX runs_workspace ON runs (workspace_id, id);
CREATE INDEX runs_workflow ON runs (workflow_id, workspace_id, id);
CREATE INDEX runs_status ON runs (workspace_id, status, id);
CREATE INDEX runs_graph ON runs (workspace_id, graph_id);
CREATE INDEX runs_user ON runs (user_id);
CREATE INDEX runs_ready ON runs (workspace_id, ready_at, id) WHERE ready_at IS NOT NULL;
CREATE INDEX runs_held ON runs (holder, held_until) WHERE holder IS NOT NULL;
CREATE INDEX runs_over ON runs (finished_at) WHERE finished_at IS NOT NULL;

CREATE TABLE node_runs (
    run_id BLOB NOT NULL,
    node_id TEXT NOT NULL,
    workspace_id BLOB NOT NULL,
    id BLOB NOT NULL,
    node_type TEXT NOT NULL,
    status TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    failures INTEGER NOT NULL,
    input TEXT,
    output TEXT,
    logs TEXT NOT NULL,
    error TEXT,
    credits INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    PRIMARY KEY (run_id, node_id),
    FOREIGN KEY (run_id, workspace_id) REFERENCES runs (id, workspace_id) ON DELETE CASCADE
) STRICT;

-- Files of an account: uploads, and what its runs have made.
CREATE TABLE flow_files (
    id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    workflow_id BLOB,
    run_id BLOB,
    node_id TEXT,
    node_type TEXT,
    node_label TEXT,
    filename TEXT NOT NULL,
    content_type TEXT NOT NULL,
    bytes INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    FOREIGN KEY (workflow_id, workspace_id) REFERENCES workflows (id, workspace_id) ON DELETE CASCADE
) STRICT;
CREATE INDEX flow_files_workspace ON flow_files (workspace_id, id);
CREATE INDEX flow_files_workflow ON flow_files (workflow_id, workspace_id, id);
CREATE INDEX flow_files_expiry ON flow_files (expires_at);

-- What starts a workflow by itself: a schedule (next_at), a URL (hash of its secret), an event.
CREATE TABLE flow_triggers (
    id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL,
    workflow_id BLOB NOT NULL,
    user_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    kind TEXT NOT NULL,
    spec TEXT NOT NULL,
    hash BLOB,
    enabled INTEGER NOT NULL,
    next_at INTEGER,
    last_at INTEGER,
    created_at INTEGER NOT NULL,
    CONSTRAINT flow_triggers_hash_key UNIQUE (hash),
    FOREIGN KEY (workflow_id, workspace_id) REFERENCES workflows (id, workspace_id) ON DELETE CASCADE
) STRICT;
CREATE INDEX flow_triggers_workflow ON flow_triggers (workflow_id, workspace_id, id);
CREATE INDEX flow_triggers_user ON flow_triggers (user_id);
CREATE INDEX flow_triggers_due ON flow_triggers (next_at) WHERE next_at IS NOT NULL AND enabled = TRUE;

-- What an account has used, in microcredits, and the secret that its webhooks are signed with, once either is needed.
CREATE TABLE flow_accounts (
    workspace_id BLOB NOT NULL PRIMARY KEY REFERENCES workspaces (id) ON DELETE CASCADE,
    credits INTEGER NOT NULL,
    sealed_secret BLOB
) STRICT;
