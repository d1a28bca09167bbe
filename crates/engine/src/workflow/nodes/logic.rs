//! `condition`, `merge`, `file_input`, `delay`: no more than choosing among values.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use super::one;
use crate::workflow::worker::Given;

/// The value at `true` or at `false`.
pub(super) fn condition(input: &Map<String, Value>) -> Result<Given, String> {
    let (value, other) = (input.get("value").unwrap_or(&Value::Null), input.get("other").unwrap_or(&Value::Null));
    let order = || compare(value, other).ok_or_else(|| "numbers or texts can be compared, and these are neither".to_owned());
    let holds = match input.get("operator").and_then(Value::as_str).unwrap_or("truthy") {
        "truthy" => truthy(value),
        "falsy" => !truthy(value),
        "equals" => same(value, other),
        "not_equals" => !same(value, other),
        "contains" => contains(value, other),
        "not_contains" => !contains(value, other),
        "greater" => order()? == Ordering::Greater,
        "greater_or_equal" => order()? != Ordering::Less,
        "less" => order()? == Ordering::Less,
        "less_or_equal" => order()? != Ordering::Greater,
        unknown => return Err(format!("{unknown} is no operator")),
    };
    Ok(one(if holds { "true" } else { "false" }, value.clone()))
}

fn truthy(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(yes) => *yes,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty() && text != "false" && text != "0",
        Value::Array(all) => !all.is_empty(),
        Value::Object(all) => !all.is_empty(),
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn same(one: &Value, other: &Value) -> bool {
    one == other || matches!((number(one), number(other)), (Some(one), Some(other)) if (one - other).abs() < f64::EPSILON)
}

fn compare(one: &Value, other: &Value) -> Option<Ordering> {
    match (number(one), number(other)) {
        (Some(one), Some(other)) => one.partial_cmp(&other),
        _ => Some(one.as_str()?.cmp(other.as_str()?)),
    }
}

fn contains(value: &Value, part: &Value) -> bool {
    match value {
        Value::Array(all) => all.iter().any(|one| same(one, part)),
        Value::Object(all) => part.as_str().is_some_and(|key| all.contains_key(key)),
        Value::String(text) => part.as_str().map_or_else(|| text.contains(&part.to_string()), |part| text.contains(part)),
        _ => false,
    }
}

/// What came in, as a list, its first, or an object.
pub(super) fn merge(input: &Map<String, Value>) -> Given {
    let items = match input.get("items") {
        Some(Value::Array(all)) => all.clone(),
        Some(one) => vec![one.clone()],
        None => vec![],
    };
    let named: Map<String, Value> = input
        .iter()
        .filter(|(key, _)| !matches!(key.as_str(), "items" | "mode"))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    let value = match input.get("mode").and_then(Value::as_str) {
        Some("first") => items.into_iter().chain(named.into_iter().map(|(_, value)| value)).next().unwrap_or(Value::Null),
        Some("object") => {
            let mut all = Map::new();
            for item in items {
                if let Value::Object(object) = item {
                    all.extend(object);
                }
            }
            all.extend(named);
            Value::Object(all)
        }
        _ => Value::Array(items.into_iter().chain(named.into_iter().map(|(_, value)| value)).collect()),
    };
    one("result", value)
}

/// The files, and the first of them; nothing when there are none.
pub(super) fn file_input(input: &Map<String, Value>) -> Given {
    let Some(Value::Array(files)) = input.get("files") else { return Given::default() };
    let Some(first) = files.first() else { return Given::default() };
    let mut given = one("file", first.clone());
    given.output.insert("files".into(), Value::Array(files.clone()));
    given
}

/// The value that came in.
pub(super) fn hand_on(input: &Map<String, Value>) -> Given {
    one("result", input.get("value").cloned().unwrap_or(Value::Null))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn map(value: Value) -> Map<String, Value> {
        value.as_object().cloned().expect("an object")
    }

    #[test]
    fn conditions() {
        let ask = |value: Value, operator: &str, other: Value| {
            condition(&map(json!({"value": value, "operator": operator, "other": other}))).map(|given| given.output.contains_key("true"))
        };
        assert_eq!(ask(json!("10"), "greater", json!(9)), Ok(true));
        assert_eq!(ask(json!("b"), "less", json!("a")), Ok(false));
        assert_eq!(ask(json!([1, 2]), "contains", json!(2)), Ok(true));
        assert_eq!(ask(json!("orrery"), "not_contains", json!("x")), Ok(true));
        assert_eq!(ask(json!({}), "truthy", json!(null)), Ok(false));
        assert_eq!(ask(json!(1), "equals", json!("1.0")), Ok(true));
        assert!(ask(json!([]), "greater", json!(1)).is_err());
    }

    #[test]
    fn branches_come_together() {
        let merged = |value: Value| merge(&map(value)).output["result"].clone();
        assert_eq!(merged(json!({"items": [1, 2], "a": 3})), json!([1, 2, 3]));
        assert_eq!(merged(json!({"items": [1, 2], "mode": "first"})), json!(1));
        assert_eq!(merged(json!({"items": [{"x": 1}], "a": 3, "mode": "object"})), json!({"x": 1, "a": 3}));
    }
}
