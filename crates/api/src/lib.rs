//! The public API over HTTP: GraphQL with its websocket, uploads, OAuth for the command-line client, and the few pages that a browser
//! needs to sign in.
//!
//! This crate knows no SQL and no engine. A handler parses, calls one verb of `ops` and encodes the answer; what every request needs
//! (request id, limits, client address, credentials) is in [`http`].

mod dashboard;
pub mod flow;
pub mod galaxy;
pub mod graphql;
mod http;
mod login;
mod oauth;
pub mod railway;
mod upload;

pub use crate::dashboard::Dashboard;
pub use crate::http::{ApiState, ShellTimes, router, serve};
