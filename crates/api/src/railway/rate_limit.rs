//! How a credential stands with what its operations may cost: a field of this server's own. How often it may ask is told by headers.

use juniper::GraphQLObject;

use crate::graphql::scalar::DateTime;
use crate::graphql::{Ctx, Scalar};

/// What the credential's operations may cost in the present minute, in fields that they resolve. An operation is charged what it may cost
/// at the most, and given back what it has not used.
#[derive(Clone, Debug, GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct RateLimit {
    /// What this operation was charged.
    pub(crate) cost: i32,
    /// Fields of a minute.
    pub(crate) limit: i32,
    /// Fields that are left.
    pub(crate) remaining: i32,
    /// When the minute is over.
    pub(crate) reset_at: DateTime,
    /// Fields that are used up, with the charge of this operation.
    pub(crate) used: i32,
}

impl RateLimit {
    /// `None` when nothing limits the credential.
    pub(crate) fn of(ctx: &Ctx) -> Option<Self> {
        let (cost, state) = ctx.budget?;
        let window = state.tightest()?;
        let whole = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
        Some(Self {
            cost: i32::try_from(cost).unwrap_or(i32::MAX),
            limit: whole(window.limit),
            remaining: whole(window.remaining()),
            reset_at: DateTime(domain::Timestamp::from_millisecond(window.ends).unwrap_or(ctx.op.now)),
            used: whole(window.used),
        })
    }
}

/// The same in the words of `contracts/railway-schema.graphql`.
#[derive(Clone, Debug, GraphQLObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct ApiTokenRateLimit {
    /// Fields that are left.
    remaining_points: i32,
    /// When the minute is over.
    resets_at: String,
}

impl From<RateLimit> for ApiTokenRateLimit {
    fn from(of: RateLimit) -> Self {
        Self { remaining_points: of.remaining, resets_at: of.reset_at.0.to_string() }
    }
}
