//! Rules that tell webhooks and mailboxes of deployments. What they make of them is `engine::notify`'s affair.

use domain::delivery::{Delivery, DeliveryAttempt, RULE_DELIVERIES};
use domain::notification_rule::{Channel, ChannelConfig, NoticeEvent, NoticeSeverity, NotificationRule, RuleSpec};
use domain::{DeliveryId, NotificationChannelId, NotificationRuleId, Permission, Place, ProjectId, Tenant, UserId, WorkspaceId};
use serde_json::{Map, Value, json};
use store::{Change, NotificationChange, StoreError};
use url::Url;
use uuid::Uuid;

use crate::context::{Opened, anew};
use crate::{Error, OpCtx, Principal, app, project};

/// Rules of one workspace.
const MAX_RULES: usize = 50;
/// Channels of one rule.
const MAX_CHANNELS: usize = 10;
/// Messages of a rule that are listed.
const LISTED: u32 = 50;

/// A new rule.
#[derive(Clone, Debug)]
pub struct NotificationRuleCreate {
    /// Whose.
    pub workspace: WorkspaceId,
    /// The only project that it is about; every one of the workspace for `None`.
    pub project: Option<ProjectId>,
    /// `{"type": "WEBHOOK", "url": …, "secret": …}` or `{"type": "EMAIL", "to": […]}` each.
    pub channels: Vec<Value>,
    /// Names of events; every event when there are none.
    pub event_types: Vec<String>,
    /// Severities; every one when there are none.
    pub severities: Vec<NoticeSeverity>,
    /// Whether environments of pull requests are told of too.
    pub ephemeral_environments: Option<bool>,
}

/// Changes of a rule; what is `None` stays.
#[derive(Clone, Debug, Default)]
pub struct NotificationRulePatch {
    /// As for a new one. A webhook to an address that the rule has already keeps its secret unless another, or null, is sent.
    pub channels: Option<Vec<Value>>,
    /// Names of events; every event when there are none.
    pub event_types: Option<Vec<String>>,
    /// Severities; every one when there are none.
    pub severities: Option<Vec<NoticeSeverity>>,
    /// Whether environments of pull requests are told of too.
    pub ephemeral_environments: Option<bool>,
}

/// The rules of a workspace, oldest first, or those of one project of it.
///
/// # Errors
/// Not found, or a role below member: an address of a webhook lets whoever knows it write there.
pub async fn notification_rules(ctx: &OpCtx, workspace: WorkspaceId, project: Option<ProjectId>) -> Result<Vec<NotificationRule>, Error> {
    let tenant = ctx.allow(workspace, Place::Workspace, Permission::ReadSecrets)?;
    let mut rules = ctx.ops.store.notification_rules(tenant).await?;
    rules.retain(|rule| project.is_none() || rule.project_id == project);
    Ok(rules)
}

/// Makes a rule.
///
/// # Errors
/// An unknown event, a bad channel, too many of them, not found, or a role below member.
pub async fn notification_rule_create(ctx: &OpCtx, wanted: NotificationRuleCreate) -> Result<NotificationRule, Error> {
    let NotificationRuleCreate { workspace, project, channels, event_types, severities, ephemeral_environments } = wanted;
    let tenant = ctx.allow(workspace, Place::Workspace, Permission::Write)?;
    if let Some(project) = project {
        let found = project::project_for(ctx, project, Permission::Write).await?;
        if found.tenant.workspace() != workspace {
            return Err(Error::not_found("Project"));
        }
    }
    if ctx.ops.store.notification_rules(tenant).await?.len() >= MAX_RULES {
        return Err(Error::conflict(format!("A workspace has at most {MAX_RULES} notification rules: change or delete one of them")));
    }
    let rule = NotificationRule {
        id: NotificationRuleId::generate(),
        workspace_id: workspace,
        project_id: project,
        created_by: maker(ctx, tenant).await?,
        spec: RuleSpec { event_types: events(event_types)?, severities, ephemeral_environments },
        channels: read_channels(ctx, &channels, &[])?,
        created_at: ctx.now,
        updated_at: ctx.now,
    };
    let activity = ctx.activity(tenant, project, "notification_rule_create", rule.id, told(&rule));
    let insert = Change::Notification(NotificationChange::RuleInsert(rule.clone()));
    ctx.commit(tenant, vec![insert, activity]).await?;
    Ok(rule)
}

/// Changes what a rule tells, or where to.
///
/// # Errors
/// As for a new one.
pub async fn notification_rule_update(
    ctx: &OpCtx,
    id: NotificationRuleId,
    patch: NotificationRulePatch,
) -> Result<NotificationRule, Error> {
    let patch = &patch;
    anew(|| update(ctx, id, patch)).await
}

