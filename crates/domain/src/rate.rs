//! Rate windows: how often a key may ask, and how much of that is left.
//!
//! Windows are fixed and aligned to the clock in UTC, so that everybody who counts agrees where one begins, and a client can tell when it
//! ends. A request that is refused counts in none of them.

use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::Date;
use uuid::Uuid;

use crate::account::Plan;
use crate::name::BadName;

/// The length of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Span {
    /// A second.
    Second,
    /// A minute.
    Minute,
    /// An hour.
    Hour,
    /// A day, from midnight UTC.
    Day,
}

impl Span {
    /// Every length, the shortest first.
    pub const ALL: [Self; 4] = [Self::Second, Self::Minute, Self::Hour, Self::Day];

    /// In seconds.
    #[must_use]
    pub fn seconds(self) -> u32 {
        match self {
            Self::Second => 1,
            Self::Minute => 60,
            Self::Hour => 3_600,
            Self::Day => 86_400,
        }
    }

    /// As in headers and settings.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Second => "second",
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        }
    }
}

/// Requests per window, by [`Span::ALL`]. `None` is no limit of that length.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits(pub [Option<u32>; 4]);

impl Limits {
    /// No limit at all.
    pub const NONE: Self = Self([None; 4]);

    /// What a plan allows unless the operator's settings say something else (`contracts/railway.md` 1.4; the daily limit is the documented one).
    #[must_use]
    pub fn of_plan(plan: Plan) -> Self {
        match plan {
            Plan::Free => Self([None, None, None, Some(1_000)]),
            Plan::Hobby => Self([Some(10), None, Some(1_000), None]),
            Plan::Professional => Self([Some(50), None, Some(10_000), None]),
        }
    }

    /// These limits, with each window that `own` sets in the place of the one here.
    #[must_use]
    pub fn with(self, own: Self) -> Self {
        Self(std::array::from_fn(|at| own.0[at].or(self.0[at])))
    }
}

impl std::fmt::Display for Limits {
    /// As settings are written: `50/second,10000/hour`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut comma = "";
        for (span, limit) in Span::ALL.into_iter().zip(self.0) {
            if let Some(limit) = limit {
                write!(f, "{comma}{limit}/{}", span.name())?;
                comma = ",";
            }
        }
        if comma.is_empty() { f.write_str("none") } else { Ok(()) }
    }
}

impl FromStr for Limits {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let bad = || BadName(format!("{text:?} is no list of limits: write something like 50/second,10000/hour, or none"));
        if text.trim() == "none" {
            return Ok(Self::NONE);
        }
        let mut limits = Self::NONE;
        for part in text.split(',') {
            let (count, name) = part.split_once('/').ok_or_else(bad)?;
            let at = Span::ALL.iter().position(|span| span.name() == name.trim()).ok_or_else(bad)?;
            let count: u32 = count.trim().parse().ok().filter(|count| *count > 0).ok_or_else(bad)?;
            if limits.0[at].replace(count).is_some() {
                return Err(bad());
            }
        }
        Ok(limits)
    }
}

/// Who is counted: a key, or a person for all tokens of their command-line logins together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Subject(pub Uuid);

/// Days since 1970, UTC.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Day(pub u32);

const EPOCH: Date = jiff::civil::date(1970, 1, 1);

impl Day {
    /// The day of a moment; the first one for what lies before 1970.
    #[must_use]
    pub fn of(now: Timestamp) -> Self {
        Self(index(Span::Day, now))
    }

    /// In the calendar.
    #[must_use]
    pub fn date(self) -> Date {
        EPOCH.saturating_add(jiff::Span::new().days(i64::from(self.0).min(2_900_000)))
    }

    /// From the calendar.
    #[must_use]
    pub fn on(date: Date) -> Self {
        Self(u32::try_from(date.duration_since(EPOCH).as_hours() / 24).unwrap_or_default())
    }
}

