//! A document before it is validated: limits that the library does not have, an estimate of what it costs, and two rewrites of its text.
//!
//! The library bounds tokens, nesting and the fields that fragments expand to (see [`crate::railway::schema`]); this module adds
//! aliases, directives and root fields. The rewrites are
//! * the shape of 2022, `services { edges { node { deployments { id } } } }` (`contracts/railway.md` 5): a selection on
//!   `Service.deployments` that has no arguments and names nothing of a connection is sent through `edges` and `node`, and [`flatten`]
//!   turns the answer back into the plain list;
//! * JSON written into the document (`variables: {A: "1"}`): the library takes only simple values there, so such a literal becomes a
//!   variable of its own.
//!
//! The tree is parsed against an empty schema, so that literals are taken as they stand, and walked along the real one.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use juniper::meta::MetaType;
use juniper::parser::{SourcePosition, parse_document_source};
use juniper::{
    Definition, EmptyMutation, EmptySubscription, GraphQLError, InputValue, OperationType, RootNode, Selection, Value, graphql_object,
};

use super::answer::Rejection;
use super::cost::{Cost, page_of};
use super::scalar::JSON_SCALARS;
use super::{Ctx, MAX_DEPTH, MAX_FIELDS, MAX_TOKENS, Scalar, Schema};

/// Aliases in one document.
const MAX_ALIASES: usize = 200;
/// Directives in one document.
const MAX_DIRECTIVES: usize = 100;
/// Selections of all operations, and of any fragment, when every spread is followed. The library bounds the fields of operations; its
/// validation follows spreads without counting them.
const MAX_SELECTIONS: usize = 20_000;
/// What the list of 2022 is called on its way through a connection.
const PLAIN: &str = "__plain";
/// Root fields of one operation.
const MAX_ROOT_FIELDS: usize = 60;

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
    pub(crate) cost: Vec<Cost>,
    pub(crate) declared: Vec<Declared>,
    /// The answer has to go through [`flatten`].
    pub(crate) plain_lists: bool,
    /// Literals that became variables.
    pub(crate) lifted: Vec<(String, InputValue<Scalar>)>,
}

/// Reads a document.
///
/// # Errors
/// What the client is told: a syntax error, an unknown operation, or a limit.
pub(crate) fn read(text: &str, wanted: Option<&str>, schema: &Schema) -> Result<Document, Rejection> {
    let tree = parse_document_source::<Scalar>(text, &EMPTY.schema).map_err(|error| Rejection::from(GraphQLError::ParseError(error)))?;
    let mut walk = Walk {
        schema,
        fragments: HashMap::new(),
        costs: HashMap::new(),
        size: 0,
        aliases: 0,
        directives: 0,
        plain_lists: false,
        edits: vec![],
        lifted: vec![],
    };
    for definition in &tree {
        if let Definition::Fragment(fragment) = definition {
            let name = fragment.item.name.item;
            let body = (fragment.item.type_condition.item, fragment.item.selection_set.as_slice());
            if walk.fragments.insert(name, body).is_some() {
                let text = format!("There can be only one fragment named \"{name}\".");
                return Err(Rejection::bad_request(text, Some(fragment.item.name.span.start)));
            }
            walk.directives += fragment.item.directives.as_ref().map_or(0, Vec::len);
        }
    }
    let mut chosen = None;
    for name in walk.fragments.keys().copied().collect::<Vec<_>>() {
        walk.fragment(name, None)?;
    }
    walk.size = 0;
    for definition in &tree {
        let Definition::Operation(operation) = definition else { continue };
        let name = operation.item.name.as_ref().map(|name| name.item);
        if wanted.is_none() && chosen.is_some() {
            return Err(GraphQLError::MultipleOperationsProvided.into());
        }
        let lifted_before = walk.lifted.len();
        let root = match operation.item.operation_type {
            OperationType::Query => Some(schema.schema.concrete_query_type()),
            OperationType::Mutation => schema.schema.concrete_mutation_type(),
            OperationType::Subscription => schema.schema.concrete_subscription_type(),
        };
        let cost = walk.selections(&operation.item.selection_set, root, true)?;
        walk.directives += operation.item.directives.as_ref().map_or(0, Vec::len);
        let declared: Vec<_> = operation
            .item
            .variables_definition
            .iter()
            .flat_map(|list| list.item.iter())
            .map(|(name, one)| Declared { name: name.item.to_owned(), type_name: one.var_type.item.innermost_name().to_owned() })
            .collect();
        let new: Vec<_> = walk.lifted[lifted_before..].iter().map(|lifted| format!("${}: {}", lifted.name, lifted.type_text)).collect();
        if !new.is_empty() {
            let list = new.join(", ");
            let start = operation.span.start.index();
            let keyword_length = text.chars().skip(start).take_while(char::is_ascii_alphabetic).count();
            walk.edits.push(match (&operation.item.variables_definition, &operation.item.name) {
                (Some(known), _) => Edit::insert(known.span.end.index() - 1, format!(" {list}")),
                (None, Some(name)) => Edit::insert(name.span.end.index(), format!("({list})")),
                (None, None) if keyword_length > 0 => Edit::insert(start + keyword_length, format!("({list})")),
                (None, None) => Edit::insert(start, format!("query({list})")),
            });
        }
        if wanted.is_none() || name == wanted {
            let mut roots = vec![];
            walk.roots(&operation.item.selection_set, &mut roots, &mut vec![]);
            chosen = Some((operation.item.operation_type, operation.span.start.index(), roots, cost, declared));
        }
    }
    let (kind, keyword, roots, cost, declared) = chosen.ok_or(GraphQLError::UnknownOperationName)?;
    walk.check_limits(roots.len())?;
    let plain_lists = walk.plain_lists;
    let lifted = walk.lifted.into_iter().map(|lifted| (lifted.name, lifted.value)).collect();
    let (text, keyword) = apply(text, walk.edits, keyword);
    Ok(Document { text, kind, operation: wanted.map(str::to_owned), keyword, roots, cost, declared, plain_lists, lifted })
}

