//! Who may do what, and the types that make a row unreachable without having asked.
//!
//! A [`Tenant`] comes out of a successful check and nowhere else (the engine's [`Tenant::system`] is the one exception, and tidy
//! holds its callers). Rows found by a global id arrive [`Sealed`]; only the tenant that owns them can open them.

use serde::{Deserialize, Serialize};

use crate::{EnvironmentId, ProjectId, WorkspaceId};

/// A member's role in a workspace, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Role {
    /// Everything, deleting the workspace included.
    Owner,
    /// Everything but the workspace itself.
    Admin,
    /// Builds and changes services, reads their secrets.
    Member,
    /// Deploys, restarts and rolls back what others configured.
    Deployer,
    /// Looks.
    Viewer,
}

/// What an operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Permission {
    /// See projects, services, deployments, logs.
    Read,
    /// See the values of variables.
    ReadSecrets,
    /// Deploy, redeploy, restart, stop, roll back.
    Deploy,
    /// Create and change services, variables, domains, settings.
    Write,
    /// Create and delete projects and environments, manage keys and members.
    Administer,
    /// Delete the workspace, change its plan.
    Own,
}

impl Role {
    /// Every role, strongest first.
    pub const ALL: [Self; 5] = [Self::Owner, Self::Admin, Self::Member, Self::Deployer, Self::Viewer];

    /// Whether the role includes the permission.
    #[must_use]
    pub fn includes(self, permission: Permission) -> bool {
        let weakest = match permission {
            Permission::Read => Self::Viewer,
            Permission::Deploy => Self::Deployer,
            Permission::ReadSecrets | Permission::Write => Self::Member,
            Permission::Administer => Self::Admin,
            Permission::Own => Self::Owner,
        };
        self <= weakest
    }

    /// The role as stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "OWNER",
            Self::Admin => "ADMIN",
            Self::Member => "MEMBER",
            Self::Deployer => "DEPLOYER",
            Self::Viewer => "VIEWER",
        }
    }

    /// Reads a stored role.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.as_str() == text)
    }
}

/// Where in a workspace an operation takes place. Keys can be narrowed to a project or to one environment of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The workspace itself.
    Workspace,
    /// A project.
    Project(ProjectId),
    /// One environment of a project.
    Environment(ProjectId, EnvironmentId),
}

/// One workspace that a principal reaches, how far, and how narrowly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant {
    /// The workspace.
    pub workspace: WorkspaceId,
    /// The strength.
    pub role: Role,
    /// Where the grant ends; [`Place::Workspace`] when it is not narrowed.
    pub within: Place,
}

/// Everything a principal reaches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Grants(pub Vec<Grant>);

/// Why [`Grants::allow`] refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Denied {
    /// The principal must not learn whether it exists.
    Invisible,
    /// Visible, but the role or the narrowing does not include this.
    Insufficient,
}

impl Grants {
    /// Checks one operation. The returned tenant opens rows of that workspace.
    ///
    /// # Errors
    /// [`Denied::Invisible`] when no grant reaches the place even for reading, [`Denied::Insufficient`] otherwise.
    pub fn allow(&self, workspace: WorkspaceId, place: Place, permission: Permission) -> Result<Tenant, Denied> {
        let mut denied = Denied::Invisible;
        for grant in self.0.iter().filter(|grant| grant.workspace == workspace) {
            let reaches = match (grant.within, place) {
                (Place::Workspace, _) => true,
                (Place::Project(mine), Place::Project(asked) | Place::Environment(asked, _)) => mine == asked,
                (Place::Environment(mine, environment), Place::Environment(asked, other)) => mine == asked && environment == other,
                // A project token names its project in nearly every query of the command-line client.
                (Place::Environment(mine, _), Place::Project(asked)) => mine == asked && permission == Permission::Read,
                (Place::Project(_) | Place::Environment(..), Place::Workspace) => false,
            };
            if reaches && grant.role.includes(permission) {
                return Ok(Tenant(workspace));
            }
            if reaches {
                denied = Denied::Insufficient;
            } else if let (Place::Environment(mine, _), Place::Project(asked)) = (grant.within, place)
                && mine == asked
            {
                denied = Denied::Insufficient;
            }
        }
        Err(denied)
    }

