//! Containers: the replicas of an app.

use std::sync::Arc;

use domain::deployment::{Deployment, Replica, ReplicaStatus};
use domain::galaxy::{container_id, container_status, version_id};
use domain::{InstanceId, Tenant};
use juniper::graphql_object;
use telemetry::metrics::Series;

use super::metric::Metric;
use crate::graphql::scalar::DateTime;
use crate::graphql::{Ctx, Fault, Scalar};

/// A replica of an app that the principal may read.
pub(crate) struct Container {
    pub(crate) tenant: Tenant,
    pub(crate) instance: InstanceId,
    pub(crate) row: Arc<Replica>,
    /// Its deployment, where that is at hand.
    pub(crate) of: Option<Arc<Deployment>>,
}

impl Container {
    fn wire_id(&self) -> String {
        container_id(self.instance, self.row.id)
    }
}

/// A container.
#[graphql_object(context = Ctx, scalar = Scalar)]
impl Container {
    /// `<appId>-<short>`; equals `GALAXY_CONTAINER_ID` inside of the container.
    #[graphql(name = "_id")]
    fn id(&self) -> String {
        self.wire_id()
    }
    /// `starting`, `running`, `unhealthy`, `stopping` or `stopped`.
    fn status(&self) -> &str {
        container_status(&self.row).as_str()
    }
    /// It is healthy.
    fn up(&self) -> bool {
        self.row.is_up()
    }
    fn created_at(&self) -> String {
        DateTime(self.row.created_at).text()
    }
    /// Since when it is healthy; null before.
    fn running_at(&self) -> Option<String> {
        (self.row.status == ReplicaStatus::Running).then(|| DateTime(self.row.updated_at).text())
    }
    /// It was told to end.
    fn should_stop(&self) -> bool {
        self.row.status == ReplicaStatus::Removing
    }
    /// The region.
    fn availability_zone(&self, ctx: &Ctx) -> String {
        ctx.op.ops.settings.region.clone()
    }
    /// The version that it runs.
    fn version_id(&self) -> Option<String> {
        self.of.as_ref().map(|deployment| version_id(deployment.snapshot_id))
    }
    /// The newest `limit` points of `5s`, `3m`, `1h` or `1d`, newest first.
    fn metrics(&self, ctx: &Ctx, series_name: String, limit: i32) -> Result<Vec<Metric>, Fault> {
        Metric::list(ctx, self.tenant, &self.wire_id(), Series::Replica(self.row.id), &series_name, limit)
    }
}
