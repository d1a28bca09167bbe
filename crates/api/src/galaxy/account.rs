//! Accounts: people and teams.

use std::sync::{Arc, Mutex};

use domain::Tenant;
use domain::account::{Plan, Workspace};
use domain::galaxy::{AppStatus, Told, account_id};
use juniper::graphql_object;
use ops::Opened;

use super::activity::Activity;
use super::app::App;
use super::int;
use super::notification::NotificationSettings;
use crate::graphql::{Ctx, Fault, Scalar, lock};

/// Entries of an account's feed, at the most.
const FEED: u32 = 100;

/// A workspace that the principal may read.
pub(crate) struct User {
    tenant: Tenant,
    row: Workspace,
    apps: Mutex<Option<Arc<Vec<Arc<ops::app::App>>>>>,
}

impl User {
    pub(crate) fn new(opened: Opened<Workspace>) -> Self {
        Self { tenant: opened.tenant, row: opened.row, apps: Mutex::default() }
    }

    fn all(&self, ctx: &Ctx) -> Result<Vec<App>, Fault> {
        let found = lock(&self.apps).clone();
        let rows = match found {
            Some(rows) => rows,
            None => {
                let rows: Vec<_> = ctx.wait(ops::app::apps(&ctx.op, self.tenant))?.into_iter().map(Arc::new).collect();
                ctx.charge(rows.len())?;
                ctx.galaxy.announce_apps(self.tenant, rows.iter().map(AsRef::as_ref));
                let rows = Arc::new(rows);
                *lock(&self.apps) = Some(Arc::clone(&rows));
                rows
            }
        };
        Ok(rows.iter().map(|row| App { tenant: self.tenant, row: Arc::clone(row) }).collect())
    }
}

/// An account: a person's or a team's.
#[graphql_object(context = Ctx, scalar = Scalar)]
impl User {
    #[graphql(name = "_id")]
    fn id(&self) -> String {
        account_id(self.row.id)
    }
    fn username(&self) -> &str {
        &self.row.username
    }
    /// Never: nothing is billed here.
    fn account_locked(&self) -> bool {
        false
    }
    /// `free`, `hobby` or `professional`.
    fn plan(&self) -> String {
        self.row.plan.as_str().to_ascii_lowercase()
    }
    /// Containers that the account may have over all its apps.
    fn container_limit(&self, ctx: &Ctx) -> i32 {
        match self.row.plan {
            Plan::Free => 1,
            _ => int(ctx.op.ops.settings.apps.container_limit),
        }
    }
    fn app_count(&self, ctx: &Ctx) -> Result<i32, Fault> {
        Ok(int(self.all(ctx)?.len()))
    }
    /// Apps that are not stopped.
    fn running_app_count(&self, ctx: &Ctx) -> Result<i32, Fault> {
        let mut count = 0;
        for app in self.all(ctx)? {
            let down = matches!(app.state(ctx)?, AppStatus::Stopped | AppStatus::Stopping | AppStatus::StartingFailed);
            count += i32::from(!down);
        }
        Ok(count)
    }
    /// Oldest first.
    fn apps(&self, ctx: &Ctx) -> Result<Vec<App>, Fault> {
        self.all(ctx)
    }
    /// What happened to its apps, and which were removed, newest first, at most 100 entries.
    fn activities(&self, ctx: &Ctx) -> Result<Vec<Activity>, Fault> {
        let apps = self.all(ctx)?;
        let mut feed = vec![];
        for app in &apps {
            feed.extend(app.feed(ctx)?);
        }
        feed.extend(ctx.galaxy.removed_apps(ctx, self.tenant)?);
        feed.retain(|activity| activity.kind.told == Told::Everywhere);
        feed.sort_by_key(|activity| std::cmp::Reverse(activity.row.id));
        feed.dedup_by_key(|activity| activity.row.id);
        feed.truncate(FEED as usize);
        Ok(feed)
    }
    /// Whom the account tells of what; null when nobody.
    fn notification_settings(&self, ctx: &Ctx) -> Result<Option<NotificationSettings>, Fault> {
        Ok(ctx.wait(ops::app::notification_settings_get(&ctx.op, self.tenant))?.map(NotificationSettings))
    }
}
