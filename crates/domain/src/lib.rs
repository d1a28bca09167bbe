//! The vocabulary and the rules of Orrery, free of every effect.
//!
//! Nothing here reads a clock, opens a file, speaks SQL or HTTP, or is `async`: time and randomness come in as parameters. A type that
//! derives serde is published or persisted, and a snapshot test pins its shape.

pub mod access;
pub mod account;
pub mod activity;
pub mod certificate;
pub mod code;
pub mod config;
pub mod delivery;
pub mod deployment;
pub mod galaxy;
pub mod id;
pub mod key;
pub mod log;
pub mod metric;
pub mod name;
pub mod network;
pub mod notification;
pub mod notification_rule;
pub mod page;
pub mod project;
pub mod rate;
pub mod redact;
pub mod rollout;
pub mod routing;
pub mod schedule;
pub mod server;
pub mod shell;
pub mod spec;
pub mod tcp_proxy;
pub mod template;
pub mod trigger;
pub mod variable;
pub mod volume;
pub mod workflow;

pub use access::{Grant, Grants, Permission, Place, Role, Sealed, Tenant};
pub use code::Code;
pub use id::*;
pub use jiff::Timestamp;
