//! Projects, environments, services, instances and domains.

use jiff::Timestamp;

use crate::activity::Actor;
use crate::certificate::Certificate;
use crate::spec::InstanceSpec;
use crate::{DomainId, EnvironmentId, EnvironmentPatchId, InstanceId, ProjectId, ServiceId, WorkspaceId};

/// A project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Project {
    /// Identity.
    pub id: ProjectId,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// Display name.
    pub name: String,
    /// Free text.
    pub description: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
    /// Set while the 48 hours of grace after a deletion run.
    pub deleted_at: Option<Timestamp>,
}

/// An environment of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// Identity.
    pub id: EnvironmentId,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// The project.
    pub project_id: ProjectId,
    /// Unique in its project.
    pub name: String,
    /// Made for a pull request.
    pub is_ephemeral: bool,
    /// What somebody below admin wants deployed here waits for an admin.
    pub is_protected: bool,
    /// What it was copied from.
    pub source_environment_id: Option<EnvironmentId>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}

/// Where a change of an environment's document stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PatchStatus {
    /// It waits to be committed.
    Staged,
    /// It has been applied.
    Committed,
}

impl PatchStatus {
    /// As stored and on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Staged => "STAGED",
            Self::Committed => "COMMITTED",
        }
    }

    /// Reads a stored status.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Staged, Self::Committed].into_iter().find(|status| status.as_str() == text)
    }
}

/// A change of an environment's document (`contracts/railway.md` 3.9). An environment has at most one that is staged.
#[derive(Clone, PartialEq)]
pub struct EnvironmentPatch {
    /// Identity.
    pub id: EnvironmentPatchId,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// The project.
    pub project_id: ProjectId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// Where it stands.
    pub status: PatchStatus,
    /// What its author says about it.
    pub message: Option<String>,
    /// The change. It may hold values of variables.
    pub patch: serde_json::Value,
    /// How many settings it names.
    pub changes: u32,
    /// Who staged it, and then who committed it.
    pub author: Actor,
    /// When it was committed.
    pub applied_at: Option<Timestamp>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}

impl std::fmt::Debug for EnvironmentPatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnvironmentPatch").field("id", &self.id).field("status", &self.status).finish_non_exhaustive()
    }
}

/// A service of a project.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    /// Identity.
    pub id: ServiceId,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// The project.
    pub project_id: ProjectId,
    /// Unique in its project.
    pub name: String,
    /// Picture for the canvas.
    pub icon: Option<String>,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}

/// A service in an environment: the desired state that deployments freeze.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// Identity.
    pub id: InstanceId,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// The project.
    pub project_id: ProjectId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// The service.
    pub service_id: ServiceId,
    /// Small and unique on the server; the store assigns it on insertion. Unix users are derived from it.
    pub number: i64,
    /// The settings.
    pub spec: InstanceSpec,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}

/// Whose domain it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DomainKind {
    /// Under the server's base domain.
    Service,
    /// The user's own.
    Custom,
}

impl Domain {
    /// Where a custom domain's owner publishes the token.
    #[must_use]
    pub fn verification_host(&self) -> String {
        format!("{VERIFICATION_LABEL}.{}", self.domain.strip_prefix("*.").unwrap_or(&self.domain))
    }

    /// Whether a custom domain that was not proved gives way to a workspace that claims the same name: a name is of whoever proves it.
    #[must_use]
    pub fn gives_way(&self, to: WorkspaceId, now: Timestamp) -> bool {
        let patience = if self.workspace_id == to { 7 * 86_400 } else { 3_600 };
        let unproved = self.kind == DomainKind::Custom && self.verified_at.is_none();
        unproved && now.duration_since(self.created_at).as_secs() >= patience
    }

    /// Whether DNS is to be asked about a custom domain that is not verified: often while somebody sets it up, then less and less.
    #[must_use]
    pub fn is_check_due(&self, now: Timestamp) -> bool {
        let Some(checked) = self.dns_checked_at else { return true };
        let age = now.duration_since(self.created_at).as_secs().max(0);
        now.duration_since(checked).as_secs() >= (age / 8).clamp(5, 3_600)
    }
}

/// The label in front of a custom domain that holds its token.
pub const VERIFICATION_LABEL: &str = "_orrery-verify";

impl DomainKind {
    /// As stored.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Service => "SERVICE",
            Self::Custom => "CUSTOM",
        }
    }

    /// Reads a stored kind.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Service, Self::Custom].into_iter().find(|kind| kind.as_str() == text)
    }
}

/// A domain that routes to an instance. The name is unique on the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Domain {
    /// Identity.
    pub id: DomainId,
    /// The tenant.
    pub workspace_id: WorkspaceId,
    /// The project.
    pub project_id: ProjectId,
    /// The environment.
    pub environment_id: EnvironmentId,
    /// The service.
    pub service_id: ServiceId,
    /// Whose it is.
    pub kind: DomainKind,
    /// Lower case, without a trailing dot.
    pub domain: String,
    /// The app's port; `None` means the `PORT` it was given.
    pub target_port: Option<u16>,
    /// What a custom domain's owner puts in a TXT record.
    pub verification_token: Option<String>,
    /// When a custom domain's owner was seen to have published the token. The edge routes none without.
    pub verified_at: Option<Timestamp>,
    /// Where DNS was last seen to lead: a name, or addresses.
    pub dns_value: Option<String>,
    /// When DNS was last asked.
    pub dns_checked_at: Option<Timestamp>,
    /// Whoever asks without TLS is sent to the same address with it, where the edge speaks TLS.
    pub force_https: bool,
    /// Its certificate.
    pub certificate: Certificate,
    /// When it was made.
    pub created_at: Timestamp,
    /// Last change.
    pub updated_at: Timestamp,
}
