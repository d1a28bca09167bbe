//! Every package that is built has a licence that `deny.toml` allows.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::Context as _;
use cargo_metadata::Metadata;

use super::Finding;

pub(super) fn check(metadata: &Metadata, deny: &Path) -> anyhow::Result<Vec<Finding>> {
    let text = std::fs::read_to_string(deny).with_context(|| format!("cannot read {}", deny.display()))?;
    let table: toml::Table = text.parse().with_context(|| deny.display().to_string())?;
    let allowed: BTreeSet<String> = table["licenses"]["allow"].clone().try_into().context("deny.toml has no list licenses.allow")?;
    let mut findings = vec![];
    for package in metadata.packages.iter().filter(|package| package.source.is_some()) {
        // An expression with slashes is the old way to write "or".
        let licence = package.license.clone().unwrap_or_default().replace('/', " OR ");
        if !is_allowed(&licence, &allowed) {
            let text = format!("has the licence {licence:?}, which deny.toml does not allow: use another library");
            findings.push(Finding::new(format!("{} {}", package.name, package.version), text));
        }
    }
    Ok(findings)
}

/// Whether a licence expression can be met: of `A OR B` one, of `A AND B` both. `A WITH B` is one name.
fn is_allowed(expression: &str, allowed: &BTreeSet<String>) -> bool {
    let spaced = expression.replace('(', " ( ").replace(')', " ) ").replace(" WITH ", "+WITH+");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut at = 0;
    let met = any(&tokens, &mut at, allowed);
    met && at == tokens.len()
}

fn any(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut met = all(tokens, at, allowed);
    while tokens.get(*at) == Some(&"OR") {
        *at += 1;
        met |= all(tokens, at, allowed);
    }
    met
}

fn all(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let mut met = one(tokens, at, allowed);
    while tokens.get(*at) == Some(&"AND") {
        *at += 1;
        met &= one(tokens, at, allowed);
    }
    met
}

fn one(tokens: &[&str], at: &mut usize, allowed: &BTreeSet<String>) -> bool {
    let Some(token) = tokens.get(*at) else { return false };
    *at += 1;
    if *token == "(" {
        let met = any(tokens, at, allowed);
        let closed = tokens.get(*at) == Some(&")");
        *at += 1;
        return met && closed;
    }
    allowed.contains(&token.replace("+WITH+", " WITH "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_met() {
        let allowed: BTreeSet<String> = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"].map(str::to_owned).into();
        for met in ["MIT", "GPL-3.0 OR MIT", "MIT AND (ISC OR GPL-3.0)", "Apache-2.0 WITH LLVM-exception OR GPL-3.0"] {
            assert!(is_allowed(met, &allowed), "{met}");
        }
        for not_met in ["", "GPL-3.0", "MIT AND GPL-3.0", "(MIT", "MIT)", "Apache-2.0 WITH other", "MIT GPL-3.0"] {
            assert!(!is_allowed(not_met, &allowed), "{not_met}");
        }
    }
}
