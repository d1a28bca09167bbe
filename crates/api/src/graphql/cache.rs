//! Operations that were parsed and validated, by their text.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use juniper::{EmptyMutation, EmptySubscription, ExecutionError, GraphQLError, OperationType, ValidatedOperation, Value, Variables};
use ops::auth::Surface;
use self_cell::self_cell;

use super::answer::Rejection;
use super::document::{self, Document};
use super::{Ctx, Scalar, lock, types};
use crate::galaxy;
use crate::railway::{self, Mutation, Query, Subscription};

/// Entries and bytes (estimated) of one generation; two are kept.
const MAX_ENTRIES: usize = 500;
const MAX_BYTES: usize = 4 << 20;
/// Longer documents are validated each time.
const MAX_TEXT: usize = 64 << 10;

/// An operation's text and name.
pub(crate) struct Source {
    text: String,
    operation: Option<String>,
}

type ValidatedGalaxy<'a> = ValidatedOperation<'a, galaxy::Query, galaxy::Mutation, EmptySubscription<Ctx>, Scalar>;
type Validated<'a> = ValidatedOperation<'a, Query, Mutation, Subscription, Scalar>;
type ValidatedEvents<'a> = ValidatedOperation<'a, Subscription, EmptyMutation<Ctx>, EmptySubscription<Ctx>, Scalar>;

self_cell!(
    /// A validated operation beside the text that it points into.
    pub(crate) struct RailwayOperation {
        owner: Source,
        #[covariant]
        dependent: Validated,
    }
);

self_cell!(
    /// The same of Galaxy's schema.
    pub(crate) struct GalaxyOperation {
        owner: Source,
        #[covariant]
        dependent: ValidatedGalaxy,
    }
);

/// A validated operation of either schema.
pub(crate) enum Operation {
    Railway(RailwayOperation),
    Galaxy(GalaxyOperation),
}

impl Operation {
    fn new(surface: Surface, source: Source) -> Result<Self, GraphQLError> {
        if surface == Surface::Galaxy {
            let validated = GalaxyOperation::try_new(source, |source| {
                ValidatedOperation::new(&source.text, source.operation.as_deref(), galaxy::schema())
            });
            return validated.map(Self::Galaxy);
        }
        let validated = RailwayOperation::try_new(source, |source| {
            ValidatedOperation::new(&source.text, source.operation.as_deref(), railway::schema())
        });
        validated.map(Self::Railway)
    }

    pub(crate) fn execute(
        &self,
        variables: &Variables<Scalar>,
        ctx: &Ctx,
    ) -> Result<(Value<Scalar>, Vec<ExecutionError<Scalar>>), GraphQLError> {
        match self {
            Self::Railway(operation) => operation.borrow_dependent().execute_sync(variables, ctx),
            Self::Galaxy(operation) => operation.borrow_dependent().execute_sync(variables, ctx),
        }
    }
}

self_cell!(
    /// A subscription's selection as a query over one event.
    pub(crate) struct EventOperation {
        owner: Source,
        #[covariant]
        dependent: ValidatedEvents,
    }
);

/// A document that can be executed any number of times.
pub(crate) struct Prepared {
    pub(crate) document: Document,
    pub(crate) operation: Operation,
    /// For subscriptions.
    pub(crate) events: Option<EventOperation>,
}

impl Prepared {
    fn new(surface: Surface, text: &str, operation: Option<&str>) -> Result<Self, Rejection> {
        let idle = (surface == Surface::Galaxy).then_some(galaxy::KEY_VARIABLE);
        let document = document::read(text, operation, types(surface), idle)?;
        let source = |text: String| Source { text, operation: document.operation.clone() };
        let validated = Operation::new(surface, source(document.text.clone()))?;
        let events = if document.kind == OperationType::Subscription { Some(as_query(&document, source)?) } else { None };
        Ok(Self { document, operation: validated, events })
    }
}

/// The selection of a subscription is executed once per event, as a query on a schema whose query type is the subscription type. Both
/// keywords are written with the same length, so that positions in errors stay right.
fn as_query(document: &Document, source: impl Fn(String) -> Source) -> Result<EventOperation, Rejection> {
    if document.roots.len() != 1 {
        return Err(Rejection::bad_request("A subscription must select only one top level field.", None));
    }
    let mut text = document.text.clone();
    let keyword = document.keyword..document.keyword + "subscription".len();
    if text.get(keyword.clone()) != Some("subscription") {
        return Err(GraphQLError::NotSubscription.into());
    }
    text.replace_range(keyword, "query       ");
    Ok(EventOperation::try_new(source(text), |source| {
        ValidatedOperation::new(&source.text, source.operation.as_deref(), railway::event_schema())
    })?)
}

/// The operations of one document that were asked for, by name.
type Entry = Vec<(Option<String>, Arc<Prepared>)>;

/// Two generations: what is used moves to the young one, and when that is full the old one is dropped.
#[derive(Default)]
pub(crate) struct Cache(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: HashMap<String, Entry>,
    entries: usize,
    bytes: usize,
    old: HashMap<String, Entry>,
}

fn find(map: &HashMap<String, Entry>, text: &str, operation: Option<&str>) -> Option<Arc<Prepared>> {
    let found = map.get(text)?.iter().find(|(name, _)| name.as_deref() == operation)?;
    Some(Arc::clone(&found.1))
}

impl Cache {
    /// The operation for a text, validated now if it was not lately.
    pub(crate) fn get(&self, surface: Surface, text: &str, operation: Option<&str>) -> Result<Arc<Prepared>, Rejection> {
        {
            let mut cache = lock(&self.0);
            if let Some(found) = find(&cache.young, text, operation) {
                return Ok(found);
            }
            if let Some(found) = find(&cache.old, text, operation) {
                cache.insert(text, operation, Arc::clone(&found));
                return Ok(found);
            }
        }
        let made = Arc::new(Prepared::new(surface, text, operation)?);
        if text.len() <= MAX_TEXT {
            lock(&self.0).insert(text, operation, Arc::clone(&made));
        }
        Ok(made)
    }
}

impl Generations {
    fn insert(&mut self, text: &str, operation: Option<&str>, value: Arc<Prepared>) {
        // The tree takes about sixteen times the room of its text.
        let bytes = 1_024 + text.len() * 16;
        if self.entries >= MAX_ENTRIES || self.bytes + bytes > MAX_BYTES {
            self.old = std::mem::take(&mut self.young);
            (self.entries, self.bytes) = (0, 0);
        }
        self.entries += 1;
        self.bytes += bytes;
        self.young.entry(text.to_owned()).or_default().push((operation.map(str::to_owned), value));
    }
}
