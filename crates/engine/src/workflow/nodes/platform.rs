//! The platform's own verbs, through the same functions as everybody else's, with the rights of whoever started the run.

use domain::{Code, Tenant, Timestamp};
use ops::idempotency::{self, Repeat};
use ops::platform::platform_call;
use ops::{Error, OpCtx};
use serde_json::{Map, Value};
use sha2::{Digest, Sha256};
use store::KeptAnswer;

use super::{Attempt, Failure};
use crate::workflow::worker::Given;

/// The verb behind a type of node.
pub(super) fn verb(kind: &str) -> Option<&str> {
    match kind {
        "deploy" | "redeploy" | "rollback" | "restart" | "scale" | "set_variable" | "create_environment" => Some(kind),
        "read_metrics" => Some("metrics"),
        "read_logs" => Some("logs"),
        _ => None,
    }
}

pub(super) fn failure(error: Error) -> Failure {
    error.log("workflow");
    Failure { repeatable: error.is_passing(), text: error.public }
}

/// The circumstances of a run: its owner's rights.
pub(super) async fn owner(attempt: &Attempt) -> Result<OpCtx, Failure> {
    let (ops, run, now) = (&attempt.flow.shared.ops, &attempt.run, Timestamp::now());
    let principal = ops::auth::acting_for_run(ops, Tenant::system(run.workspace_id), run, now).await.map_err(failure)?;
    Ok(OpCtx { ops: ops.clone(), principal, request_id: format!("run {}", run.id), address: None, now })
}

pub(super) async fn perform(attempt: &Attempt) -> Result<Given, Failure> {
    let ctx = owner(attempt).await?;
    let verb = verb(&attempt.kind).unwrap_or_default();
    let given: Map<String, Value> = attempt.input.iter().map(|(key, value)| (camel(key), value.clone())).collect();
    if matches!(verb, "metrics" | "logs") {
        return Ok(output(platform_call(&ctx, verb, &given).await.map_err(failure)?));
    }
    once(&ctx, attempt, verb, &given).await.map(output).map_err(failure)
}

/// Calls a verb under the node run's id: a repetition after a kill finds the answer of the first time.
async fn once(ctx: &OpCtx, attempt: &Attempt, verb: &str, given: &Map<String, Value>) -> Result<Value, Error> {
    let fingerprint = Sha256::digest(Value::Object(given.clone()).to_string().as_bytes()).into();
    let name = format!("node/{}/{verb}", domain::cuid(attempt.key.0));
    let begun = match idempotency::begin(&ctx.ops, &ctx.principal, &name, fingerprint, ctx.now).await {
        Ok(Some(Repeat::Again(kept))) => {
            return serde_json::from_slice(&kept.body).map_err(|error| Error::internal("a kept answer", error));
        }
        Ok(Some(Repeat::First(begun))) => Some(begun),
        // The first attempt was cut off in the middle: whether it was committed nobody knows, and it is to be done at least once.
        Err(error) if error.code == Code::Conflict => None,
        Ok(None) => None,
        Err(error) => return Err(error),
    };
    let outcome = platform_call(ctx, verb, given).await;
    if let Some(begun) = begun {
        let kept = outcome.as_ref().ok().map(|value| KeptAnswer { status: 200, content_type: None, body: value.to_string().into_bytes() });
        idempotency::finish(&ctx.ops, &begun, kept.as_ref()).await?;
    }
    outcome
}

fn output(value: Value) -> Given {
    let mut output: Map<String, Value> = value.as_object().into_iter().flatten().map(|(key, value)| (snake(key), value.clone())).collect();
    output.insert("result".to_owned(), value);
    Given { output, logs: vec![] }
}

/// Inputs of nodes are written in one way, arguments of verbs in the other.
fn camel(name: &str) -> String {
    let mut words = name.split('_');
    let first = words.next().unwrap_or_default().to_owned();
    words.fold(first, |text, word| {
        let mut letters = word.chars();
        let head = letters.next().map(|letter| letter.to_ascii_uppercase());
        text + &head.into_iter().chain(letters).collect::<String>()
    })
}

fn snake(name: &str) -> String {
    let mut out = String::new();
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(letter.to_ascii_lowercase());
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_change_their_form_and_back() {
        for (one, other) in [("environment_id", "environmentId"), ("skip_deploys", "skipDeploys"), ("name", "name")] {
            assert_eq!((camel(one).as_str(), snake(other).as_str()), (other, one));
        }
    }
}
