//! What rules tell of deployments.

use std::collections::BTreeMap;

use domain::account::Workspace;
use domain::activity::Activity;
use domain::delivery::{Delivery, RULE_DELIVERIES, Target};
use domain::deployment::Deployment;
use domain::notification_rule::{ChannelConfig, Notice, NoticeEvent, NotificationRule};
use domain::project::{Environment, Project, Service};
use domain::{DeploymentId, Tenant};
use store::StoreError;

use super::{Names, message};
use crate::Shared;

/// An entry and what it tells.
type Entry<'a> = (&'a Activity, NoticeEvent);

/// A message for each channel of each rule that wants to hear of an entry.
pub(super) async fn messages(
    shared: &Shared,
    tenant: Tenant,
    activities: &[Activity],
    names: &mut Names,
) -> Result<Vec<Delivery>, StoreError> {
    let told: Vec<Entry<'_>> = activities.iter().filter_map(|activity| Some((activity, NoticeEvent::of(activity)?))).collect();
    if told.is_empty() {
        return Ok(vec![]);
    }
    let rules = shared.ops.store.notification_rules(tenant).await?;
    let wants = |rule: &NotificationRule, (activity, event): &Entry<'_>| rule.wants(*event, activity.project_id);
    let wanted: Vec<Entry<'_>> = told.into_iter().filter(|one| rules.iter().any(|rule| wants(rule, one))).collect();
    if wanted.is_empty() {
        return Ok(vec![]);
    }
    let known = Known::read(shared, tenant, &wanted).await?;
    let mut deliveries = vec![];
    for one in &wanted {
        // Of what was deleted meanwhile there is nothing to tell any more.
        let Some(notice) = known.notice(one) else { continue };
        for rule in rules.iter().filter(|rule| wants(rule, one) && rule.covers(notice.environment)) {
            for channel in &rule.channels {
                let (target, body) = match &channel.config {
                    ChannelConfig::Webhook { url, secret } => {
                        let target = Target::Webhook { url: url.clone(), headers: BTreeMap::new(), secret: secret.clone() };
                        (target, notice.body(url).to_string())
                    }
                    ChannelConfig::Email { to } => {
                        let to = if to.is_empty() { names.members(shared, tenant).await? } else { to.clone() };
                        let body = format!("{}\n\n{}\n", notice.sentence(), page(shared, &notice));
                        (Target::Mail { to, subject: notice.title() }, body)
                    }
                };
                deliveries.push(message(tenant, RULE_DELIVERIES, rule.id.to_string(), target, body));
            }
        }
    }
    Ok(deliveries)
}

/// Where people see the deployment.
fn page(shared: &Shared, notice: &Notice<'_>) -> String {
    let base = shared.ops.settings.dashboard_url.trim_end_matches('/');
    let Notice { project, environment, service, deployment, .. } = notice;
    format!("{base}/p/{}/{}/s/{}/deployments/{}", project.id, environment.id, service.id, deployment.id)
}

/// What entries are about, read in one statement for all of a kind.
struct Known {
    workspace: Option<Workspace>,
    projects: Vec<Project>,
    environments: Vec<Environment>,
    services: Vec<Service>,
    deployments: Vec<Deployment>,
}

impl Known {
    async fn read(shared: &Shared, tenant: Tenant, told: &[Entry<'_>]) -> Result<Self, StoreError> {
        let store = &shared.ops.store;
        let ids: Vec<DeploymentId> = told.iter().filter_map(|(activity, _)| activity.subject.parse().ok()).collect();
        let deployments = store.deployments_by_id(tenant, &ids).await?;
        let projects: Vec<_> = deployments.iter().map(|deployment| deployment.project_id).collect();
        let environments: Vec<_> = deployments.iter().map(|deployment| deployment.environment_id).collect();
        let services: Vec<_> = deployments.iter().map(|deployment| deployment.service_id).collect();
        Ok(Self {
            workspace: store.workspace(tenant.workspace()).await?.and_then(|sealed| sealed.open(tenant)),
            projects: store.projects_by_id(tenant, &projects).await?,
            environments: store.environments_by_id(tenant, &environments).await?,
            services: store.services_by_id(tenant, &services).await?,
            deployments,
        })
    }

    fn notice<'a>(&'a self, (activity, event): &Entry<'a>) -> Option<Notice<'a>> {
        let id: DeploymentId = activity.subject.parse().ok()?;
        let deployment = self.deployments.iter().find(|deployment| deployment.id == id)?;
        Some(Notice {
            event: *event,
            at: activity.created_at,
            reason: activity.data.get("reason").and_then(serde_json::Value::as_str),
            workspace: self.workspace.as_ref()?,
            project: self.projects.iter().find(|project| project.id == deployment.project_id)?,
            environment: self.environments.iter().find(|environment| environment.id == deployment.environment_id)?,
            service: self.services.iter().find(|service| service.id == deployment.service_id)?,
            deployment,
        })
    }
}
