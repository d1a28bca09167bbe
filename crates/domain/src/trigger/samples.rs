//! Whether the samples match the rules, in words.

use std::collections::BTreeMap;

use super::{Comparator, Metric, Operator, Rule, Sample, TriggerSpec};
use crate::ReplicaId;

/// The plain average over containers at each time, newest first.
pub(super) fn averages(containers: &[(ReplicaId, Vec<Sample>)]) -> Vec<Sample> {
    let mut times: BTreeMap<i64, Vec<&Sample>> = BTreeMap::new();
    for sample in containers.iter().flat_map(|(_, samples)| samples) {
        times.entry(sample.at).or_default().push(sample);
    }
    let average = |(at, samples): (i64, Vec<&Sample>)| {
        let count = samples.len().max(1) as f64;
        let mean = |of: fn(&Sample) -> f64| samples.iter().map(|sample| of(sample)).sum::<f64>() / count;
        Sample { at, cpu: mean(|s| s.cpu), memory: mean(|s| s.memory), connections: mean(|s| s.connections) }
    };
    times.into_iter().rev().map(average).collect()
}

pub(super) fn newest_first(samples: &[Sample]) -> Vec<Sample> {
    let mut sorted = samples.to_vec();
    sorted.sort_by_key(|sample| std::cmp::Reverse(sample.at));
    sorted
}

fn value(sample: &Sample, metric: Metric) -> f64 {
    match metric {
        Metric::Cpu => sample.cpu,
        Metric::Memory => sample.memory,
        Metric::Connections => sample.connections,
    }
}

/// Whether the newest samples match, and the lines that say why. Too few samples match nothing.
pub(super) fn judge(spec: &TriggerSpec, newest_first: &[Sample]) -> (bool, Vec<String>) {
    let wanted = spec.samples as usize;
    if newest_first.len() < wanted {
        let have = newest_first.len();
        return (false, vec![format!("not executed: {have} of the {wanted} samples of {} are there", spec.series)]);
    }
    let samples = &newest_first[..wanted];
    let (mut matched, mut unmatched) = (vec![], vec![]);
    for rule in &spec.rules {
        let (matches, text) = compare(rule, samples);
        if matches { matched.push(text) } else { unmatched.push(text) }
    }
    let all = match spec.operator {
        Operator::And => unmatched.is_empty() && !matched.is_empty(),
        Operator::Or => !matched.is_empty(),
    };
    let mut log = vec![];
    if !matched.is_empty() {
        log.push(format!("matched rules: {}", matched.join("; ")));
    }
    if !unmatched.is_empty() {
        log.push(format!("unmatched rules: {}", unmatched.join("; ")));
    }
    (all, log)
}

fn compare(rule: &Rule, samples: &[Sample]) -> (bool, String) {
    let values = samples.iter().map(|sample| value(sample, rule.metric));
    let (word, extreme, matches) = match rule.comparator {
        Comparator::Above => {
            let lowest = values.fold(f64::INFINITY, f64::min);
            ("Lowest", lowest, lowest > rule.value)
        }
        Comparator::Below => {
            let highest = values.fold(f64::NEG_INFINITY, f64::max);
            ("Highest", highest, highest < rule.value)
        }
    };
    let not = if matches { "" } else { "not " };
    let rounded = (extreme * 10.0).round() / 10.0;
    (matches, format!("{word} {} is {rounded} which is {not}{} {}", rule.metric.label(), rule.comparator.as_str(), rule.value))
}
