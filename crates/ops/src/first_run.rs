//! What the operator does on the server itself: the first account, further accounts, tokens and login links.

use domain::account::{Plan, User, Workspace};
use domain::activity::{Activity, Actor};
use domain::key::{ApiKey, KeyKind};
use domain::{ActivityId, Tenant, Timestamp, UserId, WorkspaceId, name};
use jiff::SignedDuration;
use secrecy::SecretString;
use serde_json::json;
use store::{Change, NewUser, Store};

use crate::{Error, secret};

const LINK_HOURS: i64 = 24;

/// The credentials that are printed once.
#[derive(Debug)]
pub struct FirstRun {
    /// The admin.
    pub user: User,
    /// The path of the one-time login link's secret.
    pub login: SecretString,
    /// An account token.
    pub token: SecretString,
}

/// Makes the admin with a personal workspace on the Professional plan when there is no account yet.
///
/// # Errors
/// The store does not answer.
pub async fn first_run(store: &Store, now: Timestamp) -> Result<Option<FirstRun>, Error> {
    if !store.is_empty().await? {
        return Ok(None);
    }
    let user = user_create(store, "admin@localhost", "Admin", true, None, now).await?;
    let login = login_link(store, user.id, now).await?;
    let (key, token, hash) = secret::new_key(KeyKind::Account, user.id, "first start".into(), now);
    let lost = || Error::internal("an account without a workspace", std::io::Error::other(user.id.to_string()));
    let home = store.memberships(user.id).await?.into_iter().next().ok_or_else(lost)?;
    let tenant = Tenant::system(home.workspace.id);
    let told = Activity {
        id: ActivityId::generate(),
        workspace_id: tenant.workspace(),
        project_id: None,
        instance_id: None,
        actor: Actor::System { part: "first start".into() },
        verb: "api_key_create".into(),
        subject: key.id.to_string(),
        data: json!({"label": key.label, "kind": key.kind.as_str(), "expiresAt": key.expires_at}),
        address: None,
        created_at: now,
    };
    store.commit(tenant, vec![Change::ApiKeyInsert { key, hash }, Change::Activity(told)]).await?;
    Ok(Some(FirstRun { user, login, token }))
}

/// Makes an account with a personal workspace.
///
/// # Errors
/// A bad or taken address, or a short password.
pub async fn user_create(
    store: &Store,
    email: &str,
    full_name: &str,
    operator: bool,
    password: Option<SecretString>,
    now: Timestamp,
) -> Result<User, Error> {
    let (email, local) = address(email)?;
    let password_hash = match password {
        Some(password) => Some(crate::account::password_hash(password).await?),
        None => None,
    };
    let user = User { id: UserId::generate(), email, name: name::display("name", full_name)?, operator, created_at: now };
    let mut username = name::slug(&local, "user");
    if store.workspace_by_username(&username).await?.is_some() {
        username = format!("{username}-{}", secret::suffix());
    }
    let workspace = Workspace {
        id: WorkspaceId::generate(),
        name: format!("{}'s workspace", user.name),
        username,
        personal_of: Some(user.id),
        plan: if operator { Plan::Professional } else { Plan::Hobby },
        created_at: now,
        updated_at: now,
    };
    store.user_create(NewUser { user: user.clone(), password_hash, workspace }).await.map_err(|error| {
        Error::from(error).when_taken("An account with this e-mail address already exists: `orrery login-link --user` prints a link for it")
    })?;
    Ok(user)
}

/// An e-mail address as it is stored, and what stands before its `@`.
pub(crate) fn address(text: &str) -> Result<(String, String), Error> {
    let email = text.trim().to_ascii_lowercase();
    let local = email.split_once('@').filter(|(local, host)| !local.is_empty() && !host.is_empty()).map(|(local, _)| local.to_owned());
    let Some(local) = local else { return Err(Error::bad_input(format!("{email:?} is not an e-mail address"))) };
    Ok((email, local))
}

/// A one-time login link's secret, good for a day.
///
/// # Errors
/// The store does not answer.
pub async fn login_link(store: &Store, user: UserId, now: Timestamp) -> Result<SecretString, Error> {
    let (link, hash) = secret::new_opaque();
    store.login_link_create(hash, user, now + SignedDuration::from_hours(LINK_HOURS)).await?;
    Ok(link)
}

/// An account token of a user.
///
/// # Errors
/// A bad name, or the store does not answer.
pub async fn account_token(store: &Store, user: UserId, label: &str, now: Timestamp) -> Result<(ApiKey, SecretString), Error> {
    let label = name::display("token name", label)?;
    let (key, token, hash) = secret::new_key(KeyKind::Account, user, label, now);
    store.api_key_create(key.clone(), hash).await?;
    Ok((key, token))
}
