//! What an upload held, and whether what matters in it has changed.

use std::collections::BTreeMap;

use globset::{GlobBuilder, GlobMatcher};
use serde::{Deserialize, Serialize};

/// The files of an upload with the SHA-256 of their content in hexadecimal. Persisted beside the artifact.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SourceManifest {
    /// Path from the upload's root, without a leading slash.
    pub files: BTreeMap<String, String>,
}

impl SourceManifest {
    /// Paths that were added, removed or changed since `previous`.
    pub fn changed_since<'a>(&'a self, previous: &'a SourceManifest) -> impl Iterator<Item = &'a str> {
        let new = self.files.iter().filter(|(path, hash)| previous.files.get(*path) != Some(hash));
        let gone = previous.files.iter().filter(|(path, _)| !self.files.contains_key(*path));
        new.chain(gone).map(|(path, _)| path.as_str())
    }
}

/// Patterns as `.gitignore` has them: the last one that matches a path decides, `!` takes back, a slash ties to the root.
pub(crate) struct WatchPatterns(Vec<(bool, GlobMatcher)>);

impl WatchPatterns {
    /// Reads the patterns; the error names the one that is malformed.
    pub(crate) fn parse(patterns: &[String]) -> Result<Self, String> {
        let mut parsed = vec![];
        for pattern in patterns.iter().map(|pattern| pattern.trim()).filter(|pattern| !pattern.is_empty()) {
            let (wanted, text) = pattern.strip_prefix('!').map_or((true, pattern), |rest| (false, rest));
            for glob in globs(text) {
                let glob = GlobBuilder::new(&glob).literal_separator(true).build();
                parsed.push((
                    wanted,
                    glob.map_err(|error| format!("the watch pattern {pattern:?} cannot be read: {error}"))?.compile_matcher(),
                ));
            }
        }
        Ok(Self(parsed))
    }

    /// Whether a change of this path deploys.
    pub(crate) fn matches(&self, path: &str) -> bool {
        self.0.iter().rev().find(|(_, glob)| glob.is_match(path)).is_some_and(|(wanted, _)| *wanted)
    }
}

/// A pattern names a file, or a folder with all that is in it.
fn globs(text: &str) -> Vec<String> {
    let folder = text.ends_with('/');
    let body = text.trim_start_matches('/').trim_end_matches('/');
    if body.is_empty() {
        return vec!["**".to_owned()];
    }
    let anchored = text.starts_with('/') || body.contains('/');
    let body = if anchored { body.to_owned() } else { format!("**/{body}") };
    if folder { vec![format!("{body}/**")] } else { vec![format!("{body}/**"), body] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_follow_gitignore() {
        let table: [(&[&str], &str, bool); 12] = [
            (&["src/**"], "src/a/b.ts", true),
            (&["/src"], "src/a.ts", true),
            (&["/src"], "lib/src/a.ts", false),
            (&["*.ts"], "deep/down/a.ts", true),
            (&["*.ts"], "a.js", false),
            (&["docs/"], "a/docs/b", true),
            (&["**/*.md"], "README.md", true),
            (&["/**"], "anything/at/all", true),
            (&["src/**", "!src/**/*.md"], "src/a/notes.md", false),
            (&["!*.md", "*.md"], "a.md", true),
            (&["a/*.ts"], "a/b/c.ts", false),
            (&[], "a", false),
        ];
        for (patterns, path, expected) in table {
            let patterns: Vec<String> = patterns.iter().map(|&p| p.to_owned()).collect();
            assert_eq!(WatchPatterns::parse(&patterns).unwrap().matches(path), expected, "{patterns:?} on {path}");
        }
        assert!(WatchPatterns::parse(&["[".to_owned()]).is_err_and(|error| error.contains("\"[\"")));
    }

    #[test]
    fn changes_are_additions_removals_and_edits() {
        let manifest = |files: &[(&str, &str)]| SourceManifest { files: files.iter().map(|(p, h)| ((*p).into(), (*h).into())).collect() };
        let (old, new) =
            (manifest(&[("same", "1"), ("edited", "1"), ("gone", "1")]), manifest(&[("same", "1"), ("edited", "2"), ("new", "1")]));
        assert_eq!(new.changed_since(&old).collect::<Vec<_>>(), ["edited", "new", "gone"]);
    }
}
