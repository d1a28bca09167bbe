use std::sync::Arc;

use domain::access::Denied;
use domain::account::{Membership, Plan, User, Workspace};
use domain::activity::{Activity, Actor};
use domain::key::{ApiKey, KeyKind, KeyLimits};
use domain::project::Instance;
use domain::{
    ActivityId, ApiKeyId, Code, Grant, Grants, InstanceId, Permission, Place, ProjectId, Role, RunId, Sealed, SessionId, Tenant, Timestamp,
    WorkspaceId,
};
use store::Change;

use crate::{Error, Ops};

/// How often a change is attempted. Among those that many make at once, one goes through whenever others are stale.
const ATTEMPTS: usize = 32;

/// Does `work` anew, reading included, as long as somebody else has changed what it had read before it could write.
pub(crate) async fn anew<T, F: Future<Output = Result<T, Error>>>(work: impl Fn() -> F) -> Result<T, Error> {
    for _ in 1..ATTEMPTS {
        match work().await {
            Err(error) if error.is_stale() => {}
            done => return done,
        }
    }
    work().await
}

/// Who asks. What they reach was read when they presented their credential.
#[derive(Clone, Debug)]
pub enum Principal {
    /// Nobody in particular.
    Anonymous,
    /// A person, by session or by a key of their own.
    User(Arc<UserPrincipal>),
    /// A key that acts for a workspace or for one environment.
    Key(Arc<KeyPrincipal>),
    /// Orrery itself, for one workspace: a trigger, a schedule.
    System(Arc<SystemPrincipal>),
}

impl Principal {
    /// The key that the request came with, its own limits and the plan that it is limited by; `None` for sessions and for nobody.
    #[must_use]
    pub fn limited(&self) -> Option<(ApiKeyId, KeyLimits, Plan)> {
        match self {
            Self::Anonymous | Self::System(_) => None,
            Self::User(person) => match person.via {
                Via::Session(_) | Via::Absent | Via::Server => None,
                Via::Key(id, _) => Some((id, person.limits, person.home().map_or(Plan::Free, |home| home.plan))),
            },
            Self::Key(key) => Some((key.key.id, key.key.limits, key.workspace.plan)),
        }
    }
}

/// A part of Orrery that acts by itself.
#[derive(Debug)]
pub struct SystemPrincipal {
    /// Which, for the audit log.
    pub part: String,
    /// The one workspace.
    pub grants: Grants,
}

/// A person and what they reach.
#[derive(Debug)]
pub struct UserPrincipal {
    /// Who.
    pub user: User,
    /// Their workspaces.
    pub memberships: Vec<Membership>,
    /// What these amount to.
    pub grants: Grants,
    /// How they proved who they are.
    pub via: Via,
    /// The limits of the key that they came with; those of the plan for a session.
    pub limits: KeyLimits,
    /// The run of a workflow that acts for them.
    pub run: Option<RunId>,
}

impl UserPrincipal {
    /// The personal workspace, or the oldest one for a person without.
    #[must_use]
    pub fn home(&self) -> Option<&Workspace> {
        let personal = self.memberships.iter().find(|membership| membership.workspace.personal_of == Some(self.user.id));
        personal.or(self.memberships.first()).map(|membership| &membership.workspace)
    }
}

/// A key that acts for itself.
#[derive(Debug)]
pub struct KeyPrincipal {
    /// Which.
    pub key: ApiKey,
    /// The workspace (the account, to Galaxy and Flow) that it belongs to.
    pub workspace: Workspace,
    /// What it reaches.
    pub grants: Grants,
}

/// How a person proved who they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// A browser.
    Session(SessionId),
    /// A key.
    Key(ApiKeyId, KeyKind),
    /// They are not here: something that they have set up works for them.
    Absent,
    /// They are acted for by a command on the server itself, whose user can read its database and its keys anyway.
    Server,
}

/// The circumstances of one request. Every verb takes it first.
#[derive(Clone)]
pub struct OpCtx {
    /// Everything shared.
    pub ops: Arc<Ops>,
    /// Who asks.
    pub principal: Principal,
    /// What the log and the client call this request.
    pub request_id: String,
    /// The client's address.
    pub address: Option<String>,
    /// When it arrived.
    pub now: Timestamp,
}

/// A row that the principal may read, with the proof for reading what belongs to it.
#[derive(Clone, Debug)]
pub struct Opened<T> {
    /// Whose it is.
    pub tenant: Tenant,
    /// The row.
    pub row: T,
}

impl<T> Opened<T> {
    /// Another row of the same tenant.
    pub fn with<U>(&self, row: U) -> Opened<U> {
        Opened { tenant: self.tenant, row }
    }
}

static NOTHING: Grants = Grants(Vec::new());

