//! The closed list of reasons for which Orrery refuses or fails something.

use serde::{Deserialize, Serialize};

/// Why an operation did not happen. Each protocol has one encoder for it; `surface/errors.md` and the page `/docs/errors` explain each to users.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Code {
    /// No credential, or one that is unknown, expired or revoked.
    Unauthenticated,
    /// The credential is real but does not reach so far.
    Forbidden,
    /// Absent, or another tenant's: the two look the same.
    NotFound,
    /// The request is not well formed or breaks a rule of its fields.
    BadUserInput,
    /// Another row already has that name or value.
    AlreadyExists,
    /// The thing is in a state that does not allow this.
    Conflict,
    /// A request or archive is larger than allowed.
    TooLarge,
    /// A GraphQL operation is deeper, wider or costlier than allowed.
    TooComplex,
    /// A rate window is used up.
    RateLimited,
    /// The plan does not include this.
    PlanLimit,
    /// The machine lacks something that this needs.
    Unsupported,
    /// A part of the platform that is needed does not answer.
    Unavailable,
    /// Something took longer than it may.
    Timeout,
    /// A fault of ours.
    Internal,
}

impl Code {
    /// Every code, in the order of `surface/errors.md`.
    pub const ALL: [Self; 14] = [
        Self::Unauthenticated,
        Self::Forbidden,
        Self::NotFound,
        Self::BadUserInput,
        Self::AlreadyExists,
        Self::Conflict,
        Self::TooLarge,
        Self::TooComplex,
        Self::RateLimited,
        Self::PlanLimit,
        Self::Unsupported,
        Self::Unavailable,
        Self::Timeout,
        Self::Internal,
    ];

    /// The code as it stands on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unauthenticated => "UNAUTHENTICATED",
            Self::Forbidden => "FORBIDDEN",
            Self::NotFound => "NOT_FOUND",
            Self::BadUserInput => "BAD_USER_INPUT",
            Self::AlreadyExists => "ALREADY_EXISTS",
            Self::Conflict => "CONFLICT",
            Self::TooLarge => "TOO_LARGE",
            Self::TooComplex => "TOO_COMPLEX",
            Self::RateLimited => "RATE_LIMITED",
            Self::PlanLimit => "PLAN_LIMIT",
            Self::Unsupported => "UNSUPPORTED",
            Self::Unavailable => "UNAVAILABLE",
            Self::Timeout => "TIMEOUT",
            Self::Internal => "INTERNAL_SERVER_ERROR",
        }
    }

    /// Where the server explains it: a path on its own address.
    #[must_use]
    pub fn documentation(self) -> String {
        format!("/docs/errors#{}", self.as_str())
    }

    /// What a user does about it, for `surface/errors.md`.
    #[must_use]
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Unauthenticated => "Send a valid key of the kind the surface takes; create one with `orrery token create`.",
            Self::Forbidden => "Use a key or a role that includes the operation; an admin of the workspace can grant it.",
            Self::NotFound => "Check the id; things of other workspaces are reported the same way as absent ones.",
            Self::BadUserInput => "Correct the field that the message names.",
            Self::AlreadyExists => "Choose another name, or use the existing one.",
            Self::Conflict => "Read the present state and repeat the request if it still makes sense.",
            Self::TooLarge => "Send less; the message names the limit.",
            Self::TooComplex => "Ask for less in one operation: fewer levels, aliases or directives, or smaller pages.",
            Self::RateLimited => "Wait for the seconds in `Retry-After`.",
            Self::PlanLimit => "Change the plan of the workspace, or remove something.",
            Self::Unsupported => "Install what the message names; `orrery doctor` lists what is missing.",
            Self::Unavailable => "Repeat the request a little later.",
            Self::Timeout => "Repeat the request, or raise the limit that the message names.",
            Self::Internal => "Report it with the request id; the server's log has the cause under that id.",
        }
    }
}
