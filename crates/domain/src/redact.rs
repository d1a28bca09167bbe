//! Secrets by value: what the variables hold never reaches a build log, and what is secret among it no log of the app.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::ServiceId;
use crate::variable::Variable;

/// What stands in the place of a secret.
const MASK: &str = "•••";
/// Shorter values are words that occur everywhere.
const SHORTEST: usize = 8;
/// The same where somebody has said that it is a secret: by sealing it, or by the last word of its name.
const SHORTEST_SECRET: usize = 4;
/// The same for single lines of it, of which many are punctuation.
const SHORTEST_LINE: usize = 6;
/// What such names hold without being secret: `USE_AUTH=true`.
const SWITCHES: [&str; 5] = ["true", "false", "none", "null", "auto"];

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

/// Words of the names of variables whose values are secrets, and the ends of such words: databases call theirs `PGPASSWORD`.
const SECRET_ENDS: [&str; 6] = ["TOKEN", "SECRET", "SECRETS", "PASSWORD", "PASSWD", "PASSPHRASE"];

/// The same as whole words only: much else ends like them.
const SECRET_WORDS: [&str; 8] = ["PASS", "PWD", "KEY", "CREDENTIAL", "CREDENTIALS", "DSN", "AUTH", "SIGNATURE"];

fn is_secret(name: &str) -> bool {
    name.split('_').any(says_secret)
}

fn says_secret(word: &str) -> bool {
    let word = word.to_ascii_uppercase();
    SECRET_ENDS.iter().any(|end| word.ends_with(end)) || SECRET_WORDS.contains(&word.as_str())
}

/// Whether a value is a secret by its name alone, however short: `DB_PASSWORD`, and not `TOKEN_TTL`, which is about one.
pub(crate) fn is_named_secret(name: &str, value: &str) -> bool {
    name.rsplit('_').next().is_some_and(says_secret) && !SWITCHES.contains(&value.trim().to_ascii_lowercase().as_str())
}

/// The values of sealed variables that an app or a build may print: its service's and the shared ones, as they are and as `env` was
/// frozen with them, and those of other services that it refers to.
#[must_use]
pub fn sealed(variables: &[Variable], service: ServiceId, env: &BTreeMap<String, String>) -> Vec<String> {
    let mut found = vec![];
    for row in variables.iter().filter(|row| row.is_sealed && !row.value.is_empty()) {
        let own = row.service_id.is_none_or(|of| of == service);
        if own {
            found.extend(env.get(&row.name).cloned());
        }
        if own || env.values().any(|value| value.contains(&row.value)) {
            found.push(row.value.clone());
        }
    }
    found
}

/// Knows the secrets of one environment. The default knows none.
#[derive(Clone, Debug, Default)]
pub struct Redactor {
    secrets: Vec<String>,
}

impl Redactor {
    /// Every value of at least eight bytes, line by line where it has several, and every secret of at least four: for the log of a build,
    /// whose tools print what they like.
    #[must_use]
    pub fn of_values(env: &BTreeMap<String, String>, sealed: &[String]) -> Self {
        let own = env.iter().filter(|(name, _)| !PROVIDED.iter().any(|prefix| name.starts_with(prefix)));
        Self::new(own.flat_map(|(_, value)| value.lines()), named(env).chain(sealed))
    }

    /// The values of variables that are sealed or whose names say that they are secret, and passwords within URLs: for what an app says
    /// about itself, which may speak of its other settings.
    #[must_use]
    pub fn of_secrets(env: &BTreeMap<String, String>, sealed: &[String]) -> Self {
        Self::new(secret_values(env), named(env).chain(sealed))
    }

    /// Longest first, so that no remainder stays.
    fn new<'a>(values: impl Iterator<Item = &'a str>, secrets: impl Iterator<Item = &'a String>) -> Self {
        let values = values.map(str::trim).filter(|line| line.len() >= SHORTEST);
        let mut secrets: Vec<String> = values.chain(secrets.flat_map(|value| long_enough(value))).map(str::to_owned).collect();
        secrets.sort_by(|a, b| b.len().cmp(&a.len()).then_with(|| a.cmp(b)));
        secrets.dedup();
        Self { secrets }
    }

    /// The text without secrets.
    #[must_use]
    pub fn apply(&self, text: String) -> String {
        self.secrets.iter().fold(text, |text, secret| if text.contains(secret.as_str()) { text.replace(secret, MASK) } else { text })
    }

    /// The value without secrets in its texts and in the names of its entries.
    #[must_use]
    pub fn apply_within(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.apply(text)),
            Value::Array(all) => all.into_iter().map(|one| self.apply_within(one)).collect(),
            Value::Object(all) => all.into_iter().map(|(name, one)| (self.apply(name), self.apply_within(one))).collect(),
            other => other,
        }
    }
}

/// What may be secret by the names of variables, line by line, and the passwords within URLs, as far as each is long enough to be one.
pub(crate) fn secret_values(env: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    let lines = env.iter().filter(|(name, _)| is_secret(name)).flat_map(|(_, value)| value.lines());
    lines.chain(env.values().filter_map(|value| password_in_url(value))).filter(|value| value.trim().len() >= SHORTEST)
}

