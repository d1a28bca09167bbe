//! Railway's public schema, version 2: the part of `contracts/railway-schema.graphql` that this server means (`contracts/railway.md`).
//!
//! What is not served is absent, so that clients are told by name. Names and nullability are the contract's; a test compares them. Extras
//! are what clients of 2022 and of the newest command line send beyond it.

mod absent;
mod account;
mod api_key;
mod approval;
mod audit;
mod connection;
mod container;
mod deployment;
mod deployment_trigger;
mod domain_name;
mod enums;
mod environment;
mod environment_patch;
mod http_log;
mod inputs;
mod loader;
mod log;
mod metric;
mod mutation;
mod notification;
mod notification_rule;
mod operator;
mod plan;
mod plugin;
mod project;
mod query;
pub(crate) mod rate_limit;
mod region;
mod service;
mod session;
mod subscription;
mod tcp_proxy;
mod template;
mod token;
mod trigger;
mod two_factor;
mod volume;
mod workspace;

use std::sync::LazyLock;

use juniper::{EmptyMutation, EmptySubscription, RootNode};

pub(crate) use loader::Loader;
pub use mutation::Mutation;
pub use query::Query;
pub(crate) use subscription::Event;
pub use subscription::Subscription;

use crate::graphql::{EventSchema, MAX_DEPTH, MAX_FIELDS, MAX_TOKENS, Schema};

static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    RootNode::new_with_scalar_value(Query, Mutation, Subscription).limit_depth(MAX_DEPTH).limit_tokens(MAX_TOKENS).limit_fields(MAX_FIELDS)
});

static EVENT_SCHEMA: LazyLock<EventSchema> = LazyLock::new(|| {
    RootNode::new_with_scalar_value(Subscription, EmptyMutation::new(), EmptySubscription::new())
        .limit_depth(MAX_DEPTH)
        .limit_tokens(MAX_TOKENS)
        .limit_fields(MAX_FIELDS)
});

/// The schema.
pub(crate) fn schema() -> &'static Schema {
    &SCHEMA
}

/// The schema on which single events are executed: its query type is the subscription type.
pub(crate) fn event_schema() -> &'static EventSchema {
    &EVENT_SCHEMA
}

/// The schema in the definition language, as published in `surface/railway.graphql`.
#[must_use]
pub fn sdl() -> String {
    SCHEMA.as_sdl()
}
