//! Answers of a moment ago: the same question of the same principal, while nothing has changed in the store.
//!
//! Entries are bound to [`store::Store::version`], which every commit of every process changes, so an answer is never older than the
//! data. Only what is read from the store alone is kept; logs are not, and neither is anything that holds the value of a variable. What
//! depends on the clock or on artifacts as well is kept within a minute.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use juniper::OperationType;
use ops::{OpCtx, Principal, Via};
use uuid::Uuid;

use super::document::Document;
use super::{GraphqlRequest, lock};

/// Bytes of all answers together, and of one.
const MAX_BYTES: usize = 16 << 20;
const MAX_ANSWER: usize = 128 << 10;

/// Root fields whose answers come from the store and from nowhere else.
const FROM_STORE: &[&str] = &[
    "deployment",
    "deployments",
    "domains",
    "environment",
    "environments",
    "externalWorkspaces",
    "me",
    "project",
    "projects",
    "regions",
    "service",
    "serviceInstance",
    "workspace",
];
/// Parts of field names whose values must not lie around, or change with every request.
const NEVER: &[&str] = &["ariable", "onfig", "ateLimit"];
/// Parts of field names whose values change without a commit: the next run of a schedule, the requests of today, whether a certificate
/// holds and whether an artifact is still there.
const TIMED: &[&str] = &["extCronRunAt", "lanUse", "ertificate", "anRollback"];

#[derive(PartialEq, Eq, Hash)]
struct Question {
    asker: Uuid,
    query: String,
    operation: Option<String>,
    variables: String,
}

struct Answer {
    version: u64,
    /// The only minute in which it is true; any, while the version stands, for `None`.
    minute: Option<i64>,
    body: Arc<[u8]>,
}

/// The answers.
#[derive(Default)]
pub(crate) struct Recent(Mutex<(HashMap<Question, Answer>, usize)>);

/// A question that may be answered from memory, asked at a version of the store and in a minute.
pub(crate) struct Asked {
    question: Question,
    version: u64,
    minute: i64,
}

impl Recent {
    /// The kept answer, or what is needed to keep one.
    pub(crate) fn ask(&self, ctx: &OpCtx, request: &GraphqlRequest) -> Result<Arc<[u8]>, Option<Asked>> {
        let Some((asker, version)) = asker(ctx).zip(ctx.ops.store.version()) else { return Err(None) };
        let variables = match &request.variables {
            None => String::new(),
            Some(fields) if fields.is_empty() => String::new(),
            Some(fields) => serde_json::to_string(fields).unwrap_or_default(),
        };
        let question = Question { asker, query: request.query.clone(), operation: request.operation_name.clone(), variables };
        let minute = ctx.now.as_second().div_euclid(60);
        match lock(&self.0).0.get(&question) {
            Some(answer) if answer.version == version && answer.minute.is_none_or(|only| only == minute) => Ok(Arc::clone(&answer.body)),
            _ => Err(Some(Asked { question, version, minute })),
        }
    }

    /// Keeps an answer without errors, if it is of a kind that may be kept.
    pub(crate) fn keep(&self, asked: Option<Asked>, document: &Document, body: &[u8]) {
        let Some(Asked { question, version, minute }) = asked else { return };
        let text = &question.query;
        let kept = document.kind == OperationType::Query
            && document.roots.iter().all(|root| FROM_STORE.contains(&root.name.as_str()))
            && !NEVER.iter().any(|part| text.contains(part))
            && body.len() <= MAX_ANSWER
            && body.starts_with(b"{\"data\":");
        if !kept {
            return;
        }
        let minute = TIMED.iter().any(|part| text.contains(part)).then_some(minute);
        let size = |question: &Question, body: usize| 200 + question.query.len() + question.variables.len() + body;
        let mut guard = lock(&self.0);
        let (answers, bytes) = &mut *guard;
        *bytes += size(&question, body.len());
        if *bytes > MAX_BYTES {
            answers.clear();
            *bytes = size(&question, body.len());
        }
        let added = size(&question, body.len());
        if let Some(earlier) = answers.insert(question, Answer { version, minute, body: body.into() }) {
            // The question is the same; only the earlier body's share goes.
            *bytes -= added - body.len() + earlier.body.len();
        }
    }
}

/// What tells principals apart: their key or their session, whose reach is part of the version.
fn asker(ctx: &OpCtx) -> Option<Uuid> {
    match &ctx.principal {
        Principal::Anonymous | Principal::System(_) => None,
        Principal::User(person) => match person.via {
            Via::Session(session) => Some(session.0),
            Via::Key(key, _) => Some(key.0),
            Via::Absent | Via::Server => None,
        },
        Principal::Key(key) => Some(key.key.id.0),
    }
}
