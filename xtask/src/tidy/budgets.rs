//! How long a file and a function may be, tests left out.

use super::Finding;
use super::exceptions::Exceptions;
use super::source::Source;

const FILE: usize = 600;
const MAIN: usize = 40;
const FUNCTION: usize = 60;

pub(super) fn check(sources: &[Source], exceptions: &mut Exceptions) -> Vec<Finding> {
    let mut findings = vec![];
    for source in sources.iter().filter(|source| !source.is_test) {
        let budget = if source.path.ends_with("/main.rs") { MAIN } else { FILE };
        if source.lines > budget && !exceptions.allow("file", &source.path) {
            let text = format!("{} lines without tests, the budget is {budget}: split it by what it talks about", source.lines);
            findings.push(Finding::new(&source.path, text));
        }
        for function in source.functions.iter().filter(|function| function.lines > FUNCTION) {
            if !exceptions.allow("function", &format!("{}#{}", source.path, function.name)) {
                let text = format!("`{}` has {} lines, the budget is {FUNCTION}: name its parts", function.name, function.lines);
                findings.push(Finding::new(format!("{}:{}", source.path, function.line), text));
            }
        }
    }
    findings
}
