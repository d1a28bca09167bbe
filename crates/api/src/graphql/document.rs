//! A document before it is validated: limits that the library does not have, an estimate of what it costs, and three rewrites of its text.
//!
//! The library bounds tokens, nesting and the fields that fragments expand to (see [`crate::railway::schema`]); this module adds
//! aliases, directives and root fields. The rewrites are
//! * the shape of 2022, `services { edges { node { deployments { id } } } }` (`contracts/railway.md` 5): a selection on
//!   `Service.deployments` that has no arguments and names nothing of a connection is sent through `edges` and `node`, and [`flatten`]
//!   turns the answer back into the plain list;
//! * JSON written into the document (`variables: {A: "1"}`): the library takes only simple values there, so such a literal becomes a
//!   variable of its own;
//! * a variable that a surface takes out of the request itself, and that an operation declares without a use for it: the declaration goes.
//!
//! The tree is parsed against an empty schema, so that literals are taken as they stand, and walked along the real one.

use std::sync::LazyLock;

use juniper::parser::{SourcePosition, parse_document_source};
use juniper::{Definition, EmptyMutation, EmptySubscription, GraphQLError, InputValue, OperationType, RootNode, Value, graphql_object};

use super::answer::Rejection;
use super::cost::Estimate;
use super::walk::Walk;
use super::{Ctx, MAX_DEPTH, MAX_FIELDS, MAX_TOKENS, Scalar, Types};

/// What the list of 2022 is called on its way through a connection.
pub(super) const PLAIN: &str = "__plain";

struct Nothing;

#[graphql_object(name = "Query", context = Ctx, scalar = Scalar)]
impl Nothing {
    // The parser asks the schema for these three types to read plain values.
    fn int() -> i32 {
        0
    }
    fn float() -> f64 {
        0.0
    }
    fn string() -> String {
        String::new()
    }
}

type Empty = RootNode<Nothing, EmptyMutation<Ctx>, EmptySubscription<Ctx>, Scalar>;

static EMPTY: LazyLock<Empty> = LazyLock::new(|| {
    RootNode::new_with_scalar_value(Nothing, EmptyMutation::new(), EmptySubscription::new())
        .limit_depth(MAX_DEPTH)
        .limit_tokens(MAX_TOKENS)
        .limit_fields(MAX_FIELDS)
});

/// A field of the operation's root.
#[derive(Clone, Debug)]
pub(crate) struct RootField {
    pub(crate) name: String,
    pub(crate) response: String,
    pub(crate) position: SourcePosition,
}

/// The declared type of a variable, as far as reading its value needs it.
#[derive(Clone, Debug)]
pub(crate) struct Declared {
    pub(crate) name: String,
    pub(crate) type_name: String,
}

/// What is known of a document without executing it.
pub(crate) struct Document {
    /// The text after the rewrites.
    pub(crate) text: String,
    pub(crate) kind: OperationType,
    pub(crate) operation: Option<String>,
    /// Where the operation's keyword stands in `text`, for subscriptions.
    pub(crate) keyword: usize,
    pub(crate) roots: Vec<RootField>,
    pub(crate) cost: Estimate,
    pub(crate) declared: Vec<Declared>,
    /// The answer has to go through [`flatten`].
    pub(crate) plain_lists: bool,
    /// Literals that became variables.
    pub(crate) lifted: Vec<(String, InputValue<Scalar>)>,
    /// Variables whose null says something where they stand.
    pub(crate) speaking: Vec<String>,
}

