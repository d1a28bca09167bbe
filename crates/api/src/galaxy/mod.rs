//! Galaxy's public schema (`contracts/galaxy.md` 1): accounts, apps, containers, what they measure, and what can be done to them.
//!
//! An app is an instance with a domain, so that what Railway's clients deploy is here at once and the other way round. Arguments are texts
//! and integers, never ids or enums: clients declare their variables so. What the contract only infers has the names that it proposes.

mod account;
mod activity;
mod app;
mod container;
mod inputs;
mod loader;
mod metric;
mod mutation;
mod notification;
mod query;
mod rate_limit;
mod trigger;

use std::sync::LazyLock;

use juniper::{EmptySubscription, RootNode};

pub(crate) use loader::Loader;
pub use mutation::Mutation;
pub use query::Query;

use crate::graphql::{Ctx, MAX_DEPTH, MAX_FIELDS, MAX_TOKENS, Scalar};

type Schema = RootNode<Query, Mutation, EmptySubscription<Ctx>, Scalar>;

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    RootNode::new_with_scalar_value(Query, Mutation, EmptySubscription::new())
        .limit_depth(MAX_DEPTH)
        .limit_tokens(MAX_TOKENS)
        .limit_fields(MAX_FIELDS)
});

/// The schema.
pub(crate) fn schema() -> &'static Schema {
    &SCHEMA
}

/// The schema in the definition language, as published in `surface/galaxy.graphql`.
#[must_use]
pub fn sdl() -> String {
    SCHEMA.as_sdl()
}

/// The variable that holds a key as the header `galaxy-api-key` does (`contracts/galaxy.md` 2). Whether it is declared does not matter.
pub(crate) const KEY_VARIABLE: &str = "galaxyApiKey";

fn int(value: impl TryInto<i32>) -> i32 {
    value.try_into().unwrap_or(i32::MAX)
}
