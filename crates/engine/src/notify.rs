//! Makes messages of what has happened to apps, and starts the workflows that wait for it.
//!
//! Should be true after each pass: every entry of the audit log about an app has been looked at, for each that somebody wants to be told
//! of, by their settings or by a rule, there is a message, and for each that a workflow waits for a run. All are one commit, so that none
//! is told twice or forgotten; sending is [`crate::outgoing::post`]'s affair, and holds up nobody.

mod rules;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use domain::activity::{Activity, Actor};
use domain::delivery::{Delivery, DeliveryState, Target};
use domain::galaxy::ActivityKind;
use domain::notification::NotificationSettings;
use domain::project::Domain;
use domain::{DeliveryId, InstanceId, Tenant, Timestamp, UserId, WorkspaceId};
use serde_json::json;
use store::{Change, StoreError};

use crate::Shared;

/// Entries of one pass.
const BATCH: u32 = 200;
/// The clock's own look, for a bell that was lost.
const PERIOD: Duration = Duration::from_secs(5);

/// Runs until the engine stops.
pub(crate) async fn run(shared: Arc<Shared>) {
    let (mut rings, mut told) = (shared.ops.signals.work(), shared.told.subscribe());
    loop {
        rings.mark_unchanged();
        told.mark_unchanged();
        match pass(&shared).await {
            Ok(true) => continue,
            Ok(false) => {}
            Err(error) => tracing::warn!(%error, "notifications could not be made; it is tried again"),
        }
        tokio::select! {
            () = shared.shutdown.cancelled() => return,
            _ = rings.changed() => {}
            _ = told.changed() => {}
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

/// One look. Returns whether there may be more.
async fn pass(shared: &Arc<Shared>) -> Result<bool, StoreError> {
    let pending = shared.ops.store.system_activities_pending(BATCH).await?;
    let mut more = pending.len() == BATCH as usize;
    let mut by_workspace: BTreeMap<WorkspaceId, Vec<Activity>> = BTreeMap::new();
    for activity in pending {
        by_workspace.entry(activity.workspace_id).or_default().push(activity);
    }
    let mut made = false;
    for (workspace, activities) in by_workspace {
        match tell(shared, Tenant::system(workspace), activities).await {
            Ok(told) => {
                made |= told.made;
                more &= !told.left;
            }
            // The other workspaces do not wait for it, nor is it asked again and again.
            Err(error) => {
                tracing::warn!(%error, %workspace, "notifications of an account could not be made; it is tried again");
                more = false;
            }
        }
    }
    if made {
        shared.mail.send_modify(|count| *count += 1);
    }
    Ok(more)
}

/// What a look at one workspace came to.
struct Told {
    /// There are messages to send.
    made: bool,
    /// Entries are left for another look, which is not to come at once.
    left: bool,
}

/// Makes the messages of one workspace, unless somebody else does.
async fn tell(shared: &Shared, tenant: Tenant, mut activities: Vec<Activity>) -> Result<Told, StoreError> {
    let starts = ops::flow_trigger::system_event_starts(&shared.ops, tenant, &activities, Timestamp::now()).await?;
    let left = !starts.later.is_empty();
    activities.retain(|activity| !starts.later.contains(&activity.id));
    if activities.is_empty() {
        return Ok(Told { made: false, left });
    }
    let noticed = Change::ActivitiesNoticed(activities.iter().map(|activity| activity.id).collect());
    let mut names = Names::default();
    let mut made = readable(tenant, messages(shared, tenant, &activities, &mut names).await)?;
    made.extend(readable(tenant, rules::messages(shared, tenant, &activities, &mut names).await)?);
    let some = !made.is_empty();
    let begun = !starts.changes.is_empty();
    let changes = std::iter::once(noticed).chain(made.into_iter().map(Change::DeliveryInsert)).chain(starts.changes).collect();
    match shared.ops.store.commit(tenant, changes).await {
        Ok(_) => {
            if begun {
                shared.ops.signals.ring_runs();
            }
            Ok(Told { made: some, left })
        }
        // Somebody else has made some of them, or has changed meanwhile what was to start.
        Err(StoreError::Stale) => Ok(Told { made: false, left: true }),
        Err(error) => Err(error),
    }
}

/// What nobody can read today, nobody can tomorrow: the entries behind these would wait for ever.
fn readable(tenant: Tenant, made: Result<Vec<Delivery>, StoreError>) -> Result<Vec<Delivery>, StoreError> {
    match made {
        Err(error @ StoreError::Corrupt(_)) => {
            tracing::error!(%error, workspace = %tenant.workspace(), "notifications are left out");
            Ok(vec![])
        }
        made => made,
    }
}

/// What the apps and the account want to be told.
async fn messages(shared: &Shared, tenant: Tenant, activities: &[Activity], names: &mut Names) -> Result<Vec<Delivery>, StoreError> {
    let store = &shared.ops.store;
    let told: Vec<(&Activity, ActivityKind, InstanceId)> =
        activities.iter().filter_map(|activity| Some((activity, ActivityKind::of(activity)?, activity.instance_id?))).collect();
    let instances: Vec<InstanceId> = told.iter().map(|(_, _, id)| *id).collect::<BTreeSet<_>>().into_iter().collect();
    if instances.is_empty() {
        return Ok(vec![]);
    }
    let settings: HashMap<Option<InstanceId>, NotificationSettings> =
        store.notification_settings(tenant, &instances).await?.into_iter().collect();
    if settings.is_empty() {
        return Ok(vec![]);
    }
    let hosts = hosts(shared, tenant).await?;
    let mut deliveries = vec![];
    for (activity, kind, instance) in told {
        // A database or a worker is no app.
        // One that is gone is called what its last entry says.
        let host = hosts.get(&instance).map(String::as_str).or_else(|| activity.data.get("host")?.as_str());
        let Some(host) = host else { continue };
        // An app's own settings override all of the account's.
        let Some(settings) = settings.get(&Some(instance)).or_else(|| settings.get(&None)) else { continue };
        let (slack, mail) = (settings.slack_for(kind.wire), settings.mail_for(kind.wire));
        if slack.is_none() && mail.is_none() {
            continue;
        }
        let who = names.who(shared, &activity.actor).await?;
        let text = kind.sentence(activity, &who, host);
        if let Some((url, channel)) = slack {
            let mut body = json!({"text": text, "attachments": [{"fallback": text, "title": kind.label, "footer": host}]});
            if let Some(channel) = channel {
                body["channel"] = json!(channel);
            }
            let target = Target::Webhook { url: url.to_owned(), headers: BTreeMap::new(), secret: None };
            deliveries.push(message(tenant, "notification", instance.to_string(), target, body.to_string()));
        }
        if let Some(to) = mail {
            let to = if to.is_empty() { names.members(shared, tenant).await? } else { to.to_vec() };
            let target = Target::Mail { to, subject: format!("{}: {host}", kind.label) };
            let body = format!("{text}\n\n{}\n", shared.ops.settings.dashboard_url);
            deliveries.push(message(tenant, "notification", instance.to_string(), target, body));
        }
    }
    Ok(deliveries)
}

fn message(tenant: Tenant, kind: &str, subject: String, target: Target, body: String) -> Delivery {
    let now = Timestamp::now();
    Delivery {
        id: DeliveryId::generate(),
        workspace_id: tenant.workspace(),
        kind: kind.to_owned(),
        subject,
        target,
        body,
        state: DeliveryState::Pending,
        attempts: 0,
        tries: 0,
        next_at: now,
        created_at: now,
        updated_at: now,
    }
}

/// What the apps of an account are called: the first of each one's domains.
async fn hosts(shared: &Shared, tenant: Tenant) -> Result<HashMap<InstanceId, String>, StoreError> {
    let store = &shared.ops.store;
    let domains = store.domains_of_workspace(tenant).await?;
    let mut hosts = HashMap::new();
    for instance in store.instances_of_workspace(tenant).await? {
        let is_its = |domain: &&Domain| domain.environment_id == instance.environment_id && domain.service_id == instance.service_id;
        hosts.extend(domains.iter().find(is_its).map(|domain| (instance.id, domain.domain.clone())));
    }
    Ok(hosts)
}

/// Names that a pass has looked up.
#[derive(Default)]
struct Names {
    people: HashMap<UserId, String>,
    members: Option<Vec<String>>,
}

impl Names {
    async fn who(&mut self, shared: &Shared, actor: &Actor) -> Result<String, StoreError> {
        let (id, fallback) = match actor {
            Actor::User { id, name, .. } => (*id, name),
            Actor::Key { label, .. } => return Ok(format!("the key {label}")),
            Actor::System { .. } => return Ok("Galaxy".into()),
        };
        if let Some(known) = self.people.get(&id) {
            return Ok(known.clone());
        }
        let found = shared.ops.store.usernames(&[id]).await?.into_iter().next().map(|(_, name)| name);
        let name = found.unwrap_or_else(|| fallback.clone());
        self.people.insert(id, name.clone());
        Ok(name)
    }

    async fn members(&mut self, shared: &Shared, tenant: Tenant) -> Result<Vec<String>, StoreError> {
        if self.members.is_none() {
            self.members = Some(shared.ops.store.members(tenant).await?.into_iter().map(|member| member.user.email).collect());
        }
        Ok(self.members.clone().unwrap_or_default())
    }
}
