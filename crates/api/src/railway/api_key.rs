//! Keys of every kind, how they are limited and how much they are used: fields of this server's own, beside Railway's for tokens.

use std::sync::Arc;

use domain::key::{self, KeyLimits};
use domain::rate::{Day, DayUsage, Limits};
use domain::{ApiKeyId, EnvironmentId, WorkspaceId};
use juniper::{GraphQLEnum, GraphQLInputObject, ID, graphql_object};
use ops::api_key::{ApiKeyCreate, ApiKeyPatch};
use secrecy::{ExposeSecret, SecretString};

use super::connection::connection;
use super::inputs::{id, id_option};
use crate::graphql::scalar::DateTime;
use crate::graphql::{Ctx, Fault, Scalar};

/// What a key is for, and by that how it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, GraphQLEnum)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) enum ApiKeyKind {
    /// All that its person sees: `Authorization: Bearer orr_…`.
    Account,
    /// One workspace: `Authorization: Bearer orw_…`.
    Workspace,
    /// One environment of a project: `Project-Access-Token: orp_…`.
    Project,
    /// The apps of an account, at `/graphql`: `galaxy-api-key: gal_…`.
    Galaxy,
    /// The workflows of an account, at `/api/v1`: `Authorization: Bearer gx_…`.
    Flow,
}

/// Whether a key works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, GraphQLEnum)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) enum ApiKeyState {
    /// It does.
    Active,
    /// Its end has come. It can still be revoked.
    Expired,
    /// It was revoked.
    Revoked,
}

/// A key's own limits, in requests per window. A window without one is limited by the account's plan.
#[derive(Clone, Debug, Default, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct ApiKeyLimitsInput {
    per_second: Option<i32>,
    per_minute: Option<i32>,
    per_hour: Option<i32>,
    per_day: Option<i32>,
}

/// A key that is wanted.
#[derive(Clone, Debug, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct ApiKeyCreateInput {
    /// What it is for.
    kind: ApiKeyKind,
    /// What you call it: unique among the Flow keys of an account. A Galaxy key may go without.
    label: Option<String>,
    /// Whose it is to be, for workspace, Galaxy and Flow keys; your own for the latter two when left out.
    workspace_id: Option<String>,
    /// The environment of a project token.
    environment_id: Option<String>,
    /// Its own limits.
    limits: Option<ApiKeyLimitsInput>,
    /// When it stops working; never when left out.
    expires_at: Option<DateTime>,
}

/// Changes of a key. What is left out stays.
#[derive(Clone, Debug, GraphQLInputObject)]
#[graphql(context = Ctx, scalar = Scalar)]
pub(crate) struct ApiKeyUpdateInput {
    /// Another label.
    label: Option<String>,
    /// Other limits, all of them.
    limits: Option<ApiKeyLimitsInput>,
}

impl From<ApiKeyKind> for key::KeyKind {
    fn from(kind: ApiKeyKind) -> Self {
        match kind {
            ApiKeyKind::Account => Self::Account,
            ApiKeyKind::Workspace => Self::Workspace,
            ApiKeyKind::Project => Self::Project,
            ApiKeyKind::Galaxy => Self::Galaxy,
            ApiKeyKind::Flow => Self::Flow,
        }
    }
}

fn limits(input: &ApiKeyLimitsInput) -> Result<KeyLimits, Fault> {
    let count = |name: &str, value: Option<i32>| match value.map(u32::try_from).transpose() {
        Ok(count) => Ok(count),
        Err(_) => Err(Fault::bad_input(format!("{name} is less than nothing: a limit is at least 1"))),
    };
    Ok(KeyLimits {
        second: count("perSecond", input.per_second)?,
        minute: count("perMinute", input.per_minute)?,
        hour: count("perHour", input.per_hour)?,
        day: count("perDay", input.per_day)?,
    })
}

