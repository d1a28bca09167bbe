//! Changes of an environment's document, staged and applied (`contracts/railway.md` 3.9).

use std::sync::Arc;

use domain::activity::Actor;
use domain::{EnvironmentId, EnvironmentPatchId, Tenant};
use juniper::{GraphQLObject, ID, graphql_object};
use ops::Opened;
use ops::environment_patch::{self as verbs, Commit};

use super::connection::{connection, page, sized};
use super::enums::EnvironmentPatchStatus;
use super::environment::Environment;
use super::inputs::id;
use crate::graphql::scalar::{DateTime, EnvironmentConfig};
use crate::graphql::{Ctx, Fault, Scalar};

/// A change that the principal may read.
#[derive(Clone)]
pub(crate) struct EnvironmentPatch {
    tenant: Tenant,
    row: Arc<domain::project::EnvironmentPatch>,
}

impl EnvironmentPatch {
    fn new(ctx: &Ctx, opened: Opened<domain::project::EnvironmentPatch>) -> Self {
        ctx.loader.announce_places(opened.tenant, opened.row.project_id, opened.row.environment_id);
        Self { tenant: opened.tenant, row: Arc::new(opened.row) }
    }

    pub(crate) fn cursor(&self) -> String {
        self.row.id.to_string()
    }

    pub(crate) fn find(ctx: &Ctx, text: &str) -> Result<Self, Fault> {
        let patch = id("EnvironmentPatch", text, EnvironmentPatchId)?;
        Ok(Self::new(ctx, ctx.wait(verbs::environment_patch_get(&ctx.op, patch))?))
    }

    pub(crate) fn staged(ctx: &Ctx, environment: &str) -> Result<Self, Fault> {
        let environment = id("Environment", environment, EnvironmentId)?;
        Ok(Self::new(ctx, ctx.wait(verbs::environment_staged_changes(&ctx.op, environment))?))
    }

    pub(crate) fn stage(ctx: &Ctx, environment: &str, input: &EnvironmentConfig, merge: bool) -> Result<Self, Fault> {
        let environment = id("Environment", environment, EnvironmentId)?;
        ctx.wait(verbs::environment_stage_changes(&ctx.op, environment, (*input.0).clone(), merge))?;
        Ok(Self::new(ctx, ctx.wait(verbs::environment_staged_changes(&ctx.op, environment))?))
    }

    /// Applies a patch; the id of a workflow, which is complete when this answers.
    pub(crate) fn commit(
        ctx: &Ctx,
        environment: &str,
        patch: Option<&EnvironmentConfig>,
        message: Option<String>,
    ) -> Result<String, Fault> {
        let environment = id("Environment", environment, EnvironmentId)?;
        let patch = patch.ok_or_else(|| Fault::bad_input("there is no patch to commit: send one, or commit what is staged"))?;
        let how = Commit { message, skip_deploys: false };
        Ok(workflow(&ctx.wait(verbs::environment_patch_commit(&ctx.op, environment, (*patch.0).clone(), how))?))
    }

    pub(crate) fn commit_staged(ctx: &Ctx, environment: &str, message: Option<String>, skip_deploys: bool) -> Result<String, Fault> {
        let environment = id("Environment", environment, EnvironmentId)?;
        let how = Commit { message, skip_deploys };
        Ok(workflow(&ctx.wait(verbs::environment_patch_commit_staged(&ctx.op, environment, how))?))
    }

    pub(crate) fn list(
        ctx: &Ctx,
        environment: &str,
        (after, before, first, last): (Option<String>, Option<String>, Option<i32>, Option<i32>),
    ) -> Result<QueryEnvironmentPatchesConnection, Fault> {
        let environment = id("Environment", environment, EnvironmentId)?;
        let request = sized(page(after, before, first, last)?);
        let Opened { tenant, row: found } = ctx.wait(verbs::environment_patches(&ctx.op, environment, &request))?;
        ctx.charge(found.items.len())?;
        let items = found.items.into_iter().map(|row| Self::new(ctx, Opened { tenant, row })).collect();
        Ok(domain::page::Page { items, has_next: found.has_next, has_previous: found.has_previous }.into())
    }
}

/// Patches are applied before the answer; their workflow's name tells which it was.
fn workflow(patch: &domain::project::EnvironmentPatch) -> String {
    format!("commitEnvironmentPatch/project/{}/{}", patch.project_id, patch.id)
}

connection! {
    /// Changes of an environment.
    QueryEnvironmentPatchesConnection, QueryEnvironmentPatchesConnectionEdge, EnvironmentPatch;
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl EnvironmentPatch {
    fn applied_at(&self) -> Option<DateTime> {
        self.row.applied_at.map(DateTime)
    }
    fn applied_by(&self) -> Option<AppliedByMember> {
        self.row.applied_at.and_then(|_| AppliedByMember::of(&self.row.author))
    }
    fn created_at(&self) -> DateTime {
        DateTime(self.row.created_at)
    }
    fn environment(&self, ctx: &Ctx) -> Result<Environment, Fault> {
        Environment::of(ctx, self.tenant, self.row.environment_id)
    }
    fn environment_id(&self) -> String {
        self.row.environment_id.to_string()
    }
    fn id(&self) -> ID {
        ID::from(self.cursor())
    }
    /// One that cannot be applied is refused, and never stands here.
    fn last_applied_error(&self) -> Option<String> {
        None
    }
    fn message(&self) -> Option<&str> {
        self.row.message.as_deref()
    }
    fn patch(&self, ctx: &Ctx, decrypt_variables: Option<bool>) -> Result<EnvironmentConfig, Fault> {
        let opened = Opened { tenant: self.tenant, row: (*self.row).clone() };
        let decrypt = decrypt_variables.unwrap_or(false);
        Ok(ctx.wait(verbs::environment_patch_document(&ctx.op, &opened, decrypt))?.into())
    }
    fn status(&self) -> EnvironmentPatchStatus {
        self.row.status.into()
    }
    fn updated_at(&self) -> DateTime {
        DateTime(self.row.updated_at)
    }
}

/// Who applied a change.
#[derive(Clone, GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct AppliedByMember {
    avatar: Option<String>,
    email: String,
    id: String,
    name: Option<String>,
    username: Option<String>,
}

impl AppliedByMember {
    fn of(actor: &Actor) -> Option<Self> {
        let (id, email, name) = match actor {
            Actor::User { id, name, email, .. } => (id.to_string(), email.clone(), name.clone()),
            Actor::Key { id, label } => (id.to_string(), format!("{id}@keys.local"), label.clone()),
            Actor::System { .. } => return None,
        };
        Some(Self { avatar: None, email, id, name: Some(name), username: None })
    }
}
