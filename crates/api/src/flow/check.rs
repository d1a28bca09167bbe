//! Bodies are checked against the schema that is published for them, and every finding is named (`contracts/flow.md` 2.3). What the schema
//! says and what is accepted cannot differ.

use domain::workflow::field::type_name;
use serde_json::{Map, Value, json};

/// Findings that an answer lists at the most.
const FINDINGS: usize = 50;

/// What is wrong with a value, in the form of the contract's `issues`.
pub(super) fn issues(schemas: &Value, schema: &Value, value: &Value) -> Vec<Value> {
    let mut check = Check { schemas, found: vec![], path: vec![] };
    check.value(schema, value);
    check.found
}

struct Check<'a> {
    schemas: &'a Value,
    found: Vec<Value>,
    path: Vec<Value>,
}

impl<'a> Check<'a> {
    fn say(&mut self, code: &str, message: String, more: Value) {
        if self.found.len() >= FINDINGS {
            return;
        }
        let mut issue = Map::from_iter([
            ("code".to_owned(), json!(code)),
            ("path".to_owned(), json!(self.path)),
            ("message".to_owned(), json!(message)),
        ]);
        if let Value::Object(more) = more {
            issue.extend(more);
        }
        self.found.push(Value::Object(issue));
    }

    fn at(&mut self, step: impl Into<Value>, schema: &'a Value, value: &Value) {
        self.path.push(step.into());
        self.value(schema, value);
        self.path.pop();
    }

