//! `orrery token …`: the keys of every kind, for whoever can read the database and its key.
//!
//! Each command runs the verb that the API runs, as the person whose key it is, or as an owner of the workspace that the key belongs to.

use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, ValueEnum};
use domain::key::{ApiKey, KeyKind, KeyLimits};
use domain::rate::Day;
use domain::{ApiKeyId, EnvironmentId, Role, Tenant, Timestamp, UserId, WorkspaceId};
use ops::api_key::{ApiKeyCreate, ApiKeyPatch};
use secrecy::ExposeSecret;
use store::Store;

use crate::admin::{Acting, find_user, find_workspace, with_store};
use crate::config::Config;
use crate::serve;

/// Kinds of keys that can be made.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Kind {
    /// Acts as its user.
    Account,
    /// Acts for one workspace.
    Workspace,
    /// Acts in one environment of a project.
    Project,
    /// For the Galaxy API; a new one replaces the old one.
    Galaxy,
    /// For the Flow API.
    Flow,
}

/// A key's own limits; a window that is left out is limited by the plan.
#[derive(Clone, Copy, Debug, Args)]
pub(crate) struct Windows {
    /// Requests per second.
    #[arg(long)]
    per_second: Option<u32>,
    /// Requests per minute.
    #[arg(long)]
    per_minute: Option<u32>,
    /// Requests per hour.
    #[arg(long)]
    per_hour: Option<u32>,
    /// Requests per day.
    #[arg(long)]
    per_day: Option<u32>,
}

impl Windows {
    fn any(self) -> bool {
        [self.per_second, self.per_minute, self.per_hour, self.per_day].iter().any(Option::is_some)
    }

    /// These limits in the place of those.
    fn over(self, limits: KeyLimits) -> KeyLimits {
        KeyLimits {
            second: self.per_second.or(limits.second),
            minute: self.per_minute.or(limits.minute),
            hour: self.per_hour.or(limits.hour),
            day: self.per_day.or(limits.day),
        }
    }
}

/// Which key `orrery token create` makes.
#[derive(Clone, Debug, Args)]
pub(crate) struct Wanted {
    /// What the token is for.
    #[arg(long, default_value = "cli")]
    name: String,
    /// Which kind of key.
    #[arg(long, value_enum, default_value = "account")]
    kind: Kind,
    /// The user's e-mail address; the first admin when it is left out.
    #[arg(long)]
    user: Option<String>,
    /// The id or username of the workspace that a workspace, Galaxy or Flow key is for; the user's own when it is left out.
    #[arg(long)]
    workspace: Option<String>,
    /// The id of the environment that a project token is for.
    #[arg(long)]
    environment: Option<EnvironmentId>,
    /// When it stops working: a time such as 2026-12-31T00:00:00Z, or a span from now such as 30d or 12h.
    #[arg(long, value_name = "TIME")]
    expires: Option<String>,
    #[command(flatten)]
    windows: Windows,
}

fn end(text: &str, now: Timestamp) -> anyhow::Result<Timestamp> {
    let wrong = || format!("{text:?} is neither a time such as 2026-12-31T00:00:00Z nor a span such as 30d or 12h");
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    let (count, unit) = text.split_at(text.len() - text.chars().next_back().map_or(0, char::len_utf8));
    let hours = match unit {
        "d" => 24,
        "h" => 1,
        _ => anyhow::bail!(wrong()),
    };
    let count: i64 = count.parse().ok().filter(|count| (1..=1_000_000).contains(count)).with_context(wrong)?;
    Ok(now.checked_add(jiff::SignedDuration::from_hours(count * hours))?)
}

/// Creates a key and prints it.
pub(crate) fn create(config: Config, wanted: Wanted) -> anyhow::Result<ExitCode> {
    let lost = matches!(wanted.kind, Kind::Project) && wanted.environment.is_none();
    anyhow::ensure!(!lost, "a project token is for one environment: give its id with --environment, as `railway status --json` shows it");
    with_store(config, async |store, config| {
        let user = find_user(&store, wanted.user.as_deref()).await?;
        let workspace = match (&wanted.workspace, wanted.kind) {
            (Some(name), _) => Some(find_workspace(&store, name).await?),
            (None, Kind::Workspace) => own_workspace(&store, user.id).await?,
            (None, _) => None,
        };
        let acting = Acting::as_user(store, &config, user.id).await?;
        let create = ApiKeyCreate {
            kind: match wanted.kind {
                Kind::Account => KeyKind::Account,
                Kind::Workspace => KeyKind::Workspace,
                Kind::Project => KeyKind::Project,
                Kind::Galaxy => KeyKind::Galaxy,
                Kind::Flow => KeyKind::Flow,
            },
            label: Some(wanted.name.clone()),
            workspace,
            environment: wanted.environment,
            limits: wanted.windows.over(KeyLimits::OF_PLAN),
            expires_at: wanted.expires.as_deref().map(|text| end(text, acting.ctx.now)).transpose()?,
        };
        let (_, secret) = ops::api_key::api_key_create(&acting.ctx, create).await?;
        Ok(secret.expose_secret().to_owned())
    })
}

