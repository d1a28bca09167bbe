//! What tools say of a run that somebody waits for: what it gave comes first (`contracts/flow.md` 3.3).

use std::time::Duration;

use domain::workflow::catalogue::Catalogue;
use domain::workflow::run::Subject;
use domain::workflow::{FILE_INPUT, RESPONSE};
use ops::OpCtx;
use ops::run::RunView;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::tools::value;
use crate::flow::answer::Refused;
use crate::flow::catalogue;
use crate::flow::runs::{run_id, run_shape};

/// How long somebody waits for the end of a run who does not say it, in seconds.
const WAIT: u64 = 25;
/// The longest that they can: a request ends after a minute.
const LONGEST: u64 = 50;
/// What happens in another process rings no bell here.
const LOOK: Duration = Duration::from_secs(1);

/// A run of a workflow with its nodes.
pub(super) async fn run(ctx: &OpCtx, id: &str) -> Result<Value, Refused> {
    let view = ops::run::run_get(ctx, run_id(id)?, true).await?;
    let response = view.nodes.iter().find(|node| node.node_type == RESPONSE);
    let output = response.and_then(|node| node.output.clone()).unwrap_or_default();
    // What the workflow answers stands before what it took to get there.
    let nodes = view.nodes.iter().filter(|node| node.node_type != RESPONSE);
    let outputs = response.into_iter().chain(nodes).filter_map(|node| Some((node.node_type.as_str(), node.output.as_ref()?)));
    let assets = assets(&ctx.ops.settings.flow.catalogue, outputs);
    let (id, status) = (view.run.id.0.to_string(), view.run.status);
    let first = json!({"runId": id, "status": status.as_str(), "output": output, "assets": assets});
    Ok(with_rest(first, value(run_shape(ctx, view, true))?))
}

/// A node that ran by itself.
pub(super) async fn model_run(ctx: &OpCtx, id: &str) -> Result<Value, Refused> {
    let rest = value(catalogue::direct(ctx, id).await?)?;
    let kind = rest["nodeType"].as_str().unwrap_or_default();
    let assets = assets(&ctx.ops.settings.flow.catalogue, [(kind, &rest["output"])]);
    let first = json!({"runId": rest["id"], "status": rest["status"], "output": rest["output"], "assets": assets});
    Ok(with_rest(first, rest))
}

/// Either of them, once it is over or `seconds` have passed.
pub(super) async fn awaited(ctx: &OpCtx, id: &str, seconds: Option<u64>) -> Result<Value, Refused> {
    let until = Instant::now() + Duration::from_secs(seconds.unwrap_or(WAIT).min(LONGEST));
    let mut rings = ctx.ops.signals.runs();
    loop {
        rings.mark_unchanged();
        let RunView { run: found, .. } = ops::run::run_get(ctx, run_id(id)?, false).await?;
        let left = until.saturating_duration_since(Instant::now());
        if found.status.is_over() || left.is_zero() {
            return if matches!(found.subject, Subject::Node { .. }) { model_run(ctx, id).await } else { run(ctx, id).await };
        }
        // Silence is as good a reason to look as a ring.
        let _ = tokio::time::timeout(left.min(LOOK), rings.changed()).await;
    }
}

fn with_rest(first: Value, rest: Value) -> Value {
    let (mut out, rest): (Map<String, Value>, Map<String, Value>) = match (first, rest) {
        (Value::Object(first), Value::Object(rest)) => (first, rest),
        (first, _) => return first,
    };
    for (name, value) in rest {
        out.entry(name).or_insert(value);
    }
    Value::Object(out)
}

/// The files in outputs of nodes, each once: `{url}`. What the workflow brought along is none.
fn assets<'a>(catalogue: &Catalogue, outputs: impl IntoIterator<Item = (&'a str, &'a Value)>) -> Vec<Value> {
    let mut found: Vec<Value> = vec![];
    for (kind, output) in outputs.into_iter().filter(|(kind, _)| *kind != FILE_INPUT) {
        let ports = catalogue.get(kind).map(|kind| kind.outputs.as_slice()).unwrap_or_default();
        // The response node has no ports, and hands on what others gave.
        let is_file = |name: &str| kind == RESPONSE || ports.iter().any(|(port, of)| *port == name && of.is_media());
        for (_, value) in output.as_object().into_iter().flatten().filter(|(name, _)| is_file(name)) {
            let all = value.as_array().map_or_else(|| std::slice::from_ref(value), Vec::as_slice);
            for url in all.iter().filter_map(Value::as_str).filter(|text| is_address(text)) {
                let asset = json!({"url": url});
                if !found.contains(&asset) {
                    found.push(asset);
                }
            }
        }
    }
    found
}

fn is_address(text: &str) -> bool {
    (text.starts_with("https://") || text.starts_with("http://")) && !text.contains(char::is_whitespace)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_once_and_words_are_none() {
        let response = json!({"crop_image": "https://a/1.png", "gpt_5": "https://a/ is an address", "merge": ["https://a/2.png", 7]});
        let crop = json!({"width": 2, "image_url": "https://a/1.png"});
        let fetched = json!({"body": "https://b/", "status": 200});
        let brought = json!({"file": "https://c/"});
        let outputs = [("response", &response), ("crop_image", &crop), ("http_request", &fetched), ("file_input", &brought)];
        assert_eq!(assets(&Catalogue::new([]), outputs), [json!({"url": "https://a/1.png"}), json!({"url": "https://a/2.png"})]);
    }

    #[test]
    fn what_is_first_stays_first() {
        let whole = with_rest(json!({"runId": "a", "output": 1}), json!({"id": "a", "output": 2, "nodeRuns": []}));
        assert_eq!(whole.to_string(), r#"{"runId":"a","output":1,"id":"a","nodeRuns":[]}"#);
    }
}
