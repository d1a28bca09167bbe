//! What can be asked.

use domain::galaxy::ActivityKind;
use juniper::graphql_object;

use super::account::User;
use super::app::{App, ContainerType};
use super::notification::ActivityType;
use super::rate_limit::RateLimit;
use super::trigger::TriggerRun;
use crate::graphql::{Ctx, Fault, Scalar};

/// Runs of a trigger in one answer.
const MAX_RUNS: i32 = 1_000;

/// The root of queries.
pub struct Query;

#[graphql_object(context = Ctx, scalar = Scalar)]
impl Query {
    /// The types of activities that can be told.
    fn activity_types() -> Vec<ActivityType> {
        ActivityKind::all().into_iter().map(ActivityType).collect()
    }
    /// An app by one of its hostnames.
    fn app(ctx: &Ctx, hostname: String) -> Result<Option<App>, Fault> {
        Ok(Some(App::new(ctx, ctx.wait(ops::app::app_by_host(&ctx.op, &hostname))?)))
    }
    /// The sizes that containers can have.
    fn container_types(ctx: &Ctx) -> Vec<ContainerType> {
        // Whoever gets here has a Professional account: this surface takes no other.
        ctx.op.ops.settings.apps.container_types.iter().map(|one| ContainerType::of(one, true)).collect()
    }
    /// How the credential stands with what its operations may cost in a minute; null when nothing limits it.
    fn rate_limit(ctx: &Ctx) -> Option<RateLimit> {
        RateLimit::of(ctx)
    }
    /// The runs of a trigger, newest first; kept for seven days.
    fn trigger_runs(ctx: &Ctx, trigger_id: String, limit: Option<i32>) -> Result<Vec<TriggerRun>, Fault> {
        let limit = limit.unwrap_or(100);
        let wanted = u32::try_from(limit).ok().filter(|_| limit <= MAX_RUNS);
        let wanted = wanted.ok_or_else(|| Fault::bad_input(format!("limit is {limit}: it may be 0 to {MAX_RUNS}")))?;
        let runs = ctx.wait(ops::app::trigger_runs(&ctx.op, &trigger_id, wanted))?;
        Ok(runs.into_iter().map(TriggerRun).collect())
    }
    /// An account, a person's or a team's, by its username.
    fn user(ctx: &Ctx, username: String) -> Result<Option<User>, Fault> {
        Ok(Some(User::new(ctx.wait(ops::app::account_get(&ctx.op, &username))?)))
    }
}
