//! Triggers.

use domain::project::Instance;
use domain::spec::MAX_REPLICAS;
use domain::trigger::{Action, Comparator, Metric, Operator, Rule, Trigger, TriggerRun, TriggerSpec};
use domain::{EnvironmentId, InstanceId, Permission, ServiceId, TriggerId};
use serde_json::json;
use store::Change;

use super::app_for;
use crate::context::Opened;
use crate::service::{instance_for, instance_place};
use crate::{Error, OpCtx};

/// A trigger as a client writes it. What is absent stays as it is, and has its default in a new one.
#[derive(Clone, Debug, Default)]
pub struct TriggerInput {
    /// Which; a new one when absent.
    pub id: Option<String>,
    /// The app.
    pub app_id: String,
    /// What people call it.
    pub name: String,
    /// It runs; absent, an existing one stays as it is.
    pub enabled: Option<bool>,
    /// `add containers`, `remove containers` or `kill containers`.
    pub action: String,
    /// Containers at the least.
    pub min: Option<i32>,
    /// Containers at the most.
    pub max: Option<i32>,
    /// Containers more or fewer by one run.
    pub step: Option<i32>,
    /// `AND` or `OR`.
    pub operator: Option<String>,
    /// Metric, comparator, value.
    pub rules: Vec<(String, String, f64)>,
    /// Days on which it runs.
    pub days_of_week: Option<Vec<i32>>,
    /// Hours ahead of UTC.
    pub utc_offset: Option<i32>,
    /// The first hour.
    pub start_hour: Option<i32>,
    /// The last hour.
    pub end_hour: Option<i32>,
    /// Which samples.
    pub series: Option<String>,
    /// How many.
    pub samples: Option<i32>,
    /// Seconds between runs.
    pub run_every: Option<i32>,
}

/// Triggers of one app.
const MAX_TRIGGERS: usize = 20;

fn number<T: TryFrom<i32>>(field: &str, value: Option<i32>, default: T) -> Result<T, Error> {
    match value {
        None => Ok(default),
        Some(value) => T::try_from(value).map_err(|_| Error::bad_input(format!("{field} is {value}, which is out of range"))),
    }
}

fn word<T>(field: &str, text: &str, parse: fn(&str) -> Option<T>, known: &str) -> Result<T, Error> {
    let shown: String = text.chars().take(60).collect();
    parse(text.trim()).ok_or_else(|| Error::bad_input(format!("{field} is {shown:?}: it may be {known}")))
}

/// What a new trigger has where its input says nothing.
fn usual(shortest: u32) -> TriggerSpec {
    TriggerSpec {
        name: String::new(),
        action: Action::Add,
        min: 1,
        max: MAX_REPLICAS,
        step: 1,
        operator: Operator::And,
        rules: vec![],
        days_of_week: vec![],
        utc_offset: 0,
        start_hour: 0,
        end_hour: 23,
        series: "5s".into(),
        samples: 3,
        run_every: shortest.max(60),
    }
}

/// The input over what there `was`.
fn spec(input: &TriggerInput, was: TriggerSpec, shortest: u32) -> Result<TriggerSpec, Error> {
    let operator = match input.operator.as_deref().map(str::to_ascii_uppercase).as_deref() {
        None => was.operator,
        Some("AND") => Operator::And,
        Some("OR") => Operator::Or,
        Some(other) => return Err(Error::bad_input(format!("operator is {other:?}: it may be AND or OR"))),
    };
    let rule = |(metric, comparator, value): &(String, String, f64)| {
        Ok(Rule {
            metric: word("metric", metric, Metric::parse, "cpu, memory or connections")?,
            comparator: word("comparator", comparator, Comparator::parse, "above or below")?,
            value: *value,
        })
    };
    let day = |day: &i32| number::<u8>("daysOfWeek", Some(*day), 0);
    let days_of_week = input.days_of_week.as_ref().map(|days| days.iter().map(day).collect::<Result<Vec<u8>, Error>>()).transpose()?;
    let spec = TriggerSpec {
        name: input.name.clone(),
        action: word("action", &input.action, Action::parse, "add containers, remove containers or kill containers")?,
        min: number("min", input.min, was.min)?,
        max: number("max", input.max, was.max)?,
        step: number("step", input.step, was.step)?,
        operator,
        rules: input.rules.iter().map(rule).collect::<Result<_, Error>>()?,
        days_of_week: days_of_week.unwrap_or(was.days_of_week),
        utc_offset: number("utcOffset", input.utc_offset, was.utc_offset)?,
        start_hour: number("startHour", input.start_hour, was.start_hour)?,
        end_hour: number("endHour", input.end_hour, was.end_hour)?,
        series: input.series.clone().unwrap_or(was.series),
        samples: number("sampleQuantity", input.samples, was.samples)?,
        run_every: number("runEverySeconds", input.run_every, was.run_every)?,
    };
    spec.check(shortest).map_err(|error| Error::bad_input(error.0))?;
    if spec.max > MAX_REPLICAS {
        return Err(Error::bad_input(format!("max is {}: an app has at most {} containers", spec.max, MAX_REPLICAS)));
    }
    Ok(spec)
}

/// Makes a trigger, or changes one. It runs in the next round.
///
/// # Errors
/// Nonsense, too many, not found, or not allowed.
pub async fn trigger_save(ctx: &OpCtx, input: TriggerInput) -> Result<Opened<Trigger>, Error> {
    let app = app_for(ctx, &input.app_id, Permission::Write).await?;
    save(ctx, &app.with(app.row.instance.clone()), &input).await
}

