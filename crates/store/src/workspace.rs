//! Workspaces and their members.

use domain::account::{Member, Membership, Plan, Workspace};
use domain::{Role, Sealed, Tenant, Timestamp, UserId, WorkspaceId};

use crate::account::user_row;
use crate::executor::{BadCell, Record, Statement};
use crate::{Store, StoreError};

macro_rules! columns {
    () => {
        "workspaces.id, workspaces.name, workspaces.username, workspaces.personal_of, workspaces.plan, workspaces.created_at, \
         workspaces.updated_at"
    };
}

/// Whether the workspace keeps an owner when this member is one no longer.
macro_rules! another_owner {
    () => {
        "memberships.role <> 'OWNER' OR EXISTS (SELECT 1 FROM memberships AS other WHERE other.workspace_id = $workspace \
         AND other.user_id <> $user AND other.role = 'OWNER')"
    };
}

statements! {
    WORKSPACE = concat!("SELECT ", columns!(), " FROM workspaces WHERE id = $id");
    WORKSPACE_BY_USERNAME = concat!("SELECT ", columns!(), " FROM workspaces WHERE username = $username");
    USERNAMES = "SELECT personal_of, username FROM workspaces WHERE personal_of IN ($users)";
    MEMBERSHIPS = concat!(
        "SELECT memberships.role, ", columns!(), " FROM memberships JOIN workspaces ON workspaces.id = memberships.workspace_id \
         WHERE memberships.user_id = $user"
    );
    MEMBERS_OF_WORKSPACES = concat!(
        "SELECT memberships.workspace_id, memberships.role, ", user_columns!(), " FROM memberships JOIN users \
         ON users.id = memberships.user_id WHERE memberships.workspace_id IN ($workspaces)"
    );
    SYSTEM_MEMBERSHIPS = concat!(
        "SELECT memberships.user_id, memberships.role, ", columns!(), " FROM memberships JOIN workspaces \
         ON workspaces.id = memberships.workspace_id ORDER BY memberships.workspace_id"
    );
    WORKSPACE_INSERT =
        "INSERT INTO workspaces (id, name, username, personal_of, plan, created_at, updated_at) \
         VALUES ($id, $name, $username, $personal_of, $plan, $created, $updated)";
    /// Whoever makes a workspace waits for what the same person does at the same time, so that the count that follows holds.
    OWNER_LOCK = "UPDATE users SET name = name WHERE id = $user";
    OWNER_ROOM =
        "UPDATE users SET name = name WHERE id = $user AND (SELECT COUNT(*) FROM memberships WHERE memberships.user_id = $user \
         AND memberships.role = 'OWNER') < $most";
    WORKSPACE_UPDATE =
        "UPDATE workspaces SET name = $name, username = $username, plan = $plan, updated_at = $updated \
         WHERE id = $workspace AND updated_at = $seen";
    WORKSPACE_GROW = "UPDATE workspaces SET updated_at = $at WHERE id = $workspace AND updated_at = $seen";
    /// Whoever changes members waits for whoever does so at the same time, so that two owners cannot remove each other.
    MEMBERS_LOCK = "UPDATE workspaces SET name = name WHERE id = $workspace";
    MEMBER_SET = concat!(
        "INSERT INTO memberships (workspace_id, user_id, role) VALUES ($workspace, $user, $role) \
         ON CONFLICT (workspace_id, user_id) DO UPDATE SET role = excluded.role \
         WHERE excluded.role = 'OWNER' OR ", another_owner!()
    );
    MEMBER_REMOVE = concat!("DELETE FROM memberships WHERE workspace_id = $workspace AND user_id = $user AND (", another_owner!(), ")");
}

fn row(r: &mut Record) -> Result<Workspace, BadCell> {
    Ok(Workspace {
        id: r.id(WorkspaceId)?,
        name: r.text()?,
        username: r.text()?,
        personal_of: r.maybe_id(UserId)?,
        plan: r.word(Plan::parse)?,
        created_at: r.time()?,
        updated_at: r.time()?,
    })
}

