//! Which kinds of keys each surface takes, and what is said of the others.

use domain::account::Plan;
use domain::key::KeyKind;
use domain::{Code, Grants};
use std::sync::Arc;

use crate::Error;
use crate::context::{Principal, UserPrincipal};

/// A surface of the platform, as far as credentials go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Surface {
    /// `/graphql/v2`, uploads, and the server's own pages (`contracts/railway.md` 1.3).
    Railway,
    /// `/graphql` (`contracts/galaxy.md` 2.1): for accounts on the Professional plan.
    Galaxy,
    /// `/api/v1`, `/v1`, `/api/mcp` (`contracts/flow.md` 2.1).
    Flow,
}

/// Where in a request a key is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Bearer,
    ProjectToken,
    GalaxyKey,
}

impl Sent {
    /// Where a kind belongs.
    fn of(kind: KeyKind) -> Self {
        match kind {
            KeyKind::Project => Self::ProjectToken,
            KeyKind::Galaxy => Self::GalaxyKey,
            KeyKind::Account | KeyKind::Workspace | KeyKind::Flow | KeyKind::OAuthAccess | KeyKind::OAuthRefresh => Self::Bearer,
        }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Bearer => "`Authorization: Bearer`",
            Self::ProjectToken => "the header `Project-Access-Token` (RAILWAY_TOKEN in the command-line client)",
            Self::GalaxyKey => "the header `galaxy-api-key` or the GraphQL variable `galaxyApiKey`",
        }
    }
}

/// What GalaxyAI's clients know a key by that does not work (`contracts/flow.md` 2.3).
const INVALID: &str = "Invalid or expired API key.";

impl Surface {
    /// Every surface.
    pub const ALL: [Self; 3] = [Self::Railway, Self::Galaxy, Self::Flow];

    /// Whether keys of the kind open it.
    #[must_use]
    pub fn takes(self, kind: KeyKind) -> bool {
        match kind {
            KeyKind::Account | KeyKind::Workspace | KeyKind::OAuthAccess => true,
            KeyKind::Project => self == Self::Railway,
            KeyKind::Galaxy => self == Self::Galaxy,
            KeyKind::Flow => self == Self::Flow,
            KeyKind::OAuthRefresh => false,
        }
    }

    fn needs(self) -> &'static str {
        match self {
            Self::Railway => {
                "an account or workspace token (`orr_…`, `orw_…`) as `Authorization: Bearer`, or a project token (`orp_…`) as `Project-Access-Token`"
            }
            Self::Galaxy => {
                "the account's Galaxy API key (`gal_…`) as the header `galaxy-api-key` or the variable `galaxyApiKey`, or an account or workspace token (`orr_…`, `orw_…`) as `Authorization: Bearer`"
            }
            Self::Flow => "a Flow API key (`gx_…`), or an account or workspace token (`orr_…`, `orw_…`), as `Authorization: Bearer`",
        }
    }

    /// What a request without a credential is told.
    #[must_use]
    pub fn unauthenticated(self) -> Error {
        match self {
            Self::Flow => self.refused("no credential was sent"),
            Self::Railway | Self::Galaxy => self.refused(format!("no credential was sent. This needs {}", self.needs())),
        }
    }

    /// A credential that does not work here, in the words that the surface's clients look for. Flow's are told no more than those.
    pub(super) fn refused(self, why: impl Into<String>) -> Error {
        let why = why.into();
        match self {
            Self::Flow => Error { context: Some(why), ..Error::new(Code::Unauthenticated, INVALID) },
            Self::Railway | Self::Galaxy => Error::new(Code::Unauthenticated, format!("Not Authorized: {why}")),
        }
    }

    /// A kind that does not belong here, or not there: the reason is for whoever configured the client.
    fn misplaced(self, why: String) -> Error {
        match self {
            Self::Flow => Error::new(Code::Unauthenticated, format!("{INVALID} {}{}", why[..1].to_uppercase(), &why[1..])),
            Self::Railway | Self::Galaxy => self.refused(why),
        }
    }

    /// The kind of a key that came to a place where it belongs; `None` came when it is not well-formed.
    pub(super) fn admit(self, sent: Sent, kind: Option<KeyKind>) -> Result<KeyKind, Error> {
        let Some(kind) = kind else {
            return Err(match (self, sent) {
                // The command-line client looks for these words.
                (Self::Railway, Sent::ProjectToken) => project_token_not_found(),
                (_, Sent::Bearer) => self.refused("the bearer token is not a key of this server (mistyped, or made elsewhere)"),
                (_, Sent::ProjectToken | Sent::GalaxyKey) => {
                    self.refused(format!("what came as {} is not a key of this server (mistyped, or made elsewhere)", sent.words()))
                }
            });
        };
        let (label, belongs) = (kind.label(), Sent::of(kind));
        if !self.takes(kind) {
            return Err(self.misplaced(format!("a {label} does not open this API; it needs {}", self.needs())));
        }
        if belongs != sent {
            return Err(self.misplaced(format!("a {label} came as {}; send it as {}", sent.words(), belongs.words())));
        }
        Ok(kind)
    }

    /// What of a principal's reach counts here.
    ///
    /// # Errors
    /// Galaxy's API is for accounts on the Professional plan.
    pub fn narrow(self, principal: Principal) -> Result<Principal, Error> {
        if self != Self::Galaxy {
            return Ok(principal);
        }
        match &principal {
            Principal::Anonymous | Principal::System(_) => Ok(principal),
            Principal::Key(key) if key.workspace.plan == Plan::Professional => Ok(principal),
            Principal::Key(key) => Err(only_professional(&key.workspace.username)),
            Principal::User(person) if person.memberships.iter().all(|m| m.workspace.plan == Plan::Professional) => Ok(principal),
            Principal::User(person) => professional_part(person),
        }
    }
}

pub(super) fn project_token_not_found() -> Error {
    Error::new(Code::Unauthenticated, "Project token not found")
}

fn only_professional(username: &str) -> Error {
    Error::new(
        Code::PlanLimit,
        format!(
            "API access is only available for accounts on the Professional plan: `orrery plan set {username} professional` puts this one on it"
        ),
    )
}

/// The person as far as their Professional workspaces go.
fn professional_part(person: &UserPrincipal) -> Result<Principal, Error> {
    let memberships: Vec<_> = person.memberships.iter().filter(|m| m.workspace.plan == Plan::Professional).cloned().collect();
    if memberships.is_empty() {
        return Err(only_professional(person.home().map_or("<username>", |home| &home.username)));
    }
    let within = |grant: &domain::Grant| memberships.iter().any(|m| m.workspace.id == grant.workspace);
    let grants = Grants(person.grants.0.iter().copied().filter(within).collect());
    let UserPrincipal { user, via, limits, run, .. } = person;
    Ok(Principal::User(Arc::new(UserPrincipal { user: user.clone(), memberships, grants, via: *via, limits: *limits, run: *run })))
}