/// A subject's requests of one day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DayUsage {
    /// Which.
    pub day: Day,
    /// Requests that were let through.
    pub allowed: u64,
    /// Requests that were refused because a window was used up.
    pub refused: u64,
}

/// What is kept of a [`Meter`] for a restart: the day's count, and those of the hour and the minute that were the present ones.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Kept {
    /// The day.
    pub day: Day,
    /// Let through on it.
    pub in_day: u32,
    /// Hours since 1970.
    pub hour: u32,
    /// Let through in it.
    pub in_hour: u32,
    /// Minutes since 1970.
    pub minute: u32,
    /// Let through in it.
    pub in_minute: u32,
}

/// The number of the window of a length that a moment lies in.
fn index(span: Span, now: Timestamp) -> u32 {
    u32::try_from(now.as_second().max(0) / i64::from(span.seconds())).unwrap_or(u32::MAX)
}

/// The counts of one subject: for every length the present window and how often it was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    index: [u32; 4],
    used: [u32; 4],
}

impl Meter {
    /// Moves on to the windows of `now`. A clock that steps back into the window before does not give that window again, and neither do
    /// threads that read the clock in another order than they count in; a clock that was wrong by more is believed.
    fn turn(&mut self, now: Timestamp) {
        for (at, span) in Span::ALL.into_iter().enumerate() {
            let present = index(span, now);
            let stepped_back = present.checked_add(1) == Some(self.index[at]);
            if self.index[at] != present && !stepped_back {
                self.index[at] = present;
                self.used[at] = 0;
            }
        }
    }

    /// Counts one request, or says that it is refused, which then counts nowhere.
    pub fn take(&mut self, limits: &Limits, now: Timestamp) -> State {
        self.turn(now);
        let refused = limits.0.iter().zip(self.used).any(|(limit, used)| limit.is_some_and(|limit| used >= limit));
        if !refused {
            self.used = self.used.map(|used| used.saturating_add(1));
        }
        State::new(*limits, self.used, now, refused)
    }

    /// How things stand, without a request.
    #[must_use]
    pub fn look(mut self, limits: &Limits, now: Timestamp) -> State {
        self.turn(now);
        State::new(*limits, self.used, now, false)
    }

    /// Counts a request that somebody else has let through.
    pub fn count(&mut self, now: Timestamp) {
        self.turn(now);
        self.used = self.used.map(|used| used.saturating_add(1));
    }

    /// The counts of the windows of `now`, by [`Span::ALL`].
    #[must_use]
    pub fn used(mut self, now: Timestamp) -> [u32; 4] {
        self.turn(now);
        self.used
    }

    /// The day that it is in.
    #[must_use]
    pub fn day(&self) -> Day {
        Day(self.index[3])
    }

    /// The second of the last count, since 1970.
    #[must_use]
    pub fn last(&self) -> u32 {
        self.index[0]
    }

    /// What is to be kept.
    #[must_use]
    pub fn kept(&self) -> Kept {
        let ([_, minute, hour, day], [_, in_minute, in_hour, in_day]) = (self.index, self.used);
        Kept { day: Day(day), in_day, hour, in_hour, minute, in_minute }
    }

    /// Takes over counts that were kept, where they are of the present windows and higher than those here.
    pub fn learn(&mut self, kept: &Kept) {
        let theirs = [(0, 0), (kept.minute, kept.in_minute), (kept.hour, kept.in_hour), (kept.day.0, kept.in_day)];
        for (at, (index, used)) in theirs.into_iter().enumerate().skip(1) {
            if index == self.index[at] {
                self.used[at] = self.used[at].max(used);
            }
        }
    }

    /// A meter that goes on from what was kept.
    #[must_use]
    pub fn resume(kept: &Kept, now: Timestamp) -> Self {
        let mut meter = Self::default();
        meter.turn(now);
        meter.learn(kept);
        meter
    }
}

/// What operations may cost altogether: a window of a minute that is charged before an operation begins and given back what it did not
/// use. A cost is in fields that an operation resolves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    minute: u32,
    spent: u32,
}

