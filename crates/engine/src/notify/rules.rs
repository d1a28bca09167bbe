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

/// A message for each channel of each rule that wants to hear of an entry.
pub(super) async fn messages(
    shared: &Shared,
    tenant: Tenant,
    activities: &[Activity],
    names: &mut Names,
) -> Result<Vec<Delivery>, StoreError> {
    let told: Vec<(&Activity, NoticeEvent)> =
        activities.iter().filter_map(|activity| Some((activity, NoticeEvent::of(activity)?))).collect();
    if told.is_empty() {
        return Ok(vec![]);
    }
    let rules = shared.ops.store.notification_rules(tenant).await?;
    let mut deliveries = vec![];
    for (activity, event) in told {
        let wanting: Vec<&NotificationRule> = rules.iter().filter(|rule| rule.wants(event, activity.project_id)).collect();
        if wanting.is_empty() {
            continue;
        }
        // Of what was deleted meanwhile there is nothing to tell any more.
        let Some(about) = About::find(shared, tenant, activity).await? else { continue };
        let notice = about.notice(activity, event);
        for rule in wanting.into_iter().filter(|rule| rule.covers(&about.environment)) {
            for channel in &rule.channels {
                let (target, body) = match &channel.config {
                    ChannelConfig::Webhook { url, secret } => {
                        let target = Target::Webhook { url: url.clone(), headers: BTreeMap::new(), secret: secret.clone() };
                        (target, notice.body(url).to_string())
                    }
                    ChannelConfig::Email { to } => {
                        let to = if to.is_empty() { names.members(shared, tenant).await? } else { to.clone() };
                        let body = format!("{}\n\n{}\n", notice.sentence(), page(shared, &about));
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
fn page(shared: &Shared, about: &About) -> String {
    let base = shared.ops.settings.dashboard_url.trim_end_matches('/');
    let About { project, environment, service, deployment, .. } = about;
    format!("{base}/p/{}/{}/s/{}/deployments/{}", project.id, environment.id, service.id, deployment.id)
}

/// What an entry is about.
struct About {
    workspace: Workspace,
    project: Project,
    environment: Environment,
    service: Service,
    deployment: Deployment,
}

impl About {
    async fn find(shared: &Shared, tenant: Tenant, activity: &Activity) -> Result<Option<Self>, StoreError> {
        let store = &shared.ops.store;
        let Ok(id) = activity.subject.parse::<DeploymentId>() else { return Ok(None) };
        let Some(deployment) = store.deployment(id).await?.and_then(|sealed| sealed.open(tenant)) else { return Ok(None) };
        let workspace = store.workspace(tenant.workspace()).await?.and_then(|sealed| sealed.open(tenant));
        let project = store.project(deployment.project_id).await?.and_then(|sealed| sealed.open(tenant));
        let environment = store.environment(deployment.environment_id).await?.and_then(|sealed| sealed.open(tenant));
        let service = store.service(deployment.service_id).await?.and_then(|sealed| sealed.open(tenant));
        let (Some(workspace), Some(project), Some(environment), Some(service)) = (workspace, project, environment, service) else {
            return Ok(None);
        };
        Ok(Some(Self { workspace, project, environment, service, deployment }))
    }

    fn notice<'a>(&'a self, activity: &'a Activity, event: NoticeEvent) -> Notice<'a> {
        let Self { workspace, project, environment, service, deployment } = self;
        let reason = activity.data.get("reason").and_then(serde_json::Value::as_str);
        Notice { event, at: activity.created_at, reason, workspace, project, environment, service, deployment }
    }
}
