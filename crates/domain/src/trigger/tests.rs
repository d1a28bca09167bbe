use super::*;
use proptest::prelude::*;

fn spec(action: Action) -> TriggerSpec {
    TriggerSpec {
        name: "busy".into(),
        action,
        min: 1,
        max: 5,
        step: 2,
        operator: Operator::And,
        rules: vec![Rule { metric: Metric::Cpu, comparator: Comparator::Above, value: 20.0 }],
        days_of_week: vec![],
        utc_offset: 0,
        start_hour: 0,
        end_hour: 23,
        series: "5s".into(),
        samples: 3,
        run_every: 60,
    }
}

/// Containers that show these processor percentages, newest last.
fn reading(wanted: u32, containers: &[&[f64]]) -> Reading {
    let sample = |(at, cpu): (usize, &f64)| Sample { at: at as i64 * 5, cpu: *cpu, memory: 50.0, connections: 10.0 };
    let one = |values: &&[f64]| (ReplicaId::generate(), values.iter().enumerate().map(sample).collect());
    let containers = containers.iter().map(one).collect();
    Reading { instance: InstanceId::generate(), wanted, deploying: false, stopped: false, limit: 50, containers }
}

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

const NOON: &str = "2026-07-01T12:30:00Z";

fn decide(spec: &TriggerSpec, reading: &Reading) -> Decision {
    evaluate(spec, reading, at(NOON)).decision
}

#[test]
fn every_sample_must_match() {
    let add = spec(Action::Add);
    let (up, stay) = (Decision::Scale { from: 2, to: 4 }, Decision::Stay);
    for (samples, wanted, what) in [
        (&[&[30.0, 21.0, 20.1][..]][..], &up, "all above"),
        (&[&[30.0, 20.0, 30.0]], &stay, "one is not above"),
        (&[&[0.0, 30.0, 30.0, 30.0]], &up, "an old one does not count"),
        (&[&[30.0, 30.0]], &stay, "too few"),
        (&[], &stay, "none"),
        (&[&[10.0, 10.0, 10.0], &[40.0, 40.0, 40.0]], &up, "the average counts"),
        (&[&[10.0, 10.0, 10.0], &[29.0, 29.0, 29.0]], &stay, "the average counts"),
    ] {
        assert_eq!(&decide(&add, &reading(2, samples)), wanted, "{what}");
    }
}

#[test]
fn the_log_says_why() {
    let verdict = evaluate(&spec(Action::Add), &reading(1, &[&[0.5, 3.0, 4.0]]), at(NOON));
    assert_eq!(verdict.log, ["unmatched rules: Lowest CPU (%) is 0.5 which is not above 20"]);
    let below = TriggerSpec {
        rules: vec![Rule { metric: Metric::Cpu, comparator: Comparator::Below, value: 30.0 }],
        step: 1,
        ..spec(Action::Remove)
    };
    let verdict = evaluate(&below, &reading(3, &[&[13.5, 3.0, 4.0]]), at(NOON));
    let expected = ["matched rules: Highest CPU (%) is 13.5 which is below 30", "executing to scale down from 3 to 2 containers"];
    assert_eq!(verdict.log, expected);
}

#[test]
fn rules_are_joined() {
    let rule = |metric, value| Rule { metric, comparator: Comparator::Above, value };
    let rules = vec![rule(Metric::Cpu, 20.0), rule(Metric::Connections, 100.0)];
    let both = TriggerSpec { rules, ..spec(Action::Add) };
    let busy = reading(1, &[&[50.0, 50.0, 50.0]]);
    assert_eq!(decide(&both, &busy), Decision::Stay);
    assert_eq!(decide(&TriggerSpec { operator: Operator::Or, ..both }, &busy), Decision::Scale { from: 1, to: 3 });
}

