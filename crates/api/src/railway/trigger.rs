//! Triggers of a service: rules that add, remove or kill its containers (`contracts/galaxy.md` 3.6), in the manner of this API.

use domain::trigger::{Action, Comparator, Metric, Operator, Rule};
use domain::{EnvironmentId, ServiceId};
use juniper::{GraphQLInputObject, ID, graphql_object};

use super::enums::{TriggerAction, TriggerComparator, TriggerMetric, TriggerOperator};
use super::inputs::id;
use crate::graphql::scalar::DateTime;
use crate::graphql::{Ctx, Fault, Scalar};

/// Runs of a trigger that can be asked for at once.
const MAX_RUNS: u32 = 200;

fn int(value: u32) -> i32 {
    i32::try_from(value).unwrap_or(i32::MAX)
}

/// A trigger of a service.
pub(crate) struct Trigger(domain::trigger::Trigger);

#[graphql_object(context = Ctx, scalar = Scalar)]
impl Trigger {
    fn action(&self) -> TriggerAction {
        match self.0.spec.action {
            Action::Add => TriggerAction::Add,
            Action::Remove => TriggerAction::Remove,
            Action::Kill => TriggerAction::Kill,
        }
    }
    fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }
    /// Days on which it runs, Sunday is 0; none means every day.
    fn days_of_week(&self) -> Vec<i32> {
        self.0.spec.days_of_week.iter().copied().map(i32::from).collect()
    }
    fn enabled(&self) -> bool {
        self.0.enabled
    }
    /// The last hour of a day at which it runs, 0 to 23.
    fn end_hour(&self) -> i32 {
        i32::from(self.0.spec.end_hour)
    }
    fn id(&self) -> ID {
        ID::from(self.0.id.to_string())
    }
    /// Containers at the most.
    fn max(&self) -> i32 {
        int(self.0.spec.max)
    }
    /// Containers at the least.
    fn min(&self) -> i32 {
        int(self.0.spec.min)
    }
    fn name(&self) -> &str {
        &self.0.spec.name
    }
    fn operator(&self) -> TriggerOperator {
        match self.0.spec.operator {
            Operator::And => TriggerOperator::And,
            Operator::Or => TriggerOperator::Or,
        }
    }
    fn rules(&self) -> Vec<TriggerRule> {
        self.0.spec.rules.iter().copied().map(TriggerRule).collect()
    }
    /// Runs so far.
    fn run_count(&self) -> i32 {
        int(self.0.runs)
    }
    /// Seconds between runs.
    fn run_every_seconds(&self) -> i32 {
        int(self.0.spec.run_every)
    }
    /// How many of the newest samples must match.
    fn sample_quantity(&self) -> i32 {
        int(self.0.spec.samples)
    }
    /// Which samples: `5s`, `3m` or `1h`.
    fn series_name(&self) -> &str {
        &self.0.spec.series
    }
    /// The first hour of a day at which it runs, 0 to 23.
    fn start_hour(&self) -> i32 {
        i32::from(self.0.spec.start_hour)
    }
    /// Containers more or fewer by one run.
    fn step(&self) -> i32 {
        int(self.0.spec.step)
    }
    /// Hours that its clock is ahead of UTC.
    fn utc_offset(&self) -> i32 {
        i32::from(self.0.spec.utc_offset)
    }
}

/// One comparison.
pub(crate) struct TriggerRule(Rule);

#[graphql_object(context = Ctx, scalar = Scalar)]
impl TriggerRule {
    fn comparator(&self) -> TriggerComparator {
        match self.0.comparator {
            Comparator::Above => TriggerComparator::Above,
            Comparator::Below => TriggerComparator::Below,
        }
    }
    fn metric(&self) -> TriggerMetric {
        match self.0.metric {
            Metric::Cpu => TriggerMetric::Cpu,
            Metric::Memory => TriggerMetric::Memory,
            Metric::Connections => TriggerMetric::Connections,
        }
    }
    /// Percent of the limit, or connections.
    fn value(&self) -> f64 {
        self.0.value
    }
}

/// One run of a trigger, and why it did what it did.
pub(crate) struct TriggerRun(domain::trigger::TriggerRun);

#[graphql_object(context = Ctx, scalar = Scalar)]
impl TriggerRun {
    fn created_at(&self) -> DateTime {
        DateTime(self.0.at)
    }
    /// Why, line by line.
    fn log(&self) -> &[String] {
        &self.0.log
    }
    /// Counted from 1.
    fn number(&self) -> i32 {
        int(self.0.number)
    }
    /// `executed`, `not executed` or `failed`.
    fn outcome(&self) -> &str {
        &self.0.outcome
    }
}