impl Budget {
    fn turn(&mut self, now: Timestamp) {
        let present = index(Span::Minute, now);
        if self.minute != present {
            *self = Self { minute: present, spent: 0 };
        }
    }

    /// Charges a cost, or says that it is refused, which then costs nothing.
    pub fn charge(&mut self, cost: u32, limit: u32, now: Timestamp) -> State {
        self.turn(now);
        let refused = self.spent.checked_add(cost).is_none_or(|spent| spent > limit);
        if !refused {
            self.spent += cost;
        }
        self.state(limit, now, refused)
    }

    /// Gives back a part of what was charged at a moment; once its minute is over there is nothing to give.
    pub fn refund(&mut self, cost: u32, charged: Timestamp) {
        if self.minute == index(Span::Minute, charged) {
            self.spent = self.spent.saturating_sub(cost);
        }
    }

    fn state(&self, limit: u32, now: Timestamp, refused: bool) -> State {
        let ends = (i64::from(self.minute) + 1) * 60_000;
        State::of(Window { name: "cost", seconds: 60, limit, used: self.spent.min(limit), ends }, now, refused)
    }
}

/// One window of a subject.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its name in headers.
    pub name: &'static str,
    /// Its length in seconds.
    pub seconds: u32,
    /// Requests that it allows.
    pub limit: u32,
    /// Requests that it has seen.
    pub used: u32,
    /// Its end, in milliseconds since 1970.
    pub ends: i64,
}

impl Window {
    /// Requests that are left.
    #[must_use]
    pub fn remaining(&self) -> u32 {
        self.limit.saturating_sub(self.used)
    }
}

/// How a subject stands after a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    counts: Counts,
    now: Timestamp,
    /// The request was refused.
    pub refused: bool,
}

/// What the windows are made of: they are worked out where somebody looks at them, not where requests are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Counts {
    /// By [`Span::ALL`].
    Spans(Limits, [u32; 4]),
    /// One that is none of these.
    Single(Window),
}

impl State {
    /// From counts by [`Span::ALL`].
    #[must_use]
    pub fn new(limits: Limits, used: [u32; 4], now: Timestamp, refused: bool) -> Self {
        Self { counts: Counts::Spans(limits, used), now, refused }
    }

    /// Of a single window that is not one of [`Span::ALL`].
    #[must_use]
    pub fn of(window: Window, now: Timestamp, refused: bool) -> Self {
        Self { counts: Counts::Single(window), now, refused }
    }

    fn window(&self, at: usize) -> Option<Window> {
        match self.counts {
            Counts::Single(window) => (at == 0).then_some(window),
            Counts::Spans(limits, used) => {
                let (span, limit) = (Span::ALL[at], limits.0[at]?);
                let ends = (i64::from(index(span, self.now)) + 1) * i64::from(span.seconds()) * 1000;
                Some(Window { name: span.name(), seconds: span.seconds(), limit, used: used[at].min(limit), ends })
            }
        }
    }

    /// The windows that limit the subject, the shortest first.
    pub fn windows(&self) -> impl Iterator<Item = Window> {
        (0..Span::ALL.len()).filter_map(move |at| self.window(at))
    }

    /// The window that allows the fewest further requests; of several, the one that ends last.
    #[must_use]
    pub fn tightest(&self) -> Option<Window> {
        self.windows().min_by_key(|window| (window.remaining(), std::cmp::Reverse(window.ends)))
    }

    /// The windows that are used up.
    pub fn exhausted(&self) -> impl Iterator<Item = Window> {
        self.windows().filter(|window| window.remaining() == 0)
    }

    /// Whole seconds until a window ends, at least one.
    #[must_use]
    pub fn wait(&self, window: Window) -> i64 {
        let left = window.ends - self.now.as_millisecond();
        (left / 1000 + i64::from(left % 1000 > 0)).max(1)
    }
}

#[cfg(test)]
mod tests;
