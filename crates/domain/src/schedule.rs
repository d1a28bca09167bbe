//! Cron schedules of five fields. Those of services are in UTC and come at most every five minutes (`contracts/railway.md` 3.8); those of
//! workflows have a clock of their own.

use std::fmt;

use croner::Cron;
use croner::parser::{CronParser, Seconds, Year};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// When a service or a workflow runs.
#[derive(Clone)]
pub struct Schedule {
    cron: Cron,
    zone: TimeZone,
}

/// Why a text is no schedule, as a sentence that says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadSchedule(pub String);

/// Two runs are at least so far apart.
const SHORTEST: SignedDuration = SignedDuration::from_mins(5);
/// How many runs after the first are looked at for two that are too close. The closest two of any pattern of minutes and hours are among
/// those of one day.
const LOOK_AT: usize = 300;
/// A clock that is put back shows times a second time, every minute of an hour or of a few.
const SHOWN_TWICE: usize = 300;

impl Schedule {
    /// Reads five fields: minute, hour, day of the month, month, day of the week.
    ///
    /// # Errors
    /// Not a schedule, one that never comes, or one with runs less than five minutes apart.
    pub fn parse(text: &str) -> Result<Self, BadSchedule> {
        let schedule = Self::read("cronSchedule", text, TimeZone::UTC)?;
        let (mut before, mut seen) = (Timestamp::UNIX_EPOCH, 0);
        while let Some(next) = schedule.after(before).filter(|_| seen <= LOOK_AT) {
            if seen > 0 && next.duration_since(before) < SHORTEST {
                let shown: String = text.chars().take(80).collect();
                return Err(BadSchedule(format!(
                    "cronSchedule {shown:?} runs more often than every 5 minutes: leave more time between runs"
                )));
            }
            (before, seen) = (next, seen + 1);
        }
        Ok(schedule)
    }

    /// Reads the same five fields by the clock of a place such as `Europe/Berlin`, or in UTC. As often as every minute.
    ///
    /// # Errors
    /// Not a schedule, one that never comes, or an unknown place.
    pub fn parse_in(text: &str, timezone: Option<&str>) -> Result<Self, BadSchedule> {
        let zone = match timezone {
            None => TimeZone::UTC,
            Some(name) => TimeZone::get(name).map_err(|_| {
                let shown: String = name.chars().take(80).collect();
                BadSchedule(format!("timezone {shown:?} is not known here: write one such as \"Europe/Berlin\", or leave it away for UTC"))
            })?,
        };
        Self::read("cron", text, zone)
    }

    fn read(field: &str, text: &str, zone: TimeZone) -> Result<Self, BadSchedule> {
        let shown: String = text.chars().take(80).collect();
        let parser = CronParser::builder().seconds(Seconds::Disallowed).year(Year::Disallowed).build();
        let cron = parser.parse(text.trim()).map_err(|error| {
            BadSchedule(format!(
                "{field} {shown:?} is not a schedule ({error}): write minute, hour, day, month and weekday, like \"0 3 * * *\""
            ))
        })?;
        let schedule = Self { cron, zone };
        if schedule.after(Timestamp::UNIX_EPOCH).is_none() {
            return Err(BadSchedule(format!("{field} {shown:?} names a day that never comes: correct its day or month")));
        }
        Ok(schedule)
    }

    /// The first run after a time. What a clock shows twice comes once.
    #[must_use]
    pub fn after(&self, at: Timestamp) -> Option<Timestamp> {
        let mut civil = at.to_zoned(self.zone.clone()).datetime();
        for _ in 0..SHOWN_TWICE {
            civil = self.cron.find_next_occurrence(&civil, false).ok()?;
            let moment = civil.to_zoned(self.zone.clone()).ok()?.timestamp();
            if moment > at {
                return Some(moment);
            }
        }
        None
    }

