//! What a container finds in its environment (`contracts/galaxy.md` 3.10). `APM_*` and `MONTI_APM_*`, which lead to Galaxy's own
//! monitoring, are not added: who has an account there sets them.

use std::collections::BTreeMap;

use serde_json::Value;

/// The version's number.
pub const APP_VERSION: &str = "GALAXY_APP_VERSION_ID";
/// The container's id.
pub const CONTAINER: &str = "GALAXY_CONTAINER_ID";
/// The settings as Meteor reads them.
pub const SETTINGS: &str = "METEOR_SETTINGS";
/// The key of a settings file whose `env` becomes the environment.
const OURS: &str = "galaxy.meteor.com";
/// Largest settings in bytes.
pub const LARGEST_SETTINGS: usize = 32 << 10;

/// Adds Galaxy's variables to those of a replica. A variable of the user's own wins over one of the settings, and both over what is added,
/// but for the container's ids and the logger. Without a hostname there is no root URL.
pub fn environment(env: &mut BTreeMap<String, String>, container_id: &str, version: u64, root_url: Option<&str>, grace_seconds: u32) {
    let (app, short) = container_id.split_once('-').unwrap_or((container_id, ""));
    let from_settings = env.get(SETTINGS).map(|text| of_settings(text)).unwrap_or_default();
    let mut offer = |name: &str, value: String| {
        env.entry(name.to_owned()).or_insert(value);
    };
    for (name, value) in from_settings {
        offer(&name, value);
    }
    offer("GALAXY_APP_ID", app.to_owned());
    offer(APP_VERSION, version.to_string());
    offer("KADIRA_OPTIONS_HOSTNAME", short.to_owned());
    offer("HTTP_FORWARDED_COUNT", "1".to_owned());
    offer("METEOR_SIGTERM_GRACE_PERIOD_SECONDS", grace_seconds.to_string());
    if let Some(url) = root_url {
        offer("ROOT_URL", url.to_owned());
    }
    env.insert(CONTAINER.to_owned(), container_id.to_owned());
    env.insert("GALAXY_LOGGER".to_owned(), "system".to_owned());
}

fn of_settings(text: &str) -> BTreeMap<String, String> {
    let settings: Value = serde_json::from_str(text).unwrap_or_default();
    let Some(env) = settings.get(OURS).and_then(|ours| ours.get("env")).and_then(Value::as_object) else { return BTreeMap::new() };
    let text = |value: &Value| match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    env.iter().filter(|(name, _)| crate::name::variable(name).is_ok()).map(|(name, value)| (name.clone(), text(value))).collect()
}

/// Checks a settings file before it is taken.
///
/// # Errors
/// Says what is wrong with it.
pub fn settings_check(text: &str) -> Result<(), String> {
    if text.len() > LARGEST_SETTINGS {
        return Err(format!("the settings have {} bytes: at most {LARGEST_SETTINGS} are taken", text.len()));
    }
    let settings: Value = serde_json::from_str(text)
        .map_err(|error| format!("the settings are not JSON (line {}, column {})", error.line(), error.column()))?;
    if !settings.is_object() {
        return Err("the settings must be a JSON object".into());
    }
    let env = settings.get(OURS).and_then(|ours| ours.get("env"));
    match env {
        None => Ok(()),
        Some(Value::Object(env)) => match env.keys().find(|name| crate::name::variable(name).is_err()) {
            Some(name) => Err(format!("{OURS}.env: {name:?} is not a name of a variable")),
            None => Ok(()),
        },
        Some(_) => Err(format!("{OURS}.env must be an object of names and values")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_become_variables_and_ids_cannot_be_overridden() {
        let settings = r#"{"public":{"a":1},"galaxy.meteor.com":{"env":{"MONGO_URL":"mongodb://m","N":3,"GREETING":"settings","GALAXY_CONTAINER_ID":"x"}}}"#;
        let own = [("METEOR_SETTINGS", settings), ("GREETING", "mine"), ("GALAXY_LOGGER", "none"), ("ROOT_URL", "https://mine")];
        let mut env: BTreeMap<String, String> = own.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
        environment(&mut env, "abc-12345", 7, Some("https://app"), 30);
        for (name, value) in [
            ("GALAXY_APP_ID", "abc"),
            ("GALAXY_CONTAINER_ID", "abc-12345"),
            ("KADIRA_OPTIONS_HOSTNAME", "12345"),
            ("GALAXY_APP_VERSION_ID", "7"),
            ("GALAXY_LOGGER", "system"),
            ("HTTP_FORWARDED_COUNT", "1"),
            ("METEOR_SIGTERM_GRACE_PERIOD_SECONDS", "30"),
            ("ROOT_URL", "https://mine"),
            ("MONGO_URL", "mongodb://m"),
            ("N", "3"),
            ("GREETING", "mine"),
            ("METEOR_SETTINGS", settings),
        ] {
            assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
        }
    }

    #[test]
    fn settings_override_what_is_added_but_for_the_ids_and_the_logger() {
        let settings = r#"{"galaxy.meteor.com":{"env":{"ROOT_URL":"https://www.shop.test","HTTP_FORWARDED_COUNT":2,
            "METEOR_SIGTERM_GRACE_PERIOD_SECONDS":"5","GALAXY_CONTAINER_ID":"x","GALAXY_LOGGER":"none"}}}"#;
        let mut env: BTreeMap<String, String> = [("METEOR_SETTINGS".to_owned(), settings.to_owned())].into();
        environment(&mut env, "abc-12345", 7, Some("https://app"), 30);
        for (name, value) in [
            ("ROOT_URL", "https://www.shop.test"),
            ("HTTP_FORWARDED_COUNT", "2"),
            ("METEOR_SIGTERM_GRACE_PERIOD_SECONDS", "5"),
            ("GALAXY_CONTAINER_ID", "abc-12345"),
            ("GALAXY_LOGGER", "system"),
        ] {
            assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
        }
    }

    #[test]
    fn bad_settings_are_refused_with_a_reason() {
        for (text, word) in [
            ("", "not JSON"),
            ("[]", "object"),
            (r#"{"galaxy.meteor.com":{"env":[]}}"#, "env"),
            (r#"{"galaxy.meteor.com":{"env":{"a b":"x"}}}"#, "a b"),
        ] {
            assert!(settings_check(text).unwrap_err().contains(word), "{text}");
        }
        let large = format!("{{\"a\":\"{}\"}}", "x".repeat(33 << 10));
        assert!(settings_check(&large).unwrap_err().contains("32768"));
        assert_eq!(settings_check("{}"), Ok(()));
    }
}
