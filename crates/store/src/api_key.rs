//! API keys of every kind, found by the hash of their secret.

use domain::key::{ApiKey, KeyKind, KeyLimits};
use domain::{ApiKeyId, EnvironmentId, ProjectId, Role, Tenant, Timestamp, UserId, WorkspaceId};
use uuid::Uuid;

use crate::executor::{BadCell, Record, Statement};
use crate::{Store, StoreError};

/// A token of a login that was ended counts as revoked itself.
macro_rules! select {
    () => {
        "SELECT api_keys.id, api_keys.kind, api_keys.user_id, api_keys.workspace_id, api_keys.project_id, api_keys.environment_id, \
         api_keys.label, api_keys.display, api_keys.limit_second, api_keys.limit_minute, api_keys.limit_hour, api_keys.limit_day, \
         api_keys.expires_at, COALESCE(api_keys.revoked_at, oauth_families.revoked_at), api_keys.last_used_at, \
         api_keys.last_used_address, api_keys.created_at \
         FROM api_keys LEFT JOIN oauth_families ON oauth_families.id = api_keys.family "
    };
}

macro_rules! insert {
    ($($more:literal),*) => {
        concat!(
            "INSERT INTO api_keys (id, kind, user_id, workspace_id, project_id, environment_id, label, display, limit_second, limit_minute, \
             limit_hour, limit_day, hash, family, expires_at, revoked_at, last_used_at, last_used_address, created_at",
            $($more),*
        )
    };
}

macro_rules! values {
    () => {
        "$id, $kind, $user, $workspace, $project, $environment, $label, $display, $second, $minute, $hour, $day, $hash, $family, \
         $expires, $revoked, $used, $address, $created"
    };
}

statements! {
    API_KEY = concat!(select!(), "WHERE api_keys.id = $id");
    API_KEY_BY_HASH = concat!(select!(), "WHERE api_keys.hash = $hash");
    API_KEYS_OF_USER = concat!(select!(), "WHERE api_keys.user_id = $user AND api_keys.kind IN ($kinds) ORDER BY api_keys.id");
    API_KEYS_OF_PROJECT =
        concat!(select!(), "WHERE api_keys.project_id = $project AND api_keys.workspace_id = $workspace ORDER BY api_keys.id");
    API_KEYS_OF_WORKSPACES =
        concat!(select!(), "WHERE api_keys.workspace_id IN ($workspaces) AND api_keys.revoked_at IS NULL ORDER BY api_keys.id");
    /// Whoever makes a key for a workspace still has the role that it gives. Whatever ends that role waits for the key, and then finds it.
    API_KEY_MAKER =
        "UPDATE memberships SET role = role WHERE workspace_id = $workspace AND user_id = $user AND role IN ($roles)";
    API_KEY_INSERT = concat!(insert!(") VALUES ("), values!(), ")");
    /// A Flow key takes the first free place; when all are taken, nothing is inserted.
    FLOW_KEY_INSERT = concat!(
        insert!(
            ", place) \
             WITH RECURSIVE step (n) AS (SELECT CAST(1 AS BIGINT) UNION ALL SELECT step.n + 1 FROM step WHERE step.n < 10) SELECT "
        ),
        values!(),
        ", step.n FROM step WHERE step.n NOT IN (SELECT taken.place FROM api_keys AS taken WHERE taken.workspace_id = $workspace \
         AND taken.kind = 'FLOW' AND taken.revoked_at IS NULL) ORDER BY step.n LIMIT 1"
    );
    /// A person's own keys are changed in a workspace that they are a member of.
    API_KEY_UPDATE =
        "UPDATE api_keys SET label = $label, limit_second = $second, limit_minute = $minute, limit_hour = $hour, limit_day = $day \
         WHERE id = $id AND revoked_at IS NULL AND (workspace_id = $workspace OR (workspace_id IS NULL AND EXISTS \
         (SELECT 1 FROM memberships WHERE memberships.workspace_id = $workspace AND memberships.user_id = api_keys.user_id)))";
    API_KEY_REVOKE =
        "UPDATE api_keys SET revoked_at = $now WHERE id = $id AND revoked_at IS NULL AND (workspace_id = $workspace OR \
         (workspace_id IS NULL AND EXISTS \
         (SELECT 1 FROM memberships WHERE memberships.workspace_id = $workspace AND memberships.user_id = api_keys.user_id)))";
    /// Keys of some kinds that a person made for the workspace.
    API_KEYS_REVOKE =
        "UPDATE api_keys SET revoked_at = $now WHERE user_id = $user AND workspace_id = $workspace AND kind IN ($kinds) \
         AND revoked_at IS NULL";
    API_KEY_ADDRESS =
        "INSERT INTO api_key_addresses (key_id, address, first_used_at) VALUES ($id, $address, $now) ON CONFLICT (key_id, address) DO NOTHING";
    /// A key that moves about is remembered at its newest hundred addresses.
    API_KEY_ADDRESSES_PURGE =
        "DELETE FROM api_key_addresses WHERE key_id = $id AND first_used_at < (SELECT newer.first_used_at FROM api_key_addresses AS newer \
         WHERE newer.key_id = $id ORDER BY newer.first_used_at DESC LIMIT 1 OFFSET 99)";
    API_KEY_TOUCH =
        "UPDATE api_keys SET last_used_at = $now, last_used_address = COALESCE($address, last_used_address) WHERE id = $id";
}