/// The values that are secrets by their names alone.
fn named(env: &BTreeMap<String, String>) -> impl Iterator<Item = &String> {
    env.iter().filter(|(name, value)| is_named_secret(name, value)).map(|(_, value)| value)
}

/// What is hidden of a secret.
fn long_enough(secret: &str) -> impl Iterator<Item = &str> {
    let least = if secret.trim().contains('\n') { SHORTEST_LINE } else { SHORTEST_SECRET };
    secret.lines().map(str::trim).filter(move |line| line.len() >= least)
}

/// `word` of `scheme://user:word@host`.
fn password_in_url(value: &str) -> Option<&str> {
    let (user, _) = value.split_once("://")?.1.split('/').next()?.rsplit_once('@')?;
    Some(user.split_once(':')?.1)
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
        let redactor = Redactor::of_values(&env.map(|(k, v)| (k.to_owned(), v.to_owned())).into(), &[]);
        let shown = redactor.apply("yes sk-canary-123456789 MIIcanary production railway-canary".into());
        assert_eq!(shown, "yes ••• ••• production •••");
    }

    #[test]
    fn an_app_may_speak_of_what_is_not_secret() {
        let env = [
            ("API_TOKEN", "sk-canary-123456"),
            ("database_password", "horse-battery"),
            ("PGPASSWORD", "correct-horse"),
            ("MYSQLPASSWORD", "battery-staple"),
            ("REDISPASSWORD", "staple-battery"),
            ("MONGOPASSWORD", "horse-correct"),
            ("BYPASS", "international roads"),
            ("CACHE_URL", "redis://default:staple-correct@cache.internal:6379/0"),
            ("GREETING", "hello world"),
            ("KEYBOARD", "international"),
            ("HOMEPAGE", "https://example.com/a@b:c"),
        ];
        let redactor = Redactor::of_secrets(&env.map(|(k, v)| (k.to_owned(), v.to_owned())).into(), &[]);
        let said =
            "hello world, international, https://example.com/a@b:c: sk-canary-123456 horse-battery redis://default:staple-correct@cache";
        let shown = "hello world, international, https://example.com/a@b:c: ••• ••• redis://default:•••@cache";
        assert_eq!(redactor.apply(said.into()), shown);
        let said = "international roads correct-horse battery-staple staple-battery horse-correct";
        assert_eq!(redactor.apply(said.into()), "international roads ••• ••• ••• •••");
    }

    #[test]
    fn a_short_secret_goes_and_a_short_setting_stays() {
        let env = [
            ("DB_PASSWORD", "hunter2"),
            ("api_key", "k9x4"),
            ("PIN_TOKEN", "007"),
            ("TOKEN_TTL", "3600"),
            ("REQUIRE_AUTH", "True"),
            ("SIGNING_KEY", "{\n\"n\":\n\"canary-line\"\n}"),
            ("MODE", "strict"),
        ];
        let env: BTreeMap<String, String> = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let said = "hunter2 k9x4 007 3600 True strict {\"n\": \"canary-line\"}";
        for redactor in [Redactor::of_values(&env, &[]), Redactor::of_secrets(&env, &[])] {
            assert_eq!(redactor.apply(said.into()), "••• ••• 007 3600 True strict {\"n\": •••}");
        }
    }

    #[test]
    fn what_is_sealed_goes_whatever_its_name() {
        use crate::{EnvironmentId, ProjectId, WorkspaceId};
        let (here, elsewhere) = (ServiceId::generate(), ServiceId::generate());
        let row = |service_id, name: &str, value: &str, is_sealed| Variable {
            workspace_id: WorkspaceId::generate(),
            project_id: ProjectId::generate(),
            environment_id: EnvironmentId::generate(),
            service_id,
            name: name.into(),
            value: value.into(),
            is_sealed,
            updated_at: jiff::Timestamp::UNIX_EPOCH,
        };
        let rows = [
            row(Some(here), "GREETING", "new-ahoy", true),
            row(None, "SHARED", "of-all", true),
            row(Some(elsewhere), "WORD", "referred", true),
            row(Some(elsewhere), "OTHER", "unrelated", true),
            row(Some(here), "OPEN", "daylight", false),
            row(Some(here), "TINY", "yes", true),
            row(Some(here), "PIN", "4711", true),
        ];
        let env = [("GREETING", "old-ahoy"), ("URL", "x://referred@y"), ("OPEN", "daylight"), ("TINY", "yes"), ("PIN", "4711")];
        let env: BTreeMap<String, String> = env.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        let redactor = Redactor::of_secrets(&env, &sealed(&rows, here, &env));
        let said = "old-ahoy new-ahoy of-all x://referred@y unrelated daylight yes 4711";
        assert_eq!(redactor.apply(said.into()), "••• ••• ••• x://•••@y unrelated daylight yes •••");
    }
}
