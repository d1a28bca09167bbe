//! Types of things that this server does not have yet and whose lists clients read: the lists are truthfully empty, and no value of
//! these types can be made.

use std::convert::Infallible;

use juniper::{ID, graphql_object};

use super::connection::connection;
use super::project::Project;
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

nodes!(Bucket);

impossible! {
    /// A store for objects.
    Bucket { created_at: DateTime, id: ID, name: String, project: Project, project_id: String, updated_at: DateTime }
    /// What is known of a pull request's environment.
    EnvironmentMeta {
        base_branch: Option<String>, branch: Option<String>, pr_number: Option<i32>, pr_repo: Option<String>, pr_title: Option<String>,
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
}

/// A page without rows.
pub(crate) fn nothing<T>() -> domain::page::Page<T> {
    domain::page::Page { items: vec![], has_next: false, has_previous: false }
}
