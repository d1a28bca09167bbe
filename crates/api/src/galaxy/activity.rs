//! Versions, and what happened (`contracts/galaxy.md` 3.9, 3.14).

use std::sync::Arc;

use domain::deployment::Deployment;
use domain::galaxy::{ActivityKind, version_id, version_status};
use domain::{InstanceId, SnapshotId, Tenant};
use juniper::graphql_object;
use ops::app::RESTORABLE;
use ops::deployment::is_kept;

use super::int;
use crate::graphql::scalar::DateTime;
use crate::graphql::{Ctx, Fault, Scalar};

/// Source that was deployed.
pub(crate) struct Version {
    pub(crate) tenant: Tenant,
    pub(crate) row: Arc<(u32, Deployment)>,
    /// From the newest, 0.
    pub(crate) place: usize,
    /// It is what runs.
    pub(crate) active: bool,
}

/// A version of an app: one upload of its source.
#[graphql_object(context = Ctx, scalar = Scalar)]
impl Version {
    #[graphql(name = "_id")]
    fn id(&self) -> String {
        version_id(self.row.1.snapshot_id)
    }
    /// Counted from 1 for each app; equals `GALAXY_APP_VERSION_ID`.
    fn version(&self) -> i32 {
        int(self.row.0)
    }
    /// Who deployed it.
    fn user_name(&self, ctx: &Ctx) -> Result<String, Fault> {
        ctx.galaxy.user_name(ctx, self.tenant, &self.row.1.creator)
    }
    fn created_at(&self) -> String {
        DateTime(self.row.1.created_at).text()
    }
    /// `missing`, `building`, `failed-temporarily` (it is tried again), `failed-permanently` or `success`.
    fn build_status(&self) -> &str {
        version_status(&self.row.1).0.as_str()
    }
    /// `deploying`, `success`, `failed` or `aborted`; null before.
    fn deploy_status(&self) -> Option<&str> {
        version_status(&self.row.1).1.map(domain::galaxy::RolloutStatus::as_str)
    }
    /// What was said about it.
    fn message(&self) -> Option<&str> {
        self.row.1.message.as_deref()
    }
    /// It is the version that runs.
    fn active(&self) -> bool {
        self.active
    }
    /// It can be restored at once, without a build.
    fn restorable(&self, ctx: &Ctx) -> bool {
        self.place < RESTORABLE && is_kept(&ctx.op.ops, &self.row.1)
    }
}

/// Something that happened to an app.
pub(crate) struct Activity {
    pub(crate) tenant: Tenant,
    pub(crate) app: InstanceId,
    pub(crate) host: Arc<str>,
    pub(crate) kind: ActivityKind,
    pub(crate) row: Arc<domain::activity::Activity>,
}

impl Activity {
    /// The source that it was about.
    fn snapshot(&self) -> Option<SnapshotId> {
        self.row.data.get("snapshot")?.as_str()?.parse().ok()
    }
}

/// Something that happened.
#[graphql_object(context = Ctx, scalar = Scalar)]
impl Activity {
    #[graphql(name = "_id")]
    fn id(&self) -> String {
        self.row.id.to_string()
    }
    /// `appDeploy`, `appStop`, `containerStop`, …
    #[graphql(name = "type")]
    fn wire(&self) -> &str {
        self.kind.wire
    }
    /// The version that it was about, when that is among the app's versions.
    fn version_id(&self, ctx: &Ctx) -> Result<Option<String>, Fault> {
        let Some(snapshot) = self.snapshot() else { return Ok(None) };
        Ok(ctx.galaxy.version_number(ctx, self.tenant, self.app, snapshot)?.map(|_| version_id(snapshot)))
    }
    /// A member's username; empty for Galaxy itself, null for the stop of a cold start, `A new connection` for its start.
    fn user_name(&self, ctx: &Ctx) -> Result<Option<String>, Fault> {
        let name = ctx.galaxy.user_name(ctx, self.tenant, &self.row.actor)?;
        Ok(self.kind.user_name(&self.row, &name).map(str::to_owned))
    }
    fn created_at(&self) -> String {
        DateTime(self.row.created_at).text()
    }
    /// As a sentence.
    fn message(&self, ctx: &Ctx) -> Result<String, Fault> {
        let who = ctx.galaxy.user_name(ctx, self.tenant, &self.row.actor)?;
        let version = match self.snapshot() {
            Some(snapshot) => ctx.galaxy.version_number(ctx, self.tenant, self.app, snapshot)?,
            None => None,
        };
        let host = match (self.kind.wire, version) {
            ("appRestore", Some(number)) => format!("{} to v{number}", self.host),
            ("appDeploy" | "appBuildSuccess" | "appDeploySuccess", Some(number)) => format!("{} v{number}", self.host),
            _ => self.host.to_string(),
        };
        Ok(self.kind.sentence(&self.row, &who, &host))
    }
}