impl Store {
    /// A workspace.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn workspace(&self, id: WorkspaceId) -> Result<Option<Sealed<Workspace>>, StoreError> {
        self.sealed(&WORKSPACE, &params![id = id], row, |workspace| workspace.id).await
    }

    /// What people are called: the usernames of their personal workspaces.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn usernames(&self, users: &[UserId]) -> Result<Vec<(UserId, String)>, StoreError> {
        self.list(&USERNAMES, &params![users = users], |r| Ok((r.id(UserId)?, r.text()?))).await
    }

    /// A workspace by its username.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn workspace_by_username(&self, username: &str) -> Result<Option<Sealed<Workspace>>, StoreError> {
        self.sealed(&WORKSPACE_BY_USERNAME, &params![username = username], row, |workspace| workspace.id).await
    }

    /// The workspaces that a person is a member of, oldest first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn memberships(&self, user: UserId) -> Result<Vec<Membership>, StoreError> {
        let read = |r: &mut Record| Ok(Membership { role: r.word(Role::parse)?, workspace: row(r)? });
        self.batch(&MEMBERSHIPS, &params![user = user], read, |membership| membership.workspace.id).await
    }

    /// The members of the workspace, oldest account first.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn members(&self, tenant: Tenant) -> Result<Vec<Member>, StoreError> {
        Ok(self.members_of_workspaces(&[tenant]).await?.into_iter().map(|(_, member)| member).collect())
    }

    /// The same of several workspaces.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn members_of_workspaces(&self, tenants: &[Tenant]) -> Result<Vec<(WorkspaceId, Member)>, StoreError> {
        let read = |r: &mut Record| Ok((r.id(WorkspaceId)?, Member { role: r.word(Role::parse)?, user: user_row(r)? }));
        self.batch(&MEMBERS_OF_WORKSPACES, &params![workspaces = tenants], read, |row| (row.0, row.1.user.id)).await
    }

    /// Everybody's place in every workspace, oldest workspace first: for the operator.
    ///
    /// # Errors
    /// The database does not answer.
    pub async fn system_memberships(&self) -> Result<Vec<(UserId, Membership)>, StoreError> {
        let read = |r: &mut Record| Ok((r.id(UserId)?, Membership { role: r.word(Role::parse)?, workspace: row(r)? }));
        self.list(&SYSTEM_MEMBERSHIPS, &[], read).await
    }

    /// Makes a workspace with its owner.
    ///
    /// # Errors
    /// The username is taken, the person has a personal workspace already, or there is no such person.
    pub async fn workspace_create(&self, workspace: Workspace, owner: UserId) -> Result<(), StoreError> {
        self.write(workspace_insert(&workspace, owner)).await.map(|_| ())
    }
}

/// A workspace for a person who owns less than `most`.
pub(crate) fn workspace_insert_below(workspace: &Workspace, owner: UserId, most: u32) -> Vec<Statement> {
    let mut statements =
        vec![Statement::touch(&OWNER_LOCK, params![user = owner]), Statement::touch(&OWNER_ROOM, params![user = owner, most = most])];
    statements.extend(workspace_insert(workspace, owner));
    statements
}

/// A workspace and its owner.
pub(crate) fn workspace_insert(workspace: &Workspace, owner: UserId) -> Vec<Statement> {
    let Workspace { id, name, username, personal_of, plan, created_at, updated_at } = workspace;
    let params = params![
        id = *id,
        name = name,
        username = username,
        personal_of = *personal_of,
        plan = plan.as_str(),
        created = *created_at,
        updated = *updated_at
    ];
    let mut statements = vec![Statement::touch(&WORKSPACE_INSERT, params)];
    statements.extend(member_statements(*id, owner, Role::Owner));
    statements
}

pub(crate) fn workspace_update(tenant: Tenant, workspace: &Workspace, seen: Timestamp) -> Statement {
    let Workspace { name, username, plan, updated_at, .. } = workspace;
    Statement::touch(
        &WORKSPACE_UPDATE,
        params![workspace = tenant, name = name, username = username, plan = plan.as_str(), updated = *updated_at, seen = seen],
    )
}

pub(crate) fn workspace_grow(tenant: Tenant, seen: Timestamp, at: Timestamp) -> Statement {
    Statement::touch(&WORKSPACE_GROW, params![workspace = tenant, seen = seen, at = at])
}

pub(crate) fn member_set(tenant: Tenant, user: UserId, role: Role) -> Vec<Statement> {
    member_statements(tenant.workspace(), user, role)
}

fn member_statements(workspace: WorkspaceId, user: UserId, role: Role) -> Vec<Statement> {
    let set = Statement::touch(&MEMBER_SET, params![workspace = workspace, user = user, role = role.as_str()]);
    vec![Statement::touch(&MEMBERS_LOCK, params![workspace = workspace]), set]
}

pub(crate) fn member_remove(tenant: Tenant, user: UserId) -> Vec<Statement> {
    let remove = Statement::touch(&MEMBER_REMOVE, params![workspace = tenant, user = user]);
    vec![Statement::touch(&MEMBERS_LOCK, params![workspace = tenant]), remove]
}
