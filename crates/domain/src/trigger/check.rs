//! Whether a trigger makes sense.

use super::{Action, Metric, TriggerSpec};

/// What is wrong with a trigger, in words for who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadTrigger(pub String);

/// Samples that the newest run may look at, and rules of a trigger.
const MAX_SAMPLES: u32 = 100;
const MAX_RULES: usize = 10;
/// A day.
const LONGEST: u32 = 86_400;

impl TriggerSpec {
    /// Checks everything that can be checked without knowing the app. `shortest` is the smallest number of seconds between runs.
    ///
    /// # Errors
    /// Names the field, what it is and what it may be.
    pub fn check(&self, shortest: u32) -> Result<(), BadTrigger> {
        let refuse = |text: String| Err(BadTrigger(text));
        if self.name.trim().is_empty() || self.name.chars().count() > 100 || self.name.chars().any(char::is_control) {
            return refuse("name must be 1 to 100 characters".into());
        }
        if self.rules.is_empty() || self.rules.len() > MAX_RULES {
            return refuse(format!("rules: give 1 to {MAX_RULES} of them, not {}", self.rules.len()));
        }
        for rule in &self.rules {
            let most = if rule.metric == Metric::Connections { 1e9 } else { 100.0 };
            if !rule.value.is_finite() || rule.value < 0.0 || rule.value > most {
                return refuse(format!("rules: the value of {} is {}: it may be 0 to {most}", rule.metric.as_str(), rule.value));
            }
        }
        if self.action != Action::Kill {
            if self.min == 0 || self.min > self.max {
                return refuse(format!("min is {} and max is {}: min must be at least 1 and at most max", self.min, self.max));
            }
            if self.step == 0 {
                return refuse("step is 0: it must be at least 1".into());
            }
        }
        if let Some(day) = self.days_of_week.iter().find(|day| **day > 6) {
            return refuse(format!("daysOfWeek holds {day}: days are 0 (Sunday) to 6 (Saturday)"));
        }
        if !(-12..=14).contains(&self.utc_offset) {
            return refuse(format!("utcOffset is {}: it may be -12 to 14", self.utc_offset));
        }
        if self.start_hour > 23 || self.end_hour > 23 {
            return refuse(format!("startHour is {} and endHour is {}: hours are 0 to 23", self.start_hour, self.end_hour));
        }
        if !["5s", "3m", "1h"].contains(&self.series.as_str()) {
            return refuse(format!("seriesName is {:?}: it may be 5s, 3m or 1h", self.series));
        }
        if self.samples == 0 || self.samples > MAX_SAMPLES {
            return refuse(format!("sampleQuantity is {}: it may be 1 to {MAX_SAMPLES}", self.samples));
        }
        if self.run_every < shortest || self.run_every > LONGEST {
            return refuse(format!("runEverySeconds is {}: it may be {shortest} to {LONGEST}", self.run_every));
        }
        Ok(())
    }
}
