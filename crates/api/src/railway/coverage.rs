//! How much of Railway's schema is served.

use std::collections::{BTreeMap, BTreeSet};

use graphql_parser::schema::{Definition, Document, TypeDefinition, parse_schema};

/// A part of a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Served.
    pub served: usize,
    /// In the contract.
    pub of: usize,
}

/// What is served of a contract.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Coverage {
    /// Fields of the query type.
    pub queries: Share,
    /// Fields of the mutation type.
    pub mutations: Share,
    /// Fields of the subscription type.
    pub subscriptions: Share,
    /// Named types of every kind.
    pub types: Share,
    /// Fields of objects and inputs, and values of enumerations.
    pub fields: Share,
}

/// Counts what of `contract`, a schema in the definition language, this server serves.
///
/// # Errors
/// The contract cannot be read; the text says where.
pub fn coverage(contract: &str) -> Result<Coverage, String> {
    let ours = super::sdl();
    let read = |text: &str| parse_schema::<String>(text).map(|document| members(&document)).map_err(|error| error.to_string());
    let (ours, theirs) = (read(&ours)?, read(contract)?);
    let empty = BTreeSet::new();
    let of = |name: &str| {
        let (mine, all) = (ours.get(name).unwrap_or(&empty), theirs.get(name).unwrap_or(&empty));
        Share { served: mine.intersection(all).count(), of: all.len() }
    };
    Ok(Coverage {
        queries: of("Query"),
        mutations: of("Mutation"),
        subscriptions: of("Subscription"),
        types: Share { served: theirs.keys().filter(|name| ours.contains_key(*name)).count(), of: theirs.len() },
        fields: theirs
            .keys()
            .map(|name| of(name))
            .fold(Share { served: 0, of: 0 }, |sum, share| Share { served: sum.served + share.served, of: sum.of + share.of }),
    })
}

/// Every type with the names of what it has.
fn members(document: &Document<'_, String>) -> BTreeMap<String, BTreeSet<String>> {
    let types = document.definitions.iter().filter_map(|definition| match definition {
        Definition::TypeDefinition(definition) => Some(definition),
        _ => None,
    });
    types
        .map(|definition| match definition {
            TypeDefinition::Scalar(one) => (one.name.clone(), BTreeSet::new()),
            TypeDefinition::Object(one) => (one.name.clone(), one.fields.iter().map(|field| field.name.clone()).collect()),
            TypeDefinition::Interface(one) => (one.name.clone(), one.fields.iter().map(|field| field.name.clone()).collect()),
            TypeDefinition::Union(one) => (one.name.clone(), one.types.iter().cloned().collect()),
            TypeDefinition::Enum(one) => (one.name.clone(), one.values.iter().map(|value| value.name.clone()).collect()),
            TypeDefinition::InputObject(one) => (one.name.clone(), one.fields.iter().map(|field| field.name.clone()).collect()),
        })
        .collect()
}