fn row(r: &mut Record) -> Result<ApiKey, BadCell> {
    Ok(ApiKey {
        id: r.id(ApiKeyId)?,
        kind: r.word(KeyKind::parse)?,
        user_id: r.id(UserId)?,
        workspace_id: r.maybe_id(WorkspaceId)?,
        project: r.maybe_id(ProjectId)?.zip(r.maybe_id(EnvironmentId)?),
        label: r.text()?,
        display: r.text()?,
        limits: KeyLimits { second: r.maybe_number()?, minute: r.maybe_number()?, hour: r.maybe_number()?, day: r.maybe_number()? },
        expires_at: r.maybe_time()?,
        revoked_at: r.maybe_time()?,
        last_used_at: r.maybe_time()?,
        last_used_address: r.maybe_text()?,
        created_at: r.time()?,
    })
}

impl Store {
    /// Keeps a key by the hash of its secret.
    ///
    /// # Errors
    /// Its user, workspace or environment is not there, or its user is not in the workspace as what the key gives.
    pub async fn api_key_create(&self, key: ApiKey, hash: [u8; 32]) -> Result<(), StoreError> {
        self.write(api_key_made(&key, hash)).await.map(|_| ())
    }

    /// The key of a secret, also when it has expired or was revoked.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn api_key_by_hash(&self, hash: [u8; 32]) -> Result<Option<ApiKey>, StoreError> {
        self.one(&API_KEY_BY_HASH, &params![hash = hash], row).await
    }

    /// A key.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn api_key(&self, id: ApiKeyId) -> Result<Option<ApiKey>, StoreError> {
        self.one(&API_KEY, &params![id = id], row).await
    }

    /// The keys of a person of these kinds, oldest first, revoked ones included.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn api_keys_of_user(&self, user: UserId, kinds: &[KeyKind]) -> Result<Vec<ApiKey>, StoreError> {
        let kinds: Vec<&'static str> = kinds.iter().map(|kind| kind.as_str()).collect();
        self.list(&API_KEYS_OF_USER, &params![user = user, kinds = kinds], row).await
    }

    /// The keys of a project's environments, oldest first, revoked ones included.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn api_keys_of_project(&self, tenant: Tenant, project: ProjectId) -> Result<Vec<ApiKey>, StoreError> {
        self.list(&API_KEYS_OF_PROJECT, &params![workspace = tenant, project = project], row).await
    }

    /// The keys that are tied to the workspaces or to projects of them, oldest first, without revoked ones.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn api_keys_of_workspaces(&self, tenants: &[Tenant]) -> Result<Vec<ApiKey>, StoreError> {
        let workspaces: Vec<WorkspaceId> = tenants.iter().map(|tenant| tenant.workspace()).collect();
        self.list(&API_KEYS_OF_WORKSPACES, &params![workspaces = workspaces.as_slice()], row).await
    }

    /// Notes a use of the key.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn api_key_touch(&self, id: ApiKeyId, now: Timestamp, address: Option<&str>) -> Result<(), StoreError> {
        self.write_one(&API_KEY_TOUCH, params![id = id, now = now, address = address]).await.map(|_| ())
    }

    /// Notes from where the key is used. Whether it was never used from there before, as far as is remembered.
    ///
    /// # Errors
    /// There is no such key.
    pub async fn api_key_address(&self, id: ApiKeyId, address: &str, now: Timestamp) -> Result<bool, StoreError> {
        let statements = vec![
            Statement::any(&API_KEY_ADDRESS, params![id = id, address = address, now = now]),
            Statement::any(&API_KEY_ADDRESSES_PURGE, params![id = id]),
        ];
        Ok(self.write(statements).await?.first().is_some_and(|outcome| outcome.touched > 0))
    }
}

