//! One look at everything in a document, along the real schema: counts for the limits, the estimate of the cost, and the places that the
//! rewrites of [`super::document`] concern.

use std::collections::HashMap;
use std::sync::Arc;

use juniper::meta::MetaType;
use juniper::parser::SourcePosition;
use juniper::{Definition, InputValue, Operation, OperationType, Selection, Spanning};

use super::answer::Rejection;
use super::cost::{Cost, Times, page_of};
use super::document::{Edit, PLAIN, RootField};
use super::scalar::JSON_SCALARS;
use super::variables::null_speaks;
use super::{Scalar, Types};

/// Aliases in one document.
const MAX_ALIASES: usize = 200;
/// Directives in one document.
const MAX_DIRECTIVES: usize = 100;
/// Selections of all operations, and of any fragment, when every spread is followed. The library bounds the fields of operations; its
/// validation follows spreads without counting them.
const MAX_SELECTIONS: usize = 20_000;
/// Root fields of one operation.
const MAX_ROOT_FIELDS: usize = 60;

/// A literal that becomes a variable.
pub(super) struct Lifted {
    pub(super) name: String,
    type_text: String,
    pub(super) value: InputValue<Scalar>,
}

/// What a fragment costs, and how many selections it is when its own spreads are followed.
type Measured = (Arc<Vec<Cost>>, usize);

/// One look at everything in a document.
pub(super) struct Walk<'d, 'a> {
    schema: &'d Types,
    fragments: HashMap<&'a str, (&'a str, &'d [Selection<'a, Scalar>])>,
    /// `None` while it is being looked at.
    measured: HashMap<&'a str, Option<Measured>>,
    /// Selections so far, with spreads followed.
    size: usize,
    aliases: usize,
    directives: usize,
    pub(super) plain_lists: bool,
    pub(super) edits: Vec<Edit>,
    pub(super) lifted: Vec<Lifted>,
    /// Variables whose null says something where they stand.
    pub(super) speaking: Vec<String>,
}

