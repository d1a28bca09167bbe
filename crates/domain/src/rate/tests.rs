use jiff::SignedDuration;
use proptest::prelude::*;

use super::*;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_millisecond(1_790_000_000_000 + ms).unwrap()
}

/// A moment at which windows of every length begin.
fn midnight() -> Timestamp {
    Timestamp::from_second(20_717 * 86_400).unwrap()
}

fn only(span: Span, limit: u32) -> Limits {
    let mut limits = Limits::NONE;
    limits.0[Span::ALL.iter().position(|known| *known == span).unwrap()] = Some(limit);
    limits
}

#[test]
fn each_window_ends_on_its_stroke() {
    for span in Span::ALL {
        let limits = only(span, 3);
        let mut meter = Meter::default();
        let length = SignedDuration::from_secs(span.seconds().into());
        let end = midnight() + length;
        let last = end - SignedDuration::from_micros(1);
        for moment in [midnight(), midnight(), last] {
            assert!(!meter.take(&limits, moment).refused, "{span:?}");
        }
        let state = meter.take(&limits, last);
        assert!(state.refused, "{span:?}");
        let window = state.tightest().unwrap();
        assert_eq!((window.remaining(), window.ends, state.wait(window)), (0, end.as_millisecond(), 1), "{span:?}");
        let state = meter.take(&limits, end);
        assert_eq!((state.refused, state.tightest().unwrap().remaining()), (false, 2), "{span:?}");
    }
}

#[test]
fn a_refused_request_costs_nothing() {
    let limits = Limits([Some(2), None, None, Some(5)]);
    let mut meter = Meter::default();
    for second in 0..3 {
        let now = midnight() + SignedDuration::from_secs(second);
        let allowed = (0..100).filter(|_| !meter.take(&limits, now).refused).count();
        assert_eq!(allowed, [2, 2, 1][usize::try_from(second).unwrap()]);
    }
    let state = meter.look(&limits, midnight() + SignedDuration::from_secs(9));
    let names: Vec<_> = state.exhausted().map(|window| window.name).collect();
    assert_eq!(names, ["day"], "the second is new, the day is used up");
    assert_eq!(state.wait(state.tightest().unwrap()), 86_400 - 9);
}

#[test]
fn the_tightest_window_is_the_one_that_blocks_longest() {
    let limits = Limits([Some(10), None, Some(4), Some(4)]);
    let state = State::new(limits, [4, 4, 4, 4], midnight(), false);
    assert_eq!(state.tightest().unwrap().name, "day");
    let state = State::new(limits, [9, 1, 1, 1], midnight(), false);
    assert_eq!(state.tightest().map(|window| (window.name, window.remaining())), Some(("second", 1)));
}

#[test]
fn a_clock_that_steps_back_gives_nothing_again() {
    let limits = only(Span::Minute, 2);
    let mut meter = Meter::default();
    let minute = midnight() + SignedDuration::from_secs(60);
    assert!(!meter.take(&limits, minute).refused && !meter.take(&limits, minute).refused);
    assert!(meter.take(&limits, minute - SignedDuration::from_millis(3)).refused, "just before the stroke, and late");
    assert!(!meter.take(&limits, midnight() - SignedDuration::from_hours(9)).refused, "a clock that was hours ahead is forgotten");
}

#[test]
fn days_and_dates_agree() {
    assert_eq!(Day::of(midnight()).date().to_string(), "2026-09-21");
    for day in [0, 1, 20_717, 2_900_000] {
        assert_eq!(Day::on(Day(day).date()), Day(day));
    }
    assert_eq!(Day::of(Timestamp::MIN), Day(0));
}

#[test]
fn limits_are_written_and_read() {
    for plan in [Plan::Free, Plan::Hobby, Plan::Professional] {
        let limits = Limits::of_plan(plan);
        assert_eq!(limits.to_string().parse::<Limits>().unwrap(), limits);
    }
    assert_eq!("none".parse::<Limits>().unwrap(), Limits::NONE);
    for text in ["", "5", "5/week", "0/day", "-1/day", "5/day,6/day", "5/day,", "99999999999/day"] {
        assert!(text.parse::<Limits>().is_err(), "{text}");
    }
    let own = "7/minute,9/hour".parse::<Limits>().unwrap();
    assert_eq!(Limits::of_plan(Plan::Hobby).with(own).to_string(), "10/second,7/minute,9/hour");
}

proptest! {
    /// Against a list of every request: in no window more than its limit, and none refused that would have fitted.
    #[test]
    fn exactly_as_many_as_allowed(
        limits in prop::array::uniform4(prop::option::of(1u32..6)),
        steps in prop::collection::vec(0i64..40_000_000, 1..200),
        fast in any::<bool>(),
    ) {
        let limits = Limits(limits);
        let (mut meter, mut now, mut let_through) = (Meter::default(), 0, Vec::<i64>::new());
        for step in steps {
            now += if fast { step % 400 } else { step };
            let moment = at(now);
            let full = Span::ALL.iter().zip(limits.0).any(|(span, limit)| {
                let window = |ms: i64| at(ms).as_second() / i64::from(span.seconds());
                limit.is_some_and(|limit| let_through.iter().filter(|ms| window(**ms) == window(now)).count() >= limit as usize)
            });
            let state = meter.take(&limits, moment);
            prop_assert_eq!(state.refused, full);
            if !full {
                let_through.push(now);
            }
            for window in state.windows() {
                prop_assert!(window.used <= window.limit && window.ends > moment.as_millisecond());
                prop_assert!(window.ends - moment.as_millisecond() <= i64::from(window.seconds) * 1000);
                prop_assert!((1..=i64::from(window.seconds)).contains(&state.wait(window)));
            }
            prop_assert!(!full || state.exhausted().next().is_some());
        }
    }

    /// What was kept and is read again in the same windows counts as if nothing had happened; the second alone is forgotten.
    #[test]
    fn a_restart_gives_nothing_back(requests in 1u32..50, gap in 0i64..200_000_000) {
        let mut meter = Meter::default();
        for _ in 0..requests {
            meter.count(at(0));
        }
        let later = at(gap);
        let resumed = Meter::resume(&meter.kept(), later);
        prop_assert_eq!(&resumed.used(later)[1..], &meter.used(later)[1..]);
    }
}
