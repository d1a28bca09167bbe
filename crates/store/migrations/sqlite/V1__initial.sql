-- Every table of a tenant carries workspace_id, and every reference between such tables includes it: a row cannot hang below another
-- workspace's row, whatever the code above does. Lists always name their workspace, so that their indexes begin with it. Times are
-- microseconds since 1970, UTC.

CREATE TABLE data_keys (
    name TEXT NOT NULL PRIMARY KEY,
    wrapped BLOB NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE counters (
    name TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO counters (name, value) VALUES ('instance', 0);

CREATE TABLE users (
    id BLOB NOT NULL PRIMARY KEY,
    email TEXT NOT NULL,
    name TEXT NOT NULL,
    operator INTEGER NOT NULL,
    password_hash TEXT,
    created_at INTEGER NOT NULL,
    CONSTRAINT users_email_key UNIQUE (email)
) STRICT, WITHOUT ROWID;

CREATE TABLE workspaces (
    id BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    username TEXT NOT NULL,
    personal_of BLOB REFERENCES users (id) ON DELETE CASCADE,
    plan TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT workspaces_username_key UNIQUE (username),
    CONSTRAINT workspaces_personal_of_key UNIQUE (personal_of)
) STRICT, WITHOUT ROWID;

CREATE TABLE memberships (
    workspace_id BLOB NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    user_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    role TEXT NOT NULL,
    PRIMARY KEY (workspace_id, user_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX memberships_user ON memberships (user_id);

CREATE TABLE sessions (
    id BLOB NOT NULL PRIMARY KEY,
    user_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    hash BLOB NOT NULL,
    address TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    CONSTRAINT sessions_hash_key UNIQUE (hash)
) STRICT, WITHOUT ROWID;
CREATE INDEX sessions_user ON sessions (user_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);

CREATE TABLE login_links (
    hash BLOB NOT NULL PRIMARY KEY,
    user_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX login_links_user ON login_links (user_id);
CREATE INDEX login_links_expiry ON login_links (expires_at);

CREATE TABLE device_grants (
    hash BLOB NOT NULL PRIMARY KEY,
    user_code TEXT NOT NULL,
    user_id BLOB REFERENCES users (id) ON DELETE CASCADE,
    denied INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    CONSTRAINT device_grants_user_code_key UNIQUE (user_code)
) STRICT, WITHOUT ROWID;
CREATE INDEX device_grants_user ON device_grants (user_id);
CREATE INDEX device_grants_expiry ON device_grants (expires_at);

CREATE TABLE oauth_codes (
    hash BLOB NOT NULL PRIMARY KEY,
    user_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    redirect_uri TEXT NOT NULL,
    challenge TEXT NOT NULL,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX oauth_codes_user ON oauth_codes (user_id);
CREATE INDEX oauth_codes_expiry ON oauth_codes (expires_at);

-- One login of a command-line client: every token that descends from it dies with revoked_at.
CREATE TABLE oauth_families (
    id BLOB NOT NULL PRIMARY KEY,
    user_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    revoked_at INTEGER,
    expires_at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX oauth_families_user ON oauth_families (user_id);
CREATE INDEX oauth_families_expiry ON oauth_families (expires_at);

CREATE TABLE projects (
    id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    name TEXT NOT NULL,
    description TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER,
    CONSTRAINT projects_tenant_key UNIQUE (id, workspace_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX projects_workspace ON projects (workspace_id, id);
CREATE INDEX projects_living ON projects (workspace_id, id, deleted_at) WHERE deleted_at IS NULL;
CREATE INDEX projects_deleted ON projects (deleted_at) WHERE deleted_at IS NOT NULL;

-- name_key is the name in lower case: names that differ only in case are one name.
CREATE TABLE environments (
    id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL,
    project_id BLOB NOT NULL,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL,
    is_ephemeral INTEGER NOT NULL,
    source_environment_id BLOB,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT environments_name_key UNIQUE (project_id, name_key),
    CONSTRAINT environments_tenant_key UNIQUE (id, project_id, workspace_id),
    FOREIGN KEY (project_id, workspace_id) REFERENCES projects (id, workspace_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX environments_workspace ON environments (workspace_id, id);
CREATE INDEX environments_project ON environments (workspace_id, project_id);

CREATE TABLE services (
    id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL,
    project_id BLOB NOT NULL,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL,
    icon TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT services_name_key UNIQUE (project_id, name_key),
    CONSTRAINT services_tenant_key UNIQUE (id, project_id, workspace_id),
    FOREIGN KEY (project_id, workspace_id) REFERENCES projects (id, workspace_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX services_workspace ON services (workspace_id, id);
CREATE INDEX services_project ON services (workspace_id, project_id);

-- An environment belongs to one project and one workspace, so the four columns are as unique as the first two; domains refer to all four.
CREATE TABLE instances (
    id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL,
    project_id BLOB NOT NULL,
    environment_id BLOB NOT NULL,
    service_id BLOB NOT NULL,
    number INTEGER NOT NULL,
    spec TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT instances_place_key UNIQUE (environment_id, service_id, project_id, workspace_id),
    CONSTRAINT instances_tenant_key UNIQUE (id, environment_id, service_id, project_id, workspace_id),
    CONSTRAINT instances_number_key UNIQUE (number),
    FOREIGN KEY (environment_id, project_id, workspace_id) REFERENCES environments (id, project_id, workspace_id) ON DELETE CASCADE,
    FOREIGN KEY (service_id, project_id, workspace_id) REFERENCES services (id, project_id, workspace_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX instances_workspace ON instances (workspace_id, id);
CREATE INDEX instances_environment ON instances (workspace_id, environment_id);
CREATE INDEX instances_service ON instances (workspace_id, service_id);

CREATE TABLE domains (
    id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL,
    project_id BLOB NOT NULL,
    environment_id BLOB NOT NULL,
    service_id BLOB NOT NULL,
    kind TEXT NOT NULL,
    domain TEXT NOT NULL,
    target_port INTEGER,
    verification_token TEXT,
    verified_at INTEGER,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT domains_domain_key UNIQUE (domain),
    FOREIGN KEY (environment_id, service_id, project_id, workspace_id)
        REFERENCES instances (environment_id, service_id, project_id, workspace_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX domains_environment ON domains (workspace_id, environment_id, service_id);

-- owner is the service, or the environment for what all its services share: a key needs a column that is never null.
CREATE TABLE variables (
    workspace_id BLOB NOT NULL,
    project_id BLOB NOT NULL,
    environment_id BLOB NOT NULL,
    owner BLOB NOT NULL,
    service_id BLOB,
    name TEXT NOT NULL,
    sealed_value BLOB NOT NULL,
    is_sealed INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (environment_id, owner, name),
    FOREIGN KEY (environment_id, project_id, workspace_id) REFERENCES environments (id, project_id, workspace_id) ON DELETE CASCADE,
    FOREIGN KEY (service_id, project_id, workspace_id) REFERENCES services (id, project_id, workspace_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX variables_environment ON variables (workspace_id, environment_id, owner);
CREATE INDEX variables_service ON variables (workspace_id, service_id);

CREATE TABLE deployments (
    id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL,
    project_id BLOB NOT NULL,
    environment_id BLOB NOT NULL,
    service_id BLOB NOT NULL,
    instance_id BLOB NOT NULL,
    snapshot_id BLOB NOT NULL,
    status TEXT NOT NULL,
    status_reason TEXT,
    status_at INTEGER NOT NULL,
    generation INTEGER NOT NULL,
    stopped INTEGER NOT NULL,
    reason TEXT NOT NULL,
    spec TEXT NOT NULL,
    source_blob TEXT,
    artifact TEXT,
    run TEXT,
    message TEXT,
    creator TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT deployments_tenant_key UNIQUE (id, workspace_id),
    FOREIGN KEY (instance_id, environment_id, service_id, project_id, workspace_id)
        REFERENCES instances (id, environment_id, service_id, project_id, workspace_id) ON DELETE CASCADE
) STRICT;
CREATE INDEX deployments_instance ON deployments (instance_id, id);
CREATE INDEX deployments_place ON deployments (workspace_id, environment_id, service_id, id);
CREATE INDEX deployments_environment ON deployments (workspace_id, environment_id, id);
CREATE INDEX deployments_service ON deployments (workspace_id, service_id, id);
CREATE INDEX deployments_project ON deployments (workspace_id, project_id, id);
CREATE INDEX deployments_workspace ON deployments (workspace_id, id);
CREATE INDEX deployments_open ON deployments (workspace_id, instance_id, id) WHERE status NOT IN ('FAILED', 'SKIPPED', 'REMOVED');

CREATE TABLE deployment_variables (
    deployment_id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL,
    sealed_values BLOB NOT NULL,
    FOREIGN KEY (deployment_id, workspace_id) REFERENCES deployments (id, workspace_id) ON DELETE CASCADE
) STRICT;
CREATE INDEX deployment_variables_workspace ON deployment_variables (workspace_id);

CREATE TABLE deployment_events (
    id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL,
    deployment_id BLOB NOT NULL,
    step TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    completed_at INTEGER,
    error TEXT,
    detail TEXT,
    FOREIGN KEY (deployment_id, workspace_id) REFERENCES deployments (id, workspace_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX deployment_events_deployment ON deployment_events (workspace_id, deployment_id, id);

CREATE TABLE replicas (
    id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL,
    deployment_id BLOB NOT NULL,
    generation INTEGER NOT NULL,
    place INTEGER NOT NULL,
    status TEXT NOT NULL,
    port INTEGER NOT NULL,
    exit_code INTEGER,
    reason TEXT,
    restarts INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    FOREIGN KEY (deployment_id, workspace_id) REFERENCES deployments (id, workspace_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX replicas_deployment ON replicas (workspace_id, deployment_id, id);
CREATE INDEX replicas_live ON replicas (id) WHERE status IN ('CREATED', 'INITIALIZING', 'RUNNING', 'RESTARTING', 'REMOVING');

-- The audit log outlives the projects it tells of, so project_id refers to nothing.
CREATE TABLE activities (
    id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL REFERENCES workspaces (id) ON DELETE CASCADE,
    project_id BLOB,
    actor TEXT NOT NULL,
    verb TEXT NOT NULL,
    subject TEXT NOT NULL,
    data TEXT NOT NULL,
    address TEXT,
    created_at INTEGER NOT NULL
) STRICT;
CREATE INDEX activities_workspace ON activities (workspace_id, id);
CREATE INDEX activities_project ON activities (workspace_id, project_id, id);

-- The limits are for keys that have windows of their own; null means those of the plan.
CREATE TABLE api_keys (
    id BLOB NOT NULL PRIMARY KEY,
    kind TEXT NOT NULL,
    user_id BLOB NOT NULL REFERENCES users (id) ON DELETE CASCADE,
    workspace_id BLOB REFERENCES workspaces (id) ON DELETE CASCADE,
    project_id BLOB,
    environment_id BLOB,
    label TEXT NOT NULL,
    display TEXT NOT NULL,
    hash BLOB NOT NULL,
    family BLOB REFERENCES oauth_families (id) ON DELETE CASCADE,
    spent_by BLOB,
    expires_at INTEGER,
    revoked_at INTEGER,
    last_used_at INTEGER,
    last_used_address TEXT,
    limit_second INTEGER,
    limit_minute INTEGER,
    limit_hour INTEGER,
    limit_day INTEGER,
    created_at INTEGER NOT NULL,
    CONSTRAINT api_keys_hash_key UNIQUE (hash),
    CHECK ((project_id IS NULL) = (environment_id IS NULL)),
    CHECK (project_id IS NULL OR workspace_id IS NOT NULL),
    FOREIGN KEY (environment_id, project_id, workspace_id) REFERENCES environments (id, project_id, workspace_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX api_keys_user ON api_keys (user_id, kind);
CREATE INDEX api_keys_project ON api_keys (workspace_id, project_id);
CREATE INDEX api_keys_environment ON api_keys (environment_id);
CREATE INDEX api_keys_family ON api_keys (family);
CREATE INDEX api_keys_oauth_expiry ON api_keys (expires_at) WHERE kind = 'OAUTH_ACCESS';
