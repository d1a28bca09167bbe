//! Secrets by value: what the variables hold never reaches a build log.

use std::collections::BTreeMap;

/// What stands in the place of a secret.
const MASK: &str = "•••";
/// Shorter values are words that occur everywhere.
const SHORTEST: usize = 8;

/// Names and ids that the platform itself provides (`contracts/railway.md` 3.6). They are no secrets, and a log without the word
/// "production" would be of no use.
const PROVIDED: [&str; 13] = [
    "RAILWAY_PUBLIC_",
    "RAILWAY_PRIVATE_",
    "RAILWAY_STATIC_",
    "RAILWAY_TCP_",
    "RAILWAY_PROJECT_",
    "RAILWAY_ENVIRONMENT",
    "RAILWAY_SERVICE_",
    "RAILWAY_REPLICA_",
    "RAILWAY_DEPLOYMENT_",
    "RAILWAY_SNAPSHOT_",
    "RAILWAY_VOLUME_",
    "RAILWAY_GIT_",
    "NODE_ENV",
];

/// Knows the secrets of one build.
pub(crate) struct Redactor {
    secrets: Vec<String>,
}

impl Redactor {
    /// Every value of at least eight bytes, line by line where it has several, longest first so that no remainder stays.
    pub(crate) fn new(env: &BTreeMap<String, String>) -> Self {
        let mut secrets: Vec<String> = env
            .iter()
            .filter(|(name, _)| !PROVIDED.iter().any(|prefix| name.starts_with(prefix)))
            .flat_map(|(_, value)| value.lines())
            .map(str::trim)
            .filter(|line| line.len() >= SHORTEST)
            .map(str::to_owned)
            .collect();
        secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.dedup();
        Self { secrets }
    }

    /// The text without secrets.
    pub(crate) fn apply(&self, text: String) -> String {
        self.secrets.iter().fold(text, |text, secret| if text.contains(secret.as_str()) { text.replace(secret, MASK) } else { text })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_go_and_provided_names_stay() {
        let env = [
            ("TOKEN", "sk-canary-123456"),
            ("LONGER", "sk-canary-123456789"),
            ("KEY", "-----BEGIN KEY-----\nMIIcanary\n-----END KEY-----"),
            ("SHORT", "yes"),
            ("RAILWAY_ENVIRONMENT_NAME", "production"),
            ("RAILWAY_TOKEN", "railway-canary"),
        ];
        let redactor = Redactor::new(&env.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        let shown = redactor.apply("yes sk-canary-123456789 MIIcanary production railway-canary".into());
        assert_eq!(shown, "yes ••• ••• production •••");
    }
}
