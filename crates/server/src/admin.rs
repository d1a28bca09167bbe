//! Commands of the operator that work on the store directly: whoever can read the master key may do them.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Context;
use domain::account::{Plan, User};
use domain::key::KeyKind;
use domain::{ApiKeyId, Tenant};
use secrecy::ExposeSecret;
use store::{Change, Store};

use crate::config::Config;
use crate::serve;

fn with_store<F: Future<Output = anyhow::Result<String>>>(
    config: Config,
    action: impl FnOnce(Store, Config) -> F,
) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let text = runtime.block_on(async {
        let store = serve::open_store(&config).await?;
        action(store, config).await
    })?;
    writeln!(std::io::stdout().lock(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}

async fn find_user(store: &Store, email: Option<&str>) -> anyhow::Result<User> {
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

/// Creates an account token and prints it.
pub(crate) fn token_create(config: Config, name: &str, user: Option<&str>) -> anyhow::Result<ExitCode> {
    with_store(config, async |store, _| {
        let user = find_user(&store, user).await?;
        let (_, token) = ops::first_run::account_token(&store, user.id, name, serve::now()).await?;
        Ok(token.expose_secret().to_owned())
    })
}

/// Lists tokens.
pub(crate) fn token_list(config: Config, user: Option<&str>) -> anyhow::Result<ExitCode> {
    with_store(config, async |store, _| {
        let user = find_user(&store, user).await?;
        let mut out = vec![];
        for key in store.api_keys_of_user(user.id, &[KeyKind::Account, KeyKind::Workspace, KeyKind::Project]).await? {
            let state = if key.revoked_at.is_some() { "revoked" } else { "active" };
            let used = key.last_used_at.map_or_else(|| "never used".to_owned(), |at| format!("last used {at:.0}"));
            out.push(format!("{}  {}  {}  {}  {state}, {used}", key.id, key.display, key.kind.label(), key.label));
        }
        Ok(out.join("\n"))
    })
}

/// Revokes a token.
pub(crate) fn token_revoke(config: Config, id: &str) -> anyhow::Result<ExitCode> {
    with_store(config, async |store, _| {
        let id: ApiKeyId = id.parse().context("the id of a token is a UUID: see `orrery token list`")?;
        anyhow::ensure!(store.api_key_revoke(id, serve::now()).await?, "no active token has the id {id}: see `orrery token list`");
        Ok(format!("{id} is revoked"))
    })
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

/// Sets the plan of a workspace.
pub(crate) fn plan_set(config: Config, workspace: &str, plan: &str) -> anyhow::Result<ExitCode> {
    with_store(config, async |store, _| {
        let plan = Plan::parse(&plan.to_ascii_uppercase()).context("a plan is free, hobby or professional")?;
        let sealed = match workspace.parse() {
            Ok(id) => store.workspace(id).await?,
            Err(_) => store.workspace_by_username(workspace).await?,
        };
        let sealed = sealed.with_context(|| {
            format!("no workspace is called {workspace}: give its id, or its username as `railway whoami --json` and the API show it")
        })?;
        let tenant = Tenant::system(sealed.workspace());
        let mut row = sealed.open(tenant).context("the workspace is another one")?;
        row.plan = plan;
        row.updated_at = serve::now();
        let text = format!("{} is on the plan {}", row.username, plan.as_str());
        store.commit(tenant, vec![Change::WorkspaceUpdate(row)]).await?;
        Ok(text)
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
