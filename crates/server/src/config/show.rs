//! `orrery config --show`.

use std::io::Write;
use std::process::ExitCode;

use super::{Effective, Source};

/// Prints the settings in effect as a configuration file, with the source of each; secrets are left out.
pub(crate) fn show(effective: &Effective) -> anyhow::Result<ExitCode> {
    let table = toml::Table::try_from(&effective.config)?;
    let mut out = std::io::stdout().lock();
    for (key, value) in &table {
        let source = effective.source(key);
        writeln!(out, "{:<60} # {}", format!("{key} = {value}"), describe(key, source))?;
    }
    let master_key = if effective.config.secrets.master_key.is_some() { "set, value hidden" } else { "not set: the file is used" };
    writeln!(out, "# ORRERY_MASTER_KEY: {master_key}")?;
    for (name, secret) in
        [("ORRERY_MAIL_SERVER", &effective.config.secrets.mail_server), ("ORRERY_LLM_KEY", &effective.config.secrets.llm_key)]
    {
        writeln!(out, "# {name}: {}", if secret.is_some() { "set, value hidden" } else { "not set" })?;
    }
    Ok(ExitCode::SUCCESS)
}

fn describe(key: &str, source: &Source) -> String {
    match source {
        Source::Default => "default".to_owned(),
        Source::File(path) => path.display().to_string(),
        Source::Environment => format!("environment ORRERY_{}", key.to_ascii_uppercase()),
        Source::Flag => format!("flag --{}", key.replace('_', "-")),
    }
}
