//! `orrery doctor`: what this machine lacks, what follows from it, and how to get it.

mod machine;
mod network;
mod place;

use std::io::Write as _;
use std::process::ExitCode;

use ops::operator::{Check, State};

use crate::config::{Config, Effective};

/// Looks at everything and prints it; the status is 1 when something cannot work.
pub(crate) fn run(effective: &Effective, json: bool) -> anyhow::Result<ExitCode> {
    let checks = look(effective);
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

/// Looks at everything, which takes seconds.
pub(crate) fn look(effective: &Effective) -> Vec<Check> {
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
    checks.extend(mail(config));
    checks.extend(unknown_variables());
    checks
}

/// Whether mail can be sent, where it is meant to be.
fn mail(config: &Config) -> Option<Check> {
    let meaning = "no mail is sent, and mails of notification rules fail";
    match (config.secrets.mail_server.is_some(), !config.mail_from.is_empty()) {
        (false, false) => None,
        (true, true) => Some(Check::ok("mail", format!("is sent from {}", config.mail_from))),
        (true, false) => {
            let remedy = "set mail_from to the address that mail comes from, like Orrery <orrery@example.com>";
            Some(Check::warn("mail", "ORRERY_MAIL_SERVER is set, and mail_from is not", meaning, remedy))
        }
        (false, true) => {
            let remedy = "set ORRERY_MAIL_SERVER in the server's environment, like smtps://user:password@mail.example.com";
            Some(Check::warn("mail", "mail_from is set, and ORRERY_MAIL_SERVER is not", meaning, remedy))
        }
    }
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
    const OTHERS: [&str; 10] = [
        "ORRERY_MASTER_KEY",
        "ORRERY_MAIL_SERVER",
        "ORRERY_LLM_KEY",
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