    fn value(&mut self, schema: &'a Value, value: &Value) {
        if let Some(name) = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next()) {
            return self.value(&self.schemas[name], value);
        }
        if let Some(Value::Array(any)) = schema.get("oneOf").or_else(|| schema.get("anyOf")) {
            return self.one_of(any, value);
        }
        if let Some(Value::Array(all)) = schema.get("allOf") {
            all.iter().for_each(|part| self.value(part, value));
        }
        if !self.kind(schema, value) {
            return;
        }
        if let Some(Value::Array(options)) = schema.get("enum")
            && !options.contains(value)
        {
            let listed: Vec<String> = options.iter().map(Value::to_string).collect();
            self.say("invalid_value", format!("Invalid option: expected one of {}", listed.join("|")), json!({"values": options}));
        }
        match value {
            Value::String(text) => self.size(schema, ("minLength", "maxLength"), text.chars().count(), ("string", "characters")),
            Value::Number(number) => self.range(schema, number.as_f64().unwrap_or(f64::NAN)),
            Value::Array(items) => {
                self.size(schema, ("minItems", "maxItems"), items.len(), ("array", "items"));
                if let Some(each) = schema.get("items") {
                    items.iter().enumerate().for_each(|(at, item)| self.at(at, each, item));
                }
            }
            Value::Object(fields) => self.object(schema, fields),
            Value::Null | Value::Bool(_) => {}
        }
    }

    /// The findings of the alternative that comes nearest: the first that is of the value's type.
    fn one_of(&mut self, any: &'a [Value], value: &Value) {
        let mut nearest: Option<Vec<Value>> = None;
        for one in any {
            let mut check = Check { schemas: self.schemas, found: vec![], path: self.path.clone() };
            check.value(one, value);
            if check.found.is_empty() {
                return;
            }
            let null = one.get("type").and_then(Value::as_str) == Some("null");
            if nearest.is_none() && !null {
                nearest = Some(check.found);
            }
        }
        self.found.extend(nearest.unwrap_or_default());
    }

    fn kind(&mut self, schema: &Value, value: &Value) -> bool {
        let fits = |name: &str| match name {
            "integer" => value.is_i64() || value.is_u64(),
            name => type_name(value) == name,
        };
        let expected = match schema.get("type") {
            None => return true,
            Some(Value::Array(names)) => {
                if names.iter().filter_map(Value::as_str).any(fits) {
                    return true;
                }
                names.iter().filter_map(Value::as_str).find(|name| *name != "null").unwrap_or("null")
            }
            Some(name) => name.as_str().unwrap_or_default(),
        };
        if fits(expected) {
            return true;
        }
        // An object of anything is a record in the contract's words.
        let expected = if expected == "object" && schema.get("properties").is_none() { "record" } else { expected };
        let message = format!("Invalid input: expected {expected}, received {}", type_name(value));
        self.say("invalid_type", message, json!({"expected": expected}));
        false
    }

    fn size(&mut self, schema: &Value, (least, most): (&str, &str), size: usize, (what, unit): (&str, &str)) {
        let limit = |name: &str| schema.get(name).and_then(Value::as_u64);
        if let Some(min) = limit(least).filter(|min| (size as u64) < *min) {
            self.say("too_small", format!("Too small: expected {what} to have >={min} {unit}"), json!({"minimum": min}));
        }
        if let Some(max) = limit(most).filter(|max| size as u64 > *max) {
            self.say("too_big", format!("Too big: expected {what} to have <={max} {unit}"), json!({"maximum": max}));
        }
    }

    fn range(&mut self, schema: &Value, number: f64) {
        let limit = |name: &str| schema.get(name).and_then(Value::as_f64);
        if let Some(min) = limit("minimum").filter(|min| number < *min) {
            self.say("too_small", format!("Too small: expected number to be >={min}"), json!({"minimum": min}));
        }
        if let Some(max) = limit("maximum").filter(|max| number > *max) {
            self.say("too_big", format!("Too big: expected number to be <={max}"), json!({"maximum": max}));
        }
    }

    fn object(&mut self, schema: &'a Value, fields: &Map<String, Value>) {
        let known = schema.get("properties").and_then(Value::as_object);
        for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
            if !fields.contains_key(name) {
                self.path.push(name.into());
                let expected =
                    known.and_then(|known| known.get(name)).and_then(|field| field.get("type")).and_then(Value::as_str).unwrap_or("value");
                self.say("invalid_type", format!("Invalid input: expected {expected}, received undefined"), json!({"expected": expected}));
                self.path.pop();
            }
        }
        let others = schema.get("additionalProperties");
        let mut unknown = vec![];
        for (name, value) in fields {
            match (known.and_then(|known| known.get(name)), others) {
                (Some(schema), _) => self.at(name.as_str(), schema, value),
                (None, Some(Value::Bool(false))) => unknown.push(name.chars().take(80).collect::<String>()),
                (None, Some(schema @ Value::Object(_))) => self.at(name.as_str(), schema, value),
                (None, _) => {}
            }
        }
        if !unknown.is_empty() {
            let listed: Vec<String> = unknown.iter().map(|name| format!("\"{name}\"")).collect();
            let plural = if unknown.len() == 1 { "" } else { "s" };
            self.say("unrecognized_keys", format!("Unrecognized key{plural}: {}", listed.join(", ")), json!({"keys": unknown}));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(schema: &Value, value: &Value) -> Vec<String> {
        let said = |issue: &Value| format!("{} {}", issue["path"], issue["message"].as_str().unwrap());
        issues(&json!({"Name": {"type": "string", "minLength": 1}}), schema, value).iter().map(said).collect()
    }

    #[test]
    fn findings_are_those_of_the_contract() {
        let record = json!({"type": "object", "additionalProperties": {"type": "object"}});
        let body = json!({
            "type": "object",
            "additionalProperties": false,
            "required": ["workflowId"],
            "properties": {
                "workflowId": {"$ref": "#/components/schemas/Name"},
                "values": {"oneOf": [{"type": "null"}, record]},
                "row": {"type": ["integer", "null"], "minimum": 0},
            }
        });
        assert!(found(&body, &json!({"workflowId": "a", "values": {"n": {}}, "row": null})).is_empty());
        assert_eq!(
            found(&body, &json!({"values": {"prompt": "x"}, "source": 1, "row": -1})),
            [
                "[\"workflowId\"] Invalid input: expected value, received undefined",
                "[\"values\",\"prompt\"] Invalid input: expected record, received string",
                "[\"row\"] Too small: expected number to be >=0",
                "[] Unrecognized key: \"source\"",
            ]
        );
        assert_eq!(found(&body, &json!({"workflowId": ""})), ["[\"workflowId\"] Too small: expected string to have >=1 characters"]);
        assert_eq!(found(&body, &json!([])), ["[] Invalid input: expected object, received array"]);
    }
}
