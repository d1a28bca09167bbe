//! People and workspaces.

use std::sync::Arc;

use domain::account::Member;
use domain::key::KeyKind;
use domain::{Permission, Place, ProjectId, Tenant, WorkspaceId};
use juniper::{GraphQLObject, ID, graphql_object};
use ops::{KeyPrincipal, Principal, UserPrincipal};

use super::absent::{ExternalWorkspace, Team};
use super::connection::{connection, page, sized};
use super::enums::{Plan, ProjectRole, TeamRole, WorkspaceRole};
use super::inputs::id;
use super::plan::{PlanUse, plan_use};
use super::project::Project;
use super::rate_limit::{ApiTokenRateLimit, RateLimit};
use crate::graphql::scalar::DateTime;
use crate::graphql::{Ctx, Fault, Scalar};

/// Who the credential stands for: a person, or the service identity of a workspace token, so that `me` works in CI
/// (`contracts/railway.md` 1.3).
#[derive(Clone)]
pub(crate) enum User {
    /// A person.
    Person(Arc<UserPrincipal>),
    /// A workspace token.
    Key(Arc<KeyPrincipal>),
}

impl User {
    pub(crate) fn of(ctx: &Ctx) -> Result<Self, Fault> {
        match &ctx.op.principal {
            Principal::Key(key) if key.key.kind == KeyKind::Workspace => Ok(Self::Key(Arc::clone(key))),
            Principal::User(person) => Ok(Self::Person(Arc::clone(person))),
            _ => match ctx.op.user() {
                Err(error) => Err(Fault(error)),
                Ok(_) => Err(Fault(crate::graphql::unauthenticated())),
            },
        }
    }
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl User {
    /// How the credential that asks stands with what its operations may cost; null when nothing limits it.
    fn api_token_rate_limit(ctx: &Ctx) -> Option<ApiTokenRateLimit> {
        RateLimit::of(ctx).map(ApiTokenRateLimit::from)
    }
    fn avatar(&self) -> Option<String> {
        None
    }
    fn created_at(&self) -> DateTime {
        DateTime(match self {
            Self::Person(person) => person.user.created_at,
            Self::Key(key) => key.key.created_at,
        })
    }
    fn email(&self) -> String {
        match self {
            Self::Person(person) => person.user.email.clone(),
            Self::Key(key) => format!("{}@keys.local", key.key.id),
        }
    }
    /// Whether the person can sign in by password; others sign in by links.
    fn has_password(&self, ctx: &Ctx) -> Result<bool, Fault> {
        match self {
            Self::Person(_) => ctx.wait(ops::account::has_password(&ctx.op)),
            Self::Key(_) => Ok(false),
        }
    }
    fn id(&self) -> ID {
        ID::from(match self {
            Self::Person(person) => person.user.id.to_string(),
            Self::Key(key) => key.key.id.to_string(),
        })
    }
    fn is_admin(&self) -> bool {
        matches!(self, Self::Person(person) if person.user.operator)
    }
    fn name(&self) -> Option<String> {
        Some(match self {
            Self::Person(person) => person.user.name.clone(),
            Self::Key(key) => key.key.label.clone(),
        })
    }
    fn workspaces(&self, ctx: &Ctx) -> Result<Vec<Workspace>, Fault> {
        match self {
            Self::Person(person) => {
                let rows = person.memberships.iter().map(|membership| &membership.workspace);
                // What is asked of one of them is asked of all: a narrowed key may read some alone.
                let readable = rows.clone().filter_map(|row| ctx.op.allow(row.id, Place::Workspace, Permission::Read).ok());
                ctx.loader.announce_workspaces(readable);
                Ok(rows.map(|row| Workspace(Arc::new(row.clone()))).collect())
            }
            Self::Key(key) => key.key.workspace_id.iter().map(|id| Workspace::find(ctx, *id)).collect(),
        }
    }
}

/// The owner of projects.
#[derive(Clone)]
pub(crate) struct Workspace(Arc<domain::account::Workspace>);

impl Workspace {
    pub(crate) fn find(ctx: &Ctx, id: WorkspaceId) -> Result<Self, Fault> {
        Ok(Self(Arc::new(ctx.wait(ops::account::workspace_get(&ctx.op, id))?.row)))
    }

    pub(crate) fn new(row: domain::account::Workspace) -> Self {
        Self(Arc::new(row))
    }

    pub(crate) fn plan_set(ctx: &Ctx, id: WorkspaceId, plan: Plan) -> Result<Self, Fault> {
        Ok(Self(Arc::new(ctx.wait(ops::account::workspace_plan_set(&ctx.op, id, plan.into()))?.row)))
    }

