//! Values from outside of an environment in which its variables are referred to: what nodes of workflows are told.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::{Part, Scope, Walk, parts};
use crate::redact::{Redactor, is_named_secret, secret_values};

/// What is put together of one node's inputs at the most. Bytes.
const MAX_FILLED: usize = 4 << 20;

/// Whether a text within the value may refer to a variable.
#[must_use]
pub fn refers(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains("${{"),
        Value::Array(all) => all.iter().any(refers),
        Value::Object(all) => all.values().any(refers),
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Puts values of variables into texts, and remembers which.
pub struct Filling<'a> {
    scope: &'a Scope,
    used: BTreeMap<String, String>,
    /// Those that are secrets by their names, of which shorter ones are hidden as well.
    secrets: Vec<String>,
    room: usize,
}

impl<'a> Filling<'a> {
    /// With what can be reached there.
    #[must_use]
    pub fn of(scope: &'a Scope) -> Self {
        Self { scope, used: BTreeMap::new(), secrets: vec![], room: MAX_FILLED }
    }

    /// The value with every reference in its texts replaced. The names of entries are no texts.
    ///
    /// # Errors
    /// What a reference lacks, or that it all becomes too large, in words for whoever wrote it.
    pub fn fill(&mut self, value: &Value) -> Result<Value, String> {
        Ok(match value {
            Value::String(text) => Value::String(self.text(text)?),
            Value::Array(all) => Value::Array(all.iter().map(|one| self.fill(one)).collect::<Result<_, _>>()?),
            Value::Object(all) => {
                let mut filled = Map::new();
                for (key, one) in all {
                    filled.insert(key.clone(), self.fill(one)?);
                }
                Value::Object(filled)
            }
            other => other.clone(),
        })
    }

    /// Knows what was put in and the secrets that it was made of, so that neither is kept where it comes back.
    #[must_use]
    pub fn redactor(&self) -> Redactor {
        let all = self.scope.services.values().chain([&self.scope.shared, &self.used]);
        let is_within = |part: &&str| self.used.values().any(|used| used.contains(*part));
        let parts = all.flat_map(secret_values).filter(is_within).map(str::to_owned);
        let parts: Vec<String> = parts.chain(self.secrets.iter().cloned()).collect();
        Redactor::of_values(&self.used, &parts)
    }

    fn text(&mut self, text: &str) -> Result<String, String> {
        let mut out = String::new();
        for part in parts(text) {
            let piece = match part {
                Part::Text(text) => text.to_owned(),
                Part::Reference { service: Some(owner), name } => self.value(owner, name)?,
                Part::Reference { service: None, name } => {
                    let (shared, own) = (written("shared", name), written("service", name));
                    return Err(format!("${{{{{name}}}}} does not say whose variable it is: write {shared} or {own}"));
                }
                Part::Generator(_) => return Err("nothing is made up here: keep the secret in a variable and refer to that".to_owned()),
            };
            self.room =
                self.room.checked_sub(piece.len()).ok_or_else(|| format!("with its variables it is larger than {MAX_FILLED} bytes"))?;
            out.push_str(&piece);
        }
        Ok(out)
    }

    fn value(&mut self, owner: &str, name: &str) -> Result<String, String> {
        // The variable's name first: the redactor knows by it what the platform itself provides.
        let key = format!("{name} of {owner}");
        if let Some(known) = self.used.get(&key) {
            return Ok(known.clone());
        }
        if self.scope.raw(owner, name).is_none() {
            return Err(format!(
                "{} is no variable of this environment, or a sealed one, which deployments alone get",
                written(owner, name)
            ));
        }
        let value = self.scope.resolve(owner, name, &mut Walk::default());
        if is_named_secret(name, &value) {
            self.secrets.push(value.clone());
        }
        self.used.insert(key, value.clone());
        Ok(value)
    }
}

fn written(owner: &str, name: &str) -> String {
    ["${{", owner, ".", name, "}}"].concat()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn scope() -> Scope {
        let of = |entries: &[(&str, &str)]| entries.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Scope {
            shared: of(&[("TOKEN", "canary-token"), ("DB_PASSWORD", "hush"), ("MODE", "fast"), ("LARGE", "x".repeat(60_000).as_str())]),
            services: [("My DB".to_owned(), of(&[("URL", "db://${{shared.TOKEN}}@${{HOST}}"), ("HOST", "db")]))].into(),
        }
    }

    #[test]
    fn texts_are_filled_wherever_they_are() {
        let scope = scope();
        let mut filling = Filling::of(&scope);
        let told = json!({"headers": {"authorization": "Bearer ${{ shared.TOKEN }}"}, "urls": ["${{My DB.URL}}", 1, null], "${{shared.TOKEN}}": "$"});
        let wanted = json!({"headers": {"authorization": "Bearer canary-token"}, "urls": ["db://canary-token@db", 1, null], "${{shared.TOKEN}}": "$"});
        assert_eq!(filling.fill(&told), Ok(wanted));
        let back = json!({"said": ["you sent canary-token", 2], "canary-token": true});
        assert_eq!(filling.redactor().apply_within(back), json!({"said": ["you sent •••", 2], "•••": true}));
    }

    #[test]
    fn a_secret_within_what_was_put_in_does_not_come_back_either() {
        let scope = scope();
        let mut filling = Filling::of(&scope);
        filling.fill(&json!("${{My DB.URL}}")).expect("it can be filled");
        assert_eq!(filling.redactor().apply("canary-token is wrong for db".into()), "••• is wrong for db");
    }

    #[test]
    fn a_short_secret_is_hidden_and_a_short_setting_is_not() {
        let scope = scope();
        let mut filling = Filling::of(&scope);
        assert_eq!(filling.fill(&json!("${{shared.DB_PASSWORD}} ${{shared.MODE}}")), Ok(json!("hush fast")));
        assert_eq!(filling.redactor().apply("hush, it was fast".into()), "•••, it was fast");
    }

    #[test]
    fn what_cannot_be_filled_is_named() {
        let scope = scope();
        for (text, said) in [
            ("a ${{shared.NONE}}", "${{shared.NONE}} is no variable"),
            ("${{web.TOKEN}}", "${{web.TOKEN}} is no variable"),
            ("${{TOKEN}}", "${{TOKEN}} does not say whose variable it is: write ${{shared.TOKEN}} or ${{service.TOKEN}}"),
            ("${{secret(8)}}", "nothing is made up here"),
            ("${{shared.LARGE}}".repeat(100).as_str(), "larger than"),
        ] {
            let refused = Filling::of(&scope).fill(&json!([text])).expect_err(text);
            assert!(refused.contains(said), "{refused}");
        }
    }

    #[test]
    fn what_refers_to_nothing_is_told_from_what_may() {
        assert!(refers(&json!({"a": ["b", "x ${{shared.A}}"]})));
        assert!(!refers(&json!({"${{a}}": ["{{ b }}", 1, null, true, "$"]})));
    }
}
