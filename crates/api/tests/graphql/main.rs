//! The GraphQL API over a real store: what clients send, what they may not have, and what is meant to hurt.

mod answers;
mod approvals;
mod commands;
mod contract;
mod flow;
mod galaxy;
mod hostile;
mod keys;
mod logs;
mod mcp;
mod read_after_write;
mod recent;
mod roles;
#[path = "../server/mod.rs"]
mod server;
mod shells;
mod sockets;
mod statements;
mod walk;
mod world;