async fn own_workspace(store: &Store, user: UserId) -> anyhow::Result<Option<WorkspaceId>> {
    let memberships = store.memberships(user).await?;
    Ok(memberships.into_iter().find(|membership| membership.workspace.personal_of == Some(user)).map(|found| found.workspace.id))
}

/// Lists a user's keys, revoked ones too, and those of the workspaces that they administer.
pub(crate) fn list(config: Config, user: Option<&str>) -> anyhow::Result<ExitCode> {
    with_store(config, async |store, _| {
        let user = find_user(&store, user).await?;
        let mut keys = store.api_keys_of_user(user.id, &[KeyKind::Account]).await?;
        let administered = store.memberships(user.id).await?.into_iter().filter(|membership| membership.role <= Role::Admin);
        let tenants: Vec<Tenant> = administered.map(|membership| Tenant::system(membership.workspace.id)).collect();
        keys.extend(store.api_keys_of_workspaces(&tenants).await?);
        let now = serve::now();
        Ok(keys.iter().map(|key| line(key, now)).collect::<Vec<_>>().join("\n"))
    })
}

fn line(key: &ApiKey, now: Timestamp) -> String {
    let state = match key {
        key if key.revoked_at.is_some() => "revoked",
        key if key.is_expired(now) => "expired",
        _ => "active",
    };
    let used = match (key.last_used_at, &key.last_used_address) {
        (None, _) => "never used".to_owned(),
        (Some(at), None) => format!("last used {at:.0}"),
        (Some(at), Some(address)) => format!("last used {at:.0} from {address}"),
    };
    let KeyLimits { second, minute, hour, day } = key.limits;
    let windows = [("second", second), ("minute", minute), ("hour", hour), ("day", day)];
    let limits: String = windows.iter().filter_map(|(name, limit)| limit.map(|limit| format!(", {limit} a {name}"))).collect();
    let until = key.expires_at.map(|at| format!(", until {at:.0}")).unwrap_or_default();
    format!("{}  {}  {}  {}  {state}, {used}{until}{limits}", key.id, key.display, key.kind.label(), key.label)
}

/// Acts as whoever may change the key.
async fn acting_for(store: Store, config: &Config, id: &str) -> anyhow::Result<(Acting, ApiKey)> {
    let unknown = || format!("no active token has the id {id}: see `orrery token list`");
    let parsed: ApiKeyId = id.parse().context("the id of a token is a UUID: see `orrery token list`")?;
    let key = store.api_key(parsed).await?.filter(|key| key.revoked_at.is_none()).with_context(unknown)?;
    let user = match key.workspace_id {
        None => key.user_id,
        Some(workspace) => {
            let members = store.members(Tenant::system(workspace)).await?;
            members.into_iter().min_by_key(|member| member.role).map(|owner| owner.user.id).with_context(unknown)?
        }
    };
    Ok((Acting::as_user(store, config, user).await?, key))
}

/// Revokes a key.
pub(crate) fn revoke(config: Config, id: &str) -> anyhow::Result<ExitCode> {
    with_store(config, async |store, config| {
        let (acting, key) = acting_for(store, &config, id).await?;
        ops::api_key::api_key_revoke(&acting.ctx, key.id).await?;
        Ok(format!("{id} is revoked"))
    })
}

/// Changes a key's name or its limits.
pub(crate) fn update(config: Config, id: &str, name: Option<String>, windows: Windows) -> anyhow::Result<ExitCode> {
    with_store(config, async |store, config| {
        let (acting, key) = acting_for(store, &config, id).await?;
        anyhow::ensure!(name.is_some() || windows.any(), "nothing to change: give --name, or a limit such as --per-minute");
        let patch = ApiKeyPatch { label: name, limits: windows.any().then(|| windows.over(key.limits)) };
        let key = ops::api_key::api_key_update(&acting.ctx, key.id, patch).await?;
        Ok(line(&key, acting.ctx.now))
    })
}

/// Prints how often a key was used on each of the last days.
pub(crate) fn usage(config: Config, id: &str, days: u32) -> anyhow::Result<ExitCode> {
    with_store(config, async |store, config| {
        let (acting, key) = acting_for(store, &config, id).await?;
        let today = Day::of(acting.ctx.now);
        let first = Day(today.0.saturating_sub(days.saturating_sub(1)));
        let found = ops::api_key::api_key_usage(&acting.ctx, key.id, Some(first), Some(today)).await?;
        let lines = found.iter().map(|day| format!("{}  {} allowed, {} refused", day.day.date(), day.allowed, day.refused));
        let text = lines.collect::<Vec<_>>().join("\n");
        Ok(if text.is_empty() { "no requests on these days".to_owned() } else { text })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_is_a_time_or_a_span() {
        let now: Timestamp = "2026-01-31T00:00:00Z".parse().unwrap();
        assert_eq!(end("30d", now).unwrap().to_string(), "2026-03-02T00:00:00Z");
        assert_eq!(end("12h", now).unwrap().to_string(), "2026-01-31T12:00:00Z");
        assert_eq!(end("2027-01-01T00:00:00Z", now).unwrap().to_string(), "2027-01-01T00:00:00Z");
        for wrong in ["", "d", "30", "-1d", "0h", "30é", "99999999999d", "tomorrow"] {
            assert!(end(wrong, now).is_err(), "{wrong}");
        }
    }
}