/// Reads a document. The variable `idle` may be declared without being used.
///
/// # Errors
/// What the client is told: a syntax error, an unknown operation, or a limit.
pub(crate) fn read(text: &str, wanted: Option<&str>, schema: &Types, idle: Option<&str>) -> Result<Document, Rejection> {
    let tree = parse_document_source::<Scalar>(text, &EMPTY.schema).map_err(|error| Rejection::from(GraphQLError::ParseError(error)))?;
    let mut walk = Walk::over(&tree, schema)?;
    let mut chosen = None;
    for definition in &tree {
        let Definition::Operation(operation) = definition else { continue };
        if wanted.is_none() && chosen.is_some() {
            return Err(GraphQLError::MultipleOperationsProvided.into());
        }
        let cost = walk.operation(text, operation)?;
        if wanted.is_none() || operation.item.name.as_ref().map(|name| name.item) == wanted {
            chosen = Some((operation, cost));
        }
    }
    let (operation, cost) = chosen.ok_or(GraphQLError::UnknownOperationName)?;
    let roots = walk.roots(&operation.item.selection_set);
    walk.check_limits(roots.len())?;
    let definitions = operation.item.variables_definition.iter().flat_map(|list| list.item.iter());
    let declared = definitions
        .map(|(name, one)| Declared { name: name.item.to_owned(), type_name: one.var_type.item.innermost_name().to_owned() })
        .collect();
    if let Some(name) = idle
        && walk.edits.is_empty()
    {
        walk.edits = without(text, &tree, name);
    }
    let lifted = walk.lifted.into_iter().map(|lifted| (lifted.name, lifted.value)).collect();
    let (text, keyword) = apply(text, walk.edits, operation.span.start.index());
    Ok(Document {
        text,
        kind: operation.item.operation_type,
        operation: wanted.map(str::to_owned),
        keyword,
        roots,
        cost: Estimate::new(cost),
        declared,
        plain_lists: walk.plain_lists,
        lifted,
        speaking: walk.speaking,
    })
}

/// Blanks the declarations of a variable that nothing uses, which the library refuses.
fn without(text: &str, tree: &[Definition<'_, Scalar>], name: &str) -> Vec<Edit> {
    let lists = tree.iter().filter_map(|definition| match definition {
        Definition::Operation(operation) => operation.item.variables_definition.as_ref(),
        Definition::Fragment(_) => None,
    });
    let mut edits = vec![];
    for list in lists {
        let items = &list.item.items;
        let Some(at) = items.iter().position(|(one, _)| one.item == name) else { continue };
        // A description of the next one stands before its name.
        if items.iter().any(|(_, one)| one.description.is_some()) {
            return vec![];
        }
        let (from, to) = match items.get(at + 1) {
            None if at == 0 => (list.span.start.index(), list.span.end.index()),
            next => {
                let end = next.map_or(list.span.end.index() - 1, |(next, _)| next.span.start.index());
                (items[at].0.span.start.index(), end)
            }
        };
        edits.push(Edit { from, to, with: " ".repeat(to - from) });
    }
    // Each declaration is written once; anything more may be a use.
    if text.matches(&format!("${name}")).count() > edits.len() { vec![] } else { edits }
}

/// A replacement in the text, in characters as the parser counts them.
pub(super) struct Edit {
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) with: String,
}

impl Edit {
    pub(super) fn insert(at: usize, with: String) -> Self {
        Self { from: at, to: at, with }
    }
}

/// Applies the edits; returns where the character at `mark` has gone, in bytes.
fn apply(text: &str, mut edits: Vec<Edit>, mark: usize) -> (String, usize) {
    let offsets: Vec<usize> = text.char_indices().map(|(at, _)| at).chain([text.len()]).collect();
    edits.sort_by_key(|edit| (edit.from, edit.to));
    let mut out = String::with_capacity(text.len() + edits.len() * 32);
    let mut done = 0;
    let mut moved = offsets[mark];
    for edit in edits {
        let (from, to) = (offsets[edit.from], offsets[edit.to]);
        if from < offsets[mark] {
            moved = moved + edit.with.len() - (to - from);
        }
        out.push_str(&text[done..from]);
        out.push_str(&edit.with);
        done = to;
    }
    out.push_str(&text[done..]);
    (out, moved)
}

/// Turns the lists that were asked for in the shape of 2022 into plain lists.
pub(crate) fn flatten(value: &mut Value<Scalar>) {
    match value {
        Value::List(items) => items.iter_mut().for_each(flatten),
        Value::Object(fields) => {
            for (_, field) in fields.iter_mut() {
                if let Some(edges) = field.as_mut_object_value().and_then(|object| object.get_mut_field_value(PLAIN)) {
                    let edges = std::mem::replace(edges, Value::Null);
                    *field = nodes(edges);
                }
                flatten(field);
            }
        }
        Value::Null | Value::Scalar(_) => {}
    }
}

fn nodes(edges: Value<Scalar>) -> Value<Scalar> {
    let Value::List(edges) = edges else { return Value::Null };
    let node = |edge: Value<Scalar>| edge.into_object()?.into_iter().next().map(|(_, node)| node);
    Value::List(edges.into_iter().filter_map(node).collect())
}
