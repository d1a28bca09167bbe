//! The audit log, in Railway's shape.

use std::sync::Arc;

use domain::activity::{Activity, Actor};
use domain::project::Instance;
use domain::{ActivityId, ProjectId, Tenant, WorkspaceId};
use juniper::{GraphQLInputObject, ID, graphql_object};
use serde_json::{Value as Json, json};

use super::connection::{connection, page, sized};
use super::environment::Environment;
use super::inputs::{id, id_option};
use super::service::Service;
use crate::graphql::scalar::{DateTime, JSON};
use crate::graphql::{Ctx, Fault, Scalar};

/// Which entries are wanted.
#[derive(Clone, Debug, Default, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct AuditLogFilterInput {
    /// Entries of a single project
    project_id: Option<String>,
}

/// `auditLogs`
pub(crate) fn audit_logs(
    ctx: &Ctx,
    (after, before, first, last): (Option<String>, Option<String>, Option<i32>, Option<i32>),
    filter: Option<AuditLogFilterInput>,
    workspace_id: &str,
) -> Result<QueryAuditLogsConnection, Fault> {
    let request = sized(page(after, before, first, last)?);
    let workspace = id("Workspace", workspace_id, WorkspaceId)?;
    let project = id_option("Project", filter.and_then(|filter| filter.project_id).as_deref(), ProjectId)?;
    let found = ctx.wait(ops::activity::activities(&ctx.op, workspace, project, &request))?;
    ctx.charge(found.row.items.len())?;
    ctx.loader.announce_activities(found.tenant, found.row.items.iter());
    let (tenant, rows) = (found.tenant, found.row);
    let entries = rows.items.into_iter().map(|row| AuditLog { tenant, row }).collect();
    Ok(domain::page::Page { items: entries, has_next: rows.has_next, has_previous: rows.has_previous }.into())
}

/// `auditLog`
pub(crate) fn audit_log(ctx: &Ctx, entry: &str, workspace_id: &str) -> Result<AuditLog, Fault> {
    let workspace = id("Workspace", workspace_id, WorkspaceId)?;
    let found = ctx.wait(ops::activity::activity_get(&ctx.op, workspace, id("Audit log", entry, ActivityId)?))?;
    Ok(AuditLog { tenant: found.tenant, row: found.row })
}

/// An entry of the audit log.
#[derive(Clone)]
pub(crate) struct AuditLog {
    tenant: Tenant,
    row: Activity,
}

impl AuditLog {
    pub(crate) fn cursor(&self) -> String {
        self.row.id.to_string()
    }

    fn instance(&self, ctx: &Ctx) -> Result<Option<Arc<Instance>>, Fault> {
        let Some(id) = self.row.instance_id else { return Ok(None) };
        Ok(ctx.loader.instances_called(ctx, self.tenant, id)?.first().map(Arc::clone))
    }

    fn environment_there(&self, ctx: &Ctx) -> Result<Option<Environment>, Fault> {
        let id = self.instance(ctx)?.map(|instance| instance.environment_id).or_else(|| self.row.environment());
        let Some(id) = id else { return Ok(None) };
        let found = ctx.loader.environments_called(ctx, self.tenant, id)?;
        Ok(found.first().map(|row| Environment { tenant: self.tenant, row: Arc::clone(row) }))
    }

    fn service_there(&self, ctx: &Ctx) -> Result<Option<Service>, Fault> {
        let id = self.instance(ctx)?.map(|instance| instance.service_id).or_else(|| self.row.service());
        let Some(id) = id else { return Ok(None) };
        let found = ctx.loader.services_called(ctx, self.tenant, id)?;
        Ok(found.first().map(|row| Service { tenant: self.tenant, row: Arc::clone(row) }))
    }
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl AuditLog {
    /// Who did it and from where.
    fn context(&self) -> Option<JSON> {
        let actor = match &self.row.actor {
            Actor::User { id, name, email, run: None } => json!({"kind": "user", "id": id.to_string(), "name": name, "email": email}),
            Actor::User { id, name, email, run: Some(run) } => {
                json!({"kind": "user", "id": id.to_string(), "name": name, "email": email, "run": run.to_string()})
            }
            Actor::Key { id, label } => json!({"kind": "key", "id": id.to_string(), "name": label}),
            Actor::System { part } => json!({"kind": "system", "name": part}),
        };
        Some(json!({"actor": actor, "address": self.row.address}).into())
    }
    fn created_at(&self) -> DateTime {
        DateTime(self.row.created_at)
    }
    /// Where it happened; null where it concerns no environment, or one that is gone.
    fn environment(&self, ctx: &Ctx) -> Result<Option<Environment>, Fault> {
        self.environment_there(ctx)
    }
    fn environment_id(&self, ctx: &Ctx) -> Result<Option<String>, Fault> {
        Ok(self.environment_there(ctx)?.map(|found| found.row.id.to_string()))
    }
    /// The operation, by the name of its verb.
    fn event_type(&self) -> &str {
        &self.row.verb
    }
    fn id(&self) -> ID {
        ID::from(self.row.id.to_string())
    }
    /// What was changed: before and after.
    fn payload(&self) -> Option<JSON> {
        let mut payload = self.row.data.clone();
        if let Json::Object(fields) = &mut payload {
            fields.insert("subject".into(), json!(self.row.subject));
        }
        Some(payload.into())
    }
    fn project_id(&self) -> Option<String> {
        self.row.project_id.map(|id| id.to_string())
    }
    /// What it happened to; null where it concerns no service, or one that is gone.
    fn service(&self, ctx: &Ctx) -> Result<Option<Service>, Fault> {
        self.service_there(ctx)
    }
    fn service_id(&self, ctx: &Ctx) -> Result<Option<String>, Fault> {
        Ok(self.service_there(ctx)?.map(|found| found.row.id.to_string()))
    }
    fn workspace_id(&self) -> Option<String> {
        Some(self.tenant.workspace().to_string())
    }
}

connection! {
    /// Entries of the audit log.
    QueryAuditLogsConnection, QueryAuditLogsConnectionEdge, AuditLog;
}