    /// The workspace of a row that the principal may read; a project token sees its name and no more.
    pub(crate) fn of(ctx: &Ctx, tenant: Tenant) -> Result<Option<Self>, Fault> {
        Ok(ctx.loader.workspace(ctx, tenant)?.map(Self))
    }
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl Workspace {
    fn avatar(&self) -> Option<String> {
        None
    }
    fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }
    /// What the workspace's workflows have used of what they may use.
    fn flow_credits(&self, ctx: &Ctx) -> Result<FlowCredits, Fault> {
        let tenant = ctx.op.allow(self.0.id, Place::Workspace, Permission::Read)?;
        let used = *ctx.loader.flow_credits(ctx, tenant)?;
        Ok(FlowCredits { used: credits(used), allowance: credits(ctx.op.ops.settings.flow.allowance) })
    }
    fn id(&self) -> ID {
        ID::from(self.0.id.to_string())
    }
    fn members(&self, ctx: &Ctx) -> Result<Vec<WorkspaceMember>, Fault> {
        let tenant = ctx.op.allow(self.0.id, Place::Workspace, Permission::Read)?;
        let members = ctx.loader.members(ctx, tenant)?;
        ctx.charge(members.len())?;
        Ok(members.iter().cloned().map(WorkspaceMember).collect())
    }
    fn name(&self) -> &str {
        &self.0.name
    }
    fn plan(&self) -> Plan {
        self.0.plan.into()
    }
    /// What its plan allows on this server, and how much of it is used.
    fn plan_use(&self, ctx: &Ctx) -> Result<PlanUse, Fault> {
        plan_use(ctx, &self.0)
    }
    fn projects(
        &self,
        ctx: &Ctx,
        after: Option<String>,
        before: Option<String>,
        first: Option<i32>,
        last: Option<i32>,
    ) -> Result<WorkspaceProjectsConnection, Fault> {
        let request = sized(page(after, before, first, last)?);
        Ok(Project::page(ctx, ctx.wait(ops::project::projects(&ctx.op, Some(self.0.id), &request, false))?)?.into())
    }
    fn team(&self) -> Option<Team> {
        None
    }
    fn updated_at(&self) -> DateTime {
        DateTime(self.0.updated_at)
    }
    /// What Galaxy's API calls the account.
    fn username(&self) -> &str {
        &self.0.username
    }
    /// Whether the principal may manage members, keys and projects.
    fn viewer_can_administer(&self, ctx: &Ctx) -> bool {
        ctx.op.may(self.0.id, Place::Workspace, Permission::Administer)
    }
    /// The person's own role; null for a key.
    fn viewer_role(&self, ctx: &Ctx) -> Option<WorkspaceRole> {
        let Principal::User(person) = &ctx.op.principal else { return None };
        person.memberships.iter().find(|membership| membership.workspace.id == self.0.id).map(|membership| membership.role.into())
    }
}

/// What workflows may use, in credits.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct FlowCredits {
    /// What there is for all time.
    allowance: f64,
    /// What was used, and what runs under way may use.
    used: f64,
}

// Microcredits are far below the 2^53 from which on this would be inexact.
fn credits(micro: i64) -> f64 {
    micro as f64 / 1_000_000.0
}

connection! {
    /// Projects of a workspace.
    WorkspaceProjectsConnection, WorkspaceProjectsConnectionEdge, Project;
}

/// A person's place in a workspace.
pub(crate) struct WorkspaceMember(Member);

#[graphql_object(context = Ctx, scalar = Scalar)]
impl WorkspaceMember {
    fn avatar(&self) -> Option<String> {
        None
    }
    fn email(&self) -> &str {
        &self.0.user.email
    }
    fn id(&self) -> String {
        self.0.user.id.to_string()
    }
    fn name(&self) -> Option<&str> {
        Some(&self.0.user.name)
    }
    fn role(&self) -> TeamRole {
        self.0.role.into()
    }
    /// The role, of all that this server has.
    fn workspace_role(&self) -> WorkspaceRole {
        self.0.role.into()
    }
}

/// A person's place in a project.
pub(crate) struct ProjectMember(Member);

#[graphql_object(context = Ctx, scalar = Scalar)]
impl ProjectMember {
    fn avatar(&self) -> Option<String> {
        None
    }
    fn email(&self) -> &str {
        &self.0.user.email
    }
    fn id(&self) -> String {
        self.0.user.id.to_string()
    }
    fn name(&self) -> Option<&str> {
        Some(&self.0.user.name)
    }
    fn role(&self) -> ProjectRole {
        self.0.role.into()
    }
}

/// The members of a project are those of its workspace.
pub(crate) fn project_members(ctx: &Ctx, project: &str) -> Result<Vec<ProjectMember>, Fault> {
    let project = Project::find(ctx, id("Project", project, ProjectId)?)?;
    let tenant = ctx.op.allow(project.row.workspace_id, Place::Workspace, Permission::Read)?;
    let members = ctx.loader.members(ctx, tenant)?;
    ctx.charge(members.len())?;
    Ok(members.iter().cloned().map(ProjectMember).collect())
}

/// Workspaces in which the person has single projects: none, since projects are not shared one by one.
pub(crate) fn external_workspaces(ctx: &Ctx) -> Result<Vec<ExternalWorkspace>, Fault> {
    ctx.signed_in()?;
    Ok(vec![])
}
