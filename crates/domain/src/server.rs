//! Servers that come with the machine, such as databases: how one is prepared and started (persisted with the deployment, written in
//! template files).
//!
//! Texts hold placeholders: `${NAME}` is a variable of the replica, `${NAME|sql}` the same as an SQL literal, `${NAME|identifier}` as a
//! quoted SQL name, `${NAME|quoted}` between double quotes with backslashes, `${NAME|encoded}` as a part of a URL. `${RUN}` is a private folder that lives as long as the
//! replica, `${VOLUME}` is where its volume is, `${TARGET}` is what a step makes. Secrets are placeholders, so a plan holds none.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A server and what it needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerPlan {
    /// The program's name; the first one that the machine has is run.
    pub programs: Vec<String>,
    /// The Debian package that brings it, for the error when it is missing.
    pub package: String,
    /// Folders that are searched before PATH; one part may be `*`, of which the highest version is taken.
    #[serde(default)]
    pub folders: Vec<String>,
    /// A file with the version of the data: the folder with that version in place of `*` is the only one that will do.
    #[serde(default)]
    pub version_file: Option<String>,
    /// Files that are written before each start, readable by the service's user only.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// What comes before the server.
    #[serde(default)]
    pub prepare: Vec<ServerStep>,
    /// The server's arguments.
    pub start: Vec<String>,
    /// The signal that ends it well; SIGTERM if nothing is said.
    #[serde(default)]
    pub stop_signal: Option<StopSignal>,
}

/// Which signal ends a server well.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum StopSignal {
    /// SIGINT.
    Sigint,
    /// SIGQUIT.
    Sigquit,
}

/// Commands that belong together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerStep {
    /// A folder that the step makes: it is skipped where there is one, and what it made is put in place when all commands have succeeded.
    #[serde(default)]
    pub creates: Option<String>,
    /// A file that remembers what the commands were told, with what is in the plan's files that they are given: the step is skipped while
    /// that is the same.
    #[serde(default)]
    pub remembers: Option<String>,
    /// A server that runs while the commands do.
    #[serde(default)]
    pub server: Option<StepServer>,
    /// Run in order; the first that fails ends the start.
    pub commands: Vec<ServerCommand>,
}

/// The plan's program on a socket that only the service's own user can reach, so that nobody else meets it before it is prepared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct StepServer {
    /// Its arguments.
    pub args: Vec<String>,
    /// The path of its socket: the commands begin when it accepts connections there.
    pub socket: String,
}

/// One command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ServerCommand {
    /// Searched as the server is, and beside it.
    pub program: String,
    /// Its arguments.
    #[serde(default)]
    pub args: Vec<String>,
    /// What it reads.
    #[serde(default)]
    pub stdin: Option<String>,
}

/// A placeholder that stands for nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the variable {0} is not set, and the server needs it: set it and redeploy")]
pub struct Unset(pub String);

/// Replaces the placeholders of a text.
///
/// # Errors
/// [`Unset`] for a variable that the replica does not have, or that holds NUL.
pub fn fill(text: &str, variables: &BTreeMap<String, String>) -> Result<String, Unset> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("${") {
        let Some(length) = rest[at..].find('}') else { break };
        out.push_str(&rest[..at]);
        let inner = &rest[at + 2..at + length];
        let (name, filter) = inner.split_once('|').unwrap_or((inner, ""));
        let value = variables.get(name).filter(|value| !value.contains('\0')).ok_or_else(|| Unset(name.to_owned()))?;
        match filter {
            "sql" => {
                // The same in every dialect, whether or not a backslash means something in it.
                out.push('\'');
                out.push_str(&value.replace('\'', "''").replace('\\', "\\\\"));
                out.push('\'');
            }
            "literal" => {
                out.push('\'');
                out.push_str(&value.replace('\'', "''"));
                out.push('\'');
            }
            "identifier" => {
                out.push('"');
                out.push_str(&value.replace('"', "\"\""));
                out.push('"');
            }
            "backticks" => {
                out.push('`');
                out.push_str(&value.replace('`', "``"));
                out.push('`');
            }
            "quoted" => {
                out.push('"');
                for c in value.chars() {
                    match c {
                        '"' | '\\' => out.extend(['\\', c]),
                        '\n' => out.push_str("\\n"),
                        '\r' => out.push_str("\\r"),
                        c => out.push(c),
                    }
                }
                out.push('"');
            }
            "encoded" => {
                for byte in value.bytes() {
                    match byte {
                        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
                        byte => out.push_str(&format!("%{byte:02X}")),
                    }
                }
            }
            _ => out.push_str(value),
        }
        rest = &rest[at + length + 1..];
    }
    out.push_str(rest);
    Ok(out)
}

/// What is remembered of a text that may hold secrets.
#[must_use]
pub fn digest(text: &str) -> String {
    use sha2::{Digest, Sha256};
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with(value: &str) -> BTreeMap<String, String> {
        BTreeMap::from([("A".to_owned(), value.to_owned())])
    }

    #[test]
    fn placeholders_are_replaced_and_quoted() {
        let vars = with(r#"it's "a" \ `b`"#);
        assert_eq!(fill("x ${A} y", &vars).unwrap(), r#"x it's "a" \ `b` y"#);
        assert_eq!(fill("${A|sql}", &vars).unwrap(), r#"'it''s "a" \\ `b`'"#);
        assert_eq!(fill("${A|literal}", &vars).unwrap(), r#"'it''s "a" \ `b`'"#);
        assert_eq!(fill("${A|identifier}", &vars).unwrap(), r#""it's ""a"" \ `b`""#);
        assert_eq!(fill("${A|backticks}", &vars).unwrap(), r#"`it's "a" \ ``b```"#);
        assert_eq!(fill("${A|quoted}", &vars).unwrap(), r#""it's \"a\" \\ `b`""#);
        assert_eq!(fill("${A|encoded}", &with("/tmp/ä b.sock")).unwrap(), "%2Ftmp%2F%C3%A4%20b.sock");
        assert_eq!(fill("${B}", &vars), Err(Unset("B".into())));
        assert_eq!(fill("${A", &vars).unwrap(), "${A");
    }

    proptest! {
        #[test]
        fn a_literal_ends_where_it_should(value in "[^\0]*") {
            let text = fill("${A|literal}", &with(&value)).unwrap();
            let inner = &text[1..text.len() - 1];
            prop_assert_eq!(inner.replace("''", "'"), value);
        }
    }
}
