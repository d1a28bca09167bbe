//! What the operator of the server sees of it: fields of this server's own. Whoever is not the operator is refused by each of them.

use juniper::{GraphQLEnum, GraphQLObject, ID, graphql_object};

use super::enums::{Plan, WorkspaceRole};
use crate::graphql::scalar::DateTime;
use crate::graphql::{Ctx, Fault, Scalar};

/// This server, for its operator.
pub(crate) struct Operator;

#[graphql_object(context = Ctx, scalar = Scalar)]
impl Operator {
    /// Copies of the server's own database, newest first.
    fn backups(ctx: &Ctx) -> Result<Vec<OperatorBackup>, Fault> {
        Ok(ctx.wait(ops::operator::backups(&ctx.op))?.into_iter().map(OperatorBackup::from).collect())
    }
    /// What `orrery doctor` finds now; looking takes seconds.
    fn health(ctx: &Ctx) -> Result<Vec<OperatorCheck>, Fault> {
        Ok(ctx.wait(ops::operator::health(&ctx.op))?.into_iter().map(OperatorCheck::from).collect())
    }
    /// What lies on the data disk, measured now.
    fn storage(ctx: &Ctx) -> Result<OperatorStorage, Fault> {
        Ok(ctx.wait(ops::operator::storage(&ctx.op))?.into())
    }
    /// Everybody with an account here, oldest account first.
    fn users(ctx: &Ctx) -> Result<Vec<OperatorUser>, Fault> {
        let found = ctx.wait(ops::operator::users(&ctx.op))?;
        ctx.charge(found.iter().map(|account| 1 + account.memberships.len()).sum())?;
        Ok(found.into_iter().map(OperatorUser::from).collect())
    }
    /// The version that runs.
    fn version() -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }
}

pub(crate) fn operator(ctx: &Ctx) -> Result<Operator, Fault> {
    ops::operator::operator(&ctx.op)?;
    Ok(Operator)
}

pub(crate) fn backup_create(ctx: &Ctx) -> Result<OperatorBackup, Fault> {
    Ok(ctx.wait(ops::operator::backup_create(&ctx.op))?.into())
}

pub(crate) fn backup_delete(ctx: &Ctx, name: &str) -> Result<bool, Fault> {
    ctx.wait(ops::operator::backup_delete(&ctx.op, name))?;
    Ok(true)
}

// Sizes are far below the 2^53 bytes from which on this would be inexact.
fn bytes(size: u64) -> f64 {
    size as f64
}

/// How serious a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, GraphQLEnum)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) enum OperatorCheckState {
    /// Nothing to do.
    Ok,
    /// Works, with less than there could be.
    Warn,
    /// Something that is configured cannot work.
    Fail,
}

/// One thing that was looked at.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct OperatorCheck {
    /// What is there.
    found: String,
    /// What follows from it; empty when all is well.
    meaning: String,
    name: String,
    /// What to do about it; empty when all is well.
    remedy: String,
    state: OperatorCheckState,
}

impl From<ops::operator::Check> for OperatorCheck {
    fn from(check: ops::operator::Check) -> Self {
        let ops::operator::Check { name, state, found, meaning, remedy } = check;
        let state = match state {
            ops::operator::State::Ok => OperatorCheckState::Ok,
            ops::operator::State::Warn => OperatorCheckState::Warn,
            ops::operator::State::Fail => OperatorCheckState::Fail,
        };
        Self { found, meaning, name, remedy, state }
    }
}

/// What lies on the data disk.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct OperatorStorage {
    /// Bytes that are free.
    free: f64,
    parts: Vec<OperatorStoragePart>,
    /// Bytes that the disk has.
    total: f64,
}

/// A part of what lies on the data disk.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct OperatorStoragePart {
    /// How much room it takes.
    bytes: f64,
    name: String,
}

impl From<ops::operator::Storage> for OperatorStorage {
    fn from(storage: ops::operator::Storage) -> Self {
        let part = |(name, size): (&str, u64)| OperatorStoragePart { bytes: bytes(size), name: name.to_owned() };
        Self { free: bytes(storage.free), parts: storage.parts.into_iter().map(part).collect(), total: bytes(storage.total) }
    }
}

/// A copy of the server's own database.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct OperatorBackup {
    /// How large it is.
    bytes: f64,
    created_at: DateTime,
    /// The file's name in the folder `store-backups` of the data directory.
    name: String,
}

impl From<ops::operator::StoreBackup> for OperatorBackup {
    fn from(backup: ops::operator::StoreBackup) -> Self {
        Self { bytes: bytes(backup.bytes), created_at: DateTime(backup.created_at), name: backup.name }
    }
}

/// Somebody with an account here.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct OperatorUser {
    created_at: DateTime,
    email: String,
    id: ID,
    is_admin: bool,
    name: String,
    /// Logins by password ask for a code.
    two_factor: bool,
    workspaces: Vec<OperatorWorkspace>,
}

/// Somebody's place in a workspace.
#[derive(GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct OperatorWorkspace {
    id: ID,
    name: String,
    plan: Plan,
    role: WorkspaceRole,
    /// What `orrery plan set` calls it.
    username: String,
}

impl From<ops::operator::Account> for OperatorUser {
    fn from(account: ops::operator::Account) -> Self {
        let ops::operator::Account { user, second_factor, memberships } = account;
        let place = |one: domain::account::Membership| OperatorWorkspace {
            id: ID::from(one.workspace.id.to_string()),
            name: one.workspace.name,
            plan: one.workspace.plan.into(),
            role: one.role.into(),
            username: one.workspace.username,
        };
        Self {
            created_at: DateTime(user.created_at),
            email: user.email,
            id: ID::from(user.id.to_string()),
            is_admin: user.operator,
            name: user.name,
            two_factor: second_factor,
            workspaces: memberships.into_iter().map(place).collect(),
        }
    }
}
