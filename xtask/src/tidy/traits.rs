//! A trait needs two implementations outside of tests.

use super::Finding;
use super::exceptions::Exceptions;
use super::source::Source;

pub(super) fn check(sources: &[Source], exceptions: &mut Exceptions) -> Vec<Finding> {
    let shipped: Vec<_> = sources.iter().filter(|source| !source.is_test).collect();
    let mut findings = vec![];
    for source in &shipped {
        for (name, line) in &source.traits {
            let count = shipped.iter().flat_map(|source| &source.implemented).filter(|other| *other == name).count();
            if count < 2 && !exceptions.allow("trait", name) {
                let text = format!("`{name}` has {count} implementation(s): write the function or the type itself");
                findings.push(Finding::new(format!("{}:{line}", source.path), text));
            }
        }
    }
    findings
}
