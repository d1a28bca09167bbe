//! `json_transform`: jq's language through jaq.

use jaq_core::load::{Arena, File, Loader};
use jaq_core::{Compiler, Ctx, Vars, data, unwrap_valr};
use jaq_json::Val;
use serde_json::{Map, Value};

use super::one;
use crate::workflow::worker::Given;

/// Results that a program may give.
const RESULTS: usize = 100_000;

/// One result is the result; several become a list, none null.
pub(super) fn run(mut input: Map<String, Value>) -> Result<Given, String> {
    let query = match input.shift_remove("query") {
        Some(Value::String(query)) => query,
        _ => return Err("query: a jq program is missing".to_owned()),
    };
    let value = input.shift_remove("input").unwrap_or(Value::Object(input));
    let value: Val = serde_json::from_value(value).map_err(|error| error.to_string())?;
    let defs = jaq_core::defs().chain(jaq_std::defs()).chain(jaq_json::defs());
    // `env` and `input` would tell of the server; `now` and the rest are harmless.
    let funs = jaq_core::funs().chain(jaq_std::funs()).chain(jaq_json::funs());
    let arena = Arena::default();
    let modules = Loader::new(defs).load(&arena, File { code: query.as_str(), path: () });
    let modules = modules.map_err(|errors| format!("query: this is no jq program: {}", brief(&format!("{errors:?}"))))?;
    let filter = Compiler::default().with_funs(funs).compile(modules);
    let filter = filter.map_err(|errors| format!("query: it uses what there is not: {}", brief(&format!("{errors:?}"))))?;
    let context = Ctx::<data::JustLut<Val>>::new(&filter.lut, Vars::new([]));
    let mut results = vec![];
    for result in filter.id.run((context, value)).map(unwrap_valr) {
        let result = result.map_err(|error| format!("query: {error}"))?;
        if results.len() >= RESULTS {
            return Err(format!("query: it gives more than {RESULTS} results"));
        }
        results.push(serde_json::from_str::<Value>(&result.to_string()).map_err(|error| format!("query: its result is no JSON: {error}"))?);
    }
    let result = match results.len() {
        0 => Value::Null,
        1 => results.remove(0),
        _ => Value::Array(results),
    };
    Ok(one("result", result))
}

fn brief(text: &str) -> String {
    text.chars().take(300).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn asked(value: Value) -> Result<Value, String> {
        run(value.as_object().cloned().expect("an object")).map(|given| given.output["result"].clone())
    }

    #[test]
    fn a_program_picks_and_counts() {
        let input = json!([{"name": "a", "n": 1}, {"name": "b", "n": 2}]);
        assert_eq!(asked(json!({"query": "map(.n) | add", "input": input})), Ok(json!(3)));
        assert_eq!(asked(json!({"query": ".[].name", "input": input})), Ok(json!(["a", "b"])));
        assert_eq!(asked(json!({"query": ".a + .b", "a": 1, "b": 2})), Ok(json!(3)));
        assert_eq!(asked(json!({"query": "empty", "input": null})), Ok(Value::Null));
        assert!(asked(json!({"query": ".[", "input": null})).is_err());
        assert!(asked(json!({"query": "nothing_of_that_name", "input": null})).is_err());
        assert!(asked(json!({"query": ".a", "input": 1})).is_err());
    }
}
