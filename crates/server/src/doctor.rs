//! `orrery doctor`: what this machine lacks, what follows from it, and how to get it.

mod machine;
mod network;
mod place;

use std::io::Write as _;
use std::process::ExitCode;

use serde::Serialize;

use crate::config::Effective;

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// Nothing to do.
    Ok,
    /// Works, with less than there could be.
    Warn,
    /// Something that is configured cannot work.
    Fail,
}

/// One thing that was looked at.
#[derive(Debug, Serialize)]
struct Check {
    name: String,
    state: State,
    /// What is there.
    found: String,
    /// What follows from it; empty when all is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    meaning: String,
    /// What to do about it; empty when all is well.
    #[serde(skip_serializing_if = "String::is_empty")]
    remedy: String,
}

impl Check {
    fn ok(name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Ok, found: found.into(), meaning: String::new(), remedy: String::new() }
    }

    fn warn(name: impl Into<String>, found: impl Into<String>, meaning: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { name: name.into(), state: State::Warn, found: found.into(), meaning: meaning.into(), remedy: remedy.into() }
    }

    fn fail(name: impl Into<String>, found: impl Into<String>, meaning: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { state: State::Fail, ..Self::warn(name, found, meaning, remedy) }
    }
}

/// Looks at everything and prints it; the status is 1 when something cannot work.
pub(crate) fn run(effective: &Effective, json: bool) -> anyhow::Result<ExitCode> {
    let config = &effective.config;
    let mut checks = vec![];
    checks.extend(machine::protections());
    checks.extend(machine::tools());
    checks.extend(machine::servers());
    checks.push(machine::railway_cli());
    checks.extend(place::files(effective));
    checks.push(place::disk(&config.data_dir));
    checks.extend(network::ports(config));
    checks.push(network::names(&config.base_domain));
    checks.push(network::name_server(config));
    checks.extend(network::database(&config.database));
    checks.push(network::limits(config));
    checks.extend(unknown_variables());

    let failed = checks.iter().any(|check| check.state == State::Fail);
    let mut out = std::io::stdout().lock();
    if json {
        writeln!(out, "{:#}", serde_json::json!({ "ok": !failed, "checks": checks }))?;
    } else {
        for check in &checks {
            print(&mut out, check)?;
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn print(out: &mut impl std::io::Write, check: &Check) -> std::io::Result<()> {
    let state = match check.state {
        State::Ok => "ok  ",
        State::Warn => "warn",
        State::Fail => "FAIL",
    };
    writeln!(out, "{state}  {:<19} {}", check.name, check.found)?;
    for line in [&check.meaning, &check.remedy].into_iter().filter(|line| !line.is_empty()) {
        writeln!(out, "      {:<19} {line}", "")?;
    }
    Ok(())
}

/// Variables that look like settings and are none: most likely typing errors.
fn unknown_variables() -> Vec<Check> {
    const OTHERS: [&str; 8] = [
        "ORRERY_MASTER_KEY",
        "ORRERY_URL",
        "ORRERY_TOKEN",
        "ORRERY_TOKEN_FILE",
        "ORRERY_RAILWAY_BIN",
        "ORRERY_RAILWAY_PROXY_PID",
        "ORRERY_CACHE",
        "ORRERY_TEST_RAILWAY",
    ];
    let command = crate::cli::command();
    let serve = command.find_subcommand("serve");
    let known = |name: &str| serve.is_some_and(|serve| serve.get_arguments().any(|arg| arg.get_env().is_some_and(|env| env == name)));
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let unknown = names.filter(|name| name.starts_with("ORRERY_") && !OTHERS.contains(&name.as_str()) && !known(name));
    unknown
        .map(|name| {
            let remedy = "correct its name: `orrery serve --help` lists every variable";
            Check::warn("environment", format!("{name} is set"), "there is no such setting: it changes nothing", remedy)
        })
        .collect()
}