impl ApiKeyCreateInput {
    fn wanted(self) -> Result<ApiKeyCreate, Fault> {
        Ok(ApiKeyCreate {
            kind: self.kind.into(),
            label: self.label,
            workspace: id_option("Workspace", self.workspace_id.as_deref(), WorkspaceId)?,
            environment: id_option("Environment", self.environment_id.as_deref(), EnvironmentId)?,
            limits: self.limits.as_ref().map_or(Ok(KeyLimits::OF_PLAN), limits)?,
            expires_at: self.expires_at.map(|at| at.0),
        })
    }
}

/// `apiKeys`
pub(crate) fn api_keys(ctx: &Ctx, workspace_id: Option<String>) -> Result<Vec<ApiKey>, Fault> {
    let workspace = id_option("Workspace", workspace_id.as_deref(), WorkspaceId)?;
    let keys = ctx.wait(ops::api_key::api_keys(&ctx.op, workspace))?;
    ctx.charge(keys.len())?;
    // Tokens of logins are not keys that anybody manages.
    Ok(keys.into_iter().filter(|key| ApiKey::kind_of(key.kind).is_some()).map(|key| ApiKey(Arc::new(key))).collect())
}

/// `apiKeyCreate`
pub(crate) fn api_key_create(ctx: &Ctx, input: ApiKeyCreateInput) -> Result<ApiKeyCreatePayload, Fault> {
    let (key, secret) = ctx.wait(ops::api_key::api_key_create(&ctx.op, input.wanted()?))?;
    Ok(ApiKeyCreatePayload { api_key: ApiKey(Arc::new(key)), secret })
}

/// `apiKeyUpdate`
pub(crate) fn api_key_update(ctx: &Ctx, key: &str, input: ApiKeyUpdateInput) -> Result<ApiKey, Fault> {
    let patch = ApiKeyPatch { label: input.label, limits: input.limits.as_ref().map(limits).transpose()? };
    Ok(ApiKey(Arc::new(ctx.wait(ops::api_key::api_key_update(&ctx.op, id("API key", key, ApiKeyId)?, patch))?)))
}

/// `apiKeyRevoke`
pub(crate) fn api_key_revoke(ctx: &Ctx, key: &str) -> Result<bool, Fault> {
    ctx.wait(ops::api_key::api_key_revoke(&ctx.op, id("API key", key, ApiKeyId)?))?;
    Ok(true)
}

/// `apiKeyUsage`
pub(crate) fn api_key_usage(ctx: &Ctx, key: &str, first: Option<String>, last: Option<String>) -> Result<Vec<ApiKeyUsage>, Fault> {
    let (first, last) = (day("firstDay", first)?, day("lastDay", last)?);
    let found = ctx.wait(ops::api_key::api_key_usage(&ctx.op, id("API key", key, ApiKeyId)?, first, last))?;
    Ok(found.into_iter().map(ApiKeyUsage).collect())
}

fn day(name: &str, text: Option<String>) -> Result<Option<Day>, Fault> {
    let wrong = |text: &str| Fault::bad_input(format!("{name} is {text:?}: write a date as 2026-01-31"));
    text.map(|text| text.parse().map(Day::on).map_err(|_| wrong(&text))).transpose()
}

/// A key, without its secret.
#[derive(Clone)]
pub(crate) struct ApiKey(Arc<key::ApiKey>);

impl ApiKey {
    pub(crate) fn cursor(&self) -> String {
        self.0.id.to_string()
    }

