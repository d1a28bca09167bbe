//! Triggers: rules that add, remove or kill an app's containers by its metrics (`contracts/galaxy.md` 3.6).
//!
//! [`evaluate`] decides; nothing here looks anything up. Minimum and maximum come before the rules, an addition never removes, a removal
//! never adds, and a rule matches when every sample does.

use jiff::Timestamp;
use jiff::tz::Offset;
use serde::{Deserialize, Serialize};

use crate::galaxy::container_id;
use crate::{InstanceId, ReplicaId, TriggerId, WorkspaceId};

mod check;
mod samples;
#[cfg(test)]
mod tests;

pub use check::BadTrigger;

/// What a trigger does when its rules match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Action {
    /// More containers, up to the maximum.
    #[serde(rename = "add containers")]
    Add,
    /// Fewer containers, down to the minimum.
    #[serde(rename = "remove containers")]
    Remove,
    /// Replaces the containers that match, each judged by itself.
    #[serde(rename = "kill containers")]
    Kill,
}

impl Action {
    /// As on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Add => "add containers",
            Self::Remove => "remove containers",
            Self::Kill => "kill containers",
        }
    }

    /// Reads a word of the wire.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Add, Self::Remove, Self::Kill].into_iter().find(|action| action.as_str() == text)
    }
}

/// How rules are joined.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Operator {
    /// All must match.
    #[default]
    And,
    /// One must match.
    Or,
}

/// What a rule measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Metric {
    /// Share of the processor limit in percent.
    #[serde(rename = "cpu")]
    Cpu,
    /// Share of the memory limit in percent.
    #[serde(rename = "memory")]
    Memory,
    /// Open connections.
    #[serde(rename = "connections")]
    Connections,
}

impl Metric {
    /// As on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Memory => "memory",
            Self::Connections => "connections",
        }
    }

    /// Reads a word of the wire, in any case and also as the form labels it.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let word: String = text.chars().filter(char::is_ascii_alphabetic).collect::<String>().to_ascii_lowercase();
        [Self::Cpu, Self::Memory, Self::Connections].into_iter().find(|metric| metric.as_str() == word)
    }

    fn label(self) -> &'static str {
        match self {
            Self::Cpu => "CPU (%)",
            Self::Memory => "Memory (%)",
            Self::Connections => "Connections",
        }
    }
}

/// On which side of its number a rule matches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Comparator {
    /// Every sample is greater.
    Above,
    /// Every sample is smaller.
    Below,
}

impl Comparator {
    /// As on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Above => "above",
            Self::Below => "below",
        }
    }

    /// Reads a word of the wire.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Above, Self::Below].into_iter().find(|comparator| comparator.as_str().eq_ignore_ascii_case(text))
    }
}

/// One comparison.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// Of what.
    pub metric: Metric,
    /// On which side.
    pub comparator: Comparator,
    /// Of which number: percent, or connections.
    pub value: f64,
}

/// What a trigger is. Persisted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TriggerSpec {
    /// What people call it.
    pub name: String,
    /// What it does.
    pub action: Action,
    /// Containers at the least.
    pub min: u32,
    /// Containers at the most.
    pub max: u32,
    /// Containers more or fewer by one run.
    pub step: u32,
    /// How the rules are joined.
    pub operator: Operator,
    /// When it acts.
    pub rules: Vec<Rule>,
    /// Days on which it runs, Sunday is 0; none means every day.
    pub days_of_week: Vec<u8>,
    /// Hours that its clock is ahead of UTC.
    pub utc_offset: i8,
    /// The first hour of a day at which it runs.
    pub start_hour: u8,
    /// The last hour of a day at which it runs; before the first one, the hours go over midnight.
    pub end_hour: u8,
    /// Which samples: `5s`, `3m` or `1h`.
    pub series: String,
    /// How many of the newest samples must match.
    pub samples: u32,
    /// Seconds between runs.
    pub run_every: u32,
}

/// A trigger of an app.
#[derive(Clone, Debug, PartialEq)]
pub struct Trigger {
    /// Identity.
    pub id: TriggerId,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// The app.
    pub instance_id: InstanceId,
    /// It runs.
    pub enabled: bool,
    /// What it is.
    pub spec: TriggerSpec,
    /// Runs so far.
    pub runs: u32,
    /// When it runs next.
    pub next_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}

/// One run of a trigger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TriggerRun {
    /// Of which trigger.
    pub trigger_id: TriggerId,
    /// Counted from 1.
    pub number: u32,
    /// When.
    pub at: Timestamp,
    /// `executed`, `not executed` or `failed`.
    pub outcome: String,
    /// What it did and why, line by line.
    pub log: Vec<String>,
}

/// What a container showed at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Seconds since 1970.
    pub at: i64,
    /// Percent of the limit.
    pub cpu: f64,
    /// Percent of the limit.
    pub memory: f64,
    /// Open connections.
    pub connections: f64,
}