/// A trigger; without `id`, a new one. What is absent of one that exists stays as it is.
#[derive(Clone, Debug, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct TriggerInput {
    action: TriggerAction,
    /// Sunday is 0; every day when absent.
    days_of_week: Option<Vec<i32>>,
    /// An existing trigger stays as it is when absent; a new one runs.
    enabled: Option<bool>,
    /// 23 when absent.
    end_hour: Option<i32>,
    environment_id: String,
    id: Option<String>,
    /// As many as a service may have when absent.
    max: Option<i32>,
    /// 1 when absent.
    min: Option<i32>,
    name: String,
    /// `AND` when absent.
    operator: Option<TriggerOperator>,
    rules: Vec<TriggerRuleInput>,
    /// At least 60, which it is when absent.
    run_every_seconds: Option<i32>,
    /// 3 when absent.
    sample_quantity: Option<i32>,
    /// `5s` when absent, `3m` or `1h`.
    series_name: Option<String>,
    service_id: String,
    /// 0 when absent.
    start_hour: Option<i32>,
    /// 1 when absent.
    step: Option<i32>,
    /// -12 to 14; 0 when absent.
    utc_offset: Option<i32>,
}

/// A rule of a trigger.
#[derive(Clone, Debug, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct TriggerRuleInput {
    comparator: TriggerComparator,
    metric: TriggerMetric,
    /// Percent of the limit, or connections.
    value: f64,
}

impl TriggerRuleInput {
    fn words(self) -> (String, String, f64) {
        let metric = match self.metric {
            TriggerMetric::Cpu => Metric::Cpu,
            TriggerMetric::Memory => Metric::Memory,
            TriggerMetric::Connections => Metric::Connections,
        };
        let comparator = match self.comparator {
            TriggerComparator::Above => Comparator::Above,
            TriggerComparator::Below => Comparator::Below,
        };
        (metric.as_str().to_owned(), comparator.as_str().to_owned(), self.value)
    }
}

pub(crate) fn triggers(ctx: &Ctx, environment: &str, service: &str) -> Result<Vec<Trigger>, Fault> {
    let (environment, service) = (id("Environment", environment, EnvironmentId)?, id("Service", service, ServiceId)?);
    Ok(ctx.wait(ops::app::service_triggers(&ctx.op, environment, service))?.into_iter().map(Trigger).collect())
}

pub(crate) fn trigger_runs(ctx: &Ctx, limit: Option<i32>, trigger: &str) -> Result<Vec<TriggerRun>, Fault> {
    let limit = limit.unwrap_or(50);
    let limit = u32::try_from(limit).ok().filter(|limit| (1..=MAX_RUNS).contains(limit));
    let limit = limit.ok_or_else(|| Fault::bad_input(format!("limit may be 1 to {MAX_RUNS}")))?;
    let runs = ctx.wait(ops::app::trigger_runs(&ctx.op, trigger, limit))?;
    ctx.charge(runs.len())?;
    Ok(runs.into_iter().map(TriggerRun).collect())
}

pub(crate) fn trigger_save(ctx: &Ctx, input: TriggerInput) -> Result<Trigger, Fault> {
    let environment = id("Environment", &input.environment_id, EnvironmentId)?;
    let service = id("Service", &input.service_id, ServiceId)?;
    let action = match input.action {
        TriggerAction::Add => Action::Add,
        TriggerAction::Remove => Action::Remove,
        TriggerAction::Kill => Action::Kill,
    };
    let operator = input.operator.map(|operator| match operator {
        TriggerOperator::And => "AND".to_owned(),
        TriggerOperator::Or => "OR".to_owned(),
    });
    let wanted = ops::app::TriggerInput {
        id: input.id,
        app_id: String::new(),
        name: input.name,
        enabled: input.enabled,
        action: action.as_str().to_owned(),
        min: input.min,
        max: input.max,
        step: input.step,
        operator,
        rules: input.rules.into_iter().map(TriggerRuleInput::words).collect(),
        days_of_week: input.days_of_week,
        utc_offset: input.utc_offset,
        start_hour: input.start_hour,
        end_hour: input.end_hour,
        series: input.series_name,
        samples: input.sample_quantity,
        run_every: input.run_every_seconds,
    };
    Ok(Trigger(ctx.wait(ops::app::service_trigger_save(&ctx.op, environment, service, wanted))?.row))
}

pub(crate) fn trigger_remove(ctx: &Ctx, trigger: &str) -> Result<bool, Fault> {
    ctx.wait(ops::app::trigger_remove(&ctx.op, trigger))?;
    Ok(true)
}
