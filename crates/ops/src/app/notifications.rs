//! Whom an account or an app tells of what.

use domain::galaxy::ActivityKind;
use domain::notification::NotificationSettings;
use domain::{Permission, Place, Tenant};
use serde_json::json;
use store::{Change, NotificationChange};

use super::{account_get, app_for};
use crate::{Error, OpCtx};

/// The settings of an account; `None` when nobody is told of anything.
///
/// # Errors
/// The store does not answer.
pub async fn notification_settings_get(ctx: &OpCtx, tenant: Tenant) -> Result<Option<NotificationSettings>, Error> {
    // An address of a webhook lets whoever knows it write to the channel.
    let tenant = ctx.allow(tenant.workspace(), Place::Workspace, Permission::ReadSecrets)?;
    let found = ctx.ops.store.notification_settings(tenant, &[]).await?;
    Ok(found.into_iter().find(|(owner, _)| owner.is_none()).map(|(_, settings)| settings))
}

/// Sets them for an account (by username) or for an app (by id). `None` makes an app follow its account again.
///
/// # Errors
/// An unknown kind, an address that is none, not found, or not allowed.
pub async fn notification_settings_set(
    ctx: &OpCtx,
    username: Option<&str>,
    app_id: Option<&str>,
    settings: Option<NotificationSettings>,
) -> Result<(), Error> {
    if let Some(settings) = &settings {
        check(settings)?;
    }
    let (tenant, instance) = match (username, app_id) {
        (None, Some(app_id)) => {
            let app = app_for(ctx, app_id, Permission::Write).await?;
            (app.tenant, Some(app.row.instance))
        }
        (Some(username), None) => {
            let account = account_get(ctx, username).await?;
            (ctx.allow(account.row.id, Place::Workspace, Permission::Write)?, None)
        }
        _ => return Err(Error::bad_input("name an account (username) or an app (appId), not both")),
    };
    let id = instance.as_ref().map(|instance| instance.id);
    let told = |settings: &NotificationSettings| {
        let slack = settings.slack.as_ref().map(|slack| json!({"enabled": slack.enabled, "kinds": slack.kinds}));
        let mail = settings.mail.as_ref().map(|mail| json!({"enabled": mail.enabled, "kinds": mail.kinds}));
        json!({"slack": slack, "mail": mail})
    };
    let data = settings.as_ref().map_or(json!(null), told);
    let activity = match &instance {
        Some(instance) => ctx.activity_of(tenant, instance, "notification_settings_set", instance.id, data),
        None => ctx.activity(tenant, None, "notification_settings_set", tenant.workspace(), data),
    };
    let change = match settings {
        Some(settings) => NotificationChange::SettingsSet { instance: id, settings, at: ctx.now },
        None => NotificationChange::SettingsDelete { instance: id },
    };
    ctx.commit(tenant, vec![Change::Notification(change), activity]).await
}

fn check(settings: &NotificationSettings) -> Result<(), Error> {
    let known = ActivityKind::all();
    let slack = settings.slack.iter().flat_map(|slack| slack.kinds.iter().chain(slack.channels.keys()));
    let mail = settings.mail.iter().flat_map(|mail| mail.kinds.iter());
    for kind in slack.chain(mail) {
        if !known.iter().any(|one| one.wire == kind) {
            let names: Vec<&str> = known.iter().map(|one| one.wire).collect();
            return Err(Error::bad_input(format!("there is no kind of activity {kind:?}: known are {}", names.join(", "))));
        }
    }
    if let Some(slack) = &settings.slack
        && slack.enabled
        && (!(slack.url.starts_with("https://") || slack.url.starts_with("http://")) || slack.url.len() > 2_000)
    {
        return Err(Error::bad_input("slack.url must be the https:// address of an incoming webhook"));
    }
    settings.mail.as_ref().map_or(Ok(()), |mail| mailboxes(&mail.to))
}

/// Addresses that a message goes to.
pub(crate) fn mailboxes(to: &[String]) -> Result<(), Error> {
    for address in to {
        let form = address.split_once('@').is_some_and(|(name, host)| !name.is_empty() && host.contains('.'));
        if !form || address.len() > 254 || address.chars().any(|c| c.is_control() || c.is_whitespace()) {
            return Err(Error::bad_input(format!("{address:?} is not a mail address")));
        }
    }
    if to.len() > 50 {
        return Err(Error::bad_input("a notification goes to at most 50 mailboxes"));
    }
    Ok(())
}
