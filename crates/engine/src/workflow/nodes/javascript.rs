//! `javascript`: a function body in QuickJS, with limits on memory, stack and time, and neither files nor network.

use std::time::{Duration, Instant};

use rquickjs::{CatchResultExt as _, Context, Ctx, Function, Object, Runtime};
use serde_json::{Map, Value};

use super::one;
use crate::workflow::worker::Given;

const MEMORY: usize = 64 << 20;
const STACK: usize = 512 << 10;
/// Below the node's own limit, so that the error can say what happened.
const TIME: Duration = Duration::from_secs(20);
/// Lines that a node may write down.
const LINES: usize = 1000;

pub(super) fn run(input: &Map<String, Value>) -> Result<Given, String> {
    let runtime = Runtime::new().map_err(|error| error.to_string())?;
    runtime.set_memory_limit(MEMORY);
    runtime.set_max_stack_size(STACK);
    let end = Instant::now() + TIME;
    runtime.set_interrupt_handler(Some(Box::new(move || Instant::now() > end)));
    let context = Context::full(&runtime).map_err(|error| error.to_string())?;
    let outcome = context.with(|ctx| inside(&ctx, input));
    outcome.map_err(|error| if Instant::now() > end { format!("it ran for more than {} seconds", TIME.as_secs()) } else { error })
}

/// What the user's code finds around it.
const FRAME: &str = "(function (names, values, code) {
  const logs = [];
  const text = (value) => typeof value === 'string' ? value : JSON.stringify(value);
  const log = (...all) => { if (logs.length < 1000) logs.push(all.map(text).join(' ')); };
  globalThis.console = { log, info: log, warn: log, error: log, debug: log };
  const inputs = JSON.parse(values);
  const result = new Function(...names, '\"use strict\";\\n' + code)(...names.map((name) => inputs[name]));
  if (result && typeof result.then === 'function') throw new Error('promises are not awaited here: return the value itself');
  return JSON.stringify({ result: result === undefined ? null : result, logs });
})";

fn inside(ctx: &Ctx<'_>, input: &Map<String, Value>) -> Result<Given, String> {
    let code = input.get("code").and_then(Value::as_str).unwrap_or_default();
    let mut values: Map<String, Value> =
        input.iter().filter(|(key, _)| *key != "code").map(|(key, value)| (key.clone(), value.clone())).collect();
    values.entry("input").or_insert(Value::Null);
    let names: Vec<String> = values.keys().cloned().collect();
    let frame: Function<'_> = ctx.eval(FRAME).catch(ctx).map_err(|error| error.to_string())?;
    let answer: String = frame.call((names, Value::Object(values).to_string(), code)).catch(ctx).map_err(|error| words(&error))?;
    let answer: Value = serde_json::from_str(&answer).map_err(|error| error.to_string())?;
    let logs = answer["logs"].as_array().into_iter().flatten().filter_map(Value::as_str).take(LINES).map(str::to_owned).collect();
    Ok(Given { logs, ..one("result", answer["result"].clone()) })
}

fn words(error: &rquickjs::CaughtError<'_>) -> String {
    let thrown = match error {
        rquickjs::CaughtError::Exception(exception) => exception.message(),
        rquickjs::CaughtError::Value(value) => value.as_string().and_then(|text| text.to_string().ok()),
        rquickjs::CaughtError::Error(_) => None,
    };
    let text = thrown.unwrap_or_else(|| error.to_string());
    let kind = match error {
        rquickjs::CaughtError::Exception(exception) => {
            let object: &Object<'_> = exception.as_object();
            object.get::<_, String>("name").ok()
        }
        _ => None,
    };
    kind.map_or_else(|| text.clone(), |kind| format!("{kind}: {text}"))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ran(value: Value) -> Result<Given, String> {
        run(value.as_object().expect("an object"))
    }

    #[test]
    fn a_body_computes() {
        let given = ran(json!({"code": "console.log('n is', n); return input.map(x => x * n)", "input": [1, 2], "n": 3})).unwrap();
        assert_eq!((given.output["result"].clone(), given.logs), (json!([3, 6]), vec!["n is 3".to_owned()]));
        assert_eq!(ran(json!({"code": ""})).unwrap().output["result"], Value::Null);
    }

    #[test]
    fn what_goes_wrong_is_named() {
        assert_eq!(ran(json!({"code": "throw new TypeError('no')"})).unwrap_err(), "TypeError: no");
        assert!(ran(json!({"code": "return ]"})).unwrap_err().contains("SyntaxError"));
        assert!(ran(json!({"code": "return fetch('http://127.0.0.1')"})).unwrap_err().contains("fetch"));
        assert!(ran(json!({"code": "const a = []; for (;;) a.push('x'.repeat(1e6) + a.length)"})).unwrap_err().contains("memory"));
        assert!(ran(json!({"code": "const f = () => f(); f()"})).unwrap_err().contains("stack"));
    }
}
