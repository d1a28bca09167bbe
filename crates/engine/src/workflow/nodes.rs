//! What each kind of node does. Those that execute what a user wrote are performed by a worker; the others reach outside for it.

mod film;
mod http;
mod image;
mod javascript;
mod json_transform;
mod llm;
mod logic;
mod picture;
mod platform;
mod sql;
mod template;
mod variables;

use std::sync::Arc;

use domain::workflow::catalogue::FETCH_FILE;
use domain::workflow::run::Run;
use domain::{NodeRunId, Timestamp};
use serde_json::{Map, Value};

use super::Flow;
use super::worker::Given;

pub(super) use film::clear;

/// Why a node gave nothing.
#[derive(Debug)]
pub(crate) struct Failure {
    /// For the run's owner.
    pub(crate) text: String,
    /// Whether another attempt could go better.
    pub(crate) repeatable: bool,
}

impl Failure {
    /// Another attempt would meet it again.
    pub(crate) fn once(text: impl Into<String>) -> Self {
        Self { text: text.into(), repeatable: false }
    }

    /// Another attempt may go better.
    pub(crate) fn again(text: impl Into<String>) -> Self {
        Self { text: text.into(), repeatable: true }
    }
}

/// One attempt of a node.
#[derive(Clone)]
pub(crate) struct Attempt {
    pub(crate) flow: Arc<Flow>,
    pub(crate) run: Arc<Run>,
    /// The type's key in the catalogue.
    pub(crate) kind: String,
    /// Stays the same when the node is performed again.
    pub(crate) key: NodeRunId,
    /// Which node.
    pub(crate) node_id: String,
    /// What its owner calls it.
    pub(crate) label: String,
    pub(crate) input: Map<String, Value>,
    /// The inputs that may refer to variables.
    pub(crate) refers: Vec<String>,
}

/// Performs a node. What its inputs refer to is known to this attempt alone: what comes back of it is hidden.
pub(crate) async fn perform(attempt: &Attempt) -> Result<Given, Failure> {
    if attempt.refers.is_empty() {
        return act(attempt).await;
    }
    let (filled, redactor) = variables::filled(attempt).await?;
    variables::hidden(act(&filled).await, &redactor)
}

async fn act(attempt: &Attempt) -> Result<Given, Failure> {
    match attempt.kind.as_str() {
        "condition" => logic::condition(&attempt.input).map_err(Failure::once),
        "merge" => Ok(logic::merge(&attempt.input)),
        "file_input" => Ok(logic::file_input(&attempt.input)),
        "delay" => Ok(logic::hand_on(&attempt.input)),
        "text_template" | "json_transform" | "javascript" => {
            attempt.flow.workers.perform(attempt.run.workspace_id, &attempt.kind, &attempt.input).await
        }
        "http_request" => http::request(attempt).await,
        FETCH_FILE => picture::copy(attempt).await,
        "notify" => http::notify(attempt).await,
        "crop_image" | "resize_image" => picture::work_on(attempt).await,
        kind if is_film(kind) => film::work_on(attempt).await,
        "sql_query" => sql::query(attempt).await,
        kind if platform::verb(kind).is_some() => platform::perform(attempt).await,
        kind => llm::ask(attempt, kind).await,
    }
}

/// Whether a kind takes a turn at ffmpeg.
pub(crate) fn is_film(kind: &str) -> bool {
    matches!(kind, "merge_videos" | "extract_audio" | "merge_av")
}

/// Whether a worker performs nodes of a type, at least for a part.
pub(crate) fn is_confined(kind: &str) -> bool {
    matches!(kind, "text_template" | "json_transform" | "javascript" | "crop_image" | "resize_image")
}

/// When a node is done by waiting alone, given when it began.
pub(crate) fn waits_until(kind: &str, input: &Map<String, Value>, began: Timestamp) -> Option<Timestamp> {
    if kind != "delay" {
        return None;
    }
    let seconds = input.get("seconds").and_then(Value::as_f64).unwrap_or_default();
    #[expect(clippy::cast_possible_truncation, reason = "at most 30 days, as the catalogue says")]
    began.checked_add(jiff::SignedDuration::from_millis((seconds * 1000.0) as i64)).ok()
}

/// What a worker performs.
pub(super) fn confined(kind: &str, input: Map<String, Value>) -> Result<Given, String> {
    match kind {
        "text_template" => template::fill(&input),
        "json_transform" => json_transform::run(input),
        "javascript" => javascript::run(&input),
        "crop_image" => image::crop(&input),
        "resize_image" => image::resize(&input),
        other => Err(format!("a worker does not know {other}")),
    }
}

/// An output with one entry.
fn one(name: &str, value: impl Into<Value>) -> Given {
    Given { output: Map::from_iter([(name.to_owned(), value.into())]), logs: vec![] }
}
