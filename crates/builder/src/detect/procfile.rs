//! `Procfile`: one process a line, `name: command`.

use super::Tree;

/// The command of `web`, or else of the first process.
pub(super) fn web(tree: &Tree) -> Option<String> {
    let processes: Vec<(&str, &str)> = tree.text("Procfile")?.lines().filter_map(process).collect();
    let web = processes.iter().find(|(name, _)| *name == "web");
    web.or_else(|| processes.iter().find(|(name, _)| *name != "release")).map(|(_, command)| (*command).to_owned())
}

fn process(line: &str) -> Option<(&str, &str)> {
    let (name, command) = line.split_once(':')?;
    let (name, command) = (name.trim(), command.trim());
    let valid = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'));
    (valid && !command.is_empty()).then_some((name, command))
}
