//! How a credential stands with what its operations may cost: a field of this server's own, as on Railway's surface.

use juniper::graphql_object;

use crate::graphql::{Ctx, Scalar};
use crate::railway::rate_limit::RateLimit as Standing;

/// What the credential's operations may cost in the present minute, in fields that they resolve.
pub(crate) struct RateLimit(Standing);

impl RateLimit {
    /// `None` when nothing limits the credential.
    pub(super) fn of(ctx: &Ctx) -> Option<Self> {
        Standing::of(ctx).map(Self)
    }
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl RateLimit {
    /// What this operation was charged.
    fn cost(&self) -> i32 {
        self.0.cost
    }
    /// Fields of a minute.
    fn limit(&self) -> i32 {
        self.0.limit
    }
    /// Fields that are left.
    fn remaining(&self) -> i32 {
        self.0.remaining
    }
    /// When the minute is over.
    fn reset_at(&self) -> String {
        self.0.reset_at.text()
    }
    /// Fields that are used up, with the charge of this operation.
    fn used(&self) -> i32 {
        self.0.used
    }
}