/// The same for a service in an environment, with or without a domain; the input's app is not looked at.
///
/// # Errors
/// As [`trigger_save`].
pub async fn service_trigger_save(
    ctx: &OpCtx,
    environment: EnvironmentId,
    service: ServiceId,
    input: TriggerInput,
) -> Result<Opened<Trigger>, Error> {
    save(ctx, &instance_for(ctx, environment, service, Permission::Write).await?, &input).await
}

/// The triggers of a service in an environment, oldest first.
///
/// # Errors
/// Not found or not allowed.
pub async fn service_triggers(ctx: &OpCtx, environment: EnvironmentId, service: ServiceId) -> Result<Vec<Trigger>, Error> {
    let opened = instance_for(ctx, environment, service, Permission::Read).await?;
    Ok(ctx.ops.store.triggers_of_instances(opened.tenant, &[opened.row.id]).await?)
}

async fn save(ctx: &OpCtx, opened: &Opened<Instance>, input: &TriggerInput) -> Result<Opened<Trigger>, Error> {
    let shortest = ctx.ops.settings.apps.trigger_seconds;
    let present = ctx.ops.store.triggers_of_instances(opened.tenant, &[opened.row.id]).await?;
    let (trigger, change) = match &input.id {
        Some(text) => {
            let found = text.parse::<TriggerId>().ok().and_then(|id| present.into_iter().find(|trigger| trigger.id == id));
            let found = found.ok_or_else(|| Error::not_found("Trigger"))?;
            let enabled = input.enabled.unwrap_or(found.enabled);
            let spec = spec(input, found.spec.clone(), shortest)?;
            let trigger = Trigger { spec, enabled, next_at: ctx.now, updated_at: ctx.now, ..found };
            (trigger.clone(), Change::TriggerUpdate(trigger))
        }
        None if present.len() >= MAX_TRIGGERS => {
            return Err(Error::conflict(format!("This app has {MAX_TRIGGERS} triggers, which is the most: remove one first")));
        }
        None => {
            let trigger = Trigger {
                id: TriggerId::generate(),
                workspace_id: opened.tenant.workspace(),
                instance_id: opened.row.id,
                enabled: input.enabled.unwrap_or(true),
                spec: spec(input, usual(shortest), shortest)?,
                runs: 0,
                next_at: ctx.now,
                created_at: ctx.now,
                updated_at: ctx.now,
            };
            (trigger.clone(), Change::TriggerInsert(trigger))
        }
    };
    let data = json!({"name": trigger.spec.name, "action": trigger.spec.action.as_str(), "enabled": trigger.enabled});
    let activity = ctx.activity_of(opened.tenant, &opened.row, "trigger_save", trigger.id, data);
    ctx.commit(opened.tenant, vec![change, activity]).await?;
    ctx.ops.signals.ring();
    Ok(opened.with(trigger))
}

async fn trigger_for(ctx: &OpCtx, id: &str, permission: Permission) -> Result<(Opened<Trigger>, Instance), Error> {
    let absent = || Error::not_found("Trigger");
    let id: Option<TriggerId> = id.trim().parse().ok();
    let found = match id {
        Some(id) => ctx.ops.store.instance_of_trigger(id).await?,
        None => None,
    };
    // Where it is says its app: whoever may change that may change the trigger.
    let instance = ctx.open(found, "Trigger", instance_place, permission)?;
    let trigger = match id {
        Some(id) => ctx.ops.store.trigger(id).await?.and_then(|sealed| sealed.open(instance.tenant)),
        None => None,
    };
    Ok((instance.with(trigger.ok_or_else(absent)?), instance.row))
}

/// Removes a trigger with the log of its runs.
///
/// # Errors
/// Not found or not allowed.
pub async fn trigger_remove(ctx: &OpCtx, id: &str) -> Result<(), Error> {
    let (trigger, instance) = trigger_for(ctx, id, Permission::Write).await?;
    let data = json!({"name": trigger.row.spec.name});
    let activity = ctx.activity_of(trigger.tenant, &instance, "trigger_remove", trigger.row.id, data);
    ctx.commit(trigger.tenant, vec![Change::TriggerDelete(trigger.row.id), activity]).await
}

/// The runs of a trigger, newest first.
///
/// # Errors
/// Not found or not allowed.
pub async fn trigger_runs(ctx: &OpCtx, id: &str, limit: u32) -> Result<Vec<TriggerRun>, Error> {
    let (trigger, _) = trigger_for(ctx, id, Permission::Read).await?;
    Ok(ctx.ops.store.trigger_runs(trigger.tenant, trigger.row.id, limit).await?)
}

/// Writes down that a trigger wanted more containers than the account may have.
///
/// # Errors
/// Not found or not allowed.
pub async fn trigger_over_limit(ctx: &OpCtx, instance: InstanceId, trigger: TriggerId, name: &str, to: u32) -> Result<(), Error> {
    let app = ctx.open(ctx.ops.store.instance(instance).await?, "App", instance_place, Permission::Write)?;
    let activity = ctx.activity_of(app.tenant, &app.row, "trigger_over_limit", trigger, json!({"trigger": name, "to": to}));
    ctx.commit(app.tenant, vec![activity]).await
}