/// The label and the limits of a key that was not revoked.
pub(crate) fn api_key_update(tenant: Tenant, key: &ApiKey) -> Statement {
    let ApiKey { id, label, limits, .. } = key;
    let params = params![
        id = *id,
        workspace = tenant,
        label = label,
        second = limits.second,
        minute = limits.minute,
        hour = limits.hour,
        day = limits.day
    ];
    Statement::touch(&API_KEY_UPDATE, params)
}

pub(crate) fn api_key_revoke(tenant: Tenant, id: ApiKeyId, now: Timestamp) -> Statement {
    Statement::touch(&API_KEY_REVOKE, params![id = id, workspace = tenant, now = now])
}

pub(crate) fn api_keys_revoke(tenant: Tenant, user: UserId, kinds: &[KeyKind], now: Timestamp) -> Statement {
    let kinds: Vec<&'static str> = kinds.iter().map(|kind| kind.as_str()).collect();
    Statement::any(&API_KEYS_REVOKE, params![workspace = tenant, user = user, kinds = kinds, now = now])
}

/// A new key by somebody who has the role that it gives.
pub(crate) fn api_key_made(key: &ApiKey, hash: [u8; 32]) -> Vec<Statement> {
    let maker = key.workspace_id.zip(key.kind.role()).map(|(workspace, needed)| {
        // The weaker role is the greater one.
        let roles: Vec<&'static str> = Role::ALL.into_iter().filter(|role| *role <= needed).map(Role::as_str).collect();
        Statement::touch(&API_KEY_MAKER, params![workspace = workspace, user = key.user_id, roles = roles])
    });
    maker.into_iter().chain([api_key_insert(key, hash, None)]).collect()
}

/// A new key, of a login's family when it is an OAuth token.
pub(crate) fn api_key_insert(key: &ApiKey, hash: [u8; 32], family: Option<Uuid>) -> Statement {
    let ApiKey { id, kind, user_id, workspace_id, project, label, display, limits, .. } = key;
    let ApiKey { expires_at, revoked_at, last_used_at, last_used_address, created_at, .. } = key;
    let params = params![
        id = *id,
        kind = kind.as_str(),
        user = *user_id,
        workspace = *workspace_id,
        project = project.map(|(project, _)| project),
        environment = project.map(|(_, environment)| environment),
        label = label,
        display = display,
        second = limits.second,
        minute = limits.minute,
        hour = limits.hour,
        day = limits.day,
        hash = hash,
        family = family,
        expires = *expires_at,
        revoked = *revoked_at,
        used = *last_used_at,
        address = last_used_address.as_ref(),
        created = *created_at
    ];
    Statement::touch(if *kind == KeyKind::Flow { &FLOW_KEY_INSERT } else { &API_KEY_INSERT }, params)
}
