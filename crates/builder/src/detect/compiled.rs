//! Rust and Go: one program out of a build.

use super::{Ask, Plan, Start, Step, Tool, Tree, refused};
use crate::failure::BuildFailure;

/// Where the program ends up in the artifact.
pub(crate) const PROGRAM: &str = ".orrery/bin/app";

/// Rust with Cargo. The binary is the default one, the package's, or the only one.
pub(super) fn rust(tree: &Tree, ask: &Ask<'_>) -> Result<Option<Plan>, BuildFailure> {
    let Some(text) = tree.text("Cargo.toml") else { return Ok(None) };
    let manifest: toml::Table = toml::from_str(text).map_err(|error| refused("Cargo.toml", error.message()))?;
    let package = manifest.get("package").and_then(toml::Value::as_table);
    let name = |key: &str| package.and_then(|package| package.get(key)).and_then(toml::Value::as_str).map(str::to_owned);
    let start = match ask.start(tree) {
        Some(command) => Start::Command(command),
        None => Start::Compiled { name: name("default-run").or_else(|| name("name")) },
    };
    let mut plan = Plan::new("Rust", start);
    plan.path = vec![".orrery/bin".into()];
    plan.steps = match ask.build_command {
        Some(command) => vec![Step::Shell(command.to_owned())],
        None => {
            let mut args = vec!["build", "--release", "--message-format", "json-render-diagnostics"];
            if tree.has("Cargo.lock") {
                args.push("--locked");
            }
            vec![Step::run(Tool::Cargo, &args)]
        }
    };
    if let (Some(_), Start::Compiled { name }) = (ask.build_command, &plan.start) {
        let name = name.as_deref().unwrap_or("app");
        plan.start = Start::Command(format!("./target/release/{name}"));
    }
    Ok(Some(plan))
}

/// Go modules. The main package is the root's or the only one below `cmd`.
pub(super) fn go(tree: &Tree, ask: &Ask<'_>) -> Result<Option<Plan>, BuildFailure> {
    if !tree.has("go.mod") {
        return Ok(None);
    }
    let start = ask.start(tree).unwrap_or_else(|| format!("./{PROGRAM}"));
    let mut plan = Plan::new("Go", Start::Command(start));
    plan.path = vec![".orrery/bin".into()];
    if let Some(command) = ask.build_command {
        plan.steps = vec![Step::Shell(command.to_owned())];
        return Ok(Some(plan));
    }
    let in_root = tree.paths().any(|path| !path.contains('/') && path.ends_with(".go"));
    let mut commands: Vec<&str> =
        tree.paths().filter_map(|path| path.strip_prefix("cmd/")?.split_once('/').map(|(name, _)| name)).collect();
    commands.dedup();
    let package = match commands.as_slice() {
        _ if in_root => ".".to_owned(),
        [only] => format!("./cmd/{only}"),
        [] => ".".to_owned(),
        several => {
            let text = format!("go.mod has several programs ({}): set a build command and a start command", several.join(", "));
            return Err(BuildFailure::Source(text));
        }
    };
    plan.steps = vec![Step::run(Tool::Go, &["build", "-o", PROGRAM, &package])];
    Ok(Some(plan))
}
