//! Tokens, without their secrets.

use std::sync::Arc;

use domain::key::{ApiKey, KeyKind};
use domain::{EnvironmentId, Permission, Place, ProjectId, Tenant};
use juniper::{GraphQLObject, ID, graphql_object};
use ops::Principal;

use super::connection::connection;
use super::environment::Environment;
use super::project::Project;
use crate::graphql::scalar::DateTime;
use crate::graphql::{Ctx, Fault, Scalar};

/// An account or workspace token.
#[derive(Clone)]
pub(crate) struct ApiToken(pub(crate) Arc<ApiKey>);

impl ApiToken {
    pub(crate) fn cursor(&self) -> String {
        self.0.id.to_string()
    }
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl ApiToken {
    fn display_token(&self) -> &str {
        &self.0.display
    }
    fn expires_at(&self) -> Option<DateTime> {
        self.0.expires_at.map(DateTime)
    }
    fn id(&self) -> ID {
        ID::from(self.0.id.to_string())
    }
    fn name(&self) -> &str {
        &self.0.label
    }
    fn workspace_id(&self) -> Option<String> {
        self.0.workspace_id.map(|id| id.to_string())
    }
}

/// What the credential that asks reaches.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct ApiTokenContext {
    workspaces: Vec<ApiTokenWorkspace>,
}

/// A workspace that a credential reaches, all of it or a project in it.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct ApiTokenWorkspace {
    id: String,
    name: String,
}

impl ApiTokenContext {
    pub(crate) fn of(ctx: &Ctx) -> Result<Self, Fault> {
        ctx.signed_in()?;
        let named = |row: &domain::account::Workspace| ApiTokenWorkspace { id: row.id.to_string(), name: row.name.clone() };
        let workspaces = match &ctx.op.principal {
            Principal::User(person) => {
                let rows = person.memberships.iter().map(|membership| &membership.workspace);
                rows.filter(|row| ctx.op.may(row.id, Place::Workspace, Permission::Read)).map(named).collect()
            }
            Principal::Key(key) => vec![named(&key.workspace)],
            Principal::Anonymous | Principal::System(_) => vec![],
        };
        Ok(Self { workspaces })
    }
}

/// A token of one environment.
#[derive(Clone)]
pub(crate) struct ProjectToken {
    key: Arc<ApiKey>,
    tenant: Tenant,
    project: ProjectId,
    environment: EnvironmentId,
}

impl ProjectToken {
    /// A token of a project that the principal reads.
    pub(crate) fn of(ctx: &Ctx, key: ApiKey) -> Option<Self> {
        let (project, environment) = key.project?;
        let tenant = ctx.op.allow(key.workspace_id?, Place::Project(project), Permission::Read).ok()?;
        ctx.loader.announce_places(tenant, project, environment);
        Some(Self { key: Arc::new(key), tenant, project, environment })
    }

    /// The one that came with the request.
    pub(crate) fn presented(ctx: &Ctx) -> Result<Self, Fault> {
        ctx.signed_in()?;
        let sent = match &ctx.op.principal {
            Principal::Key(key) if key.key.kind == KeyKind::Project => Self::of(ctx, key.key.clone()),
            _ => None,
        };
        sent.ok_or_else(|| {
            let text = "Not Authorized: projectToken answers to a project token, sent as the header `Project-Access-Token` (RAILWAY_TOKEN)";
            Fault(ops::Error::new(domain::Code::Forbidden, text))
        })
    }

    pub(crate) fn cursor(&self) -> String {
        self.key.id.to_string()
    }
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl ProjectToken {
    fn created_at(&self) -> DateTime {
        DateTime(self.key.created_at)
    }
    fn display_token(&self) -> &str {
        &self.key.display
    }
    fn environment(&self, ctx: &Ctx) -> Result<Environment, Fault> {
        Environment::of(ctx, self.tenant, self.environment)
    }
    fn environment_id(&self) -> String {
        self.environment.to_string()
    }
    fn id(&self) -> ID {
        ID::from(self.key.id.to_string())
    }
    fn name(&self) -> &str {
        &self.key.label
    }
    fn project(&self, ctx: &Ctx) -> Result<Project, Fault> {
        Ok(Project { tenant: self.tenant, row: ctx.loader.project(ctx, self.tenant, self.project)? })
    }
    fn project_id(&self) -> String {
        self.project.to_string()
    }
}

connection! {
    /// Account and workspace tokens.
    QueryApiTokensConnection, QueryApiTokensConnectionEdge, ApiToken;
    /// Tokens of a project.
    QueryProjectTokensConnection, QueryProjectTokensConnectionEdge, ProjectToken;
}