impl OpCtx {
    /// What the principal reaches.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        match &self.principal {
            Principal::Anonymous => &NOTHING,
            Principal::User(user) => &user.grants,
            Principal::Key(key) => &key.grants,
            Principal::System(system) => &system.grants,
        }
    }

    /// The person behind the request.
    ///
    /// # Errors
    /// Unauthenticated for nobody, forbidden for keys that are not a person's; the text names the kind that came and the one needed.
    pub fn user(&self) -> Result<&UserPrincipal, Error> {
        match &self.principal {
            Principal::User(user) => Ok(user),
            Principal::Anonymous | Principal::System(_) => Err(self.unauthenticated()),
            Principal::Key(key) => Err(Error::new(
                Code::Forbidden,
                format!(
                    "Not Authorized: this needs an account token (Authorization: Bearer orr_…) or a login, and a {} was sent",
                    key.key.kind.label()
                ),
            )),
        }
    }

    pub(crate) fn unauthenticated(&self) -> Error {
        Error::new(
            Code::Unauthenticated,
            "Not Authorized: send `Authorization: Bearer <token>` (account or workspace token) or `Project-Access-Token: <token>`",
        )
    }

    /// Whether an operation would be allowed.
    #[must_use]
    pub fn may(&self, workspace: WorkspaceId, place: Place, permission: Permission) -> bool {
        self.grants().allow(workspace, place, permission).is_ok()
    }

    /// Checks an operation.
    ///
    /// # Errors
    /// Unauthenticated, not found (when the place is invisible) or forbidden.
    pub fn allow(&self, workspace: WorkspaceId, place: Place, permission: Permission) -> Result<Tenant, Error> {
        self.check(workspace, place, permission, "Workspace")
    }

    pub(crate) fn check(&self, workspace: WorkspaceId, place: Place, permission: Permission, what: &str) -> Result<Tenant, Error> {
        if matches!(self.principal, Principal::Anonymous) {
            return Err(self.unauthenticated());
        }
        self.grants().allow(workspace, place, permission).map_err(|denied| match denied {
            Denied::Invisible => Error::not_found(what),
            Denied::Insufficient => {
                let needed = match permission {
                    Permission::Read => "VIEWER",
                    Permission::Deploy => "DEPLOYER",
                    Permission::ReadSecrets | Permission::Write => "MEMBER",
                    Permission::Administer => "ADMIN",
                    Permission::Own => "OWNER",
                };
                let holder = match &self.principal {
                    Principal::Key(key) => format!("this {}", key.key.kind.label()),
                    _ => "your role in the workspace".to_owned(),
                };
                Error::new(
                    Code::Forbidden,
                    format!("Not Authorized: {holder} does not reach this; it needs the role {needed} or stronger there"),
                )
            }
        })
    }

    /// Opens a row that was found by its id, for one permission.
    pub(crate) fn open<T>(
        &self,
        found: Option<Sealed<T>>,
        what: &str,
        place: impl Fn(&T) -> Place,
        permission: Permission,
    ) -> Result<Opened<T>, Error> {
        if matches!(self.principal, Principal::Anonymous) {
            return Err(self.unauthenticated());
        }
        let sealed = found.ok_or_else(|| Error::not_found(what))?;
        let tenant = self.check(sealed.workspace(), sealed.place(place), permission, what)?;
        let row = sealed.open(tenant).ok_or_else(|| Error::not_found(what))?;
        Ok(Opened { tenant, row })
    }

    /// Who the audit log names.
    #[must_use]
    pub fn actor(&self) -> Actor {
        match &self.principal {
            Principal::User(person) if person.via == Via::Server => Actor::System { part: "command line".into() },
            Principal::User(person) => {
                let User { id, name, email, .. } = &person.user;
                Actor::User { id: *id, name: name.clone(), email: email.clone(), run: person.run }
            }
            Principal::Key(key) => Actor::Key { id: key.key.id, label: key.key.label.clone() },
            Principal::System(system) => Actor::System { part: system.part.clone() },
            Principal::Anonymous => Actor::System { part: "anonymous".into() },
        }
    }

    /// Orrery's own circumstances in one workspace: what a trigger or a schedule does goes through the same verbs as what people do.
    #[must_use]
    pub fn system(ops: &Arc<Ops>, tenant: Tenant, part: &str, now: Timestamp) -> Self {
        let grant = Grant { workspace: tenant.workspace(), role: Role::Admin, within: Place::Workspace };
        let system = SystemPrincipal { part: part.to_owned(), grants: Grants(vec![grant]) };
        Self { ops: ops.clone(), principal: Principal::System(Arc::new(system)), request_id: part.to_owned(), address: None, now }
    }

    /// The audit entry of something that happens to an instance: what its app's feed shows and notifications tell.
    pub(crate) fn activity_about(
        &self,
        tenant: Tenant,
        (project, instance): (ProjectId, InstanceId),
        verb: &str,
        subject: impl ToString,
        data: serde_json::Value,
    ) -> Change {
        let entry = self.entry(tenant, Some(project), verb, subject.to_string(), data);
        Change::Activity(Activity { instance_id: Some(instance), ..entry })
    }

    /// The same for a row that is at hand.
    pub(crate) fn activity_of(
        &self,
        tenant: Tenant,
        instance: &Instance,
        verb: &str,
        subject: impl ToString,
        data: serde_json::Value,
    ) -> Change {
        self.activity_about(tenant, (instance.project_id, instance.id), verb, subject, data)
    }

    /// The audit entry that is committed along with a change.
    pub(crate) fn activity(
        &self,
        tenant: Tenant,
        project: Option<ProjectId>,
        verb: &str,
        subject: impl ToString,
        data: serde_json::Value,
    ) -> Change {
        Change::Activity(self.entry(tenant, project, verb, subject.to_string(), data))
    }

    pub(crate) fn entry(
        &self,
        tenant: Tenant,
        project: Option<ProjectId>,
        verb: &str,
        subject: String,
        data: serde_json::Value,
    ) -> Activity {
        Activity {
            id: ActivityId::generate(),
            workspace_id: tenant.workspace(),
            project_id: project,
            instance_id: None,
            actor: self.actor(),
            verb: verb.to_owned(),
            subject,
            data,
            address: self.address.clone(),
            created_at: self.now,
        }
    }

    pub(crate) async fn commit(&self, tenant: Tenant, changes: Vec<Change>) -> Result<(), Error> {
        self.ops.store.commit(tenant, changes).await?;
        Ok(())
    }
}