async fn update(ctx: &OpCtx, id: NotificationRuleId, patch: &NotificationRulePatch) -> Result<NotificationRule, Error> {
    let Opened { tenant, row } = rule_for(ctx, id).await?;
    let (before, seen) = (told(&row), row.updated_at);
    let mut rule = NotificationRule { updated_at: ctx.now, ..row };
    if let Some(names) = &patch.event_types {
        rule.spec.event_types = events(names.clone())?;
    }
    if let Some(severities) = &patch.severities {
        rule.spec.severities.clone_from(severities);
    }
    rule.spec.ephemeral_environments = patch.ephemeral_environments.or(rule.spec.ephemeral_environments);
    if let Some(channels) = &patch.channels {
        rule.channels = read_channels(ctx, channels, &rule.channels)?;
    }
    let data = json!({"before": before, "after": told(&rule)});
    let activity = ctx.activity(tenant, rule.project_id, "notification_rule_update", id, data);
    let update = Change::Notification(NotificationChange::RuleUpdate { rule: rule.clone(), seen });
    ctx.commit(tenant, vec![update, activity]).await?;
    Ok(rule)
}

/// Deletes a rule, with its messages that wait to be sent.
///
/// # Errors
/// Not found, or a role below member.
pub async fn notification_rule_delete(ctx: &OpCtx, id: NotificationRuleId) -> Result<(), Error> {
    let Opened { tenant, row } = rule_for(ctx, id).await?;
    let activity = ctx.activity(tenant, row.project_id, "notification_rule_delete", id, told(&row));
    ctx.commit(tenant, vec![Change::Notification(NotificationChange::RuleDelete(id)), activity]).await
}

/// The newest messages of a rule, newest first, each with its attempts, oldest first. They are kept for thirty days.
///
/// # Errors
/// Not found, or a role below member.
pub async fn notification_rule_deliveries(ctx: &OpCtx, id: NotificationRuleId) -> Result<Vec<(Delivery, Vec<DeliveryAttempt>)>, Error> {
    let tenant = rule_for(ctx, id).await?.tenant;
    Ok(ctx.ops.store.deliveries_with_attempts(tenant, RULE_DELIVERIES, &id.to_string(), LISTED).await?)
}

/// Sends a message of a rule again: to where it went then, under its own id.
///
/// # Errors
/// It is still under way, not found, or a role below member.
pub async fn notification_rule_delivery_replay(ctx: &OpCtx, id: DeliveryId) -> Result<(), Error> {
    let found = ctx.ops.store.delivery(id).await?;
    let Opened { tenant, row } = ctx.open(found, "Delivery", |_| Place::Workspace, Permission::Write)?;
    let rule = Uuid::parse_str(&row.subject).ok().filter(|_| row.kind == RULE_DELIVERIES).map(NotificationRuleId);
    let rule = rule_for(ctx, rule.ok_or_else(|| Error::not_found("Delivery"))?).await?.row;
    let replay = Change::DeliveryReplay { id, at: ctx.now };
    let data = json!({"rule": rule.id.to_string()});
    let activity = ctx.activity(tenant, rule.project_id, "notification_rule_delivery_replay", id, data);
    match ctx.ops.store.commit(tenant, vec![replay, activity]).await {
        Err(StoreError::Stale) => return Err(Error::conflict("This message is still under way: wait for its end")),
        outcome => outcome?,
    };
    ctx.ops.signals.ring();
    Ok(())
}

async fn rule_for(ctx: &OpCtx, id: NotificationRuleId) -> Result<Opened<NotificationRule>, Error> {
    let found = ctx.ops.store.notification_rule(id).await?;
    ctx.open(found, "Notification rule", |_| Place::Workspace, Permission::Write)
}

/// The member with whom a rule goes: what a key makes is its maker's. An operator may reach a workspace without being one.
async fn maker(ctx: &OpCtx, tenant: Tenant) -> Result<Option<UserId>, Error> {
    let user = match &ctx.principal {
        Principal::User(person) => person.user.id,
        Principal::Key(key) => key.key.user_id,
        Principal::Anonymous | Principal::System(_) => return Ok(None),
    };
    let members = ctx.ops.store.members(tenant).await?;
    Ok(members.iter().any(|member| member.user.id == user).then_some(user))
}

/// What the audit log says of a rule: neither addresses nor secrets.
fn told(rule: &NotificationRule) -> Value {
    let channels: Vec<&str> = rule
        .channels
        .iter()
        .map(|channel| match channel.config {
            ChannelConfig::Webhook { .. } => "WEBHOOK",
            ChannelConfig::Email { .. } => "EMAIL",
        })
        .collect();
    json!({"eventTypes": rule.spec.event_types, "severities": rule.spec.severities, "channels": channels})
}

/// The names as they were sent, each of them known; one that comes twice stays once.
fn events(names: Vec<String>) -> Result<Vec<String>, Error> {
    let mut known: Vec<String> = vec![];
    for name in names {
        if NoticeEvent::parse(&name).is_none() {
            let all: Vec<&str> = NoticeEvent::ALL.iter().map(|event| event.as_str()).collect();
            let name: String = name.chars().take(80).collect();
            return Err(Error::bad_input(format!("eventTypes: there is no event {name:?}; known are {}", all.join(", "))));
        }
        if !known.contains(&name) {
            known.push(name);
        }
    }
    Ok(known)
}