    /// The last run that was due at a time, that time included.
    #[must_use]
    pub fn due(&self, at: Timestamp) -> Option<Timestamp> {
        let civil = at.to_zoned(self.zone.clone()).datetime();
        let last = self.cron.find_previous_occurrence(&civil, true).ok()?;
        last.to_zoned(self.zone.clone()).ok().map(|zoned| zoned.timestamp())
    }
}

impl fmt::Debug for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schedule({})", self.cron.as_str())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn runs_are_counted_in_utc() {
        let nightly = Schedule::parse("30 3 * * 1-5").unwrap();
        assert_eq!(nightly.after(at("2026-11-20T03:30:00Z")), Some(at("2026-11-23T03:30:00Z")));
        assert_eq!(nightly.due(at("2026-11-22T12:00:00Z")), Some(at("2026-11-20T03:30:00Z")));
        assert_eq!(nightly.due(at("2026-11-20T03:30:00Z")), Some(at("2026-11-20T03:30:00Z")));
        // A run is known by its time: whoever looks a moment later sees the same one.
        assert_eq!(nightly.due(at("2026-11-20T03:30:00.456Z")), Some(at("2026-11-20T03:30:00Z")));
    }

    #[test]
    fn what_is_no_schedule_is_told() {
        assert!(Schedule::parse("*/5 * * * *").is_ok());
        assert!(Schedule::parse("0 0 29 2 *").is_ok());
        for (text, word) in [
            ("", "not a schedule"),
            ("every day", "not a schedule"),
            ("* * * * * *", "not a schedule"),
            ("61 * * * *", "not a schedule"),
            ("* * * * *", "every 5 minutes"),
            ("*/4 * * * *", "every 5 minutes"),
            ("0,3 * * * *", "every 5 minutes"),
            ("58,1 * * * *", "every 5 minutes"),
            ("0 0 31 2 *", "never comes"),
        ] {
            let BadSchedule(told) = Schedule::parse(text).unwrap_err();
            assert!(told.contains(word), "{text}: {told}");
        }
    }

    #[test]
    fn a_place_has_its_own_clock() {
        let berlin = Schedule::parse_in("30 2 * * *", Some("Europe/Berlin")).unwrap();
        // There is no half past two on the day on which summer begins, and there are two when it ends.
        assert_eq!(berlin.after(at("2026-03-28T12:00:00Z")), Some(at("2026-03-29T01:30:00Z")));
        assert_eq!(berlin.after(at("2026-10-24T12:00:00Z")), Some(at("2026-10-25T00:30:00Z")));
        assert_eq!(berlin.after(at("2026-10-25T00:30:00Z")), Some(at("2026-10-26T01:30:00Z")));
        let minutes = Schedule::parse_in("* * * * *", Some("Europe/Berlin")).unwrap();
        assert_eq!(minutes.after(at("2026-10-25T01:10:00Z")), Some(at("2026-10-25T02:00:00Z")));
        assert!(Schedule::parse_in("* * * * *", None).is_ok());
        for (text, zone, word) in
            [("x", None, "not a schedule"), ("0 0 31 2 *", None, "never comes"), ("0 0 * * *", Some("Mars/Olympus"), "not known")]
        {
            let BadSchedule(told) = Schedule::parse_in(text, zone).unwrap_err();
            assert!(told.contains(word) && !told.contains("cronSchedule"), "{text}: {told}");
        }
    }

    proptest! {
        #[test]
        fn what_is_due_lies_between_one_run_and_the_next(minute in 0u8..60, hour in 0u8..24, seconds in 0i64..4_000_000_000) {
            let schedule = Schedule::parse(&format!("{minute} {hour} * * *")).unwrap();
            let now = Timestamp::from_second(seconds).unwrap();
            let (due, next) = (schedule.due(now).unwrap(), schedule.after(now).unwrap());
            prop_assert!(due <= now && now < next);
            prop_assert_eq!(schedule.after(due), Some(next));
        }
    }
}