    fn kind_of(kind: key::KeyKind) -> Option<ApiKeyKind> {
        match kind {
            key::KeyKind::Account => Some(ApiKeyKind::Account),
            key::KeyKind::Workspace => Some(ApiKeyKind::Workspace),
            key::KeyKind::Project => Some(ApiKeyKind::Project),
            key::KeyKind::Galaxy => Some(ApiKeyKind::Galaxy),
            key::KeyKind::Flow => Some(ApiKeyKind::Flow),
            key::KeyKind::OAuthAccess | key::KeyKind::OAuthRefresh => None,
        }
    }
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl ApiKey {
    fn created_at(&self) -> DateTime {
        DateTime(self.0.created_at)
    }
    /// The first and the last characters, to recognise it by.
    fn display_key(&self) -> &str {
        &self.0.display
    }
    fn environment_id(&self) -> Option<String> {
        self.0.project.map(|(_, environment)| environment.to_string())
    }
    fn expires_at(&self) -> Option<DateTime> {
        self.0.expires_at.map(DateTime)
    }
    fn id(&self) -> ID {
        ID::from(self.0.id.to_string())
    }
    fn kind(&self) -> ApiKeyKind {
        Self::kind_of(self.0.kind).unwrap_or(ApiKeyKind::Account)
    }
    fn label(&self) -> &str {
        &self.0.label
    }
    /// From where it was used last.
    fn last_used_address(&self) -> Option<&str> {
        self.0.last_used_address.as_deref()
    }
    /// When it was used last, to the minute.
    fn last_used_at(&self) -> Option<DateTime> {
        self.0.last_used_at.map(DateTime)
    }
    fn limits(&self) -> ApiKeyLimits {
        ApiKeyLimits(self.0.limits)
    }
    fn project_id(&self) -> Option<String> {
        self.0.project.map(|(project, _)| project.to_string())
    }
    fn state(&self, ctx: &Ctx) -> ApiKeyState {
        match &*self.0 {
            key if key.revoked_at.is_some() => ApiKeyState::Revoked,
            key if key.is_expired(ctx.op.now) => ApiKeyState::Expired,
            _ => ApiKeyState::Active,
        }
    }
    fn workspace_id(&self) -> Option<String> {
        self.0.workspace_id.map(|id| id.to_string())
    }
}

/// A key's own limits, in requests per window; null leaves the window to the account's plan.
pub(crate) struct ApiKeyLimits(KeyLimits);

impl From<Limits> for ApiKeyLimits {
    fn from(Limits([second, minute, hour, day]): Limits) -> Self {
        Self(KeyLimits { second, minute, hour, day })
    }
}

pub(crate) fn whole(count: Option<u32>) -> Option<i32> {
    count.map(|count| i32::try_from(count).unwrap_or(i32::MAX))
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl ApiKeyLimits {
    fn per_day(&self) -> Option<i32> {
        whole(self.0.day)
    }
    fn per_hour(&self) -> Option<i32> {
        whole(self.0.hour)
    }
    fn per_minute(&self) -> Option<i32> {
        whole(self.0.minute)
    }
    fn per_second(&self) -> Option<i32> {
        whole(self.0.second)
    }
}

/// A new key. Its text is here and nowhere else.
pub(crate) struct ApiKeyCreatePayload {
    api_key: ApiKey,
    secret: SecretString,
}

#[graphql_object(context = Ctx, scalar = Scalar)]
impl ApiKeyCreatePayload {
    fn api_key(&self) -> &ApiKey {
        &self.api_key
    }
    /// The whole key: it is shown this once.
    fn key(&self) -> &str {
        self.secret.expose_secret()
    }
}

/// A key's requests of one day.
pub(crate) struct ApiKeyUsage(DayUsage);

#[graphql_object(context = Ctx, scalar = Scalar)]
impl ApiKeyUsage {
    /// Requests that were let through.
    fn allowed(&self) -> i32 {
        i32::try_from(self.0.allowed).unwrap_or(i32::MAX)
    }
    /// The day in UTC, as 2026-01-31.
    fn day(&self) -> String {
        self.0.day.date().to_string()
    }
    /// Requests that were refused because a limit was reached.
    fn refused(&self) -> i32 {
        i32::try_from(self.0.refused).unwrap_or(i32::MAX)
    }
}

connection! {
    /// Keys.
    QueryApiKeysConnection, QueryApiKeysConnectionEdge, ApiKey;
}
