//! `${{shared.NAME}}` and `${{service.NAME}}` in what a workflow tells its nodes: put in for one attempt, with the rights of whoever started
//! the run. What is kept of the node has the reference, and a mask where the value comes back.

use domain::EnvironmentId;
use domain::redact::Redactor;
use domain::variable::Filling;
use domain::workflow::catalogue::ENVIRONMENT;
use ops::variable::variables_in_reach;
use serde_json::Value;

use super::{Attempt, Failure, platform};
use crate::workflow::worker::Given;

/// The attempt with the variables' values, and what knows them.
pub(super) async fn filled(attempt: &Attempt) -> Result<(Attempt, Redactor), Failure> {
    let id = attempt.input.get(ENVIRONMENT).and_then(Value::as_str).unwrap_or_default();
    let environment: EnvironmentId =
        id.parse().map_err(|_| Failure::once(format!("{ENVIRONMENT}: an id such as list_apps gives is needed")))?;
    let ctx = platform::owner(attempt).await?;
    let scope = variables_in_reach(&ctx, environment).await.map_err(platform::failure)?;
    let mut filling = Filling::of(&scope);
    let mut filled = attempt.clone();
    for name in &attempt.refers {
        if let Some(value) = filled.input.get_mut(name) {
            *value = filling.fill(value).map_err(|reason| Failure::once(format!("{name}: {reason}")))?;
        }
    }
    Ok((filled, filling.redactor()))
}

/// What came of it, without what was put in.
pub(super) fn hidden(outcome: Result<Given, Failure>, redactor: &Redactor) -> Result<Given, Failure> {
    let given = outcome.map_err(|failure| Failure { text: redactor.apply(failure.text), ..failure })?;
    let output = given.output.into_iter().map(|(name, value)| (name, redactor.apply_within(value))).collect();
    Ok(Given { output, logs: given.logs.into_iter().map(|line| redactor.apply(line)).collect() })
}
