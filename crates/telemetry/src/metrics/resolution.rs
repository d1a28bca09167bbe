//! How finely measurements are kept, and in which files.

use domain::metric::INTERVAL;

const HOUR: i64 = 3_600;
const DAY: i64 = 86_400;

/// The length of the intervals of a series (`contracts/galaxy.md` 3.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resolution {
    /// `5s`: as measured. Kept for 7 hours.
    FiveSeconds,
    /// `3m`. Kept for 8 days.
    ThreeMinutes,
    /// `1h`. Kept for 2 months.
    OneHour,
    /// `1d`. Kept for 2 years.
    OneDay,
}

impl Resolution {
    /// From the finest to the coarsest.
    pub const ALL: [Self; 4] = [Self::FiveSeconds, Self::ThreeMinutes, Self::OneHour, Self::OneDay];

    /// Its name on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::FiveSeconds => "5s",
            Self::ThreeMinutes => "3m",
            Self::OneHour => "1h",
            Self::OneDay => "1d",
        }
    }

    /// The resolution of a series by its name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.as_str() == name)
    }

    /// The length of an interval in seconds.
    #[must_use]
    pub fn seconds(self) -> i64 {
        match self {
            Self::FiveSeconds => INTERVAL,
            Self::ThreeMinutes => 180,
            Self::OneHour => HOUR,
            Self::OneDay => DAY,
        }
    }

    /// For how many seconds intervals are kept at least.
    pub(crate) fn kept(self) -> i64 {
        match self {
            Self::FiveSeconds => 7 * HOUR,
            Self::ThreeMinutes => 8 * DAY,
            Self::OneHour => 62 * DAY,
            Self::OneDay => 731 * DAY,
        }
    }

    /// How many seconds one file holds.
    pub(crate) fn file_seconds(self) -> i64 {
        match self {
            Self::FiveSeconds => HOUR,
            Self::ThreeMinutes => DAY,
            Self::OneHour => 31 * DAY,
            Self::OneDay => 366 * DAY,
        }
    }

    /// What it is made of.
    pub(crate) fn finer(self) -> Option<Self> {
        match self {
            Self::FiveSeconds => None,
            Self::ThreeMinutes => Some(Self::FiveSeconds),
            Self::OneHour => Some(Self::ThreeMinutes),
            Self::OneDay => Some(Self::OneHour),
        }
    }

    /// The beginning of the interval that holds a moment.
    #[must_use]
    pub fn floor(self, at: i64) -> i64 {
        floor(at, self.seconds())
    }
}

pub(crate) fn floor(at: i64, step: i64) -> i64 {
    at.div_euclid(step) * step
}

/// Names a file: the intervals of one resolution that begin within one period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct MetricFile {
    pub(crate) resolution: Resolution,
    /// Seconds since the epoch.
    pub(crate) begins: i64,
}

impl MetricFile {
    pub(crate) fn of(resolution: Resolution, at: i64) -> Self {
        Self { resolution, begins: floor(at, resolution.file_seconds()) }
    }

    pub(crate) fn ends(self) -> i64 {
        self.begins + self.resolution.file_seconds()
    }

    /// `5s-2026-11-21T07.db`.
    pub(crate) fn name(self) -> String {
        let begins = jiff::Timestamp::from_second(self.begins).unwrap_or(jiff::Timestamp::MAX);
        format!("{}-{}.db", self.resolution.as_str(), begins.strftime("%Y-%m-%dT%H"))
    }

    pub(crate) fn parse(name: &str) -> Option<Self> {
        let (resolution, date) = name.strip_suffix(".db")?.split_once('-')?;
        let begins = format!("{date}:00:00Z").parse::<jiff::Timestamp>().ok()?.as_second();
        let file = Self { resolution: Resolution::parse(resolution)?, begins };
        (Self::of(file.resolution, begins) == file && file.name() == name).then_some(file)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_named_after_what_they_hold() {
        let at = 1_795_246_108;
        assert_eq!(MetricFile::of(Resolution::FiveSeconds, at).name(), "5s-2026-11-21T07.db");
        for resolution in Resolution::ALL {
            let file = MetricFile::of(resolution, at);
            assert_eq!(MetricFile::parse(&file.name()), Some(file));
            assert!((file.begins..file.ends()).contains(&at));
            assert_eq!(file.resolution.file_seconds() % resolution.seconds(), 0, "an interval lies in one file");
            assert_eq!(Resolution::parse(resolution.as_str()), Some(resolution));
        }
        for name in ["5s-2026-11-21T07.db-wal", "5m-2026-11-21T07.db", "3m-2026-11-21T07.db", "5s-.db", "lock", "ä"] {
            assert_eq!(MetricFile::parse(name), None, "{name}");
        }
    }
}