#[test]
fn minimum_and_maximum_come_before_the_rules() {
    let idle = &[&[0.0, 0.0, 0.0][..]];
    let add = TriggerSpec { min: 3, ..spec(Action::Add) };
    assert_eq!(decide(&add, &reading(1, idle)), Decision::Scale { from: 1, to: 3 });
    // An addition never removes, a removal never adds.
    assert_eq!(decide(&add, &reading(9, idle)), Decision::Stay);
    let remove = TriggerSpec { min: 3, ..spec(Action::Remove) };
    assert_eq!(decide(&remove, &reading(9, idle)), Decision::Scale { from: 9, to: 5 });
    assert_eq!(decide(&remove, &reading(1, idle)), Decision::Stay);
    // The last step is as long as there is room.
    let busy = &[&[99.0, 99.0, 99.0][..]];
    assert_eq!(decide(&add, &reading(4, busy)), Decision::Scale { from: 4, to: 5 });
    assert_eq!(decide(&add, &reading(5, busy)), Decision::Stay);
    assert_eq!(decide(&remove, &reading(4, busy)), Decision::Scale { from: 4, to: 3 });
}

#[test]
fn deploys_stops_and_limits_hold_it_back() {
    let busy = reading(2, &[&[99.0, 99.0, 99.0]]);
    let deploying = Reading { deploying: true, ..busy.clone() };
    assert_eq!(decide(&spec(Action::Add), &deploying), Decision::Scale { from: 2, to: 4 });
    assert_eq!(decide(&spec(Action::Remove), &deploying), Decision::Stay);
    assert_eq!(decide(&spec(Action::Kill), &deploying), Decision::Stay);
    assert_eq!(decide(&spec(Action::Add), &Reading { stopped: true, ..busy.clone() }), Decision::Stay);
    assert_eq!(decide(&spec(Action::Add), &Reading { limit: 3, ..busy }), Decision::OverLimit { to: 4 });
}

#[test]
fn containers_are_killed_one_by_one() {
    let reading = reading(3, &[&[99.0, 99.0, 99.0], &[1.0, 1.0, 1.0], &[99.0, 99.0]]);
    assert_eq!(decide(&spec(Action::Kill), &reading), Decision::Kill(vec![reading.containers[0].0]));
    // They are called as the API calls them.
    let named = format!("container {}: ", container_id(reading.instance, reading.containers[0].0));
    let log = evaluate(&spec(Action::Kill), &reading, at(NOON)).log;
    assert!(log[0].starts_with(&named), "{log:?}");
    let none = evaluate(&spec(Action::Kill), &self::reading(3, &[]), at(NOON));
    assert_eq!((none.decision, none.log), (Decision::Stay, vec!["not executed: no container runs".to_owned()]));
}

#[test]
fn it_runs_on_its_days_and_hours() {
    // The first of July 2026 is a Wednesday.
    let busy = reading(1, &[&[99.0, 99.0, 99.0]]);
    let runs = |change: fn(&mut TriggerSpec), now: &str| {
        let mut spec = spec(Action::Add);
        change(&mut spec);
        evaluate(&spec, &busy, at(now)).decision != Decision::Stay
    };
    for (change, now, expected) in [
        ((|s| (s.start_hour, s.end_hour) = (1, 1)) as fn(&mut TriggerSpec), "2026-07-01T01:59:59Z", true),
        (|s| (s.start_hour, s.end_hour) = (1, 1), "2026-07-01T02:00:00Z", false),
        (|s| (s.start_hour, s.end_hour) = (1, 1), "2026-07-01T00:59:59Z", false),
        (|s| (s.start_hour, s.end_hour) = (22, 2), "2026-07-01T23:00:00Z", true),
        (|s| (s.start_hour, s.end_hour) = (22, 2), "2026-07-01T02:59:00Z", true),
        (|s| (s.start_hour, s.end_hour) = (22, 2), "2026-07-01T12:00:00Z", false),
        (|s| s.days_of_week = vec![3], "2026-07-01T12:00:00Z", true),
        (|s| s.days_of_week = vec![4], "2026-07-01T12:00:00Z", false),
        (|s| (s.days_of_week, s.utc_offset) = (vec![4], 14), "2026-07-01T12:00:00Z", true),
        (|s| (s.days_of_week, s.utc_offset) = (vec![2], -12), "2026-07-01T11:00:00Z", true),
    ] {
        assert_eq!(runs(change, now), expected, "{now}");
    }
}