/// A replacement in the text, in characters as the parser counts them.
struct Edit {
    from: usize,
    to: usize,
    with: String,
}

impl Edit {
    fn insert(at: usize, with: String) -> Self {
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

struct Lifted {
    name: String,
    type_text: String,
    value: InputValue<Scalar>,
}

struct Walk<'d, 'a> {
    schema: &'d Schema,
    fragments: HashMap<&'a str, (&'a str, &'d [Selection<'a, Scalar>])>,
    /// What a fragment costs and how many selections it is; `None` while it is being looked at.
    costs: HashMap<&'a str, Option<(Arc<Vec<Cost>>, usize)>>,
    /// Selections so far, with spreads followed.
    size: usize,
    aliases: usize,
    directives: usize,
    plain_lists: bool,
    edits: Vec<Edit>,
    lifted: Vec<Lifted>,
}

impl<'d, 'a> Walk<'d, 'a> {
    fn selections(
        &mut self,
        set: &'d [Selection<'a, Scalar>],
        parent: Option<&'d MetaType<Scalar>>,
        in_operation: bool,
    ) -> Result<Vec<Cost>, Rejection> {
        let mut costs = vec![];
        self.grow(set.len())?;
        for selection in set {
            match selection {
                Selection::Field(field) => {
                    let (field, whole) = (&field.item, field.span);
                    self.aliases += usize::from(field.alias.is_some());
                    self.directives += field.directives.as_ref().map_or(0, Vec::len);
                    let meta = parent.and_then(|parent| parent.field_by_name(field.name.item));
                    let arguments: Vec<_> =
                        field.arguments.iter().flat_map(|list| list.item.iter()).map(|(name, value)| (name.item, value)).collect();
                    for (name, value) in &arguments {
                        let argument = meta.and_then(|meta| meta.arguments.as_ref()?.iter().find(|argument| argument.name == *name));
                        if let Some(argument) = argument {
                            let type_name = argument.arg_type.innermost_name();
                            self.literal(value, type_name, &argument.arg_type.to_string(), in_operation)?;
                        }
                    }
                    let child = meta.and_then(|meta| self.schema.schema.concrete_type_by_name(meta.field_type.innermost_name()));
                    let nested = field.selection_set.as_deref().unwrap_or(&[]);
                    if is_plain_deployments(parent, field.name.item, arguments.is_empty(), nested) {
                        self.edits.push(Edit::insert(start_of(&nested[0]), format!("{PLAIN}: edges {{ node {{ ")));
                        self.edits.push(Edit::insert(whole.end.index() - 1, " } }".to_owned()));
                        self.plain_lists = true;
                    }
                    let times = page_of(self.schema, parent, meta, &arguments);
                    costs.push(Cost::Field { times, children: self.selections(nested, child, in_operation)? });
                }
                Selection::InlineFragment(fragment) => {
                    let fragment = &fragment.item;
                    self.directives += fragment.directives.as_ref().map_or(0, Vec::len);
                    let target = match &fragment.type_condition {
                        Some(name) => self.schema.schema.concrete_type_by_name(name.item),
                        None => parent,
                    };
                    costs.extend(self.selections(&fragment.selection_set, target, in_operation)?);
                }
                Selection::FragmentSpread(spread) => {
                    self.directives += spread.item.directives.as_ref().map_or(0, Vec::len);
                    if let Some((cost, size)) = self.fragment(spread.item.name.item, Some(spread.span.start))? {
                        self.grow(size)?;
                        costs.push(Cost::Fragment(cost));
                    }
                }
            }
        }
        Ok(costs)
    }

    fn grow(&mut self, by: usize) -> Result<(), Rejection> {
        self.size = self.size.saturating_add(by);
        if self.size > MAX_SELECTIONS {
            return Err(Rejection::too_complex(format!(
                "The document's fragments expand to more than {MAX_SELECTIONS} selections: ask for less in one operation"
            )));
        }
        Ok(())
    }

    /// Cost and size of a fragment. A cycle is refused here, because validation walks it exponentially often.
    fn fragment(&mut self, name: &'a str, at: Option<SourcePosition>) -> Result<Option<(Arc<Vec<Cost>>, usize)>, Rejection> {
        if let Some(known) = self.costs.get(name) {
            return match known {
                Some(known) => Ok(Some(known.clone())),
                None => Err(Rejection::bad_request(format!("Cannot spread fragment \"{name}\" within itself."), at)),
            };
        }
        let Some(&(condition, set)) = self.fragments.get(name) else { return Ok(None) };
        self.costs.insert(name, None);
        let outside = std::mem::take(&mut self.size);
        let target = self.schema.schema.concrete_type_by_name(condition);
        let cost = Arc::new(self.selections(set, target, false)?);
        let size = std::mem::replace(&mut self.size, outside);
        self.costs.insert(name, Some((Arc::clone(&cost), size)));
        Ok(Some((cost, size)))
    }

    /// Turns the JSON documents within a literal into variables.
    fn literal(
        &mut self,
        value: &juniper::Spanning<InputValue<Scalar>>,
        type_name: &str,
        type_text: &str,
        in_operation: bool,
    ) -> Result<(), Rejection> {
        let compound = matches!(value.item, InputValue::List(_) | InputValue::Object(_));
        if !compound {
            return Ok(());
        }
        if JSON_SCALARS.contains(&type_name) {
            if !in_operation || !value.item.referenced_variables().is_empty() {
                return Err(Rejection::bad_request(
                    format!(
                        "A {type_name} inside a fragment, or one that mixes literals and variables, is not possible: pass it as one variable"
                    ),
                    Some(value.span.start),
                ));
            }
            let name = format!("__json{}", self.lifted.len());
            self.edits.push(Edit { from: value.span.start.index(), to: value.span.end.index(), with: format!("${name}") });
            self.lifted.push(Lifted { name, type_text: type_text.to_owned(), value: value.item.clone() });
            return Ok(());
        }
        match (&value.item, self.schema.schema.concrete_type_by_name(type_name)) {
            (InputValue::List(items), _) => {
                for item in items {
                    self.literal(item, type_name, type_name, in_operation)?;
                }
            }
            (InputValue::Object(fields), Some(MetaType::InputObject(meta))) => {
                for (name, item) in fields {
                    if let Some(field) = meta.input_fields.iter().find(|field| field.name == name.item) {
                        let inner = field.arg_type.innermost_name();
                        self.literal(item, inner, &field.arg_type.to_string(), in_operation)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn roots(&self, set: &'d [Selection<'a, Scalar>], into: &mut Vec<RootField>, open: &mut Vec<&'a str>) {
        for selection in set {
            if into.len() > MAX_ROOT_FIELDS {
                return;
            }
            match selection {
                Selection::Field(field) => into.push(RootField {
                    name: field.item.name.item.to_owned(),
                    response: field.item.alias.as_ref().unwrap_or(&field.item.name).item.to_owned(),
                    position: field.span.start,
                }),
                Selection::InlineFragment(fragment) => self.roots(&fragment.item.selection_set, into, open),
                Selection::FragmentSpread(spread) => {
                    let name = spread.item.name.item;
                    if let Some((_, set)) = self.fragments.get(name)
                        && !open.contains(&name)
                    {
                        open.push(name);
                        self.roots(set, into, open);
                        open.pop();
                    }
                }
            }
        }
    }

    fn check_limits(&self, roots: usize) -> Result<(), Rejection> {
        for (what, count, limit) in [
            ("aliases", self.aliases, MAX_ALIASES),
            ("directives", self.directives, MAX_DIRECTIVES),
            ("root fields", roots, MAX_ROOT_FIELDS),
        ] {
            if count > limit {
                return Err(Rejection::too_complex(format!("The document has more than {limit} {what}: split it into several requests")));
            }
        }
        Ok(())
    }
}

fn start_of(selection: &Selection<'_, Scalar>) -> usize {
    match selection {
        Selection::Field(field) => field.span.start.index(),
        Selection::FragmentSpread(spread) => spread.span.start.index(),
        Selection::InlineFragment(fragment) => fragment.span.start.index(),
    }
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

/// Whether a selection is the documented shape of 2022.
fn is_plain_deployments(parent: Option<&MetaType<Scalar>>, name: &str, no_arguments: bool, nested: &[Selection<'_, Scalar>]) -> bool {
    let on_service = parent.and_then(MetaType::name).is_some_and(|parent| parent == "Service");
    let connection = |selection: &Selection<'_, Scalar>| match selection {
        Selection::Field(field) => matches!(field.item.name.item, "edges" | "pageInfo" | "__typename"),
        Selection::FragmentSpread(_) | Selection::InlineFragment(_) => true,
    };
    on_service && name == "deployments" && no_arguments && !nested.is_empty() && !nested.iter().any(connection)
}
