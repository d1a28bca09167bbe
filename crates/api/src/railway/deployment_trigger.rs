//! From which branch of which repository a service deploys: a service has one such trigger in an environment, or none.

use std::sync::Arc;

use domain::page::{Page, PageRequest};
use domain::project::Instance;
use domain::spec::Source;
use juniper::{ID, graphql_object};

use super::connection::connection;
use crate::graphql::{Ctx, Scalar};

/// The branch of a service that is connected to a repository before one is named.
const DEFAULT_BRANCH: &str = "main";

/// The connection of a service to a repository.
#[derive(Clone)]
pub(crate) struct DeploymentTrigger {
    instance: Arc<Instance>,
    repository: String,
    branch: String,
}

connection! {
    /// Triggers of a service in an environment.
    QueryDeploymentTriggersConnection, QueryDeploymentTriggersConnectionEdge, DeploymentTrigger;
}

impl DeploymentTrigger {
    fn cursor(&self) -> String {
        self.instance.id.to_string()
    }
}

/// `deploymentTriggers` (`contracts/railway.md` 2.2)
pub(crate) fn of(instance: Arc<Instance>, page: &PageRequest) -> QueryDeploymentTriggersConnection {
    let found = match &instance.spec.source {
        Some(Source::Repo { repo, branch }) => {
            let branch = branch.clone().unwrap_or_else(|| DEFAULT_BRANCH.to_owned());
            Some(DeploymentTrigger { repository: repo.clone(), branch, instance })
        }
        Some(Source::Image(_)) | None => None,
    };
    // There is one at the most, so that whatever comes behind or before it is nothing.
    let wanted = page.after.is_none() && page.before.is_none() && page.first != Some(0) && page.last != Some(0);
    Page { items: found.filter(|_| wanted).into_iter().collect(), has_next: false, has_previous: false }.into()
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl DeploymentTrigger {
    fn branch(&self) -> &str {
        &self.branch
    }
    /// Whether it waits for checks of the repository's host; none are asked for.
    fn check_suites(&self) -> bool {
        false
    }
    fn environment_id(&self) -> String {
        self.instance.environment_id.to_string()
    }
    fn id(&self) -> ID {
        ID::from(self.instance.id.to_string())
    }
    fn project_id(&self) -> String {
        self.instance.project_id.to_string()
    }
    fn provider(&self) -> &str {
        "github"
    }
    fn repository(&self) -> &str {
        &self.repository
    }
    fn service_id(&self) -> Option<String> {
        Some(self.instance.service_id.to_string())
    }
}
