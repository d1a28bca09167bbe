//! What one request has loaded of apps: each relation of all apps at once, see [`crate::graphql::loader`].

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};

use domain::account::Workspace;
use domain::activity::{Activity, Actor};
use domain::deployment::{Deployment, Replica};
use domain::galaxy::{APP_REMOVED, APP_TRANSFERRED, ActivityKind};
use domain::notification::NotificationSettings;
use domain::project::Domain;
use domain::trigger::Trigger;
use domain::{DeploymentId, EnvironmentId, InstanceId, SnapshotId, Tenant, UserId, WorkspaceId};
use ops::app::App;
use telemetry::metrics::{Point, Resolution, Series};

use crate::graphql::loader::{Children, Known, Relation};
use crate::graphql::{Ctx, Fault, lock};

/// Entries of an app's audit log that are looked through for its feed.
const ENTRIES: u32 = 150;

/// One series as it was asked for.
type Asked = (WorkspaceId, Series, Resolution, usize);

#[derive(Default)]
pub(crate) struct Loader {
    apps: Known<InstanceId>,
    environments: Known<EnvironmentId>,
    deployments: Known<DeploymentId>,
    people: Known<UserId>,
    workspaces: Known<WorkspaceId>,
    workspace_by_id: Relation<WorkspaceId, Workspace>,
    open: Relation<InstanceId, Deployment>,
    latest: Relation<InstanceId, Deployment>,
    replicas: Relation<DeploymentId, Replica>,
    versions: Relation<InstanceId, (u32, Deployment)>,
    activities: Relation<InstanceId, Activity>,
    triggers: Relation<InstanceId, Trigger>,
    domains: Relation<EnvironmentId, Domain>,
    names: Relation<UserId, (UserId, String)>,
    notifications: Relation<InstanceId, (InstanceId, NotificationSettings)>,
    measured: Mutex<HashMap<WorkspaceId, BTreeSet<Series>>>,
    points: Mutex<HashMap<Asked, Arc<Vec<Point>>>>,
}

