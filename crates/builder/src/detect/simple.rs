//! Sources without a language: files to serve, a script, or only a command.

use super::{Ask, Plan, Start, Step, Tree};

/// Folders that may hold a site's files, the most telling first.
const FOLDERS: [&str; 4] = ["", "public", "dist", "site"];

/// Files for Orrery's own server.
pub(super) fn site(tree: &Tree, ask: &Ask<'_>) -> Option<Plan> {
    if ask.start(tree).is_some() {
        return None;
    }
    let staticfile = tree.text("Staticfile");
    let (asked, spa) = staticfile.map(settings).unwrap_or_default();
    let root = match asked {
        Some(root) => root,
        None => match FOLDERS.iter().find(|folder| tree.has(&joined(folder, "index.html"))) {
            Some(folder) => (*folder).to_owned(),
            None if staticfile.is_some() => String::new(),
            None => return None,
        },
    };
    let mut plan = Plan::new("static site", Start::Static { root, spa });
    plan.steps.extend(ask.build_command.map(|command| Step::Shell(command.to_owned())));
    Some(plan)
}

/// The lines `root: folder` and `pushstate: enabled`.
fn settings(text: &str) -> (Option<String>, bool) {
    let pairs: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once(':')).map(|(k, v)| (k.trim(), v.trim())).collect();
    let value = |name| pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| *value);
    let root = value("root").map(|root| root.trim_matches(['"', '\'']));
    // A folder that is no plain path inside the source is as good as none.
    let root = root.and_then(|root| crate::unpack::relative(root).ok());
    (root, value("pushstate") == Some("enabled"))
}

/// A start command, a Procfile or a script, with nothing to install.
pub(super) fn commands(tree: &Tree, ask: &Ask<'_>) -> Option<Plan> {
    let script = || {
        let text = tree.text("start.sh")?;
        Some(if text.starts_with("#!") && text.lines().next().is_some_and(|line| line.contains("bash")) {
            "bash start.sh"
        } else {
            "sh start.sh"
        })
    };
    let start = ask.start(tree).or_else(|| script().map(str::to_owned))?;
    let mut plan = Plan::new("shell", Start::Command(start));
    plan.steps.extend(ask.build_command.map(|command| Step::Shell(command.to_owned())));
    Some(plan)
}

pub(super) fn joined(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}