#[test]
fn nonsense_is_refused_by_name() {
    let refused = |change: fn(&mut TriggerSpec)| {
        let mut spec = spec(Action::Add);
        change(&mut spec);
        spec.check(60).unwrap_err().0
    };
    for (change, word) in [
        ((|s| (s.min, s.max) = (3, 2)) as fn(&mut TriggerSpec), "min is 3 and max is 2"),
        (|s| s.min = 0, "min"),
        (|s| s.step = 0, "step"),
        (|s| s.rules = vec![], "rules"),
        (|s| s.rules[0].value = f64::NAN, "rules"),
        (|s| s.rules[0].value = 101.0, "rules"),
        (|s| s.utc_offset = 15, "utcOffset"),
        (|s| s.start_hour = 24, "startHour"),
        (|s| s.days_of_week = vec![7], "daysOfWeek"),
        (|s| s.series = "1d".into(), "seriesName"),
        (|s| s.samples = 0, "sampleQuantity"),
        (|s| s.run_every = 59, "runEverySeconds"),
        (|s| s.name = " ".into(), "name"),
    ] {
        let text = refused(change);
        assert!(text.contains(word), "{text}");
    }
    assert_eq!(spec(Action::Add).check(60), Ok(()));
}

proptest! {
    #[test]
    fn it_never_leaves_its_bounds_and_never_goes_the_wrong_way(
        action in prop_oneof![Just(Action::Add), Just(Action::Remove), Just(Action::Kill)],
        (min, more, step) in (1u32..10, 0u32..10, 1u32..10),
        (wanted, limit) in (0u32..30, 0u32..30),
        (deploying, stopped) in any::<(bool, bool)>(),
        above in any::<bool>(),
        value in 0.0..100.0f64,
        containers in prop::collection::vec(prop::collection::vec(0.0..100.0f64, 0..6), 0..5),
    ) {
        let comparator = if above { Comparator::Above } else { Comparator::Below };
        let rules = vec![Rule { metric: Metric::Cpu, comparator, value }];
        let spec = TriggerSpec { min, max: min + more, step, rules, ..spec(action) };
        let slices: Vec<&[f64]> = containers.iter().map(Vec::as_slice).collect();
        let reading = Reading { deploying, stopped, limit, ..reading(wanted, &slices) };
        let verdict = evaluate(&spec, &reading, at(NOON));
        prop_assert!(!verdict.log.is_empty());
        match verdict.decision {
            Decision::Scale { from, to } => {
                prop_assert_eq!(from, wanted);
                prop_assert!((spec.min..=spec.max).contains(&to));
                prop_assert!(!stopped);
                match action {
                    Action::Add => prop_assert!(to > from && to <= limit),
                    Action::Remove => prop_assert!(to < from && !deploying),
                    Action::Kill => prop_assert!(false, "a kill does not scale"),
                }
            }
            Decision::OverLimit { to } => prop_assert!(action == Action::Add && to > limit),
            Decision::Kill(chosen) => {
                prop_assert!(action == Action::Kill && !deploying && !chosen.is_empty());
                prop_assert!(chosen.iter().all(|id| reading.containers.iter().any(|(known, _)| known == id)));
            }
            Decision::Stay => {}
        }
        // The same reading gives the same verdict.
        prop_assert_eq!(evaluate(&spec, &reading, at(NOON)), evaluate(&spec, &reading, at(NOON)));
    }
}
