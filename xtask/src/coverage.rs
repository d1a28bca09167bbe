//! How much of Railway's schema is served, in numbers.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context as _;
use graphql_parser::schema::{Definition, Document, TypeDefinition, parse_schema};
use serde_json::{Value, json};

/// What of `contract` is in `ours`, both schemas in the definition language, as a file for people: root fields, named types, and fields of
/// objects and inputs with values of enumerations.
///
/// # Errors
/// One of them cannot be read; the text says where.
pub(crate) fn count(ours: &str, contract: &str) -> anyhow::Result<String> {
    let ours = members(&parse_schema::<String>(ours).context("what is served")?);
    let theirs = members(&parse_schema::<String>(contract).context("the contract")?);
    let empty = BTreeSet::new();
    let of = |name: &str| {
        let (mine, all) = (ours.get(name).unwrap_or(&empty), theirs.get(name).unwrap_or(&empty));
        (mine.intersection(all).count(), all.len())
    };
    let served = theirs.keys().filter(|name| ours.contains_key(*name)).count();
    let fields = theirs.keys().map(|name| of(name)).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    let counted = json!({
        "queries": share(of("Query")),
        "mutations": share(of("Mutation")),
        "subscriptions": share(of("Subscription")),
        "types": share((served, theirs.len())),
        "fields": share(fields),
    });
    Ok(format!("{counted:#}\n"))
}

fn share((served, of): (usize, usize)) -> Value {
    json!({"served": served, "of": of})
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_both_counts() {
        let contract = "type Query { a: Int b: Int } type Mutation { c: Int } enum Kind { X Y }";
        let ours = "type Query { a: Int own: Int } enum Kind { X } type Own { z: Int }";
        let counted: Value = serde_json::from_str(&count(ours, contract).unwrap()).unwrap();
        let share = |served: usize, of: usize| json!({"served": served, "of": of});
        assert_eq!(counted["queries"], share(1, 2));
        assert_eq!(counted["mutations"], share(0, 1));
        assert_eq!(counted["types"], share(2, 3));
        assert_eq!(counted["fields"], share(2, 5));
        assert!(count("type {", contract).is_err());
    }
}
