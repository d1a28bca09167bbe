//! The store's behaviour, each test on SQLite and on a PostgreSQL server of its own.

#[macro_use]
mod fixture;
mod commits;
mod flows;
mod keys;
mod lists;
mod logins;
mod messages;
mod opening;
mod postgres;
mod secrets;
mod tenants;
mod usage;
mod volumes;
