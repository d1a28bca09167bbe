//! Types of things that this server does not have yet and whose lists clients read: the lists are truthfully empty, and no value of
//! these types can be made.

use std::convert::Infallible;

use juniper::{ID, graphql_object};

use super::connection::connection;
use super::enums::{KeyType, PluginType, VolumeState};
use super::environment::Environment;
use super::project::Project;
use super::service::Service;
use crate::graphql::scalar::DateTime;
use crate::graphql::{Ctx, Scalar};

macro_rules! impossible {
    ($($(#[$doc:meta])* $name:ident { $($(#[$attribute:meta])* $field:ident: $kind:ty),+ $(,)? })+) => {$(
        $(#[$doc])*
        #[derive(Clone)]
        pub(crate) struct $name(Infallible);

        #[graphql_object(context = Ctx, scalar = Scalar)]
        impl $name {
            $($(#[$attribute])* fn $field(&self) -> $kind {
                match self.0 {}
            })+
        }
    )+};
}

macro_rules! nodes {
    ($($name:ident),+) => {$(
        impl $name {
            pub(crate) fn cursor(&self) -> String {
                match self.0 {}
            }
        }
    )+};
}

nodes!(Bucket, Plugin, Volume, VolumeInstance);

impossible! {
    /// A store for objects.
    Bucket { created_at: DateTime, id: ID, name: String, project: Project, project_id: String, updated_at: DateTime }
    /// A disk that outlives deployments.
    Volume { created_at: DateTime, id: ID, name: String, project: Project, project_id: String }
    /// A disk in an environment.
    VolumeInstance {
        created_at: DateTime, #[graphql(name = "currentSizeMB")] current_size_mb: f64, deleted_at: Option<DateTime>, environment: Environment, environment_id: String, id: ID,
        is_pending_deletion: bool, mount_path: String, region: Option<String>, service: Service, service_id: Option<String>,
        #[graphql(name = "sizeMB")] size_mb: i32, state: Option<VolumeState>, volume: Volume, volume_id: String,
    }
    /// A database.
    Plugin {
        created_at: DateTime, deleted_at: Option<DateTime>, friendly_name: String, id: ID, name: PluginType, project: Project,
    }
    /// What is known of a pull request's environment.
    EnvironmentMeta {
        base_branch: Option<String>, branch: Option<String>, pr_number: Option<i32>, pr_repo: Option<String>, pr_title: Option<String>,
    }
    /// A certificate of a custom domain.
    CertificatePublicData {
        domain_names: Vec<String>, expires_at: Option<DateTime>, fingerprint_sha256: String, issued_at: Option<DateTime>, key_type: KeyType,
    }
    /// Which region takes the place of one that goes away.
    RegionDeprecationInfo { is_deprecated: bool, replacement_region: String }
    /// The team of a workspace, from before workspaces had members themselves.
    Team { id: ID, name: String }
    /// A workspace in which the person has been given single projects.
    ExternalWorkspace {
        created_at: DateTime, id: String, name: String, projects: Vec<Project>, team_id: Option<String>,
    }
}
connection! {
    /// Buckets of a project.
    ProjectBucketsConnection, ProjectBucketsConnectionEdge, Bucket;
    /// Databases of a project.
    ProjectPluginsConnection, ProjectPluginsConnectionEdge, Plugin;
    /// Volumes of a project.
    ProjectVolumesConnection, ProjectVolumesConnectionEdge, Volume;
    /// Volumes of an environment.
    EnvironmentVolumeInstancesConnection, EnvironmentVolumeInstancesConnectionEdge, VolumeInstance;
}

/// A page without rows.
pub(crate) fn nothing<T>() -> domain::page::Page<T> {
    domain::page::Page { items: vec![], has_next: false, has_previous: false }
}
