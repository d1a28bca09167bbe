//! Commands of the operator that work on the store directly: whoever can read the master key may do them.

use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use domain::account::{Plan, User};
use domain::{UserId, WorkspaceId};
use ops::{OpCtx, Ops};
use secrecy::ExposeSecret;
use store::Store;
use telemetry::{Telemetry, TelemetryConfig};

use crate::config::Config;
use crate::serve;

pub(crate) fn with_store<F: Future<Output = anyhow::Result<String>>>(
    config: Config,
    action: impl FnOnce(Store, Config) -> F,
) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let text = runtime.block_on(async {
        let store = serve::open_existing_store(&config).await?;
        action(store, config).await
    })?;
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}

/// The context of a verb that the operator runs as somebody. Its logs go nowhere: `orrery serve` keeps the real ones.
pub(crate) struct Acting {
    pub(crate) ctx: OpCtx,
    _logs: tempfile::TempDir,
}

impl Acting {
    pub(crate) async fn as_user(store: Store, config: &Config, user: UserId) -> anyhow::Result<Self> {
        let logs = tempfile::tempdir().context("a temporary folder cannot be made")?;
        let telemetry = Telemetry::open(TelemetryConfig { dir: logs.path().to_owned(), retain_days: 1, retain_bytes: 1 << 20 })?;
        let mut ops = Ops::new(store, telemetry, serve::settings(config, logs.path().to_owned()));
        ops.limits = serve::limiter(config)?;
        let ops = Arc::new(ops);
        let principal = ops::auth::operator_as(&ops, user).await?;
        let ctx = OpCtx { ops, principal, request_id: "command line".into(), address: None, now: serve::now() };
        Ok(Self { ctx, _logs: logs })
    }
}

pub(crate) async fn find_workspace(store: &Store, workspace: &str) -> anyhow::Result<WorkspaceId> {
    let sealed = match workspace.parse() {
        Ok(id) => store.workspace(id).await?,
        Err(_) => store.workspace_by_username(workspace).await?,
    };
    let sealed = sealed.with_context(|| {
        format!("no workspace is called {workspace}: give its id, or its username as `railway whoami --json` and the API show it")
    })?;
    Ok(sealed.workspace())
}

pub(crate) async fn find_user(store: &Store, email: Option<&str>) -> anyhow::Result<User> {
    match email {
        Some(email) => store
            .user_by_email(&email.trim().to_ascii_lowercase())
            .await?
            .with_context(|| format!("no user has the address {email}: see `orrery user create`")),
        None => {
            let users = store.users().await?;
            let first = users.into_iter().filter(|user| user.operator).min_by_key(|user| user.created_at);
            first.context("there is no user yet: start `orrery serve` once, or use `orrery user create`")
        }
    }
}

/// Creates a user.
pub(crate) fn user_create(config: Config, email: &str, name: Option<&str>) -> anyhow::Result<ExitCode> {
    with_store(config, async |store, config| {
        let name = name.or_else(|| email.split('@').next()).unwrap_or(email);
        let user = ops::first_run::user_create(&store, email, name, false, None, serve::now()).await?;
        let link = ops::first_run::login_link(&store, user.id, serve::now()).await?;
        Ok(format!("{} may sign in once with {}/login/link?token={}", user.email, config.public_url, link.expose_secret()))
    })
}

/// Gives a user another address.
pub(crate) fn user_email(config: Config, email: &str, new: &str) -> anyhow::Result<ExitCode> {
    with_store(config, async |store, config| {
        let user = find_user(&store, Some(email)).await?;
        let acting = Acting::as_user(store, &config, user.id).await?;
        let patch = ops::account::AccountPatch { email: Some(new.to_owned()), ..Default::default() };
        ops::account::account_update(&acting.ctx, patch).await?;
        Ok(format!("{} signs in as {} now", user.name, new.trim().to_ascii_lowercase()))
    })
}

/// Lets a user sign in by their password alone again.
pub(crate) fn user_reset_two_factor(config: Config, email: &str) -> anyhow::Result<ExitCode> {
    with_store(config, async |store, config| {
        let user = find_user(&store, Some(email)).await?;
        let acting = Acting::as_user(store, &config, user.id).await?;
        let had = ops::second_factor::two_factor_reset(&acting.ctx).await?;
        let outcome = if had { "signs in by password alone now" } else { "had no two-factor authentication: nothing was changed" };
        Ok(format!("{} {outcome}", user.email))
    })
}

/// Sets the plan of a workspace.
pub(crate) fn plan_set(config: Config, workspace: &str, plan: &str) -> anyhow::Result<ExitCode> {
    with_store(config, async |store, config| {
        let plan = Plan::parse(&plan.to_ascii_uppercase()).context("a plan is free, hobby or professional")?;
        let id = find_workspace(&store, workspace).await?;
        let acting = Acting::as_user(store.clone(), &config, find_user(&store, None).await?.id).await?;
        let row = ops::account::workspace_plan_set(&acting.ctx, id, plan).await?.row;
        Ok(format!("{} is on the plan {}", row.username, row.plan.as_str()))
    })
}

/// Copies the database.
pub(crate) fn backup(config: Config) -> anyhow::Result<ExitCode> {
    with_store(config, async |store, config| {
        let folder = serve::store_backups(&config);
        let made = ops::operator::back_up(&store, &folder, serve::now()).await?;
        Ok(folder.join(made.name).display().to_string())
    })
}

/// Prints a one-time login link.
pub(crate) fn login_link(config: Config, user: Option<&str>) -> anyhow::Result<ExitCode> {
    with_store(config, async |store, config| {
        let user = find_user(&store, user).await?;
        let link = ops::first_run::login_link(&store, user.id, serve::now()).await?;
        Ok(format!("{}/login/link?token={}", config.public_url, link.expose_secret()))
    })
}
