//! Triggers and the log of their runs (`contracts/galaxy.md` 3.6).

use std::sync::Arc;

use domain::trigger::{Operator, Rule};
use juniper::graphql_object;

use super::int;
use crate::graphql::scalar::DateTime;
use crate::graphql::{Ctx, Scalar};

/// A trigger of an app.
pub(crate) struct Trigger(pub(crate) Arc<domain::trigger::Trigger>);

/// Adds, removes or kills containers when its rules match.
#[graphql_object(context = Ctx, scalar = Scalar)]
impl Trigger {
    #[graphql(name = "_id")]
    fn id(&self) -> String {
        self.0.id.to_string()
    }
    fn name(&self) -> &str {
        &self.0.spec.name
    }
    fn enabled(&self) -> bool {
        self.0.enabled
    }
    /// `add containers`, `remove containers` or `kill containers`.
    fn action(&self) -> &str {
        self.0.spec.action.as_str()
    }
    /// Containers at the least.
    fn min(&self) -> i32 {
        int(self.0.spec.min)
    }
    /// Containers at the most.
    fn max(&self) -> i32 {
        int(self.0.spec.max)
    }
    /// Containers more or fewer by one run.
    fn step(&self) -> i32 {
        int(self.0.spec.step)
    }
    /// `AND` or `OR`.
    fn operator(&self) -> &str {
        match self.0.spec.operator {
            Operator::And => "AND",
            Operator::Or => "OR",
        }
    }
    fn rules(&self) -> Vec<TriggerRule> {
        self.0.spec.rules.iter().copied().map(TriggerRule).collect()
    }
    /// Days on which it runs, Sunday is 0; none means every day.
    fn days_of_week(&self) -> Vec<i32> {
        self.0.spec.days_of_week.iter().copied().map(i32::from).collect()
    }
    /// Hours that its clock is ahead of UTC.
    fn utc_offset(&self) -> i32 {
        i32::from(self.0.spec.utc_offset)
    }
    /// The first hour of a day at which it runs.
    fn start_hour(&self) -> i32 {
        i32::from(self.0.spec.start_hour)
    }
    /// The last hour of a day at which it runs.
    fn end_hour(&self) -> i32 {
        i32::from(self.0.spec.end_hour)
    }
    /// Which samples: `5s`, `3m` or `1h`.
    fn series_name(&self) -> &str {
        &self.0.spec.series
    }
    /// How many of the newest samples must match.
    fn sample_quantity(&self) -> i32 {
        int(self.0.spec.samples)
    }
    /// Seconds between runs.
    fn run_every_seconds(&self) -> i32 {
        int(self.0.spec.run_every)
    }
    /// Runs so far.
    fn run_count(&self) -> i32 {
        int(self.0.runs)
    }
}

/// One comparison.
pub(crate) struct TriggerRule(Rule);

/// A rule of a trigger.
#[graphql_object(context = Ctx, scalar = Scalar)]
impl TriggerRule {
    /// `cpu` or `memory`, in percent of the cap, or `connections`.
    fn metric(&self) -> &str {
        self.0.metric.as_str()
    }
    /// `above` or `below`.
    fn comparator(&self) -> &str {
        self.0.comparator.as_str()
    }
    fn value(&self) -> f64 {
        self.0.value
    }
}

/// A run of a trigger.
pub(crate) struct TriggerRun(pub(crate) domain::trigger::TriggerRun);

/// One run of a trigger, and why it did what it did.
#[graphql_object(context = Ctx, scalar = Scalar)]
impl TriggerRun {
    /// Counted from 1 for each trigger.
    fn number(&self) -> i32 {
        int(self.0.number)
    }
    fn created_at(&self) -> String {
        DateTime(self.0.at).text()
    }
    /// `executed`, `not executed` or `failed`.
    fn outcome(&self) -> &str {
        &self.0.outcome
    }
    /// Why, line by line.
    fn log(&self) -> &[String] {
        &self.0.log
    }
}