impl<'d, 'a> Walk<'d, 'a> {
    /// Looks at the fragments, used or not: validation follows all of them.
    pub(super) fn over(tree: &'d [Definition<'a, Scalar>], schema: &'d Types) -> Result<Self, Rejection> {
        let mut walk = Self {
            schema,
            fragments: HashMap::new(),
            measured: HashMap::new(),
            size: 0,
            aliases: 0,
            directives: 0,
            plain_lists: false,
            edits: vec![],
            lifted: vec![],
            speaking: vec![],
        };
        for definition in tree {
            let Definition::Fragment(fragment) = definition else { continue };
            let name = fragment.item.name.item;
            let body = (fragment.item.type_condition.item, fragment.item.selection_set.as_slice());
            if walk.fragments.insert(name, body).is_some() {
                let text = format!("There can be only one fragment named \"{name}\".");
                return Err(Rejection::bad_request(text, Some(fragment.item.name.span.start)));
            }
            walk.directives += fragment.item.directives.as_ref().map_or(0, Vec::len);
        }
        for name in walk.fragments.keys().copied().collect::<Vec<_>>() {
            walk.fragment(name, None)?;
        }
        walk.size = 0;
        Ok(walk)
    }

    /// Looks at an operation and declares the variables that its literals become.
    pub(super) fn operation(&mut self, text: &str, operation: &'d Spanning<Operation<'a, Scalar>>) -> Result<Vec<Cost>, Rejection> {
        let (before, schema) = (self.lifted.len(), self.schema);
        let root = match operation.item.operation_type {
            OperationType::Query => Some(schema.concrete_query_type()),
            OperationType::Mutation => schema.concrete_mutation_type(),
            OperationType::Subscription => schema.concrete_subscription_type(),
        };
        let cost = self.selections(&operation.item.selection_set, root, true)?;
        self.directives += operation.item.directives.as_ref().map_or(0, Vec::len);
        let new: Vec<_> = self.lifted[before..].iter().map(|lifted| format!("${}: {}", lifted.name, lifted.type_text)).collect();
        if !new.is_empty() {
            let list = new.join(", ");
            let start = operation.span.start.index();
            let keyword = text.chars().skip(start).take_while(char::is_ascii_alphabetic).count();
            self.edits.push(match (&operation.item.variables_definition, &operation.item.name) {
                (Some(known), _) => Edit::insert(known.span.end.index() - 1, format!(" {list}")),
                (None, Some(name)) => Edit::insert(name.span.end.index(), format!("({list})")),
                (None, None) if keyword > 0 => Edit::insert(start + keyword, format!("({list})")),
                (None, None) => Edit::insert(start, format!("query({list})")),
            });
        }
        Ok(cost)
    }

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
                Selection::Field(_) => costs.push(self.field(selection, parent, in_operation)?),
                Selection::InlineFragment(fragment) => {
                    let fragment = &fragment.item;
                    self.directives += fragment.directives.as_ref().map_or(0, Vec::len);
                    let target = match &fragment.type_condition {
                        Some(name) => self.schema.concrete_type_by_name(name.item),
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

    fn field(
        &mut self,
        selection: &'d Selection<'a, Scalar>,
        parent: Option<&'d MetaType<Scalar>>,
        in_operation: bool,
    ) -> Result<Cost, Rejection> {
        let Selection::Field(Spanning { item: field, span }) = selection else {
            return Ok(Cost::Field { times: Times::Fixed(1), children: vec![] });
        };
        self.aliases += usize::from(field.alias.is_some());
        self.directives += field.directives.as_ref().map_or(0, Vec::len);
        let meta = parent.and_then(|parent| parent.field_by_name(field.name.item));
        let arguments: Vec<_> = field.arguments.iter().flat_map(|list| list.item.iter()).map(|(name, value)| (name.item, value)).collect();
        for (name, value) in &arguments {
            let argument = meta.and_then(|meta| meta.arguments.as_ref()?.iter().find(|argument| argument.name == *name));
            if let Some(argument) = argument {
                self.literal(value, argument.arg_type.innermost_name(), &argument.arg_type.to_string(), in_operation)?;
            }
        }
        let child = meta.and_then(|meta| self.schema.concrete_type_by_name(meta.field_type.innermost_name()));
        let nested = field.selection_set.as_deref().unwrap_or(&[]);
        if is_plain_deployments(parent, field.name.item, arguments.is_empty(), nested) {
            self.edits.push(Edit::insert(start_of(&nested[0]), format!("{PLAIN}: edges {{ node {{ ")));
            self.edits.push(Edit::insert(span.end.index() - 1, " } }".to_owned()));
            self.plain_lists = true;
        }
        let times = page_of(self.schema, parent, meta, &arguments);
        Ok(Cost::Field { times, children: self.selections(nested, child, in_operation)? })
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
    fn fragment(&mut self, name: &'a str, at: Option<SourcePosition>) -> Result<Option<Measured>, Rejection> {
        if let Some(known) = self.measured.get(name) {
            return match known {
                Some(known) => Ok(Some(known.clone())),
                None => Err(Rejection::bad_request(format!("Cannot spread fragment \"{name}\" within itself."), at)),
            };
        }
        let Some(&(condition, set)) = self.fragments.get(name) else { return Ok(None) };
        self.measured.insert(name, None);
        let outside = std::mem::take(&mut self.size);
        let target = self.schema.concrete_type_by_name(condition);
        let cost = Arc::new(self.selections(set, target, false)?);
        let size = std::mem::replace(&mut self.size, outside);
        self.measured.insert(name, Some((Arc::clone(&cost), size)));
        Ok(Some((cost, size)))
    }

    /// Turns the JSON documents within a literal into variables, and notes variables whose null is more than absence.
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
        match (&value.item, self.schema.concrete_type_by_name(type_name)) {
            (InputValue::List(items), _) => {
                for item in items {
                    self.literal(item, type_name, type_name, in_operation)?;
                }
            }
            (InputValue::Object(fields), Some(MetaType::InputObject(meta))) => {
                for (name, item) in fields {
                    if let Some(field) = meta.input_fields.iter().find(|field| field.name == name.item) {
                        if let InputValue::Variable(variable) = &item.item
                            && null_speaks(&meta.name, &name.item)
                        {
                            self.speaking.push(variable.clone());
                        }
                        let inner = field.arg_type.innermost_name();
                        self.literal(item, inner, &field.arg_type.to_string(), in_operation)?;
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The fields at the root of an operation, those of fragments included; at most one more than are allowed.
    pub(super) fn roots(&self, set: &'d [Selection<'a, Scalar>]) -> Vec<RootField> {
        let mut found = vec![];
        self.gather_roots(set, &mut found);
        found
    }

    fn gather_roots(&self, set: &'d [Selection<'a, Scalar>], found: &mut Vec<RootField>) {
        for selection in set {
            if found.len() > MAX_ROOT_FIELDS {
                return;
            }
            match selection {
                Selection::Field(field) => found.push(RootField {
                    name: field.item.name.item.to_owned(),
                    response: field.item.alias.as_ref().unwrap_or(&field.item.name).item.to_owned(),
                    position: field.span.start,
                }),
                Selection::InlineFragment(fragment) => self.gather_roots(&fragment.item.selection_set, found),
                Selection::FragmentSpread(spread) => {
                    if let Some((_, set)) = self.fragments.get(spread.item.name.item) {
                        self.gather_roots(set, found);
                    }
                }
            }
        }
    }

    pub(super) fn check_limits(&self, roots: usize) -> Result<(), Rejection> {
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

/// Whether a selection is the documented shape of 2022.
fn is_plain_deployments(parent: Option<&MetaType<Scalar>>, name: &str, no_arguments: bool, nested: &[Selection<'_, Scalar>]) -> bool {
    let on_service = parent.and_then(MetaType::name).is_some_and(|parent| parent == "Service");
    let connection = |selection: &Selection<'_, Scalar>| match selection {
        Selection::Field(field) => matches!(field.item.name.item, "edges" | "pageInfo" | "__typename"),
        Selection::FragmentSpread(_) | Selection::InlineFragment(_) => true,
    };
    on_service && name == "deployments" && no_arguments && !nested.is_empty() && !nested.iter().any(connection)
}

fn start_of(selection: &Selection<'_, Scalar>) -> usize {
    match selection {
        Selection::Field(field) => field.span.start.index(),
        Selection::FragmentSpread(spread) => spread.span.start.index(),
        Selection::InlineFragment(fragment) => fragment.span.start.index(),
    }
}
