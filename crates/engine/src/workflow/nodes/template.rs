//! `text_template`: Jinja's language through minijinja, with an end to loops.

use minijinja::{Environment, UndefinedBehavior};
use serde_json::{Map, Value};

use super::one;
use crate::workflow::worker::Given;

/// Steps that a template may take.
const FUEL: u64 = 1_000_000;

pub(super) fn fill(input: &Map<String, Value>) -> Result<Given, String> {
    let template = input.get("template").and_then(Value::as_str).unwrap_or_default();
    let mut names = match input.get("values") {
        Some(Value::Object(values)) => values.clone(),
        _ => Map::new(),
    };
    // A field that was left empty is no name: null would be written out as `none`.
    let others = input.iter().filter(|(key, value)| !matches!(key.as_str(), "template" | "values") && !value.is_null());
    names.extend(others.map(|(key, value)| (key.clone(), value.clone())));
    let mut environment = Environment::new();
    environment.set_fuel(Some(FUEL));
    environment.set_recursion_limit(100);
    environment.set_undefined_behavior(UndefinedBehavior::Chainable);
    // Text, not HTML.
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment
        .render_str(template, minijinja::value::Serde(Value::Object(names)))
        .map(|text| one("result", text))
        .map_err(|error| format!("{error:#}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn filled(value: Value) -> Result<Value, String> {
        fill(value.as_object().expect("an object")).map(|given| given.output["result"].clone())
    }

    #[test]
    fn a_template_is_filled() {
        let template = "Hello {{ name|upper }}{% for n in list %} {{ n }}{% endfor %} {{ nobody.x }}<";
        assert_eq!(filled(json!({"template": template, "name": "ada", "values": {"list": [1, 2]}})), Ok(json!("Hello ADA 1 2 <")));
        assert_eq!(filled(json!({"template": "<{{ age }}>", "age": null})), Ok(json!("<>")));
        assert!(filled(json!({"template": "{% for"})).unwrap_err().contains("syntax error"));
    }

    #[test]
    fn a_template_that_loops_ends() {
        let text = "{% for a in range(9999) %}{% for b in range(9999) %}{{ a }}{% endfor %}{% endfor %}";
        assert!(filled(json!({"template": text})).unwrap_err().contains("fuel"));
    }
}