    /// The environment beyond which nothing that runs is seen: a project token reads its project's row, but of its siblings' rows nothing.
    #[must_use]
    pub fn environment(&self) -> Option<EnvironmentId> {
        match self.0.as_slice() {
            [Grant { within: Place::Environment(_, environment), .. }] => Some(*environment),
            _ => None,
        }
    }
}

/// Proof that an authorisation check for this workspace has succeeded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Tenant(WorkspaceId);

impl Tenant {
    /// The engine's own access. Only the engine, system verbs of `ops` and tests call this; `xtask tidy` checks.
    #[must_use]
    pub fn system(workspace: WorkspaceId) -> Self {
        Self(workspace)
    }

    /// The workspace that the check was about.
    #[must_use]
    pub fn workspace(self) -> WorkspaceId {
        self.0
    }
}

/// A row that was found by a global id and that only its owner's [`Tenant`] opens.
#[derive(Clone)]
pub struct Sealed<T> {
    workspace: WorkspaceId,
    row: T,
}

impl<T> Sealed<T> {
    /// Seals a row. Called by the store.
    pub fn new(workspace: WorkspaceId, row: T) -> Self {
        Self { workspace, row }
    }

    /// Whose it is: what an authorisation check needs to know.
    pub fn workspace(&self) -> WorkspaceId {
        self.workspace
    }

    /// Where it is, read without opening it.
    pub fn place(&self, place: impl FnOnce(&T) -> Place) -> Place {
        place(&self.row)
    }

    /// The row, for its owner; `None` for anyone else.
    pub fn open(self, tenant: Tenant) -> Option<T> {
        (tenant.0 == self.workspace).then_some(self.row)
    }
}

impl<T> std::fmt::Debug for Sealed<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sealed").field("workspace", &self.workspace).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_form_a_ladder() {
        let ladder = [Role::Owner, Role::Admin, Role::Member, Role::Deployer, Role::Viewer];
        let counts: Vec<usize> = ladder
            .iter()
            .map(|role| {
                use Permission::*;
                [Read, ReadSecrets, Deploy, Write, Administer, Own].into_iter().filter(|p| role.includes(*p)).count()
            })
            .collect();
        assert_eq!(counts, [6, 5, 4, 2, 1]);
    }

    #[test]
    fn a_narrowed_grant_ends_where_it_says() {
        let (workspace, project, environment) = (WorkspaceId::generate(), ProjectId::generate(), EnvironmentId::generate());
        let grants = Grants(vec![Grant { workspace, role: Role::Member, within: Place::Environment(project, environment) }]);
        assert!(grants.allow(workspace, Place::Environment(project, environment), Permission::Write).is_ok());
        assert!(grants.allow(workspace, Place::Project(project), Permission::Read).is_ok());
        assert_eq!(grants.allow(workspace, Place::Project(project), Permission::Write), Err(Denied::Insufficient));
        assert_eq!(
            grants.allow(workspace, Place::Environment(project, EnvironmentId::generate()), Permission::Read),
            Err(Denied::Invisible)
        );
        assert_eq!(grants.allow(workspace, Place::Workspace, Permission::Read), Err(Denied::Invisible));
        assert_eq!(grants.allow(WorkspaceId::generate(), Place::Workspace, Permission::Read), Err(Denied::Invisible));
        assert_eq!(grants.environment(), Some(environment));
        let wide = Grants(vec![Grant { workspace, role: Role::Member, within: Place::Project(project) }]);
        assert_eq!(wide.environment(), None);
    }

    #[test]
    fn a_sealed_row_opens_for_its_owner_only() {
        let (mine, other) = (WorkspaceId::generate(), WorkspaceId::generate());
        assert_eq!(Sealed::new(mine, 7).open(Tenant::system(other)), None);
        assert_eq!(Sealed::new(mine, 7).open(Tenant::system(mine)), Some(7));
    }
}
