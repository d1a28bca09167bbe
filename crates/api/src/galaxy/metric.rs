//! Measurements (`contracts/galaxy.md` 3.4).

use domain::Tenant;
use juniper::graphql_object;
use telemetry::metrics::{MAX_POINTS, Point, Resolution, Series};

use crate::graphql::{Ctx, Fault, Scalar};

/// One point of a series.
pub(crate) struct Metric {
    id: String,
    point: Point,
}

impl Metric {
    /// The newest `limit` points, newest first, exactly so many.
    pub(crate) fn list(ctx: &Ctx, tenant: Tenant, owner: &str, series: Series, name: &str, limit: i32) -> Result<Vec<Self>, Fault> {
        let Some(resolution) = Resolution::parse(name) else {
            let shown: String = name.chars().take(40).collect();
            return Err(Fault::bad_input(format!("seriesName is {shown:?}: it may be 5s, 3m, 1h or 1d")));
        };
        let count = usize::try_from(limit).ok().filter(|count| (1..=MAX_POINTS).contains(count));
        let count = count.ok_or_else(|| Fault::bad_input(format!("limit is {limit}: it may be 1 to {MAX_POINTS}")))?;
        let points = ctx.galaxy.points(ctx, tenant, series, resolution, count)?;
        let metric = |point: &Point| Self { id: format!("{owner}-{name}-{}", point.at), point: *point };
        Ok(points.iter().map(metric).collect())
    }
}

/// What a container, or a whole app, used in an interval. Averages over it.
#[graphql_object(context = Ctx, scalar = Scalar)]
impl Metric {
    #[graphql(name = "_id")]
    fn id(&self) -> &str {
        &self.id
    }
    /// When the interval began, in seconds since the epoch.
    #[expect(clippy::cast_precision_loss, reason = "seconds since the epoch are exact for millions of years")]
    fn timestamp(&self) -> f64 {
        self.point.at as f64
    }
    /// ECU, which are cores.
    fn cpu(&self) -> f64 {
        self.point.usage.cpu
    }
    /// ECU that it may use.
    fn cpu_cap(&self) -> f64 {
        self.point.usage.cpu_limit
    }
    /// Bytes.
    fn memory(&self) -> f64 {
        self.point.usage.memory
    }
    /// Bytes that it may use.
    fn memory_cap(&self) -> f64 {
        self.point.usage.memory_limit
    }
    /// Open connections of clients.
    fn connections(&self) -> f64 {
        self.point.usage.connections
    }
}
