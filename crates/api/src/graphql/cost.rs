//! What an operation may cost at most, in resolved fields: page sizes multiply.
//!
//! The estimate decides two things: an operation beyond [`MAX_COST`] is refused, and one beyond [`INLINE_COST`] runs on a thread for
//! blocking work. What is really there is counted separately while it is read ([`super::Ctx::charge`]).

use std::sync::Arc;

use juniper::meta::{Field, MetaType};
use juniper::{InputValue, Spanning, Variables};

use super::{Scalar, Types};

/// The largest estimate that is executed. The command-line client's widest query, every project of every workspace with its
/// environments and services, is at a quarter of it.
pub(crate) const MAX_COST: u64 = 2_000_000;
/// Up to this estimate an operation runs where its request is handled.
pub(crate) const INLINE_COST: u64 = 2_000;
/// Rows that a connection at the root is taken to have when no page size is given.
const ROOT_PAGE: u64 = 50;
/// Rows of a connection further down.
const CHILD_PAGE: u64 = 20;
/// Rows of a plain list.
const LIST: u64 = 5;

/// One selection.
#[derive(Debug)]
pub(crate) enum Cost {
    Field { times: Times, children: Vec<Cost> },
    Fragment(Arc<Vec<Cost>>),
}

/// How often the children of a field are resolved.
#[derive(Debug)]
pub(crate) enum Times {
    Fixed(u64),
    /// As often as a variable says.
    Variable(String, u64),
}

/// The estimate of an operation.
#[derive(Debug)]
pub(crate) enum Estimate {
    /// The same for all variables.
    Known(u64),
    /// Page sizes come as variables.
    Varies(Vec<Cost>),
}

impl Estimate {
    pub(crate) fn new(costs: Vec<Cost>) -> Self {
        if varies(&costs) { Self::Varies(costs) } else { Self::Known(of(&costs, &Variables::new())) }
    }

    pub(crate) fn with(&self, variables: &Variables<Scalar>) -> u64 {
        match self {
            Self::Known(cost) => *cost,
            Self::Varies(costs) => of(costs, variables),
        }
    }
}

fn varies(costs: &[Cost]) -> bool {
    costs.iter().any(|cost| match cost {
        Cost::Fragment(inner) => varies(inner),
        Cost::Field { times, children } => matches!(times, Times::Variable(..)) || varies(children),
    })
}

fn of(costs: &[Cost], variables: &Variables<Scalar>) -> u64 {
    costs.iter().fold(0, |sum: u64, cost| {
        sum.saturating_add(match cost {
            Cost::Fragment(inner) => of(inner, variables),
            Cost::Field { children, .. } if children.is_empty() => 1,
            Cost::Field { times, children } => {
                let times = match times {
                    Times::Fixed(times) => *times,
                    Times::Variable(name, fallback) => variables.get(name).and_then(whole).unwrap_or(*fallback),
                };
                times.saturating_mul(of(children, variables).saturating_add(1))
            }
        })
    })
}

fn whole(value: &InputValue<Scalar>) -> Option<u64> {
    match value.as_scalar()? {
        Scalar::Int(number) => Some(u64::try_from(*number).unwrap_or(0).max(1)),
        Scalar::Long(_) => Some(u64::MAX),
        _ => None,
    }
}

/// How many rows a field gives.
pub(crate) fn page_of(
    schema: &Types,
    parent: Option<&MetaType<Scalar>>,
    field: Option<&Field<Scalar>>,
    arguments: &[(&str, &Spanning<InputValue<Scalar>>)],
) -> Times {
    let (Some(parent), Some(field)) = (parent.and_then(MetaType::name), field) else { return Times::Fixed(1) };
    if parent.starts_with("__") {
        return Times::Fixed(introspection(schema, &field.name));
    }
    let connection = field.field_type.innermost_name().ends_with("Connection");
    let list = field.field_type.to_string().starts_with('[');
    if parent.ends_with("Connection") || !(connection || list) {
        return Times::Fixed(1);
    }
    let fallback = match (connection, parent.as_str()) {
        (true, "Query") => ROOT_PAGE,
        (true, _) => CHILD_PAGE,
        (false, _) => LIST,
    };
    let sizes = arguments.iter().filter(|(name, _)| matches!(*name, "first" | "last" | "limit" | "beforeLimit" | "afterLimit"));
    let mut times = Times::Fixed(fallback);
    for (_, value) in sizes {
        match &value.item {
            InputValue::Variable(name) => times = Times::Variable(name.clone(), fallback),
            other => times = whole(other).map_or(times, Times::Fixed),
        }
    }
    times
}

/// Typical sizes of the lists of the introspection schema.
fn introspection(schema: &Types, field: &str) -> u64 {
    match field {
        "types" => schema.concrete_type_list().len() as u64,
        "fields" => 10,
        "inputFields" | "enumValues" => 6,
        "directives" => 5,
        "args" => 2,
        "interfaces" | "possibleTypes" => 1,
        _ => 1,
    }
}