/// What a run looks at.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The app.
    pub instance: InstanceId,
    /// The containers that the app shall have.
    pub wanted: u32,
    /// A version is being rolled out.
    pub deploying: bool,
    /// The app is stopped.
    pub stopped: bool,
    /// Containers that the account may have for this app.
    pub limit: u32,
    /// The samples of each running container, in any order.
    pub containers: Vec<(ReplicaId, Vec<Sample>)>,
}

/// What a run does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Nothing.
    Stay,
    /// So many containers.
    Scale {
        /// Before.
        from: u32,
        /// After.
        to: u32,
    },
    /// These containers are replaced.
    Kill(Vec<ReplicaId>),
    /// An addition that the account's limit forbids.
    OverLimit {
        /// What it would have been.
        to: u32,
    },
}

/// What a run does, and why, as its log tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// What.
    pub decision: Decision,
    /// Why.
    pub log: Vec<String>,
}

/// Decides one run.
#[must_use]
pub fn evaluate(spec: &TriggerSpec, reading: &Reading, now: Timestamp) -> Verdict {
    let stay = |why: &str| Verdict { decision: Decision::Stay, log: vec![why.to_owned()] };
    if !in_hours(spec, now) {
        return stay("not executed: outside of its days and hours");
    }
    if reading.stopped {
        return stay("not executed: the app is stopped");
    }
    if reading.deploying && spec.action != Action::Add {
        return stay("not executed: a deploy is under way");
    }
    match spec.action {
        Action::Kill => kill(spec, reading),
        Action::Add | Action::Remove => scale(spec, reading),
    }
}

fn in_hours(spec: &TriggerSpec, now: Timestamp) -> bool {
    let offset = Offset::from_hours(spec.utc_offset).unwrap_or(Offset::UTC);
    let local = offset.to_datetime(now);
    let day = u8::try_from(local.weekday().to_sunday_zero_offset()).unwrap_or(0);
    let hour = u8::try_from(local.hour()).unwrap_or(0);
    let hours = if spec.start_hour <= spec.end_hour {
        (spec.start_hour..=spec.end_hour).contains(&hour)
    } else {
        hour >= spec.start_hour || hour <= spec.end_hour
    };
    hours && (spec.days_of_week.is_empty() || spec.days_of_week.contains(&day))
}

fn scale(spec: &TriggerSpec, reading: &Reading) -> Verdict {
    let (wanted, add) = (reading.wanted, spec.action == Action::Add);
    if add && wanted < spec.min {
        return moved(reading, spec.min, vec![format!("below the minimum of {}", spec.min)]);
    }
    if !add && wanted > spec.max {
        return moved(reading, spec.max, vec![format!("above the maximum of {}", spec.max)]);
    }
    let to = if add { wanted.saturating_add(spec.step).min(spec.max) } else { wanted.saturating_sub(spec.step).max(spec.min) };
    let (matches, mut log) = samples::judge(spec, &samples::averages(&reading.containers));
    if !matches {
        return Verdict { decision: Decision::Stay, log };
    }
    if add && to <= wanted {
        log.push(format!("not executed: it has its maximum of {} containers", spec.max));
        return Verdict { decision: Decision::Stay, log };
    }
    if !add && to >= wanted {
        log.push(format!("not executed: it has its minimum of {} containers", spec.min));
        return Verdict { decision: Decision::Stay, log };
    }
    moved(reading, to, log)
}

fn moved(reading: &Reading, to: u32, mut log: Vec<String>) -> Verdict {
    let from = reading.wanted;
    if to > from && to > reading.limit {
        log.push(format!("failed to scale up from {from} to {to} containers: the account's limit is {}", reading.limit));
        return Verdict { decision: Decision::OverLimit { to }, log };
    }
    let direction = if to > from { "up" } else { "down" };
    log.push(format!("executing to scale {direction} from {from} to {to} containers"));
    Verdict { decision: Decision::Scale { from, to }, log }
}

fn kill(spec: &TriggerSpec, reading: &Reading) -> Verdict {
    if reading.containers.is_empty() {
        return Verdict { decision: Decision::Stay, log: vec!["not executed: no container runs".to_owned()] };
    }
    let (mut chosen, mut log) = (vec![], vec![]);
    for (replica, samples) in &reading.containers {
        let (matches, why) = samples::judge(spec, &samples::newest_first(samples));
        let container = container_id(reading.instance, *replica);
        log.extend(why.into_iter().map(|line| format!("container {container}: {line}")));
        if matches {
            chosen.push(*replica);
        }
    }
    if chosen.is_empty() {
        return Verdict { decision: Decision::Stay, log };
    }
    log.push(format!("executing to kill {} of {} containers", chosen.len(), reading.containers.len()));
    Verdict { decision: Decision::Kill(chosen), log }
}