impl Loader {
    pub(crate) fn announce_apps<'a>(&self, tenant: Tenant, apps: impl Iterator<Item = &'a App> + Clone) {
        self.apps.announce(tenant, apps.clone().map(|app| app.instance.id));
        self.environments.announce(tenant, apps.clone().map(|app| app.instance.environment_id));
        self.announce_series(tenant, apps.map(series_of));
    }

    pub(crate) fn announce_series(&self, tenant: Tenant, series: impl Iterator<Item = Series>) {
        lock(&self.measured).entry(tenant.workspace()).or_default().extend(series);
    }

    fn announce_actors<'a>(&self, tenant: Tenant, actors: impl Iterator<Item = &'a Actor>) {
        let people = actors.filter_map(|actor| match actor {
            Actor::User { id, .. } => Some(*id),
            Actor::Key { .. } | Actor::System { .. } => None,
        });
        self.people.announce(tenant, people);
    }

    /// Deployments that are not final, oldest first.
    pub(crate) fn open(&self, ctx: &Ctx, tenant: Tenant, app: InstanceId) -> Result<Children<Deployment>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<InstanceId>| async move { store.deployments_live(tenant, &ids).await };
        let announce = |rows: &[Arc<Deployment>]| self.deployments.announce(tenant, rows.iter().map(|row| row.id));
        self.open.get(ctx, tenant, app, &self.apps, load, |row| row.instance_id, announce)
    }

    /// The newest deployment, in any state.
    pub(crate) fn latest(&self, ctx: &Ctx, tenant: Tenant, app: InstanceId) -> Result<Option<Arc<Deployment>>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<InstanceId>| async move { store.deployments_latest(tenant, &ids).await };
        let rows = self.latest.get(ctx, tenant, app, &self.apps, load, |row| row.instance_id, |_| {})?;
        Ok(rows.first().map(Arc::clone))
    }

    /// The replicas of a deployment that is not final, those that are gone included.
    pub(crate) fn replicas(&self, ctx: &Ctx, tenant: Tenant, deployment: DeploymentId) -> Result<Children<Replica>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<DeploymentId>| async move { store.replicas_of(tenant, &ids).await };
        self.replicas.get(ctx, tenant, deployment, &self.deployments, load, |row| row.deployment_id, |_| {})
    }

    /// Versions with their numbers, newest first.
    pub(crate) fn versions(&self, ctx: &Ctx, tenant: Tenant, app: InstanceId) -> Result<Children<(u32, Deployment)>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<InstanceId>| async move { store.versions_of_instances(tenant, &ids, store::MAX_VERSIONS).await };
        let announce = |rows: &[Arc<(u32, Deployment)>]| self.announce_actors(tenant, rows.iter().map(|row| &row.1.creator));
        self.versions.get(ctx, tenant, app, &self.apps, load, |row| row.1.instance_id, announce)
    }

    /// The number of a source among an app's versions, if it is listed there.
    pub(crate) fn version_number(&self, ctx: &Ctx, tenant: Tenant, app: InstanceId, snapshot: SnapshotId) -> Result<Option<u32>, Fault> {
        Ok(self.versions(ctx, tenant, app)?.iter().find(|row| row.1.snapshot_id == snapshot).map(|row| row.0))
    }

    /// The audit log, newest first.
    pub(crate) fn activities(&self, ctx: &Ctx, tenant: Tenant, app: InstanceId) -> Result<Children<Activity>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<InstanceId>| async move { store.activities_of_instances(tenant, &ids, ENTRIES).await };
        let announce = |rows: &[Arc<Activity>]| self.announce_actors(tenant, rows.iter().map(|row| &row.actor));
        // A row without an app is of none that was asked for.
        let parent = move |row: &Activity| row.instance_id.unwrap_or(app);
        self.activities.get(ctx, tenant, app, &self.apps, load, parent, announce)
    }

    /// What the account's audit log says of apps that are gone, newest first.
    pub(crate) fn removed_apps(&self, ctx: &Ctx, tenant: Tenant) -> Result<Vec<super::activity::Activity>, Fault> {
        let rows = ctx.read(ctx.op.ops.store.activities(tenant, None, ENTRIES))?;
        ctx.charge(rows.len())?;
        self.announce_actors(tenant, rows.iter().map(|row| &row.actor));
        let gone = |row: &Activity| [APP_REMOVED, APP_TRANSFERRED].contains(&row.verb.as_str());
        let removed = rows.into_iter().filter(gone).filter_map(|row| {
            let (app, kind) = (row.instance_id?, ActivityKind::of(&row)?);
            let host = row.data.get("host")?.as_str()?.into();
            Some(super::activity::Activity { tenant, app, host, kind, row: Arc::new(row) })
        });
        Ok(removed.collect())
    }

    /// Triggers, oldest first.
    pub(crate) fn triggers(&self, ctx: &Ctx, tenant: Tenant, app: InstanceId) -> Result<Children<Trigger>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<InstanceId>| async move { store.triggers_of_instances(tenant, &ids).await };
        self.triggers.get(ctx, tenant, app, &self.apps, load, |row| row.instance_id, |_| {})
    }

    /// The domains of an environment, oldest first.
    pub(crate) fn domains(&self, ctx: &Ctx, tenant: Tenant, environment: EnvironmentId) -> Result<Children<Domain>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<EnvironmentId>| async move { store.domains_of_environments(tenant, &ids).await };
        self.domains.get(ctx, tenant, environment, &self.environments, load, |row| row.environment_id, |_| {})
    }

    /// The settings with which an app overrides its account's.
    pub(crate) fn notifications(&self, ctx: &Ctx, tenant: Tenant, app: InstanceId) -> Result<Option<NotificationSettings>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<InstanceId>| async move {
            let found = store.notification_settings(tenant, &ids).await?;
            Ok(found.into_iter().filter_map(|(owner, settings)| Some((owner?, settings))).collect())
        };
        let rows = self.notifications.get(ctx, tenant, app, &self.apps, load, |row: &(InstanceId, _)| row.0, |_| {})?;
        Ok(rows.first().map(|row| row.1.clone()))
    }

    pub(crate) fn workspace(&self, ctx: &Ctx, tenant: Tenant) -> Result<Arc<Workspace>, Fault> {
        let store = ctx.op.ops.store.clone();
        let load = |_| async move {
            let found = store.workspace(tenant.workspace()).await?;
            Ok(found.and_then(|sealed| sealed.open(tenant)).into_iter().collect())
        };
        let rows = self.workspace_by_id.get(ctx, tenant, tenant.workspace(), &self.workspaces, load, |row| row.id, |_| {})?;
        rows.first().map(Arc::clone).ok_or_else(|| Fault::not_found("User"))
    }

    /// What Galaxy calls who did something: a member by username, a key by that of its account, itself by nothing.
    pub(crate) fn user_name(&self, ctx: &Ctx, tenant: Tenant, actor: &Actor) -> Result<String, Fault> {
        let (id, name) = match actor {
            Actor::User { id, name, .. } => (*id, name),
            Actor::Key { .. } => return Ok(self.workspace(ctx, tenant)?.username.clone()),
            Actor::System { .. } => return Ok(String::new()),
        };
        let store = ctx.op.ops.store.clone();
        let load = |ids: Vec<UserId>| async move { store.usernames(&ids).await };
        let rows = self.names.get(ctx, tenant, id, &self.people, load, |row| row.0, |_| {})?;
        Ok(rows.first().map_or_else(|| name.clone(), |row| row.1.clone()))
    }

    /// The newest points of one series, newest first. The first question of a request reads all series that it has met.
    pub(crate) fn points(
        &self,
        ctx: &Ctx,
        tenant: Tenant,
        series: Series,
        resolution: Resolution,
        limit: usize,
    ) -> Result<Arc<Vec<Point>>, Fault> {
        let asked = (tenant.workspace(), series, resolution, limit);
        if let Some(found) = lock(&self.points).get(&asked) {
            return Ok(Arc::clone(found));
        }
        let alike = |other: &Series| std::mem::discriminant(other) == std::mem::discriminant(&series);
        let mut wanted: BTreeSet<Series> = lock(&self.measured).get(&tenant.workspace()).cloned().unwrap_or_default();
        wanted.retain(alike);
        wanted.insert(series);
        let cells = lock(&self.points);
        let wanted: Vec<Series> =
            wanted.into_iter().filter(|one| !cells.contains_key(&(tenant.workspace(), *one, resolution, limit))).collect();
        drop(cells);
        ctx.charge(wanted.len() * limit)?;
        let found = ctx.op.ops.telemetry.metrics().series(tenant, &wanted, resolution, limit, ctx.op.now);
        let found = found.map_err(|error| {
            let error = ops::Error::internal("metrics", error);
            error.log(&ctx.op.request_id);
            Fault(error)
        })?;
        let mut cells = lock(&self.points);
        for (one, points) in wanted.into_iter().zip(found) {
            cells.insert((tenant.workspace(), one, resolution, limit), Arc::new(points));
        }
        Ok(cells.get(&asked).map(Arc::clone).unwrap_or_default())
    }
}

/// The series of a whole app.
pub(crate) fn series_of(app: &App) -> Series {
    Series::Instance(app.instance.environment_id, app.instance.service_id)
}
