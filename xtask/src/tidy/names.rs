//! What code may name where: shells, processes, the system's tenant, clocks, HTTP servers; and what no file may say.

use std::path::Path;

use anyhow::Context as _;

use super::Finding;
use super::exceptions::Exceptions;
use super::source::Source;

const SHELLS: [&str; 10] =
    ["sh", "bash", "dash", "zsh", "/bin/sh", "/bin/bash", "/bin/dash", "/usr/bin/sh", "/usr/bin/bash", "/usr/bin/zsh"];

/// File names that say nothing about what is inside, and so attract everything. `service` is not among them: it is a noun of the domain.
const VAGUE: [&str; 8] = ["utils", "util", "helpers", "helper", "common", "manager", "misc", "models"];

/// A name that only some rooms may use: rule, part of a path, rooms, and what to do instead.
const RESERVED: [(&str, &str, &[&str], &str); 6] = [
    (
        "process",
        "process::Command",
        &["runtime", "builder", "server", "xtask"],
        "programs are started by `runtime`, `builder` and `server`",
    ),
    ("system-tenant", "Tenant::system", &["engine", "ops", "domain"], "take the tenant from an authorisation check"),
    ("clock", "Timestamp::now", ELSEWHERE, "take the time as a parameter"),
    ("clock", "SystemTime::now", ELSEWHERE, "take the time as a parameter"),
    ("clock", "Instant::now", ELSEWHERE, "take the time as a parameter"),
    ("http-server", "server::conn", &["api", "edge", "server"], "HTTP is served by `api`, `edge` and `server`"),
];

/// Every room but `domain` and `ops`, whose callers know what time it is.
const ELSEWHERE: &[&str] = &["store", "runtime", "builder", "edge", "telemetry", "engine", "api", "server", "xtask"];

/// What belongs to one machine or one person, not to the project.
const STRAY: [(&str, &str); 5] = [
    ("/root/", "names one machine's folder: say it relative to the home or the data directory"),
    ("TODO", "is a note to oneself: do it, or open an issue"),
    ("FIXME", "is a note to oneself: do it, or open an issue"),
    ("XXX", "is a note to oneself: do it, or open an issue"),
    ("<<<<<<<", "is left from a merge: resolve it"),
];

pub(super) fn check(sources: &[Source], exceptions: &mut Exceptions) -> Vec<Finding> {
    let mut findings = vec![];
    for source in sources {
        let stem = Path::new(&source.path).file_stem().and_then(|stem| stem.to_str()).unwrap_or("");
        if VAGUE.contains(&stem) && !exceptions.allow("vague-name", &source.path) {
            findings.push(Finding::new(&source.path, "the file's name says nothing: name what is in it"));
        }
        if source.is_test {
            continue;
        }
        for (text, line) in source.texts.iter().filter(|(text, _)| SHELLS.contains(&text.as_str())) {
            if source.path != "xtask/src/tidy/names.rs" && !exceptions.allow("shell", &source.path) {
                let text = format!("names the shell {text:?}: hand an array of arguments to the program itself");
                findings.push(Finding::new(format!("{}:{line}", source.path), text));
            }
        }
        for (rule, name, rooms, instead) in RESERVED {
            if rooms.contains(&source.room()) {
                continue;
            }
            let named = |path: &str| format!("::{path}::").contains(&format!("::{name}::"));
            for (path, line) in source.paths.iter().filter(|(path, _)| named(path)) {
                if !exceptions.allow(rule, &source.path) {
                    findings.push(Finding::new(format!("{}:{line}", source.path), format!("names {path}: {instead}")));
                }
            }
        }
    }
    findings
}

/// What no text file of the project may say.
pub(super) fn check_files(root: &Path, files: &[String]) -> anyhow::Result<Vec<Finding>> {
    let mut findings = vec![];
    // Checksums in lock files may spell anything.
    let written = |path: &&String| *path != "xtask/src/tidy/names.rs" && !path.ends_with("-lock.json") && !path.ends_with(".lock");
    for path in files.iter().filter(written) {
        let bytes = std::fs::read(root.join(path)).with_context(|| format!("cannot read {path}"))?;
        let Ok(text) = std::str::from_utf8(&bytes) else { continue };
        for (index, line) in text.lines().enumerate() {
            for (stray, what) in STRAY.iter().filter(|(stray, _)| line.contains(stray)) {
                findings.push(Finding::new(format!("{path}:{}", index + 1), format!("{stray:?} {what}")));
            }
        }
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        let source = Source::parse(path, text).unwrap();
        check(&[source], &mut Exceptions::none()).into_iter().map(|finding| finding.place).collect()
    }

    #[test]
    fn broken_rules_are_found_outside_of_tests_only() {
        let shell = "fn f() { tokio::process::Command::new(\"sh\"); }\n";
        assert_eq!(findings("crates/api/src/a.rs", shell), ["crates/api/src/a.rs:1", "crates/api/src/a.rs:1"]);
        assert_eq!(findings("crates/runtime/src/a.rs", shell), ["crates/runtime/src/a.rs:1"]);
        assert!(findings("crates/api/src/a.rs", &format!("#[cfg(test)]\nmod tests {{ {shell} }}")).is_empty());
        assert!(findings("crates/api/tests/a.rs", shell).is_empty());
        assert_eq!(findings("crates/api/src/a.rs", "use std::{fs, process::{Child, Command}};").len(), 1);
        assert_eq!(findings("crates/domain/src/a.rs", "fn f() { jiff::Timestamp::now(); }").len(), 1);
        assert_eq!(findings("crates/api/src/a.rs", "fn f() { let t = Tenant::system(id); }").len(), 1);
        assert_eq!(findings("crates/engine/src/a.rs", "use hyper::server::conn::http1;\nfn f() { http1::Builder::new(); }").len(), 1);
        assert_eq!(findings("crates/api/src/utils.rs", "").len(), 1);
    }
}