fn read_channels(ctx: &OpCtx, given: &[Value], before: &[Channel]) -> Result<Vec<Channel>, Error> {
    if given.is_empty() || given.len() > MAX_CHANNELS {
        return Err(Error::bad_input(format!("channelConfigs: a rule has 1 to {MAX_CHANNELS} channels")));
    }
    let mut channels: Vec<Channel> = vec![];
    for value in given {
        let config = read_channel(value, before)?;
        if channels.iter().any(|other| leads_to(&other.config) == leads_to(&config)) {
            return Err(Error::bad_input("channelConfigs: two channels lead to the same place: leave one of them out"));
        }
        let same = before.iter().find(|other| leads_to(&other.config) == leads_to(&config));
        let id = same.map_or_else(NotificationChannelId::generate, |other| other.id);
        channels.push(Channel { id, config, created_at: same.map_or(ctx.now, |other| other.created_at), updated_at: ctx.now });
    }
    Ok(channels)
}

/// What a channel is known again by when its rule is changed: its address; there is one for mail.
fn leads_to(config: &ChannelConfig) -> Option<&str> {
    match config {
        ChannelConfig::Webhook { url, .. } => Some(url),
        ChannelConfig::Email { .. } => None,
    }
}

/// How a channel is written.
const FORM: &str =
    r#"write {"type": "WEBHOOK", "url": "https://…", "secret": "…"} (the secret may be left out), or {"type": "EMAIL", "to": ["…"]}"#;

fn bad(what: &str) -> Error {
    Error::bad_input(format!("channelConfigs: {what}; {FORM}"))
}

fn read_channel(value: &Value, before: &[Channel]) -> Result<ChannelConfig, Error> {
    let fields = value.as_object().ok_or_else(|| bad("a channel is an object"))?;
    let kind = fields.get("type").and_then(Value::as_str).map(str::to_ascii_uppercase);
    let (mail, known): (bool, &[&str]) = match kind.as_deref() {
        // `signed` is what a webhook is read back with: whoever sends that again means no harm.
        Some("WEBHOOK") => (false, &["type", "url", "secret", "signed"]),
        Some("EMAIL") => (true, &["type", "to"]),
        _ => return Err(bad("the type of a channel is WEBHOOK or EMAIL")),
    };
    if let Some(unknown) = fields.keys().find(|name| !known.contains(&name.as_str())) {
        let unknown: String = unknown.chars().take(80).collect();
        return Err(bad(&format!("there is no field {unknown:?} in such a channel")));
    }
    if mail { read_mail(fields) } else { read_webhook(fields, before) }
}

fn read_mail(fields: &Map<String, Value>) -> Result<ChannelConfig, Error> {
    let to = match fields.get("to") {
        None | Some(Value::Null) => Some(vec![]),
        Some(Value::Array(all)) => all.iter().map(|one| one.as_str().map(str::to_owned)).collect(),
        Some(_) => None,
    };
    let to: Vec<String> = to.ok_or_else(|| bad("to is a list of mail addresses"))?;
    app::mailboxes(&to)?;
    Ok(ChannelConfig::Email { to })
}

fn read_webhook(fields: &Map<String, Value>, before: &[Channel]) -> Result<ChannelConfig, Error> {
    let url = fields.get("url").and_then(Value::as_str).ok_or_else(|| bad("a webhook has a url"))?.to_owned();
    check_url(&url)?;
    let secret = match fields.get("secret") {
        None => before.iter().find_map(|channel| match &channel.config {
            ChannelConfig::Webhook { url: other, secret } if *other == url => secret.clone(),
            _ => None,
        }),
        Some(Value::Null) => None,
        Some(Value::String(secret)) => Some(check_secret(secret)?),
        Some(_) => return Err(bad("a secret is a text")),
    };
    Ok(ChannelConfig::Webhook { url, secret })
}

/// The address of a webhook. Where it may lead is decided when it is asked.
pub(crate) fn check_url(text: &str) -> Result<(), Error> {
    let bad =
        || Error::bad_input("the url of a webhook is an address like https://host/path, without a password, of at most 2000 characters");
    let url = Url::parse(text).map_err(|_| bad())?;
    let plain = matches!(url.scheme(), "http" | "https") && url.host_str().is_some_and(|host| !host.is_empty());
    let open = url.username().is_empty() && url.password().is_none();
    if !plain || !open || text.len() > 2_000 || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(bad());
    }
    Ok(())
}

fn check_secret(secret: &str) -> Result<String, Error> {
    let long = (16..=256).contains(&secret.len());
    if !long || secret.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(Error::bad_input(
            "the secret of a webhook has 16 to 256 characters and no spaces: whsec_ and base64, or any other text",
        ));
    }
    Ok(secret.to_owned())
}
