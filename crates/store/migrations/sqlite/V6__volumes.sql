-- single repeats what the spec says: at most one replica. A mount refers to it, so that no volume is ever under several replicas, whichever
-- of the two is asked for first.
ALTER TABLE instances ADD COLUMN single INTEGER NOT NULL DEFAULT 1;
CREATE UNIQUE INDEX instances_single ON instances (environment_id, service_id, project_id, workspace_id, single);

CREATE TABLE volumes (
    id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL,
    project_id BLOB NOT NULL,
    name TEXT NOT NULL,
    name_key TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER,
    CONSTRAINT volumes_tenant_key UNIQUE (id, project_id, workspace_id),
    FOREIGN KEY (project_id, workspace_id) REFERENCES projects (id, workspace_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX volumes_living_name ON volumes (project_id, name_key) WHERE deleted_at IS NULL;
CREATE INDEX volumes_project ON volumes (project_id, workspace_id);
CREATE INDEX volumes_deleted ON volumes (deleted_at) WHERE deleted_at IS NOT NULL;

CREATE TABLE volume_instances (
    id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL,
    project_id BLOB NOT NULL,
    environment_id BLOB NOT NULL,
    volume_id BLOB NOT NULL,
    mount_path TEXT NOT NULL,
    size_mb INTEGER NOT NULL,
    used_bytes INTEGER NOT NULL,
    state TEXT NOT NULL,
    restoring BLOB,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT volume_instances_place_key UNIQUE (environment_id, volume_id),
    CONSTRAINT volume_instances_tenant_key UNIQUE (id, environment_id, project_id, workspace_id),
    CHECK ((state = 'RESTORING') = (restoring IS NOT NULL)),
    FOREIGN KEY (environment_id, project_id, workspace_id) REFERENCES environments (id, project_id, workspace_id) ON DELETE CASCADE,
    FOREIGN KEY (volume_id, project_id, workspace_id) REFERENCES volumes (id, project_id, workspace_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX volume_instances_environment ON volume_instances (workspace_id, environment_id);
CREATE INDEX volume_instances_volume ON volume_instances (workspace_id, volume_id);

-- An attachment: one volume of a service in an environment, and none where several replicas run.
CREATE TABLE volume_mounts (
    volume_instance_id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL,
    project_id BLOB NOT NULL,
    environment_id BLOB NOT NULL,
    service_id BLOB NOT NULL,
    single INTEGER NOT NULL CHECK (single = 1),
    CONSTRAINT volume_mounts_service_key UNIQUE (environment_id, service_id),
    FOREIGN KEY (volume_instance_id, environment_id, project_id, workspace_id)
        REFERENCES volume_instances (id, environment_id, project_id, workspace_id) ON DELETE CASCADE,
    FOREIGN KEY (environment_id, service_id, project_id, workspace_id, single)
        REFERENCES instances (environment_id, service_id, project_id, workspace_id, single) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE volume_backups (
    id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL,
    project_id BLOB NOT NULL,
    environment_id BLOB NOT NULL,
    volume_instance_id BLOB NOT NULL,
    name TEXT,
    creator_id BLOB,
    kind TEXT,
    state TEXT NOT NULL,
    reason TEXT,
    locked INTEGER NOT NULL,
    used_bytes INTEGER NOT NULL,
    expires_at INTEGER,
    created_at INTEGER NOT NULL,
    FOREIGN KEY (volume_instance_id, environment_id, project_id, workspace_id)
        REFERENCES volume_instances (id, environment_id, project_id, workspace_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX volume_backups_instance ON volume_backups (workspace_id, volume_instance_id, id);
CREATE INDEX volume_backups_under_way ON volume_backups (id) WHERE state = 'CREATING';
CREATE INDEX volume_backups_expiry ON volume_backups (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE volume_backup_schedules (
    volume_instance_id BLOB NOT NULL,
    kind TEXT NOT NULL,
    workspace_id BLOB NOT NULL,
    project_id BLOB NOT NULL,
    environment_id BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (volume_instance_id, kind),
    FOREIGN KEY (volume_instance_id, environment_id, project_id, workspace_id)
        REFERENCES volume_instances (id, environment_id, project_id, workspace_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;

CREATE TABLE tcp_proxies (
    id BLOB NOT NULL PRIMARY KEY,
    workspace_id BLOB NOT NULL,
    project_id BLOB NOT NULL,
    environment_id BLOB NOT NULL,
    service_id BLOB NOT NULL,
    kind TEXT NOT NULL,
    application_port INTEGER NOT NULL,
    proxy_port INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    CONSTRAINT tcp_proxies_port_key UNIQUE (proxy_port),
    CONSTRAINT tcp_proxies_place_key UNIQUE (environment_id, service_id, kind),
    FOREIGN KEY (environment_id, service_id, project_id, workspace_id)
        REFERENCES instances (environment_id, service_id, project_id, workspace_id) ON DELETE CASCADE
) STRICT, WITHOUT ROWID;
CREATE INDEX tcp_proxies_environment ON tcp_proxies (workspace_id, environment_id, service_id);
